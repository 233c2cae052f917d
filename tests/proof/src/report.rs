//! The table at the end, and the gates.

use std::collections::BTreeMap;
use std::fmt;

use vol_sim::EffectKind;

use crate::enumerate::Counts;
use crate::ops::Op;

/// One line of the table.
#[derive(Clone, Debug, Default)]
pub struct Line {
    pub name: String,
    pub cases: u64,
    pub states: u64,
    pub distinct: u64,
    pub judged: u64,
    pub seconds: f64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = if self.judged == 0 { 0.0 } else { self.seconds * 1e6 / self.judged as f64 };
        write!(
            f,
            "{:<44} {:>8} {:>10} {:>10} {:>10} {:>8.1} {:>9.1}",
            self.name, self.cases, self.states, self.distinct, self.judged, self.seconds, each
        )
    }
}

/// The head of the table.
pub fn head() -> String {
    let (part, cases, states, distinct, judged) = ("part", "cases", "states", "distinct", "judged");
    format!("{part:<44} {cases:>8} {states:>10} {distinct:>10} {judged:>10} {:>8} {:>9}", "seconds", "us/judged")
}

/// Which operations were cut short, and in what.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    ops: BTreeMap<Op, BTreeMap<EffectKind, u64>>,
    missed: Vec<String>,
}

impl Coverage {
    pub fn add(&mut self, op: Op, counts: &Counts) {
        let kinds = self.ops.entry(op).or_default();
        for (kind, count) in &counts.kinds {
            *kinds.entry(*kind).or_default() += count;
        }
        if counts.effects != counts.effects_cut {
            self.missed.push(format!("{op} has {} effects, cut short in {}", counts.effects, counts.effects_cut));
        }
    }

    /// What is not covered.
    pub fn gaps(&self, wanted: impl Iterator<Item = Op>) -> Vec<String> {
        let never = wanted.filter(|op| !self.ops.contains_key(op)).map(|op| format!("{op} was never cut short"));
        self.missed.iter().cloned().chain(never).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (op, kinds) in &self.ops {
            let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
            writeln!(f, "  {:<26} {}", op.to_string(), kinds.join(", "))?;
        }
        Ok(())
    }
}
