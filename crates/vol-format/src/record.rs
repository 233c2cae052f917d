//! Log records: one commit each, appended to every copy of the metadata and flushed once per copy.
//!
//! The log is a ring. A record's *logical position* only grows; it stands at `position % log_len` (FMT-10) and never
//! straddles the end of the region (FMT-11). It names the VG, the PV and the position it was written for, and the hash of
//! the history before it, so that a write that was lost, torn, misdirected or left from an earlier lap is told apart
//! ([`RecordError`]). The chain hash does not cover PV and position: copies with the same history have the same hashes.

use vol_types::{Change, PvId, VgId, defect};

use crate::envelope::{self, Envelope, is_zero};
use crate::feature::Access;
use crate::field::byte_map;
use crate::layout::BLOCK;
use crate::payload::{Malformed, put_change, read_change};
use crate::tlv::Reader;

pub use crate::payload::EncodeError;

/// Begins a record.
pub const MAGIC: [u8; 8] = *b"VOLDRECD";
/// Longest record on disk: half of the smallest log, so that one always fits an empty log wherever it stands (FMT-14).
pub const RECORD_LEN_MAX: usize = 512 * 1024;
/// Longest payload.
pub const PAYLOAD_LEN_MAX: usize = RECORD_LEN_MAX - HEADER_LEN;
/// Begins what the chain hash covers.
pub const CHAIN_TAG: [u8; 16] = *b"volumed chain 1\0";

byte_map! {
    /// The byte map of a record behind its envelope; the payload follows.
    MAP, 56..HEADER_LEN = 128;
    POSITION at 56, 8;
    SEQUENCE at 64, 8;
    PREVIOUS at 72, 32;
    PAYLOAD_LEN at 104, 4;
    CHANGE_COUNT at 108, 4;
    RESERVED at 112, 16;
}

const _: () = assert!(RECORD_LEN_MAX.is_multiple_of(BLOCK) && HEADER_LEN < BLOCK);

/// The copy of the metadata that a record or checkpoint is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    pub vg: VgId,
    pub pv: PvId,
}

/// Stands for a history: all payloads up to a sequence number.
pub type ChainHash = [u8; 32];
/// The history before sequence number 1.
pub const GENESIS: ChainHash = [0; 32];

/// A record as read, sound in itself. Whether it is the next of a history is [`Record::follows`]'s to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub sequence: u64,
    /// The chain hash at `sequence - 1`.
    pub previous: ChainHash,
    /// The chain hash at `sequence`.
    pub hash: ChainHash,
    pub position: u64,
    pub changes: Vec<Change>,
    /// Bytes on disk.
    pub len: usize,
}

/// Why there is no record to be used at a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Never written, or overwritten by something else.
    #[error("no record")]
    NoRecord,
    /// Begun and not finished, or damaged since.
    #[error("the record is torn or damaged")]
    Torn,
    /// It claims a length that cannot be, or that goes past the end of the region.
    #[error("the record claims {claimed} bytes, there is room for {room}")]
    TooLong { claimed: u64, room: u64 },
    #[error("the record has format version {major}.{minor}")]
    Version { major: u16, minor: u16 },
    #[error("the record is of volume group {found}")]
    WrongVg { found: VgId },
    /// A clone, or a write that went to another disk.
    #[error("the record is of physical volume {found}")]
    WrongPv { found: PvId },
    /// Left from an earlier lap of the ring, or misdirected.
    #[error("the record was written for position {found}")]
    WrongPosition { found: u64 },
    /// A record in between is missing.
    #[error("the record has sequence number {found}, {expected} was to follow")]
    WrongSequence { found: u64, expected: u64 },
    /// The sequence number fits, the record belongs to another history.
    #[error("the record with sequence number {sequence} continues another history")]
    WrongHistory { sequence: u64 },
    #[error("the record cannot be understood")]
    Malformed(#[from] Malformed),
}

impl Record {
    /// Whether this record is the next one after `sequence`, whose chain hash is `hash` (FMT-13).
    pub fn follows(&self, sequence: u64, hash: &ChainHash) -> Result<(), RecordError> {
        let expected = sequence.saturating_add(1);
        if self.sequence != expected {
            return Err(RecordError::WrongSequence { found: self.sequence, expected });
        }
        if self.previous != *hash {
            return Err(RecordError::WrongHistory { sequence: self.sequence });
        }
        Ok(())
    }
}

/// The payload of a commit: encoded once, shared by all copies.
pub fn encode_payload(changes: &[Change]) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    for change in changes {
        put_change(&mut out, change)?;
    }
    if out.len() > PAYLOAD_LEN_MAX {
        let needed = u64::try_from(disk_len(out.len())).unwrap_or(u64::MAX);
        return Err(EncodeError::RecordTooLong { needed, max: RECORD_LEN_MAX as u64 });
    }
    Ok(out)
}

/// The chain hash at `sequence`: BLAKE3 over tag, VG id, the hash before, sequence number and payload.
pub fn chain(vg: VgId, previous: &ChainHash, sequence: u64, payload: &[u8]) -> ChainHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&CHAIN_TAG).update(vg.as_bytes()).update(previous).update(&sequence.to_le_bytes()).update(payload);
    *hasher.finalize().as_bytes()
}

/// The bytes of a record, a multiple of [`BLOCK`]. `payload` comes from [`encode_payload`] and has `change_count` changes.
pub fn encode(
    copy: &Copy,
    position: u64,
    sequence: u64,
    previous: &ChainHash,
    payload: &[u8],
    change_count: u32,
) -> Vec<u8> {
    let mut header = envelope::block(MAGIC, HEADER_LEN, 0, copy.vg, copy.pv);
    POSITION.put_u64(&mut header, position);
    SEQUENCE.put_u64(&mut header, sequence);
    PREVIOUS.put(&mut header, *previous);
    PAYLOAD_LEN.put_u32(&mut header, u32::try_from(payload.len()).unwrap_or(u32::MAX));
    CHANGE_COUNT.put_u32(&mut header, change_count);
    let len = disk_len(payload.len());
    let mut record = Vec::with_capacity(len);
    record.extend(header.into_iter().take(HEADER_LEN));
    record.extend_from_slice(payload);
    record.resize(len, 0);
    envelope::seal(&mut record);
    record
}

/// Bytes on disk of a record with so long a payload.
pub const fn disk_len(payload_len: usize) -> usize {
    let len = payload_len.saturating_add(HEADER_LEN);
    match len.checked_next_multiple_of(BLOCK) {
        Some(len) => len,
        None => len,
    }
}

/// Where a record of `record_len` bytes goes that may stand at `position` at the earliest: there, or, if it would straddle
/// the end of the region, at the beginning of the next lap (FMT-11). `record_len` is at most `log_len`.
pub const fn place(position: u64, record_len: u64, log_len: u64) -> u64 {
    match position.checked_rem(log_len) {
        Some(at) if at.saturating_add(record_len) > log_len => next_lap(position, log_len),
        _ => position,
    }
}

/// The beginning of the next lap: where a reader that finds no successor at `position` looks once more (FMT-12).
/// It is `position` itself if a lap begins there.
pub const fn next_lap(position: u64, log_len: u64) -> u64 {
    match position.checked_next_multiple_of(log_len) {
        Some(next) => next,
        None => position,
    }
}

/// Reads the record at logical `position`. `bytes` are those from there to the end of the region, or fewer: at least one
/// block, and `TooLong` tells how many bytes the record claims if they do not suffice.
pub fn decode(copy: &Copy, position: u64, bytes: &[u8]) -> Result<Record, RecordError> {
    decode_for(Access::ReadWrite, copy, position, bytes)
}

/// As [`decode`], for a reader with this access: one that will not write skips what the format allows to be skipped.
pub fn decode_for(access: Access, copy: &Copy, position: u64, bytes: &[u8]) -> Result<Record, RecordError> {
    let Some(header) = bytes.first_chunk::<BLOCK>() else {
        let room = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        return Err(RecordError::TooLong { claimed: BLOCK as u64, room });
    };
    if envelope::MAGIC.get(header) != MAGIC {
        return Err(RecordError::NoRecord);
    }
    let (record, payload) = bounded(header, bytes)?;
    if !envelope::is_sealed(record) && !defect("a record's checksum is not looked at") {
        return Err(RecordError::Torn);
    }
    let head = Envelope::read(header);
    if head.major != envelope::VERSION_MAJOR {
        return Err(RecordError::Version { major: head.major, minor: head.minor });
    }
    if head.vg != copy.vg {
        return Err(RecordError::WrongVg { found: head.vg });
    }
    if head.pv != copy.pv && !defect("a record of another disk is taken") {
        return Err(RecordError::WrongPv { found: head.pv });
    }
    if POSITION.u64(header) != position && !defect("a record of another place is taken") {
        return Err(RecordError::WrongPosition { found: POSITION.u64(header) });
    }
    let (header_len, index, reserved) = (usize::try_from(head.header_len), head.index, RESERVED.get(header));
    if header_len != Ok(HEADER_LEN) || index != 0 || reserved != [0; 16] {
        return Err(Malformed { what: "record header" }.into());
    }
    let changes = read_changes(payload, CHANGE_COUNT.u32(header), access)?;
    let unused = record.get(HEADER_LEN.saturating_add(payload.len())..).unwrap_or(&[]);
    if !is_zero(unused) {
        return Err(Malformed { what: "unused bytes of a record" }.into());
    }
    let (sequence, previous) = (SEQUENCE.u64(header), PREVIOUS.get(header));
    let hash = chain(copy.vg, &previous, sequence, payload);
    Ok(Record { sequence, previous, hash, position, changes, len: record.len() })
}

/// The bytes of the whole record and of its payload: bounds before the checksum is trusted.
fn bounded<'a>(header: &[u8; BLOCK], bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), RecordError> {
    let payload_len = usize::try_from(PAYLOAD_LEN.u32(header)).unwrap_or(usize::MAX);
    let len = disk_len(payload_len);
    let room = bytes.len().min(RECORD_LEN_MAX);
    let too_long = || RecordError::TooLong {
        claimed: u64::try_from(len).unwrap_or(u64::MAX),
        room: u64::try_from(room).unwrap_or(u64::MAX),
    };
    if len > room {
        return Err(too_long());
    }
    let record = bytes.get(..len).ok_or_else(too_long)?;
    let payload = record.get(HEADER_LEN..).and_then(|rest| rest.get(..payload_len)).ok_or_else(too_long)?;
    Ok((record, payload))
}

fn read_changes(payload: &[u8], count: u32, access: Access) -> Result<Vec<Change>, Malformed> {
    let mut reader = Reader::new(payload, "changes of a record");
    let mut changes = Vec::new();
    for _ in 0..count {
        changes.extend(read_change(&mut reader, access)?);
    }
    reader.end().map(|()| changes)
}
