//! The end of a pool transaction is written with the next commit: until then only the kernel's transaction id says it.

use vol_engine::Engine;
use vol_engine::host::HostErrorKind;
use vol_sim::{CrashMode, EffectKind, Fault, SimHost};
use vol_types::*;

use super::bench::*;

fn objects(engine: &Engine<SimHost>) -> Vec<Object> {
    engine.vgs()[0].read(vol_core::Catalog::objects)
}

fn commits(engine: &Engine<SimHost>) -> u64 {
    // What has waited for longer than from one refresh to the next is written.
    (0..2).for_each(|_| engine.refresh());
    engine.vgs()[0].view().counters.commits
}

/// The machine after a power cut.
fn cut(host: &SimHost) -> SimHost {
    let host = host.fork();
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.restart();
    host
}

#[test]
fn a_start_comes_to_the_very_records_that_no_disk_had() {
    let all = [
        Op::CreateRaw,
        Op::SnapshotMounted,
        Op::SnapshotIdle,
        Op::SnapshotGroup,
        Op::CloneSnapshot,
        Op::CloneMounted,
        Op::DeleteVolume,
        Op::DeleteSnapshot,
    ];
    for op in all {
        let host = op.before();
        let engine = start(&host);
        let before = commits(&engine);
        op.run(&engine).unwrap();
        let expected = objects(&engine);
        let after = start(&cut(&host));
        assert_eq!(objects(&after), expected, "{op:?} after a power cut");
        // It was written by that start, and would have been by this daemon.
        assert_eq!(commits(&after), 1, "{op:?}: nothing was owed");
        assert_eq!(commits(&engine) - before, 2, "{op:?}: the change, and its end");
        assert_eq!(objects(&engine), expected);
        assert_eq!(commits(&start(&cut(&host))), 0, "{op:?}: it was not written");
    }
}

#[test]
fn it_is_written_once_if_no_other_change_comes() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    let before = commits(&engine);
    Op::CreateRaw.run(&engine).unwrap();
    assert_eq!([commits(&engine), commits(&engine), commits(&engine)].map(|now| now - before), [2; 3]);
    // A daemon that ends in order leaves nothing to the next one.
    engine.delete_volume(&name("data"), &volume("raw"), false).unwrap();
    engine.settle_owed();
    assert_eq!(commits(&start(&cut(&host))), 0);
}

#[test]
fn a_checkpoint_of_that_moment_holds_what_the_log_says_up_to_it() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    let expected = objects(&engine);
    let vg = engine.vgs()[0].clone();
    // Until the log is half full, while each end waits for the next commit.
    let job = loop {
        engine.keep_volume(&name("data"), &volume("raw"), false).unwrap();
        engine.undelete_volume(&name("data"), &volume("raw"), false).unwrap();
        engine.create_snapshots(&group(&["raw@s"]), &Labels::default(), false).unwrap();
        engine.delete_volume(&name("data"), &volume("raw@s"), false).unwrap();
        if let Some(job) = vg.checkpoint_job() {
            break job;
        }
    };
    let owed = objects(&engine);
    assert_ne!(owed, expected);
    while !job.lock().unwrap().is_done() {
        job.lock().unwrap().advance(&host).unwrap();
        let again = start(&cut(&host));
        assert_eq!(objects(&again), owed);
        assert_eq!(commits(&again), 1, "the end was on a disk, and at a commit that has it not");
    }
    vg.maintain(&host);
    assert_eq!(objects(&start(&cut(&host))), owed);
}

#[test]
fn what_was_answered_stays_true_if_the_next_commit_fails() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    let expected = inventory(&engine);
    for disk in ["/dev/sda", "/dev/sdb"] {
        host.fail_device(disk, Fault::Error(HostErrorKind::Io));
    }
    let error = engine.create_volume(&volume_request("other", None), false).unwrap_err();
    assert!(error.to_string().contains("metadata"), "{error}");
    engine.attach(&name("data"), &volume("raw"), false).unwrap();
    engine.detach(&name("data"), &volume("raw"), false).unwrap();
    let after = start(&cut(&host));
    assert_eq!(inventory(&after), expected);
    sound(&host, &after, "one commit failed");
}

#[test]
fn while_a_disk_of_the_pool_is_away_after_a_crash_it_is_shown_in_the_making_and_then_it_is_there() {
    let host = Op::CreateRaw.before();
    host.add_disk(vol_sim::SimDisk::new("/dev/sdc", Bytes::gib(4)));
    let engine = start(&host);
    engine.extend_vg(&extend_request(&["/dev/sdc"]), false).unwrap();
    Op::CreateRaw.run(&engine).unwrap();
    let expected = inventory(&engine);
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.remove_disk("/dev/sda");
    host.restart();
    let engine = start(&host);
    assert!(inventory(&engine).contains(&"volume raw Creating Raw".to_owned()), "{:?}", inventory(&engine));
    let effects = host.effect_log().len();
    engine.delete_volume(&name("data"), &volume("raw"), false).unwrap_err();
    assert_eq!(host.effect_log().len(), effects, "a refusal comes before anything is done");
    host.reattach("/dev/sda");
    engine.scan(&[], true).unwrap();
    assert_eq!(inventory(&engine), expected);
    let writes = host.effect_log().iter().filter(|effect| effect.kind == EffectKind::DurableWrite).count();
    assert!(writes > 0);
}

#[test]
fn a_backup_of_that_moment_writes_nothing_and_is_of_the_commit_that_comes() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    let (effects, writes) = (host.effect_log().len(), host.counters().writes);
    let backup = engine.backup_vg(&name("data")).unwrap();
    assert_eq!((host.effect_log().len(), host.counters().writes), (effects, writes), "a question writes");
    assert_eq!(backup.objects, objects(&engine));
    let now = engine.vgs()[0].read(vol_core::Catalog::sequence);
    assert_eq!(backup.sequence, now + 1);
    engine.settle_owed();
    assert_eq!(engine.vgs()[0].read(vol_core::Catalog::sequence), now + 1);
    assert_eq!(engine.backup_vg(&name("data")).unwrap().sequence, now + 1);
}

#[test]
fn a_disk_that_gets_a_copy_at_that_moment_says_what_the_others_do() {
    let host = Op::CreateRaw.before();
    host.add_disk(vol_sim::SimDisk::new("/dev/sdc", Bytes::gib(4)));
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    let admitted = host.effects();
    engine.extend_vg(&extend_request(&["/dev/sdc"]), false).unwrap();
    let (last, expected) = (host.effects(), inventory(&engine));
    assert_eq!(engine.vgs()[0].view().copies, (3, 3));
    for alone in ["/dev/sda", "/dev/sdb", "/dev/sdc"] {
        let host = host.fork();
        ["/dev/sda", "/dev/sdb", "/dev/sdc"]
            .iter()
            .filter(|disk| **disk != alone)
            .for_each(|disk| host.remove_disk(disk));
        assert_eq!(inventory(&start(&cut(&host))), expected, "{alone} alone");
    }
    // Cut short anywhere: what was made before is there.
    for effect in admitted + 1..=last {
        let host = Op::CreateRaw.before();
        host.add_disk(vol_sim::SimDisk::new("/dev/sdc", Bytes::gib(4)));
        let engine = start(&host);
        Op::CreateRaw.run(&engine).unwrap();
        host.fail_effect(effect, Fault::PowerCutAfter);
        _ = engine.extend_vg(&extend_request(&["/dev/sdc"]), false);
        drop(engine);
        let host = cut(&host);
        let again = start(&host);
        assert!(
            inventory(&again).contains(&"volume raw Ready Raw".to_owned()),
            "effect {effect}: {:?}",
            inventory(&again)
        );
    }
}
