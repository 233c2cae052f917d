//! Pools whose own metadata are damaged, or that the kernel does not trust: checked and repaired on a real kernel with the real
//! tools (row F10 of the catalogue of failures, and what F12 leaves behind).

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;
use vol_tests::dying::{End, Hand, Side};
use vol_tests::{Machine, disk, kernel, skip, tool};

/// Two pools of one group, a volume with a file system in each; that of `other` is mounted and written to all the while.
struct Stage {
    m: Machine,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writer: Option<std::thread::JoinHandle<()>>,
}

/// The node of a device, whether or not udev made a link to it.
fn number_node(uuid: &str) -> String {
    format!("/dev/block/{}", kernel::number_of(uuid))
}

const KEPT: &str = "this was written and synced";

impl Stage {
    fn set() -> Option<Self> {
        let m = Machine::start()?;
        tool::try_run("modprobe", &["dm-flakey"]);
        if !tool::run("dmsetup", &["targets"]).contains("flakey") {
            skip("the kernel has no dm-flakey");
            return None;
        }
        m.ok(&["vg", "create", &m.vg, m.disk(0), m.disk(1)]);
        for pool in ["tank", "other"] {
            m.ok(&["pool", "create", &m.of(pool), "--size", "1G"]);
        }
        for (volume, pool, fs) in [("v", "tank", "ext4"), ("w", "tank", "ext4"), ("o", "other", "ext4")] {
            m.ok(&["volume", "create", &m.of(volume), "--pool", pool, "--size", "128M", "--fs", fs]);
        }
        m.ok(&["volume", "create", &m.of("raw"), "--pool", "tank", "--size", "64M", "--fs", "none"]);
        let at = m.path("v");
        m.ok(&["volume", "mount", &m.of("v"), &at]);
        fs::write(format!("{at}/kept"), KEPT).unwrap();
        m.ok(&["volume", "unmount", &m.of("v")]);
        let at = m.path("o");
        m.ok(&["volume", "mount", &m.of("o"), &at]);
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writer = std::thread::spawn({
            let (stop, written) = (stop.clone(), written.clone());
            move || {
                while !stop.load(Ordering::SeqCst) {
                    let count = written.load(Ordering::SeqCst);
                    let mut file = fs::File::create(format!("{at}/{}", count % 8)).unwrap();
                    file.write_all(&vec![u8::try_from(count % 251).unwrap(); 1 << 20]).unwrap();
                    file.sync_all().unwrap();
                    written.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Some(Self { m, stop, written, writer: Some(writer) })
    }

    fn uuid(&self, pool: &str, suffix: &str) -> String {
        let id = self.m.json(&["pool", "show", &self.m.of(pool)])["id"].as_str().unwrap().to_owned();
        format!("VOLUMED-{id}-{suffix}")
    }

    fn name(&self, suffix: &str) -> String {
        self.uuid("tank", suffix).replace("VOLUMED-", "volumed-")
    }

    fn pool(&self) -> Value {
        self.m.json(&["pool", "show", &self.m.of("tank")])
    }

    fn status(&self) -> String {
        kernel::status(&kernel::number_of(&self.uuid("tank", "tpool")))
    }

    /// The metadata device becomes another.
    fn metadata_becomes(&self, table: &str) {
        let name = self.name("tmeta");
        tool::run("dmsetup", &["reload", &name, "--table", table]);
        tool::run("dmsetup", &["suspend", "--noflush", "--nolockfs", &name]);
        tool::run("dmsetup", &["resume", &name]);
    }

    /// A commit of the pool fails: its metadata cannot be written, or not even be read, for a moment.
    fn a_commit_fails(&self, target: &str) {
        let linear = kernel::table(&kernel::number_of(&self.uuid("tank", "tmeta")));
        let words: Vec<&str> = linear.split(' ').collect();
        self.metadata_becomes(&format!("0 {} {}", words[1], target.replace("WHERE", &words[3..].join(" "))));
        let ran =
            self.m.run(&["volume", "create", &self.m.of("new"), "--pool", "tank", "--size", "64M", "--fs", "none"]);
        assert_ne!(ran.code, 0, "a volume was acknowledged whose commit failed: {ran:?}{}", self.m.log());
        self.metadata_becomes(&linear);
    }

    /// Writes junk over a block of the pool's metadata, the number of which stands at `field` of the superblock (the superblock
    /// itself for `None`), while nobody looks.
    fn a_block_is_damaged(&mut self, field: Option<usize>) {
        self.a_block_is_damaged_then(field, Machine::start_daemon);
    }

    fn a_block_is_damaged_then(&mut self, field: Option<usize>, start: impl FnOnce(&mut Machine)) {
        let (pool, node) = (self.name("tpool"), number_node(&self.uuid("tank", "tmeta")));
        let number = kernel::number_of(&self.uuid("tank", "tpool"));
        self.m.kill9();
        // A volume that udev looked at when it was unmounted is still active.
        for uuid in kernel::our_uuids().iter().filter(|uuid| uuid.len() == "VOLUMED-".len() + 36) {
            if kernel::table(&kernel::number_of(uuid)).split(' ').nth(3) == Some(&number) {
                assert!(tool::remove_dm(&uuid.replace("VOLUMED-", "volumed-")), "{uuid}");
            }
        }
        assert!(tool::remove_dm(&pool), "{pool}");
        tool::run("blockdev", &["--flushbufs", &node]);
        let superblock = disk::take(&node, 0, 4096);
        let block = match field {
            Some(at) => u64::from_le_bytes(superblock[at..at + 8].try_into().unwrap()),
            None => 0,
        };
        assert!(block < 100_000, "no superblock: {block}");
        disk::write(&node, &[(block * 4096, vec![0x5A; 4096])]);
        start(&mut self.m);
    }

    /// Bytes of the metadata that the pool has now, where they stand on the disks.
    fn metadata_on_disk(&self) -> (String, Vec<u8>) {
        let table = kernel::table(&kernel::number_of(&self.uuid("tank", "tmeta")));
        let words: Vec<&str> = table.split(' ').collect();
        let (len, at): (usize, u64) = (words[1].parse().unwrap(), words[4].parse().unwrap());
        let disk = format!("/dev/block/{}", words[3]);
        tool::run("blockdev", &["--flushbufs", &disk]);
        let bytes = disk::take(&disk, at * 512, len * 512);
        (format!("{disk} {at}"), bytes)
    }

    fn problems(&self) -> Vec<(String, String, String)> {
        let ran = self.m.run(&["status", "-o", "json"]);
        let status: Value = serde_json::from_str(&ran.out).unwrap_or_else(|err| panic!("{err}: {ran:?}"));
        let text = |problem: &Value, key: &str| problem[key].as_str().unwrap().to_owned();
        let all = status["problems"].as_array().unwrap();
        all.iter().map(|one| (text(one, "code"), text(one, "message"), text(one, "hint"))).collect()
    }

    /// The volume has what was written, and is checked first where that is due.
    fn v_is_whole(&self, checked: bool) {
        let (v, at) = (self.m.of("v"), self.m.path("v"));
        assert_eq!(self.m.json(&["volume", "show", &v])["check_fs"].as_bool().unwrap_or(false), checked);
        self.m.ok(&["volume", "mount", &v, &at]);
        assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), KEPT);
        assert!(
            !self.m.json(&["volume", "show", &v])["check_fs"].as_bool().unwrap_or(false),
            "the mark is still there"
        );
        if checked {
            assert!(self.m.log().contains("the file system is checked"), "{}", self.m.log());
        }
        self.m.ok(&["volume", "unmount", &v]);
    }

    /// The other pool went on all the while.
    fn other_worked(&self, since: u64) {
        let now = self.written.load(Ordering::SeqCst);
        assert!(now > since, "nothing was written to the other pool meanwhile");
        assert!(self.writer.as_ref().is_some_and(|writer| !writer.is_finished()), "a write to the other pool failed");
        self.m.ok(&["volume", "create", &self.m.of("beside"), "--pool", "other", "--size", "64M", "--fs", "none"]);
        self.m.ok(&["volume", "delete", &self.m.of("beside"), "--yes", "--now"]);
        let flagged = self.m.json(&["volume", "show", &self.m.of("o")])["check_fs"].as_bool().unwrap_or(false);
        assert!(!flagged, "a volume of another pool is to be checked");
    }

    fn count(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.writer.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the writer of the other pool failed");
        }
    }
}

#[test]
fn f10_needs_check_is_taken_away_when_thin_check_finds_nothing_and_file_systems_are_checked_at_the_next_mount() {
    let Some(stage) = Stage::set() else { return };
    let (m, tank, since) = (&stage.m, stage.m.of("tank"), stage.count());
    stage.a_commit_fails("flakey WHERE 0 3600 1 error_writes");
    assert!(stage.status().contains("needs_check"), "{}", stage.status());
    let command = format!("volctl pool repair {tank}");
    let said = stage.problems();
    assert!(said.iter().any(|(code, _, hint)| code == "pool_refused" && hint.contains(&command)), "{said:?}");
    let create = ["volume", "create", &m.of("later"), "--pool", "tank", "--size", "64M", "--fs", "none"];
    m.refused(1, &["needs a check", "volctl pool repair"], &create);
    m.refused(1, &["needs a check", &command], &["pool", "check", &tank]);
    // Not under somebody's feet.
    let at = m.path("v");
    m.ok(&["volume", "mount", "--read-only", &m.of("v"), &at]);
    m.refused(4, &[&format!("{} is mounted at", m.of("v"))], &["pool", "repair", &tank, "--yes"]);
    m.ok(&["volume", "unmount", &m.of("v")]);
    m.ok(&["pool", "repair", &tank, "--dry-run"]);
    assert!(stage.status().contains("needs_check"), "a dry run changed something");
    let ran = m.ok(&["pool", "repair", &tank, "--yes"]);
    assert!(ran.contains("sound"), "{ran}");
    assert!(stage.status().contains(" rw ") && !stage.status().contains("needs_check"), "{}", stage.status());
    assert_eq!(stage.pool()["original_metadata_bytes"], 0, "nothing had to be written anew");
    stage.v_is_whole(true);
    stage.other_worked(since);
    m.ok(&create);
    // Once more, there is nothing to be done, and that is said.
    let again = m.ok(&["pool", "repair", &tank, "--yes"]);
    assert!(again.contains("in order"), "{again}");
    let checked = m.ok(&["pool", "check", &tank]);
    assert!(checked.contains("thin_check"), "{checked}");
    m.ok(&["volume", "mount", &m.of("v"), &at]);
    let running = m.ok(&["pool", "check", &tank]);
    assert!(running.contains("while it runs"), "{running}");
    m.ok(&["volume", "unmount", &m.of("v")]);
}

#[test]
fn f10_a_pool_that_the_kernel_gave_up_works_again_after_a_repair() {
    let Some(stage) = Stage::set() else { return };
    let (m, tank, since) = (&stage.m, stage.m.of("tank"), stage.count());
    // Neither written nor read: the kernel cannot even go back to what it had committed.
    stage.a_commit_fails("error");
    let status = stage.status();
    assert!(status.contains("Fail") || status.contains("needs_check"), "{status}");
    let said = stage.problems();
    let command = format!("volctl pool repair {tank}");
    assert!(said.iter().any(|(code, _, hint)| code == "pool_refused" && hint.contains(&command)), "{said:?}");
    m.ok(&["pool", "repair", &tank, "--yes"]);
    assert!(stage.status().contains(" rw "), "{}", stage.status());
    stage.v_is_whole(true);
    stage.other_worked(since);
}

#[test]
fn f10_damaged_metadata_are_repaired_onto_other_extents_and_the_original_is_kept_as_it_was() {
    let Some(mut stage) = Stage::set() else { return };
    let tank = stage.m.of("tank");
    // The root of the bitmaps of the data space map (`dm-thin-metadata.c`, `struct thin_disk_superblock`).
    stage.a_block_is_damaged(Some(80));
    let since = stage.count();
    let m = &stage.m;
    m.refused(1, &["thin_check finds damage", "volctl pool repair"], &["pool", "check", &tank]);
    let free = m.json(&["vg", "show", &m.vg])["free_bytes"].as_u64().unwrap();
    let before = stage.metadata_on_disk();
    let ran = m.ok(&["pool", "repair", &tank, "--yes"]);
    assert!(ran.contains("original metadata are kept"), "{ran}{}", m.log());
    let kept = stage.pool()["original_metadata_bytes"].as_u64().unwrap();
    assert_eq!(kept, before.1.len() as u64);
    assert_eq!(m.json(&["vg", "show", &m.vg])["free_bytes"].as_u64().unwrap(), free - kept);
    let (place, at) = before.0.split_once(' ').unwrap();
    tool::run("blockdev", &["--flushbufs", place]);
    let original = disk::take(place, at.parse::<u64>().unwrap() * 512, before.1.len());
    // The kernel writes the superblock once more when it lets go of a pool.
    assert!(original[4096..] == before.1[4096..], "the repair wrote to the original");
    assert_ne!(stage.metadata_on_disk().0, before.0, "the pool still has its old metadata");
    let map = m.json(&["map", &m.vg]).to_string();
    assert!(map.contains("\"original\""), "{map}");
    stage.m.restart();
    let m = &stage.m;
    m.ok(&["pool", "check", &tank]);
    stage.v_is_whole(true);
    stage.other_worked(since);
    m.ok(&["volume", "create", &m.of("later"), "--pool", "tank", "--size", "64M", "--fs", "none"]);
    m.ok(&["pool", "repair", &tank, "--discard-original", "--yes"]);
    assert_eq!(m.json(&["vg", "show", &m.vg])["free_bytes"].as_u64().unwrap(), free);
    let again = m.ok(&["pool", "repair", &tank, "--discard-original", "--yes"]);
    assert!(again.contains("no original"), "{again}");
}

#[test]
fn f10_what_a_repair_would_lose_is_told_by_name_before_anything_is_changed() {
    let Some(mut stage) = Stage::set() else { return };
    let tank = stage.m.of("tank");
    // The root of the mappings: what is behind it cannot be found, only what was committed before it.
    stage.a_block_is_damaged(Some(320));
    let since = stage.count();
    let before = stage.metadata_on_disk();
    let m = &stage.m;
    let ran = m.run(&["pool", "repair", &tank, "--yes"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    // thin_repair says that it succeeded, or that it could not; either way nothing is lost silently.
    assert!(ran.err.contains("--accept-loss") || ran.err.contains("thin_repair could not"), "{ran:?}{}", m.log());
    // The kernel has had it up again since, and writes to what it has up; but it is the same metadata.
    assert_eq!(stage.metadata_on_disk().0, before.0, "something was changed");
    assert_eq!(stage.pool()["original_metadata_bytes"], 0);
    assert_eq!(stage.pool()["in_repair"], false);
    let accepted = m.run(&["pool", "repair", &tank, "--accept-loss", "--yes"]);
    if accepted.code == 1 {
        assert!(accepted.err.contains("thin_repair could not"), "{accepted:?}");
    } else {
        let text = format!("{}{}", accepted.out, accepted.err);
        assert!(text.contains("lost: ") || text.contains("not whole: "), "{accepted:?}");
        assert!(["/v", "/w", "/raw"].iter().any(|name| text.contains(name)), "{accepted:?}");
        assert!(stage.pool()["original_metadata_bytes"].as_u64().unwrap() > 0);
        // Each volume is there in name: those that the pool has not are said to be lost, none is gone silently.
        let listed = m.json(&["volume", "list"]).to_string();
        assert!(["\"v\"", "\"w\"", "\"raw\"", "\"o\""].iter().all(|name| listed.contains(name)), "{listed}");
    }
    stage.other_worked(since);
}

#[test]
fn f10_a_damaged_superblock_is_made_anew_from_what_our_record_says() {
    let Some(mut stage) = Stage::set() else { return };
    let tank = stage.m.of("tank");
    stage.a_block_is_damaged(None);
    let since = stage.count();
    let m = &stage.m;
    let command = format!("volctl pool repair {tank}");
    let said = stage.problems();
    assert!(
        said.iter().any(|(code, _, hint)| code == "pool_refused" && hint.contains(&command)),
        "{said:?}{}",
        m.log()
    );
    m.refused(1, &["whether volumes are whole", "--accept-loss"], &["pool", "repair", &tank, "--yes"]);
    let ran = m.run(&["pool", "repair", &tank, "--accept-loss", "--yes"]);
    assert!(matches!(ran.code, 0 | 10), "{ran:?}{}", m.log());
    assert!(stage.status().contains(" rw "), "{}", stage.status());
    stage.v_is_whole(true);
    stage.other_worked(since);
    m.ok(&["pool", "check", &tank]);
}

#[test]
fn f10_while_a_pool_is_repaired_the_group_takes_requests_for_the_others() {
    let Some(mut stage) = Stage::set() else { return };
    let tank = stage.m.of("tank");
    let mut hand = Hand::new(stage.m.path("orders"));
    let orders = hand.dir().to_owned();
    stage.a_block_is_damaged_then(Some(80), |m| m.start_dying(&orders));
    // The tool takes as long as we want.
    hand.order_at("thin_repair", Side::Before, End::Hang);
    let mut repair = stage.m.volctl(&["pool", "repair", &tank, "--yes"]);
    let mut repair = repair.stdout(std::process::Stdio::null()).spawn().unwrap();
    let begin = std::time::Instant::now();
    while !hand.reached() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(180), "{:?}{}", hand.effects(), stage.m.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let effects = hand.effects();
    assert!(effects.last().is_some_and(|line| line.ends_with(" thin_repair")), "it stands elsewhere: {effects:?}");
    let (m, since) = (&stage.m, stage.count());
    m.ok(&["volume", "create", &m.of("meanwhile"), "--pool", "other", "--size", "64M", "--fs", "ext4"]);
    m.ok(&["pool", "extend", &m.of("other"), "--size", "+64M"]);
    let create = ["volume", "create", &m.of("later"), "--pool", "tank", "--size", "64M", "--fs", "none"];
    m.refused(1, &["down while its metadata are checked or repaired"], &create);
    m.refused(4, &["being checked or repaired already"], &["pool", "repair", &tank, "--yes"]);
    m.refused(4, &["checked or repaired"], &["pool", "extend", &tank, "--size", "+64M"]);
    assert_eq!(stage.pool()["in_repair"], true);
    // The slow timer leaves it alone.
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(stage.pool()["in_repair"], true, "{}", m.log());
    // It goes on meanwhile: the other pool is not waiting for this one.
    let begin = std::time::Instant::now();
    while stage.count() == since {
        assert!(
            begin.elapsed() < std::time::Duration::from_secs(120),
            "nothing is written to the other pool meanwhile"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    hand.go_on();
    assert!(repair.wait().unwrap().success(), "{}", m.log());
    stage.v_is_whole(true);
    stage.other_worked(since);
    m.ok(&create);
}
