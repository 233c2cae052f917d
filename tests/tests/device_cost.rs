//! What a change costs on a real kernel, counted: calls that change something, flushes of the disk, bytes, processes. Counts hold on
//! every machine; docs/performance.md has the times.

use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use vol_benches::counters::{Count, differences, markdown};
use vol_benches::disk::Disk;
use vol_benches::marks::counters;
use vol_benches::table::OURS;
use vol_tests::dying::{End, Hand, Side};
use vol_tests::{Machine, wire};

/// How many volumes there are when it is counted for the second time.
const CROWD: usize = 1000;

/// Minor page faults of all children that a process has waited for (`proc_pid_stat(5)`, `cminflt`): no program can start without one.
fn faults_of_children(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(8).unwrap().parse().unwrap()
}

/// The children of a process that live.
fn children(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut all: Vec<String> = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    all.sort();
    all
}

struct Site {
    m: Machine,
    hand: Hand,
    socket: PathBuf,
}

impl Site {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = wire::request(&self.socket, method, path, &body).unwrap();
        assert!(status < 300, "{method} {path}: {status} {answer}{}", self.m.log());
        answer
    }

    fn create(&self, name: &str, fs: &str) {
        self.ask("POST", "volumes", &json!({"vg": self.m.vg, "name": name, "size": "64M", "fs": fs}));
    }

    /// What a request does, each effect by its kind, and that it starts no process.
    #[track_caller]
    fn effects(&mut self, what: &str, expected: &[&str], work: impl Fn(&Site)) {
        // Else the end of the change before is written some seconds later, which on a slow machine is now.
        self.m.settled();
        self.hand.order(0, Side::Before, End::Kill);
        let pid = self.m.pid();
        let before = (faults_of_children(pid), children(pid));
        work(self);
        assert_eq!((faults_of_children(pid), children(pid)), before, "{what} starts a process");
        let kind = |line: &String| -> String {
            let what = line.split_once(' ').unwrap().1;
            let words = if what.starts_with("dm message") { 3 } else { 2 };
            what.split(' ').take(words).collect::<Vec<_>>().join(" ")
        };
        let effects: Vec<String> = self.hand.effects().iter().map(kind).collect();
        assert_eq!(effects, expected, "{what}: {:?}", self.hand.effects());
    }
}

const COMMIT: &str = "durable write";

#[test]
fn requests_make_a_fixed_number_of_changes_and_start_no_process() {
    let Some(mut m) = Machine::with("undelete_window = \"1h\"\n") else { return };
    let hand = Hand::new(m.path("orders"));
    m.kill9();
    m.start_dying(hand.dir());
    m.ok(&["vg", "create", &m.vg, m.disk(0)]);
    m.ok(&["pool", "create", &m.of("tank"), "--size", "2G", "--overcommit-limit", "9000"]);
    m.ok(&["pool", "extend", &m.of("tank"), "--metadata", "64M"]);
    let socket = PathBuf::from(m.path("run/control.sock"));
    let mut site = Site { m, hand, socket };
    site.create("base", "none");
    let vg = site.m.vg.clone();
    let at = |rest: &str| format!("volumes/{vg}/{rest}");
    site.ask("POST", &at("base/attach"), &Value::Null);
    // The guard is one process for the daemon's life: the first snapshot starts it.
    site.ask("POST", "snapshots", &json!({"vg": vg, "volume": "base", "name": "first"}));
    // That it is done is written with the next commit.
    let thin = |message| [COMMIT, message, "dm message set_transaction_id"];
    for crowd in [0, CROWD] {
        let names: Vec<usize> = (0..crowd).collect();
        std::thread::scope(|scope| {
            for share in names.chunks(32) {
                let site = &site;
                scope.spawn(move || share.iter().for_each(|n| site.create(&format!("crowd{n}"), "none")));
            }
        });
        site.effects("create", &thin("dm message create_thin"), |site| site.create("v", "none"));
        site.effects("attach", &["dm create"], |site| _ = site.ask("POST", &at("v/attach"), &Value::Null));
        let snapshot = |name: String| json!({"vg": vg, "volume": "v", "name": name});
        site.effects("snapshot", &thin("thin snapshot"), |site| {
            site.ask("POST", "snapshots", &snapshot(format!("s{crowd}")));
        });
        // One look at the name of each device that is handed out, which are two here, however many volumes there are.
        for (from, to) in [("v", "v2"), ("v2", "v")] {
            site.effects("rename", &[COMMIT, "dm link", "dm link"], |site| {
                site.ask("POST", &at(&format!("{from}/rename")), &json!({"name": to}));
            });
        }
        site.effects("detach", &["dm remove"], |site| _ = site.ask("POST", &at("v/detach"), &Value::Null));
        site.effects("delete, kept", &[COMMIT], |site| _ = site.ask("DELETE", &at("v"), &Value::Null));
        site.create("w", "none");
        site.effects("delete for good", &thin("dm message delete"), |site| {
            _ = site.ask("DELETE", &at("w?now=true"), &Value::Null)
        });
    }
    // What does start a process is mkfs, and the witness sees it.
    let before = faults_of_children(site.m.pid());
    site.create("formatted", "ext4");
    assert!(faults_of_children(site.m.pid()) > before, "mkfs was not seen");
    assert_eq!(children(site.m.pid()).len(), 1, "the guard and no other");
    site.ask("POST", &at("base/detach"), &Value::Null);
}

/// The record, as `vol-bench` wrote it.
const ON_RECORD: &str = include_str!("../../docs/performance/counters.json");

#[test]
fn requests_cost_the_flushes_commits_ioctls_and_uevents_that_are_on_record() {
    // Its disks alone: the benchmark's daemon is another.
    let Some(mut m) = Machine::start() else { return };
    m.kill9();
    let on_record: Vec<Count> = serde_json::from_str(ON_RECORD).unwrap();
    let disk = Disk::of(m.disk(0)).unwrap();
    let volumes = [0, CROWD];
    let found = counters::of_volumed(&disk, &volumes, &on_record).unwrap();
    println!("{}", markdown(&found));
    let wrong = differences(&on_record, &found, OURS);
    assert!(
        wrong.is_empty(),
        "operations cost other than docs/performance/counters.json says:\n{}\n\
         Is that meant, then `cargo xtask bench counters --runner uml --publish` renews it, and docs/performance.md may have to be read again.",
        wrong.join("\n")
    );
    // Whatever is on record: what follows from the design holds at any number of volumes.
    let of = |what: &str, volumes: usize, name: &str| {
        let one = found.iter().find(|one| one.what == what && one.volumes == volumes);
        one.expect(what).counts.get(name).copied().unwrap_or(0)
    };
    for volumes in volumes {
        // One commit of a block; the pool's two: data, metadata, superblock each, as the kernel does for a bare message.
        for what in ["create", "snapshot of an active volume", "delete for good"] {
            assert_eq!((of(what, volumes, "commits"), of(what, volumes, "flushes")), (1, 7), "{what} at {volumes}");
            assert!(of(what, volumes, "bytes") <= 64 << 10, "{what} at {volumes}");
        }
        let delete = ["writes", "bytes", "flushes"].map(|name| of("delete", volumes, name));
        assert_eq!(delete[2], 1, "an acknowledged deletion at {volumes} volumes");
        // A block; what is written meanwhile besides is not told apart.
        assert!(delete[0] <= 2 && delete[1] <= 8192, "an acknowledged deletion at {volumes} volumes: {delete:?}");
        for what in ["activate", "deactivate", "read"] {
            assert_eq!(of(what, volumes, "commits"), 0, "{what} at {volumes}");
        }
    }
}
