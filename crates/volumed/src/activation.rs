//! Sockets handed over by systemd (`sd_listen_fds(3)`), told apart by their names.

use std::env;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// What was handed over.
#[derive(Debug, Default)]
pub struct Handed {
    /// `FileDescriptorName=control`.
    pub control: Option<UnixListener>,
    /// `FileDescriptorName=metrics`.
    pub metrics: Option<TcpListener>,
    /// `FileDescriptorName=docker`.
    pub docker: Option<UnixListener>,
    /// `FileDescriptorName=podman`.
    pub podman: Option<UnixListener>,
    /// `FileDescriptorName=csi`.
    pub csi: Option<UnixListener>,
}

/// Takes the sockets of this process. Call once, early: descriptors become owned here.
///
/// # Errors
/// A socket under a known name is of the wrong kind.
pub fn take() -> io::Result<Handed> {
    let mut fds = ListenFd::from_env();
    let mut handed = Handed::default();
    if fds.len() == 0 {
        return Ok(handed);
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    for (at, name) in names.split(':').enumerate().take(fds.len()) {
        match name {
            "control" if handed.control.is_none() => handed.control = fds.take_unix_listener(at)?,
            "docker" if handed.docker.is_none() => handed.docker = fds.take_unix_listener(at)?,
            "podman" if handed.podman.is_none() => handed.podman = fds.take_unix_listener(at)?,
            "csi" if handed.csi.is_none() => handed.csi = fds.take_unix_listener(at)?,
            "metrics" if handed.metrics.is_none() => handed.metrics = fds.take_tcp_listener(at)?,
            _ => tracing::warn!(name, "systemd handed over a socket that is not known here; it is not used"),
        }
    }
    Ok(handed)
}
