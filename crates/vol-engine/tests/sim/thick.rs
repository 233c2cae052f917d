//! Thick volumes: what they come to, what is refused, and that nobody reads what others wrote.

use std::collections::BTreeSet;
use std::path::Path;

use vol_core::dm::Device;
use vol_core::plan::fs::NewSize;
use vol_core::plan::thick::Layout;
use vol_core::{RefusalCode, check};
use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_engine::moving::Pace;
use vol_engine::{CreateThick, Done, Engine, EngineError, PvName};
use vol_sim::{CrashMode, Fault, SimHost};
use vol_types::*;

use super::bench::*;

const MIB: u64 = 1 << 20;

/// A VG of two disks, and nothing in it.
fn group() -> (SimHost, Engine<SimHost>) {
    let host = machine();
    let engine = start(&host);
    engine.create_vg(&vg_request(&["/dev/sda", "/dev/sdb"]), false).unwrap();
    (host, engine)
}

fn object(engine: &Engine<SimHost>, of: &str) -> Volume {
    engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(of)).cloned()).unwrap_or_else(|| panic!("no {of}"))
}

/// The device of a volume, attached.
fn attached(host: &SimHost, engine: &Engine<SimHost>, of: &str) -> vol_core::observed::DevNumber {
    engine.attach(&name("data"), &volume(of), false).unwrap();
    host.dm_device(&Device::Volume(object(engine, of).id).uuid()).unwrap().unwrap().dev
}

fn read(host: &SimHost, engine: &Engine<SimHost>, of: &str) -> Vec<u8> {
    let dev = attached(host, engine, of);
    let all = host.read_bytes(dev, 0, object(engine, of).size.get()).unwrap();
    engine.detach(&name("data"), &volume(of), false).unwrap();
    all
}

/// Some of each 64 KiB, each of them different.
fn pattern(len: u64, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    for (at, block) in bytes.chunks_mut(65536).enumerate() {
        block[..512].fill((u8::try_from(at % 50).unwrap() + seed) | 1);
        block[65024..].fill(seed);
    }
    bytes
}

fn write(host: &SimHost, engine: &Engine<SimHost>, of: &str, seed: u8) -> Vec<u8> {
    let dev = attached(host, engine, of);
    let bytes = pattern(object(engine, of).size.get(), seed);
    host.write_bytes(dev, 0, &bytes).unwrap();
    engine.detach(&name("data"), &volume(of), false).unwrap();
    bytes
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn delete_now(engine: &Engine<SimHost>, of: &str) {
    engine.delete_volume(&name("data"), &volume(of), false).unwrap();
}

fn refused(result: Result<Done<VolumeId>, EngineError>, code: RefusalCode, words: &[&str]) {
    let Err(EngineError::Refused(refusal)) = result else { panic!("not refused: {result:?}") };
    let said = format!("{} {}", refusal.message, refusal.hint.clone().unwrap_or_default());
    assert_eq!(refusal.code, code, "{said}");
    for word in words {
        assert!(said.contains(word), "{said:?} does not say {word:?}");
    }
}

fn free(engine: &Engine<SimHost>) -> Extents {
    engine.vgs()[0].read(vol_core::Catalog::free_extents_total)
}

#[test]
fn a_thick_volume_is_made_once_grows_and_gives_its_extents_back() {
    let (host, engine) = group();
    let all = free(&engine);
    let requests = [("log", 1), ("wide", 2)].map(|(of, stripes)| (of, stripes, thick_request(of, stripes)));
    for (_, _, request) in &requests {
        assert!(changed(engine.create_thick(request, false).unwrap()));
    }
    for (of, stripes, request) in requests {
        assert!(!changed(engine.create_thick(&request, false).unwrap()), "the same request is the same volume");
        assert_eq!(host.dm_devices().unwrap().len(), 0, "nothing is active before it is attached");
        assert!(is_zero(&read(&host, &engine, of)));
        let bytes = write(&host, &engine, of, 9);
        assert_eq!(read(&host, &engine, of), bytes);
        // Attached, and by a size that is no whole number of extents.
        let dev = attached(&host, &engine, of);
        engine.resize_volume(&name("data"), &volume(of), NewSize::By(Bytes::mib(9)), false).unwrap();
        assert_eq!(object(&engine, of).size, Bytes::mib(if stripes == 2 { 32 } else { 28 }));
        let grown = host.read_bytes(dev, 0, object(&engine, of).size.get()).unwrap();
        assert!(grown.starts_with(&bytes) && is_zero(&grown[bytes.len()..]));
        engine.detach(&name("data"), &volume(of), false).unwrap();
        assert_eq!(engine.vgs()[0].read(check::violations), Vec::<String>::new());
    }
    assert_eq!(object(&engine, "log").thick().unwrap().segments.len(), 2, "there was another one behind it");
    let pvs: BTreeSet<_> = object(&engine, "wide").thick().unwrap().segments.iter().map(|one| one.pv).collect();
    assert_eq!(pvs.len(), 2);
    delete_now(&engine, "log");
    delete_now(&engine, "wide");
    assert_eq!(free(&engine), all);
    engine.delete_vg(&name("data"), false).unwrap();
    assert_eq!(host.violations(), Vec::<String>::new());
}

#[test]
fn what_is_deleted_can_be_taken_back_and_its_extents_are_wiped_for_who_gets_them() {
    let (host, engine) = group();
    let data = name("data");
    engine.create_thick(&thick_request("old", 1), false).unwrap();
    let bytes = write(&host, &engine, "old", 77);
    let at = object(&engine, "old").thick().unwrap().segments.clone();
    engine.keep_volume(&data, &volume("old"), false).unwrap();
    refused(engine.delete_vg(&data, false).map(|_| Done::Unchanged(object_id())), RefusalCode::Busy, &["thick", "old"]);
    engine.undelete_volume(&data, &volume("old"), false).unwrap();
    assert_eq!(read(&host, &engine, "old"), bytes);
    engine.keep_volume(&data, &volume("old"), false).unwrap();
    assert_eq!(engine.purge_due(0, &|| true), 1);
    assert!(matches!(engine.undelete_volume(&data, &volume("old"), false), Err(EngineError::Refused(_))));
    engine.create_thick(&thick_request("new", 1), false).unwrap();
    assert_eq!(object(&engine, "new").thick().unwrap().segments, at, "the same extents");
    assert!(is_zero(&read(&host, &engine, "new")), "somebody else's bytes");
}

fn object_id() -> VolumeId {
    VolumeId::from_bytes([0; 16])
}

#[test]
fn bytes_of_others_are_never_read_whatever_cuts_the_wiping_short() {
    let (host, engine) = group();
    engine.create_thick(&thick_request("old", 2), false).unwrap();
    write(&host, &engine, "old", 101);
    delete_now(&engine, "old");
    // What grows gets them too.
    engine.create_thick(&CreateThick { size: Bytes::mib(8), ..thick_request("small", 2) }, false).unwrap();
    let small = write(&host, &engine, "small", 3);
    host.crash(CrashMode::KeepAll);
    host.restart();
    drop(engine);
    let grow = |engine: &Engine<SimHost>| {
        engine.resize_volume(&name("data"), &volume("small"), NewSize::To(Bytes::mib(20)), false)
    };
    let create = |engine: &Engine<SimHost>| engine.create_thick(&thick_request("new", 2), false);
    type Request<'a> = (&'a str, &'a dyn Fn(&Engine<SimHost>) -> Result<Done<VolumeId>, EngineError>);
    let requests: [Request<'_>; 2] = [("new", &create), ("small", &grow)];
    let mut states = 0;
    for (of, request) in requests {
        let probe = host.fork();
        let engine = start(&probe);
        let first = probe.effects() + 1;
        request(&engine).unwrap();
        for number in first..=probe.effects() {
            for fault in [
                Fault::KillDaemonInside(1),
                Fault::PowerCutInside(1),
                Fault::PowerCutAfter,
                Fault::Error(HostErrorKind::Io),
                Fault::Torn,
            ] {
                let host = host.fork();
                let engine = start(&host);
                host.fail_effect(number, fault);
                let result = request(&engine);
                drop(engine);
                if host.is_dead() {
                    if fault.cuts_power() {
                        host.settle(CrashMode::Random);
                    }
                    host.restart();
                }
                host.clear_faults();
                let story = format!("{of}: {fault:?} at {number}: {result:?}");
                let engine = start(&host);
                engine.fill_unfinished(&|| true);
                request(&engine).unwrap_or_else(|error| panic!("{story}: {error}"));
                let bytes = read(&host, &engine, of);
                let own = if of == "small" { small.len() } else { 0 };
                assert_eq!(bytes[..own], small[..own], "{story}");
                assert!(is_zero(&bytes[own..]), "{story}: somebody else's bytes");
                sound(&host, &engine, &story);
                states += 1;
            }
        }
    }
    assert!(states > 60, "only {states}");
}

#[test]
fn a_wipe_that_was_cut_short_goes_on_where_it_was_noted() {
    let (host, engine) = group();
    // So slow that it is noted after each slice.
    host.set_move_rate(MIB);
    engine.set_pace(Pace { share: 100, rate: None });
    drop(engine);
    let request = CreateThick { size: Bytes::mib(64), ..thick_request("log", 1) };
    let probe = host.fork();
    let engine = start(&probe);
    let before = probe.effects();
    engine.create_thick(&request, false).unwrap();
    let half = before + (probe.effects() - before) / 2;
    drop(engine);
    let engine = start(&host);
    host.fail_effect(half, Fault::KillDaemonBefore);
    assert!(engine.create_thick(&request, false).is_err());
    drop(engine);
    host.restart();
    host.clear_faults();
    let engine = start(&host);
    let noted = object(&engine, "log").thick().unwrap().filled;
    assert!(noted >= Bytes::mib(8) && noted < Bytes::mib(64), "{noted}");
    refused(engine.attach(&name("data"), &volume("log"), false), RefusalCode::Busy, &["just being made"]);
    let wiped = host.counters().wiped;
    assert!(changed(engine.create_thick(&request, false).unwrap()), "the same request waits for the same volume");
    assert_eq!(host.counters().wiped - wiped, 64 * MIB - noted.get(), "what was noted is not wiped again");
    assert!(is_zero(&read(&host, &engine, "log")));
}

#[test]
fn what_cannot_be_wiped_is_not_handed_out_and_is_taken_back() {
    let (host, engine) = group();
    let all = free(&engine);
    let before = host.effects();
    let probe = host.fork();
    start(&probe).create_thick(&thick_request("log", 1), false).unwrap();
    let mut failures = 0;
    for number in before + 1..=probe.effects() {
        let host = host.fork();
        let engine = start(&host);
        host.fail_effect(number, Fault::Error(HostErrorKind::Io));
        let Err(error) = engine.create_thick(&thick_request("log", 1), false) else { continue };
        failures += 1;
        let story = format!("after the failure of effect {number}: {error:?}");
        let there = inventory(&engine).iter().any(|line| line.contains("volume log"));
        if story.contains("NoMajority") && there {
            // Nothing can be recorded now, so nothing taken back either: it is wiped, and handed out when that can be written down.
            assert_eq!(object(&engine, "log").state, VolumeState::Creating, "{story}");
            drop(engine);
            host.clear_faults();
            let engine = start(&host);
            engine.fill_unfinished(&|| true);
            assert!(is_zero(&read(&host, &engine, "log")), "{story}");
            continue;
        }
        assert_eq!(free(&engine), all, "{story}");
        assert_eq!(host.dm_devices().unwrap().len(), 0, "after the failure of effect {number}");
    }
    assert!(failures >= 4, "{failures}");
    drop(engine);
}

#[test]
fn a_copy_holds_what_its_source_held_and_the_source_cannot_be_written_to_meanwhile() {
    let (host, engine) = group();
    let data = name("data");
    engine.create_thick(&thick_request("src", 2), false).unwrap();
    let bytes = write(&host, &engine, "src", 40);
    attached(&host, &engine, "src");
    refused(engine.clone_volume(&clone_request("src", "copy"), false), RefusalCode::Busy, &["attached", "detach"]);
    engine.detach(&data, &volume("src"), false).unwrap();
    assert!(changed(engine.clone_volume(&clone_request("src", "copy"), false).unwrap()));
    assert!(!changed(engine.clone_volume(&clone_request("src", "copy"), false).unwrap()));
    assert_eq!(read(&host, &engine, "copy"), bytes);
    let other = write(&host, &engine, "copy", 41);
    assert_eq!((read(&host, &engine, "src"), read(&host, &engine, "copy")), (bytes, other));
    // One that is cut short: the daemon dies in the middle of the second.
    let probe = host.fork();
    let second = start(&probe);
    let before = probe.effects();
    second.clone_volume(&clone_request("src", "later"), false).unwrap();
    let half = before + (probe.effects() - before) / 2;
    drop((second, engine));
    let engine = start(&host);
    host.fail_effect(half, Fault::KillDaemonBefore);
    assert!(engine.clone_volume(&clone_request("src", "later"), false).is_err());
    drop(engine);
    host.restart();
    host.clear_faults();
    let engine = start(&host);
    assert_eq!(object(&engine, "later").state, VolumeState::Creating);
    refused(engine.attach(&data, &volume("src"), false), RefusalCode::Busy, &["being copied to data/later"]);
    refused(engine.keep_volume(&data, &volume("src"), false), RefusalCode::Busy, &["being copied"]);
    refused(
        engine.resize_volume(&data, &volume("src"), NewSize::By(Bytes::mib(8)), false),
        RefusalCode::Busy,
        &["being copied"],
    );
    assert_eq!(engine.fill_unfinished(&|| true), 1);
    assert_eq!(read(&host, &engine, "later"), read(&host, &engine, "src"));
}

#[test]
fn an_unfinished_volume_can_be_given_up() {
    let (host, engine) = group();
    let all = free(&engine);
    let engine = cut_short(&host, engine, &thick_request("log", 1));
    assert_eq!(object(&engine, "log").state, VolumeState::Creating);
    engine.keep_volume(&name("data"), &volume("log"), false).unwrap();
    assert_eq!((free(&engine), host.dm_devices().unwrap().len()), (all, 0));
    assert_eq!(engine.fill_unfinished(&|| true), 0);
}

#[test]
fn a_volume_that_waits_for_its_file_system_is_told_of_and_can_be_given_up() {
    let (host, engine) = group();
    let request = CreateThick { fs: Some(FsKind::Ext4), ..thick_request("pg", 1) };
    let engine = cut_short(&host, engine, &request);
    engine.fill_unfinished(&|| true);
    let (pg, problems) = (object(&engine, "pg"), engine.vgs()[0].view().problems.clone());
    assert_eq!((pg.state, &pg.content), (VolumeState::Creating, &Content::Blank), "mkfs is for who asked for it");
    assert_eq!(pg.thick().unwrap().filled, pg.size);
    assert!(problems.iter().any(|one| one.message.contains("waits for the request")), "{problems:?}");
    assert_eq!(engine.fill_unfinished(&|| true), 0, "it is wiped once");
    engine.delete_volume(&name("data"), &volume("pg"), false).unwrap();
    assert!(engine.vgs()[0].view().problems.is_empty());
}

#[test]
fn f17_mkfs_on_a_thick_volume_cut_short_anywhere_goes_on_with_the_same_request_and_formats_nothing_twice() {
    let (host, engine) = group();
    let data = name("data");
    let at = Path::new("/srv/made");
    // Another had these extents.
    engine.create_thick(&thick_request("old", 1), false).unwrap();
    write(&host, &engine, "old", 77);
    delete_now(&engine, "old");
    drop(engine);
    host.keep_trace(false);
    let probe = host.fork();
    let engine = start(&probe);
    let first = probe.effects() + 1;
    Op::FormatThick.run(&engine).unwrap();
    let (mut states, mut waited, mut there) = (0, 0, 0);
    for number in first..=probe.effects() {
        for fault in ENDS_OF_MKFS {
            let host = host.fork();
            let engine = start(&host);
            host.fail_effect(number, fault);
            let answer = Op::FormatThick.run(&engine);
            let story = format!("{fault:?} at effect {number}: {answer:?}");
            if host.is_dead() {
                if fault.cuts_power() {
                    host.settle(CrashMode::Random);
                }
                host.restart();
            }
            drop(engine);
            host.clear_faults();
            let engine = start(&host);
            for fills in [false, true] {
                if fills {
                    engine.fill_unfinished(&|| true);
                }
                let found = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume("made")).map(|one| one.state));
                let mounted = engine.mount(&data, &volume("made"), at, false, false);
                assert_eq!(mounted.is_ok(), found == Some(VolumeState::Ready), "{story}: {found:?}, {mounted:?}");
                assert!(answer.is_err() || mounted.is_ok(), "{story}: acknowledged, and lost");
                if mounted.is_ok() {
                    assert_eq!(host.names(at).unwrap(), ["lost+found/"], "{story}");
                    engine.unmount(&data, &volume("made"), None, false).unwrap();
                    there += 1;
                }
            }
            waited += u32::from(waits(&engine));
            Op::FormatThick.run(&engine).unwrap_or_else(|error| panic!("{story}: made again: {error}"));
            engine.mount(&data, &volume("made"), at, false, false).unwrap();
            host.put_file(at, "f", b"kept").unwrap();
            let request = CreateThick { fs: Some(FsKind::Ext4), ..thick_request("made", 1) };
            assert!(!changed(engine.create_thick(&request, false).unwrap()), "{story}: it is made once");
            assert_eq!(host.read_file(at, "f").unwrap().unwrap(), b"kept", "{story}");
            assert!(host.mkfs_runs_on_disks().values().all(|runs| *runs <= 1), "{story}: formatted twice");
            // Among which: mkfs on what was not wiped to the last byte.
            sound(&host, &engine, &story);
            states += 1;
        }
    }
    assert!(states > 70 && waited > 10 && there > 5, "{states} states, {waited} waited, {there} were there");
}

#[test]
fn a_copy_that_is_larger_than_its_source_holds_its_bytes_and_zeroes_behind_them() {
    let (host, engine) = group();
    let data = name("data");
    // Old bytes where the copy will lie.
    engine.create_thick(&CreateThick { size: Bytes::mib(56), ..thick_request("old", 1) }, false).unwrap();
    write(&host, &engine, "old", 7);
    delete_now(&engine, "old");
    engine.create_thick(&thick_request("log", 1), false).unwrap();
    let bytes = write(&host, &engine, "log", 40);
    let planned = match engine.clone_volume(&larger_clone("log", 28), true).unwrap() {
        Done::Planned(plan) => plan,
        other => panic!("{other:?}"),
    };
    let fills = planned.steps.iter().filter(|step| step.action.kind() == "fill").count();
    assert_eq!(fills, 2, "one is a copy, one wipes the rest: {planned:?}");
    assert!(changed(engine.clone_volume(&larger_clone("log", 28), false).unwrap()));
    assert!(!changed(engine.clone_volume(&larger_clone("log", 28), false).unwrap()));
    let copy = read(&host, &engine, "copy");
    assert_eq!((copy.len() as u64, object(&engine, "copy").size), (Bytes::mib(28).get(), Bytes::mib(28)));
    assert!(copy.starts_with(&bytes) && is_zero(&copy[bytes.len()..]));
    assert_eq!(read(&host, &engine, "log"), bytes);
    refused(engine.delete_volume(&data, &volume("copy"), false), RefusalCode::Refused, &["protected"]);
    let smaller = vol_engine::CloneVolume { name: name("small"), ..larger_clone("log", 12) };
    refused(engine.clone_volume(&smaller, false), RefusalCode::Invalid, &["16.0 MiB or more"]);
    // One that is being made is not protected from being given up.
    let request = CreateThick { protect: true, ..thick_request("half", 1) };
    let engine = cut_short(&host, engine, &request);
    assert_eq!(object(&engine, "half").state, VolumeState::Creating);
    engine.delete_volume(&data, &volume("half"), false).unwrap();
    sound(&host, &engine, "a larger copy");
}

#[test]
fn a_thick_volume_with_a_file_system_grows_is_copied_and_each_goes_its_own_way() {
    let (host, engine) = group();
    let (data, at, copy) = (name("data"), Path::new("/srv/made"), Path::new("/srv/copy"));
    Op::FormatThick.run(&engine).unwrap();
    engine.mount(&data, &volume("made"), at, false, false).unwrap();
    host.put_file(at, "f", b"1").unwrap();
    engine.resize_volume(&data, &volume("made"), NewSize::To(Bytes::mib(28)), false).unwrap();
    engine.unmount(&data, &volume("made"), None, false).unwrap();
    engine.clone_volume(&clone_request("made", "copy"), false).unwrap();
    for (of, at) in [("made", at), ("copy", copy)] {
        engine.mount(&data, &volume(of), at, false, false).unwrap();
        assert_eq!(host.read_file(at, "f").unwrap().unwrap(), b"1", "{of}");
    }
    host.put_file(copy, "f", b"2").unwrap();
    assert_eq!(host.read_file(at, "f").unwrap().unwrap(), b"1");
    sound(&host, &engine, "a volume and its copy");
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.restart();
    let engine = start(&host);
    engine.mount(&data, &volume("copy"), copy, false, false).unwrap();
    assert_eq!(host.read_file(copy, "f").unwrap().unwrap(), b"2");
    engine.unmount(&data, &volume("copy"), None, false).unwrap();
    for of in ["made", "copy"] {
        delete_now(&engine, of);
    }
    // Whoever gets the extents finds nothing of it.
    engine.create_thick(&CreateThick { size: Bytes::mib(56), ..thick_request("next", 1) }, false).unwrap();
    assert!(is_zero(&read(&host, &engine, "next")));
    sound(&host, &engine, "deleted");
}

#[test]
fn each_wrong_request_is_refused_with_what_to_do() {
    let (_, engine) = group();
    let data = name("data");
    let with = |change: &dyn Fn(&mut CreateThick)| {
        let mut request = thick_request("log", 1);
        change(&mut request);
        engine.create_thick(&request, false)
    };
    let layout =
        |stripes, stripe_size: Option<u64>| Layout { stripes, stripe_size: stripe_size.map(Bytes), contiguous: false };
    refused(with(&|it| it.size = Bytes::ZERO), RefusalCode::Invalid, &["above zero"]);
    refused(with(&|it| it.size = Bytes(u64::MAX)), RefusalCode::Invalid, &["more than a block device can have"]);
    refused(with(&|it| it.size = Bytes::gib(100)), RefusalCode::NoSpace, &["free", "vg extend"]);
    refused(with(&|it| it.layout = layout(0, None)), RefusalCode::Invalid, &["between 1 and"]);
    refused(with(&|it| it.layout = layout(65, None)), RefusalCode::Invalid, &["between 1 and"]);
    refused(with(&|it| it.layout = layout(1, Some(65536))), RefusalCode::Invalid, &["--stripes"]);
    for size in [0, 2048, 65536 * 3, 8 << 20] {
        refused(with(&|it| it.layout = layout(2, Some(size))), RefusalCode::Invalid, &["power of two", "extent size"]);
    }
    refused(with(&|it| it.layout = layout(3, None)), RefusalCode::NoSpace, &["3 PVs"]);
    let on = |disk: &str| vec![PvName::Path(disk.into())];
    refused(with(&|it| it.place.on = on("/dev/nvme7")), RefusalCode::NotFound, &["/dev/nvme7"]);
    refused(
        with(&|it| (it.size, it.place.on) = (Bytes::gib(6), on("/dev/sda"))),
        RefusalCode::NoSpace,
        &["on PVs that are one of /dev/sda"],
    );
    refused(
        with(&|it| (it.place.on, it.place.not_on) = (on("/dev/sda"), on("/dev/sda"))),
        RefusalCode::Invalid,
        &["to be used and not to be used"],
    );
    refused(
        with(&|it| it.place.labels.set("tier=fast".parse().unwrap()).unwrap()),
        RefusalCode::NotFound,
        &["tier=fast"],
    );
    refused(with(&|it| it.fs = Some(FsKind::Xfs)), RefusalCode::Invalid, &["too small for xfs"]);
    with(&|_| ()).unwrap();
    refused(with(&|it| it.size = Bytes::mib(32)), RefusalCode::Exists, &["of 16.0 MiB"]);
    refused(with(&|it| it.layout = layout(2, None)), RefusalCode::Exists, &["linear"]);
    refused(with(&|it| it.labels.set("a=b".parse().unwrap()).unwrap()), RefusalCode::Exists, &["no label a"]);
    engine.create_pool(&vol_engine::CreatePool { size: "1G".parse().unwrap(), ..pool_request() }, false).unwrap();
    refused(
        engine.create_thick(&thick_request("tank", 1), false),
        RefusalCode::Exists,
        &["taken by a pool", "choose another"],
    );
    refused(
        engine.create_volume(&volume_request("log", None), false),
        RefusalCode::Exists,
        &["there is a volume data/log already"],
    );
    let snapshot = "data/log@before".parse().unwrap();
    refused(engine.create_snapshot(&snapshot, false), RefusalCode::Invalid, &["thick", "volctl volume clone"]);
    refused(engine.rollback(&snapshot, true, false), RefusalCode::NotFound, &["no snapshot"]);
    refused(
        engine.resize_volume(&data, &volume("log"), NewSize::To(Bytes::mib(4)), false),
        RefusalCode::Refused,
        &["smaller", "copy the files"],
    );
    refused(
        engine.resize_volume(&data, &volume("log"), NewSize::By(Bytes::gib(100)), false),
        RefusalCode::NoSpace,
        &["growth", "free"],
    );
    // There is as much free, but not without what is left for repairs.
    let all = engine.vgs()[0].read(|catalog| catalog.bytes(catalog.free_extents_total()));
    refused(
        engine.create_thick(&CreateThick { size: all, ..thick_request("all", 1) }, false),
        RefusalCode::NoSpace,
        &["kept for the metadata", "ask for at most"],
    );
    refused(
        engine.resize_volume(&data, &volume("log"), NewSize::By(all), false),
        RefusalCode::NoSpace,
        &["the growth of data/log", "kept for the metadata"],
    );
    refused(
        engine.reserve(&data, &volume("log"), Reserve::Full, false),
        RefusalCode::Invalid,
        &["thick", "its own already"],
    );
    engine.protect(&data, &volume("log"), true, false).unwrap();
    refused(engine.delete_volume(&data, &volume("log"), false), RefusalCode::Refused, &["protected"]);
    let Ok(Done::Planned(plan)) = engine.create_thick(&thick_request("dry", 2), true) else { panic!("no plan") };
    let steps: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(steps, ["commit", "create-dm", "fill", "remove-dm", "commit"]);
}
