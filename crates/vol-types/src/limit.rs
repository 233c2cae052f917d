//! Limits, each with who set it and why.

use crate::unit::{Bytes, Sectors};

/// Default allocation unit; LVM2's default since 1.0 (`lvm.conf`, `allocation/physical_extent_size`).
pub const EXTENT_SIZE_DEFAULT: Bytes = Bytes::mib(4);
/// Smallest extent we accept: one data-alignment unit.
pub const EXTENT_SIZE_MIN: Bytes = Bytes::mib(1);
/// Largest extent we accept; the kernel sets no limit, above this a small pool wastes whole disks.
pub const EXTENT_SIZE_MAX: Bytes = Bytes::gib(1);

/// Smallest PV: label, 4 MiB of metadata and a few extents; below this nothing useful fits.
pub const PV_SIZE_MIN: Bytes = Bytes::mib(64);
/// PVs in one VG; bounds the work of a scan and the size of a checkpoint.
pub const PVS_PER_VG_MAX: usize = 256;

/// Chunk ("block") size of a thin pool: 64 KiB to 1 GiB in steps of 64 KiB
/// (kernel `admin-guide/device-mapper/thin-provisioning.rst`).
pub const CHUNK_SIZE_MIN: Bytes = Bytes(64 * Bytes::KIB);
/// See [`CHUNK_SIZE_MIN`].
pub const CHUNK_SIZE_MAX: Bytes = Bytes::gib(1);
/// Metadata beyond this is ignored by the kernel: 255 space-map bitmaps of 16,320 blocks of 4 KiB
/// (`drivers/md/dm-thin-metadata.h`, `THIN_METADATA_MAX_SECTORS`).
pub const POOL_METADATA_MAX: Bytes = Bytes(255 * 16_320 * 4096);
/// Smallest pool metadata device we make; `thin_check` and the kernel work with 2 MiB, 8 leaves room for snapshots.
pub const POOL_METADATA_MIN: Bytes = Bytes::mib(8);
/// Smallest data device of a pool.
pub const POOL_DATA_MIN: Bytes = Bytes::mib(16);
/// Device ids of a pool are 24 bits wide (`dm-thin.c`, `MAX_DEV_ID`).
pub const THIN_ID_MAX: u32 = (1 << 24) - 1;
/// Each `create_snap` advances a clock that the kernel packs into 24 bits of every mapping without an overflow check
/// (`dm-thin-metadata.c`, `pack_block_time`); we refuse a little before it would wrap.
pub const POOL_SNAPSHOTS_MAX: u32 = 16_000_000;
/// A pool's default over-commit limit: the sum of its volumes' sizes, in percent of its data size.
pub const OVERCOMMIT_PERCENT_DEFAULT: u32 = 1000;
/// A pool's default reserve: when no more than this share of its data, in percent, is free, it makes no new volumes and
/// snapshots. What absence of the field means on the disks: never changed.
pub const POOL_RESERVE_PERCENT_DEFAULT: u32 = 5;
/// Largest reserve that can be asked for.
pub const POOL_RESERVE_PERCENT_MAX: u32 = 90;
/// Largest over-commit limit that can be asked for.
pub const OVERCOMMIT_PERCENT_MAX: u32 = 1_000_000;

/// Smallest share of a striped volume's row that goes to one PV: a page, which every disk takes in one piece.
pub const STRIPE_SIZE_MIN: Bytes = Bytes(4 * Bytes::KIB);
/// The usual one.
pub const STRIPE_SIZE_DEFAULT: Bytes = Bytes(64 * Bytes::KIB);
/// Most stripes of a volume: each is a device in every line of its table.
pub const STRIPES_MAX: u16 = 64;
/// Largest volume: a block device's size is a signed 64-bit number of bytes (`loff_t`), less one chunk of rounding.
pub const VOLUME_SIZE_MAX: Bytes = Bytes((1 << 63) - Bytes::GIB);
/// Smallest volume: one chunk of the smallest chunk size.
pub const VOLUME_SIZE_MIN: Bytes = CHUNK_SIZE_MIN;
/// A device-mapper table length is a number of sectors.
pub const VOLUME_SECTORS_MAX: Sectors = Sectors(VOLUME_SIZE_MAX.get() / 512);

/// Most points that a PV's record keeps of a copy that was left behind (`Pv::left`).
pub const LEFT_POINTS_MAX: usize = 8;
/// Most PVs that a placement names on either side (`Placement`): it stands in the record of its pool, which is written with every
/// change of the pool's volumes. A label stands for as many PVs as have it.
pub const PLACEMENT_PVS_MAX: usize = 64;
