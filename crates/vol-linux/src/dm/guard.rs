//! The resume guard: a small process that outlives the daemon and resumes the devices that the daemon left suspended.
//!
//! The daemon holds one end of a socket pair, the guard has the other as standard input. Lines from the daemon: `arm UUID`, once for each
//! device, and `disarm`, for all of them; each is answered by one line: `ok`, `ok unlocked` (its memory may be swapped out), or what
//! went wrong. When the daemon's end closes, however it came to that, the guard resumes all devices that it is armed for. The
//! kernel closes that end only after the daemon's last ioctl has returned.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::signal::SigSet;
use vol_engine::host::HostResult;

use super::raw::{self, Command, Request};
use super::window::no_guard;
use crate::tool::inherit_nothing;

/// How long the guard may take to answer; it starts a process and opens a file at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many idle guards are kept for snapshots that run side by side.
const IDLE_MAX: usize = 4;
/// Longest line of the protocol: a dm uuid and a word.
const LINE_MAX: usize = 256;
/// How many devices one guard is armed for at most: one for each snapshot of one instant.
const ARMED_MAX: usize = vol_core::plan::snapshot::GROUP_MAX;
/// How long an orphaned guard goes on trying to resume.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(600);

/// The guards of one daemon, started when they are needed.
pub(crate) struct Guards {
    command: Vec<OsString>,
    idle: Mutex<Vec<Guard>>,
}

impl Guards {
    /// `command`: program and arguments of the guard; `None` for this program's own hidden subcommand.
    pub(crate) fn new(command: Option<Vec<OsString>>) -> Self {
        // Not `current_exe()`: after an upgrade that path is another program, or none. In the child this link still leads
        // to the program that forked it.
        let own = || vec!["/proc/self/exe".into(), "resume-guard".into()];
        Self { command: command.unwrap_or_else(own), idle: Mutex::new(Vec::new()) }
    }

    /// A live guard. `Unsupported` if none can be had.
    pub(super) fn take(&self) -> HostResult<Guard> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut guard) = idle else { return Guard::start(&self.command) };
            if guard.lives() {
                return Ok(guard);
            }
        }
    }

    /// Disarms and keeps it for the next snapshot.
    pub(super) fn give_back(&self, mut guard: Guard) {
        if guard.ask("disarm\n").is_err() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(guard);
        }
    }
}

/// One guard process. Dropping it closes its line: it resumes what it is armed for, and exits.
pub(super) struct Guard {
    /// There until it is dropped.
    child: Option<Child>,
    line: Option<UnixStream>,
}

impl Guard {
    fn start(command: &[OsString]) -> HostResult<Self> {
        let (program, arguments) = command.split_first().ok_or_else(|| no_guard("no command is configured"))?;
        // Both ends are close-on-exec from birth: no other child may hold ours, or the guard would wait for ever.
        let (ours, theirs) = UnixStream::pair().map_err(no_guard)?;
        ours.set_read_timeout(Some(PATIENCE)).map_err(no_guard)?;
        ours.set_write_timeout(Some(PATIENCE)).map_err(no_guard)?;
        let mut process = Process::new(program);
        inherit_nothing(&mut process);
        let child = process
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| no_guard(format!("{}: {e}", program.display())))?;
        Ok(Self { child: Some(child), line: Some(ours) })
    }

    fn lives(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// When this returns the guard has the control node open and resumes `uuid` too should we die; tells whether its memory is locked.
    pub(super) fn arm(&mut self, uuid: &str) -> HostResult<bool> {
        let answer = self.ask(&format!("arm {uuid}\n")).map_err(no_guard)?;
        Ok(answer != "ok unlocked")
    }

    fn ask(&mut self, line: &str) -> Result<String, String> {
        let mut socket = self.line.as_ref().ok_or("its line is closed")?;
        socket.write_all(line.as_bytes()).map_err(|e| e.to_string())?;
        let mut answer = Vec::with_capacity(LINE_MAX);
        let mut byte = [0];
        while answer.len() < LINE_MAX {
            match socket.read(&mut byte) {
                Ok(0) => return Err("the guard ended".to_owned()),
                Ok(_) if byte == *b"\n" => break,
                Ok(_) => answer.extend(byte),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(format!("the guard does not answer: {e}")),
            }
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer == "ok" || answer == "ok unlocked" { Ok(answer) } else { Err(answer) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.line = None;
        if let Some(mut child) = self.child.take() {
            // It ends by itself, at once unless it has to resume. Somebody must wait for it, but not we.
            let _ = std::thread::Builder::new().name("vol-guard-reaper".into()).spawn(move || child.wait());
        }
    }
}

/// The guard's program: serves the line on standard input until it closes. The value is the process's exit code.
///
/// Exit code 0: nothing had to be done, or all devices were resumed; 1: one could not be.
pub fn guard_main() -> i32 {
    // Nothing but the end of its line or SIGKILL ends it: a group-wide SIGTERM or SIGHUP must not.
    let _ = SigSet::all().thread_block();
    let _ = nix::unistd::setsid();
    let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
    let control = std::fs::File::open("/dev/mapper/control");
    // Fails where a limit forbids it (`RLIMIT_MEMLOCK` without `CAP_IPC_LOCK`).
    let locked = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).is_ok();
    let ok = if locked { "ok\n" } else { "ok unlocked\n" };
    let mut armed: Vec<Request<0>> = Vec::with_capacity(ARMED_MAX);
    let mut line = Line::default();
    while let Some(text) = line.next() {
        let answer = match (text.strip_prefix("arm "), &control) {
            (Some(_), Ok(_)) if armed.len() >= ARMED_MAX => "armed for as many devices as can be\n".to_owned(),
            (Some(uuid), Ok(control)) => match resume_request(control, uuid) {
                Ok(request) => {
                    armed.push(request);
                    ok.to_owned()
                }
                Err(e) => format!("look at {uuid}: {}\n", e.desc()),
            },
            (Some(_), Err(e)) => format!("open /dev/mapper/control: {e}\n"),
            (None, _) if text == "disarm" => {
                armed.clear();
                ok.to_owned()
            }
            (None, _) => "not understood\n".to_owned(),
        };
        if !write_all(answer.as_bytes()) {
            break;
        }
    }
    match &control {
        Ok(control) => i32::from(!resume_at_last(control, &mut armed)),
        // Without it nothing was armed.
        Err(_) => 0,
    }
}

fn resume_request(control: &std::fs::File, uuid: &str) -> Result<Request<0>, Errno> {
    let request = Request::<0>::new(uuid).ok_or(Errno::EINVAL)?;
    let status = raw::call(control.as_fd(), Command::Status, &request)?;
    Ok(request.cookie(raw::udev_cookie(raw::is_private(uuid), status.read_only())))
}

/// Resumes each of them as soon as it can be: one that cannot yet does not keep the others waiting.
fn resume_at_last(control: &std::fs::File, armed: &mut Vec<Request<0>>) -> bool {
    let end = Instant::now() + ORPHAN_PATIENCE;
    loop {
        armed.retain(|request| {
            !matches!(raw::call(control.as_fd(), Command::Suspend, request), Ok(_) | Err(Errno::ENXIO))
        });
        if armed.is_empty() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lines from standard input, without allocating past the first.
#[derive(Default)]
struct Line {
    text: String,
}

impl Line {
    /// `None` at the end of input, on an error, and after a line that is too long or no text.
    fn next(&mut self) -> Option<&str> {
        self.text.clear();
        loop {
            let mut byte = [0u8];
            match nix::unistd::read(std::io::stdin().as_fd(), &mut byte) {
                Ok(1) if byte == *b"\n" => return Some(&self.text),
                Ok(1) if byte.is_ascii() && self.text.len() < LINE_MAX => self.text.push(char::from(byte[0])),
                Err(Errno::EINTR) => {}
                _ => return None,
            }
        }
    }
}

/// The answer goes back over the same socket.
fn write_all(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match nix::unistd::write(std::io::stdin().as_fd(), bytes) {
            Ok(0) => return false,
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}
