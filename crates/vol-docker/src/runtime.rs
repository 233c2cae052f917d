//! Who asks: each container engine has a socket of its own, and volumes of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    Docker,
    Podman,
}

impl Runtime {
    pub const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// As it is written in paths of sockets, in tables and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// The label of a volume whose value is the volume's name in this engine. Whoever gives a volume this label shows it to the engine.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Docker => "docker.volume",
            Self::Podman => "podman.volume",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
