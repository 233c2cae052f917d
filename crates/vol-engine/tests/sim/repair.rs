//! Pools whose own metadata are damaged, or that the kernel does not trust.

use std::collections::BTreeSet;
use std::path::Path;

use vol_core::RefusalCode;
use vol_core::dm::{self, Device};
use vol_core::observed::{PoolMode, PoolStatus};
use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_engine::{CreatePool, Done, Engine, EngineError, Repaired};
use vol_sim::{CrashMode, EffectKind, Fault, SimHost, ThinFlaw};
use vol_types::*;

use super::bench::*;

/// Two pools of one VG. In `tank` are `pg` (ext4, with a file in it), `wal` (ext4) and `raw`; in `other` `web`, which is mounted.
fn stage() -> (SimHost, Engine<SimHost>) {
    let host = machine();
    let engine = start(&host);
    Op::CreateVg.run(&engine).unwrap();
    for pool in ["tank", "other"] {
        let request = CreatePool {
            name: name(pool),
            size: SizeSpec::Bytes(Bytes::gib(2)),
            overcommit_percent: 100_000,
            ..pool_request()
        };
        engine.create_pool(&request, false).unwrap();
    }
    for (one, pool, fs) in [
        ("pg", "tank", Some(FsKind::Ext4)),
        ("wal", "tank", Some(FsKind::Ext4)),
        ("raw", "tank", None),
        ("web", "other", Some(FsKind::Ext4)),
    ] {
        let request = vol_engine::CreateVolume { pool: Some(name(pool)), ..volume_request(one, fs) };
        engine.create_volume(&request, false).unwrap();
    }
    mounted(&engine, "pg");
    host.put_file("/srv/pg", "kept", &[7; 300_000]).unwrap();
    engine.unmount(&name("data"), &volume("pg"), None, false).unwrap();
    mounted(&engine, "web");
    (host, engine)
}

fn mounted(engine: &Engine<SimHost>, one: &str) {
    engine.mount(&name("data"), &volume(one), &Path::new("/srv").join(one), false, false).unwrap();
}

fn pool(engine: &Engine<SimHost>, pool: &str) -> Pool {
    engine.vgs()[0].read(|catalog| catalog.pool_named(&name(pool)).unwrap().clone())
}

fn uuid(engine: &Engine<SimHost>) -> String {
    Device::Pool(pool(engine, "tank").id).uuid()
}

fn thin_id(engine: &Engine<SimHost>, one: &str) -> u32 {
    engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(one)).unwrap().thin_id().unwrap())
}

/// A commit of `tank` fails, with a creation half done.
fn break_it(host: &SimHost, engine: &Engine<SimHost>) {
    host.fail_next(EffectKind::DmMessage, Fault::MessageCommitFails);
    let request = vol_engine::CreateVolume { pool: Some(name("tank")), ..volume_request("half", None) };
    engine.create_volume(&request, false).unwrap_err();
}

fn spoil(host: &SimHost, engine: &Engine<SimHost>, flaw: ThinFlaw) {
    host.spoil_metadata(&Device::PoolMetadata(pool(engine, "tank").id).uuid(), flaw).unwrap();
}

fn repair(engine: &Engine<SimHost>, accept_loss: bool) -> Result<Repaired, EngineError> {
    match engine.repair_pool(&name("data"), &name("tank"), accept_loss, false)? {
        Done::Changed(done) | Done::Unchanged(done) => Ok(done),
        Done::Planned(plan) => panic!("{plan:?}"),
    }
}

fn refusal(error: EngineError) -> (RefusalCode, String, String) {
    match error {
        EngineError::Refused(refusal) => (refusal.code, refusal.message, refusal.hint.unwrap_or_default()),
        other => panic!("no refusal: {other}"),
    }
}

fn works(host: &SimHost, engine: &Engine<SimHost>) {
    match host.pool_status(&uuid(engine)).unwrap() {
        PoolStatus::Working(usage) => assert!(usage.mode == PoolMode::ReadWrite && !usage.needs_check, "{usage:?}"),
        other => panic!("{other:?}"),
    }
    let request = vol_engine::CreateVolume { pool: Some(name("tank")), ..volume_request("after", None) };
    engine.create_volume(&request, false).unwrap();
    engine.delete_volume(&name("data"), &volume("after"), false).unwrap();
    mounted(engine, "pg");
    assert_eq!(host.read_file("/srv/pg", "kept").unwrap(), Some(vec![7; 300_000]));
    engine.unmount(&name("data"), &volume("pg"), None, false).unwrap();
}

fn flagged(engine: &Engine<SimHost>) -> Vec<String> {
    engine.vgs()[0].read(|catalog| {
        let mut all: Vec<_> = catalog.volumes().filter(|one| one.check_fs).map(|one| one.name.to_string()).collect();
        all.sort();
        all
    })
}

fn codes(engine: &Engine<SimHost>) -> Vec<&'static str> {
    engine.vgs()[0].view().problems.iter().map(|problem| problem.code).collect()
}

/// Nothing of the simulated kernel was broken, and the catalog is sound; problems may be told of.
fn intact(host: &SimHost, engine: &Engine<SimHost>, story: &str) {
    assert_eq!(host.violations(), Vec::<String>::new(), "{story}");
    assert_eq!(engine.vgs()[0].read(vol_core::check::violations), Vec::<String>::new(), "{story}");
    let web = engine.vgs()[0].view();
    let up = web.kernel.mounts.iter().any(|mount| mount.target == Path::new("/srv/web"));
    assert!(up, "{story}: the volume of the other pool is not mounted any more");
}

#[test]
fn f10_needs_check_goes_when_the_metadata_are_sound_and_the_file_systems_of_that_pool_are_to_be_checked() {
    let (host, engine) = stage();
    break_it(&host, &engine);
    let view = engine.vgs()[0].view();
    let told = view.problems.iter().find(|problem| problem.code == "pool-refused").unwrap();
    assert!(told.hint.contains("`volctl pool repair data/tank`"), "{}", told.hint);
    for name_of in ["new", "half"] {
        let request = vol_engine::CreateVolume { pool: Some(name("tank")), ..volume_request(name_of, None) };
        let error = engine.create_volume(&request, false).unwrap_err();
        if name_of == "new" {
            assert!(refusal(error).2.contains("volctl pool repair"));
        }
    }
    assert_eq!(repair(&engine, false).unwrap(), Repaired::Cleared);
    assert_eq!(flagged(&engine), ["pg", "wal"], "those with a file system, of this pool");
    assert_eq!(pool(&engine, "tank").original, Vec::new());
    assert!(engine.vgs()[0].read(|catalog| catalog.unfinished().next().is_none()), "the creation is not taken back");
    works(&host, &engine);
    assert_eq!(flagged(&engine), ["wal"], "a mount checks");
    intact(&host, &engine, "cleared");
    assert_eq!(repair(&engine, false).unwrap(), Repaired::InOrder);
    assert_eq!(flagged(&engine), ["wal"], "nothing was repaired");
}

#[test]
fn f10_damaged_metadata_are_written_anew_and_the_old_are_kept_as_they_were() {
    let (host, engine) = stage();
    spoil(&host, &engine, ThinFlaw::SpaceMaps);
    let before = pool(&engine, "tank");
    let free = engine.vgs()[0].read(|catalog| catalog.free_extents_total());
    let bytes = |segments: &[Segment]| {
        let (pv, node) = (segments[0].pv, engine.vgs()[0].view().nodes.clone());
        let node = node.into_iter().find(|(id, _)| *id == pv).unwrap().1;
        let at = engine.vgs()[0]
            .read(|catalog| catalog.pv(pv).unwrap().data_offset.get() + catalog.bytes(segments[0].start).get());
        host.peek_durable(node, at, 4096)
    };
    let old = bytes(&before.metadata);
    let Repaired::Replaced(losses) = repair(&engine, false).unwrap() else { panic!("not replaced") };
    assert!(losses.is_none() && losses.compared, "{losses:?}");
    let after = pool(&engine, "tank");
    assert_eq!(after.original, before.metadata);
    assert!(after.metadata.iter().all(|one| !before.metadata.contains(one)), "the same extents");
    assert_eq!(bytes(&after.original), old, "the original was written to");
    assert_eq!(flagged(&engine), ["pg", "wal"]);
    works(&host, &engine);
    intact(&host, &engine, "replaced");
    // One original is kept, and not overwritten by the next repair.
    spoil(&host, &engine, ThinFlaw::SpaceMaps);
    let (_, message, hint) = refusal(repair(&engine, false).unwrap_err());
    assert!(
        message.contains("original metadata of an earlier repair") && hint.contains("--discard-original"),
        "{message}"
    );
    works(&host, &engine);
    engine.discard_original(&name("data"), &name("tank"), false).unwrap();
    assert_eq!(engine.vgs()[0].read(|catalog| catalog.free_extents_total()), free);
    assert!(matches!(repair(&engine, false).unwrap(), Repaired::Replaced(_)));
    works(&host, &engine);
    intact(&host, &engine, "replaced once more");
}

#[test]
fn f10_what_a_repair_would_lose_is_told_by_name_and_nothing_changes_until_it_is_accepted() {
    for part in [false, true] {
        let (host, engine) = stage();
        let id = thin_id(&engine, "pg");
        spoil(&host, &engine, if part { ThinFlaw::Half(id) } else { ThinFlaw::Lost(BTreeSet::from([id])) });
        let before = pool(&engine, "tank");
        let (code, message, hint) = refusal(repair(&engine, false).unwrap_err());
        assert_eq!(code, RefusalCode::Degraded);
        assert!(message.contains(if part { "not whole: pg (" } else { "gone: pg" }), "{message}");
        assert!(hint.contains("--accept-loss"), "{hint}");
        assert_eq!(pool(&engine, "tank"), before, "something was recorded");
        assert_eq!(flagged(&engine), Vec::<String>::new());
        intact(&host, &engine, "refused");
        let Repaired::Replaced(losses) = repair(&engine, true).unwrap() else { panic!("not replaced") };
        assert_eq!((losses.lost.len(), losses.shrunk.len()), if part { (0, 1) } else { (1, 0) });
        assert_eq!(pool(&engine, "tank").original, before.metadata);
        if !part {
            // It keeps its name, and says what became of it.
            assert!(codes(&engine).contains(&"pool-lost-thin"), "{:?}", codes(&engine));
            let error = engine.mount(&name("data"), &volume("pg"), Path::new("/srv/pg"), false, false).unwrap_err();
            assert!(refusal(error).1.contains("its data are not there"));
        }
        mounted(&engine, "wal");
        intact(&host, &engine, "accepted");
    }
}

#[test]
fn f10_metadata_of_which_nothing_can_be_made_stay_as_they_are_and_the_pool_comes_up_again() {
    let (host, engine) = stage();
    spoil(&host, &engine, ThinFlaw::Hopeless);
    let before = pool(&engine, "tank");
    let error = repair(&engine, true).unwrap_err();
    assert!(error.to_string().contains("thin_repair could not"), "{error}");
    assert_eq!(pool(&engine, "tank"), before);
    works(&host, &engine);
    intact(&host, &engine, "hopeless");
}

#[test]
fn f10_repaired_metadata_of_another_transaction_are_not_put_in_place() {
    let (host, engine) = stage();
    host.set_transaction_id(&uuid(&engine), 900).unwrap();
    spoil(&host, &engine, ThinFlaw::SpaceMaps);
    let before = pool(&engine, "tank");
    let (_, message, _) = refusal(repair(&engine, true).unwrap_err());
    assert!(message.contains("at transaction 900"), "{message}");
    assert_eq!(pool(&engine, "tank"), before);
    intact(&host, &engine, "another transaction");
}

#[test]
fn a_pool_in_use_is_not_repaired_and_everybody_who_uses_it_is_named() {
    let (host, engine) = stage();
    break_it(&host, &engine);
    engine.mount(&name("data"), &volume("pg"), Path::new("/srv/pg"), true, false).unwrap();
    engine.attach_read_only(&name("data"), &volume("raw"), false).unwrap();
    let effects = host.effects();
    let (code, message, hint) = refusal(repair(&engine, false).unwrap_err());
    assert_eq!(code, RefusalCode::Busy);
    assert!(message.contains("data/pg is mounted at /srv/pg") && message.contains("data/raw is attached"), "{message}");
    assert!(hint.contains("unmount"), "{hint}");
    assert_eq!(host.effects(), effects, "a refusal did something");
    assert_eq!(pool(&engine, "tank").repair, None);
}

#[test]
fn without_the_tools_the_pool_is_not_taken_down() {
    let (host, engine) = stage();
    break_it(&host, &engine);
    host.set_thin_tools(false);
    let effects = host.effects();
    let error = repair(&engine, false).unwrap_err();
    assert!(error.to_string().contains("not installed"), "{error}");
    engine.check_pool(&name("data"), &name("tank"), false).unwrap_err();
    assert_eq!(host.effects(), effects);
    host.set_thin_tools(true);
    repair(&engine, false).unwrap();
    works(&host, &engine);
}

#[test]
fn without_space_for_the_repair_the_pool_comes_up_as_it_was_and_a_disk_helps() {
    let host = machine();
    host.add_disk(vol_sim::SimDisk::new("/dev/sdc", Bytes::gib(4)));
    let engine = start(&host);
    Op::CreateVg.run(&engine).unwrap();
    engine.create_pool(&pool_request(), false).unwrap();
    // Metadata may take what is kept for a repair: without them nothing goes on at all.
    let free = engine.vgs()[0].read(|catalog| catalog.bytes(catalog.free_extents_total()));
    let all = extend_pool(None, Some(&format!("+{}", free.get())));
    engine.extend_pool(&name("data"), &all, false).unwrap();
    Op::CreateRaw.run(&engine).unwrap();
    spoil(&host, &engine, ThinFlaw::SpaceMaps);
    let before = pool(&engine, "tank");
    let (code, message, hint) = refusal(repair(&engine, false).unwrap_err());
    assert_eq!(code, RefusalCode::NoSpace);
    assert!(
        message.contains("repaired onto other extents") && hint.contains("volctl vg extend data"),
        "{message}: {hint}"
    );
    assert_eq!(pool(&engine, "tank"), before);
    sound(&host, &engine, "no space");
    Op::ExtendVg.run(&engine).unwrap();
    assert!(matches!(repair(&engine, false).unwrap(), Repaired::Replaced(_)));
    sound(&host, &engine, "with a disk more");
}

#[test]
fn a_dry_run_shows_what_a_repair_may_do_and_changes_nothing() {
    let (host, engine) = stage();
    break_it(&host, &engine);
    let effects = host.effects();
    let planned = engine.repair_pool(&name("data"), &name("tank"), false, true).unwrap();
    let Done::Planned(plan) = planned else { panic!("{planned:?}") };
    let kinds: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
    assert!(kinds.contains(&"check-thin") && kinds.contains(&"repair-thin"), "{kinds:?}");
    assert_eq!(host.effects(), effects, "a dry run did something");
}

#[test]
fn a_check_says_what_it_looked_at_and_what_it_found() {
    let (host, engine) = stage();
    let check = |online: bool| engine.check_pool(&name("data"), &name("tank"), online).unwrap();
    let stopped = check(false);
    assert!(stopped.stopped && stopped.findings.is_empty() && stopped.thins == Some(3), "{stopped:?}");
    sound(&host, &engine, "a check");
    let running = check(true);
    assert!(!running.stopped && running.findings.is_empty() && running.thins == Some(3), "{running:?}");
    assert!(!host.pool(&uuid(&engine)).unwrap().metadata_snapshot, "a metadata snapshot is left");
    mounted(&engine, "pg");
    assert!(!check(false).stopped, "a pool in use was taken down");
    spoil(&host, &engine, ThinFlaw::Half(thin_id(&engine, "pg")));
    let damaged = check(false);
    assert!(damaged.repairable && damaged.findings[0].contains("cannot be read"), "{damaged:?}");
    engine.unmount(&name("data"), &volume("pg"), None, false).unwrap();
    let damaged = check(false);
    assert!(
        damaged.stopped && damaged.repairable && damaged.findings[0].contains("thin_check finds damage"),
        "{damaged:?}"
    );
    intact(&host, &engine, "checked");
}

#[test]
fn a_pool_that_is_checked_takes_no_other_request_and_says_why() {
    let (host, engine) = stage();
    // The daemon dies while the pool is down; what a request would meet meanwhile stands in the record.
    host.fail_next(EffectKind::DmRemove, Fault::KillDaemonAfter);
    engine.check_pool(&name("data"), &name("tank"), false).unwrap_err();
    drop(engine);
    host.restart();
    let engine = start(&host);
    assert_eq!(pool(&engine, "tank").repair, None, "recovery brings it up");
    works(&host, &engine);
    intact(&host, &engine, "a check that was cut short");
}

/// What must hold after a repair that was cut short, of a pool that `ill` made ill.
fn cut_short(ill: impl Fn(&SimHost, &Engine<SimHost>), replaced: bool) {
    let (before, engine) = stage();
    ill(&before, &engine);
    drop(engine);
    before.keep_trace(false);
    let clean = before.fork();
    let engine = start(&clean);
    let first = clean.effects() + 1;
    repair(&engine, false).unwrap();
    let last = clean.effects();
    assert!(last > first + 5, "it does too little: {first} to {last}");
    let mut states = 0;
    for number in first..=last {
        for death in DEATHS.into_iter().chain([Fault::Error(HostErrorKind::Io)]) {
            let host = before.fork();
            let engine = start(&host);
            host.fail_effect(number, death);
            let acknowledged = repair(&engine, false).is_ok();
            let story = format!("{death:?} at effect {number}, acknowledged {acknowledged}");
            if host.is_dead() {
                drop(engine);
                if death.cuts_power() {
                    host.settle(CrashMode::Random);
                }
                host.restart();
            } else if !matches!(death, Fault::Error(_)) {
                continue;
            }
            states += 1;
            host.clear_faults();
            let engine = start(&host);
            let now = pool(&engine, "tank");
            assert_eq!(now.repair, None, "{story}");
            assert_eq!(host.violations(), Vec::<String>::new(), "{story}");
            assert_eq!(engine.vgs()[0].read(vol_core::check::violations), Vec::<String>::new(), "{story}");
            let left = host.dm_devices().unwrap();
            assert!(left.iter().all(|info| !info.uuid.ends_with("-tspare")), "{story}: a device is left");
            if acknowledged {
                assert_eq!(flagged(&engine), ["pg", "wal"], "{story}");
                assert_eq!(!now.original.is_empty(), replaced, "{story}");
            }
            // Whatever stage it was at: asked for again it comes to its end.
            repair(&engine, false).unwrap_or_else(|error| panic!("{story}: {error}"));
            let now = pool(&engine, "tank");
            assert_eq!(!now.original.is_empty(), replaced, "{story}");
            if replaced {
                assert_eq!(dm::extents_of(&now.original), dm::extents_of(&now.metadata), "{story}");
            }
            works(&host, &engine);
            assert_eq!(flagged(&engine), ["wal"], "{story}: a file system would be mounted unchecked");
        }
    }
    println!("{states} states");
}

#[test]
fn f10_a_repair_cut_short_at_any_effect_is_taken_back_or_done_and_can_be_asked_for_again() {
    cut_short(|host, engine| spoil(host, engine, ThinFlaw::SpaceMaps), true);
}

#[test]
fn f10_needs_check_whose_clearing_is_cut_short_at_any_effect_leaves_no_file_system_unchecked() {
    cut_short(break_it, false);
}
