//! One request on its way to the backend: role, query, target, body, then a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Query, RawPathParams, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinError;
use vol_api::{ApiError, ErrorCode, REQUEST_BODY_MAX_BYTES};

use super::endpoint::Endpoint;
use super::keys::{self, Begin, Key, Ticket};
use super::operation::{self, Operation, OperationId, Outcome};
use super::reply::{Refusal, response};
use super::target::Target;
use super::work::{Begun, Changing, Done, Reading, Work};
use super::{Front, lines};
use crate::access::{Peer, Role};
use crate::api::Backend;

/// Names the operation in the daemon's log and events.
const OPERATION_ID: HeaderName = HeaderName::from_static("operation-id");

/// The same request under the same key is carried out once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer is the one of then.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

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
    method: Method,
    key: Option<Key>,
    /// It was carried out before, and this is the answer of then.
    replayed: bool,
}

impl FromRequest<Arc<Front>> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, front: &Arc<Front>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let Some(peer) = parts.extensions.remove::<Peer>() else {
            return Err(Refusal::from(ApiError::internal("the connection has no peer")).into_response());
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
                return Err(turned_away(operation, error));
            }
        };
        operation.about(operation::of_params(&params));
        let key = match key_of(&parts.headers) {
            Ok(key) => key.filter(|_| is_change),
            Err(error) => return Err(turned_away(operation, error)),
        };
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
            method: parts.method,
            key,
            replayed: false,
        })
    }
}

/// The answer to a request that cannot be read as far as its head goes.
fn turned_away(operation: Operation, error: ApiError) -> Response {
    let id = operation.id();
    operation.refused(&error);
    identified(Refusal::from(error).into_response(), id)
}

/// The answer with the operation's id.
fn identified(mut answer: Response, id: OperationId) -> Response {
    // Letters, digits and a dash.
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        answer.headers_mut().insert(OPERATION_ID, id);
    }
    answer
}

/// The key that the client gave its request.
fn key_of(headers: &HeaderMap) -> Result<Option<Key>, ApiError> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).into_iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => Key::parse(one.as_bytes()).map(Some),
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("Idempotency-Key: a request has one key, and this one has several"))
        }
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
    pub(super) dry_run: bool,
}

/// For deletions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteQuery {
    /// For good, without a time in which it can be taken back.
    #[serde(default)]
    pub(super) now: bool,
    /// Nothing is changed; the answer is the plan that would run.
    #[serde(default)]
    pub(super) dry_run: bool,
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
            call.front.access().check(&call.peer, needed)?;
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
    pub async fn read(mut self, needed: Role, reading: Reading) -> Response {
        let answer = self.look(needed, &reading).await.map_err(Refusal::from);
        self.respond(answer)
    }

    async fn look(&mut self, needed: Role, reading: &Reading) -> Result<Vec<u8>, ApiError> {
        self.front.access().check(&self.peer, needed)?;
        let work = reading(self)?;
        let backend = self.front.backend()?;
        let operation = self.hand_over()?;
        let late = operation.late();
        let job = tokio::task::spawn_blocking(move || {
            let Done { outcome, answer } = work(&*backend);
            operation.end(outcome);
            answer
        });
        finish(self.front.limits.read, late, job).await
    }

    /// Answers with lines that go on for long: this role, no body. `open` looks at the request, and what it answers sends the lines.
    /// The operation has ended when it begins.
    pub async fn lines<T, Q, O, S, W>(
        mut self,
        needed: Role,
        open: impl FnOnce(Arc<Front>, Arc<dyn Backend>, T, Q) -> O + Send,
    ) -> Response
    where
        T: Target,
        Q: DeserializeOwned + Send,
        O: Future<Output = Result<S, ApiError>> + Send,
        S: FnOnce(mpsc::Sender<Bytes>) -> W + Send,
        W: Future<Output = ()> + Send + 'static,
    {
        let front = Arc::clone(&self.front);
        let opened = match self.may_follow(needed) {
            Ok((target, query, backend, slot)) => open(front, backend, target, query).await.map(|send| (send, slot)),
            Err(error) => Err(error),
        };
        match opened {
            Err(error) => self.respond(Err(Refusal::from(error))),
            Ok((send, slot)) => {
                if let Some(operation) = self.operation.take() {
                    operation.end(Outcome::Answered);
                }
                let (to, answer) = lines::answer();
                let work = send(to);
                let limit = self.front.limits.follow;
                tokio::spawn(async move {
                    // The answer has its proper end then, which one that is cut off with its connection has not.
                    let _ = tokio::time::timeout(limit, work).await;
                    drop(slot);
                });
                self.identify(answer)
            }
        }
    }

    fn may_follow<T: Target, Q: DeserializeOwned>(
        &self,
        needed: Role,
    ) -> Result<(T, Q, Arc<dyn Backend>, OwnedSemaphorePermit), ApiError> {
        let front = &self.front;
        front.access().check(&self.peer, needed)?;
        let (target, query) = (self.target::<T>()?, self.query::<Q>()?);
        let backend = front.backend()?;
        let class = if self.peer.credentials.uid == 0 { &front.root_followers } else { &front.followers };
        let slot = Arc::clone(class).try_acquire_owned().map_err(|_| {
            ApiError::new(ErrorCode::NotReady, "too many follow what happens already")
                .with_hint("end some of the `volctl events --follow` and `volctl job wait` that run")
        })?;
        Ok((target, query, backend, slot))
    }

    /// Answers a change.
    pub async fn change(mut self, needed: Role, changing: Changing) -> Response {
        let answer = self.change_as(needed, &changing).await;
        self.respond(answer)
    }

    async fn change_as(&mut self, needed: Role, changing: &Changing) -> Result<Vec<u8>, Refusal> {
        self.front.access().check(&self.peer, needed)?;
        let Begun { dry_run, of_body } = changing(self)?;
        let body = self.read_body().await?;
        let (work, object) = of_body(&body)?;
        if let Some(operation) = &mut self.operation {
            operation.about(object);
        }
        Ok(self.carry_out(work, dry_run, &body).await?)
    }

    /// The operation, for the work that ends it.
    fn hand_over(&mut self) -> Result<Operation, ApiError> {
        self.operation.take().ok_or_else(|| ApiError::internal("the request was answered already"))
    }

    /// The answer; what never came to its work has ended with it.
    fn respond(mut self, answer: Result<Vec<u8>, Refusal>) -> Response {
        let answer = match answer {
            Ok(body) => response(StatusCode::OK, body),
            Err(refusal) => {
                if let Some(operation) = self.operation.take() {
                    operation.refused(refusal.error());
                }
                refusal.into_response()
            }
        };
        self.identify(answer)
    }

    /// The answer with what is told of it in its head.
    fn identify(&self, answer: Response) -> Response {
        let mut answer = identified(answer, self.id);
        if self.replayed {
            answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        answer
    }

    /// What its path names.
    pub fn target<T: Target>(&self) -> Result<T, ApiError> {
        T::from_params(&self.params)
    }

    /// What its query says.
    pub fn query<Q: DeserializeOwned>(&self) -> Result<Q, ApiError> {
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
        read_limited(std::mem::take(&mut self.body), self.body_max, self.front.limits.body).await
    }

    /// Does the work when it is its turn. Once begun it runs to its end, even if the client goes away.
    async fn carry_out(&mut self, work: Work, dry_run: bool, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        if let Some(operation) = &mut self.operation {
            operation.set_dry_run(dry_run);
        }
        let backend = self.front.backend()?;
        let stopping = || ApiError::new(ErrorCode::NotReady, "volumed is stopping; nothing was changed");
        if self.front.is_stopping() {
            return Err(stopping());
        }
        let ticket = match self.key.clone().filter(|_| !dry_run) {
            None => None,
            Some(key) => match self.use_key(&key, body).await? {
                Ok(ticket) => Some(ticket),
                Err(answer) => return Ok(answer.as_bytes().to_vec()),
            },
        };
        let asked = Instant::now();
        let turn = self.front.turn(self.brings_relief).await.ok_or_else(stopping)?;
        let mut operation = self.hand_over()?;
        operation.has_turn(asked.elapsed());
        let late = operation.late();
        let job = tokio::task::spawn_blocking(move || {
            let Done { outcome, answer } = work(&*backend);
            drop(turn);
            operation.end(outcome);
            if let Some(ticket) = ticket {
                ticket.end(&answer);
            }
            answer
        });
        finish(self.front.limits.change, late, job).await
    }

    /// The right to carry out a request under its key; or the answer that it had, waited for if it is carried out just now.
    async fn use_key(&mut self, key: &Key, body: &[u8]) -> Result<Result<Ticket, Arc<str>>, ApiError> {
        let target = self.uri.path_and_query().map_or("", |target| target.as_str());
        let fingerprint = keys::fingerprint(self.method.as_str(), target, body);
        let (what, object) = match &self.operation {
            Some(operation) => (operation.what(), operation.object().map(str::to_owned)),
            None => (operation::UNKNOWN, None),
        };
        let front = Arc::clone(&self.front);
        let answer = loop {
            let uid = self.peer.credentials.uid;
            // Nothing here is waited for with a turn among the changes: those that have no key must not miss it.
            front.keys.ready().await?;
            match front.keys.begin(uid, key, fingerprint.clone(), what, object.clone())? {
                Begin::New(ticket) => {
                    ticket.record_begun().await?;
                    return Ok(Ok(ticket));
                }
                Begin::Again(answer) => break answer,
                Begin::Wait(mut told) => {
                    let waited = tokio::time::timeout(front.limits.change, told.wait_for(Option::is_some)).await;
                    match waited {
                        Err(_) => return Err(too_long(front.limits.change)),
                        // It was given up before it was begun.
                        Ok(Err(_)) => {}
                        Ok(Ok(answer)) => {
                            if let Some(answer) = answer.clone() {
                                break answer?;
                            }
                        }
                    }
                }
            }
        };
        self.replayed = true;
        self.hand_over()?.end(Outcome::Answered);
        Ok(Err(answer))
    }
}

/// A body of at most `max` bytes that arrives within `limit`.
pub(crate) async fn read_limited(body: Body, max: usize, limit: Duration) -> Result<Vec<u8>, Refusal> {
    match tokio::time::timeout(limit, Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let error = ApiError::invalid(format!("the body is larger than {max} bytes"));
            Err(Refusal::with_status(error, StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Err(error)) => Err(ApiError::invalid(format!("the body broke off: {error}")).into()),
        Err(_) => {
            let error = ApiError::new(ErrorCode::Timeout, "the body did not arrive in time");
            Err(Refusal::with_status(error, StatusCode::REQUEST_TIMEOUT))
        }
    }
}

/// Tells the operation that nobody hears its end any more, unless it is defused.
pub(crate) struct Late(Option<Arc<AtomicBool>>);

impl Late {
    pub(crate) const fn new(late: Arc<AtomicBool>) -> Self {
        Self(Some(late))
    }
    /// Somebody heard it.
    pub(crate) fn defuse(mut self) {
        self.0 = None;
    }
}

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
    let late = Late::new(late);
    let ended = tokio::time::timeout(limit, job).await;
    if ended.is_ok() {
        late.defuse();
    }
    match ended {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ApiError::internal("volumed has a defect here: the request failed half way")
            .with_hint("the daemon's log has the details; please report it")),
        Err(_) => Err(too_long(limit)),
    }
}

fn too_long(limit: Duration) -> ApiError {
    ApiError::new(ErrorCode::Timeout, format!("it takes longer than {} s", limit.as_secs()))
        .with_hint("a change goes on in the background: look at the object again later")
}
