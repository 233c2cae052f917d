//! Our device-mapper devices: names, uuids, and tables as values.
//!
//! A table in a plan names the devices below it by what they are ([`Below`]), because their numbers exist only once they
//! are active; the engine resolves it against the running system just before it loads it ([`Table::resolve`]). A resolved
//! table compares with what the kernel reports, so drift is an inequality.

use std::fmt;

use vol_types::{Bytes, Extents, PoolId, PvId, Sectors, Segment, VolumeId};

use crate::observed::{DevNumber, TargetLine};

/// Every dm uuid of ours begins with this.
pub const UUID_PREFIX: &str = "VOLUMED-";

/// What one of our dm devices is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// Linear device with a pool's metadata; private.
    PoolMetadata(PoolId),
    /// Linear device with a pool's data; private.
    PoolData(PoolId),
    /// Linear device that a pool's metadata are written to anew by a repair; private.
    PoolSpare(PoolId),
    /// The thin-pool target; private.
    Pool(PoolId),
    /// A volume or snapshot; the only kind that is handed out.
    Volume(VolumeId),
    /// The extents of a thick volume that nobody has yet, while they are wiped or written; private.
    Filling(VolumeId),
    /// What a thick volume is copied from, for reading only; private. The id is that of the copy.
    CopySource(VolumeId),
}

impl Device {
    /// `VOLUMED-<id>` for a volume, `VOLUMED-<id>-fill|from` for the private devices of one that is being filled,
    /// `VOLUMED-<id>-tmeta|tdata|tspare|tpool` for the private layers of a pool.
    pub fn uuid(&self) -> String {
        format!("{UUID_PREFIX}{self}")
    }
    /// `volumed-<id>…`; at most 127 bytes as the kernel demands (`dm-ioctl.h`, `DM_NAME_LEN`).
    pub fn name(&self) -> String {
        format!("volumed-{self}")
    }
    /// The reverse of [`Device::uuid`]; a pool's layers carry a suffix, so kinds cannot be confused.
    pub fn from_uuid(uuid: &str) -> Option<Self> {
        let rest = uuid.strip_prefix(UUID_PREFIX)?;
        let (id, suffix) = rest.split_at_checked(36)?;
        match suffix {
            "" => id.parse().ok().map(Self::Volume),
            "-fill" => id.parse().ok().map(Self::Filling),
            "-from" => id.parse().ok().map(Self::CopySource),
            "-tmeta" => id.parse().ok().map(Self::PoolMetadata),
            "-tdata" => id.parse().ok().map(Self::PoolData),
            "-tspare" => id.parse().ok().map(Self::PoolSpare),
            "-tpool" => id.parse().ok().map(Self::Pool),
            _ => None,
        }
    }
    /// Private layers are hidden from udev's scanning; volumes are not.
    pub const fn is_private(&self) -> bool {
        !matches!(self, Self::Volume(_))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoolMetadata(id) => write!(f, "{id}-tmeta"),
            Self::PoolData(id) => write!(f, "{id}-tdata"),
            Self::PoolSpare(id) => write!(f, "{id}-tspare"),
            Self::Pool(id) => write!(f, "{id}-tpool"),
            Self::Volume(id) => write!(f, "{id}"),
            Self::Filling(id) => write!(f, "{id}-fill"),
            Self::CopySource(id) => write!(f, "{id}-from"),
        }
    }
}

/// A device that a table stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Below {
    Pv(PvId),
    Dm(Device),
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pv(id) => write!(f, "pv:{id}"),
            Self::Dm(device) => write!(f, "dm:{device}"),
        }
    }
}

/// A dm table as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    Linear(Vec<LinearRun>),
    /// One line for each row.
    Striped {
        /// What goes to one leg before it is the next one's turn.
        stripe: Sectors,
        rows: Vec<StripedRow>,
    },
    ThinPool {
        metadata: Device,
        data: Device,
        len: Sectors,
        chunk: Sectors,
        low_water: u64,
        /// Writes that find no free chunk fail at once instead of waiting for one.
        error_when_full: bool,
    },
    Thin {
        pool: Device,
        thin_id: u32,
        len: Sectors,
    },
}

/// `len` sectors of a linear table, found on `below` from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearRun {
    pub len: Sectors,
    pub below: Below,
    pub offset: Sectors,
}

/// `len` sectors of a striped table: all legs together (kernel `admin-guide/device-mapper/striped.rst`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripedRow {
    pub len: Sectors,
    /// Where each leg begins.
    pub legs: Vec<(Below, Sectors)>,
}

impl Table {
    /// The striped table of `segments`, in rows of `stripes` of equal count; `None` as of [`Table::linear`], or if they are no rows.
    pub fn striped(
        segments: &[Segment],
        stripes: u16,
        stripe_size: Bytes,
        extent_size: Bytes,
        data_offset: impl Fn(PvId) -> Option<Bytes>,
    ) -> Option<Self> {
        let stripes = usize::from(stripes);
        if stripes < 2 || !segments.len().is_multiple_of(stripes) {
            return None;
        }
        let rows = segments.chunks(stripes).map(|row| {
            let count = row.first()?.count;
            if row.iter().any(|segment| segment.count != count) {
                return None;
            }
            let legs = row.iter().map(|segment| {
                let offset = data_offset(segment.pv)?.checked_add(segment.start.to_bytes(extent_size)?)?;
                Some((Below::Pv(segment.pv), offset.to_sectors()?))
            });
            let len = extents_of(row).to_bytes(extent_size)?.to_sectors()?;
            Some(StripedRow { len, legs: legs.collect::<Option<_>>()? })
        });
        Some(Self::Striped { stripe: stripe_size.to_sectors()?, rows: rows.collect::<Option<_>>()? })
    }

    /// The linear table of `segments`. `data_offset` gives where extent 0 of a PV begins on its device; `None` from it,
    /// or a size past 2^64, gives `None`.
    pub fn linear(
        segments: &[Segment],
        extent_size: Bytes,
        data_offset: impl Fn(PvId) -> Option<Bytes>,
    ) -> Option<Self> {
        let runs = segments.iter().map(|segment| {
            let offset = data_offset(segment.pv)?.checked_add(segment.start.to_bytes(extent_size)?)?;
            Some(LinearRun {
                len: segment.count.to_bytes(extent_size)?.to_sectors()?,
                below: Below::Pv(segment.pv),
                offset: offset.to_sectors()?,
            })
        });
        runs.collect::<Option<_>>().map(Self::Linear)
    }

    /// Table lines with numbers in place of names; the first device that `number` does not know is the error.
    pub fn resolve(&self, number: impl Fn(Below) -> Option<DevNumber>) -> Result<Vec<TargetLine>, Below> {
        let dev = |below: Below| number(below).ok_or(below);
        match self {
            Self::Linear(runs) => {
                let mut start = Sectors::ZERO;
                let mut lines = Vec::with_capacity(runs.len());
                for run in runs {
                    lines.push(TargetLine {
                        start,
                        len: run.len,
                        target: "linear".to_owned(),
                        params: format!("{} {}", dev(run.below)?, run.offset),
                    });
                    start = Sectors(start.get().saturating_add(run.len.get()));
                }
                Ok(lines)
            }
            Self::Striped { stripe, rows } => {
                let mut start = Sectors::ZERO;
                let mut lines = Vec::with_capacity(rows.len());
                for row in rows {
                    let mut params = format!("{} {stripe}", row.legs.len());
                    for (below, offset) in &row.legs {
                        params.push_str(&format!(" {} {offset}", dev(*below)?));
                    }
                    lines.push(TargetLine { start, len: row.len, target: "striped".to_owned(), params });
                    start = Sectors(start.get().saturating_add(row.len.get()));
                }
                Ok(lines)
            }
            // New chunks are zeroed, so nobody reads what was there before: that feature is never turned off.
            Self::ThinPool { metadata, data, len, chunk, low_water, error_when_full } => Ok(vec![TargetLine {
                start: Sectors::ZERO,
                len: *len,
                target: "thin-pool".to_owned(),
                params: format!(
                    "{} {} {chunk} {low_water} {}",
                    dev(Below::Dm(*metadata))?,
                    dev(Below::Dm(*data))?,
                    if *error_when_full { "1 error_if_no_space" } else { "0" }
                ),
            }]),
            Self::Thin { pool, thin_id, len } => Ok(vec![TargetLine {
                start: Sectors::ZERO,
                len: *len,
                target: "thin".to_owned(),
                params: format!("{} {thin_id}", dev(Below::Dm(*pool))?),
            }]),
        }
    }

    /// The PVs that it stands on.
    pub fn pvs(&self) -> Vec<PvId> {
        let below: Vec<Below> = match self {
            Self::Linear(runs) => runs.iter().map(|run| run.below).collect(),
            Self::Striped { rows, .. } => rows.iter().flat_map(|row| row.legs.iter().map(|leg| leg.0)).collect(),
            Self::ThinPool { .. } | Self::Thin { .. } => Vec::new(),
        };
        let pv = |below| match below {
            Below::Pv(id) => Some(id),
            Below::Dm(_) => None,
        };
        below.into_iter().filter_map(pv).collect()
    }

    /// Length of the whole device.
    pub fn len(&self) -> Sectors {
        match self {
            Self::Linear(runs) => runs.iter().map(|run| run.len).sum(),
            Self::Striped { rows, .. } => rows.iter().map(|row| row.len).sum(),
            Self::ThinPool { len, .. } | Self::Thin { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len().is_zero()
    }
}

/// The number of extents in all segments.
pub fn extents_of(segments: &[Segment]) -> Extents {
    segments.iter().map(|segment| segment.count).sum()
}
