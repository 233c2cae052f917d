//! What may be asked of a new file system: how its root directory is to be, and of mkfs a closed list of options for each file system, each with the values that it takes.
//!
//! An option that is not in the list could name another device, a file, or a geometry that a thin volume does not have. What
//! mkfs makes of a combination is left to mkfs: if it refuses, the volume is not made.

use crate::name::Name;
use crate::near::nearest;
use crate::object::FsKind;

/// One option that may be asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct MkfsKey {
    pub name: &'static str,
    /// How mkfs takes it.
    pub flag: &'static str,
    /// What stands before the value in the flag's argument.
    pub prefix: &'static str,
    takes: Takes,
}

/// The values of an option.
#[derive(Debug, PartialEq, Eq)]
enum Takes {
    OneOf(&'static [&'static str]),
    /// Decimal, both bounds included.
    Number(u64, u64),
    /// At most so many letters, digits, `.`, `_` and `-`.
    Label(usize),
    /// A list with commas.
    ListOf(&'static [&'static str]),
}

const fn key(name: &'static str, flag: &'static str, prefix: &'static str, takes: Takes) -> MkfsKey {
    MkfsKey { name, flag, prefix, takes }
}

/// `mke2fs(8)`, `ext4(5)`.
const EXT4: &[MkfsKey] = &[
    key("block-size", "-b", "", Takes::OneOf(&["1024", "2048", "4096"])),
    key("inode-ratio", "-i", "", Takes::Number(1024, 64 << 20)),
    key("inode-count", "-N", "", Takes::Number(16, u32::MAX as u64)),
    key("reserved-percent", "-m", "", Takes::Number(0, 50)),
    key("label", "-L", "", Takes::Label(16)),
    key(
        "features",
        "-O",
        "",
        Takes::ListOf(&[
            "casefold",
            "encrypt",
            "fast_commit",
            "inline_data",
            "large_dir",
            "metadata_csum_seed",
            "^metadata_csum_seed",
            "orphan_file",
            "^orphan_file",
            "project",
            "quota",
            "verity",
        ]),
    ),
];

/// `mkfs.xfs(8)`. Not `crc`: without it a file system is of the old format, which newer kernels do not mount.
const XFS: &[MkfsKey] = &[
    key("inode-size", "-i", "size=", Takes::OneOf(&["512", "1024", "2048"])),
    key("reflink", "-m", "reflink=", Takes::OneOf(&["0", "1"])),
    key("bigtime", "-m", "bigtime=", Takes::OneOf(&["0", "1"])),
    key("rmapbt", "-m", "rmapbt=", Takes::OneOf(&["0", "1"])),
    key("label", "-L", "", Takes::Label(12)),
];

/// `mkfs.btrfs(8)`.
const BTRFS: &[MkfsKey] = &[
    key("node-size", "-n", "", Takes::OneOf(&["4096", "8192", "16384", "32768", "65536"])),
    key("checksum", "--csum", "", Takes::OneOf(&["crc32c", "xxhash", "sha256", "blake2"])),
    key("label", "-L", "", Takes::Label(255)),
    key(
        "features",
        "-O",
        "",
        Takes::ListOf(&[
            "block-group-tree",
            "^block-group-tree",
            "free-space-tree",
            "^free-space-tree",
            "no-holes",
            "^no-holes",
            "quota",
            "squota",
        ]),
    ),
];

/// All that may be asked of one mkfs.
pub const fn mkfs_keys(fs: FsKind) -> &'static [MkfsKey] {
    match fs {
        FsKind::Ext4 => EXT4,
        FsKind::Xfs => XFS,
        FsKind::Btrfs => BTRFS,
    }
}

/// Why an option is not taken, and which are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MkfsOptionError(String);

/// What is asked of a new file system: options that were checked, in the order in which they were given, each at most once, and
/// its root directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MkfsOptions {
    chosen: Vec<(&'static MkfsKey, String)>,
    pub root: RootDir,
}

/// The root directory of a new file system, or the directory in it that is handed out instead. What is not said stays as mkfs makes it:
/// of root, mode 0755, on ext4 with `lost+found`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootDir {
    /// A directory of this name is made in it; owner and mode are then that one's.
    pub subdir: Option<Name>,
    pub owner: Option<Owner>,
    /// Permissions with set-user-id, set-group-id and sticky, at most 0o7777.
    pub mode: Option<u16>,
    /// Nothing is in it: programs take a directory with `lost+found` for one that is in use. `e2fsck` makes that anew when it needs it.
    pub empty: bool,
}

/// Numbers, for names may mean others in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    /// `None`: the group stays as it is.
    pub gid: Option<u32>,
}

impl RootDir {
    /// Whether there is anything to be done.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for RootDir {
    /// `owner 1000:1000, mode 0750, empty`; `directory data in it, owner 1000:1000`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let subdir = self.subdir.as_ref().map(|name| format!("directory {name} in it"));
        let owner = self.owner.map(|owner| match owner.gid {
            Some(gid) => format!("owner {}:{gid}", owner.uid),
            None => format!("owner {}", owner.uid),
        });
        let mode = self.mode.map(|mode| format!("mode {mode:04o}"));
        let empty = self.empty.then(|| "empty".to_owned());
        f.write_str(&[subdir, owner, mode, empty].into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl std::str::FromStr for Owner {
    type Err = MkfsOptionError;
    /// `UID` or `UID:GID`.
    fn from_str(text: &str) -> Result<Self, MkfsOptionError> {
        let bad = || MkfsOptionError(format!("{:?} is no owner: write UID or UID:GID, as numbers", shown(text)));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // 2^32 - 1 tells the kernel to change nothing (`chown(2)`).
            text.parse::<u32>().ok().filter(|id| digits && *id != u32::MAX).ok_or_else(bad)
        };
        match text.split_once(':') {
            Some((uid, gid)) => Ok(Self { uid: number(uid)?, gid: Some(number(gid)?) }),
            None => Ok(Self { uid: number(text)?, gid: None }),
        }
    }
}

/// Reads permissions: three or four octal digits.
///
/// # Errors
/// Anything else.
pub fn parse_mode(text: &str) -> Result<u16, MkfsOptionError> {
    let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u16::from_str_radix(text, 8) {
        Ok(mode) if octal => Ok(mode),
        _ => Err(MkfsOptionError(format!(
            "{:?} is no mode: write three or four octal digits, for example 0750",
            shown(text)
        ))),
    }
}

impl MkfsOptions {
    /// Reads texts of the form `KEY=VALUE`.
    ///
    /// # Errors
    /// One that is not in the list of this file system, a value that it does not take, or one that is given twice.
    pub fn parse<T: AsRef<str>>(fs: FsKind, texts: &[T]) -> Result<Self, MkfsOptionError> {
        let error = |text: String| Err(MkfsOptionError(text));
        let keys = mkfs_keys(fs);
        let mut chosen: Vec<(&'static MkfsKey, String)> = Vec::new();
        for text in texts {
            let text = text.as_ref();
            let Some((name, value)) = text.split_once('=') else {
                return error(format!("{text:?} is no option of mkfs: write KEY=VALUE; {}", listed(fs)));
            };
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                let near = match nearest(name, keys.iter().map(|key| key.name)) {
                    Some(near) => format!(", perhaps {near} was meant"),
                    None => String::new(),
                };
                return error(format!(
                    "mkfs of {} is given no option {:?} by volumed{near}; {}",
                    fs.as_str(),
                    shown(name),
                    listed(fs)
                ));
            };
            if chosen.iter().any(|(other, _)| *other == key) {
                return error(format!("{name} is given twice"));
            }
            key.accepts(value)?;
            chosen.push((key, value.to_owned()));
        }
        let has = |name: &str| chosen.iter().any(|(key, _)| key.name == name);
        if has("inode-ratio") && has("inode-count") {
            return error("inode-ratio and inode-count say the same in two ways: give one of them".to_owned());
        }
        Ok(Self { chosen, root: RootDir::default() })
    }

    /// Whether mkfs is given nothing.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Pairs of a flag and its argument.
    pub fn arguments(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        self.chosen.iter().map(|(key, value)| (key.flag, format!("{}{value}", key.prefix)))
    }
}

impl std::fmt::Display for MkfsOptions {
    /// `label=pg, reserved-percent=0`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (key, value)) in self.chosen.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}={value}", key.name)?;
        }
        Ok(())
    }
}

impl MkfsKey {
    fn accepts(&self, value: &str) -> Result<(), MkfsOptionError> {
        let name = self.name;
        let bad = |what: String| Err(MkfsOptionError(format!("{name} takes {what}, not {:?}", shown(value))));
        match &self.takes {
            Takes::OneOf(values) if values.contains(&value) => Ok(()),
            Takes::OneOf(values) => bad(values.join(", ")),
            Takes::Number(least, most) => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                match value.parse::<u64>() {
                    Ok(number) if digits && (*least..=*most).contains(&number) => Ok(()),
                    _ => bad(format!("a number from {least} to {most}")),
                }
            }
            Takes::Label(most) => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                if !value.is_empty() && value.len() <= *most && value.bytes().all(plain) && !value.starts_with('-') {
                    Ok(())
                } else {
                    bad(format!("1 to {most} letters, digits, '.', '_' or '-', the first of them no '-'"))
                }
            }
            Takes::ListOf(values) => {
                let Some(unknown) = value.split(',').find(|word| !values.contains(word)) else { return Ok(()) };
                let near = match nearest(unknown, values.iter().copied()) {
                    Some(near) => format!(" (perhaps {near} was meant)"),
                    None => String::new(),
                };
                let all = values.join(", ");
                Err(MkfsOptionError(format!("{name} takes a list of {all}, not {:?}{near}", shown(unknown))))
            }
        }
    }
}

/// What a client sent, for a message: not without end.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

fn listed(fs: FsKind) -> String {
    let all: Vec<_> = mkfs_keys(fs).iter().map(|key| key.name).collect();
    format!("it knows {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fs: FsKind, texts: &[&str]) -> Result<Vec<String>, String> {
        let arguments =
            |options: MkfsOptions| options.arguments().map(|(flag, value)| format!("{flag} {value}")).collect();
        MkfsOptions::parse(fs, texts).map(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_in_the_list_becomes_an_argument_of_mkfs() {
        let ext4 =
            ["block-size=1024", "reserved-percent=0", "label=pg-1", "features=quota,project", "inode-count=1000"];
        assert_eq!(parse(FsKind::Ext4, &ext4).unwrap(), ["-b 1024", "-m 0", "-L pg-1", "-O quota,project", "-N 1000"]);
        let xfs = ["inode-size=1024", "reflink=0", "rmapbt=1", "label=x"];
        assert_eq!(parse(FsKind::Xfs, &xfs).unwrap(), ["-i size=1024", "-m reflink=0", "-m rmapbt=1", "-L x"]);
        assert_eq!(parse(FsKind::Btrfs, &["checksum=xxhash"]).unwrap(), ["--csum xxhash"]);
        assert_eq!(parse(FsKind::Btrfs, &[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn owners_are_numbers_and_modes_are_octal() {
        assert_eq!("1000".parse(), Ok(Owner { uid: 1000, gid: None }));
        assert_eq!("0:33".parse(), Ok(Owner { uid: 0, gid: Some(33) }));
        for bad in ["", ":", "1000:", ":1000", "root", "-1", "+5", "1:2:3", "4294967295", "99999999999", "1 "] {
            assert!(bad.parse::<Owner>().is_err(), "{bad:?}");
        }
        assert_eq!((parse_mode("750"), parse_mode("2770")), (Ok(0o750), Ok(0o2770)));
        for bad in ["", "7", "75", "07550", "888", "0x7", "u+w", "-750", "+750"] {
            assert!(parse_mode(bad).is_err(), "{bad:?}");
        }
        let root = RootDir { subdir: None, owner: "7:8".parse().ok(), mode: Some(0o70), empty: true };
        assert_eq!(root.to_string(), "owner 7:8, mode 0070, empty");
        let root = RootDir { subdir: Name::new("data").ok(), empty: false, ..root };
        assert_eq!(root.to_string(), "directory data in it, owner 7:8, mode 0070");
        assert!(!RootDir { subdir: root.subdir, ..RootDir::default() }.is_usual());
    }

    #[test]
    fn what_is_not_in_the_list_is_refused_with_the_nearest_and_the_list() {
        let refused = |fs, text: &str, words: &[&str]| {
            let error = parse(fs, &[text]).unwrap_err();
            words.iter().for_each(|word| assert!(error.contains(word), "{text}: {error}"));
        };
        refused(FsKind::Ext4, "blocksize=1024", &["perhaps block-size", "inode-ratio", "features"]);
        refused(FsKind::Ext4, "-b=1024", &["no option \"-b\"", "block-size"]);
        refused(FsKind::Ext4, "discard", &["KEY=VALUE"]);
        refused(FsKind::Ext4, "block-size=512", &["1024, 2048, 4096", "512"]);
        refused(FsKind::Ext4, "reserved-percent=51", &["0 to 50"]);
        refused(FsKind::Ext4, "reserved-percent=+5", &["0 to 50"]);
        refused(FsKind::Ext4, "features=quotas", &["perhaps quota"]);
        refused(FsKind::Ext4, "features=", &["a list of"]);
        refused(FsKind::Ext4, "journal-device=/dev/sda", &["no option"]);
        refused(FsKind::Ext4, "label=-x", &["letters"]);
        refused(FsKind::Ext4, "label=a/b", &["letters"]);
        refused(FsKind::Ext4, "label=seventeen-letters", &["1 to 16"]);
        refused(FsKind::Xfs, "label=thirteen-char", &["1 to 12"]);
        refused(FsKind::Xfs, "reserved-percent=1", &["xfs", "inode-size"]);
        refused(FsKind::Xfs, &format!("{}=1", "x".repeat(5000)), &["no option"]);
        let twice = parse(FsKind::Ext4, &["label=a", "label=b"]).unwrap_err();
        assert!(twice.contains("twice"), "{twice}");
        assert!(parse(FsKind::Ext4, &["inode-ratio=4096", "inode-count=100"]).unwrap_err().contains("one of them"));
    }
}
