//! Backups, restorations, and copies of disks that become groups of their own.

use std::collections::BTreeMap;

use vol_api::backup::{Backup, LayoutRecord, PvRecord, parse};
use vol_api::{ApiError, Changed, ErrorCode, VgInfo, parse_field};
use vol_engine::host::HostMut;
use vol_engine::{BackedUp, EngineError, Geometry, RestoreVg};
use vol_types::{Name, PvId};

use super::EngineBackend;
use super::change::{changed, device_paths};
use super::error::{from_engine, from_refusal};
use crate::api::{Backend, Change, Read};

fn layout_record(layout: &Geometry) -> LayoutRecord {
    LayoutRecord {
        area_offset_bytes: layout.area_offset,
        label_offsets_bytes: layout.label_offsets,
        log_offset_bytes: layout.log_offset,
        log_len_bytes: layout.log_len,
        checkpoint_offsets_bytes: layout.checkpoint_offsets,
        checkpoint_len_bytes: layout.checkpoint_len,
    }
}

fn layout(pv: &PvRecord) -> Geometry {
    let layout = &pv.layout;
    Geometry {
        area_offset: layout.area_offset_bytes,
        label_offsets: layout.label_offsets_bytes,
        log_offset: layout.log_offset_bytes,
        log_len: layout.log_len_bytes,
        checkpoint_offsets: layout.checkpoint_offsets_bytes,
        checkpoint_len: layout.checkpoint_len_bytes,
        data_offset: pv.data_offset_bytes,
        extent_count: pv.extents,
    }
}

pub fn backup<H: HostMut + 'static>(backend: &EngineBackend<H>, vg: &Name) -> Read<Backup> {
    let BackedUp { sequence, objects, layouts } = backend.engine.backup_vg(vg).map_err(from_refusal)?;
    let written_at = vol_api::rfc3339(backend.engine.host().now());
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Backup::new(sequence, written_at, version, &objects, |pv| layouts.get(&pv).map(layout_record))
        .map_err(|error| ApiError::new(ErrorCode::Busy, format!("volume group {vg} cannot be backed up now: {error}")))
}

/// What was begun can be begun again; nothing is taken back.
fn repeatable(error: EngineError) -> ApiError {
    let step = matches!(error, EngineError::Step(_));
    let error = from_engine(error);
    if step {
        error.with_hint("nothing of the group is in use until this has come to its end: remove the cause, then give the same command again")
    } else {
        error
    }
}

pub fn restore<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    request: &vol_api::RestoreVg,
    dry_run: bool,
) -> Change<VgInfo> {
    let parsed = parse(request.backup.as_bytes()).map_err(|error| {
        ApiError::invalid(format!("this is no backup that can be restored: {error}"))
            .with_hint("nothing was written; a backup is what `volctl vg backup` wrote, unchanged")
    })?;
    let layouts: BTreeMap<PvId, Geometry> = parsed
        .objects
        .iter()
        .filter_map(|object| match object {
            vol_types::Object::Pv(pv) => Some(pv.id),
            _ => None,
        })
        .zip(parsed.content.pvs.iter().map(layout))
        .collect();
    let mut disks = Vec::new();
    for disk in &request.disks {
        let pv: PvId = parse_field("disk", &disk.pv)?;
        disks.push((pv, device_paths(std::slice::from_ref(&disk.device))?.pop().unwrap_or_default()));
    }
    let vg: Name = parse_field("name", &parsed.content.vg.name)?;
    let wanted = RestoreVg {
        backup: BackedUp { sequence: parsed.content.sequence, objects: parsed.objects, layouts },
        disks,
        wipe: request.wipe,
        older: request.older,
    };
    let done = backend.engine.restore_vg(&wanted, dry_run).map_err(repeatable)?;
    let mut answer = changed(backend, &vg, done, || backend.vg(&vg))?;
    if let Changed::Done(outcome) = &mut answer
        && let Some(vg) = &outcome.object
    {
        // A pool that went on after the backup is refused until a person has looked.
        outcome.warnings.extend(vg.problems.iter().map(|problem| problem.message.clone()));
        outcome.warnings.dedup();
    }
    Ok(answer)
}

pub fn import_clone<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    request: &vol_api::ImportClone,
    dry_run: bool,
) -> Change<VgInfo> {
    let name: Name = parse_field("name", &request.name)?;
    let disks = device_paths(&request.devices)?;
    let done = backend.engine.import_clone(&disks, &name, dry_run).map_err(repeatable)?;
    changed(backend, &name, done, || backend.vg(&name))
}
