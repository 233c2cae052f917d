//! The metadata of one VG on its disks: a log of commits and two checkpoint slots on each PV that carries a copy.
//!
//! The bytes and the rules are in `docs/spec/on-disk-format.md`; this module does the writing and keeps the positions.
//! A commit is one record appended to every copy, written through (one flush each, side by side), and counts when a
//! majority of the copies has it. Until then nobody sees it: the catalog in memory changes after the disks. The ends of pool
//! transactions alone are seen before, and ride on the next commit (`owed`).
//!
//! A checkpoint is written beside the commits that go on, as a [`CheckpointJob`] that somebody carries out in small steps;
//! only a commit that finds no room in a log does so itself.
//!
//! What holds after a failure: a commit that did not reach a majority may or may not be found at the next opening, as
//! after a power cut; the store takes no further commit until the VG is opened again ([`StoreError::Frozen`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use vol_core::Catalog;
use vol_format::checkpoint::{self, Header};
use vol_format::layout::BLOCK;
use vol_format::record::{self, ChainHash};
use vol_types::{Change, CommitPoint, Object, ObjectKey, PvId, VgId, defect};

use crate::host::{DurableWrite, HostError, HostErrorKind, HostMut, HostResult};
use crate::pvs::OpenPvs;

mod ancestry;
mod checkpoint_job;
mod copy;
mod history;
mod members;
mod open;
mod owed;
mod told;

pub use checkpoint_job::CheckpointJob;
pub use open::open;
pub use told::{Told, former, told};

use ancestry::Ancestry;
use copy::StoreCopy;
use owed::Owed;

/// Why a commit, or the making of a store, failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the metadata could be written to {written} of {copies} copies only: {first}")]
    NoMajority { written: usize, copies: usize, first: HostError },
    /// A new VG needs all of its copies, and a new copy its first checkpoint.
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

/// Why the store takes no changes.
#[derive(Clone, Debug)]
enum Frozen {
    /// Too few copies are there or can be written. More disks, or an operator's word that they are lost, end it.
    NoMajority(String),
    /// What stands on the disks contradicts itself: only a person can know which is right.
    Judgement(String),
}

impl Frozen {
    fn reason(&self) -> &str {
        match self {
            Self::NoMajority(reason) | Self::Judgement(reason) => reason,
        }
    }
}

/// The open store of a VG.
pub struct Store {
    vg: VgId,
    sequence: u64,
    hash: ChainHash,
    ancestry: Ancestry,
    /// Copies that are there: those of the members, and what was admitted to become one.
    copies: Vec<StoreCopy>,
    /// PVs that carry a copy, present or not: the majority is of these.
    members: BTreeSet<PvId>,
    /// Members that an operator declared lost: they are not counted.
    lost: BTreeSet<PvId>,
    /// Where the copies were left that are members and not written to; see `Pv::left`.
    left: BTreeMap<PvId, Vec<CommitPoint>>,
    /// Whether the catalog says otherwise than `left`.
    left_changed: bool,
    frozen: Option<Frozen>,
    /// Objects of the commit that the store froze at: whether they were changed, only the next opening can tell.
    undecided: BTreeSet<ObjectKey>,
    /// What is in force and on no disk yet.
    owed: Owed,
    /// Bytes that a checkpoint would take now, at most.
    checkpoint_estimate: u64,
    /// Bytes of all commits since the job was begun.
    grown: u64,
    job: Option<Arc<Mutex<CheckpointJob>>>,
    /// Commits and checkpoints since it was opened, and of the store that it took the place of ([`Store::count_on`]).
    counters: StoreCounters,
}

/// What the store did since the group was opened first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounters {
    pub commits: u64,
    /// Of each copy.
    pub commit_bytes: u64,
    pub checkpoints: u64,
    /// Commits that were not made: refused, or not durable on enough copies.
    pub failed_commits: u64,
    /// Bytes written to all copies together, checkpoints included.
    pub written_bytes: u64,
    /// Flushes of all copies together; a write that is durable by itself counts as one.
    pub flushes: u64,
}

impl StoreCounters {
    const fn plus(self, other: Self) -> Self {
        Self {
            commits: self.commits.saturating_add(other.commits),
            commit_bytes: self.commit_bytes.saturating_add(other.commit_bytes),
            checkpoints: self.checkpoints.saturating_add(other.checkpoints),
            failed_commits: self.failed_commits.saturating_add(other.failed_commits),
            written_bytes: self.written_bytes.saturating_add(other.written_bytes),
            flushes: self.flushes.saturating_add(other.flushes),
        }
    }
}

impl Store {
    /// A store at this point of a history.
    fn at(vg: VgId, sequence: u64, hash: ChainHash, members: BTreeSet<PvId>) -> Self {
        Self {
            vg,
            sequence,
            hash,
            ancestry: Ancestry::default(),
            copies: Vec::new(),
            members,
            lost: BTreeSet::new(),
            left: BTreeMap::new(),
            left_changed: false,
            frozen: None,
            undecided: BTreeSet::new(),
            owed: Owed::default(),
            checkpoint_estimate: u64::MAX / 2,
            grown: 0,
            job: None,
            counters: StoreCounters::default(),
        }
    }

    /// Writes the first checkpoint of a new VG to every PV that is to carry metadata. The labels come later: until then
    /// nothing finds it.
    pub fn start<H: HostMut + ?Sized>(host: &H, objects: &[Object], pvs: &OpenPvs) -> Result<Self, StoreError> {
        Self::start_at(host, objects, pvs, 1)
    }

    /// As [`Store::start`], with another number for the first commit: a history that is to win over one that ends before it.
    pub fn start_at<H: HostMut + ?Sized>(
        host: &H,
        objects: &[Object],
        pvs: &OpenPvs,
        sequence: u64,
    ) -> Result<Self, StoreError> {
        let vg = objects
            .iter()
            .find_map(|object| match object {
                Object::Vg(vg) => Some(vg.id),
                _ => None,
            })
            .ok_or(StoreError::NoCopies)?;
        let payload = checkpoint::encode_payload(objects).map_err(|error| StoreError::TooLarge(error.to_string()))?;
        let hash = record::chain(vg, &record::GENESIS, sequence, &payload);
        let mut copies = Vec::new();
        for object in objects {
            let Object::Pv(pv) = object else { continue };
            let Some(open) = pvs.get(&pv.id).filter(|_| pv.metadata) else { continue };
            copies.push(StoreCopy::blank(record::Copy { vg, pv: pv.id }, open));
        }
        if copies.is_empty() {
            return Err(StoreError::NoCopies);
        }
        let members = copies.iter().map(|copy| copy.id.pv).collect();
        let mut store = Self { copies, ..Self::at(vg, sequence, hash, members) };
        for copy in &store.copies {
            store.empty(host, copy)?;
        }
        store.job =
            Some(Arc::new(Mutex::new(CheckpointJob::new(store.header(), objects.to_vec(), store.copies.iter()))));
        store.finish_checkpoint(host)?;
        if let Some(first) = store.copies.iter().find_map(|copy| copy.failed.clone()) {
            // A new VG begins with all of its copies or not at all.
            return Err(StoreError::FirstCheckpoint(first));
        }
        store.counters = StoreCounters::default();
        Ok(store)
    }

    /// Makes `changes` durable together, with what is owed ([`Store::commit_later`]), and then visible in `catalog`.
    pub fn commit<H: HostMut + ?Sized>(
        &mut self,
        host: &H,
        catalog: &RwLock<Catalog>,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        self.try_commit(host, catalog, changes).inspect_err(|_| self.counters.failed_commits += 1)
    }

    fn try_commit<H: HostMut + ?Sized>(
        &mut self,
        host: &H,
        catalog: &RwLock<Catalog>,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        self.changeable()?;
        let asked = changes;
        let changes = self.owed.with(asked);
        let changes = self.with_left_points(catalog, &changes);
        let payload = match record::encode_payload(&changes) {
            Ok(payload) => payload,
            Err(_) if self.owes() && !asked.is_empty() => {
                // Each fits a record by itself.
                self.try_commit(host, catalog, &[])?;
                return self.try_commit(host, catalog, asked);
            }
            Err(error) => return Err(StoreError::TooLarge(error.to_string())),
        };
        self.leave_room(catalog, &payload, &changes)?;
        self.sound(catalog, &changes)?;
        let len = record::disk_len(payload.len()) as u64;
        let told = self.left.clone();
        // The checkpoint under way may have begun so long ago that the log is full again behind it; a new one always suffices
        // (FMT-14).
        for _ in 0..2 {
            if self.copies.iter().any(|copy| copy.failed.is_none() && !copy.has_room(len)) {
                self.begin_checkpoint(catalog);
                self.finish_checkpoint(host)?;
            }
        }
        let sequence = self.sequence + 1;
        let count = u32::try_from(changes.len()).map_err(|_| StoreError::TooLarge("too many changes".to_owned()))?;
        let hash = record::chain(self.vg, &self.hash, sequence, &payload);
        let before = CommitPoint { sequence: self.sequence, hash: self.hash };
        let after = CommitPoint { sequence, hash };
        // A copy that failed in a checkpoint just now is told of by the next commit: this one was encoded before.
        self.left_changed = self.left != told;
        self.append(host, sequence, &payload, count, [before, after]);
        let members = self.members_after(&changes);
        let moved = members.as_ref().is_some_and(|after| members::moved(&self.members, after));
        if defect("a change is seen before it is durable") {
            write(catalog, |catalog| catalog.commit(sequence, changes.to_vec()));
        }
        let decided = self
            .majority(&self.members.clone())
            .and_then(|()| members.as_ref().map_or(Ok(()), |members| self.majority(members)));
        if let Err(error) = decided {
            // What is owed was decided before: the kernel has done it.
            self.undecided.extend(asked.iter().map(Change::key));
            return Err(error);
        }
        if let Some(members) = members {
            self.set_members(members);
        }
        self.hash = hash;
        self.sequence = sequence;
        self.ancestry.committed(sequence, hash);
        self.checkpoint_estimate = self.checkpoint_estimate.saturating_add(payload.len() as u64);
        self.grown = self.grown.saturating_add(payload.len() as u64);
        self.counters.commits += 1;
        self.counters.commit_bytes += len;
        write(catalog, |catalog| catalog.commit(sequence, changes.into_owned()));
        self.owed = Owed::default();
        if moved { self.settle_members(host, catalog) } else { Ok(()) }
    }

    /// One record to every copy in good standing, side by side. A copy on which it fails may have been left at either of `points`.
    fn append<H: HostMut + ?Sized>(
        &mut self,
        host: &H,
        sequence: u64,
        payload: &[u8],
        count: u32,
        points: [CommitPoint; 2],
    ) {
        let len = record::disk_len(payload.len()) as u64;
        let mut places = Vec::new();
        for (at, copy) in self.copies.iter().enumerate().filter(|(_, copy)| copy.failed.is_none()) {
            let position = record::place(copy.log_position, len, copy.geometry.log_len);
            let bytes = record::encode(&copy.id, position, sequence, &self.hash, payload, count);
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
        self.counters.flushes += results.len() as u64;
        self.counters.written_bytes += len.saturating_mul(results.len() as u64);
        for ((at, position, bytes), result) in places.into_iter().zip(results) {
            let copy = &mut self.copies[at];
            match result {
                Ok(()) => copy.log_position = position + bytes.len() as u64,
                Err(error) => {
                    copy.fail(error);
                    let pv = copy.id.pv;
                    self.leave(pv, points);
                }
            }
        }
    }

    /// Whether a log is so full that a checkpoint is wanted.
    pub fn wants_checkpoint(&self) -> bool {
        self.frozen.is_none()
            && self.job.is_none()
            && self.copies.iter().any(|copy| copy.failed.is_none() && copy.half_full())
    }

    /// The checkpoint under way, for whoever carries it out; begun if one is wanted.
    pub fn checkpoint_job(&mut self, catalog: &RwLock<Catalog>) -> Option<Arc<Mutex<CheckpointJob>>> {
        if self.wants_checkpoint() {
            self.begin_checkpoint(catalog);
        }
        self.job.clone()
    }

    /// Whether this is the job that the store waits for.
    pub fn is_under_way(&self, job: &Arc<Mutex<CheckpointJob>>) -> bool {
        self.job.as_ref().is_some_and(|own| Arc::ptr_eq(own, job))
    }

    fn begin_checkpoint(&mut self, catalog: &RwLock<Catalog>) {
        if self.job.is_some() {
            return;
        }
        let copies = self.copies.iter().filter(|copy| copy.failed.is_none());
        let job = CheckpointJob::new(self.header(), self.objects_on_disk(catalog), copies);
        self.grown = 0;
        if defect("the log is free before the checkpoint is written") {
            self.copies.iter_mut().for_each(|copy| copy.log_start = copy.log_position);
        }
        self.job = Some(Arc::new(Mutex::new(job)));
    }

    /// Carries out what is left of the checkpoint under way, and from then on counts on it: the log before it is not needed
    /// any more.
    pub fn finish_checkpoint<H: HostMut + ?Sized>(&mut self, host: &H) -> Result<(), StoreError> {
        let Some(job) = self.job.clone() else { return Ok(()) };
        let mut job = lock(&job);
        self.job = None;
        job.finish(host)?;
        for part in &mut job.parts {
            let Some(copy) = self.copies.iter_mut().find(|copy| copy.id == part.id && copy.failed.is_none()) else {
                continue;
            };
            match part.failed.take() {
                None => {
                    copy.slot = part.slot;
                    copy.log_start = part.log_position;
                }
                Some(error) => {
                    copy.fail(error);
                    let here = CommitPoint { sequence: self.sequence, hash: self.hash };
                    let pv = part.id.pv;
                    self.leave(pv, [here]);
                }
            }
        }
        let (sequence, hash) = job.point();
        self.ancestry.checkpointed(sequence, hash);
        self.checkpoint_estimate = job.payload_len().saturating_add(self.grown);
        self.counters.checkpoints += 1;
        self.counters.flushes += job.flushes;
        self.counters.written_bytes += job.written;
        self.majority(&self.members.clone())
    }

    /// The header of a checkpoint of this moment; the job fills in the rest.
    fn header(&self) -> Header {
        Header {
            slot: 0,
            sequence: self.sequence,
            hash: self.hash,
            log_position: 0,
            object_count: 0,
            payload_len: 0,
            payload_hash: [0; 32],
            ancestors: self.ancestry.before(self.sequence),
        }
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
        let objects = read(catalog, Catalog::objects);
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
        let mut after = read(catalog, Catalog::clone);
        after.commit(self.sequence + 1, changes.to_vec());
        let taken_apart = changes.iter().any(|change| matches!(change, Change::Delete(ObjectKey::Vg(_))));
        match vol_core::check::violations(&after).first() {
            Some(violation) if !taken_apart => Err(StoreError::Invariant(violation.clone())),
            _ => Ok(()),
        }
    }

    fn changeable(&self) -> Result<(), StoreError> {
        self.frozen.as_ref().map_or(Ok(()), |frozen| Err(StoreError::Frozen(frozen.reason().to_owned())))
    }

    fn is_written(&self, pv: PvId) -> bool {
        self.copies.iter().any(|copy| copy.id.pv == pv && copy.failed.is_none())
    }

    /// Whether more than half of these have all that was written; else the store is frozen.
    fn majority(&mut self, members: &BTreeSet<PvId>) -> Result<(), StoreError> {
        let copies = members.difference(&self.lost).count();
        let written = members.iter().filter(|pv| self.is_written(**pv)).count();
        if written > copies / 2 || defect("a commit is acknowledged by any copy") {
            return Ok(());
        }
        let first = self
            .copies
            .iter()
            .find_map(|copy| copy.failed.clone())
            .unwrap_or_else(|| HostError::new(HostErrorKind::NotFound, "metadata copies", "missing"));
        if defect("a commit without its majority is forgotten") {
            return Err(StoreError::NoMajority { written, copies, first });
        }
        self.frozen = Some(Frozen::NoMajority(format!(
            "its metadata could be written to {written} of {copies} copies only ({first}); \
             it is read again when the daemon starts or at `volctl pv scan`"
        )));
        Err(StoreError::NoMajority { written, copies, first })
    }

    /// Why no change is taken, if none is.
    pub fn frozen(&self) -> Option<&str> {
        self.frozen.as_ref().map(Frozen::reason)
    }
    /// PVs whose copy failed since it was opened, and how.
    pub fn failed_copies(&self) -> impl Iterator<Item = (PvId, &HostError)> {
        self.copies.iter().filter_map(|copy| Some((copy.id.pv, copy.failed.as_ref()?)))
    }
    /// Copies of members that are there and copies that there should be.
    pub fn copies(&self) -> (usize, usize) {
        (self.members.iter().filter(|pv| self.is_written(**pv)).count(), self.members.len())
    }
    /// Whether an object was to be changed by the commit that the store froze at.
    pub fn is_undecided(&self, key: ObjectKey) -> bool {
        self.frozen.is_some() && self.undecided.contains(&key)
    }
    /// Sequence number of the last commit.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
    /// The newest commit.
    pub const fn head(&self) -> CommitPoint {
        CommitPoint { sequence: self.sequence, hash: self.hash }
    }
    pub const fn counters(&self) -> StoreCounters {
        self.counters
    }
    /// It takes the place of a store that did so much: counters only grow while a daemon runs.
    pub const fn count_on(&mut self, before: StoreCounters) {
        self.counters = self.counters.plus(before);
    }
    /// The checkpoint under way, if there is one.
    pub const fn job(&self) -> Option<&Arc<Mutex<CheckpointJob>>> {
        self.job.as_ref()
    }
}

/// Takes a job for one step of it.
pub fn lock(job: &Mutex<CheckpointJob>) -> MutexGuard<'_, CheckpointJob> {
    job.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(catalog: &RwLock<Catalog>, read: impl FnOnce(&Catalog) -> T) -> T {
    read(&catalog.read().unwrap_or_else(PoisonError::into_inner))
}

fn write<T>(catalog: &RwLock<Catalog>, write: impl FnOnce(&mut Catalog) -> T) -> T {
    write(&mut catalog.write().unwrap_or_else(PoisonError::into_inner))
}

fn first_error(results: Vec<HostResult<()>>) -> HostResult<()> {
    results.into_iter().collect()
}
