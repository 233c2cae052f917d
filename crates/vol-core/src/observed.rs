//! The world as it was observed: plain inputs to the planner, made by the engine from the host's reading half.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use vol_types::{Bytes, Sectors};

/// A block device's number, as the kernel and dm tables write it: `major:minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevNumber {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for DevNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What tells a block device from another that later takes its name or number. Compared on the open descriptor
/// before anything destructive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskIdentity {
    pub dev: DevNumber,
    /// The kernel's sequence number of the attachment (`/sys/block/*/diskseq`, Linux 5.15); `None` where there is none.
    pub diskseq: Option<u64>,
    pub size: Bytes,
}

/// A disk, partition or loop device that could be a PV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    /// The path it was asked for by.
    pub path: PathBuf,
    /// The device node that `path` leads to (`/dev/sdb`), links resolved.
    pub node: PathBuf,
    pub identity: DiskIdentity,
    pub kind: DiskKind,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    pub read_only: bool,
    /// WWID, serial or the like, from sysfs; empty if the device has none.
    pub hardware_id: String,
    /// What libblkid finds on it: file systems, partition tables, RAID, LVM, LUKS …
    pub signatures: Vec<Signature>,
    /// Where it, or a partition of it, is mounted in the host's mount namespace.
    pub mounts: Vec<PathBuf>,
    /// Whether it, or a partition of it, is swap in use.
    pub swap: bool,
    /// Devices on top of it or of a partition of it (`/sys/block/*/holders`): dm, md, bcache …, by kernel name,
    /// a dm device with its own name behind it.
    pub holders: Vec<String>,
    /// The numbers of its partitions.
    pub partitions: Vec<DevNumber>,
    /// dm uuid, if it is a device-mapper device.
    pub dm_uuid: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// A disk that can be partitioned (loop, md and dm devices of others included).
    Whole,
    /// A partition of the disk with this number.
    Partition { of: DevNumber },
    /// A loop device over this file.
    Loop { file: PathBuf },
}

/// One signature on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `filesystem`, `partition table`, `raid`, `crypto` or `other`.
    pub usage: String,
    /// libblkid's type: `ext4`, `gpt`, `LVM2_member`, `linux_raid_member` …
    pub kind: String,
    pub label: Option<String>,
    pub uuid: Option<String>,
}

impl fmt::Display for Signature {
    /// `ext4 filesystem (label "data", UUID 1234)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.usage.as_str() {
            "partition table" => write!(f, "{} partition table", self.kind)?,
            "filesystem" => write!(f, "{} file system", self.kind)?,
            usage => write!(f, "{} ({usage})", self.kind)?,
        }
        match (&self.label, &self.uuid) {
            (Some(label), Some(uuid)) => write!(f, ", label {label:?}, UUID {uuid}"),
            (Some(label), None) => write!(f, ", label {label:?}"),
            (None, Some(uuid)) => write!(f, ", UUID {uuid}"),
            (None, None) => Ok(()),
        }
    }
}

/// A device-mapper device of ours (uuid prefix `VOLUMED-`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmInfo {
    pub name: String,
    pub uuid: String,
    pub dev: DevNumber,
    pub open_count: u32,
    pub suspended: bool,
    /// Whether a live table is loaded; a crash between create and load leaves a device without.
    pub live_table: bool,
    /// Whether a table is loaded that no resume has made live.
    pub inactive_table: bool,
    pub read_only: bool,
    /// Length of the live table; zero without one.
    pub len: Sectors,
}

/// One line of a dm table, devices as `major:minor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetLine {
    pub start: Sectors,
    pub len: Sectors,
    pub target: String,
    pub params: String,
}

/// Status line of a thin pool (kernel `admin-guide/device-mapper/thin-provisioning.rst`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolStatus {
    Working(PoolUsage),
    /// The pool gave up: all I/O fails.
    Fail,
    /// The kernel could not even tell.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    pub transaction_id: u64,
    /// In blocks of 4 KiB.
    pub used_metadata: u64,
    pub total_metadata: u64,
    /// In chunks.
    pub used_data: u64,
    pub total_data: u64,
    pub mode: PoolMode,
    pub needs_check: bool,
    /// Writes that find no free chunk fail at once. The kernel changes to that by itself when they waited for its `no_space_timeout`.
    pub error_when_full: bool,
    /// Whether a metadata snapshot is held.
    pub metadata_snapshot: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    ReadWrite,
    ReadOnly,
    OutOfDataSpace,
}

/// What the pool's own metadata say of a thin id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinRecord {
    /// Chunks that it maps, shared ones included.
    pub mapped_chunks: u64,
    /// The pool's transaction id when it was made.
    pub transaction_id: u64,
}

/// What the pool's own metadata say, read past the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolContents {
    pub transaction_id: u64,
    /// The snapshot clock: `create_snap` messages in the pool's life.
    pub clock: u32,
    pub needs_check: bool,
    pub thins: BTreeMap<u32, ThinRecord>,
}

/// Where a thin id belongs, for [`PoolSharing`]. A set lies in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kin {
    pub set: u32,
    pub family: u32,
}

/// Who shares a pool's chunks with whom. All numbers are chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSharing {
    pub contents: PoolContents,
    /// Mapped by any thin id, each counted once.
    pub mapped: u64,
    /// By thin id: mapped by no other.
    pub exclusive: BTreeMap<u32, u64>,
    /// By set: mapped by no thin id outside of it.
    pub sets: BTreeMap<u32, u64>,
    /// By family: mapped by no thin id outside of it.
    pub families: BTreeMap<u32, u64>,
}

/// Chunks of a thin volume that are not what they are in another one, or all that are mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThinChanges {
    /// The pool's transaction id in the state that was read.
    pub transaction_id: u64,
    /// Ascending; none touches the next.
    pub ranges: Vec<std::ops::Range<u64>>,
    /// Before this chunk all was looked at; `None`: at the end.
    pub next: Option<u64>,
}

/// Status line of a thin volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinStatus {
    Working { mapped: Sectors },
    Fail,
    Error,
}

/// What the target of a device says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetStatus {
    Pool(PoolStatus),
    Thin(ThinStatus),
    /// Another target, several, or no live table.
    None,
}

/// A line of the host's mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub mount_id: u64,
    /// Of the device whose file system it is, or whose node it shows ([`Mount::is_node`]).
    pub dev: DevNumber,
    /// The directory of the file system that it shows: `/`, or where a bind mount or a mounted sub-directory begins.
    pub root: PathBuf,
    pub target: PathBuf,
    pub fs_type: String,
    pub read_only: bool,
}

impl Mount {
    /// The type of the file system that the kernel keeps the nodes of devices in.
    pub const NODES: &str = "devtmpfs";

    /// It shows the node of the device, and not a file system that is on it.
    pub fn is_node(&self) -> bool {
        self.fs_type == Self::NODES
    }
}

/// What a probe says of the content of a device. It may veto a mkfs, never permit one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    Nothing,
    Found {
        kind: String,
        uuid: Option<String>,
    },
    /// More than one signature contradict each other.
    Ambivalent,
}

/// What the superblock of a file system says. It was written by a kernel, but may be damaged: it decides only about whether a
/// tool is run that looks for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsState {
    /// How far the file system goes; less than the device's size after that has grown.
    pub size: Bytes,
    /// The kernel met errors in it and it was not checked since (ext4: `EXT4_ERROR_FS` in `s_state`; others keep no such mark).
    pub errors: bool,
}

/// How a file system is looked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsCheck {
    /// All of it; what can be put right without a choice to be made is (ext4 only; others are looked at).
    Safe,
    /// All of it; the journal is replayed as at a mount, and nothing else is changed.
    Look,
    /// All of it; everything is put right, whatever is lost by that (not btrfs, whose tool is not to be trusted with that).
    Repair,
}

/// What a check came to. Texts are the last lines that the tool said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FsVerdict {
    Clean,
    /// There were errors, and they are put right.
    Corrected(String),
    /// There are errors that a person has to decide about.
    Damaged(String),
}

/// What `thin_check` says of a pool's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThinVerdict {
    Sound,
    /// The last lines that the tool said.
    Damaged(String),
}
