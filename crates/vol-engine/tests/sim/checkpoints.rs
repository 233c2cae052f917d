//! Checkpoints beside commits, and copies that are left behind and come back.

use vol_engine::host::HostErrorKind;
use vol_engine::{CreateVolume, Engine};
use vol_sim::{CrashMode, Damage, Fault, SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

/// A VG whose logs have room for 256 records, on so many disks.
fn small(disks: usize) -> (SimHost, Engine<SimHost>) {
    let host = SimHost::new(11);
    host.keep_trace(false);
    let nodes: Vec<_> = (0..disks).map(|n| format!("/dev/sd{}", char::from(b'a' + u8::try_from(n).unwrap()))).collect();
    for node in &nodes {
        host.add_disk(SimDisk::new(node.as_str(), Bytes::gib(1)));
    }
    let engine = start(&host);
    let nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
    engine.create_vg(&vg_request(&nodes), false).unwrap();
    engine.create_pool(&pool_request(), false).unwrap();
    (host, engine)
}

fn create(engine: &Engine<SimHost>, name: &str) -> Result<(), vol_engine::EngineError> {
    let request = CreateVolume { size: Bytes::mib(1), ..volume_request(name, None) };
    engine.create_volume(&request, false).map(drop)
}

/// So many commits and two more.
fn commits(engine: &Engine<SimHost>, count: usize) {
    create(engine, "churn").unwrap();
    for _ in 0..count / 2 {
        engine.delete_volume(&name("data"), &volume("churn"), false).unwrap();
        create(engine, "churn").unwrap();
    }
    engine.delete_volume(&name("data"), &volume("churn"), false).unwrap();
}

/// A commit that needs no pool.
fn plain_commit(host: &SimHost, engine: &Engine<SimHost>, percent: u32) {
    let vg = engine.vgs()[0].clone();
    vg.change(host, false, |catalog, _, _| {
        let mut plan = vol_core::Plan::new("a commit");
        let pool = Pool { overcommit_percent: percent, ..catalog.pools().next().unwrap().clone() };
        plan.push(vol_core::Action::Commit { changes: vec![Change::Put(Object::Pool(pool))] });
        Ok((plan, ()))
    })
    .unwrap();
}

fn reboot(host: &SimHost) -> Engine<SimHost> {
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.restart();
    start(host)
}

fn checkpoints(engine: &Engine<SimHost>) -> u64 {
    engine.refresh();
    engine.vgs()[0].view().counters.checkpoints
}

fn copies(engine: &Engine<SimHost>) -> (usize, usize) {
    engine.vgs()[0].view().copies
}

fn problems(engine: &Engine<SimHost>) -> String {
    let view = engine.vgs()[0].view();
    view.problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_commit_writes_no_checkpoint_until_its_log_is_full() {
    let (host, engine) = small(2);
    host.reset_counters();
    commits(&engine, 200);
    assert_eq!(checkpoints(&engine), 0);
    assert!(engine.vgs()[0].maintain(&host), "one is wanted");
    assert_eq!(checkpoints(&engine), 1);
    assert!(!engine.vgs()[0].maintain(&host), "and done");
    commits(&engine, 300);
    assert_eq!(checkpoints(&engine), 2, "a commit that found no room wrote one itself");
    assert_eq!(inventory(&reboot(&host)), ["pool tank Ready", "vg data Ready"]);
}

#[test]
fn commits_go_on_between_any_two_steps_of_a_checkpoint_and_survive_a_power_cut_there() {
    let (host, engine) = small(3);
    commits(&engine, 140);
    let vg = engine.vgs()[0].clone();
    let job = vg.checkpoint_job().unwrap();
    let mut step = 0;
    loop {
        let crashed = host.fork();
        crashed.crash(CrashMode::Random);
        crashed.restart();
        let again = start(&crashed);
        assert_eq!(inventory(&again), inventory(&engine), "power cut before step {step}");
        sound(&crashed, &again, "checkpoint cut short");
        if job.lock().unwrap().is_done() {
            break;
        }
        job.lock().unwrap().advance(&host).unwrap();
        step += 1;
        create(&engine, &format!("during{step}")).unwrap();
    }
    assert!(step >= 5, "{step} steps");
    vg.maintain(&host);
    assert_eq!(checkpoints(&engine), 1);
    let after = host.fork();
    after.crash(CrashMode::LoseAll);
    after.restart();
    assert_eq!(inventory(&start(&after)), inventory(&engine));
    // And once more round the log, over what the checkpoint made free.
    commits(&engine, 250);
    assert_eq!(inventory(&reboot(&host)), inventory(&engine));
}

#[test]
fn a_copy_that_fails_during_a_checkpoint_is_left_out_and_the_others_go_on() {
    let (host, engine) = small(3);
    commits(&engine, 140);
    host.fail_device("/dev/sdb", Fault::Error(HostErrorKind::Io));
    engine.vgs()[0].maintain(&host);
    assert_eq!(checkpoints(&engine), 1);
    assert_eq!(copies(&engine), (2, 3));
    plain_commit(&host, &engine, 700);
    let expected = inventory(&engine);
    drop(engine);
    let engine = reboot(&host);
    assert_eq!((inventory(&engine), copies(&engine)), (expected, (3, 3)));
    assert_eq!(problems(&engine), "");
}

#[test]
fn f4_a_copy_that_was_away_for_hundreds_of_commits_is_known_again_and_brought_up_to_date() {
    // Absent at a start, or failed while the daemon ran: wherever it was left, it is proven old.
    for failed in [false, true] {
        let (host, engine) = small(3);
        create(&engine, "early").unwrap();
        if failed {
            host.fail_device("/dev/sdc", Fault::Error(HostErrorKind::Io));
            create(&engine, "meanwhile").unwrap();
        }
        engine.settle_owed();
        drop(engine);
        host.clear_faults();
        host.crash(CrashMode::LoseAll);
        host.remove_disk("/dev/sdc");
        host.restart();
        let engine = start(&host);
        assert_eq!(copies(&engine), (2, 3));
        for _ in 0..5 {
            (0..150).for_each(|n| plain_commit(&host, &engine, 1000 + n));
            engine.vgs()[0].maintain(&host);
        }
        let engine = reboot(&host);
        assert_eq!(copies(&engine), (2, 3), "another start in between");
        drop(engine);
        host.reattach("/dev/sdc");
        let engine = reboot(&host);
        assert_eq!((copies(&engine), problems(&engine)), ((3, 3), String::new()), "failed: {failed}");
        let left = engine.vgs()[0].read(|catalog| catalog.pvs().map(|pv| pv.left.len()).sum::<usize>());
        // Where it was left; and, if that was committed before, the head at a start without it.
        assert_eq!(left, 2 + usize::from(failed), "said until the next commit");
        create(&engine, "late").unwrap();
        engine.settle_owed();
        let left = engine.vgs()[0].read(|catalog| catalog.pvs().map(|pv| pv.left.len()).sum::<usize>());
        assert_eq!(left, 0);
        // Each of the three tells the whole story by itself.
        let expected = inventory(&engine);
        for gone in [["/dev/sda", "/dev/sdb"], ["/dev/sda", "/dev/sdc"], ["/dev/sdb", "/dev/sdc"]] {
            let host = host.fork();
            gone.iter().for_each(|disk| host.remove_disk(disk));
            assert_eq!(inventory(&reboot(&host)), expected, "without {gone:?}");
        }
    }
}

#[test]
fn f4_a_record_that_nobody_was_told_of_does_not_make_another_history() {
    // The power fails while one of three copies has the record; that disk is away when the others go on.
    let (host, engine) = small(3);
    create(&engine, "before").unwrap();
    let effects = host.effects();
    host.fail_effect(effects + 2, Fault::PowerCutBefore);
    create(&engine, "lost").unwrap_err();
    drop(engine);
    host.settle(CrashMode::KeepAll);
    host.restart();
    let with_record = host.fork();
    assert!(inventory(&start(&with_record)).len() >= 3);
    host.remove_disk("/dev/sda");
    let engine = start(&host);
    [500, 600].into_iter().for_each(|percent| plain_commit(&host, &engine, percent));
    drop(engine);
    host.reattach("/dev/sda");
    let engine = reboot(&host);
    assert_eq!((copies(&engine), problems(&engine)), ((3, 3), String::new()));
    assert!(inventory(&engine).contains(&"volume before Ready Raw".to_owned()));
    assert_eq!(engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().overcommit_percent), 600);
}

#[test]
fn f4_a_record_that_nobody_was_told_of_is_dropped_from_a_damaged_log_too() {
    // A commit goes astray on the first disk, which says that it is written. The daemon dies while that disk alone has a later one.
    let (host, engine) = small(3);
    host.fail_effect(host.effects() + 1, Fault::Misdirected);
    create(&engine, "before").unwrap();
    host.fail_effect(host.effects() + 2, Fault::KillDaemonBefore);
    create(&engine, "lost").unwrap_err();
    drop(engine);
    host.restart();
    let engine = start(&host);
    assert_eq!((copies(&engine), problems(&engine)), ((3, 3), String::new()));
    let volumes = inventory(&engine);
    assert!(volumes.contains(&"volume before Ready Raw".to_owned()), "{volumes:?}");
    create(&engine, "after").unwrap();
    drop(engine);
    // Nor does that record come back.
    let engine = reboot(&host);
    assert_eq!((copies(&engine), problems(&engine)), ((3, 3), String::new()));
    assert!(inventory(&engine).contains(&"volume after Ready Raw".to_owned()));
}

#[test]
fn f4_two_histories_that_both_went_on_make_the_group_read_only() {
    let (host, engine) = small(2);
    create(&engine, "common").unwrap();
    drop(engine);
    // Two machines, each with a copy of one disk that was forced to go on alone: there is no such door in the product, so the
    // records are made by two groups of one that share their past.
    let mut sides = Vec::new();
    for keep in ["/dev/sda", "/dev/sdb"] {
        let side = host.fork();
        let engine = start(&side);
        create(&engine, if keep == "/dev/sda" { "left" } else { "right" }).unwrap();
        sides.push(side.disk_image(keep));
    }
    host.crash(CrashMode::LoseAll);
    host.set_disk_image("/dev/sda", &sides[0]);
    host.set_disk_image("/dev/sdb", &sides[1]);
    host.restart();
    let engine = start(&host);
    assert!(problems(&engine).contains("different histories"), "{}", problems(&engine));
    create(&engine, "x").unwrap_err();
}

#[test]
fn f3_a_copy_whose_zone_was_wiped_is_written_anew_from_the_others() {
    let (host, engine) = small(3);
    create(&engine, "kept").unwrap();
    let expected = inventory(&engine);
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.damage("/dev/sdb", 2 * Bytes::MIB, 3 * Bytes::MIB, Damage::Zeros);
    let engine = reboot(&host);
    assert_eq!((inventory(&engine), copies(&engine)), (expected.clone(), (3, 3)));
    host.remove_disk("/dev/sda");
    host.remove_disk("/dev/sdc");
    assert_eq!(inventory(&reboot(&host)), expected, "by itself");
}

#[test]
fn a_wiped_copy_does_not_help_to_decide_what_is_true() {
    // The last commit is on sda and sdb; sdc missed it. Then sda is wiped and sdb is away: what sdc says is old.
    let (host, engine) = small(3);
    host.fail_device("/dev/sdc", Fault::Error(HostErrorKind::Io));
    create(&engine, "acknowledged").unwrap();
    drop(engine);
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.damage("/dev/sda", 2 * Bytes::MIB, 3 * Bytes::MIB, Damage::Zeros);
    host.remove_disk("/dev/sdb");
    let engine = reboot(&host);
    assert!(problems(&engine).contains("1 of 3 metadata copies"), "{}", problems(&engine));
    create(&engine, "x").unwrap_err();
    host.reattach("/dev/sdb");
    let engine = reboot(&host);
    assert!(inventory(&engine).contains(&"volume acknowledged Ready Raw".to_owned()));
    assert_eq!(copies(&engine), (3, 3));
}
