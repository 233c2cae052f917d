//! Thin pools: what is on the metadata device, what the kernel holds in memory, messages, modes and status.
//!
//! The committed state of a pool is a value; the superblock on the simulated metadata device holds its number and a
//! checksum. What happens to the disk therefore happens to the pool: an old image brings the old state back, a clone carries
//! its own, zeros make a fresh pool, and a damaged superblock is refused.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use vol_core::observed::{DevNumber, PoolMode, PoolStatus, PoolUsage, ThinStatus};
use vol_engine::host::{HostErrorKind, HostResult};
use vol_types::Sectors;

use crate::contents::Held;
use crate::fs::Content;
use crate::mapper::DM_MAJOR;
use crate::table::PoolTarget;
use crate::world::{World, fail};

/// The kernel's `THIN_SUPERBLOCK_MAGIC`, at byte 32 of the metadata device as in the kernel.
pub(crate) const MAGIC: u64 = 27_022_010;
pub(crate) const BLOCK: u64 = 4096;
/// What a fresh pool takes; fewer blocks are refused.
const METADATA_BLOCKS_MIN: u64 = 10;

/// What is durable in a pool's metadata.
#[derive(Clone, Debug)]
pub(crate) struct PoolDisk {
    /// Tells pools apart for the checks; new with every format.
    pub life: u64,
    /// In sectors.
    pub chunk: u64,
    pub transaction_id: u64,
    /// The snapshot clock.
    pub clock: u32,
    pub data_blocks: u64,
    pub metadata_blocks: u64,
    pub needs_check: bool,
    pub thins: BTreeMap<u32, Thin>,
    /// How many thins share each data block in use.
    pub blocks: BTreeMap<u64, u32>,
    pub next_block: u64,
    /// The metadata snapshot; durable, so it outlives a reboot.
    pub held: Option<Arc<Held>>,
    /// The number of the state that was there before it was reserved.
    pub before_hold: Option<u64>,
    pub flaw: ThinFlaw,
}

/// What is wrong with a pool's metadata, past the superblock. The kernel does not notice until it comes across it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ThinFlaw {
    #[default]
    None,
    /// The space maps: they are made anew from the mappings, and nothing is lost.
    SpaceMaps,
    /// The mappings of these thin ids: a repair comes back without them.
    Lost(std::collections::BTreeSet<u32>),
    /// The second half of the mappings of this thin id.
    Half(u32),
    /// Nothing can be made of them.
    Hopeless,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Thin {
    pub origin: Option<u32>,
    pub created_transaction: u64,
    /// The data block behind each chunk that was written to.
    pub blocks: BTreeMap<u64, u64>,
    pub content: Content,
}

/// The modes of a pool, from good to bad (`dm-thin.c`, `enum pool_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimPoolMode {
    ReadWrite,
    OutOfDataSpace,
    OutOfMetadataSpace,
    ReadOnly,
    Fail,
}

/// What the kernel holds of a pool.
#[derive(Clone, Debug)]
pub(crate) struct ActivePool {
    pub metadata: DevNumber,
    pub data: DevNumber,
    pub state: u64,
    pub mode: SimPoolMode,
    pub needs_check: bool,
    pub error_if_no_space: bool,
    pub total_data: u64,
    pub total_metadata: u64,
    /// `needs_check` is set in memory only: the metadata took no writes.
    pub check_unwritten: bool,
    /// A transaction id that was set and not committed: the status shows it until the pool is loaded anew, for an abort reads
    /// back all but this (`dm-thin-metadata.c`, `dm_pool_abort_metadata`).
    pub shown_transaction: Option<u64>,
}

/// A pool message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Create(u32),
    Snap { id: u32, origin: u32 },
    Delete(u32),
    SetTransactionId { from: u64, to: u64 },
    ReserveSnapshot,
    ReleaseSnapshot,
}

impl PoolDisk {
    /// A rough model: the superblock, space maps and roots, a leaf for each volume, a leaf for 126 mappings.
    fn used_metadata(&self) -> u64 {
        // A leaf holds 126 mappings or more; shared ones are counted once. No walk: it is asked for with every status.
        let leaves = self.thins.len() as u64 + self.used_data() / 126;
        8 + leaves
    }
    pub fn used_data(&self) -> u64 {
        self.blocks.len() as u64
    }
    pub fn drop_thin(&mut self, id: u32) {
        self.unmap(id, 0..u64::MAX);
        self.thins.remove(&id);
    }
    /// The chunks behind the last one that is mapped, as a file system that takes fresh blocks uses them.
    pub fn fresh(&self, id: u32, count: u64) -> Range<u64> {
        let first = self.thins.get(&id).and_then(|thin| thin.blocks.keys().next_back()).map_or(0, |last| last + 1);
        first..first + count
    }
    /// Those of `chunks` that take a new block when they are written to: not mapped yet, or shared with another thin.
    pub fn unowned(&self, id: u32, chunks: Range<u64>) -> Vec<u64> {
        let owned = |chunk: &u64| {
            let block = self.thins.get(&id).and_then(|thin| thin.blocks.get(chunk));
            block.is_some_and(|block| self.blocks.get(block) == Some(&1))
        };
        chunks.filter(|chunk| !owned(chunk)).collect()
    }
    /// Takes the blocks of these chunks away; whether there were any.
    pub fn unmap(&mut self, id: u32, chunks: Range<u64>) -> bool {
        let Some(thin) = self.thins.get_mut(&id) else { return false };
        let gone: Vec<u64> = thin.blocks.range(chunks).map(|(chunk, _)| *chunk).collect();
        for block in gone.iter().filter_map(|chunk| thin.blocks.remove(chunk)) {
            if let Some(count) = self.blocks.get_mut(&block) {
                *count -= 1;
                if *count == 0 {
                    self.blocks.remove(&block);
                }
            }
        }
        !gone.is_empty()
    }
    /// Gives each of `chunks` a block of its own.
    pub fn map(&mut self, id: u32, chunks: &[u64]) {
        let Some(thin) = self.thins.get_mut(&id) else { return };
        for chunk in chunks {
            let block = self.next_block;
            self.next_block += 1;
            self.blocks.insert(block, 1);
            if let Some(count) = thin.blocks.insert(*chunk, block).and_then(|shared| self.blocks.get_mut(&shared)) {
                *count -= 1;
            }
        }
    }
}

pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    // FNV-1a; the kernel's CRC would prove no more here.
    bytes.iter().fold(0x811C_9DC5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn superblock(state: u64, disk: &PoolDisk) -> Vec<u8> {
    let mut block = vec![0; BLOCK as usize];
    block[4] = u8::from(disk.needs_check);
    block[32..40].copy_from_slice(&MAGIC.to_le_bytes());
    block[48..56].copy_from_slice(&disk.transaction_id.to_le_bytes());
    block[64..72].copy_from_slice(&state.to_le_bytes());
    let sum = checksum(&block[4..]);
    block[..4].copy_from_slice(&sum.to_le_bytes());
    block
}

impl World {
    pub fn active_pool(&self, minor: u32) -> Option<&ActivePool> {
        self.dm.get(&minor)?.pool.as_ref()
    }

    /// The committed state of an active pool.
    pub fn pool_disk(&self, minor: u32) -> Option<&PoolDisk> {
        self.pool_states.get(&self.active_pool(minor)?.state).map(AsRef::as_ref)
    }

    /// Whether writes to the metadata or data device fail: a disk is gone or refuses writes.
    pub fn refuses_writes(&self, dev: DevNumber) -> bool {
        let size = self.size_of(dev).map_or(BLOCK, |size| size.0);
        let Ok(runs) = self.resolve("pool", dev, 0, size) else { return true };
        self.refused_writes(&runs)
    }

    /// Whether a disk on which one of these runs lies refuses all writes.
    pub fn refused_writes(&self, runs: &[crate::mapper::Run]) -> bool {
        runs.iter().any(|run| {
            let nodes = self.nodes.iter().filter(|(_, node)| node.medium == run.medium);
            nodes.into_iter().any(|(path, _)| self.faults.refuses_writes(&path.to_string_lossy()))
        })
    }

    /// What the kernel does when a pool's table is loaded: reads the superblock, or formats if it is all zeros.
    pub fn open_pool(&mut self, what: &str, minor: u32, target: &PoolTarget) -> HostResult<()> {
        if let Some(active) = self.active_pool(minor) {
            let same = active.metadata == target.metadata && active.data == target.data;
            // The chunk size of a running pool is not looked at (`dm-thin.c`, `__pool_find`).
            if !same {
                return fail(HostErrorKind::Invalid, what, "different pool cannot replace a pool");
            }
            return Ok(());
        }
        // Nobody guards the data device (`dm-thin.c`, `__pool_find` knows pools by their metadata device).
        if self.dm.values().filter_map(|device| device.pool.as_ref()).any(|pool| pool.metadata == target.metadata) {
            return fail(HostErrorKind::Busy, what, "device already in use by a pool");
        }
        let bytes = self.read_linear(what, target.metadata, 0, BLOCK)?;
        let state = if bytes.iter().all(|byte| *byte == 0) {
            self.format_pool(what, target)?
        } else {
            let state = u64::from_le_bytes(<[u8; 8]>::try_from(&bytes[64..72]).unwrap_or_default());
            let sum = checksum(&bytes[4..]).to_le_bytes();
            let known = self.pool_states.contains_key(&state);
            if bytes[..4] != sum || bytes[32..40] != MAGIC.to_le_bytes() || !known {
                return fail(HostErrorKind::Invalid, what, "superblock validation failed");
            }
            state
        };
        let total_metadata = self.size_of(target.metadata).map_or(0, |size| size.0 / BLOCK);
        let disk = self.pool_states.get(&state).cloned();
        let Some(disk) = disk.filter(|disk| disk.chunk == target.chunk) else {
            return fail(HostErrorKind::Invalid, what, "changing the data block size is not supported");
        };
        if total_metadata < disk.metadata_blocks {
            return fail(HostErrorKind::Invalid, what, "metadata device too small");
        }
        let mode = if disk.needs_check || target.read_only { SimPoolMode::ReadOnly } else { SimPoolMode::ReadWrite };
        self.dm_by_minor(what, minor)?.pool = Some(ActivePool {
            metadata: target.metadata,
            data: target.data,
            state,
            mode,
            needs_check: disk.needs_check,
            error_if_no_space: target.error_if_no_space,
            total_data: disk.data_blocks,
            total_metadata,
            check_unwritten: false,
            shown_transaction: None,
        });
        Ok(())
    }

    fn format_pool(&mut self, what: &str, target: &PoolTarget) -> HostResult<u64> {
        if target.read_only {
            return fail(HostErrorKind::Denied, what, "EPERM: blank metadata cannot be formatted read-only");
        }
        if self.size_of(target.metadata).is_none_or(|size| size.0 / BLOCK < METADATA_BLOCKS_MIN) {
            return fail(HostErrorKind::Invalid, what, "no room for the first metadata");
        }
        if self.refuses_writes(target.metadata) {
            return fail(HostErrorKind::Io, what, "cannot format the metadata");
        }
        let disk = PoolDisk {
            life: self.next_state,
            chunk: target.chunk,
            transaction_id: 0,
            clock: 0,
            data_blocks: 0,
            metadata_blocks: self.size_of(target.metadata).map_or(0, |size| size.0 / BLOCK),
            needs_check: false,
            thins: BTreeMap::new(),
            blocks: BTreeMap::new(),
            next_block: 0,
            held: None,
            before_hold: None,
            flaw: ThinFlaw::None,
        };
        self.store_pool(target.metadata, Arc::new(disk))
    }

    /// Writes a new superblock, which is durable at once: the kernel flushes before and after it.
    pub fn store_pool(&mut self, metadata: DevNumber, disk: Arc<PoolDisk>) -> HostResult<u64> {
        let state = self.next_state;
        self.next_state += 1;
        self.store_pool_as(state, metadata, disk)
    }

    fn store_pool_as(&mut self, state: u64, metadata: DevNumber, disk: Arc<PoolDisk>) -> HostResult<u64> {
        let runs = self.resolve("pool commit", metadata, 0, BLOCK)?;
        let bytes = superblock(state, &disk);
        self.write_runs(&runs, &bytes);
        self.pool_states.insert(state, disk);
        Ok(state)
    }

    /// Changes the committed state. An error means that nothing was committed, and the pool is what the kernel makes of
    /// that: read-only, or failed if it cannot even read what was committed last.
    pub fn commit_pool(&mut self, minor: u32, change: impl FnOnce(&mut PoolDisk)) -> HostResult<()> {
        let Some(active) = self.active_pool(minor).cloned() else {
            return fail(HostErrorKind::NotFound, "pool commit", "no such pool");
        };
        if self.refuses_writes(active.metadata) {
            self.abort_pool(minor);
            return fail(HostErrorKind::Io, "pool commit", "the metadata cannot be written");
        }
        let old = if self.keep_states {
            self.pool_states.get(&active.state).cloned()
        } else {
            self.pool_states.remove(&active.state)
        };
        let Some(mut disk) = old else { return fail(HostErrorKind::Io, "pool commit", "no committed state") };
        let held = disk.held.clone();
        let changed = Arc::make_mut(&mut disk);
        change(changed);
        let mut back = None;
        match (held, &changed.held) {
            (None, Some(_)) => changed.before_hold = Some(active.state),
            (Some(held), None) => {
                back = changed.before_hold.take().filter(|_| !self.keep_states && held.contents == changed.contents());
            }
            _ => {}
        }
        // A metadata snapshot that was held for a moment leaves the same state, by its number too: worlds that are the same look the same.
        let state = match back {
            Some(state) => self.store_pool_as(state, active.metadata, disk)?,
            None => self.store_pool(active.metadata, disk)?,
        };
        if let Some(active) = self.pool_mut(minor) {
            active.state = state;
        }
        self.check_space(minor);
        Ok(())
    }

    /// Changes what a pool's data device holds, without a commit.
    pub fn change_data(&mut self, minor: u32, change: impl FnOnce(&mut PoolDisk)) {
        let Some(state) = self.active_pool(minor).map(|active| active.state) else { return };
        if let Some(disk) = self.pool_states.get_mut(&state) {
            change(Arc::make_mut(disk));
        }
    }

    pub fn pool_mut(&mut self, minor: u32) -> Option<&mut ActivePool> {
        self.dm.get_mut(&minor)?.pool.as_mut()
    }

    /// What the kernel looks at after each commit: a pool that lacks space refuses messages (metadata) or writes (data).
    fn check_space(&mut self, minor: u32) {
        let Some((metadata, data)) = self.pool_disk(minor).map(|disk| (disk.used_metadata(), disk.used_data())) else {
            return;
        };
        let Some(active) = self.pool_mut(minor).filter(|active| active.mode < SimPoolMode::ReadOnly) else { return };
        if metadata >= active.total_metadata {
            active.mode = SimPoolMode::OutOfMetadataSpace;
        } else if active.mode == SimPoolMode::OutOfDataSpace && data < active.total_data {
            active.mode = SimPoolMode::ReadWrite;
        }
    }

    /// `metadata_operation_failed`: back to what was committed last, `needs_check`, read-only.
    pub fn abort_pool(&mut self, minor: u32) {
        let Some(active) = self.active_pool(minor).cloned() else { return };
        let readable = self.read_linear("pool abort", active.metadata, 0, BLOCK).is_ok();
        let writable = readable && !self.refuses_writes(active.metadata);
        let disk = self.pool_states.get(&active.state).cloned();
        if let Some(mut disk) = disk.filter(|_| writable) {
            Arc::make_mut(&mut disk).needs_check = true;
            if let Ok(state) = self.store_pool(active.metadata, disk) {
                if !self.keep_states {
                    self.pool_states.remove(&active.state);
                }
                if let Some(active) = self.pool_mut(minor) {
                    active.state = state;
                }
            }
        }
        if let Some(active) = self.pool_mut(minor) {
            active.needs_check = true;
            active.check_unwritten = !writable;
            active.mode = active.mode.max(if readable { SimPoolMode::ReadOnly } else { SimPoolMode::Fail });
        }
    }

    /// The last buffers of a pool that goes are written, `needs_check` among them, if that works by now.
    pub fn close_pool(&mut self, minor: u32) {
        let Some(active) = self.active_pool(minor).cloned() else { return };
        let Some(mut disk) = self.pool_states.get(&active.state).cloned() else { return };
        if active.check_unwritten && active.mode < SimPoolMode::Fail && !self.refuses_writes(active.metadata) {
            Arc::make_mut(&mut disk).needs_check = true;
            // What cannot be written is lost, as in the kernel.
            let _ = self.store_pool(active.metadata, disk);
        }
    }

    /// What a resume with a new table does: the data device may grow, never shrink.
    pub fn resize_pool(&mut self, what: &str, minor: u32, target: &PoolTarget) -> HostResult<()> {
        let chunk = self.pool_disk(minor).map_or(target.chunk, |disk| disk.chunk);
        let total_data = target.len / chunk;
        let total_metadata = self.size_of(target.metadata).map_or(0, |size| size.0 / BLOCK);
        let Some(active) = self.active_pool(minor).cloned() else { return Ok(()) };
        if total_data < active.total_data || total_metadata < active.total_metadata {
            return fail(HostErrorKind::Invalid, what, "pool target too small");
        }
        // The mode that the table asks for (`dm-thin.c`, `bind_control_target`).
        if let Some(pool) = self.pool_mut(minor).filter(|pool| !pool.needs_check) {
            pool.mode = match pool.mode {
                SimPoolMode::Fail => SimPoolMode::Fail,
                _ if target.read_only => SimPoolMode::ReadOnly,
                SimPoolMode::ReadOnly | SimPoolMode::OutOfDataSpace => SimPoolMode::ReadWrite,
                mode => mode,
            };
        }
        if let Some(pool) = self.pool_mut(minor) {
            pool.error_if_no_space = target.error_if_no_space;
        }
        let Some(active) = self.active_pool(minor).cloned() else { return Ok(()) };
        let grown = total_data > active.total_data || total_metadata > active.total_metadata;
        if active.needs_check || active.mode >= SimPoolMode::ReadOnly || !grown {
            return Ok(());
        }
        if self
            .commit_pool(minor, |disk| {
                disk.data_blocks = total_data;
                disk.metadata_blocks = total_metadata;
            })
            .is_ok()
            && let Some(active) = self.pool_mut(minor)
        {
            active.total_data = total_data;
            active.total_metadata = total_metadata;
            active.mode = SimPoolMode::ReadWrite;
            self.check_space(minor);
        }
        Ok(())
    }

    pub fn pool_usage(&self, minor: u32) -> Option<PoolStatus> {
        let active = self.active_pool(minor)?;
        if active.mode == SimPoolMode::Fail {
            return Some(PoolStatus::Fail);
        }
        let Some(disk) = self.pool_disk(minor) else { return Some(PoolStatus::Error) };
        Some(PoolStatus::Working(PoolUsage {
            transaction_id: active.shown_transaction.unwrap_or(disk.transaction_id),
            used_metadata: disk.used_metadata(),
            total_metadata: active.total_metadata,
            used_data: disk.used_data(),
            total_data: active.total_data,
            mode: match active.mode {
                SimPoolMode::ReadWrite => PoolMode::ReadWrite,
                SimPoolMode::OutOfDataSpace => PoolMode::OutOfDataSpace,
                // The kernel says `ro` for both (`is_read_only_pool_mode`).
                _ => PoolMode::ReadOnly,
            },
            needs_check: active.needs_check,
            error_when_full: active.error_if_no_space,
            metadata_snapshot: disk.held.is_some(),
        }))
    }

    pub fn thin_usage(&self, pool: DevNumber, id: u32) -> ThinStatus {
        let minor = pool.minor;
        let Some(active) = self.active_pool(minor).filter(|_| pool.major == DM_MAJOR) else { return ThinStatus::Error };
        if active.mode == SimPoolMode::Fail {
            return ThinStatus::Fail;
        }
        match self.pool_disk(minor).and_then(|disk| Some((disk, disk.thins.get(&id)?))) {
            Some((disk, thin)) => ThinStatus::Working { mapped: Sectors(thin.blocks.len() as u64 * disk.chunk) },
            None => ThinStatus::Error,
        }
    }

    /// What the kernel does when a thin's table is loaded.
    pub fn open_thin(&mut self, what: &str, pool: DevNumber, id: u32) -> HostResult<()> {
        let failed = self.active_pool(pool.minor).is_none_or(|active| active.mode == SimPoolMode::Fail);
        if failed {
            return fail(HostErrorKind::Invalid, what, "couldn't open pool, Fail mode");
        }
        if self.dm.get(&pool.minor).is_none_or(|device| device.suspended) {
            return fail(HostErrorKind::Invalid, what, "couldn't open pool, it is suspended");
        }
        let Some((disk, true)) = self.pool_disk(pool.minor).map(|disk| (disk, disk.thins.contains_key(&id))) else {
            return fail(HostErrorKind::Io, what, "couldn't open thin internal device");
        };
        let key = (disk.life, id);
        self.thin_lives.entry(key).or_default().used = true;
        Ok(())
    }
}
