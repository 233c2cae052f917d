//! Options of mounts that may be asked for: a closed list, since the kernel takes much that breaks a file system or hides what is wrong with it.

use std::fmt;

use crate::FsKind;

/// What an option is to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of the mount alone.
    Mount,
    /// Of the file system, without a value.
    Flag,
    /// Of the file system, with a number from 0 to this.
    Number(u32),
    /// Of the file system, with one of these words.
    Word(&'static [&'static str]),
}

const ALL: &[FsKind] = &[FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs];
const EXT4: &[FsKind] = &[FsKind::Ext4];
const BTRFS: &[FsKind] = &[FsKind::Btrfs];
const DISCARD: &[FsKind] = &[FsKind::Ext4, FsKind::Xfs];

/// Sources: `mount(8)`, `ext4(5)`, `xfs(5)`, `btrfs(5)`.
const KNOWN: &[(&str, Kind, &[FsKind])] = &[
    ("ro", Kind::Mount, ALL),
    ("noatime", Kind::Mount, ALL),
    ("nodiratime", Kind::Mount, ALL),
    ("relatime", Kind::Mount, ALL),
    ("strictatime", Kind::Mount, ALL),
    ("noexec", Kind::Mount, ALL),
    ("sync", Kind::Flag, ALL),
    ("dirsync", Kind::Flag, ALL),
    ("lazytime", Kind::Flag, ALL),
    ("discard", Kind::Flag, DISCARD),
    ("nodiscard", Kind::Flag, EXT4),
    ("commit", Kind::Number(300), EXT4),
    ("data", Kind::Word(&["ordered", "journal"]), EXT4),
    ("journal_checksum", Kind::Flag, EXT4),
    ("compress", Kind::Word(&["zstd", "lzo", "zlib", "no"]), BTRFS),
    ("autodefrag", Kind::Flag, BTRFS),
];

/// Why something is no list of mount options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MountOptionError(String);

/// See [`MountOptions::with_context`].
const CONTEXT: &str = "context";
/// Of each of these one at most can be.
const EXCLUSIVE: [&[&str]; 2] = [&["noatime", "relatime", "strictatime"], &["discard", "nodiscard"]];

/// Options of a mount, each from the list of the file system, as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions(Vec<(&'static str, Option<String>)>);

impl MountOptions {
    /// The label of a volume that has them: they are of each mount of it.
    pub const LABEL: &str = "runtime.mount-options";

    /// Reads options with commas between them. Without a file system those of any are taken.
    ///
    /// # Errors
    /// One is not on the list, has a value that makes no sense, or is given twice.
    pub fn parse(fs: Option<FsKind>, text: &str) -> Result<Self, MountOptionError> {
        let mut options: Vec<(&'static str, Option<String>)> = Vec::new();
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (key, value) = one.split_once('=').map_or((one, None), |(key, value)| (key, Some(value)));
            let Some((key, kind, of)) = KNOWN.iter().find(|known| known.0 == key) else { return Err(unknown(fs, key)) };
            if fs.is_some_and(|fs| !of.contains(&fs)) {
                return Err(not_of(key, of));
            }
            let wrong = |what: &str| MountOptionError(format!("{key}: {what}"));
            match (kind, value) {
                (Kind::Mount | Kind::Flag, None) => {}
                (Kind::Mount | Kind::Flag, Some(_)) => return Err(wrong("it takes no value")),
                (Kind::Number(max), value) => {
                    let fits = |text: &str| text.parse::<u32>().is_ok_and(|number| number <= *max);
                    if !value.is_some_and(fits) {
                        return Err(wrong(&format!("it takes a number from 0 to {max}")));
                    }
                }
                (Kind::Word(words), value) => {
                    if !value.is_some_and(|value| words.contains(&value)) {
                        return Err(wrong(&format!("it takes one of {}", words.join(", "))));
                    }
                }
            }
            if options.iter().any(|(other, _)| other == key) {
                return Err(wrong("it is given twice"));
            }
            options.push((key, value.map(str::to_owned)));
        }
        let of_one_kind = |words: &[&str]| options.iter().filter(|(key, _)| words.contains(key)).count();
        for words in EXCLUSIVE {
            if of_one_kind(words) > 1 {
                return Err(MountOptionError(format!("only one of {} can be", words.join(", "))));
            }
        }
        Ok(Self(options))
    }

    /// These, and of `others` those that say nothing against them: the same option counts as it stands here.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        let against = |key: &str| {
            EXCLUSIVE.iter().any(|words| words.contains(&key) && self.0.iter().any(|(own, _)| words.contains(own)))
        };
        let more = others.0.iter().filter(|(key, _)| !self.0.iter().any(|(own, _)| own == key) && !against(key));
        Self(self.0.iter().chain(more).cloned().collect())
    }

    /// These, and the SELinux context of all files (`mount(8)`, `context=`): letters, digits, `_`, `:`, `.`, `,` and `-`. It is not on the list
    /// of [`MountOptions::parse`], for who may label a volume may not say who can read it.
    ///
    /// # Errors
    /// It has other characters, none at all, or more than 255.
    pub fn with_context(mut self, context: &str) -> Result<Self, MountOptionError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | ',' | '-');
        if context.is_empty() || context.len() > 255 || !context.chars().all(fits) {
            return Err(MountOptionError("context: it is no SELinux context".to_owned()));
        }
        self.0.push((CONTEXT, Some(context.to_owned())));
        Ok(self)
    }

    /// That all of them are options of this file system.
    ///
    /// # Errors
    /// The first that is not.
    pub fn of(&self, fs: FsKind) -> Result<(), MountOptionError> {
        let others = self.0.iter().filter_map(|(key, _)| KNOWN.iter().find(|known| known.0 == *key));
        match others.into_iter().find(|known| !known.2.contains(&fs)) {
            None => Ok(()),
            Some((key, _, of)) => Err(not_of(key, of)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether a word without a value is among them.
    pub fn has(&self, word: &str) -> bool {
        self.0.iter().any(|(key, _)| *key == word)
    }
    /// What is told to the file system: keys, some with a value.
    pub fn of_file_system(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        let is_mounts = |key: &str| KNOWN.iter().any(|(known, kind, _)| *known == key && *kind == Kind::Mount);
        self.0.iter().filter(move |(key, _)| !is_mounts(key)).map(|(key, value)| (*key, value.as_deref()))
    }
}

fn not_of(key: &str, of: &[FsKind]) -> MountOptionError {
    let of: Vec<_> = of.iter().map(|fs| fs.as_str()).collect();
    MountOptionError(format!("{key} is an option of {}", of.join(" and ")))
}

fn unknown(fs: Option<FsKind>, key: &str) -> MountOptionError {
    let known: Vec<_> =
        KNOWN.iter().filter(|known| fs.is_none_or(|fs| known.2.contains(&fs))).map(|known| known.0).collect();
    let near = crate::near::nearest(key, known.iter().copied());
    let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
    let key: String = key.chars().take(40).collect();
    MountOptionError(format!("{key:?} is no option that may be asked for{near} (there are: {})", known.join(", ")))
}

impl fmt::Display for MountOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match value {
                Some(value) => write!(f, "{comma}{key}={value}")?,
                None => write!(f, "{comma}{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_list_are_taken_and_no_others() {
        let ext4 = |text: &str| MountOptions::parse(Some(FsKind::Ext4), text);
        let given = ext4("noatime, commit=30,,ro").unwrap();
        assert_eq!(given.to_string(), "noatime,commit=30,ro");
        assert!(given.has("ro") && !given.has("noexec"));
        assert_eq!(given.of_file_system().collect::<Vec<_>>(), [("commit", Some("30"))]);
        assert!(ext4("").unwrap().is_empty());
        for (text, why) in [
            ("noatme", "did you mean noatime?"),
            ("rw=1", "no option that may be asked for"),
            ("noatime=1", "it takes no value"),
            ("commit", "a number from 0 to 300"),
            ("commit=301", "a number from 0 to 300"),
            ("commit=-1", "a number from 0 to 300"),
            ("data=writeback", "one of ordered, journal"),
            ("ro,ro", "given twice"),
            ("noatime,strictatime", "only one of noatime"),
            ("compress=zstd", "compress is an option of btrfs"),
            ("dev=/dev/sda", "no option"),
            ("nouuid", "no option"),
        ] {
            let error = ext4(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(MountOptions::parse(None, "compress=zstd").is_ok());
    }

    #[test]
    fn what_is_given_for_one_mount_counts_before_what_the_volume_has() {
        let parse = |text| MountOptions::parse(Some(FsKind::Ext4), text).unwrap();
        for (given, label, both) in [
            ("", "", ""),
            ("noatime", "", "noatime"),
            ("", "noatime,ro", "noatime,ro"),
            ("relatime", "noatime,ro", "relatime,ro"),
            ("commit=5", "commit=30,discard", "commit=5,discard"),
            ("nodiscard", "discard", "nodiscard"),
        ] {
            assert_eq!(parse(given).and(&parse(label)).to_string(), both, "{given:?} and {label:?}");
        }
    }
}
