//! Making a thin pool out of extents, activating it, and taking it apart.

use vol_types::{
    Bytes, Change, Extents, Growth, Name, Object, ObjectKey, Placement, Pool, PoolId, PoolState, Sectors, SizeSpec,
    VolumeState, WhenFull, limit,
};

use crate::allocate::{FreeSpace, placement};
use crate::catalog::{Catalog, VolumeName};
use crate::dm::{Device, Table};
use crate::observed::{PoolMode, PoolStatus};
use crate::plan::grow::{self, SpacePolicy};
use crate::plan::thin::Batch;
use crate::plan::{Kernel, Plan, agreement, reserve};
use crate::refusal::Refusal;
use crate::step::{Action, Requirement, Step};

/// `pool create`.
#[derive(Clone, Debug)]
pub struct CreatePool {
    pub id: PoolId,
    pub name: Name,
    /// Bytes: the size of the data. Percent: of the VG's free space, metadata included.
    pub size: SizeSpec,
    /// `None`: chosen by the size.
    pub chunk_size: Option<Bytes>,
    pub overcommit_percent: u32,
    pub policy: SpacePolicy,
    /// Remembered: it grows there too.
    pub placement: Placement,
    /// Data and metadata each in one piece now.
    pub contiguous: bool,
    pub now: u64,
}

/// The kernel tells by an event when fewer chunks than this are free: 1/32 of the pool, at least one chunk.
pub const LOW_WATER_SHARE: u64 = 32;

/// Bytes of metadata per chunk that a pool is given: the kernel's guide says 48, LVM2 takes 64
/// (`thin-provisioning.rst`; `lib/metadata/thin_manip.c`).
const METADATA_PER_CHUNK: u64 = 64;

/// Most chunks a pool is given by default; it bounds the metadata to 256 MiB up to pools of 4 PiB.
const CHUNKS_DEFAULT_MAX: u64 = 1 << 22;

/// The chunk size for a pool of this size: the smallest power of two of at least 64 KiB that keeps the number of chunks in
/// bounds. Small chunks copy and zero less at the first write and after a snapshot.
pub fn default_chunk_size(data: Bytes) -> Bytes {
    let mut chunk = limit::CHUNK_SIZE_MIN;
    while data.get() / chunk.get() > CHUNKS_DEFAULT_MAX && chunk < limit::CHUNK_SIZE_MAX {
        chunk = Bytes(chunk.get() * 2);
    }
    chunk
}

/// How much metadata a pool of this size is given, in whole extents.
pub fn metadata_extents(data: Bytes, chunk: Bytes, extent: Bytes) -> Extents {
    let wanted = (data.get() / chunk.get()).saturating_mul(METADATA_PER_CHUNK);
    let bytes = Bytes(wanted).clamp(limit::POOL_METADATA_MIN, limit::POOL_METADATA_MAX);
    Extents(bytes.get().div_ceil(extent.get()))
}

/// `pool create`.
pub fn create(
    catalog: &Catalog,
    kernel: &Kernel,
    missing: &[vol_types::PvId],
    request: &CreatePool,
) -> Result<Plan, Refusal> {
    let vg = &catalog.vg().name;
    let name = &request.name;
    if catalog.pool_named(name).is_some() {
        return Err(Refusal::exists(format!("there is a pool {vg}/{name} already")));
    }
    if catalog.volume_named(&VolumeName { volume: name.clone(), snapshot: None }).is_some() {
        return Err(Refusal::exists(format!("the name {vg}/{name} is taken by a volume"))
            .hint("pools and volumes of a VG share their names; choose another"));
    }
    overcommit_in_bounds(request.overcommit_percent)?;
    request.policy.in_bounds()?;
    let extent = catalog.vg().extent_size;
    placement::check(catalog, missing, &request.placement)?;
    let free = FreeSpace::within(catalog, missing, &request.placement);
    // The spare may lie on any disk that is there.
    let whole = FreeSpace::of(catalog, |pv| !missing.contains(&pv)).total();
    let total = free.total();
    let on = match placement::where_in_words(catalog, &request.placement) {
        on if on.is_empty() => on,
        on => format!(" {on}"),
    };
    let no_space = |what: String| {
        Err(Refusal::no_space(format!(
            "{what}, but volume group {vg} has {} free{on}{}",
            catalog.bytes(total),
            if missing.is_empty() { "" } else { " on the disks that are there" }
        ))
        .hint("`volctl df` shows what uses it"))
    };
    let (data, metadata, chunk) = match request.size {
        SizeSpec::Bytes(bytes) => {
            let Some(rounded) = bytes.round_up(extent) else {
                return no_space(format!("the pool was to have {bytes}"));
            };
            let data = Extents(rounded.get() / extent.get());
            let chunk = chunk_size(request, rounded)?;
            (data, metadata_extents(rounded, chunk, extent), chunk)
        }
        SizeSpec::PercentFree(percent) => {
            let share =
                Extents(u64::try_from(u128::from(total.get()) * u128::from(percent) / 100).unwrap_or(total.get()));
            let size = catalog.bytes(share);
            let chunk = chunk_size(request, size)?;
            let metadata = metadata_extents(size, chunk, extent);
            let most = total.min(whole.saturating_sub(grow::spare(catalog).max(metadata))).saturating_sub(metadata);
            (share.saturating_sub(metadata).min(most), metadata, chunk)
        }
    };
    let data_bytes = catalog.bytes(data);
    if data_bytes < limit::POOL_DATA_MIN || data_bytes < chunk {
        return Err(Refusal::invalid(format!(
            "the pool would have {data_bytes} for data; it needs {} or more",
            limit::POOL_DATA_MIN.max(chunk)
        ))
        .hint(format!("volume group {vg} has {} free{on}", catalog.bytes(total))));
    }
    request.policy.not_below(data_bytes, &format!("{vg}/{name}"))?;
    let wanted = data.checked_add(metadata).unwrap_or(Extents(u64::MAX));
    if wanted > total {
        return no_space(format!(
            "the pool needs {} ({data_bytes} for data and {} for metadata)",
            catalog.bytes(wanted),
            catalog.bytes(metadata)
        ));
    }
    let spare = grow::spare(catalog).max(metadata);
    if wanted.checked_add(spare).is_none_or(|all| all > whole) {
        let what = format!(
            "the pool needs {} ({data_bytes} for data and {} for metadata)",
            catalog.bytes(wanted),
            catalog.bytes(metadata)
        );
        return Err(grow::keeps_spare(catalog, &what, spare, whole));
    }
    let path = format!("{vg}/{name}");
    let none: &[vol_types::Segment] = &[];
    let (metadata, data) = placement::place_pool(
        catalog,
        &free,
        &request.placement,
        &path,
        (none, metadata),
        (none, data),
        request.contiguous,
    )?;
    let pool = Pool {
        id: request.id,
        name: name.clone(),
        state: PoolState::Creating,
        chunk_size: chunk,
        transaction_id: 0,
        // Zero is as good an id as any, but one that tools and people take for "none".
        next_thin_id: 1,
        snapshots_made: 0,
        overcommit_percent: request.overcommit_percent,
        data,
        metadata,
        created_at: request.now,
        growth: request.policy.growth,
        when_full: request.policy.when_full,
        reserve_percent: request.policy.reserve_percent,
        repair: None,
        original: Vec::new(),
        placement: Box::new(request.placement.clone()),
    };
    let mut plan = Plan::new(format!("create pool {vg}/{name}"));
    plan.commit(vec![Change::Put(Object::Pool(pool.clone()))]);
    activate(catalog, kernel, &pool, true, &mut plan)?;
    plan.push(Action::CheckPool { pool: pool.id, transaction_id: 0 });
    plan.commit(vec![Change::Put(Object::Pool(Pool { state: PoolState::Ready, ..pool }))]);
    Ok(plan)
}

/// Refuses an over-commit limit that makes no sense.
pub fn overcommit_in_bounds(percent: u32) -> Result<(), Refusal> {
    if (100..=limit::OVERCOMMIT_PERCENT_MAX).contains(&percent) {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "an over-commit limit is between 100 and {} percent, not {percent}",
        limit::OVERCOMMIT_PERCENT_MAX
    )))
}

fn chunk_size(request: &CreatePool, data: Bytes) -> Result<Bytes, Refusal> {
    let Some(chunk) = request.chunk_size else { return Ok(default_chunk_size(data)) };
    let unit = limit::CHUNK_SIZE_MIN;
    if !(unit..=limit::CHUNK_SIZE_MAX).contains(&chunk) || !chunk.get().is_multiple_of(unit.get()) {
        return Err(Refusal::invalid(format!(
            "a chunk size is a multiple of {unit} between {unit} and {}, not {chunk}",
            limit::CHUNK_SIZE_MAX
        )));
    }
    let metadata = (data.get() / chunk.get()).saturating_mul(METADATA_PER_CHUNK);
    if metadata > limit::POOL_METADATA_MAX.get() {
        return Err(Refusal::invalid(format!(
            "with chunks of {chunk} a pool of {data} would need {} of metadata; the kernel allows {}",
            Bytes(metadata),
            limit::POOL_METADATA_MAX
        ))
        .hint(format!("use chunks of {} or more", default_chunk_size(data))));
    }
    Ok(chunk)
}

/// The tables of a pool's three devices.
pub struct Tables {
    pub metadata: Table,
    pub data: Table,
    pub pool: Table,
}

/// The tables that the record of a pool stands for.
pub fn tables(catalog: &Catalog, pool: &Pool) -> Result<Tables, Refusal> {
    let vg = catalog.vg();
    let linear = |segments: &[vol_types::Segment]| {
        Table::linear(segments, vg.extent_size, |pv| catalog.pv(pv).map(|pv| pv.data_offset))
            .ok_or_else(|| Refusal::invalid(format!("the segments of pool {} make no table", pool.name)))
    };
    let (metadata, data) = (linear(&pool.metadata)?, linear(&pool.data)?);
    let chunk = Sectors(pool.chunk_size.get() / 512);
    let len = Sectors(data.len().get() / chunk.get() * chunk.get());
    let top = Table::ThinPool {
        metadata: Device::PoolMetadata(pool.id),
        data: Device::PoolData(pool.id),
        len,
        chunk,
        low_water: (len.get() / chunk.get() / LOW_WATER_SHARE).max(1),
        error_when_full: pool.when_full == WhenFull::Error,
    };
    Ok(Tables { metadata, data, pool: top })
}

/// Appends the steps that make a pool's devices live; those that are live already are left as they are.
pub fn activate(catalog: &Catalog, kernel: &Kernel, pool: &Pool, fresh: bool, plan: &mut Plan) -> Result<(), Refusal> {
    let Tables { metadata, data, pool: top } = tables(catalog, pool)?;
    let (meta_device, data_device) = (Device::PoolMetadata(pool.id), Device::PoolData(pool.id));
    let written = pool.metadata.first().and_then(|first| {
        let begin = catalog.pv(first.pv)?.data_offset;
        let offset = begin.checked_add(first.start.to_bytes(catalog.vg().extent_size)?)?;
        Some((first.pv, offset))
    });
    let mut create = |device: Device, table: Table| {
        if !kernel.dm.contains_key(&device) {
            let mut step =
                Step::new(Action::CreateDm { device, table, read_only: false }).requires(Requirement::Absent(device));
            if let Some((pv, offset)) = written.filter(|_| !fresh && device == Device::Pool(pool.id)) {
                step = step.requires(Requirement::MetadataWritten { pool: pool.id, pv, offset });
            }
            plan.steps.push(step);
            if fresh && device == meta_device {
                // The kernel formats metadata that begins with a block of zeroes, and opens what does not.
                plan.push(Action::ZeroStart { device, len: Bytes(4096) });
            }
        }
    };
    create(meta_device, metadata);
    create(data_device, data);
    create(Device::Pool(pool.id), top);
    Ok(())
}

/// Appends the steps that take a pool's devices down, top first.
pub fn deactivate(kernel: &Kernel, pool: PoolId, plan: &mut Plan) {
    for device in [Device::Pool(pool), Device::PoolData(pool), Device::PoolMetadata(pool), Device::PoolSpare(pool)] {
        if kernel.dm.contains_key(&device) {
            plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
        }
    }
}

/// `pool delete`: only an empty pool.
pub fn delete(catalog: &Catalog, kernel: &Kernel, pool: &Pool) -> Result<Plan, Refusal> {
    let vg = &catalog.vg().name;
    let has_name = |volume: &&vol_types::Volume| volume.state != VolumeState::Deleted;
    let inside: Vec<_> =
        catalog.volumes_of(pool.id).filter(has_name).map(|volume| format!("{vg}/{}", VolumeName::of(volume))).collect();
    let kept = catalog.members(pool.id).kept;
    if inside.is_empty() && kept > 0 {
        return Err(Refusal::busy(format!(
            "pool {vg}/{} still holds {kept} deleted volumes or snapshots, which can be taken back",
            pool.name
        ))
        .hint(format!(
            "`volctl volume list --deleted` shows them; `volctl pool purge {vg}/{}` deletes them for good",
            pool.name
        )));
    }
    if !inside.is_empty() {
        let first: Vec<_> = inside.iter().take(5).map(String::as_str).collect();
        let more = if inside.len() > first.len() {
            format!(" and {} more", inside.len() - first.len())
        } else {
            String::new()
        };
        return Err(Refusal::busy(format!("pool {vg}/{} still holds {}{more}", pool.name, first.join(", ")))
            .hint("delete its volumes and snapshots first"));
    }
    if pool.repair.is_some() {
        return Err(Refusal::busy(format!("pool {vg}/{} is being checked or repaired", pool.name))
            .hint("try again when that is done"));
    }
    agreement::none_to_lose(kernel, pool, &format!("{vg}/{}", pool.name))?;
    let mut plan = Plan::new(format!("delete pool {vg}/{}", pool.name));
    plan.commit(vec![Change::Put(Object::Pool(Pool { state: PoolState::Deleting, ..pool.clone() }))]);
    deactivate(kernel, pool.id, &mut plan);
    plan.commit(vec![Change::Delete(ObjectKey::Pool(pool.id))]);
    Ok(plan)
}

/// The pool of a request: the one named, or the only one there is.
pub fn find<'a>(catalog: &'a Catalog, name: Option<&Name>) -> Result<&'a Pool, Refusal> {
    let vg = &catalog.vg().name;
    if let Some(name) = name {
        return catalog.pool_named(name).ok_or_else(|| {
            Refusal::not_found(format!("there is no pool {vg}/{name}")).hint("`volctl pool list` shows the pools")
        });
    }
    let mut pools = catalog.pools();
    match (pools.next(), pools.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Refusal::not_found(format!("volume group {vg} has no pool"))
            .hint(format!("make one: `volctl pool create {vg}/pool --size 80%FREE`"))),
        (Some(_), Some(_)) => {
            let names: Vec<_> = catalog.pools().map(|pool| pool.name.as_str()).collect();
            Err(Refusal::invalid(format!("volume group {vg} has several pools: {}", names.join(", ")))
                .hint("say which with --pool"))
        }
    }
}

/// Whether the pool has room for what comes next. Volumes and snapshots are refused when it is full, when no more than its reserve is
/// free (what it may still grow by counts as free, what is set aside for volumes does not), and when its metadata are nearly full.
pub fn has_room(catalog: &Catalog, kernel: &Kernel, batch: &Batch, pool: &Pool) -> Result<(), Refusal> {
    let Some(PoolStatus::Working(usage)) = kernel.pools.get(&pool.id) else { return Ok(()) };
    let name = format!("{}/{}", catalog.vg().name, pool.name);
    if usage.used_data >= usage.total_data || usage.mode == PoolMode::OutOfDataSpace {
        return Err(Refusal::no_space(format!(
            "pool {name} is full: all of its {} are in use",
            catalog.pool_data_size(pool)
        ))
        .hint(format!("give it space: `volctl pool extend {name} --size +10G`; or delete what is no longer needed")));
    }
    let free = (usage.total_data - usage.used_data).saturating_mul(pool.chunk_size.get());
    let reach = free.saturating_add(grow::room(catalog, pool).get());
    let set_aside = u128::from(reserve::set_aside(catalog, kernel, pool).get()) + batch.reserves(pool.id);
    let kept = u128::from(catalog.pool_data_size(pool).get()) * u128::from(pool.reserve_percent) / 100;
    if u128::from(reach) <= kept + set_aside {
        let grows = if pool.growth == Growth::Off { "" } else { ", and it cannot grow by more than that" };
        let aside = match u64::try_from(set_aside).unwrap_or(u64::MAX) {
            0 => String::new(),
            bytes => format!("; {} of that are set aside for volumes of it", Bytes(bytes)),
        };
        return Err(Refusal::no_space(format!(
            "pool {name} has {} of {} free{grows}{aside}; its reserve of {} % is kept for what is there",
            Bytes(reach),
            catalog.pool_data_size(pool),
            pool.reserve_percent
        ))
        .hint(format!(
            "give it space: `volctl pool extend {name} --size +10G`; or delete what is no longer needed; \
             or lower the reserve: `volctl pool set {name} --reserve 0`"
        )));
    }
    // The kernel refuses every message, `delete` too, once metadata is full: stop well before.
    if usage.used_metadata.saturating_mul(10) >= usage.total_metadata.saturating_mul(9) {
        return Err(Refusal::no_space(format!(
            "the metadata of pool {name} is more than 90 % full ({} of {} blocks)",
            usage.used_metadata, usage.total_metadata
        ))
        .hint(format!(
            "give them space: `volctl pool extend {name} --metadata +256M`; or delete snapshots or volumes"
        )));
    }
    Ok(())
}
