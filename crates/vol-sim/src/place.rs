//! Where a file system is: on a thin volume, whose content the pool's state keeps, or on a linear device, that is on disks.
//!
//! On disks its first sector names the content, by a number that is never used for another: what is wiped is gone, what is copied is
//! there twice and each goes its own way, and a crash keeps what the disks have.

use std::collections::BTreeMap;

use vol_core::observed::DevNumber;
use vol_engine::host::{HostErrorKind, HostResult};
use vol_types::FsKind;

use crate::fs::{Content, ThinAt};
use crate::host::SimHost;
use crate::mapper::{DM_MAJOR, dm_dev};
use crate::world::{ThinLife, World, fail};

/// At the beginning of the first sector, and of what an unfinished mkfs has written.
const MAGIC: [u8; 8] = *b"a sim fs";
/// Where mkfs begins to write; the superblock comes last.
const BEGUN: usize = 4096;
const KINDS: [FsKind; 3] = [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs];

/// A device that runs and may hold a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FsPlace {
    Thin(ThinAt),
    Linear { minor: u32, size: u64 },
}

impl FsPlace {
    /// In bytes.
    pub const fn size(self) -> u64 {
        match self {
            Self::Thin(at) => at.size,
            Self::Linear { size, .. } => size,
        }
    }
    pub const fn thin(self) -> Option<ThinAt> {
        match self {
            Self::Thin(at) => Some(at),
            Self::Linear { .. } => None,
        }
    }
}

impl World {
    pub fn place(&self, what: &str, dev: DevNumber) -> HostResult<FsPlace> {
        let device = self.dm.get(&dev.minor).filter(|_| dev.major == DM_MAJOR);
        let on_disks = device
            .and_then(|device| device.live.as_ref())
            .is_some_and(|table| table.thin().is_none() && table.pool().is_none() && !table.targets.is_empty());
        match device {
            Some(device) if on_disks && device.suspended => {
                fail(HostErrorKind::TimedOut, what, "the device is suspended")
            }
            Some(device) if on_disks => Ok(FsPlace::Linear { minor: dev.minor, size: device.sectors() * 512 }),
            _ => self.thin_at(what, dev).map(FsPlace::Thin),
        }
    }

    pub fn held_at(&self, what: &str, place: FsPlace) -> HostResult<Content> {
        let (minor, size) = match place {
            FsPlace::Thin(at) => return self.content(what, at).cloned(),
            FsPlace::Linear { minor, size } => (minor, size),
        };
        let first = self.read_linear(what, dm_dev(minor), 0, size.min(BEGUN as u64 + 512))?;
        let number = |at: usize| first.get(at + 8..at + 16).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        let begins = |at: usize| first.get(at..).is_some_and(|bytes| bytes.starts_with(&MAGIC));
        if begins(0)
            && let Some(found) = number(0).and_then(|id| self.on_disks.get(&u64::from_le_bytes(id)))
        {
            return Ok(found.clone());
        }
        if begins(BEGUN)
            && let Some(kind) = number(BEGUN).and_then(|kind| KINDS.get(u64::from_le_bytes(kind) as usize))
        {
            return Ok(Content::Partial(*kind));
        }
        Ok(if first.iter().all(|byte| *byte == 0) { Content::Nothing } else { Content::Raw(first) })
    }

    /// Changes the content; on a thin volume it takes fresh chunks for `bytes`.
    pub fn hold_at(&mut self, what: &str, place: FsPlace, bytes: u64, content: Content) -> HostResult<()> {
        let (minor, at, number) = match (place, &content) {
            (FsPlace::Thin(at), _) => return self.thin_write(what, at, bytes, content),
            (FsPlace::Linear { minor, .. }, Content::Partial(kind)) => {
                (minor, BEGUN, KINDS.iter().position(|one| one == kind).unwrap_or(0) as u64)
            }
            (FsPlace::Linear { minor, .. }, _) => {
                let number = self.on_disks.keys().next_back().map_or(1, |last| last + 1);
                (minor, 0, number)
            }
        };
        let mut sector = vec![0; 512];
        sector[..8].copy_from_slice(&MAGIC);
        sector[8..16].copy_from_slice(&number.to_le_bytes());
        let runs = self.resolve(what, dm_dev(minor), at as u64, 512)?;
        if self.refused_writes(&runs) {
            return fail(HostErrorKind::Io, what, "a disk below takes no writes");
        }
        if at == 0 {
            self.on_disks.insert(number, content);
        }
        self.write_runs(&runs, &sector);
        Ok(())
    }

    /// What became of a volume, for the checks.
    pub fn life_at(&mut self, place: FsPlace) -> &mut ThinLife {
        match place {
            FsPlace::Thin(at) => self.life(at),
            FsPlace::Linear { minor, .. } => {
                let uuid = self.dm_uuid_of(dm_dev(minor)).unwrap_or_default();
                self.linear_lives.entry(uuid).or_default()
            }
        }
    }

    /// A new file system on disks: what was there before must be gone to the last byte.
    pub fn check_wiped(&mut self, what: &str, place: FsPlace) -> HostResult<()> {
        if let FsPlace::Linear { minor, size } = place
            && self.read_linear(what, dm_dev(minor), 0, size)?.iter().any(|byte| *byte != 0)
        {
            let uuid = self.dm_uuid_of(dm_dev(minor)).unwrap_or_default();
            self.violation(format!("mkfs on {uuid}, which was not wiped"));
        }
        Ok(())
    }
}

impl SimHost {
    /// How often mkfs ran on each device that lies on disks, in its whole life: by dm uuids.
    pub fn mkfs_runs_on_disks(&self) -> BTreeMap<String, u32> {
        self.lock().linear_lives.iter().map(|(uuid, life)| (uuid.clone(), life.mkfs)).collect()
    }
}
