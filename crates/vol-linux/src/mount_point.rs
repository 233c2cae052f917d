//! Directories that the daemon makes for its mounts, and takes away after them (ADR 0025).
//!
//! While nothing is mounted there such a directory is *sealed*: immutable (`ioctl_iflags(2)`, on tmpfs since Linux 6.1), so that not even
//! root can make anything in it without taking that away first, for which a container lacks `CAP_LINUX_IMMUTABLE`. A mount on top of it is not
//! concerned.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rustix::fs::{
    AtFlags, FileType, IFlags, Mode, OFlags, fchmod, fstat, ioctl_getflags, ioctl_setflags, openat, unlinkat,
};
use rustix::io::Errno;
use vol_engine::host::{HostError, HostErrorKind, HostResult, MountEvents};

use crate::mount::{mount_id, open_target, walk};
use crate::{error, proc};

/// Taken while a directory is made and mounted on, and while one is removed: never is one removed that is just about to be mounted on.
static PLACES: Mutex<()> = Mutex::new(());

pub(crate) fn places() -> MutexGuard<'static, ()> {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The directory above and the last component, the directory itself for reading, and whether it is where something is mounted.
struct Place {
    above: OwnedFd,
    name: PathBuf,
    dir: OwnedFd,
    mounted: bool,
}

fn place(what: &str, path: &Path) -> HostResult<Place> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(error::invalid(what, "it is no directory in another"));
    };
    let above = walk(what, parent, |_, _| Err(Errno::NOENT))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = PathBuf::from(name);
    let dir = openat(&above, &name, flags, Mode::empty()).map_err(|e| error::rustix(what, e))?;
    let id = |fd: &OwnedFd| mount_id(fd).map_err(|e| error::io(what, &e));
    let mounted = id(&above)? != id(&dir)?;
    Ok(Place { above, name, dir, mounted })
}

/// Makes an existing directory immutable, unless something is mounted there. Where its file system has no such flag it stays as it is.
pub(crate) fn seal(path: &Path) {
    let what = format!("seal {}", path.display());
    let sealed = place(&what, path).and_then(|place| {
        if place.mounted {
            return Ok(());
        }
        let flags = ioctl_getflags(&place.dir).map_err(|e| error::rustix(&*what, e))?;
        ioctl_setflags(&place.dir, flags | IFlags::IMMUTABLE).map_err(|e| error::rustix(&*what, e))
    });
    match sealed {
        Ok(()) => {}
        Err(error) if error.kind == HostErrorKind::Unsupported => {
            tracing::debug!(%error, "a mount point is not sealed")
        }
        Err(error) => tracing::warn!(%error, "a mount point is not sealed"),
    }
}

/// See `HostMut::make_directory`.
pub(crate) fn make(dir: &Path, mode: u32) -> HostResult<()> {
    let what = format!("make the directory {}", dir.display());
    let made = open_target(&what, dir)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let made = openat(&made, ".", flags, Mode::empty()).map_err(|e| error::rustix(&*what, e))?;
    let file = File::from(made.try_clone().map_err(|e| error::io(&*what, &e))?);
    let is = file.metadata().map_err(|e| error::io(&*what, &e))?.mode() & 0o7777;
    if is == mode {
        return Ok(());
    }
    fchmod(&made, Mode::from_raw_mode(mode)).map_err(|e| error::rustix(what, e))
}

/// See `HostMut::remove_mount_point`.
pub(crate) fn remove(path: &Path) -> HostResult<()> {
    let what = format!("remove the mount point {}", path.display());
    let busy = |detail: String| HostError::new(HostErrorKind::Busy, &*what, detail);
    let _no_mount = places();
    let place = match place(&what, path) {
        Err(error) if error.kind == HostErrorKind::Invalid => return remove_file(&what, path, error),
        other => other?,
    };
    not_mounted(&what, path, place.mounted)?;
    let flags = ioctl_getflags(&place.dir).ok().filter(|flags| flags.contains(IFlags::IMMUTABLE));
    if let Some(flags) = flags {
        ioctl_setflags(&place.dir, flags - IFlags::IMMUTABLE)
            .map_err(|e| error::rustix(format!("{what}: unseal it"), e))?;
    }
    let gone = unlinkat(&place.above, &place.name, AtFlags::REMOVEDIR);
    if let (Err(_), Some(flags)) = (&gone, flags) {
        let _ = ioctl_setflags(&place.dir, flags);
    }
    gone.map_err(|e| match e {
        Errno::NOTEMPTY | Errno::EXIST => {
            busy("there are files in it, which lie on the host and not in the volume".to_owned())
        }
        e => error::rustix(&*what, e),
    })
}

/// As [`remove`], where there is no directory: an empty file, on which a device was shown. Otherwise `error`.
fn remove_file(what: &str, path: &Path, error: HostError) -> HostResult<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
    let above = walk(what, parent, |_, _| Err(Errno::NOENT))?;
    let failed = |e: Errno| error::rustix(what, e);
    let there =
        openat(&above, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let id = |fd: &OwnedFd| mount_id(fd).map_err(|e| error::io(what, &e));
    not_mounted(what, path, id(&above)? != id(&there)?)?;
    let seen = fstat(&there).map_err(failed)?;
    if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
        return Err(error);
    }
    if seen.st_size != 0 {
        let detail = "the file is not empty: it lies on the host, and nothing of it is in the volume";
        return Err(HostError::new(HostErrorKind::Busy, what, detail));
    }
    unlinkat(&above, name, AtFlags::empty()).map_err(failed)
}

/// That nothing is mounted there, in no namespace: the kernel would take away what another one has mounted there (`fs/namei.c`,
/// `vfs_rmdir`, `vfs_unlink`; `fs/namespace.c`, `detach_mounts`).
fn not_mounted(what: &str, path: &Path, here: bool) -> HostResult<()> {
    let busy = |detail: String| HostError::new(HostErrorKind::Busy, what, detail);
    if here {
        return Err(busy("something is mounted there".to_owned()));
    }
    match proc::mounted_at(path)? {
        Some(who) => Err(busy(format!("something is mounted there in the mount namespace of {who}"))),
        None => Ok(()),
    }
}

/// See `HostRead::directories_in`.
pub(crate) fn directories_in(dir: &Path) -> HostResult<Vec<PathBuf>> {
    let failed = |e: &std::io::Error| error::io(format!("list {}", dir.display()), e);
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| failed(&e))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| failed(&e))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The mount table of the host, as something to be waited for (`proc_pid_mounts(5)`: a change is told as `POLLPRI`).
#[derive(Debug)]
pub(crate) struct MountTable {
    table: File,
    wake: EventFd,
}

impl MountTable {
    pub(crate) fn listen() -> HostResult<Self> {
        let failed = |e: &std::io::Error| error::io("listen to the mount table", e);
        let table = File::open("/proc/1/mountinfo").or_else(|_| File::open("/proc/self/mountinfo"));
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        Ok(Self {
            table: table.map_err(|e| failed(&e))?,
            wake: wake.map_err(|e| error::sys("listen to the mount table", e))?,
        })
    }
}

impl MountEvents for MountTable {
    fn wait(&self, most: Duration) {
        let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        let mut fds =
            [PollFd::new(self.table.as_fd(), PollFlags::POLLPRI), PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        if let Err(error) = poll(&mut fds, timeout)
            && error != nix::errno::Errno::EINTR
        {
            tracing::warn!(%error, "the mount table cannot be waited for");
            std::thread::sleep(most.min(Duration::from_secs(5)));
        }
        let _ = self.wake.read();
    }

    fn wake(&self) {
        let _ = self.wake.write(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_mount_point_is_removed_and_one_with_files_is_not() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let at = std::fs::canonicalize(dir.path()).unwrap().join("a/b");
        make(&at, 0o711).unwrap();
        make(&at, 0o711).unwrap();
        assert_eq!(std::fs::metadata(&at).unwrap().mode() & 0o7777, 0o711);
        assert_eq!(directories_in(at.parent().unwrap()).unwrap(), std::slice::from_ref(&at));
        // Where it can be, it is sealed: not even root writes to it, and a mount point can be removed all the same.
        seal(&at);
        let sealed = std::fs::write(at.join("file"), "").is_err();
        if !sealed {
            println!("skipped: directories cannot be sealed here");
            assert_eq!(remove(&at).unwrap_err().kind, HostErrorKind::Busy);
            assert_eq!(std::fs::read(at.join("file")).unwrap(), b"", "what was written is kept");
            std::fs::remove_file(at.join("file")).unwrap();
        }
        remove(&at).unwrap();
        assert_eq!(remove(&at).unwrap_err().kind, HostErrorKind::NotFound);
        assert_eq!(directories_in(&at).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(remove(Path::new("/proc")).unwrap_err().kind, HostErrorKind::Busy);
    }

    #[test]
    fn an_empty_file_is_removed_as_a_mount_point_and_nothing_else_is() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let (empty, full, link) = (root.join("empty"), root.join("full"), root.join("link"));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&full, "kept").unwrap();
        std::os::unix::fs::symlink(&empty, &link).unwrap();
        assert_eq!(remove(&full).unwrap_err().kind, HostErrorKind::Busy);
        assert_eq!(remove(&link).unwrap_err().kind, HostErrorKind::Invalid);
        assert!(full.exists() && empty.exists() && link.is_symlink());
        remove(&empty).unwrap();
        assert_eq!(remove(&empty).unwrap_err().kind, HostErrorKind::NotFound);
    }

    #[test]
    fn waiting_for_the_mount_table_ends_when_it_is_woken() {
        let table = MountTable::listen().unwrap();
        table.wake();
        table.wait(Duration::from_secs(3600));
    }
}
