//! The socket: handed over by systemd, or made here. It is root's alone: who may ask here for a mount may have any.

use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vol_api::Problem;

use super::{Desk, Shared, registration, router};
use crate::access::system_lookup;
use crate::config::Config;
use crate::server::{self, Front};
use crate::socket::{BoundSocket, Reach, RunLock};

/// What is listened at.
#[derive(Default)]
pub struct Socket {
    listener: Option<UnixListener>,
    /// Where it is, for the kubelet.
    path: Option<PathBuf>,
    bound: Option<BoundSocket>,
    problem: Option<Problem>,
    task: Option<JoinHandle<()>>,
}

/// Takes up or makes the socket. That it cannot be had is a problem to show: all else is served.
pub fn open(config: &Config, handed: Option<StdListener>, lock: &RunLock) -> Socket {
    let mut socket = Socket::default();
    let opened = match (handed, &config.csi.socket) {
        (Some(listener), _) => socket.listen(listener),
        (None, Some(path)) => socket.bind(path, lock),
        (None, None) => Ok(()),
    };
    if let Err(error) = opened {
        let message = format!("the Container Storage Interface is not served: {error:#}");
        tracing::warn!("{message}");
        socket.problem = Some(Problem {
            code: "csi_socket_unavailable".to_owned(),
            message,
            hint: "put right what it says, or set socket in [csi] of /etc/volumed/volumed.toml; then restart volumed"
                .to_owned(),
        });
    }
    socket
}

impl Socket {
    fn bind(&mut self, path: &Path, lock: &RunLock) -> anyhow::Result<()> {
        let (listener, bound) = BoundSocket::bind(path, Reach::Owner, lock)?;
        self.bound = Some(bound);
        self.listen(listener)
    }

    fn listen(&mut self, listener: StdListener) -> anyhow::Result<()> {
        listener.set_nonblocking(true)?;
        self.path = listener.local_addr()?.as_pathname().map(Path::to_owned);
        self.listener = Some(UnixListener::from_std(listener)?);
        Ok(())
    }

    /// Why it could not be had.
    pub fn problem(&self) -> Option<Problem> {
        self.problem.clone()
    }

    /// Serves until `stop` turns true. Requests wait until `front` has a backend.
    pub fn serve(&mut self, config: &Config, front: &Arc<Front>, lock: &Arc<RunLock>, stop: &watch::Receiver<bool>) {
        if let (true, Some(path)) = (config.csi.register, self.path.clone()) {
            let (csi, lock, stop) = (config.csi.clone(), Arc::clone(lock), stop.clone());
            tokio::spawn(registration::run(csi, path, lock, (Arc::clone(front), system_lookup()), stop));
        }
        if let Some(listener) = self.listener.take() {
            let desk = Desk { front: Arc::clone(front), shared: Arc::new(Shared::new(&config.run_dir)) };
            let (router, front, stop) = (router(&Arc::new(desk)), Arc::clone(front), stop.clone());
            self.task = Some(tokio::spawn(server::serve_grpc(listener, router, front, system_lookup(), stop)));
        }
    }

    /// Waits until those who had asked have had their answers.
    pub async fn ended(&mut self) {
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }

    /// Removes the socket if it was made here.
    pub fn remove(&self) {
        if let Some(bound) = &self.bound {
            bound.remove();
        }
    }
}
