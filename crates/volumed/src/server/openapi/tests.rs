mod fits;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use self::fits::{Keys, misfit};
use crate::server::tests::ENDPOINTS;
use crate::server::tests::fake::Server;

/// The document, and where its operations are.
struct Document(Value);

/// One operation, and the template of its path.
struct Operation<'a> {
    path: &'a str,
    method: &'a str,
    it: &'a Value,
}

impl Document {
    fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.0["paths"].as_object().unwrap();
        paths
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().iter().map(move |(method, it)| Operation { path, method, it })
            })
            .collect()
    }

    /// The operation that this request is for.
    fn find(&self, method: &str, path: &str) -> Operation<'_> {
        let path = path.split('?').next().unwrap();
        let fits = |template: &str| {
            let (asked, named) = (path.split('/'), template.split('/'));
            asked.clone().count() == named.clone().count()
                && asked.zip(named).all(|(a, b)| a == b || b.starts_with('{'))
        };
        let found = self.operations().into_iter().filter(|one| one.method == method.to_ascii_lowercase());
        // `/v1/vgs/{vg}` also looks like `/v1/vgs/data`; none of our templates fits the path of another.
        let mut found = found.filter(|one| fits(one.path)).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{method} {path} is {} times in the document", found.len());
        found.remove(0)
    }

    /// Fails unless the answer is one that the document tells of.
    fn check(&self, method: &str, path: &str, status: u16, answer: &str) {
        let what = format!("{method} {path}: {status} {answer}");
        let mut told = &self.find(method, path).it["responses"][status.to_string()];
        if let Some(name) = told["$ref"].as_str() {
            told = self.0.pointer(name.strip_prefix('#').unwrap()).unwrap();
        }
        let line = &told["content"]["application/x-ndjson"]["x-volumed-line"];
        if !line.is_null() {
            assert!(!answer.is_empty() && answer.ends_with('\n'), "{what}");
            for answer in answer.lines() {
                let answer: Value = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}. {what}"));
                assert_eq!(misfit(&self.0, line, &answer, Keys::NoOthers), None, "{what}");
            }
            return;
        }
        let schema = &told["content"]["application/json"]["schema"];
        assert!(!schema.is_null(), "the document knows no such status. {what}");
        let answer: Value = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}. {what}"));
        // The document itself has keys that no schema of ours tells of.
        let keys = if path.ends_with("/openapi.json") { Keys::AsTold } else { Keys::NoOthers };
        assert_eq!(misfit(&self.0, schema, &answer, keys), None, "{what}");
    }

    fn body_of<'a>(&self, operation: &'a Operation<'_>) -> Option<&'a Value> {
        operation.it["requestBody"]["content"]["application/json"].get("schema")
    }
}

fn document() -> Document {
    Document(super::value())
}

#[test]
fn the_document_in_docs_is_that_of_this_server() {
    let written: Value = serde_json::from_str(&fs::read_to_string(super::FILE).unwrap()).unwrap();
    assert!(written == super::value(), "docs/openapi.json is out of date; run: cargo run -p volumed --example openapi");
}

#[test]
fn every_operation_has_a_request_that_is_tried_with_the_role_that_it_needs() {
    let document = document();
    let mut tried = BTreeSet::new();
    for (method, path, body, role) in ENDPOINTS {
        let operation = document.find(method, path);
        assert_eq!(operation.it["x-volumed-role"], role, "{method} {path}");
        tried.insert((operation.path, operation.method));
        match (document.body_of(&operation), body) {
            (None, body) => assert_eq!(body, "", "{method} {path} takes no body"),
            (Some(schema), body) => {
                let example = &operation.it["requestBody"]["content"]["application/json"]["example"];
                assert_eq!(misfit(&document.0, schema, example, Keys::AsTold), None, "{method} {path} {example}");
                let body: Value = serde_json::from_str(body).unwrap();
                assert_eq!(misfit(&document.0, schema, &body, Keys::AsTold), None, "{method} {path} {body}");
            }
        }
        let told = operation.it["parameters"].as_array().cloned().unwrap_or_default();
        let asked = path.split_once('?').map_or("", |(_, query)| query).split('&').filter(|part| !part.is_empty());
        for key in asked.map(|part| part.split_once('=').unwrap().0) {
            assert!(told.iter().any(|one| one["in"] == "query" && one["name"] == key), "{method} {path}");
        }
    }
    let all: BTreeSet<_> =
        document.operations().iter().map(|one| (one.path.to_owned(), one.method.to_owned())).collect();
    let tried: BTreeSet<_> = tried.into_iter().map(|(path, method)| (path.to_owned(), method.to_owned())).collect();
    assert_eq!(tried, all);
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let document = document();
    let mut seen = BTreeMap::new();
    for one in document.operations() {
        let name = one.it["operationId"].as_str().unwrap().to_owned();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte)), "{name}");
        assert_eq!(seen.insert(name.clone(), one.path), None, "{name}");
    }
}

#[tokio::test]
async fn every_answer_is_one_that_the_document_tells_of() {
    let (document, server) = (document(), Server::start());
    for (user, group) in [(0, 0), (1000, 1000)] {
        server.become_user(user, group);
        for (method, path, body, _) in ENDPOINTS {
            let (status, answer) = server.raw(method, path, body).await;
            document.check(method, path, status, &answer);
        }
    }
    server.become_user(0, 0);
    for (method, path, body) in [
        ("GET", "/v1/vgs/other", ""),
        ("GET", "/v1/vgs/panic", ""),
        ("GET", "/v1/vgs/-x", ""),
        ("GET", "/v1/vgs?frob=1", ""),
        ("GET", "/v1/pools?vg=other", ""),
        ("GET", "/v1/events?since=-1", ""),
        ("GET", "/v1/jobs/other", ""),
        ("GET", "/v1/jobs/other/follow", ""),
        ("DELETE", "/v1/vgs/panic", ""),
        ("DELETE", "/v1/vgs/data", "{}"),
        ("POST", "/v1/vgs", "{"),
        ("POST", "/v1/vgs", &" ".repeat(vol_api::REQUEST_BODY_MAX_BYTES + 1)),
    ] {
        let (status, answer) = server.raw(method, path, body).await;
        assert!(status >= 400, "{method} {path}");
        document.check(method, path, status, &answer);
    }
}

/// The head of an answer, and which of the headers that the document tells of are in it.
#[tokio::test]
async fn the_headers_of_answers_are_those_that_the_document_tells_of() {
    let (document, server) = (document(), Server::start());
    let create = |headers: &str, body: &str| {
        let len = body.len();
        format!("POST /v1/vgs HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n{body}")
    };
    let good = r#"{"name":"data","devices":["/dev/sdb"]}"#;
    let one = document.find("POST", "/v1/vgs");
    for (headers, body, status, replayed) in [
        ("", good, "200", false),
        ("idempotency-key: k1\r\n", good, "200", false),
        ("idempotency-key: k1\r\n", good, "200", true),
        ("idempotency-key: k2\r\n", "{", "400", false),
        // The head alone says that these are wrong.
        ("idempotency-key: a b\r\n", good, "400", false),
        ("idempotency-key: a\r\nidempotency-key: b\r\n", good, "400", false),
    ] {
        let answer = server.bytes(create(headers, body).into_bytes()).await;
        let head = answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{headers}: {answer}");
        let mut told = &one.it["responses"][status];
        if let Some(name) = told["$ref"].as_str() {
            told = document.0.pointer(name.strip_prefix('#').unwrap()).unwrap();
        }
        for (name, it) in told["headers"].as_object().unwrap() {
            let there = head.contains(&format!("\r\n{name}: "));
            assert!(there || it["required"] == false, "{headers}: {answer}");
        }
        assert_eq!(head.contains("\r\nidempotency-replayed: true"), replayed, "{headers}: {answer}");
    }
    let told = one.it["parameters"].as_array().unwrap();
    let key = told.iter().find(|one| one["name"] == "Idempotency-Key").unwrap();
    let long = "x".repeat(crate::server::keys::KEY_MAX);
    for (text, right) in [("a", true), ("", false), ("a b", false), (long.as_str(), true), (&format!("{long}x"), false)]
    {
        assert_eq!(crate::server::keys::Key::parse(text.as_bytes()).is_ok(), right, "{text}");
        if !text.contains(' ') {
            assert_eq!(misfit(&document.0, &key["schema"], &json!(text), Keys::AsTold).is_none(), right, "{text}");
        }
    }
}

#[tokio::test]
async fn a_body_with_a_key_too_many_or_one_too_few_is_refused_by_the_document_and_by_the_server() {
    let (document, server) = (document(), Server::start());
    for (method, path, body, _) in ENDPOINTS {
        let operation = document.find(method, path);
        let Some(schema) = document.body_of(&operation) else { continue };
        let body: Value = serde_json::from_str(body).unwrap();
        let mut wrong = vec![];
        wrong.push(json!([]));
        let mut more = body.clone();
        more["frob"] = json!(1);
        wrong.push(more);
        let name = schema["$ref"].as_str().unwrap();
        let told = document.0.pointer(name.strip_prefix('#').unwrap()).unwrap();
        for key in told["required"].as_array().into_iter().flatten() {
            let mut less = body.clone();
            less.as_object_mut().unwrap().remove(key.as_str().unwrap());
            wrong.push(less);
        }
        for body in wrong {
            assert!(misfit(&document.0, schema, &body, Keys::AsTold).is_some(), "{method} {path} {body}");
            let (status, answer) = server.raw(method, path, &body.to_string()).await;
            assert_eq!(status, 400, "{method} {path} {body}: {answer}");
        }
    }
}

/// Objects in requests, at any depth.
#[test]
fn no_object_of_a_request_takes_keys_that_are_not_told_of() {
    let document = document();
    let mut left: Vec<String> = document
        .operations()
        .iter()
        .filter_map(|one| Some(document.body_of(one)?["$ref"].as_str()?.to_owned()))
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = left.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let schema = document.0.pointer(name.strip_prefix('#').unwrap()).unwrap();
        if schema.get("properties").is_some() {
            assert_eq!(schema["additionalProperties"], false, "{name}");
        }
        refs(schema, &mut left);
    }
    assert!(seen.contains("#/components/schemas/FileSpec") && seen.contains("#/components/schemas/SnapshotName"));
}

fn refs(value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            all.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| refs(value, all));
        }
        Value::Array(list) => list.iter().for_each(|value| refs(value, all)),
        _ => {}
    }
}

/// `GET /v1/vgs/VG` of the table in `docs/control-api.md` as it stands in the document.
fn template(written: &str) -> String {
    let path = written.split('?').next().unwrap_or_default();
    let part = |part: &str| match part {
        "VG" | "POOL" | "VOLUME" | "SNAPSHOT" | "ID" | "JOB" | "RUNTIME" => {
            format!("{{{}}}", part.to_ascii_lowercase())
        }
        other => other.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn people_are_told_of_every_operation_and_no_other() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/control-api.md")).unwrap();
    let mut told = BTreeSet::new();
    for line in text.lines().filter(|line| ["| `GET ", "| `POST ", "| `DELETE "].iter().any(|at| line.starts_with(at)))
    {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let (what, role) = (cells.next().unwrap(), cells.next().unwrap());
        let body = cells.next().unwrap().trim_matches('`');
        let (method, first) = what.split('`').nth(1).unwrap().split_once(' ').unwrap();
        // `POST /v1/…/protect`, `…/unprotect`
        let others = what.split('`').skip(3).step_by(2).filter_map(|other| other.strip_prefix("…/"));
        let others = others.map(|other| format!("{}/{other}", first.rsplit_once('/').unwrap().0));
        for path in [first.to_owned()].into_iter().chain(others) {
            assert!(
                told.insert((method.to_owned(), template(&path), role.to_owned(), body.to_owned())),
                "twice: {line}"
            );
        }
    }
    let document = document();
    let of = |one: &Operation<'_>| {
        let body = document.body_of(one).and_then(|schema| schema["$ref"].as_str()).unwrap_or_default();
        let role = one.it["x-volumed-role"].as_str().unwrap();
        let body = body.rsplit('/').next().unwrap_or_default();
        (one.method.to_ascii_uppercase(), one.path.to_owned(), role.to_owned(), body.to_owned())
    };
    let all: BTreeSet<_> = document.operations().iter().map(of).collect();
    let (missing, unknown): (Vec<_>, Vec<_>) = (all.difference(&told).collect(), told.difference(&all).collect());
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}\nthere are none of: {unknown:?}");
}
