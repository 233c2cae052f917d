use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn read(pairs: &[(&str, &str)]) -> Result<Options, ApiError> {
    Options::read(&map(pairs), &Settings::default())
}

#[test]
fn without_options_there_are_defaults() {
    let options = read(&[]).unwrap();
    assert_eq!((options.size, options.fs, options.thin), (Bytes::gib(10), Some(FsKind::Ext4), true));
    assert_eq!((options.owner(), options.pool, options.from, options.reserve), (None, None, None, None));
    assert_eq!((options.protect, options.on_remove, options.record.as_str()), (false, OnRemove::Delete, "{}"));
}

#[test]
fn every_option_counts() {
    let all = [
        ("size", "1.5G"),
        ("fs", "xfs"),
        ("mkfs-options", "reflink=1  label=pg"),
        ("mount-options", "noatime,ro"),
        ("uid", "999"),
        ("mode", "0750"),
        ("pool", "data/fast"),
        ("protect", "yes"),
        ("reserve", "full"),
        ("on-remove", "keep"),
        ("thin", "true"),
        ("o", "timeout=30"),
    ];
    let options = read(&all).unwrap();
    assert_eq!(options.size, Bytes::mib(1536));
    assert_eq!(options.mkfs_options, ["reflink=1", "label=pg"]);
    assert_eq!(options.mount_options.to_string(), "noatime,ro");
    assert_eq!(options.owner().unwrap(), "999:999", "a user's own group unless another is named");
    assert_eq!(options.pool, Some(PoolChoice::parse("data/fast").unwrap()));
    assert!(options.protect && options.on_remove == OnRemove::Keep && options.thin);
    assert_eq!(options.reserve.as_deref(), Some("full"));
    assert!(!options.record.contains("timeout"), "what Podman keeps to itself is no option of the volume");
    assert_eq!(Options::recorded(&options.record).unwrap()["size"], "1.5G");
    for (key, _) in KNOWN {
        assert!(["from", "profile", "gid"].contains(key) || all.iter().any(|(given, _)| given == key), "{key}");
    }
    assert_eq!(read(&[("gid", "5")]).unwrap().owner().unwrap(), "0:5");
}

#[test]
fn what_makes_no_sense_is_refused_and_says_what_does() {
    for (key, value, why) in [
        ("sise", "1G", "did you mean size?"),
        ("Size", "1G", "did you mean size?"),
        ("type", "ext4", "did you mean fs?"),
        ("thinpool", "x", "did you mean pool?"),
        ("device", "/dev/sda", "did you mean from?"),
        ("zzzzzzzzzzz", "1", "is not known"),
        ("", "1", "is not known"),
        ("size", "0", "above zero"),
        ("size", "-1G", "negative"),
        ("size", "80%FREE", "not a unit"),
        ("size", "", "empty"),
        ("size", "99999999999999999999", "2^64"),
        ("fs", "zfs", "no file system that volumed makes"),
        ("fs", "EXT4", "no file system that volumed makes"),
        ("mkfs-options", "reflink=1", "mkfs-options"),
        ("mkfs-options", "-F", "mkfs-options"),
        ("mount-options", "noatme", "did you mean noatime?"),
        ("mount-options", "compress=zstd", "option of btrfs"),
        ("uid", "postgres", "only numbers"),
        ("uid", "-1", "only numbers"),
        ("uid", "+1", "only numbers"),
        ("uid", "4294967295", "only numbers"),
        ("gid", "4294967296", "only numbers"),
        ("mode", "rwx", "mode:"),
        ("mode", "9", "mode:"),
        ("pool", "a/b/c", "not understood"),
        ("pool", "-rf", "not understood"),
        ("thin", "maybe", "not understood"),
        ("from", "data/", "not understood"),
        ("from", "data/pg@", "not understood"),
        ("from", "", "not understood"),
        ("profile", "gold", "no profile \"gold\""),
        ("protect", "2", "not understood"),
        ("reserve", "half", "not understood"),
        ("on-remove", "ask", "not understood"),
        ("o", "noatime", "mount-options"),
        ("o", "uid=5", "-o uid=5"),
    ] {
        let error = read(&[(key, value)]).unwrap_err();
        let told = format!("{error} {}", error.hint.clone().unwrap_or_default());
        assert!(told.contains(why), "{key}={value}: {told}");
    }
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    for (pairs, why) in [
        (&[("from", "data/pg"), ("fs", "xfs")][..], "fs: a clone has what its origin has"),
        (&[("from", "data/pg"), ("uid", "5")], "uid: a clone"),
        (&[("fs", "none"), ("uid", "5")], "uid: a raw volume"),
        (&[("fs", "none"), ("mount-options", "ro")], "mount-options: a raw volume"),
        (&[("thin", "no"), ("reserve", "full")], "reserve: all space"),
    ] {
        let error = read(pairs).unwrap_err();
        assert!(error.message.starts_with(why), "{error}");
    }
    assert!(read(&[("from", "data/pg"), ("size", "20G"), ("mount-options", "noatime")]).is_ok());
}

#[test]
fn what_a_clone_is_of_is_said_by_path_or_by_the_engines_own_name() {
    let of = |text: &str| read(&[("from", text)]).unwrap().from.unwrap();
    assert_eq!(of("data/pg"), Origin::Volume("data/pg".parse().unwrap()));
    assert_eq!(of("data/pg@before"), Origin::Snapshot("data/pg@before".parse().unwrap()));
    assert_eq!(of("pg"), Origin::Engines(EngineName::new("pg").unwrap(), None));
    assert_eq!(of("größe@t1"), Origin::Engines(EngineName::new("größe").unwrap(), Some(Name::new("t1").unwrap())));
}

#[test]
fn a_profile_fills_in_what_was_not_said_and_nothing_that_does_not_fit() {
    let xfs = map(&[("fs", "xfs"), ("mkfs-options", "reflink=1"), ("size", "5G"), ("uid", "7"), ("reserve", "1G")]);
    assert!(Options::check_profile(&xfs).is_ok());
    let settings = Settings {
        pool: Some(PoolChoice::parse("data").unwrap()),
        size: Some(Bytes::gib(2)),
        profile: Some("db".into()),
        profiles: [("db".to_owned(), xfs), ("small".to_owned(), map(&[("protect", "yes")]))].into(),
    };
    let with = |pairs: &[(&str, &str)]| Options::read(&map(pairs), &settings).unwrap();
    let usual = with(&[]);
    assert_eq!((usual.size, usual.fs, usual.uid), (Bytes::gib(5), Some(FsKind::Xfs), Some(7)));
    assert_eq!((usual.pool, usual.record.as_str()), (settings.pool.clone(), "{}"), "recorded is what was given");
    assert_eq!(with(&[("size", "1G")]).size, Bytes::gib(1));
    let other = with(&[("fs", "ext4")]);
    assert!(other.mkfs_options.is_empty() && other.uid == Some(7));
    assert_eq!(with(&[("fs", "none")]).uid, None);
    assert_eq!(with(&[("thin", "no")]).reserve, None);
    let small = with(&[("profile", "small")]);
    assert_eq!((small.size, small.fs, small.protect), (Bytes::gib(2), Some(FsKind::Ext4), true));
    assert_eq!(with(&[("profile", "")]).fs, Some(FsKind::Ext4), "none at all");
    let clone = with(&[("from", "pg")]);
    assert_eq!((clone.size_given, clone.fs_given, clone.pool), (false, false, None));
    assert_eq!(clone.reserve.as_deref(), Some("1G"));
    let error = Options::read(&map(&[("profile", "smal")]), &settings).unwrap_err();
    assert!(error.message.contains("did you mean \"small\"?"), "{error}");
    for key in ["profile", "from"] {
        assert!(Options::check_profile(&map(&[(key, "db")])).unwrap_err().message.contains("no such option"));
    }
    assert!(Options::check_profile(&map(&[("sise", "1G")])).unwrap_err().message.contains("did you mean size?"));
}

#[test]
fn options_too_long_for_a_label_are_recorded_by_their_hash() {
    let record = |pool: &str| read(&[("pool", &format!("{}/{pool}", "v".repeat(128)))]).unwrap().record;
    let (a, b) = (record(&"a".repeat(127)), record(&"b".repeat(127)));
    assert!(a.starts_with("blake3:") && a != b && a.len() < 256);
    assert_eq!(Options::recorded(&a), None);
}

proptest::proptest! {
    #[test]
    fn whatever_is_asked_for_is_read_or_refused(key in proptest::sample::select(KNOWN.iter().map(|one| one.0).collect::<Vec<_>>()), text in ".{0,300}") {
        if let Ok(options) = read(&[(key, &text)]) {
            assert!(options.record.len() <= vol_types::label::LABEL_VALUE_MAX);
            assert!(!options.record.chars().any(char::is_control), "it is a label: {}", options.record);
            assert!(options.mount_options.to_string().len() <= vol_types::label::LABEL_VALUE_MAX);
        }
    }
}
