//! Options of a new volume (`docker volume create -o KEY=VALUE`): what there is, what each takes, and what a profile and the configuration add.
//!
//! An option that is not known is refused, since the engines show whatever was typed as if it counted.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use serde::{Deserialize, Serialize};
use vol_api::ApiError;
use vol_types::mkfs::parse_mode;
use vol_types::{Bytes, FsKind, MkfsOptions, MountOptions, Name, Reserve, SnapshotPath, VolumePath, near, parse_bytes};

use crate::EngineName;

/// Every option, with what it takes.
pub const KNOWN: &[(&str, &str)] = &[
    ("size", "a size, for example 20G"),
    ("fs", "ext4, xfs, btrfs or none"),
    ("mkfs-options", "KEY=VALUE with spaces between them, see docs/file-systems.md"),
    ("mount-options", "options with commas between them, for example noatime"),
    ("uid", "a number"),
    ("gid", "a number"),
    ("mode", "three or four octal digits, for example 0750"),
    ("pool", "POOL, VG/POOL, or VG if it has one pool only"),
    ("thin", "yes or no"),
    ("from", "VG/VOLUME, VG/VOLUME@SNAPSHOT, or a volume of this engine's, with @SNAPSHOT or without"),
    ("profile", "a profile of the configuration"),
    ("protect", "yes or no"),
    ("reserve", "a size, full, or none"),
    ("on-remove", "delete or keep"),
];

/// What a volume has that is asked for without a size, and whose profile and configuration name none.
pub const SIZE_DEFAULT: Bytes = Bytes::gib(10);
/// Sub-directory that is handed out instead of the root, which has a `lost+found` sooner or later.
pub const SUBDIR: &str = "data";
/// Options as the engine gave them, at most as long as a label's value.
pub const LABEL_OPTIONS: &str = "runtime.options";
/// Options of each mount of the volume.
pub const LABEL_MOUNT_OPTIONS: &str = MountOptions::LABEL;
/// What becomes of the volume when its engine removes it.
pub const LABEL_ON_REMOVE: &str = "runtime.on-remove";

/// What becomes of a volume when its engine removes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRemove {
    /// It is deleted, and can be taken back for a while.
    #[default]
    Delete,
    /// The engine does not see it any more, and nothing else happens to it.
    Keep,
}

impl OnRemove {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Keep => "keep",
        }
    }
    /// As a label has it; what is there by hand and means nothing is the safe one.
    pub fn of_label(text: Option<&str>) -> Self {
        match text {
            None | Some("delete") => Self::Delete,
            Some(_) => Self::Keep,
        }
    }
}

/// Where a volume is to be made; what is not said is found, if there is only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolChoice {
    /// A pool, or a VG that has one pool.
    Either(Name),
    Both(Name, Name),
}

impl PoolChoice {
    /// Reads `POOL`, `VG/POOL` or `VG`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = |text: &str| Name::new(text).map_err(|error| error.to_string());
        match text.split_once('/') {
            None => name(text).map(Self::Either),
            Some((vg, pool)) => Ok(Self::Both(name(vg)?, name(pool)?)),
        }
    }
}

/// What a volume is a clone of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Volume(VolumePath),
    Snapshot(SnapshotPath),
    /// By the engine's own name.
    Engines(EngineName, Option<Name>),
}

/// The configuration as far as new volumes go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where volumes are made unless it is said.
    pub pool: Option<PoolChoice>,
    /// [`SIZE_DEFAULT`] if absent.
    pub size: Option<Bytes>,
    /// For volumes that name none.
    pub profile: Option<String>,
    pub profiles: BTreeMap<String, BTreeMap<String, String>>,
}

/// What is asked of a new volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub size: Bytes,
    /// It was given, or a profile's: a clone keeps its origin's otherwise.
    pub size_given: bool,
    /// `None`: a raw volume.
    pub fs: Option<FsKind>,
    pub fs_given: bool,
    /// `KEY=VALUE`, as `CreateVolume` takes them.
    pub mkfs_options: Vec<String>,
    pub mount_options: MountOptions,
    /// Of the directory that is handed out.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: Option<String>,
    pub pool: Option<PoolChoice>,
    pub thin: bool,
    pub from: Option<Origin>,
    pub protect: bool,
    pub reserve: Option<String>,
    pub on_remove: OnRemove,
    /// What was given, as it is recorded: for people, and to tell a repetition from another request.
    pub record: String,
}

/// Of a profile, what does not count for a clone: it has what its origin has.
const OF_NEW_ONES: [&str; 8] = ["size", "fs", "mkfs-options", "uid", "gid", "mode", "pool", "thin"];

impl Options {
    /// Reads what an engine was given, with what its profile and the configuration add.
    ///
    /// # Errors
    /// `invalid`: an option is not known (the nearest is named), has a value that makes no sense, or fits with no other one.
    pub fn read(given: &BTreeMap<String, String>, settings: &Settings) -> Result<Self, ApiError> {
        let mut given = given.clone();
        if let Some(text) = given.remove("o") {
            podmans(&text)?;
        }
        let record = record(&given);
        let profile = given.remove("profile").or_else(|| settings.profile.clone()).filter(|name| !name.is_empty());
        let of_profile = match profile {
            None => BTreeMap::new(),
            Some(name) => settings.profiles.get(&name).cloned().ok_or_else(|| no_profile(&name, settings))?,
        };
        let is_clone = given.contains_key("from");
        let beside = beside(&given);
        for (key, value) in of_profile {
            if !beside.contains(&key.as_str()) {
                given.entry(key).or_insert(value);
            }
        }
        let options = Self { record, ..Self::plain(&given)? };
        Ok(Self {
            size: if options.size_given { options.size } else { settings.size.unwrap_or(SIZE_DEFAULT) },
            pool: options.pool.or_else(|| settings.pool.clone().filter(|_| !is_clone)),
            ..options
        })
    }

    /// Checks the options of a profile.
    ///
    /// # Errors
    /// As [`Options::read`]; a profile names no other profile, and no volume to clone.
    pub fn check_profile(profile: &BTreeMap<String, String>) -> Result<(), ApiError> {
        if let Some(key) = ["profile", "from"].into_iter().find(|key| profile.contains_key(*key)) {
            return Err(ApiError::invalid(format!("{key}: a profile has no such option, only a volume")));
        }
        Self::plain(profile).map(drop)
    }

    fn plain(given: &BTreeMap<String, String>) -> Result<Self, ApiError> {
        if let Some(key) = given.keys().find(|key| !KNOWN.iter().any(|(known, _)| known == key)) {
            return Err(unknown(key));
        }
        let get = |key: &str| given.get(key).map(|text| text.trim());
        let fs = match get("fs") {
            None | Some("ext4") => Some(FsKind::Ext4),
            Some("xfs") => Some(FsKind::Xfs),
            Some("btrfs") => Some(FsKind::Btrfs),
            Some("none") => None,
            Some(other) => return Err(wrong("fs", other, "it is no file system that volumed makes")),
        };
        let fs_given = given.contains_key("fs");
        let from = get("from").map(origin).transpose()?;
        let mkfs_options: Vec<String> =
            get("mkfs-options").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let mount_text = get("mount-options").unwrap_or_default();
        let mount_options = MountOptions::parse(if from.is_some() { None } else { fs }, mount_text)
            .map_err(|error| ApiError::invalid(format!("mount-options: {error}")))?;
        let number = |key: &'static str| match get(key) {
            None => Ok(None),
            // The last one means "no user" to the kernel.
            Some(text) => match text.parse::<u32>().ok().filter(|id| *id != u32::MAX) {
                Some(id) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(id)),
                _ => Err(wrong(
                    key,
                    text,
                    "names mean different users in different containers, so only numbers are taken",
                )),
            },
        };
        let yes = |key: &'static str| get(key).map(|text| yes_or_no(key, text)).transpose();
        let options = Self {
            size: get("size").map_or(Ok(SIZE_DEFAULT), |text| {
                parse_bytes(text).map_err(|error| ApiError::invalid(format!("size: {error}")))
            })?,
            size_given: given.contains_key("size"),
            fs,
            fs_given,
            mkfs_options,
            mount_options,
            uid: number("uid")?,
            gid: number("gid")?,
            mode: match get("mode") {
                None => None,
                Some(text) => {
                    parse_mode(text).map_err(|error| ApiError::invalid(format!("mode: {error}")))?;
                    Some(text.to_owned())
                }
            },
            pool: match get("pool") {
                None => None,
                Some(text) => Some(PoolChoice::parse(text).map_err(|error| wrong("pool", text, &error))?),
            },
            thin: yes("thin")?.unwrap_or(true),
            from,
            protect: yes("protect")?.unwrap_or(false),
            reserve: match get("reserve") {
                None => None,
                Some(text) => {
                    Reserve::from_str(text).map_err(|error| wrong("reserve", text, &error.to_string()))?;
                    Some(text.to_owned())
                }
            },
            on_remove: match get("on-remove") {
                None | Some("delete") => OnRemove::Delete,
                Some("keep") => OnRemove::Keep,
                Some(other) => return Err(wrong("on-remove", other, "")),
            },
            record: String::new(),
        };
        options.fits(given)?;
        Ok(options)
    }

    /// What does not go together.
    fn fits(&self, given: &BTreeMap<String, String>) -> Result<(), ApiError> {
        let clash = |key: &str, why: &str| Err(ApiError::invalid(format!("{key}: {why}")));
        if self.from.is_some()
            && let Some(key) = OF_NEW_ONES.iter().find(|key| **key != "size" && given.contains_key(**key))
        {
            return clash(key, "a clone has what its origin has; leave out either this or from");
        }
        let Some(fs) = self.fs else {
            let of_files = ["mkfs-options", "mount-options", "uid", "gid", "mode"];
            return match of_files.iter().find(|key| given.contains_key(**key)) {
                Some(key) => clash(key, "a raw volume (fs=none) has no file system"),
                None => Ok(()),
            };
        };
        if !self.thin && given.contains_key("reserve") {
            return clash("reserve", "all space of a thick volume (thin=no) is its own already");
        }
        MkfsOptions::parse(fs, &self.mkfs_options)
            .map(drop)
            .map_err(|error| ApiError::invalid(format!("mkfs-options: {error}")))
    }

    /// `UID:GID` for the directory that is handed out.
    pub fn owner(&self) -> Option<String> {
        match (self.uid, self.gid) {
            (None, None) => None,
            (uid, gid) => Some(format!("{}:{}", uid.unwrap_or(0), gid.or(uid).unwrap_or(0))),
        }
    }

    /// The options of a [`LABEL_OPTIONS`], if they stand in it in full.
    pub fn recorded(label: &str) -> Option<BTreeMap<String, String>> {
        serde_json::from_str(label).ok()
    }
}

/// What of a profile does not count beside these options: it would be of another file system, or of another kind of volume.
fn beside(given: &BTreeMap<String, String>) -> Vec<&'static str> {
    let is = |key: &str, value: &str| given.get(key).is_some_and(|text| text.trim() == value);
    let mut beside = Vec::new();
    if given.contains_key("from") {
        beside.extend(OF_NEW_ONES);
    }
    if given.contains_key("fs") {
        beside.extend(["mkfs-options", "mount-options"]);
    }
    if is("fs", "none") {
        beside.extend(["uid", "gid", "mode"]);
    }
    if given.get("thin").is_some_and(|text| yes_or_no("thin", text.trim()) == Ok(false)) {
        beside.push("reserve");
    }
    beside
}

/// As JSON; too long for a label: its hash.
fn record(given: &BTreeMap<String, String>) -> String {
    let text = serde_json::to_string(given).unwrap_or_default();
    if text.len() <= vol_types::label::LABEL_VALUE_MAX {
        return text;
    }
    format!("blake3:{}", blake3::hash(text.as_bytes()).to_hex())
}

fn takes(key: &str) -> &'static str {
    KNOWN.iter().find(|(known, _)| *known == key).map_or("", |(_, takes)| takes)
}

fn wrong(key: &str, text: &str, why: &str) -> ApiError {
    let text: String = text.chars().take(100).collect();
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    ApiError::invalid(format!("option {key}={text:?} is not understood{why}"))
        .with_hint(format!("{key} takes {}", takes(key)))
}

fn yes_or_no(key: &str, text: &str) -> Result<bool, ApiError> {
    match text {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        other => Err(wrong(key, other, "")),
    }
}

fn unknown(key: &str) -> ApiError {
    // What people bring along from other drivers.
    let other = match key {
        "type" => Some("fs"),
        "device" => Some("from"),
        "quota" | "capacity" => Some("size"),
        "fstype" | "filesystem" => Some("fs"),
        "vg" | "thinpool" => Some("pool"),
        "snapshot" | "clone" | "snapshot-of" => Some("from"),
        _ => near::nearest(key, KNOWN.iter().map(|(known, _)| *known)),
    };
    let near = other.map_or(String::new(), |near| format!("; did you mean {near}?"));
    let key: String = key.chars().take(60).collect();
    let known: Vec<_> = KNOWN.iter().map(|(known, _)| *known).collect();
    ApiError::invalid(format!("option {key:?} is not known{near}"))
        .with_hint(format!("the options are {}", known.join(", ")))
}

fn no_profile(name: &str, settings: &Settings) -> ApiError {
    let known: Vec<_> = settings.profiles.keys().map(String::as_str).collect();
    let near =
        near::nearest(name, known.iter().copied()).map_or(String::new(), |near| format!("; did you mean {near:?}?"));
    let hint = match known.as_slice() {
        [] => "there are none: a [profiles.NAME] in /etc/volumed/volumed.toml makes one".to_owned(),
        some => format!("there are {}", some.join(", ")),
    };
    let name: String = name.chars().take(60).collect();
    ApiError::invalid(format!("there is no profile {name:?}{near}")).with_hint(hint)
}

fn origin(text: &str) -> Result<Origin, ApiError> {
    let bad = |error: vol_types::NameError| wrong("from", text, &error.to_string());
    if text.contains('/') {
        return Ok(match text.contains('@') {
            true => Origin::Snapshot(text.parse().map_err(bad)?),
            false => Origin::Volume(text.parse().map_err(bad)?),
        });
    }
    let (name, snapshot) = text.split_once('@').map_or((text, None), |(name, snapshot)| (name, Some(snapshot)));
    let snapshot = snapshot.map(Name::new).transpose().map_err(bad)?;
    let name = EngineName::new(name).map_err(|error| wrong("from", text, &error.message))?;
    Ok(Origin::Engines(name, snapshot))
}

/// The option `o`, of which Podman keeps `timeout` to itself; what else `mount(8)` has there belongs elsewhere.
fn podmans(text: &str) -> Result<(), ApiError> {
    for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let key = one.split_once('=').map_or(one, |(key, _)| key);
        if key == "timeout" {
            continue;
        }
        let hint = if KNOWN.iter().any(|(known, _)| *known == key) {
            format!("write it as an option of its own: -o {one}")
        } else {
            "options of the mount are said with mount-options, for example -o mount-options=noatime".to_owned()
        };
        let one: String = one.chars().take(60).collect();
        return Err(
            ApiError::invalid(format!("option o: {one:?} is not known; o takes timeout=SECONDS only")).with_hint(hint)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
