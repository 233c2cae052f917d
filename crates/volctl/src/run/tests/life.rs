//! What is sent and said for clones, groups of snapshots, rollbacks, names, labels and protection.

use std::collections::BTreeMap;

use vol_api::*;

use super::fake::{Daemon, Person};
use super::{GIB, plan, volume};

fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn each_verb_sends_what_it_should_and_says_what_was_done() {
    let copy = VolumeInfo { name: "copy".into(), ..volume() };
    let raw = VolumeInfo { fs: None, ..copy.clone() };
    let snapshot = SnapshotInfo { size_bytes: 10 * GIB, ..SnapshotInfo::default() };
    let labelled = VolumeInfo { labels: labels(&[("owner", "pg"), ("tier", "fast")]), ..volume() };
    let daemon = Daemon::start()
        .answer("POST /v1/clones", &Outcome::changed(copy))
        .answer("POST /v1/snapshots", &Outcome::changed(snapshot.clone()))
        .answer("POST /v1/snapshot-groups", &Outcome::changed(SnapshotList::default()))
        .answer("POST /v1/snapshots/data/pg/before/rollback", &Outcome::changed(volume()))
        .answer("POST /v1/volumes/data/pg/rename", &Outcome::changed(VolumeInfo { snapshot_count: 2, ..volume() }))
        .answer("POST /v1/snapshots/data/pg/before/rename", &Outcome::changed(snapshot.clone()))
        .answer("POST /v1/volumes/data/pg/labels", &Outcome::changed(labelled))
        .answer("POST /v1/snapshots/data/pg/before/labels", &Outcome::<SnapshotInfo>::unchanged(Some(snapshot.clone())))
        .answer("POST /v1/volumes/data/pg/protect", &Outcome::changed(volume()))
        .answer("POST /v1/volumes/data/pg/unprotect", &Outcome::<VolumeInfo>::unchanged(Some(volume())))
        .answer("POST /v1/snapshots/data/pg/before/protect", &Outcome::changed(snapshot.clone()))
        .answer("POST /v1/snapshots/data/pg/before/unprotect", &Outcome::changed(snapshot));
    for (line, said) in [
        (
            "volume clone data/pg@before data/copy --label for=test",
            "volume data/copy created: 10.0 GiB, ext4, a clone of data/pg@before. Mount it: volctl volume mount data/copy PATH\n",
        ),
        (
            "snapshot create data/pg@t1 --label a=b",
            "snapshot data/pg@t1 created: 10.0 GiB, read-only. Look into it: volctl snapshot mount data/pg@t1 PATH\n",
        ),
        (
            "snapshot create data/pg@t1 data/wal@t1",
            "2 snapshots data/pg@t1, data/wal@t1 created, all of one instant, read-only.\n",
        ),
        ("snapshot rollback data/pg@before --yes", "volume data/pg rolled back to data/pg@before: 10.0 GiB.\n"),
        ("volume rename data/pg data/db", "volume data/pg renamed to data/db, with its 2 snapshots.\n"),
        ("snapshot rename data/pg@before then", "snapshot data/pg@before renamed to data/pg@then.\n"),
        ("volume label data/pg tier=fast owner=pg old-", "volume data/pg labelled: owner=pg, tier=fast.\n"),
        ("snapshot label data/pg@before old-", "snapshot data/pg@before was already labelled: no labels.\n"),
        ("volume protect data/pg", "volume data/pg protected.\n"),
        ("volume unprotect data/pg", "volume data/pg was not protected.\n"),
        ("snapshot protect data/pg@before", "snapshot data/pg@before protected.\n"),
        ("snapshot unprotect data/pg@before", "snapshot data/pg@before no longer protected.\n"),
    ] {
        let ran = daemon.volctl(line);
        assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, said, ""), "{line}");
    }
    assert_eq!(
        daemon.requests(),
        [
            r#"POST /v1/clones {"vg":"data","volume":"pg","snapshot":"before","name":"copy","labels":{"for":"test"}}"#,
            r#"POST /v1/snapshots {"vg":"data","volume":"pg","name":"t1","labels":{"a":"b"}}"#,
            r#"POST /v1/snapshot-groups {"vg":"data","snapshots":[{"volume":"pg","name":"t1"},{"volume":"wal","name":"t1"}]}"#,
            "POST /v1/snapshots/data/pg/before/rollback",
            r#"POST /v1/volumes/data/pg/rename {"name":"db"}"#,
            r#"POST /v1/snapshots/data/pg/before/rename {"name":"then"}"#,
            r#"POST /v1/volumes/data/pg/labels {"set":{"owner":"pg","tier":"fast"},"remove":["old"]}"#,
            r#"POST /v1/snapshots/data/pg/before/labels {"set":{},"remove":["old"]}"#,
            "POST /v1/volumes/data/pg/protect",
            "POST /v1/volumes/data/pg/unprotect",
            "POST /v1/snapshots/data/pg/before/protect",
            "POST /v1/snapshots/data/pg/before/unprotect",
        ]
    );
    let ran = daemon.volctl("snapshot create data/pg@t1 data/wal@t1 -o name");
    assert_eq!((ran.exit, ran.out.as_str()), (0, "data/pg@t1\ndata/wal@t1\n"));
    let daemon = Daemon::start().answer("POST /v1/clones", &Outcome::changed(raw));
    let ran = daemon.volctl("volume clone data/pg data/copy");
    assert!(ran.out.contains("raw, a clone of data/pg. Attach it: volctl volume attach data/copy"), "{}", ran.out);
    assert!(daemon.requests().concat().contains(r#""volume":"pg","snapshot":null,"name":"copy"}"#));
    let daemon = Daemon::start().answer("POST /v1/clones", &Outcome::changed(volume()));
    assert_eq!(daemon.volctl("volume clone data/pg data/copy --size 20G --protect").exit, 0);
    assert!(daemon.requests().concat().contains(r#""name":"copy","size":"20G","protect":true}"#));
    let daemon = Daemon::start().answer("POST /v1/volumes", &Outcome::changed(volume()));
    assert_eq!(daemon.volctl("volume create data/pg --size 10G --protect").exit, 0);
    assert!(daemon.requests().concat().contains(r#""protect":true"#));
}

#[test]
fn a_list_is_kept_to_labels_by_the_daemon() {
    let found = VolumeInfo { labels: labels(&[("tier", "fast")]), ..volume() };
    let disk = PvInfo { path: Some("/dev/sdb".into()), labels: labels(&[("tier", "fast")]), ..PvInfo::default() };
    let daemon = Daemon::start()
        .answer("GET /v1/pvs?vg=data&selector=tier%3Dfast", &PvList { pvs: vec![disk] })
        .answer("GET /v1/pvs?selector=kept", &PvList::default())
        .answer("GET /v1/volumes?vg=data&selector=tier%3Dfast%2C%21old", &VolumeList { volumes: vec![found] })
        .answer("GET /v1/snapshots?selector=kept", &SnapshotList::default());
    let ran = daemon.volctl("volume list data -l tier=fast -l !old -o name");
    assert_eq!((ran.exit, ran.out.as_str()), (0, "data/pg\n"), "{}", ran.err);
    let ran = daemon.volctl("snapshot list --selector kept");
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, "", "No snapshots with such labels.\n"));
    let ran = daemon.volctl("pv list data -l tier=fast");
    assert_eq!(ran.exit, 0, "{}", ran.err);
    assert!(ran.out.contains("LABELS\n") && ran.out.contains("tier=fast\n"), "{}", ran.out);
    let ran = daemon.volctl("pv list -l kept");
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, "", "No physical volumes with such labels.\n"));
    let ran = daemon.volctl("volume list data -l tier=fast,!old -o json");
    assert!(ran.out.contains(r#""tier": "fast""#), "{}", ran.out);
}

#[test]
fn a_rollback_is_asked_for_after_it_was_found_possible() {
    let daemon = Daemon::start()
        .answer("POST /v1/snapshots/data/pg/before/rollback?dry_run=true", &plan("roll back"))
        .answer("POST /v1/snapshots/data/pg/before/rollback", &Outcome::changed(volume()));
    let ran = daemon.volctl("snapshot rollback data/pg@before");
    assert_eq!(ran.exit, 9, "{}", ran.err);
    let mut person = Person::answering("n");
    assert_eq!(daemon.volctl_with("snapshot rollback data/pg@before", &mut person).exit, 9);
    assert!(person.asked.concat().contains("All that was written since goes."), "{:?}", person.asked);
    assert!(daemon.requests().iter().all(|request| request.ends_with("dry_run=true")), "{:?}", daemon.requests());
    let ran = daemon.volctl_with("snapshot rollback data/pg@before", &mut Person::answering("y"));
    assert_eq!(ran.exit, 0, "{}", ran.err);
    let kept = VolumeInfo { kept_until: Some("2026-11-22T10:40:00Z".into()), ..volume() };
    let daemon = Daemon::start()
        .answer("POST /v1/snapshots/data/pg/before/rollback", &Outcome::changed(kept))
        .answer("POST /v1/snapshots/data/pg/before/rollback?now=true", &Outcome::changed(volume()));
    let ran = daemon.volctl("snapshot rollback data/pg@before --yes");
    assert!(ran.out.contains("What it held is kept until 2026-11-22T10:40:00Z, as a deleted snapshot"), "{}", ran.out);
    let ran = daemon.volctl("snapshot rollback data/pg@before --yes --now");
    assert_eq!(ran.out, "volume data/pg rolled back to data/pg@before: 10.0 GiB.\n");
}

#[test]
fn what_crosses_volume_groups_is_a_mistake_of_the_command_line() {
    let daemon = Daemon::start();
    for line in [
        "volume clone data/pg other/copy",
        "volume rename data/pg other/pg",
        "snapshot create data/pg@t1 other/pg@t1",
        "volume create data/pg --size 1G --label a=1 --label a=2",
        "volume label data/pg a=1 a=2",
    ] {
        let ran = daemon.volctl(line);
        assert_eq!(ran.exit, 2, "{line}: {}", ran.err);
    }
    assert_eq!(daemon.requests(), Vec::<String>::new());
}
