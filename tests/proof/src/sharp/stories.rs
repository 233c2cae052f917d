//! Directed scenarios about disks that are not what they were, requests that come together, and a kernel that misbehaves.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vol_core::VolumeName;
use vol_core::dm::Device;
use vol_core::observed::Signature;
use vol_core::plan::snapshot::CreateSnapshot;
use vol_core::plan::thick::Layout;
use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_engine::{CreateThick, CreateVg, CreateVolume, Engine, PlaceOn, ThinRequest};
use vol_sim::{CrashMode, Damage, EffectKind, Fault, ProbeLie, SimHost, ThinFlaw};
use vol_types::{Bytes, FsKind, IntentId, Labels, MkfsOptions, SnapshotPath, VolumeId, VolumePath, limit};

use super::scenarios::{
    Scenario, Told, ask, create, group, has, judge_nothing_wrong, must, not_told, on, problems, reboot, request,
    volumes,
};
use crate::ops::{Group, Key, Op, Pool, Shape, Snap, Vol, name};

pub const ALL: &[Scenario] = &[
    ("a disk was given to somebody else", given_away),
    ("a disk is there twice", cloned),
    ("a disk shrank", shrank),
    ("a file that is found nowhere by itself", remembered_file),
    ("making a group fails on one disk", new_group_fails),
    ("a pool's metadata became blank", blank_pool),
    ("a message is lost by the pool", message_lost),
    ("mkfs makes nothing", mkfs_makes_nothing),
    ("one of three volumes cannot be formatted", batch_fails),
    ("changes of one name come together", batch_conflicts),
    ("promises are made together", batch_promises),
    ("the clock goes back", clock_back),
    ("an origin was left suspended", left_suspended),
    ("snapshots are counted", snapshots_counted),
    ("a group whose metadata are on one of three disks is deleted", one_copy_deleted),
    ("the end of a change is written with the next", ends_with_the_next),
    ("one copy each is on its own disk", each_copy_alone),
    ("a device is there already", device_there_already),
    ("extents are handed out again", handed_out_again),
    ("a directory is handed out instead of the root", directory_handed_out),
    ("two work on one volume", two_at_once),
    ("a pool that is as large as it can be is repaired", repaired_when_full),
];

const TWO: Shape = Shape::new(2, 2);

fn effects_on(host: &SimHost, disk: &str, since: u64) -> usize {
    host.effect_log().iter().filter(|effect| effect.number > since && effect.what.contains(disk)).count()
}

fn given_away() -> Told {
    let (host, engine) = group(2)?;
    drop(engine);
    host.crash(CrashMode::LoseAll);
    for number in 0..2 {
        let host = host.fork();
        let signature = |usage: &str, kind: &str| Signature {
            usage: usage.to_owned(),
            kind: kind.to_owned(),
            label: None,
            uuid: None,
        };
        match number {
            0 => host.add_signature("/dev/sdb", signature("crypto", "crypto_LUKS")),
            _ => host.poke("/dev/sdb", 1024 + 16, &[7; 16]),
        }
        host.restart();
        host.keep_trace(true);
        let before = host.effects();
        let engine = on(&host)?;
        must(problems(&engine).contains("carries something else since"), || not_told(&engine))?;
        drop(create(&engine, "x"));
        let touched = effects_on(&host, "/dev/sdb", before);
        must(touched == 0, || format!("{touched} effects on a disk of somebody else"))?;
    }
    Ok(())
}

fn cloned() -> Told {
    let (host, engine) = group(3)?;
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.restart();
    host.clone_disk("/dev/sdc", "/dev/sdz", "other");
    host.keep_trace(true);
    let before = host.effects();
    let engine = on(&host)?;
    must(problems(&engine).contains("more than once"), || not_told(&engine))?;
    let touched = effects_on(&host, "/dev/sdc", before) + effects_on(&host, "/dev/sdz", before);
    must(touched == 0, || format!("{touched} effects on disks that cannot be told apart"))
}

fn shrank() -> Told {
    let (host, engine) = group(2)?;
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.resize_disk("/dev/sdb", Bytes::mib(200));
    host.restart();
    let engine = on(&host)?;
    must(problems(&engine).contains("has shrunk"), || not_told(&engine))
}

/// Files in the default folder are found by themselves; others are attached because they are remembered.
fn remembered_file() -> Told {
    let host = Shape::new(1, 1).machine(11);
    host.add_path("/srv/files");
    let engine = on(&host)?;
    let request = CreateVg {
        name: name("data"),
        disks: Vec::new(),
        files: vec![(PathBuf::from("/srv/files/data.img"), Bytes::mib(128))],
        wipe: false,
        extent_size: limit::EXTENT_SIZE_DEFAULT,
        metadata_copies: 1,
    };
    engine.create_vg(&request, false).map_err(|error| error.to_string())?;
    let engine = reboot(&host)?;
    must(engine.vgs().len() == 1, || format!("the group is not found: {}", problems(&engine)))
}

fn new_group_fails() -> Told {
    let shape = Shape::new(3, 3);
    let probe = shape.machine(11);
    ask(&on(&probe)?, shape, Op::CreateVg(Group::Data))?;
    for number in 1..=probe.effects() {
        let host = shape.machine(11);
        let engine = on(&host)?;
        host.fail_effect(number, Fault::Error(HostErrorKind::Io));
        let made = ask(&engine, shape, Op::CreateVg(Group::Data)).is_ok();
        let all = engine.vgs().first().is_none_or(|vg| vg.view().copies == (3, 3));
        must(all, || format!("acknowledged in spite of a failure at {number}"))?;
        must(made != engine.vgs().is_empty(), || format!("failure at {number}: half of it is there"))?;
    }
    Ok(())
}

fn blank_pool() -> Told {
    let (host, engine) = group(2)?;
    create(&engine, "x")?;
    let place = engine.vgs()[0].read(|catalog| {
        let first = catalog.pools().next()?.metadata.first().copied()?;
        let pv = catalog.pv(first.pv)?;
        Some((pv.path_hint.clone(), pv.data_offset.get() + catalog.bytes(first.start).get()))
    });
    let (disk, at) = place.ok_or("no pool")?;
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.damage(&disk, at, 4096, Damage::Zeros);
    host.restart();
    let engine = on(&host)?;
    must(problems(&engine).contains("is not active"), || not_told(&engine))?;
    must(host.peek(&disk, at, 4096) == [0; 4096], || "it was formatted anew".to_owned())
}

fn in_pool(host: &SimHost, engine: &Engine<SimHost>) -> Option<vol_sim::PoolView> {
    let id = engine.vgs().first()?.read(|catalog| catalog.pools().next().map(|pool| pool.id))?;
    host.pool(&Device::Pool(id).uuid())
}

/// Each message of a creation returns 0, and the pool's commit fails.
fn message_lost() -> Told {
    let (before, engine) = group(2)?;
    drop(engine);
    let probe = before.fork();
    probe.keep_trace(true);
    let engine = on(&probe)?;
    let mark = probe.effects();
    create(&engine, "x")?;
    let log = probe.effect_log();
    let sent: Vec<u64> = log
        .iter()
        .filter(|effect| effect.number > mark && effect.kind == EffectKind::DmMessage)
        .map(|effect| effect.number)
        .collect();
    must(sent.len() == 2, || format!("{} messages, one creates and one swaps", sent.len()))?;
    for number in sent {
        for fault in [Fault::MessageCommitFails, Fault::MessageCommitFailsLate] {
            let host = before.fork();
            let engine = on(&host)?;
            host.fail_effect(number, fault);
            let made = create(&engine, "x").is_ok();
            let there = in_pool(&host, &engine).is_some_and(|pool| pool.transaction_id == 1 && !pool.needs_check);
            must(!made || there, || format!("{fault:?}: acknowledged, and the pool has not committed it"))?;
        }
    }
    Ok(())
}

fn formatted(volume: &str) -> CreateVolume {
    CreateVolume { size: Bytes::mib(64), fs: Some(FsKind::Ext4), ..request(volume) }
}

fn mkfs_makes_nothing() -> Told {
    let (host, engine) = group(2)?;
    host.lie_in_probe("*", Some(ProbeLie::Nothing));
    let made = engine.create_volume(&formatted("pg"), false).is_ok();
    must(!made, || "acknowledged, and nothing is found on it".to_owned())?;
    host.lie_in_probe("*", None);
    engine.refresh();
    must(volumes(&engine).is_empty(), || format!("{:?}", volumes(&engine)))?;
    judge_nothing_wrong(&host, &engine)
}

fn batch_fails() -> Told {
    let (host, engine) = group(2)?;
    let wanted: Vec<CreateVolume> = ["a", "b", "c"].into_iter().map(formatted).collect();
    host.fail_next(EffectKind::Mkfs, Fault::Error(HostErrorKind::Tool));
    let answers = engine.create_volumes(&name("data"), &wanted).map_err(|error| error.to_string())?;
    for (request, answer) in wanted.iter().zip(&answers) {
        let there = has(&engine, request.path.volume.as_str());
        must(answer.is_ok() == there, || format!("{}: {answer:?}, there: {there}", request.path))?;
    }
    must(answers.iter().filter(|answer| answer.is_err()).count() == 1, || format!("{answers:?}"))?;
    judge_nothing_wrong(&host, &engine)
}

fn batch_conflicts() -> Told {
    let (host, engine) = group(2)?;
    create(&engine, "v")?;
    use vol_engine::host::HostMut as _;
    let key = |snap: Option<&str>| VolumeName { volume: name("v"), snapshot: snap.map(name) };
    let delete = |key| ThinRequest::Delete { name: key, intent: IntentId::from_uuid(host.new_uuid()) };
    let snapshot = |as_: &str| {
        ThinRequest::Snapshot(vec![CreateSnapshot {
            id: VolumeId::from_uuid(host.new_uuid()),
            intent: IntentId::from_uuid(host.new_uuid()),
            of: name("v"),
            name: name(as_),
            labels: Labels::default(),
            now: 0,
        }])
    };
    let wanted =
        vec![snapshot("a"), snapshot("a"), delete(key(None)), snapshot("b"), delete(key(Some("a"))), delete(key(None))];
    let answers = engine.vgs()[0].submit_all(&host, wanted);
    let done: Vec<_> = answers.iter().map(Result::is_ok).collect();
    must(done == [true, false, true, false, true, false], || format!("{answers:?}"))?;
    must(volumes(&engine).is_empty(), || format!("{:?}", volumes(&engine)))?;
    judge_nothing_wrong(&host, &engine)
}

fn batch_promises() -> Told {
    let (host, engine) = group(2)?;
    // 64 MiB at 1000 % are 640 MiB.
    let wanted: Vec<_> =
        ["a", "b", "c"].into_iter().map(|name| CreateVolume { size: Bytes::mib(300), ..request(name) }).collect();
    let answers = engine.create_volumes(&name("data"), &wanted).map_err(|error| error.to_string())?;
    let done = answers.iter().filter(|answer| answer.is_ok()).count();
    must(done == 2, || format!("{done} of three were made"))?;
    judge_nothing_wrong(&host, &engine)
}

fn clock_back() -> Told {
    let host = TWO.machine(11);
    host.set_now(2_000_000_000);
    let engine = on(&host)?;
    ask(&engine, TWO, Op::CreateVg(Group::Data))?;
    ask(&engine, TWO, Op::CreatePool(Pool::Tank))?;
    create(&engine, "late")?;
    drop(engine);
    host.set_now(1);
    let engine = reboot(&host)?;
    create(&engine, "early")?;
    must(has(&engine, "late") && has(&engine, "early"), || format!("{:?}", volumes(&engine)))
}

/// The daemon dies between suspend and resume, and nobody outside resumes the origin.
fn left_suspended() -> Told {
    for stage in [1, 2] {
        let (host, engine) = group(2)?;
        let pg = Key::volume(Vol::Pg);
        ask(&engine, TWO, Op::CreateVolume(Vol::Pg))?;
        ask(&engine, TWO, Op::Mount(pg))?;
        host.set_guard_resumes(false);
        host.fail_next(EffectKind::ThinSnapshot, Fault::KillDaemonInside(stage));
        drop(ask(&engine, TWO, Op::CreateSnapshot(Key::snapshot(Vol::Pg, Snap::One))));
        drop(engine);
        must(!host.suspended_devices().is_empty(), || "it was to be left suspended".to_owned())?;
        host.restart();
        let engine = on(&host)?;
        must(host.suspended_devices().is_empty(), || format!("{:?} are suspended", host.suspended_devices()))?;
        judge_nothing_wrong(&host, &engine)?;
    }
    Ok(())
}

fn snapshots_counted() -> Told {
    let (host, engine) = group(2)?;
    create(&engine, "v")?;
    for number in 0..3 {
        let volume = VolumePath { vg: name("data"), volume: name("v") };
        let path = SnapshotPath { volume, snapshot: name(&format!("s{number}")) };
        engine.create_snapshot(&path, false).map_err(|error| error.to_string())?;
    }
    let counted = engine.vgs()[0].read(|catalog| catalog.pools().next().map(|pool| pool.snapshots_made));
    let made = in_pool(&host, &engine).map(|pool| pool.clock);
    must(counted == made, || format!("the catalog counts {counted:?} snapshots, the kernel {made:?}"))
}

fn ends_with_the_next() -> Told {
    let (host, engine) = group(2)?;
    create(&engine, "x")?;
    create(&engine, "y")?;
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.restart();
    let engine = on(&host)?;
    must(has(&engine, "x") && has(&engine, "y"), || format!("after a power cut there is {:?}", volumes(&engine)))
}

fn each_copy_alone() -> Told {
    let (host, engine) = group(3)?;
    create(&engine, "x")?;
    engine.settle_owed();
    drop(engine);
    host.crash(CrashMode::LoseAll);
    for alone in ["/dev/sda", "/dev/sdb", "/dev/sdc"] {
        let host = host.fork();
        ["/dev/sda", "/dev/sdb", "/dev/sdc"]
            .iter()
            .filter(|disk| **disk != alone)
            .for_each(|disk| host.remove_disk(disk));
        host.restart();
        let engine = on(&host)?;
        must(has(&engine, "x"), || format!("{alone} alone tells {:?}", volumes(&engine)))?;
    }
    Ok(())
}

/// A mount over somebody else's: the requirement of the step is looked at right before it.
fn device_there_already() -> Told {
    let (host, engine) = group(2)?;
    ask(&engine, TWO, Op::CreateVolume(Vol::Pg))?;
    let dev = host.inspect(Path::new("/dev/sdb")).map_err(|error| error.to_string())?.identity.dev;
    host.foreign_mount(dev, "/srv/pg", "ext4");
    must(ask(&engine, TWO, Op::Mount(Key::volume(Vol::Pg))).is_err(), || "mounted over somebody else's".to_owned())
}

/// The power fails at each effect. As long as any disk is labelled, the one with the metadata is.
fn one_copy_deleted() -> Told {
    let shape = Shape::new(3, 1);
    let before = shape.machine(11);
    ask(&on(&before)?, shape, Op::CreateVg(Group::Data))?;
    let probe = before.fork();
    let engine = on(&probe)?;
    let first = probe.effects() + 1;
    ask(&engine, shape, Op::DeleteVg(Group::Data))?;
    for number in first..=probe.effects() {
        let host = before.fork();
        let engine = on(&host)?;
        host.fail_effect(number, Fault::PowerCutBefore);
        drop(ask(&engine, shape, Op::DeleteVg(Group::Data)));
        drop(engine);
        host.settle(CrashMode::LoseAll);
        host.restart();
        let engine = on(&host)?;
        judge_nothing_wrong(&host, &engine).map_err(|wrong| format!("power cut at effect {number}: {wrong}"))?;
    }
    Ok(())
}

/// Somebody wrote to a thick volume; who gets its extents next reads nothing of that.
fn handed_out_again() -> Told {
    let (host, engine) = group(2)?;
    let data = Group::Data.name();
    let failed = |error| format!("a thick volume: {error}");
    let on_extents = |volume: &str, bytes: Option<&[u8]>| -> Result<Vec<u8>, String> {
        let of = VolumeName { volume: name(volume), snapshot: None };
        let request = CreateThick {
            path: VolumePath { vg: data.clone(), volume: name(volume) },
            size: Bytes::mib(4),
            layout: Layout::default(),
            place: PlaceOn::default(),
            fs: None,
            labels: Labels::default(),
            protect: false,
            mkfs: MkfsOptions::default(),
        };
        engine.create_thick(&request, false).map_err(failed)?;
        engine.attach(&data, &of, false).map_err(failed)?;
        let id = engine.vgs()[0].read(|catalog| catalog.volume_named(&of).map(|volume| volume.id));
        let uuid = Device::Volume(id.ok_or("it is not in the catalog")?).uuid();
        let dev = host.dm_device(&uuid).map_err(|error| error.to_string())?.ok_or("it is not active")?.dev;
        let found = host.read_bytes(dev, 0, Bytes::mib(4).get()).map_err(|error| error.to_string())?;
        if let Some(bytes) = bytes {
            host.write_bytes(dev, Bytes::mib(2).get(), bytes).map_err(|error| error.to_string())?;
        }
        engine.detach(&data, &of, false).map_err(failed)?;
        engine.delete_volume(&data, &of, false).map_err(failed)?;
        Ok(found)
    };
    on_extents("first", Some(b"a secret"))?;
    let found = on_extents("second", None)?;
    must(found.iter().all(|byte| *byte == 0), || "what another one wrote is read".to_owned())
}

/// Whatever cuts the creation short: a volume that is there shows its directory, and nothing of what mkfs put beside it.
fn directory_handed_out() -> Told {
    let data = Group::Data.name();
    let mut wanted = formatted("sub");
    wanted.mkfs.root.subdir = Some(name("data"));
    let of = VolumeName { volume: name("sub"), snapshot: None };
    let (before, engine) = group(2)?;
    drop(engine);
    let at = Path::new("/srv/sub");
    let shown = |host: &SimHost, engine: &Engine<SimHost>, story: &str| -> Told {
        let failed = |error| format!("{story}: it is ready, and {error}");
        engine.mount(&data, &of, at, false, false).map_err(failed)?;
        let names = host.names(at).map_err(|error| format!("{story}: {error}"))?;
        let root = host.mounts().map_err(|error| error.to_string())?.first().map(|mount| mount.root.clone());
        must(names.is_empty() && root == Some(PathBuf::from("/data")), || {
            format!("{story}: {names:?} is seen, of {root:?}")
        })?;
        host.put_file(at, "f", b"kept").map_err(|error| error.to_string())?;
        engine.unmount(&data, &of, None, false).map_err(failed)?;
        engine.mount(&data, &of, at, false, false).map_err(failed)?;
        let kept = host.read_file(at, "f").map_err(|error| error.to_string())?;
        must(kept.as_deref() == Some(b"kept"), || format!("{story}: what was written there is gone"))
    };
    let whole = before.fork();
    let engine = on(&whole)?;
    let first = whole.effects() + 1;
    engine.create_volume(&wanted, false).map_err(|error| error.to_string())?;
    let last = whole.effects();
    shown(&whole, &engine, "without a fault")?;
    for effect in first..=last {
        for death in [Fault::KillDaemonBefore, Fault::PowerCutAfter] {
            let host = before.fork();
            let engine = on(&host)?;
            host.fail_effect(effect, death);
            drop(engine.create_volume(&wanted, false));
            drop(engine);
            let story = format!("{death:?} at effect {effect}");
            host.settle(CrashMode::LoseAll);
            host.restart();
            host.clear_faults();
            let engine = on(&host)?;
            if !has(&engine, "sub") {
                engine.create_volume(&wanted, false).map_err(|error| format!("{story}: made again: {error}"))?;
            }
            shown(&host, &engine, &story)?;
            let wrong = host.violations();
            must(wrong.is_empty(), || format!("{story}: {}", wrong.join("; ")))?;
        }
    }
    Ok(())
}

/// How long mkfs goes on when somebody waits for it.
const A_WHILE: Duration = Duration::from_millis(250);

/// A volume that is just being made is mounted: whoever asks waits until it is there. The defect is in this thread alone.
fn two_at_once() -> Told {
    let (host, engine) = group(2)?;
    let hold = host.hold(EffectKind::Mkfs, "");
    let let_go = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let made = scope.spawn(|| engine.create_volume(&formatted("pg"), false).map(drop));
        hold.until(1);
        let (done, told) = std::sync::mpsc::channel::<()>();
        let let_go = &let_go;
        scope.spawn(move || {
            // Nobody tells anything if it waits as it should.
            let _late = told.recv_timeout(A_WHILE);
            let_go.store(true, Ordering::SeqCst);
            drop(hold);
        });
        let mounted = ask(&engine, TWO, Op::Mount(Key::volume(Vol::Pg)));
        let waited = let_go.load(Ordering::SeqCst);
        drop(done);
        let made = made.join().map_err(|_| "its creation panicked".to_owned())?;
        must(waited, || format!("it was worked on while it was being made: {mounted:?}"))?;
        made.map_err(|error| error.to_string())?;
        mounted
    })?;
    judge_nothing_wrong(&host, &engine)
}

/// It grows by itself until there is no more room. Then its metadata are damaged: there is space to write them anew, and the old are kept.
fn repaired_when_full() -> Told {
    let (host, engine) = group(2)?;
    let data = Group::Data.name();
    let failed = |what: &'static str| move |error: vol_engine::EngineError| format!("{what}: {error}");
    let wanted = CreateVolume { size: Bytes::mib(600), ..request("v") };
    let of = VolumeName { volume: name("v"), snapshot: None };
    engine.create_volume(&wanted, false).map_err(failed("create"))?;
    engine.attach(&data, &of, false).map_err(failed("attach"))?;
    let vg = engine.vgs()[0].clone();
    let found = vg.read(|catalog| {
        let pool = catalog.pools().next()?.clone();
        Some((pool, catalog.volume_named(&of)?.id))
    });
    let (pool, volume) = found.ok_or("they are not in the catalog")?;
    let has_room = || {
        vg.read(|catalog| {
            catalog.pool(pool.id).is_some_and(|pool| !vol_core::plan::grow::room(catalog, pool).is_zero())
        })
    };
    let mut looks = 0;
    while has_room() && looks < 200 {
        looks += 1;
        host.fill(&Device::Volume(volume).uuid(), 64).map_err(|error| error.to_string())?;
        host.pass(Duration::from_secs(10));
        engine.guard_space();
    }
    must(!has_room(), || "it does not grow as far as it can".to_owned())?;
    engine.detach(&data, &of, false).map_err(failed("detach"))?;
    let metadata = Device::PoolMetadata(pool.id).uuid();
    host.spoil_metadata(&metadata, ThinFlaw::SpaceMaps).map_err(|error| error.to_string())?;
    engine.repair_pool(&data, &pool.name, false, false).map_err(failed("repair"))?;
    let original = vg.read(|catalog| catalog.pool(pool.id).map(|pool| pool.original.len()));
    must(original.is_some_and(|pieces| pieces > 0), || "the original metadata are not kept".to_owned())?;
    // That it will be full soon is told, and is true.
    let wrong = host.violations();
    must(wrong.is_empty(), || wrong.join("; "))
}
