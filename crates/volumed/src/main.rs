//! The program `volumed`: configuration, log, then the daemon.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    volumed::program::run(|host| host)
}
