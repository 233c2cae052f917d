//! Where volumes are mounted for engines: directories that are there as long as the mounts are (ADR 0025).

use std::sync::PoisonError;

use super::*;

impl<H: HostMut + 'static> Keeper<H> {
    /// The directories in which mount points are made. Users of this machine cannot look into them: what is in a volume is for its
    /// containers. Podman of a user without rights has to get through, to a directory whose name is not told.
    fn places(&self) -> Vec<(PathBuf, u32)> {
        let of = |runtime: Runtime| self.mounts_dir.join(runtime.name());
        vec![(self.mounts_dir.clone(), 0o711), (of(Runtime::Docker), 0o700), (of(Runtime::Podman), 0o711)]
    }

    pub(super) fn make_places(&self) {
        if let Err(error) = self.engine.make_mount_directories(&self.places()) {
            tracing::warn!(%error, "the directories for mount points cannot be made");
        }
    }

    /// Removes mount points at which nothing is mounted, because somebody else has unmounted what was, so that no engine gives an empty
    /// directory of the host to a container in the place of a volume.
    pub(crate) fn remove_bare(&self) {
        let dirs: Vec<_> = Runtime::ALL.into_iter().map(|runtime| self.mounts_dir.join(runtime.name())).collect();
        let left = match self.engine.remove_bare_mount_points(&dirs) {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(%error, "whether mount points are left behind cannot be told");
                return;
            }
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|dir| left.iter().any(|(one, _)| one == dir));
        for (dir, error) in left {
            if told.insert(dir.clone()) {
                tracing::warn!(
                    dir = %dir.display(), %error,
                    "nothing is mounted at a mount point, and it cannot be removed; see docs/troubleshooting.md"
                );
            }
        }
    }
}

impl<H: HostMut + 'static> EngineBackend<H> {
    /// Starts the thread that hears of what is unmounted by others. Where nothing can be heard, it is looked at when the keeper looks anyway.
    pub(super) fn start_watching_mounts(&self, keeper: &Keeper<H>) -> std::io::Result<()> {
        let keeper = keeper.clone();
        match self.engine.host().mount_events() {
            Ok(events) => self.watch_mounts(events, move || keeper.remove_bare()),
            Err(error) => {
                tracing::warn!(%error, "what others unmount is not told of");
                Ok(())
            }
        }
    }
}
