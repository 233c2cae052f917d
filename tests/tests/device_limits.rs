//! What a machine may run out of or forbid: descriptors, space for run-time and state files, io_uring.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use vol_tests::{Machine, kernel, skip, tool};

/// The main job, small: it must work whatever is short.
fn main_job(m: &Machine, round: &str) {
    let (v, at) = (m.of(&format!("v{round}")), m.path("at"));
    m.ok(&["volume", "create", &v, "--size", "64M"]);
    m.ok(&["volume", "mount", &v, &at]);
    fs::write(format!("{at}/file"), round).unwrap();
    m.ok(&["snapshot", "create", &format!("{v}@s")]);
    m.ok(&["volume", "unmount", &v]);
    m.ok(&["snapshot", "delete", &format!("{v}@s"), "--yes"]);
    m.ok(&["volume", "delete", &v, "--yes"]);
}

#[test]
fn f27_with_too_few_descriptors_the_daemon_says_so_and_with_enough_it_works_whatever_clients_do() {
    let Some(mut m) = Machine::start() else { return };
    if !tool::has("prlimit") {
        return skip("prlimit is not there");
    }
    m.with_pool(2);
    m.stop_daemon();
    for limit in [16, 32, 48, 64, 100, 159] {
        let ran = m.daemon_that_ends("prlimit", &[&format!("--nofile={limit}")]);
        assert_ne!(ran.code, 0, "{ran:?}");
        let said = ran.out + &ran.err;
        let named = said.contains("RLIMIT_NOFILE") && said.contains(&limit.to_string());
        // With so few not even the program itself is loaded.
        let too_few_to_say = limit <= 32 && said.contains("Too many open files");
        assert!(named || too_few_to_say, "with {limit}: {said}");
    }
    for limit in [160, 200, 256, 512, 1024] {
        m.start_daemon_under("prlimit", &[&format!("--nofile={limit}")]);
        main_job(&m, "few");
        let open = || fs::read_dir(format!("/proc/{}/fd", m.pid())).unwrap().count();
        let idle = open();
        // Clients that take all they can get, and give nothing back. (This process may not have more itself.)
        let held: Vec<_> =
            (0..700.min(limit + 64)).filter_map(|_| UnixStream::connect(m.path("run/control.sock")).ok()).collect();
        let begin = Instant::now();
        let mut most = open();
        while most <= idle && begin.elapsed() < Duration::from_secs(60) {
            most = open();
        }
        assert!(most > idle, "with {limit}: it takes nobody in");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            most = most.max(open());
        }
        assert!(most + 32 <= limit, "with {limit}: {most} are in use, and the reserve is gone");
        drop(held);
        // They are closed when the daemon gets to it.
        let begin = Instant::now();
        while m.run(&["status"]).code != 0 {
            assert!(begin.elapsed() < Duration::from_secs(60), "with {limit} it does not recover{}", m.log());
        }
        main_job(&m, "again");
        m.stop_daemon();
    }
    // In service it may be taken away, by whoever may do that.
    m.start_daemon();
    let v = m.of("v");
    m.ok(&["volume", "create", &v, "--size", "64M"]);
    let before = kernel::snapshot();
    let pid = m.pid().to_string();
    // At rest: a client that has gone, or what it reads now and then, takes one for a moment.
    let open = |_| {
        std::thread::sleep(Duration::from_millis(50));
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    };
    let in_use = (0..20).map(open).min().unwrap();
    tool::run("prlimit", &["--pid", &pid, &format!("--nofile={}", in_use + 1)]);
    let ran = m.run(&["volume", "mount", &v, &m.path("at")]);
    assert_ne!(ran.code, 0, "{ran:?}");
    tool::run("prlimit", &["--pid", &pid, "--nofile=4096"]);
    let begin = Instant::now();
    while m.run(&["status"]).code != 0 {
        assert!(begin.elapsed() < Duration::from_secs(120), "it does not recover: {:?}{}", m.run(&["status"]), m.log());
    }
    assert_eq!(kernel::not_live(), Vec::<String>::new());
    assert_eq!(before, kernel::snapshot(), "a change that failed left something{}", m.log());
    // That files could not be opened was not taken for disks that are gone.
    let log = fs::read_to_string(m.path("log")).unwrap();
    assert!(!log.contains("pv-missing"), "{log}");
    m.ok(&["volume", "mount", &v, &m.path("at")]);
    m.ok(&["volume", "unmount", &v]);
}

/// A small file system in memory; it goes with it.
struct Tmpfs(String);

impl Tmpfs {
    fn at(path: String, options: &str) -> Tmpfs {
        fs::create_dir_all(&path).unwrap();
        tool::run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &path]);
        Tmpfs(path)
    }

    fn fill(&self) {
        let file = format!("{}/filler", self.0);
        tool::try_run("dd", &["if=/dev/zero", &format!("of={file}"), "bs=4k", "status=none"]);
        assert!(fs::write(format!("{}/more", self.0), [1; 8192]).is_err(), "there is room in it");
        _ = fs::remove_file(format!("{}/more", self.0));
    }

    fn empty(&self) {
        fs::remove_file(format!("{}/filler", self.0)).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        tool::try_run("umount", &["--lazy", &self.0]);
    }
}

#[test]
fn f29_with_its_directories_full_the_daemon_starts_and_serves_and_nothing_is_lost() {
    let Some(mut m) = Machine::start() else { return };
    m.stop_daemon();
    let run = Tmpfs::at(m.path("run"), "size=64k");
    let state = Tmpfs::at(m.path("state"), "size=64k,huge=never");
    let files = Tmpfs::at(m.path("files"), "size=512m");
    m.start_daemon();
    let file = format!("{}/pv.img", files.0);
    m.ok(&["vg", "create", &m.vg, m.disk(0), "--file", &format!("{file}:400M")]);
    m.ok(&["pool", "create", &m.of("tank"), "--size", "50%FREE"]);
    m.ok(&["volume", "create", &m.of("kept"), "--size", "64M"]);
    run.fill();
    state.fill();
    main_job(&m, "full");
    m.restart();
    main_job(&m, "after");
    // What needs room there says so, and leaves nothing half done.
    let other = format!("{}o", m.vg);
    let second = format!("{}/other.img", files.0);
    let ran = m.run(&["vg", "create", &other, "--file", &format!("{second}:300M")]);
    println!("a file PV with the state directory full: {ran:?}");
    if ran.code == 0 {
        m.ok(&["vg", "delete", &other, "--yes"]);
    } else {
        assert!(ran.err.contains("backing-files") && ran.err.contains("No space left"), "{ran:?}");
        assert!(!Path::new(&second).exists(), "a file was left");
    }
    m.kill9();
    m.start_daemon();
    assert_eq!(m.json(&["status"])["health"], "ok", "the list of backing files was lost{}", m.log());
    assert_eq!(m.json(&["volume", "show", &m.of("kept")])["state"], "ready");
    state.empty();
    run.empty();
    m.ok(&["vg", "create", &other, "--file", &format!("{second}:300M")]);
    m.ok(&["vg", "delete", &other, "--yes"]);
    // Not one file more can be made: it says where.
    m.stop_daemon();
    drop(run);
    let run = Tmpfs::at(m.path("run"), "size=64k,nr_inodes=1");
    let ran = m.daemon_that_ends("env", &[]);
    let said = ran.out + &ran.err;
    assert!(ran.code != 0 && said.contains(&run.0) && said.contains("No space left"), "{said}");
    drop(run);
    m.start_daemon();
    for line in [["volume", "delete", &m.of("kept")], ["pool", "delete", &m.of("tank")], ["vg", "delete", &m.vg]] {
        m.ok(&[&line[..], &["--yes"]].concat());
    }
    m.stop_daemon();
}

/// The kernel's word on who may use io_uring; as it was when this goes.
struct NoUring(String);

impl NoUring {
    const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";

    fn now() -> Option<NoUring> {
        let before = fs::read_to_string(Self::SWITCH).ok()?;
        fs::write(Self::SWITCH, "2").ok()?;
        Some(NoUring(before))
    }
}

impl Drop for NoUring {
    fn drop(&mut self) {
        _ = fs::write(Self::SWITCH, &self.0);
    }
}

#[test]
fn f36_with_io_uring_forbidden_the_main_job_works_and_status_says_so() {
    if !Path::new("/lab/spec.json").exists() {
        return skip("io_uring is forbidden in the lab only");
    }
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(3);
    let before = m.json(&["status"]);
    let Some(none) = NoUring::now() else { return skip("this kernel has no switch for io_uring") };
    // Who has it already keeps it.
    main_job(&m, "had");
    m.kill9();
    m.start_daemon();
    let status = m.json(&["status"]);
    let text = m.ok(&["status"]);
    assert!(text.contains("pread/pwrite") && text.contains("io_uring is refused"), "{text}");
    assert_eq!((&status["health"], &status["problems"]), (&before["health"], &before["problems"]), "it is no problem");
    main_job(&m, "without");
    m.ok(&["volume", "create", &m.of("thick"), "--size", "32M", "--thick"]);
    m.ok(&["volume", "delete", &m.of("thick"), "--yes"]);
    m.restart();
    main_job(&m, "again");
    drop(none);
    m.restart();
    assert!(!m.ok(&["status"]).contains("io_uring is refused"));
    main_job(&m, "with");
}
