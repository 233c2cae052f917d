//! What the daemon does for an orchestrator.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vol_types::{Bytes, FsKind, MountOptions};

use crate::expand::Mutable;
use crate::health::Ill;
use crate::metadata::Parts;
use crate::stats::Usage;
use crate::{CsiName, Params, Refused};

/// What a volume has that is asked for without a size anywhere.
pub const SIZE_DEFAULT: Bytes = Bytes::gib(10);

/// The configuration as far as this interface goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the driver is called: a domain name, at most 63 bytes.
    pub driver: String,
    /// What this machine is called: the value of a label of Kubernetes, at most 63 bytes.
    pub node: String,
    /// Somebody said so; else it is the host name.
    pub node_given: bool,
    /// Below it a volume may be mounted: absolute, without a `/` at its end.
    pub kubelet_dir: String,
    /// [`SIZE_DEFAULT`] if absent.
    pub size: Option<Bytes>,
    /// How many volumes may be here at once; zero: as many as anybody likes.
    pub max_volumes: i64,
    /// What version 1.13 of the interface adds is offered too.
    pub v1_13: bool,
    /// Named sets of parameters.
    pub profiles: BTreeMap<String, BTreeMap<String, String>>,
    pub version: &'static str,
}

impl Settings {
    /// The key of this machine's name in a topology.
    pub fn topology_key(&self) -> String {
        format!("topology.{}/node", self.driver)
    }
    /// Where volumes of this machine can be used: on this machine.
    pub fn topology(&self) -> crate::csi::Topology {
        crate::csi::Topology { segments: BTreeMap::from([(self.topology_key(), self.node.clone())]) }
    }
    /// Whether a topology names this machine.
    pub fn is_here(&self, topology: &crate::csi::Topology) -> bool {
        topology.segments.get(&self.topology_key()).is_none_or(|node| *node == self.node)
    }
}

/// A volume as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    pub id: String,
    /// `VG/VOLUME`.
    pub path: String,
    /// `VG/POOL`; empty of a thick volume.
    pub pool: String,
    pub size: u64,
    /// `None` of a raw volume.
    pub fs: Option<FsKind>,
    /// It is complete.
    pub ready: bool,
    /// Its name at the orchestrator, if it has one.
    pub name: Option<String>,
    /// [`Params::record`] of the request that made it.
    pub record: Option<String>,
    /// Where it is mounted, or its device is shown, and whether only for reading.
    pub mounts: Vec<(String, bool)>,
    /// What is wrong with it, or with what it lies on.
    pub ills: Vec<Ill>,
    /// Its device is there, and whether only for reading; known of what was asked for by [`Volumes::find_now`] alone.
    pub attached: Option<bool>,
    pub protected: bool,
    /// It lives and dies with its pod.
    pub ephemeral: bool,
    /// It is deleted for good.
    pub purge: bool,
}

impl Volume {
    /// Whether it is mounted there, and if so whether only for reading.
    pub fn mounted_at(&self, path: &str) -> Option<bool> {
        self.mounts.iter().find(|(at, _)| at == path).map(|(_, read_only)| *read_only)
    }
}

/// A snapshot as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub id: String,
    /// `VG/VOLUME@SNAPSHOT`.
    pub path: String,
    /// `VG/POOL`.
    pub pool: String,
    /// The id of its volume, which may be gone.
    pub source: String,
    pub size: u64,
    /// `None` of a raw volume.
    pub fs: Option<FsKind>,
    /// Seconds since 1970.
    pub created: u64,
    /// The name of its group at the orchestrator, if it is part of one.
    pub group: Option<String>,
    pub protected: bool,
}

/// What a new volume is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Snapshot(Snapshot),
    Volume(Volume),
}

impl Source {
    pub const fn size(&self) -> u64 {
        match self {
            Self::Snapshot(one) => one.size,
            Self::Volume(one) => one.size,
        }
    }
    pub const fn fs(&self) -> Option<FsKind> {
        match self {
            Self::Snapshot(one) => one.fs,
            Self::Volume(one) => one.fs,
        }
    }
    pub fn path(&self) -> &str {
        match self {
            Self::Snapshot(one) => &one.path,
            Self::Volume(one) => &one.path,
        }
    }
    /// `VG/POOL`; empty of a thick volume.
    pub fn pool(&self) -> &str {
        match self {
            Self::Snapshot(one) => &one.pool,
            Self::Volume(one) => &one.pool,
        }
    }
}

/// Where a volume would be made, and how much room there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub vg: String,
    /// `None` for a thick volume.
    pub pool: Option<String>,
    /// Sizes are multiples of it.
    pub grain: u64,
    /// The largest volume that could be made now.
    pub available: u64,
}

/// What is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub room: Room,
    pub size: Bytes,
    pub params: Params,
    /// It lives and dies with its pod; its name is the id that the kubelet gave it.
    pub ephemeral: bool,
}

/// What is noted of a place where a volume was put, to tell a repetition from another request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The volume's id.
    pub volume: String,
    /// A staging place; else one that a workload sees.
    pub staging: bool,
    /// No other place may be given to a workload while this one is.
    pub single: bool,
    pub read_only: bool,
    /// Mount flags and the like, in an order of their own.
    pub how: String,
}

/// What an id is to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Volume,
    Snapshot,
    /// A group snapshot.
    Group,
}

/// What the daemon does. Changes of one volume are made one after another by whoever calls.
pub trait Volumes {
    /// The configuration of the moment.
    fn settings(&self) -> Settings;
    fn named(&self, name: &CsiName) -> Result<Option<Volume>, Refused>;
    /// By its id; by `VG/VOLUME`, as static volumes are named; or by the id that the kubelet gave one that lives and dies with its pod. Any
    /// other text is nobody's.
    fn find(&self, id: &str) -> Result<Option<Volume>, Refused>;
    /// As [`Volumes::find`], with where it is mounted just now, for who decides by it.
    fn find_now(&self, id: &str) -> Result<Option<Volume>, Refused>;
    /// That nothing of this kind that is away just now can be what is called so, of what is not found. What has the id and is of
    /// another kind is not away.
    ///
    /// # Errors
    /// `UNAVAILABLE` with the volume group that is not open; `ABORTED` if it was opened just now.
    fn not_away(&self, kind: Kind, id: &str) -> Result<(), Refused>;
    /// Those that have a name at an orchestrator, by their ids.
    fn list(&self) -> Result<Vec<Volume>, Refused>;
    fn room(&self, params: &Params) -> Result<Room, Refused>;
    /// Makes it, complete.
    fn create(&self, name: &CsiName, wanted: &Wanted) -> Result<Volume, Refused>;
    /// Makes one that holds what another does, as large as that.
    fn clone_of(&self, source: &Source, name: &CsiName, params: &Params) -> Result<Volume, Refused>;
    /// For good, if it is ephemeral or was asked for so.
    fn delete(&self, volume: &Volume) -> Result<(), Refused>;
    /// What its size is a multiple of.
    fn grain(&self, volume: &Volume) -> Result<u64, Refused>;
    /// Grows it to this size, and its file system if it is mounted, which may lag behind; whether it was not so large.
    fn grow(&self, volume: &Volume, size: Bytes) -> Result<(Volume, bool), Refused>;
    /// What is wrong with the disks, groups and pools of this machine.
    fn storage_ills(&self) -> Result<Vec<Ill>, Refused>;
    /// Whether it was otherwise.
    fn modify(&self, volume: &Volume, mutable: &Mutable) -> Result<bool, Refused>;

    fn snapshot_named(&self, name: &CsiName) -> Result<Option<Snapshot>, Refused>;
    /// By its id; a text that is none is nobody's.
    fn find_snapshot(&self, id: &str) -> Result<Option<Snapshot>, Refused>;
    /// Those that have a name at an orchestrator, or are part of a group that has one, by their ids.
    fn snapshots(&self) -> Result<Vec<Snapshot>, Refused>;
    /// Takes snapshots of one instant, all or none, under this name: that of the snapshot, or of the group.
    fn take(&self, of: &[Volume], name: &CsiName, group: bool) -> Result<Vec<Snapshot>, Refused>;
    /// In which parts `target` differs from `base`, a snapshot of the same volume; without that, which parts of it are in use. Looks from
    /// this byte on, as far as is done in a short while. One that does not differ may be told too, one that does is never left out.
    fn changed(&self, base: Option<&Snapshot>, target: &Snapshot, from: u64) -> Result<Parts, Refused>;
    /// One that is gone is no error.
    fn delete_snapshot(&self, snapshot: &Snapshot) -> Result<(), Refused>;

    /// What was noted of a place.
    fn placed(&self, at: &str) -> Option<Placed>;
    /// The places of a volume that were noted.
    fn places(&self, volume: &str) -> Vec<(String, Placed)>;
    /// Notes it, or forgets it.
    fn note(&self, at: &str, placed: Option<Placed>);
    /// Mounts it; whether it was not before.
    fn mount(&self, volume: &Volume, at: &str, read_only: bool, flags: &MountOptions) -> Result<bool, Refused>;
    /// Shows what is mounted at `from` at `to`; whether it was not there before.
    fn bind(&self, volume: &Volume, from: &str, to: &str, read_only: bool) -> Result<bool, Refused>;
    /// Makes the device of a raw volume; whether it was not there before. `ALREADY_EXISTS` if it is there for another access.
    fn attach(&self, volume: &Volume, read_only: bool) -> Result<bool, Refused>;
    /// Takes the device of a raw volume away; whether it was there. `ABORTED` while somebody uses it.
    fn detach(&self, volume: &Volume) -> Result<bool, Refused>;
    /// Shows the device of a raw volume at `to`; whether it was not there before.
    fn show(&self, volume: &Volume, to: &str) -> Result<bool, Refused>;
    /// What its file system says of itself; `None` if it is not mounted there. Waits for nothing but the file system.
    fn usage(&self, volume: &Volume, at: &str) -> Result<Option<Usage>, Refused>;
    /// Whether it was mounted.
    fn unmount(&self, volume: &Volume, at: &str) -> Result<bool, Refused>;
    /// Whether there was one. `ABORTED` if something is mounted there.
    fn remove_mount_point(&self, at: &str) -> Result<bool, Refused>;
}
