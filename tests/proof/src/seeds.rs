//! Random histories with every fault, then a phase in which all must come right.
//!
//! **Budget.** What may go wrong at a time is bounded so that recovery must be possible. In each epoch a minority of the disks with
//! metadata are the *victims*: they alone are removed, come back stale, are cloned, cannot be read, or lie about writes. Errors
//! that are told, deaths and lying messages strike anywhere. While a group is made or deleted no disk lies: a label that was
//! never written, or never erased, is nothing that a daemon could find. Damage strikes metadata only: what is in a pool has one copy.
//!
//! **While there are faults** a request may fail for any reason; then there is what was before, or all that was asked for. What
//! was acknowledged is there from then on. What a failed request came to may be open until the next start (`Run::possible`).
//!
//! A volume of which it is open whether it is deleted is not handed out, unless a history is [strict](History::strict).
//!
//! **In the end** (and at the end of each epoch) faults stop, disks come back, pools are repaired, the machine is started anew:
//! everything acknowledged is there, nothing is suspended or left over, nobody complains, and then every operation of the
//! universe is asked for once and must answer as the model says.

use std::fmt;
use std::path::PathBuf;

use vol_core::dm::Device;
use vol_engine::Engine;
use vol_engine::host::HostRead as _;
use vol_sim::{CrashMode, SimHost};
use vol_types::{Bytes, VgId};

use crate::faults::{Region, Step, Trouble, draw, lie, silent};
use crate::judge::{self, start};
use crate::model::Model;
use crate::ops::{Answer, Group, Key, Op, Pool, Shape, Vol, all_ops, class};
use crate::state::ask;
use crate::work::{Dice, quietly};

/// A history: where it plays, and what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub seed: u64,
    pub shape: Shape,
    pub steps: Vec<Step>,
    /// Also hands out volumes whose deletion failed and is open: a frozen group lets them be mounted, and the next start may
    /// finish the deletion. Known, and not accepted: to be on for good once the engine refuses that.
    pub strict: bool,
}

/// Between 20 and 60 operations, and faults between them.
pub fn history(seed: u64) -> History {
    let mut dice = Dice(seed.wrapping_mul(0xD134_2543_DE82_EF95));
    let shapes =
        [Shape::new(3, 3), Shape::new(5, 5), Shape::new(3, 3), Shape::new(2, 2), Shape::new(1, 1), Shape::new(5, 3)];
    let shape = dice.pick(&shapes).unwrap_or(Shape::new(3, 3));
    let ops = 20 + dice.below(41);
    // From quiet to wild.
    let calm = 1 + dice.below(6);
    let mut steps = Vec::new();
    // What the model would hold if nothing failed, so that most of what is asked for makes sense.
    let mut model = Model::default();
    for version in 0..ops as u32 {
        if version > 3 && dice.one_in(calm) {
            steps.push(Step::Go(draw(&mut dice)));
        }
        let useful: Vec<Op> = all_ops().iter().copied().filter(|op| model.changes(*op, shape)).collect();
        let sensible: Vec<Op> = useful.iter().copied().filter(|op| constructive(*op) || dice.one_in(3)).collect();
        let list = if dice.one_in(8) {
            all_ops()
        } else if sensible.is_empty() {
            &useful
        } else {
            &sensible
        };
        let op = dice.pick(list).unwrap_or(Op::Refresh);
        model = model.apply(op, shape, version + 1).after;
        steps.push(Step::Do(op));
    }
    History { seed, shape, steps, strict: false }
}

fn constructive(op: Op) -> bool {
    !matches!(op, Op::DeleteVg(_) | Op::DeletePool(_) | Op::Delete(_) | Op::Unmount(_) | Op::Detach(_))
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.steps.iter().map(ToString::to_string).collect();
        write!(f, "--seed {} --shape {} --ops \"{}\"", self.seed, self.shape, steps.join(" "))
    }
}

/// How much one history came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub ops: u64,
    pub acknowledged: u64,
    pub failed: u64,
    pub faults: u64,
    pub starts: u64,
    pub effects: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.ops += other.ops;
        self.acknowledged += other.acknowledged;
        self.failed += other.failed;
        self.faults += other.faults;
        self.starts += other.starts;
        self.effects += other.effects;
    }
}

/// Runs a history; `Err` tells what is wrong and at which step.
pub fn run(history: &History) -> Result<Tally, String> {
    run_on(history, &history.shape.machine(history.seed))
}

/// The same on a machine of the caller's, for its trace.
pub fn run_on(history: &History, host: &SimHost) -> Result<Tally, String> {
    let mut at = String::new();
    let result = quietly(|| {
        let mut run = Run::new(history, host.clone());
        for (number, step) in history.steps.iter().enumerate() {
            let done = quietly(|| run.step(*step, number as u32 + 1)).and_then(|done| done);
            done.map_err(|what| format!("step {number} ({step}): {what}"))?;
        }
        at = "in the end".to_owned();
        run.all_comes_right().and_then(|()| run.everything_works())?;
        run.tally.effects = run.host.effects();
        Ok(run.tally)
    });
    result.and_then(|result| result).map_err(|what| if at.is_empty() { what } else { format!("{at}: {what}") })
}

const CLONE: &str = "/dev/sdz";
/// Where a disk's data begin: behind the metadata (docs/spec/on-disk-format.md, section 2).
const METADATA_END: usize = 6 << 20;
/// Chunks, of the 1024 of the smaller pool that is filled, which are never given back as long as a snapshot holds them.
const FILL_MAX: u64 = 700;
/// More tries than a start can be cut short by what is planned.
const STARTS: u32 = 40;

struct Run {
    host: SimHost,
    shape: Shape,
    engine: Option<Engine<SimHost>>,
    /// All that there may be, as far as was seen.
    possible: Vec<Model>,
    dice: Dice,
    victims: Vec<PathBuf>,
    removed: Vec<PathBuf>,
    /// A victim's metadata as they were, and whose they were.
    saved: Vec<(PathBuf, Option<VgId>, Vec<u8>)>,
    /// The disk that has a clone: while there are two of it, it stays and can be read, or its clone would take its place.
    cloned: Option<PathBuf>,
    /// Chunks that users have filled.
    filled: u64,
    /// Something was made to go wrong since all was well.
    troubled: bool,
    strict: bool,
    tally: Tally,
}

impl Run {
    fn new(history: &History, host: SimHost) -> Self {
        let mut run = Self {
            engine: None,
            host,
            shape: history.shape,
            possible: vec![Model::default()],
            dice: Dice(history.seed ^ 0x5EED),
            victims: Vec::new(),
            removed: Vec::new(),
            saved: Vec::new(),
            cloned: None,
            filled: 0,
            troubled: false,
            strict: history.strict,
            tally: Tally::default(),
        };
        run.choose_victims();
        run
    }

    /// A minority of the disks with metadata. The first disks of a request carry them.
    fn choose_victims(&mut self) {
        let copies = self.shape.present_copies();
        let mut nodes: Vec<PathBuf> = self.shape.nodes().take(usize::from(copies)).collect();
        self.victims.clear();
        for _ in 0..(copies.saturating_sub(1)) / 2 {
            let at = self.dice.below(nodes.len() as u64) as usize;
            self.victims.push(nodes.remove(at));
        }
        self.saved.clear();
    }

    fn victim(&self, number: u8) -> Option<PathBuf> {
        let at = usize::from(number).checked_rem(self.victims.len())?;
        self.victims.get(at).cloned()
    }
    /// A victim that may be hidden.
    fn alone(&self, number: u8) -> Option<PathBuf> {
        self.present(number).filter(|disk| self.cloned.as_ref() != Some(disk))
    }
    fn present(&self, number: u8) -> Option<PathBuf> {
        self.victim(number).filter(|disk| !self.removed.contains(disk))
    }

    fn step(&mut self, step: Step, version: u32) -> Result<(), String> {
        match step {
            Step::Do(op) => self.op(op, version),
            Step::Go(trouble) => {
                self.tally.faults += 1;
                self.trouble(trouble)
            }
        }
    }

    /// A daemon that runs, started if need be; a start may be cut short by what is planned.
    fn running(&mut self) -> Result<(), String> {
        let mut why = String::new();
        for _ in 0..STARTS {
            if self.engine.is_some() && !self.host.is_dead() {
                return Ok(());
            }
            self.engine = None;
            if self.host.is_dead() {
                self.host.settle(CrashMode::Random);
                if self.host.is_off() {
                    self.possible = self.possible.iter().map(Model::powered_off).collect();
                }
                self.host.restart();
            }
            self.tally.starts += 1;
            match start(&self.host) {
                Ok(engine) if !self.host.is_dead() => {
                    self.engine = Some(engine);
                    self.narrow("a start", false)?;
                }
                Ok(_) => {}
                Err(error) => why = error.to_string(),
            }
        }
        Err(format!("the daemon does not start: {why}"))
    }

    /// Whether what is seen can be relied on: all groups take changes and all pools can be looked into.
    fn conclusive(&self) -> Option<Model> {
        let engine = self.engine.as_ref().filter(|_| !self.host.is_dead())?;
        let vague = ["metadata-frozen", "unfinished", "kernel-unreadable", "pv-missing", "metadata"];
        let known = |problem: &vol_engine::Problem| !vague.contains(&problem.code);
        let clear = engine.vgs().iter().all(|vg| vg.view().problems.iter().all(known));
        let others = engine.scan_problems();
        if !clear || !others.iter().all(judge::is_of_a_stray_file) {
            return None;
        }
        let seen = judge::look(&self.host, engine);
        seen.wrong.is_empty().then_some(seen.model)
    }

    /// Holds what is seen against what is possible.
    fn narrow(&mut self, when: &str, must: bool) -> Result<(), String> {
        let wrong = self.host.violations();
        if !wrong.is_empty() {
            return Err(format!("after {when}: {}", wrong.join("; ")));
        }
        let Some(found) = self.conclusive() else {
            return if must { Err(format!("after {when}: what there is cannot be seen")) } else { Ok(()) };
        };
        // A group on disks that cannot be read is not seen at all; that proves nothing.
        if !must && self.troubled && self.possible.iter().all(|model| model.groups.len() > found.groups.len()) {
            return Ok(());
        }
        if !self.possible.contains(&found) {
            return Err(format!("after {when}: found {found}, possible was {}", list(&self.possible)));
        }
        self.possible = vec![found];
        Ok(())
    }

    fn op(&mut self, op: Op, version: u32) -> Result<(), String> {
        self.running()?;
        let deletes = matches!(op, Op::DeleteVg(_));
        if deletes && self.cloned.is_some() {
            // Its clone would rise again, as any copy of a disk does whose owner is not told.
            return Ok(());
        }
        if deletes || matches!(op, Op::CreateVg(_) | Op::Init) {
            self.no_lies();
        }
        if !self.strict && self.hands_out_what_is_undecided(op) {
            return Ok(());
        }
        self.tally.ops += 1;
        if !self.troubled
            && let [model] = self.possible.as_slice()
            && let Some(engine) = &self.engine
        {
            let after = ask(engine, model, op, self.shape, version, "without faults")?;
            self.tally.acknowledged += 1;
            self.possible = vec![after];
            return Ok(());
        }
        let Some(engine) = &self.engine else { return Ok(()) };
        let result = op.run(engine, self.shape, version);
        let answer = result.as_ref().map_or_else(class, |answer| *answer);
        let told = result.as_ref().err().map_or_else(String::new, ToString::to_string);
        let shape = self.shape;
        // That nothing is mounted or attached (any more) can be said of what is half made too: it does not say that it is there.
        let says_nothing = matches!(op, Op::Unmount(_) | Op::Detach(_));
        self.possible = match answer {
            Answer::Changed | Answer::Unchanged if says_nothing => {
                self.possible.iter().map(|model| model.apply(op, shape, version).after).collect()
            }
            Answer::Changed | Answer::Unchanged => {
                self.tally.acknowledged += 1;
                let expected = |model: &Model| {
                    let outcome = model.apply(op, shape, version);
                    outcome.answers.contains(&answer).then_some(outcome.after)
                };
                let after: Vec<Model> = self.possible.iter().filter_map(expected).collect();
                // A scan or a refresh always comes to an end.
                if after.is_empty() && !matches!(op, Op::Scan | Op::Refresh) {
                    return Err(format!("{op} answered {answer:?} in {}", list(&self.possible)));
                }
                after
            }
            // Nothing was changed by the request itself.
            Answer::Refused(_) => self.possible.clone(),
            Answer::Failed => {
                self.tally.failed += 1;
                self.possible.iter().flat_map(|model| model.cut(op, shape, version)).collect()
            }
        };
        self.possible.sort();
        self.possible.dedup();
        if self.host.is_dead() {
            return Ok(());
        }
        let suspended = self.host.suspended_devices();
        if !suspended.is_empty() && !self.troubled {
            return Err(format!("{op} left {suspended:?} suspended"));
        }
        self.narrow(&format!("{op} ({answer:?} {told})"), false)
    }

    /// A volume whose creation or deletion failed and is open until the next start is handed out.
    fn hands_out_what_is_undecided(&self, op: Op) -> bool {
        let key = match op {
            Op::Mount(key) => key,
            Op::Attach(vol) | Op::Write(vol) => Key::volume(vol),
            _ => return false,
        };
        let there = self.possible.iter().filter(|model| model.volume(key).is_some()).count();
        there != 0 && there != self.possible.len()
    }

    /// No disk lies about writes from here on.
    fn no_lies(&self) {
        self.host.clear_faults();
    }

    fn trouble(&mut self, trouble: Trouble) -> Result<(), String> {
        self.troubled |= !matches!(trouble, Trouble::Clock(_) | Trouble::Restart | Trouble::Epoch | Trouble::Save(_));
        match trouble {
            Trouble::Effect(after, fault) if !silent(fault) => {
                self.host.fail_effect(self.host.effects() + 1 + u64::from(after), fault);
            }
            Trouble::Once(disk, after, fault) => {
                if let Some(disk) = self.present(disk) {
                    self.host.fail_once(disk, u64::from(after), fault);
                }
            }
            Trouble::Sticky(disk, fault) => {
                if let Some(disk) = self.present(disk) {
                    self.host.fail_device(disk, fault);
                }
            }
            Trouble::Reads(disk, fault) => {
                if let Some(disk) = self.alone(disk) {
                    self.host.fail_reads(disk, Some(fault));
                }
            }
            Trouble::Heal(disk) => self.heal(disk),
            Trouble::Remove(disk) => {
                if let Some(disk) = self.alone(disk) {
                    self.host.remove_disk(&disk);
                    self.removed.push(disk);
                }
            }
            Trouble::Reattach(disk) => {
                if let Some(disk) = self.victim(disk)
                    && let Some(at) = self.removed.iter().position(|gone| *gone == disk)
                {
                    self.removed.remove(at);
                    self.host.reattach(&disk);
                }
            }
            Trouble::Save(disk) => {
                if let Some(disk) = self.victim(disk) {
                    let bytes = self.host.peek_durable(&disk, 0, METADATA_END);
                    let vg = self.data_id();
                    self.saved.retain(|(saved, ..)| *saved != disk);
                    self.saved.push((disk, vg, bytes));
                }
            }
            Trouble::Stale(disk) => self.stale(disk),
            Trouble::Clone(disk) => {
                if let Some(disk) = self.present(disk)
                    && self.cloned.is_none()
                {
                    self.host.fail_reads(&disk, None);
                    self.host.mend_disk(&disk);
                    self.host.clone_disk(&disk, CLONE, "");
                    self.cloned = Some(disk);
                }
            }
            Trouble::Unclone => self.unclone(),
            Trouble::Damage(disk, region, block, damage) => {
                if let Some(disk) = self.alone(disk) {
                    self.host.damage(disk, place(region, block), 4096, damage);
                }
            }
            Trouble::Clock(now) => self.host.set_now(u64::from(now)),
            Trouble::PoolMode(pool, mode) => {
                self.with_pool(pool, |host, uuid| host.set_pool_mode(uuid, mode));
            }
            Trouble::BreakPool(pool) => self.with_pool(pool, |host, uuid| host.break_pool(uuid)),
            Trouble::RepairPool(pool) => self.with_pool(pool, |host, uuid| drop(host.repair_pool(uuid))),
            Trouble::Fill(chunks) => {
                let chunks = u64::from(chunks).min(FILL_MAX - self.filled);
                if let Some(uuid) = self.volume_uuid(Key::volume(Vol::Pg)) {
                    self.filled += chunks;
                    // It is not active, or the pool is full: then nobody writes.
                    let _not_written = self.host.fill(&uuid, chunks);
                }
            }
            Trouble::Lie(number) => self.host.lie_in_probe("*", Some(lie(number))),
            Trouble::Truth => self.host.lie_in_probe("*", None),
            Trouble::Kill => self.host.kill_daemon(),
            Trouble::PowerCut => self.host.cut_power_undecided(),
            Trouble::Restart => {
                self.host.kill_daemon();
                return self.running();
            }
            Trouble::Epoch => {
                self.all_comes_right()?;
                self.choose_victims();
            }
            Trouble::Effect(..) => {}
        }
        Ok(())
    }

    fn heal(&mut self, disk: u8) {
        if let Some(disk) = self.present(disk) {
            self.host.heal_device(&disk);
            self.host.fail_reads(&disk, None);
        }
    }

    /// The metadata of a victim are as they were: its copy is old. Only if they are of the group that still is.
    fn stale(&mut self, disk: u8) {
        let Some(disk) = self.present(disk) else { return };
        let now = self.data_id();
        let saved = self.saved.iter().find(|(saved, vg, _)| *saved == disk && vg.is_some() && *vg == now);
        if let Some((disk, _, bytes)) = saved {
            self.host.poke(disk, 0, bytes);
        }
    }

    fn unclone(&mut self) {
        if self.cloned.take().is_some() {
            self.host.forget_disk(CLONE);
        }
    }

    fn data_id(&self) -> Option<VgId> {
        self.engine.as_ref()?.vg(&Group::Data.name()).ok().map(|vg| vg.id)
    }

    fn with_pool(&self, pool: Pool, act: impl FnOnce(&SimHost, &str)) {
        let vg = self.engine.as_ref().and_then(|engine| engine.vg(&Group::Data.name()).ok());
        let id = vg.and_then(|vg| vg.read(|catalog| catalog.pool_named(&pool.name()).map(|pool| pool.id)));
        if let Some(id) = id {
            act(&self.host, &Device::Pool(id).uuid());
        }
    }

    fn volume_uuid(&self, key: Key) -> Option<String> {
        let vg = self.engine.as_ref()?.vg(&Group::Data.name()).ok()?;
        let id = vg.read(|catalog| catalog.volume_named(&key.name()).map(|volume| volume.id))?;
        Some(Device::Volume(id).uuid())
    }

    /// Faults stop, disks come back, pools are repaired, and the machine is started.
    fn all_comes_right(&mut self) -> Result<(), String> {
        self.host.clear_faults();
        self.host.lie_in_probe("*", None);
        for disk in std::mem::take(&mut self.removed) {
            self.host.reattach(&disk);
        }
        for disk in self.shape.nodes() {
            self.host.fail_reads(&disk, None);
            self.host.mend_disk(&disk);
        }
        self.unclone();
        for _ in 0..2 {
            if !self.host.is_dead() {
                self.host.cut_power_undecided();
            }
            self.engine = None;
            self.running()?;
            for device in self.host.dm_devices().unwrap_or_default() {
                if device.uuid.ends_with("-tpool") {
                    // What `thin_check` does; the pool reads it when it is activated next.
                    let _not_a_pool = self.host.repair_pool(&device.uuid);
                }
            }
        }
        self.host.cut_power_undecided();
        self.engine = None;
        self.running()?;
        let Some(engine) = &self.engine else { return Err("no daemon".to_owned()) };
        let mut wrong = judge::look(&self.host, engine).wrong;
        judge::complaints(&self.host, engine, true, &mut wrong);
        wrong.retain(|text| !text.contains(" % full"));
        if !wrong.is_empty() {
            return Err(format!("when all faults were over: {}", wrong.join("; ")));
        }
        self.narrow("all faults were over", true)?;
        self.troubled = false;
        Ok(())
    }

    /// Every operation once, with the answer that the model gives.
    fn everything_works(&mut self) -> Result<(), String> {
        let [model] = self.possible.as_slice() else { return Err("what there is is not known".to_owned()) };
        let Some(engine) = &self.engine else { return Err("no daemon".to_owned()) };
        let mut model = model.clone();
        for (at, op) in all_ops().iter().enumerate() {
            model = ask(engine, &model, *op, self.shape, 1000 + at as u32, "when all faults were over")?;
        }
        Ok(())
    }
}

fn list(models: &[Model]) -> String {
    models.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// Offsets for a whole disk of 256 MiB (docs/spec/on-disk-format.md, section 2).
fn place(region: Region, block: u8) -> u64 {
    let mib = Bytes::MIB;
    let (start, blocks) = match region {
        Region::Label => (mib + 64 * 1024, 1),
        Region::Log => (2 * mib, 24),
        Region::Slot0 => (3 * mib, 3),
        Region::Slot1 => (3 * mib + 3 * mib / 2, 3),
    };
    start + u64::from(block) % blocks * 4096
}
