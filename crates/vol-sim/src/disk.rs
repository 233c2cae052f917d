//! Disks, partitions and loop devices: a medium (what holds bytes) and a node (where it is attached).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use vol_core::observed::{DevNumber, Signature};
use vol_types::Bytes;

use crate::fault::ReadFault;
use crate::image::Image;
use crate::moving::SimWipe;

pub(crate) type MediumId = u64;

/// A disk or partition to be set up with [`crate::SimHost::add_disk`].
#[derive(Clone, Debug)]
pub struct SimDisk {
    /// The node, for example `/dev/sda`.
    pub path: PathBuf,
    pub size: Bytes,
    /// Of the logical sectors: 512 or 4096.
    pub sector_size: u32,
    pub hardware_id: String,
    pub read_only: bool,
    /// Set for a partition: the disk's node and where on it the partition begins.
    pub partition_of: Option<(PathBuf, Bytes)>,
    pub signatures: Vec<Signature>,
    /// Mounted there by somebody else, again after each boot.
    pub mounts: Vec<PathBuf>,
    pub swap: bool,
    /// Kernel names of devices of others on top.
    pub holders: Vec<String>,
    /// Other names, for example `/dev/disk/by-id/x`.
    pub links: Vec<PathBuf>,
    /// Set for a device-mapper device of others.
    pub dm_uuid: Option<String>,
}

impl SimDisk {
    /// A disk without anything on it, with 512-byte sectors.
    pub fn new(path: impl Into<PathBuf>, size: Bytes) -> Self {
        Self {
            path: path.into(),
            size,
            sector_size: 512,
            hardware_id: String::new(),
            read_only: false,
            partition_of: None,
            signatures: Vec::new(),
            mounts: Vec::new(),
            swap: false,
            holders: Vec::new(),
            links: Vec::new(),
            dm_uuid: None,
        }
    }
    /// A partition of a disk that is there already; `start` in bytes.
    pub fn partition(path: impl Into<PathBuf>, of: impl Into<PathBuf>, start: Bytes, size: Bytes) -> Self {
        Self { partition_of: Some((of.into(), start)), ..Self::new(path, size) }
    }
    pub fn sector_size(self, sector_size: u32) -> Self {
        Self { sector_size, ..self }
    }
    pub fn hardware_id(self, id: impl Into<String>) -> Self {
        Self { hardware_id: id.into(), ..self }
    }
    pub fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }
    /// For example `filesystem`, `ext4`.
    pub fn signature(mut self, usage: &str, kind: &str) -> Self {
        self.signatures.push(Signature { usage: usage.to_owned(), kind: kind.to_owned(), label: None, uuid: None });
        self
    }
    pub fn mounted_at(mut self, target: impl Into<PathBuf>) -> Self {
        self.mounts.push(target.into());
        self
    }
    pub fn swap(self) -> Self {
        Self { swap: true, ..self }
    }
    pub fn holder(mut self, name: impl Into<String>) -> Self {
        self.holders.push(name.into());
        self
    }
    pub fn link(mut self, path: impl Into<PathBuf>) -> Self {
        self.links.push(path.into());
        self
    }
}

/// What holds bytes, whether it is attached or not.
#[derive(Clone, Debug)]
pub(crate) struct Medium {
    pub image: Image,
    pub size: u64,
    pub sector_size: u32,
    pub hardware_id: String,
    pub read_only: bool,
    /// Signatures of others, by the offset of the device (0, or where a partition begins) that they are on.
    pub signatures: BTreeMap<u64, Vec<Signature>>,
    /// Ranges (start, end) in bytes that cannot be read.
    pub bad: Vec<(u64, u64)>,
    pub read_fault: Option<ReadFault>,
    pub wipe: SimWipe,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Whole,
    Partition { of: PathBuf },
    Loop { file: PathBuf },
}

/// A medium, or a part of it, as a block device.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub medium: MediumId,
    /// In bytes on the medium.
    pub start: u64,
    /// Of a partition; a whole medium's size is the medium's.
    pub size: Option<u64>,
    pub dev: DevNumber,
    pub diskseq: u64,
    pub kind: NodeKind,
    pub swap: bool,
    pub holders: Vec<String>,
    pub boot_mounts: Vec<PathBuf>,
    pub dm_uuid: Option<String>,
    /// A loop device that goes when its last user goes (`drivers/block/loop.c`, `loop_clr_fd`).
    pub going: bool,
}

/// A copy of a disk's durable content, for [`crate::SimHost::set_disk_image`].
#[derive(Clone, Debug)]
pub struct DiskImage {
    pub(crate) medium: Medium,
}

/// Damage done to a disk behind everybody's back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    Zeros,
    /// Random bytes from the seed.
    Junk,
    /// One bit of the range, chosen by the seed, is flipped.
    BitFlip,
    /// What stands at this offset.
    CopyOf(u64),
    /// Reading it fails until it is written again.
    Unreadable,
}

impl Medium {
    pub fn new(size: u64, sector_size: u32, hardware_id: &str) -> Self {
        Self {
            image: Image::default(),
            size,
            sector_size,
            hardware_id: hardware_id.to_owned(),
            read_only: false,
            signatures: BTreeMap::new(),
            bad: Vec::new(),
            read_fault: None,
            wipe: SimWipe::default(),
        }
    }

    /// What a probe of the device at `start` finds: the signatures given at set-up, and what the bytes say.
    pub fn signatures(&self, start: u64) -> Vec<Signature> {
        let mut found = self.signatures.get(&start).cloned().unwrap_or_default();
        found.extend(self.derived(start));
        found
    }

    /// A GPT by its primary header, else an MBR by its mark (protective: `PMBR`, as libblkid says when the GPT is gone).
    fn derived(&self, start: u64) -> Option<Signature> {
        let table = |kind: &str, uuid| Signature {
            usage: "partition table".to_owned(),
            kind: kind.to_owned(),
            label: None,
            uuid,
        };
        let header = self.image.read(start + u64::from(self.sector_size), 92);
        if header.starts_with(b"EFI PART") {
            let guid = <[u8; 16]>::try_from(&header[56..72]).ok().map(|bytes| Uuid::from_bytes_le(bytes).to_string());
            return Some(table("gpt", guid));
        }
        let mbr = self.image.read(start, 512);
        if mbr[510..] != [0x55, 0xAA] {
            return None;
        }
        Some(table(if mbr[450] == 0xEE { "PMBR" } else { "dos" }, None))
    }

    /// Erases what [`Medium::derived`] looks at, both headers of a GPT included.
    pub fn erase_partition_table(&mut self, start: u64, len: u64) {
        let sector = u64::from(self.sector_size);
        let zeros = vec![0; self.sector_size as usize];
        for at in [0, sector, len.saturating_sub(sector)] {
            self.image.write_through(start + at, &zeros);
        }
    }

    pub fn is_bad(&self, start: u64, end: u64) -> bool {
        self.bad.iter().any(|bad| bad.0 < end && start < bad.1)
    }

    /// A write makes unreadable sectors good again, as a disk that remaps them does.
    pub fn heal(&mut self, start: u64, end: u64) {
        if self.bad.is_empty() {
            return;
        }
        self.bad = std::mem::take(&mut self.bad)
            .into_iter()
            .flat_map(|bad| [(bad.0, bad.1.min(start)), (bad.0.max(end), bad.1)])
            .filter(|bad| bad.0 < bad.1)
            .collect();
    }
}

/// `/dev/sda` for `/dev/sda` and each of its links.
pub(crate) fn resolve_link(links: &BTreeMap<PathBuf, PathBuf>, path: &Path) -> PathBuf {
    let mut path = path;
    // A chain longer than the kernel follows (`MAXSYMLINKS`) is a loop.
    for _ in 0..40 {
        match links.get(path) {
            Some(next) => path = next,
            None => break,
        }
    }
    path.to_path_buf()
}
