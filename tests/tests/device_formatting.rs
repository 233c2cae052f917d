//! mkfs on a real kernel: killed on its way it is never run again on what it left, and what a probe says of a volume decides nothing
//! but a refusal.

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vol_tests::{Machine, disk, kernel, tool, wire};

/// The child processes of the daemon whose program is called `mkfs.…`.
fn mkfs_of(daemon: u32) -> Option<u32> {
    let children = fs::read_dir(format!("/proc/{daemon}/task")).ok()?.flatten();
    let all = children.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<u32> =
        all.flat_map(|line| line.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
    pids.into_iter().find(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("mkfs.") || name.starts_with("mke2fs")
    })
}

fn volume(m: &Machine, name: &str) -> Option<Value> {
    let list = m.json(&["volume", "list"]);
    list["volumes"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned()
}

/// Ten points at which mkfs is ended, as delays after it was seen first: at once, and ever later.
const POINTS: u32 = 10;

#[test]
fn f17_mkfs_killed_at_ten_points_leaves_nothing_that_is_mounted_or_formatted_again() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    let (mut killed, mut made) = (0, 0);
    for (fs, size) in [("ext4", "1G"), ("xfs", "1G")] {
        let (mut point, mut tries) = (0, 0);
        while point < POINTS {
            // Even points end the tool alone, odd ones the daemon, and with it the tool.
            let daemon_dies = point % 2 == 1;
            let (name, at) = (format!("{fs}{point}"), m.path(&format!("{fs}{point}")));
            let socket = PathBuf::from(m.path("run/control.sock"));
            let body = json!({"vg": m.vg, "name": name, "size": size, "fs": fs}).to_string();
            let request = std::thread::spawn(move || wire::request(&socket, "POST", "volumes", &body));
            let begin = Instant::now();
            let mut seen = None;
            while seen.is_none() && !request.is_finished() {
                assert!(begin.elapsed() < Duration::from_secs(300), "no mkfs comes{}", m.log());
                seen = mkfs_of(m.pid());
            }
            sleep(Duration::from_millis((u64::from(point) * u64::from(point) / 2) >> tries));
            let alive = seen.filter(|pid| mkfs_of(m.pid()) == Some(*pid));
            if daemon_dies {
                m.kill9();
            } else if let Some(pid) = alive {
                tool::signal(pid, "KILL");
            }
            killed += u32::from(alive.is_some());
            // One that was over before it was met is tried again, sooner after its begin: who looks for it may be late.
            (point, tries) = if alive.is_none() && tries < 5 { (point, tries + 1) } else { (point + 1, 0) };
            let answer = request.join().unwrap();
            let acknowledged = matches!(answer, Ok((200..=299, _)));
            if daemon_dies {
                // Nobody goes on formatting what the next daemon takes back.
                while let Some(pid) = alive.filter(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
                    assert!(begin.elapsed() < Duration::from_secs(300), "mkfs {pid} outlives the daemon");
                    sleep(Duration::from_millis(5));
                }
                m.start_daemon();
            } else if !acknowledged {
                let (_, said) = answer.unwrap();
                assert!(said.to_string().contains("mkfs"), "{said}");
            }
            // It is there with its file system, or not there at all.
            let begin = Instant::now();
            let found = loop {
                match volume(&m, &name) {
                    Some(found) if found["content"] == "formatted" => break true,
                    None => break false,
                    Some(found) => {
                        assert!(begin.elapsed() < Duration::from_secs(120), "half done: {found}{}", m.log());
                        sleep(Duration::from_millis(50));
                    }
                }
            };
            assert!(found || !acknowledged, "{name} was acknowledged and is gone{}", m.log());
            made += u32::from(found);
            // Asked for again it comes to be; a file system that was whole stays the one that it was.
            let before = volume(&m, &name).map(|found| found["fs_uuid"].clone());
            m.ok(&["volume", "create", &m.of(&name), "--size", size, "--fs", fs]);
            let after = volume(&m, &name).unwrap()["fs_uuid"].clone();
            assert!(before.is_none_or(|before| before == after), "{name} was formatted again{}", m.log());
            m.ok(&["volume", "mount", &m.of(&name), &at]);
            fs::write(format!("{at}/file"), &name).unwrap();
            m.ok(&["volume", "unmount", &m.of(&name)]);
            assert!(m.ok(&["volume", "check", &m.of(&name)]).contains("no errors"));
            m.ok(&["volume", "delete", &m.of(&name), "--yes"]);
        }
    }
    println!("mkfs was ended {killed} times on its way, {made} volumes were there nevertheless");
    assert!(killed >= POINTS, "mkfs was met {killed} times only");
    assert_eq!(kernel::our_uuids().len(), 3, "devices are left: {:?}", kernel::our_uuids());
    assert_eq!(m.json(&["status"])["health"], "ok");
}

#[test]
fn f16_a_formatted_volume_that_reads_as_blank_is_refused_and_not_formatted() {
    let Some(mut m) = Machine::start() else { return };
    m.with_pool(2);
    for (fs, size) in [("ext4", "64M"), ("xfs", "320M"), ("btrfs", "256M")] {
        let (name, at) = (m.of(fs), m.path(fs));
        m.ok(&["volume", "create", &name, "--size", size, "--fs", fs]);
        m.ok(&["volume", "mount", &name, &at]);
        fs::write(format!("{at}/kept"), "yes").unwrap();
        tool::run("sync", &["-f", &at]);
        // The device stays when somebody holds it, and so it can be reached by its node.
        let node = kernel::mounted(&at).unwrap().source;
        let held = fs::File::options().read(true).write(true).open(&node).unwrap();
        m.ok(&["volume", "unmount", &name]);
        // 1 MiB at the start and the second superblock of btrfs: blkid sees nothing at all.
        let saved: Vec<(u64, Vec<u8>)> = [(0, 1 << 20), (64 << 20, 4096)]
            .into_iter()
            .filter(|(at, _)| *at < disk::size(&node))
            .map(|(at, len)| (at, disk::take(&node, at, len)))
            .collect();
        let zeros: Vec<_> = saved.iter().map(|(at, bytes)| (*at, vec![0; bytes.len()])).collect();
        disk::write(&node, &zeros);
        let probed = tool::attempt("blkid", &["-p", &node]).unwrap();
        assert_eq!(probed.status.code(), Some(2), "blkid still finds: {}", String::from_utf8_lossy(&probed.stdout));
        for restart in [false, true] {
            if restart {
                m.restart();
            }
            m.settled();
            let sequence = m.sequence();
            let ran = m.run(&["volume", "mount", &name, &at]);
            assert_ne!(ran.code, 0, "{fs}: nothing was mounted as something");
            assert!(ran.err.contains(fs), "{}", ran.err);
            // The same creation again is no reason either.
            m.ok(&["volume", "create", &name, "--size", size, "--fs", fs]);
            assert_eq!(volume(&m, fs).unwrap()["content"], "formatted");
            assert!(m.sequence() <= sequence + 1, "a refused mount changed more than a mark");
            for (at, bytes) in &zeros {
                assert!(disk::take(&node, *at, bytes.len()) == *bytes, "{fs}: something was written to it{}", m.log());
            }
        }
        // A probe that lies no more: it is all there.
        disk::write(&node, &saved);
        drop(held);
        if m.run(&["volume", "mount", &name, &at]).code != 0 {
            m.ok(&["volume", "check", &name]);
            m.ok(&["volume", "mount", &name, &at]);
        }
        assert_eq!(fs::read_to_string(format!("{at}/kept")).unwrap(), "yes");
        m.ok(&["volume", "unmount", &name]);
    }
}

#[test]
fn f18_three_clones_of_an_xfs_are_mounted_beside_it_on_one_machine() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    for (fs, size) in [("xfs", "320M"), ("btrfs", "256M"), ("ext4", "64M")] {
        let origin = m.of(fs);
        m.ok(&["volume", "create", &origin, "--size", size, "--fs", fs]);
        m.ok(&["volume", "mount", &origin, &m.path(fs)]);
        fs::write(m.path(&format!("{fs}/file")), "origin").unwrap();
        let clones: Vec<String> = (0..3).map(|n| format!("{fs}-{n}")).collect();
        m.ok(&["snapshot", "create", &m.of(&format!("{fs}@s"))]);
        for (n, clone) in clones.iter().enumerate() {
            // Of the volume in use, and of its snapshot.
            let of = if n == 0 { origin.clone() } else { m.of(&format!("{fs}@s")) };
            m.ok(&["volume", "clone", &of, &m.of(clone)]);
            m.ok(&["volume", "mount", &m.of(clone), &m.path(clone)]);
            assert_eq!(fs::read_to_string(m.path(&format!("{clone}/file"))).unwrap(), "origin", "{clone}");
            fs::write(m.path(&format!("{clone}/file")), clone).unwrap();
        }
        assert_eq!(fs::read_to_string(m.path(&format!("{fs}/file"))).unwrap(), "origin");
        for clone in &clones {
            assert_eq!(fs::read_to_string(m.path(&format!("{clone}/file"))).unwrap(), *clone);
        }
        let devices: std::collections::BTreeSet<_> =
            clones.iter().map(|clone| kernel::mounted(&m.path(clone)).unwrap().source).collect();
        assert_eq!(devices.len(), 3, "{devices:?}");
        for one in clones.iter().map(String::as_str).chain([fs]) {
            m.ok(&["volume", "unmount", &m.of(one)]);
        }
    }
    assert_eq!(m.json(&["status"])["health"], "ok");
}

/// How many groups of blocks an ext4 has, and in how many of them the inode table counts as zeroed.
fn inode_tables(node: &str) -> (usize, usize) {
    let said = tool::run("dumpe2fs", &[node]);
    // `Group 0: (Blocks 0-32767) csum 0xf6ba [ITABLE_ZEROED]`
    let groups = || said.lines().filter(|line| line.starts_with("Group ") && line.contains("(Blocks "));
    (groups().count(), groups().filter(|line| line.contains("ITABLE_ZEROED")).count())
}

#[test]
fn a_new_ext4_has_nothing_to_be_zeroed_and_takes_few_chunks() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(2);
    let used = || m.json(&["pool", "show", &m.of("tank")])["used_bytes"].as_u64().unwrap();
    for (name, with) in [("thin", &["--size", "1G"][..]), ("thick", &["--size", "256M", "--thick"])] {
        let (volume, at) = (m.of(name), m.path(name));
        let before = used();
        m.ok(&[&["volume", "create", &volume, "--fs", "ext4"][..], with].concat());
        m.ok(&["volume", "mount", &volume, &at]);
        let node = kernel::mounted(&at).unwrap().source;
        // What `ext4lazyinit` would write to after the first mount: nothing is left to it.
        let (groups, zeroed) = inode_tables(&node);
        assert!(groups > 1 && zeroed == groups, "{name}: {zeroed} of {groups} inode tables count as zeroed{}", m.log());
        fs::write(format!("{at}/file"), name).unwrap();
        tool::run("sync", &["-f", &at]);
        // The device stays, so that it can be looked at past the daemon.
        let held = fs::File::open(&node).unwrap();
        m.ok(&["volume", "unmount", &volume]);
        tool::run("e2fsck", &["-fn", &node]);
        drop(held);
        // The inode tables of 1 GiB alone are 16 MiB.
        let taken = used() - before;
        println!("{name}: {groups} groups, {} KiB of the pool", taken >> 10);
        assert!(taken < 4 << 20, "{name}: {taken} bytes of the pool were taken{}", m.log());
        m.ok(&["volume", "mount", &volume, &at]);
        assert_eq!(fs::read_to_string(format!("{at}/file")).unwrap(), name);
        m.ok(&["volume", "unmount", &volume]);
    }
    assert_eq!(m.json(&["status"])["health"], "ok");
}
