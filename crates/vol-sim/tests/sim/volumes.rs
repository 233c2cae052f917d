//! What is inside volumes: mkfs, probe, mount, snapshots.

use uuid::Uuid;
use vol_core::observed::Probe;
use vol_engine::host::{HostErrorKind, HostMut, HostRead, MountCall};
use vol_sim::{Content, CrashMode, EffectKind, Fault, ProbeLie};
use vol_types::{FsKind, MkfsOptions};

use crate::machine::{Pool, host, kind, mount, volume};

const FS_UUID: Uuid = Uuid::from_bytes([9; 16]);

#[test]
fn a_file_survives_snapshot_remount_and_power_cut() {
    let host = host();
    let pool = Pool::new(&host);
    let target = pool.mounted(1);
    host.put_file(&target, "a", b"before").expect("put");
    pool.snapshot(2, 1, true).expect("snapshot");
    host.put_file(&target, "a", b"after").expect("put");
    host.crash(CrashMode::LoseAll);
    host.restart();
    assert!(host.mounts().expect("mounts").is_empty());
    pool.bring_up();
    for (id, read_only, expected) in [(1, false, b"after".as_slice()), (2, true, b"before")] {
        let device = pool.open_thin_as(id, read_only).expect("open");
        let at = format!("/again/{id}");
        host.mount(&MountCall { read_only, ..mount(device.dev, &at) }).expect("mount");
        assert_eq!(host.read_file(&at, "a").expect("read").as_deref(), Some(expected));
    }
    assert_eq!(kind(host.put_file("/again/2", "a", b"x")), HostErrorKind::Denied);
    assert!(host.violations().is_empty(), "{:?}", host.violations());
}

#[test]
fn only_a_whole_file_system_of_the_right_kind_mounts() {
    let host = host();
    let pool = Pool::new(&host);
    pool.message("create_thin 1").expect("create");
    let device = pool.open_thin(1).expect("open");
    assert_eq!(kind(host.mount(&mount(device.dev, "/mnt"))), HostErrorKind::Invalid);
    host.fail_next(EffectKind::Mkfs, Fault::KillDaemonInside(1));
    host.mkfs(device.dev, &device.uuid, FsKind::Ext4, FS_UUID, &MkfsOptions::default()).expect_err("killed");
    host.restart();
    assert_eq!(host.content(&device.uuid), Ok(Content::Partial(FsKind::Ext4)));
    assert_eq!(kind(host.mount(&mount(device.dev, "/mnt"))), HostErrorKind::Invalid);
    assert_eq!(host.probe(device.dev), Ok(Probe::Nothing), "the trap: half a file system looks like nothing");
    host.mkfs(device.dev, &device.uuid, FsKind::Ext4, FS_UUID, &MkfsOptions::default())
        .expect("the kernel does not mind");
    assert!(host.violations()[0].contains("formatted or handed out"));
    assert_eq!(host.mkfs_runs(&pool.uuid(), 1), 2);
    let xfs = MountCall { fs: FsKind::Xfs, ..mount(device.dev, "/mnt") };
    assert_eq!(kind(host.mount(&xfs)), HostErrorKind::Invalid);
    host.mount(&mount(device.dev, "/mnt")).expect("mount");
}

#[test]
fn mkfs_wants_the_very_device_idle_writable_and_large_enough() {
    let host = host();
    let pool = Pool::new(&host);
    pool.mounted(1);
    pool.message("create_thin 2").expect("create");
    let (one, two) =
        (host.dm_device(&volume(1).uuid()).expect("info").expect("there"), pool.open_thin(2).expect("open"));
    let mkfs = |dev, uuid: &str, fs| kind(host.mkfs(dev, uuid, fs, FS_UUID, &MkfsOptions::default()));
    assert_eq!(mkfs(two.dev, &one.uuid, FsKind::Ext4), HostErrorKind::Changed);
    assert_eq!(mkfs(one.dev, &one.uuid, FsKind::Ext4), HostErrorKind::Tool);
    assert_eq!(mkfs(two.dev, &two.uuid, FsKind::Xfs), HostErrorKind::Tool, "32 MiB are too small for XFS");
    assert_eq!(host.counters().mkfs, 1);
    assert!(host.violations().is_empty());
}

#[test]
fn a_volume_that_was_handed_out_is_neither_probed_nor_formatted_and_nor_is_its_snapshot() {
    let host = host();
    let pool = Pool::new(&host);
    pool.message("create_thin 1").expect("create");
    let raw = pool.open_thin(1).expect("open");
    host.put_raw(&raw.uuid, b"database").expect("write");
    pool.snapshot(2, 1, true).expect("snapshot");
    let snapshot = pool.open_thin(2).expect("open");
    assert_eq!(host.content(&snapshot.uuid), Ok(Content::Raw(b"database".to_vec())));
    assert_eq!(host.probe(snapshot.dev), Ok(Probe::Nothing));
    host.mkfs(snapshot.dev, &snapshot.uuid, FsKind::Ext4, FS_UUID, &MkfsOptions::default())
        .expect("the kernel does not mind");
    let found = host.violations();
    assert!(found.len() == 2 && found[0].contains("probe") && found[1].contains("mkfs"), "{found:?}");
}

#[test]
fn a_volume_that_was_mounted_once_stays_handed_out_whatever_is_in_it() {
    let host = host();
    let pool = Pool::new(&host);
    pool.mounted(1);
    let mounted = host.mounts().expect("mounts").remove(0);
    host.unmount(&mounted).expect("unmount");
    host.zero_device(mounted.dev, 0, 4096).expect("zero");
    assert_eq!(host.content(&volume(1).uuid()), Ok(Content::Nothing));
    assert!(host.violations().is_empty());
    assert_eq!(host.probe(mounted.dev), Ok(Probe::Nothing));
    host.mkfs(mounted.dev, &volume(1).uuid(), FsKind::Ext4, FS_UUID, &MkfsOptions::default())
        .expect("the kernel does not mind");
    let found = host.violations();
    assert!(found.len() == 2 && found[0].contains("probe") && found[1].contains("mkfs"), "{found:?}");
}

#[test]
fn a_probe_tells_what_is_there_unless_it_is_made_to_lie() {
    let host = host();
    let pool = Pool::new(&host);
    pool.message("create_thin 1").expect("create");
    let device = pool.open_thin(1).expect("open");
    assert_eq!(host.probe(device.dev), Ok(Probe::Nothing));
    host.mkfs(device.dev, &device.uuid, FsKind::Ext4, FS_UUID, &MkfsOptions::default()).expect("mkfs");
    let found = Probe::Found { kind: "ext4".into(), uuid: Some(FS_UUID.to_string()) };
    assert_eq!(host.probe(device.dev), Ok(found.clone()));
    host.lie_in_probe("*", Some(ProbeLie::Nothing));
    assert_eq!(host.probe(device.dev), Ok(Probe::Nothing));
    host.lie_in_probe(&device.uuid, Some(ProbeLie::Error));
    assert_eq!(kind(host.probe(device.dev)), HostErrorKind::Io);
    host.lie_in_probe(&device.uuid, Some(ProbeLie::Other("btrfs".into())));
    assert_eq!(host.probe(device.dev), Ok(Probe::Found { kind: "btrfs".into(), uuid: None }));
    host.lie_in_probe(&device.uuid, None);
    host.lie_in_probe("*", None);
    assert_eq!(host.probe(device.dev), Ok(found));
}

#[test]
fn a_mount_that_is_held_is_busy_and_a_mounted_device_is_open() {
    let host = host();
    let pool = Pool::new(&host);
    let target = pool.mounted(1);
    let mounted = host.mounts().expect("mounts").remove(0);
    host.hold_mount(&target, "process 4711 (postgres)");
    assert_eq!(kind(host.unmount(&mounted)), HostErrorKind::Busy);
    assert_eq!(host.holders(mounted.dev), ["process 4711 (postgres)", "mounted at /mnt/1"]);
    host.release_mount(&target);
    assert_eq!(kind(host.dm_remove(&volume(1).uuid())), HostErrorKind::Busy);
    assert_eq!(kind(host.mount(&mount(mounted.dev, &target))), HostErrorKind::Busy);
    host.unmount(&mounted).expect("unmount");
    assert_eq!(kind(host.unmount(&mounted)), HostErrorKind::NotFound);
    host.dm_remove(&volume(1).uuid()).expect("remove");
}

#[test]
fn a_mount_target_is_a_plain_path_without_links() {
    let host = host();
    let pool = Pool::new(&host);
    pool.mounted(1);
    let dev = host.dm_device(&volume(1).uuid()).expect("info").expect("there").dev;
    host.add_symlink("/srv/link");
    for bad in ["srv/x", "/srv/../etc", "/srv/link/x", "/srv/link"] {
        assert_eq!(kind(host.mount(&mount(dev, bad))), HostErrorKind::Invalid, "{bad}");
    }
    host.mount(&mount(dev, "/srv/deep/er")).expect("directories are made");
    assert!(host.path_exists("/srv/deep".as_ref()).expect("exists"));
}

#[test]
fn xfs_refuses_a_second_mount_of_its_uuid_unless_told() {
    let host = host();
    let pool = Pool::new(&host);
    let thin = |id: u32, sectors: u64| {
        let dev = host.dm_device(&pool.uuid()).expect("info").expect("there").dev;
        let table = crate::machine::line(sectors, "thin", format!("{dev} {id}"));
        crate::machine::create(&host, volume(id as u8), table).expect("open")
    };
    pool.message("create_thin 1").expect("create");
    let origin = thin(1, 1 << 20);
    host.mkfs(origin.dev, &origin.uuid, FsKind::Xfs, FS_UUID, &MkfsOptions::default()).expect("mkfs");
    let call = |dev, target: &str| MountCall { fs: FsKind::Xfs, ..mount(dev, target) };
    host.mount(&call(origin.dev, "/one")).expect("mount");
    pool.snapshot(2, 1, true).expect("snapshot");
    let clone = thin(2, 1 << 20);
    assert_eq!(kind(host.mount(&call(clone.dev, "/two"))), HostErrorKind::Invalid);
    host.mount(&MountCall { allow_same_uuid: true, ..call(clone.dev, "/two") }).expect("nouuid");
    assert!(host.violations().is_empty());
}

#[test]
fn a_snapshot_of_a_running_origin_is_a_violation() {
    let host = host();
    let pool = Pool::new(&host);
    pool.mounted(1);
    pool.snapshot(2, 1, true).expect("suspended for it");
    assert!(host.violations().is_empty());
    pool.message("create_snap 3 1").expect("the kernel does not mind");
    assert!(host.violations()[0].starts_with("snapshot_of_running_origin"));
}

#[test]
fn io_on_a_suspended_volume_does_not_come_back() {
    let host = host();
    let pool = Pool::new(&host);
    let target = pool.mounted(1);
    host.foreign_suspend(&volume(1).uuid());
    assert_eq!(kind(host.put_file(&target, "a", b"b")), HostErrorKind::TimedOut);
    assert_eq!(host.violations(), [format!("{} is left suspended", volume(1).uuid())]);
    host.dm_resume(&volume(1).uuid()).expect("resume");
    host.put_file(&target, "a", b"b").expect("put");
    assert!(host.violations().is_empty());
}
