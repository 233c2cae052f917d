//! Disks, names, signatures, loop devices.

use std::path::{Path, PathBuf};

use vol_core::observed::{DiskKind, Signature};
use vol_engine::host::{HostErrorKind, HostMut, HostRead};
use vol_sim::{Damage, IMAGE_DIR, ReadFault, SimDisk};
use vol_types::Bytes;

use crate::machine::{durable, host, kind, open};

const SDA: &str = "/dev/sda";

#[test]
fn a_link_leads_to_the_node_it_is_for() {
    let host = host();
    host.add_link("/dev/disk/by-id/x", SDA);
    let info = host.inspect(Path::new("/dev/disk/by-id/x")).expect("inspect");
    assert_eq!((info.path.to_str(), info.node.to_str()), (Some("/dev/disk/by-id/x"), Some(SDA)));
    assert_eq!(info.hardware_id, "wwid-a");
    assert_eq!(host.block_devices().expect("list"), [PathBuf::from(SDA)]);
    assert_eq!(kind(host.inspect(Path::new("/dev/sdz"))), HostErrorKind::NotFound);
}

#[test]
fn a_disk_shows_the_mounts_swap_and_holders_of_its_partitions() {
    let host = host();
    host.add_disk(SimDisk::partition("/dev/sda1", SDA, Bytes::mib(1), Bytes::mib(100)).mounted_at("/"));
    host.add_disk(SimDisk::partition("/dev/sda2", SDA, Bytes::mib(101), Bytes::mib(9)).swap().holder("md0"));
    let disk = host.inspect(Path::new(SDA)).expect("disk");
    assert_eq!((disk.mounts, disk.swap, disk.holders), (vec![PathBuf::from("/")], true, vec!["md0".to_owned()]));
    assert_eq!(disk.partitions.len(), 2);
    let part = host.inspect(Path::new("/dev/sda1")).expect("partition");
    assert_eq!(part.kind, DiskKind::Partition { of: disk.identity.dev });
    assert_eq!((part.identity.size, part.swap), (Bytes::mib(100), false));
    assert_eq!(host.mounts().expect("mounts").len(), 1);
}

#[test]
fn a_partition_and_its_disk_show_the_same_bytes() {
    let host = host();
    host.add_disk(SimDisk::partition("/dev/sda1", SDA, Bytes::mib(1), Bytes::mib(100)));
    durable(&host, &open(&host, "/dev/sda1"), 4096, &[5; 4096]).expect("write");
    assert_eq!(host.peek(SDA, Bytes::MIB + 4096, 4096), [5; 4096]);
}

#[test]
fn a_gpt_is_seen_by_its_bytes_and_gone_with_them() {
    let host = host();
    let device = open(&host, SDA);
    let mut header = vec![0; 4096];
    header[510..512].copy_from_slice(&[0x55, 0xAA]);
    header[450] = 0xEE;
    header[512..520].copy_from_slice(b"EFI PART");
    durable(&host, &device, 0, &header).expect("write");
    let kinds = || -> Vec<String> {
        let found = host.inspect(Path::new(SDA)).expect("inspect").signatures;
        found.into_iter().map(|signature| signature.kind).collect()
    };
    assert_eq!(kinds(), ["gpt"]);
    header[512..520].fill(0);
    durable(&host, &device, 0, &header).expect("write");
    assert_eq!(kinds(), ["PMBR"]);
    durable(&host, &device, 0, &[0; 4096]).expect("erase");
    assert!(kinds().is_empty());
}

#[test]
fn a_wipe_takes_exactly_the_signatures_that_were_expected() {
    let host = host();
    host.add_disk(SimDisk::new("/dev/sdb", Bytes::gib(1)).signature("filesystem", "ext4"));
    let path = Path::new("/dev/sdb");
    let before = host.inspect(path).expect("inspect");
    let wipe = |expected: &[Signature]| host.wipe_signatures(path, &before.identity, expected);
    assert_eq!(kind(wipe(&[])), HostErrorKind::Changed);
    wipe(&before.signatures).expect("wipe");
    assert!(host.inspect(path).expect("inspect").signatures.is_empty());
    assert!(host.violations().is_empty());
}

#[test]
fn a_write_beside_a_signature_or_onto_a_mounted_disk_is_a_violation() {
    let host = host();
    host.add_disk(SimDisk::new("/dev/sdb", Bytes::gib(1)).signature("filesystem", "xfs").mounted_at("/data"));
    durable(&host, &open(&host, "/dev/sdb"), 0, &[1; 4096]).expect("the kernel does not mind");
    let found = host.violations();
    assert!(found.iter().any(|text| text.contains("mounted at /data")), "{found:?}");
    assert!(found.iter().any(|text| text.contains("signature: xfs")), "{found:?}");
}

#[test]
fn a_descriptor_knows_when_another_disk_took_the_name() {
    let host = host();
    host.add_disk(SimDisk::new("/dev/sdb", Bytes::gib(1)).hardware_id("wwid-b"));
    let before = host.inspect(Path::new(SDA)).expect("inspect").identity;
    let device = open(&host, SDA);
    host.swap_disks(SDA, "/dev/sdb");
    assert_eq!(host.inspect(Path::new(SDA)).expect("inspect").hardware_id, "wwid-b");
    assert_eq!(kind(host.open_write(Path::new(SDA), &before)), HostErrorKind::Changed);
    assert_eq!(kind(device.read_at(0, 4096)), HostErrorKind::Io);
}

#[test]
fn a_disk_that_vanishes_loses_its_unflushed_writes_and_comes_back_with_another_sequence_number() {
    let host = host();
    let device = open(&host, SDA);
    device.write_at(0, &[1; 4096]).expect("write");
    device.flush().expect("flush");
    device.write_at(0, &[2; 4096]).expect("write");
    let before = device.identity().clone();
    host.remove_disk(SDA);
    assert_eq!(kind(device.write_at(0, &[3; 4096])), HostErrorKind::Io);
    assert_eq!(kind(device.flush()), HostErrorKind::Io);
    assert_eq!(kind(host.open_read(Path::new(SDA))), HostErrorKind::NotFound);
    host.reattach(SDA);
    assert_eq!(kind(device.read_at(0, 4096)), HostErrorKind::Io);
    let device = open(&host, SDA);
    assert_eq!(device.read_at(0, 4096).expect("read"), [1; 4096]);
    assert_eq!(device.identity().dev, before.dev);
    assert_ne!(device.identity().diskseq, before.diskseq);
}

#[test]
fn an_access_must_be_aligned_and_on_the_device() {
    let host = host();
    let device = open(&host, SDA);
    assert_eq!(kind(device.read_at(512, 4096)), HostErrorKind::Invalid);
    assert_eq!(kind(device.read_at(0, 512)), HostErrorKind::Invalid);
    assert_eq!(kind(device.read_at(Bytes::GIB, 4096)), HostErrorKind::Io);
    host.resize_disk(SDA, Bytes::mib(512));
    assert_eq!(kind(device.read_at(Bytes::mib(512).get(), 4096)), HostErrorKind::Io);
}

#[test]
fn a_stale_or_cloned_disk_shows_the_old_bytes() {
    let host = host();
    let device = open(&host, SDA);
    durable(&host, &device, 0, &[1; 4096]).expect("write");
    let old = host.disk_image(SDA);
    host.clone_disk(SDA, "/dev/sdc", "wwid-c");
    durable(&host, &device, 0, &[2; 4096]).expect("write");
    assert_eq!(host.peek("/dev/sdc", 0, 4096), [1; 4096]);
    host.set_disk_image(SDA, &old);
    assert_eq!(device.read_at(0, 4096).expect("read"), [1; 4096]);
    assert_eq!(host.inspect(Path::new("/dev/sdc")).expect("inspect").hardware_id, "wwid-c");
}

#[test]
fn damage_is_what_it_says() {
    let host = host();
    let device = open(&host, SDA);
    for at in 0..4 {
        durable(&host, &device, at * 4096, &[at as u8 + 1; 4096]).expect("write");
    }
    host.damage(SDA, 0, 512, Damage::Zeros);
    host.damage(SDA, 4096, 1, Damage::BitFlip);
    host.damage(SDA, 8192, 4096, Damage::CopyOf(12288));
    host.damage(SDA, 12288, 512, Damage::Unreadable);
    assert_eq!(host.peek(SDA, 511, 2), [0, 1]);
    assert_eq!((host.peek(SDA, 4096, 1)[0] ^ 2).count_ones(), 1);
    assert_eq!(device.read_at(8192, 4096).expect("read"), [4; 4096]);
    assert_eq!(kind(device.read_at(12288, 4096)), HostErrorKind::Io);
    host.damage(SDA, 0, 512, Damage::Unreadable);
    durable(&host, &device, 12288, &[9; 4096]).expect("a write remaps the sector");
    assert_eq!(kind(device.read_at(0, 4096)), HostErrorKind::Io, "and no other");
    assert_eq!(device.read_at(12288, 4096).expect("read"), [9; 4096]);
}

#[test]
fn reads_can_fail_or_lie_while_the_disk_is_whole() {
    let host = host();
    let device = open(&host, SDA);
    durable(&host, &device, 0, &[1; 4096]).expect("write");
    host.fail_reads(SDA, Some(ReadFault::Zeros));
    assert_eq!(device.read_at(0, 4096).expect("read"), [0; 4096]);
    host.fail_reads(SDA, Some(ReadFault::Error));
    assert_eq!(kind(device.read_at(0, 4096)), HostErrorKind::Io);
    assert_eq!(kind(host.inspect(Path::new(SDA))), HostErrorKind::Io);
    host.fail_reads(SDA, None);
    assert_eq!(device.read_at(0, 4096).expect("read"), [1; 4096]);
}

#[test]
fn a_file_is_a_disk_behind_a_loop_device() {
    let host = host();
    let file = PathBuf::from(format!("{IMAGE_DIR}/a.img"));
    host.create_file(&file, Bytes::mib(64)).expect("create");
    assert_eq!(kind(host.create_file(&file, Bytes::mib(64))), HostErrorKind::Exists);
    assert!(host.path_exists(Path::new(IMAGE_DIR)).expect("exists"));
    let node = host.attach_loop(&file).expect("attach");
    assert_eq!(host.attach_loop(&file).expect("again"), node);
    let info = host.inspect(&node).expect("inspect");
    assert_eq!((info.kind, info.identity.size), (DiskKind::Loop { file: file.clone() }, Bytes::mib(64)));
    durable(&host, &open(&host, "/dev/loop0"), 0, &[1; 4096]).expect("write");
    host.detach_loop(&node).expect("detach");
    assert_eq!(kind(host.detach_loop(&node)), HostErrorKind::NotFound);
    assert_eq!(host.loop_device_of(&file).expect("loop"), None);
    assert_eq!(host.peek(&file, 0, 4096), [1; 4096]);
    host.remember_backing_files(&[PathBuf::from("/srv/b.img")]).expect("remember");
    assert_eq!(host.backing_files().expect("files"), [PathBuf::from("/srv/b.img"), file.clone()]);
    host.delete_file(&file).expect("delete");
    assert_eq!(kind(host.attach_loop(&file)), HostErrorKind::NotFound);
}
