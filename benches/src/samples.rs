//! What was measured of one thing, in the rounds in which peers took turns.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Below so many rounds nothing is said of how two peers compare.
const ROUNDS_MIN: usize = 3;

/// Values of one thing that one peer did, round by round, in the base unit of what is measured (seconds, bytes, a second).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Samples {
    rounds: Vec<Vec<f64>>,
}

/// How two peers compare: of each round the ratio of its medians, and of these the median, the least and the most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub rounds: usize,
}

impl Samples {
    /// Values that are no numbers are left out.
    pub fn add(&mut self, round: usize, value: f64) {
        if self.rounds.len() <= round {
            self.rounds.resize_with(round + 1, Vec::new);
        }
        if let Some(own) = self.rounds.get_mut(round).filter(|_| value.is_finite()) {
            own.push(value);
        }
    }

    /// In seconds.
    pub fn add_time(&mut self, round: usize, time: Duration) {
        self.add(round, time.as_secs_f64());
    }

    pub fn count(&self) -> usize {
        self.rounds.iter().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The value below which this share of all of them lies; `None` without any.
    pub fn share(&self, share: f64) -> Option<f64> {
        quantile(self.rounds.iter().flatten().copied(), share)
    }

    pub fn median(&self) -> Option<f64> {
        self.share(0.5)
    }

    /// The median of one round.
    pub fn of_round(&self, round: usize) -> Option<f64> {
        quantile(self.rounds.get(round)?.iter().copied(), 0.5)
    }

    /// `None` where fewer than three rounds have values of both, or a median of `other` is zero.
    pub fn ratio_to(&self, other: &Self) -> Option<Ratio> {
        let of_round = |(ours, theirs): (&Vec<f64>, &Vec<f64>)| {
            let theirs = quantile(theirs.iter().copied(), 0.5).filter(|median| *median > 0.0)?;
            Some(quantile(ours.iter().copied(), 0.5)? / theirs)
        };
        let ratios: Vec<f64> = self.rounds.iter().zip(&other.rounds).filter_map(of_round).collect();
        if ratios.len() < ROUNDS_MIN {
            return None;
        }
        let of_all = |share| quantile(ratios.iter().copied(), share);
        Some(Ratio { median: of_all(0.5)?, least: of_all(0.0)?, most: of_all(1.0)?, rounds: ratios.len() })
    }
}

impl Ratio {
    /// The other way round.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self { median: 1.0 / self.median, least: 1.0 / self.most, most: 1.0 / self.least, ..self }
    }
}

/// The nearest value in order; no value is made up between two.
fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> Option<f64> {
    let mut all: Vec<f64> = values.into_iter().collect();
    all.sort_by(f64::total_cmp);
    let at = all.len().checked_sub(1)? as f64 * share.clamp(0.0, 1.0);
    all.get(at.round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rounds: &[&[f64]]) -> Samples {
        Samples { rounds: rounds.iter().map(|round| round.to_vec()).collect() }
    }

    #[test]
    fn shares_are_of_all_rounds_together() {
        let samples = of(&[&[5.0, 1.0], &[3.0], &[2.0, 4.0]]);
        assert_eq!((samples.share(0.0), samples.median(), samples.share(1.0)), (Some(1.0), Some(3.0), Some(5.0)));
        assert_eq!(Samples::default().median(), None);
        let mut strange = Samples::default();
        strange.add(0, f64::NAN);
        assert!(strange.is_empty());
    }

    #[test]
    fn a_ratio_compares_round_with_round_so_a_slow_minute_is_slow_for_both() {
        // In the second round the machine was ten times slower.
        let (ours, theirs) = (of(&[&[2.0], &[20.0], &[2.2]]), of(&[&[1.0], &[10.0], &[1.0]]));
        let ratio = ours.ratio_to(&theirs).unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most, ratio.rounds), (2.0, 2.0, 2.2, 3));
        let inverse = ratio.inverse();
        assert_eq!((inverse.median, inverse.most), (0.5, 0.5));
    }

    #[test]
    fn fewer_than_three_rounds_of_both_say_nothing() {
        let three = of(&[&[1.0], &[1.0], &[1.0]]);
        assert_eq!(three.ratio_to(&of(&[&[1.0], &[1.0]])), None);
        assert_eq!(three.ratio_to(&of(&[&[1.0], &[], &[1.0]])), None);
        assert_eq!(three.ratio_to(&of(&[&[1.0], &[0.0], &[1.0]])), None);
        assert!(three.ratio_to(&three).is_some());
    }
}
