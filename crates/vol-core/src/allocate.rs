//! Picks extents. Pure and deterministic: the same free space and the same wish give the same segments.

use std::collections::BTreeMap;

use vol_types::{Extents, PvId, Segment, defect};

use crate::catalog::Catalog;

/// Free extents of a VG as runs, to take from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeSpace {
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

    /// Takes `count` extents: the smallest run that holds them all, else the largest runs until it is enough, so that the
    /// result has as few segments as can be. `None`, and nothing taken, if there are not enough.
    pub fn take(&mut self, count: Extents) -> Option<Vec<Segment>> {
        if count.is_zero() || self.total() < count {
            return None;
        }
        let fitting = (0..self.runs.len()).filter(|at| self.runs[*at].count >= count).min_by_key(|at| {
            let run = self.runs[*at];
            (run.count, run.pv, run.start)
        });
        if let Some(at) = fitting {
            return Some(vec![self.cut(at, count)]);
        }
        let mut segments = Vec::new();
        let mut missing = count;
        while !missing.is_zero() {
            let largest = (0..self.runs.len()).max_by_key(|at| {
                let run = self.runs[*at];
                (run.count, std::cmp::Reverse((run.pv, run.start)))
            })?;
            let part = missing.min(self.runs[largest].count);
            segments.push(self.cut(largest, part));
            missing = missing.saturating_sub(part);
        }
        Some(segments)
    }

    /// `segments` with `count` extents more: first what is free right behind the last of them, which makes that one longer, then
    /// as [`FreeSpace::take`]. `None`, and nothing taken, if there are not enough.
    pub fn extend(&mut self, segments: &[Segment], count: Extents) -> Option<Vec<Segment>> {
        if count.is_zero() || self.total() < count {
            return None;
        }
        let mut all = segments.to_vec();
        let mut missing = count;
        let behind = all.last().and_then(|last| {
            let end = last.start.checked_add(last.count)?;
            self.runs.iter().position(|run| run.pv == last.pv && run.start == end)
        });
        if let (Some(at), Some(last)) = (behind, all.last_mut()) {
            let part = missing.min(self.runs[at].count);
            last.count = Extents(last.count.get().saturating_add(self.cut(at, part).count.get()));
            missing = missing.saturating_sub(part);
        }
        if !missing.is_zero() {
            all.extend(self.take(missing)?);
        }
        Some(all)
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
}

#[cfg(test)]
mod tests;
