//! The launcher: process 1 of a guest's own process and mount namespace on the host. It lays out what the guest may see, starts the
//! runner and ends when xtask ends, for whatever reason; the kernel then kills everything in the namespace. So a guest never
//! outlives its xtask, and neither mounts nor scratch disks (files without a name) are left.

use super::spec::{Runner, Spec};
use super::{disk::Disk, qemu, uml};
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, mount, mount_bind_recursive, mount_remount};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;

/// `xtask __launch`: reads the spec from standard input, runs the guest, returns when it has ended.
pub fn main() -> Result<()> {
    let spec = Spec::receive(&mut Unbuffered)?;
    watch(spec.life)?;
    let disks = spec.disks.iter().map(|disk| open_disk(disk, &spec.lab)).collect::<Result<Vec<_>>>()?;
    let disks: Vec<RawFd> = disks.into_iter().map(|file| inherit(file.into())).collect::<Result<_>>()?;

    // The line to the agent: whatever xtask writes from here on, and what it reads.
    let line_in = inherit(rustix::io::dup(rustix::stdio::stdin())?)?;
    let line_out = inherit(rustix::io::dup(rustix::stdio::stdout())?)?;
    let mut runner = match spec.runner {
        Runner::Uml => uml::prepare(&spec, &disks, (line_in, line_out))?,
        Runner::Qemu => qemu::prepare(&spec, &disks, (line_in, line_out))?,
    };

    let mut log =
        File::options().append(true).create(true).open(&spec.console).context("cannot write the console's log")?;
    let (mut console, writer) = std::io::pipe()?;
    match spec.runner {
        Runner::Uml => {
            runner.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
            uml::enter(&spec)?;
        }
        Runner::Qemu => _ = runner.stderr(writer),
    }
    let mut guest = runner.spawn().with_context(|| format!("cannot start {:?}", runner.get_program()))?;
    // It holds the pipe's other end.
    drop(runner);
    std::io::copy(&mut console, &mut log)?;
    guest.wait()?;
    Ok(())
}

/// Standard input without a buffer: what follows the spec belongs to the guest.
struct Unbuffered;

impl Read for Unbuffered {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), buf)?)
    }
}

/// Ends this process, and with it the namespace, as soon as the other end of `life` is closed.
fn watch(life: RawFd) -> Result<()> {
    let life = File::open(format!("/proc/self/fd/{life}")).context("xtask is gone")?;
    std::thread::spawn(move || {
        loop {
            let fd: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(&life);
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
            if poll(&mut fds, None).is_ok() && fds[0].revents().contains(PollFlags::HUP) {
                std::process::exit(137);
            }
        }
    });
    Ok(())
}

fn open_disk(disk: &Disk, lab: &Path) -> Result<File> {
    let mut options = File::options();
    options.read(true).write(true);
    match disk {
        Disk::Scratch { bytes } => {
            let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
            let file = options.custom_flags(flags).open(lab).context("cannot make a scratch disk in the lab folder")?;
            file.set_len(*bytes)?;
            Ok(file)
        }
        Disk::File { path, create } => {
            let file = options.create(create.is_some()).truncate(false).open(path);
            let file = file.with_context(|| format!("cannot open disk {}", path.display()))?;
            if let (Some(bytes), 0) = (create, file.metadata()?.len()) {
                file.set_len(*bytes)?;
            }
            Ok(file)
        }
    }
}

/// Keeps a file open across exec and gives its number away.
pub fn inherit(file: OwnedFd) -> Result<RawFd> {
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
    let number = file.as_raw_fd();
    std::mem::forget(file);
    Ok(number)
}

/// Fills `dir` (a mount point) with all that the guest sees as /lab. Only this process's namespace has it.
pub fn stage(spec: &Spec, dir: &Path) -> Result<()> {
    mount_tmpfs(dir, "mode=755")?;
    // A copy, not a bind: cargo may replace the file that this was started from.
    fs::copy("/proc/self/exe", dir.join("xtask")).context("cannot copy xtask")?;
    fs::hard_link(dir.join("xtask"), dir.join("init"))?;
    fs::create_dir(dir.join("bin"))?;
    for (name, file) in &spec.bins {
        bind_file(file, &dir.join("bin").join(name))?;
    }
    fs::create_dir(dir.join("files"))?;
    for (name, text) in &spec.files {
        fs::write(dir.join("files").join(name), text)?;
    }
    if let Some(units) = &spec.units {
        bind_dir(units, &dir.join("units"))?;
    }
    if let Some(share) = &spec.share {
        bind_dir(share, &dir.join("share"))?;
    }
    fs::write(dir.join("spec.json"), serde_json::to_vec(spec)?)?;
    Ok(())
}

pub fn mount_tmpfs(dir: &Path, options: &str) -> Result<()> {
    let options = std::ffi::CString::new(options)?;
    mount("tmpfs", dir, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str())
        .with_context(|| format!("cannot mount a tmpfs on {}", dir.display()))
}

pub fn bind_file(from: &Path, to: &Path) -> Result<()> {
    // Never truncated: when two have one name, what is there is the file of the first by now.
    File::options().create(true).append(true).open(to)?;
    mount_bind_recursive(from, to).with_context(|| format!("cannot bind {} to {}", from.display(), to.display()))
}

fn bind_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    mount_bind_recursive(from, to).with_context(|| format!("cannot bind {} to {}", from.display(), to.display()))
}

/// Makes a folder read-only for this namespace.
pub fn read_only(dir: &Path) -> Result<()> {
    mount_bind_recursive(dir, dir)?;
    mount_remount(dir, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    Ok(())
}
