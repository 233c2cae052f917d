//! Rows of the failure catalogue (`docs/reliability.md`) by their numbers: deaths in the snapshot window, probes that lie, mkfs cut
//! short, devices that somebody holds, one name asked for twice, and what was deleted showing up again.

use std::path::Path;

use vol_core::RefusalCode;
use vol_core::dm::Device;
use vol_engine::host::HostErrorKind;
use vol_engine::{CreateVolume, Done, Engine, EngineError};
use vol_sim::{CrashMode, EffectKind, Fault, ProbeLie, SimHost};
use vol_types::*;

use super::bench::*;

fn data() -> Name {
    name("data")
}

fn uuid_of(engine: &Engine<SimHost>, text: &str) -> String {
    let id = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(text)).unwrap().id);
    Device::Volume(id).uuid()
}

fn pool_uuid(engine: &Engine<SimHost>) -> String {
    let id = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().id);
    Device::Pool(id).uuid()
}

/// Names of all volumes and snapshots that are there.
fn names(engine: &Engine<SimHost>) -> Vec<String> {
    engine.vgs()[0]
        .read(|catalog| catalog.volumes().map(|volume| vol_core::VolumeName::of(volume).to_string()).collect())
}

#[test]
fn f2_a_thousand_deaths_in_the_snapshot_window_leave_nothing_suspended() {
    let host = Op::SnapshotGroup.before();
    host.keep_trace(false);
    let (mut engine, mut kept) = (start(&host), 0);
    for death in 0..1000u32 {
        // Of one volume and of two; with a guard that lives, and with one that was killed as well.
        let (stage, guarded) = ((death % 5) as u8 + 1, death % 3 != 0);
        let (one, two) = (format!("pg@a{death}"), format!("raw@a{death}"));
        let both = [one.as_str(), two.as_str()];
        let wanted = if death % 2 == 0 { &both[..1] } else { &both[..] };
        host.set_guard_resumes(guarded);
        host.fail_next(EffectKind::ThinSnapshot, Fault::KillDaemonInside(stage));
        let story = format!("death {death} at stage {stage}, guarded: {guarded}");
        engine.create_snapshots(&group(wanted), &Labels::default(), false).unwrap_err();
        assert!(host.is_dead(), "{story}: the window was not met");
        if guarded {
            assert_eq!(host.suspended_devices(), Vec::<String>::new(), "{story}");
        }
        host.restart();
        host.clear_faults();
        engine = start(&host);
        assert_eq!(host.suspended_devices(), Vec::<String>::new(), "{story}");
        let there: Vec<_> = names(&engine).into_iter().filter(|name| wanted.contains(&name.as_str())).collect();
        assert!(there.is_empty() || there.len() == wanted.len(), "{story}: half of a group: {there:?}");
        kept += there.len();
        for snapshot in there {
            engine.delete_volume(&data(), &volume(&snapshot), false).unwrap();
        }
        if death % 100 == 0 {
            sound(&host, &engine, &story);
        }
    }
    host.set_guard_resumes(true);
    sound(&host, &engine, "a thousand deaths");
    assert_eq!(names(&engine).len(), 2, "{:?}", names(&engine));
    println!("{kept} snapshots were there all the same");
}

const LIES: fn() -> [Option<ProbeLie>; 4] = || {
    let other = ProbeLie::Other("crypto_LUKS".to_owned());
    [Some(ProbeLie::Nothing), Some(ProbeLie::Ambivalent), Some(ProbeLie::Error), Some(other)]
};

#[test]
fn f15_what_a_tenant_writes_into_a_volume_is_not_believed_by_a_scan_or_a_start() {
    let host = Op::AttachRaw.before();
    let engine = start(&host);
    Op::AttachRaw.run(&engine).unwrap();
    let before = inventory_with_pvs(&engine);
    // A perfect copy of our own disk: labels, log, checkpoints.
    host.put_raw(&uuid_of(&engine, "raw"), &host.peek("/dev/sda", 0, 8 << 20)).unwrap();
    engine.scan(&[], true).unwrap();
    assert_eq!(inventory_with_pvs(&engine), before);
    drop(engine);
    host.kill_daemon();
    host.restart();
    let engine = start(&host);
    assert_eq!(inventory_with_pvs(&engine), before);
    sound(&host, &engine, "with a copy of our disk in a volume");
}

#[test]
fn f16_whatever_a_probe_says_of_a_formatted_volume_it_is_not_formatted_again() {
    for fs in [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs] {
        for lie in LIES() {
            let host = Op::CreateFormatted.before();
            let engine = start(&host);
            engine.create_volume(&volume_request("pg", Some(fs)), false).unwrap();
            let at = Path::new("/srv/pg");
            engine.mount(&data(), &volume("pg"), at, false, false).unwrap();
            host.put_file(at, "f", b"kept").unwrap();
            engine.unmount(&data(), &volume("pg"), None, false).unwrap();
            drop(engine);
            host.crash(CrashMode::KeepAll);
            host.restart();
            let mkfs = host.counters().mkfs;
            host.lie_in_probe("*", lie.clone());
            let engine = start(&host);
            // The answer may be yes or no; what is there stays in any case, and a creation of the same name is the same volume.
            drop(engine.mount(&data(), &volume("pg"), at, false, false));
            drop(engine.unmount(&data(), &volume("pg"), None, false));
            let again = engine.create_volume(&volume_request("pg", Some(fs)), false).unwrap();
            assert!(!changed(again), "{fs:?}, {lie:?}");
            assert_eq!(host.counters().mkfs, mkfs, "{fs:?}, {lie:?}: mkfs ran");
            host.lie_in_probe("*", None);
            engine.mount(&data(), &volume("pg"), at, false, false).unwrap();
            assert_eq!(host.read_file(at, "f").unwrap().unwrap(), b"kept", "{fs:?}, {lie:?}");
            sound(&host, &engine, "after the lies");
        }
    }
}

#[test]
fn f16_a_probe_that_finds_something_on_a_blank_volume_forbids_mkfs_and_is_quoted() {
    for (lie, said) in [
        (ProbeLie::Other("crypto_LUKS".to_owned()), "crypto_LUKS"),
        (ProbeLie::Ambivalent, "several"),
        (ProbeLie::Error, "read error"),
    ] {
        let host = Op::CreateFormatted.before();
        let engine = start(&host);
        host.lie_in_probe("*", Some(lie.clone()));
        let error = Op::CreateFormatted.run(&engine).unwrap_err().to_string();
        assert!(error.contains(said), "{lie:?}: {error}");
        assert_eq!(host.counters().mkfs, 0, "{lie:?}");
        // The name is not taken by what could not be made.
        host.lie_in_probe("*", None);
        Op::CreateFormatted.run(&engine).unwrap();
        assert_eq!(host.counters().mkfs, 1);
        sound(&host, &engine, "after a veto");
    }
}

#[test]
fn f17_mkfs_cut_short_at_any_point_is_never_run_again_on_what_it_left() {
    let mut points = 0;
    for fs in [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs] {
        let before = Op::CreateFormatted.before();
        before.keep_trace(false);
        let request = volume_request("pg", Some(fs));
        let probe = before.fork();
        let engine = start(&probe);
        let first = probe.effects() + 1;
        engine.create_volume(&request, false).unwrap();
        for number in first..=probe.effects() {
            for death in ENDS_OF_MKFS {
                let host = before.fork();
                let engine = start(&host);
                host.fail_effect(number, death);
                let answer = engine.create_volume(&request, false);
                let story = format!("{fs:?}, {death:?} at effect {number}");
                if host.is_dead() {
                    if death.cuts_power() {
                        host.settle(CrashMode::Random);
                    }
                    host.restart();
                }
                drop(engine);
                let engine = start(&host);
                // Nothing that can be mounted is half done: it is there with its file system, or it is not there.
                let at = Path::new("/srv/pg");
                let there = names(&engine) == ["pg"];
                assert!(there || answer.is_err(), "{story}: acknowledged, and lost");
                if there {
                    engine.mount(&data(), &volume("pg"), at, false, false).unwrap_or_else(|e| panic!("{story}: {e}"));
                    engine.unmount(&data(), &volume("pg"), None, false).unwrap();
                }
                engine.create_volume(&request, false).unwrap_or_else(|e| panic!("{story}: {e}"));
                engine.mount(&data(), &volume("pg"), at, false, false).unwrap();
                let pool = pool_uuid(&engine);
                for id in 0..4 {
                    assert!(host.mkfs_runs(&pool, id) <= 1, "{story}: thin id {id} was formatted twice");
                }
                sound(&host, &engine, &story);
                points += 1;
            }
        }
    }
    assert!(points >= 100, "{points} points");
}

#[test]
fn f13_what_somebody_holds_open_is_not_deleted_who_it_is_is_said_and_others_do_not_wait() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    for text in ["held", "other"] {
        engine.create_volume(&volume_request(text, None), false).unwrap();
        engine.attach(&data(), &volume(text), false).unwrap();
    }
    let who = "mounted at /mnt in the mount namespace of process 4711 (systemd-machined)";
    let uuid = uuid_of(&engine, "held");
    host.hold_device(&uuid, Some(who));
    for _ in 0..2 {
        let error = engine.detach(&data(), &volume("held"), false).unwrap_err();
        assert!(error.to_string().contains(who), "{error}");
    }
    let error = engine.delete_volume(&data(), &volume("held"), false).unwrap_err().to_string();
    assert!(error.contains("attached"), "{error}");
    engine.detach(&data(), &volume("other"), false).unwrap();
    engine.delete_volume(&data(), &volume("other"), false).unwrap();
    assert_eq!(names(&engine), ["held"]);
    host.hold_device(&uuid, None);
    engine.detach(&data(), &volume("held"), false).unwrap();
    engine.delete_volume(&data(), &volume("held"), false).unwrap();
    assert_eq!(names(&engine), Vec::<String>::new());
    sound(&host, &engine, "held and let go");
}

#[test]
fn f13_a_volume_that_another_namespace_keeps_after_its_unmount_is_deleted_once_it_is_let_go() {
    let host = Op::Mount.before();
    let engine = start(&host);
    Op::Mount.run(&engine).unwrap();
    let (uuid, who) = (uuid_of(&engine, "pg"), "mounted at /srv/pg in the mount namespace of process 99 (runc)");
    host.hold_device(&uuid, Some(who));
    Op::Unmount.run(&engine).unwrap();
    for keep in [false, true] {
        let deleted = if keep {
            engine.keep_volume(&data(), &volume("pg"), false)
        } else {
            engine.delete_volume(&data(), &volume("pg"), false)
        };
        let error = deleted.unwrap_err();
        assert!(error.to_string().contains(who), "{error}");
    }
    assert_eq!(names(&engine), ["pg"], "it is neither gone nor half gone");
    // It can be used again as it is, which a second holder does not forbid.
    Op::Mount.run(&engine).unwrap();
    Op::Unmount.run(&engine).unwrap();
    host.hold_device(&uuid, None);
    engine.delete_volume(&data(), &volume("pg"), false).unwrap();
    sound(&host, &engine, "let go");
}

#[test]
fn f30_one_name_asked_for_by_many_at_once_is_one_volume_and_one_answer() {
    let host = Op::CreateRaw.before();
    host.keep_trace(false);
    let engine = start(&host);
    for round in 0..40u64 {
        let text = format!("v{round}");
        // Of two sizes: one of them wins. If the larger one always does, all fit below the limit of what may be promised (63.6 GiB).
        let request = |n: u64| CreateVolume { size: Bytes::mib(512 * (1 + n % 2)), ..volume_request(&text, None) };
        let answers: Vec<_> = std::thread::scope(|scope| {
            let ask = |n| {
                let (engine, request) = (&engine, request(n));
                scope.spawn(move || (request.size, engine.create_volume(&request, false)))
            };
            let all: Vec<_> = (0..8).map(ask).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let made: Vec<_> = answers.iter().filter(|(_, answer)| matches!(answer, Ok(Done::Changed(_)))).collect();
        let [(size, Ok(Done::Changed(id)))] = made[..] else { panic!("round {round}: {answers:?}") };
        for (asked, answer) in &answers {
            match answer {
                Ok(Done::Changed(other) | Done::Unchanged(other)) => {
                    assert!(asked == size && other == id, "{answers:?}")
                }
                Err(EngineError::Refused(refusal)) => {
                    assert!(asked != size, "the same was refused: {refusal:?}");
                    assert_eq!(refusal.code, RefusalCode::Exists, "{refusal:?}");
                    assert!(refusal.message.contains(&text), "{refusal:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(names(&engine).len(), 40);
    sound(&host, &engine, "one name, many who ask");
}

#[test]
fn f30_creation_and_deletion_of_one_name_by_many_at_once_end_in_one_of_both() {
    let host = Op::CreateRaw.before();
    host.keep_trace(false);
    let engine = start(&host);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let engine = &engine;
            scope.spawn(move || {
                for n in 0..60 {
                    let answer = if (thread + n) % 2 == 0 {
                        engine.create_volume(&volume_request("v", None), false)
                    } else {
                        engine.delete_volume(&data(), &volume("v"), false)
                    };
                    match answer {
                        Ok(_) => {}
                        Err(EngineError::Refused(refusal)) => {
                            assert_eq!(refusal.code, RefusalCode::NotFound, "{refusal:?}");
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    assert!(names(&engine).len() <= 1);
    sound(&host, &engine, "created and deleted by many");
    assert_eq!(inventory(&start(&host)), inventory(&engine));
}

/// How far the pattern is written, in a chunk's middle and over the edge of two.
const SPOTS: [u64; 3] = [0, 40 << 10, (192 << 10) - 512];
const SPOT: u64 = 1024;

#[test]
fn ten_thousand_cycles_of_deleting_and_using_again_show_no_byte_of_before() {
    let host = Op::CreateRaw.before();
    host.keep_trace(false);
    let mut engine = start(&host);
    let pattern = [0xa5; SPOT as usize];
    // Compared as a whole, for byte by byte that is what the test would spend its time with.
    let zeros = vec![0; 256 << 10];
    let mut written = zeros.clone();
    for spot in SPOTS {
        written[spot as usize..][..SPOT as usize].copy_from_slice(&pattern);
    }
    for cycle in 0..10_000u64 {
        let size = Bytes::mib(1 + cycle % 3);
        let text = if cycle % 7 == 0 { "copy" } else { "v" };
        // Some are never made, for their message fails or their commit does; their id and their space are used by nobody.
        let request = CreateVolume { size, ..volume_request(text, None) };
        if cycle % 250 == 3 {
            host.fail_next(EffectKind::DmMessage, Fault::ErrorAfter(HostErrorKind::TimedOut));
            engine.create_volume(&request, false).unwrap_err();
        }
        engine.create_volume(&request, false).unwrap();
        engine.attach(&data(), &volume(text), false).unwrap();
        let dev = engine.vgs()[0]
            .view()
            .kernel
            .dm
            .iter()
            .find_map(|(device, info)| matches!(device, Device::Volume(_)).then_some(info.dev));
        let dev = dev.expect("it is attached");
        let before = host.read_bytes(dev, 0, 256 << 10).unwrap();
        assert!(before == zeros, "cycle {cycle}: a new volume shows what was there before");
        // A little of each chunk is written: the rest of it must not be what was there.
        for spot in SPOTS {
            host.write_bytes(dev, spot, &pattern).unwrap();
        }
        let all = host.read_bytes(dev, 0, 256 << 10).unwrap();
        assert!(all == written, "cycle {cycle}: something else than what was written, and zeros");
        engine.detach(&data(), &volume(text), false).unwrap();
        if cycle % 5 == 0 {
            engine.keep_volume(&data(), &volume(text), false).unwrap();
        } else {
            engine.delete_volume(&data(), &volume(text), false).unwrap();
        }
        if cycle % 500 == 499 {
            engine.purge_pool(&data(), &name("tank"), false).unwrap();
            if cycle % 1000 == 999 {
                drop(engine);
                host.crash(CrashMode::Random);
                host.restart();
                engine = start(&host);
            }
            assert_eq!(host.recreated_ids(), Vec::new(), "a thin id was used twice");
            sound(&host, &engine, "cycles");
        }
    }
    let next = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().next_thin_id);
    assert!(next >= 10_000, "ids were given out twice: the next is {next}");
    assert_eq!(host.pool(&pool_uuid(&engine)).unwrap().thins.len(), 0, "something was left in the pool");
}
