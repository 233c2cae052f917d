//! What disks are, what is on them, and writing to them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use vol_core::dm::Device;
use vol_core::observed::DiskKind;
use vol_engine::host::{DurableWrite, HostErrorKind, HostMut, HostRead};
use vol_types::{Bytes, VolumeId};

use crate::support::{Bench, linear, sectors, tool};

#[test]
fn a_file_has_one_loop_device_however_often_it_is_attached() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    let file = bench.dir().join("disk0.img");
    let link = bench.dir().join("link.img");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert_eq!(bench.host.attach_loop(&file).unwrap(), node);
    assert_eq!(bench.host.attach_loop(&link).unwrap(), node);
    assert_eq!(bench.host.loop_device_of(&file).unwrap(), Some(node.clone()));
    bench.host.detach_loop(&node).unwrap();
    assert_eq!(bench.host.loop_device_of(&file).unwrap(), None);
    assert_eq!(bench.host.detach_loop(&node).unwrap_err().kind, HostErrorKind::NotFound);
    assert_eq!(bench.host.attach_loop(Path::new("/nowhere.img")).unwrap_err().kind, HostErrorKind::NotFound);
}

#[test]
fn a_loop_device_is_described() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    let link = bench.dir().join("by-link");
    std::os::unix::fs::symlink(&node, &link).unwrap();
    let info = bench.host.inspect(&link).unwrap();
    assert_eq!((info.path, info.node), (link, node.clone()));
    assert_eq!(info.identity.size, Bytes::mib(64));
    assert_eq!(info.kind, DiskKind::Loop { file: bench.dir().join("disk0.img") });
    assert_eq!(info.sector_size, 512);
    assert!(!info.read_only && !info.swap && info.dm_uuid.is_none());
    assert!(info.signatures.is_empty() && info.mounts.is_empty() && info.holders.is_empty());
    assert!(bench.host.block_devices().unwrap().contains(&node));
    println!("diskseq {:?}, I/O by {:?}", info.identity.diskseq, bench.host.io_backend());
}

#[test]
fn a_device_that_took_the_place_of_another_is_not_written_to() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    let identity = bench.host.inspect(&node).unwrap().identity;
    if identity.diskseq.is_none() {
        return println!("skipped: the kernel has no diskseq");
    }
    bench.host.open_write(&node, &identity).unwrap();
    // The same size under the same number, but attached anew.
    bench.host.detach_loop(&node).unwrap();
    // The number is free again only when udev, which looks into what changed, has closed the device.
    let file = bench.dir().join("disk0.img");
    crate::support::wait_for("the number to be given again", || {
        let given = bench.host.attach_loop(&file).unwrap();
        given == node || {
            bench.host.detach_loop(&given).unwrap();
            false
        }
    });
    assert_eq!(bench.host.open_write(&node, &identity).err().unwrap().kind, HostErrorKind::Changed);
    assert_eq!(bench.host.wipe_signatures(&node, &identity, &[]).unwrap_err().kind, HostErrorKind::Changed);
}

/// The first partition of this disk, unmounted and gone at the end.
struct Partition(String);

impl Drop for Partition {
    fn drop(&mut self) {
        let run = |program: &str, arguments: &[&str]| std::process::Command::new(program).args(arguments).output();
        let _ = run("umount", &["-q", &format!("{}p1", self.0)]);
        let _ = run("delpart", &[&self.0, "1"]);
    }
}

#[test]
fn a_partition_is_described_and_what_uses_it_uses_its_disk() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    let disk = node.to_str().unwrap().to_owned();
    if !tool("addpart", &[&disk, "1", "2048", "65536"]) {
        return;
    }
    // Detaching a loop device leaves partitions that were added by hand.
    let _partition = Partition(disk.clone());
    let part = format!("{disk}p1");
    crate::support::wait_for("the partition's node", || Path::new(&part).exists());
    if !tool("mkfs.ext4", &["-q", &part]) {
        return;
    }
    let target = bench.dir().join("mounted");
    std::fs::create_dir(&target).unwrap();
    let info = bench.host.inspect(Path::new(&part)).unwrap();
    let whole = bench.host.inspect(&node).unwrap();
    assert_eq!(info.kind, DiskKind::Partition { of: whole.identity.dev });
    assert_eq!((info.identity.size, info.sector_size), (Bytes::mib(32), 512));
    assert_eq!(info.signatures[0].kind, "ext4");
    assert_eq!(whole.partitions, [info.identity.dev]);
    assert!(whole.signatures.is_empty() && whole.mounts.is_empty());
    let identity = whole.identity;
    if tool("mount", &[&part, target.to_str().unwrap()]) {
        assert_eq!(bench.host.inspect(&node).unwrap().mounts, std::slice::from_ref(&target));
        assert_eq!(bench.host.inspect(Path::new(&part)).unwrap().mounts, std::slice::from_ref(&target));
        let error = bench.host.wipe_signatures(&node, &identity, &[]).unwrap_err();
        assert_eq!(error.kind, HostErrorKind::Busy);
    }
}

/// Wipes what is there and requires that nothing is left; gives the kinds that were there.
fn wiped(bench: &Bench, node: &Path) -> Vec<String> {
    let info = bench.host.inspect(node).unwrap();
    bench.host.wipe_signatures(node, &info.identity, &info.signatures).unwrap();
    assert!(bench.host.inspect(node).unwrap().signatures.is_empty());
    let left = Vec::new();
    bench.host.wipe_signatures(node, &info.identity, &left).unwrap();
    info.signatures.into_iter().map(|signature| format!("{}/{}", signature.usage, signature.kind)).collect()
}

#[test]
fn a_partition_table_is_found_and_erased_with_its_backup() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    let make = || {
        let mut device = OpenOptions::new().read(true).write(true).open(&node).unwrap();
        let sectors = u32::try_from(Bytes::mib(64).get() / 512 - 1).unwrap();
        gpt::mbr::ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(&mut device).unwrap();
        let disk = gpt::GptConfig::new().writable(true);
        let mut disk = disk.create_from_device(device, None).unwrap();
        disk.add_partition("mine", 32 << 20, gpt::partition_types::LINUX_FS, 0, None).unwrap();
        disk.write().unwrap().sync_all().unwrap();
    };
    make();
    assert_eq!(wiped(&bench, &node), ["partition table/gpt"]);
    let device = File::open(&node).unwrap();
    let mut sector = [0; 512];
    for offset in [512, Bytes::mib(64).get() - 512] {
        device.read_exact_at(&mut sector, offset).unwrap();
        assert_ne!(&sector[..8], b"EFI PART", "at {offset}");
    }
    device.read_exact_at(&mut sector, 0).unwrap();
    assert_ne!(&sector[510..], [0x55, 0xaa]);
    drop(device);
    // Also one whose protective MBR is gone: other tools would still find it.
    make();
    OpenOptions::new().write(true).open(&node).unwrap().write_all_at(&[0; 512], 0).unwrap();
    assert_eq!(wiped(&bench, &node), ["partition table/gpt"]);
}

#[test]
fn a_file_system_is_found_and_erased_only_if_it_is_the_one_agreed_to() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    let path = node.to_str().unwrap();
    if !tool("mkfs.ext4", &["-q", "-L", "old data", path]) {
        return;
    }
    let before = bench.host.inspect(&node).unwrap();
    assert_eq!(before.signatures[0].label.as_deref(), Some("old data"));
    assert!(tool("mkfs.ext4", &["-q", "-F", path]));
    let error = bench.host.wipe_signatures(&node, &before.identity, &before.signatures).unwrap_err();
    assert_eq!(error.kind, HostErrorKind::Changed);
    let after = bench.host.inspect(&node).unwrap();
    assert_eq!(after.signatures.len(), 1);
    assert_ne!(after.signatures, before.signatures);
    assert_eq!(wiped(&bench, &node), ["filesystem/ext4"]);
}

/// An md superblock of version 1.2 (`struct mdp_superblock_1`): 4 KiB from the start, with its checksum.
fn write_md_superblock(node: &Path) {
    let mut block = [0u8; 256];
    block[..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    block[4] = 1;
    block[16..32].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    block[32..36].copy_from_slice(b"host");
    block[144] = 8;
    let sum: u64 = block.as_chunks::<4>().0.iter().map(|word| u64::from(u32::from_le_bytes(*word))).sum();
    let checksum = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    block[216..220].copy_from_slice(&checksum.to_le_bytes());
    OpenOptions::new().write(true).open(node).unwrap().write_all_at(&block, 4096).unwrap();
}

#[test]
fn a_raid_member_is_found_and_erased() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    write_md_superblock(&node);
    assert_eq!(wiped(&bench, &node), ["raid/linux_raid_member"]);
}

#[test]
fn a_physical_volume_of_lvm_is_found_and_erased() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    if tool("pvcreate", &["-q", "--devices", node.to_str().unwrap(), node.to_str().unwrap()]) {
        assert_eq!(wiped(&bench, &node), ["raid/LVM2_member"]);
    }
}

#[test]
fn several_signatures_on_one_disk_are_all_found_and_erased() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    if !tool("mkfs.ext4", &["-q", node.to_str().unwrap()]) {
        return;
    }
    write_md_superblock(&node);
    let mut kinds = wiped(&bench, &node);
    kinds.sort();
    assert_eq!(kinds, ["filesystem/ext4", "raid/linux_raid_member"]);
}

#[test]
fn a_device_in_use_is_described_as_such_and_cannot_be_wiped() {
    let Some(bench) = Bench::with_dm() else { return };
    let node = bench.disk(Bytes::mib(64));
    let dev = bench.number(&node);
    let device = Device::Volume(VolumeId::from_uuid(uuid::Uuid::new_v4()));
    let map = bench.map(device, vec![linear(0, sectors(Bytes::mib(32)), dev, 0)], false);
    let info = bench.host.inspect(&node).unwrap();
    assert_eq!(info.holders, [format!("dm-{} ({})", map.dev.minor, device.name())]);
    let error = bench.host.wipe_signatures(&node, &info.identity, &[]).unwrap_err();
    assert_eq!(error.kind, HostErrorKind::Busy);
    let own = std::path::PathBuf::from(format!("/dev/dm-{}", map.dev.minor));
    assert!(!bench.host.block_devices().unwrap().contains(&own));
    assert_eq!(bench.host.inspect(&own).unwrap().dm_uuid, Some(device.uuid()));
    assert!(bench.host.holders(dev).iter().any(|holder| holder.contains("on top of it")));
}

#[test]
fn an_open_file_descriptor_is_named_as_a_holder() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    let dev = bench.number(&node);
    let holder = File::open(&node).unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").stdin(holder).spawn().unwrap();
    // Until it has become `sleep`.
    crate::support::wait_for("the child runs", || {
        bench.host.holders(dev).iter().any(|holder| holder == &format!("process {} (sleep)", child.id()))
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn writes_through_an_arc_are_the_same_device() {
    let Some(bench) = Bench::new() else { return };
    let node = bench.disk(Bytes::mib(64));
    let device = bench.host.open_write(&node, &bench.host.inspect(&node).unwrap().identity).unwrap();
    let again = Arc::clone(&device);
    let answers = bench.host.write_durable(&[DurableWrite { device: &again, offset: 0, data: &[9; 4096] }]);
    assert_eq!(answers, [Ok(())]);
    assert_eq!(bench.host.open_read(&node).unwrap().read_at(0, 4096).unwrap(), vec![9; 4096]);
}
