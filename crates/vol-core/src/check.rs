//! A second opinion: judges any catalog, however it came about, against the invariants. It does not use the planner.
//!
//! - CAT-1 Segments lie within their PV, and no extent belongs to two devices.
//! - CAT-2 Pool names are unique, volume names are unique, and no volume is named like a pool.
//! - CAT-3 Every volume's pool exists; its thin id is below the pool's `next_thin_id` and used by no other volume.
//! - CAT-4 Every intent's pool exists, and starts at the pool's transaction id.
//! - CAT-5 A pool's chunk size is a multiple of 64 KiB between 64 KiB and 1 GiB, and its volumes' sizes are multiples of it.
//! - CAT-6 Only a snapshot, a clone, or a volume that is ready or being deleted counts as formatted.
//! - CAT-7 The VG's extent size is a power of two in its bounds, its sector size 512 or 4096.
//! - CAT-8 A VG that is being made or deleted has no pools and no thick volumes.
//! - CAT-9 A volume's reserve is not above its size, and a snapshot has none; a pool's reserve is at most 90 percent.
//! - CAT-10 A volume has a time of deletion if it is deleted and kept, and only then.
//! - CAT-11 A thick volume consists of whole rows of stripes of equal length on different PVs, has no more bytes than they, and is
//!   filled as far as its size unless it is just being made or taken apart.
//! - CAT-12 Only a pool that is ready is checked or repaired.

use std::collections::{BTreeMap, BTreeSet};

use vol_types::{Backing, Bytes, Content, Extents, Name, PoolState, Segment, Thick, Volume, VolumeState, limit};

use crate::catalog::{Catalog, VolumeName};

/// The invariants that do not hold, in words that begin with their number; empty if all is well.
pub fn violations(catalog: &Catalog) -> Vec<String> {
    let mut found = Vec::new();
    segments(catalog, &mut found);
    names(catalog, &mut found);
    thin(catalog, &mut found);
    vg(catalog, &mut found);
    found
}

fn segments(catalog: &Catalog, found: &mut Vec<String>) {
    let mut by_pv: BTreeMap<_, Vec<Segment>> = BTreeMap::new();
    for segment in catalog.segments() {
        by_pv.entry(segment.pv).or_default().push(*segment);
    }
    for (id, mut segments) in by_pv {
        let Some(pv) = catalog.pv(id) else {
            found.push(format!("CAT-1: extents on PV {id}, which is not in the VG"));
            continue;
        };
        segments.sort_by_key(|segment| segment.start);
        let mut free_from = Extents::ZERO;
        for segment in segments {
            if segment.start < free_from {
                found.push(format!("CAT-1: extent {} of PV {id} is used twice", segment.start));
            }
            match segment.start.checked_add(segment.count) {
                Some(end) if end <= pv.extents && !segment.count.is_zero() => free_from = free_from.max(end),
                _ => found.push(format!("CAT-1: a segment of PV {id} at {} is outside of it", segment.start)),
            }
        }
    }
}

fn names(catalog: &Catalog, found: &mut Vec<String>) {
    // Sorted, equal ones stand beside each other: a set of a hundred thousand names would be a second index of them.
    let mut pools: Vec<&Name> = catalog.pools().map(|pool| &pool.name).collect();
    pools.sort();
    for two in pools.windows(2) {
        if let [one, other] = two
            && one == other
        {
            found.push(format!("CAT-2: two pools are named {other}"));
        }
    }
    let of_volumes = catalog.volumes().filter(|volume| volume.state.has_name()).map(VolumeName::halves);
    let mut names: Vec<_> = of_volumes.map(|name| (name.0.beginning(), name)).collect();
    names.sort_unstable();
    for two in names.windows(2) {
        if let [(_, one), (_, other)] = two
            && one == other
        {
            used_twice(*other, found);
        }
    }
    for (_, name) in
        names.iter().filter(|(_, (volume, snapshot))| snapshot.is_none() && pools.binary_search(volume).is_ok())
    {
        used_twice(*name, found);
    }
}

fn used_twice((volume, snapshot): (&Name, Option<&Name>), found: &mut Vec<String>) {
    let name = VolumeName { volume: volume.clone(), snapshot: snapshot.cloned() };
    found.push(format!("CAT-2: the name {name} is used twice"));
}

fn thin(catalog: &Catalog, found: &mut Vec<String>) {
    let mut ids = Vec::with_capacity(catalog.volumes().size_hint().0);
    for volume in catalog.volumes() {
        let name = Named(volume);
        match &volume.backing {
            Backing::Thick(thick) => self::thick(catalog, volume, thick, found),
            Backing::Thin { pool, thin_id } => {
                let Some(pool) = catalog.pool(*pool) else {
                    found.push(format!("CAT-3: the pool of {name} is not in the VG"));
                    continue;
                };
                if *thin_id >= pool.next_thin_id {
                    found.push(format!("CAT-3: thin id {thin_id} of {name} was never handed out"));
                }
                ids.push((pool.id, *thin_id, name));
                if volume.size.is_zero() || !volume.size.get().is_multiple_of(pool.chunk_size.get().max(1)) {
                    found.push(format!("CAT-5: the size of {name} is not a multiple of its pool's chunk size"));
                }
            }
        }
        if volume.reserve > volume.size || (volume.snapshot.is_some() && !volume.reserve.is_zero()) {
            found.push(format!("CAT-9: {name} has a reserve of {} bytes", volume.reserve.get()));
        }
        if (volume.state == VolumeState::Deleted) != volume.deleted_at.is_some() {
            found.push(format!("CAT-10: {name} is {:?}, and was deleted at {:?}", volume.state, volume.deleted_at));
        }
        let formatted = matches!(volume.content, Content::Formatted { .. });
        let copied = volume.snapshot.is_some() || volume.clone_of.is_some();
        if formatted && !copied && volume.state == VolumeState::Creating {
            found.push(format!("CAT-6: {name} is formatted but still being created"));
        }
    }
    // As with the names; in the order of the volumes where they are equal.
    ids.sort_by_key(|(pool, thin_id, _)| (*pool, *thin_id));
    for two in ids.windows(2) {
        if let [(pool, thin_id, _), (other, the_same, name)] = two
            && (pool, thin_id) == (other, the_same)
        {
            found.push(format!("CAT-3: thin id {thin_id} of {name} has two volumes"));
        }
    }
    for intent in catalog.intents() {
        match catalog.pool(intent.pool) {
            Some(pool) if pool.transaction_id == intent.from => {}
            Some(pool) => found.push(format!(
                "CAT-4: intent {} starts at transaction {}, its pool is at {}",
                intent.id, intent.from, pool.transaction_id
            )),
            None => found.push(format!("CAT-4: the pool of intent {} is not in the VG", intent.id)),
        }
    }
    for pool in catalog.pools() {
        if pool.reserve_percent > limit::POOL_RESERVE_PERCENT_MAX {
            found.push(format!("CAT-9: pool {} reserves {} percent", pool.name, pool.reserve_percent));
        }
        if pool.repair.is_some() && pool.state != PoolState::Ready {
            found.push(format!("CAT-12: pool {} is {:?}, and is repaired", pool.name, pool.state));
        }
        let chunk = pool.chunk_size;
        let in_bounds = (limit::CHUNK_SIZE_MIN..=limit::CHUNK_SIZE_MAX).contains(&chunk);
        if !in_bounds || !chunk.get().is_multiple_of(limit::CHUNK_SIZE_MIN.get()) {
            found.push(format!("CAT-5: pool {} has a chunk size of {} bytes", pool.name, chunk.get()));
        }
    }
}

/// A volume's name where one is to be told: it is put together only then.
#[derive(Clone, Copy)]
struct Named<'a>(&'a Volume);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        VolumeName::of(self.0).fmt(f)
    }
}

fn thick(catalog: &Catalog, volume: &Volume, thick: &Thick, found: &mut Vec<String>) {
    let name = Named(volume);
    let extent = catalog.vg().extent_size;
    let mut wrong = |what: &str| found.push(format!("CAT-11: the thick volume {name} {what}"));
    let rows = thick.segments.chunks(usize::from(thick.stripes).max(1));
    if thick.stripes == 0 || !thick.segments.len().is_multiple_of(usize::from(thick.stripes).max(1)) {
        wrong("has a row with a stripe missing");
    }
    for row in rows {
        if row.iter().any(|segment| Some(segment.count) != row.first().map(|first| first.count)) {
            wrong("has stripes of unequal length in one row");
        }
        let pvs: BTreeSet<_> = row.iter().map(|segment| segment.pv).collect();
        if pvs.len() != row.len() {
            wrong("has two stripes on one PV");
        }
    }
    let stripe = thick.stripe_size;
    let good_stripe = stripe.get().is_power_of_two() && (limit::STRIPE_SIZE_MIN..=extent).contains(&stripe);
    if (thick.stripes > 1 && !good_stripe) || (thick.stripes == 1 && !stripe.is_zero()) {
        wrong(&format!("has stripes of {} bytes", stripe.get()));
    }
    let capacity = thick.capacity(extent);
    if volume.size.is_zero() || volume.size > capacity || thick.filled > capacity {
        wrong(&format!("has {} bytes, {} filled, in {capacity}", volume.size.get(), thick.filled.get()));
    }
    // A volume that anybody can have has nothing in it that was somebody else's.
    if matches!(volume.state, VolumeState::Ready | VolumeState::Deleted) && thick.filled < volume.size {
        wrong(&format!("is {:?} with {} of {} bytes filled", volume.state, thick.filled.get(), volume.size.get()));
    }
    if volume.snapshot.is_some() {
        wrong("is a snapshot");
    }
    if thick.wanted.is_some() && volume.state != VolumeState::Creating {
        wrong("waits for a file system, and is not just being made");
    }
}

fn vg(catalog: &Catalog, found: &mut Vec<String>) {
    let vg = catalog.vg();
    let in_bounds = (limit::EXTENT_SIZE_MIN..=limit::EXTENT_SIZE_MAX).contains(&vg.extent_size);
    if !in_bounds || !vg.extent_size.get().is_power_of_two() {
        found.push(format!("CAT-7: the extent size is {} bytes", vg.extent_size.get()));
    }
    if !matches!(vg.sector_size, 512 | 4096) {
        found.push(format!("CAT-7: the sector size is {} bytes", vg.sector_size));
    }
    if !vg.state.is_whole() && !catalog.is_empty() {
        found.push("CAT-8: the VG is being made or deleted, and has pools or thick volumes".to_owned());
    }
    if catalog.bytes(catalog.extents()) == Bytes(u64::MAX) {
        found.push("CAT-7: the VG has more than 2^64 bytes".to_owned());
    }
}

#[cfg(test)]
mod tests;
