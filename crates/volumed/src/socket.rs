//! The control socket on the file system: one daemon per run directory, no leftovers, tight modes.
//!
//! Order matters: the lock is taken before an old socket is unlinked, so that two daemons that start together cannot
//! take each other's socket away. The lock is held as long as [`RunLock`] lives; the kernel drops it with the process.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Why the daemon cannot have its socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another volumed{} is running: it holds {}", .pid, .path.display())]
    Locked {
        path: PathBuf,
        /// ` (pid N)`, or nothing.
        pid: String,
        /// It is `volumed activate`, which ends soon.
        passing: bool,
    },
    #[error("another process answers at {}; stop it, or use --socket", .path.display())]
    InUse { path: PathBuf },
    #[error("{} is there and is no socket; it was left alone", .path.display())]
    NotASocket { path: PathBuf },
    #[error("cannot set up {}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn at(path: &Path) -> impl Fn(io::Error) -> SocketError + '_ {
    move |source| SocketError::Io { path: path.to_owned(), source }
}

/// Held by the one daemon of a machine. A fixed place, not a setting.
pub const HOST_LOCK: &str = "/run/volumed-host.lock";
/// What stands in it behind the pid if it is not a daemon that holds it.
const PASSING: &str = "activate";
/// How long a daemon waits for `volumed activate` to end, which waits for disks no longer than it may.
const PATIENCE: Duration = Duration::from_secs(660);
const PATIENCE_STEP: Duration = Duration::from_millis(100);

/// Held by the one daemon of a run directory, or of the machine.
#[derive(Debug)]
pub struct RunLock {
    _file: Flock<File>,
}

impl RunLock {
    /// Makes `run_dir` (0755: the sockets in it have modes of their own) if need be and locks `lock` in it.
    ///
    /// # Errors
    /// [`SocketError::Locked`] when another daemon holds it.
    pub fn take(run_dir: &Path) -> Result<Self, SocketError> {
        DirBuilder::new().recursive(true).mode(0o755).create(run_dir).map_err(at(run_dir))?;
        Self::lock(run_dir.join("lock"), "")
    }

    /// The lock of the whole machine, whatever run directory a daemon was given: two daemons that write to the same disks
    /// would each take the other's commits for its own.
    ///
    /// # Errors
    /// [`SocketError::Locked`] when another daemon holds it. For `volumed activate` it is waited.
    pub fn take_host() -> Result<Self, SocketError> {
        Self::take_after_activation(Path::new(HOST_LOCK), PATIENCE)
    }

    fn take_after_activation(path: &Path, patience: Duration) -> Result<Self, SocketError> {
        let end = Instant::now() + patience;
        let (mut waits, mut told) = (false, None);
        loop {
            match Self::lock(path.to_owned(), "") {
                Err(SocketError::Locked { passing: true, pid, .. }) if Instant::now() < end => {
                    if !std::mem::replace(&mut waits, true) {
                        tracing::info!("waiting for `volumed activate`{pid} to end");
                    }
                    // That it cannot be told makes the waiting longer, and no more. Who looks whether anybody waits is in the way for a moment.
                    told = told.or_else(|| tell_waiting(path));
                    std::thread::sleep(PATIENCE_STEP);
                }
                other => {
                    // Also what one left that was killed while it waited.
                    if waits || other.is_ok() {
                        let _ = fs::remove_file(wanted(path));
                    }
                    return other;
                }
            }
        }
    }

    /// Whether a daemon waits for the lock of [`RunLock::take_host_for_activation`].
    pub fn a_daemon_waits() -> bool {
        is_wanted(Path::new(HOST_LOCK))
    }

    /// As [`RunLock::take_host`], for a process that ends soon.
    ///
    /// # Errors
    /// [`SocketError::Locked`] when anybody holds it.
    pub fn take_host_for_activation() -> Result<Self, SocketError> {
        Self::lock(PathBuf::from(HOST_LOCK), PASSING)
    }

    fn lock(path: PathBuf, who: &str) -> Result<Self, SocketError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((file, Errno::EWOULDBLOCK)) => {
                let (pid, passing) = holder(&file);
                return Err(SocketError::Locked { path, pid, passing });
            }
            Err((_, errno)) => return Err(at(&path)(errno.into())),
        };
        // The pid is for people; that it cannot be written (a full disk) must not keep the daemon from starting.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{} {who}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// Stands beside a lock, and is locked, while a daemon waits for it. One that nobody has locked is of a daemon that was killed.
fn wanted(lock: &Path) -> PathBuf {
    lock.with_extension("wanted")
}

/// Says that a daemon waits for a lock, for as long as what it gives is there.
fn tell_waiting(lock: &Path) -> Option<Flock<File>> {
    // Not a new one: another daemon may hold it.
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(wanted(lock)).ok()?;
    Flock::lock(file, FlockArg::LockSharedNonblock).ok()
}

/// Whether a daemon waits for a lock.
fn is_wanted(lock: &Path) -> bool {
    let Ok(file) = File::open(wanted(lock)) else { return false };
    matches!(Flock::lock(file, FlockArg::LockExclusiveNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// ` (pid N)` or nothing, and whether it is one that ends soon.
fn holder(file: &File) -> (String, bool) {
    let mut text = String::new();
    if file.take(32).read_to_string(&mut text).is_err() {
        return (String::new(), false);
    }
    let mut words = text.split_whitespace();
    let pid = words.next().and_then(|word| word.parse::<u32>().ok());
    (pid.map_or(String::new(), |pid| format!(" (pid {pid})")), words.next() == Some(PASSING))
}

/// Who may open the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// 0600.
    Owner,
    /// 0660 with this group.
    Group(u32),
    /// 0666: several groups carry a role and a file has one group. The credentials of each peer decide.
    Everyone,
}

impl Reach {
    /// The tightest mode that lets the members of all `gids` in.
    pub fn for_groups(gids: &[u32]) -> Self {
        match gids {
            [] => Self::Owner,
            [gid] => Self::Group(*gid),
            _ => Self::Everyone,
        }
    }

    /// Whether the socket at `path` has this mode and group.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn is_given(self, path: &Path) -> io::Result<bool> {
        let metadata = fs::symlink_metadata(path)?;
        let (mode, group) = self.mode_and_group();
        Ok(metadata.permissions().mode() & 0o777 == mode && group.is_none_or(|gid| metadata.gid() == gid))
    }

    const fn mode_and_group(self) -> (u32, Option<u32>) {
        match self {
            Self::Owner => (0o600, None),
            Self::Group(gid) => (0o660, Some(gid)),
            Self::Everyone => (0o666, None),
        }
    }

    /// Gives the socket at `path` this mode and group.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn give(self, path: &Path) -> io::Result<()> {
        let (mode, group) = self.mode_and_group();
        if group.is_some() {
            std::os::unix::fs::chown(path, None, group)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }
}

/// A socket that this process bound and removes again.
#[derive(Debug)]
pub struct BoundSocket {
    path: PathBuf,
    identity: Identity,
}

/// Device, inode and time of the last change of status, to tell a socket from its successor: an inode number alone may be
/// used again at once.
type Identity = (u64, u64, i64, i64);

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

impl BoundSocket {
    /// Binds `path`, after removing a socket that nobody listens at. Needs the lock.
    ///
    /// # Errors
    /// When something else is there, or the file system refuses; nothing is left behind.
    pub fn bind(path: &Path, reach: Reach, _lock: &RunLock) -> Result<(UnixListener, Self), SocketError> {
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(at(parent))?;
        }
        remove_stale(path)?;
        // Until its mode is set the umask holds; who slips in before is judged by credentials like everybody.
        let listener = UnixListener::bind(path).map_err(at(path))?;
        let opened = reach.give(path).and_then(|()| fs::symlink_metadata(path));
        match opened {
            Ok(metadata) => Ok((listener, Self { path: path.to_owned(), identity: identity(&metadata) })),
            Err(error) => {
                let _ = fs::remove_file(path);
                Err(at(path)(error))
            }
        }
    }

    /// Lets others in than before, from now on.
    ///
    /// # Errors
    /// The file system refuses, or the socket at the path is another one by now.
    pub fn reopen_to(&mut self, reach: Reach) -> Result<(), SocketError> {
        let path = &self.path;
        let same = fs::symlink_metadata(path).is_ok_and(|metadata| identity(&metadata) == self.identity);
        if !same {
            return Err(SocketError::NotASocket { path: path.clone() });
        }
        let changed = reach.give(path).and_then(|()| fs::symlink_metadata(path));
        self.identity = identity(&changed.map_err(at(path))?);
        Ok(())
    }

    /// Removes the socket if it is still this one.
    pub fn remove(&self) {
        let same = |metadata: fs::Metadata| identity(&metadata) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(same)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(path)(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    // A daemon with another run directory would hold another lock.
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse { path: path.to_owned() });
    }
    fs::remove_file(path).map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_second_daemon_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let held = RunLock::take(&run).unwrap();
        assert_eq!(mode(&run), 0o755);
        let error = RunLock::take(&run).unwrap_err().to_string();
        let expected = format!("another volumed (pid {}) is running: it holds ", std::process::id());
        assert!(error.starts_with(&expected), "{error}");
        drop(held);
        RunLock::take(&run).unwrap();
    }

    #[test]
    fn a_daemon_waits_for_an_activation_and_for_no_other_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RunLock::lock(path.clone(), PASSING).unwrap();
        let error = RunLock::take_after_activation(&path, Duration::ZERO).unwrap_err();
        assert!(matches!(error, SocketError::Locked { passing: true, .. }));
        let told = wanted(&path);
        // One that was killed while it waited.
        File::create(&told).unwrap();
        assert!(!is_wanted(&path), "nobody waits");
        let ending = std::thread::spawn({
            let path = path.clone();
            move || {
                while !is_wanted(&path) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                drop(held);
            }
        });
        let daemon = RunLock::take_after_activation(&path, Duration::from_secs(30)).unwrap();
        ending.join().unwrap();
        assert!(!told.exists());
        let begin = Instant::now();
        let error = RunLock::take_after_activation(&path, Duration::from_secs(30)).unwrap_err();
        assert!(matches!(error, SocketError::Locked { passing: false, .. }));
        assert!(begin.elapsed() < Duration::from_secs(25));
        drop(daemon);
        File::create(&told).unwrap();
        drop(RunLock::take_after_activation(&path, Duration::ZERO).unwrap());
        assert!(!told.exists(), "a file that was left is taken away");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_anything_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RunLock::take(dir.path()).unwrap();
        let path = dir.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (listener, socket) = BoundSocket::bind(&path, Reach::Owner, &lock).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(matches!(BoundSocket::bind(&path, Reach::Owner, &lock), Err(SocketError::InUse { .. })));
        drop(listener);
        socket.remove();
        assert!(!path.exists());

        fs::write(&path, "precious").unwrap();
        assert!(matches!(BoundSocket::bind(&path, Reach::Owner, &lock), Err(SocketError::NotASocket { .. })));
        socket.remove();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn the_mode_follows_the_groups() {
        assert_eq!(Reach::for_groups(&[]), Reach::Owner);
        assert_eq!(Reach::for_groups(&[20]), Reach::Group(20));
        assert_eq!(Reach::for_groups(&[10, 20]), Reach::Everyone);
        let dir = tempfile::tempdir().unwrap();
        let lock = RunLock::take(dir.path()).unwrap();
        let path = dir.path().join("control.sock");
        let gid = nix::unistd::getegid().as_raw();
        let (_listener, mut bound) = BoundSocket::bind(&path, Reach::Group(gid), &lock).unwrap();
        assert_eq!(mode(&path), 0o660);
        assert!(Reach::Group(gid).is_given(&path).unwrap());
        assert!(!Reach::Owner.is_given(&path).unwrap());
        bound.reopen_to(Reach::Everyone).unwrap();
        assert_eq!(mode(&path), 0o666);
        bound.remove();
        assert!(!path.exists(), "it is still the same socket");
        assert!(bound.reopen_to(Reach::Owner).is_err());
        let _systemds = UnixListener::bind(&path).unwrap();
        Reach::Everyone.give(&path).unwrap();
        assert!(Reach::Everyone.is_given(&path).unwrap());
        assert_eq!(mode(&path), 0o666);
    }
}
