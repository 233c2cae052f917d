//! Runs a command: asks the daemon, shows the answer, says what came of it.

mod backup;
mod change;
mod debug;
mod doctor;
mod fs;
mod life;
mod member;
mod paths;
mod pool;
mod pv;
mod refs;
mod repair;
mod snapshot;
#[cfg(test)]
mod tests;
pub(crate) mod thick;
mod usage;
mod vg;
mod volume;
mod watch;
mod whole;

use std::io::{self, Write};

use serde::Serialize;
use vol_api::Client;

use crate::cli::{Command, Global, Output};
use crate::dialog::Dialog;
use crate::render::{Format, Table, clean};
use crate::{Failure, exit};

/// The code to exit with when nothing failed, or why it failed.
type Run = Result<u8, Failure>;

/// Everything a command needs: the daemon, how to show, where to, and whom to ask.
pub struct Session<'a> {
    client: Client,
    output: Output,
    format: Format,
    quiet: bool,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    dialog: &'a mut dyn Dialog,
}

/// Runs `command` and returns the exit code; failures are already shown.
pub async fn run(command: Command, session: &mut Session<'_>) -> u8 {
    let result = match command {
        Command::Pv(command) => pv::run(command, session).await,
        Command::Vg(command) => vg::run(command, session).await,
        Command::Pool(command) => pool::run(command, session).await,
        Command::Volume(command) => volume::run(command, session).await,
        Command::Snapshot(command) => snapshot::run(command, session).await,
        Command::Init(init) => vg::init(init, session).await,
        Command::Debug(command) => debug::run(command, session),
        Command::Status => whole::status(session).await,
        Command::Doctor => doctor::run(session).await,
        Command::Events(events) => watch::events(events, session).await,
        Command::Job(command) => watch::job(command, session).await,
        Command::Df { runtime: None } => whole::df(session).await,
        Command::Df { runtime: Some(runtime) } => refs::df(runtime, session).await,
        Command::Refs(command) => refs::run(command, session).await,
        Command::Map { within, width } => usage::map(within.vg, width, session).await,
        Command::Completion { shell } => whole::completion(shell, session),
        Command::Man { dir } => whole::man(&dir),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            let text = if session.output == Output::Json { failure.json() } else { failure.text() };
            session.say(&text);
            failure.exit
        }
    }
}

impl<'a> Session<'a> {
    /// A session with the daemon that `global` names.
    pub fn new(global: &Global, out: &'a mut dyn Write, err: &'a mut dyn Write, dialog: &'a mut dyn Dialog) -> Self {
        Self {
            client: Client::new(&global.socket),
            output: global.output,
            format: Format { bytes: global.bytes, no_headers: global.no_headers },
            quiet: global.quiet,
            out,
            err,
            dialog,
        }
    }

    /// Text for standard error. That it cannot be written is nowhere to be told.
    fn say(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes());
    }

    /// Text for standard output. A reader that has seen enough (`| head`) is no failure.
    fn print(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(exit::FAILURE, format!("cannot write the answer: {error}"), None))
            }
            _ => Ok(()),
        }
    }

    fn print_json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.print(&format!("{text}\n")),
            Err(error) => Err(Failure::new(exit::FAILURE, format!("cannot write the answer: {error}"), None)),
        }
    }

    /// On one line.
    fn print_json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        match serde_json::to_string(value) {
            Ok(text) => self.print(&format!("{text}\n")),
            Err(error) => Err(Failure::new(exit::FAILURE, format!("cannot write the answer: {error}"), None)),
        }
    }

    fn print_names(&mut self, names: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        let text: String = names.into_iter().map(|name| clean(&name) + "\n").collect();
        self.print(&text)
    }

    /// A list: `json` as it came, `names`, or `table`; `empty` is said instead of a table without rows.
    fn list(
        &mut self,
        json: &impl Serialize,
        names: impl IntoIterator<Item = String>,
        table: &Table,
        empty: &str,
    ) -> Run {
        match self.output {
            Output::Json => self.print_json(json)?,
            Output::Name => self.print_names(names)?,
            Output::Table if !table.is_empty() => self.print(&table.render(self.format.no_headers))?,
            Output::Table if self.quiet => {}
            Output::Table => self.say(&format!("{empty}\n")),
        }
        Ok(exit::OK)
    }

    /// One object: `json` as it came, its `name`, or `facts`.
    fn show(&mut self, json: &impl Serialize, name: String, facts: &str) -> Run {
        match self.output {
            Output::Json => self.print_json(json)?,
            Output::Name => self.print_names([name])?,
            Output::Table => self.print(facts)?,
        }
        Ok(exit::OK)
    }
}
