//! Runs benchmarks on disks that may be destroyed, and makes pages and pictures of what they found. `cargo xtask bench` runs it in guests
//! or on this machine; by hand, as root:
//!
//! ```text
//! vol-bench list
//! VOLUMED_TEST_DISKS=/dev/sdx,/dev/sdy vol-bench run read --into DIR
//! vol-bench report DIR/*.json
//! ```
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use vol_benches::counters::{Count, differences};
use vol_benches::disk::Disk;
use vol_benches::machine::Machine;
use vol_benches::marks::{self, Mark, Site};
use vol_benches::plot;
use vol_benches::record::{FORMAT, Record, page};
use vol_benches::table::{OURS, Verdict};

#[derive(Parser)]
#[command(name = "vol-bench", about = "Benchmarks of volumed beside its peers", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// The benchmarks, what they answer, and what they need
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Run benchmarks on the disks named in VOLUMED_TEST_DISKS, which are destroyed
    Run(Run),
    /// Make pages and pictures of records
    Report {
        /// What `run` has written
        #[arg(required = true)]
        records: Vec<PathBuf>,
        /// A folder for a page and a picture of each benchmark, its records, and counters.json; else all is printed
        #[arg(long)]
        into: Option<PathBuf>,
    },
    /// Compare counts with those on record; exit code 1 if volumed's differ
    Compare {
        /// Of the benchmark `counters`
        record: PathBuf,
        /// docs/performance/counters.json
        on_record: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// Which; all without any
    names: Vec<String>,
    /// What runs this machine: uml, qemu or host
    #[arg(long, default_value = "host")]
    runner: String,
    /// How often peers take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How often each does something in a round
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10000))]
    samples: u16,
    /// How many volumes there are besides, in turn
    #[arg(long, value_delimiter = ',', default_value = "0,1000,10000")]
    volumes: Vec<usize>,
    /// As little as shows that it still runs; nothing that it says counts
    #[arg(long)]
    smoke: bool,
    /// What a reader of the record has to know of the machine, such as what else it did meanwhile
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// What the repository is at, for the record
    #[arg(long)]
    commit: Option<String>,
    /// A folder for the records, BENCHMARK-RUNNER.json; else tables are printed and nothing is kept
    #[arg(long)]
    into: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::List { json } => {
            list(json);
            Ok(true)
        }
        Task::Run(options) => run(&options),
        Task::Report { records, into } => report(&records, into.as_deref()).map(|()| true),
        Task::Compare { record, on_record } => compare(&record, &on_record),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vol-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list(as_json: bool) {
    let all = marks::all();
    if as_json {
        let entry = |mark: &dyn Mark| {
            let needs = mark.needs();
            json!({
                "name": mark.name(), "question": mark.question(),
                "disks": needs.disks, "mib_each": needs.mib_each, "memory_mib": needs.memory_mib,
            })
        };
        println!("{}", json!(all.iter().map(|mark| entry(&**mark)).collect::<Vec<_>>()));
        return;
    }
    for mark in all {
        let needs = mark.needs();
        println!("{:<10} {} ({} disk(s) of {} MiB)", mark.name(), mark.question(), needs.disks, needs.mib_each);
    }
}

/// Whether all that was asked for was run.
fn run(options: &Run) -> Result<bool> {
    let named = std::env::var("VOLUMED_TEST_DISKS").unwrap_or_default();
    let disks: Vec<Disk> = named.split(',').filter(|disk| !disk.is_empty()).map(Disk::of).collect::<Result<_>>()?;
    ensure!(!disks.is_empty(), "VOLUMED_TEST_DISKS names no disks that may be destroyed");
    if let Some(dir) = &options.into {
        ensure!(dir.is_dir(), "{} is no folder", dir.display());
    }
    let site = Site {
        runner: options.runner.clone(),
        rounds: if options.smoke { 1 } else { options.rounds.into() },
        samples: if options.smoke { 1 } else { options.samples.into() },
        volumes: if options.smoke { vec![0] } else { options.volumes.clone() },
        smoke: options.smoke,
        disks,
    };
    let mut all_run = true;
    for mark in marks::named(&options.names)? {
        match one(&*mark, &site, options) {
            Ok(record) => finish(&record, options)?,
            // What one benchmark lacks, another may have.
            Err(error) => {
                eprintln!("vol-bench: {}: {error:#}", mark.name());
                all_run = false;
            }
        }
    }
    Ok(all_run)
}

fn one(mark: &dyn Mark, site: &Site, options: &Run) -> Result<Record> {
    let needs = mark.needs();
    for index in 0..needs.disks {
        let disk = site.disk(index)?;
        ensure!(disk.size >> 20 >= needs.mib_each, "{} has less than {} MiB", disk.node, needs.mib_each);
    }
    eprintln!("vol-bench: {}", mark.name());
    let disks = site.disks.get(..needs.disks).unwrap_or_default();
    let record = Record {
        format: FORMAT,
        mark: mark.name().to_owned(),
        question: mark.question().to_owned(),
        machine: Machine::look(&site.runner, disks),
        commit: options.commit.clone(),
        began: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        took_seconds: 0.0,
        rounds: site.rounds,
        samples: site.samples,
        tables: Vec::new(),
        counts: Vec::new(),
        notes: Vec::new(),
    };
    let begin = Instant::now();
    let mut findings = mark.run(site)?;
    findings.notes.extend(options.note.clone());
    Ok(Record { took_seconds: begin.elapsed().as_secs_f64(), ..record }.with(findings))
}

fn finish(record: &Record, options: &Run) -> Result<()> {
    let rows = || record.tables.iter().flat_map(|table| &table.rows);
    let count = |wanted: Verdict| {
        rows().flat_map(|row| row.aims.iter().map(|aim| row.judge(aim).0)).filter(|verdict| *verdict == wanted).count()
    };
    let [reached, missed, open] = [Verdict::Reached, Verdict::Missed, Verdict::NotMeasured].map(count);
    eprintln!(
        "vol-bench: {} took {:.0} s: {reached} aims reached, {missed} missed, {open} not measured",
        record.mark, record.took_seconds
    );
    match &options.into {
        // What a smoke test says is nobody's record.
        _ if options.smoke => Ok(()),
        Some(dir) => record.save(&dir.join(format!("{}-{}.json", record.mark, record.machine.runner))),
        None => {
            println!("{}", record.markdown());
            Ok(())
        }
    }
}

fn report(files: &[PathBuf], into: Option<&Path>) -> Result<()> {
    let records: Vec<Record> = files.iter().map(|file| Record::load(file)).collect::<Result<_>>()?;
    let known = marks::all();
    for mark in &known {
        let mut own: Vec<&Record> = records.iter().filter(|record| record.mark == mark.name()).collect();
        own.sort_by_key(|record| (record.machine.runner != "uml", record.machine.runner.clone()));
        if own.is_empty() {
            continue;
        }
        let Some(dir) = into else {
            println!("{}", page(&own, None));
            continue;
        };
        fs::create_dir_all(dir)?;
        let picture = format!("{}.svg", mark.name());
        let drawn = plot::draw(&own, &dir.join(&picture))?;
        let file = dir.join(format!("{}.md", mark.name()));
        fs::write(&file, page(&own, drawn.then_some(picture.as_str())))
            .with_context(|| format!("cannot write {}", file.display()))?;
        for record in &own {
            record.save(&dir.join(format!("{}-{}.json", record.mark, record.machine.runner)))?;
        }
        // Counts are the same wherever they are counted: the first machine's stand for all.
        if let Some(first) = own.iter().find(|record| !record.counts.is_empty()) {
            let json = serde_json::to_string_pretty(&first.counts)?;
            fs::write(dir.join("counters.json"), json + "\n")?;
        }
    }
    match records.iter().find(|record| !known.iter().any(|mark| mark.name() == record.mark)) {
        Some(strange) => bail!("there is no benchmark {}", strange.mark),
        None => Ok(()),
    }
}

/// Whether what was counted of volumed is what is on record.
fn compare(record: &Path, on_record: &Path) -> Result<bool> {
    let found = Record::load(record)?.counts;
    let text = fs::read_to_string(on_record).with_context(|| format!("cannot read {}", on_record.display()))?;
    let known: Vec<Count> = serde_json::from_str(&text).with_context(|| format!("{}", on_record.display()))?;
    let wrong = differences(&known, &found, OURS);
    wrong.iter().for_each(|line| println!("{line}"));
    if wrong.is_empty() {
        println!("volumed costs what is on record");
    }
    Ok(wrong.is_empty())
}
