//! The kernel's thin ids against ours, on a real kernel: what a test does behind volumed's back with `dmsetup message` is told
//! of, nothing of it is deleted, and a refused pool can be read (rows F11, F12 and F31 of the catalogue of failures).

use std::fs;

use serde_json::Value;
use vol_tests::{Machine, kernel, skip, tool};

/// The pool's dm uuid, by its suffix.
fn device(suffix: &str) -> String {
    let ours = kernel::our_uuids();
    ours.into_iter().find(|uuid| uuid.ends_with(suffix)).unwrap_or_else(|| panic!("no device of ours ends in {suffix}"))
}

fn node(uuid: &str) -> String {
    let number = kernel::number_of(uuid);
    format!("/dev/dm-{}", number.split_once(':').unwrap().1)
}

fn pool_message(message: &str) {
    let name = device("-tpool").replace("VOLUMED-", "volumed-");
    tool::run("dmsetup", &["message", &name, "0", message]);
}

fn pool_status() -> Vec<String> {
    kernel::status(&kernel::number_of(&device("-tpool"))).split(' ').map(str::to_owned).collect()
}

fn transaction() -> String {
    pool_status()[3].clone()
}

fn problems(m: &Machine) -> Vec<(String, String)> {
    let ran = m.run(&["status", "-o", "json"]);
    let status: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}{}", m.log()));
    let text = |problem: &Value, key: &str| problem[key].as_str().unwrap().to_owned();
    let all = status["problems"].as_array().unwrap();
    let found: Vec<_> = all.iter().map(|one| (text(one, "code"), text(one, "message"))).collect();
    assert_eq!(ran.code, if found.is_empty() { 0 } else { 10 }, "{ran:?}");
    found
}

#[track_caller]
fn only_problem(m: &Machine, code: &str, words: &[&str]) {
    let found = problems(m);
    assert!(!found.is_empty() && found.iter().all(|(one, _)| one == code), "{found:?}{}", m.log());
    for word in words {
        assert!(found.iter().any(|(_, text)| text.contains(word)), "{word:?} is not said: {found:?}{}", m.log());
    }
}

#[test]
fn f11_a_pool_at_another_transaction_is_refused_says_both_sides_and_is_read_without_writing() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    let at = m.path("at");
    for fs in ["ext4", "xfs", "btrfs"] {
        let v = m.of(fs);
        m.ok(&["volume", "create", &v, "--size", "400M", "--fs", fs]);
        m.ok(&["volume", "mount", &v, &at]);
        fs::write(format!("{at}/kept"), format!("in {fs}")).unwrap();
        m.ok(&["volume", "unmount", &v]);
    }
    let raw = m.of("raw");
    m.ok(&["volume", "create", &raw, "--size", "16M", "--fs", "none"]);
    let ours = transaction();
    pool_message("create_thin 77");
    pool_message(&format!("set_transaction_id {ours} 900"));
    for _ in 0..2 {
        // A start compares; so does a refresh that sees the other number.
        m.restart();
        let both = format!("is at transaction 900 in the kernel, but at {ours} in");
        let found = problems(&m);
        let refused = found.iter().find(|(code, _)| code == "pool_refused");
        let (_, said) = refused.unwrap_or_else(|| panic!("{found:?}{}", m.log()));
        assert!(said.contains(&both) && said.contains("only the kernel has thin ids 77"), "{said}");
        m.refused(1, &[&both], &["volume", "create", &m.of("new"), "--size", "64M"]);
        for fs in ["ext4", "xfs", "btrfs"] {
            let v = m.of(fs);
            m.refused(1, &[&both, "--read-only"], &["volume", "mount", &v, &at]);
            m.ok(&["volume", "mount", "--read-only", &v, &at]);
            assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), format!("in {fs}"));
            let mounted = kernel::mounted(&at).unwrap();
            assert!(mounted.options.contains(&"ro".to_owned()), "{mounted:?}");
            fs::write(format!("{at}/new"), "no").unwrap_err();
            m.ok(&["volume", "unmount", &v]);
        }
        m.refused(1, &[&both], &["volume", "attach", &raw]);
        m.ok(&["volume", "attach", "--read-only", &raw]);
        let node = m.json(&["volume", "show", &raw])["device"].as_str().unwrap().to_owned();
        assert_eq!(fs::read(&node).unwrap().len(), 16 << 20);
        assert!(!tool::try_run("dd", &["if=/dev/zero", &format!("of={node}"), "bs=4096", "count=1", "oflag=direct"]));
        m.ok(&["volume", "detach", &raw]);
        assert_eq!(transaction(), "900", "volumed changed a pool that it refuses");
    }
    // Put right, with the stray gone, all is well.
    pool_message("delete 77");
    pool_message(&format!("set_transaction_id 900 {ours}"));
    m.restart();
    assert_eq!(problems(&m), Vec::new(), "{}", m.log());
    m.ok(&["volume", "mount", &m.of("ext4"), &at]);
    m.ok(&["volume", "unmount", &m.of("ext4")]);
}

#[test]
fn f11_a_volume_that_was_not_unmounted_is_read_with_its_journal_as_it_is() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(1);
    let (at, look) = (m.path("at"), m.path("look"));
    for fs in ["ext4", "xfs", "btrfs"] {
        let v = m.of(fs);
        m.ok(&["volume", "create", &v, "--size", "400M", "--fs", fs]);
        m.ok(&["volume", "mount", &v, &at]);
        fs::write(format!("{at}/kept"), "synced").unwrap();
        // All of it in its place, and the journal empty.
        tool::run("fsfreeze", &["--freeze", &at]);
        tool::run("fsfreeze", &["--unfreeze", &at]);
        // A snapshot of the pool's while it is mounted is a volume as a power cut leaves it; it takes the volume's place.
        let id = m.json(&["volume", "show", &v])["id"].as_str().unwrap().to_owned();
        let thin = kernel::table(&kernel::number_of(&format!("VOLUMED-{id}")));
        let thin_id: u32 = thin.split(' ').nth(4).unwrap().parse().unwrap();
        fs::write(format!("{at}/later"), "in the journal at most").unwrap();
        tool::run("sync", &["-d", &format!("{at}/later")]);
        let name = format!("volumed-{id}");
        tool::run("dmsetup", &["suspend", "--nolockfs", &name]);
        pool_message(&format!("create_snap 5000 {thin_id}"));
        tool::run("dmsetup", &["resume", &name]);
        m.ok(&["volume", "unmount", &v]);
        pool_message(&format!("delete {thin_id}"));
        pool_message(&format!("create_snap {thin_id} 5000"));
        pool_message("delete 5000");
        let ours = transaction();
        pool_message(&format!("set_transaction_id {ours} 700"));
        m.restart();
        let before = content(&m, thin_id, &thin);
        m.ok(&["volume", "mount", "--read-only", &v, &look]);
        assert_eq!(fs::read_to_string(format!("{look}/kept")).unwrap(), "synced", "{fs}");
        m.ok(&["volume", "unmount", &v]);
        assert_eq!(content(&m, thin_id, &thin), before, "{fs}: reading wrote to the volume");
        pool_message(&format!("set_transaction_id 700 {ours}"));
        m.restart();
        m.ok(&["volume", "mount", &v, &at]);
        assert_eq!(fs::read_to_string(format!("{at}/later")).unwrap(), "in the journal at most", "{fs}");
        m.ok(&["volume", "unmount", &v]);
        m.ok(&["volume", "delete", &v, "--yes"]);
    }
}

/// A checksum of all that a thin id holds, read through a device of the test's own.
fn content(_: &Machine, thin_id: u32, like: &str) -> String {
    let words: Vec<&str> = like.split(' ').collect();
    let table = format!("0 {} thin {} {thin_id}", words[1], kernel::number_of(&device("-tpool")));
    tool::run("dmsetup", &["create", "--readonly", "vt-look", "--table", &table]);
    tool::settle();
    let sum = tool::run("b2sum", &["/dev/mapper/vt-look"]);
    assert!(tool::remove_dm("vt-look"));
    sum
}

#[test]
fn f12_a_pool_that_needs_a_check_can_be_read() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(1);
    let (v, at) = (m.of("v"), m.path("at"));
    m.ok(&["volume", "create", &v, "--size", "64M"]);
    m.ok(&["volume", "mount", &v, &at]);
    fs::write(format!("{at}/kept"), "yes").unwrap();
    m.ok(&["volume", "unmount", &v]);
    // The metadata device refuses writes from here on; reading goes on. The next commit fails.
    let metadata = device("-tmeta");
    let name = metadata.replace("VOLUMED-", "volumed-");
    let linear = kernel::table(&kernel::number_of(&metadata));
    let words: Vec<&str> = linear.split(' ').collect();
    tool::try_run("modprobe", &["dm-flakey"]);
    if !tool::run("dmsetup", &["targets"]).contains("flakey") {
        return skip("the kernel has no dm-flakey");
    }
    let flakey = format!("0 {} flakey {} {} 0 3600 1 error_writes", words[1], words[3], words[4]);
    let becomes = |table: &str| {
        tool::run("dmsetup", &["reload", &name, "--table", table]);
        tool::run("dmsetup", &["suspend", "--noflush", "--nolockfs", &name]);
        tool::run("dmsetup", &["resume", &name]);
    };
    becomes(&flakey);
    let ran = m.run(&["volume", "create", &m.of("new"), "--size", "64M", "--fs", "none"]);
    assert_ne!(ran.code, 0, "a volume was acknowledged whose commit failed: {ran:?}{}", m.log());
    let status = pool_status().join(" ");
    assert!(status.contains(" ro ") && status.contains("needs_check"), "{status}");
    becomes(&linear);
    for _ in 0..2 {
        m.refused(1, &["needs a check"], &["volume", "mount", &v, &at]);
        m.ok(&["volume", "mount", "--read-only", &v, &at]);
        assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
        m.ok(&["volume", "unmount", &v]);
        m.restart();
    }
    let found = problems(&m);
    assert!(found.iter().any(|(code, text)| code == "pool_refused" && text.contains("needs a check")), "{found:?}");
}

#[test]
fn f31_strays_lost_ids_and_stray_devices_are_told_of_and_left_alone() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    let (a, b, at) = (m.of("a"), m.of("b"), m.path("at"));
    for v in [&a, &b] {
        m.ok(&["volume", "create", v, "--size", "64M"]);
    }
    pool_message("create_thin 30");
    pool_message("create_snap 31 1");
    m.restart();
    only_problem(&m, "pool_stray_thin", &["no volume of ours has: 30, 31 ("]);
    assert_eq!(pool_status()[6], "-", "the metadata snapshot is not held any longer");
    m.ok(&["volume", "create", &m.of("c"), "--size", "64M", "--fs", "none"]);
    m.ok(&["volume", "attach", &m.of("c")]);
    let id = m.json(&["volume", "show", &m.of("c")])["id"].as_str().unwrap().to_owned();
    let table = kernel::table(&kernel::number_of(&format!("VOLUMED-{id}")));
    assert!(table.ends_with(" 32"), "the counter is not past the strays: {table}");
    m.ok(&["volume", "detach", &m.of("c")]);
    m.ok(&["volume", "delete", &m.of("c"), "--yes"]);
    // Behind our back, with the very id that comes next: it is not ours to delete.
    pool_message("create_thin 33");
    m.refused(
        1,
        &["create_thin 33", "has a thin id 33 already, which is not ours"],
        &["volume", "create", &m.of("d"), "--size", "64M", "--fs", "none"],
    );
    let thins = dump(&m);
    for id in [1, 2, 30, 31, 33] {
        assert!(thins.contains(&format!("dev_id=\"{id}\"")), "thin {id} is gone: {thins}{}", m.log());
    }
    m.ok(&["volume", "create", &m.of("d"), "--size", "64M", "--fs", "none"]);
    // A thin id vanishes: that volume alone is refused.
    for id in [30, 31, 33, 2] {
        pool_message(&format!("delete {id}"));
    }
    m.restart();
    only_problem(&m, "pool_lost_thin", &["/b has thin id 2, which pool tank does not have"]);
    m.refused(1, &["does not have thin id 2"], &["volume", "mount", &b, &at]);
    m.ok(&["volume", "mount", &a, &at]);
    m.ok(&["volume", "unmount", &a]);
    m.run(&["volume", "delete", &b, "--yes"]);
    m.restart();
    assert_eq!(problems(&m), Vec::new(), "{}", m.log());
    // A device that looks like ours, of no group that is known.
    let uuid = "VOLUMED-00000000-0000-4000-8000-00000000abcd";
    let table = format!("0 8 linear {} 0", m.disk(3));
    tool::run("dmsetup", &["create", "volumed-stray", "--uuid", uuid, "--table", &table]);
    m.restart();
    only_problem(&m, "device_stray", &["volumed-stray (/dev/dm-"]);
    m.ok(&["volume", "mount", &a, &at]);
    m.ok(&["volume", "unmount", &a]);
    assert!(kernel::our_uuids().contains(&uuid.to_owned()), "it was removed");
    assert!(tool::remove_dm("volumed-stray"));
}

/// What `thin_dump` says of the pool as it runs.
fn dump(_: &Machine) -> String {
    pool_message("reserve_metadata_snap");
    let text = tool::run("thin_dump", &["--metadata-snap", "--skip-mappings", &node(&device("-tmeta"))]);
    pool_message("release_metadata_snap");
    text
}

#[test]
fn a_metadata_snapshot_that_a_dead_daemon_left_is_released_at_start() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(1);
    m.kill9();
    pool_message("reserve_metadata_snap");
    assert_ne!(pool_status()[6], "-");
    m.start_daemon();
    assert_eq!(pool_status()[6], "-", "{}", m.log());
    assert_eq!(problems(&m), Vec::new());
}

#[test]
fn what_the_comparison_reads_is_what_thin_dump_says_with_hundreds_of_ids() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(1);
    for id in 1000..1400 {
        pool_message(&format!("create_thin {id}"));
    }
    m.restart();
    only_problem(&m, "pool_stray_thin", &["1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007 and 392 more (0 B mapped)"]);
    assert_eq!(dump(&m).matches("dev_id=").count(), 400);
}
