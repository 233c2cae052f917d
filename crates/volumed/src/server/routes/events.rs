//! Endpoints for what happens and for what takes long.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use hyper::body::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;
use vol_api::{ApiError, JobInfo, JobList};

use super::super::Front;
use super::super::call::{Call, NoQuery};
use super::super::events::HEARTBEAT;
use super::super::lines::{self, STALL_MAX};
use super::super::target::JobName;
use crate::access::Role::Provision;
use crate::api::Backend;

/// How often who follows a job hears how far it is.
const JOB_TICK: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    since: Option<u64>,
    run: Option<String>,
    #[serde(default)]
    follow: bool,
}

pub fn events() -> Router<Arc<Front>> {
    Router::new()
        .route(
            "/v1/events",
            get(|call: Call| {
                call.lines(|front: Arc<Front>, _, (): (), query: EventQuery| async move {
                    let events = Arc::clone(front.events());
                    let reader = events.reader(query.since, query.run.as_deref(), query.follow);
                    Ok(move |to| async move { events.feed(reader, to, HEARTBEAT).await })
                })
            }),
        )
        .route("/v1/jobs", get(|call: Call| call.read(|b, (), NoQuery {}| b.jobs().map(|jobs| JobList { jobs }))))
        .route(
            "/v1/jobs/{job}",
            get(|call: Call| call.read(|b, JobName(job): JobName, NoQuery {}| b.job(job.as_str()))),
        )
        .route(
            "/v1/jobs/{job}/follow",
            get(|call: Call| {
                call.lines(|front: Arc<Front>, backend, JobName(job): JobName, NoQuery {}| async move {
                    let first = look(&backend, job.as_str()).await?;
                    Ok(move |to| async move { follow(&front, backend, first, to).await })
                })
            }),
        )
        // For who may delete what the job is about. It frees a turn among the changes, so it does not wait for one.
        .route(
            "/v1/jobs/{job}/cancel",
            post(|call: Call| {
                let act = |b: &dyn Backend, JobName(job): JobName, dry| b.cancel_job(job.as_str(), dry);
                call.brings_relief().change(Provision, act)
            }),
        )
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
        if to.send_timeout(line, STALL_MAX).await.is_err() || job.state.has_ended() || front.is_stopping() {
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
