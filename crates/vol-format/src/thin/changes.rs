//! Which chunks of a thin volume are mapped, and which are not what they are in another one.
//!
//! The kernel never writes to a chunk that a snapshot shares: it maps a new one. So what two thin ids map to the same chunk of the pool, made at
//! the same time of the snapshot clock, is the same, and so is all below a node that both trees lead to, which is not even read. What
//! is mapped in one of them alone was written to, or discarded.

use std::ops::Range;

use super::node::{Node, Value};
use super::{DEPTH_MAX, Fetched, Root, Superblock, ThinError, fetched, superblocks};

/// What [`read_changes`] looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What is compared with; `None`: with nothing, so that all that is mapped is found.
    pub base: Option<u32>,
    pub target: u32,
    /// Chunks of the thin volume that are looked at.
    pub chunks: Range<u64>,
    /// Most ranges that are found at once.
    pub most: usize,
}

/// Chunks that are not the same in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Of the state that was read.
    pub transaction_id: u64,
    /// Chunk size in sectors of 512 bytes.
    pub data_block_size: u32,
    /// Of the thin volume, ascending; none touches the next.
    pub ranges: Vec<Range<u64>>,
    /// Before this chunk all was looked at; `None`: at the end.
    pub next: Option<u64>,
}

/// Ranges that are not the same, ascending, and where to go on.
type Found = (Vec<Range<u64>>, Option<u64>);

/// A part of a tree that was not looked at yet.
enum Part {
    /// Of chunks from the first number to before the second, so many levels above the leaves.
    Node { keys: Range<u64>, block: u64, height: u32 },
    /// A chunk and its mapping.
    Mapping(u64, u64),
}

impl Part {
    const fn first(&self) -> u64 {
        match self {
            Self::Node { keys, .. } => keys.start,
            Self::Mapping(chunk, _) => *chunk,
        }
    }
}

/// A tree of mappings as it is walked from left to right.
#[derive(Default)]
struct Side {
    /// The leftmost is at the end.
    pending: Vec<Part>,
    /// How many nodes were read.
    nodes: u64,
}

/// Reads in which chunks `target` differs from `base`. `enough` is asked before each node whether to end early, with what was found so far; `read`
/// gives the block of this number, [`super::BLOCK`] bytes.
///
/// # Errors
/// See [`ThinError`]; damage that is met ends the reading.
pub fn read_changes<E>(
    root: Root,
    wanted: &Wanted,
    mut enough: impl FnMut() -> bool,
    mut read: impl FnMut(u64) -> Result<Vec<u8>, E>,
) -> Result<Changes, ThinError<E>> {
    let mut fetch = |block: u64| fetched(block, read(block));
    let (first, from) = superblocks(root, &mut fetch)?;
    let mut walk = Walk { blocks: first.metadata_blocks, chunks: wanted.chunks.clone(), fetch: &mut fetch };
    let base = wanted.base.map_or_else(|| Ok(Side::default()), |id| walk.side(&from, id))?;
    let target = walk.side(&from, wanted.target)?;
    let (ranges, next) = walk.compare(base, target, wanted.most, &mut enough)?;
    Ok(Changes { transaction_id: from.transaction_id, data_block_size: from.data_block_size, ranges, next })
}

struct Walk<'a, F> {
    /// Of the metadata device.
    blocks: u64,
    chunks: Range<u64>,
    fetch: &'a mut F,
}

impl<E, F: FnMut(u64) -> Fetched<E>> Walk<'_, F> {
    fn node<V: Value>(&mut self, block: u64) -> Result<Node<V>, ThinError<E>> {
        if block == 0 || block >= self.blocks {
            return Err(ThinError::Damaged { block, what: "a node cannot be there" });
        }
        Node::read(block, &*(self.fetch)(block)?)
    }

    /// The tree of a thin id.
    fn side(&mut self, from: &Superblock, id: u32) -> Result<Side, ThinError<E>> {
        let root = self.root_of(from.data_mapping_root, id)?;
        let (mut block, mut height) = (root, 0u32);
        // How high it is: two trees are walked side by side, and what they share lies at the same height.
        while let Node::Inner(children) = self.node::<u64>(block)? {
            height = height.saturating_add(1);
            if height >= DEPTH_MAX {
                return Err(ThinError::Damaged { block, what: "the tree is deeper than any" });
            }
            block = children.first().map_or(0, |(_, child)| *child);
        }
        Ok(Side { pending: vec![Part::Node { keys: 0..u64::MAX, block: root, height }], nodes: 0 })
    }

    /// The root of a thin id's mappings.
    fn root_of(&mut self, roots: u64, id: u32) -> Result<u64, ThinError<E>> {
        let mut block = roots;
        for _ in 0..DEPTH_MAX {
            match self.node::<u64>(block)? {
                Node::Inner(children) => {
                    let next = children.iter().rev().find(|(key, _)| *key <= u64::from(id));
                    block = next.ok_or(ThinError::NoThin(id))?.1;
                }
                Node::Leaf(entries) => {
                    let found = entries.iter().find(|(key, _)| *key == u64::from(id));
                    return found.map(|(_, root)| *root).ok_or(ThinError::NoThin(id));
                }
            }
        }
        Err(ThinError::Damaged { block, what: "the tree is deeper than any" })
    }

    /// Puts the parts of a node in its place.
    fn open(&mut self, side: &mut Side, (keys, block, height): (Range<u64>, u64, u32)) -> Result<(), ThinError<E>> {
        let damaged = |what| ThinError::Damaged { block, what };
        side.nodes = side.nodes.saturating_add(1);
        if side.nodes > self.blocks {
            return Err(damaged("the tree leads to a node twice"));
        }
        // Each key is below the next, and all are within what the node above says.
        let ordered = |entries: &[(u64, u64)]| {
            entries.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b))
                && entries.first().is_none_or(|(key, _)| *key >= keys.start)
                && entries.last().is_none_or(|(key, _)| *key < keys.end)
        };
        match self.node::<u64>(block)? {
            Node::Inner(children) if height > 0 => {
                if !ordered(&children) {
                    return Err(damaged("mappings are out of order"));
                }
                let mut end = keys.end;
                for (key, child) in children.into_iter().rev() {
                    let part = Part::Node { keys: key..end, block: child, height: height.saturating_sub(1) };
                    if end > self.chunks.start && key < self.chunks.end {
                        side.pending.push(part);
                    }
                    end = key;
                }
            }
            Node::Leaf(entries) if height == 0 => {
                if !ordered(&entries) {
                    return Err(damaged("mappings are out of order"));
                }
                let looked_at = entries.into_iter().rev().filter(|(key, _)| self.chunks.contains(key));
                side.pending.extend(looked_at.map(|(key, mapping)| Part::Mapping(key, mapping)));
            }
            _ => return Err(damaged("a leaf of the tree is not as deep as the others")),
        }
        Ok(())
    }

    /// Ranges that are not the same, and where to go on.
    fn compare(
        &mut self,
        mut base: Side,
        mut target: Side,
        most: usize,
        enough: &mut impl FnMut() -> bool,
    ) -> Result<Found, ThinError<E>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        loop {
            let side = match (base.pending.last(), target.pending.last()) {
                (None, None) => return Ok((ranges, None)),
                (Some(_), None) => &mut base,
                (None, Some(_)) => &mut target,
                // Whatever is next in both is there in both: the same.
                (Some(Part::Node { block: a, .. }), Some(Part::Node { block: b, .. })) if a == b => {
                    base.pending.pop();
                    target.pending.pop();
                    continue;
                }
                (Some(a), Some(b)) if a.first() != b.first() => {
                    if a.first() < b.first() {
                        &mut base
                    } else {
                        &mut target
                    }
                }
                (Some(Part::Mapping(_, a)), Some(Part::Mapping(_, b))) => {
                    let same = a == b;
                    base.pending.pop();
                    if same {
                        target.pending.pop();
                        continue;
                    }
                    // It is told once, of the target's.
                    &mut target
                }
                (Some(Part::Node { .. }), Some(Part::Mapping(..))) => &mut base,
                (Some(Part::Mapping(..)), Some(Part::Node { .. })) => &mut target,
                // What both share at a lower height is met by both only if the higher one is opened first.
                (Some(Part::Node { height: a, .. }), Some(Part::Node { height: b, .. })) => {
                    if a > b {
                        &mut base
                    } else {
                        &mut target
                    }
                }
            };
            match side.pending.pop() {
                None => {}
                Some(Part::Node { keys, block, height }) => {
                    if enough() {
                        return Ok((ranges, Some(keys.start.max(self.chunks.start))));
                    }
                    self.open(side, (keys, block, height))?;
                }
                Some(Part::Mapping(chunk, _)) => {
                    let is_full = ranges.len() >= most;
                    match ranges.last_mut() {
                        Some(last) if last.end == chunk => last.end = chunk.saturating_add(1),
                        _ if is_full => return Ok((ranges, Some(chunk))),
                        _ => ranges.push(chunk..chunk.saturating_add(1)),
                    }
                }
            }
        }
    }
}
