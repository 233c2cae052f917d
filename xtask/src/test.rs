//! `cargo xtask test`: every test of the workspace. Ordinary tests run here; `device_*` binaries of package vol-tests run as root in
//! the lab on disks they may destroy; `scenario_*` binaries run here and boot, kill and boot guests themselves.

use crate::cmd::{cmd, output};
use crate::tally::{Reader, Tally};
use crate::{build_release, target_dir, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The package whose binaries are sorted by the beginning of their names.
const PACKAGE: &str = "vol-tests";
/// The disks of a device test's guest.
const DISKS: usize = 4;
const DISK_SIZE: &str = "4G";
/// A guest that takes longer than this is stuck.
const DEVICE_SECONDS: &str = "1200";

#[derive(Args)]
#[command(group(clap::ArgGroup::new("where").args(["host_only", "lab_only"])))]
pub struct Options {
    /// Nothing that needs the lab. Device tests then run on this machine, on the disks named in VOLUMED_TEST_DISKS, or skip
    #[arg(long)]
    host_only: bool,
    /// Only what needs the lab
    #[arg(long)]
    lab_only: bool,
    /// Optimized test binaries
    #[arg(long)]
    release: bool,
    /// Only tests whose name, or whose binary's name, contains this
    filter: Option<String>,
}

/// Runs what the options select; the exit code.
pub fn main(options: &Options) -> Result<i32> {
    let begin = Instant::now();
    crate::setup::all()?;
    let mut total = Tally::default();
    if !options.lab_only {
        total += workspace_tests(options)?;
    }
    let binaries = discover(options)?;
    let wanted = |binary: &&Binary| !options.lab_only || binary.kind() != Kind::Host;
    let binaries: Vec<&Binary> = binaries.iter().filter(wanted).filter(|binary| binary.selected(options)).collect();
    if binaries.iter().any(|binary| binary.kind() != Kind::Host) && !options.host_only {
        build_release()?;
    }
    for binary in binaries {
        total += binary.run(options)?;
    }
    eprintln!("xtask: all tests took {:.0} s", begin.elapsed().as_secs_f32());
    println!("{total}");
    if let (Some(filter), 0) = (&options.filter, total.passed + total.failed + total.skipped) {
        bail!("no test has {filter:?} in its name");
    }
    Ok(if total.failed == 0 { 0 } else { 1 })
}

fn cargo(options: &Options, args: &[&str]) -> Command {
    let mut cargo = cmd("cargo", args);
    cargo.current_dir(workspace());
    if options.release {
        cargo.arg("--release");
    }
    cargo
}

fn workspace_tests(options: &Options) -> Result<Tally> {
    let mut cargo = cargo(options, &["test", "--workspace", "--exclude", PACKAGE, "--no-fail-fast"]);
    cargo.args(["--", "--show-output"]).args(&options.filter);
    if !options.host_only && rustix::process::geteuid().is_root() {
        // The lab's own tests boot guests.
        cargo.env("VOLUMED_XTASK", std::env::current_exe()?);
    }
    follow(&mut cargo, "cargo test")
}

/// Runs a program that prints test results, shows what it prints, and counts.
fn follow(command: &mut Command, name: &str) -> Result<Tally> {
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let mut reader = Reader::default();
    let mut lines = BufReader::new(child.stdout.take().context("no pipe")?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if let Some(shown) = reader.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])) {
            println!("{shown}");
        }
        line.clear();
    }
    let status = child.wait()?;
    if !status.success() && reader.tally.failed == 0 {
        // Not a test said no: the build, the lab or the binary itself broke.
        reader.tally.failed += 1;
        eprintln!("xtask: {name} broke: {status}");
    }
    if status.success() && reader.results == 0 && reader.tally.skipped == 0 {
        reader.tally.passed += 1;
    }
    eprintln!("xtask: {name}: {} ({:.1} s)", reader.tally, begin.elapsed().as_secs_f32());
    Ok(reader.tally)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host,
    Device,
    Scenario,
}

#[derive(Debug)]
struct Binary {
    name: String,
    path: PathBuf,
}

impl Binary {
    fn kind(&self) -> Kind {
        match &self.name {
            name if name.starts_with("device_") => Kind::Device,
            name if name.starts_with("scenario_") => Kind::Scenario,
            _ => Kind::Host,
        }
    }

    /// The filter for the tests in it: none where the binary's own name is meant.
    fn filter<'a>(&self, options: &'a Options) -> Option<&'a str> {
        options.filter.as_deref().filter(|filter| !self.name.contains(filter))
    }

    fn selected(&self, options: &Options) -> bool {
        let Some(filter) = self.filter(options) else { return true };
        let list = Command::new(&self.path).arg("--list").arg(filter).stderr(Stdio::null()).output();
        list.is_ok_and(|list| String::from_utf8_lossy(&list.stdout).lines().any(|line| line.ends_with(": test")))
    }

    fn run(&self, options: &Options) -> Result<Tally> {
        let name = &self.name;
        let in_lab = !options.host_only && self.kind() != Kind::Host;
        if in_lab && !rustix::process::geteuid().is_root() {
            println!("skipped: {name}: the lab needs root");
            return Ok(Tally { skipped: 1, ..Tally::default() });
        }
        eprintln!("xtask: {name}{}", if in_lab { " (lab)" } else { "" });
        let exe = std::env::current_exe()?;
        let mut command = match self.kind() {
            Kind::Device if in_lab => self.in_guest(&exe),
            _ => Command::new(&self.path),
        };
        if self.kind() != Kind::Host {
            // They share disks and processors.
            command.arg("--test-threads=1");
        }
        if in_lab && self.kind() == Kind::Scenario {
            command.env("VOLUMED_XTASK", &exe).env("VOLUMED_TEST_BIN_DIR", target_dir().join("release"));
        }
        command.arg("--show-output").args(self.filter(options)).current_dir(workspace().join("tests"));
        follow(&mut command, name)
    }

    fn in_guest(&self, xtask: &Path) -> Command {
        let mut lab = Command::new(xtask);
        lab.args(["lab", "run", "--no-build", "--timeout", DEVICE_SECONDS]);
        for _ in 0..DISKS {
            lab.args(["--disk", DISK_SIZE]);
        }
        let disks: Vec<String> = (0..DISKS).map(|index| format!("/dev/labdisk{index}")).collect();
        lab.env("VOLUMED_TEST_DISKS", disks.join(",")).env("VOLUMED_TEST_BIN_DIR", "/usr/local/bin");
        lab.arg("--bin").arg(&self.path).arg("--").arg(self.path.file_name().unwrap_or_default());
        lab
    }
}

/// Builds the package's test binaries; cargo says where they are.
fn discover(options: &Options) -> Result<Vec<Binary>> {
    let json =
        output(&mut cargo(options, &["test", "-p", PACKAGE, "--no-run", "--message-format=json-render-diagnostics"]))
            .context("the test binaries do not build")?;
    let binaries = parse_artifacts(&json)?;
    if let Some(twice) = binaries.windows(2).find(|pair| pair[0].name == pair[1].name) {
        bail!("two test binaries are called {}", twice[0].name);
    }
    Ok(binaries)
}

fn parse_artifacts(json: &str) -> Result<Vec<Binary>> {
    let mut binaries = Vec::new();
    for line in json.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line)?;
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            continue;
        }
        let (Some(name), Some(path)) = (message["target"]["name"].as_str(), message["executable"].as_str()) else {
            continue;
        };
        binaries.push(Binary { name: name.to_owned(), path: path.into() });
    }
    binaries.sort_by(|a, b| (a.kind() as u8, &a.name).cmp(&(b.kind() as u8, &b.name)));
    Ok(binaries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_found_and_sorted_by_kind() {
        let json = r#"
{"reason":"compiler-artifact","profile":{"test":true},"target":{"name":"scenario_power"},"executable":"/t/scenario_power-1"}
{"reason":"compiler-artifact","profile":{"test":true},"target":{"name":"device_thin"},"executable":"/t/device_thin-1"}
{"reason":"compiler-artifact","profile":{"test":true},"target":{"name":"sim"},"executable":"/t/sim-1"}
{"reason":"compiler-artifact","profile":{"test":false},"target":{"name":"vol_core"},"executable":null}
{"reason":"build-finished","success":true}"#;
        let found = parse_artifacts(json).unwrap();
        let kinds: Vec<_> = found.iter().map(|binary| (binary.name.as_str(), binary.kind())).collect();
        assert_eq!(kinds, [("sim", Kind::Host), ("device_thin", Kind::Device), ("scenario_power", Kind::Scenario)]);
    }
}
