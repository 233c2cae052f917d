//! Jobs: their ids outlive the engine, they say how far they are, and those that may be are cancelled.

use std::sync::{Arc, Mutex};

use vol_core::RefusalCode;
use vol_core::plan::fs::NewSize;
use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_engine::moving::Pace;
use vol_engine::{CreateThick, Done, Engine, EngineError, Job, JobId, JobKind, JobState, News};
use vol_sim::{Fault, SimHost};
use vol_types::*;

use super::bench::*;

const MIB: u64 = 1 << 20;

fn group() -> (SimHost, Engine<SimHost>) {
    let host = machine();
    let engine = start(&host);
    engine.create_vg(&vg_request(&["/dev/sda", "/dev/sdb"]), false).unwrap();
    (host, engine)
}

type Heard = Arc<Mutex<Vec<(JobId, Option<JobState>)>>>;

/// What the engine tells of jobs: begun, or ended how.
fn listen(engine: &Engine<SimHost>) -> Heard {
    let heard = Heard::default();
    let told = heard.clone();
    engine.on_news(move |news| {
        let job = match news {
            News::JobBegun(job) => (job.id, None),
            News::JobEnded(job) => (job.id, Some(job.state)),
            News::PoolGrown { .. } => return,
        };
        told.lock().unwrap().push(job);
    });
    heard
}

/// Cancels each job as soon as it begins.
fn cancel_all(engine: &Arc<Engine<SimHost>>) {
    let weak = Arc::downgrade(engine);
    engine.on_news(move |news| {
        if let (News::JobBegun(job), Some(engine)) = (news, weak.upgrade()) {
            assert!(matches!(engine.cancel_job(&job.id, true), Ok(Done::Planned(plan)) if !plan.is_empty()));
            assert!(changed(engine.cancel_job(&job.id, false).unwrap()));
        }
    });
}

fn only(engine: &Engine<SimHost>) -> Job {
    let mut jobs = engine.jobs();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs.remove(0)
}

fn free(engine: &Engine<SimHost>) -> Extents {
    engine.vgs()[0].read(vol_core::Catalog::free_extents_total)
}

fn refused<T: std::fmt::Debug>(result: Result<T, EngineError>, code: RefusalCode, words: &str) {
    let Err(EngineError::Refused(refusal)) = result else { panic!("not refused: {result:?}") };
    assert_eq!(refusal.code, code, "{refusal:?}");
    assert!(refusal.message.contains(words), "{refusal:?}");
}

#[test]
fn a_job_goes_on_under_its_id_after_the_daemon_died_and_says_how_far_it_was() {
    let (host, engine) = group();
    // So slow that it is noted after each slice.
    host.set_move_rate(MIB);
    engine.set_pace(Pace { share: 100, rate: None });
    let request = CreateThick { size: Bytes::mib(64), ..thick_request("log", 1) };
    let probe = host.fork();
    let other = start(&probe);
    let before = probe.effects();
    other.create_thick(&request, false).unwrap();
    let half = before + (probe.effects() - before) / 2;
    drop(engine);

    let engine = start(&host);
    let heard = listen(&engine);
    host.fail_effect(half, Fault::KillDaemonBefore);
    assert!(engine.create_thick(&request, false).is_err());
    let (id, begun) = heard.lock().unwrap()[0].clone();
    assert_eq!((id.kind, begun), (JobKind::Wipe, None));
    assert!(heard.lock().unwrap().iter().all(|(_, ended)| *ended != Some(JobState::Done)));
    drop(engine);
    host.restart();
    host.clear_faults();

    let engine = start(&host);
    let heard = listen(&engine);
    let job = only(&engine);
    assert_eq!((job.id, &job.state, job.total), (id, &JobState::Waiting(None), Bytes::mib(64)));
    assert!(job.done >= Bytes::mib(8) && job.done < job.total, "{job:?}");
    engine.fill_unfinished(&|| true);
    assert_eq!(*heard.lock().unwrap(), [(id, None), (id, Some(JobState::Done))]);
    let ended = only(&engine);
    assert_eq!((ended.id, &ended.state, ended.done), (id, &JobState::Done, ended.total));
    assert!(ended.ended_at.is_some() && ended.started_at == job.started_at);
    refused(engine.cancel_job(&id, false), RefusalCode::Refused, "it has ended");
    drop(engine);

    // What has ended is remembered in memory alone.
    let engine = start(&host);
    assert_eq!(engine.jobs(), []);
    refused(engine.cancel_job(&id, false), RefusalCode::NotFound, "no job");
}

#[test]
fn a_cancelled_creation_leaves_nothing_and_a_cancelled_growth_the_volume_as_it_was() {
    let (host, engine) = group();
    let all = free(&engine);
    let engine = Arc::new(engine);
    cancel_all(&engine);
    refused(engine.create_thick(&thick_request("log", 1), false), RefusalCode::NotFound, "deleted while");
    let job = only(&engine);
    assert_eq!((job.id.kind, &job.state), (JobKind::Wipe, &JobState::Cancelled));
    assert!(!changed(engine.cancel_job(&job.id, false).unwrap()), "cancelled is cancelled");
    assert_eq!((free(&engine), host.dm_devices().unwrap().len()), (all, 0));
    drop(engine);

    let engine = start(&host);
    engine.create_thick(&thick_request("log", 1), false).unwrap();
    let (left, data) = (free(&engine), name("data"));
    drop(engine);
    let engine = Arc::new(start(&host));
    cancel_all(&engine);
    for _ in 0..2 {
        let grown = engine.resize_volume(&data, &volume("log"), NewSize::By(Bytes::mib(16)), false);
        refused(grown, RefusalCode::Refused, "cancelled");
        let job = only(&engine);
        assert_eq!((job.id.kind, &job.state), (JobKind::Grow, &JobState::Cancelled));
        assert_eq!((free(&engine), host.dm_devices().unwrap().len()), (left, 0));
    }
    drop(engine);
    let engine = start(&host);
    engine.resize_volume(&data, &volume("log"), NewSize::By(Bytes::mib(16)), false).unwrap();
    assert_eq!(only(&engine).state, JobState::Done);
    sound(&host, &engine, "after cancelled growths");
}

#[test]
fn a_job_that_nobody_is_at_is_cancelled_too() {
    let (host, engine) = group();
    let all = free(&engine);
    let engine = cut_short(&host, engine, &thick_request("log", 1));
    let job = only(&engine);
    assert!(changed(engine.cancel_job(&job.id, false).unwrap()));
    assert_eq!((only(&engine).state, free(&engine)), (JobState::Cancelled, all));
    assert_eq!(engine.fill_unfinished(&|| true), 0);
}

#[test]
fn what_failed_says_why() {
    let (host, _) = group();
    let probe = host.fork();
    start(&probe).create_thick(&thick_request("log", 1), false).unwrap();
    let before = host.effects();
    let failed = (before + 1..=probe.effects()).filter(|number| {
        let host = host.fork();
        let engine = start(&host);
        host.fail_effect(*number, Fault::Error(HostErrorKind::Io));
        if engine.create_thick(&thick_request("log", 1), false).is_ok() {
            return false;
        }
        let jobs = engine.jobs();
        assert!(jobs.iter().all(|job| job.state != JobState::Done && job.state != JobState::Cancelled), "{jobs:?}");
        matches!(jobs.first().map(|job| &job.state), Some(JobState::Failed(why)) if !why.is_empty())
    });
    assert!(failed.count() >= 2);
}

#[test]
fn giving_back_space_is_a_job_that_goes_on_and_cannot_be_cancelled() {
    let (host, engine) = group();
    engine.create_pool(&pool_request(), false).unwrap();
    engine.create_volume(&volume_request("pg", None), false).unwrap();
    host.set_now(1_000_000);
    engine.keep_volume(&name("data"), &volume("pg"), false).unwrap();
    assert_eq!(engine.jobs(), [], "it can still be taken back");
    host.set_now(1_000_100);
    let asked = std::cell::Cell::new(0);
    let purged = engine.purge_due(1, &|| {
        asked.set(asked.get() + 1);
        asked.get() < 4
    });
    assert_eq!(purged, 0);
    let job = only(&engine);
    assert_eq!((job.id.kind, &job.state), (JobKind::Empty, &JobState::Waiting(None)));
    refused(engine.cancel_job(&job.id, false), RefusalCode::Refused, "gone already");
    drop(engine);
    let engine = start(&host);
    assert_eq!(only(&engine).id, job.id);
    assert_eq!(engine.purge_due(1, &|| true), 1);
    assert_eq!((only(&engine).id, only(&engine).state), (job.id, JobState::Done));
}

#[test]
fn what_is_kept_about_jobs_goes_with_what_they_are_about() {
    let (_, engine) = group();
    engine.create_pool(&pool_request(), false).unwrap();
    for number in 0..3 {
        // Begun, and interrupted without an end that is told.
        let volume_name = format!("log{number}");
        engine.create_volume(&volume_request(&volume_name, None), false).unwrap();
        engine.keep_volume(&name("data"), &volume(&volume_name), false).unwrap();
    }
    let host = engine.host().clone();
    host.set_now(host.now() + 1_000);
    let asked = std::cell::Cell::new(0);
    engine.purge_due(1, &|| {
        asked.set(asked.get() + 1);
        asked.get() < 4
    });
    let begun: Vec<_> = engine.jobs().into_iter().filter(|job| job.ended_at.is_none()).collect();
    assert!(!begun.is_empty() && engine.jobs_in_mind() >= 1, "{begun:?}");
    // The group is another machine's now.
    engine.export_vg(&name("data"), false).unwrap();
    ["/dev/sda", "/dev/sdb"].iter().for_each(|disk| host.remove_disk(disk));
    engine.scan(&[], false).unwrap();
    assert!(engine.vgs().is_empty());
    assert_eq!(engine.jobs(), []);
    assert_eq!(engine.jobs_in_mind(), 0, "it is kept for ever");
}
