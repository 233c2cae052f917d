//! Where everything stands on a device.
//!
//! All offsets in a [`Geometry`] are absolute, in bytes from the start of the device; all are multiples of [`BLOCK`].

use vol_types::{Bytes, limit};

/// The unit of every read and write of ours: works with O_DIRECT on disks of 512 and of 4096 bytes a sector.
pub const BLOCK: usize = 4096;
/// [`BLOCK`] as a device offset counts.
pub const BLOCK_BYTES: u64 = 4096;
/// Alignment of the metadata zone and of the data: what partitioning tools have used since 2010.
pub const ALIGNMENT: u64 = Bytes::MIB;
/// Where the area begins on a whole disk, behind the partition table that marks it as taken.
pub const WHOLE_DISK_AREA_OFFSET: u64 = Bytes::MIB;
/// What is left at the end of a whole disk for the backup partition table.
pub const WHOLE_DISK_TAIL: u64 = Bytes::MIB;
/// Area offsets to look for labels at, in this order.
pub const AREA_CANDIDATES: [u64; 2] = [WHOLE_DISK_AREA_OFFSET, 0];
/// Where the two copies of the label stand in the area. Both are out of reach of a tool that clears the first or last
/// few sectors, and of each other for one that clears 64 KiB.
pub const LABEL_OFFSETS_IN_AREA: [u64; 2] = [64 * Bytes::KIB, 128 * Bytes::KIB];
/// Where the metadata zone begins in the area.
pub const ZONE_OFFSET_IN_AREA: u64 = Bytes::MIB;
/// The metadata zone takes one part in so many of the device …
pub const ZONE_SHARE: u64 = 256;
/// … but never less than this: a log of 1 MiB and two checkpoints of about 7,000 volumes each …
pub const ZONE_LEN_MIN: u64 = 4 * Bytes::MIB;
/// … nor more than this: a log of 64 MiB and two checkpoints of about 450,000 volumes each.
pub const ZONE_LEN_MAX: u64 = 256 * Bytes::MIB;
/// The log takes one part in so many of the zone; the two checkpoint slots share the rest equally.
pub const LOG_SHARE: u64 = 4;
/// Greatest sequence number, log position and length of a log that is believed: whoever counts on from one of them, or adds two,
/// cannot overflow (FMT-32). A million commits a second would take 290,000 years to get there.
pub const COUNT_MAX: u64 = (1 << 63) - 1;

const _: () = assert!(BLOCK as u64 == BLOCK_BYTES && ALIGNMENT.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(LABEL_OFFSETS_IN_AREA[0] + BLOCK_BYTES <= LABEL_OFFSETS_IN_AREA[1]);
const _: () = assert!(LABEL_OFFSETS_IN_AREA[1] + BLOCK_BYTES <= ZONE_OFFSET_IN_AREA);
const _: () = assert!(ZONE_LEN_MIN.is_multiple_of(ALIGNMENT) && ZONE_LEN_MAX.is_multiple_of(ALIGNMENT));
const _: () = assert!(ZONE_LEN_MIN / LOG_SHARE >= 2 * crate::record::RECORD_LEN_MAX as u64, "FMT-14");

/// Where everything stands on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub area_offset: u64,
    pub label_offsets: [u64; 2],
    pub log_offset: u64,
    pub log_len: u64,
    pub checkpoint_offsets: [u64; 2],
    /// Length of each of the two slots.
    pub checkpoint_len: u64,
    pub data_offset: u64,
    pub extent_count: u64,
}

/// Whether a PV has a whole device, which then carries our partition table, or a partition made by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PvKind {
    /// A disk or loop device.
    WholeDisk,
    Partition,
}

/// Why a device cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("too small: a physical volume needs at least {needed}")]
    TooSmall { needed: Bytes },
    #[error(
        "{0} is no extent size: a power of two from {min} to {max}",
        min = limit::EXTENT_SIZE_MIN,
        max = limit::EXTENT_SIZE_MAX
    )]
    BadExtentSize(Bytes),
}

/// Lays out a device of `device_size` bytes; what is left of the last 4096 bytes is not used (FMT-1).
pub fn geometry(device_size: Bytes, kind: PvKind, extent_size: Bytes) -> Result<Geometry, LayoutError> {
    if !is_extent_size(extent_size) {
        return Err(LayoutError::BadExtentSize(extent_size));
    }
    let (area_offset, tail) = match kind {
        PvKind::WholeDisk => (WHOLE_DISK_AREA_OFFSET, WHOLE_DISK_TAIL),
        PvKind::Partition => (0, 0),
    };
    let fixed = area_offset.saturating_add(ZONE_OFFSET_IN_AREA).saturating_add(tail);
    let needed = fixed.saturating_add(ZONE_LEN_MIN).saturating_add(extent_size.get()).max(limit::PV_SIZE_MIN.get());
    let usable_end = round_down(device_size.get(), BLOCK_BYTES);
    if usable_end < needed {
        return Err(LayoutError::TooSmall { needed: Bytes(needed) });
    }
    let zone_len = (round_down(device_size.get() / ZONE_SHARE, ALIGNMENT)).clamp(ZONE_LEN_MIN, ZONE_LEN_MAX);
    let log_len = round_down(zone_len / LOG_SHARE, BLOCK_BYTES);
    let checkpoint_len = round_down(zone_len.saturating_sub(log_len) / 2, BLOCK_BYTES);
    let log_offset = area_offset.saturating_add(ZONE_OFFSET_IN_AREA);
    let checkpoint_0 = log_offset.saturating_add(log_len);
    let data_offset = log_offset.saturating_add(zone_len);
    let data_len = usable_end.saturating_sub(tail).saturating_sub(data_offset);
    Ok(Geometry {
        area_offset,
        label_offsets: LABEL_OFFSETS_IN_AREA.map(|offset| area_offset.saturating_add(offset)),
        log_offset,
        log_len,
        checkpoint_offsets: [checkpoint_0, checkpoint_0.saturating_add(checkpoint_len)],
        checkpoint_len,
        data_offset,
        extent_count: data_len.checked_div(extent_size.get()).unwrap_or(0),
    })
}

impl Geometry {
    /// Whether a geometry that was read can be trusted with arithmetic and I/O (FMT-4). It is deliberately not compared
    /// with what [`geometry`] gives: a later release may lay out new devices otherwise, and a device may have grown.
    pub fn check(&self, device_size: Bytes, extent_size: Bytes) -> Result<(), &'static str> {
        let rule = |holds: bool, broken: &'static str| if holds { Ok(()) } else { Err(broken) };
        rule(is_extent_size(extent_size), "extent size")?;
        rule(AREA_CANDIDATES.contains(&self.area_offset), "area offset")?;
        for (at, in_area) in self.label_offsets.iter().zip(LABEL_OFFSETS_IN_AREA) {
            rule(self.area_offset.checked_add(in_area) == Some(*at), "label offset")?;
        }
        let area_zone = self.area_offset.checked_add(ZONE_OFFSET_IN_AREA);
        rule(area_zone.is_some_and(|start| start <= self.log_offset), "log offset")?;
        let [checkpoint_0, checkpoint_1] = self.checkpoint_offsets;
        let zones = [
            (self.log_offset, self.log_len, checkpoint_0, "log"),
            (checkpoint_0, self.checkpoint_len, checkpoint_1, "checkpoint slot 0"),
            (checkpoint_1, self.checkpoint_len, self.data_offset, "checkpoint slot 1"),
        ];
        for (start, len, next, name) in zones {
            let aligned = start.is_multiple_of(BLOCK_BYTES) && len.is_multiple_of(BLOCK_BYTES);
            rule(aligned && start.checked_add(len).is_some_and(|end| end <= next), name)?;
        }
        rule((ZONE_LEN_MIN / LOG_SHARE..=COUNT_MAX).contains(&self.log_len), "log length")?;
        rule(self.checkpoint_len > BLOCK_BYTES, "checkpoint length")?;
        rule(self.data_offset.is_multiple_of(BLOCK_BYTES), "data offset")?;
        let data_end =
            self.extent_count.checked_mul(extent_size.get()).and_then(|len| len.checked_add(self.data_offset));
        rule(data_end.is_some_and(|end| end <= device_size.get()), "extent count")
    }

    /// Which kind of device this geometry is for.
    pub const fn kind(&self) -> PvKind {
        if self.area_offset == 0 { PvKind::Partition } else { PvKind::WholeDisk }
    }
}

/// A power of two between the limits.
pub(crate) fn is_extent_size(size: Bytes) -> bool {
    size.get().is_power_of_two() && (limit::EXTENT_SIZE_MIN..=limit::EXTENT_SIZE_MAX).contains(&size)
}

/// The multiple of `unit` at or below `value`.
pub(crate) const fn round_down(value: u64, unit: u64) -> u64 {
    match value.checked_rem(unit) {
        Some(rest) => value.saturating_sub(rest),
        None => value,
    }
}

#[cfg(test)]
mod tests;
