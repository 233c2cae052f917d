//! `volctl volume …` and `volctl snapshot …` as they are typed.

use clap::{Args, Subcommand, ValueEnum};
use vol_types::{Name, SnapshotPath, VolumePath};

use super::life::{
    CloneArgs, LabelSnapshot, LabelVolume, OneSnapshot, OneVolume, RenameSnapshot, RenameVolume, RollbackArgs,
    Selected, WithLabels,
};
use super::space::Place;
use super::{Change, Within};
use crate::values::{Scope, SizeText, mode, name, new_size, owner, path, reserve, scope, size};

/// What a new volume is formatted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fs {
    Ext4,
    Xfs,
    Btrfs,
    /// A raw block device
    None,
}

impl Fs {
    /// The word in the request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::None => "none",
        }
    }
}

/// The root directory of a new file system.
#[derive(Clone, Debug, Default, Args)]
pub struct Root {
    /// Make a directory in its root, and mount that instead of the root: clean, whatever lost+found is beside it
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub subdir: Option<Name>,
    /// Owner of its root directory (with --subdir, of that one), as numbers [default: root]
    #[arg(long, value_name = "UID[:GID]", value_parser = owner)]
    pub owner: Option<String>,
    /// Permissions of its root directory (with --subdir, of that one), in octal digits [default: 0755]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub mode: Option<String>,
    /// Its root directory is empty: ext4 without lost+found, which some programs stumble over
    #[arg(long)]
    pub empty_root: bool,
}

/// A volume with extents of its own.
#[derive(Clone, Debug, Default, Args)]
pub struct Thick {
    /// With space of its own, which is wiped first, instead of in a pool
    #[arg(long, conflicts_with = "pool")]
    pub thick: bool,
    /// Spread it over so many disks
    #[arg(long, value_name = "N", requires = "thick", value_parser = clap::value_parser!(u16).range(1..))]
    pub stripes: Option<u16>,
    /// What goes to one disk before it is the next one's turn [default: 64K]
    #[arg(long, value_name = "SIZE", requires = "stripes", value_parser = size)]
    pub stripe_size: Option<SizeText>,
    #[command(flatten)]
    pub place: Place,
}

/// Where to mount.
#[derive(Clone, Debug, Args)]
pub struct MountAt {
    /// Directory to mount at
    #[arg(value_parser = path)]
    pub path: String,
    /// The root of its file system, also if a directory in it is what is handed out (--subdir)
    #[arg(long)]
    pub whole: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Volume {
    /// Make a volume and format it
    Create {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        /// Pool to make it in [default: the only pool of the volume group]
        #[arg(long, value_parser = name)]
        pool: Option<Name>,
        /// Size, for example 10G
        #[arg(long, value_parser = size, allow_hyphen_values = true)]
        size: SizeText,
        /// File system
        #[arg(long, value_enum, default_value_t = Fs::Ext4)]
        fs: Fs,
        /// Attach it as well: its block device is there when the command ends (with --fs none)
        #[arg(long)]
        attach: bool,
        /// Set this much of the pool aside for it: a size, or full
        #[arg(long, value_name = "SIZE|full", value_parser = reserve, allow_hyphen_values = true)]
        reserve: Option<String>,
        /// Refuse to delete it, from the start
        #[arg(long)]
        protect: bool,
        /// An option for mkfs, for example label=pg (repeatable; docs/file-systems.md lists them)
        #[arg(long = "mkfs-option", value_name = "KEY=VALUE")]
        mkfs_options: Vec<String>,
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        thick: Thick,
        #[command(flatten)]
        with: WithLabels,
        #[command(flatten)]
        change: Change,
    },
    /// Change what is set aside for a volume in its pool
    Set {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        /// Set this much of the pool aside for it: a size, full, or none
        #[arg(long, value_name = "SIZE|full|none", value_parser = reserve, allow_hyphen_values = true)]
        reserve: String,
        #[command(flatten)]
        change: Change,
    },
    /// List volumes
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        selected: Selected,
        /// What was deleted and can be taken back, snapshots too, and for how long
        #[arg(long, conflicts_with = "selectors")]
        deleted: bool,
    },
    /// Show one volume
    #[command(alias = "inspect")]
    Show {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
    },
    /// Show what a volume and its snapshots take of their pool
    Usage {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
    },
    /// Mount a volume
    Mount {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        #[command(flatten)]
        at: MountAt,
        /// Without the right to write; works in a refused pool too, without replaying the journal
        #[arg(long)]
        read_only: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Unmount a volume from wherever it is mounted
    #[command(alias = "umount")]
    Unmount {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        #[command(flatten)]
        change: Change,
    },
    /// Make the block device of a raw volume (--fs none) and show where it is
    Attach {
        /// Volume group and volume, for example data/raw
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        /// Without the right to write; works in a refused pool too
        #[arg(long)]
        read_only: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Take the block device of a raw volume away; its data stay
    Detach {
        /// Volume group and volume, for example data/raw
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        #[command(flatten)]
        change: Change,
    },
    /// Make a writable clone of a snapshot or a volume
    ///
    /// It shares its data with what it was made from until one of the two is written to, and has the same file system with the same
    /// UUID; both can be mounted at the same time.
    Clone(CloneArgs),
    /// Give a volume another name, and its snapshots with it; mounted volumes do not notice
    Rename(RenameVolume),
    /// Set labels of a volume, or take them away
    Label(LabelVolume),
    /// Refuse to delete a volume or to roll it back, until it is unprotected
    Protect(OneVolume),
    /// Take the protection of a volume away
    Unprotect(OneVolume),
    /// Grow a volume with its file system, also while it is mounted
    Resize {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        /// The new size, for example 40G, or so much more: +10G
        #[arg(value_parser = new_size, allow_hyphen_values = true)]
        size: SizeText,
        /// Of a thick volume: where what is added is to lie
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        change: Change,
    },
    /// Look for errors in the file system of a volume that is not mounted
    Check {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        /// Put everything right that is wrong, whatever is lost by that
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Give back to the pool what the file system of a mounted volume does not use
    Trim {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        #[command(flatten)]
        change: Change,
    },
    /// Delete a volume; it can be taken back for a while
    #[command(alias = "rm")]
    Delete {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        /// For good, and its space is free at once
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Take back the last deletion of a volume
    Undelete {
        /// Volume group and volume, for example data/pg
        #[arg(value_name = "VG/VOLUME")]
        volume: VolumePath,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub enum Snapshot {
    /// Take a snapshot of a volume, or snapshots of several volumes of a pool that are all of one instant
    Create {
        /// Volume group, volume and snapshot, for example data/pg@before
        #[arg(value_name = "VG/VOLUME@SNAPSHOT", required = true)]
        snapshots: Vec<SnapshotPath>,
        #[command(flatten)]
        with: WithLabels,
        #[command(flatten)]
        change: Change,
    },
    /// List snapshots
    #[command(alias = "ls")]
    List {
        /// Only of this volume group or volume
        #[arg(value_name = "VG[/VOLUME]", value_parser = scope)]
        of: Option<Scope>,
        #[command(flatten)]
        selected: Selected,
    },
    /// Show one snapshot
    #[command(alias = "inspect")]
    Show {
        /// Volume group, volume and snapshot, for example data/pg@before
        #[arg(value_name = "VG/VOLUME@SNAPSHOT")]
        snapshot: SnapshotPath,
    },
    /// Mount a snapshot, read-only
    Mount {
        /// Volume group, volume and snapshot, for example data/pg@before
        #[arg(value_name = "VG/VOLUME@SNAPSHOT")]
        snapshot: SnapshotPath,
        #[command(flatten)]
        at: MountAt,
        #[command(flatten)]
        change: Change,
    },
    /// Unmount a snapshot from wherever it is mounted
    #[command(alias = "umount")]
    Unmount {
        /// Volume group, volume and snapshot, for example data/pg@before
        #[arg(value_name = "VG/VOLUME@SNAPSHOT")]
        snapshot: SnapshotPath,
        #[command(flatten)]
        change: Change,
    },
    /// Give a volume the content and the size of one of its snapshots; what it holds now can be taken back for a while
    Rollback(RollbackArgs),
    /// Give a snapshot another name
    Rename(RenameSnapshot),
    /// Set labels of a snapshot, or take them away
    Label(LabelSnapshot),
    /// Refuse to delete a snapshot, until it is unprotected
    Protect(OneSnapshot),
    /// Take the protection of a snapshot away
    Unprotect(OneSnapshot),
    /// Delete a snapshot; it can be taken back for a while
    #[command(alias = "rm")]
    Delete {
        /// Volume group, volume and snapshot, for example data/pg@before
        #[arg(value_name = "VG/VOLUME@SNAPSHOT")]
        snapshot: SnapshotPath,
        /// For good, and its space is free at once
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Take back the last deletion of a snapshot
    Undelete {
        /// Volume group, volume and snapshot, for example data/pg@before
        #[arg(value_name = "VG/VOLUME@SNAPSHOT")]
        snapshot: SnapshotPath,
        #[command(flatten)]
        change: Change,
    },
}
