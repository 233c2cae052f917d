//! The mount table, `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`).
//!
//! Parsed as bytes: a mount point is any bytes but zero, and one odd line must not hide the others.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use vol_core::observed::{DevNumber, Mount};

use crate::files;

/// One line, with the source as it was given to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) mount: Mount,
    pub(crate) source: PathBuf,
}

/// Bytes that the mounts of most hosts fit in.
const ROOM: usize = 32 << 10;

/// The mounts of a process's namespace, with devices resolved.
pub(crate) fn of_process(pid: &str) -> io::Result<Vec<Line>> {
    // Proc tells no size: without room for it all it would be read in ever larger pieces, of which the first has 32 bytes.
    let mut text = Vec::with_capacity(ROOM);
    File::open(format!("/proc/{pid}/mountinfo"))?.read_to_end(&mut text)?;
    let mut lines = parse(&text);
    for line in &mut lines {
        resolve(line);
    }
    Ok(lines)
}

/// The mounts of the host's namespace: that of process 1 if we may look, else our own.
pub(crate) fn of_host() -> io::Result<Vec<Line>> {
    of_process("1").or_else(|_| of_process("self"))
}

/// Whether this process has the mount namespace of process 1, in which what it mounts is seen by the host. Ids of mounts are
/// unique among all namespaces, and `mountinfo` may be read where the link `ns/mnt` may not.
///
/// # Errors
/// `/proc` cannot be read.
pub fn in_namespace_of_host() -> io::Result<bool> {
    let own = of_process("self")?;
    let hosts = of_process("1")?;
    Ok(own.iter().any(|line| hosts.iter().any(|other| other.mount.mount_id == line.mount.mount_id)))
}

/// Puts in the number of the device where the file system has an anonymous one (btrfs): only the source tells.
fn resolve(line: &mut Line) {
    if line.mount.dev.major != 0 || !line.source.starts_with("/dev") {
        return;
    }
    if let Ok(Some(dev)) = files::block_number(&line.source) {
        line.mount.dev = dev;
    }
}

pub(crate) fn parse(text: &[u8]) -> Vec<Line> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mount_id = number(fields.next()?)?;
    let _parent = fields.next()?;
    let dev = std::str::from_utf8(fields.next()?).ok()?;
    let (major, minor) = dev.split_once(':')?;
    let root = path(fields.next()?);
    let target = path(fields.next()?);
    let mount_options = fields.next()?;
    // Optional fields end with a dash.
    fields.by_ref().find(|field| *field == b"-")?;
    let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = path(fields.next()?);
    let super_options = fields.next().unwrap_or_default();
    let read_only = [mount_options, super_options].iter().any(|o| o.split(|byte| *byte == b',').any(|o| o == b"ro"));
    let dev = DevNumber { major: major.parse().ok()?, minor: minor.parse().ok()? };
    Some(Line { mount: Mount { mount_id, dev, root, target, fs_type, read_only }, source })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Space, tab, newline and backslash are written as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// Also the way `/proc/swaps` writes paths.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            digits.iter().try_fold(0u32, |value, digit| {
                (b'0'..=b'7').contains(digit).then(|| value * 8 + u32::from(digit - b'0'))
            })
        };
        let escaped = (byte == b'\\').then(|| after.get(..3).and_then(octal)).flatten();
        match escaped.and_then(|value| u8::try_from(value).ok()) {
            Some(value) => {
                out.push(value);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_line_is_read_with_its_optional_fields() {
        let lines = parse(
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n\
              52 29 253:4 / /var/lib/a\\040b\\134c ro,nosuid,nodev - xfs /dev/dm-4 ro,attr2\n\
              60 29 0:45 / /data rw shared:3 - btrfs /nowhere/sdb rw\n",
        );
        assert_eq!(lines.len(), 3);
        let mount = &lines[0].mount;
        assert_eq!((mount.mount_id, mount.dev), (36, DevNumber { major: 98, minor: 0 }));
        assert_eq!((mount.target.as_path(), mount.fs_type.as_str()), (Path::new("/mnt2"), "ext3"));
        assert_eq!((mount.root.as_path(), lines[1].mount.root.as_path()), (Path::new("/mnt1"), Path::new("/")));
        assert!(!mount.read_only);
        assert_eq!(lines[0].source, Path::new("/dev/root"));
        assert_eq!(lines[1].mount.target, Path::new("/var/lib/a b\\c"));
        assert!(lines[1].mount.read_only);
    }

    #[test]
    fn a_broken_line_does_not_hide_the_others() {
        let lines = parse(b"nonsense\n1 2 x:y / / rw - a b c\n1 2 8:1 / /\xff rw - ext4 /dev/sda1 rw\n1 2 8:2\n\n");
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].mount.dev, DevNumber { major: 8, minor: 1 });
    }

    #[test]
    fn an_escape_is_undone_and_what_is_none_stays() {
        assert_eq!(unescape(b"a\\040b"), b"a b");
        assert_eq!(unescape(b"a\\0"), b"a\\0");
        assert_eq!(unescape(b"a\\999\\"), b"a\\999\\");
        assert_eq!(unescape(b"\\777"), b"\\777");
    }

    #[test]
    fn our_own_mount_table_has_a_root() {
        assert!(of_host().unwrap().iter().any(|line| line.mount.target == Path::new("/")));
    }
}
