//! Requests of an orchestrator.

use prost::Message;
use vol_csi::csi::*;
use vol_csi::{Mode, Rpc};

use super::Add;

/// As the provisioner, the snapshotter and the kubelet send them.
pub fn requests(add: Add<'_>) {
    let mut say = |name: &str, rpc: Rpc, body: Vec<u8>| {
        let place = Rpc::ALL.iter().position(|one| *one == rpc).and_then(|place| u8::try_from(place).ok());
        add("csi_request", name, [vec![place.expect("few requests")], body].concat());
    };
    let volume_id = || vol_csi::ids::told(crate::csi::VOLUME, "n1");
    let snapshot_id = || vol_csi::ids::told(crate::csi::SNAPSHOT, "n1");
    let capability = || VolumeCapability {
        access_mode: Some(volume_capability::AccessMode { mode: Mode::SingleNodeMultiWriter.into() }),
        access_type: Some(volume_capability::AccessType::Mount(volume_capability::MountVolume {
            fs_type: "ext4".into(),
            mount_flags: vec!["noatime".into(), "context=\"system_u:object_r:container_file_t:s0:c1,c2\"".into()],
            volume_mount_group: String::new(),
        })),
    };
    let map = |given: &[(&str, &str)]| given.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let range = || Some(CapacityRange { required_bytes: 10 << 30, limit_bytes: 10 << 30 });
    let usual = || CreateVolumeRequest {
        name: "pvc-2".into(),
        capacity_range: range(),
        volume_capabilities: vec![capability()],
        ..Default::default()
    };
    let topology = |node: &str| Topology { segments: map(&[("topology.csi.volumed.io/node", node)]) };
    say("create", Rpc::CreateVolume, usual().encode_to_vec());
    let class = [("pool", "data/tank"), ("reserve", "1G"), ("on-delete", "purge"), ("mount-options", "noatime")];
    let of_class = CreateVolumeRequest {
        parameters: map(&class),
        mutable_parameters: map(&[("reserve", "512M")]),
        accessibility_requirements: Some(TopologyRequirement { requisite: vec![topology("n1")], preferred: vec![] }),
        ..usual()
    };
    say("create-class", Rpc::CreateVolume, of_class.encode_to_vec());
    let thick = map(&[("thin", "no"), ("stripes", "2"), ("stripe-size", "128K"), ("csi.storage.k8s.io/pv/name", "pv")]);
    say("create-thick", Rpc::CreateVolume, CreateVolumeRequest { parameters: thick, ..usual() }.encode_to_vec());
    let profile = map(&[("profile", "db"), ("fs", "ext4")]);
    say("create-profile", Rpc::CreateVolume, CreateVolumeRequest { parameters: profile, ..usual() }.encode_to_vec());
    let from = |of: volume_content_source::Type| CreateVolumeRequest {
        volume_content_source: Some(VolumeContentSource { r#type: Some(of) }),
        ..usual()
    };
    let of_snapshot = volume_content_source::SnapshotSource { snapshot_id: snapshot_id() };
    say(
        "create-from-snapshot",
        Rpc::CreateVolume,
        from(volume_content_source::Type::Snapshot(of_snapshot)).encode_to_vec(),
    );
    let of_volume = volume_content_source::VolumeSource { volume_id: volume_id() };
    say("create-clone", Rpc::CreateVolume, from(volume_content_source::Type::Volume(of_volume)).encode_to_vec());
    say("delete", Rpc::DeleteVolume, DeleteVolumeRequest { volume_id: volume_id() }.encode_to_vec());
    let validate = ValidateVolumeCapabilitiesRequest {
        volume_id: volume_id(),
        volume_capabilities: vec![capability()],
        ..Default::default()
    };
    say("validate", Rpc::ValidateVolumeCapabilities, validate.encode_to_vec());
    let list = ListVolumesRequest { max_entries: 1, starting_token: volume_id() };
    say("list", Rpc::ListVolumes, list.encode_to_vec());
    let capacity = GetCapacityRequest {
        volume_capabilities: vec![capability()],
        parameters: map(&[("thin", "no")]),
        accessible_topology: Some(topology("n1")),
    };
    say("capacity", Rpc::GetCapacity, capacity.encode_to_vec());
    let snap = |name: &str| CreateSnapshotRequest {
        source_volume_id: volume_id(),
        name: name.into(),
        parameters: map(&[("csi.storage.k8s.io/volumesnapshot/name", "nightly")]),
        ..Default::default()
    };
    say("snapshot", Rpc::CreateSnapshot, snap("größe").encode_to_vec());
    say("snapshot-again", Rpc::CreateSnapshot, snap("snap-1").encode_to_vec());
    say("snapshot-delete", Rpc::DeleteSnapshot, DeleteSnapshotRequest { snapshot_id: snapshot_id() }.encode_to_vec());
    let list = ListSnapshotsRequest { max_entries: 2, source_volume_id: volume_id(), ..Default::default() };
    say("snapshot-list", Rpc::ListSnapshots, list.encode_to_vec());
    say("snapshot-get", Rpc::GetSnapshot, GetSnapshotRequest { snapshot_id: snapshot_id() }.encode_to_vec());
    let expand =
        ControllerExpandVolumeRequest { volume_id: volume_id(), capacity_range: range(), volume_capability: None };
    say("expand", Rpc::ControllerExpandVolume, expand.encode_to_vec());
    say("get", Rpc::ControllerGetVolume, ControllerGetVolumeRequest { volume_id: volume_id() }.encode_to_vec());
    let modify =
        ControllerModifyVolumeRequest { volume_id: volume_id(), mutable_parameters: map(&[("reserve", "full")]) };
    say("modify", Rpc::ControllerModifyVolume, modify.encode_to_vec());
    let path = || "data/pvc-1".to_owned();
    let expand = ControllerExpandVolumeRequest { volume_id: path(), capacity_range: range(), volume_capability: None };
    say("expand-path", Rpc::ControllerExpandVolume, expand.encode_to_vec());
    let modify = ControllerModifyVolumeRequest { volume_id: path(), mutable_parameters: map(&[("reserve", "full")]) };
    say("modify-path", Rpc::ControllerModifyVolume, modify.encode_to_vec());
    let twice = CreateVolumeGroupSnapshotRequest {
        name: "weekly".into(),
        source_volume_ids: vec![volume_id(), path()],
        ..Default::default()
    };
    say("group-twice", Rpc::CreateVolumeGroupSnapshot, twice.encode_to_vec());
    let group = CreateVolumeGroupSnapshotRequest {
        name: "nightly".into(),
        source_volume_ids: vec![volume_id()],
        ..Default::default()
    };
    say("group", Rpc::CreateVolumeGroupSnapshot, group.encode_to_vec());
    let group_snapshot_id = || vol_csi::ids::of_group("nightly", "n1");
    let gone =
        DeleteVolumeGroupSnapshotRequest { group_snapshot_id: group_snapshot_id(), snapshot_ids: vec![snapshot_id()] };
    say("group-delete", Rpc::DeleteVolumeGroupSnapshot, gone.encode_to_vec());
    let get = GetVolumeGroupSnapshotRequest { group_snapshot_id: group_snapshot_id(), snapshot_ids: vec![] };
    say("group-get", Rpc::GetVolumeGroupSnapshot, get.encode_to_vec());
    let allocated = GetMetadataAllocatedRequest { snapshot_id: snapshot_id(), starting_offset: 70_000, max_results: 2 };
    say("allocated", Rpc::GetMetadataAllocated, allocated.encode_to_vec());
    let delta = GetMetadataDeltaRequest {
        base_snapshot_id: snapshot_id(),
        target_snapshot_id: snapshot_id(),
        starting_offset: 1 << 30,
        max_results: 0,
    };
    say("delta", Rpc::GetMetadataDelta, delta.encode_to_vec());
    let staging_target_path = || "/var/lib/kubelet/plugins/staged".to_owned();
    let stage = NodeStageVolumeRequest {
        volume_id: volume_id(),
        staging_target_path: staging_target_path(),
        volume_capability: Some(capability()),
        ..Default::default()
    };
    say("stage", Rpc::NodeStageVolume, stage.encode_to_vec());
    let unstage = NodeUnstageVolumeRequest { volume_id: volume_id(), staging_target_path: staging_target_path() };
    say("unstage", Rpc::NodeUnstageVolume, unstage.encode_to_vec());
    let target = |tail: &str| format!("/var/lib/kubelet/pods/a/volumes/kubernetes.io~csi/pv/{tail}");
    let publish = NodePublishVolumeRequest {
        volume_id: volume_id(),
        staging_target_path: staging_target_path(),
        target_path: target("mount"),
        volume_capability: Some(capability()),
        readonly: true,
        ..Default::default()
    };
    say("publish", Rpc::NodePublishVolume, publish.encode_to_vec());
    let way_out = NodePublishVolumeRequest { target_path: target("../../../../../../etc"), ..publish.clone() };
    say("publish-way-out", Rpc::NodePublishVolume, way_out.encode_to_vec());
    let context = [("csi.storage.k8s.io/ephemeral", "true"), ("size", "1G"), ("csi.storage.k8s.io/pod.name", "web")];
    let inline = NodePublishVolumeRequest {
        volume_id: "csi-0a1b".into(),
        staging_target_path: String::new(),
        volume_context: map(&context),
        readonly: false,
        ..publish
    };
    say("publish-inline", Rpc::NodePublishVolume, inline.encode_to_vec());
    let unpublish = NodeUnpublishVolumeRequest { volume_id: volume_id(), target_path: target("mount") };
    say("unpublish", Rpc::NodeUnpublishVolume, unpublish.encode_to_vec());
    let stats =
        NodeGetVolumeStatsRequest { volume_id: volume_id(), volume_path: staging_target_path(), ..Default::default() };
    say("stats", Rpc::NodeGetVolumeStats, stats.encode_to_vec());
    let expand = NodeExpandVolumeRequest {
        volume_id: volume_id(),
        volume_path: staging_target_path(),
        capacity_range: range(),
        ..Default::default()
    };
    say("node-expand", Rpc::NodeExpandVolume, expand.encode_to_vec());
    say("info", Rpc::NodeGetInfo, Vec::new());
    say("plugin", Rpc::GetPluginCapabilities, Vec::new());
    let list = ControllerListVolumeHealthRequest { max_entries: 1, ..Default::default() };
    say("health-list", Rpc::ControllerListVolumeHealth, list.encode_to_vec());
    let health = NodeGetVolumeHealthRequest { volume_id: volume_id(), ..Default::default() };
    say("health", Rpc::NodeGetVolumeHealth, health.encode_to_vec());
    say("health-storage", Rpc::NodeGetStorageHealth, Vec::new());
}
