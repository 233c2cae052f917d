//! The main job on real disks: from raw disks to a mounted thin volume, its snapshot, and back. dmsetup, findmnt and lsblk witness.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use vol_tests::{Machine, disk, kernel, tool};

/// The type of our partition, as `docs/spec/on-disk-format.md` has it.
const PARTITION_TYPE: &str = "d49cf90c-d264-48eb-9cd7-b346871919fe";

#[test]
fn the_main_job_with_ext4() {
    main_job("", "ext4");
}

#[test]
fn the_main_job_with_xfs() {
    main_job("", "xfs");
}

#[test]
fn the_main_job_with_btrfs() {
    main_job("", "btrfs");
}

#[test]
fn the_main_job_with_plain_reads_and_writes() {
    let io = main_job("io = \"plain\"\n", "ext4");
    assert!(io.as_deref().is_none_or(|io| io == "pread/pwrite"), "status does not say that its I/O is plain: {io:?}");
}

/// The lines one by one. The daemon's kind of I/O.
fn main_job(config: &str, fs: &str) -> Option<String> {
    let m = Machine::with(config)?;
    let (tank, pg, before) = (m.of("tank"), m.of("pg"), m.of("pg@before"));
    let (at, old) = (m.path("srv/pg"), m.path("old"));

    let said = m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1)]);
    assert!(said.contains(&m.vg) && said.contains("2 physical volumes"), "{said}");
    marked(&m);
    m.ok(&["pool", "create", &tank, "--size", "80%FREE"]);
    m.ok(&["volume", "create", &pg, "--pool", "tank", "--size", "10G", "--fs", fs]);
    let id = m.json(&["volume", "show", &pg])["id"].as_str().unwrap().to_owned();
    let uuid = format!("VOLUMED-{id}");
    assert!(!kernel::our_uuids().contains(&uuid), "a volume that nobody uses has a device");
    m.ok(&["volume", "mount", &pg, &at]);

    let mount = kernel::mounted(&at).unwrap_or_else(|| panic!("nothing is mounted at {at}{}", m.log()));
    assert_eq!(mount.fs, fs);
    for option in ["nosuid", "nodev"] {
        assert!(mount.options.iter().any(|word| word == option), "mounted without {option}: {mount:?}");
    }
    // The kernel gives btrfs mounts a number of their own; the device behind counts.
    let number = kernel::number_of(&uuid);
    let source = fs::canonicalize(&mount.source).unwrap();
    assert_eq!(
        fs::read_to_string(Path::new("/sys/class/block").join(source.file_name().unwrap()).join("dev")).unwrap().trim(),
        number
    );
    let table = kernel::table(&number);
    let expected = format!("0 {} thin ", (10u64 << 30) / 512);
    assert!(table.starts_with(&expected), "behind the mount there is no thin volume of 10 GiB: {table}");
    let pool = kernel::pool_of(&number);
    let table = kernel::table(&pool);
    let words: Vec<&str> = table.split(' ').collect();
    assert_eq!(words[2], "thin-pool", "{table}");
    assert!(!words.contains(&"skip_block_zeroing"), "new chunks are not zeroed: {table}");

    let first = pattern(1, 8 << 20);
    fs::write(Path::new(&at).join("file"), &first).unwrap();
    m.ok(&["snapshot", "create", &before]);
    assert_eq!(kernel::not_live(), Vec::<String>::new(), "after a snapshot something is suspended");
    fs::write(Path::new(&at).join("file"), pattern(2, 64 << 20)).unwrap();
    fs::write(Path::new(&at).join("later"), b"later").unwrap();

    let df = m.json(&["df"]);
    assert_eq!(df["pools"][0]["volume_count"], 1);
    assert_eq!(df["pools"][0]["snapshot_count"], 1);
    assert!(m.ok(&["df"]).contains(&tank));
    let status = m.json(&["status"]);
    assert_eq!((&status["health"], &status["counts"]["mounted"]), (&"ok".into(), &1.into()), "{status}");

    tool::run("sync", &[]);
    let used = kernel::pool_used(&pool);
    m.ok(&["volume", "unmount", &pg]);
    assert!(kernel::mounted(&at).is_none(), "unmounted, and still there");
    assert!(!kernel::our_uuids().contains(&uuid), "unmounted, and its device is still there");
    m.ok(&["volume", "delete", &pg, "--yes"]);
    assert!(kernel::pool_used(&pool) < used, "deleting a volume freed nothing of the pool");

    // The snapshot outlives its volume.
    m.ok(&["snapshot", "mount", &before, &old]);
    let mount = kernel::mounted(&old).expect("the snapshot is mounted");
    for option in ["ro", "nosuid", "nodev"] {
        assert!(mount.options.iter().any(|word| word == option), "mounted without {option}: {mount:?}");
    }
    let file = Path::new(&old).join("file");
    assert!(fs::read(&file).unwrap() == first, "the snapshot does not hold what was there when it was taken");
    assert!(!Path::new(&old).join("later").exists());
    assert!(fs::write(file, b"x").is_err(), "a snapshot took a write");
    m.ok(&["snapshot", "unmount", &before]);
    m.ok(&["snapshot", "delete", &before, "--yes"]);
    assert_eq!(kernel::pool_used(&pool), 0, "all is deleted, and chunks are still in use");
    m.ok(&["pool", "delete", &tank, "--yes"]);
    m.ok(&["vg", "delete", &m.vg, "--yes"]);
    assert_eq!(kernel::our_uuids(), Vec::<String>::new());
    for disk in &m.disks[..2] {
        assert_eq!(
            tool::attempt("blkid", &["-p", disk]).unwrap().status.code(),
            Some(2),
            "{disk} still carries something"
        );
    }
    status["io_backend"].as_str().map(str::to_owned)
}

/// Every other tool must see that the disks are taken.
fn marked(m: &Machine) {
    tool::settle();
    for disk in &m.disks[..2] {
        assert!(tool::run("blkid", &["-p", disk]).contains("PTTYPE=\"gpt\""), "blkid sees no GPT on {disk}");
        let list = tool::run("lsblk", &["--noheadings", "--raw", "--output", "PARTTYPE", disk]);
        assert!(list.lines().any(|kind| kind == PARTITION_TYPE), "lsblk sees no partition of ours on {disk}: {list:?}");
    }
}

/// Bytes that compress to nothing else and differ with the seed.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64 / 8).flat_map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed << 56)).to_le_bytes()).collect()
}

#[test]
fn a_snapshot_of_unsynced_data_holds_that_instant_beside_its_origin() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    for fs in ["ext4", "xfs"] {
        let (volume, snapshot) = (m.of(fs), m.of(&format!("{fs}@now")));
        let (at, beside) = (m.path(fs), m.path(&format!("{fs}-now")));
        m.ok(&["volume", "create", &volume, "--size", "1G", "--fs", fs]);
        m.ok(&["volume", "mount", &volume, &at]);
        // In the page cache alone: nobody synced.
        let text = format!("{fs} before\n").repeat(100_000);
        fs::write(Path::new(&at).join("file"), &text).unwrap();
        let mut open = fs::File::options().create(true).append(true).open(Path::new(&at).join("open")).unwrap();
        open.write_all(b"one\n").unwrap();
        m.ok(&["snapshot", "create", &snapshot]);
        open.write_all(b"two\n").unwrap();
        fs::write(Path::new(&at).join("file"), "after").unwrap();
        m.ok(&["snapshot", "mount", &snapshot, &beside]);
        let read = |dir: &str, name: &str| fs::read_to_string(Path::new(dir).join(name)).unwrap();
        assert!(read(&beside, "file") == text, "{fs}: the snapshot has other data than that of the instant{}", m.log());
        assert_eq!(read(&beside, "open"), "one\n", "{fs}");
        assert_eq!((read(&at, "file"), read(&at, "open")), ("after".into(), "one\ntwo\n".into()), "{fs}: the origin");
        let (origin, snap) = (kernel::mounted(&at).unwrap(), kernel::mounted(&beside).unwrap());
        assert_ne!(origin.number, snap.number);
        assert!(snap.options.iter().any(|word| word == "ro"), "{snap:?}");
        assert_eq!(kernel::pool_of(&origin.number), kernel::pool_of(&snap.number));
    }
}

#[test]
fn a_raw_volume_is_made_and_attached_in_one_request_and_once() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    for (name, more) in [("thin", [].as_slice()), ("thick", ["--thick"].as_slice())] {
        let volume = m.of(name);
        let args = [&["volume", "create", &volume, "--size", "64M", "--fs", "none", "--attach"], more].concat();
        let plan = m.ok(&[&args[..], &["--dry-run"]].concat());
        assert!(plan.contains(&format!("attach {volume}")), "{plan}");
        assert_eq!(m.run(&["volume", "show", &volume]).code, 3, "a dry run made it");
        let said = m.ok(&args);
        let device = m.json(&["volume", "show", &volume])["device"].as_str().expect("it is attached").to_owned();
        assert!(said.contains("there and attached") && said.contains(&device), "{said}");
        assert_eq!(disk::size(&device), 64 << 20);
        let again = m.ok(&args);
        assert!(again.contains("already exists") && again.contains(&device), "{again}");
        // One that is there and was detached is attached again.
        m.ok(&["volume", "detach", &volume]);
        let said = m.ok(&args);
        assert!(said.contains("there and attached") && !said.contains("created"), "{said}");
        assert!(m.json(&["volume", "show", &volume])["device"].is_string());
        m.ok(&["volume", "detach", &volume]);
    }
    let ext4 = m.of("ext4");
    m.refused(2, &["mounted, not attached", "fs none"], &["volume", "create", &ext4, "--size", "64M", "--attach"]);
    assert_eq!(m.run(&["volume", "show", &ext4]).code, 3);
}

#[test]
fn a_new_volume_shows_no_byte_of_a_deleted_one() {
    let Some(m) = Machine::start() else { return };
    m.ok(&["vg", "create", &m.vg, m.disk(0)]);
    // Large chunks: most of a chunk is not written by who writes a little.
    m.ok(&["pool", "create", &m.of("tank"), "--size", "512M", "--chunk-size", "1M"]);
    let secret = b"a secret of the one before".repeat(64);
    let device = |name: &str| {
        m.ok(&["volume", "attach", &m.of(name)]);
        m.json(&["volume", "show", &m.of(name)])["device"].as_str().expect("an attached volume has a device").to_owned()
    };
    m.ok(&["volume", "create", &m.of("old"), "--size", "448M", "--fs", "none"]);
    let node = device("old");
    let mut file = fs::File::options().write(true).open(&node).unwrap();
    let block = secret.iter().copied().cycle().take(4 << 20).collect::<Vec<u8>>();
    for _ in 0..112 {
        file.write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
    drop(file);
    let pool = kernel::pool_of(&kernel::number_of(&our_volume()));
    assert!(kernel::pool_used(&pool) >= 448, "the pattern did not reach the pool");
    m.ok(&["volume", "detach", &m.of("old")]);
    m.ok(&["volume", "delete", &m.of("old"), "--yes"]);

    m.ok(&["volume", "create", &m.of("raw"), "--size", "448M", "--fs", "none"]);
    let node = device("raw");
    // A little in each chunk makes the kernel give it one that the other had.
    let writes: Vec<_> = (0..448u64).map(|chunk| (chunk << 20, vec![0x55u8; 4096])).collect();
    disk::write(&node, &writes);
    let mut file = fs::File::open(&node).unwrap();
    let mut chunk = vec![0; 1 << 20];
    for at in 0..448 {
        file.read_exact(&mut chunk).unwrap();
        assert!(disk::first_other(&chunk[..4096], 0x55).is_none(), "chunk {at} lost what was written");
        let other = disk::first_other(&chunk[4096..], 0);
        assert_eq!(other, None, "chunk {at} of a new volume shows bytes that were never written to it");
    }
}

/// The only volume that is active.
fn our_volume() -> String {
    let uuids = kernel::our_uuids();
    let mut volumes = uuids.iter().filter(|uuid| uuid.len() == "VOLUMED-".len() + 36);
    volumes.next().expect("an active volume").clone()
}

#[test]
fn metrics_answer_with_capacities() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(m) = Machine::with(&format!("metrics_listen = \"127.0.0.1:{port}\"\n")) else { return };
    m.with_pool(2);
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap_or_else(|err| panic!("{err}{}", m.log()));
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    let sample = |name: &str| -> u64 {
        let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("no whole number: {line}"))
    };
    let (vg, pool) = (m.json(&["vg", "show", &m.vg]), m.json(&["pool", "show", &m.of("tank")]));
    let label = format!("{{vg=\"{}\"}}", m.vg);
    assert_eq!(vg["size_bytes"], sample(&format!("volumed_vg_size_bytes{label}")));
    assert_eq!(vg["free_bytes"], sample(&format!("volumed_vg_free_bytes{label}")));
    assert_eq!(pool["size_bytes"], sample("volumed_pool_size_bytes{"));
    assert_eq!(sample("volumed_up"), 1);
}
