//! The real backend over a simulated machine: what it answers is what the document tells of.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use vol_sim::{SimDisk, SimHost};
use vol_types::Bytes;

use super::document;
use crate::backend::tests::start;
use crate::server::tests::ENDPOINTS;
use crate::server::tests::fake::Server;

/// In this order; each is done, and its answer and plan have objects with something in them.
const STORY: [(&str, &str, &str); 48] = [
    ("POST", "/v1/scan", "{}"),
    ("POST", "/v1/vgs", r#"{"name":"data","devices":["/dev/sda","/dev/sdb"]}"#),
    ("POST", "/v1/pools", r#"{"vg":"data","name":"tank","size":"40%FREE","on_labels":{}}"#),
    ("POST", "/v1/volumes", r#"{"vg":"data","name":"pg","size":"1G","labels":{"tier":"fast"},"reserve":"100M"}"#),
    ("POST", "/v1/volumes", r#"{"vg":"data","name":"raw","size":"1G","fs":"none","attach":true}"#),
    ("POST", "/v1/volumes", r#"{"vg":"data","name":"thick","size":"64M","fs":"none","thick":true}"#),
    ("POST", "/v1/volumes/data/pg/mount", r#"{"path":"/srv/pg"}"#),
    ("POST", "/v1/snapshots", r#"{"vg":"data","volume":"pg","name":"before","labels":{"a":"b"}}"#),
    (
        "POST",
        "/v1/snapshot-groups",
        r#"{"vg":"data","snapshots":[{"volume":"pg","name":"t1"},{"volume":"raw","name":"t1"}]}"#,
    ),
    ("POST", "/v1/snapshots/data/pg/before/mount", r#"{"path":"/srv/before"}"#),
    ("GET", "/v1/snapshots?vg=data", ""),
    ("POST", "/v1/snapshots/data/pg/before/unmount", ""),
    ("POST", "/v1/snapshots/data/pg/before/labels", r#"{"set":{"c":"d"},"remove":["a"]}"#),
    ("POST", "/v1/snapshots/data/pg/before/protect", ""),
    ("POST", "/v1/snapshots/data/pg/before/unprotect", ""),
    ("POST", "/v1/clones", r#"{"vg":"data","volume":"pg","snapshot":"before","name":"copy"}"#),
    ("GET", "/v1/volumes", ""),
    ("GET", "/v1/volumes/data/copy", ""),
    ("GET", "/v1/volumes/data/thick", ""),
    ("POST", "/v1/volumes/data/pg/trim", ""),
    ("POST", "/v1/volumes/data/pg/resize", r#"{"size":"+1G"}"#),
    ("POST", "/v1/volumes/data/pg/unmount", ""),
    ("POST", "/v1/volumes/data/pg/check", "{}"),
    ("POST", "/v1/volumes/data/pg/set", r#"{"reserve":"none"}"#),
    ("POST", "/v1/snapshots/data/pg/before/rollback", ""),
    ("POST", "/v1/volumes/data/raw/detach", ""),
    ("DELETE", "/v1/volumes/data/copy", ""),
    ("GET", "/v1/deleted", ""),
    ("POST", "/v1/volumes/data/copy/undelete", ""),
    ("POST", "/v1/pools/data/tank/extend", r#"{"size":"+1G"}"#),
    ("POST", "/v1/pools/data/tank/set", r#"{"grow_to":"8G","not_on":["/dev/sdb"]}"#),
    ("POST", "/v1/pools/data/tank/check", r#"{"online":true}"#),
    ("GET", "/v1/pools", ""),
    ("GET", "/v1/pools/data/tank/usage", ""),
    ("GET", "/v1/volumes/data/pg/usage", ""),
    ("GET", "/v1/vgs/data/map", ""),
    ("GET", "/v1/vgs/data/backup", ""),
    ("POST", "/v1/vgs/data/extend", r#"{"devices":["/dev/sdc"]}"#),
    ("GET", "/v1/pvs", ""),
    ("POST", "/v1/vgs/data/reduce", r#"{"pvs":["/dev/sdc"]}"#),
    ("GET", "/v1/vgs", ""),
    ("GET", "/v1/status", ""),
    ("GET", "/v1/df", ""),
    ("POST", "/v1/volumes/data/pg/labels", r#"{"set":{"docker.volume":"pgdata"}}"#),
    ("GET", "/v1/runtimes/docker/df", ""),
    ("GET", "/v1/refs", ""),
    ("POST", "/v1/refs/release", r#"{"volume":"data/pg"}"#),
    ("POST", "/v1/pools/data/tank/purge", ""),
];

/// Three empty disks.
pub fn machine() -> SimHost {
    let host = SimHost::new(7);
    for name in ["/dev/sda", "/dev/sdb", "/dev/sdc"] {
        host.add_disk(SimDisk::new(name, Bytes::gib(4)));
    }
    host
}

#[tokio::test]
async fn what_the_engine_answers_is_what_the_document_tells_of() {
    let (document, host) = (document(), machine());
    let server = Server::start_with(Server::limits());
    server.front.set_backend(Arc::new(start(&host).keeping_deleted(Some(Duration::from_secs(3600)))));
    for (method, path, body) in STORY {
        if method != "GET" {
            let plan = format!("{path}?dry_run=true");
            let (status, answer) = server.raw(method, &plan, body).await;
            assert_eq!(status, 200, "{method} {plan} {body}: {answer}");
            document.check(method, &plan, status, &answer);
        }
        let (status, answer) = server.raw(method, path, body).await;
        assert_eq!(status, 200, "{method} {path} {body}: {answer}");
        document.check(method, path, status, &answer);
        // A second time it may be refused, for example because a name is taken.
        let (status, answer) = server.raw(method, path, body).await;
        document.check(method, path, status, &answer);
        if path == "/v1/pvs" {
            let all: Value = serde_json::from_str(&answer).unwrap();
            let path = format!("/v1/pvs/{}/check", all["pvs"][0]["id"].as_str().unwrap());
            let (status, answer) = server.raw("GET", &path, "").await;
            document.check("GET", &path, status, &answer);
        }
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        r"[+]?[0-9]{1,20}[KMGTPE%]?(FREE)?".prop_map(Value::from),
        Just(json!("data")),
        Just(json!("/dev/sda")),
        Just(json!("x".repeat(300))),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z_]{1,8}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// A body of ours in which one value is another one.
fn nearly(body: &str, which: usize, value: Value) -> Value {
    let mut body: Value = serde_json::from_str(body).unwrap();
    let object = body.as_object_mut().unwrap();
    let key = object.keys().nth(which % object.len().max(1)).cloned();
    object.insert(key.unwrap_or_else(|| "force".to_owned()), value);
    body
}

#[test]
fn whatever_the_body_is_the_answer_is_one_that_the_document_tells_of() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let (document, host) = (document(), machine());
    let server = Server::start_with(Server::limits());
    server.front.set_backend(Arc::new(start(&host)));
    for (method, path, body) in &STORY[..8] {
        assert_eq!(runtime.block_on(server.raw(method, path, body)).0, 200, "{path}");
    }
    let asked: Vec<_> = ENDPOINTS.into_iter().filter(|(_, _, body, _)| !body.is_empty()).collect();
    let bodies = (0..asked.len()).prop_flat_map(|at| {
        let sample = asked[at].2;
        let body = prop_oneof![
            1 => proptest::collection::vec(any::<u8>(), 0..80),
            2 => anything().prop_map(|value| value.to_string().into_bytes()),
            4 => (any::<usize>(), anything()).prop_map(|(which, value)| nearly(sample, which, value).to_string().into_bytes()),
        ];
        (Just(at), body)
    });
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let one = |(at, body): (usize, Vec<u8>)| {
        let (method, path, ..) = asked[at];
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let answer = runtime.block_on(server.bytes([head.as_bytes(), &body].concat()));
        let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let said = answer.split_once("\r\n\r\n").unwrap().1;
        prop_assert!(
            status < 500 || status == 507,
            "{} {}: {} to {}",
            path,
            status,
            said,
            String::from_utf8_lossy(&body)
        );
        document.check(method, path, status, said);
        Ok(())
    };
    runner.run(&bodies, one).unwrap();
}
