//! How large the largest volume is that could be made.

use vol_api::{Health, PoolInfo};
use vol_types::Reserve;

/// The largest volume that could be made in a pool: within what it may promise, and nothing if it makes none at all. What is set aside
/// for it has to be free now, as the planner wants it (`vol_core::plan::reserve::fits`).
pub fn promised(pool: &PoolInfo, reserve: Reserve) -> u64 {
    let limit = u128::from(pool.size_bytes) * u128::from(pool.overcommit_limit_percent) / 100;
    let left = u64::try_from(limit.saturating_sub(u128::from(pool.virtual_bytes))).unwrap_or(u64::MAX);
    let free = pool.used_bytes.map_or(u64::MAX, |used| pool.size_bytes.saturating_sub(used));
    let reach = free.saturating_add(pool.growable_bytes);
    let kept = u128::from(pool.size_bytes) * u128::from(pool.reserve_percent) / 100 + u128::from(pool.set_aside_bytes);
    // As the planner refuses, see `vol_core::plan::pool::has_room`.
    let metadata =
        pool.metadata_used_bytes.is_some_and(|used| u128::from(used) * 10 >= u128::from(pool.metadata_size_bytes) * 9);
    if u128::from(reach) <= kept || free == 0 || metadata || pool.in_repair || pool.health == Health::Failed {
        return 0;
    }
    let apart = u64::try_from(kept).map_or(0, |kept| free.saturating_sub(kept));
    let largest = match reserve {
        Reserve::None => left,
        Reserve::Full => left.min(apart),
        Reserve::Bytes(bytes) if bytes.get() > apart => 0,
        Reserve::Bytes(_) => left,
    };
    largest / pool.chunk_size_bytes.max(1) * pool.chunk_size_bytes
}

/// The most extents that are given to a thick volume: as many as the largest metadata of a pool are left alone (ADR 0013).
pub fn without_spare(free: u64, available: u64, metadata: impl Iterator<Item = u64>, extent: u64) -> u64 {
    let spare = metadata.map(|bytes| bytes.div_ceil(extent.max(1))).max().unwrap_or(0);
    available.min(free.saturating_sub(spare))
}

/// How many stripes there are, and the most extents that they could have together, each on a disk of its own; free extents by disk.
pub fn striped(free: &mut [u64], stripes: u16) -> (u64, u64) {
    let stripes = u64::from(stripes.max(1));
    if stripes == 1 {
        return (1, free.iter().fold(0, |all, one| all.saturating_add(*one)));
    }
    free.sort_unstable_by(|a, b| b.cmp(a));
    let least = usize::try_from(stripes).ok().and_then(|stripes| free.get(stripes.saturating_sub(1)));
    (stripes, least.copied().unwrap_or(0).saturating_mul(stripes))
}
