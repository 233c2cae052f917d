//! The transaction that every change of a pool's thin ids goes through (design law 5):
//! intent (durable) -> messages -> transaction id compare-and-swap -> status check -> done record.

use vol_types::{Change, Intent, IntentId, Object, ObjectKey, Pool, ThinOp};

use crate::dm::Device;
use crate::plan::Plan;
use crate::step::{Action, Requirement, Step};

/// Appends a whole transaction to `plan`.
///
/// `begin` becomes durable together with the intent, `done` together with its end. `pool` is the pool as it is before;
/// `pool_after` as it is to be recorded with `begin` (an id counter that has moved on), still at the old transaction id.
pub fn transaction(
    plan: &mut Plan,
    pool_after: &Pool,
    intent: IntentId,
    op: ThinOp,
    active_origin: Option<Device>,
    begin: Vec<Change>,
    done: Vec<Change>,
) {
    let from = pool_after.transaction_id;
    let to = from + 1;
    let pool = pool_after.id;
    let mut first = vec![
        Change::Put(Object::Intent(Intent { id: intent, pool, from, ops: vec![op] })),
        Change::Put(Object::Pool(pool_after.clone())),
    ];
    first.extend(begin);
    plan.steps.push(
        Step::new(Action::Commit { changes: first }).requires(Requirement::PoolAt { pool, transaction_id: from }),
    );
    plan.push(match op {
        ThinOp::Create { thin_id, .. } => Action::CreateThin { pool, thin_id },
        ThinOp::Delete { thin_id, .. } => Action::DeleteThin { pool, thin_id, absent_ok: true },
        ThinOp::Snapshot { thin_id, origin_thin_id, .. } => {
            Action::SnapshotThin { pool, origin: active_origin, origin_thin_id, thin_id }
        }
    });
    finish(plan, pool_after, intent, to, done);
}

/// The second half: compare-and-swap, check, done record.
pub fn finish(plan: &mut Plan, pool: &Pool, intent: IntentId, to: u64, done: Vec<Change>) {
    plan.push(Action::SetTransaction { pool: pool.id, from: pool.transaction_id, to });
    plan.push(Action::CheckPool { pool: pool.id, transaction_id: to });
    settle(plan, pool, intent, to, done);
}

/// The done record alone: what is left to do when the kernel is already at `to`.
pub fn settle(plan: &mut Plan, pool: &Pool, intent: IntentId, to: u64, done: Vec<Change>) {
    let mut changes = vec![
        Change::Put(Object::Pool(Pool { transaction_id: to, ..pool.clone() })),
        Change::Delete(ObjectKey::Intent(intent)),
    ];
    changes.extend(done);
    plan.commit(changes);
}
