//! Thick volumes on a real kernel: linear and striped, wiped before anybody has them, grown under a mount, copied, deleted and taken
//! back, and gone on with after the daemon was killed in the middle.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use vol_tests::{Machine, disk, kernel, tool};

const MIB: u64 = 1 << 20;

fn write(at: &str, file: &str, text: &str) {
    fs::write(Path::new(at).join(file), text).unwrap_or_else(|error| panic!("{at}/{file}: {error}"));
}

fn read(at: &str, file: &str) -> String {
    fs::read_to_string(Path::new(at).join(file)).unwrap_or_else(|error| panic!("{at}/{file}: {error}"))
}

fn mount(m: &Machine, name: &str) -> String {
    let at = m.path(name);
    m.ok(&["volume", "mount", &m.of(name), &at]);
    at
}

/// The device of a raw volume, attached.
fn attach(m: &Machine, name: &str) -> String {
    m.ok(&["volume", "attach", &m.of(name)]);
    let shown = m.json(&["volume", "show", &m.of(name)]);
    shown["device"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned()
}

/// Fills a device from its beginning to its end.
fn fill(device: &str, byte: u8) {
    let file = File::options().write(true).open(device).unwrap();
    let block = vec![byte; MIB as usize];
    for at in 0..disk::size(device) / MIB {
        file.write_all_at(&block, at * MIB).unwrap();
    }
    file.sync_all().unwrap();
}

/// Where the first byte is that is not zero.
fn not_zero(device: &str) -> Option<u64> {
    let mut file = File::open(device).unwrap();
    let mut block = vec![0; MIB as usize];
    for at in 0..disk::size(device) / MIB {
        file.read_exact(&mut block).unwrap();
        if let Some(byte) = disk::first_other(&block, 0) {
            return Some(at * MIB + byte as u64);
        }
    }
    None
}

/// A VG of so many disks, and nothing in it.
fn vg(m: &Machine, disks: usize) {
    let mut args = vec!["vg", "create", m.vg.as_str()];
    args.extend((0..disks).map(|at| m.disk(at)));
    m.ok(&args);
}

/// What the kernel's table of a volume's device says.
fn table(m: &Machine, name: &str) -> Vec<String> {
    let id = m.json(&["volume", "show", &m.of(name)])["id"].as_str().unwrap().to_owned();
    let number = kernel::number_of(&format!("VOLUMED-{id}"));
    kernel::table(&number).lines().map(str::to_owned).collect()
}

#[test]
fn a_thick_volume_linear_or_striped_holds_a_file_system_and_grows_under_its_mount() {
    let Some(m) = Machine::start() else { return };
    vg(&m, 3);
    for (name, options, target) in
        [("line", &[][..], "linear"), ("stripe", &["--stripes", "2", "--stripe-size", "128K"], "striped 2 256")]
    {
        let mut args = vec!["volume", "create"];
        let path = m.of(name);
        args.extend([path.as_str(), "--thick", "--size", "400M", "--fs", "xfs", "--owner", "1000:1001"]);
        args.extend(options);
        m.ok(&args);
        assert!(m.ok(&args).contains("already"), "the same request is the same volume");
        assert_eq!(kernel::our_uuids(), Vec::<String>::new(), "nothing is active before it is mounted");
        let at = mount(&m, name);
        assert!(table(&m, name)[0].contains(target), "{:?}", table(&m, name));
        write(&at, "file", "before");
        let free =
            || tool::run("df", &["--output=size", "-B1", &at]).lines().last().unwrap().trim().parse::<u64>().unwrap();
        let before = free();
        m.ok(&["volume", "resize", &path, "700M"]);
        let shown = m.json(&["volume", "show", &path]);
        assert!(shown["size_bytes"].as_u64().unwrap() >= 700 * MIB, "{shown}");
        assert!(free() > before + 250 * MIB, "the file system has {} of {before} and more", free());
        assert_eq!(read(&at, "file"), "before");
        write(&at, "large", &"x".repeat(500 << 20));
        m.ok(&["volume", "unmount", &path]);
        let at = mount(&m, name);
        assert_eq!(read(&at, "large").len(), 500 << 20);
        m.ok(&["volume", "unmount", &path]);
        assert_eq!(kernel::our_uuids(), Vec::<String>::new());
        m.refused(1, &["smaller"], &["volume", "resize", &path, "100M"]);
    }
    m.refused(2, &["thick", "snapshots"], &["snapshot", "create", &m.of("line@now")]);
}

#[test]
fn what_was_deleted_can_be_taken_back_and_what_is_made_of_its_extents_is_zero() {
    let Some(m) = Machine::with("undelete_window = \"1h\"\n") else { return };
    vg(&m, 2);
    let raw =
        |name: &str, size: &str| m.ok(&["volume", "create", &m.of(name), "--thick", "--size", size, "--fs", "none"]);
    raw("old", "256M");
    let device = attach(&m, "old");
    assert_eq!(not_zero(&device), None);
    fill(&device, 0xa5);
    m.ok(&["volume", "detach", &m.of("old")]);
    m.ok(&["volume", "delete", &m.of("old"), "--yes"]);
    m.ok(&["volume", "undelete", &m.of("old")]);
    let device = attach(&m, "old");
    let mut block = [0; 4096];
    File::open(&device).unwrap().read_exact_at(&mut block, 100 * MIB).unwrap();
    assert_eq!(block, [0xa5; 4096]);
    m.refused(4, &["attached"], &["volume", "delete", &m.of("old"), "--now", "--yes"]);
    m.ok(&["volume", "detach", &m.of("old")]);
    m.ok(&["volume", "delete", &m.of("old"), "--now", "--yes"]);
    // The same extents, and some that were never used.
    raw("new", "512M");
    let device = attach(&m, "new");
    assert_eq!(not_zero(&device), None, "somebody else's bytes");
    fill(&device, 0x5a);
    m.ok(&["volume", "detach", &m.of("new")]);
    m.ok(&["volume", "delete", &m.of("new"), "--now", "--yes"]);
    raw("grown", "64M");
    let device = attach(&m, "grown");
    fill(&device, 0x77);
    m.ok(&["volume", "resize", &m.of("grown"), "384M"]);
    assert_eq!(disk::size(&device), 384 * MIB, "the device is as long while it is attached");
    let file = File::open(&device).unwrap();
    for at in 0..384 {
        file.read_exact_at(&mut block, at * MIB + 4096).unwrap();
        assert_eq!(block, [if at < 64 { 0x77 } else { 0 }; 4096], "at {at} MiB");
    }
    drop(file);
    m.ok(&["volume", "detach", &m.of("grown")]);
}

#[test]
fn a_copy_is_the_same_and_goes_its_own_way() {
    let Some(m) = Machine::start() else { return };
    vg(&m, 2);
    m.ok(&["volume", "create", &m.of("src"), "--thick", "--size", "400M", "--fs", "xfs", "--stripes", "2"]);
    let at = mount(&m, "src");
    write(&at, "file", &"of both ".repeat(1 << 20));
    let said = m.refused(4, &["mounted", "unmount"], &["volume", "clone", &m.of("src"), &m.of("copy")]);
    assert!(said.contains("copy"), "{said}");
    m.ok(&["volume", "unmount", &m.of("src")]);
    m.ok(&["volume", "clone", &m.of("src"), &m.of("copy")]);
    let (at, copy) = (mount(&m, "src"), mount(&m, "copy"));
    assert_eq!(read(&copy, "file"), "of both ".repeat(1 << 20));
    write(&copy, "file", "of the copy");
    write(&at, "more", "of the source");
    assert!(!Path::new(&copy).join("more").exists());
    assert_eq!(read(&at, "file"), "of both ".repeat(1 << 20));
    m.ok(&["volume", "unmount", &m.of("src")]);
    m.ok(&["volume", "unmount", &m.of("copy")]);
    assert_eq!(kernel::our_uuids(), Vec::<String>::new());
}

#[test]
fn a_daemon_that_is_killed_while_it_wipes_goes_on_where_it_was() {
    const FAST: &str = "move_rate = \"64M\"";
    const SLOW: &str = "move_rate = \"4M\"";
    let Some(mut m) = Machine::with(&format!("{FAST}\n")) else { return };
    vg(&m, 2);
    let path = m.of("slow");
    let args = ["volume", "create", &path, "--thick", "--size", "1G", "--fs", "none"];
    let mut request = m.volctl(&args).spawn().unwrap();
    let filling = |m: &Machine| m.json(&["volume", "show", &path])["thick"]["filling"].clone();
    let begun = Instant::now();
    // Longer than it takes until the progress is written down.
    loop {
        sleep(Duration::from_millis(200));
        let done = m.run(&["volume", "show", &path, "-o", "json"]).out.contains("\"filling\"")
            && filling(&m)["done_bytes"].as_u64().unwrap_or(0) > 300 * MIB;
        if done {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "it is not being wiped{}", m.log());
    }
    // What is left would take minutes now: all of the following comes before its end.
    m.reconfigure(FAST, SLOW);
    // The volume group takes other changes meanwhile.
    m.ok(&["volume", "create", &m.of("other"), "--thick", "--size", "8M", "--fs", "none"]);
    assert!(request.try_wait().unwrap().is_none(), "it waited until all was wiped{}", m.log());
    m.refused(4, &["just being made"], &["volume", "attach", &path]);
    let job = m.json(&["job", "list"])["jobs"][0].clone();
    assert_eq!((job["kind"].as_str(), job["state"].as_str()), (Some("wipe"), Some("running")), "{job}");
    m.kill9();
    let _ = request.wait();
    m.start_daemon();
    // The same job goes on.
    let id = job["id"].as_str().unwrap();
    let goes_on = m.json(&["job", "show", id]);
    assert_eq!((&goes_on["object"], &goes_on["started_at"]), (&job["object"], &job["started_at"]));
    assert!(goes_on["done_bytes"].as_u64().unwrap() >= 128 * MIB, "{goes_on}{}", m.log());
    let after = filling(&m)["done_bytes"].as_u64().unwrap();
    assert!(after >= 128 * MIB, "it began anew, at {after}{}", m.log());
    m.reconfigure(SLOW, FAST);
    // The same request waits for the same volume.
    m.ok(&args);
    m.ok(&["job", "wait", id]);
    assert_eq!(m.json(&["job", "show", id])["state"], "done");
    m.refused(1, &["it has ended"], &["job", "cancel", id, "--yes"]);
    let events = m.ok(&["events", "--since", "0", "-o", "name"]);
    let order: Vec<_> = events.lines().filter(|kind| kind.starts_with("job_")).collect();
    assert!(order.starts_with(&["job_begun"]) && order.last() == Some(&"job_ended"), "{events}");
    m.reconfigure(FAST, SLOW);
    // One that is cancelled has left nothing.
    let gone = m.of("gone");
    let mut asked = m.volctl(&["volume", "create", &gone, "--thick", "--size", "1G", "--fs", "none"]).spawn().unwrap();
    let begun = Instant::now();
    let id = loop {
        let jobs = m.json(&["job", "list"]);
        let running = jobs["jobs"].as_array().unwrap().iter().find(|job| job["state"] == "running").cloned();
        if let Some(job) = running {
            break job["id"].as_str().unwrap().to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(180), "{jobs}{}", m.log());
        sleep(Duration::from_millis(50));
    };
    m.ok(&["job", "cancel", &id, "--yes"]);
    assert!(!asked.wait().unwrap().success());
    let waited = m.run(&["job", "wait", &id]);
    assert!(waited.code == 1 && waited.out.contains("state: cancelled"), "{}{}", waited.out, waited.err);
    m.refused(3, &["gone"], &["volume", "show", &gone]);
    let device = attach(&m, "slow");
    assert_eq!(disk::size(&device), 1024 * MIB);
    assert_eq!(not_zero(&device), None);
    m.ok(&["volume", "detach", &path]);
    assert_eq!(kernel::our_uuids(), Vec::<String>::new(), "{}", m.log());
}
