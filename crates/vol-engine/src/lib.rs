//! The imperative shell: observes the world through a host, plans with `vol-core`, executes, commits, recovers.
//!
//! It makes no choices of its own: what is to be done comes as a plan. A step that fails is not undone step by step; the
//! engine observes and recovers, exactly as after a crash. See ARCHITECTURE.md.
#![forbid(unsafe_code)]

mod audit;
mod bell;
mod changes;
mod check;
mod claims;
mod clone;
mod engine;
mod error;
pub mod exec;
mod formats;
mod fs;
pub mod host;
mod hotplug;
mod jobs;
mod lease;
mod life;
pub mod links;
mod membership;
mod mount_points;
pub mod moving;
mod observe;
mod placement;
mod progress;
mod pvs;
mod queue;
mod repair;
mod restore;
mod scan;
mod space;
mod store;
mod strays;
mod thick;
mod trash;
mod usage;
mod vg;
mod wipe;

pub use changes::ChangedPage;
pub use check::Checked;
pub use engine::{CreatePool, CreateVg, CreateVolume, Done, Engine, find_volume};
pub use error::{EngineError, FailedStep, StepError};
pub use jobs::{Job, JobId, JobKind, JobState, News, unknown as unknown_job};
pub use life::CloneVolume;
pub use membership::{ExtendVg, PvName, ReduceVg};
pub use placement::PlaceOn;
pub use progress::Progress;
pub use queue::{Answer, ThinRequest};
pub use repair::{PoolChecked, Repaired};
pub use restore::{BackedUp, RestoreVg};
pub use scan::UnknownPv;
pub use space::PoolSpace;
pub use store::{StoreCounters, StoreError};
pub use thick::{CreateThick, Fill};
pub use usage::{FamilySpace, PoolReading, ThinSpace};
pub use vg::{OpenVg, Problem, View};
pub use vol_core::plan::grow::{ExtendPool, SetPool, SpacePolicy};
pub use vol_format::layout::Geometry;
pub use wipe::WipedPv;
