//! The real host against a real kernel: loop devices over temporary files, and device-mapper on top of them.
//!
//! Needs root; what needs device-mapper runs in the lab (`cargo xtask lab run`). No disk of the machine is touched.

#[macro_use]
#[path = "device_host/support.rs"]
mod support;

#[path = "device_host/disks.rs"]
mod disks;
#[path = "device_host/file_systems.rs"]
mod file_systems;
#[path = "device_host/io_paths.rs"]
mod io_paths;
#[path = "device_host/maps.rs"]
mod maps;
#[path = "device_host/slices.rs"]
mod slices;
#[path = "device_host/snapshots.rs"]
mod snapshots;
