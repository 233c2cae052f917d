//! Metadata and data devices that fail below a running pool.

use vol_core::observed::PoolMode::{ReadOnly, ReadWrite};
use vol_core::observed::{PoolStatus, ThinStatus};
use vol_engine::host::HostErrorKind::{Io, NotFound, Unsupported};
use vol_engine::host::HostRead;
use vol_types::Bytes;

use super::bench::{Bench, CHUNK_BYTES, Frailty, Pool, Spec, Trouble, remove};

const SIZE: Bytes = Bytes::mib(4);

/// A pool with thin 1, one chunk of it written, whose metadata then take no writes and which has noticed.
fn needs_check<'a, B: Bench>(b: &'a B, message: &str) -> Pool<'a, B> {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 0, CHUNK_BYTES, 1).unwrap();
    remove(b, &thin);
    b.set_frailty(&pool.metadata_disk, Frailty::Writes);
    assert_eq!(pool.message(message), Ok(()), "the result of the commit is thrown away");
    pool
}

/// F12: message OK, commit failed.
pub fn a_message_whose_commit_fails_returns_success<B: Bench>(b: &B) {
    for message in ["create_thin 2", "create_snap 2 1", "delete 1", "set_transaction_id 0 1"] {
        let pool = needs_check(b, message);
        // The status goes on showing a transaction id that was never committed: only mode and flag tell.
        let shown = u64::from(message.starts_with("set_transaction_id"));
        assert_eq!(pool.health(), (shown, ReadOnly, true), "{message}");
        assert_eq!(pool.used(), 1, "{message}");
    }
}

pub fn a_pool_that_needs_a_check_takes_no_message<B: Bench>(b: &B) {
    let pool = needs_check(b, "create_thin 2");
    for frailty in [Frailty::Writes, Frailty::Sound] {
        b.set_frailty(&pool.metadata_disk, frailty);
        for text in
            ["create_thin 2", "create_thin 1", "create_snap 3 1", "delete 1", "set_transaction_id 0 1", "nonsense"]
        {
            assert_eq!(pool.message(text), Err(Unsupported), "{text}");
        }
    }
    assert_eq!(pool.health(), (0, ReadOnly, true));
}

pub fn a_pool_that_needs_a_check_shows_what_was_committed<B: Bench>(b: &B) {
    let pool = needs_check(b, "create_thin 2");
    let thin = pool.thin(1, SIZE).unwrap();
    assert_eq!(pool.mapped(&thin), 1);
    assert_eq!([b.read(&thin, 0), b.read(&thin, CHUNK_BYTES)], [Ok(1), Ok(0)]);
    b.write(&thin, 0, 4096, 2).unwrap();
    assert_eq!(b.write(&thin, CHUNK_BYTES, 4096, 2), Err(Trouble::Failed(Io)));
    // What the message made was taken back.
    assert_eq!(pool.thin(2, SIZE).unwrap_err(), Io);
}

pub fn needs_check_stays_through_reactivation<B: Bench>(b: &B) {
    let pool = needs_check(b, "set_transaction_id 0 1");
    b.set_frailty(&pool.metadata_disk, Frailty::Sound);
    for _ in 0..2 {
        pool.reactivate();
        assert_eq!(pool.health(), (0, ReadOnly, true));
        assert_eq!(pool.message("create_thin 5"), Err(Unsupported));
        assert!(pool.has(1) && !pool.has(2));
    }
}

pub fn needs_check_that_could_not_be_written_is_forgotten<B: Bench>(b: &B) {
    let pool = needs_check(b, "create_thin 2");
    pool.deactivate();
    b.set_frailty(&pool.metadata_disk, Frailty::Sound);
    pool.activate().unwrap();
    assert_eq!(pool.health(), (0, ReadWrite, false));
    assert_eq!([pool.has(1), pool.has(2)], [true, false]);
    assert_eq!(pool.message("create_thin 2"), Ok(()));
}

pub fn a_pool_that_needs_a_check_does_not_grow<B: Bench>(b: &B) {
    let pool = needs_check(b, "create_thin 2");
    b.set_frailty(&pool.metadata_disk, Frailty::Sound);
    assert_eq!(pool.grow_data(Bytes::mib(32)), Ok(()));
    assert_eq!((pool.usage().total_data, pool.health()), (256, (0, ReadOnly, true)));
}

pub fn a_pool_whose_metadata_cannot_be_read_fails<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 0, CHUNK_BYTES, 1).unwrap();
    b.set_frailty(&pool.metadata_disk, Frailty::All);
    let sent = pool.message("set_transaction_id 0 1");
    assert_eq!((sent, pool.status()), (Ok(()), PoolStatus::Fail));
    assert_eq!(b.host().thin_status(&thin.uuid).unwrap(), ThinStatus::Fail);
    assert_eq!(pool.message("create_thin 9"), Err(Unsupported));
    assert_eq!(b.read(&thin, 0), Err(Trouble::Failed(Io)));
    assert_eq!(b.write(&thin, 0, 4096, 2), Err(Trouble::Failed(Io)));
    assert_eq!(pool.thin(1, SIZE).unwrap_err(), vol_engine::host::HostErrorKind::Invalid);
    remove(b, &thin);
    // With the disk mended and the pool loaded anew all is as it was.
    b.set_frailty(&pool.metadata_disk, Frailty::Sound);
    pool.reactivate();
    let thin = pool.thin(1, SIZE).unwrap();
    assert_eq!(b.read(&thin, 0), Ok(1));
    assert_eq!(pool.usage().transaction_id, 0);
}

pub fn a_data_device_that_fails_fails_io_and_not_the_pool<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 0, CHUNK_BYTES, 1).unwrap();
    b.set_frailty(&pool.data_disk, Frailty::All);
    assert_eq!(b.read(&thin, 0), Err(Trouble::Failed(Io)));
    assert_eq!(b.write(&thin, 0, 4096, 2), Err(Trouble::Failed(Io)));
    assert_eq!(pool.health(), (0, ReadWrite, false));
    b.set_frailty(&pool.data_disk, Frailty::Sound);
    assert_eq!(b.read(&thin, 0), Ok(1));
    assert_eq!(pool.message("delete 9"), Err(NotFound));
}

pub fn asking_for_the_status_commits_nothing<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, Bytes::mib(16));
    // The kernel commits by itself every second: one quiet round is enough, for a status that commits would never have one.
    let quiet = (0..8).any(|round| {
        b.write(&thin, round * CHUNK_BYTES, 4096, 1).unwrap();
        let before = b.writes_of(&pool.metadata_disk);
        b.write_unflushed(&thin, (100 + round) * CHUNK_BYTES);
        for _ in 0..5 {
            pool.usage();
            b.host().thin_status(&thin.uuid).unwrap();
        }
        b.writes_of(&pool.metadata_disk) == before
    });
    assert!(quiet, "each time that the status was asked for, metadata were written");
}
