//! Rows of stripes: segments of equal count on different PVs.

use std::collections::{BTreeMap, VecDeque};

use vol_types::{Extents, PvId, Segment};

use super::{FreeSpace, Wish};

impl FreeSpace {
    /// Rows of `stripes` segments. `None` if that cannot be; some may be taken then.
    pub(super) fn place_rows(&mut self, wish: &Wish<'_>) -> Option<Vec<Segment>> {
        let before = self.clone();
        if let Some(rows) = self.rows(wish, true) {
            return Some(rows);
        }
        // What is taken behind the last row may be what the others needed.
        *self = before;
        if wish.contiguous { None } else { self.rows(wish, false) }
    }

    fn rows(&mut self, wish: &Wish<'_>, behind: bool) -> Option<Vec<Segment>> {
        let stripes = usize::from(wish.stripes);
        let near = wish.near.unwrap_or_default();
        let mut leg = wish.count.get() / u64::from(wish.stripes);
        let mut rows = Vec::new();
        if let Some(from) = near.len().checked_sub(stripes).filter(|_| behind) {
            let part = near[from..].iter().map(|last| self.behind(last).map_or(0, |at| self.runs[at].count.get()));
            let part = part.min().unwrap_or(0).min(leg);
            if wish.contiguous && part < leg {
                return None;
            }
            if part > 0 {
                for last in &near[from..] {
                    let at = self.behind(last)?;
                    rows.push(self.cut(at, Extents(part)));
                }
                leg -= part;
            }
        }
        if leg == 0 {
            return Some(rows);
        }
        let used = |pv: PvId| near.iter().any(|segment| segment.pv == pv);
        if let Some(row) = self.one_row(stripes, Extents(leg), &used) {
            rows.extend(row);
            return Some(rows);
        }
        if wish.contiguous {
            return None;
        }
        rows.extend(self.many_rows(stripes, leg, &used)?);
        Some(rows)
    }

    /// A single row: on each PV the smallest run that holds a whole leg, of these those on PVs that are used, then the smallest.
    fn one_row(&mut self, stripes: usize, leg: Extents, used: &dyn Fn(PvId) -> bool) -> Option<Vec<Segment>> {
        let mut best: BTreeMap<PvId, Segment> = BTreeMap::new();
        for run in self.runs.iter().filter(|run| run.count >= leg) {
            let best = best.entry(run.pv).or_insert(*run);
            if (run.count, run.start) < (best.count, best.start) {
                *best = *run;
            }
        }
        let mut chosen: Vec<Segment> = best.into_values().collect();
        chosen.sort_by_key(|run| (!used(run.pv), run.count, run.pv));
        if chosen.len() < stripes {
            return None;
        }
        chosen.truncate(stripes);
        chosen.iter().map(|run| self.cut_run(run, leg)).collect()
    }

    /// Several rows, as few as free space that is in pieces allows. The shares of the PVs (none larger than a leg) are laid end
    /// to end and cut into legs: what a PV gives to two legs is the end of one and the beginning of the next, so no row has it
    /// twice, and whatever can be laid out at all is laid out so (R. McNaughton, "Scheduling with Deadlines and Loss
    /// Functions", Management Science 6, 1959).
    fn many_rows(&mut self, stripes: usize, leg: u64, used: &dyn Fn(PvId) -> bool) -> Option<Vec<Segment>> {
        let mut runs: BTreeMap<PvId, Vec<Segment>> = BTreeMap::new();
        for run in &self.runs {
            runs.entry(run.pv).or_default().push(*run);
        }
        let total = |runs: &[Segment]| runs.iter().map(|run| run.count.get()).sum::<u64>();
        let mut pvs: Vec<(PvId, Vec<Segment>)> = runs.into_iter().collect();
        pvs.sort_by_key(|(pv, runs)| (!used(*pv), std::cmp::Reverse(total(runs).min(leg)), *pv));
        let mut missing = leg.checked_mul(u64::try_from(stripes).ok()?)?;
        let mut line = VecDeque::new();
        for (_, runs) in &mut pvs {
            runs.sort_by_key(|run| (std::cmp::Reverse(run.count), run.start));
            let mut share = total(runs).min(leg).min(missing);
            missing -= share;
            for run in runs {
                let part = run.count.get().min(share);
                share -= part;
                if part > 0 {
                    line.push_back(Segment { count: Extents(part), ..*run });
                }
            }
        }
        if missing > 0 {
            return None;
        }
        let mut legs: Vec<VecDeque<Segment>> = Vec::new();
        for _ in 0..stripes {
            let mut pieces = VecDeque::new();
            let mut room = leg;
            while room > 0 {
                let piece = line.pop_front()?;
                let part = piece.count.get().min(room);
                room -= part;
                pieces.push_back(Segment { count: Extents(part), ..piece });
                if part < piece.count.get() {
                    line.push_front(rest(piece, part));
                }
            }
            legs.push(pieces);
        }
        let mut rows = Vec::new();
        while legs.iter().all(|pieces| !pieces.is_empty()) {
            let part = legs.iter().filter_map(|pieces| pieces.front()).map(|piece| piece.count.get()).min()?;
            for pieces in &mut legs {
                let piece = pieces.pop_front()?;
                let taken = Segment { count: Extents(part), ..piece };
                if part < piece.count.get() {
                    pieces.push_front(rest(piece, part));
                }
                self.cut_run(&taken, Extents(part))?;
                rows.push(taken);
            }
        }
        Some(rows)
    }

    /// Takes `count` extents from where `run` begins, which may be inside a free run.
    fn cut_run(&mut self, run: &Segment, count: Extents) -> Option<Segment> {
        let end = run.start.checked_add(count)?;
        let at = self.runs.iter().position(|free| {
            free.pv == run.pv && free.start <= run.start && free.start.checked_add(free.count).is_some_and(|e| e >= end)
        })?;
        let free = self.runs.remove(at);
        let free_end = free.start.checked_add(free.count)?;
        let behind = Segment { pv: free.pv, start: end, count: free_end.saturating_sub(end) };
        let before = Segment { count: run.start.saturating_sub(free.start), ..free };
        for rest in [behind, before].into_iter().filter(|rest| !rest.count.is_zero()) {
            self.runs.insert(at, rest);
        }
        Some(Segment { pv: run.pv, start: run.start, count })
    }
}

/// What is left of `piece` behind its first `part` extents.
fn rest(piece: Segment, part: u64) -> Segment {
    Segment {
        pv: piece.pv,
        start: Extents(piece.start.get().saturating_add(part)),
        count: Extents(piece.count.get().saturating_sub(part)),
    }
}
