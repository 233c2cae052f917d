//! The daemon's command line. Options win over the configuration file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::MetricsListen;

/// Volume manager daemon: joins disks into volume groups, carves thin pools and volumes out of them.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "volumed", version, disable_help_subcommand = true)]
pub struct Args {
    /// Configuration file; must exist if given [default: /etc/volumed/volumed.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Control socket
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Address of /metrics, or "off"
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<MetricsListen>,
    /// Directory for what the daemon remembers on this host; nothing in it is needed to bring a volume group back
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Only say whether the configuration is good: exit code 0, or 78 and what is wrong with it
    #[arg(long)]
    pub check_config: bool,
    #[command(subcommand)]
    pub command: Option<Sub>,
}

/// What else the program can be.
#[derive(Clone, Debug, Subcommand)]
pub enum Sub {
    /// Attach the volumes that /etc/fstab and the key activate_at_boot name, without the daemon, and end
    ///
    /// For the start of a machine: what is complete is attached first, and what misses a disk is waited for. Devices are made, nothing is
    /// mounted. Where volumed runs there is nothing to do: it does the same when it starts.
    Activate {
        /// How long disks that are missing are waited for, such as 30s [default: the key activate_wait]
        #[arg(long, value_name = "TIME", value_parser = crate::config::parse_wait)]
        wait: Option<Duration>,
        /// Another file than /etc/fstab
        #[arg(long, value_name = "FILE")]
        fstab: Option<PathBuf>,
    },
    /// Resume what is suspended should the daemon die; started by the daemon itself
    #[command(hide = true)]
    ResumeGuard,
    /// Tell as JSON what this program sees of the machine; asked by `volctl doctor` where no daemon runs
    #[command(hide = true)]
    Doctor,
}
