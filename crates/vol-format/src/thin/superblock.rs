//! The superblock, and the copy of it that a metadata snapshot is (`__reserve_metadata_snap`).

use super::{BLOCK, BLOCKS_MAX, ThinError, checksum, u32_at, u64_at};

/// `THIN_SUPERBLOCK_MAGIC`
const MAGIC: u64 = 27_022_010;
/// `SUPERBLOCK_CSUM_XOR`
const CHECKSUM_KIND: u32 = 160_774;
/// `THIN_METADATA_NEEDS_CHECK_FLAG`
const NEEDS_CHECK: u32 = 1;
/// `disk_super->metadata_block_size`, in sectors.
const BLOCK_SECTORS: u32 = 8;

// Offsets in `thin_disk_superblock`; it is packed.
const CSUM: usize = 0;
const FLAGS: usize = 4;
const BLOCKNR: usize = 8;
const MAGIC_AT: usize = 32;
const VERSION: usize = 40;
const TIME: usize = 44;
const TRANS_ID: usize = 48;
const HELD_ROOT: usize = 56;
/// `nr_blocks` of the `disk_sm_root` of the data space map (`dm-space-map-common.h`); a metadata snapshot has zero there.
const DATA_BLOCKS: usize = 64;
const DATA_MAPPING_ROOT: usize = 320;
/// In the root of the metadata's own space map (`disk_sm_root`): how many blocks it covers.
const METADATA_SPACE_MAP_NR_BLOCKS: usize = 192;
const DEVICE_DETAILS_ROOT: usize = 328;
const DATA_BLOCK_SIZE: usize = 336;
const METADATA_BLOCK_SIZE: usize = 340;
const METADATA_NR_BLOCKS: usize = 344;
const INCOMPAT_FLAGS: usize = 360;

/// Versions that kernels have written (`THIN_VERSION`; 1 before Linux 3.9, of the same layout).
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=2;

#[derive(Clone, Copy, Debug)]
pub struct Superblock {
    pub transaction_id: u64,
    pub time: u32,
    pub needs_check: bool,
    /// 0: none.
    pub held_root: u64,
    /// Chunks of the pool; zero in a metadata snapshot.
    pub data_blocks: u64,
    pub data_mapping_root: u64,
    pub device_details_root: u64,
    pub data_block_size: u32,
    pub metadata_blocks: u64,
}

impl Superblock {
    pub fn read<E>(at: u64, bytes: &[u8; BLOCK]) -> Result<Self, ThinError<E>> {
        let damaged = |what| Err(ThinError::Damaged { block: at, what });
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(ThinError::Blank);
        }
        if u64_at(bytes, MAGIC_AT) != MAGIC {
            return damaged("it is no superblock of a thin pool");
        }
        if u32_at(bytes, CSUM) != checksum(bytes, CHECKSUM_KIND) {
            return damaged("the superblock's checksum is wrong");
        }
        if u64_at(bytes, BLOCKNR) != at {
            return damaged("the superblock belongs elsewhere");
        }
        let incompatible = u32_at(bytes, INCOMPAT_FLAGS);
        if incompatible != 0 {
            return Err(ThinError::Newer(incompatible));
        }
        if !VERSIONS.contains(&u32_at(bytes, VERSION)) {
            return damaged("the superblock has a version that is not known here");
        }
        if u32_at(bytes, METADATA_BLOCK_SIZE) != BLOCK_SECTORS {
            return damaged("metadata blocks of this size are not known here");
        }
        // Written when the pool is made, and never again: what grows with the pool is its space map (`sm_metadata_extend`).
        let at_first = u64_at(bytes, METADATA_NR_BLOCKS);
        if at_first == 0 {
            return damaged("the metadata have no size");
        }
        let now = u64_at(bytes, METADATA_SPACE_MAP_NR_BLOCKS);
        Ok(Self {
            transaction_id: u64_at(bytes, TRANS_ID),
            time: u32_at(bytes, TIME),
            needs_check: u32_at(bytes, FLAGS) & NEEDS_CHECK != 0,
            held_root: u64_at(bytes, HELD_ROOT),
            data_blocks: u64_at(bytes, DATA_BLOCKS),
            data_mapping_root: u64_at(bytes, DATA_MAPPING_ROOT),
            device_details_root: u64_at(bytes, DEVICE_DETAILS_ROOT),
            data_block_size: u32_at(bytes, DATA_BLOCK_SIZE),
            metadata_blocks: now.max(at_first).min(BLOCKS_MAX),
        })
    }
}
