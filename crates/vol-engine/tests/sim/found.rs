//! What the proof machine (`tests/proof`) found, each made small.

use vol_sim::{CrashMode, Fault, SimHost};

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
