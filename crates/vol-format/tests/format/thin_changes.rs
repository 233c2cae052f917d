//! In which chunks thin volumes differ, against a model that has each one's mappings in full.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges with one of them are what is expected")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proptest::prelude::*;
use vol_format::thin::{self, BLOCK, Changes, Root, ThinError, Wanted};

use super::thin_sharing::{BLOCKS, Device, Model, much_shared, op, played};

const ALL: Range<u64> = 0..u64::MAX;

fn read(device: &Device, wanted: &Wanted, nodes: usize) -> (Result<Changes, ThinError<u64>>, usize) {
    let (mut asked, mut reads) = (0, 0);
    let enough = || {
        asked += 1;
        asked > nodes
    };
    let found = thin::read_changes(Root::Committed, wanted, enough, |block| {
        reads += 1;
        device.blocks.get(&block).cloned().ok_or(block)
    });
    (found, reads)
}

/// Read in pieces of so many ranges and nodes, as far as it goes.
fn pieces(device: &Device, mut wanted: Wanted, nodes: usize) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let found = read(device, &wanted, nodes).0.unwrap();
        assert!(found.ranges.len() <= wanted.most);
        assert!(found.ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", found.ranges);
        all.extend(found.ranges.into_iter().flatten());
        match found.next {
            Some(next) => {
                assert!(next > wanted.chunks.start && all.last().is_none_or(|last| *last < next), "{next} {all:?}");
                wanted.chunks.start = next;
            }
            None => return all,
        }
    }
}

fn differ(model: &Model, base: Option<u32>, target: u32, chunks: &Range<u64>) -> Vec<u64> {
    let nothing = BTreeMap::new();
    let (base, target) = (base.map_or(&nothing, |id| &model[&id]), &model[&target]);
    let keys: BTreeSet<u64> = base.keys().chain(target.keys()).copied().collect();
    keys.into_iter().filter(|key| chunks.contains(key) && base.get(key) != target.get(key)).collect()
}

proptest! {
    #[test]
    fn thin_changes_are_what_the_mappings_in_full_say_however_they_are_cut_up(
        ops in prop::collection::vec(op(), 1..24),
        pick in any::<(usize, Option<usize>)>(),
        chunks in prop_oneof![Just(ALL), (0u64..140, 0u64..140).prop_map(|(from, len)| from..from + len)],
        most in 1usize..9,
        nodes in 20usize..60,
    ) {
        let model = played(&ops);
        prop_assume!(!model.is_empty());
        let device = Device::of(&model);
        let id = |at: usize| *model.keys().nth(at % model.len()).unwrap();
        let (target, base) = (id(pick.0), pick.1.map(id));
        let expected = differ(&model, base, target, &chunks);
        let whole = Wanted { base, target, chunks, most: usize::MAX };
        let (found, reads) = read(&device, &whole, usize::MAX);
        let found = found.unwrap();
        prop_assert_eq!(found.next, None);
        prop_assert_eq!((found.transaction_id, found.data_block_size), (7, 128));
        prop_assert_eq!(found.ranges.into_iter().flatten().collect::<Vec<_>>(), expected.clone());
        prop_assert!(reads <= 2 * device.blocks.len() + 24, "{} of {}", reads, device.blocks.len());
        prop_assert_eq!(pieces(&device, Wanted { most, ..whole }, nodes), expected);
    }

    #[test]
    fn thin_changes_no_bytes_make_it_panic_or_read_without_end(
        ops in prop::collection::vec(op(), 4..16),
        harm in prop::collection::vec((any::<usize>(), 4usize..BLOCK - 8, any::<[u8; 8]>(), any::<bool>()), 1..6),
        ids in any::<(usize, usize)>(),
    ) {
        let model = played(&ops);
        prop_assume!(!model.is_empty());
        let mut device = Device::of(&model);
        for (block, at, mut bytes, small) in harm {
            let block = *device.blocks.keys().nth(block % device.blocks.len()).unwrap();
            if small {
                bytes[2..].fill(0);
            }
            device.change(block, at, &bytes);
        }
        let id = |at: usize| *model.keys().nth(at % model.len()).unwrap();
        let wanted = Wanted { base: Some(id(ids.0)), target: id(ids.1), chunks: ALL, most: usize::MAX };
        let (_, reads) = read(&device, &wanted, usize::MAX);
        prop_assert!(reads as u64 <= 2 * BLOCKS + 64, "{}", reads);
    }
}

#[test]
fn thin_changes_what_is_shared_is_not_read() {
    let device = Device::of(&much_shared(3));
    let wanted = |base, target| Wanted { base: Some(base), target, chunks: ALL, most: 100 };
    let (same, few) = read(&device, &wanted(3, 4), usize::MAX);
    assert_eq!(same.unwrap().ranges, []);
    assert!(few < 30, "{few} reads for two that are the same");
    // Eight chunks in two leaves were written to.
    let (differ, few) = read(&device, &wanted(2, 3), usize::MAX);
    assert_eq!(differ.unwrap().ranges, [0..8]);
    assert!(few < 50, "{few} reads for eight chunks of 2000");
    let (all, _) = read(&device, &Wanted { base: None, ..wanted(2, 2) }, usize::MAX);
    assert_eq!(all.unwrap().ranges, [0..2000]);
}

#[test]
fn thin_changes_what_was_discarded_is_a_change_and_so_is_a_volume_that_grew() {
    let base: BTreeMap<u64, u64> = (0..40).map(|key| (key, key)).collect();
    let mut target = base.clone();
    target.retain(|key, _| !(8..20).contains(key));
    target.extend((1000..1004).map(|key| (key, key)));
    let model = Model::from([(1, base), (2, target), (3, BTreeMap::new())]);
    let device = Device::of(&model);
    let ranges = |base, target| {
        read(&device, &Wanted { base: Some(base), target, chunks: ALL, most: 100 }, usize::MAX).0.unwrap().ranges
    };
    assert_eq!(ranges(1, 2), [8..20, 1000..1004]);
    assert_eq!(ranges(2, 1), [8..20, 1000..1004], "whichever was first");
    assert_eq!(ranges(3, 1), [0..40]);
    assert_eq!(ranges(1, 3), [0..40]);
}

#[test]
fn thin_changes_of_thin_ids_that_are_not_there_are_refused() {
    let device = Device::of(&Model::from([(5, BTreeMap::from([(1, 1)]))]));
    for (base, target) in [(None, 4), (None, 6), (Some(1), 5), (Some(6), 5)] {
        let wanted = Wanted { base, target, chunks: ALL, most: 1 };
        let gone = base.unwrap_or(target);
        assert_eq!(read(&device, &wanted, usize::MAX).0, Err(ThinError::NoThin(gone)));
    }
}

#[test]
fn thin_changes_a_tree_that_leads_astray_is_refused() {
    let model = Model::from([(1, (0..40).map(|key| (key, key)).collect::<BTreeMap<u64, u64>>())]);
    let root = Device::of(&model).root_of(1);
    let with = |at: usize, number: u64| {
        let mut device = Device::of(&model);
        device.change(root, at, &number.to_le_bytes());
        match read(&device, &Wanted { base: None, target: 1, chunks: ALL, most: 100 }, usize::MAX).0 {
            Err(ThinError::Damaged { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    let child = 32 + 252 * 8;
    assert_eq!(with(child, 0), "a node cannot be there");
    assert_eq!(with(child, BLOCKS), "a node cannot be there");
    assert_eq!(with(child, root), "the tree is deeper than any");
    let number = |block: u64, at: usize| {
        let bytes = &Device::of(&model).blocks[&block];
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    let below = number(number(root, child + 8), child);
    assert_eq!(with(child + 8, below), "a leaf of the tree is not as deep as the others");
    assert_eq!(with(32 + 8, 0), "mappings are out of order");
    assert_eq!(with(32, 7), "mappings are out of order");
}
