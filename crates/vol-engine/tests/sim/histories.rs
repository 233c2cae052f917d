//! Disks that come and go, or were given away: what they say of the past must not cost anybody the present.

use vol_engine::Engine;
use vol_engine::host::HostErrorKind;
use vol_sim::{CrashMode, Damage, EffectKind, Fault, SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

const DISKS: [&str; 3] = ["/dev/sda", "/dev/sdb", "/dev/sdc"];

fn three() -> SimHost {
    let host = machine();
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)));
    host
}

fn reboot(host: &SimHost) {
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.restart();
}

fn has_label(host: &SimHost, disk: &str) -> bool {
    host.peek(disk, Bytes::MIB + 64 * 1024, 8) != vec![0; 8]
}

fn problems(engine: &Engine<SimHost>) -> String {
    let mut all: Vec<_> = engine.scan_problems();
    all.extend(engine.vgs().iter().flat_map(|vg| vg.view().problems.clone()));
    all.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_disk_that_was_given_to_something_else_is_not_used_although_its_label_is_still_there() {
    type Give = fn(&SimHost);
    let uses: [(Give, &str); 3] = [
        (|host| host.add_signature("/dev/sdb", signature("crypto", "crypto_LUKS")), "carries something else since"),
        (|host| host.add_signature("/dev/sdb", signature("other", "swap")), "carries something else since"),
        (|host| host.poke("/dev/sdb", 1024 + 16, &[7; 16]), "carries something else since: gpt partition table"),
    ];
    for (give, reason) in uses {
        let host = Op::CreatePool.before();
        reboot(&host);
        give(&host);
        let effects = host.effects();
        let engine = start(&host);
        let found = problems(&engine);
        assert!(found.contains(reason) && found.contains("is missing"), "{reason}: {found}");
        let touched: Vec<_> = host
            .effect_log()
            .into_iter()
            .filter(|effect| effect.number > effects && format!("{effect:?}").contains("/dev/sdb"))
            .collect();
        assert!(touched.is_empty(), "{reason}: {touched:?}");
        Op::CreateRaw.run(&engine).unwrap_err();
    }
}

fn signature(usage: &str, kind: &str) -> vol_core::observed::Signature {
    vol_core::observed::Signature { usage: usage.to_owned(), kind: kind.to_owned(), label: None, uuid: None }
}

#[test]
fn a_new_vg_counts_only_with_all_of_its_copies() {
    let probe = three();
    let engine = start(&probe);
    engine.create_vg(&vg_request(&DISKS), false).unwrap();
    for number in 1..=probe.effects() {
        let host = three();
        let engine = start(&host);
        host.fail_effect(number, Fault::Error(HostErrorKind::Io));
        if engine.create_vg(&vg_request(&DISKS), false).is_ok() {
            assert_eq!(engine.vgs()[0].view().copies, (3, 3), "acknowledged in spite of a failure at {number}");
        } else {
            assert!(engine.vgs().is_empty(), "failure at {number}");
        }
    }
}

#[test]
fn a_deletion_that_only_a_minority_heard_of_takes_nothing_apart() {
    let host = three();
    let engine = start(&host);
    engine.create_vg(&vg_request(&DISKS), false).unwrap();
    host.fail_device("/dev/sdb", Fault::Error(HostErrorKind::Io));
    host.fail_device("/dev/sdc", Fault::Error(HostErrorKind::Io));
    engine.delete_vg(&name("data"), false).unwrap_err();
    drop(engine);
    reboot(&host);
    host.remove_disk("/dev/sda");
    let engine = start(&host);
    Op::CreatePool.run(&engine).unwrap();
    drop(engine);
    reboot(&host);
    host.reattach("/dev/sda");
    host.remove_disk("/dev/sdb");
    host.remove_disk("/dev/sdc");
    drop(start(&host));
    assert!(has_label(&host, "/dev/sda"), "the minority's word was taken");
}

#[test]
fn a_deletion_erases_nothing_while_a_disk_misses_its_commits() {
    let probe = three();
    let engine = start(&probe);
    engine.create_vg(&vg_request(&DISKS), false).unwrap();
    let begin = probe.effects();
    // The disk is gone before the first commit of the deletion, or fails at the second.
    for missed in [0, 1] {
        let host = three();
        let engine = start(&host);
        engine.create_vg(&vg_request(&DISKS), false).unwrap();
        assert_eq!(host.effects(), begin);
        host.fail_once("/dev/sda", missed, Fault::Error(HostErrorKind::Io));
        let error = engine.delete_vg(&name("data"), false).unwrap_err().to_string();
        assert!(error.contains("every disk with a copy of the metadata is there"), "{error}");
        assert!(DISKS.iter().all(|disk| has_label(&host, disk)), "commit {missed} missed, and erased");
        drop(engine);
        reboot(&host);
        drop(start(&host));
        assert!(!DISKS.iter().any(|disk| has_label(&host, disk)), "it goes on when all are there");
    }
}

#[test]
fn nothing_is_made_in_a_vg_that_is_being_deleted() {
    let probe = Op::DeleteVg.before();
    let engine = start(&probe);
    let first = probe.effects() + 1;
    Op::DeleteVg.run(&engine).unwrap();
    for number in first..=probe.effects() {
        let host = Op::DeleteVg.before();
        let engine = start(&host);
        for n in number..number + 3 {
            host.fail_effect(n, Fault::Error(HostErrorKind::Io));
        }
        if Op::DeleteVg.run(&engine).is_ok() {
            continue;
        }
        host.fail_next(EffectKind::DurableWrite, Fault::Error(HostErrorKind::Io));
        let made = Op::CreatePool.run(&engine).is_ok();
        drop(engine);
        reboot(&host);
        let kept = inventory(&start(&host)).contains(&"pool tank Ready".to_owned());
        assert_eq!(made, kept, "a pool that was acknowledged is there, failure at {number}");
    }
}

#[test]
fn a_change_that_waited_for_a_deletion_finds_the_vg_gone() {
    for round in 0..40 {
        let host = Op::DeleteVg.before();
        let engine = std::sync::Arc::new(start(&host));
        let other = engine.clone();
        let thread = std::thread::spawn(move || {
            (0..(round % 20) * 200).for_each(|_| std::hint::spin_loop());
            Op::CreatePool.run(&other)
        });
        let deleted = Op::DeleteVg.run(&engine).is_ok();
        let made = thread.join().unwrap().is_ok();
        assert!(deleted != made, "deleted {deleted}, made {made}");
        use vol_engine::host::HostRead as _;
        assert_eq!(host.dm_devices().unwrap().len(), if made { 3 } else { 0 });
    }
}

#[test]
fn a_damaged_record_in_the_middle_of_the_only_log_freezes_the_vg() {
    let host = machine();
    let engine = start(&host);
    let mut request = vg_request(&["/dev/sda"]);
    request.metadata_copies = 1;
    engine.create_vg(&request, false).unwrap();
    engine.create_pool(&pool_request(), false).unwrap();
    Op::CreateRaw.run(&engine).unwrap();
    drop(engine);
    reboot(&host);
    // The log begins at 2 MiB; its second record is the beginning of the pool.
    host.damage("/dev/sda", 2 * Bytes::MIB + 4096, 4096, Damage::Junk);
    let engine = start(&host);
    assert!(problems(&engine).contains("is damaged behind commit"), "{}", problems(&engine));
    Op::CreatePool.run(&engine).unwrap_err();
}

#[test]
fn with_another_copy_a_damaged_log_costs_nothing() {
    let host = Op::SnapshotIdle.before();
    let before = inventory(&start(&host));
    reboot(&host);
    host.damage("/dev/sda", 2 * Bytes::MIB + 4096, 4096, Damage::Junk);
    assert_eq!(inventory(&start(&host)), before);
    reboot(&host);
    host.remove_disk("/dev/sdb");
    assert_eq!(inventory(&start(&host)), before, "and the damaged copy was brought up to date");
}

#[test]
fn a_loop_device_that_is_stuck_keeps_no_vg_closed() {
    use vol_engine::host::HostMut as _;
    let host = Op::CreateRaw.before();
    host.create_file(std::path::Path::new("/var/lib/volumed/junk.img"), Bytes::gib(1)).unwrap();
    reboot(&host);
    host.fail_next(EffectKind::DetachLoop, Fault::Error(HostErrorKind::Busy));
    let engine = start(&host);
    assert!(inventory(&engine).contains(&"pool tank Ready".to_owned()));
    assert!(problems(&engine).contains("junk.img carries no PV"), "{}", problems(&engine));
}

#[test]
fn a_pool_whose_metadata_became_blank_is_not_handed_to_the_kernel_to_format() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    let (pv, at) = engine.vgs()[0].read(|catalog| {
        let first = catalog.pools().next().unwrap().metadata[0];
        let offset = catalog.pv(first.pv).unwrap().data_offset.get() + catalog.bytes(first.start).get();
        (catalog.pv(first.pv).unwrap().path_hint.clone(), offset)
    });
    drop(engine);
    reboot(&host);
    host.damage(&pv, at, 4096, Damage::Zeros);
    let engine = start(&host);
    assert!(problems(&engine).contains("pool tank is not active"), "{}", problems(&engine));
    assert_eq!(host.peek(&pv, at, 4096), vec![0; 4096], "nobody wrote there");
}

#[test]
fn what_could_not_be_settled_is_shown_and_tried_again() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    host.fail_next(EffectKind::Mkfs, Fault::Error(HostErrorKind::Tool));
    host.fail_next(EffectKind::DmRemove, Fault::Error(HostErrorKind::Busy));
    Op::CreateFormatted.run(&engine).unwrap_err();
    assert!(problems(&engine).contains("volume pg was cut short"), "{}", problems(&engine));
    engine.refresh();
    assert_eq!(inventory(&engine), ["pool tank Ready", "vg data Ready"]);
    sound(&host, &engine, "settled by the timer");
}

#[test]
fn a_pool_that_did_not_come_up_is_tried_again() {
    let host = Op::CreateRaw.before();
    reboot(&host);
    host.fail_next(EffectKind::DmCreate, Fault::Error(HostErrorKind::Io));
    let engine = start(&host);
    assert!(problems(&engine).contains("pool tank is not active"), "{}", problems(&engine));
    engine.refresh();
    sound(&host, &engine, "after the timer");
    Op::CreateRaw.run(&engine).unwrap();
}
