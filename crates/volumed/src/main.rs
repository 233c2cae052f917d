//! The program `volumed`: configuration, log, then the daemon.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use volumed::cli::{Args, Sub};
use volumed::config::Config;
use volumed::{backend, daemon, guard, logging};

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Sub::ResumeGuard) = args.command {
        return guard::run();
    }
    let config = match Config::load(&args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("volumed: {:#}", anyhow::Error::new(error));
            // EX_CONFIG of sysexits(3): restarting does not help.
            return ExitCode::from(78);
        }
    };
    logging::start(&config.log);
    match daemon::run(config, backend::open) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
