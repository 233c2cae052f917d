//! Pools that lie on the disks that they were asked to lie on, on a real kernel.

use std::os::unix::fs::MetadataExt as _;

use vol_tests::{Machine, kernel};

/// `8:16` of a disk's node.
fn number(disk: &str) -> String {
    let dev = std::fs::metadata(disk).unwrap_or_else(|error| panic!("{disk}: {error}")).rdev();
    format!("{}:{}", nix_major(dev), nix_minor(dev))
}

/// As the kernel names it, and so the daemon: the test's name may be a link.
fn kernel_name(disk: &str) -> String {
    std::fs::canonicalize(disk).unwrap_or_else(|error| panic!("{disk}: {error}")).display().to_string()
}

/// `gnu_dev_major(3)`.
fn nix_major(dev: u64) -> u64 {
    ((dev >> 8) & 0xfff) | ((dev >> 32) & !0xfff)
}

fn nix_minor(dev: u64) -> u64 {
    (dev & 0xff) | ((dev >> 12) & !0xff)
}

/// The disks that the tables of a pool's data and metadata name, by their numbers.
fn lies_on(m: &Machine) -> Vec<String> {
    let id = m.json(&["pool", "show", &m.of("tank")])["id"].as_str().unwrap().to_owned();
    let mut disks: Vec<String> = ["tdata", "tmeta"]
        .iter()
        .flat_map(|layer| {
            let table = kernel::table(&kernel::number_of(&format!("VOLUMED-{id}-{layer}")));
            table.lines().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    disks.sort();
    disks.dedup();
    disks
}

fn vg(m: &Machine) {
    m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1), m.disk(2)]);
}

#[test]
fn a_pool_lies_on_the_disk_that_was_named_also_when_it_grows() {
    let Some(m) = Machine::start() else { return };
    vg(&m);
    let tank = m.of("tank");
    m.ok(&["pool", "create", &tank, "--size", "256M", "--on", m.disk(1)]);
    assert_eq!(lies_on(&m), [number(m.disk(1))]);
    m.ok(&["pool", "extend", &tank, "--size", "+1G"]);
    assert_eq!(lies_on(&m), [number(m.disk(1))]);
    assert!(m.ok(&["pool", "show", &tank]).contains(&kernel_name(m.disk(1))));
    // There is space in the group, but not on this disk.
    m.refused(6, &["free on PVs that are one of"], &["pool", "extend", &tank, "--size", "+4G"]);
    m.ok(&["pool", "extend", &tank, "--size", "+1G", "--on", m.disk(2)]);
    let mut both = vec![number(m.disk(1)), number(m.disk(2))];
    both.sort();
    assert_eq!(lies_on(&m), both);
    let shown = m.json(&["pool", "show", &tank]);
    assert_eq!(shown["on"].as_array().unwrap().len(), 1, "that was for this growth alone: {shown}");
}

#[test]
fn a_pool_lies_on_the_disks_with_a_label_after_a_restart_too() {
    let Some(mut m) = Machine::start() else { return };
    vg(&m);
    let tank = m.of("tank");
    m.ok(&["pv", "label", m.disk(2), "tier=fast", "rack=7"]);
    m.ok(&["pv", "label", m.disk(2), "rack-"]);
    let pv = m.json(&["pv", "show", m.disk(2)]);
    assert_eq!(pv["labels"], serde_json::json!({"tier": "fast"}), "{pv}");
    let listed = m.ok(&["pv", "list", &m.vg]);
    assert!(listed.lines().next().unwrap().ends_with("LABELS"), "{listed}");
    assert_eq!(listed.lines().filter(|line| line.ends_with("  tier=fast")).count(), 1, "{listed}");
    let fast = |selector: &str| m.json(&["pv", "list", &m.vg, "-l", selector])["pvs"].clone();
    assert_eq!(fast("tier=fast").as_array().unwrap().len(), 1);
    assert_eq!(fast("tier=fast")[0]["id"], pv["id"]);
    assert_eq!(fast("!tier").as_array().unwrap().len(), 2);
    m.refused(2, &["a selector is KEY=VALUE"], &["pv", "list", "-l", "a,,b"]);
    m.ok(&["pool", "create", &tank, "--size", "50%FREE", "--on-label", "tier=fast"]);
    assert_eq!(lies_on(&m), [number(m.disk(2))]);
    m.restart();
    assert_eq!(m.json(&["pool", "show", &tank])["on_labels"]["tier"], "fast");
    m.ok(&["pool", "extend", &tank, "--size", "50%FREE"]);
    assert_eq!(lies_on(&m), [number(m.disk(2))]);
}

#[test]
fn a_placement_that_cannot_be_is_refused_in_words() {
    let Some(m) = Machine::start() else { return };
    vg(&m);
    let tank = m.of("tank");
    let create = |more: &[&str]| {
        let mut args = vec!["pool", "create", tank.as_str(), "--size", "1G"];
        args.extend(more);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let refused = |code, words: &[&str], more: &[&str]| {
        let args = create(more);
        m.refused(code, words, &args.iter().map(String::as_str).collect::<Vec<_>>());
    };
    refused(3, &[m.disk(3), "is no PV of volume group"], &["--on", m.disk(3)]);
    refused(3, &["no PV of volume group", "labelled tier=fast", "volctl pv label"], &["--on-label", "tier=fast"]);
    refused(2, &["is to be used and not to be used"], &["--on", m.disk(1), "--not-on", m.disk(1)]);
    refused(2, &["KEY=VALUE"], &["--on-label", "tier"]);
    let big = ["pool", "create", tank.as_str(), "--size", "5G", "--contiguous"];
    m.refused(6, &["without gaps", "the most that is free so", &kernel_name(m.disk(0))], &big);
    m.ok(&["pool", "create", &tank, "--size", "1G", "--contiguous", "--not-on", m.disk(0)]);
    assert!(!lies_on(&m).contains(&number(m.disk(0))));
}

#[test]
fn a_pool_grows_on_the_disk_that_it_was_told_later_and_what_it_has_stays() {
    let Some(mut m) = Machine::start() else { return };
    vg(&m);
    let tank = m.of("tank");
    m.ok(&["pool", "create", &tank, "--size", "256M", "--on", m.disk(0)]);
    m.ok(&["pv", "label", m.disk(2), "tier=fast"]);
    let set = |m: &Machine, more: &[&str]| {
        let mut args = vec!["pool", "set", tank.as_str()];
        args.extend(more);
        m.ok(&args)
    };
    let said = set(&m, &["--on-label", "tier=fast"]);
    assert!(said.contains("PVs labelled tier=fast from now on; what it has stays where it is"), "{said}");
    assert!(set(&m, &["--on-label", "tier=fast"]).contains("is set so already"));
    assert_eq!(lies_on(&m), [number(m.disk(0))]);
    m.restart();
    m.ok(&["pool", "extend", &tank, "--size", "+512M"]);
    let mut both = vec![number(m.disk(0)), number(m.disk(2))];
    both.sort();
    assert_eq!(lies_on(&m), both);
    m.refused(3, &[m.disk(3), "is no PV of volume group"], &["pool", "set", &tank, "--on", m.disk(3)]);
    m.refused(3, &["labelled tier=slow"], &["pool", "set", &tank, "--on-label", "tier=slow"]);
    let both_ways = ["pool", "set", tank.as_str(), "--on", m.disk(1), "--not-on", m.disk(1)];
    m.refused(2, &["is to be used and not to be used"], &both_ways);
    m.refused(2, &["cannot be used with"], &["pool", "set", &tank, "--anywhere", "--on", m.disk(1)]);
    let said = set(&m, &["--anywhere"]);
    assert!(said.contains("It grows on any PV from now on"), "{said}");
    let shown = m.json(&["pool", "show", &tank]);
    assert!(shown.get("on_labels").is_none_or(|labels| labels == &serde_json::json!({})), "{shown}");
}

/// The disks that the table of a thick volume's device names.
fn thick_lies_on(m: &Machine, name: &str) -> Vec<String> {
    let path = m.of(name);
    m.ok(&["volume", "attach", &path]);
    let id = m.json(&["volume", "show", &path])["id"].as_str().unwrap().to_owned();
    let table = kernel::table(&kernel::number_of(&format!("VOLUMED-{id}")));
    m.ok(&["volume", "detach", &path]);
    table.lines().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect()
}

#[test]
fn a_thick_volume_is_cloned_and_grown_on_the_disk_that_is_named() {
    let Some(m) = Machine::start() else { return };
    vg(&m);
    let (log, copy) = (m.of("log"), m.of("copy"));
    m.ok(&["volume", "create", &log, "--thick", "--size", "64M", "--fs", "none", "--on", m.disk(0)]);
    m.ok(&["pv", "label", m.disk(2), "tier=fast"]);
    m.ok(&["volume", "clone", &log, &copy, "--on-label", "tier=fast"]);
    assert_eq!(thick_lies_on(&m, "copy"), [number(m.disk(2))]);
    m.ok(&["volume", "resize", &log, "128M", "--on", m.disk(1)]);
    assert_eq!(thick_lies_on(&m, "log"), [number(m.disk(0)), number(m.disk(1))]);
    m.ok(&["volume", "resize", &log, "+64M", "--contiguous"]);
    assert_eq!(thick_lies_on(&m, "log"), [number(m.disk(0)), number(m.disk(1))]);
    m.refused(3, &["is no PV of volume group"], &["volume", "resize", &log, "+64M", "--on", m.disk(3)]);
    m.refused(6, &["on PVs that are one of"], &["volume", "resize", &log, "+5G", "--on", m.disk(1)]);
    m.refused(3, &["labelled tier=slow"], &["volume", "clone", &log, &m.of("c"), "--on-label", "tier=slow"]);
    m.refused(2, &["its own already", "--reserve"], &["volume", "clone", &log, &m.of("c"), "--reserve", "full"]);
    m.ok(&["pool", "create", &m.of("tank"), "--size", "256M"]);
    m.ok(&["volume", "create", &m.of("thin"), "--size", "64M", "--fs", "none"]);
    m.refused(
        2,
        &["only a thick volume has extents of its own", "pool set"],
        &["volume", "clone", &m.of("thin"), &m.of("c"), "--on", m.disk(0)],
    );
    m.refused(
        2,
        &["only a thick volume has extents of its own", "pool set"],
        &["volume", "resize", &m.of("thin"), "+64M", "--contiguous"],
    );
    assert_eq!(kernel::not_live(), Vec::<String>::new());
}
