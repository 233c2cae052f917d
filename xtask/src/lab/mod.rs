//! `cargo xtask lab`: a throw-away guest with a stock kernel and device-mapper, on any machine. docs/lab.md tells how to use it.

pub mod agent;
pub mod disk;
pub mod frame;
pub mod guest;
pub mod launch;
pub mod qemu;
pub mod root;
pub mod session;
pub mod spec;
pub mod uml;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use disk::Disk;
use spec::{Runner, Spec};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum Lab {
    /// Boot a guest, run one command in it as root, exit with its exit code
    Run {
        #[command(flatten)]
        options: Options,
        /// The command and its arguments, passed exactly as they are
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Boot a guest and open a root shell in it
    Shell {
        #[command(flatten)]
        options: Options,
    },
    /// Make the guest's root now instead of at the first use
    Prepare {
        #[arg(long, value_enum, default_value = "uml")]
        runner: Runner,
    },
}

#[derive(Args, Clone)]
pub struct Options {
    /// The machine that runs the guest
    #[arg(long, value_enum, default_value = "uml")]
    pub runner: Runner,
    /// A disk, /dev/labdisk0 and on: SIZE (4G; gone afterwards), FILE (kept) or FILE:SIZE (made when absent)
    #[arg(long = "disk", value_name = "SIZE|FILE", value_parser = parse_disk)]
    pub disks: Vec<Disk>,
    /// A folder of this machine that the guest has read-write at /share
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,
    /// Start volumed first and wait until it answers
    #[arg(long)]
    pub daemon: bool,
    /// Boot systemd as process 1; with --daemon, volumed as its installed service
    #[arg(long)]
    pub systemd: bool,
    /// A shell script that the guest runs as root before its first service: for what is in /etc when it boots
    #[arg(long, value_name = "SCRIPT")]
    pub before: Option<String>,
    /// The guest's memory
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = disk::size_arg)]
    pub mem: u64,
    /// One more word for the kernel's command line
    #[arg(long = "kernel-arg", value_name = "ARG")]
    pub kernel_args: Vec<String>,
    /// One more program for the guest's PATH
    #[arg(long = "bin", value_name = "FILE")]
    pub programs: Vec<PathBuf>,
    /// Pull the plug after this many seconds; the exit code is then 124
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// A guest with neither volumed and volctl nor the repository's units: for what a package installs
    #[arg(long, conflicts_with = "daemon")]
    pub bare: bool,
    /// Use volumed and volctl as they are in target/release, or none
    #[arg(long)]
    pub no_build: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            runner: Runner::Uml,
            disks: vec![],
            share: None,
            daemon: false,
            systemd: false,
            before: None,
            mem: 2 << 30,
            kernel_args: vec![],
            programs: vec![],
            timeout: None,
            bare: false,
            no_build: false,
        }
    }
}

fn parse_disk(text: &str) -> Result<Disk, String> {
    disk::parse_disk(text).map_err(|err| format!("{err:#}"))
}

/// The command's exit code, or 125 where the lab itself failed.
pub fn main(lab: Lab) -> Result<i32> {
    match lab {
        Lab::Run { options, command } => {
            let spec = spec(&options, command, vec![])?;
            session::run(spec, !std::io::stdin().is_terminal())
        }
        Lab::Shell { options } => {
            let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
            let command = if terminal { vec!["bash".into(), "-l".into()] } else { vec!["bash".into()] };
            let mut spec = spec(&options, command, vec![])?;
            if terminal {
                spec.tty = Some(session::terminal_size());
                let term = std::env::var("TERM").unwrap_or_else(|_| "linux".into());
                spec.env.push(("TERM".into(), term));
                eprintln!("lab: booting; `exit` or Ctrl-D ends the guest and all that is in it");
            } else {
                eprintln!("lab: standard input is not a terminal: reading commands from it");
            }
            session::run(spec, true)
        }
        Lab::Prepare { runner } => {
            prepare(runner)?;
            Ok(0)
        }
    }
}

/// Everything on this machine that a guest of this kind needs.
pub fn prepare(runner: Runner) -> Result<(PathBuf, root::InUse, bool)> {
    if !rustix::process::geteuid().is_root() {
        bail!("the lab needs root: it makes namespaces and mounts. Run the command as root");
    }
    match runner {
        Runner::Uml => crate::setup::lab()?,
        Runner::Qemu => crate::setup::qemu()?,
    }
    let lab = root::lab_dir()?;
    match runner {
        Runner::Uml => {
            let in_use = root::ensure(&lab)?;
            Ok((lab, in_use, false))
        }
        Runner::Qemu => {
            let in_use = qemu::ensure(&lab)?;
            let kvm = qemu::kvm(&lab, |limit| session::probe(&lab, limit))?;
            Ok((lab, in_use, kvm))
        }
    }
}

/// Completes the options to a guest that runs `command`.
pub fn spec(options: &Options, command: Vec<OsString>, files: Vec<(String, String)>) -> Result<Spec> {
    if options.disks.len() > uml::MAX_DISKS {
        bail!("a guest has at most {} disks", uml::MAX_DISKS);
    }
    if options.mem < 128 << 20 {
        bail!("--mem: a guest needs at least 128M");
    }
    let share = match &options.share {
        Some(dir) if dir.is_dir() => Some(dir.canonicalize()?),
        Some(dir) => bail!("--share {}: no such folder", dir.display()),
        None => None,
    };
    if !options.no_build && !options.bare {
        crate::build_release()?;
    }
    let release = crate::target_dir().join("release");
    let mut bins: Vec<_> = ["volumed", "volctl"]
        .into_iter()
        .map(|name| (name.to_owned(), release.join(name)))
        .filter(|(_, file)| file.is_file() && !options.bare)
        .collect();
    if options.daemon && bins.len() < 2 {
        bail!("--daemon needs volumed and volctl in {}; leave out --no-build", release.display());
    }
    for file in &options.programs {
        let name = file.file_name().and_then(|name| name.to_str()).context("--bin: a program has a plain name")?;
        if !file.is_file() {
            bail!("--bin {}: no such file", file.display());
        }
        bins.push((name.to_owned(), file.canonicalize()?));
    }
    let units = crate::workspace().join("systemd");
    let env = std::env::vars().filter(|(key, _)| key.starts_with("VOLUMED_TEST_")).collect();
    Ok(Spec {
        runner: options.runner,
        mem: options.mem,
        kernel_args: options.kernel_args.clone(),
        disks: options.disks.clone(),
        share,
        bins,
        units: (units.is_dir() && !options.bare).then_some(units),
        files,
        argv: command.into_iter().map(OsString::into_vec).collect(),
        env,
        daemon: options.daemon,
        systemd: options.systemd,
        before: options.before.clone(),
        timeout: options.timeout,
        ..Spec::default()
    })
}

/// A name for a console's log; only the newest few are kept.
fn console_log(lab: &Path) -> Result<PathBuf> {
    let mut logs: Vec<_> = std::fs::read_dir(lab)?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("last-console-"))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    logs.sort();
    for (_, old) in logs.iter().rev().skip(15) {
        _ = std::fs::remove_file(old);
    }
    Ok(lab.join(format!("last-console-{}.log", std::process::id())))
}

/// For session: the lab folder, held, and the console's log in it.
fn place(spec: &mut Spec) -> Result<root::InUse> {
    let (lab, in_use, kvm) = prepare(spec.runner)?;
    spec.console = console_log(&lab).context("the lab folder")?;
    spec.lab = lab;
    spec.kvm = kvm;
    Ok(in_use)
}
