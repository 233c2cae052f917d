//! Names for people: `VG`, `VG/VOLUME`, `VG/VOLUME@SNAPSHOT`.
//!
//! A name is 1 to 128 bytes of `[A-Za-z0-9._-]` and begins with a letter or a digit, so it can be neither a path
//! component that climbs (`..`), nor an option (`-x`), nor a hidden file. Docker's own names have 64 characters.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name in bytes.
pub const NAME_MAX: usize = 128;

/// Why a string is no name. The text is meant for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name must not be empty")]
    Empty,
    #[error("a name has at most {NAME_MAX} bytes, this one has {0}")]
    TooLong(usize),
    #[error("a name begins with a letter or a digit, not with {0:?}")]
    BadStart(char),
    #[error("a name holds only letters, digits, '.', '_' and '-', not {0:?}")]
    BadCharacter(char),
    #[error("{text:?} is not of the form {form}")]
    BadForm { text: String, form: &'static str },
}

/// A valid name. A clone shares the text: what is found by its name has it in memory once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks `text` against the rules of this module.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let Some(first) = text.chars().next() else { return Err(NameError::Empty) };
        if text.len() > NAME_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::BadStart(first));
        }
        // Bytes first: a group that is opened has a hundred thousand of them, and next to none is bad.
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
            && let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
        {
            return Err(NameError::BadCharacter(bad));
        }
        Ok(Self(Arc::from(text)))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first sixteen bytes as a number. Names whose numbers differ are in the order of the numbers; of equal numbers nothing is said.
    /// Sorting by it first spares most looks at the texts, which are anywhere in memory.
    pub fn beginning(&self) -> u128 {
        let bytes = self.0.as_bytes().iter().chain(std::iter::repeat(&0)).take(16);
        bytes.fold(0, |number, byte| (number << 8) | u128::from(*byte))
    }

    /// The names that something may get whose name elsewhere is any text, the best one first: its own if that is a legal one, and one
    /// derived from it by its `hash` (hexadecimal digits, at most 64), which nobody else's is.
    pub fn candidates(text: &str, hash: &str) -> Vec<Self> {
        let own = Self::new(text).ok();
        let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
        let shown: String = text.chars().map(legal).take(NAME_MAX - 28).collect();
        let shown = shown.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).trim_end_matches(['-', '.']);
        let shown = if shown.is_empty() { "volume" } else { shown };
        let derived = Self::new(&format!("{shown}-{}", hash.get(..8).unwrap_or(hash))).ok();
        own.into_iter().chain(derived).collect()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

macro_rules! vg_member_path {
    ($(#[$doc:meta])* $path:ident, $field:ident, $form:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $path {
            pub vg: Name,
            pub $field: Name,
        }

        impl FromStr for $path {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let bad = || NameError::BadForm { text: text.to_owned(), form: $form };
                let (vg, member) = text.split_once('/').ok_or_else(bad)?;
                Ok(Self { vg: Name::new(vg)?, $field: Name::new(member)? })
            }
        }

        impl fmt::Display for $path {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.vg, self.$field)
            }
        }
    };
}

vg_member_path!(
    /// `VG/POOL`.
    PoolPath, pool, "VG/POOL"
);
vg_member_path!(
    /// `VG/VOLUME`.
    VolumePath, volume, "VG/VOLUME"
);

/// `VG/VOLUME@SNAPSHOT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotPath {
    pub volume: VolumePath,
    pub snapshot: Name,
}

impl FromStr for SnapshotPath {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::BadForm { text: text.to_owned(), form: "VG/VOLUME@SNAPSHOT" };
        let (volume, snapshot) = text.split_once('@').ok_or_else(bad)?;
        let volume = match volume.parse() {
            Err(NameError::BadForm { .. }) => return Err(bad()),
            other => other?,
        };
        Ok(Self { volume, snapshot: Name::new(snapshot)? })
    }
}

impl fmt::Display for SnapshotPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.volume, self.snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_or_options_are_refused() {
        for bad in ["", ".", "..", "-rf", ".hidden", "a/b", "a b", "a\0", "a\n", "ä", "_x", "a@b"] {
            assert!(Name::new(bad).is_err(), "{bad:?} was taken as a name");
        }
        for good in ["a", "0", "pg-data_1.old", &"x".repeat(128)] {
            assert!(Name::new(good).is_ok(), "{good:?} was refused");
        }
        assert_eq!(Name::new(&"x".repeat(129)), Err(NameError::TooLong(129)));
    }

    #[test]
    fn paths_are_read_and_shown_alike() {
        let snapshot: SnapshotPath = "data/pg@before".parse().unwrap();
        assert_eq!(snapshot.volume.to_string(), "data/pg");
        assert_eq!(snapshot.to_string(), "data/pg@before");
        for bad in ["data", "data/", "/pg", "data/pg", "data@x", "data/pg@", "data/pg@x@y", "a/b/c@d"] {
            assert!(bad.parse::<SnapshotPath>().is_err(), "{bad:?} was taken as a snapshot");
        }
        for bad in ["data", "data/a/b", "data/a@b", "/a"] {
            assert!(bad.parse::<VolumePath>().is_err(), "{bad:?} was taken as a volume");
        }
    }
}
