//! `cargo xtask`: project automation. Builds without any system library; installs what the other commands need.
#![forbid(unsafe_code)]

mod bench;
mod cmd;
mod deb;
mod demo;
mod deps;
mod fuzz;
mod image;
mod lab;
mod proof;
mod setup;
mod spdx;
mod tally;
mod test;
mod tools;
mod units;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, test and try volumed", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the Debian packages that building and testing need, where they are missing
    Setup {
        /// And make the root of the lab's guests, which else the first guest does
        #[arg(long)]
        lab: bool,
    },
    /// A throw-away guest with device-mapper (docs/lab.md)
    #[command(subcommand)]
    Lab(lab::Lab),
    /// Run every test: here, in the lab, and those that boot and kill guests
    Test(test::Options),
    /// Walk every crash of every change, and seeded histories with every fault, on the simulator
    Proof(proof::Options),
    /// Show the main job with a running commentary, in the lab
    Demo(demo::Options),
    /// Measure volumed beside bare ioctls and LVM2, in guests of both kernels or on disks of this machine (docs/performance.md)
    Bench(bench::Options),
    /// Look for inputs that break what the fuzz targets claim, with cargo-fuzz (docs/fuzzing.md)
    Fuzz(fuzz::Options),
    /// Make the Debian package; its path is printed (docs/install.md)
    Deb(deb::Options),
    /// Make an image of volumed, as an OCI layout; the path of its archive is printed (docs/kubernetes.md)
    Image(image::Options),
    /// Check licences, sources, edges between our crates, unsafe code and file lengths
    Deps,
    #[command(name = "__launch", hide = true)]
    Launch,
    #[command(name = "__agent", hide = true)]
    Agent,
}

fn main() {
    // As a guest's first process: the kernel adds words of its own to the command line, so there is nothing to parse.
    if std::env::args_os().next().is_some_and(|name| name == lab::guest::INIT) {
        lab::guest::main();
    }
    let code = match Cli::parse().task {
        Task::Setup { lab } => {
            let root = || if lab { lab::prepare(lab::spec::Runner::Uml).map(drop) } else { Ok(()) };
            setup::all().and_then(|()| root()).map(|()| 0)
        }
        Task::Lab(lab) => lab::main(lab).or_else(|err| {
            eprintln!("lab: {err:#}");
            Ok(lab::session::LAB_FAILED)
        }),
        Task::Test(options) => test::main(&options),
        Task::Proof(options) => proof::main(&options),
        Task::Demo(options) => demo::main(&options),
        Task::Bench(options) => bench::main(&options),
        Task::Fuzz(options) => fuzz::main(&options),
        Task::Deb(options) => deb::main(&options),
        Task::Image(options) => image::main(&options),
        Task::Deps => deps::main(),
        Task::Launch => lab::launch::main().map(|()| 0),
        Task::Agent => lab::agent::main().map(|()| 0),
    };
    std::process::exit(code.unwrap_or_else(|err: anyhow::Error| {
        eprintln!("xtask: {err:#}");
        1
    }));
}

/// The repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// This very executable, for as long as this process lives: cargo may meanwhile replace the file that it was started from.
pub fn own_exe() -> PathBuf {
    format!("/proc/{}/exe", std::process::id()).into()
}

/// Cargo's output folder.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => workspace().join(dir),
        _ => workspace().join("target"),
    }
}

/// The daemon and its command line, as users get them.
pub fn build_release() -> Result<()> {
    let mut cargo = cmd::cmd("cargo", ["build", "--quiet", "--release", "-p", "volumed", "-p", "volctl"]);
    cmd::run(cargo.current_dir(workspace()).stdin(std::process::Stdio::null()))
        .context("cannot build volumed and volctl (--no-build uses what is there)")
}
