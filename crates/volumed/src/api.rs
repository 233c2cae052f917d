//! What the front asks of the engine: the seam between this crate's server and `backend`.
//!
//! Methods block; the server calls each on a thread of its own. Rules for an implementation:
//! - a read is answered from memory and waits for no change (design law 8);
//! - a change queues with others on the same object and is one effect however often it is asked (law 9); with
//!   `dry_run` it answers the plan that would run and changes nothing;
//! - names in paths are checked before the call; texts inside a request are not: `vol_api::parse_field` does it;
//! - a panic is caught by the server and answered as `internal`, so locks must not be left poisoned for good.

use std::sync::Arc;

use vol_api::backup::Backup;
use vol_api::{
    ApiError, Changed, CheckVolume, CreatePool, CreateSnapshot, CreateVg, CreateVolume, DeletedInfo, Df, ExtendPool,
    ExtendVg, GiveUpPool, ImportClone, Init, InitInfo, JobInfo, Mount, PoolCheckInfo, PoolInfo, PoolRepairInfo,
    Problem, Purged, PvCheck, PvInfo, ReduceVg, RenameVg, ResizeVolume, RestoreVg, ScanInfo, ScanRequest, SetPool,
    SnapshotInfo, Status, TrimInfo, VgInfo, VolumeInfo, WipePv,
};
use vol_types::{Name, PoolPath, PvId, Selector, SnapshotPath, VolumeId, VolumePath};

use crate::metrics::Page;

mod life;
mod refs;
mod rows;
mod targets;

pub use life::Life;
pub use refs::Refs;
pub use rows::VolumeRows;
pub use targets::{AbsentVg, OfVolume, Targets};

/// A read's answer.
pub type Read<T> = Result<T, ApiError>;
/// A change's answer: what was done, or the plan.
pub type Change<T> = Result<Changed<T>, ApiError>;

/// What is served, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub vgs: u64,
    pub volumes: u64,
    pub snapshots: u64,
    pub problems: u64,
}

/// A problem that there is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The same for the same problem of the same object, also if its message changes, as that of a pool that fills does.
    pub key: String,
    /// `VG`, `VG/NAME`, `VG/VOLUME@SNAPSHOT` or the id of a PV; `None` for the machine as a whole.
    pub object: Option<String>,
    pub problem: Problem,
}

/// Hears what happens without being asked for. Nothing here may wait.
pub trait Listener: Send + Sync + 'static {
    /// All problems that there are now; called every few seconds.
    fn problems(&self, all: Vec<Standing>);
    /// Somebody is at a job, for the first time in this run of the daemon.
    fn job_begun(&self, job: JobInfo);
    fn job_ended(&self, job: JobInfo);
    /// By itself.
    fn pool_grown(&self, pool: String, message: String);
}

/// The engine as the server sees it. Lists take the VG to keep to; one that does not exist is `not_found`.
pub trait Backend: Life + Refs + Targets + Send + Sync + 'static {
    /// Takes each lock that a read takes, and looks whether the threads in the background still run. It hangs if one of the locks is
    /// never given back, and waits for no change, no disk and no device.
    ///
    /// # Errors
    /// What has ended that should run.
    fn alive(&self) -> Result<Summary, String>;

    /// [`Status::metrics_listen`] and problems of the server itself are added by the server.
    fn status(&self) -> Read<Status>;
    /// What is left of devices and mounts that should not be. Asks the kernel, and may take a second.
    fn doctor(&self) -> Read<Vec<vol_api::Finding>> {
        Ok(Vec::new())
    }
    /// Takes over what of a configuration can change while the daemon runs.
    fn reconfigure(&self, _config: &crate::config::Config) {}
    fn df(&self) -> Read<Df>;
    /// Adds what there is to measure, with every scrape of `/metrics`: from memory, without waiting for anything.
    fn measure(&self, page: &mut Page);

    fn vgs(&self) -> Read<Vec<VgInfo>>;
    fn vg(&self, vg: &Name) -> Read<VgInfo>;
    fn pvs(&self, vg: Option<&Name>) -> Read<Vec<PvInfo>>;
    fn pv(&self, id: PvId) -> Read<PvInfo>;
    /// Reads the PV again; nothing is changed.
    fn check_pv(&self, id: PvId) -> Read<PvCheck>;
    fn pools(&self, vg: Option<&Name>) -> Read<Vec<PoolInfo>>;
    fn pool(&self, pool: &PoolPath) -> Read<PoolInfo>;
    fn volumes(&self, vg: Option<&Name>) -> Read<Vec<VolumeInfo>>;
    /// The same whose labels fit, not made as a list: each is shown when the answer is written.
    fn volume_rows(&self, vg: Option<&Name>, selector: Selector) -> Read<VolumeRows>;
    fn volume(&self, volume: &VolumePath) -> Read<VolumeInfo>;
    /// The volumes that have this label; with a value, only those with just that.
    fn volumes_labelled(&self, key: &str, value: Option<&str>) -> Read<Vec<VolumeInfo>> {
        let mut all = self.volumes(None)?;
        all.retain(|one| one.labels.get(key).is_some_and(|label| value.is_none_or(|value| value == label)));
        Ok(all)
    }
    /// Somebody waits for this volume: of those that are still to be formatted it is next.
    fn hurry(&self, _volume: VolumeId) {}
    fn snapshots(&self, vg: Option<&Name>) -> Read<Vec<SnapshotInfo>>;
    /// Volumes and snapshots that were deleted and are kept for a while.
    fn deleted(&self, vg: Option<&Name>) -> Read<Vec<DeletedInfo>>;
    fn snapshot(&self, snapshot: &SnapshotPath) -> Read<SnapshotInfo>;

    /// From the pool's own metadata, so it may take seconds; no change waits for it.
    fn pool_usage(&self, pool: &PoolPath) -> Read<vol_api::PoolUsage>;
    /// As [`Backend::pool_usage`], of one volume and its snapshots.
    fn volume_usage(&self, volume: &VolumePath) -> Read<vol_api::VolumeUsage>;
    fn vg_map(&self, vg: &Name) -> Read<vol_api::VgMap>;

    fn create_vg(&self, request: CreateVg, dry_run: bool) -> Change<VgInfo>;
    fn delete_vg(&self, vg: &Name, dry_run: bool) -> Change<VgInfo>;
    fn extend_vg(&self, vg: &Name, request: ExtendVg, dry_run: bool) -> Change<VgInfo>;
    fn reduce_vg(&self, vg: &Name, request: ReduceVg, dry_run: bool) -> Change<VgInfo>;
    /// Mounted volumes do not notice.
    fn rename_vg(&self, vg: &Name, request: RenameVg, dry_run: bool) -> Change<VgInfo>;
    fn export_vg(&self, vg: &Name, dry_run: bool) -> Change<VgInfo>;
    fn import_vg(&self, vg: &Name, dry_run: bool) -> Change<VgInfo>;
    /// All of it at one moment; refused while something is half done.
    fn backup_vg(&self, vg: &Name) -> Read<Backup>;
    fn restore_vg(&self, request: RestoreVg, dry_run: bool) -> Change<VgInfo>;
    fn import_clone(&self, request: ImportClone, dry_run: bool) -> Change<VgInfo>;
    /// The answer is the PV as it was.
    fn wipe_pv(&self, request: WipePv, dry_run: bool) -> Change<PvInfo>;
    /// A pool of which a disk is gone, with everything in it.
    fn give_up_pool(&self, pool: &PoolPath, request: GiveUpPool, dry_run: bool) -> Change<PoolInfo>;
    fn create_pool(&self, request: CreatePool, dry_run: bool) -> Change<PoolInfo>;
    fn extend_pool(&self, pool: &PoolPath, request: ExtendPool, dry_run: bool) -> Change<PoolInfo>;
    fn set_pool(&self, pool: &PoolPath, request: SetPool, dry_run: bool) -> Change<PoolInfo>;
    fn delete_pool(&self, pool: &PoolPath, dry_run: bool) -> Change<PoolInfo>;
    /// Damage is `degraded`.
    fn check_pool(&self, pool: &PoolPath, request: vol_api::CheckPool, dry_run: bool) -> Change<PoolCheckInfo>;
    fn repair_pool(&self, pool: &PoolPath, request: vol_api::RepairPool, dry_run: bool) -> Change<PoolRepairInfo>;
    fn create_volume(&self, request: CreateVolume, dry_run: bool) -> Change<VolumeInfo>;
    fn mount_volume(&self, volume: &VolumePath, request: Mount, dry_run: bool) -> Change<VolumeInfo>;
    /// From every place where it is mounted; not mounted is unchanged. `busy` while a container engine needs it, as is detaching it,
    /// deleting it, and rolling it back.
    fn unmount_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo>;
    /// Makes the device of a raw volume; where it is stands in the answer's `device`.
    fn attach_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo>;
    /// As [`Backend::attach_volume`], but the device cannot be written to; of a volume in a refused pool too.
    fn attach_volume_read_only(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo>;
    /// Takes the device away again; not attached is unchanged.
    fn detach_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo>;
    /// Kept for a while, unless `now` or the configuration say otherwise.
    fn delete_volume(&self, volume: &VolumePath, now: bool, dry_run: bool) -> Change<VolumeInfo>;
    /// Takes back the last deletion of a volume of this name.
    fn undelete_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo>;
    /// Grows a volume with its file system.
    fn resize_volume(&self, volume: &VolumePath, request: ResizeVolume, dry_run: bool) -> Change<VolumeInfo>;
    /// Of a volume that is not mounted. Errors that are left are `degraded`.
    fn check_volume(&self, volume: &VolumePath, request: CheckVolume, dry_run: bool) -> Change<VolumeInfo>;
    /// Of a volume that is mounted writable.
    fn trim_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<TrimInfo>;
    fn create_snapshot(&self, request: CreateSnapshot, dry_run: bool) -> Change<SnapshotInfo>;
    fn mount_snapshot(&self, snapshot: &SnapshotPath, request: Mount, dry_run: bool) -> Change<SnapshotInfo>;
    fn unmount_snapshot(&self, snapshot: &SnapshotPath, dry_run: bool) -> Change<SnapshotInfo>;
    /// As [`Backend::delete_volume`].
    fn delete_snapshot(&self, snapshot: &SnapshotPath, now: bool, dry_run: bool) -> Change<SnapshotInfo>;
    fn undelete_snapshot(&self, snapshot: &SnapshotPath, dry_run: bool) -> Change<SnapshotInfo>;
    /// Deletes for good what is kept in a pool.
    fn purge_pool(&self, pool: &PoolPath, dry_run: bool) -> Change<Purged>;
    fn init(&self, request: Init, dry_run: bool) -> Change<InitInfo>;
    fn scan(&self, request: ScanRequest, dry_run: bool) -> Change<ScanInfo>;

    /// What takes long: what has not ended, then what ended a short while ago.
    fn jobs(&self) -> Read<Vec<JobInfo>>;
    /// One that is not known any more is `not_found`.
    fn job(&self, id: &str) -> Read<JobInfo>;
    /// What it had taken is taken back; what cannot be cancelled is `refused` and goes on.
    fn cancel_job(&self, id: &str, dry_run: bool) -> Change<JobInfo>;
    /// Tells `listener` from now on what happens. Called once.
    fn listen(&self, listener: Arc<dyn Listener>);

    /// Called once when the daemon is to end: what takes long is left to the next start.
    fn stopping(&self) {}
    /// Called once before the daemon ends, after the running changes or their time limit. Changes nothing in the kernel.
    fn stop(&self) {}
}
