//! The volume plugin that Docker and Podman talk to: what they ask, what they are answered, and which of them uses which mount.
//!
//! It reads no disk, no clock and no socket: the daemon hands it requests, and is the one behind its traits.
#![forbid(unsafe_code)]

pub mod refs;
mod runtime;

pub use runtime::Runtime;
