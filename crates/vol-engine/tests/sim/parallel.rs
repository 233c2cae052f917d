//! Work on one volume keeps nobody waiting who works on another; work on the same volume waits for it.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread::Scope;
use std::time::Duration;

use vol_core::plan::fs::NewSize;
use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_engine::{CreateVolume, Engine, EngineError};
use vol_sim::{CrashMode, EffectKind, Fault, Hold, SimHost};
use vol_types::*;

use super::bench::*;

/// Long enough for whoever waits for nobody.
const SOON: Duration = Duration::from_secs(60);
/// Long enough to be waiting by now.
const BY_NOW: Duration = Duration::from_millis(150);

type Machine = (SimHost, Engine<SimHost>);

/// A VG with a pool, and in it `pg` with a file system.
fn bench() -> Machine {
    let host = Op::Mount.before();
    let engine = start(&host);
    (host, engine)
}

fn small(volume: &str, fs: Option<FsKind>) -> CreateVolume {
    CreateVolume { size: Bytes::gib(1), ..volume_request(volume, fs) }
}

/// Does `work` in another thread; its result comes through the channel.
fn aside<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Receiver<T> {
    let (done, result) = channel();
    scope.spawn(move || {
        // A test that has failed does not listen any more.
        let _nobody = done.send(work());
    });
    result
}

#[track_caller]
fn soon<T>(result: &Receiver<T>, what: &str) -> T {
    result.recv_timeout(SOON).unwrap_or_else(|_| panic!("{what} waits for what it has nothing to do with"))
}

#[track_caller]
fn waits<T>(result: &Receiver<T>, what: &str) {
    assert!(result.recv_timeout(BY_NOW).is_err(), "{what} did not wait");
}

fn device(engine: &Engine<SimHost>, of: &str) -> String {
    let id = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(of)).unwrap().id);
    vol_core::dm::Device::Volume(id).uuid()
}

/// mkfs of a new volume `slow`, held; the rest of its creation waits for that.
fn slow_mkfs<'scope>(
    scope: &'scope Scope<'scope, '_>,
    (host, engine): &'scope Machine,
) -> (Hold, Receiver<Result<bool, EngineError>>) {
    let hold = host.hold(EffectKind::Mkfs, "");
    let made = aside(scope, || engine.create_volume(&small("slow", Some(FsKind::Xfs)), false).map(changed));
    hold.until(1);
    (hold, made)
}

fn ready(engine: &Engine<SimHost>, name: &str) -> bool {
    inventory(engine).iter().any(|line| line.starts_with(&format!("volume {name} Ready")))
}

#[test]
fn while_mkfs_is_at_work_other_volumes_live_their_whole_life() {
    let machine = bench();
    let (host, engine) = &machine;
    std::thread::scope(|scope| {
        let (hold, made) = slow_mkfs(scope, &machine);
        let life = aside(scope, || -> Result<(), EngineError> {
            let data = name("data");
            engine.create_volume(&small("raw", None), false)?;
            engine.attach(&data, &volume("raw"), false)?;
            engine.mount(&data, &volume("pg"), Path::new("/srv/pg"), false, false)?;
            engine.create_snapshots(&group(&["pg@t1", "raw@t1"]), &Labels::default(), false)?;
            engine.clone_volume(&clone_request("pg@t1", "copy"), false)?;
            engine.resize_volume(&data, &volume("pg"), NewSize::To(Bytes::gib(11)), false)?;
            engine.rename_volume(&data, &volume("pg"), &name("db"), false)?;
            engine.unmount(&data, &volume("db"), None, false)?;
            engine.check_volume(&data, &volume("db"), false, false)?;
            engine.detach(&data, &volume("raw"), false)?;
            engine.keep_volume(&data, &volume("raw"), false)?;
            engine.delete_volume(&data, &volume("copy"), false)?;
            engine.rollback(&"data/db@t1".parse().unwrap(), false, false)?;
            engine.purge_pool(&data, &name("tank"), false)?;
            engine.extend_vg(&extend_request(&["/dev/sdc"]), false)?;
            engine.rename_vg(&data, &name("big"), false)?;
            engine.rename_vg(&name("big"), &data, false)?;
            Ok(())
        });
        host.add_disk(vol_sim::SimDisk::new("/dev/sdc", Bytes::gib(4)));
        soon(&life, "the life of other volumes").unwrap();
        assert_eq!(hold.waiting(), 1, "mkfs still waits");
        drop(hold);
        assert!(soon(&made, "the creation").unwrap());
    });
    assert!(ready(engine, "slow"));
    sound(host, engine, "a life beside mkfs");
    assert_eq!(inventory(&start(host)), inventory(engine));
}

#[test]
fn while_mkfs_is_at_work_the_pool_grows_by_itself_and_on_request() {
    let machine = bench();
    let (host, engine) = &machine;
    engine.create_volume(&volume_request("raw", None), false).unwrap();
    let total = || match host.pool_status(&pool_uuid(engine)).unwrap() {
        vol_core::observed::PoolStatus::Working(usage) => usage.total_data,
        other => panic!("{other:?}"),
    };
    std::thread::scope(|scope| {
        let (hold, made) = slow_mkfs(scope, &machine);
        let before = total();
        let grown = aside(scope, || engine.extend_pool(&name("data"), &extend_pool(Some("7G"), None), false));
        assert!(changed(soon(&grown, "the growth of the pool").unwrap()));
        assert!(total() > before);
        let before = total();
        engine.attach(&name("data"), &volume("raw"), false).unwrap();
        host.fill(&device(engine, "raw"), before * 9 / 10).unwrap();
        let guarded = aside(scope, || engine.guard_space());
        soon(&guarded, "the guard of space");
        assert!(total() > before, "it did not grow by itself");
        drop(hold);
        assert!(soon(&made, "the creation").unwrap());
    });
    sound_but_filling(host, engine);
}

fn pool_uuid(engine: &Engine<SimHost>) -> String {
    let id = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().id);
    vol_core::dm::Device::Pool(id).uuid()
}

/// As [`sound`], of a pool that is nearly full on purpose.
fn sound_but_filling(host: &SimHost, engine: &Engine<SimHost>) {
    assert_eq!(host.violations(), Vec::<String>::new());
    assert_eq!(host.suspended_devices(), Vec::<String>::new());
    assert_eq!(engine.vgs()[0].read(vol_core::check::violations), Vec::<String>::new());
}

/// Creations of so many volumes, each in a thread of its own.
fn asked_at_once<'scope>(
    scope: &'scope Scope<'scope, '_>,
    engine: &'scope Engine<SimHost>,
    count: u32,
) -> Vec<Receiver<Result<bool, EngineError>>> {
    let one = |n| {
        let request = CreateVolume { size: Bytes::mib(64), ..small(&format!("v{n}"), Some(FsKind::Ext4)) };
        aside(scope, move || engine.create_volume(&request, false).map(changed))
    };
    (0..count).map(one).collect()
}

#[test]
fn several_volumes_are_formatted_side_by_side() {
    let (host, engine) = &bench();
    std::thread::scope(|scope| {
        let hold = host.hold(EffectKind::Mkfs, "");
        let all = asked_at_once(scope, engine, 8);
        hold.until(8);
        drop(hold);
        for made in all {
            assert!(soon(&made, "a creation").unwrap());
        }
    });
    sound(host, engine, "eight at once");
}

#[test]
fn a_hundred_volumes_asked_for_at_once_are_on_record_while_a_few_of_them_are_formatted() {
    let (host, engine) = &bench();
    std::thread::scope(|scope| {
        let hold = host.hold(EffectKind::Mkfs, "");
        let all = asked_at_once(scope, engine, 100);
        let most = 2 * u32::try_from(host.processors()).unwrap();
        hold.until(most);
        let on_record = || inventory(engine).iter().filter(|line| line.starts_with("volume v")).count();
        let begun = std::time::Instant::now();
        while on_record() < 100 {
            assert!(begun.elapsed() < SOON, "{} of a hundred are on record", on_record());
            std::thread::sleep(Duration::from_millis(1));
        }
        // Others are not kept by it.
        engine.create_volume(&small("raw", None), false).unwrap();
        std::thread::sleep(BY_NOW);
        assert_eq!(hold.waiting(), most, "as many as there is something to be won from");
        drop(hold);
        for made in all {
            assert!(soon(&made, "a creation").unwrap());
        }
    });
    sound(host, engine, "a hundred at once");
}

#[test]
fn the_same_request_twice_waits_for_the_first_and_is_one_effect() {
    let machine = bench();
    let (host, engine) = &machine;
    std::thread::scope(|scope| {
        let (hold, made) = slow_mkfs(scope, &machine);
        let again = aside(scope, || engine.create_volume(&small("slow", Some(FsKind::Xfs)), false).map(changed));
        let other = aside(scope, || engine.create_volume(&small("slow", None), false).map(changed));
        waits(&again, "the same request");
        waits(&other, "another request for the name");
        drop(hold);
        assert!(soon(&made, "the creation").unwrap());
        assert!(!soon(&again, "the same request").unwrap(), "it is there already");
        let refused = soon(&other, "the other request").unwrap_err();
        assert!(refused.to_string().contains("there is a volume data/slow already"), "{refused}");
    });
    assert_eq!(host.counters().mkfs, 2, "that of pg, and one");
    sound(host, engine, "twice the same");
}

#[test]
fn who_waits_for_a_creation_that_fails_makes_the_volume_itself() {
    let machine = bench();
    let (host, engine) = &machine;
    std::thread::scope(|scope| {
        host.fail_next(EffectKind::Mkfs, Fault::Error(HostErrorKind::Tool));
        let (hold, made) = slow_mkfs(scope, &machine);
        let again = aside(scope, || engine.create_volume(&small("slow", Some(FsKind::Xfs)), false).map(changed));
        waits(&again, "the same request");
        drop(hold);
        assert!(matches!(soon(&made, "the creation"), Err(EngineError::Step(failed)) if failed.settled));
        assert!(soon(&again, "the same request").unwrap());
    });
    assert!(ready(engine, "slow"));
    sound(host, engine, "the second made it");
}

#[test]
fn work_on_a_volume_waits_until_its_mkfs_is_over() {
    type Work = fn(&Engine<SimHost>) -> Result<(), EngineError>;
    let all: [(&str, Work); 9] = [
        ("delete", |e| e.delete_volume(&name("data"), &volume("slow"), false).map(drop)),
        ("delete with a way back", |e| e.keep_volume(&name("data"), &volume("slow"), false).map(drop)),
        ("mount", |e| e.mount(&name("data"), &volume("slow"), Path::new("/srv/slow"), false, false).map(drop)),
        ("resize", |e| e.resize_volume(&name("data"), &volume("slow"), NewSize::To(Bytes::gib(2)), false).map(drop)),
        ("check", |e| e.check_volume(&name("data"), &volume("slow"), false, false).map(drop)),
        ("rename", |e| e.rename_volume(&name("data"), &volume("slow"), &name("fast"), false).map(drop)),
        ("snapshot", |e| e.create_snapshots(&group(&["slow@t"]), &Labels::default(), false).map(drop)),
        ("clone", |e| e.clone_volume(&clone_request("slow", "copy"), false).map(drop)),
        ("label", |e| e.relabel(&name("data"), &volume("slow"), (&["a=b".parse().unwrap()], &[]), false).map(drop)),
    ];
    for (what, work) in all {
        let machine = bench();
        let (host, engine) = &machine;
        std::thread::scope(|scope| {
            let (hold, made) = slow_mkfs(scope, &machine);
            let result = aside(scope, || work(engine));
            waits(&result, what);
            // It keeps nobody else waiting either.
            let third = aside(scope, || engine.create_volume(&small("third", None), false));
            soon(&third, "a third volume").unwrap();
            drop(hold);
            assert!(soon(&made, "the creation").unwrap(), "{what}");
            soon(&result, what).unwrap_or_else(|error| panic!("{what}: {error}"));
        });
        sound(host, engine, what);
    }
}

#[test]
fn what_would_take_the_ground_away_is_refused_or_waits() {
    let machine = bench();
    let (host, engine) = &machine;
    std::thread::scope(|scope| {
        let (hold, made) = slow_mkfs(scope, &machine);
        let pool = aside(scope, || engine.delete_pool(&name("data"), &name("tank"), false));
        let refused = soon(&pool, "the deletion of the pool").unwrap_err();
        assert!(refused.to_string().contains("still holds"), "{refused}");
        let vg = aside(scope, || engine.delete_vg(&name("data"), false));
        soon(&vg, "the deletion of the group").unwrap_err();
        let scan = aside(scope, || engine.scan(&[], false));
        soon(&scan, "a scan").unwrap();
        let exported = aside(scope, || engine.export_vg(&name("data"), false).map(changed));
        waits(&exported, "the export");
        let rest = aside(scope, || engine.create_volume(&small("more", None), false).map(changed));
        assert!(soon(&rest, "a creation beside an export that waits").unwrap());
        drop(hold);
        assert!(soon(&made, "the creation").unwrap());
        assert!(soon(&exported, "the export").unwrap());
    });
    sound(host, engine, "exported");
    engine.import_vg(&name("data"), false).unwrap();
    assert!(ready(engine, "slow") && ready(engine, "more"));
}

#[test]
fn recovery_and_the_timer_leave_alone_what_somebody_works_on() {
    let machine = bench();
    let (host, engine) = &machine;
    std::thread::scope(|scope| {
        let (hold, made) = slow_mkfs(scope, &machine);
        // Another creation fails and is taken back: that is recovery with the first one half made.
        host.fail_next(EffectKind::DmMessage, Fault::Error(HostErrorKind::Io));
        let failed = aside(scope, || engine.create_volume(&small("raw", None), false));
        assert!(matches!(soon(&failed, "what fails"), Err(EngineError::Step(failed)) if failed.settled));
        engine.refresh();
        let problems: Vec<_> = engine.vgs()[0].view().problems.iter().map(|one| one.message.clone()).collect();
        assert_eq!(problems, Vec::<String>::new(), "what is at work is no problem");
        drop(hold);
        assert!(soon(&made, "the creation").unwrap());
    });
    assert!(ready(engine, "slow") && !ready(engine, "raw"));
    sound(host, engine, "recovery beside mkfs");
}

#[test]
fn a_slow_check_or_mount_or_growth_keeps_nobody_else_waiting() {
    type Work = fn(&Engine<SimHost>) -> Result<(), EngineError>;
    let all: [(EffectKind, Op, Work); 4] = [
        (EffectKind::FsCheck, Op::Check, |e| e.check_volume(&name("data"), &volume("pg"), false, false).map(drop)),
        (EffectKind::Mount, Op::Mount, |e| Op::Mount.run(e)),
        (EffectKind::Unmount, Op::Unmount, |e| Op::Unmount.run(e)),
        (EffectKind::FsGrow, Op::Resize, |e| Op::Resize.run(e)),
    ];
    for (kind, before, work) in all {
        let host = before.before();
        let engine = start(&host);
        std::thread::scope(|scope| {
            let hold = host.hold(kind, "");
            let slow = aside(scope, || work(&engine));
            hold.until(1);
            let other = aside(scope, || engine.create_volume(&small("other", None), false));
            soon(&other, "another volume").unwrap();
            let same = aside(scope, || engine.create_snapshots(&group(&["pg@t"]), &Labels::default(), false));
            waits(&same, "a snapshot of the volume itself");
            drop(hold);
            soon(&slow, "the work").unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            soon(&same, "the snapshot").unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        });
        sound(&host, &engine, &format!("{kind:?}"));
    }
}

#[test]
fn two_mounts_at_one_place_do_not_pile_up() {
    let (host, engine) = &bench();
    engine.create_volume(&small("b", Some(FsKind::Ext4)), false).unwrap();
    std::thread::scope(|scope| {
        let hold = host.hold(EffectKind::Mount, "/srv/x");
        let mount =
            |of: &'static str| move || engine.mount(&name("data"), &volume(of), Path::new("/srv/x"), false, false);
        let first = aside(scope, mount("pg"));
        hold.until(1);
        let second = aside(scope, mount("b"));
        waits(&second, "the second mount");
        drop(hold);
        assert!(changed(soon(&first, "the first mount").unwrap()));
        let refused = soon(&second, "the second mount").unwrap_err();
        assert!(refused.to_string().contains("something else is mounted at /srv/x"), "{refused}");
    });
    sound(host, engine, "one mount");
}

#[test]
fn a_death_in_the_middle_of_two_changes_leaves_each_of_them_whole_or_not_there() {
    for cut in [false, true] {
        let machine = bench();
        let (host, engine) = &machine;
        std::thread::scope(|scope| {
            let (hold, made) = slow_mkfs(scope, &machine);
            engine.create_volume(&small("raw", None), false).unwrap();
            let number = host.effects() + 1;
            host.fail_effect(number, if cut { Fault::PowerCutBefore } else { Fault::KillDaemonBefore });
            drop(hold);
            soon(&made, "the creation").unwrap_err();
        });
        if cut {
            host.settle(CrashMode::Random);
        }
        host.restart();
        let engine = start(host);
        sound(host, &engine, "after a death");
        assert!(ready(&engine, "raw") && ready(&engine, "pg") && !ready(&engine, "slow"), "{:?}", inventory(&engine));
        assert!(changed(engine.create_volume(&small("slow", Some(FsKind::Xfs)), false).unwrap()));
    }
}

#[test]
fn sixty_four_clients_that_do_all_kinds_of_things_end_with_a_sound_group() {
    let (host, engine) = &bench();
    host.keep_trace(false);
    let data = name("data");
    let before = engine.vgs()[0].view().counters.commits;
    std::thread::scope(|scope| {
        for client in 0..64 {
            let data = &data;
            scope.spawn(move || {
                let own = format!("c{client}");
                let fs = [None, Some(FsKind::Ext4), Some(FsKind::Xfs)][client % 3];
                let request = CreateVolume { size: Bytes::mib(512), ..volume_request(&own, fs) };
                engine.create_volume(&request, false).unwrap();
                let at = format!("/srv/{own}");
                match fs {
                    None => engine.attach(data, &volume(&own), false).map(drop),
                    Some(_) => engine.mount(data, &volume(&own), Path::new(&at), false, false).map(drop),
                }
                .unwrap();
                engine.create_snapshots(&group(&[&format!("{own}@t")]), &Labels::default(), false).unwrap();
                let bigger = NewSize::To(Bytes::mib(640));
                engine.resize_volume(data, &volume(&own), bigger, false).unwrap();
                // All of them want this one name; one has it, and lets it go.
                let shared = CreateVolume { size: Bytes::mib(512), ..volume_request("shared", Some(FsKind::Ext4)) };
                engine.create_volume(&shared, false).unwrap();
                if client % 4 == 0 {
                    engine.clone_volume(&clone_request(&format!("{own}@t"), &format!("{own}-copy")), false).unwrap();
                    engine.delete_volume(data, &volume(&format!("{own}@t")), false).unwrap();
                }
                match fs {
                    None => engine.detach(data, &volume(&own), false).map(drop),
                    Some(_) => engine.unmount(data, &volume(&own), None, false).map(drop),
                }
                .unwrap();
                if client % 2 == 0 {
                    engine.keep_volume(data, &volume(&own), false).unwrap();
                }
            });
        }
        scope.spawn(move || {
            for _ in 0..50 {
                engine.refresh();
                engine.guard_space();
                std::thread::yield_now();
            }
        });
    });
    let there = |name: &str| inventory(engine).iter().filter(|line| line.contains(name)).count();
    assert_eq!(there("Ready"), 2 + 2 + 32 + 16 + (64 - 16), "group, pool; pg, shared; volumes, clones, snapshots");
    assert_eq!(there("Deleted"), 32);
    let commits = engine.vgs()[0].view().counters.commits - before;
    println!("{commits} commits");
    sound(host, engine, "sixty-four clients");
    assert_eq!(inventory(&start(host)), inventory(engine));
}

#[test]
fn a_refresh_that_the_kernel_keeps_waiting_holds_no_change_up_and_shows_what_changed_meanwhile() {
    let (host, engine) = bench();
    let attach = |of: &str| engine.attach(&name("data"), &volume(of), false).map(drop);
    // Asked for before and after the one that keeps it waiting.
    for of in ["goes", "slow"] {
        engine.create_volume(&small(of, None), false).unwrap();
        attach(of).unwrap();
    }
    engine.create_volume(&small("comes", None), false).unwrap();
    let is_active = |of: &str| {
        let view = engine.vgs()[0].view();
        let id = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(of)).unwrap().id);
        let known = view.kernel.dm.contains_key(&vol_core::dm::Device::Volume(id));
        assert_eq!(known, view.mapped.contains_key(&id), "{of}: half of what is known of it");
        known
    };
    for round in 0..2 {
        let hold = host.hold_looks(&device(&engine, "slow"));
        std::thread::scope(|scope| {
            let refreshed = aside(scope, || engine.refresh());
            hold.until(1);
            let (goes, comes) = if round == 0 { ("goes", "comes") } else { ("comes", "goes") };
            let changed = aside(scope, || {
                attach(comes).unwrap();
                engine.detach(&name("data"), &volume(goes), false).unwrap();
                engine.create_volume(&small(&format!("new-{round}"), None), false).unwrap();
            });
            soon(&changed, "a change");
            assert!(is_active(comes) && !is_active(goes));
            waits(&refreshed, "a refresh");
            drop(hold);
            soon(&refreshed, "a refresh");
            assert!(is_active("slow") && is_active(comes) && !is_active(goes), "what was seen before counts");
        });
        engine.refresh();
        assert!(is_active("slow"));
    }
    sound(&host, &engine, "beside a look that took long");
}
