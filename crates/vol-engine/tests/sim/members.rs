//! Extending, reducing, renaming, exporting and importing; what is refused; disks that go and come back stale (F4, F5, F6).

use std::path::{Path, PathBuf};

use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_engine::{Engine, EngineError, PvName, ReduceVg};
use vol_sim::{CrashMode, Fault, SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

fn with_sdc(host: SimHost) -> SimHost {
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)));
    host
}

fn reboot(host: &SimHost) {
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.restart();
}

fn codes(engine: &Engine<SimHost>) -> Vec<&'static str> {
    let mut all = engine.scan_problems();
    all.extend(engine.vgs().iter().flat_map(|vg| vg.view().problems.clone()));
    let mut codes: Vec<_> = all.into_iter().map(|problem| problem.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The refusal's text and hint; and that nothing was written for it.
#[track_caller]
fn refused<T: std::fmt::Debug>(host: &SimHost, run: impl FnOnce() -> Result<T, EngineError>) -> String {
    let effects = host.effects();
    match run() {
        Err(EngineError::Refused(refusal)) => {
            assert_eq!(host.effects(), effects, "a refusal did something: {refusal}");
            format!("{refusal} ({})", refusal.hint.clone().unwrap_or_default())
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn pvs(engine: &Engine<SimHost>) -> usize {
    engine.vgs()[0].read(|catalog| catalog.pvs().count())
}

fn pv_on(engine: &Engine<SimHost>, disk: &str) -> PvId {
    engine.vgs()[0].read(|catalog| catalog.pvs().find(|pv| pv.path_hint == disk).unwrap().id)
}

#[test]
fn an_extended_vg_has_room_on_the_new_disk_and_keeps_it_over_a_restart() {
    let host = Op::ExtendVg.before();
    let engine = start(&host);
    let free = engine.vgs()[0].read(|catalog| catalog.free_extents_total());
    Op::ExtendVg.run(&engine).unwrap();
    assert_eq!(engine.vgs()[0].view().copies, (3, 3), "the new PV carries a copy");
    assert!(engine.vgs()[0].read(|catalog| catalog.free_extents_total()) > free);
    let before = inventory_with_pvs(&engine);
    reboot(&host);
    let engine = start(&host);
    assert_eq!(inventory_with_pvs(&engine), before);
    sound(&host, &engine, "extended");
    // What was committed since is on the new copy too: it is as good as the others.
    Op::CreateRaw.run(&engine).unwrap();
    engine.settle_owed();
    reboot(&host);
    host.remove_disk("/dev/sda");
    assert!(inventory(&start(&host)).contains(&"volume raw Ready Raw".to_owned()));
}

#[test]
fn a_vg_is_extended_by_a_file_and_reduced_by_it_again() {
    let host = Op::CreatePool.before();
    let engine = start(&host);
    let file = PathBuf::from("/var/lib/volumed/more.img");
    let mut request = extend_request(&[]);
    request.files = vec![(file.clone(), Bytes::gib(1))];
    engine.extend_vg(&request, false).unwrap();
    reboot(&host);
    let engine = start(&host);
    assert_eq!(pvs(&engine), 3);
    let request = ReduceVg { pvs: vec![PvName::Path(file.clone())], ..reduce_request(&[]) };
    engine.reduce_vg(&request, false).unwrap();
    assert_eq!(pvs(&engine), 2);
    assert!(!host.path_exists(&file).unwrap() && !matches!(host.loop_device_of(&file), Ok(Some(_))));
    assert_eq!(host.backing_files().unwrap(), Vec::<PathBuf>::new());
    Op::CreatePool.run(&engine).unwrap();
    sound(&host, &engine, "reduced by a file");
}

#[test]
fn an_extension_that_fails_half_way_leaves_no_trace_on_any_of_its_disks() {
    let probe = Op::ExtendVg.before();
    let first = probe.effects() + 1;
    let engine = start(&probe);
    Op::ExtendVg.run(&engine).unwrap();
    for number in first..=probe.effects() {
        let host = Op::ExtendVg.before();
        let engine = start(&host);
        host.fail_effect(number, Fault::Error(HostErrorKind::Io));
        let Err(error) = Op::ExtendVg.run(&engine) else { continue };
        assert_eq!(pvs(&engine), 2, "failure at {number}: {error}");
        let engine = if engine.vgs()[0].view().problems.iter().any(|problem| problem.code == "metadata-frozen") {
            // The commit itself failed: it may be found, so the label stays, and opening decides.
            reboot(&host);
            let engine = start(&host);
            wipe_unknown(&engine);
            engine
        } else {
            engine
        };
        // It can be asked for again at once.
        if pvs(&engine) == 2 {
            Op::ExtendVg.run(&engine).unwrap_or_else(|again| panic!("after a failure at {number} ({error}): {again}"));
        }
        sound(&host, &engine, &format!("extended after a failure at {number}"));
    }
}

#[test]
fn a_copy_of_an_extension_that_failed_is_not_written_to_any_more() {
    let host = Op::ExtendVg.before();
    let engine = start(&host);
    let (probe, first) = (host.fork(), host.effects());
    let other = start(&probe);
    let begin = probe.effects();
    Op::ExtendVg.run(&other).unwrap();
    let log = probe.effect_log();
    let reread = log.iter().find(|effect| effect.number > begin && effect.what.contains("partition")).unwrap();
    host.fail_effect(first + (reread.number - begin) - 1, Fault::Error(HostErrorKind::Io));
    let error = Op::ExtendVg.run(&engine).unwrap_err();
    assert!(error.to_string().contains("mark the disk"), "{error}");
    let mut other = vg_request(&["/dev/sdc"]);
    other.name = name("other");
    engine.create_vg(&other, false).unwrap();
    let effects = host.effects();
    Op::CreateRaw.run(&engine).unwrap();
    let written: Vec<_> = host
        .effect_log()
        .into_iter()
        .filter(|effect| effect.number > effects && effect.what.contains("/dev/sdc"))
        .collect();
    assert!(written.is_empty(), "{written:?}");
}

#[test]
fn what_cannot_extend_a_vg_is_refused_and_named() {
    let host = with_sdc(Op::CreatePool.before());
    host.add_disk(SimDisk::new("/dev/sdd", Bytes::gib(4)).sector_size(4096));
    host.add_disk(SimDisk::new("/dev/sde", Bytes::mib(10)));
    let engine = start(&host);
    let extend = |disks: &[&str]| refused(&host, || engine.extend_vg(&extend_request(disks), false));
    assert!(extend(&[]).starts_with("no disk was named"));
    let mixed = extend(&["/dev/sdd"]);
    assert!(mixed.contains("has logical sectors of 512 bytes, what was given has 4096"), "F25: {mixed}");
    let all = extend(&["/dev/sde", "/dev/sda", "/dev/nope"]);
    for word in ["/dev/sde is too small", "/dev/sda belongs to the volume group data", "/dev/nope cannot be used"] {
        assert!(all.contains(word), "{word}: {all}");
    }
    let request = vol_engine::ExtendVg { vg: name("nope"), ..extend_request(&["/dev/sdc"]) };
    assert!(refused(&host, || engine.extend_vg(&request, false)).contains("there is no volume group nope"));
}

#[test]
fn a_reduction_moves_the_copy_to_a_pv_that_has_none() {
    let host = with_sdc(machine());
    let engine = start(&host);
    let mut request = vg_request(&["/dev/sda", "/dev/sdb", "/dev/sdc"]);
    request.metadata_copies = 2;
    engine.create_vg(&request, false).unwrap();
    let first = engine.vgs()[0].read(|catalog| catalog.pvs().find(|pv| pv.metadata).unwrap().path_hint.clone());
    engine.reduce_vg(&reduce_request(&[&first]), false).unwrap();
    assert_eq!(engine.vgs()[0].view().copies, (2, 2));
    Op::CreatePool.run(&engine).unwrap();
    reboot(&host);
    let engine = start(&host);
    sound(&host, &engine, "reduced");
    assert_eq!(inventory_with_pvs(&engine), ["pool tank Ready", "vg data Ready", "2 PVs, 2 copies"]);
    // The disk is free again.
    let mut other = vg_request(&[&first]);
    other.name = name("other");
    engine.create_vg(&other, false).unwrap();
}

#[test]
fn what_must_not_be_taken_out_is_refused() {
    let host = Op::ReduceVg.before();
    let engine = start(&host);
    let reduce = |request: &ReduceVg| refused(&host, || engine.reduce_vg(request, false));
    let used = reduce(&reduce_request(&["/dev/sda", "/dev/sdb"]));
    assert!(used.contains("holds extents of data/tank"), "{used}");
    assert!(reduce(&reduce_request(&[])).starts_with("no PV was named"));
    assert!(reduce(&reduce_request(&["/dev/nope"])).contains("/dev/nope is no PV of volume group data"));
    let there = reduce(&ReduceVg { missing: true, ..reduce_request(&["/dev/sdc"]) });
    assert!(there.contains("is there; --missing is for PVs that are not"), "{there}");
    Op::DeletePool.run(&engine).unwrap();
    let all = reduce(&reduce_request(&["/dev/sda", "/dev/sdb", "/dev/sdc"]));
    assert!(all.contains("without any PV") && all.contains("vg delete data"), "{all}");
}

#[test]
fn a_missing_pv_is_taken_out_and_is_unknown_when_it_comes_back_f4() {
    let host = Op::ReduceVg.before();
    reboot(&host);
    host.remove_disk("/dev/sdc");
    let engine = start(&host);
    assert!(codes(&engine).contains(&"pv-missing"));
    let named = ReduceVg { pvs: vec![PvName::Id(pv_on(&engine, "/dev/sdc"))], ..reduce_request(&[]) };
    let text = refused(&host, || engine.reduce_vg(&named, false));
    assert!(text.contains("is missing") && text.contains("--missing"), "{text}");
    engine.reduce_vg(&ReduceVg { missing: true, ..named }, false).unwrap();
    sound(&host, &engine, "without the lost disk");
    Op::CreateRaw.run(&engine).unwrap();
    let newest = inventory_with_pvs(&engine);
    reboot(&host);
    host.reattach("/dev/sdc");
    let engine = start(&host);
    assert_eq!(inventory_with_pvs(&engine), newest, "it is not adopted again");
    assert_eq!(codes(&engine), ["pv-unknown"]);
    assert_eq!(engine.unknown_pvs()[0].node, Path::new("/dev/sdc"));
    // As it is, it is not taken; once wiped it is a disk like any other.
    let text = refused(&host, || engine.extend_vg(&extend_request(&["/dev/sdc"]), false));
    assert!(text.contains("volctl pv wipe"), "{text}");
    Op::WipePv.run(&engine).unwrap();
    assert_eq!(codes(&engine), Vec::<&str>::new());
    Op::ExtendVg.run(&engine).unwrap();
    sound(&host, &engine, "extended by the disk that was lost");
}

#[test]
fn a_vg_that_lost_its_majority_goes_on_after_an_operators_word_and_the_lost_disk_does_not_win_f4() {
    let host = machine();
    let engine = start(&host);
    Op::CreateVg.run(&engine).unwrap();
    drop(engine);
    reboot(&host);
    host.remove_disk("/dev/sdb");
    let engine = start(&host);
    assert!(codes(&engine).contains(&"metadata-frozen"));
    let missing = ReduceVg { missing: true, ..reduce_request(&[]) };
    let text = refused(&host, || engine.reduce_vg(&missing, false));
    assert!(text.contains("takes no changes") && text.contains("--force"), "{text}");
    engine.reduce_vg(&ReduceVg { force: true, ..missing.clone() }, false).unwrap();
    assert_eq!(inventory_with_pvs(&engine), ["vg data Ready", "1 PVs, 1 copies"]);
    sound(&host, &engine, "after the operator's word");
    assert!(matches!(engine.reduce_vg(&missing, false), Ok(vol_engine::Done::Unchanged(_))), "nothing is missing");
    Op::CreatePool.run(&engine).unwrap();
    let newest = inventory_with_pvs(&engine);
    reboot(&host);
    host.reattach("/dev/sdb");
    let engine = start(&host);
    assert_eq!(inventory_with_pvs(&engine), newest);
    assert_eq!(codes(&engine), ["pv-unknown"]);
}

#[test]
fn a_pool_of_a_lost_disk_is_given_up_by_name_and_only_then_is_the_disk_f6() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    Op::CreateFormatted.run(&engine).unwrap();
    let (data, tank) = (name("data"), name("tank"));
    let text = refused(&host, || engine.delete_lost_pool(&data, &tank, false, false));
    assert!(text.contains("all disks of pool data/tank are there"), "{text}");
    drop(engine);
    reboot(&host);
    host.remove_disk("/dev/sdb");
    let engine = start(&host);
    let force = ReduceVg { missing: true, force: true, ..reduce_request(&[]) };
    let text = refused(&host, || engine.reduce_vg(&force, false));
    assert!(text.contains("holds extents of data/tank") && text.contains("pool delete data/tank --lost"), "{text}");
    let text = refused(&host, || engine.delete_lost_pool(&data, &tank, false, false));
    assert!(text.contains("takes no changes") && text.contains("--force"), "{text}");
    engine.delete_lost_pool(&data, &tank, true, false).unwrap();
    engine.reduce_vg(&force, false).unwrap();
    assert_eq!(inventory_with_pvs(&engine), ["vg data Ready", "1 PVs, 1 copies"]);
    sound(&host, &engine, "without what was lost");
}

#[test]
fn a_rename_leaves_mounts_alone_and_an_absent_disk_learns_of_it_later() {
    let host = Op::ReduceVg.before();
    let engine = start(&host);
    Op::CreateFormatted.run(&engine).unwrap();
    Op::Mount.run(&engine).unwrap();
    let text = refused(&host, || engine.rename_vg(&name("nope"), &name("big"), false));
    assert!(text.contains("no volume group nope"), "{text}");
    assert!(matches!(engine.rename_vg(&name("data"), &name("data"), false), Ok(vol_engine::Done::Unchanged(_))));
    host.remove_disk("/dev/sdc");
    Op::RenameVg.run(&engine).unwrap();
    assert!(inventory(&engine).contains(&"vg big Ready".to_owned()));
    assert_eq!(engine.vgs()[0].view().kernel.mounts.len(), 1);
    let label = |disk: &str| {
        let at = Bytes::MIB + 64 * 1024;
        vol_format::label::decode(&host.peek(disk, at, 4096), at).unwrap().unwrap().0.vg_name.to_string()
    };
    assert_eq!(label("/dev/sda"), "big");
    reboot(&host);
    host.reattach("/dev/sdc");
    assert_eq!(label("/dev/sdc"), "data");
    let engine = start(&host);
    assert_eq!(label("/dev/sdc"), "big");
    sound(&host, &engine, "renamed");
}

#[test]
fn a_name_that_another_vg_has_is_refused() {
    let host = with_sdc(Op::CreatePool.before());
    let engine = start(&host);
    let mut other = vg_request(&["/dev/sdc"]);
    other.name = name("big");
    engine.create_vg(&other, false).unwrap();
    let text = refused(&host, || engine.rename_vg(&name("data"), &name("big"), false));
    assert!(text.contains("there is a volume group named big already"), "{text}");
}

#[test]
fn an_exported_vg_is_left_alone_until_it_is_imported() {
    let host = Op::Mount.before();
    let engine = start(&host);
    Op::Mount.run(&engine).unwrap();
    let text = refused(&host, || engine.export_vg(&name("data"), false));
    assert!(text.contains("data/pg is mounted at /srv/pg"), "{text}");
    Op::Unmount.run(&engine).unwrap();
    Op::ExportVg.run(&engine).unwrap();
    assert_eq!(host.dm_devices().unwrap().len(), 0, "its pool is down");
    sound(&host, &engine, "exported");
    for round in ["at once", "after a reboot"] {
        let text = refused(&host, || engine.create_volume(&volume_request("x", None), false));
        assert!(text.contains("is exported") && text.contains("vg import data"), "{round}: {text}");
        let text = refused(&host, || engine.delete_vg(&name("data"), false));
        assert!(text.contains("is exported"), "{round}: {text}");
        reboot(&host);
    }
    let engine = start(&host);
    engine.refresh();
    engine.scan(&[], true).unwrap();
    assert_eq!(host.dm_devices().unwrap().len(), 0, "nothing of it is activated");
    assert_eq!(codes(&engine), Vec::<&str>::new(), "and that is no problem");
    Op::ImportVg.run(&engine).unwrap();
    Op::Mount.run(&engine).unwrap();
    assert!(matches!(engine.import_vg(&name("data"), false), Ok(vol_engine::Done::Unchanged(_))));
    sound(&host, &engine, "imported");
}

#[test]
fn an_attached_volume_forbids_an_export_and_one_that_stayed_active_does_not() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    Op::CreateRaw.run(&engine).unwrap();
    engine.attach(&name("data"), &volume("raw"), false).unwrap();
    let text = refused(&host, || engine.export_vg(&name("data"), false));
    assert!(text.contains("data/raw is attached"), "{text}");
    engine.detach(&name("data"), &volume("raw"), false).unwrap();

    Op::CreateFormatted.run(&engine).unwrap();
    Op::Mount.run(&engine).unwrap();
    host.fail_next(vol_sim::EffectKind::DmRemove, Fault::Error(HostErrorKind::Busy));
    Op::Unmount.run(&engine).unwrap();
    assert_eq!(host.dm_devices().unwrap().len(), 4, "it stayed");
    Op::ExportVg.run(&engine).unwrap();
    assert_eq!(host.dm_devices().unwrap().len(), 0);
}

#[test]
fn an_exported_vg_whose_disks_were_taken_away_is_forgotten_and_found_again() {
    let host = Op::ImportVg.before();
    let engine = start(&host);
    host.remove_disk("/dev/sda");
    host.remove_disk("/dev/sdb");
    engine.scan(&[], true).unwrap();
    assert_eq!(inventory(&engine), Vec::<String>::new());
    host.reattach("/dev/sda");
    host.reattach("/dev/sdb");
    engine.scan(&[], true).unwrap();
    Op::ImportVg.run(&engine).unwrap();
    sound(&host, &engine, "back again");
}

#[test]
fn what_must_not_be_wiped_is_refused() {
    let host = Op::WipePv.before();
    host.add_disk(SimDisk::new("/dev/sdd", Bytes::gib(4)));
    let engine = start(&host);
    let wipe = |disk: &str| refused(&host, || engine.wipe_pv(Path::new(disk), false, false));
    let text = wipe("/dev/sda");
    assert!(text.contains("/dev/sda is a PV of volume group data") && text.contains("vg reduce"), "{text}");
    assert!(wipe("/dev/sdd").contains("carries nothing of volumed"));
    engine.wipe_pv(Path::new("/dev/nope"), false, false).unwrap_err();
    host.add_signature(
        "/dev/sdc",
        vol_core::observed::Signature {
            usage: "filesystem".to_owned(),
            kind: "ext4".to_owned(),
            label: None,
            uuid: None,
        },
    );
    let text = wipe("/dev/sdc");
    assert!(text.contains("carries something else since: ext4"), "{text}");
    Op::ExportVg.run(&engine).unwrap();
    let text = wipe("/dev/sda");
    assert!(text.contains("which is exported") && text.contains("--force"), "{text}");
    engine.wipe_pv(Path::new("/dev/sda"), true, false).unwrap();
    engine.wipe_pv(Path::new("/dev/sdb"), true, false).unwrap();
    assert_eq!(inventory(&engine), Vec::<String>::new());
    Op::CreateVg.run(&engine).unwrap();
}

#[test]
fn a_disk_with_damaged_labels_is_wiped_too() {
    let host = Op::WipePv.before();
    for at in [64, 128] {
        host.damage("/dev/sdc", Bytes::MIB + at * 1024 + 100, 8, vol_sim::Damage::Junk);
    }
    let engine = start(&host);
    Op::WipePv.run(&engine).unwrap();
    Op::ExtendVg.run(&engine).unwrap();
    sound(&host, &engine, "wiped and taken");
}

#[test]
fn a_clone_of_a_disk_in_use_is_told_of_and_the_running_set_is_untouched_f5() {
    let host = Op::Mount.before();
    let engine = start(&host);
    Op::Mount.run(&engine).unwrap();
    host.clone_disk("/dev/sdb", "/dev/sdz", "other");
    engine.scan(&[], true).unwrap();
    assert_eq!(codes(&engine), ["pv-twice"]);
    Op::CreateRaw.run(&engine).unwrap();
    engine.wipe_pv(Path::new("/dev/sdz"), false, false).unwrap();
    engine.scan(&[], true).unwrap();
    sound(&host, &engine, "the copy is wiped");
}
