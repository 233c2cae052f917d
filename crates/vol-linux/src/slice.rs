//! Blocks that are moved: ranges of our dm devices that are wiped and copied, slice by slice.
//!
//! Wiping goes down a ladder, and remembers for each device which rung holds:
//! 1. *Discard* (`BLKDISCARD`), where the device says that it discards. What a discarded block reads as is anybody's guess, and the
//!    ioctl says success where nothing was done (`block/blk-lib.c`, `blkdev_issue_discard`), so **all** of it is read afterwards, past
//!    the page cache.
//! 2. *Offloaded zeroing*, where `queue/write_zeroes_max_bytes` says that the device zeroes: `fallocate` with `PUNCH_HOLE`, for which a
//!    block device never falls back to writing (`block/fops.c`, `blkdev_fallocate`: `BLKDEV_ZERO_NOFALLBACK`), as `BLKZEROOUT`
//!    would, for hours and deaf to signals. Zeroes are what the standards of NVMe and SCSI promise of it; so the first slice on a device is
//!    read in whole, and of later ones a block in every [`SAMPLE_EVERY`] bytes.
//! 3. *Writing* zeroes from fixed buffers, several in flight.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FallocateFlags;
use vol_core::dm::UUID_PREFIX;
use vol_core::observed::DevNumber;
use vol_engine::host::{BlockRead as _, DmEnd, HostResult, SLICE_MAX, WipeMethod};

use crate::disk::{self, Access};
use crate::dm;
use crate::error;
use crate::io::BlockIo;
use crate::io::device::Device;
use crate::sysfs::SysDevice;

/// What of a slice that the device zeroed is read: 4 KiB in so many bytes, at a place that moves on from one to the next.
const SAMPLE_EVERY: u64 = 256 << 10;
const BLOCK: u64 = 4096;
/// Devices of which is remembered how they are wiped. Beyond, all are tried anew, which costs one slice each.
const KNOWN_MAX: usize = 1024;

/// The rung that a device stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rung {
    Discard,
    /// Not seen to zero yet.
    Offload,
    /// It did zero a whole slice.
    ProvenOffload,
    Write,
}

/// Number and sequence number: another device with this number has another one.
type Key = (DevNumber, Option<u64>);

/// Wipes and copies, and knows how devices are best wiped.
pub(crate) struct Slices {
    io: Arc<dyn BlockIo>,
    known: Mutex<BTreeMap<Key, Rung>>,
}

impl Slices {
    pub(crate) fn new(io: Arc<dyn BlockIo>) -> Self {
        Self { io, known: Mutex::default() }
    }

    pub(crate) fn wipe(&self, end: &DmEnd, offset: u64, len: u64) -> HostResult<WipeMethod> {
        let what = format!("wipe {len} bytes at {offset} of {}", dm::node(end.dev).display());
        in_bounds(&what, len)?;
        let device = self.open(&what, end, Access::ReadWrite)?;
        device.check("wipe", offset, len)?;
        let key = (device.identity().dev, device.identity().diskseq);
        let mut rung = self.known().get(&key).copied().unwrap_or(Rung::Discard);
        let able = Able::of(device.identity().dev);
        let begun = rung;
        let method = loop {
            match rung {
                Rung::Discard => {
                    if able.discards && self.discarded(&device, offset, len) {
                        break WipeMethod::Discarded;
                    }
                    rung = Rung::Offload;
                }
                Rung::Offload | Rung::ProvenOffload => {
                    if able.zeroes && self.offloaded(&device, offset, len, rung == Rung::ProvenOffload) {
                        rung = Rung::ProvenOffload;
                        break WipeMethod::Offloaded;
                    }
                    rung = Rung::Write;
                }
                Rung::Write => {
                    device.zero(offset, len)?;
                    break WipeMethod::Written;
                }
            }
        };
        if rung != begun {
            tracing::info!(device = %dm::node(end.dev).display(), uuid = end.uuid, ?able, "is wiped by {}", method.as_str());
            let mut known = self.known();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(key, rung);
        }
        Ok(method)
    }

    pub(crate) fn copy(&self, from: &DmEnd, to: &DmEnd, offset: u64, len: u64) -> HostResult<()> {
        let (source, target) = (dm::node(from.dev), dm::node(to.dev));
        let what = format!("copy {len} bytes at {offset} from {} to {}", source.display(), target.display());
        in_bounds(&what, len)?;
        if from.dev == to.dev {
            return Err(error::invalid(what, "a device cannot be copied to itself"));
        }
        let source = self.open(&what, from, Access::Read)?;
        let target = self.open(&what, to, Access::ReadWrite)?;
        source.check("copy from", offset, len)?;
        target.check("copy to", offset, len)?;
        self.io
            .copy(source.file(), target.file(), offset, len)
            .and_then(|()| self.io.flush(target.file()))
            .map_err(|e| error::block(what, &e))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Rung>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever goes wrong here, the next rung is tried.
    fn discarded(&self, device: &Device, offset: u64, len: u64) -> bool {
        disk::discard(device.file(), offset, len).is_ok()
            && self.io.flush(device.file()).is_ok()
            && self.reads_zero(device, offset, len)
    }

    fn offloaded(&self, device: &Device, offset: u64, len: u64, proven: bool) -> bool {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(device.file().as_fd(), flags, offset, len).is_err() {
            return false;
        }
        if self.io.flush(device.file()).is_err() {
            return false;
        }
        if !proven {
            return self.reads_zero(device, offset, len);
        }
        let samples = offset..offset.saturating_add(len);
        samples.step_by(usize::try_from(SAMPLE_EVERY).unwrap_or(usize::MAX)).all(|at| {
            let room = SAMPLE_EVERY.min(offset.saturating_add(len).saturating_sub(at)) / BLOCK;
            let place = (at / SAMPLE_EVERY).checked_rem(room).unwrap_or(0) * BLOCK;
            self.reads_zero(device, at.saturating_add(place), BLOCK)
        })
    }

    fn reads_zero(&self, device: &Device, offset: u64, len: u64) -> bool {
        self.io.is_zero(device.file(), offset, len).unwrap_or(false)
    }

    /// Opens exactly the device that is meant: number and dm uuid are those of the open descriptor.
    fn open(&self, what: &str, end: &DmEnd, access: Access) -> HostResult<Device> {
        let device = Device::open(Arc::clone(&self.io), &dm::node(end.dev), access, None)?;
        let found = device.identity().dev;
        // While it is open, no other device can take its number.
        let uuid = SysDevice::of(found).ok().and_then(|device| device.dm_uuid()).unwrap_or_default();
        if found != end.dev || uuid != end.uuid || !uuid.starts_with(UUID_PREFIX) {
            let detail = format!("{} is dm device {uuid:?}, expected {:?}", end.dev, end.uuid);
            return Err(error::changed(what, detail));
        }
        Ok(device)
    }
}

/// What a device says of itself (kernel `Documentation/ABI/stable/sysfs-block`). Its table may change, and that with it.
#[derive(Clone, Copy, Debug)]
struct Able {
    discards: bool,
    zeroes: bool,
}

impl Able {
    fn of(dev: DevNumber) -> Self {
        let device = SysDevice::of(dev).ok();
        let above_zero = |name: &str| {
            let value = device.as_ref().and_then(|device| device.attribute(name));
            value.and_then(|value| value.parse::<u64>().ok()).is_some_and(|bytes| bytes > 0)
        };
        Self { discards: above_zero("queue/discard_max_bytes"), zeroes: above_zero("queue/write_zeroes_max_bytes") }
    }
}

fn in_bounds(what: &str, len: u64) -> HostResult<()> {
    if (1..=SLICE_MAX).contains(&len) {
        return Ok(());
    }
    Err(error::invalid(what, format!("a slice has 1 to {SLICE_MAX} bytes")))
}
