//! Who takes how much of a pool, and what lies where on the disks. `docs/usage.md` says what each number means.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What a volume takes of its pool (`GET /v1/volumes/VG/VOLUME/usage`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeUsage {
    pub vg: String,
    pub volume: String,
    pub pool: String,
    /// When the pool was read: numbers are of this moment, however old.
    #[schemars(with = "schema::Time")]
    pub read_at: String,
    /// What its file system or user sees.
    pub size_bytes: u64,
    /// Written to and not discarded since, shared or not. `null`, as all below, for what was made after the reading.
    pub allocated_bytes: Option<u64>,
    /// What deleting the volume for good would free, its snapshots staying.
    pub exclusive_bytes: Option<u64>,
    /// The rest of what is allocated: others have it too.
    pub shared_bytes: Option<u64>,
    /// What deleting all of its snapshots would free, the volume staying.
    pub reclaimable_bytes: Option<u64>,
    /// What deleting the volume with all of its snapshots would free.
    pub with_snapshots_bytes: Option<u64>,
    /// By name.
    pub snapshots: Vec<SnapshotUsage>,
}

/// What a snapshot takes of its pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotUsage {
    /// `VG/VOLUME@SNAPSHOT`.
    pub full_name: String,
    pub volume: String,
    pub name: String,
    pub size_bytes: u64,
    pub allocated_bytes: Option<u64>,
    /// What deleting this snapshot alone would free.
    pub exclusive_bytes: Option<u64>,
    pub shared_bytes: Option<u64>,
}

/// Who takes how much of a pool (`GET /v1/pools/VG/POOL/usage`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolUsage {
    pub vg: String,
    pub pool: String,
    /// When the pool was read.
    #[schemars(with = "schema::Time")]
    pub read_at: String,
    pub chunk_size_bytes: u64,
    /// Size of the pool's data.
    pub size_bytes: u64,
    /// Sum of the sizes of its volumes.
    pub virtual_bytes: u64,
    /// Chunks that anything is written to, each counted once.
    pub allocated_bytes: u64,
    /// Of these: chunks that one volume or snapshot has for itself.
    pub exclusive_bytes: u64,
    /// Of these: chunks that several have together.
    pub shared_bytes: u64,
    /// Sum over the volumes; deleting all snapshots frees so much at least.
    pub reclaimable_bytes: u64,
    /// What is deleted and kept, and nothing else has: `volctl pool purge` would free it.
    pub deleted_bytes: u64,
    /// What thin ids have for themselves that no volume of ours has (see `pool_stray_thin`).
    pub strays_bytes: u64,
    pub metadata_size_bytes: u64,
    pub metadata_used_bytes: Option<u64>,
    /// By name, each with its snapshots.
    pub volumes: Vec<VolumeUsage>,
    /// Snapshots of volumes that are gone.
    pub snapshots: Vec<SnapshotUsage>,
}

/// What a run of extents is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SegmentUse {
    #[default]
    Free,
    /// Data of a pool.
    Data,
    /// Metadata of a pool.
    Metadata,
    /// Metadata that a repair of a pool replaced and that are kept, or that a repair is writing.
    Original,
    /// Of a thick volume.
    Thick,
}

impl SegmentUse {
    /// The word as it stands in the JSON and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Data => "data",
            Self::Metadata => "metadata",
            Self::Original => "original",
            Self::Thick => "thick",
        }
    }
}

/// A run of extents of a physical volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PvSegment {
    pub start_extent: u64,
    pub extent_count: u64,
    #[serde(rename = "use")]
    pub usage: SegmentUse,
    /// Name of the pool; `null` for free extents.
    pub pool: Option<String>,
    /// Where the run begins in the pool's data or metadata; `null` for free extents.
    pub pool_offset_bytes: Option<u64>,
    /// Name of the thick volume.
    #[serde(default)]
    pub volume: Option<String>,
}

/// What lies where on a physical volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PvMap {
    #[schemars(with = "schema::Id")]
    pub id: String,
    /// `null` while it is missing.
    pub path: Option<String>,
    pub extent_count: u64,
    pub free_extents: u64,
    /// All of its extents in order, free ones too.
    pub segments: Vec<PvSegment>,
}

/// What lies where in a volume group (`GET /v1/vgs/VG/map`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VgMap {
    pub vg: String,
    pub extent_size_bytes: u64,
    /// By path; those that are missing at the end.
    pub pvs: Vec<PvMap>,
}

/// What `volctl map -o json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VgMapList {
    pub vgs: Vec<VgMap>,
}
