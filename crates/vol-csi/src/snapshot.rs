//! The part of the service Controller that is about snapshots.

use std::collections::BTreeMap;

use prost_types::Timestamp;

use crate::controller::{missing, not_elsewhere, page, reachable};
use crate::csi::{
    CreateSnapshotRequest, CreateSnapshotResponse, DeleteSnapshotRequest, DeleteSnapshotResponse, GetSnapshotRequest,
    GetSnapshotResponse, ListSnapshotsRequest, ListSnapshotsResponse, Snapshot as Told, list_snapshots_response,
};
use crate::{CsiName, Kind, Refused, Settings, Snapshot, Volumes, ids, limits};

/// What the snapshotter adds by itself.
const OF_SNAPSHOTTER: &str = "csi.storage.k8s.io/";

/// That there are none but what is added by itself.
pub(crate) fn no_parameters(parameters: &BTreeMap<String, String>) -> Result<(), Refused> {
    limits::map("parameters", parameters)?;
    match parameters.keys().find(|key| !key.starts_with(OF_SNAPSHOTTER)) {
        None => Ok(()),
        Some(key) => {
            let key: String = key.chars().take(60).collect();
            Err(Refused::invalid(format!("parameter {key:?} is not known: snapshots have none")))
        }
    }
}

/// As it is told.
pub(crate) fn told(settings: &Settings, snapshot: &Snapshot) -> Told {
    let seconds = i64::try_from(snapshot.created).unwrap_or(i64::MAX);
    Told {
        size_bytes: i64::try_from(snapshot.size).unwrap_or(i64::MAX),
        snapshot_id: ids::told(&snapshot.id, &settings.node),
        source_volume_id: ids::told(&snapshot.source, &settings.node),
        creation_time: Some(Timestamp { seconds, nanos: 0 }),
        ready_to_use: true,
        group_snapshot_id: snapshot
            .group
            .as_deref()
            .map_or_else(String::new, |name| ids::of_group(name, &settings.node)),
        accessible_topology: settings.v1_13.then(|| settings.topology()).into_iter().collect(),
    }
}

/// Answers `CreateSnapshot`; whether it was made now.
///
/// # Errors
/// `ALREADY_EXISTS` if the name is that of another volume's snapshot, `NOT_FOUND` without the volume.
pub fn create_snapshot(
    volumes: &dyn Volumes,
    request: &CreateSnapshotRequest,
) -> Result<(CreateSnapshotResponse, bool), Refused> {
    let name = CsiName::new(&request.name)?;
    let id = limits::id("source_volume_id", &request.source_volume_id)?;
    no_parameters(&request.parameters)?;
    let settings = volumes.settings();
    let answer = |snapshot: &Snapshot| CreateSnapshotResponse { snapshot: Some(told(&settings, snapshot)) };
    let volume = volumes.find(id)?;
    if let Some(present) = volumes.snapshot_named(&name)? {
        // Of a volume that is gone the id alone is left.
        let asked = volume.as_ref().map(|volume| volume.id.as_str()).or(ids::parse(id).map(|(id, _)| id));
        return if asked == Some(&present.source) {
            Ok((answer(&present), false))
        } else {
            Err(Refused::exists(format!("there is a snapshot {name} already, of another volume: {}", present.path)))
        };
    }
    let volume = volume.ok_or_else(|| missing(volumes, id))?;
    if settings.v1_13 {
        reachable(&settings, request.accessibility_requirements.as_ref())?;
    }
    let made = volumes.take(&[volume], &name, false)?;
    let made =
        made.first().ok_or_else(|| Refused::not_found(format!("snapshot {name} was made, and is gone again")))?;
    Ok((answer(made), true))
}

/// Answers `DeleteSnapshot`; whether there was one.
///
/// # Errors
/// `INVALID_ARGUMENT` if it belongs to a group.
pub fn delete_snapshot(
    volumes: &dyn Volumes,
    request: &DeleteSnapshotRequest,
) -> Result<(DeleteSnapshotResponse, bool), Refused> {
    let id = limits::id("snapshot_id", &request.snapshot_id)?;
    let Some(snapshot) = volumes.find_snapshot(id)? else {
        not_elsewhere(volumes, Kind::Snapshot, id)?;
        return Ok((DeleteSnapshotResponse {}, false));
    };
    if let Some(group) = &snapshot.group {
        return Err(Refused::invalid(format!("{} is part of the group snapshot {group}", snapshot.path))
            .with_hint("delete the group snapshot"));
    }
    deletable(&snapshot)?;
    volumes.delete_snapshot(&snapshot)?;
    Ok((DeleteSnapshotResponse {}, true))
}

/// That nothing keeps it.
pub(crate) fn deletable(snapshot: &Snapshot) -> Result<(), Refused> {
    let path = &snapshot.path;
    if snapshot.protected {
        return Err(Refused::precondition(format!("snapshot {path} is protected"))
            .with_hint(format!("volctl snapshot unprotect {path} takes the protection away")));
    }
    Ok(())
}

/// Answers `ListSnapshots`. What is not there makes the list empty, and is no error.
///
/// # Errors
/// As [`crate::controller::list_volumes`].
pub fn list_snapshots(volumes: &dyn Volumes, request: &ListSnapshotsRequest) -> Result<ListSnapshotsResponse, Refused> {
    let settings = volumes.settings();
    let mut all = volumes.snapshots()?;
    let of = |text: &str| ids::parse(text).map_or_else(|| text.to_owned(), |(id, _)| id.to_owned());
    if !request.snapshot_id.is_empty() {
        let id = of(&request.snapshot_id);
        all.retain(|one| one.id == id);
    }
    if !request.source_volume_id.is_empty() {
        let id = match ids::is_path(&request.source_volume_id) {
            true => volumes.find(&request.source_volume_id)?.map_or_else(String::new, |volume| volume.id),
            false => of(&request.source_volume_id),
        };
        all.retain(|one| one.source == id);
    }
    let (page, next_token) = page(&all, request.max_entries, &request.starting_token, |one| &one.id)?;
    let entry = |one: &Snapshot| list_snapshots_response::Entry { snapshot: Some(told(&settings, one)) };
    Ok(ListSnapshotsResponse { entries: page.iter().map(entry).collect(), next_token })
}

/// Answers `GetSnapshot`.
///
/// # Errors
/// `NOT_FOUND`.
pub fn get_snapshot(volumes: &dyn Volumes, request: &GetSnapshotRequest) -> Result<GetSnapshotResponse, Refused> {
    let id = limits::id("snapshot_id", &request.snapshot_id)?;
    let snapshot = volumes.find_snapshot(id)?.ok_or_else(|| no_snapshot(id))?;
    Ok(GetSnapshotResponse { snapshot: Some(told(&volumes.settings(), &snapshot)) })
}

/// There is none of this id.
pub(crate) fn no_snapshot(id: &str) -> Refused {
    let id: String = id.chars().take(limits::TEXT_MAX).collect();
    Refused::not_found(format!("there is no snapshot with the id {id:?}"))
}
