//! FMT-1 to FMT-4: every device that is accepted is laid out without overlaps.

use super::*;
use proptest::prelude::*;

const MIB: u64 = Bytes::MIB;

#[test]
fn a_small_disk_is_laid_out_as_the_specification_shows() {
    let geometry = geometry(Bytes::mib(64), PvKind::WholeDisk, Bytes::mib(4)).unwrap();
    let expected = Geometry {
        area_offset: MIB,
        label_offsets: [MIB + 65_536, MIB + 131_072],
        log_offset: 2 * MIB,
        log_len: MIB,
        checkpoint_offsets: [3 * MIB, 4 * MIB + MIB / 2],
        checkpoint_len: MIB + MIB / 2,
        data_offset: 6 * MIB,
        extent_count: 14,
    };
    assert_eq!(geometry, expected);
}

#[test]
fn a_large_partition_has_a_zone_of_256_mib() {
    let geometry = geometry(Bytes(2 * Bytes::TIB), PvKind::Partition, Bytes::mib(4)).unwrap();
    assert_eq!(geometry.area_offset, 0);
    assert_eq!(geometry.log_len, 64 * MIB);
    assert_eq!(geometry.checkpoint_len, 96 * MIB);
    assert_eq!(geometry.data_offset, 257 * MIB);
    assert_eq!(geometry.extent_count, 524_223);
}

#[test]
fn the_size_that_is_asked_for_is_enough_and_no_byte_less() {
    for kind in [PvKind::WholeDisk, PvKind::Partition] {
        for extent_mib in [1, 4, 64, 1024] {
            let extent_size = Bytes::mib(extent_mib);
            let Err(LayoutError::TooSmall { needed }) = geometry(Bytes::ZERO, kind, extent_size) else {
                panic!("an empty device was laid out");
            };
            assert!(geometry(needed, kind, extent_size).unwrap().extent_count >= 1);
            assert!(geometry(Bytes(needed.get() - 1), kind, extent_size).is_err());
        }
    }
}

#[test]
fn an_extent_size_that_is_no_power_of_two_or_out_of_bounds_is_refused() {
    for bad in [0, 1, MIB - 1, 3 * MIB, 2 << 30, u64::MAX] {
        let refused = geometry(Bytes::gib(8), PvKind::WholeDisk, Bytes(bad));
        assert_eq!(refused, Err(LayoutError::BadExtentSize(Bytes(bad))));
    }
}

proptest! {
    #[test]
    fn fmt_1_fmt_4_what_is_laid_out_has_no_overlaps_and_stays_on_the_device(
        size in prop_oneof![0u64..1 << 31, 0u64..1 << 45, any::<u64>()],
        whole in any::<bool>(),
        extent_bits in 20u32..=30,
    ) {
        let (size, extent_size) = (Bytes(size), Bytes(1 << extent_bits));
        let kind = if whole { PvKind::WholeDisk } else { PvKind::Partition };
        if let Ok(geometry) = geometry(size, kind, extent_size) {
            prop_assert_eq!(geometry.check(size, extent_size), Ok(()));
            prop_assert_eq!(geometry.kind(), kind);
            prop_assert!(geometry.extent_count >= 1);
            prop_assert_eq!(geometry.data_offset % MIB, 0);
            prop_assert_eq!(geometry.log_len % BLOCK_BYTES, 0);
            let end = geometry.data_offset + geometry.extent_count * extent_size.get();
            let tail = if whole { WHOLE_DISK_TAIL } else { 0 };
            prop_assert!(end + tail <= size.get());
            prop_assert!(geometry.checkpoint_offsets[1] + geometry.checkpoint_len <= geometry.data_offset);
        }
    }

    #[test]
    fn no_geometry_makes_the_check_panic(words in any::<[u64; 10]>(), extent in any::<u64>(), size in any::<u64>()) {
        let [area_offset, a, b, log_offset, log_len, c0, c1, checkpoint_len, data_offset, extent_count] = words;
        let geometry = Geometry {
            area_offset, label_offsets: [a, b], log_offset, log_len, checkpoint_offsets: [c0, c1], checkpoint_len,
            data_offset, extent_count,
        };
        prop_assert!(geometry.check(Bytes(size), Bytes(extent)).is_err());
    }
}
