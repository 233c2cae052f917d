//! The daemon's own I/O on real block devices. Every claim is tested on every path that it can take: io_uring with registered
//! memory, io_uring without, plain system calls.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use vol_core::observed::TargetLine;
use vol_engine::host::{BlockWrite, DurableWrite, HostErrorKind, HostMut, HostRead, HostResult};
use vol_linux::IoChoice;
use vol_types::{Bytes, Sectors};

use crate::support::{Bench, guard_command, linear, sectors, tool};

on_every_path!(
    the_path_is_told,
    what_is_not_aligned_is_refused_and_changes_nothing,
    nothing_is_read_or_written_past_the_end,
    a_commit_goes_to_all_disks_and_each_answers,
    a_commit_is_one_write_and_one_flush_per_copy,
    large_records_arrive_whole_beside_small_ones,
    eight_threads_commit_at_once_and_each_finds_its_own,
    a_disk_that_became_read_only_refuses_and_keeps_its_content,
    another_disk_under_the_name_is_changed,
    a_detached_loop_device_serves_who_has_it_open_and_is_changed_after,
    disks_of_4096_byte_sectors_are_written_and_read,
    a_device_that_fails_says_io_at_once_and_serves_again,
    a_flush_that_failed_does_not_succeed_by_being_repeated,
    one_failing_copy_leaves_the_others_alone,
    disks_that_hang_hold_up_nobody_elses_io,
);

fn bench(io: IoChoice) -> Option<Bench> {
    Bench::with(io, guard_command())
}

fn bench_with_dm(io: IoChoice) -> Option<Bench> {
    let bench = bench(io)?;
    match bench.host.dm_version() {
        Ok(_) => Some(bench),
        Err(e) => {
            println!("skipped: no device-mapper: {e}");
            None
        }
    }
}

fn open(bench: &Bench, node: &Path) -> Arc<dyn BlockWrite> {
    bench.host.open_write(node, &bench.host.inspect(node).unwrap().identity).unwrap()
}

fn disk(bench: &Bench) -> Arc<dyn BlockWrite> {
    open(bench, &bench.disk(Bytes::mib(64)))
}

/// A durable write to one device.
fn commit(bench: &Bench, device: &Arc<dyn BlockWrite>, offset: u64, data: &[u8]) -> HostResult<()> {
    let mut answers = bench.host.write_durable(&[DurableWrite { device, offset, data }]);
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn kind<T>(result: HostResult<T>) -> Option<HostErrorKind> {
    result.err().map(|e| e.kind)
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at / 4096 * 31 + at + seed * 17) % 251).unwrap()).collect()
}

/// What `work` gives; panics if it takes more than a minute (and leaves it running: it hangs in the kernel).
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    try_in_time(work).unwrap_or_else(|| panic!("{what}: not within a minute"))
}

fn try_in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(60)).ok()
}

fn the_path_is_told(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let told = bench.host.io_backend();
    match io {
        IoChoice::Uring => assert_eq!((told.name.as_str(), told.reason), ("io_uring (registered buffers)", None)),
        IoChoice::Unregistered => assert!(told.name == "io_uring" && told.reason.is_some(), "{told:?}"),
        _ => assert!(told.name == "pread/pwrite" && told.reason.is_some(), "{told:?}"),
    }
}

fn what_is_not_aligned_is_refused_and_changes_nothing(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let device = disk(&bench);
    for (offset, len) in [(1, 4096), (512, 4096), (0, 512), (4096, 4095), (4095, 1), (2048, 2048)] {
        let data = vec![0xff; len];
        assert_eq!(kind(device.read_at(offset, len)), Some(HostErrorKind::Invalid), "{len} at {offset}");
        assert_eq!(kind(device.write_at(offset, &data)), Some(HostErrorKind::Invalid), "{len} at {offset}");
        assert_eq!(kind(commit(&bench, &device, offset, &data)), Some(HostErrorKind::Invalid), "{len} at {offset}");
    }
    assert!(device.read_at(0, 16384).unwrap().iter().all(|byte| *byte == 0));
}

fn nothing_is_read_or_written_past_the_end(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let device = disk(&bench);
    let end = Bytes::mib(64).get();
    commit(&bench, &device, end - 4096, &pattern(4096, 1)).unwrap();
    for offset in [end - 4096, end, end + (1 << 30), u64::MAX - 4095] {
        let data = [0xff; 8192];
        assert_eq!(kind(device.read_at(offset, 8192)), Some(HostErrorKind::Io), "{offset}");
        assert_eq!(kind(device.write_at(offset, &data)), Some(HostErrorKind::Io), "{offset}");
        assert_eq!(kind(commit(&bench, &device, offset, &data)), Some(HostErrorKind::Io), "{offset}");
    }
    assert!(device.read_at(end - 4096, 4096).unwrap() == pattern(4096, 1), "the last block was touched");
}

fn a_commit_goes_to_all_disks_and_each_answers(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let disks = [disk(&bench), disk(&bench)];
    let (one, two) = (vec![1u8; 8192], vec![2u8; 4096]);
    let write = |disk: usize, offset, data| DurableWrite { device: &disks[disk], offset, data };
    let end = Bytes::mib(64).get();
    let writes = [write(0, 4096, &one), write(1, end, &two), write(1, 0, &two), write(0, 1, &two)];
    let answers = bench.host.write_durable(&writes);
    assert_eq!(answers[0], Ok(()));
    assert_eq!(answers[1].as_ref().unwrap_err().kind, HostErrorKind::Io);
    assert_eq!(answers[2], Ok(()));
    assert_eq!(answers[3].as_ref().unwrap_err().kind, HostErrorKind::Invalid);
    assert_eq!(disks[0].read_at(4096, 8192).unwrap(), one);
    assert_eq!(disks[1].read_at(0, 4096).unwrap(), two);
    disks[1].write_at(1 << 20, &vec![7; 3 << 20]).unwrap();
    disks[1].flush().unwrap();
    assert!(disks[1].read_at(1 << 20, 3 << 20).unwrap().iter().all(|byte| *byte == 7));
    assert_eq!(bench.host.write_durable(&[]), []);
    assert_eq!(bench.host.write_durable(&[write(0, 0, &[])]), [Ok(())]);
}

/// Sectors of 512 bytes written, flushes, and requests for either that a device has completed (kernel
/// `Documentation/block/stat.rst`; a flush that no write asks for is a write without sectors there).
fn completed(node: &Path) -> [u64; 3] {
    let stat = Path::new("/sys/class/block").join(node.file_name().unwrap()).join("stat");
    let text = std::fs::read_to_string(stat).unwrap();
    let fields: Vec<u64> = text.split_whitespace().map(|field| field.parse().unwrap()).collect();
    [fields[6], fields[15], fields[4]]
}

fn a_commit_is_one_write_and_one_flush_per_copy(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let nodes: Vec<PathBuf> = (0..4).map(|_| bench.disk(Bytes::mib(64))).collect();
    let devices: Vec<_> = nodes.iter().map(|node| open(&bench, node)).collect();
    let data = pattern(8192, 5);
    for copies in 1..=4 {
        let before: Vec<_> = nodes.iter().map(|node| completed(node)).collect();
        let writes: Vec<_> =
            devices[..copies].iter().map(|device| DurableWrite { device, offset: 65536, data: &data }).collect();
        for _ in 0..5 {
            assert!(bench.host.write_durable(&writes).iter().all(Result::is_ok));
        }
        for (at, node) in nodes.iter().enumerate() {
            let after = completed(node);
            let done: [u64; 3] = std::array::from_fn(|field| after[field] - before[at][field]);
            let requests = if io == IoChoice::Plain { 10 } else { 5 };
            let expected = if at < copies { [5 * 16, 5, requests] } else { [0; 3] };
            assert_eq!(done, expected, "sectors, flushes, requests of copy {at} of {copies}");
        }
    }
}

fn large_records_arrive_whole_beside_small_ones(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let node = bench.disk(Bytes::mib(64));
    let devices = [open(&bench, &node), disk(&bench)];
    let records: Vec<(u64, Vec<u8>)> =
        [(0, 4096), (1 << 20, 512 << 10), (2 << 20, 512 << 10), (4 << 20, (5 << 20) + 4096), (32 << 20, 8192)]
            .into_iter()
            .enumerate()
            .map(|(seed, (offset, len))| (offset, pattern(len, seed)))
            .collect();
    let writes: Vec<_> = devices
        .iter()
        .flat_map(|device| records.iter().map(move |(offset, data)| DurableWrite { device, offset: *offset, data }))
        .collect();
    assert!(bench.host.write_durable(&writes).iter().all(Result::is_ok));
    for (offset, data) in &records {
        for device in &devices {
            assert!(device.read_at(*offset, data.len()).unwrap() == *data, "{} at {offset}", data.len());
        }
        // Somebody else's eyes.
        let mut seen = vec![0; data.len()];
        File::open(&node).unwrap().read_exact_at(&mut seen, *offset).unwrap();
        assert!(seen == *data, "{} at {offset}, through the page cache", data.len());
    }
}

fn eight_threads_commit_at_once_and_each_finds_its_own(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let devices = [disk(&bench), disk(&bench)];
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (bench, devices) = (&bench, &devices);
            scope.spawn(move || {
                let base = u64::try_from(thread).unwrap() * (4 << 20);
                for round in 0..20 {
                    let len = [4096, 8192, 65536, 512 << 10][round % 4];
                    let offset = base + u64::try_from(round % 3).unwrap() * (1 << 20);
                    let data = [pattern(len, thread * 100 + round), pattern(len, thread * 100 + round + 50)];
                    let writes: Vec<_> =
                        devices.iter().zip(&data).map(|(device, data)| DurableWrite { device, offset, data }).collect();
                    assert!(bench.host.write_durable(&writes).iter().all(Result::is_ok));
                    for (device, data) in devices.iter().zip(&data) {
                        assert!(device.read_at(offset, len).unwrap() == *data, "thread {thread}, round {round}");
                    }
                }
            });
        }
    });
}

fn a_disk_that_became_read_only_refuses_and_keeps_its_content(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let node = bench.disk(Bytes::mib(64));
    let device = open(&bench, &node);
    commit(&bench, &device, 0, &pattern(4096, 1)).unwrap();
    if !tool("blockdev", &["--setro", node.to_str().unwrap()]) {
        return;
    }
    assert_eq!(kind(commit(&bench, &device, 0, &pattern(4096, 2))), Some(HostErrorKind::Denied));
    assert_eq!(kind(device.write_at(0, &pattern(4096, 2))), Some(HostErrorKind::Denied));
    assert!(device.read_at(0, 4096).unwrap() == pattern(4096, 1));
    assert!(bench.host.inspect(&node).unwrap().read_only);
    // Whether opening for writing is refused is up to the driver; writing is refused.
    match bench.host.open_write(&node, device.identity()) {
        Ok(again) => assert_eq!(kind(commit(&bench, &again, 0, &pattern(4096, 2))), Some(HostErrorKind::Denied)),
        Err(e) => assert_eq!(e.kind, HostErrorKind::Denied, "{e}"),
    }
    assert!(tool("blockdev", &["--setrw", node.to_str().unwrap()]));
    assert_eq!(commit(&bench, &device, 0, &pattern(4096, 3)), Ok(()));
}

/// F33: names and numbers are used again.
fn another_disk_under_the_name_is_changed(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let node = bench.disk(Bytes::mib(64));
    let device = open(&bench, &node);
    let identity = device.identity().clone();
    if identity.diskseq.is_none() {
        return println!("skipped: the kernel has no diskseq");
    }
    commit(&bench, &device, 0, &pattern(4096, 1)).unwrap();
    drop(device);
    bench.host.detach_loop(&node).unwrap();
    // Most likely the same number; of the same size.
    let other = bench.disk(Bytes::mib(64));
    let error = bench.host.open_write(&other, &identity).err().unwrap();
    assert_eq!(error.kind, HostErrorKind::Changed, "{error}");
    let smaller = bench.disk(Bytes::mib(32));
    assert_eq!(kind(bench.host.open_write(&smaller, &identity)), Some(HostErrorKind::Changed));
    assert!(bench.host.open_read(&other).unwrap().read_at(0, 4096).unwrap().iter().all(|byte| *byte == 0));
}

fn a_detached_loop_device_serves_who_has_it_open_and_is_changed_after(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let node = bench.disk(Bytes::mib(64));
    let device = open(&bench, &node);
    let identity = device.identity().clone();
    // The kernel detaches when the last who has it open closes it (`LOOP_CLR_FD`, loop(4)).
    assert_eq!(kind(bench.host.detach_loop(&node)), Some(HostErrorKind::Busy));
    let host = Arc::new(bench);
    let (of, there) = (Arc::clone(&host), Arc::clone(&device));
    let answer = in_time("I/O on a device that is being detached", move || {
        commit(&of, &there, 0, &pattern(4096, 1)).and_then(|()| there.read_at(0, 4096))
    });
    assert!(answer.unwrap() == pattern(4096, 1));
    drop(device);
    crate::support::wait_for("it is detached", || {
        host.host.loop_device_of(&host.dir().join("disk0.img")).unwrap().is_none()
    });
    let after = kind(host.host.open_write(&node, &identity));
    assert!(matches!(after, Some(HostErrorKind::Changed | HostErrorKind::NotFound)), "{after:?}");
}

/// F25: a disk of 4096-byte sectors takes nothing smaller; so nothing smaller is ever sent.
fn disks_of_4096_byte_sectors_are_written_and_read(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let Some(node) = bench.disk_with_sectors(Bytes::mib(64), 4096) else { return };
    assert_eq!(bench.host.inspect(&node).unwrap().sector_size, 4096);
    let devices = [open(&bench, &node), disk(&bench)];
    for (round, len) in [4096, 8192, 12288, 512 << 10].into_iter().enumerate() {
        let data = pattern(len, round);
        let offset = 4096 + u64::try_from(round).unwrap() * (1 << 20);
        let writes: Vec<_> = devices.iter().map(|device| DurableWrite { device, offset, data: &data }).collect();
        assert_eq!(bench.host.write_durable(&writes), [Ok(()), Ok(())], "{len}");
        assert!(devices.iter().all(|device| device.read_at(offset, len).unwrap() == data), "{len}");
    }
    devices[0].write_at(32 << 20, &pattern((1 << 20) + 4096, 9)).unwrap();
    devices[0].flush().unwrap();
    assert!(devices[0].read_at(32 << 20, (1 << 20) + 4096).unwrap() == pattern((1 << 20) + 4096, 9));
    // What is a whole sector elsewhere is none here, and none anywhere for us.
    assert_eq!(kind(commit(&bench, &devices[0], 512, &[1; 4096])), Some(HostErrorKind::Invalid));
}

/// The table that fails all I/O.
fn error_table(size: Bytes) -> Vec<TargetLine> {
    vec![TargetLine { start: Sectors(0), len: Sectors(sectors(size)), target: "error".into(), params: String::new() }]
}

/// A map over a new disk, open, and the tables that make it work and fail.
struct Failing {
    device: Arc<dyn BlockWrite>,
    uuid: String,
    good: Vec<TargetLine>,
    /// Flushes fail as well, which an error target says nothing to (`num_flush_bios`, kernel `drivers/md/dm-target.c`).
    no_flush: Vec<TargetLine>,
}

impl Failing {
    fn new(bench: &Bench) -> Self {
        let node = bench.disk(Bytes::mib(64));
        let good = vec![linear(0, sectors(Bytes::mib(64)), bench.number(&node), 0)];
        // Never up, always down (kernel `Documentation/admin-guide/device-mapper/dm-flakey.rst`).
        let params = format!("{} 0 0 1", bench.number(&node));
        let no_flush = vec![TargetLine { target: "flakey".into(), params, ..good[0].clone() }];
        let (info, node) = bench.over(&node);
        Self { device: open(bench, &node), uuid: info.uuid, good, no_flush }
    }

    fn fail(&self, bench: &Bench) {
        bench.host.dm_reload(&self.uuid, &error_table(Bytes::mib(64))).unwrap();
    }

    fn mend(&self, bench: &Bench) {
        bench.host.dm_reload(&self.uuid, &self.good).unwrap();
    }
}

/// F7: what fails is told, and the next request is served.
fn a_device_that_fails_says_io_at_once_and_serves_again(io: IoChoice) {
    let Some(bench) = bench_with_dm(io) else { return };
    let bench = Arc::new(bench);
    let failing = Failing::new(&bench);
    let device = &failing.device;
    commit(&bench, device, 0, &pattern(8192, 1)).unwrap();
    failing.fail(&bench);
    let (of, there) = (Arc::clone(&bench), Arc::clone(device));
    let kinds = in_time("I/O on a device that fails", move || {
        let data = pattern(512 << 10, 2);
        [
            kind(there.read_at(0, 8192)),
            kind(there.read_at(0, 4 << 20)),
            kind(there.write_at(0, &data)),
            kind(commit(&of, &there, 0, &data)),
            kind(commit(&of, &there, 0, &data[..4096])),
        ]
    });
    assert_eq!(kinds, [Some(HostErrorKind::Io); 5]);
    failing.mend(&bench);
    assert!(device.read_at(0, 8192).unwrap() == pattern(8192, 1), "a write that failed must not have been made");
    assert_eq!(commit(&bench, device, 0, &pattern(8192, 3)), Ok(()));
    assert!(device.read_at(0, 8192).unwrap() == pattern(8192, 3));
}

/// F7: the kernel tells of a failed flush once, and of nothing the second time.
fn a_flush_that_failed_does_not_succeed_by_being_repeated(io: IoChoice) {
    let Some(bench) = bench_with_dm(io) else { return };
    let failing = Failing::new(&bench);
    let device = &failing.device;
    device.write_at(0, &pattern(8192, 1)).unwrap();
    bench.host.dm_reload(&failing.uuid, &failing.no_flush).unwrap();
    assert_eq!(kind(device.flush()), Some(HostErrorKind::Io));
    failing.mend(&bench);
    for _ in 0..3 {
        let error = device.flush().unwrap_err();
        assert!(error.kind == HostErrorKind::Io && error.detail.contains("written again"), "{error}");
    }
    // It vouches for what is written from now on.
    device.write_at(0, &pattern(8192, 1)).unwrap();
    assert_eq!(device.flush(), Ok(()));
    assert_eq!(device.flush(), Ok(()));
}

fn one_failing_copy_leaves_the_others_alone(io: IoChoice) {
    let Some(bench) = bench_with_dm(io) else { return };
    let failing = Failing::new(&bench);
    let devices = [disk(&bench), Arc::clone(&failing.device), disk(&bench)];
    for round in 0..10 {
        let data = pattern(8192, round);
        let fails = round % 2 == 1;
        if fails {
            failing.fail(&bench)
        } else {
            failing.mend(&bench)
        }
        let writes: Vec<_> = devices.iter().map(|device| DurableWrite { device, offset: 4096, data: &data }).collect();
        let kinds: Vec<_> = bench.host.write_durable(&writes).into_iter().map(kind).collect();
        assert_eq!(kinds, [None, fails.then_some(HostErrorKind::Io), None], "round {round}");
        assert!(devices[0].read_at(4096, 8192).unwrap() == data && devices[2].read_at(4096, 8192).unwrap() == data);
    }
}

/// Also when more hang than there are rings and buffers.
fn disks_that_hang_hold_up_nobody_elses_io(io: IoChoice) {
    let Some(bench) = bench_with_dm(io) else { return };
    let (map, node) = bench.over(&bench.disk(Bytes::mib(64)));
    let (hung, good) = (open(&bench, &node), disk(&bench));
    if !tool("dmsetup", &["suspend", &map.name]) {
        return;
    }
    let bench = Arc::new(bench);
    let stuck: Vec<_> = (0..20u64)
        .flat_map(|at| {
            let (of, committed) = (Arc::clone(&bench), Arc::clone(&hung));
            let (read, written) = (Arc::clone(&hung), Arc::clone(&hung));
            [
                std::thread::spawn(move || commit(&of, &committed, at * 4096, &[1; 4096]).is_ok()),
                std::thread::spawn(move || read.read_at(at * 4096, 2 << 20).is_ok()),
                std::thread::spawn(move || written.write_at(16 << 20, &[4; 1 << 20]).is_ok()),
            ]
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let (of, there) = (Arc::clone(&bench), Arc::clone(&good));
    let served = try_in_time(move || {
        [0, 4096, 8192].iter().all(|offset| {
            commit(&of, &there, *offset, &[2; 4096]).is_ok()
                && there.read_at(*offset, 4096).unwrap() == [2; 4096]
                && there.write_at(1 << 20, &vec![3; 5 << 20]).is_ok()
                && there.read_at(1 << 20, 5 << 20).unwrap() == vec![3; 5 << 20]
                && there.flush().is_ok()
        })
    });
    let still_stuck = stuck.iter().all(|thread| !thread.is_finished());
    // A suspended device is not looked into either.
    let looked = kind(bench.host.inspect(&node));
    // Before any claim: a process with threads in a suspended device cannot end.
    bench.host.dm_resume(&map.uuid).unwrap();
    assert_eq!((served, still_stuck), (Some(true), true), "served in ten seconds, others still stuck");
    assert_eq!(looked, Some(HostErrorKind::Busy));
    for thread in stuck {
        assert!(thread.join().unwrap());
    }
    drop(hung);
}
