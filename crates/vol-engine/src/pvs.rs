//! The open PVs of a VG.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use vol_core::observed::{DevNumber, DiskIdentity, DiskInfo, DiskKind};
use vol_format::layout::{Geometry, PvKind};
use vol_types::PvId;

use crate::host::BlockWrite;

/// A PV whose device is open for writing, its identity checked on the descriptor.
#[derive(Clone)]
pub struct OpenPv {
    pub node: PathBuf,
    pub identity: DiskIdentity,
    pub kind: PvKind,
    pub geometry: Geometry,
    pub device: Arc<dyn BlockWrite>,
    /// Whether something of ours may stand on it, so that taking it back must erase that.
    pub touched: bool,
}

/// The PVs of one VG that are there.
pub type OpenPvs = BTreeMap<PvId, OpenPv>;

/// Whether a device gets a partition table of its own, or lives inside somebody else's.
pub fn kind_of(info: &DiskInfo) -> PvKind {
    match info.kind {
        DiskKind::Partition { .. } => PvKind::Partition,
        DiskKind::Whole | DiskKind::Loop { .. } => PvKind::WholeDisk,
    }
}

/// The device number of a PV, for dm tables.
pub fn number(pvs: &OpenPvs, id: PvId) -> Option<DevNumber> {
    pvs.get(&id).map(|pv| pv.identity.dev)
}
