//! The unit and the control socket.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use vol_api::{Finding, Level};

use super::Machine;

const UNITS: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Whether the service is installed and starts with the host.
pub fn unit(machine: &Machine) -> Vec<Finding> {
    if !machine.at("/run/systemd/system").is_dir() {
        return vec![Finding::ok("unit", "systemd does not run here: volumed has to be started by something else")];
    }
    let Some(dir) = UNITS.into_iter().find(|dir| machine.at(dir).join("volumed.service").exists()) else {
        return vec![Finding::new(
            "unit",
            Level::Warning,
            "volumed.service is not installed: volumed does not start with the host",
            "install the package volumed",
        )];
    };
    let enabled = UNITS.into_iter().any(|dir| {
        machine
            .names(dir)
            .into_iter()
            .filter(|name| name.ends_with(".wants"))
            .any(|wants| fs::symlink_metadata(machine.at(dir).join(wants).join("volumed.service")).is_ok())
    });
    vec![if enabled {
        Finding::ok("unit", format!("{dir}/volumed.service is enabled"))
    } else {
        Finding::new(
            "unit",
            Level::Warning,
            "volumed.service is not enabled: volumed does not start with the host",
            "systemctl enable volumed",
        )
    }]
}

/// The control socket as a file; whether somebody answers is the daemon's finding.
pub fn socket(machine: &Machine, path: &Path) -> Vec<Finding> {
    let shown = path.display();
    let found = match fs::symlink_metadata(machine.at(&path.to_string_lossy())) {
        // That nobody answers is said elsewhere.
        Err(_) => return Vec::new(),
        Ok(found) => found,
    };
    if !found.file_type().is_socket() {
        return vec![Finding::new(
            "socket",
            Level::Problem,
            format!("{shown} is no socket: volumed cannot listen there"),
            "move it away, then systemctl restart volumed",
        )];
    }
    let mode = found.mode() & 0o7777;
    let group = group_name(machine, found.gid());
    vec![match mode {
        0o600 => Finding::new(
            "socket",
            Level::Note,
            format!("{shown} is for root alone: no group of the configuration exists on this host"),
            "groupadd --system volumed, then systemctl reload volumed, if others are to use it",
        ),
        0o660 => Finding::ok("socket", format!("{shown} is for root and the group {group}")),
        0o666 => Finding::ok("socket", format!("{shown} can be opened by all; the daemon asks the kernel who it is")),
        _ => Finding::new(
            "socket",
            Level::Warning,
            format!("{shown} has the mode {mode:04o} and the group {group}; volumed sets 0600, 0660 or 0666"),
            "systemctl restart volumed sets it again; see who changes it",
        ),
    }]
}

/// The name of a group by `/etc/group`, or its number.
fn group_name(machine: &Machine, gid: u32) -> String {
    let text = machine.text("/etc/group").unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| gid.to_string())
}
