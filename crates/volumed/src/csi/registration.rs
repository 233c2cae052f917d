//! How the kubelet of this machine is told of the driver: it asks on each socket in its directory `plugins_registry` what is behind it.
//!
//! The socket is made when there is such a directory, also if the kubelet comes after the daemon. It is left when the daemon ends: the kubelet
//! forgets a driver whose socket goes, and a restart of the daemon is no reason for that; the next daemon makes it anew, and the kubelet asks again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use vol_csi::registration::registration_server::{Registration, RegistrationServer};
use vol_csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};

use crate::access::{Peer, PeerLookup};
use crate::config::Csi;
use crate::server::{Front, serve_grpc, stopped};
use crate::socket::{BoundSocket, Reach, RunLock};

/// In the kubelet's directory.
const REGISTRY: &str = "plugins_registry";
/// How often it is looked whether the kubelet's directory is there, and the socket still in it: one `stat(2)`.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The version of the interface that is spoken, as the kubelet wants it.
const VERSION: &str = "1.0.0";

/// What the kubelet is told.
struct Told {
    driver: String,
    endpoint: String,
}

/// Answers the kubelet, which is root.
fn may<Q>(request: &Request<Q>) -> Result<(), Status> {
    match request.extensions().get::<Peer>() {
        Some(peer) if peer.credentials.uid == 0 => Ok(()),
        _ => Err(Status::permission_denied("this socket is the kubelet's, which is root")),
    }
}

#[tonic::async_trait]
impl Registration for Told {
    async fn get_info(&self, request: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        may(&request)?;
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: self.driver.clone(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        may(&request)?;
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        if plugin_registered {
            tracing::info!(driver = self.driver, "the kubelet has registered the driver");
        } else {
            let error: String = error.chars().filter(|c| !c.is_control()).take(500).collect();
            tracing::warn!(driver = self.driver, error, "the kubelet does not register the driver");
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

/// Where the kubelet asks.
pub fn socket(csi: &Csi) -> PathBuf {
    Path::new(&csi.kubelet_dir).join(REGISTRY).join(format!("{}-reg.sock", csi.driver))
}

/// Serves the kubelet until `stop` turns true, whenever it is there.
pub async fn run(
    csi: Csi,
    endpoint: PathBuf,
    lock: Arc<RunLock>,
    (front, lookup): (Arc<Front>, PeerLookup),
    mut stop: watch::Receiver<bool>,
) {
    let path = socket(&csi);
    let told = Told { driver: csi.driver, endpoint: endpoint.display().to_string() };
    let router = Router::new().route_service("/pluginregistration.Registration/{rpc}", RegistrationServer::new(told));
    let mut said = false;
    loop {
        let there = path.parent().is_some_and(Path::is_dir);
        if let Some(listener) = there.then(|| bind(&path, &lock, &mut said)).flatten() {
            let gone = async {
                loop {
                    tokio::time::sleep(LOOK_EVERY).await;
                    if !path.exists() {
                        return;
                    }
                }
            };
            let serving = serve_grpc(listener, router.clone(), Arc::clone(&front), Arc::clone(&lookup), stop.clone());
            tokio::select! {
                () = serving => return,
                () = gone => continue,
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stopped(&mut stop) => return,
        }
    }
}

/// The socket; why there is none is said once.
fn bind(path: &Path, lock: &RunLock, said: &mut bool) -> Option<UnixListener> {
    let bound = BoundSocket::bind(path, Reach::Owner, lock).map_err(anyhow::Error::from).and_then(|(listener, _)| {
        listener.set_nonblocking(true)?;
        Ok(UnixListener::from_std(listener)?)
    });
    match bound {
        Ok(listener) => {
            *said = false;
            Some(listener)
        }
        Err(error) => {
            if !std::mem::replace(said, true) {
                tracing::warn!(socket = %path.display(), "the kubelet is not told of the driver: {error:#}");
            }
            None
        }
    }
}
