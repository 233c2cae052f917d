//! The bench over a real kernel: loop devices over files, dm-linear, dm-flakey and dm-error below a pool.

use std::any::Any;
use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use vol_core::observed::{DevNumber, DiskIdentity, DiskKind, DmInfo};
use vol_engine::host::{BlockWrite, DmCreate, HostErrorKind, HostMut, HostRead, HostResult};
use vol_linux::{IoChoice, LinuxHost, LinuxOptions};
use vol_types::Bytes;

use super::bench::{Bench, Frailty, Trouble, node, sectors};
use crate::{disk, kernel, skip, tool};

/// How long I/O that is expected to wait is given to prove otherwise.
const WAITS: Duration = Duration::from_secs(1);
/// How long other I/O may take, on a machine with much else to do.
const COMES_BACK: Duration = Duration::from_secs(30);
const PATIENCE: &str = "/sys/module/dm_thin_pool/parameters/no_space_timeout";

type Outcome = Result<u8, Trouble>;

/// One clause's corner of a real machine.
pub struct LinuxBench {
    host: Arc<LinuxHost>,
    dir: tempfile::TempDir,
    maps: RefCell<Vec<String>>,
    mounts: RefCell<Vec<PathBuf>>,
    loops: RefCell<Vec<PathBuf>>,
    frail: RefCell<Vec<Frail>>,
    unsound: RefCell<Vec<PathBuf>>,
    waiting: RefCell<Vec<Receiver<Outcome>>>,
    patience: RefCell<Option<String>>,
}

/// In the lab, whose guest ends with this program, udev is told once to leave all devices alone: its look at each of some
/// hundred takes most of the time otherwise.
fn udev_is_held() -> bool {
    static HELD: OnceLock<bool> = OnceLock::new();
    let hold = || Path::new("/dev/labdisk0").exists() && tool::try_run("udevadm", &["control", "--stop-exec-queue"]);
    *HELD.get_or_init(hold)
}

/// A dm device over a loop device, by its table sound or not.
struct Frail {
    name: String,
    node: PathBuf,
    below: PathBuf,
}

impl LinuxBench {
    /// `None`, and it is said why, where there is no device-mapper. `guard` is the program of the resume guard.
    pub fn new(guard: &[&str]) -> Option<Self> {
        if !kernel::has_device_mapper() {
            skip("/dev/mapper/control cannot be opened: no device-mapper here, or not root");
            return None;
        }
        if !Path::new("/dev/loop-control").exists() {
            skip("no loop devices");
            return None;
        }
        for module in ["dm-flakey", "dm-thin-pool"] {
            tool::try_run("modprobe", &[module]);
        }
        udev_is_held();
        let dir = tempfile::Builder::new().prefix("volumed-contract-").tempdir().unwrap();
        let options = LinuxOptions {
            io: IoChoice::Auto,
            run_dir: dir.path().join("run"),
            state_dir: dir.path().join("state"),
            guard_command: Some(guard.iter().map(Into::into).collect()),
        };
        Some(Self {
            host: Arc::new(LinuxHost::new(options).unwrap()),
            dir,
            maps: RefCell::default(),
            mounts: RefCell::default(),
            loops: RefCell::default(),
            frail: RefCell::default(),
            unsound: RefCell::default(),
            waiting: RefCell::default(),
            patience: RefCell::default(),
        })
    }

    /// Runs I/O in a thread, for it may never come back.
    fn io(&self, run: impl FnOnce(&LinuxHost) -> HostResult<u8> + Send + 'static) -> Outcome {
        let suspended = self.host.dm_devices().unwrap().iter().any(|device| device.suspended);
        let (host, (sender, receiver)) = (Arc::clone(&self.host), channel());
        std::thread::spawn(move || {
            let outcome = run(&host).map_err(|error| {
                println!("  {error}");
                Trouble::Failed(error.kind)
            });
            // Nobody may be listening any more.
            let _ = sender.send(outcome);
        });
        match receiver.recv_timeout(if suspended { WAITS } else { COMES_BACK }) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => {
                self.waiting.borrow_mut().push(receiver);
                Err(Trouble::Waits)
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the thread that did the I/O died"),
        }
    }

    fn frail_table(&self, disk: &Path, frailty: Frailty) -> (String, String) {
        let frail = self.frail.borrow();
        let Frail { name, below, .. } = frail.iter().find(|frail| frail.node == *disk).unwrap();
        let len = disk::size(below.to_str().unwrap()) / 512;
        let below = below.display();
        let table = match frailty {
            Frailty::Sound => format!("0 {len} linear {below} 0"),
            Frailty::Writes => format!("0 {len} flakey {below} 0 0 1 1 error_writes"),
            Frailty::All => format!("0 {len} error"),
        };
        (name.clone(), table)
    }

    fn backing_file(&self, disk: &Path) -> PathBuf {
        match self.host.inspect(disk).unwrap().kind {
            DiskKind::Loop { file } => file,
            other => panic!("{}: {other:?}", disk.display()),
        }
    }
}

fn write_to(host: &LinuxHost, node: &Path, offset: u64, bytes: &[u8], flush: bool) -> HostResult<u8> {
    let identity = identity(node);
    let device: Arc<dyn BlockWrite> = host.open_write(node, &identity)?;
    device.write_at(offset, bytes)?;
    if flush {
        device.flush()?;
    }
    Ok(0)
}

/// Without opening it, for the host opens no suspended device to read what it is: those who opened it before do I/O that waits.
fn identity(node: &Path) -> DiskIdentity {
    let number = fs::metadata(node).unwrap().rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let told = |what: &str| -> u64 {
        fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{what}")).unwrap().trim().parse().unwrap()
    };
    DiskIdentity {
        dev: DevNumber { major: major as u32, minor: minor as u32 },
        diskseq: Some(told("diskseq")),
        size: Bytes(told("size") * 512),
    }
}

fn read_from(host: &LinuxHost, node: &Path, offset: u64) -> HostResult<u8> {
    let bytes = match host.open_read(node) {
        Err(error) if error.kind == HostErrorKind::Busy => {
            host.open_write(node, &identity(node))?.read_at(offset, 4096)?
        }
        opened => opened?.read_at(offset, 4096)?,
    };
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn at {offset}");
    Ok(bytes[0])
}

impl Bench for LinuxBench {
    type Host = LinuxHost;

    fn host(&self) -> &LinuxHost {
        &self.host
    }
    fn dir(&self) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap()
    }
    fn fresh(&self, prefix: &str) -> String {
        // Of the whole process: what a clause that failed left behind is in nobody's way.
        static COUNT: AtomicU32 = AtomicU32::new(1);
        format!("{prefix}{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }
    fn note(&self, uuid: &str) {
        self.maps.borrow_mut().push(uuid.to_owned());
    }
    fn note_mount(&self, target: &Path) {
        self.mounts.borrow_mut().push(target.to_path_buf());
    }
    fn note_loop(&self, node: &Path) {
        self.loops.borrow_mut().push(node.to_path_buf());
    }
    fn quiet(&self) {
        if !udev_is_held() {
            tool::settle();
        }
    }

    fn frail_disk(&self, size: Bytes) -> PathBuf {
        let below = super::bench::disk(self, size);
        let name = format!("vt-contract-{}-{}", std::process::id(), self.fresh(""));
        let table = format!("0 {} linear {} 0", sectors(size), below.display());
        // Without udev: nobody else looks into these disks, and nobody is waited for.
        tool::run("dmsetup", &["create", &name, "--noudevsync", "--noudevrules", "--table", &table]);
        let minor = tool::run("dmsetup", &["info", "--columns", "--noheadings", "--options", "minor", &name]);
        let node = PathBuf::from(format!("/dev/dm-{}", minor.trim()));
        self.frail.borrow_mut().push(Frail { name, node: node.clone(), below });
        node
    }
    fn set_frailty(&self, disk: &Path, frailty: Frailty) {
        let (name, table) = self.frail_table(disk, frailty);
        tool::run("dmsetup", &["reload", &name, "--table", &table]);
        tool::run("dmsetup", &["suspend", &name]);
        tool::run("dmsetup", &["resume", &name, "--noudevsync", "--noudevrules"]);
        let mut unsound = self.unsound.borrow_mut();
        unsound.retain(|other| other != disk);
        if frailty != Frailty::Sound {
            unsound.push(disk.to_path_buf());
        }
    }
    fn writes_of(&self, disk: &Path) -> u64 {
        let name = disk::kernel_name(disk.to_str().unwrap());
        let stat = fs::read_to_string(format!("/sys/class/block/{name}/stat")).unwrap();
        // The fifth field: writes completed (kernel `Documentation/block/stat.rst`).
        stat.split_whitespace().nth(4).unwrap().parse().unwrap()
    }

    fn set_read_only(&self, disk: &Path, read_only: bool) {
        let option = if read_only { "--setro" } else { "--setrw" };
        tool::run("blockdev", &[option, disk.to_str().unwrap()]);
    }
    fn resize(&self, disk: &Path, size: Bytes) {
        let file = File::options().write(true).open(self.backing_file(disk)).unwrap();
        file.set_len(size.get()).unwrap();
        tool::run("losetup", &["--set-capacity", disk.to_str().unwrap()]);
    }
    fn clone_disk(&self, disk: &Path) -> PathBuf {
        let copy = self.dir().join(self.fresh("clone"));
        fs::copy(self.backing_file(disk), &copy).unwrap();
        let node = self.host.attach_loop(&copy).unwrap();
        self.note_loop(&node);
        node
    }
    fn make_ext4(&self, disk: &Path) {
        tool::run("mkfs.ext4", &["-q", "-F", disk.to_str().unwrap()]);
        self.quiet();
    }
    fn drop_caches(&self, _disk: &Path) {
        tool::run("sync", &[]);
        fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    }

    fn write(&self, dm: &DmInfo, offset: u64, len: u64, byte: u8) -> Result<(), Trouble> {
        let node = node(dm);
        self.io(move |host| write_to(host, &node, offset, &vec![byte; len as usize], true)).map(drop)
    }
    fn write_unflushed(&self, dm: &DmInfo, offset: u64) {
        write_to(&self.host, &node(dm), offset, &[1; 4096], false).unwrap();
    }
    fn read(&self, dm: &DmInfo, offset: u64) -> Result<u8, Trouble> {
        let node = node(dm);
        self.io(move |host| read_from(host, &node, offset))
    }
    fn settled(&self) -> Vec<Result<(), Trouble>> {
        let answer = |receiver: Receiver<Outcome>| match receiver.recv_timeout(COMES_BACK) {
            Ok(outcome) => outcome.map(drop),
            Err(_) => Err(Trouble::Waits),
        };
        self.waiting.take().into_iter().map(answer).collect()
    }
    fn short_patience(&self) {
        let before = fs::read_to_string(PATIENCE).unwrap();
        self.patience.borrow_mut().get_or_insert(before);
        fs::write(PATIENCE, "1").unwrap();
    }

    fn suspend(&self, uuid: &str) {
        tool::run("dmsetup", &["suspend", "--uuid", uuid]);
    }
    fn half_made(&self, device: &DmCreate, loaded: bool) {
        self.note(&device.uuid);
        tool::run("dmsetup", &["create", &device.name, "--notable", "--noudevsync", "--uuid", &device.uuid]);
        if loaded {
            let line = &device.table[0];
            let table = format!("{} {} {} {}", line.start, line.len, line.target, line.params);
            tool::run("dmsetup", &["load", &device.name, "--table", &table]);
        }
    }
    fn hold_device(&self, dm: &DmInfo) -> Box<dyn Any> {
        Box::new(File::open(node(dm)).unwrap())
    }
    fn hold_mount(&self, target: &Path) -> Box<dyn Any> {
        Box::new(File::open(target).unwrap())
    }
    fn put_file(&self, target: &Path, name: &str, text: &str) {
        fs::write(target.join(name), text).unwrap();
        File::open(target.join(name)).unwrap().sync_all().unwrap();
    }
    fn get_file(&self, target: &Path, name: &str) -> Option<String> {
        fs::read_to_string(target.join(name)).ok()
    }
    fn symlink(&self) -> PathBuf {
        let (to, link) = (self.dir().join(self.fresh("to")), self.dir().join(self.fresh("link")));
        fs::create_dir(&to).unwrap();
        std::os::unix::fs::symlink(&to, &link).unwrap();
        link
    }
}

impl Drop for LinuxBench {
    fn drop(&mut self) {
        if let Some(before) = self.patience.get_mut().take() {
            let _ = fs::write(PATIENCE, before.trim());
        }
        let maps = self.maps.take();
        // Below first: what stands on a suspended or failing device would wait or fail.
        for disk in self.unsound.take() {
            self.set_frailty(&disk, Frailty::Sound);
        }
        for uuid in &maps {
            let suspended = self.host.dm_device(uuid).is_ok_and(|found| found.is_some_and(|info| info.suspended));
            if suspended {
                let _ = self.host.dm_resume(uuid);
            }
        }
        self.settled();
        for target in self.mounts.take().iter().rev() {
            let mounts = self.host.mounts().unwrap_or_default();
            for mount in mounts.iter().rev().filter(|mount| mount.target == *target) {
                let _ = self.host.unmount(mount);
            }
        }
        for uuid in maps.iter().rev() {
            if self.host.dm_device(uuid).is_ok_and(|found| found.is_some())
                && let Err(error) = self.host.dm_remove(uuid)
            {
                println!("left behind: {error}");
            }
        }
        for Frail { name, .. } in self.frail.take() {
            tool::try_run("dmsetup", &["remove", "--retry", "--noudevsync", "--noudevrules", &name]);
        }
        for node in self.loops.take() {
            // A number is given out again with its write protection.
            if self.host.inspect(&node).is_ok_and(|info| info.read_only) {
                self.set_read_only(&node, false);
            }
            let _ = self.host.detach_loop(&node);
        }
    }
}
