//! Log records: round trip, the ring, and each kind of wrong write told from the others.

use proptest::prelude::*;
use vol_format::layout::BLOCK;
use vol_format::payload::EncodeError;
use vol_format::record::*;
use vol_types::*;

use crate::hostile::reseal;
use crate::sample::{self, COPY, OTHER_PV, VG};

/// A record at `position` with these changes, after the history `previous`.
pub fn record(position: u64, sequence: u64, previous: &ChainHash, changes: &[Change]) -> Vec<u8> {
    let payload = encode_payload(changes).unwrap();
    encode(&COPY, position, sequence, previous, &payload, u32::try_from(changes.len()).unwrap())
}

fn one_block() -> Vec<u8> {
    let deletion = Change::Delete(ObjectKey::Volume(VolumeId::from_bytes([9; 16])));
    record(8192, 5, &[0xaa; 32], &[deletion])
}

#[test]
fn fmt_13_each_kind_of_wrong_write_has_its_own_error() {
    let good = one_block();
    assert!(decode(&COPY, 8192, &good).is_ok());
    // Lost: what was there before is there still.
    assert_eq!(decode(&COPY, 8192, &[0; BLOCK]), Err(RecordError::NoRecord));
    // Torn or damaged.
    let mut torn = good.clone();
    torn[200] ^= 1;
    assert_eq!(decode(&COPY, 8192, &torn), Err(RecordError::Torn));
    // Left from an earlier lap, or written to the wrong place.
    assert_eq!(decode(&COPY, 8192 + (1 << 20), &good), Err(RecordError::WrongPosition { found: 8192 }));
    // Of another group or disk.
    let other_vg = Copy { vg: VgId::from_bytes([1; 16]), ..COPY };
    assert_eq!(decode(&other_vg, 8192, &good), Err(RecordError::WrongVg { found: VG }));
    let other_pv = Copy { pv: OTHER_PV, ..COPY };
    assert_eq!(decode(&other_pv, 8192, &good), Err(RecordError::WrongPv { found: COPY.pv }));
    // Sound, but not the next of this history.
    let read = decode(&COPY, 8192, &good).unwrap();
    assert_eq!(read.follows(4, &[0xaa; 32]), Ok(()));
    assert_eq!(read.follows(3, &[0xaa; 32]), Err(RecordError::WrongSequence { found: 5, expected: 4 }));
    assert_eq!(read.follows(4, &[0xab; 32]), Err(RecordError::WrongHistory { sequence: 5 }));
}

#[test]
fn fmt_14_a_length_that_cannot_be_is_refused_before_anything_else_is_believed() {
    for claimed in [3969, 1 << 20, u32::MAX] {
        let mut record = one_block();
        record[104..108].copy_from_slice(&u32::to_le_bytes(claimed));
        reseal(&mut record);
        let error = decode(&COPY, 8192, &record).unwrap_err();
        assert!(matches!(error, RecordError::TooLong { room: 4096, .. }), "{claimed}: {error}");
    }
    assert!(matches!(decode(&COPY, 0, &[0; 100]), Err(RecordError::TooLong { claimed: 4096, room: 100 })));
}

#[test]
fn fmt_14_a_record_of_more_than_512_kib_is_refused_even_if_it_is_all_there() {
    let record = |payload_len: usize| {
        let payload: Vec<u8> = [2, 1, 0, 0, 16, 0, 0, 0].into_iter().chain([7; 16]).cycle().take(payload_len).collect();
        encode(&COPY, 0, 1, &GENESIS, &payload, u32::try_from(payload_len / 24).unwrap())
    };
    assert!(decode(&COPY, 0, &record(PAYLOAD_LEN_MAX / 24 * 24)).is_ok());
    let error = decode(&COPY, 0, &record(RECORD_LEN_MAX / 24 * 24)).unwrap_err();
    assert_eq!(error, RecordError::TooLong { claimed: 528_384, room: 524_288 });
}

#[test]
fn fmt_11_a_record_that_just_fits_the_end_of_the_region_stands_there() {
    assert_eq!(place(12_288, 4096, 16_384), 12_288);
    assert_eq!(place(12_288, 8192, 16_384), 16_384);
    assert_eq!(place(16_384 + 4096, 16_384, 16_384), 2 * 16_384);
    assert_eq!((next_lap(16_384, 16_384), next_lap(16_385, 16_384)), (16_384, 2 * 16_384));
}

#[test]
fn fmt_14_changes_that_need_more_than_the_longest_record_are_refused_with_the_length_they_need() {
    let text = "x".repeat(4096);
    let pv = |path_hint: String| Pv {
        id: COPY.pv,
        path_hint,
        device_size: Bytes::ZERO,
        data_offset: Bytes::ZERO,
        extents: Extents::ZERO,
        metadata: false,
        backing_file: None,
        hardware_id: String::new(),
        left: Vec::new(),
        labels: vol_types::Labels::default(),
    };
    let changes = vec![Change::Put(Object::Pv(pv(text))); 128];
    let error = encode_payload(&changes).unwrap_err();
    let EncodeError::RecordTooLong { needed, max } = error else { panic!("{error}") };
    assert!(needed > max && max == 524_288 && needed % 4096 == 0);
    assert!(encode_payload(&changes[..120]).is_ok());
    let too_long = encode_payload(&[Change::Put(Object::Pv(pv("x".repeat(4097))))]);
    assert_eq!(too_long, Err(EncodeError::FieldTooLong { what: "pv path_hint", len: 4097 }));
}

#[test]
fn creating_a_volume_takes_one_block_even_with_the_longest_names_and_a_scattered_pool() {
    let longest = sample::name(&"n".repeat(128));
    let segment = Segment { pv: COPY.pv, start: Extents(1), count: Extents(1) };
    let mut objects = sample::objects();
    objects.retain(|object| matches!(object, Object::Pool(_) | Object::Volume(_) | Object::Intent(_)));
    objects.dedup_by_key(|object| std::mem::discriminant(object));
    for object in &mut objects {
        match object {
            Object::Pool(pool) => (pool.name, pool.data) = (longest.clone(), vec![segment; 64]),
            Object::Volume(volume) => {
                let of_name = longest.clone();
                volume.name = longest.clone();
                volume.snapshot = Some(Snapshot { of: volume.id, of_name });
            }
            _ => {}
        }
    }
    let changes: Vec<Change> = objects.into_iter().map(Change::Put).collect();
    assert_eq!(changes.len(), 3);
    assert_eq!(record(0, 1, &GENESIS, &changes).len(), BLOCK);
}

#[test]
fn fmt_13_the_chain_hash_is_what_the_specification_says() {
    let previous = [7; 32];
    let mut covered = b"volumed chain 1\0".to_vec();
    covered.extend_from_slice(VG.as_bytes());
    covered.extend_from_slice(&previous);
    covered.extend_from_slice(&42u64.to_le_bytes());
    covered.extend_from_slice(b"payload");
    assert_eq!(chain(VG, &previous, 42, b"payload"), *blake3::hash(&covered).as_bytes());
}

#[test]
fn an_empty_record_is_a_record() {
    let read = decode(&COPY, 0, &record(0, 1, &GENESIS, &[])).unwrap();
    assert_eq!((read.changes.len(), read.len), (0, BLOCK));
    assert_eq!(read.hash, chain(VG, &GENESIS, 1, &[]));
}

/// What a reader does (specification, "Opening"): look at the position, then at the beginning of the next lap.
fn follow(ring: &[u8], mut position: u64, mut sequence: u64, mut hash: ChainHash) -> Vec<Record> {
    let log_len = ring.len() as u64;
    let mut found = Vec::new();
    'next: loop {
        for at in [position, next_lap(position, log_len)] {
            let bytes = &ring[usize::try_from(at % log_len).unwrap()..];
            let Ok(record) = decode(&COPY, at, bytes) else { continue };
            if record.follows(sequence, &hash).is_ok() {
                (position, sequence, hash) = (at + record.len as u64, record.sequence, record.hash);
                found.push(record);
                continue 'next;
            }
        }
        return found;
    }
}

proptest! {
    #[test]
    fn any_changes_are_read_back_as_they_were_written(
        changes in sample::any_changes(), block in any::<u32>(), sequence in any::<u64>(), previous: [u8; 32],
    ) {
        let position = u64::from(block) * 4096;
        let payload = encode_payload(&changes).unwrap();
        let bytes = record(position, sequence, &previous, &changes);
        prop_assert_eq!(bytes.len(), disk_len(payload.len()));
        prop_assert_eq!(bytes.len() % BLOCK, 0);
        let mut longer = bytes.clone();
        longer.extend_from_slice(&[0xee; 9000]);
        let read = decode(&COPY, position, &longer).unwrap();
        let hash = chain(VG, &previous, sequence, &payload);
        prop_assert_eq!(read, Record { sequence, previous, hash, position, changes, len: bytes.len() });
    }

    /// Records of all sizes go round the ring many times; whatever was not written over yet is found again.
    #[test]
    fn fmt_10_fmt_11_fmt_12_a_reader_finds_all_records_since_the_checkpoint_and_no_others(
        sizes in proptest::collection::vec(0usize..6, 1..60), log_blocks in 8u64..20, tail in 0u64..20,
    ) {
        let log_len = log_blocks * 4096;
        let mut ring = vec![0; usize::try_from(log_len).unwrap()];
        let (mut position, mut hash) = (tail * 4096, GENESIS);
        // The newest records, oldest first, with what a checkpoint before them would say.
        let mut live: Vec<(u64, u64, ChainHash, Record)> = Vec::new();
        for (sequence, size) in (1u64..).zip(&sizes) {
            let changes = vec![Change::Delete(ObjectKey::Vg(VG)); size * 100];
            let payload = encode_payload(&changes).unwrap();
            let len = disk_len(payload.len()) as u64;
            prop_assume!(len * 2 <= log_len);
            let at = place(position, len, log_len);
            prop_assert!(at >= position && at % log_len + len <= log_len);
            let bytes = record(at, sequence, &hash, &changes);
            let start = usize::try_from(at % log_len).unwrap();
            ring[start..start + bytes.len()].copy_from_slice(&bytes);
            live.push((position, sequence - 1, hash, decode(&COPY, at, &bytes).unwrap()));
            hash = chain(VG, &hash, sequence, &payload);
            position = at + len;
            live.retain(|(from, ..)| position - from <= log_len);
        }
        for (at, (position, sequence, hash, _)) in live.iter().enumerate() {
            let expected: Vec<_> = live[at..].iter().map(|(.., record)| record.clone()).collect();
            prop_assert_eq!(follow(&ring, *position, *sequence, *hash), expected);
        }
    }

    #[test]
    fn no_position_makes_place_panic(position: u64, record_len: u64, log_len: u64) {
        prop_assert!(place(position, record_len, log_len) >= position);
        prop_assert!(next_lap(position, log_len) >= position);
    }
}
