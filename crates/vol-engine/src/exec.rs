//! Executes plans, one step after the other, and makes no choices.
//!
//! Each step's requirements are checked against the world right before it. The first failure ends the plan: the engine then
//! observes and recovers, as after a crash.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use vol_core::dm::{Below, Device};
use vol_core::observed::{DevNumber, DiskKind, PoolMode, PoolStatus, ThinVerdict};
use vol_core::step::{Action, PvDevice, Requirement, Step};
use vol_core::{Catalog, Plan};
use vol_format::layout::Geometry;
use vol_format::{label, layout, mark};
use vol_types::{Object, PoolId, PvId, defect};

use crate::error::{EngineError, FailedStep, StepError};
use crate::host::{DurableWrite, HostErrorKind, HostMut, HostResult, ThinOrigin, ThinSnapshot};
use crate::observe;
use crate::pvs::{self, OpenPv, OpenPvs};
use crate::store::{Store, StoreError};

mod apart;
mod member;

pub use apart::{Apart, Gates};

/// How long an opener of a device is waited for before it counts as a user: as long as the host waits when it removes one.
const LET_GO_TRIES: u32 = 100;
const LET_GO_STEP: Duration = Duration::from_millis(20);
/// The same of a mount. Who looks at every new one (`xfs_healer_start` of xfsprogs, indexers) has it open for a moment.
const UNMOUNT_TRIES: u32 = 25;

/// What the executor works on: the changing side of one VG.
pub struct Session {
    pub pvs: OpenPvs,
    /// `None` until the first checkpoint is written or read.
    pub store: Option<Store>,
    /// Files that are proven to be the daemon's own: made by a plan of this session, or found by the kernel's word behind a
    /// PV that was detached. A path in a record alone proves nothing.
    pub own_files: Vec<PathBuf>,
    /// Layouts that PVs are opened with which had one before; others are laid out by their size.
    pub geometries: BTreeMap<PvId, Geometry>,
    /// The VG is gone, or was opened anew: nothing can be changed through this session.
    pub closed: bool,
    /// Kept by those too who work apart from the session.
    pub gates: Arc<Gates>,
}

impl Session {
    pub fn new(pvs: OpenPvs, store: Option<Store>) -> Self {
        Self { pvs, store, own_files: Vec::new(), geometries: BTreeMap::new(), closed: false, gates: Arc::default() }
    }

    /// Nothing can be changed through this session any more.
    pub fn close(&mut self) {
        self.pvs.clear();
        if let Some(mut store) = self.store.take() {
            store.abandon();
        }
        self.closed = true;
    }

    /// Whether what the catalog says can be relied on: it is backed by a majority of the metadata copies, or it is of a VG
    /// that this very session is making.
    pub fn writable(&self) -> bool {
        self.store.as_ref().is_none_or(|store| store.frozen().is_none())
    }
}

/// A step that failed, by its place in the plan.
#[derive(Debug)]
pub struct Failed {
    pub step: String,
    /// Whether a step before it had been taken.
    pub begun: bool,
    pub error: StepError,
}

impl Failed {
    /// As the answer to the request whose plan it was.
    pub fn of(self, plan: &Plan, settled: bool) -> EngineError {
        self.titled(plan.title.clone(), settled)
    }

    pub fn titled(self, title: String, settled: bool) -> EngineError {
        let Self { step, begun, error: source } = self;
        EngineError::Step(Box::new(FailedStep { title, step, source, begun, settled }))
    }
}

/// Executes all steps of `plan`. Readers see each commit as soon as it is durable, and not before; of what only says what the kernel's
/// pool says durably already ([`Action::CommitLater`]), as soon as that is so.
pub fn run<H: HostMut + ?Sized>(
    host: &H,
    session: &mut Session,
    catalog: &RwLock<Catalog>,
    plan: &Plan,
) -> Result<(), Failed> {
    let plan = &*as_executed(plan);
    plan.steps.iter().enumerate().try_for_each(|(at, step)| one(host, session, catalog, plan, at, step))
}

/// The plan as it is executed: as it is, but for what the proof machine makes wrong on purpose.
pub fn as_executed(plan: &Plan) -> Cow<'_, Plan> {
    #[cfg(feature = "defects")]
    return Cow::Owned(mutation::applied(plan));
    #[cfg(not(feature = "defects"))]
    Cow::Borrowed(plan)
}

/// Executes the step at this place of a plan.
pub fn one<H: HostMut + ?Sized>(
    host: &H,
    session: &mut Session,
    catalog: &RwLock<Catalog>,
    plan: &Plan,
    at: usize,
    step: &Step,
) -> Result<(), Failed> {
    tracing::debug!(plan = plan.title, step = step.action.kind(), "{}", step.action);
    let mut executor = Executor { host, session, catalog };
    executor.step(step).map_err(|error| failed(plan, at, step, error))
}

/// As [`one`], of a step that needs no session.
pub fn one_apart<H: HostMut + ?Sized>(apart: &Apart<'_, H>, plan: &Plan, at: usize, step: &Step) -> Result<(), Failed> {
    tracing::debug!(plan = plan.title, step = step.action.kind(), "{}", step.action);
    apart.step(step).map_err(|error| failed(plan, at, step, error))
}

fn failed(plan: &Plan, at: usize, step: &Step, error: StepError) -> Failed {
    tracing::warn!(plan = plan.title, step = step.action.kind(), %error, "a step failed");
    let error = taken(&step.action, &error).unwrap_or(error);
    Failed { step: step.action.to_string(), begun: at > 0, error }
}

/// A new VG counts only when each of its copies says that it is ready: a copy that still says *creating* may then be erased
/// wherever it turns up (`vol_core::plan::recover`).
pub fn on_every_copy(session: &Session) -> Result<(), Failed> {
    let Some(store) = &session.store else { return Ok(()) };
    let (written, copies) = store.copies();
    match store.failed_copies().next() {
        None => Ok(()),
        Some(_) if defect("a new group needs a majority only") => Ok(()),
        Some((_, first)) => Err(Failed {
            step: "write the metadata to all of its copies".to_owned(),
            begun: true,
            error: StoreError::NoMajority { written, copies, first: first.clone() }.into(),
        }),
    }
}

fn sound(verdict: ThinVerdict) -> Result<(), StepError> {
    match verdict {
        ThinVerdict::Sound => Ok(()),
        ThinVerdict::Damaged(said) => Err(StepError::ThinDamaged(format!("thin_check finds damage: {said}"))),
    }
}

struct Executor<'a, H: ?Sized> {
    host: &'a H,
    session: &'a mut Session,
    catalog: &'a RwLock<Catalog>,
}

impl<H: HostMut + ?Sized> Executor<'_, H> {
    fn step(&mut self, step: &Step) -> Result<(), StepError> {
        for requirement in step.requires.iter().filter(|_| !defect("preconditions are not looked at")) {
            if !self.holds(requirement)? {
                return Err(StepError::Requirement(requirement.to_string()));
            }
        }
        self.act(&step.action)
    }

    fn holds(&self, requirement: &Requirement) -> Result<bool, StepError> {
        Ok(match requirement {
            Requirement::Absent(_)
            | Requirement::Active(_)
            | Requirement::NotOpen(_)
            | Requirement::ProbesEmpty(_)
            | Requirement::NothingMountedAt(_)
            | Requirement::NoFileAt(_) => self.apart(|apart| apart.holds(requirement))?,
            Requirement::PoolAt { pool, transaction_id } => self.pool_problem(*pool, *transaction_id)?.is_none(),
            Requirement::MetadataWritten { pv, offset, .. } => {
                let block = self.pv(*pv)?.device.read_at(offset.get(), layout::BLOCK)?;
                block.iter().any(|byte| *byte != 0) || defect("a pool's blank metadata is loaded")
            }
            Requirement::Unchanged { node, identity } => {
                let info = self.host.inspect(node)?;
                info.identity == *identity && info.mounts.is_empty() && !info.swap && info.holders.is_empty()
            }
            Requirement::EveryCopyWritten => {
                self.session.store.as_ref().map(Store::copies).is_some_and(|(is, all)| is == all)
            }
        })
    }

    fn act(&mut self, action: &Action) -> Result<(), StepError> {
        match action {
            Action::CreateFile { path, size } => {
                self.host.create_file(path, *size)?;
                self.session.own_files.push(path.clone());
            }
            Action::AttachLoop { file } => drop(self.host.attach_loop(file)?),
            Action::DetachLoop { pv, file } => self.detach_loop(*pv, file)?,
            Action::DeleteFile { file } => {
                if self.session.own_files.contains(file) {
                    tolerate(self.host.delete_file(file), HostErrorKind::NotFound)?;
                }
            }
            Action::RememberFiles { add, remove } => self.remember(add, remove)?,
            Action::WipeSignatures { node, identity, signatures } => {
                self.host.wipe_signatures(node, identity, signatures)?;
            }
            Action::OpenPv { pv, device } => self.open_pv(*pv, device)?,
            Action::StartStore { objects, sequence } => self.start_store(objects, *sequence)?,
            Action::WriteLabel { pv } => self.write_label(*pv)?,
            Action::WriteMark { pv } => self.write_mark(*pv)?,
            Action::EraseMark { pv } => self.erase_mark(*pv)?,
            Action::EraseLabel { pv } => self.erase_label(*pv)?,
            Action::RefreshLabel { pv } => self.refresh_label(*pv),
            Action::AdmitCopy { pv } => self.admit_copy(*pv)?,
            Action::DeclareLost { pvs } => self.declare_lost(pvs)?,
            Action::ClosePv { pv } => drop(self.session.pvs.remove(pv)),
            Action::Imprint { pv, sequence, slot, objects } => self.imprint(*pv, *sequence, *slot, objects)?,
            Action::OpenStore => self.open_store()?,
            Action::Commit { changes } => {
                let store =
                    self.session.store.as_mut().ok_or_else(|| missing("the open metadata of the volume group"))?;
                store.commit(self.host, self.catalog, changes)?;
            }
            Action::CommitLater { changes } => {
                let store =
                    self.session.store.as_mut().ok_or_else(|| missing("the open metadata of the volume group"))?;
                store.commit_later(self.catalog, changes)?;
            }
            Action::CreateDm { .. }
            | Action::ReloadDm { .. }
            | Action::RemoveDm { .. }
            | Action::ReleaseDm { .. }
            | Action::ResumeDm { .. }
            | Action::Mkfs { .. }
            | Action::PrepareRoot { .. }
            | Action::VerifyFs { .. }
            | Action::Mount { .. }
            | Action::Bind { .. }
            | Action::ShowNode { .. }
            | Action::Unmount { .. }
            | Action::RemoveMountPoint { .. }
            | Action::CheckFs { .. }
            | Action::GrowFs { .. } => self.apart(|apart| apart.act(action))?,
            Action::ZeroStart { device, len } => {
                let number =
                    self.apart(|apart| apart.number(Below::Dm(*device))).ok_or_else(|| missing(&device.name()))?;
                self.host.zero_device(number, 0, len.get())?;
            }
            Action::Fill { .. } => return Err(missing("somebody who fills the volume between two plans")),
            Action::CreateThin { pool, thin_id } => self.message(*pool, &format!("create_thin {thin_id}"))?,
            Action::DeleteThin { pool, thin_id, absent_ok } => {
                let sent = self.host.dm_message(&Device::Pool(*pool).uuid(), &format!("delete {thin_id}"));
                if *absent_ok {
                    tolerate(sent, HostErrorKind::NotFound)?;
                } else {
                    sent?;
                }
            }
            Action::SnapshotThin { pool, snapshots } => {
                let of = snapshots.iter().map(|one| ThinOrigin {
                    uuid: one.origin.map(|origin| origin.uuid()),
                    origin_thin_id: one.origin_thin_id,
                    thin_id: one.thin_id,
                });
                let call = ThinSnapshot { pool_uuid: Device::Pool(*pool).uuid(), of: of.collect() };
                self.host.thin_snapshot(&call)?;
            }
            Action::SetTransaction { pool, from, to } => {
                self.message(*pool, &format!("set_transaction_id {from} {to}"))?;
            }
            Action::CheckPool { pool, transaction_id } => {
                if let Some(problem) = self.pool_problem(*pool, *transaction_id)? {
                    return Err(StepError::Pool(problem));
                }
            }
            Action::CheckPoolSize { pool, data_chunks, metadata_blocks } => {
                if let PoolStatus::Working(usage) = self.host.pool_status(&Device::Pool(*pool).uuid())?
                    && usage.total_data >= *data_chunks
                    && usage.total_metadata >= *metadata_blocks
                {
                    return Ok(());
                }
                return Err(StepError::Pool(
                    "the kernel did not take the pool's new size; its log says why".to_owned(),
                ));
            }
            Action::CheckThin { device, .. } => {
                let number = self.dm_number(*device)?;
                sound(self.host.thin_check(number, &device.uuid())?)?;
            }
            Action::ClearNeedsCheck { pool } => {
                let device = Device::PoolMetadata(*pool);
                let number = self.dm_number(device)?;
                sound(self.host.thin_clear_needs_check(number, &device.uuid())?)?;
            }
            Action::RepairThin { pool, known } => {
                let (from, to) = (Device::PoolMetadata(*pool), Device::PoolSpare(*pool));
                let (old, new) = (self.dm_number(from)?, self.dm_number(to)?);
                match self.host.thin_repair((old, &from.uuid()), (new, &to.uuid()), known) {
                    Err(error) if error.kind == HostErrorKind::Tool => {
                        return Err(StepError::ThinDamaged(format!("thin_repair could not: {}", error.detail)));
                    }
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// What needs nothing of the session but the numbers of the PVs.
    fn apart<T>(&self, work: impl FnOnce(&Apart<'_, H>) -> T) -> T {
        let pv_number = |id| pvs::number(&self.session.pvs, id);
        work(&Apart { host: self.host, gates: &self.session.gates, pv_number: &pv_number, catalog: self.catalog })
    }

    fn dm_number(&self, device: Device) -> Result<DevNumber, StepError> {
        self.apart(|apart| apart.number(Below::Dm(device))).ok_or_else(|| missing(&device.name()))
    }

    fn message(&self, pool: PoolId, message: &str) -> Result<(), StepError> {
        Ok(self.host.dm_message(&Device::Pool(pool).uuid(), message)?)
    }

    /// Why the pool is not writable and at this transaction, if it is not.
    fn pool_problem(&self, pool: PoolId, transaction_id: u64) -> Result<Option<String>, StepError> {
        if defect("a message that returned 0 is believed") {
            return Ok(None);
        }
        Ok(match self.host.pool_status(&Device::Pool(pool).uuid())? {
            PoolStatus::Fail | PoolStatus::Error => Some("the pool has failed: all its I/O fails".to_owned()),
            PoolStatus::Working(usage) if usage.needs_check => {
                Some("the pool's own commit failed, its metadata needs a check".to_owned())
            }
            PoolStatus::Working(usage) if usage.mode == PoolMode::ReadOnly => {
                Some("the pool has become read-only".to_owned())
            }
            PoolStatus::Working(usage) if usage.transaction_id != transaction_id => {
                Some(format!("the pool is at transaction {}, not at {transaction_id}", usage.transaction_id))
            }
            PoolStatus::Working(_) => None,
        })
    }

    fn detach_loop(&mut self, pv: PvId, file: &PathBuf) -> Result<(), StepError> {
        // By the word of the kernel, not of a record: the file may have been moved, and another may stand in its place.
        let node = match self.session.pvs.get(&pv) {
            Some(open) => {
                let node = open.node.clone();
                match self.host.inspect(&node)?.kind {
                    DiskKind::Loop { file: behind } if behind == *file => self.session.own_files.push(behind),
                    DiskKind::Loop { file: behind } => {
                        tracing::warn!(
                            recorded = %file.display(),
                            behind = %behind.display(),
                            "the backing file was moved; it is left where it is"
                        );
                        // What stands there now is not what this session made.
                        self.session.own_files.retain(|own| own != file);
                    }
                    _ => return Ok(()),
                }
                node
            }
            None if self.session.own_files.contains(file) => match self.host.loop_device_of(file)? {
                Some(node) => node,
                None => return Ok(()),
            },
            None => return Ok(()),
        };
        // A loop device stays as long as somebody has it open, and the one who has is us. What is detached is a PV no more,
        // and a VG that still counts on it is at its end: its store goes too.
        self.session.pvs.remove(&pv);
        if self.read_catalog(|catalog| catalog.pv(pv).is_some()) {
            self.session.store = None;
        }
        Ok(tolerate(self.host.detach_loop(&node), HostErrorKind::NotFound)?)
    }

    fn remember(&self, add: &[PathBuf], remove: &[PathBuf]) -> Result<(), StepError> {
        let mut files = self.host.backing_files()?;
        files.retain(|file| !remove.contains(file) && !add.contains(file));
        files.extend_from_slice(add);
        Ok(self.host.remember_backing_files(&files)?)
    }

    fn open_pv(&mut self, pv: PvId, device: &PvDevice) -> Result<(), StepError> {
        let extent_size = self.read_catalog(|catalog| catalog.vg().extent_size);
        let node = match device {
            PvDevice::Disk { node, .. } => node.clone(),
            PvDevice::File(file) => {
                self.host.loop_device_of(file)?.ok_or_else(|| missing(&file.display().to_string()))?
            }
        };
        let info = self.host.inspect(&node)?;
        // The identity that was planned for, so that a disk that took the place of another since is not opened.
        let identity = match device {
            PvDevice::Disk { identity, .. } => identity.clone(),
            PvDevice::File(_) => info.identity.clone(),
        };
        let kind = pvs::kind_of(&info);
        let geometry = match self.session.geometries.get(&pv) {
            Some(geometry) => *geometry,
            None => layout::geometry(identity.size, kind, extent_size)
                .map_err(|error| StepError::Missing(format!("a usable layout for {}: {error}", node.display())))?,
        };
        let device = self.host.open_write(&node, &identity)?;
        let open = OpenPv { node, identity, kind, geometry, device, touched: false };
        self.session.pvs.insert(pv, open);
        Ok(())
    }

    fn read_catalog<T>(&self, read: impl FnOnce(&Catalog) -> T) -> T {
        read(&self.catalog.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn pv(&self, id: PvId) -> Result<&OpenPv, StepError> {
        self.session.pvs.get(&id).ok_or_else(|| StepError::Missing(format!("PV {id}")))
    }

    fn touch(&mut self, id: PvId) {
        if let Some(pv) = self.session.pvs.get_mut(&id) {
            pv.touched = true;
        }
    }

    fn start_store(&mut self, objects: &[Object], sequence: u64) -> Result<(), StepError> {
        for object in objects {
            if let Object::Pv(pv) = object {
                self.touch(pv.id);
            }
        }
        self.session.store = Some(Store::start_at(self.host, objects, &self.session.pvs, sequence)?);
        Ok(())
    }

    fn write_label(&mut self, id: PvId) -> Result<(), StepError> {
        self.touch(id);
        let pv = self.pv(id)?;
        let label = self.read_catalog(|catalog| label::Label {
            vg: catalog.vg().id,
            pv: id,
            vg_name: catalog.vg().name.clone(),
            device_size: pv.identity.size,
            sector_size: catalog.vg().sector_size,
            extent_size: catalog.vg().extent_size,
            geometry: pv.geometry,
            features: vol_format::feature::SUPPORTED,
        });
        // One copy after the other: a power cut tears one of them at most.
        for copy in 0..2u8 {
            let block = label::encode(&label, copy);
            self.durable(pv, &[(pv.geometry.label_offsets[usize::from(copy)], block)])?;
        }
        Ok(())
    }

    fn write_mark(&mut self, id: PvId) -> Result<(), StepError> {
        self.touch(id);
        let pv = self.pv(id)?;
        if pv.kind == layout::PvKind::Partition {
            return Ok(());
        }
        let sector_size = self.read_catalog(|catalog| catalog.vg().sector_size);
        let writes = mark::gpt(pv.identity.size, sector_size, id, self.host.new_uuid())
            .map_err(|error| StepError::Missing(format!("room for a partition table: {error}")))?;
        self.durable(pv, &writes)?;
        self.host.reread_partitions(&pv.node);
        Ok(())
    }

    fn erase_mark(&mut self, id: PvId) -> Result<(), StepError> {
        let Ok(pv) = self.pv(id) else { return Ok(()) };
        if pv.kind == layout::PvKind::Partition || !pv.touched {
            return Ok(());
        }
        self.durable(pv, &mark::erase(pv.identity.size))?;
        self.host.reread_partitions(&pv.node);
        Ok(())
    }

    fn erase_label(&mut self, id: PvId) -> Result<(), StepError> {
        let Ok(pv) = self.pv(id) else { return Ok(()) };
        if !pv.touched {
            return Ok(());
        }
        // A label without metadata could not be made sense of, so the labels go first.
        let first = if defect("metadata is erased before the label") {
            [pv.geometry.checkpoint_offsets, pv.geometry.label_offsets]
        } else {
            [pv.geometry.label_offsets, pv.geometry.checkpoint_offsets]
        };
        for offsets in first {
            self.durable(pv, &offsets.map(|offset| (offset, label::blank())))?;
        }
        Ok(())
    }

    fn durable(&self, pv: &OpenPv, writes: &[(u64, Vec<u8>)]) -> Result<(), StepError> {
        let writes: Vec<_> =
            writes.iter().map(|(offset, data)| DurableWrite { device: &pv.device, offset: *offset, data }).collect();
        for result in self.host.write_durable(&writes) {
            result?;
        }
        Ok(())
    }
}

/// What it means that the kernel has a thin id already that is to be made.
fn taken(action: &Action, error: &StepError) -> Option<StepError> {
    let StepError::Host(error) = error else { return None };
    if error.kind != HostErrorKind::Exists {
        return None;
    }
    match action {
        Action::CreateThin { pool, thin_id } => Some(StepError::Taken { pool: *pool, thin_id: *thin_id }),
        Action::SnapshotThin { pool, snapshots } => {
            snapshots.get(error.at).map(|one| StepError::Taken { pool: *pool, thin_id: one.thin_id })
        }
        _ => None,
    }
}

fn missing(what: &str) -> StepError {
    StepError::Missing(what.to_owned())
}

/// An error that says that it is already as it should be is none.
fn tolerate(result: HostResult<()>, kind: HostErrorKind) -> HostResult<()> {
    match result {
        Err(error) if error.kind == kind => Ok(()),
        other => other,
    }
}

/// Observes the kernel for `catalog` under its lock.
pub fn observe_kernel<H: HostMut + ?Sized>(
    host: &H,
    catalog: &RwLock<Catalog>,
) -> HostResult<(vol_core::plan::Kernel, observe::Mapped)> {
    let catalog = catalog.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    observe::kernel(host, &catalog)
}

/// Makes plans wrong before they are executed (`docs/reliability.md`, seeded defects).
#[cfg(feature = "defects")]
pub mod mutation {
    use std::cell::RefCell;
    use std::sync::atomic::AtomicBool;

    use vol_core::Plan;

    /// Whether what is planned from the devices that it concerns is planned from all there are as well, and compared (ADR 0016).
    pub static PLAN_TWICE: AtomicBool = AtomicBool::new(false);

    type Mutation = Box<dyn Fn(&mut Plan)>;

    thread_local! {
        static MUTATION: RefCell<Option<Mutation>> = const { RefCell::new(None) };
    }

    /// From now on every plan that this thread executes is put through this first.
    pub fn set(mutation: Option<Mutation>) {
        MUTATION.set(mutation);
    }

    pub(super) fn applied(plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        MUTATION.with_borrow(|mutation| mutation.as_ref().map(|mutate| mutate(&mut plan)));
        plan
    }
}
