//! What is read of a pool's metadata past the pool: what was committed last, or the metadata snapshot; and the test's own
//! messages to a pool, behind the daemon's back.

use std::collections::{BTreeMap, BTreeSet};

use vol_core::observed::{Kin, PoolContents, PoolSharing, ThinChanges, ThinRecord};
use vol_engine::host::{ChangesCall, HostErrorKind, HostResult, MetadataRoot};

use crate::effect::Mishap;
use crate::host::SimHost;
use crate::mapper::dm_dev;
use crate::pool::{BLOCK, MAGIC, PoolDisk, ThinFlaw, checksum};
use crate::world::{World, fail};

/// A metadata snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub contents: PoolContents,
    pub mappings: Mappings,
}

/// By thin id: its chunks, and the data blocks behind them.
pub(crate) type Mappings = BTreeMap<u32, BTreeMap<u64, u64>>;

impl PoolDisk {
    pub fn mappings(&self) -> Mappings {
        self.thins.iter().map(|(id, thin)| (*id, thin.blocks.clone())).collect()
    }

    /// As the kernel's records have it.
    pub fn contents(&self) -> PoolContents {
        let record = |thin: &crate::pool::Thin| ThinRecord {
            mapped_chunks: thin.blocks.len() as u64,
            transaction_id: thin.created_transaction,
        };
        PoolContents {
            transaction_id: self.transaction_id,
            clock: self.clock,
            needs_check: self.needs_check,
            thins: self.thins.iter().map(|(id, thin)| (*id, record(thin))).collect(),
        }
    }
}

impl World {
    pub fn pool_on(&self, what: &str, minor: u32) -> HostResult<&PoolDisk> {
        let bytes = self.read_linear(what, dm_dev(minor), 0, BLOCK)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return fail(HostErrorKind::Invalid, what, "the first block is blank");
        }
        let state = u64::from_le_bytes(<[u8; 8]>::try_from(&bytes[64..72]).unwrap_or_default());
        let sound = bytes[..4] == checksum(&bytes[4..]).to_le_bytes() && bytes[32..40] == MAGIC.to_le_bytes();
        match self.pool_states.get(&state).filter(|_| sound) {
            Some(disk) => Ok(disk),
            None => fail(HostErrorKind::Invalid, what, "the superblock is damaged"),
        }
    }

    pub fn pool_contents(&self, what: &str, minor: u32, root: MetadataRoot) -> HostResult<PoolContents> {
        let disk = self.pool_on(what, minor)?;
        match (root, &disk.held) {
            (MetadataRoot::Committed, _) => Ok(disk.contents()),
            (MetadataRoot::Held, Some(held)) => {
                Ok(PoolContents { needs_check: disk.needs_check, ..held.contents.clone() })
            }
            (MetadataRoot::Held, None) => fail(HostErrorKind::NotFound, what, "no metadata snapshot is held"),
        }
    }

    pub fn pool_sharing(
        &self,
        what: &str,
        minor: u32,
        root: MetadataRoot,
        kin: &BTreeMap<u32, Kin>,
    ) -> HostResult<PoolSharing> {
        let (contents, mappings) = self.pool_mappings(what, minor, root)?;
        Ok(shared(contents, &mappings, kin))
    }

    fn pool_mappings(&self, what: &str, minor: u32, root: MetadataRoot) -> HostResult<(PoolContents, Mappings)> {
        let contents = self.pool_contents(what, minor, root)?;
        let disk = self.pool_on(what, minor)?;
        if !matches!(disk.flaw, ThinFlaw::None | ThinFlaw::SpaceMaps) {
            return fail(HostErrorKind::Invalid, what, "a node of the mappings is damaged");
        }
        let mappings = match (root, &disk.held) {
            (MetadataRoot::Held, Some(held)) => held.mappings.clone(),
            _ => disk.mappings(),
        };
        Ok((contents, mappings))
    }

    /// From the mappings in full. Time passes with each chunk: a call with no time gives a few of them.
    pub fn pool_changes(&self, what: &str, minor: u32, call: &ChangesCall<'_>) -> HostResult<ThinChanges> {
        let (contents, mappings) = self.pool_mappings(what, minor, call.root)?;
        let of = |id: u32| match mappings.get(&id) {
            Some(blocks) => Ok(blocks.clone()),
            None => fail(HostErrorKind::NotFound, what, "there is no such thin id"),
        };
        let (target, base) = (of(call.target)?, call.base.map(of).transpose()?.unwrap_or_default());
        let mut found = ThinChanges { transaction_id: contents.transaction_id, ..ThinChanges::default() };
        let all: BTreeSet<u64> = base.keys().chain(target.keys()).copied().collect();
        for (count, chunk) in all.into_iter().filter(|chunk| call.chunks.contains(chunk)).enumerate() {
            if call.enough.is_zero() && count >= 2 {
                found.next = Some(chunk);
                break;
            }
            if base.get(&chunk) == target.get(&chunk) {
                continue;
            }
            let is_full = found.ranges.len() >= call.most;
            match found.ranges.last_mut() {
                Some(last) if last.end == chunk => last.end = chunk + 1,
                _ if is_full => {
                    found.next = Some(chunk);
                    break;
                }
                _ => found.ranges.push(chunk..chunk + 1),
            }
        }
        Ok(found)
    }
}

/// From the mappings in full; the real host walks trees instead.
fn shared(contents: PoolContents, mappings: &Mappings, kin: &BTreeMap<u32, Kin>) -> PoolSharing {
    let mut users: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for (id, blocks) in mappings {
        for block in blocks.values() {
            users.entry(*block).or_default().insert(*id);
        }
    }
    let mut found = PoolSharing { contents, mapped: users.len() as u64, ..PoolSharing::default() };
    found.exclusive = mappings.keys().map(|id| (*id, 0)).collect();
    for of in kin.iter().filter(|(id, _)| mappings.contains_key(id)).map(|(_, of)| of) {
        found.sets.insert(of.set, 0);
        found.families.insert(of.family, 0);
    }
    for users in users.values() {
        let Some(first) = users.first() else { continue };
        if users.len() == 1 {
            *found.exclusive.entry(*first).or_default() += 1;
        }
        let Some(of) = kin.get(first) else { continue };
        let all = |part: fn(&Kin) -> u32| users.iter().all(|id| kin.get(id).map(part) == Some(part(of)));
        if all(|of| of.set) {
            *found.sets.entry(of.set).or_default() += 1;
        }
        if all(|of| of.family) {
            *found.families.entry(of.family).or_default() += 1;
        }
    }
    found
}

impl SimHost {
    /// A message to a pool by somebody else, as with `dmsetup message`: no effect of the daemon's, no faults.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn foreign_message(&self, pool_uuid: &str, message: &str) {
        let mut world = self.lock();
        let sent = world.message("foreign message", pool_uuid, message, Mishap(None));
        assert!(sent.is_ok(), "{message}: {sent:?}");
    }
}
