//! The metadata of one VG on its disks: a log of commits and two checkpoint slots on each PV that carries a copy.
//!
//! The bytes and the rules are in `docs/spec/on-disk-format.md`; this module does the writing and keeps the positions.
//! A commit is one record appended to every copy, written through (one flush each, side by side), and counts when a
//! majority of the copies has it. Until then nobody sees it: the catalog in memory changes after the disks.
//!
//! What holds after a failure: a commit that did not reach a majority may or may not be found at the next opening, as
//! after a power cut; the store takes no further commit until the VG is opened again ([`StoreError::Frozen`]).

use std::sync::{Arc, PoisonError, RwLock};

use vol_core::Catalog;
use vol_format::layout::{BLOCK, Geometry};
use vol_format::record::{self, ChainHash};
use vol_format::{checkpoint, label};
use vol_types::{Change, CommitPoint, Object, ObjectKey, PvId, VgId};

use crate::host::{BlockWrite, DurableWrite, HostError, HostMut, HostResult};
use crate::pvs::OpenPvs;

mod ancestry;
mod open;

pub use open::open;

use ancestry::Ancestry;

/// Why a commit, or the making of a store, failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the metadata could be written to {written} of {copies} copies only: {first}")]
    NoMajority { written: usize, copies: usize, first: HostError },
    /// A new VG needs all of its copies.
    #[error("a copy of the metadata could not be begun: {0}")]
    FirstCheckpoint(HostError),
    #[error("the volume group takes no changes: {0}")]
    Frozen(String),
    #[error("the metadata area is full: {needed} bytes are needed, {room} are there")]
    Full { needed: u64, room: u64 },
    #[error("the change is too large for one record: {0}")]
    TooLarge(String),
    #[error("no PV of the volume group carries metadata")]
    NoCopies,
    /// What would be written breaks an invariant: a defect of ours, stopped before it reaches the disks.
    #[error("the change was stopped before it was written, because the result would be wrong: {0}")]
    Invariant(String),
}

/// One copy of the metadata.
struct StoreCopy {
    id: record::Copy,
    device: Arc<dyn BlockWrite>,
    geometry: Geometry,
    /// Where the next record goes, a position that only grows.
    log_position: u64,
    /// The slot of the newest checkpoint, and where the log behind it begins.
    slot: u8,
    log_start: u64,
    /// Set at the first failed write: what stands there is unknown, so it is not written to again before it is opened anew.
    failed: Option<HostError>,
}

/// The open store of a VG.
pub struct Store {
    vg: VgId,
    sequence: u64,
    hash: ChainHash,
    ancestry: Ancestry,
    copies: Vec<StoreCopy>,
    /// Copies the VG is to have, present or not: the majority is of these.
    wanted: usize,
    frozen: Option<String>,
    /// Bytes that a checkpoint would take now, at most.
    checkpoint_estimate: u64,
    /// Commits and checkpoints since it was opened.
    counters: StoreCounters,
}

/// What the store did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounters {
    pub commits: u64,
    pub commit_bytes: u64,
    pub checkpoints: u64,
}

impl Store {
    /// Writes the first checkpoint of a new VG to every PV that is to carry metadata. The labels come later: until then
    /// nothing finds it.
    pub fn start<H: HostMut + ?Sized>(host: &H, objects: &[Object], pvs: &OpenPvs) -> Result<Self, StoreError> {
        let vg = objects
            .iter()
            .find_map(|object| match object {
                Object::Vg(vg) => Some(vg.id),
                _ => None,
            })
            .ok_or(StoreError::NoCopies)?;
        let payload = checkpoint::encode_payload(objects).map_err(|error| StoreError::TooLarge(error.to_string()))?;
        let sequence = 1;
        let hash = record::chain(vg, &record::GENESIS, sequence, &payload);
        let mut copies = Vec::new();
        for object in objects {
            let Object::Pv(pv) = object else { continue };
            let Some(open) = pvs.get(&pv.id).filter(|_| pv.metadata) else { continue };
            copies.push(StoreCopy {
                id: record::Copy { vg, pv: pv.id },
                device: open.device.clone(),
                geometry: open.geometry,
                log_position: 0,
                // The first checkpoint goes to the other slot, which is slot 0.
                slot: 1,
                log_start: 0,
                failed: None,
            });
        }
        if copies.is_empty() {
            return Err(StoreError::NoCopies);
        }
        let wanted = copies.len();
        let mut store = Self {
            vg,
            sequence,
            hash,
            ancestry: Ancestry::default(),
            copies,
            wanted,
            frozen: None,
            checkpoint_estimate: payload.len() as u64,
            counters: StoreCounters::default(),
        };
        // An older VG may have left a header in the second slot and records in the log.
        for copy in &store.copies {
            let stale = [copy.geometry.checkpoint_offsets[1], copy.geometry.log_offset];
            for offset in stale {
                let write = DurableWrite { device: &copy.device, offset, data: &label::blank() };
                first_error(host.write_durable(&[write])).map_err(StoreError::FirstCheckpoint)?;
            }
        }
        store.write_checkpoint(host, &payload, objects.len() as u64)?;
        if let Some(first) = store.copies.iter().find_map(|copy| copy.failed.clone()) {
            // A new VG begins with all of its copies or not at all.
            return Err(StoreError::FirstCheckpoint(first));
        }
        Ok(store)
    }

    /// Makes `changes` durable together, and then visible in `catalog`.
    pub fn commit<H: HostMut + ?Sized>(
        &mut self,
        host: &H,
        catalog: &RwLock<Catalog>,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        if let Some(reason) = &self.frozen {
            return Err(StoreError::Frozen(reason.clone()));
        }
        let payload = record::encode_payload(changes).map_err(|error| StoreError::TooLarge(error.to_string()))?;
        self.leave_room(catalog, &payload, changes)?;
        self.sound(catalog, changes)?;
        let len = record::disk_len(payload.len()) as u64;
        let log_full = self.copies.iter().any(|copy| copy.failed.is_none() && !copy.has_room(len));
        if log_full {
            self.checkpoint(host, catalog)?;
        }
        let sequence = self.sequence + 1;
        let count = u32::try_from(changes.len()).map_err(|_| StoreError::TooLarge("too many changes".to_owned()))?;
        let mut places = Vec::new();
        for (at, copy) in self.copies.iter().enumerate().filter(|(_, copy)| copy.failed.is_none()) {
            let position = record::place(copy.log_position, len, copy.geometry.log_len);
            let bytes = record::encode(&copy.id, position, sequence, &self.hash, &payload, count);
            places.push((at, position, bytes));
        }
        let writes: Vec<_> = places
            .iter()
            .map(|(at, position, bytes)| DurableWrite {
                device: &self.copies[*at].device,
                offset: self.copies[*at].geometry.log_offset + position % self.copies[*at].geometry.log_len,
                data: bytes,
            })
            .collect();
        let results = host.write_durable(&writes);
        drop(writes);
        for ((at, position, bytes), result) in places.into_iter().zip(results) {
            let copy = &mut self.copies[at];
            match result {
                Ok(()) => copy.log_position = position + bytes.len() as u64,
                Err(error) => copy.fail(error),
            }
        }
        self.majority()?;
        self.hash = record::chain(self.vg, &self.hash, sequence, &payload);
        self.sequence = sequence;
        self.ancestry.committed(sequence, self.hash);
        self.checkpoint_estimate = self.checkpoint_estimate.saturating_add(payload.len() as u64);
        self.counters.commits += 1;
        self.counters.commit_bytes += len;
        catalog.write().unwrap_or_else(PoisonError::into_inner).commit(sequence, changes.to_vec());
        if self.copies.iter().any(|copy| copy.failed.is_none() && copy.half_full())
            && let Err(error) = self.checkpoint(host, catalog)
        {
            // The commit itself is durable; the log has as much room again as it has used.
            tracing::error!(%error, "the checkpoint could not be written; the log goes on");
        }
        Ok(())
    }

    /// Writes the whole catalog to the older slot of every copy, after which the log before it is not needed any more.
    pub fn checkpoint<H: HostMut + ?Sized>(&mut self, host: &H, catalog: &RwLock<Catalog>) -> Result<(), StoreError> {
        let objects = catalog.read().unwrap_or_else(PoisonError::into_inner).objects();
        let payload = checkpoint::encode_payload(&objects).map_err(|error| StoreError::TooLarge(error.to_string()))?;
        self.write_checkpoint(host, &payload, objects.len() as u64)?;
        self.checkpoint_estimate = payload.len() as u64;
        self.counters.checkpoints += 1;
        Ok(())
    }

    fn write_checkpoint<H: HostMut + ?Sized>(
        &mut self,
        host: &H,
        payload: &[u8],
        object_count: u64,
    ) -> Result<(), StoreError> {
        let mut header = checkpoint::Header {
            slot: 0,
            sequence: self.sequence,
            hash: self.hash,
            log_position: 0,
            object_count,
            payload_len: payload.len() as u64,
            payload_hash: checkpoint::payload_hash(payload),
            ancestors: self.ancestry.before(self.sequence),
        };
        for copy in self.copies.iter_mut().filter(|copy| copy.failed.is_none()) {
            let room = copy.geometry.checkpoint_len - BLOCK as u64;
            if payload.len() as u64 > room {
                return Err(StoreError::Full { needed: payload.len() as u64, room });
            }
            header.slot = 1 - copy.slot;
            header.log_position = copy.log_position;
            match copy.write_checkpoint(host, &header, payload) {
                Ok(()) => {
                    copy.slot = header.slot;
                    copy.log_start = copy.log_position;
                }
                Err(error) => copy.fail(error),
            }
        }
        self.ancestry.checkpointed(self.sequence, self.hash);
        self.majority()
    }

    /// Refuses what would not fit a checkpoint any more, while deleting is still possible.
    fn leave_room(&mut self, catalog: &RwLock<Catalog>, payload: &[u8], changes: &[Change]) -> Result<(), StoreError> {
        let Some(room) = self.copies.iter().map(|copy| copy.geometry.checkpoint_len - BLOCK as u64).min() else {
            return Err(StoreError::NoCopies);
        };
        // A tenth is kept for deleting: a tombstone is a change too.
        let creates = changes.iter().any(|change| {
            matches!(change, Change::Put(Object::Intent(intent))
                if !intent.ops.iter().all(|op| matches!(op, vol_types::ThinOp::Delete { .. })))
        });
        let limit = if creates { room - room / 10 } else { room };
        let needed = self.checkpoint_estimate.saturating_add(payload.len() as u64);
        if needed <= limit {
            return Ok(());
        }
        // The estimate counts every change as growth; count exactly before saying no.
        let objects = catalog.read().unwrap_or_else(PoisonError::into_inner).objects();
        let exact = checkpoint::encode_payload(&objects).map_err(|error| StoreError::TooLarge(error.to_string()))?;
        self.checkpoint_estimate = exact.len() as u64;
        let needed = self.checkpoint_estimate.saturating_add(payload.len() as u64);
        if needed <= limit { Ok(()) } else { Err(StoreError::Full { needed, room: limit }) }
    }

    /// In debug builds: the catalog after the change must pass the independent checker.
    fn sound(&self, catalog: &RwLock<Catalog>, changes: &[Change]) -> Result<(), StoreError> {
        if !cfg!(debug_assertions) {
            return Ok(());
        }
        let mut after = catalog.read().unwrap_or_else(PoisonError::into_inner).clone();
        after.commit(self.sequence + 1, changes.to_vec());
        let taken_apart = changes.iter().any(|change| matches!(change, Change::Delete(ObjectKey::Vg(_))));
        match vol_core::check::violations(&after).first() {
            Some(violation) if !taken_apart => Err(StoreError::Invariant(violation.clone())),
            _ => Ok(()),
        }
    }

    /// Takes copies out of use that could not be brought up to date.
    fn drop_copies(&mut self, pvs: &[PvId], why: &StoreError) {
        for copy in self.copies.iter_mut().filter(|copy| pvs.contains(&copy.id.pv) && copy.failed.is_none()) {
            copy.fail(HostError::new(crate::host::HostErrorKind::Other, "bring the copy up to date", why.to_string()));
        }
        if self.majority().is_err() {
            tracing::error!("too few metadata copies are up to date");
        }
    }

    fn written(&self) -> usize {
        self.copies.iter().filter(|copy| copy.failed.is_none()).count()
    }

    fn majority(&mut self) -> Result<(), StoreError> {
        let written = self.written();
        if written > self.wanted / 2 {
            return Ok(());
        }
        let first = self
            .copies
            .iter()
            .find_map(|copy| copy.failed.clone())
            .unwrap_or_else(|| HostError::new(crate::host::HostErrorKind::NotFound, "metadata copies", "missing"));
        self.frozen = Some(format!(
            "its metadata could be written to {written} of {} copies only ({first}); \
             it is read again when the daemon starts or at `volctl pv scan`",
            self.wanted
        ));
        Err(StoreError::NoMajority { written, copies: self.wanted, first })
    }

    /// Why no change is taken, if none is.
    pub fn frozen(&self) -> Option<&str> {
        self.frozen.as_deref()
    }
    /// PVs whose copy failed since it was opened, and how.
    pub fn failed_copies(&self) -> impl Iterator<Item = (PvId, &HostError)> {
        self.copies.iter().filter_map(|copy| Some((copy.id.pv, copy.failed.as_ref()?)))
    }
    /// Copies that are there and copies that there should be.
    pub fn copies(&self) -> (usize, usize) {
        (self.written(), self.wanted)
    }
    /// The newest commit.
    pub fn head(&self) -> CommitPoint {
        CommitPoint { sequence: self.sequence, hash: self.hash }
    }
    pub fn counters(&self) -> StoreCounters {
        self.counters
    }
}

impl StoreCopy {
    fn fail(&mut self, error: HostError) {
        tracing::error!(pv = %self.id.pv, %error, "a metadata copy failed and is not written to any more");
        self.failed = Some(error);
    }

    /// Whether a record of this length can be put without touching what the newest checkpoint still needs.
    fn has_room(&self, len: u64) -> bool {
        let end = record::place(self.log_position, len, self.geometry.log_len) + len;
        end - self.log_start <= self.geometry.log_len
    }

    fn half_full(&self) -> bool {
        (self.log_position - self.log_start) * 2 > self.geometry.log_len
    }

    /// Payload, flush, header: a header that can be read vouches for its payload.
    fn write_checkpoint<H: HostMut + ?Sized>(
        &self,
        host: &H,
        header: &checkpoint::Header,
        payload: &[u8],
    ) -> HostResult<()> {
        let offset = self.geometry.checkpoint_offsets[usize::from(header.slot)];
        // The old header goes first: while the payload is half written, nothing may vouch for it.
        let blank = label::blank();
        first_error(host.write_durable(&[DurableWrite { device: &self.device, offset, data: &blank }]))?;
        for (at, part) in payload.chunks(1 << 20).enumerate() {
            self.device.write_at(offset + BLOCK as u64 + (at << 20) as u64, part)?;
        }
        self.device.flush()?;
        let header = header.encode(&self.id);
        first_error(host.write_durable(&[DurableWrite { device: &self.device, offset, data: &header }]))
    }
}

fn first_error(results: Vec<HostResult<()>>) -> HostResult<()> {
    results.into_iter().collect()
}
