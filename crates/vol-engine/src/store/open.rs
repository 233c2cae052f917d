//! Opening: which of the copies tells the truth.
//!
//! Each copy is read by itself: the newest checkpoint whose header and payload are sound, then the log behind it for as
//! long as each record continues the one before. The copy that comes furthest wins, if the histories of the others are
//! prefixes of its own. A copy that is behind is brought up to date by a checkpoint; one that tells another story makes
//! the VG read-only, because only its operator can know which is right.

use std::collections::BTreeMap;

use vol_core::Catalog;
use vol_format::checkpoint::{self, Checkpoint, Header};
use vol_format::layout::BLOCK;
use vol_format::record::{self, ChainHash};
use vol_types::{PvId, VgId};

use super::ancestry::Ancestry;
use super::{Store, StoreCopy, StoreCounters};
use crate::host::{HostMut, HostResult};
use crate::pvs::{OpenPv, OpenPvs};

/// Largest part of the log that one read brings: more than the longest record.
const WINDOW: u64 = 2 << 20;

/// How far behind the end of the log it is looked for what should not be there: several of the longest records.
const LOOK_AHEAD: u64 = 4 << 20;

/// What was found on the disks of a VG.
pub struct Opened {
    pub catalog: Catalog,
    pub store: Store,
    /// What is not as it should be, for people.
    pub problems: Vec<String>,
}

/// The history that one copy tells.
struct History {
    pv: PvId,
    catalog: Catalog,
    hash: ChainHash,
    log_position: u64,
    log_start: u64,
    slot: u8,
    /// The chain hash at each sequence number that this copy still knows.
    known: BTreeMap<u64, ChainHash>,
    /// A later commit that is there although the one that leads to it is not: the log is damaged in the middle.
    beyond_damage: Option<u64>,
}

/// Reads the metadata of `vg` from its PVs and makes the copies agree. `Err` tells why there is none to go by.
pub fn open<H: HostMut + ?Sized>(host: &H, vg: VgId, pvs: &OpenPvs) -> Result<Opened, String> {
    let mut histories = Vec::new();
    let mut problems = Vec::new();
    for (id, pv) in pvs {
        match read_history(vg, *id, pv) {
            Ok(Some(history)) => histories.push(history),
            Ok(None) => {}
            Err(error) => problems.push(format!("the metadata on {} cannot be read: {error}", pv.node.display())),
        }
    }
    histories.sort_by_key(|history| std::cmp::Reverse(history.catalog.sequence()));
    let mut histories = histories.into_iter();
    let Some(best) = histories.next() else {
        problems.insert(0, "none of its disks carries metadata that can be read".to_owned());
        return Err(problems.join("; "));
    };
    let wanted = best.catalog.pvs().filter(|pv| pv.metadata).count();
    let mut frozen = None;
    let mut copies = Vec::new();
    let mut behind = Vec::new();
    copies.extend(copy_of(&best, vg, pvs));
    for other in histories {
        let at = other.catalog.sequence();
        let node = node_of(pvs, other.pv);
        let belongs = best.catalog.pv(other.pv).is_some_and(|pv| pv.metadata);
        match best.known.get(&at) {
            _ if !belongs => problems.push(format!("{node} carries metadata, but is not to carry any: ignored")),
            Some(hash) if *hash == other.hash => {
                if at < best.catalog.sequence() {
                    let commits = best.catalog.sequence() - at;
                    tracing::warn!(node, commits, "a metadata copy is behind and is brought up to date");
                    behind.push(other.pv);
                }
                copies.extend(copy_of(&other, vg, pvs));
            }
            Some(_) => {
                let reason = format!(
                    "{node} and {} tell different histories of the volume group since commit {at}: \
                     they were changed apart from each other",
                    node_of(pvs, best.pv)
                );
                problems.push(reason.clone());
                frozen = Some(reason);
            }
            None => problems.push(format!(
                "the metadata on {node} is too old to be compared (commit {at}, the newest is {}): it is not used",
                best.catalog.sequence()
            )),
        }
    }
    if let Some(later) = best.beyond_damage.filter(|later| *later > best.catalog.sequence()) {
        // The last record of a log may be torn by a crash. One in the middle was acknowledged, and is lost.
        frozen = Some(format!(
            "the metadata log on {} is damaged behind commit {}, and no copy has the commits up to {later} that were made: \
             what is shown is old",
            node_of(pvs, best.pv),
            best.catalog.sequence()
        ));
    }
    let violations = vol_core::check::violations(&best.catalog);
    if let Some(first) = violations.first() {
        frozen = Some(format!("its metadata contradicts itself: {first}"));
        problems.extend(violations);
    }
    if frozen.is_none() && copies.len() <= wanted / 2 {
        frozen = Some(format!("{} of {wanted} metadata copies are there, a change needs more than half", copies.len()));
    }
    problems.extend(frozen.clone());
    let mut store = Store {
        vg,
        sequence: best.catalog.sequence(),
        hash: best.hash,
        ancestry: Ancestry::from_known(&best.known),
        copies,
        wanted,
        frozen,
        checkpoint_estimate: u64::MAX / 2,
        counters: StoreCounters::default(),
    };
    if store.frozen.is_none() && !behind.is_empty() {
        let catalog = std::sync::RwLock::new(best.catalog.clone());
        if let Err(error) = store.checkpoint(host, &catalog) {
            // A copy that is not at the head must not count: what is appended to it would continue nothing.
            store.drop_copies(&behind, &error);
            problems.push(format!("a metadata copy that is behind could not be brought up to date: {error}"));
        }
    }
    Ok(Opened { catalog: best.catalog, store, problems })
}

fn node_of(pvs: &OpenPvs, id: PvId) -> String {
    pvs.get(&id).map_or_else(|| id.to_string(), |pv| pv.node.display().to_string())
}

fn copy_of(history: &History, vg: VgId, pvs: &OpenPvs) -> Option<StoreCopy> {
    let pv = pvs.get(&history.pv)?;
    Some(StoreCopy {
        id: record::Copy { vg, pv: history.pv },
        device: pv.device.clone(),
        geometry: pv.geometry,
        log_position: history.log_position,
        slot: history.slot,
        log_start: history.log_start,
        failed: None,
    })
}

/// The history on one PV; `None` if it carries no metadata.
fn read_history(vg: VgId, id: PvId, pv: &OpenPv) -> HostResult<Option<History>> {
    let copy = record::Copy { vg, pv: id };
    let headers: Vec<_> = (0..2u8).map(|slot| read_header(&copy, slot, pv)).collect();
    // A slot that cannot be read does not take the other with it, but with both unreadable nobody knows what was there.
    if let [Err(error), Err(_)] = headers.as_slice() {
        return Err(error.clone());
    }
    let mut headers: Vec<Header> = headers.into_iter().filter_map(|header| header.ok().flatten()).collect();
    headers.sort_by_key(|header| std::cmp::Reverse(header.recency()));
    let mut known = BTreeMap::new();
    for header in &headers {
        known.insert(header.sequence, header.hash);
        known.extend(header.ancestors.iter().map(|ancestor| (ancestor.sequence, ancestor.hash)));
    }
    let start = headers.iter().find_map(|header| Some((header.slot, read_payload(&copy, header, pv)?)));
    let Some((slot, start)) = start else { return Ok(None) };
    // What a newer slot claims, whose payload is not there, is not known of this copy.
    known.retain(|sequence, _| *sequence <= start.sequence);
    let mut hash = start.hash;
    let Some(mut catalog) = Catalog::from_objects(start.sequence, start.objects) else {
        tracing::error!(pv = %id, "a checkpoint holds no volume group");
        return Ok(None);
    };
    let mut position = start.log_position;
    let mut log = LogReader { pv, window: Vec::new(), window_at: 0 };
    while let Some(record) = log.next(&copy, position, catalog.sequence() + 1, &hash)? {
        position = record.position + record.len as u64;
        hash = record.hash;
        known.insert(record.sequence, record.hash);
        catalog.commit(record.sequence, record.changes);
    }
    let head = catalog.sequence();
    let beyond_damage = log.beyond(&copy, position, start.log_position, head)?;
    let log_start = start.log_position;
    Ok(Some(History { pv: id, catalog, hash, log_position: position, log_start, slot, known, beyond_damage }))
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
fn read_payload(copy: &record::Copy, header: &Header, pv: &OpenPv) -> Option<Checkpoint> {
    let slot = header.slot;
    let offset = pv.geometry.checkpoint_offsets[usize::from(slot)] + BLOCK as u64;
    let len = header.payload_len.checked_next_multiple_of(BLOCK as u64)?;
    if len > pv.geometry.checkpoint_len - BLOCK as u64 {
        tracing::warn!(pv = %copy.pv, slot, len, "a checkpoint claims more than its slot");
        return None;
    }
    let mut payload = Vec::new();
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
    checkpoint::decode_payload(header, &payload)
        .inspect_err(|error| tracing::warn!(pv = %copy.pv, slot, %error, "a checkpoint was passed over"))
        .ok()
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
    fn beyond(&mut self, copy: &record::Copy, position: u64, log_start: u64, head: u64) -> HostResult<Option<u64>> {
        let lap = self.pv.geometry.log_len;
        let end = (log_start + lap).min(position + LOOK_AHEAD);
        let mut latest = None;
        for at in (position..end).step_by(BLOCK) {
            let bytes = self.bytes(at % lap)?;
            if bytes.starts_with(&record::MAGIC)
                && let Ok(found) = record::decode(copy, at, bytes)
                && found.sequence >= head + 2
            {
                latest = latest.max(Some(found.sequence));
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
