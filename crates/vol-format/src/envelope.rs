//! What every block of ours begins with: magic, checksum, version, and the VG and PV that it belongs to.
//!
//! It can be read without knowing what follows, and no later version moves it (FMT-3).

use vol_types::{PvId, VgId};

use crate::field::byte_map;
use crate::layout::BLOCK;

/// Raised only if the envelope itself or the meaning of a byte map changes; another major version is not read.
pub const VERSION_MAJOR: u16 = 1;
/// Raised with every feature bit that is added; for messages only, nothing depends on it.
pub const VERSION_MINOR: u16 = 0;

byte_map! {
    /// The byte map of the envelope.
    MAP, 0..END = 56;
    MAGIC at 0, 8;
    CRC32C at 8, 4;
    MAJOR at 12, 2;
    MINOR at 14, 2;
    HEADER_LEN at 16, 4;
    INDEX at 20, 4;
    VG at 24, 16;
    PV at 40, 16;
}

/// The envelope as read; only a caller that checked magic and checksum may trust it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub major: u16,
    pub minor: u16,
    pub header_len: u32,
    pub index: u32,
    pub vg: VgId,
    pub pv: PvId,
}

impl Envelope {
    pub fn read(block: &[u8; BLOCK]) -> Self {
        Self {
            major: MAJOR.u16(block),
            minor: MINOR.u16(block),
            header_len: HEADER_LEN.u32(block),
            index: INDEX.u32(block),
            vg: VgId::from_bytes(VG.get(block)),
            pv: PvId::from_bytes(PV.get(block)),
        }
    }
}

/// A block that holds an envelope of this version and is zero otherwise; the checksum is set by [`seal`].
pub(crate) fn block(magic: [u8; 8], header_len: usize, index: u32, vg: VgId, pv: PvId) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    MAGIC.put(&mut block, magic);
    MAJOR.put_u16(&mut block, VERSION_MAJOR);
    MINOR.put_u16(&mut block, VERSION_MINOR);
    HEADER_LEN.put_u32(&mut block, u32::try_from(header_len).unwrap_or(u32::MAX));
    INDEX.put_u32(&mut block, index);
    VG.put(&mut block, *vg.as_bytes());
    PV.put(&mut block, *pv.as_bytes());
    block
}

/// CRC-32C over all of `bytes`, its own four bytes taken as zero. `bytes` is at least one block.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let (magic, rest) = bytes.split_at_checked(8).unwrap_or((bytes, &[]));
    let rest = rest.get(4..).unwrap_or(&[]);
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(magic), &[0; 4]), rest)
}

/// Sets the checksum; the last thing that is done to a block or record.
pub(crate) fn seal(bytes: &mut [u8]) {
    let crc = checksum(bytes);
    if let Some(block) = bytes.first_chunk_mut() {
        CRC32C.put_u32(block, crc);
    }
}

/// Whether the checksum in the first block of `bytes` is that of all of `bytes`.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|block| CRC32C.u32(block) == checksum(bytes))
}

/// Whether all of `bytes` is zero, as unused bytes are (FMT-2).
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // By comparison of blocks, not byte by byte: opening a group does this to most of each log.
    const ZEROS: [u8; 512] = [0; 512];
    bytes.chunks(ZEROS.len()).all(|part| ZEROS.get(..part.len()) == Some(part))
}
