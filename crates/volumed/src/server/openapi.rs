//! The OpenAPI document of the list of endpoints (`routes::all`): paths, roles and types are those of the server itself.
//!
//! The daemon serves the text in `docs/openapi.json`; a test compares it with [`document`], and
//! `cargo run -p volumed --example openapi` writes it anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::body::Bytes;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use vol_api::{ApiError, ErrorBody, ErrorCode, Outcome, Plan, schema};

use super::Front;
use super::call::{ChangeQuery, DeleteQuery, NoQuery};
use super::endpoint::{Answer, Api, Asked, Endpoint};
use super::keys::KEY_MAX;
use super::operation::Named;
use super::routes;
use super::target::Target;
use crate::api::{Backend, Change, Read};

#[cfg(test)]
mod tests;

/// Where the document is kept, for `cargo run -p volumed --example openapi` and tests.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

/// What is to be known of the whole API.
const ABOUT: &str = "HTTP/1.1 with JSON bodies on a Unix socket. docs/control-api.md describes it for people.

- Sizes in answers are integers in bytes, and their keys end in `_bytes`; sizes in requests are text: `10G`, `512MiB`.
- Times are RFC 3339 in UTC. What is not known is `null`, a list without members `[]`; keys are never left out of an answer.
- Within `/v1` keys are added, never renamed or removed. A request with a key or a query parameter that is not known is refused.
- The same request twice is one effect: the second answers `\"changed\": false`.
- A change with an `Idempotency-Key` is carried out once: the same request of the same user under the same key is answered as it was then, for 24 hours.
- With `dry_run=true` nothing is changed, and the answer is the plan that would run.
- Who connects is known from the kernel. `x-volumed-role` says which role an operation needs: `observe`, `provision` or `admin`, each
  of which includes those before it. Who has less hears 403 before the body is read.
- A body has at most `x-volumed-body-max-bytes`.";

/// The document as text, with a line end.
pub fn document() -> String {
    let mut text = serde_json::to_string_pretty(&value()).unwrap_or_default();
    text.push('\n');
    text
}

/// The document.
pub fn value() -> Value {
    let answered = SchemaSettings::draft2020_12().with(|to| to.definitions_path = "/components/schemas".into());
    let asked = answered.clone();
    let mut it = Description {
        asked: asked.for_deserialize().into_generator(),
        answered: answered.for_serialize().into_generator(),
        paths: BTreeMap::new(),
    };
    routes::all(&mut it);
    it.whole()
}

struct Description {
    /// Schemas of what is sent to the daemon: what has a default may be left out.
    asked: SchemaGenerator,
    /// Schemas of what it answers: all keys are there.
    answered: SchemaGenerator,
    paths: BTreeMap<&'static str, Map<String, Value>>,
}

/// The HTTP statuses of errors, each with how it is called and the codes that it carries.
fn statuses() -> BTreeMap<u16, (&'static str, String)> {
    let mut all: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in ErrorCode::ALL {
        all.entry(code.http_status()).or_default().push(format!("`{}`", code.as_str()));
    }
    let named = |status| match status {
        400 => "Invalid",
        403 => "Denied",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Refused",
        501 => "Unsupported",
        503 => "NotReady",
        504 => "Timeout",
        507 => "NoSpace",
        _ => "Failed",
    };
    let mut all: BTreeMap<_, _> =
        all.into_iter().map(|(status, codes)| (status, (named(status), codes.join(" or ")))).collect();
    all.insert(408, ("BodyTooSlow", "`timeout`: the body did not arrive in time".to_owned()));
    all.insert(413, ("BodyTooLarge", "`invalid`: the body is too large".to_owned()));
    all
}

/// Of every answer.
fn headers() -> Value {
    json!({"operation-id": {
        "description": "Names the operation in the daemon's log and events", "required": true, "schema": {"type": "string"},
    }})
}

/// Of the answer to a change that was carried out.
fn headers_of_change() -> Value {
    let mut headers = headers();
    headers["idempotency-replayed"] = json!({
        "description": "It was carried out before under the same `Idempotency-Key`, and this is the answer of then",
        "required": false, "schema": {"type": "string", "enum": ["true"]},
    });
    headers
}

/// Of every change.
fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "required": false,
        "description": "Carries the request out once, however often it is sent under this key; best a UUID. Visible ASCII characters",
        "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX, "pattern": "^[!-~]+$"},
    })
}

/// In which form the answer comes.
enum Form {
    /// One JSON value.
    One(Value),
    /// The same, of a change.
    Changed(Value),
    /// Lines of JSON, each of which fits this schema.
    Lines(Value),
}

impl Form {
    /// The answer as the document has it.
    fn told(self) -> Value {
        let json = |schema| json!({"application/json": {"schema": schema}});
        let (headers, content) = match self {
            Self::One(schema) => (headers(), json(schema)),
            Self::Changed(schema) => (headers_of_change(), json(schema)),
            // OpenAPI 3.1 has no word for the schema of a line.
            Self::Lines(schema) => (
                headers(),
                json!({"application/x-ndjson": {
                    "schema": {"type": "string", "description": "Lines of JSON, each as `x-volumed-line` says"}, "x-volumed-line": schema,
                }}),
            ),
        };
        json!({"description": "As asked for", "headers": headers, "content": content})
    }
}

/// What an endpoint takes and answers.
struct Shape {
    query: Schema,
    body: Option<Schema>,
    answer: Form,
    errors: Vec<u16>,
}

impl Description {
    fn whole(mut self) -> Value {
        let error = self.answered.subschema_for::<ErrorBody>();
        let responses: Map<String, Value> = statuses()
            .into_values()
            .map(|(name, description)| {
                let content = json!({"application/json": {"schema": error}});
                (name.to_owned(), json!({"description": description, "headers": headers(), "content": content}))
            })
            .collect();
        let mut schemas = self.asked.take_definitions(true);
        for (name, schema) in self.answered.take_definitions(true) {
            let before = schemas.insert(name.clone(), schema.clone());
            // One type that is asked for and answered would have two schemas under one name.
            assert!(before.is_none_or(|before| before == schema), "{name} is asked for in another form than answered");
        }
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "volumed",
                "summary": "The control API of volumed, a manager of block device volumes",
                "description": ABOUT,
                "version": env!("CARGO_PKG_VERSION"),
                "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            },
            "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
            "servers": [{"url": "http://localhost", "description": format!("over the Unix socket {}", vol_api::DEFAULT_SOCKET)}],
            "paths": self.paths,
            "components": {"schemas": schemas, "responses": responses},
        });
        tidy(&mut document);
        document
    }

    /// The parameters of the path, which are all names but for ids.
    fn path_parameters(&mut self, path: &str) -> Vec<Value> {
        let names = path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
        names
            .map(|name| {
                let (what, example) = match name {
                    "id" => ("Id of the physical volume", "da211e6a-663b-4373-91aa-becb86beda3f"),
                    "vg" => ("Name of the volume group", "data"),
                    "pool" => ("Name of the pool", "tank"),
                    "volume" => ("Name of the volume", "pg"),
                    "runtime" => ("Name of the container engine", "docker"),
                    "job" => ("Id of the job", "wipe-4663a1f3-6c3f-4c1e-9d5f-1f4e1d2c3b4a"),
                    "snapshot" => ("Name of the snapshot", "before"),
                    _ => panic!("say here what {{{name}}} in {path} is"),
                };
                let schema = match name {
                    "id" => self.asked.subschema_for::<schema::Id>(),
                    "runtime" => self.asked.subschema_for::<schema::Runtime>(),
                    _ => self.asked.subschema_for::<schema::Name>(),
                };
                json!({
                    "name": name, "in": "path", "required": true, "description": what, "example": example, "schema": schema,
                })
            })
            .collect()
    }

    fn add(&mut self, endpoint: Endpoint, shape: Shape) {
        let Endpoint { operation, verb, path, role, summary, details, example, body_max, brings_relief: _ } = endpoint;
        let mut parameters = self.path_parameters(path);
        parameters.extend(query_parameters(&shape.query));
        if matches!(shape.answer, Form::Changed(_)) {
            parameters.push(idempotency_key());
        }
        let mut responses = json!({"200": shape.answer.told()});
        let statuses = statuses();
        for status in shape.errors {
            let (name, _) = &statuses[&status];
            responses[status.to_string()] = json!({"$ref": format!("#/components/responses/{name}")});
        }
        let mut it = json!({
            "operationId": operation,
            "tags": [operation.split('.').next()],
            "summary": summary,
            "x-volumed-role": role.as_str(),
            "responses": responses,
        });
        if !details.is_empty() {
            it["description"] = details.into();
        }
        if !parameters.is_empty() {
            it["parameters"] = parameters.into();
        }
        if let Some(body) = shape.body {
            let example = serde_json::from_str(example).unwrap_or(Value::Null);
            it["requestBody"] = json!({
                "required": true,
                "content": {"application/json": {"schema": body, "example": example}},
                "x-volumed-body-max-bytes": body_max,
            });
        }
        let before = self.paths.entry(path).or_default().insert(verb.as_str().to_ascii_lowercase(), it);
        assert!(before.is_none(), "{} {path} is twice in the list", verb.as_str());
    }

    /// Of a change: what was done, or the plan.
    fn changed<R: JsonSchema>(&mut self) -> Value {
        let (done, plan) = (self.answered.subschema_for::<Outcome<R>>(), self.answered.subschema_for::<Plan>());
        json!({"oneOf": [done, plan], "description": "What was done; with `dry_run` the plan"})
    }

    fn add_change<Q: JsonSchema, R: JsonSchema>(&mut self, endpoint: Endpoint, body: Option<Schema>) {
        let errors = vec![400, 403, 404, 408, 409, 413, 422, 500, 501, 503, 504, 507];
        let shape = Shape {
            query: self.asked.root_schema_for::<Q>(),
            body,
            answer: Form::Changed(self.changed::<R>()),
            errors,
        };
        self.add(endpoint, shape);
    }

    fn add_read<Q: JsonSchema>(&mut self, endpoint: Endpoint, answer: Form) {
        let query = self.asked.root_schema_for::<Q>();
        let mut errors = vec![400, 403, 500, 503, 504];
        if endpoint.path.contains('{') || query.as_value()["properties"].get("vg").is_some() {
            errors.push(404);
        }
        // Of one object: it may be damaged, or in the middle of something.
        if endpoint.path.contains('{') {
            errors.extend([409, 501]);
        }
        self.add(endpoint, Shape { query, body: None, answer, errors });
    }
}

impl Api for Description {
    fn read<T: Target, Q: Asked, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        _: impl Fn(&dyn Backend, T, Q) -> Read<R> + Clone + Send + Sync + 'static,
    ) {
        let answer = Form::One(self.answered.subschema_for::<R>().into());
        self.add_read::<Q>(endpoint, answer);
    }

    fn read_with_front<R: Answer>(
        &mut self,
        endpoint: Endpoint,
        _: impl Fn(&Front, &dyn Backend) -> Read<R> + Clone + Send + Sync + 'static,
    ) {
        self.read(endpoint, |_: &dyn Backend, (), NoQuery {}| -> Read<R> { unreachable!("it is only described") });
    }

    fn fixed(&mut self, endpoint: Endpoint, _: &'static str) {
        let query = self.asked.root_schema_for::<NoQuery>();
        let answer = Form::One(json!({"type": "object"}));
        self.add(endpoint, Shape { query, body: None, answer, errors: vec![400, 403] });
    }

    fn stream<R, T, Q, O, S, W>(
        &mut self,
        endpoint: Endpoint,
        _: impl Fn(Arc<Front>, Arc<dyn Backend>, T, Q) -> O + Clone + Send + Sync + 'static,
    ) where
        R: Answer,
        T: Target,
        Q: Asked,
        O: Future<Output = Result<S, ApiError>> + Send + 'static,
        S: FnOnce(mpsc::Sender<Bytes>) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let answer = Form::Lines(self.answered.subschema_for::<R>().into());
        self.add_read::<Q>(endpoint, answer);
    }

    fn change<T: Target, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        _: impl Fn(&dyn Backend, T, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.add_change::<ChangeQuery, R>(endpoint, None);
    }

    fn change_with<T: Target, B: Asked + Named, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        _: impl Fn(&dyn Backend, T, B, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        let body = self.asked.subschema_for::<B>();
        self.add_change::<ChangeQuery, R>(endpoint, Some(body));
    }

    fn delete<T: Target, R: Answer>(
        &mut self,
        endpoint: Endpoint,
        _: impl Fn(&dyn Backend, T, bool, bool) -> Change<R> + Clone + Send + Sync + 'static,
    ) {
        self.add_change::<DeleteQuery, R>(endpoint, None);
    }
}

/// The parameters that the type of a query stands for.
fn query_parameters(query: &Schema) -> Vec<Value> {
    let Some(properties) = query.as_value()["properties"].as_object() else { return Vec::new() };
    let one = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        not_null(&mut schema);
        json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema})
    };
    properties.iter().map(one).collect()
}

/// In a query there is no `null`: what is not said is left out.
fn not_null(schema: &mut Value) {
    let is_null = |schema: &Value| *schema == json!({"type": "null"});
    if let Some(kinds) = schema["type"].as_array().cloned() {
        schema["type"] = kinds.into_iter().find(|kind| kind != "null").unwrap_or_default();
    }
    if let Some(other) = schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| !is_null(one))).cloned() {
        *schema = other;
    }
}

/// The alternatives, each with what is told of it, if all of them are words: an enumeration, which every generator knows.
fn words(alternatives: &[Value]) -> Option<Vec<(String, Option<String>)>> {
    let mut words = Vec::new();
    for one in alternatives {
        match (one["const"].as_str(), one["enum"].as_array()) {
            (Some(word), None) => {
                words.push((word.to_owned(), one["description"].as_str().map(|text| format!("- `{word}`: {text}"))));
            }
            (None, Some(all)) => {
                words.extend(
                    all.iter()
                        .map(|word| word.as_str().map(|word| (word.to_owned(), None)))
                        .collect::<Option<Vec<_>>>()?,
                );
            }
            _ => return None,
        }
    }
    Some(words)
}

/// Descriptions as people read them, without what only our own documentation can follow, and without defaults that say nothing.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(words) = map.get("oneOf").and_then(Value::as_array).and_then(|all| words(all)) {
                map.remove("oneOf");
                let (words, told): (Vec<_>, Vec<_>) = words.into_iter().unzip();
                let about = map.get("description").and_then(Value::as_str).into_iter().map(str::to_owned);
                let about: Vec<_> = about.chain(told.into_iter().flatten()).collect();
                map.extend([("type".to_owned(), "string".into()), ("enum".to_owned(), words.into())]);
                map.insert("description".to_owned(), about.join("\n").into());
            }
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" => *text = text.replace("[`", "`").replace("`]", "`"),
                    _ => tidy(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}
