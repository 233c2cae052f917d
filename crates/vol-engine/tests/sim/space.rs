//! Pools that grow and fill.

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
fn a_full_pool_goes_on_when_it_was_extended() {
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
