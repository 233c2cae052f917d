//! The engine: all open volume groups, and every request that changes one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use vol_core::plan::grow::SpacePolicy;
use vol_core::plan::mount::MountAs;
use vol_core::plan::{mount, node, pool, vg, volume};
use vol_core::step::{Action, Requirement, Step};
use vol_core::{Catalog, Plan, Refusal, VolumeName};
use vol_types::{
    Bytes, FsKind, IntentId, Labels, MkfsOptions, MountOptions, Name, Object, Placement, PoolId, PvId, Reserve,
    SizeSpec, Vg, VgId, VgState, VolumeId, VolumePath,
};

use crate::bell::Bell;
use crate::error::EngineError;
use crate::exec::{self, Session};
use crate::host::{HostError, HostErrorKind, HostMut};
use crate::observe::{self, Look};
use crate::placement::PlaceOn;
use crate::progress::Progress;
use crate::queue::{Answer, ThinRequest};
use crate::vg::{OpenVg, Sight};

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done<T> {
    /// A dry run: this would be executed.
    Planned(Plan),
    Changed(T),
    /// It was so already.
    Unchanged(T),
}

/// `vg create` as asked for.
#[derive(Clone, Debug)]
pub struct CreateVg {
    pub name: Name,
    pub disks: Vec<PathBuf>,
    pub files: Vec<(PathBuf, Bytes)>,
    pub wipe: bool,
    pub extent_size: Bytes,
    pub metadata_copies: u16,
}

/// `pool create` as asked for.
#[derive(Clone, Debug)]
pub struct CreatePool {
    pub vg: Name,
    pub name: Name,
    pub size: SizeSpec,
    pub chunk_size: Option<Bytes>,
    pub overcommit_percent: u32,
    pub policy: SpacePolicy,
    pub place: PlaceOn,
}

/// `volume create` as asked for.
#[derive(Clone, Debug)]
pub struct CreateVolume {
    pub path: VolumePath,
    pub pool: Option<Name>,
    pub size: Bytes,
    pub fs: Option<FsKind>,
    pub labels: Labels,
    /// What is set aside for it in the pool.
    pub reserve: Reserve,
    /// Protected from the moment on at which it is there.
    pub protect: bool,
    /// Of no meaning without a file system.
    pub mkfs: MkfsOptions,
}

/// The engine over one host.
pub struct Engine<H> {
    host: H,
    vgs: RwLock<BTreeMap<VgId, Arc<OpenVg>>>,
    /// Held while VGs are found, made or taken apart, so that no disk is given away twice.
    pub(crate) membership: Mutex<()>,
    /// Rises whenever that changed: what was seen of disks before may be out of date then.
    membership_changes: AtomicU64,
    /// Held by who looks at all disks, which may take as long as a disk hangs; before `membership`.
    pub(crate) scanning: Mutex<()>,
    /// Held by who refreshes what readers see of all VGs; before any session.
    refreshing: Mutex<()>,
    /// Rung when there is work to be done in the background.
    bell: Arc<Bell>,
    /// What the last scan could not make sense of.
    pub(crate) scan_problems: RwLock<Vec<crate::vg::Problem>>,
    /// Devices of ours that belong to no VG that is known.
    pub(crate) stray_devices: RwLock<Vec<crate::vg::Problem>>,
    /// Disks that the last scan found labelled for a VG that does not know them.
    pub(crate) unknown: RwLock<Vec<crate::scan::UnknownPv>>,
    /// What was seen of the machine's disks.
    pub(crate) sightings: Mutex<crate::hotplug::Sightings>,
    /// Thick volumes that are being filled.
    pub(crate) fills: crate::thick::Fills,
    /// Deleted volumes whose space is being given back, and how far that has come.
    pub(crate) emptying: Mutex<BTreeMap<VolumeId, vol_types::Bytes>>,
    /// Who is told how far a recovery has come.
    pub(crate) progress: Arc<Progress>,
    /// How hard the disks may be worked in the background.
    pub(crate) pace: RwLock<crate::moving::Pace>,
    pub(crate) moved: crate::moving::MovedCount,
    /// How much was moved at once where.
    pub(crate) fitted: crate::moving::Fitted,
    pub(crate) jobs: crate::jobs::Jobs,
    /// Below it mount points are the daemon's own.
    pub(crate) own_mounts: RwLock<Option<PathBuf>>,
}

/// The right to change which disks VGs have. What others saw of disks before it was given back does not count.
pub(crate) struct Membership<'a> {
    _guard: MutexGuard<'a, ()>,
    changes: &'a AtomicU64,
}

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl<H: HostMut> Engine<H> {
    /// An engine that knows no VG yet; see [`Engine::scan`].
    pub fn new(host: H) -> Self {
        Self {
            host,
            vgs: RwLock::default(),
            membership: Mutex::new(()),
            membership_changes: AtomicU64::new(0),
            scanning: Mutex::new(()),
            refreshing: Mutex::default(),
            bell: Arc::default(),
            scan_problems: RwLock::default(),
            stray_devices: RwLock::default(),
            unknown: RwLock::default(),
            sightings: Mutex::default(),
            emptying: Mutex::default(),
            fills: crate::thick::Fills::default(),
            progress: Arc::default(),
            pace: RwLock::default(),
            moved: crate::moving::MovedCount::default(),
            fitted: crate::moving::Fitted::default(),
            jobs: crate::jobs::Jobs::default(),
            own_mounts: RwLock::default(),
        }
    }

    /// Has what it recovers told there.
    #[must_use]
    pub fn telling(self, progress: Arc<Progress>) -> Self {
        Self { progress, ..self }
    }

    pub fn host(&self) -> &H {
        &self.host
    }

    /// All open VGs, by name.
    pub fn vgs(&self) -> Vec<Arc<OpenVg>> {
        let vgs = self.vgs.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = vgs.values().cloned().collect();
        all.sort_by_key(|vg| vg.read(|catalog| catalog.vg().name.clone()));
        all
    }

    pub fn vg(&self, name: &Name) -> Result<Arc<OpenVg>, Refusal> {
        let vgs = self.vgs.read().unwrap_or_else(PoisonError::into_inner);
        vgs.values().find(|vg| vg.read(|catalog| catalog.vg().name == *name)).cloned().ok_or_else(|| {
            Refusal::not_found(format!("there is no volume group {name}"))
                .hint("`volctl vg list` shows the volume groups; `volctl pv scan` looks for new disks")
        })
    }

    pub(crate) fn insert(&self, vg: Arc<OpenVg>) {
        vg.hang_up(self.bell.clone());
        self.vgs.write().unwrap_or_else(PoisonError::into_inner).insert(vg.id, vg);
    }
    pub(crate) fn forget(&self, id: VgId) {
        self.vgs.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.membership_has_changed();
    }
    pub(crate) fn is_open(&self, id: VgId) -> bool {
        self.vgs.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }
    /// For a change of which disks VGs have.
    pub(crate) fn membership(&self) -> Membership<'_> {
        let guard = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        Membership { _guard: guard, changes: &self.membership_changes }
    }

    /// How often it has changed: disks are looked at without the guard, for one may hang, and what was seen counts if this is still the same
    /// under the guard.
    pub(crate) fn membership_changes(&self) -> u64 {
        self.membership_changes.load(Ordering::Acquire)
    }

    pub(crate) fn membership_has_changed(&self) {
        self.membership_changes.fetch_add(1, Ordering::Release);
    }

    /// Problems that belong to no VG.
    pub fn scan_problems(&self) -> Vec<crate::vg::Problem> {
        let mut all = self.scan_problems.read().unwrap_or_else(PoisonError::into_inner).clone();
        all.extend(self.completion_problems());
        all.extend(self.stray_devices.read().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        all
    }

    /// Refreshes what readers see of all VGs: one look at the kernel for all of them, while changes go on.
    pub fn refresh(&self) {
        // Each look is compared with what changed since it began.
        let _one = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        self.notice_missing();
        let vgs = self.vgs();
        vgs.iter().for_each(|vg| vg.begin_look());
        let look = Look::take(&self.host);
        for vg in vgs {
            vg.refresh(&self.host, Some(&look));
        }
        if let Ok(look) = look {
            self.look_for_stray_devices(&look);
        }
    }

    /// Waits until there is work to be done in the background, or for so long, and does it.
    pub fn maintain(&self, most: Duration) {
        self.bell.wait(most);
        for vg in self.vgs() {
            vg.maintain(&self.host);
        }
    }

    /// Makes durable what waits for the next commit, before the daemon ends. Not waited for: a VG in which a change is under way.
    pub fn settle_owed(&self) {
        for vg in self.vgs() {
            if let Some(mut session) = vg.try_session() {
                vg.settle_owed(&self.host, &mut session);
            }
        }
    }

    /// Ends the waiting of [`Engine::maintain`].
    pub fn ring(&self) {
        self.bell.ring();
    }

    fn plan_vg(&self, request: &CreateVg) -> Result<(Plan, Catalog), EngineError> {
        let id = VgId::from_uuid(self.host.new_uuid());
        let pv = || PvId::from_uuid(self.host.new_uuid());
        let disks = request
            .disks
            .iter()
            .map(|path| observe::disk_candidate(&self.host, path, request.extent_size, pv(), |vg| self.is_open(vg)))
            .collect();
        let files = request
            .files
            .iter()
            .map(|(path, size)| observe::file_candidate(&self.host, path.clone(), *size, request.extent_size, pv()))
            .collect::<Result<_, _>>()?;
        let taken: Vec<_> = self.vgs().iter().map(|vg| vg.read(|catalog| catalog.vg().name.clone())).collect();
        let planned = vg::CreateVg {
            id,
            name: request.name.clone(),
            extent_size: request.extent_size,
            metadata_copies: request.metadata_copies,
            disks,
            files,
            wipe: request.wipe,
            now: self.host.now(),
        };
        let plan = vg::create(&planned, &taken)?;
        let objects: Vec<Object> = plan
            .steps
            .iter()
            .find_map(|step| match &step.action {
                vol_core::Action::StartStore { objects, .. } => Some(objects.clone()),
                _ => None,
            })
            .unwrap_or_default();
        let placeholder = Catalog::new(Vg {
            id,
            name: request.name.clone(),
            state: VgState::Creating,
            extent_size: request.extent_size,
            sector_size: 512,
            metadata_copies: request.metadata_copies,
            created_at: planned.now,
        });
        Ok((plan, Catalog::from_objects(1, objects).unwrap_or(placeholder)))
    }

    /// Makes a VG. If a disk vanishes or errors half way, what was written is erased again.
    pub fn create_vg(&self, request: &CreateVg, dry_run: bool) -> Result<Done<VgId>, EngineError> {
        let _guard = self.membership();
        let (plan, catalog) = self.plan_vg(request)?;
        if dry_run {
            return Ok(Done::Planned(plan));
        }
        let id = catalog.vg().id;
        let session = Session::new(BTreeMap::new(), None);
        let vg = Arc::new(OpenVg::new(catalog, session, Vec::new()));
        let mut session = vg.session();
        let made =
            exec::run(&self.host, &mut session, vg.catalog_lock(), &plan).and_then(|()| exec::on_every_copy(&session));
        if let Err(failed) = made {
            // Whatever its disks say by now: this VG was never acknowledged, and it is this session that made it.
            session.store = None;
            vg.unmake();
            let settled = vg.recover(&self.host, &mut session);
            return Err(failed.of(&plan, settled));
        }
        vg.refresh_with(&self.host, &session);
        drop(session);
        self.insert(vg);
        Ok(Done::Changed(id))
    }

    /// A VG and a pool over nearly all of it, in one request.
    pub fn init(&self, request: &CreateVg, pool_name: &Name, dry_run: bool) -> Result<Done<VgId>, EngineError> {
        let pool_request = CreatePool {
            vg: request.name.clone(),
            name: pool_name.clone(),
            // The rest is for metadata to grow into, and for a spare of it.
            size: SizeSpec::PercentFree(95),
            chunk_size: None,
            overcommit_percent: vol_types::limit::OVERCOMMIT_PERCENT_DEFAULT,
            policy: SpacePolicy::default(),
            place: PlaceOn::default(),
        };
        // The pool is planned before anything is written: a VG that turns out too small for a pool is not made.
        let (mut plan, mut catalog) = self.plan_vg(request)?;
        for changes in plan.commits() {
            catalog.commit(catalog.sequence() + 1, changes.clone());
        }
        let pool_plan = pool::create(
            &catalog,
            &vol_core::plan::Kernel::default(),
            &[],
            &self.planned_pool(&pool_request, Placement::default()),
        )?;
        if dry_run {
            plan.title = format!("{}, then {}", plan.title, pool_plan.title);
            plan.steps.extend(pool_plan.steps);
            return Ok(Done::Planned(plan));
        }
        let done = self.create_vg(request, false)?;
        match self.create_pool(&pool_request, false) {
            Ok(_) => Ok(done),
            Err(error) => {
                // One request is one effect: without its pool the VG was not asked for.
                if let Err(left) = self.delete_vg(&request.name, false) {
                    tracing::error!(vg = %request.name, error = %left, "the volume group could not be taken back");
                }
                Err(error)
            }
        }
    }

    /// Takes apart an empty VG.
    pub fn delete_vg(&self, name: &Name, dry_run: bool) -> Result<Done<VgId>, EngineError> {
        let vg = self.vg(name)?;
        let plan = vg.delete(&self.host, dry_run)?;
        if dry_run {
            return Ok(Done::Planned(plan));
        }
        self.forget(vg.id);
        Ok(Done::Changed(vg.id))
    }

    fn planned_pool(&self, request: &CreatePool, placement: Placement) -> pool::CreatePool {
        pool::CreatePool {
            id: PoolId::from_uuid(self.host.new_uuid()),
            name: request.name.clone(),
            size: request.size,
            chunk_size: request.chunk_size,
            overcommit_percent: request.overcommit_percent,
            policy: request.policy,
            placement,
            contiguous: request.place.contiguous,
            now: self.host.now(),
        }
    }

    pub fn create_pool(&self, request: &CreatePool, dry_run: bool) -> Result<Done<PoolId>, EngineError> {
        let vg = self.vg(&request.vg)?;
        let planned = self.planned_pool(request, self.placement(&vg, &request.place)?);
        let id = planned.id;
        let (plan, ()) = vg.change(&self.host, dry_run, |catalog, kernel, missing| {
            Ok((pool::create(catalog, kernel, missing, &planned)?, ()))
        })?;
        Ok(done(plan, id, dry_run))
    }

    pub fn delete_pool(&self, vg: &Name, name: &Name, dry_run: bool) -> Result<Done<PoolId>, EngineError> {
        let vg = self.vg(vg)?;
        let (plan, id) = vg.change(&self.host, dry_run, |catalog, kernel, _| {
            let pool = pool::find(catalog, Some(name))?;
            Ok((pool::delete(catalog, kernel, pool)?, pool.id))
        })?;
        Ok(done(plan, id, dry_run))
    }

    pub fn create_volume(&self, request: &CreateVolume, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        self.submit(&*self.vg(&request.path.vg)?, self.wanted_volume(request), dry_run)
    }

    /// Several volumes of one VG that are asked for at once: as few transactions as can be; an answer for each.
    pub fn create_volumes(&self, vg: &Name, requests: &[CreateVolume]) -> Result<Vec<Answer>, EngineError> {
        let wanted = requests.iter().map(|request| self.wanted_volume(request)).collect();
        Ok(self.vg(vg)?.submit_all(&self.host, wanted))
    }

    fn wanted_volume(&self, request: &CreateVolume) -> ThinRequest {
        ThinRequest::Create(volume::CreateVolume {
            id: VolumeId::from_uuid(self.host.new_uuid()),
            intent: IntentId::from_uuid(self.host.new_uuid()),
            name: request.path.volume.clone(),
            pool: request.pool.clone(),
            size: request.size,
            fs: request.fs,
            fs_uuid: self.host.new_uuid().into_bytes(),
            labels: request.labels.clone(),
            reserve: request.reserve,
            protect: request.protect,
            mkfs: request.mkfs.clone(),
            now: self.host.now(),
        })
    }

    /// Deletes a volume or a snapshot.
    pub fn delete_volume(&self, vg: &Name, name: &VolumeName, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        if self.is_thick(vg, name) {
            return self.delete_thick(vg, name, dry_run);
        }
        let intent = IntentId::from_uuid(self.host.new_uuid());
        self.submit(&*self.vg(vg)?, ThinRequest::Delete { name: name.clone(), intent }, dry_run)
    }

    pub(crate) fn submit(
        &self,
        vg: &OpenVg,
        request: ThinRequest,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        if dry_run {
            return Ok(Done::Planned(vg.plan_of(&self.host, &request)?));
        }
        let (changed, id) = vg.submit(&self.host, request)?;
        Ok(if changed { Done::Changed(id) } else { Done::Unchanged(id) })
    }

    pub fn mount(
        &self,
        vg: &Name,
        name: &VolumeName,
        target: &Path,
        how: impl Into<MountAs>,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        self.mount_with(vg, name, target, how, &MountOptions::default(), dry_run)
    }

    /// As [`Engine::mount`], with options for this mount besides those of the volume.
    pub fn mount_with(
        &self,
        vg: &Name,
        name: &VolumeName,
        target: &Path,
        how: impl Into<MountAs>,
        given: &MountOptions,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        let how = MountAs { sealed: mount::is_own(target, self.own_mounts().as_deref()), ..how.into() };
        let mounted = self.change_volume_seeing(Sight::ThoseAndMounts, vg, name, dry_run, |catalog, kernel, volume| {
            mount::mount_with(catalog, kernel, volume, target, how, given)
        });
        if let Err(EngineError::Step(_)) = &mounted {
            self.release_unused(vg, name);
        }
        mounted
    }

    /// After a plan that failed: it was activated for that, and a volume that nobody uses is not active. udev may look at it just
    /// then, because a tool has closed it.
    pub(crate) fn release_unused(&self, vg: &Name, name: &VolumeName) {
        let released = self.change_volume(vg, name, false, |_, kernel, volume| {
            let device = vol_core::dm::Device::Volume(volume.id);
            let mut plan = Plan::new(format!("deactivate {name}"));
            if kernel.mounts_of(device).is_empty() && kernel.dm.contains_key(&device) {
                plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
            }
            Ok(plan)
        });
        if let Err(error) = released {
            tracing::warn!(volume = %name, %error, "it could not be deactivated after a failure");
        }
    }

    /// Shows a volume that is mounted at `from` at `target` too.
    pub fn bind(
        &self,
        vg: &Name,
        name: &VolumeName,
        (from, target): (&Path, &Path),
        read_only: bool,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume_seeing(Sight::ThoseAndMounts, vg, name, dry_run, |catalog, kernel, volume| {
            mount::bind(catalog, kernel, volume, from, target, read_only)
        })
    }

    /// Shows the device of an attached raw volume at `target` too.
    pub fn show_node(
        &self,
        vg: &Name,
        name: &VolumeName,
        target: &Path,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume_seeing(Sight::ThoseAndMounts, vg, name, dry_run, |catalog, kernel, volume| {
            node::show(catalog, kernel, volume, target)
        })
    }

    /// Removes the directory or file that something was mounted on; whether there was one. Nothing that is recorded changes.
    ///
    /// # Errors
    /// Those of [`HostMut::remove_mount_point`].
    pub fn remove_mount_point(&self, target: &Path) -> Result<bool, HostError> {
        match self.host.remove_mount_point(target) {
            Err(error) if error.kind == HostErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Unmounts from `target`, or from everywhere.
    pub fn unmount(
        &self,
        vg: &Name,
        name: &VolumeName,
        target: Option<&Path>,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        self.unmount_unless(vg, name, target, dry_run, |_| Ok(()))
    }

    /// As [`Engine::unmount`], unless `needed` refuses. It is asked when nobody else can change the volume any more: who says that he needs
    /// it before he asks for a mount either hears that from here, or mounts it after this.
    pub fn unmount_unless(
        &self,
        vg: &Name,
        name: &VolumeName,
        target: Option<&Path>,
        dry_run: bool,
        needed: impl Fn(VolumeId) -> Result<(), Refusal>,
    ) -> Result<Done<VolumeId>, EngineError> {
        let own = self.own_mounts();
        self.change_volume(vg, name, dry_run, |catalog, kernel, volume| {
            needed(volume.id)?;
            mount::unmount(catalog, kernel, volume, target, own.as_deref())
        })
    }

    /// Makes the device of a raw volume.
    pub fn attach(&self, vg: &Name, name: &VolumeName, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume(vg, name, dry_run, mount::attach)
    }

    /// Makes the device of a raw volume so that it cannot be written to, of a volume in a refused pool too.
    pub fn attach_read_only(&self, vg: &Name, name: &VolumeName, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume(vg, name, dry_run, mount::attach_read_only)
    }

    /// Makes the device of a volume or snapshot whatever is on it, for who mounts it by its name in `/dev/volumed`.
    pub fn activate(&self, vg: &Name, name: &VolumeName, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume(vg, name, dry_run, mount::activate)
    }

    /// Takes the device of a volume away.
    pub fn detach(&self, vg: &Name, name: &VolumeName, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume(vg, name, dry_run, mount::detach)
    }

    pub(crate) fn change_volume(
        &self,
        vg: &Name,
        name: &VolumeName,
        dry_run: bool,
        plan: impl FnMut(&Catalog, &vol_core::plan::Kernel, &vol_types::Volume) -> Result<Plan, Refusal>,
    ) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume_seeing(Sight::OnlyThose, vg, name, dry_run, plan)
    }

    fn change_volume_seeing(
        &self,
        sight: Sight,
        vg: &Name,
        name: &VolumeName,
        dry_run: bool,
        mut plan: impl FnMut(&Catalog, &vol_core::plan::Kernel, &vol_types::Volume) -> Result<Plan, Refusal>,
    ) -> Result<Done<VolumeId>, EngineError> {
        let vg = self.vg(vg)?;
        let about = (std::slice::from_ref(name), sight);
        let (plan, id) = vg.change_of(&self.host, dry_run, about, |catalog, kernel| {
            let volume = find_volume(catalog, name)?;
            Ok((plan(catalog, kernel, volume)?, volume.id))
        })?;
        Ok(done(plan, id, dry_run))
    }
}

/// A volume or snapshot by name, or the refusal that says so.
pub fn find_volume<'a>(catalog: &'a Catalog, name: &VolumeName) -> Result<&'a vol_types::Volume, Refusal> {
    catalog.volume_named(name).ok_or_else(|| {
        let (kind, list) = match name.snapshot {
            Some(_) => ("snapshot", "snapshot list"),
            None => ("volume", "volume list"),
        };
        Refusal::not_found(format!("there is no {kind} {}/{name}", catalog.vg().name))
            .hint(format!("`volctl {list}` shows what there is"))
    })
}

pub(crate) fn done<T>(plan: Plan, id: T, dry_run: bool) -> Done<T> {
    if dry_run {
        Done::Planned(plan)
    } else if plan.is_empty() {
        Done::Unchanged(id)
    } else {
        Done::Changed(id)
    }
}
