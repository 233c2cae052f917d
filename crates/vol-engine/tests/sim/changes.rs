//! What changed between two snapshots, and the metadata snapshot that is held while it is read.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges with one of them are what is expected")]

use std::ops::Range;

use vol_core::dm::Device;
use vol_engine::host::{HostErrorKind, HostMut as _, HostRead as _};
use vol_engine::{ChangedPage, Engine, EngineError};
use vol_sim::{CrashMode, Fault, SimHost};
use vol_types::*;

use super::bench::*;
use super::usage::{attached, id, messages, pool_of, pool_uuid, snapshot, write};

fn changed(engine: &Engine<SimHost>, base: Option<&str>, target: &str) -> Result<ChangedPage, EngineError> {
    engine.changed(base.map(|of| id(engine, of)), id(engine, target), 0, 1000)
}

/// In chunks, in one piece.
fn ranges(engine: &Engine<SimHost>, base: Option<&str>, target: &str) -> Vec<Range<u64>> {
    let found = changed(engine, base, target).unwrap();
    assert_eq!(found.next, None);
    let chunk = pool_of(engine).chunk_size.get();
    found.ranges.iter().map(|one| one.start / chunk..one.end / chunk).collect()
}

fn discard(host: &SimHost, engine: &Engine<SimHost>, of: &str, chunks: Range<u64>) {
    let uuid = Device::Volume(id(engine, of)).uuid();
    let chunk = pool_of(engine).chunk_size.get();
    let dev = host.dm_device(&uuid).unwrap().unwrap().dev;
    host.discard(dev, &uuid, chunks.start * chunk, (chunks.end - chunks.start) * chunk).unwrap();
}

#[test]
fn what_was_written_or_discarded_between_two_snapshots_is_told_and_nothing_else() {
    let (host, engine) = attached();
    write(&host, &engine, "raw", 0, 8);
    snapshot(&engine, "raw@one");
    snapshot(&engine, "raw@same");
    write(&host, &engine, "raw", 1, 2);
    write(&host, &engine, "raw", 9, 1);
    discard(&host, &engine, "raw", 5..7);
    snapshot(&engine, "raw@two");
    // What comes after is of no concern.
    write(&host, &engine, "raw", 0, 12);
    assert_eq!(ranges(&engine, None, "raw@one"), [0..8]);
    assert_eq!(ranges(&engine, None, "raw@two"), [0..5, 7..8, 9..10]);
    assert_eq!(ranges(&engine, Some("raw@one"), "raw@same"), []);
    assert_eq!(ranges(&engine, Some("raw@same"), "raw@two"), [1..3, 5..7, 9..10]);
    assert_eq!(ranges(&engine, Some("raw@two"), "raw@one"), [1..3, 5..7, 9..10]);
    assert_eq!(ranges(&engine, Some("raw@two"), "raw@two"), []);
    // The volume may be gone, and a snapshot in between.
    engine.delete_volume(&name("data"), &volume("raw@same"), true).unwrap();
    assert_eq!(ranges(&engine, Some("raw@one"), "raw@two"), [1..3, 5..7, 9..10]);
    sound(&host, &engine, "read");
}

#[test]
fn a_reading_in_pages_finds_what_one_reading_finds() {
    let (host, engine) = attached();
    for chunk in [0, 2, 3, 5, 8, 9, 11] {
        write(&host, &engine, "raw", chunk, 1);
    }
    snapshot(&engine, "raw@one");
    let (target, size) = (id(&engine, "raw@one"), pool_of(&engine).chunk_size.get());
    let whole = engine.changed(None, target, 0, 1000).unwrap().ranges;
    for most in 1..5 {
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let page = engine.changed(None, target, at, most).unwrap();
            assert!(page.ranges.len() <= most && page.next.is_none_or(|next| next > at));
            all.extend(page.ranges);
            from = page.next;
        }
        assert_eq!(all, whole, "{most} at a time");
    }
    // From within a chunk it begins with that chunk.
    let page = engine.changed(None, target, 3 * size + 5, 1000).unwrap();
    assert_eq!(page.ranges[0], 3 * size..4 * size);
    sound(&host, &engine, "read");
}

#[test]
fn a_metadata_snapshot_is_held_for_a_page_and_not_left_behind_by_any_error_or_death() {
    let (host, engine) = attached();
    write(&host, &engine, "raw", 0, 3);
    snapshot(&engine, "raw@one");
    let before = host.effects();
    assert_eq!(ranges(&engine, None, "raw@one"), [0..3]);
    assert_eq!(messages(&host, before), ["reserve_metadata_snap", "release_metadata_snap"]);
    let faults = [
        Fault::KillDaemonBefore,
        Fault::KillDaemonInside(1),
        Fault::KillDaemonAfter,
        Fault::PowerCutAfter,
        Fault::Error(HostErrorKind::Io),
        Fault::ErrorAfter(HostErrorKind::Io),
    ];
    for fault in faults {
        // It is reserved, and released.
        for nth in 1..=2 {
            let (host, engine) = attached();
            write(&host, &engine, "raw", 0, 3);
            snapshot(&engine, "raw@one");
            let uuid = pool_uuid(&engine);
            host.on_power_cut(CrashMode::LoseAll);
            host.fail_effect(host.effects() + nth, fault);
            let answer = changed(&engine, None, "raw@one");
            let story = format!("{fault:?} {nth}: {answer:?}");
            answer.unwrap_err();
            if host.is_dead() {
                host.restart();
                let engine = start(&host);
                assert!(!host.pool(&uuid).unwrap().metadata_snapshot, "{story}");
                sound(&host, &engine, &story);
            } else {
                assert_eq!(ranges(&engine, None, "raw@one"), [0..3], "{story}");
                assert!(!host.pool(&uuid).unwrap().metadata_snapshot, "{story}");
            }
        }
    }
}

#[test]
fn another_programs_metadata_snapshot_is_left_alone() {
    let (host, engine) = attached();
    snapshot(&engine, "raw@one");
    host.foreign_message(&pool_uuid(&engine), "reserve_metadata_snap");
    let told = changed(&engine, None, "raw@one").unwrap_err().to_string();
    assert!(told.contains("another program"), "{told}");
    host.foreign_message(&pool_uuid(&engine), "release_metadata_snap");
    assert_eq!(ranges(&engine, None, "raw@one"), []);
}

#[test]
fn what_is_no_snapshot_or_gone_is_not_found() {
    let (_host, engine) = attached();
    snapshot(&engine, "raw@one");
    snapshot(&engine, "raw@two");
    let two = id(&engine, "raw@two");
    engine.delete_volume(&name("data"), &volume("raw@two"), false).unwrap();
    let (raw, one) = (id(&engine, "raw"), id(&engine, "raw@one"));
    let nobody = VolumeId::from_uuid(uuid::Uuid::from_u128(7));
    for (base, target) in
        [(None, raw), (Some(raw), one), (None, nobody), (Some(nobody), one), (None, two), (Some(two), one)]
    {
        let told = engine.changed(base, target, 0, 10).unwrap_err().to_string();
        assert!(told.contains("there is no snapshot"), "{told}");
    }
}
