pub(crate) mod fake;
mod rude;

use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vol_api::*;
use vol_types::Name;

use self::fake::{OBSERVE_GID, PATIENCE, PROVISION_GID, Server, turns, until};
use super::{Limits, MetricsState};

const VOLUME: &str = r#"{"vg":"data","name":"pg","size":"10G"}"#;

fn api_error(body: &str) -> ApiError {
    serde_json::from_str::<ErrorBody>(body).unwrap().error
}

/// Every endpoint with a body that it takes, and the role that it needs.
pub(crate) const ENDPOINTS: [(&str, &str, &str, &str); 88] = [
    ("GET", "/v1/openapi.json", "", "observe"),
    ("GET", "/v1/events?since=0&follow=false", "", "observe"),
    ("GET", "/v1/jobs", "", "observe"),
    ("GET", "/v1/jobs/wipe-0", "", "observe"),
    ("GET", "/v1/jobs/wipe-0/follow", "", "observe"),
    ("POST", "/v1/jobs/wipe-0/cancel", "", "provision"),
    ("GET", "/v1/refs?runtime=docker", "", "observe"),
    ("GET", "/v1/runtimes/podman/df", "", "observe"),
    ("POST", "/v1/refs/release", r#"{"volume":"data/pg","runtime":"docker","id":"a"}"#, "admin"),
    ("GET", "/v1/volumes?vg=data&selector=tier%3Dfast,!old", "", "observe"),
    ("GET", "/v1/snapshots?selector=tier", "", "observe"),
    ("GET", "/v1/pvs?vg=data&selector=tier", "", "observe"),
    ("POST", "/v1/clones", r#"{"vg":"data","volume":"pg","snapshot":"before","name":"copy"}"#, "provision"),
    (
        "POST",
        "/v1/snapshot-groups",
        r#"{"vg":"data","snapshots":[{"volume":"pg","name":"t1"},{"volume":"wal","name":"t1"}]}"#,
        "provision",
    ),
    ("POST", "/v1/snapshots/data/pg/before/rollback?now=true", "", "provision"),
    ("POST", "/v1/volumes/data/pg/rename", r#"{"name":"db"}"#, "provision"),
    ("POST", "/v1/snapshots/data/pg/before/rename", r#"{"name":"then"}"#, "provision"),
    ("POST", "/v1/volumes/data/pg/labels", r#"{"set":{"tier":"fast"},"remove":["old"]}"#, "provision"),
    ("POST", "/v1/snapshots/data/pg/before/labels", r#"{"set":{"tier":"fast"}}"#, "provision"),
    ("POST", "/v1/pvs/00000000-0000-0000-0000-000000000007/labels", r#"{"set":{"tier":"fast"}}"#, "admin"),
    ("POST", "/v1/volumes/data/pg/set", "{\"reserve\":\"full\"}", "provision"),
    ("POST", "/v1/volumes/data/pg/protect", "", "provision"),
    ("POST", "/v1/volumes/data/pg/unprotect", "", "provision"),
    ("POST", "/v1/snapshots/data/pg/before/protect", "", "provision"),
    ("POST", "/v1/snapshots/data/pg/before/unprotect", "", "provision"),
    ("GET", "/v1/status", "", "observe"),
    ("GET", "/v1/doctor", "", "observe"),
    ("GET", "/v1/df", "", "observe"),
    ("GET", "/v1/vgs", "", "observe"),
    ("GET", "/v1/vgs/data", "", "observe"),
    ("GET", "/v1/vgs/data/backup", "", "observe"),
    ("GET", "/v1/pvs", "", "observe"),
    ("GET", "/v1/pvs?vg=data&path=/dev/sdb", "", "observe"),
    ("GET", "/v1/pvs/0191d6e0-0000-7000-8000-000000000001", "", "observe"),
    ("GET", "/v1/pvs/0191d6e0-0000-7000-8000-000000000001/check", "", "admin"),
    ("GET", "/v1/pools?vg=data", "", "observe"),
    ("GET", "/v1/pools/data/tank", "", "observe"),
    ("GET", "/v1/volumes", "", "observe"),
    ("GET", "/v1/vgs/data/map", "", "observe"),
    ("GET", "/v1/pools/data/tank/usage", "", "provision"),
    ("GET", "/v1/volumes/data/pg/usage", "", "provision"),
    ("GET", "/v1/volumes/data/pg", "", "observe"),
    ("GET", "/v1/snapshots", "", "observe"),
    ("GET", "/v1/deleted?vg=data", "", "observe"),
    ("GET", "/v1/snapshots/data/pg/before", "", "observe"),
    ("POST", "/v1/volumes", VOLUME, "provision"),
    ("POST", "/v1/volumes/data/pg/unmount", "", "provision"),
    ("POST", "/v1/volumes/data/vm/attach", "", "provision"),
    ("POST", "/v1/volumes/data/vm/attach?dry_run=true", "", "provision"),
    ("POST", "/v1/volumes/data/vm/attach-read-only", "", "provision"),
    ("POST", "/v1/volumes/data/vm/detach", "", "provision"),
    ("POST", "/v1/volumes/data/pg/resize", r#"{"size":"+10G"}"#, "provision"),
    ("POST", "/v1/volumes/data/pg/check", r#"{"repair":true}"#, "provision"),
    ("POST", "/v1/volumes/data/pg/trim", "", "provision"),
    ("POST", "/v1/pools/data/tank/check", "{}", "admin"),
    ("POST", "/v1/pools/data/tank/repair", r#"{"accept_loss":true}"#, "admin"),
    ("DELETE", "/v1/volumes/data/pg", "", "provision"),
    ("DELETE", "/v1/volumes/data/pg?now=true", "", "provision"),
    ("DELETE", "/v1/volumes/data/pg?now=true&dry_run=true", "", "provision"),
    ("POST", "/v1/volumes/data/pg/undelete", "", "provision"),
    ("POST", "/v1/snapshots", r#"{"vg":"data","volume":"pg","name":"before"}"#, "provision"),
    ("POST", "/v1/snapshots/data/pg/before/unmount", "", "provision"),
    ("DELETE", "/v1/snapshots/data/pg/before", "", "provision"),
    ("DELETE", "/v1/snapshots/data/pg/before?now=true", "", "provision"),
    ("POST", "/v1/snapshots/data/pg/before/undelete", "", "provision"),
    ("POST", "/v1/volumes?dry_run=true", VOLUME, "provision"),
    ("POST", "/v1/volumes/data/pg/mount", r#"{"path":"/srv/pg"}"#, "admin"),
    ("POST", "/v1/snapshots/data/pg/before/mount", r#"{"path":"/mnt"}"#, "admin"),
    ("POST", "/v1/vgs", r#"{"name":"data","devices":["/dev/sdb"]}"#, "admin"),
    ("POST", "/v1/vgs?dry_run=true", r#"{"name":"data","devices":["/dev/sdb"]}"#, "admin"),
    ("DELETE", "/v1/vgs/data", "", "admin"),
    ("POST", "/v1/pools", r#"{"vg":"data","name":"tank","size":"80%FREE"}"#, "admin"),
    ("DELETE", "/v1/pools/data/tank", "", "admin"),
    ("DELETE", "/v1/pools/data/tank?dry_run=true", "", "admin"),
    ("POST", "/v1/vgs/data/extend", r#"{"devices":["/dev/sdd"]}"#, "admin"),
    ("POST", "/v1/vgs/data/reduce", r#"{"pvs":["/dev/sdd"]}"#, "admin"),
    ("POST", "/v1/vgs/data/rename", r#"{"name":"big"}"#, "admin"),
    ("POST", "/v1/vgs/data/export", "", "admin"),
    ("POST", "/v1/vgs/data/import", "", "admin"),
    ("POST", "/v1/wipe", r#"{"device":"/dev/sdd"}"#, "admin"),
    ("POST", "/v1/pools/data/tank/give-up", "{}", "admin"),
    ("POST", "/v1/pools/data/tank/extend", r#"{"size":"+1G"}"#, "admin"),
    ("POST", "/v1/pools/data/tank/set", r#"{"grow_to":"off"}"#, "admin"),
    ("POST", "/v1/pools/data/tank/purge", "", "admin"),
    ("POST", "/v1/restore", r#"{"backup":"{}"}"#, "admin"),
    ("POST", "/v1/import-clone", r#"{"devices":["/dev/sdd"],"name":"copy"}"#, "admin"),
    ("POST", "/v1/init", r#"{"devices":["/dev/sdb"]}"#, "admin"),
    ("POST", "/v1/scan", "{}", "admin"),
];

#[tokio::test]
async fn each_role_reaches_its_endpoints_and_no_others() {
    let server = Server::start();
    let users = [
        ((0, 0), &["observe", "provision", "admin"][..]),
        ((1000, PROVISION_GID), &["observe", "provision"]),
        ((1000, OBSERVE_GID), &["observe"]),
        ((1000, 1000), &[]),
    ];
    for ((uid, gid), allowed) in users {
        server.become_user(uid, gid);
        for (method, path, body, role) in ENDPOINTS {
            server.backend.changes.lock().unwrap().clear();
            let (status, answer) = server.raw(method, path, body).await;
            let what = format!("{method} {path} by {uid}:{gid}: {answer}");
            if allowed.contains(&role) {
                assert_eq!(status, 200, "{what}");
            } else {
                assert_eq!(status, 403, "{what}");
                let error = api_error(&answer);
                assert_eq!(error.code, ErrorCode::Denied, "{what}");
                assert!(error.message.contains(&format!("{role:?}")) && error.hint.is_some(), "{what}");
                assert!(server.backend.changes.lock().unwrap().is_empty(), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn who_may_not_ask_hears_so_before_the_body_is_read() {
    let server = Server::start();
    for (gid, allowed) in [(PROVISION_GID, &["observe", "provision"][..]), (OBSERVE_GID, &["observe"]), (1000, &[])] {
        server.become_user(1000, gid);
        for (method, path, ..) in ENDPOINTS.into_iter().filter(|(.., role)| !allowed.contains(role)) {
            // Whoever waits for this body waits in vain.
            let head =
                format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 60000\r\n\r\n");
            let answer = server.bytes(head.into_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{method} {path} by a member of {gid}: {answer}");
        }
    }
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_backend() {
    let server = Server::start();
    for (method, path, body, _) in ENDPOINTS {
        server.raw(method, path, body).await;
    }
    let changes = server.backend.changes.lock().unwrap().clone();
    assert_eq!(
        changes,
        [
            "cancel_job wipe-0",
            "release_refs data/pg Some(\"docker\") Some(\"a\")",
            "clone_volume copy",
            "create_snapshots 2",
            "rollback data/pg@before true",
            "rename_volume data/pg db",
            "rename_snapshot data/pg@before then",
            r#"label_volume data/pg {"tier": "fast"} ["old"]"#,
            r#"label_snapshot data/pg@before {"tier": "fast"} []"#,
            r#"label_pv 00000000-0000-0000-0000-000000000007 {"tier": "fast"} []"#,
            "set_volume data/pg Some(\"full\")",
            "protect_volume data/pg true",
            "protect_volume data/pg false",
            "protect_snapshot data/pg@before true",
            "protect_snapshot data/pg@before false",
            "create_volume pg",
            "unmount_volume data/pg",
            "attach_volume data/vm",
            "attach_volume_read_only data/vm",
            "detach_volume data/vm",
            "resize_volume data/pg +10G",
            "check_volume data/pg true",
            "trim_volume data/pg",
            "check_pool data/tank online=false",
            "repair_pool data/tank accept_loss=true",
            "delete_volume data/pg",
            "delete_volume data/pg now",
            "undelete_volume data/pg",
            "create_snapshot before",
            "unmount_snapshot data/pg@before",
            "delete_snapshot data/pg@before",
            "delete_snapshot data/pg@before now",
            "undelete_snapshot data/pg@before",
            "mount_volume data/pg /srv/pg",
            "mount_snapshot data/pg@before /mnt",
            "create_vg data",
            "delete_vg data",
            "create_pool tank",
            "delete_pool data/tank",
            "extend_vg data /dev/sdd",
            "reduce_vg data /dev/sdd",
            "rename_vg data big",
            "export_vg data",
            "import_vg data",
            "wipe_pv /dev/sdd",
            "give_up_pool data/tank false",
            "extend_pool data/tank Some(\"+1G\") None",
            "set_pool data/tank Some(\"off\")",
            "purge_pool data/tank",
            "restore_vg 2 bytes",
            "import_clone copy /dev/sdd",
            "init",
            "scan",
        ]
    );
}

#[tokio::test]
async fn the_typed_client_and_the_server_understand_each_other() {
    let server = Server::start();
    let client = server.client();
    let vg: Name = "data".parse().unwrap();
    assert_eq!(client.vgs().await.unwrap().vgs[0].name, "data");
    assert_eq!(client.vg(&vg).await.unwrap().name, "data");
    assert_eq!(client.pvs_at("/srv/a b.img").await.unwrap().pvs.len(), 1);
    assert_eq!(client.pvs(Some(&vg)).await.unwrap().pvs.len(), 2);
    let snapshot = "data/pg@before".parse().unwrap();
    assert_eq!(client.snapshot(&snapshot).await.unwrap().full_name, "data/pg@before");
    let request = CreateVolume { vg: "data".into(), name: "pg".into(), size: "10G".into(), ..CreateVolume::default() };
    let planned = client.create_volume(&request, true).await.unwrap();
    assert!(matches!(planned, Changed::Planned(plan) if plan.title == "create_volume pg"));
    assert!(server.backend.changes.lock().unwrap().is_empty());
    let done = client.create_volume(&request, false).await.unwrap();
    assert!(matches!(done, Changed::Done(outcome) if outcome.changed));
    let error = client.vg(&"other".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, ClientError::Api(error) if error.code == ErrorCode::NotFound && error.hint.is_some()));
    let other: Name = "other".parse().unwrap();
    assert!(matches!(client.pools(Some(&other)).await, Err(ClientError::Api(_))));
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason() {
    let server = Server::start();
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(REQUEST_BODY_MAX_BYTES));
    for (method, path, body, status, says) in [
        ("GET", "/", "", 404, "/ is no endpoint"),
        ("GET", "/v1/frobs", "", 404, "/v1/frobs is no endpoint"),
        ("GET", "/v1/vgs/data/pg/x", "", 404, "no endpoint"),
        ("PUT", "/v1/vgs", "{}", 405, "/v1/vgs does not take PUT"),
        ("DELETE", "/v1/vgs", "", 405, "does not take DELETE"),
        ("GET", "/v1/vgs/..%2fetc", "", 400, "vg: a name begins with a letter or a digit, not with '.'"),
        ("GET", "/v1/vgs/a%00b", "", 400, "vg: a name holds only"),
        ("GET", "/v1/vgs/%ff", "", 400, "path: "),
        ("DELETE", "/v1/volumes/data/-rf", "", 400, "volume: a name begins with"),
        ("GET", "/v1/pvs/sdb", "", 400, "id: "),
        ("GET", "/v1/vgs?frob=1", "", 400, "query: frob: unknown field `frob`"),
        ("GET", "/v1/pools?vg=-x", "", 400, "vg: a name begins"),
        ("GET", "/v1/volumes?selector=a,,b", "", 400, "selector: a selector is KEY=VALUE"),
        ("GET", "/v1/pvs?selector=a,,b", "", 400, "selector: a selector is KEY=VALUE"),
        ("GET", "/v1/snapshots?selector=-a", "", 400, "selector: the key of a label begins with"),
        ("GET", "/v1/pools?selector=a", "", 400, "query: selector: unknown field"),
        ("POST", "/v1/volumes/data/pg/labels", "{\"labels\":{}}", 400, "body: unknown field `labels`"),
        ("POST", "/v1/clones", "{\"vg\":\"data\",\"name\":\"x\"}", 400, "body: missing field `volume`"),
        ("DELETE", "/v1/vgs/data?dry_run=maybe", "", 400, "query: "),
        ("DELETE", "/v1/vgs/data?dry-run=true", "", 400, "unknown field `dry-run`, expected `dry_run`"),
        ("DELETE", "/v1/vgs/data", "{}", 400, "takes no body"),
        ("POST", "/v1/vgs", "", 400, "needs a JSON body"),
        ("POST", "/v1/vgs", " \r\n", 400, "needs a JSON body"),
        ("POST", "/v1/vgs", "{", 400, "body: EOF while parsing"),
        ("POST", "/v1/vgs", "[]", 400, "body: a list, where an object belongs"),
        ("POST", "/v1/volumes/data/pg/labels", " []", 400, "body: a list, where an object belongs"),
        ("POST", "/v1/vgs/data/extend", r#"{"files":[["/a","1G"]]}"#, 400, "body: invalid type: sequence"),
        ("POST", "/v1/vgs", "{\"name\":\"data\",\"force\":true}", 400, "body: unknown field `force`"),
        ("POST", "/v1/vgs", "{\"name\":\"data\"} x", 400, "body: trailing characters"),
        ("POST", "/v1/vgs", &"[".repeat(4096), 400, "body: "),
        ("POST", "/v1/vgs", &large, 413, "larger than 65536 bytes"),
    ] {
        let (got, answer) = server.raw(method, path, body).await;
        let error = api_error(&answer);
        assert_eq!(got, status, "{method} {path}: {answer}");
        assert!(error.message.contains(says), "{method} {path}: {}", error.message);
    }
    assert!(server.backend.changes.lock().unwrap().is_empty());
    let head = format!("GET /v1/{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    assert!(server.bytes(head.into_bytes()).await.starts_with("HTTP/1.1 4"));
    assert!(server.bytes(b"\x16\x03\x01 no HTTP\r\n\r\n".to_vec()).await.starts_with("HTTP/1.1 400"));
    assert!(server.client().vgs().await.is_ok());
}

#[tokio::test]
async fn before_recovery_is_over_nothing_is_answered_but_that() {
    let server = Server::start_with(Server::limits());
    assert_eq!(server.raw("GET", "/v1/openapi.json", "").await.0, 200, "it is the same whatever the daemon does");
    for (method, path, body, _) in ENDPOINTS.into_iter().filter(|(_, path, ..)| !path.ends_with("/openapi.json")) {
        let (status, answer) = server.raw(method, path, body).await;
        assert_eq!((status, api_error(&answer).code), (503, ErrorCode::NotReady), "{method} {path}");
    }
    server.front.set_backend(server.backend.clone());
    assert!(server.client().vgs().await.is_ok());
}

#[tokio::test]
async fn a_slow_client_is_cut_off_and_disturbs_nobody() {
    let server = Server::hasty();
    let begun = Instant::now();
    let head = server.bytes(b"GET /v1/vgs HTTP/1.1\r\nhost:".to_vec());
    let body = server.bytes(b"POST /v1/vgs HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{".to_vec());
    let client = server.client();
    let (head, body, other) = tokio::join!(head, body, client.vgs());
    assert!(other.is_ok());
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
    assert!(body.starts_with("HTTP/1.1 408") && body.contains("did not arrive in time"), "{body}");
    assert!(begun.elapsed() < PATIENCE / 2);
    assert!(server.backend.changes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_panic_costs_one_answer() {
    let server = Server::start();
    for (method, path) in [("GET", "/v1/vgs/panic"), ("DELETE", "/v1/vgs/panic")] {
        let (status, answer) = server.raw(method, path, "").await;
        assert_eq!((status, api_error(&answer).code), (500, ErrorCode::Internal), "{method}");
    }
    assert_eq!(server.front.running_changes(), 0);
    assert!(server.client().vgs().await.is_ok());
}

#[tokio::test]
async fn reads_do_not_wait_for_changes_and_changes_wait_for_their_turn() {
    let server = Server::start();
    let (backend, delete) = (&server.backend, || async { server.raw("DELETE", "/v1/vgs/gate", "").await.0 });
    let reads = async {
        until(|| backend.begun.load(Ordering::SeqCst) == 2).await;
        server.client().vgs().await.unwrap();
        let ended = backend.ended.load(Ordering::SeqCst);
        // The third one has had the time to begin, if it may.
        let page = || {
            let page = crate::metrics::registry(server.front.clone(), server.front.requests());
            crate::metrics::text(&page.unwrap()).unwrap()
        };
        until(|| page().contains("\nvolumed_changes_waiting 1\n")).await;
        turns(20).await;
        let most = backend.begun.load(Ordering::SeqCst);
        let page = page();
        backend.open();
        assert!(
            page.contains("\nvolumed_changes_running 2\n") && page.contains("\nvolumed_changes_waiting 1\n"),
            "{page}"
        );
        (most, ended)
    };
    let (a, b, c, (most, ended)) = tokio::join!(delete(), delete(), delete(), reads);
    assert_eq!((a, b, c), (200, 200, 200));
    assert_eq!(most, 2, "more changes ran at once than may");
    assert_eq!(ended, 0, "a read waited for a change");
    assert_eq!(backend.ended.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_gives_a_pool_space_does_not_wait_for_changes_that_may_be_stuck_for_want_of_it() {
    let server = Server::start();
    let (backend, delete) = (&server.backend, || async { server.raw("DELETE", "/v1/vgs/gate", "").await.0 });
    let extend = async {
        until(|| backend.begun.load(Ordering::SeqCst) == 2).await;
        let (status, answer) = server.raw("POST", "/v1/pools/data/tank/extend", "{\"size\":\"+1G\"}").await;
        let running = server.front.running_changes();
        backend.open();
        (status, answer, running)
    };
    let (a, b, (status, answer, running)) = tokio::join!(delete(), delete(), extend);
    assert_eq!((a, b, status), (200, 200, 200), "{answer}");
    assert_eq!(running, 2, "those that it did not wait for");
}

#[tokio::test]
async fn a_read_that_hangs_and_a_change_that_lasts_are_answered_in_time() {
    let short = Duration::from_millis(50);
    let server = Server::start_with(Limits { read: short, change: short, ..Server::limits() });
    server.front.set_backend(server.backend.clone());
    for method in ["GET", "DELETE"] {
        let (status, answer) = server.raw(method, "/v1/vgs/gate", "").await;
        assert_eq!((status, api_error(&answer).code), (504, ErrorCode::Timeout), "{method}");
    }
    server.backend.open();
}

#[tokio::test]
async fn a_change_runs_to_its_end_although_its_client_goes_away() {
    let server = Server::start();
    let client = server.client().with_timeouts(Duration::from_secs(1), Duration::from_secs(1));
    let result = client.delete_vg(&"gate".parse().unwrap(), false).await;
    assert!(matches!(result, Err(ClientError::Timeout { .. })));
    assert_eq!((server.backend.begun.load(Ordering::SeqCst), server.backend.ended.load(Ordering::SeqCst)), (1, 0));
    server.backend.open();
    until(|| server.backend.ended.load(Ordering::SeqCst) == 1 && server.front.running_changes() == 0).await;
}

#[tokio::test]
async fn a_stop_lets_running_changes_end_and_takes_no_new_ones() {
    let server = Server::hasty();
    // Idle, and open across the stop: it has its time for a request.
    let idle = UnixStream::connect(&server.socket).unwrap();
    let running = server.raw("DELETE", "/v1/vgs/slow", "");
    let stop = async {
        until(|| server.backend.begun.load(Ordering::SeqCst) == 1).await;
        server.front.stop_changes();
        let refused = server.raw("DELETE", "/v1/vgs/data", "").await;
        server.stop.send_replace(true);
        refused
    };
    let ((done, _), (refused, answer)) = tokio::join!(running, stop);
    assert_eq!((done, refused), (200, 503));
    assert_eq!(api_error(&answer).message, "volumed is stopping; nothing was changed");
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
    assert_eq!(server.backend.changes.lock().unwrap().as_slice(), ["delete_vg slow"]);
    drop(idle);
    assert!(UnixStream::connect(&server.socket).is_err());
}

#[tokio::test]
async fn strangers_cannot_use_up_the_connections_of_others() {
    let server = Server::start();
    server.become_user(1000, 1000);
    let held: Vec<_> = (0..4).map(|_| UnixStream::connect(&server.socket).unwrap()).collect();
    turns(20).await;
    server.become_user(1000, OBSERVE_GID);
    assert!(server.client().vgs().await.is_ok());
    let held_too: Vec<_> = (0..16).map(|_| UnixStream::connect(&server.socket).unwrap()).collect();
    turns(20).await;
    server.become_user(0, 0);
    assert!(server.client().vgs().await.is_ok());
    drop((held, held_too));
}

#[tokio::test]
async fn status_tells_that_metrics_could_not_listen() {
    let server = Server::start();
    let problem = Problem { code: "metrics_unavailable".into(), message: "taken".into(), hint: "off".into() };
    server.front.set_metrics(MetricsState { listen: None, problem: Some(problem.clone()) });
    let status = server.client().status().await.unwrap();
    assert_eq!((status.health, status.problems), (Health::Degraded, vec![problem]));
}

#[tokio::test]
async fn metrics_are_served_at_their_path_only() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(crate::metrics::run(listener, server.front.clone(), server.stop.subscribe()));
    let get = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let page = get("/metrics").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("text/plain; version=0.0.4"), "{page}");
    assert!(page.contains("volumed_vg_size_bytes{vg=\"data\"} 100"), "{page}");
    for path in ["/", "/v1/vgs", "/debug"] {
        assert!(get(path).await.starts_with("HTTP/1.1 404"), "{path}");
    }
    server.stop.send_replace(true);
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
}
