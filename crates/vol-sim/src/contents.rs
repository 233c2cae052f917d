//! What is read of a pool's metadata past the pool: what was committed last, or the metadata snapshot; and the test's own
//! messages to a pool, behind the daemon's back.

use vol_core::observed::{PoolContents, ThinRecord};
use vol_engine::host::{HostErrorKind, HostResult, MetadataRoot};

use crate::effect::Mishap;
use crate::host::SimHost;
use crate::mapper::dm_dev;
use crate::pool::{BLOCK, MAGIC, PoolDisk, checksum};
use crate::world::{World, fail};

impl PoolDisk {
    /// As the kernel's records have it.
    pub fn contents(&self) -> PoolContents {
        let record = |thin: &crate::pool::Thin| ThinRecord {
            mapped_chunks: thin.blocks.len() as u64,
            transaction_id: thin.created_transaction,
        };
        PoolContents {
            transaction_id: self.transaction_id,
            clock: self.clock,
            needs_check: self.needs_check,
            thins: self.thins.iter().map(|(id, thin)| (*id, record(thin))).collect(),
        }
    }
}

impl World {
    pub fn pool_contents(&self, what: &str, minor: u32, root: MetadataRoot) -> HostResult<PoolContents> {
        let bytes = self.read_linear(what, dm_dev(minor), 0, BLOCK)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return fail(HostErrorKind::Invalid, what, "the first block is blank");
        }
        let state = u64::from_le_bytes(<[u8; 8]>::try_from(&bytes[64..72]).unwrap_or_default());
        let sound = bytes[..4] == checksum(&bytes[4..]).to_le_bytes() && bytes[32..40] == MAGIC.to_le_bytes();
        let Some(disk) = self.pool_states.get(&state).filter(|_| sound) else {
            return fail(HostErrorKind::Invalid, what, "the superblock is damaged");
        };
        match (root, &disk.held) {
            (MetadataRoot::Committed, _) => Ok(disk.contents()),
            (MetadataRoot::Held, Some(held)) => Ok(PoolContents { needs_check: disk.needs_check, ..(**held).clone() }),
            (MetadataRoot::Held, None) => fail(HostErrorKind::NotFound, what, "no metadata snapshot is held"),
        }
    }
}

impl SimHost {
    /// A message to a pool by somebody else, as with `dmsetup message`: no effect of the daemon's, no faults.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn foreign_message(&self, pool_uuid: &str, message: &str) {
        let mut world = self.lock();
        let sent = world.message("foreign message", pool_uuid, message, Mishap(None));
        assert!(sent.is_ok(), "{message}: {sent:?}");
    }
}
