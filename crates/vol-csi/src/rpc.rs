//! The requests by their names.

/// A request of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rpc {
    GetPluginInfo,
    GetPluginCapabilities,
    Probe,
    CreateVolume,
    DeleteVolume,
    ValidateVolumeCapabilities,
    ListVolumes,
    GetCapacity,
    ControllerGetCapabilities,
    CreateSnapshot,
    DeleteSnapshot,
    ListSnapshots,
    GetSnapshot,
    ControllerExpandVolume,
    ControllerGetVolume,
    ControllerModifyVolume,
    GroupControllerGetCapabilities,
    CreateVolumeGroupSnapshot,
    DeleteVolumeGroupSnapshot,
    GetVolumeGroupSnapshot,
    NodeGetVolumeStats,
    NodeExpandVolume,
    NodeStageVolume,
    NodeUnstageVolume,
    NodePublishVolume,
    NodeUnpublishVolume,
    NodeGetCapabilities,
    NodeGetInfo,
    ControllerListVolumeHealth,
    ControllerGetVolumeHealth,
    NodeGetVolumeHealth,
    NodeGetStorageHealth,
}

impl Rpc {
    pub const ALL: [Self; 32] = [
        Self::GetPluginInfo,
        Self::GetPluginCapabilities,
        Self::Probe,
        Self::CreateVolume,
        Self::DeleteVolume,
        Self::ValidateVolumeCapabilities,
        Self::ListVolumes,
        Self::GetCapacity,
        Self::ControllerGetCapabilities,
        Self::CreateSnapshot,
        Self::DeleteSnapshot,
        Self::ListSnapshots,
        Self::GetSnapshot,
        Self::ControllerExpandVolume,
        Self::ControllerGetVolume,
        Self::ControllerModifyVolume,
        Self::GroupControllerGetCapabilities,
        Self::CreateVolumeGroupSnapshot,
        Self::DeleteVolumeGroupSnapshot,
        Self::GetVolumeGroupSnapshot,
        Self::NodeGetVolumeStats,
        Self::NodeExpandVolume,
        Self::NodeStageVolume,
        Self::NodeUnstageVolume,
        Self::NodePublishVolume,
        Self::NodeUnpublishVolume,
        Self::NodeGetCapabilities,
        Self::NodeGetInfo,
        Self::ControllerListVolumeHealth,
        Self::ControllerGetVolumeHealth,
        Self::NodeGetVolumeHealth,
        Self::NodeGetStorageHealth,
    ];

    /// In the log, in events and in metrics; these never change.
    pub const fn operation(self) -> &'static str {
        match self {
            Self::GetPluginInfo => "csi.get-plugin-info",
            Self::GetPluginCapabilities => "csi.get-plugin-capabilities",
            Self::Probe => "csi.probe",
            Self::CreateVolume => "csi.create-volume",
            Self::DeleteVolume => "csi.delete-volume",
            Self::ValidateVolumeCapabilities => "csi.validate-volume-capabilities",
            Self::ListVolumes => "csi.list-volumes",
            Self::GetCapacity => "csi.get-capacity",
            Self::ControllerGetCapabilities => "csi.controller-get-capabilities",
            Self::CreateSnapshot => "csi.create-snapshot",
            Self::DeleteSnapshot => "csi.delete-snapshot",
            Self::ListSnapshots => "csi.list-snapshots",
            Self::GetSnapshot => "csi.get-snapshot",
            Self::ControllerExpandVolume => "csi.controller-expand-volume",
            Self::ControllerGetVolume => "csi.controller-get-volume",
            Self::ControllerModifyVolume => "csi.controller-modify-volume",
            Self::GroupControllerGetCapabilities => "csi.group-controller-get-capabilities",
            Self::CreateVolumeGroupSnapshot => "csi.create-volume-group-snapshot",
            Self::DeleteVolumeGroupSnapshot => "csi.delete-volume-group-snapshot",
            Self::GetVolumeGroupSnapshot => "csi.get-volume-group-snapshot",
            Self::NodeGetVolumeStats => "csi.node-get-volume-stats",
            Self::NodeExpandVolume => "csi.node-expand-volume",
            Self::NodeStageVolume => "csi.node-stage-volume",
            Self::NodeUnstageVolume => "csi.node-unstage-volume",
            Self::NodePublishVolume => "csi.node-publish-volume",
            Self::NodeUnpublishVolume => "csi.node-unpublish-volume",
            Self::NodeGetCapabilities => "csi.node-get-capabilities",
            Self::NodeGetInfo => "csi.node-get-info",
            Self::ControllerListVolumeHealth => "csi.controller-list-volume-health",
            Self::ControllerGetVolumeHealth => "csi.controller-get-volume-health",
            Self::NodeGetVolumeHealth => "csi.node-get-volume-health",
            Self::NodeGetStorageHealth => "csi.node-get-storage-health",
        }
    }

    /// Whether it is of those that change something.
    pub const fn is_change(self) -> bool {
        matches!(
            self,
            Self::CreateVolume
                | Self::DeleteVolume
                | Self::CreateSnapshot
                | Self::DeleteSnapshot
                | Self::ControllerExpandVolume
                | Self::ControllerModifyVolume
                | Self::CreateVolumeGroupSnapshot
                | Self::DeleteVolumeGroupSnapshot
                | Self::NodeExpandVolume
                | Self::NodeStageVolume
                | Self::NodeUnstageVolume
                | Self::NodePublishVolume
                | Self::NodeUnpublishVolume
        )
    }

    /// Whether it is answered before volume groups are recovered: it says nothing of volumes.
    pub const fn is_about_driver(self) -> bool {
        matches!(
            self,
            Self::GetPluginInfo
                | Self::GetPluginCapabilities
                | Self::Probe
                | Self::ControllerGetCapabilities
                | Self::GroupControllerGetCapabilities
                | Self::NodeGetCapabilities
                | Self::NodeGetInfo
        )
    }
}
