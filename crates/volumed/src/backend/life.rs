//! Requests about what becomes of volumes and snapshots after they were made.

use std::collections::BTreeMap;

use vol_api::{
    ApiError, PvInfo, Relabel, Rename, SetVolume, SnapshotGroup, SnapshotInfo, SnapshotList, VolumeInfo, parse_field,
};
use vol_core::VolumeName;
use vol_engine::CloneVolume;
use vol_engine::host::HostMut;
use vol_types::{Label, Labels, Name, PvId, Reserve, SnapshotPath, VolumePath, label};

use super::EngineBackend;
use super::change::{bytes, changed, snapshot_name, volume_name};
use super::error::from_engine;
use crate::api::{Backend as _, Change, Life};

/// Labels as they stand in a request.
pub(super) fn labels(wanted: &BTreeMap<String, String>) -> Result<Labels, ApiError> {
    let mut labels = Labels::default();
    for one in list(wanted)? {
        labels.set(one).map_err(|error| ApiError::invalid(format!("labels: {error}")))?;
    }
    Ok(labels)
}

/// A reserve as it stands in a request.
pub(super) fn reserve(text: Option<&str>) -> Result<Option<Reserve>, ApiError> {
    text.map(|text| text.parse().map_err(|error| ApiError::invalid(format!("reserve: {error}")))).transpose()
}

fn list(wanted: &BTreeMap<String, String>) -> Result<Vec<Label>, ApiError> {
    let one = |(key, value): (&String, &String)| {
        Label::new(key, value).map_err(|error| ApiError::invalid(format!("labels: {error}")))
    };
    wanted.iter().map(one).collect()
}

fn checked(request: &Relabel) -> Result<(Vec<Label>, &[String]), ApiError> {
    for key in &request.remove {
        label::check_key(key).map_err(|error| ApiError::invalid(format!("remove: {error}")))?;
    }
    Ok((list(&request.set)?, &request.remove))
}

impl<H: HostMut + 'static> Life for EngineBackend<H> {
    fn clone_volume(&self, request: vol_api::CloneVolume, dry_run: bool) -> Change<VolumeInfo> {
        let wanted = CloneVolume {
            vg: parse_field("vg", &request.vg)?,
            of: VolumeName {
                volume: parse_field("volume", &request.volume)?,
                snapshot: request.snapshot.as_deref().map(|text| parse_field("snapshot", text)).transpose()?,
            },
            name: parse_field("name", &request.name)?,
            labels: labels(&request.labels)?,
            size: request.size.as_deref().map(|text| bytes("size", text)).transpose()?,
            reserve: reserve(request.reserve.as_deref())?.unwrap_or(Reserve::None),
            protect: request.protect,
            place: super::space::place((&request.on, &request.not_on), &request.on_labels, request.contiguous)?,
        };
        let path = VolumePath { vg: wanted.vg.clone(), volume: wanted.name.clone() };
        let done = self.engine.clone_volume(&wanted, dry_run).map_err(from_engine)?;
        changed(self, &path.vg, done, || self.volume_info(&path))
    }

    fn create_snapshots(&self, request: SnapshotGroup, dry_run: bool) -> Change<SnapshotList> {
        let vg: Name = parse_field("vg", &request.vg)?;
        let path = |one: &vol_api::SnapshotName| -> Result<SnapshotPath, ApiError> {
            let volume = VolumePath { vg: vg.clone(), volume: parse_field("volume", &one.volume)? };
            Ok(SnapshotPath { volume, snapshot: parse_field("name", &one.name)? })
        };
        let paths: Vec<_> = request.snapshots.iter().map(path).collect::<Result<_, _>>()?;
        let labels = labels(&request.labels)?;
        let done = self.engine.create_snapshots(&paths, &labels, dry_run).map_err(from_engine)?;
        changed(self, &vg, done, || {
            let snapshots = paths.iter().map(|path| self.snapshot_info(path)).collect::<Result<_, _>>()?;
            Ok(SnapshotList { snapshots })
        })
    }

    fn rollback(&self, snapshot: &SnapshotPath, now: bool, dry_run: bool) -> Change<VolumeInfo> {
        super::refs::refused(self, &snapshot.volume, dry_run)?;
        let window = self.window().filter(|_| !now);
        let until = |window: std::time::Duration| self.engine.host().now().saturating_add(window.as_secs());
        let kept_until = window.map(|window| vol_api::rfc3339(until(window)));
        let done = self.engine.rollback(snapshot, window.is_some(), dry_run).map_err(from_engine)?;
        changed(self, &snapshot.volume.vg, done, || {
            Ok(VolumeInfo { kept_until, ..self.volume_info(&snapshot.volume)? })
        })
    }

    fn rename_volume(&self, volume: &VolumePath, request: Rename, dry_run: bool) -> Change<VolumeInfo> {
        let new: Name = parse_field("name", &request.name)?;
        let done = self.engine.rename_volume(&volume.vg, &volume_name(volume), &new, dry_run).map_err(from_engine)?;
        let path = VolumePath { vg: volume.vg.clone(), volume: new };
        changed(self, &volume.vg, done, || self.volume_info(&path))
    }

    fn rename_snapshot(&self, snapshot: &SnapshotPath, request: Rename, dry_run: bool) -> Change<SnapshotInfo> {
        let new: Name = parse_field("name", &request.name)?;
        let vg = &snapshot.volume.vg;
        let done = self.engine.rename_volume(vg, &snapshot_name(snapshot), &new, dry_run).map_err(from_engine)?;
        let path = SnapshotPath { volume: snapshot.volume.clone(), snapshot: new };
        changed(self, vg, done, || self.snapshot_info(&path))
    }

    fn label_volume(&self, volume: &VolumePath, request: Relabel, dry_run: bool) -> Change<VolumeInfo> {
        let (set, remove) = checked(&request)?;
        let before = super::refs::names_of(self, volume);
        let done = self.engine.relabel(&volume.vg, &volume_name(volume), (&set, remove), dry_run);
        let done = done.map_err(from_engine)?;
        super::refs::renamed(self, volume, &before);
        changed(self, &volume.vg, done, || self.volume_info(volume))
    }

    fn label_snapshot(&self, snapshot: &SnapshotPath, request: Relabel, dry_run: bool) -> Change<SnapshotInfo> {
        let (set, remove) = checked(&request)?;
        let vg = &snapshot.volume.vg;
        let done = self.engine.relabel(vg, &snapshot_name(snapshot), (&set, remove), dry_run);
        changed(self, vg, done.map_err(from_engine)?, || self.snapshot_info(snapshot))
    }

    fn label_pv(&self, id: PvId, request: Relabel, dry_run: bool) -> Change<PvInfo> {
        let (set, remove) = checked(&request)?;
        let of = self.engine.vgs().into_iter().find(|vg| vg.read(|catalog| catalog.pv(id).is_some()));
        let Some(vg) = of.map(|vg| vg.read(|catalog| catalog.vg().name.clone())) else {
            return Err(ApiError::not_found(format!("there is no physical volume {id}"))
                .with_hint("volctl pv list shows them; volctl pv scan looks again"));
        };
        let done = self.engine.relabel_pv(&vg, id, (&set, remove), dry_run).map_err(from_engine)?;
        changed(self, &vg, done, || self.pv(id))
    }

    fn set_volume(&self, volume: &VolumePath, request: SetVolume, dry_run: bool) -> Change<VolumeInfo> {
        let wanted = reserve(request.reserve.as_deref())?
            .ok_or_else(|| ApiError::invalid("what to change is not said").with_hint("say it with reserve"))?;
        let done = self.engine.reserve(&volume.vg, &volume_name(volume), wanted, dry_run).map_err(from_engine)?;
        changed(self, &volume.vg, done, || self.volume_info(volume))
    }

    fn protect_volume(&self, volume: &VolumePath, protect: bool, dry_run: bool) -> Change<VolumeInfo> {
        let done = self.engine.protect(&volume.vg, &volume_name(volume), protect, dry_run);
        changed(self, &volume.vg, done.map_err(from_engine)?, || self.volume_info(volume))
    }

    fn protect_snapshot(&self, snapshot: &SnapshotPath, protect: bool, dry_run: bool) -> Change<SnapshotInfo> {
        let vg = &snapshot.volume.vg;
        let done = self.engine.protect(vg, &snapshot_name(snapshot), protect, dry_run);
        changed(self, vg, done.map_err(from_engine)?, || self.snapshot_info(snapshot))
    }
}
