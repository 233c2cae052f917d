//! Faults of single effects, and what is counted.

use std::path::Path;

use vol_engine::host::{DurableWrite, HostErrorKind, HostMut, HostRead};
use vol_sim::{CrashMode, EffectKind, Fault};
use vol_types::{FsKind, MkfsOptions};

use crate::machine::{Pool, durable, host, kind, open};

const SDA: &str = "/dev/sda";

#[test]
fn an_error_before_leaves_nothing_and_an_error_after_leaves_all() {
    let host = host();
    let pool = Pool::new(&host);
    host.fail_next(EffectKind::DmMessage, Fault::Error(HostErrorKind::TimedOut));
    assert_eq!(kind(pool.message("create_thin 1")), HostErrorKind::TimedOut);
    assert!(pool.ids().is_empty());
    host.fail_next(EffectKind::DmMessage, Fault::ErrorAfter(HostErrorKind::TimedOut));
    assert_eq!(kind(pool.message("create_thin 1")), HostErrorKind::TimedOut);
    assert_eq!(pool.ids(), [1]);
}

#[test]
fn a_fault_strikes_once_at_its_number_or_from_it_on() {
    let host = host();
    let device = open(&host, SDA);
    let write = || device.write_at(0, &[1; 4096]).is_ok();
    host.fail_effect(host.effects() + 2, Fault::Error(HostErrorKind::Io));
    assert_eq!([write(), write(), write()], [true, false, true]);
    host.fail_effects_from(host.effects() + 2, Fault::Error(HostErrorKind::Io));
    assert_eq!([write(), write(), write()], [true, false, false]);
    host.clear_faults();
    assert!(write());
}

#[test]
fn a_sticky_fault_holds_for_one_device() {
    let host = host();
    host.add_disk(vol_sim::SimDisk::new("/dev/sdb", vol_types::Bytes::gib(1)));
    let (a, b) = (open(&host, SDA), open(&host, "/dev/sdb"));
    host.fail_device(SDA, Fault::Error(HostErrorKind::Io));
    for _ in 0..3 {
        assert_eq!(kind(durable(&host, &a, 0, &[1; 4096])), HostErrorKind::Io);
        durable(&host, &b, 0, &[1; 4096]).expect("the other disk is well");
    }
    host.heal_device(SDA);
    durable(&host, &a, 0, &[1; 4096]).expect("healed");
}

#[test]
fn a_torn_write_fails_with_sectors_old_and_new() {
    let host = host();
    let device = open(&host, SDA);
    for _ in 0..50 {
        durable(&host, &device, 0, &[1; 4096]).expect("write");
        host.fail_next(EffectKind::DurableWrite, Fault::Torn);
        assert_eq!(kind(durable(&host, &device, 0, &[2; 4096])), HostErrorKind::Io);
        let image = host.peek_durable(SDA, 0, 4096);
        assert!(image.chunks(512).all(|sector| sector == [1; 512] || sector == [2; 512]));
        assert!(image.contains(&1) && image.contains(&2));
    }
}

#[test]
fn a_disk_that_lies_acknowledges_what_it_did_not_do() {
    let host = host();
    let device = open(&host, SDA);
    let write = |fault, byte: u8| {
        host.fail_next(EffectKind::DurableWrite, fault);
        durable(&host, &device, 1 << 20, &[byte; 4096]).expect("acknowledged");
        host.peek_durable(SDA, 1 << 20, 4096)
    };
    assert_eq!(write(Fault::LostWrite, 1), [0; 4096]);
    let junk = write(Fault::Junk, 2);
    assert!(junk != [2; 4096] && junk != [0; 4096]);
    assert_eq!(write(Fault::Misdirected, 3), junk);
    assert_eq!(write(Fault::Zeros, 4), [0; 4096]);
}

#[test]
fn a_flush_that_lies_or_fails_leaves_writes_that_a_power_cut_can_take() {
    for fault in [Fault::LostWrite, Fault::Error(HostErrorKind::Io)] {
        let host = host();
        let device = open(&host, SDA);
        device.write_at(0, &[1; 4096]).expect("write");
        host.fail_next(EffectKind::Flush, fault);
        assert_eq!(device.flush().is_ok(), fault == Fault::LostWrite);
        assert_eq!(device.read_at(0, 4096).expect("read"), [1; 4096]);
        if fault != Fault::LostWrite {
            device.flush().expect("the second flush says yes, and does not mean what failed before");
        }
        host.crash(CrashMode::LoseAll);
        host.restart();
        assert_eq!(host.peek(SDA, 0, 4096), [0; 4096]);
    }
}

#[test]
fn a_fault_that_means_nothing_for_an_effect_is_ignored() {
    let host = host();
    let pool = Pool::new(&host);
    host.fail_next(EffectKind::DmMessage, Fault::Torn);
    pool.message("create_thin 1").expect("no write, nothing to tear");
    host.fail_effect(host.effects() + 1, Fault::KillDaemonInside(2));
    pool.message("create_thin 2").expect("a message has one stage");
    assert!(!host.is_dead());
    assert!(!EffectKind::DmMessage.can_suffer(Fault::Torn) && EffectKind::DurableWrite.can_suffer(Fault::Torn));
}

#[test]
fn a_commit_of_several_writes_is_as_many_effects_and_answers_each() {
    let host = host();
    let device = open(&host, SDA);
    let before = host.effects();
    host.fail_effect(before + 2, Fault::Error(HostErrorKind::Io));
    let write = |offset, data| DurableWrite { device: &device, offset, data };
    let answers = host.write_durable(&[write(0, &[1; 4096]), write(4096, &[2; 4096]), write(512, &[3; 4096])]);
    assert_eq!(host.effects(), before + 3);
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.err().map(|error| error.kind)).collect();
    assert_eq!(kinds, [None, Some(HostErrorKind::Io), Some(HostErrorKind::Invalid)]);
    assert_eq!(host.peek(SDA, 4096, 1), [0]);
}

#[test]
fn the_counters_say_what_an_operation_cost() {
    let host = host();
    let pool = Pool::new(&host);
    host.reset_counters();
    let device = open(&host, SDA);
    durable(&host, &device, 0, &[1; 8192]).expect("write");
    device.write_at(0, &[1; 4096]).expect("write");
    device.flush().expect("flush");
    device.read_at(0, 4096).expect("read");
    pool.message("create_thin 1").expect("create");
    let thin = pool.open_thin(1).expect("open");
    host.mkfs(thin.dev, &thin.uuid, FsKind::Ext4, uuid::Uuid::nil(), &MkfsOptions::default()).expect("mkfs");
    pool.snapshot(2, 1, true).expect("snapshot");
    let counted = host.counters();
    assert_eq!((counted.opens, counted.writes, counted.flushes, counted.mkfs), (1, 2, 2, 1));
    assert_eq!(counted.bytes_written.get(Path::new(SDA)), Some(&12288));
    assert_eq!((counted.reads, counted.bytes_read), (1, 4096));
    // Message 1, asking for the pool's number 1, create 3, snapshot 3.
    assert_eq!((counted.ioctls, counted.messages), (8, 2));
}

#[test]
fn the_trace_tells_what_was_done_and_what_came_of_it() {
    let host = host();
    host.fail_next(EffectKind::DmRemove, Fault::Error(HostErrorKind::Busy));
    host.dm_remove("VOLUMED-x").expect_err("busy");
    host.dm_remove("VOLUMED-x").expect_err("not there");
    assert_eq!(
        host.trace(),
        [
            "   1 dm remove VOLUMED-x -> Busy: injected fault [Error(Busy)]",
            "   2 dm remove VOLUMED-x -> NotFound: no such dm device",
        ]
    );
    host.keep_trace(false);
    host.dm_remove("VOLUMED-x").expect_err("not there");
    assert!(host.trace().is_empty() && host.effects() == 3);
}

#[test]
fn the_clock_shows_what_it_was_set_to() {
    let host = host();
    assert_eq!(host.now(), host.now());
    host.set_now(5);
    assert_eq!(host.now(), 5);
}
