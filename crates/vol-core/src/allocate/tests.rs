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

fn wish(count: u64, stripes: u16) -> Wish<'static> {
    Wish { stripes, ..Wish::linear(Extents(count)) }
}

fn space(runs: &[Segment]) -> FreeSpace {
    FreeSpace { runs: runs.to_vec() }
}

#[test]
fn a_row_of_stripes_takes_the_smallest_runs_that_hold_a_leg() {
    let mut free = space(&[run(1, 0, 100), run(1, 200, 12), run(2, 0, 30), run(3, 0, 9), run(4, 5, 11)]);
    assert_eq!(free.place(&wish(20, 2)).unwrap(), [run(4, 5, 10), run(1, 200, 10)]);
    assert_eq!(free.total(), Extents(162 - 20));
}

#[test]
fn stripes_over_broken_space_are_rows_as_long_as_it_allows() {
    let mut free = space(&[run(1, 0, 100), run(2, 0, 60), run(2, 80, 40), run(3, 0, 100)]);
    let rows = free.place(&wish(300, 2)).unwrap();
    assert_eq!(free.total(), Extents(0), "all of it can be used, although one PV alone could not be paired");
    assert!(rows.len() <= 2 * 4, "no row is shorter than it must be: {rows:?}");
}

#[test]
fn what_grows_stays_on_its_pvs() {
    let own = [run(2, 0, 10)];
    let near = |count| Wish { near: Some(&own), ..wish(count, 1) };
    let all = [run(1, 0, 8), run(2, 10, 3), run(2, 20, 30), run(3, 0, 500)];
    assert_eq!(space(&all).place(&near(3)).unwrap(), [run(2, 10, 3)], "right behind it");
    assert_eq!(space(&all).place(&near(8)).unwrap(), [run(2, 10, 3), run(2, 20, 5)], "not the run that fits better");
    assert_eq!(space(&all).place(&near(50)).unwrap(), [run(2, 10, 3), run(3, 0, 47)], "one run elsewhere, not three");
    let rows = [run(2, 0, 10), run(3, 0, 10)];
    let near = Wish { near: Some(&rows), ..wish(20, 2) };
    let all = [run(1, 0, 10), run(2, 10, 4), run(2, 30, 50), run(3, 10, 4), run(3, 40, 50), run(4, 0, 6)];
    let more = space(&all).place(&near).unwrap();
    assert_eq!(more, [run(2, 10, 4), run(3, 10, 4), run(2, 30, 6), run(3, 40, 6)]);
    assert_eq!(append(&rows, &more, 2), [run(2, 0, 14), run(3, 0, 14), run(2, 30, 6), run(3, 40, 6)]);
    assert_eq!(append(&[], &more, 2), more);
    assert_eq!(append(&[run(2, 0, 10), run(4, 0, 10)], &more[..2], 2).len(), 4, "one leg goes on, the other does not");
}

#[test]
fn what_lies_behind_is_left_when_the_rows_need_it_otherwise() {
    let rows = [run(1, 0, 10), run(2, 0, 10)];
    // Behind both there is room for ten more. Taken in one row it would leave the third PV without a partner.
    let all = [run(1, 10, 10), run(2, 10, 10), run(3, 0, 10)];
    let near = Wish { near: Some(&rows), ..wish(30, 2) };
    let mut free = space(&all);
    assert_eq!(free.place(&near).unwrap().iter().map(|segment| segment.count).sum::<Extents>(), Extents(30));
    assert_eq!(free.total(), Extents(0));
}

#[test]
fn what_is_contiguous_goes_on_where_it_ends_or_not_at_all() {
    let own = [run(1, 50, 5), run(2, 0, 10)];
    let near = |count, stripes| Wish { near: Some(&own), contiguous: true, ..wish(count, stripes) };
    let all = [run(1, 55, 3), run(2, 10, 7), run(3, 0, 500)];
    assert_eq!(space(&all).place(&near(7, 1)).unwrap(), [run(2, 10, 7)]);
    let refused = space(&all).place(&near(8, 1)).unwrap_err();
    assert_eq!(refused.why, Why::NotBehind { behind: Extents(7) });
    assert_eq!(space(&all).place(&near(6, 2)).unwrap(), [run(1, 55, 3), run(2, 10, 3)]);
    assert_eq!(space(&all).place(&near(8, 2)).unwrap_err().why, Why::NotBehind { behind: Extents(6) });
    let fresh = |count| Wish { contiguous: true, ..wish(count, 1) };
    assert_eq!(space(&all).place(&fresh(6)).unwrap(), [run(2, 10, 6)]);
    assert_eq!(space(&all).place(&fresh(501)).unwrap_err().why, Why::Broken { possible: Extents(500) });
}

#[test]
fn a_refusal_says_exactly_what_is_missing() {
    let why = |all: &[Segment], wish: &Wish<'_>| {
        let mut free = space(all);
        let shortage = free.place(wish).unwrap_err();
        assert_eq!(free, space(all), "what was refused took nothing");
        (shortage.why, shortage.total())
    };
    let all = [run(1, 0, 100), run(2, 0, 10), run(2, 20, 5), run(3, 0, 5)];
    assert_eq!(why(&all, &wish(121, 1)), (Why::NotEnough, Extents(120)));
    assert_eq!(why(&all, &wish(0, 1)).0, Why::Uneven);
    assert_eq!(why(&all, &wish(21, 2)).0, Why::Uneven);
    assert_eq!(why(&all, &wish(4, 4)).0, Why::FewPvs { with_space: 3 });
    assert_eq!(why(&all, &wish(42, 2)).0, Why::Lopsided { possible: Extents(40) }, "the first PV can give 20 of it");
    assert_eq!(why(&all, &Wish { contiguous: true, ..wish(30, 2) }).0, Why::Broken { possible: Extents(20) });
    assert_eq!(why(&[], &wish(1, 1)).0, Why::NotEnough);
    let free = space(&all).place(&wish(121, 1)).unwrap_err().free;
    assert_eq!(free[1], PvSpace { pv: pv(2), free: Extents(15), largest: Extents(10) });
}

/// Whether `stripes` legs can be laid out at all, tried extent by extent: whoever has most left gives one to each row.
fn can_be_laid_out(runs: &[Segment], count: u64, stripes: u64) -> bool {
    let mut left: std::collections::BTreeMap<PvId, u64> = std::collections::BTreeMap::new();
    for run in runs {
        *left.entry(run.pv).or_default() += run.count.get();
    }
    (0..count / stripes).all(|_| {
        let mut most: Vec<(u64, PvId)> = left.iter().map(|(pv, left)| (*left, *pv)).collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        let row: Vec<_> = most.iter().take(usize::try_from(stripes).unwrap()).collect();
        row.len() == usize::try_from(stripes).unwrap()
            && row.iter().all(|(free, pv)| {
                left.insert(*pv, free.saturating_sub(1));
                *free > 0
            })
    })
}

fn any_space() -> impl Strategy<Value = Vec<Segment>> {
    // Runs of a PV do not touch, as those of `FreeSpace::of`.
    let pv_runs = proptest::collection::vec((1u64..20, 1u64..30), 0..4);
    proptest::collection::vec(pv_runs, 1..6).prop_map(|pvs| {
        let mut all = Vec::new();
        for (number, runs) in pvs.into_iter().enumerate() {
            let mut at = 0;
            for (gap, count) in runs {
                at += gap;
                all.push(run(u8::try_from(number + 1).unwrap(), at, count));
                at += count;
            }
        }
        all
    })
}

proptest! {
    #[test]
    fn whatever_is_placed_keeps_every_promise_and_whatever_is_refused_cannot_be(
        all in any_space(),
        wishes in proptest::collection::vec((1u64..40, 1u16..5, any::<bool>(), any::<bool>()), 1..6),
    ) {
        let mut free = space(&all);
        let mut seen = std::collections::BTreeSet::new();
        let mut last: Option<(u16, Vec<Segment>)> = None;
        for (legs, stripes, contiguous, grows) in wishes {
            let count = legs * u64::from(stripes);
            let near = last.as_ref().filter(|(of, _)| grows && *of == stripes).map(|(_, had)| had.clone());
            let wish = Wish { contiguous, near: near.as_deref(), ..wish(count, stripes) };
            let before = free.clone();
            match free.place(&wish) {
                Ok(taken) => {
                    prop_assert_eq!(taken.iter().map(|segment| segment.count).sum::<Extents>(), Extents(count));
                    prop_assert_eq!(free.total(), Extents(before.total().get() - count));
                    for row in taken.chunks(usize::from(stripes)) {
                        let pvs: std::collections::BTreeSet<_> = row.iter().map(|segment| segment.pv).collect();
                        prop_assert_eq!(pvs.len(), usize::from(stripes), "a PV twice in a row");
                        prop_assert!(row.iter().all(|segment| segment.count == row[0].count && !segment.count.is_zero()));
                    }
                    for segment in &taken {
                        for extent in segment.start.get()..segment.start.get() + segment.count.get() {
                            prop_assert!(seen.insert((segment.pv, extent)), "taken twice");
                            prop_assert!(before.runs().iter().any(|run| run.pv == segment.pv
                                && extent >= run.start.get() && extent < run.start.get() + run.count.get()));
                        }
                    }
                    let whole = append(near.as_deref().unwrap_or_default(), &taken, stripes);
                    if contiguous {
                        let was = near.as_ref().map_or(usize::from(stripes), Vec::len);
                        prop_assert_eq!(whole.len(), was, "there is a gap");
                    }
                    last = Some((stripes, whole));
                }
                Err(shortage) => {
                    prop_assert_eq!(&free, &before, "what was refused took nothing");
                    let possible = |count: Extents| {
                        let mut free = before.clone();
                        count.is_zero() || free.place(&Wish { count, near: None, ..wish }).is_ok()
                    };
                    match shortage.why {
                        Why::Uneven => prop_assert!(false, "it is even"),
                        Why::NotEnough => prop_assert!(before.total() < Extents(count)),
                        Why::FewPvs { with_space } => prop_assert!(with_space < usize::from(stripes)),
                        Why::Lopsided { possible: most } => {
                            prop_assert!(!can_be_laid_out(before.runs(), count, u64::from(stripes)));
                            prop_assert!(possible(most) && !possible(Extents(most.get() + u64::from(stripes))));
                        }
                        Why::Broken { possible: most } => {
                            prop_assert!(most < Extents(count) && possible(most));
                            prop_assert!(!possible(Extents(most.get() + u64::from(stripes))));
                        }
                        Why::NotBehind { behind } => {
                            prop_assert!(behind < Extents(count));
                            let mut free = before.clone();
                            let wish = Wish { count: behind, ..wish };
                            prop_assert!(behind.is_zero() || free.place(&wish).is_ok());
                        }
                    }
                }
            }
        }
    }
}
