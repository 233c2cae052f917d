//! The transaction that every change of a pool's thin ids goes through (design law 5):
//! intent (durable) -> messages -> transaction id compare-and-swap -> status check -> done record.
//!
//! Changes that wait at the same time share one: one swap and one check for all of them ([`Batch`]). The done record of most goes
//! out with the next commit.

use std::collections::{BTreeMap, BTreeSet};

use vol_types::{Bytes, Change, Intent, IntentId, Object, ObjectKey, Pool, PoolId, ThinOp, VolumeId, defect};

use crate::catalog::VolumeName;
use crate::plan::Plan;
use crate::step::{Action, Requirement, Step};

/// Most changes in one transaction: their two records stay far below the longest one, and nobody waits for many others' messages.
pub const BATCH_MAX: usize = 64;

/// Most labels of the volumes in one transaction, for the same reason: a label has up to 318 bytes.
pub const BATCH_LABELS_MAX: usize = 1024;

/// One change of a pool's thin ids, to be made alone or with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinChange {
    pub title: String,
    /// What it is about; the first of several.
    pub volume: VolumeId,
    /// Names that it makes, deletes or depends on: no other change of the same transaction may have them.
    pub names: Vec<VolumeName>,
    /// Used for the whole transaction if this is its first change of the pool.
    pub intent: IntentId,
    /// Steps before anything is recorded.
    pub before: Vec<Step>,
    /// The pool as it is to be recorded with the intent (an id counter that has moved on), still at the old transaction id.
    pub pool: Pool,
    /// What it adds to what the pool promises.
    pub promises: Bytes,
    /// What it sets aside in the pool.
    pub reserves: Bytes,
    /// One for each pool message.
    pub ops: Vec<ThinOp>,
    /// The pool message, or several of one instant.
    pub message: Step,
    /// Becomes durable together with the intent.
    pub begin: Vec<Change>,
    /// Becomes durable together with its end.
    pub done: Vec<Change>,
    /// What follows for this change alone, with a commit of its own.
    pub then: Vec<Step>,
}

/// A transaction in the making. Each change is planned on top of those that are in it already.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: Vec<ThinChange>,
    pools: BTreeMap<PoolId, Pool>,
    promises: BTreeMap<PoolId, u128>,
    reserves: BTreeMap<PoolId, u128>,
    names: BTreeSet<VolumeName>,
    messages: usize,
    labels: usize,
}

impl Batch {
    /// The pool as the changes so far leave it.
    pub fn pool<'a>(&'a self, pool: &'a Pool) -> &'a Pool {
        self.pools.get(&pool.id).unwrap_or(pool)
    }
    /// Bytes that the changes so far add to what the pool promises.
    pub fn promises(&self, pool: PoolId) -> u128 {
        if defect("changes of a batch do not see what the others promise") {
            return 0;
        }
        self.promises.get(&pool).copied().unwrap_or(0)
    }
    /// Bytes that the changes so far set aside in the pool.
    pub fn reserves(&self, pool: PoolId) -> u128 {
        self.reserves.get(&pool).copied().unwrap_or(0)
    }
    /// Whether a change of this name has to wait for the next transaction.
    pub fn concerns(&self, name: &VolumeName) -> bool {
        self.names.contains(name) && !defect("changes of a batch do not see each other")
    }
    pub fn is_full(&self) -> bool {
        self.messages >= BATCH_MAX || self.labels >= BATCH_LABELS_MAX
    }

    pub fn add(&mut self, change: ThinChange) {
        self.pools.insert(change.pool.id, change.pool.clone());
        let promises = self.promises.entry(change.pool.id).or_default();
        *promises = promises.saturating_add(u128::from(change.promises.get()));
        let reserves = self.reserves.entry(change.pool.id).or_default();
        *reserves = reserves.saturating_add(u128::from(change.reserves.get()));
        self.names.extend(change.names.iter().cloned());
        self.messages = self.messages.saturating_add(change.ops.len());
        let labels = change.begin.iter().map(|change| match change {
            Change::Put(Object::Volume(volume)) => volume.labels.len(),
            _ => 0,
        });
        self.labels = self.labels.saturating_add(labels.sum());
        self.changes.push(change);
    }

    /// The shared plan, and what follows for each change by itself, in the order in which they were added.
    ///
    /// Its end waits for the next commit unless something follows on it: the kernel's transaction id says already that it is done,
    /// and recovery would record just that (`docs/adr/0015-done-with-the-next-commit.md`).
    pub fn plan(self) -> (Plan, Vec<Plan>) {
        let follows = self.changes.iter().any(|change| !change.then.is_empty());
        let (mut plan, done, then) = self.parts();
        plan.push(if follows { Action::Commit { changes: done } } else { Action::CommitLater { changes: done } });
        (plan, then)
    }

    /// Up to the end, what is to be recorded there, and what follows for each change by itself.
    fn parts(self) -> (Plan, Vec<Change>, Vec<Plan>) {
        let mut plan = Plan::new(match self.changes.as_slice() {
            [only] => only.title.clone(),
            many => format!("{} changes of volumes in one transaction", many.len()),
        });
        let mut begin = Vec::new();
        let mut requires = Vec::new();
        for pool in self.pools.values() {
            let own = || self.changes.iter().filter(|change| change.pool.id == pool.id);
            let Some(first) = own().next() else { continue };
            let ops = own().flat_map(|change| change.ops.iter().copied()).collect();
            begin.push(Change::Put(Object::Intent(Intent {
                id: first.intent,
                pool: pool.id,
                from: pool.transaction_id,
                ops,
            })));
            begin.push(Change::Put(Object::Pool(pool.clone())));
            requires.push(Requirement::PoolAt { pool: pool.id, transaction_id: pool.transaction_id });
        }
        begin.extend(self.changes.iter().flat_map(|change| change.begin.iter().cloned()));
        plan.steps.extend(self.changes.iter().flat_map(|change| change.before.iter().cloned()));
        plan.steps.push(Step { action: Action::Commit { changes: begin }, requires });
        plan.steps.extend(self.changes.iter().map(|change| change.message.clone()));
        let mut done = Vec::new();
        for pool in self.pools.values() {
            let Some(first) = self.changes.iter().find(|change| change.pool.id == pool.id) else { continue };
            swap(&mut plan, pool);
            done.extend(settled(pool, first.intent, pool.transaction_id + 1));
        }
        done.extend(self.changes.iter().flat_map(|change| change.done.iter().cloned()));
        let then = self.changes.into_iter().map(|change| Plan { title: change.title, steps: change.then }).collect();
        (plan, done, then)
    }
}

impl From<ThinChange> for Batch {
    fn from(change: ThinChange) -> Self {
        let mut batch = Self::default();
        batch.add(change);
        batch
    }
}

/// A change alone, with all that follows; when the plan is over it is durable to the end.
pub fn alone(change: ThinChange) -> Plan {
    let (mut plan, done, then) = Batch::from(change).parts();
    plan.commit(done);
    with_what_follows(plan, then)
}

/// A change alone, as a request for it is carried out: what follows is shown behind the shared part.
pub fn as_requested(change: ThinChange) -> Plan {
    let (plan, then) = Batch::from(change).plan();
    with_what_follows(plan, then)
}

fn with_what_follows(mut plan: Plan, then: Vec<Plan>) -> Plan {
    plan.steps.extend(then.into_iter().flat_map(|then| then.steps));
    plan
}

/// Compare-and-swap, and the check that it was kept.
fn swap(plan: &mut Plan, pool: &Pool) {
    let to = pool.transaction_id + 1;
    plan.push(Action::SetTransaction { pool: pool.id, from: pool.transaction_id, to });
    plan.push(Action::CheckPool { pool: pool.id, transaction_id: to });
}

fn settled(pool: &Pool, intent: IntentId, to: u64) -> [Change; 2] {
    [Change::Put(Object::Pool(Pool { transaction_id: to, ..pool.clone() })), Change::Delete(ObjectKey::Intent(intent))]
}

/// The second half: compare-and-swap, check, done record.
pub fn finish(plan: &mut Plan, pool: &Pool, intent: IntentId, done: Vec<Change>) {
    swap(plan, pool);
    settle(plan, pool, intent, pool.transaction_id + 1, done);
}

/// The done record alone: what is left to do when the kernel is already at `to`.
pub fn settle(plan: &mut Plan, pool: &Pool, intent: IntentId, to: u64, done: Vec<Change>) {
    let mut changes = settled(pool, intent, to).to_vec();
    changes.extend(done);
    plan.commit(changes);
}
