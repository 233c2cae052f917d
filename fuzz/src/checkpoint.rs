//! Checkpoints: FMT-16, FMT-18, FMT-20, FMT-29, and the catalogs made from them.

use vol_core::Catalog;
use vol_format::checkpoint::{self, ANCESTORS_MAX, HEADER_LEN, Header, MAGIC};
use vol_format::feature::Access;
use vol_format::layout::BLOCK;
use vol_types::Object;

use crate::record::{COPY, judged};
use crate::repair;

/// The bytes as the header of a slot, as they are, and with magic, ids and checksum repaired; what follows the block is the payload.
///
/// Claims: no panic; an accepted header is what the encoder writes for it (FMT-20) and is accepted in its own slot only (FMT-16);
/// its ancestors fall (FMT-18); no payload but the one whose hash it names is taken (FMT-16).
pub fn checkpoint_header(data: &[u8]) -> bool {
    let (block, payload) = data.split_at_checked(BLOCK).unwrap_or((data, &[]));
    let mut repaired = repair::padded(block, BLOCK);
    repair::envelope(&mut repaired, MAGIC, HEADER_LEN as u32);
    repair::seal(&mut repaired);
    header(block, payload) | header(&repaired, payload)
}

fn header(block: &[u8], payload: &[u8]) -> bool {
    let found = [0, 1].map(|slot| checkpoint::decode_header(&COPY, slot, block));
    let sound = found.into_iter().flatten().flatten().collect::<Vec<Header>>();
    assert!(sound.len() < 2, "FMT-16: one header in two slots");
    for header in &sound {
        assert_eq!(header.encode(&COPY), repair::without_minor(&block[..BLOCK]), "FMT-20");
        assert!(header.ancestors.len() <= ANCESTORS_MAX);
        let sequences = || header.ancestors.iter().map(|ancestor| ancestor.sequence);
        assert!(sequences().chain([0]).zip([header.sequence].into_iter().chain(sequences())).all(|(a, b)| a <= b));
        for access in [Access::ReadWrite, Access::ReadOnly] {
            if let Ok(read) = checkpoint::decode_payload_for(access, header, payload) {
                let len = usize::try_from(header.payload_len).expect("longer than memory");
                assert_eq!(checkpoint::payload_hash(&payload[..len]), header.payload_hash, "FMT-16");
                assert!(read.objects.len() as u64 <= header.object_count);
            }
        }
    }
    !sound.is_empty()
}

/// The bytes as objects: the first two say how many, the rest are the payload of a checkpoint with the right hash.
///
/// Claims: no panic; what is accepted is what the encoder writes for it (FMT-20), in the order of keys, each once (FMT-29); a catalog
/// can be made of any objects that hold exactly one VG, gives back those objects, and can be judged.
pub fn checkpoint_payload(data: &[u8]) -> bool {
    let Some((count, payload)) = data.split_first_chunk() else { return false };
    let count = u64::from(u16::from_le_bytes(*count));
    let payload = repair::padded(payload, repair::blocks(payload.len()));
    let header = Header {
        slot: 0,
        sequence: 7,
        hash: [0; 32],
        log_position: 0,
        object_count: count,
        payload_len: payload.len() as u64,
        payload_hash: *blake3::hash(&payload).as_bytes(),
        ancestors: Vec::new(),
    };
    let lenient = checkpoint::decode_payload_for(Access::ReadOnly, &header, &payload);
    let Ok(read) = checkpoint::decode_payload(&header, &payload) else { return lenient.is_ok() };
    assert_eq!(lenient.as_ref(), Ok(&read), "two readers, two stories");
    assert_eq!(checkpoint::encode_payload(&read.objects).as_ref(), Ok(&payload), "FMT-20");
    assert!(read.objects.is_sorted_by(|a, b| a.key() < b.key()), "FMT-29");
    let vgs = read.objects.iter().filter(|object| matches!(object, Object::Vg(_))).count();
    match Catalog::from_objects(read.sequence, read.objects.clone()) {
        Some(catalog) => {
            assert_eq!((vgs, catalog.objects()), (1, read.objects), "a catalog is its objects");
            judged(&catalog);
        }
        None => assert_ne!(vgs, 1, "a catalog of one VG was refused"),
    }
    true
}
