//! Endpoints for what happens and for what takes long.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use vol_api::{ApiError, Event, JobInfo, JobList};

use super::super::Front;
use super::super::call::NoQuery;
use super::super::endpoint::{Api, get, post};
use super::super::events::HEARTBEAT;
use super::super::lines;
use super::super::target::JobName;
use crate::access::Role::{Observe, Provision};
use crate::api::Backend;

/// How often who follows a job hears how far it is.
const JOB_TICK: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    /// The sequence of the last event that is known. Without it all that is kept is answered, or with `follow` nothing before now.
    since: Option<u64>,
    /// The run of the daemon that `since` is of.
    run: Option<String>,
    /// The answer goes on with what happens.
    #[serde(default)]
    follow: bool,
}

pub fn events(api: &mut impl Api) {
    api.stream::<Event, _, _, _, _, _>(
        get("event.list", Observe, "/v1/events", "What happened, and with `follow` what happens from then on").details(
            "Events are hints from memory: what is, `/v1/status` and the lists say. Kinds may be added. Who follows hears a `heartbeat` \
             every 15 seconds if nothing happens, and asks again with the last `run` and `sequence` when the answer ends.",
        ),
        |front, _, (), query: EventQuery| async move {
            let events = Arc::clone(front.events());
            let reader = events.reader(query.since, query.run.as_deref(), query.follow);
            let stall = front.limits().stall;
            Ok(move |to| async move { events.feed(reader, to, HEARTBEAT, stall).await })
        },
    );
    api.read(
        get("job.list", Observe, "/v1/jobs", "What takes long, and what of that has ended in the last hour"),
        |b, (), NoQuery {}| b.jobs().map(|jobs| JobList { jobs }),
    );
    api.read(get("job.show", Observe, "/v1/jobs/{job}", "A job"), |b, JobName(job): JobName, NoQuery {}| {
        b.job(job.as_str())
    });
    api.stream::<JobInfo, _, _, _, _, _>(
        get("job.follow", Observe, "/v1/jobs/{job}/follow", "How far a job is, every second until it has ended"),
        |front, backend, JobName(job): JobName, NoQuery {}| async move {
            let first = look(&backend, job.as_str()).await?;
            Ok(move |to| async move { follow(&front, backend, first, to).await })
        },
    );
    // For who may delete what the job is about. It frees a turn among the changes, so it does not wait for one.
    api.change(
        post("job.cancel", Provision, "/v1/jobs/{job}/cancel", "Takes back what a job had taken").brings_relief(),
        |b, JobName(job): JobName, dry| b.cancel_job(job.as_str(), dry),
    );
}

async fn look(backend: &Arc<dyn Backend>, job: &str) -> Result<JobInfo, ApiError> {
    let (backend, job) = (Arc::clone(backend), job.to_owned());
    let looked = tokio::task::spawn_blocking(move || backend.job(&job)).await;
    looked.unwrap_or_else(|_| Err(ApiError::internal("volumed has a defect here: the job could not be looked at")))
}

/// Tells how far a job is until it has ended, is not known any more, or the daemon stops.
async fn follow(front: &Front, backend: Arc<dyn Backend>, first: JobInfo, to: mpsc::Sender<Bytes>) {
    let mut job = first;
    loop {
        let Ok(line) = lines::line(&job) else { return };
        if to.send_timeout(line, front.limits().stall).await.is_err() || job.state.has_ended() || front.is_stopping() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(JOB_TICK) => {}
            () = to.closed() => return,
        }
        match look(&backend, &job.id).await {
            Ok(now) => job = now,
            Err(_) => return,
        }
    }
}
