//! The router of the list of endpoints.

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing;
use hyper::body::Bytes;
use tokio::sync::mpsc;
use vol_api::ApiError;

use super::Front;
use super::call::{Call, NoQuery};
use super::endpoint::{Answer, Api, Asked, Endpoint, Verb};
use super::operation::Named;
use super::reply::Refusal;
use super::routes;
use super::target::Target;
use crate::api::{Backend, Change, Read};

/// All endpoints, and an error for everything else.
pub fn router(front: Arc<Front>) -> Router {
    let mut routes = Routes(Router::new());
    routes::all(&mut routes);
    routes.0.fallback(not_found).method_not_allowed_fallback(wrong_method).with_state(front)
}

struct Routes(Router<Arc<Front>>);

impl Routes {
    fn add<F, A>(&mut self, endpoint: &Endpoint, answer: F)
    where
        F: Fn(Call) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let route = match endpoint.verb {
            Verb::Get => routing::get(answer),
            Verb::Post => routing::post(answer),
            Verb::Delete => routing::delete(answer),
        };
        self.0 = std::mem::take(&mut self.0).route(endpoint.path, route);
    }
}

impl Api for Routes {
    fn read<T: Target, Q: Asked, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        ask: impl Fn(&dyn Backend, T, Q) -> Read<R> + Clone + Send + Sync + 'static,
    ) {
        self.add(&endpoint, move |call| call.at(&endpoint).read_as(endpoint.role, ask.clone()));
    }

    fn read_with_front<R: Answer>(
        &mut self,
        endpoint: Endpoint,
        ask: impl Fn(&Front, &dyn Backend) -> Read<R> + Clone + Send + Sync + 'static,
    ) {
        self.add(&endpoint, move |call| {
            let (front, ask) = (call.front(), ask.clone());
            call.at(&endpoint).read_as(endpoint.role, move |b, (), NoQuery {}| ask(&front, b))
        });
    }

    fn fixed(&mut self, endpoint: Endpoint, text: &'static str) {
        self.add(&endpoint, move |call| call.at(&endpoint).fixed(endpoint.role, text));
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
        self.add(&endpoint, move |call| call.at(&endpoint).lines(endpoint.role, open.clone()));
    }

    fn change<T: Target, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        act: impl Fn(&dyn Backend, T, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.add(&endpoint, move |call| call.at(&endpoint).change(endpoint.role, act.clone()));
    }

    fn change_with<T: Target, B: Asked + Named, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        act: impl Fn(&dyn Backend, T, B, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.add(&endpoint, move |call| call.at(&endpoint).change_with(endpoint.role, act.clone()));
    }

    fn delete<T: Target, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        act: impl Fn(&dyn Backend, T, bool, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.add(&endpoint, move |call| call.at(&endpoint).delete(endpoint.role, act.clone()));
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
