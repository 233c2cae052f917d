//! A host that counts effects and ends the daemon at a chosen one: the real host underneath, no hook in the product.
//!
//! An effect is what it is in the simulator (`vol-sim`, `effect.rs`): each call of `HostMut` but `new_uuid`, each write of
//! `write_durable` by itself, each write and flush through an open device.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use uuid::Uuid;
use vol_core::observed::{
    DevNumber, DiskIdentity, DiskInfo, DmInfo, FsCheck, FsState, FsVerdict, Mount, PoolContents, PoolSharing,
    PoolStatus, Probe, Signature, TargetLine, TargetStatus, ThinChanges, ThinStatus, ThinVerdict,
};
use vol_core::plan::repair::Known;
use vol_engine::host::{
    BindCall, BlockRead, BlockWrite, ChangesCall, DiskEvents, DmCreate, DmEnd, DmTarget, DurableWrite, Elsewhere,
    FsUsage, HostError, HostErrorKind, HostMut, HostRead, HostResult, IoBackend, MetadataRoot, MountCall, MountEvents,
    NodeCall, SharingCall, ThinSnapshot, WipeMethod,
};
use vol_types::{Bytes, FsKind, MkfsOptions, RootDir};

/// The test's order, in the file `order` of the daemon's folder: `TURN N before|after kill|hang [WHAT]`. A new turn starts to count at 1;
/// with WHAT, N is that of the first effect that begins so.
const ORDER: &str = "order";
/// What was done since the last order, a line each.
const EFFECTS: &str = "effects";
/// There while a daemon that was told to hang stands at the effect.
const REACHED: &str = "reached";

/// Which side of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The daemon kills itself with SIGKILL.
    Kill,
    /// It stands still, so that the machine can be cut off at this point, or something be done to its disks: [`Hand::go_on`].
    Hang,
}

/// The test's hand on a daemon that dies: a folder that both know.
pub struct Hand {
    dir: PathBuf,
    turn: u64,
}

impl Hand {
    pub fn new(dir: impl Into<PathBuf>) -> Hand {
        let dir = dir.into();
        fs::create_dir_all(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display()));
        Hand { dir, turn: 0 }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Counts from now on, and ends the daemon at effect `number`; never for 0.
    pub fn order(&mut self, number: u64, side: Side, end: End) {
        self.write(number, side, end, "");
    }

    /// As [`Hand::order`], at the first effect that begins with these words: whatever the daemon does by itself before it.
    pub fn order_at(&mut self, what: &str, side: Side, end: End) {
        self.write(0, side, end, what);
    }

    fn write(&mut self, number: u64, side: Side, end: End, what: &str) {
        self.turn += 1;
        let side = if side == Side::Before { "before" } else { "after" };
        let end = if end == End::Kill { "kill" } else { "hang" };
        _ = fs::remove_file(self.dir.join(REACHED));
        _ = fs::remove_file(self.dir.join(EFFECTS));
        // The turn names the writer too: the next process begins its turns anew.
        let text = format!("{}.{} {number} {side} {end} {what}", std::process::id(), self.turn);
        fs::write(self.dir.join("new"), text).unwrap();
        fs::rename(self.dir.join("new"), self.dir.join(ORDER)).unwrap();
    }

    /// What was done since the last order.
    pub fn effects(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join(EFFECTS)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Whether a daemon that was to hang does so now.
    pub fn reached(&self) -> bool {
        self.dir.join(REACHED).exists()
    }

    /// Lets a daemon that hangs go on.
    pub fn go_on(&self) {
        _ = fs::remove_file(self.dir.join(REACHED));
    }
}

#[derive(Default)]
struct Count {
    turn: String,
    done: u64,
    at: u64,
    after: bool,
    hang: bool,
    /// The beginning of the effect that is meant, until it comes.
    what: String,
}

fn order(dir: &Path) -> String {
    fs::read_to_string(dir.join(ORDER)).unwrap_or_default()
}

struct Counter {
    dir: PathBuf,
    count: Mutex<Count>,
}

impl Counter {
    /// Numbers `what`, as the order of this moment has it.
    fn number(&self, what: &str) -> u64 {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let order = order(&self.dir);
        let mut words = order.splitn(5, ' ');
        let turn = words.next().unwrap_or_default();
        if turn != count.turn {
            let at = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let after = words.next() == Some("after");
            let hang = words.next() == Some("hang");
            let what = words.next().unwrap_or_default().to_owned();
            *count = Count { turn: turn.to_owned(), done: 0, at, after, hang, what };
        }
        count.done += 1;
        if !count.what.is_empty() && what.starts_with(&count.what) {
            count.at = count.done;
            count.what.clear();
        }
        if let Ok(mut log) = File::options().create(true).append(true).open(self.dir.join(EFFECTS)) {
            _ = writeln!(log, "{} {what}", count.done);
        }
        count.done
    }

    fn is_due(&self, number: u64, side: Side) -> bool {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.at == number && count.after == (side == Side::After)
    }

    fn strike(&self, number: u64, side: Side) {
        if !self.is_due(number, side) {
            return;
        }
        let hang = self.count.lock().unwrap_or_else(PoisonError::into_inner).hang;
        if !hang {
            _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        }
        let reached = self.dir.join(REACHED);
        _ = File::create(&reached);
        println!("REACHED {number}");
        while reached.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn effect<T>(&self, what: &str, act: impl FnOnce() -> T) -> T {
        let number = self.number(what);
        self.strike(number, Side::Before);
        let result = act();
        self.strike(number, Side::After);
        result
    }
}

/// A host whose effects are counted.
pub struct Dying<H> {
    host: H,
    counter: Arc<Counter>,
}

impl<H> Dying<H> {
    /// Takes orders from the folder `dir`, see [`Hand`].
    pub fn new(host: H, dir: PathBuf) -> Dying<H> {
        // An order that was there before this process was for another one.
        let turn = order(&dir).split(' ').next().unwrap_or_default().to_owned();
        let count = Mutex::new(Count { turn, ..Count::default() });
        Dying { host, counter: Arc::new(Counter { dir, count }) }
    }

    fn effect<T>(&self, what: impl AsRef<str>, act: impl FnOnce(&H) -> T) -> T {
        self.counter.effect(what.as_ref(), || act(&self.host))
    }
}

struct Device {
    inner: Arc<dyn BlockWrite>,
    counter: Arc<Counter>,
}

impl BlockRead for Device {
    fn identity(&self) -> &DiskIdentity {
        self.inner.identity()
    }
    fn read_at(&self, offset: u64, len: usize) -> HostResult<Vec<u8>> {
        self.inner.read_at(offset, len)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl BlockWrite for Device {
    fn write_at(&self, offset: u64, data: &[u8]) -> HostResult<()> {
        self.counter.effect(&format!("write at {offset} len {}", data.len()), || self.inner.write_at(offset, data))
    }
    fn flush(&self) -> HostResult<()> {
        self.counter.effect("flush", || self.inner.flush())
    }
}

impl<H: HostMut> HostMut for Dying<H> {
    fn new_uuid(&self) -> Uuid {
        self.host.new_uuid()
    }
    fn open_write(&self, node: &Path, expected: &DiskIdentity) -> HostResult<Arc<dyn BlockWrite>> {
        let inner = self.effect(format!("open {}", node.display()), |host| host.open_write(node, expected))?;
        Ok(Arc::new(Device { inner, counter: Arc::clone(&self.counter) }))
    }
    /// All go out together, unless the daemon is to die among them: then those before go out, and the rest do not.
    fn write_durable(&self, writes: &[DurableWrite<'_>]) -> Vec<HostResult<()>> {
        let own =
            |write: &DurableWrite<'_>| write.device.as_any().downcast_ref::<Device>().map(|d| Arc::clone(&d.inner));
        let devices: Option<Vec<Arc<dyn BlockWrite>>> = writes.iter().map(own).collect();
        let Some(devices) = devices else {
            let error = HostError::new(HostErrorKind::Invalid, "commit", "the device was opened by another host");
            return writes.iter().map(|_| Err(error.clone())).collect();
        };
        let real: Vec<DurableWrite<'_>> = devices
            .iter()
            .zip(writes)
            .map(|(device, write)| DurableWrite { device, offset: write.offset, data: write.data })
            .collect();
        let what = |write: &DurableWrite<'_>| format!("durable write at {} len {}", write.offset, write.data.len());
        let numbers: Vec<u64> = writes.iter().map(|write| self.counter.number(&what(write))).collect();
        for (index, number) in numbers.iter().enumerate() {
            let (before, after) =
                (self.counter.is_due(*number, Side::Before), self.counter.is_due(*number, Side::After));
            if before || after {
                let done = if after { index + 1 } else { index };
                if let Some(first) = real.get(..done).filter(|first| !first.is_empty()) {
                    self.host.write_durable(first);
                }
                self.counter.strike(*number, if after { Side::After } else { Side::Before });
            }
        }
        self.host.write_durable(&real)
    }
    fn wipe_signatures(&self, node: &Path, identity: &DiskIdentity, expected: &[Signature]) -> HostResult<()> {
        self.effect("wipe signatures", |host| host.wipe_signatures(node, identity, expected))
    }
    fn reread_partitions(&self, node: &Path) {
        self.effect("reread partitions", |host| host.reread_partitions(node));
    }
    fn create_file(&self, path: &Path, size: Bytes) -> HostResult<()> {
        self.effect("create file", |host| host.create_file(path, size))
    }
    fn delete_file(&self, path: &Path) -> HostResult<()> {
        self.effect("delete file", |host| host.delete_file(path))
    }
    fn attach_loop(&self, file: &Path) -> HostResult<PathBuf> {
        self.effect("attach loop", |host| host.attach_loop(file))
    }
    fn detach_loop(&self, node: &Path) -> HostResult<()> {
        self.effect("detach loop", |host| host.detach_loop(node))
    }
    fn remember_backing_files(&self, files: &[PathBuf]) -> HostResult<()> {
        self.effect("remember backing files", |host| host.remember_backing_files(files))
    }
    fn dm_create(&self, device: &DmCreate) -> HostResult<DmInfo> {
        self.effect(format!("dm create {}", device.uuid), |host| host.dm_create(device))
    }
    fn dm_reload(&self, uuid: &str, table: &[TargetLine]) -> HostResult<()> {
        self.effect(format!("dm reload {uuid}"), |host| host.dm_reload(uuid, table))
    }
    fn dm_resume(&self, uuid: &str) -> HostResult<()> {
        self.effect(format!("dm resume {uuid}"), |host| host.dm_resume(uuid))
    }
    fn dm_link(&self, uuid: &str, link: &str) -> HostResult<()> {
        self.effect(format!("dm link {uuid} {link}"), |host| host.dm_link(uuid, link))
    }
    fn dm_remove(&self, uuid: &str) -> HostResult<()> {
        self.effect(format!("dm remove {uuid}"), |host| host.dm_remove(uuid))
    }
    fn dm_message(&self, uuid: &str, message: &str) -> HostResult<()> {
        self.effect(format!("dm message {message}"), |host| host.dm_message(uuid, message))
    }
    fn thin_snapshot(&self, snapshot: &ThinSnapshot) -> HostResult<()> {
        self.effect(snapshot.to_string(), |host| host.thin_snapshot(snapshot))
    }
    fn zero_device(&self, dev: DevNumber, offset: u64, len: u64) -> HostResult<()> {
        self.effect("zero device", |host| host.zero_device(dev, offset, len))
    }
    fn discard(&self, dev: DevNumber, dm_uuid: &str, offset: u64, len: u64) -> HostResult<()> {
        self.effect(format!("discard at {offset} len {len}"), |host| host.discard(dev, dm_uuid, offset, len))
    }
    fn wipe_slice(&self, dev: DevNumber, dm_uuid: &str, offset: u64, len: u64) -> HostResult<WipeMethod> {
        self.effect(format!("wipe at {offset} len {len}"), |host| host.wipe_slice(dev, dm_uuid, offset, len))
    }
    fn copy_slice(&self, from: &DmEnd, to: &DmEnd, offset: u64, len: u64) -> HostResult<()> {
        self.effect(format!("copy at {offset} len {len}"), |host| host.copy_slice(from, to, offset, len))
    }
    fn mkfs(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, fs_uuid: Uuid, options: &MkfsOptions) -> HostResult<()> {
        self.effect("mkfs", |host| host.mkfs(dev, dm_uuid, fs, fs_uuid, options))
    }
    fn fs_prepare_root(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, root: &RootDir) -> HostResult<()> {
        self.effect("prepare root", |host| host.fs_prepare_root(dev, dm_uuid, fs, root))
    }
    fn mount(&self, call: &MountCall) -> HostResult<()> {
        self.effect("mount", |host| host.mount(call))
    }
    fn bind(&self, call: &BindCall) -> HostResult<()> {
        self.effect("bind", |host| host.bind(call))
    }
    fn show_node(&self, call: &NodeCall) -> HostResult<()> {
        self.effect("show-node", |host| host.show_node(call))
    }
    fn unmount(&self, mount: &Mount) -> HostResult<()> {
        self.effect("unmount", |host| host.unmount(mount))
    }
    /// At its start, before all else: the numbers of effects are those of what it is asked for.
    fn make_directory(&self, dir: &Path, mode: u32) -> HostResult<()> {
        self.host.make_directory(dir, mode)
    }
    fn remove_mount_point(&self, path: &Path) -> HostResult<()> {
        self.effect("remove mount point", |host| host.remove_mount_point(path))
    }
    fn fs_grow(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, at: &Path) -> HostResult<()> {
        self.effect("grow file system", |host| host.fs_grow(dev, dm_uuid, fs, at))
    }
    fn fs_check(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, how: FsCheck) -> HostResult<FsVerdict> {
        self.effect("check file system", |host| host.fs_check(dev, dm_uuid, fs, how))
    }
    fn fs_trim(&self, dev: DevNumber, at: &Path) -> HostResult<Bytes> {
        self.effect("trim file system", |host| host.fs_trim(dev, at))
    }
    fn thin_clear_needs_check(&self, dev: DevNumber, dm_uuid: &str) -> HostResult<ThinVerdict> {
        self.effect("clear needs_check", |host| host.thin_clear_needs_check(dev, dm_uuid))
    }
    fn thin_repair(&self, from: (DevNumber, &str), to: (DevNumber, &str), known: &Known) -> HostResult<()> {
        self.effect("thin_repair", |host| host.thin_repair(from, to, known))
    }
}

/// What is only read is passed on.
impl<H: HostMut> HostRead for Dying<H> {
    fn now(&self) -> u64 {
        self.host.now()
    }
    fn uptime(&self) -> Duration {
        self.host.uptime()
    }
    fn boot_id(&self) -> HostResult<String> {
        self.host.boot_id()
    }
    fn dm_calls(&self) -> Vec<(&'static str, u64)> {
        self.host.dm_calls()
    }
    fn io_backend(&self) -> IoBackend {
        self.host.io_backend()
    }
    fn processors(&self) -> usize {
        self.host.processors()
    }
    fn pause(&self, time: Duration) {
        self.host.pause(time);
    }
    fn block_devices(&self) -> HostResult<Vec<PathBuf>> {
        self.host.block_devices()
    }
    fn device_names(&self) -> HostResult<BTreeSet<PathBuf>> {
        self.host.device_names()
    }
    fn disk_at(&self, node: &Path) -> HostResult<Option<DiskIdentity>> {
        self.host.disk_at(node)
    }
    fn disk_events(&self) -> HostResult<Arc<dyn DiskEvents>> {
        self.host.disk_events()
    }
    fn inspect(&self, path: &Path) -> HostResult<DiskInfo> {
        self.host.inspect(path)
    }
    fn open_read(&self, node: &Path) -> HostResult<Arc<dyn BlockRead>> {
        self.host.open_read(node)
    }
    fn probe(&self, dev: DevNumber) -> HostResult<Probe> {
        self.host.probe(dev)
    }
    fn dm_devices(&self) -> HostResult<Vec<DmInfo>> {
        self.host.dm_devices()
    }
    fn dm_uuids(&self) -> HostResult<Vec<String>> {
        self.host.dm_uuids()
    }
    fn dm_device(&self, uuid: &str) -> HostResult<Option<DmInfo>> {
        self.host.dm_device(uuid)
    }
    fn dm_status(&self, uuid: &str) -> HostResult<Option<(DmInfo, TargetStatus)>> {
        self.host.dm_status(uuid)
    }
    fn dm_table(&self, uuid: &str) -> HostResult<Vec<TargetLine>> {
        self.host.dm_table(uuid)
    }
    fn pool_status(&self, uuid: &str) -> HostResult<PoolStatus> {
        self.host.pool_status(uuid)
    }
    fn pool_contents(&self, metadata_uuid: &str, root: MetadataRoot) -> HostResult<PoolContents> {
        self.host.pool_contents(metadata_uuid, root)
    }
    fn pool_sharing(&self, call: &SharingCall<'_>) -> HostResult<PoolSharing> {
        self.host.pool_sharing(call)
    }
    fn pool_changes(&self, call: &ChangesCall<'_>) -> HostResult<ThinChanges> {
        self.host.pool_changes(call)
    }
    fn thin_status(&self, uuid: &str) -> HostResult<ThinStatus> {
        self.host.thin_status(uuid)
    }
    fn fs_state(&self, dev: DevNumber, fs: FsKind, at: Option<&Path>) -> HostResult<FsState> {
        self.host.fs_state(dev, fs, at)
    }
    fn thin_tools(&self) -> HostResult<()> {
        self.host.thin_tools()
    }
    fn thin_check(&self, dev: DevNumber, dm_uuid: &str) -> HostResult<ThinVerdict> {
        self.host.thin_check(dev, dm_uuid)
    }
    fn dm_targets(&self) -> HostResult<Vec<DmTarget>> {
        self.host.dm_targets()
    }
    fn fs_usage(&self, dev: DevNumber, at: &Path) -> HostResult<FsUsage> {
        self.host.fs_usage(dev, at)
    }
    fn mounts(&self) -> HostResult<Vec<Mount>> {
        self.host.mounts()
    }
    fn mount_events(&self) -> HostResult<Arc<dyn MountEvents>> {
        self.host.mount_events()
    }
    fn mounted_elsewhere(&self, devs: &BTreeSet<DevNumber>) -> HostResult<Vec<Elsewhere>> {
        self.host.mounted_elsewhere(devs)
    }
    fn holders(&self, dev: DevNumber) -> Vec<String> {
        self.host.holders(dev)
    }
    fn backing_files(&self) -> HostResult<Vec<PathBuf>> {
        self.host.backing_files()
    }
    fn loop_device_of(&self, file: &Path) -> HostResult<Option<PathBuf>> {
        self.host.loop_device_of(file)
    }
    fn path_exists(&self, path: &Path) -> HostResult<bool> {
        self.host.path_exists(path)
    }
    fn directories_in(&self, dir: &Path) -> HostResult<Vec<PathBuf>> {
        self.host.directories_in(dir)
    }
}
