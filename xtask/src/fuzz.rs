//! `cargo xtask fuzz`: the fuzz targets under libFuzzer. It installs nothing; it says what is missing. See docs/fuzzing.md.

use crate::cmd::{cmd, output, run};
use crate::{target_dir, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Longest input in bytes, as in `fuzz/tests/replay.rs`.
const INPUT_MAX: u32 = 64 * 1024;
/// An allocation of more than this, in MiB, is a finding: no input is so long that it could need it.
const MALLOC_MAX: u32 = 256;
/// An input that takes longer than this, in seconds, is a finding.
const INPUT_SECONDS: u32 = 20;

#[derive(Args)]
pub struct Options {
    /// One target; all of them, one after the other, if absent. `--list` shows them
    target: Option<String>,
    /// How long to look, for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Without AddressSanitizer: faster, and blind to errors in unsafe code and to huge allocations
    #[arg(long)]
    no_sanitizer: bool,
    /// Only show the targets
    #[arg(long)]
    list: bool,
}

/// Runs what the options select; the exit code.
pub fn main(options: &Options) -> Result<i32> {
    let targets = targets()?;
    if options.list {
        targets.iter().for_each(|target| println!("{target}"));
        return Ok(0);
    }
    let chosen: Vec<&String> =
        targets.iter().filter(|name| options.target.as_ref().is_none_or(|wanted| wanted == *name)).collect();
    if let (Some(wanted), true) = (&options.target, chosen.is_empty()) {
        bail!("there is no fuzz target {wanted:?}; there are: {}", targets.join(", "));
    }
    tools()?;
    let mut failed = Vec::new();
    for name in &chosen {
        eprintln!("xtask: fuzzing {name} for {} s", options.seconds);
        // What is found goes to the target folder; the corpus in the repository is only read.
        let found = target_dir().join("fuzz/corpus").join(name);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        if run(&mut fuzz(options, name, &found)).is_err() {
            failed.push(name.as_str());
        }
    }
    println!("fuzz: {} targets, {} s each, {} failed", chosen.len(), options.seconds, failed.len());
    if !failed.is_empty() {
        println!("fuzz: the inputs are in fuzz/artifacts; docs/fuzzing.md tells what to do with them");
    }
    Ok(i32::from(!failed.is_empty()))
}

/// The targets are the files in `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let folder = workspace().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        names.extend(entry?.file_name().to_str().and_then(|name| name.strip_suffix(".rs")).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn tools() -> Result<()> {
    let there = |program: &str, arg: &str| output(cmd(program, [arg]).stderr(Stdio::null())).is_ok();
    if !there("cargo-fuzz", "--version") {
        bail!("cargo-fuzz is not installed; `cargo install cargo-fuzz --locked` brings it");
    }
    if !there("c++", "--version") {
        bail!("libFuzzer needs a C++ compiler; on Debian `apt-get install g++` brings it");
    }
    Ok(())
}

fn fuzz(options: &Options, name: &str, found: &Path) -> Command {
    let sanitizer = if options.no_sanitizer { "none" } else { "address" };
    let mut cargo = cmd("cargo", ["fuzz", "run", "--fuzz-dir", "fuzz", "--features", "libfuzzer", "--sanitizer"]);
    // libFuzzer's instrumentation is an unstable option of rustc, on any toolchain.
    cargo.current_dir(workspace()).env("RUSTC_BOOTSTRAP", "1").arg(sanitizer);
    cargo.arg("--target-dir").arg(target_dir().join("fuzz/build")).arg(name).arg(found);
    cargo.arg(workspace().join("fuzz/corpus").join(name)).arg("--");
    cargo.arg(format!("-max_total_time={}", options.seconds)).arg(format!("-max_len={INPUT_MAX}"));
    cargo.arg(format!("-malloc_limit_mb={MALLOC_MAX}")).arg(format!("-timeout={INPUT_SECONDS}"));
    cargo.args(["-use_value_profile=1", "-print_final_stats=1"]);
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fuzz_target_has_a_corpus() {
        let targets = targets().unwrap();
        assert!(targets.len() >= 10, "{targets:?}");
        for name in targets {
            let corpus = workspace().join("fuzz/corpus").join(&name);
            assert!(fs::read_dir(&corpus).is_ok_and(|mut files| files.next().is_some()), "{}", corpus.display());
        }
    }
}
