//! The one road back: after a start, a crash, or a step that failed, from whatever was observed to a VG that is in order.
//!
//! [`next`] gives one small plan at a time; the engine executes it, observes again, and asks again until nothing is left.
//! What fails is set aside (`given_up`), so that one damaged pool never keeps another from coming up. The table that the
//! transactions follow is `docs/spec/pool-transactions.md`.

use std::collections::BTreeSet;

use vol_types::{
    Change, Content, Intent, IntentId, Object, ObjectKey, Pool, PoolState, PvId, ThinOp, VgState, VolumeState, defect,
};

use crate::catalog::Catalog;
use crate::dm::Device;
use crate::observed::{PoolMode, PoolStatus};
use crate::plan::{Kernel, Plan, agreement, fs, grow, health, pool, repair, rollback, thick, thin, vg, volume};
use crate::step::{Action, Requirement, Step};

/// A piece of recovery, and the object it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    pub subject: ObjectKey,
    pub plan: Plan,
}

/// The next thing to be put in order; `None` if all that can be is. `fresh_intent` is used if an intent has to be made.
///
/// Without a majority of the metadata (`writable` is false) the catalog may be old: what it calls unfinished may be finished
/// and in use, what it calls a pool's extents may be another's. Then nothing is done but resuming what is suspended, and
/// erasing a VG that certainly does not exist.
pub fn next(
    catalog: &Catalog,
    kernel: &Kernel,
    missing: &[PvId],
    writable: bool,
    given_up: &BTreeSet<ObjectKey>,
    fresh_intent: IntentId,
) -> Option<Recovery> {
    let open = |subject: &ObjectKey| !given_up.contains(subject);
    let leftovers = leftovers(catalog, kernel, &open);
    if leftovers.is_some() {
        return leftovers;
    }
    if !writable && !defect("a minority recovers") {
        return certainly_gone(catalog).then(|| half_made_vg(catalog, missing, &open)).flatten();
    }
    if catalog.vg().state == VgState::Exported {
        return None;
    }
    None.or_else(|| half_made_vg(catalog, missing, &open))
        .or_else(|| half_made_pools(catalog, kernel, &open))
        .or_else(|| half_done_repairs(catalog, kernel, &open))
        .or_else(|| inactive_pools(catalog, kernel, missing, &open))
        .or_else(|| behind_pools(catalog, kernel, missing, &open))
        .or_else(|| intents(catalog, kernel, &open))
        .or_else(|| half_made_volumes(catalog, kernel, fresh_intent, &open))
        .or_else(|| short_devices(catalog, kernel, &open))
}

/// The object of this VG that a device belongs to.
pub fn owner(catalog: &Catalog, device: Device) -> Option<ObjectKey> {
    match device {
        Device::PoolMetadata(id) | Device::PoolData(id) | Device::PoolSpare(id) | Device::Pool(id) => {
            catalog.pool(id).map(|pool| ObjectKey::Pool(pool.id))
        }
        Device::Volume(id) | Device::Filling(id) | Device::CopySource(id) => {
            catalog.volume(id).map(|volume| ObjectKey::Volume(volume.id))
        }
    }
}

/// Devices that a dead daemon left suspended, or without a table.
fn leftovers(catalog: &Catalog, kernel: &Kernel, open: &dyn Fn(&ObjectKey) -> bool) -> Option<Recovery> {
    kernel.dm.iter().find_map(|(device, info)| {
        let subject = owner(catalog, *device).filter(|subject| open(subject))?;
        let mut plan = Plan::new(format!("put {} in order", info.name));
        if !info.live_table {
            plan.steps.push(Step::new(Action::RemoveDm { device: *device }).requires(Requirement::NotOpen(*device)));
        } else if info.suspended && !defect("what is suspended stays so") {
            plan.push(Action::ResumeDm { device: *device });
        } else {
            return None;
        }
        Some(Recovery { subject, plan })
    })
}

/// Whether one copy alone proves that there is no such VG: it never saw a commit after the checkpoint that a VG begins with,
/// which an acknowledged one has on every copy; or it says that a majority had agreed to the deletion.
fn certainly_gone(catalog: &Catalog) -> bool {
    match catalog.vg().state {
        VgState::Creating => catalog.sequence() == 1,
        VgState::Deleting if defect("one copy proves a deletion") => true,
        VgState::Erasing => true,
        VgState::Ready | VgState::Deleting | VgState::Exported => false,
    }
}

/// A VG that was never finished, or is being deleted.
fn half_made_vg(catalog: &Catalog, missing: &[PvId], open: &dyn Fn(&ObjectKey) -> bool) -> Option<Recovery> {
    let subject = ObjectKey::Vg(catalog.vg().id);
    // A VG with pools in it is not unfinished, whatever it says of itself (CAT-8): leave it to a person.
    if catalog.vg().state.is_whole() || !catalog.is_empty() || !open(&subject) {
        return None;
    }
    // A disk that is away would come back with a label of a group that nobody else remembers. Nothing is erased before all of
    // them can be; afterwards (*erasing*) those that are done are missing, and that stops nothing.
    let proven = defect("one copy proves a deletion");
    if catalog.vg().state == VgState::Deleting && !missing.is_empty() && !proven {
        return None;
    }
    let mut plan = Plan::new(format!("take apart the unfinished volume group {}", catalog.vg().name));
    if catalog.vg().state == VgState::Deleting && !proven {
        vg::erase(catalog, &mut plan);
    } else if catalog.vg().state == VgState::Erasing && missing.is_empty() {
        vg::take_apart_when_all_know(catalog, &mut plan);
    } else {
        vg::take_apart(catalog, &mut plan);
    }
    Some(Recovery { subject, plan })
}

/// Pools whose creation or deletion was cut short: both end with the pool gone.
fn half_made_pools(catalog: &Catalog, kernel: &Kernel, open: &dyn Fn(&ObjectKey) -> bool) -> Option<Recovery> {
    catalog.pools().filter(|pool| pool.state != PoolState::Ready).find_map(|pool| {
        let subject = ObjectKey::Pool(pool.id);
        if !open(&subject) {
            return None;
        }
        let mut plan = Plan::new(format!("remove the unfinished pool {}", pool.name));
        pool::deactivate(kernel, pool.id, &mut plan);
        plan.push(Action::Commit { changes: vec![Change::Delete(subject)] });
        Some(Recovery { subject, plan })
    })
}

/// A look at a pool's metadata, or their repair, that was cut short: the pool comes up again with the metadata that it has, and what
/// was written anew is given back.
fn half_done_repairs(catalog: &Catalog, kernel: &Kernel, open: &dyn Fn(&ObjectKey) -> bool) -> Option<Recovery> {
    catalog.pools().filter(|pool| pool.repair.is_some()).find_map(|pool| {
        let subject = ObjectKey::Pool(pool.id);
        open(&subject).then(|| Recovery { subject, plan: repair::take_back(kernel, pool) })
    })
}

/// Pools all of whose disks are there come up.
fn inactive_pools(
    catalog: &Catalog,
    kernel: &Kernel,
    missing: &[PvId],
    open: &dyn Fn(&ObjectKey) -> bool,
) -> Option<Recovery> {
    catalog.pools().filter(|pool| pool.state == PoolState::Ready).find_map(|pool| {
        let subject = ObjectKey::Pool(pool.id);
        let whole = pool.data.iter().chain(&pool.metadata).all(|segment| !missing.contains(&segment.pv));
        if !open(&subject) || !whole {
            return None;
        }
        let mut plan = Plan::new(format!("activate pool {}", pool.name));
        pool::activate(catalog, kernel, pool, false, &mut plan).ok()?;
        (!plan.is_empty()).then_some(Recovery { subject, plan })
    })
}

/// Pools whose record was changed, and whose tables were not: a growth or a new policy that was cut short between the two.
fn behind_pools(
    catalog: &Catalog,
    kernel: &Kernel,
    missing: &[PvId],
    open: &dyn Fn(&ObjectKey) -> bool,
) -> Option<Recovery> {
    catalog.pools().find_map(|pool| {
        let subject = ObjectKey::Pool(pool.id);
        if !open(&subject) || !grow::is_behind(catalog, pool, kernel.pools.get(&pool.id)) {
            return None;
        }
        let whole = pool.data.iter().chain(&pool.metadata).all(|segment| !missing.contains(&segment.pv));
        let mut plan = Plan::new(format!("bring the tables of pool {} up to its record", pool.name));
        grow::reload(catalog, kernel, pool, &mut plan).ok()?;
        whole.then_some(Recovery { subject, plan })
    })
}

/// The kernel's transaction id, if the pool can take messages.
fn writable_transaction(kernel: &Kernel, pool: &Pool) -> Option<u64> {
    // What is sent to a pool without its disk ends in a failed commit, and the kernel gives the pool up.
    if health::without_disk(kernel, pool).is_some() {
        return None;
    }
    match kernel.pools.get(&pool.id)? {
        PoolStatus::Working(usage) if usage.mode != PoolMode::ReadOnly && !usage.needs_check => {
            Some(usage.transaction_id)
        }
        _ => None,
    }
}

/// Transactions that were cut short.
fn intents(catalog: &Catalog, kernel: &Kernel, open: &dyn Fn(&ObjectKey) -> bool) -> Option<Recovery> {
    catalog.intents().find_map(|intent| {
        let subject = ObjectKey::Intent(intent.id);
        if !open(&subject) {
            return None;
        }
        let pool = catalog.pool(intent.pool)?;
        let in_kernel = writable_transaction(kernel, pool)?;
        let plan = if in_kernel == intent.from && !defect("an intent is taken for the deed") {
            before_the_swap(catalog, kernel, pool, intent)
        } else if in_kernel == intent.from + 1 || defect("an intent is taken for the deed") {
            after_the_swap(catalog, pool, intent)
        } else {
            // Neither side of the swap: a foreign writer or an old copy. The pool is refused (see `health`), not mended.
            return None;
        };
        Some(Recovery { subject, plan })
    })
}

/// The kernel is where the intent began: what it was to create was never shown to anybody and is taken back, what it was
/// to delete is deleted.
fn before_the_swap(catalog: &Catalog, kernel: &Kernel, pool: &Pool, intent: &Intent) -> Plan {
    let mut plan = Plan::new(format!("settle the transaction {} of pool {}", intent.from, pool.name));
    let mut done = Vec::new();
    let mut deletes = false;
    for op in &intent.ops {
        let (volume, thin_id) = match *op {
            ThinOp::Create { volume, thin_id }
            | ThinOp::Snapshot { volume, thin_id, .. }
            | ThinOp::Rollback { volume, thin_id, .. } => (volume, thin_id),
            ThinOp::Delete { volume, thin_id } => {
                deletes = true;
                (volume, thin_id)
            }
        };
        let device = Device::Volume(volume);
        if kernel.dm.contains_key(&device) {
            plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
        }
        // An id that was there before the intent is somebody else's: it is reported, never deleted.
        if !agreement::is_stray(kernel, pool.id, thin_id) && !defect("what is taken back stays in the pool") {
            plan.push(Action::DeleteThin { pool: pool.id, thin_id, absent_ok: true });
        }
        if catalog.volume(volume).is_some() {
            done.push(Change::Delete(ObjectKey::Volume(volume)));
        }
    }
    if deletes {
        thin::finish(&mut plan, pool, intent.id, done);
    } else {
        plan.push(Action::CheckPool { pool: pool.id, transaction_id: intent.from });
        thin::settle(&mut plan, pool, intent.id, intent.from, done);
    }
    plan
}

/// The kernel has done it all: only our record of that is missing.
fn after_the_swap(catalog: &Catalog, pool: &Pool, intent: &Intent) -> Plan {
    let mut plan = Plan::new(format!("record the transaction {} of pool {}", intent.from, pool.name));
    let mut done = Vec::new();
    for op in &intent.ops {
        match *op {
            ThinOp::Create { volume, .. } | ThinOp::Snapshot { volume, .. } => {
                // A volume that was to be formatted stays in creation, which the next round takes back.
                let ready = |volume: &&vol_types::Volume| {
                    volume.content != Content::Blank || defect("an unformatted volume is ready")
                };
                if let Some(volume) = catalog.volume(volume).filter(ready) {
                    let ready = vol_types::Volume { state: VolumeState::Ready, ..volume.clone() };
                    done.push(Change::Put(Object::Volume(ready)));
                }
            }
            ThinOp::Delete { volume, .. } => done.push(Change::Delete(ObjectKey::Volume(volume))),
            // What the volume held goes with the next round.
            ThinOp::Rollback { volume, .. } => done.extend(rollback::finished(catalog, volume)),
        }
    }
    plan.push(Action::CheckPool { pool: pool.id, transaction_id: intent.from + 1 });
    thin::settle(&mut plan, pool, intent.id, intent.from + 1, done);
    plan
}

/// Volumes that have their thin id but never got their file system, or whose deletion was recorded and no more.
fn half_made_volumes(
    catalog: &Catalog,
    kernel: &Kernel,
    fresh_intent: IntentId,
    open: &dyn Fn(&ObjectKey) -> bool,
) -> Option<Recovery> {
    catalog.volumes().filter(|volume| !volume.state.is_settled()).find_map(|volume| {
        let subject = ObjectKey::Volume(volume.id);
        if volume.thick().is_some() {
            return half_formatted(kernel, volume).filter(|_| open(&subject)).map(|plan| Recovery { subject, plan });
        }
        let pool = catalog.pool_of(volume)?;
        // An intent that could not be settled owns the pool; nothing is begun on top of it.
        let agrees = writable_transaction(kernel, pool)? == pool.transaction_id;
        if !open(&subject) || !agrees || catalog.intents_of(pool.id).next().is_some() {
            return None;
        }
        let mut change = volume::removal(pool, volume, volume.thin_id()?, fresh_intent);
        let device = Device::Volume(volume.id);
        if kernel.dm.contains_key(&device) {
            change.before.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
        }
        Some(Recovery { subject, plan: thin::alone(change) })
    })
}

/// A thick volume whose file system was cut short is discarded, as a thin one; what is only being filled goes on.
fn half_formatted(kernel: &Kernel, volume: &vol_types::Volume) -> Option<Plan> {
    if !matches!(volume.content, Content::Formatting { .. }) && volume.state != VolumeState::Deleting {
        return None;
    }
    let mut plan = Plan::new(format!("take back the unfinished volume {}", volume.name));
    thick::remove_devices(kernel, volume, &mut plan);
    plan.push(Action::Commit { changes: vec![Change::Delete(ObjectKey::Volume(volume.id))] });
    Some(plan)
}

/// Devices of volumes that were resized, and did not grow with them. Their file systems grow at the next mount, or when the
/// request is made again.
fn short_devices(catalog: &Catalog, kernel: &Kernel, open: &dyn Fn(&ObjectKey) -> bool) -> Option<Recovery> {
    kernel.dm.iter().find_map(|(device, info)| {
        let Device::Volume(id) = device else { return None };
        let volume = catalog.volume(*id).filter(|volume| volume.state == VolumeState::Ready)?;
        let subject = ObjectKey::Volume(volume.id);
        if volume.thick().is_none() {
            writable_transaction(kernel, catalog.pool_of(volume)?)?;
        }
        if !open(&subject) || !fs::is_short(volume, info) {
            return None;
        }
        let mut plan = Plan::new(format!("finish resizing {}", crate::catalog::VolumeName::of(volume)));
        plan.steps.push(fs::reload(catalog, volume).ok()?);
        Some(Recovery { subject, plan })
    })
}
