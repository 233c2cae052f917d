//! The life of the daemon: lock, sockets, recovery, service, an orderly end.
//!
//! The control socket answers from the first moment on, `not_ready` until recovery is over, so that a client can tell a
//! daemon that recovers from one that does not run. Ending changes nothing in the kernel: volumes stay mounted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use vol_api::Problem;

use crate::access::{Access, system_lookup};
use crate::activation::{self, Handed};
use crate::api::Backend;
use crate::config::{Config, MetricsListen};
use crate::server::{Front, Limits, MetricsState};
use crate::socket::{BoundSocket, Reach, RunLock};
use crate::{metrics, notify, server};

/// How long running changes may take to end once the daemon was asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How often the service manager hears that recovery goes on, and how much more time it is asked for.
const RECOVERY_TICK: Duration = Duration::from_secs(10);
const RECOVERY_EXTENSION: Duration = Duration::from_secs(60);

/// Opens the host and recovers: `backend::open`, or a test's.
pub trait Open: FnOnce(&Config) -> anyhow::Result<Arc<dyn Backend>> + Send + 'static {}

impl<F: FnOnce(&Config) -> anyhow::Result<Arc<dyn Backend>> + Send + 'static> Open for F {}

/// Runs the daemon until SIGTERM or SIGINT, with the backend that `open` recovers.
///
/// # Errors
/// It cannot start: another daemon runs, the socket cannot be made, or the backend cannot open its host.
pub fn run(config: Config, open: impl Open) -> anyhow::Result<()> {
    let handed = activation::take().context("the sockets from systemd")?;
    let lock = RunLock::take(&config.run_dir)?;
    let access = Access::new(&config, vol_linux::group_id);
    for group in access.missing() {
        tracing::info!(group = %group.name, "the group of the role {:?} does not exist on this host", group.role.as_str());
    }
    // One thread takes requests apart and puts answers together: what works or reads is done by others, and with more of them here
    // each request would wake threads that have nothing to do but to hand it on.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the threads of the server")?;
    let result = runtime.block_on(serve(config, open, access, handed, &lock));
    // A change that outlasts its limit is cut off with the process; recovery takes it from there.
    runtime.shutdown_background();
    result
}

async fn serve(config: Config, open: impl Open, access: Access, handed: Handed, lock: &RunLock) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);

    let (listener, bound) = match handed.control {
        Some(listener) => (listener, None),
        None => {
            let reach = Reach::for_groups(&access.gids());
            let (listener, bound) = BoundSocket::bind(&config.socket, reach, lock)?;
            (listener, Some(bound))
        }
    };
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let shown =
        address.as_pathname().map_or_else(|| "a socket from systemd".to_owned(), |path| path.display().to_string());
    let listener = UnixListener::from_std(listener)?;
    let front = Arc::new(Front::new(access, Limits::default()));
    front.keys().keep_in(&config.state_dir);
    let mut control = tokio::spawn(server::run(listener, Arc::clone(&front), system_lookup(), stopped.clone()));
    front.set_metrics(start_metrics(&config, handed.metrics, &front, stopped).await);

    tracing::info!(socket = %shown, version = env!("CARGO_PKG_VERSION"), "listening; recovering volume groups");
    let ended = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    tokio::pin!(ended);
    let opened = tokio::select! {
        opened = recover(config, open) => Some(opened),
        _ = &mut ended => None,
    };
    let result = match opened {
        None => Ok(()),
        Some(Err(error)) => Err(error.context("recovery failed")),
        Some(Ok(backend)) => {
            front.set_backend(Arc::clone(&backend));
            notify::ready(&format!("Serving on {shown}"));
            tracing::info!("ready");
            let signal = ended.await;
            tracing::info!(signal, "stopping");
            backend.stopping();
            finish(&front, &stop, &mut control).await;
            backend.stop();
            Ok(())
        }
    };
    if let Some(bound) = bound {
        bound.remove();
    }
    result
}

/// Opens the backend on a thread of its own, and keeps the service manager patient meanwhile.
async fn recover(config: Config, open: impl Open) -> anyhow::Result<Arc<dyn Backend>> {
    notify::status("Recovering volume groups");
    let mut opening = tokio::task::spawn_blocking(move || open(&config));
    let mut tick = tokio::time::interval(RECOVERY_TICK);
    loop {
        tokio::select! {
            opened = &mut opening => return opened.context("it ended with a defect")?,
            _ = tick.tick() => notify::extend_start(RECOVERY_EXTENSION),
        }
    }
}

/// Takes no new work, lets running changes and answers end, up to the limit.
async fn finish(front: &Front, stop: &watch::Sender<bool>, control: &mut tokio::task::JoinHandle<()>) {
    front.stop_changes();
    notify::stopping(&format!("Stopping; changes under way: {}", front.running_changes()));
    stop.send_replace(true);
    let all = async {
        let _ = control.await;
        // Changes whose client went away have no connection to wait for.
        while front.running_changes() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
        let changes = front.running_changes();
        tracing::warn!(
            changes,
            "not everything ended in {} s; the next start takes it from there",
            STOP_LIMIT.as_secs()
        );
    }
}

/// Starts the metrics listener. That it cannot listen is a problem to show, not a reason to do without volumes.
async fn start_metrics(
    config: &Config,
    handed: Option<std::net::TcpListener>,
    front: &Arc<Front>,
    stop: watch::Receiver<bool>,
) -> MetricsState {
    let (listener, wanted) = match (handed, config.metrics_listen) {
        (Some(listener), _) => {
            let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
            (listener, "the socket from systemd".to_owned())
        }
        (None, MetricsListen::Off) => return MetricsState::default(),
        (None, MetricsListen::At(address)) => {
            warn_if_open(address);
            (TcpListener::bind(address).await, address.to_string())
        }
    };
    match listener.and_then(|listener| Ok((listener.local_addr()?, listener))) {
        Ok((address, listener)) => {
            tokio::spawn(metrics::run(listener, Arc::clone(front), stop));
            MetricsState { listen: Some(address.to_string()), problem: None }
        }
        Err(error) => {
            tracing::warn!(%error, "metrics are not served: cannot listen at {wanted}");
            let problem = Problem {
                code: "metrics_unavailable".to_owned(),
                message: format!("metrics are not served: cannot listen at {wanted}: {error}"),
                hint: "set metrics_listen in /etc/volumed/volumed.toml to another address or \"off\", then restart volumed"
                    .to_owned(),
            };
            MetricsState { listen: None, problem: Some(problem) }
        }
    }
}

fn warn_if_open(address: SocketAddr) {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "metrics are served to other hosts, without a password");
    }
}

#[cfg(test)]
mod tests;
