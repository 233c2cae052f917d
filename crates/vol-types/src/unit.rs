//! Units as types. Arithmetic that could overflow is checked; none derefs to the bare integer.

use std::fmt;
use std::iter::Sum;

/// Bytes in one of device-mapper's sectors, whatever the disk's own sector size is (`linux/types.h`, `sector_t`).
pub const SECTOR_SIZE: u64 = 512;

macro_rules! units {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            pub const ZERO: Self = Self(0);

            pub const fn get(self) -> u64 {
                self.0
            }
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(rest) => Some(Self(rest)),
                    None => None,
                }
            }
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl Sum for $name {
            /// Saturates: a sum of sizes is for people and for limits, where "too much" must stay too much.
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                Self(iter.fold(0u64, |sum, item| sum.saturating_add(item.0)))
            }
        }
    )*};
}

units! {
    /// A number of bytes.
    Bytes,
    /// A number of 512-byte sectors, device-mapper's unit.
    Sectors,
    /// A number of extents, the allocation unit of a volume group.
    Extents,
}

impl Bytes {
    pub const KIB: u64 = 1 << 10;
    pub const MIB: u64 = 1 << 20;
    pub const GIB: u64 = 1 << 30;
    pub const TIB: u64 = 1 << 40;

    pub const fn mib(count: u64) -> Self {
        Self(count * Self::MIB)
    }
    pub const fn gib(count: u64) -> Self {
        Self(count * Self::GIB)
    }
    /// The next multiple of `unit` at or above this size; `None` past 2^64 or for a unit of zero.
    pub const fn round_up(self, unit: Self) -> Option<Self> {
        match self.0.checked_next_multiple_of(unit.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }
    /// Whole sectors in this size; `None` when it is not a multiple of 512.
    pub const fn to_sectors(self) -> Option<Sectors> {
        if self.0.is_multiple_of(SECTOR_SIZE) { Some(Sectors(self.0 / SECTOR_SIZE)) } else { None }
    }
}

impl Sectors {
    /// `None` past 2^64 bytes.
    pub const fn to_bytes(self) -> Option<Bytes> {
        match self.0.checked_mul(SECTOR_SIZE) {
            Some(bytes) => Some(Bytes(bytes)),
            None => None,
        }
    }
}

impl Extents {
    /// `None` past 2^64 bytes.
    pub const fn to_bytes(self, extent_size: Bytes) -> Option<Bytes> {
        match self.0.checked_mul(extent_size.0) {
            Some(bytes) => Some(Bytes(bytes)),
            None => None,
        }
    }
}

impl fmt::Display for Bytes {
    /// Binary units with three significant digits (`10.0 GiB`), exact below 1 KiB.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 999.5 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let digits = if value < 9.995 {
            2
        } else if value < 99.95 {
            1
        } else {
            0
        };
        f.pad(&format!("{value:.digits$} {}", UNITS[unit]))
    }
}

impl fmt::Display for Extents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_binary_units_with_three_digits() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(1024), "1.00 KiB");
        assert_eq!(shown(10 * Bytes::GIB), "10.0 GiB");
        assert_eq!(shown(1536 * Bytes::MIB), "1.50 GiB");
        assert_eq!(shown(1023 * Bytes::MIB), "1.00 GiB");
        assert_eq!(shown(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn a_size_that_is_no_multiple_of_a_sector_has_no_sector_count() {
        assert_eq!(Bytes(1024).to_sectors(), Some(Sectors(2)));
        assert_eq!(Bytes(1000).to_sectors(), None);
        assert_eq!(Sectors(u64::MAX).to_bytes(), None);
    }
}
