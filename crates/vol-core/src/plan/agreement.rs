//! The kernel's thin ids against ours: what each side has that the other does not know (`docs/spec/pool-transactions.md`).
//!
//! Nothing is ever deleted because of what is found here. Ids that nobody explains are *strays*: reported, and stepped over
//! by the id counter. A volume without its id is *lost*: that volume alone is refused.

use std::collections::{BTreeMap, BTreeSet};

use vol_types::{Backing, Content, Intent, Pool, PoolId, ThinOp, Volume, VolumeId, limit};

use crate::catalog::Catalog;
use crate::observed::{PoolContents, ThinRecord};
use crate::plan::Kernel;
use crate::refusal::{Refusal, RefusalCode};

/// What a comparison found. It stays true until the next one as far as it is used: strays are not ours to delete, ids are
/// never used again, and the clock only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The pool's transaction id in its own metadata, when they were read.
    pub transaction_id: u64,
    /// The pool's snapshot clock then.
    pub clock: u32,
    /// The highest thin id that the pool has.
    pub highest: Option<u32>,
    /// Ids of the pool that no volume has and no open intent explains. `None` of one that is known only because the kernel
    /// would not make it.
    pub strays: BTreeMap<u32, Option<ThinRecord>>,
    /// Volumes whose id the pool does not have.
    pub lost: BTreeSet<VolumeId>,
}

impl Findings {
    /// The kernel says that an id is taken which was never asked for before: it is somebody else's.
    pub fn add_stray(&mut self, id: u32) {
        self.strays.entry(id).or_insert(None);
        self.highest = self.highest.max(Some(id));
    }
}

/// Compares a pool's own metadata with the catalog. No change of the pool may run between the reading and this.
pub fn compare(catalog: &Catalog, pool: &Pool, contents: &PoolContents) -> Findings {
    // What an open intent is making, and the transaction that it must have been made in.
    let mut making = BTreeMap::new();
    for intent in catalog.intents_of(pool.id) {
        for op in &intent.ops {
            match op {
                ThinOp::Create { thin_id, .. }
                | ThinOp::Snapshot { thin_id, .. }
                | ThinOp::Rollback { thin_id, .. } => drop(making.insert(*thin_id, intent.from)),
                ThinOp::Delete { .. } => {}
            }
        }
    }
    // In the order of the ids, as the pool's own are: both are gone through from one end to the other.
    let mut ours: Vec<_> = catalog.volumes_of(pool.id).filter_map(|volume| Some((volume.thin_id()?, volume))).collect();
    ours.sort_by_key(|(thin_id, _)| *thin_id);
    let mut lost = BTreeSet::new();
    for &(thin_id, volume) in &ours {
        // Behind the swap, what the intent made is there, though only the kernel says so yet. What was to be formatted and never was
        // is taken back anyway.
        let made = making.get(&thin_id).is_some_and(|from| contents.transaction_id > *from);
        let there = volume.state.is_settled() || made && volume.content != Content::Blank;
        if there && !contents.thins.contains_key(&thin_id) {
            lost.insert(volume.id);
        }
    }
    let stray = |id: &u32, record: &ThinRecord| match making.get(id) {
        // Before the swap, what the intent made was made in its transaction; what is older was there before it.
        Some(from) => contents.transaction_id == *from && record.transaction_id != *from,
        None => ours.binary_search_by_key(id, |(thin_id, _)| *thin_id).is_err(),
    };
    Findings {
        transaction_id: contents.transaction_id,
        clock: contents.clock,
        highest: contents.thins.last_key_value().map(|(id, _)| *id),
        strays: contents
            .thins
            .iter()
            .filter(|(id, record)| stray(id, record))
            .map(|(id, record)| (*id, Some(*record)))
            .collect(),
        lost,
    }
}

/// The pool with its counters where they must at least be: past every id that the kernel has, and at its snapshot clock.
/// They become durable with the intent of the change that asks, before any message is sent.
pub fn raised(pool: &Pool, kernel: &Kernel) -> Pool {
    let Some(findings) = kernel.findings.get(&pool.id) else { return pool.clone() };
    let past = findings.highest.map_or(0, |highest| highest.saturating_add(1));
    Pool {
        next_thin_id: pool.next_thin_id.max(past),
        snapshots_made: pool.snapshots_made.max(findings.clock),
        ..pool.clone()
    }
}

/// The pool's snapshot clock: the larger of our count and the kernel's.
pub fn clock(pool: &Pool, kernel: &Kernel) -> u32 {
    raised(pool, kernel).snapshots_made
}

/// From this on a pool's snapshot clock is a problem: 90 % of what is allowed.
pub const CLOCK_WARNING: u32 = limit::POOL_SNAPSHOTS_MAX / 10 * 9;

/// Whether an id of the pool is known not to be ours.
pub fn is_stray(kernel: &Kernel, pool: PoolId, thin_id: u32) -> bool {
    kernel.findings.get(&pool).is_some_and(|findings| findings.strays.contains_key(&thin_id))
}

/// Refuses a volume whose thin id the pool does not have; `path` names it.
pub fn not_lost(kernel: &Kernel, volume: &Volume, path: &str) -> Result<(), Refusal> {
    let Backing::Thin { pool, thin_id } = &volume.backing else { return Ok(()) };
    let lost = kernel.findings.get(pool).is_some_and(|findings| findings.lost.contains(&volume.id));
    if !lost {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::Degraded,
        format!("the pool does not have thin id {thin_id}, which is that of {path}: its data are not there"),
    )
    .hint("other volumes of the pool are not affected; see pool_lost_thin in docs/troubleshooting.md"))
}

/// Refuses to delete a pool that holds strays: an old catalog may not know of the volumes that they are.
pub fn none_to_lose(kernel: &Kernel, pool: &Pool, path: &str) -> Result<(), Refusal> {
    match kernel.findings.get(&pool.id) {
        Some(findings) if !findings.strays.is_empty() => Err(Refusal::new(
            RefusalCode::Refused,
            format!(
                "pool {path} has thin ids that no volume of ours has ({}): they may be somebody's volumes",
                listed(findings.strays.keys())
            ),
        )
        .hint("look into them, delete those that nobody needs and restart volumed; see pool_stray_thin in docs/troubleshooting.md")),
        _ => Ok(()),
    }
}

/// Thin ids for people: the first of them, and how many more.
pub fn listed<'a>(ids: impl IntoIterator<Item = &'a u32>) -> String {
    const SHOWN: usize = 8;
    let all: Vec<_> = ids.into_iter().collect();
    let first: Vec<_> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// What an open intent was about, for people.
pub fn intent_in_words(intent: &Intent) -> String {
    let ops: Vec<_> = intent
        .ops
        .iter()
        .take(8)
        .map(|op| match op {
            ThinOp::Create { thin_id, .. } => format!("create {thin_id}"),
            ThinOp::Snapshot { thin_id, origin_thin_id, .. } => format!("snapshot {thin_id} of {origin_thin_id}"),
            ThinOp::Delete { thin_id, .. } => format!("delete {thin_id}"),
            ThinOp::Rollback { thin_id, origin_thin_id, .. } => format!("roll back with {thin_id} of {origin_thin_id}"),
        })
        .collect();
    let more = intent.ops.len().saturating_sub(ops.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} to {} ({}{more})", intent.from, intent.from.saturating_add(1), ops.join(", "))
}
