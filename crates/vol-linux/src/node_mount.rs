//! The node of a dm device as a file elsewhere: the node in `/dev` is opened, what is open is looked at, and a copy of that mount is moved
//! onto the open file. No path is walked twice, so nobody who may write to a directory on the way can lead it elsewhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use vol_core::observed::Mount;
use vol_engine::host::{HostError, HostErrorKind, HostResult, NodeCall};

use crate::mount::{copy_of, mount_id, open_target};
use crate::sysfs::SysDevice;
use crate::{dm, error, files, mountinfo};

/// See `HostMut::show_node`.
pub(crate) fn show(call: &NodeCall) -> HostResult<()> {
    let node = dm::node(call.dev);
    let what = format!("show {} at {}", node.display(), call.target.display());
    let failed = |e: Errno| error::rustix(&*what, e);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let shown = openat(CWD, &node, flags, Mode::empty()).map_err(failed)?;
    let seen = fstat(&shown).map_err(failed)?;
    let is_node = FileType::from_raw_mode(seen.st_mode) == FileType::BlockDevice;
    if !is_node || files::dev_number(seen.st_rdev) != call.dev {
        return Err(error::changed(what, format!("{} is not {}", node.display(), call.dev)));
    }
    of_the_kernel(&what, &shown)?;
    let target = open_file(&what, &call.target)?;
    let made = copy_of(&shown).map_err(failed)?;
    if call.read_only {
        crate::mount_attr::make_read_only(made.as_fd()).map_err(|e| error::io(&*what, &e))?;
    }
    // As late as can be: the number is that of the device which is meant, and of no other that came after it.
    let is = SysDevice::of(call.dev).ok().and_then(|device| device.attribute("dm/uuid"));
    if is.as_deref() != Some(call.dm_uuid.as_str()) {
        return Err(error::changed(what, format!("{} is another device by now", call.dev)));
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(made.as_fd(), "", target.as_fd(), "", flags).map_err(failed)
}

/// That the node is the kernel's own, by which such mounts are told from others.
fn of_the_kernel(what: &str, node: &OwnedFd) -> HostResult<()> {
    let id = mount_id(node).map_err(|e| error::io(what, &e))?;
    let lines = mountinfo::of_process("self").map_err(|e| error::io(format!("{what}: read the mount table"), &e))?;
    match lines.iter().find(|line| line.mount.mount_id == id) {
        Some(line) if line.mount.is_node() => Ok(()),
        other => {
            let is = other.map_or("something unknown", |line| line.mount.fs_type.as_str());
            let detail =
                format!("/dev is {is}, and not the {} that the kernel keeps the nodes of devices in", Mount::NODES);
            Err(HostError::new(HostErrorKind::Unsupported, what, detail))
        }
    }
}

/// The file at an absolute path, made if it is missing. What is mounted on it later its own mode does not matter to.
fn open_file(what: &str, target: &Path) -> HostResult<OwnedFd> {
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(error::invalid(what, "the target is no file in a directory"));
    };
    let parent = open_target(what, parent)?;
    let path = target.display();
    file_in(parent.as_fd(), Path::new(name)).map_err(|e| match e {
        Errno::LOOP => error::invalid(what, format!("{path} is a symbolic link")),
        Errno::ISDIR => error::invalid(what, format!("{path} is a directory, and a device is shown on a file")),
        Errno::NXIO => error::invalid(what, format!("{path} is no plain file")),
        e => error::rustix(format!("{what}: open {path}"), e),
    })
}

/// `ELOOP` for a link, `EISDIR` for a directory, `ENXIO` for what is neither that nor a plain file.
fn file_in(parent: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd, Errno> {
    let made = openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    );
    match made {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    // Whatever is there by now: opened without a link followed, without its being read, and then looked at.
    let there = openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&there)?.st_mode) {
        FileType::RegularFile => Ok(there),
        FileType::Symlink => Err(Errno::LOOP),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::NXIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_missing_file_is_made_and_only_a_plain_one_is_taken() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        for _ in 0..2 {
            open_file("test", &root.join("a/b/file")).unwrap();
        }
        let made = std::fs::metadata(root.join("a/b/file")).unwrap();
        assert!(made.is_file() && made.len() == 0 && made.permissions().mode() & 0o077 == 0);
        std::fs::write(root.join("outside"), "kept").unwrap();
        symlink(root.join("outside"), root.join("link")).unwrap();
        symlink(root.join("a"), root.join("way")).unwrap();
        nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for bad in ["link", "a", "way/b/file", "way/new", "fifo", "outside/x"] {
            let error = open_file("test", &root.join(bad)).unwrap_err();
            assert_eq!(error.kind, HostErrorKind::Invalid, "{bad}: {error}");
        }
        assert!(!root.join("a/new").exists(), "nothing is made by way of a link");
        assert_eq!(std::fs::read(root.join("outside")).unwrap(), b"kept");
    }

    #[test]
    fn what_is_no_node_is_not_shown() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let target = std::fs::canonicalize(dir.path()).unwrap().join("file");
        let dev = vol_core::observed::DevNumber { major: 253, minor: 99_999 };
        let call = NodeCall { dev, dm_uuid: "VOLUMED-x".into(), target: target.clone(), read_only: false };
        assert_eq!(show(&call).unwrap_err().kind, HostErrorKind::NotFound);
        assert!(!target.exists(), "nothing is left behind");
    }
}
