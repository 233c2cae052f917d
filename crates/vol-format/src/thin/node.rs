//! Nodes of the trees: of device details (thin id to [`Details`]), of roots (thin id to the root of its mappings) and of
//! mappings (chunk of a thin volume to chunk of the pool).

use super::{BLOCK, Details, ThinError, checksum, u32_at, u64_at};

/// `BTREE_CSUM_XOR`
const CHECKSUM_KIND: u32 = 121_107;
/// `enum node_flags`
const INTERNAL: u32 = 1;
const LEAF: u32 = 2;

// Offsets in `node_header`; it is packed, and the keys follow it.
const CSUM: usize = 0;
const FLAGS: usize = 4;
const BLOCKNR: usize = 8;
const NR_ENTRIES: usize = 16;
const MAX_ENTRIES: usize = 20;
const VALUE_SIZE: usize = 24;
const KEYS: usize = 32;

/// A key is a 64-bit number, and so is a child's block.
const WORD: usize = 8;
/// Size of `disk_device_details`.
const DETAILS: usize = 24;

/// What a leaf holds for each key.
pub trait Value: Sized {
    /// In bytes.
    const SIZE: usize;
    fn read(bytes: &[u8; BLOCK], at: usize) -> Self;
}

impl Value for Details {
    const SIZE: usize = DETAILS;

    fn read(bytes: &[u8; BLOCK], at: usize) -> Self {
        Self {
            mapped_blocks: u64_at(bytes, at),
            transaction_id: u64_at(bytes, at.saturating_add(8)),
            creation_time: u32_at(bytes, at.saturating_add(16)),
            snapshotted_time: u32_at(bytes, at.saturating_add(20)),
        }
    }
}

/// The root of a tree of mappings, or a mapping (`pack_block_time`: the chunk above 24 bits of the snapshot clock).
impl Value for u64 {
    const SIZE: usize = WORD;

    fn read(bytes: &[u8; BLOCK], at: usize) -> Self {
        u64_at(bytes, at)
    }
}

pub enum Node<V> {
    /// The least key of each child, and its block, from left to right.
    Inner(Vec<(u64, u64)>),
    /// Keys and what they hold, as they stand there.
    Leaf(Vec<(u64, V)>),
}

impl<V: Value> Node<V> {
    /// Checks what the kernel checks (`node_check`), and that it is a node of this kind of tree.
    pub fn read<E>(at: u64, bytes: &[u8; BLOCK]) -> Result<Self, ThinError<E>> {
        let damaged = |what| Err(ThinError::Damaged { block: at, what });
        if u32_at(bytes, CSUM) != checksum(bytes, CHECKSUM_KIND) {
            return damaged("the node's checksum is wrong");
        }
        if u64_at(bytes, BLOCKNR) != at {
            return damaged("the node belongs elsewhere");
        }
        let (value_size, leaf) = match u32_at(bytes, FLAGS) {
            INTERNAL => (WORD, false),
            LEAF => (V::SIZE, true),
            _ => return damaged("the node is neither inner node nor leaf"),
        };
        if usize::try_from(u32_at(bytes, VALUE_SIZE)) != Ok(value_size) {
            return damaged("the node is of another tree");
        }
        let number = |at| usize::try_from(u32_at(bytes, at)).unwrap_or(usize::MAX);
        let (entries, max) = (number(NR_ENTRIES), number(MAX_ENTRIES));
        let end = max.saturating_mul(value_size.saturating_add(WORD)).saturating_add(KEYS);
        if end > BLOCK {
            return damaged("the node is larger than its block");
        }
        if entries > max {
            return damaged("the node has more entries than it can have");
        }
        if entries == 0 && !leaf {
            return damaged("an inner node leads nowhere");
        }
        // All of it lies in the block, which was just checked; the readers of numbers check again.
        let values = max.saturating_mul(WORD).saturating_add(KEYS);
        let value = |index: usize| values.saturating_add(index.saturating_mul(value_size));
        let key = |index: usize| u64_at(bytes, index.saturating_mul(WORD).saturating_add(KEYS));
        if !leaf {
            return Ok(Self::Inner((0..entries).map(|index| (key(index), u64_at(bytes, value(index)))).collect()));
        }
        Ok(Self::Leaf((0..entries).map(|index| (key(index), V::read(bytes, value(index)))).collect()))
    }
}
