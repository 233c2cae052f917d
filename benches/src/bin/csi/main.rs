//! From a request for a volume to files in it: volumed over its CSI socket (`CreateVolume`, `NodeStageVolume`, `NodePublishVolume`), and
//! beside it `lvcreate -V`, `mkfs.ext4` and `mount`, in one run on the same kind of disk. As root on two disks that are destroyed:
//!
//! `cargo build --release -p volumed -p volctl -p vol-benches --bin volumed --bin volctl --bin csi`, then
//! `VOLUMED_TEST_DISKS=/dev/labdisk0,/dev/labdisk1 cargo xtask lab run --no-build --disk 8G --disk 8G --bin target/release/csi -- csi`
//!
//! `CSI_SAMPLES=40` says how often one is made by itself (LVM2: a quarter of that), `CSI_AT_ONCE=100` how many are asked for at once. Prints
//! tables in Markdown: docs/performance.md.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use vol_csi::{Mode, csi::VolumeCapability};
use vol_tests::csi::{Orchestrator, mounted};
use vol_tests::{tool, wire};

const SIZE: i64 = 1 << 30;
const KUBELET: &str = "/tmp/bench-kubelet";

/// One way to a directory with a file system of its own in it.
trait Peer: Sync {
    fn who(&self) -> &'static str;
    /// Until files can be written there.
    fn make(&self, name: &str);
    fn unmake(&self, name: &str);
}

struct Daemon {
    child: Child,
    socket: String,
    _dir: tempfile::TempDir,
}

fn capability() -> VolumeCapability {
    mounted("ext4", &[], Mode::SingleNodeMultiWriter)
}

impl Daemon {
    fn start(disk: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().display();
        let config = dir.path().join("volumed.toml");
        let text = format!(
            "run_dir = \"{at}/run\"\nstate_dir = \"{at}/state\"\nmetrics_listen = \"off\"\ncsi.kubelet_dir = \"{KUBELET}\"\n"
        );
        fs::write(&config, text).expect("a file");
        let log = File::create("/var/log/csi-volumed.log").expect("a log");
        let mut command = Command::new("volumed");
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().expect("volumed");
        let control = dir.path().join("run/control.sock");
        let begin = Instant::now();
        while !matches!(wire::request(&control, "GET", "status", ""), Ok((200, _))) {
            assert!(begin.elapsed() < Duration::from_secs(60), "volumed does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        for (path, body) in [
            ("vgs", format!("{{\"name\": \"ours\", \"devices\": [\"{disk}\"], \"wipe\": true}}")),
            (
                "pools",
                "{\"vg\": \"ours\", \"name\": \"tank\", \"size\": \"6G\", \"overcommit_limit_percent\": 10000}".into(),
            ),
        ] {
            let (status, answer) = wire::request(&control, "POST", path, &body).expect("an answer");
            assert!(status < 300, "{path}: {status} {answer}");
        }
        Self { child, socket: format!("{at}/run/csi.sock"), _dir: dir }
    }

    fn orchestrator(&self) -> Orchestrator {
        Orchestrator::new(&self.socket, KUBELET)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        tool::signal(self.child.id(), "TERM");
        _ = self.child.wait();
    }
}

impl Peer for Daemon {
    fn who(&self) -> &'static str {
        "volumed"
    }
    fn make(&self, name: &str) {
        let k = self.orchestrator();
        k.prepare(name);
        let (id, _) = k.create(name, SIZE, &capability()).expect("a volume");
        k.stage(&id, &capability()).expect("staged");
        k.publish(&id, name, false, &capability()).expect("published");
        File::create(Path::new(&k.target(name)).join("file")).expect("a file in it");
    }
    fn unmake(&self, name: &str) {
        let k = self.orchestrator();
        let (id, _) = k.create(name, SIZE, &capability()).expect("the same");
        k.unpublish(&id, name).expect("unpublished");
        k.unstage(&id).expect("unstaged");
        k.delete(&id).expect("deleted");
    }
}

struct Lvm;

impl Lvm {
    fn start(disk: &str) -> Self {
        tool::run("lvm", &["pvcreate", "-qq", "-ff", "-y", disk]);
        tool::run("lvm", &["vgcreate", "-qq", "theirs", disk]);
        let pool = ["lvcreate", "-qq", "-y", "--type", "thin-pool", "-L", "6G", "-n", "tank", "theirs"];
        tool::run("lvm", &pool);
        Self
    }
}

impl Peer for Lvm {
    fn who(&self) -> &'static str {
        "LVM2"
    }
    fn make(&self, name: &str) {
        tool::run("lvm", &["lvcreate", "-qq", "-y", "-V", "1G", "--thinpool", "theirs/tank", "-n", name]);
        let (device, at) = (format!("/dev/theirs/{name}"), format!("/tmp/bench-lvm/{name}"));
        tool::run("mkfs.ext4", &["-q", &device]);
        fs::create_dir_all(&at).expect("a directory");
        tool::run("mount", &[&device, &at]);
        File::create(Path::new(&at).join("file")).expect("a file in it");
    }
    fn unmake(&self, name: &str) {
        tool::run("umount", &[&format!("/tmp/bench-lvm/{name}")]);
        tool::run("lvm", &["lvremove", "-qq", "-f", &format!("theirs/{name}")]);
    }
}

/// In milliseconds: the value below which this share of them lies.
fn share(all: &mut [Duration], share: f64) -> f64 {
    all.sort();
    let at = (all.len().saturating_sub(1)) as f64 * share;
    all.get(at.round() as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

/// p50 and p99 of what each of them waits, and how long it takes until all are there.
fn at_once(peer: &dyn Peer, count: usize) -> [f64; 3] {
    let start = Barrier::new(count + 1);
    let names: Vec<String> = (0..count).map(|n| format!("many{n}")).collect();
    let (mut times, all) = std::thread::scope(|scope| {
        let waiting: Vec<_> = names
            .iter()
            .map(|name| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let begin = Instant::now();
                    peer.make(name);
                    begin.elapsed()
                })
            })
            .collect();
        start.wait();
        let begin = Instant::now();
        let times: Vec<Duration> = waiting.into_iter().map(|one| one.join().expect("made")).collect();
        (times, begin.elapsed())
    });
    names.iter().for_each(|name| peer.unmake(name));
    [share(&mut times, 0.5), share(&mut times, 0.99), all.as_secs_f64() * 1e3]
}

fn one_by_one(peer: &dyn Peer, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for n in 0..count {
        // On one processor what udev has to do for the one before would be counted for this one.
        tool::attempt("udevadm", &["settle", "--timeout=10"]);
        let begin = Instant::now();
        peer.make(&format!("one{n}"));
        times.push(begin.elapsed());
        peer.unmake(&format!("one{n}"));
    }
    times
}

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn main() {
    let disks = std::env::var("VOLUMED_TEST_DISKS").unwrap_or_default();
    let disks: Vec<&str> = disks.split(',').filter(|disk| !disk.is_empty()).collect();
    let [daemon, lvm, ..] = disks[..] else {
        println!("skipped: VOLUMED_TEST_DISKS names fewer than two disks that may be destroyed");
        return;
    };
    let (samples, crowd) = (number("CSI_SAMPLES", 40), number("CSI_AT_ONCE", 100));
    let (daemon, lvm) = (Daemon::start(daemon), Lvm::start(lvm));
    // Rounds alternate, so that what else the machine does concerns both.
    const ROUNDS: usize = 4;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.extend(one_by_one(&daemon, samples.div_ceil(ROUNDS)));
        theirs.extend(one_by_one(&lvm, samples.div_ceil(4 * ROUNDS)));
    }
    println!("| ms, from asking for 1 GiB to a file in it | {} | {} | ratio |", daemon.who(), lvm.who());
    println!("|---|---|---|---|");
    let row = |what: &str, ours: f64, theirs: f64| {
        println!("| {what} | {ours:.0} | {theirs:.0} | {:.1} |", theirs / ours);
    };
    for (what, part) in [("one, p50", 0.5), ("one, p99", 0.99)] {
        row(what, share(&mut ours, part), share(&mut theirs, part));
    }
    let (ours, theirs) = (at_once(&daemon, crowd), at_once(&lvm, crowd));
    for (what, (ours, theirs)) in ["p50", "p99", "until all are there"].iter().zip(ours.into_iter().zip(theirs)) {
        row(&format!("{crowd} at once, {what}"), ours, theirs);
    }
}
