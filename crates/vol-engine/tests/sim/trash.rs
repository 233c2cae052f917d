//! Deleting with a way back.

use std::path::Path;

use vol_core::VolumeName;
use vol_engine::Engine;
use vol_sim::{SimHost, SimPoolMode};
use vol_types::*;

use super::bench::*;

fn data() -> Name {
    name("data")
}

fn keep(engine: &Engine<SimHost>, text: &str) {
    assert!(changed(engine.keep_volume(&data(), &volume(text), false).unwrap()));
}

fn raw(engine: &Engine<SimHost>, text: &str) {
    let request = vol_engine::CreateVolume { size: Bytes::mib(64), ..volume_request(text, None) };
    engine.create_volume(&request, false).unwrap();
}

fn kept(engine: &Engine<SimHost>) -> Vec<String> {
    let mut all: Vec<_> = engine.vgs()[0].read(|catalog| {
        let deleted = catalog.volumes().filter(|one| one.state == VolumeState::Deleted);
        deleted.map(|one| VolumeName::of(one).to_string()).collect()
    });
    all.sort();
    all
}

fn pool_uuid(engine: &Engine<SimHost>) -> String {
    let pool = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().id);
    vol_core::dm::Device::Pool(pool).uuid()
}

#[test]
fn a_deleted_volume_is_taken_back_with_its_data_after_a_restart() {
    let host = Op::Mount.before();
    let engine = start(&host);
    Op::Mount.run(&engine).unwrap();
    host.put_file("/srv/pg", "a", b"precious").unwrap();
    Op::Unmount.run(&engine).unwrap();
    Op::SnapshotIdle.run(&engine).unwrap();
    keep(&engine, "pg");
    keep(&engine, "pg@before");
    drop(engine);
    let engine = start(&host);
    assert_eq!(kept(&engine), ["pg", "pg@before"]);
    let error = Op::Mount.run(&engine).unwrap_err();
    assert_eq!(error.to_string(), "there is no volume data/pg");
    assert!(changed(engine.undelete_volume(&data(), &volume("pg"), false).unwrap()));
    assert!(changed(engine.undelete_volume(&data(), &volume("pg@before"), false).unwrap()));
    assert!(!changed(engine.undelete_volume(&data(), &volume("pg"), false).unwrap()), "it is there");
    Op::Mount.run(&engine).unwrap();
    assert_eq!(host.read_file("/srv/pg", "a").unwrap().as_deref(), Some(b"precious".as_slice()));
    sound(&host, &engine, "taken back");
}

#[test]
fn keeping_costs_one_commit_and_no_message_in_a_full_pool_too() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    raw(&engine, "one");
    host.set_pool_mode(&pool_uuid(&engine), SimPoolMode::OutOfDataSpace);
    host.reset_counters();
    let before = engine.vgs()[0].view().counters;
    keep(&engine, "one");
    let after = engine.vgs()[0].view().counters;
    assert_eq!((after.commits - before.commits, after.commit_bytes - before.commit_bytes), (1, 4096));
    assert_eq!((host.counters().messages, host.counters().flushes), (0, 2), "one commit on two copies");
}

#[test]
fn the_name_of_a_deleted_volume_is_free_at_once() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    raw(&engine, "one");
    keep(&engine, "one");
    raw(&engine, "one");
    let error = engine.undelete_volume(&data(), &volume("one"), false).unwrap_err();
    assert_eq!(error.to_string(), "there is another data/one since");
    let id = |engine: &Engine<SimHost>| {
        engine.vgs()[0].read(|catalog| catalog.volume_named(&volume("one")).map(|one| one.id))
    };
    let second = id(&engine);
    host.set_now(2_000_000_000);
    keep(&engine, "one");
    assert_eq!(kept(&engine), ["one", "one"]);
    // The last deletion is the one that is meant.
    engine.undelete_volume(&data(), &volume("one"), false).unwrap();
    assert_eq!(id(&engine), second);
    sound(&host, &engine, "two of one name");
}

#[test]
fn what_was_kept_long_enough_is_deleted_for_good_and_nothing_else() {
    let host = Op::CreateRaw.before();
    host.set_now(1_000_000);
    let engine = start(&host);
    for one in ["one", "two", "three"] {
        raw(&engine, one);
    }
    keep(&engine, "one");
    host.set_now(1_000_100);
    keep(&engine, "two");
    host.set_now(1_003_599);
    assert_eq!(engine.purge_due(3600, &|| true), 0);
    host.set_now(1_003_600);
    host.reset_counters();
    assert_eq!(engine.purge_due(3600, &|| true), 1);
    assert_eq!(host.counters().messages, 2, "its deletion and the swap");
    assert_eq!(kept(&engine), ["two"]);
    // A clock that was set back keeps things longer.
    host.set_now(5);
    assert_eq!(engine.purge_due(3600, &|| true), 0);
    host.set_now(1_003_700);
    assert_eq!(engine.purge_due(3600, &|| true), 1);
    assert!(inventory(&engine).iter().any(|line| line.starts_with("volume three Ready")));
    sound(&host, &engine, "purged");
    let error = engine.undelete_volume(&data(), &volume("one"), false).unwrap_err();
    assert_eq!(error.to_string(), "no deleted volume data/one is kept");
}

#[test]
fn a_pool_without_room_gives_up_what_is_kept_the_oldest_first_and_one_at_a_time() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    for (at, one) in ["one", "two", "three"].into_iter().enumerate() {
        raw(&engine, one);
        host.set_now(1_000_000 + at as u64);
        keep(&engine, one);
    }
    assert_eq!(engine.purge_due(3600, &|| true), 0, "there is room");
    let uuid = pool_uuid(&engine);
    host.set_pool_mode(&uuid, SimPoolMode::OutOfDataSpace);
    engine.refresh();
    assert_eq!(engine.purge_due(3600, &|| true), 1);
    assert_eq!(kept(&engine), ["three", "two"]);
    host.set_pool_mode(&uuid, SimPoolMode::ReadWrite);
    engine.refresh();
    assert_eq!(engine.purge_due(3600, &|| true), 0, "there is room again");
}

#[test]
fn a_pool_is_not_deleted_under_what_can_be_taken_back() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    raw(&engine, "one");
    raw(&engine, "two");
    keep(&engine, "one");
    let error = Op::DeletePool.run(&engine).unwrap_err();
    assert_eq!(error.to_string(), "pool data/tank still holds data/two");
    keep(&engine, "two");
    let error = Op::DeletePool.run(&engine).unwrap_err();
    assert_eq!(error.to_string(), "pool data/tank still holds 2 deleted volumes or snapshots, which can be taken back");
    assert_eq!(engine.purge_pool(&data(), &name("tank"), true).unwrap(), 2);
    assert_eq!(kept(&engine).len(), 2, "a dry run deletes nothing");
    assert_eq!(engine.purge_pool(&data(), &name("tank"), false).unwrap(), 2);
    Op::DeletePool.run(&engine).unwrap();
    sound(&host, &engine, "deleted");
}

#[test]
fn what_is_in_use_is_not_deleted_and_what_promises_too_much_is_not_taken_back() {
    let host = Op::Mount.before();
    let engine = start(&host);
    Op::Mount.run(&engine).unwrap();
    let error = engine.keep_volume(&data(), &volume("pg"), false).unwrap_err();
    assert_eq!(error.to_string(), "cannot delete data/pg: it is mounted at /srv/pg");
    raw(&engine, "raw");
    engine.attach(&data(), &volume("raw"), false).unwrap();
    let error = engine.keep_volume(&data(), &volume("raw"), false).unwrap_err();
    assert_eq!(error.to_string(), "cannot delete data/raw: it is attached");
    Op::Unmount.run(&engine).unwrap();
    keep(&engine, "pg");
    // What it promised is given to others meanwhile.
    for n in 0..6 {
        engine.create_volume(&volume_request(&format!("v{n}"), None), false).unwrap();
    }
    let error = engine.undelete_volume(&data(), &volume("pg"), false).unwrap_err();
    assert!(error.to_string().contains("beyond the over-commit limit"), "{error}");
    engine.delete_volume(&data(), &volume("v0"), false).unwrap();
    engine.undelete_volume(&data(), &volume("pg"), false).unwrap();
    engine.mount(&data(), &volume("pg"), Path::new("/srv/pg"), false, false).unwrap();
}

#[test]
fn a_large_volume_is_emptied_slice_by_slice_before_it_is_deleted() {
    let host = Op::Mount.before();
    let engine = start(&host);
    // Ten slices of it.
    keep(&engine, "pg");
    host.keep_trace(true);
    host.reset_counters();
    assert_eq!(engine.purge_due(0, &|| true), 1);
    let slices = host.trace().iter().filter(|line| line.contains("discard")).count();
    assert_eq!(slices, 10);
    assert_eq!(inventory(&engine).iter().filter(|line| line.starts_with("volume")).count(), 0);
    sound(&host, &engine, "emptied");
}

#[test]
fn what_is_being_emptied_cannot_be_taken_back_and_is_gone_on_with_after_a_crash() {
    let host = Op::Mount.before();
    let engine = start(&host);
    keep(&engine, "pg");
    host.fail_next(vol_sim::EffectKind::Discard, vol_sim::Fault::KillDaemonAfter);
    engine.purge_due(0, &|| true);
    drop(engine);
    host.restart();
    let engine = start(&host);
    sound(&host, &engine, "half empty");
    let error = engine.undelete_volume(&data(), &volume("pg"), false).unwrap_err();
    assert_eq!(error.to_string(), "no deleted volume data/pg is kept");
    // Whatever the window.
    assert_eq!(engine.purge_due(3600, &|| true), 1);
    assert_eq!(inventory(&engine).iter().filter(|line| line.starts_with("volume")).count(), 0);
    sound(&host, &engine, "gone");
}

#[test]
fn a_pool_takes_changes_while_a_volume_is_emptied_and_a_stop_is_heard() {
    let host = Op::Mount.before();
    let engine = start(&host);
    keep(&engine, "pg");
    let asked = std::cell::Cell::new(0);
    let id = engine.vgs()[0].read(|catalog| catalog.volumes().next().unwrap().id);
    let purged = engine.purge_due(0, &|| {
        asked.set(asked.get() + 1);
        if asked.get() == 3 {
            assert_eq!(engine.emptied(id), Some(Bytes::gib(1)));
            raw(&engine, "meanwhile");
        }
        asked.get() < 5
    });
    assert_eq!((purged, engine.emptied(id)), (0, None));
    assert_eq!(engine.purge_due(3600, &|| true), 1);
    sound(&host, &engine, "stopped and gone on with");
}

#[test]
fn a_volume_that_takes_no_discards_is_deleted_in_one_go() {
    let host = Op::Mount.before();
    let engine = start(&host);
    keep(&engine, "pg");
    host.fail_next(vol_sim::EffectKind::Discard, vol_sim::Fault::Error(vol_engine::host::HostErrorKind::Unsupported));
    assert_eq!(engine.purge_due(0, &|| true), 1);
    sound(&host, &engine, "deleted");
}

#[test]
fn what_is_taken_back_and_deleted_anew_while_others_are_emptied_has_its_own_time() {
    let host = Op::Mount.before();
    host.set_now(1_000_000);
    let engine = start(&host);
    raw(&engine, "small");
    keep(&engine, "pg");
    host.set_now(1_000_001);
    keep(&engine, "small");
    host.set_now(2_000_000);
    let asked = std::cell::Cell::new(0);
    let purged = engine.purge_due(3600, &|| {
        asked.set(asked.get() + 1);
        if asked.get() == 2 {
            engine.undelete_volume(&data(), &volume("small"), false).unwrap();
            keep(&engine, "small");
        }
        true
    });
    assert_eq!((purged, kept(&engine)), (1, vec!["small".to_owned()]));
    assert!(changed(engine.undelete_volume(&data(), &volume("small"), false).unwrap()));
    sound(&host, &engine, "deleted anew");
}

#[test]
fn what_is_taken_back_while_others_are_emptied_does_not_end_the_round() {
    let host = Op::Mount.before();
    host.set_now(1_000_000);
    let engine = start(&host);
    raw(&engine, "one");
    raw(&engine, "two");
    for (at, one) in ["pg", "one", "two"].into_iter().enumerate() {
        host.set_now(1_000_000 + at as u64);
        keep(&engine, one);
    }
    host.set_now(2_000_000);
    let asked = std::cell::Cell::new(0);
    let purged = engine.purge_due(3600, &|| {
        asked.set(asked.get() + 1);
        if asked.get() == 2 {
            engine.undelete_volume(&data(), &volume("one"), false).unwrap();
        }
        true
    });
    assert_eq!((purged, kept(&engine)), (2, Vec::new()));
    assert!(inventory(&engine).iter().any(|line| line.starts_with("volume one Ready")));
}
