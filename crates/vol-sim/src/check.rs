//! Invariants that hold whatever the daemon does. The world watches them; a test asserts that the list is empty.

use std::path::Path;

use crate::handle::Place;
use crate::host::SimHost;
use crate::world::World;

impl SimHost {
    /// What was done that must never be done, in words; empty for a daemon that is right. See the crate's header.
    pub fn violations(&self) -> Vec<String> {
        let world = self.lock();
        let suspended = world.suspended().into_iter().map(|uuid| format!("{uuid} is left suspended"));
        world.violations.iter().cloned().chain(suspended).collect()
    }

    /// The uuids of dm devices that are suspended now.
    pub fn suspended_devices(&self) -> Vec<String> {
        self.lock().suspended()
    }

    /// Thin ids that were created more than once in the life of a pool, used or not: (pool's uuid, id).
    pub fn recreated_ids(&self) -> Vec<(String, u32)> {
        let world = self.lock();
        let pool = |life: u64| {
            let found = world.dm.iter().find(|(minor, _)| world.pool_disk(**minor).is_some_and(|d| d.life == life));
            found.map_or_else(|| format!("pool {life}"), |(_, device)| device.uuid.clone())
        };
        let twice = world.thin_lives.iter().filter(|(_, thin)| thin.created > 1);
        twice.map(|((life, id), _)| (pool(*life), *id)).collect()
    }

    /// How often mkfs ran on a thin id of an active pool, in the pool's life.
    pub fn mkfs_runs(&self, pool_uuid: &str, thin_id: u32) -> u32 {
        let world = self.lock();
        let life = world.minor_of(pool_uuid).and_then(|minor| world.pool_disk(minor)).map_or(0, |disk| disk.life);
        world.thin_lives.get(&(life, thin_id)).map_or(0, |thin| thin.mkfs)
    }
}

impl World {
    fn suspended(&self) -> Vec<String> {
        self.dm.values().filter(|device| device.suspended).map(|device| device.uuid.clone()).collect()
    }

    /// A write of the daemon's own to a disk: not into what a live table maps, nor onto what somebody else uses.
    pub fn check_write(&mut self, place: &Place, len: u64) {
        let (start, end) = (place.offset, place.offset + len);
        let name = |minor: u32| self.dm.get(&minor).map_or_else(String::new, |device| device.name.clone());
        let hit = self
            .mapped()
            .find(|(_, run)| run.medium == place.medium && run.offset < end && start < run.offset + run.len);
        let node = place.node.display();
        let mut found: Vec<String> = Vec::new();
        found.extend(hit.map(|(minor, _)| format!("write to {node} at {start} into {}, which maps it", name(minor))));
        found.extend(self.foreign_use(&place.node).map(|user| format!("write to {node}, which {user}")));
        let foreign = self.nodes.get(&place.node).and_then(|node| {
            self.media.get(&node.medium)?.signatures.get(&node.start)?.first().map(ToString::to_string)
        });
        found.extend(foreign.map(|signature| format!("write to {node}, which has a signature: {signature}")));
        for text in found {
            self.violation(text);
        }
    }

    pub fn check_wipe(&mut self, path: &Path) {
        if let Some(user) = self.foreign_use(path) {
            self.violation(format!("signatures wiped on {}, which {user}", path.display()));
        }
    }

    /// How others use a disk or a partition of it.
    fn foreign_use(&self, path: &Path) -> Option<String> {
        let family = self.family(path);
        let nodes = || family.iter().filter_map(|dev| self.node_of(*dev)).map(|(_, node)| node);
        let mounted = self.mounts.iter().find(|mounted| family.contains(&mounted.mount.dev));
        let mounted = mounted.map(|mounted| format!("is mounted at {}", mounted.mount.target.display()));
        let held = nodes().find_map(|node| node.holders.first()).map(|holder| format!("is held by {holder}"));
        let swap = nodes().any(|node| node.swap).then(|| "is swap in use".to_owned());
        mounted.or(held).or(swap)
    }
}
