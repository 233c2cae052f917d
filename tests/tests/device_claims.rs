//! Whose a disk or a file is: what was given away, moved, or is in another daemon's hands is not written to.

use std::path::Path;
use std::process::Command;

use vol_tests::{Machine, kernel, tool};

#[test]
fn a_second_daemon_is_refused_whatever_its_directories() {
    let Some(m) = Machine::start() else { return };
    let dir = m.path("second");
    std::fs::create_dir(&dir).unwrap();
    let config = format!("{dir}/volumed.toml");
    std::fs::write(&config, format!("run_dir = {dir:?}\nstate_dir = {dir:?}\nmetrics_listen = \"off\"\n")).unwrap();
    let bin = std::env::var("VOLUMED_TEST_BIN_DIR").unwrap();
    let second = Command::new(Path::new(&bin).join("volumed")).args(["--config", &config]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success(), "a second daemon ran: {said}");
    assert!(said.contains("only one volumed") && said.contains(&m.pid().to_string()), "{said}");
    m.ok(&["vg", "create", &m.vg, m.disk(0)]);
}

#[test]
fn a_disk_that_was_given_away_is_not_used_although_its_label_is_still_there() {
    let Some(mut m) = Machine::start() else { return };
    m.ok(&["vg", "create", &m.vg, m.disk(0)]);
    m.stop_daemon();
    // As LUKS lays itself out: the signatures are wiped, and the data begin behind our labels.
    let disk = m.disk(0).to_owned();
    tool::run("wipefs", &["--all", "--quiet", &disk]);
    let sectors = vol_tests::disk::size(&disk) / 512 - 32768;
    let table = format!("0 {sectors} linear {disk} 32768");
    tool::run("dmsetup", &["create", "vt-foreign", "--table", &table]);
    tool::run("mkfs.ext4", &["-q", "/dev/mapper/vt-foreign"]);
    let at = m.path("foreign");
    std::fs::create_dir(&at).unwrap();
    tool::run("mount", &["/dev/mapper/vt-foreign", &at]);
    let before = vol_tests::disk::Bytes::of(&disk);
    m.start_daemon();
    let status = m.run(&["status"]);
    let listed = m.json(&["vg", "list"]);
    let made = m.run(&["pool", "create", &m.of("tank"), "--size", "80%FREE"]);
    let difference = before.difference(&vol_tests::disk::Bytes::of(&disk));
    tool::run("umount", &[&at]);
    assert!(tool::remove_dm("vt-foreign"));
    assert_eq!(difference, None, "something was written to a disk of somebody else");
    assert_ne!(made.code, 0, "a pool was made on a disk of somebody else");
    assert_eq!(listed["vgs"].as_array().unwrap().len(), 0, "{listed}");
    assert_eq!(status.code, 10, "{}", status.out);
}

#[test]
fn a_backing_file_that_was_moved_costs_no_other_file_its_life() {
    let Some(m) = Machine::start() else { return };
    let (first, moved) = (m.path("a.img"), m.path("b.img"));
    m.ok(&["vg", "create", &m.vg, "--file", &format!("{first}:256M")]);
    std::fs::rename(&first, &moved).unwrap();
    std::fs::write(&first, "somebody else's").unwrap();
    m.ok(&["vg", "delete", &m.vg, "--yes"]);
    assert_eq!(std::fs::read_to_string(&first).unwrap(), "somebody else's");
    assert!(Path::new(&moved).exists(), "a file that was moved is left where it is");
    assert!(kernel::our_uuids().is_empty());
    // It goes with the last who has it open (`loop(4)`), which may be udev.
    tool::settle();
    let loops = tool::run("losetup", &["--list", "--noheadings", "--raw", "--output", "BACK-FILE"]);
    assert!(!loops.contains(&moved), "still attached: {loops}");
}
