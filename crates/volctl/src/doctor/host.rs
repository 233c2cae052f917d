//! The kernel, io_uring, udev and the mounts of the host.

use vol_api::{Finding, Level};

use super::Machine;

/// The oldest kernel that volumed is for (README).
const KERNEL_MIN: (u32, u32) = (5, 15);
/// The directories of udev's rules, those that count more first.
const RULES: [&str; 4] = ["/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d"];

/// Version of the kernel, and whether device-mapper and thin pools are there or can be loaded.
pub fn kernel(machine: &Machine) -> Vec<Finding> {
    let release = machine.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    let mut all = vec![match version {
        Some(version) if version >= KERNEL_MIN => Finding::ok("kernel", format!("Linux {release}")),
        Some(_) => Finding::new(
            "kernel",
            Level::Warning,
            format!("Linux {release} is older than {}.{}, the oldest that volumed is for", KERNEL_MIN.0, KERNEL_MIN.1),
            "install a newer kernel",
        ),
        None => Finding::new("kernel", Level::Warning, format!("the kernel says no version: {release:?}"), ""),
    }];
    for (module, about) in
        [("dm-mod", "device-mapper"), ("dm-thin-pool", "thin pools"), ("loop", "loop devices for backing files")]
    {
        let file = module.replace('-', "_");
        let loaded = machine.at(&format!("/sys/module/{file}")).exists();
        let listed = |list: &str| {
            let text = machine.text(&format!("/lib/modules/{release}/{list}")).unwrap_or_default();
            text.lines().any(|line| {
                let path = line.split(':').next().unwrap_or_default();
                let name = path.rsplit('/').next().unwrap_or_default();
                name.split('.').next().is_some_and(|name| name.replace('-', "_") == file)
            })
        };
        all.push(if loaded || listed("modules.builtin") {
            Finding::ok("kernel_modules", format!("{about}: the module {module} is there"))
        } else if listed("modules.dep") {
            Finding::new(
                "kernel_modules",
                Level::Note,
                format!("{about}: the module {module} is not loaded; the unit of volumed loads it"),
                format!("modprobe {module}, if volumed is to run without its unit"),
            )
        } else {
            Finding::new(
                "kernel_modules",
                Level::Problem,
                format!("{about}: this kernel has no module {module}"),
                "install the package with the modules of the running kernel, or a kernel that has them, and reboot",
            )
        });
    }
    all
}

/// What the host's setting allows; what the daemon uses it says itself.
pub fn io_uring(machine: &Machine) -> Option<Finding> {
    let what = |who: &str| format!("kernel.io_uring_disabled is {who}");
    let hint = "sysctl kernel.io_uring_disabled=0 if that is not intended; without io_uring volumed does its own I/O by pread/pwrite";
    match machine.text("/proc/sys/kernel/io_uring_disabled")?.as_str() {
        "0" => Some(Finding::ok("io_uring_sysctl", "io_uring is allowed to everybody (kernel.io_uring_disabled)")),
        "1" => Some(Finding::new(
            "io_uring_sysctl",
            Level::Note,
            what("1: for root, and for the group in kernel.io_uring_group"),
            hint,
        )),
        other => Some(Finding::new(
            "io_uring_sysctl",
            Level::Warning,
            what(&format!("{other}: io_uring is forbidden to all")),
            hint,
        )),
    }
}

/// Whether udevd works, and whether it has our rules.
pub fn udev(machine: &Machine) -> Vec<Finding> {
    let mut all = Vec::new();
    let daemons: Vec<(String, String)> = machine
        .names("/proc")
        .into_iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| machine.text(&format!("/proc/{pid}/comm")).as_deref() == Some("systemd-udevd"))
        .map(|pid| {
            let stat = machine.text(&format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').next()).unwrap_or("?").to_owned();
            (pid, state)
        })
        .collect();
    let works = "Volumes are made and mounted all the same; links below /dev/disk and /dev/volumed are missing or old";
    all.push(match daemons.iter().find(|(_, state)| state != "T") {
        Some((pid, _)) => Finding::ok("udevd", format!("udevd runs (pid {pid})")),
        None if !daemons.is_empty() => Finding::new(
            "udevd",
            Level::Warning,
            format!("udevd is stopped (pid {}). {works}", daemons.first().map_or("?", |(pid, _)| pid)),
            "kill -CONT it, or systemctl restart systemd-udevd",
        ),
        None => Finding::new(
            "udevd",
            Level::Warning,
            format!("udevd does not run. {works}"),
            "systemctl start systemd-udevd, then udevadm trigger --subsystem-match=block",
        ),
    });
    // A file of a directory that counts more replaces those of the same name.
    let mut seen = Vec::new();
    let (mut good, mut masked) = (Vec::new(), Vec::new());
    for dir in RULES {
        for name in machine.names(dir).into_iter().filter(|name| name.contains("volumed") && name.ends_with(".rules")) {
            let path = machine.at(dir).join(&name);
            if seen.contains(&name) {
                continue;
            }
            // Empty, or a link to /dev/null: switched off (udev(7)).
            let empty = std::fs::read(&path).is_ok_and(|bytes| bytes.is_empty());
            if empty {
                masked.push(format!("{dir}/{name}"))
            } else {
                good.push(name.clone())
            }
            seen.push(name);
        }
    }
    let without = "there are no links /dev/volumed/VG/NAME, and private devices are not hidden from scanning";
    if !masked.is_empty() {
        all.push(Finding::new(
            "udev_rules",
            Level::Warning,
            format!("udev rules of volumed are switched off: {}. Without them {without}", masked.join(", ")),
            format!("rm {}, then udevadm control --reload", masked.join(" ")),
        ));
    } else if good.is_empty() {
        all.push(Finding::new(
            "udev_rules",
            Level::Warning,
            format!("the udev rules of volumed are not installed: {without}"),
            "install the package volumed, then udevadm control --reload",
        ));
    } else {
        all.push(Finding::ok("udev_rules", format!("udev rules: {}", good.join(", "))));
    }
    all
}

/// Whether what is mounted on the host reaches containers that were started before.
pub fn propagation(machine: &Machine) -> Finding {
    let text = machine.text("/proc/1/mountinfo").or_else(|| machine.text("/proc/self/mountinfo")).unwrap_or_default();
    let root = text.lines().rev().find(|line| line.split(' ').nth(4) == Some("/"));
    let shared = root.is_some_and(|line| line.split(" - ").next().is_some_and(|head| head.contains(" shared:")));
    match root {
        Some(_) if shared => {
            Finding::ok("mount_propagation", "the host's root is shared: new mounts reach containers that ask for them")
        }
        Some(_) => Finding::new(
            "mount_propagation",
            Level::Note,
            "the host's root is a private mount: what volumed mounts does not reach containers that were started before",
            "mount --make-rshared / (systemd does it at boot)",
        ),
        None => Finding::new(
            "mount_propagation",
            Level::Note,
            "the host's mount table cannot be read",
            "run volctl doctor as root",
        ),
    }
}
