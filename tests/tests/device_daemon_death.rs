//! The daemon may die at any time: the kernel's devices stay as they are, no I/O notices, and the next start knows everything.

use serde_json::Value;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vol_tests::{Machine, Random, kernel, skip, tool};

#[test]
fn a_restart_changes_nothing_in_the_kernel_and_all_is_known() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(3);
    for name in ["a", "b"] {
        m.ok(&["volume", "create", &m.of(name), "--size", "1G"]);
        m.ok(&["snapshot", "create", &m.of(&format!("{name}@s"))]);
    }
    m.ok(&["volume", "mount", &m.of("a"), &m.path("a")]);
    m.ok(&["snapshot", "mount", &m.of("a@s"), &m.path("as")]);
    let known = |m: &Machine| {
        let lists = ["vg", "pv", "pool", "volume", "snapshot"].map(|kind| without_use(m.json(&[kind, "list"])));
        (lists, kernel::snapshot())
    };
    // A daemon that ends writes the end of the last change, if nothing has done so since: a commit more.
    m.restart();
    let before = known(&m);
    m.restart();
    assert_eq!(before, known(&m), "after a restart something is different{}", m.log());
    m.kill9();
    m.start_daemon();
    assert_eq!(before, known(&m), "after a kill something is different{}", m.log());
    assert_eq!(m.json(&["status"])["health"], "ok");
    m.ok(&["snapshot", "unmount", &m.of("a@s")]);
    m.ok(&["volume", "unmount", &m.of("a")]);
    m.ok(&["volume", "delete", &m.of("a"), "--yes"]);
}

/// Without what a mounted file system changes by itself.
fn without_use(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            const LIVE: [&str; 5] = [
                "used_bytes",
                "metadata_used_bytes",
                "fill_bytes_per_second",
                "time_to_full_seconds",
                "time_to_full_confidence",
            ];
            map.retain(|key, _| !LIVE.contains(&key.as_str()));
            map.values_mut().for_each(|value| *value = without_use(value.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| *value = without_use(value.take())),
        _ => {}
    }
    value
}

#[test]
fn writing_goes_on_while_the_daemon_is_killed() {
    let Some(mut m) = Machine::start() else { return };
    if !tool::has("fio") {
        return skip("fio is not there");
    }
    m.with_pool(2);
    let at = m.path("at");
    m.ok(&["volume", "create", &m.of("v"), "--size", "1G"]);
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    let before = kernel::snapshot();
    let errors = kernel::io_errors();
    let begin = Instant::now();
    let mut random = Random::new();
    let mut kills = 0;
    // Where a start of the daemon takes long it is written once more.
    while kills < 5 {
        // 20 s of random writes, then every block is read and checked.
        let mut fio = Command::new("fio")
            .args(["--name=v", &format!("--directory={at}"), "--rw=randwrite", "--bs=4k", "--size=160m", "--direct=1"])
            .args(["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--rate=,8m", "--output-format=terse"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("fio");
        while fio.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < Duration::from_secs(900), "fio does not end");
            sleep(Duration::from_millis(200 + random.below(1500)));
            m.kill9();
            kills += 1;
            sleep(Duration::from_millis(random.below(600)));
            m.start_daemon();
            assert_eq!(before, kernel::snapshot(), "after kill {kills} the kernel's devices are different{}", m.log());
        }
        let output = fio.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "fio: {}: {said}", output.status);
    }
    println!("{kills} kills in {:.1} s of fio", begin.elapsed().as_secs_f32());
    assert_eq!(errors, kernel::io_errors(), "the kernel tells of I/O errors");
    m.ok(&["volume", "unmount", &m.of("v")]);
}

/// How often the daemon is killed while it changes things.
const KILLS: u32 = 36;
/// When a kill comes: at random after up to so many changes, and a part of the next. So between none and more than a whole round of them
/// are done before it, however fast the machine is.
const CHANGES: u64 = 12;

#[test]
fn f2_killed_while_it_creates_and_deletes() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    // One that is in use all the time: its snapshots suspend it.
    m.ok(&["volume", "create", &m.of("base"), "--size", "256M"]);
    m.ok(&["volume", "mount", &m.of("base"), &m.path("base")]);
    let file = std::path::PathBuf::from(m.path("base")).join("file");
    let mut random = Random::new();
    let mut done = 0;
    let change = time_of_a_change(&m);
    for kill in 0..KILLS {
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        done += std::thread::scope(|scope| {
            let pid = m.pid();
            let worker = scope.spawn(|| work(&m, kill, &stop, &count));
            let (wanted, begin) = (random.below(CHANGES), Instant::now());
            while count.load(Ordering::SeqCst) < wanted && !worker.is_finished() {
                assert!(begin.elapsed() < Duration::from_secs(600), "changes are not made{}", m.log());
                sleep(Duration::from_millis(1));
            }
            sleep(Duration::from_millis(random.below(10 + change.as_millis() as u64)));
            stop.store(true, Ordering::SeqCst);
            assert!(tool::signal(pid, "KILL"));
            worker.join().unwrap()
        });
        m.kill9();
        m.start_daemon();
        healthy(&m, kill);
        std::fs::write(&file, format!("after kill {kill}")).unwrap();
    }
    println!("{KILLS} kills, {done} changes done before them; a change takes {change:?}");
    assert!(
        done > u64::from(KILLS),
        "the daemon was killed before it did anything: {done} changes, of which one takes {change:?}"
    );
    // Nothing was lost in the pool: all deleted means all free.
    m.ok(&["volume", "unmount", &m.of("base")]);
    for snapshot in m.json(&["snapshot", "list"])["snapshots"].as_array().unwrap() {
        m.ok(&["snapshot", "delete", snapshot["full_name"].as_str().unwrap(), "--yes"]);
    }
    for volume in m.json(&["volume", "list"])["volumes"].as_array().unwrap() {
        m.ok(&["volume", "delete", &m.of(volume["name"].as_str().unwrap()), "--yes"]);
    }
    let uuids = kernel::our_uuids();
    assert_eq!(uuids.len(), 3, "devices are left: {uuids:?}");
    let pool = kernel::number_of(uuids.iter().find(|uuid| uuid.ends_with("-tpool")).unwrap());
    assert_eq!(
        kernel::pool_used(&pool),
        0,
        "all is deleted, and the pool holds data of something: {}",
        kernel::status(&pool)
    );
    m.ok(&["pool", "delete", &m.of("tank"), "--yes"]);
    m.ok(&["vg", "delete", &m.vg, "--yes"]);
}

/// The changes of a round: what is made at first is deleted at the end.
fn steps(m: &Machine, round: &str) -> [Vec<String>; 8] {
    let (raw, fs) = (m.of(&format!("raw{round}")), m.of(&format!("fs{round}")));
    let (of_fs, of_base) = (format!("{fs}@s"), m.of(&format!("base@s{round}")));
    [
        format!("snapshot create {of_base}"),
        format!("volume create {raw} --size 64M --fs none"),
        format!("volume create {fs} --size 64M"),
        format!("snapshot create {of_fs}"),
        format!("snapshot delete {of_base} --yes"),
        format!("volume delete {raw} --yes"),
        format!("volume delete {fs} --yes"),
        format!("snapshot delete {of_fs} --yes"),
    ]
    .map(|line| line.split(' ').map(str::to_owned).collect())
}

fn words(step: &[String]) -> Vec<&str> {
    step.iter().map(String::as_str).collect()
}

/// How long a change takes here, on the average of a round that nobody disturbs.
fn time_of_a_change(m: &Machine) -> Duration {
    let steps = steps(m, "first");
    let begin = Instant::now();
    for step in &steps {
        m.ok(&words(step));
    }
    begin.elapsed() / steps.len() as u32
}

/// Creates and deletes until something fails; how many changes were done.
fn work(m: &Machine, round: u32, stop: &AtomicBool, count: &AtomicU64) -> u64 {
    let steps = steps(m, &round.to_string());
    // Each round begins somewhere else, so that every kind of change is hit early as well.
    for step in steps.iter().cycle().skip(round as usize % 8) {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        match m.run(&words(step)).code {
            0 => _ = count.fetch_add(1, Ordering::SeqCst),
            // Deleting what was not made yet.
            3 => {}
            _ if stop.load(Ordering::SeqCst) => break,
            // Making what is there already: left by the round's begin in the middle.
            5 => {}
            code => panic!("volctl {step:?} fails with {code}, and nobody killed the daemon{}", m.log()),
        }
    }
    count.load(Ordering::SeqCst)
}

/// How long something that the daemon left (a mkfs, udev looking at its device) may hold up the recovery.
const RECOVERED: Duration = Duration::from_secs(120);

/// After a kill and a start: nothing half done, nothing suspended, and work goes on.
fn healthy(m: &Machine, kill: u32) {
    let begin = Instant::now();
    // Nobody asks for a change meanwhile: the daemon gets there by itself.
    while let Some(what) = half_done(m) {
        assert!(begin.elapsed() < RECOVERED, "{RECOVERED:?} after kill {kill}: {what}{}", m.log());
        sleep(Duration::from_millis(100));
    }
    let next = m.of(&format!("next{kill}"));
    m.ok(&["volume", "create", &next, "--size", "64M"]);
    m.ok(&["volume", "delete", &next, "--yes"]);
}

/// What is not as it should be.
fn half_done(m: &Machine) -> Option<String> {
    for kind in ["pool", "volume"] {
        for object in m.json(&[kind, "list"])[format!("{kind}s")].as_array().unwrap() {
            let half = object["content"] == "blank" || object["content"] == "formatting";
            if half || object["state"] != "ready" || object["health"] != "ok" {
                return Some(format!("a {kind} is half done: {object}"));
            }
        }
    }
    let (not_live, uuids) = (kernel::not_live(), kernel::our_uuids());
    if !not_live.is_empty() {
        return Some(format!("devices are suspended: {not_live:?}"));
    }
    // The pool's three and the one that is mounted.
    (uuids.len() != 4).then(|| format!("there are devices that nobody uses: {uuids:?}"))
}
