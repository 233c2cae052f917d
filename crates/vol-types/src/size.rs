//! Sizes as people write them: `10G`, `512MiB`, `10GB`, `80%FREE`.
//!
//! `K M G T P E` and `KiB MiB …` are powers of 1024, as LVM and Docker's `size=` mean them; `KB MB …` are powers of 1000.
//! (The size crates of the registry read a bare `G` as 10^9, which would make every volume 7 % too small.)
//! Parsing is done in integers: `1.5G` is exact, and more than 2^64 bytes is an error rather than a rounding.

use std::fmt;
use std::str::FromStr;

use crate::unit::Bytes;

/// Why a string is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error("a size must not be empty; write for example 10G")]
    Empty,
    #[error("{0:?} is negative; a size is above zero")]
    Negative(String),
    #[error("{0:?} is not a size; write a number and a unit, for example 512M, 10G or 1.5T")]
    NotANumber(String),
    #[error("{unit:?} is not a unit; K, M, G, T, P and E are powers of 1024, KB, MB … powers of 1000")]
    UnknownUnit { unit: String },
    #[error("a size must be above zero")]
    Zero,
    #[error("{0:?} is more than 2^64 bytes")]
    TooLarge(String),
    #[error("{0:?} is not a percentage between 1 and 100 with FREE behind it, for example 80%FREE")]
    BadPercentage(String),
}

/// A size as asked for: so many bytes, or a share of what is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeSpec {
    Bytes(Bytes),
    /// 1 to 100 percent of the free space.
    PercentFree(u8),
}

impl FromStr for SizeSpec {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let Some((number, of)) = text.split_once('%') else { return parse_bytes(text).map(Self::Bytes) };
        let bad = || SizeError::BadPercentage(text.to_owned());
        if !of.eq_ignore_ascii_case("FREE") || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        match number.parse() {
            Ok(percent @ 1..=100) => Ok(Self::PercentFree(percent)),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for SizeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::PercentFree(percent) => write!(f, "{percent}%FREE"),
        }
    }
}

/// Reads a size above zero. A bare number is bytes. A fraction is allowed (`1.5G`); what is left below one byte is cut off.
pub fn parse_bytes(text: &str) -> Result<Bytes, SizeError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(SizeError::Empty);
    }
    if text.starts_with('-') {
        return Err(SizeError::Negative(text.to_owned()));
    }
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits_only = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits_only(whole) || !digits_only(fraction) || number.ends_with('.') {
        return Err(SizeError::NotANumber(text.to_owned()));
    }
    let multiplier = u128::from(unit_bytes(unit.trim())?);
    let too_large = || SizeError::TooLarge(text.to_owned());
    let whole: u128 = whole.parse().map_err(|_| too_large())?;
    // Eighteen digits are finer than one byte in an exbibyte; more could overflow and mean nothing.
    let fraction = &fraction[..fraction.len().min(18)];
    let fraction_value: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| too_large())? };
    let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| too_large())?);
    let bytes = whole
        .checked_mul(multiplier)
        .and_then(|bytes| bytes.checked_add(fraction_value * multiplier / scale))
        .ok_or_else(too_large)?;
    match u64::try_from(bytes) {
        Ok(0) => Err(SizeError::Zero),
        Ok(bytes) => Ok(Bytes(bytes)),
        Err(_) => Err(too_large()),
    }
}

fn unit_bytes(unit: &str) -> Result<u64, SizeError> {
    let lower = unit.to_ascii_lowercase();
    let binary = |power: u32| 1u64 << (10 * power);
    let decimal = |power: u32| 1000u64.pow(power);
    let power_of = |letter: &str| "kmgtpe".find(letter).and_then(|at| u32::try_from(at + 1).ok());
    let unknown = || SizeError::UnknownUnit { unit: unit.to_owned() };
    match lower.as_str() {
        "" | "b" => Ok(1),
        _ => {
            let (letter, rest) = lower.split_at_checked(1).ok_or_else(unknown)?;
            let power = power_of(letter).ok_or_else(unknown)?;
            match rest {
                "" | "i" | "ib" => Ok(binary(power)),
                "b" => Ok(decimal(power)),
                _ => Err(unknown()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bare_letter_is_a_power_of_1024() {
        assert_eq!(parse_bytes("10G"), Ok(Bytes(10 << 30)));
        assert_eq!(parse_bytes("10GiB"), Ok(Bytes(10 << 30)));
        assert_eq!(parse_bytes("10 g"), Ok(Bytes(10 << 30)));
        assert_eq!(parse_bytes("10GB"), Ok(Bytes(10_000_000_000)));
        assert_eq!(parse_bytes("1.5T"), Ok(Bytes(3 << 39)));
        assert_eq!(parse_bytes("4096"), Ok(Bytes(4096)));
    }

    #[test]
    fn what_is_no_size_is_refused_with_its_own_reason() {
        assert_eq!(parse_bytes(""), Err(SizeError::Empty));
        assert_eq!(parse_bytes("0"), Err(SizeError::Zero));
        assert_eq!(parse_bytes("0.0G"), Err(SizeError::Zero));
        assert!(matches!(parse_bytes("-1G"), Err(SizeError::Negative(_))));
        assert!(matches!(parse_bytes("ten"), Err(SizeError::NotANumber(_))));
        assert!(matches!(parse_bytes("1.2.3G"), Err(SizeError::NotANumber(_))));
        assert!(matches!(parse_bytes("10.G"), Err(SizeError::NotANumber(_))));
        assert!(matches!(parse_bytes("10X"), Err(SizeError::UnknownUnit { .. })));
        assert!(matches!(parse_bytes("10Gä"), Err(SizeError::UnknownUnit { .. })));
        assert!(matches!(parse_bytes("10ä"), Err(SizeError::UnknownUnit { .. })));
        assert!(matches!(parse_bytes("16E"), Err(SizeError::TooLarge(_))));
        assert!(matches!(parse_bytes("1e3"), Err(SizeError::UnknownUnit { .. })));
        assert!(matches!(parse_bytes("NaN"), Err(SizeError::NotANumber(_))));
    }

    #[test]
    fn a_share_of_the_free_space_is_1_to_100_percent() {
        assert_eq!("80%FREE".parse(), Ok(SizeSpec::PercentFree(80)));
        assert_eq!("100%free".parse(), Ok(SizeSpec::PercentFree(100)));
        for bad in ["0%FREE", "101%FREE", "80%", "80%VG", "-1%FREE", "+5%FREE", "%FREE", "8.5%FREE"] {
            assert!(matches!(bad.parse::<SizeSpec>(), Err(SizeError::BadPercentage(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            let _ = text.parse::<SizeSpec>();
        }
    }
}
