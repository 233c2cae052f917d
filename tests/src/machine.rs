//! A daemon of a test's own on the disks that the caller named.

use crate::{disk, kernel, skip, tool, wire};
use serde_json::Value;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The tests of one binary share the disks.
static TURN: Mutex<()> = Mutex::new(());
static COUNT: AtomicU32 = AtomicU32::new(0);

/// How long a start of the daemon, its end, and one command may take. None of them is a claim: they are there so that a test ends, and a
/// machine may stand still for many seconds.
const READY: Duration = Duration::from_secs(90);
const READY_SECONDS: &str = "90";
const COMMAND_SECONDS: &str = "300";

/// Where the product of the machine itself listens.
const USUAL_SOCKET: &str = "/run/volumed/control.sock";

/// What a command came to.
#[derive(Debug, Clone)]
pub struct Ran {
    pub line: String,
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Clean disks and a fresh daemon; when it goes, so does everything that it made.
pub struct Machine {
    pub disks: Vec<String>,
    /// A name for a VG that nobody else has.
    pub vg: String,
    dir: tempfile::TempDir,
    bin: PathBuf,
    daemon: Option<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// `None`, and it is said why, where these tests cannot run.
    pub fn start() -> Option<Machine> {
        Machine::with("")
    }

    /// With further lines for the configuration file.
    pub fn with(config: &str) -> Option<Machine> {
        let mut machine = Machine::without_daemon()?;
        let dir = machine.dir.path().display();
        let mut text = format!("run_dir = \"{dir}/run\"\nstate_dir = \"{dir}/state\"\n{config}");
        if !config.contains("metrics_listen") {
            text.push_str("\nmetrics_listen = \"off\"\n");
        }
        // What a test deletes is gone, unless it is about what is kept.
        if !config.contains("undelete_window") {
            text.push_str("undelete_window = \"off\"\n");
        }
        fs::write(machine.path("volumed.toml"), text).unwrap();
        machine.start_daemon();
        Some(machine)
    }

    /// The disks alone.
    fn without_daemon() -> Option<Machine> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(disks) = std::env::var("VOLUMED_TEST_DISKS").ok().filter(|disks| !disks.is_empty()) else {
            skip("VOLUMED_TEST_DISKS names no disks that may be destroyed");
            return None;
        };
        if !kernel::has_device_mapper() {
            skip("/dev/mapper/control cannot be opened: no device-mapper here, or not root");
            return None;
        }
        if std::os::unix::net::UnixStream::connect(USUAL_SOCKET).is_ok() {
            skip("a volumed that is not the test's answers on this machine");
            return None;
        }
        let disks: Vec<String> = disks.split(',').map(str::to_owned).collect();
        if disks.len() < 4 {
            skip("VOLUMED_TEST_DISKS names fewer than 4 disks");
            return None;
        }
        let bin = std::env::var_os("VOLUMED_TEST_BIN_DIR").unwrap_or_else(|| "/usr/local/bin".into());
        // Others (a client without rights) must be able to reach the socket.
        let dir = tempfile::Builder::new().prefix("volumed-test-").tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let vg = format!("vt{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        disk::clean(&disks);
        tool::settle();
        Some(Machine { disks, vg, dir, bin: bin.into(), daemon: None, _turn: turn })
    }

    /// A path in the test's own folder.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn disk(&self, index: usize) -> &str {
        &self.disks[index]
    }

    /// `VG/name`
    pub fn of(&self, name: &str) -> String {
        format!("{}/{name}", self.vg)
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&mut self) {
        self.launch(&mut Command::new(self.bin.join("volumed")));
    }

    /// As [`Machine::start_daemon`], as the last arguments of another program, which becomes the daemon.
    pub fn start_daemon_under(&mut self, program: &str, args: &[&str]) {
        self.launch(Command::new(program).args(args).arg(self.bin.join("volumed")));
    }

    /// Starts the daemon as [`Machine::start_daemon_under`] does, when it is to end by itself soon; how, and what it said.
    pub fn daemon_that_ends(&mut self, program: &str, args: &[&str]) -> Ran {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", READY_SECONDS, program]).args(args).arg(self.bin.join("volumed"));
        command.args(["--config", &self.path("volumed.toml")]).stdin(Stdio::null());
        finish(format!("{program} {args:?} volumed"), &mut command)
    }

    /// Starts the daemon that dies when it is told to (`dying::Hand`), and waits until it answers.
    pub fn start_dying(&mut self, orders: &Path) {
        self.launch(Command::new(self.program("volumed-that-dies")).env("VOLUMED_DIES", orders));
    }

    /// One of this package's own programs: beside the product where the lab has put it, else where cargo has built it.
    fn program(&self, name: &str) -> PathBuf {
        let beside = self.bin.join(name);
        let built = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join(name));
        if beside.exists() { beside } else { built().unwrap_or(beside) }
    }

    fn launch(&mut self, command: &mut Command) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let daemon = command
            .args(["--config", &self.path("volumed.toml")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.daemon = Some(daemon.unwrap_or_else(|err| panic!("{:?}: {err}", command.get_program())));
        let begin = Instant::now();
        let socket = PathBuf::from(self.path("run/control.sock"));
        loop {
            let answer = wire::request(&socket, "GET", "status", "");
            if matches!(answer, Ok((200, _))) {
                return;
            }
            if let Some(status) = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().unwrap()) {
                panic!("volumed ended at once: {status}{}", self.log());
            }
            assert!(begin.elapsed() < READY, "volumed is not ready: {answer:?}{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a daemon that is to die by itself; `false` if it does not.
    pub fn dies_within(&mut self, limit: Duration) -> bool {
        let daemon = self.daemon.as_mut().expect("the daemon runs");
        let begin = Instant::now();
        while daemon.try_wait().unwrap().is_none() {
            if begin.elapsed() > limit {
                return false;
            }
            sleep(Duration::from_millis(1));
        }
        self.daemon = None;
        true
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// As a crash: SIGKILL.
    pub fn kill9(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// In order: SIGTERM, and an exit with 0.
    pub fn stop_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        tool::signal(daemon.id(), "TERM");
        let begin = Instant::now();
        while begin.elapsed() < READY {
            if let Some(status) = daemon.try_wait().unwrap() {
                assert!(status.success(), "volumed did not end well: {status}{}", self.log());
                return;
            }
            sleep(Duration::from_millis(10));
        }
        _ = daemon.kill();
        _ = daemon.wait();
        panic!("volumed did not end{}", self.log());
    }

    pub fn restart(&mut self) {
        self.stop_daemon();
        self.start_daemon();
    }

    /// Puts another line into the configuration in place of `old`, and has the daemon read it, if one runs.
    pub fn reconfigure(&self, old: &str, new: &str) {
        let file = self.path("volumed.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(old), "{old:?} is not in {text}");
        fs::write(&file, text.replace(old, new)).unwrap();
        let Some(daemon) = &self.daemon else { return };
        let read = || fs::read_to_string(self.path("log")).unwrap().matches("the configuration was read again").count();
        let before = read();
        assert!(tool::signal(daemon.id(), "HUP"));
        let begin = Instant::now();
        while read() == before {
            assert!(begin.elapsed() < READY, "the configuration is not read again{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }

    /// A `volctl` of the test's daemon that has not run yet; it has `COMMAND_SECONDS`.
    pub fn volctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", COMMAND_SECONDS]).arg(self.bin.join("volctl")).args(args);
        command.env("VOLUMED_SOCKET", self.path("run/control.sock")).stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        finish(args.join(" "), &mut self.volctl(args))
    }

    /// Must succeed; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "volctl {}: {}{}{}", ran.line, ran.out, ran.err, self.log());
        ran.out
    }

    /// Must fail with `code` and say every one of `words`; what it said.
    pub fn refused(&self, code: i32, words: &[&str], args: &[&str]) -> String {
        let ran = self.run(args);
        self.check_refusal(&ran, code, words);
        ran.err
    }

    pub fn check_refusal(&self, ran: &Ran, code: i32, words: &[&str]) {
        let Ran { line, code: exit, out, err } = ran;
        assert_eq!(*exit, code, "exit code of: volctl {line}\n{out}{err}{}", self.log());
        for word in words {
            assert!(err.contains(word), "volctl {line} does not say {word:?}:\n{err}{}", self.log());
        }
        assert!(out.is_empty(), "volctl {line}: a refusal printed {out:?} to standard output");
    }

    /// Must succeed with JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        let out = self.ok(&all);
        serde_json::from_str(&out).unwrap_or_else(|err| panic!("volctl {all:?} printed no JSON: {err}\n{out}"))
    }

    /// The end of the last change is written now, and not some seconds later: nothing is written from here on that nobody asked for.
    pub fn settled(&self) {
        let mut groups = std::collections::BTreeMap::new();
        for pv in self.json(&["pv", "list"])["pvs"].as_array().expect("a list") {
            if let (Some(vg), Some(path)) = (pv["vg"].as_str(), pv["path"].as_str()) {
                groups.insert(vg.to_owned(), path.to_owned());
            }
        }
        // Any commit takes it along. A group that takes none is refused, and owes nothing either.
        for path in groups.values() {
            ["settled=now", "settled-"].iter().for_each(|label| _ = self.run(&["pv", "label", path, label]));
        }
    }

    /// The sequence number of the VG's newest commit. Who compares two calls [`Machine::settled`] before the first.
    pub fn sequence(&self) -> u64 {
        self.json(&["vg", "show", &self.vg])["sequence"].as_u64().expect("a number")
    }

    /// A VG on the first `disks` disks, and a pool `tank` over 80 % of it.
    pub fn with_pool(&self, disks: usize) {
        let mut args = vec!["vg", "create", &self.vg];
        args.extend(self.disks[..disks].iter().map(String::as_str));
        self.ok(&args);
        self.ok(&["pool", "create", &self.of("tank"), "--size", "80%FREE"]);
    }

    /// The end of the daemon's log, for a message.
    pub fn log(&self) -> String {
        let log = fs::read(self.path("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        format!("\n--- the daemon's log ends with:\n{}\n---", lines[lines.len().saturating_sub(30)..].join("\n"))
    }
}

/// Runs a command to its end.
pub fn finish(line: String, command: &mut Command) -> Ran {
    let output = command.output().unwrap_or_else(|err| panic!("{:?}: {err}", command.get_program()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { line, code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        let dir = fs::canonicalize(self.dir.path()).unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = |line: &str| line.split(' ').nth(1).filter(|at| Path::new(at).starts_with(&dir)).map(str::to_owned);
        let mut left: Vec<String> = mounts.lines().filter_map(below).collect();
        if let Some(mut daemon) = self.daemon.take() {
            // Volumes in the order of the product where it can, by force where it cannot.
            tool::signal(daemon.id(), "TERM");
            let begin = Instant::now();
            while matches!(daemon.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(30) {
                sleep(Duration::from_millis(20));
            }
            _ = daemon.kill();
            _ = daemon.wait();
        }
        // Backing files may lie on one of these mounts: loops between the volumes and the rest.
        while let Some(at) = left.pop() {
            if !tool::try_run("umount", &[&at]) {
                disk::detach_loops(&dir);
                tool::try_run("umount", &[&at]);
            }
        }
        disk::detach_loops(&dir);
        // Panicking twice would end the whole binary.
        let cleaned = std::panic::catch_unwind(|| disk::clean(&self.disks));
        assert!(cleaned.is_ok() || std::thread::panicking(), "the disks could not be cleaned");
    }
}
