//! Directed scenarios: what random walks rarely reach, told in a few lines each. All pass when nothing is wrong.
//! Here: the log, checkpoints, and copies that come and go. In `stories`: disks, requests and the kernel; in `hotplug`:
//! disks that go and come.

use vol_core::Action;
use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_engine::{CreateVolume, Engine};
use vol_format::record;
use vol_sim::{CrashMode, Damage, Fault, SimHost};
use vol_types::{Bytes, Change, Labels, MkfsOptions, Object, Pool, VolumePath};

use super::{hotplug, stories};
use crate::judge::{self, start};
use crate::ops::{Group, Op, Pool as OpPool, Shape, name};

/// `Err` tells what is wrong.
pub type Told = Result<(), String>;
pub type Scenario = (&'static str, fn() -> Told);

/// All of them, the cheap ones first.
pub fn all() -> impl Iterator<Item = Scenario> {
    stories::ALL.iter().chain(hotplug::ALL).chain(ALL).copied()
}

const ALL: &[Scenario] = &[
    ("a record is of one place on one disk", record_is_of_one_place),
    ("the last record is damaged", last_record_damaged),
    ("one number in the last record is another", last_record_changed),
    ("a record of another history stands behind the end", record_of_another_history),
    ("a record in the middle of the only log is damaged", middle_damaged),
    ("a record in the middle of one of two logs is damaged", middle_damaged_of_two),
    ("a record before the end of the lap is damaged", gap_at_the_end_of_a_lap),
    ("an old disk comes back", old_disk_comes_back),
    ("a copy failed for one commit", copy_failed_once),
    ("each commit fails on another copy", each_on_another),
    ("no majority can be written", no_majority),
    ("a deletion is on one of two copies", deletion_on_one_copy),
    ("two histories went on", two_histories),
    ("a wiped copy and an old one", wiped_and_old),
    ("a minority starts", minority_starts),
    ("a minority heard of a deletion", minority_heard_of_a_deletion),
    ("an unfinished volume is found by a minority", minority_finds_unfinished),
    ("the log goes round", log_goes_round),
    ("the power fails between the steps of a checkpoint", between_steps),
    ("the log goes round behind a checkpoint that is under way", log_full_beside_a_checkpoint),
    ("a copy is away for hundreds of commits", away_for_long),
];

pub fn not_told(engine: &Engine<SimHost>) -> String {
    format!("what is wrong is not told; told is: {:?}", problems(engine))
}

pub fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Told {
    if holds { Ok(()) } else { Err(otherwise()) }
}

pub fn on(host: &SimHost) -> Result<Engine<SimHost>, String> {
    start(host).map_err(|error| format!("the start failed: {error}"))
}

pub fn ask(engine: &Engine<SimHost>, shape: Shape, op: Op) -> Told {
    op.run(engine, shape, 1).map(drop).map_err(|error| format!("{op}: {error}"))
}

/// A machine with so many disks, on which `data` and `tank` are.
pub fn group(disks: u8) -> Result<(SimHost, Engine<SimHost>), String> {
    let shape = Shape::new(disks, disks);
    let host = shape.machine(11);
    let engine = on(&host)?;
    ask(&engine, shape, Op::CreateVg(Group::Data))?;
    ask(&engine, shape, Op::CreatePool(OpPool::Tank))?;
    Ok((host, engine))
}

pub fn request(volume: &str) -> CreateVolume {
    let path = VolumePath { vg: Group::Data.name(), volume: name(volume) };
    CreateVolume {
        path,
        pool: None,
        size: Bytes::mib(1),
        fs: None,
        labels: Labels::default(),
        reserve: vol_types::Reserve::None,
        protect: false,
        mkfs: MkfsOptions::default(),
    }
}

pub fn create(engine: &Engine<SimHost>, volume: &str) -> Told {
    engine.create_volume(&request(volume), false).map(drop).map_err(|error| format!("create {volume}: {error}"))
}

pub fn volumes(engine: &Engine<SimHost>) -> Vec<String> {
    let mut all = Vec::new();
    for vg in engine.vgs() {
        vg.read(|catalog| {
            all.extend(
                catalog.volumes().map(|volume| format!("{} {:?}", vol_core::VolumeName::of(volume), volume.state)),
            );
        });
    }
    all.sort();
    all
}

pub fn has(engine: &Engine<SimHost>, volume: &str) -> bool {
    volumes(engine).contains(&format!("{volume} Ready"))
}

pub fn problems(engine: &Engine<SimHost>) -> String {
    let mut all = engine.scan_problems();
    all.extend(engine.vgs().iter().flat_map(|vg| vg.view().problems.clone()));
    all.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
}

/// The machine is started anew without what was not flushed.
pub fn reboot(host: &SimHost) -> Result<Engine<SimHost>, String> {
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.restart();
    on(host)
}

/// A commit of one block that needs no pool.
fn commit(host: &SimHost, engine: &Engine<SimHost>, percent: u32) -> Told {
    let vg = engine.vgs().first().cloned().ok_or("no group")?;
    let made = vg.change(host, false, |catalog, _, _| {
        let mut plan = vol_core::Plan::new("a commit");
        if let Some(pool) = catalog.pools().next() {
            let pool = Pool { overcommit_percent: percent, ..pool.clone() };
            plan.push(Action::Commit { changes: vec![Change::Put(Object::Pool(pool))] });
        }
        Ok((plan, ()))
    });
    made.map(drop).map_err(|error| format!("commit {percent}: {error}"))
}

fn percent(engine: &Engine<SimHost>) -> u32 {
    let vg = engine.vgs().first().cloned();
    vg.and_then(|vg| vg.read(|catalog| catalog.pools().next().map(|pool| pool.overcommit_percent))).unwrap_or(0)
}

fn finds(host: &SimHost, wanted: u32, when: &str) -> Result<Engine<SimHost>, String> {
    let engine = reboot(host)?;
    let (found, told) = (percent(&engine), problems(&engine));
    must(found == wanted, || format!("{when}: found {found}, {wanted} was acknowledged ({told})"))?;
    Ok(engine)
}

const DISKS: [&str; 3] = ["/dev/sda", "/dev/sdb", "/dev/sdc"];
/// Where the log of a whole disk begins, and its length, in blocks (docs/spec/on-disk-format.md, section 2).
const LOG: u64 = 2 * Bytes::MIB;
const LAP: u64 = 256;

/// Blocks of the log of this disk that hold a record.
fn records(host: &SimHost, disk: &str) -> Vec<u64> {
    (0..LAP).filter(|block| host.peek(disk, LOG + block * 4096, 8).starts_with(&record::MAGIC)).collect()
}

fn record_is_of_one_place() -> Told {
    let (host, engine) = group(2)?;
    create(&engine, "one")?;
    let ids = engine.vgs()[0].read(|catalog| (catalog.vg().id, catalog.pvs().map(|pv| pv.id).collect::<Vec<_>>()));
    let block = host.peek("/dev/sda", LOG, 4096);
    let fits =
        |pv: usize, position: u64| record::decode(&record::Copy { vg: ids.0, pv: ids.1[pv] }, position, &block).is_ok();
    must(fits(0, 0) != fits(1, 0), || "a record is good for two disks".to_owned())?;
    must(!fits(0, LAP * 4096) && !fits(1, LAP * 4096), || "a record is good for two laps".to_owned())
}

fn last_record_damaged() -> Told {
    let (host, engine) = group(1)?;
    commit(&host, &engine, 700)?;
    commit(&host, &engine, 800)?;
    host.crash(CrashMode::LoseAll);
    let last = records(&host, "/dev/sda").last().copied().unwrap_or_default();
    host.damage("/dev/sda", LOG + last * 4096 + 80, 8, Damage::Junk);
    host.restart();
    let engine = on(&host)?;
    must(percent(&engine) == 700, || format!("found {}: {}", percent(&engine), problems(&engine)))
}

/// What is there makes sense, and is not what was written.
fn last_record_changed() -> Told {
    let (host, engine) = group(1)?;
    commit(&host, &engine, 700)?;
    commit(&host, &engine, 789)?;
    host.crash(CrashMode::LoseAll);
    let last = records(&host, "/dev/sda").last().copied().unwrap_or_default();
    let block = host.peek("/dev/sda", LOG + last * 4096, 4096);
    let at = block.windows(4).position(|bytes| bytes == 789u32.to_le_bytes()).ok_or("the record does not say 789")?;
    host.poke("/dev/sda", LOG + last * 4096 + at as u64, &790u32.to_le_bytes());
    host.restart();
    let engine = on(&host)?;
    must(percent(&engine) == 700, || format!("found {}: {}", percent(&engine), problems(&engine)))
}

fn record_of_another_history() -> Told {
    let (host, engine) = group(1)?;
    commit(&host, &engine, 700)?;
    let other = host.fork();
    commit(&host, &engine, 800)?;
    drop(engine);
    let engine = reboot(&other)?;
    commit(&other, &engine, 900)?;
    commit(&other, &engine, 901)?;
    let last = records(&other, "/dev/sda").last().copied().unwrap_or_default();
    host.crash(CrashMode::LoseAll);
    host.poke("/dev/sda", LOG + last * 4096, &other.peek("/dev/sda", LOG + last * 4096, 4096));
    host.restart();
    let engine = on(&host)?;
    must(percent(&engine) == 800, || format!("found {}", percent(&engine)))
}

fn middle_damaged() -> Told {
    let (host, engine) = group(1)?;
    (0..4).try_for_each(|more| commit(&host, &engine, 700 + more))?;
    host.crash(CrashMode::LoseAll);
    host.damage("/dev/sda", LOG + 4096, 4096, Damage::Junk);
    host.restart();
    let engine = on(&host)?;
    must(problems(&engine).contains("is damaged behind commit"), || not_told(&engine))?;
    must(create(&engine, "x").is_err(), || "an old state takes changes".to_owned())
}

fn middle_damaged_of_two() -> Told {
    let (host, engine) = group(2)?;
    (0..4).try_for_each(|more| commit(&host, &engine, 700 + more))?;
    host.crash(CrashMode::LoseAll);
    host.damage("/dev/sda", LOG + 4096, 4096, Damage::Junk);
    drop(finds(&host, 703, "with another copy")?);
    host.remove_disk("/dev/sdb");
    finds(&host, 703, "and the damaged copy was mended").map(drop)
}

fn gap_at_the_end_of_a_lap() -> Told {
    let (host, engine) = group(1)?;
    (0..140).try_for_each(|_| commit(&host, &engine, 700))?;
    must(engine.vgs()[0].maintain(&host), || "no checkpoint was wanted".to_owned())?;
    (0..LAP as u32 - 100).try_for_each(|more| commit(&host, &engine, 1000 + more))?;
    host.crash(CrashMode::LoseAll);
    host.damage("/dev/sda", LOG + (LAP - 1) * 4096, 4096, Damage::Junk);
    host.restart();
    let engine = on(&host)?;
    must(problems(&engine).contains("is damaged behind commit"), || {
        format!("{} {}", percent(&engine), problems(&engine))
    })
}

fn old_disk_comes_back() -> Told {
    let (host, engine) = group(3)?;
    let old = host.disk_image("/dev/sda");
    let other = host.disk_image("/dev/sdb");
    commit(&host, &engine, 700)?;
    host.crash(CrashMode::LoseAll);
    for (disk, image) in [("/dev/sda", old), ("/dev/sdb", other)] {
        let host = host.fork();
        host.set_disk_image(disk, &image);
        drop(finds(&host, 700, "one of three is old")?);
        // It was brought up to date.
        DISKS.iter().filter(|other| **other != disk).for_each(|other| host.remove_disk(other));
        finds(&host, 700, "the old one alone")?;
    }
    Ok(())
}

fn copy_failed_once() -> Told {
    let (host, engine) = group(3)?;
    host.fail_once("/dev/sdb", 0, Fault::Error(HostErrorKind::Io));
    commit(&host, &engine, 700)?;
    commit(&host, &engine, 701)?;
    drop(finds(&host, 701, "two of three had it")?);
    for alone in DISKS {
        let host = host.fork();
        DISKS.iter().filter(|other| **other != alone).for_each(|other| host.remove_disk(other));
        finds(&host, 701, alone)?;
    }
    Ok(())
}

fn each_on_another() -> Told {
    let (host, engine) = group(3)?;
    host.fail_once("/dev/sda", 0, Fault::Error(HostErrorKind::Io));
    commit(&host, &engine, 700)?;
    host.fail_once("/dev/sdb", 0, Fault::Error(HostErrorKind::Io));
    let acknowledged = if commit(&host, &engine, 701).is_ok() { 701 } else { 700 };
    host.crash(CrashMode::LoseAll);
    host.restart();
    for gone in DISKS {
        let host = host.fork();
        host.remove_disk(gone);
        let found = percent(&reboot(&host)?);
        must(found >= acknowledged, || format!("without {gone}: found {found}, {acknowledged} was acknowledged"))?;
    }
    Ok(())
}

fn no_majority() -> Told {
    let (host, engine) = group(3)?;
    for disk in ["/dev/sdb", "/dev/sdc"] {
        host.fail_device(disk, Fault::Error(HostErrorKind::Io));
    }
    must(commit(&host, &engine, 700).is_err(), || "one copy of three is not durable".to_owned())?;
    must(percent(&engine) != 700, || "it is seen, and was not acknowledged".to_owned())?;
    host.crash(CrashMode::LoseAll);
    host.remove_disk("/dev/sda");
    must(percent(&reboot(&host)?) != 700, || "found where it never was".to_owned())
}

fn deletion_on_one_copy() -> Told {
    let (host, engine) = group(2)?;
    create(&engine, "kept")?;
    host.fail_once("/dev/sdb", 0, Fault::Error(HostErrorKind::Io));
    let key = vol_core::VolumeName { volume: name("kept"), snapshot: None };
    let deleted = engine.delete_volume(&Group::Data.name(), &key, false);
    must(deleted.is_err(), || "acknowledged with one of two copies".to_owned())?;
    let promised = create(&engine, "kept").is_ok();
    let there = has(&reboot(&host)?, "kept");
    must(!promised || there, || "it was said to be there, and is not".to_owned())
}

fn two_histories() -> Told {
    let (host, engine) = group(2)?;
    drop(engine);
    let mut sides = Vec::new();
    for (keep, volume) in [("/dev/sda", "left"), ("/dev/sdb", "right")] {
        let side = host.fork();
        create(&on(&side)?, volume)?;
        sides.push((keep, side.disk_image(keep)));
    }
    host.crash(CrashMode::LoseAll);
    sides.iter().for_each(|(keep, image)| host.set_disk_image(keep, image));
    host.restart();
    let engine = on(&host)?;
    must(problems(&engine).contains("different histories"), || not_told(&engine))?;
    must(create(&engine, "x").is_err(), || "it takes changes".to_owned())
}

/// The newest commit is on sda and sdb; then sda is wiped and sdb is away: what sdc says is old.
fn wiped_and_old() -> Told {
    let (host, engine) = group(3)?;
    host.fail_device("/dev/sdc", Fault::Error(HostErrorKind::Io));
    commit(&host, &engine, 700)?;
    drop(engine);
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.damage("/dev/sda", LOG, 3 * Bytes::MIB, Damage::Zeros);
    host.remove_disk("/dev/sdb");
    let engine = reboot(&host)?;
    must(commit(&host, &engine, 800).is_err(), || "an old state takes changes".to_owned())?;
    drop(engine);
    host.reattach("/dev/sdb");
    let engine = finds(&host, 700, "when the newest is back")?;
    must(engine.vgs()[0].view().copies == (3, 3), || problems(&engine))
}

fn minority_starts() -> Told {
    let (host, engine) = group(3)?;
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.remove_disk("/dev/sdb");
    host.remove_disk("/dev/sdc");
    let engine = reboot(&host)?;
    must(commit(&host, &engine, 700).is_err(), || "one of three takes changes".to_owned())
}

fn minority_heard_of_a_deletion() -> Told {
    let shape = Shape::new(3, 3);
    let host = shape.machine(11);
    let engine = on(&host)?;
    ask(&engine, shape, Op::CreateVg(Group::Data))?;
    for disk in ["/dev/sdb", "/dev/sdc"] {
        host.fail_device(disk, Fault::Error(HostErrorKind::Io));
    }
    must(ask(&engine, shape, Op::DeleteVg(Group::Data)).is_err(), || "acknowledged by one of three".to_owned())?;
    drop(engine);
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.remove_disk("/dev/sdb");
    host.remove_disk("/dev/sdc");
    drop(reboot(&host)?);
    let label = host.peek("/dev/sda", Bytes::MIB + 64 * 1024, 8);
    must(label != [0; 8], || "the word of one of three was taken".to_owned())
}

/// A creation was cut short, and only one copy of three is there: whether that is the newest nobody knows.
fn minority_finds_unfinished() -> Told {
    let (host, engine) = group(3)?;
    create(&engine, "other")?;
    host.fail_next(vol_sim::EffectKind::DmMessage, Fault::KillDaemonBefore);
    must(create(&engine, "cut").is_err(), || "it was to die".to_owned())?;
    drop(engine);
    host.crash(CrashMode::LoseAll);
    for alone in DISKS {
        let host = host.fork();
        DISKS.iter().filter(|other| **other != alone).for_each(|other| host.remove_disk(other));
        host.restart();
        drop(on(&host)?);
        // It may be opened and read; nothing is made.
        let devices = host.dm_devices().map_or(0, |devices| devices.len());
        must(devices == 0, || format!("{alone} alone was enough to make {devices} devices"))?;
    }
    Ok(())
}

fn log_goes_round() -> Told {
    let (host, engine) = group(2)?;
    for round in 0..7 {
        (0..100).try_for_each(|more| commit(&host, &engine, 1000 + round * 100 + more))?;
        let crashed = host.fork();
        finds(&crashed, 1000 + round * 100 + 99, "the log goes round")?;
    }
    create(&engine, "late")?;
    let engine = reboot(&host)?;
    must(has(&engine, "late"), || problems(&engine))?;
    judge_nothing_wrong(&host, &engine)
}

pub fn judge_nothing_wrong(host: &SimHost, engine: &Engine<SimHost>) -> Told {
    let mut wrong = Vec::new();
    judge::complaints(host, engine, true, &mut wrong);
    must(wrong.is_empty(), || wrong.join("; "))
}

fn between_steps() -> Told {
    let (host, engine) = group(2)?;
    (0..140).try_for_each(|more| commit(&host, &engine, 1000 + more))?;
    let vg = engine.vgs()[0].clone();
    let job = vg.checkpoint_job().ok_or("no checkpoint is wanted")?;
    let mut last = 1139;
    for step in 0..20 {
        for mode in [CrashMode::LoseAll, CrashMode::KeepAll, CrashMode::Random] {
            let crashed = host.fork();
            crashed.crash(mode);
            crashed.restart();
            let found = percent(&on(&crashed)?);
            must(found == last, || format!("before step {step}: found {found}, {last} was acknowledged"))?;
        }
        let mut step = job.lock().map_err(|error| error.to_string())?;
        if step.is_done() {
            break;
        }
        step.advance(&host).map_err(|error| error.to_string())?;
        drop(step);
        last += 1;
        commit(&host, &engine, last)?;
    }
    vg.maintain(&host);
    // Once more round the log, over what the checkpoint made free.
    for _ in 0..5 {
        drop(finds(&host.fork(), last, "behind the checkpoint")?);
        for _ in 0..40 {
            last += 1;
            commit(&host, &engine, last)?;
        }
    }
    finds(&host, last, "a lap later").map(drop)
}

fn log_full_beside_a_checkpoint() -> Told {
    let (host, engine) = group(2)?;
    (0..140).try_for_each(|more| commit(&host, &engine, 1000 + more))?;
    let job = engine.vgs()[0].checkpoint_job().ok_or("no checkpoint is wanted")?;
    job.lock().map_err(|error| error.to_string())?.advance(&host).map_err(|error| error.to_string())?;
    for more in 0..200 {
        commit(&host, &engine, 2000 + more)?;
        if more % 20 == 19 {
            finds(&host.fork(), 2000 + more, "a checkpoint is under way")?;
        }
    }
    Ok(())
}

fn away_for_long() -> Told {
    let (host, engine) = group(3)?;
    host.fail_device("/dev/sdc", Fault::Error(HostErrorKind::Io));
    commit(&host, &engine, 700)?;
    drop(engine);
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.remove_disk("/dev/sdc");
    let engine = reboot(&host)?;
    for _ in 0..4 {
        (0..150).try_for_each(|more| commit(&host, &engine, 1000 + more))?;
        engine.vgs()[0].maintain(&host);
    }
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.reattach("/dev/sdc");
    let engine = finds(&host, 1149, "it is back")?;
    must(engine.vgs()[0].view().copies == (3, 3), || not_told(&engine))?;
    drop(engine);
    host.remove_disk("/dev/sda");
    host.remove_disk("/dev/sdb");
    finds(&host, 1149, "by itself").map(drop)
}
