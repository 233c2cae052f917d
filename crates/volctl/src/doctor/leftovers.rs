//! What is left behind: devices where no daemon could say more, loop devices, files of ours.

use std::fs;

use vol_api::{Finding, Level};

use super::Machine;

/// Every dm uuid of volumed begins with this.
const UUID_PREFIX: &str = "VOLUMED-";
const STATE: &str = "/var/lib/volumed";
/// What the daemon writes down in it: none of these holds volumes.
const RECORDS: [&str; 5] = [
    "backing-files",
    "idempotency-keys.jsonl",
    "idempotency-keys.new",
    "mount-references.jsonl",
    "mount-references.new",
];

/// Device-mapper devices of ours, seen without the daemon: which of them a volume group knows nobody can say then.
pub fn devices(machine: &Machine) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut count = 0;
    for device in machine.names("/sys/block").into_iter().filter(|name| name.starts_with("dm-")) {
        let attribute = |name: &str| machine.text(&format!("/sys/block/{device}/dm/{name}")).unwrap_or_default();
        if !attribute("uuid").starts_with(UUID_PREFIX) {
            continue;
        }
        count += 1;
        let (name, suspended) = (attribute("name"), attribute("suspended"));
        if suspended == "1" {
            all.push(Finding::new(
                "devices_suspended",
                Level::Problem,
                format!("the device {name} is suspended: whoever reads or writes it waits"),
                format!("start volumed, which resumes it; or dmsetup resume {name}"),
            ));
        }
    }
    if count > 0 {
        all.push(Finding::new(
            "devices",
            Level::Note,
            format!("{count} device-mapper devices of volumed are in use while it does not run, which is no harm: volumes go on working"),
            "once volumed runs, volctl doctor tells whether any of them belongs to no volume group",
        ));
    } else {
        all.push(Finding::ok("devices", "no device-mapper device of volumed is active"));
    }
    all
}

/// Loop devices whose file is gone.
pub fn loops(machine: &Machine) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut own = 0;
    for name in machine.names("/sys/block").into_iter().filter(|name| name.starts_with("loop")) {
        let Some(file) = machine.text(&format!("/sys/block/{name}/loop/backing_file")) else { continue };
        own += u32::from(file.starts_with(STATE));
        if let Some(gone) = file.strip_suffix(" (deleted)") {
            let ours = gone.starts_with(STATE);
            let held = !machine.names(&format!("/sys/block/{name}/holders")).is_empty();
            if ours || held {
                all.push(Finding::new(
                    "loop_devices",
                    if held { Level::Problem } else { Level::Warning },
                    format!(
                        "the file of /dev/{name}, {gone}, was deleted; its space is held until the loop device goes{}",
                        if held { ", and a volume group stands on it: it is lost with the next boot" } else { "" }
                    ),
                    if held {
                        format!(
                            "copy the volumes elsewhere now; or save it all: cp --sparse=always /dev/{name} NEWFILE"
                        )
                    } else {
                        format!("losetup --detach /dev/{name}")
                    },
                ));
            }
        }
    }
    if all.is_empty() {
        all.push(Finding::ok(
            "loop_devices",
            format!("{own} loop devices on files below {STATE}, none on a deleted file"),
        ));
    }
    all
}

/// Files below the state directory.
pub fn files(machine: &Machine) -> Vec<Finding> {
    match fs::read_dir(machine.at(STATE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::ok("files", format!("{STATE} does not exist yet"))];
        }
        Err(error) => {
            return vec![Finding::new("files", Level::Note, format!("{STATE}: {error}"), "run volctl doctor as root")];
        }
        Ok(_) => {}
    }
    let list = machine.text(&format!("{STATE}/backing-files")).unwrap_or_default();
    let listed: Vec<&str> = list.lines().filter(|line| line.starts_with('/')).collect();
    let mut all = Vec::new();
    for file in listed.iter().filter(|file| !machine.at(file).exists()) {
        all.push(Finding::new(
            "files_missing",
            Level::Problem,
            format!("the backing file {file} is not there: the physical volume in it is missing"),
            "bring it back, then volctl pv scan; or take the physical volume out: volctl vg reduce VG --missing",
        ));
    }
    for name in machine.names(STATE) {
        let path = format!("{STATE}/{name}");
        let is_file = fs::symlink_metadata(machine.at(&path)).is_ok_and(|found| found.is_file());
        if is_file && !RECORDS.contains(&name.as_str()) && !name.starts_with('.') && !listed.contains(&path.as_str()) {
            all.push(Finding::new(
                "files_unused",
                Level::Note,
                format!("{path} is attached to no volume group; it may hold volumes"),
                format!("volctl debug dump {path} tells what it is; volctl pv scan --file {path} attaches it; delete it only if you \
                         know that nothing in it is needed"),
            ));
        }
    }
    if all.is_empty() {
        all.push(Finding::ok("files", format!("{STATE}: {} backing files, all there", listed.len())));
    }
    all
}
