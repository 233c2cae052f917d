//! The sockets of the engines: handed over by systemd, or made here.

use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vol_api::Problem;
use vol_docker::Runtime;

use super::{Desk, Shared, router};
use crate::access::system_lookup;
use crate::config::Config;
use crate::server::{self, Front};
use crate::socket::{BoundSocket, Reach, RunLock};

/// What is listened at.
#[derive(Default)]
pub struct Sockets {
    listeners: Vec<(Runtime, UnixListener)>,
    bound: Vec<(Runtime, BoundSocket)>,
    /// systemd's, where it is known.
    handed: Vec<(Runtime, PathBuf)>,
    problems: Vec<Problem>,
    tasks: Vec<JoinHandle<()>>,
    run_dir: PathBuf,
}

/// Who may open the socket of an engine, where the roles give `roles` the control socket. dockerd is root.
const fn reach_of(runtime: Runtime, roles: Reach) -> Reach {
    match runtime {
        Runtime::Docker => Reach::Owner,
        Runtime::Podman => roles,
    }
}

/// Takes up or makes the sockets of Docker and Podman. One that cannot be had is a problem to show: the other, and all volumes, are served.
pub fn open(
    config: &Config,
    (docker, podman): (Option<StdListener>, Option<StdListener>),
    roles: Reach,
    lock: &RunLock,
) -> Sockets {
    let mut sockets = Sockets { run_dir: config.run_dir.clone(), ..Sockets::default() };
    let wanted = [
        (Runtime::Docker, docker, &config.runtimes.docker_socket),
        (Runtime::Podman, podman, &config.runtimes.podman_socket),
    ];
    for (runtime, handed, path) in wanted {
        let reach = reach_of(runtime, roles);
        let opened = match (handed, path) {
            (Some(listener), _) => sockets.adopt(runtime, listener, reach),
            (None, Some(path)) => sockets.bind(runtime, path, reach, lock),
            (None, None) => Ok(()),
        };
        if let Err(error) = opened {
            tracing::warn!("{runtime} is not served: {error:#}");
            sockets.problems.push(Problem {
                code: "runtime_socket_unavailable".to_owned(),
                message: format!("{runtime} is not served: {error:#}"),
                hint: format!("put right what it says, or set {runtime}_socket in [runtimes] of /etc/volumed/volumed.toml; then restart volumed"),
            });
        }
    }
    sockets
}

impl Sockets {
    fn adopt(&mut self, runtime: Runtime, listener: StdListener, reach: Reach) -> anyhow::Result<()> {
        let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
        if let Some(path) = path {
            if !reach.is_given(&path).unwrap_or(false)
                && let Err(error) = reach.give(&path)
            {
                tracing::warn!(socket = %path.display(), %error, "its mode and group could not be set as the configuration wants them");
            }
            self.handed.push((runtime, path));
        }
        self.listen(runtime, listener)
    }

    fn bind(&mut self, runtime: Runtime, path: &Path, reach: Reach, lock: &RunLock) -> anyhow::Result<()> {
        let (listener, bound) = BoundSocket::bind(path, reach, lock)?;
        self.bound.push((runtime, bound));
        self.listen(runtime, listener)
    }

    fn listen(&mut self, runtime: Runtime, listener: StdListener) -> anyhow::Result<()> {
        listener.set_nonblocking(true)?;
        self.listeners.push((runtime, UnixListener::from_std(listener)?));
        Ok(())
    }

    /// What could not be had.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.clone()
    }

    /// Serves until `stop` turns true. Requests wait until `front` has a backend.
    pub fn serve(&mut self, front: &Arc<Front>, stop: &watch::Receiver<bool>) {
        let shared = Arc::new(Shared::new(&self.run_dir));
        for (runtime, listener) in self.listeners.drain(..) {
            let desk = Desk { front: Arc::clone(front), runtime, shared: Arc::clone(&shared) };
            let (router, front, stop) = (router(Arc::new(desk)), Arc::clone(front), stop.clone());
            self.tasks.push(tokio::spawn(server::serve(listener, router, front, system_lookup(), stop)));
        }
    }

    /// Lets others in than before, as the control socket does.
    pub fn reopen_to(&mut self, roles: Reach) {
        let bound = self.bound.iter_mut().map(|(runtime, bound)| bound.reopen_to(reach_of(*runtime, roles)));
        for error in bound.filter_map(Result::err) {
            tracing::warn!(%error, "who may open an engine's socket stays as it was");
        }
        for (runtime, path) in &self.handed {
            if let Err(error) = reach_of(*runtime, roles).give(path) {
                tracing::warn!(socket = %path.display(), %error, "who may open it stays as it was");
            }
        }
    }

    /// Waits until those who had asked have had their answers.
    pub async fn ended(&mut self) {
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
    }

    /// Removes the sockets that were made here.
    pub fn remove(&self) {
        self.bound.iter().for_each(|(_, bound)| bound.remove());
    }
}
