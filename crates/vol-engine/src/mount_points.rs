//! The daemon's own mount points: directories that are there for a mount, and for as long as it is (ADR 0025).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use crate::engine::Engine;
use crate::host::{HostError, HostErrorKind, HostMut, HostResult};

impl<H: HostMut> Engine<H> {
    /// Mount points below this directory are the daemon's own from now on: they are sealed when something is mounted there, and removed when
    /// it is unmounted.
    pub fn own_mounts_below(&self, dir: &Path) {
        *self.own_mounts.write().unwrap_or_else(PoisonError::into_inner) = Some(dir.to_owned());
    }

    pub(crate) fn own_mounts(&self) -> Option<PathBuf> {
        self.own_mounts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the directories that mount points are made in, with their modes.
    ///
    /// # Errors
    /// The first that cannot be made; those before it are there.
    pub fn make_mount_directories(&self, dirs: &[(PathBuf, u32)]) -> HostResult<()> {
        dirs.iter().try_for_each(|(dir, mode)| self.host().make_directory(dir, *mode))
    }

    /// Removes the directories in these at which nothing is mounted: somebody else unmounted what was there, or a mount or an unmount was
    /// cut short. Those that could not be removed, and why: most likely something was written there.
    ///
    /// # Errors
    /// What is there, or what is mounted, cannot be told; nothing has changed.
    pub fn remove_bare_mount_points(&self, dirs: &[PathBuf]) -> HostResult<Vec<(PathBuf, HostError)>> {
        let host = self.host();
        let mut there = Vec::new();
        for dir in dirs {
            there.extend(host.directories_in(dir)?);
        }
        // Most machines have no engine's volume mounted, and ask no further.
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let mounted: BTreeSet<_> = host.mounts()?.into_iter().map(|mount| mount.target).collect();
        let mut left = Vec::new();
        for dir in there.into_iter().filter(|dir| !mounted.contains(dir)) {
            match host.remove_mount_point(&dir) {
                Ok(()) => tracing::info!(dir = %dir.display(), "removed a mount point at which nothing is mounted"),
                Err(error) if error.kind == HostErrorKind::NotFound => {}
                Err(error) => left.push((dir, error)),
            }
        }
        Ok(left)
    }
}
