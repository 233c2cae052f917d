//! Backups that bring a VG back onto damaged or empty disks, and copies of disks that become a VG of their own; both cut short at
//! each effect.

use std::path::{Path, PathBuf};

use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_engine::{BackedUp, Done, Engine, EngineError, RestoreVg};
use vol_sim::{CrashMode, Damage, Fault, SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

fn reboot(host: &SimHost) {
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.restart();
}

/// Mark, labels and metadata are gone; the extents are as they were.
fn lose_metadata(host: &SimHost, disk: &str) {
    host.damage(disk, 0, 18 * Bytes::MIB, Damage::Zeros);
    host.damage(disk, Bytes::gib(4).get() - Bytes::MIB, Bytes::MIB, Damage::Zeros);
}

/// A mounted volume with a file in it and a snapshot; then the power is off.
fn vg_with_data() -> (SimHost, BackedUp) {
    let host = Op::SnapshotMounted.before();
    let engine = start(&host);
    host.put_file("/srv/pg", "kept", b"yes").unwrap();
    Op::SnapshotMounted.run(&engine).unwrap();
    let backup = engine.backup_vg(&name("data")).unwrap();
    drop(engine);
    reboot(&host);
    (host, backup)
}

fn pv_of(backup: &BackedUp, disk: &str) -> PvId {
    let pv = |object: &Object| match object {
        Object::Pv(pv) if pv.path_hint == disk => Some(pv.id),
        _ => None,
    };
    backup.objects.iter().find_map(pv).unwrap()
}

fn onto(backup: &BackedUp, disks: &[(&str, &str)]) -> RestoreVg {
    let disks = disks.iter().map(|(was, is)| (pv_of(backup, was), PathBuf::from(is))).collect();
    RestoreVg { backup: backup.clone(), disks, wipe: false, older: false }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(host: &SimHost, run: impl FnOnce() -> Result<T, EngineError>) -> String {
    let effects = host.effects();
    match run() {
        Err(EngineError::Refused(refusal)) => {
            assert_eq!(host.effects(), effects, "a refusal did something: {refusal}");
            format!("{refusal} ({})", refusal.hint.clone().unwrap_or_default())
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn has_the_data(host: &SimHost, engine: &Engine<SimHost>, vg: &str, story: &str) {
    sound(host, engine, story);
    engine.mount(&name(vg), &volume("pg@before"), Path::new("/mnt"), false, false).unwrap();
    assert_eq!(host.read_file("/mnt", "kept").unwrap().as_deref(), Some(&b"yes"[..]), "{story}");
    engine.unmount(&name(vg), &volume("pg@before"), None, false).unwrap();
}

#[test]
fn disks_in_each_others_place_are_refused_before_anything_is_written() {
    let (host, backup) = vg_with_data();
    for disk in ["/dev/sda", "/dev/sdb"] {
        lose_metadata(&host, disk);
    }
    let engine = start(&host);
    let swapped = onto(&backup, &[("/dev/sda", "/dev/sdb"), ("/dev/sdb", "/dev/sda")]);
    let text = refused(&host, || engine.restore_vg(&swapped, false));
    assert!(text.contains("in each other's place") && text.contains("pool tank"), "{text}");
    let request = onto(&backup, &[("/dev/sda", "/dev/sda"), ("/dev/sdb", "/dev/sdb")]);
    engine.restore_vg(&request, false).unwrap();
    has_the_data(&host, &engine, "data", "in their own places");
}

#[test]
fn a_vg_whose_metadata_is_gone_from_all_disks_comes_back_with_its_data() {
    let (host, backup) = vg_with_data();
    let before = inventory_with_pvs(&start(&host.fork()));
    for disk in ["/dev/sda", "/dev/sdb"] {
        lose_metadata(&host, disk);
    }
    let engine = start(&host);
    assert_eq!(inventory(&engine), Vec::<String>::new());
    let text = refused(&host, || engine.restore_vg(&onto(&backup, &[]), false));
    assert!(text.contains("no disk is known for PV") && text.contains("was /dev/sda"), "{text}");
    let request = onto(&backup, &[("/dev/sda", "/dev/sda"), ("/dev/sdb", "/dev/sdb")]);
    let planned = engine.restore_vg(&request, true).unwrap();
    assert!(matches!(planned, Done::Planned(plan) if plan.title.contains("restore volume group data")));
    engine.restore_vg(&request, false).unwrap();
    assert_eq!(inventory_with_pvs(&engine), before);
    has_the_data(&host, &engine, "data", "restored");
    assert!(matches!(engine.restore_vg(&request, false).unwrap(), Done::Unchanged(_)), "the same again");
    assert!(matches!(engine.restore_vg(&request, true).unwrap(), Done::Planned(plan) if plan.is_empty()));
    Op::CreateRaw.run(&engine).unwrap();
    drop(engine);
    reboot(&host);
    let engine = start(&host);
    has_the_data(&host, &engine, "data", "restored and started anew");
    // What was changed since is not thrown away without a word.
    let text = refused(&host, || engine.restore_vg(&request, false));
    assert!(text.contains("is open and whole"), "{text}");
}

#[test]
fn one_damaged_disk_and_a_larger_empty_one_in_place_of_another_are_enough() {
    let (host, backup) = vg_with_data();
    // The one that carries no extents of the pool may be replaced.
    let used: Vec<PvId> = backup
        .objects
        .iter()
        .flat_map(|object| match object {
            Object::Pool(pool) => pool.data.iter().chain(&pool.metadata).map(|segment| segment.pv).collect(),
            _ => Vec::new(),
        })
        .collect();
    assert!(used.contains(&pv_of(&backup, "/dev/sda")) && used.contains(&pv_of(&backup, "/dev/sdb")));
    host.add_disk(SimDisk::new("/dev/sdn", Bytes::gib(8)));
    let engine = start(&host);
    Op::ExtendVg.run(&engine).unwrap_err();
    let mut request = extend_request(&["/dev/sdn"]);
    request.vg = name("data");
    engine.extend_vg(&request, false).unwrap();
    let backup = engine.backup_vg(&name("data")).unwrap();
    drop(engine);
    reboot(&host);
    host.remove_disk("/dev/sdn");
    lose_metadata(&host, "/dev/sda");
    host.add_disk(SimDisk::new("/dev/sdx", Bytes::gib(9)));
    let engine = start(&host);
    engine.restore_vg(&onto(&backup, &[("/dev/sda", "/dev/sda"), ("/dev/sdn", "/dev/sdx")]), false).unwrap();
    has_the_data(&host, &engine, "data", "onto another disk");
    assert_eq!(engine.vgs()[0].view().copies, (3, 3));
    // The disk that was replaced comes back: it says what it said, and does not win.
    drop(engine);
    reboot(&host);
    host.reattach("/dev/sdn");
    let engine = start(&host);
    let missing: Vec<_> = engine.vgs()[0].view().problems.iter().map(|problem| problem.message.clone()).collect();
    assert!(missing.iter().any(|text| text.contains("more than once")), "{missing:?}");
    engine.wipe_pv(Path::new("/dev/sdn"), false, false).unwrap_err();
    host.remove_disk("/dev/sdn");
    engine.scan(&[], true).unwrap();
    has_the_data(&host, &engine, "data", "without the old disk");
}

#[test]
fn another_disk_in_place_of_one_with_data_is_told_of() {
    let (host, backup) = vg_with_data();
    host.remove_disk("/dev/sdb");
    host.add_disk(SimDisk::new("/dev/sdx", Bytes::gib(4)).hardware_id("naa.5000"));
    let engine = start(&host);
    engine.restore_vg(&onto(&backup, &[("/dev/sdb", "/dev/sdx")]), false).unwrap();
    let problems: Vec<_> = engine.vgs()[0].view().problems.iter().map(|problem| problem.message.clone()).collect();
    assert!(problems.iter().any(|text| text.contains("another disk than it was: what pool tank had")), "{problems:?}");
}

#[test]
fn disks_that_cannot_be_restored_onto_are_refused_and_named() {
    let (host, backup) = vg_with_data();
    for disk in ["/dev/sda", "/dev/sdb"] {
        lose_metadata(&host, disk);
    }
    host.add_disk(SimDisk::new("/dev/small", Bytes::gib(1)));
    host.add_disk(SimDisk::new("/dev/large-sectors", Bytes::gib(4)).sector_size(4096));
    let engine = start(&host);
    let restore = |disks: &[(&str, &str)]| refused(&host, || engine.restore_vg(&onto(&backup, disks), false));
    let text = restore(&[("/dev/sda", "/dev/small"), ("/dev/sdb", "/dev/large-sectors")]);
    assert!(
        text.contains("/dev/small is too small") && text.contains("/dev/large-sectors has sectors of 4096"),
        "{text}"
    );
    assert!(restore(&[("/dev/sda", "/dev/sda"), ("/dev/sdb", "/dev/sda")]).contains("is to be two PVs"));
    assert!(restore(&[("/dev/sda", "/dev/nope"), ("/dev/sdb", "/dev/sdb")]).contains("/dev/nope cannot be used"));
    host.add_signature(
        "/dev/sda",
        vol_core::observed::Signature {
            usage: "filesystem".to_owned(),
            kind: "ext4".to_owned(),
            label: None,
            uuid: None,
        },
    );
    let both = [("/dev/sda", "/dev/sda"), ("/dev/sdb", "/dev/sdb")];
    let text = restore(&both);
    assert!(text.contains("/dev/sda is not empty, it carries: ext4") && text.contains("--wipe"), "{text}");
    engine.restore_vg(&RestoreVg { wipe: true, ..onto(&backup, &both) }, false).unwrap();
    has_the_data(&host, &engine, "data", "wiped and restored");
}

#[test]
fn metadata_that_is_newer_than_the_backup_is_not_lost_unless_it_is_said() {
    let (host, backup) = vg_with_data();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    drop(engine);
    reboot(&host);
    lose_metadata(&host, "/dev/sdb");
    let engine = start(&host);
    let mut request = onto(&backup, &[("/dev/sdb", "/dev/sdb")]);
    let text = refused(&host, || engine.restore_vg(&request, false));
    assert!(text.contains("not older than the backup") && text.contains("/dev/sda (commit"), "{text}");
    request.older = true;
    engine.restore_vg(&request, false).unwrap();
    // The kernel's pool went on: it is refused until a person has looked, and nothing in it is touched.
    let problems: Vec<_> = engine.vgs()[0].view().problems.iter().map(|problem| problem.message.clone()).collect();
    assert!(problems.len() == 2 && problems[0].contains("in the kernel, but at"), "{problems:?}");
    assert!(problems[1].contains("thin ids that no volume of ours has: 3"), "{problems:?}");
    engine.mount(&name("data"), &volume("pg"), Path::new("/mnt"), false, false).unwrap_err();
}

#[test]
fn a_backup_is_refused_while_something_is_half_done() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    host.fail_next(vol_sim::EffectKind::Mkfs, Fault::Error(HostErrorKind::Tool));
    host.fail_next(vol_sim::EffectKind::DmRemove, Fault::Error(HostErrorKind::Busy));
    Op::CreateFormatted.run(&engine).unwrap_err();
    let refusal = engine.backup_vg(&name("data")).unwrap_err();
    assert!(refusal.message.contains("is being made or deleted"), "{refusal}");
}

/// Every effect of `run` on `host`, cut short in every way; `run` again must come to its end, and what is found before that uses nothing.
fn walk(what: &str, host: &SimHost, vg: &str, run: impl Fn(&Engine<SimHost>) -> Result<(), EngineError>) -> u64 {
    let probe = host.fork();
    let engine = start(&probe);
    let first = probe.effects() + 1;
    run(&engine).unwrap();
    has_the_data(&probe, &engine, vg, what);
    let mut states = 0;
    for number in first..=probe.effects() {
        let faults = DEATHS.into_iter().chain([Fault::Error(HostErrorKind::Io), Fault::Torn]);
        for fault in faults {
            let host = host.fork();
            let engine = start(&host);
            host.fail_effect(number, fault);
            let done = run(&engine).is_ok();
            let story = format!("{what}, {fault:?} at effect {number}, done: {done}");
            let modes: &[CrashMode] = if fault.cuts_power() {
                &[CrashMode::LoseAll, CrashMode::KeepAll, CrashMode::Random]
            } else {
                &[CrashMode::KeepAll]
            };
            drop(engine);
            for mode in modes {
                let host = host.fork();
                if fault.cuts_power() {
                    host.settle(mode.clone());
                }
                host.clear_faults();
                host.restart();
                let engine = start(&host);
                let usable = |open: &std::sync::Arc<vol_engine::OpenVg>| {
                    let ready = open.read(|catalog| catalog.vg().state == VgState::Ready);
                    ready && open.view().missing.is_empty()
                };
                let named =
                    |open: &std::sync::Arc<vol_engine::OpenVg>| open.read(|catalog| catalog.vg().name.as_str() == vg);
                let whole = engine.vgs().iter().any(|open| usable(open) && named(open));
                assert!(!done || whole, "{story}: acknowledged, and not there");
                // The original of a copy may be found again before the copy is.
                if !engine.vgs().iter().any(usable) {
                    assert!(host.dm_devices().unwrap().is_empty(), "{story}: something half done is in use");
                }
                run(&engine).unwrap_or_else(|error| panic!("{story}, {mode:?}: again: {error}"));
                assert_eq!(host.violations(), Vec::<String>::new(), "{story}");
                has_the_data(&host, &engine, vg, &story);
                states += 1;
            }
        }
    }
    states
}

#[test]
fn a_restoration_can_be_done_again_after_a_death_at_each_effect() {
    let (host, backup) = vg_with_data();
    for disk in ["/dev/sda", "/dev/sdb"] {
        lose_metadata(&host, disk);
    }
    let request = onto(&backup, &[("/dev/sda", "/dev/sda"), ("/dev/sdb", "/dev/sdb")]);
    let states = walk("restore", &host, "data", |engine| engine.restore_vg(&request, false).map(drop));
    println!("{states} states of a restoration that was cut short");
    assert!(states > 200, "only {states} states were walked");
}

/// The VG with data, away, and block-level copies of its disks.
fn with_clones(beside: bool) -> SimHost {
    let (host, _) = vg_with_data();
    for (from, to) in [("/dev/sda", "/dev/sdy"), ("/dev/sdb", "/dev/sdz")] {
        host.clone_disk(from, to, "copy");
    }
    if !beside {
        host.remove_disk("/dev/sda");
        host.remove_disk("/dev/sdb");
        // Without the original the copies are taken for it.
        let engine = start(&host);
        let text =
            refused(&host, || engine.import_clone(&["/dev/sdy".into(), "/dev/sdz".into()], &name("copy"), false));
        assert!(text.contains("vg export data"), "{text}");
        Op::ExportVg.run(&engine).unwrap();
        drop(engine);
        reboot(&host);
    }
    host
}

fn import(engine: &Engine<SimHost>) -> Result<(), EngineError> {
    engine.import_clone(&["/dev/sdy".into(), "/dev/sdz".into()], &name("copy"), false).map(drop)
}

#[test]
fn copies_of_all_disks_become_a_vg_beside_the_original_f5() {
    let host = with_clones(true);
    let engine = start(&host);
    // Nobody can tell which is which: neither is used.
    assert!(host.dm_devices().unwrap().is_empty());
    let name_of = |name_: &str| name(name_);
    let one = refused(&host, || engine.import_clone(&["/dev/sdy".into()], &name_of("copy"), false));
    assert!(one.contains("copies"), "{one}");
    import(&engine).unwrap();
    // With the copies told apart, the original comes up too.
    let names: Vec<_> = engine.vgs().iter().map(|vg| vg.read(|catalog| catalog.vg().name.to_string())).collect();
    assert_eq!(names, ["copy", "data"]);
    for vg in ["data", "copy"] {
        has_the_data(&host, &engine, vg, "side by side");
        engine.mount(&name(vg), &volume("pg"), &PathBuf::from(format!("/srv/{vg}")), false, false).unwrap();
    }
    let ids =
        |vg: usize| engine.vgs()[vg].read(|catalog| catalog.objects().iter().map(Object::key).collect::<Vec<_>>());
    assert!(ids(0).iter().all(|id| !ids(1).contains(id)), "an id is in both groups");
    assert!(matches!(
        engine.import_clone(&["/dev/sdy".into(), "/dev/sdz".into()], &name("copy"), false).unwrap(),
        Done::Unchanged(_)
    ));
    reboot(&host);
    let engine = start(&host);
    for vg in ["data", "copy"] {
        has_the_data(&host, &engine, vg, "after a reboot");
    }
}

#[test]
fn a_running_original_is_never_taken_for_its_copy() {
    let host = Op::Mount.before();
    let engine = start(&host);
    Op::Mount.run(&engine).unwrap();
    for (from, to) in [("/dev/sda", "/dev/sdy"), ("/dev/sdb", "/dev/sdz")] {
        host.clone_disk(from, to, "copy");
    }
    let text = refused(&host, || engine.import_clone(&["/dev/sda".into(), "/dev/sdz".into()], &name("copy"), false));
    assert!(text.contains("/dev/sda is in use by volume group data: it is the original"), "{text}");
    let text = refused(&host, || engine.import_clone(&["/dev/sdy".into(), "/dev/sdz".into()], &name("data"), false));
    assert!(text.contains("there is a volume group named data already"), "{text}");
    let text = refused(&host, || engine.import_clone(&["/dev/sdy".into(), "/dev/sdy".into()], &name("copy"), false));
    assert!(text.contains("was given twice"), "{text}");
    host.add_disk(SimDisk::new("/dev/sdx", Bytes::gib(4)));
    let text = refused(&host, || engine.import_clone(&["/dev/sdx".into()], &name("copy"), false));
    assert!(text.contains("carries no PV"), "{text}");
    import(&engine).unwrap();
    assert_eq!(engine.vgs().len(), 2);
    sound(&host, &engine, "beside a running original");
}

#[test]
fn copies_can_be_imported_again_after_a_death_at_each_effect() {
    for beside in [false, true] {
        let host = with_clones(beside);
        let states = walk("import-clone", &host, "copy", import);
        println!("{states} states of copies whose import was cut short, the original attached: {beside}");
        assert!(states > 200, "only {states} states were walked");
    }
}
