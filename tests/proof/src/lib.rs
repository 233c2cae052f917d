//! The proof machine of volumed.
//!
//! - [`enumerate`]: every effect of every changing operation, every death, every subset of what was not flushed; recovery crashed
//!   again; sequences of two and three operations.
//! - [`seeds`]: random histories with every fault of the simulator, then a phase in which all must come right.
//! - [`sharp`]: the product is made wrong on purpose in many ways, and each must be found.
//! - [`model`] says what must be true, [`judge`] compares, [`minimise`] makes a failure small, [`report`] counts.
//!
//! The simulator (`vol-sim`) has the list of faults at its head. Everything here is deterministic: the same arguments visit the
//! same states with the same verdicts, however many threads there are.
#![forbid(unsafe_code)]

pub mod enumerate;
pub mod faults;
pub mod judge;
pub mod minimise;
pub mod model;
pub mod ops;
pub mod report;
pub mod schedule;
pub mod seeds;
pub mod sharp;
pub mod state;
pub mod work;
