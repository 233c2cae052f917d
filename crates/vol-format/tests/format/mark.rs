//! The mark: an independent reader finds our partition where it should be, and the area stays untouched.

use std::io::{self, Read, Seek, SeekFrom, Write};

use proptest::prelude::*;
use uuid::Uuid;
use vol_format::layout::{PvKind, geometry};
use vol_format::mark::*;
use vol_types::{Bytes, PvId};

use crate::sample::PV;

const DISK_GUID: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

/// A disk that is zero but for some writes.
#[derive(Debug)]
struct Sparse {
    size: u64,
    writes: Vec<(u64, Vec<u8>)>,
    at: u64,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        for byte in buffer.iter_mut().take(usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX)) {
            let found = self
                .writes
                .iter()
                .find_map(|(start, data)| data.get(usize::try_from(self.at.checked_sub(*start)?).ok()?).copied());
            *byte = found.unwrap_or(0);
            self.at += 1;
            count += 1;
        }
        Ok(count)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => self.size.checked_add_signed(by).unwrap(),
            SeekFrom::Current(by) => self.at.checked_add_signed(by).unwrap(),
        };
        Ok(self.at)
    }
}

impl Write for Sparse {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn fmt_9_another_gpt_implementation_reads_one_partition_of_our_type_over_the_area() {
    for (size, sector) in [(64 << 20, 512), (64 << 20, 4096), ((20 << 40) + 8192, 512), ((20 << 40) + 8192, 4096)] {
        let writes = gpt(Bytes(size), sector, PV, DISK_GUID).unwrap();
        let disk = Sparse { size, writes, at: 0 };
        let sector_size = gpt::disk::LogicalBlockSize::try_from(u64::from(sector)).unwrap();
        let config = gpt::GptConfig::new().logical_block_size(sector_size).only_valid_headers(true);
        let mut table = config.open_from_device(disk).unwrap();
        assert_eq!(*table.guid(), DISK_GUID);
        assert!(table.primary_header().is_ok() && table.backup_header().is_ok());
        assert_eq!(table.backup_header().unwrap().current_lba, size / u64::from(sector) - 1);
        assert_eq!(table.partitions().len(), 1);
        let partition = &table.partitions()[&1];
        assert_eq!(partition.part_type_guid.guid, PARTITION_TYPE);
        assert_eq!(partition.part_guid, PV.uuid());
        assert_eq!(partition.name, PARTITION_NAME);
        assert_eq!(partition.bytes_start(sector_size).unwrap(), 1 << 20);
        let end = partition.bytes_start(sector_size).unwrap() + partition.bytes_len(sector_size).unwrap();
        assert_eq!(end, size - (1 << 20));
        let header = table.header();
        assert!(header.first_usable <= partition.first_lba && partition.last_lba <= header.last_usable);
        let mbr = gpt::mbr::ProtectiveMBR::from_disk(table.device_mut(), sector_size).unwrap();
        let record = mbr.partition(0).unwrap();
        assert_eq!((record.os_type, record.lb_start), (0xee, 1));
        assert_eq!(u64::from(record.lb_size), (size / u64::from(sector) - 1).min(0xffff_ffff));
    }
}

#[test]
fn a_disk_that_cannot_carry_the_mark_is_refused() {
    assert_eq!(gpt(Bytes::gib(1), 520, PV, DISK_GUID), Err(MarkError::SectorSize(520)));
    assert_eq!(gpt(Bytes::gib(1), 0, PV, DISK_GUID), Err(MarkError::SectorSize(0)));
    assert_eq!(gpt(Bytes::mib(2), 512, PV, DISK_GUID), Err(MarkError::TooSmall(Bytes::mib(2))));
    assert_eq!(erase(Bytes(4095)), []);
    assert_eq!(erase(Bytes(4096)).len(), 2);
}

proptest! {
    #[test]
    fn fmt_9_mark_and_erasure_touch_the_same_blocks_and_never_the_area(
        size in prop_oneof![64u64 << 20..1 << 40, (1u64 << 62)..], big: bool,
    ) {
        let marked = gpt(Bytes(size), if big { 4096 } else { 512 }, PV, DISK_GUID).unwrap();
        let erased = erase(Bytes(size));
        let ranges = |writes: &[(u64, Vec<u8>)]| -> Vec<_> { writes.iter().map(|(at, data)| (*at, data.len())).collect() };
        prop_assert_eq!(ranges(&marked), ranges(&erased));
        let area = geometry(Bytes(size), PvKind::WholeDisk, Bytes::mib(1)).unwrap();
        let data_end = area.data_offset + (area.extent_count << 20);
        for (at, data) in &marked {
            let end = at + data.len() as u64;
            prop_assert!(at % 4096 == 0 && data.len() % 4096 == 0 && end <= size);
            prop_assert!(end <= area.area_offset || *at >= data_end);
        }
        prop_assert!(erased.iter().all(|(_, data)| data.iter().all(|byte| *byte == 0)));
    }
}

#[test]
fn half_a_mark_is_the_marks_own_and_another_table_is_not() {
    let (pv, other) = (PvId::from_uuid(Uuid::from_u128(1)), PvId::from_uuid(Uuid::from_u128(2)));
    for sector in [512, 4096] {
        let writes = gpt(Bytes::mib(64), sector, pv, Uuid::from_u128(3)).unwrap();
        let (tail, head) = (&writes[0].1, &writes[1].1);
        let foreign = gpt(Bytes::mib(64), sector, other, Uuid::from_u128(3)).unwrap();
        let (no_head, no_tail) = (vec![0; head.len()], vec![0; tail.len()]);
        assert!(is_of(pv, sector, head, tail));
        assert!(is_of(pv, sector, head, &no_tail), "erasing was cut short, sectors of {sector}");
        assert!(is_of(pv, sector, &no_head, tail), "marking was cut short, sectors of {sector}");
        assert!(!is_of(pv, sector, &foreign[1].1, tail), "somebody else has partitioned the disk since");
        assert!(!is_of(pv, sector, &no_head, &foreign[0].1));
        assert!(!is_of(pv, sector, &no_head, &no_tail));
        assert!(!is_of(pv, sector, &[], &[]) && !is_of(pv, 0, head, tail) && !is_of(pv, u32::MAX, head, tail));
    }
}
