//! Container engines: a socket for each of them, on which they ask for volumes (`vol_docker`), what is done for them, and what they need of
//! volumes.
//!
//! A request that comes while volume groups are recovered waits. If it waits too long, or the daemon ends, its connection is closed: dockerd
//! takes an error for the news that its volume is gone, and forgets what it knew of it.

use vol_api::ApiError;
use vol_docker::Runtime;

/// Below the run directory: where volumes are mounted for engines, as `RUNTIME/VOLUME-ID`.
pub const MOUNTS: &str = "mounts";

mod desk;
mod making;
pub mod place;
pub mod references;
mod sockets;
#[cfg(test)]
mod tests;
pub mod turns;
mod volumes;

pub use desk::{Desk, router};
pub use sockets::{Sockets, open};
pub use volumes::Shared;

/// An engine by its name.
///
/// # Errors
/// There is none of this name.
pub fn named(text: &str) -> Result<Runtime, ApiError> {
    Runtime::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| {
        ApiError::invalid(format!("{text:?} is no container engine that volumed knows")).with_hint("docker or podman")
    })
}
