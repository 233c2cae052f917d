//! Pools that fill and grow, under file systems that are in use. dmsetup's tables and fio's checksums witness.

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vol_tests::{Machine, kernel, tool};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(40);

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
    assert!(begin.elapsed() < Duration::from_secs(20), "writes waited for {:?}", begin.elapsed());
    m.ok(&["pool", "extend", &m.of("tank"), "--size", "512M"]);
    tool::run("sh", &["-c", &dd]);
    m.ok(&["volume", "detach", &m.of("raw")]);
}

#[test]
fn when_a_pool_is_full_writes_to_ext4_wait_and_go_on_when_it_was_extended() {
    full_and_extended("ext4", "192M");
}

#[test]
fn when_a_pool_is_full_writes_to_xfs_wait_and_go_on_when_it_was_extended() {
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
    assert_eq!(kernel::not_live(), Vec::<String>::new());
    m.ok(&["volume", "unmount", &m.of("pg")]);
    // Nothing of the file system is damaged: its own checker says so.
    m.ok(&["volume", "mount", &m.of("pg"), &at, "--read-only"]);
    let source = kernel::mounted(&at).expect("it is mounted").source;
    match fs {
        "ext4" => tool::run("e2fsck", &["-fn", &source]),
        _ => tool::run("xfs_repair", &["-n", &source]),
    };
}
