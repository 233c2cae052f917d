//! `volumed resume-guard`: the small process that outlives the daemon and resumes what was left suspended.

use std::process::ExitCode;

/// Runs the guard to its end.
pub fn run() -> ExitCode {
    match u8::try_from(vol_linux::guard_main()) {
        Ok(code) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}
