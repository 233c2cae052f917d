//! udevd that hangs, and udevd that looks at everything again: neither may matter.

use std::path::Path;
use std::time::{Duration, Instant};
use vol_tests::{Machine, kernel, skip, tool};

/// All processes of udevd, stopped; they go on when this goes.
struct Stopped(Vec<u32>);

impl Stopped {
    fn stop() -> Stopped {
        let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let numbers = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let all: Vec<u32> = pids.filter(|pid| matches!(name(*pid).trim(), "systemd-udevd" | "(udev-worker)")).collect();
        all.iter().for_each(|pid| _ = tool::signal(*pid, "STOP"));
        Stopped(all)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| _ = tool::signal(*pid, "CONT"));
    }
}

#[test]
fn without_udevd_everything_still_works_soon() {
    if !Path::new("/lab/spec.json").exists() {
        return skip("udevd is stopped in the lab only");
    }
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
    let stopped = Stopped::stop();
    if stopped.0.is_empty() {
        return skip("udevd does not run");
    }
    let (v, at, old) = (m.of("v"), m.path("at"), m.path("old"));
    let job: [&[&str]; 10] = [
        &["pool", "create", &m.of("more"), "--size", "256M"],
        &["volume", "create", &v, "--pool", "tank", "--size", "1G"],
        &["volume", "mount", &v, &at],
        &["snapshot", "create", &m.of("v@s")],
        &["snapshot", "mount", &m.of("v@s"), &old],
        &["snapshot", "unmount", &m.of("v@s")],
        &["volume", "unmount", &v],
        &["volume", "delete", &v, "--yes"],
        &["snapshot", "delete", &m.of("v@s"), "--yes"],
        &["pool", "delete", &m.of("more"), "--yes"],
    ];
    for step in job {
        let begin = Instant::now();
        m.ok(step);
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(5), "volctl {step:?} took {took:?} without udevd{}", m.log());
    }
    drop(stopped);
    tool::settle();
    assert_eq!(kernel::our_uuids().len(), 3, "once udevd goes on, something is different");
    assert_eq!(m.json(&["status"])["health"], "ok");
}

#[test]
fn udev_looking_at_everything_again_loses_nothing() {
    let Some(m) = Machine::start() else { return };
    if !tool::has("udevadm") {
        return skip("udevadm is not there");
    }
    m.with_pool(2);
    let (v, at) = (m.of("v"), m.path("at"));
    m.ok(&["volume", "create", &v, "--size", "1G"]);
    m.ok(&["volume", "mount", &v, &at]);
    let file = Path::new(&at).join("file");
    std::fs::write(&file, "kept").unwrap();
    let before = kernel::snapshot();
    for action in ["add", "change"] {
        tool::run("udevadm", &["trigger", &format!("--action={action}"), "--subsystem-match=block"]);
        m.ok(&["snapshot", "create", &m.of(&format!("v@{action}"))]);
        tool::settle();
        assert_eq!(before, kernel::snapshot(), "`udevadm trigger --action={action}` changed a device{}", m.log());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
        assert!(kernel::mounted(&at).is_some());
    }
    let number = kernel::mounted(&at).unwrap().number;
    let name = tool::run(
        "dmsetup",
        &[
            "info",
            "--columns",
            "--noheadings",
            "--options",
            "name",
            "--major",
            number.split(':').next().unwrap(),
            "--minor",
            number.split(':').nth(1).unwrap(),
        ],
    );
    assert!(Path::new("/dev/mapper").join(name.trim()).exists(), "the volume's link in /dev/mapper is gone");
    m.ok(&["volume", "unmount", &v]);
    m.ok(&["volume", "delete", &v, "--yes"]);
}
