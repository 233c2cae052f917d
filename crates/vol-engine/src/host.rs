//! The one door to the world: everything the product does to disks, device-mapper, processes, mounts, the clock and
//! randomness goes through these traits.
//!
//! [`HostRead`] observes, [`HostMut`] changes; only the executor holds the changing half, so a query cannot write. Each call
//! of [`HostMut`] is one effect: a place where a test can stop, fail or kill. All calls block; the daemon makes them on
//! its worker threads. Implementations: `vol-linux` (the real host) and `vol-sim` (disks and dm-thin with faults).

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use vol_core::observed::{
    DevNumber, DiskIdentity, DiskInfo, DmInfo, FsCheck, FsState, FsVerdict, Kin, Mount, PoolContents, PoolSharing,
    PoolStatus, Probe, Signature, TargetLine, TargetStatus, ThinChanges, ThinStatus, ThinVerdict,
};
use vol_core::plan::repair::Known;
use vol_types::{Bytes, FsKind, MkfsOptions, MountOptions, Name, RootDir};

pub type HostResult<T> = Result<T, HostError>;

/// What went wrong, to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostErrorKind {
    /// No such device, file, dm device, thin id (`ENOENT`, `ENXIO`, `ENODATA`).
    NotFound,
    /// In use by somebody else (`EBUSY`).
    Busy,
    /// Already there (`EEXIST`).
    Exists,
    Denied,
    NoSpace,
    /// The device answered with an error or went away (`EIO`, `ENODEV`, short read).
    Io,
    /// The open device is not the one that was observed: another took its name or number.
    Changed,
    /// The kernel or the host cannot do this at all.
    Unsupported,
    Invalid,
    /// In a file system the directory that is to be mounted is missing, or something else, a symbolic link included, is in its place.
    NoDirectory,
    TimedOut,
    /// An external program failed; `detail` has the end of what it said.
    Tool,
    Other,
}

/// A failed call. The text says what was tried on what, and what came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct HostError {
    pub kind: HostErrorKind,
    /// Operation and object: `open /dev/sdb`.
    pub what: String,
    /// What came back: the system's text for the error number, or the end of a tool's output.
    pub detail: String,
    /// Which of several that were asked for in one call, counted from 0.
    pub at: usize,
}

impl HostError {
    pub fn new(kind: HostErrorKind, what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, what: what.into(), detail: detail.into(), at: 0 }
    }
    /// It is this one of several that failed.
    pub fn at(self, at: usize) -> Self {
        Self { at, ..self }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.detail)
    }
}

/// A block device open for reading.
pub trait BlockRead: Send + Sync {
    /// The identity of the open descriptor (not of the path).
    fn identity(&self) -> &DiskIdentity;
    /// Reads exactly `len` bytes at `offset`, both multiples of 4096 (so that O_DIRECT works on any disk).
    /// Reading past the end is `Io`.
    fn read_at(&self, offset: u64, len: usize) -> HostResult<Vec<u8>>;
    /// For the host that made it, to find its own descriptor again in [`HostMut::write_durable`].
    fn as_any(&self) -> &dyn Any;
}

/// A block device open for writing.
pub trait BlockWrite: BlockRead {
    /// Writes `data` (offset and length multiples of 4096) without making it durable.
    fn write_at(&self, offset: u64, data: &[u8]) -> HostResult<()>;
    /// Makes all completed writes durable. After an error it is unknown what of them is: until something is written again each
    /// further call is `Io` too, and then the flush vouches for what was written since the error.
    fn flush(&self) -> HostResult<()>;
}

/// One write of a commit.
pub struct DurableWrite<'a> {
    pub device: &'a Arc<dyn BlockWrite>,
    /// Multiple of 4096.
    pub offset: u64,
    /// Length a multiple of 4096.
    pub data: &'a [u8],
}

/// A dm device to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmCreate {
    pub name: String,
    pub uuid: String,
    pub table: Vec<TargetLine>,
    pub read_only: bool,
    /// Private layers are hidden from udev's scanning (`DM_UDEV_DISABLE_*` flags).
    pub private: bool,
    /// What udev is to call it below `/dev/volumed`: `VG/VOLUME` or `VG/VOLUME@SNAPSHOT`. That this cannot be told is no failure.
    pub link: Option<String>,
}

/// Thin snapshots of one instant: one compound step, because nothing may happen between suspend and resume.
///
/// The origins that are active are suspended one after the other (which freezes their file systems and flushes), then all messages
/// are sent, then all origins are resumed, whatever came of the messages. A guard outside the daemon resumes them should the
/// daemon die in between. After the first message that fails no further one is sent; the error says which one it was
/// ([`HostError::at`]), and those before it were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinSnapshot {
    pub pool_uuid: String,
    /// At least one, each of another origin.
    pub of: Vec<ThinOrigin>,
}

/// One of the snapshots of a [`ThinSnapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinOrigin {
    /// The origin's dm uuid if it is active.
    pub uuid: Option<String>,
    pub origin_thin_id: u32,
    /// The new id.
    pub thin_id: u32,
}

impl ThinSnapshot {
    /// A single snapshot.
    pub fn one(pool_uuid: String, origin_uuid: Option<String>, thin_id: u32, origin_thin_id: u32) -> Self {
        Self { pool_uuid, of: vec![ThinOrigin { uuid: origin_uuid, origin_thin_id, thin_id }] }
    }
}

impl fmt::Display for ThinSnapshot {
    /// For messages: `thin snapshot 7 of 3 (VOLUMED-…), 8 of 4 (inactive)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.of.iter().enumerate() {
            let device = one.uuid.as_deref().unwrap_or("inactive");
            let before = if at == 0 { "thin snapshot" } else { "," };
            write!(f, "{before} {} of {} ({device})", one.thin_id, one.origin_thin_id)?;
        }
        Ok(())
    }
}

/// Most bytes that [`HostMut::wipe_slice`] and [`HostMut::copy_slice`] move in one call: what a call costs is bounded, and whoever
/// asked can stop or rest after it. So large that on a fast disk, too, a slice takes long beside its flush.
pub const SLICE_MAX: u64 = 256 << 20;

/// How a range came to read as zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WipeMethod {
    /// It was discarded, and then read: all zeroes.
    Discarded,
    /// The device zeroed it itself, without data sent to it; it was read as well.
    Offloaded,
    /// Zeroes were written.
    Written,
}

impl WipeMethod {
    /// For messages and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discarded => "discarded",
            Self::Offloaded => "offloaded",
            Self::Written => "written",
        }
    }
}

/// One end of a copy: a dm device of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmEnd {
    pub dev: DevNumber,
    /// Its dm uuid, which the open descriptor must have.
    pub uuid: String,
}

/// A mount to be made. Always with `nosuid,nodev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountCall {
    pub dev: DevNumber,
    pub fs: FsKind,
    /// The directory in its root that is mounted, instead of the root; else `NoDirectory`.
    pub subdir: Option<Name>,
    /// Absolute, without `.` and `..`; missing directories are made (mode 0755); no component may be a symbolic link.
    pub target: PathBuf,
    /// The directory at `target` is the daemon's own: once something was mounted there, nobody can write to it while nothing is, where its
    /// file system can do that (immutable, `ioctl_iflags(2)`). [`HostMut::remove_mount_point`] removes it.
    pub sealed: bool,
    pub read_only: bool,
    /// XFS refuses to mount two file systems with one UUID: set for snapshots (`nouuid`).
    pub allow_same_uuid: bool,
    /// The journal is not replayed, so that a read-only mount writes nothing at all (ext4 `noload`, XFS `norecovery`,
    /// btrfs `rescue=nologreplay`). Only with `read_only`.
    pub no_replay: bool,
    /// Those of the file system count for the first of its mounts, and so for all.
    pub options: MountOptions,
}

/// A mount of what is mounted somewhere already, which has the attributes of that one (`nosuid,nodev` among them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindCall {
    /// Whose file system it is.
    pub dev: DevNumber,
    /// Where it is mounted; `Changed` if something else is.
    pub from: PathBuf,
    /// As [`MountCall::target`].
    pub target: PathBuf,
    /// The new mount alone.
    pub read_only: bool,
}

/// The node of a dm device of ours, as a file elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCall {
    pub dev: DevNumber,
    /// Whose number that is; `Changed` if it is another device's.
    pub dm_uuid: String,
    /// A file, made (mode 0600) if it is missing, as are the directories above (mode 0755). No component may be a symbolic link.
    pub target: PathBuf,
    /// What the mount table says of it: the kernel asks nothing but the device itself whether it may be written to.
    pub read_only: bool,
}

/// What a mounted file system says of itself (`statvfs(3)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsUsage {
    pub size: Bytes,
    pub free: Bytes,
    /// Of that for who is not root.
    pub available: Bytes,
    /// Zero where there is no fixed number of them.
    pub inodes: u64,
    pub inodes_free: u64,
}

/// Which state of a pool's metadata is read; see [`HostRead::pool_contents`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataRoot {
    /// What was committed last. Only of a pool that nobody writes to: one that is not loaded, is read-only, or has failed.
    Committed,
    /// The metadata snapshot that is held, which stays as it is while the pool runs.
    Held,
}

/// What [`HostRead::pool_sharing`] reads.
#[derive(Clone, Copy)]
pub struct SharingCall<'a> {
    /// dm uuid of the pool's metadata device.
    pub metadata_uuid: &'a str,
    pub root: MetadataRoot,
    /// Where thin ids belong; those that are not named are on their own.
    pub kin: &'a BTreeMap<u32, Kin>,
    /// After this time it is given up, with `TimedOut`.
    pub limit: Duration,
    /// Whether to go on; if not it is given up, with `Busy`. Asked between blocks.
    pub go_on: &'a (dyn Fn() -> bool + Sync),
}

/// What [`HostRead::pool_changes`] reads.
#[derive(Clone)]
pub struct ChangesCall<'a> {
    /// dm uuid of the pool's metadata device.
    pub metadata_uuid: &'a str,
    pub root: MetadataRoot,
    /// The thin id that is compared with; `None`: with nothing, so that all that is mapped is found.
    pub base: Option<u32>,
    pub target: u32,
    /// Chunks of the thin volume that are looked at.
    pub chunks: Range<u64>,
    /// Most ranges that are found at once.
    pub most: usize,
    /// After this time what was found so far is given; some of it is always looked at.
    pub enough: Duration,
    /// Whether to go on; if not it is given up, with `Busy`. Asked between blocks.
    pub go_on: &'a (dyn Fn() -> bool + Sync),
}

/// A device is mounted in another mount namespace than the host's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elsewhere {
    pub dev: DevNumber,
    /// A process in that namespace.
    pub pid: u32,
    /// What the kernel calls it.
    pub process: String,
    /// As that namespace sees it.
    pub target: PathBuf,
}

impl fmt::Display for Elsewhere {
    /// For messages: `process 4711 (postgres), at /var/lib/postgresql`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}), at {}", self.pid, self.process, self.target.display())
    }
}

/// How the daemon's own I/O is done, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoBackend {
    /// `io_uring (registered buffers)`, `io_uring` or `pread/pwrite`.
    pub name: String,
    /// Why it is not the first of these, if it is not.
    pub reason: Option<String>,
}

/// What was said of disks since it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskNews {
    Nothing,
    /// These nodes came, went, or became something else.
    Of(BTreeSet<PathBuf>),
    /// Something was said that did not arrive: it may have been about any of them.
    Lost,
}

/// Where news of disks come from: [`HostRead::disk_events`].
pub trait DiskEvents: Send + Sync {
    /// Waits until something is said of a disk, no longer than this. What comes in quick succession is told together, and what comes
    /// is told when it may be read: when whoever sets it up (udev) is done, or has had time enough for that.
    fn wait(&self, most: Duration) -> DiskNews;
    /// Ends a wait: the one that goes on, or the next.
    fn wake(&self);
}

/// Where it is told that the host's mount table changed: [`HostRead::mount_events`].
pub trait MountEvents: Send + Sync {
    /// Waits until the mount table changes, no longer than this. What changed before the first call, or between two, ends the wait
    /// at once.
    fn wait(&self, most: Duration);
    /// Ends a wait: the one that goes on, or the next.
    fn wake(&self);
}

/// A dm target: its name, and its version as major, minor, patch.
pub type DmTarget = (String, (u32, u32, u32));

/// The reading half.
pub trait HostRead: Send + Sync {
    /// Wall clock, seconds since 1970; for display only.
    fn now(&self) -> u64;
    /// What has gone by since some moment of this run: a clock that never goes back.
    fn uptime(&self) -> Duration;
    /// Changes with every boot (`/proc/sys/kernel/random/boot_id`).
    fn boot_id(&self) -> HostResult<String>;
    fn io_backend(&self) -> IoBackend;
    /// How many processors this process may use; at least 1.
    fn processors(&self) -> usize;
    /// Calls of device-mapper that this process made so far, by kind. Asks nobody.
    fn dm_calls(&self) -> Vec<(&'static str, u64)>;
    /// Lets time pass, for what goes away by itself.
    fn pause(&self, time: Duration);
    /// Does pieces of work that wait for different disks, side by side where the host can, and returns when all are done. The simulator
    /// does them in their order, so that a run can be repeated.
    fn side_by_side(&self, work: Vec<Box<dyn FnOnce() + Send + '_>>) {
        work.into_iter().for_each(|piece| piece());
    }

    /// Nodes of all block devices that may carry a PV. Never our own dm devices (what a user wrote inside a volume is not
    /// looked at), nor empty, ram, zram, optical or floppy devices.
    fn block_devices(&self) -> HostResult<Vec<PathBuf>>;
    /// Names of all block devices there are, as their nodes, those too that are no business of ours: what one listing of a folder
    /// gives.
    fn device_names(&self) -> HostResult<BTreeSet<PathBuf>>;
    /// What the kernel says of the device at a node without the device being opened; `None` if there is none, or it is none of
    /// [`HostRead::block_devices`]. A suspended device of others is one.
    fn disk_at(&self, node: &Path) -> HostResult<Option<DiskIdentity>>;
    /// Begins to listen to what is said of disks. `Unsupported` or `Denied` where nothing can be heard.
    fn disk_events(&self) -> HostResult<Arc<dyn DiskEvents>>;
    /// All there is to know of a device before it is touched. `NotFound` if there is none, `Invalid` if it is no block device.
    fn inspect(&self, path: &Path) -> HostResult<DiskInfo>;
    /// Opens for reading. The identity is the descriptor's own. `Busy` for a suspended device, on which every read would wait.
    fn open_read(&self, node: &Path) -> HostResult<Arc<dyn BlockRead>>;
    /// Signatures of an active dm device of ours, by number; used only on what has never been handed out.
    fn probe(&self, dev: DevNumber) -> HostResult<Probe>;

    /// All dm devices whose uuid has our prefix.
    fn dm_devices(&self) -> HostResult<Vec<DmInfo>>;
    /// The uuids of these, in no order: one listing, and no call for each where the kernel tells uuids in it (Linux 5.13).
    fn dm_uuids(&self) -> HostResult<Vec<String>>;
    fn dm_device(&self, uuid: &str) -> HostResult<Option<DmInfo>>;
    /// As [`HostRead::dm_device`], with what a pool or a thin volume says of itself, in the same call of the kernel. Never forces a
    /// pool commit (`DM_NOFLUSH_FLAG`).
    fn dm_status(&self, uuid: &str) -> HostResult<Option<(DmInfo, TargetStatus)>>;
    /// The live table.
    fn dm_table(&self, uuid: &str) -> HostResult<Vec<TargetLine>>;
    /// Never forces a pool commit (`DM_NOFLUSH_FLAG`).
    fn pool_status(&self, uuid: &str) -> HostResult<PoolStatus>;
    /// Never forces a pool commit (`DM_NOFLUSH_FLAG`).
    fn thin_status(&self, uuid: &str) -> HostResult<ThinStatus>;
    /// What the metadata of a pool say, read from its metadata device (by dm uuid) past the pool. `Invalid` if they are damaged
    /// or blank, `NotFound` if there is no such device or no metadata snapshot is held.
    fn pool_contents(&self, metadata_uuid: &str, root: MetadataRoot) -> HostResult<PoolContents>;
    /// What the superblock of the file system on an active dm device of ours says, and of a mounted one (at `at`) the kernel
    /// where that knows better. Nothing else of it is read. `Invalid` if it is no superblock of this kind.
    fn fs_state(&self, dev: DevNumber, fs: FsKind, at: Option<&Path>) -> HostResult<FsState>;
    /// What the file system of `dev` says of itself, which is mounted at `at`; `Changed` if something else is.
    fn fs_usage(&self, dev: DevNumber, at: &Path) -> HostResult<FsUsage>;
    /// As [`HostRead::pool_contents`], with who shares chunks with whom: reads all of the pool's mappings. `Unsupported` if they
    /// are too many.
    fn pool_sharing(&self, call: &SharingCall<'_>) -> HostResult<PoolSharing>;
    /// In which chunks a thin volume differs from another one of the pool, from its metadata; the rules of [`HostRead::pool_contents`] hold.
    /// `NotFound` if there is no such thin id.
    fn pool_changes(&self, call: &ChangesCall<'_>) -> HostResult<ThinChanges>;
    /// That the tools for a pool's metadata are there; `Unsupported` names the package if not.
    fn thin_tools(&self) -> HostResult<()>;
    /// Looks at a pool's metadata on a dm device of ours that no pool uses, and changes nothing (`thin_check(8)`). Bounded in time.
    /// `Busy` if it is in use, `Changed` if the device is not `dm_uuid`.
    fn thin_check(&self, dev: DevNumber, dm_uuid: &str) -> HostResult<ThinVerdict>;
    /// The dm targets that the kernel has loaded or can load.
    fn dm_targets(&self) -> HostResult<Vec<DmTarget>>;

    /// The mount table of the host's mount namespace.
    fn mounts(&self) -> HostResult<Vec<Mount>>;
    /// Begins to listen to changes of that table.
    fn mount_events(&self) -> HostResult<Arc<dyn MountEvents>>;
    /// Who has the device open or mounted, for messages: `process 4711 (postgres)`, `mounted at / in the mount namespace of
    /// process 12 (dockerd)`. Best effort, bounded in time and number.
    fn holders(&self, dev: DevNumber) -> Vec<String>;
    /// Where these devices are mounted in other mount namespaces than the host's: one entry for each device and namespace. What a namespace
    /// only received from the host, and loses with it, does not count; a namespace without a process is not seen. An error if any process could not be asked: then nothing is known.
    fn mounted_elsewhere(&self, devs: &BTreeSet<DevNumber>) -> HostResult<Vec<Elsewhere>>;

    /// The backing files that were remembered, and the `*.img` in the default directory.
    fn backing_files(&self) -> HostResult<Vec<PathBuf>>;
    /// The loop device that is attached to `file`.
    fn loop_device_of(&self, file: &Path) -> HostResult<Option<PathBuf>>;
    /// Whether something stands at this path (links not followed).
    fn path_exists(&self, path: &Path) -> HostResult<bool>;
    /// The directories in this one, links not followed, in no order; none if there is no such directory.
    fn directories_in(&self, dir: &Path) -> HostResult<Vec<PathBuf>>;
}

/// The changing half.
pub trait HostMut: HostRead {
    /// A new random id (version 4).
    fn new_uuid(&self) -> Uuid;

    /// Opens for writing, `Changed` if the device behind `node` is not `expected`, `Denied` if it is read-only.
    fn open_write(&self, node: &Path, expected: &DiskIdentity) -> HostResult<Arc<dyn BlockWrite>>;
    /// Writes all and makes each durable, side by side; one answer per write, in order. After an error the content of the
    /// range is unknown: old, new or torn at 512 bytes.
    fn write_durable(&self, writes: &[DurableWrite<'_>]) -> Vec<HostResult<()>>;
    /// Erases exactly the signatures that were `expected`; `Changed` if others are found. Looks again afterwards and fails
    /// (`Io`) if anything is left.
    fn wipe_signatures(&self, node: &Path, identity: &DiskIdentity, expected: &[Signature]) -> HostResult<()>;
    /// Tells the kernel to read the partition table again; failure is of no consequence.
    fn reread_partitions(&self, node: &Path);

    /// Makes a sparse file (mode 0600, parent directories made) and its directory entry durable; `Exists` if it is there.
    fn create_file(&self, path: &Path, size: Bytes) -> HostResult<()>;
    fn delete_file(&self, path: &Path) -> HostResult<()>;
    /// Attaches a loop device with direct I/O if the file system can, and gives its node; the present one if there is one.
    fn attach_loop(&self, file: &Path) -> HostResult<PathBuf>;
    fn detach_loop(&self, node: &Path) -> HostResult<()>;
    /// Replaces the list behind [`HostRead::backing_files`].
    fn remember_backing_files(&self, files: &[PathBuf]) -> HostResult<()>;

    /// Create, load, resume. If loading or resuming fails the device is removed again. `Exists` if uuid or name is taken.
    /// When it returns, `/dev/dm-<minor>` can be opened.
    fn dm_create(&self, device: &DmCreate) -> HostResult<DmInfo>;
    /// Swaps the table: load, then one resume (the kernel suspends and resumes inside it). After an error the old table is
    /// live, unless that failed too, which the text then says.
    fn dm_reload(&self, uuid: &str, table: &[TargetLine]) -> HostResult<()>;
    /// Makes a suspended device live again; nothing happens to one that is live.
    fn dm_resume(&self, uuid: &str) -> HostResult<()>;
    /// Has udev call a device `/dev/volumed/<link>` from now on; nothing happens if it does. Only the link is concerned: whatever
    /// comes of it, the device is as it was. `NotFound` if there is none, `NoSpace` if `/run` is full.
    fn dm_link(&self, uuid: &str, link: &str) -> HostResult<()>;
    /// Removes. udev may hold a device open for a moment: tries again for at most two seconds, then `Busy`.
    /// `NotFound` if there is none.
    fn dm_remove(&self, uuid: &str) -> HostResult<()>;
    /// Sends a message to the target at sector 0 of a device. `Exists` and `NotFound` tell of thin ids. Success proves
    /// nothing: read the status afterwards.
    fn dm_message(&self, uuid: &str, message: &str) -> HostResult<()>;
    /// See [`ThinSnapshot`].
    fn thin_snapshot(&self, snapshot: &ThinSnapshot) -> HostResult<()>;
    /// Writes zeroes over `len` bytes of a dm device of ours, and makes them durable.
    fn zero_device(&self, dev: DevNumber, offset: u64, len: u64) -> HostResult<()>;

    /// Gives back the space of a range of a thin volume (`BLKDISCARD`): what is read there afterwards is anything. Chunks that
    /// lie in it only in part keep their space. `Changed` if the device is not `dm_uuid`, `Unsupported` if it takes no discards.
    fn discard(&self, dev: DevNumber, dm_uuid: &str, offset: u64, len: u64) -> HostResult<()>;

    /// Makes a range of a dm device of ours read as zeroes, by the cheapest way that was seen to do so, and durable. `offset` and
    /// `len` are multiples of 4096; `len` is above zero and at most [`SLICE_MAX`]. After an error the range holds anything: old
    /// data, zeroes, some of each. `Changed` if the device is not `dm_uuid`, `Invalid` for a range that is not aligned or too long,
    /// `Io` past the end and for what cannot be written, `Denied` on a read-only device. On a thin volume zeroes that are written
    /// take up chunks.
    fn wipe_slice(&self, dev: DevNumber, dm_uuid: &str, offset: u64, len: u64) -> HostResult<WipeMethod>;
    /// Copies a range to the same place of another dm device of ours, and makes it durable there. Range and errors as in
    /// [`HostMut::wipe_slice`]; `Invalid` also for a device and itself. What is written to the source meanwhile is copied or not.
    fn copy_slice(&self, from: &DmEnd, to: &DmEnd, offset: u64, len: u64) -> HostResult<()>;

    /// Makes a file system on a dm device of ours and flushes it. All of the device must read as zeroes, by what is on record: a thin
    /// volume that nobody ever wrote to, a thick one that was wiped. mkfs is told so, and what it need not zero it does not write.
    /// `Changed` if the device is not `dm_uuid`.
    fn mkfs(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, fs_uuid: Uuid, options: &MkfsOptions) -> HostResult<()>;
    /// Sets owner and mode of the root directory of a new file system, or of a directory that is made in it, and takes `lost+found` out
    /// of the root: mounted where nobody sees it, and durable when it returns. `Changed` if the device is not `dm_uuid`.
    fn fs_prepare_root(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, root: &RootDir) -> HostResult<()>;
    fn mount(&self, call: &MountCall) -> HostResult<()>;
    /// Shows what is mounted at one place at another one too. Nothing is there if it fails.
    fn bind(&self, call: &BindCall) -> HostResult<()>;
    /// Shows the node of a device at another place ([`Mount::is_node`]). Nothing is mounted there if it fails; the file may be left.
    fn show_node(&self, call: &NodeCall) -> HostResult<()>;
    /// Unmounts exactly this mount; `Busy` if files are open there.
    fn unmount(&self, mount: &Mount) -> HostResult<()>;
    /// Makes a directory, and those above it that are missing (mode 0755), and gives it this mode; it may be there. No component may be a
    /// symbolic link.
    fn make_directory(&self, dir: &Path, mode: u32) -> HostResult<()>;
    /// Removes a directory or a file at which something was mounted. `Busy` if something is in it, or mounted there in any mount namespace; nothing
    /// has changed then. `NotFound` if there is none. Never between a mount's making the directory and its being mounted there.
    fn remove_mount_point(&self, path: &Path) -> HostResult<()>;
    /// Grows the file system of a dm device of ours, which is mounted writable at `at`, to the size of the device. It may be
    /// that large already. `Changed` if something else is mounted there.
    fn fs_grow(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, at: &Path) -> HostResult<()>;
    /// Checks the file system of a dm device of ours that is not mounted; the device must be writable. The journal is replayed
    /// first, as at a mount. `Busy` if it is in use, `Changed` if the device is not `dm_uuid`.
    fn fs_check(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, how: FsCheck) -> HostResult<FsVerdict>;
    /// Discards what the file system mounted at `at`, that of a dm device of ours, does not use (`ioctl_fitrim(2)`); how much it
    /// says that was. `Changed` if something else is mounted there, `Unsupported` if it or its device cannot discard.
    fn fs_trim(&self, dev: DevNumber, at: &Path) -> HostResult<Bytes>;

    /// As [`HostRead::thin_check`]; takes the kernel's mark `needs_check` away if the metadata are sound.
    fn thin_clear_needs_check(&self, dev: DevNumber, dm_uuid: &str) -> HostResult<ThinVerdict>;
    /// Writes what can be read of the metadata on one dm device of ours, which is only read, to another, and makes it durable
    /// (`thin_repair(8)`). `known` is used if their superblock cannot be. Bounded in time. `Tool` if nothing can be made of them,
    /// `Changed` if a device is not the one with the uuid that was named.
    fn thin_repair(&self, from: (DevNumber, &str), to: (DevNumber, &str), known: &Known) -> HostResult<()>;
}
