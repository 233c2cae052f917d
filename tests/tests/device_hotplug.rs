//! Disks that are unplugged and plugged in while the daemon runs: nobody gives a command. They are SCSI disks of the kernel's own
//! (`scsi_debug`), which can be taken away while they are in use, and come back with their content under other names.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use vol_tests::{Machine, kernel, skip, tool};

/// Disks of `scsi_debug`, each on a host adapter of its own; they go with it.
struct Scsi {
    hosts: Vec<String>,
}

impl Scsi {
    fn load(count: usize) -> Option<Scsi> {
        if !Path::new("/lab/spec.json").exists() {
            skip("kernel modules are loaded in the lab only");
            return None;
        }
        let hosts = format!("add_host={count}");
        let parameters = ["--quiet", "scsi_debug", &hosts, "per_host_store=1", "dev_size_mb=200", "sector_size=512"];
        if !tool::try_run("modprobe", &["sd_mod"]) || !tool::try_run("modprobe", &parameters) {
            skip("this kernel has no scsi_debug");
            return None;
        }
        let begin = Instant::now();
        while disks().len() < count {
            assert!(begin.elapsed() < Duration::from_secs(120), "the disks do not come: {:?}", disks());
            sleep(Duration::from_millis(50));
        }
        tool::settle();
        Some(Scsi { hosts: disks().into_iter().map(|disk| disk.host).collect() })
    }

    /// The disk of an adapter, as it is called now.
    fn disk(&self, index: usize) -> Option<String> {
        disks().into_iter().find(|disk| disk.host == self.hosts[index]).map(|disk| disk.node)
    }

    fn unplug(&self, index: usize) {
        let node = self.disk(index).expect("the disk is there");
        let name = node.strip_prefix("/dev/").unwrap();
        fs::write(format!("/sys/block/{name}/device/delete"), "1").unwrap();
    }

    fn plug(&self, index: usize) {
        fs::write(format!("/sys/class/scsi_host/{}/scan", self.hosts[index]), "- - -").unwrap();
    }
}

impl Drop for Scsi {
    fn drop(&mut self) {
        // What a test that failed left mounted would keep it. Volumes go before their pool: in one that is suspended they would wait.
        for name in top_down() {
            tool::try_run("timeout", &["20", "dmsetup", "remove", "--force", &name]);
        }
        tool::try_run("modprobe", &["--remove", "scsi_debug"]);
    }
}

/// Our devices by name: volumes, pools, and what these are made of.
fn top_down() -> Vec<String> {
    let rank =
        |uuid: &String| if uuid.ends_with("-tpool") { 1 } else { 2 * u8::from(uuid.len() > "VOLUMED-".len() + 36) };
    let mut ours: Vec<_> = kernel::our_uuids().into_iter().collect();
    ours.sort_by_key(rank);
    ours.iter().map(|uuid| format!("volumed-{}", &uuid["VOLUMED-".len()..])).collect()
}

#[derive(Debug)]
struct Disk {
    host: String,
    node: String,
}

fn disks() -> Vec<Disk> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/sys/block").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let device = entry.path().join("device");
        let model = fs::read_to_string(device.join("model")).unwrap_or_default();
        let Ok(path) = fs::canonicalize(device) else { continue };
        let host = path.iter().filter_map(|part| part.to_str()).rfind(|part| {
            part.strip_prefix("host")
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
        });
        if let (Some(host), "scsi_debug") = (host, model.trim()) {
            all.push(Disk { host: host.to_owned(), node: format!("/dev/{name}") });
        }
    }
    all.sort_by(|a, b| a.host.cmp(&b.host));
    all
}

/// The codes of the problems that `status` tells.
fn codes(m: &Machine) -> Vec<String> {
    let status = m.run(&["status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap_or_else(|err| panic!("{err}: {status:?}"));
    status["problems"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect()
}

/// Waits until it is so; how long that took.
#[track_caller]
fn within(m: &Machine, limit: Duration, what: &str, is: impl Fn() -> bool) -> Duration {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}: {:?}{}", codes(m), m.log());
        sleep(Duration::from_millis(20));
    }
    begin.elapsed()
}

/// Aimed at are two seconds, and what it takes here is printed; a machine that stands still may need more. The slow look at everything
/// comes later than this, half a minute after the last news of disks, which the command before has made: so it was the event.
const NOTICED: Duration = Duration::from_secs(20);
const TAKEN_UP: Duration = Duration::from_secs(180);

#[test]
fn disks_that_go_are_told_of_by_their_events_and_used_again_when_they_come_back() {
    let Some(mut m) = Machine::start() else { return };
    let Some(scsi) = Scsi::load(3) else { return };
    let other = format!("{}o", m.vg);
    m.ok(&["vg", "create", &other, m.disk(0)]);
    m.ok(&["pool", "create", &format!("{other}/tank"), "--size", "80%FREE"]);
    m.ok(&["volume", "create", &format!("{other}/v"), "--size", "256M"]);
    let beside = m.path("beside");
    m.ok(&["volume", "mount", &format!("{other}/v"), &beside]);

    let nodes: Vec<String> = (0..3).map(|index| scsi.disk(index).unwrap()).collect();
    m.ok(&["vg", "create", &m.vg, &nodes[0], &nodes[1], &nodes[2]]);
    m.ok(&["pool", "create", &m.of("tank"), "--size", "70%FREE"]);
    m.ok(&["volume", "create", &m.of("v"), "--size", "128M"]);
    m.ok(&["volume", "create", &m.of("raw"), "--size", "16M", "--thick", "--fs", "none"]);
    let at = m.path("at");
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    fs::write(format!("{at}/kept"), "yes").unwrap();
    tool::run("sync", &["--file-system", &at]);

    // All of them, with the volume at rest: the kernel's devices stand on disks that are dead.
    m.ok(&["volume", "unmount", &m.of("v")]);
    (0..3).for_each(|index| scsi.unplug(index));
    let told = |m: &Machine| codes(m).iter().filter(|code| *code == "pv_missing").count() == 3;
    println!("3 disks noticed after {:?}", within(&m, NOTICED, "all three are told of as missing", || told(&m)));
    within(&m, NOTICED, "its metadata are frozen", || codes(&m).contains(&"metadata_frozen".to_owned()));
    m.refused(1, &["takes no changes"], &["vg", "rename", &m.vg, "nope"]);
    let out = m.run(&["status"]).out;
    assert!(out.contains("attach the disk again") && out.contains("pool tank"), "{out}");
    (0..3).for_each(|index| scsi.plug(index));
    println!("taken up after {:?}", within(&m, TAKEN_UP, "all is well", || codes(&m).is_empty()));
    println!("{nodes:?} are {:?} now", disks());
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");

    // One, under a mounted volume that is written to.
    let of_pool = (0..3).find(|index| {
        let pv = m.json(&["pv", "show", &scsi.disk(*index).unwrap()]);
        pv["free_extents"].as_u64() < pv["extent_count"].as_u64()
    });
    let index = of_pool.expect("a disk with extents");
    scsi.unplug(index);
    let begin = Instant::now();
    println!(
        "noticed after {:?}",
        within(&m, NOTICED, "it is told of", || codes(&m).contains(&"pv_missing".to_owned()))
    );
    // Writing fails, and holds up nobody.
    tool::try_run(
        "timeout",
        &["20", "sh", "-c", &format!("dd if=/dev/urandom of={at}/more bs=64k count=64 conv=fsync")],
    );
    m.ok(&["volume", "create", &format!("{other}/w"), "--size", "64M"]);
    fs::write(format!("{beside}/file"), "written").unwrap();
    tool::run("sync", &["--file-system", &beside]);
    m.refused(1, &["is missing"], &["volume", "create", &m.of("w"), "--size", "16M"]);
    assert!(begin.elapsed() < Duration::from_secs(280), "something hung");
    scsi.plug(index);
    within(&m, TAKEN_UP, "it is back", || !codes(&m).contains(&"pv_missing".to_owned()));
    println!("after it is back: {:?}", codes(&m));
    m.ok(&["volume", "unmount", &m.of("v")]);
    // What the kernel could not commit while the disk was gone makes it ask for a check; the file system is then checked when it is mounted.
    let looked_after = |m: &Machine| codes(m).iter().all(|code| code == "fs_check");
    if !looked_after(&m) {
        within(&m, TAKEN_UP, "the pool is looked after", || {
            looked_after(&m) || m.run(&["pool", "repair", &m.of("tank"), "--yes"]).code == 0
        });
    }
    within(&m, TAKEN_UP, "all is well but the file system", || looked_after(&m));
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    within(&m, TAKEN_UP, "all is well", || codes(&m).is_empty());
    assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
    fs::write(format!("{at}/again"), "yes").unwrap();
    assert_eq!(kernel::not_live(), Vec::<String>::new());

    // None of them is there at the start; the group comes with its disks.
    m.ok(&["volume", "unmount", &m.of("v")]);
    m.ok(&["volume", "unmount", &format!("{other}/v")]);
    m.stop_daemon();
    for name in top_down() {
        assert!(tool::remove_dm(&name), "{name}");
    }
    (0..3).for_each(|index| scsi.unplug(index));
    m.start_daemon();
    m.refused(3, &["no volume group"], &["vg", "show", &m.vg]);
    for index in 0..3 {
        scsi.plug(index);
        sleep(Duration::from_millis(300));
    }
    within(&m, TAKEN_UP, "the group is whole", || m.run(&["vg", "show", &m.vg]).code == 0 && codes(&m).is_empty());
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
    m.ok(&["volume", "unmount", &m.of("v")]);
    for name in ["v", "raw"] {
        m.ok(&["volume", "delete", &m.of(name), "--yes"]);
    }
    m.ok(&["pool", "delete", &m.of("tank"), "--yes"]);
    m.ok(&["vg", "delete", &m.vg, "--yes"]);
}
