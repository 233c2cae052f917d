//! The mark on a whole disk: a GPT with one partition of our own type, so that every other tool sees that it is taken.
//!
//! Written by hand rather than with the `gpt` crate, which draws random GUIDs, writes through a device and cannot say
//! beforehand what it will write; the tests let that crate read what is made here. Source: UEFI Specification 2.10,
//! section 5 (its checksum is the CRC-32 of IEEE 802.3, not the CRC-32C of our own blocks).

use uuid::Uuid;
use vol_types::{Bytes, PvId};

use crate::layout::{BLOCK_BYTES, WHOLE_DISK_AREA_OFFSET, WHOLE_DISK_TAIL, round_down};

/// Type of our partition; drawn once at random for this format, never changed.
pub const PARTITION_TYPE: Uuid = Uuid::from_u128(0xd49c_f90c_d264_48eb_9cd7_b346_8719_19fe);
/// Name of our partition, as partitioning tools show it.
pub const PARTITION_NAME: &str = "volumed physical volume";
/// Entries in the table and bytes of each: what every tool writes, and the least UEFI allows.
pub const ENTRIES: u32 = 128;
pub const ENTRY_LEN: u32 = 128;
/// What is written, and erased, at the beginning of a disk: MBR, header and entries with 4096-byte sectors.
pub const HEAD_LEN: u64 = 24 * Bytes::KIB;
/// What is written, and erased, at the end: entries and header, rounded up to blocks.
pub const TAIL_LEN: u64 = 20 * Bytes::KIB;

const TABLE_LEN: u32 = ENTRIES * ENTRY_LEN;
const HEADER_LEN: u32 = 92;
const _: () = assert!(HEAD_LEN <= WHOLE_DISK_AREA_OFFSET && TAIL_LEN <= WHOLE_DISK_TAIL);
const _: () = assert!(HEAD_LEN == 2 * 4096 + TABLE_LEN as u64 && TAIL_LEN == 4096 + TABLE_LEN as u64);
const _: () = assert!(HEAD_LEN.is_multiple_of(BLOCK_BYTES) && TAIL_LEN.is_multiple_of(BLOCK_BYTES));

/// Why a disk cannot be marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    #[error("a disk of {0} is too small to be marked")]
    TooSmall(Bytes),
    #[error("a sector of {0} bytes is neither 512 nor 4096")]
    SectorSize(u32),
}

/// A disk in its own sectors.
struct Disk {
    sector: u32,
    /// Number of the last sector that we use; what is left of the last 4096 bytes is not used (FMT-1).
    last: u64,
    /// Sectors of one table of entries.
    table: u64,
    guid: Uuid,
    entries: Vec<u8>,
}

/// The writes that mark a disk: offset and data, both multiples of 4096. The backup comes first; the order in which they
/// become durable does not matter, since a disk whose marking was cut short has a label that explains it (FMT-27).
pub fn gpt(device_size: Bytes, sector_size: u32, pv: PvId, disk_guid: Uuid) -> Result<Vec<(u64, Vec<u8>)>, MarkError> {
    let (Some(sector), true) = (u64::from(sector_size).checked_ilog2(), matches!(sector_size, 512 | 4096)) else {
        return Err(MarkError::SectorSize(sector_size));
    };
    let end = round_down(device_size.get(), BLOCK_BYTES);
    let area_end = end.saturating_sub(WHOLE_DISK_TAIL);
    if area_end <= WHOLE_DISK_AREA_OFFSET {
        return Err(MarkError::TooSmall(device_size));
    }
    let partition = (WHOLE_DISK_AREA_OFFSET >> sector, (area_end >> sector).saturating_sub(1));
    let disk = Disk {
        sector: sector_size,
        last: (end >> sector).saturating_sub(1),
        table: u64::from(TABLE_LEN) >> sector,
        guid: disk_guid,
        entries: entries(pv, partition),
    };
    let backup_table = disk.last.saturating_sub(disk.table);
    let mut tail = zeros(TAIL_LEN);
    let tail_start = end.saturating_sub(TAIL_LEN);
    put(&mut tail, (backup_table << sector).saturating_sub(tail_start), &disk.entries);
    put(&mut tail, (disk.last << sector).saturating_sub(tail_start), &header(&disk, disk.last, 1, backup_table));
    let mut head = zeros(HEAD_LEN);
    put(&mut head, 0, &protective_mbr(disk.last));
    put(&mut head, 1 << sector, &header(&disk, 1, disk.last, 2));
    put(&mut head, 2 << sector, &disk.entries);
    Ok(vec![(tail_start, tail), (0, head)])
}

/// The writes that take the mark away. On a disk too small to have one, as much as there is.
pub fn erase(device_size: Bytes) -> Vec<(u64, Vec<u8>)> {
    let end = round_down(device_size.get(), BLOCK_BYTES);
    let (head, tail) = (HEAD_LEN.min(end), TAIL_LEN.min(end));
    if end == 0 {
        return Vec::new();
    }
    vec![(end.saturating_sub(tail), zeros(tail)), (0, zeros(head))]
}

/// Whether the partition table on a disk is the mark of `pv`, by its first [`HEAD_LEN`] and its last [`TAIL_LEN`] bytes (the size
/// rounded down to blocks). The backup alone is one too: marking was cut short, or the beginning was wiped. A table of somebody
/// else at the beginning counts, whatever the backup says.
pub fn is_of(pv: PvId, sector_size: u32, head: &[u8], tail: &[u8]) -> bool {
    let sector = u64::from(sector_size);
    // The entries begin in the third sector, the backup's before the last one, and each begins with its type and its own GUID
    // (UEFI 2.10, 5.3.3).
    let first = |table: &[u8], at: u64| {
        let at = usize::try_from(at).ok()?;
        let entry = table.get(at..at.checked_add(32)?)?;
        Some(entry.starts_with(&PARTITION_TYPE.to_bytes_le()) && entry.ends_with(&pv.uuid().to_bytes_le()))
    };
    let header = usize::try_from(sector).ok().and_then(|at| head.get(at..));
    if header.is_some_and(|header| header.starts_with(b"EFI PART")) {
        return first(head, sector.saturating_mul(2)).unwrap_or(false);
    }
    let backup = TAIL_LEN.saturating_sub(u64::from(TABLE_LEN)).checked_sub(sector);
    backup.and_then(|at| first(tail, at)).unwrap_or(false)
}

fn zeros(len: u64) -> Vec<u8> {
    vec![0; usize::try_from(len).unwrap_or(0)]
}

/// Copies `bytes` to `at`; what would go past the end is left out.
fn put(to: &mut [u8], at: u64, bytes: &[u8]) {
    let place = usize::try_from(at).ok().and_then(|at| to.get_mut(at..)).unwrap_or(&mut []);
    place.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// The record that keeps tools from before GPT away (UEFI 5.2.3): one partition of type 0xEE over the whole disk.
fn protective_mbr(last: u64) -> [u8; 512] {
    let mut mbr = [0; 512];
    let sectors = u32::try_from(last).unwrap_or(u32::MAX);
    put(&mut mbr, 446, &[0, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    put(&mut mbr, 458, &sectors.to_le_bytes());
    put(&mut mbr, 510, &[0x55, 0xaa]);
    mbr
}

/// A table with our partition in its first entry (UEFI 5.3.3).
fn entries(pv: PvId, (first, last): (u64, u64)) -> Vec<u8> {
    let mut table = zeros(u64::from(TABLE_LEN));
    put(&mut table, 0, &PARTITION_TYPE.to_bytes_le());
    put(&mut table, 16, &pv.uuid().to_bytes_le());
    put(&mut table, 32, &first.to_le_bytes());
    put(&mut table, 40, &last.to_le_bytes());
    let name: Vec<u8> = PARTITION_NAME.encode_utf16().take(36).flat_map(u16::to_le_bytes).collect();
    put(&mut table, 56, &name);
    table
}

/// The header that stands at sector `own` and knows the other one at `other` (UEFI 5.3.2).
fn header(disk: &Disk, own: u64, other: u64, table: u64) -> Vec<u8> {
    let first_usable = disk.table.saturating_add(2);
    let last_usable = disk.last.saturating_sub(disk.table).saturating_sub(1);
    let mut header = Vec::new();
    header.extend_from_slice(b"EFI PART");
    header.extend_from_slice(&[0, 0, 1, 0]);
    header.extend_from_slice(&HEADER_LEN.to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    for sector in [own, other, first_usable, last_usable] {
        header.extend_from_slice(&sector.to_le_bytes());
    }
    header.extend_from_slice(&disk.guid.to_bytes_le());
    header.extend_from_slice(&table.to_le_bytes());
    header.extend_from_slice(&ENTRIES.to_le_bytes());
    header.extend_from_slice(&ENTRY_LEN.to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(&disk.entries).to_le_bytes());
    let crc = crc32fast::hash(&header).to_le_bytes();
    put(&mut header, 16, &crc);
    header.resize(usize::try_from(disk.sector).unwrap_or(0), 0);
    header
}
