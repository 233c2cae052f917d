//! Earlier points of a store's history, kept so that a copy that is behind can be shown to be old rather than different.
//!
//! The last commits are kept one by one, because a crash leaves copies a few commits apart; further back, the points of
//! checkpoints. They stand in the header of each checkpoint (`docs/spec/on-disk-format.md`, FMT-18).

use std::collections::BTreeMap;

use vol_format::checkpoint::{ANCESTORS_MAX, Ancestor};
use vol_format::record::ChainHash;

/// Commits that are remembered one by one.
const RECENT: usize = ANCESTORS_MAX - CHECKPOINTS;
/// Checkpoints that are remembered.
const CHECKPOINTS: usize = 16;

#[derive(Clone, Debug, Default)]
pub struct Ancestry {
    recent: BTreeMap<u64, ChainHash>,
    checkpoints: BTreeMap<u64, ChainHash>,
}

impl Ancestry {
    /// From all points that opening came across.
    pub fn from_known(known: &BTreeMap<u64, ChainHash>) -> Self {
        let mut ancestry = Self { recent: known.clone(), checkpoints: BTreeMap::new() };
        let older = known.len().saturating_sub(RECENT);
        ancestry.checkpoints.extend(known.iter().take(older));
        ancestry.prune();
        ancestry
    }

    pub fn committed(&mut self, sequence: u64, hash: ChainHash) {
        self.recent.insert(sequence, hash);
        self.prune();
    }

    pub fn checkpointed(&mut self, sequence: u64, hash: ChainHash) {
        self.checkpoints.insert(sequence, hash);
        self.prune();
    }

    fn prune(&mut self) {
        for (points, most) in [(&mut self.recent, RECENT), (&mut self.checkpoints, CHECKPOINTS)] {
            while points.len() > most {
                points.pop_first();
            }
        }
    }

    /// The points before `sequence`, newest first.
    pub fn before(&self, sequence: u64) -> Vec<Ancestor> {
        let mut all = self.checkpoints.clone();
        all.extend(&self.recent);
        let older = all.range(..sequence).rev().take(ANCESTORS_MAX);
        older.map(|(sequence, hash)| Ancestor { sequence: *sequence, hash: *hash }).collect()
    }
}
