//! Runs in a guest of `scenario_kill_points`: judges the world that the last cut has left, and goes on to the next effect, where the
//! machine is cut off.
//!
//! `at-point learn STAGE PAIR`, then `at-point next STAGE PAIR CUT GOAL`: CUT and GOAL are `WAY:NUMBER`, or `-`.
#![forbid(unsafe_code)]

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vol_tests::dying::{End, Hand, Side};
use vol_tests::kill::{STAGES, Site, differences, persistent};
use vol_tests::{kernel, wire};

const BIN: &str = "/usr/local/bin";
const LEARNED: &str = "/share/learned.json";

fn main() {
    println!("BEGUN");
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args[at].parse::<usize>().expect("a number");
    let site = Site {
        socket: "/tmp/run/control.sock".into(),
        vg: "kp".to_owned(),
        disks: (0..3).map(|n| format!("/dev/labdisk{n}")).collect(),
        dir: PathBuf::from("/tmp/at"),
    };
    fs::create_dir_all(&site.dir).expect("a folder");
    let config = "run_dir = \"/tmp/run\"\nstate_dir = \"/tmp/state\"\nsocket = \"/tmp/run/control.sock\"\nmetrics_listen = \"off\"\nundelete_window = \"off\"\n";
    fs::write("/tmp/volumed.toml", config).expect("a configuration");
    let (stage, pair) = (&STAGES[number(2)], STAGES[number(2)].pairs[number(3)]);
    let ways = [pair.there, pair.back];
    let mut hand = Hand::new("/tmp/orders");
    if args[1] == "learn" {
        let daemon = start(&site, "volumed-that-dies");
        for request in STAGES[..=number(2)].iter().flat_map(|stage| stage.first) {
            site.ok(request);
        }
        let mut worlds = vec![persistent(site.view())];
        let effects = ways.map(|request| {
            hand.order(0, Side::Before, End::Hang);
            site.ok(request);
            worlds.push(persistent(site.view()));
            hand.effects().len()
        });
        assert_eq!(worlds[0], worlds[2], "one request does not undo the other");
        fs::write(LEARNED, json!({"effects": effects, "worlds": worlds}).to_string()).expect("the share");
        stop(daemon);
        return;
    }
    let learned: Value = serde_json::from_str(&fs::read_to_string(LEARNED).expect("what was learned")).expect("JSON");
    let world = |way: usize| &learned["worlds"][way];
    let last = |way: usize| learned["effects"][way].as_u64().expect("a number");

    let daemon = start(&site, "volumed");
    // The way that can be gone from here.
    let mut next = 0;
    if let Some((way, number)) = point(&args[4]) {
        let end = Instant::now() + Duration::from_secs(120);
        let after = loop {
            let found = persistent(site.view());
            match [way, way + 1].into_iter().position(|index| found == *world(index)) {
                Some(after) => break after == 1,
                None => assert!(
                    Instant::now() < end,
                    "half done:\n{}\nnor {}",
                    differences(world(way), &found),
                    differences(world(way + 1), &found)
                ),
            }
            sleep(Duration::from_millis(50));
        };
        let same = world(way) == world(way + 1);
        assert!(same || !after || number > 1, "done before it began");
        assert!(same || after || number <= last(way), "it had its last effect, and is undone");
        assert_eq!(kernel::not_live(), Vec::<String>::new());
        site.transactions_agree().expect("pool and metadata agree");
        for request in stage.first.iter().filter(|request| request.contains("/mount ")) {
            site.ok(request);
        }
        // The same request again.
        match site.send(ways[way]).expect("an answer") {
            (200..=299, _) => {}
            (404 | 409, _) if after => {}
            refusal => panic!("the same request again is refused: {refusal:?}"),
        }
        let found = persistent(site.view());
        assert!(found == *world(way + 1), "after the same request again: {}", differences(world(way + 1), &found));
        next = 1 - way;
    }
    println!("JUDGED");
    let Some((way, number)) = point(&args[5]) else {
        // The next request.
        site.ok(ways[next]);
        return stop(daemon);
    };
    if way != next {
        site.ok(ways[next]);
    }
    stop(daemon);
    let daemon = start(&site, "volumed-that-dies");
    let (at, side) = if number > last(way) { (number - 1, Side::After) } else { (number, Side::Before) };
    hand.order(at, side, End::Hang);
    // The daemon says REACHED, and the machine is gone.
    let answer = site.send(ways[way]);
    stop(daemon);
    panic!("effect {number} of {} did not come: {answer:?}", ways[way]);
}

/// `WAY:NUMBER`
fn point(text: &str) -> Option<(usize, u64)> {
    let (way, number) = text.split_once(':')?;
    Some((way.parse().ok()?, number.parse().ok()?))
}

fn start(site: &Site, name: &str) -> Child {
    let mut command = Command::new(Path::new(BIN).join(name));
    command.args(["--config", "/tmp/volumed.toml"]).env("VOLUMED_DIES", "/tmp/orders").stdin(Stdio::null());
    let child = command.spawn().expect(name);
    let end = Instant::now() + Duration::from_secs(90);
    while !matches!(wire::request(&site.socket, "GET", "status", ""), Ok((200, _))) {
        assert!(Instant::now() < end, "{name} is not ready");
        sleep(Duration::from_millis(5));
    }
    child
}

fn stop(mut daemon: Child) {
    _ = daemon.kill();
    _ = daemon.wait();
}
