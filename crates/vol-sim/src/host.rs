//! The simulated host itself, and the questions a test may ask of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;
use vol_core::observed::{DevNumber, Mount};
use vol_engine::host::{HostErrorKind, HostResult};

use crate::effect::{Counters, Effect};
use crate::fault::{EffectKind, Fault, ReadFault};
use crate::fs::{Content, ProbeLie, ThinAt};
use crate::fs_care::path_of;
use crate::hold::Holds;
use crate::news::{MountNews, News};
use crate::place::FsPlace;
use crate::pool::SimPoolMode;
use crate::world::{World, fail};

/// A simulated host. Clones share the same world; [`SimHost::fork`] makes another.
#[derive(Clone)]
pub struct SimHost {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) holds: Arc<Holds>,
    pub(crate) news: Arc<News>,
    pub(crate) mount_news: Arc<MountNews>,
}

impl fmt::Debug for SimHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimHost").field("effects", &self.effects()).finish_non_exhaustive()
    }
}

/// What a pool's metadata hold of one thin volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinView {
    pub origin: Option<u32>,
    /// The pool's transaction id when it was made.
    pub created_transaction: u64,
    /// In chunks.
    pub mapped: u64,
    pub content: Content,
}

/// What a pool's metadata hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    pub transaction_id: u64,
    /// Snapshots taken in the pool's life.
    pub clock: u32,
    pub mode: SimPoolMode,
    pub needs_check: bool,
    /// A metadata snapshot is held.
    pub metadata_snapshot: bool,
    pub thins: BTreeMap<u32, ThinView>,
}

impl SimHost {
    /// An empty machine with a daemon that runs. All randomness comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            world: Arc::new(Mutex::new(World::new(seed))),
            holds: Arc::default(),
            news: Arc::default(),
            mount_news: Arc::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        // A test that failed while it held the lock has told so already.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another world that is the same up to now. Open devices belong to the old one.
    pub fn fork(&self) -> Self {
        Self {
            world: Arc::new(Mutex::new(self.lock().clone())),
            holds: Arc::default(),
            news: Arc::default(),
            mount_news: Arc::default(),
        }
    }

    // --- Effects and faults ---

    /// The number of effects so far; the next one has this number plus one.
    pub fn effects(&self) -> u64 {
        self.lock().effects
    }
    /// The effects so far, one line each.
    pub fn trace(&self) -> Vec<String> {
        self.effect_log().iter().map(ToString::to_string).collect()
    }
    pub fn effect_log(&self) -> Vec<Effect> {
        self.lock().log.clone().unwrap_or_default()
    }
    /// Forgets the trace; with `false` none is kept from now on, which is cheaper for long runs and many forks.
    pub fn keep_trace(&self, keep: bool) {
        self.lock().log = keep.then(Vec::new);
    }
    pub fn counters(&self) -> Counters {
        self.lock().counters.clone()
    }
    pub fn reset_counters(&self) {
        self.lock().counters = Counters::default();
    }
    /// The effect with this number suffers `fault`, once.
    pub fn fail_effect(&self, number: u64, fault: Fault) {
        self.lock().faults.at(number, fault);
    }
    /// All effects from this number on suffer `fault`.
    pub fn fail_effects_from(&self, number: u64, fault: Fault) {
        self.lock().faults.from(number, fault);
    }
    /// The next effect of this kind suffers `fault`, once. Several wait in line.
    pub fn fail_next(&self, kind: EffectKind, fault: Fault) {
        self.lock().faults.next(kind, fault);
    }
    /// All effects on a device suffer `fault`: a disk or loop node, a file, a dm uuid, or a mount's target. With
    /// [`Fault::Error`] on a disk the commits of pools whose metadata are on it fail too.
    pub fn fail_device(&self, device: impl AsRef<Path>, fault: Fault) {
        self.lock().faults.device(&device.as_ref().to_string_lossy(), Some(fault));
    }
    /// Of the effects on a device that can suffer `fault`, the one after `after` others suffers it, once.
    pub fn fail_once(&self, device: impl AsRef<Path>, after: u64, fault: Fault) {
        self.lock().faults.once(&device.as_ref().to_string_lossy(), after, fault);
    }
    pub fn heal_device(&self, device: impl AsRef<Path>) {
        self.lock().faults.device(&device.as_ref().to_string_lossy(), None);
    }
    /// All reads of a disk suffer this, until `None`.
    pub fn fail_reads(&self, disk: impl AsRef<Path>, fault: Option<ReadFault>) {
        self.lock().medium_mut(disk.as_ref()).read_fault = fault;
    }
    /// Forgets all planned effect faults.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }
    /// Probes of this dm uuid (`*`: of all) lie, until `None`.
    pub fn lie_in_probe(&self, dm_uuid: &str, lie: Option<ProbeLie>) {
        let mut world = self.lock();
        match lie {
            Some(lie) => world.lies.insert(dm_uuid.to_owned(), lie),
            None => world.lies.remove(dm_uuid),
        };
    }
    pub fn set_now(&self, seconds: u64) {
        self.lock().now = seconds;
    }
    /// Time goes by, on the clock that never goes back.
    pub fn pass(&self, time: std::time::Duration) {
        let mut world = self.lock();
        world.uptime = world.uptime.saturating_add(time);
    }
    /// The dm targets of this kernel.
    pub fn set_dm_targets(&self, targets: &[(&str, (u32, u32, u32))]) {
        self.lock().targets = targets.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect();
    }

    // --- Pools, as somebody else changes them ---

    /// What the metadata of an active pool hold; `None` if there is no such pool.
    pub fn pool(&self, dm_uuid: &str) -> Option<PoolView> {
        let world = self.lock();
        let minor = world.minor_of(dm_uuid)?;
        let (active, disk) = (world.active_pool(minor)?, world.pool_disk(minor)?);
        let view = |thin: &crate::pool::Thin| ThinView {
            origin: thin.origin,
            created_transaction: thin.created_transaction,
            mapped: thin.blocks.len() as u64,
            content: thin.content.clone(),
        };
        Some(PoolView {
            transaction_id: disk.transaction_id,
            clock: disk.clock,
            mode: active.mode,
            needs_check: active.needs_check,
            metadata_snapshot: disk.held.is_some(),
            thins: disk.thins.iter().map(|(id, thin)| (*id, view(thin))).collect(),
        })
    }
    /// Puts an active pool into a mode, as trouble on its devices would.
    pub fn set_pool_mode(&self, dm_uuid: &str, mode: SimPoolMode) {
        let mut world = self.lock();
        let minor = world.minor_of(dm_uuid);
        if let Some(pool) = minor.and_then(|minor| world.dm.get_mut(&minor)).and_then(|device| device.pool.as_mut()) {
            pool.mode = mode;
        }
    }
    /// A metadata operation of an active pool fails: read-only, `needs_check`.
    pub fn break_pool(&self, dm_uuid: &str) {
        let mut world = self.lock();
        if let Some(minor) = world.minor_of(dm_uuid) {
            world.abort_pool(minor);
        }
    }
    /// `thin_check --clear-needs-check-flag`; the pool reads it when it is next activated.
    pub fn repair_pool(&self, dm_uuid: &str) -> HostResult<()> {
        self.change_pool(dm_uuid, |disk| disk.needs_check = false)
    }
    /// Sets the transaction id past the compare-and-swap, as a foreign writer would.
    pub fn set_transaction_id(&self, dm_uuid: &str, id: u64) -> HostResult<()> {
        self.change_pool(dm_uuid, |disk| disk.transaction_id = id)
    }
    /// A thin id that nobody of ours made.
    pub fn add_stray_thin(&self, dm_uuid: &str, id: u32) -> HostResult<()> {
        self.change_pool(dm_uuid, |disk| {
            disk.thins.entry(id).or_default();
        })
    }
    /// Sets the snapshot clock: so many `create_snap` that no test sends them.
    pub fn set_pool_clock(&self, dm_uuid: &str, clock: u32) -> HostResult<()> {
        self.change_pool(dm_uuid, |disk| disk.clock = clock)
    }
    /// A thin id vanishes.
    pub fn lose_thin(&self, dm_uuid: &str, id: u32) -> HostResult<()> {
        self.change_pool(dm_uuid, |disk| disk.drop_thin(id))
    }
    /// So many chunks of a thin volume are written to.
    pub fn fill(&self, dm_uuid: &str, chunks: u64) -> HostResult<()> {
        let mut world = self.lock();
        let at = world.thin_by_uuid("fill", dm_uuid)?;
        let chunk = world.pool_disk(at.pool).map_or(0, |disk| disk.chunk * 512);
        let content = world.content("fill", at)?.clone();
        world.thin_write("fill", at, chunks * chunk, content)
    }

    fn change_pool(&self, dm_uuid: &str, change: impl FnOnce(&mut crate::pool::PoolDisk)) -> HostResult<()> {
        let mut world = self.lock();
        let minor = world.dm_minor("change pool", dm_uuid)?;
        world.commit_pool(minor, change)
    }

    // --- Content of volumes, as their users see it; works while the daemon is dead ---

    /// Writes a file into the file system that is mounted at `target`, durably.
    pub fn put_file(&self, target: impl AsRef<Path>, name: &str, bytes: &[u8]) -> HostResult<()> {
        let what = format!("put {name} at {}", target.as_ref().display());
        let mut world = self.lock();
        let (mount, at) = world.mounted_at(&what, target.as_ref())?;
        if mount.read_only {
            return fail(HostErrorKind::Denied, what, "mounted read-only");
        }
        let mut content = world.held_at(&what, at)?;
        if let Content::Fs { files, .. } = &mut content {
            Arc::make_mut(files).insert(path_of(&mount, name), bytes.to_vec());
        }
        world.hold_at(&what, at, bytes.len().max(1) as u64, content)
    }
    /// Reads it back; `None` if there is no such file.
    pub fn read_file(&self, target: impl AsRef<Path>, name: &str) -> HostResult<Option<Vec<u8>>> {
        let what = format!("read {name} at {}", target.as_ref().display());
        let world = self.lock();
        let (mount, at) = world.mounted_at(&what, target.as_ref())?;
        match world.held_at(&what, at)? {
            Content::Fs { files, .. } => Ok(files.get(&path_of(&mount, name)).cloned()),
            _ => fail(HostErrorKind::Io, what, "no file system"),
        }
    }
    /// Writes a volume as a raw device, which hands it out.
    pub fn put_raw(&self, dm_uuid: &str, bytes: &[u8]) -> HostResult<()> {
        let mut world = self.lock();
        let at = world.thin_by_uuid("write raw", dm_uuid)?;
        world.life(at).handed_out = true;
        let range = (0, bytes.len().max(1) as u64);
        world.thin_write_at("write raw", at, range, Content::Raw(bytes.to_vec()))
    }
    /// Writes bytes into a thin volume or a linear device, durably; `TimedOut` where the kernel would let the writer wait.
    /// Bytes of a file system are not modelled: a volume that holds one holds these bytes alone afterwards.
    pub fn write_bytes(&self, dev: DevNumber, offset: u64, bytes: &[u8]) -> HostResult<()> {
        self.lock().dm_write("write", dev, offset, bytes)
    }
    /// Reads them back.
    pub fn read_bytes(&self, dev: DevNumber, offset: u64, len: u64) -> HostResult<Vec<u8>> {
        self.lock().dm_read("read", dev, offset, len)
    }
    /// The content of an active volume.
    pub fn content(&self, dm_uuid: &str) -> HostResult<Content> {
        let world = self.lock();
        let at = world.place_of("content", dm_uuid)?;
        world.held_at("content", at)
    }
    /// Files are open at this mount: it cannot be unmounted until [`SimHost::release_mount`].
    pub fn hold_mount(&self, target: impl AsRef<Path>, who: &str) {
        self.set_held(target.as_ref(), Some(who));
    }
    /// The same for a moment: so many attempts to unmount it fail.
    pub fn look_at_mount(&self, target: impl AsRef<Path>, who: &str, attempts: u32) {
        let target = target.as_ref();
        self.set_held(target, Some(who));
        let mut world = self.lock();
        let there = world.mounts.iter_mut().filter(|mounted| mounted.mount.target == target);
        there.for_each(|mounted| mounted.closed_after = Some(attempts));
    }
    pub fn release_mount(&self, target: impl AsRef<Path>) {
        self.set_held(target.as_ref(), None);
    }
    fn set_held(&self, target: &Path, who: Option<&str>) {
        let mut world = self.lock();
        for mounted in world.mounts.iter_mut().filter(|mounted| mounted.mount.target == target) {
            mounted.held = who.into_iter().map(ToOwned::to_owned).collect();
        }
    }
    /// Somebody has a dm device open: it cannot be removed until `None`.
    pub fn hold_device(&self, dm_uuid: &str, who: Option<&str>) {
        let mut world = self.lock();
        if let Some(device) = world.minor_of(dm_uuid).and_then(|minor| world.dm.get_mut(&minor)) {
            device.held = who.into_iter().map(ToOwned::to_owned).collect();
        }
    }
    /// Unmounts behind the daemon's back.
    pub fn foreign_unmount(&self, target: impl AsRef<Path>) {
        self.lock().mounts.retain(|mounted| mounted.mount.target != target.as_ref());
        self.mount_news.tell();
    }
    /// Suspends behind the daemon's back, as something that died would have.
    pub fn foreign_suspend(&self, dm_uuid: &str) {
        let mut world = self.lock();
        if let Some(device) = world.minor_of(dm_uuid).and_then(|minor| world.dm.get_mut(&minor)) {
            device.suspended = true;
        }
    }
    /// The UUID of the file system on an active volume, if there is a whole one.
    pub fn fs_uuid(&self, dm_uuid: &str) -> Option<Uuid> {
        match self.content(dm_uuid) {
            Ok(Content::Fs { uuid, .. }) => Some(uuid),
            _ => None,
        }
    }
}

impl World {
    pub(crate) fn thin_by_uuid(&self, what: &str, dm_uuid: &str) -> HostResult<ThinAt> {
        let minor = self.dm_minor(what, dm_uuid)?;
        self.thin_at(what, crate::mapper::dm_dev(minor))
    }

    pub(crate) fn place_of(&self, what: &str, dm_uuid: &str) -> HostResult<FsPlace> {
        let minor = self.dm_minor(what, dm_uuid)?;
        self.place(what, crate::mapper::dm_dev(minor))
    }

    /// The topmost mount at `target` and the volume it shows.
    pub(crate) fn mounted_at(&self, what: &str, target: &Path) -> HostResult<(Mount, FsPlace)> {
        let Some(mounted) = self.mounts.iter().rev().find(|mounted| mounted.mount.target == target) else {
            return fail(HostErrorKind::NotFound, what, "nothing is mounted there");
        };
        Ok((mounted.mount.clone(), self.place(what, mounted.mount.dev)?))
    }

    /// The medium of a disk, attached or not, or of a file.
    ///
    /// # Panics
    /// If there is none: a mistake of the test.
    pub fn medium_mut(&mut self, path: &Path) -> &mut crate::disk::Medium {
        let node: PathBuf = crate::disk::resolve_link(&self.links, path);
        let id = self.nodes.get(&node).or_else(|| self.unplugged.get(&node)).map(|node| node.medium);
        let id = id.or_else(|| self.files.get(&node).copied());
        match id.and_then(|id| self.media.get_mut(&id)) {
            Some(medium) => medium,
            None => panic!("no disk or file {}", path.display()),
        }
    }
}
