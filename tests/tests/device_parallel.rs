//! Work on one volume keeps nobody waiting who works on another: on a real kernel, with real tools.

use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vol_tests::{Machine, kernel, tool};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(180);
/// What waits for nobody is over by then, on a busy machine too; writes into a full pool wait for ten minutes here.
const SOON: Duration = Duration::from_secs(120);
/// Growths beside the work, at most: the group has space for no more.
const GROWTHS_MAX: u32 = 250;

fn tank(m: &Machine) -> Value {
    m.json(&["pool", "show", &m.of("tank")])
}

/// A VG on two disks, and a pool of this size that does not grow by itself.
fn with_tank(size: &str) -> Option<Machine> {
    let m = Machine::start()?;
    m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1)]);
    m.ok(&[
        "pool",
        "create",
        &m.of("tank"),
        "--size",
        size,
        "--grow-to",
        "off",
        "--reserve",
        "0",
        "--overcommit-limit",
        "2000",
    ]);
    kernel::be_patient_in_full_pools();
    Some(m)
}

fn begin(m: &Machine, args: &[&str]) -> Child {
    m.volctl(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("volctl")
}

#[track_caller]
fn ends_well(m: &Machine, child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}{}", output.status, m.log());
    said.into_owned()
}

/// Writes to a raw volume until the pool has no more than this left.
fn fill_up_to(m: &Machine, volume: &str, left: u64) {
    m.ok(&["volume", "create", &m.of(volume), "--size", "1G", "--fs", "none"]);
    m.ok(&["volume", "attach", &m.of(volume)]);
    let device = m.json(&["volume", "show", &m.of(volume)])["device"].as_str().unwrap().to_owned();
    let mut file = OpenOptions::new().write(true).open(&device).unwrap();
    let pool = pool_device(m, volume);
    let size = tank(m)["size_bytes"].as_u64().unwrap();
    // Others may write as well: asked once each time.
    let free = || size.saturating_sub(kernel::pool_used(&pool) * 64 * 1024);
    while let Some(some) = free().checked_sub(left).filter(|some| *some > 0) {
        let some = some.clamp(64 * 1024, 8 * MIB);
        file.write_all(&vec![0x5A; usize::try_from(some).unwrap()]).unwrap();
        file.sync_all().unwrap();
    }
}

fn pool_device(m: &Machine, volume: &str) -> String {
    let id = m.json(&["volume", "show", &m.of(volume)])["id"].as_str().unwrap().to_owned();
    kernel::pool_of(&kernel::number_of(&format!("VOLUMED-{id}")))
}

/// mkfs waits for space in a full pool. Others live on; the pool grows as soon as it may; mkfs ends as if nothing had been.
fn mkfs_in_a_full_pool(fs: &str) {
    let Some(m) = with_tank("320M") else { return };
    let at = m.path("srv");
    m.ok(&["volume", "create", &m.of("pg"), "--size", "512M", "--fs", "ext4"]);
    m.ok(&["volume", "mount", &m.of("pg"), &at]);
    std::fs::write(Path::new(&at).join("kept"), "before").unwrap();
    m.ok(&["volume", "create", &m.of("idle"), "--size", "512M", "--fs", "none"]);
    fill_up_to(&m, "full", MIB);

    let request = ["volume", "create", &m.of("new"), "--size", "2G", "--fs", fs];
    let mut made = begin(&m, &request);
    let begun = Instant::now();
    while tank(&m)["mode"] != "out_of_data_space" {
        assert!(begun.elapsed() < PATIENCE, "the pool does not fill: {:#}{}", tank(&m), m.log());
        sleep(Duration::from_millis(100));
    }
    let begun = Instant::now();
    m.ok(&["volume", "label", &m.of("pg"), "tier=fast"]);
    m.ok(&["volume", "attach", &m.of("idle")]);
    m.ok(&["volume", "detach", &m.of("idle")]);
    m.ok(&["volume", "rename", &m.of("idle"), &m.of("resting")]);
    m.ok(&["volume", "delete", &m.of("resting"), "--yes"]);
    m.refused(6, &["is full"], &["volume", "create", &m.of("more"), "--size", "1G", "--fs", "none"]);
    m.refused(4, &["still holds"], &["pool", "delete", &m.of("tank"), "--yes"]);
    assert_eq!(std::fs::read_to_string(Path::new(&at).join("kept")).unwrap(), "before");
    assert!(begun.elapsed() < SOON, "others waited for mkfs: {:?}{}", begun.elapsed(), m.log());
    // The volume's own name waits for it, and is told that it is there.
    let again = begin(&m, &request);
    assert!(made.try_wait().unwrap().is_none(), "mkfs did not wait for space{}", m.log());

    m.ok(&["pool", "set", &m.of("tank"), "--grow-to", "vg"]);
    ends_well(&m, made);
    ends_well(&m, again);
    let log = std::fs::read_to_string(m.path("log")).unwrap();
    assert!(log.contains("grown ahead of demand: extend pool"), "{log}");
    assert_eq!(tank(&m)["mode"], "read_write");
    let new = m.path("new");
    m.ok(&["volume", "mount", &m.of("new"), &new]);
    std::fs::write(Path::new(&new).join("file"), vec![1; 5 << 20]).unwrap();
    m.ok(&["volume", "unmount", &m.of("new")]);
    m.ok(&["volume", "check", &m.of("new")]);
    assert_eq!(kernel::stays_not_live(), Vec::<String>::new());
    m.ok(&["volume", "unmount", &m.of("pg")]);
    m.ok(&["volume", "detach", &m.of("full")]);
}

#[test]
fn f8_while_mkfs_of_ext4_waits_in_a_full_pool_others_go_on_and_the_pool_grows() {
    mkfs_in_a_full_pool("ext4");
}

#[test]
fn f8_while_mkfs_of_xfs_waits_in_a_full_pool_others_go_on_and_the_pool_grows() {
    mkfs_in_a_full_pool("xfs");
}

#[test]
fn volumes_are_formatted_mounted_and_deleted_side_by_side_while_the_tables_of_their_pool_change() {
    let Some(m) = with_tank("512M") else { return };
    m.ok(&["volume", "create", &m.of("first"), "--size", "512M"]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let m = &m;
                scope.spawn(move || {
                    for round in 0..3 {
                        let name = m.of(&format!("c{client}-{round}"));
                        let at = m.path(&format!("at-{client}-{round}"));
                        let fs = if client % 2 == 0 { "ext4" } else { "xfs" };
                        m.ok(&["volume", "create", &name, "--size", "512M", "--fs", fs]);
                        m.ok(&["volume", "mount", &name, &at]);
                        let file = Path::new(&at).join("file");
                        std::fs::write(&file, name.as_bytes()).unwrap();
                        m.ok(&["snapshot", "create", &format!("{name}@t")]);
                        assert_eq!(std::fs::read_to_string(&file).unwrap(), name);
                        m.ok(&["volume", "unmount", &name]);
                        m.ok(&["snapshot", "delete", &format!("{name}@t"), "--yes"]);
                        m.ok(&["volume", "delete", &name, "--yes"]);
                    }
                })
            })
            .collect();
        let growths = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::SeqCst) && count < GROWTHS_MAX {
                m.ok(&["pool", "extend", &m.of("tank"), "--size", "+16M"]);
                count += 1;
                sleep(Duration::from_millis(50));
            }
            count
        });
        let failed = clients.into_iter().map(|client| client.join()).filter(Result::is_err).count();
        over.store(true, Ordering::SeqCst);
        let growths = growths.join().unwrap();
        assert_eq!(failed, 0, "clients failed{}", m.log());
        assert!(growths > 5, "only {growths} growths");
        println!("{growths} growths");
    });
    let volumes = m.json(&["volume", "list"]);
    assert_eq!(volumes["volumes"].as_array().map(Vec::len), Some(1), "{volumes:#}");
    assert_eq!(m.run(&["status"]).code, 0, "{}", m.log());
    assert_eq!(kernel::stays_not_live(), Vec::<String>::new());
    let at = m.path("srv");
    m.ok(&["volume", "mount", &m.of("first"), &at, "--read-only"]);
    let source = kernel::mounted(&at).expect("it is mounted").source;
    tool::run("e2fsck", &["-fn", &source]);
}
