//! `volume resize`, `check`, `trim`, and options of mkfs.

use super::*;

#[test]
fn resize_check_and_trim_send_what_they_should_and_say_what_came_of_it() {
    let mounted = VolumeInfo {
        size_bytes: 40 * GIB,
        mounts: vec![MountInfo { path: "/srv/pg".into(), read_only: false }],
        ..volume()
    };
    let idle = VolumeInfo { name: "idle".into(), size_bytes: 11 * GIB, ..volume() };
    let trim = TrimInfo { trimmed_bytes: 3 * GIB, volume: volume() };
    let daemon = Daemon::start()
        .answer("POST /v1/volumes/data/pg/resize", &Outcome::changed(mounted))
        .answer("POST /v1/volumes/data/idle/resize", &Outcome::changed(idle))
        .answer("POST /v1/volumes/data/pg/check", &Outcome::unchanged(Some(volume())))
        .answer("POST /v1/volumes/data/pg/check?dry_run=true", &plan("repair data/pg"))
        .answer("POST /v1/volumes/data/pg/trim", &Outcome::changed(trim));
    for (line, said) in [
        ("volume resize data/pg 40G", "volume data/pg has 40.0 GiB now.\n"),
        (
            "volume resize data/idle +1G",
            "volume data/idle has 11.0 GiB now. Its file system grows when it is mounted writable the next time\n",
        ),
        ("volume check data/pg", "volume data/pg checked: no errors were found.\n"),
        ("volume check data/pg --repair --yes", "volume data/pg checked: no errors were found.\n"),
        ("volume trim data/pg", "volume data/pg trimmed: 3.00 GiB discarded.\n"),
    ] {
        let ran = daemon.volctl(line);
        assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, said, ""), "{line}");
    }
    assert_eq!(
        daemon.requests(),
        [
            r#"POST /v1/volumes/data/pg/resize {"size":"40G"}"#,
            r#"POST /v1/volumes/data/idle/resize {"size":"+1G"}"#,
            r#"POST /v1/volumes/data/pg/check {"repair":false}"#,
            r#"POST /v1/volumes/data/pg/check {"repair":true}"#,
            "POST /v1/volumes/data/pg/trim",
        ]
    );
}

#[test]
fn a_repair_asks_first_and_sends_nothing_but_the_dry_run_before() {
    let daemon = Daemon::start().answer("POST /v1/volumes/data/pg/check?dry_run=true", &plan("repair data/pg"));
    let ran = daemon.volctl("volume check data/pg --repair");
    assert!(ran.exit == 9 && ran.err.contains("--yes"), "{}", ran.err);
    assert_eq!(daemon.requests(), [r#"POST /v1/volumes/data/pg/check?dry_run=true {"repair":true}"#]);
}

#[test]
fn options_of_mkfs_are_sent_as_they_were_typed() {
    let daemon = Daemon::start().answer("POST /v1/volumes", &Outcome::changed(volume()));
    let line = "volume create data/pg --size 10G --mkfs-option label=pg --mkfs-option features=quota,project";
    assert_eq!(daemon.volctl(line).exit, 0);
    assert!(daemon.requests()[0].contains(r#""mkfs_options":["label=pg","features=quota,project"]"#));
}

#[test]
fn a_directory_that_is_handed_out_is_asked_for_and_shown() {
    let made = VolumeInfo { subdir: Some("data".to_owned()), ..volume() };
    let daemon = Daemon::start()
        .answer("POST /v1/volumes", &Outcome::changed(made.clone()))
        .answer("GET /v1/volumes/data/pg", &made)
        .answer("POST /v1/volumes/data/pg/mount", &Outcome::changed(made));
    assert_eq!(daemon.volctl("volume create data/pg --size 10G --subdir data").exit, 0);
    let shown = daemon.volctl("volume show data/pg").out;
    assert!(shown.lines().any(|line| line.starts_with("mounted directory") && line.ends_with(" data")), "{shown}");
    assert_eq!(daemon.volctl("volume mount data/pg /nowhere/pg --whole").exit, 0);
    let sent = daemon.requests();
    assert!(sent[0].contains(r#""subdir":"data""#), "{sent:?}");
    assert_eq!(sent[2], r#"POST /v1/volumes/data/pg/mount {"path":"/nowhere/pg","read_only":false,"whole":true}"#);
}
