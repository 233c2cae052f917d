//! Runs helper programs: an argument array, never a shell, and an error that names the program and what it said.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// A command with its arguments.
pub fn cmd<I, S>(program: &str, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// The same program for the time that nobody else needs: at the lowest priority. It ends when we do, even if we are killed, for
/// nobody would notice it then. setpriv and nice become the program, so it is our own child.
pub fn in_idle_time(program: &Command) -> Command {
    let mut command = cmd("setpriv", ["--pdeathsig", "KILL", "--", "nice", "-n", "19"]);
    command.arg(program.get_program()).args(program.get_args());
    command
}

/// Runs to the end with our own standard streams; fails unless the exit status is 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", describe(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", describe(command));
    }
    Ok(())
}

/// Runs to the end without showing output; a failure quotes the last lines of what was printed.
pub fn run_quiet(command: &mut Command) -> Result<()> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", describe(command)))?;
    if !out.status.success() {
        let text = [out.stdout, out.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        bail!("{} failed: {}\n{}", describe(command), out.status, tail(&text, 20));
    }
    Ok(())
}

/// Standard output of a command that must succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    if !out.status.success() {
        bail!("{} failed: {}", describe(command), out.status);
    }
    String::from_utf8(out.stdout).with_context(|| format!("{} printed bytes that are not UTF-8", describe(command)))
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    #[test]
    fn tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
        assert_eq!(tail("", 5), "");
    }

    #[test]
    fn what_runs_in_idle_time_is_the_last_to_get_a_processor() {
        assert_eq!(output(&mut in_idle_time(&cmd("sh", ["-c", "nice; exit \"$0\"", "0"]))).unwrap(), "19\n");
        assert_eq!(in_idle_time(&cmd("sh", ["-c", "exit 7"])).status().unwrap().code(), Some(7));
    }

    #[test]
    fn what_runs_in_idle_time_ends_with_the_one_who_started_it() {
        let mut parent = cmd("sh", ["-c", "\"$@\" & echo $!; wait", "sh"]);
        let child = in_idle_time(&cmd("sh", ["-c", "echo begun; exec sleep 1000"]));
        parent.arg(child.get_program()).args(child.get_args()).stdout(Stdio::piped());
        let mut parent = parent.spawn().unwrap();
        let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
        let said = [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()];
        let pid = said.iter().find(|line| *line != "begun").unwrap().clone();
        parent.kill().unwrap();
        parent.wait().unwrap();
        // It holds the other end of the pipe until it is gone.
        assert!(lines.next().is_none(), "{pid} lives on");
    }

    #[test]
    fn a_failure_names_the_program_and_quotes_it() {
        let err = run_quiet(&mut cmd("sh", ["-c", "echo why; exit 3"])).unwrap_err().to_string();
        assert!(err.contains("sh -c") && err.contains("why") && err.contains('3'), "{err}");
    }
}
