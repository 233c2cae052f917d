//! Who takes how much of a pool, on a real kernel: `thin_ls` is the witness, and so is what deleting frees.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use vol_tests::{Machine, Random, kernel, tool};

const EXTENT: u64 = 4 << 20;

fn device(suffix: &str) -> String {
    let ours = kernel::our_uuids();
    ours.into_iter().find(|uuid| uuid.ends_with(suffix)).unwrap_or_else(|| panic!("no device of ours ends in {suffix}"))
}

fn node(uuid: &str) -> String {
    let number = kernel::number_of(uuid);
    format!("/dev/dm-{}", number.split_once(':').unwrap().1)
}

fn pool_message(message: &str) {
    let name = device("-tpool").replace("VOLUMED-", "volumed-");
    tool::run("dmsetup", &["message", &name, "0", message]);
}

fn metadata_snapshot() -> bool {
    kernel::status(&kernel::number_of(&device("-tpool"))).split(' ').nth(6) != Some("-")
}

/// Mapped, exclusive and shared chunks by thin id, as thin-provisioning-tools count them.
fn thin_ls() -> BTreeMap<u32, [u64; 3]> {
    pool_message("reserve_metadata_snap");
    let format = "DEV,MAPPED_BLOCKS,EXCLUSIVE_BLOCKS,SHARED_BLOCKS";
    let args = ["--metadata-snap", "--no-headers", "--format", format, &node(&device("-tmeta"))];
    let text = tool::run("thin_ls", &args);
    pool_message("release_metadata_snap");
    let row = |line: &str| {
        let numbers: Vec<u64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        (u32::try_from(numbers[0]).unwrap(), [numbers[1], numbers[2], numbers[3]])
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(row).collect()
}

/// A reading that was begun after this was called. An older one is given out for ten seconds at most, for two after a change.
fn usage(m: &Machine) -> Value {
    let begin = Instant::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    loop {
        let read = m.json(&["pool", "usage", &m.of("tank")]);
        // It is told in whole seconds.
        if seconds(read["read_at"].as_str().unwrap()) > now {
            return read;
        }
        assert!(begin.elapsed() < Duration::from_secs(180), "no reading is of now: {}", read["read_at"]);
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Seconds since 1970 of a time as JSON has it.
fn seconds(time: &str) -> u64 {
    tool::run("date", &["--date", time, "+%s"]).trim().parse().unwrap()
}

fn numbers(of: &Value, chunk: u64) -> [u64; 3] {
    ["allocated_bytes", "exclusive_bytes", "shared_bytes"].map(|key| of[key].as_u64().unwrap() / chunk)
}

/// Volumes and snapshots by their full name.
fn all(usage: &Value) -> BTreeMap<String, [u64; 3]> {
    let chunk = usage["chunk_size_bytes"].as_u64().unwrap();
    let mut all = BTreeMap::new();
    let mut add = |of: &Value| {
        all.insert(of["full_name"].as_str().unwrap().to_owned(), numbers(of, chunk));
    };
    usage["snapshots"].as_array().unwrap().iter().for_each(&mut add);
    for volume in usage["volumes"].as_array().unwrap() {
        volume["snapshots"].as_array().unwrap().iter().for_each(&mut add);
    }
    for volume in usage["volumes"].as_array().unwrap() {
        let name = format!("{}/{}", volume["vg"].as_str().unwrap(), volume["volume"].as_str().unwrap());
        all.insert(name, numbers(volume, chunk));
    }
    all
}

/// Writes one block into each of these chunks.
fn write(device: &str, chunk: u64, chunks: impl IntoIterator<Item = u64>) {
    let file = File::options().write(true).open(device).unwrap();
    for at in chunks {
        file.write_all_at(&[0xA5; 4096], at * chunk).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn usage_is_what_thin_ls_says_and_what_deleting_frees() {
    let Some(m) = Machine::with("undelete_window = \"1h\"\n") else { return };
    m.with_pool(2);
    let raw = m.of("raw");
    m.ok(&["volume", "create", &raw, "--size", "20G", "--fs", "none"]);
    m.ok(&["volume", "attach", &raw]);
    let at = m.json(&["volume", "show", &raw])["device"].as_str().unwrap().to_owned();
    let chunk = m.json(&["pool", "show", &m.of("tank")])["chunk_size_bytes"].as_u64().unwrap();
    let mut random = Random::new();
    // Thousands of chunks, so that there are trees with several levels.
    write(&at, chunk, 0..6000);
    let mut names = vec![raw.clone()];
    for number in 0..6 {
        let name = m.of(&format!("raw@s{number}"));
        m.ok(&["snapshot", "create", &name]);
        names.push(name);
        write(&at, chunk, (0..300).map(|_| random.below(8000)).collect::<Vec<_>>());
    }
    // A file system beside it, of which nobody shares anything.
    let (fs, mounted) = (m.of("fs"), m.path("at"));
    m.ok(&["volume", "create", &fs, "--size", "1G"]);
    m.ok(&["volume", "mount", &fs, &mounted]);
    tool::run("dd", &["if=/dev/urandom", &format!("of={mounted}/file"), "bs=1M", "count=20", "conv=fsync"]);
    m.ok(&["volume", "unmount", &fs]);
    names.push(fs);

    let pool = kernel::number_of(&device("-tpool"));
    let before = usage(&m);
    assert!(!metadata_snapshot(), "it was not released");
    let (ours, theirs) = (all(&before), thin_ls());
    assert_eq!(theirs.len(), names.len());
    // Thin ids are given out in the order in which volumes are made.
    for (name, (id, expected)) in names.iter().zip(&theirs) {
        assert_eq!(ours[name], *expected, "{name}, thin id {id}");
    }
    assert!(theirs.values().all(|[mapped, own, shared]| own + shared == *mapped && *own > 0), "{theirs:?}");
    assert_eq!(before["allocated_bytes"].as_u64().unwrap() / chunk, kernel::pool_used(&pool));

    let freed = |delete: &[&str]| {
        let before = kernel::pool_used(&pool);
        for name in delete {
            m.ok(&["snapshot", "delete", name, "--now", "--yes"]);
        }
        before - kernel::pool_used(&pool)
    };
    assert_eq!(freed(&[&names[3]]), ours[&names[3]][1], "{}", names[3]);
    let now = usage(&m);
    let volume = now["volumes"].as_array().unwrap().iter().find(|volume| volume["volume"] == "raw").unwrap().clone();
    let rest: Vec<&str> = [1, 2, 4, 5, 6].map(|at| names[at].as_str()).to_vec();
    let own: u64 = rest.iter().map(|name| all(&now)[*name][1]).sum();
    let reclaimable = volume["reclaimable_bytes"].as_u64().unwrap() / chunk;
    assert!(reclaimable > own, "what several snapshots share is reclaimed too: {reclaimable}, {own}");
    assert_eq!(freed(&rest), reclaimable);
    m.ok(&["volume", "detach", &raw]);
    let alone = m.json(&["volume", "usage", &raw]);
    assert_eq!(alone["volume"], "raw");
    let left = usage(&m);
    let with_snapshots =
        left["volumes"].as_array().unwrap().iter().find(|one| one["volume"] == "raw").unwrap()["with_snapshots_bytes"]
            .as_u64()
            .unwrap();
    let before = kernel::pool_used(&pool);
    m.ok(&["volume", "delete", &raw, "--yes"]);
    let kept = usage(&m);
    assert_eq!(kept["deleted_bytes"].as_u64().unwrap(), with_snapshots, "it can be taken back");
    assert_eq!(before, kernel::pool_used(&pool));
    m.ok(&["pool", "purge", &m.of("tank"), "--yes"]);
    assert_eq!(before - kernel::pool_used(&pool), with_snapshots / chunk);
    let text = m.ok(&["pool", "usage", &m.of("tank")]);
    assert!(text.contains("NAME") && text.contains("\nreclaimable:"), "{text}");
}

#[test]
fn readings_go_on_beside_writes_and_changes_and_disturb_none() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    let raw = m.of("raw");
    m.ok(&["volume", "create", &raw, "--size", "10G", "--fs", "none"]);
    m.ok(&["volume", "attach", &raw]);
    let at = m.json(&["volume", "show", &raw])["device"].as_str().unwrap().to_owned();
    let chunk = m.json(&["pool", "show", &m.of("tank")])["chunk_size_bytes"].as_u64().unwrap();
    let (stop, readings) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) {
                write(&at, chunk, (0..64).map(|at| (next + at * 7) % 16_000));
                next += 448;
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let read = m.json(&["pool", "usage", &m.of("tank")]);
                let sum = |key: &str| read[key].as_u64().unwrap();
                assert_eq!(sum("exclusive_bytes") + sum("shared_bytes"), sum("allocated_bytes"));
                readings.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Changes of the pool make what was read old after two seconds.
        let begin = Instant::now();
        for number in 0.. {
            m.ok(&["snapshot", "create", &m.of(&format!("raw@s{number}"))]);
            if number >= 3 {
                m.ok(&["snapshot", "delete", &m.of(&format!("raw@s{}", number - 3)), "--now", "--yes"]);
            }
            let enough = readings.load(Ordering::Relaxed) > 4 || begin.elapsed() > Duration::from_secs(180);
            if begin.elapsed() > Duration::from_secs(15) && enough {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(readings.load(Ordering::Relaxed) > 4);
    let (read, witness) = (usage(&m), thin_ls());
    let mut ours: Vec<[u64; 3]> = all(&read).into_values().collect();
    let mut theirs: Vec<[u64; 3]> = witness.into_values().collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
    assert_eq!(m.run(&["status"]).code, 0, "{}", m.log());
}

#[test]
fn another_programs_metadata_snapshot_is_left_alone_and_a_dead_daemons_is_released() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(1);
    m.ok(&["volume", "create", &m.of("fs"), "--size", "100M"]);
    pool_message("reserve_metadata_snap");
    m.refused(4, &["another program holds one"], &["pool", "usage", &m.of("tank")]);
    assert!(metadata_snapshot(), "it is not ours");
    m.ok(&["snapshot", "create", &m.of("fs@one")]);
    m.kill9();
    m.start_daemon();
    assert!(!metadata_snapshot(), "{}", m.log());
    m.ok(&["volume", "usage", &m.of("fs")]);
    assert!(!metadata_snapshot(), "{}", m.log());
    m.refused(3, &["lake"], &["pool", "usage", &m.of("lake")]);
    m.ok(&["snapshot", "delete", &m.of("fs@one"), "--now", "--yes"]);
    m.ok(&["volume", "delete", &m.of("fs"), "--now", "--yes"]);
    m.ok(&["pool", "usage", &m.of("tank")]);
    m.ok(&["pool", "delete", &m.of("tank"), "--yes"]);
}

#[test]
fn the_map_is_what_the_kernels_tables_say() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(3);
    m.ok(&["pool", "create", &m.of("lake"), "--size", "200M"]);
    let map = m.json(&["map", &m.vg]);
    assert_eq!(map["vgs"][0]["extent_size_bytes"], EXTENT);
    let segments: Vec<Value> = map["vgs"][0]["pvs"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|pv| pv["segments"].as_array().unwrap().clone())
        .collect();
    let extents = |pool: &str, usage: &str| {
        let own = segments.iter().filter(|segment| segment["pool"] == pool && segment["use"] == usage);
        own.map(|segment| segment["extent_count"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    for pool in ["tank", "lake"] {
        let id = m.json(&["pool", "show", &m.of(pool)])["id"].as_str().unwrap().to_owned();
        for (suffix, usage) in [("-tdata", "data"), ("-tmeta", "metadata")] {
            let table = kernel::table(&kernel::number_of(&format!("VOLUMED-{id}{suffix}")));
            let mut theirs: Vec<u64> = table
                .lines()
                .map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 512 / EXTENT)
                .collect();
            let mut ours = extents(pool, usage);
            theirs.sort_unstable();
            ours.sort_unstable();
            assert_eq!(ours, theirs, "{pool} {usage}");
        }
    }
    let disk = std::fs::canonicalize(m.disk(0)).unwrap().to_str().unwrap().to_owned();
    let drawn = m.ok(&["map", &m.vg, "--width", "100"]);
    assert!(drawn.is_ascii() && drawn.contains("data of pool tank") && drawn.contains(&disk), "{drawn}");
    assert!(drawn.lines().all(|line| line.len() <= 100), "{drawn}");
    let shown = m.ok(&["pv", "show", m.disk(0)]);
    assert!(shown.contains("EXTENTS") && shown.contains("pool tank, data"), "{shown}");
}
