//! [`LinuxHost`]: the traits of the engine, put together from the modules of this crate.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;
use vol_core::dm::UUID_PREFIX;
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

use crate::disk::{self, Access, inspect, loopdev, probe, wipe};
use crate::dm::guard::Guards;
use crate::dm::{self, Dm, contents, window};
use crate::io::device::{self, Device};
use crate::io::{BlockIo, IoChoice, choose};
use crate::slice::Slices;
use crate::sysfs::SysDevice;
use crate::uevent::Uevents;
use crate::{error, files, fs, mount, mount_point, mountinfo, node_mount, proc, side_by_side, thin, tool};

/// How the real host is set up.
#[derive(Clone, Debug)]
pub struct LinuxOptions {
    pub io: IoChoice,
    /// For sockets and what need not survive a reboot.
    pub run_dir: PathBuf,
    /// The list of image files, and image files made without a path.
    pub state_dir: PathBuf,
    /// Program and arguments of the resume guard ([`crate::guard_main`]); `None`: this program with `resume-guard`.
    pub guard_command: Option<Vec<OsString>>,
}

impl Default for LinuxOptions {
    fn default() -> Self {
        Self {
            io: IoChoice::Auto,
            run_dir: PathBuf::from("/run/volumed"),
            state_dir: PathBuf::from("/var/lib/volumed"),
            guard_command: None,
        }
    }
}

/// The machine that we run on.
pub struct LinuxHost {
    options: LinuxOptions,
    dm: Dm,
    guards: Guards,
    io: Arc<dyn BlockIo>,
    slices: Slices,
    backend: IoBackend,
}

impl LinuxHost {
    /// Starts the I/O threads. A kernel without device-mapper is no error here, but one of each later call that needs it
    /// ([`LinuxHost::dm_version`] tells). `Unsupported` if io_uring was demanded and is refused.
    pub fn new(options: LinuxOptions) -> HostResult<Self> {
        let (io, backend) = choose(options.io)?;
        let guards = Guards::new(options.guard_command.clone());
        let slices = Slices::new(Arc::clone(&io));
        Ok(Self { options, dm: Dm::new(), guards, io, slices, backend })
    }

    /// Version of the kernel's device-mapper interface; `Unsupported` if there is none.
    pub fn dm_version(&self) -> HostResult<(u32, u32, u32)> {
        self.dm.version()
    }

    /// The directory for sockets and what need not survive a reboot.
    pub fn run_dir(&self) -> &Path {
        &self.options.run_dir
    }

    /// Fails with `Changed` unless the number is that of a dm device of ours.
    fn check_own(&self, what: &str, dev: DevNumber) -> HostResult<()> {
        let uuid = SysDevice::of(dev).map_err(|e| error::io(what, &e))?.dm_uuid().unwrap_or_default();
        if uuid.starts_with(UUID_PREFIX) {
            Ok(())
        } else {
            Err(error::changed(what, format!("{dev} is no dm device of ours")))
        }
    }

    fn check_number(what: &str, identity: &DiskIdentity, dev: DevNumber) -> HostResult<()> {
        if identity.dev == dev { Ok(()) } else { Err(error::changed(what, format!("the node is {}", identity.dev))) }
    }
}

impl HostRead for LinuxHost {
    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn uptime(&self) -> std::time::Duration {
        static BEGIN: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
        BEGIN.elapsed()
    }

    fn boot_id(&self) -> HostResult<String> {
        let path = "/proc/sys/kernel/random/boot_id";
        let id = std::fs::read_to_string(path).map_err(|e| error::io(format!("read {path}"), &e))?;
        Ok(id.trim().to_owned())
    }

    fn pause(&self, time: std::time::Duration) {
        std::thread::sleep(time);
    }

    fn side_by_side(&self, work: Vec<Box<dyn FnOnce() + Send + '_>>) {
        side_by_side::all(work);
    }

    fn io_backend(&self) -> IoBackend {
        self.backend.clone()
    }

    fn processors(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    fn dm_calls(&self) -> Vec<(&'static str, u64)> {
        crate::dm::raw::count::all()
    }

    fn block_devices(&self) -> HostResult<Vec<PathBuf>> {
        inspect::block_devices()
    }

    fn device_names(&self) -> HostResult<BTreeSet<PathBuf>> {
        crate::sysfs::nodes().map_err(|e| error::io("list /sys/class/block", &e))
    }

    fn disk_at(&self, node: &Path) -> HostResult<Option<DiskIdentity>> {
        inspect::disk_at(node)
    }

    fn disk_events(&self) -> HostResult<Arc<dyn DiskEvents>> {
        Ok(Arc::new(Uevents::open()?))
    }

    fn inspect(&self, path: &Path) -> HostResult<DiskInfo> {
        inspect::inspect(path)
    }

    fn open_read(&self, node: &Path) -> HostResult<Arc<dyn BlockRead>> {
        let device = Device::open(Arc::clone(&self.io), node, Access::Read, None)?;
        if SysDevice::of(device.identity().dev).is_ok_and(|device| device.suspended()) {
            let detail = "it is a suspended dm device: every read would wait";
            return Err(HostError::new(HostErrorKind::Busy, format!("open {}", node.display()), detail));
        }
        Ok(Arc::new(device))
    }

    fn probe(&self, dev: DevNumber) -> HostResult<Probe> {
        let what = format!("probe {}", dm::node(dev).display());
        let file = disk::open(&dm::node(dev), Access::Read, 0)?;
        Self::check_number(&what, &disk::identity(&what, &file)?, dev)?;
        self.check_own(&what, dev)?;
        probe::content(&what, &file)
    }

    fn dm_devices(&self) -> HostResult<Vec<DmInfo>> {
        self.dm.devices()
    }

    fn dm_uuids(&self) -> HostResult<Vec<String>> {
        self.dm.uuids()
    }

    fn dm_device(&self, uuid: &str) -> HostResult<Option<DmInfo>> {
        self.dm.device(uuid)
    }

    fn dm_status(&self, uuid: &str) -> HostResult<Option<(DmInfo, TargetStatus)>> {
        self.dm.status(uuid)
    }

    fn dm_table(&self, uuid: &str) -> HostResult<Vec<TargetLine>> {
        self.dm.table(uuid)
    }

    fn pool_status(&self, uuid: &str) -> HostResult<PoolStatus> {
        self.dm.pool_status(uuid)
    }

    fn thin_status(&self, uuid: &str) -> HostResult<ThinStatus> {
        self.dm.thin_status(uuid)
    }

    fn pool_contents(&self, metadata_uuid: &str, root: MetadataRoot) -> HostResult<PoolContents> {
        contents::read(&self.dm, &self.io, metadata_uuid, root)
    }

    fn fs_state(&self, dev: DevNumber, fs: FsKind, at: Option<&Path>) -> HostResult<FsState> {
        self.check_own(&format!("read the superblock of {dev}"), dev)?;
        fs::state(dev, fs, at)
    }

    fn pool_sharing(&self, call: &SharingCall<'_>) -> HostResult<PoolSharing> {
        contents::read_sharing(&self.dm, &self.io, call)
    }

    fn pool_changes(&self, call: &ChangesCall<'_>) -> HostResult<ThinChanges> {
        contents::read_changes(&self.dm, &self.io, call)
    }

    fn thin_tools(&self) -> HostResult<()> {
        thin::tools()
    }

    fn thin_check(&self, dev: DevNumber, dm_uuid: &str) -> HostResult<ThinVerdict> {
        thin::check(dev, dm_uuid, false)
    }

    fn dm_targets(&self) -> HostResult<Vec<DmTarget>> {
        self.dm.targets()
    }

    fn fs_usage(&self, dev: DevNumber, at: &Path) -> HostResult<FsUsage> {
        mount::usage(dev, at)
    }

    fn mounts(&self) -> HostResult<Vec<Mount>> {
        let lines = mountinfo::of_host().map_err(|e| error::io("read the mount table", &e))?;
        Ok(lines.into_iter().map(|line| line.mount).collect())
    }

    fn mount_events(&self) -> HostResult<Arc<dyn MountEvents>> {
        Ok(Arc::new(mount_point::MountTable::listen()?))
    }

    fn directories_in(&self, dir: &Path) -> HostResult<Vec<PathBuf>> {
        mount_point::directories_in(dir)
    }

    fn holders(&self, dev: DevNumber) -> Vec<String> {
        proc::holders(dev)
    }

    fn mounted_elsewhere(&self, devs: &BTreeSet<DevNumber>) -> HostResult<Vec<Elsewhere>> {
        proc::mounted_elsewhere(devs)
    }

    fn backing_files(&self) -> HostResult<Vec<PathBuf>> {
        files::backing_files(&self.options.state_dir)
    }

    fn loop_device_of(&self, file: &Path) -> HostResult<Option<PathBuf>> {
        loopdev::device_of(file)
    }

    fn path_exists(&self, path: &Path) -> HostResult<bool> {
        files::path_exists(path)
    }
}

impl HostMut for LinuxHost {
    fn new_uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn open_write(&self, node: &Path, expected: &DiskIdentity) -> HostResult<Arc<dyn BlockWrite>> {
        Ok(Arc::new(Device::open(Arc::clone(&self.io), node, Access::ReadWrite, Some(expected))?))
    }

    fn write_durable(&self, writes: &[DurableWrite<'_>]) -> Vec<HostResult<()>> {
        device::write_durable(&self.io, writes)
    }

    fn wipe_signatures(&self, node: &Path, identity: &DiskIdentity, expected: &[Signature]) -> HostResult<()> {
        wipe::wipe_signatures(node, identity, expected)
    }

    fn reread_partitions(&self, node: &Path) {
        disk::reread_partitions(node);
    }

    fn create_file(&self, path: &Path, size: Bytes) -> HostResult<()> {
        files::create_file(path, size)
    }

    fn delete_file(&self, path: &Path) -> HostResult<()> {
        files::delete_file(path)
    }

    fn attach_loop(&self, file: &Path) -> HostResult<PathBuf> {
        loopdev::attach(file)
    }

    fn detach_loop(&self, node: &Path) -> HostResult<()> {
        loopdev::detach(node)
    }

    fn remember_backing_files(&self, files: &[PathBuf]) -> HostResult<()> {
        files::remember_backing_files(&self.options.state_dir, files)
    }

    fn dm_create(&self, device: &DmCreate) -> HostResult<DmInfo> {
        self.dm.create(device)
    }

    fn dm_reload(&self, uuid: &str, table: &[TargetLine]) -> HostResult<()> {
        self.dm.reload(uuid, table)
    }

    fn dm_resume(&self, uuid: &str) -> HostResult<()> {
        self.dm.resume(uuid)
    }

    fn dm_link(&self, uuid: &str, link: &str) -> HostResult<()> {
        self.dm.link(uuid, link)
    }

    fn dm_remove(&self, uuid: &str) -> HostResult<()> {
        self.dm.remove(uuid)
    }

    fn dm_message(&self, uuid: &str, message: &str) -> HostResult<()> {
        self.dm.message(uuid, message)
    }

    fn thin_snapshot(&self, snapshot: &ThinSnapshot) -> HostResult<()> {
        window::snapshot(&self.dm, &self.guards, snapshot)
    }

    fn zero_device(&self, dev: DevNumber, offset: u64, len: u64) -> HostResult<()> {
        let node = dm::node(dev);
        let what = format!("zero {}", node.display());
        let device = Device::open(Arc::clone(&self.io), &node, Access::ReadWrite, None)?;
        Self::check_number(&what, device.identity(), dev)?;
        self.check_own(&what, dev)?;
        device.zero(offset, len)
    }

    fn discard(&self, dev: DevNumber, dm_uuid: &str, offset: u64, len: u64) -> HostResult<()> {
        let what = format!("discard {len} bytes at {offset} of {}", dm::node(dev).display());
        let device = tool::open_own(&what, dev, dm_uuid, Access::ReadWrite)?;
        disk::discard(&device, offset, len).map_err(|e| error::sys(what, e))
    }

    fn wipe_slice(&self, dev: DevNumber, dm_uuid: &str, offset: u64, len: u64) -> HostResult<WipeMethod> {
        self.slices.wipe(&DmEnd { dev, uuid: dm_uuid.to_owned() }, offset, len)
    }

    fn copy_slice(&self, from: &DmEnd, to: &DmEnd, offset: u64, len: u64) -> HostResult<()> {
        self.slices.copy(from, to, offset, len)
    }

    fn mkfs(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, fs_uuid: Uuid, options: &MkfsOptions) -> HostResult<()> {
        tool::mkfs(dev, dm_uuid, fs, fs_uuid, options)
    }

    fn fs_prepare_root(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, root: &RootDir) -> HostResult<()> {
        fs::prepare_root(dev, dm_uuid, fs, root)
    }

    fn mount(&self, call: &MountCall) -> HostResult<()> {
        mount::mount(call)
    }

    fn bind(&self, call: &BindCall) -> HostResult<()> {
        mount::bind(call)
    }

    fn show_node(&self, call: &NodeCall) -> HostResult<()> {
        node_mount::show(call)
    }

    fn unmount(&self, mount: &Mount) -> HostResult<()> {
        mount::unmount(mount)
    }

    fn make_directory(&self, dir: &Path, mode: u32) -> HostResult<()> {
        mount_point::make(dir, mode)
    }

    fn remove_mount_point(&self, path: &Path) -> HostResult<()> {
        mount_point::remove(path)
    }

    fn fs_grow(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, at: &Path) -> HostResult<()> {
        fs::grow(dev, dm_uuid, fs, at)
    }

    fn fs_check(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, how: FsCheck) -> HostResult<FsVerdict> {
        fs::check(dev, dm_uuid, fs, how)
    }

    fn fs_trim(&self, dev: DevNumber, at: &Path) -> HostResult<Bytes> {
        self.check_own(&format!("trim {}", at.display()), dev)?;
        fs::trim(dev, at)
    }

    fn thin_clear_needs_check(&self, dev: DevNumber, dm_uuid: &str) -> HostResult<ThinVerdict> {
        thin::check(dev, dm_uuid, true)
    }

    fn thin_repair(&self, from: (DevNumber, &str), to: (DevNumber, &str), known: &Known) -> HostResult<()> {
        thin::repair(from, to, known)
    }
}
