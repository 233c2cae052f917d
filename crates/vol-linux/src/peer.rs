//! Who is at the other end of a Unix socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// More supplementary groups than the kernel allows a process (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// The supplementary groups of the peer of a connected Unix stream socket, as they were when it connected
/// (`SO_PEERGROUPS`, `unix(7)`, Linux 4.13). The primary group is not among them: see `SO_PEERCRED`.
///
/// Errors: `ENODATA` if the socket has no peer.
pub fn peer_groups(fd: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut len = libc::socklen_t::try_from(groups.len().saturating_mul(size_of::<u32>()))
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel writes at most `len` bytes to the buffer, which is that long, and the length to `len`; both live
        // through the call. `gid_t` is `u32` on Linux.
        let result = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let error = (result != 0).then(io::Error::last_os_error);
        let needed = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData)? / size_of::<u32>();
        match error {
            None => {
                groups.truncate(needed);
                return Ok(groups);
            }
            // Too small: the kernel says how much it wants.
            Some(e) if e.raw_os_error() == Some(libc::ERANGE) && needed > groups.len() && needed <= GROUPS_MAX => {
                groups.resize(needed, 0);
            }
            Some(e) => return Err(e),
        }
    }
}

/// The number of the group with this name.
pub fn group_id(name: &str) -> Option<u32> {
    nix::unistd::Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_peers_groups_are_those_of_the_process_that_connected() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut own: Vec<u32> = nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        let mut seen = peer_groups(one.as_fd()).unwrap();
        own.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, own);
    }

    #[test]
    fn a_group_is_found_by_name() {
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("no-such-group-here"), None);
    }
}
