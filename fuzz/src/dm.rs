//! What the kernel says of device-mapper devices, and what is said to it.

use vol_core::dm::{Device, Table};
use vol_core::observed::{DevNumber, PoolMode, PoolStatus, PoolUsage, TargetLine, ThinStatus};
use vol_engine::host::{DmCreate, HostMut, HostRead};
use vol_linux::status::{parse_pool, parse_thin};
use vol_sim::{SimDisk, SimHost};
use vol_types::{Bytes, Extents, PoolId, PvId, Sectors, Segment, VolumeId};

/// Each line of the bytes as the status of a thin pool and of a thin volume.
///
/// Claims: no panic; a pool that is taken for working has said a mode, and a line made anew from what was read reads the same.
pub fn dm_status(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut accepted = false;
    for line in text.split('\n') {
        if let Some(status) = parse_pool(line) {
            accepted = true;
            assert_eq!(parse_pool(&pool_line(&status)), Some(status), "{line:?}");
        }
        if let Some(status) = parse_thin(line) {
            accepted = true;
            assert_eq!(parse_thin(&thin_line(&status)), Some(status), "{line:?}");
        }
    }
    accepted
}

/// As `pool_status` in `drivers/md/dm-thin.c` prints it.
fn pool_line(status: &PoolStatus) -> String {
    let PoolStatus::Working(usage) = status else { return word(*status == PoolStatus::Fail) };
    let PoolUsage { transaction_id, used_metadata, total_metadata, used_data, total_data, .. } = usage;
    let root = if usage.metadata_snapshot { "42" } else { "-" };
    let mode = match usage.mode {
        PoolMode::ReadWrite => "rw",
        PoolMode::ReadOnly => "ro",
        PoolMode::OutOfDataSpace => "out_of_data_space",
    };
    let when_full = if usage.error_when_full { "error_if_no_space" } else { "queue_if_no_space" };
    let check = if usage.needs_check { "needs_check" } else { "-" };
    format!(
        "{transaction_id} {used_metadata}/{total_metadata} {used_data}/{total_data} {root} {mode} discard_passdown \
         {when_full} {check} 1024 "
    )
}

fn thin_line(status: &ThinStatus) -> String {
    match status {
        ThinStatus::Working { mapped } => format!("{mapped} -"),
        other => word(*other == ThinStatus::Fail),
    }
}

fn word(fail: bool) -> String {
    if fail { "Fail" } else { "Error" }.to_owned()
}

/// The bytes as text, one line of a table each (`start length target parameters`), loaded into the simulated kernel; as dm uuids;
/// and as segments, of which the product makes tables.
///
/// Claims: no panic; a table that the simulated kernel takes reads back as it was written and its lines follow each other without a
/// gap; a dm uuid that is ours prints as it was read; a table made of segments is as long as they are.
pub fn dm_table(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    for word in text.split_ascii_whitespace() {
        if let Some(device) = Device::from_uuid(word) {
            assert_eq!(Device::from_uuid(&device.uuid()), Some(device), "{word}");
            assert!(device.name().len() <= 127 && device.uuid().len() <= 128, "{word}");
        }
    }
    segments(data);
    let lines: Option<Vec<_>> = text.lines().map(line).collect();
    let Some(lines) = lines.filter(|lines| lines.len() <= 64) else { return false };
    load(lines)
}

fn line(text: &str) -> Option<TargetLine> {
    let mut words = text.splitn(4, ' ');
    let (start, len) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (target, params) = (words.next()?.to_owned(), words.next().unwrap_or("").to_owned());
    Some(TargetLine { start: Sectors(start), len: Sectors(len), target, params })
}

fn load(table: Vec<TargetLine>) -> bool {
    let host = SimHost::new(1);
    host.keep_trace(false);
    host.add_disk(SimDisk::new("/dev/sda", Bytes::gib(1)));
    host.add_disk(SimDisk::new("/dev/sdb", Bytes::gib(1)).sector_size(4096));
    let device = Device::Volume(VolumeId::from_bytes([7; 16]));
    let create = DmCreate {
        name: device.name(),
        uuid: device.uuid(),
        table: table.clone(),
        read_only: false,
        private: false,
        link: None,
    };
    let made = host.dm_create(&create);
    let there = host.dm_device(&device.uuid()).expect("a read that cannot fail").is_some();
    assert_eq!(made.is_ok(), there, "made, and not there, or the other way round");
    if !there {
        return false;
    }
    assert_eq!(host.dm_table(&device.uuid()).as_ref(), Ok(&table), "a table reads as it was loaded");
    let ends = table.iter().map(|line| line.start.get() + line.len.get());
    assert!(table.iter().skip(1).map(|line| line.start.get()).eq(ends.take(table.len() - 1)), "a gap was taken");
    true
}

/// 24 bytes each: PV, start, count.
fn segments(data: &[u8]) {
    let (head, rest) = data.split_first_chunk().map_or((0, data), |(head, rest)| (u64::from_le_bytes(*head), rest));
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |found| u64::from_le_bytes(*found));
    let list: Vec<Segment> = rest
        .chunks_exact(17)
        .map(|chunk| Segment {
            pv: PvId::from_bytes([chunk[0]; 16]),
            start: Extents(number(&chunk[1..])),
            count: Extents(number(&chunk[9..])),
        })
        .collect();
    let offset = |pv: PvId| (pv.as_bytes()[0] != 0xff).then_some(Bytes(head));
    let Some(table) = Table::linear(&list, Bytes::mib(4), offset) else { return };
    let lines = table.resolve(|_| Some(DevNumber { major: 8, minor: 0 })).expect("every device has a number");
    assert_eq!(lines.len(), list.len());
    let len = lines.iter().fold(0u64, |sum, line| sum.saturating_add(line.len.get()));
    assert_eq!(table.len(), Sectors(len), "a table is as long as its lines");
    let pool = Device::Pool(PoolId::from_bytes([1; 16]));
    let thin = Table::Thin { pool, thin_id: 1, len: Sectors(head) };
    assert_eq!(thin.resolve(|_| None), Err(vol_core::dm::Below::Dm(pool)), "a device without a number is named");
}
