//! A device that the daemon has open.

use std::any::Any;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vol_core::observed::DiskIdentity;
use vol_engine::host::{BlockRead, BlockWrite, HostErrorKind, HostResult};
use vol_types::defect;

use crate::disk::MediumId;
use crate::effect::Mishap;
use crate::fault::{EffectKind, Fault, ReadFault};
use crate::image::SECTOR;
use crate::world::{World, fail};

/// What O_DIRECT demands on any disk.
const ALIGN: u64 = 4096;

pub(crate) struct Handle {
    pub world: Arc<Mutex<World>>,
    pub node: PathBuf,
    pub identity: DiskIdentity,
    pub medium: MediumId,
    /// Where the device begins on the medium.
    pub start: u64,
    pub life: u64,
    pub writable: bool,
}

/// A range on a medium that a descriptor may write to.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub node: PathBuf,
    pub medium: MediumId,
    pub offset: u64,
}

impl Handle {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the descriptor still leads somewhere, and the range is on the device.
    fn check(&self, world: &World, what: &str, offset: u64, len: usize) -> HostResult<()> {
        world.alive(what)?;
        let attached = world.nodes.get(&self.node).filter(|node| {
            node.medium == self.medium && node.dev == self.identity.dev && Some(node.diskseq) == self.identity.diskseq
        });
        let Some(node) = attached.filter(|_| world.life == self.life) else {
            return fail(HostErrorKind::Io, what, "the device is gone or the descriptor is of an earlier life");
        };
        if !offset.is_multiple_of(ALIGN) || !(len as u64).is_multiple_of(ALIGN) {
            return fail(HostErrorKind::Invalid, what, "not a multiple of 4096");
        }
        if offset.checked_add(len as u64).is_none_or(|end| end > world.node_size(node)) {
            return fail(HostErrorKind::Io, what, "beyond the end of the device");
        }
        Ok(())
    }

    pub fn place(&self, world: &World, what: &str, offset: u64, len: usize) -> HostResult<Place> {
        self.check(world, what, offset, len)?;
        if !self.writable {
            return fail(HostErrorKind::Denied, what, "not open for writing");
        }
        Ok(Place { node: self.node.clone(), medium: self.medium, offset: self.start + offset })
    }

    fn device(&self) -> std::borrow::Cow<'_, str> {
        self.node.to_string_lossy()
    }
}

impl BlockRead for Handle {
    fn identity(&self) -> &DiskIdentity {
        &self.identity
    }

    fn read_at(&self, offset: u64, len: usize) -> HostResult<Vec<u8>> {
        let what = format!("read {} at {offset}", self.node.display());
        let mut guard = self.lock();
        let world = &mut *guard;
        self.check(world, &what, offset, len)?;
        world.counters.reads += 1;
        world.counters.bytes_read += len as u64;
        let Some(medium) = world.media.get(&self.medium) else {
            return fail(HostErrorKind::Io, what, "no medium");
        };
        let start = self.start + offset;
        match medium.read_fault {
            Some(ReadFault::Error) => return fail(HostErrorKind::Io, what, "injected read error"),
            Some(ReadFault::Busy) => return fail(HostErrorKind::Busy, what, "somebody is in the way"),
            Some(ReadFault::Zeros) => return Ok(vec![0; len]),
            Some(ReadFault::Junk) => {
                let mut junk = vec![0; len];
                world.chance.fill(&mut junk);
                return Ok(junk);
            }
            None if medium.is_bad(start, start + len as u64) => {
                return fail(HostErrorKind::Io, what, "unreadable sector");
            }
            None => {}
        }
        Ok(medium.image.read(start, len))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl BlockWrite for Handle {
    fn write_at(&self, offset: u64, data: &[u8]) -> HostResult<()> {
        let what = format!("write {} at {offset} len {}", self.node.display(), data.len());
        self.lock().effect(EffectKind::Write, &self.device(), what.clone(), |world, mishap| {
            let place = self.place(world, &what, offset, data.len())?;
            world.write(&what, &place, data, false, mishap)
        })
    }

    fn flush(&self) -> HostResult<()> {
        let what = format!("flush {}", self.node.display());
        self.lock().effect(EffectKind::Flush, &self.device(), what.clone(), |world, mishap| {
            self.place(world, &what, 0, 0)?;
            world.counters.flushes += 1;
            if mishap.0 != Some(Fault::LostWrite)
                && !defect("host: a flush does nothing")
                && let Some(medium) = world.media.get_mut(&self.medium)
            {
                medium.image.flush();
            }
            Ok(())
        })
    }
}

impl World {
    /// One write to a medium, durable or into its cache, with what may go wrong.
    pub fn write(&mut self, what: &str, place: &Place, data: &[u8], durable: bool, mishap: Mishap) -> HostResult<()> {
        self.counters.writes += 1;
        *self.counters.bytes_written.entry(place.node.clone()).or_default() += data.len() as u64;
        self.check_write(place, data.len() as u64);
        let size = self.media.get(&place.medium).map_or(0, |medium| medium.size);
        let mut data = std::borrow::Cow::Borrowed(data);
        let mut offset = place.offset;
        let sectors = data.len() as u64 / SECTOR;
        let mut result = Ok(());
        match mishap.0 {
            Some(Fault::LostWrite) => return Ok(()),
            Some(Fault::Junk) => self.chance.fill(data.to_mut()),
            Some(Fault::Zeros) => data.to_mut().fill(0),
            Some(Fault::Misdirected) => {
                let room = size.saturating_sub(data.len() as u64) / ALIGN;
                let elsewhere = self.chance.below(room.max(1)) * ALIGN;
                // Never where it belongs.
                offset =
                    if elsewhere == offset { offset.wrapping_add(ALIGN) % (room.max(1) * ALIGN) } else { elsewhere };
            }
            Some(Fault::Torn) => {
                result = fail(HostErrorKind::Io, what, "injected torn write");
                self.tear(place, data.to_mut(), sectors);
            }
            _ => {}
        }
        let Some(medium) = self.media.get_mut(&place.medium) else {
            return fail(HostErrorKind::Io, what, "no medium");
        };
        medium.heal(offset, offset + data.len() as u64);
        let stopped = mishap.stage(1).is_err();
        if durable && !stopped && !defect("host: a durable write is not flushed") {
            medium.image.write_through(offset, &data);
        } else {
            medium.image.write_pending(offset, &data, 0);
        }
        result
    }

    /// Puts what was there before into some sectors of `data`: at least one old, and at least one new if there are two.
    fn tear(&mut self, place: &Place, data: &mut [u8], sectors: u64) {
        let Some(medium) = self.media.get(&place.medium) else { return };
        let old = medium.image.read(place.offset, data.len());
        let (must_old, must_new) = (self.chance.below(sectors), self.chance.below(sectors.saturating_sub(1)));
        let must_new = if must_new >= must_old { must_new + 1 } else { must_new };
        for sector in 0..sectors {
            let keep_old = sector == must_old || (sector != must_new && self.chance.coin());
            if keep_old {
                let range = (sector * SECTOR) as usize..((sector + 1) * SECTOR) as usize;
                data[range.clone()].copy_from_slice(&old[range]);
            }
        }
    }
}
