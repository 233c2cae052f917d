//! Space of a pool that is set aside for one volume (`docs/adr/0014-reserves.md`).
//!
//! The kernel knows of no such thing. What is set aside is counted as if it were written: nothing new is admitted into it, and the
//! pool grows before it is touched.

use std::collections::BTreeSet;

use vol_types::{Bytes, Change, Object, Pool, Reserve, Volume, VolumeId, VolumeState};

use crate::catalog::{Catalog, VolumeName};
use crate::observed::{PoolStatus, PoolUsage};
use crate::plan::thin::Batch;
use crate::plan::{Kernel, Plan, pool_of, writable_pool};
use crate::refusal::Refusal;

/// Volumes of a pool that share chunks with others, as far as the catalog tells: what they write over needs new chunks.
#[derive(Default)]
struct Sharing {
    volumes: BTreeSet<VolumeId>,
    /// There is a clone whose source is gone: it may share with anybody.
    anybody: bool,
}

impl Sharing {
    fn of(catalog: &Catalog, pool: &Pool) -> Self {
        let mut sharing = Self::default();
        for volume in catalog.volumes_of(pool.id) {
            if let Some(snapshot) = &volume.snapshot {
                sharing.volumes.insert(snapshot.of);
            }
            if let Some(of) = &volume.clone_of {
                sharing.volumes.extend([volume.id, of.id]);
                match catalog.volume(of.id) {
                    Some(source) => sharing.volumes.extend(source.snapshot.as_ref().map(|snapshot| snapshot.of)),
                    None => sharing.anybody = true,
                }
            }
        }
        sharing
    }

    /// What of the reserve of a volume is not its own yet. What is not known counts as not its own.
    fn outstanding(&self, kernel: &Kernel, volume: &Volume) -> Bytes {
        let shares = self.anybody || self.volumes.contains(&volume.id);
        let own = kernel.mapped.get(&volume.id).copied().filter(|_| !shares).unwrap_or(Bytes::ZERO);
        volume.reserve.saturating_sub(own)
    }
}

const fn counts(volume: &Volume) -> bool {
    matches!(volume.state, VolumeState::Ready | VolumeState::Creating)
}

/// What of a pool's free space is set aside for volumes of it.
pub fn set_aside(catalog: &Catalog, kernel: &Kernel, pool: &Pool) -> Bytes {
    if catalog.members(pool.id).reserve().is_zero() {
        return Bytes::ZERO;
    }
    let sharing = Sharing::of(catalog, pool);
    let reserved = catalog.volumes_of(pool.id).filter(|volume| counts(volume) && !volume.reserve.is_zero());
    reserved.fold(Bytes::ZERO, |sum, volume| Bytes(sum.get().saturating_add(sharing.outstanding(kernel, volume).get())))
}

/// How full the pool would be if what is set aside in it were written.
pub fn as_written(catalog: &Catalog, kernel: &Kernel, pool: &Pool, usage: &PoolUsage) -> PoolUsage {
    let chunks = set_aside(catalog, kernel, pool).get().div_ceil(pool.chunk_size.get().max(1));
    PoolUsage { used_data: usage.used_data.saturating_add(chunks), ..usage.clone() }
}

/// What is set aside besides once `origins` share what they have.
pub fn by_sharing(catalog: &Catalog, kernel: &Kernel, pool: &Pool, origins: &[&Volume]) -> Bytes {
    if catalog.members(pool.id).reserve().is_zero() {
        return Bytes::ZERO;
    }
    let sharing = Sharing::of(catalog, pool);
    let more = |volume: &&Volume| volume.reserve.saturating_sub(sharing.outstanding(kernel, volume)).get();
    Bytes(origins.iter().map(more).fold(0, u64::saturating_add))
}

/// The reserve in bytes, in whole chunks.
pub fn of_size(wanted: Reserve, size: Bytes, pool: &Pool, path: &str) -> Result<Bytes, Refusal> {
    let bytes = match wanted {
        Reserve::None => return Ok(Bytes::ZERO),
        Reserve::Full => return Ok(size),
        Reserve::Bytes(bytes) => bytes,
    };
    match bytes.round_up(pool.chunk_size) {
        Some(rounded) if rounded <= size => Ok(rounded),
        _ => Err(Refusal::invalid(format!("a reserve of {bytes} is more than {path} can hold, which is {size}"))
            .hint("ask for --reserve full, or for a larger volume")),
    }
}

/// Refuses to set aside what is not there: of the space that is free now, without what others have, and without the pool's own reserve.
pub fn fits(
    catalog: &Catalog,
    kernel: &Kernel,
    batch: &Batch,
    pool: &Pool,
    more: Bytes,
    what: &str,
) -> Result<(), Refusal> {
    let Some(PoolStatus::Working(usage)) = kernel.pools.get(&pool.id) else { return Ok(()) };
    if more.is_zero() {
        return Ok(());
    }
    let free = usage.total_data.saturating_sub(usage.used_data).saturating_mul(pool.chunk_size.get());
    let others = u128::from(set_aside(catalog, kernel, pool).get()) + batch.reserves(pool.id);
    let size = u128::from(catalog.pool_data_size(pool).get());
    let kept = size * u128::from(pool.reserve_percent) / 100;
    let lacking = (others + kept + u128::from(more.get())).saturating_sub(u128::from(free));
    if lacking == 0 {
        return Ok(());
    }
    let bytes = |number: u128| Bytes(u64::try_from(number).unwrap_or(u64::MAX));
    let name = format!("{}/{}", catalog.vg().name, pool.name);
    // What is added is itself kept free in part.
    let add = lacking * 100 / u128::from(100u32.saturating_sub(pool.reserve_percent).max(1)) + 1;
    let add = bytes(add).get().div_ceil(Bytes::MIB);
    Err(Refusal::no_space(format!(
        "{what} needs {more} to be set aside in pool {name}, which has {} free; {} of that are set aside for other volumes, and {} are its own \
         reserve",
        Bytes(free),
        bytes(others),
        bytes(kept)
    ))
    .hint(format!(
        "give it space: `volctl pool extend {name} --size +{}M`; or delete what is no longer needed; or ask for less",
        add
    )))
}

/// `volume set --reserve`. An empty plan: it is so already.
pub fn set(catalog: &Catalog, kernel: &Kernel, volume: &Volume, wanted: Reserve) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(volume));
    if volume.snapshot.is_some() {
        return Err(Refusal::invalid(format!("{path} is a snapshot: it is never written to and needs no reserve")));
    }
    if volume.thick().is_some() {
        return Err(Refusal::invalid(format!("{path} is a thick volume: all of its space is its own already")));
    }
    if volume.state != VolumeState::Ready {
        return Err(Refusal::busy(format!("{path} is just being made or deleted")).hint("try again in a moment"));
    }
    let pool = pool_of(catalog, volume, &path)?;
    let reserve = of_size(wanted, volume.size, pool, &path)?;
    let mut plan = Plan::new(match reserve.is_zero() {
        true => format!("set nothing aside for {path}"),
        false => format!("set {reserve} aside for {path}"),
    });
    if reserve == volume.reserve {
        return Ok(plan);
    }
    let after = Volume { reserve, ..volume.clone() };
    if reserve > volume.reserve {
        writable_pool(pool, kernel, catalog.intents_of(pool.id).next().is_some())?;
        let sharing = Sharing::of(catalog, pool);
        let more = sharing.outstanding(kernel, &after).saturating_sub(sharing.outstanding(kernel, volume));
        fits(catalog, kernel, &Batch::default(), pool, more, &path)?;
    }
    plan.commit(vec![Change::Put(Object::Volume(after))]);
    Ok(plan)
}

/// Refuses to take back the deletion of a volume whose reserve does not fit any more.
pub fn fits_again(catalog: &Catalog, kernel: &Kernel, pool: &Pool, volume: &Volume, path: &str) -> Result<(), Refusal> {
    if volume.reserve.is_zero() {
        return Ok(());
    }
    let more = Sharing::of(catalog, pool).outstanding(kernel, volume);
    fits(catalog, kernel, &Batch::default(), pool, more, path)
}
