//! Loop devices over image files (`loop(4)`, kernel `include/uapi/linux/loop.h`).

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use vol_engine::host::{HostError, HostErrorKind, HostResult};

use super::{Access, open};
use crate::error;
use crate::sysfs::SysDevice;

const LOOP_CLR_FD: libc::Ioctl = 0x4c01;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;
/// Linux 5.8.
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// How often another process may take the free device before we do.
const RACES_MAX: u32 = 64;
/// A device that is still open detaches when it is closed.
const DETACH_PATIENCE: Duration = Duration::from_secs(2);

/// `struct loop_info64`
#[derive(Clone, Copy)]
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    const ZERO: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// `struct loop_config`
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// The loop device over all of this file (by device and inode, so under any name).
pub(crate) fn device_of(file: &Path) -> HostResult<Option<PathBuf>> {
    let what = format!("find the loop device of {}", file.display());
    let metadata = std::fs::metadata(file).map_err(|e| error::io(&*what, &e))?;
    for device in SysDevice::all().map_err(|e| error::io(&*what, &e))? {
        if device.loop_file().is_none() {
            continue;
        }
        // One that is detached meanwhile is none.
        let Ok(node) = open(&device.node(), Access::Read, 0) else { continue };
        let Ok(info) = status(&node) else { continue };
        if info.device == metadata.dev() && info.inode == metadata.ino() && info.offset == 0 && info.size_limit == 0 {
            return Ok(Some(device.node()));
        }
    }
    Ok(None)
}

fn status(node: &File) -> Result<LoopInfo, Errno> {
    let mut info = LoopInfo::ZERO;
    // SAFETY: the kernel writes one `struct loop_info64`, which `LoopInfo` mirrors field by field.
    let result = unsafe { libc::ioctl(node.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
    Errno::result(result).map(|_| info)
}

pub(crate) fn attach(file: &Path) -> HostResult<PathBuf> {
    if let Some(node) = device_of(file)? {
        return Ok(node);
    }
    let what = format!("attach a loop device to {}", file.display());
    let metadata = std::fs::metadata(file).map_err(|e| error::io(&*what, &e))?;
    if !metadata.is_file() {
        return Err(error::invalid(what, "not a regular file"));
    }
    let backing = OpenOptions::new().read(true).write(true).open(file).map_err(|e| error::io(&*what, &e))?;
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(|e| error::io(format!("{what}: open /dev/loop-control"), &e))?;
    let mut flags = LO_FLAGS_DIRECT_IO;
    for _ in 0..RACES_MAX {
        // SAFETY: the command takes no argument.
        let number = Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })
            .map_err(|e| error::sys(&*what, e))?;
        let node = PathBuf::from(format!("/dev/loop{number}"));
        let device = open(&node, Access::ReadWrite, 0)?;
        match configure(&device, backing.as_raw_fd(), flags, file) {
            Ok(()) => return Ok(node),
            // Somebody else was quicker.
            Err(Errno::EBUSY) => {}
            // The file system cannot do direct I/O.
            Err(Errno::EINVAL) if flags != 0 => flags = 0,
            Err(e) => return Err(error::sys(what, e)),
        }
    }
    Err(HostError::new(HostErrorKind::Busy, what, "every free loop device was taken by somebody else"))
}

fn configure(device: &File, backing: RawFd, flags: u32, file: &Path) -> Result<(), Errno> {
    use std::os::unix::ffi::OsStrExt;
    let mut info = LoopInfo { flags, ..LoopInfo::ZERO };
    // For people only (`losetup`); cut off at 63 bytes.
    for (to, from) in info.file_name.iter_mut().take(63).zip(file.as_os_str().as_bytes()) {
        *to = *from;
    }
    let fd = u32::try_from(backing).map_err(|_| Errno::EBADF)?;
    // Sectors of 512 bytes, so that an image is the same device on every machine.
    let config = LoopConfig { fd, block_size: 512, info, reserved: [0; 8] };
    // SAFETY: the kernel reads one `struct loop_config`, which `LoopConfig` mirrors field by field.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    Errno::result(result).map(drop)
}

/// Detaches. A device that is in use stays until it is closed: `Busy` if that takes longer than two seconds.
pub(crate) fn detach(node: &Path) -> HostResult<()> {
    let what = format!("detach {}", node.display());
    let device = open(node, Access::Read, 0)?;
    let identity = super::identity(&what, &device)?;
    let sys = SysDevice::of(identity.dev).map_err(|e| error::io(&*what, &e))?;
    if sys.attribute("loop/backing_file").is_none() && !sys.name().starts_with("loop") {
        return Err(error::invalid(what, "not a loop device"));
    }
    // SAFETY: the command takes no argument.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD) }).map_err(|e| error::sys(&*what, e))?;
    drop(device);
    let end = Instant::now() + DETACH_PATIENCE;
    while sys.loop_file().is_some() {
        if Instant::now() >= end {
            return Err(HostError::new(HostErrorKind::Busy, what, "still open; it detaches when it is closed"));
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
