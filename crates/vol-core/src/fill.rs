//! How fast a pool fills, when it will be full, and when that is to be told.
//!
//! Pure: times are passed in, as what has gone by on a clock that only goes forward, since whenever.

use std::collections::VecDeque;
use std::time::Duration;

use vol_types::Bytes;

/// How sure a trend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Seen for a short time, or unsteady.
    Low,
    /// Much the same over the last minute and the last ten.
    Medium,
    /// Much the same over the last ten minutes and the last hour.
    High,
}

impl Confidence {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// How fast a pool fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trend {
    /// Negative when it empties.
    pub bytes_per_second: i64,
    pub confidence: Confidence,
}

impl Trend {
    /// Seconds until `room` more bytes are written; `None` if the pool does not fill.
    pub fn time_to_fill(&self, room: Bytes) -> Option<u64> {
        let rate = u64::try_from(self.bytes_per_second).ok().filter(|rate| *rate > 0)?;
        Some(room.get() / rate)
    }
}

/// What was in use at points of the last so many seconds, in steps of a sixtieth of that or so.
#[derive(Clone, Debug)]
struct Window {
    len: Duration,
    samples: VecDeque<(Duration, u64)>,
}

/// Samples that a window keeps.
const SAMPLES: u32 = 60;

impl Window {
    const fn of(seconds: u64) -> Self {
        Self { len: Duration::from_secs(seconds), samples: VecDeque::new() }
    }

    fn add(&mut self, at: Duration, used: u64) {
        while self.samples.front().is_some_and(|(oldest, _)| at.saturating_sub(*oldest) > self.len) {
            self.samples.pop_front();
        }
        let due = self.samples.back().is_none_or(|(last, _)| at.saturating_sub(*last) >= self.len / SAMPLES);
        if due {
            self.samples.push_back((at, used));
        }
    }

    /// Bytes a second from the oldest sample to now, if that is at least `share` of the window's length ago.
    fn rate(&self, (at, used): (Duration, u64), share: u32) -> Option<i64> {
        let (since, before) = *self.samples.front()?;
        let span = at.saturating_sub(since);
        if span < self.len / share || span.is_zero() {
            return None;
        }
        let change = i128::from(used) - i128::from(before);
        i64::try_from(change * 1000 / i128::try_from(span.as_millis()).ok()?.max(1)).ok()
    }
}

/// For how long at the present rate what is free must last at least: until the pool was looked at again and has grown.
const AHEAD: Duration = Duration::from_secs(5);

/// What was in use of a pool over the last hour. In memory only: a daemon that starts anew begins to look anew.
#[derive(Clone, Debug)]
pub struct History {
    moment: Window,
    minute: Window,
    ten_minutes: Window,
    hour: Window,
    latest: Option<(Duration, u64)>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            moment: Window::of(10),
            minute: Window::of(60),
            ten_minutes: Window::of(600),
            hour: Window::of(3600),
            latest: None,
        }
    }
}

/// Whether two rates are much the same: neither is more than twice the other.
const fn agree(a: i64, b: i64) -> bool {
    a > 0 && b > 0 && a / 2 <= b && b / 2 <= a
}

impl History {
    /// So much is in use at this time. Times do not go back; one that does is taken for the latest.
    pub fn add(&mut self, at: Duration, used: Bytes) {
        let at = self.latest.map_or(at, |(last, _)| at.max(last));
        for window in [&mut self.moment, &mut self.minute, &mut self.ten_minutes, &mut self.hour] {
            window.add(at, used.get());
        }
        self.latest = Some((at, used.get()));
    }

    /// When it was looked at last.
    pub fn latest_at(&self) -> Option<Duration> {
        self.latest.map(|(at, _)| at)
    }

    /// Bytes a second that are being written just now, as seen over the last ten seconds.
    pub fn present_rate(&self) -> u64 {
        let rate = self.latest.and_then(|latest| self.moment.rate(latest, 20));
        rate.and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0)
    }

    /// How much more may be written soon: as much as in the last minute, or what the present rate makes of the next
    /// `AHEAD`. Not a minute of the present rate, or a burst of seconds would claim what it never writes.
    pub fn ahead(&self) -> Bytes {
        let minute = self.minute.samples.iter().map(|(_, used)| *used).min();
        let written = self.latest.map_or(0, |(_, used)| used.saturating_sub(minute.unwrap_or(used)));
        Bytes(written.max(self.present_rate().saturating_mul(AHEAD.as_secs())))
    }

    /// How fast the pool fills, once it was looked at for a quarter of a minute.
    pub fn trend(&self) -> Option<Trend> {
        let latest = self.latest?;
        let (minute, ten) = (self.minute.rate(latest, 4), self.ten_minutes.rate(latest, 4));
        let trend = |bytes_per_second, confidence| Some(Trend { bytes_per_second, confidence });
        if let (Some(hour), Some(ten)) = (self.hour.rate(latest, 2), ten) {
            return match agree(hour, ten) {
                true => trend(hour, Confidence::High),
                // Of two that differ the faster one is the safer guess.
                false => trend(hour.max(ten), Confidence::Low),
            };
        }
        if let (Some(ten), Some(minute)) = (self.ten_minutes.rate(latest, 2), minute) {
            return match agree(ten, minute) {
                true => trend(ten, Confidence::Medium),
                false => trend(ten.max(minute), Confidence::Low),
            };
        }
        trend(ten.or(minute)?, Confidence::Low)
    }
}

/// How full a pool is, counting what it may still grow by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Percent of its data that are in use, or spoken for.
    pub data: u32,
    /// Percent of its metadata.
    pub metadata: u32,
    /// Seconds until its data are full, and how sure that is.
    pub time_to_full: Option<(u64, Confidence)>,
}

/// Percent of data from which a pool is filling, nearly full, almost full.
pub const DATA_LEVELS: [u32; 3] = [80, 90, 95];
/// Percent of metadata from which they are filling, nearly full.
pub const METADATA_LEVELS: [u32; 2] = [75, 90];
/// Seconds to full below which it is told: a day, an hour.
pub const TIME_LEVELS: [u64; 2] = [86_400, 3600];
/// How far below its threshold, in percent points, something has to fall before it is over.
const SLACK: u32 = 3;

/// What is told of a pool at present. A threshold that was passed is passed until the value is clearly on the other side of it
/// again, so that a pool that hovers about one is told of once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// How many of [`DATA_LEVELS`] are passed.
    pub data: usize,
    /// How many of [`METADATA_LEVELS`].
    pub metadata: usize,
    /// How many of [`TIME_LEVELS`].
    pub time: usize,
}

fn passed(percent: u32, levels: &[u32], before: usize) -> usize {
    let now = levels.iter().filter(|level| percent >= **level).count();
    let held = levels.iter().filter(|level| percent + SLACK > **level).count();
    now.max(before.min(held))
}

impl Alarms {
    /// Takes account of how full the pool is now.
    pub fn update(&mut self, fill: &Fill) {
        self.data = passed(fill.data, &DATA_LEVELS, self.data);
        self.metadata = passed(fill.metadata, &METADATA_LEVELS, self.metadata);
        self.time = match fill.time_to_full {
            None => 0,
            Some((seconds, confidence)) => {
                let below = |slack: u64| TIME_LEVELS.iter().filter(|level| seconds < **level / 4 * slack).count();
                // A guess is not told, but does not end what was told either.
                let now = if confidence >= Confidence::Medium { below(4) } else { 0 };
                now.max(self.time.min(below(5)))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = Bytes::MIB;

    /// A pool that is looked at every five seconds for so long, while it fills at `rate`.
    fn steady(seconds: u64, rate: u64) -> History {
        let mut history = History::default();
        for at in (0..=seconds).step_by(5) {
            history.add(Duration::from_secs(at), Bytes(at * rate));
        }
        history
    }

    #[test]
    fn the_longer_a_rate_was_steady_the_surer_it_is() {
        assert_eq!(History::default().trend(), None);
        assert_eq!(steady(10, MIB).trend(), None, "ten seconds are no trend");
        for (seconds, confidence) in [
            (20, Confidence::Low),
            (200, Confidence::Low),
            (400, Confidence::Medium),
            (1000, Confidence::Medium),
            (2000, Confidence::High),
            (20_000, Confidence::High),
        ] {
            let trend = steady(seconds, MIB).trend().unwrap();
            assert_eq!((trend.bytes_per_second, trend.confidence), (MIB as i64, confidence), "after {seconds} s");
        }
        assert_eq!(steady(2000, MIB).trend().unwrap().time_to_fill(Bytes(3600 * MIB)), Some(3600));
    }

    #[test]
    fn what_does_not_fill_has_no_time_to_full() {
        let mut history = steady(4000, 0);
        assert_eq!(history.trend().unwrap().time_to_fill(Bytes::gib(1)), None);
        history.add(Duration::from_secs(4001), Bytes::ZERO);
        let mut emptying = steady(300, MIB);
        for at in (300..4000).step_by(5) {
            emptying.add(Duration::from_secs(at), Bytes((4000 - at) * MIB));
        }
        assert!(emptying.trend().unwrap().bytes_per_second < 0);
        assert_eq!(emptying.trend().unwrap().time_to_fill(Bytes::gib(1)), None);
    }

    #[test]
    fn a_rate_that_changed_is_a_guess_and_the_faster_one() {
        let mut history = steady(3600, MIB);
        for at in (3600..4200).step_by(5) {
            history.add(Duration::from_secs(at), Bytes((3600 + (at - 3600) * 100) * MIB));
        }
        let trend = history.trend().unwrap();
        assert_eq!(trend.confidence, Confidence::Low);
        assert!(trend.bytes_per_second > 90 * MIB as i64, "{trend:?}");
    }

    #[test]
    fn a_burst_is_seen_within_a_second() {
        let mut history = steady(100, 0);
        assert_eq!(history.present_rate(), 0);
        history.add(Duration::from_millis(100_500), Bytes(500 * MIB));
        assert!(history.present_rate() >= 40 * MIB, "{}", history.present_rate());
    }

    #[test]
    fn what_may_be_written_soon_is_what_was_written_in_a_minute_and_no_more_for_a_burst() {
        assert_eq!(History::default().ahead(), Bytes::ZERO);
        assert_eq!(steady(1000, MIB).ahead(), Bytes(60 * MIB));
        // Two seconds at 100 MiB a second, after a long rest: five more of them, not a minute.
        let mut burst = steady(1000, 0);
        for at in 1..=4 {
            burst.add(Duration::from_millis(1_000_000 + at * 500), Bytes(at * 50 * MIB));
        }
        assert!(burst.ahead() <= Bytes(500 * MIB) && burst.ahead() >= Bytes(200 * MIB), "{}", burst.ahead());
        // What was deleted does not count against what was written.
        burst.add(Duration::from_secs(1003), Bytes::ZERO);
        assert_eq!(burst.ahead(), Bytes::ZERO);
    }

    #[test]
    fn alarms_come_at_their_thresholds_and_go_only_well_below() {
        let mut alarms = Alarms::default();
        let mut data = |percent| {
            alarms.update(&Fill { data: percent, metadata: 0, time_to_full: None });
            alarms.data
        };
        let levels: Vec<_> =
            [79, 80, 79, 78, 77, 79, 90, 96, 94, 93, 92, 89, 87, 50].into_iter().map(&mut data).collect();
        assert_eq!(levels, [0, 1, 1, 1, 0, 0, 2, 3, 3, 3, 2, 2, 1, 0]);
    }

    #[test]
    fn a_time_to_full_is_told_when_it_is_more_than_a_guess() {
        let mut alarms = Alarms::default();
        let mut time = |seconds, confidence| {
            alarms.update(&Fill { data: 0, metadata: 0, time_to_full: Some((seconds, confidence)) });
            alarms.time
        };
        assert_eq!(time(1000, Confidence::Low), 0);
        assert_eq!(time(80_000, Confidence::Medium), 1);
        assert_eq!(time(90_000, Confidence::Low), 1, "it hovers");
        assert_eq!(time(110_000, Confidence::High), 0);
        assert_eq!(time(3000, Confidence::High), 2);
        alarms.update(&Fill { data: 0, metadata: 0, time_to_full: None });
        assert_eq!(alarms.time, 0);
    }

    proptest! {
        #[test]
        fn any_history_is_bounded_and_makes_a_trend_or_none(
            samples in proptest::collection::vec((0u64..1_000_000, any::<u64>()), 1..400),
        ) {
            let mut history = History::default();
            for (millis, used) in samples {
                history.add(Duration::from_millis(millis), Bytes(used));
                let _ = (history.trend(), history.present_rate(), history.ahead());
            }
            for window in [&history.moment, &history.minute, &history.ten_minutes, &history.hour] {
                prop_assert!(window.samples.len() <= SAMPLES as usize + 1);
            }
        }
    }
}
