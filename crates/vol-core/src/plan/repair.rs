//! `pool check` and `pool repair`: a pool's own metadata looked at by `thin_check`, and written anew by `thin_repair`
//! (`docs/pool-repair.md`).
//!
//! The pool is down for that, which its record says ([`Pool::repair`]): what is cut short is taken back by recovery, and the pool
//! comes up with the metadata that it has. A repair never writes to these: it reads them and writes to other extents, and one
//! commit puts these in their place. The tools run between plans, while the VG is free for other changes.

use std::collections::{BTreeMap, BTreeSet};

use vol_types::{
    Bytes, Change, Content, Extents, Object, Pool, PoolId, PoolState, PvId, Volume, VolumeState, defect, limit,
};

use crate::allocate::FreeSpace;
use crate::catalog::{Catalog, VolumeName};
use crate::dm::{self, Device, Table};
use crate::observed::{PoolContents, PoolStatus, PoolUsage};
use crate::plan::members::in_use;
use crate::plan::{Kernel, Plan, agreement, pool};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, Requirement, Step};

/// Volumes that are marked in one commit: far below the longest record.
const MARKED_AT_ONCE: usize = 64;
/// Percent of the old metadata in use from which those that are written anew get twice the space.
const CROWDED: u64 = 70;

/// What a repair knows of a pool without reading it: needed if even the superblock is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub transaction_id: u64,
    /// In sectors of 512 bytes.
    pub chunk_sectors: u64,
    pub data_chunks: u64,
}

impl Known {
    pub fn of(catalog: &Catalog, pool: &Pool) -> Self {
        let chunk = pool.chunk_size.get().max(1);
        Self {
            transaction_id: pool.transaction_id,
            chunk_sectors: chunk / 512,
            data_chunks: catalog.pool_data_size(pool).get() / chunk,
        }
    }
}

/// Volumes and snapshots of a pool that are mounted or attached, and so keep it up.
pub fn users(catalog: &Catalog, kernel: &Kernel, pool: PoolId) -> Vec<String> {
    catalog.volumes_of(pool).filter_map(|volume| in_use(catalog, kernel, volume)).collect()
}

/// Takes the pool down, so that its metadata can be looked at: refused while somebody uses it.
pub fn begin(catalog: &Catalog, kernel: &Kernel, missing: &[PvId], pool: &Pool, verb: &str) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, pool.name);
    if pool.state != PoolState::Ready {
        return Err(Refusal::busy(format!("pool {path} is just being made or deleted")).hint("try again in a moment"));
    }
    if pool.repair.is_some() {
        return Err(Refusal::busy(format!("pool {path} is being checked or repaired already"))
            .hint("wait until that is done: see `volctl pool show`"));
    }
    let away = catalog
        .pvs()
        .filter(|pv| missing.contains(&pv.id) && pool.data.iter().chain(&pool.metadata).any(|one| one.pv == pv.id))
        .map(|pv| pv.path_hint.as_str());
    let away: Vec<_> = away.collect();
    if !away.is_empty() {
        return Err(Refusal::new(
            RefusalCode::Degraded,
            format!("cannot {verb} pool {path}: a disk of it is missing (last seen as {})", away.join(", ")),
        )
        .hint("attach the disk again: it is taken up by itself; if not, run `volctl pv scan`"));
    }
    let users = users(catalog, kernel, pool.id);
    if !users.is_empty() {
        let first: Vec<_> = users.iter().take(8).map(String::as_str).collect();
        let more = users.len().saturating_sub(first.len());
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        return Err(Refusal::busy(format!("cannot {verb} pool {path}: {}{more}", first.join(", "))).hint(
            "the pool has to be down for that: unmount its volumes and snapshots (`volctl volume unmount`), and detach \
             raw ones (`volctl volume detach`)",
        ));
    }
    let mut plan = Plan::new(format!("{verb} pool {path}"));
    let remove = |device: Device, plan: &mut Plan| {
        if kernel.dm.contains_key(&device) {
            plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
        }
    };
    for volume in catalog.volumes_of(pool.id) {
        remove(Device::Volume(volume.id), &mut plan);
    }
    plan.commit(vec![Change::Put(Object::Pool(Pool { repair: Some(Vec::new()), ..pool.clone() }))]);
    remove(Device::Pool(pool.id), &mut plan);
    let device = Device::PoolMetadata(pool.id);
    if !kernel.dm.contains_key(&device) {
        let table = pool::tables(catalog, pool)?.metadata;
        plan.steps.push(
            Step::new(Action::CreateDm { device, table, read_only: false }).requires(Requirement::Absent(device)),
        );
    }
    Ok(plan)
}

/// The look itself; damage ends the plan.
pub fn look(pool: &Pool, device: Device) -> Plan {
    let mut plan = Plan::new(format!("check the metadata of pool {}", pool.name));
    plan.push(Action::CheckThin { pool: pool.id, device });
    plan
}

/// Ends a check or a repair that is not to be gone on with; the pool comes up by recovery.
pub fn take_back(kernel: &Kernel, pool: &Pool) -> Plan {
    let mut plan = Plan::new(format!("leave the metadata of pool {} as they are", pool.name));
    let device = Device::PoolSpare(pool.id);
    if kernel.dm.contains_key(&device) {
        plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
    }
    plan.commit(vec![Change::Put(Object::Pool(Pool { repair: None, ..pool.clone() }))]);
    plan
}

/// Every file system of the pool is to be checked before it is mounted writable again: what the kernel had acknowledged and not
/// committed is lost. These commits come first; too many checks do no harm.
fn mark_volumes(catalog: &Catalog, pool: PoolId, plan: &mut Plan) {
    let unmarked = |volume: &&Volume| {
        volume.state.is_settled() && !volume.check_fs && matches!(volume.content, Content::Formatted { .. })
    };
    let marked = |volume: &Volume| Change::Put(Object::Volume(Volume { check_fs: true, ..volume.clone() }));
    let all: Vec<Change> = catalog.volumes_of(pool).filter(unmarked).map(marked).collect();
    for some in all.chunks(MARKED_AT_ONCE) {
        plan.commit(some.to_vec());
    }
}

/// The metadata are sound: what is left to do is to take the kernel's mark away. Then the pool comes up.
pub fn clear(catalog: &Catalog, kernel: &Kernel, pool: &Pool) -> Result<Plan, Refusal> {
    let mut plan = Plan::new(format!("take the mark needs_check from pool {}/{}", catalog.vg().name, pool.name));
    mark_volumes(catalog, pool.id, &mut plan);
    plan.push(Action::ClearNeedsCheck { pool: pool.id });
    let after = Pool { repair: None, ..pool.clone() };
    plan.commit(vec![Change::Put(Object::Pool(after.clone()))]);
    pool::activate(catalog, kernel, &after, false, &mut plan)?;
    Ok(plan)
}

/// How many extents the metadata that are written anew get: as many as the old, and twice that of crowded ones if the VG has them.
fn size_of_new(catalog: &Catalog, pool: &Pool, usage: Option<&PoolUsage>, free: Extents) -> Extents {
    let old = dm::extents_of(&pool.metadata);
    let most = Extents(limit::POOL_METADATA_MAX.get().div_ceil(catalog.vg().extent_size.get()));
    let twice = Extents(old.get().saturating_mul(2)).min(most).max(old);
    let crowded = usage
        .is_some_and(|usage| usage.used_metadata.saturating_mul(100) >= usage.total_metadata.saturating_mul(CROWDED));
    if crowded && twice <= free { twice } else { old }
}

/// Takes the extents that the metadata are written to, and makes a device of them. `usage` is what the pool said last.
pub fn prepare(catalog: &Catalog, missing: &[PvId], pool: &Pool, usage: Option<&PoolUsage>) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, pool.name);
    if !pool.original.is_empty() {
        return Err(Refusal::new(
            RefusalCode::Refused,
            format!("pool {path} still keeps the original metadata of an earlier repair, and one original is all that is kept"),
        )
        .hint(format!("if nobody needs it any more: `volctl pool repair {path} --discard-original`; then ask again")));
    }
    let mut free = FreeSpace::of(catalog, |pv| !missing.contains(&pv));
    let wanted = size_of_new(catalog, pool, usage, free.total());
    let total = free.total();
    let Some(onto) = free.take(wanted) else {
        return Err(Refusal::no_space(format!(
            "the metadata of pool {path} are repaired onto other extents, and need {}; volume group {} has {} free",
            catalog.bytes(wanted),
            catalog.vg().name,
            catalog.bytes(total)
        ))
        .hint(format!("add a disk: `volctl vg extend {} DISK`; then ask again", catalog.vg().name)));
    };
    let table = Table::linear(&onto, catalog.vg().extent_size, |pv| catalog.pv(pv).map(|pv| pv.data_offset))
        .ok_or_else(|| Refusal::invalid(format!("the free extents for pool {path} make no table")))?;
    let device = Device::PoolSpare(pool.id);
    let mut plan = Plan::new(format!("repair the metadata of pool {path} onto {}", catalog.bytes(wanted)));
    plan.commit(vec![Change::Put(Object::Pool(Pool { repair: Some(onto), ..pool.clone() }))]);
    plan.steps
        .push(Step::new(Action::CreateDm { device, table, read_only: false }).requires(Requirement::Absent(device)));
    // What stood there may look like metadata, even of this pool.
    plan.push(Action::ZeroStart { device, len: Bytes(4096) });
    Ok(plan)
}

/// The repair itself, and a look at what came of it.
pub fn rewrite(catalog: &Catalog, pool: &Pool) -> Plan {
    let mut plan = Plan::new(format!("repair the metadata of pool {}/{}", catalog.vg().name, pool.name));
    plan.push(Action::RepairThin { pool: pool.id, known: Known::of(catalog, pool) });
    plan.push(Action::CheckThin { pool: pool.id, device: Device::PoolSpare(pool.id) });
    plan
}

/// Puts what was written anew in the place of the old, which are kept, and brings the pool up.
pub fn swap(catalog: &Catalog, kernel: &Kernel, pool: &Pool) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, pool.name);
    let Some(onto) = pool.repair.clone().filter(|onto| !onto.is_empty()) else {
        return Err(Refusal::invalid(format!("pool {path} is not being repaired")));
    };
    let mut plan = Plan::new(format!("put the repaired metadata of pool {path} in place"));
    mark_volumes(catalog, pool.id, &mut plan);
    let mut after_removal = kernel.clone();
    // The old device would stand under the name of the new.
    for device in [Device::Pool(pool.id), Device::PoolMetadata(pool.id), Device::PoolSpare(pool.id)] {
        after_removal.dm.remove(&device);
        plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
    }
    let original = if defect("a repair forgets the original") { Vec::new() } else { pool.metadata.clone() };
    let after = Pool { metadata: onto, original, repair: None, ..pool.clone() };
    plan.commit(vec![Change::Put(Object::Pool(after.clone()))]);
    pool::activate(catalog, &after_removal, &after, false, &mut plan)?;
    Ok(plan)
}

/// What a dry run shows: all that may be done. What the metadata turn out to need is known only when the pool is down.
pub fn preview(catalog: &Catalog, kernel: &Kernel, missing: &[PvId], pool: &Pool) -> Result<Plan, Refusal> {
    let usage = match kernel.pools.get(&pool.id) {
        Some(PoolStatus::Working(usage)) => Some(usage),
        _ => None,
    };
    let mut plan = begin(catalog, kernel, missing, pool, "repair")?;
    let down = Pool { repair: Some(Vec::new()), ..pool.clone() };
    plan.steps.extend(look(pool, Device::PoolMetadata(pool.id)).steps);
    let prepared = prepare(catalog, missing, &down, usage)?;
    let onto = prepared.commits().flatten().find_map(|change| match change {
        Change::Put(Object::Pool(pool)) => Some(pool.clone()),
        _ => None,
    });
    plan.steps.extend(prepared.steps);
    if let Some(onto) = onto {
        plan.steps.extend(rewrite(catalog, &onto).steps);
        plan.steps.extend(swap(catalog, kernel, &onto)?.steps);
    }
    plan.title.push_str(
        "; if the check finds the metadata sound, only the mark needs_check is taken away and the steps behind it are left out",
    );
    Ok(plan)
}

/// `pool repair --discard-original`: gives the extents of the metadata that a repair replaced back to the VG.
pub fn discard_original(catalog: &Catalog, pool: &Pool) -> Plan {
    let mut plan = Plan::default();
    if !pool.original.is_empty() {
        let size = catalog.bytes(dm::extents_of(&pool.original));
        plan.title = format!("give up the original metadata of pool {}/{} ({size})", catalog.vg().name, pool.name);
        plan.commit(vec![Change::Put(Object::Pool(Pool { original: Vec::new(), ..pool.clone() }))]);
    }
    plan
}

/// What repaired metadata lack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Volumes and snapshots that they do not have at all.
    pub lost: Vec<VolumeName>,
    /// Those of which they have fewer chunks than the old say that there were: the name, chunks now and before.
    pub shrunk: Vec<(VolumeName, u64, u64)>,
    /// Whether the old could be read to compare with; if not, what was shrunk is not known.
    pub compared: bool,
    /// Thin ids that no volume has: of what was deleted, or another program's.
    pub strays: BTreeSet<u32>,
}

impl Losses {
    pub fn is_none(&self) -> bool {
        self.lost.is_empty() && self.shrunk.is_empty()
    }

    /// For people: `pg and pg@before are gone; wal has 3 of 1600 chunks`.
    pub fn in_words(&self) -> String {
        const SHOWN: usize = 16;
        let listed = |all: &[String]| {
            let first: Vec<_> = all.iter().take(SHOWN).map(String::as_str).collect();
            let more = all.len().saturating_sub(first.len());
            if more > 0 { format!("{} and {more} more", first.join(", ")) } else { first.join(", ") }
        };
        let lost: Vec<_> = self.lost.iter().map(ToString::to_string).collect();
        let shrunk: Vec<_> =
            self.shrunk.iter().map(|(name, now, before)| format!("{name} ({now} of {before} chunks)")).collect();
        let mut parts = Vec::new();
        if !lost.is_empty() {
            parts.push(format!("gone: {}", listed(&lost)));
        }
        if !shrunk.is_empty() {
            parts.push(format!("not whole: {}", listed(&shrunk)));
        }
        parts.join("; ")
    }
}

/// Compares repaired metadata with the catalog, and with what the old say of each thin id. `Err` if they are of another
/// transaction than ours: then nothing follows from the comparison.
pub fn judge(
    catalog: &Catalog,
    pool: &Pool,
    old: Option<&PoolContents>,
    new: &PoolContents,
) -> Result<Losses, Refusal> {
    let known = |id: u64| {
        id == pool.transaction_id
            || catalog.intents_of(pool.id).any(|intent| id == intent.from || id == intent.from.saturating_add(1))
    };
    if !known(new.transaction_id) {
        return Err(Refusal::new(
            RefusalCode::Degraded,
            format!(
                "the repaired metadata of pool {}/{} are at transaction {}, ours at {}: they were not put in place",
                catalog.vg().name,
                pool.name,
                new.transaction_id,
                pool.transaction_id
            ),
        )
        .hint("the pool is as it was before; see docs/pool-repair.md for what can be done by hand"));
    }
    let found = agreement::compare(catalog, pool, new);
    let name = |id: &vol_types::VolumeId| catalog.volume(*id).map(VolumeName::of);
    let had: BTreeMap<u32, u64> =
        old.into_iter().flat_map(|old| old.thins.iter().map(|(id, thin)| (*id, thin.mapped_chunks))).collect();
    let shrunk = catalog.volumes_of(pool.id).filter(|volume| volume.state != VolumeState::Deleting).filter_map(|one| {
        let id = one.thin_id()?;
        let (now, before) = (new.thins.get(&id)?.mapped_chunks, *had.get(&id)?);
        (now < before).then(|| (VolumeName::of(one), now, before))
    });
    Ok(Losses {
        lost: found.lost.iter().filter_map(name).collect(),
        shrunk: shrunk.collect(),
        compared: old.is_some(),
        strays: found.strays.keys().copied().collect(),
    })
}

/// What a running or stopped pool's metadata were found to say, without a look by `thin_check`.
pub fn findings(catalog: &Catalog, pool: &Pool, contents: &PoolContents) -> Vec<String> {
    let mut all = Vec::new();
    let found = agreement::compare(catalog, pool, contents);
    let lost: Vec<_> =
        found.lost.iter().filter_map(|id| catalog.volume(*id)).map(|one| VolumeName::of(one).to_string()).collect();
    if !lost.is_empty() {
        all.push(format!("the pool does not have the thin ids of {}", lost.join(", ")));
    }
    if !found.strays.is_empty() {
        all.push(format!("no volume has the thin ids {}", agreement::listed(found.strays.keys())));
    }
    all
}
