//! Selectors: which labels an object must have, as people write it: `tier=fast,owner,!old`.

use std::str::FromStr;

use crate::label::{LABEL_VALUE_MAX, LabelError, check_key};

/// Most conditions of one selector.
pub const SELECTOR_TERMS_MAX: usize = 32;

/// Why something is no selector. The text is meant for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error(
        "a selector is KEY=VALUE, KEY!=VALUE, KEY or !KEY, or several with commas between them, and {0:?} has an empty one"
    )]
    Empty(String),
    #[error("a selector has at most {SELECTOR_TERMS_MAX} conditions")]
    TooMany,
    #[error("no label has a value of more than {LABEL_VALUE_MAX} bytes, as that for {0} would be")]
    ValueLength(String),
    #[error(transparent)]
    Key(#[from] LabelError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Is(String, String),
    /// Also of an object that has no such label.
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

/// What an object's labels must be: all of its conditions hold. Without conditions, every object fits.
///
/// A value with a comma in it cannot be written here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

impl Selector {
    /// Whether an object fits whose labels are told by `label`.
    pub fn fits<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|term| match term {
            Term::Is(key, value) => label(key) == Some(value),
            Term::IsNot(key, value) => label(key) != Some(value),
            Term::Has(key) => label(key).is_some(),
            Term::HasNot(key) => label(key).is_none(),
        })
    }
}

fn term(text: &str) -> Result<Term, SelectorError> {
    let key = |key: &str| check_key(key).map(|()| key.to_owned());
    let value = |key: &str, value: &str| {
        if value.len() > LABEL_VALUE_MAX {
            Err(SelectorError::ValueLength(key.to_owned()))
        } else {
            Ok(value.to_owned())
        }
    };
    Ok(match (text.split_once('='), text.strip_prefix('!')) {
        // The value may have any character, also those that mean something in front of it.
        (Some((name, text)), None) => match name.strip_suffix('!') {
            Some(name) => Term::IsNot(key(name)?, value(name, text)?),
            None => Term::Is(key(name)?, value(name, text)?),
        },
        (_, Some(name)) => Term::HasNot(key(name)?),
        (None, None) => Term::Has(key(text)?),
    })
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in text.split(',') {
            if part.is_empty() {
                return Err(SelectorError::Empty(text.to_owned()));
            }
            if terms.len() >= SELECTOR_TERMS_MAX {
                return Err(SelectorError::TooMany);
            }
            terms.push(term(part)?);
        }
        Ok(Self(terms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(selector: &str, labels: &[(&str, &'static str)]) -> bool {
        let selector: Selector = selector.parse().unwrap();
        selector.fits(|key| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
    }

    #[test]
    fn all_conditions_must_hold() {
        let labels = [("tier", "fast"), ("owner", "pg"), ("note", "a=b!")];
        for yes in ["tier=fast", "tier", "!old", "tier=fast,owner,!old", "tier!=slow", "old!=x", "note=a=b!"] {
            assert!(fits(yes, &labels), "{yes}");
        }
        for no in ["tier=slow", "old", "!tier", "tier=fast,old", "tier!=fast", "owner=", "tier=fast,!owner"] {
            assert!(!fits(no, &labels), "{no}");
        }
        assert!(Selector::default().fits(|_| None));
    }

    #[test]
    fn what_is_no_selector_is_refused_in_words() {
        for bad in ["", ",", "tier,", ",tier", "=fast", "!", "!=x", "!a=b", "a b", "-x", "tier fast=1"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad:?} was taken as a selector");
        }
        assert_eq!("a,".parse::<Selector>(), Err(SelectorError::Empty("a,".into())));
        let many = vec!["a"; SELECTOR_TERMS_MAX + 1].join(",");
        assert_eq!(many.parse::<Selector>(), Err(SelectorError::TooMany));
        let long = format!("key={}", "v".repeat(LABEL_VALUE_MAX + 1));
        assert_eq!(long.parse::<Selector>(), Err(SelectorError::ValueLength("key".into())));
    }
}
