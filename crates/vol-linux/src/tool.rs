//! Programs that own a format: found in fixed directories, run with an argument array, a clean environment, closed descriptors
//! and a time limit.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use uuid::Uuid;
use vol_core::observed::DevNumber;
use vol_engine::host::{HostError, HostErrorKind, HostResult};
use vol_types::{Bytes, FsKind, MkfsOptions};

use crate::disk::{self, Access};
use crate::sysfs::SysDevice;
use crate::{dm, error, files};

const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// How much of a program's output is kept for the error message: its end.
const OUTPUT_MAX: usize = 4096;
/// How long a killed program may take to be gone; one that hangs in the kernel is left behind.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// The first release of e2fsprogs with `assume_storage_prezeroed`: major, minor.
const PREZEROED_SINCE: (u32, u32) = (1, 47);
/// How long a program may take to tell its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(30);

/// Makes a file system on a dm device, all of which reads as zeroes, and flushes it. Never forces: every one of these programs refuses
/// a device that is in use, and XFS's and btrfs's one that already has a file system.
pub(crate) fn mkfs(dev: DevNumber, dm_uuid: &str, fs: FsKind, fs_uuid: Uuid, options: &MkfsOptions) -> HostResult<()> {
    let node = dm::node(dev);
    let what = format!("mkfs.{} on {}", fs.as_str(), node.display());
    let device = open_own(&what, dev, dm_uuid, Access::ReadWrite)?;
    let size = disk::identity(&what, &device)?.size;
    // As long as this is open the number cannot become another device's, and udev keeps away.
    files::keep_udev_away(&device);
    let program = find(&what, &format!("mkfs.{}", fs.as_str()), package(fs))?;
    let prezeroed = fs == FsKind::Ext4 && knows_prezeroed(&what, &program);
    run(&what, &program, &mkfs_arguments(fs, fs_uuid, options, &node, prezeroed), limit(size))?;
    device.sync_all().map_err(|e| error::block(format!("{what}: flush"), &e))
}

/// Opens a dm device of ours by number and uuid; `Changed` if the number has another.
pub(crate) fn open_own(what: &str, dev: DevNumber, dm_uuid: &str, access: Access) -> HostResult<File> {
    let device = disk::open(&dm::node(dev), access, 0)?;
    let found = disk::identity(what, &device)?.dev;
    let uuid = SysDevice::of(dev).ok().and_then(|device| device.dm_uuid()).unwrap_or_default();
    if found != dev || uuid != dm_uuid {
        return Err(error::changed(what, format!("{dev} is dm device {uuid:?}, expected {dm_uuid:?}")));
    }
    Ok(device)
}

/// The Debian package with the tools of a file system.
pub(crate) fn package(fs: FsKind) -> &'static str {
    match fs {
        FsKind::Ext4 => "e2fsprogs",
        FsKind::Xfs => "xfsprogs",
        FsKind::Btrfs => "btrfs-progs",
    }
}

/// The file of a program, so that one that was replaced is asked anew: device, inode, time of its last change.
type ProgramFile = (u64, u64, i64, i64);

/// Whether this mkfs.ext4 takes `assume_storage_prezeroed`. It is asked for its version once; one that cannot tell it does not.
fn knows_prezeroed(what: &str, program: &Path) -> bool {
    static ASKED: Mutex<Option<(ProgramFile, bool)>> = Mutex::new(None);
    let file = fs::metadata(program).map(|m| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec())).ok();
    // Held while it is asked: of many that come at once, one asks.
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    match *asked {
        Some((of, knows)) if Some(of) == file => return knows,
        _ => {}
    }
    let said = run_to_end(&format!("{what}: its version"), program, &["-V".into()], VERSION_PATIENCE);
    let version = said.ok().and_then(|(status, said)| mke2fs_version(&said).filter(|_| status.success()));
    let knows = version.is_some_and(|version| version >= PREZEROED_SINCE);
    tracing::debug!(program = %program.display(), ?version, knows, "whether mkfs takes assume_storage_prezeroed");
    if let (Some(file), Some(_)) = (file, version) {
        *asked = Some((file, knows));
    }
    knows
}

/// Major and minor of `mke2fs 1.47.0 (5-Feb-2023)`.
fn mke2fs_version(said: &str) -> Option<(u32, u32)> {
    let version = said.split_whitespace().skip_while(|word| *word != "mke2fs").nth(1)?;
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// No discard: a blank volume has nothing to give back, and on a huge one it takes long.
///
/// `prezeroed`: inode tables and the journal are not zeroed, neither now nor by the kernel after the first mount, for which a thin
/// volume would take chunks: what mkfs is run on reads as zeroes.
fn mkfs_arguments(fs: FsKind, uuid: Uuid, options: &MkfsOptions, node: &Path, prezeroed: bool) -> Vec<OsString> {
    let uuid = uuid.to_string();
    let mut arguments: Vec<OsString> = match fs {
        FsKind::Ext4 => {
            let zeroed = if prezeroed { ",assume_storage_prezeroed=1" } else { "" };
            let extended = format!("nodiscard,lazy_itable_init=1,lazy_journal_init=1{zeroed}");
            vec!["-q".into(), "-U".into(), uuid.into(), "-E".into(), extended.into()]
        }
        FsKind::Xfs => vec!["-q".into(), "-K".into(), "-m".into(), format!("uuid={uuid}").into()],
        FsKind::Btrfs => vec!["-q".into(), "-K".into(), "-U".into(), uuid.into()],
    };
    for (flag, value) in options.arguments() {
        arguments.push(flag.into());
        arguments.push(value.into());
    }
    arguments.push("--".into());
    arguments.push(node.into());
    arguments
}

/// A minute, and a second for each GiB up to an hour.
pub(crate) fn limit(size: Bytes) -> Duration {
    Duration::from_secs(60 + (size.get() / Bytes::GIB).min(3600))
}

/// `Unsupported` with the name of the Debian package if the program is not there.
pub(crate) fn find(what: &str, name: &str, package: &str) -> HostResult<PathBuf> {
    let executable =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(executable).ok_or_else(|| {
        HostError::new(HostErrorKind::Unsupported, what, format!("{name} is not installed (Debian package {package})"))
    })
}

/// Runs a program to its end. `Tool` with the end of its output if it fails, `TimedOut` if it takes longer than `limit`.
pub(crate) fn run(what: &str, program: &Path, arguments: &[OsString], limit: Duration) -> HostResult<()> {
    match run_to_end(what, program, arguments, limit)? {
        (status, _) if status.success() => Ok(()),
        (status, said) => Err(HostError::new(HostErrorKind::Tool, what, format!("{status}: {said}"))),
    }
}

/// As [`run`], for programs whose exit status is an answer: that, and the end of what it said.
pub(crate) fn run_to_end(
    what: &str,
    program: &Path,
    arguments: &[OsString],
    limit: Duration,
) -> HostResult<(ExitStatus, String)> {
    let failed = |e: &io::Error| error::io(format!("{what}: run {}", program.display()), e);
    let (mut reader, writer) = io::pipe().map_err(|e| failed(&e))?;
    let mut command = Command::new(program);
    inherit_nothing(&mut command);
    die_with_us(&mut command);
    let mut child = command
        .args(arguments)
        .env_clear()
        .env("PATH", OsStr::new("/usr/sbin:/usr/bin:/sbin:/bin"))
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(|e| failed(&e))?)
        .stderr(writer)
        .process_group(0)
        .spawn()
        .map_err(|e| failed(&e))?;
    let mut output = Tail::default();
    match supervise(&mut child, &mut reader, &mut output, limit) {
        Ok(Some(status)) => Ok((status, output.text())),
        Ok(None) => {
            kill(child);
            let detail = format!("not done after {} s, killed: {}", limit.as_secs(), output.text());
            Err(HostError::new(HostErrorKind::TimedOut, what, detail))
        }
        Err(e) => {
            kill(child);
            Err(failed(&e))
        }
    }
}

/// Lets a program have its standard input, output and error, and nothing else. What the standard library opened is close-on-exec
/// anyway; what we were given ourselves, such as the sockets of systemd, is not.
pub(crate) fn inherit_nothing(command: &mut Command) {
    // SAFETY: between fork and exec only this system call is made; it allocates nothing, takes no lock and touches no memory. It
    // marks descriptors instead of closing them, so the one by which the standard library reports a failed exec still works.
    unsafe {
        command.pre_exec(|| {
            // Linux 5.11; on older kernels the descriptors stay as they were.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
}

/// A tool does not outlive the daemon: a mkfs that went on by itself would hold the volume that recovery has to take back.
/// (The signal comes when the thread that started it ends, which waits for it: `prctl(2)`, PR_SET_PDEATHSIG.)
fn die_with_us(command: &mut Command) {
    // SAFETY: as in `inherit_nothing`: one system call, no memory, no lock.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// Waits for the end and collects output; `None` when the time is up.
fn supervise(
    child: &mut Child,
    reader: &mut PipeReader,
    output: &mut Tail,
    limit: Duration,
) -> io::Result<Option<ExitStatus>> {
    rustix::io::ioctl_fionbio(&*reader, true)?;
    let pid = rustix::process::Pid::from_child(child);
    let ended = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let end = Instant::now() + limit;
    let mut open = true;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let timeout = PollTimeout::try_from(left.min(Duration::from_secs(60))).unwrap_or(PollTimeout::ZERO);
        let mut polled = [
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
            PollFd::new(reader.as_fd(), if open { PollFlags::POLLIN } else { PollFlags::empty() }),
        ];
        let sources = if open { polled.as_mut_slice() } else { polled.split_at_mut(1).0 };
        match poll(sources, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let gone = polled.first().and_then(PollFd::any).unwrap_or(false);
        open = open && output.take(reader)?;
        if gone {
            // What it wrote before it ended is in the pipe by now.
            return child.wait().map(Some);
        }
    }
}

/// Kills the whole process group.
fn kill(mut child: Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
    }
    let end = Instant::now() + KILL_PATIENCE;
    while Instant::now() < end {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        sleep(Duration::from_millis(10));
    }
    // It hangs in the kernel. Somebody has to wait for it, but not we.
    let _ = std::thread::Builder::new().name("vol-tool-reaper".into()).spawn(move || child.wait());
}

/// The end of a program's output.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Reads what is there; `false` at the end of the pipe.
    fn take(&mut self, reader: &mut PipeReader) -> io::Result<bool> {
        let mut buffer = [0u8; OUTPUT_MAX];
        // A program that never stops talking must not keep us from looking at the clock.
        for _ in 0..64 {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    self.0.extend_from_slice(buffer.get(..n).unwrap_or_default());
                    let surplus = self.0.len().saturating_sub(OUTPUT_MAX);
                    self.0.drain(..surplus);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let text = text.trim();
        if text.is_empty() { "it said nothing".to_owned() } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell_with(script: &str, arguments: &[OsString]) {
        let mut all: Vec<OsString> = vec!["-c".into(), script.into(), "sh".into()];
        all.extend_from_slice(arguments);
        run("test", Path::new("/bin/sh"), &all, Duration::from_secs(120)).unwrap();
    }

    fn shell(script: &str, limit: Duration) -> HostResult<()> {
        run("test", Path::new("/bin/sh"), &["-c".into(), script.into()], limit)
    }

    #[test]
    fn a_failed_program_is_reported_with_the_end_of_what_it_said() {
        let error = shell("seq 1 10000; echo no space >&2; exit 3", Duration::from_secs(120)).unwrap_err();
        assert_eq!(error.kind, HostErrorKind::Tool);
        assert!(error.detail.ends_with("no space") && error.detail.contains('3'), "{}", error.detail);
        assert!(error.detail.len() < OUTPUT_MAX + 100);
        assert!(shell("exit 0", Duration::from_secs(120)).is_ok());
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_its_children() {
        let start = Instant::now();
        let error = shell("echo working; sleep 600 & sleep 600", Duration::from_secs(4)).unwrap_err();
        assert_eq!(error.kind, HostErrorKind::TimedOut);
        assert!(error.detail.contains("working"));
        assert!(start.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn a_program_gets_no_environment_and_no_descriptors_of_ours() {
        let _file = File::open("/proc/self/status").unwrap();
        let script = "test -z \"$HOME$CARGO\" && test \"$LC_ALL\" = C && test \"$(ls /proc/self/fd | wc -l)\" -le 4";
        shell(script, Duration::from_secs(120)).unwrap();
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = find("test", "mkfs.nothing", "nothing-progs").unwrap_err();
        assert_eq!(error.kind, HostErrorKind::Unsupported);
        assert!(error.detail.contains("nothing-progs"));
    }

    #[test]
    fn no_format_is_forced_and_the_device_comes_after_a_double_dash() {
        for fs in [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs] {
            let options = MkfsOptions::parse(fs, &["label=--"]);
            assert!(options.is_err(), "a value could be taken for a flag");
            let options = MkfsOptions::parse(fs, &["label=pg"]).unwrap();
            let arguments = mkfs_arguments(fs, Uuid::nil(), &options, Path::new("/dev/dm-7"), true);
            let label = arguments.iter().position(|argument| argument == "-L").unwrap();
            assert_eq!(arguments[label + 1], "pg");
            assert!(!arguments.iter().any(|a| a == "-f" || a == "-F"), "{arguments:?}");
            assert_eq!(arguments[arguments.len() - 2..], [OsString::from("--"), OsString::from("/dev/dm-7")]);
        }
    }

    #[test]
    fn ext4_is_told_that_its_device_reads_as_zeroes_if_its_mkfs_knows_the_word() {
        let word = "assume_storage_prezeroed=1";
        for fs in [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs] {
            for knows in [false, true] {
                let arguments = mkfs_arguments(fs, Uuid::nil(), &MkfsOptions::default(), Path::new("/dev/dm-7"), knows);
                let told = arguments.iter().any(|argument| argument.to_str().is_some_and(|text| text.contains(word)));
                assert_eq!(told, knows && fs == FsKind::Ext4, "{arguments:?}");
            }
        }
        let said = "mke2fs 1.47.0 (5-Feb-2023)\n\tUsing EXT2FS Library version 1.47.0";
        assert_eq!(mke2fs_version(said), Some((1, 47)));
        assert_eq!(mke2fs_version("mke2fs 1.48-WIP (17-May-2026)"), Some((1, 48)));
        assert!(mke2fs_version("mke2fs 1.46.5 (30-Dec-2021)").is_some_and(|version| version < PREZEROED_SINCE));
        assert!(mke2fs_version("mke2fs 2.0 (1-Jan-2030)").is_some_and(|version| version > PREZEROED_SINCE));
        for strange in ["", "mke2fs", "mke2fs one", "mkfs.ext4: unrecognized option: V\nBusyBox v1.36", "1.47.0"] {
            assert_eq!(mke2fs_version(strange), None, "{strange:?}");
        }
    }

    #[test]
    fn a_mkfs_is_asked_for_its_version_once_and_again_when_it_is_another_one() {
        let dir = std::env::temp_dir().join(format!("volumed-mkfs-version-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (program, asked) = (dir.join("mkfs.ext4"), dir.join("asked"));
        // Written beside it and renamed, as packages are installed: another file. By a process of its own: a test that forks beside
        // this one would have the file open for writing for a moment, and what is open for writing cannot be run.
        let put = |says: &str| {
            let text = format!("#!/bin/sh\necho \"$@\" >> {}\necho '{says}' >&2\n", asked.display());
            let script = "printf %s \"$1\" > \"$2/new\" && chmod 755 \"$2/new\" && mv \"$2/new\" \"$2/mkfs.ext4\"";
            shell_with(script, &[text.into(), dir.clone().into()]);
        };
        let times = || fs::read_to_string(&asked).unwrap_or_default().lines().count();
        put("mke2fs 1.46.6 (1-Feb-2023)");
        assert!((0..3).all(|_| !knows_prezeroed("test", &program)));
        assert_eq!(times(), 1);
        put("mke2fs 1.47.3 (8-Jul-2025)");
        assert!((0..3).all(|_| knows_prezeroed("test", &program)));
        assert_eq!(times(), 2);
        put("something else");
        assert!(!knows_prezeroed("test", &program));
        fs::remove_dir_all(&dir).unwrap();
        assert!(!knows_prezeroed("test", &program));
    }
}
