//! Growing volumes with their file systems, checking, trimming, options of mkfs.

use std::path::Path;

use vol_core::dm::Device;
use vol_core::plan::fs::NewSize;
use vol_engine::host::HostErrorKind;
use vol_engine::{Done, Engine, EngineError, StepError};
use vol_sim::{Content, CrashMode, EffectKind, Fault, FsFlaw, SimHost};
use vol_types::{Bytes, FsKind, MkfsOptions, Name, RootDir, Volume, VolumeId};

use super::bench::*;

const SRV: &str = "/srv/pg";

fn data() -> Name {
    name("data")
}

fn pg(engine: &Engine<SimHost>) -> Volume {
    engine.vgs()[0].read(|catalog| catalog.volume_named(&volume("pg")).unwrap().clone())
}

fn uuid(id: VolumeId) -> String {
    Device::Volume(id).uuid()
}

/// How far the file system of `pg` goes.
fn fs_size(host: &SimHost, engine: &Engine<SimHost>) -> Bytes {
    match host.content(&uuid(pg(engine).id)).unwrap() {
        Content::Fs { size, .. } => Bytes(size),
        other => panic!("{other:?}"),
    }
}

fn resize(engine: &Engine<SimHost>, to: Bytes) -> Result<Done<VolumeId>, EngineError> {
    engine.resize_volume(&data(), &volume("pg"), NewSize::To(to), false)
}

fn check(engine: &Engine<SimHost>, repair: bool) -> Result<Done<VolumeId>, EngineError> {
    engine.check_volume(&data(), &volume("pg"), repair, false)
}

fn mount(engine: &Engine<SimHost>, read_only: bool) -> Result<Done<VolumeId>, EngineError> {
    engine.mount(&data(), &volume("pg"), Path::new(SRV), read_only, false)
}

fn kinds(host: &SimHost) -> Vec<EffectKind> {
    let kinds = host.effect_log().into_iter().map(|effect| effect.kind);
    kinds.filter(|kind| !matches!(kind, EffectKind::DurableWrite)).collect()
}

/// An idle volume with something wrong in it.
fn spoilt(flaw: FsFlaw) -> (SimHost, Engine<SimHost>) {
    let host = Op::Unmount.before();
    let engine = start(&host);
    host.put_file(SRV, "f", b"kept").unwrap();
    host.spoil_fs(&uuid(pg(&engine).id), flaw).unwrap();
    Op::Unmount.run(&engine).unwrap();
    (host, engine)
}

#[test]
fn a_mounted_volume_grows_with_its_file_system_and_keeps_its_files() {
    let host = Op::Resize.before();
    let engine = start(&host);
    host.put_file(SRV, "f", b"kept").unwrap();
    host.keep_trace(true);
    assert!(changed(resize(&engine, Bytes::gib(20)).unwrap()));
    assert_eq!(kinds(&host), [EffectKind::DmReload, EffectKind::FsGrow]);
    assert_eq!((pg(&engine).size, fs_size(&host, &engine)), (Bytes::gib(20), Bytes::gib(20)));
    assert_eq!(host.read_file(SRV, "f").unwrap().unwrap(), b"kept");
    // Once more is nothing more; an addition is.
    assert!(!changed(resize(&engine, Bytes::gib(20)).unwrap()));
    let by = NewSize::By(Bytes::gib(1));
    assert!(changed(engine.resize_volume(&data(), &volume("pg"), by, false).unwrap()));
    assert_eq!(fs_size(&host, &engine), Bytes::gib(21));
    sound(&host, &engine, "resized");
}

#[test]
fn a_dry_run_of_a_resize_changes_nothing() {
    let host = Op::Resize.before();
    let engine = start(&host);
    let effects = host.effects();
    let planned = engine.resize_volume(&data(), &volume("pg"), NewSize::To(Bytes::gib(20)), true).unwrap();
    let Done::Planned(plan) = planned else { panic!("{planned:?}") };
    assert_eq!(plan.steps.len(), 3);
    assert_eq!((host.effects(), pg(&engine).size), (effects, Bytes::gib(10)));
}

#[test]
fn the_file_system_of_an_idle_volume_grows_at_its_next_writable_mount_and_not_at_a_read_only_one() {
    for fs in [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs] {
        let host = Op::CreateFormatted.before();
        let engine = start(&host);
        engine.create_volume(&volume_request("pg", Some(fs)), false).unwrap();
        resize(&engine, Bytes::gib(12)).unwrap();
        mount(&engine, true).unwrap();
        assert_eq!(fs_size(&host, &engine), Bytes::gib(10));
        Op::Unmount.run(&engine).unwrap();
        mount(&engine, false).unwrap();
        assert_eq!(fs_size(&host, &engine), Bytes::gib(12));
        sound(&host, &engine, fs.as_str());
    }
}

#[test]
fn a_mount_of_what_did_not_grow_runs_no_tool() {
    let host = Op::Mount.before();
    let engine = start(&host);
    host.keep_trace(true);
    mount(&engine, false).unwrap();
    assert_eq!(kinds(&host), [EffectKind::DmCreate, EffectKind::Mount]);
}

#[test]
fn a_file_system_that_cannot_grow_is_told_of_and_grows_when_asked_again() {
    let host = Op::Resize.before();
    let engine = start(&host);
    host.fail_next(EffectKind::FsGrow, Fault::Error(HostErrorKind::Tool));
    let error = resize(&engine, Bytes::gib(20)).unwrap_err();
    assert!(error.to_string().contains("grow the ext4 at /srv/pg"), "{error}");
    assert_eq!((pg(&engine).size, fs_size(&host, &engine)), (Bytes::gib(20), Bytes::gib(10)));
    assert!(changed(resize(&engine, Bytes::gib(20)).unwrap()));
    assert_eq!(fs_size(&host, &engine), Bytes::gib(20));
}

#[test]
fn a_mount_is_good_although_its_file_system_cannot_grow() {
    let host = Op::Mount.before();
    let engine = start(&host);
    resize(&engine, Bytes::gib(12)).unwrap();
    host.fail_next(EffectKind::FsGrow, Fault::Error(HostErrorKind::Tool));
    mount(&engine, false).unwrap();
    assert_eq!(fs_size(&host, &engine), Bytes::gib(10));
    Op::Unmount.run(&engine).unwrap();
    mount(&engine, false).unwrap();
    assert_eq!(fs_size(&host, &engine), Bytes::gib(12));
}

#[test]
fn a_daemon_that_dies_at_any_point_of_a_resize_leaves_what_its_successor_and_the_next_request_finish() {
    let before = Op::Resize.before();
    let mut cut_short = 0;
    for number in 1..12 {
        for death in [Fault::KillDaemonBefore, Fault::KillDaemonInside(1), Fault::KillDaemonAfter] {
            let host = before.fork();
            let engine = start(&host);
            host.fail_effect(host.effects() + number, death);
            drop(resize(&engine, Bytes::gib(20)));
            if !host.is_dead() {
                continue;
            }
            host.clear_faults();
            host.restart();
            let engine = start(&host);
            let story = format!("{death:?} at {number}");
            // The device follows the record by itself; the volume stayed mounted all the time.
            sound(&host, &engine, &story);
            cut_short += u32::from(pg(&engine).size == Bytes::gib(20) && fs_size(&host, &engine) < Bytes::gib(20));
            resize(&engine, Bytes::gib(20)).unwrap();
            assert_eq!(fs_size(&host, &engine), Bytes::gib(20), "{story}");
        }
    }
    assert!(cut_short >= 3, "only {cut_short} deaths were between the record and the file system");
}

#[test]
fn a_power_cut_after_the_record_of_a_resize_is_finished_by_the_next_mount() {
    let host = Op::Resize.before();
    let engine = start(&host);
    host.fail_next(EffectKind::DmReload, Fault::PowerCutBefore);
    drop(resize(&engine, Bytes::gib(20)));
    host.settle(CrashMode::LoseAll);
    host.restart();
    let engine = start(&host);
    assert_eq!(pg(&engine).size, Bytes::gib(20));
    mount(&engine, false).unwrap();
    assert_eq!(fs_size(&host, &engine), Bytes::gib(20));
}

#[test]
fn growing_beyond_what_the_pool_may_promise_is_refused_and_snapshots_keep_their_size() {
    let host = Op::DeleteSnapshot.before();
    let engine = start(&host);
    let refusal = resize(&engine, Bytes::gib(100)).unwrap_err();
    assert!(refusal.to_string().contains("over-commit limit"), "{refusal}");
    resize(&engine, Bytes::gib(20)).unwrap();
    let before = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume("pg@before")).unwrap().size);
    assert_eq!(before, Bytes::gib(10));
    let refusal = engine.resize_volume(&data(), &volume("pg@before"), NewSize::To(Bytes::gib(20)), false).unwrap_err();
    assert!(refusal.to_string().contains("is a snapshot"), "{refusal}");
}

#[test]
fn a_raw_volume_grows_while_it_is_attached() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    engine.attach(&data(), &volume("raw"), false).unwrap();
    let to = NewSize::To(Bytes::gib(11));
    engine.resize_volume(&data(), &volume("raw"), to, false).unwrap();
    sound(&host, &engine, "its device grew");
    assert!(!changed(engine.resize_volume(&data(), &volume("raw"), to, false).unwrap()));
}

#[test]
fn errors_that_the_kernel_marked_are_put_right_before_the_next_writable_mount() {
    let (host, engine) = spoilt(FsFlaw::Safe);
    host.keep_trace(true);
    mount(&engine, false).unwrap();
    assert_eq!(kinds(&host), [EffectKind::DmCreate, EffectKind::FsCheck, EffectKind::Mount]);
    assert!(matches!(host.content(&uuid(pg(&engine).id)), Ok(Content::Fs { flaw: FsFlaw::None, .. })));
    assert_eq!(host.read_file(SRV, "f").unwrap().unwrap(), b"kept");
    sound(&host, &engine, "checked and mounted");
}

#[test]
fn errors_that_need_a_person_keep_a_volume_from_being_written_to_and_not_from_being_read() {
    let (host, engine) = spoilt(FsFlaw::Hard);
    host.keep_trace(true);
    mount(&engine, true).unwrap();
    assert_eq!(kinds(&host), [EffectKind::DmCreate, EffectKind::Mount], "reading waits for no check");
    Op::Unmount.run(&engine).unwrap();
    let error = mount(&engine, false).unwrap_err();
    assert!(error.to_string().contains("inode 12 is wrong"), "{error}");
    assert!(!engine.vgs()[0].view().kernel.dm.contains_key(&Device::Volume(pg(&engine).id)));
}

#[test]
fn a_check_that_finds_errors_is_remembered_until_one_finds_none() {
    // XFS has no mark of its own: only our record knows of it.
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    engine.create_volume(&volume_request("pg", Some(FsKind::Xfs)), false).unwrap();
    assert!(!changed(check(&engine, false).unwrap()), "there is nothing wrong, and nothing changed");
    Op::Mount.run(&engine).unwrap();
    host.spoil_fs(&uuid(pg(&engine).id), FsFlaw::Hard).unwrap();
    assert!(check(&engine, false).unwrap_err().to_string().contains("mounted at /srv/pg"));
    Op::Unmount.run(&engine).unwrap();
    let found = check(&engine, false).unwrap_err();
    assert!(matches!(&found, EngineError::Step(step) if matches!(step.source, StepError::Damaged(_))), "{found}");
    assert!(found.to_string().contains("inode 12"), "{found}");
    assert!(pg(&engine).check_fs);
    let view = engine.vgs()[0].view();
    assert!(view.problems.iter().any(|problem| problem.code == "fs-check" && problem.hint.contains("data/pg")));
    assert!(!view.kernel.dm.contains_key(&Device::Volume(pg(&engine).id)), "a volume that nobody uses is active");
    // It stays so through a restart, and through a mount that is refused for it.
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.restart();
    let engine = start(&host);
    assert!(mount(&engine, false).unwrap_err().to_string().contains("inode 12"));
    mount(&engine, true).unwrap();
    Op::Unmount.run(&engine).unwrap();
    assert!(changed(check(&engine, true).unwrap()));
    assert!(!pg(&engine).check_fs);
    mount(&engine, false).unwrap();
    sound(&host, &engine, "repaired");
}

#[test]
fn a_snapshot_of_a_volume_that_is_to_be_checked_says_so_too() {
    let (_host, engine) = spoilt(FsFlaw::Hard);
    check(&engine, false).unwrap_err();
    Op::SnapshotIdle.run(&engine).unwrap();
    let marked = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume("pg@before")).unwrap().check_fs);
    assert!(marked);
}

#[test]
fn a_btrfs_is_looked_at_and_never_repaired() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    engine.create_volume(&volume_request("pg", Some(FsKind::Btrfs)), false).unwrap();
    check(&engine, false).unwrap();
    assert!(check(&engine, true).unwrap_err().to_string().contains("not repaired"));
}

#[test]
fn trimming_gives_back_what_deleted_files_had() {
    let host = Op::Trim.before();
    let engine = start(&host);
    let used = || {
        engine.vgs()[0].read(|catalog| {
            let pool = catalog.pools().next().unwrap();
            host.pool(&Device::Pool(pool.id).uuid()).unwrap().thins.values().map(|thin| thin.mapped).sum::<u64>()
        })
    };
    host.put_file(SRV, "big", &vec![1; 64 << 20]).unwrap();
    let full = used();
    host.remove_file(SRV, "big").unwrap();
    assert_eq!(used(), full, "deleting a file gives nothing back by itself");
    assert_eq!(engine.trim_volume(&data(), &volume("pg"), true).unwrap(), None);
    let trimmed = engine.trim_volume(&data(), &volume("pg"), false).unwrap().unwrap();
    assert!(trimmed >= Bytes::mib(64) && used() < full, "{trimmed} of {full} chunks, {} left", used());
    assert_eq!(engine.trim_volume(&data(), &volume("pg"), false).unwrap(), Some(Bytes::ZERO));
    Op::Unmount.run(&engine).unwrap();
    let refusal = engine.trim_volume(&data(), &volume("pg"), false).unwrap_err();
    assert!(refusal.to_string().contains("not mounted writable"), "{refusal}");
}

#[test]
fn options_of_mkfs_reach_it_and_nothing_else() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    host.keep_trace(true);
    let mkfs = MkfsOptions::parse(FsKind::Ext4, &["reserved-percent=0", "label=pg"]).unwrap();
    let request = vol_engine::CreateVolume { mkfs, ..volume_request("pg", Some(FsKind::Ext4)) };
    let planned = engine.create_volume(&request, true).unwrap();
    let Done::Planned(plan) = planned else { panic!("{planned:?}") };
    let lines: Vec<_> = plan.steps.iter().map(|step| step.action.to_string()).collect();
    assert!(lines.iter().any(|line| line == "run mkfs.ext4 with reserved-percent=0, label=pg"), "{lines:?}");
    engine.create_volume(&request, false).unwrap();
    let made: Vec<_> = host.trace().into_iter().filter(|line| line.contains("mkfs.ext4")).collect();
    assert!(made.len() == 1 && made[0].contains("with reserved-percent=0, label=pg"), "{made:?}");
}

#[test]
fn the_root_directory_is_made_as_asked_for_before_anybody_sees_it() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    host.keep_trace(true);
    let root = RootDir { subdir: None, owner: "999:999".parse().ok(), mode: Some(0o700), empty: true };
    let mut mkfs = MkfsOptions::default();
    mkfs.root = root;
    let request = vol_engine::CreateVolume { mkfs, ..volume_request("pg", Some(FsKind::Ext4)) };
    // Killed at it, the volume is as if it had never been asked for.
    let killed = host.fork();
    let victim = start(&killed);
    killed.fail_next(EffectKind::PrepareRoot, Fault::KillDaemonAfter);
    drop(victim.create_volume(&request, false));
    assert!(killed.is_dead());
    killed.restart();
    let victim = start(&killed);
    assert!(victim.vgs()[0].read(|catalog| catalog.volume_named(&volume("pg")).is_none()));
    victim.create_volume(&request, false).unwrap();
    sound(&killed, &victim, "killed while the root was made");
    // A failure there is a failed creation.
    host.fail_next(EffectKind::PrepareRoot, Fault::Error(HostErrorKind::Io));
    let error = engine.create_volume(&request, false).unwrap_err();
    assert!(error.to_string().contains("make the root directory: owner 999:999, mode 0700, empty"), "{error}");
    engine.create_volume(&request, false).unwrap();
    Op::Mount.run(&engine).unwrap();
    sound(&host, &engine, "made with a root");
}
