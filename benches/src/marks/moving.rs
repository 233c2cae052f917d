//! Wiping and copying, beside what the disk can do and the tools that do as much.

use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Findings, Mark, Needs, Site};
use crate::fio::Job;
use crate::peer::turns;
use crate::peers::{Daemon, Options};
use crate::program::run;
use crate::table::{Aim, OURS, Row, Table, Unit};
use crate::{process, timed};

/// What fio reaches on the same disk is the bound: durable at its end, as what it is compared with.
const FIO: &str = "fio";
/// The same left in caches.
const FIO_NOT_DURABLE: &str = "fio, not made durable";
const DEPTHS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// The daemon without io_uring.
const PLAIN: &str = "volumed, pread and pwrite";

#[derive(Debug)]
pub struct Moving;

impl Mark for Moving {
    fn name(&self) -> &'static str {
        "moving"
    }
    fn question(&self) -> &'static str {
        "How fast are blocks wiped and copied, beside what the disk can do?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 2, mib_each: 6 << 10, memory_mib: 2048 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let mib: u64 = if site.smoke { 64 } else { 1024 };
        // The second disk is the tools': it is like the other, and nobody's label stands on it.
        let tools = site.disk(1)?;
        tools.clean();
        // As fast as it goes: nobody else uses these disks.
        let config = |io: &str| format!("move_share = 100\nio = \"{io}\"\n");
        // Its pool is not used here, and three volumes have to fit beside it.
        let options = Options { config: config("auto"), pool_mib: 512, ..Options::default() };
        let mut daemon = Daemon::start(site.disk(0)?, options)?;
        make(&daemon, "source", mib)?;
        let rate = |what: &str| Row::new(what, Unit::BytesPerSecond);
        let mut wipe = rate("wipe").aiming([Aim::at_least(0.97, FIO), Aim::better(2.0, "dd")]);
        let mut copy = rate("copy").aiming([Aim::at_least(0.97, FIO), Aim::better(2.0, "dd")]);
        // A tenth of a core at a GB a second is a tenth of a second for a GB.
        let work = |what: &str| Row::new(what, Unit::Seconds).aiming([Aim::within(0.5, 0.1)]);
        let mut wiping = work("processor time of a GiB wiped");
        let mut copying = work("processor time of a GiB copied");
        let mut wipe_flushes = Row::new("flushes of the disk for a GiB wiped", Unit::Count);
        let mut copy_flushes = Row::new("flushes of the disk for a GiB copied", Unit::Count);
        let mut depths: Vec<Row> = DEPTHS.iter().map(|depth| rate(&format!("1 MiB, {depth} at once"))).collect();
        let bytes = (mib << 20) as f64;
        for round in 0..site.rounds {
            for who in turns(&[OURS, PLAIN, FIO, "dd", "blkdiscard -z"], round) {
                match who {
                    OURS | PLAIN => {
                        daemon.restart_with(&config(if who == OURS { "auto" } else { "plain" }))?;
                        let gib = mib as f64 / 1024.0;
                        let spent = |daemon: &Daemon| {
                            Ok::<_, anyhow::Error>((
                                process::processor(daemon.pid())?,
                                site.disk(0)?.written()?.flushes as f64,
                            ))
                        };
                        let before = spent(&daemon)?;
                        let (time, ()) = timed(|| make(&daemon, "new", mib))?;
                        let between = spent(&daemon)?;
                        wipe.of(who).add(round, bytes / time.as_secs_f64());
                        let clone = json!({"vg": daemon.vg(), "volume": "source", "name": "copy"});
                        let (time, _) = timed(|| daemon.ask("POST", "clones", &clone))?;
                        let after = spent(&daemon)?;
                        copy.of(who).add(round, bytes / time.as_secs_f64());
                        wiping.of(who).add(round, (between.0 - before.0) / gib);
                        copying.of(who).add(round, (after.0 - between.0) / gib);
                        wipe_flushes.of(who).add(round, (between.1 - before.1) / gib);
                        copy_flushes.of(who).add(round, (after.1 - between.1) / gib);
                        for name in ["new", "copy"] {
                            daemon.ask("DELETE", &daemon.of(name, "?now=true"), &Value::Null)?;
                        }
                    }
                    FIO => {
                        let job = |rw| Job {
                            node: &tools.node,
                            rw,
                            block: 1 << 20,
                            depth: 8,
                            jobs: 1,
                            size: mib << 20,
                            seconds: 0,
                        };
                        let written = job("write").run_durable()?.bytes_per_second;
                        let read = job("read").run()?.bytes_per_second;
                        wipe.of(who).add(round, written);
                        // Reading and writing one disk by turns: no faster than both one after the other.
                        copy.of(who).add(round, 1.0 / (1.0 / written + 1.0 / read));
                        wipe.of(FIO_NOT_DURABLE).add(round, job("write").run()?.bytes_per_second);
                        for (depth, row) in DEPTHS.iter().zip(&mut depths) {
                            row.of("written").add(round, Job { depth: *depth, ..job("write") }.run()?.bytes_per_second);
                            row.of("read").add(round, Job { depth: *depth, ..job("read") }.run()?.bytes_per_second);
                        }
                    }
                    "dd" => {
                        wipe.of(who).add(round, bytes / dd("/dev/zero", &tools.node, 0, mib)?);
                        copy.of(who).add(round, bytes / dd(&tools.node, &tools.node, mib, mib)?);
                    }
                    _ => {
                        let length = (mib << 20).to_string();
                        let (time, _) = timed(|| run("blkdiscard", &["-f", "-z", "-l", &length, &tools.node]))?;
                        wipe.of(who).add(round, bytes / time.as_secs_f64());
                    }
                }
            }
        }
        let notes = vec![
            format!(
                "{mib} MiB each time. fio's copy is computed from its writing, with a flush at the end, and its reading of the same disk"
            ),
            "volumed's times are of whole requests: record, move, durable, and what the disk did by itself read back"
                .to_owned(),
        ];
        let tables = vec![
            Table::new("Moves", vec![wipe, copy]),
            Table::new("What they cost", vec![wiping, copying, wipe_flushes, copy_flushes]),
            Table::new("What the disk reaches, by depth", depths),
        ];
        Ok(Findings { tables, notes, ..Findings::default() })
    }
}

/// A thick volume: wiped when this returns.
fn make(daemon: &Daemon, name: &str, mib: u64) -> Result<()> {
    let wanted = json!({"vg": daemon.vg(), "name": name, "size": format!("{mib}M"), "fs": "none", "thick": true});
    let answer = daemon.ask("POST", "volumes", &wanted)?;
    if answer["object"].is_null() {
        bail!("no volume in the answer: {answer}");
    }
    Ok(())
}

/// Seconds that it takes, durable at the end.
fn dd(from: &str, to: &str, seek: u64, mib: u64) -> Result<f64> {
    let (from, to, count) = (format!("if={from}"), format!("of={to}"), format!("count={mib}"));
    let seek = format!("seek={seek}");
    let mut args =
        vec![from.as_str(), &to, &count, &seek, "bs=1M", "oflag=direct", "conv=fsync,notrunc", "status=none"];
    if !from.ends_with("zero") {
        args.push("iflag=direct");
    }
    let begin = Instant::now();
    run("dd", &args)?;
    Ok(begin.elapsed().as_secs_f64())
}
