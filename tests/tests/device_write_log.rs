//! What the disks had at every flush (dm-log-writes): the writes of a run are put on other disks one after the other, and at each
//! point where a power cut may have fallen a daemon is started on a copy-on-write image of them. What was acknowledged by then is there,
//! what was not is there wholly or not at all, file systems are clean.

use serde_json::{Value, json};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vol_tests::kill::{self, Site};
use vol_tests::write_log::WriteLog;
use vol_tests::{Machine, disk, kernel, skip, tool};

const MIB: u64 = 2048;
/// How many points are looked at unless VOLUMED_TEST_EVERY_POINT is set: evenly spaced.
const POINTS: usize = 60;
/// How long something that looks at a device may hold up the recovery.
const RECOVERED: Duration = Duration::from_secs(120);

/// A part of the first disk that has a log of its own, and the PVs in it; all in sectors.
struct Region {
    start: u64,
    len: u64,
    pvs: &'static [(u64, u64)],
}

/// What was acknowledged when, and what is to be true from then on.
struct Step {
    world: Value,
    /// Volume or snapshot (`v`, `v/s`), file, content; a file that is being rewritten is in neither state.
    files: Vec<(&'static str, String, String)>,
}

struct Rig {
    machine: Machine,
    site: Site,
    regions: &'static [Region],
    steps: Vec<Step>,
    files: Vec<(&'static str, String, String)>,
}

impl Rig {
    fn new(regions: &'static [Region]) -> Option<Rig> {
        let mut machine = Machine::start()?;
        for module in ["dm-log-writes", "dm-snapshot"] {
            tool::try_run("modprobe", &[module]);
        }
        let targets = tool::run("dmsetup", &["targets"]);
        if !targets.contains("log-writes") || !targets.contains("snapshot ") {
            skip("the kernel has no dm-log-writes, or no dm-snapshot");
            return None;
        }
        machine.kill9();
        let count = regions.iter().map(|region| region.pvs.len()).sum::<usize>();
        let site = Site {
            socket: PathBuf::from(machine.path("run/control.sock")),
            vg: machine.vg.clone(),
            disks: (0..count).map(|index| format!("/dev/mapper/vt-pv{index}")).collect(),
            dir: machine.dir().join("at"),
        };
        std::fs::create_dir(&site.dir).unwrap();
        let rig = Rig { machine, site, regions, steps: Vec::new(), files: Vec::new() };
        for node in [0, 2] {
            for (start, len) in rig.pvs() {
                disk::blank_pv(rig.machine.disk(node), start * 512, len * 512);
            }
        }
        Some(rig)
    }

    /// Start and length of each PV on the disk.
    fn pvs(&self) -> Vec<(u64, u64)> {
        let all = self.regions.iter().flat_map(|region| region.pvs.iter().map(|(at, len)| (region.start + at, *len)));
        all.collect()
    }

    fn log_base(index: usize) -> u64 {
        index as u64 * 1024 * MIB
    }

    /// The logged devices, and the PVs on them.
    fn log_writes(&self) {
        let (data, log) = (self.machine.disk(0), self.machine.disk(1));
        let mut pv = 0;
        for (index, Region { start, len, pvs }) in self.regions.iter().enumerate() {
            let create = |name: &str, table: &str| drop(tool::run("dmsetup", &["create", name, "--table", table]));
            create(&format!("vt-log{index}"), &format!("0 {} linear {log} {}", 1024 * MIB, Rig::log_base(index)));
            create(&format!("vt-base{index}"), &format!("0 {len} linear {data} {start}"));
            let table = format!("0 {len} log-writes /dev/mapper/vt-base{index} /dev/mapper/vt-log{index}");
            create(&format!("vt-logged{index}"), &table);
            for (at, len) in *pvs {
                create(&format!("vt-pv{pv}"), &format!("0 {len} linear /dev/mapper/vt-logged{index} {at}"));
                pv += 1;
            }
        }
        tool::settle();
    }

    /// Marks all logs: what is durable now is acknowledged.
    fn acknowledge(&mut self) {
        self.steps.push(Step { world: world(&self.site), files: self.files.clone() });
        let mark = format!("step-{}", self.steps.len() - 1);
        for index in 0..self.regions.len() {
            tool::run("dmsetup", &["message", &format!("vt-logged{index}"), "0", "mark", &mark]);
        }
    }

    fn change(&mut self, request: &str) {
        self.site.ok(request);
        self.acknowledge();
    }

    /// Writes a file of `v`, which is mounted at `DIR/v`, and waits until it is on the disk.
    fn write(&mut self, name: &str, content: &str) {
        // While it is rewritten it is neither the old nor the new.
        self.files.retain(|(volume, file, _)| (*volume, file.as_str()) != ("v", name));
        if let Some(step) = self.steps.last_mut() {
            step.files.retain(|(volume, file, _)| (*volume, file.as_str()) != ("v", name));
        }
        let path = self.site.dir.join("v").join(name);
        std::fs::write(&path, content).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
        self.files.push(("v", name.to_owned(), content.to_owned()));
        self.acknowledge();
    }

    /// A snapshot holds what the volume holds now.
    fn snapshot(&mut self, name: &'static str, path: &'static str) {
        self.site.ok(&format!(r#"POST snapshots {{"vg":"VG","volume":"v","name":"{name}"}}"#));
        let held: Vec<_> = self.files.iter().filter(|file| file.0 == "v").cloned().collect();
        self.files.extend(held.into_iter().map(|(_, file, content)| (path, file, content)));
        self.acknowledge();
    }

    fn forget(&mut self, volume: &str, request: &str) {
        self.files.retain(|file| file.0 != volume);
        if let Some(step) = self.steps.last_mut() {
            step.files.retain(|file| file.0 != volume);
        }
        self.change(request);
    }

    /// The daemon goes, and the devices: the logs are complete.
    fn end(&mut self) {
        self.down();
        let names: Vec<String> = (0..self.regions.len())
            .flat_map(|index| ["logged", "base", "log"].map(|kind| format!("vt-{kind}{index}")))
            .collect();
        remove(&names);
        tool::run("blockdev", &["--flushbufs", self.machine.disk(1)]);
    }

    /// Kills the daemon, and takes down all that stands on the PVs, and them.
    fn down(&mut self) {
        self.machine.kill9();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        for at in mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|at| at.starts_with(self.site.dir.to_str().unwrap()))
        {
            tool::run("umount", &[at]);
        }
        let mut uuids = kernel::our_uuids();
        // Volumes, pools, and what those stand on.
        uuids.sort_by_key(|uuid| (uuid.ends_with("-tmeta") || uuid.ends_with("-tdata"), uuid.ends_with("-tpool")));
        let names = uuids.iter().map(|uuid| uuid.replace("VOLUMED-", "volumed-"));
        remove(&names.chain((0..self.pvs().len()).map(|index| format!("vt-pv{index}"))).collect::<Vec<_>>());
    }

    fn logs(&self) -> Vec<WriteLog> {
        let open = |index| {
            let file = File::open(self.machine.disk(1)).unwrap();
            WriteLog::open(file, Rig::log_base(index) * 512).unwrap_or_else(|err| panic!("log {index}: {err}"))
        };
        (0..self.regions.len()).map(open).collect()
    }

    /// Starts a daemon on an image of the replayed disk, and judges: `done` steps were acknowledged.
    fn judge(&mut self, at: &str, done: usize, in_flight: bool) {
        let (origin, cow) = (self.machine.disk(2).to_owned(), self.machine.disk(3).to_owned());
        let sectors = disk::size(&origin) / 512;
        tool::run("dmsetup", &["create", "vt-image", "--table", &format!("0 {sectors} snapshot {origin} {cow} N 8")]);
        for (index, (start, len)) in self.pvs().into_iter().enumerate() {
            let table = format!("0 {len} linear /dev/mapper/vt-image {start}");
            tool::run("dmsetup", &["create", &format!("vt-pv{index}"), "--table", &table]);
        }
        self.machine.start_daemon();
        let log = |rig: &Rig| rig.machine.log();
        let known = &self.steps[done].world;
        let next = self.steps.get(done + 1).filter(|_| in_flight).map_or(known, |step| &step.world);
        // Nobody asks for a change meanwhile: what udev looks at just then is put in order by itself a moment later.
        let begin = Instant::now();
        let (found, ok) = loop {
            let found = world(&self.site);
            let ok = found == *known || found == *next;
            if ok || begin.elapsed() > RECOVERED {
                break (found, ok);
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let differ = |wanted| kill::differences(wanted, &found);
        assert!(ok, "{at}: half done:\n{}\nnor {}{}", differ(known), differ(next), log(self));
        assert_eq!(kernel::not_live(), Vec::<String>::new(), "{at}");
        self.site.transactions_agree().unwrap_or_else(|what| panic!("{at}: {what}{}", log(self)));
        let files = self.steps[done].files.clone();
        let formatted = ["volume", "snapshot"].map(|kind| found[kind].as_array().cloned().unwrap_or_default()).concat();
        for object in formatted.iter().filter(|object| object["fs"].is_string()) {
            let path = match object["volume"].as_str() {
                Some(of) => format!("{of}/{}", object["name"].as_str().unwrap()),
                None => object["name"].as_str().unwrap().to_owned(),
            };
            let kind = if path.contains('/') { "snapshots" } else { "volumes" };
            let mount = |read_only: bool| {
                let at = json!({"path": format!("{}/look", self.site.dir.display()), "read_only": read_only});
                self.site.ok(&format!("POST {kind}/VG/{path}/mount {at}"))
            };
            let unmount = || drop(self.site.ok(&format!("POST {kind}/VG/{path}/unmount")));
            mount(false);
            for (_, name, content) in files.iter().filter(|file| file.0 == path) {
                let found = std::fs::read_to_string(self.site.dir.join("look").join(name));
                let same = found.as_ref().is_ok_and(|found| found == content);
                assert!(same, "{at}: {path}: {name} was acknowledged, and is {}{}", shown(&found), log(self));
            }
            if kind == "volumes" {
                // The journal is recovered: nothing else may be wrong.
                unmount();
                mount(true);
                let device = kernel::mounted(self.site.dir.join("look").to_str().unwrap()).unwrap().source;
                let fsck = tool::attempt("e2fsck", &["-fn", &device]).unwrap();
                let said = String::from_utf8_lossy(&fsck.stdout).into_owned();
                assert!(fsck.status.success(), "{at}: {path}: {said}{}", log(self));
            }
            unmount();
        }
        if found["pool"] != json!([]) {
            // The next request.
            self.site.ok(r#"POST volumes {"vg":"VG","name":"next","size":"16M","fs":"none"}"#);
            self.site.ok("DELETE volumes/VG/next");
        }
        self.down();
        remove(&["vt-image".to_owned()]);
    }
}

fn shown(found: &std::io::Result<String>) -> String {
    match found {
        Ok(text) => format!("{} bytes: {:.40?}", text.len(), text),
        Err(err) => err.to_string(),
    }
}

fn remove(names: &[String]) {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in names {
        assert!(tool::remove_dm(name), "{name} stays");
    }
}

/// What outlives a power cut. The numbers of the test's own devices differ from boot to boot.
fn world(site: &Site) -> Value {
    let mut world = kill::persistent(site.view());
    for pv in world["pv"].as_array_mut().into_iter().flatten() {
        pv["path"] = Value::Null;
    }
    if let Some(pvs) = world["pv"].as_array_mut() {
        pvs.sort_by_key(Value::to_string);
    }
    world
}

/// Content of a file that fills some blocks.
fn content(number: usize) -> String {
    format!("content {number} ").repeat(6000)
}

#[test]
fn f3_each_flush_is_a_point_from_which_everything_comes_back() {
    // One log under both PVs, so that their writes are in one order.
    static REGIONS: [Region; 1] =
        [Region { start: MIB, len: 1300 * MIB, pvs: &[(MIB, 600 * MIB), (650 * MIB, 600 * MIB)] }];
    let Some(mut rig) = Rig::new(&REGIONS) else { return };
    rig.log_writes();
    rig.machine.start_daemon();
    rig.acknowledge();
    rig.change(r#"POST vgs {"name":"VG","devices":["D0","D1"]}"#);
    rig.change(r#"POST pools {"vg":"VG","name":"tank","size":"800M"}"#);
    rig.change(r#"POST volumes {"vg":"VG","name":"v","size":"64M"}"#);
    rig.change(r#"POST volumes/VG/v/mount {"path":"DIR/v"}"#);
    rig.write("a", &content(1));
    rig.snapshot("s", "v/s");
    rig.write("a", &content(2));
    rig.change(r#"POST volumes {"vg":"VG","name":"raw","size":"64M","fs":"none"}"#);
    rig.snapshot("t", "v/t");
    rig.forget("v/s", "DELETE snapshots/VG/v/s");
    rig.write("b", &content(3));
    rig.change("DELETE volumes/VG/raw");
    rig.change("POST volumes/VG/v/unmount");
    rig.change(r#"POST volumes {"vg":"VG","name":"w","size":"64M"}"#);
    rig.forget("v", "DELETE volumes/VG/v");
    rig.change("DELETE volumes/VG/w");
    rig.end();

    let mut log = rig.logs().remove(0);
    let entries = log.entries().unwrap();
    // A flush after which nothing was written adds no point.
    let mut fresh = false;
    let mut points = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        fresh |= entry.len > 0;
        if (entry.is_durable() && fresh) || entry.mark.is_some() {
            points.push(index);
            fresh = false;
        }
        if entry.mark.as_deref() == Some(&format!("step-{}", rig.steps.len() - 1)) {
            break;
        }
    }
    let every = if std::env::var_os("VOLUMED_TEST_EVERY_POINT").is_some() { 1 } else { points.len().div_ceil(POINTS) };
    let begin = Instant::now();
    let target = File::options().write(true).open(rig.machine.disk(2)).unwrap();
    let base = REGIONS[0].start * 512;
    let (mut done, mut judged) = (None, 0);
    for index in 0..=*points.last().unwrap() {
        let entry = log.next_entry().unwrap().unwrap();
        log.apply(&entry, &target, base).unwrap();
        if let Some(step) = entry.mark.as_ref().and_then(|mark| mark.strip_prefix("step-")) {
            done = Some(step.parse::<usize>().unwrap());
        }
        let chosen =
            points.binary_search(&index).is_ok_and(|point| point % every == 0) || Some(&index) == points.last();
        if let (Some(done), true) = (done, chosen) {
            target.sync_all().unwrap();
            rig.judge(&format!("entry {index} of the log, after step {done}"), done, true);
            judged += 1;
        }
    }
    println!(
        "{judged} of {} points of {} writes judged in {:.0} s (every {every})",
        points.len(),
        entries.len(),
        begin.elapsed().as_secs_f32()
    );
    assert!(points.len() >= 60 && judged >= 30, "{} points, {judged} judged", points.len());
}

#[test]
fn f34_data_are_on_their_disk_before_the_pool_says_so_on_another() {
    // A log for each PV: what was never flushed on a disk is not in its log, whatever another disk was told. The first is too small for
    // the data of the pool.
    static REGIONS: [Region; 2] = [
        Region { start: MIB, len: 200 * MIB, pvs: &[(MIB, 128 * MIB)] },
        Region { start: 300 * MIB, len: 900 * MIB, pvs: &[(MIB, 850 * MIB)] },
    ];
    let Some(mut rig) = Rig::new(&REGIONS) else { return };
    rig.log_writes();
    rig.machine.start_daemon();
    rig.acknowledge();
    rig.change(r#"POST vgs {"name":"VG","devices":["D0","D1"]}"#);
    rig.change(r#"POST pools {"vg":"VG","name":"tank","size":"700M"}"#);
    for layer in ["tmeta", "tdata"] {
        let uuid = kernel::our_uuids().into_iter().find(|uuid| uuid.ends_with(layer)).unwrap();
        println!("{layer}: {}", kernel::table(&kernel::number_of(&uuid)));
    }
    rig.change(r#"POST volumes {"vg":"VG","name":"v","size":"64M"}"#);
    rig.change(r#"POST volumes/VG/v/mount {"path":"DIR/v"}"#);
    for (round, (name, path)) in [("s0", "v/s0"), ("s1", "v/s1"), ("s2", "v/s2")].into_iter().enumerate() {
        for file in 0..4 {
            rig.write(&format!("file{file}"), &content(10 * round + file));
        }
        // Blocks become shared, and the next round breaks them.
        rig.snapshot(name, path);
    }
    rig.forget("v/s0", "DELETE snapshots/VG/v/s0");
    rig.write("last", &content(99));
    rig.end();

    let begin = Instant::now();
    let mut logs = rig.logs();
    let target = File::options().write(true).open(rig.machine.disk(2)).unwrap();
    for step in 0..rig.steps.len() {
        for (log, region) in logs.iter_mut().zip(&REGIONS) {
            loop {
                let entry = log.next_entry().unwrap().expect("the mark of the step");
                log.apply(&entry, &target, region.start * 512).unwrap();
                if entry.mark.as_deref() == Some(&format!("step-{step}")) {
                    break;
                }
            }
        }
        target.sync_all().unwrap();
        rig.judge(&format!("both logs after step {step}"), step, false);
    }
    println!("{} acknowledgements judged in {:.0} s", rig.steps.len(), begin.elapsed().as_secs_f32());
    assert!(rig.steps.len() >= 20);
}
