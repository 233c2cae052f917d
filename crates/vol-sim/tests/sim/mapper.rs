//! Device-mapper devices and their tables.

use std::path::Path;

use vol_core::dm::Device;
use vol_core::observed::TargetLine;
use vol_engine::host::{DmCreate, HostErrorKind, HostMut, HostRead};
use vol_sim::{EffectKind, Fault, SimDisk};
use vol_types::{Bytes, Sectors};

use crate::machine::{Pool, create, dev, durable, host, kind, line, open, volume};

const SDA: &str = "/dev/sda";

#[test]
fn a_device_lives_from_create_to_remove() {
    let host = host();
    let table = line(2048, "linear", format!("{} 2048", dev(&host, SDA)));
    let info = create(&host, volume(1), table.clone()).expect("create");
    assert!(info.live_table && !info.suspended && !info.inactive_table && info.open_count == 0);
    assert_eq!(host.dm_table(&info.uuid).expect("table"), table);
    assert_eq!(host.dm_devices().expect("list"), std::slice::from_ref(&info));
    assert_eq!(host.inspect(Path::new(SDA)).expect("inspect").holders, [format!("dm-0 ({})", info.name)]);
    assert_eq!(host.inspect(Path::new("/dev/dm-0")).expect("inspect").dm_uuid, Some(info.uuid.clone()));
    assert_eq!(kind(create(&host, volume(1), table)), HostErrorKind::Exists);
    host.dm_remove(&info.uuid).expect("remove");
    assert_eq!(kind(host.dm_remove(&info.uuid)), HostErrorKind::NotFound);
    assert_eq!(host.dm_device(&info.uuid).expect("info"), None);
}

#[test]
fn a_bad_table_is_refused_and_leaves_no_device() {
    let host = host();
    let sda = dev(&host, SDA);
    let end = Bytes::GIB / 512;
    let gap = |start| TargetLine {
        start: Sectors(start),
        len: Sectors(8),
        target: "linear".into(),
        params: format!("{sda} 0"),
    };
    for (bad, expected) in [
        (line(8, "linear", "9:9 0".into()), HostErrorKind::Io),
        (line(8, "linear", format!("{sda} {}", end - 7)), HostErrorKind::Invalid),
        (line(8, "linear", format!("{sda} x")), HostErrorKind::Invalid),
        (line(8, "linear", format!("{sda} 0 more")), HostErrorKind::Invalid),
        (line(8, "raid7", format!("{sda} 0")), HostErrorKind::Invalid),
        (line(0, "linear", format!("{sda} 0")), HostErrorKind::Invalid),
        (vec![gap(0), gap(9)], HostErrorKind::Invalid),
        (vec![], HostErrorKind::Invalid),
        (line(8, "thin", format!("{sda} 0")), HostErrorKind::Invalid),
        (line(128, "thin-pool", format!("{sda} {sda} 128 0")), HostErrorKind::Invalid),
    ] {
        assert_eq!(kind(create(&host, volume(1), bad.clone())), expected, "{bad:?}");
        assert!(host.dm_devices().expect("list").is_empty());
    }
}

#[test]
fn a_table_cannot_take_a_disk_from_others_nor_break_its_sectors() {
    let host = host();
    host.add_disk(SimDisk::new("/dev/sdb", Bytes::gib(1)).mounted_at("/srv"));
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(1)).sector_size(4096));
    let on = |node, at| create(&host, volume(1), line(8, "linear", format!("{} {at}", dev(&host, node))));
    assert_eq!(kind(on("/dev/sdb", 0)), HostErrorKind::Busy);
    assert_eq!(kind(on("/dev/sdc", 4)), HostErrorKind::Invalid);
    on("/dev/sdc", 8).expect("aligned");
}

#[test]
fn a_device_in_use_cannot_be_removed_and_minors_come_back() {
    let host = host();
    let sda = dev(&host, SDA);
    let below = create(&host, volume(1), line(2048, "linear", format!("{sda} 0"))).expect("below");
    let above = create(&host, volume(2), line(1024, "linear", format!("{} 0", below.dev))).expect("above");
    assert_eq!(kind(host.dm_remove(&below.uuid)), HostErrorKind::Busy);
    assert_eq!(host.holders(below.dev), [format!("dm-1 ({})", above.name)]);
    host.dm_remove(&above.uuid).expect("remove");
    host.hold_device(&below.uuid, Some("process 1 (udevd)"));
    assert_eq!(kind(host.dm_remove(&below.uuid)), HostErrorKind::Busy);
    host.hold_device(&below.uuid, None);
    host.dm_remove(&below.uuid).expect("remove");
    let next = create(&host, volume(3), line(8, "linear", format!("{sda} 0"))).expect("next");
    assert_eq!(next.dev, below.dev);
}

#[test]
fn a_reload_swaps_the_table_and_one_that_dies_half_way_leaves_the_old_one_live() {
    let host = host();
    let table = |len| line(len, "linear", format!("{} 0", dev(&host, SDA)));
    let info = create(&host, volume(1), table(8)).expect("create");
    let grown = table(16);
    host.fail_next(EffectKind::DmReload, Fault::KillDaemonInside(1));
    host.dm_reload(&info.uuid, &grown).expect_err("killed");
    host.restart();
    let half = host.dm_device(&info.uuid).expect("info").expect("there");
    assert!(half.inactive_table && half.live_table && !half.suspended);
    assert_eq!(host.dm_table(&info.uuid).expect("table"), table(8));
    host.dm_resume(&info.uuid).expect("resume");
    assert_eq!(host.dm_table(&info.uuid).expect("table"), grown);
    host.dm_reload(&info.uuid, &table(8)).expect("reload");
    assert_eq!(host.dm_table(&info.uuid).expect("table"), table(8));
}

#[test]
fn a_create_that_dies_half_way_leaves_a_device_without_a_live_table() {
    for (stage, inactive) in [(1, false), (2, true)] {
        let host = host();
        host.fail_next(EffectKind::DmCreate, Fault::KillDaemonInside(stage));
        create(&host, volume(1), line(8, "linear", format!("{} 0", dev(&host, SDA)))).expect_err("killed");
        host.restart();
        let left = host.dm_device(&volume(1).uuid()).expect("info").expect("there");
        assert_eq!((left.live_table, left.inactive_table), (false, inactive));
        host.dm_remove(&left.uuid).expect("remove");
    }
}

#[test]
fn two_devices_over_one_sector_are_a_violation_and_so_is_a_write_below_a_device() {
    let host = host();
    let table = |at| line(16, "linear", format!("{} {at}", dev(&host, SDA)));
    create(&host, volume(1), table(2048)).expect("create");
    create(&host, volume(2), table(2064)).expect("beside");
    assert!(host.violations().is_empty());
    create(&host, volume(3), table(2056)).expect("the kernel does not mind");
    assert!(host.violations()[0].contains("both map"));
    durable(&host, &open(&host, SDA), 2048 * 512, &[0; 4096]).expect("the kernel does not mind");
    assert!(host.violations().iter().any(|text| text.contains("which maps it")));
}

#[test]
fn a_private_layer_that_is_not_hidden_is_a_violation() {
    let host = host();
    let pool = Pool::of_size(&host, 8, 8192);
    host.dm_remove(&Device::PoolData(pool.id).uuid()).expect("remove");
    let device = Device::PoolData(pool.id);
    let table = line(1024, "linear", format!("{} 16384", dev(&host, SDA)));
    let call =
        DmCreate { name: device.name(), uuid: device.uuid(), table, read_only: false, private: false, link: None };
    host.dm_create(&call).expect("create");
    assert!(host.violations()[0].contains("private: false"));
}

#[test]
fn a_device_over_a_disk_that_vanished_gives_errors_even_when_the_disk_is_back() {
    let host = host();
    let pool = Pool::new(&host);
    pool.mounted(1);
    host.remove_disk(SDA);
    assert_eq!(kind(host.put_file("/mnt/1", "a", b"b")), HostErrorKind::Io);
    assert_eq!(kind(host.read_file("/mnt/1", "a")), HostErrorKind::Io);
    host.reattach(SDA);
    assert_eq!(kind(host.read_file("/mnt/1", "a")), HostErrorKind::Io);
}
