//! A pool's own metadata, read past the pool from the device that they are on, with `O_DIRECT`: what the kernel has committed
//! is on the device (`dm-bufio` writes past the page cache), so nothing that is read is older than that.

use std::path::Path;
use std::sync::Arc;

use vol_core::observed::{PoolContents, ThinRecord};
use vol_engine::host::{BlockRead as _, HostError, HostErrorKind, HostResult, MetadataRoot};
use vol_format::thin::{self, Root, ThinError};

use super::{Dm, node};
use crate::disk::Access;
use crate::error;
use crate::io::BlockIo;
use crate::io::device::Device;

/// A superblock that is read while the kernel writes it may be half of each; the next reading is not.
const TRIES: u32 = 3;

pub(crate) fn read(dm: &Dm, io: &Arc<dyn BlockIo>, uuid: &str, root: MetadataRoot) -> HostResult<PoolContents> {
    let what = format!("read the pool metadata on dm device {uuid}");
    let info = dm.present(uuid)?;
    let path = node(info.dev);
    let device = open(io, &what, &path, info.dev)?;
    let root = match root {
        MetadataRoot::Committed => Root::Committed,
        MetadataRoot::Held => Root::Held,
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let block = |number: u64| device.read_at(number.saturating_mul(thin::BLOCK as u64), thin::BLOCK);
        match thin::read(root, block) {
            Ok(found) => {
                let record = |details: &thin::Details| ThinRecord {
                    mapped_chunks: details.mapped_blocks,
                    transaction_id: details.transaction_id,
                };
                return Ok(PoolContents {
                    transaction_id: found.transaction_id,
                    clock: found.time,
                    needs_check: found.needs_check,
                    thins: found.devices.iter().map(|(id, details)| (*id, record(details))).collect(),
                });
            }
            Err(ThinError::Damaged { block: 0, .. }) if tries < TRIES => {}
            Err(ThinError::Read(error)) => return Err(error),
            Err(error) => {
                let kind = match error {
                    ThinError::NothingHeld => HostErrorKind::NotFound,
                    ThinError::Newer(_) => HostErrorKind::Unsupported,
                    _ => HostErrorKind::Invalid,
                };
                return Err(HostError::new(kind, what, error.to_string()));
            }
        }
    }
}

fn open(io: &Arc<dyn BlockIo>, what: &str, path: &Path, dev: vol_core::observed::DevNumber) -> HostResult<Device> {
    let device = Device::open(Arc::clone(io), path, Access::Read, None)?;
    let found = device.identity().dev;
    if found == dev { Ok(device) } else { Err(error::changed(what, format!("{} is {found} now", path.display()))) }
}
