//! Labels: what is written is read back, and only where it belongs.

use proptest::prelude::*;
use vol_format::feature::Features;
use vol_format::label::{Label, LabelError, blank, choose, decode, encode};
use vol_format::layout::{AREA_CANDIDATES, BLOCK, Geometry, LABEL_OFFSETS_IN_AREA};
use vol_types::Bytes;

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
fn fmt_5_fmt_31_copy_0_is_preferred_with_the_features_of_both() {
    let (newer, mut older) = (sample::label(), sample::label());
    older.vg_name = sample::name("before");
    older.features.ro_compat = 4;
    let [a, b] = [&newer, &older].map(|label| Ok(Some((label.clone(), 0))));
    let both = Label { features: older.features, ..newer.clone() };
    assert_eq!(choose(a.clone(), b.clone()), Ok(Some(both)));
    for unusable in [Ok(None), Err(LabelError::Checksum), Err(LabelError::Misplaced { found_at: 0, belongs_at: 1 })] {
        assert_eq!(choose(a.clone(), unusable.clone()), Ok(Some(newer.clone())));
        assert_eq!(choose(unusable.clone(), b.clone()), Ok(Some(older.clone())));
        assert_eq!(choose(unusable.clone(), Ok(None)), unusable.clone().map(|_| None));
        assert_eq!(choose(Ok(None), unusable.clone()), unusable.map(|_| None));
    }
    let foreign = Label { pv: sample::OTHER_PV, ..older };
    assert_eq!(choose(a, Ok(Some((foreign, 1)))), Ok(Some(newer)));
}

#[test]
fn fmt_31_an_incompatible_feature_in_either_copy_is_refused() {
    let label = sample::label();
    let features = Features { incompat: 2, ..Features::default() };
    let refused = |copy: u8| {
        let block = encode(&Label { features, ..label.clone() }, copy);
        decode(&block, label.geometry.label_offsets[usize::from(copy)])
    };
    let fine = Ok(Some((label.clone(), 0)));
    assert!(matches!(choose(refused(0), fine.clone()), Err(LabelError::Incompatible { .. })));
    assert!(matches!(choose(fine, refused(1)), Err(LabelError::Incompatible { .. })));
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

#[test]
fn fmt_32_a_log_of_2_to_the_63_bytes_is_refused() {
    let sample = sample::label();
    let at = sample.geometry.label_offsets[0];
    let decoded = |log_len: u64| {
        let slot_0 = sample.geometry.log_offset + log_len;
        let geometry = Geometry {
            log_len,
            checkpoint_offsets: [slot_0, slot_0 + 8192],
            checkpoint_len: 8192,
            data_offset: slot_0 + (1 << 20),
            ..sample.geometry
        };
        decode(&encode(&Label { geometry, device_size: Bytes(u64::MAX), ..sample.clone() }, 0), at)
    };
    assert!(decoded((1 << 63) - 4096).is_ok());
    assert!(decoded(1 << 63).is_err());
}

#[test]
fn fmt_4_a_log_too_short_for_a_record_or_a_slot_without_room_for_a_payload_is_refused() {
    let sample = sample::label();
    let at = sample.geometry.label_offsets[0];
    let decoded = |log_len, checkpoint_len| {
        let geometry = Geometry { log_len, checkpoint_len, ..sample.geometry };
        decode(&encode(&Label { geometry, ..sample.clone() }, 0), at)
    };
    assert!(decoded(1 << 20, 8192).is_ok());
    assert!(decoded((1 << 20) - 4096, 8192).is_err());
    assert!(decoded(1 << 20, 4096).is_err());
    assert!(decoded(1 << 20, 8192 + 512).is_err());
    assert!(decoded((1 << 20) + 4096, 8192).is_err());
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
