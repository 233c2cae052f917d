//! What an operation costs, counted: the same on every machine, and so gated in CI.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::at_rest;
use crate::disk::Disk;
use crate::peer::Peer;

/// How often something is done between two looks, and how often that is repeated. What else is written meanwhile only ever adds, so the
/// least counts.
const TIMES: usize = 10;
const ROUNDS: usize = 3;

/// Counts of one operation, each the least of several, per operation and rounded up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub who: String,
    pub what: String,
    /// How many volumes there were besides.
    pub volumes: usize,
    /// By name, in the order of the names: `bytes`, `dm_…`, `flushes`, `processes`, `uevents`, `writes`.
    pub counts: BTreeMap<String, u64>,
}

/// All counters at one moment.
#[derive(Clone, Debug, Default)]
struct Look(BTreeMap<String, u64>);

impl Look {
    fn take(peer: &dyn Peer, disk: &Disk) -> Result<Self> {
        let written = disk.written()?;
        let mut all = BTreeMap::from([
            ("writes".to_owned(), written.writes),
            ("bytes".to_owned(), written.bytes),
            ("flushes".to_owned(), written.flushes),
            ("uevents".to_owned(), uevents()?),
            ("processes".to_owned(), processes()?),
        ]);
        for (call, count) in peer.dm_calls()? {
            all.insert(format!("dm_{call}"), count);
        }
        Ok(Self(all))
    }

    fn since(&self, before: &Self) -> BTreeMap<String, u64> {
        let grown = |(name, now): (&String, &u64)| {
            (name.clone(), now.saturating_sub(before.0.get(name).copied().unwrap_or(0)).div_ceil(TIMES as u64))
        };
        self.0.iter().map(grown).collect()
    }
}

/// Uevents since the machine started: each has a number.
fn uevents() -> Result<u64> {
    let text = fs::read_to_string("/sys/kernel/uevent_seqnum").context("the number of uevents")?;
    text.trim().parse().context("the number of uevents")
}

/// Processes and threads that were begun since the machine started (`proc_stat(5)`): none may begin by itself meanwhile.
fn processes() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("processes "));
    line.and_then(|count| count.trim().parse().ok()).context("the number of processes")
}

/// Counts one operation of a peer. `each` is told a number that no earlier call was told; `after` undoes what all of a round did, uncounted.
///
/// # Errors
/// Those of the operations.
pub fn count(
    peer: &dyn Peer,
    what: &str,
    volumes: usize,
    mut each: impl FnMut(usize) -> Result<()>,
    mut after: impl FnMut(std::ops::Range<usize>) -> Result<()>,
) -> Result<Count> {
    let mut least: Option<BTreeMap<String, u64>> = None;
    for round in 0..ROUNDS {
        peer.settle()?;
        at_rest();
        let names = round * TIMES..(round + 1) * TIMES;
        let before = Look::take(peer, peer.disk())?;
        names.clone().try_for_each(&mut each)?;
        let found = Look::take(peer, peer.disk())?.since(&before);
        least = Some(match least {
            None => found,
            Some(least) => least
                .into_iter()
                .map(|(name, count)| {
                    let other = found.get(&name).copied().unwrap_or(count);
                    (name, count.min(other))
                })
                .collect(),
        });
        after(names)?;
    }
    let mut counts = least.unwrap_or_default();
    // What is none is not told: a table of zeroes hides what is there.
    counts.retain(|_, count| *count > 0);
    Ok(Count { who: peer.who().to_owned(), what: what.to_owned(), volumes, counts })
}

/// As Markdown.
pub fn markdown(counts: &[Count]) -> String {
    let mut names: Vec<&str> = counts.iter().flat_map(|one| one.counts.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    let mut lines = vec![
        format!("| by | each | volumes | {} |", names.join(" | ")),
        format!("|{}", "---|".repeat(names.len() + 3)),
    ];
    lines.extend(counts.iter().map(|one| {
        let cells: Vec<String> =
            names.iter().map(|name| one.counts.get(*name).copied().unwrap_or(0).to_string()).collect();
        format!("| {} | {} | {} | {} |", one.who, one.what, one.volumes, cells.join(" | "))
    }));
    lines.join("\n")
}

/// How what was counted differs from what is on record, for one peer; empty if it does not. Better is another count too: who saves a
/// flush changes the record with it.
pub fn differences(on_record: &[Count], found: &[Count], who: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let key = |one: &Count| (one.what.clone(), one.volumes);
    let of = |all: &[Count]| -> BTreeMap<(String, usize), BTreeMap<String, u64>> {
        all.iter().filter(|one| one.who == who).map(|one| (key(one), one.counts.clone())).collect()
    };
    let (on_record, found) = (of(on_record), of(found));
    for (key, counts) in &found {
        let (what, volumes) = key;
        match on_record.get(key) {
            None => wrong.push(format!("{what} at {volumes} volumes is not on record: {counts:?}")),
            Some(known) if known != counts => {
                wrong.push(format!("{what} at {volumes} volumes costs {counts:?}; on record are {known:?}"));
            }
            Some(_) => {}
        }
    }
    let gone = on_record.keys().filter(|key| !found.contains_key(*key));
    wrong.extend(gone.map(|(what, volumes)| format!("{what} at {volumes} volumes is on record and was not counted")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(what: &str, flushes: u64) -> Count {
        Count {
            who: "volumed".into(),
            what: what.into(),
            volumes: 0,
            counts: BTreeMap::from([("flushes".to_owned(), flushes)]),
        }
    }

    #[test]
    fn any_other_count_is_a_difference_and_so_is_a_missing_one() {
        let record = [one("create", 7), one("delete", 1)];
        assert_eq!(differences(&record, &record, "volumed"), Vec::<String>::new());
        assert_eq!(differences(&record, &[one("create", 6), one("delete", 1)], "volumed").len(), 1);
        assert_eq!(differences(&record, &[one("create", 7), one("snapshot", 1)], "volumed").len(), 2);
        // Of others nothing is gated.
        assert_eq!(differences(&record, &[], "lvm2"), Vec::<String>::new());
    }

    #[test]
    fn a_look_is_per_operation_and_never_below_what_one_took() {
        let before = Look(BTreeMap::from([("writes".to_owned(), 100)]));
        let after = Look(BTreeMap::from([("writes".to_owned(), 111), ("dm_table_load".to_owned(), 10)]));
        let found = after.since(&before);
        assert_eq!((found["writes"], found["dm_table_load"]), (2, 1));
    }
}
