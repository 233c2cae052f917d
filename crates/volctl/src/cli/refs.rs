//! Commands about container engines.

use clap::{Args, Subcommand, ValueEnum};

use super::Change;

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    Docker,
    Podman,
}

impl Runtime {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
pub enum Refs {
    /// List mount references, and mounts that were made for an engine and that none needs
    #[command(alias = "ls")]
    List {
        /// Only of this engine
        #[arg(long, value_enum)]
        runtime: Option<Runtime>,
    },
    /// Forget references whose container is gone, and unmount the volume if nobody needs it then
    ///
    /// A container that runs keeps what it has mounted. The engine is not told: if it starts that container again, the volume is mounted anew.
    Release(Release),
}

/// What is to be forgotten.
#[derive(Clone, Debug, Args)]
pub struct Release {
    /// Volume group and volume, for example data/pg, or the volume's id
    #[arg(value_name = "VG/VOLUME|ID")]
    pub volume: String,
    /// Only references of this engine
    #[arg(long, value_enum)]
    pub runtime: Option<Runtime>,
    /// Only the reference with this id, as volctl refs list shows it
    #[arg(long, requires = "runtime")]
    pub id: Option<String>,
    #[command(flatten)]
    pub change: Change,
}
