//! One connection: HTTP/1.1 with time limits, ended in good order when the daemon stops.

use std::pin::pin;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::{Limits, stopped};

mod stall;

/// Read buffer, and so the longest request head in bytes: 128-byte names and a 4 KiB path in percent encoding fit.
const HEAD_MAX_BYTES: usize = 16 * 1024;

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
        router.call(request)
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
