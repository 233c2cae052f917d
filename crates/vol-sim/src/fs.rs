//! What is inside volumes: file systems and raw data; mkfs, probe, mount.
//!
//! Content belongs to the thin volume in the pool's committed state, so a snapshot shares it and a crash keeps it. A file
//! put into a mounted file system is durable when [`crate::SimHost::put_file`] returns, as after `fsync`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use vol_core::observed::{DevNumber, Mount, Probe};
use vol_engine::host::{BindCall, HostErrorKind, HostResult, MountCall};
use vol_types::{FsKind, defect};

use crate::effect::Mishap;
use crate::fault::ReadFault;
use crate::mapper::DM_MAJOR;
use crate::pool::{PoolDisk, SimPoolMode};
use crate::world::{ThinLife, World, fail};

/// What a thin volume holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Content {
    #[default]
    Nothing,
    /// mkfs was stopped in the middle.
    Partial(FsKind),
    Fs {
        kind: FsKind,
        uuid: Uuid,
        /// By their paths; those of directories end with a slash.
        files: Arc<BTreeMap<String, Vec<u8>>>,
        /// How far it goes, in bytes.
        size: u64,
        flaw: FsFlaw,
    },
    /// Written as a raw device.
    Raw(Vec<u8>),
}

/// What `mke2fs` makes in the root of an ext4, and `e2fsck` makes again.
pub(crate) const LOST_AND_FOUND: &str = "lost+found/";

/// What is wrong with a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsFlaw {
    #[default]
    None,
    /// The kernel met errors, and marked the superblock; a check puts them right. (The mark of XFS and btrfs is not modelled
    /// either: only a check finds it.)
    Safe,
    /// A person has to decide; the kernel has marked it.
    Hard,
}

/// What a probe says instead of the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeLie {
    Nothing,
    Ambivalent,
    Error,
    /// A file system of this kind.
    Other(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Mounted {
    pub mount: Mount,
    /// Mounted with `nouuid`: XFS does not remember its UUID (`fs/xfs/xfs_mount.c`, `xfs_uuid_mount`).
    pub nouuid: bool,
    /// Who has files open there.
    pub held: Vec<String>,
    /// They are closed after so many attempts to unmount it.
    pub closed_after: Option<u32>,
}

/// A thin volume that runs: the pool's minor and the thin id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThinAt {
    pub pool: u32,
    pub id: u32,
    pub size: u64,
}

impl World {
    /// The thin volume behind a device that I/O is to go to.
    pub fn thin_at(&self, what: &str, dev: DevNumber) -> HostResult<ThinAt> {
        let Some(device) = self.dm.get(&dev.minor).filter(|_| dev.major == DM_MAJOR) else {
            return fail(HostErrorKind::NotFound, what, "no such dm device");
        };
        let Some((pool, id)) = device.thin() else {
            return fail(HostErrorKind::Unsupported, what, "only the content of thin volumes is modelled");
        };
        if device.suspended || self.dm.get(&pool.minor).is_none_or(|pool| pool.suspended) {
            return fail(HostErrorKind::TimedOut, what, "the device is suspended");
        }
        Ok(ThinAt { pool: pool.minor, id, size: device.sectors() * 512 })
    }

    pub fn content(&self, what: &str, at: ThinAt) -> HostResult<&Content> {
        if self.active_pool(at.pool).is_none_or(|pool| pool.mode == SimPoolMode::Fail) {
            return fail(HostErrorKind::Io, what, "the pool has failed");
        }
        let data = self.active_pool(at.pool).map(|pool| pool.data);
        let size = data.and_then(|dev| self.size_of(dev)).map_or(0, |size| size.0);
        if let Some(data) = data {
            let runs = self.resolve(what, data, 0, size)?;
            let unreadable = |medium: &crate::disk::Medium| medium.read_fault == Some(ReadFault::Error);
            if runs.iter().any(|run| self.media.get(&run.medium).is_none_or(unreadable)) {
                return fail(HostErrorKind::Io, what, "the data device cannot be read");
            }
        }
        match self.pool_disk(at.pool).and_then(|disk| disk.thins.get(&at.id)) {
            Some(thin) => Ok(&thin.content),
            None => fail(HostErrorKind::Io, what, "the thin volume is gone"),
        }
    }

    /// Writes data that take fresh chunks for `bytes`, as a file system does, and changes the content.
    pub fn thin_write(&mut self, what: &str, at: ThinAt, bytes: u64, content: Content) -> HostResult<()> {
        let chunks = self.pool_disk(at.pool).map_or(0..0, |disk| disk.fresh(at.id, bytes.div_ceil(disk.chunk * 512)));
        self.thin_write_chunks(what, at, chunks, content)
    }

    /// Writes `len` bytes at `offset`, and changes the content.
    pub fn thin_write_at(
        &mut self,
        what: &str,
        at: ThinAt,
        (offset, len): (u64, u64),
        content: Content,
    ) -> HostResult<()> {
        let chunk = self.pool_disk(at.pool).map_or(1, |disk| disk.chunk * 512);
        self.thin_write_chunks(what, at, offset / chunk..(offset + len).div_ceil(chunk), content)
    }

    fn thin_write_chunks(&mut self, what: &str, at: ThinAt, chunks: Range<u64>, content: Content) -> HostResult<()> {
        let (Some(active), Some(disk)) = (self.active_pool(at.pool).cloned(), self.pool_disk(at.pool)) else {
            return fail(HostErrorKind::Io, what, "the pool is gone");
        };
        if active.mode == SimPoolMode::Fail || self.refuses_writes(active.data) || !disk.thins.contains_key(&at.id) {
            return fail(HostErrorKind::Io, what, "the pool takes no writes");
        }
        let new = disk.unowned(at.id, chunks);
        let change = |disk: &mut PoolDisk| {
            disk.map(at.id, &new);
            if let Some(thin) = disk.thins.get_mut(&at.id) {
                thin.content = content;
            }
        };
        if new.is_empty() {
            // No mapping changes: nothing is committed, and a pool that takes no messages takes this.
            self.change_data(at.pool, change);
            return Ok(());
        }
        if active.mode >= SimPoolMode::OutOfMetadataSpace {
            return fail(HostErrorKind::Io, what, "the pool makes no new mappings");
        }
        if active.total_data.saturating_sub(disk.used_data()) < new.len() as u64 {
            if let Some(pool) = self.dm.get_mut(&at.pool).and_then(|device| device.pool.as_mut()) {
                pool.mode = SimPoolMode::OutOfDataSpace;
            }
            return fail(HostErrorKind::NoSpace, what, "the pool is out of data space");
        }
        self.commit_pool(at.pool, change)
    }

    /// What a discard does to a thin volume: whole chunks lose their blocks (`dm-thin.c`, `process_discard_bio`). The model
    /// keeps no bytes by chunk, so the content is gone with the first of them.
    pub fn discard_thin(&mut self, what: &str, dev: DevNumber, dm_uuid: &str, offset: u64, len: u64) -> HostResult<()> {
        if self.dm_uuid_of(dev).is_none_or(|uuid| uuid != dm_uuid) {
            return fail(HostErrorKind::Changed, what, "another device");
        }
        let at = self.thin_at(what, dev)?;
        let end = offset.checked_add(len).filter(|end| *end <= at.size);
        let (Some(end), Some(active)) = (end, self.active_pool(at.pool).cloned()) else {
            return fail(HostErrorKind::Invalid, what, "beyond the end of the device");
        };
        if active.mode > SimPoolMode::OutOfDataSpace || self.refuses_writes(active.data) {
            return fail(HostErrorKind::Io, what, "the pool takes no discards");
        }
        if self.mounts.iter().any(|mounted| mounted.mount.dev == dev) {
            self.violation(format!("discarded {dev}, which is mounted"));
        }
        let chunk = self.pool_disk(at.pool).map_or(1, |disk| disk.chunk * 512);
        let chunks = offset.div_ceil(chunk)..end / chunk;
        let mapped = |disk: &PoolDisk| {
            disk.thins.get(&at.id).is_some_and(|thin| thin.blocks.range(chunks.clone()).next().is_some())
        };
        if chunks.is_empty() || !self.pool_disk(at.pool).is_some_and(mapped) {
            return Ok(());
        }
        self.commit_pool(at.pool, |disk| {
            disk.unmap(at.id, chunks);
            if let Some(thin) = disk.thins.get_mut(&at.id) {
                thin.content = Content::Nothing;
            }
        })
    }

    /// Writes raw bytes into a thin volume or a linear device, as its user does.
    pub fn dm_write(&mut self, what: &str, dev: DevNumber, offset: u64, bytes: &[u8]) -> HostResult<()> {
        let Some(device) = self.dm.get(&dev.minor).filter(|_| dev.major == DM_MAJOR) else {
            return fail(HostErrorKind::NotFound, what, "no such dm device");
        };
        if device.read_only {
            return fail(HostErrorKind::Denied, what, "the device is read-only");
        }
        if device.thin().is_none() {
            let runs = self.resolve(what, dev, offset, bytes.len() as u64)?;
            self.write_runs(&runs, bytes);
            return Ok(());
        }
        let at = self.thin_at(what, dev)?;
        let end = offset as usize + bytes.len();
        if end as u64 > at.size {
            return fail(HostErrorKind::Io, what, "beyond the end of the device");
        }
        let mut raw = match self.content(what, at)? {
            Content::Raw(raw) => raw.clone(),
            _ => Vec::new(),
        };
        raw.resize(raw.len().max(end), 0);
        raw[offset as usize..end].copy_from_slice(bytes);
        self.thin_write_at(what, at, (offset, bytes.len() as u64), Content::Raw(raw))
    }

    /// What a user reads there.
    pub fn dm_read(&self, what: &str, dev: DevNumber, offset: u64, len: u64) -> HostResult<Vec<u8>> {
        if self.dm.get(&dev.minor).is_none_or(|device| dev.major != DM_MAJOR || device.thin().is_none()) {
            return self.read_linear(what, dev, offset, len);
        }
        let at = self.thin_at(what, dev)?;
        if offset + len > at.size {
            return fail(HostErrorKind::Io, what, "beyond the end of the device");
        }
        let raw = match self.content(what, at)? {
            Content::Raw(raw) => raw.as_slice(),
            _ => &[],
        };
        let (from, to) = (raw.len().min(offset as usize), raw.len().min((offset + len) as usize));
        let mut bytes = raw[from..to].to_vec();
        bytes.resize(len as usize, 0);
        Ok(bytes)
    }

    pub fn life(&mut self, at: ThinAt) -> &mut ThinLife {
        let pool = self.pool_disk(at.pool).map_or(0, |disk| disk.life);
        self.thin_lives.entry((pool, at.id)).or_default()
    }

    pub fn make_fs(
        &mut self,
        what: &str,
        dev: DevNumber,
        dm_uuid: &str,
        kind: FsKind,
        uuid: Uuid,
        mishap: Mishap,
    ) -> HostResult<()> {
        if dev.major != DM_MAJOR || self.dm.get(&dev.minor).is_none_or(|device| device.uuid != dm_uuid) {
            return fail(HostErrorKind::Changed, what, "the device is not the one that was meant");
        }
        let at = self.place(what, dev)?;
        if self.dm.get(&dev.minor).is_some_and(|device| device.read_only) {
            return fail(HostErrorKind::Denied, what, "the device is read-only");
        }
        if self.mounts.iter().any(|mounted| mounted.mount.dev == dev) {
            return fail(HostErrorKind::Tool, what, "the device is mounted");
        }
        if at.size() < kind.size_min().get() {
            return fail(HostErrorKind::Tool, what, "the device is too small");
        }
        let blank = self.held_at(what, at)? == Content::Nothing;
        self.check_wiped(what, at)?;
        let life = self.life_at(at);
        let known = life.mkfs > 0 || life.handed_out;
        life.mkfs += 1;
        life.used = true;
        if known || !blank {
            self.violation(format!(
                "mkfs on {dm_uuid} (thin {:?}), which was formatted or handed out before",
                at.thin().map(|at| at.id)
            ));
        }
        self.counters.mkfs += 1;
        let written = crate::fs_care::first_bytes(at.size());
        let error = |error: vol_engine::host::HostError| fail(HostErrorKind::Tool, what, &error.detail);
        self.hold_at(what, at, written, Content::Partial(kind)).or_else(error)?;
        mishap.stage(1)?;
        if defect("host: mkfs leaves half a file system") {
            return Ok(());
        }
        let files = match kind {
            FsKind::Ext4 => Arc::new(BTreeMap::from([(LOST_AND_FOUND.to_owned(), Vec::new())])),
            FsKind::Xfs | FsKind::Btrfs => Arc::default(),
        };
        let made = Content::Fs { kind, uuid, files, size: at.size(), flaw: FsFlaw::None };
        self.hold_at(what, at, 0, made).or_else(error)?;
        self.closed(dev);
        Ok(())
    }

    pub fn probe_dm(&mut self, dev: DevNumber) -> HostResult<Probe> {
        let what = format!("probe {dev}");
        let at = self.place(&what, dev)?;
        let uuid = self.dm.get(&dev.minor).map(|device| device.uuid.clone()).unwrap_or_default();
        if self.life_at(at).handed_out {
            self.violation(format!("probe of {uuid}, which was handed out"));
        }
        let found = |kind: &str, uuid| Probe::Found { kind: kind.to_owned(), uuid };
        match self.lies.get(&uuid).or_else(|| self.lies.get("*")) {
            Some(ProbeLie::Nothing) => return Ok(Probe::Nothing),
            Some(ProbeLie::Ambivalent) => return Ok(Probe::Ambivalent),
            Some(ProbeLie::Error) => return fail(HostErrorKind::Io, what, "injected read error"),
            Some(ProbeLie::Other(kind)) => return Ok(found(kind, None)),
            None => {}
        }
        Ok(match self.held_at(&what, at)? {
            Content::Fs { kind, uuid, .. } => found(kind.as_str(), Some(uuid.to_string())),
            // mke2fs writes its superblock last: the trap is that half a file system looks like nothing.
            Content::Nothing | Content::Partial(_) | Content::Raw(_) => Probe::Nothing,
        })
    }

    /// What is said of a path before anything is mounted there.
    pub(crate) fn plain_target(&self, what: &str, target: &Path) -> HostResult<()> {
        let invalid = |detail: &str| fail(HostErrorKind::Invalid, what, detail);
        let clean = target.components().skip(1).all(|part| matches!(part, std::path::Component::Normal(_)));
        if !target.is_absolute() || !clean {
            return invalid("the target is no plain absolute path");
        }
        if target.ancestors().any(|part| self.symlinks.contains(part)) {
            return invalid("a component of the target is a symbolic link");
        }
        if target.ancestors().any(|part| self.files.contains_key(part)) {
            return invalid("a component of the target is no directory");
        }
        Ok(())
    }

    pub fn bind_fs(&mut self, what: &str, call: &BindCall) -> HostResult<()> {
        self.plain_target(what, &call.target)?;
        let (from, _) = self.mounted_at(what, &call.from)?;
        if from.dev != call.dev {
            return fail(HostErrorKind::Changed, what, "something else is mounted there");
        }
        self.paths.extend(call.target.ancestors().map(Path::to_path_buf));
        self.add_mount(call.dev, &call.target, &from.fs_type, from.read_only || call.read_only);
        if let Some(mounted) = self.mounts.last_mut() {
            mounted.mount.root = from.root;
        }
        Ok(())
    }

    pub fn mount_fs(&mut self, what: &str, call: &MountCall) -> HostResult<()> {
        let invalid = |detail: &str| fail(HostErrorKind::Invalid, what, detail);
        self.plain_target(what, &call.target)?;
        let at = self.place(what, call.dev)?;
        let (kind, uuid) = match self.held_at(what, at)? {
            Content::Fs { kind, uuid, files, .. } if kind == call.fs => {
                match &call.subdir {
                    Some(subdir) if files.contains_key(subdir.as_str()) => {
                        return fail(
                            HostErrorKind::NoDirectory,
                            what,
                            "its file system has something else in its place",
                        );
                    }
                    Some(subdir) if !files.contains_key(&format!("{subdir}/")) => {
                        return fail(
                            HostErrorKind::NoDirectory,
                            what,
                            "its file system has no such directory any more",
                        );
                    }
                    _ => {}
                }
                (kind, uuid)
            }
            _ => return invalid("wrong fs type, bad superblock"),
        };
        if !call.read_only && self.dm.get(&call.dev.minor).is_some_and(|device| device.read_only) {
            return fail(HostErrorKind::Denied, what, "the device is read-only");
        }
        if call.no_replay && !call.read_only {
            return invalid("without its journal a file system is mounted read-only");
        }
        let others: Vec<_> = self.mounts.iter().filter(|mounted| mounted.mount.dev == call.dev).collect();
        let writable = others.iter().any(|other| !other.mount.read_only);
        let other_mode = !others.is_empty() && writable == call.read_only;
        if other_mode || others.iter().any(|other| other.mount.target == call.target) {
            return fail(HostErrorKind::Busy, what, "already mounted");
        }
        if kind == FsKind::Xfs && !call.allow_same_uuid && self.mounted_elsewhere(call.dev, uuid) {
            return invalid("an XFS with this UUID is mounted");
        }
        self.life_at(at).handed_out = true;
        let made: Vec<PathBuf> = call.target.ancestors().map(Path::to_path_buf).collect();
        self.paths.extend(made);
        if call.sealed {
            self.sealed.insert(call.target.clone());
        }
        let read_only = call.read_only && !defect("host: a read-only mount is writable");
        self.add_mount(call.dev, &call.target, kind.as_str(), read_only);
        if let Some(mounted) = self.mounts.last_mut() {
            mounted.nouuid = call.allow_same_uuid;
            if let Some(subdir) = &call.subdir {
                mounted.mount.root.push(subdir.as_str());
            }
        }
        Ok(())
    }

    fn mounted_elsewhere(&self, dev: DevNumber, uuid: Uuid) -> bool {
        self.mounts.iter().filter(|mounted| mounted.mount.dev != dev && !mounted.nouuid).any(|mounted| {
            let content = self.place("", mounted.mount.dev).and_then(|at| self.held_at("", at));
            matches!(content, Ok(Content::Fs { uuid: other, .. }) if other == uuid)
        })
    }

    pub fn add_mount(&mut self, dev: DevNumber, target: &Path, fs_type: &str, read_only: bool) {
        self.next_mount_id += 1;
        let (mount_id, target, fs_type) = (self.next_mount_id, target.to_path_buf(), fs_type.to_owned());
        let mount = Mount { mount_id, dev, root: "/".into(), target, fs_type, read_only };
        self.mounts.push(Mounted { mount, nouuid: false, held: Vec::new(), closed_after: None });
    }

    pub fn unmount_fs(&mut self, what: &str, mount: &Mount) -> HostResult<()> {
        let Some(at) = self.mounts.iter().position(|mounted| mounted.mount == *mount) else {
            return fail(HostErrorKind::NotFound, what, "no such mount");
        };
        let covered = self.mounts[at + 1..].iter().any(|above| above.mount.target.starts_with(&mount.target));
        let mounted = &mut self.mounts[at];
        if let Some(left) = &mut mounted.closed_after {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => (mounted.held, mounted.closed_after) = (Vec::new(), None),
            }
        }
        if covered || !self.mounts[at].held.is_empty() {
            return fail(HostErrorKind::Busy, what, "target is busy");
        }
        self.mounts.remove(at);
        self.closed(mount.dev);
        self.drop_idle_loops();
        Ok(())
    }
}
