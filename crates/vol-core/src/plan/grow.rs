//! Pools that grow, and the policies about their space.
//!
//! Growing: the new segments are recorded first, then the tables of the layers below are loaded with them, then that of the pool,
//! at which the kernel takes the new sizes (`dm-thin.c`, `maybe_resize_data_dev`, `maybe_resize_metadata_dev`). So extents
//! that a table may use are never anybody else's; a record that is ahead of the tables is caught up with by recovery.

use vol_types::{
    Bytes, Change, Extents, GrowSpec, Growth, Name, Object, Placement, Pool, PoolId, PoolState, PvId, WhenFull, defect,
    limit,
};

use crate::allocate::{FreeSpace, placement};
use crate::catalog::Catalog;
use crate::dm::{self, Device};
use crate::fill::{Fill, Trend};
use crate::observed::{PoolMode, PoolStatus, PoolUsage};
use crate::plan::{Kernel, Plan, health, pool, reserve};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, Requirement, Step};

/// What is to happen as a pool fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpacePolicy {
    pub growth: Growth,
    pub when_full: WhenFull,
    /// See [`Pool::reserve_percent`].
    pub reserve_percent: u32,
}

impl Default for SpacePolicy {
    fn default() -> Self {
        Self {
            growth: Growth::default(),
            when_full: WhenFull::default(),
            reserve_percent: limit::POOL_RESERVE_PERCENT_DEFAULT,
        }
    }
}

impl SpacePolicy {
    /// Refuses a reserve that leaves nothing to use.
    pub fn in_bounds(&self) -> Result<(), Refusal> {
        if self.reserve_percent <= limit::POOL_RESERVE_PERCENT_MAX {
            return Ok(());
        }
        Err(Refusal::invalid(format!(
            "a reserve is between 0 and {} percent of the pool, not {}",
            limit::POOL_RESERVE_PERCENT_MAX,
            self.reserve_percent
        )))
    }

    /// Refuses a bound that the pool called `path` has left behind already.
    pub fn not_below(&self, data: Bytes, path: &str) -> Result<(), Refusal> {
        match self.growth {
            Growth::UpTo(bound) if bound < data => {
                Err(Refusal::invalid(format!("pool {path} cannot grow up to {bound}: it has {data}"))
                    .hint("a pool never shrinks; turn its growth off, or name a bound that is not below its size"))
            }
            _ => Ok(()),
        }
    }
}

/// Most segments of a pool: its record, which is written with every change of its volumes, must stay small.
const SEGMENTS_MAX: usize = 4096;

/// Size of a block of a pool's metadata (`dm-thin-metadata.h`, `THIN_METADATA_BLOCK_SIZE`).
pub const METADATA_BLOCK: u64 = 4096;

/// Blocks of metadata that the kernel uses of a device of this size.
const fn metadata_blocks(size: Bytes) -> u64 {
    let most = limit::POOL_METADATA_MAX.get();
    let size = size.get();
    (if size < most { size } else { most }) / METADATA_BLOCK
}

/// Chunks of data that the record of a pool stands for.
fn data_chunks(catalog: &Catalog, pool: &Pool) -> u64 {
    catalog.pool_data_size(pool).get() / pool.chunk_size.get().max(1)
}

/// `pool extend`.
#[derive(Clone, Debug)]
pub struct ExtendPool {
    pub name: Name,
    pub data: Option<GrowSpec>,
    /// `None`: as much as the data then need.
    pub metadata: Option<GrowSpec>,
    /// Where this growth is to lie; `None`: where the pool's record says.
    pub placement: Option<Placement>,
    /// Right behind what the pool has.
    pub contiguous: bool,
}

/// `pool set`: what is `None` stays.
#[derive(Clone, Debug)]
pub struct SetPool {
    pub name: Name,
    pub growth: Option<Growth>,
    pub when_full: Option<WhenFull>,
    pub reserve_percent: Option<u32>,
    pub overcommit_percent: Option<u32>,
    /// Where it grows from then on; anywhere if it names nothing. What it has stays where it is.
    pub placement: Option<Placement>,
}

impl SetPool {
    /// With everything as it is.
    pub const fn of(name: Name) -> Self {
        Self { name, growth: None, when_full: None, reserve_percent: None, overcommit_percent: None, placement: None }
    }
}

/// Whether the kernel's metadata are full, so that it says `ro` until they have grown.
const fn out_of_metadata(usage: &PoolUsage) -> bool {
    matches!(usage.mode, PoolMode::ReadOnly) && usage.used_metadata >= usage.total_metadata && !usage.needs_check
}

/// Refuses to grow a pool that the kernel would not let grow, or that may be another than our record says. That its metadata
/// are full is no reason: growing is the way out.
fn may_grow(catalog: &Catalog, kernel: &Kernel, missing: &[PvId], pool: &Pool) -> Result<(), Refusal> {
    let path = format!("{}/{}", catalog.vg().name, pool.name);
    let degraded = |message: String, hint: String| Err(Refusal::new(RefusalCode::Degraded, message).hint(hint));
    if pool.state != PoolState::Ready {
        return Err(Refusal::busy(format!("pool {path} is just being made or deleted")).hint("try again in a moment"));
    }
    if pool.repair.is_some() {
        return Err(Refusal::busy(format!("pool {path} is down while its metadata are checked or repaired"))
            .hint("try again when that is done"));
    }
    match kernel.pools.get(&pool.id) {
        // It is down, and has the new size when it comes up.
        None => return Ok(()),
        Some(_) if pool.data.iter().chain(&pool.metadata).any(|segment| missing.contains(&segment.pv)) => {
            return degraded(
                format!("a disk of pool {path} is missing: its tables cannot be changed"),
                "attach the disk again: it is taken up by itself; if not, run `volctl pv scan`".to_owned(),
            );
        }
        Some(PoolStatus::Working(usage)) if usage.needs_check => {
            return degraded(
                format!("pool {path} cannot grow: its metadata need a check after a failed commit"),
                format!(
                    "the kernel changes nothing of it until they are checked: unmount its volumes and run \
                     `volctl pool repair {path}`"
                ),
            );
        }
        Some(PoolStatus::Working(usage)) if out_of_metadata(usage) => return Ok(()),
        Some(PoolStatus::Working(_) | PoolStatus::Fail | PoolStatus::Error) => {}
    }
    let in_transaction = catalog.intents_of(pool.id).next().is_some();
    match health::of_pool(pool, kernel.pools.get(&pool.id), in_transaction) {
        health::PoolHealth::Ok => Ok(()),
        health::PoolHealth::Bad { message, hint } => degraded(message, hint),
    }
}

/// Extents that `spec` adds to something of `now` extents, or that it has as much already.
fn wanted(catalog: &Catalog, spec: GrowSpec, now: Extents, free: Extents, what: &str) -> Result<Extents, Refusal> {
    let extent = catalog.vg().extent_size;
    let whole = |bytes: Bytes| {
        let rounded =
            bytes.round_up(extent).ok_or_else(|| Refusal::no_space(format!("{bytes} is more than any disk has")))?;
        Ok(Extents(rounded.get() / extent.get()))
    };
    match spec {
        GrowSpec::By(bytes) => whole(bytes),
        GrowSpec::To(bytes) => {
            let size = catalog.bytes(now);
            let to = whole(bytes)?;
            to.checked_sub(now).ok_or_else(|| {
                Refusal::invalid(format!("{what} has {size}, which is more than {bytes}: a pool never shrinks"))
                    .hint(format!("name a larger size, or how much to add: +{bytes}"))
            })
        }
        GrowSpec::PercentFree(percent) => {
            let share = u128::from(free.get()) * u128::from(percent) / 100;
            Ok(Extents(u64::try_from(share).unwrap_or(free.get())))
        }
    }
}

/// `pool extend`.
pub fn extend(catalog: &Catalog, kernel: &Kernel, missing: &[PvId], request: &ExtendPool) -> Result<Plan, Refusal> {
    let pool = pool::find(catalog, Some(&request.name))?;
    let path = format!("{}/{}", catalog.vg().name, pool.name);
    if request.data.is_none() && request.metadata.is_none() {
        return Err(Refusal::invalid(format!("by how much pool {path} is to grow is not said"))
            .hint("say it with --size, for example --size +10G, or --metadata +256M"));
    }
    may_grow(catalog, kernel, missing, pool)?;
    let placement = request.placement.as_ref().unwrap_or(&*pool.placement);
    placement::check(catalog, missing, placement)?;
    let free = FreeSpace::within(catalog, missing, placement);
    let (data_now, metadata_now) = (dm::extents_of(&pool.data), dm::extents_of(&pool.metadata));
    // The spare may lie on any disk that is there.
    let whole = FreeSpace::of(catalog, |pv| !missing.contains(&pv)).total();
    let spare_with =
        |metadata: Extents| spare(catalog).max(metadata_now.checked_add(metadata).unwrap_or(Extents(u64::MAX)));
    let mut data = match request.data {
        Some(spec) => wanted(catalog, spec, data_now, free.total(), &format!("pool {path}"))?,
        None => Extents::ZERO,
    };
    let metadata = match request.metadata {
        Some(spec) => wanted(catalog, spec, metadata_now, free.total(), &format!("the metadata of pool {path}"))?,
        None => metadata_for(catalog, pool, data),
    };
    if matches!(request.data, Some(GrowSpec::PercentFree(_))) {
        // The share is of all that is free, and the metadata are part of it; as when a pool is made.
        if request.metadata.is_none() {
            data = data.saturating_sub(metadata);
        }
        data = data.min(free.total().min(whole.saturating_sub(spare_with(metadata))).saturating_sub(metadata));
        if data.is_zero() {
            return Err(no_space(catalog, pool, missing, placement, Extents(1), metadata));
        }
    }
    let all = data.checked_add(metadata).unwrap_or(Extents(u64::MAX));
    let with_spare = all.checked_add(spare_with(metadata)).unwrap_or(Extents(u64::MAX));
    if !data.is_zero() && all <= free.total() && with_spare > whole {
        return Err(keeps_spare(
            catalog,
            &format!("pool {path} was to grow by {}", catalog.bytes(all)),
            spare_with(metadata),
            whole,
        ));
    }
    grown(catalog, kernel, missing, pool, (data, metadata), (placement, request.contiguous))
}

/// The refusal of what would take the extents that are left for a repair.
pub fn keeps_spare(catalog: &Catalog, what: &str, spare: Extents, free: Extents) -> Refusal {
    let vg = &catalog.vg().name;
    Refusal::no_space(format!(
        "{what}, but volume group {vg} has {} free, of which {} are kept for the metadata of its pools to be repaired onto",
        catalog.bytes(free),
        catalog.bytes(spare)
    ))
    .hint(format!(
        "ask for at most {}; or add a disk: `volctl vg extend {vg} DISK`",
        catalog.bytes(free.saturating_sub(spare))
    ))
}

/// Metadata extents that a pool lacks when it has `more` extents of data.
fn metadata_for(catalog: &Catalog, pool: &Pool, more: Extents) -> Extents {
    if more.is_zero() {
        return Extents::ZERO;
    }
    let after = dm::extents_of(&pool.data).checked_add(more).unwrap_or(Extents(u64::MAX));
    pool::metadata_extents(catalog.bytes(after), pool.chunk_size, catalog.vg().extent_size)
        .saturating_sub(dm::extents_of(&pool.metadata))
}

fn no_space(
    catalog: &Catalog,
    pool: &Pool,
    missing: &[PvId],
    placement: &Placement,
    data: Extents,
    metadata: Extents,
) -> Refusal {
    let vg = &catalog.vg().name;
    let free = FreeSpace::within(catalog, missing, placement).total();
    let mut there = match placement::where_in_words(catalog, placement) {
        on if on.is_empty() => on,
        on => format!(" {on}"),
    };
    if !missing.is_empty() {
        there.push_str(" on the disks that are there");
    }
    Refusal::no_space(format!(
        "pool {vg}/{} was to grow by {} of data and {} of metadata, but volume group {vg} has {} free{there}",
        pool.name,
        catalog.bytes(data),
        catalog.bytes(metadata),
        catalog.bytes(free)
    ))
    .hint(format!("add a disk: `volctl vg extend {vg} DISK`; `volctl df` shows what uses the space"))
}

/// The plan that gives a pool so many more extents; empty for none.
fn grown(
    catalog: &Catalog,
    kernel: &Kernel,
    missing: &[PvId],
    pool: &Pool,
    (data, metadata): (Extents, Extents),
    (placement, contiguous): (&Placement, bool),
) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, pool.name);
    let free = FreeSpace::within(catalog, missing, placement);
    let all = data.checked_add(metadata).unwrap_or(Extents(u64::MAX));
    if all.is_zero() {
        return Ok(Plan::default());
    }
    let total = free.total();
    if all > total {
        return Err(no_space(catalog, pool, missing, placement, data, metadata));
    }
    let most = Extents(limit::POOL_METADATA_MAX.get().div_ceil(catalog.vg().extent_size.get()));
    let metadata_after = dm::extents_of(&pool.metadata).checked_add(metadata).unwrap_or(Extents(u64::MAX));
    if !metadata.is_zero() && metadata_after > most {
        return Err(Refusal::invalid(format!(
            "the metadata of pool {path} would have {}; the kernel uses {} at most",
            catalog.bytes(metadata_after),
            limit::POOL_METADATA_MAX
        )));
    }
    let (metadata_segments, data_segments) = placement::place_pool(
        catalog,
        &free,
        placement,
        &path,
        (&pool.metadata, metadata),
        (&pool.data, data),
        contiguous,
    )?;
    if metadata_segments.len() + data_segments.len() > SEGMENTS_MAX {
        return Err(Refusal::no_space(format!(
            "pool {path} would lie in more than {SEGMENTS_MAX} pieces: the free space is too scattered"
        ))
        .hint("add a disk, on which there is a larger piece"));
    }
    let after = Pool { data: data_segments, metadata: metadata_segments, ..pool.clone() };
    let mut plan = Plan::new(format!(
        "extend pool {path} to {} of data and {} of metadata",
        catalog.pool_data_size(&after),
        catalog.pool_metadata_size(&after)
    ));
    plan.commit(vec![Change::Put(Object::Pool(after.clone()))]);
    reload(catalog, kernel, &after, &mut plan)?;
    Ok(plan)
}

/// Appends the steps that make the tables of an active pool those of its record, the layers below first. Of one that is down
/// nothing is appended.
pub fn reload(catalog: &Catalog, kernel: &Kernel, pool: &Pool, plan: &mut Plan) -> Result<(), Refusal> {
    let Some(PoolStatus::Working(usage)) = kernel.pools.get(&pool.id) else { return Ok(()) };
    let tables = pool::tables(catalog, pool)?;
    let (chunks, blocks) = (data_chunks(catalog, pool), metadata_blocks(catalog.pool_metadata_size(pool)));
    let mut load = |device: Device, table| {
        plan.steps.push(Step::new(Action::ReloadDm { device, table }).requires(Requirement::Active(device)));
    };
    if usage.total_metadata < blocks {
        load(Device::PoolMetadata(pool.id), tables.metadata);
    }
    if usage.total_data < chunks {
        load(Device::PoolData(pool.id), tables.data);
    }
    load(Device::Pool(pool.id), tables.pool);
    plan.push(Action::CheckPoolSize { pool: pool.id, data_chunks: chunks, metadata_blocks: blocks });
    plan.push(Action::CheckPool { pool: pool.id, transaction_id: usage.transaction_id });
    Ok(())
}

/// Whether the kernel's tables of a pool lack what its record says: space, or what becomes of writes when it is full.
pub fn is_behind(catalog: &Catalog, pool: &Pool, status: Option<&PoolStatus>) -> bool {
    let Some(PoolStatus::Working(usage)) = status else { return false };
    if pool.state != PoolState::Ready || pool.repair.is_some() || usage.needs_check {
        return false;
    }
    let short = usage.total_data < data_chunks(catalog, pool)
        || usage.total_metadata < metadata_blocks(catalog.pool_metadata_size(pool));
    // A pool that is out of space fails writes when they have waited long enough, whatever its table says.
    let other = usage.mode == PoolMode::ReadWrite && usage.error_when_full != (pool.when_full == WhenFull::Error);
    // What the kernel holds read-only takes no new size, unless that is for want of metadata.
    (usage.mode != PoolMode::ReadOnly || out_of_metadata(usage)) && (short || other)
}

/// How much a pool's data may still grow by themselves: by what is free in the VG now, for this pool and for others, up to its
/// bound. The free extents of disks that are missing count: they come back with them.
pub fn room(catalog: &Catalog, pool: &Pool) -> Bytes {
    catalog.bytes(room_in(catalog, pool, free_for(catalog, pool)))
}

/// What is free where a pool may lie, on disks that are missing too.
fn free_for(catalog: &Catalog, pool: &Pool) -> Extents {
    if pool.placement.is_anywhere() {
        return catalog.free_extents_total();
    }
    FreeSpace::within(catalog, &[], &pool.placement).total()
}

/// Extents that are left free in a VG: as many as the largest metadata of a pool, for these to be repaired onto (ADR 0013). Nothing
/// but metadata takes them.
pub fn spare(catalog: &Catalog) -> Extents {
    catalog.pools().map(|pool| dm::extents_of(&pool.metadata)).max().unwrap_or(Extents::ZERO)
}

/// As [`room`], of so many free extents. As many as the largest metadata of a pool are left alone: for the metadata to grow
/// into, and to repair them onto.
fn room_in(catalog: &Catalog, pool: &Pool, free: Extents) -> Extents {
    let spare = if defect("a pool grows into the spare") { Extents::ZERO } else { spare(catalog) };
    let free = free.saturating_sub(spare);
    match pool.growth {
        Growth::Off => Extents::ZERO,
        Growth::VgSpace => free,
        Growth::UpTo(bound) => {
            // In whole extents: the last part of one is not given.
            let bound = Extents(bound.get() / catalog.vg().extent_size.get());
            free.min(bound.saturating_sub(dm::extents_of(&pool.data)))
        }
    }
}

/// A pool that may grow has at least this share of its data free, and more while it is small or fills fast.
const FREE_SHARE: u64 = pool::LOW_WATER_SHARE;
/// What is large enough to be free for a while, however large the pool is.
const FREE_ENOUGH: u64 = Bytes::GIB;
/// Percent of its metadata in use from which a pool is given more.
const METADATA_PERCENT: u64 = 70;

/// Below so much free data a pool grows: a thirty-second of it, a fifth of a small one, and what may be written soon
/// ([`crate::fill::History::ahead`]). Never more than all of it.
pub fn wanted_free(size: Bytes, ahead: Bytes) -> Bytes {
    let size = size.get();
    let ahead = ahead.get().min(size);
    Bytes((size / FREE_SHARE).max((size / 5).min(FREE_ENOUGH)).max(ahead))
}

/// What a pool is to grow by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub data: Extents,
    pub metadata: Extents,
    /// It should grow, and its bound would let it, but the VG has no space for that.
    pub unmet: bool,
}

impl Demand {
    pub const fn is_none(&self) -> bool {
        self.data.is_zero() && self.metadata.is_zero()
    }
}

/// What a pool is to grow by, ahead of demand: so much that what is free is as wanted, and a tenth of its size, at most to twice its
/// size at once. `ahead` is what may be written soon.
pub fn demand(catalog: &Catalog, missing: &[PvId], pool: &Pool, usage: &PoolUsage, ahead: Bytes) -> Demand {
    if pool.growth == Growth::Off || pool.state != PoolState::Ready {
        return Demand::default();
    }
    let extent = catalog.vg().extent_size.get();
    let free_extents = FreeSpace::within(catalog, missing, &pool.placement).total();
    let size = catalog.pool_data_size(pool);
    let used = usage.used_data.saturating_mul(pool.chunk_size.get());
    let (free, wanted) = (size.get().saturating_sub(used), wanted_free(size, ahead).get());
    let mut data = Extents::ZERO;
    if free < wanted {
        let more = (wanted - free).saturating_add(size.get() / 10).min(size.get());
        data = Extents(more.div_ceil(extent).max(1));
    }
    let metadata_now = dm::extents_of(&pool.metadata);
    let mut metadata = metadata_for(catalog, pool, data.min(room_in(catalog, pool, free_extents)));
    if usage.used_metadata.saturating_mul(100) >= usage.total_metadata.saturating_mul(METADATA_PERCENT) {
        // So many that they are half empty afterwards.
        let target = Bytes(usage.used_metadata.saturating_mul(2 * METADATA_BLOCK)).min(limit::POOL_METADATA_MAX);
        let target = Extents(target.get().div_ceil(extent));
        metadata = metadata.max(target.saturating_sub(metadata_now));
    }
    // Without metadata nothing at all goes on, so they come first.
    let given_metadata = metadata.min(free_extents);
    let left = room_in(catalog, pool, free_extents.saturating_sub(given_metadata));
    let given_data = data.min(left);
    // A burst may want more than there is for a minute; that is not worth an alarm.
    let short = free < wanted_free(size, Bytes::ZERO).get();
    let at_bound = matches!(pool.growth, Growth::UpTo(bound) if bound.get() < size.get().saturating_add(extent));
    Demand {
        data: given_data,
        metadata: given_metadata,
        unmet: (given_metadata < metadata && given_metadata.is_zero()) || (short && given_data.is_zero() && !at_bound),
    }
}

/// The growth that a pool needs now, without being asked; an empty plan if it needs none.
pub fn automatic(
    catalog: &Catalog,
    kernel: &Kernel,
    missing: &[PvId],
    id: PoolId,
    ahead: Bytes,
) -> Result<Plan, Refusal> {
    let (Some(pool), Some(PoolStatus::Working(usage))) = (catalog.pool(id), kernel.pools.get(&id)) else {
        return Ok(Plan::default());
    };
    let usage = reserve::as_written(catalog, kernel, pool, usage);
    let demand = demand(catalog, missing, pool, &usage, ahead);
    if demand.is_none() {
        return Ok(Plan::default());
    }
    may_grow(catalog, kernel, missing, pool)?;
    grown(catalog, kernel, missing, pool, (demand.data, demand.metadata), (&*pool.placement, false))
}

/// How full a pool is, what it may still grow by counted in unless it `cannot_grow`.
pub fn fill(catalog: &Catalog, pool: &Pool, usage: &PoolUsage, cannot_grow: bool, trend: Option<Trend>) -> Fill {
    let percent = |used: u64, of: u64| {
        u32::try_from((u128::from(used) * 100 / u128::from(of.max(1))).min(1000)).unwrap_or(u32::MAX)
    };
    let size = catalog.pool_data_size(pool).get();
    let used = usage.used_data.saturating_mul(pool.chunk_size.get());
    let room = if cannot_grow { 0 } else { room(catalog, pool).get() };
    let reach = size.saturating_add(room);
    let mut metadata = usage.total_metadata;
    if pool.growth != Growth::Off && !cannot_grow {
        let free = catalog.bytes(free_for(catalog, pool)).get() / METADATA_BLOCK;
        let most = metadata_blocks(limit::POOL_METADATA_MAX).max(metadata);
        metadata = metadata.saturating_add(free).min(most);
    }
    let time = trend.and_then(|trend| Some((trend.time_to_fill(Bytes(reach.saturating_sub(used)))?, trend.confidence)));
    Fill { data: percent(used, reach), metadata: percent(usage.used_metadata, metadata), time_to_full: time }
}

/// `pool set`.
pub fn set(catalog: &Catalog, kernel: &Kernel, missing: &[PvId], request: &SetPool) -> Result<Plan, Refusal> {
    let pool = pool::find(catalog, Some(&request.name))?;
    let path = format!("{}/{}", catalog.vg().name, pool.name);
    let policy = SpacePolicy {
        growth: request.growth.unwrap_or(pool.growth),
        when_full: request.when_full.unwrap_or(pool.when_full),
        reserve_percent: request.reserve_percent.unwrap_or(pool.reserve_percent),
    };
    policy.in_bounds()?;
    if request.growth.is_some() {
        policy.not_below(catalog.pool_data_size(pool), &path)?;
    }
    let overcommit_percent = request.overcommit_percent.unwrap_or(pool.overcommit_percent);
    pool::overcommit_in_bounds(overcommit_percent)?;
    if pool.state != PoolState::Ready {
        return Err(Refusal::busy(format!("pool {path} is just being made or deleted")).hint("try again in a moment"));
    }
    let placement = request.placement.as_ref().unwrap_or(&*pool.placement);
    if *placement != *pool.placement {
        placement::check(catalog, missing, placement)?;
    }
    let after = Pool {
        placement: Box::new(placement.clone()),
        growth: policy.growth,
        when_full: policy.when_full,
        reserve_percent: policy.reserve_percent,
        overcommit_percent,
        ..pool.clone()
    };
    if after == *pool {
        return Ok(Plan::default());
    }
    let mut plan = Plan::new(match *placement == *pool.placement {
        true => format!("change the policies of pool {path}"),
        false if placement.is_anywhere() => format!("let pool {path} grow on any PV"),
        false => format!("let pool {path} grow on PVs that are {}", placement::in_words(catalog, placement)),
    });
    if after.when_full != pool.when_full {
        // This one is the kernel's: its table is changed too.
        may_grow(catalog, kernel, missing, pool)?;
    }
    plan.commit(vec![Change::Put(Object::Pool(after.clone()))]);
    if after.when_full != pool.when_full {
        reload(catalog, kernel, &after, &mut plan)?;
    }
    Ok(plan)
}
