//! `mount_setattr(2)`, which neither `rustix` nor `nix` has.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes a mount that is nowhere yet one for reading only, it alone and not what it is a copy of. Linux 5.12.
pub(crate) fn make_read_only(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the descriptor is open for as long as it is borrowed, the path is a string with its end, and the kernel reads no more of the
    // structure than the size that it is told, which is its own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
