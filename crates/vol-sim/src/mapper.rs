//! Device-mapper devices: names, tables live and inactive, suspend and resume, what stands on what.

use std::path::PathBuf;
use std::time::Duration;

use vol_core::dm::Device;
use vol_core::observed::{DevNumber, DmInfo, TargetLine};
use vol_engine::host::{DmCreate, HostErrorKind, HostResult};
use vol_types::Sectors;

use crate::disk::MediumId;
use crate::effect::Mishap;
use crate::pool::ActivePool;
use crate::table::{Table, Target};
use crate::world::{World, fail};

/// The major number that this kernel gave device-mapper.
pub const DM_MAJOR: u32 = 253;

#[derive(Clone, Debug)]
pub(crate) struct DmDevice {
    pub name: String,
    pub uuid: String,
    pub diskseq: u64,
    pub live: Option<Table>,
    pub inactive: Option<Table>,
    pub suspended: bool,
    /// Suspended by a snapshot, whose guard outside the daemon knows of it.
    pub guarded: bool,
    pub read_only: bool,
    /// Kernel memory of a pool, from the load of its first table on.
    pub pool: Option<ActivePool>,
    /// Who has it open, by order of a test.
    pub held: Vec<String>,
    /// For how long udev will have it open yet.
    pub looked_at: Duration,
    /// What udev calls it below `/dev/volumed`.
    pub link: Option<String>,
}

impl DmDevice {
    pub fn sectors(&self) -> u64 {
        self.live.as_ref().map_or(0, Table::sectors)
    }
    pub fn thin(&self) -> Option<(DevNumber, u32)> {
        self.live.as_ref().and_then(Table::thin)
    }
    /// Active as far as I/O goes.
    pub fn running(&self) -> bool {
        self.live.is_some() && !self.suspended
    }
    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.live.iter().chain(&self.inactive)
    }
    pub fn opens_thin(&self, pool: DevNumber, id: u32) -> bool {
        self.tables().any(|table| table.thin() == Some((pool, id)))
    }
}

/// A run of bytes on a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub medium: MediumId,
    pub offset: u64,
    pub len: u64,
}

pub(crate) const fn dm_dev(minor: u32) -> DevNumber {
    DevNumber { major: DM_MAJOR, minor }
}

impl World {
    pub fn minor_of(&self, uuid: &str) -> Option<u32> {
        self.dm.iter().find(|(_, device)| device.uuid == uuid).map(|(minor, _)| *minor)
    }

    pub fn dm_uuid_of(&self, dev: DevNumber) -> Option<String> {
        self.dm.get(&dev.minor).filter(|_| dev.major == DM_MAJOR).map(|device| device.uuid.clone())
    }

    pub fn dm_minor(&self, what: &str, uuid: &str) -> HostResult<u32> {
        self.minor_of(uuid).map_or_else(|| fail(HostErrorKind::NotFound, what, "no such dm device"), Ok)
    }

    pub fn dm_by_minor(&mut self, what: &str, minor: u32) -> HostResult<&mut DmDevice> {
        self.dm.get_mut(&minor).map_or_else(|| fail(HostErrorKind::NotFound, what, "no such dm device"), Ok)
    }

    pub fn open_count(&self, dev: DevNumber) -> u32 {
        let tables = self.dm.values().flat_map(DmDevice::tables).filter(|table| table.below().contains(&dev)).count();
        // A node that is shown elsewhere opens nothing.
        let mounted = self.mounts.iter().any(|one| one.mount.dev == dev && !one.mount.is_node());
        let held = self.dm.get(&dev.minor).filter(|_| dev.major == DM_MAJOR);
        let held = held.map_or(0, |device| device.held.len() + usize::from(!device.looked_at.is_zero()));
        u32::try_from(tables + usize::from(mounted) + held).unwrap_or(u32::MAX)
    }

    /// The dm devices that stand on `dev`: kernel name and own name.
    pub fn dm_holders(&self, dev: DevNumber) -> Vec<String> {
        let on_top = |device: &DmDevice| device.tables().any(|table| table.below().contains(&dev));
        self.dm
            .iter()
            .filter(|(_, device)| on_top(device))
            .map(|(minor, on)| format!("dm-{minor} ({})", on.name))
            .collect()
    }

    pub fn dm_info(&self, minor: u32) -> Option<DmInfo> {
        let device = self.dm.get(&minor)?;
        Some(DmInfo {
            name: device.name.clone(),
            uuid: device.uuid.clone(),
            dev: dm_dev(minor),
            open_count: self.open_count(dm_dev(minor)),
            suspended: device.suspended,
            live_table: device.live.is_some(),
            inactive_table: device.inactive.is_some(),
            read_only: device.read_only,
            len: Sectors(device.sectors()),
        })
    }

    pub fn create_dm(&mut self, what: &str, create: &DmCreate, mishap: Mishap) -> HostResult<DmInfo> {
        if create.name.is_empty() || create.name.len() > 127 || create.uuid.len() > 128 || create.name.contains('/') {
            return fail(HostErrorKind::Invalid, what, "bad name");
        }
        if self.dm.values().any(|device| device.name == create.name || device.uuid == create.uuid) {
            return fail(HostErrorKind::Exists, what, "name or uuid is taken");
        }
        // The kernel hands out the lowest free minor (`dm.c`, `next_free_minor`), so numbers come back soon.
        let minor = (0..).find(|minor| !self.dm.contains_key(minor)).unwrap_or(u32::MAX);
        mishap.memory(what, 1)?;
        let diskseq = self.diskseq();
        let device = DmDevice {
            name: create.name.clone(),
            uuid: create.uuid.clone(),
            diskseq,
            live: None,
            inactive: None,
            suspended: false,
            guarded: false,
            read_only: create.read_only,
            pool: None,
            held: Vec::new(),
            looked_at: Duration::ZERO,
            link: create.link.clone().filter(|_| !self.udev.run_is_full),
        };
        if create.private && create.link.is_some() {
            self.violation(format!("{} is private and has a name in /dev/volumed", create.name));
        }
        self.dm.insert(minor, device);
        self.counters.ioctls += 1;
        mishap.stage(1)?;
        if let Some(kind) = Device::from_uuid(&create.uuid)
            && kind.is_private() != create.private
        {
            self.violation(format!("{} was created with private: {}", create.name, create.private));
        }
        let loaded = mishap.memory(what, 2).and_then(|()| self.load(what, minor, &create.table));
        if loaded.is_ok() {
            mishap.stage(2)?;
        }
        let resumed = loaded.and_then(|()| {
            self.counters.ioctls += 1;
            mishap.memory(what, 3)?;
            self.resume_minor(minor)
        });
        if let Err(mut error) = resumed.and_then(|()| self.await_node(what)) {
            self.outwait_udev(minor);
            let left = match mishap.memory(what, 4) {
                Err(left) => Some(left.detail),
                Ok(()) if self.open_count(dm_dev(minor)) > 0 => Some("device is open".to_owned()),
                Ok(()) => None,
            };
            match left {
                Some(left) => error.detail = format!("{}; and it could not be removed again: {left}", error.detail),
                None => drop(self.dm.remove(&minor)),
            }
            return Err(error);
        }
        self.dm_info(minor).map_or_else(|| fail(HostErrorKind::NotFound, what, "vanished"), Ok)
    }

    /// Loads a table into the inactive slot.
    pub fn load(&mut self, what: &str, minor: u32, lines: &[TargetLine]) -> HostResult<()> {
        self.counters.ioctls += 1;
        let table = self.parse_table(what, dm_dev(minor), lines)?;
        let live_pool = self.dm.get(&minor).and_then(|device| device.live.as_ref()).map(|live| live.pool().cloned());
        if let Some(live) = live_pool
            && live.is_some()
            && table.pool().is_none()
        {
            return fail(HostErrorKind::Invalid, what, "can't replace immutable target type");
        }
        if let Some(pool) = table.pool() {
            self.open_pool(what, minor, pool)?;
        }
        if let Some((pool, id)) = table.thin() {
            self.open_thin(what, pool, id)?;
        }
        self.dm_by_minor(what, minor)?.inactive = Some(table);
        Ok(())
    }

    /// Swaps a table as the real host does: load and resume, and the old table in the same way if the resume fails.
    pub fn reload_dm(&mut self, what: &str, uuid: &str, table: &[TargetLine], mishap: Mishap) -> HostResult<()> {
        let minor = self.dm_minor(what, uuid)?;
        let before = self.dm.get(&minor).and_then(|device| device.live.clone());
        mishap.memory(what, 1)?;
        self.load(what, minor, table)?;
        mishap.stage(1)?;
        self.counters.ioctls += 1;
        let resumed = match mishap.memory(what, 2) {
            Ok(()) => self.resume_minor(minor),
            Err(error) => {
                let device = self.dm_by_minor(what, minor)?;
                (device.live, device.suspended) = (device.inactive.take(), true);
                Err(error)
            }
        };
        resumed.map_err(|mut error| {
            // The kernel leaves it suspended with the new table; the real host loads the old one again.
            let Some(device) = self.dm.get_mut(&minor) else { return error };
            let (loaded, live) = (mishap.memory(what, 3), mishap.memory(what, 4));
            match (loaded, live) {
                (Ok(()), Ok(())) => (device.live, device.suspended) = (before, false),
                (Ok(()), Err(left)) => {
                    device.inactive = before;
                    error.detail =
                        format!("{}; and the old table could not be restored: {}", error.detail, left.detail);
                }
                (Err(left), _) => {
                    error.detail =
                        format!("{}; and the old table could not be restored: {}", error.detail, left.detail);
                }
            }
            error
        })
    }

    /// One resume: an inactive table becomes the live one, a suspended device runs again.
    pub fn resume_minor(&mut self, minor: u32) -> HostResult<()> {
        let what = "resume";
        let device = self.dm_by_minor(what, minor)?;
        let swapped = device.inactive.take();
        if swapped.is_some() {
            // From here to the end of the resume the device is suspended, with its new table; an error leaves it so.
            device.suspended = true;
            device.live = swapped;
        }
        if device.suspended {
            // Each time it is resumed, a pool looks at how large it is to be (`dm-thin.c`, `pool_preresume`).
            let pool = device.live.as_ref().and_then(Table::pool).cloned();
            if let Some(pool) = pool {
                self.resize_pool(what, minor, &pool)?;
            }
            self.check_overlap(minor);
        }
        // Without any table there is nothing to do, which is no error (`dm-ioctl.c`, `do_resume`).
        let device = self.dm_by_minor(what, minor)?;
        device.suspended = false;
        device.guarded = false;
        self.tell_udev(minor);
        Ok(())
    }

    pub fn remove_dm(&mut self, what: &str, uuid: &str) -> HostResult<()> {
        self.counters.ioctls += 1;
        let minor = self.dm_minor(what, uuid)?;
        self.outwait_udev(minor);
        if self.open_count(dm_dev(minor)) > 0 {
            return fail(HostErrorKind::Busy, what, "device is open");
        }
        self.close_pool(minor);
        self.dm.remove(&minor);
        self.drop_idle_loops();
        Ok(())
    }

    /// Loop devices that were detached while they were in use.
    pub fn drop_idle_loops(&mut self) {
        let going = self.nodes.iter().filter(|(_, node)| node.going && self.open_count(node.dev) == 0);
        let going: Vec<PathBuf> = going.map(|(path, _)| path.clone()).collect();
        self.nodes.retain(|path, _| !going.contains(path));
    }

    /// Where on the media a range of a disk or of a linear device is. A device that is gone since is `Io`.
    pub fn resolve(&self, what: &str, dev: DevNumber, offset: u64, len: u64) -> HostResult<Vec<Run>> {
        if dev.major != DM_MAJOR {
            let Some((_, node)) = self.node_of(dev) else {
                return fail(HostErrorKind::Io, what, "the device is gone");
            };
            if offset.checked_add(len).is_none_or(|end| end > self.node_size(node)) {
                return fail(HostErrorKind::Io, what, "beyond the end of the device");
            }
            return Ok(vec![Run { medium: node.medium, offset: node.start + offset, len }]);
        }
        let Some(device) = self.dm.get(&dev.minor) else {
            return fail(HostErrorKind::NotFound, what, "no such dm device");
        };
        if device.suspended {
            return fail(HostErrorKind::TimedOut, what, "the device is suspended");
        }
        let mut runs = Vec::new();
        let (mut at, end) = (offset, offset.saturating_add(len));
        for target in device.live.iter().flat_map(|table| &table.targets) {
            let Target::Linear { start, len, below, diskseq, offset } = target else {
                return fail(HostErrorKind::Unsupported, what, "only linear devices have a place on a disk");
            };
            let stop = (start + len) * 512;
            if at < stop && at < end {
                if self.diskseq_of(*below) != Some(*diskseq) {
                    return fail(HostErrorKind::Io, what, "the device below is gone");
                }
                let len = stop.min(end) - at;
                runs.extend(self.resolve(what, *below, offset * 512 + (at - start * 512), len)?);
                at += len;
            }
        }
        if at < end { fail(HostErrorKind::Io, what, "beyond the end of the device") } else { Ok(runs) }
    }

    /// What the live linear devices standing on disks cover, with the minor of each.
    pub fn mapped(&self) -> impl Iterator<Item = (u32, Run)> + '_ {
        self.dm.iter().flat_map(move |(minor, device)| {
            let targets = device.live.iter().flat_map(|table| &table.targets);
            targets.filter_map(move |target| {
                let Target::Linear { len, below, diskseq, offset, .. } = target else { return None };
                let (_, node) = self.node_of(*below).filter(|(_, node)| node.diskseq == *diskseq)?;
                Some((*minor, Run { medium: node.medium, offset: node.start + offset * 512, len: len * 512 }))
            })
        })
    }

    /// Two devices must not share a sector, nor a thin volume.
    fn check_overlap(&mut self, minor: u32) {
        let thin = |device: &DmDevice| device.thin();
        let own = self.dm.get(&minor).and_then(thin);
        let twin = self.dm.iter().find(|(other, device)| **other != minor && own.is_some() && thin(device) == own);
        if let Some((other, _)) = twin {
            self.violation(format!("dm-{minor} and dm-{other} show the same thin volume"));
        }
        let meets = |a: Run, b: Run| a.medium == b.medium && a.offset < b.offset + b.len && b.offset < a.offset + a.len;
        let all: Vec<(u32, Run)> = self.mapped().collect();
        let mut found = Vec::new();
        for (at, (_, own)) in all.iter().enumerate().filter(|(_, (owner, _))| *owner == minor) {
            let other = all.iter().enumerate().find(|(other, (_, run))| *other != at && meets(*own, *run));
            found.extend(other.map(|(_, (other, run))| (*other, *run)));
        }
        for (other, run) in found {
            let name = |minor: u32| self.dm.get(&minor).map_or_else(String::new, |device| device.name.clone());
            let text = format!("{} and {} both map bytes near {} of a disk", name(minor), name(other), run.offset);
            self.violation(text);
        }
    }

    pub fn dm_node(minor: u32) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{minor}"))
    }
}
