//! `/etc/fstab` (`fstab(5)`): what it wants mounted, or used as swap.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::mountinfo::unescape;

/// More than this is no such file.
const MAX: u64 = 1 << 20;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FstabEntry {
    /// From 1.
    pub line: usize,
    /// The first field, escapes undone: a device, or `UUID=…` and the like.
    pub source: PathBuf,
}

/// The entries of the file; none if there is no such file.
///
/// # Errors
/// It cannot be read, or is larger than 1 MiB.
pub fn fstab(path: &Path) -> io::Result<Vec<FstabEntry>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut text = Vec::new();
    file.take(MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 1 MiB"));
    }
    Ok(parse(&text))
}

fn parse(text: &[u8]) -> Vec<FstabEntry> {
    let lines = text.split(|byte| *byte == b'\n').zip(1..);
    let entry = |(text, line): (&[u8], usize)| {
        let field = text.split(|byte| byte.is_ascii_whitespace()).find(|field| !field.is_empty())?;
        let source = PathBuf::from(OsString::from_vec(unescape(field)));
        (!field.starts_with(b"#")).then_some(FstabEntry { line, source })
    };
    lines.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_with_their_escapes_and_comments_are_not() {
        let text = b"# /dev/volumed/data/old /old ext4\n\n\t /dev/volumed/data/pg\t/srv/pg ext4 nofail 0 2\n\
            UUID=1-2 / ext4 defaults 0 1\r\n/dev/vol\\165med/data/a /srv/a\\040b xfs\n   #x y z\nlone";
        let found: Vec<_> = parse(text).into_iter().map(|one| (one.line, one.source)).collect();
        let expected = [(3, "/dev/volumed/data/pg"), (4, "UUID=1-2"), (5, "/dev/volumed/data/a"), (7, "lone")];
        assert_eq!(found, expected.map(|(line, source)| (line, PathBuf::from(source))));
    }

    #[test]
    fn any_bytes_are_taken() {
        assert_eq!(parse(b"\xff\\777\\ \0 \n").len(), 1);
        assert_eq!(parse(b""), []);
    }

    #[test]
    fn no_file_has_no_entries_and_a_huge_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fstab");
        assert_eq!(fstab(&path).unwrap(), []);
        std::fs::write(&path, vec![b'\n'; (1 << 20) + 1]).unwrap();
        assert!(fstab(&path).is_err());
    }
}
