//! Makes the planner's inputs from the host's reading half. Nothing here writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vol_core::Catalog;
use vol_core::dm::Device;
use vol_core::observed::{DmInfo, Mount, TargetStatus, ThinStatus};
use vol_core::plan::Kernel;
use vol_core::plan::recover::owner;
use vol_core::plan::vg::{DiskCandidate, FileCandidate, PvLayout, SeenLabel};
use vol_format::label::{self, Label, LabelError};
use vol_format::layout::{self, PvKind};
use vol_types::{Bytes, Extents, PoolId, PvId, Sectors, VgId, VolumeId};

use crate::host::{BlockRead, HostError, HostErrorKind, HostRead, HostResult};
use crate::pvs;

/// What active thin volumes have mapped in their pools.
pub type Mapped = BTreeMap<VolumeId, Sectors>;

/// A device of ours as a look at all of them found it.
#[derive(Debug)]
struct Seen {
    uuid: String,
    /// `None`: its uuid has our prefix, and makes no sense.
    device: Option<Device>,
    /// `Err`: a pool that does not say how it is.
    found: HostResult<(DmInfo, TargetStatus)>,
}

/// One look at all that device-mapper has of ours, of whatever VG, and at the mount table: one listing, and one status of each device.
#[derive(Debug)]
pub struct Look {
    devices: Vec<Seen>,
    mounts: Vec<Mount>,
    /// When it began, by [`HostRead::uptime`].
    pub at: Duration,
}

impl Look {
    /// Looks. It takes as long as the slowest device does; nothing is held meanwhile that a change waits for.
    pub fn take<H: HostRead + ?Sized>(host: &H) -> HostResult<Self> {
        // Before the look: what is seen is no older than this.
        let at = host.uptime();
        let devices = look_at(host, |_| true)?;
        Ok(Self { devices, mounts: host.mounts()?, at })
    }

    /// What of it is a VG's.
    pub fn of(&self, catalog: &Catalog) -> HostResult<(Kernel, Mapped)> {
        let (mut kernel, mut mapped) = (Kernel { mounts: self.mounts.clone(), ..Kernel::default() }, Mapped::new());
        for seen in &self.devices {
            if let Some(device) = seen.device.filter(|device| owner(catalog, *device).is_some()) {
                let (info, status) = seen.found.as_ref().map_err(Clone::clone)?;
                note(&mut kernel, &mut mapped, device, info.clone(), status.clone());
            }
        }
        Ok((kernel, mapped))
    }

    /// The uuids of what nobody owns of it, also of what did not say how it is.
    pub fn not_owned(&self, owned: impl Fn(Device) -> bool) -> Vec<String> {
        let strays = self.devices.iter().filter(|seen| !seen.device.is_some_and(&owned));
        strays.map(|seen| seen.uuid.clone()).collect()
    }
}

/// One listing, and one status of each device that is wanted. `None`: a uuid that makes no sense.
fn look_at<H: HostRead + ?Sized>(host: &H, wanted: impl Fn(Option<Device>) -> bool) -> HostResult<Vec<Seen>> {
    let mut devices = Vec::new();
    for uuid in host.dm_uuids()? {
        let device = Device::from_uuid(&uuid);
        if !wanted(device) {
            continue;
        }
        let found = match host.dm_status(&uuid) {
            // What cannot say how it is, is there all the same. Of a pool that has to be known.
            Err(_) if !matches!(device, Some(Device::Pool(_))) => {
                host.dm_device(&uuid).map(|info| Some((info?, TargetStatus::None)))
            }
            other => other,
        };
        // It may be gone since it was listed.
        devices.extend(found.transpose().map(|found| Seen { uuid, device, found }));
    }
    Ok(devices)
}

/// What is known now of one device.
fn note(kernel: &mut Kernel, mapped: &mut Mapped, device: Device, info: DmInfo, status: TargetStatus) {
    match (device, status) {
        (Device::Pool(id), TargetStatus::Pool(status)) if info.live_table && !info.suspended => {
            kernel.pools.insert(id, status);
        }
        (Device::Volume(id), TargetStatus::Thin(ThinStatus::Working { mapped: sectors })) => {
            mapped.insert(id, sectors);
        }
        _ => {}
    }
    kernel.dm.insert(device, info);
}

/// What the kernel has of one VG: its devices, the status of its pools, what its volumes have mapped, and all mounts.
pub fn kernel<H: HostRead + ?Sized>(host: &H, catalog: &Catalog) -> HostResult<(Kernel, Mapped)> {
    let (mut kernel, mut mapped) = (Kernel::default(), Mapped::new());
    for seen in look_at(host, |device| device.is_some_and(|device| owner(catalog, device).is_some()))? {
        let (info, status) = seen.found?;
        if let Some(device) = seen.device {
            note(&mut kernel, &mut mapped, device, info, status);
        }
    }
    kernel.mounts = host.mounts()?;
    Ok((kernel, mapped))
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
    /// Whether nothing has to be known.
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.pools.is_empty() && !self.mounts
    }

    /// Takes over from `newer` what is known there of these, and leaves the rest of `kernel` and `mapped` as it was seen.
    pub fn keep(&self, newer: (&Kernel, &Mapped), kernel: &mut Kernel, mapped: &mut Mapped) {
        let devices =
            self.volumes.iter().copied().map(Device::Volume).chain(self.pools.iter().copied().map(Device::Pool));
        for device in devices {
            match newer.0.dm.get(&device) {
                Some(info) => drop(kernel.dm.insert(device, info.clone())),
                None => drop(kernel.dm.remove(&device)),
            }
        }
        for id in &self.volumes {
            match newer.1.get(id) {
                Some(sectors) => drop(mapped.insert(*id, *sectors)),
                None => drop(mapped.remove(id)),
            }
        }
        for id in &self.pools {
            match newer.0.pools.get(id) {
                Some(status) => drop(kernel.pools.insert(*id, status.clone())),
                None => drop(kernel.pools.remove(id)),
            }
        }
    }

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
pub fn kernel_of<H: HostRead + ?Sized>(host: &H, interest: &Interest) -> HostResult<(Kernel, Mapped)> {
    let (mut kernel, mut mapped) = (Kernel::default(), Mapped::new());
    look_again(host, interest, &mut kernel, &mut mapped)?;
    if interest.mounts || !kernel.dm.keys().all(|device| matches!(device, Device::Pool(_))) {
        kernel.mounts = host.mounts()?;
    }
    Ok((kernel, mapped))
}

/// Brings what is known of these devices up to date, what thin volumes have mapped with it; one call of the kernel for each.
pub fn look_again<H: HostRead + ?Sized>(
    host: &H,
    interest: &Interest,
    kernel: &mut Kernel,
    mapped: &mut Mapped,
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
            Some((info, status)) => note(kernel, mapped, Device::Volume(*id), info, status),
            None => drop(kernel.dm.remove(&Device::Volume(*id))),
        }
    }
    for id in &interest.pools {
        kernel.pools.remove(id);
        match host.dm_status(&Device::Pool(*id).uuid())? {
            Some((info, status)) => note(kernel, mapped, Device::Pool(*id), info, status),
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
