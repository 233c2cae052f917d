//! The kernel's metadata of a thin pool, as its own tools see them.
//!
//! `golden/thin/pool.blocks` is from a real pool (Linux 7.2.7): each block that the reader needs, its number (64 bits) before
//! it. The pool was made by these messages, with data written to thin 1 between them: create_thin 1, 2; create_snap 3 of 1, 4
//! and 5 of 3; delete 4; create_thin 1000 to 1299 and 16777215; reserve_metadata_snap; create_thin 6; transactions to 8.
//! The numbers below are those of `thin_dump` 1.1.0, with and without `--metadata-snap`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vol_format::thin::{self, BLOCK, Details, Root, ThinError, ThinMetadata};

type Blocks = BTreeMap<u64, Vec<u8>>;

const SUPERBLOCK: u32 = 160_774;
const NODE: u32 = 121_107;
/// Of the sample: the metadata snapshot, and the roots of the trees of details.
const HELD: u64 = 1791;
const DETAILS_ROOT: u64 = 1798;
const FIRST_LEAF: u64 = 1799;

fn sample() -> Blocks {
    let bytes = include_bytes!("../golden/thin/pool.blocks");
    let block = |one: &[u8]| (u64::from_le_bytes(one[..8].try_into().unwrap()), one[8..].to_vec());
    bytes.chunks_exact(8 + BLOCK).map(block).collect()
}

fn read(root: Root, blocks: &Blocks) -> Result<ThinMetadata, ThinError<u64>> {
    thin::read(root, |block| blocks.get(&block).cloned().ok_or(block))
}

fn reseal(block: &mut [u8], kind: u32) {
    let sum = !crc32c::crc32c(&block[4..]) ^ kind;
    block[..4].copy_from_slice(&sum.to_le_bytes());
}

/// The sample with one number of a block changed, and a checksum that fits.
fn with(block: u64, at: usize, bytes: &[u8], kind: u32) -> Blocks {
    let mut blocks = sample();
    let changed = blocks.get_mut(&block).unwrap();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    reseal(changed, kind);
    blocks
}

fn damage(blocks: &Blocks) -> &'static str {
    match read(Root::Committed, blocks) {
        Err(ThinError::Damaged { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn thin_a_real_pool_is_read_as_thin_dump_reads_it() {
    let found = read(Root::Committed, &sample()).unwrap();
    assert_eq!((found.transaction_id, found.time, found.needs_check), (8, 3, false));
    assert_eq!((found.data_block_size, found.metadata_blocks, found.held_root), (128, 2048, Some(HELD)));
    let ids: Vec<u32> = found.devices.keys().copied().collect();
    let expected: Vec<u32> = [1, 2, 3, 5, 6].into_iter().chain(1000..1300).chain([16_777_215]).collect();
    assert_eq!(ids, expected);
    let details = |mapped_blocks, transaction_id, creation_time, snapshotted_time| Details {
        mapped_blocks,
        transaction_id,
        creation_time,
        snapshotted_time,
    };
    assert_eq!(found.devices[&1], details(12, 0, 0, 1));
    assert_eq!(found.devices[&2], details(0, 1, 0, 0));
    assert_eq!(found.devices[&3], details(10, 2, 1, 3));
    assert_eq!(found.devices[&5], details(10, 3, 3, 3));
    assert_eq!(found.devices[&6], details(0, 7, 3, 3));
    assert_eq!(found.devices[&16_777_215], details(0, 7, 3, 3));
}

#[test]
fn thin_a_metadata_snapshot_shows_the_pool_as_it_was_when_it_was_taken() {
    let found = read(Root::Held, &sample()).unwrap();
    assert_eq!((found.transaction_id, found.time), (7, 3));
    assert_eq!(found.devices.len(), 305);
    assert!(!found.devices.contains_key(&6), "it was made later");
    let mut without = sample();
    let first = without.get_mut(&0).unwrap();
    first[56..64].fill(0);
    reseal(first, SUPERBLOCK);
    assert_eq!(read(Root::Held, &without), Err(ThinError::NothingHeld));
}

#[test]
fn thin_metadata_that_have_grown_are_read_beyond_the_size_that_they_began_with() {
    // The kernel leaves the size in the superblock as it was when the pool was made; the space map's is the true one.
    let small = |at: usize| with(0, at, &1500u64.to_le_bytes(), SUPERBLOCK);
    let grown = small(344);
    assert_eq!(read(Root::Held, &grown).unwrap().devices.len(), 305, "the snapshot is at block {HELD}");
    assert_eq!(read(Root::Committed, &grown).unwrap().metadata_blocks, 2048);
    assert_eq!(read(Root::Committed, &small(192)).unwrap().metadata_blocks, 2048);
    assert_eq!(
        read(Root::Committed, &with(0, 192, &u64::MAX.to_le_bytes(), SUPERBLOCK)).unwrap().metadata_blocks,
        255 * 16_320
    );
}

#[test]
fn thin_every_flipped_bit_of_what_is_read_is_noticed() {
    let good = sample();
    for block in good.keys() {
        for bit in (0..BLOCK * 8).step_by(61) {
            let mut blocks = good.clone();
            blocks.get_mut(block).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let (now, held) = (read(Root::Committed, &blocks), read(Root::Held, &blocks));
            assert!(now.is_err() || held.is_err(), "block {block} bit {bit}");
            assert!(now.is_err() || now == read(Root::Committed, &good), "block {block} bit {bit}");
        }
    }
}

#[test]
fn thin_what_is_blank_missing_short_or_elsewhere_is_refused() {
    let blank = Blocks::from([(0, vec![0; BLOCK])]);
    assert_eq!(read(Root::Committed, &blank), Err(ThinError::Blank));
    assert_eq!(read(Root::Committed, &Blocks::new()), Err(ThinError::Read(0)));
    for len in [0, 1, BLOCK - 1, BLOCK + 1, 2 * BLOCK] {
        assert_eq!(damage(&Blocks::from([(0, vec![7; len])])), "it has not the size of a block");
    }
    let mut moved = sample();
    let leaf = moved[&FIRST_LEAF].clone();
    moved.insert(1788, leaf);
    assert_eq!(damage(&moved), "the node belongs elsewhere");
    let mut lost = sample();
    lost.remove(&FIRST_LEAF);
    assert_eq!(read(Root::Committed, &lost), Err(ThinError::Read(FIRST_LEAF)));
}

#[test]
fn thin_wrong_numbers_under_a_right_checksum_are_refused() {
    let node = |block, at, number: u32| damage(&with(block, at, &number.to_le_bytes(), NODE));
    let child = |child: u64| damage(&with(DETAILS_ROOT, 32 + 252 * 8, &child.to_le_bytes(), NODE));
    assert_eq!(node(FIRST_LEAF, 4, 0), "the node is neither inner node nor leaf");
    assert_eq!(node(FIRST_LEAF, 4, 3), "the node is neither inner node nor leaf");
    assert_eq!(node(FIRST_LEAF, 16, 127), "the node has more entries than it can have");
    assert_eq!(node(FIRST_LEAF, 20, u32::MAX), "the node is larger than its block");
    assert_eq!(node(FIRST_LEAF, 24, 8), "the node is of another tree");
    assert_eq!(node(DETAILS_ROOT, 16, 0), "an inner node leads nowhere");
    // A circle, a node twice, and nodes where none can be.
    assert_eq!(child(DETAILS_ROOT), "the tree leads to a node twice");
    assert_eq!(child(1397), "the tree leads to a node twice");
    assert_eq!(child(0), "a node cannot be there");
    assert_eq!(child(2048), "a node cannot be there");
    assert_eq!(child(u64::MAX), "a node cannot be there");
    let key = |at: usize, key: u64| damage(&with(FIRST_LEAF, 32 + at * 8, &key.to_le_bytes(), NODE));
    assert_eq!(key(0, 2), "thin ids are out of order");
    assert_eq!(key(0, 1 << 24), "a thin id has more than 24 bits");
    let superblock = |at, number: u32| read(Root::Committed, &with(0, at, &number.to_le_bytes(), SUPERBLOCK));
    assert_eq!(superblock(360, 4), Err(ThinError::Newer(4)));
    for (at, number) in [(8, 1), (32, 1), (40, 3), (340, 16), (344, 0)] {
        assert!(matches!(superblock(at, number), Err(ThinError::Damaged { .. })), "{at}");
    }
    assert!(superblock(4, 1).unwrap().needs_check);
}

#[test]
fn thin_a_tree_without_end_is_given_up() {
    // Each node leads to the next one: as many as there are blocks, and far deeper than a tree can be.
    let superblock = sample()[&0].clone();
    let mut reads = 0u32;
    let found: Result<_, ThinError<()>> = thin::read(Root::Committed, |block| {
        reads += 1;
        let mut bytes = vec![0; BLOCK];
        if block == 0 {
            return Ok(superblock.clone());
        }
        bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&block.to_le_bytes());
        for (at, number) in [(16, 252u32), (20, 252), (24, 8)] {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        for child in 0..252usize {
            let next = (block * 252 + child as u64) % 2047 + 1;
            bytes[32 + 252 * 8 + child * 8..][..8].copy_from_slice(&next.to_le_bytes());
        }
        reseal(&mut bytes, NODE);
        Ok(bytes)
    });
    assert!(matches!(found, Err(ThinError::Damaged { .. })), "{found:?}");
    assert!(reads < 100, "{reads}");
}

proptest! {
    #[test]
    fn thin_no_bytes_make_it_panic_or_read_without_end(
        at in 0usize..8,
        changes in prop::collection::vec((0usize..BLOCK, any::<u8>()), 0..24),
        header in prop::option::of(prop::array::uniform8(any::<u32>())),
    ) {
        let mut blocks = sample();
        let block = *blocks.keys().nth(at).unwrap();
        let bytes = blocks.get_mut(&block).unwrap();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        for (index, number) in header.into_iter().flatten().enumerate() {
            // Flags, place, counts and sizes of a node.
            bytes[4 + index * 4..8 + index * 4].copy_from_slice(&(number % 300).to_le_bytes());
        }
        reseal(bytes, if block == 0 || block == HELD { SUPERBLOCK } else { NODE });
        for root in [Root::Committed, Root::Held] {
            let mut reads = 0;
            let _ = thin::read(root, |block| {
                reads += 1;
                blocks.get(&block).cloned().ok_or(block)
            });
            prop_assert!(reads <= 16, "{reads}");
        }
    }

    #[test]
    fn thin_any_bytes_at_all_are_refused(bytes in prop::collection::vec(any::<u8>(), BLOCK)) {
        let found: Result<_, ThinError<()>> = thin::read(Root::Committed, |_| Ok(bytes.clone()));
        prop_assert!(found.is_err());
    }
}
