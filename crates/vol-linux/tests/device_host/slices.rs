//! Slices that are wiped and copied, on each path of the daemon's own I/O: what is there afterwards, what lies is found out, and
//! what is not to be touched is not.

use std::path::{Path, PathBuf};

use uuid::Uuid;
use vol_core::dm::Device;
use vol_core::observed::{DmInfo, ThinStatus};
use vol_engine::host::{DmEnd, HostErrorKind, HostMut, HostRead, HostResult, SLICE_MAX, WipeMethod};
use vol_linux::IoChoice;
use vol_types::{Bytes, Sectors, VolumeId};

use crate::support::{Bench, guard_command, linear};

on_every_path!(
    a_discard_that_reads_as_zeroes_is_enough,
    a_device_that_discards_and_zeroes_is_let_zero,
    a_discard_that_leaves_old_data_is_found_out_and_remembered,
    a_device_that_zeroes_is_let_do_it,
    what_zeroed_once_is_still_looked_at,
    a_slice_is_copied_and_its_neighbours_are_not,
    the_device_is_closed_when_the_call_returns,
    what_cannot_be_written_or_read_says_io,
    another_device_is_not_touched,
);

const MIB: u64 = 1 << 20;

fn bench(io: IoChoice) -> Option<Bench> {
    let bench = Bench::with(io, guard_command())?;
    match bench.host.dm_version() {
        Ok(_) => Some(bench),
        Err(e) => {
            println!("skipped: no device-mapper: {e}");
            None
        }
    }
}

fn node(info: &DmInfo) -> PathBuf {
    PathBuf::from(format!("/dev/dm-{}", info.dev.minor))
}

/// No byte is zero, and no two blocks are the same.
fn pattern(len: u64, seed: u8) -> Vec<u8> {
    let block = |at: u64| {
        let mut block = [seed | 1; 4096];
        block[..8].copy_from_slice(&(at | 0x0101_0101_0101_0101).to_le_bytes());
        block
    };
    (0..len / 4096).flat_map(block).collect()
}

fn fill(bench: &Bench, info: &DmInfo, len: u64, seed: u8) {
    let identity = bench.host.open_read(&node(info)).unwrap().identity().clone();
    let device = bench.host.open_write(&node(info), &identity).unwrap();
    device.write_at(0, &pattern(len, seed)).unwrap();
    device.flush().unwrap();
}

fn read(bench: &Bench, info: &DmInfo, offset: u64, len: u64) -> Vec<u8> {
    bench.host.open_read(&node(info)).unwrap().read_at(offset, usize::try_from(len).unwrap()).unwrap()
}

fn zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|block| block == &[0; 4096][..block.len()])
}

fn queue(info: &DmInfo, name: &str) -> PathBuf {
    Path::new("/sys/dev/block").join(info.dev.to_string()).join("queue").join(name)
}

/// Whether a number of the queue is above zero.
fn has(info: &DmInfo, name: &str) -> bool {
    std::fs::read_to_string(queue(info, name)).is_ok_and(|text| text.trim() != "0")
}

/// A range in the middle, and what lies around it.
fn wipe_middle(bench: &Bench, info: &DmInfo, (offset, len): (u64, u64), all: u64, seed: u8) -> WipeMethod {
    let method = bench.host.wipe_slice(info.dev, &info.uuid, offset, len).unwrap();
    let (old, found) = (pattern(all, seed), read(bench, info, 0, all));
    let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(offset + len).unwrap());
    assert!(zero(&found[from..to]), "{method:?}: not all zero");
    assert!(found[..from] == old[..from] && found[to..] == old[to..], "{method:?}: the neighbours were touched");
    method
}

fn a_discard_that_reads_as_zeroes_is_enough(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    // It discards and does not zero.
    let pool = bench.pool(Bytes::mib(64));
    let info = pool.volume(1, Bytes::mib(16));
    fill(&bench, &info, 16 * MIB, 0x20);
    assert!(has(&info, "discard_max_bytes") && !has(&info, "write_zeroes_max_bytes"));
    assert_eq!(wipe_middle(&bench, &info, (4 * MIB, 8 * MIB), 16 * MIB, 0x20), WipeMethod::Discarded);
    assert_eq!(bench.host.wipe_slice(info.dev, &info.uuid, 0, 64 << 10).unwrap(), WipeMethod::Discarded);
}

/// Zeroes are promised of it, and little of it has to be read.
fn a_device_that_discards_and_zeroes_is_let_zero(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let (info, _) = bench.over(&bench.disk(Bytes::mib(16)));
    if !has(&info, "discard_max_bytes") || !has(&info, "write_zeroes_max_bytes") {
        return println!("skipped: files here cannot be discarded and zeroed");
    }
    fill(&bench, &info, 16 * MIB, 0x40);
    assert_eq!(wipe_middle(&bench, &info, (4 * MIB, 8 * MIB), 16 * MIB, 0x40), WipeMethod::Offloaded);
    assert_eq!(bench.host.wipe_slice(info.dev, &info.uuid, 0, 4096).unwrap(), WipeMethod::Offloaded);
}

fn a_discard_that_leaves_old_data_is_found_out_and_remembered(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let pool = bench.pool(Bytes::mib(64));
    let thin = pool.volume(1, Bytes::mib(8));
    fill(&bench, &thin, 8 * MIB, 0x30);
    assert!(has(&thin, "discard_max_bytes") && !has(&thin, "write_zeroes_max_bytes"));
    // The kernel says that it discarded this: but a chunk of 64 KiB is given back as a whole or not at all.
    assert_eq!(wipe_middle(&bench, &thin, (2 * MIB + 4096, 8192), 8 * MIB, 0x30), WipeMethod::Written);
    // Whole chunks would read as zeroes. The device is not trusted any more, so they are written, and none is given back.
    fill(&bench, &thin, 8 * MIB, 0x30);
    assert_eq!(wipe_middle(&bench, &thin, (MIB, 4 * MIB), 8 * MIB, 0x30), WipeMethod::Written);
    let mapped = bench.host.thin_status(&thin.uuid).unwrap();
    assert_eq!(mapped, ThinStatus::Working { mapped: Sectors(8 * MIB / 512) });
    // Another device of the pool is judged by itself.
    let other = pool.volume(2, Bytes::mib(8));
    fill(&bench, &other, 8 * MIB, 0x31);
    assert_eq!(wipe_middle(&bench, &other, (MIB, 4 * MIB), 8 * MIB, 0x31), WipeMethod::Discarded);
    let mapped = bench.host.thin_status(&other.uuid).unwrap();
    assert_eq!(mapped, ThinStatus::Working { mapped: Sectors(4 * MIB / 512) });
}

fn a_device_that_zeroes_is_let_do_it(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let (info, _) = bench.over(&bench.disk(Bytes::mib(16)));
    if !has(&info, "write_zeroes_max_bytes") {
        return println!("skipped: files here cannot be zeroed");
    }
    fill(&bench, &info, 16 * MIB, 0x40);
    std::fs::write(queue(&info, "discard_max_bytes"), "0").unwrap();
    assert_eq!(wipe_middle(&bench, &info, (MIB + 4096, 8 * MIB), 16 * MIB, 0x40), WipeMethod::Offloaded);
    assert_eq!(bench.host.wipe_slice(info.dev, &info.uuid, 0, 16 * MIB).unwrap(), WipeMethod::Offloaded);
    assert!(zero(&read(&bench, &info, 0, 16 * MIB)));
}

/// A device whose table becomes another one, of disks that do not zero: what was seen of it before is not believed for ever.
fn what_zeroed_once_is_still_looked_at(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let (info, _) = bench.over(&bench.disk(Bytes::mib(8)));
    if !has(&info, "write_zeroes_max_bytes") {
        return println!("skipped: files here cannot be zeroed");
    }
    fill(&bench, &info, 8 * MIB, 0x50);
    std::fs::write(queue(&info, "discard_max_bytes"), "0").unwrap();
    assert_eq!(bench.host.wipe_slice(info.dev, &info.uuid, 0, 4 * MIB).unwrap(), WipeMethod::Offloaded);
    let pool = bench.pool(Bytes::mib(32));
    let thin = pool.volume(1, Bytes::mib(8));
    fill(&bench, &thin, 8 * MIB, 0x51);
    bench.host.dm_reload(&info.uuid, &[linear(0, 8 * MIB / 512, thin.dev, 0)]).unwrap();
    assert_eq!(wipe_middle(&bench, &info, (MIB + 4096, 8192), 8 * MIB, 0x51), WipeMethod::Written);
}

fn a_slice_is_copied_and_its_neighbours_are_not(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let ends: Vec<DmInfo> = (0..2).map(|_| bench.over(&bench.disk(Bytes::mib(16))).0).collect();
    for (info, seed) in ends.iter().zip([0x60, 0x70]) {
        fill(&bench, info, 16 * MIB, seed);
    }
    let end = |at: usize| DmEnd { dev: ends[at].dev, uuid: ends[at].uuid.clone() };
    for (offset, len) in [(MIB + 4096, 9 * MIB + 8192), (15 * MIB, MIB), (0, 4096)] {
        fill(&bench, &ends[1], 16 * MIB, 0x70);
        bench.host.copy_slice(&end(0), &end(1), offset, len).unwrap();
        let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(offset + len).unwrap());
        let (old, new) = (pattern(16 * MIB, 0x70), pattern(16 * MIB, 0x60));
        let found = read(&bench, &ends[1], 0, 16 * MIB);
        assert!(found[from..to] == new[from..to], "{len} at {offset}");
        assert!(found[..from] == old[..from] && found[to..] == old[to..], "{len} at {offset}: the neighbours");
    }
    assert!(read(&bench, &ends[0], 0, 16 * MIB) == pattern(16 * MIB, 0x60), "the source");
}

fn the_device_is_closed_when_the_call_returns(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let ends: Vec<DmInfo> = (0..2).map(|_| bench.over(&bench.disk(Bytes::mib(8))).0).collect();
    let end = |at: usize| DmEnd { dev: ends[at].dev, uuid: ends[at].uuid.clone() };
    for _ in 0..20 {
        bench.host.wipe_slice(ends[0].dev, &ends[0].uuid, 0, MIB).unwrap();
        bench.host.copy_slice(&end(1), &end(0), 0, MIB).unwrap();
        // The kernel's own count would have those of others in it: udev looks at what was closed after writing.
        let ours = std::fs::read_dir("/proc/self/fd").unwrap();
        let ours: Vec<_> = ours.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()).collect();
        for info in &ends {
            assert!(!ours.contains(&node(info)), "{} is still open: {ours:?}", node(info).display());
        }
    }
}

fn what_cannot_be_written_or_read_says_io(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let dev = bench.number(&bench.disk(Bytes::mib(8)));
    let volume = || Device::Volume(VolumeId::from_uuid(Uuid::new_v4()));
    let good = bench.map(volume(), vec![linear(0, 8192, dev, 0)], false);
    let broken = vol_core::observed::TargetLine {
        start: Sectors(4096),
        len: Sectors(4096),
        target: "error".into(),
        params: String::new(),
    };
    let bad = bench.map(volume(), vec![linear(0, 4096, dev, 8192), broken], false);
    let end = |info: &DmInfo| DmEnd { dev: info.dev, uuid: info.uuid.clone() };
    bench.host.wipe_slice(bad.dev, &bad.uuid, 0, 2 * MIB).unwrap();
    bench.host.copy_slice(&end(&good), &end(&bad), 0, 2 * MIB).unwrap();
    assert_eq!(kind(bench.host.wipe_slice(bad.dev, &bad.uuid, MIB, 2 * MIB)), Some(HostErrorKind::Io));
    assert_eq!(kind(bench.host.copy_slice(&end(&good), &end(&bad), MIB, 2 * MIB)), Some(HostErrorKind::Io));
    assert_eq!(kind(bench.host.copy_slice(&end(&bad), &end(&good), MIB, 2 * MIB)), Some(HostErrorKind::Io));
    bench.host.wipe_slice(good.dev, &good.uuid, 0, 4 * MIB).unwrap();
}

fn kind<T>(result: HostResult<T>) -> Option<HostErrorKind> {
    result.err().map(|error| {
        println!("  {error}");
        error.kind
    })
}

fn another_device_is_not_touched(io: IoChoice) {
    let Some(bench) = bench(io) else { return };
    let disk = bench.disk(Bytes::mib(16));
    let (info, _) = bench.over(&disk);
    fill(&bench, &info, 16 * MIB, 0x10);
    let other = bench.over(&bench.disk(Bytes::mib(16))).0;
    let end = |info: &DmInfo| DmEnd { dev: info.dev, uuid: info.uuid.clone() };
    let lie = DmEnd { dev: info.dev, uuid: other.uuid.clone() };
    let wipe = |end: &DmEnd, offset, len| kind(bench.host.wipe_slice(end.dev, &end.uuid, offset, len));
    let copy = |from: &DmEnd, to: &DmEnd| kind(bench.host.copy_slice(from, to, 0, MIB));
    assert_eq!(wipe(&lie, 0, MIB), Some(HostErrorKind::Changed));
    assert_eq!(
        (copy(&lie, &end(&other)), copy(&end(&other), &lie)),
        (Some(HostErrorKind::Changed), Some(HostErrorKind::Changed))
    );
    let below = DmEnd { dev: bench.number(&disk), uuid: info.uuid.clone() };
    assert!(
        matches!(wipe(&below, 0, MIB), Some(HostErrorKind::Changed | HostErrorKind::NotFound)),
        "a disk is no dm device"
    );
    let own = end(&info);
    for (offset, len) in [(512, 4096), (0, 512), (0, 0), (0, SLICE_MAX + 4096)] {
        assert_eq!(wipe(&own, offset, len), Some(HostErrorKind::Invalid), "{len} at {offset}");
    }
    assert_eq!(copy(&own, &own), Some(HostErrorKind::Invalid));
    for (offset, len) in [(16 * MIB, 4096), (16 * MIB - 4096, 8192), (u64::MAX - 4095, 4096)] {
        assert_eq!(wipe(&own, offset, len), Some(HostErrorKind::Io), "{len} at {offset}");
    }
    assert!(read(&bench, &info, 0, 16 * MIB) == pattern(16 * MIB, 0x10), "nothing was written");
}
