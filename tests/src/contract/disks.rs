//! Disks, loop devices, signatures. Rows F5, F24 and F33 of the failure catalogue: clones, changed sizes, reused numbers.

use std::path::Path;

use vol_core::observed::{DiskInfo, DiskKind};
use vol_engine::host::HostErrorKind::{Busy, Changed, Denied, Exists, Invalid, Io, NotFound};
use vol_engine::host::{DurableWrite, HostMut, HostRead};
use vol_types::Bytes;

use super::bench::{Bench, disk, file_disk, kind, linear, map, number, open, refused, remove, volume};

fn look<B: Bench>(b: &B, node: &Path) -> DiskInfo {
    b.host().inspect(node).unwrap()
}

pub fn a_blank_disk_is_described<B: Bench>(b: &B) {
    let (file, node) = file_disk(b, Bytes::mib(4));
    let info = look(b, &node);
    assert_eq!((&info.path, &info.node, info.identity.size), (&node, &node, Bytes::mib(4)));
    assert_eq!((info.kind, info.sector_size, info.read_only, info.swap), (DiskKind::Loop { file }, 512, false, false));
    assert!(info.signatures.is_empty() && info.mounts.is_empty() && info.holders.is_empty());
    assert!(info.partitions.is_empty() && info.dm_uuid.is_none() && info.identity.diskseq.is_some());
    assert!(b.host().block_devices().unwrap().contains(&node));
    assert_eq!(*open(b, &node).identity(), info.identity);
}

pub fn what_is_no_device_is_told_apart<B: Bench>(b: &B) {
    let file = b.dir().join(b.fresh("file"));
    b.host().create_file(&file, Bytes::mib(1)).unwrap();
    assert_eq!(refused(b.host().inspect(&file)), Invalid);
    assert_eq!(refused(b.host().open_read(&file).map(drop)), Invalid);
    let nowhere = b.dir().join("nowhere");
    assert_eq!(refused(b.host().inspect(&nowhere)), NotFound);
    assert_eq!(refused(b.host().open_read(&nowhere).map(drop)), NotFound);
}

/// F33.
pub fn a_disk_that_took_anothers_number_is_changed<B: Bench>(b: &B) {
    let (_, node) = file_disk(b, Bytes::mib(4));
    let before = look(b, &node).identity;
    let held = open(b, &node);
    b.host().detach_loop(&node).unwrap_or_else(|error| println!("  {error}"));
    drop(held);
    while b.host().inspect(&node).is_ok_and(|info| info.identity.size == before.size) {
        b.host().pause(std::time::Duration::from_millis(10));
    }
    let (_, again) = file_disk(b, Bytes::mib(4));
    assert_eq!(again, node, "the lowest free number is given out again");
    let after = look(b, &node).identity;
    assert_eq!((after.dev, after.size), (before.dev, before.size));
    assert_ne!(after.diskseq, before.diskseq);
    assert_eq!(refused(b.host().open_write(&node, &before).map(drop)), Changed);
    assert_eq!(refused(b.host().wipe_signatures(&node, &before, &[])), Changed);
    assert!(b.host().open_write(&node, &after).is_ok());
}

pub fn a_durable_write_is_there_and_answers_for_itself<B: Bench>(b: &B) {
    let nodes = [disk(b, Bytes::mib(4)), disk(b, Bytes::mib(4))];
    let open = nodes.each_ref().map(|node| open(b, node));
    let (one, two) = (vec![1u8; 8192], vec![2u8; 4096]);
    let end = Bytes::mib(4).get();
    let write = |disk: usize, offset, data| DurableWrite { device: &open[disk], offset, data };
    let writes = [write(0, 4096, &one), write(1, end, &two), write(1, 0, &two), write(0, 1, &two), write(0, 0, &[])];
    let answers: Vec<_> = b.host().write_durable(&writes).into_iter().map(kind).collect();
    assert_eq!(answers, [Ok(()), Err(Io), Ok(()), Err(Invalid), Ok(())]);
    for node in &nodes {
        b.drop_caches(node);
    }
    let read = |disk: usize, offset, len| b.host().open_read(&nodes[disk]).unwrap().read_at(offset, len).unwrap();
    assert_eq!((read(0, 4096, 8192), read(1, 0, 4096)), (one, two));
    assert_eq!(read(0, 0, 4096), [0; 4096]);
}

pub fn reads_and_writes_keep_to_the_device<B: Bench>(b: &B) {
    let node = disk(b, Bytes::mib(4));
    let device = open(b, &node);
    let end = Bytes::mib(4).get();
    assert_eq!(kind(device.read_at(end - 4096, 4096)), Ok(vec![0; 4096]));
    assert_eq!(refused(device.read_at(end - 4096, 8192)), Io);
    assert_eq!(refused(device.read_at(end, 4096)), Io);
    assert_eq!(refused(device.read_at(512, 4096)), Invalid);
    assert_eq!(refused(device.read_at(0, 512)), Invalid);
    assert_eq!(refused(device.write_at(end - 4096, &[1; 8192])), Io);
    assert_eq!(refused(device.write_at(100, &[1; 4096])), Invalid);
    assert_eq!(kind(device.write_at(end - 4096, &[1; 4096])), Ok(()));
    assert_eq!(kind(device.flush()), Ok(()));
    assert_eq!(kind(device.read_at(end - 4096, 4096)), Ok(vec![1; 4096]));
}

pub fn a_read_only_disk_cannot_be_opened_for_writing<B: Bench>(b: &B) {
    let node = disk(b, Bytes::mib(4));
    b.set_read_only(&node, true);
    let info = look(b, &node);
    assert!(info.read_only);
    assert_eq!(refused(b.host().open_write(&node, &info.identity).map(drop)), Denied);
    assert_eq!(refused(b.host().wipe_signatures(&node, &info.identity, &[])), Denied);
    assert!(b.host().open_read(&node).unwrap().read_at(0, 4096).is_ok());
    b.set_read_only(&node, false);
    assert!(!look(b, &node).read_only);
    assert!(b.host().open_write(&node, &info.identity).is_ok());
}

/// F24.
pub fn a_disk_that_changed_its_size_is_seen<B: Bench>(b: &B) {
    let node = disk(b, Bytes::mib(4));
    let before = look(b, &node).identity;
    let device = open(b, &node);
    device.write_at(0, &[1; 4096]).unwrap();
    device.flush().unwrap();
    b.resize(&node, Bytes::mib(2));
    let after = look(b, &node).identity;
    assert_eq!((after.size, after.dev, after.diskseq), (Bytes::mib(2), before.dev, before.diskseq));
    assert_eq!(refused(b.host().open_write(&node, &before).map(drop)), Changed);
    // The open descriptor goes on within what is left.
    assert_eq!(kind(device.read_at(0, 4096)), Ok(vec![1; 4096]));
    assert_eq!(refused(device.read_at(3 << 20, 4096)), Io);
    assert!(device.write_at(3 << 20, &[1; 4096]).is_err());
    b.resize(&node, Bytes::mib(8));
    assert_eq!(look(b, &node).identity.size, Bytes::mib(8));
    assert_eq!(kind(b.host().open_read(&node).unwrap().read_at(7 << 20, 4096)), Ok(vec![0; 4096]));
}

/// F5.
pub fn a_clone_has_the_same_bytes_and_another_identity<B: Bench>(b: &B) {
    let node = disk(b, Bytes::mib(4));
    let device = open(b, &node);
    device.write_at(4096, &[9; 4096]).unwrap();
    device.flush().unwrap();
    let clone = b.clone_disk(&node);
    let (one, two) = (look(b, &node).identity, look(b, &clone).identity);
    assert_eq!(one.size, two.size);
    assert_ne!((one.dev, one.diskseq), (two.dev, two.diskseq));
    assert_ne!(one.dev, two.dev);
    assert_ne!(one.diskseq, two.diskseq);
    let twin = open(b, &clone);
    assert_eq!(kind(twin.read_at(4096, 4096)), Ok(vec![9; 4096]));
    twin.write_at(4096, &[8; 4096]).unwrap();
    twin.flush().unwrap();
    assert_eq!(kind(device.read_at(4096, 4096)), Ok(vec![9; 4096]));
}

pub fn wiping_erases_exactly_what_was_expected<B: Bench>(b: &B) {
    let node = disk(b, Bytes::mib(16));
    b.make_ext4(&node);
    let info = look(b, &node);
    let kinds: Vec<_> = info.signatures.iter().map(|found| (found.usage.as_str(), found.kind.as_str())).collect();
    assert_eq!(kinds, [("filesystem", "ext4")]);
    let wipe = |expected: &[_]| kind(b.host().wipe_signatures(&node, &info.identity, expected));
    let mut other = info.signatures.clone();
    other[0].uuid = Some("00000000-0000-4000-8000-000000000000".to_owned());
    assert_eq!(wipe(&[]), Err(Changed));
    assert_eq!(wipe(&other), Err(Changed));
    other.extend(info.signatures.clone());
    assert_eq!(wipe(&other), Err(Changed));
    assert_eq!(look(b, &node).signatures, info.signatures);
    assert_eq!(wipe(&info.signatures), Ok(()));
    assert_eq!(look(b, &node).signatures, []);
    assert_eq!(wipe(&info.signatures), Err(Changed));
    assert_eq!(wipe(&[]), Ok(()));
}

pub fn a_disk_in_use_cannot_be_wiped_or_detached<B: Bench>(b: &B) {
    let (_, node) = file_disk(b, Bytes::mib(16));
    let made = map(b, volume(), vec![linear(0, 64, number(b, &node), 0)]);
    let info = look(b, &node);
    assert_eq!(info.holders, [format!("dm-{} ({})", made.dev.minor, made.name)]);
    assert_eq!(refused(b.host().wipe_signatures(&node, &info.identity, &[])), Busy);
    // It may be opened for writing all the same: the product's own labels are beside what is mapped.
    assert!(b.host().open_write(&node, &info.identity).is_ok());
    remove(b, &made);
    assert!(look(b, &node).holders.is_empty());
    assert_eq!(kind(b.host().wipe_signatures(&node, &info.identity, &[])), Ok(()));
}

pub fn a_file_has_one_loop_device<B: Bench>(b: &B) {
    let (file, node) = file_disk(b, Bytes::mib(4));
    assert_eq!(b.host().attach_loop(&file).unwrap(), node);
    assert_eq!(b.host().loop_device_of(&file).unwrap(), Some(node.clone()));
    b.host().detach_loop(&node).unwrap();
    assert_eq!(b.host().loop_device_of(&file).unwrap(), None);
    assert_eq!(refused(b.host().detach_loop(&node)), NotFound);
    let nowhere = b.dir().join("nowhere");
    assert_eq!(refused(b.host().attach_loop(&nowhere)), NotFound);
    assert_eq!(refused(b.host().loop_device_of(&nowhere)), NotFound);
}

pub fn a_loop_device_in_use_goes_when_its_last_user_goes<B: Bench>(b: &B) {
    let (file, node) = file_disk(b, Bytes::mib(4));
    let made = map(b, volume(), vec![linear(0, 64, number(b, &node), 0)]);
    assert_eq!(refused(b.host().detach_loop(&node)), Busy);
    b.write(&made, 0, 4096, 1).unwrap();
    remove(b, &made);
    let mut left = 6000;
    while b.host().loop_device_of(&file).unwrap().is_some() {
        assert!(left > 0, "it is still there");
        left -= 1;
        b.host().pause(std::time::Duration::from_millis(10));
    }
}

pub fn image_files_are_made_once<B: Bench>(b: &B) {
    let file = b.dir().join(b.fresh("below")).join("image");
    assert!(!b.host().path_exists(&file).unwrap());
    b.host().create_file(&file, Bytes::mib(1)).unwrap();
    assert!(b.host().path_exists(&file).unwrap());
    assert_eq!(refused(b.host().create_file(&file, Bytes::mib(1))), Exists);
    assert_eq!(refused(b.host().create_file(&file.join("x"), Bytes::mib(1))), Invalid);
    b.host().delete_file(&file).unwrap();
    assert!(!b.host().path_exists(&file).unwrap());
    assert_eq!(refused(b.host().delete_file(&file)), NotFound);
}

pub fn an_attached_file_that_is_deleted_lives_on<B: Bench>(b: &B) {
    let (file, node) = file_disk(b, Bytes::mib(4));
    let device = open(b, &node);
    b.host().delete_file(&file).unwrap();
    device.write_at(0, &[1; 4096]).unwrap();
    assert_eq!(kind(device.read_at(0, 4096)), Ok(vec![1; 4096]));
    assert!(b.host().block_devices().unwrap().contains(&node));
}
