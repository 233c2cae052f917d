//! The whole program from its command line on, over the real host or over one that a test has wrapped around it.

use std::process::ExitCode;

use clap::Parser as _;
use vol_engine::host::HostMut;
use vol_linux::LinuxHost;

use crate::cli::{Args, Sub};
use crate::config::Config;
use crate::settings::Settings;
use crate::{activate, backend, daemon, doctor, guard, logging};

/// Runs the program to its end: configuration, log, then the daemon over what `wrap` makes of the real host. The product passes
/// the host on as it is.
///
/// The exit code is 78 (`EX_CONFIG` of `sysexits(3)`) for a configuration that cannot be used: restarting does not help.
pub fn run<H: HostMut + 'static>(wrap: impl FnOnce(LinuxHost) -> H + Send + 'static) -> ExitCode {
    vol_linux::bound_memory();
    let args = Args::parse();
    match args.command {
        Some(Sub::ResumeGuard) => return guard::run(),
        Some(Sub::Doctor) => return print(&doctor::of_program(&args)),
        Some(Sub::Activate { .. }) | None => {}
    }
    let command = args.command.clone();
    let config = match Config::load(&args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("volumed: {:#}", anyhow::Error::new(error));
            return ExitCode::from(78);
        }
    };
    if args.check_config {
        println!("{}: the configuration is good", Settings::new(args, config).file().display());
        return ExitCode::SUCCESS;
    }
    let set_log = logging::start(&config.log);
    if let Some(Sub::Activate { wait, fstab }) = command {
        return activate::run(&config, fstab.as_deref(), wait, wrap);
    }
    let settings = Settings::new(args, config).with_log(set_log);
    match daemon::run(settings, |config, progress| backend::open(config, progress, wrap)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// On standard output, for `volctl`.
fn print(doctor: &vol_api::Doctor) -> ExitCode {
    match serde_json::to_string(doctor) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("volumed: {error}");
            ExitCode::FAILURE
        }
    }
}
