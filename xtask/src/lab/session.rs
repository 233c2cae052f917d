//! The host's side of a running guest: starts the launcher, carries standard streams, waits for the exit code, ends the guest.

use super::frame::{Frame, MAX_IN};
use super::spec::{Runner, Spec};
use crate::cmd::{cmd, tail};
use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// The exit code that says: not the command, the lab.
pub const LAB_FAILED: i32 = 125;

/// The exit code of a command that took longer than it may, as timeout(1) has it.
pub const TIMED_OUT: i32 = 124;

/// Runs a guest to its end. `stdin`: pass our standard input on to the command.
pub fn run(mut spec: Spec, stdin: bool) -> Result<i32> {
    let _in_use = super::place(&mut spec)?;
    let limit = boot_limit(&spec);
    boot(spec, stdin, limit, report)
}

fn report(text: &str) {
    eprintln!("lab: {text}");
}

/// Whether a guest under KVM comes up in time. What it says is not shown.
pub fn probe(lab: &Path, limit: Duration) -> bool {
    let console = lab.join("last-console-kvm-probe.log");
    _ = std::fs::remove_file(&console);
    let argv = vec![b"true".to_vec()];
    let spec =
        Spec { runner: Runner::Qemu, kvm: true, mem: 512 << 20, lab: lab.into(), console, argv, ..Spec::default() };
    matches!(boot(spec, false, limit, |_| ()), Ok(0))
}

fn boot(mut spec: Spec, stdin: bool, limit: Duration, report: fn(&str)) -> Result<i32> {
    let (life_reader, life) = std::io::pipe()?;
    rustix::io::fcntl_setfd(&life_reader, rustix::io::FdFlags::empty())?;
    spec.life = life_reader.as_raw_fd();

    // The launcher is process 1 of its own namespaces; what it mounts, and everything that runs in there, ends with it.
    let exe = crate::own_exe();
    let mut unshare = cmd("unshare", ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--"]);
    let mut child = unshare
        .arg(exe)
        .arg("__launch")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start unshare (package util-linux)")?;
    drop(life_reader);
    let mut to_guest = child.stdin.take().context("no pipe to the launcher")?;
    let from_guest = child.stdout.take().context("no pipe from the launcher")?;
    spec.send(&mut to_guest).context("the launcher ended at once")?;

    let raw = if spec.tty.is_some() { Some(RawMode::enter()?) } else { None };
    let life = Arc::new(Mutex::new(Some(life)));
    let ready = Arc::new(AtomicBool::new(false));
    let late = Arc::new(AtomicBool::new(false));
    Plug { ready: ready.clone(), late: late.clone(), life: life.clone(), report }.watch(limit, spec.timeout);
    let outcome = serve(&spec, from_guest, to_guest, stdin, &ready);
    if spec.systemd && matches!(outcome, Ok(Outcome::Exit(_))) {
        // An orderly shutdown, so that what the service does then is seen to happen.
        let begin = Instant::now();
        while child.try_wait()?.is_none() && begin.elapsed() < SHUTDOWN {
            sleep(Duration::from_millis(20));
        }
    }
    life.lock().expect("no panic").take();
    let status = child.wait()?;
    drop(raw);
    match outcome? {
        Outcome::Exit(code) => Ok(code),
        Outcome::Fail(why) => {
            report(&why);
            Ok(LAB_FAILED)
        }
        Outcome::Lost if late.load(Ordering::SeqCst) => {
            report("the command took too long; the plug was pulled");
            Ok(TIMED_OUT)
        }
        Outcome::Lost => {
            let when = if ready.load(Ordering::SeqCst) { "died" } else { "did not come up" };
            let log = std::fs::read(&spec.console).unwrap_or_default();
            let log = tail(&String::from_utf8_lossy(&log), 40);
            report(&format!("the guest {when} ({status}); the end of {}:\n{log}", spec.console.display()));
            Ok(LAB_FAILED)
        }
    }
}

/// How long a systemd guest may take to shut down before the plug is pulled.
const SHUTDOWN: Duration = Duration::from_secs(90);

enum Outcome {
    Exit(i32),
    Fail(String),
    Lost,
}

fn boot_limit(spec: &Spec) -> Duration {
    let kernel = match spec.runner {
        Runner::Uml => 120,
        Runner::Qemu => 180,
    };
    Duration::from_secs(kernel + if spec.systemd { 90 } else { 0 } + if spec.daemon { 100 } else { 0 })
}

type Life = Arc<Mutex<Option<std::io::PipeWriter>>>;

/// Ends a guest that is not ready in time, or whose command takes too long.
struct Plug {
    ready: Arc<AtomicBool>,
    late: Arc<AtomicBool>,
    life: Life,
    report: fn(&str),
}

impl Plug {
    fn watch(self, boot: Duration, command: Option<u64>) {
        spawn(move || {
            let begin = Instant::now();
            while !self.ready.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(200));
                if begin.elapsed() > boot {
                    (self.report)(&format!("no sign of life from the guest after {} s", boot.as_secs()));
                    return self.pull();
                }
            }
            let Some(seconds) = command else { return };
            sleep(Duration::from_secs(seconds));
            self.late.store(true, Ordering::SeqCst);
            self.pull();
        });
    }

    fn pull(&self) {
        self.life.lock().expect("no panic").take();
    }
}

fn serve(
    spec: &Spec,
    mut from_guest: impl Read,
    to_guest: ChildStdin,
    stdin: bool,
    ready: &AtomicBool,
) -> Result<Outcome> {
    let to_guest = Arc::new(Mutex::new(to_guest));
    let (taken, turns) = std::sync::mpsc::channel();
    let mut turns = Some(turns);
    loop {
        match Frame::receive(&mut from_guest)? {
            None => return Ok(Outcome::Lost),
            Some(Frame::Ready) => {
                ready.store(true, Ordering::SeqCst);
                if let Some(turns) = turns.take() {
                    forward(stdin, to_guest.clone(), turns);
                }
                if let Some(size) = spec.tty {
                    follow_size(size, to_guest.clone());
                }
            }
            Some(Frame::Taken) => _ = taken.send(()),
            Some(Frame::Fail(why)) => return Ok(Outcome::Fail(why)),
            Some(Frame::Stdout(bytes)) => put(&mut std::io::stdout(), &bytes),
            Some(Frame::Stderr(bytes)) => put(&mut std::io::stderr(), &bytes),
            Some(Frame::Exit(code)) => return Ok(Outcome::Exit(code)),
            Some(other) => anyhow::bail!("the guest sent {other:?}"),
        }
    }
}

/// Output that nobody reads any more is dropped: the command goes on.
fn put(to: &mut impl Write, bytes: &[u8]) {
    _ = to.write_all(bytes).and_then(|()| to.flush());
}

/// Passes our standard input on, a piece whenever the guest has taken the one before.
fn forward(stdin: bool, to_guest: Arc<Mutex<ChildStdin>>, turns: Receiver<()>) {
    spawn(move || {
        let mut buf = [0u8; MAX_IN];
        loop {
            let n = if stdin { std::io::stdin().read(&mut buf).unwrap_or(0) } else { 0 };
            let frame = Frame::Stdin(buf[..n].to_vec());
            if frame.send(&mut *to_guest.lock().expect("no panic")).is_err() || n == 0 || turns.recv().is_err() {
                return;
            }
        }
    });
}

/// The rows and columns of our terminal.
pub fn terminal_size() -> (u16, u16) {
    tcgetwinsize(rustix::stdio::stdout()).map_or((24, 80), |size| (size.ws_row.max(1), size.ws_col.max(1)))
}

fn follow_size(mut last: (u16, u16), to_guest: Arc<Mutex<ChildStdin>>) {
    spawn(move || {
        loop {
            sleep(Duration::from_millis(300));
            let now = terminal_size();
            if now != last {
                last = now;
                if Frame::Resize(now.0, now.1).send(&mut *to_guest.lock().expect("no panic")).is_err() {
                    return;
                }
            }
        }
    });
}

/// The terminal passes every key on while this lives.
struct RawMode(Termios, File);

impl RawMode {
    fn enter() -> Result<RawMode> {
        let terminal = File::open("/dev/tty").context("no terminal")?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(RawMode(before, terminal))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        _ = tcsetattr(&self.1, OptionalActions::Now, &self.0);
    }
}
