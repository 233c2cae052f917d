//! Histories that were suspected of losing what was acknowledged.

use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_engine::{Engine, ReduceVg};
use vol_format::layout::{self, PvKind};
use vol_sim::{CrashMode, Damage, Fault, SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

/// So many empty disks of 1 GiB: a log on them has room for 256 records.
fn disks(count: u8) -> (SimHost, Vec<String>) {
    let host = SimHost::new(23);
    host.keep_trace(false);
    let nodes: Vec<_> = (0..count).map(|n| format!("/dev/sd{}", char::from(b'a' + n))).collect();
    for node in &nodes {
        host.add_disk(SimDisk::new(node.as_str(), Bytes::gib(1)));
    }
    (host, nodes)
}

/// A VG on so many disks, so many of which carry a copy.
fn group(count: u8, copies: u16) -> (SimHost, Engine<SimHost>) {
    let (host, nodes) = disks(count);
    let engine = start(&host);
    let nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
    let request = vol_engine::CreateVg { metadata_copies: copies, ..vg_request(&nodes) };
    engine.create_vg(&request, false).unwrap();
    (host, engine)
}

/// One commit, of which `at` can be read back.
fn mark(host: &SimHost, engine: &Engine<SimHost>, at: i64) -> Result<(), vol_engine::EngineError> {
    let vg = engine.vgs()[0].clone();
    let changed = vg.change(host, false, |catalog, _, _| {
        let mut plan = vol_core::Plan::new("a commit");
        let vg = Vg { created_at: at.try_into().unwrap(), ..catalog.vg().clone() };
        plan.push(vol_core::Action::Commit { changes: vec![Change::Put(Object::Vg(vg))] });
        Ok((plan, ()))
    });
    changed.map(drop)
}

fn marked(engine: &Engine<SimHost>) -> i64 {
    engine.vgs()[0].read(|catalog| i64::try_from(catalog.vg().created_at).unwrap())
}

fn reboot(host: &SimHost) -> Engine<SimHost> {
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.restart();
    start(host)
}

/// Boots with these disks of the ones there are, and no others.
fn boot_with(host: &SimHost, all: &[String], there: &[String]) -> Engine<SimHost> {
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.restart();
    let attached = host.block_devices().unwrap();
    for disk in all {
        match (attached.contains(&disk.into()), there.contains(disk)) {
            (false, true) => host.reattach(disk),
            (true, false) => host.remove_disk(disk),
            _ => {}
        }
    }
    start(host)
}

fn copies(engine: &Engine<SimHost>) -> (usize, usize) {
    engine.vgs()[0].view().copies
}

fn problems(engine: &Engine<SimHost>) -> String {
    let view = engine.vgs()[0].view();
    view.problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
}

fn checkpoints(engine: &Engine<SimHost>) -> u64 {
    engine.refresh();
    engine.vgs()[0].view().counters.checkpoints
}

/// The disks of the PVs that carry a copy, and of those that carry none.
fn carriers(engine: &Engine<SimHost>) -> (Vec<String>, Vec<String>) {
    engine.vgs()[0].read(|catalog| {
        let of = |metadata| catalog.pvs().filter(|pv| pv.metadata == metadata).map(|pv| pv.path_hint.clone()).collect();
        (of(true), of(false))
    })
}

fn refs(disks: &[String]) -> Vec<&str> {
    disks.iter().map(String::as_str).collect()
}

#[test]
fn a_copy_that_came_back_and_went_again_without_a_commit_in_between_is_proven_old() {
    let (host, engine) = group(3, 3);
    drop(engine);
    host.remove_disk("/dev/sdc");
    let engine = reboot(&host);
    (0..5).for_each(|n| mark(&host, &engine, n).unwrap());
    drop(engine);
    host.reattach("/dev/sdc");
    let engine = reboot(&host);
    assert_eq!(copies(&engine), (3, 3));
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.remove_disk("/dev/sdc");
    let engine = reboot(&host);
    for round in 0..5 {
        (0..150).for_each(|n| mark(&host, &engine, round * 1000 + n).unwrap());
        engine.vgs()[0].maintain(&host);
    }
    drop(engine);
    host.reattach("/dev/sdc");
    let engine = reboot(&host);
    assert_eq!((copies(&engine), problems(&engine)), ((3, 3), String::new()));
}

#[test]
fn a_copy_that_fails_in_the_checkpoint_of_a_commit_that_found_no_room_is_remembered() {
    let (host, engine) = group(3, 3);
    let mut fits = 0;
    while checkpoints(&engine) == 0 {
        mark(&host, &engine, fits).unwrap();
        fits += 1;
        assert!(fits < 1000);
    }
    let (host, engine) = group(3, 3);
    (0..fits - 1).for_each(|n| mark(&host, &engine, n).unwrap());
    assert_eq!(checkpoints(&engine), 0);
    host.fail_device("/dev/sdc", Fault::Error(HostErrorKind::Io));
    (0..10).for_each(|n| mark(&host, &engine, n).unwrap());
    assert_eq!((checkpoints(&engine), copies(&engine)), (1, (2, 3)));
    let left = engine.vgs()[0].read(|catalog| catalog.pvs().map(|pv| pv.left.len()).sum::<usize>());
    assert!(left > 0, "where the copy was left is on the disks");
    (0..700).for_each(|n| mark(&host, &engine, n).unwrap());
    drop(engine);
    let engine = reboot(&host);
    assert_eq!((copies(&engine), problems(&engine)), ((3, 3), String::new()));
}

#[test]
fn a_copy_that_was_admitted_in_vain_and_again_later_holds_what_is_acknowledged() {
    let (host, engine) = group(4, 2);
    let (old, new) = carriers(&engine);
    // The second heir's disk fails: nothing comes of the reduction, and the first heir has a copy already.
    host.fail_device(&new[1], Fault::Error(HostErrorKind::Io));
    engine.reduce_vg(&reduce_request(&refs(&old)), false).unwrap_err();
    host.clear_faults();
    (0..140).for_each(|n| mark(&host, &engine, n).unwrap());
    let vg = engine.vgs()[0].clone();
    let job = vg.checkpoint_job().unwrap();
    job.lock().unwrap().advance(&host).unwrap();
    engine.reduce_vg(&reduce_request(&refs(&old)), false).unwrap();
    while !job.lock().unwrap().is_done() {
        job.lock().unwrap().advance(&host).unwrap();
    }
    vg.maintain(&host);
    (0..20).for_each(|n| mark(&host, &engine, 500 + n).unwrap());
    assert_eq!((copies(&engine), problems(&engine)), ((2, 2), String::new()));
    drop((vg, engine, job));
    // Each by itself knows it all.
    for gone in &new {
        let host = host.fork();
        host.remove_disk(gone);
        assert_eq!(marked(&reboot(&host)), 519, "without {gone}");
    }
}

#[test]
fn a_change_of_members_that_only_one_side_has_does_not_make_two_groups() {
    // The record of the change gets to one of the old members, and to the new one: it is not acknowledged.
    for (leaves, has) in [(2, 0), (2, 1), (0, 1), (0, 2)] {
        let (host, engine) = group(4, 3);
        let all: Vec<_> = (b'a'..b'e').map(|c| format!("/dev/sd{}", char::from(c))).collect();
        let (old, new) = carriers(&engine);
        let others: Vec<_> = old.iter().filter(|one| **one != old[has]).cloned().collect();
        others.iter().for_each(|disk| host.fail_device(disk, Fault::Error(HostErrorKind::Io)));
        engine.reduce_vg(&reduce_request(&[&old[leaves]]), false).unwrap_err();
        drop(engine);
        let whole = host.fork();
        let engine = boot_with(&whole, &all, &all);
        mark(&whole, &engine, 99).unwrap();
        assert_eq!(copies(&engine), (3, 3), "it was found, and carried to all");
        // Those that did not hear of it are a majority of those who were asked, and go on.
        let engine = boot_with(&host, &all, &others);
        mark(&host, &engine, 77).unwrap();
        drop(engine);
        let engine = boot_with(&host, &all, &[old[has].clone(), new[0].clone()]);
        mark(&host, &engine, 88).unwrap_err();
        drop(engine);
        let engine = boot_with(&host, &all, &all);
        assert_eq!(marked(&engine), 77);
    }
}

#[test]
fn a_copy_that_is_moved_from_one_disk_to_another_does_not_make_two_groups() {
    let (host, engine) = group(2, 1);
    let all = vec!["/dev/sda".to_owned(), "/dev/sdb".to_owned()];
    let (old, new) = carriers(&engine);
    let effects = host.effects();
    let trial = host.fork();
    start(&trial).reduce_vg(&reduce_request(&refs(&old)), false).unwrap();
    drop(engine);
    for number in effects + 1..=trial.effects() {
        let host = host.fork();
        let engine = start(&host);
        host.fail_effect(number, Fault::PowerCutBefore);
        let done = engine.reduce_vg(&reduce_request(&refs(&old)), false).is_ok();
        drop(engine);
        host.settle(CrashMode::KeepAll);
        host.restart();
        let whole = host.fork();
        let engine = boot_with(&whole, &all, &all);
        mark(&whole, &engine, 99).unwrap_or_else(|error| panic!("cut at {number}: wedged with all disks: {error}"));
        drop(engine);
        let mut took = Vec::new();
        for there in [&old, &new] {
            let engine = boot_with(&host, &all, there);
            if !engine.vgs().is_empty() && mark(&host, &engine, 77).is_ok() {
                took.push(there);
            }
        }
        assert!(took.len() < 2, "cut at {number}: {took:?} take changes without each other");
        assert!(!done || took == [&new], "done, and {took:?}");
    }
    // The record gets to the new one only.
    let engine = start(&host);
    host.fail_device(&old[0], Fault::Error(HostErrorKind::Io));
    engine.reduce_vg(&reduce_request(&refs(&old)), false).unwrap_err();
    drop(engine);
    let engine = boot_with(&host, &all, &old);
    mark(&host, &engine, 77).unwrap();
    drop(engine);
    let engine = boot_with(&host, &all, &new);
    mark(&host, &engine, 88).unwrap_err();
}

#[test]
fn commits_of_a_majority_that_was_declared_lost_are_not_dropped_in_silence() {
    let (host, engine) = group(3, 3);
    let all: Vec<_> = (b'a'..b'd').map(|c| format!("/dev/sd{}", char::from(c))).collect();
    engine.create_pool(&pool_request(), false).unwrap();
    drop(engine);
    let data = name("data");
    // The pool is given up on one disk, because the others will never come back. They do, without it, and go on.
    let engine = boot_with(&host, &all, &all[..1]);
    engine.delete_lost_pool(&data, &name("tank"), true, false).unwrap();
    drop(engine);
    let engine = boot_with(&host, &all, &all[1..]);
    mark(&host, &engine, 77).unwrap();
    drop(engine);
    let engine = boot_with(&host, &all, &all);
    assert!(marked(&engine) == 77 || problems(&engine).contains("different histories"), "{}", problems(&engine));
}

#[test]
fn the_only_copy_with_a_damaged_checkpoint_does_not_show_the_past_as_the_present() {
    let (host, engine) = group(1, 1);
    let mut fits = 0;
    while checkpoints(&engine) < 3 {
        mark(&host, &engine, fits).unwrap();
        fits += 1;
    }
    // With some of the log before the newest checkpoint written over, and with all of it; its header, and its payload.
    for (count, block) in [(fits - 200, 0), (fits - 200, 1), (fits - 1, 0), (fits - 1, 1)] {
        let (host, engine) = group(1, 1);
        (0..count).for_each(|n| mark(&host, &engine, n).unwrap());
        drop(engine);
        host.crash(CrashMode::LoseAll);
        let geometry = layout::geometry(Bytes::gib(1), PvKind::WholeDisk, limit::EXTENT_SIZE_DEFAULT).unwrap();
        // The first checkpoint of all went to slot 0, so the second of these two is there.
        host.damage("/dev/sda", geometry.checkpoint_offsets[0] + block * 4096, 4096, Damage::Junk);
        let engine = reboot(&host);
        if engine.vgs().is_empty() {
            continue;
        }
        let shown = marked(&engine);
        let goes_on = mark(&host, &engine, 1).is_ok();
        assert!(shown == count - 1 || !goes_on, "shows {shown} and goes on: {}", problems(&engine));
    }
}

#[test]
fn a_missing_majority_is_taken_out_and_no_power_cut_in_between_wedges_what_is_left() {
    let (host, engine) = group(3, 3);
    let all: Vec<_> = (b'a'..b'd').map(|c| format!("/dev/sd{}", char::from(c))).collect();
    drop(engine);
    let request = ReduceVg { missing: true, force: true, ..reduce_request(&[]) };
    drop(boot_with(&host, &all, &all[..1]));
    let effects = host.effects();
    let trial = host.fork();
    start(&trial).reduce_vg(&request, false).unwrap();
    for number in effects + 1..=trial.effects() {
        let host = host.fork();
        let engine = start(&host);
        host.fail_effect(number, Fault::PowerCutBefore);
        let _cut = engine.reduce_vg(&request, false);
        drop(engine);
        host.settle(CrashMode::KeepAll);
        host.restart();
        let engine = reboot(&host);
        engine.reduce_vg(&request, false).unwrap_or_else(|error| panic!("cut at {number}: {error}"));
        mark(&host, &engine, 5).unwrap_or_else(|error| panic!("cut at {number}: {error}"));
        assert_eq!(copies(&engine), (1, 1));
        let engine = reboot(&host);
        mark(&host, &engine, 6).unwrap_or_else(|error| panic!("after a cut at {number}: {error}"));
    }
}

#[test]
fn a_copy_with_a_hole_in_its_log_does_not_vote_for_one_that_missed_what_was_behind_the_hole() {
    let (host, engine) = group(3, 3);
    let all: Vec<_> = (b'a'..b'd').map(|c| format!("/dev/sd{}", char::from(c))).collect();
    (0..5).for_each(|n| mark(&host, &engine, n).unwrap());
    host.fail_device("/dev/sdb", Fault::Error(HostErrorKind::Io));
    (5..9).for_each(|n| mark(&host, &engine, n).unwrap());
    drop(engine);
    host.crash(CrashMode::LoseAll);
    // The record after the first checkpoint, which says Ready, and the first five are 2 to 7.
    host.damage("/dev/sda", 2 * Bytes::MIB + 3 * 4096, 4096, Damage::Junk);
    let engine = boot_with(&host, &all, &all[..2]);
    assert!(mark(&host, &engine, 77).is_err(), "shows {} and goes on: {}", marked(&engine), problems(&engine));
    drop(engine);
    let engine = boot_with(&host, &all, &all);
    assert_eq!((marked(&engine), copies(&engine)), (8, (3, 3)), "{}", problems(&engine));
    mark(&host, &engine, 78).unwrap();
}

#[test]
fn a_copy_that_was_being_moved_from_a_disk_that_died_is_gone_on_with_at_an_operators_word() {
    let (host, engine) = group(2, 1);
    let all = vec!["/dev/sda".to_owned(), "/dev/sdb".to_owned()];
    let (old, new) = carriers(&engine);
    mark(&host, &engine, 5).unwrap();
    host.fail_device(&old[0], Fault::Error(HostErrorKind::Io));
    engine.reduce_vg(&reduce_request(&refs(&old)), false).unwrap_err();
    drop(engine);
    let engine = boot_with(&host, &all, &new);
    assert!(problems(&engine).contains("vg reduce data --missing --force"), "{}", problems(&engine));
    mark(&host, &engine, 6).unwrap_err();
    let request = ReduceVg { missing: true, force: true, ..reduce_request(&[]) };
    engine.reduce_vg(&request, false).unwrap();
    mark(&host, &engine, 7).unwrap();
    assert_eq!(copies(&engine), (1, 1));
    drop(engine);
    let engine = boot_with(&host, &all, &all);
    assert_eq!((marked(&engine), copies(&engine)), (7, (1, 1)), "{}", problems(&engine));
    mark(&host, &engine, 8).unwrap();
}

#[test]
fn two_members_more_at_once_do_not_make_two_groups() {
    let (host, engine) = group(1, 3);
    host.add_disk(SimDisk::new("/dev/sdb", Bytes::gib(1)));
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(1)));
    let all: Vec<_> = (b'a'..b'd').map(|c| format!("/dev/sd{}", char::from(c))).collect();
    host.fail_device("/dev/sda", Fault::Error(HostErrorKind::Io));
    engine.extend_vg(&extend_request(&["/dev/sdb", "/dev/sdc"]), false).unwrap_err();
    drop(engine);
    let engine = boot_with(&host, &all, &all[..1]);
    mark(&host, &engine, 77).unwrap();
    drop(engine);
    let engine = boot_with(&host, &all, &all[1..]);
    mark(&host, &engine, 88).unwrap_err();
    drop(engine);
    let engine = boot_with(&host, &all, &all);
    assert!(marked(&engine) == 77 || problems(&engine).contains("different histories"), "{}", problems(&engine));
}

#[test]
fn no_disk_is_read_or_written_anew_while_a_checkpoint_of_before_is_written_to_it() {
    let (host, engine) = group(3, 3);
    drop(engine);
    host.remove_disk("/dev/sdc");
    let engine = reboot(&host);
    (0..140).for_each(|n| mark(&host, &engine, n).unwrap());
    let job = engine.vgs()[0].checkpoint_job().unwrap();
    job.lock().unwrap().advance(&host).unwrap();
    host.reattach("/dev/sdc");
    host.keep_trace(true);
    std::thread::scope(|scope| {
        // In the middle of a step.
        let step = job.lock().unwrap();
        let effects = host.effects();
        let scan = scope.spawn(|| engine.scan(&[], false).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!scan.is_finished());
        let meanwhile = host.effect_log().into_iter().filter(|one| one.number > effects).collect::<Vec<_>>();
        drop(step);
        scan.join().unwrap();
        assert!(meanwhile.iter().all(|one| format!("{one:?}").contains("Flush")), "{meanwhile:?}");
    });
    assert!(job.lock().unwrap().is_done(), "it is given up");
    assert_eq!((copies(&engine), problems(&engine)), ((3, 3), String::new()));
}

/// A small generator (xorshift64*), so that a failure names its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

#[test]
fn whatever_disks_come_and_go_a_group_that_takes_changes_shows_the_last_one_that_was_acknowledged() {
    let seeds = std::env::var("REVIEW_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let mut took = 0;
    for seed in 1..=seeds {
        let mut dice = Dice(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let wanted = 1 + dice.below(4);
        let (host, engine) = group(5, u16::try_from(wanted).unwrap());
        let all: Vec<_> = (b'a'..b'f').map(|c| format!("/dev/sd{}", char::from(c))).collect();
        let mut engine = engine;
        // What was acknowledged last, and what was tried since: any of these may be shown.
        let mut may_be = vec![marked(&engine)];
        let mut story = Vec::new();
        let mut next = 0;
        for _ in 0..40 {
            if engine.vgs().is_empty() || dice.below(3) == 0 {
                drop(engine);
                let there: Vec<_> = all.iter().filter(|_| dice.below(10) < 7).cloned().collect();
                story.push(format!("boot with {there:?}"));
                engine = boot_with(&host, &all, &there);
                continue;
            }
            let failing: Vec<_> = all.iter().filter(|_| dice.below(6) == 0).collect();
            failing.iter().for_each(|disk| host.fail_device(disk, Fault::Error(HostErrorKind::Io)));
            if !failing.is_empty() {
                story.push(format!("{failing:?} fail"));
            }
            if dice.below(3) == 0 {
                let (members, others) = carriers(&engine);
                let pvs: Vec<_> = members.iter().chain(&others).collect();
                let leaving = dice.below(pvs.len() as u64) as usize;
                let result = if pvs.len() > 2 {
                    engine.reduce_vg(&reduce_request(&[pvs[leaving]]), false).map(drop)
                } else {
                    Ok(())
                };
                story.push(format!("{members:?} {others:?} reduce by {}: {:?}", pvs[leaving], result.is_ok()));
                let free = all.iter().find(|disk| !pvs.contains(disk));
                if let Some(free) = free {
                    let _wiped = engine.wipe_pv(std::path::Path::new(free), false, false);
                    let result = engine.extend_vg(&extend_request(&[free]), false);
                    story.push(format!("extend by {free}: {:?}", result.is_ok()));
                }
                continue;
            }
            next += 1;
            let before = marked(&engine);
            match mark(&host, &engine, next) {
                Ok(()) => {
                    story.push(format!("mark {next}"));
                    assert!(may_be.contains(&before), "seed {seed}: {before} is none of {may_be:?}: {story:#?}");
                    may_be = vec![next];
                    took += 1;
                }
                Err(error) => {
                    story.push(format!("mark {next}: {error}"));
                    may_be.push(next);
                }
            }
        }
    }
    assert!(took > seeds, "{took} marks");
}
