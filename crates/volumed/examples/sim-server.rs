//! The control server over a simulated machine, on TCP and for everybody: to try requests, and for `tests/schemathesis.rs`.
//!
//! `cargo run -p volumed --example sim-server -- 127.0.0.1:8080`, then `curl http://127.0.0.1:8080/v1/status`. The machine has four disks,
//! the VG `data` on two of them, its pool `tank`, the volumes `pg` (ext4) and `raw`, and the snapshot `pg@before`. After
//! [`LIFE`] requests it is made anew, so that what was deleted is there again.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use vol_api::{ApiError, CreatePool, CreateSnapshot, CreateVg, CreateVolume};
use vol_engine::Engine;
use vol_sim::{SimDisk, SimHost};
use vol_types::Bytes;
use volumed::access::{Access, Credentials, Peer, Role};
use volumed::api::Backend;
use volumed::backend::{EngineBackend, Facts};
use volumed::server::{Front, Limits, router, serve_http};

/// Requests that a machine lives through.
pub const LIFE: usize = 40;

/// A server over a machine of its own.
fn furnished(limits: Limits) -> Result<Router, ApiError> {
    let host = SimHost::new(7);
    for name in ["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd"] {
        host.add_disk(SimDisk::new(name, Bytes::gib(4)));
    }
    let backend = EngineBackend::new(Engine::new(host), Facts::default());
    let backend = backend.keeping_deleted(Some(std::time::Duration::from_secs(3600)));
    let devices = vec!["/dev/sda".to_owned(), "/dev/sdb".to_owned()];
    backend.create_vg(CreateVg { name: "data".into(), devices, ..CreateVg::default() }, false)?;
    let pool = CreatePool { vg: "data".into(), name: "tank".into(), size: "50%FREE".into(), ..CreatePool::default() };
    backend.create_pool(pool, false)?;
    for (name, fs) in [("pg", "ext4"), ("raw", "none")] {
        let fs = Some(fs.to_owned());
        let volume =
            CreateVolume { vg: "data".into(), name: name.into(), size: "1G".into(), fs, ..CreateVolume::default() };
        backend.create_volume(volume, false)?;
    }
    let snapshot =
        CreateSnapshot { vg: "data".into(), volume: "pg".into(), name: "before".into(), ..CreateSnapshot::default() };
    backend.create_snapshot(snapshot, false)?;
    let front = Arc::new(Front::new(Access::default(), limits));
    front.set_backend(Arc::new(backend));
    Ok(router(front))
}

/// The machine of the moment, and how many requests it has seen.
struct Machine {
    now: Mutex<(Option<Router>, usize)>,
    limits: Limits,
}

impl Machine {
    fn router(&self) -> Result<Router, ApiError> {
        let mut it = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (router, seen) = &mut *it;
        if *seen % LIFE == 0 {
            *router = Some(furnished(self.limits)?);
        }
        *seen += 1;
        router.clone().ok_or_else(|| ApiError::internal("there is no machine"))
    }
}

async fn answer(machine: Arc<Machine>, request: Request) -> Response {
    let router = machine.router().expect("the machine cannot be furnished");
    match TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Serves until the task is dropped; everybody is admin.
///
/// # Errors
/// Of the listener.
pub async fn serve(listener: TcpListener, limits: Limits) -> std::io::Result<()> {
    let machine = Arc::new(Machine { now: Mutex::default(), limits });
    let router = Router::new().fallback(move |request: Request| answer(Arc::clone(&machine), request));
    let credentials = Credentials { uid: 0, gid: 0, pid: None, groups: vec![] };
    let peer = Peer { credentials, role: Some(Role::Admin) };
    let (_stop, stopped) = watch::channel(false);
    loop {
        let (stream, _) = listener.accept().await?;
        let (router, peer, stopped) = (router.clone(), peer.clone(), stopped.clone());
        tokio::spawn(async move { serve_http(stream, router, peer, &limits, stopped).await });
    }
}

#[tokio::main]
#[allow(dead_code, reason = "not of the test that has this file as a module")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("http://{}", listener.local_addr()?);
    serve(listener, Limits::default()).await
}
