//! Volumes of an orchestrator on a real kernel: their lives, what is refused, and who would lead a mount elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tonic::Code;
use vol_csi::Mode;
use vol_tests::csi::{Orchestrator, code, mounted, raw};
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
        let df = || -> Vec<i64> {
            let said = tool::run("df", &["--block-size=1", "--output=size,used,avail", &staged]);
            said.lines().last().unwrap().split_whitespace().map(|one| one.parse().unwrap()).collect()
        };
        // A file system that has grown may still write by itself: what is the same before and after the question is compared.
        let begin = Instant::now();
        let (bytes, inodes, said) = loop {
            let before = df();
            let [bytes, inodes] = k.usage(id, &staged).unwrap().try_into().unwrap();
            if df() == before {
                break (bytes, inodes, before);
            }
            assert!(begin.elapsed() < Duration::from_secs(120), "{fs}: it never rests");
        };
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

#[test]
fn a_raw_volume_is_a_device_of_its_pods_through_whatever_happens_to_the_daemon() {
    let Some((mut m, k)) = machine() else { return };
    m.with_pool(2);
    let many = Mode::MultiNodeMultiWriter;
    let (id, _) = k.create("raw", MIB512, &raw(many)).unwrap();
    let (one, two) = (k.device("one"), k.device("two"));
    assert_eq!(code(k.show(&id, &one, false, many)), Code::FailedPrecondition, "not staged");
    five(|| k.stage(&id, &raw(many)));
    for at in [&one, &two] {
        five(|| k.show(&id, at, false, many));
        assert!(fs::metadata(at).unwrap().file_type().is_block_device());
    }
    let write = |at: &str, offset: u64, text: &[u8]| {
        let file = fs::OpenOptions::new().write(true).open(at)?;
        file.write_all_at(text, offset).and_then(|()| file.sync_all())
    };
    let read = |at: &str, offset: u64| {
        let mut text = [0; 512];
        fs::File::open(at).unwrap().read_exact_at(&mut text, offset).unwrap();
        text
    };
    write(&one, 4096, &[7; 512]).unwrap();
    assert_eq!(read(&two, 4096), [7; 512]);
    assert_eq!(code(k.show(&id, &k.device("reader"), true, many)), Code::FailedPrecondition);
    // The daemon dies, and what it had noted is gone too.
    m.kill9();
    fs::remove_file(m.path("run/csi-places.json")).unwrap();
    m.start_daemon();
    five(|| k.stage(&id, &raw(many)));
    five(|| k.show(&id, &one, false, many));
    let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains(KUBELET)).count(), 2, "{lines}");
    assert_eq!(code(k.delete(&id)), Code::FailedPrecondition);
    assert_eq!(code(k.unstage(&id)), Code::FailedPrecondition);
    let path = m.json(&["volume", "list"])["volumes"][0]["name"].as_str().unwrap().to_owned();
    assert_ne!(m.run(&["volume", "detach", &m.of(&path)]).code, 0, "it is in a pod");
    assert_eq!(k.usage(&id, &one).unwrap(), [(MIB512, 0, 0)]);
    assert_eq!(k.expand(&id, 2 * MIB512).unwrap(), 2 * MIB512);
    write(&two, MIB512 as u64 + 4096, &[8; 512]).unwrap();
    assert_eq!(read(&one, MIB512 as u64 + 4096), [8; 512]);
    five(|| k.unpublish_at(&id, &one));
    assert!(!Path::new(&one).exists() && Path::new(&two).exists());
    five(|| k.unpublish_at(&id, &two));
    // Somebody has it open who is no pod: it is not taken from under him.
    let device = m.json(&["volume", "show", &m.of(&path)])["device"].as_str().unwrap().to_owned();
    let held = fs::File::open(&device).unwrap();
    assert_eq!(code(k.unstage(&id)), Code::FailedPrecondition);
    drop(held);
    five(|| k.unstage(&id));
    assert!(!Path::new(&device).exists());
    // For reading only the device itself is.
    let reader = Mode::MultiNodeReaderOnly;
    five(|| k.stage(&id, &raw(reader)));
    five(|| k.show(&id, &one, true, reader));
    assert_eq!(read(&one, 4096), [7; 512]);
    assert!(write(&one, 0, &[9; 512]).is_err());
    // Kubernetes binds it further, and a container engine makes a node of its own with its number: neither is of any help.
    tool::run("mknod", &[&m.path("own"), "b", &number(&one).0, &number(&one).1]);
    assert_eq!(read(&m.path("own"), 4096), [7; 512], "it can be read by it");
    assert!(write(&m.path("own"), 0, &[9; 512]).is_err(), "a node of its own does not help");
    k.unpublish_at(&id, &one).unwrap();
    k.unstage(&id).unwrap();
    five(|| k.delete(&id));
    let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!lines.contains(KUBELET), "{lines}");
}

/// The number of a device's node.
fn number(node: &str) -> (String, String) {
    let number = fs::metadata(node).unwrap().rdev();
    (nix::sys::stat::major(number).to_string(), nix::sys::stat::minor(number).to_string())
}

/// What a thin pool allots at once.
const CHUNK: u64 = 64 << 10;

#[test]
fn a_new_raw_volume_shows_nothing_of_what_was_in_its_place() {
    let Some((m, k)) = machine() else { return };
    m.ok(&["vg", "create", &m.vg, &m.disks[0]]);
    m.ok(&["pool", "create", &m.of("tank"), "--size", "192M"]);
    let (mode, size) = (Mode::SingleNodeWriter, 128 << 20);
    let at = k.device("pod");
    let publish = |name: &str| {
        let (id, _) = k.create(name, size, &raw(mode)).unwrap();
        k.stage(&id, &raw(mode)).unwrap();
        k.show(&id, &at, false, mode).unwrap();
        id
    };
    let gone = |id: &str| {
        k.unpublish_at(id, &at).unwrap();
        k.unstage(id).unwrap();
        k.delete(id).unwrap();
    };
    // Each has more than half of the pool, so the second one is given what was the first one's.
    let id = publish("first");
    let mut device = fs::OpenOptions::new().write(true).open(&at).unwrap();
    for _ in 0..size as u64 / CHUNK {
        device.write_all(&[0xa5; CHUNK as usize]).unwrap();
    }
    device.sync_all().unwrap();
    drop(device);
    gone(&id);
    let id = publish("second");
    let device = fs::OpenOptions::new().read(true).write(true).open(&at).unwrap();
    for chunk in 0..size as u64 / CHUNK {
        device.write_all_at(&[0x5a; 512], chunk * CHUNK).unwrap();
    }
    device.sync_all().unwrap();
    let mut found = vec![0; CHUNK as usize];
    for chunk in 0..size as u64 / CHUNK {
        device.read_exact_at(&mut found, chunk * CHUNK).unwrap();
        let at = found.iter().skip(512).position(|byte| *byte != 0);
        assert_eq!((found[0], at), (0x5a, None), "chunk {chunk}: what was there before");
    }
    drop(device);
    gone(&id);
}

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
    let capability = raw(Mode::SingleNodeWriter);
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
    let device = Mode::MultiNodeMultiWriter;
    let (block, _) = k.create("raw-1", MIB512, &raw(device)).unwrap();
    k.stage(&block, &raw(device)).unwrap();
    // Where the link leads the same directories are there, with a directory and a file that must stay.
    let outside = m.path("outside");
    fs::create_dir_all(format!("{outside}/volumes/kubernetes.io~csi/pv/mount")).unwrap();
    fs::write(format!("{outside}/device"), "").unwrap();
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
    let node = format!("{pod}/device");
    let (mut published, mut refused) = (0u64, 0u64);
    let begin = Instant::now();
    // As often as it takes to be both: shown in the right place, and refused.
    while swaps.load(Ordering::Relaxed) < SWAPS || published == 0 || refused == 0 {
        let swapped = swaps.load(Ordering::Relaxed);
        assert!(
            begin.elapsed() < Duration::from_secs(600),
            "{published} published, {refused} refused under {swapped} swaps"
        );
        for shown in [k.publish(&id, "evil", false, &capability), k.show(&block, &node, false, device)] {
            match shown {
                Ok(()) => published += 1,
                Err(_) => refused += 1,
            }
        }
        let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!lines.contains(&outside), "a mount was led elsewhere: {lines}");
        let _ = (k.unpublish(&id, "evil"), k.unpublish_at(&block, &node));
        assert!(Path::new(&format!("{outside}/device")).is_file(), "a file outside was removed");
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
    k.unpublish_at(&block, &node).unwrap();
    for id in [&id, &block] {
        k.unstage(id).unwrap();
        k.delete(id).unwrap();
    }
}
