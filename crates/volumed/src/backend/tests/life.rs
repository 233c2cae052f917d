//! Clones, groups of snapshots, rollbacks, names, labels and protection, from the request to the answer.

use std::collections::BTreeMap;

use vol_api::*;

use super::*;
use crate::api::{Backend as _, Life as _};

fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn clone_request(snapshot: Option<&str>, name: &str) -> CloneVolume {
    CloneVolume {
        vg: "data".into(),
        volume: "pg".into(),
        snapshot: snapshot.map(str::to_owned),
        name: name.into(),
        labels: labels(&[("for", "test")]),
        ..CloneVolume::default()
    }
}

#[test]
fn an_answer_tells_labels_protection_and_what_a_clone_was_made_from() {
    let (_host, backend) = furnished();
    done(backend.create_snapshot(snapshot_request("before"), false));
    let made = done(backend.clone_volume(clone_request(Some("before"), "copy"), false));
    let of = made.clone_of.unwrap();
    assert_eq!((of.name.as_str(), of.exists), ("data/pg@before", true));
    assert_eq!((made.labels, made.protected, made.fs.as_deref()), (labels(&[("for", "test")]), false, Some("ext4")));
    // The name of what it was made from is the one that it has now.
    assert_eq!(done(backend.rename_volume(&volume("data/pg"), Rename { name: "db".into() }, false)).name, "db");
    let renamed = backend.rename_snapshot(&snapshot("data/db@before"), Rename { name: "then".into() }, false);
    assert_eq!(done(renamed).full_name, "data/db@then");
    assert_eq!(backend.volume(&volume("data/copy")).unwrap().clone_of.unwrap().name, "data/db@then");
    done(backend.delete_snapshot(&snapshot("data/db@then"), true, false));
    let of = backend.volume(&volume("data/copy")).unwrap().clone_of.unwrap();
    assert_eq!((of.name.as_str(), of.exists), ("data/pg@before", false), "as it was when the clone was made");
    assert_eq!(backend.volume(&volume("data/db")).unwrap().clone_of, None);

    assert!(done(backend.protect_volume(&volume("data/copy"), true, false)).protected);
    let (code, message, hint) = failed(backend.delete_volume(&volume("data/copy"), false, false));
    assert_eq!((code, message.as_str()), ("refused", "cannot delete data/copy: it is protected"));
    assert_eq!(hint, "`volctl volume unprotect data/copy` takes the protection away");
    assert!(!done(backend.protect_volume(&volume("data/copy"), false, false)).protected);

    let set = Relabel { set: labels(&[("tier", "fast")]), remove: vec!["for".into()] };
    assert_eq!(
        done(backend.label_volume(&volume("data/copy"), set.clone(), false)).labels,
        labels(&[("tier", "fast")])
    );
    assert!(!outcome(backend.label_volume(&volume("data/copy"), set, false)).changed);
}

#[test]
fn a_group_answers_all_of_its_snapshots_and_a_rollback_its_volume() {
    let (_host, backend) = furnished();
    done(backend.create_volume(volume_request("wal", "64M", "none"), false));
    let one = |volume: &str| SnapshotName { volume: volume.into(), name: "t1".into() };
    let request =
        SnapshotGroup { vg: "data".into(), snapshots: vec![one("pg"), one("wal")], labels: labels(&[("set", "1")]) };
    let planned = planned(backend.create_snapshots(request.clone(), true));
    assert_eq!(planned.title, "create 2 snapshots of one instant");
    let made = done(backend.create_snapshots(request.clone(), false)).snapshots;
    let names: Vec<_> = made.iter().map(|one| one.full_name.as_str()).collect();
    assert_eq!(names, ["data/pg@t1", "data/wal@t1"]);
    assert!(made.iter().all(|one| one.labels == labels(&[("set", "1")])));
    assert_eq!(failed(backend.create_snapshots(request, false)).0, "exists");
    assert_eq!(done(backend.rollback(&snapshot("data/wal@t1"), true, false)).name, "wal");
    assert!(done(backend.protect_snapshot(&snapshot("data/pg@t1"), true, false)).protected);
    assert_eq!(failed(backend.delete_snapshot(&snapshot("data/pg@t1"), true, false)).0, "refused");
    let set = Relabel { set: labels(&[("a", "b")]), ..Relabel::default() };
    assert_eq!(done(backend.label_snapshot(&snapshot("data/pg@t1"), set, false)).labels.len(), 2);
    done(backend.protect_snapshot(&snapshot("data/pg@t1"), false, false));
}

#[test]
fn what_is_no_label_or_name_is_named_in_the_refusal() {
    let (_host, backend) = furnished();
    let set = |all: &[(&str, &str)]| Relabel { set: labels(all), ..Relabel::default() };
    let relabel = |relabel| failed(backend.label_volume(&volume("data/pg"), relabel, false));
    assert_eq!(relabel(set(&[("-x", "y")])).0, "invalid");
    assert!(relabel(set(&[("x", &"v".repeat(256))])).1.contains("at most 255 bytes"));
    assert!(relabel(Relabel { remove: vec!["a b".into()], ..Relabel::default() }).1.starts_with("remove: "));
    let request = CloneVolume { labels: labels(&[("x", "a\nb")]), ..clone_request(None, "copy") };
    assert!(failed(backend.clone_volume(request, false)).1.contains("no control characters"));
    let bad = failed(backend.rename_volume(&volume("data/pg"), Rename { name: "../x".into() }, false));
    assert!(bad.1.starts_with("name: a name begins with"), "{}", bad.1);
    let bad = failed(backend.clone_volume(clone_request(Some("a/b"), "copy"), false));
    assert!(bad.1.starts_with("snapshot: "), "{}", bad.1);
}
