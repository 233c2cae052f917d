//! What a request is about, from its path or its body.

use vol_api::{
    CheckPool, CheckVolume, CloneVolume, CreatePool, CreateSnapshot, CreateVg, CreateVolume, ExtendPool, ExtendVg,
    GiveUpPool, ImportClone, Init, Mount, ReduceVg, Relabel, ReleaseRefs, Rename, RenameVg, RepairPool, ResizeVolume,
    RestoreVg, ScanRequest, SetPool, SetVolume, SnapshotGroup, WipePv,
};
use vol_types::{Name, PvId, VolumePath};

/// A body that may say what the request is about.
pub trait Named {
    /// `VG`, `VG/NAME`, `VG/VOLUME@SNAPSHOT` or the path of a disk; `None` if the path of the request says it, or it is not one object.
    fn object(&self) -> Option<String> {
        None
    }
}

/// The names joined as people write them; `None` unless all are names.
fn joined(names: &[&str]) -> Option<String> {
    if names.iter().any(|name| name.parse::<Name>().is_err()) {
        return None;
    }
    Some(match names {
        [vg, volume, snapshot] => format!("{vg}/{volume}@{snapshot}"),
        _ => names.join("/"),
    })
}

/// What the parameters of a route name.
pub fn of_params(params: &[(String, String)]) -> Option<String> {
    match params {
        [] => None,
        [(key, id)] if key == "id" => Some(id.parse::<PvId>().ok()?.to_string()),
        _ => joined(&params.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>()),
    }
}

macro_rules! named_by_path {
    ($($body:ty),* $(,)?) => { $(impl Named for $body {})* };
}

named_by_path!(
    CheckPool,
    CheckVolume,
    ExtendPool,
    ExtendVg,
    GiveUpPool,
    Mount,
    ReduceVg,
    Relabel,
    Rename,
    RenameVg,
    RepairPool,
    ResizeVolume,
    RestoreVg,
    ScanRequest,
    SetPool,
    SetVolume,
);

impl Named for ReleaseRefs {
    fn object(&self) -> Option<String> {
        Some(self.volume.parse::<VolumePath>().ok()?.to_string())
    }
}

impl Named for CreateVg {
    fn object(&self) -> Option<String> {
        joined(&[&self.name])
    }
}

impl Named for Init {
    fn object(&self) -> Option<String> {
        joined(&[self.vg.as_deref().unwrap_or(Self::VG_DEFAULT)])
    }
}

impl Named for ImportClone {
    fn object(&self) -> Option<String> {
        joined(&[&self.name])
    }
}

impl Named for WipePv {
    fn object(&self) -> Option<String> {
        Some(self.device.clone())
    }
}

impl Named for CreatePool {
    fn object(&self) -> Option<String> {
        joined(&[&self.vg, &self.name])
    }
}

impl Named for CreateVolume {
    fn object(&self) -> Option<String> {
        joined(&[&self.vg, &self.name])
    }
}

impl Named for CloneVolume {
    fn object(&self) -> Option<String> {
        joined(&[&self.vg, &self.name])
    }
}

impl Named for CreateSnapshot {
    fn object(&self) -> Option<String> {
        joined(&[&self.vg, &self.volume, &self.name])
    }
}

/// The VG: the snapshots are of several volumes.
impl Named for SnapshotGroup {
    fn object(&self) -> Option<String> {
        joined(&[&self.vg])
    }
}
