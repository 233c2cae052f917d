//! Installs the Debian packages that the build, the lab and the demonstration need on the host, and only those that are missing.

use crate::cmd::{cmd, run_quiet};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Stdio;

/// What building the workspace needs.
const BUILD: &[&str] = &["clang", "libclang-dev", "pkg-config", "libblkid-dev", "libdevmapper-dev", "gcc", "libc6-dev"];
/// What tests on the host and the lab need.
const LAB: &[&str] = &["mmdebstrap", "debian-archive-keyring", "e2fsprogs", "util-linux", "mount", "tar", "zstd"];
/// What tools from PyPI are put into (`tools.rs`).
const TOOLS: &[&str] = &["python3-venv"];
/// What the Debian package is made with.
const PACKAGING: &[&str] = &["dpkg-dev", "binutils", "gzip", "coreutils"];
/// What `lab --runner qemu` needs besides.
const QEMU: &[&str] = &["qemu-system-x86", "qemu-system-common"];

/// Everything the default commands need.
pub fn all() -> Result<()> {
    install(&[BUILD, LAB, TOOLS].concat())
}

/// What only the lab needs.
pub fn lab() -> Result<()> {
    install(LAB)
}

/// What only making the Debian package needs.
pub fn packaging() -> Result<()> {
    install(PACKAGING)
}

/// What the QEMU runner needs.
pub fn qemu() -> Result<()> {
    install(&[LAB, QEMU].concat())?;
    // Debian 12's qemu-system-common brings virtiofsd, later ones have a package of that name.
    if Path::new("/usr/lib/qemu/virtiofsd").exists() { Ok(()) } else { install(&["virtiofsd"]) }
}

fn install(packages: &[&str]) -> Result<()> {
    if !Path::new("/usr/bin/dpkg-query").exists() {
        bail!(
            "this machine has no dpkg-query: the set-up knows Debian and its relatives only.\n\
             Install by your own means what these Debian packages hold, then put an empty dpkg-query on PATH or run cargo directly:\n  {}",
            packages.join(" ")
        );
    }
    let missing: Vec<&str> = packages.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !rustix::process::geteuid().is_root() {
        bail!("Debian packages are missing and installing them needs root. Run as root:\n  {line}");
    }
    eprintln!("setup: installing {}", missing.join(" "));
    if apt_install(&missing).is_err() {
        // The package lists may be absent or old; only then is an update worth its time.
        run_quiet(
            cmd("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=600", "update"]).env("DEBIAN_FRONTEND", "noninteractive"),
        )
        .context("cannot update Debian's package lists")?;
        apt_install(&missing).with_context(|| format!("cannot install packages; by hand that is:\n  {line}"))?;
    }
    Ok(())
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let options = ["-q", "-y", "-o", "DPkg::Lock::Timeout=600", "--no-install-recommends", "install"];
    run_quiet(cmd("apt-get", options).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn installed(package: &str) -> bool {
    cmd("dpkg-query", ["-W", "-f", "${Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|out| out.stdout == b"install ok installed")
}
