//! Endpoints for what becomes of volumes and snapshots after they were made. Provision may all of it: it may delete them too.

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use vol_api::{CloneVolume, Relabel, Rename, SetVolume, SnapshotGroup};
use vol_types::{PvId, SnapshotPath, VolumePath};

use super::super::Front;
use super::super::call::Call;
use crate::access::Role::{Admin, Provision};

pub fn life() -> Router<Arc<Front>> {
    const VOLUME: &str = "/v1/volumes/{vg}/{volume}";
    const SNAPSHOT: &str = "/v1/snapshots/{vg}/{volume}/{snapshot}";
    Router::new()
        .route(
            "/v1/clones",
            post(|call: Call| call.change_with(Provision, |b, (), r: CloneVolume, dry| b.clone_volume(r, dry))),
        )
        .route(
            "/v1/snapshot-groups",
            post(|call: Call| call.change_with(Provision, |b, (), r: SnapshotGroup, dry| b.create_snapshots(r, dry))),
        )
        .route(
            &format!("{SNAPSHOT}/rollback"),
            post(|call: Call| call.delete(Provision, |b, path: SnapshotPath, now, dry| b.rollback(&path, now, dry))),
        )
        .route(
            &format!("{VOLUME}/rename"),
            post(|call: Call| {
                call.change_with(Provision, |b, path: VolumePath, r: Rename, dry| b.rename_volume(&path, r, dry))
            }),
        )
        .route(
            &format!("{SNAPSHOT}/rename"),
            post(|call: Call| {
                call.change_with(Provision, |b, path: SnapshotPath, r: Rename, dry| b.rename_snapshot(&path, r, dry))
            }),
        )
        .route(
            &format!("{VOLUME}/labels"),
            post(|call: Call| {
                call.change_with(Provision, |b, path: VolumePath, r: Relabel, dry| b.label_volume(&path, r, dry))
            }),
        )
        .route(
            &format!("{SNAPSHOT}/labels"),
            post(|call: Call| {
                call.change_with(Provision, |b, path: SnapshotPath, r: Relabel, dry| b.label_snapshot(&path, r, dry))
            }),
        )
        .route(
            "/v1/pvs/{id}/labels",
            post(|call: Call| call.change_with(Admin, |b, id: PvId, r: Relabel, dry| b.label_pv(id, r, dry))),
        )
        .route(
            &format!("{VOLUME}/set"),
            post(|call: Call| {
                call.change_with(Provision, |b, path: VolumePath, r: SetVolume, dry| b.set_volume(&path, r, dry))
            }),
        )
        .route(
            &format!("{VOLUME}/protect"),
            post(|call: Call| call.change(Provision, |b, path: VolumePath, dry| b.protect_volume(&path, true, dry))),
        )
        .route(
            &format!("{VOLUME}/unprotect"),
            post(|call: Call| call.change(Provision, |b, path: VolumePath, dry| b.protect_volume(&path, false, dry))),
        )
        .route(
            &format!("{SNAPSHOT}/protect"),
            post(|call: Call| {
                call.change(Provision, |b, path: SnapshotPath, dry| b.protect_snapshot(&path, true, dry))
            }),
        )
        .route(
            &format!("{SNAPSHOT}/unprotect"),
            post(|call: Call| {
                call.change(Provision, |b, path: SnapshotPath, dry| b.protect_snapshot(&path, false, dry))
            }),
        )
}
