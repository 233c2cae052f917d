//! A pool's own metadata, read past the pool from the device that they are on, with `O_DIRECT`: what the kernel has committed
//! is on the device (`dm-bufio` writes past the page cache), so nothing that is read is older than that.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use vol_core::observed::{PoolContents, PoolSharing, ThinChanges, ThinRecord};
use vol_engine::host::{BlockRead as _, ChangesCall, HostError, HostErrorKind, HostResult, MetadataRoot, SharingCall};
use vol_format::thin::{self, Root, ThinError};

use super::{Dm, node};
use crate::disk::Access;
use crate::error;
use crate::io::BlockIo;
use crate::io::device::Device;

/// A superblock that is read while the kernel writes it may be half of each; the next reading is not.
const TRIES: u32 = 3;

/// Bytes that are read at once for mappings, of which a pool may have millions: neighbours are mostly wanted too, for the kernel
/// gives out metadata blocks in ascending order.
const WINDOW: usize = 128 * 1024;
/// Windows that are kept: 4 MiB.
const WINDOWS_MAX: usize = 32;

/// So many nodes of two trees are compared however long that takes: more than lie above a leaf of each, so that it goes on.
const NODES_MIN: u32 = 64;

pub(crate) fn read(dm: &Dm, io: &Arc<dyn BlockIo>, uuid: &str, root: MetadataRoot) -> HostResult<PoolContents> {
    let what = format!("read the pool metadata on dm device {uuid}");
    let device = opened(dm, io, &what, uuid)?;
    let found = again(&what, || {
        let block = |number: u64| device.read_at(number.saturating_mul(thin::BLOCK as u64), thin::BLOCK);
        thin::read(of(root), block)
    })?;
    Ok(contents(&found))
}

/// See [`vol_engine::host::HostRead::pool_sharing`].
pub(crate) fn read_sharing(dm: &Dm, io: &Arc<dyn BlockIo>, call: &SharingCall<'_>) -> HostResult<PoolSharing> {
    let uuid = call.metadata_uuid;
    let what = format!("read the mappings on dm device {uuid}");
    let begin = Instant::now();
    let device = opened(dm, io, &what, uuid)?;
    let kin = call.kin.iter().map(|(id, of)| (*id, thin::Kin { set: of.set, family: of.family })).collect();
    let found = again(&what, || {
        let mut ahead = Ahead { device: &device, windows: VecDeque::new() };
        thin::read_sharing(of(call.root), &kin, |number| {
            if begin.elapsed() > call.limit {
                let detail = format!("it takes longer than {} s", call.limit.as_secs());
                return Err(HostError::new(HostErrorKind::TimedOut, &what, detail));
            }
            if !(call.go_on)() {
                return Err(HostError::new(HostErrorKind::Busy, &what, "the pool is being taken down"));
            }
            ahead.block(number)
        })
    })?;
    Ok(PoolSharing {
        contents: contents(&found.metadata),
        mapped: found.mapped,
        exclusive: found.thins,
        sets: found.sets,
        families: found.families,
    })
}

/// See [`vol_engine::host::HostRead::pool_changes`].
pub(crate) fn read_changes(dm: &Dm, io: &Arc<dyn BlockIo>, call: &ChangesCall<'_>) -> HostResult<ThinChanges> {
    let uuid = call.metadata_uuid;
    let what = format!("compare mappings on dm device {uuid}");
    let begin = Instant::now();
    let device = opened(dm, io, &what, uuid)?;
    let wanted = thin::Wanted { base: call.base, target: call.target, chunks: call.chunks.clone(), most: call.most };
    let found = again(&what, || {
        let mut ahead = Ahead { device: &device, windows: VecDeque::new() };
        let mut nodes = 0u32;
        let enough = || {
            nodes = nodes.saturating_add(1);
            nodes > NODES_MIN && begin.elapsed() > call.enough
        };
        thin::read_changes(of(call.root), &wanted, enough, |number| {
            if !(call.go_on)() {
                return Err(HostError::new(HostErrorKind::Busy, &what, "the pool is being taken down"));
            }
            ahead.block(number)
        })
    })?;
    Ok(ThinChanges { transaction_id: found.transaction_id, ranges: found.ranges, next: found.next })
}

/// Reads more than it is asked for, and keeps it a while.
struct Ahead<'a> {
    device: &'a Device,
    /// By their first byte; the one that was used last is at the end.
    windows: VecDeque<(u64, Vec<u8>)>,
}

impl Ahead<'_> {
    fn block(&mut self, number: u64) -> HostResult<Vec<u8>> {
        let at = number.saturating_mul(thin::BLOCK as u64);
        let inside = at % WINDOW as u64;
        let first = at - inside;
        let window = match self.windows.iter().position(|(start, _)| *start == first) {
            Some(known) => self.windows.remove(known),
            None => {
                let rest = self.device.identity().size.get().saturating_sub(first);
                let rest = usize::try_from(rest).unwrap_or(usize::MAX) / thin::BLOCK * thin::BLOCK;
                // What is past the end is asked for all the same, so that the error says where it is.
                let len = rest.min(WINDOW).max(usize::try_from(inside).unwrap_or(0) + thin::BLOCK);
                Some((first, self.device.read_at(first, len)?))
            }
        };
        let window = window.unwrap_or_default();
        let inside = usize::try_from(inside).unwrap_or(0);
        let block = window.1.get(inside..inside + thin::BLOCK).unwrap_or_default().to_vec();
        if self.windows.len() >= WINDOWS_MAX {
            self.windows.pop_front();
        }
        self.windows.push_back(window);
        Ok(block)
    }
}

const fn of(root: MetadataRoot) -> Root {
    match root {
        MetadataRoot::Committed => Root::Committed,
        MetadataRoot::Held => Root::Held,
    }
}

fn contents(found: &thin::ThinMetadata) -> PoolContents {
    let record = |details: &thin::Details| ThinRecord {
        mapped_chunks: details.mapped_blocks,
        transaction_id: details.transaction_id,
    };
    PoolContents {
        transaction_id: found.transaction_id,
        clock: found.time,
        needs_check: found.needs_check,
        thins: found.devices.iter().map(|(id, details)| (*id, record(details))).collect(),
    }
}

fn again<T>(what: &str, mut read: impl FnMut() -> Result<T, ThinError<HostError>>) -> HostResult<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match read() {
            Ok(found) => return Ok(found),
            Err(ThinError::Damaged { block: 0, .. }) if tries < TRIES => {}
            Err(ThinError::Read(error)) => return Err(error),
            Err(error) => {
                let kind = match error {
                    ThinError::NothingHeld | ThinError::NoThin(_) => HostErrorKind::NotFound,
                    ThinError::Newer(_) | ThinError::TooLarge(_) => HostErrorKind::Unsupported,
                    _ => HostErrorKind::Invalid,
                };
                return Err(HostError::new(kind, what, error.to_string()));
            }
        }
    }
}

fn opened(dm: &Dm, io: &Arc<dyn BlockIo>, what: &str, uuid: &str) -> HostResult<Device> {
    let info = dm.present(uuid)?;
    open(io, what, &node(info.dev), info.dev)
}

fn open(io: &Arc<dyn BlockIo>, what: &str, path: &Path, dev: vol_core::observed::DevNumber) -> HostResult<Device> {
    let device = Device::open(Arc::clone(io), path, Access::Read, None)?;
    let found = device.identity().dev;
    if found == dev { Ok(device) } else { Err(error::changed(what, format!("{} is {found} now", path.display()))) }
}
