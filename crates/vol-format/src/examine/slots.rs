//! The two checkpoint slots. The payload of the newest sound one is read whole and once; of the other only its hash is
//! computed, in parts.

use super::findings::{self, push};
use super::{Finding, Severity, Source};
use crate::checkpoint::{self, Checkpoint, CheckpointError, Header};
use crate::feature::Access;
use crate::label::Label;
use crate::layout::{BLOCK, BLOCK_BYTES};
use crate::record::Copy;

/// Longest payload that is read: more than any slot that this release lays out. A label may claim more.
const PAYLOAD_READ_MAX: u64 = crate::layout::ZONE_LEN_MAX;
/// Bytes of one read.
const PART: u64 = 1 << 20;

/// What stands in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// The header block is zero: never written, or a checkpoint was begun.
    Empty,
    Unreadable(String),
    /// The header is no use.
    BadHeader(CheckpointError),
    /// The header is sound, its payload is not.
    BadPayload {
        header: Header,
        why: String,
    },
    /// Header and payload are sound. Of the older slot, the payload's hash was compared and its content not read.
    Sound(Header),
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub slot: u8,
    /// In bytes from the start of the device; the payload begins 4096 bytes further.
    pub offset: u64,
    /// Header and payload, in bytes.
    pub len: u64,
    pub state: SlotState,
}

impl Slot {
    /// The header if it is sound, whatever the payload is.
    pub const fn header(&self) -> Option<&Header> {
        match &self.state {
            SlotState::Sound(header) | SlotState::BadPayload { header, .. } => Some(header),
            _ => None,
        }
    }
}

/// The checkpoint that the log is followed from.
pub(super) struct Start {
    pub slot: u8,
    pub checkpoint: Checkpoint,
}

/// Both slots, and the newest sound checkpoint (section 10, step 1).
pub(super) fn read(
    source: &mut Source<'_, '_>,
    copy: &Copy,
    label: &Label,
    access: Access,
) -> (Vec<Slot>, Option<Start>) {
    let len = label.geometry.checkpoint_len;
    let mut slots: Vec<Slot> = (0u8..)
        .zip(label.geometry.checkpoint_offsets)
        .map(|(slot, offset)| Slot { slot, offset, len, state: header(source, copy, slot, offset) })
        .collect();
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(slots.get(*at).and_then(Slot::header).map(Header::recency)));
    let mut start: Option<Start> = None;
    for at in order {
        let Some(slot) = slots.get_mut(at) else { continue };
        let Some(header) = slot.header().cloned() else { continue };
        let found = match start {
            Some(_) => hash_of(source, slot, &header).map(|()| None),
            None => whole(source, slot, &header, access).map(Some),
        };
        match found {
            Ok(checkpoint) => {
                start = start.or(checkpoint.map(|checkpoint| Start { slot: slot.slot, checkpoint }));
            }
            Err(why) => slot.state = SlotState::BadPayload { header, why },
        }
    }
    (slots, start)
}

fn header(source: &mut Source<'_, '_>, copy: &Copy, slot: u8, offset: u64) -> SlotState {
    let block = match source.get(offset, BLOCK) {
        Ok(block) => block,
        Err(error) => return SlotState::Unreadable(error),
    };
    match checkpoint::decode_header(copy, slot, &block) {
        Ok(None) => SlotState::Empty,
        Ok(Some(header)) => SlotState::Sound(header),
        Err(error) => SlotState::BadHeader(error),
    }
}

/// Hands the payload over in parts.
fn parts(
    source: &mut Source<'_, '_>,
    slot: &Slot,
    header: &Header,
    mut take: impl FnMut(Vec<u8>),
) -> Result<(), String> {
    let room = slot.len.saturating_sub(BLOCK_BYTES);
    if header.payload_len > room {
        return Err(format!("the header claims {} bytes, the slot has room for {room}", header.payload_len));
    }
    if header.payload_len > PAYLOAD_READ_MAX {
        return Err(format!("it has {} bytes, more than this release reads", header.payload_len));
    }
    let begin = slot.offset.saturating_add(BLOCK_BYTES);
    let mut done = 0u64;
    while done < header.payload_len {
        let part = header.payload_len.saturating_sub(done).min(PART);
        let len = usize::try_from(part).map_err(|_| "too long")?;
        let at = begin.saturating_add(done);
        take(source.get(at, len).map_err(|error| format!("byte {at} cannot be read: {error}"))?);
        done = done.saturating_add(part);
    }
    Ok(())
}

fn whole(source: &mut Source<'_, '_>, slot: &Slot, header: &Header, access: Access) -> Result<Checkpoint, String> {
    let mut payload = Vec::new();
    parts(source, slot, header, |part| payload.extend(part))?;
    checkpoint::decode_payload_for(access, header, &payload).map_err(|error| findings::chain(&error))
}

fn hash_of(source: &mut Source<'_, '_>, slot: &Slot, header: &Header) -> Result<(), String> {
    let mut hasher = blake3::Hasher::new();
    parts(source, slot, header, |part| {
        hasher.update(&part);
    })?;
    if *hasher.finalize().as_bytes() == header.payload_hash {
        Ok(())
    } else {
        Err(CheckpointError::PayloadHash.to_string())
    }
}

/// Says what is to be said of the slots; whether they show that a copy of this VG's metadata was ever here.
pub(super) fn judge(slots: &[Slot], chosen: Option<u8>, out: &mut Vec<Finding>) -> bool {
    let mut carries = false;
    for slot in slots {
        let (at, number) = (Some(slot.offset), slot.slot);
        let (severity, code, rule, text, advice) = match &slot.state {
            SlotState::Empty => (Severity::Ok, "slot-empty", 15, format!("checkpoint slot {number} is empty"), ""),
            SlotState::Sound(header) => {
                carries = true;
                let newest = if chosen == Some(number) { ", the newest" } else { "" };
                let text = format!("checkpoint slot {number} is sound, commit {}{newest}", header.sequence);
                (Severity::Ok, "slot-sound", 16, text, "")
            }
            SlotState::Unreadable(error) => {
                carries = true;
                let text = format!("checkpoint slot {number} cannot be read: {error}");
                (Severity::Damage, "unreadable", 0, text, findings::READ_ERROR)
            }
            SlotState::BadPayload { header, why } => {
                carries = true;
                // The header is zeroed before a payload is begun and written after it is durable, so no crash does this.
                let text = format!("checkpoint slot {number}, commit {}: {why}", header.sequence);
                (Severity::Damage, "slot-payload-damaged", 16, text, findings::COPY)
            }
            SlotState::BadHeader(CheckpointError::WrongVg { found }) => {
                let text = format!("checkpoint slot {number} holds what volume group {found} left there");
                (Severity::Note, "slot-foreign", 16, text, "")
            }
            SlotState::BadHeader(error @ (CheckpointError::WrongPv { .. } | CheckpointError::WrongSlot { .. })) => {
                carries = true;
                let text = format!("checkpoint slot {number}: {error}");
                (Severity::Damage, "slot-misdirected", 16, text, findings::MISDIRECTED)
            }
            SlotState::BadHeader(error @ CheckpointError::Version { .. }) => {
                carries = true;
                (Severity::Damage, "slot-newer", 3, format!("checkpoint slot {number}: {error}"), findings::NEWER)
            }
            SlotState::BadHeader(error @ CheckpointError::Malformed(_)) => {
                carries = true;
                let text = format!("checkpoint slot {number}: {}", findings::chain(error));
                (Severity::Damage, "slot-malformed", 16, text, findings::REPORT)
            }
            SlotState::BadHeader(CheckpointError::NoHeader) => {
                let text = format!("checkpoint slot {number} holds something else than a checkpoint");
                let severity = if chosen.is_some() { Severity::Damage } else { Severity::Note };
                (severity, "slot-overwritten", 16, text, findings::COPY)
            }
            SlotState::BadHeader(error) => {
                carries = true;
                // A crash while a header is written does this, and then the other slot stands.
                let severity = if chosen.is_some() { Severity::Note } else { Severity::Damage };
                (severity, "slot-torn", 8, format!("checkpoint slot {number}: {error}"), findings::COPY)
            }
        };
        push(out, severity, code, rule, at, text, advice);
    }
    if chosen.is_none() && carries {
        lost(out);
    }
    carries
}

/// There was a copy, and it cannot be used.
pub(super) fn lost(out: &mut Vec<Finding>) {
    let text = "no checkpoint can be used: this copy of the metadata is lost".to_owned();
    push(out, Severity::Damage, "copy-lost", 16, None, text, findings::COPY);
}
