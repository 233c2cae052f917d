//! What the disks of a VG that is not open say, without writing to any of them.

use std::sync::Arc;

use vol_core::Catalog;
use vol_core::observed::DiskIdentity;
use vol_format::checkpoint::{self, CheckpointError};
use vol_format::layout::{BLOCK, Geometry};
use vol_format::record;
use vol_types::{CommitPoint, PvId, VgId};

use super::history::History;
use crate::host::{BlockRead, BlockWrite, HostError, HostErrorKind, HostResult};
use crate::pvs::OpenPv;

/// What one copy tells.
pub struct Told {
    pub head: CommitPoint,
    /// Where its checkpoint stands.
    pub slot: u8,
    pub catalog: Catalog,
}

/// What the metadata of this PV of this VG on a device tells; `None` if it tells nothing that makes sense, or cannot be read.
pub fn told(vg: VgId, pv: PvId, device: &Arc<dyn BlockRead>, geometry: &Geometry) -> Option<Told> {
    let open = OpenPv {
        node: std::path::PathBuf::new(),
        identity: device.identity().clone(),
        kind: geometry.kind(),
        geometry: *geometry,
        device: Arc::new(ReadOnly(device.clone())),
        touched: false,
    };
    let history = History::read(vg, pv, &open, None).ok().flatten()?;
    Some(Told { head: history.head(), slot: history.slot(), catalog: history.catalog()? })
}

/// The VG and PV that metadata on this device are of, which are not those of its label: what it was before it got another label.
pub fn former(vg: VgId, pv: PvId, device: &Arc<dyn BlockRead>, geometry: &Geometry) -> Option<(VgId, PvId)> {
    (0..2u8).find_map(|slot| {
        let block = device.read_at(geometry.checkpoint_offsets[usize::from(slot)], BLOCK).ok()?;
        let Err(CheckpointError::WrongVg { found }) = checkpoint::decode_header(&record::Copy { vg, pv }, slot, &block)
        else {
            return None;
        };
        match checkpoint::decode_header(&record::Copy { vg: found, pv }, slot, &block) {
            Err(CheckpointError::WrongPv { found: former }) => Some((found, former)),
            _ => None,
        }
    })
}

/// A device that takes no writes, for code that could write and does not.
struct ReadOnly(Arc<dyn BlockRead>);

impl BlockRead for ReadOnly {
    fn identity(&self) -> &DiskIdentity {
        self.0.identity()
    }
    fn read_at(&self, offset: u64, len: usize) -> HostResult<Vec<u8>> {
        self.0.read_at(offset, len)
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl BlockWrite for ReadOnly {
    fn write_at(&self, _: u64, _: &[u8]) -> HostResult<()> {
        Err(HostError::new(HostErrorKind::Denied, "write", "this device is only looked at"))
    }
    fn flush(&self) -> HostResult<()> {
        Ok(())
    }
}
