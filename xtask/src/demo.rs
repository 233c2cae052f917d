//! `cargo xtask demo`: the main job, from raw disks to a mounted volume and back, with a running commentary.

use crate::lab;
use anyhow::{Result, bail};
use clap::Args;
use std::path::Path;
use std::process::Command;

/// What runs in the guest (or, asked for, on this machine).
const SCRIPT: &str = include_str!("../assets/demo.sh");

#[derive(Args)]
pub struct Options {
    /// On this machine instead of in the lab: needs root and device-mapper; only a file of the demonstration's own serves as a disk
    #[arg(long)]
    on_host: bool,
    /// Use volumed and volctl as they are in target/release
    #[arg(long)]
    no_build: bool,
    /// The machine that runs the guest
    #[arg(long, value_enum, default_value = "uml")]
    runner: lab::spec::Runner,
}

/// The demonstration's exit code.
pub fn main(options: &Options) -> Result<i32> {
    crate::setup::all()?;
    if options.on_host {
        return on_host(options);
    }
    let disk = lab::disk::parse_disk("12G")?;
    let guest = lab::Options {
        runner: options.runner,
        disks: vec![disk.clone(), disk],
        daemon: true,
        no_build: options.no_build,
        ..lab::Options::default()
    };
    let command = ["bash", "/lab/files/demo.sh", "lab"].map(Into::into).to_vec();
    let spec = lab::spec(&guest, command, vec![("demo.sh".into(), SCRIPT.into())])?;
    eprintln!("demo: booting a guest with two 12 GiB disks (nothing on this machine is touched)");
    lab::session::run(spec, false)
}

fn on_host(options: &Options) -> Result<i32> {
    if !rustix::process::geteuid().is_root() || std::fs::File::open("/dev/mapper/control").is_err() {
        bail!(
            "--on-host needs root and device-mapper (/dev/mapper/control); without the option the lab brings its own kernel"
        );
    }
    if !options.no_build {
        crate::build_release()?;
    }
    let bin = crate::target_dir().join("release");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo.sh");
    let path = std::env::join_paths(
        [bin].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let status = Command::new("bash").arg(script).arg("host").env("PATH", path).status()?;
    Ok(status.code().unwrap_or(1))
}
