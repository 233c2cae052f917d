//! The reading half of the host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vol_core::dm::UUID_PREFIX;
use vol_core::observed::{
    DevNumber, DiskIdentity, DiskInfo, DiskKind, DmInfo, FsState, Mount, PoolContents, PoolSharing, PoolStatus, Probe,
    TargetLine, TargetStatus, ThinChanges, ThinStatus, ThinVerdict,
};
use vol_engine::host::{
    BlockRead, ChangesCall, DiskEvents, DmTarget, Elsewhere, FsUsage, HostErrorKind, HostRead, HostResult, IoBackend,
    MetadataRoot, MountEvents, SharingCall,
};
use vol_types::{Bytes, FsKind};

use crate::disk::NodeKind;
use crate::fault::ReadFault;
use crate::handle::Handle;
use crate::host::SimHost;
use crate::mapper::{DM_MAJOR, dm_dev};
use crate::world::{World, fail};

/// Where `*.img` are found without being remembered.
pub const IMAGE_DIR: &str = "/var/lib/volumed";

impl HostRead for SimHost {
    fn now(&self) -> u64 {
        self.lock().now
    }

    fn uptime(&self) -> std::time::Duration {
        self.lock().uptime
    }

    fn boot_id(&self) -> HostResult<String> {
        let world = self.lock();
        world.alive("boot id")?;
        Ok(world.boot_id.clone())
    }

    /// No time passes here: what a test holds, it holds until it lets go.
    fn pause(&self, time: std::time::Duration) {
        let mut world = self.lock();
        world.pass(time);
        if world.move_rate.is_some() {
            world.uptime = world.uptime.saturating_add(time);
        }
    }

    fn dm_calls(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.lock().counters;
        vec![("message", counters.messages), ("other", counters.ioctls.saturating_sub(counters.messages))]
    }
    fn io_backend(&self) -> IoBackend {
        IoBackend { name: "simulated".to_owned(), reason: None }
    }
    fn processors(&self) -> usize {
        4
    }

    fn block_devices(&self) -> HostResult<Vec<PathBuf>> {
        let world = self.lock();
        world.alive("block devices")?;
        Ok(world.nodes.iter().filter(|(_, node)| world.node_size(node) > 0).map(|(path, _)| path.clone()).collect())
    }

    fn device_names(&self) -> HostResult<BTreeSet<PathBuf>> {
        let world = self.lock();
        world.alive("device names")?;
        Ok(world.nodes.keys().cloned().collect())
    }

    fn disk_at(&self, node: &Path) -> HostResult<Option<DiskIdentity>> {
        let world = self.lock();
        world.alive(&format!("look at {}", node.display()))?;
        Ok(world.node(node).map(|(_, node)| world.identity(node)).filter(|is| !is.size.is_zero()))
    }

    fn disk_events(&self) -> HostResult<Arc<dyn DiskEvents>> {
        Ok(Arc::clone(&self.news) as Arc<dyn DiskEvents>)
    }

    fn mount_events(&self) -> HostResult<Arc<dyn MountEvents>> {
        Ok(Arc::clone(&self.mount_news) as Arc<dyn MountEvents>)
    }

    fn inspect(&self, path: &Path) -> HostResult<DiskInfo> {
        let world = self.lock();
        let what = format!("inspect {}", path.display());
        world.alive(&what)?;
        world.inspect(&what, path)
    }

    fn open_read(&self, node: &Path) -> HostResult<Arc<dyn BlockRead>> {
        let what = format!("open {}", node.display());
        self.holds.pass_reader(node);
        let mut world = self.lock();
        world.alive(&what)?;
        let handle = self.handle(&mut world, &what, node, false)?;
        Ok(Arc::new(handle))
    }

    fn probe(&self, dev: DevNumber) -> HostResult<Probe> {
        let mut world = self.lock();
        world.alive(&format!("probe {dev}"))?;
        world.probe_dm(dev)
    }

    fn dm_devices(&self) -> HostResult<Vec<DmInfo>> {
        let mut world = self.lock();
        world.alive("list dm devices")?;
        let ours = world.dm.iter().filter(|(_, device)| device.uuid.starts_with(UUID_PREFIX));
        // The list says whose they are; ours are looked at.
        let ioctls = 1 + ours.count() as u64;
        world.counters.ioctls += ioctls;
        let ours = world.dm.iter().filter(|(_, device)| device.uuid.starts_with(UUID_PREFIX));
        Ok(ours.filter_map(|(minor, _)| world.dm_info(*minor)).collect())
    }

    fn dm_uuids(&self) -> HostResult<Vec<String>> {
        let mut world = self.lock();
        world.alive("list dm devices")?;
        world.counters.ioctls += 1;
        let uuids = world.dm.values().map(|device| &device.uuid);
        Ok(uuids.filter(|uuid| uuid.starts_with(UUID_PREFIX)).cloned().collect())
    }

    fn dm_device(&self, uuid: &str) -> HostResult<Option<DmInfo>> {
        let mut world = self.lock();
        world.alive(&format!("dm info {uuid}"))?;
        world.counters.ioctls += 1;
        Ok(world.minor_of(uuid).and_then(|minor| world.dm_info(minor)))
    }

    fn dm_status(&self, uuid: &str) -> HostResult<Option<(DmInfo, TargetStatus)>> {
        self.holds.pass_look(uuid);
        let mut world = self.lock();
        world.alive(&format!("dm status {uuid}"))?;
        world.counters.ioctls += 1;
        let Some(minor) = world.minor_of(uuid) else { return Ok(None) };
        let status = match (world.pool_usage(minor), world.dm.get(&minor).and_then(|device| device.thin())) {
            (Some(pool), _) => TargetStatus::Pool(pool),
            (None, Some((pool, id))) => TargetStatus::Thin(world.thin_usage(pool, id)),
            (None, None) => TargetStatus::None,
        };
        Ok(world.dm_info(minor).map(|info| (info, status)))
    }

    fn dm_table(&self, uuid: &str) -> HostResult<Vec<TargetLine>> {
        let (world, minor) = self.ask_dm("dm table", uuid)?;
        Ok(world.dm.get(&minor).and_then(|device| device.live.as_ref()).map_or_else(Vec::new, |t| t.lines.clone()))
    }

    fn pool_status(&self, uuid: &str) -> HostResult<PoolStatus> {
        let (world, minor) = self.ask_dm("pool status", uuid)?;
        let what = format!("pool status {uuid}");
        world.pool_usage(minor).map_or_else(|| fail(HostErrorKind::Invalid, what, "no thin pool"), Ok)
    }

    fn thin_status(&self, uuid: &str) -> HostResult<ThinStatus> {
        let (world, minor) = self.ask_dm("thin status", uuid)?;
        let what = format!("thin status {uuid}");
        let thin = world.dm.get(&minor).and_then(|device| device.thin());
        thin.map_or_else(|| fail(HostErrorKind::Invalid, what, "no thin volume"), |(p, id)| Ok(world.thin_usage(p, id)))
    }

    fn pool_contents(&self, metadata_uuid: &str, root: MetadataRoot) -> HostResult<PoolContents> {
        let (world, minor) = self.ask_dm("read the pool metadata on", metadata_uuid)?;
        world.pool_contents(&format!("read the pool metadata on {metadata_uuid}"), minor, root)
    }

    fn thin_tools(&self) -> HostResult<()> {
        let world = self.lock();
        world.alive("look for the tools of thin pools")?;
        if world.no_thin_tools {
            return fail(HostErrorKind::Unsupported, "look for thin_check", "it is not installed");
        }
        Ok(())
    }

    fn thin_check(&self, dev: DevNumber, dm_uuid: &str) -> HostResult<ThinVerdict> {
        let what = format!("thin_check on {dev}");
        let world = self.lock();
        world.alive(&what)?;
        world.check_metadata(&what, dev, dm_uuid)
    }

    fn fs_state(&self, dev: DevNumber, fs: FsKind, _: Option<&Path>) -> HostResult<FsState> {
        let world = self.lock();
        world.alive("read a superblock")?;
        world.fs_state(dev, fs)
    }

    fn pool_sharing(&self, call: &SharingCall<'_>) -> HostResult<PoolSharing> {
        let uuid = call.metadata_uuid;
        let (world, minor) = self.ask_dm("read the mappings on", uuid)?;
        let what = format!("read the mappings on {uuid}");
        if !(call.go_on)() {
            return fail(HostErrorKind::Busy, what, "it is not to go on");
        }
        world.pool_sharing(&what, minor, call.root, call.kin)
    }

    fn pool_changes(&self, call: &ChangesCall<'_>) -> HostResult<ThinChanges> {
        let uuid = call.metadata_uuid;
        let (world, minor) = self.ask_dm("compare mappings on", uuid)?;
        let what = format!("compare mappings on {uuid}");
        if !(call.go_on)() {
            return fail(HostErrorKind::Busy, what, "it is not to go on");
        }
        world.pool_changes(&what, minor, call)
    }

    fn dm_targets(&self) -> HostResult<Vec<DmTarget>> {
        let world = self.lock();
        world.alive("dm targets")?;
        Ok(world.targets.clone())
    }

    fn fs_usage(&self, dev: DevNumber, at: &Path) -> HostResult<FsUsage> {
        let what = format!("usage at {}", at.display());
        let world = self.lock();
        world.alive(&what)?;
        let (mount, place) = world.mounted_at(&what, at)?;
        if mount.dev != dev {
            return fail(HostErrorKind::Changed, what, "something else is mounted there");
        }
        world.fs_usage_of(&what, place)
    }

    fn mounts(&self) -> HostResult<Vec<Mount>> {
        let world = self.lock();
        world.alive("mounts")?;
        Ok(world.mounts.iter().map(|mounted| mounted.mount.clone()).collect())
    }

    fn holders(&self, dev: DevNumber) -> Vec<String> {
        let world = self.lock();
        let mounts = world.mounts.iter().filter(|mounted| mounted.mount.dev == dev);
        let mounted = mounts.flat_map(|mounted| {
            mounted.held.iter().cloned().chain([format!("mounted at {}", mounted.mount.target.display())])
        });
        let held = (dev.major == DM_MAJOR).then(|| world.dm.get(&dev.minor)).flatten();
        let looked_at = held.filter(|device| !device.looked_at.is_zero()).map(|_| crate::udev::WHO.to_owned());
        let held = held.into_iter().flat_map(|device| device.held.iter().cloned()).chain(looked_at);
        held.chain(mounted).chain(world.dm_holders(dev)).collect()
    }

    /// Whoever holds a device and says that he has a mount namespace (`SimHost::hold_device`).
    fn mounted_elsewhere(&self, devs: &BTreeSet<DevNumber>) -> HostResult<Vec<Elsewhere>> {
        let world = self.lock();
        world.alive("mounts of other namespaces")?;
        let held = devs.iter().filter(|dev| dev.major == DM_MAJOR).flat_map(|dev| {
            let who = world.dm.get(&dev.minor).into_iter().flat_map(|device| &device.held);
            who.filter(|who| who.contains("mount namespace")).map(move |who| (*dev, who))
        });
        let elsewhere = |(dev, who): (DevNumber, &String)| Elsewhere {
            dev,
            pid: 4711,
            process: who.clone(),
            target: PathBuf::from("/data"),
        };
        Ok(held.map(elsewhere).collect())
    }

    fn backing_files(&self) -> HostResult<Vec<PathBuf>> {
        let world = self.lock();
        world.alive("backing files")?;
        let images = world.files.keys().filter(|file| {
            file.parent() == Some(Path::new(IMAGE_DIR)) && file.extension().is_some_and(|extension| extension == "img")
        });
        let mut files: Vec<PathBuf> = world.remembered.iter().chain(images).cloned().collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    fn loop_device_of(&self, file: &Path) -> HostResult<Option<PathBuf>> {
        let world = self.lock();
        world.alive("loop device")?;
        if !world.files.contains_key(file) {
            return fail(HostErrorKind::NotFound, format!("loop device of {}", file.display()), "no such file");
        }
        Ok(world.loop_of(file))
    }

    fn path_exists(&self, path: &Path) -> HostResult<bool> {
        let world = self.lock();
        world.alive("path exists")?;
        Ok(world.nodes.contains_key(path)
            || world.links.contains_key(path)
            || world.files.keys().chain(&world.paths).chain(&world.symlinks).any(|there| there.starts_with(path)))
    }

    fn directories_in(&self, dir: &Path) -> HostResult<Vec<PathBuf>> {
        let world = self.lock();
        world.alive("list a directory")?;
        let is_dir = |path: &&PathBuf| path.parent() == Some(dir) && !world.symlinks.contains(*path);
        Ok(world.paths.iter().filter(is_dir).cloned().collect())
    }
}

impl SimHost {
    fn ask_dm(&self, what: &str, uuid: &str) -> HostResult<(std::sync::MutexGuard<'_, World>, u32)> {
        let what = format!("{what} {uuid}");
        let mut world = self.lock();
        world.alive(&what)?;
        world.counters.ioctls += 1;
        let minor = world.dm_minor(&what, uuid)?;
        Ok((world, minor))
    }

    pub(crate) fn handle(&self, world: &mut World, what: &str, path: &Path, writable: bool) -> HostResult<Handle> {
        world.counters.opens += 1;
        let Some((path, node)) = world.node(path) else {
            if let Some((_, device)) = world.dm.iter().find(|(minor, _)| World::dm_node(**minor) == path) {
                if device.suspended {
                    return fail(HostErrorKind::Busy, what, "it is suspended: every read would wait");
                }
                return fail(HostErrorKind::Unsupported, what, "reading our own dm devices is not modelled");
            }
            let file = world.files.contains_key(path);
            let kind = if file { HostErrorKind::Invalid } else { HostErrorKind::NotFound };
            return fail(kind, what, if file { "no block device" } else { "no such device" });
        };
        let (medium, start) = (node.medium, node.start);
        let identity = world.identity(node);
        let life = world.life;
        Ok(Handle { world: Arc::clone(&self.world), node: path, identity, medium, start, life, writable })
    }
}

impl World {
    fn inspect(&self, what: &str, path: &Path) -> HostResult<DiskInfo> {
        let Some((node_path, node)) = self.node(path) else { return self.inspect_other(what, path) };
        let Some(medium) = self.media.get(&node.medium) else {
            return fail(HostErrorKind::Io, what, "no medium");
        };
        if medium.read_fault == Some(ReadFault::Error) || medium.is_bad(node.start, node.start + 4096) {
            return fail(HostErrorKind::Io, what, "the device cannot be probed");
        }
        let family = self.family(&node_path);
        let nodes = || family.iter().filter_map(|dev| self.node_of(*dev)).map(|(_, node)| node);
        let mounts = self.mounts.iter().filter(|mounted| family.contains(&mounted.mount.dev));
        let holders = nodes().flat_map(|node| node.holders.clone());
        Ok(DiskInfo {
            path: path.to_path_buf(),
            identity: self.identity(node),
            kind: match &node.kind {
                NodeKind::Whole => DiskKind::Whole,
                NodeKind::Partition { of } => {
                    DiskKind::Partition { of: self.nodes.get(of).map_or(node.dev, |disk| disk.dev) }
                }
                NodeKind::Loop { file } => DiskKind::Loop { file: file.clone() },
            },
            sector_size: medium.sector_size,
            read_only: medium.read_only,
            hardware_id: medium.hardware_id.clone(),
            signatures: medium.signatures(node.start),
            mounts: mounts.map(|mounted| mounted.mount.target.clone()).collect(),
            swap: nodes().any(|node| node.swap),
            holders: holders.chain(family.iter().flat_map(|dev| self.dm_holders(*dev))).collect(),
            partitions: self.partitions(&node_path).map(|(_, node)| node.dev).collect(),
            dm_uuid: node.dm_uuid.clone(),
            node: node_path,
        })
    }

    /// A dm device of ours, or what is no block device at all.
    fn inspect_other(&self, what: &str, path: &Path) -> HostResult<DiskInfo> {
        let Some((minor, device)) = self.dm.iter().find(|(minor, _)| Self::dm_node(**minor) == path) else {
            let there = self.files.contains_key(path) || self.paths.contains(path);
            let kind = if there { HostErrorKind::Invalid } else { HostErrorKind::NotFound };
            return fail(kind, what, if there { "no block device" } else { "no such device" });
        };
        if device.suspended {
            return fail(HostErrorKind::Busy, what, "it is suspended: every read would wait");
        }
        let dev = dm_dev(*minor);
        let (size, sector_size) = self.size_of(dev).unwrap_or((0, 512));
        Ok(DiskInfo {
            path: path.to_path_buf(),
            node: path.to_path_buf(),
            identity: DiskIdentity { dev, diskseq: Some(device.diskseq), size: Bytes(size) },
            kind: DiskKind::Whole,
            sector_size,
            read_only: device.read_only,
            hardware_id: String::new(),
            signatures: Vec::new(),
            mounts: self.mounts.iter().filter(|m| m.mount.dev == dev).map(|m| m.mount.target.clone()).collect(),
            swap: false,
            holders: self.dm_holders(dev),
            partitions: Vec::new(),
            dm_uuid: Some(device.uuid.clone()),
        })
    }

    pub fn loop_of(&self, file: &Path) -> Option<PathBuf> {
        let over = |kind: &NodeKind| matches!(kind, NodeKind::Loop { file: backing } if backing == file);
        // A loop device over a file that was deleted is not one over the file that has its name now.
        let there = |medium: u64| self.files.get(file) == Some(&medium);
        self.nodes.iter().find(|(_, node)| over(&node.kind) && there(node.medium)).map(|(path, _)| path.clone())
    }
}
