//! Blocks that are moved: slices, pace, what a failure or a death in the middle leaves, and going on from there.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use uuid::Uuid;
use vol_core::dm::Device;
use vol_core::observed::{DevNumber, TargetLine};
use vol_engine::host::{DmCreate, DmEnd, HostErrorKind, HostMut, HostRead, SLICE_MAX, WipeMethod};
use vol_engine::moving::{Pace, Progress, Task};
use vol_engine::{Engine, EngineError};
use vol_sim::{CrashMode, Fault, SimHost, SimWipe};
use vol_types::{Bytes, PoolId, Sectors};

use super::bench::{DEATHS, machine};

const MIB: u64 = 1 << 20;
/// Three slices: 4, 8 and 1 MiB.
const LEN: u64 = 13 * MIB;
/// Where the device begins on each disk.
const START: u64 = 16 * MIB;

fn device(number: u8) -> Device {
    Device::PoolData(PoolId::from_uuid(Uuid::from_bytes([number; 16])))
}

/// A device of 13 MiB, of which 5 are on one disk and 8 on the other; `number` tells where.
fn make(host: &SimHost, number: u8) -> DevNumber {
    let on = |disk: &str| host.open_read(disk.as_ref()).unwrap().identity().dev;
    let at = START * u64::from(number) / 512;
    let line = |start: u64, len: u64, dev: DevNumber| TargetLine {
        start: Sectors(start),
        len: Sectors(len),
        target: "linear".to_owned(),
        params: format!("{dev} {at}"),
    };
    let table = vec![line(0, 5 * 2048, on("/dev/sda")), line(5 * 2048, 8 * 2048, on("/dev/sdb"))];
    let (name, uuid) = (device(number).name(), device(number).uuid());
    host.dm_create(&DmCreate { name, uuid, table, read_only: false, private: true, link: None }).unwrap().dev
}

/// Eight sectors in every 64 KiB, each of them different.
fn pattern(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(LEN).unwrap()];
    for (at, block) in bytes.chunks_mut(65536).enumerate() {
        for (sector, bytes) in block[..4096].chunks_mut(512).enumerate() {
            bytes.fill(u8::try_from((at * 8 + sector * 3 + usize::try_from(seed).unwrap()) % 250).unwrap() + 1);
        }
    }
    bytes
}

/// Two devices with something on them, and so has what lies before and behind the second on either disk.
fn host() -> SimHost {
    let host = machine();
    for number in [1, 2] {
        let dev = make(&host, number);
        host.write_bytes(dev, 0, &pattern(u64::from(number))).unwrap();
    }
    for disk in ["/dev/sda", "/dev/sdb"] {
        host.poke(disk, 2 * START - 4096, &[0xEE; 4096]);
    }
    host.poke("/dev/sda", 2 * START + 5 * MIB, &[0xEE; 4096]);
    host.poke("/dev/sdb", 2 * START + 8 * MIB, &[0xEE; 4096]);
    host
}

fn neighbours_are_untouched(host: &SimHost) {
    let at = |disk, offset| host.peek(disk, offset, 4096) == [0xEE; 4096];
    assert!(at("/dev/sda", 2 * START - 4096) && at("/dev/sdb", 2 * START - 4096));
    assert!(at("/dev/sda", 2 * START + 5 * MIB) && at("/dev/sdb", 2 * START + 8 * MIB));
}

fn wipe() -> Task {
    Task::Wipe { device: device(2).uuid() }
}

fn copy() -> Task {
    Task::Copy { from: device(1).uuid(), to: device(2).uuid() }
}

/// What the second device holds after the task.
fn expected(task: &Task) -> Vec<u8> {
    match task {
        Task::Wipe { .. } => vec![0; usize::try_from(LEN).unwrap()],
        Task::Copy { .. } => pattern(1),
    }
}

fn second(host: &SimHost) -> Vec<u8> {
    let dev = host.dm_device(&device(2).uuid()).unwrap().unwrap().dev;
    host.read_bytes(dev, 0, LEN).unwrap()
}

fn run(engine: &Engine<SimHost>, task: &Task, from: u64, noted: &Cell<u64>) -> Result<Progress, EngineError> {
    engine.move_blocks(task, from, LEN, &|| true, &mut |progress| {
        noted.set(progress.at);
        Ok(())
    })
}

#[test]
fn a_range_is_wiped_or_copied_in_slices_and_nothing_else_is_touched() {
    for task in [wipe(), copy()] {
        let host = host();
        let engine = Engine::new(host.clone());
        let seen = RefCell::new(Vec::new());
        let done = engine
            .move_blocks(&task, 0, LEN, &|| true, &mut |progress| {
                seen.borrow_mut().push(progress.at / MIB);
                Ok(())
            })
            .unwrap();
        assert!(done.is_done() && done.written == Bytes(LEN), "{done:?}");
        assert_eq!(*seen.borrow(), [4, 12, 13], "slices grow while they take no time");
        assert!(second(&host) == expected(&task));
        neighbours_are_untouched(&host);
        assert_eq!(host.read_bytes(make_sure(&host, 1), 0, LEN).unwrap(), pattern(1), "the source is as it was");
        assert_eq!(host.violations(), Vec::<String>::new());
    }
}

fn make_sure(host: &SimHost, number: u8) -> DevNumber {
    host.dm_device(&device(number).uuid()).unwrap().unwrap().dev
}

#[test]
fn a_part_is_moved_and_the_rest_stays() {
    let host = host();
    let engine = Engine::new(host.clone());
    let progress = engine.move_blocks(&wipe(), 2 * MIB, 7 * MIB, &|| true, &mut |_| Ok(())).unwrap();
    assert_eq!((progress.at, progress.written), (7 * MIB, Bytes::mib(5)));
    let (found, old) = (second(&host), pattern(2));
    let range = |from: u64, to: u64| usize::try_from(from * MIB).unwrap()..usize::try_from(to * MIB).unwrap();
    assert!(found[range(0, 2)] == old[range(0, 2)] && found[range(7, 13)] == old[range(7, 13)]);
    assert!(found[range(2, 7)].iter().all(|byte| *byte == 0));
    let nothing = engine.move_blocks(&wipe(), MIB, MIB, &|| true, &mut |_| panic!("there is nothing to do")).unwrap();
    assert!(nothing.is_done());
}

#[test]
fn a_move_that_was_cut_off_anywhere_goes_on_where_it_was_noted() {
    let errors = [Fault::Error(HostErrorKind::Io), Fault::ErrorAfter(HostErrorKind::Io), Fault::Torn];
    let fresh = host();
    let modes = |fault| match fault {
        Fault::PowerCutInside(_) => vec![CrashMode::LoseAll, CrashMode::KeepAll, CrashMode::Random],
        _ => vec![CrashMode::Random],
    };
    for task in [wipe(), copy()] {
        for fault in errors.into_iter().chain(DEATHS) {
            for slice in 1..=3 {
                for mode in modes(fault) {
                    let host = fresh.fork();
                    let engine = Engine::new(host.clone());
                    host.on_power_cut(mode.clone());
                    host.fail_effect(host.effects() + slice, fault);
                    let noted = Cell::new(0);
                    let error = run(&engine, &task, 0, &noted).unwrap_err();
                    let about = format!("{task:?}, {fault:?} in slice {slice}, {mode:?}: {error}");
                    assert_eq!(noted.get() / MIB, [0, 4, 12][usize::try_from(slice).unwrap() - 1], "{about}");
                    if host.is_dead() {
                        host.restart();
                        for number in [1, 2] {
                            if host.dm_device(&device(number).uuid()).unwrap().is_none() {
                                make(&host, number);
                            }
                        }
                    }
                    let before = usize::try_from(noted.get()).unwrap();
                    assert!(second(&host)[..before] == expected(&task)[..before], "what was noted is durable: {about}");
                    neighbours_are_untouched(&host);
                    let progress = run(&Engine::new(host.clone()), &task, noted.get(), &noted).unwrap();
                    assert!(progress.is_done() && second(&host) == expected(&task), "{about}");
                    neighbours_are_untouched(&host);
                    assert_eq!(host.violations(), Vec::<String>::new(), "{about}");
                }
            }
        }
    }
}

#[test]
fn a_disk_that_takes_no_writes_or_cannot_be_read_stops_the_move_where_it_is() {
    let host = host();
    let engine = Engine::new(host.clone());
    host.fail_device("/dev/sdb", Fault::Error(HostErrorKind::Io));
    let noted = Cell::new(0);
    run(&engine, &wipe(), 0, &noted).unwrap_err();
    assert_eq!(noted.get(), 4 * MIB, "the first slice is on the other disk");
    host.heal_device("/dev/sdb");
    host.damage("/dev/sdb", START + 3 * MIB, 4096, vol_sim::Damage::Unreadable);
    let error = run(&engine, &copy(), 0, &noted).unwrap_err();
    assert!(matches!(&error, EngineError::Host(error) if error.kind == HostErrorKind::Io), "{error}");
    assert_eq!(noted.get(), 4 * MIB);
}

#[test]
fn who_watches_may_end_it_and_an_error_of_theirs_does() {
    let host = host();
    let engine = Engine::new(host.clone());
    let slices = Cell::new(0);
    let progress = engine
        .move_blocks(&wipe(), 0, LEN, &|| slices.get() < 1, &mut |_| {
            slices.set(slices.get() + 1);
            Ok(())
        })
        .unwrap();
    assert_eq!((progress.at, progress.is_done()), (4 * MIB, false));
    let refused = engine.move_blocks(&wipe(), 0, LEN, &|| true, &mut |_| {
        Err(EngineError::Refused(vol_core::Refusal::busy("the store is away")))
    });
    assert_eq!(refused.unwrap_err().to_string(), "the store is away");
    assert!(!engine.move_blocks(&copy(), 0, LEN, &|| false, &mut |_| panic!("it was not to begin")).unwrap().is_done());
}

#[test]
fn the_disks_are_left_alone_for_the_time_that_is_not_ours() {
    for (pace, least, most) in [
        (Pace { share: 100, rate: None }, 0, 0),
        (Pace { share: 50, rate: None }, 110, 130),
        (Pace { share: 20, rate: None }, 440, 520),
        // 12 MiB before the last slice, at 4 MiB a second, less the time that they took.
        (Pace { share: 100, rate: Some(Bytes::mib(4)) }, 2_870, 3_000),
    ] {
        let host = host();
        // 13 MiB are moved in 130 ms.
        host.set_move_rate(100 * MIB);
        let engine = Engine::new(host.clone());
        assert_eq!(engine.pace(), Pace { share: 50, rate: None }, "unless told otherwise");
        engine.set_pace(pace);
        let begun = host.uptime();
        run(&engine, &wipe(), 0, &Cell::new(0)).unwrap();
        let (paused, all) = (host.counters().paused, host.uptime() - begun);
        let in_bounds = Duration::from_millis(least)..=Duration::from_millis(most);
        assert!(in_bounds.contains(&paused), "{pace:?}: rested {paused:?}");
        assert!(all >= paused + Duration::from_millis(120), "{all:?}");
    }
}

#[test]
fn on_a_slow_disk_slices_are_small() {
    let host = host();
    host.set_move_rate(5 * MIB);
    let engine = Engine::new(host.clone());
    let seen = RefCell::new(Vec::new());
    let note = &mut |progress: &Progress| {
        seen.borrow_mut().push(progress.at / MIB);
        Ok(())
    };
    engine.move_blocks(&wipe(), 0, LEN, &|| true, note).unwrap();
    assert_eq!(*seen.borrow(), [4, 6, 8, 10, 12, 13], "800 ms, then 400 ms each");
}

#[test]
fn a_device_that_is_gone_or_another_is_not_touched() {
    let host = host();
    let engine = Engine::new(host.clone());
    let dev = make_sure(&host, 2);
    let wrong = |kind: HostErrorKind, result: Result<WipeMethod, vol_engine::host::HostError>| {
        assert_eq!(result.unwrap_err().kind, kind);
    };
    wrong(HostErrorKind::Changed, host.wipe_slice(dev, &device(1).uuid(), 0, MIB));
    wrong(HostErrorKind::Changed, host.wipe_slice(DevNumber { major: 8, minor: 0 }, &device(2).uuid(), 0, MIB));
    wrong(HostErrorKind::Invalid, host.wipe_slice(dev, &device(2).uuid(), 512, MIB));
    wrong(HostErrorKind::Invalid, host.wipe_slice(dev, &device(2).uuid(), 0, 0));
    wrong(HostErrorKind::Invalid, host.wipe_slice(dev, &device(2).uuid(), 0, SLICE_MAX + 4096));
    wrong(HostErrorKind::Io, host.wipe_slice(dev, &device(2).uuid(), LEN - 4096, 8192));
    wrong(HostErrorKind::Io, host.wipe_slice(dev, &device(2).uuid(), u64::MAX - 4095, 4096));
    let end = DmEnd { dev, uuid: device(2).uuid() };
    assert_eq!(host.copy_slice(&end, &end, 0, 4096).unwrap_err().kind, HostErrorKind::Invalid);
    assert!(second(&host) == pattern(2));
    // In the middle of a move the device goes, and another takes its number.
    let swapped = Cell::new(false);
    let error = engine
        .move_blocks(&wipe(), 0, LEN, &|| true, &mut |_| {
            if !swapped.replace(true) {
                host.dm_remove(&device(2).uuid()).unwrap();
                make(&host, 3);
            }
            Ok(())
        })
        .unwrap_err();
    assert!(error.to_string().contains("there is no such device"), "{error}");
}

#[test]
fn how_it_was_wiped_is_told() {
    for (disks, method) in [
        ([SimWipe::Discards, SimWipe::Discards], WipeMethod::Discarded),
        ([SimWipe::Discards, SimWipe::Offloads], WipeMethod::Offloaded),
        ([SimWipe::Writes, SimWipe::Discards], WipeMethod::Written),
    ] {
        let host = host();
        host.set_wipe("/dev/sda", disks[0]);
        host.set_wipe("/dev/sdb", disks[1]);
        let dev = make_sure(&host, 2);
        assert_eq!(host.wipe_slice(dev, &device(2).uuid(), 4 * MIB, 2 * MIB).unwrap(), method, "it is on both disks");
        let engine = Engine::new(host.clone());
        let progress = run(&engine, &wipe(), 0, &Cell::new(0)).unwrap();
        assert_eq!(progress.discarded.get() + progress.offloaded.get() + progress.written.get(), LEN);
        assert!(second(&host) == expected(&wipe()));
    }
}

#[test]
fn a_move_begins_with_the_slice_that_fitted_the_same_disks_before() {
    let host = host();
    let engine = Engine::new(host.clone());
    let slices = |engine: &Engine<SimHost>, task: &Task| {
        let count = Cell::new(0);
        let counted = engine.move_blocks(task, 0, LEN, &|| true, &mut |_| {
            count.set(count.get() + 1);
            Ok(())
        });
        assert!(counted.unwrap().is_done());
        count.get()
    };
    assert_eq!(slices(&engine, &wipe()), 3);
    assert_eq!(slices(&engine, &wipe()), 1, "what fitted is not found out anew");
    // Another volume on the same disks, but something else that is done to them.
    assert_eq!(slices(&engine, &Task::Wipe { device: device(1).uuid() }), 1);
    assert_eq!(slices(&engine, &copy()), 3);
    assert_eq!(slices(&engine, &copy()), 1);
    // Other disks are found out about, and a daemon that was started anew knows nothing.
    let on = host.open_read("/dev/sda".as_ref()).unwrap().identity().dev;
    let table = vec![TargetLine {
        start: Sectors(0),
        len: Sectors(LEN / 512),
        target: "linear".to_owned(),
        params: format!("{on} {}", START * 8 / 512),
    }];
    let (name, uuid) = (device(3).name(), device(3).uuid());
    host.dm_create(&DmCreate { name, uuid, table, read_only: false, private: true, link: None }).unwrap();
    assert_eq!(slices(&engine, &Task::Wipe { device: device(3).uuid() }), 3);
    assert_eq!(slices(&Engine::new(host.clone()), &wipe()), 3);
    assert_eq!(host.violations(), Vec::<String>::new());
}
