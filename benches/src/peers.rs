//! The peers: volumed, the bare ioctls, LVM2.

mod bare;
mod daemon;
mod lvm;

pub use bare::Bare;
pub use daemon::{Daemon, Options};
pub use lvm::Lvm;
