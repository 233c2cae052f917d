//! Labels: what people and front ends note on a volume or a PV, as `key=value`, and select by.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Most labels of one volume, or one PV.
pub const LABELS_MAX: usize = 32;
/// Longest key in bytes.
pub const LABEL_KEY_MAX: usize = 63;
/// Longest value in bytes: a CSI name has up to 128 bytes, front ends keep such names here.
pub const LABEL_VALUE_MAX: usize = 255;

/// Why something is no label, or no list of labels. The text is meant for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("a label is KEY=VALUE, and {0:?} has no =")]
    NoValue(String),
    #[error("the key of a label has 1 to {LABEL_KEY_MAX} bytes, {0:?} has not")]
    KeyLength(String),
    #[error(
        "the key of a label begins with a letter or a digit and holds only these and '.', '_', '-' and '/', not as {0:?}"
    )]
    KeyCharacter(String),
    #[error("the value of a label has at most {LABEL_VALUE_MAX} bytes, that of {key} has {len}")]
    ValueLength { key: String, len: usize },
    #[error("the value of a label holds no control characters, that of {0} does")]
    ValueCharacter(String),
    #[error("there are at most {LABELS_MAX} labels")]
    TooMany,
}

/// A label: both halves are checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    key: String,
    value: String,
}

impl Label {
    /// Checks both halves against the rules of this module.
    pub fn new(key: &str, value: &str) -> Result<Self, LabelError> {
        check_key(key)?;
        if value.len() > LABEL_VALUE_MAX {
            return Err(LabelError::ValueLength { key: key.to_owned(), len: value.len() });
        }
        if value.chars().any(char::is_control) {
            return Err(LabelError::ValueCharacter(key.to_owned()));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
    pub fn key(&self) -> &str {
        &self.key
    }
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl FromStr for Label {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let (key, value) = text.split_once('=').ok_or_else(|| LabelError::NoValue(text.to_owned()))?;
        Self::new(key, value)
    }
}

/// Checks the key of a label.
pub fn check_key(key: &str) -> Result<(), LabelError> {
    if key.is_empty() || key.len() > LABEL_KEY_MAX {
        return Err(LabelError::KeyLength(key.to_owned()));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if !key.starts_with(|c: char| c.is_ascii_alphanumeric()) || !key.chars().all(fits) {
        return Err(LabelError::KeyCharacter(key.to_owned()));
    }
    Ok(())
}

/// The labels of one volume or PV, at most [`LABELS_MAX`], one value for each key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Takes the place of a label with the same key. On an error nothing is changed.
    pub fn set(&mut self, label: Label) -> Result<(), LabelError> {
        if self.0.len() >= LABELS_MAX && !self.0.contains_key(&label.key) {
            return Err(LabelError::TooMany);
        }
        self.0.insert(label.key, label.value);
        Ok(())
    }
    /// Whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
    /// In the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Of labels with one key the last counts; those beyond [`LABELS_MAX`] are left out.
impl FromIterator<Label> for Labels {
    fn from_iter<T: IntoIterator<Item = Label>>(labels: T) -> Self {
        let mut all = Self::default();
        labels.into_iter().for_each(|label| {
            let _ = all.set(label);
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_a_label() {
        let label: Label = "app.example/tier=gold = 1".parse().unwrap();
        assert_eq!(
            (label.key(), label.value(), label.to_string().as_str()),
            ("app.example/tier", "gold = 1", "app.example/tier=gold = 1")
        );
        assert_eq!("team=".parse::<Label>().unwrap().value(), "");
    }

    #[test]
    fn what_is_no_label_is_refused_with_the_reason() {
        assert_eq!("team".parse::<Label>(), Err(LabelError::NoValue("team".to_owned())));
        for key in ["", "-x", "/x", "ä", "a b", &"k".repeat(64)] {
            Label::new(key, "v").unwrap_err();
        }
        assert!(matches!(Label::new("k", &"v".repeat(256)), Err(LabelError::ValueLength { len: 256, .. })));
        assert!(matches!(Label::new("k", "a\nb"), Err(LabelError::ValueCharacter(_))));
    }

    #[test]
    fn a_volume_has_so_many_labels_and_one_value_for_each_key() {
        let mut labels = Labels::default();
        for n in 0..LABELS_MAX {
            labels.set(Label::new(&format!("k{n}"), "1").unwrap()).unwrap();
        }
        assert_eq!(labels.set(Label::new("more", "1").unwrap()), Err(LabelError::TooMany));
        labels.set(Label::new("k0", "2").unwrap()).unwrap();
        assert_eq!((labels.len(), labels.get("k0")), (LABELS_MAX, Some("2")));
        assert!(labels.remove("k0") && !labels.remove("k0"));
    }
}
