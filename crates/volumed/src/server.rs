//! The control server: HTTP/1.1 + JSON on a Unix socket, every wait and every size bounded.
//!
//! Invariants:
//! - a request waits for no other one, except a change for its turn among the changes that may run at once (those that bring relief
//!   have turns of their own);
//! - a change that was begun runs to its end, whether or not its client is still there;
//! - every request is an [`operation`], which ends exactly once and is in the log then;
//! - a panic costs one answer (`internal`), not the daemon;
//! - root can always connect: users, strangers and root have connections of their own, and no user can use up those of others.

mod authority;
mod call;
mod connection;
mod endpoint;
pub mod events;
pub mod keys;
mod lines;
pub mod openapi;
pub mod operation;
mod reply;
mod router;
mod routes;
mod target;
#[cfg(test)]
pub(crate) mod tests;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use vol_api::{ApiError, Doctor, ErrorCode, Finding, Health, JobInfo, Problem, Status};

use crate::access::{Access, Peer, PeerLookup};
use crate::api::{Backend, Listener, Standing};
use crate::doctor;
use crate::metrics::{Id, Page, Requests, Source};
use crate::settings::Settings;

use events::Events;
use operation::Operations;

pub(crate) use call::{Late, read_limited};
pub use connection::{Unanswered, serve_http, serve_http2};
pub use router::router;

/// Bounds of the server. The defaults are chosen for a storage host; tests shorten the times.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the connection, or the last answer, to the end of the next request's head.
    pub head: Duration,
    /// For the body of a request.
    pub body: Duration,
    /// For the answer of a read.
    pub read: Duration,
    /// For the answer of a change; a little less than `vol_api::Client` waits, so that it hears why.
    pub change: Duration,
    /// Of a connection, whatever it does: bounds who reads an answer byte by byte.
    pub connection: Duration,
    /// Changes that run at once; each holds a thread.
    pub changes: u32,
    /// As many more of those that bring relief when the others are stuck: what gives a pool or a VG space.
    pub relief: u32,
    /// Connections of root, and as many again of everybody else with a role.
    pub connections: usize,
    /// How long a reader may take nothing of what is sent to it.
    pub stall: Duration,
    /// For one write to the state directory about an idempotency key.
    pub keys: Duration,
    /// For an answer that goes on, as of who follows events; less than [`Limits::connection`].
    pub follow: Duration,
    /// Who follows events or jobs: of root, and as many again of everybody else.
    pub followers: usize,
    /// Connections of users without a role, who only get to hear that.
    pub strangers: usize,
    /// When the server is to end, how long those who have connected may take to send a request.
    pub last_requests: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            read: Duration::from_secs(30),
            change: Duration::from_secs(590),
            connection: Duration::from_secs(900),
            changes: 64,
            relief: 16,
            connections: 256,
            strangers: 16,
            last_requests: Duration::ZERO,
            stall: Duration::from_secs(30),
            keys: keys::PATIENCE,
            follow: Duration::from_secs(600),
            followers: 32,
        }
    }
}

/// What the server knows besides the backend.
pub struct Front {
    backend: OnceLock<Arc<dyn Backend>>,
    metrics: OnceLock<MetricsState>,
    access: RwLock<Arc<Access>>,
    settings: OnceLock<Arc<Settings>>,
    changes: Arc<Semaphore>,
    relief: Arc<Semaphore>,
    /// Changes that wait for a turn.
    waiting: AtomicUsize,
    stopping: AtomicBool,
    limits: Limits,
    operations: Arc<Operations>,
    requests: Requests,
    begun: Instant,
    /// How long it took until there was a backend.
    ready_after: OnceLock<Duration>,
    events: Arc<Events>,
    keys: Arc<keys::Keys>,
    root_followers: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    /// Turns true when there is a backend.
    ready: watch::Sender<bool>,
    /// What is wrong with the sockets of container engines.
    runtime_problems: OnceLock<Vec<Problem>>,
}

/// What became of the metrics listener.
#[derive(Clone, Debug, Default)]
pub struct MetricsState {
    /// Where it listens.
    pub listen: Option<String>,
    /// Why it does not although it should.
    pub problem: Option<Problem>,
}

impl Front {
    /// A server without a backend: until [`Front::set_backend`] every request is answered `not_ready`.
    pub fn new(access: Access, limits: Limits) -> Self {
        let (operations, requests) = (Arc::<Operations>::default(), Requests::default());
        operations.watch(Arc::new(requests.clone()));
        let events = Arc::new(Events::new(operations.run()));
        operations.watch(events.clone());
        Self {
            backend: OnceLock::new(),
            metrics: OnceLock::new(),
            access: RwLock::new(Arc::new(access)),
            settings: OnceLock::new(),
            changes: Arc::new(Semaphore::new(limits.changes as usize)),
            relief: Arc::new(Semaphore::new(limits.relief as usize)),
            waiting: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            limits,
            operations,
            requests,
            begun: Instant::now(),
            ready_after: OnceLock::new(),
            events,
            keys: Arc::new(keys::Keys::new(limits.keys)),
            root_followers: Arc::new(Semaphore::new(limits.followers)),
            followers: Arc::new(Semaphore::new(limits.followers)),
            ready: watch::Sender::new(false),
            runtime_problems: OnceLock::new(),
        }
    }

    /// What is asked of the daemon, and whoever watches that.
    pub const fn operations(&self) -> &Arc<Operations> {
        &self.operations
    }

    /// What is counted of them.
    pub const fn requests(&self) -> &Requests {
        &self.requests
    }

    /// What is remembered of idempotency keys.
    pub const fn keys(&self) -> &Arc<keys::Keys> {
        &self.keys
    }

    /// What happened in this run of the daemon.
    pub const fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Recovery is over. A second call changes nothing.
    pub fn set_backend(self: &Arc<Self>, backend: Arc<dyn Backend>) {
        if self.backend.set(Arc::clone(&backend)).is_ok() {
            let _ = self.ready_after.set(self.begun.elapsed());
            self.events.started();
            self.tell_problems();
            backend.listen(Arc::new(Heard { events: self.events.clone(), front: Arc::downgrade(self) }));
            self.ready.send_replace(true);
        }
    }

    /// The backend, for who waits until recovery is over; `None` if it takes longer than `limit`.
    pub async fn backend_within(&self, limit: Duration) -> Option<Arc<dyn Backend>> {
        let mut ready = self.ready.subscribe();
        tokio::time::timeout(limit, ready.wait_for(|ready| *ready)).await.ok()?.ok()?;
        self.backend.get().cloned()
    }

    /// What the daemon runs with.
    pub fn config(&self) -> crate::config::Config {
        self.settings.get().map(|settings| settings.running()).unwrap_or_default()
    }

    /// Tells `status` about the sockets of container engines. A second call changes nothing.
    pub fn set_runtime_problems(&self, problems: Vec<Problem>) {
        let _ = self.runtime_problems.set(problems);
    }

    /// What the daemon runs with, for `status` and `doctor`. A second call changes nothing.
    pub fn set_settings(&self, settings: Arc<Settings>) {
        let _ = self.settings.set(settings);
    }

    /// Who may do what, of connections that are made from now on.
    pub fn set_access(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    /// Who may do what.
    pub(crate) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells `status` about the metrics listener. A second call changes nothing.
    pub fn set_metrics(&self, state: MetricsState) {
        let _ = self.metrics.set(state);
    }

    /// The backend.
    ///
    /// # Errors
    /// `not_ready` during recovery.
    pub fn backend(&self) -> Result<Arc<dyn Backend>, ApiError> {
        self.backend.get().cloned().ok_or_else(|| {
            ApiError::new(ErrorCode::NotReady, "volumed is still recovering its volume groups")
                .with_hint("ask again in a few seconds; the daemon's log says how far it is")
        })
    }

    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// From now on changes are refused, and those that wait for their turn too.
    pub fn stop_changes(&self) {
        self.stopping.store(true, Ordering::Release);
        self.events.stopping();
        // Those that run hold their permits until they are done.
        self.changes.close();
        self.relief.close();
    }

    /// How many changes run.
    pub fn running_changes(&self) -> usize {
        let running = |most: u32, turns: &Semaphore| (most as usize).saturating_sub(turns.available_permits());
        running(self.limits.changes, &self.changes) + running(self.limits.relief, &self.relief)
    }

    /// A turn among the changes that may run at once; `None` when the server ends.
    pub(crate) async fn turn(&self, brings_relief: bool) -> Option<OwnedSemaphorePermit> {
        if self.is_stopping() {
            return None;
        }
        let waits = Waits::on(&self.waiting);
        let turns = if brings_relief { &self.relief } else { &self.changes };
        let turn = Arc::clone(turns).acquire_owned().await.ok();
        drop(waits);
        turn
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Adds what the server knows of itself to the backend's status.
    fn complete(&self, mut status: Status) -> Status {
        let metrics = self.metrics.get().cloned().unwrap_or_default();
        status.metrics_listen = metrics.listen;
        let settings = self.settings.get();
        status.restart_needed = settings.map(|settings| settings.restart_needed()).unwrap_or_default();
        for problem in self.problems() {
            status.problems.push(problem);
            status.health = status.health.max(Health::Degraded);
        }
        status
    }

    /// Those of the server itself, of which the backend knows nothing.
    fn problems(&self) -> Vec<Problem> {
        let listening = self.metrics.get().and_then(|metrics| metrics.problem.clone());
        let settings = self.settings.get().and_then(|settings| settings.problem());
        let of_runtimes = self.runtime_problems.get().cloned().unwrap_or_default();
        listening.into_iter().chain(settings).chain(of_runtimes).chain(self.keys.problem()).collect()
    }

    /// Makes events of the server's own problems that have come or gone since it was told of them last.
    pub fn tell_problems(&self) {
        self.events.own_problems(self.problems());
    }

    /// What the server knows of the machine, with what the backend has `seen`.
    fn examine(&self, status: Status, seen: Vec<Finding>) -> Doctor {
        let unknown = || Arc::new(Settings::from(crate::config::Config::default()));
        let settings = self.settings.get().map_or_else(unknown, Arc::clone);
        doctor::of_daemon(&self.complete(status), &settings, &self.access(), seen)
    }
}

/// Hears what the backend tells, and looks for what there is to tell of the server itself whenever that is every few seconds.
struct Heard {
    events: Arc<Events>,
    front: Weak<Front>,
}

impl Listener for Heard {
    fn problems(&self, all: Vec<Standing>) {
        if let Some(front) = self.front.upgrade() {
            front.tell_problems();
        }
        self.events.problems(all);
    }

    fn job_begun(&self, job: JobInfo) {
        self.events.job_begun(job);
    }

    fn job_ended(&self, job: JobInfo) {
        self.events.job_ended(job);
    }

    fn pool_grown(&self, pool: String, message: String) {
        self.events.pool_grown(pool, message);
    }
}

/// Counted for as long as it is there: who waits may be gone before it is their turn.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn on(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Source for Front {
    fn write(&self, page: &mut Page) {
        let backend = self.backend.get();
        page.flag(Id::Up, &[], backend.is_some());
        page.flag(Id::BuildInfo, &[env!("CARGO_PKG_VERSION")], true);
        page.count(Id::ChangesRunning, &[], self.running_changes() as u64);
        page.count(Id::ChangesWaiting, &[], self.waiting.load(Ordering::Relaxed) as u64);
        for problem in self.problems() {
            page.count(Id::Problems, &["", &problem.code], 1);
        }
        self.events.write(page);
        if let Some(took) = self.ready_after.get() {
            page.put(Id::StartSeconds, &[], took.as_secs_f64());
        }
        if let Some(backend) = backend {
            backend.measure(page);
        }
    }
}

/// Waits until `stop` turns true, or nobody is left who could turn it.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How many connections each user has.
type Shares = Mutex<BTreeMap<u32, usize>>;

/// One connection of a user: nobody but root may have more than half of those that there are.
struct Share {
    shares: Arc<Shares>,
    uid: u32,
}

impl Share {
    fn of(shares: &Arc<Shares>, uid: u32, most: usize) -> Option<Self> {
        let mut counts = shares.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(uid).or_default();
        if *count >= most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Self { shares: Arc::clone(shares), uid })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts.get(&self.uid).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            counts.remove(&self.uid);
        } else {
            counts.insert(self.uid, left);
        }
    }
}

/// Serves the control API until `stop` turns true and the open connections have had their answers.
pub async fn run(listener: UnixListener, front: Arc<Front>, lookup: PeerLookup, stop: watch::Receiver<bool>) {
    let router = router(Arc::clone(&front));
    serve(listener, router, front, lookup, stop).await;
}

/// As [`run`], of any endpoints.
pub async fn serve(
    listener: UnixListener,
    router: axum::Router,
    front: Arc<Front>,
    lookup: PeerLookup,
    stop: watch::Receiver<bool>,
) {
    accept(listener, router, front, lookup, stop, Protocol::Http).await;
}

/// As [`run`], of gRPC services.
pub async fn serve_grpc(
    listener: UnixListener,
    router: axum::Router,
    front: Arc<Front>,
    lookup: PeerLookup,
    stop: watch::Receiver<bool>,
) {
    accept(listener, router, front, lookup, stop, Protocol::Grpc).await;
}

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2, as clients of gRPC speak it without having asked.
    Grpc,
}

async fn accept(
    listener: UnixListener,
    router: axum::Router,
    front: Arc<Front>,
    lookup: PeerLookup,
    mut stop: watch::Receiver<bool>,
    protocol: Protocol,
) {
    let limits = front.limits;
    let slots = |count: usize| Arc::new(Semaphore::new(count));
    let (root, members, strangers) = (slots(limits.connections), slots(limits.connections), slots(limits.strangers));
    let (end, ended) = watch::channel(false);
    let shares = Arc::<Shares>::default();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: give others the time to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        let credentials = match lookup(&stream) {
            Ok(credentials) => credentials,
            Err(error) => {
                tracing::warn!(%error, "the kernel does not say who connected; the connection is closed");
                continue;
            }
        };
        let peer = Peer { role: front.access().role_of(&credentials), credentials };
        let class = match peer.role {
            None => &strangers,
            Some(_) if peer.credentials.uid == 0 => &root,
            Some(_) => &members,
        };
        let most = if peer.credentials.uid == 0 { limits.connections } else { limits.connections.div_ceil(2) };
        let share = Share::of(&shares, peer.credentials.uid, most);
        let (Some(share), Ok(slot)) = (share, Arc::clone(class).try_acquire_owned()) else {
            tracing::warn!(uid = peer.credentials.uid, "too many connections; this one is closed");
            continue;
        };
        let (router, ended) = (router.clone(), ended.clone());
        connections.spawn(async move {
            match protocol {
                Protocol::Http => serve_http(stream, router, peer, &limits, ended).await,
                Protocol::Grpc => serve_http2(stream, router, peer, ended).await,
            }
            drop((share, slot));
        });
    }
    drop(listener);
    if !limits.last_requests.is_zero() {
        tokio::time::sleep(limits.last_requests).await;
    }
    end.send_replace(true);
    while connections.join_next().await.is_some() {}
}
