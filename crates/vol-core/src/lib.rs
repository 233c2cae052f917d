//! The functional core: decides, never acts.
//!
//! [`plan`] turns a catalog, what was observed of the world, and a request into a [`plan::Plan`]: an ordered list of steps,
//! each with its preconditions. Nothing here reads a clock, a disk or randomness; ids and the time are passed in. The same
//! input gives the same plan, which is what `--dry-run` prints and what tests compare.
#![forbid(unsafe_code)]

pub mod allocate;
pub mod catalog;
pub mod check;
pub mod dm;
pub mod fill;
pub mod observed;
pub mod plan;
pub mod refusal;
pub mod scope;
pub mod step;

pub use catalog::{Catalog, VolumeName};
pub use plan::Plan;
pub use refusal::{Refusal, RefusalCode};
pub use scope::Scope;
pub use step::{Action, Requirement, Step};
