//! Log records: FMT-13, FMT-14, FMT-20, and what their changes do to a catalog.

use vol_core::{Catalog, check};
use vol_format::feature::Access;
use vol_format::layout::BLOCK;
use vol_format::record::{self, Copy, GENESIS, HEADER_LEN, MAGIC, RECORD_LEN_MAX, Record};
use vol_types::{Bytes, Change, Name, Vg, VgState};

use crate::repair::{self, PV, VG};

/// The copy that everything is bound to.
pub(crate) const COPY: Copy = Copy { vg: VG, pv: PV };

/// The bytes as a record, as they are, and with magic, ids and checksum repaired.
///
/// Claims: no panic; nothing longer than 512 KiB is taken (FMT-14); an accepted record is what the encoder writes for it
/// (FMT-20); it follows exactly one sequence number and history (FMT-13); a reader that will not write accepts whatever
/// one that will does, with the same content.
pub fn record(data: &[u8]) -> bool {
    let raw = decoded(data);
    let payload_len = usize::try_from(repair::u32_at(data, 104)).unwrap_or(usize::MAX);
    let len = record::disk_len(payload_len.min(RECORD_LEN_MAX)).min(repair::blocks(data.len().max(BLOCK)));
    let mut repaired = repair::padded(data, len);
    repair::envelope(&mut repaired, MAGIC, HEADER_LEN as u32);
    repair::put(&mut repaired, 20, &[0; 4]);
    repair::seal(&mut repaired);
    raw | decoded(&repaired)
}

fn decoded(bytes: &[u8]) -> bool {
    let position = repair::u64_at(bytes, 56);
    let strict = record::decode(&COPY, position, bytes);
    let lenient = record::decode_for(Access::ReadOnly, &COPY, position, bytes);
    assert!(record::decode(&COPY, position ^ 4096, bytes).is_err(), "FMT-13: a record was taken at another position");
    let Ok(found) = strict else { return lenient.is_ok() };
    assert_eq!(lenient.as_ref(), Ok(&found), "two readers, two stories");
    sound(bytes, &found);
    let again = Catalog::new(vg());
    apply(again, &found);
    true
}

fn sound(bytes: &[u8], found: &Record) {
    assert!(found.len <= RECORD_LEN_MAX && found.len <= bytes.len() && found.len.is_multiple_of(BLOCK), "FMT-14");
    assert!(found.changes.len() <= found.len / 8, "more changes than bytes for them");
    let payload = record::encode_payload(&found.changes).expect("FMT-20: what was read cannot be written");
    let count = u32::try_from(found.changes.len()).expect("more changes than a header can count");
    let written = record::encode(&COPY, found.position, found.sequence, &found.previous, &payload, count);
    assert_eq!(written, repair::without_minor(&bytes[..found.len]), "FMT-20");
    assert_eq!(found.hash, record::chain(VG, &found.previous, found.sequence, &payload));
    if let Some(before) = found.sequence.checked_sub(1) {
        assert_eq!(found.follows(before, &found.previous), Ok(()), "FMT-13");
    }
    let mut other = found.previous;
    other[0] ^= 1;
    assert!(found.follows(found.sequence.wrapping_sub(1), &other).is_err(), "FMT-13: another history");
}

/// The bytes as changes: the first says how many, the rest are the payload of a record with right checksums.
///
/// Claims: those of [`record()`], and the changes can be applied to a catalog and judged without a panic.
pub fn record_payload(data: &[u8]) -> bool {
    let Some((&count, payload)) = data.split_first() else { return false };
    if payload.len() > record::PAYLOAD_LEN_MAX {
        return false;
    }
    let bytes = record::encode(&COPY, 8192, 7, &GENESIS, payload, u32::from(count));
    let lenient = record::decode_for(Access::ReadOnly, &COPY, 8192, &bytes);
    let Ok(found) = record::decode(&COPY, 8192, &bytes) else { return lenient.is_ok() };
    assert_eq!(record::encode_payload(&found.changes).as_deref(), Ok(payload), "FMT-20");
    assert_eq!(lenient.as_ref(), Ok(&found), "two readers, two stories");
    sound(&bytes, &found);
    apply(Catalog::new(vg()), &found);
    true
}

fn vg() -> Vg {
    Vg {
        id: VG,
        name: Name::new("data").expect("a name"),
        state: VgState::Ready,
        extent_size: Bytes::mib(4),
        sector_size: 512,
        metadata_copies: 4,
        created_at: 0,
    }
}

fn apply(mut catalog: Catalog, found: &Record) {
    catalog.commit(found.sequence, found.changes.clone());
    judged(&catalog);
    // A catalog is its objects: one made from them is the same, and deleting all of them leaves the VG alone.
    for object in catalog.objects() {
        catalog.apply(Change::Delete(object.key()));
    }
    assert_eq!(catalog.object_count(), 1, "what was deleted is still there");
    assert_eq!(catalog.unfinished().count(), usize::from(!catalog.vg().state.is_whole()), "left behind in the index");
}

/// Every question that can be asked of a catalog, whatever it holds.
pub(crate) fn judged(catalog: &Catalog) {
    let violations = check::violations(catalog);
    assert!(violations.iter().all(|text| text.starts_with("CAT-")), "{violations:?}");
    let again = Catalog::from_objects(catalog.sequence(), catalog.objects()).expect("exactly one VG");
    assert_eq!(again.objects(), catalog.objects(), "a catalog made of a catalog's objects");
    assert_eq!(check::violations(&again), violations, "judged twice, differently");
    let _ = (catalog.free_extents_total(), catalog.unfinished().count());
    for pv in catalog.pvs() {
        assert!(catalog.free_extents(pv.id) <= pv.extents, "more free than there is");
    }
    for pool in catalog.pools() {
        let _ =
            (catalog.pool_data_size(pool), catalog.pool_metadata_size(pool), catalog.members(pool.id).virtual_size());
    }
}
