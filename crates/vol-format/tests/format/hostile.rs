//! Bytes that somebody made on purpose: valid checksums over anything. Nothing panics, and what is accepted is exactly
//! what this release would have written (FMT-20).

use proptest::prelude::*;
use vol_format::feature::Access;
use vol_format::layout::BLOCK;
use vol_format::payload::Malformed;
use vol_format::record::{self, GENESIS, Record, RecordError};
use vol_format::{checkpoint, label};
use vol_types::{Bytes, Change, Extents, FsKind, Object, PvId, Segment};

use crate::sample::{self, COPY};

/// Sets the checksum as the specification says: CRC-32C over everything, its own four bytes taken as zero.
pub fn reseal(bytes: &mut [u8]) {
    bytes[8..12].fill(0);
    let crc = crc32c::crc32c(bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

fn decode_payload(access: Access, payload: &[u8], count: u32) -> Result<Record, RecordError> {
    record::decode_for(access, &COPY, 0, &record::encode(&COPY, 0, 1, &GENESIS, payload, count))
}

fn strict(payload: &[u8]) -> Result<Record, RecordError> {
    decode_payload(Access::ReadWrite, payload, 1)
}

/// The put of the sample volume that is a snapshot, as `(tag, value)` fields.
fn fields() -> Vec<(u16, Vec<u8>)> {
    let is_snapshot = |object: &Object| matches!(object, Object::Volume(volume) if volume.snapshot.is_some());
    fields_of(sample::objects().into_iter().find(is_snapshot).unwrap())
}

fn fields_of(object: Object) -> Vec<(u16, Vec<u8>)> {
    let payload = record::encode_payload(&[Change::Put(object)]).unwrap();
    let mut rest = &payload[8..];
    let mut fields = Vec::new();
    while let Some((head, value)) = rest.split_at_checked(6) {
        let len = u32::from_le_bytes(head[2..6].try_into().unwrap()) as usize;
        fields.push((u16::from_le_bytes([head[0], head[1]]), value[..len].to_vec()));
        rest = &value[len..];
    }
    fields
}

fn put(kind: u8, fields: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (tag, value) in fields {
        body.extend_from_slice(&tag.to_le_bytes());
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        body.extend_from_slice(value);
    }
    let mut change = vec![1, kind, 0, 0];
    change.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    change.extend_from_slice(&body);
    change
}

fn malformed(payload: &[u8]) -> &'static str {
    match strict(payload) {
        Err(RecordError::Malformed(Malformed { what })) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fmt_21_fields_out_of_order_twice_missing_or_unknown_are_refused() {
    let good = fields();
    assert!(strict(&put(4, &good)).is_ok());
    for at in 0..good.len() {
        let mut less = good.clone();
        let (tag, _) = less.remove(at);
        // Only a snapshot has a field `snapshot`.
        assert_eq!(strict(&put(4, &less)).is_ok(), tag == 8, "tag {tag}");
        let mut twice = good.clone();
        twice.insert(at, good[at].clone());
        malformed(&put(4, &twice));
        let mut longer = good.clone();
        longer[at].1.push(0);
        malformed(&put(4, &longer));
    }
    let mut swapped = good.clone();
    swapped.swap(2, 3);
    malformed(&put(4, &swapped));
    let mut more = good;
    more.push((15, vec![1]));
    assert_eq!(malformed(&put(4, &more)), "volume");
}

#[test]
fn fmt_20_what_is_left_out_when_it_is_usual_is_refused_when_it_is_written_out() {
    let with = |tag: u16, value: &[u8]| {
        let mut more = fields();
        more.push((tag, value.to_vec()));
        strict(&put(4, &more)).map_err(|error| error.to_string())
    };
    for (tag, usual) in [(10, vec![]), (11, vec![0]), (11, vec![2]), (13, vec![0; 8]), (14, vec![0])] {
        assert!(with(tag, &usual).is_err(), "tag {tag} with {usual:?}");
    }
    assert!(with(11, &[1]).is_ok() && with(13, &[1, 0, 0, 0, 0, 0, 0, 0]).is_ok() && with(14, &[1]).is_ok());
    assert!(with(16, &[0; 8]).is_ok() && with(16, &[0; 7]).is_err());
    let (ab, ba, aa) = (b"\x01a\x01x\x01b\x00", b"\x01b\x00\x01a\x01x", b"\x01a\x01x\x01a\x01y");
    assert!(with(10, ab).is_ok());
    // In one order only, one value for each key, whole, and nothing that is no label.
    for wrong in [ba.as_slice(), aa, b"\x01a\x02x", b"\x00\x01x", b"\x01=\x01x", b"\x01a\x01\xff"] {
        assert!(with(10, wrong).is_err(), "{wrong:?}");
    }
    let clone_of = |name: &[u8]| [&[7; 16], name].concat();
    assert!(with(12, &clone_of(b"\x02pg")).is_ok() && with(12, &clone_of(b"\x02pgbefore")).is_ok());
    for wrong in [b"\x03pg".as_slice(), b"\x00pg", b"", b"\x02pg/"] {
        assert!(with(12, &clone_of(wrong)).is_err(), "{wrong:?}");
    }
}

#[test]
fn fmt_20_a_volume_is_in_a_pool_or_has_extents_of_its_own() {
    let thin: Vec<_> = fields().into_iter().filter(|(tag, _)| *tag != 17).collect();
    let without = |tags: &[u16]| thin.iter().filter(|(tag, _)| !tags.contains(tag)).cloned().collect::<Vec<_>>();
    let extents = [[0x22; 16].as_slice(), &[3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]].concat();
    let body = |head: &[u8], more: &[u8]| [head, &[0; 8], &[9, 0, 0, 0, 0, 0, 0, 0], more].concat();
    let good = body(&[1, 0, 2, 0, 0, 0, 0, 0], &extents);
    let thick = |mut fields: Vec<(u16, Vec<u8>)>, value: &[u8]| {
        fields.push((17, value.to_vec()));
        strict(&put(4, &fields))
    };
    let changes = thick(without(&[3, 4]), &good).unwrap().changes;
    let [Change::Put(Object::Volume(read))] = changes.as_slice() else { panic!("{changes:?}") };
    let found = read.thick().unwrap();
    assert_eq!((found.stripes, found.filled, found.wanted), (1, Bytes(9), Some(FsKind::Xfs)));
    assert_eq!(found.segments, [Segment { pv: PvId::from_bytes([0x22; 16]), start: Extents(3), count: Extents(2) }]);
    assert!(thick(thin.clone(), &good).is_err() && thick(without(&[3]), &good).is_err());
    assert_eq!(malformed(&put(4, &without(&[3, 4]))), "volume pool");
    assert_eq!(malformed(&put(4, &without(&[4]))), "volume thin_id");
    // A file system that is none, bytes that must be zero, half a segment.
    let wrong = [
        body(&[1, 0, 9, 0, 0, 0, 0, 0], &extents),
        body(&[1, 0, 0, 0, 0, 0, 0, 1], &extents),
        body(&[1, 0, 0, 0, 0, 0, 0, 0], &extents[..31]),
    ];
    assert!(wrong.iter().all(|value| thick(without(&[3, 4]), value).is_err()));
}

#[test]
fn fmt_20_an_unknown_code_a_bad_name_and_trailing_bytes_are_refused_by_the_name_of_the_field() {
    let with = |tag: u16, value: &[u8]| {
        let mut changed = fields();
        changed.iter_mut().filter(|(found, _)| *found == tag).for_each(|(_, old)| *old = value.to_vec());
        malformed(&put(4, &changed))
    };
    assert_eq!(with(2, b".."), "volume name");
    assert_eq!(with(2, b"\xff"), "volume name");
    assert_eq!(with(2, b""), "volume name");
    assert_eq!(with(4, &[1, 2, 3]), "volume thin_id");
    assert_eq!(with(6, &[0]), "volume state");
    assert_eq!(with(6, &[5]), "volume state");
    assert_eq!(with(7, &[]), "volume content");
    assert_eq!(with(7, &[1, 1]), "volume content");
    assert_eq!(with(7, &[2]), "volume content");
    assert_eq!(with(7, &[[3u8, 4].as_slice(), &[0; 16]].concat()), "volume content");
    assert_eq!(with(8, &[0; 16]), "volume snapshot");
    assert_eq!(with(8, &[0; 15]), "volume snapshot");
    let good = put(4, &fields());
    assert_eq!(malformed(&[good.as_slice(), &[0]].concat()), "changes of a record");
    assert_eq!(malformed(&good[..good.len() - 1]), "changes of a record");
    assert_eq!(malformed(&[&[3], &good[1..]].concat()), "operation");
    assert_eq!(malformed(&[&good[..2], &[1], &good[3..]].concat()), "changes of a record");
    assert_eq!(malformed(&put(6, &fields())), "kind");
    for len in [0, 15, 17] {
        let deletion: Vec<u8> = [2, 4, 0, 0, len, 0, 0, 0].into_iter().chain((0..len).map(|_| 9)).collect();
        assert_eq!(malformed(&deletion), "id of a deletion");
    }
    assert!(matches!(decode_payload(Access::ReadWrite, &good, u32::MAX), Err(RecordError::Malformed(_))));
    assert!(matches!(decode_payload(Access::ReadWrite, &good, 0), Err(RecordError::Malformed(_))));
}

#[test]
fn fmt_20_values_that_no_encoder_writes_are_refused() {
    let [pv, intent] = [1, 9].map(|at| sample::objects()[at].clone());
    let (pv, intent) = (fields_of(pv), fields_of(intent));
    let with = |kind: u8, fields: &[(u16, Vec<u8>)], at: usize, value: Vec<u8>| {
        let mut changed = fields.to_vec();
        changed[at].1 = value;
        strict(&put(kind, &changed)).map_err(|error| error.to_string())
    };
    assert!(with(2, &pv, 5, vec![0]).is_ok());
    assert!(with(2, &pv, 5, vec![2]).is_err(), "a flag that is neither 0 nor 1");
    assert!(with(2, &pv, 1, vec![b'x'; 4096]).is_ok());
    assert!(with(2, &pv, 1, vec![b'x'; 4097]).is_err(), "a text of more than 4096 bytes");
    assert!(with(2, &pv, 1, vec![0xff]).is_err(), "a text that is not UTF-8");
    let op = |code: u8, unused: u8, origin: u8, more_unused: u8| {
        let head = [code, 0, 0, unused, 5, 0, 0, 0, origin, 0, 0, 0, more_unused, 0, 0, 0];
        with(5, &intent, 3, head.into_iter().chain([9; 16]).collect())
    };
    assert!(op(1, 0, 0, 0).is_ok() && op(2, 0, 7, 0).is_ok() && op(3, 0, 0, 0).is_ok() && op(4, 0, 7, 0).is_ok());
    assert!(op(0, 0, 0, 0).is_err() && op(5, 0, 0, 0).is_err(), "an unknown message");
    assert!(op(2, 1, 7, 0).is_err() && op(2, 0, 7, 1).is_err(), "unused bytes");
    assert!(op(1, 0, 7, 0).is_err() && op(3, 0, 7, 0).is_err(), "an origin without a snapshot");
    assert!(with(5, &intent, 3, vec![1; 33]).is_err(), "half a message");
}

#[test]
fn fmt_22_only_a_reader_that_will_not_write_skips_and_only_what_says_so() {
    let read_only = |payload: &[u8]| decode_payload(Access::ReadOnly, payload, 1).map(|record| record.changes);
    let known = read_only(&put(4, &fields())).unwrap();
    let mut skippable = fields();
    skippable.push((0x8000, b"news".to_vec()));
    malformed(&put(4, &skippable));
    assert_eq!(read_only(&put(4, &skippable)), Ok(known));
    skippable.push((0x8000, b"again".to_vec()));
    assert!(read_only(&put(4, &skippable)).is_err());
    let mut not_skippable = fields();
    not_skippable.push((10, b"news".to_vec()));
    assert!(read_only(&put(4, &not_skippable)).is_err());
    assert_eq!(read_only(&put(0x80, &fields())), Ok(Vec::new()));
    malformed(&put(0x80, &fields()));
    assert!(read_only(&put(0x7f, &fields())).is_err());
}

#[test]
fn fmt_2_unused_bytes_that_are_not_zero_are_refused() {
    let mut bytes = record::encode(&COPY, 0, 1, &GENESIS, &[], 0);
    for at in [20, 112, 127, 128, 4095] {
        bytes[at] = 1;
        reseal(&mut bytes);
        assert!(matches!(record::decode(&COPY, 0, &bytes), Err(RecordError::Malformed(_))), "byte {at}");
        bytes[at] = 0;
    }
    let (header, _) = crate::checkpoint::slot(&sample::objects());
    for at in [156, 160, 2719, 2720, 4095] {
        let mut header = header.clone();
        header[at] = 1;
        reseal(&mut header);
        let found = checkpoint::decode_header(&COPY, 1, &header);
        assert!(matches!(found, Err(checkpoint::CheckpointError::Malformed(_))), "byte {at}");
    }
    for at in [188, 311, 312, 4095] {
        let mut block = label::encode(&sample::label(), 0);
        block[at] = 1;
        reseal(&mut block);
        let found = label::decode(&block, sample::label().geometry.label_offsets[0]);
        assert!(matches!(found, Err(label::LabelError::Malformed(_))), "byte {at}");
    }
}

/// Valid bytes with a few of them replaced, cut out or doubled.
fn mutated(changes: impl Strategy<Value = Vec<Change>>) -> impl Strategy<Value = (Vec<u8>, u32)> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 0..6);
    (changes, edits).prop_map(|(changes, edits)| {
        let mut payload = record::encode_payload(&changes).unwrap();
        for (at, edit, byte) in edits.into_iter().filter(|_| !payload.is_empty()).collect::<Vec<_>>() {
            let at = at.index(payload.len().max(1)).min(payload.len().saturating_sub(1));
            match edit {
                _ if payload.is_empty() => {}
                0 => payload[at] = byte,
                1 => payload[at] ^= 1 << (byte % 8),
                2 => drop(payload.remove(at)),
                _ => payload.insert(at, byte),
            }
        }
        (payload, u32::try_from(changes.len()).unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn fmt_20_what_is_accepted_is_what_would_be_written((payload, count) in mutated(sample::any_changes())) {
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let decoded = decode_payload(access, &payload, count);
            if let (Ok(record), Access::ReadWrite) = (decoded, access) {
                prop_assert_eq!(record::encode_payload(&record.changes), Ok(payload.clone()));
            }
        }
        let mut padded = payload;
        padded.resize(padded.len().next_multiple_of(BLOCK), 0);
        let header = checkpoint::encode_header(&COPY, 0, 1, &GENESIS, 0, count.into(), &padded);
        let header = checkpoint::decode_header(&COPY, 0, &header).unwrap().unwrap();
        if let Ok(read) = checkpoint::decode_payload(&header, &padded) {
            prop_assert_eq!(checkpoint::encode_payload(&read.objects), Ok(padded));
        }
    }

    #[test]
    fn no_bytes_with_a_valid_checksum_make_a_decoder_panic(
        which in 0..3usize, len in 0..3 * BLOCK, offset in 12..400usize, bytes in prop::collection::vec(any::<u8>(), 0..300),
        from_valid: bool,
    ) {
        let mut block = match which {
            0 => label::encode(&sample::label(), 0),
            1 => record::encode(&COPY, 0, 1, &GENESIS, &record::encode_payload(&sample::changes()).unwrap(), 20),
            _ => crate::checkpoint::slot(&sample::objects()).0,
        };
        if !from_valid {
            block[12..].fill(0);
        }
        block[offset..].iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
        block.resize(len, 0);
        if len >= 12 {
            reseal(&mut block);
        }
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let _ = record::decode_for(access, &COPY, 0, &block);
            if let Ok(Some(header)) = checkpoint::decode_header(&COPY, 1, &block) {
                let _ = checkpoint::decode_payload_for(access, &header, &block);
            }
        }
        let _ = label::decode(&block, 0);
    }
}
