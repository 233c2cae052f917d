//! One request of an engine: who asks, what for, and the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::Value;
use vol_api::{ApiError, ErrorCode, REQUEST_BODY_MAX_BYTES};
use vol_docker::protocol::{self, CONTENT_TYPE};
use vol_docker::{Call, Runtime};

use super::volumes::{EngineVolumes, Shared};
use crate::access::{Peer, Role};
use crate::server::operation::{self, Operation, Outcome};
use crate::server::{Front, Late, Unanswered, read_limited};

/// How long a request waits for recovery: dockerd waits 60 s for most answers, and what is dropped before is no error to it.
pub const RECOVERY_MAX: Duration = Duration::from_secs(55);

/// Where an engine is served.
pub struct Desk {
    pub front: Arc<Front>,
    pub runtime: Runtime,
    pub shared: Arc<Shared>,
}

/// The endpoints of an engine's socket.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new().fallback(take).with_state(desk)
}

async fn take(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(peer) = parts.extensions.remove::<Peer>() else {
        return refused(&ApiError::internal("the connection has no peer"), StatusCode::INTERNAL_SERVER_ERROR);
    };
    let call = Call::of_path(parts.uri.path());
    let (what, is_change) =
        call.map_or((operation::UNKNOWN, false), |call| (operation::of_engine(desk.runtime, call), call.is_change()));
    let operation = desk.front.operations().begin(what, is_change, (&peer).into());
    match (call, parts.method) {
        (None, _) => {
            let error = ApiError::not_found(format!("{} is no endpoint of a volume plugin", parts.uri.path()));
            end_refused(operation, &error, StatusCode::NOT_FOUND)
        }
        (Some(call), Method::POST) => answer(&desk, &peer, call, body, operation).await,
        (Some(_), method) => {
            let error = ApiError::invalid(format!("{} takes POST, not {method}", parts.uri.path()));
            end_refused(operation, &error, StatusCode::METHOD_NOT_ALLOWED)
        }
    }
}

async fn answer(desk: &Desk, peer: &Peer, call: Call, body: Body, mut operation: Operation) -> Response {
    const FAILED: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
    if let Err(error) = desk.may(peer, call) {
        return end_refused(operation, &error, FAILED);
    }
    let body = match read_limited(body, REQUEST_BODY_MAX_BYTES, desk.front.limits().body).await {
        Ok(body) => body,
        Err(refusal) => return end_refused(operation, refusal.error(), FAILED),
    };
    let request = match vol_docker::Request::read(call, &body) {
        Ok(request) => request,
        Err(error) => return end_refused(operation, &error, FAILED),
    };
    operation.about(request.name().map(ToString::to_string));
    let Some(backend) = desk.front.backend_within(RECOVERY_MAX).await else {
        operation.refused(&ApiError::new(ErrorCode::NotReady, "volumed is still recovering its volume groups"));
        return unanswered();
    };
    let asked = Instant::now();
    let turn = if call.is_change() {
        let Some(turn) = desk.front.turn(false).await else {
            operation.refused(&ApiError::new(ErrorCode::NotReady, "volumed is stopping; nothing was changed"));
            return unanswered();
        };
        operation.has_turn(asked.elapsed());
        Some(turn)
    } else {
        None
    };
    let settings = desk.front.config().runtimes.settings;
    let volumes = EngineVolumes::new(desk.runtime, backend, Arc::clone(&desk.shared), settings);
    // An engine that waits no longer closes its connection, and what it asked for goes on.
    let late = Late::new(operation.late());
    let job = tokio::task::spawn_blocking(move || {
        let result = volumes.answer(&request);
        drop(turn);
        operation.end(match &result {
            Ok(reply) if call.is_change() && reply.changed => Outcome::Changed { warnings: 0 },
            Ok(_) if call.is_change() => Outcome::Unchanged { warnings: 0 },
            other => Outcome::of_read(other),
        });
        result
    });
    let ended = job.await;
    late.defuse();
    match ended {
        Ok(Ok(reply)) => json(StatusCode::OK, &reply.body),
        Ok(Err(error)) => refused(&error, FAILED),
        Err(_) => refused(
            &ApiError::internal("volumed has a defect here: the request failed half way; its log has the details"),
            FAILED,
        ),
    }
}

impl Desk {
    /// Docker's socket is for root, who is dockerd. Podman may be any user's, with the roles of the control socket.
    fn may(&self, peer: &Peer, call: Call) -> Result<(), ApiError> {
        let needed = if call.is_change() { Role::Provision } else { Role::Observe };
        match self.runtime {
            Runtime::Docker if peer.credentials.uid == 0 => Ok(()),
            Runtime::Docker => Err(ApiError::new(
                ErrorCode::Denied,
                format!("this socket is dockerd's, which is root, and not for user {}", peer.credentials.uid),
            )),
            Runtime::Podman => self.front.access().check(peer, needed),
        }
    }
}

fn end_refused(operation: Operation, error: &ApiError, status: StatusCode) -> Response {
    operation.refused(error);
    refused(error, status)
}

/// Podman heeds no error that comes with 200.
fn refused(error: &ApiError, status: StatusCode) -> Response {
    json(status, &protocol::error(error))
}

fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    // dockerd repeats a request with an empty body if it meets a connection that was closed for being idle.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn unanswered() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Unanswered);
    response
}
