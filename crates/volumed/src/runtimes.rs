//! Container engines: a socket for each of them, on which they ask for volumes (`vol_docker`), and what is done for them.
//!
//! A request that comes while volume groups are recovered waits. If it waits too long, or the daemon ends, its connection is closed: dockerd
//! takes an error for the news that its volume is gone, and forgets what it knew of it.

mod desk;
mod making;
mod sockets;
mod stand_in;
mod turns;
mod volumes;

pub use desk::{Desk, router};
pub use sockets::{Sockets, open};
pub use volumes::Shared;
