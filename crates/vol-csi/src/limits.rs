//! Sizes of what a client may send (the interface's "Size Limits"), and what else is true of every request.

use std::collections::BTreeMap;

use crate::Refused;

/// Longest name or id, in bytes.
pub const TEXT_MAX: usize = 128;
/// All keys and values of a map, in bytes; mount flags as well.
pub const MAP_MAX: usize = 4096;
/// Longest path (`PATH_MAX` with its end).
pub const PATH_MAX: usize = 4095;

/// An id that has to be there.
pub fn id<'a>(field: &str, text: &'a str) -> Result<&'a str, Refused> {
    if text.is_empty() {
        return Err(Refused::invalid(format!("{field} is missing")));
    }
    // Any text may be somebody's id; ours are none of these.
    Ok(text)
}

/// A map of texts.
pub fn map(field: &str, map: &BTreeMap<String, String>) -> Result<(), Refused> {
    let size = map.iter().fold(0usize, |size, (key, value)| size.saturating_add(key.len()).saturating_add(value.len()));
    if size > MAP_MAX {
        return Err(Refused::invalid(format!("{field} has {size} bytes, and at most {MAP_MAX} fit")));
    }
    Ok(())
}

/// A path for a volume that has to be there: absolute, without `.`, `..` and empty parts, as the mount table will have it.
pub fn path<'a>(field: &str, text: &'a str) -> Result<&'a str, Refused> {
    if text.is_empty() {
        return Err(Refused::invalid(format!("{field} is missing")));
    }
    if text.len() > PATH_MAX {
        return Err(Refused::invalid(format!("{field} has {} bytes, and at most {PATH_MAX} fit", text.len())));
    }
    let text = text.strip_suffix('/').unwrap_or(text);
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    match text.strip_prefix('/') {
        Some(parts) if parts.split('/').all(plain) => Ok(text),
        _ => Err(Refused::invalid(format!(
            "{field}: {:?} is no absolute path without '.', '..' and empty parts",
            text.chars().take(200).collect::<String>()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_climb_or_lead_nowhere_are_refused() {
        for good in ["/a", "/var/lib/kubelet/pods/x/mount", "/a/", "/a/…", "/a/b c"] {
            assert_eq!(path("p", good).unwrap(), good.trim_end_matches('/'));
        }
        let long = format!("/{}", "x".repeat(PATH_MAX));
        for bad in ["", "/", "//", "a", "a/b", "/a/../b", "/a/./b", "/a//b", "/..", "some/path", "/a\0b", long.as_str()]
        {
            assert!(path("p", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_map_has_a_bound() {
        let fits = BTreeMap::from([("k".repeat(96), "v".repeat(4000))]);
        map("parameters", &fits).unwrap();
        let more = BTreeMap::from([("k".repeat(97), "v".repeat(4000))]);
        assert!(map("parameters", &more).unwrap_err().error.message.contains("4097 bytes"));
    }
}
