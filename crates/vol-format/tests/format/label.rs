//! Labels: what is written is read back, and only where it belongs.

use proptest::prelude::*;
use vol_format::feature::Features;
use vol_format::label::{LabelError, blank, decode, encode};
use vol_format::layout::{AREA_CANDIDATES, BLOCK, LABEL_OFFSETS_IN_AREA};

use crate::hostile::reseal;
use crate::sample;

#[test]
fn a_blank_block_and_a_foreign_one_hold_no_label() {
    assert_eq!(decode(&blank(), 0), Ok(None));
    assert_eq!(decode(&[0x5a; BLOCK], 0), Ok(None));
    assert_eq!(decode(&[0; 4095], 0), Err(LabelError::Short(4095)));
}

#[test]
fn fmt_6_a_label_seen_through_a_partition_is_misplaced() {
    let label = sample::label();
    let [at_0, at_1] = label.geometry.label_offsets;
    let [whole_disk, partition] = AREA_CANDIDATES;
    assert_eq!(at_0, whole_disk + LABEL_OFFSETS_IN_AREA[0]);
    assert_eq!(decode(&encode(&label, 0), at_0), Ok(Some((label.clone(), 0))));
    assert_eq!(decode(&encode(&label, 1), at_1), Ok(Some((label.clone(), 1))));
    let seen_at = partition + LABEL_OFFSETS_IN_AREA[0];
    let misplaced = LabelError::Misplaced { found_at: seen_at, belongs_at: at_0 };
    assert_eq!(decode(&encode(&label, 0), seen_at), Err(misplaced));
    let swapped = LabelError::Misplaced { found_at: at_0, belongs_at: at_1 };
    assert_eq!(decode(&encode(&label, 1), at_0), Err(swapped));
}

#[test]
fn fmt_30_an_unknown_incompatible_feature_is_refused_and_the_label_names_its_group() {
    let mut label = sample::label();
    label.features.incompat = 1 << 5;
    let error = decode(&encode(&label, 0), label.geometry.label_offsets[0]).unwrap_err();
    let LabelError::Incompatible { vg, pv, features } = error else { panic!("{error}") };
    assert_eq!((vg, pv, features.unknown_incompat), (label.vg, label.pv, 1 << 5));
}

#[test]
fn fmt_22_a_longer_header_is_read_only_under_a_read_only_compatible_feature() {
    let mut label = sample::label();
    let at = label.geometry.label_offsets[0];
    let longer = |label: &_| {
        let mut block = encode(label, 0);
        block[16..20].copy_from_slice(&320u32.to_le_bytes());
        block[312..320].copy_from_slice(b"new here");
        reseal(&mut block);
        block
    };
    assert!(matches!(decode(&longer(&label), at), Err(LabelError::Malformed(_))));
    label.features.ro_compat = 1;
    assert_eq!(decode(&longer(&label), at), Ok(Some((label.clone(), 0))));
}

#[test]
fn fmt_31_the_features_of_two_copies_that_differ_are_both_in_force() {
    let newer = Features { incompat: 2, ..Features::default() };
    assert!(sample::label().features.union(newer).check().is_err());
}

#[test]
fn fmt_3_another_major_version_is_told_with_its_number() {
    let mut block = encode(&sample::label(), 0);
    block[12..16].copy_from_slice(&[2, 0, 7, 0]);
    reseal(&mut block);
    assert_eq!(decode(&block, 0), Err(LabelError::Version { major: 2, minor: 7 }));
}

#[test]
fn fmt_4_a_label_with_a_valid_checksum_and_an_impossible_geometry_is_refused() {
    let at = sample::label().geometry.label_offsets[0];
    for (offset, what) in [(80, "device size"), (88, "extent size"), (176, "extent count"), (168, "data offset")] {
        for value in [0, 1, u64::MAX, u64::MAX - 4095, 1 << 63] {
            let mut block = encode(&sample::label(), 0);
            block[offset..offset + 8].copy_from_slice(&u64::to_le_bytes(value));
            reseal(&mut block);
            let decoded = decode(&block, at);
            // A larger device and no extents at all contradict nothing.
            let harmless = (offset == 80 && value >= 1 << 63) || (offset == 176 && value <= 1);
            assert_eq!(decoded.is_ok(), harmless, "{what} = {value}: {decoded:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_label_is_read_back_as_it_was_written(label in sample::any_label(), copy in 0..2u8) {
        let block = encode(&label, copy);
        prop_assert_eq!(block.len(), BLOCK);
        let at = label.geometry.label_offsets[usize::from(copy)];
        prop_assert_eq!(decode(&block, at), Ok(Some((label, copy))));
    }
}
