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
fn f14_without_udevd_everything_still_works_soon() {
    if !Path::new("/lab/spec.json").exists() {
        return skip("udevd is stopped in the lab only");
    }
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
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
    let time = |step: &&[&str]| {
        let begin = Instant::now();
        m.ok(step);
        begin.elapsed()
    };
    // How long it takes here if nobody is in the way.
    let with = job.each_ref().map(time);
    let stopped = Stopped::stop();
    if stopped.0.is_empty() {
        return skip("udevd does not run");
    }
    for (step, with) in job.iter().zip(with) {
        let (took, soon) = (time(step), Duration::from_secs(60) + 5 * with);
        assert!(took < soon, "volctl {step:?} took {took:?} without udevd, {with:?} with it{}", m.log());
    }
    drop(stopped);
    tool::settle();
    assert_eq!(kernel::our_uuids().len(), 3, "once udevd goes on, something is different");
    assert_eq!(m.json(&["status"])["health"], "ok");
}

#[test]
fn f14_udev_looking_at_everything_again_loses_nothing() {
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

/// The limits of the machine's semaphores, which LVM2 and dmsetup wait for udev with; as they were when this goes.
struct NoSemaphores(String);

impl NoSemaphores {
    const LIMITS: &str = "/proc/sys/kernel/sem";

    fn left() -> Option<NoSemaphores> {
        let limits = std::fs::read_to_string(Self::LIMITS).ok()?;
        // No more sets of them: as when others have lost their cookies.
        std::fs::write(Self::LIMITS, "250 32000 32 0").ok()?;
        Some(NoSemaphores(limits))
    }
}

impl Drop for NoSemaphores {
    fn drop(&mut self) {
        _ = std::fs::write(Self::LIMITS, &self.0);
    }
}

#[test]
fn f14_when_no_udev_cookie_can_be_had_everything_works_and_nothing_stays_suspended() {
    if !Path::new("/lab/spec.json").exists() {
        return skip("the machine's semaphores are taken away in the lab only");
    }
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
    let Some(none) = NoSemaphores::left() else { return skip("the limits of semaphores cannot be set") };
    let witness = tool::attempt("dmsetup", &["udevcreatecookie"]).unwrap();
    assert!(!witness.status.success(), "dmsetup found a semaphore: {witness:?}");
    let (v, at) = (m.of("v"), m.path("at"));
    m.ok(&["volume", "create", &v, "--size", "64M"]);
    m.ok(&["volume", "mount", &v, &at]);
    m.ok(&["snapshot", "create", &m.of("v@s")]);
    m.ok(&["volume", "clone", &m.of("v@s"), &m.of("c")]);
    m.ok(&["volume", "resize", &v, "128M"]);
    assert_eq!(kernel::not_live(), Vec::<String>::new());
    m.ok(&["volume", "unmount", &v]);
    for name in ["v", "c"] {
        m.ok(&["volume", "delete", &m.of(name), "--yes"]);
    }
    m.ok(&["snapshot", "delete", &m.of("v@s"), "--yes"]);
    drop(none);
    assert_eq!(kernel::our_uuids().len(), 3);
}

#[test]
fn f14_udevd_killed_while_devices_come_and_go_costs_nothing() {
    if !Path::new("/lab/spec.json").exists() {
        return skip("udevd is killed in the lab only");
    }
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
    // Stopped with its queue full, and then killed: what it was told of is lost.
    let stopped = Stopped::stop();
    if stopped.0.is_empty() {
        return skip("udevd does not run");
    }
    let (v, at) = (m.of("v"), m.path("at"));
    m.ok(&["volume", "create", &v, "--size", "64M"]);
    m.ok(&["volume", "mount", &v, &at]);
    stopped.0.iter().for_each(|pid| _ = tool::signal(*pid, "KILL"));
    drop(stopped);
    std::fs::write(Path::new(&at).join("file"), "kept").unwrap();
    m.ok(&["snapshot", "create", &m.of("v@s")]);
    m.ok(&["volume", "unmount", &v]);
    m.ok(&["volume", "mount", &v, &at]);
    assert_eq!(std::fs::read_to_string(Path::new(&at).join("file")).unwrap(), "kept");
    // The lab's other tests want one.
    assert!(
        ["/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd"]
            .iter()
            .any(|udevd| tool::try_run(udevd, &["--daemon"]))
    );
    tool::settle();
    m.ok(&["volume", "unmount", &v]);
    assert_eq!(kernel::our_uuids().len(), 3);
}
