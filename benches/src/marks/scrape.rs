//! What the daemon takes of a machine on which it has nothing to do, and what a scrape takes.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use vol_tests::scrape::get;

use super::{Findings, Mark, Needs, Site};
use crate::client::Connections;
use crate::peer::{DISK_MIB, Peer, by_clients};
use crate::peers::{Daemon, Options};
use crate::table::{Aim, OURS, Row, Table, Unit};
use crate::{at_rest, counters, process, timed};

const METRICS: &str = "127.0.0.1:19713";
const MIB: f64 = 1_048_576.0;

#[derive(Debug)]
pub struct Scrape;

impl Mark for Scrape {
    fn name(&self) -> &'static str {
        "scrape"
    }
    fn question(&self) -> &'static str {
        "What does the daemon take of an idle machine, and each second's scrape of it?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 1, mib_each: DISK_MIB, memory_mib: 4096 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let (seconds, attached) = if site.smoke { (2, 2) } else { (30, 500) };
        let options = Options {
            metrics: Some(METRICS),
            connections: Connections::Kept,
            config: "volume_metrics = \"all\"\n".to_owned(),
            ..Options::default()
        };
        let mut daemon = Daemon::start(site.disk(0)?, options)?;
        let mut tables = Vec::new();
        for &volumes in &site.volumes {
            daemon.fill(volumes)?;
            daemon.settle()?;
            let mut made = Row::new("resident memory after making them", Unit::Bytes).at(volumes);
            made.of(OURS).add(0, resident(&daemon, "Rss")?);
            daemon.restart()?;
            std::thread::sleep(Duration::from_secs(if site.smoke { 1 } else { 12 }));
            let mut rows = idle(site, &daemon, volumes, seconds)?;
            rows.push(made);
            tables.push(Table::new(format!("At {volumes} volumes, after a start"), rows));
        }
        let most = site.volumes.iter().copied().max().unwrap_or(0);
        let attached = attached.min(most);
        if attached > 0 {
            let names: Vec<String> = (0..attached).map(|n| format!("crowd{n}")).collect();
            by_clients(32, &names, |name| daemon.open(name))?;
            at_rest();
            daemon.settle()?;
            std::thread::sleep(Duration::from_secs(6));
            let rows = idle(site, &daemon, most, seconds)?;
            tables.push(Table::new(format!("With {attached} of them active"), rows));
            by_clients(32, &names, |name| daemon.close(name))?;
        }
        Ok(Findings { tables, ..Findings::default() })
    }
}

fn idle(site: &Site, daemon: &Daemon, volumes: usize, seconds: u64) -> Result<Vec<Row>> {
    let row = |what: &str, unit: Unit| Row::new(what, unit).at(volumes);
    let mut scrape = row("a scrape", Unit::Seconds).aiming([Aim::within(0.99, 0.05)]);
    let mut bytes = row("its size", Unit::Bytes);
    let mut commits =
        row("flushes of the disk while it is scraped each second", Unit::Count).aiming([Aim::within(1.0, 0.0)]);
    let mut begun = row("processes and threads begun meanwhile", Unit::Count).aiming([Aim::within(1.0, 0.0)]);
    let mut memory = row("resident memory", Unit::Bytes).aiming([Aim::within(1.0, 24.0 * MIB)]);
    let mut heap = row("of that, heap and stacks", Unit::Bytes);
    let mut threads = row("threads", Unit::Count);
    let mut wakeups = row("wake-ups without a scrape", Unit::PerSecond);
    let mut work = row("processor without a scrape", Unit::Percent);
    let mut calls = row("ioctls of device-mapper without a scrape", Unit::PerSecond);
    for round in 0..site.rounds {
        let at = || -> Result<(u64, f64, u64)> {
            let all = daemon.counted()?;
            let calls = all.iter().filter(|(name, _)| name.starts_with("dm_")).map(|(_, count)| count).sum();
            Ok((process::switches(daemon.pid())?, process::processor(daemon.pid())?, calls))
        };
        let before = at()?;
        std::thread::sleep(Duration::from_secs(seconds));
        let after = at()?;
        wakeups.of(OURS).add(round, after.0.saturating_sub(before.0) as f64 / seconds as f64);
        work.of(OURS).add(round, 100.0 * (after.1 - before.1) / seconds as f64);
        calls.of(OURS).add(round, after.2.saturating_sub(before.2) as f64 / seconds as f64);
        let (flushes, processes) = (daemon.disk().written()?.flushes, counters::processes()?);
        for _ in 0..seconds.min(10) {
            let (time, page) = timed(|| Ok(get(METRICS, "/metrics")?))?;
            scrape.of(OURS).add_time(round, time);
            bytes.of(OURS).add(round, page.len() as f64);
            std::thread::sleep(Duration::from_secs(1).saturating_sub(time));
        }
        commits.of(OURS).add(round, daemon.disk().written()?.flushes.saturating_sub(flushes) as f64);
        begun.of(OURS).add(round, counters::processes()?.saturating_sub(processes) as f64);
        memory.of(OURS).add(round, resident(daemon, "Rss")?);
        heap.of(OURS).add(round, resident(daemon, "Anonymous")?);
        threads.of(OURS).add(round, fs::read_dir(format!("/proc/{}/task", daemon.pid()))?.count() as f64);
        // It answers all the while.
        daemon.ask("GET", "status", &Value::Null)?;
    }
    Ok(vec![scrape, bytes, commits, begun, memory, heap, threads, wakeups, work, calls])
}

/// Bytes of the daemon's memory, by the name that `/proc/PID/smaps_rollup` has for them.
fn resident(daemon: &Daemon, which: &str) -> Result<f64> {
    Ok(process::memory(daemon.pid())?.get(which).copied().unwrap_or(0) as f64)
}
