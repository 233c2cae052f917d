//! The command line: one definition for the parser, the man pages and the completions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vol_types::{Name, PoolPath};

mod life;
mod refs;
mod space;
mod volume;
mod watch;

use crate::exit;
pub use crate::values::{FileText, PvDisk, PvText, Scope, SizeText};
use crate::values::{file, grow_size, name, path, pv, pv_disk, size, size_or_share};
pub use life::{
    CloneArgs, LabelChange, LabelChanges, LabelSnapshot, LabelVolume, OneSnapshot, OneVolume, RenameSnapshot,
    RenameVolume, RollbackArgs, Selected, WithLabels,
};
pub use refs::{Refs, Release, Runtime};
pub use space::{GrowOn, Place, Policy, WhenFull, Which};
pub use volume::{Fs, MountAt, Snapshot, Volume};
pub use watch::{Events, Job};

/// Volume groups, thin pools, volumes and snapshots on this host.
///
/// Sizes are read with K, M, G, T as powers of 1024 and KB, MB, GB as powers of 1000.
#[derive(Clone, Debug, Parser)]
#[command(name = "volctl", version, after_help = exit::HELP, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// How to show the answer
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Socket of the daemon
    #[arg(long, global = true, value_name = "PATH", env = "VOLUMED_SOCKET", default_value = vol_api::DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Tables without their head
    #[arg(long, global = true)]
    pub no_headers: bool,
    /// Sizes as plain numbers of bytes
    #[arg(long, global = true)]
    pub bytes: bool,
    /// Say nothing about what was done; errors and warnings are still shown
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// Form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs: sizes in bytes, stable keys
    Json,
    /// Only the names, one per line
    Name,
}

/// Options of every command that changes something.
#[derive(Clone, Debug, Default, Args)]
pub struct Change {
    /// Show the plan that the daemon would execute, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Answer every question with yes
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Physical volumes: the disks and files of a volume group
    #[command(subcommand)]
    Pv(Pv),
    /// Volume groups
    #[command(subcommand)]
    Vg(Vg),
    /// Thin pools
    #[command(subcommand)]
    Pool(Pool),
    /// Volumes
    #[command(subcommand)]
    Volume(Volume),
    /// Snapshots: read-only, at a point in time
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Make a volume group and a pool over all of it, with good defaults
    Init(Init),
    /// For looking into what is wrong: works without the daemon, reads only
    #[command(subcommand)]
    Debug(Debug),
    /// The daemon, all volume groups and pools, and what is not as it should be (exit code 10)
    Status,
    /// Look at the machine: kernel, io_uring, udev, mounts, service, programs, leftovers, and say what to do about what is wrong
    ///
    /// Works without the daemon, and tells more with it and as root. Changes nothing. Exit code 1 if there is a problem, 10 for
    /// a warning, else 0.
    Doctor,
    /// Space: what there is, what is used, what was promised
    Df {
        /// The volumes of a container engine instead: what each takes, and what deleting those that are not in use would free
        #[arg(long, value_enum)]
        runtime: Option<Runtime>,
    },
    /// Mount references: which container engine needs which volume
    #[command(subcommand)]
    Refs(Refs),
    /// What happens: changes and who made them, problems that come and go, pools that grow, jobs
    ///
    /// Events are hints from the daemon's memory, and may be missed; volctl status shows what is.
    Events(Events),
    /// Jobs: what takes long, and goes on after the daemon was restarted
    #[command(subcommand)]
    Job(Job),
    /// Draw what lies where on the physical volumes of a volume group
    Map {
        #[command(flatten)]
        within: Within,
        /// Columns of the drawing [default: the terminal's]
        #[arg(long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(40..))]
        width: Option<u16>,
    },
    /// Completions for a shell, on standard output
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man {
        /// An existing directory
        dir: PathBuf,
    },
}

/// The volume group to keep a list to.
#[derive(Clone, Debug, Args)]
pub struct Within {
    /// Only of this volume group
    #[arg(value_parser = name)]
    pub vg: Option<Name>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Pv {
    /// List physical volumes
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        selected: Selected,
    },
    /// Show one physical volume
    #[command(alias = "inspect")]
    Show {
        /// Its path, backing file or id
        #[arg(value_parser = pv, value_name = "PATH|ID")]
        pv: PvText,
    },
    /// Set labels of a physical volume, or take them away; pools and volumes can be kept to PVs with a label
    Label {
        /// Its path, backing file or id
        #[arg(value_parser = pv, value_name = "PATH|ID")]
        pv: PvText,
        #[command(flatten)]
        labels: LabelChanges,
        #[command(flatten)]
        change: Change,
    },
    /// Read the metadata on physical volumes again and say what is wrong with it (exit code 10); changes nothing
    Check {
        /// Paths, backing files or ids; all if none is named. A disk that the daemon does not know is read without it
        #[arg(value_parser = pv, value_name = "PATH|ID")]
        pvs: Vec<PvText>,
        /// Do not ask the daemon: read the disks or images that are named
        #[arg(long)]
        offline: bool,
    },
    /// Look again for disks that carry a volume group
    Scan {
        /// Also attach this file, which backs a physical volume (repeatable)
        #[arg(long = "file", value_parser = path, value_name = "PATH")]
        files: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Take label, mark and metadata off a disk that no volume group here uses
    Wipe {
        /// The disk
        #[arg(value_parser = path, value_name = "DISK")]
        disk: String,
        /// Also a disk of an exported volume group, which is damaged by it
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub enum Debug {
    /// Show all that stands on disks or images of disks: labels, checkpoints, log, objects, and what is wrong with them
    ///
    /// Opens them for reading only; disks that are in use may be read. Several disks of one volume group are compared.
    /// Exit code 10 for damage or copies that do not fit together, 3 if a disk carries nothing of volumed.
    Dump {
        /// Disks, or files that hold the bytes of one
        #[arg(value_name = "DISK|IMAGE", value_parser = path, required = true)]
        disks: Vec<String>,
        /// Also list every record of the log (JSON has them always)
        #[arg(long)]
        records: bool,
        /// Also list every object of the catalog (JSON has them always)
        #[arg(long)]
        objects: bool,
        /// Offsets as plain numbers, for dd and xxd
        #[arg(long)]
        raw_offsets: bool,
    },
}

/// Where a volume group is made.
#[derive(Clone, Debug, Args)]
pub struct Members {
    /// Disks or partitions, all of each
    #[arg(value_name = "DISK", value_parser = path, required_unless_present = "files")]
    pub devices: Vec<String>,
    /// Make a sparse file and use it as a disk, for example /var/lib/volumed/demo.img:20G (repeatable)
    #[arg(long = "file", value_name = "PATH:SIZE", value_parser = file)]
    pub files: Vec<FileText>,
    /// Destroy what the disks carry; it is shown first
    #[arg(long)]
    pub wipe: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Vg {
    /// Join disks or files into a new volume group
    Create {
        /// Name of the new volume group
        #[arg(value_parser = name)]
        name: Name,
        #[command(flatten)]
        members: Members,
        /// Allocation unit, a power of two [default: 4M]
        #[arg(long, value_name = "SIZE", value_parser = size, allow_hyphen_values = true)]
        extent_size: Option<SizeText>,
        /// How many physical volumes carry a copy of the metadata
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..), allow_hyphen_values = true)]
        metadata_copies: Option<u16>,
        #[command(flatten)]
        change: Change,
    },
    /// List volume groups
    #[command(alias = "ls")]
    List,
    /// Show one volume group
    #[command(alias = "inspect")]
    Show {
        /// Name of the volume group
        #[arg(value_parser = name)]
        vg: Name,
    },
    /// Add disks or files to a volume group
    Extend {
        /// Name of the volume group
        #[arg(value_parser = name)]
        vg: Name,
        #[command(flatten)]
        members: Members,
        #[command(flatten)]
        change: Change,
    },
    /// Take physical volumes out of a volume group; they must hold no pool
    Reduce {
        /// Name of the volume group
        #[arg(value_parser = name)]
        vg: Name,
        /// Path, backing file or id of each; with --missing, none means all that are missing
        #[arg(value_parser = pv, value_name = "PV", required_unless_present = "missing")]
        pvs: Vec<PvText>,
        /// Take out what is not there any more
        #[arg(long)]
        missing: bool,
        /// With --missing: the disks will never come back, go on without their copies of the metadata
        #[arg(long, requires = "missing")]
        force: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Give a volume group another name; mounted volumes do not notice
    Rename {
        /// Name of the volume group
        #[arg(value_parser = name)]
        vg: Name,
        /// Its new name
        #[arg(value_parser = name, value_name = "NEW")]
        new: Name,
        #[command(flatten)]
        change: Change,
    },
    /// Put a volume group out of use, to take its disks to another machine
    Export {
        /// Name of the volume group
        #[arg(value_parser = name)]
        vg: Name,
        #[command(flatten)]
        change: Change,
    },
    /// Take an exported volume group into use
    Import {
        /// Name of the volume group
        #[arg(value_parser = name)]
        vg: Name,
        #[command(flatten)]
        change: Change,
    },
    /// Write the metadata of a volume group to a file, for vg restore
    Backup {
        /// Name of the volume group
        #[arg(value_parser = name)]
        vg: Name,
        /// The file, replaced if it is there; - is standard output [default: VG.backup.json]
        #[arg(short = 'f', long = "file", value_name = "FILE", value_parser = path)]
        file: Option<String>,
    },
    /// Write the metadata of a volume group anew, onto empty or damaged disks
    Restore {
        /// What vg backup wrote; - is standard input
        #[arg(value_name = "FILE", value_parser = path)]
        file: String,
        /// The disk that is to be a PV whose label cannot be read (repeatable)
        #[arg(long = "disk", value_name = "PV=DISK", value_parser = pv_disk)]
        disks: Vec<PvDisk>,
        /// Destroy what the disks carry besides metadata of this group
        #[arg(long)]
        wipe: bool,
        /// Although a disk holds metadata that are newer than the backup
        #[arg(long)]
        older: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Make block-level copies of all disks of a volume group a group of their own
    ImportClone {
        /// The copies
        #[arg(value_name = "DISK", value_parser = path, required = true)]
        disks: Vec<String>,
        /// Name of the new volume group
        #[arg(long, value_parser = name)]
        name: Name,
        #[command(flatten)]
        change: Change,
    },
    /// Delete a volume group that holds no pool, with the backing files that were made for it
    #[command(alias = "rm")]
    Delete {
        /// Name of the volume group
        #[arg(value_parser = name)]
        vg: Name,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub enum Pool {
    /// Make a thin pool
    Create {
        /// Volume group and pool, for example data/tank
        #[arg(value_name = "VG/POOL")]
        pool: PoolPath,
        /// Size, or a share of the volume group's free space: 80%FREE
        #[arg(long, value_parser = size_or_share, allow_hyphen_values = true)]
        size: SizeText,
        /// Unit in which the pool hands out space, 64K to 1G [default: chosen by the pool's size]
        #[arg(long, value_name = "SIZE", value_parser = size, allow_hyphen_values = true)]
        chunk_size: Option<SizeText>,
        #[command(flatten)]
        policy: Policy,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        change: Change,
    },
    /// Give a pool more space of its volume group, while it is in use
    Extend {
        /// Volume group and pool, for example data/tank
        #[arg(value_name = "VG/POOL")]
        pool: PoolPath,
        /// The data: +10G by so much, 40G to this size, 50%FREE by a share of the free space
        #[arg(long, value_parser = grow_size, allow_hyphen_values = true, required_unless_present = "metadata")]
        size: Option<SizeText>,
        /// The metadata: +256M by so much, 1G to this size [default: as much as the data need]
        #[arg(long, value_name = "SIZE", value_parser = grow_size, allow_hyphen_values = true)]
        metadata: Option<SizeText>,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        change: Change,
    },
    /// Change what happens as a pool fills, how much it may promise, and where it grows
    Set {
        /// Volume group and pool, for example data/tank
        #[arg(value_name = "VG/POOL")]
        pool: PoolPath,
        #[command(flatten)]
        policy: Policy,
        #[command(flatten)]
        place: GrowOn,
        #[command(flatten)]
        change: Change,
    },
    /// List pools
    #[command(alias = "ls")]
    List(Within),
    /// Show one pool
    #[command(alias = "inspect")]
    Show {
        /// Volume group and pool, for example data/tank
        #[arg(value_name = "VG/POOL")]
        pool: PoolPath,
    },
    /// Show who takes how much of a pool: allocated, exclusive, shared, reclaimable
    Usage {
        /// Volume group and pool, for example data/tank
        #[arg(value_name = "VG/POOL")]
        pool: PoolPath,
    },
    /// Look at a pool's metadata: all of them if nobody uses it, else those that it has committed
    Check {
        /// Volume group and pool, for example data/tank
        #[arg(value_name = "VG/POOL")]
        pool: PoolPath,
        /// Leave the pool up, even if nobody uses it
        #[arg(long)]
        online: bool,
    },
    /// Repair a pool's metadata onto other extents; the original is kept. The pool is down meanwhile
    Repair {
        /// Volume group and pool, for example data/tank
        #[arg(value_name = "VG/POOL")]
        pool: PoolPath,
        /// Put the repaired metadata in place although they lack volumes, or parts of them
        #[arg(long)]
        accept_loss: bool,
        /// Repair nothing: give up the metadata that an earlier repair replaced
        #[arg(long, conflicts_with = "accept_loss")]
        discard_original: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Delete for good what was deleted in a pool and can still be taken back
    Purge {
        /// Volume group and pool, for example data/tank
        #[arg(value_name = "VG/POOL")]
        pool: PoolPath,
        #[command(flatten)]
        change: Change,
    },
    /// Delete a pool that holds no volume
    #[command(alias = "rm")]
    Delete {
        /// Volume group and pool, for example data/tank
        #[arg(value_name = "VG/POOL")]
        pool: PoolPath,
        /// A disk of it is gone for good: give it up, with all of its volumes and snapshots
        #[arg(long)]
        lost: bool,
        /// With --lost: the missing disks will never come back, go on without their copies of the metadata
        #[arg(long, requires = "lost")]
        force: bool,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Clone, Debug, Args)]
pub struct Init {
    #[command(flatten)]
    pub members: Members,
    /// Name of the volume group
    #[arg(long, value_parser = name, default_value = vol_api::Init::VG_DEFAULT)]
    pub vg: Name,
    /// Name of the pool
    #[arg(long, value_parser = name, default_value = vol_api::Init::POOL_DEFAULT)]
    pub pool: Name,
    #[command(flatten)]
    pub change: Change,
}

#[cfg(test)]
mod tests;
