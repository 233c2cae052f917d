//! Who holds a device: processes with open files, other mount namespaces. For messages only: best effort, and bounded; but for where it is
//! mounted, which is known or an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vol_core::observed::DevNumber;
use vol_engine::host::{Elsewhere, HostError, HostErrorKind, HostResult};

use crate::sysfs::SysDevice;
use crate::{dm, error, files, mountinfo};

const PROCESSES_MAX: usize = 2000;
const FILES_PER_PROCESS_MAX: usize = 4096;
const TIME_MAX: Duration = Duration::from_millis(200);
const RESULTS_MAX: usize = 8;

/// `process 4711 (postgres)`, `mounted at / in the mount namespace of process 12 (dockerd)`, `dm-3 on top of it`.
pub(crate) fn holders(dev: DevNumber) -> Vec<String> {
    let mut search = Search::new(dev);
    search.own_namespace();
    search.on_top();
    search.processes();
    search.found.truncate(RESULTS_MAX);
    search.found
}

struct Search {
    dev: DevNumber,
    end: Instant,
    node: PathBuf,
    /// Mount ids of the device in all namespaces seen; `/proc/PID/fdinfo` names them.
    mounts: BTreeSet<u64>,
    namespaces: BTreeSet<PathBuf>,
    found: Vec<String>,
}

impl Search {
    fn new(dev: DevNumber) -> Self {
        let node = SysDevice::of(dev).map_or_else(|_| dm::node(dev), |device| device.node());
        let end = Instant::now() + TIME_MAX;
        Self { dev, end, node, mounts: BTreeSet::new(), namespaces: BTreeSet::new(), found: Vec::new() }
    }

    fn full(&self) -> bool {
        self.found.len() >= RESULTS_MAX || Instant::now() >= self.end
    }

    fn own_namespace(&mut self) {
        let own = ["1", "self"].into_iter().find_map(|pid| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok());
        self.namespaces.extend(own);
        for line in mountinfo::of_host().unwrap_or_default() {
            if line.mount.dev == self.dev {
                self.mounts.insert(line.mount.mount_id);
                self.found.push(format!("mounted at {}", line.mount.target.display()));
            }
        }
    }

    fn on_top(&mut self) {
        if let Ok(device) = SysDevice::of(self.dev) {
            self.found.extend(device.holders().into_iter().map(|holder| format!("{holder} on top of it")));
        }
    }

    fn processes(&mut self) {
        let Ok(entries) = fs::read_dir("/proc") else { return };
        let pids: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != std::process::id())
            .take(PROCESSES_MAX)
            .collect();
        // All namespaces first: the mounts found there tell which open files count.
        for pid in &pids {
            if self.full() {
                return;
            }
            self.namespace_of(*pid);
        }
        for pid in pids {
            if self.full() {
                return;
            }
            if self.has_open(pid) {
                self.found.push(format!("process {pid} ({})", name_of(pid)));
            }
        }
    }

    fn namespace_of(&mut self, pid: u32) {
        let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { return };
        if !self.namespaces.insert(namespace) {
            return;
        }
        let Ok(text) = fs::read(format!("/proc/{pid}/mountinfo")) else { return };
        // Sources are not resolved here: they are paths of another namespace. A btrfs is found by the node's name.
        for line in mountinfo::parse(&text) {
            if line.mount.dev == self.dev || (line.mount.dev.major == 0 && line.source == self.node) {
                self.mounts.insert(line.mount.mount_id);
                let at = line.mount.target.display();
                self.found.push(format!("mounted at {at} in the mount namespace of process {pid} ({})", name_of(pid)));
                return;
            }
        }
    }

    fn has_open(&self, pid: u32) -> bool {
        let base = PathBuf::from(format!("/proc/{pid}"));
        let Ok(files) = fs::read_dir(base.join("fd")) else { return false };
        let open = files.filter_map(Result::ok).take(FILES_PER_PROCESS_MAX).any(|file| {
            let Ok(path) = fs::read_link(file.path()) else { return false };
            // Sockets, pipes and the like have no path.
            path.is_absolute() && (path == self.node || self.on_our_mount(&base.join("fdinfo").join(file.file_name())))
        });
        open || ["cwd", "root", "exe"].iter().any(|link| self.leads_to_us(&base.join(link)))
    }

    /// By the mount id, because `stat` of another's file can hang on a dead network file system.
    fn on_our_mount(&self, fdinfo: &Path) -> bool {
        let Some(text) = files::read_trimmed(fdinfo) else { return false };
        let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        id.is_some_and(|id: u64| self.mounts.contains(&id))
    }

    /// Working directory, root or program on the device. Only looked at when the device is mounted somewhere, and never
    /// following a link that leads away from block-device file systems that we found.
    fn leads_to_us(&self, link: &Path) -> bool {
        if self.mounts.is_empty() || fs::read_link(link).is_err() {
            return false;
        }
        let mounted_at = |path: &Path| self.found.iter().any(|text| text == &format!("mounted at {}", path.display()));
        let Ok(path) = fs::read_link(link) else { return false };
        path.ancestors().any(mounted_at) && fs::metadata(link).is_ok_and(|m| files::dev_number(m.dev()) == self.dev)
    }
}

/// So long all processes may be asked.
const ASKING_MAX: Duration = Duration::from_secs(5);
/// What the kernel gives of a mount table in one read.
const PAGE: usize = 4096;

/// See `HostRead::mounted_elsewhere`. Mount tables are asked and not namespaces: those anybody may read
/// (`fs/proc_namespace.c`, `mounts_open_common`), `/proc/PID/ns/mnt` only who may trace the process (`proc_pid_ns(5)`), which a daemon with
/// few capabilities may not. The number of a mount is that of one namespace alone, so a table that begins with a mount that was seen is
/// of a namespace that was seen.
pub(crate) fn mounted_elsewhere(devs: &BTreeSet<DevNumber>) -> HostResult<Vec<Elsewhere>> {
    const WHAT: &str = "look for mounts in other mount namespaces";
    let failed = |e: &io::Error| error::io(WHAT, e);
    if devs.is_empty() {
        return Ok(Vec::new());
    }
    let end = Instant::now() + ASKING_MAX;
    let host = mountinfo::of_host().map_err(|e| failed(&e))?;
    let nodes: BTreeMap<PathBuf, DevNumber> =
        devs.iter().map(|dev| (SysDevice::of(*dev).map_or_else(|_| dm::node(*dev), |one| one.node()), *dev)).collect();
    let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(|e| failed(&e))? {
        let Some(pid) = entry.map_err(|e| failed(&e))?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if Instant::now() >= end {
            return Err(HostError::new(HostErrorKind::TimedOut, WHAT, "there are too many processes"));
        }
        let Some(text) = unseen_table(pid, &mut seen).map_err(|e| failed(&e))? else { continue };
        for (dev, target) in uses(&host, &mountinfo::parse(&text), devs, &nodes) {
            found.push(Elsewhere { dev, pid, process: name_of(pid), target });
        }
    }
    Ok(found)
}

/// Who has something mounted at this path in another mount namespace than the host's, besides what it received from there; `None`: nobody.
pub(crate) fn mounted_at(path: &Path) -> HostResult<Option<String>> {
    let what = || format!("look for mounts at {} in other mount namespaces", path.display());
    let end = Instant::now() + ASKING_MAX;
    let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
    for entry in fs::read_dir("/proc").map_err(|e| error::io(what(), &e))? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if Instant::now() >= end {
            return Err(HostError::new(HostErrorKind::TimedOut, what(), "there are too many processes"));
        }
        let Some(text) = unseen_table(pid, &mut seen).map_err(|e| error::io(what(), &e))? else { continue };
        if mountinfo::parse(&text).iter().any(|line| line.mount.target == path) {
            return Ok(Some(format!("process {pid} ({})", name_of(pid))));
        }
    }
    Ok(None)
}

/// Which of the devices another table has mounted, each once, besides what it has of the host's: those mounts themselves (a process below another
/// root sees some of them), and copies that were received by propagation. Such a copy is at the same place and is unmounted with the
/// host's (`mount_namespaces(7)`); each service of systemd's with a mount namespace has them.
fn uses(
    host: &[mountinfo::Line],
    other: &[mountinfo::Line],
    devs: &BTreeSet<DevNumber>,
    nodes: &BTreeMap<PathBuf, DevNumber>,
) -> Vec<(DevNumber, PathBuf)> {
    let of_host = |line: &mountinfo::Line, dev: DevNumber| {
        host.iter().any(|one| {
            let copy = line.propagated && one.mount.dev == dev && one.mount.target == line.mount.target;
            one.mount.mount_id == line.mount.mount_id || copy
        })
    };
    let mut found: BTreeMap<DevNumber, PathBuf> = BTreeMap::new();
    for line in other {
        // A btrfs has a number of its own, and is found by the node's name.
        let dev = match line.mount.dev {
            dev if devs.contains(&dev) => dev,
            dev if dev.major == 0 => match nodes.get(&line.source) {
                Some(dev) => *dev,
                None => continue,
            },
            _ => continue,
        };
        if !of_host(line, dev) {
            found.entry(dev).or_insert_with(|| line.mount.target.clone());
        }
    }
    found.into_iter().collect()
}

/// The mount table of a process, unless one that begins like it was seen, or the process is gone.
fn unseen_table(pid: u32, seen: &mut BTreeSet<Vec<u8>>) -> io::Result<Option<Vec<u8>>> {
    // The last two: one that has ended and is not waited for has no namespace.
    let gone = |e: &io::Error| e.raw_os_error().is_some_and(|e| [libc::ENOENT, libc::ESRCH, libc::EINVAL].contains(&e));
    let mut read = || -> io::Result<Option<Vec<u8>>> {
        let mut file = fs::File::open(format!("/proc/{pid}/mountinfo"))?;
        let mut text = vec![0; PAGE];
        let len = file.read(&mut text)?;
        text.truncate(len);
        let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
        // Without a whole line, nothing is known of it yet.
        if text.contains(&b'\n') && !seen.insert(first) {
            return Ok(None);
        }
        file.read_to_end(&mut text)?;
        Ok(Some(text))
    };
    match read() {
        Err(e) if gone(&e) => Ok(None),
        other => other,
    }
}

fn name_of(pid: u32) -> String {
    files::read_trimmed(Path::new(&format!("/proc/{pid}/comm"))).unwrap_or_else(|| "gone".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_ends_in_time_and_names_no_more_than_it_may() {
        let start = Instant::now();
        let found = holders(DevNumber { major: 253, minor: 4321 });
        assert!(found.is_empty(), "{found:?}");
        // One step is always done; there a slow machine may be held up.
        assert!(start.elapsed() < TIME_MAX * 50);
    }

    #[test]
    fn what_is_mounted_here_alone_is_mounted_nowhere_else() {
        assert_eq!(mounted_elsewhere(&BTreeSet::new()).unwrap(), []);
        let start = Instant::now();
        let dev = DevNumber { major: 253, minor: 4321 };
        assert_eq!(mounted_elsewhere(&BTreeSet::from([dev])).unwrap(), []);
        assert!(start.elapsed() < ASKING_MAX * 2);
    }

    #[test]
    fn a_container_uses_what_it_has_mounted_and_a_service_does_not_use_what_it_received() {
        let dev = |minor| DevNumber { major: 253, minor };
        let devs = BTreeSet::from([dev(1), dev(2)]);
        let nodes = BTreeMap::from([(PathBuf::from("/dev/dm-1"), dev(1)), (PathBuf::from("/dev/dm-2"), dev(2))]);
        let mut host = mountinfo::parse(
            b"30 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n40 30 253:1 / /m/1 rw shared:9 - ext4 /dev/dm-1 rw\n\
              41 30 0:50 / /m/2 rw shared:8 - btrfs /dev/dm-2 rw\n",
        );
        // As it is when it was resolved.
        host[2].mount.dev = dev(2);
        let uses = |other: &[u8]| uses(&host, &mountinfo::parse(other), &devs, &nodes);
        let service =
            b"60 1 8:1 / / rw master:1 - ext4 /dev/sda1 rw\n61 60 253:1 / /m/1 rw master:9 - ext4 /dev/dm-1 rw\n\
                        62 60 0:50 / /m/2 rw shared:20 master:8 - btrfs /dev/dm-2 rw\n";
        assert_eq!(uses(service), []);
        let chrooted = b"40 30 253:1 / / rw shared:9 - ext4 /dev/dm-1 rw\n";
        assert_eq!(uses(chrooted), []);
        let container = b"70 1 0:60 / / rw - overlay overlay rw\n71 70 253:1 /data /data rw - ext4 /dev/dm-1 rw\n\
                          72 70 253:1 /data /more rw - ext4 /dev/dm-1 rw\n73 70 0:50 / /b rw master:8 - btrfs /dev/dm-2 rw\n";
        assert_eq!(uses(container), [(dev(1), "/data".into()), (dev(2), "/b".into())]);
        // A copy that receives nothing stays when the host's is unmounted.
        let private = b"80 1 8:1 / / rw - ext4 /dev/sda1 rw\n81 80 253:1 / /m/1 rw - ext4 /dev/dm-1 rw\n";
        assert_eq!(uses(private), [(dev(1), "/m/1".into())]);
    }

    #[test]
    fn one_namespace_is_read_once_whoever_is_in_it() {
        let mut seen = BTreeSet::new();
        assert!(unseen_table(std::process::id(), &mut seen).unwrap().is_some_and(|text| !text.is_empty()));
        assert_eq!(unseen_table(std::process::id(), &mut seen).unwrap(), None);
        assert_eq!(unseen_table(u32::MAX, &mut seen).unwrap(), None, "nobody has this id");
    }
}
