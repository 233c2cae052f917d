//! The router of the list of endpoints.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing;
use hyper::body::Bytes;
use tokio::sync::mpsc;
use vol_api::ApiError;

use super::Front;
use super::call::Call;
use super::endpoint::{Answer, Api, Asked, Endpoint, Verb};
use super::operation::Named;
use super::reply::Refusal;
use super::target::Target;
use super::work::{Changing, Reading};
use super::{routes, work};
use crate::api::{Backend, Change, Read};

/// All endpoints, and an error for everything else.
pub fn router(front: Arc<Front>) -> Router {
    let mut routes = Routes(Router::new());
    routes::all(&mut routes);
    routes.0.fallback(not_found).method_not_allowed_fallback(wrong_method).with_state(front)
}

/// Answers the requests of one endpoint. One type for all of them, so that what axum does with it is compiled once.
type Handler = Arc<dyn Fn(Call) -> Answering + Send + Sync>;
type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

struct Routes(Router<Arc<Front>>);

impl Routes {
    fn add(&mut self, endpoint: Endpoint, handler: Handler) {
        let answer = move |call: Call| handler(call.at(&endpoint));
        let route = match endpoint.verb {
            Verb::Get => routing::get(answer),
            Verb::Post => routing::post(answer),
            Verb::Delete => routing::delete(answer),
        };
        self.0 = std::mem::take(&mut self.0).route(endpoint.path, route);
    }

    fn reads(&mut self, endpoint: Endpoint, reading: Reading) {
        self.add(endpoint, Arc::new(move |call| Box::pin(call.read(endpoint.role, Arc::clone(&reading)))));
    }

    fn changes(&mut self, endpoint: Endpoint, changing: Changing) {
        self.add(endpoint, Arc::new(move |call| Box::pin(call.change(endpoint.role, Arc::clone(&changing)))));
    }
}

impl Api for Routes {
    fn read<T: Target, Q: Asked, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        ask: impl Fn(&dyn Backend, T, Q) -> Read<R> + Clone + Send + Sync + 'static,
    ) {
        self.reads(endpoint, work::read(ask));
    }

    fn read_with_front<R: Answer>(
        &mut self,
        endpoint: Endpoint,
        ask: impl Fn(&Front, &dyn Backend) -> Read<R> + Clone + Send + Sync + 'static,
    ) {
        self.reads(endpoint, work::read_with_front(ask));
    }

    fn fixed(&mut self, endpoint: Endpoint, text: &'static str) {
        self.add(endpoint, Arc::new(move |call| Box::pin(call.fixed(endpoint.role, text))));
    }

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
        W: Future<Output = ()> + Send + 'static,
    {
        self.add(endpoint, Arc::new(move |call| Box::pin(call.lines(endpoint.role, open.clone()))));
    }

    fn change<T: Target, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        act: impl Fn(&dyn Backend, T, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.changes(endpoint, work::change(act));
    }

    fn change_with<T: Target, B: Asked + Named, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        act: impl Fn(&dyn Backend, T, B, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.changes(endpoint, work::change_with(act));
    }

    fn delete<T: Target, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        act: impl Fn(&dyn Backend, T, bool, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.changes(endpoint, work::delete(act));
    }
}

async fn not_found(call: Call) -> Response {
    call.refuse(|uri| {
        ApiError::not_found(format!("{} is no endpoint", uri.path())).with_hint("see docs/control-api.md").into()
    })
}

async fn wrong_method(method: Method, call: Call) -> Response {
    call.refuse(|uri| {
        let error =
            ApiError::invalid(format!("{} does not take {method}", uri.path())).with_hint("see docs/control-api.md");
        Refusal::with_status(error, StatusCode::METHOD_NOT_ALLOWED)
    })
}
