//! What is fuzzed, and what each target claims beyond "it does not panic".
//!
//! A target is a function from bytes to `bool`: it panics if a claim does not hold, and says whether the bytes were accepted
//! (so that a count shows that the claims were put to the test at all). The binaries in `fuzz_targets/` hand it to libFuzzer;
//! `tests/replay.rs` runs the corpora and mutations of them on a stable toolchain, as part of the ordinary tests. See
//! `docs/fuzzing.md`.
//!
//! # To add a target
//! Write the function, put it into [`TARGETS`], add a binary of its name to `Cargo.toml` and `fuzz_targets/`, a folder of its
//! name to `corpus/` (from [`seed::all`] and a run of `cargo xtask fuzz`), its floors to `tests/replay.rs` and a row to
//! `docs/fuzzing.md`. A type that is read from JSON needs one line in [`api_body`]'s list if it is a body of the API, and is a
//! target of its own otherwise.
#![forbid(unsafe_code)]

mod api;
mod backup;
mod checkpoint;
mod csi;
mod dm;
mod engine;
mod image;
pub mod json;
mod label;
pub mod mutate;
mod record;
pub mod repair;
pub mod seed;
mod thin;
mod uevent;
mod words;

pub use api::api_body;
pub use backup::backup_json;
pub use checkpoint::{checkpoint_header, checkpoint_payload};
pub use csi::csi_request;
pub use dm::{dm_status, dm_table};
pub use engine::engine_request;
pub use image::image;
pub use label::label;
pub use record::{record, record_payload};
pub use thin::thin_metadata;
pub use uevent::uevent;
pub use words::words;

/// A target: what libFuzzer's binary and the corpus folder are called, and what it runs.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Whether the bytes, as they are or repaired, were accepted by what is under test.
    pub run: fn(&[u8]) -> bool,
}

macro_rules! targets {
    ($($name:ident)*) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $name }),*];
    };
}

targets! { label record record_payload checkpoint_header checkpoint_payload image dm_status dm_table api_body backup_json engine_request csi_request thin_metadata uevent words }
