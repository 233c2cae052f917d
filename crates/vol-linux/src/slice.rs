//! Blocks that are moved: ranges of our dm devices that are wiped and copied, slice by slice.
//!
//! Wiping goes down a ladder, and remembers for each device which rung holds:
//! 1. *Offloaded zeroing*, where `queue/write_zeroes_max_bytes` says that the device zeroes: `fallocate` with `PUNCH_HOLE`, for which a
//!    block device never falls back to writing (`block/fops.c`, `blkdev_fallocate`: `BLKDEV_ZERO_NOFALLBACK`), as `BLKZEROOUT`
//!    would, for hours and deaf to signals. Zeroes are what the standards of NVMe and SCSI promise of it; so the first
//!    [`PROOF`] bytes on a device are read in whole, and of all others a block in every [`SAMPLE_EVERY`].
//! 2. *Discard* (`BLKDISCARD`), where the device says that it discards. What a discarded block reads as is anybody's guess, and the
//!    ioctl says success where nothing was done (`block/blk-lib.c`, `blkdev_issue_discard`), so **all** of it is read afterwards, past
//!    the page cache.
//! 3. *Writing* zeroes from fixed buffers, several in flight.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

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

/// What is read in whole of the first slice that a device zeroed, bytes.
const PROOF: u64 = 4 << 20;
/// What else of a slice that the device zeroed is read: 4 KiB in so many bytes.
const SAMPLE_EVERY: u64 = 256 << 10;
const BLOCK: u64 = 4096;
/// The device is told to zero or discard so much at once: what others ask of it meanwhile waits behind that.
const PIECE: u64 = 64 << 20;
/// Devices of which is remembered how they are wiped. Beyond, all are tried anew, which costs one slice each.
const KNOWN_MAX: usize = 1024;

/// The rung that a device stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rung {
    /// Not seen to zero yet.
    Offload,
    /// It did zero a slice.
    ProvenOffload,
    Discard,
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
        let mut rung = self.known().get(&key).copied().unwrap_or(Rung::Offload);
        let able = Able::of(device.identity().dev);
        let begun = rung;
        let method = loop {
            match rung {
                Rung::Offload | Rung::ProvenOffload => {
                    if able.zeroes && self.offloaded(&device, offset, len, rung == Rung::ProvenOffload) {
                        rung = Rung::ProvenOffload;
                        break WipeMethod::Offloaded;
                    }
                    rung = Rung::Discard;
                }
                Rung::Discard => {
                    if able.discards && self.discarded(&device, offset, len) {
                        break WipeMethod::Discarded;
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
        let begun = Instant::now();
        self.io.copy(source.file(), target.file(), offset, len).map_err(|e| error::block(&what, &e))?;
        let copied = begun.elapsed();
        self.io.flush(target.file()).map_err(|e| error::block(&what, &e))?;
        tracing::debug!(len, ?copied, flushed = ?begun.elapsed().saturating_sub(copied), "a slice was copied");
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Rung>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever goes wrong here, the next rung is tried.
    fn discarded(&self, device: &Device, offset: u64, len: u64) -> bool {
        in_pieces(offset, len, |at, len| disk::discard(device.file(), at, len).is_ok())
            && self.io.flush(device.file()).is_ok()
            && self.reads_zero(device, offset, len)
    }

    fn offloaded(&self, device: &Device, offset: u64, len: u64, proven: bool) -> bool {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let zero = |at, len| rustix::fs::fallocate(device.file().as_fd(), flags, at, len).is_ok();
        let begun = Instant::now();
        if !in_pieces(offset, len, zero) {
            return false;
        }
        let zeroed = begun.elapsed();
        if self.io.flush(device.file()).is_err() {
            return false;
        }
        let flushed = begun.elapsed().saturating_sub(zeroed);
        tracing::debug!(len, ?zeroed, ?flushed, "a slice was zeroed by the device");
        let whole = if proven { 0 } else { len.min(PROOF) };
        (whole == 0 || self.reads_zero(device, offset, whole))
            && self.io.are_zero(device.file(), &samples(offset.saturating_add(whole), len - whole)).unwrap_or(false)
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

/// Whether all of a range was done, [`PIECE`] by [`PIECE`].
fn in_pieces(offset: u64, len: u64, mut one: impl FnMut(u64, u64) -> bool) -> bool {
    let mut done = 0;
    while done < len {
        let piece = PIECE.min(len - done);
        if !one(offset.saturating_add(done), piece) {
            return false;
        }
        done = done.saturating_add(piece);
    }
    true
}

/// Where the blocks are that are read of a slice: one in each [`SAMPLE_EVERY`] bytes, at a place that moves on from one to the next.
fn samples(offset: u64, len: u64) -> Vec<u64> {
    let end = offset.saturating_add(len);
    let every = usize::try_from(SAMPLE_EVERY).unwrap_or(usize::MAX);
    (offset..end)
        .step_by(every)
        .map(|at| {
            let room = SAMPLE_EVERY.min(end.saturating_sub(at)) / BLOCK;
            at.saturating_add((at / SAMPLE_EVERY).checked_rem(room).unwrap_or(0) * BLOCK)
        })
        .collect()
}

fn in_bounds(what: &str, len: u64) -> HostResult<()> {
    if (1..=SLICE_MAX).contains(&len) {
        return Ok(());
    }
    Err(error::invalid(what, format!("a slice has 1 to {SLICE_MAX} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_asked_for_in_pieces_that_make_it_up_and_the_first_that_fails_is_the_last() {
        for len in [BLOCK, PIECE, PIECE + BLOCK, SLICE_MAX] {
            let mut at = BLOCK;
            assert!(in_pieces(BLOCK, len, |from, len| {
                assert!(from == at && (1..=PIECE).contains(&len));
                at += len;
                true
            }));
            assert_eq!(at, BLOCK + len);
        }
        let mut asked = 0;
        assert!(!in_pieces(0, SLICE_MAX, |at, _| {
            asked += 1;
            at == 0
        }));
        assert_eq!(asked, 2);
    }

    #[test]
    fn of_what_a_device_zeroed_a_block_in_every_256_kib_is_read_and_none_beyond_it() {
        for (offset, len) in
            [(0, BLOCK), (BLOCK, 64 << 20), (3 * SAMPLE_EVERY + BLOCK, SAMPLE_EVERY + BLOCK), (0, SLICE_MAX)]
        {
            let places = samples(offset, len);
            assert_eq!(u64::try_from(places.len()).unwrap(), len.div_ceil(SAMPLE_EVERY), "{len} at {offset}");
            for (place, from) in places.iter().zip((offset..).step_by(256 << 10)) {
                let to = (from + SAMPLE_EVERY).min(offset + len);
                assert!(*place >= from && *place + BLOCK <= to && place % BLOCK == 0, "{place} of {len} at {offset}");
            }
        }
        let within: std::collections::BTreeSet<u64> =
            samples(0, SLICE_MAX).iter().map(|place| place % SAMPLE_EVERY).collect();
        assert_eq!(within.len(), 64, "every block of such a stretch has its turn");
    }
}
