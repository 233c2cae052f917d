//! The volume plugin that Docker and Podman talk to: what they ask, what they are answered, and which of them uses which mount.
//!
//! It reads no disk, no clock and no socket: the daemon hands it requests, and is the one behind its traits.
#![forbid(unsafe_code)]

mod name;
pub mod options;
pub mod plugin;
pub mod protocol;
pub mod refs;
mod runtime;

pub use name::EngineName;
pub use options::{OnRemove, Options, Origin, PoolChoice, Settings};
pub use plugin::{Reply, Volume, Volumes, answer};
pub use protocol::{Call, Request};
pub use runtime::Runtime;
