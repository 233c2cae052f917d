//! What `volctl doctor` sees of the machine itself, without the daemon: plain reads below `/proc`, `/sys`, `/etc`, `/run`, and the
//! versions that programs print. Nothing is changed, and every path is below a root that a test can make up.
//!
//! What only the daemon's program can say (what the kernel offers to it, whether the configuration is accepted) it says itself: asked
//! through the control API, or run as `volumed doctor`.

mod host;
mod leftovers;
mod programs;
mod service;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use vol_api::{Client, ClientError, Doctor, ErrorCode, Finding, Level};

/// How long the daemon's program, or a tool that is asked for its version, may take.
const PROGRAM_LIMIT: Duration = Duration::from_secs(10);
/// Where programs of the system are.
const DIRECTORIES: [&str; 6] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// The machine, below a root directory that is `/` but in tests.
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The one that we run on.
    pub fn this() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// An absolute path as it is below the root.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The trimmed content of a small file.
    fn text(&self, path: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&fs::read(self.at(path)).ok()?).trim().to_owned())
    }

    /// The names in a directory, sorted; none if it cannot be read.
    fn names(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(dir)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// An executable of this name, where the daemon would look for it too.
    fn program(&self, name: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let executable =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        DIRECTORIES.iter().map(|dir| self.at(dir).join(name)).find(executable)
    }

    /// All that can be seen of the machine, with the daemon at `client` if it answers.
    pub async fn examine(&self, client: &Client) -> Doctor {
        let mut all = host::kernel(self);
        let answer = client.doctor().await;
        all.extend(host::io_uring(self));
        all.extend(host::udev(self));
        all.push(host::propagation(self));
        all.extend(service::unit(self));
        all.extend(service::socket(self, client.socket()));
        all.extend(programs::all(self).await);
        all.extend(leftovers::files(self));
        all.extend(leftovers::loops(self));
        match answer {
            Ok(seen) => all.extend(seen.findings),
            Err(error) => {
                all.push(unanswered(client.socket(), &error));
                all.extend(leftovers::devices(self));
                all.extend(self.ask_program().await);
            }
        }
        Doctor::new(all)
    }

    /// What the daemon's program says where no daemon does.
    async fn ask_program(&self) -> Vec<Finding> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join("volumed")).filter(|path| path.is_file());
        let Some(program) = self.program("volumed").or_else(beside) else {
            return vec![Finding::new(
                "volumed",
                Level::Problem,
                "the program volumed is not installed: nothing can be said of the configuration and of device-mapper's targets",
                "install the package volumed",
            )];
        };
        let said = run(&program, &["doctor"]).await;
        match said.as_ref().map(|said| serde_json::from_str::<Doctor>(said)) {
            Ok(Ok(doctor)) => doctor.findings,
            Ok(Err(_)) => vec![Finding::new(
                "volumed",
                Level::Note,
                format!("{} is of another release than volctl and cannot be asked", program.display()),
                "install both from the same package",
            )],
            Err(why) => {
                vec![Finding::new("volumed", Level::Warning, format!("{} doctor: {why}", program.display()), "")]
            }
        }
    }
}

/// Why the daemon says nothing.
fn unanswered(socket: &Path, error: &ClientError) -> Finding {
    let at = socket.display();
    match error {
        ClientError::Unreachable { .. } => Finding::new(
            "daemon",
            Level::Problem,
            format!(
                "volumed does not run: nothing answers at {at}. Mounted volumes go on working; nothing can be changed"
            ),
            "systemctl start volumed; if it ends again: systemctl status volumed, journalctl -u volumed",
        ),
        ClientError::Denied { .. } => Finding::new(
            "daemon",
            Level::Warning,
            format!("you may not open {at}: what the daemon sees is not shown"),
            "run volctl doctor as root",
        ),
        ClientError::Api(error) if error.code == ErrorCode::NotReady => Finding::new(
            "daemon",
            Level::Warning,
            "volumed is still recovering its volume groups",
            "ask again in a while; journalctl -u volumed tells how far it is",
        ),
        ClientError::Api(error) if error.code == ErrorCode::NotFound => Finding::new(
            "daemon",
            Level::Warning,
            "the daemon that runs is of an older release than volctl: what it sees is not shown",
            "systemctl restart volumed (no I/O is interrupted)",
        ),
        ClientError::Api(error) => Finding::new(
            "daemon",
            Level::Warning,
            format!("what the daemon sees is not shown: {}", error.message),
            error.hint.clone().unwrap_or_default(),
        ),
        ClientError::Timeout { after } => Finding::new(
            "daemon",
            Level::Problem,
            format!("volumed runs, but did not answer within {} s", after.as_secs()),
            "journalctl -u volumed; a restart (systemctl restart volumed) interrupts no I/O",
        ),
        ClientError::Protocol { what, .. } => Finding::new(
            "daemon",
            Level::Problem,
            format!("what answers at {at} is not volumed, or of another release: {what}"),
            "see who listens there: ss -xlp",
        ),
    }
}

/// What a program prints, on either stream; the error is for people.
async fn run(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PROGRAM_LIMIT, command.output()).await {
        Err(_) => Err(format!("no answer within {} s", PROGRAM_LIMIT.as_secs())),
        Ok(Err(error)) => Err(format!("cannot be run: {error}")),
        Ok(Ok(out)) => {
            Ok(String::from_utf8_lossy(if out.stdout.is_empty() { &out.stderr } else { &out.stdout }).into_owned())
        }
    }
}
