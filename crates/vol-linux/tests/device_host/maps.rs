//! dm devices: made, changed, removed; pools and their messages.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;
use vol_core::dm::Device;
use vol_core::observed::{PoolMode, PoolStatus, PoolUsage, ThinStatus};
use vol_engine::host::{DmCreate, HostErrorKind, HostMut, HostRead};
use vol_types::{Bytes, PoolId, Sectors};

use crate::support::{Bench, linear, sectors, wait_for};

fn volume() -> Device {
    Device::Volume(Uuid::new_v4().to_string().parse().unwrap())
}

#[test]
fn a_device_is_made_changed_and_removed() {
    let Some(bench) = Bench::with_dm() else { return };
    let dev = bench.number(&bench.disk(Bytes::mib(64)));
    let device = volume();
    let table = vec![linear(0, 2048, dev, 0), linear(2048, 2048, dev, 8192)];
    let info = bench.map(device, table.clone(), false);
    assert_eq!((info.name.as_str(), info.uuid.as_str()), (device.name().as_str(), device.uuid().as_str()));
    assert!(info.live_table && !info.inactive_table && !info.suspended && !info.read_only);
    let node = PathBuf::from(format!("/dev/dm-{}", info.dev.minor));
    assert_eq!(bench.number(&node), info.dev);
    assert_eq!(bench.host.dm_table(&device.uuid()).unwrap(), table);
    assert_eq!(bench.host.dm_device(&device.uuid()).unwrap().unwrap().dev, info.dev);
    assert!(bench.host.dm_devices().unwrap().iter().any(|found| found.uuid == device.uuid()));

    let twice =
        DmCreate { name: device.name(), uuid: device.uuid(), table, read_only: false, private: false, link: None };
    assert_eq!(bench.host.dm_create(&twice).unwrap_err().kind, HostErrorKind::Exists);
    let same_name = DmCreate { uuid: volume().uuid(), ..twice.clone() };
    assert_eq!(bench.host.dm_create(&same_name).unwrap_err().kind, HostErrorKind::Exists);

    let bigger = vec![linear(0, 8192, dev, 0)];
    bench.host.dm_reload(&device.uuid(), &bigger).unwrap();
    assert_eq!(bench.host.dm_table(&device.uuid()).unwrap(), bigger);
    assert_eq!(bench.host.open_read(&node).unwrap().identity().size, Bytes(8192 * 512));
    let info = bench.host.dm_device(&device.uuid()).unwrap().unwrap();
    assert!(info.live_table && !info.inactive_table && !info.suspended);

    bench.host.dm_resume(&device.uuid()).unwrap();
    bench.host.dm_remove(&device.uuid()).unwrap();
    assert_eq!(bench.host.dm_device(&device.uuid()).unwrap(), None);
    assert_eq!(bench.host.dm_remove(&device.uuid()).unwrap_err().kind, HostErrorKind::NotFound);
    assert_eq!(bench.host.dm_resume(&device.uuid()).unwrap_err().kind, HostErrorKind::NotFound);
    assert_eq!(bench.host.dm_reload(&device.uuid(), &bigger).unwrap_err().kind, HostErrorKind::NotFound);
    assert_eq!(bench.host.dm_table(&device.uuid()).unwrap_err().kind, HostErrorKind::NotFound);
}

#[test]
fn a_device_whose_table_is_refused_is_not_left_behind() {
    let Some(bench) = Bench::with_dm() else { return };
    let dev = bench.number(&bench.disk(Bytes::mib(64)));
    let device = volume();
    let attempt = |table| {
        let create =
            DmCreate { name: device.name(), uuid: device.uuid(), table, read_only: false, private: false, link: None };
        let error = bench.host.dm_create(&create).unwrap_err();
        assert_eq!(bench.host.dm_device(&device.uuid()).unwrap(), None);
        error.kind
    };
    let past_end = sectors(Bytes::mib(65));
    assert_eq!(attempt(vec![linear(0, past_end, dev, 0)]), HostErrorKind::Invalid);
    let mut odd = linear(0, 8, dev, 0);
    odd.target = "no-such-target".into();
    assert_eq!(attempt(vec![odd.clone()]), HostErrorKind::Invalid);
    odd.target = "much-longer-than-the-kernel-takes".into();
    assert_eq!(attempt(vec![odd]), HostErrorKind::Invalid);
    assert_eq!(attempt(Vec::new()), HostErrorKind::Invalid);
    let mut gone = linear(0, 8, dev, 0);
    gone.params = "250:4321 0".into();
    assert_eq!(attempt(vec![gone]), HostErrorKind::Io);
}

#[test]
fn a_failed_change_leaves_the_old_table_live() {
    let Some(bench) = Bench::with_dm() else { return };
    let dev = bench.number(&bench.disk(Bytes::mib(64)));
    let device = volume();
    let table = vec![linear(0, 2048, dev, 0)];
    bench.map(device, table.clone(), false);
    let past_end = vec![linear(0, sectors(Bytes::mib(65)), dev, 0)];
    assert_eq!(bench.host.dm_reload(&device.uuid(), &past_end).unwrap_err().kind, HostErrorKind::Invalid);
    let info = bench.host.dm_device(&device.uuid()).unwrap().unwrap();
    assert!(info.live_table && !info.suspended && !info.inactive_table);
    assert_eq!(bench.host.dm_table(&device.uuid()).unwrap(), table);
}

#[test]
fn a_read_only_device_stays_so_when_its_table_changes() {
    let Some(bench) = Bench::with_dm() else { return };
    let dev = bench.number(&bench.disk(Bytes::mib(64)));
    let device = volume();
    assert!(bench.map(device, vec![linear(0, 2048, dev, 0)], true).read_only);
    bench.host.dm_reload(&device.uuid(), &[linear(0, 4096, dev, 0)]).unwrap();
    assert!(bench.host.dm_device(&device.uuid()).unwrap().unwrap().read_only);
}

#[test]
fn a_device_that_stays_open_is_busy_after_two_seconds() {
    let Some(bench) = Bench::with_dm() else { return };
    let dev = bench.number(&bench.disk(Bytes::mib(64)));
    let device = volume();
    let info = bench.map(device, vec![linear(0, 2048, dev, 0)], false);
    let open = File::open(format!("/dev/dm-{}", info.dev.minor)).unwrap();
    let start = Instant::now();
    assert_eq!(bench.host.dm_remove(&device.uuid()).unwrap_err().kind, HostErrorKind::Busy);
    let took = start.elapsed();
    // It is given up after two seconds; what comes after that is the time of a slow machine.
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(60), "{took:?}");
    drop(open);
    bench.host.dm_remove(&device.uuid()).unwrap();
}

#[test]
fn a_volume_has_its_links_and_a_private_layer_is_left_alone() {
    let Some(bench) = Bench::with_dm() else { return };
    if !Path::new("/run/udev/control").exists() {
        return println!("skipped: udevd does not run");
    }
    let dev = bench.number(&bench.disk(Bytes::mib(64)));
    // What a tenant could write: both devices show it, only the volume may be looked at.
    let node = bench.host.loop_device_of(&bench.dir().join("disk0.img")).unwrap().unwrap();
    let disk = bench.host.open_write(&node, &bench.host.inspect(&node).unwrap().identity).unwrap();
    let mut swap = vec![0u8; 4096];
    swap[1024] = 1;
    swap[1028] = 255;
    swap[1036..1052].copy_from_slice(Uuid::new_v4().as_bytes());
    swap[4086..].copy_from_slice(b"SWAPSPACE2");
    disk.write_at(0, &swap).unwrap();
    disk.flush().unwrap();
    let public = volume();
    let private = Device::PoolData(PoolId::from_uuid(Uuid::new_v4()));
    let public_dev = bench.map(public, vec![linear(0, 2048, dev, 0)], false).dev;
    let private_dev = bench.map(private, vec![linear(0, 2048, dev, 0)], false).dev;
    let properties = |minor: u32| {
        let node = format!("/dev/dm-{minor}");
        let output = std::process::Command::new("udevadm").args(["info", "-q", "property", "-n", &node]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    };
    let link = PathBuf::from("/dev/mapper").join(public.name());
    wait_for("udev makes the link", || link.exists());
    wait_for("udev has probed the volume", || properties(public_dev.minor).contains("ID_FS_TYPE=swap"));
    wait_for("udev has seen the private layer", || properties(private_dev.minor).contains("DM_UUID="));
    assert!(!properties(private_dev.minor).contains("ID_FS_TYPE"), "{}", properties(private_dev.minor));
    // What a restart of udev's package does: without the primary-source flag the links would go.
    let node = format!("/dev/dm-{}", public_dev.minor);
    assert!(crate::support::tool("udevadm", &["trigger", "--settle", "--action=add", &node]));
    assert!(link.exists(), "{}", properties(public_dev.minor));
    // udev may still have it open: that is waited for.
    bench.host.dm_remove(&public.uuid()).unwrap();
    wait_for("udev removes the link", || !link.exists() && std::fs::symlink_metadata(&link).is_err());
}

fn usage(bench: &Bench, uuid: &str) -> PoolUsage {
    match bench.host.pool_status(uuid).unwrap() {
        PoolStatus::Working(usage) => usage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pool_answers_messages_and_tells_its_status() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(64));
    let fresh = usage(&bench, &pool.uuid);
    assert_eq!((fresh.transaction_id, fresh.used_data, fresh.total_data), (0, 0, 1024));
    assert_eq!((fresh.mode, fresh.needs_check, fresh.metadata_snapshot), (PoolMode::ReadWrite, false, false));
    assert_eq!(fresh.total_metadata, 2048);

    let message = |text: &str| bench.host.dm_message(&pool.uuid, text).map_err(|e| e.kind);
    assert_eq!(message("create_thin 7"), Ok(()));
    assert_eq!(message("create_thin 7"), Err(HostErrorKind::Exists));
    assert_eq!(message("create_snap 8 99"), Err(HostErrorKind::NotFound));
    assert_eq!(message("delete 99"), Err(HostErrorKind::NotFound));
    assert_eq!(message("set_transaction_id 3 4"), Err(HostErrorKind::Invalid));
    assert_eq!(message("set_transaction_id 0 1"), Ok(()));
    assert_eq!(message("reserve_metadata_snap"), Ok(()));
    assert_eq!(message("nonsense"), Err(HostErrorKind::Invalid));
    let after = usage(&bench, &pool.uuid);
    assert_eq!((after.transaction_id, after.metadata_snapshot), (1, true));
    assert_eq!(message("release_metadata_snap"), Ok(()));
    let nobody = Device::Pool(PoolId::from_uuid(Uuid::new_v4())).uuid();
    assert_eq!(bench.host.dm_message(&nobody, "create_thin 1").unwrap_err().kind, HostErrorKind::NotFound);
    assert_eq!(bench.host.pool_status(&nobody).unwrap_err().kind, HostErrorKind::NotFound);

    let volume = pool.activate(7, Bytes::mib(256), false);
    assert_eq!(bench.host.thin_status(&volume.uuid).unwrap(), ThinStatus::Working { mapped: Sectors(0) });
    bench.host.zero_device(volume.dev, 1 << 20, 1 << 20).unwrap();
    assert_eq!(bench.host.thin_status(&volume.uuid).unwrap(), ThinStatus::Working { mapped: Sectors(2048) });
    assert_eq!(bench.host.pool_status(&volume.uuid).unwrap_err().kind, HostErrorKind::Invalid);
    assert_eq!(message("delete 7"), Err(HostErrorKind::Busy));
}

#[test]
fn a_pool_grows_while_its_volumes_are_active() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(32));
    let volume = pool.volume(1, Bytes::mib(256));
    let more = bench.number(&bench.disk(Bytes::mib(32)));
    let data = Device::PoolData(pool.id).uuid();
    let mut table = bench.host.dm_table(&data).unwrap();
    table.push(linear(sectors(Bytes::mib(32)), sectors(Bytes::mib(32)), more, 0));
    bench.host.dm_reload(&data, &table).unwrap();
    let mut table = bench.host.dm_table(&pool.uuid).unwrap();
    table[0].len = Sectors(sectors(Bytes::mib(64)));
    bench.host.dm_reload(&pool.uuid, &table).unwrap();
    assert_eq!(usage(&bench, &pool.uuid).total_data, 1024);
    bench.host.zero_device(volume.dev, 0, 48 << 20).unwrap();
    assert_eq!(usage(&bench, &pool.uuid).used_data, 768);
}

#[test]
fn a_full_pool_whose_writes_wait_can_be_grown() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(16));
    let volume = pool.volume(1, Bytes::mib(64));
    let more = bench.number(&bench.disk(Bytes::mib(64)));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| bench.host.zero_device(volume.dev, 0, 32 << 20));
        wait_for("the pool is full", || usage(&bench, &pool.uuid).mode == PoolMode::OutOfDataSpace);
        // Nothing in a table change waits for the writes that wait: neither the volume's nor the pool's.
        let mut table = bench.host.dm_table(&volume.uuid).unwrap();
        table[0].len = Sectors(sectors(Bytes::mib(128)));
        bench.host.dm_reload(&volume.uuid, &table).unwrap();
        let data = Device::PoolData(pool.id).uuid();
        let mut table = bench.host.dm_table(&data).unwrap();
        table.push(linear(sectors(Bytes::mib(16)), sectors(Bytes::mib(64)), more, 0));
        bench.host.dm_reload(&data, &table).unwrap();
        let mut table = bench.host.dm_table(&pool.uuid).unwrap();
        table[0].len = Sectors(sectors(Bytes::mib(80)));
        bench.host.dm_reload(&pool.uuid, &table).unwrap();
        writer.join().unwrap().unwrap();
    });
    let after = usage(&bench, &pool.uuid);
    assert_eq!((after.mode, after.used_data), (PoolMode::ReadWrite, 512));
}

#[test]
fn the_targets_that_volumes_need_are_there() {
    let Some(bench) = Bench::with_dm() else { return };
    let targets = bench.host.dm_targets().unwrap();
    for needed in ["linear", "striped", "thin-pool", "thin"] {
        assert!(targets.iter().any(|(name, _)| name == needed), "{needed}: {targets:?}");
    }
    println!("device-mapper {:?}, targets {targets:?}", bench.host.dm_version().unwrap());
}

#[test]
fn zeroing_reaches_exactly_its_range_and_only_our_devices() {
    let Some(bench) = Bench::with_dm() else { return };
    let node = bench.disk(Bytes::mib(64));
    let dev = bench.number(&node);
    let disk = bench.host.open_write(&node, &bench.host.inspect(&node).unwrap().identity).unwrap();
    disk.write_at(0, &vec![0xaa; 16 << 20]).unwrap();
    disk.flush().unwrap();
    let info = bench.map(volume(), vec![linear(0, sectors(Bytes::mib(16)), dev, 0)], false);
    bench.host.zero_device(info.dev, 4096, (9 << 20) + 4096).unwrap();
    let all = disk.read_at(0, 16 << 20).unwrap();
    let zeroed = 4096..4096 + (9 << 20) + 4096;
    assert!(all.iter().enumerate().all(|(at, byte)| *byte == if zeroed.contains(&at) { 0 } else { 0xaa }));
    assert_eq!(bench.host.zero_device(info.dev, 0, 17 << 20).unwrap_err().kind, HostErrorKind::Io);
    assert!(bench.host.zero_device(dev, 0, 4096).is_err());
}
