//! `cargo xtask proof`: the proof machine (`tests/proof`): every crash of every change, and seeded histories with every fault.

use crate::cmd::{cmd, run};
use crate::tally::Tally;
use crate::{target_dir, workspace};
use anyhow::{Context, Result};
use clap::Args;
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(Args)]
pub struct Options {
    /// Fail below so many distinct crash states
    #[arg(long)]
    states: Option<u64>,
    /// Run so many seeded histories
    #[arg(long)]
    seeds: Option<u64>,
    /// Threads
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// The first part and few seeds, without gates on counts
    #[arg(long)]
    quick: bool,
}

/// Builds it and runs it; the exit code.
pub fn main(options: &Options) -> Result<i32> {
    let mut proof = command(options)?;
    let status = proof.status().context("cannot start vol-proof")?;
    Ok(status.code().unwrap_or(1))
}

/// As one more test of `cargo xtask test`: it passes or fails as a whole.
pub fn as_test(quick: bool) -> Result<Tally> {
    let begin = Instant::now();
    let options = Options { states: None, seeds: None, jobs: 2, quick };
    let passed = command(&options)?.status().context("cannot start vol-proof")?.success();
    let tally = Tally { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 };
    eprintln!("xtask: proof: {tally} ({:.1} s)", begin.elapsed().as_secs_f32());
    Ok(tally)
}

fn command(options: &Options) -> Result<Command> {
    let mut cargo = cmd("cargo", ["build", "--quiet", "--profile", "proof", "-p", "vol-proof"]);
    run(cargo.current_dir(workspace()).stdin(Stdio::null())).context("vol-proof does not build")?;
    let mut proof = Command::new(target_dir().join("proof/vol-proof"));
    proof.arg("all").arg("--jobs").arg(options.jobs.to_string()).stdin(Stdio::null());
    for (name, value) in [("--states", options.states), ("--seeds", options.seeds)] {
        if let Some(value) = value {
            proof.arg(name).arg(value.to_string());
        }
    }
    if options.quick {
        proof.arg("--quick");
    }
    Ok(proof)
}
