//! Disks that are refused: each with its own message and exit code, and not a byte written to any disk that was given.

use std::fs::File;
use std::path::Path;
use vol_tests::{Bytes, Machine, disk, kernel, skip, tool};

/// `vg create` over `given` must be refused with `code`, say all `words`, and leave all bytes as they are.
#[track_caller]
fn refuses(m: &Machine, code: i32, words: &[&str], given: &[&str]) {
    let before: Vec<Bytes> = given.iter().map(|disk| Bytes::of(disk)).collect();
    let mut args = vec!["vg", "create", &m.vg];
    args.extend(given);
    let said = m.refused(code, words, &args);
    for (disk, before) in given.iter().zip(&before) {
        let difference = before.difference(&Bytes::of(disk));
        assert_eq!(difference, None, "{disk} was refused ({said}), and yet written to{}", m.log());
    }
    assert_eq!(m.json(&["vg", "list"])["vgs"], serde_json::json!([]), "a refused VG is there{}", m.log());
}

/// As [`refuses`] for a disk with a signature: its name, what is on it, and the way to take it all the same.
#[track_caller]
fn refuses_signature(m: &Machine, what: &str) {
    refuses(m, 1, &[m.disk(0), what, "--wipe"], &[m.disk(0)]);
    // The good disk beside it stays as it is, too.
    refuses(m, 1, &[m.disk(0), what], &[m.disk(1), m.disk(0)]);
}

#[test]
fn a_file_system_is_refused_unless_it_is_to_be_wiped() {
    let Some(m) = Machine::start() else { return };
    tool::run("mkfs.ext4", &["-q", "-F", "-L", "precious", m.disk(0)]);
    refuses_signature(&m, "ext4");
    let said = m.refused(1, &[], &["vg", "create", &m.vg, m.disk(0)]);
    assert!(said.contains("precious"), "the label is not named: {said}");

    // --wipe asks; there is nobody to answer.
    let before = Bytes::of(m.disk(0));
    let ran = m.run(&["vg", "create", &m.vg, "--wipe", m.disk(0)]);
    assert_eq!(ran.code, 9, "{ran:?}");
    assert!(ran.err.contains("ext4"), "what is to be destroyed is not named: {ran:?}");
    assert_eq!(before.difference(&Bytes::of(m.disk(0))), None);

    m.ok(&["vg", "create", &m.vg, "--wipe", "--yes", m.disk(0)]);
    tool::settle();
    let found = tool::run("blkid", &["-p", m.disk(0)]);
    assert!(found.contains("gpt") && !found.contains("ext4"), "{found}");
    m.ok(&["pool", "create", &m.of("tank"), "--size", "1G"]);
}

#[test]
fn a_partition_table_is_refused() {
    let Some(m) = Machine::start() else { return };
    disk::write_gpt(m.disk(0));
    assert!(tool::run("blkid", &["-p", m.disk(0)]).contains("gpt"), "the test wrote no GPT that blkid knows");
    refuses_signature(&m, "gpt");
    let part = partition(m.disk(0));
    refuses(&m, 1, &[m.disk(0), "gpt"], &[m.disk(0), &part]);
    let ran = m.run(&["vg", "create", &m.vg, "--wipe", "--yes", m.disk(0), &part]);
    m.check_refusal(&ran, 2, &[&part, "partition of", m.disk(0)]);
    // A partition by itself is as good as a disk.
    m.ok(&["vg", "create", &m.vg, &part]);
    m.ok(&["vg", "delete", &m.vg, "--yes"]);
    assert!(tool::run("blkid", &["-p", m.disk(0)]).contains("gpt"), "the others' partition table is gone");
}

/// The first partition of a disk.
fn partition(disk: &str) -> String {
    let name = disk::kernel_name(disk);
    let separator = if name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    let node = format!("/dev/{name}{separator}1");
    assert!(Path::new(&node).exists(), "the kernel does not see the partition {node}");
    node
}

#[test]
fn lvm_and_raid_members_are_refused() {
    let Some(m) = Machine::start() else { return };
    disk::write_md(m.disk(0));
    assert!(tool::run("blkid", &["-p", m.disk(0)]).contains("linux_raid_member"), "the test wrote no md superblock");
    refuses_signature(&m, "linux_raid_member");
    disk::clean(&m.disks[..1]);
    if !tool::has("pvcreate") {
        return skip("lvm2 is not there");
    }
    tool::run("pvcreate", &["--quiet", "--yes", m.disk(0)]);
    refuses_signature(&m, "LVM2_member");
}

#[test]
fn a_disk_in_use_is_refused_even_with_wipe() {
    let Some(m) = Machine::start() else { return };
    let disk0 = m.disk(0);
    let held = |code: i32, words: &[&str]| {
        refuses(&m, code, words, &[disk0]);
        let before = [disk0, m.disk(1)].map(Bytes::of);
        m.refused(code, words, &["vg", "create", &m.vg, "--wipe", "--yes", m.disk(1), disk0]);
        assert!(before == [disk0, m.disk(1)].map(Bytes::of), "refused, and yet written to");
    };
    tool::run("mkswap", &[disk0]);
    tool::run("swapon", &[disk0]);
    held(4, &[disk0, "swap"]);
    tool::run("swapoff", &[disk0]);
    disk::clean(&m.disks[..1]);

    tool::run("mkfs.ext4", &["-q", "-F", disk0]);
    let at = m.path("others");
    std::fs::create_dir(&at).unwrap();
    tool::run("mount", &["-t", "ext4", "-o", "ro", disk0, &at]);
    held(4, &[disk0, "mounted at", &at]);
    tool::run("umount", &[&at]);
    disk::clean(&m.disks[..1]);

    let table = format!("0 {} linear {disk0} 2048", disk::size(disk0) / 512 - 4096);
    tool::run("dmsetup", &["create", "vt-holder", "--table", &table]);
    let holder = tool::run("dmsetup", &["info", "--columns", "--noheadings", "--options", "blkdevname", "vt-holder"]);
    held(4, &[disk0, "in use", holder.trim()]);
    assert!(tool::remove_dm("vt-holder"));

    tool::run("blockdev", &["--setro", disk0]);
    held(1, &[disk0, "read-only"]);
    tool::run("blockdev", &["--setrw", disk0]);

    m.ok(&["vg", "create", &m.vg, disk0]);
    let other = format!("{}x", m.vg);
    let before = [disk0, m.disk(1)].map(Bytes::of);
    let refusal: &[&str] = &[disk0, "belongs to", &m.vg];
    m.refused(1, refusal, &["vg", "create", &other, disk0]);
    m.refused(1, refusal, &["vg", "create", &other, disk0, "--wipe", "--yes"]);
    m.refused(1, refusal, &["init", "--vg", &other, m.disk(1), disk0]);
    assert!(before == [disk0, m.disk(1)].map(Bytes::of), "refused, and yet written to");
}

#[test]
fn one_disk_twice_is_refused() {
    let Some(m) = Machine::start() else { return };
    refuses(&m, 2, &[m.disk(0), "twice"], &[m.disk(0), m.disk(0)]);
    let link = m.path("another-name");
    std::os::unix::fs::symlink(m.disk(0), &link).unwrap();
    refuses(&m, 2, &[m.disk(0), &link, "same disk"], &[m.disk(0), &link]);
    let node = format!("/dev/{}", disk::kernel_name(m.disk(0)));
    if node != m.disk(0) {
        refuses(&m, 2, &[&node, "same disk"], &[&node, m.disk(0)]);
    }
}

#[test]
fn disks_of_the_wrong_size_or_kind_are_refused() {
    let Some(m) = Machine::start() else { return };
    let backing = |name: &str, mib: u64| {
        let path = m.dir().join(name);
        File::create(&path).unwrap().set_len(mib << 20).unwrap();
        path
    };
    let small = disk::attach_loop(&backing("small", 16), &[]);
    refuses(&m, 2, &[&small, "too small"], &[&small]);
    refuses(&m, 2, &[&small, "too small"], &[m.disk(0), &small]);
    let large_sectors = disk::attach_loop(&backing("4k", 256), &["--sector-size", "4096"]);
    refuses(&m, 2, &[&large_sectors, m.disk(0), "4096", "sector"], &[m.disk(0), &large_sectors]);

    // No disks, or not there.
    let before = Bytes::of(m.disk(0));
    for path in ["/dev/null", "/nowhere/disk", &m.path("4k")] {
        m.refused(3, &[path], &["vg", "create", &m.vg, m.disk(0), path]);
    }
    assert_eq!(before.difference(&Bytes::of(m.disk(0))), None);
    // By themselves they make a VG of their own kind, which works.
    m.ok(&["vg", "create", &m.vg, &large_sectors]);
    m.ok(&["pool", "create", &m.of("tank"), "--size", "80%FREE"]);
    m.ok(&["volume", "create", &m.of("v"), "--size", "64M"]);
    m.ok(&["volume", "mount", &m.of("v"), &m.path("at")]);
    assert!(kernel::mounted(&m.path("at")).is_some());
}

#[test]
fn an_image_file_that_exists_is_not_overwritten() {
    let Some(m) = Machine::start() else { return };
    let image = m.path("image");
    std::fs::write(&image, "precious").unwrap();
    m.refused(5, &[&image, "exists"], &["vg", "create", &m.vg, "--file", &format!("{image}:256M")]);
    assert_eq!(std::fs::read_to_string(&image).unwrap(), "precious");
    let new = m.path("new");
    m.refused(2, &["too small"], &["vg", "create", &m.vg, "--file", &format!("{new}:1M")]);
    let one = format!("{new}:256M");
    m.refused(2, &["twice"], &["vg", "create", &m.vg, "--file", &one, "--file", &one]);
    assert!(!Path::new(&new).exists(), "refused, and yet made");
}
