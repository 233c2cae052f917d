//! The service Node: a volume is mounted once, at a place for staging, and shown from there at each place where a workload wants it. Raw
//! volumes: `block`.
//!
//! Where a volume is mounted the kernel says. What is noted besides ([`Placed`]) tells a repetition from another request, and no more: a
//! place of which nothing is noted is taken for what is asked.

use vol_api::{ApiError, ErrorCode};
use vol_types::MountOptions;

use crate::block;
use crate::capability::Capability;
use crate::controller::{fits, flags_of, holds, missing};
use crate::csi::node_service_capability::{Rpc as Ability, Type, rpc};
use crate::csi::{
    NodeGetCapabilitiesResponse, NodeGetInfoResponse, NodePublishVolumeRequest, NodePublishVolumeResponse,
    NodeServiceCapability, NodeStageVolumeRequest, NodeStageVolumeResponse, NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest, NodeUnstageVolumeResponse,
};
use crate::volumes::SIZE_DEFAULT;
use crate::{CsiName, Params, Placed, Range, Refused, Settings, Volume, Volumes, Wanted, ids, limits};

/// Answers `NodeGetCapabilities`.
pub fn capabilities(settings: &Settings) -> NodeGetCapabilitiesResponse {
    let one =
        |ability: rpc::Type| NodeServiceCapability { r#type: Some(Type::Rpc(Ability { r#type: ability.into() })) };
    let all = [
        rpc::Type::StageUnstageVolume,
        rpc::Type::GetVolumeStats,
        rpc::Type::ExpandVolume,
        rpc::Type::SingleNodeMultiWriter,
    ];
    let health = [rpc::Type::GetVolumeHealth, rpc::Type::GetStorageHealth].into_iter().filter(|_| settings.v1_13);
    NodeGetCapabilitiesResponse { capabilities: all.into_iter().chain(health).map(one).collect() }
}

/// Host names that say nothing of which machine it is.
const NO_NAMES: [&str; 5] = ["", "(none)", "localhost", "localhost.localdomain", "localhost6"];

/// Whether a node may be called so: it is the value of a label of Kubernetes.
pub fn is_node_name(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= NODE_MAX
        && ends(name.chars().next())
        && ends(name.chars().last())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Longest name of a node in bytes.
pub const NODE_MAX: usize = 63;

/// Answers `NodeGetInfo`.
///
/// # Errors
/// `FAILED_PRECONDITION` if the machine has no name that tells it from others: the driver is not registered then.
pub fn info(settings: &Settings) -> Result<NodeGetInfoResponse, Refused> {
    let node = &settings.node;
    if !settings.node_given && (NO_NAMES.contains(&node.as_str()) || !is_node_name(node)) {
        return Err(Refused::precondition(format!(
            "this machine's host name is {node:?}, by which no orchestrator can tell it from others"
        ))
        .with_hint(
            "set node in [csi] of /etc/volumed/volumed.toml to the name of its Node object, and restart volumed; a host name that was set \
             since volumed began is seen after a restart as well",
        ));
    }
    Ok(NodeGetInfoResponse {
        node_id: settings.node.clone(),
        max_volumes_per_node: settings.max_volumes,
        accessible_topology: Some(settings.topology()),
    })
}

/// A place that was named, below the directory that is the orchestrator's.
fn place<'a>(volumes: &dyn Volumes, field: &str, path: &'a str) -> Result<&'a str, Refused> {
    let path = limits::path(field, path)?;
    let dir = volumes.settings().kubelet_dir;
    if path.strip_prefix(&dir).is_some_and(|rest| rest.starts_with('/')) {
        return Ok(path);
    }
    Err(Refused::invalid(format!(
        "{field}: {path:?} is not below {dir}, where alone volumes are put for an orchestrator"
    ))
    .with_hint(
        "if the kubelet of this machine uses another directory, set kubelet_dir in [csi] of /etc/volumed/volumed.toml",
    ))
}

fn how(flags: &MountOptions) -> String {
    let text = flags.to_string();
    let mut words: Vec<_> = text.split(',').filter(|word| !word.is_empty()).collect();
    words.sort_unstable();
    words.join(",")
}

pub(crate) fn differs(volume: &Volume, at: &str, noted: &Placed, asked: &Placed) -> Refused {
    let told = |placed: &Placed| {
        let access = if placed.read_only { "read-only" } else { "writable" };
        let flags = if placed.how.is_empty() { String::new() } else { format!(" with {}", placed.how) };
        format!("{access}{flags}")
    };
    Refused::exists(format!(
        "volume {} is at {at} already, but {}, and it is asked for {}",
        volume.path,
        told(noted),
        told(asked)
    ))
}

/// Whether it is at that place already, as it is asked for.
pub(crate) fn is_there(volumes: &dyn Volumes, volume: &Volume, at: &str, asked: &Placed) -> Result<bool, Refused> {
    let Some(read_only) = volume.mounted_at(at) else { return Ok(false) };
    match volumes.placed(at).filter(|noted| noted.volume == volume.id) {
        Some(noted) if noted != *asked => Err(differs(volume, at, &noted, asked)),
        None if read_only != asked.read_only => Err(differs(volume, at, &Placed { read_only, ..asked.clone() }, asked)),
        _ => Ok(true),
    }
}

/// Answers `NodeStageVolume`; whether it was not there before.
///
/// # Errors
/// What the client is to hear; nothing is mounted then that was not before.
pub fn stage(
    volumes: &dyn Volumes,
    request: &NodeStageVolumeRequest,
) -> Result<(NodeStageVolumeResponse, bool), Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    limits::path("staging_target_path", &request.staging_target_path)?;
    let capability = Capability::read(request.volume_capability.as_ref())?;
    let at = place(volumes, "staging_target_path", &request.staging_target_path)?;
    let volume = found(volumes, id)?;
    fits(&volume, &capability)?;
    if capability.block {
        return block::stage(volumes, &volume, at, &capability).map(|changed| (NodeStageVolumeResponse {}, changed));
    }
    let asked = Placed {
        volume: volume.id.clone(),
        staging: true,
        single: false,
        read_only: capability.flags.has("ro"),
        how: how(&capability.flags),
    };
    if is_there(volumes, &volume, at, &asked)? {
        return Ok((NodeStageVolumeResponse {}, false));
    }
    let changed = volumes.mount(&volume, at, asked.read_only, &capability.flags)?;
    volumes.note(at, Some(asked));
    Ok((NodeStageVolumeResponse {}, changed))
}

/// The volume, complete.
fn found(volumes: &dyn Volumes, id: &str) -> Result<Volume, Refused> {
    let volume = volumes.find_now(id)?.ok_or_else(|| missing(volumes, id))?;
    if volume.ready {
        return Ok(volume);
    }
    Err(ApiError::new(ErrorCode::Busy, format!("volume {} is still being made", volume.path)).into())
}

/// Answers `NodePublishVolume`; whether it was not there before.
///
/// # Errors
/// As [`stage`].
pub fn publish(
    volumes: &dyn Volumes,
    request: &NodePublishVolumeRequest,
) -> Result<(NodePublishVolumeResponse, bool), Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    limits::path("target_path", &request.target_path)?;
    let capability = Capability::read(request.volume_capability.as_ref())?;
    if request.volume_context.get(EPHEMERAL).is_some_and(|is| is == "true") {
        return publish_ephemeral(volumes, request, &capability);
    }
    if request.staging_target_path.is_empty() {
        return Err(Refused::precondition("staging_target_path is missing: a volume is staged before it is published"));
    }
    let from = place(volumes, "staging_target_path", &request.staging_target_path)?;
    let at = place(volumes, "target_path", &request.target_path)?;
    if at == from {
        return Err(Refused::invalid("target_path and staging_target_path are the same"));
    }
    let volume = found(volumes, id)?;
    fits(&volume, &capability)?;
    if capability.block {
        let changed = block::publish(volumes, &volume, (from, at), request.readonly, &capability)?;
        return Ok((NodePublishVolumeResponse {}, changed));
    }
    let staged = volume.mounted_at(from);
    let asked = Placed {
        volume: volume.id.clone(),
        staging: false,
        single: capability.is_single(),
        read_only: request.readonly || capability.reads_only() || capability.flags.has("ro") || staged == Some(true),
        how: how(&capability.flags),
    };
    if is_there(volumes, &volume, at, &asked)? {
        return Ok((NodePublishVolumeResponse {}, false));
    }
    if staged.is_none() {
        return Err(Refused::precondition(format!("volume {} is not staged at {from}", volume.path)));
    }
    alone(volumes, &volume, from, &asked)?;
    let changed = volumes.bind(&volume, from, at, asked.read_only)?;
    volumes.note(at, Some(asked));
    Ok((NodePublishVolumeResponse {}, changed))
}

/// What the kubelet says of a volume that lives and dies with its pod.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

/// Makes a volume for a pod, and mounts it where the pod wants it.
fn publish_ephemeral(
    volumes: &dyn Volumes,
    request: &NodePublishVolumeRequest,
    capability: &Capability,
) -> Result<(NodePublishVolumeResponse, bool), Refused> {
    let name = CsiName::new(&request.volume_id)?;
    if ids::parse(name.as_str()).is_some() || name.as_str().contains('/') {
        return Err(Refused::invalid("volume_id is that of a volume which does not live and die with a pod"));
    }
    let at = place(volumes, "target_path", &request.target_path)?;
    if capability.block {
        return Err(Refused::invalid("a volume that lives and dies with its pod is mounted, and no block device"));
    }
    let params = Params::of_pod(&request.volume_context, capability)?;
    let read_only = request.readonly || capability.flags.has("ro");
    let volume = match volumes.find_now(name.as_str())?.filter(|present| present.ready) {
        Some(present) => present,
        None => {
            let room = volumes.room(&params)?;
            let usual = params.size.or(volumes.settings().size).unwrap_or(SIZE_DEFAULT);
            let size = Range::default().choose(usual, room.grain)?;
            holds(params.fs, size)?;
            flags_of(params.fs, std::slice::from_ref(capability))?;
            volumes.create(&name, &Wanted { room, size, params, ephemeral: true })?
        }
    };
    // What is shown of it in a container (`subPath`) is a mount of its own: it says nothing of where the pod wants it.
    if volume.mounted_at(at).is_none()
        && let Some((other, _)) = volume.mounts.first()
    {
        return Err(Refused::precondition(format!("volume {} is of another pod: it is at {other}", volume.path)));
    }
    let changed = volumes.mount(&volume, at, read_only, &capability.flags)?;
    Ok((NodePublishVolumeResponse {}, changed))
}

/// That a volume for one place has no other one.
pub(crate) fn alone(volumes: &dyn Volumes, volume: &Volume, from: &str, asked: &Placed) -> Result<(), Refused> {
    let noted = volumes.places(&volume.id);
    let staging = |at: &str| at == from || noted.iter().any(|(place, placed)| place == at && placed.staging);
    let single = |at: &str| noted.iter().any(|(place, placed)| place == at && placed.single);
    let other = volume.mounts.iter().map(|(at, _)| at).find(|at| !staging(at) && (asked.single || single(at)));
    match other {
        None => Ok(()),
        Some(at) => Err(Refused::precondition(format!(
            "volume {} is for one place at a time, and it is at {at} already",
            volume.path
        ))),
    }
}

/// Answers `NodeUnpublishVolume`; whether there was anything. The place is removed with the mount.
///
/// # Errors
/// What the client is to hear. It goes on where it was when it is asked again.
pub fn unpublish(
    volumes: &dyn Volumes,
    request: &NodeUnpublishVolumeRequest,
) -> Result<(NodeUnpublishVolumeResponse, bool), Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    let at = place(volumes, "target_path", &request.target_path)?;
    let volume = volumes.find_now(id)?;
    let unmounted = match &volume {
        Some(volume) => volumes.unmount(volume, at)?,
        None => false,
    };
    let removed = volumes.remove_mount_point(at).map_err(|refused| match refused.error.code {
        // It is mounted there, and not by what is named.
        ErrorCode::Busy => Refused::not_found(format!("what is mounted at {at} is not the volume {id:?}")),
        _ => refused,
    })?;
    volumes.note(at, None);
    let gone = match volume.filter(|volume| volume.ephemeral) {
        Some(volume) => volumes.delete(&volume).map(|()| true)?,
        None => false,
    };
    Ok((NodeUnpublishVolumeResponse {}, unmounted || removed || gone))
}

/// Answers `NodeUnstageVolume`; whether it was there. The directory stays: it is the client's.
///
/// # Errors
/// `FAILED_PRECONDITION` while it is published.
pub fn unstage(
    volumes: &dyn Volumes,
    request: &NodeUnstageVolumeRequest,
) -> Result<(NodeUnstageVolumeResponse, bool), Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    let at = place(volumes, "staging_target_path", &request.staging_target_path)?;
    let Some(volume) = volumes.find_now(id)? else {
        volumes.note(at, None);
        return Ok((NodeUnstageVolumeResponse {}, false));
    };
    if volume.fs.is_none() {
        return block::unstage(volumes, &volume, at).map(|changed| (NodeUnstageVolumeResponse {}, changed));
    }
    if volume.mounted_at(at).is_some() {
        let noted = volumes.places(&volume.id);
        let published = noted.iter().find(|(place, placed)| !placed.staging && volume.mounted_at(place).is_some());
        if let Some((place, _)) = published {
            return Err(Refused::precondition(format!("volume {} is still published at {place}", volume.path)));
        }
    }
    let changed = volumes.unmount(&volume, at)?;
    volumes.note(at, None);
    Ok((NodeUnstageVolumeResponse {}, changed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tonic::Code;

    use super::*;

    fn called(node: &str, node_given: bool) -> Settings {
        Settings {
            driver: "csi.volumed.io".to_owned(),
            node: node.to_owned(),
            node_given,
            kubelet_dir: "/var/lib/kubelet".to_owned(),
            size: None,
            max_volumes: 0,
            v1_13: false,
            profiles: BTreeMap::new(),
            version: "1",
        }
    }

    #[test]
    fn a_machine_without_a_name_of_its_own_is_not_registered_until_it_is_given_one() {
        for node in ["", "(none)", "localhost", "localhost.localdomain", "-n1", "n_", "a b", &"n".repeat(64)] {
            let refused = info(&called(node, false)).unwrap_err();
            assert_eq!(refused.code, Code::FailedPrecondition, "{node}");
            assert!(refused.error.hint.is_some_and(|hint| hint.contains("[csi]")), "{node}");
        }
        for (node, given) in [("n1", false), ("n1.example.org", false), ("N_1", false), ("localhost", true)] {
            assert_eq!(info(&called(node, given)).unwrap().node_id, node);
        }
        assert!(is_node_name(&"n".repeat(NODE_MAX)));
    }
}
