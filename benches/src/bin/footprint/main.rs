//! What the daemon takes of a machine that it has nothing to do on: memory, wake-ups, processor time, the time of a start and of a scrape, at
//! several numbers of volumes. As root, on disks that are destroyed (of four that the lab has to have); in the lab:
//!
//! `cargo build --release -p volumed -p volctl -p vol-benches --bin volumed --bin volctl --bin footprint`, then
//! `VOLUMED_TEST_DISKS=/dev/labdisk0,/dev/labdisk1,/dev/labdisk2,/dev/labdisk3
//! cargo xtask lab run --no-build --disk 8G --disk 1G --disk 1G --disk 1G --bin target/release/footprint -- footprint`
//!
//! `FOOTPRINT_VOLUMES=0,1000,10000` are the numbers of volumes, `FOOTPRINT_ATTACHED=1000` how many of the last have a device in one more row,
//! `FOOTPRINT_IDLE=30` for how many seconds the daemon is watched. Prints tables in Markdown: docs/performance.md.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vol_tests::scrape::{get, sample};
use vol_tests::{Machine, wire};

const ADDRESS: &str = "127.0.0.1:19709";
/// Clients that make volumes side by side.
const CLIENTS: usize = 32;
const SCRAPES: usize = 50;

fn numbers(variable: &str, usual: &str) -> Vec<usize> {
    let text = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
    text.split(',').filter_map(|word| word.trim().parse().ok()).collect()
}

fn main() {
    let Some(mut m) = Machine::with(&format!("metrics_listen = \"{ADDRESS}\"\nvolume_metrics = \"all\"\n")) else {
        return;
    };
    let idle = Duration::from_secs(numbers("FOOTPRINT_IDLE", "30").first().map_or(30, |seconds| *seconds as u64));
    let mut sizes = numbers("FOOTPRINT_VOLUMES", "0,1000,10000");
    sizes.sort_unstable();
    println!(
        "| volumes | start: to the first answer | resident, after a start | of that, heap and stacks | after making them | threads |"
    );
    println!("|---|---|---|---|---|---|");
    let mut later = vec![
        "| volumes | wake-ups a second | processor, idle | scrape: median (most) | of bytes | processor, all others meanwhile |"
            .to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    let mut threads = Vec::new();
    m.ok(&["vg", "create", &m.vg, m.disk(0)]);
    let mut made = 0;
    for size in sizes {
        if size > 0 && made == 0 {
            m.ok(&["pool", "create", &m.of("tank"), "--size", "80%FREE", "--overcommit-limit", "100000"]);
            // Each volume takes a block of the pool's own metadata.
            m.ok(&["pool", "extend", &m.of("tank"), "--metadata", "+128M"]);
        }
        make(&m, made..size);
        made = size;
        let busy = memory(m.pid());
        let (started, own) = start(&mut m);
        let fresh = memory(m.pid());
        println!(
            "| {size} | {started:.0} ms ({own:.0} by its own clock) | {} | {} | {} | {} |",
            mib(fresh["Rss"]),
            mib(fresh["Anonymous"]),
            mib(busy["Rss"]),
            tasks(m.pid()).len()
        );
        later.push(row(&size.to_string(), &m, idle, &mut threads));
    }
    let attached = numbers("FOOTPRINT_ATTACHED", "1000").first().copied().unwrap_or(0).min(made);
    if attached > 0 {
        let socket = PathBuf::from(m.path("run/control.sock"));
        side_by_side(0..attached, |n| {
            ask(&socket, "POST", &format!("volumes/{}/v{n}/attach", m.vg), "");
        });
        let what = format!("{made}, {attached} of them just attached");
        later.push(row(&what, &m, Duration::from_secs(2), &mut threads));
        // udev looks at each device, one processor's work for long.
        m.settled();
        sleep(Duration::from_secs(6));
        later.push(row(&format!("{made}, {attached} of them with a device"), &m, idle, &mut threads));
    }
    println!("\n{}\n\n{}", later.join("\n"), threads.join("\n"));
}

/// So many volumes more.
fn make(m: &Machine, which: std::ops::Range<usize>) {
    let socket = PathBuf::from(m.path("run/control.sock"));
    side_by_side(which, |n| {
        let wanted = json!({"vg": m.vg, "name": format!("v{n}"), "size": "64M", "fs": "none"});
        ask(&socket, "POST", "volumes", &wanted.to_string());
    });
    m.settled();
}

fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Value {
    let (status, answer) = wire::request(socket, method, path, body).unwrap();
    assert!(status < 300, "{method} {path}: {status} {answer}");
    answer
}

fn side_by_side(which: std::ops::Range<usize>, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(which.start);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= which.end {
                        break;
                    }
                    work(n);
                }
            });
        }
    });
}

/// Milliseconds from the start of the program to its first answer that is no refusal, and from its sockets to being ready.
fn start(m: &mut Machine) -> (f64, f64) {
    m.stop_daemon();
    let begin = Instant::now();
    m.start_daemon();
    let took = begin.elapsed().as_secs_f64() * 1e3;
    let own = sample(&get(ADDRESS, "/metrics").unwrap(), "volumed_start_seconds").unwrap_or(f64::NAN) * 1e3;
    // A first look at everything is over, and what it took is given back.
    sleep(Duration::from_secs(12));
    (took, own)
}

/// `proc_pid_smaps(5)`, of the whole process, in bytes.
fn memory(pid: u32) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse::<u64>().ok()? << 10))
    };
    text.lines().filter_map(line).collect()
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

/// Of each thread: its name and how often it began to run.
fn tasks(pid: u32) -> BTreeMap<u32, (String, u64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("status")) else { continue };
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let switches = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
        let count = switches.iter().filter_map(|key| value(key)?.parse::<u64>().ok()).sum();
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            all.insert(id, (value("Name:").unwrap_or_default().to_owned(), count));
        }
    }
    all
}

/// What all processors of the machine were busy with, in seconds (`proc_stat(5)`).
fn busy() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> =
        stat.lines().next().unwrap().split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
    // Without `idle` and `iowait`.
    fields.iter().enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks / 100.0).sum()
}

/// User and system time, in seconds.
fn processor(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = [fields[11], fields[12]].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

fn row(what: &str, m: &Machine, idle: Duration, threads: &mut Vec<String>) -> String {
    let pid = m.pid();
    let (before, worked) = (tasks(pid), processor(pid));
    sleep(idle);
    let (after, worked) = (tasks(pid), processor(pid) - worked);
    let seconds = idle.as_secs_f64();
    let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
    for (id, (name, count)) in after {
        *by_name.entry(name).or_default() += count - before.get(&id).map_or(0, |(_, count)| *count).min(count);
    }
    let total: u64 = by_name.values().sum();
    let shown: Vec<_> =
        by_name.iter().filter(|(_, n)| **n > 0).map(|(name, n)| format!("{name} {:.2}", *n as f64 / seconds)).collect();
    threads.push(format!("{what}: wake-ups a second by thread: {}", shown.join(", ")));
    let mut bytes = 0;
    let others = || busy() - processor(pid) - processor(std::process::id());
    let (began, others_before) = (Instant::now(), others());
    let mut times: Vec<f64> = (0..SCRAPES)
        .map(|_| {
            let begin = Instant::now();
            bytes = get(ADDRESS, "/metrics").unwrap().len();
            begin.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let others = 100.0 * (others() - others_before) / began.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    format!(
        "| {what} | {:.2} | {:.2} % | {:.1} ms ({:.1}) | {bytes} | {others:.0} % |",
        total as f64 / seconds,
        100.0 * worked / seconds,
        times[SCRAPES / 2],
        times[SCRAPES - 1]
    )
}
