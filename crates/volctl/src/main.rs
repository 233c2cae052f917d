//! The program `volctl`: reads the command line, runs it, exits with its code.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use volctl::dialog::Terminal;
use volctl::{Session, cli::Cli, exit, run};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are a success; clap knows which is which.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot start: {error}");
            return ExitCode::from(exit::FAILURE);
        }
    };
    let (mut out, mut err, mut dialog) = (io::stdout(), io::stderr(), Terminal);
    let mut session = Session::new(&cli.global, &mut out, &mut err, &mut dialog);
    ExitCode::from(runtime.block_on(run(cli.command, &mut session)))
}
