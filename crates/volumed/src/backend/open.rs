//! Opening the real host and finding what is on its disks, before anything is served.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use vol_api::{DmTarget, KernelInfo, Problem};
use vol_engine::host::{HostError, HostMut, HostRead as _};
use vol_engine::moving::Pace;
use vol_engine::{Engine, Progress};
use vol_linux::{LinuxHost, LinuxOptions};

use super::boot::{BootList, FSTAB};
use super::watch::Deaf;
use super::{EngineBackend, Facts};
use crate::api::Backend;
use crate::config::{Config, IoChoice};
use crate::runtimes::references::References;
use crate::socket::RunLock;

/// Targets without which nothing works.
const TARGETS_NEEDED: [&str; 3] = ["linear", "thin-pool", "thin"];

/// Opens the host, looks at all disks, and brings up what is there. What is done to the machine goes through what `wrap` makes of
/// the host.
///
/// # Errors
/// The host cannot be opened at all. A VG that cannot be opened is no error: it is a problem in `status`.
pub fn open<H: HostMut + 'static>(
    config: &Config,
    progress: &Arc<Progress>,
    wrap: impl FnOnce(LinuxHost) -> H,
) -> anyhow::Result<Arc<dyn Backend>> {
    let only = RunLock::take_host().context("only one volumed may use the disks of a machine")?;
    let host = open_host(config)?;
    let io = host.io_backend();
    tracing::info!(reason = io.reason, "own I/O by {}", io.name);
    let mut facts = facts(&host);
    // Before the disks are looked at, so that nothing comes or goes in between unheard.
    let events = host.disk_events().unwrap_or_else(|error| {
        facts.problems.push(deaf(&error));
        Arc::new(Deaf::default())
    });
    let engine = Engine::new(wrap(host)).telling(progress.clone());
    engine.set_pace(Pace { share: config.move_share, rate: config.move_rate.0 });
    if let Err(error) = engine.scan(&[], false) {
        tracing::error!(%error, "the disks could not be looked at");
    }
    let references = References::open(&config.state_dir, &facts.boot_id);
    let at_boot = BootList::read(config, Path::new(FSTAB));
    at_boot.complaints.iter().for_each(|complaint| tracing::warn!("{complaint}"));
    let backend = EngineBackend::new(engine, facts)
        .keeping_deleted(config.undelete_window.0)
        .measuring_volumes(config.volume_metrics)
        .attaching(at_boot)
        .counting(references, config.run_dir.join(crate::runtimes::MOUNTS))
        .beside_kubelet(std::path::PathBuf::from(&config.csi.kubelet_dir))
        .called_in_csi(crate::csi::node_of(&config.csi))
        .remembering_groups(&config.state_dir)
        .holding(only);
    backend.attach_at_boot();
    backend.start_refreshing().context("the refreshing thread")?;
    backend.start_keeping_references().context("the thread that looks after mount references")?;
    backend.start_purging().context("the purging thread")?;
    backend.start_filling().context("the filling thread")?;
    backend.start_maintaining().context("the maintaining thread")?;
    backend.start_watching_disks(events).context("the thread that watches the disks")?;
    backend.start_guarding_space().context("the thread that lets pools grow")?;
    Ok(Arc::new(backend))
}

/// The machine, as the configuration wants its I/O done.
///
/// # Errors
/// The I/O that is asked for cannot be had.
pub fn open_host(config: &Config) -> anyhow::Result<LinuxHost> {
    LinuxHost::new(LinuxOptions {
        io: match config.io {
            IoChoice::Auto => vol_linux::IoChoice::Auto,
            IoChoice::Uring => vol_linux::IoChoice::Uring,
            IoChoice::Plain => vol_linux::IoChoice::Plain,
        },
        run_dir: config.run_dir.clone(),
        state_dir: config.state_dir.clone(),
        guard_command: None,
    })
    .context("the daemon's own I/O")
}

/// Nothing is heard of disks: they are found all the same, later.
fn deaf(error: &HostError) -> Problem {
    tracing::warn!(%error, "disks that come and go are not told of: the daemon looks every few seconds");
    Problem {
        code: "disk_events_unavailable".to_owned(),
        message: format!("the kernel does not tell of disks that come and go: {error}"),
        hint: "they are looked for every 5 s instead; allow the daemon AF_NETLINK (RestrictAddressFamilies= in its unit), and restart it"
            .to_owned(),
    }
}

fn facts(host: &LinuxHost) -> Facts {
    let mut problems = Vec::new();
    let mut problem = |code: &str, message: String, hint: &str| {
        tracing::warn!(code, "{message}");
        problems.push(Problem { code: code.to_owned(), message, hint: hint.to_owned() });
    };
    let dm_version = match host.dm_version() {
        Ok((major, minor, patch)) => Some(format!("{major}.{minor}.{patch}")),
        Err(error) => {
            problem(
                "no_device_mapper",
                format!("device-mapper cannot be used: {error}"),
                "run volumed as root on a kernel with device-mapper (modprobe dm-mod); a container may lack it",
            );
            None
        }
    };
    let targets = match host.dm_targets() {
        Ok(targets) => targets,
        Err(_) if dm_version.is_none() => Vec::new(),
        Err(error) => {
            problem(
                "no_dm_targets",
                format!("the device-mapper targets cannot be listed: {error}"),
                "see the kernel log",
            );
            Vec::new()
        }
    };
    for needed in TARGETS_NEEDED {
        if dm_version.is_some() && !targets.iter().any(|(name, _)| name == needed) {
            problem(
                "dm_target_missing",
                format!("the kernel has no device-mapper target {needed:?}"),
                "load its module: modprobe dm-thin-pool",
            );
        }
    }
    let mounts_hidden = vol_linux::hidden_from_init().unwrap_or_else(|error| {
        tracing::warn!(%error, "whether mounts made here are seen by others cannot be told");
        None
    });
    if let Some(why) = &mounts_hidden {
        let message = format!("mounts made here would not be seen by anybody else, so none are made: {why}");
        problem("mounts_hidden", message, super::change::SEEN_HINT);
    }
    let boot_id = host.boot_id().unwrap_or_else(|error| {
        tracing::warn!(%error, "the boot id cannot be read");
        String::new()
    });
    let system = nix::sys::utsname::uname();
    let text =
        |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    Facts {
        kernel: KernelInfo {
            release: text(system.as_ref().ok().map(|system| system.release())),
            dm_version,
            targets: targets
                .into_iter()
                .map(|(name, (major, minor, patch))| DmTarget { name, version: format!("{major}.{minor}.{patch}") })
                .collect(),
        },
        host: text(system.as_ref().ok().map(|system| system.nodename())),
        boot_id,
        started_at: host.now(),
        problems,
        mounts_hidden,
    }
}
