//! The bodies of requests. Names, paths and sizes are texts as people write them; the daemon checks each one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::schema;

mod life;

pub use life::*;

/// A list of objects, each written as one. serde would read a list of values in their order, too, and nobody is to rely on that order.
fn objects<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    let read = |object: Map<String, Value>| serde_json::from_value(Value::Object(object)).map_err(D::Error::custom);
    Vec::<Map<String, Value>>::deserialize(from)?.into_iter().map(read).collect()
}

/// A file that is to back a PV; the daemon makes it sparse and attaches a loop device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Absolute path.
    #[schemars(with = "schema::AbsolutePath")]
    pub path: String,
    /// Size as text, for example `20G`; no percentage.
    #[schemars(with = "schema::Size")]
    pub size: String,
}

/// `POST /v1/vgs`. At least one device or file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVg {
    #[schemars(with = "schema::Name")]
    pub name: String,
    /// Absolute paths of disks or partitions.
    #[serde(default)]
    #[schemars(with = "Vec<schema::AbsolutePath>")]
    pub devices: Vec<String>,
    #[serde(default, deserialize_with = "objects")]
    pub files: Vec<FileSpec>,
    /// Destroy what the devices carry.
    #[serde(default)]
    pub wipe: bool,
    /// Size as text; the daemon's default (4 MiB) if absent.
    #[serde(default)]
    #[schemars(with = "Option<schema::Size>")]
    pub extent_size: Option<String>,
    /// How many PVs carry a copy of the metadata; the daemon's default if absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub metadata_copies: Option<u16>,
}

/// `POST /v1/pools`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePool {
    #[schemars(with = "schema::Name")]
    pub vg: String,
    #[schemars(with = "schema::Name")]
    pub name: String,
    /// Size of the data as text, or a share of the VG's free space: `80%FREE`.
    #[schemars(with = "schema::SizeOrShare")]
    pub size: String,
    /// Size as text; the daemon chooses if absent.
    #[serde(default)]
    #[schemars(with = "Option<schema::Size>")]
    pub chunk_size: Option<String>,
    /// The sum of the volumes' sizes may not exceed this share of the pool's size, in percent.
    #[serde(default)]
    #[schemars(range(max = vol_types::limit::OVERCOMMIT_PERCENT_MAX))]
    pub overcommit_limit_percent: Option<u32>,
    /// How far it grows by itself: `vg` (as far as the VG has space), `off`, or a size; `vg` if absent.
    #[serde(default)]
    #[schemars(with = "Option<schema::GrowTo>")]
    pub grow_to: Option<String>,
    /// With no more than this share of its data free it makes no new volumes and snapshots; 5 if absent.
    #[serde(default)]
    #[schemars(range(max = vol_types::limit::POOL_RESERVE_PERCENT_MAX))]
    pub reserve_percent: Option<u32>,
    /// What becomes of writes when it is full: `queue` or `error`; `queue` if absent.
    #[serde(default)]
    #[schemars(with = "Option<schema::WhenFull>")]
    pub when_full: Option<String>,
    /// Paths or ids of the PVs that it may lie on, now and when it grows; all if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::PvRef>")]
    pub on: Vec<String>,
    /// Paths or ids of PVs that it may not lie on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::PvRef>")]
    pub not_on: Vec<String>,
    /// Labels that the PVs must have on which it may lie.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "schema::Labels")]
    pub on_labels: BTreeMap<String, String>,
    /// Without gaps, or not at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contiguous: bool,
}

/// `POST /v1/pools/VG/POOL/extend`. At least one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendPool {
    /// The data: `+10G` by so much, `40G` to this size, `50%FREE` by this share of the VG's free space.
    #[serde(default)]
    #[schemars(with = "Option<schema::NewSizeOrShare>")]
    pub size: Option<String>,
    /// The metadata likewise; as much as the data need if absent.
    #[serde(default)]
    #[schemars(with = "Option<schema::NewSizeOrShare>")]
    pub metadata: Option<String>,
    /// Paths or ids of the PVs on which this growth may lie; those of the pool if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::PvRef>")]
    pub on: Vec<String>,
    /// Paths or ids of PVs on which it may not lie.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::PvRef>")]
    pub not_on: Vec<String>,
    /// Labels that the PVs must have on which it may lie.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "schema::Labels")]
    pub on_labels: BTreeMap<String, String>,
    /// Without gaps, or not at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contiguous: bool,
}

/// `POST /v1/pools/VG/POOL/set`. What is absent stays; see [`CreatePool`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPool {
    #[serde(default)]
    #[schemars(with = "Option<schema::GrowTo>")]
    pub grow_to: Option<String>,
    #[serde(default)]
    #[schemars(range(max = vol_types::limit::POOL_RESERVE_PERCENT_MAX))]
    pub reserve_percent: Option<u32>,
    #[serde(default)]
    #[schemars(with = "Option<schema::WhenFull>")]
    pub when_full: Option<String>,
    #[serde(default)]
    #[schemars(range(max = vol_types::limit::OVERCOMMIT_PERCENT_MAX))]
    pub overcommit_limit_percent: Option<u32>,
    /// Paths or ids of the PVs on which it grows from then on. If any of this and the next two is given, all three are replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::PvRef>")]
    pub on: Vec<String>,
    /// Paths or ids of PVs on which it does not grow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::PvRef>")]
    pub not_on: Vec<String>,
    /// Labels that the PVs must have on which it grows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "schema::Labels")]
    pub on_labels: BTreeMap<String, String>,
    /// It grows on any PV; not together with those three.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anywhere: bool,
}

/// `POST /v1/volumes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    #[schemars(with = "schema::Name")]
    pub vg: String,
    #[schemars(with = "schema::Name")]
    pub name: String,
    /// The only pool of the VG if absent.
    #[serde(default)]
    #[schemars(with = "Option<schema::Name>")]
    pub pool: Option<String>,
    /// Size as text, for example `10G`.
    #[schemars(with = "schema::Size")]
    pub size: String,
    /// `ext4`, `xfs`, `btrfs`, or `none` for a raw block device; `ext4` if absent.
    #[serde(default)]
    #[schemars(with = "Option<schema::FileSystem>")]
    pub fs: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "schema::Labels")]
    pub labels: BTreeMap<String, String>,
    /// What is set aside for it in the pool: a size as text, `full`, or `none`; nothing if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Reserve>")]
    pub reserve: Option<String>,
    /// Protected from being deleted from the moment on at which it is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protect: bool,
    /// `KEY=VALUE`, each from the list of the file system (docs/file-systems.md).
    #[serde(default)]
    pub mkfs_options: Vec<String>,
    /// Of the root directory, as numbers: `UID` or `UID:GID`.
    #[serde(default)]
    #[schemars(with = "Option<schema::Owner>")]
    pub owner: Option<String>,
    /// Of the root directory: three or four octal digits.
    #[serde(default)]
    #[schemars(with = "Option<schema::Mode>")]
    pub mode: Option<String>,
    /// The root directory of ext4 without `lost+found`.
    #[serde(default)]
    pub empty_root: bool,
    /// Name of a directory that is made in the root, and mounted instead of it; `owner` and `mode` are then that one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Name>")]
    pub subdir: Option<String>,
    /// With extents of its own, which are wiped before it is ready; else in a pool. What follows is of thick volumes only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub thick: bool,
    /// How many PVs share it; one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = vol_types::limit::STRIPES_MAX))]
    pub stripes: Option<u16>,
    /// What goes to one PV before it is the next one's turn, as text: `64K` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Size>")]
    pub stripe_size: Option<String>,
    /// Without gaps on each PV.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contiguous: bool,
    /// Ids or paths of the PVs that may be used; all if empty.
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
    /// The answer has its block device: it is attached as well. Of raw volumes only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attach: bool,
}

/// `POST /v1/volumes/VG/VOLUME/resize`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeVolume {
    /// Size as text, for example `40G`; with a `+` before it, so much more than now.
    #[schemars(with = "schema::NewSize")]
    pub size: String,
    /// Ids or paths of the PVs that may be used for what is added; all if empty. Of thick volumes only, as what follows.
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
    /// Without gaps: right behind what it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contiguous: bool,
}

/// `POST /v1/volumes/VG/VOLUME/check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckVolume {
    /// Put everything right that is wrong, whatever is lost by that.
    #[serde(default)]
    pub repair: bool,
}

/// `POST /v1/pools/VG/POOL/check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckPool {
    /// The pool stays up, even if nobody uses it: less is looked at.
    #[serde(default)]
    pub online: bool,
}

/// `POST /v1/pools/VG/POOL/repair`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepairPool {
    /// Repaired metadata are put in place although they lack volumes, or parts of them.
    #[serde(default)]
    pub accept_loss: bool,
    /// Nothing is repaired: the metadata that an earlier repair replaced are given up. Not together with `accept_loss`.
    #[serde(default)]
    pub discard_original: bool,
}

/// `POST /v1/volumes/VG/VOLUME/mount` and the same of a snapshot, which is read-only in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path of the mount point.
    #[schemars(with = "schema::AbsolutePath")]
    pub path: String,
    #[serde(default)]
    pub read_only: bool,
    /// The root of its file system, also if a directory in it is what is handed out (`subdir`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// `POST /v1/snapshots`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    #[schemars(with = "schema::Name")]
    pub vg: String,
    #[schemars(with = "schema::Name")]
    pub volume: String,
    #[schemars(with = "schema::Name")]
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "schema::Labels")]
    pub labels: BTreeMap<String, String>,
}

/// `POST /v1/init`: a VG and a pool over all of it in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Init {
    #[serde(default)]
    #[schemars(with = "Vec<schema::AbsolutePath>")]
    pub devices: Vec<String>,
    #[serde(default, deserialize_with = "objects")]
    pub files: Vec<FileSpec>,
    /// `data` if absent.
    #[serde(default)]
    #[schemars(with = "Option<schema::Name>")]
    pub vg: Option<String>,
    /// `pool` if absent.
    #[serde(default)]
    #[schemars(with = "Option<schema::Name>")]
    pub pool: Option<String>,
    #[serde(default)]
    pub wipe: bool,
}

impl Init {
    /// Name of the VG if none is given.
    pub const VG_DEFAULT: &str = "data";
    /// Name of the pool if none is given.
    pub const POOL_DEFAULT: &str = "pool";
}

/// `POST /v1/scan`: look again for disks, and attach these backing files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanRequest {
    /// Absolute paths of files that back a PV.
    #[serde(default)]
    #[schemars(with = "Vec<schema::AbsolutePath>")]
    pub files: Vec<String>,
}

/// `POST /v1/vgs/VG/extend`. At least one device or file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendVg {
    /// Absolute paths of disks or partitions.
    #[serde(default)]
    #[schemars(with = "Vec<schema::AbsolutePath>")]
    pub devices: Vec<String>,
    #[serde(default, deserialize_with = "objects")]
    pub files: Vec<FileSpec>,
    /// Destroy what the devices carry.
    #[serde(default)]
    pub wipe: bool,
}

/// `POST /v1/vgs/VG/reduce`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReduceVg {
    /// Ids of PVs, or absolute paths of their disks or backing files. With `missing`, none means all that are missing.
    #[serde(default)]
    #[schemars(with = "Vec<schema::PvRef>")]
    pub pvs: Vec<String>,
    /// Take out PVs that are not there.
    #[serde(default)]
    pub missing: bool,
    /// They will never come back: their copies of the metadata are not counted any more.
    #[serde(default)]
    pub force: bool,
}

/// `POST /v1/vgs/VG/rename`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameVg {
    #[schemars(with = "schema::Name")]
    pub name: String,
}

/// `POST /v1/wipe`: take everything of volumed off a disk that no volume group here uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WipePv {
    /// Absolute path of the disk.
    #[schemars(with = "schema::AbsolutePath")]
    pub device: String,
    /// Also a PV of an exported volume group.
    #[serde(default)]
    pub force: bool,
}

/// A PV of a backup, and the disk that is to be it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreDisk {
    /// Id of the PV.
    #[schemars(with = "schema::Id")]
    pub pv: String,
    /// Absolute path of the disk.
    #[schemars(with = "schema::AbsolutePath")]
    pub device: String,
}

/// `POST /v1/restore`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreVg {
    /// The document that `GET /v1/vgs/VG/backup` answered, as text.
    pub backup: String,
    /// For PVs whose label cannot be read any more; others are found by it.
    #[serde(default, deserialize_with = "objects")]
    pub disks: Vec<RestoreDisk>,
    /// Destroy what the disks carry besides metadata of this group.
    #[serde(default)]
    pub wipe: bool,
    /// Although a disk holds metadata that are newer than the backup.
    #[serde(default)]
    pub older: bool,
}

/// `POST /v1/import-clone`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportClone {
    /// Absolute paths of the copies of all disks of a group.
    #[schemars(with = "Vec<schema::AbsolutePath>")]
    pub devices: Vec<String>,
    /// Name of the new group.
    #[schemars(with = "schema::Name")]
    pub name: String,
}

/// `POST /v1/pools/VG/POOL/give-up`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GiveUpPool {
    /// The missing disks will never come back: their copies of the metadata are not counted any more.
    #[serde(default)]
    pub force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_known_is_refused_by_name() {
        let error = serde_json::from_str::<CreateVg>(r#"{"name":"data","devices":["/dev/sdb"],"force":true}"#);
        assert!(error.unwrap_err().to_string().starts_with("unknown field `force`, expected one of `name`, `devices`"));
        let error = serde_json::from_str::<CreateVg>(r#"{"devices":["/dev/sdb"]}"#);
        assert!(error.unwrap_err().to_string().starts_with("missing field `name`"));
    }

    #[test]
    fn objects_in_lists_are_written_as_objects() {
        let read = |files: &str| serde_json::from_str::<ExtendVg>(&format!("{{\"files\": {files}}}"));
        assert_eq!(read(r#"[{"path":"/a","size":"1G"}]"#).unwrap().files[0].path, "/a");
        assert!(read(r#"[["/a","1G"]]"#).unwrap_err().to_string().contains("expected a map"));
        assert!(read(r#"[{"path":"/a"}]"#).unwrap_err().to_string().starts_with("missing field `size`"));
        assert!(
            read(r#"[{"path":"/a","size":"1G","frob":1}]"#)
                .unwrap_err()
                .to_string()
                .starts_with("unknown field `frob`")
        );
    }

    #[test]
    fn optional_keys_may_be_left_out() {
        let request: CreateVolume = serde_json::from_str(r#"{"vg":"data","name":"pg","size":"10G"}"#).unwrap();
        assert_eq!((request.pool, request.fs), (None, None));
    }
}
