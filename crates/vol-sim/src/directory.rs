//! Directories of the host that things are mounted at.

use std::path::Path;

use vol_core::observed::Mount;
use vol_engine::host::{HostErrorKind, HostResult, NodeCall};

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

    pub fn show_node(&mut self, what: &str, call: &NodeCall) -> HostResult<()> {
        self.plain_target(what, &call.target)?;
        let at = self.place(what, call.dev)?;
        let device = self.dm.get(&call.dev.minor);
        if device.is_none_or(|device| device.uuid != call.dm_uuid) {
            return fail(HostErrorKind::Changed, what, "it is another device by now");
        }
        self.life_at(at).handed_out = true;
        self.paths.extend(call.target.ancestors().map(Path::to_path_buf));
        self.add_mount(call.dev, &call.target, Mount::NODES, call.read_only);
        if let Some(mounted) = self.mounts.last_mut() {
            mounted.mount.root = format!("/dm-{}", call.dev.minor).into();
        }
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
