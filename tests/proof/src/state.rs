//! One crash state: a machine after a death, the start of a daemon on it, and everything that is asked then.

use vol_sim::{CrashMode, SimHost};

use crate::judge::{self, start};
use crate::model::Model;
use crate::ops::{Group, Op, Shape, all_ops, class};
use crate::work::{Known, hash};

/// What may be found, and what was under way.
#[derive(Clone, Debug)]
pub struct Expect {
    pub shape: Shape,
    pub op: Op,
    /// One of these.
    pub allowed: Vec<Model>,
    /// What a user writes, if that is the operation.
    pub version: u32,
    /// A hash of all this.
    pub key: u64,
}

impl Expect {
    pub fn new(shape: Shape, op: Op, version: u32, mut allowed: Vec<Model>) -> Self {
        allowed.sort();
        allowed.dedup();
        let key = hash(&(shape, op, version, &allowed));
        Self { shape, op, allowed, version, key }
    }
    pub fn powered_off(&self) -> Self {
        let allowed = self.allowed.iter().map(Model::powered_off).collect();
        Self::new(self.shape, self.op, self.version, allowed)
    }
    /// A crash may leave the file of a group that was never made.
    fn stray_file(&self) -> bool {
        self.allowed.iter().any(|model| !model.groups.contains_key(&Group::Side))
    }
}

/// One in so many states is asked a few things more, chosen by the state itself.
const SAMPLE: u64 = 16;

/// Starts a daemon on a machine that was restarted, and judges. `recovered` holds what was asked of a machine that looked
/// exactly the same after recovery, with the same operation under way: its answers would be the same, so it is not asked again.
pub fn judge(host: &SimHost, expect: &Expect, recovered: &Known) -> Result<(), String> {
    let engine = start(host).map_err(|error| format!("the start failed: {error}"))?;
    let found = judge::sound(host, &engine, expect.stray_file())?;
    if !expect.allowed.contains(&found) {
        return Err(format!("found {found}, allowed was {}", list(&expect.allowed)));
    }
    let mark = host.fingerprint();
    if !recovered.add(hash(&(mark, expect.key, &found))) {
        return Ok(());
    }
    what_was_seen_stays(host, &found, expect)?;
    let again = second_start(host, &found, expect, mark)?;
    let mut model = found.clone();
    model = ask(&again, &model, expect.op, expect.shape, expect.version, "made again")?;
    let others: Vec<Op> = all_ops().iter().copied().filter(|op| model.changes(*op, expect.shape)).collect();
    if let Some(next) = others.get((mark % others.len().max(1) as u64) as usize) {
        model = ask(&again, &model, *next, expect.shape, expect.version + 1, "the next request")?;
    }
    if mark.is_multiple_of(SAMPLE) {
        // What was acknowledged just now survives a power cut, whatever was not flushed.
        let host = again.host();
        host.crash(CrashMode::LoseAll);
        host.restart();
        let engine = start(host).map_err(|error| format!("the start after a second power cut failed: {error}"))?;
        let found = judge::sound(host, &engine, true).map_err(|wrong| format!("after a second power cut: {wrong}"))?;
        if found != model.powered_off() {
            return Err(format!("a second power cut left {found} of {model}"));
        }
    }
    if (mark / SAMPLE).is_multiple_of(SAMPLE) {
        ask(&engine, &found, expect.op, expect.shape, expect.version, "made again of the daemon that recovered")?;
    }
    Ok(())
}

fn list(models: &[Model]) -> String {
    models.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

fn engine_of(host: &SimHost) -> Result<vol_engine::Engine<SimHost>, String> {
    start(host).map_err(|error| format!("the start failed: {error}"))
}

/// What a daemon shows must be durable: a power cut now, with nothing asked for, takes none of it back.
fn what_was_seen_stays(host: &SimHost, found: &Model, expect: &Expect) -> Result<(), String> {
    let places = host.pending_that_matter();
    if places.is_empty() {
        return Ok(());
    }
    let mut modes = vec![CrashMode::LoseAll, CrashMode::KeepAll];
    modes.extend(places.iter().take(8).map(|at| CrashMode::Keep(vec![*at])));
    for mode in modes {
        let host = host.fork();
        host.crash(mode.clone());
        host.restart();
        let engine = engine_of(&host)?;
        let then = judge::sound(&host, &engine, expect.stray_file())
            .map_err(|wrong| format!("after recovery and a power cut ({mode:?}): {wrong}"))?;
        if then != found.powered_off() {
            return Err(format!("recovery showed {found}; a power cut after it ({mode:?}) left {then}"));
        }
    }
    Ok(())
}

/// Recovery is idempotent: a second start writes nothing, changes nothing and finds the same. It may ask each pool for a metadata
/// snapshot, to compare the thin ids, and gives it back: two messages that leave nothing.
fn second_start(
    host: &SimHost,
    found: &Model,
    expect: &Expect,
    mark: u64,
) -> Result<vol_engine::Engine<SimHost>, String> {
    let host = host.fork();
    // Another daemon: its predecessor died in its sleep.
    host.kill_daemon();
    host.restart();
    let before = host.counters();
    let engine = engine_of(&host)?;
    let after = host.counters();
    let (writes, messages) = (after.writes - before.writes, after.messages - before.messages);
    let pools: u64 = found.groups.values().map(|group| group.pools.len() as u64).sum();
    if writes != 0 || messages > 2 * pools || host.fingerprint() != mark {
        return Err(format!("a second start changed something: {writes} writes, {messages} messages"));
    }
    let then = judge::sound(&host, &engine, expect.stray_file())?;
    if then == *found { Ok(engine) } else { Err(format!("a second start found {then} after {found}")) }
}

/// Makes a request of a machine without faults; the answer and what there is then must be what the model says.
pub fn ask(
    engine: &vol_engine::Engine<SimHost>,
    model: &Model,
    op: Op,
    shape: Shape,
    version: u32,
    when: &str,
) -> Result<Model, String> {
    let outcome = model.apply(op, shape, version);
    let result = op.run(engine, shape, version);
    let answer = match &result {
        Ok(answer) => *answer,
        Err(error) => class(error),
    };
    let told = || result.as_ref().err().map_or_else(String::new, |error| format!(" ({error})"));
    if !outcome.answers.contains(&answer) {
        return Err(format!("{op}, {when}: {answer:?}{}, expected {:?}", told(), outcome.answers));
    }
    // What the last scan said of a file stays until the next.
    let found =
        judge::sound(engine.host(), engine, true).map_err(|wrong| format!("{op}, {when}{}: {wrong}", told()))?;
    if found != outcome.after {
        return Err(format!("{op}, {when}{}: came to {found}, expected {}", told(), outcome.after));
    }
    Ok(found)
}
