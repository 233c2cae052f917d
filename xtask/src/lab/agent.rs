//! The agent in the guest (`xtask __agent`): starts the daemon where asked to, runs the one command and carries its standard streams
//! and exit code over the line.

use super::frame::{Frame, MAX};
use super::guest::{self, log};
use super::spec::{Runner, Spec};
use super::uml;
use crate::cmd::{cmd, run, tail};
use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// The agent as a systemd service.
pub const UNIT: &str = "[Unit]
Description=Lab agent
After=systemd-udev-trigger.service systemd-modules-load.service dbus.service

[Service]
ExecStart=/lab/xtask __agent
ExecStopPost=/usr/bin/systemctl --no-block poweroff
KillMode=process
StandardOutput=kmsg
StandardError=kmsg
LimitMEMLOCK=infinity
";

const DAEMON_LOG: &str = "/var/log/volumed.log";
const DAEMON_READY: Duration = Duration::from_secs(90);

type Line = Arc<Mutex<File>>;

/// Runs the command and returns once its exit code was sent.
pub fn main() -> Result<()> {
    let spec = Spec::load(Path::new("/lab/spec.json"))?;
    let file = open_line(spec.runner)?;
    let from_host = file.try_clone()?;
    let line: Line = Arc::new(Mutex::new(file));
    if let Err(err) = settle(&spec).and_then(|()| if spec.daemon { start_daemon(&spec) } else { Ok(()) }) {
        let mut text = format!("{err:#}");
        text.truncate(text.floor_char_boundary(MAX));
        return send(&line, &Frame::Fail(text));
    }
    log("ready");
    send(&line, &Frame::Ready)?;
    let code = match &spec.tty {
        Some(size) => on_terminal(&spec, *size, &line, from_host)?,
        None => on_pipes(&spec, &line, from_host)?,
    };
    log("command ended");
    rustix::fs::sync();
    send(&line, &Frame::Exit(code))?;
    // Process 1 powers off when this process ends; the host has usually pulled the plug before.
    if !spec.systemd {
        sleep(Duration::from_secs(5));
    }
    Ok(())
}

fn send(line: &Line, frame: &Frame) -> Result<()> {
    let mut line = line.lock().expect("no thread panics with the line");
    Ok(frame.send(&mut *line)?)
}

fn open_line(runner: Runner) -> Result<File> {
    let path = match runner {
        Runner::Uml => PathBuf::from(uml::LINE),
        Runner::Qemu => fs::read_dir("/dev")?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().starts_with("/dev/vport"))
            .context("the guest has no virtio port")?,
    };
    let file = File::options().read(true).write(true).open(&path).with_context(|| format!("{}", path.display()))?;
    if let Ok(mut mode) = tcgetattr(&file) {
        mode.make_raw();
        tcsetattr(&file, OptionalActions::Now, &mode)?;
    }
    Ok(file)
}

fn settle(spec: &Spec) -> Result<()> {
    /// On a busy machine udevd has been seen to lose an event; then it is told again.
    const AGAIN: Duration = Duration::from_secs(10);
    const PATIENCE: Duration = Duration::from_secs(90);
    let begin = Instant::now();
    let mut told = begin;
    for index in 0..spec.disks.len() {
        let node = PathBuf::from(format!("/dev/labdisk{index}"));
        while !node.exists() {
            if begin.elapsed() > PATIENCE {
                bail!("{} did not appear within {PATIENCE:?}", node.display());
            }
            if told.elapsed() > AGAIN {
                log(&format!("{} is not there yet: udevd is told again", node.display()));
                guest::announce_disks()?;
                told = Instant::now();
            }
            sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

fn start_daemon(spec: &Spec) -> Result<()> {
    if spec.systemd {
        run(&mut cmd("systemctl", ["start", "volumed"])).map_err(|err| {
            let out = cmd("journalctl", ["-u", "volumed", "-n", "40", "--no-pager"]).output();
            err.context(out.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stdout).into_owned()))
        })?;
        return daemon_answers(None);
    }
    let log = File::create(DAEMON_LOG)?;
    let mut command = base(spec, OsStr::new("volumed"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut daemon = command.spawn().context("cannot start volumed (is it built?)")?;
    daemon_answers(Some(&mut daemon))
}

fn daemon_answers(mut daemon: Option<&mut Child>) -> Result<()> {
    let begin = Instant::now();
    loop {
        let status = cmd("volctl", ["status"]).stdin(Stdio::null()).output().context("cannot start volctl")?;
        if matches!(status.status.code(), Some(0 | 10)) {
            return Ok(());
        }
        let ended = match &mut daemon {
            Some(daemon) => daemon.try_wait()?,
            None => None,
        };
        if ended.is_some() || begin.elapsed() > DAEMON_READY {
            let text = fs::read_to_string(DAEMON_LOG).unwrap_or_default();
            let what = ended.map_or("does not answer".to_owned(), |status| format!("ended: {status}"));
            let said = String::from_utf8_lossy(&status.stderr).into_owned();
            bail!("volumed {what}; `volctl status` said: {}\n{}", said.trim(), tail(&text, 30));
        }
        sleep(Duration::from_millis(50));
    }
}

/// A command with the guest's environment.
fn base(spec: &Spec, program: &OsStr) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir("/root");
    command.env("PATH", guest::PATH);
    command.env("HOME", "/root").env("USER", "root").env("LANG", "C.UTF-8");
    command.envs(spec.env.iter().map(|(key, value)| (key, value)));
    command
}

fn on_pipes(spec: &Spec, line: &Line, mut from_host: File) -> Result<i32> {
    let argv: Vec<&OsStr> = spec.argv.iter().map(|arg| OsStr::from_bytes(arg)).collect();
    let (program, args) = argv.split_first().context("no command")?;
    let mut command = base(spec, program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(err) => return cannot_start(line, program, &err),
    };
    let mut stdin = child.stdin.take();
    let back = line.clone();
    spawn(move || {
        while let Ok(Some(frame)) = Frame::receive(&mut from_host) {
            let Frame::Stdin(bytes) = frame else { continue };
            let taken = stdin.as_mut().is_some_and(|to| to.write_all(&bytes).is_ok());
            if bytes.is_empty() || !taken {
                stdin = None;
            }
            _ = send(&back, &Frame::Taken);
        }
    });
    let (ended, end) = std::io::pipe()?;
    let ended = Arc::new(ended);
    let pumps = [
        pump(OwnedFd::from(child.stdout.take().context("no stdout")?), &ended, line, Frame::Stdout),
        pump(OwnedFd::from(child.stderr.take().context("no stderr")?), &ended, line, Frame::Stderr),
    ];
    let status = child.wait()?;
    drop(end);
    drain(pumps);
    Ok(code(status))
}

fn on_terminal(spec: &Spec, (rows, cols): (u16, u16), line: &Line, mut from_host: File) -> Result<i32> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?);
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = File::options().read(true).write(true).open(OsStr::from_bytes(name.to_bytes()))?;
    let resize = |master: &File, ws_row, ws_col| {
        _ = tcsetwinsize(master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 });
    };
    resize(&master, rows, cols);
    let mut command = base(spec, OsStr::new("setsid"));
    command.args(["--ctty", "--wait", "--"]).args(spec.argv.iter().map(|arg| OsStr::from_bytes(arg)));
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let mut child = command.spawn().context("cannot start setsid")?;
    drop(command);
    let (ended, end) = std::io::pipe()?;
    let ended = Arc::new(ended);
    let pumps = [pump(OwnedFd::from(master.try_clone()?), &ended, line, Frame::Stdout)];
    let back = line.clone();
    spawn(move || {
        let mut master = master;
        while let Ok(Some(frame)) = Frame::receive(&mut from_host) {
            match frame {
                Frame::Stdin(bytes) => {
                    // The end of input is what a terminal makes of Ctrl-D.
                    _ = master.write_all(if bytes.is_empty() { &[4] } else { &bytes });
                    _ = send(&back, &Frame::Taken);
                }
                Frame::Resize(rows, cols) => resize(&master, rows, cols),
                _ => {}
            }
        }
    });
    let status = child.wait()?;
    drop(end);
    drain(pumps);
    Ok(code(status))
}

/// Lets the pumps send the last of the output.
fn drain<const N: usize>(pumps: [JoinHandle<()>; N]) {
    for pump in pumps {
        _ = pump.join();
    }
}

/// Sends what comes from `from` until its end, or until `ended` hangs up (the command has ended) and nothing more is there: a process
/// that the command left behind may hold its output open for ever.
fn pump(from: OwnedFd, ended: &Arc<PipeReader>, line: &Line, frame: fn(Vec<u8>) -> Frame) -> JoinHandle<()> {
    let (line, ended, mut from) = (line.clone(), ended.clone(), File::from(from));
    spawn(move || {
        let mut buf = [0u8; MAX];
        loop {
            let mut fds = [PollFd::new(&from, PollFlags::IN), PollFd::new(&*ended, PollFlags::empty())];
            if poll(&mut fds, None).is_err() {
                continue;
            }
            if fds[0].revents().is_empty() {
                break;
            }
            match from.read(&mut buf) {
                Ok(n @ 1..) if send(&line, &frame(buf[..n].to_vec())).is_ok() => {}
                _ => break,
            }
        }
    })
}

fn cannot_start(line: &Line, program: &OsStr, err: &std::io::Error) -> Result<i32> {
    let text = format!("lab: cannot start {}: {err}\n", program.to_string_lossy());
    send(line, &Frame::Stderr(text.into_bytes()))?;
    Ok(if err.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

/// As shells have it: the exit code, or 128 and the signal.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
