//! By how much something that is there is to grow, as people write it: `+10G`, `40G`, `50%FREE`.

use std::fmt;
use std::str::FromStr;

use crate::size::{SizeError, SizeSpec, parse_bytes};
use crate::unit::Bytes;

/// What is asked of something that is to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowSpec {
    /// `+10G`: by so much.
    By(Bytes),
    /// `40G`: to this size.
    To(Bytes),
    /// `50%FREE` or `+50%FREE`: by so much of what is free, 1 to 100 percent.
    PercentFree(u8),
}

impl FromStr for GrowSpec {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let (plus, rest) = text.strip_prefix('+').map_or((false, text), |rest| (true, rest));
        Ok(match rest.parse()? {
            SizeSpec::PercentFree(percent) => Self::PercentFree(percent),
            SizeSpec::Bytes(bytes) if plus => Self::By(bytes),
            SizeSpec::Bytes(bytes) => Self::To(bytes),
        })
    }
}

impl fmt::Display for GrowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::By(bytes) => write!(f, "+{bytes}"),
            Self::To(bytes) => bytes.fmt(f),
            Self::PercentFree(percent) => write!(f, "{percent}%FREE"),
        }
    }
}

/// Reads how far something may grow by itself: `vg` (as far as there is space), `off`, or a size above zero.
///
/// # Errors
/// Anything else.
pub fn parse_growth(text: &str) -> Result<crate::Growth, SizeError> {
    Ok(match text.trim() {
        "vg" => crate::Growth::VgSpace,
        "off" => crate::Growth::Off,
        size => crate::Growth::UpTo(parse_bytes(size)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Growth;

    #[test]
    fn a_sign_tells_growing_by_from_growing_to() {
        let read = |text: &str| text.parse::<GrowSpec>();
        assert_eq!(read("+10G"), Ok(GrowSpec::By(Bytes::gib(10))));
        assert_eq!(read(" 40G "), Ok(GrowSpec::To(Bytes::gib(40))));
        assert_eq!(read("50%FREE"), Ok(GrowSpec::PercentFree(50)));
        assert_eq!(read("+50%free"), Ok(GrowSpec::PercentFree(50)));
        for bad in ["", "+", "++1G", "-1G", "+-1G", "0", "+0", "101%FREE", "0%FREE", "1G+", "10 %", "x"] {
            assert!(read(bad).is_err(), "{bad:?} was taken");
        }
        for text in ["+10GiB", "40GiB", "50%FREE"] {
            assert_eq!(read(text).unwrap().to_string().parse(), read(text), "{text}");
        }
    }

    #[test]
    fn growth_is_a_word_or_a_size() {
        assert_eq!(parse_growth("vg"), Ok(Growth::VgSpace));
        assert_eq!(parse_growth("off"), Ok(Growth::Off));
        assert_eq!(parse_growth("2T"), Ok(Growth::UpTo(Bytes(2 * Bytes::TIB))));
        for bad in ["", "on", "0", "-1G", "50%FREE", "+1G"] {
            assert!(parse_growth(bad).is_err(), "{bad:?} was taken");
        }
    }
}
