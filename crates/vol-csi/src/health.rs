//! The health of volumes and of what they lie on: CSI 1.13, where it is alpha. Served only if the configuration says so.
//!
//! What is told is what the daemon knows anyway, under the words that `volctl status` has for it: no disk is asked.

use std::collections::BTreeMap;

use crate::controller::{no_such, page};
use crate::csi::node_get_storage_health_response::StorageBackendHealth;
use crate::csi::volume_health::VolumeHealthEntry;
use crate::csi::{
    ControllerGetVolumeHealthRequest, ControllerGetVolumeHealthResponse, ControllerListVolumeHealthRequest,
    ControllerListVolumeHealthResponse, NodeGetStorageHealthRequest, NodeGetStorageHealthResponse,
    NodeGetVolumeHealthRequest, NodeGetVolumeHealthResponse, StorageHealthErrorType, VolumeHealth,
    VolumeHealthErrorType,
};
use crate::{Refused, Settings, Volume, Volumes, ids, limits};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ill {
    /// The stable word of the control API's problems, for example `pool_full`.
    pub code: String,
    pub message: String,
}

/// `pool_full` as the interface wants a reason: `PoolFull`.
fn reason(code: &str) -> String {
    code.split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        })
        .collect()
}

/// Several with the same status and reason are told as one, with all their messages.
fn merged<S: Ord>(all: impl Iterator<Item = (S, String, String)>) -> Vec<(S, String, String)> {
    let mut by: BTreeMap<(S, String), Vec<String>> = BTreeMap::new();
    for (status, reason, message) in all {
        by.entry((status, reason)).or_default().push(message);
    }
    by.into_iter().map(|((status, reason), messages)| (status, reason, messages.join("; "))).collect()
}

/// What it means for a volume.
fn status(volume: &Volume, ill: &Ill) -> VolumeHealthErrorType {
    match ill.code.as_str() {
        "pool_lost_thin" => VolumeHealthErrorType::DataLoss,
        // What is mounted stays so; nothing else can be mounted.
        "pool_refused" if volume.mounts.is_empty() => VolumeHealthErrorType::Inaccessible,
        _ => VolumeHealthErrorType::Degraded,
    }
}

fn told(settings: &Settings, volume: &Volume) -> VolumeHealth {
    let all = volume.ills.iter().map(|ill| (status(volume, ill) as i32, reason(&ill.code), ill.message.clone()));
    let entry = |(status, reason, message)| VolumeHealthEntry { status, reason, message };
    VolumeHealth {
        volume_id: ids::told(&volume.id, &settings.node),
        health_statuses: merged(all).into_iter().map(entry).collect(),
    }
}

fn of(volumes: &dyn Volumes, id: &str) -> Result<VolumeHealth, Refused> {
    let id = limits::id("volume_id", id)?;
    let volume = volumes.find(id)?.ok_or_else(|| no_such(id))?;
    // As it was asked for, which may be the name of a static volume.
    Ok(VolumeHealth { volume_id: id.to_owned(), ..told(&volumes.settings(), &volume) })
}

/// Answers `ControllerListVolumeHealth`, with those alone that something is wrong with.
///
/// # Errors
/// As [`crate::controller::list_volumes`].
pub fn list(
    volumes: &dyn Volumes,
    request: &ControllerListVolumeHealthRequest,
) -> Result<ControllerListVolumeHealthResponse, Refused> {
    let settings = volumes.settings();
    let mut all = volumes.list()?;
    all.retain(|one| !one.ills.is_empty());
    let (page, next_token) = page(&all, request.max_entries, &request.starting_token, |one| &one.id)?;
    Ok(ControllerListVolumeHealthResponse {
        entries: page.iter().map(|one| told(&settings, one)).collect(),
        next_token,
    })
}

/// Answers `ControllerGetVolumeHealth`.
///
/// # Errors
/// `NOT_FOUND`.
pub fn get(
    volumes: &dyn Volumes,
    request: &ControllerGetVolumeHealthRequest,
) -> Result<ControllerGetVolumeHealthResponse, Refused> {
    Ok(ControllerGetVolumeHealthResponse { volume_health: Some(of(volumes, &request.volume_id)?) })
}

/// Answers `NodeGetVolumeHealth`: the same, for what is on this machine is used on this machine.
///
/// # Errors
/// `NOT_FOUND`.
pub fn node_get(
    volumes: &dyn Volumes,
    request: &NodeGetVolumeHealthRequest,
) -> Result<NodeGetVolumeHealthResponse, Refused> {
    Ok(NodeGetVolumeHealthResponse { volume_health: Some(of(volumes, &request.volume_id)?) })
}

/// Answers `NodeGetStorageHealth`.
///
/// # Errors
/// What the daemon cannot look at.
pub fn storage(
    volumes: &dyn Volumes,
    _: &NodeGetStorageHealthRequest,
) -> Result<NodeGetStorageHealthResponse, Refused> {
    let status = |code: &str| match code {
        "pv_missing" | "pool_refused" => StorageHealthErrorType::StorageUnreachable,
        _ => StorageHealthErrorType::StorageDegraded,
    };
    let ills = volumes.storage_ills()?;
    let all = ills.into_iter().map(|ill| (status(&ill.code) as i32, reason(&ill.code), ill.message));
    let told = |(status, reason, message)| StorageBackendHealth { status, reason, message, volume_capability: None };
    Ok(NodeGetStorageHealthResponse { backend_health: merged(all).into_iter().map(told).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_word_and_told_once_for_each_status() {
        assert_eq!(reason("pool_full_in_a_day"), "PoolFullInADay");
        assert_eq!(reason(""), "");
        let ill = |code: &str, message: &str| Ill { code: code.to_owned(), message: message.to_owned() };
        let ills = vec![ill("pool_full", "a"), ill("pool_refused", "b"), ill("pool_full", "c")];
        let settings = Settings {
            driver: "d".to_owned(),
            node: "n1".to_owned(),
            node_given: true,
            kubelet_dir: "/k".to_owned(),
            size: None,
            max_volumes: 0,
            v1_13: true,
            profiles: std::collections::BTreeMap::new(),
            version: "",
        };
        let mut volume = Volume { ills, ..Volume::default() };
        let entries = |volume: &Volume| -> Vec<(i32, String, String)> {
            let all = told(&settings, volume).health_statuses;
            all.into_iter().map(|one| (one.status, one.reason, one.message)).collect()
        };
        let full = (VolumeHealthErrorType::Degraded as i32, "PoolFull".to_owned(), "a; c".to_owned());
        let refused = |status| (status as i32, "PoolRefused".to_owned(), "b".to_owned());
        assert_eq!(entries(&volume), [full.clone(), refused(VolumeHealthErrorType::Inaccessible)]);
        volume.mounts.push(("/x".to_owned(), false));
        assert_eq!(entries(&volume), [full, refused(VolumeHealthErrorType::Degraded)]);
    }
}
