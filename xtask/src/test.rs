//! `cargo xtask test`: every test of the workspace. Ordinary tests run here; `device_*` binaries run as root in the lab on disks that
//! they may destroy; `scenario_*` binaries run here and boot, kill and boot guests themselves.

use crate::cmd::{cmd, output};
use crate::tally::{Reader, Tally};
use crate::{build_release, target_dir, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The disks of a device test's guest.
const DISKS: usize = 4;
const DISK_SIZE: &str = "4G";
/// Those that take longest (a minute or more), longest first. They are begun in this order, before all others: so the guests side by side
/// end together, instead of one of them with the longest alone.
const LONGEST: [&str; 19] = [
    "device_host",
    "device_space",
    "scenario_docker",
    "scenario_podman",
    "scenario_csi",
    "scenario_kill_points",
    "device_kill_points",
    "device_write_log",
    "device_thick",
    "device_fs",
    "scenario_deb",
    "scenario_life",
    "device_usage",
    "scenario_boot",
    "scenario_postgres",
    "device_metrics",
    "device_held",
    "device_daemon_death",
    "device_contract",
];
/// Needs a tool from PyPI, and says so if it is not there.
const SCHEMATHESIS: &str = "volumed schemathesis";
/// A guest that takes longer than this is stuck.
const DEVICE_SECONDS: &str = "2400";

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
    /// So many guests side by side
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    guests: u8,
    /// Only tests whose name, or whose binary's name, contains this
    filter: Option<String>,
}

/// Runs what the options select; the exit code.
pub fn main(options: &Options) -> Result<i32> {
    let begin = Instant::now();
    crate::setup::all()?;
    // While the tests are built.
    let meant = |filter: &String| SCHEMATHESIS.contains(filter.as_str());
    let tools = (!options.lab_only && options.filter.as_ref().is_none_or(meant))
        .then(|| std::thread::spawn(crate::tools::schemathesis));
    let mut binaries = discover(options)?;
    let tools = tools.map(|tools| tools.join().unwrap_or_else(|_| bail!("installing schemathesis panicked")));
    if let Some(Err(error)) = tools {
        binaries.iter_mut().filter(|binary| binary.name == SCHEMATHESIS).for_each(|binary| {
            binary.lacks = Some(format!("{error:#}").replace('\n', "; "));
        });
    }
    let wanted = |binary: &&Binary| !options.lab_only || binary.kind != Kind::Host;
    let binaries: Vec<&Binary> = binaries.iter().filter(wanted).filter(|binary| binary.selected(options)).collect();
    if !options.host_only && rustix::process::geteuid().is_root() && !binaries.is_empty() {
        if binaries.iter().any(|binary| binary.kind != Kind::Host) {
            build_release()?;
        }
        crate::lab::prepare(crate::lab::spec::Runner::Uml)?;
    }
    let (here, mut guests): (Vec<&Binary>, Vec<&Binary>) =
        binaries.iter().partition(|binary| binary.kind == Kind::Host);
    guests.sort_by_key(|binary| place(&binary.name));
    // On this machine's own disks one after the other; in guests each has its own.
    let lanes = if options.host_only { 1 } else { options.guests };
    // With a filter somebody looks for something else; then it is only shown that it still runs, if it is meant.
    let proof = !options.lab_only && options.filter.as_deref().is_none_or(|filter| "proof".contains(filter));
    // Guests wait a third of the time: for disks, for each other, for what is to happen a moment later. Tests here have moments, too,
    // in which one of them is left.
    let idle = lanes > 1 && !guests.is_empty() && rustix::process::geteuid().is_root();
    let rest = || -> Result<Tally> {
        let mut sum = Tally::default();
        for binary in here {
            sum += binary.run(options, Show::AtOnce)?;
        }
        sum += side_by_side(guests, usize::from(lanes), |binary, show| binary.run(options, show))?;
        if !options.lab_only {
            sum += doc_tests(options)?;
        }
        Ok(sum)
    };
    let total = match (proof, options.filter.is_some()) {
        (true, false) if idle => beside(|| crate::proof::as_test(false, Show::AsAWhole), rest)?,
        (true, quick) => {
            let mut sum = rest()?;
            sum += crate::proof::as_test(quick, Show::AtOnce)?;
            sum
        }
        (false, _) => rest()?,
    };
    eprintln!("xtask: all tests took {:.0} s", begin.elapsed().as_secs_f32());
    // Again, for a run of half an hour ends with what is to be done.
    for complaint in &total.complaints {
        println!("\n{complaint}");
    }
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

fn doc_tests(options: &Options) -> Result<Tally> {
    let mut cargo = cargo(options, &["test", "--workspace", "--doc", "--no-fail-fast", "--quiet"]);
    follow(cargo.args(["--", "--show-output"]).args(&options.filter), "documentation", Show::AtOnce)
}

/// Runs all of `jobs`, in their order, so many at a time; the sum of what they give. After an error nothing more is begun.
fn side_by_side<T: Send>(
    jobs: impl IntoIterator<Item = T>,
    lanes: usize,
    run: impl Fn(T, Show) -> Result<Tally> + Sync,
) -> Result<Tally> {
    let jobs = Mutex::new(jobs.into_iter().collect::<VecDeque<T>>());
    let take = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let show = if lanes > 1 { Show::AsAWhole } else { Show::AtOnce };
    let lane = || -> Result<Tally> {
        let mut sum = Tally::default();
        while let Some(job) = take() {
            match run(job, show) {
                Ok(tally) => sum += tally,
                Err(error) => {
                    jobs.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    return Err(error);
                }
            }
        }
        Ok(sum)
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes.max(1)).map(|_| scope.spawn(lane)).collect();
        let mut total = Tally::default();
        for lane in lanes {
            total += lane.join().map_err(|_| anyhow::anyhow!("a lane of tests panicked"))??;
        }
        Ok(total)
    })
}

/// Runs both at once, each to its end, whatever becomes of the other; the sum of what they give. An error of one does not hide what
/// the other has found: that is told first.
fn beside(one: impl FnOnce() -> Result<Tally> + Send, other: impl FnOnce() -> Result<Tally>) -> Result<Tally> {
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        let one = one.join().unwrap_or_else(|_| bail!("what ran beside the tests panicked"));
        (one, other)
    });
    match (one, other) {
        (Ok(mut sum), Ok(other)) => {
            sum += other;
            Ok(sum)
        }
        (Ok(tally), Err(error)) | (Err(error), Ok(tally)) => Err(error.context(format!("broken, beside {tally}"))),
        (Err(one), Err(other)) => Err(one.context(format!("{other:#}"))),
    }
}

/// When the output of a program is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Line by line as it comes.
    AtOnce,
    /// When the program has ended, in one piece: others run beside it.
    AsAWhole,
}

/// Runs a program that prints test results, shows what it prints, and counts.
pub fn follow(command: &mut Command, name: &str, show: Show) -> Result<Tally> {
    let begin = Instant::now();
    let (tally, all) = gather(command, name, show)?;
    // At once, so that the output of one program stays together.
    print!("{all}");
    eprintln!("xtask: {name}: {tally} ({:.1} s)", begin.elapsed().as_secs_f32());
    Ok(tally)
}

/// Runs a program that prints test results, and counts; what is left to be shown.
fn gather(command: &mut Command, name: &str, show: Show) -> Result<(Tally, String)> {
    command.stdin(Stdio::null());
    let mut all = String::new();
    let (mut child, output): (_, Box<dyn Read>) = match show {
        Show::AtOnce => {
            let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| cannot_start(command))?;
            let output = child.stdout.take().context("no pipe")?;
            (child, Box::new(output))
        }
        Show::AsAWhole => {
            let (output, end) = std::io::pipe()?;
            let child = command.stdout(end.try_clone()?).stderr(end).spawn().with_context(|| cannot_start(command))?;
            // The command keeps its ends of the pipe, which would never end then.
            command.stdout(Stdio::null()).stderr(Stdio::null());
            (child, Box::new(output))
        }
    };
    let mut reader = Reader::default();
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if let Some(shown) = reader.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])) {
            match show {
                Show::AtOnce => println!("{shown}"),
                Show::AsAWhole => all.extend([&shown, "\n"]),
            }
        }
        line.clear();
    }
    let status = child.wait()?;
    let results = reader.results;
    let mut tally = reader.end(name);
    if !status.success() && tally.failed == 0 {
        // Not a test said no: the build, the lab or the binary itself broke.
        tally.failed += 1;
        let broke = format!("xtask: {name} broke: {status}");
        all.extend([&broke, "\n"]);
        tally.complaints.push(broke);
    }
    if status.success() && results == 0 && tally.skipped == 0 {
        tally.passed += 1;
    }
    Ok((tally, all))
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start {:?}", command.get_program())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Host,
    Device,
    Scenario,
}

/// A test binary.
#[derive(Debug)]
struct Binary {
    kind: Kind,
    /// Package and target.
    name: String,
    path: PathBuf,
    /// The package's folder, where cargo would run it.
    folder: PathBuf,
    /// The package's programs, for a guest's PATH.
    programs: Vec<PathBuf>,
    /// Why the tool is not there that it needs.
    lacks: Option<String>,
}

impl Binary {
    /// The filter for the tests in it: none where the binary's own name is meant.
    fn filter<'a>(&self, options: &'a Options) -> Option<&'a str> {
        options.filter.as_deref().filter(|filter| !self.name.contains(filter))
    }

    fn selected(&self, options: &Options) -> bool {
        let Some(filter) = self.filter(options) else { return true };
        let list = Command::new(&self.path).arg("--list").arg(filter).stderr(Stdio::null()).output();
        list.is_ok_and(|list| String::from_utf8_lossy(&list.stdout).lines().any(|line| line.ends_with(": test")))
    }

    fn run(&self, options: &Options, show: Show) -> Result<Tally> {
        let name = &self.name;
        let in_lab = !options.host_only && self.kind != Kind::Host;
        if in_lab && !rustix::process::geteuid().is_root() {
            println!("skipped: {name}: the lab needs root");
            return Ok(Tally { skipped: 1, ..Tally::default() });
        }
        eprintln!("xtask: {name}{}", if in_lab { " (lab)" } else { "" });
        let exe = crate::own_exe();
        let mut command = match self.kind {
            Kind::Device if in_lab => self.in_guest(&exe),
            _ => Command::new(&self.path),
        };
        if self.kind != Kind::Host {
            // They share disks and processors.
            command.arg("--test-threads=1");
        }
        if !options.host_only && self.kind != Kind::Device && rustix::process::geteuid().is_root() {
            command.env("VOLUMED_XTASK", &exe).env("VOLUMED_TEST_BIN_DIR", target_dir().join("release"));
        }
        command.arg("--show-output").args(self.filter(options));
        command.envs(self.lacks.iter().map(|reason| ("VOLUMED_NO_SCHEMATHESIS", reason)));
        follow(command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder), name, show)
    }

    fn in_guest(&self, xtask: &Path) -> Command {
        let mut lab = Command::new(xtask);
        lab.args(["lab", "run", "--no-build", "--timeout", DEVICE_SECONDS]);
        for _ in 0..DISKS {
            lab.args(["--disk", DISK_SIZE]);
        }
        let disks: Vec<String> = (0..DISKS).map(|index| format!("/dev/labdisk{index}")).collect();
        lab.env("VOLUMED_TEST_DISKS", disks.join(",")).env("VOLUMED_TEST_BIN_DIR", "/usr/local/bin");
        for program in self.programs.iter().chain([&self.path]) {
            lab.arg("--bin").arg(program);
        }
        lab.arg("--").arg(self.path.file_name().unwrap_or_default());
        lab
    }
}

/// Where a binary (package and target) stands in the order of the lab; equal for those that may stand anywhere.
fn place(name: &str) -> usize {
    let target = name.rsplit(' ').next().unwrap_or(name);
    LONGEST.iter().position(|longest| *longest == target).unwrap_or(LONGEST.len())
}

/// Builds the test binaries; cargo says where they are.
fn discover(options: &Options) -> Result<Vec<Binary>> {
    let args = ["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"];
    parse_artifacts(&output(&mut cargo(options, &args)).context("the tests do not build")?)
}

fn parse_artifacts(json: &str) -> Result<Vec<Binary>> {
    let mut binaries = Vec::new();
    let mut programs: Vec<(PathBuf, PathBuf)> = Vec::new();
    for line in json.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line)?;
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let (Some(target), Some(path), Some(manifest)) =
            (message["target"]["name"].as_str(), message["executable"].as_str(), message["manifest_path"].as_str())
        else {
            continue;
        };
        let folder = Path::new(manifest).parent().context("a manifest without a folder")?.to_owned();
        if message["profile"]["test"] != true {
            programs.push((folder, path.into()));
            continue;
        }
        let package = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kind = match target {
            _ if target.starts_with("device_") => Kind::Device,
            _ if target.starts_with("scenario_") => Kind::Scenario,
            _ => Kind::Host,
        };
        let what = message["target"]["kind"][0].as_str().filter(|kind| ["bin", "example"].contains(kind));
        let name = match what {
            Some(what) => format!("{package} {what} {target}"),
            None => format!("{package} {target}"),
        };
        binaries.push(Binary { kind, name, path: path.into(), folder, programs: Vec::new(), lacks: None });
    }
    for binary in &mut binaries {
        let own = programs.iter().filter(|(folder, _)| *folder == binary.folder);
        binary.programs = own.map(|(_, program)| program.clone()).collect();
    }
    binaries.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(binaries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally { passed, failed, skipped, complaints: Vec::new() }
    }

    #[test]
    fn binaries_are_found_and_sorted_by_kind() {
        let json = r#"
{"reason":"compiler-artifact","profile":{"test":true},"target":{"kind":["test"],"name":"scenario_power"},"executable":"/t/scenario_power-1","manifest_path":"/w/tests/Cargo.toml"}
{"reason":"compiler-artifact","profile":{"test":true},"target":{"kind":["test"],"name":"device_thin"},"executable":"/t/device_thin-1","manifest_path":"/w/tests/Cargo.toml"}
{"reason":"compiler-artifact","profile":{"test":true},"target":{"kind":["bin"],"name":"volumed"},"executable":"/t/volumed-1","manifest_path":"/w/crates/volumed/Cargo.toml"}
{"reason":"compiler-artifact","profile":{"test":false},"target":{"kind":["bin"],"name":"tool"},"executable":"/t/tool","manifest_path":"/w/tests/Cargo.toml"}
{"reason":"compiler-artifact","profile":{"test":false},"target":{"kind":["lib"],"name":"vol_core"},"executable":null,"manifest_path":"/w/crates/vol-core/Cargo.toml"}
{"reason":"build-finished","success":true}"#;
        let found = parse_artifacts(json).unwrap();
        let kinds: Vec<_> = found.iter().map(|binary| (binary.name.as_str(), binary.kind)).collect();
        assert_eq!(
            kinds,
            [
                ("volumed bin volumed", Kind::Host),
                ("tests device_thin", Kind::Device),
                ("tests scenario_power", Kind::Scenario)
            ]
        );
        assert_eq!(found[0].folder, Path::new("/w/crates/volumed"));
        // A package's programs go with its tests, and not with those of others.
        assert_eq!(found[0].programs, Vec::<PathBuf>::new());
        assert_eq!(found[1].programs, [PathBuf::from("/t/tool")]);
    }

    #[test]
    fn the_longest_are_begun_first_and_are_all_there() {
        let mut names = ["tests device_cost", "tests scenario_kill_points", "tests device_space", "tests device_a"];
        names.sort_by_key(|name| place(name));
        assert_eq!(names, ["tests device_space", "tests scenario_kill_points", "tests device_cost", "tests device_a"]);
        for name in LONGEST {
            let mut folders = ["tests/tests", "crates/vol-linux/tests"].iter();
            assert!(folders.any(|folder| workspace().join(folder).join(name).with_extension("rs").exists()), "{name}");
        }
    }

    #[test]
    fn no_more_run_at_once_than_there_are_lanes_and_all_are_counted() {
        let running = std::sync::atomic::AtomicUsize::new(0);
        let run = |job: u64, show| {
            use std::sync::atomic::Ordering::SeqCst;
            assert_eq!(show, Show::AsAWhole);
            assert!(running.fetch_add(1, SeqCst) < 2);
            std::thread::sleep(std::time::Duration::from_millis(2));
            running.fetch_sub(1, SeqCst);
            Ok(counted(job, job % 2, 1))
        };
        let total = side_by_side(1..=10, 2, run).unwrap();
        assert_eq!(total, counted(55, 5, 10));
    }

    #[test]
    fn after_an_error_nothing_more_is_begun() {
        let begun = Mutex::new(Vec::new());
        let run = |job: u64, show| {
            assert_eq!(show, Show::AtOnce);
            begun.lock().unwrap().push(job);
            if job == 3 { bail!("broken") } else { Ok(Tally::default()) }
        };
        side_by_side(1..=10, 1, run).unwrap_err();
        assert_eq!(*begun.lock().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn two_that_run_beside_each_other_end_both_and_are_both_counted() {
        // Each waits for the other: one after the other they would never end.
        let meeting = std::sync::Barrier::new(2);
        let run = |passed| {
            meeting.wait();
            Ok(counted(passed, 1, 0))
        };
        assert_eq!(beside(|| run(2), || run(3)).unwrap(), counted(5, 2, 0));
    }

    #[test]
    fn an_error_of_one_loses_neither_the_other_nor_its_verdict() {
        let ended = std::sync::atomic::AtomicU64::new(0);
        let good = || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            ended.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(counted(7, 1, 0))
        };
        let broken = || bail!("no such program");
        for (error, before) in [(beside(broken, good), 1), (beside(good, broken), 2)] {
            let error = format!("{:#}", error.unwrap_err());
            assert!(error.contains("no such program") && error.contains("7 passed, 1 failed"), "{error}");
            assert!(ended.load(std::sync::atomic::Ordering::SeqCst) >= before);
        }
        let error = format!("{:#}", beside(|| bail!("this"), || bail!("that")).unwrap_err());
        assert!(error.contains("this") && error.contains("that"), "{error}");
        // Without a message: it would look like a test that failed.
        let panicked =
            beside(|| std::panic::resume_unwind(Box::new("as a test")), || Ok(Tally::default())).unwrap_err();
        assert!(format!("{panicked:#}").contains("panicked"));
    }

    #[test]
    fn what_a_program_says_on_both_its_outputs_is_read_to_the_end() {
        let result = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured";
        let mut program = Command::new("sh");
        program.args(["-c", &format!("echo '{result}' >&2; echo broken; exit 7")]);
        let (tally, said) = gather(&mut program, "a program", Show::AsAWhole).unwrap();
        let complaint = "xtask: a program broke: exit status: 7";
        assert_eq!(tally, Tally { complaints: vec![complaint.into()], ..counted(3, 1, 1) });
        assert_eq!(said, format!("{result}\nbroken\n{complaint}\n"));
    }
}
