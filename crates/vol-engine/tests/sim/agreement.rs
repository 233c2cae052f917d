//! The kernel's thin ids against ours: strays, lost ids, counters, refused pools (rows F11, F12 and F31 of the catalogue of
//! failures).

use std::path::Path;

use vol_engine::host::{DmCreate, HostErrorKind, HostMut as _, HostRead as _};
use vol_engine::{Engine, EngineError};
use vol_sim::{CrashMode, EffectKind, Fault, PoolView, SimHost, SimPoolMode};
use vol_types::*;

use super::bench::*;

fn pool_uuid(engine: &Engine<SimHost>) -> String {
    let id = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().id);
    vol_core::dm::Device::Pool(id).uuid()
}

fn in_kernel(host: &SimHost, uuid: &str) -> PoolView {
    host.pool(uuid).unwrap()
}

fn pool(engine: &Engine<SimHost>) -> Pool {
    engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().clone())
}

fn codes(engine: &Engine<SimHost>) -> Vec<&'static str> {
    engine.vgs()[0].view().problems.iter().map(|problem| problem.code).collect()
}

fn message_of(engine: &Engine<SimHost>, code: &str) -> String {
    let view = engine.vgs()[0].view();
    let found = view.problems.iter().find(|problem| problem.code == code);
    found.unwrap_or_else(|| panic!("no {code} in {:?}", view.problems)).message.clone()
}

/// The daemon dies and another starts; the kernel goes on.
fn restart(host: &SimHost) -> Engine<SimHost> {
    host.kill_daemon();
    host.restart();
    start(host)
}

/// Messages to pools since an effect.
fn messages(host: &SimHost, since: u64) -> Vec<String> {
    let log = host.effect_log().into_iter().filter(|effect| effect.number > since);
    let sent = log.filter(|effect| effect.kind == EffectKind::DmMessage);
    sent.filter_map(|effect| Some(effect.what.split_once("-tpool ")?.1.to_owned())).collect()
}

/// A volume `pg` with a file in it, unmounted.
fn with_file() -> SimHost {
    let host = Op::Mount.before();
    let engine = start(&host);
    Op::Mount.run(&engine).unwrap();
    host.put_file("/srv/pg", "kept", b"yes").unwrap();
    Op::Unmount.run(&engine).unwrap();
    host
}

fn mount(engine: &Engine<SimHost>, read_only: bool) -> Result<(), EngineError> {
    engine.mount(&name("data"), &volume("pg"), Path::new("/srv/pg"), read_only, false).map(drop)
}

#[test]
fn f31_strays_are_reported_with_their_ids_and_survive_everything_that_is_done_beside_them() {
    let host = with_file();
    let engine = start(&host);
    let uuid = pool_uuid(&engine);
    for id in [40, 41, 7] {
        host.add_stray_thin(&uuid, id).unwrap();
    }
    assert_eq!(codes(&engine), Vec::<&str>::new(), "it was not looked yet");
    let engine = restart(&host);
    assert_eq!(codes(&engine), ["pool-stray-thin"]);
    let said = message_of(&engine, "pool-stray-thin");
    assert!(said.contains("no volume of ours has: 7, 40, 41 (0 B mapped)"), "{said}");
    let effects = host.effects();
    Op::CreateRaw.run(&engine).unwrap();
    engine.create_snapshot(&"data/pg@one".parse().unwrap(), false).unwrap();
    engine.delete_volume(&name("data"), &volume("raw"), false).unwrap();
    let engine = restart(&host);
    assert_eq!(codes(&engine), ["pool-stray-thin"]);
    let ids: Vec<u32> = in_kernel(&host, &uuid).thins.into_keys().collect();
    assert_eq!(ids, [1, 7, 40, 41, 43], "new ids are past all that the kernel has");
    let deleted: Vec<_> =
        messages(&host, effects).into_iter().filter(|message| message.starts_with("delete")).collect();
    assert_eq!(deleted, ["delete 42"]);
    // Somebody removes them: the next look finds nothing.
    for id in [7, 40, 41] {
        host.lose_thin(&uuid, id).unwrap();
    }
    let engine = restart(&host);
    sound(&host, &engine, "strays removed");
}

#[test]
fn f31_a_pool_with_strays_in_it_is_not_deleted() {
    let host = Op::DeletePool.before();
    let engine = start(&host);
    host.add_stray_thin(&pool_uuid(&engine), 3).unwrap();
    let engine = restart(&host);
    let error = Op::DeletePool.run(&engine).unwrap_err();
    assert!(error.to_string().contains("thin ids that no volume of ours has (3)"), "{error}");
    host.lose_thin(&pool_uuid(&engine), 3).unwrap();
    Op::DeletePool.run(&restart(&host)).unwrap();
}

#[test]
fn f31_the_id_counter_is_raised_durably_past_the_ids_of_an_old_catalog() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    let uuid = pool_uuid(&engine);
    host.add_stray_thin(&uuid, 5).unwrap();
    let engine = restart(&host);
    assert_eq!(pool(&engine).next_thin_id, 1, "reading changes nothing");
    // Whatever becomes of the creation: what was durable before the message is past the stray.
    host.fail_next(EffectKind::DmMessage, Fault::KillDaemonBefore);
    Op::CreateRaw.run(&engine).unwrap_err();
    host.restart();
    let engine = start(&host);
    assert_eq!(pool(&engine).next_thin_id, 7);
    Op::CreateRaw.run(&engine).unwrap();
    assert_eq!(in_kernel(&host, &uuid).thins.into_keys().collect::<Vec<_>>(), [5, 7]);
}

#[test]
fn f31_an_id_that_somebody_took_behind_our_back_is_not_deleted_when_the_creation_fails() {
    for restarts in [false, true] {
        let host = Op::CreateRaw.before();
        let engine = start(&host);
        let uuid = pool_uuid(&engine);
        let taken = pool(&engine).next_thin_id;
        host.foreign_message(&uuid, &format!("create_thin {taken}"));
        let error = Op::CreateRaw.run(&engine).unwrap_err();
        assert!(error.to_string().contains("create_thin"), "{error}");
        assert!(in_kernel(&host, &uuid).thins.contains_key(&taken), "it was deleted, and was not ours");
        assert_eq!(codes(&engine), ["pool-stray-thin"]);
        let engine = if restarts { restart(&host) } else { engine };
        assert_eq!(codes(&engine), ["pool-stray-thin"]);
        Op::CreateRaw.run(&engine).unwrap();
        assert!(in_kernel(&host, &uuid).thins.contains_key(&taken));
    }
}

#[test]
fn f31_an_older_stray_under_the_id_of_a_creation_that_a_crash_cut_short_is_not_deleted() {
    let host = with_file();
    let engine = start(&host);
    let uuid = pool_uuid(&engine);
    let taken = pool(&engine).next_thin_id;
    // Made at transaction 0; the pool is at 1 since.
    host.add_stray_thin(&uuid, taken).unwrap();
    host.fail_next(EffectKind::DmMessage, Fault::KillDaemonBefore);
    Op::CreateRaw.run(&engine).unwrap_err();
    host.restart();
    let engine = start(&host);
    assert!(in_kernel(&host, &uuid).thins.contains_key(&taken));
    assert_eq!(codes(&engine), ["pool-stray-thin"]);
    assert_eq!(engine.vgs()[0].read(|catalog| catalog.intents().count()), 0, "the intent is settled all the same");
}

#[test]
fn f31_a_volume_whose_id_is_gone_is_refused_alone() {
    let host = with_file();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    let uuid = pool_uuid(&engine);
    host.lose_thin(&uuid, 2).unwrap();
    let engine = restart(&host);
    assert_eq!(codes(&engine), ["pool-lost-thin"]);
    let said = message_of(&engine, "pool-lost-thin");
    assert!(said.starts_with("volume data/raw has thin id 2, which pool tank does not have"), "{said}");
    let effects = host.effects();
    let error = engine.attach(&name("data"), &volume("raw"), false).unwrap_err();
    assert!(error.to_string().contains("does not have thin id 2, which is that of data/raw"), "{error}");
    engine.create_snapshot(&"data/raw@s".parse().unwrap(), false).unwrap_err();
    assert_eq!(host.effects(), effects, "a refusal comes before anything is done");
    mount(&engine, false).unwrap();
    assert_eq!(host.read_file("/srv/pg", "kept").unwrap().as_deref(), Some(&b"yes"[..]));
    // It can be deleted, and with it the problem goes.
    engine.delete_volume(&name("data"), &volume("raw"), false).unwrap();
    sound(&host, &engine, "without the lost volume");
}

#[test]
fn f31_a_device_of_ours_that_no_group_knows_is_told_and_left_alone() {
    let host = with_file();
    let engine = start(&host);
    let table = host.dm_table(&pool_uuid(&engine).replace("-tpool", "-tmeta")).unwrap();
    let uuid = "VOLUMED-00000000-0000-4000-8000-00000000abcd";
    let mut stray = table[0].clone();
    stray.len = Sectors(8);
    let sector = stray.params.rsplit(' ').next().unwrap().parse::<u64>().unwrap() + 2_000_000;
    stray.params = format!("{} {sector}", stray.params.split(' ').next().unwrap());
    host.dm_create(&DmCreate {
        name: "volumed-stray".to_owned(),
        uuid: uuid.to_owned(),
        table: vec![stray],
        read_only: false,
        private: false,
        link: None,
    })
    .unwrap();
    engine.refresh();
    let found = engine.scan_problems();
    assert_eq!(found.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["device-stray"]);
    assert!(found[0].message.contains("volumed-stray (/dev/dm-"), "{}", found[0].message);
    mount(&engine, false).unwrap();
    let engine = restart(&host);
    assert_eq!(engine.scan_problems().len(), 1);
    assert!(host.dm_device(uuid).unwrap().is_some());
    host.dm_remove(uuid).unwrap();
    engine.refresh();
    assert_eq!(engine.scan_problems(), Vec::new());
}

#[test]
fn f11_a_refused_pool_says_what_each_side_holds_and_can_be_read() {
    for (id, stray) in [(77, true), (0, false)] {
        let host = with_file();
        let engine = start(&host);
        let uuid = pool_uuid(&engine);
        if stray {
            host.add_stray_thin(&uuid, 9).unwrap();
        }
        host.set_transaction_id(&uuid, id).unwrap();
        let differing = if stray { "only the kernel has thin ids 9" } else { "both have the same thin ids" };
        engine.refresh();
        for engine in [engine, restart(&host)] {
            let said = message_of(&engine, "pool-refused");
            assert!(said.contains(&format!("is at transaction {id} in the kernel, but at 1 in")), "{said}");
            assert!(said.contains(differing), "{said}");
            let sent = host.effects();
            let error = mount(&engine, false).unwrap_err();
            let EngineError::Refused(refusal) = &error else { panic!("{error:?}") };
            assert!(
                refusal.hint.as_ref().unwrap().starts_with("it can be read: ask again with --read-only"),
                "{error}"
            );
            Op::CreateRaw.run(&engine).unwrap_err();
            mount(&engine, true).unwrap();
            let mounts = host.mounts().unwrap();
            assert!(mounts.iter().any(|mount| mount.target == Path::new("/srv/pg") && mount.read_only));
            let device = vol_core::dm::Device::Volume(
                engine.vgs()[0].read(|catalog| catalog.volume_named(&volume("pg")).unwrap().id),
            );
            assert!(host.dm_device(&device.uuid()).unwrap().unwrap().read_only);
            assert_eq!(host.read_file("/srv/pg", "kept").unwrap().as_deref(), Some(&b"yes"[..]));
            mount(&engine, true).unwrap();
            engine.unmount(&name("data"), &volume("pg"), None, false).unwrap();
            assert_eq!(messages(&host, sent), Vec::<String>::new(), "reading sends the pool nothing");
        }
        // Put right by a person, all is as before.
        host.set_transaction_id(&uuid, 1).unwrap();
        if stray {
            host.lose_thin(&uuid, 9).unwrap();
        }
        let engine = restart(&host);
        mount(&engine, false).unwrap();
        sound(&host, &engine, "put right");
    }
}

#[test]
fn f11_a_device_that_was_left_active_is_made_anew_when_it_is_of_the_wrong_kind() {
    let host = with_file();
    let engine = start(&host);
    let uuid = pool_uuid(&engine);
    let device =
        vol_core::dm::Device::Volume(engine.vgs()[0].read(|catalog| catalog.volume_named(&volume("pg")).unwrap().id))
            .uuid();
    let leave_active = |read_only| {
        mount(&engine, read_only).unwrap();
        host.hold_device(&device, Some("udev"));
        engine.unmount(&name("data"), &volume("pg"), None, false).unwrap();
        host.hold_device(&device, None);
        host.dm_device(&device).unwrap().unwrap().read_only
    };
    assert!(!leave_active(false));
    // Mounted as it is, the journal would be replayed into the refused pool.
    host.set_transaction_id(&uuid, 77).unwrap();
    mount(&engine, false).unwrap_err();
    assert!(leave_active(true), "the writable device is still there");
    host.set_transaction_id(&uuid, 1).unwrap();
    assert!(!leave_active(false), "the device for reading only is still there");
}

#[test]
fn f11_an_open_change_that_fits_neither_side_is_named() {
    let host = with_file();
    let engine = start(&host);
    let uuid = pool_uuid(&engine);
    host.fail_next(EffectKind::DmMessage, Fault::KillDaemonAfter);
    Op::CreateRaw.run(&engine).unwrap_err();
    host.set_transaction_id(&uuid, 50).unwrap();
    host.restart();
    let engine = start(&host);
    let said = message_of(&engine, "pool-refused");
    assert!(said.contains("is at transaction 50 in the kernel, but at 1 in"), "{said}");
    assert!(said.contains("an open change from transaction 1 to 2 (create 2)"), "{said}");
    assert!(in_kernel(&host, &uuid).thins.contains_key(&2), "nothing is settled by guessing");
    mount(&engine, true).unwrap();
    assert_eq!(host.read_file("/srv/pg", "kept").unwrap().as_deref(), Some(&b"yes"[..]));
}

#[test]
fn f11_a_raw_volume_of_a_refused_pool_is_attached_for_reading() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    host.set_transaction_id(&pool_uuid(&engine), 9).unwrap();
    let data = name("data");
    engine.attach(&data, &volume("raw"), false).unwrap_err();
    assert!(changed(engine.attach_read_only(&data, &volume("raw"), false).unwrap()));
    assert!(!changed(engine.attach_read_only(&data, &volume("raw"), false).unwrap()));
    let error = engine.attach(&data, &volume("raw"), false).unwrap_err();
    assert!(error.to_string().contains("attached already, but for reading only"), "{error}");
    engine.detach(&data, &volume("raw"), false).unwrap();
}

#[test]
fn f12_a_message_whose_commit_failed_is_not_acknowledged_and_what_was_there_can_be_read() {
    for fault in [Fault::MessageCommitFails, Fault::MessageCommitFailsLate] {
        let host = with_file();
        let engine = start(&host);
        host.fail_next(EffectKind::DmMessage, fault);
        Op::CreateRaw.run(&engine).unwrap_err();
        for engine in [engine, restart(&host)] {
            assert!(codes(&engine).contains(&"pool-refused"), "{:?}", codes(&engine));
            let said = message_of(&engine, "pool-refused");
            assert!(said.contains("needs a check") && said.contains("open change from transaction 1 to 2"), "{said}");
            let raw = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume("raw")).map(|raw| raw.state));
            assert_eq!(raw, Some(VolumeState::Creating), "never acknowledged");
            mount(&engine, false).unwrap_err();
            mount(&engine, true).unwrap();
            assert_eq!(host.read_file("/srv/pg", "kept").unwrap().as_deref(), Some(&b"yes"[..]));
            engine.unmount(&name("data"), &volume("pg"), None, false).unwrap();
        }
        // Checked by a person, and activated anew: it is settled.
        let uuid = pool_uuid(&start(&host));
        host.repair_pool(&uuid).unwrap();
        host.crash(CrashMode::LoseAll);
        host.restart();
        let engine = start(&host);
        sound(&host, &engine, "checked");
        mount(&engine, false).unwrap();
    }
}

#[test]
fn f12_a_pool_that_gave_up_stays_closed_for_readers_too() {
    let host = with_file();
    let engine = start(&host);
    host.set_pool_mode(&pool_uuid(&engine), SimPoolMode::Fail);
    let error = mount(&engine, true).unwrap_err();
    assert!(error.to_string().contains("the kernel gave up on pool tank"), "{error}");
}

#[test]
fn a_metadata_snapshot_of_a_dead_daemon_is_released_at_start_and_that_of_another_program_is_left_alone() {
    let host = with_file();
    let engine = start(&host);
    let uuid = pool_uuid(&engine);
    host.foreign_message(&uuid, "reserve_metadata_snap");
    for _ in 0..800 {
        engine.refresh();
    }
    assert!(in_kernel(&host, &uuid).metadata_snapshot);
    let said = message_of(&engine, "pool-unread");
    assert!(said.contains("another program holds one"), "{said}");
    let engine = restart(&host);
    assert!(!in_kernel(&host, &uuid).metadata_snapshot);
    sound(&host, &engine, "after a restart");
}

#[test]
fn no_death_and_no_error_during_the_comparison_leaves_a_metadata_snapshot_for_longer_than_a_start() {
    let before = with_file();
    let uuid = pool_uuid(&start(&before));
    let faults = [
        Fault::KillDaemonBefore,
        Fault::KillDaemonInside(1),
        Fault::KillDaemonAfter,
        Fault::PowerCutInside(1),
        Fault::PowerCutAfter,
        Fault::Error(HostErrorKind::Io),
        Fault::ErrorAfter(HostErrorKind::Io),
    ];
    let mut left = 0;
    for fault in faults {
        for nth in 0..2 {
            let host = before.fork();
            host.kill_daemon();
            host.restart();
            // The first message of a start reserves, the second releases.
            let first = host.fork();
            let effects = first.effects();
            start(&first);
            let messages: Vec<_> = first
                .effect_log()
                .into_iter()
                .filter(|effect| effect.number > effects && effect.kind == EffectKind::DmMessage)
                .collect();
            assert_eq!(messages.len(), 2);
            host.on_power_cut(CrashMode::LoseAll);
            host.fail_effect(messages[nth].number, fault);
            let engine = Engine::new(host.clone());
            drop(engine.scan(&[], false));
            if host.is_dead() {
                left += u32::from(host.pool(&uuid).is_some_and(|pool| pool.metadata_snapshot));
                host.restart();
            }
            let engine = start(&host);
            assert!(!in_kernel(&host, &uuid).metadata_snapshot, "{fault:?} {nth}");
            sound(&host, &engine, &format!("{fault:?} {nth}"));
        }
    }
    assert!(left >= 2, "no death left one behind: {left}");
}

#[test]
fn a_pool_is_compared_once_an_hour_and_not_for_a_request() {
    let host = with_file();
    let engine = start(&host);
    let effects = host.effects();
    for _ in 0..700 {
        engine.refresh();
    }
    Op::CreateRaw.run(&engine).unwrap();
    assert_eq!(messages(&host, effects), ["create_thin 2", "set_transaction_id 1 2"]);
    let effects = host.effects();
    for _ in 0..30 {
        engine.refresh();
    }
    assert_eq!(messages(&host, effects), ["reserve_metadata_snap", "release_metadata_snap"]);
    sound(&host, &engine, "compared");
}

#[test]
fn the_snapshot_clock_of_the_kernel_counts_if_it_is_ahead_of_ours() {
    let host = with_file();
    let engine = start(&host);
    let uuid = pool_uuid(&engine);
    host.set_pool_clock(&uuid, 14_399_999).unwrap();
    let engine = restart(&host);
    assert_eq!(codes(&engine), Vec::<&str>::new());
    engine.create_snapshot(&"data/pg@one".parse().unwrap(), false).unwrap();
    assert_eq!(pool(&engine).snapshots_made, 14_400_000, "the larger count is ours from now on");
    assert_eq!(codes(&engine), ["pool-snapshot-clock"], "90 % of what is allowed");
    host.set_pool_clock(&uuid, limit::POOL_SNAPSHOTS_MAX).unwrap();
    let engine = restart(&host);
    let error = engine.create_snapshot(&"data/pg@two".parse().unwrap(), false).unwrap_err();
    assert!(error.to_string().contains("has made 16000000 snapshots in its life"), "{error}");
    assert_eq!(in_kernel(&host, &uuid).clock, limit::POOL_SNAPSHOTS_MAX);
    mount(&engine, false).unwrap();
}
