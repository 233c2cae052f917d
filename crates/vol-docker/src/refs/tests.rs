//! The sequences that engines were seen to send, what a file may hold, and any sequence at all.

use proptest::prelude::*;

use super::*;
use Runtime::{Docker, Podman};

const BOOT: &str = "0b3a1f5e-3a56-4f0e-9a55-6a2f4f0f1c11";
const A: &str = "aaaa";
const B: &str = "bbbb";
/// Podman's only one.
const PODMAN: &str = "2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2";

fn volume(n: u8) -> VolumeId {
    VolumeId::from_bytes([n; 16])
}

fn refs() -> Refs {
    Refs::new(BOOT)
}

/// The count after it.
fn mount(refs: &mut Refs, runtime: Runtime, id: &str) -> u32 {
    refs.mount(runtime, volume(1), id).unwrap().count
}

/// What is left after it.
fn unmount(refs: &mut Refs, runtime: Runtime, id: &str) -> u32 {
    refs.unmount(runtime, volume(1), id).left_of_volume
}

#[test]
fn a_container_with_copy_up_mounts_twice_and_one_is_left() {
    let mut refs = refs();
    assert_eq!(mount(&mut refs, Docker, A), 1);
    assert_eq!(unmount(&mut refs, Docker, A), 0);
    assert_eq!(mount(&mut refs, Docker, B), 1);
    assert_eq!(refs.of(volume(1)).len(), 1);
}

#[test]
fn docker_cp_unmounts_once_and_the_container_still_needs_it() {
    let mut refs = refs();
    mount(&mut refs, Docker, B);
    assert_eq!(mount(&mut refs, Docker, B), 2);
    assert_eq!(unmount(&mut refs, Docker, B), 1);
    assert_eq!(
        refs.of(volume(1)),
        [Reference { runtime: Docker, volume: volume(1), id: B.into(), count: 1, confirmed: true }]
    );
    assert_eq!(unmount(&mut refs, Docker, B), 0);
    assert!(refs.of(volume(1)).is_empty());
}

#[test]
fn containers_that_share_a_volume_are_counted_apart() {
    let mut refs = refs();
    for n in 0..30 {
        mount(&mut refs, Docker, &format!("id{n}"));
    }
    mount(&mut refs, Podman, PODMAN);
    for n in 0..30 {
        assert_eq!(unmount(&mut refs, Docker, &format!("id{n}")), 30 - n);
    }
    assert_eq!(unmount(&mut refs, Podman, PODMAN), 0);
}

#[test]
fn a_mount_after_dockerd_was_killed_confirms_and_does_not_count_up() {
    let mut refs = refs();
    mount(&mut refs, Docker, B);
    assert!(refs.activated(Docker).is_some());
    assert!(!refs.of(volume(1))[0].confirmed);
    let again = refs.mount(Docker, volume(1), B).unwrap();
    assert_eq!((again.count, again.was_unconfirmed), (1, true));
    assert!(refs.of(volume(1))[0].confirmed);
    assert_eq!(unmount(&mut refs, Docker, B), 0);
}

#[test]
fn what_dockerd_did_beside_a_container_when_it_was_killed_is_not_counted_on() {
    let mut refs = refs();
    mount(&mut refs, Docker, B);
    // docker cp, in the midst of which dockerd dies.
    mount(&mut refs, Docker, B);
    refs.activated(Docker);
    assert_eq!(refs.count_of(volume(1)), 1);
    assert_eq!(mount(&mut refs, Docker, B), 1);
    assert_eq!(mount(&mut refs, Docker, B), 2, "once confirmed it counts again");
}

#[test]
fn with_live_restore_the_old_id_is_unmounted_without_a_mount_before() {
    let mut refs = refs();
    mount(&mut refs, Docker, A);
    mount(&mut refs, Docker, B);
    refs.activated(Docker);
    assert_eq!(refs.activated(Docker), None, "nothing is left to change");
    let unmounted = refs.unmount(Docker, volume(1), B);
    assert_eq!((unmounted.known, unmounted.left_of_volume), (true, 1));
    assert_eq!(refs.of(volume(1))[0].id, A);
}

#[test]
fn to_unmount_what_nobody_mounted_is_no_error() {
    let mut refs = refs();
    let unmounted = refs.unmount(Docker, volume(1), A);
    assert_eq!(unmounted, Unmounted { known: false, left_of_volume: 0, record: None });
    mount(&mut refs, Docker, B);
    assert_eq!(refs.unmount(Docker, volume(1), A), Unmounted { known: false, left_of_volume: 1, record: None });
    // The same id of another engine, or of another volume, is another reference.
    assert!(!refs.unmount(Podman, volume(1), B).known);
    assert!(!refs.unmount(Docker, volume(2), B).known);
}

#[test]
fn podmans_constant_id_counts_once_and_its_activations_mean_nothing() {
    let mut refs = refs();
    mount(&mut refs, Podman, PODMAN);
    assert_eq!(refs.activated(Podman), None);
    assert!(refs.of(volume(1))[0].confirmed);
    // Podman gave up waiting for the answer, or lost its own count.
    let again = refs.mount(Podman, volume(1), PODMAN).unwrap();
    assert_eq!((again.count, again.was_unconfirmed, again.record), (1, false, None));
    assert_eq!(unmount(&mut refs, Podman, PODMAN), 0);
}

#[test]
fn one_engine_that_begins_anew_says_nothing_about_the_other() {
    let mut refs = refs();
    mount(&mut refs, Docker, A);
    mount(&mut refs, Podman, PODMAN);
    refs.activated(Docker);
    let confirmed: Vec<_> = refs.all().map(|one| (one.runtime, one.confirmed)).collect();
    assert_eq!(confirmed, [(Docker, false), (Podman, true)]);
}

#[test]
fn what_an_engine_has_of_a_volume_is_forgotten_and_others_keep_theirs() {
    let mut refs = refs();
    mount(&mut refs, Docker, A);
    mount(&mut refs, Docker, B);
    mount(&mut refs, Podman, PODMAN);
    refs.mount(Docker, volume(2), A).unwrap();
    assert!(refs.forget_of(Docker, volume(1)).is_some());
    assert_eq!(refs.forget_of(Docker, volume(1)), None);
    assert_eq!((refs.of(volume(1)).len(), refs.of(volume(2)).len()), (1, 1));
    assert!(refs.forget_of(Podman, volume(1)).is_some());
    assert_eq!((refs.of(volume(1)).len(), refs.of(volume(2)).len()), (0, 1));
    assert!(refs.forget_id(Docker, volume(2), A).is_some());
    assert_eq!(refs.ids(), 0);
}

#[test]
fn an_id_that_is_none_and_more_than_are_kept_are_refused() {
    let mut refs = refs();
    for bad in ["", "a\nb", &"x".repeat(ID_MAX + 1)] {
        assert_eq!(refs.mount(Docker, volume(1), bad), Err(RefsError::Id(bad.len())));
    }
    assert_eq!(refs.ids(), 0);
    mount(&mut refs, Docker, &"x".repeat(ID_MAX));
    refs.volumes.get_mut(&volume(1)).unwrap()[0].count = COUNT_MAX;
    assert_eq!(refs.mount(Docker, volume(1), &"x".repeat(ID_MAX)), Err(RefsError::Count));
    let mut many = Refs::new(BOOT);
    let of = |n: usize| VolumeId::from_bytes((n as u128).to_be_bytes());
    for n in 0..IDS_MAX {
        many.volumes
            .insert(of(n), vec![Reference { runtime: Docker, volume: of(n), id: A.into(), count: 1, confirmed: true }]);
    }
    let before = many.clone();
    assert_eq!(many.mount(Docker, of(IDS_MAX), A), Err(RefsError::Ids));
    assert_eq!(many, before);
    assert_eq!(many.mount(Docker, of(0), A).unwrap().count, 2, "what is known goes on");
}

/// What the lines of these records come to.
fn reload(lines: &str) -> Loaded {
    Refs::load(lines.lines(), BOOT)
}

#[test]
fn a_new_boot_has_no_references() {
    let mut refs = refs();
    mount(&mut refs, Docker, A);
    mount(&mut refs, Podman, PODMAN);
    let lines: String = refs.records().map(|record| record.line()).collect();
    assert_eq!(reload(&lines).refs, refs);
    let other = Refs::load(lines.lines(), "7e57ab1e-3a56-4f0e-9a55-6a2f4f0f1c11");
    assert_eq!((other.refs.ids(), other.of_other_boots, other.unreadable_lines), (0, 2, 0));
}

#[test]
fn lines_that_are_none_are_left_out_and_told() {
    let mut refs = refs();
    let good = refs.mount(Docker, volume(1), A).unwrap().record.unwrap().line();
    let changed = |from: &str, to: &str| good.replace(from, to);
    let bad = [
        "nonsense\n".to_owned(),
        "{}\n".to_owned(),
        "[[[[[[[[\n".to_owned(),
        changed(&volume(1).to_string(), "../../etc"),
        changed("\"count\":1", "\"count\":-1"),
        changed("\"count\":1", "\"count\":4294967296"),
        changed("\"count\":1", "\"count\":4294967295"),
        changed("\"docker\"", "\"lxc\""),
        changed(A, ""),
        changed(A, &"x".repeat(ID_MAX + 1)),
        good[..good.len() / 2].to_owned(),
    ];
    let mut text = good.clone();
    bad.iter().for_each(|line| text.push_str(line));
    let loaded = reload(&text);
    assert_eq!(loaded.refs, refs);
    assert_eq!(loaded.unreadable_lines, bad.len());
    assert_eq!(loaded.unreadable[0].line, 2);
    assert!(loaded.unreadable.iter().all(|one| !one.why.is_empty()));
    let many = reload(&"nonsense\n".repeat(1000));
    assert_eq!(many.unreadable_lines, 1000);
    assert!(many.unreadable.len() <= 16);
}

#[test]
fn the_last_line_about_an_id_counts() {
    let mut refs = refs();
    let mut lines = String::new();
    for step in 0..4 {
        let record = match step {
            0 | 1 => refs.mount(Docker, volume(1), A).unwrap().record,
            2 => refs.activated(Docker),
            _ => refs.unmount(Docker, volume(1), A).record,
        };
        lines.push_str(&record.unwrap().line());
        assert_eq!(reload(&lines).refs, refs);
    }
    assert_eq!(refs.ids(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Mount(Runtime, u8, u8),
    Unmount(Runtime, u8, u8),
    Activated(Runtime),
    Forget(Runtime, u8),
    ForgetId(Runtime, u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let runtime = || prop_oneof![Just(Docker), Just(Podman)];
    let step = prop_oneof![
        6 => (runtime(), 0..3u8, 0..3u8).prop_map(|(r, v, i)| Step::Mount(r, v, i)),
        5 => (runtime(), 0..3u8, 0..3u8).prop_map(|(r, v, i)| Step::Unmount(r, v, i)),
        1 => runtime().prop_map(Step::Activated),
        1 => (runtime(), 0..3u8).prop_map(|(r, v)| Step::Forget(r, v)),
        1 => (runtime(), 0..3u8, 0..3u8).prop_map(|(r, v, i)| Step::ForgetId(r, v, i)),
    ];
    prop::collection::vec(step, 0..60)
}

/// Takes a step; what is to be written down.
fn take(refs: &mut Refs, step: &Step) -> Option<Record> {
    match step {
        Step::Mount(runtime, v, i) => refs.mount(*runtime, volume(*v), &format!("id{i}")).unwrap().record,
        Step::Unmount(runtime, v, i) => refs.unmount(*runtime, volume(*v), &format!("id{i}")).record,
        Step::Activated(runtime) => refs.activated(*runtime),
        Step::Forget(runtime, v) => refs.forget_of(*runtime, volume(*v)),
        Step::ForgetId(runtime, v, i) => refs.forget_id(*runtime, volume(*v), &format!("id{i}")),
    }
}

proptest! {
    /// However it goes, what was written down is what is known, and each id, volume and sum is consistent.
    #[test]
    fn what_is_written_down_is_what_is_known(steps in steps(), torn in any::<prop::sample::Index>()) {
        let mut refs = refs();
        let mut lines = String::new();
        for step in &steps {
            let before = refs.clone();
            let record = take(&mut refs, step);
            prop_assert_eq!(record.is_none(), refs == before, "{:?}", step);
            if let Some(record) = record {
                lines.push_str(&record.line());
            }
            for (volume, of) in &refs.volumes {
                prop_assert!(!of.is_empty());
                prop_assert!(of.iter().all(|one| one.volume == *volume && one.count > 0));
                prop_assert!(of.iter().all(|one| one.runtime == Docker || (one.count == 1 && one.confirmed)));
                prop_assert_eq!(refs.count_of(*volume), of.iter().map(|one| one.count).sum::<u32>());
            }
        }
        let loaded = reload(&lines);
        prop_assert_eq!(&loaded.refs, &refs);
        prop_assert_eq!(loaded.unreadable_lines, 0);
        // Written anew it is the same, and not longer than what there is.
        let anew: Vec<_> = refs.records().map(|record| record.line()).collect();
        prop_assert_eq!(anew.len(), refs.ids());
        prop_assert_eq!(&reload(&anew.concat()).refs, &refs);
        // A line that was half written costs itself at most.
        if !lines.is_empty() {
            let loaded = reload(&lines[..torn.index(lines.len())]);
            prop_assert!(loaded.unreadable_lines <= 1);
        }
    }

    /// A container that starts and stops leaves nothing behind, whatever dockerd's death comes between.
    #[test]
    fn pairs_of_mount_and_unmount_leave_nothing(copies in 0..4usize, killed_after in 0..6usize) {
        let mut refs = refs();
        mount(&mut refs, Docker, B);
        // Each docker cp is a pair.
        for n in 0..copies {
            mount(&mut refs, Docker, B);
            if n == killed_after {
                // Its second half never comes; the container is started again.
                refs.activated(Docker);
                mount(&mut refs, Docker, B);
            } else {
                unmount(&mut refs, Docker, B);
            }
        }
        prop_assert_eq!(unmount(&mut refs, Docker, B), 0);
        prop_assert_eq!(refs, Refs::new(BOOT));
    }

    #[test]
    fn no_text_is_too_strange_to_load(text in ".{0,400}", lines in prop::collection::vec("\\{\"boot\":\"[a-z]{0,3}\",\"change\":\"(reference|activated|forgotten)\".{0,60}", 0..8)) {
        Refs::load(text.lines(), BOOT);
        Refs::load(lines.iter().map(String::as_str), "a");
    }
}
