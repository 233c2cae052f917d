//! Messages to a pool, and its transaction id.

use vol_core::dm::Device;
use vol_core::observed::PoolMode;
use vol_engine::host::HostErrorKind::{Busy, Exists, Invalid, NotFound};
use vol_engine::host::HostMut;
use vol_types::{Bytes, PoolId};

use super::bench::{Bench, Pool, Spec, creation, disk, kind, linear, map, number, remove, volume};

pub fn creating_a_thin_id_that_is_taken_is_exists<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    assert_eq!(pool.message("create_thin 7"), Ok(()));
    assert_eq!(pool.message("create_thin 7"), Err(Exists));
    assert_eq!(pool.message("create_snap 7 7"), Err(Exists));
    // The new id is looked at before the origin.
    assert_eq!(pool.message("create_snap 7 99"), Err(Exists));
    assert_eq!(pool.health(), (0, PoolMode::ReadWrite, false));
}

pub fn an_absent_thin_id_is_not_found<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    assert_eq!(pool.message("delete 1"), Err(NotFound));
    assert_eq!(pool.message("create_snap 2 1"), Err(NotFound));
    assert!(!pool.has(2));
    pool.message("create_thin 1").unwrap();
    assert_eq!(pool.message("delete 1"), Ok(()));
    assert_eq!(pool.message("delete 1"), Err(NotFound));
    assert_eq!(pool.health(), (0, PoolMode::ReadWrite, false));
}

pub fn deleting_an_open_thin_is_busy<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, Bytes::mib(4));
    assert_eq!(pool.message("delete 1"), Err(Busy));
    b.suspend(&thin.uuid);
    assert_eq!(pool.message("delete 1"), Err(Busy));
    b.host().dm_resume(&thin.uuid).unwrap();
    remove(b, &thin);
    assert_eq!(pool.message("delete 1"), Ok(()));
}

pub fn a_thin_id_has_24_bits<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    assert_eq!(pool.message("create_thin 16777215"), Ok(()));
    assert_eq!(pool.message("create_thin 16777216"), Err(Invalid));
    assert_eq!(pool.message("create_snap 16777216 16777215"), Err(Invalid));
    assert_eq!(pool.message("create_snap 1 16777216"), Err(Invalid));
    assert_eq!(pool.message("delete 16777216"), Err(Invalid));
    assert_eq!(pool.thin(16_777_216, Bytes::mib(1)).unwrap_err(), Invalid);
    assert_eq!(pool.message("create_snap 0 16777215"), Ok(()));
    assert_eq!(pool.message("delete 16777215"), Ok(()));
}

pub fn what_is_no_message_is_invalid<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    for text in [
        "nonsense",
        "create_thin",
        "create_thin x",
        "create_thin 1x",
        "create_thin -1",
        "create_thin 1 2",
        "create_snap 1",
        "delete",
        "set_transaction_id 0",
        "set_transaction_id 0 x",
    ] {
        assert_eq!(pool.message(text), Err(Invalid), "{text}");
    }
    assert_eq!(pool.message("  create_thin   1 "), Ok(()));
    assert_eq!(pool.message("create_thin 02"), Ok(()));
    // Upper and lower case are one.
    assert_eq!(pool.message("DELETE 2"), Ok(()));
    assert!(pool.has(1) && !pool.has(2));
}

pub fn a_message_goes_to_a_pool_and_nowhere_else<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, Bytes::mib(4));
    let send = |uuid: &str| kind(b.host().dm_message(uuid, "create_thin 5"));
    assert_eq!(send(&thin.uuid), Err(Invalid));
    assert_eq!(send(&pool.data.uuid), Err(Invalid));
    assert_eq!(send(&Device::Pool(PoolId::from_uuid(uuid::Uuid::new_v4())).uuid()), Err(NotFound));
    assert!(!pool.has(5));
}

pub fn a_transaction_id_moves_only_from_where_it_is<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    assert_eq!(pool.message("set_transaction_id 3 4"), Err(Invalid));
    assert_eq!(pool.message("set_transaction_id 1 2"), Err(Invalid));
    assert_eq!(pool.health(), (0, PoolMode::ReadWrite, false));
    assert_eq!(pool.message("set_transaction_id 0 1"), Ok(()));
    assert_eq!(pool.message("set_transaction_id 0 1"), Err(Invalid));
    assert_eq!(pool.health(), (1, PoolMode::ReadWrite, false));
}

pub fn a_transaction_id_may_go_anywhere<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    for (from, to) in [(0u64, 5u64), (5, 5), (5, 3), (3, 1 << 40), (1 << 40, 0)] {
        assert_eq!(pool.message(&format!("set_transaction_id {from} {to}")), Ok(()));
        assert_eq!(pool.usage().transaction_id, to);
    }
}

pub fn what_messages_did_is_there_after_reactivation<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    for text in ["create_thin 1", "create_thin 2", "create_snap 3 1", "delete 2", "set_transaction_id 0 9"] {
        pool.message(text).unwrap();
    }
    for _ in 0..2 {
        pool.reactivate();
        assert_eq!(pool.health(), (9, PoolMode::ReadWrite, false));
        assert_eq!([1, 2, 3, 4].map(|id| pool.has(id)), [true, false, true, false]);
        assert_eq!(pool.message("create_thin 1"), Err(Exists));
    }
}

pub fn a_suspended_pool_takes_messages_all_the_same<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    pool.message("create_thin 1").unwrap();
    b.suspend(&pool.uuid);
    assert_eq!(pool.message("set_transaction_id 0 1"), Ok(()));
    assert_eq!(pool.message("create_thin 2"), Ok(()));
    assert_eq!(pool.message("create_snap 3 1"), Ok(()));
    assert_eq!(pool.message("delete 1"), Ok(()));
    assert_eq!(pool.health(), (1, PoolMode::ReadWrite, false));
    b.host().dm_resume(&pool.uuid).unwrap();
    pool.reactivate();
    assert_eq!([1, 2, 3].map(|id| pool.has(id)), [false, true, true]);
    assert_eq!(pool.health(), (1, PoolMode::ReadWrite, false));
}

pub fn a_message_to_a_device_without_a_table_does_nothing<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let device = volume();
    b.half_made(&creation(device, vec![linear(0, 8, dev, 0)]), false);
    assert_eq!(kind(b.host().dm_message(&device.uuid(), "create_thin 1")), Err(Invalid));
    let live = map(b, volume(), vec![linear(0, 8, dev, 8)]);
    assert_eq!(kind(b.host().dm_message(&live.uuid, "create_thin 1")), Err(Invalid));
}
