//! Feature words: which releases may read and write a volume group. They stand in every label.
//!
//! A feature that an older release can ignore sets a bit in `compat`; one that it may read past but must not write,
//! in `ro_compat`; one that it must not even read, in `incompat` (FMT-30). All three are zero in version 1.0.

use std::fmt;

/// The three words of a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub compat: u64,
    pub ro_compat: u64,
    pub incompat: u64,
}

/// The bits that this release knows. A bit, once given out, is never used for anything else.
pub const SUPPORTED: Features = Features { compat: 0, ro_compat: 0, incompat: 0 };

/// What this release may do with a volume group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    /// It uses a read-only-compatible feature that this release does not know.
    ReadOnly,
}

/// The volume group uses features that this release cannot even read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("made by a newer release: needs {}, unknown to this one", Bits("incompat", *.unknown_incompat))]
pub struct FeatureError {
    /// The bits that are unknown.
    pub unknown_incompat: u64,
}

impl Features {
    /// What this release may do with a group that uses these features.
    pub const fn check(&self) -> Result<Access, FeatureError> {
        let unknown = self.unknown();
        if unknown.incompat != 0 {
            return Err(FeatureError { unknown_incompat: unknown.incompat });
        }
        Ok(if unknown.ro_compat != 0 { Access::ReadOnly } else { Access::ReadWrite })
    }

    /// The bits that this release does not know.
    pub const fn unknown(&self) -> Self {
        Self {
            compat: self.compat & !SUPPORTED.compat,
            ro_compat: self.ro_compat & !SUPPORTED.ro_compat,
            incompat: self.incompat & !SUPPORTED.incompat,
        }
    }

    /// The features of a group are those that any label of it names: a crash between two label writes loses none (FMT-31).
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            compat: self.compat | other.compat,
            ro_compat: self.ro_compat | other.ro_compat,
            incompat: self.incompat | other.incompat,
        }
    }
}

impl fmt::Display for Features {
    /// `ro_compat bit 3, incompat bits 0 and 17`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [("compat", self.compat), ("ro_compat", self.ro_compat), ("incompat", self.incompat)];
        let used = words.into_iter().filter(|(_, word)| *word != 0).map(|(name, word)| Bits(name, word).to_string());
        let used: Vec<String> = used.collect();
        if used.is_empty() { f.pad("none") } else { f.pad(&used.join(", ")) }
    }
}

/// A word's name and its bits, for people.
struct Bits(&'static str, u64);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits: Vec<String> =
            (0..u64::BITS).filter(|bit| self.1 >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
        match bits.split_last() {
            None => write!(f, "{} no bit", self.0),
            Some((only, [])) => write!(f, "{} bit {only}", self.0),
            Some((last, others)) => write!(f, "{} bits {} and {last}", self.0, others.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fmt_30_unknown_features_are_refused_or_read_only_by_their_word() {
        let none = Features::default();
        assert_eq!(none.check(), Ok(Access::ReadWrite));
        assert_eq!(Features { compat: 1 << 40, ..none }.check(), Ok(Access::ReadWrite));
        assert_eq!(Features { ro_compat: 8, ..none }.check(), Ok(Access::ReadOnly));
        let error = Features { ro_compat: 8, incompat: 1 | 1 << 17, ..none }.check().unwrap_err();
        assert_eq!(error.to_string(), "made by a newer release: needs incompat bits 0 and 17, unknown to this one");
    }

    #[test]
    fn features_are_shown_by_word_and_bit() {
        assert_eq!(Features::default().to_string(), "none");
        let some = Features { compat: 0, ro_compat: 1 << 3, incompat: 0b111 };
        assert_eq!(some.to_string(), "ro_compat bit 3, incompat bits 0, 1 and 2");
        assert_eq!(some.union(Features { compat: 1, ..Features::default() }).compat, 1);
    }
}
