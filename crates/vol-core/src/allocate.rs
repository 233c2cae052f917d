//! Picks extents. Pure and deterministic: the same free space and the same wish give the same segments.
//!
//! What is taken has as few segments as can be: the smallest run that holds all of it, so that large runs stay whole, else the
//! largest runs. See docs/allocation.md.

use std::collections::BTreeMap;

use vol_types::{Extents, PvId, Segment, defect};

use crate::catalog::Catalog;

pub mod placement;
mod shortage;
mod stripes;

pub use shortage::{PvSpace, Shortage, Why};

/// Extents that are wanted of a [`FreeSpace`].
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// All extents together, a multiple of `stripes` above zero.
    pub count: Extents,
    /// The result is rows of so many consecutive segments of equal count, those of a row on different PVs. One: linear.
    pub stripes: u16,
    /// Without gaps: one segment for each stripe, which with `near` goes on where the last one ends.
    pub contiguous: bool,
    /// What the device has already, in rows likewise. The runs right behind its last row are taken first, then what is on PVs that it
    /// uses, then others.
    pub near: Option<&'a [Segment]>,
}

impl Wish<'_> {
    /// `count` extents in one linear device.
    pub const fn linear(count: Extents) -> Self {
        Self { count, stripes: 1, contiguous: false, near: None }
    }
}

/// Free extents of a VG as runs, to take from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// By PV and start within one PV.
    runs: Vec<Segment>,
}

impl FreeSpace {
    /// What `catalog` leaves free on PVs for which `usable` holds.
    pub fn of(catalog: &Catalog, usable: impl Fn(PvId) -> bool) -> Self {
        let mut used: BTreeMap<PvId, Vec<Segment>> = BTreeMap::new();
        for segment in catalog.segments().filter(|_| !defect("extents are given twice")) {
            used.entry(segment.pv).or_default().push(*segment);
        }
        let mut runs = Vec::new();
        for pv in catalog.pvs().filter(|pv| usable(pv.id)) {
            let mut taken = used.remove(&pv.id).unwrap_or_default();
            taken.sort_by_key(|segment| segment.start);
            let mut next = 0;
            for segment in taken.iter().copied().chain([Segment { pv: pv.id, start: pv.extents, count: Extents(0) }]) {
                if segment.start.get() > next {
                    runs.push(Segment { pv: pv.id, start: Extents(next), count: Extents(segment.start.get() - next) });
                }
                next = next.max(segment.start.get().saturating_add(segment.count.get()));
            }
        }
        Self { runs }
    }

    pub fn total(&self) -> Extents {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// The free runs; those of one PV by their start.
    pub fn runs(&self) -> &[Segment] {
        &self.runs
    }

    /// Takes what is wished for: new segments only, in the order of the device ([`append`] joins them to what was there). On an
    /// error nothing is taken.
    pub fn place(&mut self, wish: &Wish<'_>) -> Result<Vec<Segment>, Shortage> {
        let before = self.clone();
        let taken = if wish.count.is_zero() || !wish.count.get().is_multiple_of(u64::from(wish.stripes.max(1))) {
            None
        } else if wish.stripes > 1 {
            self.place_rows(wish)
        } else {
            self.place_linear(wish)
        };
        taken.ok_or_else(|| {
            *self = before;
            Shortage::of(self, wish)
        })
    }

    fn place_linear(&mut self, wish: &Wish<'_>) -> Option<Vec<Segment>> {
        let near = wish.near.unwrap_or_default();
        let mut taken = Vec::new();
        let mut missing = wish.count;
        if let Some(at) = near.last().and_then(|last| self.behind(last)) {
            if wish.contiguous && self.runs[at].count < missing {
                return None;
            }
            let part = missing.min(self.runs[at].count);
            taken.push(self.cut(at, part));
            missing = missing.saturating_sub(part);
        } else if wish.contiguous && !near.is_empty() {
            return None;
        }
        if missing.is_zero() {
            return Some(taken);
        }
        let used = |pv: PvId| near.iter().any(|segment| segment.pv == pv);
        // From PVs that it uses if they have enough, else from all: spread over both it would be in more pieces for nothing.
        let rest = self.fit(missing, wish.contiguous, &used).or_else(|| self.fit(missing, wish.contiguous, &|_| true));
        taken.extend(rest?);
        Some(taken)
    }

    /// One run that holds all, or the largest ones, on PVs for which `on` holds.
    fn fit(&mut self, count: Extents, contiguous: bool, on: &dyn Fn(PvId) -> bool) -> Option<Vec<Segment>> {
        if let Some(at) = self.best_fit(count, on) {
            return Some(vec![self.cut(at, count)]);
        }
        let total: Extents = self.runs.iter().filter(|run| on(run.pv)).map(|run| run.count).sum();
        if contiguous || total < count {
            return None;
        }
        let mut segments = Vec::new();
        let mut missing = count;
        while !missing.is_zero() {
            let largest = (0..self.runs.len()).filter(|at| on(self.runs[*at].pv)).max_by_key(|at| {
                let run = self.runs[*at];
                (run.count, std::cmp::Reverse((run.pv, run.start)))
            })?;
            let part = missing.min(self.runs[largest].count);
            segments.push(self.cut(largest, part));
            missing = missing.saturating_sub(part);
        }
        Some(segments)
    }

    /// The smallest run that holds `count` extents.
    fn best_fit(&self, count: Extents, on: &dyn Fn(PvId) -> bool) -> Option<usize> {
        let fits = |at: &usize| self.runs[*at].count >= count && on(self.runs[*at].pv);
        (0..self.runs.len()).filter(fits).min_by_key(|at| {
            let run = self.runs[*at];
            (run.count, run.pv, run.start)
        })
    }

    /// The free run that begins where `segment` ends.
    fn behind(&self, segment: &Segment) -> Option<usize> {
        let end = segment.start.checked_add(segment.count)?;
        self.runs.iter().position(|run| run.pv == segment.pv && run.start == end)
    }

    /// Takes the first `count` extents of a run that has at least so many.
    fn cut(&mut self, at: usize, count: Extents) -> Segment {
        let run = self.runs[at];
        let rest = run.count.saturating_sub(count);
        if rest.is_zero() {
            self.runs.remove(at);
        } else {
            self.runs[at] = Segment { pv: run.pv, start: Extents(run.start.get() + count.get()), count: rest };
        }
        Segment { pv: run.pv, start: run.start, count }
    }

    /// Takes `count` extents for a linear device. `None`, and nothing taken, if there are not enough.
    pub fn take(&mut self, count: Extents) -> Option<Vec<Segment>> {
        self.place(&Wish::linear(count)).ok()
    }

    /// The segments of a linear device with `count` extents more. `None`, and nothing taken, if there are not enough.
    pub fn extend(&mut self, segments: &[Segment], count: Extents) -> Option<Vec<Segment>> {
        let more = self.place(&Wish { near: Some(segments), ..Wish::linear(count) }).ok()?;
        Some(append(segments, &more, 1))
    }
}

/// The segments of a device in rows of `stripes`, with more rows of as many; a row that goes on where the last one ends makes that
/// one longer.
pub fn append(segments: &[Segment], more: &[Segment], stripes: u16) -> Vec<Segment> {
    let stripes = usize::from(stripes.max(1));
    let mut all = segments.to_vec();
    for row in more.chunks(stripes) {
        let from = all.len().saturating_sub(stripes);
        let last = all.get_mut(from..).filter(|last| last.len() == row.len()).unwrap_or_default();
        let follows = |(last, next): (&Segment, &Segment)| {
            last.pv == next.pv && last.start.checked_add(last.count) == Some(next.start)
        };
        if !last.is_empty() && last.iter().zip(row).all(follows) {
            for (last, next) in last.iter_mut().zip(row) {
                last.count = Extents(last.count.get().saturating_add(next.count.get()));
            }
        } else {
            all.extend_from_slice(row);
        }
    }
    all
}

#[cfg(test)]
mod tests;
