//! What becomes of volumes after they were made, on a real kernel: clones, snapshots of one instant, rollbacks, names, labels and
//! protection.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vol_tests::{Machine, kernel, tool};

fn read(at: &str, file: &str) -> String {
    fs::read_to_string(Path::new(at).join(file)).unwrap_or_else(|error| panic!("{at}/{file}: {error}"))
}

fn write(at: &str, file: &str, text: &str) {
    fs::write(Path::new(at).join(file), text).unwrap_or_else(|error| panic!("{at}/{file}: {error}"));
}

/// Makes a volume of 512 MiB and mounts it; where.
fn mounted(m: &Machine, name: &str, fs: &str) -> String {
    m.ok(&["volume", "create", &m.of(name), "--size", "512M", "--fs", fs]);
    mount(m, name)
}

fn mount(m: &Machine, name: &str) -> String {
    let at = m.path(name);
    m.ok(&["volume", "mount", &m.of(name), &at]);
    at
}

fn unmount(m: &Machine, name: &str) {
    m.ok(&["volume", "unmount", &m.of(name)]);
}

#[test]
fn f18_a_clone_stands_beside_its_origin_and_each_goes_its_own_way() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(3);
    for fs in ["ext4", "xfs", "btrfs"] {
        let names = [fs.to_owned(), format!("{fs}-then"), format!("{fs}-now")];
        let [origin, then, now] = &names;
        let at = mounted(&m, origin, fs);
        write(&at, "file", "old");
        m.ok(&["snapshot", "create", &m.of(&format!("{origin}@before"))]);
        // In the page cache alone when the clone of the mounted volume is made.
        write(&at, "file", "new");
        m.ok(&["volume", "clone", &m.of(origin), &m.of(now)]);
        // Of a snapshot that somebody looks into meanwhile.
        let (snapshot, look) = (m.of(&format!("{origin}@before")), m.path(&format!("{fs}-look")));
        m.ok(&["snapshot", "mount", &snapshot, &look]);
        m.ok(&["volume", "clone", &snapshot, &m.of(then)]);
        assert_eq!(read(&look, "file"), "old");
        m.ok(&["snapshot", "unmount", &snapshot]);
        assert_eq!(kernel::not_live(), Vec::<String>::new(), "{fs}: after a clone something is suspended");
        let (at_then, at_now) = (mount(&m, then), mount(&m, now));
        let numbers =
            [&at, &at_then, &at_now].map(|at| fs::canonicalize(&kernel::mounted(at).unwrap().source).unwrap());
        assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2] && numbers[0] != numbers[2], "{numbers:?}");
        assert_eq!([&at, &at_then, &at_now].map(|at| read(at, "file")), ["new", "old", "new"], "{fs}{}", m.log());
        for (at, text) in [(&at, "of the origin"), (&at_then, "of then"), (&at_now, "of now")] {
            write(at, "file", text);
            write(at, "more", &text.repeat(100_000));
        }
        for name in &names {
            unmount(&m, name);
        }
        // Each by itself, from the disk.
        for (name, text) in names.iter().zip(["of the origin", "of then", "of now"]) {
            let at = mount(&m, name);
            assert_eq!(read(&at, "file"), text, "{fs}: {name}");
            assert_eq!(read(&at, "more"), text.repeat(100_000), "{fs}: {name}");
            unmount(&m, name);
        }
        // All of them for reading only, side by side; nothing is written to any.
        for name in &names {
            m.ok(&["volume", "mount", &m.of(name), &m.path(name), "--read-only"]);
        }
        for name in &names {
            unmount(&m, name);
        }
        let shown = m.json(&["volume", "show", &m.of(then)]);
        assert_eq!(shown["clone_of"]["name"], m.of(&format!("{origin}@before")), "{shown}");
        assert!(m.ok(&["volume", "clone", &m.of(origin), &m.of(now)]).contains("already exists"));
        // A clone needs nothing of what it was made from.
        m.ok(&["snapshot", "delete", &m.of(&format!("{origin}@before")), "--yes"]);
        m.ok(&["volume", "delete", &m.of(origin), "--yes"]);
        let at = mount(&m, then);
        assert_eq!(read(&at, "file"), "of then");
        unmount(&m, then);
        assert_eq!(m.json(&["volume", "show", &m.of(then)])["clone_of"]["exists"], false);
        for name in [then, now] {
            m.ok(&["volume", "delete", &m.of(name), "--yes"]);
        }
    }
    assert_eq!(m.json(&["status"])["health"], "ok");
    assert_eq!(
        m.json(&["pool", "show", &m.of("tank")])["used_bytes"],
        0,
        "all is deleted, and chunks are still in use"
    );
}

/// A file whose writes go to the disk one by one: each is there before the next is begun.
struct Counter(fs::File);

impl Counter {
    fn new(at: &str) -> Self {
        let mut file = fs::File::create(Path::new(at).join("counter")).unwrap();
        file.write_all(&[0; 4096]).unwrap();
        file.sync_all().unwrap();
        Self(file)
    }
    fn set(&self, number: u64) {
        self.0.write_all_at(&number.to_le_bytes(), 0).and_then(|()| self.0.sync_data()).unwrap();
    }
}

fn counter(at: &str) -> u64 {
    let bytes = fs::read(Path::new(at).join("counter")).unwrap();
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

#[test]
fn snapshots_taken_together_are_of_one_instant() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    let (first, second) = (mounted(&m, "first", "ext4"), mounted(&m, "second", "xfs"));
    let counters = [Counter::new(&first), Counter::new(&second)];
    let (stop, reached) = (AtomicBool::new(false), AtomicU64::new(0));
    const ROUNDS: usize = 12;
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                counters.iter().for_each(|counter| counter.set(number));
                reached.store(number, Ordering::Relaxed);
            }
            number
        });
        for round in 0..ROUNDS {
            // Something is written between two of them, however slow that is.
            let (before, begin) = (reached.load(Ordering::Relaxed), Instant::now());
            sleep(Duration::from_millis(30));
            while reached.load(Ordering::Relaxed) == before && begin.elapsed() < Duration::from_secs(120) {
                sleep(Duration::from_millis(1));
            }
            let (a, b) = (m.of(&format!("first@{round}")), m.of(&format!("second@{round}")));
            // In either order: neither may be taken later than the other.
            let order = if round % 2 == 0 { [&a, &b] } else { [&b, &a] };
            let said = m.ok(&["snapshot", "create", order[0], order[1], "--label", "set=counters"]);
            assert!(said.contains("all of one instant"), "{said}");
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert_eq!(kernel::not_live(), Vec::<String>::new());
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        let numbers = ["first", "second"].map(|volume| {
            let (snapshot, at) = (m.of(&format!("{volume}@{round}")), m.path(&format!("{volume}-{round}")));
            m.ok(&["snapshot", "mount", &snapshot, &at]);
            let number = counter(&at);
            m.ok(&["snapshot", "unmount", &snapshot]);
            number
        });
        // The first is written first: it may be one ahead, and never behind.
        assert!(numbers[0] == numbers[1] || numbers[0] == numbers[1] + 1, "round {round}: {numbers:?} of {written}");
        seen.push(numbers[0]);
    }
    println!("{written} numbers written, {seen:?} in the snapshots");
    assert!(seen.is_sorted() && seen.last() > seen.first(), "nothing was written meanwhile: {seen:?}");
    // One transaction each: every one of them is there, labelled.
    let list = m.json(&["snapshot", "list", &m.vg, "-l", "set=counters"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2 * ROUNDS);
}

#[test]
fn a_group_is_wholly_refused_if_one_of_it_cannot_be() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    for name in ["a", "b"] {
        m.ok(&["volume", "create", &m.of(name), "--size", "64M", "--fs", "none"]);
    }
    m.ok(&["snapshot", "create", &m.of("b@t1")]);
    let ran = m.run(&["snapshot", "create", &m.of("a@t1"), &m.of("b@t1")]);
    assert_eq!(ran.code, 5, "{ran:?}");
    let list = m.json(&["snapshot", "list"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 1, "{list}");
}

#[test]
fn a_rollback_brings_back_what_the_snapshot_holds() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(3);
    for fs in ["ext4", "xfs", "btrfs"] {
        let at = mounted(&m, fs, fs);
        let (before, after) = (m.of(&format!("{fs}@before")), m.of(&format!("{fs}@after")));
        write(&at, "file", "old");
        m.ok(&["snapshot", "create", &before]);
        write(&at, "file", "new");
        write(&at, "more", &"x".repeat(8 << 20));
        m.ok(&["snapshot", "create", &after]);
        write(&at, "file", "newest");
        let id = m.json(&["volume", "show", &m.of(fs)])["id"].clone();
        let ran = m.run(&["snapshot", "rollback", &before, "--yes"]);
        assert_eq!(ran.code, 4, "a mounted volume: {ran:?}");
        unmount(&m, fs);
        m.ok(&["volume", "protect", &m.of(fs)]);
        assert_eq!(m.run(&["snapshot", "rollback", &before, "--yes"]).code, 1, "a protected volume");
        m.ok(&["volume", "unprotect", &m.of(fs)]);
        m.ok(&["snapshot", "rollback", &before, "--yes"]);
        assert_eq!(kernel::not_live(), Vec::<String>::new());
        let at = mount(&m, fs);
        assert_eq!(read(&at, "file"), "old", "{fs}{}", m.log());
        assert!(!Path::new(&at).join("more").exists(), "{fs}");
        write(&at, "file", "other");
        unmount(&m, fs);
        // Another snapshot, and forward: neither was changed by the rollback nor by what was written since.
        m.ok(&["snapshot", "rollback", &after, "--yes"]);
        let at = mount(&m, fs);
        assert_eq!((read(&at, "file").as_str(), read(&at, "more").len()), ("new", 8 << 20), "{fs}");
        unmount(&m, fs);
        m.ok(&["snapshot", "rollback", &before, "--yes"]);
        let at = mount(&m, fs);
        assert_eq!(read(&at, "file"), "old", "{fs}");
        unmount(&m, fs);
        assert_eq!(m.json(&["volume", "show", &m.of(fs)])["id"], id, "the volume is another");
        for path in [&before, &after] {
            m.ok(&["snapshot", "delete", path, "--yes"]);
        }
        m.ok(&["volume", "delete", &m.of(fs), "--yes"]);
    }
    assert_eq!(m.json(&["status"])["health"], "ok");
    assert_eq!(m.json(&["pool", "show", &m.of("tank")])["used_bytes"], 0, "what was rolled back is still in the pool");
}

#[test]
fn what_a_volume_held_before_a_rollback_is_kept_like_what_is_deleted() {
    let Some(m) = Machine::with("undelete_window = \"1h\"\n") else { return };
    m.with_pool(2);
    let at = mounted(&m, "pg", "ext4");
    let before = m.of("pg@before");
    write(&at, "file", "old");
    m.ok(&["snapshot", "create", &before]);
    write(&at, "file", "new");
    unmount(&m, "pg");
    let said = m.ok(&["snapshot", "rollback", &before, "--yes"]);
    assert!(said.contains("What it held is kept until"), "{said}");
    let at = mount(&m, "pg");
    assert_eq!(read(&at, "file"), "old");
    unmount(&m, "pg");
    let list = m.json(&["volume", "list", "--deleted"]);
    let kept = list["deleted"][0]["full_name"].as_str().unwrap_or_else(|| panic!("nothing is kept: {list}")).to_owned();
    m.ok(&["snapshot", "undelete", &kept]);
    m.ok(&["snapshot", "rollback", &kept, "--yes", "--now"]);
    let at = mount(&m, "pg");
    assert_eq!(read(&at, "file"), "new");
    unmount(&m, "pg");
    // With --now nothing is kept.
    assert_eq!(m.json(&["volume", "list", "--deleted"])["deleted"].as_array().unwrap().len(), 0);
    assert_eq!(m.json(&["status"])["health"], "ok");
}

#[test]
fn names_labels_and_protection_change_under_a_mounted_volume_and_outlive_the_daemon() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    m.ok(&["volume", "create", &m.of("pg"), "--size", "128M", "--label", "tier=fast", "--label", "owner=pg"]);
    m.ok(&["volume", "create", &m.of("wal"), "--size", "128M", "--label", "tier=slow"]);
    let at = mount(&m, "pg");
    let mut open = fs::File::create(Path::new(&at).join("open")).unwrap();
    open.write_all(b"one\n").unwrap();
    m.ok(&["snapshot", "create", &m.of("pg@a"), "--label", "kept=yes"]);
    let before = kernel::snapshot();
    m.ok(&["volume", "rename", &m.of("pg"), &m.of("db")]);
    m.ok(&["volume", "protect", &m.of("db")]);
    m.ok(&["snapshot", "protect", &m.of("db@a")]);
    m.ok(&["volume", "label", &m.of("db"), "tier=faster", "owner-", "note=a b"]);
    open.write_all(b"two\n").unwrap();
    assert_eq!(before, kernel::snapshot(), "the kernel's devices are different");
    m.kill9();
    m.start_daemon();
    assert_eq!(before, kernel::snapshot(), "after a restart the kernel's devices are different{}", m.log());
    let shown = m.json(&["volume", "show", &m.of("db")]);
    assert_eq!(shown["labels"], serde_json::json!({"tier": "faster", "note": "a b"}), "{shown}");
    assert_eq!((&shown["protected"], &shown["mounts"][0]["path"]), (&true.into(), &at.clone().into()), "{shown}");
    assert_eq!(m.run(&["volume", "show", &m.of("pg")]).code, 3);
    let names = |selector: &str| {
        let list = m.json(&["volume", "list", &m.vg, "-l", selector]);
        let all = list["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap().to_owned());
        all.collect::<Vec<_>>()
    };
    assert_eq!(names("tier"), ["db", "wal"]);
    assert_eq!(names("tier=faster,!owner"), ["db"]);
    assert_eq!(names("tier!=faster"), ["wal"]);
    drop(open);
    unmount(&m, "db");
    for words in [["volume", "delete", &m.of("db"), "--yes"], ["snapshot", "delete", &m.of("db@a"), "--yes"]] {
        let ran = m.run(&words);
        assert!(ran.code == 1 && ran.err.contains("it is protected"), "{ran:?}");
    }
    let at = mount(&m, "db");
    assert_eq!(read(&at, "open"), "one\ntwo\n");
    unmount(&m, "db");
    for kind in [("snapshot", "db@a"), ("volume", "db")] {
        m.ok(&[kind.0, "unprotect", &m.of(kind.1)]);
        m.ok(&[kind.0, "delete", &m.of(kind.1), "--yes"]);
    }
    tool::settle();
    assert_eq!(m.json(&["status"])["health"], "ok");
}
