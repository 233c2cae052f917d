//! What benchmarks share: disks under test, peers to compare with, samples with their rounds, tables with aims, records and pictures
//! (`docs/adr/0035-the-bench-tool.md`). The program over it is `vol-bench`; `cargo xtask bench` runs that where it can run.
//!
//! Times of one machine say little about another: what is told are ratios of peers that took turns in one run, and counts, which hold
//! everywhere.
#![forbid(unsafe_code)]

pub mod client;
pub mod counters;
pub mod disk;
pub mod fio;
pub mod machine;
pub mod marks;
pub mod peer;
pub mod peers;
pub mod plot;
pub mod process;
pub mod program;
pub mod record;
pub mod samples;
pub mod table;
pub mod writer;

use std::time::{Duration, Instant};

/// How long something took, and what it gave. What failed has no time.
///
/// # Errors
/// Those of `work`.
pub fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Duration, T)> {
    let begin = Instant::now();
    let done = work()?;
    Ok((begin.elapsed(), done))
}

/// Waits until udev has looked at the devices of what was done before: on one processor that would be counted for what is done next.
pub fn at_rest() {
    program::succeeds("udevadm", &["settle", "--timeout=10"]);
}
