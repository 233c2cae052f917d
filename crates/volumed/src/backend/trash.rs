//! Deleting with a way back.

use vol_api::{Changed, DeletedInfo, Outcome, Purged, SnapshotInfo, VolumeInfo};
use vol_engine::host::HostMut;
use vol_engine::{Done, EngineError};
use vol_types::{Name, PoolPath, SnapshotPath, VolumeId, VolumePath};

use super::change::{changed, plan, snapshot_name, volume_name};
use super::error::from_engine;
use super::{EngineBackend, info};
use crate::api::{Change, Read};

/// For good if it is asked for or nothing is kept; else until when it is.
fn delete<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    vg: &Name,
    name: &vol_core::VolumeName,
    now: bool,
    dry_run: bool,
) -> Result<(Done<VolumeId>, Option<String>), EngineError> {
    match backend.window().filter(|_| !now) {
        None => Ok((backend.engine.delete_volume(vg, name, dry_run)?, None)),
        Some(window) => {
            let until = backend.engine.host().now().saturating_add(window.as_secs());
            Ok((backend.engine.keep_volume(vg, name, dry_run)?, Some(vol_api::rfc3339(until))))
        }
    }
}

pub fn delete_volume<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    now: bool,
    dry_run: bool,
) -> Change<VolumeInfo> {
    super::refs::refused(backend, path, dry_run)?;
    let was = backend.volume_info(path)?;
    let (done, kept_until) = delete(backend, &path.vg, &volume_name(path), now, dry_run).map_err(from_engine)?;
    changed(backend, &path.vg, done, || Ok(VolumeInfo { kept_until, ..was }))
}

pub fn delete_snapshot<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &SnapshotPath,
    now: bool,
    dry_run: bool,
) -> Change<SnapshotInfo> {
    let was = backend.snapshot_info(path)?;
    let (done, kept_until) =
        delete(backend, &path.volume.vg, &snapshot_name(path), now, dry_run).map_err(from_engine)?;
    changed(backend, &path.volume.vg, done, || Ok(SnapshotInfo { kept_until, ..was }))
}

/// What can be taken back, the last deletion first.
pub fn list<H: HostMut + 'static>(backend: &EngineBackend<H>, vg: Option<&Name>) -> Read<Vec<DeletedInfo>> {
    let window = backend.window().map(|window| window.as_secs());
    let mut all = Vec::new();
    for vg in backend.vgs_to_list(vg)? {
        vg.read(|catalog| {
            all.extend(
                catalog.volumes().filter_map(|one| info::deleted(catalog, one, window, backend.engine.emptied(one.id))),
            )
        });
    }
    all.sort_by(|a, b| (&b.deleted_at, &a.full_name).cmp(&(&a.deleted_at, &b.full_name)));
    Ok(all)
}

pub fn undelete_volume<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    dry_run: bool,
) -> Change<VolumeInfo> {
    let done = backend.engine.undelete_volume(&path.vg, &volume_name(path), dry_run);
    changed(backend, &path.vg, done.map_err(from_engine)?, || backend.volume_info(path))
}

pub fn undelete_snapshot<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &SnapshotPath,
    dry_run: bool,
) -> Change<SnapshotInfo> {
    let done = backend.engine.undelete_volume(&path.volume.vg, &snapshot_name(path), dry_run);
    changed(backend, &path.volume.vg, done.map_err(from_engine)?, || backend.snapshot_info(path))
}

pub fn purge_pool<H: HostMut + 'static>(backend: &EngineBackend<H>, path: &PoolPath, dry_run: bool) -> Change<Purged> {
    let count = backend.engine.purge_pool(&path.vg, &path.pool, dry_run).map_err(from_engine)?;
    if dry_run {
        let title = format!("delete for good what was deleted in pool {path} ({count} volumes and snapshots)");
        return Ok(Changed::Planned(vol_api::Plan { changes: count > 0, ..plan(&vol_core::Plan::new(title)) }));
    }
    let purged = Purged { pool: backend.pool_info(path)?, purged_count: count as u64 };
    Ok(Changed::Done(Outcome { changed: count > 0, object: Some(purged), warnings: Vec::new() }))
}
