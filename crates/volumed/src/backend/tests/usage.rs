//! Who takes how much, and what lies where, as clients see it.

use vol_api::{ErrorCode, SegmentUse};

use super::*;

fn fill(host: &SimHost, backend: &Sim, of: &str, chunks: u64) {
    let id: VolumeId = backend.volume(&volume(of)).unwrap().id.parse().unwrap();
    host.fill(&Device::Volume(id).uuid(), chunks).unwrap();
}

/// Nothing older than the last change is shown.
fn wait_out(host: &SimHost) {
    host.pass(std::time::Duration::from_millis(2100));
}

#[test]
fn usage_adds_up_and_what_was_made_since_is_unknown() {
    let (host, backend) = furnished();
    let backend = backend.keeping_deleted(Some(std::time::Duration::from_secs(3600)));
    done(backend.attach_volume(&volume("data/raw"), false));
    fill(&host, &backend, "data/raw", 5);
    let chunk = backend.pool(&pool("data/tank")).unwrap().chunk_size_bytes;
    let before = backend.pool_usage(&pool("data/tank")).unwrap();
    let raw = &before.volumes[1];
    assert_eq!(
        (raw.volume.as_str(), raw.allocated_bytes, raw.exclusive_bytes),
        ("raw", Some(5 * chunk), Some(5 * chunk))
    );
    assert_eq!((raw.shared_bytes, raw.reclaimable_bytes, raw.size_bytes), (Some(0), Some(0), 1 << 30));
    let request = CreateSnapshot { vg: "data".into(), volume: "raw".into(), name: "one".into(), ..Default::default() };
    done(backend.create_snapshot(request, false));
    let cached = backend.volume_usage(&volume("data/raw")).unwrap();
    assert_eq!((cached.read_at.clone(), cached.snapshots[0].allocated_bytes), (before.read_at, None));
    wait_out(&host);
    let after = backend.pool_usage(&pool("data/tank")).unwrap();
    let raw = &after.volumes[1];
    assert_eq!((raw.exclusive_bytes, raw.shared_bytes), (Some(0), Some(5 * chunk)));
    assert_eq!((raw.reclaimable_bytes, raw.with_snapshots_bytes), (Some(0), Some(5 * chunk)));
    let one = &raw.snapshots[0];
    assert_eq!(
        (one.full_name.as_str(), one.exclusive_bytes, one.shared_bytes),
        ("data/raw@one", Some(0), Some(5 * chunk))
    );
    assert_eq!(after.exclusive_bytes + after.shared_bytes, after.allocated_bytes);
    assert_eq!(Some(after.allocated_bytes), backend.pool(&pool("data/tank")).unwrap().used_bytes);
    assert_eq!(backend.volume_usage(&volume("data/raw")).unwrap(), *raw);
    done(backend.detach_volume(&volume("data/raw"), false));
    done(backend.create_volume(volume_request("gone", "1G", "none"), false));
    done(backend.attach_volume(&volume("data/gone"), false));
    fill(&host, &backend, "data/gone", 3);
    done(backend.detach_volume(&volume("data/gone"), false));
    done(backend.delete_volume(&volume("data/gone"), false, false));
    done(backend.delete_volume(&volume("data/raw"), true, false));
    wait_out(&host);
    let orphaned = backend.pool_usage(&pool("data/tank")).unwrap();
    assert_eq!((orphaned.volumes.len(), orphaned.snapshots.len()), (1, 1));
    assert_eq!((orphaned.snapshots[0].exclusive_bytes, orphaned.strays_bytes), (Some(5 * chunk), 0));
    assert_eq!((orphaned.reclaimable_bytes, orphaned.deleted_bytes), (5 * chunk, 3 * chunk));
    assert_eq!(host.violations(), Vec::<String>::new());
}

#[test]
fn usage_of_what_is_not_there_is_not_found_and_of_a_sick_pool_degraded() {
    let (host, backend) = furnished();
    assert_eq!(backend.pool_usage(&pool("data/lake")).unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(backend.volume_usage(&volume("data/nix")).unwrap_err().code, ErrorCode::NotFound);
    let id: PoolId = backend.pool(&pool("data/tank")).unwrap().id.parse().unwrap();
    host.foreign_message(&Device::Pool(id).uuid(), "reserve_metadata_snap");
    assert_eq!(backend.pool_usage(&pool("data/tank")).unwrap_err().code, ErrorCode::Busy);
    host.foreign_message(&Device::Pool(id).uuid(), "release_metadata_snap");
    host.set_pool_mode(&Device::Pool(id).uuid(), vol_sim::SimPoolMode::Fail);
    wait_out(&host);
    assert_eq!(backend.volume_usage(&volume("data/pg")).unwrap_err().code, ErrorCode::Degraded);
}

#[test]
fn the_map_covers_every_extent_once_and_agrees_with_the_pvs() {
    let (_, backend) = furnished();
    let second = CreatePool { vg: "data".into(), name: "lake".into(), size: "512M".into(), ..CreatePool::default() };
    done(backend.create_pool(second, false));
    let map = backend.vg_map(&name("data")).unwrap();
    let pools = backend.pools(None).unwrap();
    for pv in &map.pvs {
        let mut next = 0;
        for segment in &pv.segments {
            assert_eq!(segment.start_extent, next);
            assert!(segment.extent_count > 0);
            assert_eq!(
                segment.usage == SegmentUse::Free,
                segment.pool.is_none() && segment.pool_offset_bytes.is_none()
            );
            next += segment.extent_count;
        }
        assert_eq!(next, pv.extent_count);
        let info = backend.pv(pv.id.parse().unwrap()).unwrap();
        assert_eq!((info.free_extents, info.path.as_ref()), (pv.free_extents, pv.path.as_ref()));
    }
    let all = || map.pvs.iter().flat_map(|pv| &pv.segments);
    let of = |pool: &str, usage| {
        let own = all().filter(|segment| segment.pool.as_deref() == Some(pool) && segment.usage == usage);
        own.map(|segment| segment.extent_count * map.extent_size_bytes).sum::<u64>()
    };
    for pool in &pools {
        assert_eq!(of(&pool.name, SegmentUse::Metadata), pool.metadata_size_bytes);
        assert!(of(&pool.name, SegmentUse::Data) >= pool.size_bytes);
    }
    assert!(backend.vg_map(&name("nix")).is_err());
}
