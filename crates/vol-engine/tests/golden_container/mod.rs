//! The container of a golden image: the blocks of a disk that are not zero, without their trailing zeroes. Its format is
//! described in `golden/README.md` and never changes.

use std::collections::BTreeMap;

const MAGIC: &[u8; 8] = b"VOLDIMG1";
const BLOCK: usize = 4096;

/// A disk as bytes.
pub struct Image {
    pub size: u64,
    pub sector_size: u32,
    /// Blocks of 4096 bytes by their offset; all others are zero.
    pub blocks: BTreeMap<u64, Vec<u8>>,
}

impl Image {
    pub fn new(size: u64, sector_size: u32, blocks: impl Iterator<Item = (u64, Vec<u8>)>) -> Self {
        let blocks = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0)).collect();
        Self { size, sector_size, blocks }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.size.to_le_bytes());
        out.extend(self.sector_size.to_le_bytes());
        out.extend(u32::try_from(self.blocks.len()).unwrap().to_le_bytes());
        for (offset, block) in &self.blocks {
            let used = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            out.extend(offset.to_le_bytes());
            out.extend(u16::try_from(used).unwrap().to_le_bytes());
            out.extend(&block[..used]);
        }
        out
    }

    /// # Panics
    /// If it is no such container.
    pub fn decode(bytes: &[u8]) -> Self {
        fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
            let (taken, after) = rest.split_at(len);
            *rest = after;
            taken
        }
        let mut rest = bytes;
        assert_eq!(take(&mut rest, 8), MAGIC, "no golden image");
        let size = u64::from_le_bytes(take(&mut rest, 8).try_into().unwrap());
        let sector_size = u32::from_le_bytes(take(&mut rest, 4).try_into().unwrap());
        let count = u32::from_le_bytes(take(&mut rest, 4).try_into().unwrap());
        let mut blocks = BTreeMap::new();
        for _ in 0..count {
            let offset = u64::from_le_bytes(take(&mut rest, 8).try_into().unwrap());
            let used = u16::from_le_bytes(take(&mut rest, 2).try_into().unwrap());
            let mut block = take(&mut rest, usize::from(used)).to_vec();
            block.resize(BLOCK, 0);
            blocks.insert(offset, block);
        }
        assert!(rest.is_empty(), "bytes left over");
        Self { size, sector_size, blocks }
    }
}

/// What tells that a file is still the same: the hash that the format itself uses.
pub fn digest(bytes: &[u8]) -> String {
    vol_format::checkpoint::payload_hash(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
