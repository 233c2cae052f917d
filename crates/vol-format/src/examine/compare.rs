//! How the copies of one VG stand to each other (section 10 of the specification, steps 3 to 5): the decision alone, as a
//! pure function of heads and known points, for whoever opens a VG and for whoever only looks.

use std::collections::BTreeMap;

use vol_types::CommitPoint;

use crate::record::ChainHash;

/// How a copy stands to the one that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The same head.
    UpToDate,
    /// Its head is a point of the chosen history: it is behind by so many commits and may be written anew.
    ProvenOld { behind: u64 },
    /// The chosen history has another hash at its head: the two were changed apart from each other (FMT-25). A person decides.
    Different,
    /// The chosen copy knows nothing of that point any more. The copy is neither used nor written.
    CannotBeProven,
}

impl Standing {
    /// In a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "up to date",
            Self::ProvenOld { .. } => "proven old",
            Self::Different => "different",
            Self::CannotBeProven => "cannot be proven old",
        }
    }
}

/// How a copy whose history ends at `other` stands to the chosen one, which ends at `head` and knows the points `known` (its
/// checkpoints, their ancestors, its records). `left` are the points that the chosen catalog keeps of that copy since it was
/// left behind (`Pv::left`): they are points of the chosen history, or a commit that was never acknowledged and
/// that the chosen history went on without, so a copy that ends at one of them is old.
pub fn standing(
    head: &CommitPoint,
    known: &BTreeMap<u64, ChainHash>,
    left: &[CommitPoint],
    other: &CommitPoint,
) -> Standing {
    if other == head {
        return Standing::UpToDate;
    }
    let old = Standing::ProvenOld { behind: head.sequence.saturating_sub(other.sequence) };
    if left.contains(other) {
        return old;
    }
    match known.get(&other.sequence) {
        Some(hash) if *hash == other.hash && other.sequence < head.sequence => old,
        Some(hash) if *hash == other.hash => Standing::UpToDate,
        Some(_) => Standing::Different,
        None => Standing::CannotBeProven,
    }
}

/// Which of several copies is chosen: the one with the highest head, of equals the first. `None` without any.
pub fn choose<'a>(heads: impl IntoIterator<Item = &'a CommitPoint>) -> Option<usize> {
    let mut best: Option<(usize, u64)> = None;
    for (at, head) in heads.into_iter().enumerate() {
        if best.is_none_or(|(_, sequence)| head.sequence > sequence) {
            best = Some((at, head.sequence));
        }
    }
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn point(sequence: u64, hash: u8) -> CommitPoint {
        CommitPoint { sequence, hash: [hash; 32] }
    }

    #[test]
    fn the_four_standings_of_section_10_are_told_apart() {
        let known = BTreeMap::from([(7, [7; 32]), (9, [9; 32]), (10, [10; 32])]);
        let head = point(10, 10);
        let of = |other| standing(&head, &known, &[point(8, 88)], &other);
        assert_eq!(of(point(10, 10)), Standing::UpToDate);
        assert_eq!(of(point(7, 7)), Standing::ProvenOld { behind: 3 });
        assert_eq!(of(point(9, 1)), Standing::Different);
        assert_eq!(of(point(10, 1)), Standing::Different);
        assert_eq!(of(point(6, 6)), Standing::CannotBeProven);
        assert_eq!(of(point(8, 8)), Standing::CannotBeProven);
        assert_eq!(of(point(8, 88)), Standing::ProvenOld { behind: 2 }, "where it was left");
    }

    #[test]
    fn the_copy_that_comes_furthest_is_chosen_and_of_equals_the_first() {
        assert_eq!(choose(&[point(3, 1), point(5, 2), point(5, 3)]), Some(1));
        assert_eq!(choose([]), None);
    }
}
