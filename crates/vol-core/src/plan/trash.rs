//! Deleting with a way back: the name is free at once, the data stay until their time is over, somebody says so, or their pool
//! needs the space.
//!
//! Deleting so is one commit, and nothing in the pool: it works in a pool that is full or takes no messages, too.

use vol_types::{Bytes, Change, Content, Object, PoolId, Volume, VolumeId, VolumeState};

use crate::catalog::{Catalog, VolumeName};
use crate::dm::Device;
use crate::observed::PoolStatus;
use crate::plan::thin::Batch;
use crate::plan::{Kernel, Plan, pool, pool_of, reserve, thick, volume, writable_pool};
use crate::refusal::Refusal;
use crate::step::{Action, Requirement, Step};

/// `volume delete` and `snapshot delete` with a way back. What is in use is refused as by [`volume::delete`].
pub fn keep(catalog: &Catalog, kernel: &Kernel, one: &Volume, now: u64) -> Result<Plan, Refusal> {
    let path = path(catalog, one);
    let kind = kind(one);
    if one.state != VolumeState::Ready {
        return Err(Refusal::busy(format!("{kind} {path} is just being made")).hint("try again in a moment"));
    }
    volume::not_wanted_any_more(catalog, kernel, one, &path)?;
    let mut plan = Plan::new(format!("delete {kind} {path}, and keep its data for a while"));
    // With those through which a growth is wiped: taken back, it goes on.
    thick::remove_devices(kernel, one, &mut plan);
    plan.commit(vec![Change::Put(Object::Volume(Volume {
        state: VolumeState::Deleted,
        deleted_at: Some(now),
        ..one.clone()
    }))]);
    Ok(plan)
}

/// One deletion of a volume or snapshot. Taken back and deleted anew it is another one, with a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub volume: VolumeId,
    /// Seconds since 1970.
    pub at: Option<u64>,
}

impl Deletion {
    pub const fn of(one: &Volume) -> Self {
        Self { volume: one.id, at: one.deleted_at }
    }
    /// What was deleted by it, if that is still kept.
    pub fn kept(self, catalog: &Catalog) -> Option<&Volume> {
        catalog.volume(self.volume).filter(|one| one.state == VolumeState::Deleted && one.deleted_at == self.at)
    }
}

/// A volume larger than this is emptied in slices of this size before it is deleted for good: a pool's metadata are locked as
/// long as one `delete` message or discard takes, and everybody who writes to new chunks waits for that.
pub const SLICE: Bytes = Bytes::gib(1);

/// Whether its space is being given back already: nothing of it can be had any more.
pub fn is_emptied(one: &Volume) -> bool {
    one.state == VolumeState::Deleted && one.content == Content::Blank
}

/// Makes a large volume ready to be emptied: recorded as such, and active. Empty if there is nothing to be made ready.
pub fn begin_emptying(catalog: &Catalog, kernel: &Kernel, deletion: Deletion) -> Result<Plan, Refusal> {
    let Some(one) = deletion.kept(catalog).filter(|one| one.size > SLICE && one.thick().is_none()) else {
        return Ok(Plan::default());
    };
    let path = path(catalog, one);
    let pool = pool_of(catalog, one, &path)?;
    writable_pool(pool, kernel, catalog.intents_of(pool.id).next().is_some())?;
    let device = Device::Volume(one.id);
    let mut plan = Plan::new(format!("give back the space of {path}, which was deleted"));
    // First of all: what is half empty must never be taken back.
    if !is_emptied(one) {
        plan.commit(vec![Change::Put(Object::Volume(Volume { content: Content::Blank, ..one.clone() }))]);
    }
    if !kernel.dm.contains_key(&device) {
        plan.steps.push(
            Step::new(Action::CreateDm { device, table: volume::table(catalog, one)?, read_only: false })
                .requires(Requirement::Absent(device)),
        );
    }
    Ok(plan)
}

/// Of those of this name that were deleted and are kept, the one that was deleted last.
pub fn last_deleted<'a>(catalog: &'a Catalog, name: &VolumeName) -> Option<&'a Volume> {
    kept(catalog, None)
        .filter(|one| VolumeName::of(one) == *name && !is_emptied(one))
        .max_by_key(|one| (one.deleted_at, one.id))
}

/// What was deleted and is kept, in one pool or in all.
pub fn kept(catalog: &Catalog, pool: Option<PoolId>) -> impl Iterator<Item = &Volume> {
    catalog
        .volumes()
        .filter(move |one| one.state == VolumeState::Deleted && pool.is_none_or(|pool| one.pool() == Some(pool)))
}

/// `volume undelete` and `snapshot undelete`: takes back the last deletion of this name.
pub fn undelete(catalog: &Catalog, kernel: &Kernel, name: &VolumeName) -> Result<(Plan, VolumeId), Refusal> {
    let vg = &catalog.vg().name;
    let noun = if name.snapshot.is_some() { "snapshot" } else { "volume" };
    let Some(one) = last_deleted(catalog, name) else {
        if let Some(there) = catalog.volume_named(name) {
            return Ok((Plan::default(), there.id));
        }
        return Err(Refusal::not_found(format!("no deleted {noun} {vg}/{name} is kept"))
            .hint("`volctl volume list --deleted` shows what can be taken back, and for how long"));
    };
    if catalog.volume_named(name).is_some() || (name.snapshot.is_none() && catalog.pool_named(&name.volume).is_some()) {
        return Err(Refusal::exists(format!("there is another {vg}/{name} since"))
            .hint("delete or rename that one first; the deleted one is kept meanwhile"));
    }
    if one.snapshot.is_none() && one.thick().is_none() {
        let pool = pool_of(catalog, one, &format!("{vg}/{name}"))?;
        volume::within_policy(catalog, &Batch::default(), pool, one.size)?;
        reserve::fits_again(catalog, kernel, pool, one, &format!("{vg}/{name}"))?;
    }
    let mut plan = Plan::new(format!("take back the deletion of {noun} {vg}/{name}"));
    plan.commit(vec![Change::Put(Object::Volume(Volume {
        state: VolumeState::Ready,
        deleted_at: None,
        ..one.clone()
    }))]);
    Ok((plan, one.id))
}

/// What is to be deleted for good now, oldest first: what has been kept for `window` seconds, and one of each pool that has no
/// room for anything new. A clock that was set back keeps things longer, one that was set forward not as long.
pub fn due(catalog: &Catalog, kernel: &Kernel, window: u64, now: u64) -> Vec<Deletion> {
    let mut all: Vec<_> = kept(catalog, None).collect();
    all.sort_by_key(|one| (one.deleted_at, one.id));
    let mut relieved = Vec::new();
    all.retain(|one| {
        if is_emptied(one) || one.deleted_at.is_none_or(|at| at.saturating_add(window) <= now) {
            return true;
        }
        let Some(pool) = catalog.pool_of(one).filter(|pool| !relieved.contains(&pool.id)) else { return false };
        let status = kernel.pools.get(&pool.id);
        let short = matches!(status, Some(PoolStatus::Working(_)))
            && pool::has_room(catalog, kernel, &Batch::default(), pool).is_err();
        if short {
            relieved.push(pool.id);
        }
        short
    });
    all.into_iter().map(Deletion::of).collect()
}

fn path(catalog: &Catalog, one: &Volume) -> String {
    format!("{}/{}", catalog.vg().name, VolumeName::of(one))
}

const fn kind(one: &Volume) -> &'static str {
    if one.snapshot.is_some() { "snapshot" } else { "volume" }
}
