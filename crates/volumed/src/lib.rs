//! The daemon: configuration, control server, access control, metrics; the engine behind [`api::Backend`].
//!
//! The front half (everything but `backend`) knows HTTP, sockets and users and nothing of disks. It never makes a
//! choice about volumes, and it keeps no state that outlives the process. The data path is the kernel's alone: the
//! daemon may end at any time and no I/O notices.
#![forbid(unsafe_code)]

pub mod access;
pub mod activate;
pub mod activation;
pub mod api;
pub mod backend;
pub mod cli;
pub mod config;
pub mod csi;
pub mod daemon;
pub mod descriptors;
pub mod doctor;
#[cfg(test)]
mod documents;
pub mod guard;
pub mod liveness;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod program;
pub mod reference;
pub mod runtimes;
pub mod server;
pub mod settings;
pub mod socket;
mod state_file;
