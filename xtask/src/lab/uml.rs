//! The UML runner: Debian's User-Mode Linux kernel as an ordinary process, chrooted into the lab root.

use super::guest;
use super::launch::{bind_file, mount_tmpfs, read_only, stage};
use super::spec::Spec;
use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use std::fs;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// UML has 16 disks, ubda to ubdp.
pub const MAX_DISKS: usize = 16;
/// The agent's line, seen from inside.
pub const LINE: &str = "/dev/ttyS0";

/// The kernel's name of disk `index`.
pub fn disk_name(index: usize) -> String {
    format!("ubd{}", (b'a' + index as u8) as char)
}

fn root(spec: &Spec) -> PathBuf {
    spec.lab.join("root")
}

/// Lays out the root as the kernel process will see it, and gives the command that is to run in there.
pub fn prepare(spec: &Spec, disks: &[RawFd], line: (RawFd, RawFd)) -> Result<Command> {
    let root = root(spec);
    read_only(&root)?;
    stage(spec, &root.join("lab"))?;
    let dev = root.join("dev");
    mount_tmpfs(&dev, "mode=755").context("/dev")?;
    // A tmpfs with `nodev` still lets bound device nodes work: the bind keeps the flags of where it came from. No disk is among them.
    for node in ["null", "zero", "full", "random", "urandom", "tty"] {
        bind_file(&Path::new("/dev").join(node), &dev.join(node))?;
    }
    fs::create_dir(dev.join("shm"))?;
    // Guest memory is a sparse file in here, and hostfs needs a little.
    let mem = spec.mem + (64 << 20);
    let options = std::ffi::CString::new(format!("size={mem},mode=1777"))?;
    mount("tmpfs", dev.join("shm"), "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str())?;
    mount("proc", root.join("proc"), "proc", MountFlags::empty(), None)?;
    mount_tmpfs(&root.join("tmp"), "mode=1777")?;

    let mut kernel = Command::new("/usr/bin/linux.uml");
    kernel.arg(format!("mem={}M", spec.mem >> 20));
    kernel.args(["seccomp=on", "rootfstype=hostfs", "rootflags=/", "ro"]);
    kernel.arg(format!("init={}", guest::INIT));
    kernel.args(["con=null", "ssl=null", "con0=null,fd:1", "uml_dir=/tmp", "umid=lab"]);
    kernel.arg(format!("ssl0=fd:{},fd:{}", line.0, line.1));
    for (index, fd) in disks.iter().enumerate() {
        kernel.arg(format!("ubd{index}=/proc/self/fd/{fd}"));
    }
    kernel.args(&spec.kernel_args);
    kernel.env_clear().env("TMPDIR", "/dev/shm").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
    Ok(kernel)
}

/// Moves this process into the root.
pub fn enter(spec: &Spec) -> Result<()> {
    std::os::unix::fs::chroot(root(spec)).context("chroot")?;
    Ok(std::env::set_current_dir("/")?)
}
