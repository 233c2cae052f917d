//! One object as a list of facts.

use std::collections::BTreeMap;

use vol_api::{CloneInfo, PoolInfo, PoolMode, Problem, PvInfo, SnapshotInfo, VgInfo, VolumeInfo};

use super::list::{content, pv_condition};
use super::refs::volume_refs_text;
use super::{Align, Format, Table, UNKNOWN, condition, mounts_text, or_unknown, percent, percent_text};
use crate::run::thick::filling_text;

fn facts<const N: usize>(rows: [(&str, String); N], problems: &[Problem]) -> String {
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
    for (key, value) in rows {
        table.push([format!("{key}:"), value]);
    }
    for problem in problems {
        table.push(["problem:".to_owned(), problem.message.clone()]);
        if !problem.hint.is_empty() {
            table.push(["  hint:".to_owned(), problem.hint.clone()]);
        }
    }
    table.render(true)
}

fn with_percent(format: Format, part: Option<u64>, whole: u64) -> String {
    match percent(part, whole) {
        Some(percent) => format!("{} ({percent} %)", format.size(part)),
        None => format.size(part),
    }
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

pub(super) fn labels_text(labels: &BTreeMap<String, String>) -> String {
    let all: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    or_unknown(Some(&all.join(", ")))
}

fn clone_text(of: &CloneInfo) -> String {
    if of.exists { of.name.clone() } else { format!("{} (deleted since)", of.name) }
}

pub fn pv_facts(pv: &PvInfo, format: Format) -> String {
    facts(
        [
            ("PV", or_unknown(pv.path.as_deref())),
            ("id", pv.id.clone()),
            ("volume group", pv.vg.clone()),
            ("health", pv_condition(pv).to_owned()),
            ("size", format!("{} in {} extents", format.size(pv.size_bytes), pv.extent_count)),
            ("free", format!("{} in {} extents", format.size(pv.free_bytes), pv.free_extents)),
            ("copy of the metadata", yes(pv.metadata_copy)),
            ("backing file", or_unknown(pv.backing_file.as_deref())),
            ("hardware id", or_unknown(pv.hardware_id.as_deref())),
            ("labels", labels_text(&pv.labels)),
        ],
        &pv.problems,
    )
}

pub fn vg_facts(vg: &VgInfo, format: Format) -> String {
    facts(
        [
            ("volume group", vg.name.clone()),
            ("id", vg.id.clone()),
            ("health", condition(vg.state, vg.health)),
            ("size", format.size(vg.size_bytes)),
            ("free", with_percent(format, Some(vg.free_bytes), vg.size_bytes)),
            ("extent", format.size(vg.extent_size_bytes)),
            ("sector", format.size(vg.sector_size_bytes)),
            ("physical volumes", vg.pv_count.to_string()),
            ("pools", vg.pool_count.to_string()),
            ("volumes", vg.volume_count.to_string()),
            ("snapshots", vg.snapshot_count.to_string()),
            ("metadata", format!("{} copies wanted, sequence number {}", vg.metadata_copies, vg.sequence)),
            ("created", vg.created_at.clone()),
        ],
        &vg.problems,
    )
}

pub fn pool_facts(pool: &PoolInfo, format: Format) -> String {
    facts(
        [
            ("pool", format!("{}/{}", pool.vg, pool.name)),
            ("id", pool.id.clone()),
            ("health", condition(pool.state, pool.health)),
            ("mode", or_unknown(pool.mode.map(PoolMode::as_str))),
            ("size", format.size(pool.size_bytes)),
            ("used", with_percent(format, pool.used_bytes, pool.size_bytes)),
            ("metadata size", format.size(pool.metadata_size_bytes)),
            (
                "set aside",
                if pool.set_aside_bytes == 0 { "nothing".to_owned() } else { format.size(pool.set_aside_bytes) },
            ),
            ("metadata used", with_percent(format, pool.metadata_used_bytes, pool.metadata_size_bytes)),
            ("chunk", format.size(pool.chunk_size_bytes)),
            ("virtual", format.size(pool.virtual_bytes)),
            (
                "over-commit",
                format!(
                    "{} of at most {} %",
                    percent_text(Some(pool.overcommit_percent)),
                    pool.overcommit_limit_percent
                ),
            ),
            ("grows", growth_text(pool, format)),
            (
                "original metadata",
                match pool.original_metadata_bytes {
                    0 => "none".to_owned(),
                    bytes => format!("{}, kept since a repair", format.size(bytes)),
                },
            ),
            ("when full", if pool.when_full == "error" { "writes fail at once" } else { "writes wait" }.to_owned()),
            ("reserve", format!("{} %: below it nothing new is made", pool.reserve_percent)),
            ("lies on", place_text(pool)),
            ("fills", fill_text(pool, format)),
            ("volumes", pool.volume_count.to_string()),
            ("snapshots", pool.snapshot_count.to_string()),
            ("transaction id", pool.transaction_id.to_string()),
            ("created", pool.created_at.clone()),
        ],
        &pool.problems,
    )
}

/// Which PVs it may lie on.
pub fn place_text(pool: &PoolInfo) -> String {
    let mut parts = Vec::new();
    if !pool.on.is_empty() {
        parts.push(pool.on.join(", "));
    }
    if !pool.not_on.is_empty() {
        parts.push(format!("not {}", pool.not_on.join(", ")));
    }
    if !pool.on_labels.is_empty() {
        parts.push(format!("PVs labelled {}", labels_text(&pool.on_labels)));
    }
    if parts.is_empty() { "any PV".to_owned() } else { parts.join("; ") }
}

fn growth_text(pool: &PoolInfo, format: Format) -> String {
    let more = || format!("{} more now", format.size(pool.growable_bytes));
    match pool.growth.as_str() {
        "off" => "not by itself".to_owned(),
        "up_to" => format!("by itself, up to {} ({})", format.size(pool.growth_limit_bytes), more()),
        _ => format!("by itself, as far as the volume group has space ({})", more()),
    }
}

/// How fast it fills, and when it will be full.
fn fill_text(pool: &PoolInfo, format: Format) -> String {
    let rate = match pool.fill_bytes_per_second {
        None => return "not known yet".to_owned(),
        Some(0) => return "not at present".to_owned(),
        Some(rate) => rate,
    };
    let each = format!("{} a second", format.size(rate.unsigned_abs()));
    match (rate < 0, pool.time_to_full_seconds, pool.time_to_full_confidence.as_deref()) {
        (true, ..) => format!("empties, {each}"),
        (false, Some(seconds), Some(how)) => format!("{each}, full in {} ({how} confidence)", time_text(seconds)),
        (false, ..) => each,
    }
}

/// A time that is still to go, in two units at most.
pub(super) fn time_text(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (366.., _, _) => "more than a year".to_owned(),
        (2.., ..) => format!("{days} days"),
        (_, 1.., _) => format!("{hours} h {} min", minutes % 60),
        (_, _, 1..) => format!("{minutes} min"),
        _ => format!("{seconds} s"),
    }
}

/// The pool, or how a thick volume lies.
fn pool_text(volume: &VolumeInfo, format: Format) -> String {
    match &volume.thick {
        None => volume.pool.clone(),
        Some(thick) => match thick.stripe_size_bytes {
            None => "none: thick, linear".to_owned(),
            Some(size) => format!("none: thick, {} stripes of {}", thick.stripes, format.size(size)),
        },
    }
}

/// The size, and how far what it is to have is filled.
fn size_text(volume: &VolumeInfo, format: Format) -> String {
    let size = format.size(volume.size_bytes);
    match volume.thick.as_ref().and_then(|thick| thick.filling.as_ref()) {
        None => size,
        Some(filling) => format!("{size}, {}", filling_text(filling, format)),
    }
}

fn directory_text(subdir: Option<&str>) -> String {
    subdir.unwrap_or("the root").to_owned()
}

pub fn volume_facts(volume: &VolumeInfo, format: Format) -> String {
    facts(
        [
            ("volume", format!("{}/{}", volume.vg, volume.name)),
            ("id", volume.id.clone()),
            ("health", condition(volume.state, volume.health)),
            ("pool", pool_text(volume, format)),
            ("size", size_text(volume, format)),
            ("used", with_percent(format, volume.used_bytes, volume.size_bytes)),
            ("reserve", if volume.reserve_bytes == 0 { "none".to_owned() } else { format.size(volume.reserve_bytes) }),
            ("content", content(volume)),
            ("file system id", or_unknown(volume.fs_uuid.as_deref())),
            ("mounted directory", directory_text(volume.subdir.as_deref())),
            ("file system check", if volume.check_fs { "needed" } else { "not needed" }.to_owned()),
            ("active", yes(volume.active)),
            ("device", or_unknown(volume.device.as_deref())),
            ("mounted at", mounts_text(&volume.mounts)),
            ("needed by", volume_refs_text(&volume.references)),
            ("CSI volume handle", or_unknown(volume.csi_handle.as_deref())),
            ("snapshots", volume.snapshot_count.to_string()),
            ("clone of", volume.clone_of.as_ref().map_or(UNKNOWN.to_owned(), clone_text)),
            ("labels", labels_text(&volume.labels)),
            ("protected", yes(volume.protected)),
            ("created", volume.created_at.clone()),
        ],
        &volume.problems,
    )
}

pub fn snapshot_facts(snapshot: &SnapshotInfo, format: Format) -> String {
    let volume = format!("{}/{}", snapshot.vg, snapshot.volume);
    facts(
        [
            ("snapshot", snapshot.full_name.clone()),
            ("id", snapshot.id.clone()),
            ("volume", if snapshot.volume_exists { volume } else { format!("{volume} (deleted since)") }),
            ("pool", snapshot.pool.clone()),
            ("size", format.size(snapshot.size_bytes)),
            ("file system", or_unknown(snapshot.fs.as_deref())),
            ("mounted directory", directory_text(snapshot.subdir.as_deref())),
            ("active", yes(snapshot.active)),
            ("mounted at", mounts_text(&snapshot.mounts)),
            ("labels", labels_text(&snapshot.labels)),
            ("protected", yes(snapshot.protected)),
            ("created", snapshot.created_at.clone()),
        ],
        &[],
    )
}
