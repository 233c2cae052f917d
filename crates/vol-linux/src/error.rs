//! Error numbers as the engine's error kinds.

use std::fmt::Display;
use std::io;

use nix::errno::Errno;
use vol_engine::host::{HostError, HostErrorKind};

/// The kind of a failed system call that was no block I/O (`errno(3)`).
pub(crate) fn kind_of(errno: Errno) -> HostErrorKind {
    use HostErrorKind as K;
    match errno {
        Errno::ENOENT | Errno::ENXIO | Errno::ENODATA => K::NotFound,
        Errno::EBUSY | Errno::ETXTBSY => K::Busy,
        Errno::EEXIST => K::Exists,
        Errno::EPERM | Errno::EACCES | Errno::EROFS => K::Denied,
        Errno::ENOSPC | Errno::EDQUOT => K::NoSpace,
        Errno::EIO | Errno::ENODEV | Errno::EREMOTEIO | Errno::EILSEQ | Errno::ENOLINK | Errno::EBADMSG => K::Io,
        Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::ENOTTY => K::Unsupported,
        Errno::EINVAL
        | Errno::ENOTBLK
        | Errno::ENOTDIR
        | Errno::EISDIR
        | Errno::ELOOP
        | Errno::ENAMETOOLONG
        | Errno::E2BIG
        | Errno::EFBIG => K::Invalid,
        Errno::ETIMEDOUT => K::TimedOut,
        _ => K::Other,
    }
}

/// The kind of a failed read, write or flush of a block device: there the block layer uses `ENODATA` for a medium error,
/// `ENXIO` for a device that is gone, `ETIMEDOUT` for one that does not answer (`block/blk-core.c`, `blk_errors`).
pub(crate) fn block_kind_of(errno: Errno) -> HostErrorKind {
    match kind_of(errno) {
        HostErrorKind::NotFound | HostErrorKind::TimedOut | HostErrorKind::Exists => HostErrorKind::Io,
        kind => kind,
    }
}

fn text(errno: Errno) -> String {
    format!("{} ({errno:?})", errno.desc())
}

/// A failed system call.
pub(crate) fn sys(what: impl Into<String>, errno: Errno) -> HostError {
    HostError::new(kind_of(errno), what, text(errno))
}

/// A failed call of the standard library.
pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> HostError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => sys(what, errno),
        None => HostError::new(std_kind(error), what, error.to_string()),
    }
}

/// A failed call of rustix.
pub(crate) fn rustix(what: impl Into<String>, errno: rustix::io::Errno) -> HostError {
    sys(what, Errno::from_raw(errno.raw_os_error()))
}

/// A failed block I/O.
pub(crate) fn block(what: impl Into<String>, error: &io::Error) -> HostError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => HostError::new(block_kind_of(errno), what, text(errno)),
        None => HostError::new(std_kind(error), what, error.to_string()),
    }
}

fn std_kind(error: &io::Error) -> HostErrorKind {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => HostErrorKind::Io,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => HostErrorKind::Invalid,
        io::ErrorKind::TimedOut => HostErrorKind::TimedOut,
        io::ErrorKind::Unsupported => HostErrorKind::Unsupported,
        _ => HostErrorKind::Other,
    }
}

pub(crate) fn invalid(what: impl Into<String>, detail: impl Display) -> HostError {
    HostError::new(HostErrorKind::Invalid, what, detail.to_string())
}

pub(crate) fn changed(what: impl Into<String>, detail: impl Display) -> HostError {
    HostError::new(HostErrorKind::Changed, what, detail.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_thin_id_is_not_found_but_a_medium_error_is_io() {
        assert_eq!(sys("x", Errno::ENODATA).kind, HostErrorKind::NotFound);
        assert_eq!(block("x", &io::Error::from_raw_os_error(libc::ENODATA)).kind, HostErrorKind::Io);
        assert_eq!(block("x", &io::Error::from_raw_os_error(libc::ENXIO)).kind, HostErrorKind::Io);
    }

    #[test]
    fn the_kinds_that_the_engine_branches_on_are_told_apart() {
        for (errno, kind) in [
            (Errno::ENXIO, HostErrorKind::NotFound),
            (Errno::EEXIST, HostErrorKind::Exists),
            (Errno::EBUSY, HostErrorKind::Busy),
            (Errno::EIO, HostErrorKind::Io),
            (Errno::ENODEV, HostErrorKind::Io),
            (Errno::ENOSPC, HostErrorKind::NoSpace),
            (Errno::EPERM, HostErrorKind::Denied),
            (Errno::EOPNOTSUPP, HostErrorKind::Unsupported),
        ] {
            assert_eq!(kind_of(errno), kind, "{errno}");
        }
    }

    #[test]
    fn a_short_read_is_io() {
        assert_eq!(block("x", &io::Error::from(io::ErrorKind::UnexpectedEof)).kind, HostErrorKind::Io);
    }
}
