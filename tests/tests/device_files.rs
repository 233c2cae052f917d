//! `init` and file-backed PVs: a sparse file, a loop device with direct I/O, attached again at the daemon's next start.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use vol_tests::{Machine, kernel, tool};

#[test]
fn init_makes_a_group_and_a_pool_in_one_step() {
    let Some(m) = Machine::start() else { return };
    let said = m.ok(&["init", m.disk(0), m.disk(1)]);
    assert!(said.contains("data/pool"), "{said}");
    m.ok(&["volume", "create", "data/v", "--size", "1G"]);
    m.ok(&["volume", "mount", "data/v", &m.path("at")]);
    assert!(kernel::mounted(&m.path("at")).is_some());
    let df = m.json(&["df"]);
    let (size, free) = (df["vgs"][0]["size_bytes"].as_u64().unwrap(), df["vgs"][0]["free_bytes"].as_u64().unwrap());
    assert!(free < size / 5, "the pool of `init` leaves {free} of {size}");
}

/// A loop device's backing file, and whether its I/O is direct.
fn loops(below: &Path) -> Vec<(String, String, bool)> {
    let list = tool::run("losetup", &["--list", "--noheadings", "--raw", "--output", "NAME,DIO,BACK-FILE"]);
    let mut loops: Vec<_> = list
        .lines()
        .filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let (node, direct, file) = (words.next()?, words.next()?, words.next()?);
            Path::new(file).starts_with(below).then(|| (node.to_owned(), file.to_owned(), direct == "1"))
        })
        .collect();
    loops.sort_by(|a, b| a.1.cmp(&b.1));
    loops
}

#[test]
fn files_back_a_group_and_are_attached_again() {
    let Some(mut m) = Machine::start() else { return };
    // A file system that knows direct I/O, as a laptop has it.
    let store = m.path("store");
    std::fs::create_dir(&store).unwrap();
    tool::run("mkfs.ext4", &["-q", "-F", m.disk(3)]);
    tool::run("mount", &[m.disk(3), &store]);
    let images = [format!("{store}/one.img"), format!("{store}/two.img")];
    let (one, two) = (format!("{}:1G", images[0]), format!("{}:512M", images[1]));

    m.ok(&["vg", "create", &m.vg, "--file", &one, "--file", &two]);
    let meta = std::fs::metadata(&images[0]).unwrap();
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() * 512 < 64 << 20, "the file is not sparse: {} bytes", meta.blocks() * 512);
    assert_eq!(meta.mode() & 0o077, 0, "others can read a PV's file: {:o}", meta.mode());
    let attached = loops(Path::new(&store));
    assert_eq!(attached.iter().map(|(_, file, _)| file.clone()).collect::<Vec<_>>(), images);
    assert!(attached.iter().all(|(_, _, direct)| *direct), "a loop device without direct I/O: {attached:?}");
    let pvs = m.json(&["pv", "list"]);
    assert!(pvs["pvs"].as_array().unwrap().iter().any(|pv| pv["backing_file"] == images[0].as_str()), "{pvs}");

    m.ok(&["pool", "create", &m.of("tank"), "--size", "80%FREE"]);
    m.ok(&["volume", "create", &m.of("v"), "--size", "2G"]);
    let at = m.path("at");
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    std::fs::write(Path::new(&at).join("file"), "kept").unwrap();

    // A restart of the daemon leaves them alone.
    let before = kernel::snapshot();
    m.restart();
    assert_eq!((kernel::snapshot(), loops(Path::new(&store))), (before, attached));
    assert_eq!(std::fs::read_to_string(Path::new(&at).join("file")).unwrap(), "kept");

    // As after a reboot: nothing is attached, the daemon remembers the files.
    m.ok(&["volume", "unmount", &m.of("v")]);
    m.stop_daemon();
    vol_tests::disk::detach_loops(Path::new(&store));
    assert_eq!((loops(Path::new(&store)), kernel::our_uuids()), (vec![], vec![]));
    m.start_daemon();
    assert!(loops(Path::new(&store)).iter().all(|(_, _, direct)| *direct));
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    assert_eq!(std::fs::read_to_string(Path::new(&at).join("file")).unwrap(), "kept");

    // The same without the daemon's memory: `pv scan` is told.
    m.ok(&["volume", "unmount", &m.of("v")]);
    m.stop_daemon();
    vol_tests::disk::detach_loops(Path::new(&store));
    std::fs::remove_dir_all(m.path("state")).unwrap();
    m.start_daemon();
    m.refused(3, &[&m.vg], &["vg", "show", &m.vg]);
    m.ok(&["pv", "scan", "--file", &images[0], "--file", &images[1]]);
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    assert_eq!(std::fs::read_to_string(Path::new(&at).join("file")).unwrap(), "kept");

    m.ok(&["volume", "unmount", &m.of("v")]);
    m.ok(&["volume", "delete", &m.of("v"), "--yes"]);
    m.ok(&["pool", "delete", &m.of("tank"), "--yes"]);
    m.ok(&["vg", "delete", &m.vg, "--yes"]);
    // One goes with the last who has it open (`loop(4)`), which may be udev.
    tool::settle();
    assert_eq!(loops(Path::new(&store)), [], "loop devices are left");
    for image in &images {
        assert!(!Path::new(image).exists(), "{image} is left");
    }
    tool::run("umount", &[&store]);
}
