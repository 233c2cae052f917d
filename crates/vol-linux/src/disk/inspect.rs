//! All there is to know of a device before it is touched.

use std::fs;
use std::path::{Path, PathBuf};

use vol_core::dm::UUID_PREFIX;
use vol_core::observed::{DevNumber, DiskIdentity, DiskInfo, DiskKind};
use vol_engine::host::{HostError, HostErrorKind, HostResult};

use super::{Access, identity, open, probe};
use crate::sysfs::SysDevice;
use crate::{error, files, mountinfo};

/// Devices on top of each other that are followed down; the kernel itself stacks no deeper in practice.
const STACK_MAX: u8 = 16;

/// Nodes of all block devices that may carry a PV; never our own dm devices, nor a suspended one, on which a read would wait.
pub(crate) fn block_devices() -> HostResult<Vec<PathBuf>> {
    let devices = SysDevice::all().map_err(|e| error::io("list /sys/class/block", &e))?;
    let wanted = |device: &SysDevice| device.may_be_pv() && !device.stands_on_own(STACK_MAX) && !device.suspended();
    let mut nodes: Vec<PathBuf> = devices.into_iter().filter(wanted).map(|device| device.node()).collect();
    nodes.sort();
    Ok(nodes)
}

/// What the kernel says of the device at a node, without opening it; `None` if it cannot carry a PV, or is not there.
pub(crate) fn disk_at(node: &Path) -> HostResult<Option<DiskIdentity>> {
    let what = || format!("look at {}", node.display());
    let dev = match files::block_number(node) {
        Ok(Some(dev)) => dev,
        Ok(None) => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error::io(what(), &e)),
    };
    let device = match SysDevice::of(dev) {
        Ok(device) => device,
        // The node of a disk that went may still be there for a moment.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error::io(what(), &e)),
    };
    if !device.is_kind_for_pv(dev) || device.stands_on_own(STACK_MAX) {
        return Ok(None);
    }
    device.identity(dev).map_err(|e| error::io(what(), &e))
}

pub(crate) fn inspect(path: &Path) -> HostResult<DiskInfo> {
    let what = format!("inspect {}", path.display());
    let canonical = fs::canonicalize(path).map_err(|e| error::io(&*what, &e))?;
    let file = open(&canonical, Access::Read, 0)?;
    let identity = identity(&what, &file)?;
    let device = SysDevice::of(identity.dev).map_err(|e| error::io(format!("{what}: look into sysfs"), &e))?;
    if device.suspended() {
        return Err(HostError::new(HostErrorKind::Busy, what, "it is a suspended dm device: every read would wait"));
    }
    let dm_uuid = device.dm_uuid();
    let partitions = device.partitions();
    let disk = device.disk();
    // What a user wrote inside a volume is not looked at.
    let signatures = match &dm_uuid {
        Some(uuid) if uuid.starts_with(UUID_PREFIX) => Vec::new(),
        _ => probe::signatures(&what, &file)?,
    };
    let mut numbers = vec![identity.dev];
    numbers.extend(partitions.iter().filter_map(SysDevice::number));
    let mounts = mountinfo::of_host().map_err(|e| error::io(format!("{what}: read the mount table"), &e))?;
    let mut holders: Vec<String> = device.holders();
    holders.extend(partitions.iter().flat_map(SysDevice::holders));
    holders.dedup();
    let kind = match (&disk, device.loop_file()) {
        (Some(disk), _) => match disk.number() {
            Some(of) => DiskKind::Partition { of },
            None => return Err(error::changed(what, "its disk vanished")),
        },
        (None, Some(file)) => DiskKind::Loop { file },
        (None, None) => DiskKind::Whole,
    };
    Ok(DiskInfo {
        path: path.to_path_buf(),
        node: node_of(&device, &canonical, identity.dev),
        sector_size: rustix::fs::ioctl_blksszget(&file).map_err(|e| error::rustix(&*what, e))?,
        read_only: device.read_only(),
        hardware_id: device.hardware_id(),
        mounts: mounts
            .into_iter()
            .filter(|line| numbers.contains(&line.mount.dev))
            .map(|line| line.mount.target)
            .collect(),
        swap: swaps().iter().any(|dev| numbers.contains(dev)),
        partitions: numbers.split_off(1),
        identity,
        kind,
        signatures,
        holders,
        dm_uuid,
    })
}

/// The kernel's own node where it is the same device, else the path with its links resolved.
fn node_of(device: &SysDevice, canonical: &Path, dev: DevNumber) -> PathBuf {
    let node = device.node();
    match files::block_number(&node) {
        Ok(Some(found)) if found == dev => node,
        _ => canonical.to_path_buf(),
    }
}

/// The devices that are swap in use.
fn swaps() -> Vec<DevNumber> {
    let Ok(text) = fs::read("/proc/swaps") else { return Vec::new() };
    swap_paths(&text).iter().filter_map(|path| files::block_number(path).ok().flatten()).collect()
}

/// `Filename Type Size Used Priority`, one line per swap area after the heading (`proc_swaps(5)`).
fn swap_paths(text: &[u8]) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    text.split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(|line| line.split(|byte| matches!(byte, b' ' | b'\t')).next())
        .filter(|path| path.starts_with(b"/"))
        .map(|path| PathBuf::from(std::ffi::OsString::from_vec(mountinfo::unescape(path))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_areas_are_read() {
        let text = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
            /dev/sda2                               partition\t2097148\t\t0\t\t-2\n/swap\\040file file\t8\t0\t-3\n";
        assert_eq!(swap_paths(text), [PathBuf::from("/dev/sda2"), PathBuf::from("/swap file")]);
        assert_eq!(swap_paths(b""), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_is_no_block_device_is_invalid_and_what_is_not_there_is_not_found() {
        assert_eq!(inspect(Path::new("/dev/null")).unwrap_err().kind, HostErrorKind::Invalid);
        assert_eq!(inspect(Path::new("/etc")).unwrap_err().kind, HostErrorKind::Invalid);
        assert_eq!(inspect(Path::new("/dev/no-such-disk")).unwrap_err().kind, HostErrorKind::NotFound);
    }
}
