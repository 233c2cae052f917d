//! The first process of a guest (`init=/lab/init`, which is xtask): puts a memory overlay over the read-only root, mounts what a system
//! mounts, and then either becomes systemd or starts udevd and the agent itself.

use super::spec::{Runner, Spec};
use super::{agent, qemu, uml};
use crate::cmd::{cmd, run};
use crate::units;
use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_move, unmount};
use rustix::process::{WaitOptions, wait};
use std::ffi::CStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Where programs are in a guest; the kernel gives its first process no PATH.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Modules that every guest loads; the others (dm-flakey, dm-log-writes, …) come with modprobe.
const MODULES: &[&str] = &["dm-mod", "dm-thin-pool", "loop"];

/// What the kernel starts: xtask by another name.
pub const INIT: &str = "/lab/init";

/// The first process: does not return while the guest lives.
pub fn main() -> ! {
    if let Err(err) = bring_up() {
        eprintln!("lab: the guest's first process failed: {err:#}");
    }
    rustix::fs::sync();
    _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
    loop {
        std::thread::park();
    }
}

fn bring_up() -> Result<()> {
    let spec = Spec::load(Path::new("/lab/spec.json"))?;
    overlay(&spec)?;
    log("overlay mounted");
    configure(&spec)?;
    if spec.systemd {
        return Err(Command::new("/usr/lib/systemd/systemd").env_clear().exec()).context("cannot become systemd");
    }
    run(cmd("modprobe", ["-a"]).args(MODULES).env("PATH", PATH))?;
    log("modules loaded");
    run(cmd("ip", ["link", "set", "lo", "up"]).env("PATH", PATH))?;
    udev()?;
    log("udev settled");
    let agent =
        Command::new("/lab/xtask").arg("__agent").env("PATH", PATH).spawn().context("cannot start the agent")?;
    // As process 1 this one also inherits every orphan: reap them all until the agent ends.
    while let Some((pid, _)) = wait(WaitOptions::empty())? {
        if pid.as_raw_nonzero().get() as u32 == agent.id() {
            break;
        }
    }
    Ok(())
}

/// Writes a line to the kernel's log, so that the console's log tells how far a boot came and when.
pub fn log(text: &str) {
    _ = fs::write("/dev/kmsg", format!("lab: {text}"));
}

/// Everything is written to memory; the root below stays as it was made, however many guests share it.
fn overlay(spec: &Spec) -> Result<()> {
    let new = Path::new("/overlay/root");
    on("tmpfs", Path::new("/overlay"), "tmpfs", c"mode=755")?;
    for dir in ["upper", "work", "root"] {
        fs::create_dir(Path::new("/overlay").join(dir))?;
    }
    on("overlay", new, "overlay", c"lowerdir=/,upperdir=/overlay/upper,workdir=/overlay/work")?;
    on("proc", &new.join("proc"), "proc", c"")?;
    on("sysfs", &new.join("sys"), "sysfs", c"")?;
    on("devtmpfs", &new.join("dev"), "devtmpfs", c"mode=755")?;
    for (dir, mode) in [("dev/shm", c"mode=1777"), ("run", c"mode=755"), ("tmp", c"mode=1777")] {
        fs::create_dir_all(new.join(dir))?;
        on("tmpfs", &new.join(dir), "tmpfs", mode)?;
    }
    fs::create_dir_all(new.join("dev/pts"))?;
    on("devpts", &new.join("dev/pts"), "devpts", c"gid=5,mode=620,ptmxmode=666")?;
    _ = on("cgroup2", &new.join("sys/fs/cgroup"), "cgroup2", c"");
    match spec.runner {
        Runner::Uml => on("none", &new.join("lab"), "hostfs", c"/lab")?,
        Runner::Qemu => mount_move("/lab", new.join("lab"))?,
    }
    if spec.share.is_some() {
        match spec.runner {
            Runner::Uml => on("none", &new.join("share"), "hostfs", c"/lab/share")?,
            Runner::Qemu => mount_bind(new.join("lab/share"), new.join("share"))?,
        }
    }
    std::env::set_current_dir(new)?;
    rustix::process::pivot_root(".", ".").context("pivot_root")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    Ok(())
}

fn on(source: &str, target: &Path, kind: &str, options: &CStr) -> Result<()> {
    mount(source, target, kind, MountFlags::empty(), options)
        .with_context(|| format!("cannot mount {kind} on {}", target.display()))
}

fn configure(spec: &Spec) -> Result<()> {
    _ = rustix::system::sethostname(b"lab");
    fs::write("/etc/hostname", "lab\n")?;
    fs::write("/etc/hosts", "127.0.0.1 localhost lab\n::1 localhost\n")?;
    fs::write("/etc/machine-id", "c0ffee00c0ffee00c0ffee00c0ffee00\n")?;
    fs::create_dir_all("/etc/udev/rules.d")?;
    fs::write("/etc/udev/rules.d/90-lab.rules", udev_rules(spec))?;
    for (name, _) in &spec.bins {
        for dir in ["/usr/local/bin", "/usr/bin", "/usr/sbin"] {
            let link = Path::new(dir).join(name);
            if !link.exists() {
                std::os::unix::fs::symlink(Path::new("/lab/bin").join(name), &link)?;
            }
        }
    }
    if spec.systemd {
        systemd_files(spec)?;
    }
    match &spec.before {
        Some(script) => run(cmd("sh", ["-e", "-c", script]).env("PATH", PATH)).context("--before"),
        None => Ok(()),
    }
}

/// Stable names for the disks and their partitions.
fn udev_rules(spec: &Spec) -> String {
    let mut rules = String::new();
    for index in 0..spec.disks.len() {
        let name = match spec.runner {
            Runner::Uml => uml::disk_name(index),
            Runner::Qemu => qemu::disk_name(index),
        };
        _ = writeln!(rules, r#"SUBSYSTEM=="block", KERNEL=="{name}", SYMLINK+="labdisk{index}""#);
        _ = writeln!(rules, r#"SUBSYSTEM=="block", KERNEL=="{name}[0-9]*", SYMLINK+="labdisk{index}p%n""#);
    }
    rules
}

/// The agent as a service, and the repository's own units where they belong.
fn systemd_files(spec: &Spec) -> Result<()> {
    let system = Path::new("/etc/systemd/system");
    fs::create_dir_all(system.join("multi-user.target.wants"))?;
    fs::write(system.join("lab-agent.service"), agent::UNIT)?;
    link("/etc/systemd/system/lab-agent.service", &system.join("multi-user.target.wants/lab-agent.service"))?;
    for unit in ["getty.target", "getty@tty1.service", "apt-daily.timer", "apt-daily-upgrade.timer"] {
        link("/dev/null", &system.join(unit))?;
    }
    fs::create_dir_all("/etc/modules-load.d")?;
    fs::write("/etc/modules-load.d/lab.conf", MODULES.join("\n") + "\n")?;
    let Some(_) = spec.units else { return Ok(()) };
    for entry in fs::read_dir("/lab/units")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(folder) = units::folder(&name) else { continue };
        let dir = Path::new("/etc").join(folder);
        fs::create_dir_all(&dir)?;
        fs::copy(&path, dir.join(&name)).with_context(|| format!("cannot install {name}"))?;
    }
    // What a package does when it is installed.
    run(cmd("systemd-sysusers", [] as [&str; 0]).env("PATH", PATH)).context("users and groups")
}

fn link(to: &str, at: &Path) -> Result<()> {
    _ = fs::remove_file(at);
    Ok(std::os::unix::fs::symlink(to, at)?)
}

/// Tells udevd of all disks, as if they had just come.
pub fn announce_disks() -> Result<()> {
    let trigger = ["trigger", "--action=add", "--subsystem-match=block", "--subsystem-match=misc"];
    run(cmd("udevadm", trigger).env("PATH", PATH))
}

fn udev() -> Result<()> {
    run(cmd("/usr/lib/systemd/systemd-udevd", ["--daemon"]).env("PATH", PATH))?;
    announce_disks()?;
    let settled = run(cmd("udevadm", ["settle", "--timeout=30"]).env("PATH", PATH));
    if settled.is_err() {
        bail!("udev did not settle within 30 s");
    }
    Ok(())
}
