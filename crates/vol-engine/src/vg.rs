//! One open volume group: its catalog, its session, and what readers see of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError};

use vol_core::dm::Device;
use vol_core::plan::recover::{self, Recovery};
use vol_core::plan::{Kernel, grow};
use vol_core::step::PvDevice;
use vol_core::{Action, Catalog, Plan, Refusal, VolumeName};
use vol_types::{Bytes, Change, IntentId, Object, ObjectKey, PoolId, PvId, VgId, VgState, VolumeId};

use crate::audit::Audits;
use crate::bell::Bell;
use crate::claims::Claims;
use crate::error::EngineError;
use crate::exec::{self, Session};
use crate::formats::Formats;
use crate::host::HostMut;
use crate::lease::Leases;
use crate::observe::Interest;
use crate::progress::Progress;
use crate::pvs::OpenPvs;
use crate::queue::Queue;
use crate::space::Spaces;
use away::Away;

mod away;
mod upkeep;
mod view;

pub use view::{Problem, View};

/// What a plan that changes the members of a VG is made from.
pub(crate) struct Now<'a> {
    pub catalog: &'a Catalog,
    pub kernel: &'a Kernel,
    /// PVs that are not there.
    pub missing: &'a [PvId],
    /// PVs that are.
    pub pvs: &'a OpenPvs,
    /// Why no change is taken, if none is.
    pub frozen: Option<&'a str>,
}

/// What a change needs before it is planned.
struct Wanted<'a> {
    states: &'a [VgState],
    /// Volumes that nobody else may be at work on.
    about: &'a [VolumeName],
    /// Nobody may be at work on anything.
    alone: bool,
    sight: Sight,
}

/// What matters of the kernel for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    Everything,
    /// The volumes that it is about, and their pools.
    OnlyThose,
    /// And all that is mounted anywhere.
    ThoseAndMounts,
}

fn ids_of(catalog: &Catalog, names: &[VolumeName]) -> Vec<VolumeId> {
    names.iter().filter_map(|name| catalog.volume_named(name).map(|volume| volume.id)).collect()
}

/// An open VG.
pub struct OpenVg {
    pub id: VgId,
    catalog: RwLock<Catalog>,
    session: Mutex<Session>,
    pub(crate) queue: Queue,
    pub(crate) formats: Formats,
    bell: OnceLock<Arc<Bell>>,
    progress: OnceLock<Arc<Progress>>,
    view: RwLock<Arc<View>>,
    /// What changes concerned since the last look at the kernel began.
    since_the_look: Mutex<view::SinceTheLook>,
    /// What opening found to complain about; it stays until the VG is opened again, or the disks that it is about are given up.
    opening_problems: Mutex<Vec<Problem>>,
    /// Whether the last recovery left something as it was: a device suspended, for example, or shorter than its volume.
    left_over: AtomicBool,
    /// Refreshes since something was left unsettled.
    rounds_unsettled: AtomicU32,
    /// How the pools' own metadata compare with ours.
    audits: Mutex<Audits>,
    /// Who reads them.
    leases: Leases,
    spaces: Mutex<Spaces>,
    /// What volumes with a reserve had mapped when that was last seen.
    mapped: Mutex<BTreeMap<VolumeId, Bytes>>,
    /// Pools that are down because this daemon looks at their metadata or repairs them: not recovery's.
    in_care: Mutex<BTreeSet<PoolId>>,
    away: Away,
    /// What changes work on that have let go of the session meanwhile.
    pub(crate) claims: Claims,
}

impl OpenVg {
    pub fn new(catalog: Catalog, session: Session, opening_problems: Vec<String>) -> Self {
        Self {
            id: catalog.vg().id,
            catalog: RwLock::new(catalog),
            session: Mutex::new(session),
            queue: Queue::default(),
            formats: Formats::default(),
            bell: OnceLock::new(),
            progress: OnceLock::new(),
            view: RwLock::default(),
            since_the_look: Mutex::default(),
            opening_problems: Mutex::new(opening_problems.into_iter().map(view::of_metadata).collect()),
            left_over: AtomicBool::new(false),
            rounds_unsettled: AtomicU32::new(0),
            audits: Mutex::default(),
            leases: Leases::default(),
            spaces: Mutex::default(),
            mapped: Mutex::default(),
            in_care: Mutex::default(),
            away: Away::default(),
            claims: Claims::default(),
        }
    }

    /// Opening found this besides; it stays for as long as what [`OpenVg::new`] was told.
    pub(crate) fn complain_of(&self, problems: Vec<Problem>) {
        self.opening_problems.lock().unwrap_or_else(PoisonError::into_inner).extend(problems);
    }

    /// Reads the catalog; never waits for a change longer than it takes to apply one commit in memory.
    pub fn read<T>(&self, read: impl FnOnce(&Catalog) -> T) -> T {
        read(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }
    pub fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// The session, unless a change is under way.
    pub(crate) fn try_session(&self) -> Option<MutexGuard<'_, Session>> {
        match self.session.try_lock() {
            Ok(session) => Some(session),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
    pub(crate) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn catalog_lock(&self) -> &RwLock<Catalog> {
        &self.catalog
    }

    /// PVs of the catalog that are not there.
    pub(crate) fn missing(&self, session: &Session) -> Vec<PvId> {
        self.read(|catalog| catalog.pvs().map(|pv| pv.id).filter(|id| self.is_dead(*id, &session.pvs)).collect())
    }

    /// Observes, plans with `plan`, executes unless `dry_run`, and leaves the VG in order whatever happens. Plans are made and
    /// committed one at a time; what is done to volumes beside that goes apart (`docs/concurrency.md`).
    pub fn change<H: HostMut + ?Sized, T>(
        &self,
        host: &H,
        dry_run: bool,
        mut plan: impl FnMut(&Catalog, &Kernel, &[PvId]) -> Result<(Plan, T), Refusal>,
    ) -> Result<(Plan, T), EngineError> {
        self.change_about(host, dry_run, &[], |catalog, kernel, missing| plan(catalog, kernel, missing))
    }

    /// As [`OpenVg::change`], of these volumes: if somebody works on one of them, it waits for that before it plans.
    pub fn change_about<H: HostMut + ?Sized, T>(
        &self,
        host: &H,
        dry_run: bool,
        about: &[VolumeName],
        mut plan: impl FnMut(&Catalog, &Kernel, &[PvId]) -> Result<(Plan, T), Refusal>,
    ) -> Result<(Plan, T), EngineError> {
        let wanted = Wanted { states: &[VgState::Ready], about, alone: false, sight: Sight::Everything };
        self.change_as(host, dry_run, wanted, |now| plan(now.catalog, now.kernel, now.missing))
    }

    /// As [`OpenVg::change_about`], for what can be planned with these volumes and their pools in sight: it costs the same however many
    /// others are active.
    pub(crate) fn change_of<H: HostMut + ?Sized, T>(
        &self,
        host: &H,
        dry_run: bool,
        (about, sight): (&[VolumeName], Sight),
        mut plan: impl FnMut(&Catalog, &Kernel) -> Result<(Plan, T), Refusal>,
    ) -> Result<(Plan, T), EngineError> {
        let wanted = Wanted { states: &[VgState::Ready], about, alone: false, sight };
        self.change_as(host, dry_run, wanted, |now| plan(now.catalog, now.kernel))
    }

    /// As [`OpenVg::change`], for changes of what the VG is made of, and in other states of it.
    pub(crate) fn change_members<H: HostMut + ?Sized, T>(
        &self,
        host: &H,
        dry_run: bool,
        states: &[VgState],
        plan: impl FnMut(&Now<'_>) -> Result<(Plan, T), Refusal>,
    ) -> Result<(Plan, T), EngineError> {
        self.change_as(host, dry_run, Wanted { states, about: &[], alone: false, sight: Sight::Everything }, plan)
    }

    /// As [`OpenVg::change_members`], when nobody works on anything of the VG.
    pub(crate) fn change_whole<H: HostMut + ?Sized, T>(
        &self,
        host: &H,
        dry_run: bool,
        states: &[VgState],
        plan: impl FnMut(&Now<'_>) -> Result<(Plan, T), Refusal>,
    ) -> Result<(Plan, T), EngineError> {
        self.change_as(host, dry_run, Wanted { states, about: &[], alone: true, sight: Sight::Everything }, plan)
    }

    fn change_as<H: HostMut + ?Sized, T>(
        &self,
        host: &H,
        dry_run: bool,
        wanted: Wanted<'_>,
        mut plan: impl FnMut(&Now<'_>) -> Result<(Plan, T), Refusal>,
    ) -> Result<(Plan, T), EngineError> {
        let (mut session, plan, extra, mut scope, interest) = loop {
            let mut session = self.session();
            let claimed = self.claimed();
            // A dry run tells what is; it waits for nobody.
            let wait = !dry_run && !claimed.is_empty();
            let about = self.read(|catalog| ids_of(catalog, wanted.about));
            if wait && (wanted.alone || about.iter().any(|id| claimed.has_volume(*id))) {
                drop(session);
                self.formats.hurry(about);
                self.claims.wait(&claimed);
                continue;
            }
            let settled = !dry_run && self.settle_first(host, &mut session);
            self.usable(&session, wanted.states)?;
            let missing = self.missing(&session);
            // Where a recovery had something to do, more than these volumes may have changed.
            let interest = match wanted.sight {
                Sight::Everything => None,
                _ if settled => None,
                sight => self
                    .read(|catalog| Interest::in_volumes(catalog, about.iter().copied()))
                    .map(|interest| Interest { mounts: sight == Sight::ThoseAndMounts, ..interest }),
            };
            let kernel = self.observe_for(host, interest.as_ref())?;
            let frozen = session.store.as_ref().and_then(|store| store.frozen());
            let mut planned = |kernel: &Kernel| {
                self.read(|catalog| plan(&Now { catalog, kernel, missing: &missing, pvs: &session.pvs, frozen }))
            };
            let made = planned(&kernel);
            #[cfg(feature = "defects")]
            if interest.is_some() {
                let plan_of = |made: &Result<(Plan, T), Refusal>| {
                    made.as_ref().map(|(plan, _)| plan.clone()).map_err(Clone::clone)
                };
                self.same_from_all(host, &plan_of(&made), |kernel| plan_of(&planned(kernel)));
            }
            let (plan, extra) = made?;
            if dry_run || plan.is_empty() {
                return Ok((plan, extra));
            }
            let scope = plan.scope();
            if wait && self.read(|catalog| claimed.meets(&scope, catalog)) {
                drop(session);
                self.formats.hurry(scope.objects.iter().filter_map(|key| match key {
                    ObjectKey::Volume(id) => Some(*id),
                    _ => None,
                }));
                self.claims.wait(&claimed);
                continue;
            }
            let mut scope = scope;
            scope.objects.extend(about.into_iter().map(ObjectKey::Volume));
            break (session, plan, extra, scope, interest);
        };
        self.decided(&session, &plan)?;
        let mounts = plan.steps.iter().any(|step| {
            matches!(
                step.action,
                Action::Mount { .. } | Action::Bind { .. } | Action::ShowNode { .. } | Action::Unmount { .. }
            )
        });
        // What is done to volumes says nothing new of their pools; the timer looks at those.
        let mut interest = interest.map(|interest| Interest { mounts, pools: BTreeSet::new(), ..interest });
        let result = if plan.goes_apart() {
            let claim = self.claim(std::mem::take(&mut scope));
            let result;
            (session, result) = self.run_apart(host, session, &plan, claim);
            result
        } else {
            self.run(host, &mut session, &plan)
        };
        let outcome = match result {
            Ok(()) => {
                if plan.steps.iter().any(|step| matches!(step.action, Action::DeclareLost { .. })) {
                    self.opening_problems.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                Ok((plan, extra))
            }
            Err(failed) => {
                let taken_back = self.take_back_pvs(host, &mut session, &plan);
                let settled = self.recover(host, &mut session);
                interest = None;
                Err(failed.of(&plan, settled && taken_back))
            }
        };
        self.refresh_after(host, &session, interest.as_ref());
        outcome
    }

    /// Disks that a failed plan was to make PVs of, and that are none: erased again and let go. Not if the store is frozen: then
    /// the commit that makes them PVs may be found after all, and their labels must lead to it.
    fn take_back_pvs<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session, plan: &Plan) -> bool {
        let begun: Vec<_> = plan
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::OpenPv { pv, device: PvDevice::File(file) } => Some((*pv, Some(file.clone()))),
                Action::OpenPv { pv, device: PvDevice::Disk { .. } } => Some((*pv, None)),
                _ => None,
            })
            .filter(|(pv, _)| self.read(|catalog| catalog.pv(*pv).is_none()))
            .collect();
        if let Some(store) = session.store.as_mut() {
            let admitted = plan.steps.iter().filter_map(|step| match &step.action {
                Action::AdmitCopy { pv } => Some(*pv),
                _ => None,
            });
            admitted.for_each(|pv| store.dismiss(pv));
        }
        let mut taken_back = true;
        if !begun.is_empty() {
            taken_back = session.writable();
            if taken_back {
                let plan = vol_core::plan::members::unextend(&begun);
                if let Err(failed) = exec::run(host, session, &self.catalog, &plan) {
                    tracing::error!(step = failed.step, error = %failed.error, "a disk could not be erased again");
                    taken_back = false;
                }
            }
        }
        let known: Vec<_> = self.read(|catalog| catalog.pvs().map(|pv| pv.id).collect());
        session.pvs.retain(|pv, _| known.contains(pv));
        taken_back
    }

    /// Refuses to make a device for a volume that may have been deleted: what is written to it could be gone at the next start.
    fn decided(&self, session: &Session, plan: &Plan) -> Result<(), Refusal> {
        let Some(store) = &session.store else { return Ok(()) };
        let undecided = plan.steps.iter().find_map(|step| match step.action {
            Action::CreateDm { device: Device::Volume(id), .. } | Action::Mount { volume: id, .. } => {
                store.is_undecided(ObjectKey::Volume(id)).then_some(id)
            }
            _ => None,
        });
        let Some(id) = undecided else { return Ok(()) };
        let name = self.read(|catalog| catalog.volume(id).map(|one| vol_core::VolumeName::of(one).to_string()));
        Err(Refusal::busy(format!(
            "whether volume {} was changed or deleted is not decided: the commit did not reach enough of the metadata copies",
            name.unwrap_or_default()
        ))
        .hint("bring the disks back and run `volctl pv scan`, which decides it"))
    }

    /// A step that could not be taken back earlier may be possible now. `true` if there was anything.
    pub(crate) fn settle_first<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session) -> bool {
        let unsettled = !session.closed && self.unsettled();
        if unsettled {
            self.recover(host, session);
        }
        unsettled
    }

    /// In memory the VG is unfinished again, so that recovery takes it apart.
    pub(crate) fn unmake(&self) {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        let vg = vol_types::Vg { state: VgState::Creating, ..catalog.vg().clone() };
        catalog.apply(Change::Put(Object::Vg(vg)));
    }

    /// A session that waited for its turn may find that the VG is gone, or was opened anew.
    pub(crate) fn usable(&self, session: &Session, states: &[VgState]) -> Result<(), Refusal> {
        let (name, state) = self.read(|catalog| (catalog.vg().name.clone(), catalog.vg().state));
        if session.closed {
            return Err(Refusal::not_found(format!("volume group {name} was deleted or opened anew meanwhile"))
                .hint("see `volctl vg list`, and try again"));
        }
        if states.contains(&state) {
            return Ok(());
        }
        if state == VgState::Exported {
            return Err(Refusal::busy(format!("volume group {name} is exported: nothing of it is used here"))
                .hint(format!("take it into use with `volctl vg import {name}`")));
        }
        Err(Refusal::busy(format!("volume group {name} is being deleted"))
            .hint(format!("finish that with `volctl vg delete {name}`")))
    }

    /// Takes the VG apart if it is empty; afterwards nothing can be changed through it.
    pub fn delete<H: HostMut + ?Sized>(&self, host: &H, dry_run: bool) -> Result<Plan, EngineError> {
        let mut session = self.session();
        let name = self.read(|catalog| catalog.vg().name.clone());
        if session.closed {
            self.usable(&session, &[])?;
        }
        if let Some(first) = self.missing(&session).first() {
            return Err(Refusal::new(
                vol_core::RefusalCode::Degraded,
                format!("PV {first} of volume group {name} is missing: its label would stay on the disk"),
            )
            .hint("attach the disk again: it is taken up by itself; if not, run `volctl pv scan`")
            .into());
        }
        let plan = self.read(vol_core::plan::vg::delete)?;
        if dry_run {
            return Ok(plan);
        }
        match exec::run(host, &mut session, &self.catalog, &plan) {
            Ok(()) => session.close(),
            Err(failed) => {
                self.recover(host, &mut session);
                // Recovery goes on with a deletion; it may have come to its end after all.
                if !session.closed {
                    self.refresh_with(host, &session);
                    return Err(failed.of(&plan, false));
                }
            }
        }
        Ok(plan)
    }

    /// Whether the catalog holds anything that is not finished, or a pool is down that was to come up, or is not what its record says, or
    /// a recovery did not come to its end. A device that somebody else suspended meanwhile is his.
    fn unsettled(&self) -> bool {
        if self.left_over.load(Ordering::Relaxed) || self.away.any_lame() {
            return true;
        }
        let view = self.view();
        let claimed = self.claimed();
        self.read(|catalog| {
            let exported = catalog.vg().state == VgState::Exported;
            let down = |pool: &vol_types::Pool| !view.kernel.pools.contains_key(&pool.id) || pool.repair.is_some();
            let behind = |pool: &vol_types::Pool| grow::is_behind(catalog, pool, view.kernel.pools.get(&pool.id));
            let in_care = self.in_care();
            let ours = |pool: &&vol_types::Pool| !exported && !in_care.contains(&pool.id);
            catalog.unfinished().any(|key| !claimed.objects().contains(&key))
                || catalog.pools().filter(ours).any(|pool| down(pool) || behind(pool))
        })
    }

    /// Puts everything in order that can be; `true` if nothing is left over. What fails is set aside and tried again at the
    /// next change.
    pub(crate) fn recover<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session) -> bool {
        self.renew_lame(host, session);
        let done = self.recover_all(host, session);
        // At its end: a look that begins meanwhile sees the middle of it. It is shown with the session, which is held here.
        self.outdate_look();
        self.left_over.store(!done, Ordering::Relaxed);
        done
    }

    fn recover_all<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session) -> bool {
        // What others are at work on is not left over, nor is a pool that is kept down.
        let claimed = self.claimed();
        let in_care: BTreeSet<ObjectKey> = self.in_care().iter().map(|pool| ObjectKey::Pool(*pool)).collect();
        let mut given_up: BTreeSet<ObjectKey> = claimed.objects().union(&in_care).copied().collect();
        // Each round settles one object or sets it aside, so this many rounds are always enough.
        let objects = self.read(Catalog::object_count);
        for _ in 0..objects.saturating_mul(4).saturating_add(16) {
            let kernel = match self.observe(host) {
                Ok(kernel) => self.compare_new(host, session, kernel),
                Err(error) => {
                    tracing::error!(%error, "recovery cannot see the kernel's devices");
                    return false;
                }
            };
            let missing = self.missing(session);
            let intent = IntentId::from_uuid(host.new_uuid());
            let writable = session.writable();
            let next = self.read(|catalog| recover::next(catalog, &kernel, &missing, writable, &given_up, intent));
            let Some(Recovery { subject, plan }) = next else { break };
            tracing::info!(plan = plan.title, "recovery");
            if let Some(progress) = self.progress.get() {
                let name = self.read(|catalog| catalog.vg().name.clone());
                progress.tell(format!("volume group {name}: {}", plan.title));
            }
            if matches!(subject, ObjectKey::Vg(_)) {
                self.keep_erased(host, &missing);
            }
            let aside = self.leases.stand_aside(&plan);
            let done = exec::run(host, session, &self.catalog, &plan);
            drop(aside);
            match done {
                // An unfinished VG is gone when its labels are: its catalog ends here.
                Ok(()) if matches!(subject, ObjectKey::Vg(_)) => {
                    session.close();
                    return true;
                }
                Ok(()) => {}
                Err(failed) => {
                    tracing::error!(plan = plan.title, step = failed.step, error = %failed.error, "recovery failed");
                    given_up.insert(subject);
                }
            }
        }
        let at_work = claimed.objects();
        given_up.iter().all(|key| at_work.contains(key) || in_care.contains(key))
            && self.read(|catalog| catalog.unfinished().all(|key| at_work.contains(&key)))
    }

    /// A disk whose label a dead daemon had erased may still hold that in its cache only: it looks as if it were missing, and the label
    /// would come back with the next power cut, after the rest of the VG is gone. A flush does no harm to whoever it is.
    fn keep_erased<H: HostMut + ?Sized>(&self, host: &H, missing: &[PvId]) {
        for id in missing {
            let Some(hint) = self.read(|catalog| catalog.pv(*id).map(|pv| pv.path_hint.clone())) else { continue };
            let flushed = host
                .inspect(std::path::Path::new(&hint))
                .and_then(|info| host.open_write(&info.node, &info.identity))
                .and_then(|device| device.flush());
            if let Err(error) = flushed {
                tracing::debug!(pv = %id, %error, "a disk that is missing was not flushed");
            }
        }
    }

    pub(crate) fn in_care(&self) -> MutexGuard<'_, BTreeSet<PoolId>> {
        self.in_care.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(crate) fn audits(&self) -> MutexGuard<'_, Audits> {
        self.audits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mapped(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Bytes>> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spaces(&self) -> MutexGuard<'_, Spaces> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is to be told how far a recovery has come.
    pub(crate) fn tell_progress(&self, progress: Arc<Progress>) {
        let _same = self.progress.set(progress);
    }

    /// Who is to be told of work to be done in the background.
    pub(crate) fn hang_up(&self, bell: Arc<Bell>) {
        // Inserted twice it has the same bell already.
        let _same = self.bell.set(bell);
    }
}
