use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use vol_api::{ClientError, ErrorCode};

use super::*;
use crate::server::Limits;
use crate::server::tests::fake::{OBSERVE_GID, PATIENCE, PROVISION_GID, Server, until};

fn parsed(answer: &str) -> Vec<Event> {
    answer.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What came after `since`, without following.
async fn after(server: &Server, query: &str) -> Vec<Event> {
    let (status, body) = server.raw("GET", &format!("/v1/events{query}"), "").await;
    assert_eq!(status, 200, "{body}");
    parsed(&body)
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

fn standing(code: &str, message: &str) -> Standing {
    let problem = Problem { code: code.into(), message: message.into(), hint: String::new() };
    Standing { key: code.into(), object: Some("data/tank".into()), problem }
}

#[test]
fn jobs_that_ended_are_counted_by_kind_and_by_what_became_of_them() {
    let events = Events::new(Uuid::nil());
    let job = |state| JobInfo { kind: "copy".into(), state, ..JobInfo::default() };
    for state in [JobPhase::Done, JobPhase::Failed, JobPhase::Done] {
        events.job_ended(job(state));
    }
    let registry = crate::metrics::registry(Arc::new(events), &crate::metrics::Requests::default()).unwrap();
    let page = crate::metrics::text(&registry).unwrap();
    let count = |kind: &str, state: &str| {
        let name = format!("volumed_jobs_ended_total{{kind=\"{kind}\",state=\"{state}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)).map(|text| text.parse::<u64>().unwrap())
    };
    assert_eq!([count("copy", "done"), count("copy", "failed"), count("copy", "cancelled")], [2, 1, 0].map(Some));
    assert_eq!(count("wipe", "failed"), Some(0), "so that the first one is a growth");
}

#[tokio::test]
async fn changes_are_events_with_who_made_them_and_nothing_else_is() {
    let server = Server::start();
    server.become_user(1000, PROVISION_GID);
    for (method, path, body) in [
        ("GET", "/v1/vgs", ""),
        ("DELETE", "/v1/volumes/data/pg?dry_run=true", ""),
        ("DELETE", "/v1/vgs/data", ""),
        ("DELETE", "/v1/volumes/data/pg", ""),
    ] {
        server.raw(method, path, body).await;
    }
    let events = after(&server, "").await;
    assert_eq!(kinds(&events), ["daemon_started", "changed"]);
    let told = events[1].operation.clone().unwrap();
    assert_eq!((told.name.as_str(), told.uid, told.role.as_deref()), ("volume.delete", 1000, Some("provision")));
    assert_eq!((events[1].object.as_deref(), events[1].sequence), (Some("data/pg"), 2));
    assert_eq!(events[1].message, "volume.delete data/pg by uid 1000");
    assert_eq!(kinds(&after(&server, "?since=1").await), ["changed"]);
    assert!(after(&server, "?since=2").await.is_empty());
}

/// What was told of problems: their codes.
async fn told(server: &Server) -> Vec<(EventKind, String)> {
    let events = after(server, "?since=1").await;
    events.into_iter().map(|one| (one.kind, one.problem.unwrap().code)).collect()
}

#[tokio::test]
async fn a_problem_is_told_once_when_it_comes_and_once_when_it_goes() {
    let server = Server::start();
    let listener = server.backend.listener.lock().unwrap().clone().unwrap();
    listener.problems(vec![standing("pool_nearly_full", "80 %")]);
    listener.problems(vec![standing("pool_nearly_full", "81 %"), standing("pv_missing", "gone")]);
    listener.problems(vec![standing("pv_missing", "gone")]);
    listener.problems(vec![]);
    let (came, went) = (EventKind::ProblemAppeared, EventKind::ProblemGone);
    assert_eq!(
        told(&server).await,
        [(came, "pool_nearly_full"), (came, "pv_missing"), (went, "pool_nearly_full"), (went, "pv_missing")]
            .map(|(kind, code)| (kind, code.to_owned()))
    );
}

#[tokio::test]
async fn problems_of_the_server_itself_are_told_when_they_come_and_when_they_go() {
    let server = Server::start_with(Server::limits());
    let taken = Problem { code: "metrics_unavailable".into(), message: "taken".into(), hint: String::new() };
    server.front.set_metrics(crate::server::MetricsState { listen: None, problem: Some(taken) });
    let sockets = ["docker", "podman"].map(|engine| Problem {
        code: "runtime_unavailable".into(),
        message: engine.into(),
        hint: String::new(),
    });
    server.front.set_runtime_problems(sockets.to_vec());
    server.front.set_backend(server.backend.clone());
    let listener = server.backend.listener.lock().unwrap().clone().unwrap();
    // A file that cannot be written, until it can.
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "in the way").unwrap();
    let keys = server.front.keys();
    keys.keep_in(&state);
    let write = async |key: &[u8]| {
        let key = crate::server::keys::Key::parse(key).unwrap();
        let Ok(crate::server::keys::Begin::New(ticket)) = keys.begin(0, &key, "f".into(), "vg.delete", None) else {
            panic!("not new")
        };
        ticket.record_begun().await.unwrap();
    };
    write(b"one").await;
    listener.problems(vec![standing("pv_missing", "gone")]);
    std::fs::remove_file(&state).unwrap();
    write(b"two").await;
    listener.problems(vec![standing("pv_missing", "gone")]);
    listener.problems(vec![]);
    let (came, went) = (EventKind::ProblemAppeared, EventKind::ProblemGone);
    assert_eq!(
        told(&server).await,
        [
            (came, "metrics_unavailable"),
            (came, "runtime_unavailable"),
            (came, "runtime_unavailable"),
            (came, "idempotency_keys_unwritten"),
            (came, "pv_missing"),
            (went, "idempotency_keys_unwritten"),
            (went, "pv_missing"),
        ]
        .map(|(kind, code)| (kind, code.to_owned()))
    );
}

#[tokio::test]
async fn who_follows_hears_what_happens_until_the_daemon_stops() {
    let server = Server::start();
    let client = server.client();
    let follow = async {
        let mut heard = Vec::new();
        let done = client.events(Some(("", 0)), true, |event| {
            heard.push(event);
            ControlFlow::Continue(())
        });
        done.await.unwrap();
        heard
    };
    let happen = async {
        until(|| server.front.events.news.receiver_count() == 1).await;
        server.raw("DELETE", "/v1/volumes/data/pg", "").await;
        let listener = server.backend.listener.lock().unwrap().clone().unwrap();
        listener.pool_grown("data/tank".into(), "grew".into());
        listener.job_begun(JobInfo { object: "data/log".into(), ..JobInfo::default() });
        server.front.stop_changes();
        server.stop.send_replace(true);
    };
    let (heard, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(follow, happen) }).await.unwrap();
    assert_eq!(kinds(&heard), ["daemon_started", "changed", "pool_grown", "job_begun", "daemon_stopping"]);
    assert!(heard.iter().zip(1..).all(|(event, number)| event.sequence == number && event.run == heard[0].run));
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_missed_is_said() {
    let events = Events::new(Uuid::from_u128(7));
    for number in 0..KEPT as u64 + 10 {
        events.pool_grown(format!("p{number}"), String::new());
    }
    let read = |since, run: Option<&str>, follow| {
        let mut reader = events.reader(since, run, follow);
        let (lines, ends) = events.next(&mut reader);
        let text: Vec<u8> = lines.iter().flat_map(|line| line.to_vec()).collect();
        (parsed(&String::from_utf8(text).unwrap()), ends)
    };
    let (all, ends) = read(Some(3), None, false);
    assert_eq!((all[0].kind, all[0].sequence, all[1].sequence, all.len(), ends), (EventKind::Gap, 10, 11, 65, false));
    assert!(all[0].message.starts_with("events 4 to 10 are not kept any more"), "{}", all[0].message);
    let last = KEPT as u64 + 10;
    assert_eq!(read(Some(last - 1), None, false).0[0].object.as_deref(), Some("p1033"));
    assert_eq!(read(Some(last), None, true), (vec![], false));
    assert_eq!(read(None, None, true), (vec![], false), "to follow is from now on");
    assert_eq!(read(Some(last + 1), None, false).0[0].kind, EventKind::Gap, "of another run");
    let run = Uuid::from_u128(7).to_string();
    assert!(read(Some(last), Some(&run), false).0.is_empty());
    assert!(read(Some(last), Some("other"), false).0[0].message.starts_with("the daemon was restarted"));
}

#[tokio::test]
async fn a_follower_that_does_not_read_is_cut_and_holds_up_nobody() {
    let server = Server::hasty();
    let ask = |query: &str| {
        use std::io::Write as _;
        let mut stream = UnixStream::connect(&server.socket).unwrap();
        write!(stream, "GET /v1/events?{query} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        stream
    };
    let mut stuck = ask("follow=true&since=0");
    until(|| server.front.events.news.receiver_count() == 1).await;
    let begun = Instant::now();
    let long = "x".repeat(4000);
    for _ in 0..KEPT {
        server.front.events.pool_grown("data/tank".into(), long.clone());
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "telling waits for nobody");
    assert!(server.client().vgs().await.is_ok());
    until(|| server.front.events.news.receiver_count() == 0).await;
    let mut rest = Vec::new();
    stuck.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stuck.read_to_end(&mut rest);
    assert!(rest.len() < KEPT * 4000, "all of it was sent");
}

#[tokio::test]
async fn a_follower_that_is_gone_is_noticed_and_too_many_are_refused() {
    let server = Server::start();
    server.become_user(1000, OBSERVE_GID);
    let client = server.client();
    let forever = || client.events(None, true, |_| ControlFlow::Continue(()));
    let (first, second) = (Box::pin(forever()), Box::pin(forever()));
    let third = async {
        until(|| server.front.events.news.receiver_count() == 2).await;
        let refused = client.events(None, true, |_| ControlFlow::Break(())).await;
        assert!(matches!(refused, Err(ClientError::Api(error)) if error.code == ErrorCode::NotReady));
        server.become_user(0, 0);
        server.client().events(Some(("", 0)), true, |_| ControlFlow::Break(())).await.unwrap();
    };
    tokio::select! {
        _ = first => panic!("it ended"),
        _ = second => panic!("it ended"),
        () = third => {}
    }
    until(|| server.front.events.news.receiver_count() == 0).await;
    assert_eq!(server.front.followers.available_permits(), 2);
}

#[tokio::test]
async fn an_answer_that_goes_on_is_ended_in_good_order_after_its_time() {
    let server = Server::start_with(Limits { follow: Duration::from_millis(100), ..Server::limits() });
    server.front.set_backend(server.backend.clone());
    let client = server.client();
    tokio::time::timeout(PATIENCE, client.events(None, true, |_| ControlFlow::Continue(()))).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_heartbeat_says_that_the_connection_lives() {
    let events = Arc::new(Events::new(Uuid::from_u128(7)));
    events.started();
    let (to, mut lines) = mpsc::channel(4);
    let reader = events.reader(None, None, true);
    let task = tokio::spawn({
        let events = events.clone();
        async move { events.feed(reader, to, Duration::from_millis(20), PATIENCE).await }
    });
    let beat: Event = serde_json::from_slice(&lines.recv().await.unwrap()).unwrap();
    assert_eq!((beat.kind, beat.sequence), (EventKind::Heartbeat, 1));
    drop(lines);
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_follows_a_job_hears_how_far_it_is_and_its_end() {
    let server = Server::start();
    let client = server.client();
    let mut heard = Vec::new();
    let done = client.follow_job("wipe-2", |job| {
        heard.push((job.done_bytes, job.state));
        ControlFlow::Continue(())
    });
    done.await.unwrap();
    assert_eq!(heard, [(0, JobPhase::Running), (1, JobPhase::Running), (2, JobPhase::Done)]);
    for path in ["/v1/jobs/frob", "/v1/jobs/frob/follow"] {
        assert_eq!(server.raw("GET", path, "").await.0, 404, "{path}");
    }
    assert_eq!(server.raw("GET", "/v1/jobs/-rf", "").await.0, 400);
}
