//! Profiles: named sets of parameters in the configuration of a machine, so that a StorageClass need not say what is different on each.
//!
//! They are the profiles of container engines too. Each side takes from a profile what it has a word for.

use std::collections::BTreeMap;

use vol_types::near;

use crate::params::KNOWN;
use crate::{Params, Refused};

/// Parameters of profiles that container engines do not have.
pub const OF_CLASSES: [&str; 3] = ["stripes", "stripe-size", "on-delete"];

/// The parameters in a profile; what is of container engines alone is not among them.
fn parameters(profile: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    let takes = |key: &str| key != "profile" && KNOWN.iter().any(|(known, _)| *known == key);
    // A class says by `volumeMode` whether a volume has a file system.
    profile.iter().filter(move |(key, value)| takes(key) && !(*key == "fs" && value.trim() == "none"))
}

/// Checks what a profile says of volumes of an orchestrator.
///
/// # Errors
/// As [`Params::read`] says it.
pub fn check(profile: &BTreeMap<String, String>) -> Result<(), Refused> {
    let own = parameters(profile).map(|(key, value)| (key.clone(), value.clone())).collect();
    Params::read(&own, &[], &BTreeMap::new()).map(drop)
}

/// What is given, with what the profile adds that is named there. `fs` is the file system that is asked for apart from that.
pub(crate) fn with(
    given: &BTreeMap<String, String>,
    fs: Option<&str>,
    profiles: &BTreeMap<String, BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>, Refused> {
    let mut all = given.clone();
    let Some(name) = all.remove("profile").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()) else {
        return Ok(all);
    };
    let profile = profiles.get(&name).ok_or_else(|| no_profile(&name, profiles))?;
    let get = |key: &str| all.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
    // What fits no more with what is given does not count.
    let mut beside: Vec<&str> = Vec::new();
    match get("thin") {
        Some("no" | "false") => beside.push("reserve"),
        Some(_) => beside.extend(["stripes", "stripe-size"]),
        None if get("reserve").is_some() => beside.extend(["thin", "stripes", "stripe-size"]),
        None if get("stripes").is_some() => beside.push("reserve"),
        None => {}
    }
    if fs.is_some_and(|fs| fs != profile.get("fs").map_or("ext4", |of_profile| of_profile.trim())) {
        beside.extend(["fs", "mkfs-options", "mount-options"]);
    }
    for (key, value) in parameters(profile).filter(|(key, _)| !beside.contains(&key.as_str())) {
        all.entry(key.clone()).or_insert_with(|| value.clone());
    }
    Ok(all)
}

fn no_profile(name: &str, profiles: &BTreeMap<String, BTreeMap<String, String>>) -> Refused {
    let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
    let near = near::nearest(name, known.iter().copied());
    let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
    let name: String = name.chars().take(60).collect();
    Refused::invalid(format!("parameter profile: this machine has no profile {name:?}{near}")).with_hint(
        if known.is_empty() {
            "there are none: [profiles.NAME] in /etc/volumed/volumed.toml of each machine makes one".to_owned()
        } else {
            format!("in /etc/volumed/volumed.toml there are {}", known.join(", "))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Capability, Mode};
    use vol_types::{Bytes, FsKind, MountOptions};

    fn map(given: &[(&str, &str)]) -> BTreeMap<String, String> {
        given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn profiles() -> BTreeMap<String, BTreeMap<String, String>> {
        let db = map(&[
            ("fs", "xfs"),
            ("mkfs-options", "reflink=1"),
            ("size", "50G"),
            ("pool", "data/fast"),
            ("reserve", "1G"),
            ("uid", "999"),
            ("protect", "yes"),
        ]);
        let log = map(&[("thin", "no"), ("stripes", "2"), ("stripe-size", "128K"), ("on-delete", "purge")]);
        [("db".to_owned(), db), ("log".to_owned(), log)].into()
    }

    fn read(given: &[(&str, &str)], fs: Option<FsKind>) -> Result<Params, Refused> {
        let flags = MountOptions::default();
        let capability = Capability { block: false, fs, flags, mode: Mode::SingleNodeWriter };
        Params::read(&map(given), &[capability], &profiles())
    }

    #[test]
    fn a_profile_fills_in_what_was_not_said_and_nothing_that_does_not_fit() {
        profiles().values().for_each(|profile| check(profile).unwrap());
        let db = read(&[("profile", "db"), ("size", "5G")], None).unwrap();
        assert_eq!((db.fs, db.size, db.pool.as_deref()), (Some(FsKind::Xfs), Some(Bytes::gib(5)), Some("data/fast")));
        assert_eq!(db.mkfs_options, ["reflink=1"]);
        assert_eq!(db.record, r#"{"profile":"db","size":"5G"}"#, "what was asked, whatever the profile is later");
        let other = read(&[("profile", "db"), ("fs", "ext4"), ("thin", "no")], None).unwrap();
        assert_eq!((other.fs, other.mkfs_options.len(), other.reserve), (Some(FsKind::Ext4), 0, None));
        assert_eq!(read(&[("profile", "db")], Some(FsKind::Ext4)).unwrap().fs, Some(FsKind::Ext4));
        let log = read(&[("profile", "log"), ("stripes", "4")], None).unwrap();
        assert_eq!(
            (log.thin, log.stripes, log.stripe_size.as_deref(), log.purge),
            (false, Some(4), Some("128K"), true)
        );
        assert!(read(&[("profile", "log"), ("thin", "yes")], None).unwrap().stripes.is_none());
        assert!(read(&[("profile", "log"), ("reserve", "1G")], None).unwrap().thin);
        assert_eq!(read(&[("profile", "")], None).unwrap().size, None, "none at all");
    }

    #[test]
    fn a_profile_that_is_not_there_is_refused_with_the_nearest_one() {
        let text = tonic::Status::from(read(&[("profile", "dbb")], None).unwrap_err()).message().to_owned();
        assert!(text.contains("did you mean db?") && text.contains("there are db, log"), "{text}");
        let none = Params::read(&map(&[("profile", "db")]), &[], &BTreeMap::new()).unwrap_err();
        assert!(none.error.hint.unwrap().contains("[profiles.NAME]"));
        assert!(check(&map(&[("stripes", "two"), ("thin", "no")])).unwrap_err().error.message.contains("stripes"));
        check(&map(&[("fs", "none"), ("uid", "5")])).unwrap();
    }
}
