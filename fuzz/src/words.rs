//! Names, paths of names, sizes and ids as people write them.

use std::fmt::Display;
use std::str::FromStr;

use vol_types::name::NAME_MAX;
use vol_types::{Bytes, Name, PoolPath, PvId, SizeSpec, SnapshotPath, VolumePath, parse_bytes};

/// The bytes, if they are UTF-8, as each kind of word.
///
/// Claims: no panic; what is read is printed, and reads the same; a name can be neither a path, an option nor a hidden file; a
/// size is above zero, is read from its number of bytes exactly, and from what people are shown to three digits.
pub fn words(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let name = text.parse::<Name>().inspect(|found| self::name(text, found)).is_ok();
    let paths = [
        same_again::<PoolPath>(text).is_some_and(|path| path.to_string() == text),
        same_again::<VolumePath>(text).is_some_and(|path| path.to_string() == text),
        same_again::<SnapshotPath>(text).is_some_and(|path| path.to_string() == text),
    ];
    let id = same_again::<PvId>(text).is_some();
    let size = text.parse::<SizeSpec>().inspect(|found| self::size(*found)).is_ok();
    assert!(parse_bytes(text).is_err() || size, "a number of bytes that is no size");
    name || id || size || paths.contains(&true)
}

fn same_again<T: FromStr<Err: std::fmt::Debug> + Display + PartialEq>(text: &str) -> Option<T> {
    let found = text.parse::<T>().ok()?;
    let again = found.to_string().parse::<T>().expect("what was printed cannot be read");
    assert!(again == found, "{text:?} is printed as {found} and reads as {again}");
    Some(found)
}

/// The claims of a name that was read from `text`.
pub(crate) fn name(text: &str, found: &Name) {
    assert_eq!((found.as_str(), found.to_string().as_str()), (text, text));
    assert!((1..=NAME_MAX).contains(&text.len()));
    assert!(!text.starts_with(['.', '-', '_']), "{text:?}");
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{text:?}");
}

/// The claims of a size.
pub(crate) fn size(found: SizeSpec) {
    let shown = found.to_string();
    match found {
        SizeSpec::PercentFree(percent) => {
            assert!((1..=100).contains(&percent));
            assert_eq!(shown.parse(), Ok(found));
        }
        SizeSpec::Bytes(Bytes(bytes)) => {
            assert!(bytes > 0);
            assert_eq!(bytes.to_string().parse(), Ok(found), "a bare number is bytes");
            match parse_bytes(&shown) {
                Ok(near) => assert!(near.get().abs_diff(bytes) <= bytes / 180, "{bytes} is shown as {shown}"),
                // 2^64 is one more than can be said.
                Err(error) => assert!(shown == "16.0 EiB", "{bytes} is shown as {shown}: {error}"),
            }
        }
    }
}
