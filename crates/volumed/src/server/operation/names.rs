//! What each endpoint is called, in the log, in events and in metrics: `OBJECT.VERB`, as `volctl` has it.

use std::sync::{Arc, LazyLock};

use axum::http::Method;
use hyper::body::Bytes;
use tokio::sync::mpsc;
use vol_api::ApiError;
use vol_docker::{Call, Runtime};

use super::super::endpoint::{Answer, Api, Asked, Endpoint as Listed};
use super::super::{Front, routes, target::Target};
use super::Named;
use crate::api::{Backend, Change, Read};

/// An endpoint and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub method: &'static str,
    /// With the names of its parameters, as the router has it.
    pub route: &'static str,
    pub name: &'static str,
}

impl Endpoint {
    /// Whether it is of those that change something.
    pub const fn is_change(&self) -> bool {
        !matches!(self.method.as_bytes(), b"GET")
    }
}

/// The name of what is no endpoint.
pub const UNKNOWN: &str = "unknown";

/// Every endpoint. Names are unique, and never change: dashboards and searches in logs are made of them.
pub static ALL: LazyLock<Vec<Endpoint>> = LazyLock::new(|| {
    let mut names = Names(Vec::new());
    routes::all(&mut names);
    names.0
});

/// What an engine asks on its own socket is called, for each of [`vol_docker::Call::ALL`]; of the closed set too.
pub const fn of_engine(runtime: Runtime, call: Call) -> &'static str {
    match (runtime, call) {
        (Runtime::Docker, Call::Activate) => "docker.activate",
        (Runtime::Docker, Call::Create) => "docker.create",
        (Runtime::Docker, Call::Remove) => "docker.remove",
        (Runtime::Docker, Call::Mount) => "docker.mount",
        (Runtime::Docker, Call::Unmount) => "docker.unmount",
        (Runtime::Docker, Call::Path) => "docker.path",
        (Runtime::Docker, Call::Get) => "docker.get",
        (Runtime::Docker, Call::List) => "docker.list",
        (Runtime::Docker, Call::Capabilities) => "docker.capabilities",
        (Runtime::Podman, Call::Activate) => "podman.activate",
        (Runtime::Podman, Call::Create) => "podman.create",
        (Runtime::Podman, Call::Remove) => "podman.remove",
        (Runtime::Podman, Call::Mount) => "podman.mount",
        (Runtime::Podman, Call::Unmount) => "podman.unmount",
        (Runtime::Podman, Call::Path) => "podman.path",
        (Runtime::Podman, Call::Get) => "podman.get",
        (Runtime::Podman, Call::List) => "podman.list",
        (Runtime::Podman, Call::Capabilities) => "podman.capabilities",
    }
}

/// The endpoint of a method and a route of the router. `HEAD` is answered as `GET` is.
pub fn endpoint(method: &Method, route: &str) -> Option<&'static Endpoint> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    ALL.iter().find(|one| one.method == method && one.route == route)
}

/// Goes through the list for the names alone.
struct Names(Vec<Endpoint>);

impl Names {
    fn add(&mut self, endpoint: &Listed) {
        self.0.push(Endpoint { method: endpoint.verb.as_str(), route: endpoint.path, name: endpoint.operation });
    }
}

impl Api for Names {
    fn read<T: Target, Q: Asked, R: Answer>(
        &mut self,
        endpoint: Listed,
        _: impl Fn(&dyn Backend, T, Q) -> Read<R> + Clone + Send + Sync + 'static,
    ) {
        self.add(&endpoint);
    }
    fn read_with_front<R: Answer>(
        &mut self,
        endpoint: Listed,
        _: impl Fn(&Front, &dyn Backend) -> Read<R> + Clone + Send + Sync + 'static,
    ) {
        self.add(&endpoint);
    }
    fn fixed(&mut self, endpoint: Listed, _: &'static str) {
        self.add(&endpoint);
    }
    fn stream<R, T, Q, O, S, W>(
        &mut self,
        endpoint: Listed,
        _: impl Fn(Arc<Front>, Arc<dyn Backend>, T, Q) -> O + Clone + Send + Sync + 'static,
    ) where
        R: Answer,
        T: Target,
        Q: Asked,
        O: Future<Output = Result<S, ApiError>> + Send + 'static,
        S: FnOnce(mpsc::Sender<Bytes>) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.add(&endpoint);
    }
    fn change<T: Target, R: Answer>(
        &mut self,
        endpoint: Listed,
        _: impl Fn(&dyn Backend, T, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.add(&endpoint);
    }
    fn change_with<T: Target, B: Asked + Named, R: Answer>(
        &mut self,
        endpoint: Listed,
        _: impl Fn(&dyn Backend, T, B, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.add(&endpoint);
    }
    fn delete<T: Target, R: Answer>(
        &mut self,
        endpoint: Listed,
        _: impl Fn(&dyn Backend, T, bool, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.add(&endpoint);
    }
}
