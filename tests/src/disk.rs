//! The disks that a test may destroy: cleaning them, remembering what is on them, putting things on them.

use crate::tool::{attempt, run, settle, try_run};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How much of each end is zeroed before a test.
const WIPED: u64 = 2 << 20;
/// How much of each end is compared to see that nothing was written.
const COMPARED: u64 = 8 << 20;

/// Both ends of a disk as they were.
#[derive(PartialEq, Eq)]
pub struct Bytes {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Bytes {
    /// Reads both ends.
    pub fn of(disk: &str) -> Bytes {
        let mut file = File::open(disk).unwrap_or_else(|err| panic!("{disk}: {err}"));
        let size = file.seek(SeekFrom::End(0)).unwrap();
        let len = COMPARED.min(size);
        let mut read = |at: u64| {
            let mut bytes = vec![0; len as usize];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut bytes).unwrap_or_else(|err| panic!("{disk} at {at}: {err}"));
            bytes
        };
        Bytes { head: read(0), tail: read(size - len) }
    }

    /// Where the first difference is.
    pub fn difference(&self, other: &Bytes) -> Option<String> {
        // As a whole at first: this is built without optimization.
        let differs = |a: &[u8], b: &[u8]| if a == b { None } else { a.iter().zip(b).position(|(a, b)| a != b) };
        if let Some(at) = differs(&self.head, &other.head) {
            return Some(format!("byte {at}"));
        }
        let at = differs(&self.tail, &other.tail)?;
        Some(format!("byte {} before the end", self.tail.len() - at))
    }
}

/// The first byte that is another than `byte`. As fast as memcmp where there is none, which byte by byte it is not: this is built without
/// optimization, and the guests' processors are slow.
pub fn first_other(bytes: &[u8], byte: u8) -> Option<usize> {
    let all_same =
        bytes.first().is_none_or(|first| *first == byte) && bytes.get(1..) == bytes.split_last().map(|(_, rest)| rest);
    if all_same { None } else { bytes.iter().position(|other| *other != byte) }
}

pub fn size(disk: &str) -> u64 {
    File::open(disk).and_then(|mut file| file.seek(SeekFrom::End(0))).unwrap_or_else(|err| panic!("{disk}: {err}"))
}

/// The kernel's name of a disk: `sdb` for a link to /dev/sdb.
pub fn kernel_name(disk: &str) -> String {
    let node = fs::canonicalize(disk).unwrap_or_else(|err| panic!("{disk}: {err}"));
    node.file_name().unwrap().to_string_lossy().into_owned()
}

/// Zeroes a part of a disk as it is kept for a PV, in bytes: its first 16 MiB (labels, log, checkpoints) and its last 2 MiB. No mark and
/// no label of an earlier test is found there.
pub fn blank_pv(disk: &str, at: u64, len: u64) {
    let file = File::options().write(true).open(disk).unwrap_or_else(|err| panic!("{disk}: {err}"));
    file.write_all_at(&vec![0; 16 << 20], at).unwrap();
    file.write_all_at(&vec![0; WIPED as usize], at + len - WIPED).unwrap();
    file.sync_all().unwrap();
}

/// Takes everything off disks that may be destroyed: mounts, swap, dm devices on top, signatures, partitions.
pub fn clean(disks: &[String]) {
    for disk in disks {
        try_run("blockdev", &["--setrw", disk]);
        for (name, class) in with_partitions(disk) {
            release(&name);
            take_down(&class);
        }
        let zero = || -> std::io::Result<()> {
            let file = File::options().write(true).open(disk)?;
            let zeroes = vec![0; WIPED as usize];
            file.write_all_at(&zeroes, 0)?;
            file.write_all_at(&zeroes, size(disk) - WIPED)?;
            file.sync_all()
        };
        zero().unwrap_or_else(|err| panic!("cannot wipe {disk}: {err}"));
        run("wipefs", &["--all", "--force", "--quiet", disk]);
        if with_partitions(disk).len() > 1 {
            reread(disk);
        }
    }
}

/// The kernel's name and sysfs folder of a disk and of each of its partitions.
fn with_partitions(disk: &str) -> Vec<(String, PathBuf)> {
    let name = kernel_name(disk);
    let class = Path::new("/sys/class/block").join(&name);
    let mut parts = vec![(name, class.clone())];
    for entry in fs::read_dir(&class).into_iter().flatten().flatten() {
        if entry.path().join("partition").exists() {
            parts.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    parts
}

/// Lets the kernel look for partitions again.
pub fn reread(disk: &str) {
    for _ in 0..400 {
        if try_run("blockdev", &["--rereadpt", disk]) {
            return;
        }
        // udev is looking at it.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the kernel does not look at {disk} again: it is in use");
}

/// Unmounts a device and stops swapping on it.
fn release(name: &str) {
    let node = format!("/dev/{name}");
    for _ in 0..8 {
        let at = attempt("findmnt", &["--noheadings", "--raw", "--output", "TARGET", "--source", &node]);
        let Some(target) = at.and_then(|out| String::from_utf8(out.stdout).ok()?.lines().next().map(str::to_owned))
        else {
            break;
        };
        try_run("umount", &[&target]);
    }
    if fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.contains(&format!("{node} "))) {
        try_run("swapoff", &[&node]);
    }
}

/// Removes the dm devices that stand on a block device, uppermost first. No other one.
fn take_down(class: &Path) {
    let holders: Vec<PathBuf> =
        fs::read_dir(class.join("holders")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    for holder in holders {
        let Ok(holder) = fs::canonicalize(holder) else { continue };
        let node = holder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(name) = fs::read_to_string(holder.join("dm/name")) else { continue };
        // A suspended device would let everything above it wait.
        try_run("dmsetup", &["resume", name.trim()]);
        release(&node);
        take_down(&holder);
        try_run("dmsetup", &["remove", "--retry", name.trim()]);
    }
}

/// A loop device over a file.
pub fn attach_loop(file: &Path, options: &[&str]) -> String {
    let file = file.to_str().unwrap();
    let mut args = vec!["--find", "--show"];
    args.extend(options);
    args.push(file);
    let node = run("losetup", &args).trim().to_owned();
    settle();
    node
}

/// Detaches the loop devices over files in `dir`. One that udev looks at just then goes when that is over (`loop(4)`): it is waited for.
pub fn detach_loops(dir: &Path) {
    for _ in 0..20 {
        let list = attempt("losetup", &["--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"]);
        let Some(list) = list else { return };
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let lines = list.lines().filter_map(|line| line.split_once(' '));
        let ours: Vec<_> = lines.filter(|(_, file)| Path::new(file).starts_with(dir)).collect();
        if ours.is_empty() {
            return;
        }
        for (node, _) in ours {
            take_down(&Path::new("/sys/class/block").join(kernel_name(node)));
            try_run("losetup", &["--detach", node]);
        }
        settle();
    }
}

/// A GUID partition table (UEFI 2.10, section 5) with one partition from 1 MiB on of 64 MiB, for disks with sectors of 512 bytes.
pub fn write_gpt(disk: &str) {
    let last = size(disk) / 512 - 1;
    let mut entries = vec![0u8; 128 * 128];
    // Linux file system data, little-endian as in the table.
    entries[..16].copy_from_slice(&[
        0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
    ]);
    entries[16..32].copy_from_slice(&[7; 16]);
    entries[32..40].copy_from_slice(&2048u64.to_le_bytes());
    entries[40..48].copy_from_slice(&(2048u64 + 131_072 - 1).to_le_bytes());
    let header = |own: u64, other: u64, table: u64| {
        let mut header = vec![0u8; 512];
        header[..16].copy_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
        for (at, value) in [(24, own), (32, other), (40, 34), (48, last - 33), (72, table)] {
            header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        header[56..72].copy_from_slice(&[9; 16]);
        for (at, value) in [(80, 128), (84, 128), (88, crc32(&entries))] {
            header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let sum = crc32(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header
    };
    let mut mbr = vec![0u8; 512];
    mbr[450] = 0xee;
    mbr[454] = 1;
    mbr[458..462].copy_from_slice(&u32::try_from(last).unwrap_or(u32::MAX).to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    let writes = [
        (0, mbr),
        (1, header(1, last, 2)),
        (2, entries.clone()),
        (last - 32, entries.clone()),
        (last, header(last, 1, last - 32)),
    ];
    write(disk, &writes.map(|(sector, bytes)| (sector * 512, bytes)));
    reread(disk);
    settle();
}

/// An md superblock 1.2, as `drivers/md/md.c` has it: 4 KiB from the start, with a sound checksum.
pub fn write_md(disk: &str) {
    let mut sb = vec![0u8; 256];
    for (at, value) in [(0, 0xa92b_4efcu32), (4, 1), (72, 1)] {
        sb[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    sb[16..32].copy_from_slice(&[5; 16]);
    sb[32..39].copy_from_slice(b"lab:md0");
    sb[144..152].copy_from_slice(&8u64.to_le_bytes());
    let sum: u64 = sb.chunks(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap()))).sum();
    let folded = (sum as u32).wrapping_add((sum >> 32) as u32);
    sb[216..220].copy_from_slice(&folded.to_le_bytes());
    write(disk, &[(4096, sb)]);
    settle();
}

/// Writes through the page cache, and waits until it is on the disk.
pub fn write(disk: &str, writes: &[(u64, Vec<u8>)]) {
    let mut file = File::options().write(true).open(disk).unwrap_or_else(|err| panic!("{disk}: {err}"));
    for (at, bytes) in writes {
        file.seek(SeekFrom::Start(*at)).unwrap();
        file.write_all(bytes).unwrap();
    }
    file.sync_all().unwrap();
}

/// Reads `len` bytes at `at`, past the page cache of a moment ago.
pub fn take(disk: &str, at: u64, len: usize) -> Vec<u8> {
    let mut file = File::open(disk).unwrap_or_else(|err| panic!("{disk}: {err}"));
    file.seek(SeekFrom::Start(at)).unwrap();
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes).unwrap_or_else(|err| panic!("{disk} at {at}: {err}"));
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::{Bytes, first_other};

    #[test]
    fn the_first_byte_that_is_another_is_found_wherever_it_is() {
        assert_eq!(first_other(&[], 0), None);
        assert_eq!((first_other(&[0], 0), first_other(&[1], 0)), (None, Some(0)));
        assert_eq!((first_other(&[1; 9], 0), first_other(&[1; 9], 1)), (Some(0), None));
        for at in 0..4096 {
            let mut bytes = vec![7; 4096];
            bytes[at] = 8;
            assert_eq!(first_other(&bytes, 7), Some(at));
        }
    }

    #[test]
    fn where_two_ends_of_disks_differ_is_told() {
        let of = |head: &[u8], tail: &[u8]| Bytes { head: head.to_vec(), tail: tail.to_vec() };
        assert_eq!(of(b"abc", b"xyz").difference(&of(b"abc", b"xyz")), None);
        assert_eq!(of(b"abc", b"xyz").difference(&of(b"abd", b"xyz")).as_deref(), Some("byte 2"));
        assert_eq!(of(b"abc", b"xyz").difference(&of(b"abc", b"xzz")).as_deref(), Some("byte 2 before the end"));
    }

    #[test]
    fn the_checksum_is_the_one_of_ieee_802_3() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
