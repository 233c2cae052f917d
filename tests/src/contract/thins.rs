//! Thin volumes: what they take, share and give back; snapshots; sizes.

use vol_core::observed::{DmInfo, PoolMode, TargetStatus, ThinStatus};
use vol_engine::host::HostErrorKind::{Busy, Changed, Exists, Io};
use vol_engine::host::{HostMut, HostRead, ThinOrigin, ThinSnapshot};
use vol_types::{Bytes, Sectors};

use super::bench::{Bench, CHUNK_BYTES, Pool, Spec, Trouble, node, remove};

const SIZE: Bytes = Bytes::mib(4);

pub fn blocks_are_taken_by_first_writes_and_counted_once<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    assert_eq!((pool.used(), pool.usage().total_data, pool.mapped(&thin)), (0, 256, 0));
    b.write(&thin, 0, 4096, 1).unwrap();
    assert_eq!((pool.used(), pool.mapped(&thin)), (1, 1));
    // The same chunk again, and its other end.
    b.write(&thin, 0, 4096, 2).unwrap();
    b.write(&thin, CHUNK_BYTES - 4096, 4096, 2).unwrap();
    assert_eq!((pool.used(), pool.mapped(&thin)), (1, 1));
    // Across a boundary, far away.
    b.write(&thin, 10 * CHUNK_BYTES - 4096, 8192, 3).unwrap();
    assert_eq!((pool.used(), pool.mapped(&thin)), (3, 3));
    assert_eq!(b.read(&thin, 20 * CHUNK_BYTES), Ok(0));
    assert_eq!((pool.used(), pool.mapped(&thin)), (3, 3));
}

pub fn a_new_chunk_reads_as_zeros_around_what_was_written<B: Bench>(b: &B) {
    let pool = Pool::inactive(b, Spec::default());
    // What another tenant left on the disk.
    b.write(&pool.data, 0, 8 * CHUNK_BYTES, 0xee).unwrap();
    pool.activate().unwrap();
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 8192, 4096, 1).unwrap();
    assert_eq!([0, 4096, 8192, 12288].map(|at| b.read(&thin, at)), [Ok(0), Ok(0), Ok(1), Ok(0)]);
}

pub fn a_snapshot_shares_until_one_side_is_written_to<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let origin = pool.volume(1, SIZE);
    b.write(&origin, 0, 2 * CHUNK_BYTES, 1).unwrap();
    pool.snapshot(Some(&origin), 2, 1).unwrap();
    let snapshot = pool.thin(2, SIZE).unwrap();
    assert_eq!((pool.used(), pool.mapped(&origin), pool.mapped(&snapshot)), (2, 2, 2));
    b.write(&origin, 0, 4096, 2).unwrap();
    assert_eq!((pool.used(), pool.mapped(&origin), pool.mapped(&snapshot)), (3, 2, 2));
    b.write(&origin, 0, 4096, 3).unwrap();
    assert_eq!(pool.used(), 3);
    assert_eq!([b.read(&origin, 0), b.read(&origin, 4096)], [Ok(3), Ok(1)]);
    assert_eq!([b.read(&snapshot, 0), b.read(&snapshot, 4096)], [Ok(1), Ok(1)]);
    // The other side: its own copy of what it is alone with now is written in place.
    b.write(&snapshot, 0, 4096, 4).unwrap();
    assert_eq!(pool.used(), 3);
    b.write(&snapshot, CHUNK_BYTES, 4096, 4).unwrap();
    assert_eq!(pool.used(), 4);
    assert_eq!([b.read(&origin, CHUNK_BYTES), b.read(&snapshot, CHUNK_BYTES)], [Ok(1), Ok(4)]);
}

pub fn deleting_gives_back_what_nobody_shares<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let origin = pool.volume(1, SIZE);
    b.write(&origin, 0, 4 * CHUNK_BYTES, 1).unwrap();
    pool.snapshot(Some(&origin), 2, 1).unwrap();
    b.write(&origin, 0, CHUNK_BYTES, 2).unwrap();
    assert_eq!(pool.used(), 5);
    remove(b, &origin);
    pool.message("delete 1").unwrap();
    assert_eq!(pool.used(), 4);
    let snapshot = pool.thin(2, SIZE).unwrap();
    assert_eq!([b.read(&snapshot, 0), b.read(&snapshot, 3 * CHUNK_BYTES)], [Ok(1), Ok(1)]);
    remove(b, &snapshot);
    pool.message("delete 2").unwrap();
    assert_eq!(pool.used(), 0);
}

pub fn one_look_at_a_device_says_what_it_is_and_what_its_target_says<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 0, 3 * CHUNK_BYTES, 1).unwrap();
    let host = b.host();
    let look = |uuid: &str| host.dm_status(uuid).unwrap();
    let mapped = ThinStatus::Working { mapped: Sectors(3 * CHUNK_BYTES / 512) };
    assert_eq!(look(&thin.uuid), Some((super::bench::info(b, &thin.uuid), TargetStatus::Thin(mapped))));
    let (info, status) = look(&pool.uuid).unwrap();
    assert_eq!((info.len, status), (Sectors(pool.spec.data.get() / 512), TargetStatus::Pool(pool.status())));
    b.suspend(&thin.uuid);
    assert!(look(&thin.uuid).unwrap().0.suspended);
    host.dm_resume(&thin.uuid).unwrap();
    remove(b, &thin);
    assert_eq!(look(&thin.uuid), None);
    let disk = super::bench::disk(b, Bytes::mib(4));
    let dev = super::bench::number(b, &disk);
    let linear = super::bench::volume();
    let creation = super::bench::creation(linear, vec![super::bench::linear(0, 8, dev, 0)]);
    b.half_made(&creation, true);
    let (info, status) = look(&linear.uuid()).unwrap();
    assert_eq!((info.live_table, info.len, status), (false, Sectors(0), TargetStatus::None));
    host.dm_resume(&linear.uuid()).unwrap();
    let (info, status) = look(&linear.uuid()).unwrap();
    assert_eq!((info.live_table, info.len, status), (true, Sectors(8), TargetStatus::None));
}

pub fn a_snapshot_of_a_suspended_origin_holds_the_old_data<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let origin = pool.volume(1, SIZE);
    b.write(&origin, 0, CHUNK_BYTES, 1).unwrap();
    b.suspend(&origin.uuid);
    assert_eq!(b.write(&origin, 0, CHUNK_BYTES, 2), Err(Trouble::Waits));
    // By hand; the product's one step is the clause after this.
    pool.message("create_snap 2 1").unwrap();
    b.host().dm_resume(&origin.uuid).unwrap();
    assert_eq!(b.settled(), [Ok(())]);
    let snapshot = pool.thin(2, SIZE).unwrap();
    assert_eq!([b.read(&origin, 0), b.read(&snapshot, 0)], [Ok(2), Ok(1)]);
    assert_eq!(pool.used(), 2);
}

pub fn a_snapshot_leaves_the_origin_live_also_when_it_fails<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let origin = pool.volume(1, SIZE);
    b.write(&origin, 0, 4096, 1).unwrap();
    let live = || {
        let now = super::bench::info(b, &origin.uuid);
        now.live_table && !now.inactive_table && !now.suspended
    };
    pool.snapshot(Some(&origin), 2, 1).unwrap();
    assert!(live());
    assert_eq!(pool.snapshot(Some(&origin), 2, 1), Err(vol_engine::host::HostErrorKind::Exists));
    assert!(live());
    assert_eq!(pool.snapshot(Some(&origin), 3, 9), Err(vol_engine::host::HostErrorKind::NotFound));
    assert!(live());
    // An origin that is not active needs no suspending.
    assert_eq!(pool.snapshot(None, 4, 2), Ok(()));
    assert_eq!(b.read(&pool.thin(4, SIZE).unwrap(), 0), Ok(1));
}

pub fn of_several_snapshots_those_before_the_one_that_fails_are_made<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let origins = [1, 2, 3].map(|id| pool.volume(id, SIZE));
    for origin in &origins {
        b.write(origin, 0, 4096, 1).unwrap();
    }
    let call = |first: u32| {
        let one = |(origin, at): (&DmInfo, u32)| ThinOrigin {
            uuid: Some(origin.uuid.clone()),
            origin_thin_id: 1 + at,
            thin_id: first + at,
        };
        ThinSnapshot { pool_uuid: pool.uuid.clone(), of: origins.iter().zip(0..).map(one).collect() }
    };
    b.host().thin_snapshot(&call(10)).unwrap();
    assert!([10, 11, 12].into_iter().all(|id| pool.has(id)));
    pool.message("create_thin 21").unwrap();
    let error = b.host().thin_snapshot(&call(20)).unwrap_err();
    assert_eq!((error.kind, error.at), (Exists, 1), "{error}");
    assert_eq!([20, 21, 22].map(|id| pool.has(id)), [true, true, false]);
    for origin in &origins {
        assert!(!b.host().dm_device(&origin.uuid).unwrap().unwrap().suspended);
        b.write(origin, 0, 4096, 2).unwrap();
    }
    assert_eq!(pool.thin(10, SIZE).map(|snapshot| b.read(&snapshot, 0)), Ok(Ok(1)));
}

pub fn the_size_of_a_thin_is_its_tables<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, Bytes::mib(8));
    b.write(&thin, 7 << 20, 4096, 7).unwrap();
    b.host().dm_reload(&thin.uuid, &pool.thin_table(1, Bytes::mib(2))).unwrap();
    let size = |b: &B| b.host().inspect(&node(&thin)).unwrap().identity.size;
    assert_eq!(size(b), Bytes::mib(2));
    // What is past the end of a smaller table is kept.
    assert_eq!(pool.mapped(&thin), 1);
    b.host().dm_reload(&thin.uuid, &pool.thin_table(1, Bytes::gib(1))).unwrap();
    assert_eq!((size(b), b.read(&thin, 7 << 20), b.read(&thin, 1 << 29)), (Bytes::gib(1), Ok(7), Ok(0)));
    assert_eq!(pool.used(), 1);
}

pub fn a_thin_that_is_not_there_cannot_be_opened<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    assert_eq!(pool.thin(1, SIZE).unwrap_err(), Io);
    // A number that leads to no pool.
    let table = |dev| vec![super::bench::line(0, 2048, "thin", format!("{dev} 1"))];
    let refusal = |dev| super::bench::try_map(b, super::bench::volume(), table(dev)).unwrap_err();
    assert_eq!(refusal(pool.data.dev), vol_engine::host::HostErrorKind::Invalid);
    assert_eq!(refusal(vol_core::observed::DevNumber { minor: 9999, ..pool.data.dev }), Io);
}

pub fn one_thin_may_be_active_twice<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let one = pool.volume(1, SIZE);
    let two = pool.thin(1, SIZE).unwrap();
    b.write(&one, 0, 4096, 1).unwrap();
    assert_eq!(b.read(&two, 0), Ok(1));
    remove(b, &one);
    assert_eq!(pool.message("delete 1"), Err(Busy));
    remove(b, &two);
    assert_eq!(pool.message("delete 1"), Ok(()));
}

pub fn a_pool_with_active_thins_is_busy<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    assert_eq!(super::bench::refused(b.host().dm_remove(&pool.uuid)), Busy);
    assert_eq!(super::bench::refused(b.host().dm_remove(&pool.data.uuid)), Busy);
    assert_eq!(super::bench::open_count(b, &pool.uuid), 1);
    remove(b, &thin);
    assert_eq!(super::bench::open_count(b, &pool.uuid), 0);
    pool.deactivate();
}

pub fn io_on_a_thin_waits_while_its_pool_is_suspended<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    b.suspend(&pool.uuid);
    assert_eq!(b.write(&thin, 0, 4096, 5), Err(Trouble::Waits));
    // The thin itself is live all the while.
    assert!(!super::bench::info(b, &thin.uuid).suspended);
    b.host().dm_resume(&pool.uuid).unwrap();
    assert_eq!(b.settled(), [Ok(())]);
    assert_eq!(b.read(&thin, 0), Ok(5));
}

pub fn a_thin_cannot_be_opened_while_its_pool_is_suspended<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    pool.message("create_thin 1").unwrap();
    b.suspend(&pool.uuid);
    assert_eq!(pool.thin(1, SIZE).unwrap_err(), vol_engine::host::HostErrorKind::Invalid);
    b.host().dm_resume(&pool.uuid).unwrap();
    assert!(pool.thin(1, SIZE).is_ok());
}

pub fn zeroing_takes_blocks<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    b.host().zero_device(thin.dev, 1 << 20, 1 << 20).unwrap();
    let mapped = Sectors(2048);
    assert_eq!(b.host().thin_status(&thin.uuid).unwrap(), ThinStatus::Working { mapped });
    assert_eq!(pool.used(), 16);
    assert_eq!(super::bench::refused(b.host().zero_device(thin.dev, 0, SIZE.get() + 4096)), Io);
    assert_eq!(pool.health().1, PoolMode::ReadWrite);
}

pub fn a_discard_gives_back_whole_chunks_and_leaves_what_others_share<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 0, 4 * CHUNK_BYTES, 1).unwrap();
    pool.snapshot(Some(&thin), 2, 1).unwrap();
    b.write(&thin, 4 * CHUNK_BYTES, 4 * CHUNK_BYTES, 2).unwrap();
    assert_eq!((pool.used(), pool.mapped(&thin)), (8, 8));
    let discard = |offset, len| b.host().discard(thin.dev, &thin.uuid, offset, len);
    // Half a chunk at each end stays.
    discard(4 * CHUNK_BYTES + 4096, 2 * CHUNK_BYTES).unwrap();
    assert_eq!((pool.used(), pool.mapped(&thin)), (7, 7));
    // What the snapshot shares is unmapped here, and not free.
    discard(0, 4 * CHUNK_BYTES).unwrap();
    assert_eq!((pool.used(), pool.mapped(&thin)), (7, 3));
    let snapshot = pool.thin(2, SIZE).unwrap();
    assert_eq!((pool.mapped(&snapshot), b.read(&snapshot, 0)), (4, Ok(1)));
    // Where nothing is mapped there is nothing to be done.
    discard(0, SIZE.get()).unwrap();
    discard(0, SIZE.get()).unwrap();
    assert_eq!((pool.used(), pool.mapped(&thin)), (4, 0));
    assert!(discard(0, SIZE.get() + 4096).is_err(), "beyond its end");
    assert_eq!(super::bench::refused(b.host().discard(thin.dev, &snapshot.uuid, 0, 4096)), Changed);
}

pub fn a_slice_of_a_thin_reads_as_zeroes_when_it_is_wiped<B: Bench>(b: &B) {
    let pool = Pool::new(b, Spec::default());
    let thin = pool.volume(1, SIZE);
    b.write(&thin, 0, 4 * CHUNK_BYTES, 1).unwrap();
    pool.snapshot(Some(&thin), 2, 1).unwrap();
    // Of chunks that lie in it only in part, of whole ones, and of what has no chunk yet.
    for (offset, len) in [(4096, 8192), (CHUNK_BYTES, CHUNK_BYTES), (3 * CHUNK_BYTES + 4096, 2 * CHUNK_BYTES)] {
        b.host().wipe_slice(thin.dev, &thin.uuid, offset, len).unwrap();
        assert_eq!([offset, offset + len - 4096].map(|at| b.read(&thin, at)), [Ok(0), Ok(0)], "{len} at {offset}");
    }
    let kept = [0, 12288, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES];
    assert_eq!(kept.map(|at| b.read(&thin, at)), [Ok(1); 4]);
    let snapshot = pool.thin(2, SIZE).unwrap();
    let wiped = [4096, CHUNK_BYTES, 3 * CHUNK_BYTES + 4096];
    assert_eq!(wiped.map(|at| b.read(&snapshot, at)), [Ok(1); 3], "the snapshot keeps what was there");
}
