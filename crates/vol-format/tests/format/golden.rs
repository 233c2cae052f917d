//! Golden files: bytes of every released version, kept for ever. This release must read them, and write those of its own
//! version again to the byte. `tests/golden/README.md` has the rules and a hash of each file.

use std::path::{Path, PathBuf};

use uuid::Uuid;
use vol_format::checkpoint::{self, Ancestor, Checkpoint};
use vol_format::record::{self, GENESIS};
use vol_format::{label, mark};
use vol_types::{Bytes, Change};

use crate::sample::{self, COPY, VG};

const DISK_GUID: Uuid = Uuid::from_bytes([0x66; 16]);

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

pub fn golden(name: &str) -> Vec<u8> {
    std::fs::read(directory().join("v1").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// More changes than fit a block.
fn many_changes() -> Vec<Change> {
    std::iter::repeat_with(sample::changes).take(4).flatten().collect()
}

fn record_bytes(position: u64, sequence: u64, previous: &record::ChainHash, changes: &[Change]) -> Vec<u8> {
    let payload = record::encode_payload(changes).unwrap();
    record::encode(&COPY, position, sequence, previous, &payload, u32::try_from(changes.len()).unwrap())
}

fn checkpoint_bytes() -> Vec<u8> {
    let payload = checkpoint::encode_payload(&sample::objects()).unwrap();
    let hash = [0x88; 32];
    let count = sample::objects().len() as u64;
    let header = checkpoint::encode_header(&COPY, 1, 1000, &hash, 0x12_3000, count, &payload);
    let mut header = checkpoint::decode_header(&COPY, 1, &header).unwrap().unwrap();
    header.ancestors = vec![Ancestor { sequence: 900, hash: [0x99; 32] }, Ancestor { sequence: 7, hash: [0xaa; 32] }];
    [header.encode(&COPY), payload].concat()
}

/// Every file of version 1 as this release writes it.
fn written() -> Vec<(&'static str, Vec<u8>)> {
    let first = record_bytes(0, 1, &GENESIS, &sample::changes());
    let hash = record::decode(&COPY, 0, &first).unwrap().hash;
    let second = record_bytes(4096, 2, &hash, &many_changes());
    let mut marks = [512, 4096].into_iter().flat_map(|sector| {
        let writes = mark::gpt(Bytes::mib(64), sector, COPY.pv, DISK_GUID).unwrap();
        writes.into_iter().map(|(_, bytes)| bytes)
    });
    let mut next_mark = || marks.next().unwrap();
    vec![
        ("label-0.bin", label::encode(&sample::label(), 0)),
        ("label-1.bin", label::encode(&sample::label(), 1)),
        ("record-1.bin", first),
        ("record-2.bin", second),
        ("checkpoint.bin", checkpoint_bytes()),
        ("mark-512-tail.bin", next_mark()),
        ("mark-512-head.bin", next_mark()),
        ("mark-4096-tail.bin", next_mark()),
        ("mark-4096-head.bin", next_mark()),
    ]
}

#[test]
fn version_1_is_written_as_it_was_when_it_was_released() {
    for (name, bytes) in written() {
        assert!(golden(name) == bytes, "{name}: this release writes other bytes than version 1 has");
    }
}

#[test]
fn version_1_is_read() {
    let label = sample::label();
    for (copy, name) in [(0, "label-0.bin"), (1, "label-1.bin")] {
        let at = label.geometry.label_offsets[usize::from(copy)];
        assert_eq!(label::decode(&golden(name), at), Ok(Some((label.clone(), copy))));
    }
    let first = record::decode(&COPY, 0, &golden("record-1.bin")).unwrap();
    assert_eq!(first.follows(0, &GENESIS), Ok(()));
    assert_eq!(first.changes, sample::changes());
    let second = record::decode(&COPY, 4096, &golden("record-2.bin")).unwrap();
    assert_eq!(second.follows(1, &first.hash), Ok(()));
    assert_eq!(second.changes, many_changes());
    assert!(second.len > 4096);
    let payload = record::encode_payload(&second.changes).unwrap();
    assert_eq!(second.hash, record::chain(VG, &first.hash, 2, &payload));
    let slot = golden("checkpoint.bin");
    let header = checkpoint::decode_header(&COPY, 1, &slot[..4096]).unwrap().unwrap();
    assert_eq!(header.ancestors.len(), 2);
    let objects = sample::objects();
    let expected = Checkpoint { sequence: 1000, hash: [0x88; 32], log_position: 0x12_3000, objects };
    assert_eq!(checkpoint::decode_payload(&header, &slot[4096..]), Ok(expected));
}

/// The hashes in the README notice a file that was made anew together with the code that reads it.
#[test]
fn no_golden_file_was_changed_added_or_lost() {
    let readme = std::fs::read_to_string(directory().join("README.md")).unwrap();
    let listed: Vec<(String, String)> = readme
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
            Some((cells.next()?, cells.next()?)).filter(|(name, _)| name.ends_with(".bin"))
        })
        .collect();
    for (name, hash) in &listed {
        let bytes = std::fs::read(directory().join(name)).unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), hash, "{name}");
    }
    let files = std::fs::read_dir(directory().join("v1")).unwrap().count();
    assert_eq!((files, written().len()), (listed.len(), listed.len()));
}

/// For a new version: writes the files that are not there yet, never over one, and prints the lines for the README.
#[test]
#[ignore = "writes into the source tree; run by hand when a version is added"]
fn write_missing_golden_files() {
    for (name, bytes) in written() {
        let path = directory().join("v1").join(name);
        if !path.exists() {
            std::fs::write(&path, &bytes).unwrap();
            println!("| `v1/{name}` | `{}` |", blake3::hash(&bytes).to_hex());
        }
    }
}
