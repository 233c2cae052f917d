//! Setting up the machine and changing it behind the daemon's back: disks, links, files, damage.
//!
//! These functions panic on what makes no sense: they are called by tests, with constants.

use std::path::{Path, PathBuf};

use vol_core::observed::{DevNumber, Signature};
use vol_types::Bytes;

use crate::disk::{Damage, DiskImage, Medium, Node, NodeKind, SimDisk};
use crate::host::SimHost;
use crate::world::World;

const SD_MAJOR: u32 = 8;
/// Minors of a disk and its partitions.
const SD_MINORS: u32 = 16;
/// Major of dm devices of others: not that of ours, so that minors cannot meet.
const FOREIGN_DM_MAJOR: u32 = 252;

impl SimHost {
    /// Attaches a disk, or a partition of one.
    ///
    /// # Panics
    /// If the path is taken, or the disk of a partition is not there.
    pub fn add_disk(&self, disk: SimDisk) -> &Self {
        let node = disk.path.clone();
        self.lock().add_disk(disk);
        self.news.tell(&node);
        self
    }

    /// Another name for a node.
    pub fn add_link(&self, link: impl Into<PathBuf>, node: impl Into<PathBuf>) -> &Self {
        self.lock().links.insert(link.into(), node.into());
        self
    }

    /// The disk and its partitions vanish; what was not flushed is lost. All later I/O on it is `Io`.
    pub fn remove_disk(&self, path: impl AsRef<Path>) {
        let mut world = self.lock();
        let path = path.as_ref().to_path_buf();
        world.medium_mut(&path).image.power_cut(|_| false);
        let gone: Vec<PathBuf> = world.partitions(&path).map(|(path, _)| path.clone()).chain([path.clone()]).collect();
        for path in gone {
            self.news.tell(&path);
            if let Some(node) = world.nodes.remove(&path) {
                world.unplugged.insert(path, node);
            }
        }
    }

    /// What could not be read can be read again: the content was not lost.
    pub fn mend_disk(&self, path: impl AsRef<Path>) {
        self.lock().medium_mut(path.as_ref()).bad.clear();
    }

    /// A disk vanishes for good, and its path is free again.
    pub fn forget_disk(&self, path: impl AsRef<Path>) {
        self.remove_disk(path.as_ref());
        let mut world = self.lock();
        if let Some(node) = world.unplugged.remove(path.as_ref()) {
            world.media.remove(&node.medium);
        }
    }

    /// Attaches a disk that was removed, with its partitions, under its old name and number.
    ///
    /// # Panics
    /// If it was not removed.
    pub fn reattach(&self, path: impl AsRef<Path>) {
        let mut world = self.lock();
        let path = path.as_ref();
        assert!(world.unplugged.contains_key(path), "{} was not removed", path.display());
        let medium = world.unplugged[path].medium;
        let back: Vec<PathBuf> =
            world.unplugged.iter().filter(|(_, node)| node.medium == medium).map(|(path, _)| path.clone()).collect();
        for path in back {
            self.news.tell(&path);
            if let Some(node) = world.unplugged.remove(&path) {
                world.nodes.insert(path, node);
            }
        }
        world.renumber(path);
    }

    /// As [`SimHost::reattach`], of a whole disk, under another name and number, as a disk whose old ones somebody still has open.
    ///
    /// # Panics
    /// If it was not removed, or the name is taken.
    pub fn reattach_as(&self, path: impl AsRef<Path>, new: impl AsRef<Path>) {
        let mut world = self.lock();
        let (path, new) = (path.as_ref(), new.as_ref());
        assert!(!world.nodes.contains_key(new), "{} is taken", new.display());
        let number = world.free_number(SD_MAJOR);
        let node = world.unplugged.remove(path).unwrap_or_else(|| panic!("{} was not removed", path.display()));
        world.nodes.insert(new.to_path_buf(), crate::disk::Node { dev: number, ..node });
        world.renumber(new);
        self.news.tell(new);
    }

    /// A copy of a whole disk's durable content and signatures as a new disk.
    pub fn clone_disk(&self, from: impl AsRef<Path>, to: impl Into<PathBuf>, hardware_id: &str) -> &Self {
        let image = self.disk_image(from);
        let to = to.into();
        let new =
            SimDisk::new(&to, Bytes(image.medium.size)).sector_size(image.medium.sector_size).hardware_id(hardware_id);
        self.add_disk(new);
        self.set_disk_image(to, &image);
        self
    }

    /// Two whole disks take each other's name and number, as after a reboot that found them in another order.
    pub fn swap_disks(&self, a: impl AsRef<Path>, b: impl AsRef<Path>) {
        let mut world = self.lock();
        let (a, b) = (a.as_ref(), b.as_ref());
        let media = [a, b].map(|path| world.nodes[path].medium);
        for (path, medium) in [(a, media[1]), (b, media[0])] {
            if let Some(node) = world.nodes.get_mut(path) {
                node.medium = medium;
            }
            world.renumber(path);
        }
    }

    /// The durable content of a disk or file now.
    pub fn disk_image(&self, path: impl AsRef<Path>) -> DiskImage {
        let mut world = self.lock();
        world.keep_states = true;
        let mut medium = world.medium_mut(path.as_ref()).clone();
        medium.image.power_cut(|_| false);
        DiskImage { medium }
    }

    /// Puts an older (or another disk's) content on a disk: a stale disk. Size and hardware id stay.
    pub fn set_disk_image(&self, path: impl AsRef<Path>, image: &DiskImage) {
        let mut world = self.lock();
        let medium = world.medium_mut(path.as_ref());
        medium.image = image.medium.image.clone();
        medium.signatures = image.medium.signatures.clone();
        medium.bad = image.medium.bad.clone();
    }

    /// The disk shows another size, as one that shrank, was grown, or lied.
    pub fn resize_disk(&self, path: impl AsRef<Path>, size: Bytes) {
        self.lock().medium_mut(path.as_ref()).size = size.get();
    }

    pub fn set_read_only(&self, path: impl AsRef<Path>, read_only: bool) {
        self.lock().medium_mut(path.as_ref()).read_only = read_only;
    }

    /// Somebody made a file system or the like on a disk.
    pub fn add_signature(&self, path: impl AsRef<Path>, signature: Signature) {
        let mut world = self.lock();
        let start = world.node(path.as_ref()).map_or(0, |(_, node)| node.start);
        world.medium_mut(path.as_ref()).signatures.entry(start).or_default().push(signature);
    }

    /// Damages a range in bytes of a disk's durable content; pending writes to it are lost.
    pub fn damage(&self, path: impl AsRef<Path>, offset: u64, len: u64, damage: Damage) {
        let mut guard = self.lock();
        let world = &mut *guard;
        let mut chance = world.chance.clone();
        let medium = world.medium_mut(path.as_ref());
        let mut bytes = medium.image.read_durable(offset, len as usize);
        match damage {
            Damage::Zeros => bytes.fill(0),
            Damage::Junk => chance.fill(&mut bytes),
            Damage::BitFlip => {
                let bit = chance.below(len * 8);
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            Damage::CopyOf(from) => bytes = medium.image.read_durable(from, len as usize),
            Damage::Unreadable => medium.bad.push((offset, offset + len)),
        }
        medium.image.write_through(offset, &bytes);
        world.chance = chance;
    }

    /// Writes durably past all accounting. `offset` in bytes from the start of the medium.
    pub fn poke(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) {
        self.lock().medium_mut(path.as_ref()).image.write_through(offset, bytes);
    }
    /// What a reader would see; no accounting, no faults.
    pub fn peek(&self, path: impl AsRef<Path>, offset: u64, len: usize) -> Vec<u8> {
        self.lock().medium_mut(path.as_ref()).image.read(offset, len)
    }
    /// What is durable.
    pub fn peek_durable(&self, path: impl AsRef<Path>, offset: u64, len: usize) -> Vec<u8> {
        self.lock().medium_mut(path.as_ref()).image.read_durable(offset, len)
    }

    /// A path at which something stands.
    pub fn add_path(&self, path: impl Into<PathBuf>) -> &Self {
        self.lock().paths.insert(path.into());
        self
    }
    /// A symbolic link that no mount may go through.
    pub fn add_symlink(&self, path: impl Into<PathBuf>) -> &Self {
        self.lock().symlinks.insert(path.into());
        self
    }
    /// Mounts something of somebody else's at `target`.
    pub fn foreign_mount(&self, dev: DevNumber, target: impl AsRef<Path>, fs_type: &str) {
        self.lock().add_mount(dev, target.as_ref(), fs_type, false);
    }
}

impl World {
    fn add_disk(&mut self, disk: SimDisk) {
        let taken = self.nodes.contains_key(&disk.path) || self.unplugged.contains_key(&disk.path);
        assert!(!taken, "{} is there already", disk.path.display());
        let (medium, start, size, dev, diskseq, kind) = match &disk.partition_of {
            None => {
                let mut medium = Medium::new(disk.size.get(), disk.sector_size, &disk.hardware_id);
                medium.read_only = disk.read_only;
                let dev = self.free_number(if disk.dm_uuid.is_some() { FOREIGN_DM_MAJOR } else { SD_MAJOR });
                (self.add_medium(medium), 0, None, dev, self.diskseq(), NodeKind::Whole)
            }
            Some((of, start)) => {
                let parent = self.nodes.get(of).unwrap_or_else(|| panic!("no disk {}", of.display()));
                let number = u32::try_from(self.partitions(of).count()).unwrap_or(SD_MINORS) + 1;
                let dev = DevNumber { minor: parent.dev.minor + number, ..parent.dev };
                let kind = NodeKind::Partition { of: of.clone() };
                (parent.medium, start.get(), Some(disk.size.get()), dev, parent.diskseq, kind)
            }
        };
        let (holders, boot_mounts) = (disk.holders.clone(), disk.mounts.clone());
        let (swap, dm_uuid) = (disk.swap, disk.dm_uuid.clone());
        let node = Node { medium, start, size, dev, diskseq, kind, swap, holders, boot_mounts, dm_uuid, going: false };
        if !disk.signatures.is_empty()
            && let Some(medium) = self.media.get_mut(&node.medium)
        {
            medium.signatures.insert(node.start, disk.signatures.clone());
        }
        for target in &disk.mounts {
            self.add_mount(node.dev, target, "ext4", false);
        }
        self.links.extend(disk.links.iter().map(|link| (link.clone(), disk.path.clone())));
        self.nodes.insert(disk.path, node);
    }

    pub fn add_medium(&mut self, medium: Medium) -> u64 {
        let id = self.next_medium;
        self.next_medium += 1;
        self.media.insert(id, medium);
        id
    }

    /// The lowest number for a whole disk that no disk has, nor one that was removed.
    fn free_number(&self, major: u32) -> DevNumber {
        let taken = |dev: DevNumber| self.nodes.values().chain(self.unplugged.values()).any(|node| node.dev == dev);
        let number = |index: u32| DevNumber { major, minor: index * SD_MINORS };
        (0..).map(number).find(|dev| !taken(*dev)).unwrap_or(number(0))
    }

    /// A disk was attached anew: it and its partitions have a new sequence number.
    pub fn renumber(&mut self, path: &Path) {
        let diskseq = self.diskseq();
        let mut family: Vec<PathBuf> = self.partitions(path).map(|(path, _)| path.clone()).collect();
        family.push(path.to_path_buf());
        for path in family {
            if let Some(node) = self.nodes.get_mut(&path) {
                node.diskseq = diskseq;
            }
        }
    }

    /// What others mount at boot.
    pub fn boot_mounts(&mut self) {
        let mounts: Vec<(DevNumber, PathBuf)> =
            self.nodes.values().flat_map(|n| n.boot_mounts.iter().map(|target| (n.dev, target.clone()))).collect();
        for (dev, target) in mounts {
            self.add_mount(dev, &target, "ext4", false);
        }
    }
}
