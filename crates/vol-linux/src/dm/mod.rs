//! Device-mapper: the low-level calls of the `devicemapper` crate where they are plain ioctls, raw ioctls where its
//! wrappers wait for udev or retry on their own.

pub(crate) mod contents;
pub(crate) mod guard;
mod links;
mod list;
pub(crate) mod raw;
pub(crate) mod status;
pub(crate) mod window;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use devicemapper::{DM, DevId, DeviceInfo, DmError, DmFlags, DmName, DmOptions, DmUuid, errors::Error as CoreError};
use nix::errno::Errno;
use vol_core::dm::UUID_PREFIX;
use vol_core::observed::{DevNumber, DmInfo, PoolStatus, TargetLine, TargetStatus, ThinStatus};
use vol_engine::host::{DmCreate, HostError, HostErrorKind, HostResult};
use vol_types::Sectors;

use crate::error;
use links::Links;
use raw::{Command, Request, SignalsBlocked, count};

/// How long a removal waits for udev to close the device.
const REMOVE_PATIENCE: Duration = Duration::from_secs(2);
const REMOVE_STEP: Duration = Duration::from_millis(20);
/// How long the node of a new device may take to appear.
const NODE_PATIENCE: Duration = Duration::from_secs(2);
/// `DM_MAX_TYPE_NAME` less the terminating zero; the crate panics on more.
const TARGET_NAME_MAX: usize = 15;
/// Target types that we ask the kernel to load before listing what it has.
const TARGETS: [&str; 5] = ["linear", "striped", "thin-pool", "thin", "error"];
/// Flags of a table swap: what is queued is pushed back and sent again through the new table, and file systems are not frozen.
/// A pool that waits for space would otherwise never finish the suspend that is to give it some.
const SWAP_FLAGS: u32 = devicemapper_sys::DM_NOFLUSH_FLAG | devicemapper_sys::DM_SKIP_LOCKFS_FLAG;

/// Major, minor, patch level.
type Version = (u32, u32, u32);

/// The door to device-mapper. Opened at the first use, so that the daemon starts on a machine without it.
pub(crate) struct Dm {
    open: Mutex<Option<Arc<DM>>>,
    links: Links,
}

/// Node of a dm device; devtmpfs makes it.
pub(crate) fn node(dev: DevNumber) -> PathBuf {
    PathBuf::from(format!("/dev/dm-{}", dev.minor))
}

impl Dm {
    pub(crate) fn new() -> Self {
        Self { open: Mutex::new(None), links: Links::new() }
    }

    /// `Unsupported` if the kernel has no device-mapper.
    pub(crate) fn control(&self) -> HostResult<Arc<DM>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dm) = &*open {
            return Ok(Arc::clone(dm));
        }
        let dm = DM::new().map(Arc::new).map_err(|e| {
            let (kind, detail) = match std::fs::File::open("/dev/mapper/control") {
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => (HostErrorKind::Denied, e.to_string()),
                Err(e) => (HostErrorKind::Unsupported, format!("{e}; is the kernel module dm_mod loaded?")),
                Ok(_) => (HostErrorKind::Other, e.to_string()),
            };
            HostError::new(kind, "open /dev/mapper/control", detail)
        })?;
        *open = Some(Arc::clone(&dm));
        Ok(dm)
    }

    /// Version of the kernel's dm interface.
    pub(crate) fn version(&self) -> HostResult<Version> {
        count::one(&count::VERSION);
        self.control()?.version().map_err(|e| dm_error("read the device-mapper version", &e))
    }

    pub(crate) fn targets(&self) -> HostResult<Vec<(String, Version)>> {
        let dm = self.control()?;
        for target in TARGETS {
            if let Some(request) = Request::target_version(target) {
                // Loads the module. Kernels before 5.4 do not know the command; what is loaded is listed all the same.
                let _ = raw::call(dm.file().as_fd(), Command::TargetVersion, &request);
            }
        }
        count::one(&count::LIST_VERSIONS);
        let versions = dm.list_versions().map_err(|e| dm_error("list the device-mapper targets", &e))?;
        Ok(versions.into_iter().map(|(name, major, minor, patch)| (name, (major, minor, patch))).collect())
    }

    pub(crate) fn devices(&self) -> HostResult<Vec<DmInfo>> {
        let mut devices = Vec::new();
        for uuid in self.uuids()? {
            // `None`: removed since it was listed.
            devices.extend(self.device(&uuid)?);
        }
        Ok(devices)
    }

    /// The uuids of all devices of ours. The table of a foreign device is never asked for: there may be a key in it.
    pub(crate) fn uuids(&self) -> HostResult<Vec<String>> {
        let what = "list the device-mapper devices";
        let dm = self.control()?;
        let listed = list::all(dm.file().as_fd(), UUID_PREFIX).map_err(|e| error::sys(what, e))?;
        let mut uuids = Vec::with_capacity(listed.len());
        for list::Listed { name, uuid } in listed {
            let uuid = match uuid {
                list::Uuid::Is(uuid) => Some(uuid),
                list::Uuid::None => None,
                list::Uuid::Untold => {
                    count::one(&count::DEV_STATUS);
                    let of = DmName::new(&name).map_err(|e| error::invalid(what, e))?;
                    match dm.device_info(&DevId::Name(of)) {
                        Ok(info) => info.uuid().map(ToString::to_string),
                        // Removed or renamed since it was listed.
                        Err(e) if errno_of(&e) == Some(Errno::ENXIO) => None,
                        Err(e) => return Err(dm_error(format!("look at dm device {name}"), &e)),
                    }
                }
            };
            uuids.extend(uuid.filter(|uuid| uuid.starts_with(UUID_PREFIX)));
        }
        Ok(uuids)
    }

    /// One ioctl: with its table the kernel tells what a device is, and how long. (The table as it was loaded: no target is asked for
    /// more, whatever state it is in; `dm-thin.c`, `pool_status` and `thin_status`.)
    pub(crate) fn device(&self, uuid: &str) -> HostResult<Option<DmInfo>> {
        if !uuid.starts_with(UUID_PREFIX) {
            return Ok(None);
        }
        Ok(self.look(uuid, DmFlags::DM_STATUS_TABLE | DmFlags::DM_NOFLUSH)?.map(|(info, _)| info))
    }

    /// As [`Dm::device`], with what a pool or a thin volume says of itself.
    pub(crate) fn status(&self, uuid: &str) -> HostResult<Option<(DmInfo, TargetStatus)>> {
        let Some((info, lines)) = self.look(uuid, DmFlags::DM_NOFLUSH)? else { return Ok(None) };
        let status = match lines.as_slice() {
            [line] if line.target == "thin-pool" => {
                TargetStatus::Pool(status::parse_pool(&line.params).ok_or_else(|| strange_status(uuid, &line.params))?)
            }
            [line] if line.target == "thin" => {
                TargetStatus::Thin(status::parse_thin(&line.params).ok_or_else(|| strange_status(uuid, &line.params))?)
            }
            _ => TargetStatus::None,
        };
        Ok(Some((info, status)))
    }

    /// A device and its targets' lines; `None` if there is no such device.
    fn look(&self, uuid: &str, flags: DmFlags) -> HostResult<Option<(DmInfo, Vec<TargetLine>)>> {
        let options = DmOptions::default().set_flags(flags);
        count::one(&count::TABLE_STATUS);
        match self.control()?.table_status(&DevId::Uuid(dm_uuid(uuid)?), options) {
            Ok((info, lines)) => {
                let lines: Vec<_> = lines.into_iter().map(target_line).collect();
                let end = lines.iter().map(|line| line.start.get().saturating_add(line.len.get())).max();
                Ok(Some((described(uuid, &info, Sectors(end.unwrap_or(0))), lines)))
            }
            Err(e) if errno_of(&e) == Some(Errno::ENXIO) => Ok(None),
            Err(e) => Err(dm_error(format!("look at dm device {uuid}"), &e)),
        }
    }

    /// As [`Dm::device`], but `NotFound` if there is none.
    fn present(&self, uuid: &str) -> HostResult<DmInfo> {
        self.device(uuid)?.ok_or_else(|| {
            HostError::new(HostErrorKind::NotFound, format!("look at dm device {uuid}"), "no such device")
        })
    }

    pub(crate) fn table(&self, uuid: &str) -> HostResult<Vec<TargetLine>> {
        self.lines(uuid, DmFlags::DM_STATUS_TABLE | DmFlags::DM_NOFLUSH)
    }

    fn lines(&self, uuid: &str, flags: DmFlags) -> HostResult<Vec<TargetLine>> {
        let found = self.look(uuid, flags)?.map(|(_, lines)| lines);
        found.ok_or_else(|| {
            HostError::new(HostErrorKind::NotFound, format!("read the table of dm device {uuid}"), "no such device")
        })
    }

    /// The one status line of a device with one target of this type.
    fn status_line(&self, uuid: &str, target: &str) -> HostResult<String> {
        let mut lines = self.lines(uuid, DmFlags::DM_NOFLUSH)?.into_iter();
        match (lines.next(), lines.next()) {
            (Some(line), None) if line.target == target => Ok(line.params),
            (None, _) => Err(error::invalid(format!("read the status of dm device {uuid}"), "it has no live table")),
            _ => {
                Err(error::invalid(format!("read the status of dm device {uuid}"), format!("it is no {target} device")))
            }
        }
    }

    pub(crate) fn pool_status(&self, uuid: &str) -> HostResult<PoolStatus> {
        let line = self.status_line(uuid, "thin-pool")?;
        status::parse_pool(&line).ok_or_else(|| strange_status(uuid, &line))
    }

    pub(crate) fn thin_status(&self, uuid: &str) -> HostResult<ThinStatus> {
        let line = self.status_line(uuid, "thin")?;
        status::parse_thin(&line).ok_or_else(|| strange_status(uuid, &line))
    }

    pub(crate) fn create(&self, device: &DmCreate) -> HostResult<DmInfo> {
        let what = format!("create dm device {}", device.name);
        if !device.uuid.starts_with(UUID_PREFIX) {
            return Err(error::invalid(what, format!("the uuid does not begin with {UUID_PREFIX}")));
        }
        let name = DmName::new(&device.name).map_err(|e| error::invalid(&*what, e))?;
        let uuid = dm_uuid(&device.uuid)?;
        let table = lines_for_kernel(&what, &device.table)?;
        let dm = self.control()?;
        let cookie = raw::udev_cookie(device.private, device.read_only);
        let _signals = SignalsBlocked::new();
        count::one(&count::DEV_CREATE);
        dm.device_create(name, Some(uuid), DmOptions::default()).map_err(|e| match errno_of(&e) {
            Some(Errno::EBUSY | Errno::EEXIST) => {
                HostError::new(HostErrorKind::Exists, &*what, "a dm device has this name or uuid")
            }
            _ => dm_error(&*what, &e),
        })?;
        let made = self
            .load(&what, uuid, &table, device.read_only)
            // udev looks when the device is resumed.
            .map(|()| self.name_link(device))
            .and_then(|()| self.resume_with(&device.uuid, cookie, 0))
            .and_then(|()| self.present(&device.uuid))
            .and_then(|info| wait_for_node(&what, info.dev).map(|()| info));
        made.map_err(|mut error| {
            if let Err(left) = self.remove_with(&device.uuid, cookie) {
                error.detail = format!("{}; and it could not be removed again: {}", error.detail, left.detail);
            }
            error
        })
    }

    fn name_link(&self, device: &DmCreate) {
        let Some(link) = &device.link else { return };
        if let Err(error) = self.links.set(&device.uuid, link) {
            tracing::warn!(device = device.name, link, %error, "there will be no link to it in /dev/volumed");
        }
    }

    /// See [`vol_engine::host::HostMut::dm_link`].
    pub(crate) fn link(&self, uuid: &str, link: &str) -> HostResult<()> {
        if self.links.of(uuid).as_deref() == Some(link) {
            return Ok(());
        }
        let what = format!("link /dev/volumed/{link} to dm device {uuid}");
        let dev = self.present(uuid)?.dev;
        // udev looks again at what changed, whoever says so.
        let tell = || std::fs::write(format!("/sys/dev/block/{dev}/uevent"), "change");
        self.links.set_and_tell(uuid, link, tell).map_err(|e| error::io(what, &e))
    }

    fn load(&self, what: &str, uuid: &DmUuid, table: &[KernelLine], read_only: bool) -> HostResult<()> {
        let flags = if read_only { DmFlags::DM_READONLY } else { DmFlags::empty() };
        let options = DmOptions::default().set_flags(flags);
        count::one(&count::TABLE_LOAD);
        self.control()?.table_load(&DevId::Uuid(uuid), table, options).map(drop).map_err(|e| {
            let mut error = dm_error(format!("{what}: load its table"), &e);
            // The device is there: what was not found is one below it.
            if error.kind == HostErrorKind::NotFound {
                error.kind = HostErrorKind::Io;
            }
            error.detail.push_str("; the kernel's log says more");
            error
        })
    }

    pub(crate) fn reload(&self, uuid: &str, table: &[TargetLine]) -> HostResult<()> {
        let what = format!("change the table of dm device {uuid}");
        let table = lines_for_kernel(&what, table)?;
        let info = self.present(uuid)?;
        let before = lines_for_kernel_or_none(&what, &self.table(uuid)?)?;
        let cookie = raw::udev_cookie(raw::is_private(uuid), info.read_only);
        let _signals = SignalsBlocked::new();
        self.load(&what, dm_uuid(uuid)?, &table, info.read_only)?;
        self.resume_with(uuid, cookie, SWAP_FLAGS).map_err(|mut error| {
            // Either the suspend failed, and the old table is live. Or the target's `preresume` did (a pool that would shrink):
            // then the new table is the live one of a device that stays suspended, for every later resume fails as this one
            // did (`dm-ioctl.c`, `do_resume`: swap, then resume). Loading the old table anew ends both.
            let restored = match &before {
                Some(before) => dm_uuid(uuid)
                    .and_then(|name| self.load(&what, name, before, info.read_only))
                    .and_then(|()| self.resume_with(uuid, cookie, SWAP_FLAGS)),
                None => self.control().and_then(|dm| {
                    count::one(&count::TABLE_CLEAR);
                    let cleared = dm.table_clear(&DevId::Uuid(dm_uuid(uuid)?));
                    cleared.map(drop).map_err(|e| dm_error("clear the inactive table", &e))
                }),
            };
            if let Err(left) = restored {
                error.detail = format!("{}; and the old table could not be restored: {}", error.detail, left.detail);
            }
            error
        })
    }

    pub(crate) fn resume(&self, uuid: &str) -> HostResult<()> {
        let info = self.present(uuid)?;
        let _signals = SignalsBlocked::new();
        self.resume_with(uuid, raw::udev_cookie(raw::is_private(uuid), info.read_only), 0)
    }

    fn resume_with(&self, uuid: &str, cookie: u32, flags: u32) -> HostResult<()> {
        let what = || format!("resume dm device {uuid}");
        let request = Request::<0>::new(uuid).ok_or_else(|| bad_uuid(uuid))?.cookie(cookie).flags(flags);
        raw::call(self.control()?.file().as_fd(), Command::Suspend, &request)
            .map(drop)
            .map_err(|e| error::sys(what(), e))
    }

    pub(crate) fn remove(&self, uuid: &str) -> HostResult<()> {
        let info = self.present(uuid)?;
        self.remove_with(uuid, raw::udev_cookie(raw::is_private(uuid), info.read_only))
    }

    fn remove_with(&self, uuid: &str, cookie: u32) -> HostResult<()> {
        let dm = self.control()?;
        let request = Request::<0>::new(uuid).ok_or_else(|| bad_uuid(uuid))?.cookie(cookie);
        let _signals = SignalsBlocked::new();
        let end = Instant::now() + REMOVE_PATIENCE;
        loop {
            match raw::call(dm.file().as_fd(), Command::Remove, &request) {
                Ok(_) => {
                    if !raw::is_private(uuid) {
                        self.links.forget(uuid);
                    }
                    return Ok(());
                }
                Err(Errno::EBUSY) if Instant::now() < end => sleep(REMOVE_STEP),
                Err(e) => return Err(error::sys(format!("remove dm device {uuid}"), e)),
            }
        }
    }

    pub(crate) fn message(&self, uuid: &str, message: &str) -> HostResult<()> {
        let what = || format!("send {message:?} to dm device {uuid}");
        let request = Request::message(uuid, message)
            .ok_or_else(|| error::invalid(what(), "the kernel takes no such message"))?;
        let dm = self.control()?;
        let _signals = SignalsBlocked::new();
        // A missing device and a missing thin id are both `NotFound`; the text tells them apart (`ENXIO`, `ENODATA`).
        raw::call(dm.file().as_fd(), Command::Message, &request).map(drop).map_err(|e| error::sys(what(), e))
    }
}

fn target_line((start, len, target, params): KernelLine) -> TargetLine {
    TargetLine { start: Sectors(start), len: Sectors(len), target, params: params.trim().to_owned() }
}

type KernelLine = (u64, u64, String, String);

fn lines_for_kernel(what: &str, table: &[TargetLine]) -> HostResult<Vec<KernelLine>> {
    if table.is_empty() {
        return Err(error::invalid(what, "the table is empty"));
    }
    let line = |line: &TargetLine| {
        let name_ok = !line.target.is_empty() && line.target.len() <= TARGET_NAME_MAX && line.target.is_ascii();
        if !name_ok || line.params.bytes().any(|b| b == 0) || line.target.bytes().any(|b| b == 0) {
            return Err(error::invalid(what, format!("no target line: {:?} {:?}", line.target, line.params)));
        }
        Ok((line.start.get(), line.len.get(), line.target.clone(), line.params.clone()))
    };
    table.iter().map(line).collect()
}

/// `None` for a device without a live table.
fn lines_for_kernel_or_none(what: &str, table: &[TargetLine]) -> HostResult<Option<Vec<KernelLine>>> {
    if table.is_empty() { Ok(None) } else { lines_for_kernel(what, table).map(Some) }
}

fn wait_for_node(what: &str, dev: DevNumber) -> HostResult<()> {
    let node = node(dev);
    let end = Instant::now() + NODE_PATIENCE;
    loop {
        match crate::files::block_number(&node) {
            Ok(Some(found)) if found == dev => return Ok(()),
            _ if Instant::now() < end => sleep(Duration::from_millis(5)),
            Ok(_) | Err(_) => {
                return Err(HostError::new(
                    HostErrorKind::TimedOut,
                    what,
                    format!("{} did not appear; is devtmpfs mounted on /dev?", node.display()),
                ));
            }
        }
    }
}

fn described(uuid: &str, info: &DeviceInfo, len: Sectors) -> DmInfo {
    let flags = info.flags();
    DmInfo {
        name: info.name().map(ToString::to_string).unwrap_or_default(),
        uuid: uuid.to_owned(),
        dev: DevNumber { major: info.device().major, minor: info.device().minor },
        open_count: u32::try_from(info.open_count()).unwrap_or(0),
        suspended: flags.contains(DmFlags::DM_SUSPEND),
        live_table: flags.contains(DmFlags::DM_ACTIVE_PRESENT),
        inactive_table: flags.contains(DmFlags::DM_INACTIVE_PRESENT),
        read_only: flags.contains(DmFlags::DM_READONLY),
        len,
    }
}

fn dm_uuid(uuid: &str) -> HostResult<&DmUuid> {
    DmUuid::new(uuid).map_err(|_| bad_uuid(uuid))
}

fn bad_uuid(uuid: &str) -> HostError {
    error::invalid("name a dm device", format!("{uuid:?} can be no dm uuid"))
}

fn strange_status(uuid: &str, line: &str) -> HostError {
    HostError::new(
        HostErrorKind::Other,
        format!("read the status of dm device {uuid}"),
        format!("not understood: {line:?}"),
    )
}

fn errno_of(error: &DmError) -> Option<Errno> {
    match error {
        DmError::Core(CoreError::Ioctl(_, _, _, errno)) => Some(**errno),
        _ => None,
    }
}

/// The crate's own text shows whole headers; ours names the operation and the error number.
fn dm_error(what: impl Into<String>, error: &DmError) -> HostError {
    match errno_of(error) {
        Some(errno) => error::sys(what, errno),
        None => HostError::new(HostErrorKind::Other, what, error.to_string()),
    }
}
