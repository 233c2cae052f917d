//! Blocks that are looked at here and there: many small reads side by side, in one call of the kernel.

use std::fs::File;
use std::io;

use super::{ARENA, Counters, Kind, Memory, Ring, Rings, Slot};
use crate::io::all_zero;
use crate::io::buffer::ALIGN;

impl Rings {
    /// Whether nothing but zeroes is read in the [`ALIGN`] bytes at each of these places. `None`, with nothing read, if there is no ring
    /// to be had.
    pub(in crate::io) fn are_zero(&self, file: &File, places: &[u64]) -> Option<io::Result<bool>> {
        let mut ring = self.take()?;
        let (answer, broken) = ring.are_zero(file, places, &self.counters);
        self.put(ring, broken);
        Some(answer)
    }
}

impl Ring {
    /// As [`Rings::are_zero`]. If the second value is true the ring must be leaked: the kernel may be at work on it.
    fn are_zero(&mut self, file: &File, places: &[u64], counters: &Counters) -> (io::Result<bool>, bool) {
        for places in places.chunks(ARENA / ALIGN) {
            let slot = |(at, place): (usize, &u64)| {
                Ok(Slot::new(Kind::Read, file, *place, ALIGN, Memory::Arena(at.saturating_mul(ALIGN))))
            };
            let (answers, broken) = self.drive(places.iter().enumerate().map(slot).collect(), counters);
            if let Some(e) = answers.into_iter().find_map(Result::err) {
                return (Err(e), broken);
            }
            let read = self.arena.get(..places.len().saturating_mul(ALIGN));
            if !read.is_some_and(all_zero) {
                return (Ok(false), broken);
            }
        }
        (Ok(true), false)
    }
}
