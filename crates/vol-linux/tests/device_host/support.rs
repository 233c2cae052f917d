//! Loop devices, pools and volumes that are gone when a test ends, however it ends.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use uuid::Uuid;
use vol_core::dm::Device;
use vol_core::observed::{DevNumber, DmInfo, TargetLine};
use vol_engine::host::{DmCreate, HostErrorKind, HostMut, HostRead};
use vol_linux::{IoChoice, LinuxHost, LinuxOptions};
use vol_types::{Bytes, PoolId, Sectors, VolumeId};

/// Makes three tests of each claim: one for each path that the daemon's own I/O can take.
macro_rules! on_every_path {
    ($($claim:ident),* $(,)?) => {
        mod registered {
            $(#[test] fn $claim() { super::$claim(vol_linux::IoChoice::Uring) })*
        }
        mod unregistered {
            $(#[test] fn $claim() { super::$claim(vol_linux::IoChoice::Unregistered) })*
        }
        mod plain {
            $(#[test] fn $claim() { super::$claim(vol_linux::IoChoice::Plain) })*
        }
    };
}

/// One test's corner of the machine.
pub struct Bench {
    pub host: LinuxHost,
    dir: tempfile::TempDir,
    loops: Mutex<Vec<PathBuf>>,
    /// In the order they were made; taken down in reverse.
    maps: Mutex<Vec<String>>,
    mounts: Mutex<Vec<PathBuf>>,
}

/// This program as a guard: `resume_guard_process` below.
pub fn guard_command() -> Vec<OsString> {
    ["/proc/self/exe", "--ignored", "--exact", "support::resume_guard_process", "--nocapture"].map(Into::into).into()
}

#[test]
#[ignore = "the program of the guard, not a test"]
fn resume_guard_process() {
    std::process::exit(vol_linux::guard_main());
}

impl Bench {
    /// `None`, with the reason printed, where such tests cannot run.
    pub fn new() -> Option<Self> {
        Self::with(IoChoice::Auto, guard_command())
    }

    /// As [`Bench::new`], where device-mapper is needed as well.
    pub fn with_dm() -> Option<Self> {
        let bench = Self::new()?;
        match bench.host.dm_version() {
            Ok(_) => Some(bench),
            Err(e) => {
                println!("skipped: no device-mapper: {e}");
                None
            }
        }
    }

    pub fn with(io: IoChoice, guard_command: Vec<OsString>) -> Option<Self> {
        if std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) != 0) {
            println!("skipped: not root");
            return None;
        }
        if !Path::new("/dev/loop-control").exists() {
            println!("skipped: no loop devices");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let options = LinuxOptions {
            io,
            run_dir: dir.path().join("run"),
            state_dir: dir.path().join("state"),
            guard_command: Some(guard_command),
        };
        let host = match LinuxHost::new(options) {
            Ok(host) => host,
            Err(e) if e.kind == HostErrorKind::Unsupported => {
                println!("skipped: {e}");
                return None;
            }
            Err(e) => panic!("{e}"),
        };
        let backend = host.io_backend();
        if io == IoChoice::Uring && backend.reason.is_some() {
            println!("skipped: {backend:?}");
            return None;
        }
        Some(Self { host, dir, loops: Mutex::default(), maps: Mutex::default(), mounts: Mutex::default() })
    }

    /// The bench's own directory, without links in it.
    pub fn dir(&self) -> PathBuf {
        std::fs::canonicalize(self.dir.path()).unwrap()
    }

    /// A loop device over a new sparse file.
    pub fn disk(&self, size: Bytes) -> PathBuf {
        let file = self.dir().join(format!("disk{}.img", self.loops.lock().unwrap().len()));
        self.host.create_file(&file, size).unwrap();
        let node = self.host.attach_loop(&file).unwrap();
        self.loops.lock().unwrap().push(node.clone());
        node
    }

    /// As [`Bench::disk`], with sectors of this many bytes; `None`, with the reason printed, if that cannot be had.
    pub fn disk_with_sectors(&self, size: Bytes, sector: u32) -> Option<PathBuf> {
        let file = self.dir().join(format!("disk{}.img", self.loops.lock().unwrap().len()));
        self.host.create_file(&file, size).unwrap();
        let sector = sector.to_string();
        let arguments = ["--find", "--show", "--sector-size", &sector, file.to_str().unwrap()];
        match Command::new("losetup").args(arguments).output() {
            Ok(output) if output.status.success() => {
                let node = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
                self.loops.lock().unwrap().push(node.clone());
                Some(node)
            }
            other => {
                println!("skipped: losetup --sector-size {sector}: {other:?}");
                None
            }
        }
    }

    /// A linear map over all of a disk, and its node.
    pub fn over(&self, disk: &Path) -> (DmInfo, PathBuf) {
        let identity = self.host.open_read(disk).unwrap().identity().clone();
        let device = Device::Volume(VolumeId::from_uuid(Uuid::new_v4()));
        let info = self.map(device, vec![linear(0, sectors(identity.size), identity.dev, 0)], false);
        let node = PathBuf::from(format!("/dev/dm-{}", info.dev.minor));
        (info, node)
    }

    pub fn number(&self, node: &Path) -> DevNumber {
        self.host.open_read(node).unwrap().identity().dev
    }

    pub fn map(&self, device: Device, table: Vec<TargetLine>, read_only: bool) -> DmInfo {
        let create = DmCreate {
            name: device.name(),
            uuid: device.uuid(),
            table,
            read_only,
            private: device.is_private(),
            link: None,
        };
        let info = self.host.dm_create(&create).unwrap();
        self.maps.lock().unwrap().push(device.uuid());
        info
    }

    pub fn will_unmount(&self, target: &Path) {
        self.mounts.lock().unwrap().push(target.to_path_buf());
    }

    /// A pool of `size` on a new disk.
    pub fn pool(&self, size: Bytes) -> Pool<'_> {
        let metadata = Bytes::mib(8);
        let disk = self.disk(Bytes(size.get() + metadata.get()));
        let dev = self.number(&disk);
        let id = PoolId::from_uuid(Uuid::new_v4());
        let meta = self.map(Device::PoolMetadata(id), vec![linear(0, sectors(metadata), dev, 0)], false);
        let data = self.map(Device::PoolData(id), vec![linear(0, sectors(size), dev, sectors(metadata))], false);
        let table = TargetLine {
            start: Sectors(0),
            len: Sectors(sectors(size)),
            target: "thin-pool".into(),
            params: format!("{} {} 128 0 0", meta.dev, data.dev),
        };
        let info = self.map(Device::Pool(id), vec![table], false);
        Pool { bench: self, id, dev: info.dev, uuid: Device::Pool(id).uuid() }
    }
}

/// What was noted; also after a panic in a thread that was noting.
fn list<T>(of: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut of.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Where one is suspended, unmounting would wait for ever.
        let maps = list(&self.maps);
        for uuid in &maps {
            let _ = self.host.dm_resume(uuid);
        }
        for target in list(&self.mounts).iter().rev() {
            for mount in self.host.mounts().unwrap_or_default().iter().filter(|mount| mount.target == *target) {
                let _ = self.host.unmount(mount);
            }
        }
        for uuid in maps.iter().rev() {
            if let Err(e) = self.host.dm_remove(uuid)
                && !std::thread::panicking()
                && e.kind != HostErrorKind::NotFound
            {
                println!("left behind: {e}");
            }
        }
        for node in list(&self.loops) {
            let _ = self.host.detach_loop(&node);
        }
    }
}

pub struct Pool<'a> {
    bench: &'a Bench,
    pub id: PoolId,
    pub dev: DevNumber,
    pub uuid: String,
}

impl Pool<'_> {
    /// A new thin volume, active.
    pub fn volume(&self, thin_id: u32, size: Bytes) -> DmInfo {
        self.bench.host.dm_message(&self.uuid, &format!("create_thin {thin_id}")).unwrap();
        self.activate(thin_id, size, false)
    }

    pub fn activate(&self, thin_id: u32, size: Bytes, read_only: bool) -> DmInfo {
        let table = TargetLine {
            start: Sectors(0),
            len: Sectors(sectors(size)),
            target: "thin".into(),
            params: format!("{} {thin_id}", self.dev),
        };
        self.bench.map(Device::Volume(VolumeId::from_uuid(Uuid::new_v4())), vec![table], read_only)
    }
}

pub fn linear(start: u64, len: u64, dev: DevNumber, offset: u64) -> TargetLine {
    TargetLine { start: Sectors(start), len: Sectors(len), target: "linear".into(), params: format!("{dev} {offset}") }
}

pub fn sectors(bytes: Bytes) -> u64 {
    bytes.get() / 512
}

/// Polls until `done`, at most ten seconds.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program of the system; `false`, with the reason printed, if it is not there.
pub fn tool(program: &str, arguments: &[&str]) -> bool {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} {arguments:?}: {said}");
            true
        }
        Err(e) => {
            println!("skipped: {program}: {e}");
            false
        }
    }
}
