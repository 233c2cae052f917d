//! The endpoints: path, method, role, and what each asks of the backend. `docs/control-api.md` lists them for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use vol_api::{
    ApiError, CheckPool, CheckVolume, CreatePool, CreateSnapshot, CreateVg, CreateVolume, DeletedList, ExtendPool,
    ExtendVg, GiveUpPool, ImportClone, Init, Mount, PoolList, PvInfo, PvList, ReduceVg, RenameVg, RepairPool,
    ResizeVolume, RestoreVg, ScanRequest, SetPool, SnapshotList, VgList, VolumeList, WipePv, parse_field,
};
use vol_types::{Name, PoolPath, PvId, Selector, SnapshotPath, VolumePath};

use super::Front;
use super::call::{Call, NoQuery};
use super::reply::Refusal;
use crate::access::Role::{Admin, Provision};
use crate::api::Backend;

mod events;
mod life;

/// `?vg=` of lists.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    vg: Option<String>,
}

/// `?vg=` and `?selector=` of lists of what has labels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelQuery {
    vg: Option<String>,
    selector: Option<String>,
}

impl LabelQuery {
    fn selector(&self) -> Result<Selector, ApiError> {
        selector(self.selector.as_deref())
    }
}

fn selector(text: Option<&str>) -> Result<Selector, ApiError> {
    text.map_or(Ok(Selector::default()), |text| parse_field("selector", text))
}

fn label<'a>(labels: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    labels.get(key).map(String::as_str)
}

/// `?vg=`, `?path=` and `?selector=` of `/v1/pvs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PvQuery {
    vg: Option<String>,
    path: Option<String>,
    selector: Option<String>,
}

impl PvQuery {
    fn selector(&self) -> Result<Selector, ApiError> {
        selector(self.selector.as_deref())
    }
    fn fits(&self, pv: &PvInfo) -> bool {
        self.path.is_none() || self.path == pv.path || self.path == pv.backing_file
    }
}

/// The VG that a list is kept to.
fn within(vg: Option<&str>) -> Result<Option<Name>, ApiError> {
    vg.map(|vg| parse_field("vg", vg)).transpose()
}

/// All endpoints, and an error for everything else.
pub fn router(front: Arc<Front>) -> Router {
    Router::new()
        .merge(whole())
        .merge(groups())
        .merge(volumes())
        .merge(snapshots())
        .merge(life::life())
        .merge(usage())
        .merge(events::events())
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(front)
}

fn whole() -> Router<Arc<Front>> {
    Router::new()
        .route(
            "/v1/status",
            get(|call: Call| {
                let front = call.front();
                call.read(move |b, (), NoQuery {}| b.status().map(|status| front.complete(status)))
            }),
        )
        .route(
            "/v1/doctor",
            get(|call: Call| {
                let front = call.front();
                call.read(move |b, (), NoQuery {}| Ok(front.examine(b.status()?, b.doctor()?)))
            }),
        )
        .route("/v1/df", get(|call: Call| call.read(|b, (), NoQuery {}| b.df())))
        .route("/v1/init", post(|call: Call| call.change_with(Admin, |b, (), r: Init, dry| b.init(r, dry))))
        .route("/v1/scan", post(|call: Call| call.change_with(Admin, |b, (), r: ScanRequest, dry| b.scan(r, dry))))
}

fn groups() -> Router<Arc<Front>> {
    Router::new()
        .route(
            "/v1/vgs",
            get(|call: Call| call.read(|b, (), NoQuery {}| b.vgs().map(|vgs| VgList { vgs })))
                .post(|call: Call| call.change_with(Admin, |b, (), r: CreateVg, dry| b.create_vg(r, dry))),
        )
        .route(
            "/v1/vgs/{vg}",
            get(|call: Call| call.read(|b, vg: Name, NoQuery {}| b.vg(&vg)))
                .delete(|call: Call| call.change(Admin, |b, vg: Name, dry| b.delete_vg(&vg, dry))),
        )
        .merge(membership())
        .route(
            "/v1/pvs",
            get(|call: Call| {
                call.read(|b, (), query: PvQuery| {
                    let selector = query.selector()?;
                    let mut pvs = b.pvs(within(query.vg.as_deref())?.as_ref())?;
                    pvs.retain(|pv| query.fits(pv) && selector.fits(|key| label(&pv.labels, key)));
                    Ok(PvList { pvs })
                })
            }),
        )
        .route("/v1/pvs/{id}", get(|call: Call| call.read(|b, id: PvId, NoQuery {}| b.pv(id))))
        // For admin, although it changes nothing: it reads up to half a gigabyte from a disk.
        .route("/v1/pvs/{id}/check", get(|call: Call| call.read_as(Admin, |b, id: PvId, NoQuery {}| b.check_pv(id))))
        .route(
            "/v1/pools",
            get(|call: Call| {
                call.read(|b, (), query: ListQuery| {
                    b.pools(within(query.vg.as_deref())?.as_ref()).map(|pools| PoolList { pools })
                })
            })
            .post(|call: Call| call.change_with(Admin, |b, (), r: CreatePool, dry| b.create_pool(r, dry))),
        )
        .route(
            "/v1/pools/{vg}/{pool}",
            get(|call: Call| call.read(|b, pool: PoolPath, NoQuery {}| b.pool(&pool)))
                .delete(|call: Call| call.change(Admin, |b, pool: PoolPath, dry| b.delete_pool(&pool, dry))),
        )
        .route(
            "/v1/pools/{vg}/{pool}/purge",
            post(|call: Call| call.change(Admin, |b, pool: PoolPath, dry| b.purge_pool(&pool, dry))),
        )
        .route(
            "/v1/pools/{vg}/{pool}/check",
            post(|call: Call| {
                call.change_with(Admin, |b, pool: PoolPath, r: CheckPool, dry| b.check_pool(&pool, r, dry))
            }),
        )
        .route(
            "/v1/pools/{vg}/{pool}/repair",
            post(|call: Call| {
                call.change_with(Admin, |b, pool: PoolPath, r: RepairPool, dry| b.repair_pool(&pool, r, dry))
            }),
        )
}

/// What changes the disks of a VG, and with it who may read them: for admin alone.
fn membership() -> Router<Arc<Front>> {
    Router::new()
        .route(
            "/v1/vgs/{vg}/extend",
            post(|call: Call| {
                call.brings_relief().change_with(Admin, |b, vg: Name, r: ExtendVg, dry| b.extend_vg(&vg, r, dry))
            }),
        )
        .route(
            "/v1/vgs/{vg}/reduce",
            post(|call: Call| call.change_with(Admin, |b, vg: Name, r: ReduceVg, dry| b.reduce_vg(&vg, r, dry))),
        )
        .route(
            "/v1/vgs/{vg}/rename",
            post(|call: Call| call.change_with(Admin, |b, vg: Name, r: RenameVg, dry| b.rename_vg(&vg, r, dry))),
        )
        .route("/v1/vgs/{vg}/export", post(|call: Call| call.change(Admin, |b, vg: Name, dry| b.export_vg(&vg, dry))))
        .route("/v1/vgs/{vg}/import", post(|call: Call| call.change(Admin, |b, vg: Name, dry| b.import_vg(&vg, dry))))
        .route("/v1/wipe", post(|call: Call| call.change_with(Admin, |b, (), r: WipePv, dry| b.wipe_pv(r, dry))))
        .route(
            "/v1/pools/{vg}/{pool}/extend",
            post(|call: Call| {
                let act = |b: &dyn Backend, pool: PoolPath, r: ExtendPool, dry| b.extend_pool(&pool, r, dry);
                call.brings_relief().change_with(Admin, act)
            }),
        )
        .route(
            "/v1/pools/{vg}/{pool}/set",
            post(|call: Call| call.change_with(Admin, |b, pool: PoolPath, r: SetPool, dry| b.set_pool(&pool, r, dry))),
        )
        .route(
            "/v1/pools/{vg}/{pool}/give-up",
            post(|call: Call| {
                call.change_with(Admin, |b, pool: PoolPath, r: GiveUpPool, dry| b.give_up_pool(&pool, r, dry))
            }),
        )
        .route("/v1/vgs/{vg}/backup", get(|call: Call| call.read(|b, vg: Name, NoQuery {}| b.backup_vg(&vg))))
        .route(
            "/v1/restore",
            post(|call: Call| {
                let body_max = vol_api::RESTORE_BODY_MAX_BYTES;
                call.body_up_to(body_max).change_with(Admin, |b, (), r: RestoreVg, dry| b.restore_vg(r, dry))
            }),
        )
        .route(
            "/v1/import-clone",
            post(|call: Call| call.change_with(Admin, |b, (), r: ImportClone, dry| b.import_clone(r, dry))),
        )
}

fn volumes() -> Router<Arc<Front>> {
    Router::new()
        .route(
            "/v1/volumes",
            get(|call: Call| {
                call.read(|b, (), query: LabelQuery| {
                    let selector = query.selector()?;
                    let mut volumes = b.volumes(within(query.vg.as_deref())?.as_ref())?;
                    volumes.retain(|volume| selector.fits(|key| label(&volume.labels, key)));
                    Ok(VolumeList { volumes })
                })
            })
            .post(|call: Call| call.change_with(Provision, |b, (), r: CreateVolume, dry| b.create_volume(r, dry))),
        )
        .route(
            "/v1/volumes/{vg}/{volume}",
            get(|call: Call| call.read(|b, volume: VolumePath, NoQuery {}| b.volume(&volume))).delete(|call: Call| {
                call.delete(Provision, |b, volume: VolumePath, now, dry| b.delete_volume(&volume, now, dry))
            }),
        )
        .route(
            "/v1/volumes/{vg}/{volume}/undelete",
            post(|call: Call| call.change(Provision, |b, volume: VolumePath, dry| b.undelete_volume(&volume, dry))),
        )
        .route(
            "/v1/deleted",
            get(|call: Call| {
                call.read(|b, (), query: ListQuery| {
                    b.deleted(within(query.vg.as_deref())?.as_ref()).map(|deleted| DeletedList { deleted })
                })
            }),
        )
        // Mounting is for admin: the mount point is any path on the host.
        .route(
            "/v1/volumes/{vg}/{volume}/mount",
            post(|call: Call| {
                call.change_with(Admin, |b, volume: VolumePath, r: Mount, dry| b.mount_volume(&volume, r, dry))
            }),
        )
        .route(
            "/v1/volumes/{vg}/{volume}/unmount",
            post(|call: Call| call.change(Provision, |b, volume: VolumePath, dry| b.unmount_volume(&volume, dry))),
        )
        // Attaching makes a device node that only root may open, so it needs no more than making the volume did.
        .route(
            "/v1/volumes/{vg}/{volume}/attach",
            post(|call: Call| call.change(Provision, |b, volume: VolumePath, dry| b.attach_volume(&volume, dry))),
        )
        .route(
            "/v1/volumes/{vg}/{volume}/attach-read-only",
            post(|call: Call| {
                call.change(Provision, |b, volume: VolumePath, dry| b.attach_volume_read_only(&volume, dry))
            }),
        )
        .route(
            "/v1/volumes/{vg}/{volume}/detach",
            post(|call: Call| call.change(Provision, |b, volume: VolumePath, dry| b.detach_volume(&volume, dry))),
        )
        .merge(file_systems())
}

/// Growing volumes, and looking after their file systems.
fn file_systems() -> Router<Arc<Front>> {
    Router::new()
        .route(
            "/v1/volumes/{vg}/{volume}/resize",
            post(|call: Call| {
                call.change_with(Provision, |b, path: VolumePath, r: ResizeVolume, dry| b.resize_volume(&path, r, dry))
            }),
        )
        .route(
            "/v1/volumes/{vg}/{volume}/check",
            post(|call: Call| {
                call.change_with(Provision, |b, path: VolumePath, r: CheckVolume, dry| b.check_volume(&path, r, dry))
            }),
        )
        .route(
            "/v1/volumes/{vg}/{volume}/trim",
            post(|call: Call| call.change(Provision, |b, path: VolumePath, dry| b.trim_volume(&path, dry))),
        )
}

fn snapshots() -> Router<Arc<Front>> {
    const ONE: &str = "/v1/snapshots/{vg}/{volume}/{snapshot}";
    Router::new()
        .route(
            "/v1/snapshots",
            get(|call: Call| {
                call.read(|b, (), query: LabelQuery| {
                    let selector = query.selector()?;
                    let mut snapshots = b.snapshots(within(query.vg.as_deref())?.as_ref())?;
                    snapshots.retain(|snapshot| selector.fits(|key| label(&snapshot.labels, key)));
                    Ok(SnapshotList { snapshots })
                })
            })
            .post(|call: Call| call.change_with(Provision, |b, (), r: CreateSnapshot, dry| b.create_snapshot(r, dry))),
        )
        .route(
            ONE,
            get(|call: Call| call.read(|b, snapshot: SnapshotPath, NoQuery {}| b.snapshot(&snapshot))).delete(
                |call: Call| {
                    call.delete(Provision, |b, path: SnapshotPath, now, dry| b.delete_snapshot(&path, now, dry))
                },
            ),
        )
        .route(
            &format!("{ONE}/undelete"),
            post(|call: Call| call.change(Provision, |b, path: SnapshotPath, dry| b.undelete_snapshot(&path, dry))),
        )
        .route(
            &format!("{ONE}/mount"),
            post(|call: Call| {
                call.change_with(Admin, |b, path: SnapshotPath, r: Mount, dry| b.mount_snapshot(&path, r, dry))
            }),
        )
        .route(
            &format!("{ONE}/unmount"),
            post(|call: Call| call.change(Provision, |b, path: SnapshotPath, dry| b.unmount_snapshot(&path, dry))),
        )
}

/// For provision, although they change nothing: the pool commits for each reading, and the daemon reads all of its mappings.
fn usage() -> Router<Arc<Front>> {
    Router::new()
        .route(
            "/v1/pools/{vg}/{pool}/usage",
            get(|call: Call| call.read_as(Provision, |b, pool: PoolPath, NoQuery {}| b.pool_usage(&pool))),
        )
        .route(
            "/v1/volumes/{vg}/{volume}/usage",
            get(|call: Call| call.read_as(Provision, |b, volume: VolumePath, NoQuery {}| b.volume_usage(&volume))),
        )
        .route("/v1/vgs/{vg}/map", get(|call: Call| call.read(|b, vg: Name, NoQuery {}| b.vg_map(&vg))))
}

async fn not_found(call: Call) -> Response {
    call.refuse(|uri| {
        ApiError::not_found(format!("{} is no endpoint", uri.path())).with_hint("see docs/control-api.md").into()
    })
}

async fn wrong_method(method: Method, call: Call) -> Response {
    call.refuse(|uri| {
        let error =
            ApiError::invalid(format!("{} does not take {method}", uri.path())).with_hint("see docs/control-api.md");
        Refusal::with_status(error, StatusCode::METHOD_NOT_ALLOWED)
    })
}
