//! `vol-proof`: runs the proof, or one piece of it again.
#![forbid(unsafe_code)]

use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use vol_proof::enumerate::{Case, Failure, Shared, walk};
use vol_proof::faults::Step;
use vol_proof::ops::{Op, Shape, all_ops};
use vol_proof::report::{Coverage, Line, head};
use vol_proof::seeds::{self, History, Tally};
use vol_proof::{minimise, schedule, work};

#[derive(Parser)]
#[command(name = "vol-proof", about = "Crash enumeration and seeded histories of volumed on a simulated machine")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Walk every crash of the schedule
    Crash(Limits),
    /// Run seeded histories
    Seeds(Limits),
    /// Both
    All(Limits),
    /// Make the product wrong in many small ways: each must be found
    Sharp(Sharp),
    /// One seed, or one case of the crash enumeration, again
    Replay(Replay),
}

#[derive(Args, Clone)]
struct Limits {
    /// Fail below so many distinct crash states
    #[arg(long, default_value_t = 1_000_000)]
    states: u64,
    /// So many seeds; fail below ten thousand
    #[arg(long, default_value_t = SEEDS)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    first: u64,
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only the parts with this in their name, without gates on counts
    #[arg(long)]
    part: Option<String>,
    /// Hand out volumes whose deletion failed and is open (see the head of seeds.rs)
    #[arg(long)]
    strict: bool,
    /// The first part only, few seeds, and no gates on counts
    #[arg(long)]
    quick: bool,
}

#[derive(Args)]
struct Sharp {
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only defects whose name contains this
    #[arg(long)]
    only: Option<String>,
}

#[derive(Args)]
struct Replay {
    /// Of a history; without, it is a case of the crash enumeration
    #[arg(long)]
    seed: Option<u64>,
    /// Disks and copies of the metadata, as 3x3
    #[arg(long)]
    shape: Option<Shape>,
    /// Operations, and for a seed faults; without, what the seed says
    #[arg(long)]
    ops: Option<String>,
    /// The recovery is crashed too, of one in so many states
    #[arg(long, default_value_t = 0)]
    deep: u64,
    /// The last operation but one is cut at this effect and recovered
    #[arg(long)]
    cut_before: Option<u64>,
    /// Show the effects of the last run
    #[arg(long)]
    trace: bool,
    #[arg(long)]
    strict: bool,
}

/// Every run has so many seeds at least. It may only go up.
const SEEDS: u64 = 10_000;
const SEEDS_QUICK: u64 = 500;
/// Effects that are shown of a failure.
const TRACE: usize = 40;

/// glibc gives large blocks back to the kernel with every free; a scan reads a megabyte per copy, so that half of the time
/// would go into page faults.
const MALLOC: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "268435456"),
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
    ("MALLOC_TOP_PAD_", "16777216"),
];

/// The settings are read when a process begins, so it begins once more.
fn settle_malloc() {
    use std::os::unix::process::CommandExt as _;
    if std::env::var_os(MALLOC[0].0).is_none()
        && let Ok(exe) = std::env::current_exe()
    {
        // If it cannot, all is only slower.
        let _slower = std::process::Command::new(exe).args(std::env::args_os().skip(1)).envs(MALLOC).exec();
    }
}

fn main() {
    settle_malloc();
    // A panic in a case is caught, and told with the case; its own message would drown that.
    std::panic::set_hook(Box::new(|_| {}));
    let failed = match Cli::parse().task {
        Task::Crash(limits) => crash(&limits),
        Task::Seeds(limits) => all_seeds(&limits),
        // Both, whatever comes of the first.
        Task::All(limits) => crash(&limits) | all_seeds(&limits),
        Task::Sharp(sharp) => vol_proof::sharp::run(sharp.jobs, sharp.only.as_deref()),
        Task::Replay(replay) => again(&replay).unwrap_or_else(|error| {
            println!("{error}");
            true
        }),
    };
    std::process::exit(i32::from(failed));
}

fn crash(limits: &Limits) -> bool {
    let shared = Shared::default();
    let mut coverage = Coverage::default();
    let mut failures = Vec::new();
    let mut wrong = Vec::new();
    println!("{}", head());
    let mut total = Line { name: "crash states".to_owned(), ..Line::default() };
    let partial = limits.quick || limits.part.is_some();
    let wanted = |part: &schedule::Part| limits.part.as_deref().is_none_or(|name| part.name.contains(name));
    for part in schedule::parts(limits.quick).into_iter().filter(wanted) {
        let begin = Instant::now();
        let (worlds, judged) = (shared.worlds.len(), shared.judged.len());
        let results = work::each(part.cases.len(), limits.jobs, |at| walk(&part.cases[at], &shared));
        let mut line = Line { name: part.name.to_owned(), cases: part.cases.len() as u64, ..Line::default() };
        for (case, result) in part.cases.iter().zip(results) {
            match result {
                Ok(Ok(counts)) => {
                    line.states += counts.states;
                    coverage.add(case.op, &counts);
                }
                Ok(Err(failure)) => failures.push(failure),
                Err(panic) => failures.push(Box::new(Failure { case: case.clone(), place: None, what: panic })),
            }
        }
        line.distinct = shared.worlds.len() - worlds;
        line.judged = shared.judged.len() - judged;
        line.seconds = begin.elapsed().as_secs_f64();
        println!("{line}");
        if !partial && line.distinct < part.least {
            wrong.push(format!("{}: {} distinct states, {} were there before", part.name, line.distinct, part.least));
        }
        total.cases += line.cases;
        total.states += line.states;
        total.distinct += line.distinct;
        total.judged += line.judged;
        total.seconds += line.seconds;
    }
    println!("{total}");
    println!("asked again after recovery: {} machines", shared.recovered.len());
    print!("{coverage}");
    if !partial && total.distinct < limits.states {
        wrong.push(format!("{} distinct crash states, {} are wanted", total.distinct, limits.states));
    }
    let never = ["volume-create:huge", "mount:raw", "attach:pg", "refresh", "scan"];
    let wanted = all_ops().iter().copied().filter(|op| !never.contains(&op.to_string().as_str()));
    if limits.part.is_none() {
        wrong.extend(coverage.gaps(wanted));
    }
    for failure in failures.iter().take(5) {
        println!("FAILED: {}", minimal(failure));
    }
    for what in wrong.iter().take(20) {
        println!("FAILED: {what}");
    }
    println!("{} cases failed, {} gates", failures.len(), wrong.len());
    !failures.is_empty() || !wrong.is_empty()
}

/// The same failure with fewer operations before it.
fn minimal(failure: &Failure) -> Failure {
    let retry = |before: &[vol_proof::ops::Op]| {
        let case = Case { before: before.to_vec(), ..failure.case.clone() };
        walk(&case, &Shared::default()).err().filter(|other| other.place.is_some() == failure.place.is_some())
    };
    let before = minimise::shrink(&failure.case.before, 40, |before| retry(before).is_some());
    retry(&before).map_or_else(|| failure.clone(), |failure| *failure)
}

fn all_seeds(limits: &Limits) -> bool {
    // In histories of all kinds, not in the crash states, most of which have the same plans behind them.
    #[cfg(feature = "defects")]
    vol_engine::exec::mutation::PLAN_TWICE.store(true, std::sync::atomic::Ordering::Relaxed);
    let begin = Instant::now();
    let count = if limits.quick { limits.seeds.min(SEEDS_QUICK) } else { limits.seeds };
    let history = |seed| History { strict: limits.strict, ..seeds::history(seed) };
    let run = |at: usize| seeds::run(&history(limits.first + at as u64));
    let results = work::each(count as usize, limits.jobs, run);
    let mut total = Tally::default();
    let mut failures = Vec::new();
    for (at, result) in results.into_iter().enumerate() {
        match result.and_then(|result| result) {
            Ok(tally) => total += tally,
            Err(what) => failures.push((limits.first + at as u64, what)),
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{count} seeds in {seconds:.1} s, {:.0} us each: {total:?}", seconds * 1e6 / count.max(1) as f64);
    for (seed, what) in failures.iter().take(5) {
        tell(&history(*seed), what);
    }
    println!("{} seeds failed", failures.len());
    let few = !limits.quick && count < SEEDS;
    if few {
        println!("FAILED: {count} seeds, {SEEDS} are wanted");
    }
    !failures.is_empty() || few
}

/// A failure, made small, with what was done to the machine.
fn tell(history: &History, what: &str) {
    println!("FAILED: seed {}: {what}", history.seed);
    let with = |steps: &[Step]| History { steps: steps.to_vec(), ..history.clone() };
    let steps = minimise::shrink(&history.steps, 400, |steps| seeds::run(&with(steps)).is_err());
    let small = with(&steps);
    let what = seeds::run(&small).err().unwrap_or_default();
    let strict = if history.strict { " --strict" } else { "" };
    println!("  vol-proof replay --trace{strict} {small}\n    {what}");
    // The last run once more, for what it did to the machine.
    let host = small.shape.machine(small.seed);
    host.keep_trace(true);
    let _same = seeds::run_on(&small, &host);
    let trace = host.trace();
    for line in &trace[trace.len().saturating_sub(TRACE)..] {
        println!("    {line}");
    }
}

fn again(replay: &Replay) -> Result<bool, String> {
    let Some(seed) = replay.seed else { return case_again(replay) };
    let mut history = seeds::history(seed);
    history.shape = replay.shape.unwrap_or(history.shape);
    history.strict = replay.strict;
    if let Some(ops) = &replay.ops {
        history.steps = ops.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    }
    let host = history.shape.machine(history.seed);
    host.keep_trace(replay.trace);
    let result = seeds::run_on(&history, &host);
    for line in host.trace() {
        println!("{line}");
    }
    println!("{history}\n{result:?}");
    Ok(result.is_err())
}

fn case_again(replay: &Replay) -> Result<bool, String> {
    let ops = replay.ops.as_deref().unwrap_or_default();
    let mut before = ops.split_whitespace().map(str::parse).collect::<Result<Vec<Op>, _>>()?;
    let op = before.pop().ok_or("--ops names no operation")?;
    let shape = replay.shape.unwrap_or(Shape::new(2, 2));
    let case = Case { shape, before, cut_before: replay.cut_before, op, deep: replay.deep };
    let shared = Shared::default();
    Ok(match walk(&case, &shared) {
        Ok(counts) => {
            println!("{case}\n{counts:?}, {} distinct", shared.worlds.len());
            false
        }
        Err(failure) => {
            println!("FAILED: {failure}");
            true
        }
    })
}
