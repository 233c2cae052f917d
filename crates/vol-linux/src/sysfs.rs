//! What sysfs says of a block device (kernel `Documentation/ABI/stable/sysfs-block`).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use vol_core::dm::UUID_PREFIX;
use vol_core::observed::{DevNumber, DiskIdentity};
use vol_types::Bytes;

use crate::files;

/// The directory of one block device.
#[derive(Clone, Debug)]
pub(crate) struct SysDevice {
    dir: PathBuf,
}

impl SysDevice {
    pub(crate) fn of(dev: DevNumber) -> io::Result<Self> {
        Ok(Self { dir: fs::canonicalize(format!("/sys/dev/block/{dev}"))? })
    }

    /// All block devices, partitions included, in no order.
    pub(crate) fn all() -> io::Result<Vec<Self>> {
        let entries = fs::read_dir("/sys/class/block")?;
        // One that vanishes while we look is not there.
        Ok(entries.filter_map(|entry| fs::canonicalize(entry.ok()?.path()).ok()).map(|dir| Self { dir }).collect())
    }

    /// As [`SysDevice::attribute`]; that it cannot be read, for want of descriptors for example, is not that it is not there.
    fn read(&self, name: &str) -> io::Result<Option<String>> {
        match fs::read_to_string(self.dir.join(name)) {
            Ok(value) => Ok(Some(value.trim().to_owned())),
            // `ENODEV`: the device went while its file was open.
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What descriptors of it would say, by the kernel's word; `None` if it is gone, or without a medium. The number of the attachment
    /// is that of the whole disk.
    pub(crate) fn identity(&self, dev: DevNumber) -> io::Result<Option<DiskIdentity>> {
        let Some(sectors) = self.read("size")?.and_then(|size| size.parse::<u64>().ok()).filter(|size| *size > 0)
        else {
            return Ok(None);
        };
        let parent = self.dir.parent().map(Path::to_path_buf).filter(|_| self.dir.join("partition").exists());
        let whole = parent.map_or_else(|| self.clone(), |dir| Self { dir });
        let diskseq = whole.read("diskseq")?.and_then(|number| number.parse().ok());
        // Sectors of 512 bytes, whatever the disk's are.
        Ok(Some(DiskIdentity { dev, diskseq, size: Bytes(sectors.saturating_mul(512)) }))
    }

    /// Kernel name: `sda1`. (A `!` in it stands for a slash in the node's name.)
    pub(crate) fn name(&self) -> String {
        self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The node that devtmpfs makes.
    pub(crate) fn node(&self) -> PathBuf {
        Path::new("/dev").join(self.name().replace('!', "/"))
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        files::read_trimmed(&self.dir.join(name))
    }

    fn flag(&self, name: &str) -> bool {
        self.attribute(name).is_some_and(|value| value != "0")
    }

    pub(crate) fn number(&self) -> Option<DevNumber> {
        parse_number(&self.attribute("dev")?)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.attribute("size").is_none_or(|sectors| sectors == "0")
    }

    pub(crate) fn read_only(&self) -> bool {
        self.flag("ro")
    }

    /// Not to be opened by anybody: a path of an NVMe multipath device.
    pub(crate) fn hidden(&self) -> bool {
        self.flag("hidden")
    }

    pub(crate) fn dm_uuid(&self) -> Option<String> {
        self.attribute("dm/uuid")
    }

    /// A dm device on which every read waits.
    pub(crate) fn suspended(&self) -> bool {
        self.flag("dm/suspended")
    }

    /// The disk that this is a partition of.
    pub(crate) fn disk(&self) -> Option<Self> {
        self.attribute("partition")?;
        Some(Self { dir: self.dir.parent()?.to_path_buf() })
    }

    pub(crate) fn partitions(&self) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let mut found: Vec<Self> = entries
            .filter_map(Result::ok)
            .map(|entry| Self { dir: entry.path() })
            .filter(|device| device.dir.join("partition").exists())
            .collect();
        found.sort_by_key(Self::number);
        found
    }

    /// Kernel names of the devices on top, and `btrfs` for a member of a mounted btrfs of several devices.
    pub(crate) fn holders(&self) -> Vec<String> {
        let names = |dir: &Path| -> Vec<String> {
            let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
        };
        // People know a dm device by its name: `dm-0 (vg0-root)`.
        let known_as = |kernel: String| match fs::read_to_string(format!("/sys/block/{kernel}/dm/name")) {
            Ok(name) => format!("{kernel} ({})", name.trim_end()),
            Err(_) => kernel,
        };
        let mut holders: Vec<_> = names(&self.dir.join("holders")).into_iter().map(known_as).collect();
        let name = self.name();
        let member = |fs: &String| Path::new("/sys/fs/btrfs").join(fs).join("devices").join(OsStr::new(&name)).exists();
        holders.extend(names(Path::new("/sys/fs/btrfs")).into_iter().filter(member).map(|fs| format!("btrfs {fs}")));
        holders.sort();
        holders
    }

    /// Whether it is a dm device of ours, or stands on one by way of LUKS, LVM, RAID, partitions, or a file: what a user wrote
    /// inside a volume is not looked at, however it is dressed up.
    pub(crate) fn stands_on_own(&self, depth: u8) -> bool {
        let Some(deeper) = depth.checked_sub(1) else { return true };
        if self.dm_uuid().is_some_and(|uuid| uuid.starts_with(UUID_PREFIX)) {
            return true;
        }
        if self.disk().is_some_and(|disk| disk.stands_on_own(deeper)) {
            return true;
        }
        let file_on = self.loop_file().and_then(|file| {
            use std::os::unix::fs::MetadataExt;
            Self::of(crate::files::dev_number(fs::metadata(file).ok()?.dev())).ok()
        });
        if file_on.is_some_and(|disk| disk.stands_on_own(deeper)) {
            return true;
        }
        let Ok(below) = fs::read_dir(self.dir.join("slaves")) else { return false };
        below
            .flatten()
            .filter_map(|slave| {
                fs::read_to_string(Path::new("/sys/class/block").join(slave.file_name()).join("dev")).ok()
            })
            .filter_map(|number| Self::of(parse_number(&number)?).ok())
            .any(|slave| slave.stands_on_own(deeper))
    }

    /// The file of a loop device.
    pub(crate) fn loop_file(&self) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let mut path = fs::read(self.dir.join("loop/backing_file")).ok()?;
        while path.last() == Some(&b'\n') {
            path.pop();
        }
        Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
    }

    /// WWID or serial number of the hardware (of the whole disk); the dm uuid for a dm device; empty if there is none.
    pub(crate) fn hardware_id(&self) -> String {
        let disk = self.disk().unwrap_or_else(|| self.clone());
        ["wwid", "device/wwid", "device/serial", "serial", "dm/uuid", "md/uuid"]
            .iter()
            .find_map(|name| disk.attribute(name).filter(|id| tells_apart(id)))
            .unwrap_or_default()
    }

    /// Whether it may carry a PV by what kind of device it is: no ram, zram, optical or floppy device, nor an empty one.
    pub(crate) fn may_be_pv(&self) -> bool {
        self.number().is_some_and(|dev| self.is_kind_for_pv(dev)) && !self.is_empty()
    }

    /// As [`SysDevice::may_be_pv`], of a device with this number, whatever its size.
    pub(crate) fn is_kind_for_pv(&self, dev: DevNumber) -> bool {
        const RAM: u32 = 1;
        const FLOPPY: u32 = 2;
        const OPTICAL: u32 = 11;
        !matches!(dev.major, RAM | FLOPPY | OPTICAL) && !self.name().starts_with("zram") && !self.hidden()
    }
}

/// Whether an id says anything: drivers without one show placeholders, which are the same on every disk.
fn tells_apart(id: &str) -> bool {
    let mut bytes = id.bytes();
    let first = bytes.next();
    id != "(null)" && bytes.any(|byte| Some(byte) != first)
}

/// Nodes of all block devices, by their names alone.
pub(crate) fn nodes() -> io::Result<BTreeSet<PathBuf>> {
    let node = |name: std::ffi::OsString| Path::new("/dev").join(name.to_string_lossy().replace('!', "/"));
    Ok(fs::read_dir("/sys/class/block")?.filter_map(|entry| Some(node(entry.ok()?.file_name()))).collect())
}

/// `8:16`
pub(crate) fn parse_number(text: &str) -> Option<DevNumber> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(DevNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_no_hardware_id() {
        for placeholder in ["", "(null)", "0000000000", "-"] {
            assert!(!tells_apart(placeholder), "{placeholder:?}");
        }
        assert!(tells_apart("naa.5000c500a1b2c3d4"));
    }

    #[test]
    fn a_device_number_is_read() {
        assert_eq!(parse_number("253:17\n"), Some(DevNumber { major: 253, minor: 17 }));
        assert_eq!(parse_number("253"), None);
        assert_eq!(parse_number("a:b"), None);
    }

    #[test]
    fn every_device_of_this_machine_has_a_name_and_a_number() {
        let Ok(devices) = SysDevice::all() else { return println!("skipped: no /sys/class/block") };
        for device in devices {
            assert!(!device.name().is_empty());
            assert!(device.number().is_some(), "{device:?}");
        }
    }
}
