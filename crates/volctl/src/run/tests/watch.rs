//! `events` and `job …`.

use vol_api::{Changed, Event, EventKind, JobInfo, JobList, JobPhase, Outcome};

use super::fake::Daemon;

const ID: &str = "wipe-0191d6e0-0000-7000-8000-000000000001";

fn job(state: JobPhase) -> JobInfo {
    JobInfo {
        id: ID.into(),
        kind: "wipe".into(),
        state,
        object: "data/log".into(),
        done_bytes: 2 << 30,
        total_bytes: 8 << 30,
        started_at: "2026-11-22T10:00:00Z".into(),
        ended_at: None,
        can_cancel: !state.has_ended(),
        waits_for: None,
        error: (state == JobPhase::Failed).then(|| "a disk is gone".into()),
    }
}

fn lines<T: serde::Serialize>(all: &[T]) -> String {
    all.iter().map(|one| serde_json::to_string(one).unwrap() + "\n").collect()
}

fn event(sequence: u64, kind: EventKind, message: &str) -> Event {
    let at = "2026-11-22T10:40:00Z".into();
    Event { run: "r".into(), sequence, at, kind, message: message.into(), ..Event::default() }
}

#[test]
fn events_are_lines_for_people_and_for_programs() {
    let all = [
        event(1, EventKind::DaemonStarted, "volumed serves"),
        event(1, EventKind::Heartbeat, ""),
        event(2, EventKind::Changed, "volume.create data/pg by uid 0\u{1b}[2J"),
    ];
    let daemon = Daemon::start().answer_with("GET /v1/events?follow=false", 200, lines(&all)).answer_with(
        "GET /v1/events?follow=false&since=1",
        200,
        lines(&all[2..]),
    );
    let ran = daemon.volctl("events");
    let expected = "\
1      2026-11-22T10:40:00Z  daemon_started    volumed serves
2      2026-11-22T10:40:00Z  changed           volume.create data/pg by uid 0";
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with(expected) && !ran.out.contains('\u{1b}'), "{}", ran.out);
    let ran = daemon.volctl("events --since 1 -o json");
    assert_eq!(serde_json::from_str::<Event>(&ran.out).unwrap(), all[2]);
    assert_eq!(daemon.volctl("events -o name").out, "daemon_started\nchanged\n");
    assert_eq!(daemon.volctl("events --since 7").exit, 3);
}

#[test]
fn who_follows_goes_on_where_an_answer_ended() {
    let daemon = Daemon::start()
        .answer_with("GET /v1/events?follow=true", 200, lines(&[event(4, EventKind::Changed, "one")]))
        .answer_with("GET /v1/events?follow=true&run=r&since=4", 200, lines(&[event(5, EventKind::Changed, "two")]));
    let ran = daemon.volctl("events --follow -o name");
    // What this daemon has no answer for is an error that does not pass.
    assert_eq!((ran.exit, ran.out.as_str()), (3, "changed\nchanged\n"), "{}", ran.err);
    assert_eq!(daemon.requests().last().unwrap(), "GET /v1/events?follow=true&run=r&since=5");
}

#[test]
fn who_follows_waits_for_a_daemon_that_is_restarted_or_killed_and_goes_on_after_the_last_event() {
    let again = |since: &str| format!("GET /v1/events?follow=true{since}");
    let stopping = lines(&[event(4, EventKind::Changed, "one"), event(5, EventKind::DaemonStopping, "it stops")]);
    let of_next = |sequence, kind| Event { run: "s".into(), ..event(sequence, kind, "") };
    let restarted = lines(&[of_next(0, EventKind::Gap), of_next(1, EventKind::DaemonStarted)]);
    let not_ready = r#"{"error":{"code":"not_ready","message":"volumed is still recovering"}}"#.to_owned();
    let daemon = Daemon::start()
        .answer_with(&again(""), 200, stopping)
        .then(&again("&run=r&since=5"), 503, not_ready.clone(), false)
        .then(&again("&run=r&since=5"), 200, restarted, false)
        // Killed half way through a line.
        .then(&again("&run=s&since=1"), 200, "{\"run".to_owned(), true)
        .then(&again("&run=s&since=1"), 200, lines(&[of_next(2, EventKind::Changed)]), true);
    let ran = daemon.volctl("events --follow -o name");
    let told = "changed\ndaemon_stopping\ngap\ndaemon_started\nchanged\n";
    assert_eq!((ran.exit, ran.out.as_str()), (3, told), "{}", ran.err);
    let notes: Vec<_> = ran.err.lines().filter(|line| line.starts_with("volctl: ")).collect();
    assert_eq!(notes[0], "volctl: volumed is stopping; it is asked again until it answers");
    assert!(notes[1].starts_with("volctl: volumed is still recovering; "), "{notes:?}");
    assert_eq!(notes[2], "volctl: volumed answers again");
    assert!(notes[3].contains("unexpected answer") && notes[4] == "volctl: volumed answers again", "{notes:?}");
    assert!(!daemon.volctl("-q events --follow").err.contains("answers again"));
    // Nobody is waited for who was not there.
    let nobody = Daemon::start().answer_with(&again(""), 503, not_ready).volctl("events --follow");
    assert_eq!((nobody.exit, nobody.err.contains("asked again")), (8, false), "{}", nobody.err);
}

#[test]
fn jobs_are_listed_shown_and_waited_for() {
    let list = JobList { jobs: vec![job(JobPhase::Running)] };
    let daemon = Daemon::start()
        .answer("GET /v1/jobs", &list)
        .answer(&format!("GET /v1/jobs/{ID}"), &list.jobs[0])
        .answer_with(&format!("GET /v1/jobs/{ID}/follow"), 200, lines(&[job(JobPhase::Running), job(JobPhase::Done)]))
        .answer_with("GET /v1/jobs/copy-1/follow", 200, lines(&[job(JobPhase::Failed)]));
    let ran = daemon.volctl("job list");
    assert!(ran.out.contains("data/log") && ran.out.contains("running") && ran.out.contains(" 25"), "{}", ran.out);
    let ran = daemon.volctl(&format!("job show {ID}"));
    assert!(ran.out.contains("done: 2.00 GiB of 8.00 GiB (25 %)\n"), "{}", ran.out);
    let ran = daemon.volctl(&format!("job wait {ID}"));
    assert!(ran.exit == 0 && ran.out.contains("state: done\n"), "{}{}", ran.out, ran.err);
    let ran = daemon.volctl("job wait copy-1");
    assert!(ran.exit == 1 && ran.out.contains("error: a disk is gone\n"), "{}{}", ran.out, ran.err);
    assert_eq!(daemon.volctl("job wait copy-2").exit, 3, "not known any more");
}

#[test]
fn who_waits_for_a_job_waits_for_a_daemon_that_is_restarted_or_killed_and_hears_what_became_of_the_job() {
    let asked = format!("GET /v1/jobs/{ID}/follow");
    let not_ready = r#"{"error":{"code":"not_ready","message":"volumed is still recovering"}}"#.to_owned();
    let daemon = Daemon::start()
        .then(&asked, 200, lines(&[job(JobPhase::Running)]), false)
        .then(&asked, 503, not_ready.clone(), false)
        // Killed half way through a line.
        .then(&asked, 200, "{\"id".to_owned(), true)
        .then(&asked, 200, lines(&[job(JobPhase::Running), job(JobPhase::Done)]), true);
    let ran = daemon.volctl(&format!("job wait {ID}"));
    assert!(ran.exit == 0 && ran.out.contains("state: done\n"), "{} {}{}", ran.exit, ran.out, ran.err);
    let notes: Vec<_> = ran.err.lines().filter(|line| line.starts_with("volctl: ")).collect();
    assert!(notes[0].starts_with("volctl: volumed is still recovering; it is asked again"), "{notes:?}");
    assert_eq!(notes.last(), Some(&"volctl: volumed answers again"), "{notes:?}");
    // A job that ended in between is not known any more; nobody is waited for who was not there.
    let gone = r#"{"error":{"code":"not_found","message":"there is no job any more"}}"#.to_owned();
    let daemon =
        Daemon::start().then(&asked, 200, lines(&[job(JobPhase::Running)]), false).then(&asked, 404, gone, false);
    assert_eq!(daemon.volctl(&format!("job wait {ID}")).exit, 3);
    let nobody = Daemon::start().answer_with(&asked, 503, not_ready).volctl(&format!("job wait {ID}"));
    assert_eq!((nobody.exit, nobody.err.contains("asked again")), (8, false), "{}", nobody.err);
}

#[test]
fn a_job_is_cancelled_after_a_question() {
    let outcome = Changed::Done(Outcome::changed(job(JobPhase::Cancelled)));
    let daemon = Daemon::start()
        .answer(&format!("GET /v1/jobs/{ID}"), &job(JobPhase::Running))
        .answer(&format!("POST /v1/jobs/{ID}/cancel"), &outcome);
    assert_eq!(daemon.volctl(&format!("job cancel {ID}")).exit, 9, "nobody to ask");
    let ran = daemon.volctl(&format!("job cancel {ID} --yes"));
    assert!(ran.exit == 0 && ran.out.contains("cancelled"), "{}{}", ran.out, ran.err);
}
