//! Programs of the system: what the tests do behind the product's back, and the witnesses that do not share its code.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Runs a program; `None` when it is not there.
pub fn attempt(program: &str, args: &[&str]) -> Option<Output> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    Command::new(program).args(args).env("PATH", path).env("LC_ALL", "C").output().ok()
}

/// Runs a program that must be there and succeed; what it printed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = attempt(program, args).unwrap_or_else(|| panic!("{program} is not there"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program for what good it may do.
pub fn try_run(program: &str, args: &[&str]) -> bool {
    attempt(program, args).is_some_and(|output| output.status.success())
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|dir| std::path::Path::new(dir).join(program).exists())
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) -> bool {
    try_run("sh", &["-c", &format!("kill -{name} {pid}")])
}

/// Waits until udev has nothing to do, if it runs.
pub fn settle() {
    try_run("udevadm", &["settle", "--timeout=60"]);
}

/// Removes a dm device that nobody uses; udev may look at it for a while yet, and `--retry` alone waits for a few seconds. `false` if it
/// is still there after two minutes.
pub fn remove_dm(name: &str) -> bool {
    let begin = Instant::now();
    while !try_run("dmsetup", &["remove", "--retry", name]) {
        if begin.elapsed() > Duration::from_secs(120) {
            return false;
        }
        settle();
    }
    true
}
