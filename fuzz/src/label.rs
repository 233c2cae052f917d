//! Labels: FMT-4, FMT-6, FMT-20.

use vol_format::feature::Access;
use vol_format::label::{self, MAGIC};
use vol_format::layout::{AREA_CANDIDATES, BLOCK, LABEL_OFFSETS_IN_AREA};

use crate::repair;

/// The bytes as a label, as they are and with a repaired checksum, at each place where labels are looked for.
///
/// Claims: no panic; a label that is accepted at a place is, byte for byte, what the encoder writes for it (FMT-20), names that
/// place (FMT-6), and everything it places is on the device in the order of the specification (FMT-4); the union of
/// two copies keeps the feature bits of both (FMT-31).
pub fn label(data: &[u8]) -> bool {
    let mut repaired = repair::padded(data, BLOCK);
    repair::put(&mut repaired, 0, &MAGIC);
    repair::seal(&mut repaired);
    // The third has what a header of this release must have, so that only the fields are the fuzzer's.
    let mut ours = repaired.clone();
    repair::put(&mut ours, 12, &[1, 0, 0, 0]);
    repair::put(&mut ours, 16, &312u32.to_le_bytes());
    repair::seal(&mut ours);
    [data, &repaired, &ours].into_iter().map(at_every_place).fold(false, |any, one| any | one)
}

fn at_every_place(block: &[u8]) -> bool {
    let mut accepted = false;
    for area in AREA_CANDIDATES {
        let found = LABEL_OFFSETS_IN_AREA.map(|offset| label::decode(block, area + offset));
        for (result, offset) in found.iter().zip(LABEL_OFFSETS_IN_AREA) {
            if let Ok(Some((label, copy))) = result {
                accepted = true;
                sound(block, label, *copy, area + offset);
            }
        }
        let [first, second] = found;
        if let Ok(Some(chosen)) = label::choose(first.clone(), second.clone()) {
            for (label, _) in [first, second].into_iter().flatten().flatten() {
                assert_eq!(chosen.features.union(label.features), chosen.features, "FMT-31: a feature bit was lost");
            }
        }
    }
    accepted
}

fn sound(block: &[u8], label: &label::Label, copy: u8, found_at: u64) {
    let geometry = &label.geometry;
    assert_eq!(geometry.label_offsets.get(usize::from(copy)), Some(&found_at), "FMT-6");
    let data_len = geometry.extent_count.checked_mul(label.extent_size.get()).expect("FMT-4: data length");
    let [slot_0, slot_1] = geometry.checkpoint_offsets;
    let places = [
        (geometry.label_offsets[0], BLOCK as u64),
        (geometry.label_offsets[1], BLOCK as u64),
        (geometry.log_offset, geometry.log_len),
        (slot_0, geometry.checkpoint_len),
        (slot_1, geometry.checkpoint_len),
        (geometry.data_offset, data_len),
    ];
    let mut end = geometry.area_offset;
    for (start, len) in places {
        assert!(start >= end && start.is_multiple_of(BLOCK as u64), "FMT-4: {places:?}");
        end = start.checked_add(len).expect("FMT-4: overflow");
    }
    assert!(end <= label.device_size.get(), "FMT-4: past the end of the device");
    let access = label.features.check().expect("FMT-30: a label of unknown features was accepted");
    if access == Access::ReadWrite {
        assert_eq!(label::encode(label, copy), repair::without_minor(&block[..BLOCK]), "FMT-20");
    }
    for copy in [0, 1] {
        let again = label::decode(&label::encode(label, copy), geometry.label_offsets[usize::from(copy)]);
        assert_eq!(again, Ok(Some((label.clone(), copy))), "written and read again");
    }
}
