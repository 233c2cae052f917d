//! `volumed activate`: attaches at boot what `/etc/fstab` and `activate_at_boot` name, without the daemon, and ends.
//!
//! What is complete is attached first, and then the service manager is told that the machine may go on; what misses a disk is waited for
//! after that, up to a bound. Nothing that goes wrong here keeps the machine from coming up: it is told on standard error, and by the
//! exit code.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use vol_engine::Engine;
use vol_engine::host::HostMut;
use vol_linux::LinuxHost;

use crate::backend::boot::{BootList, Disks, FSTAB, Fate, LOOK_EVERY, Line};
use crate::backend::open_host;
use crate::config::Config;
use crate::notify;
use crate::socket::{RunLock, SocketError};

/// Runs it to its end. `wrap`: as of [`crate::program::run`].
pub fn run<H: HostMut>(
    config: &Config,
    fstab: Option<&Path>,
    wait: Option<Duration>,
    wrap: impl FnOnce(LinuxHost) -> H,
) -> ExitCode {
    let list = BootList::read(config, fstab.unwrap_or(Path::new(FSTAB)));
    list.complaints.iter().for_each(|complaint| complain(complaint));
    let failed = !list.complaints.is_empty();
    if list.is_empty() {
        println!("no volume is named in /etc/fstab or by activate_at_boot");
        return end("No volume is to be attached", failed);
    }
    let _only = match RunLock::take_host_for_activation() {
        Ok(only) => only,
        Err(SocketError::Locked { pid, .. }) => {
            println!("volumed{pid} runs, and attaches them itself");
            return end("Left to the running volumed", failed);
        }
        Err(error) => {
            complain(&format!("{:#}", anyhow::Error::new(error)));
            return end("No lock, nothing was attached", true);
        }
    };
    let host = match open_host(config) {
        Ok(host) => host,
        Err(error) => {
            complain(&format!("{error:#}"));
            return end("Nothing was attached", true);
        }
    };
    let engine = Engine::new(wrap(host));
    let told = |line: &Line| println!("{} is attached ({})", line.path(), line.by);
    let lines = attach(&engine, &list, wait.unwrap_or(config.activate_wait), told, RunLock::a_daemon_waits);
    engine.settle_owed();
    let troubles: Vec<String> = lines.iter().filter_map(Line::trouble).collect();
    if !troubles.is_empty() {
        engine.scan_problems().iter().for_each(|problem| complain(&format!("{} ({})", problem.message, problem.hint)));
        for vg in engine.vgs() {
            let name = vg.read(|catalog| catalog.vg().name.clone());
            vg.view().problems.iter().for_each(|problem| complain(&format!("{name}: {}", problem.message)));
        }
    }
    troubles.iter().for_each(|trouble| complain(trouble));
    let there = lines.len() - troubles.len();
    end(&format!("Attached: {there}; not attached: {}", troubles.len()), failed || !troubles.is_empty())
}

/// Attaches what is on the list, and waits for what misses a disk, `wait` at most, and not when a daemon is there that will do so.
/// `told`: of each that was attached, at once.
fn attach<H: HostMut>(
    engine: &Engine<H>,
    list: &BootList,
    wait: Duration,
    mut told: impl FnMut(&Line),
    relieved: impl Fn() -> bool,
) -> Vec<Line> {
    let host = engine.host();
    let (mut disks, begin) = (Disks::now(host), host.uptime());
    let mut first = true;
    let mut waited = Duration::ZERO;
    loop {
        if let Err(error) = engine.scan(&[], false) {
            complain(&format!("the disks could not be looked at: {error}"));
        }
        let lines = list.attach(engine);
        lines.iter().filter(|line| line.fate == Fate::Attached).for_each(&mut told);
        let waiting = lines.iter().filter(|line| line.is_waiting()).count();
        if std::mem::take(&mut first) {
            // From here on nobody waits for this.
            notify::ready(&format!("Attached: {}; waiting for disks of: {waiting}", lines.len() - waiting));
        }
        if waiting == 0 {
            return lines;
        }
        loop {
            if waited.max(host.uptime().saturating_sub(begin)) >= wait || relieved() {
                return lines;
            }
            host.pause(LOOK_EVERY);
            waited += LOOK_EVERY;
            if disks.have_changed(host) {
                break;
            }
        }
    }
}

fn complain(text: &str) {
    eprintln!("volumed activate: {text}");
}

/// Tells the service manager that it is done, in case it was not told before.
fn end(status: &str, failed: bool) -> ExitCode {
    notify::ready(status);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests;
