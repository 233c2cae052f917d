//! The closed list of effects. A plan is made of these and of nothing else; the engine executes them and makes no choices.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use vol_types::{
    Bytes, Change, FsKind, MkfsOptions, MountOptions, Name, Object, ObjectKey, PoolId, PvId, RootDir, VolumeId,
};

use crate::catalog::VolumeName;
use crate::dm::{Device, Table};
use crate::observed::{DiskIdentity, FsCheck, Mount, Signature};
use crate::plan::repair::Known;

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub action: Action,
    /// What must hold right before the action, on what is then observed; else the plan stops there.
    pub requires: Vec<Requirement>,
}

impl Step {
    pub fn new(action: Action) -> Self {
        Self { action, requires: Vec::new() }
    }
    pub fn requires(mut self, requirement: Requirement) -> Self {
        self.requires.push(requirement);
        self
    }
}

/// A precondition that the engine checks against the world, not against what it remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// No dm device with this uuid.
    Absent(Device),
    /// A dm device with this uuid, live and not suspended.
    Active(Device),
    /// If the device is there, nobody has it open.
    NotOpen(Device),
    /// The pool is writable, needs no check and is at this transaction id.
    PoolAt { pool: PoolId, transaction_id: u64 },
    /// The first block of the pool's metadata is not blank. The kernel would take a blank one for a new pool, and format it.
    MetadataWritten { pool: PoolId, pv: PvId, offset: Bytes },
    /// The device under this path is still the one that was observed, and nobody has begun to use it.
    Unchanged { node: PathBuf, identity: DiskIdentity },
    /// A probe finds nothing on the volume. It can only forbid: the volume's own record is what allows.
    ProbesEmpty(VolumeId),
    /// Nothing is mounted at this path.
    NothingMountedAt(PathBuf),
    /// Nothing stands at this path.
    NoFileAt(PathBuf),
    /// All members are there and took every commit: no disk can come back that lacks the last one.
    EveryCopyWritten,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(device) => write!(f, "{} is not active", device.name()),
            Self::Active(device) => write!(f, "{} is active and not suspended", device.name()),
            Self::NotOpen(device) => write!(f, "nobody has {} open", device.name()),
            Self::PoolAt { transaction_id, .. } => {
                write!(f, "the pool is writable and at transaction {transaction_id}")
            }
            Self::MetadataWritten { .. } => write!(f, "the pool's metadata is there"),
            Self::Unchanged { node, .. } => {
                write!(f, "{} is still the disk that was looked at, and unused", node.display())
            }
            Self::ProbesEmpty(_) => write!(f, "nothing is found on the volume"),
            Self::NothingMountedAt(path) => write!(f, "nothing is mounted at {}", path.display()),
            Self::NoFileAt(path) => write!(f, "nothing stands at {}", path.display()),
            Self::EveryCopyWritten => {
                write!(f, "every disk with a copy of the metadata is there and took the last commit")
            }
        }
    }
}

/// Where a PV is to be found when a step needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PvDevice {
    /// A disk that was observed.
    Disk { node: PathBuf, identity: DiskIdentity },
    /// The loop device over a file that an earlier step of the plan attaches.
    File(PathBuf),
}

impl PvDevice {
    /// The path that people know it by.
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Disk { node, .. } => node,
            Self::File(path) => path,
        }
    }
}

/// One snapshot of a thin id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOf {
    /// The device of what it is taken of, if that is active.
    pub origin: Option<Device>,
    pub origin_thin_id: u32,
    pub thin_id: u32,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    CreateFile {
        path: PathBuf,
        size: Bytes,
    },
    AttachLoop {
        file: PathBuf,
    },
    /// Detaches the loop device that the PV stands on, or, of a file that this session made, the one it was given.
    DetachLoop {
        pv: PvId,
        file: PathBuf,
    },
    /// Deletes the file if it is the one that the daemon made for the PV; a file that was moved is left where it is.
    DeleteFile {
        file: PathBuf,
    },
    /// Adds and removes files of the list that is attached at start.
    RememberFiles {
        add: Vec<PathBuf>,
        remove: Vec<PathBuf>,
    },
    WipeSignatures {
        node: PathBuf,
        identity: DiskIdentity,
        signatures: Vec<Signature>,
    },
    /// Opens the PV for the steps that follow.
    OpenPv {
        pv: PvId,
        device: PvDevice,
    },
    /// Empties the metadata zone of every PV that carries metadata, and writes a first checkpoint with these objects at this
    /// sequence number: 1 for a new VG.
    StartStore {
        objects: Vec<Object>,
        sequence: u64,
    },
    WriteLabel {
        pv: PvId,
    },
    /// Writes the partition table that shows other tools that the disk is taken; nothing on a partition.
    WriteMark {
        pv: PvId,
    },
    EraseMark {
        pv: PvId,
    },
    /// Erases labels and checkpoint headers: the PV is none any more.
    EraseLabel {
        pv: PvId,
    },
    /// Writes the VG's name anew into the labels of a PV, if it is there; that it cannot be is no failure, since the name in a
    /// label is a hint.
    RefreshLabel {
        pv: PvId,
    },
    /// Gives a PV a copy of the metadata: both slots emptied, then a checkpoint of the present catalog. It takes part in commits
    /// from then on, and counts once a commit says that the PV carries one.
    AdmitCopy {
        pv: PvId,
    },
    /// An operator's word that these PVs will never come back: their copies do not count any more.
    DeclareLost {
        pvs: Vec<PvId>,
    },
    /// Lets go of a PV that is one no more.
    ClosePv {
        pv: PvId,
    },
    /// Writes a first checkpoint with these objects at this sequence number into one slot of the PV. The other slot and the log,
    /// which are of another VG, are left as they are.
    Imprint {
        pv: PvId,
        sequence: u64,
        slot: u8,
        objects: Arc<Vec<Object>>,
    },
    /// Reads the metadata back from all open PVs and goes on with it.
    OpenStore,
    /// One durable commit of the catalog.
    Commit {
        changes: Vec<Change>,
    },
    /// In force at once, and durable with the next commit, or by itself some time later. Only for what recovery finds out from the
    /// kernel if a crash comes before: the end of a pool transaction.
    CommitLater {
        changes: Vec<Change>,
    },
    CreateDm {
        device: Device,
        table: Table,
        read_only: bool,
    },
    /// Swaps the table of a live device, without freezing what is on it.
    ReloadDm {
        device: Device,
        table: Table,
    },
    RemoveDm {
        device: Device,
    },
    /// As [`Action::RemoveDm`], but somebody else having it open is no failure: it stays until it is asked for again.
    ReleaseDm {
        device: Device,
    },
    ResumeDm {
        device: Device,
    },
    /// Zeroes the first bytes of a device: a pool's metadata must begin with zeroes to be taken as new.
    ZeroStart {
        device: Device,
        len: Bytes,
    },
    /// Blocks of a thick volume that nobody has yet are wiped, or copied from another. That takes long, so it is done between two plans,
    /// and stands in those only that are shown.
    Fill {
        volume: VolumeId,
        copy: bool,
        /// Offsets in the volume.
        from: Bytes,
        to: Bytes,
    },
    CreateThin {
        pool: PoolId,
        thin_id: u32,
    },
    /// `absent_ok`: recovery cannot know whether the id was ever made, or is gone already.
    DeleteThin {
        pool: PoolId,
        thin_id: u32,
        absent_ok: bool,
    },
    /// Snapshots of thin ids, all of one instant: the origins that are active are all suspended before the first message, and
    /// resumed after the last.
    SnapshotThin {
        pool: PoolId,
        snapshots: Vec<SnapshotOf>,
    },
    /// Compare and swap of the pool's transaction id.
    SetTransaction {
        pool: PoolId,
        from: u64,
        to: u64,
    },
    /// The pool is writable, needs no check and is at this transaction id; a message that returned 0 proves nothing.
    CheckPool {
        pool: PoolId,
        transaction_id: u64,
    },
    /// The kernel uses a pool's data and metadata up to at least this size: it looks at them when a table is made live, and
    /// says so nowhere but in its log if it does not take them (`dm-thin.c`, `maybe_resize_data_dev`).
    CheckPoolSize {
        pool: PoolId,
        data_chunks: u64,
        /// In blocks of 4 KiB.
        metadata_blocks: u64,
    },
    /// A pool's metadata, which nobody uses, are looked at by `thin_check`; damage ends the plan.
    CheckThin {
        pool: PoolId,
        device: Device,
    },
    /// Looks at the metadata of a pool that is down once more, and takes the kernel's mark away if they are sound.
    ClearNeedsCheck {
        pool: PoolId,
    },
    /// Writes what can be read of a pool's metadata, which stay as they are, to its spare device.
    RepairThin {
        pool: PoolId,
        known: Known,
    },
    Mkfs {
        volume: VolumeId,
        fs: FsKind,
        uuid: [u8; 16],
        options: MkfsOptions,
    },
    /// Sets owner, mode and content of the root directory of a file system that nobody has seen.
    PrepareRoot {
        volume: VolumeId,
        fs: FsKind,
        root: RootDir,
    },
    /// The probe finds just the file system that was made.
    VerifyFs {
        volume: VolumeId,
        fs: FsKind,
        uuid: [u8; 16],
    },
    Mount {
        volume: VolumeId,
        name: VolumeName,
        fs: FsKind,
        /// The directory in its root that is mounted; `None`: the root.
        subdir: Option<Name>,
        target: PathBuf,
        /// The directory there is the daemon's own, and cannot be written to while nothing is mounted.
        sealed: bool,
        read_only: bool,
        allow_same_uuid: bool,
        /// Read-only, and the journal stays as it is: nothing at all is written.
        no_replay: bool,
        options: MountOptions,
    },
    /// Shows a volume that is mounted already at another place too, as a bind mount does.
    Bind {
        volume: VolumeId,
        name: VolumeName,
        /// Where it is mounted, which is looked at again before.
        from: PathBuf,
        target: PathBuf,
        /// Of this mount alone.
        read_only: bool,
    },
    /// Shows the node of a raw volume's device on a file, which is made if it is missing.
    ShowNode {
        volume: VolumeId,
        name: VolumeName,
        target: PathBuf,
        /// As the device is; nothing but what the mount table says hangs on it.
        read_only: bool,
    },
    Unmount {
        mount: Mount,
    },
    /// Removes the daemon's own directory at which something was mounted, if it is empty and nothing is mounted there any more. That it
    /// cannot be is no failure: the volume is unmounted all the same, and whoever looks after such directories tries again.
    RemoveMountPoint {
        path: PathBuf,
    },
    /// Looks a file system that is not mounted over; errors that are left end the plan. With `if_marked` only if its superblock
    /// says that the kernel met errors.
    CheckFs {
        volume: VolumeId,
        fs: FsKind,
        how: FsCheck,
        if_marked: bool,
    },
    /// Grows a mounted file system to the size of its device, if it is smaller. That it cannot be is a failure only if it `must`:
    /// a mount is good without it, and the next one tries again.
    GrowFs {
        volume: VolumeId,
        fs: FsKind,
        target: PathBuf,
        must: bool,
    },
}

impl Action {
    /// Short name, stable, for JSON and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CreateFile { .. } => "create-file",
            Self::AttachLoop { .. } => "attach-loop",
            Self::DetachLoop { .. } => "detach-loop",
            Self::DeleteFile { .. } => "delete-file",
            Self::RememberFiles { .. } => "remember-files",
            Self::WipeSignatures { .. } => "wipe-signatures",
            Self::OpenPv { .. } => "open-pv",
            Self::StartStore { .. } => "start-store",
            Self::WriteLabel { .. } => "write-label",
            Self::WriteMark { .. } => "write-mark",
            Self::EraseMark { .. } => "erase-mark",
            Self::EraseLabel { .. } => "erase-label",
            Self::RefreshLabel { .. } => "refresh-label",
            Self::AdmitCopy { .. } => "admit-copy",
            Self::DeclareLost { .. } => "declare-lost",
            Self::ClosePv { .. } => "close-pv",
            Self::Imprint { .. } => "imprint",
            Self::OpenStore => "open-store",
            Self::Commit { .. } => "commit",
            Self::CommitLater { .. } => "commit-later",
            Self::CreateDm { .. } => "create-dm",
            Self::ReloadDm { .. } => "reload-dm",
            Self::RemoveDm { .. } => "remove-dm",
            Self::ReleaseDm { .. } => "release-dm",
            Self::ResumeDm { .. } => "resume-dm",
            Self::ZeroStart { .. } => "zero-start",
            Self::Fill { .. } => "fill",
            Self::CreateThin { .. } => "create-thin",
            Self::DeleteThin { .. } => "delete-thin",
            Self::SnapshotThin { .. } => "snapshot-thin",
            Self::SetTransaction { .. } => "set-transaction",
            Self::CheckPool { .. } => "check-pool",
            Self::CheckPoolSize { .. } => "check-pool-size",
            Self::CheckThin { .. } => "check-thin",
            Self::ClearNeedsCheck { .. } => "clear-needs-check",
            Self::RepairThin { .. } => "repair-thin",
            Self::Mkfs { .. } => "mkfs",
            Self::PrepareRoot { .. } => "prepare-root",
            Self::VerifyFs { .. } => "verify-fs",
            Self::Mount { .. } => "mount",
            Self::Bind { .. } => "bind",
            Self::ShowNode { .. } => "show-node",
            Self::Unmount { .. } => "unmount",
            Self::RemoveMountPoint { .. } => "remove_mount_point",
            Self::CheckFs { .. } => "check-fs",
            Self::GrowFs { .. } => "grow-fs",
        }
    }
}

fn join(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Action {
    /// One line for people; the form that `--dry-run` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateFile { path, size } => write!(f, "make the sparse file {} of {size}", path.display()),
            Self::AttachLoop { file } => write!(f, "attach a loop device to {}", file.display()),
            Self::DetachLoop { file, .. } => write!(f, "detach the loop device of {}", file.display()),
            Self::DeleteFile { file } => write!(f, "delete the file {}", file.display()),
            Self::RememberFiles { add, remove } => match (add.as_slice(), remove.as_slice()) {
                (add, []) => write!(f, "attach {} at every start", join(add)),
                ([], remove) => write!(f, "attach {} at start no more", join(remove)),
                (add, remove) => write!(f, "attach {} at every start, and {} no more", join(add), join(remove)),
            },
            Self::WipeSignatures { node, signatures, .. } => {
                let all: Vec<_> = signatures.iter().map(Signature::to_string).collect();
                write!(f, "DESTROY on {}: {}", node.display(), all.join("; "))
            }
            Self::OpenPv { pv, device } => write!(f, "take {} as PV {pv}", device.path().display()),
            Self::StartStore { objects, .. } => {
                write!(f, "write the first checkpoint of the metadata ({} objects)", objects.len())
            }
            Self::WriteLabel { pv } => write!(f, "write the label of PV {pv}"),
            Self::WriteMark { pv } => write!(f, "mark the disk of PV {pv} as taken (GPT with one partition)"),
            Self::EraseMark { pv } => write!(f, "erase the mark of PV {pv}"),
            Self::EraseLabel { pv } => write!(f, "erase the label of PV {pv}"),
            Self::RefreshLabel { pv } => write!(f, "write the new name into the label of PV {pv}"),
            Self::AdmitCopy { pv } => write!(f, "write a copy of the metadata to PV {pv}"),
            Self::DeclareLost { pvs } => {
                let all: Vec<_> = pvs.iter().map(ToString::to_string).collect();
                write!(f, "go on without the metadata copies of PV {}", all.join(", "))
            }
            Self::ClosePv { pv } => write!(f, "let go of PV {pv}"),
            Self::Imprint { pv, objects, .. } => {
                write!(f, "write the metadata under new ids beside the old to PV {pv} ({} objects)", objects.len())
            }
            Self::OpenStore => f.write_str("read the metadata back from all PVs"),
            Self::Commit { changes } => {
                let all: Vec<_> = changes.iter().map(describe).collect();
                write!(f, "commit: {}", all.join("; "))
            }
            Self::CommitLater { changes } => {
                let all: Vec<_> = changes.iter().map(describe).collect();
                write!(f, "commit together with the next change: {}", all.join("; "))
            }
            Self::CreateDm { device, table, read_only } => {
                let access = if *read_only { ", read-only" } else { "" };
                write!(f, "activate {} ({}{access})", device.name(), describe_table(table))
            }
            Self::ReloadDm { device, table } => {
                write!(f, "change {} to {} of {}", device.name(), Bytes(table.len().get() * 512), describe_table(table))
            }
            Self::RemoveDm { device } => write!(f, "deactivate {}", device.name()),
            Self::ReleaseDm { device } => write!(f, "deactivate {}, unless somebody else has it open", device.name()),
            Self::ResumeDm { device } => write!(f, "resume {}, which was left suspended", device.name()),
            Self::ZeroStart { device, len } => write!(f, "zero the first {len} of {}", device.name()),
            Self::Fill { copy, from, to, .. } => {
                let what = if *copy { "copy" } else { "wipe" };
                write!(f, "{what} {}, while other changes go on", Bytes(to.get().saturating_sub(from.get())))
            }
            Self::CreateThin { thin_id, .. } => write!(f, "pool message: create_thin {thin_id}"),
            Self::DeleteThin { thin_id, .. } => write!(f, "pool message: delete {thin_id}"),
            Self::SnapshotThin { snapshots, .. } => {
                let messages: Vec<_> =
                    snapshots.iter().map(|one| format!("create_snap {} {}", one.thin_id, one.origin_thin_id)).collect();
                write!(f, "pool message{}: {}", if messages.len() == 1 { "" } else { "s" }, messages.join(", "))?;
                let origins: Vec<_> = snapshots.iter().filter_map(|one| one.origin).map(|one| one.name()).collect();
                match origins.is_empty() {
                    false => write!(f, ", with {} suspended meanwhile", origins.join(", ")),
                    true => Ok(()),
                }
            }
            Self::SetTransaction { from, to, .. } => write!(f, "pool message: set_transaction_id {from} {to}"),
            Self::CheckPool { transaction_id, .. } => {
                write!(f, "check that the pool is writable and at transaction {transaction_id}")
            }
            Self::CheckPoolSize { data_chunks, metadata_blocks, .. } => {
                write!(f, "check that the pool has {data_chunks} chunks, and {metadata_blocks} blocks of metadata")
            }
            Self::CheckThin { device, .. } => write!(f, "run thin_check on {}", device.name()),
            Self::ClearNeedsCheck { .. } => write!(f, "run thin_check once more, and take the mark needs_check away"),
            Self::RepairThin { pool, .. } => write!(
                f,
                "run thin_repair from {}, which is only read, to {}",
                Device::PoolMetadata(*pool).name(),
                Device::PoolSpare(*pool).name()
            ),
            Self::Mkfs { fs, options, .. } if options.is_empty() => write!(f, "run mkfs.{}", fs.as_str()),
            Self::Mkfs { fs, options, .. } => write!(f, "run mkfs.{} with {options}", fs.as_str()),
            Self::PrepareRoot { root, .. } => write!(f, "make the root directory: {root}"),
            Self::VerifyFs { fs, .. } => write!(f, "check that just this {} is found", fs.as_str()),
            Self::Mount { name, subdir, target, read_only, fs, no_replay, .. } => {
                let of = subdir.as_ref().map_or(String::new(), |subdir| format!("the directory {subdir} of "));
                let access = match (*read_only, *no_replay) {
                    (_, true) => "ro without the journal",
                    (true, false) => "ro",
                    (false, false) => "rw",
                };
                write!(f, "mount {of}{name} at {} ({}, {access},nosuid,nodev)", target.display(), fs.as_str())
            }
            Self::Bind { name, from, target, read_only, .. } => {
                let access = if *read_only { "ro" } else { "rw" };
                write!(f, "show {name}, mounted at {}, at {} too ({access})", from.display(), target.display())
            }
            Self::ShowNode { name, target, read_only, .. } => {
                let access = if *read_only { "ro" } else { "rw" };
                write!(f, "show the device of {name} at {} ({access})", target.display())
            }
            Self::Unmount { mount } => write!(f, "unmount {}", mount.target.display()),
            Self::RemoveMountPoint { path } => write!(f, "remove the directory {}, if it is empty", path.display()),
            Self::CheckFs { fs, how, if_marked, .. } => {
                let how = match how {
                    FsCheck::Safe => "and put right what is safe",
                    FsCheck::Look => "and change nothing",
                    FsCheck::Repair => "and put everything right",
                };
                let when = if *if_marked { ", if the kernel met errors in it" } else { "" };
                write!(f, "check the {}{when}, {how}", fs.as_str())
            }
            Self::GrowFs { fs, target, .. } => {
                write!(f, "grow the {} at {}, if it is smaller than its device", fs.as_str(), target.display())
            }
        }
    }
}

fn describe_table(table: &Table) -> String {
    match table {
        Table::Linear(runs) => format!("linear, {}", counted(runs.len(), "segment")),
        Table::Striped { stripe, rows } => {
            let legs = rows.first().map_or(0, |row| row.legs.len());
            format!("striped over {legs}, {stripe} sectors each in turn, {}", counted(rows.len(), "row"))
        }
        Table::ThinPool { chunk, .. } => format!("thin-pool, chunks of {chunk} sectors"),
        Table::Thin { thin_id, len, .. } => format!("thin {thin_id}, {len} sectors"),
    }
}

fn describe(change: &Change) -> String {
    match change {
        Change::Put(Object::Vg(vg)) => format!("VG {} {}", vg.name, lower(&vg.state)),
        Change::Put(Object::Pv(pv)) => format!("PV {}", pv.path_hint),
        Change::Put(Object::Pool(pool)) => {
            format!("pool {} {}, transaction {}", pool.name, lower(&pool.state), pool.transaction_id)
        }
        Change::Put(Object::Volume(volume)) => {
            let content = match &volume.content {
                vol_types::Content::Blank => "blank".to_owned(),
                vol_types::Content::Formatting { fs, .. } => format!("formatting {}", fs.as_str()),
                vol_types::Content::Formatted { fs, .. } => format!("formatted {}", fs.as_str()),
                vol_types::Content::Raw => "raw".to_owned(),
            };
            format!("volume {} {}, {content}", VolumeName::of(volume), lower(&volume.state))
        }
        Change::Put(Object::Intent(intent)) => {
            format!(
                "intent: transaction {} to {}, {}",
                intent.from,
                intent.from + 1,
                counted(intent.ops.len(), "message")
            )
        }
        Change::Delete(ObjectKey::Vg(_)) => "VG gone".to_owned(),
        Change::Delete(ObjectKey::Pv(id)) => format!("PV {id} gone"),
        Change::Delete(ObjectKey::Pool(id)) => format!("pool {id} gone"),
        Change::Delete(ObjectKey::Volume(id)) => format!("volume {id} gone"),
        Change::Delete(ObjectKey::Intent(_)) => "intent done".to_owned(),
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn lower(state: &dyn fmt::Debug) -> String {
    format!("{state:?}").to_lowercase()
}
