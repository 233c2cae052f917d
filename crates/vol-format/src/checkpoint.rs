//! Checkpoints: all objects of a group as of one sequence number, so that the log before it can be written over.
//!
//! A slot is one header block, then the payload. The payload is written and flushed before the header (FMT-15); the
//! header holds the payload's hash, so a slot whose payload was begun anew is recognised as invalid, and the other slot,
//! which is never touched meanwhile, stands.

use vol_types::{Object, PvId, VgId};

use crate::envelope::{self, Envelope, is_zero};
use crate::feature::Access;
use crate::field::byte_map;
use crate::layout::{BLOCK, BLOCK_BYTES, COUNT_MAX};
use crate::payload::{Malformed, put_object, read_change};
use crate::record::{ChainHash, Copy};
use crate::tlv::Reader;

pub use crate::payload::EncodeError;

/// Begins a checkpoint's header.
pub const MAGIC: [u8; 8] = *b"VOLDCKPT";
/// Bytes of an ancestor: sequence number and chain hash.
pub const ANCESTOR_LEN: usize = 40;
/// How many ancestors a header can hold.
pub const ANCESTORS_MAX: usize = 64;

byte_map! {
    /// The byte map of a checkpoint's header behind its envelope; the payload begins at the next block.
    MAP, 56..HEADER_LEN = 2720;
    SEQUENCE at 56, 8;
    HASH at 64, 32;
    LOG_POSITION at 96, 8;
    OBJECT_COUNT at 104, 8;
    PAYLOAD_LEN at 112, 8;
    PAYLOAD_HASH at 120, 32;
    ANCESTOR_COUNT at 152, 4;
    RESERVED at 156, 4;
    ANCESTORS at 160, 2560;
}

const _: () = assert!(ANCESTORS_MAX * ANCESTOR_LEN == 2560);

/// A checkpoint that was read and found sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last record that it covers.
    pub sequence: u64,
    /// The chain hash there.
    pub hash: ChainHash,
    /// Where the next record stands at the earliest.
    pub log_position: u64,
    /// In the order of their keys.
    pub objects: Vec<Object>,
}

/// An earlier checkpoint of the same history: a copy that comes back after a long time proves by it that it is old, not
/// different, even though the records in between are gone (FMT-18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    pub sequence: u64,
    pub hash: ChainHash,
}

/// The header of a slot, sound in itself; nothing is known of the payload yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub slot: u8,
    pub sequence: u64,
    pub hash: ChainHash,
    pub log_position: u64,
    pub object_count: u64,
    /// A multiple of [`BLOCK`]. Bounded by nothing but its type: compare with the slot before reading so much.
    pub payload_len: u64,
    /// BLAKE3 over the payload.
    pub payload_hash: [u8; 32],
    /// Newest first; may be empty. At most [`ANCESTORS_MAX`] are written.
    pub ancestors: Vec<Ancestor>,
}

/// Why a slot cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("a checkpoint header has {BLOCK} bytes, {0} were read")]
    Short(usize),
    /// Neither zero nor one of ours.
    #[error("no checkpoint header")]
    NoHeader,
    #[error("the checkpoint header is torn or damaged")]
    Torn,
    #[error("the checkpoint has format version {major}.{minor}")]
    Version { major: u16, minor: u16 },
    #[error("the checkpoint is of volume group {found}")]
    WrongVg { found: VgId },
    #[error("the checkpoint is of physical volume {found}")]
    WrongPv { found: PvId },
    #[error("the checkpoint was written for slot {found}")]
    WrongSlot { found: u32 },
    /// Fewer bytes than the header says.
    #[error("the checkpoint's payload has {expected} bytes, {found} were read")]
    PayloadLength { expected: u64, found: u64 },
    /// Begun anew and not finished, or damaged.
    #[error("the checkpoint's payload does not match its header")]
    PayloadHash,
    #[error("the checkpoint cannot be understood")]
    Malformed(#[from] Malformed),
}

/// The payload for these objects, in the order of their keys, padded to a multiple of [`BLOCK`].
pub fn encode_payload(objects: &[Object]) -> Result<Vec<u8>, EncodeError> {
    let mut in_order: Vec<&Object> = objects.iter().collect();
    in_order.sort_by_key(|object| object.key());
    let mut out = Vec::new();
    let mut last = None;
    for object in in_order {
        if last.replace(object.key()) == Some(object.key()) {
            return Err(EncodeError::Duplicate(object.key()));
        }
        put_object(&mut out, object)?;
    }
    out.resize(padded(out.len()), 0);
    Ok(out)
}

/// Whether a payload fits a slot of `checkpoint_len` bytes; the error says how many bytes a slot would need.
pub fn fits(payload_len: usize, checkpoint_len: u64) -> Result<(), EncodeError> {
    let needed = u64::try_from(padded(payload_len).saturating_add(BLOCK)).unwrap_or(u64::MAX);
    if needed > checkpoint_len {
        return Err(EncodeError::CheckpointTooLong { needed, available: checkpoint_len });
    }
    Ok(())
}

const fn padded(len: usize) -> usize {
    match len.checked_next_multiple_of(BLOCK) {
        Some(len) => len,
        None => len,
    }
}

/// The header block for a payload, without ancestors.
pub fn encode_header(
    copy: &Copy,
    slot: u8,
    sequence: u64,
    hash: &ChainHash,
    log_position: u64,
    object_count: u64,
    payload: &[u8],
) -> Vec<u8> {
    Header {
        slot,
        sequence,
        hash: *hash,
        log_position,
        object_count,
        payload_len: u64::try_from(payload.len()).unwrap_or(u64::MAX),
        payload_hash: payload_hash(payload),
        ancestors: Vec::new(),
    }
    .encode(copy)
}

/// BLAKE3 over a payload. Computed once, shared by the headers of all copies.
pub fn payload_hash(payload: &[u8]) -> [u8; 32] {
    *blake3::hash(payload).as_bytes()
}

impl Header {
    /// Of two sound slots, the one for which this is greater is the newer: a copy that was brought up to date twice at one
    /// sequence number goes on behind the later log position.
    pub const fn recency(&self) -> (u64, u64) {
        (self.sequence, self.log_position)
    }

    /// The header block for this copy.
    pub fn encode(&self, copy: &Copy) -> Vec<u8> {
        let mut block = envelope::block(MAGIC, HEADER_LEN, u32::from(self.slot), copy.vg, copy.pv);
        SEQUENCE.put_u64(&mut block, self.sequence);
        HASH.put(&mut block, self.hash);
        LOG_POSITION.put_u64(&mut block, self.log_position);
        OBJECT_COUNT.put_u64(&mut block, self.object_count);
        PAYLOAD_LEN.put_u64(&mut block, self.payload_len);
        PAYLOAD_HASH.put(&mut block, self.payload_hash);
        let ancestors = || self.ancestors.iter().take(ANCESTORS_MAX);
        ANCESTOR_COUNT.put_u32(&mut block, u32::try_from(ancestors().count()).unwrap_or(u32::MAX));
        let bytes = ancestors().flat_map(|ancestor| ancestor.sequence.to_le_bytes().into_iter().chain(ancestor.hash));
        let mut table = [0; ANCESTORS_MAX * ANCESTOR_LEN];
        table.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        ANCESTORS.put(&mut block, table);
        let mut block = block.to_vec();
        envelope::seal(&mut block);
        block
    }
}

/// Reads the header of a slot; `None` if the slot was never written (all zero).
pub fn decode_header(copy: &Copy, slot: u8, block: &[u8]) -> Result<Option<Header>, CheckpointError> {
    let Some(block) = block.first_chunk::<BLOCK>() else { return Err(CheckpointError::Short(block.len())) };
    if envelope::MAGIC.get(block) != MAGIC {
        return if is_zero(block) { Ok(None) } else { Err(CheckpointError::NoHeader) };
    }
    if !envelope::is_sealed(block) {
        return Err(CheckpointError::Torn);
    }
    let head = Envelope::read(block);
    if head.major != envelope::VERSION_MAJOR {
        return Err(CheckpointError::Version { major: head.major, minor: head.minor });
    }
    if head.vg != copy.vg {
        return Err(CheckpointError::WrongVg { found: head.vg });
    }
    if head.pv != copy.pv {
        return Err(CheckpointError::WrongPv { found: head.pv });
    }
    if head.index != u32::from(slot) {
        return Err(CheckpointError::WrongSlot { found: head.index });
    }
    let unused = block.get(HEADER_LEN..).unwrap_or(&[]);
    if usize::try_from(head.header_len) != Ok(HEADER_LEN) || !is_zero(unused) || RESERVED.get(block) != [0; 4] {
        return Err(Malformed { what: "checkpoint header" }.into());
    }
    let (sequence, log_position, payload_len) = (SEQUENCE.u64(block), LOG_POSITION.u64(block), PAYLOAD_LEN.u64(block));
    if !payload_len.is_multiple_of(BLOCK_BYTES) || !log_position.is_multiple_of(BLOCK_BYTES) {
        return Err(Malformed { what: "payload length or log position of a checkpoint" }.into());
    }
    // FMT-32: a reader counts on from both.
    if sequence > COUNT_MAX || log_position > COUNT_MAX {
        return Err(Malformed { what: "sequence number or log position of a checkpoint" }.into());
    }
    Ok(Some(Header {
        slot,
        sequence,
        hash: HASH.get(block),
        log_position,
        object_count: OBJECT_COUNT.u64(block),
        payload_len,
        payload_hash: PAYLOAD_HASH.get(block),
        ancestors: read_ancestors(block, sequence)?,
    }))
}

fn read_ancestors(block: &[u8; BLOCK], sequence: u64) -> Result<Vec<Ancestor>, Malformed> {
    let table = ANCESTORS.get(block);
    let mut reader = Reader::new(&table, "ancestors of a checkpoint");
    let mut ancestors = Vec::new();
    let mut newer = sequence;
    for _ in 0..ANCESTOR_COUNT.u32(block) {
        let ancestor = Ancestor { sequence: reader.u64()?, hash: reader.array()? };
        if ancestor.sequence >= newer {
            return Err(reader.malformed());
        }
        newer = ancestor.sequence;
        ancestors.push(ancestor);
    }
    if is_zero(reader.rest()) { Ok(ancestors) } else { Err(reader.malformed()) }
}

/// Reads the payload that a header announces. `payload` may be longer than that.
pub fn decode_payload(header: &Header, payload: &[u8]) -> Result<Checkpoint, CheckpointError> {
    decode_payload_for(Access::ReadWrite, header, payload)
}

/// As [`decode_payload`], for a reader with this access: one that will not write skips what may be skipped.
pub fn decode_payload_for(access: Access, header: &Header, payload: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let payload = announced(header, payload)?;
    if payload_hash(payload) != header.payload_hash {
        return Err(CheckpointError::PayloadHash);
    }
    let mut objects = Vec::new();
    read_objects(payload, header.object_count, access, |object| objects.push(object))?;
    Ok(Checkpoint { sequence: header.sequence, hash: header.hash, log_position: header.log_position, objects })
}

/// Hands over, in the order of their keys, the objects of a payload whose hash was compared with the header's before: it is not computed a
/// second time, and no list of them is made. After an error those that were handed over are worth nothing.
pub fn objects_of_proven(header: &Header, payload: &[u8], take: impl FnMut(Object)) -> Result<(), CheckpointError> {
    Ok(read_objects(announced(header, payload)?, header.object_count, Access::ReadWrite, take)?)
}

/// As much of `payload` as the header says.
fn announced<'a>(header: &Header, payload: &'a [u8]) -> Result<&'a [u8], CheckpointError> {
    let found = u64::try_from(payload.len()).unwrap_or(u64::MAX);
    let len = usize::try_from(header.payload_len).ok();
    len.and_then(|len| payload.get(..len)).ok_or(CheckpointError::PayloadLength { expected: header.payload_len, found })
}

fn read_objects(payload: &[u8], count: u64, access: Access, mut take: impl FnMut(Object)) -> Result<(), Malformed> {
    use vol_types::Change::{Delete, Put};
    let mut reader = Reader::new(payload, "objects of a checkpoint");
    let mut last = None;
    for _ in 0..count {
        match read_change(&mut reader, access)? {
            Some(Put(object)) => {
                let key = object.key();
                if last.replace(key).is_some_and(|last| last >= key) {
                    return Err(Malformed { what: "order of a checkpoint's objects" });
                }
                take(object);
            }
            Some(Delete(_)) => return Err(Malformed { what: "deletion in a checkpoint" }),
            None => {}
        }
    }
    // FMT-2: padding to a block, and no more than that.
    if reader.rest().len() < BLOCK && is_zero(reader.rest()) { Ok(()) } else { Err(reader.malformed()) }
}
