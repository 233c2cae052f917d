//! What the daemon tells about its objects. See the crate's head for the rules of keys, sizes and times.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// How an object fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    #[default]
    Ok,
    /// It works; redundancy, capacity or a part is missing.
    Degraded,
    /// It does not work.
    Failed,
}

impl Health {
    /// The word as it stands in the JSON and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Stable word for programs, for example `pv_missing`.
    pub code: String,
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// Where in its life an object is; only `ready` ones can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectState {
    Creating,
    #[default]
    Ready,
    Deleting,
    /// A volume or snapshot that was deleted and is kept for a while.
    Deleted,
    /// A volume group that is meant for another machine.
    Exported,
}

impl ObjectState {
    /// The word as it stands in the JSON and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Exported => "exported",
        }
    }
}

/// A volume group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VgInfo {
    #[schemars(with = "schema::Id")]
    pub id: String,
    pub name: String,
    pub state: ObjectState,
    pub health: Health,
    pub problems: Vec<Problem>,
    pub extent_size_bytes: u64,
    pub sector_size_bytes: u64,
    /// All extents of all PVs.
    pub size_bytes: u64,
    /// Extents that nothing uses.
    pub free_bytes: u64,
    pub pv_count: u64,
    pub pool_count: u64,
    pub volume_count: u64,
    pub snapshot_count: u64,
    /// How many PVs should carry a copy of the metadata.
    pub metadata_copies: u16,
    /// Sequence number of the newest commit.
    pub sequence: u64,
    #[schemars(with = "schema::Time")]
    pub created_at: String,
}

/// A physical volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PvInfo {
    #[schemars(with = "schema::Id")]
    pub id: String,
    /// Name of its VG.
    pub vg: String,
    /// True for a disk that carries a label of the VG, which does not know it (any more).
    #[serde(default)]
    pub unknown: bool,
    /// Where the kernel shows it now; `null` while it is missing.
    pub path: Option<String>,
    pub present: bool,
    /// Size of the extents.
    pub size_bytes: u64,
    pub free_bytes: u64,
    pub extent_count: u64,
    pub free_extents: u64,
    /// Whether it carries a copy of the metadata.
    pub metadata_copy: bool,
    /// The file behind it, if the daemon made one.
    pub backing_file: Option<String>,
    /// WWID or serial; `null` if it has none.
    pub hardware_id: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub health: Health,
    pub problems: Vec<Problem>,
}

/// One thing that was found on a physical volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckFinding {
    /// `ok`, `note` or `damage`.
    pub severity: String,
    /// Stable word for programs; docs/inspection.md explains each.
    pub code: String,
    /// Invariant of the on-disk format that it is about, for example `FMT-16`.
    pub rule: Option<String>,
    pub message: String,
    /// What to do; empty if there is nothing to do.
    pub hint: String,
    /// Where on the device.
    pub offset_bytes: Option<u64>,
}

/// What reading a physical volume again found (`GET /v1/pvs/ID/check`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PvCheck {
    /// Where it stands; `null` while it is missing.
    pub path: Option<String>,
    /// `null` if it has no label.
    pub id: Option<String>,
    /// Name of its VG.
    pub vg: Option<String>,
    /// The last commit that its copy of the metadata has; `null` if it carries none.
    pub sequence: Option<u64>,
    /// The worst of the findings.
    pub severity: String,
    /// Worst first.
    pub findings: Vec<CheckFinding>,
}

/// What a thin pool does with writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolMode {
    ReadWrite,
    ReadOnly,
    OutOfDataSpace,
    Failed,
}

impl PoolMode {
    /// The word as it stands in the JSON and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read_write",
            Self::ReadOnly => "read_only",
            Self::OutOfDataSpace => "out_of_data_space",
            Self::Failed => "failed",
        }
    }
}

/// A thin pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolInfo {
    #[schemars(with = "schema::Id")]
    pub id: String,
    pub vg: String,
    pub name: String,
    pub state: ObjectState,
    pub health: Health,
    pub problems: Vec<Problem>,
    /// Size of the data.
    pub size_bytes: u64,
    /// `null` while the kernel has not told it.
    pub used_bytes: Option<u64>,
    pub chunk_size_bytes: u64,
    pub metadata_size_bytes: u64,
    pub metadata_used_bytes: Option<u64>,
    /// What of its free space is set aside for volumes with a reserve.
    #[serde(default)]
    pub set_aside_bytes: u64,
    /// Sum of the sizes of its volumes; snapshots are read-only and do not count.
    pub virtual_bytes: u64,
    /// `virtual_bytes` as a share of `size_bytes`.
    pub overcommit_percent: u64,
    pub overcommit_limit_percent: u64,
    pub transaction_id: u64,
    /// Snapshots made in the pool's life: the larger of our count and the kernel's clock.
    #[serde(default)]
    pub snapshot_clock: u64,
    pub mode: Option<PoolMode>,
    pub volume_count: u64,
    pub snapshot_count: u64,
    /// Volumes and snapshots that were deleted and are kept for a while.
    #[serde(default)]
    pub deleted_count: u64,
    #[schemars(with = "schema::Time")]
    pub created_at: String,
    /// How far it grows by itself: `vg` (as far as the VG has space), `up_to` or `off`.
    #[serde(default)]
    pub growth: String,
    /// With `up_to`: the bound.
    #[serde(default)]
    pub growth_limit_bytes: Option<u64>,
    /// How much it may still grow by itself; several pools of a VG may count on the same space.
    #[serde(default)]
    pub growable_bytes: u64,
    /// `queue` or `error`.
    #[serde(default)]
    pub when_full: String,
    /// With no more than this share of its data free, what it may still grow by included, it makes no new volumes and snapshots.
    #[serde(default)]
    pub reserve_percent: u64,
    /// Metadata that a repair replaced and that are kept, in bytes; zero for none.
    pub original_metadata_bytes: u64,
    /// It is down while its metadata are checked or repaired.
    pub in_repair: bool,
    /// The PVs that it may lie on (where they stand, or their ids); all if absent.
    #[serde(default)]
    pub on: Vec<String>,
    /// PVs that it may not lie on.
    #[serde(default)]
    pub not_on: Vec<String>,
    /// Labels that a PV must have for it to lie there.
    #[serde(default)]
    pub on_labels: BTreeMap<String, String>,
    /// How fast it fills (negative: empties), as seen over up to an hour; `null` until it was looked at for a while.
    #[serde(default)]
    pub fill_bytes_per_second: Option<i64>,
    /// When it will be full at that rate, what it may still grow by counted in; `null` if it does not fill.
    #[serde(default)]
    pub time_to_full_seconds: Option<u64>,
    /// How sure that is: `low`, `medium` or `high`.
    #[serde(default)]
    pub time_to_full_confidence: Option<String>,
}

/// What is in a volume, as far as the daemon knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VolumeContent {
    #[default]
    Blank,
    /// mkfs may have run in part; such a volume is discarded.
    Formatting,
    Formatted,
    /// Handed out as a raw block device.
    Raw,
}

impl VolumeContent {
    /// The word as it stands in the JSON and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Formatting => "formatting",
            Self::Formatted => "formatted",
            Self::Raw => "raw",
        }
    }
}

/// A place where a volume is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MountInfo {
    pub path: String,
    pub read_only: bool,
}

/// What a clone was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloneInfo {
    #[schemars(with = "schema::Id")]
    pub id: String,
    /// `VG/VOLUME` or `VG/VOLUME@SNAPSHOT`: its name now, or if it is gone the one that it had when the clone was made.
    pub name: String,
    pub exists: bool,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeInfo {
    #[schemars(with = "schema::Id")]
    pub id: String,
    pub vg: String,
    pub name: String,
    /// Empty for a thick volume.
    pub pool: String,
    pub state: ObjectState,
    pub content: VolumeContent,
    /// `ext4`, `xfs`, `btrfs`; `null` for a raw or blank volume.
    pub fs: Option<String>,
    pub fs_uuid: Option<String>,
    pub size_bytes: u64,
    /// Mapped in the pool; known only while it is active. Of a thick volume its size.
    pub used_bytes: Option<u64>,
    /// Only of a thick volume, which has no pool.
    #[serde(default)]
    pub thick: Option<ThickInfo>,
    /// How much of its pool is set aside for it, written or not.
    #[serde(default)]
    pub reserve_bytes: u64,
    /// Whether the kernel holds a device for it.
    pub active: bool,
    /// `/dev/dm-3` while active: mounted, attached, or held by somebody.
    pub device: Option<String>,
    pub mounts: Vec<MountInfo>,
    pub snapshot_count: u64,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Neither deleted nor rolled back until that is taken away.
    #[serde(default)]
    pub protected: bool,
    /// `null` if it is no clone.
    #[serde(default)]
    pub clone_of: Option<CloneInfo>,
    /// Of one that was just deleted: until when it can be taken back; `null` if it cannot.
    #[serde(default)]
    #[schemars(with = "Option<schema::Time>")]
    pub kept_until: Option<String>,
    #[schemars(with = "schema::Time")]
    pub created_at: String,
    /// The file system is checked before it is mounted writable.
    #[serde(default)]
    pub check_fs: bool,
    /// The directory of its file system that is mounted; `null`: the root.
    #[serde(default)]
    pub subdir: Option<String>,
    /// Container engines that need it now.
    #[serde(default)]
    pub references: Vec<crate::VolumeRefs>,
    /// The `volumeHandle` of a PersistentVolume of it; `null` where no orchestrator is served.
    #[serde(default)]
    pub csi_handle: Option<String>,
    pub health: Health,
    pub problems: Vec<Problem>,
}

/// What `POST /v1/pools/VG/POOL/check` looked at. Damage is an error (`degraded`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolCheckInfo {
    /// `stopped`: all of the metadata, by `thin_check`; `running`: what the pool has committed, by a reader beside it.
    pub how: String,
    /// How many thin ids the pool has.
    pub thin_ids: Option<u64>,
    pub pool: PoolInfo,
}

/// What `POST /v1/pools/VG/POOL/repair` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolRepairInfo {
    /// `nothing`: the metadata are in order; `cleared`: they are sound, and the kernel's mark was taken away; `replaced`: they were
    /// written anew; `discarded`: the original was given up.
    pub how: String,
    /// Volumes and snapshots that the repaired metadata do not have.
    pub lost: Vec<String>,
    /// Those of which they have less than there was.
    pub incomplete: Vec<IncompleteVolume>,
    pub pool: PoolInfo,
}

/// A volume or snapshot of which repaired metadata have less than there was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncompleteVolume {
    pub full_name: String,
    /// In chunks of the pool.
    pub chunks: u64,
    pub chunks_before: u64,
}

/// What is particular to a thick volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThickInfo {
    /// How many PVs share it; 1 if it is linear.
    pub stripes: u16,
    /// `null` if it is linear.
    pub stripe_size_bytes: Option<u64>,
    /// What it will have when a growth that is under way is over; else its size.
    pub capacity_bytes: u64,
    /// `null` if nothing of it is being wiped or copied.
    pub filling: Option<FillingInfo>,
}

/// How far a thick volume, or what is added to it, is wiped or copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FillingInfo {
    /// `wipe` or `copy`.
    pub kind: String,
    /// Somebody is at it; else it waits for its turn.
    pub running: bool,
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// What `POST /v1/volumes/VG/VOLUME/trim` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrimInfo {
    /// What the file system says that it has discarded. What it discarded before it may leave out (ext4), or tell of again.
    pub trimmed_bytes: u64,
    pub volume: VolumeInfo,
}

/// A snapshot: read-only, in the pool of its volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotInfo {
    #[schemars(with = "schema::Id")]
    pub id: String,
    pub vg: String,
    pub volume: String,
    pub name: String,
    /// `VG/VOLUME@SNAPSHOT`.
    pub full_name: String,
    /// False when the volume was deleted since.
    pub volume_exists: bool,
    pub pool: String,
    pub size_bytes: u64,
    pub fs: Option<String>,
    /// The directory of its file system that is mounted; `null`: the root.
    #[serde(default)]
    pub subdir: Option<String>,
    pub active: bool,
    pub mounts: Vec<MountInfo>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Not deleted until that is taken away.
    #[serde(default)]
    pub protected: bool,
    /// Of one that was just deleted: until when it can be taken back; `null` if it cannot.
    #[serde(default)]
    #[schemars(with = "Option<schema::Time>")]
    pub kept_until: Option<String>,
    #[schemars(with = "schema::Time")]
    pub created_at: String,
}

/// A volume or snapshot that was deleted and is kept for a while (`GET /v1/deleted`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeletedInfo {
    #[schemars(with = "schema::Id")]
    pub id: String,
    pub vg: String,
    /// `VG/VOLUME` or `VG/VOLUME@SNAPSHOT`, as it was called.
    pub full_name: String,
    pub pool: String,
    pub size_bytes: u64,
    #[schemars(with = "schema::Time")]
    pub deleted_at: String,
    /// When it is deleted for good, unless its pool needs the space before; `null` if nothing is kept any more (then soon), or it is
    /// being deleted.
    #[schemars(with = "Option<schema::Time>")]
    pub kept_until: Option<String>,
    /// Of one that cannot be taken back any more, because its space is being given back: how much of its size has been.
    pub emptied_bytes: Option<u64>,
}

/// What `POST /v1/pools/VG/POOL/purge` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Purged {
    pub pool: PoolInfo,
    /// Volumes and snapshots that were deleted for good.
    pub purged_count: u64,
}

/// A device-mapper target that the kernel offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DmTarget {
    pub name: String,
    /// For example `1.23.0`.
    pub version: String,
}

/// What the kernel offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelInfo {
    /// As `uname -r` says.
    pub release: String,
    /// Of the device-mapper driver; `null` if there is none.
    pub dm_version: Option<String>,
    pub targets: Vec<DmTarget>,
}

/// How many objects there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    pub vgs: u64,
    pub pvs: u64,
    pub pools: u64,
    pub volumes: u64,
    pub snapshots: u64,
    /// Volumes and snapshots that are mounted somewhere.
    pub mounted: u64,
}

/// `GET /v1/status`: the daemon and everything that is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    pub version: String,
    pub api_version: String,
    /// The worst of the daemon itself, the VGs and the pools.
    pub health: Health,
    pub problems: Vec<Problem>,
    /// How the daemon's own I/O is done: `io_uring (registered buffers)`, `io_uring` or `pread/pwrite`.
    pub io_backend: String,
    /// Why it is not the first of these; empty if it is.
    pub io_backend_reason: String,
    pub kernel: KernelInfo,
    /// Host name.
    pub host: String,
    pub boot_id: String,
    #[schemars(with = "schema::Time")]
    pub started_at: String,
    /// Where `/metrics` answers; `null` if it is off or could not listen. Filled in by the daemon's front.
    #[serde(default)]
    pub metrics_listen: Option<String>,
    /// Keys of the configuration file that were changed and only count from the next start on. Filled in by the daemon's front.
    #[serde(default)]
    pub restart_needed: Vec<String>,
    pub counts: Counts,
}

/// A VG's space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DfVg {
    pub vg: String,
    pub health: Health,
    pub size_bytes: u64,
    /// Extents that pools (data and metadata) hold.
    pub allocated_bytes: u64,
    pub free_bytes: u64,
}

/// A pool's space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DfPool {
    pub vg: String,
    pub pool: String,
    pub health: Health,
    pub size_bytes: u64,
    pub used_bytes: Option<u64>,
    pub free_bytes: Option<u64>,
    /// Sum of the sizes of its volumes; snapshots are read-only and do not count.
    pub virtual_bytes: u64,
    pub overcommit_percent: u64,
    pub overcommit_limit_percent: u64,
    pub metadata_size_bytes: u64,
    pub metadata_used_bytes: Option<u64>,
    pub volume_count: u64,
    pub snapshot_count: u64,
    /// As in [`PoolInfo`].
    #[serde(default)]
    pub snapshot_clock: u64,
    /// As in [`PoolInfo`].
    #[serde(default)]
    pub growable_bytes: u64,
    /// As in [`PoolInfo`].
    #[serde(default)]
    pub fill_bytes_per_second: Option<i64>,
    /// As in [`PoolInfo`].
    #[serde(default)]
    pub time_to_full_seconds: Option<u64>,
    /// As in [`PoolInfo`].
    #[serde(default)]
    pub time_to_full_confidence: Option<String>,
    /// The codes of its problems.
    #[serde(default)]
    pub problem_codes: Vec<String>,
}

/// `GET /v1/df`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Df {
    pub vgs: Vec<DfVg>,
    pub pools: Vec<DfPool>,
}

/// What `POST /v1/init` made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InitInfo {
    pub vg: VgInfo,
    pub pool: PoolInfo,
}

/// What is known after `POST /v1/scan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScanInfo {
    pub vgs: Vec<VgInfo>,
    pub pvs: Vec<PvInfo>,
}

macro_rules! lists {
    ($($(#[$doc:meta])* $list:ident { $key:ident: $item:ident }),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub struct $list {
            pub $key: Vec<$item>,
        }
    )*};
}

lists! {
    /// `GET /v1/vgs`.
    VgList { vgs: VgInfo },
    /// `GET /v1/pvs`.
    PvList { pvs: PvInfo },
    /// What `volctl pv check -o json` prints.
    PvCheckList { checks: PvCheck },
    /// `GET /v1/pools`.
    PoolList { pools: PoolInfo },
    /// `GET /v1/volumes`.
    VolumeList { volumes: VolumeInfo },
    /// `GET /v1/deleted`.
    DeletedList { deleted: DeletedInfo },
    /// `GET /v1/snapshots`.
    SnapshotList { snapshots: SnapshotInfo },
}
