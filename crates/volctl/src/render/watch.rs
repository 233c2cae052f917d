//! Events and jobs.

use vol_api::{Event, JobInfo, JobPhase};

use super::Align::{Left, Right};
use super::{Format, Table, UNKNOWN, clean};

/// `12  2026-11-22T10:40:00Z  changed  volume.create data/pg by uid 0`.
pub fn event_line(event: &Event) -> String {
    let kind = event.kind.as_str();
    format!("{:<6} {}  {kind:<16}  {}\n", event.sequence, clean(&event.at), clean(&event.message))
}

fn percent(job: &JobInfo) -> u128 {
    u128::from(job.done_bytes) * 100 / u128::from(job.total_bytes.max(1))
}

/// `wiping data/log: 3.2 GiB of 8 GiB (40 %)`.
pub fn job_progress(job: &JobInfo, format: Format) -> String {
    let verb = match job.kind.as_str() {
        "wipe" | "grow" => "wiping",
        "copy" => "copying",
        "empty" => "emptying",
        other => other,
    };
    let (done, total) = (format.size(job.done_bytes), format.size(job.total_bytes));
    let waits = if job.state == JobPhase::Waiting { ", waits" } else { "" };
    clean(&format!("{verb} {}: {done} of {total} ({} %){waits}", job.object, percent(job)))
}

pub fn job_table(jobs: &[JobInfo], format: Format) -> Table {
    let mut table = Table::new(&[
        ("JOB", Left),
        ("KIND", Left),
        ("OBJECT", Left),
        ("STATE", Left),
        ("DONE", Right),
        ("TOTAL", Right),
        ("DONE%", Right),
    ]);
    for job in jobs {
        table.push([
            job.id.clone(),
            job.kind.clone(),
            job.object.clone(),
            job.state.as_str().to_owned(),
            format.size(job.done_bytes),
            format.size(job.total_bytes),
            percent(job).to_string(),
        ]);
    }
    table
}

pub fn job_facts(job: &JobInfo, format: Format) -> String {
    let unknown = || UNKNOWN.to_owned();
    let mut facts = vec![
        ("job", job.id.clone()),
        ("kind", job.kind.clone()),
        ("object", job.object.clone()),
        ("state", job.state.as_str().to_owned()),
        ("done", format!("{} of {} ({} %)", format.size(job.done_bytes), format.size(job.total_bytes), percent(job))),
        ("started", job.started_at.clone()),
        ("ended", job.ended_at.clone().unwrap_or_else(unknown)),
        ("can be cancelled", if job.can_cancel { "yes" } else { "no" }.to_owned()),
    ];
    facts.extend(job.waits_for.clone().map(|why| ("waits", why)));
    facts.extend(job.error.clone().map(|why| ("error", why)));
    facts.iter().map(|(key, value)| format!("{key}: {}\n", clean(value))).collect()
}
