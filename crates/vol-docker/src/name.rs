//! The names that container engines give volumes, and the names that those get in a volume group.

use std::fmt;

use vol_api::ApiError;
use vol_types::Name;
use vol_types::label::LABEL_VALUE_MAX;

/// A volume's name in an engine: the value of the engine's label. 1 to 255 bytes of any text without control characters, `/` and `@`, and without
/// white space at either end; not `.` and `..`, which the engines' own paths cannot have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineName(String);

impl EngineName {
    /// Checks a name that an engine sent.
    ///
    /// # Errors
    /// `invalid`, with the rule that it breaks.
    pub fn new(text: &str) -> Result<Self, ApiError> {
        let wrong = |why: String| {
            Err(ApiError::invalid(format!("volume name {:?}: {why}", shortened(text))).with_hint(
                "a name of letters, digits, '_', '.' and '-' that begins with a letter or a digit always fits",
            ))
        };
        if text.is_empty() {
            return Err(ApiError::invalid("the request names no volume"));
        }
        if text.len() > LABEL_VALUE_MAX {
            return wrong(format!("it has {} bytes, and at most {LABEL_VALUE_MAX} fit", text.len()));
        }
        if let Some(bad) = text.chars().find(|c| c.is_control() || matches!(c, '/' | '@')) {
            return wrong(format!("{bad:?} is not allowed in it"));
        }
        if matches!(text, "." | "..") {
            return wrong("no engine finds it again".to_owned());
        }
        if text.trim() != text {
            return wrong("it begins or ends with white space".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names that the volume may get in its group, the best one first: its own if that is a legal one, and one derived from it, which nobody
    /// else's is.
    pub fn candidates(&self) -> Vec<Name> {
        Name::candidates(&self.0, blake3::hash(self.0.as_bytes()).to_hex().as_str())
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// For messages.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_engines_are_kept_as_they_are_where_that_is_legal_and_derived_else() {
        let first = |text: &str| EngineName::new(text).unwrap().candidates()[0].to_string();
        for same in ["pg", "a", "0", "A_b.c-d", &"f".repeat(64), &"x".repeat(128)] {
            assert_eq!(first(same), same);
        }
        for (text, begins) in [
            ("_x", "x-"),
            (".hidden", "hidden-"),
            ("größe", "gr--e-"),
            ("a b", "a-b-"),
            ("日本", "volume-"),
            ("...", "volume-"),
            (" \u{a0}x".trim(), "x"),
            (&"y".repeat(255), &"y".repeat(100)),
        ] {
            let derived = first(text);
            assert!(derived.starts_with(begins) && derived.len() <= 128, "{text:?}: {derived}");
        }
        assert_ne!(first("日本"), first("中国"), "what is derived from different names differs");
        let both = EngineName::new("pg").unwrap().candidates();
        assert_eq!(both.len(), 2, "a name that is taken has another one: {both:?}");
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for text in
            ["", " ", ".", "..", "a/b", "/etc", "../x", "a@b", "a\nb", "a\0", "x ", "\tx", &"z".repeat(256), "\u{7f}"]
        {
            let error = EngineName::new(text).unwrap_err();
            assert!(error.message.len() < 300, "{error}");
        }
    }
}
