//! Ids as orchestrators keep them: that of the object, and a mark of the machine that made it.
//!
//! The mark tells, of something that is not here, that it may be elsewhere: a volume that is to be made from it is then wanted on another
//! machine, which is no reason to give up. It is not looked at for what is here, for disks move.

use vol_types::VolumePath;

/// Hexadecimal digits of a mark.
const MARK_DIGITS: usize = 8;

/// The mark of a machine.
fn mark(node: &str) -> String {
    blake3::hash(node.as_bytes()).to_hex().as_str().get(..MARK_DIGITS).unwrap_or_default().to_owned()
}

/// The id that is told of an object of this machine.
pub fn told(id: &str, node: &str) -> String {
    format!("{id}.{}", mark(node))
}

/// The id of a group of snapshots of this name, in the form of an object's own.
pub fn group(name: &str) -> String {
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let part = |from: usize, to: usize| hash.as_str().get(from..to).unwrap_or_default().to_owned();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// The id that is told of a group.
pub fn of_group(name: &str, node: &str) -> String {
    told(&group(name), node)
}

/// The object's own id, of one that was told, or of one as `volctl` shows it; and the mark. `None`: it is no id of volumed's.
pub fn parse(text: &str) -> Option<(&str, Option<&str>)> {
    let (id, mark) = text.split_once('.').map_or((text, None), |(id, mark)| (id, Some(mark)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let is_mark = mark.is_none_or(|mark| mark.len() == MARK_DIGITS && digits(mark));
    (is_uuid && is_mark).then_some((id, mark))
}

/// Whether it is the id of something that another machine made.
pub fn is_elsewhere(text: &str, node: &str) -> bool {
    parse(text).and_then(|(_, mark)| mark).is_some_and(|told| told != mark(node))
}

/// Whether it is `VG/VOLUME`, which several machines may have. What is asked of one machine for all of them is not done to it.
pub fn is_path(text: &str) -> bool {
    text.parse::<VolumePath>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_object_and_tells_the_machine_that_made_it() {
        let id = "6c7e5d3a-1b2c-4000-8000-0123456789ab";
        let here = told(id, "n1");
        assert!(here.len() <= crate::limits::TEXT_MAX);
        assert_eq!(parse(&here).map(|(id, _)| id), Some(id));
        assert_eq!(parse(id), Some((id, None)));
        assert!(!is_elsewhere(&here, "n1") && is_elsewhere(&here, "n2") && !is_elsewhere(id, "n2"));
        assert_eq!(parse(&of_group("nightly", "n1")).map(|(id, _)| id.to_owned()), Some(group("nightly")));
        for text in [
            "",
            ".",
            "x",
            "6c7e5d3a",
            "6c7e5d3a-1b2c-4000-8000-0123456789ab.",
            "data/pg",
            "6c7e5d3a-1b2c-4000-8000-0123456789ag.01234567",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
