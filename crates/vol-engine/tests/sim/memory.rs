//! Row F28 of the failure catalogue (`docs/reliability.md`): the kernel has no memory for an ioctl, above all for one between a suspend
//! and its resume. Nothing stays suspended, the answer says why, and made again the request comes to what it usually does.

use vol_core::dm::Device;
use vol_engine::host::HostRead as _;
use vol_engine::{Engine, EngineError};
use vol_sim::{EffectKind, Fault, SimHost};

use super::bench::*;
use super::crash::OPS;

struct Usual {
    before: SimHost,
    new: Vec<String>,
    /// The effects that are made of ioctls, by their numbers, and how many these may be ([`EffectKind::ioctls`]).
    effects: Vec<(u64, u8)>,
}

fn usual(op: Op) -> Usual {
    let before = op.before();
    let host = before.fork();
    let engine = start(&host);
    let first = host.effects();
    op.run(&engine).unwrap();
    let ioctls = |kind: EffectKind| match kind {
        // Two of each kind, of a group of two that are active.
        EffectKind::ThinSnapshot => 6,
        EffectKind::DmCreate | EffectKind::DmReload => 4,
        _ => 1,
    };
    let log = host.effect_log();
    let made = log.iter().filter(|effect| effect.number > first && effect.kind.ioctls());
    let effects = made.map(|effect| (effect.number, ioctls(effect.kind))).collect();
    before.keep_trace(false);
    Usual { before, new: inventory_with_space(&engine), effects }
}

/// As the daemon's timer does, until no pool waits for the next look at its metadata.
fn let_time_pass(engine: &Engine<SimHost>) {
    for _ in 0..130 {
        engine.refresh();
        if engine.vgs().iter().all(|vg| vg.view().problems.is_empty()) {
            break;
        }
    }
    (0..4).for_each(|_| engine.refresh());
}

/// The request is made again if it was not done; everybody agrees.
fn in_the_end(host: &SimHost, engine: &Engine<SimHost>, op: Op, usual: &Usual, story: &str) {
    engine.fill_unfinished(&|| true);
    if inventory_with_space(engine) != usual.new {
        op.run(engine).unwrap_or_else(|error| panic!("{story}: made again: {error}"));
    }
    assert_eq!(inventory_with_space(engine), usual.new, "{story}");
    let_time_pass(engine);
    sound(host, engine, story);
    let engine = start(host);
    assert_eq!(inventory_with_space(&engine), usual.new, "{story}: a later start");
    sound(host, &engine, &format!("{story}: a later start"));
}

/// What was acknowledged is so in the records and in the kernel.
fn acknowledged(host: &SimHost, engine: &Engine<SimHost>, usual: &Usual, story: &str) {
    assert_eq!(inventory_with_space(engine), usual.new, "{story}");
    for device in host.dm_devices().unwrap() {
        let Some(Device::Volume(id)) = Device::from_uuid(&device.uuid) else { continue };
        let size = engine.vgs()[0].read(|catalog| catalog.volume(id).map(|volume| volume.size));
        assert_eq!(device.len.to_bytes(), size, "{story}: a device has not the size of its volume");
    }
}

fn said(answer: &Result<(), EngineError>, story: &str) -> bool {
    let Err(error) = answer else { return false };
    let error = error.to_string();
    // A pool that was down for a look at its metadata is told of in words of its own.
    let why = ["Cannot allocate memory (ENOMEM)", "did not come up again"];
    assert!(why.iter().any(|why| error.contains(why)), "{story}: {error}");
    true
}

#[test]
fn f28_no_memory_for_any_one_ioctl_leaves_nothing_suspended_and_is_said() {
    let (mut states, mut failed, mut windows) = (0, 0, 0);
    for op in OPS {
        let usual = usual(op);
        for (number, ioctls) in &usual.effects {
            for ioctl in 1..=*ioctls {
                for fault in [Fault::NoMemory(ioctl), Fault::NoMemoryFrom(ioctl)] {
                    for guard in [true, false] {
                        let host = usual.before.fork();
                        host.set_guard_resumes(guard);
                        let engine = start(&host);
                        host.fail_effect(*number, fault);
                        let answer = op.run(&engine);
                        let story = format!("{op:?}, {fault:?} at effect {number}, guarded: {guard}: {answer:?}");
                        // At once, not only after the next start.
                        assert_eq!(host.suspended_devices(), Vec::<String>::new(), "{story}");
                        if answer.is_ok() {
                            acknowledged(&host, &engine, &usual, &story);
                        }
                        if said(&answer, &story) {
                            failed += 1;
                            windows += u32::from(story.contains("may still be suspended"));
                        }
                        in_the_end(&host, &engine, op, &usual, &story);
                        states += 1;
                    }
                }
            }
        }
    }
    println!("{states} states, {failed} failures, {windows} of them with a resume that failed");
    assert!(states > 500 && failed > 200 && windows > 10, "{states} states, {failed} failures, {windows} windows");
}

#[test]
fn f28_when_there_is_memory_again_what_stayed_suspended_or_short_is_put_right_by_itself() {
    let (mut states, mut suspended) = (0, 0);
    for op in OPS {
        let usual = usual(op);
        for (number, ioctls) in &usual.effects {
            for ioctl in 1..=*ioctls {
                let host = usual.before.fork();
                // The worst case: the guard was killed for want of memory.
                host.set_guard_resumes(false);
                let engine = start(&host);
                // In this effect from there on, and in all that come after it.
                host.fail_effect(*number, Fault::NoMemoryFrom(ioctl));
                host.fail_effects_from(number + 1, Fault::NoMemoryFrom(1));
                let answer = op.run(&engine);
                let story = format!("{op:?}, no memory from ioctl {ioctl} of effect {number} on: {answer:?}");
                if answer.is_ok() {
                    acknowledged(&host, &engine, &usual, &story);
                }
                said(&answer, &story);
                suspended += u32::from(!host.suspended_devices().is_empty());
                // A while of it.
                (0..3).for_each(|_| engine.refresh());
                host.clear_faults();
                let_time_pass(&engine);
                assert_eq!(host.suspended_devices(), Vec::<String>::new(), "{story}");
                engine.fill_unfinished(&|| true);
                let_time_pass(&engine);
                sound_or_waiting(&host, &engine, &story);
                in_the_end(&host, &engine, op, &usual, &story);
                states += 1;
            }
        }
    }
    println!("{states} states, in {suspended} of them something was suspended");
    assert!(states > 150 && suspended > 10, "{states} states, {suspended} suspended");
}
