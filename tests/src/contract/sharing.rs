//! The metadata snapshot, and who shares what according to it.

use std::collections::BTreeMap;
use std::time::Duration;

use vol_core::observed::{Kin, PoolSharing};
use vol_engine::host::HostErrorKind::{self, Busy, Invalid, NotFound, TimedOut};
use vol_engine::host::{HostRead, MetadataRoot, SharingCall};
use vol_types::Bytes;

use super::bench::{Bench, CHUNK_BYTES, Pool, Spec, kind, remove};

const SIZE: Bytes = Bytes::mib(4);

fn read<B: Bench>(b: &B, pool: &Pool<'_, B>, limit: u64, go_on: bool) -> Result<PoolSharing, HostErrorKind> {
    // Thin ids 2 and 3 are of one set, and 1 is of their family.
    let kin = BTreeMap::from([1, 2, 3].map(|id| (id, Kin { set: id.min(2), family: 9 })));
    kind(b.host().pool_sharing(&SharingCall {
        metadata_uuid: &pool.metadata.uuid,
        root: MetadataRoot::Held,
        kin: &kin,
        limit: Duration::from_secs(limit),
        go_on: &|| go_on,
    }))
}

pub fn a_metadata_snapshot_shows_who_shared_what_when_it_was_taken<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let origin = pool.volume(1, SIZE);
    b.write(&origin, 0, 4 * CHUNK_BYTES, 1).unwrap();
    pool.snapshot(Some(&origin), 2, 1).unwrap();
    b.write(&origin, 0, 2 * CHUNK_BYTES, 2).unwrap();
    pool.snapshot(Some(&origin), 3, 1).unwrap();
    b.write(&origin, 0, CHUNK_BYTES, 3).unwrap();
    pool.message("create_thin 8").unwrap();
    assert_eq!(read(b, &pool, 60, true), Err(NotFound));
    pool.message("reserve_metadata_snap").unwrap();
    assert_eq!(pool.message("reserve_metadata_snap"), Err(Busy));
    assert!(pool.usage().metadata_snapshot);

    let found = read(b, &pool, 60, true).unwrap();
    let of = |id| (found.contents.thins[&id].mapped_chunks, found.exclusive[&id]);
    // Chunk 0 was written three times, chunk 1 twice, 2 and 3 once.
    assert_eq!([1, 2, 3, 8].map(of), [(4, 1), (4, 2), (4, 1), (0, 0)]);
    assert_eq!((found.sets[&2], found.families[&9], found.mapped), (3, 7, 7));
    assert_eq!(found.mapped, pool.used());

    // The pool goes on, and what was taken stays.
    b.write(&origin, 0, 4 * CHUNK_BYTES, 4).unwrap();
    pool.message("delete 3").unwrap();
    pool.message("create_thin 9").unwrap();
    assert_eq!(read(b, &pool, 60, true).unwrap(), found);
    assert_eq!(read(b, &pool, 60, false), Err(Busy));
    pool.message("release_metadata_snap").unwrap();
    assert_eq!(pool.message("release_metadata_snap"), Err(Invalid));
    assert_eq!(read(b, &pool, 60, true), Err(NotFound));

    pool.message("reserve_metadata_snap").unwrap();
    let now = read(b, &pool, 60, true).unwrap();
    assert_eq!((now.exclusive[&1], now.exclusive[&2], now.mapped), (4, 4, 8));
    assert_eq!(now.contents.thins.keys().copied().collect::<Vec<_>>(), [1, 2, 8, 9]);
    // It outlives the pool's going.
    remove(b, &origin);
    pool.reactivate();
    assert!(pool.usage().metadata_snapshot);
    assert_eq!(read(b, &pool, 60, true).unwrap(), now);
    let late = read(b, &pool, 0, true);
    assert!(late == Err(TimedOut) || late == Ok(now), "{late:?}");
    pool.message("release_metadata_snap").unwrap();
}
