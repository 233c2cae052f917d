use std::sync::atomic::Ordering;

use super::*;
use crate::server::tests::fake::{PROVISION_GID, Server, until};

const VOLUME: &str = r#"{"vg":"data","name":"pg","size":"10G"}"#;

/// One request with this key; status, headers and body.
async fn keyed(server: &Server, key: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nidempotency-key: {key}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let answer = server.bytes(request.into_bytes()).await;
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn asked(server: &Server) -> usize {
    server.backend.changes.lock().unwrap().len()
}

#[tokio::test]
async fn the_same_request_under_the_same_key_is_carried_out_once() {
    let server = Server::start();
    let (_, first) = keyed(&server, "k1", "POST", "/v1/volumes", VOLUME).await;
    let (status, second) = keyed(&server, "k1", "POST", "/v1/volumes", VOLUME).await;
    assert_eq!((status, body(&second), asked(&server)), (200, body(&first), 1));
    assert!(second.contains("idempotency-replayed: true") && !first.contains("idempotency-replayed"));
    // Another key, and no key at all.
    keyed(&server, "k2", "POST", "/v1/volumes", VOLUME).await;
    server.raw("POST", "/v1/volumes", VOLUME).await;
    assert_eq!(asked(&server), 3);
    // Another request: another body, path, query or method.
    for (method, path, body) in [
        ("POST", "/v1/volumes", r#"{"vg":"data","name":"pg","size":"11G"}"#),
        ("POST", "/v1/clones", VOLUME),
        ("DELETE", "/v1/volumes/data/pg", ""),
    ] {
        let (status, answer) = keyed(&server, "k1", method, path, body).await;
        assert_ne!(status, 200, "{answer}");
        if path != "/v1/clones" {
            assert!(status == 409 && answer.contains("used for another request: volume.create data/pg"), "{answer}");
        }
    }
    // Keys are each user's own; a dry run uses none.
    let (status, plan) = keyed(&server, "k1", "POST", "/v1/volumes?dry_run=true", VOLUME).await;
    assert!(status == 200 && plan.contains("\"steps\""), "{plan}");
    server.become_user(1000, PROVISION_GID);
    keyed(&server, "k1", "DELETE", "/v1/volumes/data/pg", "").await;
    assert_eq!(asked(&server), 4);
    for bad in ["", "a b", "ä", &"x".repeat(129), "k1\r\nidempotency-key: k2"] {
        let (status, answer) = keyed(&server, bad, "POST", "/v1/volumes", VOLUME).await;
        assert!(status == 400 && answer.contains("Idempotency-Key"), "{bad:?}: {answer}");
    }
    assert_eq!(keyed(&server, &"x".repeat(128), "POST", "/v1/volumes", VOLUME).await.0, 200);
}

#[tokio::test]
async fn who_asks_again_while_the_first_runs_gets_its_answer() {
    let server = Server::start();
    let one = || keyed(&server, "k", "DELETE", "/v1/vgs/gate", "");
    let open = async {
        until(|| server.backend.begun.load(Ordering::SeqCst) == 1).await;
        let other = keyed(&server, "k", "DELETE", "/v1/vgs/other", "").await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        server.backend.open();
        other
    };
    let ((a, first), (b, second), (other, _)) = tokio::join!(one(), one(), open);
    assert_eq!((a, b, other), (200, 200, 409));
    assert_eq!((body(&first), asked(&server)), (body(&second), 1));
}

#[tokio::test]
async fn what_was_refused_is_tried_again_and_what_failed_half_way_is_not() {
    let server = Server::start();
    let keys = server.front.keys();
    let begin = || keys.begin(0, &Key::parse(b"k").unwrap(), "f".into(), "vg.delete", Some("data".into()));
    let Ok(Begin::New(ticket)) = begin() else { panic!("not new") };
    ticket.end(&Err(ApiError::new(ErrorCode::Busy, "in use")));
    let Ok(Begin::New(given_up)) = begin() else { panic!("a failure used up the key") };
    drop(given_up);
    assert!(matches!(begin(), Ok(Begin::New(_))));
    let Ok(Begin::New(half_way)) = keys.begin(0, &Key::parse(b"h").unwrap(), "f".into(), "volume.resize", None) else {
        panic!("not new")
    };
    half_way.end(&Err(ApiError::new(ErrorCode::Io, "the device could not be made larger")));
    let again = keys.begin(0, &Key::parse(b"h").unwrap(), "f".into(), "volume.resize", None);
    assert!(matches!(again, Err(error) if error.code == ErrorCode::Refused), "it would grow twice");
    assert_eq!(keyed(&server, "p", "DELETE", "/v1/vgs/panic", "").await.0, 500);
    let (status, answer) = keyed(&server, "p", "DELETE", "/v1/vgs/panic", "").await;
    assert!(status == 422 && answer.contains("whether it took effect is not known"), "{answer}");
}

#[tokio::test]
async fn keys_outlive_the_daemon_and_what_was_cut_short_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let start = async || {
        let keys = Arc::new(Keys::default());
        keys.keep_in(dir.path());
        keys.ready().await.unwrap();
        keys
    };
    let begin = |keys: &Arc<Keys>, key: &str, what: &str| {
        keys.begin(7, &Key::parse(key.as_bytes()).unwrap(), "f".into(), what, Some("data/pg".into()))
    };
    let keys = start().await;
    let new = async |key: &str, what: &str| match begin(&keys, key, what) {
        Ok(Begin::New(ticket)) => {
            ticket.record_begun().await.unwrap();
            ticket
        }
        _ => panic!("{key} is not new"),
    };
    new("done", "volume.delete").await.end(&Ok(b"{}\n".to_vec()));
    new("failed", "volume.delete").await.end(&Err(ApiError::new(ErrorCode::Busy, "in use")));
    // These die with the daemon.
    std::mem::forget(new("cut", "volume.delete").await);
    std::mem::forget(new("cut-repeatable", "volume.create").await);
    keys.written(super::PATIENCE).await.unwrap();
    // As is half a line at the end.
    let path = dir.path().join("idempotency-keys.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"uid\":7,\"key\":\"ha");
    std::fs::write(&path, text).unwrap();
    for _ in 0..2 {
        let keys = start().await;
        assert!(matches!(begin(&keys, "done", "volume.delete"), Ok(Begin::Again(answer)) if &*answer == "{}\n"));
        let Err(error) = begin(&keys, "cut", "volume.delete") else { panic!("it is carried out again") };
        assert!(error.code == ErrorCode::Refused && error.message.contains("volume.delete of data/pg"), "{error:?}");
        assert!(
            keys.begin(8, &Key::parse(b"done").unwrap(), "f".into(), "x", None)
                .is_ok_and(|one| matches!(one, Begin::New(_)))
        );
        for key in ["failed", "cut-repeatable"] {
            match begin(&keys, key, "volume.create") {
                Ok(Begin::New(ticket)) => std::mem::forget(ticket),
                _ => panic!("{key} is not carried out again"),
            }
        }
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_costs_nothing_but_the_memory_of_keys() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["/dev/null/none".into(), std::path::PathBuf::from("/dev/full")] {
        let keys = Arc::new(Keys::default());
        keys.keep_in(&bad);
        for _ in 0..2 {
            match keys.begin(0, &Key::parse(b"k").unwrap(), "f".into(), "vg.delete", None) {
                Ok(Begin::New(ticket)) => {
                    ticket.record_begun().await.unwrap();
                    let told = keys.problem().expect("nobody is told");
                    assert!(told.message.contains(&bad.display().to_string()), "{told:?}");
                    ticket.end(&Ok(b"{}".to_vec()));
                }
                Ok(Begin::Again(answer)) => assert_eq!(&*answer, "{}"),
                _ => panic!("it cannot be used"),
            }
        }
    }
    // Lines of others are not ours.
    std::fs::write(dir.path().join("idempotency-keys.jsonl"), b"\xff\xfe{}\n[1]\n").unwrap();
    let keys = Arc::new(Keys::default());
    keys.keep_in(dir.path());
    keys.ready().await.unwrap();
    assert!(keys.table().is_empty() && keys.problem().is_none());
}

#[test]
fn keys_are_bounded_and_no_user_forgets_those_of_others() {
    let keys = Arc::new(Keys::default());
    let begin = |uid, number: usize| {
        keys.begin(uid, &Key::parse(format!("k{number}").as_bytes()).unwrap(), "f".into(), "vg.delete", None)
    };
    let Ok(Begin::New(first)) = begin(1, 0) else { panic!("not new") };
    first.end(&Ok(Vec::new()));
    for number in 0..2 * KEPT_OF_USER {
        let Ok(Begin::New(ticket)) = begin(2, number) else { panic!("{number} is not new") };
        ticket.end(&Ok(vec![b'x'; ANSWER_MAX + 1]));
    }
    assert_eq!(keys.table().len(), KEPT_OF_USER + 1);
    assert!(matches!(begin(1, 0), Ok(Begin::Again(_))));
    let Ok(Begin::Again(answer)) = begin(2, 2 * KEPT_OF_USER - 1) else { panic!("forgotten") };
    assert!(serde_json::from_str::<vol_api::Outcome<u8>>(&answer).unwrap().changed);
    // All of them under way: one more is refused, and nothing is forgotten.
    let running: Vec<_> = (0..KEPT_OF_USER).map(|number| begin(3, number)).collect();
    assert!(matches!(begin(3, KEPT_OF_USER), Err(error) if error.code == ErrorCode::NotReady));
    drop(running);
    assert!(matches!(begin(3, KEPT_OF_USER), Ok(Begin::New(_))));
}

#[test]
fn every_repeatable_operation_is_one() {
    for what in REPEATABLE {
        assert!(crate::server::operation::ALL.iter().any(|one| one.name == what && one.is_change()), "{what}");
    }
}

#[tokio::test]
async fn a_state_directory_that_hangs_holds_up_requests_with_a_key_for_a_while_and_no_others() {
    let patience = std::time::Duration::from_millis(50);
    let server = Server::start_with(crate::server::Limits { keys: patience, ..Server::limits() });
    server.front.set_backend(server.backend.clone());
    // Whoever opens it waits for the other end of the pipe.
    let dir = tempfile::tempdir().unwrap();
    let hangs = dir.path().join("idempotency-keys.new");
    nix::unistd::mkfifo(&hangs, nix::sys::stat::Mode::S_IRWXU).unwrap();
    server.front.keys().keep_in(dir.path());
    // More of them than changes may run at once.
    let most = Server::limits().changes as usize + 2;
    for number in 0..most {
        let (status, answer) = keyed(&server, &format!("k{number}"), "POST", "/v1/volumes", VOLUME).await;
        assert!(status == 503 && answer.contains(&dir.path().display().to_string()), "{answer}");
        assert!(answer.contains("has not answered for"), "{answer}");
    }
    assert_eq!((asked(&server), server.front.running_changes()), (0, 0));
    let problems: Vec<_> = server.front.problems().into_iter().map(|problem| problem.code).collect();
    assert_eq!(problems, ["idempotency_keys_unwritten"]);
    for _ in 0..most {
        assert_eq!(server.raw("POST", "/v1/volumes", VOLUME).await.0, 200);
    }
    // It answers again: the first one of those under the same key, too.
    let mut reading = std::fs::File::open(&hangs).unwrap();
    std::io::copy(&mut reading, &mut std::io::sink()).unwrap();
    std::fs::remove_file(&hangs).ok();
    let again = async || loop {
        let (status, answer) = keyed(&server, "k0", "POST", "/v1/volumes", VOLUME).await;
        if status != 503 {
            return (status, answer);
        }
    };
    let (status, answer) = again().await;
    assert_eq!((status, asked(&server)), (200, most + 1), "{answer}");
    assert!(again().await.1.contains("idempotency-replayed: true"));
}
