//! The daemon is killed before every effect of every operation that changes something, and after the last one (with
//! VOLUMED_TEST_EVERY_POINT after each: nothing happens between two effects); the next start of the plain daemon
//! finds the world as it was before the operation or as it was to be after it, and work goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vol_tests::dying::{End, Hand, Side};
use vol_tests::kill::{STAGES, Site};
use vol_tests::{Machine, kernel};

/// Points at which the daemon was killed, at least.
const POINTS_MIN: u64 = 150;

struct Run {
    machine: Machine,
    site: Site,
    hand: Hand,
    /// Kills, and orders that were carried out to the end because the effect did not come.
    killed: u64,
    missed: u64,
    content: u64,
}

/// One direction of a pair: its request, its number of effects, the world before and after.
struct Way {
    name: String,
    request: &'static str,
    effects: u64,
    before: serde_json::Value,
    after: serde_json::Value,
}

#[test]
fn f1_f2_killed_at_every_effect_of_every_operation() {
    let Some(mut machine) = Machine::start() else { return };
    let site = Site {
        socket: PathBuf::from(machine.path("run/control.sock")),
        vg: machine.vg.clone(),
        disks: machine.disks[..3].to_vec(),
        dir: machine.dir().join("at"),
    };
    std::fs::create_dir(&site.dir).unwrap();
    let hand = Hand::new(machine.dir().join("orders"));
    machine.kill9();
    let only = std::env::var("VOLUMED_TEST_PAIR").ok();
    let every = std::env::var_os("VOLUMED_TEST_EVERY_POINT").is_some();
    let begin = Instant::now();
    let mut run = Run { machine, site, hand, killed: 0, missed: 0, content: 0 };
    let mut table: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for stage in &STAGES {
        run.dying();
        for request in stage.first {
            run.site.ok(request);
        }
        for pair in stage.pairs.iter().filter(|pair| only.as_ref().is_none_or(|only| pair.name == only)) {
            let ways = [
                run.learn(&format!("make {}", pair.name), pair.there),
                run.learn(&format!("undo {}", pair.name), pair.back),
            ];
            let most = ways.iter().map(|way| way.effects).max().unwrap();
            // There and back again: what is not killed at this turn is done all the same.
            for number in 1..=most {
                for side in [Side::Before, Side::After] {
                    let wanted =
                        |way: &Way| number <= way.effects && (every || side == Side::Before || number == way.effects);
                    if !ways.iter().any(wanted) {
                        continue;
                    }
                    for way in &ways {
                        let killed = run.killed;
                        let since = Instant::now();
                        if wanted(way) {
                            run.point(way, number, side);
                        } else {
                            run.site.ok(way.request);
                        }
                        let entry = table.entry(way.name.clone()).or_default();
                        *entry = (entry.0 + run.killed - killed, entry.1 + since.elapsed().as_millis() as u64);
                    }
                }
            }
        }
        run.machine.kill9();
    }
    for (name, (points, millis)) in &table {
        println!("{name}: {points} points in {:.1} s", *millis as f32 / 1000.0);
    }
    let (killed, missed) = (run.killed, run.missed);
    println!("{killed} points, {missed} effects did not come again, {:.0} s", begin.elapsed().as_secs_f32());
    assert!(killed >= POINTS_MIN || only.is_some(), "only {killed} points");
    assert!(missed * 20 <= killed, "{missed} effects did not come a second time");
}

impl Run {
    fn dying(&mut self) {
        let dir = self.hand.dir().to_owned();
        self.machine.start_dying(&dir);
    }

    /// Runs it once, undisturbed.
    fn learn(&mut self, name: &str, request: &'static str) -> Way {
        let before = self.site.view();
        self.hand.order(0, Side::Before, End::Kill);
        self.site.ok(request);
        let effects = self.hand.effects();
        let after = self.site.view();
        assert_ne!(before, after, "{name} changes nothing that can be seen");
        println!("{name}: {} effects: {}", effects.len(), effects.join(", "));
        Way { name: name.to_owned(), request, effects: effects.len() as u64, before, after }
    }

    /// Kills the daemon at one effect of `way`, judges what the plain daemon makes of it, and leaves the world after `way`.
    fn point(&mut self, way: &Way, number: u64, side: Side) {
        let at = format!("{}: killed {side:?} effect {number} of {}", way.name, way.effects);
        let file = self.site.dir.join("base/file");
        self.content += 1;
        let content = format!("content {}", self.content);
        let has_file = file.parent().is_some_and(|dir| kernel::mounted(dir.to_str().unwrap()).is_some());
        if has_file {
            std::fs::write(&file, &content).unwrap();
        }
        self.hand.order(number, side, End::Kill);
        let answer = self.site.send(way.request);
        let acknowledged = match &answer {
            Ok((200..=299, _)) => true,
            Ok(refusal) => panic!("{at}: refused: {refusal:?}{}", self.machine.log()),
            Err(_) => false,
        };
        if self.machine.dies_within(Duration::from_secs(if acknowledged { 0 } else { 120 })) {
            self.killed += 1;
        } else {
            assert!(acknowledged, "{at}: no answer ({answer:?}), and the daemon lives{}", self.machine.log());
            self.missed += 1;
            self.machine.kill9();
        }
        self.machine.start_daemon();
        let found = self.site.settled(&[&way.before, &way.after]);
        let done = found.unwrap_or_else(|what| panic!("{at}: half done: {what}{}", self.machine.log())) == 1;
        assert!(done || !acknowledged, "{at}: it was acknowledged, and is lost{}", self.machine.log());
        assert!(!done || (number, side) != (1, Side::Before), "{at}: done before it began");
        assert!(
            done || (number, side) != (way.effects, Side::After) || acknowledged,
            "{at}: undone after its last effect"
        );
        self.site.transactions_agree().unwrap_or_else(|what| panic!("{at}: {what}{}", self.machine.log()));
        if has_file {
            assert_eq!(std::fs::read_to_string(&file).unwrap(), content, "{at}: what was written before");
        }
        // The very same request again.
        match self.site.send(way.request).unwrap_or_else(|err| panic!("{at}: again: {err}{}", self.machine.log())) {
            (200..=299, _) => {}
            (404 | 409, _) if done => {}
            refusal => panic!("{at}: the same request again is refused: {refusal:?}{}", self.machine.log()),
        }
        self.site
            .settled(&[&way.after])
            .unwrap_or_else(|what| panic!("{at}: then again: {what}{}", self.machine.log()));
        self.machine.kill9();
        self.dying();
    }
}
