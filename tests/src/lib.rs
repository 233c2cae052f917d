//! What the tests of whole machines share. The binaries' names say where they run: `device_*` as root on disks that the caller
//! names (in the lab, or on a host with device-mapper), `scenario_*` on a host, from where they boot, cut off and boot guests.
//!
//! A test that cannot run prints `skipped: REASON` and passes.
#![forbid(unsafe_code)]

pub mod contract;
pub mod csi;
pub mod disk;
pub mod dying;
pub mod engine;
pub mod guest;
pub mod kernel;
pub mod kill;
pub mod machine;
pub mod scrape;
pub mod tool;
pub mod wire;
pub mod write_log;

pub use disk::Bytes;
pub use machine::{Machine, Ran};

/// Says that a test did not run, and why.
pub fn skip(reason: &str) {
    println!("skipped: {reason}");
}

/// Numbers that look random; the seed is printed, so that a failure can be repeated.
pub struct Random(u64);

impl Random {
    /// Seeded from VOLUMED_TEST_SEED, or from the clock.
    pub fn new() -> Random {
        let given = std::env::var("VOLUMED_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
        let seed = given.unwrap_or_else(now);
        println!("VOLUMED_TEST_SEED={seed}");
        Random(seed | 1)
    }

    /// A number below `end` (xorshift64).
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

impl Default for Random {
    fn default() -> Random {
        Random::new()
    }
}
