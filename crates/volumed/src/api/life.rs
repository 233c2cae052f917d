//! The part of the seam that is about what becomes of volumes and snapshots after they were made.

use vol_api::{CloneVolume, PvInfo, Relabel, Rename, SetVolume, SnapshotGroup, SnapshotInfo, SnapshotList, VolumeInfo};
use vol_types::{PvId, SnapshotPath, VolumePath};

use super::Change;

/// The rules of [`super::Backend`] hold.
pub trait Life {
    fn clone_volume(&self, request: CloneVolume, dry_run: bool) -> Change<VolumeInfo>;
    /// Of one instant; all or none.
    fn create_snapshots(&self, request: SnapshotGroup, dry_run: bool) -> Change<SnapshotList>;
    /// The answer is the volume, with what the snapshot holds; its `kept_until` is that of what it held before, which is kept as a
    /// deleted snapshot unless it is to be gone `now`.
    fn rollback(&self, snapshot: &SnapshotPath, now: bool, dry_run: bool) -> Change<VolumeInfo>;
    /// The answer is under the new name.
    fn rename_volume(&self, volume: &VolumePath, request: Rename, dry_run: bool) -> Change<VolumeInfo>;
    fn rename_snapshot(&self, snapshot: &SnapshotPath, request: Rename, dry_run: bool) -> Change<SnapshotInfo>;
    fn label_volume(&self, volume: &VolumePath, request: Relabel, dry_run: bool) -> Change<VolumeInfo>;
    fn label_snapshot(&self, snapshot: &SnapshotPath, request: Relabel, dry_run: bool) -> Change<SnapshotInfo>;
    fn label_pv(&self, id: PvId, request: Relabel, dry_run: bool) -> Change<PvInfo>;
    fn set_volume(&self, volume: &VolumePath, request: SetVolume, dry_run: bool) -> Change<VolumeInfo>;
    fn protect_volume(&self, volume: &VolumePath, protect: bool, dry_run: bool) -> Change<VolumeInfo>;
    fn protect_snapshot(&self, snapshot: &SnapshotPath, protect: bool, dry_run: bool) -> Change<SnapshotInfo>;
}
