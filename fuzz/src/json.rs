//! JSON: what is read can be written, and reads the same.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads the bytes as a `T`; if they are one, it is written and read again and must be the same.
///
/// # Panics
/// If it is not.
pub fn round_trip<T: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(data).ok()?;
    let text = serde_json::to_vec(&value).expect("what was read cannot be written");
    let again: T = serde_json::from_slice(&text).expect("what was written cannot be read");
    assert_eq!(again, value, "written and read again");
    Some(value)
}
