//! dm devices: made, changed, suspended, removed.

use vol_core::observed::{DmInfo, TargetLine};
use vol_engine::host::HostErrorKind::{Busy, Changed, Denied, Exists, Invalid, Io, NotFound};
use vol_engine::host::{DmCreate, DmEnd, HostMut, HostRead, SLICE_MAX};
use vol_types::{Bytes, Sectors};

use super::bench::{
    Bench, Trouble, creation, disk, info, kind, line, linear, listed, map, node, number, open_count, refused, remove,
    try_map, volume,
};

pub fn a_name_or_uuid_that_is_taken_is_exists<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let (device, other) = (volume(), volume());
    let made = map(b, device, vec![linear(0, 8, dev, 0)]);
    let again = creation(device, vec![linear(0, 8, dev, 8)]);
    assert_eq!(refused(b.host().dm_create(&again)), Exists);
    assert_eq!(refused(b.host().dm_create(&DmCreate { uuid: other.uuid(), ..again.clone() })), Exists);
    assert_eq!(refused(b.host().dm_create(&DmCreate { name: other.name(), ..again })), Exists);
    assert_eq!(info(b, &device.uuid()), made);
    assert_eq!(b.host().dm_device(&other.uuid()).unwrap(), None);
}

pub fn a_new_device_is_live_and_listed<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let table = vec![linear(0, 8, dev, 16), linear(8, 16, dev, 64)];
    let made = map(b, volume(), table.clone());
    assert!(made.live_table && !made.inactive_table && !made.suspended && !made.read_only);
    assert_eq!(open_count(b, &made.uuid), 0);
    assert_eq!(b.host().dm_table(&made.uuid).unwrap(), table);
    assert!(listed(b).contains(&made));
    let seen = b.host().inspect(&node(&made)).unwrap();
    assert_eq!(
        (seen.identity.dev, seen.identity.size, seen.dm_uuid),
        (made.dev, Bytes(24 * 512), Some(made.uuid.clone()))
    );
    assert!(!b.host().block_devices().unwrap().contains(&node(&made)));
    // More than fit into the first answer.
    let others: Vec<_> = (0..12).map(|n| map(b, volume(), vec![linear(0, 8, dev, 8 * n)])).collect();
    let uuids = || b.host().dm_uuids().unwrap();
    let known = |made: &DmInfo| uuids().iter().filter(|uuid| **uuid == made.uuid).count();
    assert!(others.iter().chain([&made]).all(|made| known(made) == 1), "{:?}", uuids());
    assert!(uuids().iter().all(|uuid| uuid.starts_with(vol_core::dm::UUID_PREFIX)), "{:?}", uuids());
    others.iter().for_each(|made| remove(b, made));
    remove(b, &made);
    assert!(!b.host().dm_devices().unwrap().iter().any(|listed| listed.uuid == made.uuid));
    assert!(others.iter().chain([&made]).all(|made| known(made) == 0), "{:?}", uuids());
    assert_eq!(refused(b.host().inspect(&node(&made))), NotFound);
}

pub fn an_absent_device_is_not_found<B: Bench>(b: &B) {
    let (host, uuid) = (b.host(), volume().uuid());
    assert_eq!(host.dm_device(&uuid).unwrap(), None);
    assert_eq!(refused(host.dm_remove(&uuid)), NotFound);
    assert_eq!(refused(host.dm_resume(&uuid)), NotFound);
    assert_eq!(refused(host.dm_table(&uuid)), NotFound);
    assert_eq!(refused(host.pool_status(&uuid)), NotFound);
    assert_eq!(refused(host.thin_status(&uuid)), NotFound);
    let dev = number(b, &disk(b, Bytes::mib(4)));
    assert_eq!(refused(host.dm_reload(&uuid, &[linear(0, 8, dev, 0)])), NotFound);
}

pub fn a_link_that_udev_is_told_of_leaves_the_device_as_it_is<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let table = vec![linear(0, 64, dev, 0)];
    let made = map(b, volume(), table.clone());
    b.write(&made, 0, 4096, 7).unwrap();
    let held = b.hold_device(&made);
    for link in ["group/first", "group/first", "other/second@now"] {
        b.host().dm_link(&made.uuid, link).unwrap();
        b.quiet();
        assert_eq!(info(b, &made.uuid), made, "{link}");
        assert_eq!((b.host().dm_table(&made.uuid).unwrap(), open_count(b, &made.uuid)), (table.clone(), 1), "{link}");
        assert_eq!(b.read(&made, 0), Ok(7), "{link}");
    }
    drop(held);
    // One that is suspended too: only who opens it would wait.
    b.suspend(&made.uuid);
    b.host().dm_link(&made.uuid, "group/third").unwrap();
    assert!(info(b, &made.uuid).suspended);
    b.host().dm_resume(&made.uuid).unwrap();
    b.quiet();
    remove(b, &made);
    assert_eq!(refused(b.host().dm_link(&made.uuid, "group/gone")), NotFound);
}

pub fn an_open_device_is_busy<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let lower = map(b, volume(), vec![linear(0, 64, dev, 0)]);
    let held = b.hold_device(&lower);
    assert_eq!(open_count(b, &lower.uuid), 1);
    assert_eq!(refused(b.host().dm_remove(&lower.uuid)), Busy);
    drop(held);
    let upper = map(b, volume(), vec![linear(0, 8, lower.dev, 0), linear(8, 8, lower.dev, 32)]);
    assert_eq!(open_count(b, &lower.uuid), 1);
    assert_eq!(refused(b.host().dm_remove(&lower.uuid)), Busy);
    remove(b, &upper);
    remove(b, &lower);
}

pub fn a_refused_table_leaves_no_device<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let attempt = |table: Vec<TargetLine>| {
        let device = volume();
        let error = try_map(b, device, table).unwrap_err();
        assert_eq!(b.host().dm_device(&device.uuid()).unwrap(), None);
        error
    };
    assert_eq!(attempt(vec![]), Invalid);
    assert_eq!(attempt(vec![linear(0, 8193, dev, 0)]), Invalid);
    assert_eq!(attempt(vec![linear(0, 8, dev, 8185)]), Invalid);
    assert_eq!(attempt(vec![linear(8, 8, dev, 0)]), Invalid);
    assert_eq!(attempt(vec![linear(0, 8, dev, 0), linear(16, 8, dev, 0)]), Invalid);
    assert_eq!(attempt(vec![linear(0, 0, dev, 0)]), Invalid);
    assert_eq!(attempt(vec![line(0, 8, "no-such-target", "")]), Invalid);
    assert_eq!(attempt(vec![line(0, 8, "linear", format!("{dev}"))]), Invalid);
    assert_eq!(attempt(vec![line(0, 8, "linear", format!("{dev} 0 0"))]), Invalid);
    assert_eq!(attempt(vec![line(0, 8, "linear", format!("{dev} x"))]), Invalid);
    assert_eq!(attempt(vec![line(0, 8, "linear", "250:4321 0")]), Io);
}

pub fn a_refused_change_leaves_the_old_table_live<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let table = vec![linear(0, 8, dev, 0)];
    let made = map(b, volume(), table.clone());
    assert_eq!(refused(b.host().dm_reload(&made.uuid, &[linear(0, 8193, dev, 0)])), Invalid);
    assert_eq!(refused(b.host().dm_reload(&made.uuid, &[])), Invalid);
    assert_eq!((info(b, &made.uuid), b.host().dm_table(&made.uuid).unwrap()), (made, table));
}

pub fn a_change_of_table_shows_no_suspend<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let made = map(b, volume(), vec![linear(0, 8, dev, 0)]);
    b.write(&made, 0, 4096, 1).unwrap();
    let held = b.hold_device(&made);
    b.host().dm_reload(&made.uuid, &[linear(0, 8, dev, 8), linear(8, 8, dev, 0)]).unwrap();
    drop(held);
    assert_eq!(info(b, &made.uuid), DmInfo { len: Sectors(16), ..made.clone() });
    assert_eq!([b.read(&made, 0), b.read(&made, 4096)], [Ok(0), Ok(1)]);
    // A device that was suspended runs afterwards.
    b.suspend(&made.uuid);
    b.host().dm_reload(&made.uuid, &[linear(0, 8, dev, 0)]).unwrap();
    assert_eq!((info(b, &made.uuid), b.read(&made, 0)), (made, Ok(1)));
}

pub fn a_suspended_device_holds_io_back_until_it_is_resumed<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let made = map(b, volume(), vec![linear(0, 64, dev, 0)]);
    b.write(&made, 0, 4096, 1).unwrap();
    b.suspend(&made.uuid);
    let now = info(b, &made.uuid);
    assert!(now.suspended && now.live_table && !now.inactive_table);
    assert_eq!(b.write(&made, 0, 4096, 2), Err(Trouble::Waits));
    assert_eq!(b.read(&made, 4096), Err(Trouble::Waits));
    // Nobody may look at it: a probe would wait.
    assert_eq!(refused(b.host().inspect(&node(&made))), Busy);
    assert_eq!(refused(b.host().open_read(&node(&made)).map(drop)), Busy);
    b.host().dm_resume(&made.uuid).unwrap();
    assert_eq!(b.settled(), [Ok(()), Ok(())]);
    assert_eq!((info(b, &made.uuid).suspended, b.read(&made, 0)), (false, Ok(2)));
    b.host().dm_resume(&made.uuid).unwrap();
}

pub fn a_suspended_device_can_be_removed<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let made = map(b, volume(), vec![linear(0, 64, dev, 0)]);
    b.suspend(&made.uuid);
    remove(b, &made);
    assert_eq!(b.host().dm_device(&made.uuid).unwrap(), None);
}

pub fn a_device_without_a_table_is_listed_as_such<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let device = volume();
    b.half_made(&creation(device, vec![linear(0, 8, dev, 0)]), false);
    let uuid = device.uuid();
    let now = info(b, &uuid);
    assert_eq!((now.live_table, now.inactive_table, now.open_count), (false, false, 0));
    assert!(listed(b).contains(&now));
    assert_eq!(b.host().dm_table(&uuid).unwrap(), []);
    assert_eq!(refused(b.host().pool_status(&uuid)), Invalid);
    assert_eq!(refused(b.host().thin_status(&uuid)), Invalid);
    assert_eq!(refused(b.host().dm_create(&creation(device, vec![linear(0, 8, dev, 0)]))), Exists);
    remove(b, &now);
}

pub fn a_device_without_a_table_can_be_resumed_and_loaded<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let device = volume();
    b.half_made(&creation(device, vec![linear(0, 8, dev, 0)]), false);
    assert_eq!(kind(b.host().dm_resume(&device.uuid())), Ok(()));
    assert!(!info(b, &device.uuid()).live_table);
    b.host().dm_reload(&device.uuid(), &[linear(0, 16, dev, 0)]).unwrap();
    let now = info(b, &device.uuid());
    assert!(now.live_table && !now.inactive_table && !now.suspended);
    b.write(&now, 4096, 4096, 1).unwrap();
}

pub fn a_loaded_table_becomes_live_with_a_resume<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let device = volume();
    let table = vec![linear(0, 8, dev, 0)];
    b.half_made(&creation(device, table.clone()), true);
    let now = info(b, &device.uuid());
    assert_eq!((now.live_table, now.inactive_table), (false, true));
    assert_eq!(b.host().dm_table(&device.uuid()).unwrap(), []);
    b.host().dm_resume(&device.uuid()).unwrap();
    let now = info(b, &device.uuid());
    assert_eq!((now.live_table, now.inactive_table, now.suspended), (true, false, false));
    assert_eq!(b.host().dm_table(&device.uuid()).unwrap(), table);
}

pub fn a_read_only_device_takes_no_writes<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let device = volume();
    b.note(&device.uuid());
    let read_only = DmCreate { read_only: true, ..creation(device, vec![linear(0, 8, dev, 0)]) };
    let made = b.host().dm_create(&read_only).unwrap();
    assert!(made.read_only && b.host().inspect(&node(&made)).unwrap().read_only);
    assert_eq!(b.write(&made, 0, 4096, 1), Err(Trouble::Failed(Denied)));
    assert_eq!(b.read(&made, 0), Ok(0));
    b.host().dm_reload(&made.uuid, &[linear(0, 16, dev, 0)]).unwrap();
    assert!(info(b, &made.uuid).read_only);
}

pub fn a_writable_table_may_stand_on_a_read_only_disk<B: Bench>(b: &B) {
    let disk = disk(b, Bytes::mib(4));
    let dev = number(b, &disk);
    b.set_read_only(&disk, true);
    let made = map(b, volume(), vec![linear(0, 8, dev, 0)]);
    assert!(!made.read_only);
    assert_eq!(b.read(&made, 0), Ok(0));
}

pub fn zeroing_keeps_to_its_range_and_to_our_devices<B: Bench>(b: &B) {
    let node = disk(b, Bytes::mib(4));
    let dev = number(b, &node);
    let made = map(b, volume(), vec![linear(0, 64, dev, 64)]);
    b.write(&made, 0, 64 * 512, 7).unwrap();
    b.host().zero_device(made.dev, 4096, 8192).unwrap();
    assert_eq!([0, 4096, 8192, 12288].map(|at| b.read(&made, at)), [Ok(7), Ok(0), Ok(0), Ok(7)]);
    assert_eq!(refused(b.host().zero_device(made.dev, 28672, 8192)), Io);
    assert_eq!(b.read(&made, 28672), Ok(7));
    // A disk's number, whether or not a dm device of ours has the minor.
    assert!(matches!(refused(b.host().zero_device(dev, 0, 4096)), Changed | NotFound));
}

pub fn two_tables_may_map_one_sector<B: Bench>(b: &B) {
    let dev = number(b, &disk(b, Bytes::mib(4)));
    let (one, two) = (map(b, volume(), vec![linear(0, 8, dev, 0)]), map(b, volume(), vec![linear(0, 8, dev, 0)]));
    b.write(&one, 0, 4096, 1).unwrap();
    assert_eq!(b.read(&two, 0), Ok(1));
}

fn read_only<B: Bench>(b: &B, table: Vec<TargetLine>) -> DmInfo {
    let device = volume();
    b.note(&device.uuid());
    b.host().dm_create(&DmCreate { read_only: true, ..creation(device, table) }).unwrap()
}

/// Ranges that are no slices.
const NO_SLICES: [(u64, u64); 4] = [(512, 4096), (0, 512), (0, 0), (0, SLICE_MAX + 4096)];

pub fn a_slice_is_wiped_and_nothing_beside_it<B: Bench>(b: &B) {
    let nodes = [disk(b, Bytes::mib(4)), disk(b, Bytes::mib(4))];
    let disks = [number(b, &nodes[0]), number(b, &nodes[1])];
    let made = map(b, volume(), vec![linear(0, 64, disks[0], 64), linear(64, 64, disks[1], 8)]);
    let wipe = |offset, len| b.host().wipe_slice(made.dev, &made.uuid, offset, len);
    b.write(&made, 0, 128 * 512, 7).unwrap();
    // Over the seam.
    wipe(28672, 8192).unwrap();
    assert_eq!([24576, 28672, 32768, 36864].map(|at| b.read(&made, at)), [Ok(7), Ok(0), Ok(0), Ok(7)]);
    nodes.iter().for_each(|node| b.drop_caches(node));
    assert_eq!([24576, 28672, 32768, 36864].map(|at| b.read(&made, at)), [Ok(7), Ok(0), Ok(0), Ok(7)]);
    for (offset, len) in NO_SLICES {
        assert_eq!(refused(wipe(offset, len)), Invalid, "{len} at {offset}");
    }
    assert_eq!([(65536, 4096), (61440, 8192)].map(|(offset, len)| refused(wipe(offset, len))), [Io, Io]);
    let other = map(b, volume(), vec![linear(0, 64, disks[0], 1024)]);
    assert_eq!(refused(b.host().wipe_slice(made.dev, &other.uuid, 0, 4096)), Changed);
    assert!(matches!(refused(b.host().wipe_slice(disks[0], &made.uuid, 0, 4096)), Changed | NotFound));
    assert_eq!([0, 61440].map(|at| b.read(&made, at)), [Ok(7), Ok(7)], "what was refused changed nothing");
    let locked = read_only(b, vec![linear(0, 64, disks[1], 1024)]);
    assert_eq!(refused(b.host().wipe_slice(locked.dev, &locked.uuid, 0, 4096)), Denied);
}

pub fn a_slice_is_copied_to_the_same_place_of_another_device<B: Bench>(b: &B) {
    let nodes = [disk(b, Bytes::mib(4)), disk(b, Bytes::mib(4))];
    let disks = [number(b, &nodes[0]), number(b, &nodes[1])];
    let from = map(b, volume(), vec![linear(0, 64, disks[0], 64), linear(64, 64, disks[1], 8)]);
    let to = map(b, volume(), vec![linear(0, 128, disks[1], 1024)]);
    let end = |info: &DmInfo| DmEnd { dev: info.dev, uuid: info.uuid.clone() };
    let copy = |offset, len| b.host().copy_slice(&end(&from), &end(&to), offset, len);
    b.write(&from, 0, 128 * 512, 7).unwrap();
    b.write(&from, 32768, 4096, 9).unwrap();
    b.write(&to, 0, 128 * 512, 3).unwrap();
    copy(28672, 8192).unwrap();
    assert_eq!([24576, 28672, 32768, 36864].map(|at| b.read(&to, at)), [Ok(3), Ok(7), Ok(9), Ok(3)]);
    nodes.iter().for_each(|node| b.drop_caches(node));
    assert_eq!([28672, 32768].map(|at| b.read(&to, at)), [Ok(7), Ok(9)]);
    assert_eq!([28672, 32768, 36864].map(|at| b.read(&from, at)), [Ok(7), Ok(9), Ok(7)], "the source is as it was");
    for (offset, len) in NO_SLICES {
        assert_eq!(refused(copy(offset, len)), Invalid, "{len} at {offset}");
    }
    assert_eq!([(65536, 4096), (61440, 8192)].map(|(offset, len)| refused(copy(offset, len))), [Io, Io]);
    assert_eq!(refused(b.host().copy_slice(&end(&from), &end(&from), 0, 4096)), Invalid);
    let lie = DmEnd { uuid: to.uuid.clone(), ..end(&from) };
    assert_eq!(
        [(&lie, &end(&to)), (&end(&to), &lie)].map(|(a, z)| refused(b.host().copy_slice(a, z, 0, 4096))),
        [Changed, Changed]
    );
    let locked = read_only(b, vec![linear(0, 128, disks[1], 2048)]);
    assert_eq!(refused(b.host().copy_slice(&end(&from), &end(&locked), 0, 4096)), Denied);
    b.host().copy_slice(&end(&locked), &end(&to), 0, 4096).unwrap();
}
