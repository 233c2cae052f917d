//! `cargo xtask proof`: the proof machine (`tests/proof`): every crash of every change, seeded histories with every fault, and
//! seeded defects that must all be found.

use crate::cmd::{cmd, in_idle_time, run};
use crate::tally::Tally;
use crate::test::{Show, follow};
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
    run(&mut build()).context(BROKEN)?;
    let status = command(options).status().context("cannot start vol-proof")?;
    // Both, whatever comes of the first.
    let sharp = sharp(options).status().context("cannot start vol-proof")?;
    Ok(if status.success() { sharp.code().unwrap_or(1) } else { status.code().unwrap_or(1) })
}

/// Built, and run as tests of `cargo xtask test`: the walks pass or fail as a whole, each seeded defect is a test. Beside others
/// ([`Show::AsAWhole`]) all of it takes the time that they leave.
pub fn as_test(quick: bool, show: Show) -> Result<Tally> {
    let begin = Instant::now();
    let options = Options { states: None, seeds: None, jobs: 2, quick };
    match show {
        Show::AtOnce => run(&mut build()),
        Show::AsAWhole => run(in_idle_time(&build()).current_dir(workspace()).stdin(Stdio::null())),
    }
    .context(BROKEN)?;
    eprintln!("xtask: proof: built ({:.1} s)", begin.elapsed().as_secs_f32());
    let follow = |program: Command, name: &str| match show {
        Show::AtOnce => follow(&mut { program }, name, show),
        Show::AsAWhole => follow(&mut in_idle_time(&program), name, show),
    };
    // Both, whatever comes of the first.
    let walks = follow(command(&options), "walks and seeds");
    let mut tally = follow(sharp(&options), "seeded defects")?;
    tally += walks?;
    eprintln!("xtask: proof: {tally} ({:.1} s)", begin.elapsed().as_secs_f32());
    Ok(tally)
}

const BROKEN: &str = "vol-proof does not build";

/// One build for all: with the seeded defects in it, which are off unless one is switched on. Nothing that users get is built so.
fn build() -> Command {
    let args = ["build", "--quiet", "--profile", "proof", "-p", "vol-proof", "--features", "defects"];
    let mut cargo = cmd("cargo", args);
    cargo.current_dir(workspace()).stdin(Stdio::null());
    cargo
}

fn program(task: &str, options: &Options) -> Command {
    let mut proof = Command::new(target_dir().join("proof/vol-proof"));
    proof.arg(task).arg("--jobs").arg(options.jobs.to_string()).stdin(Stdio::null());
    proof
}

fn sharp(options: &Options) -> Command {
    program("sharp", options)
}

fn command(options: &Options) -> Command {
    let mut proof = program("all", options);
    for (name, value) in [("--states", options.states), ("--seeds", options.seeds)] {
        if let Some(value) = value {
            proof.arg(name).arg(value.to_string());
        }
    }
    if options.quick {
        proof.arg("--quick");
    }
    proof
}
