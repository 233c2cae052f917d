//! Writing checkpoints beside the commits that go on.
//!
//! A [`CheckpointJob`] holds all that it needs, so that it is carried out without the store: by the daemon's maintenance
//! thread, by a commit that finds no room in a log, or by a test between any two other effects. The order of its effects is
//! that of `docs/spec/on-disk-format.md`, section 9 (FMT-15).

use std::sync::Arc;

use vol_format::checkpoint::{self, Header};
use vol_format::layout::{BLOCK, Geometry};
use vol_format::{label, record};
use vol_types::{Object, PvId, defect};

use super::copy::StoreCopy;
use super::{StoreError, first_error};
use crate::host::{BlockWrite, DurableWrite, HostError, HostMut};

/// What one step writes to each copy at most. A commit that waits for its turn on a disk waits for no more than this.
const PART: usize = 1 << 20;

/// A checkpoint under way.
pub struct CheckpointJob {
    /// All slots but position and number, which are each copy's own.
    header: Header,
    /// Taken when the job began; encoded by its first step.
    objects: Vec<Object>,
    payload: Vec<u8>,
    pub(super) parts: Vec<Part>,
    stage: Stage,
    /// What it has cost so far, of all copies together: flushes and bytes.
    pub(super) flushes: u64,
    pub(super) written: u64,
}

/// The part of one copy.
pub(super) struct Part {
    pub id: record::Copy,
    device: Arc<dyn BlockWrite>,
    geometry: Geometry,
    /// The slot that is written, and where the log goes on for it.
    pub slot: u8,
    pub log_position: u64,
    pub failed: Option<HostError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Encode,
    /// The old header goes first: while the payload is half written, nothing may vouch for it.
    Empty,
    /// From this offset in the payload on.
    Payload(usize),
    Flush,
    Headers,
    Done,
}

impl CheckpointJob {
    pub(super) fn new<'a>(header: Header, objects: Vec<Object>, copies: impl Iterator<Item = &'a StoreCopy>) -> Self {
        let parts = copies
            .map(|copy| Part {
                id: copy.id,
                device: copy.device.clone(),
                geometry: copy.geometry,
                slot: if defect("a checkpoint goes over the newest") { copy.slot } else { 1 - copy.slot },
                log_position: copy.log_position + if defect("a checkpoint skips a record") { BLOCK as u64 } else { 0 },
                failed: None,
            })
            .collect();
        Self { header, objects, payload: Vec::new(), parts, stage: Stage::Encode, flushes: 0, written: 0 }
    }

    /// The point of the history that it holds.
    pub(super) const fn point(&self) -> (u64, record::ChainHash) {
        (self.header.sequence, self.header.hash)
    }
    pub(super) fn payload_len(&self) -> u64 {
        self.payload.len() as u64
    }
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Nothing more is written to this PV: its disk is somebody else's from now on.
    pub(super) fn let_go(&mut self, pv: PvId) {
        self.parts.retain(|part| part.id.pv != pv);
        if self.parts.is_empty() {
            self.stage = Stage::Done;
        }
    }

    /// Does all that is left.
    pub fn finish<H: HostMut + ?Sized>(&mut self, host: &H) -> Result<(), StoreError> {
        while !self.is_done() {
            self.advance(host)?;
        }
        Ok(())
    }

    /// One bounded step on all copies. A copy on which it fails is left out from then on. `Err`: nothing can be written at all,
    /// and nothing was.
    pub fn advance<H: HostMut + ?Sized>(&mut self, host: &H) -> Result<(), StoreError> {
        self.stage = match self.stage {
            Stage::Encode => {
                self.encode()?;
                if defect("a checkpoint's header goes before its payload") { Stage::Headers } else { Stage::Empty }
            }
            Stage::Empty => {
                self.durable(host, |_| label::blank());
                Stage::Payload(0)
            }
            Stage::Payload(from) => {
                let part = &self.payload[from..self.payload.len().min(from + PART)];
                for copy in self.parts.iter_mut().filter(|copy| copy.failed.is_none()) {
                    let offset = copy.offset() + BLOCK as u64 + from as u64;
                    copy.failed = copy.device.write_at(offset, part).err();
                    self.written += part.len() as u64;
                }
                let next = from + part.len();
                if next < self.payload.len() { Stage::Payload(next) } else { Stage::Flush }
            }
            Stage::Flush => {
                let skipped = defect("a checkpoint is not flushed");
                for copy in self.parts.iter_mut().filter(|copy| copy.failed.is_none() && !skipped) {
                    copy.failed = copy.device.flush().err();
                    self.flushes += 1;
                }
                Stage::Headers
            }
            Stage::Headers => {
                let header = self.header.clone();
                self.durable(host, |copy| {
                    Header { slot: copy.slot, log_position: copy.log_position, ..header.clone() }.encode(&copy.id)
                });
                if defect("a checkpoint's header goes before its payload") && !self.payload.is_empty() {
                    let payload = std::mem::take(&mut self.payload);
                    for copy in self.parts.iter_mut().filter(|copy| copy.failed.is_none()) {
                        copy.failed = copy.device.write_at(copy.offset() + BLOCK as u64, &payload).err();
                    }
                }
                Stage::Done
            }
            Stage::Done => Stage::Done,
        };
        Ok(())
    }

    fn encode(&mut self) -> Result<(), StoreError> {
        let too_large = |error: checkpoint::EncodeError| StoreError::TooLarge(error.to_string());
        self.payload = checkpoint::encode_payload(&self.objects).map_err(too_large)?;
        self.header.object_count = self.objects.len() as u64;
        self.objects = Vec::new();
        let needed = self.payload.len() as u64;
        let room = self.parts.iter().map(|copy| copy.geometry.checkpoint_len - BLOCK as u64).min().unwrap_or(0);
        if needed > room {
            return Err(StoreError::Full { needed, room });
        }
        self.header.payload_len = needed;
        self.header.payload_hash = checkpoint::payload_hash(&self.payload);
        Ok(())
    }

    /// One block to the beginning of each slot, durable, side by side.
    fn durable<H: HostMut + ?Sized>(&mut self, host: &H, block: impl Fn(&Part) -> Vec<u8>) {
        let standing: Vec<_> = (0..self.parts.len()).filter(|at| self.parts[*at].failed.is_none()).collect();
        let blocks: Vec<_> = standing.iter().map(|at| block(&self.parts[*at])).collect();
        let writes: Vec<_> = standing
            .iter()
            .zip(&blocks)
            .map(|(at, data)| DurableWrite { device: &self.parts[*at].device, offset: self.parts[*at].offset(), data })
            .collect();
        let results = host.write_durable(&writes);
        drop(writes);
        self.flushes += results.len() as u64;
        self.written += blocks.iter().map(|block| block.len() as u64).sum::<u64>();
        for (at, result) in standing.into_iter().zip(results) {
            self.parts[at].failed = first_error(vec![result]).err();
        }
    }
}

impl Part {
    fn offset(&self) -> u64 {
        self.geometry.checkpoint_offsets[usize::from(self.slot)]
    }
}
