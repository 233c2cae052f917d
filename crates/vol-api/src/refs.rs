//! Which container engine needs which volume. `docs/mount-references.md` says what is counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// An id that a container engine mounted a volume with, and has not unmounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefInfo {
    /// `docker` or `podman`.
    pub runtime: String,
    /// `VG/VOLUME`; `null` if no volume group that is there has it.
    pub volume: Option<String>,
    #[schemars(with = "schema::Id")]
    pub volume_id: String,
    /// What the engine calls the volume; `null` if it has no name there any more.
    pub engine_name: Option<String>,
    /// Of the engine's making; it is not a container's id.
    pub id: String,
    /// How often the engine has mounted with it, and not unmounted.
    pub count: u64,
    /// `false`: the engine was started anew since, and has not mentioned it.
    pub confirmed: bool,
    /// Where the volume is mounted on the host.
    pub mounted_at: Vec<String>,
    /// Processes that see it mounted in other mount namespaces, one of each: containers have such.
    pub used_by: Vec<String>,
}

/// A mount that was made for an engine and that none needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnneededMount {
    /// `docker` or `podman`.
    pub runtime: String,
    /// `VG/VOLUME`; `null` if no volume group that is there has it.
    pub volume: Option<String>,
    #[schemars(with = "schema::Id")]
    pub volume_id: String,
    pub path: String,
    /// As in [`RefInfo`]. While there are any it stays; else it is unmounted within a minute or so.
    pub used_by: Vec<String>,
}

/// `GET /v1/refs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefList {
    /// By volume, each in the order in which they were made.
    pub refs: Vec<RefInfo>,
    pub unneeded: Vec<UnneededMount>,
}

/// `POST /v1/refs/release`: forget references whose container is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRefs {
    /// `VG/VOLUME`, or the volume's id.
    pub volume: String,
    /// Only those of this engine.
    #[serde(default)]
    #[schemars(with = "Option<schema::Runtime>")]
    pub runtime: Option<String>,
    /// Only the one with this id; `runtime` is needed with it.
    #[serde(default)]
    pub id: Option<String>,
}

/// What `POST /v1/refs/release` came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleasedRefs {
    /// `VG/VOLUME`; `null` if no volume group that is there has it.
    pub volume: Option<String>,
    #[schemars(with = "schema::Id")]
    pub volume_id: String,
    /// Those that were forgotten.
    pub released: Vec<RefInfo>,
    /// References of the volume that are left.
    pub left: u64,
    /// Whether it is mounted nowhere any more where it was mounted for an engine.
    pub unmounted: bool,
    /// Who keeps it from being unmounted.
    pub used_by: Vec<String>,
}

/// How often an engine needs a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeRefs {
    /// `docker` or `podman`.
    pub runtime: String,
    /// The counts of its ids together.
    pub count: u64,
    /// Of these: what the engine has not mentioned since it was started anew.
    pub unconfirmed: u64,
}

/// A volume as a container engine knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeVolume {
    /// What the engine calls it.
    pub name: String,
    /// `VG/VOLUME`.
    pub volume: String,
    /// What its file system or user sees.
    pub size_bytes: u64,
    /// What it takes of its pool, shared or not; `null` if the pool could not be read. Of a thick volume its size.
    pub used_bytes: Option<u64>,
    /// What deleting it for good would free, its snapshots staying.
    pub exclusive_bytes: Option<u64>,
    /// How often this engine needs it now.
    pub references: u64,
    /// Whether it is mounted on the host.
    pub mounted: bool,
}

/// The volumes of a container engine together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeTotal {
    pub volume_count: u64,
    /// Those that the engine needs now.
    pub active_count: u64,
    pub size_bytes: u64,
    /// Sum of what is known.
    pub used_bytes: u64,
    /// What deleting all that the engine does not need now would free at least.
    pub reclaimable_bytes: u64,
}

/// `GET /v1/runtimes/RUNTIME/df`: what `docker system df -v` tells of volumes, which does not ask plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeDf {
    /// `docker` or `podman`.
    pub runtime: String,
    /// By the engine's name.
    pub volumes: Vec<RuntimeVolume>,
    pub total: RuntimeTotal,
}
