//! Pools that grow and fill.

use std::time::Duration;

use vol_core::observed::{PoolMode, PoolStatus, PoolUsage};
use vol_engine::host::HostErrorKind;
use vol_engine::{CreatePool, Engine};
use vol_sim::{EffectKind, Fault, SimHost};
use vol_types::*;

use super::bench::*;

/// What the kernel says of the only pool.
fn usage(host: &SimHost, engine: &Engine<SimHost>) -> PoolUsage {
    use vol_engine::host::HostRead as _;
    match host.pool_status(&pool_uuid(engine)).unwrap() {
        PoolStatus::Working(usage) => usage,
        other => panic!("{other:?}"),
    }
}

fn pool_uuid(engine: &Engine<SimHost>) -> String {
    let pool = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().id);
    vol_core::dm::Device::Pool(pool).uuid()
}

/// A VG with a pool of 64 MiB (1024 chunks) that grows as `growth` says, and a raw volume that is attached.
fn small(growth: Growth) -> (SimHost, Engine<SimHost>) {
    let host = machine();
    let engine = start(&host);
    Op::CreateVg.run(&engine).unwrap();
    let mut request =
        CreatePool { size: SizeSpec::Bytes(Bytes::mib(64)), overcommit_percent: 100_000, ..pool_request() };
    request.policy.growth = growth;
    engine.create_pool(&request, false).unwrap();
    Op::CreateRaw.run(&engine).unwrap();
    engine.attach(&name("data"), &volume("raw"), false).unwrap();
    (host, engine)
}

#[test]
fn a_growth_whose_tables_could_not_be_loaded_is_caught_up_with_without_a_restart() {
    let (host, engine) = small(Growth::Off);
    // The reload of the data device fails, and so does recovery's.
    host.fail_device(pool_uuid(&engine).replace("-tpool", "-tdata"), Fault::Error(HostErrorKind::Io));
    let error = engine.extend_pool(&name("data"), &extend_pool(Some("128M"), None), false).unwrap_err();
    assert!(error.to_string().contains("extend pool data/tank"), "{error}");
    assert_eq!(usage(&host, &engine).total_data, 1024, "not grown yet");
    host.clear_faults();
    for _ in 0..4 {
        engine.refresh();
    }
    assert_eq!(usage(&host, &engine).total_data, 2048, "the record says 128 MiB, and so does the kernel by now");
    sound(&host, &engine, "after a growth that was caught up with");
}

#[test]
fn f8_a_full_pool_goes_on_when_it_was_extended() {
    let (host, engine) = small(Growth::Off);
    host.set_pool_mode(&pool_uuid(&engine), vol_sim::SimPoolMode::OutOfDataSpace);
    engine.extend_pool(&name("data"), &extend_pool(Some("+64M"), None), false).unwrap();
    assert_eq!((usage(&host, &engine).mode, usage(&host, &engine).total_data), (PoolMode::ReadWrite, 2048));
    sound(&host, &engine, "after an extension");
}

#[test]
fn a_pool_that_needs_a_check_is_not_extended() {
    let (host, engine) = small(Growth::Off);
    let uuid = pool_uuid(&engine);
    host.fail_next(EffectKind::DmMessage, Fault::MessageCommitFails);
    drop(engine.create_snapshot(&"data/raw@now".parse().unwrap(), false));
    assert!(usage(&host, &engine).needs_check, "{uuid}");
    let sequence = engine.vgs()[0].read(|catalog| catalog.sequence());
    let error = engine.extend_pool(&name("data"), &extend_pool(Some("+64M"), None), false).unwrap_err();
    assert!(error.to_string().contains("its metadata need a check"), "{error}");
    assert_eq!(engine.vgs()[0].read(|catalog| catalog.sequence()), sequence, "a refusal recorded something");
}

/// So many chunks of the raw volume are written to; what the pool then says.
fn write(host: &SimHost, engine: &Engine<SimHost>, chunks: u64) -> PoolUsage {
    let raw = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume("raw")).unwrap().id);
    host.fill(&vol_core::dm::Device::Volume(raw).uuid(), chunks).unwrap();
    usage(host, engine)
}

fn problems(engine: &Engine<SimHost>) -> Vec<&'static str> {
    engine.refresh();
    engine.vgs()[0].view().problems.iter().map(|problem| problem.code).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn f8_a_pool_grows_before_it_is_full() {
    let (host, engine) = small(Growth::VgSpace);
    assert_eq!(engine.guard_space(), Duration::from_millis(250), "a small pool may be full in a moment");
    assert_eq!(usage(&host, &engine).total_data, 1024);
    // From 64 MiB to 1 GiB, 6 MiB a second.
    for _ in 0..160 {
        let now = write(&host, &engine, 100);
        assert_eq!(now.mode, PoolMode::ReadWrite);
        assert!(now.used_data < now.total_data, "{now:?}");
        host.pass(seconds(1));
        engine.guard_space();
        assert_eq!(problems(&engine), Vec::<&str>::new());
    }
    let now = usage(&host, &engine);
    assert!(now.used_data == 16_000 && now.total_data > 16_000 + 3000, "{now:?}");
    assert!(now.total_data < 32_000, "it grew far ahead of demand: {now:?}");
    let pieces = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().data.len());
    assert!(pieces <= 2, "{pieces} pieces although the space behind it was free");
    sound(&host, &engine, "after growing");
    drop(engine);
    host.restart();
    let engine = start(&host);
    assert_eq!(usage(&host, &engine).total_data, now.total_data);
    sound(&host, &engine, "after a restart");
}

#[test]
fn a_pool_is_looked_at_the_more_often_the_sooner_it_may_have_to_grow() {
    let (host, engine) = small(Growth::VgSpace);
    engine.extend_pool(&name("data"), &extend_pool(Some("6G"), None), false).unwrap();
    assert_eq!(engine.guard_space(), seconds(5), "there is more than is written in five seconds");
    write(&host, &engine, 64_000);
    host.pass(seconds(600));
    engine.guard_space();
    let rests = engine.guard_space();
    assert!(rests > seconds(1) && rests < seconds(5), "{rests:?}");
    write(&host, &engine, 10_000);
    host.pass(seconds(1));
    assert_eq!(engine.guard_space(), Duration::from_millis(250), "it is written to");
}

#[test]
fn a_short_burst_does_not_take_the_whole_group() {
    let (host, engine) = small(Growth::VgSpace);
    // 100 MiB a second for eight seconds, with a look four times a second.
    for _ in 0..32 {
        write(&host, &engine, 400);
        host.pass(Duration::from_millis(250));
        engine.guard_space();
    }
    for _ in 0..100 {
        host.pass(seconds(1));
        engine.guard_space();
    }
    let now = usage(&host, &engine);
    assert!(now.total_data > now.used_data && now.total_data < 3 * now.used_data, "{now:?}");
}

#[test]
fn a_pool_grows_up_to_its_bound_and_no_further() {
    let (host, engine) = small(Growth::UpTo(Bytes::mib(96)));
    for _ in 0..15 {
        write(&host, &engine, 100);
        host.pass(seconds(1));
        engine.guard_space();
    }
    assert_eq!(usage(&host, &engine).total_data, 1536);
    write(&host, &engine, 36);
    host.pass(seconds(1));
    engine.guard_space();
    assert_eq!((usage(&host, &engine).total_data, usage(&host, &engine).used_data), (1536, 1536));
    assert_eq!(problems(&engine), ["pool-full"]);
    let hint = engine.vgs()[0].view().problems[0].hint.clone();
    assert!(hint.contains("volctl pool extend data/tank --size +10G"), "{hint}");
}

#[test]
fn a_pool_that_is_not_to_grow_does_not() {
    let (host, engine) = small(Growth::Off);
    write(&host, &engine, 1023);
    host.pass(seconds(1));
    assert_eq!(engine.guard_space(), seconds(5));
    assert_eq!(usage(&host, &engine).total_data, 1024);
}

#[test]
fn f9_metadata_that_fill_are_given_more() {
    let (host, engine) = small(Growth::VgSpace);
    let before = usage(&host, &engine);
    assert_eq!(before.total_metadata, 2048);
    // A leaf for each thin: 1,500 of them fill 1,508 of 2,048 blocks.
    for id in 1000..2500 {
        host.add_stray_thin(&pool_uuid(&engine), id).unwrap();
    }
    host.pass(seconds(1));
    engine.guard_space();
    let now = usage(&host, &engine);
    assert!(now.total_metadata >= 3072 && now.total_data == before.total_data, "{now:?}");
}

#[test]
fn the_end_of_the_space_is_told_until_there_is_more() {
    let host = machine();
    host.add_disk(vol_sim::SimDisk::new("/dev/sdc", Bytes::gib(4)));
    let engine = start(&host);
    Op::CreateVg.run(&engine).unwrap();
    engine.create_pool(&CreatePool { size: SizeSpec::PercentFree(100), ..pool_request() }, false).unwrap();
    Op::CreateRaw.run(&engine).unwrap();
    engine.attach(&name("data"), &volume("raw"), false).unwrap();
    let total = usage(&host, &engine).total_data;
    write(&host, &engine, total / 100 * 91);
    host.pass(seconds(1));
    assert_eq!(engine.guard_space(), seconds(5), "there is nothing that looking often would help");
    assert_eq!(problems(&engine), ["pool-cannot-grow", "pool-nearly-full"]);
    let told = engine.vgs()[0].view().problems[0].clone();
    assert_eq!(told.message, "pool tank should grow and cannot: volume group data has no space left for it");
    assert!(told.hint.contains("volctl vg extend data DISK"), "{}", told.hint);
    Op::ExtendVg.run(&engine).unwrap();
    host.pass(seconds(100));
    engine.guard_space();
    assert!(usage(&host, &engine).total_data > total);
    assert_eq!(problems(&engine), Vec::<&str>::new());
}

#[test]
fn a_growth_that_fails_is_told_and_tried_again_with_patience() {
    let (host, engine) = small(Growth::VgSpace);
    write(&host, &engine, 900);
    host.fail_device("/dev/sda", Fault::Error(HostErrorKind::Io));
    host.fail_device("/dev/sdb", Fault::Error(HostErrorKind::Io));
    host.pass(seconds(1));
    engine.guard_space();
    let effects = host.effects();
    assert_eq!(engine.guard_space(), seconds(1), "not before its time");
    assert_eq!(host.effects(), effects, "it was tried again at once");
    assert!(problems(&engine).contains(&"pool-cannot-grow"));
    host.clear_faults();
    drop(engine.scan(&[], false));
    for _ in 0..8 {
        host.pass(seconds(10));
        engine.guard_space();
    }
    let now = usage(&host, &engine);
    assert!(now.total_data > 1024, "{now:?}: {:?}", problems(&engine));
    assert_eq!(problems(&engine), Vec::<&str>::new());
}

#[test]
fn alarms_come_one_after_the_other_as_a_pool_fills() {
    let (host, engine) = small(Growth::Off);
    let mut told = Vec::new();
    for _ in 0..100 {
        write(&host, &engine, 10);
        host.pass(seconds(100_000));
        let now = problems(&engine);
        if told.last() != Some(&now) {
            told.push(now);
        }
    }
    assert_eq!(told, [vec![], vec!["pool-filling"], vec!["pool-nearly-full"], vec!["pool-almost-full"]]);
    write(&host, &engine, 24);
    assert_eq!(problems(&engine), ["pool-full"]);
}

#[test]
fn a_pool_that_fills_steadily_is_told_a_day_and_an_hour_before_it_is_full() {
    let (host, engine) = small(Growth::Off);
    engine.extend_pool(&name("data"), &extend_pool(Some("1G"), None), false).unwrap();
    let space = || {
        let view = engine.vgs()[0].view();
        view.space.values().next().unwrap().clone()
    };
    assert_eq!((space().trend, space().time_to_full), (None, None));
    let mut told: Vec<(&str, u64)> = Vec::new();
    // 16,384 chunks, one in five seconds: 80,000 seconds.
    for round in 0..12_000 {
        write(&host, &engine, 1);
        host.pass(seconds(5));
        for code in problems(&engine) {
            if told.last().is_none_or(|(last, _)| *last != code) {
                told.push((code, round));
            }
        }
        if round == 100 {
            assert_eq!(space().time_to_full.unwrap().1, vol_core::fill::Confidence::Medium);
        }
        if round == 1000 {
            let (left, confidence) = space().time_to_full.unwrap();
            assert_eq!(confidence, vol_core::fill::Confidence::High);
            assert!((75_000..79_000).contains(&left), "{left} s");
        }
    }
    // Told at once that it is less than a day.
    assert_eq!(told[0].0, "pool-full-in-a-day");
    assert!(told[0].1 < 70, "{told:?}");
    assert_eq!(told.len(), 1, "{told:?}");
    for _ in 0..600 {
        write(&host, &engine, 6);
        host.pass(seconds(5));
        engine.refresh();
    }
    assert!(problems(&engine).contains(&"pool-full-in-an-hour"), "{:?} {:?}", problems(&engine), space());
}

#[test]
fn f8_a_pool_with_no_more_than_its_reserve_makes_nothing_new_and_everything_that_is_there_goes_on() {
    let (host, engine) = small(Growth::Off);
    write(&host, &engine, 1024 - 51);
    let refused = |error: vol_engine::EngineError| {
        let text = error.to_string();
        assert!(text.contains("its reserve of 5 % is kept for what is there"), "{text}");
    };
    refused(engine.create_volume(&volume_request("more", None), false).unwrap_err());
    refused(engine.create_snapshot(&"data/raw@now".parse().unwrap(), false).unwrap_err());
    write(&host, &engine, 51);
    engine.extend_pool(&name("data"), &extend_pool(Some("+64M"), None), false).unwrap();
    engine.create_snapshot(&"data/raw@now".parse().unwrap(), false).unwrap();
    engine.delete_volume(&name("data"), &volume("raw@now"), false).unwrap();
    engine.create_volume(&volume_request("more", None), false).unwrap();
    sound(&host, &engine, "after an extension");
}
