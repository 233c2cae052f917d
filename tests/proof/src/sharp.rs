//! Sharpness: the product is made wrong in many small ways, one at a time, and each must be found.
//!
//! [`defects::DEFECTS`] is the table. For each defect the hunts run, the expected one first, until one of them fails: then the defect
//! is caught. All hunts pass without a defect. A defect that no hunt finds is either harmless, and goes, or shows that a test is missing.
//!
//! A hunt is a list of cases of fixed length, so that a defect cannot be found by waiting; what hangs ends the run as a failure.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::enumerate::{Case, Shared, walk};
use crate::model::Model;
use crate::ops::{Op, Shape, all_ops};
use crate::work::{self, Dice, quietly};
use crate::{schedule, seeds};

pub mod defects;
mod hotplug;
mod plans;
pub mod scenarios;
mod stories;

use defects::{DEFECTS, Defect, Kind};

/// So many defects there are at least. It may only go up.
pub const LEAST: usize = 95;
/// One defect never takes so long (it takes seconds), even where it only gets the time that others leave.
const STUCK: Duration = Duration::from_secs(900);
const SEEDS: u64 = 300;
const TWO_OPERATIONS: usize = 100;

/// A kind of search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hunt {
    /// Directed stories: what random walks rarely reach.
    Scenarios,
    /// Every crash of one operation.
    OneOperation,
    /// Every crash of the second of two operations, sampled.
    TwoOperations,
    /// Random histories with faults.
    Seeds,
}

impl Hunt {
    /// The cheap ones first.
    pub const ALL: [Self; 4] = [Self::Scenarios, Self::OneOperation, Self::TwoOperations, Self::Seeds];
}

impl fmt::Display for Hunt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scenarios => "scenario",
            Self::OneOperation => "1 operation",
            Self::TwoOperations => "2 operations",
            Self::Seeds => "seed",
        })
    }
}

/// What is hunted through.
struct Ground {
    one: Vec<Case>,
    two: Vec<Case>,
}

impl Ground {
    fn new() -> Self {
        let all = schedule::parts(true).swap_remove(0).cases;
        let small = |case: &&Case| case.shape == Shape::new(2, 2);
        let wide = |case: &&Case| case.shape == Shape::new(3, 3);
        let mut one: Vec<Case> = all.iter().filter(small).cloned().collect();
        one.extend(all.iter().filter(wide).step_by(3).cloned());
        one.iter_mut().for_each(|case| case.deep = 0);
        let mut dice = Dice(1);
        let mut two = Vec::new();
        let all: Vec<&Case> = all.iter().filter(|case| case.shape.copies == case.shape.disks).collect();
        while two.len() < TWO_OPERATIONS {
            let Some(case) = all.get(dice.below(all.len() as u64) as usize) else { break };
            let mut before = case.before.clone();
            before.push(case.op);
            let mut version = 0;
            let model = before.iter().fold(Model::default(), |model, op| {
                version += 1;
                model.apply(*op, case.shape, version).after
            });
            let next: Vec<Op> = all_ops().iter().copied().filter(|op| model.changes(*op, case.shape)).collect();
            if let Some(op) = dice.pick(&next) {
                two.push(Case { before, op, deep: 0, ..(*case).clone() });
            }
        }
        Self { one, two }
    }

    /// `Err` tells where something is wrong, and what. `walked`: states, seeds or scenarios that were looked at.
    fn hunt(&self, hunt: Hunt, walked: &mut u64) -> Result<(), Find> {
        match hunt {
            Hunt::Scenarios => scenarios::all().try_for_each(|(name, run)| {
                *walked += 1;
                let told = quietly(run).and_then(|told| told);
                told.map_err(|what| Find { place: name.to_owned(), what })
            }),
            Hunt::OneOperation => walk_all(&self.one, walked),
            Hunt::TwoOperations => walk_all(&self.two, walked),
            Hunt::Seeds => (1..=SEEDS).try_for_each(|seed| {
                *walked += 1;
                let told = seeds::run(&seeds::history(seed)).map(drop);
                told.map_err(|what| Find { place: format!("--seed {seed}"), what })
            }),
        }
    }
}

fn walk_all(cases: &[Case], walked: &mut u64) -> Result<(), Find> {
    let shared = Shared::default();
    let result = cases.iter().try_for_each(|case| {
        walk(case, &shared).map(drop).map_err(|failure| {
            let at = failure.place.map_or_else(String::new, |place| format!("{place}: "));
            Find { place: case.to_string(), what: format!("{at}{}", failure.what) }
        })
    });
    *walked += shared.judged.len();
    result
}

/// Something wrong.
#[derive(Clone, Debug)]
struct Find {
    place: String,
    what: String,
}

/// What became of one defect.
struct Caught {
    by: Option<(Hunt, Find)>,
    walked: u64,
    reached: BTreeSet<&'static str>,
}

#[cfg(feature = "defects")]
fn switch(defect: Option<&Defect>) -> BTreeSet<&'static str> {
    type Mutation = Box<dyn Fn(&mut vol_core::Plan)>;
    let mutation = match defect.map(|defect| defect.kind) {
        Some(Kind::Plan(mutate)) => Some(Box::new(mutate) as Mutation),
        _ => None,
    };
    vol_engine::exec::mutation::set(mutation);
    vol_types::switch_defect(defect.map_or("", |defect| defect.name))
}

/// There are no defects in this build.
#[cfg(not(feature = "defects"))]
fn switch(_: Option<&Defect>) -> BTreeSet<&'static str> {
    BTreeSet::new()
}

/// What is under way in which thread since when.
#[derive(Default)]
struct Watch(Mutex<Vec<(&'static str, Instant)>>);

impl Watch {
    fn list(&self) -> std::sync::MutexGuard<'_, Vec<(&'static str, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn over<T>(&self, name: &'static str, work: impl FnOnce() -> T) -> T {
        self.list().push((name, Instant::now()));
        let result = work();
        self.list().retain(|(other, _)| *other != name);
        result
    }
    /// A hang is no find: the run ends.
    fn look(&self) {
        if let Some((name, _)) = self.list().iter().find(|(_, since)| since.elapsed() > STUCK) {
            println!("FAILED: {name}: it hangs");
            std::process::exit(1);
        }
    }
}

/// Runs all; whether anything failed.
pub fn run(jobs: usize, only: Option<&str>) -> bool {
    if !cfg!(feature = "defects") {
        println!("FAILED: this vol-proof has no defects in it: build it with --features defects");
        return true;
    }
    let begin = Instant::now();
    if only.is_none() && !all_pass() {
        return true;
    }
    let ground = Ground::new();
    let watch = Watch::default();
    let wanted: Vec<&Defect> =
        DEFECTS.iter().filter(|defect| only.is_none_or(|only| defect.name.contains(only))).collect();
    let (sound, found) = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let looked = &watch;
        scope.spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                looked.look();
            }
        });
        let sound = work::each(Hunt::ALL.len(), jobs, |at| {
            // The long ones first.
            let hunt = Hunt::ALL[Hunt::ALL.len() - 1 - at];
            switch(None);
            let mut walked = 0;
            let begin = Instant::now();
            let result = watch.over("no defect", || ground.hunt(hunt, &mut walked));
            (hunt, walked, begin.elapsed(), result, switch(None))
        });
        let found = work::each(wanted.len(), jobs, |at| watch.over(wanted[at].name, || pursue(wanted[at], &ground)));
        drop(stop);
        (sound, found)
    });
    let (mut failed, mut passed) = (0, 0);
    let mut fail = |what: String| {
        failed += 1;
        println!("FAILED: {what}");
    };
    let mut reached = BTreeSet::new();
    for result in sound {
        match result {
            Ok((hunt, walked, took, result, sites)) => {
                println!("without a defect: {hunt}: {walked} looked at in {:.1} s", took.as_secs_f64());
                reached.extend(sites);
                if let Err(Find { place, what }) = result {
                    fail(format!("{hunt} without a defect: {place}: {what}"));
                }
            }
            Err(panic) => fail(format!("without a defect: {panic}")),
        }
    }
    println!("{:<58} {:<4}  {:<12} {:>7}  where", "defect", "kind", "caught by", "walked");
    for (defect, result) in wanted.iter().zip(found) {
        match result {
            Ok(Caught { by: Some((hunt, Find { place, what })), walked, reached: sites }) => {
                passed += 1;
                reached.extend(sites);
                println!("{:<58} {:<4}  {hunt:<12} {walked:>7}  {place}", defect.name, defect.kind.as_str());
                println!("{:>6}{}", "", first_line(&what));
            }
            Ok(Caught { by: None, walked, .. }) => fail(format!("{}: missed ({walked} looked at)", defect.name)),
            Err(panic) => fail(format!("{}: {panic}", defect.name)),
        }
    }
    if only.is_none() {
        let sites = DEFECTS.iter().filter(|defect| !matches!(defect.kind, Kind::Plan(_)));
        for defect in sites.filter(|defect| !reached.contains(defect.name)) {
            fail(format!("{}: no hunt comes there", defect.name));
        }
        if DEFECTS.len() < LEAST {
            fail(format!("{} defects, {LEAST} are wanted", DEFECTS.len()));
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.1}s",
        begin.elapsed().as_secs_f64()
    );
    failed != 0
}

/// Whether the scenarios pass as they are; without that nothing they find means anything.
fn all_pass() -> bool {
    let told = |(name, run): scenarios::Scenario| {
        let result = quietly(run).and_then(|told| told);
        result.map_err(|what| println!("FAILED: without a defect: {name}: {what}")).is_ok()
    };
    scenarios::all().map(told).fold(true, |all, one| all & one)
}

fn pursue(defect: &Defect, ground: &Ground) -> Caught {
    switch(Some(defect));
    let mut walked = 0;
    let order = [defect.first].into_iter().chain(Hunt::ALL.into_iter().filter(|hunt| *hunt != defect.first));
    let mut by = None;
    for hunt in order {
        if let Err(find) = ground.hunt(hunt, &mut walked) {
            by = Some((hunt, find));
            break;
        }
    }
    Caught { by, walked, reached: switch(None) }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(180).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }

    /// Names of the places in the code, with their crate.
    fn sites() -> BTreeSet<(String, bool)> {
        let mut files = Vec::new();
        sources(&root().join("crates"), &mut files);
        let mut sites = BTreeSet::new();
        for file in files {
            let in_simulator = file.components().any(|part| part.as_os_str() == "vol-sim");
            let text = std::fs::read_to_string(&file).unwrap();
            for piece in text.split("defect(\"").skip(1) {
                sites.insert((piece.split('"').next().unwrap_or_default().to_owned(), in_simulator));
            }
        }
        sites
    }

    #[test]
    fn table_and_code_name_the_same_places() {
        let table: BTreeSet<_> = DEFECTS
            .iter()
            .filter(|defect| !matches!(defect.kind, Kind::Plan(_)))
            .map(|defect| (defect.name.to_owned(), matches!(defect.kind, Kind::Host)))
            .collect();
        assert_eq!(table, sites());
    }

    /// Only `vol-proof` asks for the feature; the programs are built without it.
    #[test]
    fn no_crate_of_the_product_switches_defects_on() {
        let mut asking = Vec::new();
        for entry in std::fs::read_dir(root().join("crates")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path().join("Cargo.toml")).unwrap();
            asking.extend(text.lines().filter(|line| line.contains("defects")).map(str::to_owned));
        }
        asking.sort();
        assert_eq!(asking, ["defects = [\"vol-types/defects\"]", "defects = []"]);
        let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(!workspace.contains("defects"));
    }

    #[test]
    fn names_are_unique_and_enough() {
        let names: BTreeSet<_> = DEFECTS.iter().map(|defect| defect.name).collect();
        assert_eq!(names.len(), DEFECTS.len());
        assert!(names.len() >= LEAST, "{}", names.len());
    }

    #[test]
    fn the_document_has_the_table() {
        let text = std::fs::read_to_string(root().join("docs/defects.md")).unwrap();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        let wanted: Vec<String> = DEFECTS
            .iter()
            .map(|defect| {
                format!("| {} | {} | {} | {} |", defect.name, defect.kind.as_str(), defect.breaks, defect.first)
            })
            .collect();
        assert_eq!(rows, wanted);
    }

    #[test]
    fn every_scenario_passes_without_a_defect() {
        for (name, run) in scenarios::all() {
            assert_eq!(quietly(run), Ok(Ok(())), "{name}");
        }
    }
}
