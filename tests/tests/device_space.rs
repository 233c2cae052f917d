//! Pools that fill and grow, under file systems that are in use. dmsetup's tables and fio's checksums witness.

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vol_engine::host::HostMut as _;
use vol_linux::{LinuxHost, LinuxOptions};
use vol_tests::dying::{End, Hand, Side};
use vol_tests::{Machine, kernel, tool};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(180);

/// What the daemon says of `tank`.
fn tank(m: &Machine) -> Value {
    m.json(&["pool", "show", &m.of("tank")])
}

/// Waits until the pool is as it should be.
#[track_caller]
fn wait_for(m: &Machine, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let now = tank(m);
        if is(&now) {
            return now;
        }
        assert!(begin.elapsed() < PATIENCE, "{what} did not come: {now:#}{}", m.log());
        sleep(Duration::from_millis(100));
    }
}

/// The pool's device as `major:minor`, found under a volume that is active.
fn pool_device(m: &Machine, volume: &str) -> String {
    let id = m.json(&["volume", "show", &m.of(volume)])["id"].as_str().unwrap().to_owned();
    kernel::pool_of(&kernel::number_of(&format!("VOLUMED-{id}")))
}

/// Sectors of a device that has one line in its table.
fn sectors(number: &str) -> u64 {
    kernel::table(number).split(' ').nth(1).unwrap().parse().unwrap()
}

/// A VG on two disks, and a pool of `size` with these options.
fn with_tank(size: &str, options: &[&str]) -> Option<Machine> {
    let m = Machine::start()?;
    m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1)]);
    let tank = m.of("tank");
    let mut args = vec!["pool", "create", &tank, "--size", size];
    args.extend(options);
    m.ok(&args);
    kernel::be_patient_in_full_pools();
    Some(m)
}

/// Writes files below `at` and reads them back, each block with a checksum in it.
fn fio(at: &str, size: &str) -> Child {
    let directory = format!("--directory={at}");
    let size = format!("--size={size}");
    let mut fio = Command::new("fio");
    fio.args(["--name=fill", &directory, &size, "--bs=256k", "--rw=write", "--ioengine=psync", "--direct=1"]);
    fio.args(["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--end_fsync=1", "--fallocate=none"]);
    fio.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("fio")
}

#[track_caller]
fn succeeds(m: &Machine, fio: Child) {
    let output = fio.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "fio: {}\n{said}{}", output.status, m.log());
    assert!(said.contains("err= 0") && !said.contains("verify:"), "fio is not content:\n{said}");
}

#[test]
fn a_pool_is_extended_in_use_and_has_its_new_size_after_a_restart_too() {
    let Some(mut m) = with_tank("1G", &["--grow-to", "off"]) else { return };
    let at = m.path("srv");
    m.ok(&["volume", "create", &m.of("pg"), "--size", "2G"]);
    m.ok(&["volume", "mount", &m.of("pg"), &at]);
    std::fs::write(Path::new(&at).join("kept"), vec![7; 9 << 20]).unwrap();
    let device = pool_device(&m, "pg");
    assert_eq!(sectors(&device), 1024 * MIB / 512);

    let plan = m.ok(&["pool", "extend", &m.of("tank"), "--size", "+512M", "--dry-run"]);
    assert!(plan.contains("-tdata to 1.50 GiB") && plan.contains("-tpool to 1.50 GiB"), "{plan}");
    assert_eq!(sectors(&device), 1024 * MIB / 512, "a dry run changed the pool");
    let said = m.ok(&["pool", "extend", &m.of("tank"), "--size", "+512M"]);
    assert!(said.contains("extended: 1.50 GiB of data, 8.00 MiB of metadata"), "{said}");
    assert_eq!(sectors(&device), 1536 * MIB / 512);
    m.ok(&["pool", "extend", &m.of("tank"), "--size", "2G", "--metadata", "+24M"]);
    let now = tank(&m);
    assert_eq!((&now["size_bytes"], &now["metadata_size_bytes"]), (&(2048 * MIB).into(), &(32 * MIB).into()));
    // The kernel says so too, in its own units: blocks of 4 KiB and chunks of 64 KiB.
    let status = kernel::status(&device);
    assert!(status.contains("/8192 ") && status.contains("/32768 "), "{status}");
    assert_eq!(m.json(&["status"])["health"], "ok");

    let small =
        m.refused(2, &["a pool never shrinks", "+1.00 GiB"], &["pool", "extend", &m.of("tank"), "--size", "1G"]);
    assert!(!small.is_empty());
    m.refused(6, &["free", "volctl vg extend"], &["pool", "extend", &m.of("tank"), "--size", "+100G"]);
    let again = m.ok(&["pool", "extend", &m.of("tank"), "--size", "2G"]);
    assert!(again.contains("has that much already"), "{again}");

    m.ok(&["volume", "unmount", &m.of("pg")]);
    m.restart();
    m.ok(&["volume", "mount", &m.of("pg"), &at]);
    assert_eq!(sectors(&pool_device(&m, "pg")), 2048 * MIB / 512);
    assert!(std::fs::read(Path::new(&at).join("kept")).unwrap() == vec![7; 9 << 20], "what was written is not there");
}

#[test]
fn a_policy_is_changed_in_use_and_a_strict_pool_fails_writes_at_once() {
    let Some(m) = with_tank("128M", &["--grow-to", "off"]) else { return };
    m.ok(&["volume", "create", &m.of("raw"), "--size", "1G", "--fs", "none"]);
    m.ok(&["volume", "attach", &m.of("raw")]);
    let device = pool_device(&m, "raw");
    assert!(kernel::table(&device).trim_end().ends_with(" 0"), "{}", kernel::table(&device));
    m.ok(&["pool", "set", &m.of("tank"), "--when-full", "error", "--reserve", "0", "--overcommit-limit", "900"]);
    assert!(kernel::table(&device).contains(" 1 error_if_no_space"), "{}", kernel::table(&device));
    let now = tank(&m);
    assert_eq!((&now["when_full"], &now["reserve_percent"]), (&"error".into(), &0.into()));
    assert_eq!((&now["growth"], &now["overcommit_limit_percent"]), (&"off".into(), &900.into()));

    let node = m.json(&["volume", "show", &m.of("raw")])["device"].as_str().unwrap().to_owned();
    let begin = Instant::now();
    let dd = format!("dd if=/dev/zero of={node} bs=1M count=256 oflag=direct");
    assert!(!tool::try_run("sh", &["-c", &dd]), "a full pool took all of it");
    // They would wait for ten minutes.
    assert!(begin.elapsed() < Duration::from_secs(300), "writes waited for {:?}", begin.elapsed());
    m.ok(&["pool", "extend", &m.of("tank"), "--size", "512M"]);
    tool::run("sh", &["-c", &dd]);
    m.ok(&["volume", "detach", &m.of("raw")]);
}

#[test]
fn f8_when_a_pool_is_full_writes_to_ext4_wait_and_go_on_when_it_was_extended() {
    full_and_extended("ext4", "192M");
}

#[test]
fn f8_when_a_pool_is_full_writes_to_xfs_wait_and_go_on_when_it_was_extended() {
    full_and_extended("xfs", "192M");
}

fn full_and_extended(fs: &str, size: &str) {
    let Some(m) = with_tank(size, &["--grow-to", "off"]) else { return };
    let at = m.path("srv");
    m.ok(&["volume", "create", &m.of("pg"), "--size", "1G", "--fs", fs]);
    m.ok(&["volume", "mount", &m.of("pg"), &at]);
    let writer = fio(&at, "400M");
    let full = wait_for(&m, "a full pool", |pool| pool["mode"] == "out_of_data_space");
    assert_eq!(full["health"], "failed", "{full:#}");
    let ran = m.run(&["status"]);
    assert_eq!(ran.code, 10, "status of a full pool: {}", ran.out);
    assert!(ran.out.contains("pool_full") && ran.out.contains("volctl pool extend"), "{}", ran.out);
    m.refused(6, &["is full", "pool extend"], &["volume", "create", &m.of("more"), "--size", "1G", "--fs", "none"]);
    m.refused(6, &["is full", "pool extend"], &["snapshot", "create", &m.of("pg@now")]);

    m.ok(&["pool", "extend", &m.of("tank"), "--size", "+512M"]);
    assert_eq!(tank(&m)["mode"], "read_write");
    succeeds(&m, writer);
    assert_eq!(kernel::stays_not_live(), Vec::<String>::new());
    m.ok(&["volume", "unmount", &m.of("pg")]);
    // Nothing of the file system is damaged: its own checker says so.
    m.ok(&["volume", "mount", &m.of("pg"), &at, "--read-only"]);
    let source = kernel::mounted(&at).expect("it is mounted").source;
    match fs {
        "ext4" => tool::run("e2fsck", &["-fn", &source]),
        _ => tool::run("xfs_repair", &["-n", &source]),
    };
}

#[test]
fn killed_at_every_effect_of_a_growth_it_is_whole_or_absent_and_the_kernel_agrees() {
    let Some(mut m) = with_tank("256M", &["--grow-to", "off"]) else { return };
    let at = m.path("srv");
    m.ok(&["volume", "create", &m.of("pg"), "--size", "1G"]);
    m.ok(&["volume", "mount", &m.of("pg"), &at]);
    let file = Path::new(&at).join("kept");
    let device = pool_device(&m, "pg");
    m.kill9();
    let mut hand = Hand::new(m.path("orders"));
    let orders = hand.dir().to_owned();
    let (mut points, mut last) = (0, 256);
    for number in 1.. {
        let size = last + 8;
        m.start_dying(&orders);
        std::fs::write(&file, format!("before {size}")).unwrap();
        hand.order(number, Side::Before, End::Kill);
        let ran = m.run(&["pool", "extend", &m.of("tank"), "--size", &format!("{size}M"), "--metadata", "+4M"]);
        if ran.code == 0 {
            // It took fewer effects than that: all of them were walked.
            assert!(points >= 5, "only {points} effects: {:?}", hand.effects());
            m.kill9();
            m.start_daemon();
            break;
        }
        assert!(m.dies_within(Duration::from_secs(60)), "{}{}", ran.err, m.log());
        points += 1;
        m.start_daemon();
        let now = tank(&m);
        let recorded = now["size_bytes"].as_u64().unwrap() / MIB;
        assert!(recorded == size || recorded == last, "{recorded} MiB recorded, {size} asked for, {last} before");
        last = recorded;
        assert_eq!(sectors(&device), recorded * MIB / 512, "at effect {number} the kernel has another size");
        let metadata = now["metadata_size_bytes"].as_u64().unwrap() / 4096;
        assert!(kernel::status(&device).contains(&format!("/{metadata} ")), "{}", kernel::status(&device));
        assert_eq!((&now["health"], &now["mode"]), (&"ok".into(), &"read_write".into()), "{now:#}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("before {size}"));
        assert_eq!(kernel::stays_not_live(), Vec::<String>::new());
        m.kill9();
    }
    println!("{points} points");
    m.ok(&["volume", "unmount", &m.of("pg")]);
}

/// What fio wrote is right, and the pool was never full: it grew ahead of the writer.
fn grown_ahead(fs: &str) {
    let Some(m) = with_tank("256M", &[]) else { return };
    let at = m.path("srv");
    m.ok(&["volume", "create", &m.of("pg"), "--size", "2G", "--fs", fs]);
    m.ok(&["volume", "mount", &m.of("pg"), &at]);
    let device = pool_device(&m, "pg");
    let mut writer = fio(&at, "1000M");
    while writer.try_wait().unwrap().is_none() {
        // The kernel's own word, as often as can be asked. A writer that is faster than the daemon waits for a moment; it never fails.
        let status = kernel::status(&device);
        assert!(status.contains(" queue_if_no_space "), "writes were failed: {status}{}", m.log());
        sleep(Duration::from_millis(50));
    }
    succeeds(&m, writer);
    // It may grow once more when the writer is done.
    let now = wait_for(&m, "a pool that has grown, and the same in the kernel", |pool| {
        pool["size_bytes"].as_u64() > Some(1000 * MIB)
            && pool["health"] == "ok"
            && pool["mode"] == "read_write"
            && pool["size_bytes"].as_u64() == Some(sectors(&device) * 512)
    });
    assert!(now["size_bytes"].as_u64() < Some(2730 * MIB), "it grew far ahead of demand: {now:#}");
    let log = std::fs::read_to_string(m.path("log")).unwrap();
    assert!(log.matches("grown ahead of demand: extend pool").count() > 1, "once would be luck: {log}");
    assert_eq!(kernel::stays_not_live(), Vec::<String>::new());
    m.ok(&["volume", "unmount", &m.of("pg")]);
}

#[test]
fn f8_a_pool_grows_ahead_of_a_writer_on_ext4() {
    grown_ahead("ext4");
}

#[test]
fn f8_a_pool_grows_ahead_of_a_writer_on_xfs() {
    grown_ahead("xfs");
}

#[test]
fn f8_a_pool_that_filled_while_the_daemon_was_dead_grows_when_it_is_back() {
    let Some(mut m) = with_tank("192M", &[]) else { return };
    let at = m.path("srv");
    m.ok(&["volume", "create", &m.of("pg"), "--size", "1G"]);
    m.ok(&["volume", "mount", &m.of("pg"), &at]);
    let device = pool_device(&m, "pg");
    m.kill9();
    let writer = fio(&at, "400M");
    let begin = Instant::now();
    while !kernel::status(&device).contains("out_of_data_space") {
        assert!(begin.elapsed() < PATIENCE, "it does not fill: {}", kernel::status(&device));
        sleep(Duration::from_millis(100));
    }
    m.start_daemon();
    succeeds(&m, writer);
    wait_for(&m, "a pool with space", |pool| pool["mode"] == "read_write");
    m.ok(&["volume", "unmount", &m.of("pg")]);
}

#[test]
fn a_pool_ends_at_its_bound_and_the_end_of_the_space_is_told_once() {
    let Some(m) = with_tank("192M", &["--grow-to", "256M"]) else { return };
    m.ok(&["volume", "create", &m.of("raw"), "--size", "1G", "--fs", "none"]);
    m.ok(&["volume", "attach", &m.of("raw")]);
    let node = m.json(&["volume", "show", &m.of("raw")])["device"].as_str().unwrap().to_owned();
    let write =
        |count: &str| tool::run("sh", &["-c", &format!("dd if=/dev/zero of={node} bs=1M count={count} oflag=direct")]);
    write("180");
    wait_for(&m, "a pool at its bound", |pool| pool["size_bytes"] == 256 * MIB);
    write("248");
    let full = wait_for(&m, "an alarm", |pool| pool["problems"].as_array().is_some_and(|all| !all.is_empty()));
    assert_eq!((&full["size_bytes"], &full["problems"][0]["code"]), (&(256 * MIB).into(), &"pool_almost_full".into()));
    // 8 MiB of 256 are free: less than 5 %.
    m.refused(
        6,
        &["reserve of 5 %", "pool extend"],
        &["volume", "create", &m.of("more"), "--size", "1G", "--fs", "none"],
    );
    m.refused(6, &["reserve of 5 %"], &["snapshot", "create", &m.of("raw@now")]);
    m.ok(&["pool", "set", &m.of("tank"), "--reserve", "0"]);
    m.ok(&["snapshot", "create", &m.of("raw@now")]);

    // Without a bound it takes what the group has, and says when that is all.
    m.ok(&["pool", "create", &m.of("hog"), "--size", "99%FREE"]);
    m.ok(&["pool", "set", &m.of("tank"), "--grow-to", "vg"]);
    // What the snapshot shares is written again: it takes new chunks.
    write("50");
    let now = wait_for(&m, "the end of the space", |pool| pool["problems"][0]["code"] == "pool_cannot_grow");
    assert!(now["problems"][0]["hint"].as_str().unwrap().contains("volctl vg extend"), "{now:#}");
    // It is looked at again every five seconds, and that is the same news.
    sleep(Duration::from_secs(7));
    let log = std::fs::read_to_string(m.path("log")).unwrap();
    let told = log.lines().filter(|line| line.contains("should grow and cannot") && !line.contains("over:")).count();
    assert_eq!(told, 1, "{log}");
    m.ok(&["vg", "extend", &m.vg, m.disk(2)]);
    wait_for(&m, "a pool that has grown", |pool| pool["health"] == "ok");
    m.ok(&["volume", "detach", &m.of("raw")]);
}

/// Makes thin ids past the daemon: each takes a block of the pool's metadata. Until there are so many or the kernel takes no more.
fn fill_metadata(m: &Machine, ids: std::ops::Range<u32>) -> bool {
    let pool = format!("VOLUMED-{}-tpool", tank(m)["id"].as_str().unwrap());
    // A process for each would take several times as long as what it asks for.
    let [run_dir, state_dir] = ["filler-run", "filler-state"].map(|name| m.dir().join(name));
    let host = LinuxHost::new(LinuxOptions { run_dir, state_dir, ..LinuxOptions::default() }).unwrap();
    ids.into_iter().all(|id| host.dm_message(&pool, &format!("create_thin {id}")).is_ok())
}

/// Blocks of a pool's metadata that are free, by the kernel's word.
fn metadata_left(pool: &str) -> u64 {
    let status = kernel::status(pool);
    let left = status.split(' ').nth(4).and_then(|metadata| {
        let (used, all) = metadata.split_once('/')?;
        all.parse::<u64>().ok()?.checked_sub(used.parse().ok()?)
    });
    left.unwrap_or_else(|| panic!("no status of a working pool: {status}"))
}

#[test]
fn f9_metadata_grow_before_they_are_full() {
    let Some(m) = with_tank("1G", &[]) else { return };
    m.ok(&["volume", "create", &m.of("raw"), "--size", "1G", "--fs", "none"]);
    m.ok(&["volume", "attach", &m.of("raw")]);
    let device = pool_device(&m, "raw");
    for first in (5000..7500).step_by(250) {
        assert!(fill_metadata(&m, first..first + 249), "{}{}", kernel::status(&device), m.log());
        assert!(kernel::status(&device).contains(" rw "), "{}", kernel::status(&device));
        sleep(Duration::from_secs(1));
        // No more than there is space for: how soon the daemon looks again depends on the machine, that it does so does not.
        let begin = Instant::now();
        while metadata_left(&device) < 300 {
            assert!(begin.elapsed() < PATIENCE, "they do not grow: {}{}", kernel::status(&device), m.log());
            sleep(Duration::from_millis(100));
        }
    }
    let now = wait_for(&m, "more metadata", |pool| pool["metadata_size_bytes"].as_u64() > Some(8 * MIB));
    assert_eq!((&now["size_bytes"], &now["mode"]), (&(1024 * MIB).into(), &"read_write".into()), "{now:#}");
    m.ok(&["volume", "detach", &m.of("raw")]);
}

#[test]
fn f9_full_metadata_stop_what_is_new_and_all_goes_on_when_they_were_extended() {
    let Some(m) = with_tank("1G", &["--grow-to", "off"]) else { return };
    m.ok(&["volume", "create", &m.of("raw"), "--size", "1G", "--fs", "none"]);
    m.ok(&["volume", "attach", &m.of("raw")]);
    let device = pool_device(&m, "raw");
    assert!(!fill_metadata(&m, 5000..9000), "no end to the metadata: {}", kernel::status(&device));
    assert!(kernel::status(&device).contains(" ro "), "{}", kernel::status(&device));
    let full = wait_for(&m, "an alarm", |pool| pool["health"] == "failed");
    let codes: Vec<&str> = full["problems"].as_array().unwrap().iter().filter_map(|one| one["code"].as_str()).collect();
    assert!(codes.contains(&"pool_full"), "{full:#}");
    assert!(full.to_string().contains("--metadata +256M"), "{full:#}");
    let refused = ["volume", "create", &m.of("more"), "--size", "1G", "--fs", "none"];
    m.refused(1, &["the metadata of pool tank are full", "pool extend VG/POOL --metadata"], &refused);
    m.ok(&["pool", "extend", &m.of("tank"), "--metadata", "+24M"]);
    assert_eq!(tank(&m)["mode"], "read_write");
    m.ok(&["volume", "create", &m.of("more"), "--size", "1G", "--fs", "none"]);
    m.ok(&["snapshot", "create", &m.of("raw@now")]);
    m.ok(&["volume", "detach", &m.of("raw")]);
}

#[test]
fn what_is_set_aside_for_a_volume_is_counted_by_the_kernels_word_and_the_pool_grows_before_it_is_touched() {
    let Some(mut m) = with_tank("512M", &["--grow-to", "off", "--reserve", "0"]) else { return };
    m.ok(&["volume", "create", &m.of("own"), "--size", "300M", "--fs", "none", "--reserve", "full"]);
    m.refused(
        6,
        &["needs 300 MiB to be set aside", "pool extend"],
        &["volume", "create", &m.of("more"), "--size", "300M", "--fs", "none", "--reserve", "full"],
    );
    let aside = |m: &Machine| tank(m)["set_aside_bytes"].as_u64().unwrap() / MIB;
    assert_eq!(aside(&m), 300);
    // What it writes is its own, and set aside no more: by the kernel, and after a restart by the pool's own metadata.
    m.ok(&["volume", "attach", &m.of("own")]);
    let device = m.json(&["volume", "show", &m.of("own")])["device"].as_str().unwrap().to_owned();
    tool::run("dd", &["if=/dev/zero", &format!("of={device}"), "bs=1M", "count=100", "oflag=direct"]);
    wait_for(&m, "what was written", |pool| pool["set_aside_bytes"].as_u64() == Some(200 * MIB));
    m.ok(&["volume", "detach", &m.of("own")]);
    m.restart();
    assert_eq!(aside(&m), 200);
    // A snapshot makes all of it count again.
    m.ok(&["snapshot", "create", &m.of("own@t")]);
    assert_eq!(aside(&m), 300);
    m.ok(&["snapshot", "delete", &m.of("own@t"), "--yes"]);
    assert_eq!(aside(&m), 200);
    // So does a clone, which may have a reserve besides; 412 MiB are free.
    let (own, copy) = (m.of("own"), m.of("copy"));
    m.refused(
        6,
        &["would share its chunks", "needs 313 MiB to be set aside"],
        &["volume", "clone", &own, &copy, "--reserve", "213M"],
    );
    m.ok(&["volume", "clone", &own, &copy, "--reserve", "64M"]);
    m.refused(5, &["not what was asked for: a reserve of 64.0 MiB"], &["volume", "clone", &own, &copy]);
    assert_eq!(m.json(&["volume", "show", &copy])["reserve_bytes"].as_u64(), Some(64 * MIB));
    assert_eq!(aside(&m), 364);
    m.restart();
    assert_eq!(aside(&m), 364);
    m.ok(&["volume", "delete", &copy, "--now", "--yes"]);
    assert_eq!(aside(&m), 200);
    // Another one writes: the pool grows although it is far from full.
    m.ok(&["pool", "set", &m.of("tank"), "--grow-to", "vg"]);
    let at = m.path("srv");
    m.ok(&["volume", "create", &m.of("pg"), "--size", "512M"]);
    m.ok(&["volume", "mount", &m.of("pg"), &at]);
    std::fs::write(Path::new(&at).join("file"), vec![3; 150 << 20]).unwrap();
    let grown = wait_for(&m, "growth", |pool| pool["size_bytes"].as_u64() > Some(512 * MIB));
    let free = grown["size_bytes"].as_u64().unwrap() - grown["used_bytes"].as_u64().unwrap();
    assert!(free > 200 * MIB, "{grown:#}");
    m.ok(&["volume", "set", &m.of("own"), "--reserve", "none"]);
    assert_eq!(aside(&m), 0);
    m.ok(&["volume", "unmount", &m.of("pg")]);
    assert_eq!(kernel::stays_not_live(), Vec::<String>::new());
}
