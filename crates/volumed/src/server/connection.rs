//! One connection: HTTP/1.1 with time limits, or gRPC's HTTP/2, ended in good order when the daemon stops.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::authority::AnyAuthority;
use super::{Limits, stopped};

mod stall;

/// Read buffer, and so the longest request head in bytes: 128-byte names and a 4 KiB path in percent encoding fit.
const HEAD_MAX_BYTES: usize = 16 * 1024;

/// Marks a response that is not to be sent: the connection is closed instead, as that of a server that is not there.
#[derive(Clone, Copy, Debug)]
pub struct Unanswered;

/// Serves `router` on `stream` until either side ends it, a limit passes, or `stop` turns true and the request under way
/// is answered. Each request carries `peer` as an extension.
pub async fn serve_http<I, P>(stream: I, router: Router, peer: P, limits: &Limits, mut stop: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Clone + Send + Sync + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let answer = router.call(request);
        async move {
            let Ok(response) = answer.await;
            match response.extensions().get::<Unanswered>() {
                None => Ok(response),
                Some(Unanswered) => Err(std::io::Error::other("the request is not answered")),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stall::Patient::new(stream, limits.stall)), service);
    let mut connection = pin!(connection);
    let mut end = pin!(tokio::time::sleep(limits.connection));
    let mut told = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = end.as_mut() => {
                tracing::debug!("a connection was closed: it lasted too long");
                return;
            }
            () = stopped(&mut stop), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Requests that one client may have under way at once.
const STREAMS_MAX: u32 = 256;
/// After so long without a word a client is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(60);

/// As [`serve_http`], of gRPC services. A connection lasts as long as its client likes: orchestrators keep one open, and some of them end when
/// they lose it. Requests end when their client has gone.
pub async fn serve_http2<I, P>(stream: I, router: Router, peer: P, mut stop: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Clone + Send + Sync + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.call(request)
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX_BYTES as u32)
        .keep_alive_interval(PING_EVERY)
        .serve_connection(TokioIo::new(AnyAuthority::new(stream)), service);
    let mut connection = pin!(connection);
    let mut told = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = stopped(&mut stop), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
