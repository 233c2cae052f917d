//! Plays an orchestrator on the daemon's socket: the provisioner and the kubelet in one.

use std::future::Future;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::{Code, Status};
use vol_csi::Mode;
use vol_csi::client::{Wire, connect};
use vol_csi::csi::*;

/// A client of one socket; it connects for each request, so that daemons may come and go.
pub struct Orchestrator {
    socket: PathBuf,
    /// The kubelet's directory.
    kubelet: String,
    runtime: Runtime,
}

impl Orchestrator {
    pub fn new(socket: impl Into<PathBuf>, kubelet: &str) -> Orchestrator {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Orchestrator { socket: socket.into(), kubelet: kubelet.to_owned(), runtime }
    }

    fn ask<R, F: Future<Output = Result<R, Status>>>(&self, what: impl FnOnce(Wire) -> F) -> Result<R, Status> {
        self.runtime.block_on(async {
            let stream = UnixStream::connect(&self.socket).await.unwrap();
            let (wire, moving) = connect(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(moving);
            what(wire).await
        })
    }

    /// The place for staging of a volume.
    pub fn staging(&self, id: &str) -> String {
        format!("{}/plugins/kubernetes.io/csi/csi.volumed.io/{id}/globalmount", self.kubelet)
    }

    /// Where a pod is given a volume.
    pub fn target(&self, pod: &str) -> String {
        format!("{}/pods/{pod}/volumes/kubernetes.io~csi/pv/mount", self.kubelet)
    }

    pub fn ready(&self) -> bool {
        let answer = self.ask(|wire| async move { wire.identity().probe(ProbeRequest {}).await });
        answer.is_ok_and(|answer| answer.into_inner().ready == Some(true))
    }

    /// Its id and size.
    pub fn create(&self, name: &str, size: i64, capability: &VolumeCapability) -> Result<(String, i64), Status> {
        let request = CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: size }),
            volume_capabilities: vec![capability.clone()],
            ..Default::default()
        };
        let answer = self.ask(|wire| async move { wire.controller().create_volume(request).await })?;
        let volume = answer.into_inner().volume.unwrap();
        Ok((volume.volume_id, volume.capacity_bytes))
    }

    pub fn delete(&self, id: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest { volume_id: id.to_owned() };
        self.ask(|wire| async move { wire.controller().delete_volume(request).await.map(drop) })
    }

    pub fn stage(&self, id: &str, capability: &VolumeCapability) -> Result<(), Status> {
        let request = NodeStageVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: self.staging(id),
            volume_capability: Some(capability.clone()),
            ..Default::default()
        };
        self.ask(|wire| async move { wire.node().node_stage_volume(request).await.map(drop) })
    }

    pub fn unstage(&self, id: &str) -> Result<(), Status> {
        let request = NodeUnstageVolumeRequest { volume_id: id.to_owned(), staging_target_path: self.staging(id) };
        self.ask(|wire| async move { wire.node().node_unstage_volume(request).await.map(drop) })
    }

    pub fn publish(&self, id: &str, pod: &str, read_only: bool, capability: &VolumeCapability) -> Result<(), Status> {
        let request = NodePublishVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: self.staging(id),
            target_path: self.target(pod),
            volume_capability: Some(capability.clone()),
            readonly: read_only,
            ..Default::default()
        };
        self.ask(|wire| async move { wire.node().node_publish_volume(request).await.map(drop) })
    }

    /// Where a pod is given a device, as the kubelet has it.
    pub fn device(&self, pod: &str) -> String {
        format!("{}/plugins/kubernetes.io/csi/volumeDevices/publish/pv/{pod}", self.kubelet)
    }

    /// Shows a raw volume to a pod.
    pub fn show(&self, id: &str, at: &str, read_only: bool, mode: Mode) -> Result<(), Status> {
        let request = NodePublishVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: self.staging(id),
            target_path: at.to_owned(),
            volume_capability: Some(raw(mode)),
            readonly: read_only,
            ..Default::default()
        };
        self.ask(|wire| async move { wire.node().node_publish_volume(request).await.map(drop) })
    }

    pub fn unpublish(&self, id: &str, pod: &str) -> Result<(), Status> {
        self.unpublish_at(id, &self.target(pod))
    }

    pub fn unpublish_at(&self, id: &str, at: &str) -> Result<(), Status> {
        let request = NodeUnpublishVolumeRequest { volume_id: id.to_owned(), target_path: at.to_owned() };
        self.ask(|wire| async move { wire.node().node_unpublish_volume(request).await.map(drop) })
    }

    /// The ids of snapshots of these volumes of one instant.
    pub fn snapshots(&self, name: &str, of: &[&str]) -> Result<Vec<String>, Status> {
        let source_volume_ids = of.iter().map(ToString::to_string).collect();
        let request =
            CreateVolumeGroupSnapshotRequest { name: name.to_owned(), source_volume_ids, ..Default::default() };
        let answer =
            self.ask(|wire| async move { wire.group_controller().create_volume_group_snapshot(request).await })?;
        let group = answer.into_inner().group_snapshot.unwrap();
        Ok(group.snapshots.into_iter().map(|one| one.snapshot_id).collect())
    }

    /// The volume that a snapshot is of.
    pub fn source(&self, snapshot: &str) -> Result<String, Status> {
        let request = GetSnapshotRequest { snapshot_id: snapshot.to_owned() };
        let answer = self.ask(|wire| async move { wire.controller().get_snapshot(request).await })?;
        Ok(answer.into_inner().snapshot.unwrap().source_volume_id)
    }

    /// A volume from a snapshot; its id and size.
    pub fn restore(
        &self,
        name: &str,
        snapshot: &str,
        size: i64,
        capability: &VolumeCapability,
    ) -> Result<(String, i64), Status> {
        let of = volume_content_source::SnapshotSource { snapshot_id: snapshot.to_owned() };
        let request = CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: size }),
            volume_capabilities: vec![capability.clone()],
            volume_content_source: Some(VolumeContentSource {
                r#type: Some(volume_content_source::Type::Snapshot(of)),
            }),
            ..Default::default()
        };
        let answer = self.ask(|wire| async move { wire.controller().create_volume(request).await })?;
        let volume = answer.into_inner().volume.unwrap();
        Ok((volume.volume_id, volume.capacity_bytes))
    }

    /// Ranges of bytes that are in use, or that changed since `base`; so many in each message at most, from this byte on.
    pub fn changed(
        &self,
        base: Option<&str>,
        target: &str,
        (from, most): (i64, i32),
    ) -> Result<Vec<std::ops::Range<u64>>, Status> {
        let mut all = Vec::new();
        let mut take = |ranges: Vec<BlockMetadata>| {
            assert!(most == 0 || ranges.len() <= most as usize);
            all.extend(ranges.iter().map(|one| one.byte_offset as u64..(one.byte_offset + one.size_bytes) as u64));
        };
        let target = target.to_owned();
        if let Some(base) = base {
            let request = GetMetadataDeltaRequest {
                base_snapshot_id: base.to_owned(),
                target_snapshot_id: target,
                starting_offset: from,
                max_results: most,
            };
            self.ask(|wire| async move {
                let mut stream = wire.snapshot_metadata().get_metadata_delta(request).await?.into_inner();
                while let Some(message) = stream.message().await? {
                    take(message.block_metadata);
                }
                Ok(())
            })?;
        } else {
            let request = GetMetadataAllocatedRequest { snapshot_id: target, starting_offset: from, max_results: most };
            self.ask(|wire| async move {
                let mut stream = wire.snapshot_metadata().get_metadata_allocated(request).await?.into_inner();
                while let Some(message) = stream.message().await? {
                    take(message.block_metadata);
                }
                Ok(())
            })?;
        }
        assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].start), "{all:?}");
        Ok(all)
    }

    /// The size afterwards.
    pub fn expand(&self, id: &str, size: i64) -> Result<i64, Status> {
        let request = ControllerExpandVolumeRequest {
            volume_id: id.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: 0 }),
            ..Default::default()
        };
        let answer = self.ask(|wire| async move { wire.controller().controller_expand_volume(request).await })?;
        Ok(answer.into_inner().capacity_bytes)
    }

    /// Total, used and available, of bytes and then of inodes.
    pub fn usage(&self, id: &str, at: &str) -> Result<Vec<(i64, i64, i64)>, Status> {
        let request =
            NodeGetVolumeStatsRequest { volume_id: id.to_owned(), volume_path: at.to_owned(), ..Default::default() };
        let answer = self.ask(|wire| async move { wire.node().node_get_volume_stats(request).await })?;
        Ok(answer.into_inner().usage.iter().map(|one| (one.total, one.used, one.available)).collect())
    }

    /// A volume of this size that lives and dies with the pod.
    pub fn publish_inline(&self, id: &str, pod: &str, size: &str) -> Result<(), Status> {
        let context = [("csi.storage.k8s.io/ephemeral", "true"), ("csi.storage.k8s.io/pod.name", pod), ("size", size)];
        let request = NodePublishVolumeRequest {
            volume_id: id.to_owned(),
            target_path: self.target(pod),
            volume_capability: Some(mounted("", &[], Mode::SingleNodeWriter)),
            volume_context: context.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Default::default()
        };
        self.ask(|wire| async move { wire.node().node_publish_volume(request).await.map(drop) })
    }

    /// Makes the directory above a pod's place, as the kubelet does.
    pub fn prepare(&self, pod: &str) {
        std::fs::create_dir_all(Path::new(&self.target(pod)).parent().unwrap()).unwrap();
    }
}

/// To be mounted, with this file system (`""`: any).
pub fn mounted(fs: &str, flags: &[&str], mode: Mode) -> VolumeCapability {
    let flags = flags.iter().map(ToString::to_string).collect();
    let mount = volume_capability::MountVolume { fs_type: fs.to_owned(), mount_flags: flags, ..Default::default() };
    VolumeCapability {
        access_mode: Some(volume_capability::AccessMode { mode: mode.into() }),
        access_type: Some(volume_capability::AccessType::Mount(mount)),
    }
}

/// As a device.
pub fn raw(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(volume_capability::AccessMode { mode: mode.into() }),
        access_type: Some(volume_capability::AccessType::Block(volume_capability::BlockVolume {})),
    }
}

/// The code of a refusal.
#[track_caller]
pub fn code<R: std::fmt::Debug>(answer: Result<R, Status>) -> Code {
    answer.expect_err("it was not refused").code()
}
