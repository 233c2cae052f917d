//! The services: which request is answered by what, and whose turn it takes.

use tonic::Request;
use vol_csi::csi::controller_server::Controller;
use vol_csi::csi::group_controller_server::GroupController;
use vol_csi::csi::identity_server::Identity;
use vol_csi::csi::node_server::Node;
use vol_csi::csi::snapshot_metadata_server::SnapshotMetadata;
use vol_csi::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, ControllerGetVolumeHealthRequest, ControllerGetVolumeHealthResponse,
    ControllerGetVolumeRequest, ControllerGetVolumeResponse, ControllerListVolumeHealthRequest,
    ControllerListVolumeHealthResponse, ControllerModifyVolumeRequest, ControllerModifyVolumeResponse,
    CreateSnapshotRequest, CreateSnapshotResponse, CreateVolumeGroupSnapshotRequest, CreateVolumeGroupSnapshotResponse,
    CreateVolumeRequest, CreateVolumeResponse, DeleteSnapshotRequest, DeleteSnapshotResponse,
    DeleteVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotResponse, DeleteVolumeRequest, DeleteVolumeResponse,
    GetCapacityRequest, GetCapacityResponse, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse,
    GetMetadataDeltaRequest, GetMetadataDeltaResponse, GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse,
    GetPluginInfoRequest, GetPluginInfoResponse, GetSnapshotRequest, GetSnapshotResponse,
    GetVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotResponse, GroupControllerGetCapabilitiesRequest,
    GroupControllerGetCapabilitiesResponse, ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest,
    ListVolumesResponse, NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodeGetStorageHealthRequest,
    NodeGetStorageHealthResponse, NodeGetVolumeHealthRequest, NodeGetVolumeHealthResponse, NodeGetVolumeStatsRequest,
    NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeStageVolumeRequest,
    NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest,
    NodeUnstageVolumeResponse, ProbeRequest, ProbeResponse, ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse,
};
use vol_csi::{Rpc, controller, expand, group, health, identity, metadata, node, snapshot, stats};

use super::stream::Told;
use super::{About, Answer, Desk};

#[tonic::async_trait]
impl Identity for Desk {
    async fn get_plugin_info(&self, request: Request<GetPluginInfoRequest>) -> Answer<GetPluginInfoResponse> {
        self.told(Rpc::GetPluginInfo, &request, |settings| Ok(identity::info(settings)))
    }
    async fn get_plugin_capabilities(
        &self,
        request: Request<GetPluginCapabilitiesRequest>,
    ) -> Answer<GetPluginCapabilitiesResponse> {
        self.told(Rpc::GetPluginCapabilities, &request, |settings| Ok(identity::capabilities(settings)))
    }
    async fn probe(&self, request: Request<ProbeRequest>) -> Answer<ProbeResponse> {
        let ready = self.front.backend().is_ok();
        self.told(Rpc::Probe, &request, |_| identity::probe(ready))
    }
}

#[tonic::async_trait]
impl Controller for Desk {
    async fn create_volume(&self, request: Request<CreateVolumeRequest>) -> Answer<CreateVolumeResponse> {
        self.change(Rpc::CreateVolume, request, |one| About::name(&one.name), controller::create_volume).await
    }
    async fn delete_volume(&self, request: Request<DeleteVolumeRequest>) -> Answer<DeleteVolumeResponse> {
        self.change(Rpc::DeleteVolume, request, |one| About::volume(&one.volume_id), controller::delete_volume).await
    }
    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Answer<ValidateVolumeCapabilitiesResponse> {
        self.read(
            Rpc::ValidateVolumeCapabilities,
            request,
            |one| About::looked_at(&one.volume_id),
            controller::validate,
        )
        .await
    }
    async fn list_volumes(&self, request: Request<ListVolumesRequest>) -> Answer<ListVolumesResponse> {
        self.read(Rpc::ListVolumes, request, |_| About::nothing(), controller::list_volumes).await
    }
    async fn get_capacity(&self, request: Request<GetCapacityRequest>) -> Answer<GetCapacityResponse> {
        self.read(Rpc::GetCapacity, request, |_| About::nothing(), controller::get_capacity).await
    }
    async fn controller_get_capabilities(
        &self,
        request: Request<ControllerGetCapabilitiesRequest>,
    ) -> Answer<ControllerGetCapabilitiesResponse> {
        self.told(Rpc::ControllerGetCapabilities, &request, |settings| Ok(controller::capabilities(settings)))
    }
    async fn create_snapshot(&self, request: Request<CreateSnapshotRequest>) -> Answer<CreateSnapshotResponse> {
        self.change(Rpc::CreateSnapshot, request, |one| About::snapshot(&one.name), snapshot::create_snapshot).await
    }
    async fn delete_snapshot(&self, request: Request<DeleteSnapshotRequest>) -> Answer<DeleteSnapshotResponse> {
        self.change(Rpc::DeleteSnapshot, request, |one| About::volume(&one.snapshot_id), snapshot::delete_snapshot)
            .await
    }
    async fn list_snapshots(&self, request: Request<ListSnapshotsRequest>) -> Answer<ListSnapshotsResponse> {
        self.read(Rpc::ListSnapshots, request, |_| About::nothing(), snapshot::list_snapshots).await
    }
    async fn get_snapshot(&self, request: Request<GetSnapshotRequest>) -> Answer<GetSnapshotResponse> {
        self.read(Rpc::GetSnapshot, request, |one| About::looked_at(&one.snapshot_id), snapshot::get_snapshot).await
    }
    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Answer<ControllerExpandVolumeResponse> {
        self.change(
            Rpc::ControllerExpandVolume,
            request,
            |one| About::volume(&one.volume_id),
            expand::controller_expand,
        )
        .await
    }
    async fn controller_get_volume(
        &self,
        request: Request<ControllerGetVolumeRequest>,
    ) -> Answer<ControllerGetVolumeResponse> {
        self.read(Rpc::ControllerGetVolume, request, |one| About::looked_at(&one.volume_id), controller::get_volume)
            .await
    }
    async fn controller_modify_volume(
        &self,
        request: Request<ControllerModifyVolumeRequest>,
    ) -> Answer<ControllerModifyVolumeResponse> {
        self.change(Rpc::ControllerModifyVolume, request, |one| About::volume(&one.volume_id), expand::modify).await
    }
    async fn controller_list_volume_health(
        &self,
        request: Request<ControllerListVolumeHealthRequest>,
    ) -> Answer<ControllerListVolumeHealthResponse> {
        self.v1_13()?;
        self.read(Rpc::ControllerListVolumeHealth, request, |_| About::nothing(), health::list).await
    }
    async fn controller_get_volume_health(
        &self,
        request: Request<ControllerGetVolumeHealthRequest>,
    ) -> Answer<ControllerGetVolumeHealthResponse> {
        self.v1_13()?;
        self.read(Rpc::ControllerGetVolumeHealth, request, |one| About::looked_at(&one.volume_id), health::get).await
    }
}

#[tonic::async_trait]
impl GroupController for Desk {
    async fn group_controller_get_capabilities(
        &self,
        request: Request<GroupControllerGetCapabilitiesRequest>,
    ) -> Answer<GroupControllerGetCapabilitiesResponse> {
        self.told(Rpc::GroupControllerGetCapabilities, &request, |_| Ok(group::capabilities()))
    }
    async fn create_volume_group_snapshot(
        &self,
        request: Request<CreateVolumeGroupSnapshotRequest>,
    ) -> Answer<CreateVolumeGroupSnapshotResponse> {
        self.change(Rpc::CreateVolumeGroupSnapshot, request, |one| About::group(&one.name), group::create).await
    }
    async fn delete_volume_group_snapshot(
        &self,
        request: Request<DeleteVolumeGroupSnapshotRequest>,
    ) -> Answer<DeleteVolumeGroupSnapshotResponse> {
        self.change(Rpc::DeleteVolumeGroupSnapshot, request, |one| About::volume(&one.group_snapshot_id), group::delete)
            .await
    }
    async fn get_volume_group_snapshot(
        &self,
        request: Request<GetVolumeGroupSnapshotRequest>,
    ) -> Answer<GetVolumeGroupSnapshotResponse> {
        self.read(Rpc::GetVolumeGroupSnapshot, request, |one| About::looked_at(&one.group_snapshot_id), group::get)
            .await
    }
}

#[tonic::async_trait]
impl SnapshotMetadata for Desk {
    type GetMetadataAllocatedStream = Told<GetMetadataAllocatedResponse>;
    type GetMetadataDeltaStream = Told<GetMetadataDeltaResponse>;

    async fn get_metadata_allocated(
        &self,
        request: Request<GetMetadataAllocatedRequest>,
    ) -> Answer<Told<GetMetadataAllocatedResponse>> {
        self.streamed(Rpc::GetMetadataAllocated, request, |one| About::looked_at(&one.snapshot_id), metadata::allocated)
            .await
    }
    async fn get_metadata_delta(
        &self,
        request: Request<GetMetadataDeltaRequest>,
    ) -> Answer<Told<GetMetadataDeltaResponse>> {
        self.streamed(Rpc::GetMetadataDelta, request, |one| About::looked_at(&one.target_snapshot_id), metadata::delta)
            .await
    }
}

#[tonic::async_trait]
impl Node for Desk {
    async fn node_stage_volume(&self, request: Request<NodeStageVolumeRequest>) -> Answer<NodeStageVolumeResponse> {
        self.change(Rpc::NodeStageVolume, request, |one| About::volume(&one.volume_id), node::stage).await
    }
    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Answer<NodeUnstageVolumeResponse> {
        self.change(Rpc::NodeUnstageVolume, request, |one| About::volume(&one.volume_id), node::unstage).await
    }
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Answer<NodePublishVolumeResponse> {
        self.change(Rpc::NodePublishVolume, request, |one| About::volume(&one.volume_id), node::publish).await
    }
    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Answer<NodeUnpublishVolumeResponse> {
        self.change(Rpc::NodeUnpublishVolume, request, |one| About::volume(&one.volume_id), node::unpublish).await
    }
    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Answer<NodeGetVolumeStatsResponse> {
        self.read(Rpc::NodeGetVolumeStats, request, |one| About::looked_at(&one.volume_id), stats::stats).await
    }
    async fn node_expand_volume(&self, request: Request<NodeExpandVolumeRequest>) -> Answer<NodeExpandVolumeResponse> {
        self.change(Rpc::NodeExpandVolume, request, |one| About::volume(&one.volume_id), expand::node_expand).await
    }
    async fn node_get_capabilities(
        &self,
        request: Request<NodeGetCapabilitiesRequest>,
    ) -> Answer<NodeGetCapabilitiesResponse> {
        self.told(Rpc::NodeGetCapabilities, &request, |settings| Ok(node::capabilities(settings)))
    }
    async fn node_get_info(&self, request: Request<NodeGetInfoRequest>) -> Answer<NodeGetInfoResponse> {
        self.told(Rpc::NodeGetInfo, &request, node::info)
    }
    async fn node_get_volume_health(
        &self,
        request: Request<NodeGetVolumeHealthRequest>,
    ) -> Answer<NodeGetVolumeHealthResponse> {
        self.v1_13()?;
        self.read(Rpc::NodeGetVolumeHealth, request, |one| About::looked_at(&one.volume_id), health::node_get).await
    }
    async fn node_get_storage_health(
        &self,
        request: Request<NodeGetStorageHealthRequest>,
    ) -> Answer<NodeGetStorageHealthResponse> {
        self.v1_13()?;
        self.read(Rpc::NodeGetStorageHealth, request, |_| About::nothing(), health::storage).await
    }
}
