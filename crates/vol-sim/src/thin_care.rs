//! A pool's metadata that nobody uses: looked at and written anew by the tools that own their format.

use std::sync::Arc;

use vol_core::observed::{DevNumber, ThinVerdict};
use vol_core::plan::repair::Known;
use vol_engine::host::{HostErrorKind, HostResult};

use crate::effect::Mishap;
use crate::host::SimHost;
use crate::mapper::DM_MAJOR;
use crate::pool::{BLOCK, PoolDisk, ThinFlaw};
use crate::world::{World, fail};

impl SimHost {
    /// Damages the metadata on a pool's metadata device, of a pool that is up or down.
    pub fn spoil_metadata(&self, metadata_uuid: &str, flaw: ThinFlaw) -> HostResult<()> {
        let mut world = self.lock();
        let minor = world.dm_minor("spoil", metadata_uuid)?;
        let disk = world.pool_on("spoil", minor)?.clone();
        world.store_in_place(DevNumber { major: DM_MAJOR, minor }, PoolDisk { flaw, ..disk })
    }

    /// Whether `thin_check` and `thin_repair` are installed; they are at first.
    pub fn set_thin_tools(&self, installed: bool) {
        self.lock().no_thin_tools = !installed;
    }
}

impl World {
    /// A device of ours that nobody uses, by its minor number.
    fn unused(&self, what: &str, (dev, dm_uuid): (DevNumber, &str)) -> HostResult<u32> {
        if self.no_thin_tools {
            return fail(HostErrorKind::Unsupported, what, "thin_check is not installed");
        }
        if dev.major != DM_MAJOR || self.dm.get(&dev.minor).is_none_or(|device| device.uuid != dm_uuid) {
            return fail(HostErrorKind::Changed, what, "the device is not the one that was meant");
        }
        if self.open_count(dev) > 0 {
            return fail(HostErrorKind::Busy, what, "it is in use");
        }
        Ok(dev.minor)
    }

    pub fn check_metadata(&self, what: &str, dev: DevNumber, dm_uuid: &str) -> HostResult<ThinVerdict> {
        let minor = self.unused(what, (dev, dm_uuid))?;
        Ok(match self.pool_on(what, minor) {
            Ok(disk) if disk.flaw == ThinFlaw::None => ThinVerdict::Sound,
            Ok(disk) => ThinVerdict::Damaged(format!("{:?}", disk.flaw)),
            Err(error) => ThinVerdict::Damaged(error.detail),
        })
    }

    /// The state under the same device, under a number of its own.
    fn store_in_place(&mut self, dev: DevNumber, disk: PoolDisk) -> HostResult<()> {
        let state = self.store_pool(dev, Arc::new(disk))?;
        // A pool that is up has it in memory as well.
        let up = self.dm.values_mut().filter_map(|device| device.pool.as_mut()).find(|pool| pool.metadata == dev);
        if let Some(pool) = up {
            pool.state = state;
        }
        Ok(())
    }

    pub fn clear_needs_check(&mut self, what: &str, dev: DevNumber, dm_uuid: &str) -> HostResult<ThinVerdict> {
        let verdict = self.check_metadata(what, dev, dm_uuid)?;
        if verdict == ThinVerdict::Sound {
            if self.refuses_writes(dev) {
                return fail(HostErrorKind::Tool, what, "the superblock cannot be written");
            }
            let disk = self.pool_on(what, dev.minor)?.clone();
            self.store_in_place(dev, PoolDisk { needs_check: false, ..disk })?;
        }
        Ok(verdict)
    }

    /// Without a superblock the newest state that fits what is known is what the tool would find on the device.
    fn found(&self, what: &str, minor: u32, known: &Known) -> HostResult<PoolDisk> {
        if let Ok(disk) = self.pool_on(what, minor) {
            return Ok(disk.clone());
        }
        let fits = |disk: &&Arc<PoolDisk>| {
            disk.chunk == known.chunk_sectors && disk.transaction_id == known.transaction_id && !disk.thins.is_empty()
        };
        match self.pool_states.values().rev().find(fits) {
            Some(disk) => Ok(PoolDisk::clone(disk)),
            None => fail(HostErrorKind::Tool, what, "no compatible roots were found"),
        }
    }

    pub fn repair_metadata(
        &mut self,
        what: &str,
        from: (DevNumber, &str),
        to: (DevNumber, &str),
        known: &Known,
        mishap: Mishap,
    ) -> HostResult<()> {
        let (source, target) = (self.unused(what, from)?, self.unused(what, to)?);
        let mut disk = self.found(what, source, known)?;
        match disk.flaw.clone() {
            ThinFlaw::None | ThinFlaw::SpaceMaps => {}
            ThinFlaw::Lost(ids) => ids.iter().for_each(|id| disk.drop_thin(*id)),
            ThinFlaw::Half(id) => {
                let half = disk.thins.get(&id).map_or(0, |thin| thin.blocks.len() as u64 / 2);
                let chunk = disk.thins.get(&id).and_then(|thin| thin.blocks.keys().nth(half as usize).copied());
                if let Some(chunk) = chunk {
                    disk.unmap(id, chunk..u64::MAX);
                }
            }
            ThinFlaw::Hopeless => return fail(HostErrorKind::Tool, what, "no compatible roots were found"),
        }
        // The superblock is written last.
        mishap.stage(1)?;
        disk.flaw = ThinFlaw::None;
        disk.needs_check = false;
        (disk.held, disk.before_hold) = (None, None);
        disk.metadata_blocks =
            self.size_of(DevNumber { major: DM_MAJOR, minor: target }).map_or(0, |size| size.0 / BLOCK);
        self.store_pool(to.0, Arc::new(disk)).map(drop)
    }
}
