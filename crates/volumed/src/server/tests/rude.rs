//! Clients that are slow, or want too much: each is cut, and nobody else notices.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::fake::{OBSERVE_GID, PATIENCE, Server, turns, until};

/// Sends `begin`, then `drip` again and again, until the server hangs up; what it had said, and how long that took.
async fn drip(server: &Server, begin: &'static [u8], drip: &'static [u8]) -> (String, Duration) {
    let mut stream = UnixStream::connect(&server.socket).unwrap();
    let exchange = move || {
        let begun = Instant::now();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut answer = Vec::new();
        let mut sent = stream.write_all(begin);
        let mut buffer = [0; 4096];
        loop {
            assert!(begun.elapsed() < PATIENCE, "it is never cut");
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => answer.extend_from_slice(&buffer[..len]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                }
                Err(_) => break,
            }
            if sent.is_ok() {
                sent = stream.write_all(drip);
            }
        }
        (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed())
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

#[tokio::test]
async fn who_sends_byte_by_byte_has_no_more_time_than_others() {
    let server = Server::hasty();
    let head = drip(&server, b"GET /v1/vgs HTTP/1.1\r\nx: ", b"x");
    let body = drip(&server, b"POST /v1/vgs HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n", b" ");
    let chunks =
        drip(&server, b"POST /v1/vgs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n");
    let client = server.client();
    let (head, body, chunks, other) = tokio::join!(head, body, chunks, client.vgs());
    assert!(other.is_ok());
    for (what, (answer, took)) in [("head", head), ("body", body), ("chunks", chunks)] {
        assert!(took < PATIENCE / 2, "{what}: {took:?}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{what}: {answer}");
    }
    assert!(server.backend.changes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_its_limit() {
    let server = Server::start();
    let chunk: &'static [u8] = Vec::leak([b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat());
    let begin = b"POST /v1/vgs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let (answer, _) = drip(&server, begin, chunk).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(server.client().vgs().await.is_ok());
}

#[tokio::test]
async fn who_does_not_read_a_large_answer_is_cut_and_gives_its_connection_back() {
    let server = Server::hasty();
    let long = "x".repeat(4000);
    let listener = server.backend.listener.lock().unwrap().clone().unwrap();
    for _ in 0..1000 {
        listener.pool_grown("data/tank".into(), long.clone());
    }
    server.become_user(1000, OBSERVE_GID);
    // As many as one user may have.
    let mut stuck: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = UnixStream::connect(&server.socket).unwrap();
            stream.write_all(b"GET /v1/events?since=0 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    turns(20).await;
    server.become_user(1001, OBSERVE_GID);
    assert!(server.client().vgs().await.is_ok(), "another user has connections of his own");
    server.become_user(1000, OBSERVE_GID);
    let begun = Instant::now();
    while server.client().vgs().await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "they are never cut");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for stream in &mut stuck {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 1000 * 4000, "all of it was sent");
    }
}

#[tokio::test]
async fn a_flood_of_connections_costs_others_nothing() {
    let server = Server::start();
    server.become_user(1000, OBSERVE_GID);
    let flood: Vec<_> = (0..200).filter_map(|_| UnixStream::connect(&server.socket).ok()).collect();
    // So that the server has looked at who they are of.
    turns(60).await;
    server.become_user(1001, OBSERVE_GID);
    assert!(server.client().vgs().await.is_ok());
    server.become_user(0, 0);
    assert!(server.client().vgs().await.is_ok());
    drop(flood);
    server.become_user(1000, OBSERVE_GID);
    let free = || UnixStream::connect(&server.socket).is_ok();
    until(free).await;
    let begun = Instant::now();
    while server.client().vgs().await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "their connections are not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
