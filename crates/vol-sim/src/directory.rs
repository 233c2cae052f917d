//! Directories of the host that things are mounted at.

use std::path::Path;

use vol_engine::host::{HostErrorKind, HostResult};

use crate::host::SimHost;
use crate::world::{World, fail};

impl World {
    pub fn make_directory(&mut self, what: &str, dir: &Path) -> HostResult<()> {
        if dir.ancestors().any(|part| self.symlinks.contains(part) || self.files.contains_key(part)) {
            return fail(HostErrorKind::Invalid, what, "a component is no directory");
        }
        self.paths.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    pub fn remove_mount_point(&mut self, what: &str, path: &Path) -> HostResult<()> {
        if !self.paths.contains(path) {
            return fail(HostErrorKind::NotFound, what, "there is no such directory");
        }
        if self.mounts.iter().any(|mounted| mounted.mount.target == path) {
            return fail(HostErrorKind::Busy, what, "something is mounted there");
        }
        let inside = |one: &Path| one != path && one.starts_with(path);
        if self.paths.iter().chain(self.files.keys()).any(|one| inside(one)) {
            return fail(HostErrorKind::Busy, what, "it is not empty");
        }
        self.paths.remove(path);
        self.sealed.remove(path);
        Ok(())
    }
}

impl SimHost {
    /// Makes a file in a directory of the host, as root in a container that was given the directory itself: `NotFound` if there is none,
    /// `Denied` if it is sealed, `Exists` if a volume is mounted there.
    pub fn write_into_directory(&self, dir: impl AsRef<Path>, name: &str) -> HostResult<()> {
        let (dir, mut world) = (dir.as_ref(), self.lock());
        let what = format!("write into {}", dir.display());
        if !world.paths.contains(dir) {
            return fail(HostErrorKind::NotFound, what, "there is no such directory");
        }
        if world.mounts.iter().any(|mounted| mounted.mount.target == dir) {
            return fail(HostErrorKind::Exists, what, "a volume is mounted there");
        }
        if world.sealed.contains(dir) {
            return fail(HostErrorKind::Denied, what, "it is immutable");
        }
        world.paths.insert(dir.join(name));
        Ok(())
    }
}
