//! The Container Storage Interface, version 1.12, as volumed serves it: what is asked, whether it makes sense, and what is answered.
//!
//! It reads no disk, no clock and no socket: the daemon hands it requests, and is the one behind its trait ([`Volumes`]). Each request may
//! come again, since who heard no answer cannot know what became of it: what is so already is answered as if it had just been done.
#![forbid(unsafe_code)]

mod bindings;
mod block;
mod capability;
#[cfg(feature = "client")]
pub mod client;
pub mod controller;
mod error;
pub mod expand;
pub mod group;
pub mod health;
pub mod identity;
pub mod ids;
mod limits;
pub mod metadata;
mod name;
pub mod node;
mod params;
pub mod profile;
mod rpc;
mod size;
pub mod snapshot;
pub mod stats;
mod volumes;

pub use bindings::{csi, registration};
pub use capability::{Capability, Mode};
pub use error::Refused;
pub use expand::Mutable;
pub use name::CsiName;
pub use params::{
    KNOWN, LABEL_EPHEMERAL, LABEL_GROUP, LABEL_NAME, LABEL_ON_DELETE, LABEL_RECORD, LABEL_SNAPSHOT, Params,
};
pub use rpc::Rpc;
pub use size::Range;
pub use volumes::{Kind, Placed, Room, SIZE_DEFAULT, Settings, Snapshot, Source, Volume, Volumes, Wanted};
