//! `volctl`: asks the daemon, shows the answer. It holds no state and decides nothing about volumes; only
//! `debug dump` and `pv check --offline` read disks themselves, and nothing here ever writes to one.
//!
//! `cli` is the one definition that the parser, the man pages and the completions come from. Answers go to standard
//! output, everything else (what went wrong, warnings, questions) to standard error. Exit codes: see [`exit`].
#![forbid(unsafe_code)]

pub mod cli;
pub mod dialog;
mod doctor;
mod dump;
pub mod exit;
mod fail;
pub mod render;
mod run;
mod values;

pub use fail::Failure;
pub use run::{Session, run};
