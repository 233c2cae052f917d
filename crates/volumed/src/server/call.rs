//! One request on its way to the backend: role, query, target, body, then a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Query, RawPathParams, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::JoinError;
use vol_api::{ApiError, ErrorCode, REQUEST_BODY_MAX_BYTES, parse_field};
use vol_types::{Name, PoolPath, PvId, SnapshotPath, VolumePath};

use super::Front;
use super::endpoint::Endpoint;
use super::operation::{self, Named, Operation, OperationId, Outcome};
use super::reply::{Refusal, json, response};
use crate::access::{Peer, Role};
use crate::api::{Backend, Change, Read};

/// Names the operation in the daemon's log and events.
const OPERATION_ID: HeaderName = HeaderName::from_static("operation-id");

/// A request as far as HTTP goes.
pub struct Call {
    front: Arc<Front>,
    peer: Peer,
    uri: Uri,
    params: Vec<(String, String)>,
    body: Body,
    body_max: usize,
    brings_relief: bool,
    /// Until the work takes it over.
    operation: Option<Operation>,
    id: OperationId,
}

impl FromRequest<Arc<Front>> for Call {
    type Rejection = Refusal;

    async fn from_request(request: Request, front: &Arc<Front>) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let Some(peer) = parts.extensions.remove::<Peer>() else {
            return Err(ApiError::internal("the connection has no peer").into());
        };
        let endpoint =
            parts.extensions.get::<MatchedPath>().and_then(|path| operation::endpoint(&parts.method, path.as_str()));
        let (what, is_change) = endpoint.map_or((operation::UNKNOWN, false), |one| (one.name, one.is_change()));
        let mut operation = front.operations.begin(what, is_change, (&peer).into());
        let params = match RawPathParams::from_request_parts(&mut parts, front).await {
            Ok(params) => params.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<Vec<_>>(),
            // Of what is no endpoint.
            Err(RawPathParamsRejection::MissingPathParams(_)) => Vec::new(),
            Err(rejection) => {
                let error = ApiError::invalid(format!("path: {rejection}"));
                operation.refused(&error);
                return Err(error.into());
            }
        };
        operation.about(operation::of_params(&params));
        Ok(Self {
            front: Arc::clone(front),
            peer,
            uri: parts.uri,
            params,
            body,
            body_max: REQUEST_BODY_MAX_BYTES,
            brings_relief: false,
            id: operation.id(),
            operation: Some(operation),
        })
    }
}

/// What a path names, read from its parameters.
pub trait Target: Sized + Send + 'static {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError>;
}

/// The parameter `key`; the routes name all that are asked for.
fn param<'a>(params: &'a [(String, String)], key: &str) -> Result<&'a str, ApiError> {
    let found = params.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    found.ok_or_else(|| ApiError::internal(format!("the route has no {key}")))
}

fn name(params: &[(String, String)], key: &str) -> Result<Name, ApiError> {
    parse_field(key, param(params, key)?)
}

impl Target for () {
    fn from_params(_: &[(String, String)]) -> Result<Self, ApiError> {
        Ok(())
    }
}

impl Target for Name {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        name(params, "vg")
    }
}

impl Target for PvId {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        parse_field("id", param(params, "id")?)
    }
}

impl Target for PoolPath {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        Ok(Self { vg: name(params, "vg")?, pool: name(params, "pool")? })
    }
}

impl Target for VolumePath {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        Ok(Self { vg: name(params, "vg")?, volume: name(params, "volume")? })
    }
}

impl Target for SnapshotPath {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        Ok(Self { volume: VolumePath::from_params(params)?, snapshot: name(params, "snapshot")? })
    }
}

/// For endpoints without parameters in the query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// For changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeQuery {
    /// Nothing is changed; the answer is the plan that would run.
    #[serde(default)]
    dry_run: bool,
}

/// For deletions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteQuery {
    /// For good, without a time in which it can be taken back.
    #[serde(default)]
    now: bool,
    /// Nothing is changed; the answer is the plan that would run.
    #[serde(default)]
    dry_run: bool,
}

impl Call {
    /// The server, for endpoints that add to the backend's answer.
    pub fn front(&self) -> Arc<Front> {
        Arc::clone(&self.front)
    }

    /// It is for this endpoint.
    pub fn at(self, endpoint: &Endpoint) -> Self {
        let Endpoint { body_max, brings_relief, .. } = *endpoint;
        Self { body_max, brings_relief, ..self }
    }

    /// Answers what is no endpoint, or not with this method.
    pub fn refuse(self, refusal: impl FnOnce(&Uri) -> Refusal) -> Response {
        let refusal = refusal(&self.uri);
        self.respond(Err(refusal))
    }

    /// Answers with the same text whenever it is asked for, during recovery too.
    pub async fn fixed(mut self, needed: Role, text: &'static str) -> Response {
        let look = |call: &mut Self| {
            call.front.access.check(&call.peer, needed)?;
            let NoQuery {} = call.query()?;
            call.hand_over()
        };
        let answer = look(&mut self).map_err(Refusal::from).map(|operation| {
            operation.end(Outcome::of_read(&Ok(())));
            text.as_bytes().to_vec()
        });
        self.respond(answer)
    }

    /// Answers a read that needs this role, no body.
    pub async fn read_as<T, Q, R>(
        mut self,
        needed: Role,
        ask: impl FnOnce(&dyn Backend, T, Q) -> Read<R> + Send + 'static,
    ) -> Response
    where
        T: Target,
        Q: DeserializeOwned + Send + 'static,
        R: Serialize,
    {
        let answer = self.look(needed, ask).await.map_err(Refusal::from);
        self.respond(answer)
    }

    async fn look<T, Q, R>(
        &mut self,
        needed: Role,
        ask: impl FnOnce(&dyn Backend, T, Q) -> Read<R> + Send + 'static,
    ) -> Result<Vec<u8>, ApiError>
    where
        T: Target,
        Q: DeserializeOwned + Send + 'static,
        R: Serialize,
    {
        self.front.access.check(&self.peer, needed)?;
        let (target, query) = (T::from_params(&self.params)?, self.query::<Q>()?);
        let backend = self.front.backend()?;
        let operation = self.hand_over()?;
        let late = operation.late();
        let job = tokio::task::spawn_blocking(move || {
            let result = ask(&*backend, target, query);
            operation.end(Outcome::of_read(&result));
            json(&result?)
        });
        finish(self.front.limits.read, late, job).await
    }

    /// Answers a change that has a body.
    pub async fn change_with<T, B, R>(
        mut self,
        needed: Role,
        act: impl FnOnce(&dyn Backend, T, B, bool) -> Change<R> + Send + 'static,
    ) -> Response
    where
        T: Target,
        B: DeserializeOwned + Named + Send + 'static,
        R: Serialize,
    {
        let answer = async {
            self.front.access.check(&self.peer, needed)?;
            let (target, dry_run) = (T::from_params(&self.params)?, self.query::<ChangeQuery>()?.dry_run);
            let body: B = parse_body(&self.read_body().await?)?;
            if let Some(operation) = &mut self.operation {
                operation.about(body.object());
            }
            Ok(self.carry_out(move |backend| act(backend, target, body, dry_run), dry_run).await?)
        };
        let answer = answer.await;
        self.respond(answer)
    }

    /// Answers a deletion, which may be asked for at once (`?now=true`); no body.
    pub async fn delete<T, R>(
        mut self,
        needed: Role,
        act: impl FnOnce(&dyn Backend, T, bool, bool) -> Change<R> + Send + 'static,
    ) -> Response
    where
        T: Target,
        R: Serialize,
    {
        let answer = async {
            self.front.access.check(&self.peer, needed)?;
            let (target, query) = (T::from_params(&self.params)?, self.query::<DeleteQuery>()?);
            self.no_body().await?;
            let DeleteQuery { now, dry_run } = query;
            Ok(self.carry_out(move |backend| act(backend, target, now, dry_run), dry_run).await?)
        };
        let answer = answer.await;
        self.respond(answer)
    }

    /// Answers a change that has no body.
    pub async fn change<T, R>(
        mut self,
        needed: Role,
        act: impl FnOnce(&dyn Backend, T, bool) -> Change<R> + Send + 'static,
    ) -> Response
    where
        T: Target,
        R: Serialize,
    {
        let answer = async {
            self.front.access.check(&self.peer, needed)?;
            let (target, dry_run) = (T::from_params(&self.params)?, self.query::<ChangeQuery>()?.dry_run);
            self.no_body().await?;
            Ok(self.carry_out(move |backend| act(backend, target, dry_run), dry_run).await?)
        };
        let answer = answer.await;
        self.respond(answer)
    }

    /// The operation, for the work that ends it.
    fn hand_over(&mut self) -> Result<Operation, ApiError> {
        self.operation.take().ok_or_else(|| ApiError::internal("the request was answered already"))
    }

    /// The answer; what never came to its work has ended with it.
    fn respond(mut self, answer: Result<Vec<u8>, Refusal>) -> Response {
        let mut answer = match answer {
            Ok(body) => response(StatusCode::OK, body),
            Err(refusal) => {
                if let Some(operation) = self.operation.take() {
                    operation.refused(refusal.error());
                }
                refusal.into_response()
            }
        };
        // Letters, digits and a dash.
        if let Ok(id) = HeaderValue::from_str(&self.id.to_string()) {
            answer.headers_mut().insert(OPERATION_ID, id);
        }
        answer
    }

    async fn no_body(&mut self) -> Result<(), Refusal> {
        if self.read_body().await?.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid("this request takes no body").into())
    }

    fn query<Q: DeserializeOwned>(&self) -> Result<Q, ApiError> {
        match Query::<Q>::try_from_uri(&self.uri) {
            Ok(Query(query)) => Ok(query),
            Err(rejection) => {
                // The rejection's own text says only that it failed; its source says why.
                let why = std::error::Error::source(&rejection).map_or(rejection.to_string(), ToString::to_string);
                Err(ApiError::invalid(format!("query: {why}")))
            }
        }
    }

    async fn read_body(&mut self) -> Result<Vec<u8>, Refusal> {
        let body = Limited::new(std::mem::take(&mut self.body), self.body_max);
        match tokio::time::timeout(self.front.limits.body, body.collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let error = ApiError::invalid(format!("the body is larger than {} bytes", self.body_max));
                Err(Refusal::with_status(error, StatusCode::PAYLOAD_TOO_LARGE))
            }
            Ok(Err(error)) => Err(ApiError::invalid(format!("the body broke off: {error}")).into()),
            Err(_) => {
                let error = ApiError::new(ErrorCode::Timeout, "the body did not arrive in time");
                Err(Refusal::with_status(error, StatusCode::REQUEST_TIMEOUT))
            }
        }
    }

    /// Runs `act` when it is its turn. Once begun it runs to its end, even if the client goes away.
    async fn carry_out<R: Serialize>(
        &mut self,
        act: impl FnOnce(&dyn Backend) -> Change<R> + Send + 'static,
        dry_run: bool,
    ) -> Result<Vec<u8>, ApiError> {
        if let Some(operation) = &mut self.operation {
            operation.set_dry_run(dry_run);
        }
        let backend = self.front.backend()?;
        let stopping = || ApiError::new(ErrorCode::NotReady, "volumed is stopping; nothing was changed");
        if self.front.is_stopping() {
            return Err(stopping());
        }
        let turns = if self.brings_relief { &self.front.relief } else { &self.front.changes };
        let asked = Instant::now();
        let turn = Arc::clone(turns).acquire_owned().await.map_err(|_| stopping())?;
        let mut operation = self.hand_over()?;
        operation.has_turn(asked.elapsed());
        let late = operation.late();
        let job = tokio::task::spawn_blocking(move || {
            let result = act(&*backend);
            drop(turn);
            operation.end(Outcome::of_change(&result));
            json(&result?)
        });
        finish(self.front.limits.change, late, job).await
    }
}

/// Tells the operation that nobody hears its end any more, unless it is defused.
struct Late(Option<Arc<AtomicBool>>);

impl Drop for Late {
    fn drop(&mut self) {
        if let Some(late) = &self.0 {
            late.store(true, Ordering::Relaxed);
        }
    }
}

async fn finish(
    limit: Duration,
    late: Arc<AtomicBool>,
    job: impl Future<Output = Result<Result<Vec<u8>, ApiError>, JoinError>>,
) -> Result<Vec<u8>, ApiError> {
    let mut late = Late(Some(late));
    let ended = tokio::time::timeout(limit, job).await;
    if ended.is_ok() {
        late.0 = None;
    }
    match ended {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ApiError::internal("volumed has a defect here: the request failed half way")
            .with_hint("the daemon's log has the details; please report it")),
        Err(_) => Err(ApiError::new(ErrorCode::Timeout, format!("it takes longer than {} s", limit.as_secs()))
            .with_hint("a change goes on in the background: look at the object again later")),
    }
}

fn parse_body<B: DeserializeOwned>(body: &[u8]) -> Result<B, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::invalid("this request needs a JSON body").with_hint("see docs/control-api.md"));
    }
    // serde reads a list as the values of a type in their order; nobody is to rely on that order.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(
            ApiError::invalid("body: a list, where an object belongs: {…}").with_hint("see docs/control-api.md")
        );
    }
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(format!("body: {error}")))
}
