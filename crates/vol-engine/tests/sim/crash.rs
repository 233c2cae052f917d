//! Every crash point of every request: at each effect the daemon is killed or the power is cut, before, inside and after
//! it, and unflushed writes are lost, kept or torn apart at random; or the effect fails, once.
//!
//! Afterwards a daemon starts. Then: no invariant of the simulated kernel was broken, nothing is suspended, the catalog is
//! sound, what had been acknowledged is there, the request is wholly done or wholly absent, and it can be made again.

use vol_engine::host::HostErrorKind;
use vol_sim::{CrashMode, Fault, SimHost};

use super::bench::*;

pub const OPS: [Op; 58] = [
    Op::CreateVg,
    Op::CreateFileVg,
    Op::CreatePool,
    Op::CreateFormatted,
    Op::CreateRaw,
    Op::Mount,
    Op::SnapshotMounted,
    Op::SnapshotIdle,
    Op::Unmount,
    Op::Resize,
    Op::ResizeIdle,
    Op::Check,
    Op::Trim,
    Op::DeleteVolume,
    Op::DeleteSnapshot,
    Op::KeepVolume,
    Op::UndeleteVolume,
    Op::PurgePool,
    Op::DeletePool,
    Op::DeleteVg,
    Op::ExtendVg,
    Op::ReduceVg,
    Op::RenameVg,
    Op::ExportVg,
    Op::ImportVg,
    Op::WipePv,
    Op::CloneSnapshot,
    Op::CloneMounted,
    Op::CloneReserved,
    Op::SnapshotGroup,
    Op::Rollback,
    Op::RenameVolume,
    Op::RenameSnapshot,
    Op::Label,
    Op::LabelPv,
    Op::Protect,
    Op::ExtendPool,
    Op::ExtendMetadata,
    Op::Reserve,
    Op::SetPool,
    Op::PlacePool,
    Op::CheckPool,
    Op::RepairPool,
    Op::DiscardOriginal,
    Op::CreateThick,
    Op::CreateStriped,
    Op::GrowThick,
    Op::GrowThickElsewhere,
    Op::CloneThick,
    Op::CloneThickPlaced,
    Op::KeepThick,
    Op::DeleteThick,
    Op::FormatThick,
    Op::CreateSubdir,
    Op::CreateProtected,
    Op::CloneLarger,
    Op::CloneThickLarger,
    Op::MountSubdir,
];

const DEATHS: [Fault; 8] = [
    Fault::KillDaemonBefore,
    Fault::KillDaemonInside(1),
    Fault::KillDaemonInside(2),
    Fault::KillDaemonAfter,
    Fault::PowerCutBefore,
    Fault::PowerCutInside(1),
    Fault::PowerCutInside(2),
    Fault::PowerCutAfter,
];

struct Clean {
    before: SimHost,
    old: Vec<String>,
    new: Vec<String>,
    effects: std::ops::RangeInclusive<u64>,
}

impl Clean {
    /// Before, after, or on its way: emptying a large volume is not done at once, and is gone on with when it is asked for again.
    fn allows(&self, found: &[String]) -> bool {
        let begun = self.old.iter().map(|line| line.replace("pg Deleted formatted ext4", "pg Deleted Blank"));
        // Or it waits for the same request.
        let waits = found.iter().any(|line| line == "volume made Creating Blank");
        let others = found.iter().filter(|line| !line.starts_with("volume made ") && !line.starts_with("made: "));
        found == self.old || found == self.new || begun.eq(found.iter().cloned()) || waits && others.eq(&self.old)
    }
}

/// One run without faults: what there was, what there is, and which effects made the difference.
fn clean(op: Op) -> Clean {
    let before = op.before();
    before.keep_trace(false);
    let host = before.fork();
    let engine = start(&host);
    let (old, first) = (inventory_with_space(&engine), host.effects() + 1);
    op.run(&engine).unwrap_or_else(|error| panic!("{op:?}: {error}"));
    let new = inventory_with_space(&engine);
    sound(&host, &engine, &format!("{op:?} without faults"));
    Clean { old, new, effects: first..=host.effects(), before }
}

/// A start after the crash, and all that must hold then.
fn judge(clean: &Clean, op: Op, host: &SimHost, story: &str) {
    host.clear_faults();
    let engine = start(host);
    // What was being wiped or copied goes on by itself.
    engine.fill_unfinished(&|| true);
    sound_or_waiting(host, &engine, story);
    let found = inventory_with_space(&engine);
    assert!(clean.allows(&found), "{story}: neither before nor after, but {found:#?}");
    if op == Op::CreateFileVg && found == clean.old {
        // A crash may leave an empty file behind, which nobody but its owner may take for rubbish: the refusal says so.
        use vol_engine::host::HostMut as _;
        drop(host.delete_file(std::path::Path::new("/var/lib/volumed/demo.img")));
    }
    wipe_unknown(&engine);
    let again = op.run(&engine);
    let done = inventory_with_space(&engine);
    assert!(done == clean.new, "{story}: made again it came to {again:?} and {done:#?}");
    sound(host, &engine, story);
    assert_eq!(engine.unknown_pvs(), Vec::new(), "{story}");
}

#[test]
fn each_request_survives_a_death_at_each_effect() {
    let mut states = 0u64;
    for op in OPS {
        let clean = clean(op);
        for number in clean.effects.clone() {
            for death in DEATHS {
                let host = clean.before.fork();
                let engine = start(&host);
                host.fail_effect(number, death);
                let acknowledged = op.run(&engine).is_ok();
                drop(engine);
                if !host.is_dead() {
                    continue;
                }
                let modes: &[CrashMode] = if death.cuts_power() {
                    &[CrashMode::LoseAll, CrashMode::KeepAll, CrashMode::Random, CrashMode::Random]
                } else {
                    &[CrashMode::KeepAll]
                };
                for mode in modes {
                    let story = format!("{op:?}, {death:?} at effect {number}, {mode:?}");
                    let host = host.fork();
                    if death.cuts_power() {
                        host.settle(mode.clone());
                    }
                    host.restart();
                    if acknowledged {
                        let engine = start(&host.fork());
                        assert_eq!(inventory_with_space(&engine), clean.new, "{story}: acknowledged and lost");
                    }
                    judge(&clean, op, &host, &story);
                    states += 1;
                }
            }
        }
    }
    println!("{states} crash states of {} requests", OPS.len());
    assert!(states > 1500, "only {states} crash states were walked");
}

#[test]
fn recovery_itself_survives_a_death_at_each_of_its_effects() {
    let mut states = 0u64;
    for op in [
        Op::CreateVg,
        Op::CreateFormatted,
        Op::CreateRaw,
        Op::SnapshotMounted,
        Op::Resize,
        Op::DeleteVolume,
        Op::CreatePool,
        Op::ExtendPool,
        Op::SnapshotGroup,
        Op::Rollback,
    ] {
        let clean = clean(op);
        for number in clean.effects.clone() {
            let first = clean.before.fork();
            let engine = start(&first);
            first.fail_effect(number, Fault::PowerCutAfter);
            drop(op.run(&engine));
            drop(engine);
            if !first.is_dead() {
                continue;
            }
            first.settle(CrashMode::LoseAll);
            first.restart();
            let start_at = first.effects() + 1;
            let probe = first.fork();
            drop(start(&probe));
            for second in start_at..=probe.effects() {
                for death in [Fault::KillDaemonAfter, Fault::PowerCutAfter, Fault::PowerCutBefore] {
                    let host = first.fork();
                    host.fail_effect(second, death);
                    // It may well say that it could not see the disks: it is dead.
                    drop(vol_engine::Engine::new(host.clone()).scan(&[], false));
                    if !host.is_dead() {
                        continue;
                    }
                    if death.cuts_power() {
                        host.settle(CrashMode::Random);
                    }
                    host.restart();
                    judge(&clean, op, &host, &format!("{op:?} cut after {number}, recovery {death:?} at {second}"));
                    states += 1;
                }
            }
        }
    }
    println!("{states} states of a crash in the recovery from a crash");
    assert!(states > 500, "only {states} states were walked");
}

#[test]
fn a_request_whose_effect_fails_once_is_wholly_done_or_wholly_absent_at_once() {
    let mut states = 0u64;
    for op in OPS {
        let clean = clean(op);
        for number in clean.effects.clone() {
            for fault in [
                Fault::Error(HostErrorKind::Io),
                Fault::ErrorAfter(HostErrorKind::TimedOut),
                Fault::Error(HostErrorKind::Busy),
                Fault::Torn,
                Fault::MessageCommitFails,
                Fault::MessageCommitFailsLate,
            ] {
                let host = clean.before.fork();
                let engine = start(&host);
                host.fail_effect(number, fault);
                let result = op.run(&engine);
                let story = format!("{op:?}, {fault:?} at effect {number}: {result:?}");
                assert_eq!(host.suspended_devices(), Vec::<String>::new(), "{story}");
                assert_eq!(host.violations(), Vec::<String>::new(), "{story}");
                if result.is_ok() {
                    assert_eq!(inventory_with_space(&engine), clean.new, "{story}");
                }
                drop(engine);
                // The daemon and the machine are started anew: whatever failed, nothing half-made is found.
                host.crash(CrashMode::LoseAll);
                host.restart();
                drop(start(&host));
                heal_pools(&host);
                host.crash(CrashMode::LoseAll);
                host.restart();
                let engine = start(&host);
                engine.fill_unfinished(&|| true);
                let found = inventory_with_space(&engine);
                assert!(clean.allows(&found), "{story}: found {found:#?}");
                assert_eq!(host.violations(), Vec::<String>::new(), "{story}");
                states += 1;
            }
        }
    }
    println!("{states} failures");
}

/// What an operator does to a pool that needs a check; until then it is refused, which `refused.rs` shows.
fn heal_pools(host: &SimHost) {
    use vol_engine::host::HostRead as _;
    for device in host.dm_devices().unwrap() {
        if device.uuid.ends_with("-tpool") {
            drop(host.repair_pool(&device.uuid));
        }
    }
}
