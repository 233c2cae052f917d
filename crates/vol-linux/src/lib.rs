//! The real host behind the engine's traits: dm ioctls, io_uring, libblkid, loop devices, mounts and format tools.
//!
//! [`LinuxHost`] implements [`HostRead`](vol_engine::host::HostRead) and [`HostMut`](vol_engine::host::HostMut). Every
//! call blocks in the calling thread. It is the only crate with `unsafe` code; each block says why it is sound.
#![deny(unsafe_op_in_unsafe_fn)]

mod bare;
mod disk;
mod dm;
mod error;
mod files;
mod fs;
mod fstab;
mod host;
mod io;
mod memory;
mod mount;
mod mount_attr;
mod mount_point;
mod mountinfo;
mod node_mount;
mod peer;
mod proc;
mod side_by_side;
mod slice;
mod sysfs;
mod thin;
mod tool;
mod uevent;

pub use bare::Bare;
pub use dm::guard::guard_main;
pub use fstab::{FstabEntry, fstab};
pub use host::{LinuxHost, LinuxOptions};
pub use io::IoChoice;
pub use memory::{bound_memory, give_memory_back};
pub use mountinfo::hidden_from_init;
pub use peer::{group_id, peer_groups};

/// The reader of what the kernel and udev say of disks that come and go. A pure function, open to the fuzz targets.
pub mod uevents {
    pub use crate::uevent::{Source, Uevent, parse};
}

/// Readers of what the kernel says of thin targets. Pure functions, open to the fuzz targets.
pub mod status {
    pub use crate::dm::status::{parse_pool, parse_thin};
}
