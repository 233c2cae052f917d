//! Events and jobs: what happens, and what takes long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::info::Problem;
use crate::schema;

/// What an event tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The daemon serves: recovery is over.
    DaemonStarted,
    /// It takes no changes any more, and ends.
    DaemonStopping,
    /// A request changed something; `operation` says which and who asked.
    Changed,
    /// Something is not as it should be any more; `problem` says what.
    ProblemAppeared,
    /// And is again.
    ProblemGone,
    /// A pool grew by itself, ahead of demand.
    PoolGrown,
    /// Somebody is at a job, for the first time in this run of the daemon; `job` is the job.
    JobBegun,
    /// Done, failed or cancelled; `job` says which.
    JobEnded,
    /// Events are missing before this one: more than are kept happened, or another run of the daemon counts anew. `volctl status` has what is.
    Gap,
    /// Nothing happened: the connection lives. Has no sequence of its own but that of the last event.
    Heartbeat,
    /// A kind that this client does not know.
    #[default]
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl EventKind {
    /// Every kind, for documentation and tests.
    pub const ALL: [Self; 10] = [
        Self::DaemonStarted,
        Self::DaemonStopping,
        Self::Changed,
        Self::ProblemAppeared,
        Self::ProblemGone,
        Self::PoolGrown,
        Self::JobBegun,
        Self::JobEnded,
        Self::Gap,
        Self::Heartbeat,
    ];

    /// The word as it stands in the JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DaemonStarted => "daemon_started",
            Self::DaemonStopping => "daemon_stopping",
            Self::Changed => "changed",
            Self::ProblemAppeared => "problem_appeared",
            Self::ProblemGone => "problem_gone",
            Self::PoolGrown => "pool_grown",
            Self::JobBegun => "job_begun",
            Self::JobEnded => "job_ended",
            Self::Gap => "gap",
            Self::Heartbeat => "heartbeat",
            Self::Unknown => "unknown",
        }
    }
}

/// One line of `GET /v1/events`. A hint that something happened, from memory; what is, `GET /v1/status` and the lists say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Of this run of the daemon; another one counts anew.
    pub run: String,
    /// From 1, without gaps but those that are said.
    pub sequence: u64,
    #[schemars(with = "schema::Time")]
    pub at: String,
    pub kind: EventKind,
    /// `VG`, `VG/NAME`, `VG/VOLUME@SNAPSHOT`, or the id of a PV.
    pub object: Option<String>,
    /// For people, one line.
    pub message: String,
    pub operation: Option<EventOperation>,
    pub problem: Option<Problem>,
    pub job: Option<JobInfo>,
}

/// A request that changed something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventOperation {
    /// As in the daemon's log (`VOLUMED_OPERATION_ID`) and in the header `Operation-Id` of its answer.
    pub id: String,
    /// For example `volume.create`.
    pub name: String,
    pub uid: u32,
    pub role: Option<String>,
    /// Of the process that asked; another one may have it by now.
    pub pid: Option<i32>,
}

/// What has become of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    Running,
    /// Nobody is at it now; it goes on by itself unless `waits_for` says for what it waits.
    #[default]
    Waiting,
    Done,
    /// `error` says why; what it had taken was taken back.
    Failed,
    Cancelled,
}

impl JobPhase {
    /// The word as it stands in the JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// Something that takes long. Follows from what stands on the disks, so it goes on under the same id after the daemon was restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobInfo {
    pub id: String,
    /// `wipe` (a new thick volume), `copy` (a thick volume to a new one), `grow` (what a thick volume grows by is wiped), `empty` (the
    /// space of a large volume that was deleted is given back).
    pub kind: String,
    pub state: JobPhase,
    /// The volume or snapshot, `VG/NAME` or `VG/VOLUME@SNAPSHOT`.
    pub object: String,
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// Of a new volume when it was asked for, else since when this run of the daemon knows of the job.
    #[schemars(with = "schema::Time")]
    pub started_at: String,
    #[schemars(with = "Option<schema::Time>")]
    pub ended_at: Option<String>,
    pub can_cancel: bool,
    pub waits_for: Option<String>,
    pub error: Option<String>,
}

/// `GET /v1/jobs`: those that have not ended, then those that ended in the last hour of this run of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobList {
    pub jobs: Vec<JobInfo>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_states_read_back_as_they_were_written() {
        for kind in EventKind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.as_str()));
            assert_eq!(serde_json::from_str::<EventKind>(&json).unwrap(), kind);
        }
        assert_eq!(serde_json::from_str::<EventKind>("\"of_the_future\"").unwrap(), EventKind::Unknown);
        for phase in [JobPhase::Running, JobPhase::Waiting, JobPhase::Done, JobPhase::Failed, JobPhase::Cancelled] {
            assert_eq!(serde_json::to_string(&phase).unwrap(), format!("\"{}\"", phase.as_str()));
        }
    }
}
