//! What is refused writes nothing, and says why.

use vol_engine::EngineError;
use vol_engine::host::HostErrorKind;
use vol_sim::{EffectKind, Fault, SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

/// The refusal's text; and that nothing was written for it.
fn refused(host: &SimHost, disks: &[&str]) -> String {
    let engine = start(host);
    let effects = host.effects();
    let error = engine.create_vg(&vg_request(disks), false).unwrap_err();
    assert!(matches!(error, EngineError::Refused(_)), "{error:?}");
    assert_eq!(host.effects(), effects, "{error} came after something had been done");
    assert_eq!(inventory(&engine), Vec::<String>::new());
    error.to_string()
}

fn with(disk: SimDisk) -> SimHost {
    let host = machine();
    host.add_disk(disk);
    host
}

#[test]
fn each_kind_of_disk_that_must_not_be_taken_is_refused_with_nothing_written() {
    let disk = || SimDisk::new("/dev/sdc", Bytes::gib(4));
    let cases = [
        (disk().signature("filesystem", "ext4"), "is not empty, it carries: ext4 file system"),
        (disk().signature("raid", "linux_raid_member"), "is not empty, it carries: linux_raid_member (raid)"),
        (disk().signature("partition table", "gpt"), "is not empty, it carries: gpt partition table"),
        (disk().mounted_at("/srv"), "is mounted at /srv"),
        (disk().swap(), "is in use as swap"),
        (disk().holder("md0"), "is in use by md0"),
        (disk().read_only(), "is read-only"),
        (disk().sector_size(4096), "cannot mix logical sector sizes"),
        (SimDisk::new("/dev/sdc", Bytes::mib(16)), "is too small"),
    ];
    for (disk, reason) in cases {
        let text = refused(&with(disk), &["/dev/sda", "/dev/sdc"]);
        assert!(text.contains(reason), "{text}");
    }
    let text = refused(&machine(), &["/dev/sda", "/dev/nothing"]);
    assert!(text.contains("/dev/nothing cannot be used"), "{text}");
}

#[test]
fn a_disk_under_two_names_and_a_partition_of_a_given_disk_are_refused() {
    let host = machine();
    host.add_link("/dev/disk/by-id/a", "/dev/sda");
    let text = refused(&host, &["/dev/sda", "/dev/disk/by-id/a"]);
    assert!(text.contains("are the same disk"), "{text}");
    let host = machine();
    host.add_disk(SimDisk::partition("/dev/sdb1", "/dev/sdb", Bytes::mib(1), Bytes::gib(1)));
    let text = refused(&host, &["/dev/sdb", "/dev/sdb1"]);
    assert!(text.contains("is a partition of /dev/sdb"), "{text}");
}

#[test]
fn a_disk_of_another_vg_is_refused_even_with_wipe() {
    let host = Op::CreatePool.before();
    let engine = start(&host);
    let mut request = vg_request(&["/dev/sda"]);
    request.name = name("other");
    request.wipe = true;
    let error = engine.create_vg(&request, false).unwrap_err();
    assert!(error.to_string().contains("belongs to the volume group data"), "{error}");
}

#[test]
fn wipe_destroys_what_was_named_and_then_the_disk_is_ours() {
    let host = with(SimDisk::new("/dev/sdc", Bytes::gib(4)).signature("filesystem", "xfs"));
    let engine = start(&host);
    let mut request = vg_request(&["/dev/sdc"]);
    request.wipe = true;
    engine.create_vg(&request, false).unwrap();
    sound(&host, &engine, "after a wipe");
}

#[test]
fn a_disk_that_errors_half_way_leaves_no_half_made_vg() {
    let host = machine();
    let engine = start(&host);
    for kind in [EffectKind::OpenWrite, EffectKind::DurableWrite, EffectKind::Write, EffectKind::Flush] {
        host.fail_next(kind, Fault::Error(HostErrorKind::Io));
        engine.create_vg(&vg_request(&["/dev/sda", "/dev/sdb"]), false).unwrap_err();
        assert_eq!(inventory(&start(&host)), Vec::<String>::new(), "{kind:?}");
        host.clear_faults();
    }
    Op::CreateVg.run(&engine).unwrap();
}

#[test]
fn a_disk_that_vanishes_half_way_leaves_no_half_made_vg_on_the_other() {
    let host = machine();
    let engine = start(&host);
    host.fail_device("/dev/sdb", Fault::Error(HostErrorKind::Io));
    let error = engine.create_vg(&vg_request(&["/dev/sda", "/dev/sdb"]), false).unwrap_err();
    assert!(error.to_string().contains("/dev/sdb"), "{error}");
    host.clear_faults();
    assert_eq!(inventory(&start(&host)), Vec::<String>::new());
    engine.create_vg(&vg_request(&["/dev/sda"]), false).unwrap();
}

#[test]
fn f16_f17_mkfs_that_fails_takes_the_volume_back_and_a_probe_that_finds_something_forbids_it() {
    for kind in [EffectKind::Mkfs, EffectKind::DmCreate, EffectKind::DmRemove] {
        let host = Op::CreateFormatted.before();
        let engine = start(&host);
        host.fail_next(kind, Fault::Error(HostErrorKind::Tool));
        Op::CreateFormatted.run(&engine).unwrap_err();
        assert_eq!(inventory(&engine), ["pool tank Ready", "vg data Ready"], "{kind:?}");
        Op::CreateFormatted.run(&engine).unwrap();
        sound(&host, &engine, "after a failed mkfs");
    }
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    host.lie_in_probe("*", Some(vol_sim::ProbeLie::Other("xfs".to_owned())));
    Op::CreateFormatted.run(&engine).unwrap_err();
    assert_eq!(host.counters().mkfs, 0);
}

#[test]
fn a_pool_whose_commit_failed_is_refused_and_the_volume_is_not_acknowledged() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    host.fail_next(EffectKind::DmMessage, Fault::MessageCommitFails);
    Op::CreateFormatted.run(&engine).unwrap_err();
    let problems: Vec<_> = engine.vgs()[0].view().problems.iter().map(|problem| problem.code).collect();
    assert_eq!(problems, ["unfinished", "pool-refused"]);
    let error = engine.create_volume(&volume_request("other", None), false).unwrap_err();
    assert!(error.to_string().contains("needs a check"), "{error}");
}

#[test]
fn a_file_in_a_directory_that_is_not_there_is_refused_and_a_typo_is_not_remembered() {
    use vol_engine::host::HostRead as _;
    let host = machine();
    let engine = start(&host);
    let mut request = vg_request(&[]);
    request.files = vec![("/nope/x.img".into(), Bytes::gib(1))];
    let error = engine.create_vg(&request, false).unwrap_err();
    assert_eq!(error.to_string(), "the directory /nope does not exist; nothing was written");
    engine.scan(&["/data/typo.img".into()], true).unwrap_err();
    assert_eq!(host.backing_files().unwrap(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_scan_that_was_asked_for_forgets_files_that_are_gone_and_a_start_does_not() {
    use vol_engine::host::{HostMut as _, HostRead as _};
    let host = machine();
    host.remember_backing_files(&["/data/gone.img".into()]).unwrap();
    let engine = start(&host);
    assert_eq!(engine.scan_problems()[0].code, "file-not-attached");
    assert_eq!(host.backing_files().unwrap().len(), 1);
    engine.scan(&[], true).unwrap();
    assert_eq!(engine.scan_problems(), Vec::new());
    assert_eq!(host.backing_files().unwrap().len(), 0);
}

#[test]
fn a_full_pool_is_a_problem_of_its_own_and_takes_nothing_new() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    let pool = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().id);
    let uuid = vol_core::dm::Device::Pool(pool).uuid();
    host.set_pool_mode(&uuid, vol_sim::SimPoolMode::OutOfDataSpace);
    engine.refresh();
    let problems: Vec<_> = engine.vgs()[0].view().problems.iter().map(|problem| problem.code).collect();
    assert_eq!(problems, ["pool-full"]);
    let error = Op::CreateRaw.run(&engine).unwrap_err();
    assert!(error.to_string().contains("is full"), "{error}");
}

#[test]
fn an_attached_volume_is_not_deleted() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    let data = name("data");
    engine.attach(&data, &volume("raw"), false).unwrap();
    let error = engine.delete_volume(&data, &volume("raw"), false).unwrap_err();
    assert_eq!(error.to_string(), "cannot delete data/raw: it is attached");
    engine.detach(&data, &volume("raw"), false).unwrap();
    engine.delete_volume(&data, &volume("raw"), false).unwrap();
}

#[test]
fn a_mount_that_fails_leaves_no_active_device() {
    use vol_engine::host::HostRead as _;
    let host = Op::Mount.before();
    let engine = start(&host);
    host.fail_next(EffectKind::Mount, Fault::Error(HostErrorKind::Io));
    Op::Mount.run(&engine).unwrap_err();
    assert_eq!(host.dm_devices().unwrap().len(), 3, "the pool's three and no more");
    Op::Mount.run(&engine).unwrap();
    engine.mount(&name("data"), &volume("pg"), std::path::Path::new("/srv/pg2"), true, false).unwrap_err();
    assert_eq!(host.dm_devices().unwrap().len(), 4, "what is mounted elsewhere stays");
}
