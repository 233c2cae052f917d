//! How much of its pool is set aside for a volume, as people write it.

use std::fmt;
use std::str::FromStr;

use crate::size::{SizeError, parse_bytes};
use crate::unit::Bytes;

/// What `--reserve` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// `0` or `none`.
    None,
    /// All of the size that the volume has when it is asked for.
    Full,
    Bytes(Bytes),
}

impl FromStr for Reserve {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, SizeError> {
        match text.trim() {
            "full" => Ok(Self::Full),
            "none" | "0" => Ok(Self::None),
            size => parse_bytes(size).map(Self::Bytes),
        }
    }
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Full => f.write_str("full"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_a_size_or_a_word() {
        let read = |text: &str| text.parse::<Reserve>();
        assert_eq!(read("full"), Ok(Reserve::Full));
        assert_eq!((read("none"), read("0")), (Ok(Reserve::None), Ok(Reserve::None)));
        assert_eq!(read(" 10G "), Ok(Reserve::Bytes(Bytes::gib(10))));
        for wrong in ["", "-1G", "all", "10%FREE", "Full"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
