//! The metadata store under damage: which copy is believed, and when nobody is.

use vol_engine::host::HostErrorKind;
use vol_sim::{Damage, Fault, SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

fn three_disks() -> SimHost {
    let host = machine();
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)));
    let engine = start(&host);
    engine.create_vg(&vg_request(&["/dev/sda", "/dev/sdb", "/dev/sdc"]), false).unwrap();
    engine.create_pool(&pool_request(), false).unwrap();
    host
}

fn problems(engine: &vol_engine::Engine<SimHost>) -> Vec<String> {
    engine
        .vgs()
        .iter()
        .flat_map(|vg| vg.view().problems.iter().map(|one| one.message.clone()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_copy_that_fails_is_left_behind_and_brought_up_to_date_at_the_next_start() {
    let host = three_disks();
    let engine = start(&host);
    host.fail_next(vol_sim::EffectKind::DurableWrite, Fault::Error(HostErrorKind::Io));
    Op::CreateRaw.run(&engine).unwrap();
    assert!(problems(&engine)[0].contains("metadata copy"), "{:?}", problems(&engine));
    let newest = inventory(&engine);
    let engine = start(&host);
    assert_eq!(problems(&engine), Vec::<String>::new(), "brought up to date");
    assert_eq!(engine.vgs()[0].view().copies, (3, 3));
    // Each copy by itself tells the whole story again.
    for keep in ["/dev/sda", "/dev/sdb", "/dev/sdc"] {
        let host = host.fork();
        host.crash(vol_sim::CrashMode::LoseAll);
        host.restart();
        for disk in ["/dev/sda", "/dev/sdb", "/dev/sdc"] {
            if disk != keep {
                host.remove_disk(disk);
            }
        }
        assert_eq!(inventory(&start(&host)), newest, "{keep} alone");
    }
}

#[test]
fn without_a_majority_of_the_copies_nothing_is_changed_and_all_can_be_read() {
    let host = three_disks();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    host.fail_device("/dev/sdb", Fault::Error(HostErrorKind::Io));
    host.fail_device("/dev/sdc", Fault::Error(HostErrorKind::Io));
    engine.create_volume(&volume_request("x", None), false).unwrap_err();
    let error = engine.create_volume(&volume_request("y", None), false).unwrap_err();
    assert!(error.to_string().contains("2 copies") || error.to_string().contains("3 copies"), "{error}");
    assert!(inventory(&engine).contains(&"volume raw Ready Raw".to_owned()));
}

#[test]
fn one_damaged_label_copy_does_not_matter_and_two_take_the_disk_out() {
    let host = three_disks();
    let area = Bytes::MIB;
    host.damage("/dev/sda", area + 64 * 1024, 4096, Damage::Junk);
    assert_eq!(problems(&start(&host)), Vec::<String>::new());
    host.damage("/dev/sda", area + 128 * 1024, 4096, Damage::Zeros);
    let engine = start(&host);
    assert!(problems(&engine).iter().any(|text| text.contains("is missing")), "{:?}", problems(&engine));
}

#[test]
fn a_wiped_metadata_zone_is_outvoted_by_the_other_copies() {
    let host = three_disks();
    let before = inventory(&start(&host));
    host.damage("/dev/sda", 2 * Bytes::MIB, 16 * Bytes::MIB, Damage::Zeros);
    let engine = start(&host);
    assert_eq!(inventory(&engine), before);
}

#[test]
fn a_stale_disk_that_comes_back_does_not_win() {
    let host = three_disks();
    let old = host.disk_image("/dev/sda");
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    let newest = inventory(&engine);
    drop(engine);
    host.crash(vol_sim::CrashMode::LoseAll);
    host.set_disk_image("/dev/sda", &old);
    host.restart();
    let engine = start(&host);
    assert_eq!(inventory(&engine), newest);
}

#[test]
fn a_cloned_disk_is_used_from_neither_side() {
    let host = three_disks();
    host.crash(vol_sim::CrashMode::LoseAll);
    host.restart();
    host.clone_disk("/dev/sdc", "/dev/sdz", "other");
    let engine = start(&host);
    let found = problems(&engine);
    assert!(found.iter().any(|text| text.contains("more than once")), "{found:?}");
}

#[test]
fn thousands_of_changes_go_round_the_log_and_are_all_found_again() {
    let host = SimHost::new(3);
    host.keep_trace(false);
    host.add_disk(SimDisk::new("/dev/sda", Bytes::gib(1)));
    let engine = start(&host);
    engine.create_vg(&vg_request(&["/dev/sda"]), false).unwrap();
    engine.create_pool(&pool_request(), false).unwrap();
    for round in 0..400u32 {
        let mut request = volume_request(&format!("v{}", round % 7), None);
        request.size = Bytes::mib(64);
        engine.create_volume(&request, false).unwrap();
        engine.delete_volume(&name("data"), &volume(&format!("v{}", round % 7)), false).unwrap();
        if round % 50 == 0 {
            let again = start(&host.fork());
            assert_eq!(inventory(&again), inventory(&engine), "round {round}");
        }
    }
    let counters = engine.vgs()[0].view().counters;
    assert!(counters.checkpoints >= 3, "the log went round only {} times", counters.checkpoints);
    assert_eq!(inventory(&start(&host)), inventory(&engine));
    sound(&host, &engine, "after many rounds");
}

#[test]
fn a_disk_of_a_newer_release_is_told_of_and_not_taken_even_with_wipe() {
    use vol_format::label;
    let host = three_disks();
    for at in [Bytes::MIB + 64 * 1024, Bytes::MIB + 128 * 1024] {
        let block = host.peek("/dev/sdc", at, 4096);
        let (mut found, copy) = label::decode(&block, at).unwrap().unwrap();
        found.features.incompat = 1 << 9;
        host.poke("/dev/sdc", at, &label::encode(&found, copy));
    }
    let engine = start(&host);
    let problems: Vec<_> = engine.scan_problems().into_iter().map(|problem| problem.code).collect();
    assert_eq!(problems, ["pv-newer"]);
    let mut request = vg_request(&["/dev/sdc"]);
    request.name = name("other");
    request.wipe = true;
    let error = engine.create_vg(&request, false).unwrap_err();
    assert!(error.to_string().contains("newer volumed"), "{error}");
}
