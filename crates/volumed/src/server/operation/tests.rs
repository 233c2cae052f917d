use std::sync::{Arc, Mutex};
use std::time::Duration;

use vol_api::ErrorCode;

use super::line::printable;
use super::*;
use crate::server::tests::fake::{OBSERVE_GID, Server, turns, until};

/// Remembers what it hears of.
#[derive(Default)]
struct Watch(Mutex<Vec<Finished>>);

impl Observer for Watch {
    fn finished(&self, operation: &Finished) {
        self.0.lock().unwrap().push(operation.clone());
    }
}

impl Watch {
    fn on(server: &Server) -> Arc<Self> {
        let watch = Arc::new(Self::default());
        server.front.operations().watch(watch.clone());
        watch
    }
    fn take(&self) -> Vec<Finished> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn every_request_ends_as_one_operation_with_a_name_of_the_closed_set() {
    let server = Server::start();
    let watch = Watch::on(&server);
    let mut seen = std::collections::BTreeSet::new();
    for (method, path, body, _) in crate::server::tests::ENDPOINTS {
        server.raw(method, path, body).await;
        let heard = watch.take();
        assert_eq!(heard.len(), 1, "{method} {path}: {heard:?}");
        let operation = &heard[0];
        assert!(ALL.iter().any(|one| one.name == operation.what && one.method == method), "{method} {path}");
        assert_eq!(operation.is_change, method != "GET", "{method} {path}");
        assert_eq!(operation.dry_run, path.contains("dry_run=true"), "{method} {path}");
        assert_eq!(operation.waited.is_some(), operation.is_change, "{method} {path}");
        let word = if !operation.is_change {
            "answered"
        } else if operation.dry_run {
            "planned"
        } else {
            "changed"
        };
        assert_eq!(operation.outcome.word(), word, "{method} {path}");
        assert!(!operation.late);
        seen.insert(operation.what);
    }
    let all: std::collections::BTreeSet<_> = ALL.iter().map(|one| one.name).collect();
    assert_eq!(all.len(), ALL.len(), "names are unique");
    assert_eq!(seen, all, "every endpoint is among those that the tests ask for");
}

#[tokio::test]
async fn an_operation_says_what_it_is_about() {
    let server = Server::start();
    let watch = Watch::on(&server);
    for (method, path, body, what, object) in [
        ("POST", "/v1/volumes", r#"{"vg":"data","name":"pg","size":"10G"}"#, "volume.create", Some("data/pg")),
        ("POST", "/v1/volumes", r#"{"vg":"data","name":"-rf","size":"10G"}"#, "volume.create", None),
        ("POST", "/v1/clones", r#"{"vg":"data","volume":"pg","name":"copy"}"#, "volume.clone", Some("data/copy")),
        ("POST", "/v1/snapshots", r#"{"vg":"data","volume":"pg","name":"t"}"#, "snapshot.create", Some("data/pg@t")),
        ("POST", "/v1/volumes/data/pg/rename", r#"{"name":"db"}"#, "volume.rename", Some("data/pg")),
        ("DELETE", "/v1/snapshots/data/pg/t", "", "snapshot.delete", Some("data/pg@t")),
        ("POST", "/v1/wipe", "{\"device\":\"/dev/sd\\nb\"}", "pv.wipe", Some("/dev/sd\\nb")),
        ("POST", "/v1/init", "{\"devices\":[\"/dev/sdb\"]}", "init", Some("data")),
        ("GET", "/v1/vgs/..%2fetc", "", "vg.show", None),
        ("GET", "/v1/vgs", "", "vg.list", None),
        ("GET", "/v1/etc/passwd", "", UNKNOWN, None),
        ("PUT", "/v1/vgs", "", UNKNOWN, None),
        ("GET", "/v1/vgs/%ff", "", "vg.show", None),
    ] {
        server.raw(method, path, body).await;
        let heard = watch.take();
        assert_eq!(heard.len(), 1, "{method} {path}: {heard:?}");
        assert_eq!((heard[0].what, heard[0].object.as_deref()), (what, object), "{method} {path}");
    }
}

#[tokio::test]
async fn an_operation_says_who_asked_and_how_it_ended() {
    let server = Server::start();
    let watch = Watch::on(&server);
    let one = || {
        let mut heard = watch.take();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    };
    server.become_user(1000, OBSERVE_GID);
    server.raw("DELETE", "/v1/vgs/data", "").await;
    let denied = one();
    assert_eq!(denied.who, Who { uid: 1000, role: Some(Role::Observe), pid: None });
    assert_eq!((denied.outcome.error(), denied.waited), (Some(ErrorCode::Denied), None));
    server.become_user(0, 0);
    server.raw("GET", "/v1/vgs/other", "").await;
    assert_eq!(one().outcome, Outcome::Failed { code: ErrorCode::NotFound, message: "it does not exist".into() });
    server.raw("DELETE", "/v1/vgs/panic", "").await;
    assert_eq!(one().outcome.word(), "internal");
    server.raw("GET", "/v1/vgs/panic", "").await;
    assert_eq!(one().outcome.word(), "internal");
    server.raw("POST", "/v1/vgs", "{").await;
    assert_eq!((one().outcome.word(), server.front.running_changes()), ("invalid", 0));
    let ids: Vec<_> =
        (0..2).map(|_| server.front.operations().begin("x", false, denied.who).id().to_string()).collect();
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn an_operation_ends_with_its_work_and_not_with_its_client() {
    let server = Server::start();
    let watch = Watch::on(&server);
    let client = server.client().with_timeouts(Duration::from_secs(1), Duration::from_secs(1));
    assert!(client.delete_vg(&"gate".parse().unwrap(), false).await.is_err());
    assert!(watch.take().is_empty(), "it goes on");
    // The server hears that the client is gone.
    turns(40).await;
    server.backend.open();
    until(|| !watch.0.lock().unwrap().is_empty()).await;
    let heard = watch.take();
    assert_eq!((heard[0].outcome.word(), heard[0].late), ("changed", true));
    assert!(heard[0].took >= Duration::from_secs(1));
}

#[tokio::test]
async fn the_answer_names_its_operation() {
    let server = Server::start();
    let watch = Watch::on(&server);
    let request = b"GET /v1/vgs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec();
    let answer = server.bytes(request).await;
    assert!(answer.contains(&format!("\r\noperation-id: {}\r\n", watch.take()[0].id)), "{answer}");
}

#[test]
fn what_is_logged_cannot_write_lines_of_its_own() {
    assert_eq!(printable("a\nb\u{1b}[0mc", 100), "a\\nb\\u{1b}[0mc");
    assert_eq!(printable(&"x".repeat(1000), 10), format!("{}…", "x".repeat(9)));
    assert_eq!(printable(&"ä".repeat(10), 10), "ä".repeat(10));
}
