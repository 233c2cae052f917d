//! What a volume group is made of, changed on real disks: extend, reduce, rename, export, import, backup, restore, copies, wipe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use vol_tests::{Machine, disk, kernel, tool};

/// Zeroes mark, labels and metadata of a disk; its extents stay.
fn lose_metadata(path: &str) {
    let zone = (disk::size(path) / 256).clamp(4 << 20, 256 << 20) / (1 << 20) * (1 << 20);
    let head = (2 << 20) + zone;
    disk::write(path, &[(0, vec![0; head as usize]), (disk::size(path) - (1 << 20), vec![0; 1 << 20])]);
    disk::reread(path);
    tool::settle();
}

fn pv_id(m: &Machine, path: &str) -> String {
    m.json(&["pv", "show", path])["id"].as_str().unwrap().to_owned()
}

/// Copies a whole disk, block by block.
fn copy(from: &str, to: &str) {
    tool::run("dd", &[&format!("if={from}"), &format!("of={to}"), "bs=4M", "conv=sparse,fsync", "status=none"]);
    disk::reread(to);
    tool::settle();
}

#[test]
fn a_group_is_extended_reduced_and_renamed_while_a_volume_is_mounted() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    let at = m.path("at");
    m.ok(&["volume", "create", &m.of("v"), "--size", "256M"]);
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    fs::write(format!("{at}/kept"), "yes").unwrap();
    let before = kernel::snapshot();

    let plan = m.ok(&["vg", "extend", &m.vg, m.disk(2), "--dry-run"]);
    assert!(plan.contains("write a copy of the metadata") && plan.contains("mark the disk"), "{plan}");
    let said = m.ok(&["vg", "extend", &m.vg, m.disk(2)]);
    assert!(said.contains("extended: ") && said.contains("on 3 physical volumes"), "{said}");
    assert_eq!(m.json(&["pv", "show", m.disk(2)])["metadata_copy"], true);
    tool::settle();
    assert!(tool::run("blkid", &["-p", m.disk(2)]).contains("gpt"), "the disk is not marked as taken");
    m.refused(1, &[m.disk(2), "belongs to"], &["vg", "extend", &m.vg, m.disk(2)]);
    m.refused(4, &["holds extents of", &m.of("tank")], &["vg", "reduce", &m.vg, m.disk(0)]);
    m.refused(4, &["is a PV of volume group", "vg reduce"], &["pv", "wipe", m.disk(0), "--yes"]);

    // The name is in labels, not in the kernel.
    let (old, new) = (m.vg.clone(), format!("{}r", m.vg));
    m.ok(&["vg", "rename", &old, &new]);
    m.refused(3, &[&old], &["vg", "show", &old]);
    assert_eq!(before, kernel::snapshot(), "a rename changed a device");
    m.restart();
    assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
    m.ok(&["vg", "rename", &new, &old]);

    let said = m.ok(&["vg", "reduce", &m.vg, m.disk(2)]);
    assert!(said.contains("reduced: ") && said.contains("on 2 physical volumes"), "{said}");
    tool::settle();
    assert!(!tool::try_run("blkid", &["-p", m.disk(2)]), "a disk that was taken out still carries something");
    m.refused(3, &["carries nothing of volumed"], &["pv", "wipe", m.disk(2), "--yes"]);
    assert_eq!(before, kernel::snapshot(), "a running volume was touched");

    // Exporting is for what nobody uses.
    m.refused(4, &[&m.of("v"), "mounted at", &at], &["vg", "export", &m.vg]);
    m.ok(&["volume", "unmount", &m.of("v")]);
    m.ok(&["vg", "export", &m.vg]);
    assert!(m.ok(&["vg", "list"]).contains("exported"));
    assert_eq!(m.json(&["vg", "show", &m.vg])["state"], "exported");
    let status = m.run(&["status"]);
    assert_eq!(status.code, 0, "an exported group is no problem: {status:?}");
    m.restart();
    assert!(kernel::snapshot().trim().is_empty(), "something of an exported group is active: {:?}", kernel::snapshot());
    m.refused(4, &["is exported", "vg import"], &["volume", "create", &m.of("w"), "--size", "64M"]);
    m.refused(1, &["is exported", "--force"], &["pv", "wipe", m.disk(0), "--yes"]);
    m.ok(&["vg", "import", &m.vg]);
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
}

#[test]
fn a_group_whose_metadata_was_lost_is_restored_from_its_backup_with_its_data() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    let at = m.path("at");
    m.ok(&["volume", "create", &m.of("v"), "--size", "256M"]);
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    fs::write(format!("{at}/kept"), "yes").unwrap();
    m.ok(&["volume", "unmount", &m.of("v")]);
    let file = m.path("backup.json");
    let said = m.ok(&["vg", "backup", &m.vg, "--file", &file]);
    assert!(said.contains(&file) && said.contains("2 physical volumes, 1 volume"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(m.json(&["vg", "backup", &m.vg, "--file", "-"])["content"]["vg"]["name"], m.vg.as_str());
    assert!(m.ok(&["vg", "restore", &file, "--dry-run"]).contains("Nothing has to be done"));
    assert!(m.ok(&["vg", "restore", &file, "--yes"]).contains("is as in the backup already"));
    m.ok(&["volume", "create", &m.of("w"), "--size", "64M"]);
    m.refused(1, &["is open and whole"], &["vg", "restore", &file, "--yes", "--older"]);
    m.ok(&["vg", "backup", &m.vg, "--file", &file]);

    let pvs = [0, 1].map(|n| pv_id(&m, m.disk(n)));
    m.ok(&["vg", "export", &m.vg]);
    m.stop_daemon();
    for n in [0, 1] {
        lose_metadata(m.disk(n));
    }
    m.start_daemon();
    assert_eq!(m.json(&["vg", "list"])["vgs"], serde_json::json!([]));
    m.refused(3, &["no disk is known for PV", &pvs[0]], &["vg", "restore", &file, "--yes"]);
    let damaged = m.path("damaged.json");
    fs::write(&damaged, fs::read_to_string(&file).unwrap().replace("\"thin_id\": 1", "\"thin_id\": 2")).unwrap();
    m.refused(2, &["checksum does not match"], &["vg", "restore", &damaged, "--yes"]);

    let disks = [0, 1].map(|n| format!("{}={}", pvs[n], m.disk(n)));
    let args = ["vg", "restore", &file, "--disk", &disks[0], "--disk", &disks[1]];
    let plan = m.ok(&[&args[..], &["--dry-run"]].concat());
    assert!(plan.contains("restore volume group") && plan.contains("first checkpoint"), "{plan}");
    let ran = m.run(&args);
    assert_eq!(ran.code, 9, "nobody was there to be asked: {ran:?}");
    let said = m.ok(&[&args[..], &["--yes"]].concat());
    assert!(said.contains("restored."), "{said}");
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
    m.restart();
    assert_eq!(m.json(&["vg", "show", &m.vg])["health"], "ok");
    assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
}

#[test]
fn copies_of_disks_are_told_of_and_become_a_group_beside_the_original() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
    let at = m.path("at");
    m.ok(&["volume", "create", &m.of("v"), "--size", "256M", "--fs", "xfs"]
        .map(|arg| if arg == "256M" { "320M" } else { arg }));
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    fs::write(format!("{at}/kept"), "yes").unwrap();
    m.ok(&["volume", "unmount", &m.of("v")]);
    copy(m.disk(0), m.disk(1));
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    let before = kernel::snapshot();
    m.ok(&["pv", "scan"]);
    let status = m.run(&["status"]);
    assert!(status.code == 10 && status.out.contains("pv_twice") && status.out.contains("import-clone"), "{status:?}");
    assert_eq!(before, kernel::snapshot());
    m.refused(4, &["it is the original"], &["vg", "import-clone", m.disk(0), "--name", "copy", "--yes"]);
    let copy = format!("{}c", m.vg);
    let said = m.ok(&["vg", "import-clone", m.disk(1), "--name", &copy, "--yes"]);
    assert!(said.contains("made of the copies"), "{said}");
    // Both XFS have one UUID, and both are mounted.
    let beside = m.path("beside");
    m.ok(&["volume", "mount", &format!("{copy}/v"), &beside]);
    assert_eq!(fs::read_to_string(format!("{beside}/kept")).unwrap(), "yes");
    fs::write(format!("{beside}/kept"), "no").unwrap();
    assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes", "the copy is the original");
    assert_eq!(m.run(&["status"]).code, 0);
    m.ok(&["volume", "unmount", &format!("{copy}/v")]);
    m.ok(&["volume", "unmount", &m.of("v")]);
}

#[test]
fn a_disk_that_was_taken_out_while_it_was_away_is_unknown_until_it_is_wiped() {
    let Some(mut m) = Machine::start() else { return };
    m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1), m.disk(2)]);
    m.stop_daemon();
    // Away: its area cannot be read as one of ours until it is put back.
    let area = disk::take(m.disk(2), 0, 32 << 20);
    lose_metadata(m.disk(2));
    m.start_daemon();
    m.refused(1, &["is missing"], &["vg", "reduce", &m.vg, &missing(&m)]);
    m.ok(&["vg", "reduce", &m.vg, "--missing"]);
    m.stop_daemon();
    disk::write(m.disk(2), &[(0, area)]);
    disk::reread(m.disk(2));
    m.start_daemon();
    let list = m.ok(&["pv", "list"]);
    assert!(list.contains("unknown"), "{list}");
    let status = m.run(&["status"]);
    assert!(status.code == 10 && status.out.contains("pv_unknown") && status.out.contains("pv wipe"), "{status:?}");
    m.refused(1, &["belongs to", "pv wipe"], &["vg", "extend", &m.vg, m.disk(2)]);
    let said = m.ok(&["pv", "wipe", m.disk(2), "--yes"]);
    assert!(said.contains("wiped (it was PV"), "{said}");
    assert_eq!(m.run(&["status"]).code, 0);
    m.ok(&["vg", "extend", &m.vg, m.disk(2)]);
}

/// The id of the PV that is not there.
fn missing(m: &Machine) -> String {
    let pvs = m.json(&["pv", "list"]);
    let lost = pvs["pvs"].as_array().unwrap().iter().find(|pv| pv["present"] == false).expect("a missing PV").clone();
    lost["id"].as_str().unwrap().to_owned()
}
