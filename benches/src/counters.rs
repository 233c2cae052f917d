//! What an operation costs, counted. What is the same on every machine with disks of one kind is gated in CI: flushes, commits, ioctls,
//! uevents.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::at_rest;
use crate::disk::Disk;
use crate::peer::Peer;

/// What happens meanwhile besides only ever adds, so of several looks the least counts: so many of them,
const ROUNDS: usize = 6;
/// and so many until the least is what is on record, where there is a record.
const ROUNDS_MOST: usize = 20;
/// After so many looks half as much is done in each: on a slow machine what happens every few seconds meets every look that takes longer.
const ROUNDS_OF_A_LENGTH: usize = 3;
/// Told, and compared with nothing: how many processes begin depends on how long udev keeps its workers, and on threads; how many writes
/// and bytes a commit of the pool is depends on where in its metadata there is room, and on how the disk's queue joins writes.
const TOLD_ONLY: [&str; 3] = ["bytes", "processes", "writes"];
/// One disk holds a pool's data and its metadata: a commit flushes the data, writes the metadata, flushes, writes the superblock, flushes.
const FLUSHES_OF_A_POOL: u64 = 3;

/// Counts of one operation, each the least of several, per operation and rounded up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub who: String,
    pub what: String,
    /// How many volumes there were besides.
    pub volumes: usize,
    /// By name, in the order of the names: `bytes`, `commits` (of volumed's metadata), `dm_…` (calls of device-mapper, of volumed), `flushes`,
    /// `pool_commits`, `processes`, `uevents`, `writes`. What is none is left out.
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
        all.extend(peer.counted()?);
        Ok(Self(all))
    }

    /// For each of so many.
    fn since(&self, before: &Self, times: usize) -> BTreeMap<String, u64> {
        let grown = |(name, now): (&String, &u64)| {
            let before = before.0.get(name).copied().unwrap_or(0);
            (name.clone(), now.saturating_sub(before).div_ceil(times.max(1) as u64))
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
///
/// # Errors
/// `/proc/stat` does not tell.
pub fn processes() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("processes "));
    line.and_then(|count| count.trim().parse().ok()).context("the number of processes")
}

/// Something that a peer does, each time with a name that nothing else has.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub what: &'static str,
    /// Makes what it is done to; not counted.
    pub before: fn(&dyn Peer, &str) -> Result<()>,
    pub each: fn(&dyn Peer, &str) -> Result<()>,
    /// Undoes it; not counted.
    pub after: fn(&dyn Peer, &str) -> Result<()>,
}

/// Counts one operation of a peer, done so many times between two looks. What is `known` of it ends the looks as soon as it is found
/// again; another count is found after many.
///
/// # Errors
/// Those of the operations.
pub fn count(
    peer: &dyn Peer,
    operation: &Operation,
    volumes: usize,
    times: usize,
    known: Option<&Count>,
) -> Result<Count> {
    let mut count =
        Count { who: peer.who().to_owned(), what: operation.what.to_owned(), volumes, counts: BTreeMap::new() };
    let rounds = if known.is_some() { ROUNDS_MOST } else { ROUNDS };
    for round in 0..rounds {
        let halves = u32::try_from(round / ROUNDS_OF_A_LENGTH).unwrap_or(u32::MAX);
        // Two at least: what each second one costs more is found with two.
        let times = times.checked_shr(halves).unwrap_or(0).max(times.min(2));
        let names: Vec<String> = (0..times).map(|n| format!("n{volumes}-{round}-{n}")).collect();
        names.iter().try_for_each(|name| (operation.before)(peer, name))?;
        peer.settle()?;
        at_rest();
        let before = Look::take(peer, peer.disk())?;
        names.iter().try_for_each(|name| (operation.each)(peer, name))?;
        let found = Look::take(peer, peer.disk())?.since(&before, times);
        names.iter().try_for_each(|name| (operation.after)(peer, name))?;
        for (name, value) in found {
            let least = count.counts.entry(name).or_insert(u64::MAX);
            *least = value.min(*least);
        }
        if known.is_some_and(|known| round > 0 && gated(&count) == gated(known)) {
            break;
        }
    }
    Ok(count.complete())
}

/// What is compared.
fn gated(count: &Count) -> BTreeMap<&str, u64> {
    let all = count.counts.iter().map(|(name, count)| (name.as_str(), *count));
    all.filter(|(name, count)| *count > 0 && !TOLD_ONLY.contains(name) && *name != "pool_commits").collect()
}

impl Count {
    /// With what follows from the rest, and without what is none: a table of zeroes hides what is there.
    fn complete(mut self) -> Self {
        let of = |name: &str| self.counts.get(name).copied().unwrap_or(0);
        let pool = of("flushes").saturating_sub(of("commits"));
        // LVM2 flushes for its own metadata too.
        if self.who != "lvm2" && pool % FLUSHES_OF_A_POOL == 0 {
            self.counts.insert("pool_commits".to_owned(), pool / FLUSHES_OF_A_POOL);
        }
        self.counts.retain(|_, count| *count > 0);
        self
    }
}

/// Columns of the table for people: what they are called, and what they add up. Resuming is the ioctl of suspending.
const COLUMNS: [(&str, &[&str]); 9] = [
    (
        "ioctls that change",
        &["dm_dev_create", "dm_dev_remove", "dm_dev_suspend", "dm_table_clear", "dm_table_load", "dm_target_message"],
    ),
    ("ioctls that look", &["dm_dev_status", "dm_list_devices", "dm_list_versions", "dm_table_status", "dm_version"]),
    ("own commits", &["commits"]),
    ("commits of the pool", &["pool_commits"]),
    ("flushes", &["flushes"]),
    ("writes", &["writes"]),
    ("bytes", &["bytes"]),
    ("uevents", &["uevents"]),
    ("processes", &["processes"]),
];

/// As Markdown.
pub fn markdown(counts: &[Count]) -> String {
    let heads: Vec<&str> = COLUMNS.iter().map(|(head, _)| *head).collect();
    let mut lines = vec![
        format!("| each | volumes | by | {} |", heads.join(" | ")),
        format!("|{}", "---|".repeat(heads.len() + 3)),
    ];
    // What is compared stands together.
    let place = |one: &Count| counts.iter().position(|first| first.what == one.what);
    let mut rows: Vec<&Count> = counts.iter().collect();
    rows.sort_by_key(|one| (place(one), one.volumes));
    lines.extend(rows.into_iter().map(|one| {
        let cell = |(_, names): &(&str, &[&str])| {
            let told = names.iter().filter_map(|name| one.counts.get(*name));
            // Nobody counts LVM2's.
            let unknown =
                one.who == "lvm2" && names.iter().any(|name| name.starts_with("dm_") || name.contains("commits"));
            if unknown { "-".to_owned() } else { told.sum::<u64>().to_string() }
        };
        let cells: Vec<String> = COLUMNS.iter().map(cell).collect();
        format!("| {} | {} | {} | {} |", one.what, one.volumes, one.who, cells.join(" | "))
    }));
    lines.join("\n")
}

/// How what was counted differs from what is on record, for one peer; empty if it does not. Better is another count too: who saves a
/// flush changes the record with it.
pub fn differences(on_record: &[Count], found: &[Count], who: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = |one: &Count| format!("{} at {} volumes", one.what, one.volumes);
    let same =
        |one: &Count, other: &Count| (&one.who, &one.what, one.volumes) == (&other.who, &other.what, other.volumes);
    for one in found.iter().filter(|one| one.who == who) {
        let Some(known) = on_record.iter().find(|known| same(one, known)) else {
            wrong.push(format!("{} is not on record: {:?}", name(one), gated(one)));
            continue;
        };
        let (now, then) = (gated(one), gated(known));
        let mut keys: Vec<&str> = now.keys().chain(then.keys()).copied().collect();
        keys.sort_unstable();
        keys.dedup();
        let value = |all: &BTreeMap<&str, u64>, key: &str| all.get(key).copied().unwrap_or(0);
        let other = keys.into_iter().filter(|key| value(&now, key) != value(&then, key));
        wrong.extend(
            other.map(|key| format!("{}: {key} {}; on record are {}", name(one), value(&now, key), value(&then, key))),
        );
    }
    let gone = on_record.iter().filter(|known| known.who == who && !found.iter().any(|one| same(one, known)));
    wrong.extend(gone.map(|known| format!("{} is on record and was not counted", name(known))));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(what: &str, counts: &[(&str, u64)]) -> Count {
        let counts = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Count { who: "volumed".into(), what: what.into(), volumes: 0, counts }
    }

    #[test]
    fn any_other_count_is_a_difference_and_so_is_a_missing_one() {
        let flushes = |what, count| one(what, &[("flushes", count)]);
        let record = [flushes("create", 7), flushes("delete", 1)];
        assert_eq!(differences(&record, &record, "volumed"), Vec::<String>::new());
        let less = differences(&record, &[flushes("create", 6), flushes("delete", 1)], "volumed");
        assert_eq!(less, ["create at 0 volumes: flushes 6; on record are 7"]);
        assert_eq!(differences(&record, &[flushes("create", 7), flushes("snapshot", 1)], "volumed").len(), 2);
        // Of others nothing is gated.
        assert_eq!(differences(&record, &[], "lvm2"), Vec::<String>::new());
    }

    #[test]
    fn what_depends_on_udev_or_on_the_room_in_a_pool_is_told_and_not_compared() {
        let record = [one("create", &[("flushes", 7)])];
        let found = [one("create", &[("flushes", 7), ("processes", 3), ("writes", 9), ("bytes", 4096)])];
        assert_eq!(differences(&record, &found, "volumed"), Vec::<String>::new());
    }

    #[test]
    fn a_look_is_per_operation_and_never_below_what_one_took() {
        let before = Look(BTreeMap::from([("writes".to_owned(), 100)]));
        let after = Look(BTreeMap::from([("writes".to_owned(), 111), ("dm_table_load".to_owned(), 10)]));
        let found = after.since(&before, 10);
        assert_eq!((found["writes"], found["dm_table_load"]), (2, 1));
    }

    #[test]
    fn commits_of_the_pool_are_what_the_flushes_leave() {
        let all = one("create", &[("flushes", 7), ("commits", 1), ("uevents", 0)]).complete();
        assert_eq!(all.counts, one("", &[("flushes", 7), ("commits", 1), ("pool_commits", 2)]).counts);
    }
}
