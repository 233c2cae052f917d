//! Devices that somebody holds, names that two ask for, tenants that write what looks like ours, and what was deleted: on a real kernel.

use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vol_tests::{Machine, disk, kernel, skip, tool, wire};

/// A process with a mount namespace of its own, as a container has it; it ends with this.
struct Namespace(Child);

impl Namespace {
    /// It sees every mount of now, and keeps it when it is unmounted elsewhere.
    fn of_now() -> Namespace {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sleep", "600"]).stdin(Stdio::null());
        let child = unshare.spawn().expect("unshare");
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        let begin = Instant::now();
        while fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default().trim() != "sleep"
            || fs::read_link(format!("/proc/{}/ns/mnt", child.id())).is_ok_and(|other| other == own)
        {
            assert!(begin.elapsed() < Duration::from_secs(60), "unshare does not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
        Namespace(child)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The command is refused, and says who holds the device. It looks for them for a fifth of a second only, which a machine may sleep through:
/// then it is asked again.
#[track_caller]
fn refused_and_named(m: &Machine, args: &[&str], who: &[&str]) {
    let begin = Instant::now();
    loop {
        let ran = m.run(args);
        assert_ne!(ran.code, 0, "{args:?}: {ran:?}{}", m.log());
        let named = who.iter().all(|part| ran.err.contains(part));
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{args:?} takes long, or does not say {who:?}: {ran:?}{}",
            m.log()
        );
        if named {
            return;
        }
    }
}

#[test]
fn f13_a_mount_in_another_namespace_is_named_and_holds_up_nobody_else() {
    let Some(m) = Machine::start() else { return };
    if !tool::has("unshare") {
        return skip("unshare is not there");
    }
    m.with_pool(2);
    for name in ["held", "other"] {
        m.ok(&["volume", "create", &m.of(name), "--size", "64M"]);
        m.ok(&["volume", "mount", &m.of(name), &m.path(name)]);
    }
    fs::write(m.path("held/file"), "kept").unwrap();
    let container = Namespace::of_now();
    let pid = container.0.id();
    // Here it is unmounted; there it is not, and the device stays.
    m.ok(&["volume", "unmount", &m.of("held")]);
    assert!(kernel::mounted(&m.path("held")).is_none());
    let who = [&*format!("process {pid} (sleep)"), "mount namespace"];
    for args in
        [&["volume", "delete", &m.of("held"), "--yes"][..], &["volume", "delete", &m.of("held"), "--now", "--yes"][..]]
    {
        refused_and_named(&m, args, &who);
    }
    // It is as it was, and can be used here as well.
    let shown = m.json(&["volume", "show", &m.of("held")]);
    assert_eq!((&shown["state"], &shown["health"]), (&json!("ready"), &json!("ok")), "{shown:#}");
    m.ok(&["volume", "mount", &m.of("held"), &m.path("held")]);
    assert_eq!(fs::read_to_string(m.path("held/file")).unwrap(), "kept");
    m.ok(&["volume", "unmount", &m.of("held")]);
    // Others do not wait for it, not even while a deletion is being refused.
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| m.run(&["volume", "delete", &m.of("held"), "--yes"]));
        let begin = Instant::now();
        m.ok(&["volume", "create", &m.of("new"), "--size", "64M", "--fs", "none"]);
        m.ok(&["volume", "delete", &m.of("new"), "--yes"]);
        assert!(begin.elapsed() < Duration::from_secs(60), "others waited {:?}", begin.elapsed());
        assert_ne!(refused.join().unwrap().code, 0);
    });
    drop(container);
    m.ok(&["volume", "delete", &m.of("held"), "--yes"]);
    let other = m.json(&["volume", "show", &m.of("other")])["id"].as_str().unwrap().to_owned();
    let uuids = kernel::our_uuids();
    assert!(uuids.len() == 4 && uuids.contains(&format!("VOLUMED-{other}")), "devices are left: {uuids:?}");
    m.ok(&["volume", "unmount", &m.of("other")]);
}

#[test]
fn f13_an_open_file_descriptor_of_a_raw_volume_is_named() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    m.ok(&["volume", "create", &m.of("raw"), "--size", "64M", "--fs", "none"]);
    m.ok(&["volume", "attach", &m.of("raw")]);
    let node = m.json(&["volume", "show", &m.of("raw")])["device"].as_str().unwrap().to_owned();
    let mut holder = Command::new("sleep").arg("600").stdin(File::open(&node).unwrap()).spawn().unwrap();
    let who = format!("process {} (sleep)", holder.id());
    refused_and_named(&m, &["volume", "detach", &m.of("raw")], &[&who]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    m.ok(&["volume", "detach", &m.of("raw")]);
    m.ok(&["volume", "delete", &m.of("raw"), "--yes"]);
}

/// What an engine's plug-in has written down of a volume.
fn reference(volume: &str, mount_id: &str, count: u32, confirmed: bool) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let line = json!({"boot": boot.trim(), "change": "reference", "runtime": "docker", "volume": volume, "id": mount_id, "count": count,
        "confirmed": confirmed});
    format!("{line}\n")
}

#[test]
fn references_of_an_engine_outlive_the_daemon_and_containers_outlive_references() {
    let Some(mut m) = Machine::start() else { return };
    if !tool::has("unshare") {
        return skip("unshare is not there");
    }
    m.with_pool(2);
    let id = |m: &Machine, name: &str| m.json(&["volume", "show", &m.of(name)])["id"].as_str().unwrap().to_owned();
    for name in ["pg", "btrfs", "idle"] {
        let kind = if name == "btrfs" { "btrfs" } else { "ext4" };
        m.ok(&["volume", "create", &m.of(name), "--size", "256M", "--fs", kind]);
    }
    let (pg, btrfs, idle) = (id(&m, "pg"), id(&m, "btrfs"), id(&m, "idle"));
    let mounts = |id: &str| m.path(&format!("run/mounts/docker/{id}"));
    let (at_pg, at_btrfs) = (mounts(&pg), mounts(&btrfs));
    m.ok(&["volume", "mount", &m.of("pg"), &at_pg]);
    m.ok(&["volume", "mount", &m.of("btrfs"), &at_btrfs]);
    m.kill9();
    // Of pg a container of now, and of idle one whose volume nobody has mounted; of the one before last a line that was cut off.
    let file = m.path("state/mount-references.jsonl");
    fs::create_dir_all(m.path("state")).unwrap();
    let lines =
        [reference(&pg, "a", 2, true), reference(&btrfs, "b", 1, true), reference(&idle, "c", 1, true)].concat();
    fs::write(&file, format!("{lines}{}", &lines[..40])).unwrap();
    for _ in 0..2 {
        m.start_daemon();
        let list = m.json(&["refs", "list"]);
        let refs: Vec<_> =
            list["refs"].as_array().unwrap().iter().map(|one| (&one["volume_id"], &one["count"])).collect();
        assert_eq!(refs.len(), 2, "{list:#}{}", m.log());
        assert!(refs.contains(&(&json!(pg), &json!(2))) && refs.contains(&(&json!(btrfs), &json!(1))), "{list:#}");
        m.kill9();
    }
    m.start_daemon();
    assert_eq!(m.json(&["status"])["health"], "ok");
    assert_eq!(m.json(&["volume", "show", &m.of("pg")])["references"][0]["count"], 2);
    let pg_path = m.of("pg");
    for args in [&["volume", "unmount", &pg_path][..], &["volume", "delete", &pg_path, "--yes"]] {
        m.refused(4, &["docker", "2 mount references", "volctl refs release"], args);
    }
    assert!(kernel::mounted(&at_pg).is_some());

    // A container has both: they stay, and are said to be kept for it, until it has ended. The mount point of the btrfs has another
    // number than its device.
    let container = Namespace::of_now();
    let who = format!("process {} (sleep)", container.0.id());
    for (name, at) in [("pg", &at_pg), ("btrfs", &at_btrfs)] {
        let said = m.ok(&["refs", "release", &m.of(name), "--yes"]);
        assert!(said.contains("it stays mounted") && said.contains(&who), "{said}{}", m.log());
        assert!(kernel::mounted(at).is_some());
    }
    let list = m.json(&["refs", "list"]);
    assert_eq!(
        (list["refs"].as_array().unwrap().len(), list["unneeded"].as_array().unwrap().len()),
        (0, 2),
        "{list:#}"
    );
    assert!(
        list["unneeded"].as_array().unwrap().iter().all(|one| one["used_by"].to_string().contains(&who)),
        "{list:#}"
    );
    drop(container);
    let said = m.ok(&["refs", "release", &m.of("btrfs"), "--yes"]);
    assert!(said.contains("no engine has it mounted now") && kernel::mounted(&at_btrfs).is_none(), "{said}");
    // By itself as well.
    let begin = Instant::now();
    let there = |at: &String| Path::new(at).exists();
    while kernel::mounted(&at_pg).is_some() || there(&at_pg) || there(&at_btrfs) {
        assert!(
            begin.elapsed() < Duration::from_secs(180),
            "it stays mounted, or a directory is left behind{}",
            m.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    // Their mount points go with them, also when an administrator unmounts one by himself: the daemon hears of that.
    m.ok(&["volume", "mount", &m.of("pg"), &at_pg]);
    let begin = Instant::now();
    // The daemon may look at it just then.
    while let Err(error) = nix::mount::umount(at_pg.as_str()) {
        let busy = error == nix::errno::Errno::EBUSY && begin.elapsed() < Duration::from_secs(60);
        assert!(busy, "{at_pg}: {error}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let begin = Instant::now();
    while Path::new(&at_pg).exists() {
        assert!(begin.elapsed() < Duration::from_secs(180), "a bare mount point is left behind{}", m.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    for name in ["pg", "btrfs", "idle"] {
        m.ok(&["volume", "delete", &m.of(name), "--now", "--yes"]);
    }
    assert!(!fs::read_to_string(&file).unwrap().contains("\"c\""), "what was dropped is not written down any more");
}

#[test]
fn f30_a_storm_of_clients_that_ask_for_one_name_comes_to_one_volume() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    let socket = PathBuf::from(m.path("run/control.sock"));
    for round in 0..8 {
        let name = format!("v{round}");
        // Half of the rounds with a file system, and in each of them two that differ.
        let fs = if round % 2 == 0 { "none" } else { "ext4" };
        let body =
            |n: u32| json!({"vg": m.vg, "name": name, "size": if n % 4 == 3 { "128M" } else { "64M" }, "fs": fs});
        let answers: Vec<_> = std::thread::scope(|scope| {
            let ask = |n| {
                let (socket, body) = (&socket, body(n).to_string());
                scope.spawn(move || (n % 4 == 3, wire::request(socket, "POST", "volumes", &body).unwrap()))
            };
            let all: Vec<_> = (0..16).map(ask).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let is = |changed: bool| {
            move |(_, (status, json)): &&(bool, (u16, serde_json::Value))| *status < 300 && json["changed"] == changed
        };
        let made: Vec<_> = answers.iter().filter(is(true)).collect();
        assert_eq!(made.len(), 1, "one of them makes it: {answers:?}");
        let won = made[0].0;
        let id = m.json(&["volume", "show", &m.of(&name)])["id"].clone();
        assert_eq!(answers.iter().filter(is(false)).count(), if won { 3 } else { 11 }, "{answers:?}");
        for (large, (status, json)) in &answers {
            if *large == won {
                assert!(*status < 300 && json.to_string().contains(id.as_str().unwrap()), "{json}");
            } else {
                assert_eq!((*status, &json["error"]["code"]), (409, &json!("exists")), "{json}");
                assert!(json.to_string().contains(&name), "{json}");
            }
        }
    }
    assert_eq!(m.json(&["volume", "list"])["volumes"].as_array().unwrap().len(), 8);
    assert_eq!(m.json(&["status"])["health"], "ok");
}

#[test]
fn f15_a_copy_of_our_disk_in_a_volume_changes_nothing_on_the_machine() {
    let Some(mut m) = Machine::start() else { return };
    m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1)]);
    m.ok(&["pool", "create", &m.of("tank"), "--size", "2G"]);
    for name in ["evil", "lvm"] {
        m.ok(&["volume", "create", &m.of(name), "--size", "1G", "--fs", "none"]);
        m.ok(&["volume", "attach", &m.of(name)]);
    }
    let node = |name: &str| m.json(&["volume", "show", &m.of(name)])["device"].as_str().unwrap().to_owned();
    // What a tenant can write: everything that the disk has in its first part, labels, log and all; and a PV of LVM.
    let evil = node("evil");
    let head = disk::take(m.disk(0), 0, 64 << 20);
    disk::write(&evil, &[(0, head.clone())]);
    tool::run(
        "sh",
        &["-c", &format!("pvcreate -qq --devices {0} {0} && vgcreate -qq --devices {0} tenant {0}", node("lvm"))],
    );
    tool::run("udevadm", &["trigger", "--action=change", "--subsystem-match=block"]);
    tool::settle();
    let known = |m: &Machine| (m.json(&["pv", "list"]), m.json(&["status"])["health"].clone(), kernel::snapshot());
    let before = known(&m);
    assert_eq!(before.1, "ok", "{:?}", before.0);
    assert_eq!(before.0["pvs"].as_array().unwrap().len(), 2);
    m.ok(&["pv", "scan"]);
    assert_eq!(before, known(&m));
    m.kill9();
    m.start_daemon();
    assert_eq!(before, known(&m), "a start believed what a volume holds{}", m.log());
    // Nor is it taken when somebody names it.
    let ran = m.run(&["vg", "extend", &m.vg, &evil, "--wipe"]);
    assert!(ran.code != 0, "a volume became a disk of its own group");
    assert!(disk::take(&evil, 0, head.len()) == head, "what a tenant wrote was written over");
    assert_eq!(before, known(&m));
}

#[test]
fn f33_a_disk_that_took_the_node_of_another_is_not_written_to() {
    let Some(mut m) = Machine::start() else { return };
    // Two files behind one loop device after each other: same node, same number, another disk.
    let (ours, other) = (m.path("ours.img"), m.path("other.img"));
    for file in [&ours, &other] {
        File::create(file).unwrap().set_len(256 << 20).unwrap();
    }
    let node = disk::attach_loop(Path::new(&ours), &[]);
    m.ok(&["vg", "create", &m.vg, &node, m.disk(0)]);
    m.stop_daemon();
    tool::run("losetup", &["--detach", &node]);
    tool::settle();
    tool::run("losetup", &[&node, &other]);
    tool::settle();
    File::options().write(true).open(&other).unwrap().write_all_at(b"somebody else's", 1 << 20).unwrap();
    tool::run("sync", &[]);
    m.start_daemon();
    let status = m.run(&["status"]);
    assert_eq!(status.code, 10, "{}", status.out);
    drop(m.run(&["pool", "create", &m.of("tank"), "--size", "64M"]));
    drop(m.run(&["vg", "reduce", &m.vg, &node]));
    m.stop_daemon();
    let mut bytes = vec![0; 256 << 20];
    File::open(&other).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes[1 << 20..][..15].fill(0);
    assert!(disk::first_other(&bytes, 0).is_none(), "something was written to another's disk{}", m.log());
    tool::run("losetup", &["--detach", &node]);
}

/// So long cycles go on, and until there are so many at least; with VOLUMED_TEST_EVERY_POINT they are ten thousand.
const CYCLES: Duration = Duration::from_secs(15);
const CYCLES_MIN: u32 = 120;
const CYCLES_ALL: u32 = 10_000;
/// Volumes beside each other: their requests go together, and a chunk of one is soon another's. A cycle is one volume: made, written,
/// read, deleted.
const BESIDE: u32 = 8;
/// Of each of them: together three quarters of the pool, so that most chunks are used again at once.
const SIZE: u64 = 3 << 19;
const CHUNK: u64 = 64 << 10;

#[test]
fn deleting_and_using_again_shows_no_byte_of_before_however_often() {
    let Some(m) = Machine::start() else { return };
    m.ok(&["vg", "create", &m.vg, m.disk(0)]);
    // So small that every chunk is used again and again.
    m.ok(&["pool", "create", &m.of("tank"), "--size", "16M", "--chunk-size", "64K", "--grow-to", "off"]);
    m.ok(&["pool", "set", &m.of("tank"), "--reserve", "0"]);
    let begin = Instant::now();
    let all = std::env::var_os("VOLUMED_TEST_EVERY_POINT").is_some();
    let mut cycles = 0;
    let mut buffers: [_; BESIDE as usize] = std::array::from_fn(|_| vec![0u8; SIZE as usize]);
    while if all { cycles < CYCLES_ALL } else { begin.elapsed() < CYCLES || cycles < CYCLES_MIN } {
        std::thread::scope(|scope| {
            for (cycle, bytes) in (cycles..).zip(&mut buffers) {
                let m = &m;
                scope.spawn(move || delete_and_use_again(m, cycle, bytes));
            }
        });
        cycles += BESIDE;
    }
    println!("{cycles} cycles in {:.0} s", begin.elapsed().as_secs_f32());
}

/// Makes a volume, writes in it what nobody else does, finds that and nothing else there, and deletes it.
fn delete_and_use_again(m: &Machine, cycle: u32, bytes: &mut [u8]) {
    let socket = PathBuf::from(m.path("run/control.sock"));
    let ask = |method: &str, path: &str, body: &str| {
        let answer = wire::request(&socket, method, path, body).unwrap();
        assert!(answer.0 < 300, "{method} {path}: {answer:?}{}", m.log());
        answer.1
    };
    let (vg, name) = (&m.vg, format!("v{cycle}"));
    ask("POST", "volumes", &json!({"vg": vg, "name": name, "size": "1536K", "fs": "none"}).to_string());
    let made = ask("POST", &format!("volumes/{vg}/{name}/attach"), "");
    let node = find_device(&made).unwrap_or_else(|| panic!("no device in {made}"));
    let device = File::options().read(true).write(true).open(&node).unwrap();
    // A pattern that no other cycle wrote, in a sixteenth of each chunk: not always the same one.
    let mark = [0xb5 ^ cycle as u8, (cycle >> 8) as u8, 0x5b, 0xbd].repeat(1024);
    let own = |chunk: u64| chunk * CHUNK + (u64::from(cycle) + chunk) % 16 * 4096;
    for chunk in 0..SIZE / CHUNK {
        device.write_all_at(&mark, own(chunk)).unwrap();
    }
    device.sync_all().unwrap();
    // What is read is what is on the disk.
    forget_cached(&device);
    device.read_exact_at(bytes, 0).unwrap();
    for (at, block) in (0..).step_by(4096).zip(bytes.chunks(4096)) {
        let right = if at == own(at / CHUNK) { block == mark } else { disk::first_other(block, 0).is_none() };
        assert!(right, "cycle {cycle}: at {at} there is what this volume never wrote");
    }
    if (cycle / BESIDE).is_multiple_of(2) {
        // The rest too, so that the next ones find nothing but these patterns in the pool.
        bytes.chunks_mut(mark.len()).for_each(|block| block.copy_from_slice(&mark));
        device.write_all_at(bytes, 0).unwrap();
        device.sync_all().unwrap();
    }
    drop(device);
    ask("POST", &format!("volumes/{vg}/{name}/detach"), "");
    ask("DELETE", &format!("volumes/{vg}/{name}"), "");
}

/// Drops what the page cache has of a device, so that the next read asks the device.
fn forget_cached(device: &File) {
    nix::fcntl::posix_fadvise(device, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}

/// The device in the answer to an attachment.
fn find_device(answer: &serde_json::Value) -> Option<String> {
    match answer {
        serde_json::Value::Object(map) => map
            .get("device")
            .and_then(|device| device.as_str())
            .map(str::to_owned)
            .or_else(|| map.values().find_map(find_device)),
        _ => None,
    }
}
