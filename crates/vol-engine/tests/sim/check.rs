//! Reading the PVs of an open VG again: damage is found while the VG is in use, and what is under way is not taken for damage.

use std::sync::atomic::{AtomicBool, Ordering};

use vol_engine::Engine;
use vol_engine::host::HostErrorKind;
use vol_format::examine::Severity;
use vol_sim::{Damage, EffectKind, Fault, SimHost};
use vol_types::*;

use super::bench::*;

const LOG: u64 = 2 * Bytes::MIB;

fn in_use() -> (SimHost, Engine<SimHost>) {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    (host, engine)
}

/// What is worse than ok on each PV, by its node.
fn codes(engine: &Engine<SimHost>) -> Vec<(String, Vec<&'static str>)> {
    let vg = &engine.vgs()[0];
    let pvs: Vec<PvId> = vg.read(|catalog| catalog.pvs().map(|pv| pv.id).collect());
    let mut all: Vec<_> = pvs
        .into_iter()
        .filter_map(|pv| vg.check_pv(pv))
        .map(|checked| {
            let worse = checked.found.findings.iter().filter(|one| one.severity > Severity::Ok);
            (checked.node.display().to_string(), worse.map(|one| one.code).collect())
        })
        .collect();
    all.sort();
    all
}

fn told(sda: &[&'static str], sdb: &[&'static str]) -> Vec<(String, Vec<&'static str>)> {
    vec![("/dev/sda".to_owned(), sda.to_vec()), ("/dev/sdb".to_owned(), sdb.to_vec())]
}

#[test]
fn a_sound_group_in_use_has_nothing_to_complain_about() {
    let (host, engine) = in_use();
    assert_eq!(codes(&engine), told(&[], &[]));
    let effects = host.effects();
    Op::CreateRaw.run(&engine).unwrap();
    assert!(host.effects() > effects);
    let effects = host.effects();
    assert_eq!(codes(&engine), told(&[], &[]));
    assert_eq!(host.effects(), effects, "it was written to");
}

#[test]
fn a_write_that_was_acknowledged_and_lost_is_found_before_anything_is_restarted() {
    let (host, engine) = in_use();
    host.fail_next(EffectKind::DurableWrite, Fault::LostWrite);
    Op::CreateRaw.run(&engine).unwrap();
    let found = codes(&engine);
    let behind: Vec<_> = found.iter().filter(|(_, codes)| codes.contains(&"copy-behind")).collect();
    assert_eq!(behind.len(), 1, "{found:?}");
}

#[test]
fn a_copy_whose_write_failed_is_told_from_one_that_lost_a_write() {
    let host = Op::CreateRaw.before();
    host.add_disk(vol_sim::SimDisk::new("/dev/sdc", Bytes::gib(4)));
    host.add_disk(vol_sim::SimDisk::new("/dev/sdd", Bytes::gib(4)));
    let engine = start(&host);
    let mut request = vg_request(&["/dev/sdc", "/dev/sdd"]);
    request.name = name("other");
    engine.create_vg(&request, false).unwrap();
    drop(engine);
    let engine = start(&host);
    host.fail_next(EffectKind::DurableWrite, Fault::Error(HostErrorKind::Io));
    // With two copies there is no majority without one: the change fails, and the copy is known to be bad.
    Op::CreateRaw.run(&engine).unwrap_err();
    let found = codes(&engine);
    assert!(found.iter().all(|(_, codes)| !codes.contains(&"copy-behind")), "{found:?}");
}

#[test]
fn damage_to_label_log_and_checkpoint_is_found_on_its_own_disk() {
    let cases: [(u64, &[&str]); 4] = [
        (Bytes::MIB + 64 * 1024, &["label-copy-lost"]),
        // Without its first commit the copy ends at the checkpoint with which the group was made.
        (LOG, &["copy-behind", "log-broken", "vg-unfinished"]),
        (LOG + 4096, &["copy-behind", "log-broken"]),
        (0, &["mark-absent"]),
    ];
    for (offset, expected) in cases {
        let (host, engine) = in_use();
        host.damage("/dev/sdb", offset, 4096, Damage::Zeros);
        let found = codes(&engine);
        assert_eq!(found[0].1, Vec::<&str>::new(), "{offset}");
        assert_eq!(found[1].1, expected, "{offset}");
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_told() {
    let (host, engine) = in_use();
    host.damage("/dev/sda", LOG, 4096, Damage::Unreadable);
    assert!(codes(&engine)[0].1.contains(&"unreadable"), "{:?}", codes(&engine));
}

#[test]
fn commits_and_checkpoints_under_way_are_not_taken_for_damage() {
    let (host, engine) = in_use();
    host.keep_trace(false);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60 {
                let text = format!("v{round}");
                let mut request = volume_request(&text, None);
                request.size = Bytes::mib(64);
                engine.create_volume(&request, false).unwrap();
                engine.delete_volume(&name("data"), &volume(&text), false).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut checks = 0;
        while !done.load(Ordering::SeqCst) || checks == 0 {
            let found = codes(&engine);
            assert!(found.iter().all(|(_, codes)| codes.is_empty()), "check {checks}: {found:?}");
            checks += 1;
        }
    });
}
