//! The service GroupController: snapshots of several volumes of one instant, all or none.

use std::collections::BTreeSet;

use crate::controller::{missing, not_elsewhere};
use crate::csi::group_controller_service_capability::{Rpc as Ability, Type, rpc};
use crate::csi::{
    CreateVolumeGroupSnapshotRequest, CreateVolumeGroupSnapshotResponse, DeleteVolumeGroupSnapshotRequest,
    DeleteVolumeGroupSnapshotResponse, GetVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotResponse,
    GroupControllerGetCapabilitiesResponse, GroupControllerServiceCapability, VolumeGroupSnapshot,
};
use crate::snapshot::{deletable, no_parameters, told};
use crate::{CsiName, Kind, Refused, Settings, Snapshot, Volume, Volumes, ids, limits};

/// Most volumes of one group: they are suspended together.
const GROUP_MAX: usize = 64;

/// Answers `GroupControllerGetCapabilities`.
pub fn capabilities() -> GroupControllerGetCapabilitiesResponse {
    let ability = Ability { r#type: rpc::Type::CreateDeleteGetVolumeGroupSnapshot.into() };
    GroupControllerGetCapabilitiesResponse {
        capabilities: vec![GroupControllerServiceCapability { r#type: Some(Type::Rpc(ability)) }],
    }
}

/// Those of a group, by its id.
fn members(volumes: &dyn Volumes, id: &str) -> Result<Vec<Snapshot>, Refused> {
    let asked = ids::parse(id).map(|(id, _)| id.to_owned());
    let mut all = volumes.snapshots()?;
    all.retain(|one| one.group.as_deref().map(ids::group) == asked && asked.is_some());
    Ok(all)
}

fn group(settings: &Settings, name: &str, all: &[Snapshot]) -> VolumeGroupSnapshot {
    let snapshots: Vec<_> = all.iter().map(|one| told(settings, one)).collect();
    VolumeGroupSnapshot {
        group_snapshot_id: ids::of_group(name, &settings.node),
        creation_time: snapshots.first().and_then(|one| one.creation_time),
        snapshots,
        ready_to_use: true,
    }
}

/// Answers `CreateVolumeGroupSnapshot`; whether it was made now.
///
/// # Errors
/// `ALREADY_EXISTS` if the group of this name has other volumes, `NOT_FOUND` without one of them, `UNAVAILABLE` if one may be on disks that are away; nothing is made then.
pub fn create(
    volumes: &dyn Volumes,
    request: &CreateVolumeGroupSnapshotRequest,
) -> Result<(CreateVolumeGroupSnapshotResponse, bool), Refused> {
    let name = CsiName::new(&request.name)?;
    no_parameters(&request.parameters)?;
    let sources: BTreeSet<&str> = request.source_volume_ids.iter().map(String::as_str).collect();
    if sources.is_empty() || sources.len() > GROUP_MAX {
        let count = sources.len();
        return Err(Refused::invalid(format!(
            "source_volume_ids are {count}, and a group has 1 to {GROUP_MAX} volumes"
        )));
    }
    let settings = volumes.settings();
    let present = members(volumes, &ids::of_group(name.as_str(), &settings.node))?;
    if !present.is_empty() {
        // Of a volume that is gone the id alone is left.
        let own = |id: &&str| match ids::parse(id) {
            Some((id, _)) => Ok(id.to_owned()),
            None => Ok(volumes.find(id)?.map_or_else(|| (*id).to_owned(), |volume| volume.id)),
        };
        let asked = sources.iter().map(own).collect::<Result<BTreeSet<String>, Refused>>()?;
        let has: BTreeSet<String> = present.iter().map(|one| one.source.clone()).collect();
        if asked != has {
            return Err(Refused::exists(format!("there is a group snapshot {name} already, of other volumes")));
        }
        let group_snapshot = Some(group(&settings, name.as_str(), &present));
        return Ok((CreateVolumeGroupSnapshotResponse { group_snapshot }, false));
    }
    let found = |id: &&str| volumes.find(limits::id("source_volume_ids", id)?)?.ok_or_else(|| missing(volumes, id));
    let mut of: Vec<Volume> = sources.iter().map(found).collect::<Result<_, _>>()?;
    // With the mark and without it is the same one.
    of.sort_by(|a, b| a.id.cmp(&b.id));
    of.dedup_by(|a, b| a.id == b.id);
    let mut made = volumes.take(&of, &name, true)?;
    made.sort_by(|a, b| a.id.cmp(&b.id));
    let group_snapshot = Some(group(&settings, name.as_str(), &made));
    Ok((CreateVolumeGroupSnapshotResponse { group_snapshot }, true))
}

/// That the snapshots that a request names are those of the group.
fn same_members(all: &[Snapshot], named: &[String]) -> Result<(), Refused> {
    let own = |id: &String| ids::parse(id).map(|(id, _)| id.to_owned());
    let foreign = named.iter().find(|id| !all.iter().any(|one| Some(&one.id) == own(id).as_ref()));
    match foreign {
        None => Ok(()),
        Some(id) => {
            let id: String = id.chars().take(limits::TEXT_MAX).collect();
            Err(Refused::invalid(format!("snapshot {id:?} is none of the group's")))
        }
    }
}

/// Answers `DeleteVolumeGroupSnapshot`; whether there was one.
///
/// # Errors
/// What the client is to hear. Asked again, it goes on with what is left.
pub fn delete(
    volumes: &dyn Volumes,
    request: &DeleteVolumeGroupSnapshotRequest,
) -> Result<(DeleteVolumeGroupSnapshotResponse, bool), Refused> {
    let id = limits::id("group_snapshot_id", &request.group_snapshot_id)?;
    let all = members(volumes, id)?;
    if all.is_empty() {
        not_elsewhere(volumes, Kind::Group, id)?;
    }
    // Those that are named and gone were deleted by a request before this one.
    let there = |id: &&String| volumes.find_snapshot(id).is_ok_and(|found| found.is_some());
    let named: Vec<String> = request.snapshot_ids.iter().filter(there).cloned().collect();
    same_members(&all, &named)?;
    all.iter().try_for_each(deletable)?;
    for one in &all {
        volumes.delete_snapshot(one)?;
    }
    Ok((DeleteVolumeGroupSnapshotResponse {}, !all.is_empty()))
}

/// Answers `GetVolumeGroupSnapshot`.
///
/// # Errors
/// `NOT_FOUND`.
pub fn get(
    volumes: &dyn Volumes,
    request: &GetVolumeGroupSnapshotRequest,
) -> Result<GetVolumeGroupSnapshotResponse, Refused> {
    let id = limits::id("group_snapshot_id", &request.group_snapshot_id)?;
    let all = members(volumes, id)?;
    let Some(name) = all.first().and_then(|one| one.group.clone()) else {
        let id: String = id.chars().take(limits::TEXT_MAX).collect();
        return Err(Refused::not_found(format!("there is no group snapshot with the id {id:?}")));
    };
    same_members(&all, &request.snapshot_ids)?;
    Ok(GetVolumeGroupSnapshotResponse { group_snapshot: Some(group(&volumes.settings(), &name, &all)) })
}
