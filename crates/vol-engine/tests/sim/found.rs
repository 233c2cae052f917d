//! What the proof machine (`tests/proof`) found, each made small.

use vol_engine::host::HostErrorKind;
use vol_sim::{CrashMode, Damage, EffectKind, Fault, SimHost};
use vol_types::Bytes;

use super::bench::*;

/// A VG that is being made, or deleted, dies while the mark of a disk is half written or half erased: of the head's sectors,
/// any may be there.
#[test]
fn a_mark_that_a_power_cut_tore_does_not_make_the_disk_somebody_elses() {
    let mut torn = 0;
    for op in [Op::CreateVg, Op::DeleteVg] {
        let before = op.before();
        let probe = before.fork();
        let engine = start(&probe);
        let first = probe.effects() + 1;
        op.run(&engine).unwrap();
        for number in first..=probe.effects() {
            let host = before.fork();
            let engine = start(&host);
            host.fail_effect(number, Fault::PowerCutInside(1));
            drop(op.run(&engine));
            drop(engine);
            if !host.is_dead() {
                continue;
            }
            let places = host.pending_that_matter();
            let in_mark = |disk: &SimHost| disk.pending().iter().any(|pending| pending.sector < 48);
            if !in_mark(&host) {
                continue;
            }
            for mask in 0..1usize << places.len() {
                let host = host.fork();
                let kept = places.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, place)| *place);
                host.settle(CrashMode::Keep(kept.collect()));
                host.restart();
                let story = format!("{op:?}, effect {number}, kept {mask:b}");
                let engine = start(&host);
                sound(&host, &engine, &story);
                drop(Op::CreateVg.run(&engine));
                assert_eq!(inventory(&engine), ["vg data Ready"], "{story}");
                torn += 1;
            }
        }
    }
    assert!(torn > 20, "only {torn} torn marks were looked at");
}

/// A record that was written and not flushed when the daemon died is read by the next one, which tells everybody of it.
/// With one copy nothing else makes it durable.
#[test]
fn what_a_restarted_daemon_shows_is_not_lost_by_a_power_cut() {
    let mut shown = 0;
    let mut before = machine();
    for op in [Op::CreateVg, Op::CreatePool, Op::CreateRaw, Op::CreateFormatted, Op::DeleteVolume] {
        let run = |engine: &vol_engine::Engine<SimHost>| match op {
            Op::CreateVg => engine.create_vg(&vg_request(&["/dev/sda"]), false).map(drop),
            _ => op.run(engine),
        };
        let probe = before.fork();
        let engine = start(&probe);
        let first = probe.effects() + 1;
        run(&engine).unwrap();
        for number in first..=probe.effects() {
            let host = before.fork();
            let engine = start(&host);
            host.fail_effect(number, Fault::KillDaemonInside(1));
            drop(run(&engine));
            drop(engine);
            if !host.is_dead() || host.pending_that_matter().is_empty() {
                continue;
            }
            host.restart();
            let engine = start(&host);
            let found = inventory(&engine);
            drop(engine);
            host.crash(CrashMode::LoseAll);
            host.restart();
            assert_eq!(inventory(&start(&host)), found, "{op:?}, killed inside effect {number}");
            shown += 1;
        }
        before = probe;
    }
    assert!(shown > 10, "only {shown} deaths left something unflushed");
}

/// A deletion fails half way: one of two copies has it. The VG is frozen; that the volume "is there already" would be
/// promising what the next start may not find.
#[test]
fn a_frozen_vg_does_not_promise_that_a_volume_is_there() {
    for fault in [Fault::Error(HostErrorKind::Io), Fault::Torn] {
        let host = Op::DeleteVolume.before();
        let engine = start(&host);
        host.fail_next(EffectKind::DurableWrite, fault);
        Op::DeleteVolume.run(&engine).unwrap_err();
        let promised = Op::CreateFormatted.run(&engine).is_ok();
        drop(engine);
        host.crash(CrashMode::LoseAll);
        host.restart();
        let there = inventory(&start(&host)).contains(&"volume pg Ready formatted ext4".to_owned());
        assert!(!promised || there, "{fault:?}: it was said to be there, and is not");
    }
}

#[test]
fn one_label_that_cannot_be_read_does_not_cost_the_disk() {
    for label in [64, 128] {
        let host = Op::CreateRaw.before();
        let before = inventory(&start(&host));
        host.crash(CrashMode::LoseAll);
        host.restart();
        for disk in ["/dev/sda", "/dev/sdb"] {
            host.damage(disk, Bytes::MIB + label * 1024, 4096, Damage::Unreadable);
        }
        let engine = start(&host);
        assert_eq!(inventory(&engine), before);
        sound(&host, &engine, "with one label each");
    }
}
