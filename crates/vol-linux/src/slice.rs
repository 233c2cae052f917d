//! Blocks that are moved: ranges of our dm devices that are wiped and copied, slice by slice.

use std::sync::Arc;

use vol_core::dm::UUID_PREFIX;
use vol_engine::host::{BlockRead as _, BlockWrite as _, DmEnd, HostResult, SLICE_MAX, WipeMethod};

use crate::disk::Access;
use crate::dm;
use crate::error;
use crate::io::BlockIo;
use crate::io::device::Device;
use crate::sysfs::SysDevice;

/// Bytes that are held while a slice is copied.
const PIECE: u64 = 4 << 20;

pub(crate) fn wipe(io: &Arc<dyn BlockIo>, end: &DmEnd, offset: u64, len: u64) -> HostResult<WipeMethod> {
    let what = format!("wipe {len} bytes at {offset} of {}", dm::node(end.dev).display());
    in_bounds(&what, len)?;
    open(io, &what, end, Access::ReadWrite)?.zero(offset, len)?;
    Ok(WipeMethod::Written)
}

pub(crate) fn copy(io: &Arc<dyn BlockIo>, from: &DmEnd, to: &DmEnd, offset: u64, len: u64) -> HostResult<()> {
    let what =
        format!("copy {len} bytes at {offset} from {} to {}", dm::node(from.dev).display(), dm::node(to.dev).display());
    in_bounds(&what, len)?;
    if from.dev == to.dev {
        return Err(error::invalid(what, "a device cannot be copied to itself"));
    }
    let (from, to) = (open(io, &what, from, Access::Read)?, open(io, &what, to, Access::ReadWrite)?);
    let mut done = 0;
    while done < len {
        let piece = PIECE.min(len - done);
        let at = offset.saturating_add(done);
        let bytes = from.read_at(at, usize::try_from(piece).unwrap_or(usize::MAX))?;
        to.write_at(at, &bytes)?;
        done = done.saturating_add(piece);
    }
    to.flush()
}

fn in_bounds(what: &str, len: u64) -> HostResult<()> {
    if (1..=SLICE_MAX).contains(&len) {
        return Ok(());
    }
    Err(error::invalid(what, format!("a slice has 1 to {SLICE_MAX} bytes")))
}

/// Opens exactly the device that is meant: number and dm uuid are those of the open descriptor.
fn open(io: &Arc<dyn BlockIo>, what: &str, end: &DmEnd, access: Access) -> HostResult<Device> {
    let device = Device::open(Arc::clone(io), &dm::node(end.dev), access, None)?;
    let found = device.identity().dev;
    // While it is open, no other device can take its number.
    let uuid = SysDevice::of(found).ok().and_then(|device| device.dm_uuid()).unwrap_or_default();
    if found != end.dev || uuid != end.uuid || !uuid.starts_with(UUID_PREFIX) {
        let detail = format!("{} is dm device {uuid:?}, expected {:?}", end.dev, end.uuid);
        return Err(error::changed(what, detail));
    }
    Ok(device)
}
