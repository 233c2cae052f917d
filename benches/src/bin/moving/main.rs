//! What wiping and copying a volume takes: volumed (`volume create --thick`, `volume clone`) beside `dd`, `blkdiscard -z` and `fio`, in
//! one run on two disks of one kind, which are destroyed (of four that the lab has to have). As root; in the lab:
//!
//! `cargo build --release -p volumed -p volctl -p vol-benches --bin volumed --bin volctl --bin moving`, then
//! `VOLUMED_TEST_DISKS=/dev/labdisk0,/dev/labdisk1,/dev/labdisk2,/dev/labdisk3
//! cargo xtask lab run --no-build --disk 3G --disk 3G --disk 3G --disk 3G --bin target/release/moving -- moving`
//!
//! `MOVING_MIB=512` says how much is moved each time, `MOVING_ROUNDS=5` how often. Prints a table in Markdown: docs/performance.md.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use vol_tests::{Machine, tool};

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// One way to do something, and how long it took each time.
struct Way<'a> {
    what: &'static str,
    who: &'static str,
    work: Box<dyn Fn() + 'a>,
    /// What has to be undone before the next round, which is not timed.
    after: Box<dyn Fn() + 'a>,
    times: Vec<Duration>,
}

impl Way<'_> {
    fn median(&self) -> f64 {
        let mut all = self.times.clone();
        all.sort();
        all.get(all.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
    }
}

fn main() {
    let (mib, rounds) = (number("MOVING_MIB", 512), number("MOVING_ROUNDS", 5));
    // As fast as it goes: nobody else uses these disks.
    let Some(m) = Machine::with("move_share = 100\n") else {
        println!("skipped: VOLUMED_TEST_DISKS names no disks that may be destroyed");
        return;
    };
    m.ok(&["vg", "create", &m.vg, m.disk(0)]);
    let (size, count) = (format!("{mib}M"), format!("count={mib}"));
    let other = m.disk(1);
    let (to, from) = (format!("of={other}"), format!("if={other}"));
    let (seek, len) = (format!("seek={mib}"), (mib << 20).to_string());
    m.ok(&["volume", "create", &m.of("source"), "--thick", "--size", &size, "--fs", "none"]);
    let remove = |name: &str| {
        let path = m.of(name);
        m.ok(&["volume", "delete", &path, "--now", "--yes"]);
    };
    let fio_file = format!("--filename={other}");
    let fio_size = format!("--size={size}");
    let nothing = || Box::new(|| ());
    let mut ways = [
        Way {
            what: "wipe",
            who: "volumed",
            work: Box::new(|| {
                _ = m.ok(&["volume", "create", &m.of("new"), "--thick", "--size", &size, "--fs", "none"])
            }),
            after: Box::new(|| remove("new")),
            times: Vec::new(),
        },
        Way {
            what: "wipe",
            who: "dd",
            work: Box::new(|| {
                _ = tool::run(
                    "dd",
                    &["if=/dev/zero", &to, "bs=1M", &count, "oflag=direct", "conv=fsync", "status=none"],
                );
            }),
            after: nothing(),
            times: Vec::new(),
        },
        Way {
            what: "wipe",
            who: "blkdiscard -z",
            work: Box::new(|| _ = tool::run("blkdiscard", &["-f", "-z", "-l", &len, other])),
            after: nothing(),
            times: Vec::new(),
        },
        Way {
            what: "wipe",
            who: "fio",
            work: Box::new(|| {
                let args = [
                    "--name=wipe",
                    "--rw=write",
                    "--bs=1M",
                    "--iodepth=4",
                    "--ioengine=io_uring",
                    "--direct=1",
                    "--zero_buffers",
                    "--end_fsync=1",
                    "--output-format=terse",
                ];
                _ = tool::run("fio", &[&args[..], &[&fio_file, &fio_size]].concat());
            }),
            after: nothing(),
            times: Vec::new(),
        },
        Way {
            what: "copy",
            who: "volumed",
            work: Box::new(|| _ = m.ok(&["volume", "clone", &m.of("source"), &m.of("copy")])),
            after: Box::new(|| remove("copy")),
            times: Vec::new(),
        },
        Way {
            what: "copy",
            who: "dd",
            work: Box::new(|| {
                let args = [&from, &to, &seek, &count, "bs=1M", "iflag=direct", "oflag=direct", "conv=fsync"];
                _ = tool::run("dd", &[&args[..], &["status=none"]].concat());
            }),
            after: nothing(),
            times: Vec::new(),
        },
    ];
    // They take turns, so that what else the machine does concerns all of them.
    for round in 0..=rounds {
        for way in &mut ways {
            let begin = Instant::now();
            (way.work)();
            // The first round touches disks that were never written.
            if round > 0 {
                way.times.push(begin.elapsed());
            }
            (way.after)();
        }
    }
    println!("{mib} MiB each time, {rounds} times; with the start of the program that asks or does it.\n");
    println!("| what | by | s: median (least - most) | MiB/s | volumed takes, of that |");
    println!("|---|---|---|---|---|");
    for way in &ways {
        let ours = ways.iter().find(|other| other.what == way.what).map_or(f64::NAN, Way::median);
        let secs = |time: Option<&Duration>| time.map_or(f64::NAN, Duration::as_secs_f64);
        let (least, most) = (secs(way.times.iter().min()), secs(way.times.iter().max()));
        println!(
            "| {} | {} | {:.2} ({least:.2} - {most:.2}) | {:.0} | {:.2} |",
            way.what,
            way.who,
            way.median(),
            mib as f64 / way.median(),
            ours / way.median()
        );
    }
    let methods: Vec<String> = m.log().lines().filter(|line| line.contains("wipe")).map(str::to_owned).collect();
    eprintln!("{}", methods.join("\n"));
}
