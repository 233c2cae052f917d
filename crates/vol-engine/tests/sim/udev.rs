//! Row F14 of the failure catalogue (`docs/reliability.md`): udev looks at a device just when it is to go, hangs with it open, or is
//! killed; nodes come late or never. There are no cookies to lose: nothing in the engine waits for udev.

use std::time::Duration;

use vol_engine::host::HostRead as _;
use vol_engine::{Engine, EngineError};
use vol_sim::{Fault, SimHost};

use super::bench::*;
use super::crash::OPS;

/// Longer than udev usually looks, and shorter than it is waited for.
const MOMENT: Duration = Duration::from_millis(300);
/// What one step waits at most: for an opener, and for the removal after it.
const PER_STEP: Duration = Duration::from_secs(4);

/// The devices that the kernel has.
fn devices(host: &SimHost) -> usize {
    host.dm_devices().unwrap().len()
}

/// A run without udev: the machine before, and what there is and how many devices after.
struct Usual {
    before: SimHost,
    new: Vec<String>,
    devices: usize,
}

fn usual(op: Op) -> Usual {
    let before = op.before();
    before.keep_trace(false);
    let host = before.fork();
    let engine = start(&host);
    op.run(&engine).unwrap();
    Usual { before, new: inventory_with_space(&engine), devices: devices(&host) }
}

/// The request while udev is as it is there: nothing is left suspended or done wrong, and nobody waits for long.
fn run(host: &SimHost, engine: &Engine<SimHost>, op: Op, story: &str) -> Result<(), EngineError> {
    let before = host.counters().paused;
    let answer = op.run(engine);
    let waited = host.counters().paused - before;
    assert!(waited <= 3 * PER_STEP, "{story}: it took {waited:?}: {answer:?}");
    assert_eq!(host.suspended_devices(), Vec::<String>::new(), "{story}: {answer:?}");
    assert_eq!(host.violations(), Vec::<String>::new(), "{story}: {answer:?}");
    answer
}

/// udev is gone and nodes come at once: what could not be settled is tried again, and the request comes to what it usually does.
fn in_the_end(host: &SimHost, engine: &Engine<SimHost>, op: Op, usual: &Usual, story: &str) {
    host.kill_udev();
    host.set_node_delay(Duration::ZERO);
    if inventory_with_space(engine) != usual.new {
        run(host, engine, op, story).unwrap_or_else(|error| panic!("{story}: made again: {error}"));
    }
    // As the daemon's timer does.
    (0..4).for_each(|_| engine.refresh());
    assert_eq!(inventory_with_space(engine), usual.new, "{story}");
    sound(host, engine, story);
    // A daemon that starts now finds nothing else.
    let engine = start(host);
    assert_eq!(inventory_with_space(&engine), usual.new, "{story}: a later start");
    sound(host, &engine, &format!("{story}: a later start"));
}

#[test]
fn f14_udev_that_looks_at_everything_for_a_moment_is_outwaited_and_makes_no_difference() {
    let mut waited = 0;
    for op in OPS {
        let usual = usual(op);
        let host = usual.before.fork();
        let engine = start(&host);
        host.set_udev(MOMENT);
        let story = format!("{op:?} while udev looks");
        run(&host, &engine, op, &story).unwrap_or_else(|error| panic!("{story}: {error}"));
        assert_eq!(inventory_with_space(&engine), usual.new, "{story}");
        assert_eq!(devices(&host), usual.devices, "{story}: another number of devices");
        waited += u32::from(!host.counters().paused.is_zero());
        in_the_end(&host, &engine, op, &usual, &story);
    }
    assert!(waited >= 5, "only {waited} had to wait");
}

#[test]
fn f14_udev_that_hangs_is_named_and_what_it_held_up_is_settled_when_it_is_gone() {
    let (mut failed, mut left) = (0, 0);
    for op in OPS {
        let usual = usual(op);
        let host = usual.before.fork();
        let engine = start(&host);
        host.set_udev(Duration::MAX);
        let story = format!("{op:?} while udev hangs");
        match run(&host, &engine, op, &story) {
            // A device may be active that would not be, and that is all.
            Ok(()) => {
                assert_eq!(inventory_with_space(&engine), usual.new, "{story}");
                left += u32::from(devices(&host) > usual.devices);
            }
            Err(error) => {
                assert!(error.to_string().contains("held open by process 311 (systemd-udevd)"), "{story}: {error}");
                failed += 1;
            }
        }
        in_the_end(&host, &engine, op, &usual, &story);
    }
    assert!(failed >= 3 && left >= 1, "{failed} failed, {left} left a device");
}

#[test]
fn f14_a_node_that_comes_late_is_waited_for() {
    let mut waited = 0;
    for op in OPS {
        let usual = usual(op);
        let host = usual.before.fork();
        let engine = start(&host);
        host.set_node_delay(MOMENT);
        let story = format!("{op:?} with late nodes");
        run(&host, &engine, op, &story).unwrap_or_else(|error| panic!("{story}: {error}"));
        assert_eq!(inventory_with_space(&engine), usual.new, "{story}");
        assert_eq!(devices(&host), usual.devices, "{story}");
        waited += u32::from(!host.counters().paused.is_zero());
    }
    assert!(waited >= 10, "only {waited} had to wait");
}

#[test]
fn f14_without_nodes_a_request_fails_says_so_and_is_made_again_when_they_come() {
    for hangs in [false, true] {
        let mut failed = 0;
        for op in OPS {
            let usual = usual(op);
            let host = usual.before.fork();
            let engine = start(&host);
            host.set_node_delay(Duration::MAX);
            if hangs {
                // Then what has no node cannot be taken away again either.
                host.set_udev(Duration::MAX);
            }
            let story = format!("{op:?} without nodes, udev hangs: {hangs}");
            match run(&host, &engine, op, &story) {
                Ok(()) => assert_eq!(inventory_with_space(&engine), usual.new, "{story}"),
                Err(error) => {
                    let said = error.to_string();
                    let why = ["its node did not appear", "did not come up again", "held open by process 311"];
                    assert!(why.iter().any(|why| said.contains(why)), "{story}: {said}");
                    failed += 1;
                }
            }
            in_the_end(&host, &engine, op, &usual, &story);
        }
        assert!(failed >= 10, "only {failed} failed");
    }
}

#[test]
fn f14_a_death_at_any_effect_while_udev_hangs_is_recovered_from_when_it_is_gone() {
    let mut states = 0;
    for op in [
        Op::CreateFormatted,
        Op::CreateSubdir,
        Op::CreateRaw,
        Op::Mount,
        Op::SnapshotMounted,
        Op::Unmount,
        Op::Check,
        Op::DeleteVolume,
        Op::PurgePool,
        Op::Rollback,
        Op::CreateThick,
        Op::GrowThick,
    ] {
        let usual = usual(op);
        let probe = usual.before.fork();
        let engine = start(&probe);
        let first = probe.effects() + 1;
        op.run(&engine).unwrap();
        for number in first..=probe.effects() {
            for death in [Fault::KillDaemonBefore, Fault::KillDaemonInside(1), Fault::KillDaemonAfter] {
                let host = usual.before.fork();
                let engine = start(&host);
                host.set_udev(Duration::MAX);
                host.fail_effect(number, death);
                _ = op.run(&engine);
                drop(engine);
                if !host.is_dead() {
                    continue;
                }
                host.clear_faults();
                host.restart();
                let story = format!("{op:?}, {death:?} at effect {number} while udev hangs");
                let before = host.counters().paused;
                let engine = start(&host);
                let waited = host.counters().paused - before;
                assert!(waited <= 2 * PER_STEP, "{story}: the start took {waited:?}");
                assert_eq!(host.suspended_devices(), Vec::<String>::new(), "{story}");
                host.kill_udev();
                (0..4).for_each(|_| engine.refresh());
                engine.fill_unfinished(&|| true);
                sound(&host, &engine, &story);
                in_the_end(&host, &engine, op, &usual, &story);
                states += 1;
            }
        }
    }
    assert!(states > 150, "only {states} states");
}
