//! The on-disk format of volumed: bytes to values and back. `docs/spec/on-disk-format.md` is its specification, to the byte.
//!
//! Nothing here does I/O, reads a clock, draws randomness or knows what a catalog means. The same values give the same
//! bytes for ever. Every function accepts every input: lengths are checked against their bounds before they are used,
//! before a checksum is trusted and after, so hostile or damaged bytes give an error and never a panic (the lints below
//! hold the code to that). Invariants are numbered FMT-1, FMT-2 … in the specification and cited by number here.
//!
//! - [`layout`]: where everything stands on a device;
//! - [`label`]: the block that says "this device is PV x of VG y";
//! - [`mark`]: the GPT that shows other tools that a whole disk is taken;
//! - [`record`]: one commit in the log; [`checkpoint`]: all objects at one sequence number;
//! - [`examine`]: all of it at once, for people who look at a disk;
//! - [`feature`]: which other releases may read and write the group;
//! - [`thin`]: a reader of the kernel's own metadata of a thin pool.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod checkpoint;
pub mod examine;
pub mod feature;
pub mod field;
pub mod label;
pub mod layout;
pub mod mark;
pub mod object;
pub mod payload;
pub mod record;
pub mod thin;
pub mod tlv;

pub mod envelope;
