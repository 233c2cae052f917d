//! Steps that need nothing of the session: what is done to one volume's device and file system.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use uuid::Uuid;
use vol_core::dm::{Below, Device, Table};
use vol_core::observed::{DevNumber, FsCheck, FsVerdict, Mount, Probe, TargetLine};
use vol_core::step::{Action, Requirement, Step};
use vol_types::{Bytes, FsKind, PoolId, PvId, VolumeId, defect};

use vol_core::Catalog;

use super::{LET_GO_STEP, LET_GO_TRIES, UNMOUNT_TRIES, missing, tolerate};
use crate::error::StepError;
use crate::host::{BindCall, DmCreate, HostErrorKind, HostMut, MountCall, NodeCall};
use crate::links;

/// While a pool's table is swapped the pool is suspended, and the kernel loads no table of a thin volume in it (`dm-thin.c`,
/// `thin_ctr`, *Unable to activate thin device while pool is suspended*): the two take turns.
///
/// It is taken last: who has it waits for nothing but the kernel.
#[derive(Debug, Default)]
pub struct Gates(Mutex<BTreeMap<PoolId, Arc<RwLock<()>>>>);

impl Gates {
    fn of(&self, pool: PoolId) -> Arc<RwLock<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(pool).or_default().clone()
    }
    /// Does `work` while no table of the pool is swapped.
    fn through<T>(&self, table: &Table, work: impl FnOnce() -> T) -> T {
        match table {
            Table::Thin { pool: Device::Pool(pool), .. } => {
                let gate = self.of(*pool);
                let _open = gate.read().unwrap_or_else(PoisonError::into_inner);
                work()
            }
            _ => work(),
        }
    }
    /// Swaps a table with `work`; if it is a pool's, no table of a volume in it is loaded meanwhile.
    pub(super) fn closed<T>(&self, device: Device, table: &Table, work: impl FnOnce() -> T) -> T {
        match device {
            Device::Pool(pool) => {
                let gate = self.of(pool);
                let _closed = gate.write().unwrap_or_else(PoisonError::into_inner);
                work()
            }
            _ => self.through(table, work),
        }
    }
}

/// Carries out steps without the session.
pub struct Apart<'a, H: ?Sized> {
    pub host: &'a H,
    pub gates: &'a Gates,
    pub pv_number: &'a dyn Fn(PvId) -> Option<DevNumber>,
    pub catalog: &'a RwLock<Catalog>,
}

impl<H: HostMut + ?Sized> Apart<'_, H> {
    pub fn step(&self, step: &Step) -> Result<(), StepError> {
        for requirement in step.requires.iter().filter(|_| !defect("preconditions are not looked at")) {
            if !self.holds(requirement)? {
                return Err(StepError::Requirement(requirement.to_string()));
            }
        }
        self.act(&step.action)
    }

    pub fn holds(&self, requirement: &Requirement) -> Result<bool, StepError> {
        let dm = |device: &Device| self.host.dm_device(&device.uuid());
        Ok(match requirement {
            Requirement::Absent(device) => dm(device)?.is_none(),
            Requirement::Active(device) => dm(device)?.is_some_and(|info| info.live_table && !info.suspended),
            Requirement::NotOpen(device) => self.let_go(*device)?,
            Requirement::ProbesEmpty(volume) => self.is_blank(*volume)?,
            Requirement::NothingMountedAt(path) => !self.host.mounts()?.iter().any(|mount| mount.target == *path),
            Requirement::NoFileAt(path) => !self.host.path_exists(path)?,
            Requirement::PoolAt { .. }
            | Requirement::MetadataWritten { .. }
            | Requirement::Unchanged { .. }
            | Requirement::EveryCopyWritten => return Err(not_apart(&requirement.to_string())),
        })
    }

    pub fn act(&self, action: &Action) -> Result<(), StepError> {
        match action {
            Action::CreateDm { device, table, read_only } => {
                let lines = self.lines(table)?;
                let call = DmCreate {
                    name: device.name(),
                    uuid: device.uuid(),
                    table: lines,
                    read_only: *read_only,
                    private: device.is_private(),
                    link: self.link_of(*device),
                };
                self.gates.through(table, || self.host.dm_create(&call))?;
                // Who renamed it meanwhile may not have seen it.
                match self.link_of(*device) {
                    Some(now) if call.link.as_ref() != Some(&now) => links::set(self.host, *device, &now),
                    _ => {}
                }
            }
            Action::ReloadDm { device, table } => {
                let lines = self.lines(table)?;
                self.gates.closed(*device, table, || self.host.dm_reload(&device.uuid(), &lines))?;
            }
            Action::RemoveDm { device } => tolerate(self.host.dm_remove(&device.uuid()), HostErrorKind::NotFound)?,
            Action::ReleaseDm { device } => self.release(*device)?,
            Action::ResumeDm { device } => self.host.dm_resume(&device.uuid())?,
            Action::Mkfs { volume, fs, uuid, options } => {
                let device = Device::Volume(*volume);
                let number = self.volume_number(*volume)?;
                self.host.mkfs(number, &device.uuid(), *fs, Uuid::from_bytes(*uuid), options)?;
            }
            Action::PrepareRoot { volume, fs, root } => {
                let number = self.volume_number(*volume)?;
                self.host.fs_prepare_root(number, &Device::Volume(*volume).uuid(), *fs, root)?;
            }
            Action::VerifyFs { volume, fs, uuid } => self.verify_fs(*volume, *fs, *uuid)?,
            Action::Mount {
                volume,
                fs,
                subdir,
                target,
                sealed,
                read_only,
                allow_same_uuid,
                no_replay,
                options,
                ..
            } => {
                self.host.mount(&MountCall {
                    dev: self.volume_number(*volume)?,
                    fs: *fs,
                    subdir: subdir.clone(),
                    target: target.clone(),
                    sealed: *sealed,
                    read_only: *read_only,
                    allow_same_uuid: *allow_same_uuid,
                    no_replay: *no_replay,
                    options: options.clone(),
                })?;
            }
            Action::Bind { volume, from, target, read_only, .. } => self.host.bind(&BindCall {
                dev: self.volume_number(*volume)?,
                from: from.clone(),
                target: target.clone(),
                read_only: *read_only,
            })?,
            Action::ShowNode { volume, target, read_only, .. } => self.host.show_node(&NodeCall {
                dev: self.volume_number(*volume)?,
                dm_uuid: Device::Volume(*volume).uuid(),
                target: target.clone(),
                read_only: *read_only,
            })?,
            Action::Unmount { mount } => self.unmount(mount)?,
            Action::RemoveMountPoint { path } => match self.host.remove_mount_point(path) {
                Err(error) if error.kind != HostErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a mount point is left behind");
                }
                _ => {}
            },
            Action::CheckFs { volume, fs, how, if_marked } => self.check_fs(*volume, *fs, *how, *if_marked)?,
            Action::GrowFs { volume, fs, target, must } => match self.grow_fs(*volume, *fs, target) {
                Err(error) if !*must => {
                    tracing::warn!(volume = %volume, %error, "the file system stays smaller than its device for now");
                }
                other => other?,
            },
            other => return Err(not_apart(other.kind())),
        }
        Ok(())
    }

    /// As numbers, names are those of the moment.
    fn link_of(&self, device: Device) -> Option<String> {
        links::of(&self.catalog.read().unwrap_or_else(PoisonError::into_inner), device)
    }

    pub fn number(&self, below: Below) -> Option<DevNumber> {
        match below {
            Below::Pv(id) => (self.pv_number)(id),
            Below::Dm(device) => self.host.dm_device(&device.uuid()).ok().flatten().map(|info| info.dev),
        }
    }

    fn lines(&self, table: &Table) -> Result<Vec<TargetLine>, StepError> {
        table.resolve(|below| self.number(below)).map_err(|below| StepError::Missing(below.to_string()))
    }

    fn volume_number(&self, volume: VolumeId) -> Result<DevNumber, StepError> {
        let device = Device::Volume(volume);
        self.number(Below::Dm(device)).ok_or_else(|| missing(&device.name()))
    }

    /// Whether a new volume has nothing on it: the veto before mkfs, which says what it is about.
    fn is_blank(&self, volume: VolumeId) -> Result<bool, StepError> {
        let found = match self.host.probe(self.volume_number(volume)?)? {
            Probe::Nothing => return Ok(true),
            Probe::Found { kind, .. } => format!("a signature of {kind}"),
            Probe::Ambivalent => "several signatures that contradict each other".to_owned(),
        };
        Err(StepError::NotBlank(found))
    }

    fn verify_fs(&self, volume: VolumeId, fs: FsKind, uuid: [u8; 16]) -> Result<(), StepError> {
        if defect("what mkfs left is not looked at") {
            return Ok(());
        }
        let wanted = Uuid::from_bytes(uuid);
        match self.host.probe(self.volume_number(volume)?)? {
            Probe::Found { kind, uuid: Some(found) }
                if kind == fs.as_str() && Uuid::parse_str(&found).is_ok_and(|found| found == wanted) =>
            {
                Ok(())
            }
            other => Err(StepError::Probe(format!(
                "mkfs reported success, but the device does not hold {} with UUID {wanted}: {other:?}",
                fs.as_str()
            ))),
        }
    }

    /// Waits for openers that go away by themselves: udev opens a device for a moment whenever it was written to.
    fn let_go(&self, device: Device) -> Result<bool, StepError> {
        for _ in 0..LET_GO_TRIES {
            match self.host.dm_device(&device.uuid())? {
                Some(info) if info.open_count > 0 => self.host.pause(LET_GO_STEP),
                _ => return Ok(true),
            }
        }
        let Some(info) = self.host.dm_device(&device.uuid())? else { return Ok(true) };
        if info.open_count == 0 {
            return Ok(true);
        }
        let holders = self.host.holders(info.dev);
        let by = if holders.is_empty() { "somebody".to_owned() } else { holders.join(", ") };
        Err(StepError::InUse(format!("{} is held open by {by}", info.name)))
    }

    fn unmount(&self, mount: &Mount) -> Result<(), StepError> {
        let mut outcome = self.host.unmount(mount);
        let mut nested = Vec::new();
        for _ in 0..UNMOUNT_TRIES {
            match &outcome {
                Err(error) if error.kind == HostErrorKind::Busy => nested = self.nested_mounts(mount)?,
                _ => break,
            }
            if !nested.is_empty() {
                break;
            }
            self.host.pause(LET_GO_STEP);
            outcome = self.host.unmount(mount);
        }
        match outcome {
            Err(error) if error.kind == HostErrorKind::Busy => {
                let itself = format!("mounted at {}", mount.target.display());
                let holders = self.host.holders(mount.dev).into_iter().filter(|holder| *holder != itself);
                let by: Vec<_> = nested.into_iter().chain(holders).collect();
                let by = if by.is_empty() { "a process that could not be found".to_owned() } else { by.join(", ") };
                Err(StepError::InUse(format!("{} is in use by {by}", mount.target.display())))
            }
            other => Ok(other?),
        }
    }

    fn nested_mounts(&self, mount: &Mount) -> Result<Vec<String>, StepError> {
        let inside = |other: &Mount| other.target != mount.target && other.target.starts_with(&mount.target);
        let mounts = self.host.mounts()?;
        Ok(mounts
            .iter()
            .filter(|other| inside(other))
            .map(|other| format!("the mount at {}", other.target.display()))
            .collect())
    }

    fn release(&self, device: Device) -> Result<(), StepError> {
        match self.host.dm_remove(&device.uuid()) {
            Err(error) if error.kind == HostErrorKind::Busy => {
                tracing::info!(device = device.name(), %error, "it stays active: somebody else has it open");
                Ok(())
            }
            other => Ok(tolerate(other, HostErrorKind::NotFound)?),
        }
    }

    fn check_fs(&self, volume: VolumeId, fs: FsKind, how: FsCheck, if_marked: bool) -> Result<(), StepError> {
        let device = Device::Volume(volume);
        let number = self.volume_number(volume)?;
        // A superblock that cannot be read is for the tool, or the mount, to complain about.
        if if_marked && !self.host.fs_state(number, fs, None).is_ok_and(|state| state.errors) {
            return Ok(());
        }
        tracing::info!(volume = %volume, fs = fs.as_str(), "the file system is checked");
        match self.host.fs_check(number, &device.uuid(), fs, how)? {
            FsVerdict::Clean => Ok(()),
            FsVerdict::Corrected(said) => {
                tracing::warn!(volume = %volume, said, "the file system had errors, which were put right");
                Ok(())
            }
            FsVerdict::Damaged(said) => {
                Err(StepError::Damaged(format!("the {} has errors that are left as they are: {said}", fs.as_str())))
            }
        }
    }

    fn grow_fs(&self, volume: VolumeId, fs: FsKind, target: &Path) -> Result<(), StepError> {
        let device = Device::Volume(volume);
        let info = self.host.dm_device(&device.uuid())?.ok_or_else(|| missing(&device.name()))?;
        let is_smaller = match self.host.fs_state(info.dev, fs, Some(target)) {
            Ok(state) => vol_core::plan::fs::is_smaller(state, info.len.to_bytes().unwrap_or(Bytes::ZERO)),
            Err(error) => {
                tracing::debug!(volume = %volume, %error, "how large the file system is cannot be told");
                true
            }
        };
        if is_smaller {
            self.host.fs_grow(info.dev, &device.uuid(), fs, target)?;
        }
        Ok(())
    }
}

/// A defect: such a step is never planned for being carried out apart.
fn not_apart(what: &str) -> StepError {
    missing(&format!("the session for {what}"))
}
