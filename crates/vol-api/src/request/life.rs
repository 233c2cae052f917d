//! Bodies of requests about what becomes of volumes and snapshots after they were made.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// `POST /v1/clones`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneVolume {
    #[schemars(with = "schema::Name")]
    pub vg: String,
    /// The volume that it is made from, or the one whose snapshot it is made from.
    #[schemars(with = "schema::Name")]
    pub volume: String,
    /// The volume as it is now if absent.
    #[serde(default)]
    #[schemars(with = "Option<schema::Name>")]
    pub snapshot: Option<String>,
    /// Name of the new volume, in the same VG.
    #[schemars(with = "schema::Name")]
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "schema::Labels")]
    pub labels: BTreeMap<String, String>,
    /// Size as text, not less than that of what it is made from, which it has if absent. Its file system grows when it is next mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Size>")]
    pub size: Option<String>,
    /// Protected from being deleted from the moment on at which it is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protect: bool,
    /// What is set aside for it in the pool: a size as text, or `full`; nothing if absent. Not of a thick volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Reserve>")]
    pub reserve: Option<String>,
    /// Ids or paths of the PVs that may be used; all if empty. Of thick volumes only, as what follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::PvRef>")]
    pub on: Vec<String>,
    /// Ids or paths of PVs that may not be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::PvRef>")]
    pub not_on: Vec<String>,
    /// Labels that the PVs must have that are used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "schema::Labels")]
    pub on_labels: BTreeMap<String, String>,
    /// Without gaps on each PV.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contiguous: bool,
}

/// One snapshot of a [`SnapshotGroup`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotName {
    #[schemars(with = "schema::Name")]
    pub volume: String,
    #[schemars(with = "schema::Name")]
    pub name: String,
}

/// `POST /v1/snapshot-groups`: snapshots of one instant, of volumes of one pool; all or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotGroup {
    #[schemars(with = "schema::Name")]
    pub vg: String,
    #[serde(deserialize_with = "super::objects")]
    #[schemars(length(max = 32))]
    pub snapshots: Vec<SnapshotName>,
    /// Each of them gets these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "schema::Labels")]
    pub labels: BTreeMap<String, String>,
}

/// `POST …/rename` of a volume or a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The new name: of the volume, or of the snapshot alone.
    #[schemars(with = "schema::Name")]
    pub name: String,
}

/// `POST …/labels` of a volume, a snapshot or a PV.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relabel {
    #[serde(default)]
    #[schemars(with = "schema::Labels")]
    pub set: BTreeMap<String, String>,
    /// Keys; one that is not there is no error.
    #[serde(default)]
    #[schemars(with = "Vec<schema::LabelKey>")]
    pub remove: Vec<String>,
}

/// `POST …/set` of a volume. What is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetVolume {
    /// What is set aside for it in the pool: a size as text, `full`, or `none`.
    #[serde(default)]
    #[schemars(with = "Option<schema::Reserve>")]
    pub reserve: Option<String>,
}
