//! Death of the daemon, power cuts, and forks of the world.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use vol_core::dm::Device;
use vol_engine::host::{DurableWrite, HostErrorKind, HostMut, HostRead};
use vol_sim::{CrashMode, EffectKind, Fault, SimDisk, SimHost};
use vol_types::Bytes;

use crate::machine::{Pool, durable, host, kind, open, volume};

const SDA: &str = "/dev/sda";

#[test]
fn a_dead_daemon_does_nothing_until_it_is_started_again() {
    let host = host();
    let pool = Pool::new(&host);
    let target = pool.mounted(1);
    let device = open(&host, SDA);
    device.write_at(512 << 20, &[1; 4096]).expect("write");
    let boot = host.boot_id().expect("boot id");
    host.kill_daemon();
    let before = host.effects();
    let error = host.dm_devices().expect_err("dead");
    assert_eq!((error.kind, error.detail.as_str()), (HostErrorKind::Other, "the daemon is dead"));
    assert_eq!(kind(host.dm_remove(&pool.uuid())), HostErrorKind::Other);
    assert_eq!(host.effects(), before);
    host.put_file(&target, "a", b"b").expect("the users do not notice");
    host.restart();
    assert_eq!(host.boot_id().expect("boot id"), boot);
    assert_eq!((host.dm_devices().expect("list").len(), host.mounts().expect("mounts").len()), (4, 1));
    assert_eq!(kind(device.read_at(0, 4096)), HostErrorKind::Io, "a descriptor of the dead process");
    assert_eq!(open(&host, SDA).read_at(512 << 20, 4096).expect("read"), [1; 4096], "the kernel has it");
}

#[test]
fn a_power_cut_takes_dm_mounts_and_loops_and_changes_the_boot_id() {
    let host = host();
    host.add_disk(SimDisk::new("/dev/sdb", Bytes::gib(1)).mounted_at("/"));
    let pool = Pool::new(&host);
    pool.mounted(1);
    let file = Path::new("/var/lib/volumed/a.img");
    host.create_file(file, Bytes::mib(64)).expect("create");
    host.attach_loop(file).expect("attach");
    let boot = host.boot_id().expect("boot id");
    host.crash(CrashMode::Random);
    assert_eq!(kind(host.boot_id()), HostErrorKind::Other);
    host.restart();
    assert_ne!(host.boot_id().expect("boot id"), boot);
    assert!(host.dm_devices().expect("list").is_empty());
    assert_eq!(host.loop_device_of(file).expect("loop"), None);
    let left: Vec<PathBuf> = host.mounts().expect("mounts").into_iter().map(|mount| mount.target).collect();
    assert_eq!(left, [PathBuf::from("/")], "what others mount at boot");
    host.attach_loop(file).expect("the file is still there");
}

#[test]
fn what_was_flushed_survives_and_of_the_rest_any_subset() {
    let host = host();
    let device = open(&host, SDA);
    device.write_at(0, &[1; 4096]).expect("write");
    device.flush().expect("flush");
    device.write_at(0, &[2; 4096]).expect("write");
    assert_eq!(host.pending().len(), 8);
    let mut seen = BTreeSet::new();
    for subset in 0..256u32 {
        let world = host.fork();
        world.crash(CrashMode::Keep((0..8).filter(|bit| subset >> bit & 1 == 1).collect()));
        world.restart();
        let image = world.peek_durable(SDA, 0, 4096);
        assert!(image.chunks(512).all(|sector| sector == [1; 512] || sector == [2; 512]), "torn only at 512");
        seen.insert(image);
    }
    assert_eq!(seen.len(), 256);
    assert_eq!(host.pending().len(), 8, "a fork leaves the other world alone");
}

#[test]
fn modes_of_a_crash_keep_what_they_say() {
    let kept = |mode: CrashMode| {
        let host = host();
        open(&host, SDA).write_at(0, &[1; 4096]).expect("write");
        host.crash(mode);
        host.restart();
        host.peek(SDA, 0, 4096).chunks(512).map(|sector| char::from(b'0' + sector[0])).collect::<String>()
    };
    assert_eq!(kept(CrashMode::LoseAll), "00000000");
    assert_eq!(kept(CrashMode::KeepAll), "11111111");
    assert_eq!(kept(CrashMode::Prefix(3)), "11100000");
    assert_eq!(kept(CrashMode::Keep(vec![1, 7])), "01000001");
    assert_eq!(kept(CrashMode::Drop(vec![1, 7])), "10111110");
    assert_eq!(kept(CrashMode::Random), kept(CrashMode::Random), "the same seed");
}

#[test]
fn a_power_cut_during_a_commit_finds_each_write_anywhere_between_old_and_new() {
    let host = host();
    let device = open(&host, SDA);
    let write = |offset, data| DurableWrite { device: &device, offset, data };
    let number = host.effects() + 2;
    host.fail_effect(number, Fault::PowerCutBefore);
    let answers = host.write_durable(&[write(0, &[1; 4096]), write(8192, &[2; 4096]), write(16384, &[3; 4096])]);
    assert!(answers[0].is_ok() && answers[1].is_err() && answers[2].is_err());
    let pending: BTreeSet<u64> = host.pending().into_iter().map(|sector| sector.sector).collect();
    assert_eq!(pending, (16..24).chain(32..40).collect());
    let world = host.fork();
    world.settle(CrashMode::Drop((0..8).collect()));
    world.restart();
    let first = |world: &SimHost| [0, 8192, 16384].map(|at| world.peek_durable(SDA, at, 1)[0]);
    assert_eq!(first(&world), [1, 0, 3], "the third overtook the second");
    host.settle(CrashMode::LoseAll);
    host.restart();
    assert_eq!(first(&host), [1, 0, 0]);
}

#[test]
fn a_kill_during_a_commit_stops_between_two_writes() {
    let host = host();
    let device = open(&host, SDA);
    let write = |offset, data| DurableWrite { device: &device, offset, data };
    host.fail_effect(host.effects() + 1, Fault::KillDaemonAfter);
    let answers = host.write_durable(&[write(0, &[1; 4096]), write(8192, &[2; 4096])]);
    assert!(answers.iter().all(Result::is_err));
    host.restart();
    assert!(host.pending().is_empty());
    // Nor does a write stay behind when a power cut is planned for later.
    host.fail_effect(1000, Fault::PowerCutBefore);
    let device = open(&host, SDA);
    let write = |offset, data| DurableWrite { device: &device, offset, data };
    host.fail_effect(host.effects() + 1, Fault::Error(HostErrorKind::Io));
    host.fail_effect(host.effects() + 2, Fault::KillDaemonBefore);
    host.write_durable(&[write(4096, &[1; 4096]), write(8192, &[2; 4096]), write(12288, &[3; 4096])]);
    host.restart();
    assert!(host.pending().is_empty());
    assert_eq!([0, 8192].map(|at| host.peek(SDA, at, 1)[0]), [1, 0]);
}

#[test]
fn a_daemon_that_dies_in_the_suspended_window_leaves_the_origin_to_its_guard() {
    for guard in [true, false] {
        for (stage, made) in [(1, false), (2, true)] {
            let host = host();
            let pool = Pool::new(&host);
            pool.mounted(1);
            host.set_guard_resumes(guard);
            host.fail_next(EffectKind::ThinSnapshot, Fault::KillDaemonInside(stage));
            assert_eq!(kind(pool.snapshot(2, 1, true)), HostErrorKind::Other);
            host.restart();
            assert_eq!(pool.ids().contains(&2), made);
            assert_eq!(host.suspended_devices().is_empty(), guard);
            host.dm_resume(&volume(1).uuid()).expect("resume");
            assert!(host.violations().is_empty());
        }
    }
}

#[test]
fn a_snapshot_whose_message_fails_leaves_nothing_suspended() {
    let host = host();
    let pool = Pool::new(&host);
    pool.mounted(1);
    pool.message("create_thin 2").expect("create");
    assert_eq!(kind(pool.snapshot(2, 1, true)), HostErrorKind::Exists);
    assert!(host.suspended_devices().is_empty());
}

#[test]
fn a_power_cut_inside_a_message_undoes_it_and_a_kill_does_not() {
    for (fault, made) in [(Fault::PowerCutInside(1), false), (Fault::KillDaemonInside(1), true)] {
        let host = host();
        let pool = Pool::new(&host);
        host.fail_next(EffectKind::DmMessage, fault);
        assert_eq!(kind(pool.message("create_thin 1")), HostErrorKind::Other);
        host.restart();
        if fault.cuts_power() {
            pool.bring_up();
        }
        assert_eq!(pool.ids().contains(&1), made);
    }
}

#[test]
fn a_fork_is_a_world_of_its_own() {
    let host = host();
    let pool = Pool::new(&host);
    let device = open(&host, SDA);
    let fork = host.fork();
    let data = [1; 4096];
    let alien = DurableWrite { device: &device, offset: 0, data: &data };
    assert_eq!(kind(fork.write_durable(&[alien]).remove(0)), HostErrorKind::Invalid);
    fork.dm_message(&pool.uuid(), "create_thin 1").expect("create");
    fork.fail_effect(fork.effects() + 1, Fault::PowerCutAfter);
    fork.dm_message(&pool.uuid(), "create_thin 2").expect_err("cut");
    assert!(!host.is_dead() && pool.ids().is_empty());
    pool.message("create_thin 1").expect("create");
    durable(&host, &device, 0, &data).expect("write");
    assert_eq!(fork.peek(SDA, 0, 1), [0]);
}

#[test]
fn the_same_seed_and_the_same_calls_give_the_same_trace() {
    let run = |seed: u64| {
        let host = SimHost::new(seed);
        host.add_disk(SimDisk::new(SDA, Bytes::gib(1)));
        let pool = Pool::new(&host);
        pool.mounted(1);
        let device = open(&host, SDA);
        for (kind, fault) in [
            (EffectKind::DurableWrite, Fault::Torn),
            (EffectKind::DurableWrite, Fault::Junk),
            (EffectKind::DurableWrite, Fault::Misdirected),
        ] {
            host.fail_next(kind, fault);
            // Torn fails, the others lie.
            let _ = durable(&host, &device, 512 << 20, &[1; 8192]);
        }
        device.write_at(600 << 20, &[2; 65536]).expect("write");
        host.crash(CrashMode::Random);
        host.restart();
        let id = host.new_uuid();
        let disk = format!("{:?}", host.disk_image(SDA));
        (host.trace(), id, host.boot_id().expect("boot id"), disk)
    };
    assert_eq!(run(1), run(1));
    let (one, two) = (run(1), run(2));
    assert_eq!(one.0, two.0, "what happens does not hang on the seed");
    assert!(one.1 != two.1 && one.2 != two.2 && one.3 != two.3, "ids and damage do");
}

#[test]
fn every_effect_of_a_run_can_be_cut_before_inside_and_after() {
    let run = |host: &SimHost| -> Option<()> {
        let sda = host.inspect(Path::new(SDA)).ok()?;
        let device = host.open_write(Path::new(SDA), &sda.identity).ok()?;
        durable(host, &device, 0, &[1; 8192]).ok()?;
        let linear = |len, at: u64| crate::machine::line(len, "linear", format!("{} {at}", sda.identity.dev));
        let id = vol_types::PoolId::from_bytes([0xAA; 16]);
        let metadata = crate::machine::create(host, Device::PoolMetadata(id), linear(8192, 2048)).ok()?;
        let data = crate::machine::create(host, Device::PoolData(id), linear(8192, 16384)).ok()?;
        let table = crate::machine::line(8192, "thin-pool", format!("{} {} 128 0", metadata.dev, data.dev));
        let pool = crate::machine::create(host, Device::Pool(id), table).ok()?;
        host.dm_message(&pool.uuid, "create_thin 1").ok()?;
        host.dm_message(&pool.uuid, "set_transaction_id 0 1").ok()
    };
    let clean = host();
    run(&clean).expect("a clean run");
    let mut states = 0;
    for effect in clean.effect_log() {
        let inside = (1..=effect.kind.stages()).flat_map(|at| [Fault::KillDaemonInside(at), Fault::PowerCutInside(at)]);
        let around = [Fault::KillDaemonBefore, Fault::KillDaemonAfter, Fault::PowerCutBefore, Fault::PowerCutAfter];
        for fault in around.into_iter().chain(inside) {
            let host = host();
            host.fail_effect(effect.number, fault);
            assert_eq!(run(&host), None, "{effect} {fault:?}");
            assert_eq!(host.effects(), effect.number);
            host.restart();
            assert!(host.violations().is_empty(), "{effect} {fault:?}: {:?}", host.violations());
            states += 1;
        }
    }
    assert!(states >= 40, "{states}");
}
