//! Block devices: what they are, who uses them, what is on them.

pub(crate) mod inspect;
pub(crate) mod loopdev;
pub(crate) mod probe;
pub(crate) mod wipe;

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use vol_core::observed::DiskIdentity;
use vol_engine::host::{HostError, HostErrorKind, HostResult};
use vol_types::Bytes;

use crate::sysfs::SysDevice;
use crate::{error, files};

/// How a device is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
    /// Nobody else may have it mounted, swapped to or mapped (`open(2)`, `O_EXCL` without `O_CREAT`).
    Exclusive,
}

/// Opens a block device. `Invalid` if something else is at the path: a named pipe there must not make us wait. `Denied` for
/// writing to a read-only one.
pub(crate) fn open(path: &Path, access: Access, flags: libc::c_int) -> HostResult<File> {
    let what = format!("open {}", path.display());
    match files::block_number(path) {
        // Some drivers refuse, others open it and fail each write (`block/fops.c`, `blkdev_write_iter`).
        Ok(Some(dev)) if access != Access::Read && SysDevice::of(dev).is_ok_and(|device| device.read_only()) => {
            return Err(HostError::new(HostErrorKind::Denied, what, "the device is read-only"));
        }
        Ok(Some(_)) => {}
        Ok(None) => return Err(error::invalid(what, "not a block device")),
        Err(e) => return Err(error::io(what, &e)),
    }
    let exclusive = if access == Access::Exclusive { libc::O_EXCL } else { 0 };
    OpenOptions::new()
        .read(true)
        .write(access != Access::Read)
        .custom_flags(flags | exclusive)
        .open(path)
        .map_err(|e| error::io(what, &e))
}

/// The identity of an open block device.
pub(crate) fn identity(what: &str, file: &File) -> HostResult<DiskIdentity> {
    let metadata = file.metadata().map_err(|e| error::io(what, &e))?;
    if !metadata.file_type().is_block_device() {
        return Err(error::invalid(what, "not a block device"));
    }
    let mut cursor = file;
    let size = cursor.seek(SeekFrom::End(0)).map_err(|e| error::io(what, &e))?;
    Ok(DiskIdentity { dev: files::dev_number(metadata.rdev()), diskseq: diskseq(file), size: Bytes(size) })
}

/// Opens and fails with `Changed` if it is not the `expected` device.
pub(crate) fn open_expected(
    path: &Path,
    access: Access,
    flags: libc::c_int,
    expected: &DiskIdentity,
) -> HostResult<File> {
    let what = format!("open {}", path.display());
    let file = open(path, access, flags)?;
    let found = identity(&what, &file)?;
    if found != *expected {
        return Err(error::changed(
            what,
            format!("another device took its place: found {found:?}, expected {expected:?}"),
        ));
    }
    Ok(file)
}

/// `BLKGETDISKSEQ`: `None` on kernels before 5.15.
fn diskseq(file: &File) -> Option<u64> {
    const GET: libc::Ioctl = nix::request_code_read!(0x12, 128, size_of::<u64>());
    let mut sequence = 0u64;
    // SAFETY: the kernel writes one 64-bit number to the pointer (`include/uapi/linux/fs.h`), which `sequence` is.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), GET, &raw mut sequence) };
    (result == 0).then_some(sequence)
}

/// `BLKRRPART`; what comes of it does not matter.
pub(crate) fn reread_partitions(path: &Path) {
    const REREAD: libc::Ioctl = nix::request_code_none!(0x12, 95);
    if let Ok(file) = open(path, Access::Read, 0) {
        // SAFETY: the command takes no argument.
        let _ = unsafe { libc::ioctl(file.as_raw_fd(), REREAD) };
    }
}

/// `include/uapi/linux/fs.h`.
const BLKDISCARD: libc::Ioctl = 0x1277;

/// Gives back the space of a range; both numbers multiples of the sector size.
pub(crate) fn discard(device: &File, offset: u64, len: u64) -> Result<(), Errno> {
    let range = [offset, len];
    // SAFETY: the kernel reads two u64 (`block/ioctl.c`, `blk_ioctl_discard`), which `range` holds for the length of the call.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), BLKDISCARD, range.as_ptr()) }).map(drop)
}
