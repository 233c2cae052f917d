//! Moving blocks: a range of a device of ours is wiped, or copied to another, in slices of bounded size with a rest after each.
//!
//! A slice takes about [`SLICE_TIME`], on whatever disk it is: those who use the disk wait for one slice at most, and who watches
//! the move or ends it is heard between two. What was moved is durable after each slice, so whoever began the move may note how far it
//! has come and go on there after a crash; a slice that was under way is moved again. See docs/moving-blocks.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vol_types::Bytes;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::host::{DmEnd, HostError, HostErrorKind, HostMut, HostResult, SLICE_MAX, WipeMethod};

/// The least that is moved at once.
pub const SLICE_MIN: u64 = 1 << 20;
/// Of so many sets of disks is remembered which slices fitted them.
const FITTED_MAX: usize = 256;
/// What is moved first, before it is known how fast the disk is.
const SLICE_FIRST: u64 = 4 << 20;
/// How long a slice is to take.
pub const SLICE_TIME: Duration = Duration::from_millis(200);
/// The longest rest after a slice, unless a rate demands more.
const REST_MAX: Duration = Duration::from_secs(1);
/// How long nobody is asked whether to go on.
const NAP: Duration = Duration::from_millis(100);

/// How hard the daemon may work its disks in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Share of the time, in percent, in which a move keeps its disks busy: 1 to 100.
    pub share: u32,
    /// Bytes in a second at most; above zero.
    pub rate: Option<Bytes>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { share: 50, rate: None }
    }
}

impl Pace {
    /// The most that is moved at once: with a rate, what that allows in a second; a multiple of 4096.
    fn most(self) -> u64 {
        self.rate.map_or(SLICE_MAX, |rate| (rate.get() & !4095).clamp(SLICE_MIN, SLICE_MAX))
    }

    /// How long to rest after `len` bytes that took this long.
    pub fn rest(self, len: u64, took: Duration) -> Duration {
        let share = self.share.clamp(1, 100);
        let rest = took.saturating_mul(100 - share).checked_div(share).unwrap_or(REST_MAX).min(REST_MAX);
        let Some(rate) = self.rate.map(Bytes::get).filter(|rate| *rate > 0) else { return rest };
        let whole = Duration::from_secs(len / rate);
        let part = u128::from(len % rate) * 1_000_000_000 / u128::from(rate);
        let due = whole.saturating_add(Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX)));
        rest.max(due.saturating_sub(took))
    }
}

/// What is moved. Devices by their dm uuids: they are looked up anew for each slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Zeroes come to be there.
    Wipe { device: String },
    /// To the same place of another device.
    Copy { from: String, to: String },
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// All before this offset is done, and durable.
    pub at: u64,
    pub end: u64,
    /// Bytes that this run wiped by discarding.
    pub discarded: Bytes,
    /// Bytes that the disks zeroed themselves in this run.
    pub offloaded: Bytes,
    /// Bytes that this run wrote: zeroes or copies.
    pub written: Bytes,
}

impl Progress {
    pub const fn is_done(&self) -> bool {
        self.at >= self.end
    }

    fn count(&mut self, len: u64, how: WipeMethod) {
        let bytes = match how {
            WipeMethod::Discarded => &mut self.discarded,
            WipeMethod::Offloaded => &mut self.offloaded,
            WipeMethod::Written => &mut self.written,
        };
        *bytes = Bytes(bytes.get().saturating_add(len));
        self.at = self.at.saturating_add(len);
    }
}

/// Bytes that were moved since the engine was made, by any of its moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Wiped by discarding.
    pub discarded: Bytes,
    /// Zeroed by the disks themselves.
    pub offloaded: Bytes,
    /// Zeroes that were written.
    pub zeroed: Bytes,
    pub copied: Bytes,
    /// Given back to a pool, of volumes that are deleted.
    pub given_back: Bytes,
}

/// What is moved now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Thick volumes that are being wiped or copied to.
    pub fills: usize,
    /// What is left of that, as far as it is known.
    pub left: Bytes,
    /// Deleted volumes whose space is being given back slice by slice.
    pub emptied: usize,
}

/// [`Moved`] as it is counted.
#[derive(Debug, Default)]
pub(crate) struct MovedCount {
    discarded: AtomicU64,
    offloaded: AtomicU64,
    zeroed: AtomicU64,
    copied: AtomicU64,
    given_back: AtomicU64,
}

impl MovedCount {
    fn count(&self, task: &Task, len: u64, how: WipeMethod) {
        let counter = match (task, how) {
            (Task::Copy { .. }, _) => &self.copied,
            (Task::Wipe { .. }, WipeMethod::Discarded) => &self.discarded,
            (Task::Wipe { .. }, WipeMethod::Offloaded) => &self.offloaded,
            (Task::Wipe { .. }, WipeMethod::Written) => &self.zeroed,
        };
        counter.fetch_add(len, Ordering::Relaxed);
    }

    pub(crate) fn gave_back(&self, len: u64) {
        self.given_back.fetch_add(len, Ordering::Relaxed);
    }

    fn so_far(&self) -> Moved {
        let read = |counter: &AtomicU64| Bytes(counter.load(Ordering::Relaxed));
        Moved {
            discarded: read(&self.discarded),
            offloaded: read(&self.offloaded),
            zeroed: read(&self.zeroed),
            copied: read(&self.copied),
            given_back: read(&self.given_back),
        }
    }
}

/// What is done, and the disks that it is done on.
type Where = (bool, BTreeSet<String>);

/// Slices that took their time on some disks. A move on the same ones begins with that, instead of finding it out anew.
#[derive(Debug, Default)]
pub(crate) struct Fitted(Mutex<BTreeMap<Where, u64>>);

impl Fitted {
    fn of(&self, place: &Where) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(place).copied()
    }

    fn note(&self, place: &Where, slice: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= FITTED_MAX && !all.contains_key(place) {
            all.clear();
        }
        all.insert(place.clone(), slice);
    }
}

/// How much to move at once, after so much took this long.
fn next_slice(len: u64, took: Duration) -> u64 {
    let next = if took < SLICE_TIME / 2 {
        len.saturating_mul(2)
    } else if took > SLICE_TIME * 2 {
        len / 2
    } else {
        len
    };
    next.clamp(SLICE_MIN, SLICE_MAX)
}

impl<H: HostMut> Engine<H> {
    pub fn pace(&self) -> Pace {
        *self.pace.read().unwrap_or_else(PoisonError::into_inner)
    }
    /// From the next slice on, also of moves that are under way.
    pub fn set_pace(&self, pace: Pace) {
        *self.pace.write().unwrap_or_else(PoisonError::into_inner) = pace;
    }

    /// What was moved so far, and what is being moved.
    pub fn moved(&self) -> (Moved, UnderWay) {
        let (fills, left) = self.fills.left();
        let emptied = self.emptying.lock().unwrap_or_else(PoisonError::into_inner).len();
        (self.moved.so_far(), UnderWay { fills, left, emptied })
    }

    /// Moves the bytes from `at` to `end`, both multiples of 4096. After each slice `done` is told, which may note how far it has
    /// come; its error ends the move. Ends after the slice, or the nap, in which `go_on` says no; [`Progress::is_done`] tells.
    /// On an error all that was told to `done` is moved and durable; the slice behind it holds anything.
    pub fn move_blocks(
        &self,
        task: &Task,
        at: u64,
        end: u64,
        go_on: &dyn Fn() -> bool,
        done: &mut dyn FnMut(&Progress) -> Result<(), EngineError>,
    ) -> Result<Progress, EngineError> {
        let mut progress = Progress { at, end, discarded: Bytes(0), offloaded: Bytes(0), written: Bytes(0) };
        let place = self.place_of(task);
        let mut slice = place.as_ref().and_then(|place| self.fitted.of(place)).unwrap_or(SLICE_FIRST);
        while !progress.is_done() && go_on() {
            let len = slice.min(self.pace().most()).min(end - progress.at);
            let begun = self.host().uptime();
            let how = self.move_slice(task, progress.at, len)?;
            let took = self.host().uptime().saturating_sub(begun);
            tracing::debug!(at = progress.at, len, ?took, by = how.as_str(), "a slice was moved");
            progress.count(len, how);
            self.moved.count(task, len, how);
            done(&progress)?;
            // One that was cut short tells nothing, unless even it took too long.
            if len == slice || took > SLICE_TIME * 2 {
                slice = next_slice(len, took);
                if let Some(place) = &place {
                    self.fitted.note(place, slice);
                }
            }
            if !progress.is_done() {
                self.rest(self.pace().rest(len, took), go_on);
            }
        }
        Ok(progress)
    }

    /// Which disks the devices of a task stand on, by their numbers; `None` if that cannot be told.
    fn place_of(&self, task: &Task) -> Option<Where> {
        let (copies, devices) = match task {
            Task::Wipe { device } => (false, vec![device]),
            Task::Copy { from, to } => (true, vec![from, to]),
        };
        let mut disks = BTreeSet::new();
        for device in devices {
            for line in self.host().dm_table(device).ok()? {
                disks.extend(line.params.split(' ').filter(|word| word.contains(':')).map(str::to_owned));
            }
        }
        Some((copies, disks))
    }

    /// Lets time pass, in naps.
    pub(crate) fn rest(&self, time: Duration, go_on: &dyn Fn() -> bool) {
        let mut left = time;
        while !left.is_zero() && go_on() {
            let nap = left.min(NAP);
            self.host().pause(nap);
            left = left.saturating_sub(nap);
        }
    }

    fn move_slice(&self, task: &Task, at: u64, len: u64) -> HostResult<WipeMethod> {
        match task {
            Task::Wipe { device } => {
                let end = self.dm_end(device)?;
                self.host().wipe_slice(end.dev, &end.uuid, at, len)
            }
            Task::Copy { from, to } => {
                self.host().copy_slice(&self.dm_end(from)?, &self.dm_end(to)?, at, len)?;
                Ok(WipeMethod::Written)
            }
        }
    }

    /// Nobody holds the device open between two slices, so its number may be another's by now.
    fn dm_end(&self, uuid: &str) -> HostResult<DmEnd> {
        match self.host().dm_device(uuid)? {
            Some(info) => Ok(DmEnd { dev: info.dev, uuid: uuid.to_owned() }),
            None => Err(HostError::new(
                HostErrorKind::NotFound,
                format!("move blocks of {uuid}"),
                "there is no such device",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_rest_leaves_the_disks_the_share_that_is_not_ours() {
        let pace = |share| Pace { share, rate: None };
        assert_eq!(pace(100).rest(1 << 20, MS(200)), MS(0));
        assert_eq!(pace(50).rest(1 << 20, MS(200)), MS(200));
        assert_eq!(pace(20).rest(1 << 20, MS(200)), MS(800));
        assert_eq!(
            pace(1).rest(1 << 20, MS(200)),
            REST_MAX,
            "a disk that hung for a while does not stop the move for good"
        );
        assert_eq!(pace(0).rest(1 << 20, MS(5)), MS(495), "a share of nothing would never come to an end");
    }

    #[test]
    fn a_rate_is_kept_whatever_the_share_allows() {
        let pace = Pace { share: 100, rate: Some(Bytes::mib(10)) };
        assert_eq!(pace.rest(10 << 20, MS(200)), MS(800));
        assert_eq!(pace.rest(64 << 20, MS(400)), MS(6000));
        assert_eq!(pace.rest(1 << 20, MS(200)), MS(0), "the disk is slower than that");
        let pace = Pace { share: 50, rate: Some(Bytes::mib(10)) };
        assert_eq!(pace.rest(1 << 20, MS(90)), MS(90), "the share asks for more than the rate");
        assert_eq!(Pace { share: 100, rate: Some(Bytes(u64::MAX)) }.rest(u64::MAX, MS(1)), MS(999));
    }

    #[test]
    fn with_a_rate_no_slice_is_more_than_a_second_of_it() {
        let most = |rate| Pace { share: 100, rate }.most();
        assert_eq!(most(None), SLICE_MAX);
        assert_eq!(most(Some(Bytes(u64::MAX))), SLICE_MAX);
        assert_eq!(most(Some(Bytes(10_000_000))), 10_000_000 / 4096 * 4096);
        assert_eq!(most(Some(Bytes(1))), SLICE_MIN);
    }

    #[test]
    fn slices_grow_and_shrink_until_one_takes_its_time() {
        let mut slice = SLICE_FIRST;
        for _ in 0..10 {
            // 100 MiB in a second.
            slice = next_slice(slice, Duration::from_micros(slice * 1000 / (100 << 10) * 1000 / 1000));
        }
        assert_eq!(slice, 16 << 20, "160 ms");
        assert_eq!(next_slice(SLICE_MAX, MS(0)), SLICE_MAX);
        assert_eq!(next_slice(SLICE_MIN, MS(60_000)), SLICE_MIN);
        assert_eq!(next_slice(8 << 20, MS(500)), 4 << 20);
    }
}
