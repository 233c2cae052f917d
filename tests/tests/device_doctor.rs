//! `volctl doctor` on a real machine: what is wrong is provoked for real, found, and gone when it is put right.

use serde_json::Value;
use std::path::Path;
use vol_tests::{Machine, skip, tool};

/// What `volctl doctor` says: its exit code, and the findings.
fn doctor(m: &Machine) -> (i32, Vec<Value>) {
    let ran = m.run(&["doctor", "-o", "json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap_or_else(|err| panic!("{err}: {ran:?}"));
    (ran.code, json["findings"].as_array().unwrap().clone())
}

/// The levels of one check, and what is said of it.
fn of(findings: &[Value], check: &str) -> (Vec<String>, String) {
    let found: Vec<_> = findings.iter().filter(|one| one["check"] == check).collect();
    let text = found.iter().map(|one| format!("{} {}\n", one["message"], one["hint"])).collect();
    (found.iter().map(|one| one["level"].as_str().unwrap().to_owned()).collect(), text)
}

#[track_caller]
fn level(findings: &[Value], check: &str, expected: &str) -> String {
    let (levels, text) = of(findings, check);
    assert!(!levels.is_empty() && levels.iter().all(|level| level == expected), "{check}: {levels:?} {text}");
    text
}

#[test]
fn what_is_left_over_or_stopped_is_found_with_and_without_the_daemon() {
    if !Path::new("/lab/spec.json").exists() {
        return skip("devices are left behind, and udevd is stopped, in the lab only");
    }
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(1);
    let (v, at) = (m.of("v"), m.path("at"));
    m.ok(&["volume", "create", &v, "--size", "256M"]);
    m.ok(&["volume", "mount", &v, &at]);
    let (_, sound) = doctor(&m);
    for check in [
        "kernel",
        "kernel_device_mapper",
        "kernel_targets",
        "udevd",
        "mount_namespace",
        "programs",
        "devices",
        "status",
    ] {
        level(&sound, check, "ok");
    }

    // A device of ours that no volume group knows, as an image file that is deleted beneath its loop device.
    let stray = "VOLUMED-00000000-0000-4000-8000-00000000dead";
    let dmsetup = |args: &[&str]| tool::run("dmsetup", args);
    dmsetup(&["create", "stray", "--uuid", stray, "--table", "0 8 error"]);
    dmsetup(&["suspend", "stray"]);
    let image = "/var/lib/volumed/left.img";
    std::fs::create_dir_all("/var/lib/volumed").unwrap();
    std::fs::write(image, vec![0; 1 << 20]).unwrap();
    let node = tool::run("losetup", &["--find", "--show", image]).trim().to_owned();
    std::fs::remove_file(image).unwrap();
    std::fs::write("/var/lib/volumed/unused.img", "data").unwrap();
    // A mount above the volume's own.
    tool::run("mount", &["--bind", &at, &at]);
    let (code, found) = doctor(&m);
    assert_eq!(code, 1, "{found:?}");
    assert!(level(&found, "devices_suspended", "problem").contains("dmsetup resume stray"));
    assert!(level(&found, "loop_devices", "warning").contains(&node));
    assert!(level(&found, "files_unused", "note").contains("unused.img"));
    assert!(level(&found, "mounts_twice", "warning").contains(&at));

    // Without the daemon volctl sees most of it by itself.
    m.kill9();
    let (code, alone) = doctor(&m);
    assert_eq!(code, 1);
    level(&alone, "daemon", "problem");
    assert!(level(&alone, "devices_suspended", "problem").contains("stray"));
    level(&alone, "devices", "note");
    level(&alone, "kernel_targets", "ok");
    assert!(Path::new(&at).join("lost+found").exists(), "the volume goes on without the daemon");

    // io_uring forbidden: volctl sees the setting, its program what comes of it.
    let sysctl = "/proc/sys/kernel/io_uring_disabled";
    if Path::new(sysctl).exists() {
        std::fs::write(sysctl, "2").unwrap();
        let (_, alone) = doctor(&m);
        level(&alone, "io_uring_sysctl", "warning");
        assert!(level(&alone, "io_uring", "note").contains("pread/pwrite"));
        m.start_daemon();
        assert!(level(&doctor(&m).1, "io_uring", "note").contains("pread/pwrite"));
        std::fs::write(sysctl, "0").unwrap();
    } else {
        m.start_daemon();
        skip("this kernel has no kernel.io_uring_disabled");
    }

    let udevd: Vec<u32> =
        tool::run("pgrep", &["-x", "systemd-udevd"]).lines().map(|pid| pid.parse().unwrap()).collect();
    udevd.iter().for_each(|pid| assert!(tool::signal(*pid, "STOP")));
    let (_, found) = doctor(&m);
    udevd.iter().for_each(|pid| assert!(tool::signal(*pid, "CONT")));
    level(&found, "udevd", "warning");

    // Put right again.
    tool::run("umount", &[&at]);
    dmsetup(&["resume", "stray"]);
    assert!(tool::remove_dm("stray"));
    tool::run("losetup", &["--detach", &node]);
    tool::settle();
    std::fs::remove_file("/var/lib/volumed/unused.img").unwrap();
    let (_, found) = doctor(&m);
    for check in ["devices", "udevd", "loop_devices"] {
        level(&found, check, "ok");
    }
    for check in ["devices_suspended", "mounts_twice", "files_unused"] {
        assert_eq!(of(&found, check).0.len(), 0, "{check}");
    }
}
