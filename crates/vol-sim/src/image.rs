//! The content of one medium: what is durable, and what was written but not flushed.
//!
//! Unflushed writes are kept sector by sector (512 bytes) in the order in which they came. A power cut keeps any subset of
//! them, so a write can be lost, torn or overtaken by a later one. Cloning an image is cheap: durable blocks are shared.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::moments::{Mix, block_hash};

pub(crate) const SECTOR: u64 = 512;
const BLOCK: u64 = 4096;

type Block = [u8; BLOCK as usize];
type Sector = [u8; SECTOR as usize];

#[derive(Clone, Debug)]
struct Pending {
    sector: u64,
    data: Arc<Sector>,
    /// A flush failed while this was pending: no later flush makes it durable, though reads see it
    /// ("Can Applications Recover from fsync Failures?", ATC 2020).
    stuck: bool,
    /// Which write of a commit under way this belongs to; 0 for none.
    flight: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    durable: Arc<BTreeMap<u64, Arc<Block>>>,
    pending: Vec<Pending>,
    /// For each sector the last pending write to it.
    newest: BTreeMap<u64, usize>,
    /// Sum of the hashes of all durable blocks, kept up to date: images can be compared without walking through them.
    sum: u64,
}

impl Image {
    /// What a reader sees: unflushed writes included.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut out = self.read_durable(offset, len);
        if self.pending.is_empty() {
            return out;
        }
        let first = offset / SECTOR;
        let end = (offset + len as u64).div_ceil(SECTOR);
        for (&sector, &at) in self.newest.range(first..end) {
            let data: &[u8] = &*self.pending[at].data;
            let start = sector * SECTOR;
            // Where the sector and the range that was asked for overlap.
            let from = start.max(offset);
            let to = (start + SECTOR).min(offset + len as u64);
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&data[(from - start) as usize..(to - start) as usize]);
        }
        out
    }

    pub fn read_durable(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let end = offset + len as u64;
        for (&index, block) in self.durable.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            let start = index * BLOCK;
            let from = start.max(offset);
            let to = (start + BLOCK).min(end);
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&block[(from - start) as usize..(to - start) as usize]);
        }
        out
    }

    /// Takes whole sectors into the cache. `flight` marks the write of a commit that is under way; 0 for none.
    pub fn write_pending(&mut self, offset: u64, data: &[u8], flight: usize) {
        for (index, chunk) in data.chunks(SECTOR as usize).enumerate() {
            let sector = offset / SECTOR + index as u64;
            let mut bytes = [0; SECTOR as usize];
            bytes[..chunk.len()].copy_from_slice(chunk);
            self.newest.insert(sector, self.pending.len());
            self.pending.push(Pending { sector, data: Arc::new(bytes), stuck: false, flight });
        }
    }

    /// Makes `data` durable at once; pending writes to the same sectors are overtaken.
    pub fn write_through(&mut self, offset: u64, data: &[u8]) {
        if !self.pending.is_empty() {
            let sectors = offset / SECTOR..(offset + data.len() as u64).div_ceil(SECTOR);
            self.retain(|entry| !sectors.contains(&entry.sector));
        }
        self.store(offset, data);
    }

    fn store(&mut self, offset: u64, data: &[u8]) {
        let durable = Arc::make_mut(&mut self.durable);
        let mut at = 0;
        while at < data.len() {
            let position = offset + at as u64;
            let within = (position % BLOCK) as usize;
            let len = (BLOCK as usize - within).min(data.len() - at);
            let index = position / BLOCK;
            let old = durable.get(&index);
            let mut block = old.map_or([0; BLOCK as usize], |block| **block);
            if let Some(old) = old {
                self.sum = self.sum.wrapping_sub(block_hash(index, &**old));
            }
            block[within..within + len].copy_from_slice(&data[at..at + len]);
            if block.iter().all(|byte| *byte == 0) {
                durable.remove(&index);
            } else {
                self.sum = self.sum.wrapping_add(block_hash(index, &block));
                durable.insert(index, Arc::new(block));
            }
            at += len;
        }
    }

    /// Makes all pending writes durable, except what an earlier failed flush left behind.
    pub fn flush(&mut self) {
        self.settle(|_, entry| !entry.stuck, true);
    }

    /// A flush failed: what is pending now will not be made durable by trying again.
    pub fn flush_failed(&mut self) {
        for entry in &mut self.pending {
            entry.stuck = true;
        }
    }

    pub fn drop_flight(&mut self, flight: usize) {
        if flight != 0 && self.pending.iter().any(|entry| entry.flight == flight) {
            self.retain(|entry| entry.flight != flight);
        }
    }

    pub fn drop_all_flights(&mut self) {
        if self.pending.iter().any(|entry| entry.flight != 0) {
            self.retain(|entry| entry.flight == 0);
        }
    }

    /// Places in [`Image::pending`] of writes that change a sector, or that share it with another pending one.
    pub fn pending_that_matter(&self) -> impl Iterator<Item = usize> + '_ {
        self.pending.iter().enumerate().filter_map(|(at, entry)| {
            let same = self.read_durable(entry.sector * SECTOR, SECTOR as usize) == *entry.data;
            let shared = || self.pending.iter().enumerate().any(|(other, e)| other != at && e.sector == entry.sector);
            (!same || shared()).then_some(at)
        })
    }

    pub fn hash_into(&self, mix: &mut Mix) {
        mix.word(self.sum);
        for entry in &self.pending {
            mix.word(block_hash(entry.sector, &*entry.data));
            mix.word(u64::from(entry.stuck));
        }
    }

    /// The sectors of the unflushed writes, in the order in which they were written.
    pub fn pending(&self) -> impl Iterator<Item = u64> + '_ {
        self.pending.iter().map(|entry| entry.sector)
    }

    /// The power is cut: the pending writes that `keep` chooses by their place in [`Image::pending`] are on the medium,
    /// the others never were.
    pub fn power_cut(&mut self, mut keep: impl FnMut(usize) -> bool) {
        self.settle(|at, _| keep(at), false);
    }

    fn settle(&mut self, mut keep: impl FnMut(usize, &Pending) -> bool, remember_others: bool) {
        let mut left = Vec::new();
        for (at, entry) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if keep(at, &entry) {
                // What is older in the cache can no longer come back over this.
                left.retain(|other: &Pending| other.sector != entry.sector);
                self.store(entry.sector * SECTOR, &*entry.data);
            } else if remember_others {
                left.push(entry);
            }
        }
        self.pending = left;
        self.index();
    }

    fn retain(&mut self, keep: impl FnMut(&Pending) -> bool) {
        self.pending.retain(keep);
        self.index();
    }

    fn index(&mut self) {
        self.newest = self.pending.iter().enumerate().map(|(at, entry)| (entry.sector, at)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_sees_pending_writes_and_a_power_cut_does_not_keep_them() {
        let mut image = Image::default();
        image.write_through(4096, &[1; 4096]);
        image.write_pending(4096 + 512, &[2; 512], 0);
        assert_eq!(image.read(4096 + 500, 24), [[1; 12], [2; 12]].concat());
        image.power_cut(|_| false);
        assert_eq!(image.read(4096, 4096), vec![1; 4096]);
    }

    #[test]
    fn of_two_pending_writes_to_a_sector_a_power_cut_may_keep_either() {
        let mut image = Image::default();
        image.write_pending(0, &[1; 512], 0);
        image.write_pending(0, &[2; 512], 0);
        let mut first = image.clone();
        first.power_cut(|at| at == 0);
        assert_eq!(first.read(0, 1), [1]);
        image.power_cut(|_| true);
        assert_eq!(image.read(0, 1), [2]);
    }

    #[test]
    fn what_a_failed_flush_left_is_not_made_durable_by_the_next_one() {
        let mut image = Image::default();
        image.write_pending(0, &[1; 512], 0);
        image.flush_failed();
        image.write_pending(512, &[2; 512], 0);
        image.flush();
        assert_eq!(image.read(0, 1), [1]);
        assert_eq!((image.read_durable(0, 1), image.read_durable(512, 1)), (vec![0], vec![2]));
        image.write_pending(0, &[3; 512], 0);
        image.flush();
        assert_eq!((image.read(0, 1), image.read_durable(0, 1)), (vec![3], vec![3]));
    }

    #[test]
    fn the_sum_of_hashes_depends_on_the_content_alone() {
        let sum = |writes: &[(u64, u8, usize)]| {
            let mut image = Image::default();
            writes.iter().for_each(|(at, byte, len)| image.write_through(*at, &vec![*byte; *len]));
            image.sum
        };
        assert_eq!(sum(&[(0, 1, 4096), (8192, 2, 512)]), sum(&[(8192, 2, 512), (0, 3, 512), (0, 1, 4096)]));
        assert_eq!(sum(&[(0, 7, 8192), (0, 0, 8192)]), 0);
        assert_ne!(sum(&[(0, 1, 512)]), sum(&[(512, 1, 512)]));
        assert_ne!(sum(&[(0, 1, 512)]), sum(&[(4096, 1, 512)]));
    }

    #[test]
    fn a_pending_write_of_what_is_there_makes_no_difference_unless_another_is_pending() {
        let mut image = Image::default();
        image.write_through(0, &[1; 1024]);
        image.write_pending(0, &[1; 512], 0);
        image.write_pending(512, &[2; 512], 0);
        assert_eq!(image.pending_that_matter().collect::<Vec<_>>(), [1]);
        image.write_pending(0, &[3; 512], 0);
        assert_eq!(image.pending_that_matter().collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn blocks_of_zeros_take_no_memory() {
        let mut image = Image::default();
        image.write_through(0, &[7; 8192]);
        image.write_through(0, &[0; 8192]);
        assert!(image.durable.is_empty());
    }
}
