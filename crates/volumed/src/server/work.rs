//! What an endpoint does with a request. Here the types of its target, query, body and answer are left behind, so that all that is done
//! around it, for a hundred endpoints, is compiled once.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use vol_api::ApiError;

use super::Front;
use super::call::{Call, ChangeQuery, DeleteQuery, NoQuery};
use super::operation::{Named, Outcome};
use super::reply::json;
use super::target::Target;
use crate::api::{Backend, Change, Read};

/// What is asked of the backend.
pub type Work = Box<dyn FnOnce(&dyn Backend) -> Done + Send>;
/// Reads the path and the query of a request that only reads.
pub type Reading = Arc<dyn Fn(&Call) -> Result<Work, ApiError> + Send + Sync>;
/// Reads the path and the query of one that changes something.
pub type Changing = Arc<dyn Fn(&Call) -> Result<Begun, ApiError> + Send + Sync>;

/// How it ended, and what its client is told.
pub struct Done {
    pub outcome: Outcome,
    pub answer: Result<Vec<u8>, ApiError>,
}

/// A change whose body is yet to be read.
pub struct Begun {
    pub dry_run: bool,
    /// Makes the work of the body, and tells what it is about.
    pub of_body: OfBody,
}

type OfBody = Box<dyn FnOnce(&[u8]) -> Result<(Work, Option<String>), ApiError> + Send>;

fn reads<R: Serialize>(ask: impl FnOnce(&dyn Backend) -> Read<R> + Send + 'static) -> Work {
    Box::new(move |backend| {
        // Long lists are looked up only while they are written: what goes wrong then counts too.
        let answer = ask(backend).and_then(|value| json(&value));
        Done { outcome: Outcome::of_read(&answer), answer }
    })
}

fn changes<R: Serialize>(act: impl FnOnce(&dyn Backend) -> Change<R> + Send + 'static) -> Work {
    Box::new(move |backend| {
        let result = act(backend);
        Done { outcome: Outcome::of_change(&result), answer: result.and_then(|changed| json(&changed)) }
    })
}

fn without_body(work: Work) -> OfBody {
    Box::new(
        |body| if body.is_empty() { Ok((work, None)) } else { Err(ApiError::invalid("this request takes no body")) },
    )
}

/// A read.
pub fn read<T: Target, Q: DeserializeOwned + Send + 'static, R: Serialize>(
    ask: impl Fn(&dyn Backend, T, Q) -> Read<R> + Clone + Send + Sync + 'static,
) -> Reading {
    Arc::new(move |call| {
        let (target, query, ask) = (call.target::<T>()?, call.query::<Q>()?, ask.clone());
        Ok(reads(move |backend| ask(backend, target, query)))
    })
}

/// A read to which the server adds what it knows itself.
pub fn read_with_front<R: Serialize>(
    ask: impl Fn(&Front, &dyn Backend) -> Read<R> + Clone + Send + Sync + 'static,
) -> Reading {
    Arc::new(move |call| {
        let ((), NoQuery {}, front, ask) = (call.target()?, call.query()?, call.front(), ask.clone());
        Ok(reads(move |backend| ask(&front, backend)))
    })
}

/// A change without a body.
pub fn change<T: Target, R: Serialize>(
    act: impl Fn(&dyn Backend, T, bool) -> Change<R> + Clone + Send + Sync + 'static,
) -> Changing {
    Arc::new(move |call| {
        let (target, ChangeQuery { dry_run }, act) = (call.target::<T>()?, call.query()?, act.clone());
        Ok(Begun { dry_run, of_body: without_body(changes(move |backend| act(backend, target, dry_run))) })
    })
}

/// A change with a body.
pub fn change_with<T: Target, B: DeserializeOwned + Named + Send + 'static, R: Serialize>(
    act: impl Fn(&dyn Backend, T, B, bool) -> Change<R> + Clone + Send + Sync + 'static,
) -> Changing {
    Arc::new(move |call| {
        let (target, ChangeQuery { dry_run }, act) = (call.target::<T>()?, call.query()?, act.clone());
        let of_body: OfBody = Box::new(move |body| {
            let body: B = parse_body(body)?;
            let object = body.object();
            Ok((changes(move |backend| act(backend, target, body, dry_run)), object))
        });
        Ok(Begun { dry_run, of_body })
    })
}

/// A deletion, which may be asked for at once (`?now=true`); no body.
pub fn delete<T: Target, R: Serialize>(
    act: impl Fn(&dyn Backend, T, bool, bool) -> Change<R> + Clone + Send + Sync + 'static,
) -> Changing {
    Arc::new(move |call| {
        let (target, DeleteQuery { now, dry_run }, act) = (call.target::<T>()?, call.query()?, act.clone());
        Ok(Begun { dry_run, of_body: without_body(changes(move |backend| act(backend, target, now, dry_run))) })
    })
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
