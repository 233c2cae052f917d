//! Loading a pool's table: formatting, opening, refusing.

use vol_core::dm::Device;
use vol_core::observed::PoolMode;
use vol_engine::host::HostErrorKind::{Busy, Invalid, Io};
use vol_engine::host::{HostMut, HostRead};
use vol_types::{Bytes, PoolId};

use super::bench::{Bench, Pool, Spec, info, kind, line, linear, map, number, refused, sectors, try_map};

pub fn zeros_make_a_fresh_pool_and_nothing_else_does<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let usage = pool.usage();
    assert_eq!((usage.transaction_id, usage.used_data, usage.total_data, usage.total_metadata), (0, 0, 256, 2048));
    assert_eq!((usage.mode, usage.needs_check, usage.metadata_snapshot), (PoolMode::ReadWrite, false, false));
    pool.message("create_thin 1").unwrap();
    pool.message("set_transaction_id 0 5").unwrap();
    pool.reactivate();
    assert!(pool.has(1));
    assert_eq!(pool.usage().transaction_id, 5);
    // Only the first 4 KiB are looked at.
    pool.deactivate();
    b.write(&pool.metadata, 0, 4096, 0).unwrap();
    pool.activate().unwrap();
    assert!(!pool.has(1));
    assert_eq!(pool.usage().transaction_id, 0);
}

pub fn a_damaged_superblock_is_refused<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    pool.message("create_thin 1").unwrap();
    pool.deactivate();
    // No block number, no magic, no checksum.
    b.write(&pool.metadata, 0, 4096, 0xff).unwrap();
    assert_eq!(pool.activate().unwrap_err(), Invalid);
    assert_eq!(b.host().dm_device(&pool.uuid).unwrap(), None);
    // It was not made anew meanwhile.
    assert_eq!(b.read(&pool.metadata, 0), Ok(0xff));
}

pub fn another_chunk_size_is_refused<B: Bench>(b: &B) {
    let mut pool = Pool::new(b, Spec::default());
    pool.spec.chunk = 256;
    // A running pool does not look at it.
    assert_eq!(kind(b.host().dm_reload(&pool.uuid, &pool.table(pool.spec.data))), Ok(()));
    assert_eq!((pool.health(), pool.usage().total_data), ((0, PoolMode::ReadWrite, false), 256));
    pool.deactivate();
    assert_eq!(pool.activate().unwrap_err(), Invalid);
    for chunk in [0, 64, 192, (1 << 21) + 128] {
        pool.spec.chunk = chunk;
        assert_eq!(pool.activate().unwrap_err(), Invalid, "{chunk}");
    }
    pool.spec.chunk = 128;
    pool.activate().unwrap();
}

pub fn devices_that_shrank_are_refused<B: Bench>(b: &B) {
    let mut pool = Pool::new(b, Spec::default());
    pool.message("create_thin 1").unwrap();
    // The running pool stays as it is.
    let smaller = pool.table(Bytes::mib(8));
    assert_eq!(refused(b.host().dm_reload(&pool.uuid, &smaller)), Invalid);
    let now = info(b, &pool.uuid);
    assert!(now.live_table && !now.suspended && !now.inactive_table, "{now:?}");
    assert_eq!((pool.health(), pool.usage().total_data), ((0, PoolMode::ReadWrite, false), 256));
    assert!(pool.has(1));
    pool.deactivate();
    pool.spec.data = Bytes::mib(8);
    assert_eq!(pool.activate().unwrap_err(), Invalid);
    pool.spec.data = Bytes::mib(16);
    pool.resize_layer(&pool.metadata, &pool.metadata_disk, Bytes::mib(4));
    assert_eq!(pool.activate().unwrap_err(), Invalid);
    assert_eq!(b.host().dm_device(&pool.uuid).unwrap(), None);
    pool.resize_layer(&pool.metadata, &pool.metadata_disk, Bytes::mib(8));
    pool.activate().unwrap();
    assert!(pool.has(1));
}

pub fn a_pool_grows_with_its_table<B: Bench>(b: &B) {
    let mut pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, Bytes::mib(64));
    b.write(&thin, 0, 4096, 1).unwrap();
    pool.grow_data(Bytes::mib(32)).unwrap();
    assert_eq!((pool.usage().total_data, pool.usage().total_metadata), (512, 2048));
    pool.spec.data = Bytes::mib(32);
    pool.grow_metadata(Bytes::mib(16)).unwrap();
    assert_eq!((pool.usage().total_data, pool.usage().total_metadata), (512, 4096));
    assert_eq!(b.read(&thin, 0), Ok(1));
}

pub fn metadata_that_cannot_hold_a_pool_are_refused<B: Bench>(b: &B) {
    for (blocks, expected) in [(1, Err(Invalid)), (32, Ok(()))] {
        let pool = Pool::inactive(b, Spec { metadata: Bytes(blocks * 4096), ..Spec::default() });
        assert_eq!(pool.activate().map(drop), expected, "{blocks} blocks");
        if expected.is_err() {
            assert_eq!(b.host().dm_device(&pool.uuid).unwrap(), None);
        }
    }
}

pub fn one_metadata_device_serves_one_pool<B: Bench>(b: &B) {
    let (one, two) = (Pool::new(b, Spec::default()), Pool::inactive(b, Spec::default()));
    let second = |metadata, data| {
        let params = format!("{metadata} {data} 128 0 0");
        let table = vec![line(0, sectors(Bytes::mib(16)), "thin-pool", params)];
        try_map(b, Device::Pool(PoolId::from_uuid(uuid::Uuid::new_v4())), table).map(drop)
    };
    assert_eq!(second(one.metadata.dev, two.data.dev), Err(Busy));
    assert_eq!(second(two.metadata.dev, two.metadata.dev), Err(Invalid));
    // Nobody guards the data: two pools would write over each other.
    assert_eq!(second(two.metadata.dev, one.data.dev), Ok(()));
}

pub fn a_running_pool_keeps_its_devices_and_its_kind<B: Bench>(b: &B) {
    let (one, two) = (Pool::new(b, Spec::default()), Pool::inactive(b, Spec::default()));
    let reload = |table: Vec<vol_core::observed::TargetLine>| kind(b.host().dm_reload(&one.uuid, &table));
    assert_eq!(reload(two.table(Bytes::mib(16))), Err(Invalid));
    let dev = number(b, &two.data_disk);
    assert_eq!(reload(vec![linear(0, 2048, dev, 0)]), Err(Invalid));
    let now = info(b, &one.uuid);
    assert!(now.live_table && !now.suspended && !now.inactive_table);
    assert_eq!(one.health(), (0, PoolMode::ReadWrite, false));
    // A linear device may become anything.
    let other = map(b, Device::Pool(two.id), vec![linear(0, 2048, dev, 8192)]);
    assert_eq!(kind(b.host().dm_reload(&other.uuid, &two.table(Bytes::mib(16)))), Ok(()));
    assert_eq!(two.health(), (0, PoolMode::ReadWrite, false));
}

pub fn a_pool_without_its_disk_is_refused<B: Bench>(b: &B) {
    let pool = Pool::inactive(b, Spec::default());
    b.set_frailty(&pool.metadata_disk, super::bench::Frailty::All);
    assert_eq!(pool.activate().unwrap_err(), Io);
    b.set_frailty(&pool.metadata_disk, super::bench::Frailty::Sound);
    pool.activate().unwrap();
}

pub fn strange_features_are_refused<B: Bench>(b: &B) {
    for (features, expected) in [
        ("1 nonsense", Err(Invalid)),
        ("2 read_only", Err(Invalid)),
        ("1 error_if_no_space", Ok(())),
        ("", Ok(())),
        ("2 skip_block_zeroing no_discard_passdown", Ok(())),
    ] {
        let pool = Pool::inactive(b, Spec { features, ..Spec::default() });
        assert_eq!(pool.activate().map(drop), expected, "{features}");
    }
}
