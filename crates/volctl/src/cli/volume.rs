//! `volctl volume …` and `volctl snapshot …` as they are typed.

use clap::{Args, Subcommand, ValueEnum};
use vol_types::{Name, SnapshotPath, VolumePath};

use super::{Change, Within};
use crate::values::{Scope, SizeText, name, path, scope, size};

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

/// Where to mount.
#[derive(Clone, Debug, Args)]
pub struct MountAt {
    /// Directory to mount at
    #[arg(value_parser = path)]
    pub path: String,
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
        #[command(flatten)]
        change: Change,
    },
    /// List volumes
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        within: Within,
        /// What was deleted and can be taken back, snapshots too, and for how long
        #[arg(long)]
        deleted: bool,
    },
    /// Show one volume
    #[command(alias = "inspect")]
    Show {
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
    /// Take a snapshot of a volume
    Create {
        /// Volume group, volume and snapshot, for example data/pg@before
        #[arg(value_name = "VG/VOLUME@SNAPSHOT")]
        snapshot: SnapshotPath,
        #[command(flatten)]
        change: Change,
    },
    /// List snapshots
    #[command(alias = "ls")]
    List {
        /// Only of this volume group or volume
        #[arg(value_name = "VG[/VOLUME]", value_parser = scope)]
        of: Option<Scope>,
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
