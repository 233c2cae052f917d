//! Makes the planner's inputs from the host's reading half. Nothing here writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vol_core::Catalog;
use vol_core::dm::Device;
use vol_core::plan::Kernel;
use vol_core::plan::recover::owner;
use vol_core::plan::vg::{DiskCandidate, FileCandidate, PvLayout, SeenLabel};
use vol_format::label::{self, Label, LabelError};
use vol_format::layout::{self, PvKind};
use vol_types::{Bytes, Extents, PvId, VgId};

use crate::host::{BlockRead, HostError, HostErrorKind, HostRead, HostResult};
use crate::pvs;

/// What the kernel has of one VG: its devices, the status of its pools, and all mounts.
pub fn kernel<H: HostRead + ?Sized>(host: &H, catalog: &Catalog) -> HostResult<Kernel> {
    let mut dm = BTreeMap::new();
    for info in host.dm_devices()? {
        if let Some(device) = Device::from_uuid(&info.uuid)
            && owner(catalog, device).is_some()
        {
            dm.insert(device, info);
        }
    }
    let mut pools = BTreeMap::new();
    for pool in catalog.pools() {
        let device = Device::Pool(pool.id);
        if dm.get(&device).is_some_and(|info| info.live_table && !info.suspended) {
            pools.insert(pool.id, host.pool_status(&device.uuid())?);
        }
    }
    Ok(Kernel { dm, pools, mounts: host.mounts()?, ..Kernel::default() })
}

/// What a device carries of ours.
pub enum Carries {
    Nothing,
    Label(Box<Label>),
    /// A PV of a release that needs features that this one does not know: not to be read, and not to be taken for empty.
    Newer(String),
}

/// The label on a device. A damaged copy is passed over if the other can be read; with both damaged the device does not
/// count as ours, and the log says so.
pub fn read_label(device: &dyn BlockRead) -> HostResult<Carries> {
    let size = device.identity().size.get();
    for area in layout::AREA_CANDIDATES {
        let read = |offset: u64| {
            let at = area + offset;
            if at + layout::BLOCK as u64 > size {
                return Ok(Ok(None));
            }
            Ok(match label::decode(&device.read_at(at, layout::BLOCK)?, at) {
                // A label seen through the partition that marks its disk belongs to the disk.
                Err(LabelError::Misplaced { .. }) => Ok(None),
                other => other,
            })
        };
        let [first, second] = layout::LABEL_OFFSETS_IN_AREA;
        match label::choose(read(first)?, read(second)?) {
            Ok(Some(label)) => return Ok(Carries::Label(Box::new(label))),
            Ok(None) => {}
            // The bits stand in the source: without them nobody knows which release to look for (FMT-30).
            Err(ref error @ LabelError::Incompatible { ref features, .. }) => {
                return Ok(Carries::Newer(format!("{error}: {features}")));
            }
            Err(error) => {
                tracing::warn!(device = %device.identity().dev, %error, "a damaged or foreign label was passed over");
            }
        }
    }
    Ok(Carries::Nothing)
}

/// Layout of a device of this size; `None` if it is too small.
pub fn pv_layout(size: Bytes, kind: PvKind, extent_size: Bytes) -> Option<PvLayout> {
    let geometry = layout::geometry(size, kind, extent_size).ok()?;
    Some(PvLayout { data_offset: Bytes(geometry.data_offset), extents: Extents(geometry.extent_count) })
}

/// All there is to know of a disk that was named in a request.
pub fn disk_candidate<H: HostRead + ?Sized>(
    host: &H,
    path: &Path,
    extent_size: Bytes,
    pv: PvId,
    vg_known: impl Fn(VgId) -> bool,
) -> DiskCandidate {
    let none = |error: HostError| DiskCandidate {
        path: path.to_owned(),
        info: Err(error.to_string()),
        label: None,
        layout: None,
        pv,
    };
    let info = match host.inspect(path) {
        Ok(info) => info,
        Err(error) => return none(error),
    };
    let label = match host.open_read(&info.node).and_then(|device| read_label(&*device)) {
        Ok(Carries::Label(label)) => Some(label),
        Ok(Carries::Nothing) => None,
        Ok(Carries::Newer(error)) => {
            return none(HostError::new(HostErrorKind::Unsupported, "it carries a PV of a newer volumed", error));
        }
        Err(error) => return none(error),
    };
    let layout = pv_layout(info.identity.size, pvs::kind_of(&info), extent_size);
    DiskCandidate {
        path: path.to_owned(),
        label: label.map(|label| SeenLabel { vg: label.vg, vg_known: vg_known(label.vg), vg_name: label.vg_name }),
        layout,
        info: Ok(info),
        pv,
    }
}

/// A backing file that is to be made.
pub fn file_candidate<H: HostRead + ?Sized>(
    host: &H,
    path: PathBuf,
    size: Bytes,
    extent_size: Bytes,
    pv: PvId,
) -> HostResult<FileCandidate> {
    Ok(FileCandidate {
        exists: host.path_exists(&path)?,
        parent_exists: path.parent().map_or(Ok(true), |parent| host.path_exists(parent))?,
        layout: pv_layout(size, PvKind::WholeDisk, extent_size),
        path,
        size,
        pv,
    })
}
