//! The label: the block that says which PV of which VG a device is, how it is laid out, and who may read it.
//!
//! Two copies stand at fixed places; either will do. Copy 0 is written and flushed before copy 1 (FMT-5), so a reader
//! prefers copy 0, and takes the union of both copies' feature words (FMT-31).

use vol_types::{Bytes, Name, PvId, VgId};

use crate::envelope::{self, Envelope, is_zero};
use crate::feature::{Access, FeatureError, Features};
use crate::field::byte_map;
use crate::layout::{BLOCK, Geometry};
use crate::payload::Malformed;

/// Begins a label.
pub const MAGIC: [u8; 8] = *b"VOLUMED\x01";

byte_map! {
    /// The byte map of a label behind its envelope.
    MAP, 56..HEADER_LEN = 312;
    COMPAT at 56, 8;
    RO_COMPAT at 64, 8;
    INCOMPAT at 72, 8;
    DEVICE_SIZE at 80, 8;
    EXTENT_SIZE at 88, 8;
    SECTOR_SIZE at 96, 4;
    VG_NAME_LEN at 100, 4;
    AREA_OFFSET at 104, 8;
    LABEL_OFFSET_0 at 112, 8;
    LABEL_OFFSET_1 at 120, 8;
    LOG_OFFSET at 128, 8;
    LOG_LEN at 136, 8;
    CHECKPOINT_OFFSET_0 at 144, 8;
    CHECKPOINT_OFFSET_1 at 152, 8;
    CHECKPOINT_LEN at 160, 8;
    DATA_OFFSET at 168, 8;
    EXTENT_COUNT at 176, 8;
    VG_NAME at 184, 128;
}

const _: () = assert!(vol_types::name::NAME_MAX == 128, "a VG's name must fit its field");

/// What a label says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub vg: VgId,
    pub pv: PvId,
    /// As of the last time a label was written; the catalog knows the name.
    pub vg_name: Name,
    pub device_size: Bytes,
    /// Logical sector size: 512 or 4096.
    pub sector_size: u32,
    pub extent_size: Bytes,
    pub geometry: Geometry,
    pub features: Features,
}

/// Why a block that begins like a label is none to be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Fewer than 4096 bytes were given.
    #[error("a label has {BLOCK} bytes, {0} were read")]
    Short(usize),
    /// Torn or damaged.
    #[error("the label's checksum does not match: torn or damaged")]
    Checksum,
    #[error("the label has format version {major}.{minor}, this release reads {ours}", ours = envelope::VERSION_MAJOR)]
    Version { major: u16, minor: u16 },
    /// The ids can be trusted for a message, nothing else.
    #[error("physical volume {pv} of volume group {vg} cannot be read")]
    Incompatible {
        vg: VgId,
        pv: PvId,
        #[source]
        features: FeatureError,
    },
    /// The label is sound but of another place: seen through a partition, or copied.
    #[error("the label read at byte {found_at} belongs at byte {belongs_at}")]
    Misplaced { found_at: u64, belongs_at: u64 },
    #[error("the label contradicts itself")]
    Malformed(#[from] Malformed),
}

/// The block for copy 0 or 1 of a label.
pub fn encode(label: &Label, copy: u8) -> Vec<u8> {
    let mut block = envelope::block(MAGIC, HEADER_LEN, u32::from(copy), label.vg, label.pv);
    COMPAT.put_u64(&mut block, label.features.compat);
    RO_COMPAT.put_u64(&mut block, label.features.ro_compat);
    INCOMPAT.put_u64(&mut block, label.features.incompat);
    DEVICE_SIZE.put_u64(&mut block, label.device_size.get());
    EXTENT_SIZE.put_u64(&mut block, label.extent_size.get());
    SECTOR_SIZE.put_u32(&mut block, label.sector_size);
    let Geometry { area_offset, label_offsets: [label_0, label_1], checkpoint_offsets: [slot_0, slot_1], .. } =
        label.geometry;
    AREA_OFFSET.put_u64(&mut block, area_offset);
    LABEL_OFFSET_0.put_u64(&mut block, label_0);
    LABEL_OFFSET_1.put_u64(&mut block, label_1);
    LOG_OFFSET.put_u64(&mut block, label.geometry.log_offset);
    LOG_LEN.put_u64(&mut block, label.geometry.log_len);
    CHECKPOINT_OFFSET_0.put_u64(&mut block, slot_0);
    CHECKPOINT_OFFSET_1.put_u64(&mut block, slot_1);
    CHECKPOINT_LEN.put_u64(&mut block, label.geometry.checkpoint_len);
    DATA_OFFSET.put_u64(&mut block, label.geometry.data_offset);
    EXTENT_COUNT.put_u64(&mut block, label.geometry.extent_count);
    let name = label.vg_name.as_str().as_bytes();
    let mut padded = [0; 128];
    padded.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    VG_NAME_LEN.put_u32(&mut block, u32::try_from(name.len()).unwrap_or(u32::MAX));
    VG_NAME.put(&mut block, padded);
    let mut block = block.to_vec();
    envelope::seal(&mut block);
    block
}

/// Reads the label in a block that was read at byte `found_at` of a device; `None` if there is none.
pub fn decode(block: &[u8], found_at: u64) -> Result<Option<(Label, u8)>, LabelError> {
    let Some((block, _)) = block.split_first_chunk::<BLOCK>() else { return Err(LabelError::Short(block.len())) };
    if envelope::MAGIC.get(block) != MAGIC {
        return Ok(None);
    }
    if !envelope::is_sealed(block) {
        return Err(LabelError::Checksum);
    }
    let head = Envelope::read(block);
    if head.major != envelope::VERSION_MAJOR {
        return Err(LabelError::Version { major: head.major, minor: head.minor });
    }
    let features =
        Features { compat: COMPAT.u64(block), ro_compat: RO_COMPAT.u64(block), incompat: INCOMPAT.u64(block) };
    let access =
        features.check().map_err(|features| LabelError::Incompatible { vg: head.vg, pv: head.pv, features })?;
    check_header_len(block, head.header_len, access)?;
    let (label, copy) = read(block, head, features)?;
    let belongs_at = if copy == 0 { label.geometry.label_offsets[0] } else { label.geometry.label_offsets[1] };
    if belongs_at != found_at {
        return Err(LabelError::Misplaced { found_at, belongs_at });
    }
    Ok(Some((label, copy)))
}

/// What the two places of an area say together: copy 0 before copy 1 (FMT-5), with the feature words of both (FMT-31).
/// A copy that is damaged, absent or of another place does not matter if the other is sound; one that needs a feature
/// that this release does not know always does.
pub fn choose(
    copy_0: Result<Option<(Label, u8)>, LabelError>,
    copy_1: Result<Option<(Label, u8)>, LabelError>,
) -> Result<Option<Label>, LabelError> {
    match (copy_0, copy_1) {
        (Err(error @ LabelError::Incompatible { .. }), _) | (_, Err(error @ LabelError::Incompatible { .. })) => {
            Err(error)
        }
        (Ok(Some((mut label, _))), Ok(Some((other, _)))) => {
            // A label of another PV is what a disk carried before, and of no consequence.
            if (label.vg, label.pv) == (other.vg, other.pv) {
                label.features = label.features.union(other.features);
            }
            Ok(Some(label))
        }
        (Ok(Some((label, _))), _) | (_, Ok(Some((label, _)))) => Ok(Some(label)),
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(None), Ok(None)) => Ok(None),
    }
}

/// FMT-2: what lies behind the header is zero. A header may be longer than ours only if we are not going to write.
fn check_header_len(block: &[u8; BLOCK], header_len: u32, access: Access) -> Result<(), Malformed> {
    let len = usize::try_from(header_len).unwrap_or(usize::MAX);
    let known = len == HEADER_LEN || (len > HEADER_LEN && access == Access::ReadOnly);
    let unused_is_zero = block.get(len..).is_some_and(is_zero);
    if known && unused_is_zero { Ok(()) } else { Err(Malformed { what: "header length or unused bytes" }) }
}

fn read(block: &[u8; BLOCK], head: Envelope, features: Features) -> Result<(Label, u8), Malformed> {
    let geometry = Geometry {
        area_offset: AREA_OFFSET.u64(block),
        label_offsets: [LABEL_OFFSET_0.u64(block), LABEL_OFFSET_1.u64(block)],
        log_offset: LOG_OFFSET.u64(block),
        log_len: LOG_LEN.u64(block),
        checkpoint_offsets: [CHECKPOINT_OFFSET_0.u64(block), CHECKPOINT_OFFSET_1.u64(block)],
        checkpoint_len: CHECKPOINT_LEN.u64(block),
        data_offset: DATA_OFFSET.u64(block),
        extent_count: EXTENT_COUNT.u64(block),
    };
    let copy = u8::try_from(head.index).ok().filter(|copy| *copy <= 1).ok_or(Malformed { what: "copy" })?;
    let sector_size = SECTOR_SIZE.u32(block);
    if !matches!(sector_size, 512 | 4096) {
        return Err(Malformed { what: "sector size" });
    }
    let label = Label {
        vg: head.vg,
        pv: head.pv,
        vg_name: read_name(block).ok_or(Malformed { what: "name of the volume group" })?,
        device_size: Bytes(DEVICE_SIZE.u64(block)),
        sector_size,
        extent_size: Bytes(EXTENT_SIZE.u64(block)),
        geometry,
        features,
    };
    geometry.check(label.device_size, label.extent_size).map_err(|what| Malformed { what })?;
    Ok((label, copy))
}

fn read_name(block: &[u8; BLOCK]) -> Option<Name> {
    let bytes = VG_NAME.get(block);
    let (name, unused) = bytes.split_at_checked(usize::try_from(VG_NAME_LEN.u32(block)).ok()?)?;
    if is_zero(unused) { Name::new(str::from_utf8(name).ok()?).ok() } else { None }
}

/// The block that erases a label.
pub fn blank() -> Vec<u8> {
    vec![0; BLOCK]
}
