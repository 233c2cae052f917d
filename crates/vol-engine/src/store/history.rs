//! What one copy tells: the newest checkpoint that is sound, and the records that continue it.

use std::collections::BTreeMap;

use vol_core::Catalog;
use vol_core::catalog::Builder;
use vol_format::checkpoint::{self, Header};
use vol_format::layout::BLOCK;
use vol_format::record::{self, ChainHash, Record};
use vol_types::{Change, CommitPoint, ObjectKey, PvId, VgId, defect};

use super::copy::StoreCopy;
use crate::host::HostResult;
use crate::pvs::OpenPv;

/// Largest part of the log that one read brings: more than the longest record.
const WINDOW: u64 = 2 << 20;

/// How far behind the end of the log it is looked for what should not be there: several of the longest records.
const LOOK_AHEAD: u64 = 4 << 20;

/// The history that one copy tells. Its checkpoint is proven whole by its hash, but not yet decoded: that is only needed of
/// the copy that is chosen.
pub struct History {
    pub pv: PvId,
    pub sequence: u64,
    pub hash: ChainHash,
    log_position: u64,
    start: Header,
    /// Of the checkpoint; empty once it is forgotten.
    payload: Vec<u8>,
    /// Behind the checkpoint.
    pub records: Vec<Record>,
    /// The chain hash at each sequence number that this copy still knows, its head included.
    pub known: BTreeMap<u64, ChainHash>,
    /// A later commit that is there although the one that leads to it is not: the log is damaged in the middle.
    pub beyond_damage: Option<Beyond>,
}

/// A sound record behind the end of what could be read of a copy.
#[derive(Clone, Debug)]
pub struct Beyond {
    pub sequence: u64,
    /// What it changes.
    pub changes: Vec<Change>,
}

impl History {
    /// The history on one PV; `None` if it carries no metadata. `distrust`: the slot of a checkpoint that turned out to make no
    /// sense although it is whole.
    pub fn read(vg: VgId, id: PvId, pv: &OpenPv, distrust: Option<u8>) -> HostResult<Option<Self>> {
        let copy = record::Copy { vg, pv: id };
        let headers: Vec<_> = (0..2u8).map(|slot| read_header(&copy, slot, pv)).collect();
        // A slot that cannot be read does not take the other with it, but with both unreadable nobody knows what was there.
        if let [Err(error), Err(_)] = headers.as_slice() {
            return Err(error.clone());
        }
        let mut headers: Vec<Header> = headers.into_iter().filter_map(|header| header.ok().flatten()).collect();
        headers.retain(|header| distrust != Some(header.slot));
        headers.sort_by_key(|header| std::cmp::Reverse(header.recency()));
        if defect("the older checkpoint is read") {
            headers.reverse();
        }
        let Some((start, payload)) = headers.iter().find_map(|header| Some((header, read_payload(&copy, header, pv)?)))
        else {
            return Ok(None);
        };
        let mut known = BTreeMap::new();
        // What a newer slot claims, whose payload is not there, is not known of this copy.
        for header in headers.iter().filter(|header| header.sequence <= start.sequence) {
            known.insert(header.sequence, header.hash);
            known.extend(header.ancestors.iter().map(|ancestor| (ancestor.sequence, ancestor.hash)));
        }
        let (mut sequence, mut hash, mut position) = (start.sequence, start.hash, start.log_position);
        let mut records = Vec::new();
        let mut log = LogReader { pv, window: Vec::new(), window_at: 0 };
        while let Some(record) = log.next(&copy, position, sequence + 1, &hash)? {
            position = record.position + record.len as u64;
            hash = record.hash;
            sequence = record.sequence;
            known.insert(sequence, hash);
            records.push(record);
        }
        let lap = pv.geometry.log_len;
        let end = start.log_position + lap;
        let mut beyond_damage = log.beyond(&copy, position, end, sequence)?;
        // The newest checkpoint frees the log before it. If it is the one that is damaged, the records that the other one needs may
        // be gone; then one of a later lap stands where the first of them stood (FMT-17).
        if headers.len() < 2 || start.slot != headers[0].slot {
            let later = log.beyond(&copy, end, end + lap, sequence)?;
            beyond_damage = beyond_damage.into_iter().chain(later).max_by_key(|found| found.sequence);
        }
        let start = start.clone();
        Ok(Some(Self { pv: id, sequence, hash, log_position: position, start, payload, records, known, beyond_damage }))
    }

    /// Whether the last record takes a PV out.
    pub fn ends_without_pv(&self) -> bool {
        let takes_out = |change: &Change| matches!(change, Change::Delete(ObjectKey::Pv(_)));
        self.records.last().is_some_and(|record| record.changes.iter().any(takes_out))
    }

    /// The catalog before the last record, if that is about PVs.
    pub fn before_pvs(&self) -> Option<Catalog> {
        let (last, records) = self.records.split_last()?;
        let about = |change: &Change| matches!(change.key(), ObjectKey::Pv(_));
        if last.changes.iter().any(about) { self.catalog_of(records) } else { None }
    }

    /// The catalog at the head; `None`, said in the log, if what is whole by its hash makes no sense.
    pub fn catalog(&self) -> Option<Catalog> {
        self.catalog_of(&self.records)
    }

    fn catalog_of(&self, records: &[Record]) -> Option<Catalog> {
        let mut builder = Builder::default();
        checkpoint::objects_of_proven(&self.start, &self.payload, |object| builder.add(object))
            .inspect_err(|error| tracing::error!(pv = %self.pv, %error, "a checkpoint was passed over"))
            .ok()?;
        let Some(mut catalog) = builder.build(self.start.sequence) else {
            tracing::error!(pv = %self.pv, "a checkpoint holds no volume group");
            return None;
        };
        for record in records {
            catalog.commit(record.sequence, record.changes.clone());
        }
        Some(catalog)
    }

    /// Bytes that a checkpoint of the head would take, at most: as if every change behind the one there is had added something.
    pub fn checkpoint_at_most(&self) -> u64 {
        let len = |record: &Record| record::encode_payload(&record.changes).map_or(record.len, |payload| payload.len());
        self.records.iter().fold(self.start.payload_len, |sum, record| sum.saturating_add(len(record) as u64))
    }

    /// Drops the checkpoint's bytes.
    pub fn forget_payload(&mut self) {
        self.payload = Vec::new();
    }

    /// The slot that its checkpoint stands in.
    pub const fn slot(&self) -> u8 {
        self.start.slot
    }

    /// Where this copy ends.
    pub const fn head(&self) -> CommitPoint {
        CommitPoint { sequence: self.sequence, hash: self.hash }
    }

    /// To be gone on with.
    pub fn as_copy(&self, vg: VgId, pv: &OpenPv) -> StoreCopy {
        StoreCopy {
            id: record::Copy { vg, pv: self.pv },
            device: pv.device.clone(),
            geometry: pv.geometry,
            log_position: self.log_position,
            slot: self.start.slot,
            log_start: self.start.log_position,
            failed: None,
        }
    }
}

/// The position of a record that continues a copy at this point although its history was to end there.
pub fn leftover(copy: &StoreCopy, pv: &OpenPv, head: &CommitPoint) -> HostResult<Option<u64>> {
    let mut log = LogReader { pv, window: Vec::new(), window_at: 0 };
    let found = log.next(&copy.id, copy.log_position, head.sequence + 1, &head.hash)?;
    Ok(found.map(|record| record.position))
}

fn read_header(copy: &record::Copy, slot: u8, pv: &OpenPv) -> HostResult<Option<Header>> {
    let offset = pv.geometry.checkpoint_offsets[usize::from(slot)];
    let block = pv.device.read_at(offset, BLOCK).inspect_err(|error| {
        tracing::error!(pv = %copy.pv, slot, %error, "a checkpoint slot cannot be read");
    })?;
    match checkpoint::decode_header(copy, slot, &block) {
        Ok(header) => Ok(header),
        Err(error) => {
            tracing::warn!(pv = %copy.pv, slot, %error, "a checkpoint header was passed over");
            Ok(None)
        }
    }
}

/// The payload behind a header; `None`, said in the log, if it is not there whole.
fn read_payload(copy: &record::Copy, header: &Header, pv: &OpenPv) -> Option<Vec<u8>> {
    let slot = header.slot;
    let offset = pv.geometry.checkpoint_offsets[usize::from(slot)] + BLOCK as u64;
    let len = header.payload_len;
    if len > pv.geometry.checkpoint_len - BLOCK as u64 {
        tracing::warn!(pv = %copy.pv, slot, len, "a checkpoint claims more than its slot");
        return None;
    }
    let mut payload = Vec::with_capacity(usize::try_from(len).ok()?);
    while (payload.len() as u64) < len {
        let part = usize::try_from((len - payload.len() as u64).min(1 << 20)).ok()?;
        match pv.device.read_at(offset + payload.len() as u64, part) {
            Ok(bytes) => payload.extend(bytes),
            Err(error) => {
                tracing::warn!(pv = %copy.pv, slot, %error, "a checkpoint cannot be read");
                return None;
            }
        }
    }
    if checkpoint::payload_hash(&payload) != header.payload_hash {
        tracing::warn!(pv = %copy.pv, slot, "a checkpoint's payload does not match its header: it was passed over");
        return None;
    }
    Some(payload)
}

/// Reads records in windows, so that a log of any length takes few reads and little memory.
struct LogReader<'a> {
    pv: &'a OpenPv,
    window: Vec<u8>,
    /// Offset of the window in the log region.
    window_at: u64,
}

impl LogReader<'_> {
    /// The record that continues the history at `position`, or at the start of the next lap where the writer skipped the
    /// end of the region; `None` at the end of the log.
    fn next(
        &mut self,
        copy: &record::Copy,
        position: u64,
        sequence: u64,
        previous: &ChainHash,
    ) -> HostResult<Option<record::Record>> {
        let lap = self.pv.geometry.log_len;
        let skipped = position.next_multiple_of(lap);
        for at in [position, skipped] {
            let bytes = self.bytes(at % lap)?;
            match record::decode(copy, at, bytes) {
                Ok(record) if record.sequence == sequence && record.previous == *previous => return Ok(Some(record)),
                Ok(record) if record.sequence == sequence && defect("the chain of hashes is not looked at") => {
                    return Ok(Some(record));
                }
                Ok(record) if record.sequence > sequence && defect("a gap in the log is not seen") => {
                    return Ok(Some(record));
                }
                Ok(_) | Err(_) => {}
            }
            if skipped == position {
                break;
            }
        }
        Ok(None)
    }

    /// A sound record of this copy behind the end of its history that only a later commit can have left. One commit is under way
    /// at a time, so a power cut leaves at most the record right behind the end.
    fn beyond(&mut self, copy: &record::Copy, position: u64, end: u64, head: u64) -> HostResult<Option<Beyond>> {
        let lap = self.pv.geometry.log_len;
        let end = end.min(position + LOOK_AHEAD);
        if defect("damage in the middle of a log is not seen") {
            return Ok(None);
        }
        let mut latest: Option<Beyond> = None;
        for at in (position..end).step_by(BLOCK) {
            let bytes = self.bytes(at % lap)?;
            if bytes.starts_with(&record::MAGIC)
                && let Ok(found) = record::decode(copy, at, bytes)
                && found.sequence >= head + 2
                && latest.as_ref().is_none_or(|latest| latest.sequence < found.sequence)
            {
                latest = Some(Beyond { sequence: found.sequence, changes: found.changes });
            }
        }
        Ok(latest)
    }

    /// The log region from `offset` on, at least one longest record of it or up to its end.
    fn bytes(&mut self, offset: u64) -> HostResult<&[u8]> {
        let len = self.pv.geometry.log_len;
        let enough = (WINDOW / 2).min(len - offset);
        let have = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + enough > have {
            let want = WINDOW.min(len - offset);
            let want = usize::try_from(want).unwrap_or(BLOCK);
            self.window = self.pv.device.read_at(self.pv.geometry.log_offset + offset, want)?;
            self.window_at = offset;
        }
        let from = usize::try_from(offset - self.window_at).unwrap_or(0);
        Ok(&self.window[from.min(self.window.len())..])
    }
}
