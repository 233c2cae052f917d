//! Mounts, by file descriptors only (`fsopen(2)`, `fsmount(2)`, `open_tree(2)`, `move_mount(2)`, Linux 5.2).
//!
//! Paths are walked directory by directory (`openat(2)` with `O_NOFOLLOW`), so that no link leads elsewhere. Not by `openat2(2)`, which
//! could do it in one call: systemd's `RestrictSUIDSGID=` refuses that whole (`ENOSYS`), for no filter can look into its arguments.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fchmod, fstat, mkdirat, openat, statat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount as umount2,
};
use vol_core::observed::{DevNumber, Mount};
use vol_engine::host::{BindCall, FsUsage, HostError, HostErrorKind, HostResult, MountCall};
use vol_types::{Bytes, FsKind, MountOptions, Name};

use crate::sysfs::SysDevice;
use crate::{dm, error, files, mount_point, mountinfo};

pub(crate) fn mount(call: &MountCall) -> HostResult<()> {
    let node = dm::node(call.dev);
    let what = format!("mount {} at {}", node.display(), call.target.display());
    let failed = |e: Errno| error::rustix(&*what, e);
    match files::block_number(&node) {
        Ok(Some(dev)) if dev == call.dev => {}
        Ok(_) => return Err(error::changed(what, format!("{} is not {}", node.display(), call.dev))),
        Err(e) => return Err(error::io(what, &e)),
    }
    // What is wrong with the path is said before anything is done; nothing is made yet.
    match walk(&what, &call.target, |_, _| Err(Errno::NOENT)) {
        Err(e) if e.kind != HostErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut made = make(&what, call, &node)?;
    if let Some(subdir) = &call.subdir {
        made = directory_of(&what, &made, subdir)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let _stays = call.sealed.then(mount_point::places);
    let target = open_target(&what, &call.target)?;
    if call.sealed {
        mount_point::seal(&call.target);
    }
    move_mount(made.as_fd(), "", target.as_fd(), "", flags).map_err(failed)
}

/// Shows what is mounted at one place at another one: the directory is opened and its device looked at, and what is open is what is shown.
/// The copy has the attributes of the mount that it is made of, and for reading only it is before anybody sees it
/// (`mount_setattr(2)`, Linux 5.12).
pub(crate) fn bind(call: &BindCall) -> HostResult<()> {
    let what = format!("show {} at {}", call.from.display(), call.target.display());
    let from = open_mounted(&what, call.dev, &call.from)?;
    let target = open_target(&what, &call.target)?;
    let made = copy_of(&OwnedFd::from(from)).map_err(|e| error::rustix(&*what, e))?;
    if call.read_only {
        crate::mount_attr::make_read_only(made.as_fd()).map_err(|e| error::io(&*what, &e))?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(made.as_fd(), "", target.as_fd(), "", flags).map_err(|e| error::rustix(&*what, e))
}

fn hidden(dev: DevNumber, fs: FsKind, read_only: bool) -> MountCall {
    MountCall {
        dev,
        fs,
        subdir: None,
        target: "/".into(),
        sealed: false,
        read_only,
        allow_same_uuid: false,
        no_replay: false,
        options: MountOptions::default(),
    }
}

/// Mounts where nobody sees it, for reading only, and unmounts again: the journal of a file system on a writable device is
/// replayed by that. The device may stay busy for a moment.
pub(crate) fn replay(what: &str, dev: DevNumber, fs: FsKind) -> HostResult<()> {
    let call = hidden(dev, fs, true);
    make(what, &call, &dm::node(dev)).map(drop)
}

/// The root directory of a file system that is mounted where nobody sees it; unmounted when it is closed.
pub(crate) fn open_hidden(what: &str, dev: DevNumber, fs: FsKind) -> HostResult<File> {
    let call = hidden(dev, fs, false);
    let made = make(what, &call, &dm::node(dev))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(&made, ".", flags, Mode::empty()).map_err(|e| error::rustix(what, e))?;
    Ok(File::from(root))
}

/// What of the options is of a mount alone; `relatime` is how the kernel does it anyway.
const ATTRIBUTES: [(&str, MountAttrFlags); 4] = [
    ("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME),
    ("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    ("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME),
    ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC),
];

/// A mount that is nowhere yet.
fn make(what: &str, call: &MountCall, node: &Path) -> HostResult<OwnedFd> {
    let failed = |e: Errno| error::rustix(what, e);
    let fs = fsopen(call.fs.as_str(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| match e {
        Errno::NODEV => {
            let detail = format!("the kernel has no {}", call.fs.as_str());
            HostError::new(HostErrorKind::Unsupported, what, detail)
        }
        e => failed(e),
    })?;
    let device_read_only = SysDevice::of(call.dev).is_ok_and(|device| device.read_only());
    let configure = || -> Result<(), Errno> {
        fsconfig_set_string(fs.as_fd(), "source", node)?;
        for flag in options(call, device_read_only) {
            fsconfig_set_flag(fs.as_fd(), *flag)?;
        }
        if call.no_replay && call.fs == FsKind::Btrfs {
            // btrfs(5); Linux 5.9.
            fsconfig_set_string(fs.as_fd(), "rescue", "nologreplay")?;
        }
        for (key, value) in call.options.of_file_system() {
            match value {
                Some(value) => fsconfig_set_string(fs.as_fd(), key, value)?,
                None => fsconfig_set_flag(fs.as_fd(), key)?,
            }
        }
        fsconfig_create(fs.as_fd())
    };
    configure().map_err(|e| match e {
        // A snapshot or a clone beside its origin: the kernel knows btrfs by its UUID, and gives one of them another only since 6.7
        // (`fs/btrfs/volumes.c`, `temp_fsid`).
        Errno::EXIST if call.fs == FsKind::Btrfs => HostError::new(
            HostErrorKind::Unsupported,
            &*what,
            "a btrfs with the same UUID is mounted already, and this kernel does not mount two of them (Linux 6.7 does)",
        ),
        e => with_messages(failed(e), fs.as_fd()),
    })?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if call.read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    for (word, attribute) in ATTRIBUTES {
        if call.options.has(word) {
            attributes |= attribute;
        }
    }
    let made = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|e| with_messages(failed(e), fs.as_fd()))?;
    check_device(what, &made, call)?;
    Ok(made)
}

/// A mount, nowhere yet, of one directory in the root of another one that is nowhere. What the directory is its users can change, who may
/// write to the file system: no link is followed.
fn directory_of(what: &str, whole: &OwnedFd, name: &Name) -> HostResult<OwnedFd> {
    let missing = |detail| HostError::new(HostErrorKind::NoDirectory, what, detail);
    let dir = directory_in(whole.as_fd(), Path::new(name.as_str())).map_err(|e| match e {
        Errno::NOENT => {
            missing(format!("its file system has no directory {name} any more, which is what is to be mounted"))
        }
        Errno::LOOP => {
            missing(format!("{name} in its file system is a symbolic link, not the directory that is to be mounted"))
        }
        Errno::NOTDIR => missing(format!("{name} in its file system is not the directory that is to be mounted")),
        e => error::rustix(format!("{what}: open its directory {name}"), e),
    })?;
    let made = match copy_of(&dir) {
        // Before Linux 6.15 only what is mounted in one's own namespace can be copied (`fs/namespace.c`, `__do_loopback`).
        Err(Errno::INVAL) => copy_in_namespace(whole, &dir),
        other => other,
    };
    made.map_err(|e| error::rustix(format!("{what}: take its directory {name}"), e))
}

/// A mount of a directory or a file alone that is nowhere yet, as a bind mount (`open_tree(2)`).
pub(crate) fn copy_of(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(dir, "", flags)
}

/// As [`copy_of`], by a thread with a mount namespace of its own, in which the whole is mounted for that moment: nobody else sees it there, and
/// however the thread ends, it is gone with it.
fn copy_in_namespace(whole: &OwnedFd, dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let work = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|e| Errno::from_raw_os_error(e as i32))?;
        // What is unmounted on the host goes here as well, and nothing that is mounted here goes there.
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        move_mount(whole, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        copy_of(dir)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, work);
        let thread = thread.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::AGAIN))?;
        thread.join().unwrap_or(Err(Errno::IO))
    })
}

/// Before anybody sees the mount: it is of the device that was asked for. (btrfs has a number of its own.)
fn check_device(what: &str, made: &OwnedFd, call: &MountCall) -> HostResult<()> {
    if call.fs == FsKind::Btrfs {
        return Ok(());
    }
    let metadata = made.try_clone().and_then(|fd| File::from(fd).metadata()).map_err(|e| error::io(what, &e))?;
    let dev = files::dev_number(metadata.dev());
    if dev == call.dev { Ok(()) } else { Err(error::changed(what, format!("the kernel mounted {dev}"))) }
}

/// A snapshot's device cannot be written to, so its journal cannot be replayed. ext4 leaves a clean one when it is frozen or
/// unmounted; a snapshot of a file system that a crash left behind is refused by the kernel rather than shown with holes.
/// XFS leaves a record even when it is frozen (`xfs_log_quiesce`), so the log has to be passed over on such a device, and on no
/// other. What is mounted without its journal shows what was last written in place: the newest changes may be missing, and nothing is written.
fn options(call: &MountCall, device_read_only: bool) -> &'static [&'static str] {
    match (call.fs, call.read_only, call.allow_same_uuid) {
        (FsKind::Ext4, true, _) if call.no_replay => &["ro", "noload"],
        (FsKind::Xfs, true, false) if call.no_replay => &["ro", "norecovery"],
        (FsKind::Xfs, true, true) if call.no_replay || device_read_only => &["ro", "norecovery", "nouuid"],
        (FsKind::Xfs, true, true) => &["ro", "nouuid"],
        (FsKind::Xfs, false, true) => &["nouuid"],
        (_, true, _) => &["ro"],
        (_, false, _) => &[],
    }
}

/// Adds what the kernel wrote about the failure to the file-system context, one message per read. Some file systems write to
/// the kernel's log only.
fn with_messages(mut error: HostError, context: impl AsFd) -> HostError {
    let mut buffer = [0u8; 1024];
    for _ in 0..8 {
        match rustix::io::read(context.as_fd(), &mut buffer) {
            Ok(n) if n > 2 => {
                // "e message": error, warning or information.
                let message = String::from_utf8_lossy(buffer.get(2..n).unwrap_or_default()).trim().to_owned();
                error.detail = format!("{}; {message}", error.detail);
            }
            _ => break,
        }
    }
    error
}

/// The directory at an absolute path, made as far as it is missing (mode 0755). No component may be a symbolic link, so
/// nobody who may write to a directory above can lead the mount elsewhere.
pub(crate) fn open_target(what: &str, target: &Path) -> HostResult<OwnedFd> {
    walk(what, target, |at, path| match mkdirat(at, path, Mode::from_raw_mode(0o755)) {
        Ok(()) => open_to_all(at, path),
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e),
    })
}

/// Gives a directory that was just made the mode 0755, whatever mask the daemon runs with. Whoever may write to the directory above may have put
/// one of his own in its place by now, which is left alone.
fn open_to_all(at: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(at, name, flags, Mode::empty())?;
    if fstat(&made)?.st_uid == rustix::process::geteuid().as_raw() {
        fchmod(&made, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}

/// The directory of this name in another; no link is followed: `ELOOP` if it is one. The name is one component, and neither `.` nor `..`.
fn directory_in(at: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty()).map_err(|e| {
        // A link is taken as such, and is then said to be no directory.
        let is_link = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        match e {
            Errno::NOTDIR if statat(at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(is_link) => Errno::LOOP,
            e => e,
        }
    })
}

/// The directory at an absolute path; what is missing is made by `make`, or `ENOENT` from it.
pub(crate) fn walk(
    what: &str,
    target: &Path,
    make: impl Fn(BorrowedFd<'_>, &Path) -> Result<(), Errno>,
) -> HostResult<OwnedFd> {
    let mut components = target.components();
    if components.next() != Some(Component::RootDir) {
        return Err(error::invalid(what, "the target is not an absolute path"));
    }
    let failed = |path: &Path, e: Errno| match e {
        Errno::LOOP => error::invalid(what, format!("{} is a symbolic link", path.display())),
        Errno::NOTDIR => error::invalid(what, format!("{} is not a directory", path.display())),
        e => error::rustix(format!("{what}: open {}", path.display()), e),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open("/", flags, Mode::empty()).map_err(|e| failed(Path::new("/"), e))?;
    for component in components {
        let Component::Normal(name) = component else {
            return Err(error::invalid(what, "the target has . or .. in it"));
        };
        let path = Path::new(name);
        let next = match directory_in(at.as_fd(), path) {
            Err(Errno::NOENT) => make(at.as_fd(), path).and_then(|()| directory_in(at.as_fd(), path)),
            other => other,
        };
        at = next.map_err(|e| failed(path, e))?;
    }
    Ok(at)
}

/// The directory where a device is mounted, open: as long as it is, it stays mounted. `Changed` if something else is there.
pub(crate) fn open_mounted(what: &str, dev: DevNumber, at: &Path) -> HostResult<File> {
    let there = walk(what, at, |_, _| Err(Errno::NOENT))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(&there, ".", flags, Mode::empty()).map_err(|e| error::rustix(what, e))?;
    let dir = File::from(dir);
    if files::dev_number(dir.metadata().map_err(|e| error::io(what, &e))?.dev()) == dev {
        return Ok(dir);
    }
    // btrfs has a number of its own; which device it stands on the mount table tells.
    let id = mount_id(&dir).map_err(|e| error::io(what, &e))?;
    let lines = mountinfo::of_process("self").map_err(|e| error::io(format!("{what}: read the mount table"), &e))?;
    match lines.iter().find(|line| line.mount.mount_id == id) {
        Some(line) if line.mount.dev == dev => Ok(dir),
        _ => Err(error::changed(what, format!("{dev} is not mounted at {}", at.display()))),
    }
}

/// What a file system says of itself, by way of the place where its device is mounted.
pub(crate) fn usage(dev: DevNumber, at: &Path) -> HostResult<FsUsage> {
    let what = format!("ask the file system at {} how full it is", at.display());
    let dir = open_mounted(&what, dev, at)?;
    let said = rustix::fs::fstatvfs(&dir).map_err(|e| error::rustix(what, e))?;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(said.f_frsize));
    Ok(FsUsage {
        size: bytes(said.f_blocks),
        free: bytes(said.f_bfree),
        available: bytes(said.f_bavail),
        inodes: said.f_files,
        inodes_free: said.f_ffree,
    })
}

/// Unmounts what is mounted at the top of the path, if it is this very mount.
pub(crate) fn unmount(mount: &Mount) -> HostResult<()> {
    let what = format!("unmount {}", mount.target.display());
    let lines = mountinfo::of_host().map_err(|e| error::io(format!("{what}: read the mount table"), &e))?;
    let Some(line) = lines.iter().find(|line| line.mount.mount_id == mount.mount_id) else {
        return Err(HostError::new(HostErrorKind::NotFound, what, "it is not mounted"));
    };
    if line.mount.dev != mount.dev || line.mount.target != mount.target {
        let detail = format!("{} is mounted at {} now", line.mount.dev, line.mount.target.display());
        return Err(error::changed(what, detail));
    }
    let (Some(parent), Some(name)) = (mount.target.parent(), mount.target.file_name()) else {
        return Err(error::invalid(what, "the root directory stays mounted"));
    };
    let parent = walk(&what, parent, |_, _| Err(Errno::NOENT))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = openat(&parent, name, flags, Mode::empty()).map_err(|e| error::rustix(&*what, e))?;
    let top_id = mount_id(&top).map_err(|e| error::io(&*what, &e))?;
    // An open directory would keep it busy.
    drop(top);
    if same_namespace() && top_id != mount.mount_id {
        return Err(HostError::new(HostErrorKind::Busy, what, "something else is mounted over it"));
    }
    // By way of the directory that is open: whoever may rename directories above cannot lead it elsewhere by a link. A mount point
    // itself cannot be renamed.
    let way = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
    umount2(&way, UnmountFlags::NOFOLLOW).map_err(|e| error::rustix(what, e))
}

/// The mount that an open file or directory is of (`proc_pid_fdinfo(5)`). Not by `statx(2)`: that asks the file system, and one that
/// has shut itself down after an error answers with another.
pub(crate) fn mount_id(file: impl AsFd) -> io::Result<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "the kernel does not tell mount ids"))
}

/// Whether the mount table that we read is that of our own namespace.
fn same_namespace() -> bool {
    let own = std::fs::read_link("/proc/self/ns/mnt");
    // Where process 1 may not be looked at, the own table was read.
    std::fs::read_link("/proc/1/ns/mnt").map_or(true, |host| own.is_ok_and(|own| own == host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn missing_directories_are_made_but_no_link_is_followed() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        open_target("test", &root.join("a/b/c")).unwrap();
        assert!(root.join("a/b/c").is_dir());
        symlink(root.join("a"), root.join("link")).unwrap();
        for bad in ["link", "link/b", "file", "file/x"] {
            std::fs::write(root.join("file"), "").unwrap();
            let error = open_target("test", &root.join(bad)).unwrap_err();
            assert_eq!(error.kind, HostErrorKind::Invalid, "{bad}: {error}");
        }
        assert_eq!(open_target("test", &root.join("a/../a")).unwrap_err().kind, HostErrorKind::Invalid);
        assert_eq!(open_target("test", Path::new("a")).unwrap_err().kind, HostErrorKind::Invalid);
    }

    /// A file system that is mounted nowhere; `None` if one may not be made here.
    fn detached_tmpfs() -> Option<OwnedFd> {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
        fsconfig_create(fs.as_fd()).ok()?;
        fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV).ok()
    }

    #[test]
    fn a_directory_is_taken_out_of_a_file_system_and_nothing_but_a_directory() {
        let Some(whole) = detached_tmpfs() else {
            println!("skipped: nothing can be mounted here");
            return;
        };
        let root = std::path::PathBuf::from(format!("/proc/self/fd/{}", whole.as_raw_fd()));
        std::fs::create_dir(root.join("data")).unwrap();
        std::fs::write(root.join("data/inside"), "").unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        symlink("data", root.join("link")).unwrap();
        symlink("/etc", root.join("away")).unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        for bad in ["file", "link", "away", "gone"] {
            let error = directory_of("test", &whole, &name(bad)).unwrap_err();
            assert_eq!(error.kind, HostErrorKind::NoDirectory, "{bad}: {error}");
            assert!(error.to_string().contains(bad), "{error}");
            assert_eq!(error.to_string().contains("symbolic link"), matches!(bad, "link" | "away"), "{error}");
        }
        let names = |dir: &OwnedFd| -> Vec<_> {
            let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        let taken = directory_of("test", &whole, &name("data")).unwrap();
        assert_eq!(names(&taken), ["inside"]);
        // As an older kernel has it done: the whole is gone afterwards, what was taken stays, and nothing is to be seen of it here.
        let before = std::fs::read("/proc/self/mountinfo").unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&whole, "data", flags, Mode::empty()).unwrap();
        let taken = copy_in_namespace(&whole, &dir).unwrap();
        drop((whole, dir));
        assert_eq!(names(&taken), ["inside"]);
        assert_eq!(std::fs::read("/proc/self/mountinfo").unwrap(), before, "a mount was left behind");
    }

    #[test]
    fn a_mount_that_is_not_there_is_not_found() {
        let target = std::path::PathBuf::from("/nowhere");
        let dev = DevNumber { major: 253, minor: 9999 };
        let root = "/".into();
        let mount = Mount { mount_id: u64::MAX, dev, root, target, fs_type: "ext4".into(), read_only: false };
        assert_eq!(unmount(&mount).unwrap_err().kind, HostErrorKind::NotFound);
    }
}
