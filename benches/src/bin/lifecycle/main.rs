//! What making, snapshotting and deleting a volume takes: volumed over its socket, the bare ioctls, and LVM2, in one run on the
//! same kind of disk. As root on three disks that are destroyed; in the lab:
//!
//! `cargo build --release -p volumed -p volctl -p vol-benches --bin lifecycle` (with `--bin volumed --bin volctl`), then
//! `VOLUMED_TEST_DISKS=/dev/labdisk0,/dev/labdisk1,/dev/labdisk2 cargo xtask lab run --disk 3G --disk 3G --disk 3G
//! --bin target/release/lifecycle -- lifecycle`
//!
//! `LIFECYCLE_VOLUMES=0,1000,10000` says how many volumes there are already, `LIFECYCLE_SAMPLES=60` how often each thing is done
//! (LVM2: a tenth of that). Prints tables in Markdown: docs/performance.md.
#![forbid(unsafe_code)]

mod peers;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use peers::{Daemon, Disk, Ioctls, Lvm, Peer};

/// Times of one thing that one peer did.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    /// In milliseconds: the value below which this share of them lies.
    fn share(&self, share: f64) -> f64 {
        let mut all = self.0.clone();
        all.sort();
        let at = (all.len().saturating_sub(1)) as f64 * share;
        all.get(at.round() as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    fn median(&self) -> f64 {
        self.share(0.5)
    }

    fn text(&self) -> String {
        if self.0.is_empty() {
            return "-".to_owned();
        }
        format!("{:.2} ({:.2}-{:.2})", self.median(), self.share(0.1), self.share(0.9))
    }
}

/// What was measured at one number of volumes: by what, by whom.
type Table = BTreeMap<(usize, &'static str), BTreeMap<&'static str, Times>>;

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn main() {
    let disks = std::env::var("VOLUMED_TEST_DISKS").unwrap_or_default();
    let disks: Vec<&str> = disks.split(',').filter(|disk| !disk.is_empty()).collect();
    let [daemon, ioctls, lvm, ..] = disks[..] else {
        println!("skipped: VOLUMED_TEST_DISKS names fewer than three disks that may be destroyed");
        return;
    };
    let crowds = std::env::var("LIFECYCLE_VOLUMES").unwrap_or_else(|_| "0,1000,10000".to_owned());
    let crowds: Vec<usize> = crowds.split(',').map(|n| n.parse().expect("LIFECYCLE_VOLUMES are numbers")).collect();
    let samples = number("LIFECYCLE_SAMPLES", 60);
    peers::about();
    let mut daemon = Daemon::start(daemon);
    let mut ioctls = Ioctls::start(ioctls);
    let mut lvm = Lvm::start(lvm);
    for crowd in crowds {
        let begin = Instant::now();
        for peer in [&mut daemon as &mut dyn Peer, &mut ioctls, &mut lvm] {
            peer.fill(crowd);
        }
        eprintln!("{crowd} volumes are there after {:.0} s", begin.elapsed().as_secs_f32());
        let table = at_one_size(&mut daemon, &mut ioctls, &mut lvm, samples);
        print(crowd, &table);
        costs(crowd, &mut [&mut daemon, &mut ioctls, &mut lvm]);
        together(crowd, &mut daemon, &mut ioctls);
    }
    lvm.end();
    daemon.end();
    ioctls.end();
}

/// Waits until udev has looked at the devices of what was done before: on one processor that would be counted for what is done next.
fn at_rest() {
    vol_tests::tool::attempt("udevadm", &["settle", "--timeout=10"]);
}

/// Rounds of the peers alternate, so that what else the machine does concerns all of them.
fn at_one_size(daemon: &mut Daemon, ioctls: &mut Ioctls, lvm: &mut Lvm, samples: usize) -> Table {
    let mut table = Table::new();
    let mut add = |order: usize, what: &'static str, who: &'static str, time: Duration| {
        table.entry((order, what)).or_default().entry(who).or_default().0.push(time);
    };
    const ROUNDS: usize = 5;
    for _ in 0..ROUNDS {
        for (peer, count) in [
            (daemon as &mut dyn Peer, samples),
            (ioctls as &mut dyn Peer, samples),
            (lvm as &mut dyn Peer, samples / 10),
        ] {
            let who = peer.who();
            for n in 0..count.div_ceil(ROUNDS) {
                let name = format!("x{n}");
                at_rest();
                let (made, usable) = peer.create(&name);
                add(0, "create, acknowledged", who, made);
                at_rest();
                let at_once = peer.create_usable(&format!("{name}-at-once"));
                add(1, "create, to a node that can be opened", who, at_once.unwrap_or(made + usable));
                add(2, "the same, creation and attachment asked for one by one", who, made + usable);
                at_rest();
                if let Some(time) = peer.read(&name) {
                    add(7, "read what is known of one", who, time);
                }
                if at_once.is_some() {
                    peer.delete(&format!("{name}-at-once"));
                }
                at_rest();
                let (taken_down, deleted) = peer.delete(&name);
                add(5, "delete, acknowledged", who, deleted);
                add(6, "take down and delete", who, taken_down + deleted);
            }
            peer.tidy();
            let load = Load::on(&peer.base());
            for n in 0..count.div_ceil(ROUNDS) {
                add(3, "snapshot of a volume under 4 KiB random writes", who, peer.snapshot(&format!("s{n}")));
            }
            drop(load);
            for n in 0..count.div_ceil(ROUNDS) {
                peer.delete_snapshot(&format!("s{n}"));
            }
            peer.tidy();
        }
    }
    table
}

fn print(crowd: usize, table: &Table) {
    println!("\n### At {crowd} volumes\n");
    println!("| ms: median (10 % - 90 %) | volumed | bare ioctls | LVM2 | volumed / bare | LVM2 / volumed |");
    println!("|---|---|---|---|---|---|");
    for ((_, what), by) in table {
        let empty = Times::default();
        let [ours, bare, lvm] = ["volumed", "bare", "lvm2"].map(|who| by.get(who).unwrap_or(&empty));
        println!(
            "| {what} | {} | {} | {} | {:.2} | {:.0} |",
            ours.text(),
            bare.text(),
            lvm.text(),
            ours.median() / bare.median(),
            lvm.median() / ours.median()
        );
    }
}

/// What one operation costs the disk: counts hold on any machine.
fn costs(crowd: usize, peers: &mut [&mut dyn Peer; 3]) {
    println!("\n| what reaches the disk, each, at {crowd} volumes | writes | KiB | flushes |");
    println!("|---|---|---|---|");
    for peer in peers {
        let (disk, who) = (Disk::of(&peer.disk()), peer.who());
        let count = if who == "lvm2" { 2 } else { 20 };
        let row = |what: &str, peer: &mut dyn Peer, each: &mut dyn FnMut(&mut dyn Peer, &str)| {
            let before = disk.now();
            (0..count).for_each(|n| each(peer, &format!("c{n}")));
            let [writes, sectors, flushes] = disk.since(&before).map(|sum| sum as f64 / f64::from(count));
            println!("| {who}: {what} | {writes:.1} | {:.1} | {flushes:.1} |", sectors / 2.0);
        };
        row("create", *peer, &mut |peer, name| _ = peer.create(name));
        row("delete", *peer, &mut |peer, name| _ = peer.delete(name));
        peer.tidy();
        row("snapshot", *peer, &mut |peer, name| _ = peer.snapshot(name));
        (0..count).for_each(|n| peer.delete_snapshot(&format!("c{n}")));
        peer.tidy();
    }
}

/// Many clients at once.
fn together(crowd: usize, daemon: &mut Daemon, ioctls: &mut Ioctls) {
    const CLIENTS: usize = 64;
    const EACH: usize = 4;
    let mut rates = Vec::new();
    for peer in [daemon as &mut dyn Peer, ioctls as &mut dyn Peer] {
        let begin = Instant::now();
        peer.create_by_many(CLIENTS, EACH);
        rates.push((CLIENTS * EACH) as f64 / begin.elapsed().as_secs_f64());
        peer.delete_many(CLIENTS, EACH);
        peer.tidy();
    }
    println!(
        "\n{CLIENTS} clients at once, at {crowd} volumes: volumed makes {:.0} volumes a second (acknowledged), the bare messages {:.0}",
        rates[0], rates[1]
    );
}

/// fio on a device, until it is dropped.
struct Load(Child);

impl Load {
    fn on(node: &str) -> Load {
        let mut fio = Command::new("fio");
        fio.args([
            "--name=load",
            &format!("--filename={node}"),
            "--rw=randwrite",
            "--bs=4k",
            "--iodepth=1",
            "--direct=1",
        ]);
        fio.args(["--ioengine=psync", "--size=15m", "--time_based", "--runtime=600", "--allow_file_create=0"]);
        let child = fio.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("fio");
        std::thread::sleep(Duration::from_millis(1500));
        Load(child)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        _ = vol_tests::tool::signal(self.0.id(), "INT");
        _ = self.0.wait();
    }
}
