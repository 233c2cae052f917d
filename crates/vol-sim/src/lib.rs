//! A simulated host: disks, loop devices, device-mapper with thin pools, file systems and mounts, in memory.
//!
//! [`SimHost`] implements `HostRead` and `HostMut`. It touches no disk, clock or randomness of the machine it runs on: the same
//! seed and the same calls give the same trace ([`SimHost::trace`]). [`SimHost::fork`] copies a world cheaply, which is what
//! crash enumeration is made of.
//!
//! # Effects
//! Each call of `HostMut` (but not `new_uuid`), each write of a `write_durable`, and each `write_at` and `flush` through an open
//! device is one *effect*, numbered from 1 ([`SimHost::effects`]). Calls that read are not counted.
//!
//! # Faults of effects ([`Fault`])
//! At one effect ([`SimHost::fail_effect`]), at the next of a kind ([`SimHost::fail_next`]), from an effect on
//! ([`SimHost::fail_effects_from`]), or for all on a device ([`SimHost::fail_device`]):
//! - `Error`: nothing happens, and an error comes back. A failed flush leaves writes that no later flush makes durable.
//! - `ErrorAfter`: it happens, and an error comes back (late success, time-out).
//! - `Torn`: a write is done in part, at 512 bytes, and fails. `LostWrite`, `Junk`, `Zeros`, `Misdirected`: a write is
//!   acknowledged, and old data, random bytes, zeros are there, or the data are elsewhere. `LostWrite` of a flush: a lie.
//! - `MessageCommitFails`, `MessageCommitFailsLate`: a pool message returns success, but its commit failed: the pool is read-only
//!   with `needs_check`, and the change is undone, or did reach the disk.
//! - `NoMemory`, `NoMemoryFrom`: an ioctl inside a compound effect, or each from there on, is answered `ENOMEM`: the effect does what the
//!   real host does then, goes back if it can, and leaves a device suspended if it cannot.
//! - `KillDaemonBefore`, `KillDaemonAfter`: every call fails with `Other("the daemon is dead")` until [`SimHost::restart`]; what
//!   the kernel holds (dm, mounts, loops, unflushed writes) stays. Descriptors opened before are dead for good.
//! - `PowerCutBefore`, `PowerCutAfter`: as above, and dm, mounts, loops are gone, the next boot has another boot id, and of the
//!   unflushed sectors any subset survives ([`CrashMode`], [`SimHost::pending`], [`SimHost::settle`]). Of the writes of one
//!   `write_durable` those not yet done are unflushed then.
//! - `KillDaemonInside`, `PowerCutInside`: at a stage of a compound effect ([`EffectKind::stages`]): a device without a live table,
//!   half of a file system, an origin left suspended (until the guard resumes it: [`SimHost::set_guard_resumes`]).
//!
//! # Faults of the machine
//! Disks: removed, attached again, under another name, with an old image, and told of ([`SimHost::disk_news`]) or not, cloned, renumbered, resized, unreadable, reading as zeros or junk; ranges that
//! are zeros, junk, a flipped bit, another range's data ([`Damage`]). Pools: out of data or metadata space, read-only, failed,
//! `needs_check`, another transaction id, stray and lost thin ids. Probes that lie ([`ProbeLie`]). Mounts and devices that somebody
//! holds, unmounts and suspends behind the daemon's back. udev that opens what comes up for a moment or for good, nodes that come late
//! or never ([`SimHost::set_udev`], [`SimHost::set_node_delay`]). A clock set to anything.
//!
//! # Invariants ([`SimHost::violations`])
//! Snapshot of a running origin · mkfs on what was formatted or handed out · a thin id created again after it was used · a
//! transaction id that does not go up by one · probing what was handed out · two live devices that map one sector or show one thin volume · a write of
//! the daemon's own into what a live device maps, onto a disk in use by others, or beside a signature that was not wiped ·
//! zeroing a device in use · a device of ours with the wrong visibility · a device that is suspended now.
//!
//! # Not modelled
//! Time (nothing hangs: I/O on a suspended device is `TimedOut`), what udev does but for opening devices, data of volumes below the level of files, discard but for trim,
//! external origins, damage to pool metadata beyond the kinds of [`ThinFlaw`], the place of files on linear devices, nested
//! mount namespaces.
#![forbid(unsafe_code)]

mod check;
mod contents;
mod crash;
mod directory;
mod disk;
mod effect;
mod fault;
mod fs;
mod fs_care;
mod handle;
mod hold;
mod host;
mod image;
mod mapper;
mod message;
mod moments;
mod moving;
mod news;
mod place;
mod pool;
mod read;
mod rng;
mod setup;
mod table;
mod thin_care;
mod udev;
mod world;
mod write;

pub use crash::{CrashMode, PendingSector};
pub use disk::{Damage, DiskImage, SimDisk};
pub use effect::{Counters, Effect};
pub use fault::{EffectKind, Fault, ReadFault};
pub use fs::{Content, FsFlaw, ProbeLie};
pub use hold::Hold;
pub use host::{PoolView, SimHost, ThinView};
pub use mapper::DM_MAJOR;
pub use moments::Moment;
pub use moving::SimWipe;
pub use pool::{SimPoolMode, ThinFlaw};
pub use read::IMAGE_DIR;
