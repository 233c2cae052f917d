//! What only the daemon's own program can say of the machine: what the kernel lets it do, whether it would start with the
//! configuration as it is, and what it runs under. `volctl doctor` shows it beside what it sees itself.
//!
//! Asked of the daemon (`GET /v1/doctor`), or where none runs of the program (`volumed doctor`). Nothing here changes anything.

use nix::sys::resource::{Resource, getrlimit};
use vol_api::{Doctor, Finding, Health, KernelInfo, Level, Status};
use vol_engine::host::HostRead as _;
use vol_linux::{LinuxHost, LinuxOptions};

use crate::access::Access;
use crate::cli::Args;
use crate::config::Config;
use crate::settings::{Chain, Settings};

/// Descriptors below which a host with many volumes runs into the limit: each connection, disk and loop device takes one.
const FILES_MIN: u64 = 4096;
/// What io_uring with registered buffers takes: 16 rings of 512 KiB, and their queues.
const LOCKED_MIN: u64 = 9 << 20;
/// Targets that are there with the modules that the unit loads, and what each is for.
const TARGETS: [(&str, &str, &str); 4] = [
    ("linear", "dm-mod", "every volume"),
    ("striped", "dm-mod", "striped thick volumes"),
    ("thin-pool", "dm-thin-pool", "pools"),
    ("thin", "dm-thin-pool", "thin volumes and snapshots"),
];

/// Device-mapper and its targets.
pub fn kernel(kernel: &KernelInfo) -> Vec<Finding> {
    let Some(version) = &kernel.dm_version else {
        return vec![Finding::new(
            "kernel_device_mapper",
            Level::Problem,
            "device-mapper cannot be used: volumed can make no pool and no volume",
            "modprobe dm-mod, and start volumed as root, not in a container without /dev/mapper/control",
        )];
    };
    let mut found = vec![Finding::ok("kernel_device_mapper", format!("device-mapper {version}"))];
    let of = |name: &str| kernel.targets.iter().find(|target| target.name == name);
    let there: Vec<String> = TARGETS
        .iter()
        .filter_map(|(name, ..)| of(name))
        .map(|target| format!("{} {}", target.name, target.version))
        .collect();
    if !there.is_empty() {
        found.push(Finding::ok("kernel_targets", format!("targets: {}", there.join(", "))));
    }
    for (name, module, purpose) in TARGETS {
        if of(name).is_none() {
            found.push(Finding::new(
                "kernel_targets",
                Level::Problem,
                format!("the kernel offers no device-mapper target {name:?}, which is needed for {purpose}"),
                format!(
                    "modprobe {module} (the unit does it); if there is no such module, install a kernel that has it"
                ),
            ));
        }
    }
    found
}

/// How the program's own I/O is done.
pub fn io(name: &str, reason: &str) -> Finding {
    let what = "labels and metadata are read and written by";
    match name {
        "io_uring (registered buffers)" => Finding::ok("io_uring", format!("{what} {name}")),
        "io_uring" => Finding::new(
            "io_uring",
            Level::Note,
            format!("{what} io_uring, without registered buffers: {reason}"),
            "raise the limit on locked memory (LimitMEMLOCK= of the unit) and restart volumed, for a little less work per commit",
        ),
        _ => Finding::new(
            "io_uring",
            Level::Note,
            format!("{what} {name}, not io_uring: {reason}. Everything works; changes cost a thread per copy"),
            "if that is not intended: sysctl kernel.io_uring_disabled=0, allow io_uring in the unit's SystemCallFilter=, \
             io = \"auto\" in the configuration; then restart volumed",
        ),
    }
}

/// What the process may use; `None` is unlimited.
pub fn limits(files: Option<u64>, locked: Option<u64>) -> Vec<Finding> {
    let number = |limit: Option<u64>| limit.map_or("no limit".to_owned(), |limit| limit.to_string());
    let hint = "raise it in the unit (systemctl edit volumed), then restart volumed";
    let files = if files.is_none_or(|files| files >= FILES_MIN) {
        Finding::ok("limit_files", format!("descriptors: {}", number(files)))
    } else {
        Finding::new(
            "limit_files",
            Level::Warning,
            format!(
                "the daemon may open {} files only; each connection, disk and loop device takes one",
                number(files)
            ),
            format!("LimitNOFILE=65536: {hint}"),
        )
    };
    let locked = if locked.is_none_or(|locked| locked >= LOCKED_MIN) {
        Finding::ok("limit_locked_memory", format!("locked memory: {}", number(locked)))
    } else {
        Finding::new(
            "limit_locked_memory",
            Level::Warning,
            format!(
                "the daemon may lock {} bytes of memory only: too little for io_uring's buffers, and a snapshot of a volume in use \
                 is taken from memory that may be swapped out",
                number(locked)
            ),
            format!("LimitMEMLOCK=infinity: {hint}"),
        )
    };
    vec![files, locked]
}

fn own_limits() -> Vec<Finding> {
    let of = |resource| {
        let soft = getrlimit(resource).map_or(u64::MAX, |(soft, _)| soft);
        (soft != nix::sys::resource::RLIM_INFINITY).then_some(soft)
    };
    limits(of(Resource::RLIMIT_NOFILE), of(Resource::RLIMIT_MEMLOCK))
}

/// Whether what the daemon mounts is seen by the host.
pub fn namespace(hidden: std::io::Result<Option<String>>) -> Finding {
    match hidden {
        Ok(None) => Finding::ok("mount_namespace", "the daemon mounts in the host's mount namespace"),
        Ok(Some(why)) => Finding::new(
            "mount_namespace",
            Level::Problem,
            format!("what is mounted would be seen by neither the host nor containers, so nothing is: {why}"),
            "take out of the unit what makes one (PrivateTmp=, ProtectSystem= and the like, see systemctl cat volumed), and do not \
             run volumed in a container; then restart it",
        ),
        Err(error) => Finding::new(
            "mount_namespace",
            Level::Note,
            format!("whether the daemon mounts in the host's mount namespace cannot be told: {error}"),
            "look with: readlink /proc/1/ns/mnt /proc/$(pidof volumed)/ns/mnt",
        ),
    }
}

/// The file, as a start with it would go.
pub fn configuration(settings: &Settings) -> Vec<Finding> {
    let file = settings.file();
    let shown = file.display();
    match settings.look() {
        Err(error) => vec![Finding::new(
            "configuration",
            Level::Problem,
            format!("volumed would not start with its configuration: {}", Chain(&error)),
            "correct the file; volumed --check-config tells whether it is good",
        )],
        Ok(differing) => {
            let (live, later): (Vec<_>, Vec<_>) = differing.into_iter().partition(|key| crate::reference::is_live(key));
            let exists = if file.exists() { "is accepted" } else { "does not exist: the defaults count" };
            let mut found = vec![Finding::ok("configuration", format!("{shown} {exists}"))];
            if !live.is_empty() {
                found.push(Finding::new(
                    "configuration_changed",
                    Level::Note,
                    format!("{shown} was changed and the daemon has not read it again: {}", live.join(", ")),
                    "systemctl reload volumed",
                ));
            }
            if !later.is_empty() {
                found.push(Finding::new(
                    "configuration_restart",
                    Level::Note,
                    format!("changed in {shown}, but only counts from the next start on: {}", later.join(", ")),
                    "systemctl restart volumed (no I/O is interrupted, volumes stay mounted)",
                ));
            }
            found
        }
    }
}

/// Groups of roles that the host does not have.
pub fn groups(access: &Access) -> Vec<Finding> {
    let finding = |group: &crate::access::RoleGroup| {
        Finding::new(
            "role_groups",
            Level::Note,
            format!(
                "there is no group {:?} on this host: nobody has the role {:?} by it",
                group.name,
                group.role.as_str()
            ),
            format!(
                "groupadd --system {}, then systemctl reload volumed; or name another group in the configuration",
                group.name
            ),
        )
    };
    access.missing().map(finding).collect()
}

/// The metrics listener, as far as it is no problem of `status`.
fn metrics(status: &Status) -> Finding {
    match &status.metrics_listen {
        Some(at) => Finding::ok("metrics", format!("metrics at http://{at}/metrics")),
        None => Finding::ok("metrics", "metrics are not served (see metrics_listen in the configuration)"),
    }
}

/// What the daemon itself complains about.
fn complaints(status: &Status) -> Vec<Finding> {
    let level = if status.health == Health::Failed { Level::Problem } else { Level::Warning };
    if status.problems.is_empty() {
        return vec![Finding::ok("status", format!("volumed {} answers and complains about nothing", status.version))];
    }
    let finding = |one: &vol_api::Problem| {
        Finding::new("status", level, format!("{} ({})", one.message, one.code), one.hint.clone())
    };
    status.problems.iter().map(finding).collect()
}

/// All that a running daemon has to say; `seen` is what its backend has found.
pub fn of_daemon(status: &Status, settings: &Settings, access: &Access, seen: Vec<Finding>) -> Doctor {
    let mut all = kernel(&status.kernel);
    all.push(io(&status.io_backend, &status.io_backend_reason));
    all.push(namespace(vol_linux::hidden_from_init()));
    all.push(metrics(status));
    all.extend(configuration(settings));
    all.extend(groups(access));
    all.extend(own_limits());
    all.extend(seen);
    all.extend(complaints(status));
    Doctor::new(all)
}

/// What can be said where no daemon runs.
pub fn of_program(args: &Args) -> Doctor {
    let loaded = Config::load(args);
    let config = loaded.unwrap_or_default();
    let access = Access::new(&config, vol_linux::group_id);
    let mut all = Vec::new();
    match LinuxHost::new(LinuxOptions::default()) {
        Ok(host) => {
            let version = host.dm_version().ok().map(|(major, minor, patch)| format!("{major}.{minor}.{patch}"));
            let target =
                |(name, (major, minor, patch))| vol_api::DmTarget { name, version: format!("{major}.{minor}.{patch}") };
            let targets = host.dm_targets().unwrap_or_default().into_iter().map(target).collect();
            all.extend(kernel(&KernelInfo { release: String::new(), dm_version: version, targets }));
            let backend = host.io_backend();
            all.push(io(&backend.name, backend.reason.as_deref().unwrap_or_default()));
        }
        Err(error) => all.push(Finding::new("io_uring", Level::Problem, format!("no I/O is possible: {error}"), "")),
    }
    all.extend(configuration(&Settings::new(args.clone(), config)));
    all.extend(groups(&access));
    Doctor::new(all)
}

#[cfg(test)]
mod tests;
