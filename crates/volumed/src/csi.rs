//! The Container Storage Interface: a socket on which Kubernetes, or another orchestrator, asks for volumes (`vol_csi`), and what is done
//! for it.
//!
//! A request that comes while volume groups are recovered waits; those that are about the driver alone are answered at once.

mod desk;
mod places;
mod registration;
mod room;
mod socket;
#[cfg(test)]
mod tests;
mod volumes;

pub use desk::{Desk, router};
pub use socket::{Socket, open};
pub use volumes::{Shared, node_of};
