//! What is kept over a restart, and what becomes of a file that is damaged or cannot be written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use Runtime::{Docker, Podman};

use super::*;

const BOOT: &str = "0b3a1f5e-3a56-4f0e-9a55-6a2f4f0f1c11";
const OTHER: &str = "7e57ab1e-3a56-4f0e-9a55-6a2f4f0f1c11";
const NAME: &str = "mount-references.jsonl";

fn volume(n: u8) -> VolumeId {
    VolumeId::from_bytes([n; 16])
}

#[test]
fn references_are_known_after_a_restart_and_void_after_a_boot() {
    let dir = tempfile::tempdir().unwrap();
    let references = References::open(dir.path(), BOOT);
    assert!(!dir.path().join(NAME).exists());
    drop(references.mount(Docker, volume(1), "a").unwrap());
    drop(references.mount(Docker, volume(1), "a").unwrap());
    drop(references.mount(Podman, volume(2), "b").unwrap());
    drop(references.mount(Docker, volume(3), "c").unwrap());
    references.unmount(Docker, volume(3), "c");
    let mode = fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let all = references.all();
    assert_eq!(all.len(), 2);
    // Killed: nothing is written at an end.
    std::mem::forget(references);
    let again = References::open(dir.path(), BOOT);
    assert_eq!(again.all(), all);
    assert_eq!(again.count_of(volume(1)), 2);
    again.activated(Docker);
    let again = References::open(dir.path(), BOOT);
    assert_eq!(
        again.of_volume(volume(1)).iter().map(|one| (one.count, one.confirmed)).collect::<Vec<_>>(),
        [(1, false)]
    );
    let booted = References::open(dir.path(), OTHER);
    assert!(booted.all().is_empty());
    assert_eq!(fs::read_to_string(dir.path().join(NAME)).unwrap(), "");
}

#[test]
fn a_damaged_file_costs_what_is_damaged_and_is_said_to_be_incomplete() {
    let dir = tempfile::tempdir().unwrap();
    let references = References::open(dir.path(), BOOT);
    drop(references.mount(Docker, volume(1), "a").unwrap());
    drop(references.mount(Docker, volume(2), "b").unwrap());
    let path = dir.path().join(NAME);
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() - 9]).unwrap();
    let again = References::open(dir.path(), BOOT);
    assert_eq!(again.all().len(), 1);
    fs::write(&path, b"\xff\x00nonsense\n{}\n").unwrap();
    assert!(References::open(dir.path(), BOOT).all().is_empty());
}

#[test]
fn a_file_that_cannot_be_written_refuses_no_mount_and_is_told_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let references = References::open(&state, BOOT);
    // A file where the directory should be.
    fs::write(&state, "").unwrap();
    assert_eq!(references.problem(), None);
    assert_eq!(references.mount(Docker, volume(1), "a").unwrap().count, 1);
    let problem = references.problem().unwrap();
    assert_eq!(problem.code, "mount_references_unwritten");
    assert!(problem.message.contains("state/mount-references.jsonl"), "{problem:?}");
    assert_eq!(references.mount(Docker, volume(1), "a").unwrap().count, 2);
    fs::remove_file(&state).unwrap();
    drop(references.mount(Docker, volume(2), "b").unwrap());
    assert_eq!(references.problem(), None);
    let all = references.all();
    assert_eq!(References::open(&state, BOOT).all(), all, "what was not written before is written now");
}

#[test]
fn the_file_does_not_grow_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let references = References::open(dir.path(), BOOT);
    drop(references.mount(Docker, volume(1), "kept").unwrap());
    for _ in 0..6000 {
        drop(references.mount(Docker, volume(1), &"x".repeat(64)).unwrap());
        references.unmount(Docker, volume(1), &"x".repeat(64));
    }
    let len = fs::metadata(dir.path().join(NAME)).unwrap().len();
    assert!(len < 3 << 19, "{len} bytes");
    assert_eq!(References::open(dir.path(), BOOT).all(), references.all());
}

#[test]
fn who_looks_after_them_is_woken_when_an_engine_begins_anew_and_not_else() {
    let references = References::in_memory(BOOT);
    let rung = Arc::new(AtomicUsize::new(0));
    let bell = rung.clone();
    references.on_work(move || {
        bell.fetch_add(1, Ordering::Relaxed);
    });
    references.activated(Docker);
    drop(references.mount(Docker, volume(1), "a").unwrap());
    drop(references.mount(Podman, volume(2), "b").unwrap());
    references.activated(Podman);
    assert_eq!(rung.load(Ordering::Relaxed), 0);
    references.activated(Docker);
    assert_eq!(rung.load(Ordering::Relaxed), 1);
    assert!(!references.are_settled());
}

#[test]
fn a_reference_is_not_stale_while_its_mount_is_made_nor_after_anything_was_mounted() {
    let references = References::in_memory(BOOT);
    let mounting = references.mount(Docker, volume(1), "a").unwrap();
    let seen = references.snapshot();
    assert!(references.is_mounting(volume(1)));
    assert!(!references.forget_stale(&seen, &seen.all[0]), "the mount is being made");
    drop(mounting);
    assert!(!references.is_mounting(volume(1)));
    drop(references.mount(Docker, volume(2), "b").unwrap());
    assert!(!references.forget_stale(&seen, &seen.all[0]), "the mount tables are of before");
    let seen = references.snapshot();
    references.unmount(Docker, volume(2), "b");
    assert!(!references.forget_stale(&seen, &seen.all[1]), "it is gone already");
    assert!(references.forget_stale(&seen, &seen.all[0]));
    assert!(references.all().is_empty());
}

#[test]
fn what_an_administrator_forgets_is_gone_however_often_it_is_counted() {
    let references = References::in_memory(BOOT);
    drop(references.mount(Docker, volume(1), "a").unwrap());
    drop(references.mount(Docker, volume(1), "a").unwrap());
    drop(references.mount(Podman, volume(1), "b").unwrap());
    assert_eq!(references.forget_one(Docker, volume(1), "a").unwrap().count, 2);
    assert_eq!(references.forget_one(Docker, volume(1), "a"), None);
    assert!(!references.forget_of(Docker, volume(1)));
    assert!(references.forget_of(Podman, volume(1)));
    assert!(references.all().is_empty());
}
