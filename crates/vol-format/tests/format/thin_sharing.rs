//! Who shares chunks with whom: trees of mappings that are built as the kernel builds them, against a model that has each thin
//! id's mappings in full.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vol_format::thin::{self, BLOCK, Kin, Root, Sharing, ThinError};

const SUPERBLOCK: u32 = 160_774;
const NODE: u32 = 121_107;
const INNER: u32 = 1;
const LEAF: u32 = 2;
/// Blocks of the metadata device, and chunks of the pool.
pub(super) const BLOCKS: u64 = 4096;
const CHUNKS: u64 = 1 << 20;
/// Keys of a leaf of mappings, and children of an inner node: small, so that trees are deep.
const SPAN: u64 = 4;
const CHILDREN: u64 = 3;

/// The mappings of each thin id.
pub(super) type Model = BTreeMap<u32, BTreeMap<u64, u64>>;

/// A metadata device that is being written. Equal nodes are one block, as they are after a snapshot.
#[derive(Clone, Default)]
pub(super) struct Device {
    pub(super) blocks: BTreeMap<u64, Vec<u8>>,
    known: BTreeMap<Vec<u8>, u64>,
}

fn seal(block: &mut [u8], kind: u32) {
    let sum = !crc32c::crc32c(&block[4..]) ^ kind;
    block[..4].copy_from_slice(&sum.to_le_bytes());
}

fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Device {
    fn node<const N: usize>(&mut self, flags: u32, entries: &[(u64, [u8; N])]) -> u64 {
        let max = if N == 8 { 252usize } else { 126 };
        let mut bytes = vec![0; BLOCK];
        put(&mut bytes, 4, &flags.to_le_bytes());
        for (at, number) in [(16, entries.len()), (20, max), (24, N)] {
            put(&mut bytes, at, &u32::try_from(number).unwrap().to_le_bytes());
        }
        for (index, (key, value)) in entries.iter().enumerate() {
            put(&mut bytes, 32 + index * 8, &key.to_le_bytes());
            put(&mut bytes, 32 + max * 8 + index * N, value);
        }
        if let Some(block) = self.known.get(&bytes) {
            return *block;
        }
        // Not in the order in which they are met.
        let block = (self.known.len() as u64 + 1) * 1531 % BLOCKS;
        self.known.insert(bytes.clone(), block);
        put(&mut bytes, 8, &block.to_le_bytes());
        seal(&mut bytes, NODE);
        assert!(block != 0 && self.blocks.insert(block, bytes).is_none());
        block
    }

    fn tree<const N: usize>(&mut self, entries: &[(u64, [u8; N])]) -> u64 {
        let mut leaves: BTreeMap<u64, Vec<(u64, [u8; N])>> = BTreeMap::new();
        for (key, value) in entries {
            leaves.entry(key / SPAN).or_default().push((*key, *value));
        }
        if leaves.is_empty() {
            return self.node::<N>(LEAF, &[]);
        }
        let mut level: Vec<_> = leaves.into_iter().map(|(at, all)| (at, all[0].0, self.node(LEAF, &all))).collect();
        while level.len() > 1 {
            let mut above: BTreeMap<u64, Vec<(u64, [u8; 8])>> = BTreeMap::new();
            for (at, key, block) in level {
                above.entry(at / CHILDREN).or_default().push((key, block.to_le_bytes()));
            }
            level = above.into_iter().map(|(at, all)| (at, all[0].0, self.node(INNER, &all))).collect();
        }
        level[0].2
    }

    pub(super) fn of(model: &Model) -> Self {
        let mut device = Self::default();
        let mut roots = Vec::new();
        let mut details = Vec::new();
        for (id, mappings) in model {
            let packed: Vec<_> =
                mappings.iter().map(|(key, chunk)| (*key, (chunk << 24 | u64::from(*id)).to_le_bytes())).collect();
            // The clock is part of a mapping, and the same in all copies of it.
            let packed: Vec<_> = packed.iter().map(|(key, value)| (*key, with_clock(*value, 5))).collect();
            roots.push((u64::from(*id), device.tree(&packed).to_le_bytes()));
            let mut record = [0; 24];
            record[..8].copy_from_slice(&(mappings.len() as u64).to_le_bytes());
            details.push((u64::from(*id), record));
        }
        let (roots, details) = (device.tree(&roots), device.tree(&details));
        device.superblock(roots, details);
        device
    }

    fn superblock(&mut self, roots: u64, details: u64) {
        let mut bytes = vec![0; BLOCK];
        for (at, number) in [(32, 27_022_010), (48, 7), (64, CHUNKS), (320, roots), (328, details), (344, BLOCKS)] {
            put(&mut bytes, at, &number.to_le_bytes());
        }
        for (at, number) in [(40, 2u32), (44, 5), (336, 128), (340, 8)] {
            put(&mut bytes, at, &number.to_le_bytes());
        }
        seal(&mut bytes, SUPERBLOCK);
        self.blocks.insert(0, bytes);
    }

    /// One number of a block changed, and a checksum that fits.
    pub(super) fn change(&mut self, block: u64, at: usize, bytes: &[u8]) {
        let changed = self.blocks.get_mut(&block).unwrap();
        put(changed, at, bytes);
        seal(changed, if block == 0 { SUPERBLOCK } else { NODE });
    }

    pub(super) fn root_of(&self, id: u64) -> u64 {
        let leaf = u64::from_le_bytes(self.blocks[&0][320..328].try_into().unwrap());
        let leaf = &self.blocks[&leaf];
        let at = (0..252).find(|at| leaf[32 + at * 8..][..8] == id.to_le_bytes()).unwrap();
        u64::from_le_bytes(leaf[32 + 252 * 8 + at * 8..][..8].try_into().unwrap())
    }

    fn read(&self, kin: &BTreeMap<u32, Kin>) -> (Result<Sharing, ThinError<u64>>, Vec<u64>) {
        let mut reads = Vec::new();
        let found = thin::read_sharing(Root::Committed, kin, |block| {
            reads.push(block);
            self.blocks.get(&block).cloned().ok_or(block)
        });
        (found, reads)
    }
}

fn with_clock(value: [u8; 8], clock: u64) -> [u8; 8] {
    (u64::from_le_bytes(value) >> 24 << 24 | clock).to_le_bytes()
}

/// What there is to count, from the mappings in full.
struct Counted {
    mapped: u64,
    thins: BTreeMap<u32, u64>,
    sets: BTreeMap<u32, u64>,
    families: BTreeMap<u32, u64>,
}

fn count(model: &Model, kin: &BTreeMap<u32, Kin>) -> Counted {
    let mut users: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for (id, mappings) in model {
        for chunk in mappings.values() {
            users.entry(*chunk).or_default().insert(*id);
        }
    }
    let alone = |all: BTreeSet<u32>| users.values().filter(|users| users.is_subset(&all)).count() as u64;
    let of = |part: fn(&Kin) -> u32| {
        let here = |id: &&u32| kin.contains_key(id);
        let names: BTreeSet<u32> = model.keys().filter(here).map(|id| part(&kin[id])).collect();
        let members = |name: u32| model.keys().filter(here).filter(|id| part(&kin[id]) == name).copied().collect();
        names.into_iter().map(|name| (name, alone(members(name)))).collect()
    };
    Counted {
        mapped: users.len() as u64,
        thins: model.keys().map(|id| (*id, alone(BTreeSet::from([*id])))).collect(),
        sets: of(|kin| kin.set),
        families: of(|kin| kin.family),
    }
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Create,
    Write { of: usize, first: u64, len: u64 },
    Snapshot { of: usize },
    Delete { of: usize },
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::Create),
        4 => (any::<usize>(), 0u64..120, 1u64..20).prop_map(|(of, first, len)| Op::Write { of, first, len }),
        3 => any::<usize>().prop_map(|of| Op::Snapshot { of }),
        1 => any::<usize>().prop_map(|of| Op::Delete { of }),
    ]
}

pub(super) fn played(ops: &[Op]) -> Model {
    let mut model = Model::from([(1, BTreeMap::new())]);
    let (mut next_id, mut next_chunk) = (2, 0);
    for op in ops {
        let pick = |of: &usize| model.keys().nth(of % model.len().max(1)).copied();
        match op {
            Op::Create => drop(model.insert(next_id, BTreeMap::new())),
            Op::Write { of, first, len } => {
                let Some(id) = pick(of) else { continue };
                for key in *first..first + len {
                    next_chunk += 1;
                    model.get_mut(&id).unwrap().insert(key, next_chunk);
                }
                continue;
            }
            Op::Snapshot { of } => {
                let Some(id) = pick(of) else { continue };
                let copy = model[&id].clone();
                model.insert(next_id, copy);
            }
            Op::Delete { of } => {
                let Some(id) = pick(of) else { continue };
                model.remove(&id);
                continue;
            }
        }
        next_id += 1;
    }
    model
}

/// Every third is on its own.
fn kin(model: &Model) -> BTreeMap<u32, Kin> {
    let related = model.keys().filter(|id| *id % 3 != 0);
    related.map(|id| (*id, Kin { set: id % 5, family: id % 5 / 2 })).collect()
}

proptest! {
    #[test]
    fn thin_sharing_is_what_the_mappings_in_full_say(ops in prop::collection::vec(op(), 0..24)) {
        let model = played(&ops);
        let kin = kin(&model);
        let device = Device::of(&model);
        let (found, reads) = device.read(&kin);
        let (found, counted) = (found.unwrap(), count(&model, &kin));
        prop_assert_eq!(found.mapped, counted.mapped);
        prop_assert_eq!(found.thins, counted.thins);
        prop_assert_eq!(found.sets, counted.sets);
        prop_assert_eq!(found.families, counted.families);
        prop_assert!(reads.len() <= 4 * device.blocks.len(), "{} of {}", reads.len(), device.blocks.len());
    }

    #[test]
    fn thin_sharing_no_bytes_make_it_panic_or_read_without_end(
        ops in prop::collection::vec(op(), 4..16),
        harm in prop::collection::vec((any::<usize>(), 4usize..BLOCK - 8, any::<[u8; 8]>(), any::<bool>()), 1..6),
    ) {
        let model = played(&ops);
        let mut device = Device::of(&model);
        for (block, at, mut bytes, small) in harm {
            let block = *device.blocks.keys().nth(block % device.blocks.len()).unwrap();
            if small {
                bytes[2..].fill(0);
            }
            device.change(block, at, &bytes);
        }
        let (_, reads) = device.read(&kin(&model));
        prop_assert!(reads.len() <= 8 * device.blocks.len() + 8, "{} of {}", reads.len(), device.blocks.len());
    }
}

/// A volume of 2,000 mappings and its snapshots, the oldest of which has a few of its own.
pub(super) fn much_shared(snapshots: u32) -> Model {
    let whole: BTreeMap<u64, u64> = (0..2000).map(|key| (key, key)).collect();
    let mut model: Model = (1..=snapshots + 1).map(|id| (id, whole.clone())).collect();
    model.get_mut(&2).unwrap().extend((0..8).map(|key| (key, 5000 + key)));
    model
}

#[test]
fn thin_sharing_a_hundred_snapshots_are_read_as_fast_as_one() {
    let read = |snapshots| {
        let device = Device::of(&much_shared(snapshots));
        let (found, reads) = device.read(&BTreeMap::new());
        assert_eq!(found.unwrap().mapped, 2008);
        (reads.len(), device.blocks.len())
    };
    let (one, blocks) = read(1);
    assert!(one <= blocks + 1, "{one} of {blocks}");
    let (hundred, more) = read(100);
    assert!(hundred <= one + more.saturating_sub(blocks), "{hundred}, for one {one}");
}

#[test]
fn thin_sharing_within_a_level_blocks_are_read_in_order() {
    let device = Device::of(&much_shared(3));
    let (_, reads) = device.read(&BTreeMap::new());
    let back = reads.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(back < 12, "{back} of {} go back", reads.len());
}

#[test]
fn thin_sharing_what_a_set_frees_is_more_than_what_its_members_free() {
    let model = Model::from([
        (1, BTreeMap::from([(0, 10), (1, 11)])),
        (2, BTreeMap::from([(0, 10), (1, 20), (2, 21)])),
        (3, BTreeMap::from([(0, 10), (1, 20), (2, 31)])),
    ]);
    let kin = |set| Kin { set, family: 1 };
    let kin = BTreeMap::from([(1, kin(1)), (2, kin(2)), (3, kin(2))]);
    let found = Device::of(&model).read(&kin).0.unwrap();
    assert_eq!(found.thins, BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    assert_eq!(found.sets, BTreeMap::from([(1, 1), (2, 3)]), "chunk 20 goes with both of them only");
    assert_eq!((found.families, found.mapped), (BTreeMap::from([(1, 5)]), 5));
}

fn damage(device: &Device) -> &'static str {
    match device.read(&BTreeMap::new()).0 {
        Err(ThinError::Damaged { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn thin_sharing_wrong_numbers_under_a_right_checksum_are_refused() {
    let good = Device::of(&Model::from([
        (1, (0..40).map(|key| (key, key)).collect()),
        (2, BTreeMap::from([(0, 100), (1, 101)])),
    ]));
    let (inner, leaf) = (good.root_of(1), good.root_of(2));
    let changed = |block: u64, at: usize, number: u64| {
        let mut device = good.clone();
        device.change(block, at, &number.to_le_bytes());
        damage(&device)
    };
    let value = |at: usize| 32 + 252 * 8 + at * 8;
    assert_eq!(changed(leaf, value(0), CHUNKS << 24), "a mapping leads past the end of the pool");
    assert_eq!(changed(leaf, value(0), u64::MAX), "a mapping leads past the end of the pool");
    assert_eq!(changed(leaf, 32, 7), "mappings are out of order");
    for child in [0, BLOCKS, u64::MAX] {
        assert_eq!(changed(inner, value(0), child), "a node cannot be there");
    }
    // The mappings of one thin id in place of another's, with the record of the other.
    assert_eq!(changed(0, 64, 50), "a mapping leads past the end of the pool");
    let roots = u64::from_le_bytes(good.blocks[&0][320..328].try_into().unwrap());
    assert_eq!(changed(roots, 40, 3), "the mappings are not of the thin ids that there are");
    let details = u64::from_le_bytes(good.blocks[&0][328..336].try_into().unwrap());
    assert_eq!(changed(details, 32 + 126 * 8, 39), "a thin id has more mappings than its record says");
    assert_eq!(changed(0, 320, details), "the node is of another tree");
    assert_eq!(changed(0, 328, roots), "the node is of another tree");
    let mut lost = good.clone();
    lost.blocks.remove(&leaf);
    assert_eq!(lost.read(&BTreeMap::new()).0, Err(ThinError::Read(leaf)));
}

#[test]
fn thin_sharing_a_chain_of_nodes_is_given_up() {
    let mut device = Device::of(&Model::from([(1, (0..40).map(|key| (key, key)).collect())]));
    let roots = u64::from_le_bytes(device.blocks[&0][320..328].try_into().unwrap());
    let free: Vec<u64> = (1..BLOCKS).filter(|block| !device.blocks.contains_key(block)).take(30).collect();
    for pair in free.windows(2) {
        let mut bytes = device.blocks[&device.root_of(1)].clone();
        put(&mut bytes, 8, &pair[0].to_le_bytes());
        put(&mut bytes, 16, &1u32.to_le_bytes());
        put(&mut bytes, 32 + 252 * 8, &pair[1].to_le_bytes());
        seal(&mut bytes, NODE);
        device.blocks.insert(pair[0], bytes);
    }
    device.change(roots, 32 + 252 * 8, &free[0].to_le_bytes());
    assert_eq!(damage(&device), "the tree is deeper than any");
    let (_, reads) = device.read(&BTreeMap::new());
    assert!(reads.len() < 20, "{}", reads.len());
}

#[test]
fn thin_sharing_more_chunks_than_can_be_told_apart_are_refused() {
    // Each mapping in a page of its own, in a pool of many chunks.
    let mut device = Device::default();
    let mut children = Vec::new();
    for leaf in 0..280u64 {
        let entries: Vec<_> =
            (0..252u64).map(|at| (leaf * 252 + at, (((leaf * 252 + at) * 1024) << 24).to_le_bytes())).collect();
        children.push((leaf * 252, device.node(LEAF, &entries).to_le_bytes()));
    }
    let halves: Vec<_> = children.chunks(140).map(|half| (half[0].0, device.node(INNER, half).to_le_bytes())).collect();
    let root = device.node(INNER, &halves);
    let mut record = [0; 24];
    record[..8].copy_from_slice(&(280 * 252u64).to_le_bytes());
    let (roots, details) = (device.node(LEAF, &[(1, root.to_le_bytes())]), device.node(LEAF, &[(1, record)]));
    device.superblock(roots, details);
    device.change(0, 64, &(1u64 << 39).to_le_bytes());
    assert_eq!(device.read(&BTreeMap::new()).0, Err(ThinError::TooLarge(1 << 26)));
}
