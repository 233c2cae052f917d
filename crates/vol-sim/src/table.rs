//! Device-mapper tables: parsing, and the checks that the kernel makes when a table is loaded.

use vol_core::observed::{DevNumber, TargetLine};
use vol_engine::host::{HostErrorKind, HostResult};
use vol_types::limit::{CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, THIN_ID_MAX};

use crate::mapper::DM_MAJOR;
use crate::world::{World, fail};

/// A table as loaded.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub lines: Vec<TargetLine>,
    pub targets: Vec<Target>,
}

/// What a line of a table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// All numbers in sectors. `diskseq` tells the device from another that takes its number later.
    Linear {
        start: u64,
        len: u64,
        below: DevNumber,
        diskseq: u64,
        offset: u64,
    },
    Pool(PoolTarget),
    Thin {
        pool: DevNumber,
        id: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolTarget {
    pub metadata: DevNumber,
    pub data: DevNumber,
    /// In sectors.
    pub chunk: u64,
    /// In sectors.
    pub len: u64,
    pub read_only: bool,
    pub error_if_no_space: bool,
}

impl Table {
    pub fn sectors(&self) -> u64 {
        self.lines.iter().map(|line| line.len.get()).sum()
    }
    /// The devices that this table holds open, each once.
    pub fn below(&self) -> Vec<DevNumber> {
        let mut devices: Vec<DevNumber> = self
            .targets
            .iter()
            .flat_map(|target| match target {
                Target::Linear { below, .. } => vec![*below],
                Target::Pool(pool) => vec![pool.metadata, pool.data],
                Target::Thin { pool, .. } => vec![*pool],
            })
            .collect();
        devices.sort_unstable();
        devices.dedup();
        devices
    }
    pub fn pool(&self) -> Option<&PoolTarget> {
        self.targets.iter().find_map(|target| match target {
            Target::Pool(pool) => Some(pool),
            _ => None,
        })
    }
    /// The pool and thin id of a thin volume.
    pub fn thin(&self) -> Option<(DevNumber, u32)> {
        self.targets.iter().find_map(|target| match target {
            Target::Thin { pool, id } => Some((*pool, *id)),
            _ => None,
        })
    }
}

fn parse<T: std::str::FromStr>(word: Option<&str>, what: &str) -> HostResult<T> {
    match word.map(str::parse) {
        Some(Ok(value)) => Ok(value),
        _ => fail(HostErrorKind::Invalid, what, "bad number in a table line"),
    }
}

fn parse_dev(word: Option<&str>, what: &str) -> HostResult<DevNumber> {
    let parts = word.and_then(|word| word.split_once(':'));
    Ok(DevNumber { major: parse(parts.map(|p| p.0), what)?, minor: parse(parts.map(|p| p.1), what)? })
}

impl World {
    /// Parses and checks a table for the device with number `own`; opens nothing.
    pub fn parse_table(&self, what: &str, own: DevNumber, lines: &[TargetLine]) -> HostResult<Table> {
        let invalid = |detail: &str| fail(HostErrorKind::Invalid, what, detail);
        let mut end = 0;
        let mut targets = Vec::new();
        for line in lines {
            if line.start.get() != end || line.len.is_zero() {
                return invalid("gap in table");
            }
            end += line.len.get();
            if !self.targets.iter().any(|(name, _)| *name == line.target) {
                return invalid("unknown target type");
            }
            let target = match line.target.as_str() {
                "linear" => self.parse_linear(what, line)?,
                "striped" => {
                    targets.extend(self.parse_striped(what, line)?);
                    continue;
                }
                "thin-pool" => self.parse_pool(what, line)?,
                "thin" => self.parse_thin(what, line)?,
                _ => return invalid("a target that is not modelled"),
            };
            targets.push(target);
        }
        if targets.is_empty() {
            return invalid("empty table");
        }
        let table = Table { lines: lines.to_vec(), targets };
        if table.pool().is_some() && lines.len() > 1 {
            return invalid("thin-pool must be the only target of its table");
        }
        if table.below().contains(&own) {
            return invalid("a device cannot stand on itself");
        }
        Ok(table)
    }

    fn parse_linear(&self, what: &str, line: &TargetLine) -> HostResult<Target> {
        let mut words = line.params.split_ascii_whitespace();
        let below = parse_dev(words.next(), what)?;
        let offset: u64 = parse(words.next(), what)?;
        if words.next().is_some() {
            return fail(HostErrorKind::Invalid, what, "linear takes two arguments");
        }
        let diskseq = self.check_area(what, below, offset, line.len.get())?;
        Ok(Target::Linear { start: line.start.get(), len: line.len.get(), below, diskseq, offset })
    }

    /// A striped target is what goes to each device in turn (`dm-stripe.c`, `stripe_ctr` and `stripe_map_sector`).
    fn parse_striped(&self, what: &str, line: &TargetLine) -> HostResult<Vec<Target>> {
        let mut words = line.params.split_ascii_whitespace();
        let stripes: u64 = parse(words.next(), what)?;
        let chunk: u64 = parse(words.next(), what)?;
        let len = line.len.get();
        if stripes == 0 || chunk == 0 || !len.is_multiple_of(stripes) || !(len / stripes).is_multiple_of(chunk) {
            return fail(HostErrorKind::Invalid, what, "target length not divisible by stripes and chunks");
        }
        let mut legs = Vec::new();
        for _ in 0..stripes {
            let below = parse_dev(words.next(), what)?;
            let offset: u64 = parse(words.next(), what)?;
            legs.push((below, self.check_area(what, below, offset, len / stripes)?, offset));
        }
        if words.next().is_some() {
            return fail(HostErrorKind::Invalid, what, "not enough destinations specified");
        }
        let turns = (0..len / chunk).zip(legs.iter().cycle());
        let piece = |(turn, (below, diskseq, offset)): (u64, &(DevNumber, u64, u64))| Target::Linear {
            start: line.start.get() + turn * chunk,
            len: chunk,
            below: *below,
            diskseq: *diskseq,
            offset: offset + turn / stripes * chunk,
        };
        Ok(turns.map(piece).collect())
    }

    /// Checks that a device exists, is not in other hands and has the sectors (`dm-table.c`, `device_area_is_invalid`).
    fn check_area(&self, what: &str, dev: DevNumber, offset: u64, len: u64) -> HostResult<u64> {
        let (Some((size, sector)), Some(diskseq)) = (self.size_of(dev), self.diskseq_of(dev)) else {
            return fail(HostErrorKind::Io, what, "device lookup failed");
        };
        let sector = u64::from(sector) / 512;
        if offset.checked_add(len).is_none_or(|end| end > size / 512) {
            return fail(HostErrorKind::Invalid, what, "device too small for target");
        }
        if !offset.is_multiple_of(sector) || !len.is_multiple_of(sector) {
            return fail(HostErrorKind::Invalid, what, "area not aligned to the logical block size");
        }
        if self.in_other_hands(dev) {
            return fail(HostErrorKind::Busy, what, "device is in use");
        }
        Ok(diskseq)
    }

    fn parse_pool(&self, what: &str, line: &TargetLine) -> HostResult<Target> {
        let invalid = |detail: &str| fail(HostErrorKind::Invalid, what, detail);
        let mut words = line.params.split_ascii_whitespace();
        let metadata = parse_dev(words.next(), what)?;
        let data = parse_dev(words.next(), what)?;
        let chunk: u64 = parse(words.next(), what)?;
        let _low_water: u64 = parse(words.next(), what)?;
        // `pool_ctr` reads at least the count of features only if there is a fifth word.
        let wanted: usize = words.next().map_or(Ok(0), |word| parse(Some(word), what))?;
        let features: Vec<&str> = words.by_ref().take(wanted).collect();
        if features.len() != wanted {
            return invalid("not enough feature arguments");
        }
        const KNOWN: [&str; 5] =
            ["skip_block_zeroing", "ignore_discard", "no_discard_passdown", "read_only", "error_if_no_space"];
        if words.next().is_some() || features.iter().any(|feature| !KNOWN.contains(feature)) {
            return invalid("unrecognised pool feature requested");
        }
        let sectors = |bytes: vol_types::Bytes| bytes.get() / 512;
        if chunk < sectors(CHUNK_SIZE_MIN)
            || chunk > sectors(CHUNK_SIZE_MAX)
            || !chunk.is_multiple_of(sectors(CHUNK_SIZE_MIN))
        {
            return invalid("invalid block size");
        }
        if metadata == data {
            return invalid("metadata and data on one device");
        }
        self.check_area(what, metadata, 0, 0)?;
        self.check_area(what, data, 0, line.len.get())?;
        Ok(Target::Pool(PoolTarget {
            metadata,
            data,
            chunk,
            len: line.len.get(),
            read_only: features.contains(&"read_only"),
            error_if_no_space: features.contains(&"error_if_no_space"),
        }))
    }

    fn parse_thin(&self, what: &str, line: &TargetLine) -> HostResult<Target> {
        let mut words = line.params.split_ascii_whitespace();
        let pool = parse_dev(words.next(), what)?;
        let id: u32 = parse(words.next(), what)?;
        if words.next().is_some() {
            return fail(HostErrorKind::Invalid, what, "external origins are not modelled");
        }
        if id > THIN_ID_MAX {
            return fail(HostErrorKind::Invalid, what, "invalid device id");
        }
        if self.size_of(pool).is_none() {
            return fail(HostErrorKind::Io, what, "device lookup failed");
        }
        if pool.major != DM_MAJOR || self.dm.get(&pool.minor).is_none_or(|device| device.pool.is_none()) {
            return fail(HostErrorKind::Invalid, what, "couldn't find pool object");
        }
        Ok(Target::Thin { pool, id })
    }

    /// Whether somebody other than device-mapper holds the device or a part of it: a mount, swap, md.
    fn in_other_hands(&self, dev: DevNumber) -> bool {
        let Some((path, node)) = self.node_of(dev) else {
            return self.mounts.iter().any(|mounted| mounted.mount.dev == dev);
        };
        let family = self.family(path);
        let swap = |dev: &DevNumber| self.node_of(*dev).is_some_and(|(_, node)| node.swap);
        self.mounts.iter().any(|mounted| family.contains(&mounted.mount.dev))
            || family.iter().any(swap)
            || node.holders.iter().any(|holder| !holder.starts_with("dm-"))
    }
}
