//! A small reader of the kernel's metadata of a thin pool: which thin ids there are, where its counters stand, and who shares
//! how much with whom, and what is not the same in two of them.
//!
//! [`read`] takes the superblock and the tree of device details, [`read_sharing`] and [`read_changes`] the mappings too; none writes. Source:
//! kernel `drivers/md/dm-thin-metadata.c` (`thin_disk_superblock`, `disk_device_details`, `sb_check`, `pack_block_time`),
//! `drivers/md/persistent-data/dm-btree-internal.h` (`node_header`), `dm-btree-spine.c` (`node_check`),
//! `dm-block-manager.c` (`dm_bm_checksum`). All numbers are little-endian; a block has 4096 bytes.
//!
//! The bytes may be anything: checksums, places, counts and sizes are checked before they are used, and no input makes it
//! read more blocks than the largest tree has.

use std::collections::{BTreeMap, BTreeSet};

mod changes;
mod node;
mod sharing;
mod superblock;

pub use changes::{Changes, Wanted, read_changes};
use node::Node;
pub use sharing::{Kin, Sharing, read_sharing};
use superblock::Superblock;

/// Size of a block: the kernel's (`dm-thin-metadata.h`, `THIN_METADATA_BLOCK_SIZE`) is that of ours.
pub use crate::layout::BLOCK;

/// Most blocks that the kernel uses: 255 bitmaps of 16,320 blocks (`dm-thin-metadata.h`, `THIN_METADATA_MAX_SECTORS`).
const BLOCKS_MAX: u64 = 255 * 16_320;
/// Most nodes that are read: 2^24 ids at 42 or more a leaf (a third full), and the nodes above them.
const NODES_MAX: usize = 410_000;
/// Most levels: an inner node has 84 or more of at most 252 children, so four levels hold 2^24 ids; the rest is spare.
const DEPTH_MAX: u32 = 8;
/// Ids have 24 bits (`dm-thin.c`, `MAX_DEV_ID`).
const ID_MAX: u64 = (1 << 24) - 1;

/// Which of its states is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// What was committed last. Only of a pool that nobody writes to: one that is not loaded, or is read-only.
    Committed,
    /// The metadata snapshot that is held (`reserve_metadata_snap`): it stays as it is while the pool runs on.
    Held,
}

/// What a thin volume's record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Details {
    /// Chunks of the pool that it maps, shared ones included.
    pub mapped_blocks: u64,
    /// The pool's transaction id when it was made.
    pub transaction_id: u64,
    /// The pool's snapshot clock when it was made.
    pub creation_time: u32,
    /// The pool's snapshot clock when it last took part in a snapshot.
    pub snapshotted_time: u32,
}

/// What a pool's metadata say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinMetadata {
    pub transaction_id: u64,
    /// The snapshot clock: `create_snap` messages in the pool's life.
    pub time: u32,
    /// A commit failed; the kernel writes nothing more until a tool has checked and cleared it.
    pub needs_check: bool,
    /// Block of the metadata snapshot, if one is held.
    pub held_root: Option<u64>,
    /// Chunk size in sectors of 512 bytes.
    pub data_block_size: u32,
    /// Blocks of the metadata device that the pool uses.
    pub metadata_blocks: u64,
    /// By thin id.
    pub devices: BTreeMap<u32, Details>,
}

/// Why metadata cannot be read. `E` is what the reader of blocks gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThinError<E> {
    /// The block could not be read.
    #[error("{0}")]
    Read(E),
    #[error("the first block is blank: the pool was never made, or its metadata are gone")]
    Blank,
    #[error("block {block}: {what}")]
    Damaged { block: u64, what: &'static str },
    /// A kernel wrote it that knows more than this reader.
    #[error("it needs features that are not known here (incompatible flags {0:#x})")]
    Newer(u32),
    #[error("no metadata snapshot is held")]
    NothingHeld,
    #[error("there is no thin id {0}")]
    NoThin(u32),
    /// More than can be told apart in memory.
    #[error("the pool's mappings are spread over more than {0} chunks, which is too many to be counted")]
    TooLarge(u64),
}

/// Reads a pool's metadata. `read` gives the block of this number, [`BLOCK`] bytes.
///
/// # Errors
/// See [`ThinError`]; any damage ends the reading, so what is returned is whole.
pub fn read<E>(root: Root, mut read: impl FnMut(u64) -> Result<Vec<u8>, E>) -> Result<ThinMetadata, ThinError<E>> {
    Ok(read_ids(root, &mut |block| fetched(block, read(block)))?.0)
}

/// What is read, as a block.
fn fetched<E>(block: u64, bytes: Result<Vec<u8>, E>) -> Fetched<E> {
    let whole = <Box<[u8; BLOCK]>>::try_from(bytes.map_err(ThinError::Read)?);
    whole.map_err(|_| ThinError::Damaged { block, what: "it has not the size of a block" })
}

/// Where the mappings are.
struct Mappings {
    root: u64,
    /// Chunks that the pool has.
    data_blocks: u64,
}

fn read_ids<E>(
    root: Root,
    mut fetch: &mut impl FnMut(u64) -> Fetched<E>,
) -> Result<(ThinMetadata, Mappings), ThinError<E>> {
    let (first, from) = superblocks(root, fetch)?;
    let devices = devices(from.device_details_root, first.metadata_blocks, &mut fetch)?;
    let mappings = Mappings { root: from.data_mapping_root, data_blocks: first.data_blocks };
    let metadata = ThinMetadata {
        transaction_id: from.transaction_id,
        time: from.time,
        needs_check: first.needs_check,
        held_root: (first.held_root != 0).then_some(first.held_root),
        data_block_size: from.data_block_size,
        metadata_blocks: first.metadata_blocks,
        devices,
    };
    Ok((metadata, mappings))
}

/// The pool's own superblock, and the one of the state that is read.
fn superblocks<E>(
    root: Root,
    fetch: &mut impl FnMut(u64) -> Fetched<E>,
) -> Result<(Superblock, Superblock), ThinError<E>> {
    let first = Superblock::read(0, &*fetch(0)?)?;
    let held_root = (first.held_root != 0).then_some(first.held_root);
    let from = match (root, held_root) {
        (Root::Committed, _) => first,
        (Root::Held, None) => return Err(ThinError::NothingHeld),
        (Root::Held, Some(block)) if block >= first.metadata_blocks => {
            return Err(ThinError::Damaged { block: 0, what: "the metadata snapshot is past the end" });
        }
        (Root::Held, Some(block)) => Superblock::read(block, &*fetch(block)?)?,
    };
    Ok((first, from))
}

type Fetched<E> = Result<Box<[u8; BLOCK]>, ThinError<E>>;

/// The tree of details.
fn devices<E>(
    root: u64,
    blocks: u64,
    fetch: &mut impl FnMut(u64) -> Fetched<E>,
) -> Result<BTreeMap<u32, Details>, ThinError<E>> {
    let mut devices = BTreeMap::new();
    ids(root, blocks, fetch, |id, details| {
        devices.insert(id, details);
    })?;
    Ok(devices)
}

/// Walks a tree of which the keys are thin ids from left to right.
fn ids<E, V: node::Value>(
    root: u64,
    blocks: u64,
    fetch: &mut impl FnMut(u64) -> Fetched<E>,
    mut each: impl FnMut(u32, V),
) -> Result<(), ThinError<E>> {
    let mut seen = BTreeSet::new();
    let mut last: Option<u64> = None;
    // Each with its level; the leftmost is at the end.
    let mut open = vec![(root, 1u32)];
    while let Some((block, level)) = open.pop() {
        let damaged = |what| ThinError::Damaged { block, what };
        if block == 0 || block >= blocks {
            return Err(damaged("a node cannot be there"));
        }
        if level > DEPTH_MAX {
            return Err(damaged("the tree is deeper than any"));
        }
        if seen.len() >= NODES_MAX {
            return Err(damaged("the tree has more nodes than any"));
        }
        if !seen.insert(block) {
            return Err(damaged("the tree leads to a node twice"));
        }
        match Node::read(block, &*fetch(block)?)? {
            Node::Inner(children) => {
                open.extend(children.into_iter().rev().map(|(_, child)| (child, level.saturating_add(1))));
            }
            Node::Leaf(entries) => {
                for (key, value) in entries {
                    let id = u32::try_from(key).ok().filter(|_| key <= ID_MAX);
                    let id = id.ok_or_else(|| damaged("a thin id has more than 24 bits"))?;
                    if last.is_some_and(|last| last >= key) {
                        return Err(damaged("thin ids are out of order"));
                    }
                    last = Some(key);
                    each(id, value);
                }
            }
        }
    }
    Ok(())
}

/// `dm_bm_checksum`: CRC-32C without the final inversion over all but the checksum itself, and a number that tells the kinds
/// of blocks apart.
fn checksum(block: &[u8; BLOCK], kind: u32) -> u32 {
    let (_, rest) = block.split_at(4);
    !crc32c::crc32c(rest) ^ kind
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = at.checked_add(4).and_then(|end| bytes.get(at..end));
    field.and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = at.checked_add(8).and_then(|end| bytes.get(at..end));
    field.and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}
