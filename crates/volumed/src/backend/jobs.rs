//! Jobs and news of the engine, on the wire.

use std::sync::Arc;

use vol_api::{ApiError, Changed, JobInfo, JobPhase, Outcome, Problem, rfc3339};
use vol_engine::host::HostMut;
use vol_engine::{Done, Engine, Job, JobId, JobState, News};
use vol_types::ObjectKey;

use super::boot::{self, NotAttached};
use super::change::plan;
use super::error::{from_engine, from_refusal};
use super::{EngineBackend, Facts};
use crate::api::{Change, Listener, Read, Standing};
use crate::runtimes::references::References;

fn info(job: &Job) -> JobInfo {
    let (state, waits_for, error) = match &job.state {
        JobState::Running => (JobPhase::Running, None, None),
        JobState::Waiting(why) => (JobPhase::Waiting, why.map(str::to_owned), None),
        JobState::Done => (JobPhase::Done, None, None),
        JobState::Failed(why) => (JobPhase::Failed, None, Some(why.clone())),
        JobState::Cancelled => (JobPhase::Cancelled, None, None),
    };
    JobInfo {
        id: job.id.to_string(),
        kind: job.id.kind.as_str().to_owned(),
        state,
        object: format!("{}/{}", job.vg, job.object),
        done_bytes: job.done.get(),
        total_bytes: job.total.get(),
        started_at: rfc3339(job.started_at),
        ended_at: job.ended_at.map(rfc3339),
        can_cancel: job.why_not_cancelled().is_none(),
        waits_for,
        error,
    }
}

pub fn list<H: HostMut + 'static>(backend: &EngineBackend<H>) -> Read<Vec<JobInfo>> {
    Ok(backend.engine.jobs().iter().map(info).collect())
}

fn id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|error: String| ApiError::invalid(format!("job: {error}")))
}

pub fn show<H: HostMut + 'static>(backend: &EngineBackend<H>, text: &str) -> Read<JobInfo> {
    let id = id(text)?;
    let found = backend.engine.jobs().into_iter().find(|job| job.id == id);
    found.map(|job| info(&job)).ok_or_else(|| from_refusal(vol_engine::unknown_job(&id)))
}

pub fn cancel<H: HostMut + 'static>(backend: &EngineBackend<H>, text: &str, dry_run: bool) -> Change<JobInfo> {
    Ok(match backend.engine.cancel_job(&id(text)?, dry_run).map_err(from_engine)? {
        Done::Planned(planned) => Changed::Planned(plan(&planned)),
        Done::Changed(job) => Changed::Done(Outcome::changed(info(&job))),
        Done::Unchanged(job) => Changed::Done(Outcome::unchanged(Some(info(&job)))),
    })
}

/// Tells what the engine does of itself.
pub fn listen<H: HostMut + 'static>(engine: &Engine<H>, listener: Arc<dyn Listener>) {
    engine.on_news(move |news| match news {
        News::JobBegun(job) => listener.job_begun(info(&job)),
        News::JobEnded(job) => listener.job_ended(info(&job)),
        News::PoolGrown { vg, pool, from, to } => {
            let message = format!("pool {vg}/{pool} grew by itself from {from} to {to}");
            listener.pool_grown(format!("{vg}/{pool}"), message);
        }
    });
}

/// All problems that there are now.
pub fn problems<H: HostMut>(
    engine: &Engine<H>,
    facts: &Facts,
    references: &References,
    not_attached: &NotAttached,
) -> Vec<Standing> {
    let unwritten = references.problem();
    let machine = facts.problems.iter().chain(&unwritten).map(|problem| Standing {
        key: problem.code.clone(),
        object: None,
        problem: problem.clone(),
    });
    let mut all: Vec<_> = machine.collect();
    let on_wire = |found: &vol_engine::Problem, message: String| Problem {
        code: found.code.replace('-', "_"),
        message,
        hint: found.hint.clone(),
    };
    for vg in engine.vgs() {
        let view = vg.view();
        vg.read(|catalog| {
            let name = &catalog.vg().name;
            for found in &view.problems {
                let object = match found.subject {
                    Some(ObjectKey::Pv(pv)) => pv.to_string(),
                    Some(ObjectKey::Pool(id)) => {
                        catalog.pool(id).map_or(name.to_string(), |one| format!("{name}/{}", one.name))
                    }
                    Some(ObjectKey::Volume(id)) => catalog
                        .volume(id)
                        .map_or(name.to_string(), |one| format!("{name}/{}", vol_core::VolumeName::of(one))),
                    _ => name.to_string(),
                };
                // Of the group as a whole there may be several, which only their texts tell apart.
                let which = found.subject.map_or_else(|| found.message.clone(), |subject| format!("{subject:?}"));
                all.push(Standing {
                    key: format!("{} {} {which}", vg.id, found.code),
                    object: Some(object),
                    problem: on_wire(found, format!("{name}: {}", found.message)),
                });
            }
        });
    }
    all.extend(engine.scan_problems().iter().chain(&boot::problems(engine, not_attached)).map(|found| Standing {
        key: format!("{} {}", found.code, found.message),
        object: None,
        problem: on_wire(found, found.message.clone()),
    }));
    all
}
