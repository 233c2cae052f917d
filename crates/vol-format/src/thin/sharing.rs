//! Who shares how many chunks with whom, from the trees of mappings.
//!
//! Snapshots share nodes of these trees, and below a shared node everything is shared. So each node and each chunk gets a label:
//! the closest of thin id, set, family and "several" that covers all who lead there. The trees are walked level by level,
//! ordered by block. What several thin ids lead to at one level is met once, with the label of all of them, and a node is read
//! again only if its label has risen since, three times at most: a hundred snapshots of a large volume cost about as much as
//! the volume alone.

use std::collections::BTreeMap;

use super::node::Node;
use super::{DEPTH_MAX, Fetched, Root, ThinError, ThinMetadata, fetched, ids, read_ids};

/// Where a thin id belongs. A set lies in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kin {
    pub set: u32,
    pub family: u32,
}

/// What [`read_sharing`] finds; all numbers are chunks of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    pub metadata: ThinMetadata,
    /// Mapped by anyone, each counted once.
    pub mapped: u64,
    /// By thin id: mapped by no other. A thin id that is not among the kin is here too.
    pub thins: BTreeMap<u32, u64>,
    /// By set: mapped by nobody outside of it.
    pub sets: BTreeMap<u32, u64>,
    /// By family: mapped by nobody outside of it.
    pub families: BTreeMap<u32, u64>,
}

/// Not met yet.
const NOBODY: u32 = 0;
/// Met by thin ids of several families.
const SEVERAL: u32 = 1;
/// Bits of the snapshot clock below the chunk of a mapping (`pack_block_time`).
const CLOCK_BITS: u32 = 24;
/// Labels are kept in pages of so many, made when they are needed.
const PAGE: usize = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 10;
const REST: u64 = PAGE as u64 - 1;
/// Most pages: 2^26 chunks, 256 MiB. A pool is made with 2^22 chunks unless it is asked for otherwise.
const PAGES_MAX: usize = 1 << 16;

/// The labels: each has one that covers it and others, up to [`SEVERAL`].
struct Labels {
    /// By label: the covering one, and how many there are above it.
    above: Vec<(u32, u8)>,
    thins: BTreeMap<u32, u32>,
    sets: BTreeMap<u32, u32>,
    families: BTreeMap<u32, u32>,
}

impl Labels {
    fn new(ids: impl Iterator<Item = u32>, kin: &BTreeMap<u32, Kin>) -> Self {
        let mut labels = Self {
            above: vec![(NOBODY, 0), (SEVERAL, 0)],
            thins: BTreeMap::new(),
            sets: BTreeMap::new(),
            families: BTreeMap::new(),
        };
        for id in ids {
            let mut above = (SEVERAL, 0);
            if let Some(kin) = kin.get(&id) {
                let family = labels.families.get(&kin.family).copied();
                let family = family.unwrap_or_else(|| Self::add(&mut labels.above, above));
                labels.families.insert(kin.family, family);
                let set = labels.sets.get(&kin.set).copied();
                let set = set.unwrap_or_else(|| Self::add(&mut labels.above, (family, 1)));
                labels.sets.insert(kin.set, set);
                above = (set, 2);
            }
            let thin = Self::add(&mut labels.above, above);
            labels.thins.insert(id, thin);
        }
        labels
    }

    /// A new label under that one, which has so many above it.
    fn add(above: &mut Vec<(u32, u8)>, (label, height): (u32, u8)) -> u32 {
        // There are 2^24 thin ids, so no more than 3 * 2^24 labels.
        let new = u32::try_from(above.len()).unwrap_or(SEVERAL);
        above.push((label, height.saturating_add(1)));
        new
    }

    fn above(&self, label: u32) -> (u32, u8) {
        usize::try_from(label).ok().and_then(|at| self.above.get(at)).copied().unwrap_or((SEVERAL, 0))
    }

    /// The closest that covers both.
    fn join(&self, mut a: u32, mut b: u32) -> u32 {
        if a == NOBODY || b == NOBODY {
            return a.max(b);
        }
        while a != b {
            let ((up_a, height_a), (up_b, height_b)) = (self.above(a), self.above(b));
            if height_a == 0 && height_b == 0 {
                return SEVERAL;
            }
            if height_a >= height_b { a = up_a } else { b = up_b }
        }
        a
    }
}

/// A label for each number, of which few are in use.
#[derive(Default)]
struct Paper(BTreeMap<u64, Box<[u32; PAGE]>>);

impl Paper {
    const fn place(number: u64) -> (u64, usize) {
        (number >> PAGE_BITS, (number & REST) as usize)
    }

    fn get(&self, number: u64) -> u32 {
        let (page, at) = Self::place(number);
        self.0.get(&page).and_then(|page| page.get(at)).copied().unwrap_or(NOBODY)
    }

    /// `None` if there is no room.
    fn set(&mut self, number: u64, label: u32) -> Option<()> {
        let (page, at) = Self::place(number);
        if self.0.len() >= PAGES_MAX && !self.0.contains_key(&page) {
            return None;
        }
        let page = self.0.entry(page).or_insert_with(|| Box::new([NOBODY; PAGE]));
        *page.get_mut(at)? = label;
        Some(())
    }

    fn labels(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.values().flat_map(|page| page.iter().copied()).filter(|label| *label != NOBODY)
    }
}

/// Reads a pool's metadata and counts who shares what. `kin` says of thin ids where they belong; the others are on their own.
/// `read` gives the block of this number, [`super::BLOCK`] bytes; it is asked in ascending order within each level.
///
/// # Errors
/// See [`ThinError`]; damage that is met ends the reading, so what is returned is whole. A node that is met again is not read
/// again, so that a tree of mappings that leads back into itself ends too, and is not told from one that shares its nodes.
pub fn read_sharing<E>(
    root: Root,
    kin: &BTreeMap<u32, Kin>,
    mut read: impl FnMut(u64) -> Result<Vec<u8>, E>,
) -> Result<Sharing, ThinError<E>> {
    let mut fetch = |block: u64| fetched(block, read(block));
    let (metadata, mappings) = read_ids(root, &mut fetch)?;
    let labels = Labels::new(metadata.devices.keys().copied(), kin);
    let mut roots = Vec::new();
    ids(mappings.root, metadata.metadata_blocks, &mut fetch, |id, root: u64| roots.push((id, root)))?;
    let known = roots.iter().map(|(id, _)| id);
    if !known.eq(metadata.devices.keys()) {
        return Err(ThinError::Damaged {
            block: mappings.root,
            what: "the mappings are not of the thin ids that there are",
        });
    }
    let mut level = BTreeMap::new();
    for (id, root) in roots {
        let label = labels.thins.get(&id).copied().unwrap_or(SEVERAL);
        let all = level.entry(root).or_insert(label);
        *all = labels.join(*all, label);
    }
    let blocks = walk(level, &labels, metadata.metadata_blocks, mappings.data_blocks, &mut fetch)?;
    tally(metadata, &labels, &blocks, mappings.root)
}

/// The label of each chunk.
fn walk<E>(
    mut level: BTreeMap<u64, u32>,
    labels: &Labels,
    metadata_blocks: u64,
    data_blocks: u64,
    fetch: &mut impl FnMut(u64) -> Fetched<E>,
) -> Result<Paper, ThinError<E>> {
    let too_large = || ThinError::TooLarge((PAGES_MAX as u64).saturating_mul(PAGE as u64));
    let (mut nodes, mut chunks) = (Paper::default(), Paper::default());
    for _ in 0..DEPTH_MAX {
        let mut next = BTreeMap::new();
        for (block, label) in level {
            let damaged = |what| ThinError::Damaged { block, what };
            if block == 0 || block >= metadata_blocks {
                return Err(damaged("a node cannot be there"));
            }
            let before = nodes.get(block);
            let label = labels.join(before, label);
            if label == before {
                continue;
            }
            nodes.set(block, label).ok_or_else(too_large)?;
            match Node::read(block, &*fetch(block)?)? {
                Node::Inner(children) => {
                    for (_, child) in children {
                        let all = next.entry(child).or_insert(label);
                        *all = labels.join(*all, label);
                    }
                }
                Node::Leaf(entries) => {
                    let mut last = None;
                    for (key, mapping) in entries {
                        if last.is_some_and(|last| last >= key) {
                            return Err(damaged("mappings are out of order"));
                        }
                        last = Some(key);
                        let mapping: u64 = mapping;
                        let chunk = mapping >> CLOCK_BITS;
                        if chunk >= data_blocks {
                            return Err(damaged("a mapping leads past the end of the pool"));
                        }
                        let all = labels.join(chunks.get(chunk), label);
                        chunks.set(chunk, all).ok_or_else(too_large)?;
                    }
                }
            }
        }
        if next.is_empty() {
            return Ok(chunks);
        }
        level = next;
    }
    let block = level.keys().next().copied().unwrap_or(0);
    Err(ThinError::Damaged { block, what: "the tree is deeper than any" })
}

/// What is under each label.
fn tally<E>(metadata: ThinMetadata, labels: &Labels, chunks: &Paper, root: u64) -> Result<Sharing, ThinError<E>> {
    let mut under = vec![0u64; labels.above.len()];
    let mut mapped = 0u64;
    for label in chunks.labels() {
        mapped = mapped.saturating_add(1);
        let mut label = label;
        // Labels are at most three below SEVERAL.
        while label != SEVERAL && label != NOBODY {
            let Some(count) = usize::try_from(label).ok().and_then(|at| under.get_mut(at)) else { break };
            *count = count.saturating_add(1);
            label = labels.above(label).0;
        }
    }
    let count = |label: &u32| usize::try_from(*label).ok().and_then(|at| under.get(at)).copied().unwrap_or(0);
    let counted = |all: &BTreeMap<u32, u32>| all.iter().map(|(id, label)| (*id, count(label))).collect();
    let thins: BTreeMap<u32, u64> = counted(&labels.thins);
    let sound = |(id, own): (&u32, &u64)| metadata.devices.get(id).is_some_and(|of| *own <= of.mapped_blocks);
    if !thins.iter().all(sound) {
        return Err(ThinError::Damaged { block: root, what: "a thin id has more mappings than its record says" });
    }
    Ok(Sharing { mapped, sets: counted(&labels.sets), families: counted(&labels.families), thins, metadata })
}
