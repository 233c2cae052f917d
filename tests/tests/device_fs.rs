//! File systems on real volumes: grown while they are in use, checked before they are mounted, trimmed, made as asked for.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use vol_tests::dying::{End, Hand, Side};
use vol_tests::{Machine, kernel, tool};

/// The smallest volume of each file system, a larger one, and how far the smaller leaves it.
const SIZES: [(&str, u64, u64); 3] = [("ext4", 64, 256), ("xfs", 320, 640), ("btrfs", 256, 512)];

/// What the file system at `at` has for files, in bytes.
fn room(at: &str) -> u64 {
    let text = tool::run("stat", &["-f", "-c", "%b %S", at]);
    let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    numbers[0] * numbers[1]
}

/// Size of the block device of a volume that is active.
fn device_bytes(m: &Machine, volume: &str) -> u64 {
    tool::run("blockdev", &["--getsize64", &device(m, volume)]).trim().parse().unwrap()
}

fn device(m: &Machine, volume: &str) -> String {
    m.json(&["volume", "show", &m.of(volume)])["device"].as_str().expect("it is active").to_owned()
}

fn used(m: &Machine) -> u64 {
    // The view is refreshed by the change before.
    m.json(&["pool", "show", &m.of("tank")])["used_bytes"].as_u64().unwrap()
}

/// Unmounts and leaves the device active, so that it can be damaged; drop what comes back afterwards.
fn unmount_and_keep(m: &Machine, volume: &str) -> (File, String) {
    let node = device(m, volume);
    let held = File::open(&node).unwrap();
    m.ok(&["volume", "unmount", &m.of(volume)]);
    (held, node)
}

#[test]
fn a_mounted_volume_grows_with_its_file_system() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    for (fs, small, large) in SIZES {
        let (volume, at) = (m.of(fs), m.path(fs));
        m.ok(&["volume", "create", &volume, "--size", &format!("{small}M"), "--fs", fs]);
        m.ok(&["volume", "mount", &volume, &at]);
        fs::write(format!("{at}/kept"), "yes").unwrap();
        let open = File::open(format!("{at}/kept")).unwrap();
        let before = room(&at);
        let plan = m.ok(&["volume", "resize", &volume, &format!("{large}M"), "--dry-run"]);
        assert!(plan.contains("commit") && plan.contains(&format!("grow the {fs}")), "{plan}");
        assert_eq!(room(&at), before, "a dry run grew it");
        let said = m.ok(&["volume", "resize", &volume, &format!("{large}M")]);
        assert!(said.contains("MiB now"), "{said}");
        assert_eq!(device_bytes(&m, fs), large << 20);
        let grown = room(&at);
        assert!(grown > before + ((large - small) << 20) * 8 / 10, "{fs}: {before} and then {grown}");
        assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
        drop(open);
        // Once more is nothing more, and there is no way back.
        m.settled();
        let sequence = m.sequence();
        let said = m.ok(&["volume", "resize", &volume, &format!("{large}M")]);
        assert!(said.contains("had") && said.contains("already"), "{said}");
        m.refused(1, &["cannot be made smaller", "make a smaller volume"], &["volume", "resize", &volume, "20M"]);
        m.refused(6, &["over-commit limit"], &["volume", "resize", &volume, "+90T"]);
        assert_eq!(m.sequence(), sequence, "what changes nothing was committed");
        m.ok(&["volume", "resize", &volume, "+64M"]);
        assert!(room(&at) > grown);
    }
    m.restart();
    for (fs, ..) in SIZES {
        assert_eq!(fs::read_to_string(m.path(&format!("{fs}/kept"))).unwrap(), "yes");
        m.ok(&["volume", "unmount", &m.of(fs)]);
        let said = m.ok(&["volume", "check", &m.of(fs)]);
        assert!(said.contains("no errors"), "{said}");
    }
    m.refused(2, &["number and a unit"], &["volume", "resize", &m.of("ext4"), "large"]);
    m.refused(3, &["there is no volume"], &["volume", "resize", &m.of("nothing"), "1G"]);
}

#[test]
fn an_idle_volume_grows_at_its_next_writable_mount_and_a_raw_one_at_once() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    for (fs, small, large) in SIZES {
        let (volume, at) = (m.of(fs), m.path(fs));
        m.ok(&["volume", "create", &volume, "--size", &format!("{small}M"), "--fs", fs]);
        let said = m.ok(&["volume", "resize", &volume, &format!("{large}M")]);
        assert!(said.contains("grows when it is mounted"), "{said}");
        m.ok(&["volume", "mount", &volume, &at, "--read-only"]);
        let before = room(&at);
        m.ok(&["volume", "unmount", &volume]);
        m.ok(&["volume", "mount", &volume, &at]);
        assert!(room(&at) > before + ((large - small) << 20) * 8 / 10, "{fs} did not grow: {}", m.log());
        m.ok(&["volume", "unmount", &volume]);
    }
    m.ok(&["volume", "create", &m.of("raw"), "--size", "64M", "--fs", "none"]);
    m.ok(&["volume", "attach", &m.of("raw")]);
    let open = OpenOptions::new().write(true).open(device(&m, "raw")).unwrap();
    m.ok(&["volume", "resize", &m.of("raw"), "128M"]);
    assert_eq!(device_bytes(&m, "raw"), 128 << 20);
    drop(open);
    m.refused(2, &["has no file system that volumed made"], &["volume", "check", &m.of("raw")]);
    m.refused(2, &["fstrim"], &["volume", "trim", &m.of("raw")]);
}

#[test]
fn a_daemon_killed_at_each_effect_of_a_resize_loses_nothing_and_is_gone_on_from() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    let (volume, at) = (m.of("v"), m.path("at"));
    m.ok(&["volume", "create", &volume, "--size", "64M"]);
    m.ok(&["volume", "mount", &volume, &at]);
    fs::write(format!("{at}/kept"), "yes").unwrap();
    let mut hand = Hand::new(m.dir().join("orders"));
    m.kill9();
    m.start_dying(hand.dir());
    let mut size = 128;
    hand.order(0, Side::Before, End::Kill);
    m.ok(&["volume", "resize", &volume, &format!("{size}M")]);
    let effects = hand.effects();
    assert!(effects.iter().any(|effect| effect.contains("grow file system")), "{effects:?}");
    let mut killed = 0;
    for number in 1..=effects.len() as u64 {
        for side in [Side::Before, Side::After] {
            let before = room(&at);
            size += 64;
            let wanted = format!("{size}M");
            hand.order(number, side, End::Kill);
            drop(m.run(&["volume", "resize", &volume, &wanted]));
            assert!(m.dies_within(std::time::Duration::from_secs(60)), "it lives at effect {number}");
            killed += 1;
            m.start_dying(hand.dir());
            hand.order(0, Side::Before, End::Kill);
            let recorded = m.json(&["volume", "show", &volume])["size_bytes"].as_u64().unwrap();
            assert_eq!(device_bytes(&m, "v"), recorded, "killed at {number} {side:?}: {effects:?}");
            m.ok(&["volume", "resize", &volume, &wanted]);
            assert_eq!(device_bytes(&m, "v"), size << 20);
            assert!(room(&at) > before, "killed at {number} {side:?}");
            assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
        }
    }
    assert!(killed >= 8, "only {killed} kills");
    assert_eq!(m.run(&["status"]).code, 0);
    m.ok(&["volume", "unmount", &volume]);
    m.ok(&["volume", "check", &volume]);
}

#[test]
fn errors_that_the_kernel_marked_are_checked_before_the_next_mount() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
    let (volume, at) = (m.of("v"), m.path("at"));
    m.ok(&["volume", "create", &volume, "--size", "64M"]);
    m.ok(&["volume", "mount", &volume, &at]);
    fs::write(format!("{at}/kept"), "yes").unwrap();
    let name = Path::new(&device(&m, "v")).file_name().unwrap().to_str().unwrap().to_owned();
    fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "a test").unwrap();
    let (held, node) = unmount_and_keep(&m, "v");
    let marked = tool::run("dumpe2fs", &["-h", &node]);
    assert!(marked.contains("with errors"), "{marked}");
    drop(held);
    m.ok(&["volume", "mount", &volume, &at]);
    assert!(m.log().contains("the file system is checked"), "{}", m.log());
    assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
    let (held, node) = unmount_and_keep(&m, "v");
    let marked = tool::run("dumpe2fs", &["-h", &node]);
    assert!(!marked.contains("with errors"), "{marked}");
    drop(held);
}

#[test]
fn errors_that_need_a_person_are_found_remembered_and_repaired_on_demand() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    for (fs, size) in [("ext4", "64M"), ("xfs", "320M")] {
        let (volume, at) = (m.of(fs), m.path(fs));
        m.ok(&["volume", "create", &volume, "--size", size, "--fs", fs]);
        m.ok(&["volume", "mount", &volume, &at]);
        fs::write(format!("{at}/kept"), "yes").unwrap();
        fs::write(format!("{at}/broken"), "soon").unwrap();
        m.refused(4, &["mounted at"], &["volume", "check", &volume]);
        let (held, node) = unmount_and_keep(&m, fs);
        if fs == "ext4" {
            // The head of its extents: which blocks it has nobody can tell any more.
            tool::run("debugfs", &["-w", "-R", "sif /broken block[0] 0", &node]);
        } else {
            let commands = ["sb 0", "addr rootino", "write -d core.nlinkv2 77"].map(|command| ["-c", command]);
            let mut args = vec!["-x"];
            args.extend(commands.iter().flatten());
            args.push(&node);
            tool::run("xfs_db", &args);
        }
        drop(held);
        m.settled();
        let sequence = m.sequence();
        m.refused(1, &["has errors", "--read-only", "--repair"], &["volume", "check", &volume]);
        assert_eq!(m.sequence(), sequence + 1, "it is written down once");
        assert!(
            m.ok(&["volume", "show", &volume]).contains("file system check: needed") || {
                let shown = m.ok(&["volume", "show", &volume]);
                shown.contains("needed") && !shown.contains("not needed")
            }
        );
        let status = m.run(&["status"]);
        assert!(status.code == 10 && status.out.contains("fs_check"), "{status:?}");
        m.restart();
        m.refused(1, &["has errors", "--read-only"], &["volume", "mount", &volume, &at]);
        let kernel_now = kernel::snapshot();
        assert!(!kernel_now.contains(m.json(&["volume", "show", &volume])["id"].as_str().unwrap()), "{kernel_now}");
        m.ok(&["volume", "mount", &volume, &at, "--read-only"]);
        assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
        m.ok(&["volume", "unmount", &volume]);
        m.refused(9, &["--yes"], &["volume", "check", &volume, "--repair"]);
        let said = m.ok(&["volume", "check", &volume, "--repair", "--yes"]);
        assert!(said.contains("put right"), "{said}");
        assert_eq!(m.run(&["status"]).code, 0);
        m.ok(&["volume", "mount", &volume, &at]);
        assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
        m.ok(&["volume", "unmount", &volume]);
        assert!(m.ok(&["volume", "check", &volume]).contains("no errors"));
    }
}

#[test]
fn a_check_of_what_went_down_in_the_middle_replays_the_journal_and_finds_nothing() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    for (fs, size) in [("ext4", "64M"), ("xfs", "320M")] {
        let (volume, at) = (m.of(fs), m.path(fs));
        m.ok(&["volume", "create", &volume, "--size", size, "--fs", fs]);
        m.ok(&["volume", "mount", &volume, &at]);
        for n in 0..200 {
            fs::write(format!("{at}/{n}"), vec![n as u8; 10_000]).unwrap();
            fs::remove_file(format!("{at}/{}", n / 2)).ok();
        }
        fs::write(format!("{at}/last"), "file").unwrap();
        File::open(format!("{at}/last")).unwrap().sync_all().unwrap();
        // The journal is written, what it is about is not (`FS_SHUTDOWN_FLAGS_LOGFLUSH`).
        tool::run("xfs_io", &["-x", "-c", "shutdown -f", &at]);
        let (held, node) = unmount_and_keep(&m, fs);
        if fs == "ext4" {
            let said = tool::run("dumpe2fs", &["-h", &node]);
            assert!(said.contains("needs_recovery"), "there is nothing to be replayed: {said}");
        }
        drop(held);
        let said = m.ok(&["volume", "check", &volume]);
        assert!(said.contains("no errors"), "{said}");
        m.ok(&["volume", "mount", &volume, &at]);
        assert_eq!(fs::read_to_string(format!("{at}/last")).unwrap(), "file");
        m.ok(&["volume", "unmount", &volume]);
    }
}

#[test]
fn trimming_gives_the_space_of_deleted_files_back_to_the_pool() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    for (fs, size) in [("ext4", "512M"), ("xfs", "512M"), ("btrfs", "512M")] {
        let (volume, at) = (m.of(fs), m.path(fs));
        m.ok(&["volume", "create", &volume, "--size", size, "--fs", fs]);
        m.refused(2, &["not mounted writable", "volume mount"], &["volume", "trim", &volume]);
        m.ok(&["volume", "mount", &volume, &at]);
        fs::write(format!("{at}/big"), vec![7; 100 << 20]).unwrap();
        tool::run("sync", &["-f", &at]);
        m.ok(&["volume", "trim", &volume]);
        let full = used(&m);
        fs::remove_file(format!("{at}/big")).unwrap();
        tool::run("sync", &["-f", &at]);
        assert!(m.ok(&["volume", "trim", &volume, "--dry-run"]).contains("discard"));
        // XFS gives up the extents of a deleted file a moment later, in the background (`xfs_inodegc`).
        let trimmed = || {
            let said = m.ok(&["volume", "trim", &volume]);
            assert!(said.contains("discarded"), "{said}");
            used(&m) + (90 << 20) < full
        };
        let begin = Instant::now();
        let mut freed = trimmed();
        while !freed && begin.elapsed() < Duration::from_secs(120) {
            sleep(Duration::from_millis(100));
            freed = trimmed();
        }
        assert!(freed, "{fs}: {full} used before, {} after", used(&m));
        m.ok(&["volume", "unmount", &volume]);
    }
}

#[test]
fn a_file_system_is_made_with_the_options_that_were_asked_for_and_no_others() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    let made = |fs: &str, size: &str, options: &[&str]| -> String {
        let volume = m.of(fs);
        let mut args = vec!["volume", "create", &volume, "--size", size, "--fs", fs];
        args.extend(options.iter().flat_map(|option| ["--mkfs-option", option]));
        m.ok(&args);
        m.ok(&["volume", "mount", &volume, &m.path(fs)]);
        device(&m, fs)
    };
    let node = made("ext4", "64M", &["label=pg", "block-size=1024", "reserved-percent=0", "features=quota"]);
    let said = tool::run("dumpe2fs", &["-h", &node]);
    let has = |words: &[&str]| said.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["volume name", " pg"]) && has(&["Block size", "1024"]) && has(&["features", "quota"]), "{said}");
    assert!(has(&["Reserved block count", " 0"]), "{said}");
    made("xfs", "320M", &["reflink=0", "inode-size=1024", "label=x"]);
    let said = tool::run("xfs_info", &[&m.path("xfs")]);
    assert!(said.contains("reflink=0") && said.contains("isize=1024"), "{said}");
    let node = made("btrfs", "256M", &["checksum=xxhash", "label=data"]);
    let said = tool::run("btrfs", &["inspect-internal", "dump-super", &node]);
    assert!(said.contains("xxhash64") && said.contains("label\t\t\tdata"), "{said}");

    m.settled();
    let before = m.sequence();
    let refused = |option: &str, words: &[&str]| {
        m.refused(2, words, &["volume", "create", &m.of("w"), "--size", "64M", "--mkfs-option", option]);
    };
    refused("blocksize=1024", &["perhaps block-size was meant", "reserved-percent"]);
    refused("journal-device=/dev/sda", &["no option", "block-size"]);
    refused("label=a/b", &["1 to 16 letters"]);
    let raw = ["volume", "create", &m.of("w"), "--size", "64M", "--fs", "none", "--mkfs-option", "label=x"];
    m.refused(2, &["not formatted"], &raw);
    assert_eq!(m.sequence(), before);
}

#[test]
fn the_root_of_a_new_file_system_is_owned_permitted_and_empty_as_asked_for() {
    use std::os::unix::fs::MetadataExt;
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    for (fs, small, _) in SIZES {
        let (volume, at) = (m.of(fs), m.path(fs));
        let size = format!("{small}M");
        let args = ["volume", "create", &volume, "--size", &size, "--fs", fs];
        m.ok(&[&args[..], &["--owner", "999:1001", "--mode", "2750", "--empty-root"]].concat());
        m.ok(&["volume", "mount", &volume, &at]);
        let root = fs::metadata(&at).unwrap();
        assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (999, 1001, 0o2750), "{fs}");
        assert_eq!(fs::read_dir(&at).unwrap().count(), 0, "{fs}: the root is not empty");
        m.ok(&["volume", "unmount", &volume]);
        assert!(m.ok(&["volume", "check", &volume]).contains("no errors"), "{fs}");
    }
    m.ok(&["volume", "create", &m.of("usual"), "--size", "64M"]);
    m.ok(&["volume", "mount", &m.of("usual"), &m.path("usual")]);
    assert!(Path::new(&m.path("usual/lost+found")).exists());
    assert_eq!(fs::metadata(m.path("usual")).unwrap().mode() & 0o7777, 0o755);
    m.refused(2, &["as numbers"], &["volume", "create", &m.of("w"), "--size", "64M", "--owner", "postgres"]);
    m.refused(
        2,
        &["no root directory"],
        &["volume", "create", &m.of("w"), "--size", "64M", "--fs", "none", "--mode", "700"],
    );
}

/// What is in a directory.
fn names(at: &str) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The directory of its file system that a mount shows (`proc_pid_mountinfo(5)`, field 4).
fn root_of_mount(at: &str) -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|line| line[4] == at);
    line.unwrap_or_else(|| panic!("nothing is mounted at {at}:\n{table}"))[3].to_owned()
}

#[test]
fn a_directory_is_handed_out_clean_whatever_stands_beside_it() {
    use std::os::unix::fs::MetadataExt;
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    for (fs, small, large) in SIZES {
        let (volume, at, whole) = (m.of(fs), m.path(fs), m.path(&format!("{fs}-whole")));
        let size = format!("{small}M");
        let args = ["volume", "create", &volume, "--size", &size, "--fs", fs, "--subdir", "data"];
        let args = [&args[..], &["--owner", "999:1001", "--mode", "2750"]].concat();
        let plan = m.ok(&[&args[..], &["--dry-run"]].concat());
        assert!(plan.contains("directory data in it, owner 999:1001, mode 2750"), "{plan}");
        m.ok(&args);
        assert!(m.ok(&args).contains("already exists"));
        m.ok(&["volume", "mount", &volume, &at]);
        assert!(m.ok(&["volume", "mount", &volume, &at]).contains("already mounted"), "{fs}");
        let seen = fs::metadata(&at).unwrap();
        assert_eq!((seen.uid(), seen.gid(), seen.mode() & 0o7777), (999, 1001, 0o2750), "{fs}");
        assert_eq!((names(&at), root_of_mount(&at)), (Vec::new(), "/data".to_owned()), "{fs}");
        let shown = m.ok(&["volume", "show", &volume]);
        assert!(shown.lines().any(|line| line.starts_with("mounted directory") && line.ends_with(" data")), "{shown}");
        assert_eq!(m.json(&["volume", "show", &volume])["subdir"], "data");
        fs::write(format!("{at}/kept"), "yes").unwrap();
        // Copies show it as well.
        m.ok(&["snapshot", "create", &format!("{volume}@s")]);
        assert_eq!(m.json(&["snapshot", "show", &format!("{volume}@s")])["subdir"], "data");
        fs::write(format!("{at}/lost"), "soon").unwrap();
        let (copy, copied) = (m.of(&format!("{fs}-copy")), m.path(&format!("{fs}-copy")));
        m.ok(&["volume", "clone", &format!("{volume}@s"), &copy]);
        for (noun, of, place) in [("volume", &copy, &copied), ("snapshot", &format!("{volume}@s"), &m.path("s"))] {
            m.ok(&[noun, "mount", of, place]);
            assert_eq!((names(place), root_of_mount(place)), (vec!["kept".to_owned()], "/data".to_owned()), "{of}");
            m.ok(&[noun, "unmount", of]);
        }
        // Grown and trimmed in use, by the daemon that has just started too.
        let before = room(&at);
        m.ok(&["volume", "resize", &volume, &format!("{large}M")]);
        assert!(room(&at) > before + ((large - small) << 20) * 8 / 10, "{fs} did not grow");
        m.ok(&["volume", "trim", &volume]);
        m.restart();
        assert!(m.ok(&["volume", "mount", &volume, &at]).contains("already mounted"), "{fs}");
        m.refused(5, &["another directory", "/data"], &["volume", "mount", &volume, &at, "--whole"]);
        m.ok(&["volume", "mount", &volume, &whole, "--whole"]);
        assert_eq!(
            (root_of_mount(&whole), fs::read_to_string(format!("{whole}/data/kept")).unwrap()),
            ("/".into(), "yes".into())
        );
        let beside: &[&str] = if fs == "ext4" { &["data", "lost+found"] } else { &["data"] };
        assert_eq!(names(&whole), beside, "{fs}");
        if fs == "ext4" {
            // A check that finds a file without a name makes the directory for it anew.
            fs::remove_dir(format!("{whole}/lost+found")).unwrap();
            m.ok(&["volume", "unmount", &volume]);
            m.ok(&["volume", "mount", &volume, &at]);
            let (held, node) = unmount_and_keep(&m, fs);
            tool::run("debugfs", &["-w", "-R", "unlink /data/lost", &node]);
            drop(held);
            m.ok(&["volume", "check", &volume, "--repair", "--yes"]);
            m.ok(&["volume", "mount", &volume, &whole, "--whole"]);
            assert_eq!(
                (names(&whole).join(" "), names(&format!("{whole}/lost+found")).len()),
                ("data lost+found".into(), 1)
            );
        } else {
            fs::create_dir(format!("{whole}/lost+found")).unwrap();
        }
        m.ok(&["volume", "unmount", &volume]);
        m.ok(&["volume", "mount", &volume, &at]);
        let left: &[&str] = if fs == "ext4" { &["kept"] } else { &["kept", "lost"] };
        assert_eq!(names(&at), left, "{fs}");
        m.ok(&["volume", "unmount", &volume]);
        assert!(m.ok(&["volume", "check", &volume]).contains("no errors"), "{fs}");
        m.ok(&["snapshot", "rollback", &format!("{volume}@s"), "--yes"]);
        m.ok(&["volume", "mount", &volume, &at]);
        assert_eq!((names(&at), root_of_mount(&at)), (vec!["kept".to_owned()], "/data".to_owned()), "{fs}");
        m.ok(&["volume", "unmount", &volume]);
    }
    // Without owner and mode it is as a root would be, and the volume may be a thick one.
    m.ok(&["volume", "create", &m.of("thick"), "--size", "64M", "--thick", "--subdir", "data"]);
    m.ok(&["volume", "mount", &m.of("thick"), &m.path("thick")]);
    let seen = fs::metadata(m.path("thick")).unwrap();
    assert_eq!((seen.uid(), seen.gid(), seen.mode() & 0o7777), (0, 0, 0o755));
    assert_eq!(names(&m.path("thick")), Vec::<String>::new());
    m.settled();
    let sequence = m.sequence();
    let create = |more: &[&str]| [&["volume", "create", &*m.of("w"), "--size", "64M"], more].concat().join(" ");
    for (code, word, more) in [
        (2, "no sub-directory", "--subdir data --fs none"),
        (2, "a name", "--subdir lost+found"),
        (2, "a name", "--subdir .."),
        (2, "a name", "--subdir a/b"),
    ] {
        m.refused(code, &[word], &create(&more.split(' ').collect::<Vec<_>>()).split(' ').collect::<Vec<_>>());
    }
    let other = ["volume", "create", &m.of("ext4-copy"), "--size", "64M", "--subdir", "other"];
    m.refused(5, &["its directory data handed out"], &other);
    assert_eq!(m.sequence(), sequence);
}

#[test]
fn what_stands_in_place_of_the_directory_is_not_mounted_and_it_can_be_put_back() {
    use std::os::unix::fs::symlink;
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    for (fs, small, _) in SIZES {
        let (volume, at, whole) = (m.of(fs), m.path(fs), m.path(&format!("{fs}-whole")));
        m.ok(&["volume", "create", &volume, "--size", &format!("{small}M"), "--fs", fs, "--subdir", "data"]);
        m.ok(&["volume", "mount", &volume, &at]);
        fs::write(format!("{at}/kept"), "yes").unwrap();
        m.ok(&["volume", "unmount", &volume]);
        let id = m.json(&["volume", "show", &volume])["id"].as_str().unwrap().to_owned();
        let in_whole = |change: &dyn Fn(&str)| {
            m.ok(&["volume", "mount", &volume, &whole, "--whole"]);
            change(&format!("{whole}/data"));
            m.ok(&["volume", "unmount", &volume]);
        };
        let refused = |words: &[&str]| {
            m.refused(1, &[words, &["--whole", "docs/file-systems.md"]].concat(), &["volume", "mount", &volume, &at]);
            assert!(!kernel::snapshot().contains(&id), "{words:?}: it was left active");
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!table.lines().any(|line| line.contains(&at)), "{words:?}: {table}");
        };
        in_whole(&|data| fs::rename(data, format!("{data}-moved")).unwrap());
        refused(&["no directory data"]);
        for target in ["data-moved", "/etc", "/nowhere"] {
            in_whole(&|data| {
                fs::remove_file(data).ok();
                symlink(target, data).unwrap();
            });
            refused(&["data", "symbolic link"]);
        }
        in_whole(&|data| {
            fs::remove_file(data).unwrap();
            fs::write(data, "a file").unwrap();
        });
        refused(&["data", "not the directory"]);
        in_whole(&|data| {
            fs::remove_file(data).unwrap();
            fs::rename(format!("{data}-moved"), data).unwrap();
        });
        m.ok(&["volume", "mount", &volume, &at]);
        assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes", "{fs}");
        m.ok(&["volume", "unmount", &volume]);
    }
}

#[test]
fn a_daemon_killed_at_each_effect_of_a_mount_shows_the_directory_or_nothing() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(1);
    let (volume, at) = (m.of("v"), m.path("at"));
    m.ok(&["volume", "create", &volume, "--size", "64M", "--subdir", "data"]);
    let mut hand = Hand::new(m.dir().join("orders"));
    m.kill9();
    m.start_dying(hand.dir());
    hand.order(0, Side::Before, End::Kill);
    m.ok(&["volume", "mount", &volume, &at]);
    let effects = hand.effects();
    assert!(effects.iter().any(|effect| effect.contains("mount")), "{effects:?}");
    for number in 1..=effects.len() as u64 {
        for side in [Side::Before, Side::After] {
            m.ok(&["volume", "unmount", &volume]);
            hand.order(number, side, End::Kill);
            drop(m.run(&["volume", "mount", &volume, &at]));
            assert!(m.dies_within(Duration::from_secs(60)), "it lives at effect {number}");
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let there: Vec<_> = table.lines().filter(|line| line.contains("volumed") || line.contains(&at)).collect();
            assert!(there.iter().all(|line| line.contains(&format!(" /data {at} "))), "killed at {number}: {there:?}");
            m.start_dying(hand.dir());
            hand.order(0, Side::Before, End::Kill);
            m.ok(&["volume", "mount", &volume, &at]);
            assert_eq!(root_of_mount(&at), "/data");
        }
    }
    m.ok(&["volume", "unmount", &volume]);
    assert!(m.ok(&["volume", "check", &volume]).contains("no errors"));
}
