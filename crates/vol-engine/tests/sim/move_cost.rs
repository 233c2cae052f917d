//! What moving blocks costs besides the moving: slices, each with its flush, and commits of our metadata.

use vol_engine::moving::Pace;
use vol_engine::{CreateThick, Engine};
use vol_sim::{EffectKind, SimHost};
use vol_types::*;

use super::bench::*;

const SIZE: u64 = 128 << 20;

/// Lengths of the slices that were moved after effect `before`, and the durable writes between the first and the last of them.
fn moved(host: &SimHost, before: u64) -> (Vec<u64>, usize) {
    let log: Vec<_> = host.effect_log().into_iter().filter(|effect| effect.number > before).collect();
    let is_slice = |kind| matches!(kind, EffectKind::WipeSlice | EffectKind::CopySlice);
    let lens: Vec<u64> = log
        .iter()
        .filter(|effect| is_slice(effect.kind))
        .map(|effect| effect.what.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(lens.iter().sum::<u64>(), SIZE, "each byte once");
    let first = log.iter().position(|effect| is_slice(effect.kind)).unwrap();
    let last = log.iter().rposition(|effect| is_slice(effect.kind)).unwrap();
    let noted = log[first..last].iter().filter(|effect| effect.kind == EffectKind::DurableWrite).count();
    (lens, noted)
}

fn wipe(host: &SimHost, engine: &Engine<SimHost>, volume: &str) -> (Vec<u64>, usize) {
    let before = host.effects();
    engine.create_thick(&CreateThick { size: Bytes(SIZE), ..thick_request(volume, 1) }, false).unwrap();
    moved(host, before)
}

fn copy(host: &SimHost, engine: &Engine<SimHost>, of: &str, new: &str) -> (Vec<u64>, usize) {
    let before = host.effects();
    engine.clone_volume(&clone_request(of, new), false).unwrap();
    moved(host, before)
}

fn group(rate: u64) -> (SimHost, Engine<SimHost>) {
    let host = machine();
    let engine = start(&host);
    engine.create_vg(&vg_request(&["/dev/sda"]), false).unwrap();
    engine.set_pace(Pace { share: 100, rate: None });
    host.set_move_rate(rate);
    (host, engine)
}

#[test]
fn a_move_takes_few_slices_with_a_flush_each_and_is_noted_by_time() {
    // 16 MiB take 62 ms, 32 take 125: those fit.
    let (host, engine) = group(256 << 20);
    let mib = |lens: &[u64]| lens.iter().map(|len| len >> 20).collect::<Vec<_>>();
    let (lens, noted) = wipe(&host, &engine, "first");
    assert_eq!((mib(&lens), noted), (vec![4, 8, 16, 32, 32, 32, 4], 0));
    let (lens, noted) = wipe(&host, &engine, "second");
    assert_eq!((mib(&lens), noted), (vec![32; 4], 0), "what fitted is not found out anew");
    let (lens, _) = copy(&host, &engine, "first", "copy");
    assert_eq!(lens.len(), 7, "copying is not wiping");
    let (lens, noted) = copy(&host, &engine, "first", "another");
    assert_eq!((mib(&lens), noted), (vec![32; 4], 0));
    // Ten times as slow: 5 s, noted after 2.
    host.set_move_rate(25 << 20);
    let (lens, noted) = wipe(&host, &engine, "slow");
    assert_eq!((mib(&lens), noted), ([vec![32, 16], vec![8; 10]].concat(), 2));
}
