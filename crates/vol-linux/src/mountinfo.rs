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
    /// It is in a peer group, or receives what is mounted in one: `shared:1`, `master:1`.
    pub(crate) propagated: bool,
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

/// Why mounts that this process makes are not seen by process 1, and so by nobody else on the host; `None` if they are.
///
/// Told from the mount tables, which anybody may read (`/proc/1/ns/mnt` needs the right to trace process 1): the number of a mount is
/// that of one namespace alone, and a copy of a namespace passes its mounts on only if its root is in the same peer group
/// (`mount_namespaces(7)`, *Shared subtrees*).
///
/// # Errors
/// A mount table cannot be read, or has no root.
pub fn hidden_from_init() -> io::Result<Option<String>> {
    let root_of = |pid: &str| {
        let mut text = Vec::with_capacity(ROOM);
        File::open(format!("/proc/{pid}/mountinfo"))?.read_to_end(&mut text)?;
        root(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it has no root"))
    };
    Ok(hidden(&root_of("self")?, &root_of("1")?))
}

/// The mount that a namespace's root is.
#[derive(Debug, PartialEq, Eq)]
struct Root {
    mount_id: u64,
    /// `shared:1`, `master:1` …
    optional: Vec<String>,
}

fn root(table: &[u8]) -> Option<Root> {
    let line = |line: &[u8]| {
        let text = String::from_utf8_lossy(line);
        let mut fields = text.split(' ');
        let mount_id = fields.next()?.parse().ok()?;
        // Parent, number, root, mount point, options; what follows ends with a dash.
        (fields.nth(3)? == "/").then_some(())?;
        let optional = fields.skip(1).take_while(|field| *field != "-").map(str::to_owned).collect();
        Some(Root { mount_id, optional })
    };
    // What was mounted last on it is on top.
    table.split(|byte| *byte == b'\n').filter_map(line).next_back()
}

fn hidden(ours: &Root, init: &Root) -> Option<String> {
    let group = |root: &Root| root.optional.iter().find(|field| field.starts_with("shared:")).cloned();
    if ours.mount_id == init.mount_id || (group(ours).is_some() && group(ours) == group(init)) {
        return None;
    }
    let is = if ours.optional.iter().any(|field| field.starts_with("master:")) {
        "a slave of the host's: mounts come in, and none go out"
    } else {
        "cut off from the host's"
    };
    Some(format!("volumed runs in a mount namespace of its own, which is {is}"))
}

/// Puts in the number of the device where the file system has an anonymous one (btrfs): only the source tells. And that of a dm device
/// whose node is mounted somewhere, which is of the file system that all nodes are of.
fn resolve(line: &mut Line) {
    if line.mount.is_node() {
        if let Some(node) = shown_node(&line.mount)
            && let Ok(Some(dev)) = files::block_number(&node)
        {
            line.mount.dev = dev;
        }
        return;
    }
    if line.mount.dev.major != 0 || !line.source.starts_with("/dev") {
        return;
    }
    if let Ok(Some(dev)) = files::block_number(&line.source) {
        line.mount.dev = dev;
    }
}

/// The node of a dm device that a mount shows alone; also one that is gone, for its number may be another device's by now.
fn shown_node(mount: &Mount) -> Option<PathBuf> {
    let root = mount.root.to_str()?;
    let number = root.strip_suffix("//deleted").unwrap_or(root).strip_prefix("/dm-")?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| PathBuf::from(format!("/dev/dm-{number}")))
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
    let mut propagated = false;
    fields.by_ref().find(|field| {
        propagated |= field.starts_with(b"shared:") || field.starts_with(b"master:");
        *field == b"-"
    })?;
    let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = path(fields.next()?);
    let super_options = fields.next().unwrap_or_default();
    let read_only = [mount_options, super_options].iter().any(|o| o.split(|byte| *byte == b',').any(|o| o == b"ro"));
    let dev = DevNumber { major: major.parse().ok()?, minor: minor.parse().ok()? };
    Some(Line { mount: Mount { mount_id, dev, root, target, fs_type, read_only }, source, propagated })
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
        assert_eq!(lines.iter().map(|line| line.propagated).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(lines[0].source, Path::new("/dev/root"));
        assert_eq!(lines[1].mount.target, Path::new("/var/lib/a b\\c"));
        assert!(lines[1].mount.read_only);
    }

    #[test]
    fn a_mount_of_a_dm_devices_node_is_told_from_those_of_others_and_of_all_nodes() {
        let lines = parse(
            b"25 22 0:5 / /dev rw - devtmpfs dev rw\n\
              90 22 0:5 /dm-7 /a rw - devtmpfs dev rw\n\
              91 22 0:5 /dm-8//deleted /b ro - devtmpfs dev rw\n\
              92 22 0:5 /sda /c rw - devtmpfs dev rw\n\
              93 22 0:5 /dm-x /d rw - devtmpfs dev rw\n",
        );
        let shown: Vec<_> = lines.iter().map(|line| shown_node(&line.mount)).collect();
        assert_eq!(shown, [None, Some("/dev/dm-7".into()), Some("/dev/dm-8".into()), None, None]);
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
    fn mounts_are_seen_by_process_1_in_its_namespace_and_in_one_of_the_same_peer_group() {
        let init =
            root(b"22 1 0:20 / / rw shared:1 - ext4 /dev/sda rw\n30 22 0:5 / /dev rw shared:2 - tmpfs x rw\n").unwrap();
        assert_eq!(init, Root { mount_id: 22, optional: vec!["shared:1".into()] });
        let of = |fields: &str| root(format!("90 80 0:20 / / rw {fields}- ext4 /dev/sda rw").as_bytes()).unwrap();
        assert_eq!(hidden(&init, &init), None);
        assert_eq!(hidden(&of("shared:1 "), &init), None);
        assert!(hidden(&of("master:1 "), &init).unwrap().contains("none go out"));
        assert!(hidden(&of("shared:9 master:1 "), &init).unwrap().contains("none go out"));
        assert!(hidden(&of(""), &init).unwrap().contains("cut off"));
        // Private as well: in the same namespace that is of no matter, in another it is.
        assert!(hidden(&of(""), &root(b"22 1 0:20 / / rw - ext4 /dev/sda rw").unwrap()).is_some());
        assert_eq!(root(b"nonsense\n22 1 0:20 / /srv rw - ext4 /dev/sda rw\n"), None);
    }

    #[test]
    fn our_own_mount_table_has_a_root() {
        assert!(of_host().unwrap().iter().any(|line| line.mount.target == Path::new("/")));
    }
}
