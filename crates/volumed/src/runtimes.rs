//! Container engines: what they need of volumes.

use vol_api::ApiError;
use vol_docker::Runtime;

pub mod references;

/// An engine by its name.
///
/// # Errors
/// There is none of this name.
pub fn named(text: &str) -> Result<Runtime, ApiError> {
    Runtime::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| {
        ApiError::invalid(format!("{text:?} is no container engine that volumed knows")).with_hint("docker or podman")
    })
}
