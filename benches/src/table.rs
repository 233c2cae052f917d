//! Rows of what was measured, by whom, what is aimed at, and whether that was reached.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::samples::{Ratio, Samples};

/// Who is compared with the others.
pub const OURS: &str = "volumed";

/// Below so many samples nothing is said of the slowest hundredth.
const TAIL_MIN: usize = 100;

/// What a value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Seconds,
    PerSecond,
    Bytes,
    BytesPerSecond,
    Count,
    Percent,
}

impl Unit {
    pub const fn less_is_better(self) -> bool {
        !matches!(self, Self::PerSecond | Self::BytesPerSecond)
    }

    /// For people.
    pub fn text(self, value: f64) -> String {
        const MIB: f64 = 1_048_576.0;
        match self {
            Self::Seconds if value >= 10.0 => format!("{value:.1} s"),
            Self::Seconds => format!("{:.2} ms", value * 1e3),
            Self::PerSecond if value >= 10.0 => format!("{value:.0}/s"),
            Self::PerSecond => format!("{value:.1}/s"),
            Self::Bytes if value >= MIB => format!("{:.1} MiB", value / MIB),
            Self::Bytes => format!("{:.1} KiB", value / 1024.0),
            Self::BytesPerSecond => format!("{:.0} MiB/s", value / MIB),
            Self::Count => format!("{value:.1}"),
            Self::Percent => format!("{value:.1} %"),
        }
    }
}

/// What is aimed at in a row. *Cost* is the value where less is better, else its inverse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Aim {
    /// `of` costs at most so many times what `to` costs.
    AtMost { of: String, to: String, times: f64 },
    /// `of` reaches at least this share of what `to` reaches.
    AtLeast { of: String, to: String, share: f64 },
    /// `of` is at least so many times better than `than`.
    Better { of: String, than: String, times: f64 },
    /// This share of the values of `of` is no larger.
    Within { of: String, share: f64, value: f64 },
}

impl Aim {
    pub fn at_most(times: f64, to: &str) -> Self {
        Self::AtMost { of: OURS.to_owned(), to: to.to_owned(), times }
    }

    pub fn at_least(share: f64, to: &str) -> Self {
        Self::AtLeast { of: OURS.to_owned(), to: to.to_owned(), share }
    }

    pub fn better(times: f64, than: &str) -> Self {
        Self::Better { of: OURS.to_owned(), than: than.to_owned(), times }
    }

    pub fn within(share: f64, value: f64) -> Self {
        Self::Within { of: OURS.to_owned(), share, value }
    }

    /// As the same aim of another way or peer.
    #[must_use]
    pub fn of(mut self, who: &str) -> Self {
        match &mut self {
            Self::AtMost { of, .. } | Self::AtLeast { of, .. } | Self::Better { of, .. } | Self::Within { of, .. } => {
                *of = who.to_owned();
            }
        }
        self
    }

    fn text(&self, unit: Unit) -> String {
        match self {
            Self::AtMost { of, to, times } => format!("{of} at most {times} times {to}"),
            Self::AtLeast { of, to, share } => format!("{of} at least {share} times {to}"),
            Self::Better { of, than, times } => format!("{of} at least {times} times better than {than}"),
            Self::Within { of, share, value } => {
                format!("{of}: {} % within {}", share * 100.0, unit.text(*value))
            }
        }
    }
}

/// What became of an aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Reached,
    Missed,
    NotMeasured,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Missed => "**missed**",
            Self::NotMeasured => "not measured",
        }
    }
}

/// One thing that was done, at one number of volumes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub what: String,
    /// How many volumes there were besides, where that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<usize>,
    pub unit: Unit,
    /// By peer or way.
    pub by: BTreeMap<String, Samples>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aims: Vec<Aim>,
    /// Why no better result can come about here, as far as something that was measured says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

impl Row {
    pub fn new(what: impl Into<String>, unit: Unit) -> Self {
        Self { what: what.into(), volumes: None, unit, by: BTreeMap::new(), aims: Vec::new(), limit: None }
    }

    #[must_use]
    pub fn at(self, volumes: usize) -> Self {
        Self { volumes: Some(volumes), ..self }
    }

    #[must_use]
    pub fn aiming(mut self, aims: impl IntoIterator<Item = Aim>) -> Self {
        self.aims.extend(aims);
        self
    }

    /// Samples to add to.
    pub fn of(&mut self, who: &str) -> &mut Samples {
        self.by.entry(who.to_owned()).or_default()
    }

    /// What `of` costs, in what `to` costs; below one is better.
    pub fn cost(&self, of: &str, to: &str) -> Option<Ratio> {
        let (of, to) = (self.by.get(of)?, self.by.get(to)?);
        if self.unit.less_is_better() { of.ratio_to(to) } else { to.ratio_to(of) }
    }

    /// Whether an aim was reached, and what was found.
    pub fn judge(&self, aim: &Aim) -> (Verdict, Option<f64>) {
        let (found, reached) = match aim {
            Aim::AtMost { of, to, times } => {
                let found = self.cost(of, to).map(|ratio| ratio.median);
                (found, found.map(|found| found <= *times))
            }
            Aim::AtLeast { of, to, share } => {
                let found = self.cost(to, of).map(|ratio| ratio.median);
                (found, found.map(|found| found >= *share))
            }
            Aim::Better { of, than, times } => {
                let found = self.cost(than, of).map(|ratio| ratio.median);
                (found, found.map(|found| found >= *times))
            }
            Aim::Within { of, share, value } => {
                let found = self.by.get(of).and_then(|samples| samples.share(*share));
                (found, found.map(|found| found <= *value))
            }
        };
        let verdict = match reached {
            None => Verdict::NotMeasured,
            Some(true) => Verdict::Reached,
            Some(false) => Verdict::Missed,
        };
        (verdict, found)
    }
}

/// Rows that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub title: String,
    pub rows: Vec<Row>,
}

impl Table {
    pub fn new(title: impl Into<String>, rows: Vec<Row>) -> Self {
        Self { title: title.into(), rows }
    }

    /// The peers, ours first.
    fn peers(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.rows.iter().flat_map(|row| row.by.keys().map(String::as_str)).collect();
        all.sort_by_key(|who| (*who != OURS, *who));
        all.dedup();
        all
    }

    /// As Markdown: values, ratios with their spread, and what became of the aims.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let peers = self.peers();
        let others: Vec<&str> = peers.iter().copied().filter(|who| *who != OURS).collect();
        let with_size = self.rows.iter().any(|row| row.volumes.is_some());
        let mut head = vec!["what: median (10 % - 90 %)".to_owned()];
        head.extend(with_size.then(|| "volumes".to_owned()));
        head.extend(peers.iter().map(|who| (*who).to_owned()));
        if peers.contains(&OURS) {
            head.extend(others.iter().map(|who| format!("{OURS} / {who}")));
        }
        _ = writeln!(text, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
        for row in &self.rows {
            let mut cells = vec![row.what.clone()];
            cells.extend(with_size.then(|| row.volumes.map_or_else(String::new, |count| count.to_string())));
            cells.extend(peers.iter().map(|who| row.by.get(*who).map_or_else(dash, |own| value(row.unit, own))));
            if peers.contains(&OURS) {
                cells.extend(others.iter().map(|who| row.cost(OURS, who).map_or_else(dash, times)));
            }
            _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        for row in &self.rows {
            for aim in &row.aims {
                let (verdict, found) = row.judge(aim);
                let found = match (aim, found) {
                    (_, None) => String::new(),
                    (Aim::Within { .. }, Some(found)) => format!(": {}", row.unit.text(found)),
                    (_, Some(found)) => format!(": {found:.2}"),
                };
                let at = row.volumes.map_or_else(String::new, |count| format!(" at {count} volumes"));
                let limit = row.limit.as_ref().filter(|_| verdict == Verdict::Missed);
                let limit = limit.map_or_else(String::new, |limit| format!(" ({limit})"));
                _ = write!(text, "\n- {}{at}: {}: {}{found}{limit}", row.what, aim.text(row.unit), verdict.word());
            }
        }
        text
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn value(unit: Unit, samples: &Samples) -> String {
    let [Some(low), Some(median), Some(high)] = [0.1, 0.5, 0.9].map(|share| samples.share(share)) else {
        return dash();
    };
    match samples.count() {
        1 => unit.text(median),
        count => {
            let worst = samples.share(0.99).filter(|_| count >= TAIL_MIN && unit.less_is_better());
            let worst = worst.map_or_else(String::new, |worst| format!(", 99 % {}", unit.text(worst)));
            format!("{} ({} - {}{worst})", unit.text(median), unit.text(low), unit.text(high))
        }
    }
}

/// What is very small is told as a fraction: 1/155 says more than 0.01.
fn times(ratio: Ratio) -> String {
    let one = |value: f64| if value >= 0.1 { format!("{value:.2}") } else { format!("1/{:.0}", 1.0 / value) };
    format!("{} ({} - {})", one(ratio.median), one(ratio.least), one(ratio.most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(unit: Unit, ours: f64, theirs: f64) -> Row {
        let mut row = Row::new("create", unit).at(1000);
        for round in 0..3 {
            row.of(OURS).add(round, ours);
            row.of("bare").add(round, theirs);
        }
        row
    }

    #[test]
    fn cost_is_better_below_one_whether_times_or_rates_are_measured() {
        assert_eq!(row(Unit::Seconds, 1.0, 2.0).cost(OURS, "bare").unwrap().median, 0.5);
        assert_eq!(row(Unit::PerSecond, 200.0, 100.0).cost(OURS, "bare").unwrap().median, 0.5);
    }

    #[test]
    fn aims_are_judged_and_what_was_not_measured_is_not_reached() {
        let one = row(Unit::Seconds, 1.0, 2.0);
        assert_eq!(one.judge(&Aim::at_most(0.5, "bare")), (Verdict::Reached, Some(0.5)));
        assert_eq!(one.judge(&Aim::at_most(0.4, "bare")).0, Verdict::Missed);
        assert_eq!(one.judge(&Aim::better(2.0, "bare")).0, Verdict::Reached);
        assert_eq!(one.judge(&Aim::better(2.0, "lvm2")), (Verdict::NotMeasured, None));
        assert_eq!(one.judge(&Aim::within(0.99, 0.9)).0, Verdict::Missed);
        let rate = row(Unit::PerSecond, 97.0, 100.0);
        assert_eq!(rate.judge(&Aim::at_least(0.97, "bare")).0, Verdict::Reached);
        assert_eq!(rate.judge(&Aim::at_least(0.98, "bare")).0, Verdict::Missed);
    }

    #[test]
    fn a_table_tells_values_ratios_and_verdicts() {
        let table = Table::new("t", vec![row(Unit::Seconds, 0.002, 0.4).aiming([Aim::better(50.0, "bare")])]);
        let text = table.markdown();
        assert!(text.contains("| what: median (10 % - 90 %) | volumes | volumed | bare | volumed / bare |"), "{text}");
        assert!(text.contains("| create | 1000 | 2.00 ms (2.00 ms - 2.00 ms) | 400.00 ms"), "{text}");
        assert!(text.contains("| 1/200 (1/200 - 1/200) |"), "{text}");
        assert!(
            text.contains("\n- create at 1000 volumes: volumed at least 50 times better than bare: reached: 200.00"),
            "{text}"
        );
    }
}
