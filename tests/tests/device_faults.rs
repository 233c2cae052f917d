//! Disks that fail half way: no half-made VG is left, on none of the disks.

use vol_tests::{Machine, disk, skip, tool};

#[derive(Debug, Clone, Copy)]
enum How {
    /// Reads succeed; writes and flushes do not: a disk that looks well until it is used.
    Writes,
    /// What is in the range cannot be read either; flushes succeed, so that the failure comes with the write.
    All,
}

/// A disk of the test's with a range of sectors that fail, as a dm device.
struct Bad(&'static str);

impl Bad {
    fn over(disk: &str, from: u64, len: u64, how: How) -> Bad {
        let name = "vt-bad";
        let all = disk::size(disk) / 512;
        let rest = from + len;
        let mut table = match how {
            How::Writes => format!("{from} {len} flakey {disk} {from} 0 3600 1 error_writes\n"),
            How::All => format!("{from} {len} error\n"),
        };
        if from > 0 {
            table = format!("0 {from} linear {disk} 0\n{table}");
        }
        if rest < all {
            table.push_str(&format!("{rest} {} linear {disk} {rest}\n", all - rest));
        }
        tool::run("dmsetup", &["create", name, "--table", table.trim_end()]);
        tool::settle();
        Bad(name)
    }

    fn path(&self) -> String {
        format!("/dev/mapper/{}", self.0)
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        let removed = tool::remove_dm(self.0);
        assert!(removed || std::thread::panicking(), "somebody still holds a disk that was refused");
    }
}

#[test]
fn a_disk_that_fails_half_way_leaves_no_half_made_group() {
    let Some(mut m) = Machine::start() else { return };
    tool::try_run("modprobe", &["dm-flakey"]);
    if !tool::run("dmsetup", &["targets"]).contains("flakey") {
        return skip("the kernel has no dm-flakey");
    }
    let sectors = disk::size(m.disk(2)) / 512;
    // The places of marks, label, log and checkpoints (docs/spec/on-disk-format.md), and all of the disk.
    let ranges = [
        (0, 48, How::Writes),
        (2048, 2048, How::Writes),
        (sectors - 40, 40, How::Writes),
        (0, sectors, How::Writes),
        (2048, 256, How::All),
        (4096, 8192, How::All),
        (24_576, 8192, How::All),
        (sectors - 40, 40, How::All),
    ];
    let mut failed = 0;
    for (from, len, how) in ranges {
        // No label at all, nor anything else: as it was before.
        let blank = |m: &Machine, disk: &str, when: &str| {
            tool::settle();
            let found = tool::attempt("blkid", &["-p", disk]).unwrap();
            let said = String::from_utf8_lossy(&found.stdout).into_owned();
            assert_eq!(found.status.code(), Some(2), "{when} (sectors {from}+{len}) {disk} carries {said}{}", m.log());
        };
        {
            let bad = Bad::over(m.disk(2), from, len, how);
            for order in [[m.disk(0), m.disk(1), &bad.path()], [&bad.path(), m.disk(0), m.disk(1)]] {
                let mut args = vec!["vg", "create", &m.vg];
                args.extend(order);
                let ran = m.run(&args);
                if ran.code == 0 {
                    // The range is one that making a VG does not write to.
                    println!("sectors {from}+{len} are not written to");
                    m.ok(&["vg", "delete", &m.vg, "--yes"]);
                    continue;
                }
                failed += 1;
                assert!(matches!(ran.code, 1 | 3), "{ran:?}{}", m.log());
                let named = ran.err.contains(&bad.path()) || ran.err.contains("/dev/dm-");
                assert!(named, "the disk that fails is not named: {ran:?}");
                println!("{how:?} {from}+{len}: {}", ran.err.lines().next().unwrap_or_default());
                assert_eq!(m.json(&["vg", "list"])["vgs"], serde_json::json!([]), "a half-made VG{}", m.log());
                assert_eq!(m.json(&["pv", "list"])["pvs"], serde_json::json!([]), "a half-made PV{}", m.log());
                for good in [m.disk(0), m.disk(1)] {
                    blank(&m, good, "after a VG that failed");
                }
            }
        }
        // The next start finds nothing of it either, not even with the bad disk mended.
        m.restart();
        m.ok(&["pv", "scan"]);
        assert_eq!(m.json(&["vg", "list"])["vgs"], serde_json::json!([]), "a restart found a half-made VG{}", m.log());
        assert_eq!(m.json(&["status"])["health"], "ok", "{}", m.log());
        // The good disks are as good as before.
        m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1)]);
        m.ok(&["vg", "delete", &m.vg, "--yes"]);
        disk::clean(&m.disks[2..3]);
    }
    assert!(failed >= 12, "the ranges are not where a VG is made: only {failed} attempts failed");
}

#[test]
fn a_disk_that_vanishes_half_way_leaves_no_half_made_group() {
    let Some(mut m) = Machine::start() else { return };
    // Reads and writes fail from behind the first MiB on.
    let sectors = disk::size(m.disk(2)) / 512;
    let table = format!("0 2048 linear {} 0\n2048 {} error", m.disk(2), sectors - 2048);
    tool::run("dmsetup", &["create", "vt-gone", "--table", &table]);
    tool::settle();
    let ran = m.run(&["vg", "create", &m.vg, m.disk(0), "/dev/mapper/vt-gone"]);
    assert!(matches!(ran.code, 1 | 3), "{ran:?}{}", m.log());
    assert!(ran.err.contains("vt-gone") || ran.err.contains("/dev/dm-"), "the disk is not named: {ran:?}");
    assert_eq!(m.json(&["vg", "list"])["vgs"], serde_json::json!([]));
    assert!(tool::remove_dm("vt-gone"), "somebody still holds a disk that was refused");
    m.restart();
    assert_eq!(m.json(&["vg", "list"])["vgs"], serde_json::json!([]));
    m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1)]);
}

#[test]
fn a_disk_that_fails_later_is_told_of_and_work_goes_on() {
    let Some(mut m) = Machine::start() else { return };
    // A part of the disk, so that what is on it is not seen on the disk itself as well.
    let sectors = disk::size(m.disk(2)) / 512 - 4096;
    let linear = format!("0 {sectors} linear {} 2048", m.disk(2));
    tool::run("dmsetup", &["create", "vt-later", "--table", &linear]);
    tool::settle();
    let becomes = |table: &str| {
        tool::run("dmsetup", &["reload", "vt-later", "--table", table]);
        tool::run("dmsetup", &["suspend", "vt-later"]);
        tool::run("dmsetup", &["resume", "vt-later"]);
    };
    m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1), "/dev/mapper/vt-later"]);
    m.ok(&["pool", "create", &m.of("tank"), "--size", "1G"]);
    // All before the first extent: what a pool has on that disk goes on working.
    let (metadata, rest) = (32_768, sectors - 32_768);
    becomes(&format!("0 {metadata} error\n{metadata} {rest} linear {} {}", m.disk(2), 2048 + metadata));
    // Two of three copies are a majority.
    let ran = m.run(&["volume", "create", &m.of("v"), "--size", "64M"]);
    assert!(matches!(ran.code, 0 | 10), "{ran:?}{}", m.log());
    let status = m.run(&["status", "-o", "json"]);
    assert_eq!(status.code, 10, "{status:?}");
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["health"], "degraded", "{status}");
    let codes: Vec<_> = status["problems"].as_array().unwrap().iter().map(|problem| &problem["code"]).collect();
    assert!(codes.contains(&&"metadata_copy_failed".into()), "{status}");
    // Mended: what it missed is written to it.
    becomes(&linear);
    m.ok(&["pv", "scan"]);
    assert_eq!(m.json(&["status"])["health"], "ok", "{}", m.log());
    m.restart();
    assert_eq!(m.json(&["status"])["health"], "ok", "{}", m.log());
    assert_eq!(m.json(&["volume", "show", &m.of("v")])["state"], "ready");
}

#[test]
fn a_pv_on_a_dm_device_is_found_again_there() {
    let Some(mut m) = Machine::start() else { return };
    // As with multipath: the disk below shows the very same bytes.
    let table = format!("0 {} linear {} 0", disk::size(m.disk(0)) / 512, m.disk(0));
    tool::run("dmsetup", &["create", "vt-path", "--table", &table]);
    tool::settle();
    m.ok(&["vg", "create", &m.vg, "/dev/mapper/vt-path", m.disk(1)]);
    m.ok(&["pool", "create", &m.of("tank"), "--size", "80%FREE"]);
    m.ok(&["pv", "scan"]);
    m.restart();
    let status = m.run(&["status"]);
    assert_eq!(status.code, 0, "{status:?}{}", m.log());
    let pvs = m.json(&["pv", "list"]);
    let all_there = pvs["pvs"].as_array().unwrap().iter().all(|pv| pv["present"] == true);
    assert!(all_there, "{pvs}{}", m.log());
    m.ok(&["volume", "create", &m.of("v"), "--size", "64M"]);
}
