//! Makes checksums right again, so that what lies behind them is reached. Written from `docs/spec/on-disk-format.md` and not
//! with the encoders that are under test.

use vol_format::layout::BLOCK;
use vol_types::{PvId, VgId};

/// The VG and PV that records and checkpoints of the targets are bound to.
pub const VG: VgId = VgId::from_bytes([0x11; 16]);
/// See [`VG`].
pub const PV: PvId = PvId::from_bytes([0x22; 16]);

/// Sets the CRC-32C of a block or record: over everything, its own four bytes taken as zero (section 3 of the specification).
/// Nothing happens to fewer than twelve bytes.
pub fn seal(bytes: &mut [u8]) {
    if let Some(place) = bytes.get_mut(8..12) {
        place.fill(0);
        let crc = crc32c::crc32c(bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The first `len` bytes, filled up with zeros.
pub fn padded(data: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = data[..data.len().min(len)].to_vec();
    bytes.resize(len, 0);
    bytes
}

/// Writes an envelope that will be accepted: magic, version 1, header length, and the ids of the targets' copy.
pub fn envelope(block: &mut [u8], magic: [u8; 8], header_len: u32) {
    put(block, 0, &magic);
    put(block, 12, &[1, 0, 0, 0]);
    put(block, 16, &header_len.to_le_bytes());
    put(block, 24, VG.as_bytes());
    put(block, 40, PV.as_bytes());
}

/// A block or record as the encoder would write it: the checksum and the minor version (for messages only, section 3) are
/// what a decoder does not give back.
pub fn without_minor(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    put(&mut bytes, 14, &[0, 0]);
    seal(&mut bytes);
    bytes
}

/// A number of the header at `at`; zero past the end.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |found| u32::from_le_bytes(*found))
}

/// As [`u32_at`].
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |found| u64::from_le_bytes(*found))
}

/// Writes `value` at `at`, as far as there is room.
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
}

/// The next multiple of a block.
pub fn blocks(len: usize) -> usize {
    len.next_multiple_of(BLOCK)
}
