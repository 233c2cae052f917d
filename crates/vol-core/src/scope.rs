//! What a plan works on, and which of its steps need nobody else to stand still.
//!
//! Independent work inside a VG runs side by side (design law 9, `docs/concurrency.md`). Whether two plans are independent is read
//! off the plans themselves, so that no planner can forget to say it: every action names the objects that it touches.

use std::collections::BTreeSet;
use std::path::PathBuf;

use vol_types::{Change, ObjectKey, PoolId, VolumeId};

use crate::dm::Device;
use crate::plan::Plan;
use crate::step::Action;

/// What a plan works on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Objects whose records or devices it changes, or that must stay as they are meanwhile.
    pub objects: BTreeSet<ObjectKey>,
    /// Directories where it mounts something, or from where it unmounts.
    pub mount_points: BTreeSet<PathBuf>,
    /// Pools whose devices it takes away from under their volumes.
    pub pools_down: BTreeSet<PoolId>,
    /// Besides it changes what the VG is made of, or a disk.
    wider: bool,
}

impl Scope {
    /// Whether it works on nothing but volumes.
    pub fn is_of_volumes(&self) -> bool {
        let volume = |object: &ObjectKey| matches!(object, ObjectKey::Volume(_));
        !self.wider && self.pools_down.is_empty() && self.objects.iter().all(volume)
    }

    fn volume(&mut self, id: VolumeId) {
        self.objects.insert(ObjectKey::Volume(id));
    }

    fn pool(&mut self, id: PoolId) {
        self.objects.insert(ObjectKey::Pool(id));
    }

    fn device(&mut self, device: Device) {
        match device {
            Device::PoolMetadata(id) | Device::PoolData(id) | Device::PoolSpare(id) | Device::Pool(id) => self.pool(id),
            Device::Volume(id) | Device::Filling(id) | Device::CopySource(id) => self.volume(id),
        }
    }

    fn add(&mut self, action: &Action) {
        match action {
            Action::CreateFile { .. }
            | Action::AttachLoop { .. }
            | Action::DetachLoop { .. }
            | Action::DeleteFile { .. }
            | Action::RememberFiles { .. }
            | Action::WipeSignatures { .. }
            | Action::OpenPv { .. }
            | Action::StartStore { .. }
            | Action::WriteLabel { .. }
            | Action::WriteMark { .. }
            | Action::EraseMark { .. }
            | Action::EraseLabel { .. }
            | Action::RefreshLabel { .. }
            | Action::AdmitCopy { .. }
            | Action::DeclareLost { .. }
            | Action::ClosePv { .. }
            | Action::Imprint { .. }
            | Action::OpenStore => self.wider = true,
            Action::Commit { changes } | Action::CommitLater { changes } => {
                self.objects.extend(changes.iter().map(Change::key));
            }
            Action::RemoveDm { device } | Action::ReleaseDm { device } => {
                self.device(*device);
                if let Device::PoolMetadata(id) | Device::PoolData(id) | Device::Pool(id) = device {
                    self.pools_down.insert(*id);
                }
            }
            Action::CreateDm { device, .. }
            | Action::ReloadDm { device, .. }
            | Action::ResumeDm { device }
            | Action::ZeroStart { device, .. } => self.device(*device),
            Action::CreateThin { pool, .. }
            | Action::DeleteThin { pool, .. }
            | Action::SetTransaction { pool, .. }
            | Action::CheckPool { pool, .. }
            | Action::CheckThin { pool, .. }
            | Action::ClearNeedsCheck { pool }
            | Action::RepairThin { pool, .. }
            | Action::CheckPoolSize { pool, .. } => self.pool(*pool),
            Action::SnapshotThin { pool, snapshots } => {
                self.pool(*pool);
                snapshots.iter().filter_map(|one| one.origin).for_each(|origin| self.device(origin));
            }
            Action::Fill { volume, .. }
            | Action::Mkfs { volume, .. }
            | Action::PrepareRoot { volume, .. }
            | Action::VerifyFs { volume, .. }
            | Action::CheckFs { volume, .. } => self.volume(*volume),
            Action::Mount { volume, target, .. }
            | Action::Bind { volume, target, .. }
            | Action::ShowNode { volume, target, .. }
            | Action::GrowFs { volume, target, .. } => {
                self.volume(*volume);
                self.mount_points.insert(target.clone());
            }
            Action::Unmount { mount } => drop(self.mount_points.insert(mount.target.clone())),
            Action::RemoveMountPoint { path } => drop(self.mount_points.insert(path.clone())),
        }
    }
}

impl Plan {
    /// What it works on.
    pub fn scope(&self) -> Scope {
        let mut scope = Scope::default();
        self.steps.iter().for_each(|step| scope.add(&step.action));
        scope
    }

    /// Whether others may change the rest of the VG while its steps apart are carried out: it works on nothing but volumes, and
    /// has such steps. What it takes for itself (a name, space, a promise of the pool) it takes by commits before the first of them.
    pub fn goes_apart(&self) -> bool {
        self.scope().is_of_volumes() && self.steps.iter().any(|step| step.action.is_apart())
    }
}

impl Action {
    /// Whether it needs nothing but the volume that it is about: a tool at work on its file system, or its device.
    pub const fn is_apart(&self) -> bool {
        match self {
            Self::Mkfs { .. }
            | Self::PrepareRoot { .. }
            | Self::VerifyFs { .. }
            | Self::CheckFs { .. }
            | Self::GrowFs { .. }
            | Self::Mount { .. }
            | Self::Bind { .. }
            | Self::ShowNode { .. }
            | Self::Unmount { .. }
            | Self::RemoveMountPoint { .. } => true,
            Self::CreateDm { device, .. }
            | Self::ReloadDm { device, .. }
            | Self::RemoveDm { device }
            | Self::ReleaseDm { device }
            | Self::ResumeDm { device } => matches!(device, Device::Volume(_)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use vol_types::{FsKind, IntentId};

    use super::*;
    use crate::step::SnapshotOf;

    fn uuid(n: u128) -> uuid::Uuid {
        uuid::Uuid::from_u128(n)
    }
    fn volume(n: u128) -> VolumeId {
        VolumeId::from_uuid(uuid(n))
    }
    fn pool() -> PoolId {
        PoolId::from_uuid(uuid(99))
    }
    fn plan(actions: Vec<Action>) -> Plan {
        let mut plan = Plan::new("test");
        actions.into_iter().for_each(|action| plan.push(action));
        plan
    }
    fn check(n: u128) -> Action {
        let how = crate::observed::FsCheck::Look;
        Action::CheckFs { volume: volume(n), fs: FsKind::Ext4, how, if_marked: false }
    }

    #[test]
    fn work_on_a_volume_goes_apart_and_what_touches_its_pool_does_not() {
        let gone = Action::Commit { changes: vec![Change::Delete(ObjectKey::Volume(volume(1)))] };
        assert!(plan(vec![check(1), gone.clone()]).goes_apart());
        assert!(!plan(vec![gone.clone()]).goes_apart(), "there is nothing to go apart for");
        for other in [
            Action::Commit { changes: vec![Change::Delete(ObjectKey::Intent(IntentId::from_uuid(uuid(5))))] },
            Action::DeleteThin { pool: pool(), thin_id: 1, absent_ok: true },
            Action::RemoveDm { device: Device::Pool(pool()) },
            Action::OpenStore,
        ] {
            assert!(!plan(vec![check(1), gone.clone(), other.clone()]).goes_apart(), "{other:?}");
        }
    }

    #[test]
    fn a_scope_names_the_origins_of_snapshots_and_the_pools_that_are_taken_down() {
        let snapshots = vec![SnapshotOf { origin: Some(Device::Volume(volume(7))), origin_thin_id: 1, thin_id: 2 }];
        let scope = plan(vec![
            Action::SnapshotThin { pool: pool(), snapshots },
            Action::RemoveDm { device: Device::PoolData(pool()) },
        ])
        .scope();
        assert_eq!(scope.objects, [ObjectKey::Pool(pool()), ObjectKey::Volume(volume(7))].into());
        assert_eq!(scope.pools_down, [pool()].into());
        assert!(
            plan(vec![Action::ReloadDm { device: Device::Pool(pool()), table: crate::dm::Table::Linear(Vec::new()) }])
                .scope()
                .pools_down
                .is_empty()
        );
    }
}
