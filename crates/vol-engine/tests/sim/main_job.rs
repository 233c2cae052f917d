use std::path::Path;

use vol_engine::Done;
use vol_types::*;

use super::bench::*;

#[test]
fn from_raw_disks_to_a_mounted_volume_and_back() {
    let host = machine();
    let engine = start(&host);
    for op in [Op::CreateVg, Op::CreatePool, Op::CreateFormatted, Op::Mount] {
        op.run(&engine).unwrap();
    }
    host.put_file("/srv/pg", "kept", b"yes").unwrap();
    for op in [Op::SnapshotMounted, Op::Unmount, Op::DeleteVolume] {
        op.run(&engine).unwrap();
    }
    assert_eq!(
        inventory(&engine),
        ["pool tank Ready", "vg data Ready", "volume pg@before Ready formatted ext4"],
        "a snapshot outlives its volume"
    );
    engine.mount(&name("data"), &volume("pg@before"), Path::new("/mnt"), false, false).unwrap();
    assert_eq!(host.read_file("/mnt", "kept").unwrap().as_deref(), Some(&b"yes"[..]));
    sound(&host, &engine, "the main job");
}

#[test]
fn a_restart_knows_all_and_changes_nothing_in_the_kernel() {
    let host = Op::SnapshotMounted.before();
    let engine = start(&host);
    let (before, effects) = (inventory(&engine), host.effects());
    host.kill_daemon();
    host.restart();
    host.reset_counters();
    let engine = start(&host);
    assert_eq!(inventory(&engine), before);
    let opened = host.effect_log().into_iter().filter(|effect| effect.number > effects);
    // It opens the disks, and flushes what its predecessor may have left in their caches; that writes nothing.
    use vol_sim::EffectKind::{Flush, OpenWrite};
    let others: Vec<_> = opened.filter(|effect| !matches!(effect.kind, OpenWrite | Flush)).collect();
    assert_eq!(host.counters().writes, 0);
    // Reading the pool's own metadata takes a metadata snapshot, and gives it back.
    let messages: Vec<_> = others.iter().map(|effect| effect.what.rsplit(' ').next().unwrap_or_default()).collect();
    assert_eq!(messages, ["reserve_metadata_snap", "release_metadata_snap"], "a start did {others:?}");
    assert!(others.iter().all(|effect| effect.kind == vol_sim::EffectKind::DmMessage), "a start did {others:?}");
}

#[test]
fn a_reboot_brings_the_pools_up_and_the_data_back() {
    let host = Op::SnapshotMounted.before();
    host.put_file("/srv/pg", "kept", b"yes").unwrap();
    host.crash(vol_sim::CrashMode::LoseAll);
    host.restart();
    let engine = start(&host);
    sound(&host, &engine, "after a reboot");
    Op::Mount.run(&engine).unwrap();
    assert_eq!(host.read_file("/srv/pg", "kept").unwrap().as_deref(), Some(&b"yes"[..]));
}

#[test]
fn a_vg_over_a_file_is_attached_again_after_a_reboot() {
    let host = machine();
    let engine = start(&host);
    Op::CreateFileVg.run(&engine).unwrap();
    host.crash(vol_sim::CrashMode::LoseAll);
    host.restart();
    let engine = start(&host);
    assert_eq!(inventory(&engine), ["vg data Ready"]);
    Op::DeleteVg.run(&engine).unwrap();
    use vol_engine::host::HostRead as _;
    assert!(!host.path_exists(Path::new("/var/lib/volumed/demo.img")).unwrap(), "the file was ours");
}

#[test]
fn a_file_without_a_vg_is_not_left_attached() {
    let host = machine();
    let engine = start(&host);
    use vol_engine::host::{HostMut as _, HostRead as _};
    let file = Path::new("/data/other.img");
    host.create_file(file, Bytes::gib(1)).unwrap();
    let error = engine.scan(&[file.into()], true).unwrap_err();
    assert_eq!(error.to_string(), "the file /data/other.img carries no PV of a volume group");
    assert_eq!(host.loop_device_of(file).unwrap(), None);
    assert_eq!(host.backing_files().unwrap(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_deleted_vg_leaves_disks_that_can_be_used_again() {
    let host = Op::DeleteVg.before();
    let engine = start(&host);
    Op::DeleteVg.run(&engine).unwrap();
    assert_eq!(inventory(&start(&host)), Vec::<String>::new());
    Op::CreateVg.run(&engine).unwrap();
    sound(&host, &engine, "made again");
}

#[test]
fn init_makes_a_vg_and_a_pool_or_neither() {
    let host = machine();
    let engine = start(&host);
    engine.init(&vg_request(&["/dev/sda"]), &name("pool"), false).unwrap();
    assert_eq!(inventory(&engine), ["pool pool Ready", "vg data Ready"]);

    let host = machine();
    host.set_dm_targets(&[]);
    let engine = start(&host);
    host.fail_next(vol_sim::EffectKind::DmCreate, vol_sim::Fault::Error(vol_engine::host::HostErrorKind::Unsupported));
    engine.init(&vg_request(&["/dev/sda"]), &name("pool"), false).unwrap_err();
    assert_eq!(inventory(&engine), Vec::<String>::new());
    assert_eq!(inventory(&start(&host)), Vec::<String>::new());
}

#[test]
fn f30_the_same_creation_twice_is_one_volume() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    let request = volume_request("pg", Some(FsKind::Ext4));
    assert!(changed(engine.create_volume(&request, false).unwrap()));
    assert!(matches!(engine.create_volume(&request, false).unwrap(), Done::Unchanged(_)));
    assert_eq!(host.counters().mkfs, 1);
}

#[test]
fn a_dry_run_changes_nothing() {
    let host = Op::Mount.before();
    let engine = start(&host);
    let effects = host.effects();
    let data = name("data");
    let plans = [
        engine.create_volume(&volume_request("new", Some(FsKind::Xfs)), true).unwrap(),
        engine.delete_volume(&data, &volume("pg"), true).unwrap(),
        engine.mount(&data, &volume("pg"), Path::new("/srv/pg"), false, true).unwrap(),
        engine.create_snapshot(&"data/pg@x".parse().unwrap(), true).unwrap(),
    ];
    for plan in plans {
        assert!(matches!(plan, Done::Planned(plan) if !plan.is_empty()));
    }
    assert_eq!(host.effects(), effects);
}

#[test]
fn a_raw_volume_is_attached_and_detached() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    let data = name("data");
    assert!(changed(engine.attach(&data, &volume("raw"), false).unwrap()));
    assert!(matches!(engine.attach(&data, &volume("raw"), false).unwrap(), Done::Unchanged(_)));
    assert!(changed(engine.detach(&data, &volume("raw"), false).unwrap()));
    sound(&host, &engine, "attached and detached");
}
