//! The names that orchestrators give volumes, and the names that those get in a volume group.

use std::fmt;

use vol_types::Name;

use crate::Refused;
use crate::limits::TEXT_MAX;

/// 1 to 128 bytes of any text without control characters. What it is called in the volume group is made of it, and it stands in full in a
/// label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CsiName(String);

impl CsiName {
    /// Checks a name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`: there is none, it is too long, or has control characters.
    pub fn new(text: &str) -> Result<Self, Refused> {
        if text.is_empty() {
            return Err(Refused::invalid("name is missing"));
        }
        if text.len() > TEXT_MAX {
            return Err(Refused::invalid(format!("name has {} bytes, and at most {TEXT_MAX} fit", text.len())));
        }
        if text.chars().any(char::is_control) {
            return Err(Refused::invalid("name has control characters"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names that it may get in its group, the best one first.
    pub fn candidates(&self) -> Vec<Name> {
        Name::candidates(&self.0, blake3::hash(self.0.as_bytes()).to_hex().as_str())
    }
}

impl fmt::Display for CsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_interface_allows_gets_a_name() {
        for text in ["pvc-0d3f", "a", &"x".repeat(128), "größe/…@x", "日本", "-", "..", "a b\\\"'$(x)"] {
            let name = CsiName::new(text).unwrap();
            assert!(!name.candidates().is_empty() && name.as_str() == text, "{text}");
        }
        for text in ["", "a\nb", "\0", &"x".repeat(129), &"日".repeat(43)] {
            assert!(CsiName::new(text).is_err(), "{text:?}");
        }
    }
}
