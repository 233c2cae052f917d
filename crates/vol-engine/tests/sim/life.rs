//! What becomes of volumes after they were made: clones, snapshots of one instant, rollbacks, names, labels, protection.

use std::path::Path;

use vol_core::{RefusalCode, VolumeName};
use vol_engine::host::HostRead as _;
use vol_engine::{CreatePool, CreateVolume, Done, Engine, EngineError};
use vol_sim::{CrashMode, EffectKind, Fault, SimHost};
use vol_types::*;

use super::bench::*;

fn refusal<T: std::fmt::Debug>(result: Result<T, EngineError>) -> (RefusalCode, String, String) {
    match result {
        Err(EngineError::Refused(refusal)) => (refusal.code, refusal.message, refusal.hint.unwrap_or_default()),
        other => panic!("no refusal: {other:?}"),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, EngineError>, code: RefusalCode, part: &str) {
    let (found, message, hint) = refusal(result);
    assert_eq!(found, code, "{message}");
    assert!(message.contains(part), "{message:?} does not say {part:?}");
    assert!(!hint.is_empty() || matches!(code, RefusalCode::Busy | RefusalCode::Invalid), "{message}: no hint");
}

fn object(engine: &Engine<SimHost>, text: &str) -> Option<Volume> {
    engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(text)).cloned())
}

fn mount(engine: &Engine<SimHost>, text: &str) -> Result<String, EngineError> {
    let at = format!("/srv/{}", text.replace('@', "-at-"));
    engine.mount(&name("data"), &volume(text), Path::new(&at), text.contains('@'), false).map(|_| at)
}

fn unmount(engine: &Engine<SimHost>, text: &str) {
    engine.unmount(&name("data"), &volume(text), None, false).unwrap();
}

/// What the file in a volume or snapshot says.
fn read(host: &SimHost, engine: &Engine<SimHost>, text: &str) -> String {
    let at = mount(engine, text).unwrap();
    let bytes = host.read_file(&at, "file").unwrap().unwrap_or_default();
    unmount(engine, text);
    String::from_utf8(bytes).unwrap()
}

fn write(host: &SimHost, engine: &Engine<SimHost>, text: &str, what: &str) {
    let at = mount(engine, text).unwrap();
    host.put_file(&at, "file", what.as_bytes()).unwrap();
    unmount(engine, text);
}

/// A pool, and `pg` in it with a file that says `old`.
fn with_file(fs: FsKind) -> (SimHost, Engine<SimHost>) {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    engine.create_volume(&volume_request("pg", Some(fs)), false).unwrap();
    write(&host, &engine, "pg", "old");
    (host, engine)
}

fn snapshot(engine: &Engine<SimHost>, text: &str) {
    engine.create_snapshot(&format!("data/{text}").parse().unwrap(), false).unwrap();
}

fn rollback(engine: &Engine<SimHost>, text: &str) -> Result<Done<VolumeId>, EngineError> {
    engine.rollback(&format!("data/{text}").parse().unwrap(), false, false)
}

fn rename(engine: &Engine<SimHost>, old: &str, new: &str) -> Result<Done<VolumeId>, EngineError> {
    engine.rename_volume(&name("data"), &volume(old), &name(new), false)
}

fn delete(engine: &Engine<SimHost>, text: &str) -> Result<Done<VolumeId>, EngineError> {
    engine.delete_volume(&name("data"), &volume(text), false)
}

fn pool_uuid(engine: &Engine<SimHost>) -> String {
    let id = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().id);
    vol_core::dm::Device::Pool(id).uuid()
}

#[test]
fn f18_a_clone_holds_what_its_source_held_and_each_goes_its_own_way() {
    for fs in [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs] {
        let (host, engine) = with_file(fs);
        snapshot(&engine, "pg@before");
        let at = mount(&engine, "pg").unwrap();
        host.put_file(&at, "file", b"new").unwrap();
        engine.clone_volume(&clone_request("pg@before", "then"), false).unwrap();
        // Of a volume as it is now, while it is mounted.
        engine.clone_volume(&clone_request("pg", "now"), false).unwrap();
        assert_eq!(host.suspended_devices(), Vec::<String>::new());
        // Beside their origin and each other, all writable.
        let (then, now) = (mount(&engine, "then").unwrap(), mount(&engine, "now").unwrap());
        let file = |at: &str| String::from_utf8(host.read_file(at, "file").unwrap().unwrap()).unwrap();
        assert_eq!((file(&at), file(&then), file(&now)), ("new".into(), "old".into(), "new".into()), "{fs:?}");
        for (place, text) in [(&at, "of pg"), (&then, "of then"), (&now, "of now")] {
            host.put_file(place, "file", text.as_bytes()).unwrap();
        }
        assert_eq!((file(&at), file(&then), file(&now)), ("of pg".into(), "of then".into(), "of now".into()));
        for text in ["pg", "then", "now"] {
            unmount(&engine, text);
        }
        // Read-only beside each other too: the journal of none is passed over.
        for text in ["pg", "then", "now"] {
            engine.mount(&name("data"), &volume(text), Path::new(&format!("/ro/{text}")), true, false).unwrap();
        }
        for text in ["pg", "then", "now"] {
            unmount(&engine, text);
        }
        let then = object(&engine, "then").unwrap();
        let of = then.clone_of.unwrap();
        assert_eq!((of.volume, of.snapshot), (name("pg"), Some(name("before"))));
        assert_eq!((then.size, then.state, then.snapshot), (Bytes::gib(10), VolumeState::Ready, None));
        // It needs neither its snapshot nor its volume.
        for gone in ["pg@before", "pg"] {
            delete(&engine, gone).unwrap();
        }
        assert_eq!(read(&host, &engine, "then"), "of then");
        sound(&host, &engine, "clones");
    }
}

#[test]
fn a_mounted_snapshot_can_be_cloned() {
    let (host, engine) = with_file(FsKind::Ext4);
    snapshot(&engine, "pg@before");
    mount(&engine, "pg@before").unwrap();
    engine.clone_volume(&clone_request("pg@before", "copy"), false).unwrap();
    assert_eq!(read(&host, &engine, "copy"), "old");
    sound(&host, &engine, "clone of a mounted snapshot");
}

#[test]
fn f30_the_same_clone_twice_is_one_and_another_is_refused() {
    let (host, engine) = with_file(FsKind::Ext4);
    snapshot(&engine, "pg@before");
    let request = clone_request("pg@before", "copy");
    assert!(changed(engine.clone_volume(&request, false).unwrap()));
    assert!(!changed(engine.clone_volume(&request, false).unwrap()));
    refused(engine.clone_volume(&clone_request("pg", "copy"), false), RefusalCode::Exists, "a clone of pg@before");
    refused(engine.clone_volume(&clone_request("pg@before", "pg"), false), RefusalCode::Exists, "no clone of");
    refused(engine.clone_volume(&clone_request("pg", "tank"), false), RefusalCode::Exists, "taken by a pool");
    refused(engine.clone_volume(&clone_request("gone", "x"), false), RefusalCode::NotFound, "no volume data/gone");
    refused(engine.clone_volume(&clone_request("pg@gone", "x"), false), RefusalCode::NotFound, "no snapshot");
    let labelled =
        vol_engine::CloneVolume { labels: [("a=b").parse().unwrap()].into_iter().collect(), ..request.clone() };
    refused(engine.clone_volume(&labelled, false), RefusalCode::Exists, "no label a");
    // What it was made from may be gone when the answer did not arrive and is asked for again.
    delete(&engine, "pg@before").unwrap();
    assert!(!changed(engine.clone_volume(&request, false).unwrap()));
    // Another snapshot under the old name is not what it was made from.
    snapshot(&engine, "pg@before");
    refused(engine.clone_volume(&request, false), RefusalCode::Exists, "that was deleted since");
    sound(&host, &engine, "clones refused");
}

#[test]
fn a_clone_may_be_larger_than_its_origin_and_its_file_system_grows_with_the_first_mount() {
    let (host, engine) = with_file(FsKind::Ext4);
    let size = |text: &str| {
        let device = vol_core::dm::Device::Volume(object(&engine, text).unwrap().id);
        let info = host.dm_device(&device.uuid()).unwrap().unwrap();
        host.fs_state(info.dev, FsKind::Ext4, None).unwrap().size
    };
    let request = larger_clone("pg", 20 << 10);
    assert!(changed(engine.clone_volume(&request, false).unwrap()));
    assert!(!changed(engine.clone_volume(&request, false).unwrap()));
    let copy = object(&engine, "copy").unwrap();
    assert_eq!((copy.size, copy.protected), (Bytes::gib(20), true));
    assert_eq!(object(&engine, "pg").unwrap().size, Bytes::gib(10), "the origin is as it was");
    mount(&engine, "copy").unwrap();
    assert_eq!(size("copy"), Bytes::gib(20));
    unmount(&engine, "copy");
    assert_eq!(read(&host, &engine, "copy"), "old");
    let with = |size, protect| vol_engine::CloneVolume { size, protect, ..clone_request("pg", "copy") };
    refused(engine.clone_volume(&with(Some(Bytes::gib(21)), true), false), RefusalCode::Exists, "a size of 20.0 GiB");
    let smaller = vol_engine::CloneVolume { name: name("small"), ..with(Some(Bytes::gib(9)), false) };
    refused(engine.clone_volume(&smaller, false), RefusalCode::Invalid, "10.0 GiB or more");
    let largest = vol_engine::CloneVolume { name: name("large"), ..with(Some(Bytes(u64::MAX)), false) };
    refused(engine.clone_volume(&largest, false), RefusalCode::Invalid, "more than a block device can have");
    // What was not asked for may have been given to it since; what was asked for it has to have.
    assert!(!changed(engine.clone_volume(&with(None, false), false).unwrap()));
    refused(engine.delete_volume(&name("data"), &volume("copy"), false), RefusalCode::Refused, "protected");
    engine.protect(&name("data"), &volume("copy"), false, false).unwrap();
    refused(engine.clone_volume(&request, false), RefusalCode::Exists, "no protection");
    delete(&engine, "copy").unwrap();
    sound(&host, &engine, "a larger clone");
}

#[test]
fn a_volume_is_made_protected() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    let request = CreateVolume { protect: true, ..volume_request("pg", Some(FsKind::Ext4)) };
    assert!(changed(engine.create_volume(&request, false).unwrap()));
    assert!(!changed(engine.create_volume(&request, false).unwrap()));
    refused(delete(&engine, "pg"), RefusalCode::Refused, "protected");
    engine.protect(&name("data"), &volume("pg"), false, false).unwrap();
    refused(engine.create_volume(&request, false), RefusalCode::Exists, "no protection");
    sound(&host, &engine, "protected from the start");
}

#[test]
fn a_clone_is_a_promise_as_any_volume_is() {
    let host = Op::CreatePool.before();
    let engine = start(&host);
    engine.create_pool(&CreatePool { overcommit_percent: 100, ..pool_request() }, false).unwrap();
    let size = Bytes::gib(4);
    engine.create_volume(&CreateVolume { size, ..volume_request("pg", None) }, false).unwrap();
    refused(engine.clone_volume(&clone_request("pg", "copy"), false), RefusalCode::NoSpace, "over-commit");
    // A snapshot promises nothing.
    snapshot(&engine, "pg@before");
    refused(engine.clone_volume(&clone_request("pg@before", "copy"), false), RefusalCode::NoSpace, "over-commit");
    sound(&host, &engine, "over-commit");
}

/// `pg` mounted with a file, `raw` attached, and `idle`.
fn three() -> (SimHost, Engine<SimHost>) {
    let host = Op::SnapshotGroup.before();
    let engine = start(&host);
    engine.create_volume(&volume_request("idle", Some(FsKind::Ext4)), false).unwrap();
    host.put_file("/srv/pg", "file", b"old").unwrap();
    (host, engine)
}

fn all_three() -> Vec<SnapshotPath> {
    group(&["pg@t1", "raw@t1", "idle@t2"])
}

fn taken(engine: &Engine<SimHost>) -> usize {
    ["pg@t1", "raw@t1", "idle@t2"].iter().filter(|text| object(engine, text).is_some()).count()
}

#[test]
fn snapshots_that_are_asked_for_together_are_one_host_call_and_one_transaction() {
    let (host, engine) = three();
    let before = (host.counters(), host.effects());
    let Done::Planned(plan) = engine.create_snapshots(&all_three(), &Labels::default(), true).unwrap() else {
        panic!("no plan")
    };
    let steps: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(steps, ["commit", "snapshot-thin", "set-transaction", "check-pool", "commit-later"]);
    assert_eq!(host.effects(), before.1, "a dry run does nothing");
    let labels: Labels = [("set=1").parse().unwrap()].into_iter().collect();
    engine.create_snapshots(&all_three(), &labels, false).unwrap();
    let after = host.counters();
    // Three of the group, and the swap.
    assert_eq!(after.messages - before.0.messages, 4);
    let log = host.effect_log();
    let calls = log.iter().filter(|effect| effect.number > before.1 && effect.kind == EffectKind::ThinSnapshot);
    assert_eq!(calls.count(), 1);
    assert_eq!(taken(&engine), 3);
    assert!(object(&engine, "raw@t1").unwrap().labels.get("set").is_some());
    host.put_file("/srv/pg", "file", b"new").unwrap();
    unmount(&engine, "pg");
    assert_eq!(read(&host, &engine, "pg@t1"), "old");
    sound(&host, &engine, "a group");
}

#[test]
fn a_group_that_cannot_be_is_refused_as_a_whole() {
    let (host, engine) = three();
    snapshot(&engine, "raw@t1");
    let create = |all: &[&str]| engine.create_snapshots(&group(all), &Labels::default(), false);
    let effects = host.effects();
    refused(create(&["pg@t1", "raw@t1"]), RefusalCode::Exists, "snapshot data/raw@t1");
    refused(create(&["pg@t1", "gone@t1"]), RefusalCode::NotFound, "data/gone");
    refused(create(&["pg@t1", "pg@t2"]), RefusalCode::Invalid, "named twice");
    refused(create(&[]), RefusalCode::Invalid, "no snapshot");
    let many: Vec<_> = (0..33).map(|n| format!("pg@s{n}")).collect();
    refused(create(&many.iter().map(String::as_str).collect::<Vec<_>>()), RefusalCode::Invalid, "between 1 and 32");
    let elsewhere = vec!["data/pg@t1".parse().unwrap(), "other/pg@t1".parse().unwrap()];
    let elsewhere = engine.create_snapshots(&elsewhere, &Labels::default(), false);
    refused(elsewhere, RefusalCode::Invalid, "not in volume group data");
    assert_eq!(host.effects(), effects, "a refusal does nothing");
    assert_eq!(taken(&engine), 1);
}

#[test]
fn a_group_is_of_one_pool() {
    let host = Op::CreatePool.before();
    let engine = start(&host);
    for pool in ["one", "two"] {
        let size = SizeSpec::Bytes(Bytes::gib(1));
        engine.create_pool(&CreatePool { name: name(pool), size, ..pool_request() }, false).unwrap();
        let request =
            CreateVolume { pool: Some(name(pool)), size: Bytes::gib(1), ..volume_request(&format!("in-{pool}"), None) };
        engine.create_volume(&request, false).unwrap();
    }
    let both = engine.create_snapshots(&group(&["in-one@t1", "in-two@t1"]), &Labels::default(), false);
    refused(both, RefusalCode::Invalid, "data/in-two is not in pool one");
}

#[test]
fn f2_a_group_cut_short_inside_leaves_nothing_suspended_and_all_or_none() {
    let (before, engine) = three();
    drop(engine);
    let mut outcomes = [0, 0];
    for stage in 1..=5 {
        for death in [Fault::KillDaemonInside(stage), Fault::PowerCutInside(stage)] {
            let host = before.fork();
            let engine = start(&host);
            host.fail_next(EffectKind::ThinSnapshot, death);
            let story = format!("{death:?}");
            assert!(engine.create_snapshots(&all_three(), &Labels::default(), false).is_err(), "{story}");
            assert!(host.is_dead(), "{story}: there is no such stage");
            drop(engine);
            if death.cuts_power() {
                host.settle(CrashMode::Random);
            }
            host.restart();
            // The guard, not the next daemon.
            assert_eq!(host.suspended_devices(), Vec::<String>::new(), "{story}");
            let engine = start(&host);
            sound(&host, &engine, &story);
            let found = taken(&engine);
            assert!(found == 0 || found == 3, "{story}: {found} of 3");
            outcomes[usize::from(found == 3)] += 1;
            if found == 0 {
                engine.create_snapshots(&all_three(), &Labels::default(), false).unwrap();
            }
            assert_eq!(taken(&engine), 3, "{story}");
            sound(&host, &engine, &story);
        }
    }
    assert_eq!(outcomes, [10, 0], "the transaction was not over at any of these points");
}

#[test]
fn a_group_of_which_one_message_fails_is_taken_back_and_what_is_not_ours_stays() {
    let (host, engine) = three();
    let next = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().next_thin_id);
    // The second of the three ids is somebody else's.
    host.add_stray_thin(&pool_uuid(&engine), next + 1).unwrap();
    let failed = engine.create_snapshots(&all_three(), &Labels::default(), false).unwrap_err();
    assert!(failed.to_string().contains(&format!("thin id {} already", next + 1)), "{failed}");
    assert_eq!(taken(&engine), 0);
    assert_eq!(host.suspended_devices(), Vec::<String>::new());
    let ids = |host: &SimHost| host.pool(&pool_uuid(&engine)).unwrap().thins.keys().copied().collect::<Vec<_>>();
    let there = ids(&host);
    assert!(there.contains(&(next + 1)), "what is not ours was deleted: {there:?}");
    assert!(!there.contains(&next), "the first of the group was not taken back: {there:?}");
    // The next attempt steps over it.
    engine.create_snapshots(&all_three(), &Labels::default(), false).unwrap();
    assert_eq!(taken(&engine), 3);
    assert!(ids(&host).contains(&(next + 1)));
}

#[test]
fn a_rollback_gives_the_volume_what_the_snapshot_holds_and_leaves_all_else() {
    for fs in [FsKind::Ext4, FsKind::Xfs] {
        let (host, engine) = with_file(fs);
        let (set, data) = (["tier=fast".parse().unwrap()], name("data"));
        engine.relabel(&data, &volume("pg"), (&set, &[]), false).unwrap();
        snapshot(&engine, "pg@before");
        write(&host, &engine, "pg", "new");
        snapshot(&engine, "pg@after");
        write(&host, &engine, "pg", "newest");
        let was = object(&engine, "pg").unwrap();
        let used = host.pool(&pool_uuid(&engine)).unwrap().thins.len();
        assert!(changed(rollback(&engine, "pg@before").unwrap()));
        let is = object(&engine, "pg").unwrap();
        assert_eq!((is.id, &is.labels, &is.name, is.created_at), (was.id, &was.labels, &was.name, was.created_at));
        assert_eq!((is.size, &is.content), (was.size, &was.content));
        assert!(is.thin_id() > was.thin_id());
        assert_eq!(read(&host, &engine, "pg"), "old");
        // All snapshots are as they were, and what the volume held takes no space any more.
        assert_eq!((read(&host, &engine, "pg@before"), read(&host, &engine, "pg@after")), ("old".into(), "new".into()));
        assert_eq!(host.pool(&pool_uuid(&engine)).unwrap().thins.len(), used);
        // Forward again, from a snapshot that is mounted.
        mount(&engine, "pg@after").unwrap();
        rollback(&engine, "pg@after").unwrap();
        assert_eq!(read(&host, &engine, "pg"), "new");
        write(&host, &engine, "pg", "other");
        unmount(&engine, "pg@after");
        assert_eq!(read(&host, &engine, "pg@after"), "new", "the snapshot changed with the volume");
        sound(&host, &engine, "rollback");
        assert_eq!(inventory(&start(&host)), inventory(&engine));
    }
}

#[test]
fn a_rollback_that_would_hurt_is_refused() {
    let (host, engine) = with_file(FsKind::Ext4);
    let data = name("data");
    snapshot(&engine, "pg@before");
    mount(&engine, "pg").unwrap();
    let effects = host.effects();
    refused(rollback(&engine, "pg@before"), RefusalCode::Busy, "it is mounted at /srv/pg");
    assert_eq!(host.effects(), effects, "a refusal does nothing");
    unmount(&engine, "pg");
    engine.protect(&data, &volume("pg"), true, false).unwrap();
    refused(rollback(&engine, "pg@before"), RefusalCode::Refused, "it is protected");
    engine.protect(&data, &volume("pg"), false, false).unwrap();
    refused(rollback(&engine, "pg@gone"), RefusalCode::NotFound, "no snapshot data/pg@gone");

    engine.create_volume(&volume_request("raw", None), false).unwrap();
    snapshot(&engine, "raw@before");
    engine.attach(&data, &volume("raw"), false).unwrap();
    refused(rollback(&engine, "raw@before"), RefusalCode::Busy, "it is attached");
    engine.detach(&data, &volume("raw"), false).unwrap();
    rollback(&engine, "raw@before").unwrap();

    // A snapshot of a volume that is no more, and of another that had the name.
    delete(&engine, "pg").unwrap();
    let (code, message, hint) = refusal(rollback(&engine, "pg@before"));
    assert_eq!((code, message.as_str()), (RefusalCode::NotFound, "there is no volume data/pg any more"));
    assert!(hint.contains("volctl volume clone data/pg@before data/NEW"), "{hint}");
    engine.create_volume(&volume_request("pg", Some(FsKind::Ext4)), false).unwrap();
    refused(rollback(&engine, "pg@before"), RefusalCode::Refused, "of an earlier volume pg");
    sound(&host, &engine, "rollbacks refused");
}

#[test]
fn f13_a_volume_that_somebody_holds_open_is_not_rolled_back() {
    let (host, engine) = with_file(FsKind::Ext4);
    snapshot(&engine, "pg@before");
    write(&host, &engine, "pg", "new");
    mount(&engine, "pg").unwrap();
    let uuid = vol_core::dm::Device::Volume(object(&engine, "pg").unwrap().id).uuid();
    host.hold_device(&uuid, Some("process 9 (dd)"));
    unmount(&engine, "pg");
    let failed = rollback(&engine, "pg@before").unwrap_err().to_string();
    assert!(failed.contains("held open by process 9 (dd)"), "{failed}");
    host.hold_device(&uuid, None);
    assert_eq!(read(&host, &engine, "pg"), "new");
    rollback(&engine, "pg@before").unwrap();
    assert_eq!(read(&host, &engine, "pg"), "old");
    sound(&host, &engine, "held open");
}

#[test]
fn a_rollback_cut_short_leaves_the_old_content_or_the_new_and_nothing_in_between() {
    let (before, engine) = with_file(FsKind::Ext4);
    snapshot(&engine, "pg@before");
    write(&before, &engine, "pg", "new");
    drop(engine);
    before.keep_trace(false);
    let probe = before.fork();
    let engine = start(&probe);
    let first = probe.effects() + 1;
    rollback(&engine, "pg@before").unwrap();
    let (thins, last) = (probe.pool(&pool_uuid(&engine)).unwrap().thins.len(), probe.effects());
    let mut seen = std::collections::BTreeSet::new();
    for number in first..=last {
        for death in [Fault::KillDaemonBefore, Fault::KillDaemonAfter, Fault::PowerCutBefore, Fault::PowerCutAfter] {
            let host = before.fork();
            let engine = start(&host);
            host.fail_effect(number, death);
            let acknowledged = rollback(&engine, "pg@before").is_ok();
            drop(engine);
            if death.cuts_power() {
                host.settle(CrashMode::Random);
            }
            host.restart();
            let engine = start(&host);
            let story = format!("{death:?} at {number}");
            sound(&host, &engine, &story);
            let found = read(&host, &engine, "pg");
            assert!(found == "old" || (found == "new" && !acknowledged), "{story}: {found:?}");
            assert_eq!(read(&host, &engine, "pg@before"), "old", "{story}");
            let left = host.pool(&pool_uuid(&engine)).unwrap().thins.len();
            assert_eq!(left, thins, "{story}: something was left in the pool");
            seen.insert(found);
        }
    }
    assert_eq!(seen.len(), 2, "all deaths came to the same");
}

/// What a rollback left in the volume's place, of which there is one at most.
fn kept(engine: &Engine<SimHost>) -> Option<VolumeName> {
    let all: Vec<_> =
        engine.vgs()[0].read(|catalog| vol_core::plan::trash::kept(catalog, None).map(VolumeName::of).collect());
    assert!(all.len() <= 1, "{all:?}");
    all.into_iter().next()
}

#[test]
fn what_a_volume_held_before_a_rollback_can_be_taken_back() {
    let (host, engine) = with_file(FsKind::Ext4);
    snapshot(&engine, "pg@before");
    write(&host, &engine, "pg", "new");
    let messages = host.counters().messages;
    assert!(changed(engine.rollback(&"data/pg@before".parse().unwrap(), true, false).unwrap()));
    assert_eq!(host.counters().messages - messages, 2, "one transaction: a snapshot and the swap");
    assert_eq!(read(&host, &engine, "pg"), "old");
    let kept = kept(&engine).unwrap();
    assert!(kept.snapshot.as_ref().unwrap().as_str().starts_with("rollback-"), "{kept}");
    let data = name("data");
    engine.undelete_volume(&data, &kept, false).unwrap();
    let text = kept.to_string();
    assert!(!object(&engine, &text).unwrap().protected);
    assert_eq!(read(&host, &engine, &text), "new");
    // Forward again.
    rollback(&engine, &text).unwrap();
    assert_eq!(read(&host, &engine, "pg"), "new");
    delete(&engine, &text).unwrap();
    sound(&host, &engine, "taken back");
}

#[test]
fn a_rollback_that_keeps_what_was_there_loses_it_at_no_death() {
    let (before, engine) = with_file(FsKind::Ext4);
    snapshot(&engine, "pg@before");
    write(&before, &engine, "pg", "new");
    drop(engine);
    before.keep_trace(false);
    let probe = before.fork();
    let path: SnapshotPath = "data/pg@before".parse().unwrap();
    let (engine, first) = (start(&probe), probe.effects() + 1);
    engine.rollback(&path, true, false).unwrap();
    let mut kept_after = 0;
    for number in first..=probe.effects() {
        for death in [Fault::KillDaemonBefore, Fault::KillDaemonAfter, Fault::PowerCutBefore, Fault::PowerCutAfter] {
            let host = before.fork();
            let engine = start(&host);
            host.fail_effect(number, death);
            let acknowledged = engine.rollback(&path, true, false).is_ok();
            drop(engine);
            if death.cuts_power() {
                host.settle(CrashMode::Random);
            }
            host.restart();
            let engine = start(&host);
            let story = format!("{death:?} at {number}");
            sound(&host, &engine, &story);
            let found = read(&host, &engine, "pg");
            match kept(&engine) {
                None => assert!(found == "new" && !acknowledged, "{story}: {found:?}, and nothing is kept"),
                Some(kept) => {
                    assert_eq!(found, "old", "{story}");
                    engine.undelete_volume(&name("data"), &kept, false).unwrap();
                    assert_eq!(read(&host, &engine, &kept.to_string()), "new", "{story}: what is kept is another");
                    kept_after += 1;
                }
            }
        }
    }
    assert!(kept_after > 4, "only {kept_after} deaths came after the rollback");
}

#[test]
fn a_renamed_volume_takes_its_snapshots_along_and_stays_mounted() {
    let (host, engine) = with_file(FsKind::Ext4);
    for text in ["pg@a", "pg@b"] {
        snapshot(&engine, text);
    }
    let at = mount(&engine, "pg").unwrap();
    engine.clone_volume(&clone_request("pg@a", "copy"), false).unwrap();
    let (id, effects) = (object(&engine, "pg").unwrap().id, host.effects());
    assert!(changed(rename(&engine, "pg", "db").unwrap()));
    let log = host.effect_log();
    let done = log.iter().filter(|effect| effect.number > effects);
    // The device is left alone; udev is told its new name.
    let link_or_commit =
        |effect: &vol_sim::Effect| matches!(effect.kind, EffectKind::DurableWrite | EffectKind::DmLink);
    assert!(done.clone().count() > 0 && done.clone().all(link_or_commit));
    assert_eq!(object(&engine, "db").unwrap().id, id);
    let snapshots = engine.vgs()[0].read(|catalog| catalog.snapshots_of(id).map(VolumeName::of).collect::<Vec<_>>());
    assert_eq!(snapshots.len(), 2);
    assert!(["db@a", "db@b"].iter().all(|text| snapshots.contains(&volume(text))), "{snapshots:?}");
    assert!(["pg", "pg@a", "pg@b"].iter().all(|text| object(&engine, text).is_none()));
    assert_eq!(host.read_file(&at, "file").unwrap().unwrap(), b"old");
    unmount(&engine, "db");
    rollback(&engine, "db@a").unwrap();
    assert!(!changed(rename(&engine, "db", "db").unwrap()));
    // The old name is free at once, and so are the names of the snapshots.
    engine.create_volume(&volume_request("pg", None), false).unwrap();
    snapshot(&engine, "pg@a");
    rename(&engine, "db@a", "first").unwrap();
    assert!(object(&engine, "db@first").is_some() && object(&engine, "db@a").is_none());
    sound(&host, &engine, "renamed");
    assert_eq!(inventory(&start(&host)), inventory(&engine));
}

#[test]
fn a_deleted_snapshot_that_is_kept_comes_back_under_the_new_name_of_its_volume() {
    let (host, engine) = with_file(FsKind::Ext4);
    let data = name("data");
    snapshot(&engine, "pg@a");
    assert!(changed(engine.keep_volume(&data, &volume("pg@a"), false).unwrap()));
    rename(&engine, "pg", "db").unwrap();
    refused(
        engine.undelete_volume(&data, &volume("pg@a"), false),
        RefusalCode::NotFound,
        "no deleted snapshot data/pg@a",
    );
    engine.undelete_volume(&data, &volume("db@a"), false).unwrap();
    rollback(&engine, "db@a").unwrap();
    // What was deleted and is kept is no source, and not protected any more than it is there.
    engine.protect(&data, &volume("db@a"), true, false).unwrap();
    refused(engine.keep_volume(&data, &volume("db@a"), false), RefusalCode::Refused, "it is protected");
    engine.protect(&data, &volume("db@a"), false, false).unwrap();
    engine.keep_volume(&data, &volume("db@a"), false).unwrap();
    refused(rollback(&engine, "db@a"), RefusalCode::NotFound, "no snapshot data/db@a");
    refused(engine.clone_volume(&clone_request("db@a", "x"), false), RefusalCode::NotFound, "no snapshot data/db@a");
    sound(&host, &engine, "kept snapshots");
}

#[test]
fn a_name_that_is_taken_is_not_given_to_another() {
    let (host, engine) = with_file(FsKind::Ext4);
    engine.create_volume(&volume_request("other", None), false).unwrap();
    for text in ["pg@a", "pg@b", "other@a"] {
        snapshot(&engine, text);
    }
    refused(rename(&engine, "pg", "other"), RefusalCode::Exists, "a volume data/other");
    refused(rename(&engine, "pg", "tank"), RefusalCode::Exists, "taken by a pool");
    refused(rename(&engine, "gone", "x"), RefusalCode::NotFound, "no volume data/gone");
    refused(rename(&engine, "pg@a", "b"), RefusalCode::Exists, "a snapshot data/pg@b");
    // The snapshot of a volume that is gone keeps that volume's name.
    delete(&engine, "other").unwrap();
    refused(rename(&engine, "pg", "other"), RefusalCode::Exists, "a snapshot data/other@a");
    delete(&engine, "other@a").unwrap();
    rename(&engine, "pg", "other").unwrap();
    sound(&host, &engine, "names");
}

#[test]
fn labels_are_set_and_taken_away_and_are_there_after_a_restart() {
    let (host, engine) = with_file(FsKind::Ext4);
    let data = name("data");
    snapshot(&engine, "pg@a");
    let relabel = |engine: &Engine<SimHost>, text: &str, set: &[&str], remove: &[&str]| {
        let set: Vec<Label> = set.iter().map(|text| text.parse().unwrap()).collect();
        let remove: Vec<String> = remove.iter().map(ToString::to_string).collect();
        engine.relabel(&data, &volume(text), (&set, &remove), false)
    };
    assert!(changed(relabel(&engine, "pg", &["tier=fast", "note=a, b"], &[]).unwrap()));
    assert!(!changed(relabel(&engine, "pg", &["tier=fast"], &["gone"]).unwrap()));
    assert!(changed(relabel(&engine, "pg", &["tier=slow"], &["note"]).unwrap()));
    assert!(changed(relabel(&engine, "pg@a", &["kept=yes"], &[]).unwrap()));
    refused(relabel(&engine, "pg", &["tier=a"], &["tier"]), RefusalCode::Invalid, "named twice");
    let many: Vec<_> = (0..32).map(|n| format!("l{n}=x")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    refused(relabel(&engine, "pg", &many, &[]), RefusalCode::Invalid, "at most 32 labels");
    let engine = start(&host);
    let labels = |text: &str| {
        let found = object(&engine, text).unwrap();
        found.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    assert_eq!((labels("pg"), labels("pg@a")), (vec!["tier=slow".to_owned()], vec!["kept=yes".to_owned()]));
    // With the volume from its creation on; the same request again asks for them too.
    let request =
        CreateVolume { labels: ["a=1".parse().unwrap()].into_iter().collect(), ..volume_request("new", None) };
    engine.create_volume(&request, false).unwrap();
    assert!(!changed(engine.create_volume(&request, false).unwrap()));
    assert_eq!(labels("new"), ["a=1"]);
    relabel(&engine, "new", &["a=2"], &[]).unwrap();
    refused(engine.create_volume(&request, false), RefusalCode::Exists, "label a=2, not a=1");
    assert!(!changed(engine.create_volume(&volume_request("new", None), false).unwrap()));
    sound(&host, &engine, "labels");
}

#[test]
fn what_is_protected_is_not_deleted() {
    let (host, engine) = with_file(FsKind::Ext4);
    let data = name("data");
    snapshot(&engine, "pg@a");
    for (text, noun) in [("pg", "volume"), ("pg@a", "snapshot")] {
        let protect = |on| changed(engine.protect(&data, &volume(text), on, false).unwrap());
        assert!(protect(true) && !protect(true));
        let (code, message, hint) = refusal(delete(&engine, text));
        assert_eq!((code, message), (RefusalCode::Refused, format!("cannot delete data/{text}: it is protected")));
        assert_eq!(hint, format!("`volctl {noun} unprotect data/{text}` takes the protection away"));
        // Neither a restart nor a new name takes it away.
        assert!(object(&start(&host.fork()), text).unwrap().protected);
    }
    rename(&engine, "pg", "db").unwrap();
    // A clone of a protected snapshot is not protected itself.
    engine.clone_volume(&clone_request("db@a", "copy"), false).unwrap();
    delete(&engine, "copy").unwrap();
    for text in ["db@a", "db"] {
        refused(delete(&engine, text), RefusalCode::Refused, "it is protected");
        assert!(changed(engine.protect(&data, &volume(text), false, false).unwrap()));
        delete(&engine, text).unwrap();
    }
    sound(&host, &engine, "protection");
}

#[test]
fn renaming_a_volume_with_more_snapshots_than_one_commit_holds_is_refused() {
    let (host, engine) = with_file(FsKind::Ext4);
    let long: Vec<Label> = (0..32).map(|n| Label::new(&format!("l{n}"), &"v".repeat(255)).unwrap()).collect();
    let labels: Labels = long.into_iter().collect();
    // 50 snapshots of some 8 KiB each, in groups of one: a volume is named once in each.
    for n in 0..52 {
        engine.create_snapshots(&group(&[&format!("pg@s{n}")]), &labels, false).unwrap();
    }
    refused(rename(&engine, "pg", "db"), RefusalCode::Invalid, "52 snapshots, too many");
    for n in 0..10 {
        delete(&engine, &format!("pg@s{n}")).unwrap();
    }
    rename(&engine, "pg", "db").unwrap();
    sound(&host, &engine, "many snapshots");
}

#[test]
fn the_longest_labels_of_many_volumes_and_snapshots_fit_their_commits() {
    let host = Op::CreatePool.before();
    let engine = start(&host);
    engine.create_pool(&CreatePool { overcommit_percent: 100_000, ..pool_request() }, false).unwrap();
    let long = |n| Label::new(&format!("{n}{}", "k".repeat(61)), &"v".repeat(255)).unwrap();
    let labels: Labels = (10..42).map(long).collect();
    assert_eq!(labels.len(), 32);
    let commits = || engine.vgs()[0].view().counters.commits;
    let before = commits();
    let wanted: Vec<_> = (0..64)
        .map(|n| CreateVolume {
            labels: labels.clone(),
            size: Bytes::mib(64),
            ..volume_request(&format!("v{n}"), None)
        })
        .collect();
    let answers = engine.create_volumes(&name("data"), &wanted).unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    // In two transactions instead of one, and not one by one; the end of the first with the beginning of the second would be too
    // long for one record.
    assert_eq!(commits() - before, 3);
    let all: Vec<_> = (0..32).map(|n| format!("v{n}@t1")).collect();
    let all = group(&all.iter().map(String::as_str).collect::<Vec<_>>());
    engine.create_snapshots(&all, &labels, false).unwrap();
    assert_eq!(commits() - before, 5);
    sound(&host, &engine, "long labels");
}

#[test]
fn who_looks_at_a_mount_for_a_moment_does_not_keep_it_and_who_stays_is_named() {
    let (host, engine) = with_file(FsKind::Ext4);
    let at = mount(&engine, "pg").unwrap();
    host.look_at_mount(&at, "process 17 (xfs_healer_start)", 3);
    unmount(&engine, "pg");
    let at = mount(&engine, "pg").unwrap();
    host.hold_mount(&at, "process 4711 (postgres)");
    let busy = engine.unmount(&name("data"), &volume("pg"), None, false).map(drop).unwrap_err().to_string();
    assert!(busy.contains("process 4711 (postgres)"), "{busy}");
    host.release_mount(&at);
    unmount(&engine, "pg");
}
