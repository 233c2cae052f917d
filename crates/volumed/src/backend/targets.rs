//! Volumes at places that others name.

use std::path::Path;

use vol_api::{ApiError, Changed, ErrorCode, MountInfo, Outcome, VolumeInfo};
use vol_core::Catalog;
use vol_core::dm::Device;
use vol_core::observed::Mount;
use vol_core::plan::mount::MountAs;
use vol_engine::host::{FsUsage, HostError, HostErrorKind, HostMut};
use vol_engine::{ChangedPage, View};
use vol_types::{MountOptions, Volume, VolumeId, VolumePath, VolumeState};

use super::EngineBackend;
use super::change::{changed, mounts_are_seen, volume_name};
use super::error::from_engine;
use super::info;
use crate::api::{AbsentVg, Backend as _, Change, OfVolume, Read, Targets};

fn of_volume(catalog: &Catalog, view: &View, snapshot: &Volume) -> Option<OfVolume> {
    let of = snapshot.snapshot.as_ref().filter(|_| snapshot.state == VolumeState::Ready)?.of;
    Some(OfVolume { snapshot: info::snapshot(catalog, &info::Around::one(view), snapshot)?, volume: of })
}

impl<H: HostMut + 'static> Targets for EngineBackend<H> {
    fn volume_by_id(&self, id: VolumeId) -> Read<Option<VolumeInfo>> {
        Ok(self.engine.vgs().iter().find_map(|vg| {
            let view = vg.view();
            vg.read(|catalog| {
                let volume = catalog.volume(id)?;
                let is = volume.snapshot.is_none() && volume.state != VolumeState::Deleted;
                is.then(|| self.shown(catalog, &view, volume))
            })
        }))
    }

    fn absent_vgs(&self) -> Read<Vec<AbsentVg>> {
        self.known.absent(&self.engine).map_err(|error| {
            ApiError::new(ErrorCode::Io, format!("which volume groups this machine had cannot be read: {error}"))
        })
    }

    fn snapshot_by_id(&self, id: VolumeId) -> Read<Option<OfVolume>> {
        Ok(self.engine.vgs().iter().find_map(|vg| {
            let view = vg.view();
            vg.read(|catalog| of_volume(catalog, &view, catalog.volume(id)?))
        }))
    }

    fn snapshots_labelled(&self, key: &str, value: Option<&str>) -> Read<Vec<OfVolume>> {
        let mut all = Vec::new();
        for vg in self.engine.vgs() {
            let view = vg.view();
            vg.read(|catalog| {
                let fits =
                    |one: &&Volume| one.labels.get(key).is_some_and(|label| value.is_none_or(|value| value == label));
                all.extend(catalog.volumes().filter(fits).filter_map(|one| of_volume(catalog, &view, one)));
            });
        }
        Ok(all)
    }

    fn changed(&self, base: Option<VolumeId>, target: VolumeId, from: u64, most: usize) -> Read<ChangedPage> {
        self.engine.changed(base, target, from, most).map_err(from_engine)
    }

    fn fs_usage(&self, id: VolumeId, at: &Path) -> Read<Option<FsUsage>> {
        let device = Device::Volume(id);
        let dev = self.engine.vgs().iter().find_map(|vg| {
            let view = vg.view();
            let is_there = view.kernel.fs_mounts_of(device).iter().any(|mount| mount.target == at);
            view.kernel.dm.get(&device).filter(|_| is_there).map(|info| info.dev)
        });
        let Some(dev) = dev else { return Ok(None) };
        match self.engine.host().fs_usage(dev, at) {
            Ok(usage) => Ok(Some(usage)),
            // Unmounted since it was looked at.
            Err(error) if matches!(error.kind, HostErrorKind::NotFound | HostErrorKind::Changed) => Ok(None),
            Err(error) => Err(ApiError::new(ErrorCode::Io, error.to_string())),
        }
    }

    fn mounts_now(&self, id: VolumeId) -> Read<Vec<MountInfo>> {
        let failed = |error: HostError| ApiError::new(ErrorCode::Io, error.to_string());
        let host = self.engine.host();
        let Some(info) = host.dm_device(&Device::Volume(id).uuid()).map_err(failed)? else { return Ok(Vec::new()) };
        let told = |mount: &Mount| MountInfo { path: mount.target.display().to_string(), read_only: mount.read_only };
        let mounts = host.mounts().map_err(failed)?;
        Ok(mounts.iter().filter(|mount| mount.dev == info.dev).map(told).collect())
    }

    fn attached_now(&self, id: VolumeId) -> Read<Option<bool>> {
        let info = self.engine.host().dm_device(&Device::Volume(id).uuid());
        let info = info.map_err(|error| ApiError::new(ErrorCode::Io, error.to_string()))?;
        Ok(info.map(|info| info.read_only))
    }

    fn mount_at(&self, volume: &VolumePath, at: &Path, read_only: bool, options: &MountOptions) -> Change<VolumeInfo> {
        mounts_are_seen(self)?;
        let how = MountAs { read_only, ..MountAs::default() };
        let done = self.engine.mount_with(&volume.vg, &volume_name(volume), at, how, options, false);
        changed(self, &volume.vg, done.map_err(from_engine)?, || self.volume_info(volume))
    }

    fn bind_volume(&self, volume: &VolumePath, from: &Path, to: &Path, read_only: bool) -> Change<VolumeInfo> {
        mounts_are_seen(self)?;
        let done = self.engine.bind(&volume.vg, &volume_name(volume), (from, to), read_only, false);
        changed(self, &volume.vg, done.map_err(from_engine)?, || self.volume_info(volume))
    }

    fn show_device(&self, volume: &VolumePath, to: &Path) -> Change<VolumeInfo> {
        mounts_are_seen(self)?;
        let done = self.engine.show_node(&volume.vg, &volume_name(volume), to, false);
        changed(self, &volume.vg, done.map_err(from_engine)?, || self.volume_info(volume))
    }

    fn unmount_at(&self, volume: &VolumePath, at: &Path) -> Change<VolumeInfo> {
        let done = self.engine.unmount(&volume.vg, &volume_name(volume), Some(at), false).map_err(from_engine);
        match done {
            // Of the mount, or of the volume; which of them the reader tells.
            Err(error) if error.code == ErrorCode::NotFound => {
                let object = Some(self.volume(volume)?);
                Ok(Changed::Done(Outcome { changed: false, object, warnings: Vec::new() }))
            }
            done => changed(self, &volume.vg, done?, || self.volume_info(volume)),
        }
    }

    fn remove_mount_point(&self, at: &Path) -> Read<bool> {
        self.engine.remove_mount_point(at).map_err(|error| {
            let is_mounted = || self.engine.host().mounts().is_ok_and(|all| all.iter().any(|one| one.target == at));
            let code = match error.kind {
                HostErrorKind::Busy if is_mounted() => ErrorCode::Busy,
                HostErrorKind::Busy => ErrorCode::Refused,
                HostErrorKind::Invalid => ErrorCode::Invalid,
                _ => ErrorCode::Io,
            };
            ApiError::new(code, error.to_string())
        })
    }
}
