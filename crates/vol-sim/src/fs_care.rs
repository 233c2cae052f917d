//! File systems that are there: their superblock, growing, checking and trimming them.

use std::path::Path;

use vol_core::observed::{DevNumber, FsCheck, FsState, FsVerdict, Mount};
use vol_engine::host::{FsUsage, HostErrorKind, HostResult};
use vol_types::{Bytes, FsKind, RootDir};

use crate::effect::Mishap;
use crate::fs::{Content, FsFlaw, LOST_AND_FOUND};
use crate::host::SimHost;
use crate::mapper::DM_MAJOR;
use crate::place::FsPlace;
use crate::pool::PoolDisk;
use crate::world::{World, fail};

impl SimHost {
    /// Damages the file system on an active volume.
    pub fn spoil_fs(&self, dm_uuid: &str, now: FsFlaw) -> HostResult<()> {
        let mut world = self.lock();
        let at = world.place_of("spoil", dm_uuid)?;
        let mut content = world.held_at("spoil", at)?;
        if let Content::Fs { flaw, .. } = &mut content {
            *flaw = now;
        }
        world.hold_at("spoil", at, 0, content)
    }

    /// What is seen at `target`; directories with a slash behind them.
    pub fn names(&self, target: impl AsRef<Path>) -> HostResult<Vec<String>> {
        let what = format!("list {}", target.as_ref().display());
        let world = self.lock();
        let (mount, at) = world.mounted_at(&what, target.as_ref())?;
        let above = path_of(&mount, "");
        let here = |file: &String| {
            let name = file.strip_prefix(&above).filter(|name| !name.is_empty())?;
            let end = name.find('/').map_or(name.len(), |slash| slash + 1);
            name.get(..end).map(ToOwned::to_owned)
        };
        let Content::Fs { files, .. } = world.held_at(&what, at)? else {
            return fail(HostErrorKind::Io, what, "no file system");
        };
        let mut names: Vec<String> = files.keys().filter_map(here).collect();
        names.dedup();
        Ok(names)
    }

    /// Takes a file, or with a slash behind it a directory, out of the file system that is mounted at `target`; its chunks stay mapped.
    pub fn remove_file(&self, target: impl AsRef<Path>, name: &str) -> HostResult<()> {
        let what = format!("remove {name} at {}", target.as_ref().display());
        let mut world = self.lock();
        let (mount, at) = world.mounted_at(&what, target.as_ref())?;
        let path = path_of(&mount, name);
        let mut content = world.held_at(&what, at)?;
        if let Content::Fs { files, .. } = &mut content {
            let inside = |file: &str| path.ends_with('/') && file.starts_with(&path);
            std::sync::Arc::make_mut(files).retain(|file, _| *file != path && !inside(file));
        }
        world.hold_at(&what, at, 0, content)
    }
}

/// The path in the file system of what is called so where it is mounted.
pub(crate) fn path_of(mount: &Mount, name: &str) -> String {
    let above = mount.root.to_string_lossy();
    match above.trim_start_matches('/') {
        "" => name.to_owned(),
        above => format!("{above}/{name}"),
    }
}

/// What a new file system takes of its volume.
pub(crate) fn first_bytes(size: u64) -> u64 {
    (size / 64).clamp(1, 1 << 20)
}

impl World {
    /// The superblock of a file system of this kind.
    pub fn fs_state(&self, dev: DevNumber, fs: FsKind) -> HostResult<FsState> {
        let what = format!("read the superblock on {dev}");
        let at = self.place(&what, dev)?;
        match self.held_at(&what, at)? {
            Content::Fs { kind, size, flaw, .. } if kind == fs => {
                Ok(FsState { size: Bytes(size), errors: fs == FsKind::Ext4 && flaw != FsFlaw::None })
            }
            _ => fail(HostErrorKind::Invalid, what, "no superblock of this kind"),
        }
    }

    /// As full as what was put into it, in blocks of 4 KiB.
    pub fn fs_usage_of(&self, what: &str, at: FsPlace) -> HostResult<FsUsage> {
        let Content::Fs { files, size, kind, .. } = self.held_at(what, at)? else {
            return fail(HostErrorKind::Io, what, "no file system");
        };
        let used: u64 = files.values().map(|bytes| (bytes.len() as u64).next_multiple_of(4096)).sum();
        let free = Bytes(size.saturating_sub(used));
        let inodes = if kind == FsKind::Btrfs { 0 } else { size / 16_384 };
        let inodes_free = inodes.saturating_sub(files.len() as u64);
        Ok(FsUsage { size: Bytes(size), free, available: free, inodes, inodes_free })
    }

    fn own(&self, what: &str, dev: DevNumber, dm_uuid: &str) -> HostResult<FsPlace> {
        if dev.major != DM_MAJOR || self.dm.get(&dev.minor).is_none_or(|device| device.uuid != dm_uuid) {
            return fail(HostErrorKind::Changed, what, "the device is not the one that was meant");
        }
        self.place(what, dev)
    }

    fn writable_at(&self, what: &str, dev: DevNumber, target: &Path) -> HostResult<()> {
        match self.mounts.iter().rev().find(|mounted| mounted.mount.target == target) {
            None => fail(HostErrorKind::NotFound, what, "nothing is mounted there"),
            Some(mounted) if mounted.mount.dev != dev => {
                fail(HostErrorKind::Changed, what, "something else is mounted there")
            }
            Some(mounted) if mounted.mount.read_only => fail(HostErrorKind::Denied, what, "it is mounted read-only"),
            Some(_) => Ok(()),
        }
    }

    /// Owners and modes are not modelled: it is looked at that nobody has seen the file system.
    pub fn prepare_root(
        &mut self,
        what: &str,
        (dev, dm_uuid): (DevNumber, &str),
        fs: FsKind,
        root: &RootDir,
    ) -> HostResult<()> {
        let at = self.own(what, dev, dm_uuid)?;
        if self.life_at(at).handed_out {
            self.violation(format!("the root of {dm_uuid}, which was handed out, was made anew"));
        }
        let mut content = self.held_at(what, at)?;
        match &mut content {
            Content::Fs { kind, files, .. } if *kind == fs => {
                let files = std::sync::Arc::make_mut(files);
                if root.empty {
                    files.remove(LOST_AND_FOUND);
                }
                if let Some(subdir) = &root.subdir {
                    files.insert(format!("{subdir}/"), Vec::new());
                }
                self.hold_at(what, at, 0, content)?;
                self.closed(dev);
                Ok(())
            }
            _ => fail(HostErrorKind::Invalid, what, "wrong fs type, bad superblock"),
        }
    }

    pub fn grow_fs(
        &mut self,
        what: &str,
        (dev, dm_uuid): (DevNumber, &str),
        fs: FsKind,
        target: &Path,
        mishap: Mishap,
    ) -> HostResult<()> {
        let at = self.own(what, dev, dm_uuid)?;
        self.writable_at(what, dev, target)?;
        let mut content = self.held_at(what, at)?;
        let Content::Fs { kind, size, .. } = &mut content else {
            return fail(HostErrorKind::Tool, what, "no file system");
        };
        if *kind != fs {
            return fail(HostErrorKind::Tool, what, "another file system");
        }
        let (from, to) = (*size, (*size).max(at.size()));
        // It grows group by group.
        let half = mishap.stage(1).is_err();
        *size = if half { from + (to - from) / 2 } else { to };
        let written = if to > from { first_bytes(to - from) } else { 0 };
        let tool = |error: vol_engine::host::HostError| fail(HostErrorKind::Tool, what, &error.detail);
        self.hold_at(what, at, written, content).or_else(tool)?;
        mishap.stage(1)
    }

    pub fn check_fs(
        &mut self,
        what: &str,
        (dev, dm_uuid): (DevNumber, &str),
        fs: FsKind,
        how: FsCheck,
    ) -> HostResult<FsVerdict> {
        let at = self.own(what, dev, dm_uuid)?;
        if self.mounts.iter().any(|mounted| mounted.mount.dev == dev) {
            return fail(HostErrorKind::Busy, what, "it is mounted");
        }
        if self.dm.get(&dev.minor).is_some_and(|device| device.read_only) {
            return fail(HostErrorKind::Denied, what, "the device is read-only");
        }
        let mut content = self.held_at(what, at)?;
        let Content::Fs { kind, flaw, files, .. } = &mut content else {
            return fail(HostErrorKind::Tool, what, "no file system");
        };
        if *kind != fs {
            return fail(HostErrorKind::Tool, what, "another file system");
        }
        let repairs = match how {
            FsCheck::Look => false,
            FsCheck::Safe => fs == FsKind::Ext4 && *flaw == FsFlaw::Safe,
            FsCheck::Repair => fs != FsKind::Btrfs,
        };
        self.closed(dev);
        match *flaw {
            FsFlaw::None => Ok(FsVerdict::Clean),
            _ if !repairs => Ok(FsVerdict::Damaged("inode 12 is wrong".to_owned())),
            _ => {
                *flaw = FsFlaw::None;
                if fs == FsKind::Ext4 {
                    std::sync::Arc::make_mut(files).insert(LOST_AND_FOUND.to_owned(), Vec::new());
                }
                self.hold_at(what, at, 0, content)?;
                Ok(FsVerdict::Corrected("inode 12 is right now".to_owned()))
            }
        }
    }

    /// What lies behind the files, as many bytes as they have, is given back.
    pub fn trim_fs(&mut self, what: &str, dev: DevNumber, target: &Path) -> HostResult<Bytes> {
        self.writable_at(what, dev, target)?;
        let at = self.place(what, dev)?;
        let Content::Fs { files, size, .. } = self.held_at(what, at)? else {
            return fail(HostErrorKind::Unsupported, what, "no file system");
        };
        let Some(at) = at.thin() else {
            return fail(HostErrorKind::Unsupported, what, "its device takes no discards");
        };
        let used = first_bytes(size) + files.values().map(|bytes| bytes.len() as u64).sum::<u64>();
        let Some(disk) = self.pool_disk(at.pool) else { return fail(HostErrorKind::Io, what, "the pool is gone") };
        let (chunk, kept) = (disk.chunk * 512, used.div_ceil(disk.chunk * 512) as usize);
        let free: Vec<u64> =
            disk.thins.get(&at.id).into_iter().flat_map(|thin| thin.blocks.keys().copied().skip(kept)).collect();
        if let Some(first) = free.first() {
            self.commit_pool(at.pool, |disk: &mut PoolDisk| {
                disk.unmap(at.id, *first..u64::MAX);
            })?;
        }
        Ok(Bytes(free.len() as u64 * chunk))
    }
}
