//! `/metrics` in Prometheus' text format, on a TCP listener of its own, answered from memory.
//!
//! Samples are collected anew with each scrape ([`page::Page`]) from what readers of the API see too, so a pool that was deleted leaves none
//! behind. What is not known has no sample. A scrape asks the kernel nothing, commits nothing, starts no process and waits for no change; what
//! it costs is bounded: [`VOLUMES_MAX`], and a fixed number of samples for each pool, PV and volume group.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::server::{Front, Limits, serve_http, stopped};

pub mod families;
mod page;
mod process;
mod requests;

pub use families::Id;
pub use page::{Page, Source};
pub use process::{Burst, Process};
pub use requests::Requests;

/// Scrapers at once: Prometheus in a pair, and people with curl.
const CONNECTIONS: usize = 16;
/// Volumes with samples of their own under `volume_metrics = "top"`: those that take most.
pub const VOLUMES_TOP: usize = 10;
/// And under `"all"`, however many there are.
pub const VOLUMES_MAX: usize = 1000;

/// All that is collected.
///
/// # Errors
/// None that can be met with: names and labels are fixed.
pub fn registry(source: Arc<dyn Source>, requests: &Requests) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    registry.register(Box::new(page::Collected::new(source)?))?;
    requests.register(&registry)?;
    Ok(registry)
}

/// The whole page.
///
/// # Errors
/// None that can be met with, as for [`registry`].
pub fn text(registry: &Registry) -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// `GET /metrics` and `GET /healthz`; any other path is not found.
pub fn router(front: &Arc<Front>) -> prometheus::Result<Router> {
    let source: Arc<dyn Source> = front.clone();
    let registry = registry(source, front.requests())?;
    let health = Router::new().route("/healthz", get(healthy)).with_state(Arc::clone(front));
    Ok(Router::new().route("/metrics", get(answer)).with_state(registry).merge(health))
}

/// `GET /healthz`, for probes: that the daemon serves, its locks are free and its threads run; 503 while it recovers, too.
async fn healthy(State(front): State<Arc<Front>>) -> impl IntoResponse {
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    let Ok(backend) = front.backend() else {
        return (StatusCode::SERVICE_UNAVAILABLE, plain, "recovering\n".to_owned());
    };
    let job = tokio::task::spawn_blocking(move || backend.alive().map(drop));
    match tokio::time::timeout(Duration::from_secs(5), job).await {
        Ok(Ok(Ok(()))) => (StatusCode::OK, plain, "ok\n".to_owned()),
        Ok(Ok(Err(why))) => (StatusCode::SERVICE_UNAVAILABLE, plain, format!("{why}\n")),
        _ => (StatusCode::SERVICE_UNAVAILABLE, plain, "it does not answer\n".to_owned()),
    }
}

async fn answer(State(registry): State<Registry>) -> impl IntoResponse {
    let job = tokio::task::spawn_blocking(move || text(&registry));
    match tokio::time::timeout(Duration::from_secs(10), job).await {
        Ok(Ok(Ok(text))) => {
            (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
        }
        _ => {
            let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (StatusCode::INTERNAL_SERVER_ERROR, plain, "the metrics could not be collected\n".to_owned())
        }
    }
}

/// Serves the metrics until `stop` turns true.
pub async fn run(listener: TcpListener, front: Arc<Front>, mut stop: watch::Receiver<bool>) {
    let router = match router(&front) {
        Ok(router) => router,
        Err(error) => return tracing::error!(%error, "metrics are not served"),
    };
    let limits = Limits { connection: Duration::from_secs(60), ..Limits::default() };
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for metrics");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        // Over the limit the connection is closed: a scraper comes again.
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            let (router, stop) = (router.clone(), stop.clone());
            connections.spawn(async move {
                serve_http(stream, router, (), &limits, stop).await;
                drop(slot);
            });
        }
    }
    while connections.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests;
