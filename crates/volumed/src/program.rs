//! The whole program from its command line on, over the real host or over one that a test has wrapped around it.

use std::process::ExitCode;

use clap::Parser as _;
use vol_engine::host::HostMut;
use vol_linux::LinuxHost;

use crate::cli::{Args, Sub};
use crate::config::Config;
use crate::{activate, backend, daemon, guard, logging};

/// Runs the program to its end: configuration, log, then the daemon over what `wrap` makes of the real host. The product passes
/// the host on as it is.
///
/// The exit code is 78 (`EX_CONFIG` of `sysexits(3)`) for a configuration that cannot be used: restarting does not help.
pub fn run<H: HostMut + 'static>(wrap: impl FnOnce(LinuxHost) -> H + Send + 'static) -> ExitCode {
    let args = Args::parse();
    if let Some(Sub::ResumeGuard) = args.command {
        return guard::run();
    }
    let command = args.command.clone();
    let config = match Config::load(&args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("volumed: {:#}", anyhow::Error::new(error));
            return ExitCode::from(78);
        }
    };
    logging::start(&config.log);
    if let Some(Sub::Activate { wait, fstab }) = command {
        return activate::run(&config, fstab.as_deref(), wait, wrap);
    }
    match daemon::run(config, |config, progress| backend::open(config, progress, wrap)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
