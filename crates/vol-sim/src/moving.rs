//! Blocks that are moved: ranges that are wiped and copied, slice by slice.

use std::path::Path;
use std::time::Duration;

use vol_core::dm::UUID_PREFIX;
use vol_core::observed::DevNumber;
use vol_engine::host::{DmEnd, HostErrorKind, HostResult, SLICE_MAX, WipeMethod};
use vol_types::defect;

use crate::effect::Mishap;
use crate::fault::Fault;
use crate::fs::{Content, ThinAt};
use crate::host::SimHost;
use crate::image::SECTOR;
use crate::mapper::Run;
use crate::world::{World, fail};

/// What O_DIRECT demands on any disk.
const ALIGN: u64 = 4096;

/// How a disk can be wiped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SimWipe {
    /// By writing only.
    #[default]
    Writes,
    /// It zeroes ranges itself.
    Offloads,
    /// What it discards reads as zeroes.
    Discards,
}

impl SimHost {
    /// How a disk can be wiped from now on.
    pub fn set_wipe(&self, disk: impl AsRef<Path>, how: SimWipe) {
        self.lock().medium_mut(disk.as_ref()).wipe = how;
    }

    /// From now on slices take time, at so many bytes (above zero) a second, and pauses do: on the clock that never goes back.
    pub fn set_move_rate(&self, bytes: u64) {
        self.lock().move_rate = Some(bytes.max(1));
    }
}

impl World {
    pub fn wipe_slice(
        &mut self,
        what: &str,
        (dev, dm_uuid): (DevNumber, &str),
        (offset, len): (u64, u64),
        mishap: Mishap,
    ) -> HostResult<WipeMethod> {
        self.slice_target(what, (dev, dm_uuid), (offset, len))?;
        self.counters.wiped += len;
        self.spend(len);
        if let Ok(at) = self.thin_at(what, dev) {
            let mut whole = match self.content(what, at)? {
                Content::Raw(raw) => raw.clone(),
                _ => Vec::new(),
            };
            let end = (offset + len).min(whole.len() as u64) as usize;
            if let Some(part) = whole.get_mut(offset as usize..end) {
                part.fill(0);
            }
            self.write_slice_thin(what, at, (offset, len), whole, mishap)?;
            return Ok(WipeMethod::Written);
        }
        let runs = self.resolve(what, dev, offset, len)?;
        let of = |run: &Run| self.media.get(&run.medium).map_or(SimWipe::Writes, |medium| medium.wipe);
        // A device does what all of its disks do.
        let method = match runs.iter().map(of).min_by_key(|how| *how as u8) {
            Some(SimWipe::Discards) => WipeMethod::Discarded,
            Some(SimWipe::Offloads) => WipeMethod::Offloaded,
            _ => WipeMethod::Written,
        };
        if defect("host: wiping leaves what was there") {
            return Ok(method);
        }
        self.write_slice(what, &runs, &vec![0; len as usize], mishap)?;
        Ok(method)
    }

    pub fn copy_slice(
        &mut self,
        what: &str,
        (from, to): (&DmEnd, &DmEnd),
        (offset, len): (u64, u64),
        mishap: Mishap,
    ) -> HostResult<()> {
        if from.dev == to.dev {
            return fail(HostErrorKind::Invalid, what, "a device cannot be copied to itself");
        }
        self.slice_of(what, (from.dev, &from.uuid), (offset, len))?;
        self.slice_target(what, (to.dev, &to.uuid), (offset, len))?;
        let bytes = self.dm_read(what, from.dev, offset, len)?;
        self.counters.copied += len;
        self.spend(len);
        if let Ok(at) = self.thin_at(what, to.dev) {
            let mut whole = match self.content(what, at)? {
                Content::Raw(raw) => raw.clone(),
                _ => Vec::new(),
            };
            let end = (offset + len) as usize;
            whole.resize(whole.len().max(end), 0);
            whole[offset as usize..end].copy_from_slice(&bytes);
            return self.write_slice_thin(what, at, (offset, len), whole, mishap);
        }
        let runs = self.resolve(what, to.dev, offset, len)?;
        self.write_slice(what, &runs, &bytes, mishap)
    }

    /// The device is the one that is meant, and the range is one that may be asked for.
    fn slice_of(&self, what: &str, (dev, dm_uuid): (DevNumber, &str), (offset, len): (u64, u64)) -> HostResult<()> {
        if self.dm_uuid_of(dev).is_none_or(|uuid| uuid != dm_uuid || !uuid.starts_with(UUID_PREFIX)) {
            return fail(HostErrorKind::Changed, what, "another device");
        }
        if len == 0 || len > SLICE_MAX || !offset.is_multiple_of(ALIGN) || !len.is_multiple_of(ALIGN) {
            return fail(HostErrorKind::Invalid, what, "no slice: a multiple of 4096, and at most 256 MiB");
        }
        let size = self.dm.get(&dev.minor).map_or(0, |device| device.sectors() * SECTOR);
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return fail(HostErrorKind::Io, what, "beyond the end of the device");
        }
        Ok(())
    }

    fn spend(&mut self, len: u64) {
        if let Some(rate) = self.move_rate {
            self.uptime = self.uptime.saturating_add(Duration::from_micros(len.saturating_mul(1_000_000) / rate));
        }
    }

    fn slice_target(&mut self, what: &str, (dev, dm_uuid): (DevNumber, &str), range: (u64, u64)) -> HostResult<()> {
        self.slice_of(what, (dev, dm_uuid), range)?;
        if self.dm.get(&dev.minor).is_some_and(|device| device.read_only) {
            return fail(HostErrorKind::Denied, what, "the device is read-only");
        }
        if self.open_count(dev) > 0 {
            self.violation(format!("a slice was moved onto {dm_uuid}, which is in use"));
        }
        Ok(())
    }

    /// Puts bytes at places on media. Until the end of the call nothing of it is durable: what differs from before is pending, and
    /// a power cut inside keeps any of it.
    fn write_slice(&mut self, what: &str, runs: &[Run], bytes: &[u8], mishap: Mishap) -> HostResult<()> {
        if self.refused_writes(runs) {
            return fail(HostErrorKind::Io, what, "a disk below takes no writes");
        }
        let torn = mishap.0 == Some(Fault::Torn);
        if !torn && mishap.stage(1).is_ok() {
            self.write_runs(runs, bytes);
            return Ok(());
        }
        let mut rest = bytes;
        for run in runs {
            let (now, later) = rest.split_at(rest.len().min(run.len as usize));
            rest = later;
            let old = match self.media.get(&run.medium) {
                Some(medium) => medium.image.read(run.offset, now.len()),
                None => return fail(HostErrorKind::Io, what, "no medium"),
            };
            let sectors = now.chunks(SECTOR as usize).zip(old.chunks(SECTOR as usize)).enumerate();
            for (at, (new, _)) in sectors.filter(|(_, (new, old))| new != old) {
                let reached = !torn || self.chance.coin();
                if let Some(medium) = self.media.get_mut(&run.medium).filter(|_| reached) {
                    medium.image.write_pending(run.offset + at as u64 * SECTOR, new, 0);
                }
            }
        }
        if torn {
            return fail(HostErrorKind::Io, what, "injected torn write");
        }
        mishap.stage(1)
    }

    /// The model keeps the bytes of a thin volume as one: they are changed, or they are not.
    fn write_slice_thin(
        &mut self,
        what: &str,
        at: ThinAt,
        range: (u64, u64),
        whole: Vec<u8>,
        mishap: Mishap,
    ) -> HostResult<()> {
        if mishap.0 == Some(Fault::Torn) {
            return fail(HostErrorKind::Io, what, "injected torn write");
        }
        mishap.stage(1)?;
        let blank = whole.iter().all(|byte| *byte == 0);
        self.thin_write_at(what, at, range, if blank { Content::Nothing } else { Content::Raw(whole) })
    }
}
