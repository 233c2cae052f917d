//! Changes as bytes: the payload of log records and of checkpoints.
//!
//! A change is `op u8, kind u8, zero u16, body length u32, body`; the body of a deletion is the id, that of a put is the
//! object's fields ([`crate::tlv`]). The bytes of a list of changes are the same for every copy, so that the chain hash,
//! which covers them, is too.

use vol_types::{Change, IntentId, Object, ObjectKey, PoolId, PvId, VgId, VolumeId};

use crate::feature::Access;
use crate::object::{self, kind_of, put_body, read_body};
use crate::tlv::{Body, Reader};

/// Operation codes.
pub const OP_PUT: u8 = 1;
pub const OP_DELETE: u8 = 2;
/// Bytes before a change's body.
pub const CHANGE_HEADER_LEN: usize = 8;
/// Kinds from here on may be skipped by a reader that does not write (FMT-22).
pub const SKIPPABLE_KIND: u8 = 0x80;

/// Why a value has no bytes on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("the changes need a log record of {needed} bytes, more than {max}")]
    RecordTooLong { needed: u64, max: u64 },
    #[error("the metadata needs a checkpoint of {needed} bytes, a slot has {available}")]
    CheckpointTooLong { needed: u64, available: u64 },
    #[error("{what} has {len} bytes, which is too long")]
    FieldTooLong { what: &'static str, len: usize },
    #[error("two objects have the key {0:?}")]
    Duplicate(ObjectKey),
}

/// Bytes that carry a valid checksum and are nevertheless not ours, or of a release that should have set a feature bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {what}")]
pub struct Malformed {
    /// The field or rule that does not hold.
    pub what: &'static str,
}

/// Appends a change.
pub(crate) fn put_change(out: &mut Vec<u8>, change: &Change) -> Result<(), EncodeError> {
    match change {
        Change::Put(object) => put_object(out, object),
        Change::Delete(key) => {
            let (kind, id) = match key {
                ObjectKey::Vg(id) => (object::vg::KIND, id.as_bytes()),
                ObjectKey::Pv(id) => (object::pv::KIND, id.as_bytes()),
                ObjectKey::Pool(id) => (object::pool::KIND, id.as_bytes()),
                ObjectKey::Volume(id) => (object::volume::KIND, id.as_bytes()),
                ObjectKey::Intent(id) => (object::intent::KIND, id.as_bytes()),
            };
            out.extend_from_slice(&[OP_DELETE, kind, 0, 0, 16, 0, 0, 0]);
            out.extend_from_slice(id);
            Ok(())
        }
    }
}

/// Appends the put of an object.
pub(crate) fn put_object(out: &mut Vec<u8>, object: &Object) -> Result<(), EncodeError> {
    out.extend_from_slice(&[OP_PUT, kind_of(object), 0, 0]);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let body_at = out.len();
    put_body(&mut Body { out }, object)?;
    let len = out.len().saturating_sub(body_at);
    let length = u32::try_from(len).map_err(|_| EncodeError::FieldTooLong { what: "an object", len })?;
    if let Some(place) = out.get_mut(length_at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = length.to_le_bytes();
    }
    Ok(())
}

/// Bytes that an object takes in a checkpoint, and its put in a record. The sum over a catalog, rounded up to a block, is
/// what a checkpoint slot must hold.
pub fn put_len(object: &Object) -> Result<usize, EncodeError> {
    let mut out = Vec::new();
    put_object(&mut out, object)?;
    Ok(out.len())
}

/// Reads one change. `None` stands for a change of a kind that this reader does not know and may skip.
pub(crate) fn read_change(reader: &mut Reader<'_>, access: Access) -> Result<Option<Change>, Malformed> {
    let op = reader.u8()?;
    let kind = reader.u8()?;
    reader.zeros::<2>()?;
    let len = reader.len()?;
    let body = reader.take(len)?;
    let change = match op {
        OP_PUT => read_body(kind, body, access)?.map(Change::Put),
        OP_DELETE => read_key(kind, body)?.map(Change::Delete),
        _ => return Err(Malformed { what: "operation" }),
    };
    let may_skip = kind >= SKIPPABLE_KIND && access == Access::ReadOnly;
    if change.is_none() && !may_skip { Err(Malformed { what: "kind" }) } else { Ok(change) }
}

fn read_key(kind: u8, body: &[u8]) -> Result<Option<ObjectKey>, Malformed> {
    let mut reader = Reader::new(body, "id of a deletion");
    let id = reader.array()?;
    reader.end()?;
    Ok(Some(match kind {
        object::vg::KIND => ObjectKey::Vg(VgId::from_bytes(id)),
        object::pv::KIND => ObjectKey::Pv(PvId::from_bytes(id)),
        object::pool::KIND => ObjectKey::Pool(PoolId::from_bytes(id)),
        object::volume::KIND => ObjectKey::Volume(VolumeId::from_bytes(id)),
        object::intent::KIND => ObjectKey::Intent(IntentId::from_bytes(id)),
        _ => return Ok(None),
    }))
}
