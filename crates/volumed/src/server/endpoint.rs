//! What an endpoint is, for everything that goes through the list of them: the router, the OpenAPI document, tests.

use std::sync::Arc;

use hyper::body::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use vol_api::{ApiError, REQUEST_BODY_MAX_BYTES};

use super::Front;
use super::operation::Named;
use super::target::Target;
use crate::access::Role;
use crate::api::{Backend, Change, Read};

/// How an endpoint is asked. Reading is safe, changing and deleting may be repeated: the same request twice is one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    /// The method of HTTP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// One endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What it does in one word for programs, for example `volume.create`; each has its own.
    pub operation: &'static str,
    pub verb: Verb,
    /// With the names of its parameters: `/v1/vgs/{vg}`.
    pub path: &'static str,
    /// Who may ask.
    pub role: Role,
    /// One line for people, without a full stop.
    pub summary: &'static str,
    /// What else is to be known; may be empty.
    pub details: &'static str,
    /// A body as JSON; empty if it takes none.
    pub example: &'static str,
    /// The largest body in bytes.
    pub body_max: usize,
    /// It helps where other changes are stuck, on a pool that is full above all: it does not wait for their turns.
    pub brings_relief: bool,
}

impl Endpoint {
    const fn new(verb: Verb, operation: &'static str, role: Role, path: &'static str, summary: &'static str) -> Self {
        Self {
            operation,
            verb,
            path,
            role,
            summary,
            details: "",
            example: "",
            body_max: REQUEST_BODY_MAX_BYTES,
            brings_relief: false,
        }
    }
    /// With more to be known.
    pub const fn details(self, details: &'static str) -> Self {
        Self { details, ..self }
    }
    /// With a body to show; whatever takes a body has one.
    pub const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }
    /// Takes a larger body than others; for those who may do everything.
    pub const fn body_up_to(self, body_max: usize) -> Self {
        Self { body_max, ..self }
    }
    /// See [`Endpoint::brings_relief`].
    pub const fn brings_relief(self) -> Self {
        Self { brings_relief: true, ..self }
    }
}

pub const fn get(operation: &'static str, role: Role, path: &'static str, summary: &'static str) -> Endpoint {
    Endpoint::new(Verb::Get, operation, role, path, summary)
}

pub const fn post(operation: &'static str, role: Role, path: &'static str, summary: &'static str) -> Endpoint {
    Endpoint::new(Verb::Post, operation, role, path, summary)
}

pub const fn delete(operation: &'static str, role: Role, path: &'static str, summary: &'static str) -> Endpoint {
    Endpoint::new(Verb::Delete, operation, role, path, summary)
}

/// What a query or a body is read as.
pub trait Asked: DeserializeOwned + JsonSchema + Send + 'static {}
impl<T: DeserializeOwned + JsonSchema + Send + 'static> Asked for T {}

/// What is answered.
pub trait Answer: Serialize + JsonSchema + 'static {}
impl<T: Serialize + JsonSchema + 'static> Answer for T {}

/// Goes through the list of endpoints (`routes::all`). What an endpoint takes and answers are the types of its function.
pub trait Api {
    /// A read: `T` from the path, `Q` from the query.
    fn read<T: Target, Q: Asked, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        ask: impl Fn(&dyn Backend, T, Q) -> Read<R> + Clone + Send + Sync + 'static,
    );

    /// A read to which the server adds what it knows itself.
    fn read_with_front<R: Answer>(
        &mut self,
        endpoint: Endpoint,
        ask: impl Fn(&Front, &dyn Backend) -> Read<R> + Clone + Send + Sync + 'static,
    );

    /// A JSON document that is always the same, also during recovery.
    fn fixed(&mut self, endpoint: Endpoint, text: &'static str);

    /// A read whose answer goes on for long: lines of JSON, each an `R`. `open` looks at the request, and what it answers sends the lines.
    fn stream<R, T, Q, O, S, W>(
        &mut self,
        endpoint: Endpoint,
        open: impl Fn(Arc<Front>, Arc<dyn Backend>, T, Q) -> O + Clone + Send + Sync + 'static,
    ) where
        R: Answer,
        T: Target,
        Q: Asked,
        O: Future<Output = Result<S, ApiError>> + Send + 'static,
        S: FnOnce(mpsc::Sender<Bytes>) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static;

    /// A change without a body.
    fn change<T: Target, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        act: impl Fn(&dyn Backend, T, bool) -> Change<R> + Clone + Send + Sync + 'static,
    );

    /// A change with the body `B`.
    fn change_with<T: Target, B: Asked + Named, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        act: impl Fn(&dyn Backend, T, B, bool) -> Change<R> + Clone + Send + Sync + 'static,
    );

    /// A change without a body by which something is lost, at once if that is asked for.
    fn delete<T: Target, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        act: impl Fn(&dyn Backend, T, bool, bool) -> Change<R> + Clone + Send + Sync + 'static,
    );
}
