//! The crash enumerator: one case is a sequence of operations of which the last one is cut short, in every way.
//!
//! For each effect of the last operation: the daemon dies, or the power goes, before it, at each stage inside it, and after it;
//! and once more when all is done. A power cut leaves the sectors of 512 bytes that were written and not flushed in any
//! combination: if up to [`ALL_SUBSETS`] of them make a difference, every subset is visited; if there are more, the prefixes,
//! each sector lost alone, each kept alone, and a sample. (A sector that is written with what stands there already makes
//! none, so subsets that differ in such sectors alone are one state.) Each state is a machine of its own, which is started
//! and judged ([`crate::state`]). Where a case says so, that start is itself cut short, in every way.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use vol_sim::{CrashMode, EffectKind, Fault, Moment, SimHost};

use crate::judge::{self, start};
use crate::model::Model;
use crate::ops::{Answer, Op, Shape, class, show_ops};
use crate::state::{Expect, judge};
use crate::work::{Dice, Known, hash, quietly};

/// So many sectors that make a difference are combined in every way.
pub const ALL_SUBSETS: usize = 12;
/// Beyond that, so many random subsets are visited besides the regular ones.
const SAMPLE: usize = 128;

/// A sequence of operations, the last of which is cut short.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    pub shape: Shape,
    pub before: Vec<Op>,
    /// The last of `before` was cut at this effect (from 1) by a power cut, recovered, and made again.
    pub cut_before: Option<u64>,
    pub op: Op,
    /// Recovery is crashed too, from one in so many states; 0 for none.
    pub deep: u64,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ops: Vec<Op> = self.before.iter().copied().chain([self.op]).collect();
        write!(f, "--shape {} --ops \"{}\" --deep {}", self.shape, show_ops(&ops), self.deep)?;
        self.cut_before.map_or(Ok(()), |effect| write!(f, " --cut-before {effect}"))
    }
}

/// A power cut's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subset {
    /// The daemon died alone.
    Kernel,
    /// Bits over the sectors that make a difference.
    Mask(u32),
    Prefix(usize),
    Drop(usize),
    Keep(usize),
    Sample(usize),
}

/// Where a state comes from, to be told when something is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub effect: u64,
    pub death: Option<Fault>,
    pub subset: Subset,
    /// The same of the recovery that was cut short too.
    pub then: Option<(u64, Fault, Subset)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.death {
            None => write!(f, "at rest, {:?}", self.subset)?,
            Some(death) => write!(f, "{death:?} at effect {}, {:?}", self.effect, self.subset)?,
        }
        match self.then {
            None => Ok(()),
            Some((effect, death, subset)) => write!(f, ", then in recovery {death:?} at effect {effect}, {subset:?}"),
        }
    }
}

/// What is shared by all cases of a run.
#[derive(Default)]
pub struct Shared {
    /// Machines that differ.
    pub worlds: Known,
    /// Frozen machines whose subsets were visited, with what was expected.
    pub frozen: Known,
    /// Judged: machine and expectation.
    pub judged: Known,
    /// Asked after recovery: machine and expectation.
    pub recovered: Known,
}

/// How much one case came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Machines that a death and a choice of sectors made.
    pub states: u64,
    /// Deaths: effect, kind of death, stage.
    pub deaths: u64,
    /// Effects of the last operation when nothing goes wrong, and in how many of them it was cut short.
    pub effects: u64,
    pub effects_cut: u64,
    pub kinds: BTreeMap<EffectKind, u64>,
}

/// What is wrong, and where.
#[derive(Clone, Debug)]
pub struct Failure {
    pub case: Case,
    pub place: Option<Place>,
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vol-proof replay {}\n    ", self.case)?;
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.what)
    }
}

thread_local! {
    static PLACE: Cell<Option<Place>> = const { Cell::new(None) };
}

/// A machine before the last operation, and what there is on it.
pub struct Scene {
    pub host: SimHost,
    pub model: Model,
    pub version: u32,
}

/// Makes the operations on a fresh machine. `Err` if one of them does not do what the model says.
pub fn scene(shape: Shape, before: &[Op], cut_before: Option<u64>) -> Result<Scene, String> {
    let host = shape.machine(7);
    let mut model = Model::default();
    let mut engine = start(&host).map_err(|error| error.to_string())?;
    for (at, op) in before.iter().enumerate() {
        let version = at as u32 + 1;
        if let Some(effect) = cut_before.filter(|_| at + 1 == before.len()) {
            host.fail_effect(host.effects() + effect, Fault::PowerCutAfter);
            let allowed = model.cut(*op, shape, version);
            // What it answers is of no interest: it is dead, unless it had fewer effects.
            let _ = op.run(&engine, shape, version);
            host.clear_faults();
            if !host.is_dead() {
                host.crash(CrashMode::KeepAll);
            }
            host.settle(CrashMode::Random);
            host.restart();
            engine = start(&host).map_err(|error| error.to_string())?;
            let found = judge::sound(&host, &engine, true)?;
            if !allowed.iter().any(|model| model.powered_off() == found) {
                return Err(format!("before the last operation: {found} is not one of {allowed:?}"));
            }
            model = found;
            if !model.changes(*op, shape) {
                continue;
            }
        }
        model = crate::state::ask(&engine, &model, *op, shape, version, "before the last operation")?;
    }
    drop(engine);
    Ok(Scene { host, model, version: before.len() as u32 + 1 })
}

/// Walks a case.
pub fn walk(case: &Case, shared: &Shared) -> Result<Counts, Box<Failure>> {
    PLACE.set(None);
    let walked = quietly(|| Walk { case, shared, counts: Counts::default() }.all());
    walked.and_then(|walked| walked).map_err(|what| Box::new(Failure { case: case.clone(), place: PLACE.get(), what }))
}

struct Walk<'a> {
    case: &'a Case,
    shared: &'a Shared,
    counts: Counts,
}

impl Walk<'_> {
    fn all(mut self) -> Result<Counts, String> {
        let Case { shape, op, .. } = *self.case;
        let scene = scene(shape, &self.case.before, self.case.cut_before)?;
        let version = scene.version;
        let after = scene.model.apply(op, shape, version);
        let cut = Expect::new(shape, op, version, scene.model.cut(op, shape, version));
        let done = Expect::new(shape, op, version, vec![after.after.clone()]);

        let host = scene.host.fork();
        let engine = start(&host).map_err(|error| error.to_string())?;
        let first = host.effects() + 1;
        host.record_moments();
        let result = op.run(&engine, shape, version);
        let moments = host.take_moments();
        let answer = result.as_ref().map_or_else(class, |answer| *answer);
        if !after.answers.contains(&answer) {
            return Err(format!("without a fault: {answer:?} {:?}", result.err().map(|error| error.to_string())));
        }
        let found = judge::sound(&host, &engine, true).map_err(|wrong| format!("without a fault: {wrong}"))?;
        if found != after.after {
            return Err(format!("without a fault: came to {found}, expected {}", after.after));
        }
        drop(engine);
        self.counts.effects = host.effects() + 1 - first;

        let inside: Vec<(u64, EffectKind)> = kinds(&moments);
        for (effect, kind) in &inside {
            *self.counts.kinds.entry(*kind).or_default() += 1;
            self.counts.effects_cut += u64::from((first..=host.effects()).contains(effect));
        }
        for Moment { effect, death, host, .. } in moments {
            self.frozen(&host, Place { effect, death: Some(death), subset: Subset::Kernel, then: None }, &cut)?;
        }
        for (effect, kind) in inside {
            for stage in 1..=kind.stages() {
                for death in [Fault::KillDaemonInside(stage), Fault::PowerCutInside(stage)] {
                    let host = scene.host.fork();
                    let engine = start(&host).map_err(|error| error.to_string())?;
                    host.fail_effect(effect, death);
                    let acknowledged = matches!(op.run(&engine, shape, version), Ok(Answer::Changed));
                    drop(engine);
                    let expect = if acknowledged { &done } else { &cut };
                    if host.is_dead() {
                        let place = Place { effect, death: Some(death), subset: Subset::Kernel, then: None };
                        self.frozen(&host, place, expect)?;
                    }
                }
            }
        }
        // At rest: it was acknowledged, so it must be there.
        for cut_power in [false, true] {
            let host = host.fork();
            if cut_power {
                host.cut_power_undecided();
            } else {
                host.kill_daemon();
            }
            let place = Place { effect: 0, death: None, subset: Subset::Kernel, then: None };
            self.frozen(&host, place, &done)?;
        }
        Ok(self.counts)
    }

    /// All states that one death can leave.
    fn frozen(&mut self, host: &SimHost, place: Place, expect: &Expect) -> Result<(), String> {
        self.counts.deaths += 1;
        host.clear_faults();
        if !host.is_off() {
            return self.state(host.fork(), place, expect);
        }
        let expect = &expect.powered_off();
        if !self.shared.frozen.add(hash(&(host.fingerprint(), expect.key, self.case.deep, place.then.is_some()))) {
            return Ok(());
        }
        for (subset, mode) in subsets(host) {
            let host = host.fork();
            host.settle(mode);
            let place = match place.then {
                None => Place { subset, ..place },
                Some((effect, death, _)) => Place { then: Some((effect, death, subset)), ..place },
            };
            self.state(host, place, expect)?;
        }
        Ok(())
    }

    fn state(&mut self, host: SimHost, place: Place, expect: &Expect) -> Result<(), String> {
        host.restart();
        self.counts.states += 1;
        let world = host.fingerprint();
        self.shared.worlds.add(world);
        if !self.shared.judged.add(hash(&(world, expect.key))) {
            return Ok(());
        }
        PLACE.set(Some(place));
        let again =
            (place.then.is_none() && self.case.deep > 0 && world.is_multiple_of(self.case.deep)).then(|| host.fork());
        judge(&host, expect, &self.shared.recovered)?;
        if let Some(host) = again {
            self.recovery(&host, place, expect)?;
        }
        Ok(())
    }

    /// The recovery from a state, cut short itself.
    fn recovery(&mut self, before: &SimHost, place: Place, expect: &Expect) -> Result<(), String> {
        let host = before.fork();
        host.record_moments();
        drop(start(&host));
        let moments = host.take_moments();
        let inside = kinds(&moments);
        for Moment { effect, death, host, .. } in moments {
            self.frozen(&host, Place { then: Some((effect, death, Subset::Kernel)), ..place }, expect)?;
        }
        for (effect, kind) in inside {
            for stage in 1..=kind.stages() {
                for death in [Fault::KillDaemonInside(stage), Fault::PowerCutInside(stage)] {
                    let host = before.fork();
                    host.fail_effect(effect, death);
                    // It may say that it could not see the disks: it is dead.
                    drop(start(&host));
                    if host.is_dead() {
                        let place = Place { then: Some((effect, death, Subset::Kernel)), ..place };
                        self.frozen(&host, place, expect)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Each effect once.
fn kinds(moments: &[Moment]) -> Vec<(u64, EffectKind)> {
    let before = moments.iter().filter(|moment| moment.death == Fault::PowerCutBefore);
    before.map(|moment| (moment.effect, moment.kind)).collect()
}

/// The choices of what survives a power cut.
fn subsets(host: &SimHost) -> Vec<(Subset, CrashMode)> {
    let places = host.pending_that_matter();
    let count = places.len();
    let keep = |chosen: &dyn Fn(usize) -> bool| {
        CrashMode::Keep(places.iter().enumerate().filter(|(at, _)| chosen(*at)).map(|(_, place)| *place).collect())
    };
    if count <= ALL_SUBSETS {
        let masks = 0..1u32 << count;
        return masks.map(|mask| (Subset::Mask(mask), keep(&|at| mask >> at & 1 == 1))).collect();
    }
    let mut all: Vec<_> = (0..=count).map(|len| (Subset::Prefix(len), keep(&|at| at < len))).collect();
    all.extend((0..count).map(|one| (Subset::Drop(one), keep(&|at| at != one))));
    all.extend((0..count).map(|one| (Subset::Keep(one), keep(&|at| at == one))));
    let mut dice = Dice(host.fingerprint());
    all.extend((0..SAMPLE).map(|number| {
        let bits: Vec<bool> = (0..count).map(|_| dice.one_in(2)).collect();
        (Subset::Sample(number), keep(&|at| bits[at]))
    }));
    all
}
