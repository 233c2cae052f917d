//! The list of volumes as it is written.

use std::collections::BTreeSet;

use vol_api::VolumeList;
use vol_types::Selector;

use super::*;

fn written(backend: &Sim, selector: &str) -> String {
    let selector = if selector.is_empty() { Selector::default() } else { selector.parse().unwrap() };
    let rows = backend.volume_rows(None, selector).unwrap();
    serde_json::to_string(&rows).unwrap()
}

/// What the list is when each volume is asked for by itself.
fn one_by_one(backend: &Sim, names: &[&str]) -> String {
    let volumes = names.iter().map(|name| backend.volume(&volume(&format!("data/{name}"))).unwrap()).collect();
    serde_json::to_string(&VolumeList { volumes }).unwrap()
}

#[test]
fn the_rows_are_on_the_wire_what_each_volume_is_by_itself_whatever_was_shown_before_it() {
    let (_host, backend) = furnished();
    let labels = [("tier".to_owned(), "gold \"1\"".to_owned())].into();
    done(backend.create_volume(CreateVolume { labels, ..volume_request("labelled", "2G", "xfs") }, false));
    done(backend.create_volume(CreateVolume { pool: None, ..volume_request("a-b", "1G", "none") }, false));
    done(backend.create_snapshot(snapshot_request("s1"), false));
    done(backend.mount_volume(&volume("data/pg"), mount_at("/mnt/pg"), false));
    done(backend.attach_volume(&volume("data/a-b"), false));
    let all = ["a-b", "labelled", "pg", "raw"];
    assert_eq!(written(&backend, ""), one_by_one(&backend, &all));
    assert!(written(&backend, "").contains("/mnt/pg"));
    assert_eq!(written(&backend, "tier"), one_by_one(&backend, &["labelled"]));
    assert_eq!(written(&backend, "!tier"), one_by_one(&backend, &["a-b", "pg", "raw"]));
    assert_eq!(written(&backend, "tier=silver"), r#"{"volumes":[]}"#);
    let listed: Vec<_> = backend.volumes(None).unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(listed, all);
}

#[test]
fn a_list_is_shown_in_one_record_and_one_look_at_the_group() {
    let (_host, backend) = furnished();
    for n in (0..60).rev() {
        done(backend.create_volume(volume_request(&format!("volume-number-{n:04}"), "64M", "none"), false));
    }
    let rows = backend.volume_rows(Some(&name("data")), Selector::default()).unwrap();
    let (mut records, mut names) = (BTreeSet::new(), Vec::new());
    rows.each(&mut |row| {
        records.insert(std::ptr::from_ref(row).addr());
        names.push(row.name.clone());
        true
    });
    assert_eq!((records.len(), names.len()), (1, 62));
    assert!(names.is_sorted(), "{names:?}");
    // They are written once, and who asks twice is told so instead of being shown an empty list.
    serde_json::to_string(&rows).unwrap_err();
    let rows = backend.volume_rows(None, Selector::default()).unwrap();
    let mut shown = 0;
    rows.each(&mut |_| {
        shown += 1;
        shown < 3
    });
    assert_eq!(shown, 3, "it ends when its reader does");
}
