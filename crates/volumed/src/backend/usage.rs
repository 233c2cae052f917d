//! Who takes how much of a pool, and what lies where on the disks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vol_api::{ApiError, PoolUsage, PvMap, PvSegment, SegmentUse, SnapshotUsage, VgMap, VolumeUsage};
use vol_core::{Catalog, VolumeName};
use vol_engine::host::HostMut;
use vol_engine::{PoolReading, View};
use vol_types::{Name, Pool, PoolId, PoolPath, Pv, Segment, Volume, VolumePath, VolumeState};

use super::{EngineBackend, error, info};
use crate::api::Read;

/// How old a reading of a pool may be. Each takes two commits of the pool, however many ask.
const MOST_AGE: Duration = Duration::from_secs(10);

pub fn pool<H: HostMut + 'static>(backend: &EngineBackend<H>, path: &PoolPath) -> Read<PoolUsage> {
    let vg = backend.open_vg(&path.vg)?;
    let reading = vg.pool_usage(backend.engine.host(), &path.pool, MOST_AGE).map_err(error::from_engine)?;
    let view = vg.view();
    vg.read(|catalog| {
        let pool = vol_core::plan::pool::find(catalog, Some(&path.pool)).map_err(error::from_refusal)?;
        Ok(pool_usage(catalog, &view, pool, &reading))
    })
}

pub fn volume<H: HostMut + 'static>(backend: &EngineBackend<H>, path: &VolumePath) -> Read<VolumeUsage> {
    let vg = backend.open_vg(&path.vg)?;
    let name = VolumeName { volume: path.volume.clone(), snapshot: None };
    let find = |catalog: &Catalog| -> Read<(Volume, Name)> {
        let volume = vol_engine::find_volume(catalog, &name).map_err(error::from_refusal)?;
        if volume.thick().is_some() {
            let message = format!("{path} is a thick volume: it shares nothing, and takes its size");
            return Err(ApiError::invalid(message).with_hint(format!("`volctl volume show {path}` tells where it is")));
        }
        let pool = catalog.pool_of(volume).map(|pool| pool.name.clone());
        let pool = pool.ok_or_else(|| ApiError::internal(format!("{path} is in no pool")))?;
        Ok((volume.clone(), pool))
    };
    let (_, pool) = vg.read(find)?;
    let reading = vg.pool_usage(backend.engine.host(), &pool, MOST_AGE).map_err(error::from_engine)?;
    vg.read(|catalog| Ok(volume_usage(catalog, &find(catalog)?.0, snapshots_of(catalog, reading.pool), &reading)))
}

/// The snapshots of a pool, by what they were taken of.
fn snapshots_of(catalog: &Catalog, pool: PoolId) -> BTreeMap<vol_types::VolumeId, Vec<&Volume>> {
    let mut all: BTreeMap<_, Vec<&Volume>> = BTreeMap::new();
    for volume in catalog.volumes_of(pool).filter(|volume| volume.state == VolumeState::Ready) {
        if let Some(snapshot) = &volume.snapshot {
            all.entry(snapshot.of).or_default().push(volume);
        }
    }
    all.values_mut().for_each(|snapshots| snapshots.sort_by(|a, b| a.name.cmp(&b.name)));
    all
}

/// Allocated, exclusive, shared.
fn space(volume: &Volume, reading: &PoolReading) -> (Option<u64>, Option<u64>, Option<u64>) {
    let space = volume.thin_id().and_then(|id| reading.thins.get(&id));
    let allocated = space.map(|space| space.allocated.get());
    let exclusive = space.map(|space| space.exclusive.get());
    (allocated, exclusive, allocated.zip(exclusive).map(|(all, own)| all.saturating_sub(own)))
}

fn snapshot_usage(catalog: &Catalog, snapshot: &Volume, reading: &PoolReading) -> SnapshotUsage {
    let (allocated_bytes, exclusive_bytes, shared_bytes) = space(snapshot, reading);
    SnapshotUsage {
        full_name: format!("{}/{}", catalog.vg().name, VolumeName::of(snapshot)),
        volume: snapshot.snapshot.as_ref().map_or_else(String::new, |of| of.of_name.to_string()),
        name: snapshot.name.to_string(),
        size_bytes: snapshot.size.get(),
        allocated_bytes,
        exclusive_bytes,
        shared_bytes,
    }
}

fn volume_usage(
    catalog: &Catalog,
    volume: &Volume,
    mut snapshots: BTreeMap<vol_types::VolumeId, Vec<&Volume>>,
    reading: &PoolReading,
) -> VolumeUsage {
    let (allocated_bytes, exclusive_bytes, shared_bytes) = space(volume, reading);
    let family = allocated_bytes.and_then(|_| reading.families.get(&volume.id));
    let own = snapshots.remove(&volume.id).unwrap_or_default();
    VolumeUsage {
        vg: catalog.vg().name.to_string(),
        volume: volume.name.to_string(),
        pool: catalog.pool_of(volume).map_or_else(String::new, |pool| pool.name.to_string()),
        read_at: vol_api::rfc3339(reading.read_at),
        size_bytes: volume.size.get(),
        allocated_bytes,
        exclusive_bytes,
        shared_bytes,
        reclaimable_bytes: family.map(|family| family.snapshots.get()),
        with_snapshots_bytes: family.map(|family| family.whole.get()),
        snapshots: own.into_iter().map(|snapshot| snapshot_usage(catalog, snapshot, reading)).collect(),
    }
}

fn pool_usage(catalog: &Catalog, view: &View, pool: &Pool, reading: &PoolReading) -> PoolUsage {
    let known = info::pool(catalog, view, pool);
    let mut snapshots = snapshots_of(catalog, pool.id);
    let mut volumes: Vec<&Volume> = catalog
        .volumes_of(pool.id)
        .filter(|volume| volume.snapshot.is_none() && volume.state == VolumeState::Ready)
        .collect();
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let volumes = volumes
        .into_iter()
        .map(|volume| {
            let own = snapshots.remove_entry(&volume.id).into_iter().collect();
            volume_usage(catalog, volume, own, reading)
        })
        .collect();
    let exclusive: u64 = reading.thins.values().map(|space| space.exclusive.get()).sum();
    // What was made while it was read is none.
    let ours: BTreeSet<u32> = catalog.volumes_of(pool.id).filter_map(Volume::thin_id).collect();
    let strays = reading.thins.iter().filter(|(id, _)| reading.strays.contains(id) && !ours.contains(id));
    let mut orphans: Vec<_> =
        snapshots.values().flatten().map(|snapshot| snapshot_usage(catalog, snapshot, reading)).collect();
    orphans.sort_by(|a, b| a.full_name.cmp(&b.full_name));
    PoolUsage {
        vg: known.vg,
        pool: known.name,
        read_at: vol_api::rfc3339(reading.read_at),
        chunk_size_bytes: known.chunk_size_bytes,
        size_bytes: known.size_bytes,
        virtual_bytes: known.virtual_bytes,
        allocated_bytes: reading.allocated.get(),
        exclusive_bytes: exclusive,
        shared_bytes: reading.allocated.get().saturating_sub(exclusive),
        reclaimable_bytes: reading.families.values().map(|family| family.snapshots.get()).sum(),
        deleted_bytes: reading.deleted.get(),
        strays_bytes: strays.map(|(_, space)| space.exclusive.get()).sum(),
        metadata_size_bytes: known.metadata_size_bytes,
        metadata_used_bytes: known.metadata_used_bytes,
        volumes,
        snapshots: orphans,
    }
}

pub fn map<H: HostMut + 'static>(backend: &EngineBackend<H>, vg: &Name) -> Read<VgMap> {
    let vg = backend.open_vg(vg)?;
    let view = vg.view();
    let mut map = vg.read(|catalog| VgMap {
        vg: catalog.vg().name.to_string(),
        extent_size_bytes: catalog.vg().extent_size.get(),
        pvs: catalog.pvs().map(|pv| pv_map(catalog, &view, pv)).collect(),
    });
    // Those that are missing come last.
    map.pvs.sort_by(|a, b| (a.path.is_none(), &a.path, &a.id).cmp(&(b.path.is_none(), &b.path, &b.id)));
    Ok(map)
}

/// The segments of pools on a PV, in order.
fn taken(catalog: &Catalog, pv: &Pv) -> Vec<PvSegment> {
    let mut all: Vec<PvSegment> = Vec::new();
    for pool in catalog.pools() {
        for (segments, usage) in [(&pool.data, SegmentUse::Data), (&pool.metadata, SegmentUse::Metadata)] {
            let mut offset = 0;
            for Segment { pv: on, start, count } in segments {
                if *on == pv.id {
                    all.push(PvSegment {
                        start_extent: start.get(),
                        extent_count: count.get(),
                        usage,
                        pool: Some(pool.name.to_string()),
                        pool_offset_bytes: Some(offset),
                        volume: None,
                    });
                }
                offset += catalog.bytes(*count).get();
            }
        }
    }
    for volume in catalog.thick_volumes() {
        let of = || match volume.state.has_name() {
            true => volume.name.to_string(),
            false => format!("{} (deleted)", volume.name),
        };
        for Segment { start, count, .. } in
            volume.thick().into_iter().flat_map(|thick| &thick.segments).filter(|segment| segment.pv == pv.id)
        {
            all.push(PvSegment {
                start_extent: start.get(),
                extent_count: count.get(),
                usage: SegmentUse::Thick,
                volume: Some(of()),
                ..PvSegment::default()
            });
        }
    }
    all.sort_by_key(|segment| segment.start_extent);
    all
}

fn pv_map(catalog: &Catalog, view: &View, pv: &Pv) -> PvMap {
    let mut segments: Vec<PvSegment> = Vec::new();
    let mut next = 0;
    let free = |from: u64, to: u64| PvSegment { start_extent: from, extent_count: to - from, ..PvSegment::default() };
    for segment in taken(catalog, pv) {
        if segment.start_extent > next {
            segments.push(free(next, segment.start_extent));
        }
        next = segment.start_extent + segment.extent_count;
        match segments.last_mut() {
            Some(last) if goes_on(catalog, last, &segment) => last.extent_count += segment.extent_count,
            _ => segments.push(segment),
        }
    }
    if pv.extents.get() > next {
        segments.push(free(next, pv.extents.get()));
    }
    PvMap {
        id: pv.id.to_string(),
        path: view.nodes.iter().find(|(id, _)| *id == pv.id).map(|(_, node)| node.display().to_string()),
        extent_count: pv.extents.get(),
        free_extents: catalog.free_extents(pv.id).get(),
        segments,
    }
}

/// Whether the pool goes on in `next` where it leaves off in `last`.
fn goes_on(catalog: &Catalog, last: &PvSegment, next: &PvSegment) -> bool {
    let size = catalog.bytes(vol_types::Extents(last.extent_count)).get();
    (last.usage, &last.pool, &last.volume) == (next.usage, &next.pool, &next.volume)
        && last.start_extent + last.extent_count == next.start_extent
        && last.pool_offset_bytes.map(|offset| offset + size) == next.pool_offset_bytes
}
