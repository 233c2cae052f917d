//! Pools that run out of data or metadata space, and read-only ones.

use vol_core::observed::PoolMode::{OutOfDataSpace, ReadOnly, ReadWrite};
use vol_engine::host::HostErrorKind::{Denied, Exists, Io, NoSpace, Unsupported};
use vol_engine::host::HostMut;
use vol_types::Bytes;

use super::bench::{Bench, CHUNK_BYTES, Pool, Spec, Trouble, refused, remove};

const SIZE: Bytes = Bytes::mib(4);

fn small<'a, B: Bench>(b: &'a B, features: &'static str) -> Pool<'a, B> {
    Pool::new(b, Spec { data: Bytes(16 * CHUNK_BYTES), features, ..Spec::default() })
}

pub fn a_pool_that_is_exactly_full_is_not_out_of_space<B: Bench>(b: &B) {
    let pool = small(b, "0");
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 0, 16 * CHUNK_BYTES, 1).unwrap();
    assert_eq!((pool.used(), pool.health()), (16, (0, ReadWrite, false)));
    b.write(&thin, 0, 16 * CHUNK_BYTES, 2).unwrap();
    assert_eq!(pool.health(), (0, ReadWrite, false));
}

fn is_out_of_data_space<B: Bench>(b: &B, features: &'static str) {
    let pool = small(b, features);
    let thin = pool.volume(1, SIZE);
    pool.message("create_thin 2").unwrap();
    b.write(&thin, 0, 16 * CHUNK_BYTES, 1).unwrap();
    assert_eq!(b.write(&thin, 20 * CHUNK_BYTES, 4096, 1), Err(Trouble::Failed(NoSpace)));
    assert_eq!((pool.used(), pool.health()), (16, (0, OutOfDataSpace, false)));
    // What has its block is written and read, and messages are taken.
    b.write(&thin, 0, 4096, 9).unwrap();
    assert_eq!([b.read(&thin, 0), b.read(&thin, CHUNK_BYTES), b.read(&thin, 20 * CHUNK_BYTES)], [Ok(9), Ok(1), Ok(0)]);
    assert_eq!(pool.message("create_thin 3"), Ok(()));
    assert_eq!(pool.message("create_snap 4 2"), Ok(()));
    assert_eq!(pool.message("set_transaction_id 0 1"), Ok(()));
    assert_eq!(pool.message("delete 2"), Ok(()));
    assert_eq!(pool.health(), (1, OutOfDataSpace, false));
    assert_eq!(b.write(&thin, 20 * CHUNK_BYTES, 4096, 1), Err(Trouble::Failed(NoSpace)));
    // More data space, and all is well.
    pool.grow_data(Bytes(32 * CHUNK_BYTES)).unwrap();
    assert_eq!(pool.health(), (1, ReadWrite, false));
    b.write(&thin, 20 * CHUNK_BYTES, 4096, 7).unwrap();
    assert_eq!((pool.used(), pool.usage().total_data, b.read(&thin, 20 * CHUNK_BYTES)), (17, 32, Ok(7)));
}

pub fn writes_fail_for_want_of_data_space_until_the_pool_grows<B: Bench>(b: &B) {
    is_out_of_data_space(b, "1 error_if_no_space");
}

pub fn writes_that_waited_in_vain_for_data_space_fail<B: Bench>(b: &B) {
    b.short_patience();
    is_out_of_data_space(b, "0");
}

pub fn what_becomes_of_writes_when_full_is_changed_with_the_table<B: Bench>(b: &B) {
    let mut pool = small(b, "0");
    let thin = pool.volume(1, SIZE);
    assert!(!pool.usage().error_when_full);
    for (features, error) in [("1 error_if_no_space", true), ("0", false), ("1 error_if_no_space", true)] {
        pool.spec.features = features;
        b.host().dm_reload(&pool.uuid, &pool.table(pool.spec.data)).unwrap();
        assert_eq!((pool.usage().error_when_full, pool.health()), (error, (0, ReadWrite, false)), "{features}");
    }
    b.write(&thin, 0, 16 * CHUNK_BYTES, 1).unwrap();
    assert_eq!(b.write(&thin, 20 * CHUNK_BYTES, 4096, 1), Err(Trouble::Failed(NoSpace)));
}

pub fn deleting_ends_the_want_of_data_space<B: Bench>(b: &B) {
    let pool = small(b, "1 error_if_no_space");
    let (one, two) = (pool.volume(1, SIZE), pool.volume(2, SIZE));
    b.write(&one, 0, 8 * CHUNK_BYTES, 1).unwrap();
    b.write(&two, 0, 8 * CHUNK_BYTES, 1).unwrap();
    assert_eq!(b.write(&two, 16 * CHUNK_BYTES, 4096, 1), Err(Trouble::Failed(NoSpace)));
    remove(b, &one);
    pool.message("delete 1").unwrap();
    assert_eq!((pool.used(), pool.health()), (8, (0, ReadWrite, false)));
    b.write(&two, 16 * CHUNK_BYTES, 4096, 1).unwrap();
}

pub fn being_out_of_data_space_is_forgotten_at_reactivation<B: Bench>(b: &B) {
    let pool = small(b, "1 error_if_no_space");
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 0, 16 * CHUNK_BYTES, 1).unwrap();
    assert_eq!(b.write(&thin, 20 * CHUNK_BYTES, 4096, 1), Err(Trouble::Failed(NoSpace)));
    remove(b, &thin);
    pool.reactivate();
    assert_eq!((pool.used(), pool.health()), (16, (0, ReadWrite, false)));
    let thin = pool.thin(1, SIZE).unwrap();
    assert_eq!(b.write(&thin, 20 * CHUNK_BYTES, 4096, 1), Err(Trouble::Failed(NoSpace)));
    assert_eq!(pool.health(), (0, OutOfDataSpace, false));
}

/// Creates thins until the pool takes no more; how many there are, and the first refusal.
fn fill_metadata<B: Bench>(pool: &Pool<'_, B>) -> u32 {
    for id in 100..1000 {
        if let Err(kind) = pool.message(&format!("create_thin {id}")) {
            println!("  create_thin {id}: {kind:?}; {:?}", pool.status());
            return id;
        }
    }
    panic!("it takes any number: {:?}", pool.status());
}

pub fn a_pool_without_metadata_space_takes_no_message_until_it_grows<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec { metadata: Bytes(64 * 4096), ..Spec::default() });
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 0, CHUNK_BYTES, 1).unwrap();
    let first_refused = fill_metadata(&pool);
    // It says `ro`, and nothing of needs_check.
    assert_eq!(pool.health(), (0, ReadOnly, false));
    let usage = pool.usage();
    assert_eq!((usage.used_metadata, usage.total_metadata), (64, 64));
    for text in ["create_thin 99", "create_snap 99 1", "delete 100", "set_transaction_id 0 1", "nonsense"] {
        assert_eq!(pool.message(text), Err(Unsupported), "{text}");
    }
    // What has its block is written; nothing new.
    b.write(&thin, 0, 4096, 2).unwrap();
    assert_eq!(b.write(&thin, 5 * CHUNK_BYTES, 4096, 1), Err(Trouble::Failed(Io)));
    assert_eq!([b.read(&thin, 0), b.read(&thin, 5 * CHUNK_BYTES)], [Ok(2), Ok(0)]);
    pool.grow_metadata(Bytes(128 * 4096)).unwrap();
    assert_eq!((pool.health(), pool.usage().total_metadata), ((0, ReadWrite, false), 128));
    assert_eq!(pool.message(&format!("create_thin {first_refused}")), Ok(()));
    assert_eq!(pool.message("create_thin 100"), Err(Exists));
    b.write(&thin, 5 * CHUNK_BYTES, 4096, 1).unwrap();
}

pub fn a_pool_loaded_read_only_takes_no_message<B: Bench>(b: &B) {
    let mut pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 0, CHUNK_BYTES, 1).unwrap();
    remove(b, &thin);
    pool.deactivate();
    pool.spec.features = "1 read_only";
    pool.activate().unwrap();
    assert_eq!(pool.health(), (0, ReadOnly, false));
    for text in ["create_thin 2", "create_snap 2 1", "delete 1", "set_transaction_id 0 1", "nonsense"] {
        assert_eq!(pool.message(text), Err(Unsupported), "{text}");
    }
    let thin = pool.thin(1, SIZE).unwrap();
    assert_eq!(b.read(&thin, 0), Ok(1));
    b.write(&thin, 0, 4096, 2).unwrap();
    assert_eq!(b.write(&thin, CHUNK_BYTES, 4096, 2), Err(Trouble::Failed(Io)));
    // A table without the feature makes it writable again.
    pool.spec.features = "0";
    b.host().dm_reload(&pool.uuid, &pool.table(pool.spec.data)).unwrap();
    assert_eq!((pool.health(), pool.message("create_thin 2")), ((0, ReadWrite, false), Ok(())));
}

pub fn blank_metadata_are_not_formatted_read_only<B: Bench>(b: &B) {
    let mut pool = Pool::inactive(b, Spec { features: "1 read_only", ..Spec::default() });
    assert_eq!(pool.activate().unwrap_err(), Denied);
    assert_eq!(b.read(&pool.metadata, 0), Ok(0));
    pool.spec.features = "0";
    pool.activate().unwrap();
    assert_eq!(refused(b.host().dm_message(&pool.uuid, "delete 1")), vol_engine::host::HostErrorKind::NotFound);
}
