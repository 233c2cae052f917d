//! Who takes how much of a pool, and the lease of the pool's metadata snapshot that is taken to read it.

use std::time::Duration;

use vol_core::dm::Device;
use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_engine::{Engine, EngineError, PoolReading};
use vol_sim::{CrashMode, EffectKind, Fault, SimHost, SimPoolMode};
use vol_types::*;

use super::bench::*;

const LONG: Duration = Duration::from_secs(3600);

/// A machine with the raw volume `raw`, attached.
pub(super) fn attached() -> (SimHost, Engine<SimHost>) {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    engine.attach(&name("data"), &volume("raw"), false).unwrap();
    (host, engine)
}

pub(super) fn pool_of(engine: &Engine<SimHost>) -> Pool {
    engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().clone())
}

pub(super) fn pool_uuid(engine: &Engine<SimHost>) -> String {
    Device::Pool(pool_of(engine).id).uuid()
}

fn read(engine: &Engine<SimHost>, most_age: Duration) -> Result<std::sync::Arc<PoolReading>, EngineError> {
    engine.pool_usage(&name("data"), &name("tank"), most_age)
}

fn said(engine: &Engine<SimHost>) -> String {
    read(engine, Duration::ZERO).unwrap_err().to_string()
}

/// Writes whole chunks of an attached volume.
pub(super) fn write(host: &SimHost, engine: &Engine<SimHost>, of: &str, first: u64, count: u64) {
    let id = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(of)).unwrap().id);
    let dev = host.dm_device(&Device::Volume(id).uuid()).unwrap().unwrap().dev;
    let chunk = pool_of(engine).chunk_size.get();
    for at in first..first + count {
        host.write_bytes(dev, at * chunk, b"data").unwrap();
    }
}

/// Allocated and exclusive, in chunks.
fn thin(engine: &Engine<SimHost>, reading: &PoolReading, of: &str) -> (u64, u64) {
    let id = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(of)).unwrap().thin_id().unwrap());
    let chunk = pool_of(engine).chunk_size.get();
    (reading.thins[&id].allocated.get() / chunk, reading.thins[&id].exclusive.get() / chunk)
}

/// What deleting the snapshots frees, and the volume with them, in chunks.
fn family(engine: &Engine<SimHost>, reading: &PoolReading, of: VolumeId) -> (u64, u64) {
    let chunk = pool_of(engine).chunk_size.get();
    (reading.families[&of].snapshots.get() / chunk, reading.families[&of].whole.get() / chunk)
}

pub(super) fn id(engine: &Engine<SimHost>, of: &str) -> VolumeId {
    engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(of)).unwrap().id)
}

pub(super) fn snapshot(engine: &Engine<SimHost>, of: &str) {
    engine.create_snapshot(&format!("data/{of}").parse().unwrap(), false).unwrap();
}

fn used(host: &SimHost, engine: &Engine<SimHost>) -> u64 {
    match host.pool_status(&pool_uuid(engine)).unwrap() {
        vol_core::observed::PoolStatus::Working(usage) => usage.used_data,
        other => panic!("{other:?}"),
    }
}

/// Messages to pools since an effect.
pub(super) fn messages(host: &SimHost, since: u64) -> Vec<String> {
    let log = host.effect_log().into_iter().filter(|effect| effect.number > since);
    let sent = log.filter(|effect| effect.kind == EffectKind::DmMessage);
    sent.filter_map(|effect| Some(effect.what.split_once("-tpool ")?.1.to_owned())).collect()
}

#[test]
fn exclusive_is_what_deleting_frees_alone_and_together() {
    let (host, engine) = attached();
    write(&host, &engine, "raw", 0, 4);
    snapshot(&engine, "raw@one");
    write(&host, &engine, "raw", 0, 1);
    snapshot(&engine, "raw@two");
    write(&host, &engine, "raw", 0, 2);
    let reading = read(&engine, LONG).unwrap();
    // Chunk 0 was written three times, chunk 1 twice: the older of it is in both snapshots; 2 and 3 are in all.
    assert_eq!(thin(&engine, &reading, "raw"), (4, 2));
    assert_eq!(thin(&engine, &reading, "raw@one"), (4, 1));
    assert_eq!(thin(&engine, &reading, "raw@two"), (4, 1));
    assert_eq!(family(&engine, &reading, id(&engine, "raw")), (3, 7));
    assert_eq!(reading.allocated.get() / pool_of(&engine).chunk_size.get(), used(&host, &engine));
    let before = used(&host, &engine);
    engine.delete_volume(&name("data"), &volume("raw@one"), false).unwrap();
    assert_eq!(before - used(&host, &engine), 1, "what it had for itself");
    let after = read(&engine, Duration::ZERO).unwrap();
    assert_eq!(thin(&engine, &after, "raw@two"), (4, 2), "it has the old chunk 1 for itself now");
    engine.delete_volume(&name("data"), &volume("raw@two"), false).unwrap();
    assert_eq!(before - used(&host, &engine), 3, "what the snapshots had together");
    sound(&host, &engine, "read");
}

#[test]
fn snapshots_of_a_deleted_volume_are_still_a_family() {
    let (host, engine) = attached();
    write(&host, &engine, "raw", 0, 3);
    snapshot(&engine, "raw@one");
    snapshot(&engine, "raw@two");
    engine.detach(&name("data"), &volume("raw"), false).unwrap();
    let gone = id(&engine, "raw");
    engine.delete_volume(&name("data"), &volume("raw"), false).unwrap();
    let reading = read(&engine, LONG).unwrap();
    assert_eq!(thin(&engine, &reading, "raw@one"), (3, 0));
    assert_eq!(family(&engine, &reading, gone), (3, 3));
    sound(&host, &engine, "read");
}

#[test]
fn many_who_ask_shortly_after_each_other_cause_one_reading() {
    let (host, engine) = attached();
    write(&host, &engine, "raw", 0, 4);
    let effects = host.effects();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| read(&engine, LONG).unwrap());
        }
    });
    assert_eq!(messages(&host, effects), ["reserve_metadata_snap", "release_metadata_snap"]);
    let effects = host.effects();
    read(&engine, Duration::ZERO).unwrap();
    assert_eq!(messages(&host, effects).len(), 2, "nothing that old will do");
    sound(&host, &engine, "read");
}

#[test]
fn a_reading_does_not_wait_for_a_change_and_changes_go_on_while_one_is_held() {
    let (host, engine) = attached();
    write(&host, &engine, "raw", 0, 4);
    let uuid = pool_uuid(&engine);
    host.foreign_message(&uuid, "reserve_metadata_snap");
    snapshot(&engine, "raw@one");
    write(&host, &engine, "raw", 0, 4);
    engine.delete_volume(&name("data"), &volume("raw@one"), false).unwrap();
    Op::CreateFormatted.run(&engine).unwrap();
    assert!(said(&engine).contains("another program holds one"), "{}", said(&engine));
    assert!(host.pool(&uuid).unwrap().metadata_snapshot, "it is not ours");
    host.foreign_message(&uuid, "release_metadata_snap");
    assert_eq!(thin(&engine, &read(&engine, Duration::ZERO).unwrap(), "raw"), (4, 4));
    sound(&host, &engine, "read");
}

#[test]
fn a_failure_is_told_to_all_who_ask_shortly_after_and_then_it_is_tried_again() {
    let (host, engine) = attached();
    host.fail_next(EffectKind::DmMessage, Fault::Error(HostErrorKind::Io));
    read(&engine, LONG).unwrap_err();
    let effects = host.effects();
    assert!(read(&engine, LONG).is_err());
    assert_eq!(messages(&host, effects), Vec::<String>::new());
    read(&engine, Duration::ZERO).unwrap();
    sound(&host, &engine, "tried again");
}

#[test]
fn after_a_failed_reservation_another_programs_metadata_snapshot_is_left_alone() {
    let (host, engine) = attached();
    let uuid = pool_uuid(&engine);
    host.fail_next(EffectKind::DmMessage, Fault::Error(HostErrorKind::Io));
    read(&engine, Duration::ZERO).unwrap_err();
    host.foreign_message(&uuid, "reserve_metadata_snap");
    assert!(said(&engine).contains("another program holds one"), "{}", said(&engine));
    assert!(host.pool(&uuid).unwrap().metadata_snapshot, "it is not ours");
}

#[test]
fn no_death_and_no_error_during_a_reading_leaves_a_metadata_snapshot_for_longer_than_a_start() {
    let faults = [
        Fault::KillDaemonBefore,
        Fault::KillDaemonInside(1),
        Fault::KillDaemonAfter,
        Fault::PowerCutInside(1),
        Fault::PowerCutAfter,
        Fault::Error(HostErrorKind::Io),
        Fault::ErrorAfter(HostErrorKind::Io),
    ];
    let (before, engine) = attached();
    let uuid = pool_uuid(&engine);
    let (mut left, mut released) = (0, 0);
    for fault in faults {
        for nth in 0..2 {
            let host = before.fork();
            host.kill_daemon();
            host.restart();
            let engine = start(&host);
            let first = {
                let probe = host.fork();
                probe.kill_daemon();
                probe.restart();
                let engine = start(&probe);
                let effects = probe.effects();
                read(&engine, LONG).unwrap();
                let sent = probe.effect_log().into_iter().filter(|effect| effect.number > effects);
                let numbers: Vec<u64> = sent
                    .filter(|effect| effect.kind == EffectKind::DmMessage)
                    .map(|one| one.number - effects)
                    .collect();
                numbers[nth] + host.effects()
            };
            host.on_power_cut(CrashMode::LoseAll);
            host.fail_effect(first, fault);
            let answer = read(&engine, LONG);
            let story = format!("{fault:?} {nth}: {answer:?}");
            if host.is_dead() {
                left += u32::from(host.pool(&uuid).is_some_and(|pool| pool.metadata_snapshot));
                host.restart();
                let engine = start(&host);
                assert!(!host.pool(&uuid).unwrap().metadata_snapshot, "{story}");
                sound(&host, &engine, &story);
                continue;
            }
            answer.unwrap_err();
            released += u32::from(host.pool(&uuid).unwrap().metadata_snapshot);
            read(&engine, Duration::ZERO).unwrap_or_else(|error| panic!("{story}: {error}"));
            assert!(!host.pool(&uuid).unwrap().metadata_snapshot, "{story}");
            sound(&host, &engine, &story);
        }
    }
    assert!(left >= 2 && released >= 1, "{left} left by the dead, {released} released by the next who asked");
}

#[test]
fn a_pool_that_is_not_well_is_sent_no_message_and_the_answer_says_why() {
    let modes = [SimPoolMode::ReadOnly, SimPoolMode::OutOfMetadataSpace, SimPoolMode::Fail];
    for mode in modes {
        for refresh in [false, true] {
            let (host, engine) = attached();
            host.set_pool_mode(&pool_uuid(&engine), mode);
            if refresh {
                engine.refresh();
            }
            let effects = host.effects();
            let error = said(&engine);
            assert!(error.contains("pool tank"), "{error}");
            assert_eq!(messages(&host, effects), Vec::<String>::new(), "{mode:?}");
        }
    }
    let (host, engine) = attached();
    host.fail_next(EffectKind::DmMessage, Fault::MessageCommitFails);
    Op::CreateFormatted.run(&engine).unwrap_err();
    let effects = host.effects();
    assert!(said(&engine).contains("needs a check"), "{}", said(&engine));
    assert_eq!(messages(&host, effects), Vec::<String>::new());
}

#[test]
fn a_full_pool_is_read_for_that_is_when_it_is_wanted() {
    let (host, engine) = attached();
    write(&host, &engine, "raw", 0, 4);
    host.set_pool_mode(&pool_uuid(&engine), SimPoolMode::OutOfDataSpace);
    assert_eq!(thin(&engine, &read(&engine, LONG).unwrap(), "raw"), (4, 4));
}

#[test]
fn metadata_that_are_nearly_full_are_not_made_fuller_by_a_reading() {
    let (host, engine) = attached();
    let uuid = pool_uuid(&engine);
    for thin_id in 0..1850 {
        host.add_stray_thin(&uuid, 10_000 + thin_id).unwrap();
    }
    let effects = host.effects();
    let error = said(&engine);
    assert!(error.contains("more than 90 % full"), "{error}");
    assert_eq!(messages(&host, effects), Vec::<String>::new());
}

#[test]
fn what_is_not_there_or_not_in_use_is_refused() {
    let (host, engine) = attached();
    let error = engine.pool_usage(&name("data"), &name("lake"), LONG).unwrap_err();
    assert!(error.to_string().contains("lake"), "{error}");
    engine.pool_usage(&name("other"), &name("tank"), LONG).unwrap_err();
    engine.detach(&name("data"), &volume("raw"), false).unwrap();
    engine.export_vg(&name("data"), false).unwrap();
    assert!(said(&engine).contains("volume group data is not in use here"), "{}", said(&engine));
    engine.import_vg(&name("data"), false).unwrap();
    read(&engine, Duration::ZERO).unwrap();
    sound(&host, &engine, "imported");
}

#[test]
fn strays_are_counted_and_a_pool_can_be_deleted_after_it_was_read() {
    let (host, engine) = attached();
    host.add_stray_thin(&pool_uuid(&engine), 77).unwrap();
    let reading = read(&engine, LONG).unwrap();
    assert_eq!(reading.thins[&77].allocated, Bytes(0));
    assert_eq!(reading.strays, [77].into());
    let host = Op::DeletePool.before();
    let engine = start(&host);
    assert_eq!(read(&engine, LONG).unwrap().thins.len(), 0);
    Op::DeletePool.run(&engine).unwrap();
    read(&engine, LONG).unwrap_err();
    sound(&host, &engine, "deleted");
}

#[test]
fn what_is_deleted_and_kept_is_what_a_purge_frees_and_still_shares() {
    let (host, engine) = attached();
    write(&host, &engine, "raw", 0, 4);
    snapshot(&engine, "raw@one");
    write(&host, &engine, "raw", 0, 1);
    snapshot(&engine, "raw@two");
    engine.keep_volume(&name("data"), &volume("raw@one"), false).unwrap();
    let chunk = pool_of(&engine).chunk_size.get();
    let reading = read(&engine, LONG).unwrap();
    assert_eq!((reading.deleted.get() / chunk, reading.strays.len()), (1, 0), "the old chunk 0");
    assert_eq!(thin(&engine, &reading, "raw"), (4, 0));
    assert_eq!(family(&engine, &reading, id(&engine, "raw")), (0, 1), "the snapshot that is kept has 1 to 3 as well");
    let before = used(&host, &engine);
    assert_eq!(engine.purge_pool(&name("data"), &name("tank"), false).unwrap(), 1);
    assert_eq!(before - used(&host, &engine), 1);
    let reading = read(&engine, Duration::ZERO).unwrap();
    assert_eq!((reading.deleted, family(&engine, &reading, id(&engine, "raw"))), (Bytes(0), (0, 4)));
    sound(&host, &engine, "purged");
}
