//! Damage that a checksum must find: every single bit, and every way a write can tear at 512 bytes.

use proptest::prelude::*;
use vol_format::layout::BLOCK;
use vol_format::record::{self, GENESIS, RecordError};
use vol_format::{checkpoint, label};
use vol_types::Change;

use crate::checkpoint::slot;
use crate::record::record;
use crate::sample::{self, COPY};

/// Flips every bit of a block in turn.
fn for_every_flipped_bit(mut block: Vec<u8>, mut check: impl FnMut(&[u8], usize)) {
    for at in 0..block.len() {
        for bit in 0..8 {
            block[at] ^= 1 << bit;
            check(&block, at);
            block[at] ^= 1 << bit;
        }
    }
}

#[test]
fn fmt_7_every_flipped_bit_of_a_label_is_found() {
    let label = sample::label();
    let at = label.geometry.label_offsets[0];
    for_every_flipped_bit(label::encode(&label, 0), |block, byte| {
        let unusable = matches!(label::decode(block, at), Ok(None) | Err(label::LabelError::Checksum));
        assert!(unusable, "byte {byte}");
    });
}

#[test]
fn fmt_7_every_flipped_bit_of_a_record_is_found() {
    let changes: Vec<Change> = sample::changes();
    let bytes = record(0, 1, &GENESIS, &changes);
    assert_eq!(bytes.len(), BLOCK);
    for_every_flipped_bit(bytes, |bytes, byte| {
        let error = record::decode(&COPY, 0, bytes).unwrap_err();
        let told = matches!(error, RecordError::NoRecord | RecordError::Torn | RecordError::TooLong { .. });
        assert!(told, "byte {byte}: {error}");
    });
}

#[test]
fn fmt_7_every_flipped_bit_of_a_checkpoint_is_found() {
    use checkpoint::CheckpointError::{NoHeader, PayloadHash, Torn};
    let (header, payload) = slot(&sample::objects());
    for_every_flipped_bit(header.clone(), |block, byte| {
        let found = checkpoint::decode_header(&COPY, 1, block);
        assert!(matches!(found, Err(NoHeader | Torn)), "byte {byte}: {found:?}");
    });
    let header = checkpoint::decode_header(&COPY, 1, &header).unwrap().unwrap();
    for_every_flipped_bit(payload, |payload, byte| {
        let found = checkpoint::decode_payload(&header, payload);
        assert_eq!(found, Err(PayloadHash), "byte {byte}");
    });
}

/// Mixes the 512-byte sectors of `old` and `new` in every possible way.
fn for_every_tear(old: &[u8], new: &[u8], mut check: impl FnMut(&[u8])) {
    assert_eq!((old.len(), new.len()), (BLOCK, BLOCK));
    for written in 0..1u32 << 8 {
        let mut torn = old.to_vec();
        for (sector, (to, from)) in torn.chunks_mut(512).zip(new.chunks(512)).enumerate() {
            if written >> sector & 1 == 1 {
                to.copy_from_slice(from);
            }
        }
        check(&torn);
    }
}

#[test]
fn fmt_8_f3_a_record_torn_at_512_bytes_is_found_whatever_was_there_before() {
    let new = record(1 << 20, 300, &[5; 32], &sample::changes());
    let earlier_lap = record(0, 20, &[4; 32], &sample::changes()[3..]);
    let (mut torn, mut junk) = (0, vec![0xdb; BLOCK]);
    junk[..8].copy_from_slice(&record::MAGIC);
    for old in [vec![0; BLOCK], vec![0xff; BLOCK], junk, earlier_lap.clone()] {
        for_every_tear(&old, &new, |bytes| match record::decode(&COPY, 1 << 20, bytes) {
            Ok(_) => assert_eq!(bytes, new),
            Err(RecordError::WrongPosition { found: 0 }) => assert_eq!(bytes, earlier_lap),
            Err(_) => torn += 1,
        });
    }
    assert!(torn > 700, "only {torn} tears");
}

#[test]
fn fmt_8_f3_a_label_or_a_checkpoint_header_torn_at_512_bytes_is_found() {
    let (old, mut new) = (sample::label(), sample::label());
    new.vg_name = sample::name(&"renamed".repeat(16));
    let at = new.geometry.label_offsets[1];
    let (old_block, new_block) = (label::encode(&old, 1), label::encode(&new, 1));
    for_every_tear(&old_block, &new_block, |bytes| match label::decode(bytes, at) {
        Ok(Some((label, 1))) if label == old => assert_eq!(bytes, old_block),
        Ok(Some((label, 1))) if label == new => assert_eq!(bytes, new_block),
        Err(label::LabelError::Checksum) => {}
        other => panic!("{other:?}"),
    });
    let (old_block, _) = slot(&sample::objects());
    let mut header = checkpoint::decode_header(&COPY, 1, &old_block).unwrap().unwrap();
    header.ancestors = (1..60).rev().map(|sequence| checkpoint::Ancestor { sequence, hash: [9; 32] }).collect();
    header.sequence += 1;
    let new_block = header.encode(&COPY);
    for_every_tear(&old_block, &new_block, |bytes| {
        let sound = checkpoint::decode_header(&COPY, 1, bytes).is_ok();
        assert_eq!(sound, bytes == old_block || bytes == new_block);
    });
}

proptest! {
    #[test]
    fn fmt_7_a_damaged_stretch_of_any_record_is_found(
        changes in sample::any_changes(), start: prop::sample::Index, damage in prop::collection::vec(1u8.., 1..600),
    ) {
        let mut bytes = record(4096, 9, &[1; 32], &changes);
        let start = start.index(bytes.len());
        bytes[start..].iter_mut().zip(&damage).for_each(|(byte, xor)| *byte ^= xor);
        prop_assert!(record::decode(&COPY, 4096, &bytes).is_err());
    }

    #[test]
    fn a_record_that_ends_too_early_is_an_error(changes in sample::any_changes(), len: prop::sample::Index) {
        let bytes = record(4096, 9, &[1; 32], &changes);
        let len = len.index(bytes.len());
        let error = record::decode(&COPY, 4096, &bytes[..len]).unwrap_err();
        let told = matches!(error, RecordError::TooLong { .. });
        prop_assert!(told, "{}", error);
    }
}
