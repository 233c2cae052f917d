//! The endpoints for what becomes of volumes and snapshots after they were made.

use hyper::Method;
use vol_types::{Name, PvId, SnapshotPath, VolumePath};

use super::{Client, ClientError, now_query, percent_encode, snapshot_url};
use crate::info::{PvInfo, PvList, SnapshotInfo, SnapshotList, VolumeInfo, VolumeList};
use crate::outcome::Changed;
use crate::request::{CloneVolume, Relabel, Rename, SetVolume, SnapshotGroup};

impl Client {
    /// The PVs whose labels fit `selector`.
    pub async fn pvs_selected(&self, vg: Option<&Name>, selector: &str) -> Result<PvList, ClientError> {
        self.get(&selected("pvs", vg, selector)).await
    }
    /// The volumes whose labels fit `selector`.
    pub async fn volumes_selected(&self, vg: Option<&Name>, selector: &str) -> Result<VolumeList, ClientError> {
        self.get(&selected("volumes", vg, selector)).await
    }
    /// The snapshots whose labels fit `selector`.
    pub async fn snapshots_selected(&self, vg: Option<&Name>, selector: &str) -> Result<SnapshotList, ClientError> {
        self.get(&selected("snapshots", vg, selector)).await
    }
    pub async fn clone_volume(&self, body: &CloneVolume, dry: bool) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, "clones", Some(body), dry).await
    }
    /// Snapshots of one instant.
    pub async fn create_snapshots(
        &self,
        body: &SnapshotGroup,
        dry: bool,
    ) -> Result<Changed<SnapshotList>, ClientError> {
        self.change(Method::POST, "snapshot-groups", Some(body), dry).await
    }
    /// Gives the volume what the snapshot holds. `now`: what it held is deleted for good, without a time in which it can be had again.
    pub async fn rollback(
        &self,
        snapshot: &SnapshotPath,
        now: bool,
        dry: bool,
    ) -> Result<Changed<VolumeInfo>, ClientError> {
        let path = format!("{}/rollback{}", snapshot_url(snapshot), now_query(now));
        self.change(Method::POST, &path, None::<&()>, dry).await
    }
    pub async fn rename_volume(
        &self,
        volume: &VolumePath,
        body: &Rename,
        dry: bool,
    ) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/rename"), Some(body), dry).await
    }
    pub async fn rename_snapshot(
        &self,
        snapshot: &SnapshotPath,
        body: &Rename,
        dry: bool,
    ) -> Result<Changed<SnapshotInfo>, ClientError> {
        self.change(Method::POST, &format!("{}/rename", snapshot_url(snapshot)), Some(body), dry).await
    }
    pub async fn label_volume(
        &self,
        volume: &VolumePath,
        body: &Relabel,
        dry: bool,
    ) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/labels"), Some(body), dry).await
    }
    pub async fn label_snapshot(
        &self,
        snapshot: &SnapshotPath,
        body: &Relabel,
        dry: bool,
    ) -> Result<Changed<SnapshotInfo>, ClientError> {
        self.change(Method::POST, &format!("{}/labels", snapshot_url(snapshot)), Some(body), dry).await
    }
    pub async fn label_pv(&self, id: PvId, body: &Relabel, dry: bool) -> Result<Changed<PvInfo>, ClientError> {
        self.change(Method::POST, &format!("pvs/{id}/labels"), Some(body), dry).await
    }
    /// Protects it from being deleted and rolled back, or no more.
    pub async fn set_volume(
        &self,
        volume: &VolumePath,
        body: &SetVolume,
        dry: bool,
    ) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/set"), Some(body), dry).await
    }
    pub async fn protect_volume(
        &self,
        volume: &VolumePath,
        protect: bool,
        dry: bool,
    ) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/{}", verb(protect)), None::<&()>, dry).await
    }
    /// Protects it from being deleted, or no more.
    pub async fn protect_snapshot(
        &self,
        snapshot: &SnapshotPath,
        protect: bool,
        dry: bool,
    ) -> Result<Changed<SnapshotInfo>, ClientError> {
        self.change(Method::POST, &format!("{}/{}", snapshot_url(snapshot), verb(protect)), None::<&()>, dry).await
    }
}

const fn verb(protect: bool) -> &'static str {
    if protect { "protect" } else { "unprotect" }
}

fn selected(list: &str, vg: Option<&Name>, selector: &str) -> String {
    let vg = vg.map_or(String::new(), |vg| format!("vg={vg}&"));
    format!("{list}?{vg}selector={}", percent_encode(selector))
}
