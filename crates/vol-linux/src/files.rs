//! Files of the daemon: image files, the list of those it remembers, and small reads.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vol_core::observed::DevNumber;
use vol_engine::host::{HostError, HostErrorKind, HostResult};
use vol_types::Bytes;

use crate::error;

/// Below the state directory: one absolute path of an image file per line.
const LIST: &str = "backing-files";
/// A list longer than this is not ours.
const LIST_MAX: u64 = 4 << 20;

/// A device number as user space packs it.
pub(crate) const fn dev_number(packed: u64) -> DevNumber {
    DevNumber { major: libc::major(packed), minor: libc::minor(packed) }
}

/// The number of the block device at `path` (links followed); `None` if something else is there.
pub(crate) fn block_number(path: &Path) -> io::Result<Option<DevNumber>> {
    let metadata = fs::metadata(path)?;
    Ok(metadata.file_type().is_block_device().then(|| dev_number(metadata.rdev())))
}

/// The content of a small file, trimmed; `None` if there is none or it cannot be read.
pub(crate) fn read_trimmed(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(64 << 10).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}

/// Takes the lock that makes udev leave a block device alone while we write to it (systemd's `BLOCK_DEVICE_LOCKING`), until
/// the file is closed. udev probes for a moment only: waits at most two seconds and then goes on without.
pub(crate) fn keep_udev_away(device: &File) {
    use rustix::fs::{FlockOperation, flock};
    let end = Instant::now() + Duration::from_secs(2);
    while flock(device, FlockOperation::NonBlockingLockExclusive).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Creates missing directories (mode 0700) and makes their entries durable.
fn make_directories(dir: &Path) -> io::Result<()> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let parent = dir.parent().ok_or(io::ErrorKind::NotFound)?;
    make_directories(parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => sync_directory(parent),
    }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn parent_of<'a>(what: &str, path: &'a Path) -> HostResult<&'a Path> {
    let parent = path.parent().filter(|parent| parent.is_absolute());
    parent.ok_or_else(|| error::invalid(what, "not an absolute path of a file"))
}

pub(crate) fn create_file(path: &Path, size: Bytes) -> HostResult<()> {
    let what = format!("create {}", path.display());
    let parent = parent_of(&what, path)?;
    let failed = |e: &io::Error| making(&*what, parent, e);
    make_directories(parent).map_err(|e| failed(&e))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|e| failed(&e))?;
    let made = file.set_len(size.get()).and_then(|()| file.sync_all()).and_then(|()| sync_directory(parent));
    made.map_err(|e| {
        let _ = fs::remove_file(path);
        failed(&e)
    })
}

/// Deletes a regular file and makes that durable.
pub(crate) fn delete_file(path: &Path) -> HostResult<()> {
    let what = format!("delete {}", path.display());
    let parent = parent_of(&what, path)?;
    let metadata = fs::symlink_metadata(path).map_err(|e| error::io(&*what, &e))?;
    if !metadata.is_file() {
        return Err(error::invalid(what, "not a regular file"));
    }
    fs::remove_file(path).and_then(|()| sync_directory(parent)).map_err(|e| error::io(&*what, &e))
}

pub(crate) fn path_exists(path: &Path) -> HostResult<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(error::io(format!("look for {}", path.display()), &e)),
    }
}

/// The remembered files, then the `*.img` in the state directory; each once.
pub(crate) fn backing_files(state_dir: &Path) -> HostResult<Vec<PathBuf>> {
    let mut files = read_list(&state_dir.join(LIST))?;
    match fs::read_dir(state_dir) {
        Ok(entries) => {
            let mut images: Vec<PathBuf> = entries
                .filter_map(Result::ok)
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "img"))
                .collect();
            images.sort();
            files.append(&mut images);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(error::io(format!("list {}", state_dir.display()), &e)),
    }
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

fn read_list(list: &Path) -> HostResult<Vec<PathBuf>> {
    let what = format!("read {}", list.display());
    let mut text = Vec::new();
    match File::open(list).and_then(|file| file.take(LIST_MAX).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(error::io(what, &e)),
    }
    use std::os::unix::ffi::OsStrExt;
    let lines = text.split(|byte| *byte == b'\n').map(|line| Path::new(std::ffi::OsStr::from_bytes(line)));
    Ok(lines.filter(|path| path.is_absolute()).map(Path::to_path_buf).collect())
}

/// Replaces the list: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn remember_backing_files(state_dir: &Path, files: &[PathBuf]) -> HostResult<()> {
    use std::os::unix::ffi::OsStrExt;
    let list = state_dir.join(LIST);
    let what = format!("write {}", list.display());
    let mut text = Vec::new();
    for file in files {
        let bytes = file.as_os_str().as_bytes();
        if !file.is_absolute() || bytes.contains(&b'\n') {
            return Err(error::invalid(
                what,
                format!("{} cannot be remembered: not absolute, or two lines", file.display()),
            ));
        }
        text.extend_from_slice(bytes);
        text.push(b'\n');
    }
    if u64::try_from(text.len()).is_ok_and(|len| len > LIST_MAX) {
        return Err(HostError::new(HostErrorKind::NoSpace, what, "too many files to remember"));
    }
    let temporary = state_dir.join(".backing-files.new");
    let write = || -> io::Result<()> {
        make_directories(state_dir)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &list)?;
        sync_directory(state_dir)
    };
    write().map_err(|e| making(what, state_dir, &e))
}

/// The error of something that was to be made in a directory: where no room is left it is said where room is to be made.
fn making(what: impl Into<String>, dir: &Path, e: &io::Error) -> HostError {
    let mut error = error::io(what, e);
    if error.kind == HostErrorKind::NoSpace {
        error.detail.push_str(&format!("; make room on the file system that {} is on", dir.display()));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_once_with_the_images_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(backing_files(&state).unwrap(), Vec::<PathBuf>::new());
        create_file(&state.join("b.img"), Bytes::mib(1)).unwrap();
        let files = [PathBuf::from("/data/a b.img"), state.join("b.img")];
        remember_backing_files(&state, &files).unwrap();
        assert_eq!(backing_files(&state).unwrap(), files);
        remember_backing_files(&state, &[]).unwrap();
        assert_eq!(backing_files(&state).unwrap(), [state.join("b.img")]);
    }

    #[test]
    fn a_file_is_made_sparse_private_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/dir/disk.img");
        create_file(&path, Bytes::gib(4)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.blocks(), metadata.mode() & 0o777), (4 << 30, 0, 0o600));
        assert_eq!(create_file(&path, Bytes::gib(4)).unwrap_err().kind, HostErrorKind::Exists);
        assert!(path_exists(&path).unwrap());
        delete_file(&path).unwrap();
        assert!(!path_exists(&path).unwrap());
        assert_eq!(delete_file(&path).unwrap_err().kind, HostErrorKind::NotFound);
        assert_eq!(delete_file(dir.path()).unwrap_err().kind, HostErrorKind::Invalid);
    }

    #[test]
    fn a_path_that_would_become_two_lines_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let bad = [PathBuf::from("/data/a\n/etc/shadow")];
        assert_eq!(remember_backing_files(dir.path(), &bad).unwrap_err().kind, HostErrorKind::Invalid);
        assert_eq!(create_file(Path::new("relative.img"), Bytes::mib(1)).unwrap_err().kind, HostErrorKind::Invalid);
    }
}
