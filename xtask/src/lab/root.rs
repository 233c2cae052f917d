//! The guest's root file system: Debian forky by mmdebstrap, made once, made anew when what it is made of changes.

use crate::cmd::{cmd, run_quiet};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SUITE: &str = "forky";
pub const PACKAGES: &[&str] = &[
    "btrfs-progs",
    "busybox-static",
    "crun",
    "curl",
    "dbus",
    "dmsetup",
    "docker-cli",
    "docker-compose",
    "docker.io",
    "e2fsprogs",
    "fdisk",
    "fio",
    "iproute2",
    "jq",
    "kmod",
    "less",
    "lvm2",
    "podman",
    "postgresql",
    "procps",
    "prometheus",
    "psmisc",
    "python3-grpcio",
    "python3-protobuf",
    "systemd-sysv",
    "thin-provisioning-tools",
    "udev",
    "user-mode-linux",
    "util-linux",
    "util-linux-extra",
    "xfsprogs",
];
/// Raise it when the steps below change.
const RECIPE: u32 = 2;
/// Here for those who start them: no guest begins with them.
const ON_DEMAND: &[&str] = &[
    "containerd.service",
    "docker.service",
    "docker.socket",
    "podman.service",
    "podman.socket",
    "podman-auto-update.timer",
    "podman-clean-transient.service",
    "podman-restart.service",
    "postgresql.service",
    "prometheus.service",
];

/// The lab folder: `$VOLUMED_LAB_DIR`, or `target/lab`.
pub fn lab_dir() -> Result<PathBuf> {
    let dir = match std::env::var_os("VOLUMED_LAB_DIR") {
        Some(dir) if !dir.is_empty() => std::path::absolute(dir)?,
        _ => crate::target_dir().join("lab"),
    };
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the lab folder {}", dir.display()))?;
    Ok(dir)
}

/// Holds the lab's files in place for as long as it lives: a guest runs from them.
pub struct InUse(#[expect(dead_code, reason = "the lock lasts as long as the open file")] File);

/// Makes sure that the root is there and current.
pub fn ensure(lab: &Path) -> Result<InUse> {
    ensure_made(lab, "root", &stamp(PACKAGES), |dir| build(dir, PACKAGES))
}

/// What a root is made from, as text; kept beside the root and compared as a whole.
pub fn stamp(packages: &[&str]) -> String {
    format!("recipe {RECIPE}\nsuite {SUITE}\npackages {}\n", packages.join(" "))
}

/// Makes sure that `lab/name` was made from `stamp`, else has `make` fill a new folder and puts it in the old one's place.
/// Two commands do not build at once, and no guest loses its root: users hold a shared lock, the builder waits for the sole one.
pub fn ensure_made(lab: &Path, name: &str, stamp: &str, make: impl Fn(&Path) -> Result<()>) -> Result<InUse> {
    let lock_path = lab.join(format!("{name}.lock"));
    let lock = File::options().create(true).append(true).open(&lock_path)?;
    let (dir, stamp_path) = (lab.join(name), lab.join(format!("{name}.stamp")));
    let current = || dir.is_dir() && fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp);
    loop {
        lock.lock_shared()?;
        if current() {
            return Ok(InUse(lock));
        }
        lock.unlock()?;
        if lock.try_lock().is_err() {
            eprintln!("lab: waiting for another lab command ({})", lock_path.display());
            lock.lock()?;
        }
        if !current() {
            replace(&dir, &stamp_path, stamp, &make)?;
        }
        lock.unlock()?;
    }
}

fn replace(dir: &Path, stamp_path: &Path, stamp: &str, make: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let name = dir.file_name().context("a folder without a name")?.to_string_lossy();
    eprintln!("lab: making {} (once; a minute or so)", dir.display());
    let begin = Instant::now();
    let fresh = dir.with_file_name(format!("{name}.new"));
    remove(&fresh)?;
    make(&fresh).inspect_err(|_| _ = remove(&fresh))?;
    _ = fs::remove_file(stamp_path);
    remove(dir)?;
    fs::rename(&fresh, dir)?;
    fs::write(stamp_path, stamp)?;
    eprintln!("lab: made in {:.0} s", begin.elapsed().as_secs_f32());
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    // A build that was killed may have left mounts below; deleting through those would reach the host's own /dev or /proc.
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let prefix = format!("{}/", dir.display());
    if let Some(line) = mounts.lines().find(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with(&prefix))) {
        bail!("something is mounted inside {}; unmount it first: {line}", dir.display());
    }
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

/// Between two tries to build a root: a mirror that is just being updated needs a while.
const PAUSES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(60)];

/// Builds a root in `dir`. The suite moves and mirrors hiccup: a failed try is made again.
pub fn build(dir: &Path, packages: &[&str]) -> Result<()> {
    crate::setup::lab()?;
    if !rustix::process::geteuid().is_root() {
        bail!("the lab needs root (mmdebstrap, mounts); run the command as root");
    }
    let mut pauses = PAUSES.iter();
    while let Err(err) = mmdebstrap(dir, packages) {
        let Some(pause) = pauses.next() else {
            return Err(err.context("cannot build the lab's root; is the network there?"));
        };
        eprintln!("lab: mmdebstrap failed, trying again in {pause:?}: {err:#}");
        remove(dir)?;
        std::thread::sleep(*pause);
    }
    for mount_point in ["lab", "overlay", "share"] {
        fs::create_dir_all(dir.join(mount_point))?;
    }
    run_quiet(cmd("chroot", [dir]).args(["systemctl", "--quiet", "disable"]).args(ON_DEMAND))
        .context("the services that nobody starts by themselves")?;
    uml_modules(dir)
}

fn mmdebstrap(dir: &Path, packages: &[&str]) -> Result<()> {
    // A mount namespace of its own: whatever mmdebstrap mounts ends with it, even when it is killed.
    let mut unshare =
        cmd("unshare", ["--mount", "--propagation", "private", "--", "mmdebstrap", "--quiet", "--mode=root"]);
    unshare.args([
        "--variant=minbase",
        "--aptopt=Acquire::Check-Valid-Until \"false\"",
        "--aptopt=Acquire::Retries \"3\"",
    ]);
    // Neither is read in the guest, and hostfs is slow with many small files.
    unshare.args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]);
    unshare.arg(format!("--include={}", packages.join(","))).arg(SUITE).arg(dir);
    run_quiet(unshare.env("LC_ALL", "C").env_remove("TMPDIR"))
}

/// Debian keeps UML's modules where only the host looks for them; modprobe in the guest wants the usual place.
fn uml_modules(root: &Path) -> Result<()> {
    let from = root.join("usr/lib/uml/modules");
    let Ok(versions) = fs::read_dir(&from) else { return Ok(()) };
    for version in versions {
        let version = version?.file_name();
        let to = root.join("usr/lib/modules");
        fs::create_dir_all(&to)?;
        run_quiet(cmd("cp", ["-a", "--"]).arg(from.join(&version)).arg(&to))?;
        run_quiet(cmd("chroot", [root]).arg("depmod").arg(&version))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn made_once_and_again_when_the_stamp_changes() {
        let lab = temp("stamp");
        let make = |text: &'static str| {
            move |dir: &Path| -> Result<()> {
                fs::create_dir(dir)?;
                Ok(fs::write(dir.join("file"), text)?)
            }
        };
        let read = || fs::read_to_string(lab.join("r/file")).unwrap();
        drop(ensure_made(&lab, "r", "one", make("first")).unwrap());
        drop(ensure_made(&lab, "r", "one", make("never")).unwrap());
        assert_eq!(read(), "first");
        let failing = |_: &Path| -> Result<()> { bail!("no network") };
        assert!(ensure_made(&lab, "r", "two", failing).is_err());
        assert_eq!(read(), "first", "a failed build leaves the old root");
        drop(ensure_made(&lab, "r", "two", make("second")).unwrap());
        assert_eq!(read(), "second");
        fs::remove_dir_all(&lab).unwrap();
    }

    #[test]
    fn the_stamp_names_its_inputs() {
        assert_ne!(stamp(&["a"]), stamp(&["a", "b"]));
        assert!(stamp(PACKAGES).contains("forky"));
    }
}
