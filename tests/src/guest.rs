//! Guests of the lab, booted and cut off from a host: for the `scenario_*` tests.

use crate::machine::{Ran, finish};
use crate::skip;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Shell functions for scripts in guests: each check is told of by itself (`FAILED`), and the others go on.
pub const CHECKS: &str = include_str!("checks.sh");

/// No check of a script with [`CHECKS`] failed; else those that did, with the beginning of what they say.
#[track_caller]
pub fn none_failed(out: &str) {
    const SHOWN: usize = 12;
    let mut said = Vec::new();
    let mut left = 0;
    for line in out.lines() {
        if line.starts_with("FAILED") {
            left = SHOWN;
        }
        if left > 0 {
            said.push(line);
            left -= 1;
        }
    }
    assert!(said.is_empty(), "{}", said.join("\n"));
}

/// What a command in a guest may take, unless it is told otherwise.
const TIMEOUT_SECONDS: u32 = 900;

/// How long a line of output may be waited for: a guest boots in that time on a machine that is busy, too.
const LINE: Duration = Duration::from_secs(240);

/// The exit code that says: not the command, the lab.
const LAB_FAILED: i32 = 125;

/// Names the machine that runs the guests (`cargo xtask lab run --runner`), if it is to be another one than the usual.
const RUNNER: &str = "VOLUMED_TEST_RUNNER";
/// So many times as long may a guest take that is emulated.
const EMULATED: u32 = 8;

/// The lab, and a folder for disks that outlive their guests.
pub struct Lab {
    xtask: PathBuf,
    dir: tempfile::TempDir,
}

impl Lab {
    /// `None`, and it is said why, where no guest can be booted.
    pub fn new() -> Option<Lab> {
        let Some(xtask) = std::env::var_os("VOLUMED_XTASK").map(PathBuf::from) else {
            skip("VOLUMED_XTASK does not name the xtask that runs the lab");
            return None;
        };
        static USABLE: OnceLock<Result<(), String>> = OnceLock::new();
        let lab = Lab { xtask, dir: tempfile::Builder::new().prefix("volumed-scenario-").tempdir().unwrap() };
        let tried = USABLE.get_or_init(|| match lab.run(&[], &["true"]) {
            ran if ran.code == 0 => Ok(()),
            ran => Err(format!("the lab does not work here: {}", ran.err.lines().next_back().unwrap_or_default())),
        });
        if let Err(why) = tried {
            skip(why);
            return None;
        }
        Some(lab)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the Debian package of `version` in the lab's folder, from what is built.
    #[track_caller]
    pub fn package(&self, version: &str) -> PathBuf {
        let mut deb = Command::new(&self.xtask);
        deb.args(["deb", "--no-build", "--fast", "--version", version, "--out"]).arg(self.dir.path().join("deb"));
        let ran = finish(format!("deb {version}"), deb.stdin(Stdio::null()));
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out.trim_end().into()
    }

    /// A disk that outlives its guest, for `--disk`.
    pub fn disk(&self, name: &str) -> String {
        format!("{}:4G", self.dir.path().join(name).display())
    }

    fn command(&self, options: &[&str], command: &[&str]) -> Command {
        self.command_within(TIMEOUT_SECONDS, options, command)
    }

    fn command_within(&self, seconds: u32, options: &[&str], command: &[&str]) -> Command {
        let mut lab = Command::new(&self.xtask);
        lab.args(["lab", "run", "--no-build"]);
        let seconds = match std::env::var_os(RUNNER) {
            None => seconds,
            Some(runner) => {
                lab.arg("--runner").arg(runner);
                seconds * EMULATED
            }
        };
        lab.args(["--timeout", &seconds.to_string()]).args(options).arg("--").args(command);
        lab.stdin(Stdio::null());
        lab
    }

    /// Boots a guest, runs a command in it to its end.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Ran {
        finish(format!("lab run {options:?} -- {command:?}"), &mut self.command(options, command))
    }

    /// As [`Lab::run`]; must succeed. What it printed to standard output.
    #[track_caller]
    pub fn ok(&self, options: &[&str], script: &str) -> String {
        self.ok_within(TIMEOUT_SECONDS, options, script)
    }

    /// As [`Lab::ok`], with so much time.
    #[track_caller]
    pub fn ok_within(&self, seconds: u32, options: &[&str], script: &str) -> String {
        let command = &mut self.command_within(seconds, options, &["bash", "-c", script]);
        let ran = finish(format!("lab run {options:?} -- bash -c …"), command);
        let why = if ran.code == LAB_FAILED { " (the lab itself failed)" } else { "" };
        assert_eq!(ran.code, 0, "{}{why}\n{}{}", ran.line, ran.out, ran.err);
        ran.out
    }

    /// Boots a guest and leaves it running.
    pub fn start(&self, options: &[&str], script: &str) -> Guest {
        self.start_within(TIMEOUT_SECONDS, options, script)
    }

    /// As [`Lab::start`], with so much time.
    pub fn start_within(&self, seconds: u32, options: &[&str], script: &str) -> Guest {
        let mut command = self.command_within(seconds, options, &["bash", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("xtask");
        let (send, lines) = channel();
        let (out, err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let send_err = send.clone();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).take_while(|line| send.send(line.clone()).is_ok()).count()
        });
        std::thread::spawn(move || {
            let lines = BufReader::new(err).lines().map_while(Result::ok);
            lines.take_while(|line| send_err.send(format!("stderr: {line}")).is_ok()).count()
        });
        Guest { child, lines, seen: Vec::new() }
    }

    /// Processes that have a file in the lab's folder open: a guest that is left holds its disks.
    fn holders(&self) -> Vec<String> {
        let mut holders = Vec::new();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let files = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
            if files.flat_map(|fd| std::fs::read_link(fd.path())).any(|file| file.starts_with(self.dir.path())) {
                let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                holders.push(format!("{} {}", process.file_name().to_string_lossy(), name.trim()));
            }
        }
        holders
    }
}

/// A guest that runs.
pub struct Guest {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Guest {
    /// Waits for a line of output.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, is: impl Fn(&str) -> bool) {
        if let Err(why) = self.comes(is) {
            panic!("{why}: no {what}: {:#?}", self.seen);
        }
    }

    /// Waits for a line of output that comes after many others: four minutes after each line.
    #[track_caller]
    pub fn wait_long_for(&mut self, what: &str, is: impl Fn(&str) -> bool) {
        loop {
            let came = self.comes_within(LINE, |_| true);
            assert!(came.is_ok(), "{came:?}: no {what}: {:#?}", self.seen);
            if self.seen.last().is_some_and(|line| is(line)) {
                return;
            }
        }
    }

    /// Whether a line of output comes.
    ///
    /// # Errors
    /// The guest ends without it, or it does not come within four minutes.
    pub fn comes(&mut self, is: impl Fn(&str) -> bool) -> Result<(), &'static str> {
        self.comes_within(LINE, is)
    }

    fn comes_within(&mut self, limit: Duration, is: impl Fn(&str) -> bool) -> Result<(), &'static str> {
        let end = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = is(&line);
                    self.seen.push(line);
                    if found {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err("its time has passed"),
                Err(RecvTimeoutError::Disconnected) => return Err("the guest has ended"),
            }
        }
    }

    /// What it has said.
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    /// Pulls the plug: SIGKILL to xtask. Everything that the guest had said until then. Nothing of it may be left.
    pub fn cut(mut self, lab: &Lab) -> Vec<String> {
        assert!(self.child.try_wait().unwrap().is_none(), "the guest ended by itself: {:#?}", self.seen);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let begin = Instant::now();
        while !lab.holders().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(60), "the guest outlives its xtask: {:?}", lab.holders());
            sleep(Duration::from_millis(50));
        }
        self.seen.extend(self.lines.iter());
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
