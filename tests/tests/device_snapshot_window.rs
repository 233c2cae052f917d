//! The one window in which a volume is suspended: the daemon dies there again and again, and is starved of memory, and nothing is
//! left suspended.

use serde_json::json;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vol_tests::{Machine, kernel, skip, tool, wire};

/// How often the daemon is killed while its origin is suspended; with VOLUMED_TEST_EVERY_POINT, all that the catalogue asks for.
const KILLS: u32 = 60;
const KILLS_ALL: u32 = 1000;
/// No device may be suspended for longer than this after the daemon's death: many times what the guard needs (0.14 s at most in a
/// thousand deaths), for a machine that is slow and busy, or stands still; without the guard it would be until the next start, which waits
/// for this.
const RESUMED: Duration = Duration::from_secs(60);
/// So many snapshots for one that is met in its window, at most: who looks for it is not always there in time.
const ROUNDS_FOR_ONE: u32 = 15;

/// sysfs' word on whether a dm device is suspended, without a process to ask for it.
struct Suspended(PathBuf);

impl Suspended {
    /// Of the device with this number.
    fn of(number: &str) -> Suspended {
        Suspended(format!("/sys/dev/block/{number}/dm/suspended").into())
    }

    fn now(&self) -> bool {
        fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == "1")
    }
}

#[test]
fn f2_f28_killed_in_the_snapshot_window_again_and_again_nothing_stays_suspended() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    let at = m.path("at");
    m.ok(&["volume", "create", &m.of("v"), "--size", "1G"]);
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    let suspended = Suspended::of(&kernel::mounted(&at).unwrap().number);
    let wanted = if std::env::var_os("VOLUMED_TEST_EVERY_POINT").is_some() { KILLS_ALL } else { KILLS };
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    let (mut inside, mut rounds, mut longest) = (0, 0, Duration::ZERO);
    std::thread::scope(|scope| {
        // The flag is set however the loop below ends, or the scope would wait for ever.
        let _stop = Stop(&stop);
        scope.spawn(|| write_until(&stop, &written, Path::new(&at)));
        while inside < wanted {
            rounds += 1;
            assert!(rounds < wanted * ROUNDS_FOR_ONE, "in {rounds} snapshots the window was met {inside} times only");
            let socket = PathBuf::from(m.path("run/control.sock"));
            let body = json!({"vg": m.vg, "volume": "v", "name": format!("s{rounds}")}).to_string();
            let request = scope.spawn(move || wire::request(&socket, "POST", "snapshots", &body));
            while !suspended.now() && !request.is_finished() {}
            let met = suspended.now();
            m.kill9();
            inside += u32::from(met);
            let answer = request.join().unwrap();
            if let Ok((status, json)) = &answer {
                assert!(*status == 200 || *status == 201, "{json}");
            }
            let death = Instant::now();
            while suspended.now() {
                assert!(
                    death.elapsed() < RESUMED,
                    "{RESUMED:?} after death {rounds} the volume is suspended{}",
                    m.log()
                );
                sleep(Duration::from_millis(1));
            }
            longest = longest.max(death.elapsed());
            m.start_daemon();
            let path = format!("snapshots/{}/v/s{rounds}?now=true", m.vg);
            match wire::request(Path::new(&m.path("run/control.sock")), "DELETE", &path, "") {
                Ok((200, _)) => {}
                Ok((404, _)) => {
                    assert!(answer.is_err(), "snapshot {rounds} was acknowledged and is not there{}", m.log())
                }
                other => panic!("deleting a snapshot ends with {other:?}{}", m.log()),
            }
            if rounds % 25 == 0 {
                assert_eq!(kernel::not_live(), Vec::<String>::new(), "after {rounds} deaths{}", m.log());
                assert_eq!(m.json(&["status"])["health"], "ok", "after {rounds} deaths{}", m.log());
            }
        }
    });
    let seconds = begin.elapsed().as_secs_f32();
    let written = written.load(Ordering::SeqCst);
    println!(
        "{rounds} deaths, {inside} of them in the window, {seconds:.0} s; resumed within {longest:?}; {written} writes"
    );
    assert!(written > u64::from(rounds), "the file system in use took only {written} writes");
    assert_eq!(kernel::not_live(), Vec::<String>::new());
    m.ok(&["volume", "unmount", &m.of("v")]);
    m.ok(&["volume", "check", &m.of("v")]);
    m.ok(&["volume", "delete", &m.of("v"), "--yes"]);
    // What each of them left in the pool is gone with it.
    let pool = kernel::number_of(kernel::our_uuids().iter().find(|uuid| uuid.ends_with("-tpool")).unwrap());
    assert_eq!(kernel::pool_used(&pool), 0, "{}", kernel::status(&pool));
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Writes, and waits until it is on disk: this is what a suspended volume would hold up.
fn write_until(stop: &AtomicBool, written: &AtomicU64, at: &Path) {
    let mut file = fs::File::create(at.join("written")).unwrap();
    while !stop.load(Ordering::SeqCst) {
        file.write_all(&[7; 512]).unwrap();
        file.sync_data().unwrap();
        written.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn f28_a_daemon_whose_memory_is_swapped_to_its_own_volume_takes_snapshots_of_it() {
    let Some(mut m) = Machine::start() else { return };
    let Some(group) = Starved::make("volumed-test") else { return };
    // Memory belongs to the group in which it was first used: the daemon is born there.
    group.take(std::process::id());
    m.restart();
    group.leave(std::process::id());
    m.with_pool(2);
    m.ok(&["volume", "create", &m.of("swap"), "--size", "256M", "--fs", "none"]);
    m.ok(&["volume", "attach", &m.of("swap")]);
    let device = m.json(&["volume", "show", &m.of("swap")])["device"].as_str().unwrap().to_owned();
    tool::run("mkswap", &[&device]);
    let Some(_swap) = Swap::on(&device) else { return skip("swapon is refused here") };
    let mut most = 0;
    for round in 0..20 {
        // All pages of the daemon go out, and what it needs comes back through the volume that it suspends.
        group.push_out();
        most = most.max(group.swapped());
        let (begin, name) = (Instant::now(), m.of(&format!("swap@s{round}")));
        m.ok(&["snapshot", "create", &name]);
        group.push_out();
        m.ok(&["snapshot", "delete", &name, "--yes"]);
        assert_eq!(kernel::not_live(), Vec::<String>::new(), "round {round}{}", m.log());
        assert!(begin.elapsed() < Duration::from_secs(180), "round {round} took {:?}{}", begin.elapsed(), m.log());
    }
    println!("up to {} KiB of the daemon were swapped out", most >> 10);
    if most == 0 {
        return skip("the kernel swaps nothing out on demand (memory.reclaim)");
    }
    assert_eq!(m.json(&["status"])["health"], "ok");
}

/// Swap on a device, for as long as this lives.
struct Swap<'a>(&'a str);

impl<'a> Swap<'a> {
    fn on(device: &'a str) -> Option<Swap<'a>> {
        tool::try_run("swapon", &[device]).then_some(Swap(device))
    }
}

impl Drop for Swap<'_> {
    fn drop(&mut self) {
        tool::try_run("swapoff", &[self.0]);
    }
}

/// A control group whose memory is taken away on demand; its processes leave it when this goes.
struct Starved(PathBuf);

impl Starved {
    fn make(name: &str) -> Option<Starved> {
        let root = Path::new("/sys/fs/cgroup");
        if !root.join("cgroup.controllers").exists() {
            tool::try_run("mount", &["-t", "cgroup2", "none", "/sys/fs/cgroup"]);
        }
        _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        let dir = root.join(name);
        _ = fs::create_dir(&dir);
        if !dir.join("memory.max").exists() {
            skip("no control group for memory here");
            return None;
        }
        Some(Starved(dir))
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn leave(&self, pid: u32) {
        fs::write("/sys/fs/cgroup/cgroup.procs", pid.to_string()).unwrap();
    }

    /// As if others needed all memory. It ends with an error when less than that can be taken.
    fn push_out(&self) {
        _ = fs::write(self.0.join("memory.reclaim"), "64M");
    }

    /// Bytes that are swapped out.
    fn swapped(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("memory.swap.current")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            _ = fs::write("/sys/fs/cgroup/cgroup.procs", pid);
        }
        _ = fs::remove_dir(&self.0);
    }
}
