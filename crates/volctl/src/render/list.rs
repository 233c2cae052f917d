//! One table per kind of object.

use vol_api::{DeletedInfo, PoolInfo, PvInfo, SnapshotInfo, VgInfo, VolumeInfo};

use super::Align::{Left, Right};
use super::fact::labels_text;
use super::{Format, Table, UNKNOWN, condition, mounts_text, or_unknown, percent, percent_text};

pub fn pv_table(pvs: &[PvInfo], format: Format) -> Table {
    let mut table = Table::new(&[
        ("PV", Left),
        ("VG", Left),
        ("SIZE", Right),
        ("FREE", Right),
        ("METADATA", Left),
        ("HEALTH", Left),
        ("LABELS", Left),
    ]);
    for pv in pvs {
        let path = match (&pv.path, &pv.backing_file) {
            (Some(path), Some(file)) => format!("{path} ({file})"),
            (Some(path), None) => path.clone(),
            (None, _) => pv.id.clone(),
        };
        let health = pv_condition(pv);
        table.push([
            path,
            pv.vg.clone(),
            format.size(pv.size_bytes),
            format.size(pv.free_bytes),
            if pv.metadata_copy { "yes" } else { "no" }.to_owned(),
            health.to_owned(),
            match pv.labels.is_empty() {
                true => UNKNOWN.to_owned(),
                false => labels_text(&pv.labels),
            },
        ]);
    }
    table
}

/// Its health; in its place that it is missing, or no member of the group that its label names.
pub(super) fn pv_condition(pv: &PvInfo) -> &'static str {
    match (pv.present, pv.unknown) {
        (false, _) => "missing",
        (true, true) => "unknown",
        (true, false) => pv.health.as_str(),
    }
}

pub fn vg_table(vgs: &[VgInfo], format: Format) -> Table {
    let mut table = Table::new(&[
        ("VG", Left),
        ("SIZE", Right),
        ("FREE", Right),
        ("PVS", Right),
        ("POOLS", Right),
        ("VOLUMES", Right),
        ("SNAPSHOTS", Right),
        ("HEALTH", Left),
    ]);
    for vg in vgs {
        table.push([
            vg.name.clone(),
            format.size(vg.size_bytes),
            format.size(vg.free_bytes),
            vg.pv_count.to_string(),
            vg.pool_count.to_string(),
            vg.volume_count.to_string(),
            vg.snapshot_count.to_string(),
            condition(vg.state, vg.health),
        ]);
    }
    table
}

pub fn pool_table(pools: &[PoolInfo], format: Format) -> Table {
    let mut table = Table::new(&[
        ("POOL", Left),
        ("SIZE", Right),
        ("USED", Right),
        ("USED%", Right),
        ("META%", Right),
        ("VIRTUAL", Right),
        ("VOLUMES", Right),
        ("SNAPSHOTS", Right),
        ("HEALTH", Left),
    ]);
    for pool in pools {
        table.push([
            format!("{}/{}", pool.vg, pool.name),
            format.size(pool.size_bytes),
            format.size(pool.used_bytes),
            percent_text(percent(pool.used_bytes, pool.size_bytes)),
            percent_text(percent(pool.metadata_used_bytes, pool.metadata_size_bytes)),
            format.size(pool.virtual_bytes),
            pool.volume_count.to_string(),
            pool.snapshot_count.to_string(),
            condition(pool.state, pool.health),
        ]);
    }
    table
}

pub fn volume_table(volumes: &[VolumeInfo], format: Format) -> Table {
    let mut table = Table::new(&[
        ("VOLUME", Left),
        ("POOL", Left),
        ("SIZE", Right),
        ("USED", Right),
        ("CONTENT", Left),
        ("MOUNTED AT", Left),
        ("HEALTH", Left),
    ]);
    for volume in volumes {
        table.push([
            format!("{}/{}", volume.vg, volume.name),
            if volume.thick.is_some() { "(thick)".to_owned() } else { volume.pool.clone() },
            format.size(volume.size_bytes),
            format.size(volume.used_bytes),
            content(volume),
            mounts_text(&volume.mounts),
            condition(volume.state, volume.health),
        ]);
    }
    table
}

/// The file system if there is one, else what the volume holds instead.
pub(super) fn content(volume: &VolumeInfo) -> String {
    match (&volume.fs, volume.content) {
        (Some(fs), vol_api::VolumeContent::Formatted) => fs.clone(),
        (_, content) => content.as_str().to_owned(),
    }
}

pub fn deleted_table(deleted: &[DeletedInfo], format: Format) -> Table {
    let mut table =
        Table::new(&[("DELETED", Left), ("POOL", Left), ("SIZE", Right), ("DELETED AT", Left), ("KEPT UNTIL", Left)]);
    for one in deleted {
        table.push([
            one.full_name.clone(),
            one.pool.clone(),
            format.size(one.size_bytes),
            one.deleted_at.clone(),
            match (&one.kept_until, one.emptied_bytes) {
                (_, Some(emptied)) => {
                    format!("being emptied, {}", percent_text(percent(Some(emptied), one.size_bytes)))
                }
                (Some(until), None) => until.clone(),
                (None, None) => "now".to_owned(),
            },
        ]);
    }
    table
}

pub fn snapshot_table(snapshots: &[SnapshotInfo], format: Format) -> Table {
    let mut table = Table::new(&[
        ("SNAPSHOT", Left),
        ("POOL", Left),
        ("SIZE", Right),
        ("FS", Left),
        ("MOUNTED AT", Left),
        ("CREATED", Left),
    ]);
    for snapshot in snapshots {
        table.push([
            snapshot.full_name.clone(),
            snapshot.pool.clone(),
            format.size(snapshot.size_bytes),
            or_unknown(snapshot.fs.as_deref()),
            mounts_text(&snapshot.mounts),
            if snapshot.created_at.is_empty() { UNKNOWN.to_owned() } else { snapshot.created_at.clone() },
        ]);
    }
    table
}
