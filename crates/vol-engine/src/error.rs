//! What a change can come to when it does not succeed.

use vol_core::Refusal;

use crate::host::HostError;
use crate::store::StoreError;

/// A request that failed. Whatever the variant: the catalog on the disks says what is true, and the next request works on
/// that; nothing half-done is left to be taken for done.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The planner said no; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A step failed.
    #[error(transparent)]
    Step(Box<FailedStep>),
    /// Observing the world failed; nothing was changed.
    #[error("{0}")]
    Host(#[from] HostError),
}

/// A step that failed, and what became of the plan.
#[derive(Debug, thiserror::Error)]
#[error("{title}: could not {step}: {source}")]
pub struct FailedStep {
    /// What the plan was for.
    pub title: String,
    /// The step in words.
    pub step: String,
    pub source: StepError,
    /// Whether a step before it had been taken.
    pub begun: bool,
    /// What the plan had done before is taken back or finished; if not, the next recovery sees to it.
    pub settled: bool,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("{0}")]
    Host(#[from] HostError),
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A precondition did not hold when the step was reached.
    #[error("it was expected that {0}, which is not so any more")]
    Requirement(String),
    /// A new volume, which must read as zeros, has something on it.
    #[error("{0} was found on the new volume, so no file system is made on it")]
    NotBlank(String),
    /// Somebody has it open.
    #[error("{0}")]
    InUse(String),
    /// The pool is not in the state that the step must leave it in.
    #[error("{0}")]
    Pool(String),
    /// The kernel has the thin id already that was to be made. Ids are ours to give out, so this one is not ours.
    #[error(
        "the pool has a thin id {thin_id} already, which is not ours; it is left alone, and the next attempt takes another"
    )]
    Taken { pool: vol_types::PoolId, thin_id: u32 },
    /// The file system that mkfs left is not the one that was asked for.
    #[error("{0}")]
    Probe(String),
    /// The check of a file system found errors that a person has to decide about.
    #[error("{0}")]
    Damaged(String),
    /// A device or PV that the step names is not there.
    #[error("{0} is not there")]
    Missing(String),
}

impl StepError {
    /// The host's error kind, if the host is where it failed.
    pub fn host_kind(&self) -> Option<crate::host::HostErrorKind> {
        match self {
            Self::Host(error) => Some(error.kind),
            _ => None,
        }
    }
}
