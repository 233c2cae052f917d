//! Volumes of an orchestrator on a real kernel: their lives, what is refused, and who would lead a mount elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tonic::Code;
use vol_csi::Mode;
use vol_csi::csi::{VolumeCapability, volume_capability};
use vol_tests::csi::{Orchestrator, code, mounted};
use vol_tests::{Machine, Random, kernel, tool};

const KUBELET: &str = "/tmp/volumed-kubelet";
const MIB512: i64 = 512 << 20;

fn machine() -> Option<(Machine, Orchestrator)> {
    let m = Machine::with(&format!("csi.kubelet_dir = \"{KUBELET}\"\n"))?;
    let orchestrator = Orchestrator::new(m.path("run/csi.sock"), KUBELET);
    Some((m, orchestrator))
}

/// Five times, as who hears no answer asks.
#[track_caller]
fn five<E: std::fmt::Debug>(each: impl Fn() -> Result<(), E>) {
    for _ in 0..5 {
        each().unwrap();
    }
}

#[test]
fn a_pods_volume_lives_through_whatever_happens_to_the_daemon() {
    let Some((mut m, k)) = machine() else { return };
    m.with_pool(2);
    assert!(k.ready());
    for fs in ["ext4", "xfs"] {
        let capability = mounted(fs, &["noatime"], Mode::SingleNodeMultiWriter);
        let (id, size) = k.create(&format!("pvc-{fs}"), MIB512, &capability).unwrap();
        assert_eq!(size, MIB512);
        five(|| k.create(&format!("pvc-{fs}"), MIB512, &capability).map(drop));
        let (writer, reader) = (format!("{fs}-writer"), format!("{fs}-reader"));
        k.prepare(&writer);
        k.prepare(&reader);
        assert_eq!(code(k.publish(&id, &writer, false, &capability)), Code::FailedPrecondition, "not staged");
        five(|| k.stage(&id, &capability));
        five(|| k.publish(&id, &writer, false, &capability));
        five(|| k.publish(&id, &reader, true, &capability));
        let (staged, at, seen) = (k.staging(&id), k.target(&writer), k.target(&reader));
        for (place, access) in [(&staged, "rw"), (&at, "rw"), (&seen, "ro")] {
            let options = kernel::mounted(place).unwrap().options;
            for word in [access, "nosuid", "nodev", "noatime"] {
                assert!(options.iter().any(|option| option == word), "{place}: {options:?}");
            }
        }
        fs::write(Path::new(&at).join("file"), "kept").unwrap();
        assert!(!Path::new(&at).join("lost+found").exists(), "an empty directory is handed out");
        assert!(fs::write(Path::new(&seen).join("other"), "").is_err(), "it is for reading only");
        assert_eq!(code(k.publish(&id, &reader, false, &capability)), Code::AlreadyExists);

        // The daemon dies; nobody notices, and the next one knows what is there.
        m.kill9();
        assert_eq!(fs::read_to_string(Path::new(&seen).join("file")).unwrap(), "kept");
        m.start_daemon();
        five(|| k.stage(&id, &capability));
        five(|| k.publish(&id, &writer, false, &capability));
        let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(lines.lines().filter(|line| line.contains(KUBELET)).count(), 3, "{lines}");
        assert_eq!(code(k.delete(&id)), Code::FailedPrecondition);
        assert_eq!(code(k.unstage(&id)), Code::FailedPrecondition);

        // Unmounted behind the driver's back the staging directory is the host's own, and is not handed out.
        tool::run("umount", &[&staged]);
        k.prepare("late");
        assert_eq!(code(k.publish(&id, "late", false, &capability)), Code::FailedPrecondition);
        assert!(kernel::mounted(&k.target("late")).is_none());
        k.stage(&id, &capability).unwrap();
        k.publish(&id, "late", false, &capability).unwrap();
        assert_eq!(fs::read_to_string(Path::new(&k.target("late")).join("file")).unwrap(), "kept");

        for pod in [&writer, &reader, "late"] {
            five(|| k.unpublish(&id, pod));
            assert!(!Path::new(&k.target(pod)).exists(), "the place is removed");
        }
        // What was left in a place without a mount is not touched.
        let left = Path::new(&k.target(&writer)).join("left");
        fs::create_dir_all(left.parent().unwrap()).unwrap();
        fs::write(&left, "").unwrap();
        assert!(k.unpublish(&id, &writer).is_err() && left.exists());
        fs::remove_file(&left).unwrap();
        five(|| k.unpublish(&id, &writer));
        five(|| k.unstage(&id));
        assert!(Path::new(&staged).exists(), "the directory is the kubelet's");
        five(|| k.delete(&id));
    }
    assert_eq!(m.json(&["volume", "list"])["volumes"].as_array().map_or(0, Vec::len), 0);
    let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!lines.contains(KUBELET), "{lines}");
}

#[test]
fn volumes_are_restored_larger_from_one_instant_grow_in_use_and_die_with_their_pods() {
    let Some((m, k)) = machine() else { return };
    m.with_pool(2);
    let kinds = ["ext4", "xfs"].map(|fs| (fs, mounted(fs, &[], Mode::SingleNodeMultiWriter)));
    let mut volumes = Vec::new();
    for (fs, capability) in &kinds {
        let (id, _) = k.create(&format!("pvc-{fs}"), MIB512, capability).unwrap();
        k.stage(&id, capability).unwrap();
        fs::write(Path::new(&k.staging(&id)).join("file"), "then").unwrap();
        volumes.push(id);
    }
    let ids: Vec<&str> = volumes.iter().map(String::as_str).collect();
    let snapshots = k.snapshots("nightly", &ids).unwrap();
    assert_eq!(k.snapshots("nightly", &ids).unwrap(), snapshots);
    for ((fs, capability), id) in kinds.iter().zip(&volumes) {
        let staged = k.staging(id);
        fs::write(Path::new(&staged).join("file"), "now").unwrap();
        let snapshot = snapshots.iter().find(|one| k.source(one).unwrap() == *id).unwrap();
        let (restored, size) = k.restore(&format!("restored-{fs}"), snapshot, 2 * MIB512, capability).unwrap();
        assert_eq!(size, 2 * MIB512);
        k.stage(&restored, capability).unwrap();
        let at = k.staging(&restored);
        assert_eq!(fs::read_to_string(Path::new(&at).join("file")).unwrap(), "then");
        assert_eq!(fs::read_to_string(Path::new(&staged).join("file")).unwrap(), "now");
        // The file system is as large as its volume, less what it keeps for itself.
        let total = |at: &str, id: &str| k.usage(id, at).unwrap()[0].0;
        assert!(total(&at, &restored) > MIB512 * 3 / 2, "{fs}: {}", total(&at, &restored));
        let before = total(&staged, id);
        assert_eq!(k.expand(id, 2 * MIB512).unwrap(), 2 * MIB512);
        assert!(total(&staged, id) > before + MIB512 / 2, "{fs}: it has not grown in use");
        let [bytes, inodes] = k.usage(id, &staged).unwrap().try_into().unwrap();
        let said = tool::run("df", &["--block-size=1", "--output=size,used,avail", &staged]);
        let said: Vec<i64> = said.lines().last().unwrap().split_whitespace().map(|one| one.parse().unwrap()).collect();
        assert_eq!(vec![bytes.0, bytes.1, bytes.2], said, "{fs}: df says otherwise");
        assert!(inodes.0 > 0 && inodes.1 > 0, "{fs}: {inodes:?}");
        assert_eq!(code(k.usage(id, "some/path")), Code::NotFound);
        for id in [id, &restored] {
            k.unstage(id).unwrap();
            k.delete(id).unwrap();
        }
    }
    k.prepare("web");
    five(|| k.publish_inline("csi-1", "web", "64M"));
    fs::write(Path::new(&k.target("web")).join("file"), "scratch").unwrap();
    five(|| k.unpublish("csi-1", "web"));
    assert!(!Path::new(&k.target("web")).exists());
    assert!(m.json(&["volume", "list"])["volumes"].as_array().unwrap().is_empty());
}

const CHUNK: u64 = 64 << 10;

/// The chunks that are not zero in the one or not the same in both.
fn differing(base: Option<&str>, target: &str) -> BTreeSet<u64> {
    let target = fs::read(target).unwrap();
    let base = base.map_or_else(|| vec![0; target.len()], |path| fs::read(path).unwrap());
    let chunks = base.chunks(CHUNK as usize).zip(target.chunks(CHUNK as usize)).enumerate();
    chunks.filter(|(_, (a, b))| a != b).map(|(at, _)| at as u64).collect()
}

#[test]
fn what_is_told_to_have_changed_is_what_differs_byte_by_byte() {
    let Some((m, k)) = machine() else { return };
    m.with_pool(2);
    let capability = VolumeCapability {
        access_type: Some(volume_capability::AccessType::Block(volume_capability::BlockVolume {})),
        ..mounted("", &[], Mode::SingleNodeWriter)
    };
    let chunks = 1024;
    let (id, _) = k.create("raw", (chunks * CHUNK) as i64, &capability).unwrap();
    let attached = |name: &str| {
        m.ok(&["volume", "attach", &m.of(name)]);
        m.json(&["volume", "show", &m.of(name)])["device"].as_str().unwrap().to_owned()
    };
    let node = attached("raw");
    let device = fs::OpenOptions::new().write(true).open(&node).unwrap();
    let mut random = Random::new();
    let mut snapshots = Vec::new();
    // What was written or discarded before each snapshot, since the one before.
    let mut touched = Vec::new();
    for round in 0..4u64 {
        let mut these = BTreeSet::new();
        for _ in 0..60 {
            let (first, len) = (random.below(chunks - 8), 1 + random.below(8));
            let range = first..first + len;
            if round > 0 && random.below(3) == 0 {
                let (offset, len) = ((first * CHUNK).to_string(), (len * CHUNK).to_string());
                tool::run("blkdiscard", &["--offset", &offset, "--length", &len, &node]);
            } else {
                for chunk in range.clone() {
                    // Some of each chunk, somewhere in it; never twice the same.
                    let mark = (random.below(u64::MAX) | 1).to_le_bytes();
                    device.write_all_at(&mark, chunk * CHUNK + random.below(CHUNK / 8) * 8).unwrap();
                }
            }
            these.extend(range);
        }
        device.sync_all().unwrap();
        snapshots.push(k.snapshots(&format!("s{round}"), &[&id]).unwrap().remove(0));
        touched.push(these);
    }
    // What comes after the last one is none of theirs.
    device.write_all_at(&[7; 512], 0).unwrap();
    device.sync_all().unwrap();
    drop(device);
    let list = m.json(&["snapshot", "list"]);
    let path = |id: &str| {
        let all = list["snapshots"].as_array().unwrap();
        let found = all.iter().find(|one| id.starts_with(one["id"].as_str().unwrap())).unwrap();
        found["full_name"].as_str().unwrap().to_owned()
    };
    let copy = |(at, id): (usize, &String)| {
        let name = format!("copy{at}");
        m.ok(&["volume", "clone", &path(id), &m.of(&name)]);
        attached(&name)
    };
    let nodes: Vec<String> = snapshots.iter().enumerate().map(copy).collect();
    let told = |base: Option<usize>, target: usize, how| -> BTreeSet<u64> {
        let ranges = k.changed(base.map(|at| snapshots[at].as_str()), &snapshots[target], how).unwrap();
        assert!(ranges.iter().all(|one| one.start % CHUNK == 0 && one.end % CHUNK == 0), "{ranges:?}");
        ranges.into_iter().flat_map(|one| one.start / CHUNK..one.end / CHUNK).collect()
    };
    for target in 0..4 {
        let all = told(None, target, (0, 0));
        let used = differing(None, &nodes[target]);
        assert!(all.is_superset(&used), "in use and not told: {:?}", used.difference(&all));
        for base in 0..4 {
            let changed = told(Some(base), target, (0, 0));
            let differ = differing(Some(&nodes[base]), &nodes[target]);
            assert!(changed.is_superset(&differ), "{base} {target} not told: {:?}", differ.difference(&changed));
            let (from, to) = (base.min(target), base.max(target));
            let since: BTreeSet<u64> = touched[from + 1..=to].iter().flatten().copied().collect();
            assert!(changed.is_subset(&since), "{base} {target} told without cause: {:?}", changed.difference(&since));
            println!("{base} -> {target}: {} differ, {} told, {} touched", differ.len(), changed.len(), since.len());
            // In small messages, and from the middle on, it is the same.
            assert_eq!(told(Some(base), target, (0, 3)), changed);
            let half: BTreeSet<u64> = changed.iter().copied().filter(|chunk| *chunk >= chunks / 2).collect();
            assert_eq!(told(Some(base), target, ((chunks / 2 * CHUNK) as i64, 0)), half);
        }
    }
    let pool = tool::run("dmsetup", &["status", "--target", "thin-pool"]);
    assert!(pool.lines().all(|line| line.split(' ').nth(7) == Some("-")), "a metadata snapshot is left: {pool}");
    assert_eq!(code(k.changed(None, &snapshots[0], (-1, 0))), Code::OutOfRange);
    assert_eq!(code(k.changed(Some("nobody's"), &snapshots[0], (0, 0))), Code::NotFound);
}

/// How often the attacker swaps a directory for a link.
const SWAPS: u64 = 100_000;

#[test]
fn s1_who_swaps_directories_for_links_leads_no_mount_elsewhere() {
    let Some((m, k)) = machine() else { return };
    m.with_pool(1);
    let capability = mounted("ext4", &[], Mode::SingleNodeMultiWriter);
    let (id, _) = k.create("pvc-1", MIB512, &capability).unwrap();
    k.stage(&id, &capability).unwrap();
    // Where the link leads the same directories are there, with a directory that must stay.
    let outside = m.path("outside");
    fs::create_dir_all(format!("{outside}/volumes/kubernetes.io~csi/pv/mount")).unwrap();
    let (pod, link) = (format!("{KUBELET}/pods/evil"), format!("{KUBELET}/pods/link"));
    k.prepare("evil");
    symlink(&outside, &link).unwrap();
    let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let attacker = std::thread::spawn({
        let (stop, swaps, pod, link) = (Arc::clone(&stop), Arc::clone(&swaps), pod.clone(), link.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = renameat2(AT_FDCWD, pod.as_str(), AT_FDCWD, link.as_str(), RenameFlags::RENAME_EXCHANGE);
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let (mut published, mut refused) = (0u64, 0u64);
    while swaps.load(Ordering::Relaxed) < SWAPS {
        match k.publish(&id, "evil", false, &capability) {
            Ok(()) => published += 1,
            Err(_) => refused += 1,
        }
        let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!lines.contains(&outside), "a mount was led elsewhere: {lines}");
        let _ = k.unpublish(&id, "evil");
        assert!(
            Path::new(&format!("{outside}/volumes/kubernetes.io~csi/pv/mount")).is_dir(),
            "what is outside was removed"
        );
    }
    stop.store(true, Ordering::Relaxed);
    attacker.join().unwrap();
    println!("{published} published and {refused} refused under {} swaps", swaps.load(Ordering::Relaxed));
    // Whichever of the two is the directory now, and whatever is mounted in it.
    if fs::symlink_metadata(&pod).unwrap().is_symlink() {
        renameat2(AT_FDCWD, pod.as_str(), AT_FDCWD, link.as_str(), RenameFlags::RENAME_EXCHANGE).unwrap();
    }
    k.unpublish(&id, "evil").unwrap();
    k.unstage(&id).unwrap();
    k.delete(&id).unwrap();
}
