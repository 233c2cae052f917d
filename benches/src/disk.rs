//! A disk that may be destroyed, and what reached it.

use std::fs;
use std::ops::Sub;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// A disk under test.
#[derive(Clone, Debug)]
pub struct Disk {
    /// As it was named.
    pub node: String,
    sys: PathBuf,
    /// Bytes.
    pub size: u64,
}

/// What a disk has done since the machine started (`Documentation/admin-guide/iostats.rst`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Requests, empty flushes among them.
    pub writes: u64,
    pub bytes: u64,
    pub flushes: u64,
}

impl Sub for Written {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self {
            writes: self.writes.saturating_sub(before.writes),
            bytes: self.bytes.saturating_sub(before.bytes),
            flushes: self.flushes.saturating_sub(before.flushes),
        }
    }
}

impl Disk {
    /// # Errors
    /// It is no block device, or cannot be read.
    pub fn of(node: &str) -> Result<Self> {
        let real = fs::canonicalize(node).with_context(|| format!("{node} is not there"))?;
        let name = real.file_name().with_context(|| format!("{node} is no device"))?;
        let sys = Path::new("/sys/class/block").join(name);
        let sectors = fs::read_to_string(sys.join("size")).with_context(|| format!("{node} is no block device"))?;
        let sectors: u64 = sectors.trim().parse().with_context(|| format!("the size of {node}"))?;
        ensure!(sectors > 0, "{node} has no size");
        Ok(Self { node: node.to_owned(), sys, size: sectors * 512 })
    }

    /// # Errors
    /// The disk is gone, or the kernel tells no such counters.
    pub fn written(&self) -> Result<Written> {
        let text = fs::read_to_string(self.sys.join("stat")).with_context(|| format!("counters of {}", self.node))?;
        let all: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let at = |field: usize| all.get(field).copied();
        let writes = at(4).context("counters without writes")?;
        let sectors = at(6).context("counters without sectors")?;
        Ok(Written { writes, bytes: sectors * 512, flushes: at(15).context("this kernel does not count flushes")? })
    }

    /// Model, cache and size, for whoever reads a record later.
    pub fn about(&self) -> String {
        let read = |path: &str| fs::read_to_string(self.sys.join(path)).map(|text| text.trim().to_owned()).ok();
        let model = read("device/model").unwrap_or_else(|| "no model".to_owned());
        let cache = read("queue/write_cache").unwrap_or_else(|| "cache unknown".to_owned());
        let discard = read("queue/discard_max_bytes").unwrap_or_default();
        format!("{} ({model}, {cache}, discards up to {discard} bytes, {} MiB)", self.node, self.size >> 20)
    }

    /// Zeroes both ends and takes signatures off: what an earlier benchmark left is not found.
    pub fn clean(&self) {
        vol_tests::disk::clean(std::slice::from_ref(&self.node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_meanwhile_is_a_difference() {
        let before = Written { writes: 1, bytes: 512, flushes: 0 };
        let after = Written { writes: 11, bytes: 33_280, flushes: 7 };
        assert_eq!(after - before, Written { writes: 10, bytes: 32_768, flushes: 7 });
    }

    #[test]
    fn what_is_no_disk_is_said_to_be_none() {
        assert!(Disk::of("/nowhere").unwrap_err().to_string().contains("/nowhere"));
        assert!(Disk::of("/").is_err());
    }
}
