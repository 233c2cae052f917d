//! Plans: from a catalog, an observed world and a request to an ordered list of steps, or to a refusal.
//!
//! One file per feature. A planner makes every choice; the executor makes none. Should a step fail, the engine does not
//! undo step by step: it observes the world again and asks [`recover`] for the next plan, exactly as after a crash, so
//! that there is one road back and tests can walk all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vol_types::{Bytes, Change, Pool, PoolId, PvId, Volume, VolumeId};

use crate::catalog::Catalog;
use crate::dm::Device;
use crate::observed::{DmInfo, Mount, PoolStatus};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, Step};

pub mod agreement;
pub mod change;
pub mod clone;
pub mod disks;
pub mod fs;
pub mod grow;
pub mod health;
pub mod members;
pub mod mount;
pub mod node;
pub mod pool;
pub mod recover;
pub mod rejoin;
pub mod repair;
pub mod reserve;
pub mod restore;
pub mod rollback;
pub mod snapshot;
pub mod thick;
pub mod thin;
pub mod trash;
pub mod vg;
pub mod volume;

/// Steps to be executed in order. A plan without steps says that all is already as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the plan is for, in a few words.
    pub title: String,
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), steps: Vec::new() }
    }
    pub fn push(&mut self, action: Action) {
        self.steps.push(Step::new(action));
    }
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
    /// The changes of all commits, in order: what the catalog will be if the plan succeeds.
    pub fn commits(&self) -> impl Iterator<Item = &Vec<Change>> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::Commit { changes } | Action::CommitLater { changes } => Some(changes),
            _ => None,
        })
    }
    fn commit(&mut self, changes: Vec<Change>) {
        self.push(Action::Commit { changes });
    }
}

/// What was observed of the kernel, as far as one VG is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Our dm devices.
    pub dm: BTreeMap<Device, DmInfo>,
    /// Status of the VG's active pools.
    pub pools: BTreeMap<PoolId, PoolStatus>,
    pub mounts: Vec<Mount>,
    /// What volumes with a reserve had mapped in their pools when that was last seen, as far as it was.
    pub mapped: BTreeMap<VolumeId, Bytes>,
    /// PVs that are not there, while devices may still stand on them.
    pub away: BTreeSet<PvId>,
    /// What was found when the pools' own metadata were last compared with ours; nothing of a pool where they were not.
    pub findings: BTreeMap<PoolId, Arc<agreement::Findings>>,
}

impl Kernel {
    /// Mounts of one device of ours.
    pub fn mounts_of(&self, device: Device) -> Vec<&Mount> {
        let Some(info) = self.dm.get(&device) else { return Vec::new() };
        self.mounts.iter().filter(|mount| mount.dev == info.dev).collect()
    }

    /// Those of its file system, without those that show its node.
    pub fn fs_mounts_of(&self, device: Device) -> Vec<&Mount> {
        self.mounts_of(device).into_iter().filter(|mount| !mount.is_node()).collect()
    }
}

/// The pool of a thin volume, or the reason why there is none.
fn pool_of<'a>(catalog: &'a Catalog, volume: &Volume, path: &str) -> Result<&'a Pool, Refusal> {
    if volume.pool().is_none() {
        return Err(Refusal::invalid(format!("{path} is a thick volume: it has extents of its own, and no pool")));
    }
    catalog.pool_of(volume).ok_or_else(|| Refusal::not_found(format!("the pool of {path} is not there")))
}

/// A volume whose space can be changed now: in a pool that takes changes, or with extents of its own.
fn changeable(catalog: &Catalog, kernel: &Kernel, volume: &Volume, path: &str) -> Result<(), Refusal> {
    if volume.thick().is_some() {
        return thick::not_being_copied(catalog, volume, path, "change");
    }
    let pool = pool_of(catalog, volume, path)?;
    writable_pool(pool, kernel, catalog.intents_of(pool.id).next().is_some())
}

/// A pool that can be changed now, or the reason why not.
fn writable_pool(pool: &Pool, kernel: &Kernel, busy_with: bool) -> Result<(), Refusal> {
    match health::without_disk(kernel, pool)
        .unwrap_or_else(|| health::of_pool(pool, kernel.pools.get(&pool.id), busy_with))
    {
        health::PoolHealth::Ok => Ok(()),
        health::PoolHealth::Bad { message, hint } => Err(Refusal::new(RefusalCode::Degraded, message).hint(hint)),
    }
}
