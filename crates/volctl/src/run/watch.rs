//! `volctl events` and `volctl job …`

use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::time::Duration;

use vol_api::{ClientError, ErrorCode, Event, EventKind, JobInfo, JobPhase};
use vol_types::Name;

use super::change::{Question, line};
use super::{Run, Session};
use crate::cli::{Events, Job, Output};
use crate::render::{event_line, job_facts, job_progress, job_table};
use crate::{Failure, exit};

/// How long a daemon that cannot be heard is left alone before it is asked again.
const AGAIN: Duration = if cfg!(test) { Duration::from_millis(10) } else { Duration::from_secs(1) };

/// One line for each event. Who follows is not sent away by a daemon that is restarted: once it has answered it is waited for.
pub async fn events(asked: Events, session: &mut Session<'_>) -> Run {
    let client = session.client.clone();
    let mut last: Option<(String, u64)> = asked.since.map(|since| (String::new(), since));
    let mut answered = false;
    // Why the daemon cannot be heard, as it was told.
    let mut away: Option<String> = None;
    loop {
        let mut shown = Ok(());
        let (mut heard, mut stopping) = (false, false);
        let since = last.clone();
        let since = since.as_ref().map(|(run, since)| (run.as_str(), *since));
        let ended = client.events(since, asked.follow, |event| {
            if away.take().is_some() {
                note(session, "volumed answers again");
            }
            last = Some((event.run.clone(), event.sequence));
            (heard, stopping) = (true, event.kind == EventKind::DaemonStopping);
            shown = show(&event, session);
            if shown.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let ended = ended.await;
        shown?;
        if !asked.follow {
            ended?;
            return Ok(exit::OK);
        }
        answered |= heard || ended.is_ok();
        let why = match ended {
            // The daemon ends the answer now and then; it goes on where that ended.
            Ok(()) if heard && !stopping => continue,
            Ok(()) if stopping => "volumed is stopping".to_owned(),
            Ok(()) => "volumed ended its answer".to_owned(),
            Err(ClientError::Api(error)) if error.code != ErrorCode::NotReady => return Err(error.into()),
            Err(error) if answered => {
                // Whoever serves next has happened to it what was not heard yet.
                last.get_or_insert_with(|| (String::new(), 0));
                error.to_string()
            }
            Err(error) => return Err(error.into()),
        };
        if away.as_ref() != Some(&why) {
            note(session, &format!("{why}; it is asked again until it answers"));
            away = Some(why);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// For people, beside the events.
fn note(session: &mut Session<'_>, text: &str) {
    if !session.quiet {
        let _ = writeln!(session.err, "volctl: {text}");
    }
}

fn show(event: &Event, session: &mut Session<'_>) -> Result<(), Failure> {
    match session.output {
        _ if event.kind == EventKind::Heartbeat => Ok(()),
        // A line for each, also for programs: nobody waits for the end of a list that has none.
        Output::Json => session.print_json_line(event),
        Output::Name => session.print_names([event.kind.as_str().to_owned()]),
        Output::Table => session.print(&event_line(event)),
    }
}

pub async fn job(command: Job, session: &mut Session<'_>) -> Run {
    let format = session.format;
    match command {
        Job::List => {
            let list = session.client.jobs().await?;
            let table = job_table(&list.jobs, format);
            session.list(&list, list.jobs.iter().map(|job| job.id.clone()), &table, "No jobs: nothing takes long now.")
        }
        Job::Show(one) => {
            let job = session.client.job(one.job.as_str()).await?;
            session.show(&job, job.id.clone(), &job_facts(&job, format))
        }
        Job::Wait(one) => wait(&one.job, session).await,
        Job::Cancel { job, change } => {
            let id = job.job.as_str();
            let shown = session.client.job(id).await?;
            if !change.dry_run && !change.yes && shown.can_cancel {
                let what =
                    format!("Cancel job {id} ({} {})? What it has done is taken back.", shown.kind, shown.object);
                session.confirm(None, &Question::YesNo(what))?;
            }
            let changed = session.client.cancel_job(id, change.dry_run).await?;
            session.report(&changed, id.to_owned(), |outcome| {
                line(&format!("job {id}"), outcome.changed, "cancelled", "was cancelled already", "")
            })
        }
    }
}

/// Until it has ended; how far it is on a terminal's standard error. A job outlives its daemon: once that has answered, the next one is waited
/// for.
async fn wait(id: &Name, session: &mut Session<'_>) -> Run {
    let client = session.client.clone();
    let progress = !session.quiet && session.output == Output::Table && std::io::stderr().is_terminal();
    let mut last: Option<JobInfo> = None;
    // Why the daemon cannot be heard, as it was told.
    let mut away: Option<String> = None;
    while !last.as_ref().is_some_and(|job| job.state.has_ended()) {
        let mut heard = 0_u64;
        let ended = client.follow_job(id.as_str(), |job| {
            if away.take().is_some() {
                note(session, "volumed answers again");
            }
            heard = heard.saturating_add(1);
            if progress {
                let text = job_progress(&job, session.format);
                let _ = write!(session.err, "\r{text}\x1b[K").and_then(|()| session.err.flush());
            }
            let ended = job.state.has_ended();
            last = Some(job);
            if ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let ended = ended.await;
        if progress && heard > 0 {
            let _ = write!(session.err, "\r\x1b[K").and_then(|()| session.err.flush());
        }
        let why = match ended {
            // The daemon ends the answer now and then, and as soon as it stops.
            Ok(()) if heard > 1 => continue,
            Ok(()) if heard == 1 => None,
            Ok(()) => Some("volumed ended its answer".to_owned()),
            Err(ClientError::Api(error)) if error.code != ErrorCode::NotReady => return Err(error.into()),
            Err(error) if last.is_some() => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if last.as_ref().is_some_and(|job| job.state.has_ended()) {
            break;
        }
        if why.is_some() && away != why {
            note(session, &format!("{}; it is asked again until it answers", why.as_deref().unwrap_or_default()));
            away = why;
        }
        tokio::time::sleep(AGAIN).await;
    }
    let Some(job) = last else { return Ok(exit::OK) };
    let facts = job_facts(&job, session.format);
    session.show(&job, job.id.clone(), &facts)?;
    Ok(if job.state == JobPhase::Done { exit::OK } else { exit::FAILURE })
}
