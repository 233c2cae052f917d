//! Metrics as Prometheus sees them: its own tools judge the page and the rules, and a Prometheus scrapes the daemon while a pool is filled.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use vol_tests::scrape::{Prometheus, get, sample, sum};
use vol_tests::{Machine, skip, tool};

const RULES: &str = include_str!("../../deploy/prometheus/volumed.rules.yml");
const RULES_TEST: &str = include_str!("../../deploy/prometheus/volumed_test.yml");
const ADDRESS: &str = "127.0.0.1:19709";
const MIB: usize = 1 << 20;
/// An alert takes two scrapes, two evaluations and its `for`.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the panels of the picture ask: title, unit, question.
const PANELS: [[&str; 3]; 6] = [
    ["Used and size of the pool", "bytes", "{__name__=~\"volumed_pool_(used|size)_bytes\"}"],
    ["Fill rate", "bytes a second", "volumed_pool_fill_bytes_per_second"],
    ["Time to full, growth counted in", "seconds", "volumed_pool_time_to_full_seconds"],
    ["Alerts that fire", "", "ALERTS{alertstate=\"firing\"}"],
    [
        "99 of 100 requests take at most",
        "seconds",
        "histogram_quantile(0.99, sum by (operation, le) (rate(volumed_operation_duration_seconds_bucket[10s])))",
    ],
    ["Flushes of the metadata", "a second", "rate(volumed_metadata_flushes_total[5s])"],
];

fn machine() -> Option<Machine> {
    let m = Machine::with(&format!("metrics_listen = \"{ADDRESS}\"\n"))?;
    if !tool::has("prometheus") || !tool::has("promtool") {
        skip("Prometheus is not installed");
        return None;
    }
    Some(m)
}

fn page() -> String {
    get(ADDRESS, "/metrics").unwrap()
}

/// What a program says about a text; it must have nothing to say.
fn is_content(program: &mut Command, input: &Path) {
    let output = program.stdin(fs::File::open(input).unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?}: {said}");
    println!("{program:?}: {}", said.trim());
}

/// Writes that reached a disk, and flushes (`Documentation/admin-guide/iostats.rst`).
fn written(disk: &str) -> [u64; 2] {
    let node = fs::canonicalize(disk).unwrap();
    let stat = Path::new("/sys/class/block").join(node.file_name().unwrap()).join("stat");
    let all: Vec<u64> =
        fs::read_to_string(stat).unwrap().split_whitespace().map(|word| word.parse().unwrap()).collect();
    [all[4], all.get(15).copied().unwrap_or(0)]
}

#[test]
fn promtool_has_nothing_to_say_and_a_scrape_costs_the_kernel_nothing() {
    let Some(m) = machine() else { return };
    m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1)]);
    m.ok(&["pool", "create", &m.of("tank"), "--size", "1G"]);
    m.ok(&["volume", "create", &m.of("pg"), "--size", "2G"]);
    m.ok(&["volume", "mount", &m.of("pg"), &m.path("srv")]);
    m.ok(&["snapshot", "create", &m.of("pg@one")]);
    m.refused(5, &["there is a volume"], &["volume", "create", &m.of("pg"), "--size", "3G"]);
    sleep(Duration::from_secs(6));
    let text = page();
    fs::write(m.path("page"), &text).unwrap();
    fs::write(m.path("volumed.rules.yml"), RULES).unwrap();
    fs::write(m.path("volumed_test.yml"), RULES_TEST).unwrap();
    let file = |name: &str| PathBuf::from(m.path(name));
    is_content(Command::new("promtool").args(["check", "metrics", "--extended"]), &file("page"));
    is_content(
        Command::new("promtool").args(["check", "rules", "--lint=all", "--lint-fatal", &m.path("volumed.rules.yml")]),
        &file("page"),
    );
    is_content(Command::new("promtool").args(["test", "rules", &m.path("volumed_test.yml")]), &file("page"));

    let vg = &m.vg;
    let own = |family: &str| sample(&text, &format!("{family}{{vg=\"{vg}\"}}"));
    assert!(own("volumed_vg_refresh_age_seconds") < Some(30.0), "{text}");
    assert_eq!((own("volumed_volumes_active"), own("volumed_volumes_mounted")), (Some(1.0), Some(1.0)), "{text}");
    assert_eq!(sample(&text, "volumed_operation_duration_seconds_count{operation=\"volume.mount\"}"), Some(1.0));
    assert_eq!(sample(&text, "volumed_operation_errors_total{code=\"exists\",operation=\"volume.create\"}"), Some(1.0));
    // A new file system writes its tables for a while, also between the two questions.
    let begin = Instant::now();
    loop {
        let used = sample(&page(), &format!("volumed_pool_used_bytes{{pool=\"tank\",vg=\"{vg}\"}}")).unwrap();
        let told = m.json(&["pool", "show", &m.of("tank")])["used_bytes"].as_f64().unwrap();
        if used > 0.0 && (used - told).abs() < 4e6 {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{used}, {told}");
        sleep(Duration::from_secs(1));
    }
    let resident = sample(&text, "process_resident_memory_bytes").unwrap();
    assert!((1e6..2e8).contains(&resident) && sum(&text, "process_open_fds") > 5.0, "{text}");
    assert!(sum(&text, "volumed_dm_calls_total") > 20.0, "{text}");

    // A hundred scrapes: no disk is written to, and the kernel is asked no more than the timers ask it in as long a time without one.
    m.ok(&["volume", "unmount", &m.of("pg")]);
    m.settled();
    // The pool commits what is left a second later. Something else may be written meanwhile, but not each time; a scrape would write each time.
    let mut rounds = 0;
    let (calls, took) = loop {
        sleep(Duration::from_secs(2));
        let (before, calls, begun) =
            ([written(m.disk(0)), written(m.disk(1))], sum(&page(), "volumed_dm_calls_total"), Instant::now());
        (0..100).for_each(|_| drop(page()));
        let (took, now) = (begun.elapsed(), [written(m.disk(0)), written(m.disk(1))]);
        rounds += 1;
        if now == before {
            break (calls, took);
        }
        assert!(rounds < 10, "a scrape writes: {before:?} before a hundred of them, {now:?} after");
    };
    let calls_after = sum(&page(), "volumed_dm_calls_total");
    sleep(took);
    let (asked, idle) = (calls_after - calls, sum(&page(), "volumed_dm_calls_total") - calls_after);
    assert!(asked < idle + 60.0, "{asked} calls of device-mapper in {took:?} of scrapes, {idle} without");
    println!(
        "100 scrapes took {took:?}; {asked} calls of device-mapper meanwhile, and {idle} in as long a time without"
    );
}

/// Waits until exactly this is so of the alerts that fire.
#[track_caller]
fn wait_for(m: &Machine, prometheus: &Prometheus, what: &str, is: impl Fn(&[String]) -> bool) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let firing = prometheus.firing();
        if is(&firing) {
            println!("{what} after {:?}: {firing:?}", begin.elapsed());
            return firing;
        }
        let about = || fs::read_to_string(m.path("prometheus.log")).unwrap_or_default();
        assert!(begin.elapsed() < PATIENCE, "{what} did not come: {firing:?}\n{}\n{}{}", page(), about(), m.log());
        sleep(Duration::from_millis(250));
    }
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[test]
fn a_prometheus_raises_the_alerts_while_a_pool_is_filled_and_takes_them_back() {
    let Some(mut m) = machine() else { return };
    m.ok(&["vg", "create", &m.vg, m.disk(0)]);
    let tank = m.of("tank");
    m.ok(&["pool", "create", &tank, "--size", "256M", "--grow-to", "1G", "--when-full", "error"]);
    m.ok(&["volume", "create", &m.of("pg"), "--size", "2G", "--fs", "none"]);
    m.ok(&["volume", "attach", &m.of("pg")]);
    let device = m.json(&["volume", "show", &m.of("pg")])["device"].as_str().unwrap().to_owned();
    // Minutes of patience become seconds; all else of the rules is as it is delivered.
    let quick = |line: &str| match line.trim_start().strip_prefix("for: ") {
        Some(_) => "        for: 3s".to_owned(),
        None => line.to_owned(),
    };
    let rules: String = RULES.lines().map(|line| quick(line) + "\n").collect();
    let prometheus = Prometheus::start(m.dir(), ADDRESS, &rules);
    let from = now();
    // Before its first scrape the daemon is as good as down.
    while prometheus.target()["health"] != "up" {
        assert!(now() - from < PATIENCE.as_secs(), "{}", prometheus.target());
        sleep(Duration::from_millis(100));
    }
    sleep(Duration::from_secs(4));
    wait_for(&m, &prometheus, "nothing to tell", |firing| firing.is_empty());

    // Some 30 MiB a second, until the pool takes no more; and somebody makes snapshots meanwhile.
    let block = vec![0x5a; 2 * MIB];
    let disk = fs::File::options().write(true).open(&device).unwrap();
    let begin = Instant::now();
    let mut at = 0;
    let full = loop {
        let wrote = disk.write_all_at(&block, at as u64).and_then(|()| disk.sync_data());
        at += block.len();
        if wrote.is_err() || at > 1200 * MIB {
            break wrote.is_err();
        }
        if at % (16 * MIB) == 0 {
            let name = m.of(&format!("pg@s{}", at / MIB));
            _ = m.run(&["snapshot", "create", &name]);
            let due = Duration::from_secs_f64(at as f64 / (30 * MIB) as f64);
            sleep(due.saturating_sub(begin.elapsed()));
        }
    };
    drop(disk);
    println!("{} MiB were written in {:?}", at / MIB, begin.elapsed());
    assert!(full, "the pool took more than it may have");
    let needed = ["VolumedPoolNearlyFull", "VolumedPoolStopped"];
    let all_of = |firing: &[String]| needed.iter().all(|name| firing.iter().any(|one| one == name));
    wait_for(&m, &prometheus, "a full pool", all_of);

    m.ok(&["pool", "extend", &tank, "--size", "+1G"]);
    wait_for(&m, &prometheus, "a pool with space", |firing| !firing.iter().any(|one| needed.contains(&one.as_str())));

    m.kill9();
    wait_for(&m, &prometheus, "a daemon that is gone", |firing| firing == ["VolumedDown"]);
    m.start_daemon();
    wait_for(&m, &prometheus, "a daemon that is back", |firing| !firing.contains(&"VolumedDown".to_owned()));

    let seen = (from, now());
    let panels = PANELS.map(|[title, unit, question]| {
        let answer = prometheus.range(question, seen);
        assert!(!answer["result"].as_array().unwrap().is_empty(), "{question} has no answer");
        json!({"title": title, "unit": unit, "question": question, "result": answer["result"]})
    });
    if let Some(file) = std::env::var_os("VOLUMED_TEST_PANELS") {
        let all = Value::Array(panels.into_iter().collect());
        fs::write(file, serde_json::to_string(&all).unwrap() + "\n").unwrap();
    }
}
