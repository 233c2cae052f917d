//! `--dry-run` of every change prints a plan and changes nothing; JSON has stable keys and whole bytes.

use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use vol_tests::{Bytes, Machine, kernel};

/// A dry run prints a plan, to people and to programs, and changes nothing.
#[track_caller]
fn dry_run(m: &Machine, args: &[&str]) {
    let sequence = || {
        m.json(&["vg", "list"])["vgs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|vg| vg["sequence"].as_u64().unwrap())
            .sum::<u64>()
    };
    let state = || (sequence(), kernel::snapshot(), std::fs::read_to_string("/proc/self/mounts").unwrap());
    m.settled();
    let before = state();
    let bytes = [m.disk(0), m.disk(1), m.disk(2)].map(Bytes::of);
    let mut args = args.to_vec();
    args.push("--dry-run");
    let plan = m.json(&args);
    let title = plan["title"].as_str().expect("a title");
    assert_eq!(plan["changes"], true, "{plan}");
    let steps = plan["steps"].as_array().expect("steps");
    assert!(!steps.is_empty(), "{plan}");
    for (at, step) in steps.iter().enumerate() {
        assert_eq!(step["number"], at + 1, "{plan}");
        assert!(step["requires"].is_array() && step["action"].is_string() && step["description"].is_string(), "{plan}");
    }
    let text = m.ok(&args);
    assert!(text.starts_with(title), "{text}");
    assert!(text.lines().count() > steps.len(), "{text}");
    assert_eq!(before, state(), "a dry run of {args:?} changed something{}", m.log());
    for (disk, before) in m.disks.iter().zip(&bytes) {
        assert_eq!(before.difference(&Bytes::of(disk)), None, "a dry run of {args:?} wrote to {disk}");
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let Some(m) = Machine::start() else { return };
    let (tank, v, s) = (m.of("tank"), m.of("v"), m.of("v@s"));
    let (at, old, image) = (m.path("at"), m.path("old"), m.path("image"));
    let file = format!("{image}:256M");
    dry_run(&m, &["vg", "create", &m.vg, m.disk(0), m.disk(1)]);
    dry_run(&m, &["vg", "create", &m.vg, "--file", &file]);
    dry_run(&m, &["init", "--vg", &m.vg, m.disk(2)]);
    dry_run(&m, &["init", "--vg", &m.vg, "--file", &file]);
    assert!(!Path::new(&image).exists(), "a dry run made a file");
    m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1)]);
    dry_run(&m, &["pool", "create", &tank, "--size", "80%FREE"]);
    m.ok(&["pool", "create", &tank, "--size", "80%FREE"]);
    dry_run(&m, &["volume", "create", &v, "--size", "64M"]);
    m.ok(&["volume", "create", &v, "--size", "64M"]);
    dry_run(&m, &["volume", "mount", &v, &at]);
    assert!(!Path::new(&at).exists(), "a dry run made a mount point");
    m.ok(&["volume", "mount", &v, &at]);
    dry_run(&m, &["snapshot", "create", &s]);
    m.ok(&["snapshot", "create", &s]);
    dry_run(&m, &["snapshot", "mount", &s, &old]);
    m.ok(&["snapshot", "mount", &s, &old]);
    dry_run(&m, &["snapshot", "unmount", &s]);
    m.ok(&["snapshot", "unmount", &s]);
    dry_run(&m, &["volume", "unmount", &v]);
    m.ok(&["volume", "unmount", &v]);
    // A deletion's dry run asks nothing.
    dry_run(&m, &["snapshot", "delete", &s]);
    m.ok(&["snapshot", "delete", &s, "--yes"]);
    dry_run(&m, &["volume", "delete", &v]);
    m.ok(&["volume", "delete", &v, "--yes"]);
    dry_run(&m, &["pool", "delete", &tank]);
    m.ok(&["pool", "delete", &tank, "--yes"]);
    dry_run(&m, &["vg", "delete", &m.vg]);
    m.ok(&["vg", "delete", &m.vg, "--yes"]);
}

#[test]
fn a_dry_run_refuses_what_would_be_refused() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
    m.refused(1, &["belongs to"], &["vg", "create", "other", m.disk(0), "--dry-run"]);
    m.refused(3, &["no"], &["volume", "delete", &m.of("no"), "--dry-run"]);
    m.refused(6, &["over-commit"], &["volume", "create", &m.of("v"), "--size", "33T", "--fs", "none", "--dry-run"]);
}

/// All keys of an object are these, and perhaps further ones; sizes are whole numbers of bytes.
#[track_caller]
fn keys(object: &Value, expected: &str) {
    for key in expected.split_whitespace() {
        assert!(object.get(key).is_some(), "the key {key} is missing in {object}");
    }
    whole_bytes(object);
}

fn whole_bytes(value: &Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let whole = value.is_u64() || value.is_null();
                assert!(!key.ends_with("_bytes") || whole, "{key} is {value}, no whole number of bytes");
                assert!(
                    !key.ends_with("_at") || value.as_str().is_some_and(|time| time.ends_with('Z')),
                    "{key} is {value}"
                );
                whole_bytes(value);
            }
        }
        Value::Array(list) => list.iter().for_each(whole_bytes),
        _ => {}
    }
}

const VG: &str = "id name state health problems extent_size_bytes sector_size_bytes size_bytes free_bytes pv_count pool_count \
    volume_count snapshot_count metadata_copies sequence created_at";
const PV: &str = "id vg path present size_bytes free_bytes extent_count free_extents metadata_copy backing_file hardware_id \
    health problems";
const POOL: &str = "id vg name state health problems size_bytes used_bytes chunk_size_bytes metadata_size_bytes \
    metadata_used_bytes virtual_bytes overcommit_percent overcommit_limit_percent transaction_id mode volume_count \
    snapshot_count created_at";
const VOLUME: &str = "id vg name pool state content fs fs_uuid size_bytes used_bytes active device mounts snapshot_count \
    created_at health problems";
const SNAPSHOT: &str = "id vg volume name full_name volume_exists pool size_bytes fs active mounts created_at";
const STATUS: &str = "version api_version health problems io_backend io_backend_reason kernel host boot_id started_at \
    metrics_listen counts";
const DF_VG: &str = "vg health size_bytes allocated_bytes free_bytes";
const DF_POOL: &str = "vg pool health size_bytes used_bytes free_bytes virtual_bytes overcommit_percent \
    overcommit_limit_percent metadata_size_bytes metadata_used_bytes volume_count snapshot_count";

#[test]
fn json_has_its_keys_and_whole_bytes() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    let (tank, v, s) = (m.of("tank"), m.of("v"), m.of("v@s"));
    let made = m.json(&["volume", "create", &v, "--size", "1.5G"]);
    keys(&made, "changed object warnings");
    keys(&made["object"], VOLUME);
    assert_eq!(made["object"]["size_bytes"], 3u64 << 29);
    m.ok(&["volume", "mount", &v, &m.path("at")]);
    keys(&m.json(&["snapshot", "create", &s])["object"], SNAPSHOT);

    for (list, show, expected) in [
        ("vg", m.vg.as_str(), VG),
        ("pv", m.disk(0), PV),
        ("pool", &tank, POOL),
        ("volume", &v, VOLUME),
        ("snapshot", &s, SNAPSHOT),
    ] {
        let all_of = || {
            let all = m.json(&[list, "list"]);
            all[format!("{list}s")].as_array().unwrap_or_else(|| panic!("{all}")).clone()
        };
        let mut all = all_of();
        assert_eq!(all.len(), if list == "pv" { 2 } else { 1 });
        all.iter().for_each(|one| keys(one, expected));
        let begin = Instant::now();
        loop {
            let mut one = m.json(&[list, "show", show]);
            keys(&one, expected);
            // What lies where on it is shown of one alone.
            let segments = one.as_object_mut().unwrap().remove("segments");
            assert_eq!(segments.is_some_and(|all| !all.as_array().unwrap().is_empty()), list == "pv", "{list} show");
            if all.contains(&one) {
                break;
            }
            // A file system that is new writes by itself for a while: what is used may be more between the two.
            assert!(begin.elapsed() < Duration::from_secs(120), "{list} show and {list} list differ: {one} {all:?}");
            all = all_of();
        }
        let names = m.ok(&[list, "list", "-o", "name"]);
        assert_eq!(names.lines().count(), all.len(), "{names}");
        let table = m.ok(&[list, "list", "--no-headers"]);
        assert_eq!(table.lines().count(), all.len(), "{table}");
    }
    let volume = m.json(&["volume", "show", &v]);
    let mount = &volume["mounts"][0];
    assert_eq!((&mount["path"], &mount["read_only"]), (&m.path("at").into(), &false.into()));
    let number = kernel::mounted(&m.path("at")).unwrap().number;
    let device = Path::new("/sys/dev/block").join(number).canonicalize().unwrap();
    assert_eq!(volume["device"], format!("/dev/{}", device.file_name().unwrap().to_str().unwrap()));
    let status = m.json(&["status"]);
    keys(&status, STATUS);
    keys(&status["counts"], "vgs pvs pools volumes snapshots mounted");
    keys(&status["kernel"], "release dm_version targets");
    let df = m.json(&["df"]);
    keys(&df["vgs"][0], DF_VG);
    keys(&df["pools"][0], DF_POOL);
    let number = |value: &Value| value.as_u64().unwrap();
    let vg = &df["vgs"][0];
    assert_eq!(number(&vg["size_bytes"]), number(&vg["allocated_bytes"]) + number(&vg["free_bytes"]));
}
