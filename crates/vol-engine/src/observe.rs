//! Makes the planner's inputs from the host's reading half. Nothing here writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use vol_core::Catalog;
use vol_core::dm::Device;
use vol_core::observed::{TargetStatus, ThinStatus};
use vol_core::plan::Kernel;
use vol_core::plan::recover::owner;
use vol_core::plan::vg::{DiskCandidate, FileCandidate, PvLayout, SeenLabel};
use vol_format::label::{self, Label, LabelError};
use vol_format::layout::{self, PvKind};
use vol_types::{Bytes, Extents, PoolId, PvId, Sectors, VgId, VolumeId};

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

/// What of a VG's devices a change has to know of: it costs the same beside ten thousand others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub volumes: BTreeSet<VolumeId>,
    pub pools: BTreeSet<PoolId>,
    /// Mounts too of what is none of these volumes.
    pub mounts: bool,
}

impl Interest {
    /// What has to be known to change these volumes. `None`: all of it. A reserve in a pool is kept by what all volumes with one
    /// have mapped; the extents of thick volumes are nobody's but the VG's.
    pub fn in_volumes(catalog: &Catalog, ids: impl IntoIterator<Item = VolumeId>) -> Option<Self> {
        let mut interest = Self::default();
        for volume in ids.into_iter().filter_map(|id| catalog.volume(id)) {
            interest.volumes.insert(volume.id);
            interest.pools.insert(volume.pool()?);
        }
        interest.is_enough(catalog).then_some(interest)
    }

    /// Both together.
    pub fn with(mut self, other: Self) -> Self {
        self.volumes.extend(other.volumes);
        self.pools.extend(other.pools);
        Self { mounts: self.mounts || other.mounts, ..self }
    }

    /// Whether nothing beside it matters to its pools.
    pub fn is_enough(&self, catalog: &Catalog) -> bool {
        self.pools.iter().all(|pool| catalog.members(*pool).reserve().is_zero())
    }
}

/// As [`kernel`], of these alone: one call for each, whatever else there is.
pub fn kernel_of<H: HostRead + ?Sized>(host: &H, interest: &Interest) -> HostResult<Kernel> {
    let mut kernel = Kernel::default();
    look_again(host, interest, &mut kernel, &mut BTreeMap::new())?;
    if interest.mounts || !kernel.dm.keys().all(|device| matches!(device, Device::Pool(_))) {
        kernel.mounts = host.mounts()?;
    }
    Ok(kernel)
}

/// Brings what is known of these devices up to date, what thin volumes have mapped with it; one call of the kernel for each.
pub fn look_again<H: HostRead + ?Sized>(
    host: &H,
    interest: &Interest,
    kernel: &mut Kernel,
    mapped: &mut BTreeMap<VolumeId, Sectors>,
) -> HostResult<()> {
    for id in &interest.volumes {
        mapped.remove(id);
        let found = host.dm_status(&Device::Volume(*id).uuid())?;
        let before = kernel.dm.get(&Device::Volume(*id)).map(|info| info.dev);
        let now = found.as_ref().map(|(info, _)| info.dev);
        if now != before {
            // Numbers are given again: what was mounted of another device is not mounted of this one.
            kernel.mounts.retain(|mount| Some(mount.dev) != before && Some(mount.dev) != now);
        }
        match found {
            Some((info, status)) => {
                kernel.dm.insert(Device::Volume(*id), info);
                if let TargetStatus::Thin(ThinStatus::Working { mapped: sectors }) = status {
                    mapped.insert(*id, sectors);
                }
            }
            None => drop(kernel.dm.remove(&Device::Volume(*id))),
        }
    }
    for id in &interest.pools {
        kernel.pools.remove(id);
        match host.dm_status(&Device::Pool(*id).uuid())? {
            Some((info, status)) => {
                if let TargetStatus::Pool(status) = status
                    && info.live_table
                    && !info.suspended
                {
                    kernel.pools.insert(*id, status);
                }
                kernel.dm.insert(Device::Pool(*id), info);
            }
            None => drop(kernel.dm.remove(&Device::Pool(*id))),
        }
    }
    Ok(())
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
        // Either copy will do: a sector that cannot be read does not take the other copy with it.
        let (first, second) = match (read(first), read(second)) {
            (Err(error), Err(_)) => return Err(error),
            (Err(error), Ok(second)) | (Ok(second), Err(error)) if matches!(second, Ok(None)) => return Err(error),
            (first, second) => (first.unwrap_or(Ok(None)), second.unwrap_or(Ok(None))),
        };
        match label::choose(first, second) {
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
