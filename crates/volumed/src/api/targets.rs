//! The part of the seam that is about places where others want volumes to be: container orchestrators name the directories themselves.

use std::path::Path;

use vol_api::{MountInfo, SnapshotInfo, VolumeInfo};
use vol_engine::ChangedPage;
use vol_engine::host::FsUsage;
use vol_types::{MountOptions, VolumeId, VolumePath};

use super::{Change, Read};

/// A snapshot, and the id of the volume that it was taken of, which may be gone.
#[derive(Clone, Debug)]
pub struct OfVolume {
    pub snapshot: SnapshotInfo,
    pub volume: VolumeId,
}

/// A volume group of this machine that is not open: its disks are away, or it could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentVg {
    /// `None`: not known.
    pub name: Option<String>,
    /// Which it is, and why it is not open.
    pub message: String,
    /// How it comes back, and how it is forgotten.
    pub hint: String,
}

/// The rules of [`super::Backend`] hold.
pub trait Targets {
    /// The volume of this id, if there is one.
    fn volume_by_id(&self, id: VolumeId) -> Read<Option<VolumeInfo>>;
    /// Groups of this machine that are not open: what is in one of them is not found, and not gone.
    fn absent_vgs(&self) -> Read<Vec<AbsentVg>>;
    /// The snapshot of this id, if there is one.
    fn snapshot_by_id(&self, id: VolumeId) -> Read<Option<OfVolume>>;
    /// Those that have this label; with a value, only those with just that.
    fn snapshots_labelled(&self, key: &str, value: Option<&str>) -> Read<Vec<OfVolume>>;
    /// In which parts the snapshot `target` differs from `base`, a snapshot of the same pool; see [`vol_engine::Engine::changed`].
    fn changed(&self, base: Option<VolumeId>, target: VolumeId, from: u64, most: usize) -> Read<ChangedPage>;
    /// What the file system says of itself that is mounted at `at`; `None` if it is not known to be mounted there. Nothing but the file
    /// system is asked.
    fn fs_usage(&self, id: VolumeId, at: &Path) -> Read<Option<FsUsage>>;
    /// Where it is mounted just now: asks the kernel, for who decides by it; what reads tell may be a few seconds old.
    fn mounts_now(&self, id: VolumeId) -> Read<Vec<MountInfo>>;
    /// Whether its device is there just now, and if so whether only for reading.
    fn attached_now(&self, id: VolumeId) -> Read<Option<bool>>;
    /// Mounts a volume at `at`, with options for this mount besides those of its label. Mounted there already is unchanged, whatever
    /// options it has.
    fn mount_at(&self, volume: &VolumePath, at: &Path, read_only: bool, options: &MountOptions) -> Change<VolumeInfo>;
    /// Shows a volume that is mounted at `from` at `to` too. `refused` if it is not mounted at `from`.
    fn bind_volume(&self, volume: &VolumePath, from: &Path, to: &Path, read_only: bool) -> Change<VolumeInfo>;
    /// Shows the device of a raw volume that is attached at `to` too, on a file there. `refused` if it is not attached.
    fn show_device(&self, volume: &VolumePath, to: &Path) -> Change<VolumeInfo>;
    /// Unmounts a volume from this place alone; not mounted there is unchanged.
    fn unmount_at(&self, volume: &VolumePath, at: &Path) -> Change<VolumeInfo>;
    /// Removes an empty directory or file that something was mounted on; whether there was one. `busy` if something is mounted there, `refused` if
    /// something is in it, or another mount namespace has something mounted there.
    fn remove_mount_point(&self, at: &Path) -> Read<bool>;
}
