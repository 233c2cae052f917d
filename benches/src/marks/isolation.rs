//! Whether somebody who writes notices that somebody else's large volume is deleted.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Findings, Mark, Needs, Site};
use crate::at_rest;
use crate::fio::Job;
use crate::peer::turns;
use crate::peers::{Daemon, Options};
use crate::samples::Samples;
use crate::table::{Aim, OURS, Row, Table, Unit};
use crate::writer::Writer;

/// Of the volume that is deleted; in the lab, where a disk has few GiB.
const LARGE_MIB: u64 = 1536;
const FOREGROUND_MIB: u64 = 256;
const NOW: &str = "volumed-now";

#[derive(Debug)]
pub struct Isolation;

impl Mark for Isolation {
    fn name(&self) -> &'static str {
        "isolation"
    }
    fn question(&self) -> &'static str {
        "How much slower are writes to one volume while another, large and written in whole, is deleted?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 1, mib_each: 4 << 10, memory_mib: 2048 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let seconds = if site.smoke { 1 } else { 5 };
        let daemon =
            Daemon::start(site.disk(0)?, Options { config: "move_share = 50\n".to_owned(), ..Options::default() })?;
        let make = |name: &str, mib: u64| -> Result<String> {
            let wanted =
                json!({"vg": daemon.vg(), "name": name, "size": format!("{mib}M"), "fs": "none", "attach": true});
            daemon.ask("POST", "volumes", &wanted)?;
            let node = daemon.node(name)?;
            Job { node: &node, rw: "write", block: 1 << 20, depth: 8, jobs: 1, size: mib << 20, seconds: 0 }.run()?;
            Ok(node)
        };
        let front = make("front", FOREGROUND_MIB)?;
        let mut p99 = Row::new("99 of 100 writes take at most", Unit::Seconds)
            .aiming([Aim::at_most(2.0, "idle"), Aim::at_most(2.0, "idle").of(NOW)]);
        let mut most = Row::new("the slowest write", Unit::Seconds);
        let mut asked = Row::new("the deletion is acknowledged after", Unit::Seconds);
        let mut gone = Row::new("its space is free after", Unit::Seconds);
        for round in 0..site.rounds {
            for who in turns(&["idle", OURS, NOW], round) {
                if who != "idle" {
                    make("large", LARGE_MIB)?;
                    daemon.ask("POST", &daemon.of("large", "/detach"), &Value::Null)?;
                    // What readers see of a pool is five seconds old at most.
                    std::thread::sleep(Duration::from_secs(6));
                }
                let free_below = used(&daemon)?.saturating_sub((LARGE_MIB << 20) / 2);
                at_rest();
                let writer = Writer::begin(&front, FOREGROUND_MIB << 20)?;
                std::thread::sleep(Duration::from_secs(1));
                let begin = Instant::now();
                if who == "idle" {
                    std::thread::sleep(Duration::from_secs(seconds));
                } else {
                    let how = if who == NOW { "?now=true" } else { "" };
                    daemon.ask("DELETE", &daemon.of("large", how), &Value::Null)?;
                    asked.of(who).add_time(round, begin.elapsed());
                    if who == OURS {
                        // As its window does when it is over.
                        daemon.ask("POST", &format!("pools/{}/tank/purge", daemon.vg()), &Value::Null)?;
                    }
                    while used(&daemon)? > free_below {
                        if begin.elapsed() > Duration::from_secs(600) {
                            bail!("the space of a deleted volume is not free after ten minutes");
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    gone.of(who).add_time(round, begin.elapsed());
                }
                let end = Instant::now();
                let mut times = Samples::default();
                for write in writer.end()?.iter().filter(|write| write.was_within(begin, end)) {
                    times.add_time(0, write.took);
                }
                p99.of(who).add(round, times.share(0.99).context("nothing was written meanwhile")?);
                most.of(who).add(round, times.share(1.0).unwrap_or_default());
            }
        }
        let notes = vec![
            format!(
                "a volume of {LARGE_MIB} MiB, and 4 KiB random writes, one at a time, to one of {FOREGROUND_MIB} MiB"
            ),
            "what counts are the writes between the request and the moment in which the space is free".to_owned(),
            format!("{OURS}: deleted, and purged at once, in slices; {NOW}: deleted with `now`, in one message"),
        ];
        let rows = vec![p99, most, asked, gone];
        Ok(Findings {
            tables: vec![Table::new("Writes while a volume is deleted", rows)],
            notes,
            ..Findings::default()
        })
    }
}

/// Bytes of the pool that are in use, as readers see it.
fn used(daemon: &Daemon) -> Result<u64> {
    let pool = daemon.ask("GET", &format!("pools/{}/tank", daemon.vg()), &Value::Null)?;
    match pool["used_bytes"].as_u64() {
        Some(used) => Ok(used),
        None => bail!("the pool does not say how much of it is in use: {pool}"),
    }
}
