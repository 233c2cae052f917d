//! The life of the daemon: lock, sockets, recovery, service, an orderly end.
//!
//! The control socket answers from the first moment on, `not_ready` until recovery is over, so that a client can tell a
//! daemon that recovers from one that does not run. Ending changes nothing in the kernel: volumes stay mounted.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use vol_api::Problem;
use vol_engine::Progress;

use crate::access::{Access, system_lookup};
use crate::activation::{self, Handed};
use crate::api::{Backend, Summary};
use crate::config::{Config, ConfigError, MetricsListen};
use crate::server::{Front, Limits, MetricsState};
use crate::settings::{Chain, Settings};
use crate::socket::{BoundSocket, Reach, RunLock};
use crate::{csi, descriptors, liveness, metrics, notify, runtimes, server};

/// How long running changes may take to end once the daemon was asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long the end waits after that for what is known of idempotency keys; both together less than `TimeoutStopSec=`.
const KEYS_LIMIT: Duration = Duration::from_secs(5);
/// How often the service manager hears what recovery does, and how much more time it is asked for.
const RECOVERY_TICK: Duration = Duration::from_secs(2);
const RECOVERY_EXTENSION: Duration = Duration::from_secs(60);
/// A recovery that has begun nothing new for so long gets no more: it hangs.
const RECOVERY_STEP_MAX: Duration = Duration::from_secs(600);
/// So long clients wait in a socket of systemd's for a recovery to end; after that each is told that it goes on.
const RECOVERY_QUIET: Duration = Duration::from_secs(5);
/// At the end, how long those who have connected may take to ask; who comes later waits in systemd's socket for the next daemon.
const LAST_REQUESTS: Duration = Duration::from_millis(200);

/// Opens the host and recovers: `backend::open`, or a test's.
pub trait Open: FnOnce(&Config, &Arc<Progress>) -> anyhow::Result<Arc<dyn Backend>> + Send + 'static {}

impl<F: FnOnce(&Config, &Arc<Progress>) -> anyhow::Result<Arc<dyn Backend>> + Send + 'static> Open for F {}

/// Runs the daemon until SIGTERM or SIGINT, with the backend that `open` recovers.
///
/// # Errors
/// It cannot start: another daemon runs, the socket cannot be made, or the backend cannot open its host.
pub fn run(settings: impl Into<Settings>, open: impl Open) -> anyhow::Result<()> {
    let limits = descriptors::share(descriptors::available()?, Limits::default());
    let settings = Arc::new(settings.into());
    let config = settings.running();
    let handed = activation::take().context("the sockets from systemd")?;
    let lock = Arc::new(RunLock::take(&config.run_dir)?);
    let access = Access::new(&config, vol_linux::group_id);
    for group in access.missing() {
        tracing::info!(group = %group.name, "the group of the role {:?} does not exist on this host", group.role.as_str());
    }
    // One thread takes requests apart and puts answers together: what works or reads is done by others, and with more of them here
    // each request would wake threads that have nothing to do but to hand it on.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the threads of the server")?;
    let result = runtime.block_on(serve(&settings, open, access, limits, handed, &lock));
    // A change that outlasts its limit is cut off with the process; recovery takes it from there.
    runtime.shutdown_background();
    result
}

async fn serve(
    settings: &Arc<Settings>,
    open: impl Open,
    access: Access,
    limits: Limits,
    handed: Handed,
    lock: &Arc<RunLock>,
) -> anyhow::Result<()> {
    let config = settings.running();
    // What comes before the daemon can act on it waits for it.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);

    let reach = Reach::for_groups(&access.gids());
    let (listener, mut bound) = match handed.control {
        Some(listener) => {
            adopt(&listener, &config, reach);
            (listener, None)
        }
        None => {
            let (listener, bound) = BoundSocket::bind(&config.socket, reach, lock)?;
            (listener, Some(bound))
        }
    };
    listener.set_nonblocking(true)?;
    let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
    let shown = path.as_ref().map_or_else(|| "a socket from systemd".to_owned(), |path| path.display().to_string());
    let listener = UnixListener::from_std(listener)?;
    let handed_over = bound.is_none();
    let last = if handed_over { LAST_REQUESTS } else { Duration::ZERO };
    let front = Arc::new(Front::new(access, Limits { last_requests: last, ..limits }));
    front.keys().keep_in(&config.state_dir);
    front.set_settings(Arc::clone(settings));
    front.set_metrics(start_metrics(&config, handed.metrics, &front, stopped.clone()).await);

    let mut engines = runtimes::open(&config, (handed.docker, handed.podman), reach, lock);
    let mut csi = csi::open(&config, handed.csi, lock);
    front.set_runtime_problems(engines.problems().into_iter().chain(csi.problem()).collect());
    engines.serve(&front, &stopped);
    csi.serve(&config, &front, lock, &stopped);

    tracing::info!(socket = %shown, version = env!("CARGO_PKG_VERSION"), "listening; recovering volume groups");
    let ended = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    tokio::pin!(ended);
    let recovering = recover(config, open);
    tokio::pin!(recovering);
    let early = tokio::select! {
        opened = &mut recovering, if handed_over => Some(Some(opened)),
        _ = &mut ended => Some(None),
        () = tokio::time::sleep(if handed_over { RECOVERY_QUIET } else { Duration::ZERO }) => None,
    };
    let mut control = tokio::spawn(server::run(listener, Arc::clone(&front), system_lookup(), stopped));
    let opened = match early {
        Some(opened) => opened,
        None => tokio::select! {
            opened = &mut recovering => Some(opened),
            _ = &mut ended => None,
        },
    };
    let result = match opened {
        None => Ok(()),
        Some(Err(error)) => Err(error.context("recovery failed")),
        Some(Ok(backend)) => {
            front.set_backend(Arc::clone(&backend));
            let said = {
                let settings = Arc::clone(settings);
                move |summary: &Summary| with_remark(liveness::line(summary), settings.remark())
            };
            notify::ready(&backend.alive().map_or_else(|error| error, |summary| said(&summary)));
            tracing::info!("ready");
            let runtime = tokio::runtime::Handle::current();
            let watch = liveness::start(runtime, Arc::clone(&backend), control.abort_handle(), said.clone());
            let signal = loop {
                tokio::select! {
                    signal = &mut ended => break signal,
                    _ = hangup.recv() => {
                        reload(settings, &front, &*backend, |reach| {
                            engines.reopen_to(reach);
                            match &mut bound {
                                Some(bound) => Ok(bound.reopen_to(reach)?),
                                None => Ok(path.as_deref().map_or(Ok(()), |path| reach.give(path))?),
                            }
                        })
                        .await;
                        notify::ready(&backend.alive().map_or_else(|error| error, |summary| said(&summary)));
                    }
                }
            };
            drop(watch);
            tracing::info!(signal, "stopping");
            backend.stopping();
            let all = async {
                let _ = (&mut control).await;
                engines.ended().await;
                csi.ended().await;
            };
            finish(&front, &stop, all).await;
            if let Err(error) = front.keys().written(KEYS_LIMIT).await {
                tracing::warn!(%error, "not waited for");
            }
            backend.stop();
            Ok(())
        }
    };
    if let Some(bound) = bound {
        bound.remove();
    }
    engines.remove();
    csi.remove();
    result
}

/// Takes up a socket that systemd made. Who may open it is as the configuration says, and not as the unit does, which does not know it.
fn adopt(listener: &std::os::unix::net::UnixListener, config: &Config, reach: Reach) {
    let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
    let Some(path) = path else { return };
    if path != config.socket {
        tracing::warn!(
            socket = %path.display(),
            "the configuration wants the socket at {}; volumed.socket decides: see `systemctl edit volumed.socket`",
            config.socket.display()
        );
    }
    match reach.is_given(&path) {
        Ok(true) => {}
        Ok(false) => {
            if let Err(error) = reach.give(&path) {
                tracing::warn!(socket = %path.display(), %error, "its mode and group could not be set as the configuration wants them");
            }
        }
        Err(error) => tracing::warn!(socket = %path.display(), %error, "its mode and group cannot be read"),
    }
}

/// Reads the configuration again and takes over what can change. `reopen` says who may open the control socket.
async fn reload(
    settings: &Arc<Settings>,
    front: &Front,
    backend: &dyn Backend,
    reopen: impl FnOnce(Reach) -> anyhow::Result<()>,
) {
    notify::reloading();
    // Not on the server's thread: a host may look its groups up elsewhere, and wait.
    let read = {
        let settings = Arc::clone(settings);
        move || {
            let reloaded = settings.reload()?;
            let access = Access::new(&reloaded.config, vol_linux::group_id);
            Ok::<_, ConfigError>((reloaded, access))
        }
    };
    let (reloaded, access) = match tokio::task::spawn_blocking(read).await {
        Ok(Ok(read)) => read,
        Err(error) => {
            tracing::error!(%error, "reading the configuration again ended with a defect; nothing has changed");
            return;
        }
        Ok(Err(error)) => {
            tracing::error!("the changed configuration is refused, nothing of it counts: {}", Chain(&error));
            front.tell_problems();
            return;
        }
    };
    if let Err(error) = reopen(Reach::for_groups(&access.gids())) {
        tracing::warn!("who may open the control socket stays as it was: {error:#}");
    }
    front.set_access(access);
    backend.reconfigure(&reloaded.config);
    front.tell_problems();
    tracing::info!(changed = reloaded.changed.join(" "), "the configuration was read again");
    if !reloaded.restart_needed.is_empty() {
        tracing::warn!("changed in the configuration, but needs a restart: {}", reloaded.restart_needed.join(", "));
    }
}

/// What is served, and what there is to say of the configuration.
fn with_remark(line: String, remark: Option<String>) -> String {
    match remark {
        Some(remark) => format!("{line}; {remark}"),
        None => line,
    }
}

/// Opens the backend on a thread of its own, and keeps the service manager patient meanwhile, as long as something goes on.
async fn recover(config: Config, open: impl Open) -> anyhow::Result<Arc<dyn Backend>> {
    let progress = Arc::new(Progress::default());
    let told = progress.clone();
    let mut opening = tokio::task::spawn_blocking(move || open(&config, &told));
    let mut tick = tokio::time::interval(RECOVERY_TICK);
    loop {
        tokio::select! {
            opened = &mut opening => return opened.context("it ended with a defect")?,
            _ = tick.tick() => {
                let (what, since) = progress.last();
                let what = if what.is_empty() { String::new() } else { format!(": {what}") };
                notify::status(&format!("Recovering{what}, for {} s", since.as_secs()));
                if since < RECOVERY_STEP_MAX {
                    notify::extend_start(RECOVERY_EXTENSION);
                }
            }
        }
    }
}

/// Takes no new work, lets running changes and answers end, up to the limit.
async fn finish(front: &Front, stop: &watch::Sender<bool>, servers: impl Future<Output = ()>) {
    notify::stopping(&format!("Stopping; changes under way: {}", front.running_changes()));
    stop.send_replace(true);
    // Those who have connected are heard; nobody new is let in.
    tokio::time::sleep(front.limits().last_requests).await;
    front.stop_changes();
    let all = async {
        servers.await;
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
