//! The endpoints: path, method, role, and what each asks of the backend. The router and the OpenAPI document are both made from this list
//! ([`all`]); `docs/control-api.md` tells people of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use vol_api::{
    ApiError, CheckPool, CheckVolume, CreatePool, CreateSnapshot, CreateVg, CreateVolume, DeletedList, ExtendPool,
    ExtendVg, GiveUpPool, ImportClone, Init, Mount, PoolList, PvInfo, PvList, ReduceVg, RenameVg, RepairPool,
    ResizeVolume, RestoreVg, ScanRequest, SetPool, SnapshotList, VgList, WipePv, parse_field, schema,
};
use vol_types::{Name, PoolPath, PvId, Selector, SnapshotPath, VolumePath};

use super::call::NoQuery;
use super::endpoint::{Api, delete, get, post};
use crate::access::Role::{Admin, Observe, Provision};

mod events;
mod life;
mod refs;

/// The OpenAPI document, of which a test says whether it is what this list makes.
pub const OPENAPI: &str = include_str!("../../../../docs/openapi.json");

/// `?vg=` of lists.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only what is in this VG.
    #[schemars(with = "Option<schema::Name>")]
    vg: Option<String>,
}

/// `?vg=` and `?selector=` of lists of what has labels.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LabelQuery {
    /// Only what is in this VG.
    #[schemars(with = "Option<schema::Name>")]
    vg: Option<String>,
    /// Only what has these labels.
    #[schemars(with = "Option<schema::Selector>")]
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PvQuery {
    /// Only those of this VG.
    #[schemars(with = "Option<schema::Name>")]
    vg: Option<String>,
    /// Only the one on this device, as the kernel names it, or in this backing file.
    path: Option<String>,
    /// Only those that have these labels.
    #[schemars(with = "Option<schema::Selector>")]
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

/// All endpoints.
pub fn all(api: &mut impl Api) {
    whole(api);
    groups(api);
    members(api);
    pools(api);
    volumes(api);
    file_systems(api);
    snapshots(api);
    life::life(api);
    refs::refs(api);
    usage(api);
    events::events(api);
}

fn whole(api: &mut impl Api) {
    api.read_with_front(
        get("status.show", Observe, "/v1/status", "The daemon, and everything that is not as it should be"),
        |front, b| b.status().map(|status| front.complete(status)),
    );
    api.read_with_front(
        get("doctor.show", Observe, "/v1/doctor", "What the daemon sees of the machine that it runs on")
            .details("Asks the kernel, and takes half a second if a device is suspended."),
        |front, b| Ok(front.examine(b.status()?, b.doctor()?)),
    );
    api.fixed(get("openapi.show", Observe, "/v1/openapi.json", "This document"), OPENAPI);
    api.read(get("df.show", Observe, "/v1/df", "The space of volume groups and pools"), |b, (), NoQuery {}| b.df());
    api.change_with(
        post("init", Admin, "/v1/init", "Makes a volume group, and a pool over all of it")
            .example(r#"{"devices":["/dev/sdc"],"vg":"more"}"#),
        |b, (), r: Init, dry| b.init(r, dry),
    );
    api.change_with(
        post("pv.scan", Admin, "/v1/scan", "Looks again for disks, and attaches backing files").example(r#"{}"#),
        |b, (), r: ScanRequest, dry| b.scan(r, dry),
    );
}

/// Volume groups as wholes.
fn groups(api: &mut impl Api) {
    api.read(get("vg.list", Observe, "/v1/vgs", "The volume groups"), |b, (), NoQuery {}| {
        b.vgs().map(|vgs| VgList { vgs })
    });
    api.change_with(
        post("vg.create", Admin, "/v1/vgs", "Makes a volume group of disks and files")
            .example(r#"{"name":"more","devices":["/dev/sdc"]}"#),
        |b, (), r: CreateVg, dry| b.create_vg(r, dry),
    );
    api.read(get("vg.show", Observe, "/v1/vgs/{vg}", "A volume group"), |b, vg: Name, NoQuery {}| b.vg(&vg));
    api.change(
        delete("vg.delete", Admin, "/v1/vgs/{vg}", "Deletes a volume group that is empty"),
        |b, vg: Name, dry| b.delete_vg(&vg, dry),
    );
    api.change_with(
        post("vg.rename", Admin, "/v1/vgs/{vg}/rename", "Renames a volume group").example(r#"{"name":"big"}"#),
        |b, vg: Name, r: RenameVg, dry| b.rename_vg(&vg, r, dry),
    );
    api.change(
        post("vg.export", Admin, "/v1/vgs/{vg}/export", "Makes a volume group ready for another machine"),
        |b, vg: Name, dry| b.export_vg(&vg, dry),
    );
    api.change(
        post("vg.import", Admin, "/v1/vgs/{vg}/import", "Takes in a volume group that was exported"),
        |b, vg: Name, dry| b.import_vg(&vg, dry),
    );
    api.read(
        get("vg.backup", Observe, "/v1/vgs/{vg}/backup", "The metadata of a volume group as one document")
            .details("`busy` while something in the group is half done."),
        |b, vg: Name, NoQuery {}| b.backup_vg(&vg),
    );
    api.change_with(
        post("vg.restore", Admin, "/v1/restore", "Makes a volume group anew from its backup")
            .example(r#"{"backup":"{\"format\": \"volumed vg backup\", …}"}"#)
            .body_up_to(vol_api::RESTORE_BODY_MAX_BYTES),
        |b, (), r: RestoreVg, dry| b.restore_vg(r, dry),
    );
    api.change_with(
        post("vg.import_clone", Admin, "/v1/import-clone", "Makes copies of a group's disks a group of their own")
            .example(r#"{"devices":["/dev/sdc"],"name":"copy"}"#),
        |b, (), r: ImportClone, dry| b.import_clone(r, dry),
    );
}

/// The disks of a VG: for admin alone, but for looking.
fn members(api: &mut impl Api) {
    api.change_with(
        post("vg.extend", Admin, "/v1/vgs/{vg}/extend", "Gives a volume group more disks")
            .example(r#"{"devices":["/dev/sdc"]}"#)
            .brings_relief(),
        |b, vg: Name, r: ExtendVg, dry| b.extend_vg(&vg, r, dry),
    );
    api.change_with(
        post("vg.reduce", Admin, "/v1/vgs/{vg}/reduce", "Takes disks out of a volume group")
            .example(r#"{"pvs":["/dev/sdb"]}"#),
        |b, vg: Name, r: ReduceVg, dry| b.reduce_vg(&vg, r, dry),
    );
    api.change_with(
        post("pv.wipe", Admin, "/v1/wipe", "Takes everything of volumed off a disk that no volume group here uses")
            .example(r#"{"device":"/dev/sdd"}"#),
        |b, (), r: WipePv, dry| b.wipe_pv(r, dry),
    );
    api.read(get("pv.list", Observe, "/v1/pvs", "The physical volumes"), |b, (), query: PvQuery| {
        let selector = query.selector()?;
        let mut pvs = b.pvs(within(query.vg.as_deref())?.as_ref())?;
        pvs.retain(|pv| query.fits(pv) && selector.fits(|key| label(&pv.labels, key)));
        Ok(PvList { pvs })
    });
    api.read(get("pv.show", Observe, "/v1/pvs/{id}", "A physical volume"), |b, id: PvId, NoQuery {}| b.pv(id));
    // For admin, although it changes nothing: it reads up to half a gigabyte from a disk.
    api.read(
        get("pv.check", Admin, "/v1/pvs/{id}/check", "Reads again what stands on a disk; changes nothing"),
        |b, id: PvId, NoQuery {}| b.check_pv(id),
    );
}

fn pools(api: &mut impl Api) {
    api.read(get("pool.list", Observe, "/v1/pools", "The pools"), |b, (), query: ListQuery| {
        b.pools(within(query.vg.as_deref())?.as_ref()).map(|pools| PoolList { pools })
    });
    api.change_with(
        post("pool.create", Admin, "/v1/pools", "Makes a pool").example(r#"{"vg":"data","name":"fast","size":"1G"}"#),
        |b, (), r: CreatePool, dry| b.create_pool(r, dry),
    );
    api.read(get("pool.show", Observe, "/v1/pools/{vg}/{pool}", "A pool"), |b, pool: PoolPath, NoQuery {}| {
        b.pool(&pool)
    });
    api.change(
        delete("pool.delete", Admin, "/v1/pools/{vg}/{pool}", "Deletes a pool that is empty"),
        |b, pool: PoolPath, dry| b.delete_pool(&pool, dry),
    );
    api.change_with(
        post("pool.extend", Admin, "/v1/pools/{vg}/{pool}/extend", "Gives a pool more data or metadata")
            .example(r#"{"size":"+1G"}"#)
            .brings_relief(),
        |b, pool: PoolPath, r: ExtendPool, dry| b.extend_pool(&pool, r, dry),
    );
    api.change_with(
        post("pool.set", Admin, "/v1/pools/{vg}/{pool}/set", "Sets what happens as a pool fills")
            .example(r#"{"grow_to":"off","reserve_percent":10}"#),
        |b, pool: PoolPath, r: SetPool, dry| b.set_pool(&pool, r, dry),
    );
    api.change(
        post("pool.purge", Admin, "/v1/pools/{vg}/{pool}/purge", "Deletes for good what was deleted and is kept"),
        |b, pool: PoolPath, dry| b.purge_pool(&pool, dry),
    );
    api.change_with(
        post("pool.check", Admin, "/v1/pools/{vg}/{pool}/check", "Checks the metadata of a pool")
            .example(r#"{"online":true}"#)
            .details("Never changes anything. What is found is answered as `degraded`."),
        |b, pool: PoolPath, r: CheckPool, dry| b.check_pool(&pool, r, dry),
    );
    api.change_with(
        post("pool.repair", Admin, "/v1/pools/{vg}/{pool}/repair", "Repairs the metadata of a pool")
            .example(r#"{"accept_loss":false}"#),
        |b, pool: PoolPath, r: RepairPool, dry| b.repair_pool(&pool, r, dry),
    );
    api.change_with(
        post(
            "pool.give_up",
            Admin,
            "/v1/pools/{vg}/{pool}/give-up",
            "Deletes a pool of which a disk is gone, with everything in it",
        )
        .example(r#"{}"#),
        |b, pool: PoolPath, r: GiveUpPool, dry| b.give_up_pool(&pool, r, dry),
    );
}

fn volumes(api: &mut impl Api) {
    api.read(get("volume.list", Observe, "/v1/volumes", "The volumes"), |b, (), query: LabelQuery| {
        let selector = query.selector()?;
        b.volume_rows(within(query.vg.as_deref())?.as_ref(), selector)
    });
    api.change_with(
        post("volume.create", Provision, "/v1/volumes", "Makes a volume")
            .example(r#"{"vg":"data","name":"db","size":"1G","fs":"ext4","labels":{"tier":"fast"}}"#),
        |b, (), r: CreateVolume, dry| b.create_volume(r, dry),
    );
    api.read(
        get("volume.show", Observe, "/v1/volumes/{vg}/{volume}", "A volume"),
        |b, volume: VolumePath, NoQuery {}| b.volume(&volume),
    );
    api.delete(
        delete("volume.delete", Provision, "/v1/volumes/{vg}/{volume}", "Deletes a volume")
            .details("It is kept for `undelete_window`, unless `now` is asked for."),
        |b, volume: VolumePath, now, dry| b.delete_volume(&volume, now, dry),
    );
    api.change(
        post(
            "volume.undelete",
            Provision,
            "/v1/volumes/{vg}/{volume}/undelete",
            "Takes back the last deletion of a volume of this name",
        ),
        |b, volume: VolumePath, dry| b.undelete_volume(&volume, dry),
    );
    api.read(
        get("deleted.list", Observe, "/v1/deleted", "Volumes and snapshots that were deleted and are kept for a while"),
        |b, (), query: ListQuery| {
            b.deleted(within(query.vg.as_deref())?.as_ref()).map(|deleted| DeletedList { deleted })
        },
    );
    // Mounting is for admin: the mount point is any path on the host.
    api.change_with(
        post("volume.mount", Admin, "/v1/volumes/{vg}/{volume}/mount", "Mounts a volume")
            .example(r#"{"path":"/srv/pg"}"#),
        |b, volume: VolumePath, r: Mount, dry| b.mount_volume(&volume, r, dry),
    );
    api.change(
        post("volume.unmount", Provision, "/v1/volumes/{vg}/{volume}/unmount", "Unmounts a volume from every place"),
        |b, volume: VolumePath, dry| b.unmount_volume(&volume, dry),
    );
    // Attaching makes a device node that only root may open, so it needs no more than making the volume did.
    api.change(
        post("volume.attach", Provision, "/v1/volumes/{vg}/{volume}/attach", "Makes the block device of a raw volume"),
        |b, volume: VolumePath, dry| b.attach_volume(&volume, dry),
    );
    api.change(
        post(
            "volume.attach_read_only",
            Provision,
            "/v1/volumes/{vg}/{volume}/attach-read-only",
            "Makes the block device of a raw volume, which cannot be written to",
        ),
        |b, volume: VolumePath, dry| b.attach_volume_read_only(&volume, dry),
    );
    api.change(
        post("volume.detach", Provision, "/v1/volumes/{vg}/{volume}/detach", "Takes the block device away again"),
        |b, volume: VolumePath, dry| b.detach_volume(&volume, dry),
    );
}

/// Growing volumes, and looking after their file systems.
fn file_systems(api: &mut impl Api) {
    api.change_with(
        post("volume.resize", Provision, "/v1/volumes/{vg}/{volume}/resize", "Grows a volume with its file system")
            .example(r#"{"size":"+1G"}"#),
        |b, path: VolumePath, r: ResizeVolume, dry| b.resize_volume(&path, r, dry),
    );
    api.change_with(
        post("volume.check", Provision, "/v1/volumes/{vg}/{volume}/check", "Checks the file system of a volume")
            .example(r#"{"repair":false}"#)
            .details("Errors that are left are answered as `degraded`."),
        |b, path: VolumePath, r: CheckVolume, dry| b.check_volume(&path, r, dry),
    );
    api.change(
        post(
            "volume.trim",
            Provision,
            "/v1/volumes/{vg}/{volume}/trim",
            "Gives back what the file system does not use",
        ),
        |b, path: VolumePath, dry| b.trim_volume(&path, dry),
    );
}

fn snapshots(api: &mut impl Api) {
    api.read(get("snapshot.list", Observe, "/v1/snapshots", "The snapshots"), |b, (), query: LabelQuery| {
        let selector = query.selector()?;
        let mut snapshots = b.snapshots(within(query.vg.as_deref())?.as_ref())?;
        snapshots.retain(|snapshot| selector.fits(|key| label(&snapshot.labels, key)));
        Ok(SnapshotList { snapshots })
    });
    api.change_with(
        post("snapshot.create", Provision, "/v1/snapshots", "Makes a snapshot of a volume")
            .example(r#"{"vg":"data","volume":"pg","name":"now"}"#),
        |b, (), r: CreateSnapshot, dry| b.create_snapshot(r, dry),
    );
    api.read(
        get("snapshot.show", Observe, "/v1/snapshots/{vg}/{volume}/{snapshot}", "A snapshot"),
        |b, snapshot: SnapshotPath, NoQuery {}| b.snapshot(&snapshot),
    );
    api.delete(
        delete("snapshot.delete", Provision, "/v1/snapshots/{vg}/{volume}/{snapshot}", "Deletes a snapshot")
            .details("It is kept for `undelete_window`, unless `now` is asked for."),
        |b, path: SnapshotPath, now, dry| b.delete_snapshot(&path, now, dry),
    );
    api.change(
        post(
            "snapshot.undelete",
            Provision,
            "/v1/snapshots/{vg}/{volume}/{snapshot}/undelete",
            "Takes back the last deletion of a snapshot of this name",
        ),
        |b, path: SnapshotPath, dry| b.undelete_snapshot(&path, dry),
    );
    api.change_with(
        post("snapshot.mount", Admin, "/v1/snapshots/{vg}/{volume}/{snapshot}/mount", "Mounts a snapshot, read-only")
            .example(r#"{"path":"/mnt"}"#),
        |b, path: SnapshotPath, r: Mount, dry| b.mount_snapshot(&path, r, dry),
    );
    api.change(
        post(
            "snapshot.unmount",
            Provision,
            "/v1/snapshots/{vg}/{volume}/{snapshot}/unmount",
            "Unmounts a snapshot from every place",
        ),
        |b, path: SnapshotPath, dry| b.unmount_snapshot(&path, dry),
    );
}

/// For provision, although they change nothing: the pool commits for each reading, and the daemon reads all of its mappings.
fn usage(api: &mut impl Api) {
    api.read(
        get("pool.usage", Provision, "/v1/pools/{vg}/{pool}/usage", "Who takes how much of a pool")
            .details("At most ten seconds old; may take seconds."),
        |b, pool: PoolPath, NoQuery {}| b.pool_usage(&pool),
    );
    api.read(
        get("volume.usage", Provision, "/v1/volumes/{vg}/{volume}/usage", "What a volume and its snapshots take")
            .details("At most ten seconds old; may take seconds."),
        |b, volume: VolumePath, NoQuery {}| b.volume_usage(&volume),
    );
    api.read(
        get("vg.map", Observe, "/v1/vgs/{vg}/map", "What lies where on the disks of a volume group"),
        |b, vg: Name, NoQuery {}| b.vg_map(&vg),
    );
}
