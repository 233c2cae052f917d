//! The metadata of a thin pool, which the kernel writes and a damaged disk may change.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use vol_format::thin::{self, BLOCK, Kin, Root, Wanted};

use crate::repair::{put, u32_at, u64_at};

/// Blocks of the metadata device, past which nothing is read.
const BLOCKS: u64 = 256;
/// `SUPERBLOCK_CSUM_XOR`
const SUPERBLOCK: u32 = 160_774;
/// `BTREE_CSUM_XOR`
const NODE: u32 = 121_107;
const HELD_ROOT: usize = 56;
const MAPPING_ROOT: usize = 320;
/// Labels that one node can have one after the other: of a thin id, a set, a family, and several.
const LABELS: u64 = 4;

/// How often it may be asked for a block: the superblock and its copy, each node of two trees of thin ids, and those of the mappings
/// once for each label.
const READS_MAX: u64 = 2 + 2 * BLOCKS + LABELS * BLOCKS;

/// The first byte says which state is read and which thin ids belong together, the others are patches to an empty device: number of
/// the block, place and length (16 bits each), bytes. The blocks get their number and a checksum that fits.
///
/// Claims: no panic; no more reads than there are nodes, thrice; what is accepted is what walking each thin id by itself finds, and so
/// is where two of them differ.
pub fn thin_metadata(data: &[u8]) -> bool {
    let Some((how, patches)) = data.split_first() else { return false };
    let blocks = device(patches);
    let root = if how & 1 == 0 { Root::Committed } else { Root::Held };
    let kin = kin(how >> 1);
    let reads = Cell::new(0u64);
    let read = |block: u64| {
        reads.set(reads.get() + 1);
        blocks.get(&block).cloned().ok_or(block)
    };
    let found = thin::read_sharing(root, &kin, read);
    assert!(reads.get() <= READS_MAX, "{} reads", reads.get());
    let short = thin::read(root, read);
    let Ok(found) = found else { return false };
    assert_eq!(short.as_ref().ok(), Some(&found.metadata), "the short reading sees the same");

    let first = &blocks[&0];
    let from = if root == Root::Held { &blocks[&u64_at(first, HELD_ROOT)] } else { first };
    let chunks: BTreeMap<u32, BTreeSet<u64>> = leaves(&blocks, u64_at(from, MAPPING_ROOT))
        .into_iter()
        .map(|(id, root)| (id as u32, leaves(&blocks, root).into_iter().map(|(_, mapping)| mapping >> 24).collect()))
        .collect();
    let all: BTreeSet<u64> = chunks.values().flatten().copied().collect();
    assert_eq!(found.mapped, all.len() as u64);
    // Of some of the thin ids: the chunks that no other has.
    let alone = |with: &dyn Fn(u32) -> bool| {
        let of = |ours: bool| chunks.iter().filter(move |(id, _)| with(**id) == ours).flat_map(|(_, chunks)| chunks);
        let others: BTreeSet<_> = of(false).collect();
        of(true).collect::<BTreeSet<_>>().difference(&others).count() as u64
    };
    assert!(found.thins.keys().eq(chunks.keys()));
    for (id, count) in &found.thins {
        assert_eq!(*count, alone(&|other| other == *id), "thin id {id}");
    }
    for (set, count) in &found.sets {
        assert_eq!(*count, alone(&|id| kin.get(&id).is_some_and(|kin| kin.set == *set)), "set {set}");
    }
    for (family, count) in &found.families {
        assert_eq!(*count, alone(&|id| kin.get(&id).is_some_and(|kin| kin.family == *family)), "family {family}");
    }
    let roots = leaves(&blocks, u64_at(from, MAPPING_ROOT));
    for (base, target) in roots.iter().zip(roots.iter().skip(1)).take(3) {
        differences(root, &blocks, base, target);
    }
    true
}

/// Where two thin ids, each with its root, are said to differ, they do, and nowhere else.
fn differences(root: Root, blocks: &BTreeMap<u64, Vec<u8>>, base: &(u64, u64), target: &(u64, u64)) {
    let mut reads = 0u64;
    let wanted = Wanted { base: Some(base.0 as u32), target: target.0 as u32, chunks: 0..u64::MAX, most: usize::MAX };
    let found = thin::read_changes(
        root,
        &wanted,
        || false,
        |block| {
            reads += 1;
            blocks.get(&block).cloned().ok_or(block)
        },
    );
    assert!(reads <= READS_MAX, "{reads} reads");
    // It looks at the order of what it reads, too.
    let Ok(found) = found else { return };
    let mappings = |at: u64| {
        let mut all: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        leaves(blocks, at).into_iter().for_each(|(chunk, mapping)| all.entry(chunk).or_default().push(mapping));
        all.values_mut().for_each(|mappings| mappings.sort_unstable());
        all
    };
    let (base, target) = (mappings(base.1), mappings(target.1));
    let differ: BTreeSet<u64> =
        base.keys().chain(target.keys()).filter(|key| base.get(*key) != target.get(*key)).copied().collect();
    assert_eq!(found.ranges.into_iter().flatten().collect::<Vec<_>>(), differ.into_iter().collect::<Vec<_>>());
}

/// The thin ids below 64, but a few, in sets and families.
fn kin(how: u8) -> BTreeMap<u32, Kin> {
    let (sets, families) = (u32::from(how & 7) + 1, u32::from(how >> 3 & 3) + 1);
    let all = (0..64).filter(|id| id % 7 != 6);
    all.map(|id| (id, Kin { set: id % sets, family: id % sets % families })).collect()
}

fn device(mut patches: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    let mut blocks: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    while let Some((head, rest)) = patches.split_at_checked(6) {
        let number = |at: usize| u32_at(&[head[at], head[at + 1], 0, 0], 0);
        let (bytes, rest) = rest.split_at(rest.len().min(number(4) as usize));
        let block = blocks.entry(u64::from(number(0)) % BLOCKS).or_insert_with(|| vec![0; BLOCK]);
        put(block, number(2) as usize, bytes);
        patches = rest;
    }
    let held = blocks.get(&0).map_or(0, |first| u64_at(first, HELD_ROOT));
    for (number, block) in &mut blocks {
        put(block, 8, &number.to_le_bytes());
        let kind = if [0, held].contains(number) { SUPERBLOCK } else { NODE };
        let sum = !crc32c::crc32c(&block[4..]) ^ kind;
        put(block, 0, &sum.to_le_bytes());
    }
    blocks
}

/// Keys and values of 64 bits in all leaves that a block leads to, each leaf once.
fn leaves(blocks: &BTreeMap<u64, Vec<u8>>, root: u64) -> Vec<(u64, u64)> {
    let (mut open, mut seen, mut found) = (vec![root], BTreeSet::new(), Vec::new());
    while let Some(at) = open.pop() {
        if !seen.insert(at) {
            continue;
        }
        let node = &blocks[&at];
        let (leaf, entries, max) = (u32_at(node, 4) == 2, u32_at(node, 16), u32_at(node, 20));
        for entry in 0..entries as usize {
            let value = u64_at(node, 32 + (max as usize + entry) * 8);
            if leaf {
                found.push((u64_at(node, 32 + entry * 8), value));
            } else {
                open.push(value);
            }
        }
    }
    found
}
