//! The real services over a simulated machine, asked over a real socket.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tonic::{Code, Status};
use vol_csi::client::{Wire, connect};
use vol_csi::csi::*;
use vol_csi::{Mode, Rpc};
use vol_sim::SimHost;

use super::{Desk, Shared, router};
use crate::access::{Access, Credentials};
use crate::api::{Backend as _, Life as _};
use crate::backend::tests::{Sim, done, machine, pool_request, start, vg_request, volume};
use crate::config::Config;
use crate::server::{Front, Limits, serve_grpc};
use crate::settings::Settings;

mod away;
mod block;
mod copies;
mod deaths;
mod health;
mod kubelet;
mod life;
mod metadata;
mod parameters;
mod paths;
mod rules;

const GIB: i64 = 1 << 30;
const KUBELET: &str = "/var/lib/kubelet";

/// The driver of a simulated machine.
struct Driver {
    dir: TempDir,
    host: SimHost,
    backend: Arc<Sim>,
    front: Arc<Front>,
    shared: Arc<Shared>,
    user: Arc<Mutex<u32>>,
    _stop: watch::Sender<bool>,
}

impl Driver {
    /// With the VG `data` and its pool `tank`.
    fn start() -> Self {
        Self::start_with("")
    }

    /// With this in its configuration besides.
    fn start_with(more: &str) -> Self {
        let driver = Self::configured(tempfile::tempdir().unwrap(), machine(), more);
        done(driver.backend.create_vg(vg_request(), false));
        done(driver.backend.create_pool(pool_request(), false));
        driver.ready();
        driver
    }

    /// A daemon after this one, with what is left of it.
    fn again(self) -> Self {
        let Self { dir, host, .. } = self;
        std::fs::remove_file(dir.path().join("csi.sock")).unwrap();
        let driver = Self::recovering(dir, host);
        driver.ready();
        driver
    }

    fn recovering(dir: TempDir, host: SimHost) -> Self {
        Self::configured(dir, host, "")
    }

    /// With more lines of the configuration.
    fn configured(dir: TempDir, host: SimHost, more: &str) -> Self {
        let front = Arc::new(Front::new(Access::new(&Config::default(), |_| None), Limits::default()));
        let config = format!("run_dir = {:?}\ncsi.node = \"n1\"\n{more}", dir.path());
        front.set_settings(Arc::new(Settings::from(Config::parse(&config).unwrap())));
        let (stop, stopped) = watch::channel(false);
        let user = Arc::new(Mutex::new(0));
        let listener = UnixListener::bind(dir.path().join("csi.sock")).unwrap();
        let asking = Arc::clone(&user);
        let lookup = Arc::new(move |_: &UnixStream| {
            Ok(Credentials { uid: *asking.lock().unwrap(), gid: 0, pid: None, groups: vec![] })
        });
        let shared = Arc::new(Shared::new(dir.path()));
        let desk = Desk { front: Arc::clone(&front), shared: Arc::clone(&shared) };
        tokio::spawn(serve_grpc(listener, router(&Arc::new(desk)), Arc::clone(&front), lookup, stopped));
        let backend = start(&host).remembering_groups(dir.path()).called_in_csi(Some("n1".to_owned()));
        let backend = Arc::new(backend);
        Self { dir, host, backend, front, shared, user, _stop: stop }
    }

    fn ready(&self) {
        self.front.set_backend(self.backend.clone());
    }

    async fn wire(&self) -> Wire {
        let stream = UnixStream::connect(self.dir.path().join("csi.sock")).await.unwrap();
        let (wire, moving) = connect(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(moving);
        wire
    }

    async fn create(&self, request: CreateVolumeRequest) -> Result<Volume, Status> {
        let answer = self.wire().await.controller().create_volume(request).await?;
        Ok(answer.into_inner().volume.unwrap())
    }

    /// A volume of 1 GiB with its id.
    async fn made(&self, name: &str) -> String {
        self.create(asked(name, GIB)).await.unwrap().volume_id
    }

    async fn stage(&self, request: NodeStageVolumeRequest) -> Result<(), Status> {
        self.wire().await.node().node_stage_volume(request).await.map(drop)
    }
    async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Status> {
        self.wire().await.node().node_publish_volume(request).await.map(drop)
    }
    async fn unpublish(&self, id: &str, target: &str) -> Result<(), Status> {
        let request = NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: target.into() };
        self.wire().await.node().node_unpublish_volume(request).await.map(drop)
    }
    async fn unstage(&self, id: &str, at: &str) -> Result<(), Status> {
        let request = NodeUnstageVolumeRequest { volume_id: id.into(), staging_target_path: at.into() };
        self.wire().await.node().node_unstage_volume(request).await.map(drop)
    }
    async fn delete(&self, id: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest { volume_id: id.into() };
        self.wire().await.controller().delete_volume(request).await.map(drop)
    }
    async fn listed(&self) -> Vec<String> {
        let answer = self.wire().await.controller().list_volumes(ListVolumesRequest::default()).await.unwrap();
        let volume = |entry: list_volumes_response::Entry| entry.volume.unwrap().volume_id;
        answer.into_inner().entries.into_iter().map(volume).collect()
    }

    fn mounts(&self, id: &str) -> Vec<(String, bool)> {
        let all = self.backend.volumes(None).unwrap();
        let info = all.iter().find(|one| id.starts_with(&one.id)).unwrap();
        info.mounts.iter().map(|mount| (mount.path.clone(), mount.read_only)).collect()
    }
}

fn mount(fs: &str, flags: &[&str], mode: Mode) -> VolumeCapability {
    let flags = flags.iter().map(ToString::to_string).collect();
    let mount = volume_capability::MountVolume { fs_type: fs.into(), mount_flags: flags, ..Default::default() };
    VolumeCapability {
        access_mode: Some(volume_capability::AccessMode { mode: mode.into() }),
        access_type: Some(volume_capability::AccessType::Mount(mount)),
    }
}

fn usual() -> VolumeCapability {
    mount("", &[], Mode::SingleNodeMultiWriter)
}

fn asked(name: &str, size: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: size }),
        volume_capabilities: vec![usual()],
        ..Default::default()
    }
}

fn staging(id: &str) -> String {
    format!("{KUBELET}/plugins/kubernetes.io/csi/csi.volumed.io/{id}/globalmount")
}

fn target(pod: &str) -> String {
    format!("{KUBELET}/pods/{pod}/volumes/kubernetes.io~csi/pv/mount")
}

fn to_stage(id: &str, capability: VolumeCapability) -> NodeStageVolumeRequest {
    NodeStageVolumeRequest {
        volume_id: id.into(),
        staging_target_path: staging(id),
        volume_capability: Some(capability),
        ..Default::default()
    }
}

fn to_publish(id: &str, pod: &str, capability: VolumeCapability) -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: id.into(),
        staging_target_path: staging(id),
        target_path: target(pod),
        volume_capability: Some(capability),
        ..Default::default()
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, Status>) -> Code {
    let status = answer.unwrap_err();
    assert!(!status.message().is_empty() && status.details().is_empty(), "{status:?}");
    status.code()
}
