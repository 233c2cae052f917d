//! Checkpoints: round trip, and a payload that its header does not vouch for is not used.

use proptest::prelude::*;
use vol_format::checkpoint::*;
use vol_format::layout::BLOCK;
use vol_format::payload::put_len;
use vol_format::record::Copy;
use vol_types::*;

use crate::hostile::reseal;
use crate::sample::{self, COPY, OTHER_PV};

/// Header and payload of a checkpoint in slot 1.
pub fn slot(objects: &[Object]) -> (Vec<u8>, Vec<u8>) {
    let payload = encode_payload(objects).unwrap();
    let header = encode_header(&COPY, 1, 77, &[3; 32], 12_288, objects.len() as u64, &payload);
    (header, payload)
}

#[test]
fn a_slot_that_was_never_written_holds_no_checkpoint() {
    assert_eq!(decode_header(&COPY, 0, &[0; BLOCK]), Ok(None));
    assert_eq!(decode_header(&COPY, 0, &[1; BLOCK]), Err(CheckpointError::NoHeader));
    assert_eq!(decode_header(&COPY, 0, &[0; 512]), Err(CheckpointError::Short(512)));
}

#[test]
fn fmt_16_a_header_of_another_group_disk_or_slot_is_told() {
    let (header, _) = slot(&sample::objects());
    assert!(decode_header(&COPY, 1, &header).is_ok());
    assert_eq!(decode_header(&COPY, 0, &header), Err(CheckpointError::WrongSlot { found: 1 }));
    let other_vg = Copy { vg: VgId::from_bytes([0; 16]), ..COPY };
    assert_eq!(decode_header(&other_vg, 1, &header), Err(CheckpointError::WrongVg { found: COPY.vg }));
    let other_pv = Copy { pv: OTHER_PV, ..COPY };
    assert_eq!(decode_header(&other_pv, 1, &header), Err(CheckpointError::WrongPv { found: COPY.pv }));
}

#[test]
fn fmt_1_log_positions_are_whole_blocks_and_decide_between_checkpoints_of_one_sequence_number() {
    let (header, _) = slot(&sample::objects());
    let header = decode_header(&COPY, 1, &header).unwrap().unwrap();
    let later = Header { log_position: header.log_position + 4096, ..header.clone() };
    assert!(later.recency() > header.recency());
    assert!(Header { sequence: header.sequence + 1, log_position: 0, ..header.clone() }.recency() > later.recency());
    let positioned = Header { log_position: 512, ..header.clone() };
    assert!(matches!(decode_header(&COPY, 1, &positioned.encode(&COPY)), Err(CheckpointError::Malformed(_))));
    let odd = Header { payload_len: 512, ..header };
    assert!(matches!(decode_header(&COPY, 1, &odd.encode(&COPY)), Err(CheckpointError::Malformed(_))));
}

#[test]
fn fmt_15_a_payload_that_was_begun_anew_is_not_taken_for_the_old_one() {
    let objects = sample::objects();
    let (header, payload) = slot(&objects);
    let header = decode_header(&COPY, 1, &header).unwrap().unwrap();
    let newer = encode_payload(&objects[..3]).unwrap();
    let mut torn = payload.clone();
    torn[..512].copy_from_slice(&newer[..512]);
    torn[40] ^= 1;
    assert_eq!(decode_payload(&header, &torn), Err(CheckpointError::PayloadHash));
    let expected = payload.len() as u64;
    let short = CheckpointError::PayloadLength { expected, found: expected - 1 };
    assert_eq!(decode_payload(&header, &payload[..payload.len() - 1]), Err(short));
    let huge = Header { payload_len: u64::MAX, ..header };
    assert!(matches!(decode_payload(&huge, &payload), Err(CheckpointError::PayloadLength { .. })));
}

#[test]
fn of_a_payload_that_was_proven_the_same_objects_are_read_and_their_order_is_looked_at_again() {
    let objects = sample::objects();
    let (header, payload) = slot(&objects);
    let header = decode_header(&COPY, 1, &header).unwrap().unwrap();
    let read = |header: &Header, payload: &[u8]| {
        let mut found = Vec::new();
        objects_of_proven(header, payload, |object| found.push(object)).map(|()| found)
    };
    assert_eq!(read(&header, &payload), decode_payload(&header, &payload).map(|read| read.objects));
    assert!(matches!(read(&header, &payload[1..]), Err(CheckpointError::PayloadLength { .. })));
    let twice = [payload.clone(), payload].concat();
    let twice_over = Header { payload_len: twice.len() as u64, object_count: header.object_count * 2, ..header };
    assert!(matches!(read(&twice_over, &twice), Err(CheckpointError::Malformed(_))));
}

#[test]
fn two_objects_with_one_key_are_refused() {
    let twice = [sample::objects()[0].clone(), sample::objects()[0].clone()];
    assert_eq!(encode_payload(&twice), Err(EncodeError::Duplicate(twice[0].key())));
}

#[test]
fn fmt_29_a_payload_out_of_order_with_a_deletion_or_with_blocks_to_spare_is_refused() {
    let objects = sample::objects();
    let read = |changes: &[Change], blocks: usize| {
        let mut payload = vol_format::record::encode_payload(changes).unwrap();
        payload.resize(blocks * BLOCK, 0);
        let header = encode_header(&COPY, 0, 1, &[0; 32], 0, changes.len() as u64, &payload);
        decode_payload(&decode_header(&COPY, 0, &header).unwrap().unwrap(), &payload)
    };
    let mut changes: Vec<Change> = objects.into_iter().map(Change::Put).collect();
    assert!(read(&changes, 1).is_ok());
    assert!(matches!(read(&changes, 2), Err(CheckpointError::Malformed(_))));
    changes.swap(4, 5);
    assert!(matches!(read(&changes, 1), Err(CheckpointError::Malformed(_))));
    changes.swap(4, 5);
    changes.insert(4, changes[4].clone());
    assert!(matches!(read(&changes, 1), Err(CheckpointError::Malformed(_))));
    changes[4] = Change::Delete(ObjectKey::Vg(COPY.vg));
    assert!(matches!(read(&changes, 1), Err(CheckpointError::Malformed(_))));
}

#[test]
fn a_payload_that_does_not_fit_says_what_it_needs() {
    assert_eq!(fits(8192, 12_288), Ok(()));
    assert_eq!(fits(8193, 12_288), Err(EncodeError::CheckpointTooLong { needed: 16_384, available: 12_288 }));
    assert!(fits(usize::MAX, u64::MAX - 1).is_err());
}

#[test]
fn fmt_32_a_sequence_number_or_position_that_could_not_be_counted_on_from_is_refused() {
    let (header, _) = slot(&sample::objects());
    let header = decode_header(&COPY, 1, &header).unwrap().unwrap();
    let decoded = |sequence, log_position| {
        decode_header(&COPY, 1, &Header { sequence, log_position, ..header.clone() }.encode(&COPY))
    };
    assert!(decoded((1 << 63) - 1, (1 << 63) - 4096).is_ok());
    for (sequence, log_position) in [(1 << 63, 0), (u64::MAX, 0), (7, 1 << 63), (7, u64::MAX - 4095)] {
        let found = decoded(sequence, log_position);
        assert!(matches!(found, Err(CheckpointError::Malformed(_))), "{sequence} {log_position}: {found:?}");
    }
}

#[test]
fn fmt_18_ancestors_are_kept_newest_first_and_in_no_other_order() {
    let ancestor = |sequence| Ancestor { sequence, hash: [sequence.to_le_bytes()[0]; 32] };
    let (header, _) = slot(&sample::objects());
    let mut header = decode_header(&COPY, 1, &header).unwrap().unwrap();
    header.ancestors = (13..77).rev().map(ancestor).collect();
    assert_eq!(decode_header(&COPY, 1, &header.encode(&COPY)), Ok(Some(header.clone())));
    header.ancestors.swap(0, 1);
    assert!(matches!(decode_header(&COPY, 1, &header.encode(&COPY)), Err(CheckpointError::Malformed(_))));
    header.ancestors = vec![ancestor(77)];
    assert!(matches!(decode_header(&COPY, 1, &header.encode(&COPY)), Err(CheckpointError::Malformed(_))));
    header.ancestors = vec![ancestor(5)];
    let mut block = header.encode(&COPY);
    block[152] = 65;
    reseal(&mut block);
    assert!(matches!(decode_header(&COPY, 1, &block), Err(CheckpointError::Malformed(_))));
}

#[test]
fn a_hundred_thousand_volumes_fit_the_slot_of_a_disk_of_100_gib() {
    let volume = sample::objects().into_iter().find(|object| matches!(object, Object::Volume(_))).unwrap();
    let geometry =
        vol_format::layout::geometry(Bytes::gib(100), vol_format::layout::PvKind::WholeDisk, Bytes::mib(4)).unwrap();
    assert!(fits(100_000 * put_len(&volume).unwrap(), geometry.checkpoint_len).is_ok());
}

proptest! {
    #[test]
    fn any_objects_are_read_back_in_the_order_of_their_keys(
        mut objects in sample::any_objects(), sequence in 1..=vol_format::layout::COUNT_MAX, hash: [u8; 32], block: u32, slot in 0..2u8,
    ) {
        let payload = encode_payload(&objects).unwrap();
        prop_assert_eq!(payload.len() % BLOCK, 0);
        let used: usize = objects.iter().map(|object| put_len(object).unwrap()).sum();
        prop_assert_eq!(payload.len(), used.next_multiple_of(BLOCK));
        let log_position = u64::from(block) * 4096;
        let header = encode_header(&COPY, slot, sequence, &hash, log_position, objects.len() as u64, &payload);
        let header = decode_header(&COPY, slot, &header).unwrap().unwrap();
        prop_assert_eq!(header.payload_len, payload.len() as u64);
        objects.sort_by_key(Object::key);
        let mut longer = payload;
        longer.extend_from_slice(&[0xee; 100]);
        let expected = Checkpoint { sequence, hash, log_position, objects };
        prop_assert_eq!(decode_payload(&header, &longer), Ok(expected));
    }
}
