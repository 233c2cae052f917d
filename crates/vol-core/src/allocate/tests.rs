use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn pv(n: u8) -> PvId {
    PvId::from_uuid(Uuid::from_bytes([n; 16]))
}

fn run(pv_number: u8, start: u64, count: u64) -> Segment {
    Segment { pv: pv(pv_number), start: Extents(start), count: Extents(count) }
}

#[test]
fn the_smallest_run_that_fits_is_taken_first() {
    let mut free = FreeSpace { runs: vec![run(1, 0, 100), run(2, 10, 20), run(2, 50, 30)] };
    assert_eq!(free.take(Extents(15)), Some(vec![run(2, 10, 15)]));
    assert_eq!(free.take(Extents(30)), Some(vec![run(2, 50, 30)]));
    assert_eq!(free.total(), Extents(105));
}

#[test]
fn a_wish_larger_than_any_run_is_spread_over_the_largest() {
    let mut free = FreeSpace { runs: vec![run(1, 0, 10), run(2, 0, 50), run(3, 0, 40)] };
    assert_eq!(free.take(Extents(70)), Some(vec![run(2, 0, 50), run(3, 0, 20)]));
}

#[test]
fn more_than_there_is_takes_nothing() {
    let mut free = FreeSpace { runs: vec![run(1, 0, 10)] };
    assert_eq!(free.take(Extents(11)), None);
    assert_eq!(free.take(Extents(0)), None);
    assert_eq!(free.total(), Extents(10));
}

#[test]
fn what_grows_takes_what_lies_behind_it_first() {
    let mut free = FreeSpace { runs: vec![run(1, 10, 5), run(1, 40, 3), run(2, 0, 50)] };
    let grown = free.extend(&[run(2, 60, 4), run(1, 0, 10)], Extents(4)).unwrap();
    assert_eq!(grown, [run(2, 60, 4), run(1, 0, 14)], "the last segment is longer, there is no new one");
    let grown = free.extend(&grown, Extents(3)).unwrap();
    assert_eq!(
        grown,
        [run(2, 60, 4), run(1, 0, 15), run(1, 40, 2)],
        "one extent behind it, then the run that fits best"
    );
    assert_eq!((free.extend(&grown, Extents(52)), free.extend(&grown, Extents(0))), (None, None));
    assert_eq!(free.total(), Extents(51), "what was refused took nothing");
}

proptest! {
    #[test]
    fn what_is_taken_was_free_and_is_taken_once(
        runs in proptest::collection::vec((1u64..50, 1u64..50), 1..8),
        wishes in proptest::collection::vec(1u64..120, 1..8),
    ) {
        let runs: Vec<_> =
            runs.iter().enumerate().map(|(n, (start, count))| run(u8::try_from(n).unwrap(), *start, *count)).collect();
        let mut free = FreeSpace { runs: runs.clone() };
        let mut seen = std::collections::BTreeSet::new();
        for wish in wishes {
            let before = free.total();
            match free.take(Extents(wish)) {
                None => prop_assert!(before < Extents(wish)),
                Some(segments) => {
                    let taken: u64 = segments.iter().map(|segment| segment.count.get()).sum();
                    prop_assert_eq!(taken, wish);
                    for segment in segments {
                        for extent in segment.start.get()..segment.start.get() + segment.count.get() {
                            prop_assert!(seen.insert((segment.pv, extent)), "taken twice");
                            prop_assert!(runs.iter().any(|run| run.pv == segment.pv
                                && extent >= run.start.get() && extent < run.start.get() + run.count.get()));
                        }
                    }
                }
            }
        }
    }
}
