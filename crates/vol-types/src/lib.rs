//! The words of volumed as types: ids, names, sizes, limits and the passive objects of a volume group.
//!
//! Nothing here does I/O, reads a clock or draws randomness. Every other crate speaks in these types, so that a
//! number of sectors cannot be taken for a number of bytes and a client's string cannot be taken for a valid name.
#![forbid(unsafe_code)]

mod defect;
mod grow;
pub mod id;
pub mod label;
pub mod limit;
pub mod mkfs;
mod mount_options;
pub mod name;
pub mod near;
pub mod object;
pub mod reserve;
mod selector;
pub mod size;
pub mod unit;

pub use defect::defect;
#[cfg(feature = "defects")]
pub use defect::switch_defect;
pub use grow::{GrowSpec, parse_growth};
pub use id::{IntentId, PoolId, PvId, VgId, VolumeId};
pub use label::{Label, LabelError, Labels};
pub use mkfs::{MkfsOptionError, MkfsOptions, Owner, RootDir};
pub use mount_options::{MountOptionError, MountOptions};
pub use name::{Name, NameError, PoolPath, SnapshotPath, VolumePath};
pub use object::*;
pub use reserve::Reserve;
pub use selector::{Selector, SelectorError};
pub use size::{SizeError, SizeSpec, parse_bytes};
pub use unit::{Bytes, Extents, Sectors};
