//! Disks that go and come while the daemon runs, and nobody asks for a scan.

use std::path::Path;

use vol_engine::host::DiskNews;
use vol_engine::{Engine, EngineError};
use vol_sim::{CrashMode, Fault, ReadFault, SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

/// Three disks with the VG `data`, its pool on all of them, and a formatted volume.
pub fn in_use() -> (SimHost, Engine<SimHost>) {
    with_pool(&pool_request().size.to_string())
}

/// As [`in_use`], with a pool of this size.
fn with_pool(size: &str) -> (SimHost, Engine<SimHost>) {
    let host = machine();
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)));
    let engine = start(&host);
    engine.create_vg(&vg_request(&["/dev/sda", "/dev/sdb", "/dev/sdc"]), false).unwrap();
    let size = size.parse().unwrap();
    let overcommit_percent = limit::OVERCOMMIT_PERCENT_MAX;
    engine.create_pool(&vol_engine::CreatePool { size, overcommit_percent, ..pool_request() }, false).unwrap();
    Op::CreateFormatted.run(&engine).unwrap();
    follow(&host, &engine);
    (host, engine)
}

/// What the daemon's thread does, until there is nothing left to do.
pub fn follow(host: &SimHost, engine: &Engine<SimHost>) {
    for _ in 0..8 {
        let news = host.disk_news();
        match engine.follow(&news) {
            None if news == DiskNews::Nothing => return,
            again => host.pass(again.unwrap_or_default()),
        }
    }
    panic!("it does not come to rest");
}

/// Hears what there is to be heard; whether it is to be asked again, after a time that passes.
pub fn asked_again(host: &SimHost, engine: &Engine<SimHost>) -> bool {
    let again = engine.follow(&host.disk_news());
    host.pass(again.unwrap_or_default());
    again.is_some()
}

pub fn codes(engine: &Engine<SimHost>) -> Vec<&'static str> {
    let mut all = engine.scan_problems();
    all.extend(engine.vgs().iter().flat_map(|vg| vg.view().problems.clone()));
    let mut codes: Vec<_> = all.into_iter().map(|problem| problem.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The disks on which the pool stands, and one on which it does not.
fn disks(engine: &Engine<SimHost>) -> (Vec<String>, Option<String>) {
    engine.vgs()[0].read(|catalog| {
        let pool = catalog.pools().next().unwrap();
        let on = |pv: &&Pv| pool.data.iter().chain(&pool.metadata).any(|segment| segment.pv == pv.id);
        let with = catalog.pvs().filter(on).map(|pv| pv.path_hint.clone()).collect();
        (with, catalog.pvs().find(|pv| !on(pv)).map(|pv| pv.path_hint.clone()))
    })
}

fn refusal(result: Result<(), EngineError>) -> String {
    match result.unwrap_err() {
        EngineError::Refused(refusal) => refusal.to_string(),
        other => panic!("not refused: {other}"),
    }
}

#[test]
fn a_disk_that_goes_is_told_of_at_once_and_what_stands_on_it_is_refused_until_it_is_back() {
    let (host, engine) = in_use();
    assert_eq!(codes(&engine), Vec::<&str>::new());
    let (with, _) = disks(&engine);
    let disk = with[0].clone();
    host.remove_disk(&disk);
    follow(&host, &engine);
    let view = engine.vgs()[0].view();
    let told = view.problems.iter().find(|problem| problem.code == "pv-missing").unwrap();
    assert!(told.message.contains(&disk) && told.message.contains("pool tank"), "{told:?}");
    assert!(told.hint.contains("attach the disk again"), "{told:?}");
    assert_eq!(view.copies, (2, 3));
    let effects = host.effects();
    let said = refusal(Op::CreateRaw.run(&engine));
    assert!(said.contains("is missing"), "{said}");
    assert_eq!(host.effects(), effects, "nothing is sent to a pool without its disk");
    host.reattach(&disk);
    follow(&host, &engine);
    assert_eq!(codes(&engine), Vec::<&str>::new());
    assert_eq!(engine.vgs()[0].view().copies, (3, 3));
    Op::CreateRaw.run(&engine).unwrap();
    sound(&host, &engine, "after a disk was back");
}

#[test]
fn what_is_counted_goes_on_when_the_group_is_opened_anew_for_a_disk_that_is_back() {
    let (host, engine) = in_use();
    let (disk, old) = (disks(&engine).0[0].clone(), engine.vgs()[0].clone());
    host.remove_disk(&disk);
    follow(&host, &engine);
    Op::Mount.run(&engine).unwrap_err();
    let before = engine.vgs()[0].view().counters;
    assert!(before.commits >= 3, "{before:?}");
    host.reattach(&disk);
    follow(&host, &engine);
    engine.scan(&[], false).unwrap();
    let vg = engine.vgs()[0].clone();
    assert!(!std::sync::Arc::ptr_eq(&old, &vg), "it was opened anew");
    let after = vg.view().counters;
    assert!(after.commits >= before.commits && after.flushes >= before.flushes, "{before:?}, {after:?}");
    assert!(after.written_bytes >= before.written_bytes && after.checkpoints >= before.checkpoints);
    Op::CreateRaw.run(&engine).unwrap();
    engine.refresh();
    assert!(vg.view().counters.commits > before.commits);
}

#[test]
fn a_disk_that_comes_back_under_another_name_and_number_has_the_devices_put_on_it() {
    let (host, engine) = in_use();
    let (with, _) = disks(&engine);
    Op::Mount.run(&engine).unwrap();
    let target = engine.vgs()[0].view().kernel.mounts[0].target.clone();
    host.put_file(&target, "kept", b"yes").unwrap();
    for disk in &with {
        host.remove_disk(disk);
    }
    follow(&host, &engine);
    assert!(host.put_file(&target, "kept", b"no").is_err(), "the kernel's devices stand on what is gone");
    for (disk, new) in with.iter().zip(["/dev/sdx", "/dev/sdy", "/dev/sdz"]) {
        host.reattach_as(disk, new);
    }
    follow(&host, &engine);
    assert!(!codes(&engine).contains(&"pv-missing"), "{:?}", codes(&engine));
    assert!(engine.vgs()[0].view().nodes.iter().any(|(_, node)| node == Path::new("/dev/sdx")));
    // Once nobody uses it the pool is as it was.
    Op::Unmount.run(&engine).unwrap();
    engine.refresh();
    assert_eq!(codes(&engine), Vec::<&str>::new());
    Op::Mount.run(&engine).unwrap();
    assert_eq!(host.read_file(&target, "kept").unwrap(), Some(b"yes".to_vec()));
    Op::CreateRaw.run(&engine).unwrap();
    sound(&host, &engine, "on disks with other names");
}

#[test]
fn a_group_whose_disks_come_one_by_one_is_usable_when_the_last_is_there() {
    let (host, engine) = in_use();
    let before = inventory_with_pvs(&engine);
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.restart();
    let all = ["/dev/sda", "/dev/sdb", "/dev/sdc"];
    all.iter().for_each(|disk| host.remove_disk(disk));
    let engine = start(&host);
    assert!(engine.vgs().is_empty());
    for disk in all {
        host.reattach(disk);
        follow(&host, &engine);
    }
    assert_eq!(inventory_with_pvs(&engine), before);
    assert_eq!(codes(&engine), Vec::<&str>::new());
    Op::CreateRaw.run(&engine).unwrap();
    sound(&host, &engine, "of disks that came one by one");
}

#[test]
fn f4_a_disk_that_was_away_while_others_went_on_is_brought_up_to_date_when_it_is_back() {
    let (host, engine) = with_pool("1G");
    let (_, without) = disks(&engine);
    let disk = without.expect("a disk that the pool does not stand on");
    host.remove_disk(&disk);
    follow(&host, &engine);
    for round in 0..40 {
        engine.create_volume(&volume_request(&format!("v{round}"), None), false).unwrap();
    }
    let newest = inventory_with_pvs(&engine);
    host.reattach_as(&disk, "/dev/sdq");
    follow(&host, &engine);
    assert_eq!(engine.vgs()[0].view().copies, (3, 3));
    assert_eq!(inventory_with_pvs(&engine), newest);
    assert_eq!(codes(&engine), Vec::<&str>::new());
    // It is as good as the others: a majority with it alone.
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.restart();
    let others: Vec<_> = ["/dev/sda", "/dev/sdb", "/dev/sdc"].into_iter().filter(|other| *other != disk).collect();
    host.remove_disk(others[0]);
    let engine = start(&host);
    assert!(inventory(&engine).iter().any(|line| line.contains("v39")), "{:?}", inventory(&engine));
}

#[test]
fn f4_an_old_copy_of_a_disk_that_comes_in_its_place_does_not_win() {
    let (host, engine) = with_pool("1G");
    let (_, without) = disks(&engine);
    let disk = without.expect("a disk that the pool does not stand on");
    let old = host.disk_image(&disk);
    Op::CreateRaw.run(&engine).unwrap();
    engine.settle_owed();
    host.remove_disk(&disk);
    follow(&host, &engine);
    let newest = inventory_with_pvs(&engine);
    host.set_disk_image(&disk, &old);
    host.reattach(&disk);
    follow(&host, &engine);
    assert_eq!(inventory_with_pvs(&engine), newest);
    engine.delete_volume(&name("data"), &volume("raw"), false).unwrap();
    Op::CreateRaw.run(&engine).unwrap();
    sound(&host, &engine, "after an old copy came");
}

#[test]
fn a_group_without_its_majority_takes_no_change_and_goes_on_when_the_disks_are_back() {
    let (host, engine) = in_use();
    let before = inventory_with_pvs(&engine);
    host.remove_disk("/dev/sda");
    host.remove_disk("/dev/sdb");
    follow(&host, &engine);
    assert!(codes(&engine).contains(&"metadata-frozen"), "{:?}", codes(&engine));
    let label: Label = "a=b".parse().unwrap();
    let effects = host.effects();
    let pv = engine.vgs()[0].read(|catalog| catalog.pvs().next().unwrap().id);
    let change = || engine.relabel_pv(&name("data"), pv, (std::slice::from_ref(&label), &[]), false);
    change().unwrap_err();
    assert_eq!(host.effects(), effects);
    host.reattach("/dev/sdb");
    follow(&host, &engine);
    assert!(!codes(&engine).contains(&"metadata-frozen"), "{:?}", codes(&engine));
    change().unwrap();
    host.reattach("/dev/sda");
    follow(&host, &engine);
    assert_eq!(codes(&engine), Vec::<&str>::new());
    assert_eq!(inventory_with_pvs(&engine).len(), before.len());
    Op::CreateRaw.run(&engine).unwrap();
    sound(&host, &engine, "with its majority again");
}

#[test]
fn f5_a_copy_of_a_disk_that_is_plugged_in_is_told_of_and_not_used() {
    let (host, engine) = in_use();
    host.clone_disk("/dev/sda", "/dev/sdz", "another serial number");
    let used = engine.vgs()[0].view().nodes.clone();
    follow(&host, &engine);
    assert_eq!(codes(&engine), ["pv-twice"]);
    assert_eq!(engine.vgs()[0].view().nodes, used);
    Op::CreateRaw.run(&engine).unwrap();
    host.forget_disk("/dev/sdz");
    follow(&host, &engine);
    assert_eq!(codes(&engine), Vec::<&str>::new(), "what was told of it is over");
}

#[test]
fn a_disk_in_use_that_cannot_be_read_when_another_comes_back_is_not_taken_for_missing() {
    let (host, engine) = in_use();
    host.remove_disk("/dev/sda");
    follow(&host, &engine);
    assert_eq!(engine.vgs()[0].view().copies, (2, 3));
    host.fail_reads("/dev/sdb", Some(ReadFault::Error));
    host.reattach("/dev/sda");
    for _ in 0..4 {
        assert!(asked_again(&host, &engine), "it is to be asked again");
        let view = engine.vgs()[0].view();
        assert_eq!((view.copies, view.missing.len()), ((2, 3), 1), "{:?}", codes(&engine));
        assert!(!codes(&engine).contains(&"metadata-frozen"), "{:?}", codes(&engine));
    }
    host.fail_reads("/dev/sdb", None);
    follow(&host, &engine);
    assert_eq!(codes(&engine), Vec::<&str>::new());
    assert_eq!(engine.vgs()[0].view().copies, (3, 3));
    Op::CreateRaw.run(&engine).unwrap();
    sound(&host, &engine, "after a disk could not be read for a while");
}

#[test]
fn a_disk_in_use_that_stays_unreadable_does_not_keep_others_out_for_ever() {
    let (host, engine) = in_use();
    host.remove_disk("/dev/sda");
    follow(&host, &engine);
    host.fail_reads("/dev/sdb", Some(ReadFault::Error));
    host.reattach("/dev/sda");
    let tries = (0..100).position(|_| !asked_again(&host, &engine));
    assert!(tries.is_some_and(|tries| tries > 4), "{tries:?}");
    let view = engine.vgs()[0].view();
    let nodes: Vec<_> = view.nodes.iter().map(|(_, node)| node.as_path()).collect();
    assert!(nodes.contains(&Path::new("/dev/sda")), "{nodes:?}");
}

#[test]
fn a_disk_that_took_the_name_of_another_is_not_taken_for_it() {
    let (host, engine) = in_use();
    let before = engine.vgs()[0].view().nodes.len();
    host.forget_disk("/dev/sda");
    host.add_disk(SimDisk::new("/dev/sda", Bytes::gib(4)));
    follow(&host, &engine);
    assert!(codes(&engine).contains(&"pv-missing"));
    assert_eq!(engine.vgs()[0].view().nodes.len(), before - 1);
    let written = host.counters().bytes_written.get(Path::new("/dev/sda")).copied();
    let _ = Op::CreateRaw.run(&engine);
    engine.refresh();
    assert_eq!(host.counters().bytes_written.get(Path::new("/dev/sda")).copied(), written, "nothing is written to it");
}

#[test]
fn what_nobody_was_told_of_is_found_by_looking_and_what_is_lost_is_looked_for() {
    let (host, engine) = in_use();
    host.remove_disk("/dev/sda");
    let _ = host.disk_news();
    engine.refresh();
    assert!(codes(&engine).contains(&"pv-missing"), "the timer looks at the disks in use");
    host.reattach("/dev/sda");
    let _ = host.disk_news();
    assert_eq!(engine.follow(&DiskNews::Nothing), None);
    assert_eq!(codes(&engine), Vec::<&str>::new());
    // The listener's buffer was full.
    host.remove_disk("/dev/sdb");
    host.lose_disk_news();
    follow(&host, &engine);
    assert!(codes(&engine).contains(&"pv-missing"));
    host.reattach("/dev/sdb");
    host.lose_disk_news();
    follow(&host, &engine);
    assert_eq!(codes(&engine), Vec::<&str>::new());
    sound(&host, &engine, "without being told");
}

#[test]
fn looking_again_costs_no_io_and_changes_nothing() {
    let (host, engine) = in_use();
    host.reset_counters();
    let (effects, vg) = (host.effects(), engine.vgs()[0].clone());
    for _ in 0..10 {
        assert_eq!(engine.follow(&DiskNews::Nothing), None);
    }
    // udev tells of a disk whenever somebody who could have written to it closes it.
    let all = ["/dev/sda", "/dev/sdb", "/dev/sdc"].map(Into::into);
    assert_eq!(engine.follow(&DiskNews::Of(all.into())), None);
    let counters = host.counters();
    assert_eq!((counters.reads, counters.opens, counters.ioctls), (0, 0, 0));
    assert_eq!(host.effects(), effects);
    assert!(std::sync::Arc::ptr_eq(&vg, &engine.vgs()[0]), "the group was opened anew for nothing");
}

#[test]
fn a_disk_that_is_back_and_of_no_use_is_tried_once() {
    let (host, engine) = in_use();
    host.remove_disk("/dev/sda");
    follow(&host, &engine);
    host.resize_disk("/dev/sda", Bytes::gib(3));
    host.reattach("/dev/sda");
    follow(&host, &engine);
    assert!(codes(&engine).contains(&"pv-missing") && codes(&engine).contains(&"metadata"), "{:?}", codes(&engine));
    let vg = engine.vgs()[0].clone();
    for _ in 0..3 {
        assert_eq!(engine.follow(&DiskNews::Of(["/dev/sda".into()].into())), None);
    }
    assert!(std::sync::Arc::ptr_eq(&vg, &engine.vgs()[0]), "the group is opened anew again and again");
}

#[test]
fn killed_at_any_effect_of_taking_a_disk_up_again_the_next_start_has_it_all() {
    let story = |host: &SimHost, engine: &Engine<SimHost>| {
        let (with, _) = disks(engine);
        Op::Mount.run(engine).unwrap();
        host.remove_disk(&with[0]);
        follow(host, engine);
        host.reattach_as(&with[0], "/dev/sdx");
    };
    let (probe, engine) = in_use();
    story(&probe, &engine);
    let first = probe.effects() + 1;
    follow(&probe, &engine);
    let last = probe.effects();
    assert!(last > first, "nothing is done when a disk is back");
    for number in first..=last {
        for fault in [Fault::KillDaemonBefore, Fault::KillDaemonAfter, Fault::PowerCutAfter] {
            let (host, engine) = in_use();
            story(&host, &engine);
            host.fail_effect(number, fault);
            for _ in 0..3 {
                engine.follow(&host.disk_news());
            }
            drop(engine);
            host.clear_faults();
            host.restart();
            let engine = start(&host);
            let what = format!("{fault:?} at {number}");
            assert!(!codes(&engine).contains(&"pv-missing"), "{what}: {:?}", codes(&engine));
            if let Some(mount) = engine.vgs()[0].view().kernel.mounts.first() {
                engine.unmount(&name("data"), &volume("pg"), Some(&mount.target), false).unwrap();
            }
            engine.refresh();
            assert_eq!(codes(&engine), Vec::<&str>::new(), "{what}");
            Op::CreateRaw.run(&engine).unwrap_or_else(|error| panic!("{what}: {error}"));
            sound(&host, &engine, &what);
        }
    }
}

#[test]
fn a_change_under_way_does_not_keep_readers_from_seeing_that_a_disk_is_gone() {
    let (host, engine) = in_use();
    let hold = host.hold(vol_sim::EffectKind::DmMessage, "");
    std::thread::scope(|scope| {
        let change = scope.spawn(|| Op::CreateRaw.run(&engine));
        hold.until(1);
        host.remove_disk("/dev/sda");
        assert!(asked_again(&host, &engine), "the group is busy: it is to be asked again");
        assert!(codes(&engine).contains(&"pv-missing"), "{:?}", codes(&engine));
        drop(hold);
        let _ = change.join().unwrap();
    });
    assert_eq!(engine.follow(&DiskNews::Nothing), None);
    assert_eq!(engine.vgs()[0].view().copies.0, 2);
    host.reattach("/dev/sda");
    follow(&host, &engine);
    assert!(!codes(&engine).contains(&"pv-missing"), "{:?}", codes(&engine));
    sound_or_waiting(&host, &engine, "lost in the middle of a change");
}

#[test]
fn a_volume_that_is_wiped_is_made_to_its_end_when_another_disk_of_its_group_comes_back() {
    for by_scan in [false, true] {
        let (host, engine) = with_pool("1G");
        let disk = disks(&engine).1.expect("a disk that the pool does not stand on");
        let name_of = |pv: &Pv| vol_engine::PvName::Path(pv.path_hint.clone().into());
        let others =
            engine.vgs()[0].read(|catalog| catalog.pvs().filter(|pv| pv.path_hint != disk).map(name_of).collect());
        let place = vol_engine::PlaceOn { on: others, ..vol_engine::PlaceOn::default() };
        let request = vol_engine::CreateThick { place, ..thick_request("log", 1) };
        host.remove_disk(&disk);
        follow(&host, &engine);
        let hold = host.hold(vol_sim::EffectKind::WipeSlice, "");
        std::thread::scope(|scope| {
            let wipe = scope.spawn(|| engine.create_thick(&request, false));
            hold.until(1);
            host.reattach(&disk);
            if by_scan {
                engine.scan(&[], false).unwrap();
                assert_eq!(codes(&engine), ["pv-missing", "vg-busy"]);
            }
            for _ in 0..3 {
                assert!(asked_again(&host, &engine), "it is to be asked again");
            }
            drop(hold);
            wipe.join().unwrap().unwrap_or_else(|error| panic!("by_scan {by_scan}: {error}"));
        });
        follow(&host, &engine);
        assert_eq!(codes(&engine), Vec::<&str>::new());
        assert_eq!(engine.vgs()[0].view().copies, (3, 3));
        sound(&host, &engine, "after a wipe in whose middle a disk came back");
    }
}
