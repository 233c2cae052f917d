//! The part of the seam that is about what container engines need.

use std::sync::Arc;

use vol_api::{RefList, ReleaseRefs, ReleasedRefs, RuntimeDf};
use vol_docker::Runtime;
use vol_types::VolumeId;

use super::{Change, Read};
use crate::backend::Unneeded;
use crate::runtimes::references::References;

/// The rules of [`super::Backend`] hold.
pub trait Refs {
    /// What the engines have asked for; whoever speaks with one counts here.
    fn references(&self) -> Arc<References>;
    /// Of one engine, or of all, with what the mount tables say. Asks the kernel, and may take a second where many processes run.
    fn refs(&self, runtime: Option<Runtime>) -> Read<RefList>;
    /// Forgets references, and unmounts what then nobody needs.
    fn release_refs(&self, request: ReleaseRefs, dry_run: bool) -> Change<ReleasedRefs>;
    /// Unmounts a volume where it was mounted for an engine, if there is no reference to it and no other mount namespace has it mounted.
    /// What is in use is tried again by itself, every few seconds. Mounts that others made stay.
    fn unmount_unneeded(&self, volume: VolumeId) -> Unneeded;
    /// Reads the pools, which may take seconds; no change waits for it.
    fn runtime_df(&self, runtime: Runtime) -> Read<RuntimeDf>;
}
