//! The machine is cut off before every effect of an operation, and after the last one: the next boot finds the world as it was before
//! the operation or as it was to be after it. Two machines side by side, each with its own disks.

use serde_json::Value;
use std::sync::Mutex;
use std::time::Instant;
use vol_tests::guest::Lab;
use vol_tests::kill::STAGES;

/// Of so many points one is looked at, unless VOLUMED_TEST_EVERY_POINT is set.
const EVERY: u64 = 3;
/// Points that are looked at, at least.
const POINTS_MIN: u64 = 40;

#[test]
fn f1_cut_off_at_every_effect_of_every_operation() {
    if Lab::new().is_none() {
        return;
    }
    let only = std::env::var("VOLUMED_TEST_PAIR").ok();
    let every = if std::env::var_os("VOLUMED_TEST_EVERY_POINT").is_some() { 1 } else { EVERY };
    let stages = STAGES.iter().enumerate();
    let jobs =
        stages.flat_map(|(at, stage)| stage.pairs.iter().enumerate().map(move |(pair, one)| (at, pair, one.name)));
    let jobs: Vec<_> = jobs.filter(|job| only.as_ref().is_none_or(|only| job.2 == only)).collect();
    let queue = Mutex::new(jobs);
    let begin = Instant::now();
    let work = || {
        let mut sum = (0, 0);
        loop {
            let Some((stage, pair, name)) = queue.lock().unwrap().pop() else { return sum };
            let (points, all) = run(stage, pair, name, every);
            sum = (sum.0 + points, sum.1 + all);
        }
    };
    let sums = std::thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].map(|worker| worker.join().unwrap()));
    let (points, all) = (sums[0].0 + sums[1].0, sums[0].1 + sums[1].1);
    println!("{points} of {all} points in {:.0} s", begin.elapsed().as_secs_f32());
    assert!(points >= POINTS_MIN || only.is_some(), "only {points} points");
}

/// One pair of operations on disks of its own: points that were looked at, and all there are.
fn run(stage: usize, pair: usize, name: &str, every: u64) -> (u64, u64) {
    let lab = Lab::new().unwrap();
    let begin = Instant::now();
    let disks = ["one.img", "two.img", "three.img"].map(|name| lab.disk(name));
    let ([one, two, three], share) = (&disks, lab.dir().to_str().unwrap());
    let (dies, at) = (env!("CARGO_BIN_EXE_volumed-that-dies"), env!("CARGO_BIN_EXE_at-point"));
    let options = ["--disk", one, "--disk", two, "--disk", three, "--share", share, "--bin", dies, "--bin", at];
    let script = |words: &str| format!("exec at-point {words} 2>&1");
    lab.ok(&options, &script(&format!("learn {stage} {pair}")));
    let learned = std::fs::read_to_string(lab.dir().join("learned.json")).unwrap();
    let learned: Value = serde_json::from_str(&learned).unwrap();
    let effects = [0, 1].map(|way: usize| learned["effects"][way].as_u64().unwrap());
    let all: Vec<(usize, u64)> = (1..=effects[0].max(effects[1]) + 1)
        .flat_map(|number| [(0, number), (1, number)])
        .filter(|(way, number)| *number <= effects[*way] + 1)
        .collect();
    let points: Vec<_> = all.iter().filter(|(way, number)| (number + *way as u64).is_multiple_of(every)).collect();
    let mut cut = "-".to_owned();
    for (way, number) in &points {
        let goal = format!("{way}:{number}");
        let next = script(&format!("next {stage} {pair} {cut} {goal}"));
        let mut guest = lab.start(&options, &next);
        // A machine that did not come up has changed nothing: it is booted once more.
        if guest.comes(|line| line == "BEGUN").is_err() && guest.seen().iter().any(|line| line.contains("lab: ")) {
            println!("{name}: booted again: {:?}", guest.seen());
            drop(guest);
            guest = lab.start(&options, &next);
        }
        guest.wait_for(&format!("{name}: {goal} after {cut}"), |line| line.starts_with("REACHED"));
        guest.cut(&lab);
        cut = goal;
    }
    lab.ok(&options, &script(&format!("next {stage} {pair} {cut} -")));
    println!("{name}: {} of {} points in {:.0} s", points.len(), all.len(), begin.elapsed().as_secs_f32());
    (points.len() as u64, all.len() as u64)
}
