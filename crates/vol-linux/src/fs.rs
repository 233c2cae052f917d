//! File systems that are there: their superblocks, and the tools that grow and check them.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, mkdirat, openat, syncfs, unlinkat};
use vol_core::observed::{DevNumber, FsCheck, FsState, FsVerdict};
use vol_engine::host::{HostError, HostErrorKind, HostResult};
use vol_types::{Bytes, FsKind, RootDir};

use crate::disk::{self, Access};
use crate::{dm, error, files, mount, tool};

/// How long udev, or a mount that was just undone, may still hold a device that is to be checked.
const EXCLUSIVE_PATIENCE: Duration = Duration::from_secs(2);
/// How much of a superblock is read.
const SUPERBLOCK: usize = 4096;

/// The superblock as it stands on the device; of a mounted XFS the kernel is asked, which writes it down only later.
pub(crate) fn state(dev: DevNumber, fs: FsKind, at: Option<&Path>) -> HostResult<FsState> {
    let node = dm::node(dev);
    let what = format!("read the superblock on {}", node.display());
    if let (FsKind::Xfs, Some(at)) = (fs, at) {
        return xfs_geometry(&what, &mount::open_mounted(&what, dev, at)?);
    }
    let device = disk::open(&node, Access::Read, 0)?;
    if disk::identity(&what, &device)?.dev != dev {
        return Err(error::changed(what, "another device has the node"));
    }
    let mut block = [0; SUPERBLOCK];
    let offset = if fs == FsKind::Btrfs { 64 << 10 } else { 0 };
    device.read_exact_at(&mut block, offset).map_err(|e| error::block(&*what, &e))?;
    parse(fs, &block).ok_or_else(|| error::invalid(what, format!("there is no superblock of {}", fs.as_str())))
}

/// Reads the first block of the device (ext4, XFS) or that at 64 KiB (btrfs): the size, and whether errors are marked. `None` if it is
/// no such superblock, or says what cannot be. Checksums are the tools' matter: all that hangs on this is whether one is run.
fn parse(fs: FsKind, block: &[u8]) -> Option<FsState> {
    fn bytes<const N: usize>(block: &[u8], at: usize) -> Option<[u8; N]> {
        block.get(at..at.checked_add(N)?)?.try_into().ok()
    }
    let (size, errors) = match fs {
        // `fs/ext4/ext4.h`, `struct ext4_super_block`, at 1024; little endian.
        FsKind::Ext4 => {
            let at = |offset: usize| 1024 + offset;
            if bytes(block, at(0x38))? != [0x53, 0xEF] {
                return None;
            }
            let log = u32::from_le_bytes(bytes(block, at(0x18))?);
            let incompatible = u32::from_le_bytes(bytes(block, at(0x60))?);
            let low = u32::from_le_bytes(bytes(block, at(0x04))?);
            let high = u32::from_le_bytes(bytes(block, at(0x150))?);
            // EXT4_FEATURE_INCOMPAT_64BIT
            let high = if incompatible & 0x80 == 0 { 0 } else { high };
            let blocks = u64::from(high) << 32 | u64::from(low);
            // EXT4_ERROR_FS
            let errors = u16::from_le_bytes(bytes(block, at(0x3A))?) & 2 != 0;
            (blocks.checked_mul(1024u64.checked_shl(log).filter(|size| *size <= 64 << 10)?)?, errors)
        }
        // `fs/xfs/libxfs/xfs_format.h`, `struct xfs_dsb`; big endian.
        FsKind::Xfs => {
            if bytes(block, 0)? != *b"XFSB" {
                return None;
            }
            let size = u32::from_be_bytes(bytes(block, 4)?);
            (u64::from_be_bytes(bytes(block, 8)?).checked_mul(u64::from(size))?, false)
        }
        // `include/uapi/linux/btrfs_tree.h`, `struct btrfs_super_block`; little endian.
        FsKind::Btrfs => {
            if bytes(block, 0x40)? != *b"_BHRfS_M" {
                return None;
            }
            (u64::from_le_bytes(bytes(block, 0x70)?), false)
        }
    };
    Some(FsState { size: Bytes(size), errors })
}

/// `struct xfs_fsop_geom_v1` (`fs/xfs/libxfs/xfs_fs.h`).
#[repr(C)]
#[derive(Default)]
struct XfsGeometry {
    block_size: u32,
    before: [u32; 7],
    data_blocks: u64,
    after: [u64; 3],
    uuid: [u8; 16],
    rest: [u32; 7],
}

fn xfs_geometry(what: &str, at: &File) -> HostResult<FsState> {
    const GET: libc::Ioctl = nix::request_code_read!(b'X', 100, size_of::<XfsGeometry>());
    let mut geometry = XfsGeometry::default();
    // SAFETY: the kernel writes one `struct xfs_fsop_geom_v1`, whose size is part of the request number, to the pointer; what
    // it points to has that layout and takes any bytes.
    let result = unsafe { libc::ioctl(at.as_raw_fd(), GET, &raw mut geometry) };
    Errno::result(result).map_err(|e| error::sys(what, e))?;
    let size = geometry.data_blocks.checked_mul(u64::from(geometry.block_size));
    let size = size.ok_or_else(|| error::invalid(what, "the kernel tells a size that cannot be"))?;
    Ok(FsState { size: Bytes(size), errors: false })
}

/// Makes the root directory of a new file system as it was asked for.
pub(crate) fn prepare_root(dev: DevNumber, dm_uuid: &str, fs: FsKind, root: &RootDir) -> HostResult<()> {
    let what = format!("make the root directory of the {} on {}", fs.as_str(), dm::node(dev).display());
    let device = tool::open_own(&what, dev, dm_uuid, Access::Read)?;
    // Whoever else mounted it would see what is half done.
    wait_until_unused(&dm::node(dev))?;
    let dir = mount::open_hidden(&what, dev, fs)?;
    let failed = |e: rustix::io::Errno| error::rustix(&*what, e);
    if root.empty {
        match unlinkat(&dir, "lost+found", AtFlags::REMOVEDIR) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    let mut mode = root.mode;
    let mut handed_out = None;
    if let Some(subdir) = &root.subdir {
        mkdirat(&dir, subdir.as_str(), Mode::from_raw_mode(0o755)).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        handed_out = Some(File::from(openat(&dir, subdir.as_str(), flags, Mode::empty()).map_err(failed)?));
        // Whatever mask the daemon runs with.
        mode = mode.or(Some(0o755));
    }
    let one = handed_out.as_ref().unwrap_or(&dir);
    // The owner first: a change of it may take bits of the mode away.
    if let Some(owner) = root.owner {
        let gid = owner.gid.map(Gid::from_raw);
        fchown(one, Some(Uid::from_raw(owner.uid)), gid).map_err(failed)?;
    }
    if let Some(mode) = mode {
        fchmod(one, Mode::from_raw_mode(mode.into())).map_err(failed)?;
    }
    syncfs(&dir).map_err(failed)?;
    drop((dir, handed_out));
    wait_until_unused(&dm::node(dev))?;
    device.sync_all().map_err(|e| error::block(format!("{what}: flush"), &e))
}

/// Grows a mounted file system to its device, by the tool that knows the format.
pub(crate) fn grow(dev: DevNumber, dm_uuid: &str, fs: FsKind, at: &Path) -> HostResult<()> {
    let node = dm::node(dev);
    let what = format!("grow the {} at {}", fs.as_str(), at.display());
    // As long as these are open it is this device, and it stays mounted.
    let device = tool::open_own(&what, dev, dm_uuid, Access::Read)?;
    let _mounted = mount::open_mounted(&what, dev, at)?;
    let size = disk::identity(&what, &device)?.size;
    let (name, arguments): (&str, Vec<OsString>) = match fs {
        FsKind::Ext4 => ("resize2fs", vec!["--".into(), node.into()]),
        FsKind::Xfs => ("xfs_growfs", vec!["-d".into(), "--".into(), at.into()]),
        FsKind::Btrfs => ("btrfs", vec!["filesystem".into(), "resize".into(), "--".into(), "max".into(), at.into()]),
    };
    let program = tool::find(&what, name, tool::package(fs))?;
    tool::run(&what, &program, &arguments, tool::limit(size))
}

/// Checks a file system that is not mounted.
pub(crate) fn check(dev: DevNumber, dm_uuid: &str, fs: FsKind, how: FsCheck) -> HostResult<FsVerdict> {
    let node = dm::node(dev);
    let what = format!("check the {} on {}", fs.as_str(), node.display());
    // For reading: a kernel may refuse to mount what somebody has open for writing (`CONFIG_BLK_DEV_WRITE_MOUNTED`).
    let device = tool::open_own(&what, dev, dm_uuid, Access::Read)?;
    files::keep_udev_away(&device);
    let size = disk::identity(&what, &device)?.size;
    let (name, arguments) = tool_of(&what, fs, how, &node)?;
    let program = tool::find(&what, name, tool::package(fs))?;
    wait_until_unused(&node)?;
    // e2fsck replays a journal itself, unless it is to change nothing; the others never do.
    let replayed = match (fs, how) {
        (FsKind::Ext4, FsCheck::Safe | FsCheck::Repair) => Ok(()),
        _ => mount::replay(&what, dev, fs),
    };
    wait_until_unused(&node)?;
    let (status, said) = tool::run_to_end(&what, &program, &arguments, tool::limit(size))?;
    let said = last_lines(&said);
    let verdict = match status.code() {
        Some(code) => verdict(fs, how, code, &said),
        None => None,
    };
    device.sync_all().map_err(|e| error::block(format!("{what}: flush"), &e))?;
    match (verdict, replayed) {
        (Some(FsVerdict::Clean), Err(error)) => {
            Ok(FsVerdict::Damaged(format!("{name} finds no errors, but it cannot be mounted: {error}")))
        }
        (Some(verdict), _) => Ok(verdict),
        (None, _) => Err(HostError::new(HostErrorKind::Tool, what, format!("{name}: {status}: {said}"))),
    }
}

fn tool_of(what: &str, fs: FsKind, how: FsCheck, node: &Path) -> HostResult<(&'static str, Vec<OsString>)> {
    let (name, flags): (_, &[&str]) = match (fs, how) {
        (FsKind::Ext4, FsCheck::Safe) => ("e2fsck", &["-f", "-p"]),
        (FsKind::Ext4, FsCheck::Look) => ("e2fsck", &["-f", "-n"]),
        (FsKind::Ext4, FsCheck::Repair) => ("e2fsck", &["-f", "-y"]),
        (FsKind::Xfs, FsCheck::Safe | FsCheck::Look) => ("xfs_repair", &["-n"]),
        (FsKind::Xfs, FsCheck::Repair) => ("xfs_repair", &[]),
        (FsKind::Btrfs, FsCheck::Safe | FsCheck::Look) => ("btrfs", &["check", "--readonly"]),
        (FsKind::Btrfs, FsCheck::Repair) => {
            return Err(HostError::new(HostErrorKind::Unsupported, what, "a btrfs is not repaired"));
        }
    };
    let mut arguments: Vec<OsString> = flags.iter().map(OsString::from).collect();
    arguments.push("--".into());
    arguments.push(node.into());
    Ok((name, arguments))
}

/// What an exit status means (`e2fsck(8)`, `xfs_repair(8)`, `btrfs-check(8)`); `None`: that it could not be checked.
fn verdict(fs: FsKind, how: FsCheck, code: i32, said: &str) -> Option<FsVerdict> {
    let (corrected, damaged) = (FsVerdict::Corrected(said.to_owned()), FsVerdict::Damaged(said.to_owned()));
    match (fs, how, code) {
        (FsKind::Xfs, FsCheck::Repair, 0) => Some(corrected),
        (_, _, 0) => Some(FsVerdict::Clean),
        // 1: corrected; 2: and the system is to be booted anew, which is for a mounted root. 4: some are left.
        (FsKind::Ext4, _, 1..=3) => Some(corrected),
        (FsKind::Ext4, _, 4..=7) => Some(damaged),
        // 2: there is a journal that cannot be replayed, and that only a person may give up.
        (FsKind::Xfs, _, 1 | 2) | (FsKind::Btrfs, _, 1) => Some(damaged),
        _ => None,
    }
}

/// What a tool said last, without what it says in any case.
pub(crate) fn last_lines(said: &str) -> String {
    let noise = |line: &&str| {
        let line = line.trim();
        line.is_empty() || line.starts_with("Phase ") || line.starts_with("- ") || line.starts_with("No modify flag")
    };
    let all: Vec<&str> = said.lines().filter(|line| !noise(line)).map(str::trim).collect();
    let last = all.get(all.len().saturating_sub(6)..).unwrap_or_default().join("; ");
    if last.is_empty() { said.trim().to_owned() } else { last }
}

/// `Busy` if the device is mounted, or claimed by something else, and stays so.
pub(crate) fn wait_until_unused(node: &Path) -> HostResult<()> {
    let end = Instant::now() + EXCLUSIVE_PATIENCE;
    loop {
        match disk::open(node, Access::Exclusive, 0) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind == HostErrorKind::Busy && Instant::now() < end => sleep(Duration::from_millis(10)),
            Err(e) => return Err(e),
        }
    }
}

/// `struct fstrim_range` (`include/uapi/linux/fs.h`).
#[repr(C)]
struct TrimRange {
    start: u64,
    len: u64,
    min_len: u64,
}

/// Discards all free space; the kernel says how much that was.
pub(crate) fn trim(dev: DevNumber, at: &Path) -> HostResult<Bytes> {
    const FITRIM: libc::Ioctl = nix::request_code_readwrite!(b'X', 121, size_of::<TrimRange>());
    let what = format!("trim {}", at.display());
    let dir = mount::open_mounted(&what, dev, at)?;
    let mut range = TrimRange { start: 0, len: u64::MAX, min_len: 0 };
    // SAFETY: the kernel reads and writes one `struct fstrim_range`, whose size is part of the request number, at the pointer.
    let result = unsafe { libc::ioctl(dir.as_raw_fd(), FITRIM, &raw mut range) };
    Errno::result(result).map_err(|e| error::sys(what, e))?;
    Ok(Bytes(range.len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_and_the_mark_of_errors_stand_in_the_superblock() {
        let mut ext4 = vec![0; SUPERBLOCK];
        ext4[1024 + 0x38..1024 + 0x3A].copy_from_slice(&[0x53, 0xEF]);
        ext4[1024 + 4..1024 + 8].copy_from_slice(&1000u32.to_le_bytes());
        ext4[1024 + 0x18] = 2;
        ext4[1024 + 0x150] = 1;
        assert_eq!(parse(FsKind::Ext4, &ext4), Some(FsState { size: Bytes(1000 * 4096), errors: false }));
        ext4[1024 + 0x60] = 0x80;
        ext4[1024 + 0x3A] = 3;
        let size = Bytes(((1 << 32) + 1000) * 4096);
        assert_eq!(parse(FsKind::Ext4, &ext4), Some(FsState { size, errors: true }));
        let mut xfs = vec![0; SUPERBLOCK];
        xfs[..4].copy_from_slice(b"XFSB");
        xfs[4..8].copy_from_slice(&4096u32.to_be_bytes());
        xfs[8..16].copy_from_slice(&77u64.to_be_bytes());
        assert_eq!(parse(FsKind::Xfs, &xfs).unwrap().size, Bytes(77 * 4096));
        let mut btrfs = vec![0; SUPERBLOCK];
        btrfs[0x40..0x48].copy_from_slice(b"_BHRfS_M");
        btrfs[0x70..0x78].copy_from_slice(&(5u64 << 30).to_le_bytes());
        assert_eq!(parse(FsKind::Btrfs, &btrfs).unwrap().size, Bytes::gib(5));
    }

    #[test]
    fn what_is_no_superblock_is_none_of_any_kind() {
        for fs in [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs] {
            assert_eq!(parse(fs, &[0; SUPERBLOCK]), None);
            assert_eq!(parse(fs, &[0xFF; SUPERBLOCK]), None);
            assert_eq!(parse(fs, &[]), None);
        }
        // A magic number alone, with what cannot be behind it.
        let mut ext4 = vec![0xFF; SUPERBLOCK];
        ext4[1024 + 0x38..1024 + 0x3A].copy_from_slice(&[0x53, 0xEF]);
        assert_eq!(parse(FsKind::Ext4, &ext4), None);
        let mut xfs = vec![0xFF; SUPERBLOCK];
        xfs[..4].copy_from_slice(b"XFSB");
        assert_eq!(parse(FsKind::Xfs, &xfs), None);
    }

    #[test]
    fn exit_codes_mean_what_the_manuals_say() {
        use FsCheck::{Look, Repair, Safe};
        let clean = |fs, how, code| verdict(fs, how, code, "") == Some(FsVerdict::Clean);
        let corrected = |fs, how, code| matches!(verdict(fs, how, code, ""), Some(FsVerdict::Corrected(_)));
        let damaged = |fs, how, code| matches!(verdict(fs, how, code, ""), Some(FsVerdict::Damaged(_)));
        assert!(clean(FsKind::Ext4, Safe, 0) && clean(FsKind::Xfs, Look, 0) && clean(FsKind::Btrfs, Safe, 0));
        assert!(
            corrected(FsKind::Ext4, Safe, 1) && corrected(FsKind::Ext4, Repair, 3) && corrected(FsKind::Xfs, Repair, 0)
        );
        assert!(damaged(FsKind::Ext4, Safe, 4) && damaged(FsKind::Ext4, Look, 4) && damaged(FsKind::Xfs, Look, 1));
        assert!(damaged(FsKind::Xfs, Repair, 2) && damaged(FsKind::Btrfs, Look, 1));
        for code in [8, 12, 16, 32, 128] {
            assert_eq!(verdict(FsKind::Ext4, Safe, code, ""), None, "{code}");
        }
    }

    #[test]
    fn of_what_a_tool_said_the_last_lines_that_matter_are_kept() {
        let said = "Phase 1 - find and verify superblock...\n        - agno = 0\nbad magic in inode 133\nNo modify flag set, skipping";
        assert_eq!(last_lines(said), "bad magic in inode 133");
        assert_eq!(last_lines("1\n2\n3\n4\n5\n6\n7\n"), "2; 3; 4; 5; 6; 7");
        assert_eq!(last_lines("Phase 1 -"), "Phase 1 -");
    }
}
