//! Who is compared: each makes a pool on a disk of its own, and volumes in it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vol_linux::Bare;
use vol_tests::{tool, wire};

/// Of each volume. Small, so that ten thousand of them are promised by one pool.
const SIZE: &str = "16M";
const SECTORS: u64 = (16 << 20) / 512;
const POOL_MIB: u64 = 2048;
/// Each thin id takes a block of a pool's metadata.
const METADATA_MIB: u64 = 256;

/// One way to make volumes.
pub trait Peer {
    fn who(&self) -> &'static str;
    fn disk(&self) -> String;
    /// The node of the volume that snapshots are taken of.
    fn base(&self) -> String;
    /// Until there are so many volumes, none of them active.
    fn fill(&mut self, crowd: usize);
    /// How long until it is durable and acknowledged, and how long from there until its node can be opened.
    fn create(&mut self, name: &str) -> (Duration, Duration);
    /// How long until the node of a new volume can be opened, for who asks for all of it at once.
    fn create_usable(&mut self, _name: &str) -> Option<Duration> {
        None
    }
    /// How long its device takes to be gone, and how long its deletion.
    fn delete(&mut self, name: &str) -> (Duration, Duration);
    fn snapshot(&mut self, name: &str) -> Duration;
    /// What a question costs: of what a change takes, this much is the way to the peer and back.
    fn read(&mut self, _name: &str) -> Option<Duration> {
        None
    }
    fn delete_snapshot(&mut self, name: &str);
    /// What nobody waits for is done now.
    fn tidy(&mut self) {}
    fn create_by_many(&mut self, clients: usize, each: usize);
    fn delete_many(&mut self, clients: usize, each: usize);
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = Instant::now();
    let done = work();
    (begin.elapsed(), done)
}

/// On what this was measured.
pub fn about() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("").trim_matches([' ', '\t', ':']);
    let cpus = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let lvm = tool::attempt("lvm", &["version"]).map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    let lvm = lvm.unwrap_or_default();
    let lvm = lvm.lines().next().unwrap_or("no LVM2").trim();
    println!("Kernel {}, {cpus} processor(s) {model}; {lvm}", read("/proc/sys/kernel/osrelease").trim());
}

/// The counters of a disk: writes, sectors written, flushes (`Documentation/admin-guide/iostats.rst`).
pub struct Disk(PathBuf);

impl Disk {
    pub fn of(node: &str) -> Disk {
        let node = fs::canonicalize(node).expect("the disk");
        Disk(Path::new("/sys/class/block").join(node.file_name().expect("a name")).join("stat"))
    }

    pub fn now(&self) -> [u64; 3] {
        let text = fs::read_to_string(&self.0).expect("its counters");
        let all: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        [4, 6, 15].map(|at| all.get(at).copied().unwrap_or(0))
    }

    pub fn since(&self, before: &[u64; 3]) -> [u64; 3] {
        // A commit that nobody waits for may be under way.
        std::thread::sleep(Duration::from_millis(50));
        let now = self.now();
        [0, 1, 2].map(|at| now[at] - before[at])
    }
}

/// volumed, by requests to its socket, one connection each.
pub struct Daemon {
    child: Child,
    disk: String,
    socket: PathBuf,
    _dir: tempfile::TempDir,
    base: String,
    crowd: usize,
}

impl Daemon {
    pub fn start(disk: &str) -> Daemon {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().display();
        let config = dir.path().join("volumed.toml");
        fs::write(&config, format!("run_dir = \"{at}/run\"\nstate_dir = \"{at}/state\"\nmetrics_listen = \"off\"\n"))
            .expect("a file");
        let log = File::create("/var/log/lifecycle-volumed.log").expect("a log");
        let mut command = Command::new("volumed");
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().expect("volumed");
        let socket = dir.path().join("run/control.sock");
        let mut daemon = Daemon { child, disk: disk.to_owned(), socket, _dir: dir, base: String::new(), crowd: 0 };
        let begin = Instant::now();
        while !matches!(wire::request(&daemon.socket, "GET", "status", ""), Ok((200, _))) {
            assert!(begin.elapsed() < Duration::from_secs(60), "volumed does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon.ask("POST", "vgs", &json!({"name": "ours", "devices": [disk], "wipe": true}));
        let pool =
            json!({"vg": "ours", "name": "tank", "size": format!("{POOL_MIB}M"), "overcommit_limit_percent": 10000});
        daemon.ask("POST", "pools", &pool);
        daemon.ask("POST", "pools/ours/tank/extend", &json!({"metadata": format!("{METADATA_MIB}M")}));
        daemon.create("base");
        let shown = daemon.ask("GET", "volumes/ours/base", &Value::Null);
        daemon.base = shown["device"].as_str().expect("a device").to_owned();
        daemon
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = wire::request(&self.socket, method, path, &body).expect("an answer");
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    fn create_only(&self, name: &str) {
        self.ask("POST", "volumes", &json!({"vg": "ours", "name": name, "size": SIZE, "fs": "none"}));
    }

    fn opened(answer: &Value) -> File {
        let device = answer["object"]["device"].as_str().expect("a device");
        File::open(device).expect("its node")
    }

    /// In so many threads, each its share of the names.
    fn by_threads(&self, threads: usize, names: &[String], each: impl Fn(&Daemon, &str) + Sync) {
        let each = &each;
        std::thread::scope(|scope| {
            for share in names.chunks(names.len().div_ceil(threads).max(1)) {
                scope.spawn(move || share.iter().for_each(|name| each(self, name)));
            }
        });
    }

    pub fn end(&mut self) {
        tool::signal(self.child.id(), "TERM");
        _ = self.child.wait();
    }
}

fn names(clients: usize, each: usize) -> Vec<String> {
    (0..clients * each).map(|n| format!("many{n}")).collect()
}

impl Peer for Daemon {
    fn who(&self) -> &'static str {
        "volumed"
    }
    fn disk(&self) -> String {
        self.disk.clone()
    }
    fn base(&self) -> String {
        self.base.clone()
    }
    fn fill(&mut self, crowd: usize) {
        let names: Vec<String> = (self.crowd..crowd).map(|n| format!("crowd{n}")).collect();
        self.by_threads(64, &names, Daemon::create_only);
        self.crowd = self.crowd.max(crowd);
    }
    fn create(&mut self, name: &str) -> (Duration, Duration) {
        let (made, ()) = timed(|| self.create_only(name));
        let (usable, _) =
            timed(|| Daemon::opened(&self.ask("POST", &format!("volumes/ours/{name}/attach"), &Value::Null)));
        (made, usable)
    }
    fn create_usable(&mut self, name: &str) -> Option<Duration> {
        let body = json!({"vg": "ours", "name": name, "size": SIZE, "fs": "none", "attach": true});
        Some(timed(|| Daemon::opened(&self.ask("POST", "volumes", &body))).0)
    }
    fn delete(&mut self, name: &str) -> (Duration, Duration) {
        let (down, _) = timed(|| self.ask("POST", &format!("volumes/ours/{name}/detach"), &Value::Null));
        let (deleted, _) = timed(|| self.ask("DELETE", &format!("volumes/ours/{name}"), &Value::Null));
        (down, deleted)
    }
    fn snapshot(&mut self, name: &str) -> Duration {
        timed(|| self.ask("POST", "snapshots", &json!({"vg": "ours", "volume": "base", "name": name}))).0
    }
    fn read(&mut self, name: &str) -> Option<Duration> {
        Some(timed(|| self.ask("GET", &format!("volumes/ours/{name}"), &Value::Null)).0)
    }
    fn delete_snapshot(&mut self, name: &str) {
        self.ask("DELETE", &format!("snapshots/ours/base/{name}?now=true"), &Value::Null);
    }
    fn tidy(&mut self) {
        self.ask("POST", "pools/ours/tank/purge", &Value::Null);
    }
    fn create_by_many(&mut self, clients: usize, each: usize) {
        self.by_threads(clients, &names(clients, each), Daemon::create_only);
    }
    fn delete_many(&mut self, clients: usize, each: usize) {
        self.by_threads(clients, &names(clients, each), |daemon, name| {
            daemon.ask("DELETE", &format!("volumes/ours/{name}?now=true"), &Value::Null);
        });
    }
}

const POOL: &str = "BENCH-pool";

/// The least that the kernel has to be told, with nothing written down anywhere.
pub struct Ioctls {
    dm: Bare,
    disk: String,
    pool: String,
    next: u32,
    crowd: usize,
    ids: std::collections::BTreeMap<String, u32>,
}

impl Ioctls {
    pub fn start(disk: &str) -> Ioctls {
        let dm = Bare::open().expect("device-mapper");
        let sectors = |mib: u64| mib * 2048;
        let mut file = File::options().write(true).open(disk).expect("the disk");
        file.write_all(&[0; 4096]).and_then(|()| file.sync_all()).expect("blank metadata");
        drop(file);
        let disk_sectors = vol_tests::disk::size(disk) / 512;
        assert!(disk_sectors >= sectors(METADATA_MIB + POOL_MIB), "{disk} is too small");
        let linear = |name: &str, len: u64, from: u64| {
            let node = dm.create(name, &format!("BENCH-{name}")).expect("a device");
            let uuid = format!("BENCH-{name}");
            dm.load(&uuid, len, "linear", &format!("{disk} {from}")).and_then(|()| dm.resume(&uuid)).expect("a table");
            node.display().to_string()
        };
        let metadata = linear("meta", sectors(METADATA_MIB), 0);
        let data = linear("data", sectors(POOL_MIB), sectors(METADATA_MIB));
        let pool = dm.create("bench-pool", POOL).expect("a pool").display().to_string();
        let table = format!("{metadata} {data} 128 0");
        dm.load(POOL, sectors(POOL_MIB), "thin-pool", &table).and_then(|()| dm.resume(POOL)).expect("a pool");
        let ids = std::collections::BTreeMap::new();
        let mut ioctls = Ioctls { dm, disk: disk.to_owned(), pool, next: 0, crowd: 0, ids };
        ioctls.create("base");
        ioctls
    }

    fn uuid(name: &str) -> String {
        format!("BENCH-{name}")
    }

    pub fn end(&mut self) {
        for uuid in ["BENCH-base", POOL, "BENCH-meta", "BENCH-data"] {
            self.remove(uuid);
        }
    }

    /// udev may look at it: that is no part of the floor, so what waits for it is another try.
    fn remove(&self, uuid: &str) {
        while let Err(error) = self.dm.remove(uuid) {
            assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy, "{uuid}: {error}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Peer for Ioctls {
    fn who(&self) -> &'static str {
        "bare"
    }
    fn disk(&self) -> String {
        self.disk.clone()
    }
    fn base(&self) -> String {
        let base = fs::canonicalize("/dev/mapper/base").ok();
        base.map_or_else(|| "/dev/mapper/base".to_owned(), |node| node.display().to_string())
    }
    fn fill(&mut self, crowd: usize) {
        for _ in self.crowd..crowd {
            self.next += 1;
            self.dm.message(POOL, &format!("create_thin {}", self.next)).expect("an id");
        }
        self.crowd = self.crowd.max(crowd);
    }
    fn create(&mut self, name: &str) -> (Duration, Duration) {
        self.next += 1;
        let (id, uuid) = (self.next, Self::uuid(name));
        self.ids.insert(name.to_owned(), id);
        let (made, ()) = timed(|| self.dm.message(POOL, &format!("create_thin {id}")).expect("an id"));
        let (usable, _) = timed(|| {
            let node = self.dm.create(name, &uuid).expect("a device");
            self.dm.load(&uuid, SECTORS, "thin", &format!("{} {id}", self.pool)).expect("a table");
            self.dm.resume(&uuid).expect("a live table");
            File::open(node).expect("its node")
        });
        (made, usable)
    }
    /// The removal belongs to it: without it the id cannot be deleted.
    fn delete(&mut self, name: &str) -> (Duration, Duration) {
        let id = self.ids.remove(name).expect("an id");
        let (deleted, ()) = timed(|| {
            self.remove(&Self::uuid(name));
            self.dm.message(POOL, &format!("delete {id}")).expect("deleted");
        });
        (Duration::ZERO, deleted)
    }
    fn snapshot(&mut self, name: &str) -> Duration {
        self.next += 1;
        let (id, base) = (self.next, self.ids["base"]);
        self.ids.insert(name.to_owned(), id);
        let uuid = Self::uuid("base");
        timed(|| {
            self.dm.suspend(&uuid).expect("suspended");
            let sent = self.dm.message(POOL, &format!("create_snap {id} {base}"));
            self.dm.resume(&uuid).expect("resumed");
            sent.expect("a snapshot");
        })
        .0
    }
    fn delete_snapshot(&mut self, name: &str) {
        let id = self.ids.remove(name).expect("an id");
        self.dm.message(POOL, &format!("delete {id}")).expect("deleted");
    }
    fn create_by_many(&mut self, clients: usize, each: usize) {
        let (first, dm) = (self.next + 1, &self.dm);
        std::thread::scope(|scope| {
            for client in 0..clients {
                scope.spawn(move || {
                    for n in 0..each {
                        let id = first + (client * each + n) as u32;
                        dm.message(POOL, &format!("create_thin {id}")).expect("an id");
                    }
                });
            }
        });
    }
    fn delete_many(&mut self, clients: usize, each: usize) {
        for _ in 0..clients * each {
            self.next += 1;
            self.dm.message(POOL, &format!("delete {}", self.next)).expect("deleted");
        }
    }
}

/// LVM2 as an administrator uses it: one process for each change.
pub struct Lvm {
    disk: String,
    crowd: usize,
}

fn lvm(args: &[&str]) -> Duration {
    timed(|| tool::run("lvm", args)).0
}

impl Lvm {
    pub fn start(disk: &str) -> Lvm {
        lvm(&["pvcreate", "-qq", "-ff", "-y", "--metadatasize", "64m", disk]);
        lvm(&["vgcreate", "-qq", "theirs", disk]);
        let (size, metadata) = (format!("{POOL_MIB}M"), format!("{METADATA_MIB}M"));
        lvm(&[
            "lvcreate",
            "-qq",
            "-y",
            "--type",
            "thin-pool",
            "-L",
            &size,
            "--poolmetadatasize",
            &metadata,
            "-n",
            "tank",
            "theirs",
        ]);
        lvm(&["lvcreate", "-qq", "-y", "-V", SIZE, "--thinpool", "theirs/tank", "-n", "base"]);
        Lvm { disk: disk.to_owned(), crowd: 0 }
    }

    pub fn end(&mut self) {
        tool::try_run("lvm", &["vgchange", "-qq", "-an", "theirs"]);
    }
}

impl Peer for Lvm {
    fn who(&self) -> &'static str {
        "lvm2"
    }
    fn disk(&self) -> String {
        self.disk.clone()
    }
    fn base(&self) -> String {
        fs::canonicalize("/dev/theirs/base").expect("a node").display().to_string()
    }
    /// By its own metadata, restored with so many volumes more in it: making each of them would take hours. The kernel's pool does not
    /// know them, and LVM2 does not look.
    fn fill(&mut self, crowd: usize) {
        if crowd <= self.crowd {
            return;
        }
        let file = "/tmp/lifecycle.vg";
        lvm(&["vgcfgbackup", "-qq", "-f", file, "theirs"]);
        let text = fs::read_to_string(file).expect("a backup");
        let begin = text.find("\n\t\tbase {").expect("the volume base");
        let end = begin + text[begin..].find("\n\t\t}").expect("its end") + 4;
        let model = &text[begin..end];
        let id = model.lines().find(|line| line.trim().starts_with("id = ")).expect("an id").to_owned();
        let device = model.lines().find(|line| line.trim().starts_with("device_id = ")).expect("a thin id").to_owned();
        let mut more = String::new();
        for n in self.crowd..crowd {
            let new = model
                .replace("\n\t\tbase {", &format!("\n\t\tcrowd{n} {{"))
                .replace(&id, &format!("\t\t\tid = \"{n:06}-crow-dcro-wdcr-owdc-rowd-crowdc\""))
                .replace(&device, &format!("\t\t\t\tdevice_id = {}", 1_000_000 + n));
            more.push_str(&new);
        }
        fs::write(file, format!("{}{more}{}", &text[..end], &text[end..])).expect("a file");
        lvm(&["vgcfgrestore", "-qq", "-y", "--force", "-f", file, "theirs"]);
        self.crowd = crowd;
    }
    fn create(&mut self, name: &str) -> (Duration, Duration) {
        let made = lvm(&["lvcreate", "-qq", "-y", "-V", SIZE, "--thinpool", "theirs/tank", "-n", name]);
        let (opened, _) = timed(|| File::open(format!("/dev/theirs/{name}")).expect("its node"));
        (made, opened)
    }
    fn delete(&mut self, name: &str) -> (Duration, Duration) {
        (Duration::ZERO, lvm(&["lvremove", "-qq", "-f", &format!("theirs/{name}")]))
    }
    fn snapshot(&mut self, name: &str) -> Duration {
        lvm(&["lvcreate", "-qq", "-y", "-s", "-n", name, "theirs/base"])
    }
    fn read(&mut self, name: &str) -> Option<Duration> {
        Some(lvm(&["lvs", "--noheadings", &format!("theirs/{name}")]))
    }
    fn delete_snapshot(&mut self, name: &str) {
        lvm(&["lvremove", "-qq", "-f", &format!("theirs/{name}")]);
    }
    fn create_by_many(&mut self, _: usize, _: usize) {}
    fn delete_many(&mut self, _: usize, _: usize) {}
}
