//! What is left of devices and mounts of ours that it should not be, for `GET /v1/doctor`. Devices that no VG knows, and backing files
//! that are gone, are problems of `status`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vol_api::{Finding, Level};
use vol_core::dm::{Device, UUID_PREFIX};
use vol_core::observed::{DevNumber, DmInfo, Mount};
use vol_engine::host::HostRead;

/// A device is suspended for a moment while a snapshot is taken.
const SUSPENDED_FOR: Duration = Duration::from_millis(500);

/// Looks at all devices and mounts of ours.
pub fn leftovers(host: &impl HostRead) -> Vec<Finding> {
    let devices = match own_devices(host) {
        Ok(devices) => devices,
        Err(error) => {
            return vec![Finding::new(
                "devices",
                Level::Problem,
                format!("device-mapper's devices cannot be listed: {error}"),
                "",
            )];
        }
    };
    let mut all = suspended(host, &devices);
    match host.mounts() {
        Ok(mounts) => all.extend(stale_mounts(&devices, &mounts)),
        Err(error) => {
            all.push(Finding::new("mounts", Level::Warning, format!("the mount table cannot be read: {error}"), ""));
        }
    }
    if all.is_empty() {
        all.push(Finding::ok(
            "devices",
            format!("{} device-mapper devices of volumed, none of them stuck", devices.len()),
        ));
    }
    all
}

fn own_devices(host: &impl HostRead) -> vol_engine::host::HostResult<Vec<DmInfo>> {
    let mut devices = host.dm_devices()?;
    devices.retain(|device| device.uuid.starts_with(UUID_PREFIX));
    Ok(devices)
}

/// Those that are suspended, and still are after a while.
fn suspended(host: &impl HostRead, devices: &[DmInfo]) -> Vec<Finding> {
    let stopped = |devices: &[DmInfo]| -> BTreeSet<String> {
        devices
            .iter()
            .filter(|device| device.suspended && device.live_table)
            .map(|device| device.name.clone())
            .collect()
    };
    let first = stopped(devices);
    if first.is_empty() {
        return Vec::new();
    }
    host.pause(SUSPENDED_FOR);
    let second = own_devices(host).map(|devices| stopped(&devices)).unwrap_or_default();
    let finding = |name: &String| {
        Finding::new(
            "devices_suspended",
            Level::Problem,
            format!("the device {name} is suspended: whoever reads or writes it waits"),
            format!("volctl pv scan lets volumed look again; if it stays: dmsetup resume {name}"),
        )
    };
    first.intersection(&second).map(finding).collect()
}

/// Mounts of ours at directories that are gone, and one above the other.
fn stale_mounts(devices: &[DmInfo], mounts: &[Mount]) -> Vec<Finding> {
    let volumes: BTreeMap<DevNumber, &DmInfo> = devices
        .iter()
        .filter(|device| matches!(Device::from_uuid(&device.uuid), Some(Device::Volume(_))))
        .map(|device| (device.dev, device))
        .collect();
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for mount in mounts {
        let Some(device) = volumes.get(&mount.dev) else { continue };
        let at = mount.target.display().to_string();
        if mount.root.as_os_str().as_encoded_bytes().ends_with(b"//deleted") || at.ends_with("//deleted") {
            all.push(Finding::new(
                "mounts_stale",
                Level::Warning,
                format!("{} is mounted at {at}, a directory that was deleted: nobody can reach it there", device.name),
                "umount it by its device, or unmount the volume with volctl",
            ));
        } else if !seen.insert((mount.dev, mount.target.clone())) {
            all.push(Finding::new(
                "mounts_twice",
                Level::Warning,
                format!("{} is mounted more than once at {at}, one mount above the other", device.name),
                format!("umount {at} once for each that is too many"),
            ));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use vol_types::Sectors;

    fn device(name: &str, minor: u32) -> DmInfo {
        DmInfo {
            name: name.into(),
            uuid: "VOLUMED-0191d6e0-0000-7000-8000-000000000001".into(),
            dev: DevNumber { major: 253, minor },
            open_count: 1,
            suspended: false,
            live_table: true,
            inactive_table: false,
            read_only: false,
            len: Sectors(8),
        }
    }

    fn mount(minor: u32, root: &str, target: &str) -> Mount {
        Mount {
            mount_id: 7,
            dev: DevNumber { major: 253, minor },
            root: root.into(),
            target: target.into(),
            fs_type: "ext4".into(),
            read_only: false,
        }
    }

    #[test]
    fn mounts_that_nobody_can_reach_and_piles_are_found_and_others_are_not() {
        let devices = [device("volumed-a", 1)];
        let fine = [mount(1, "/", "/srv/a"), mount(1, "/", "/srv/b"), mount(9, "/", "/srv/a"), mount(9, "/", "/srv/a")];
        assert_eq!(stale_mounts(&devices, &fine), []);
        let found =
            stale_mounts(&devices, &[mount(1, "/", "/srv/a"), mount(1, "/", "/srv/a"), mount(1, "/x//deleted", "/b")]);
        assert_eq!(found.iter().map(|one| one.check.as_str()).collect::<Vec<_>>(), ["mounts_twice", "mounts_stale"]);
        assert!(found.iter().all(|one| one.level == Level::Warning && !one.hint.is_empty()));
    }
}
