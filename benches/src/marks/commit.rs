//! One change of metadata, at more and more volumes.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use serde_json::json;

use super::{Findings, Mark, Needs, Site};
use crate::client::Connections;
use crate::disk::Written;
use crate::peer::{DISK_MIB, Peer, by_clients, turns};
use crate::peers::{Daemon, Lvm, Options};
use crate::program::run;
use crate::table::{Aim, OURS, Row, Table, Unit};
use crate::timed;

/// LVM2 does not flush what it wrote; with this it does.
const FLUSHED: &str = "lvm2, flushed";

#[derive(Debug)]
pub struct Commit;

impl Mark for Commit {
    fn name(&self) -> &'static str {
        "commit"
    }
    fn question(&self) -> &'static str {
        "Does one change cost as much beside a hundred thousand volumes as beside none?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 2, mib_each: DISK_MIB, memory_mib: 4096 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let options = Options { connections: Connections::Kept, ..Options::default() };
        let daemon = Daemon::start(site.disk(0)?, options)?;
        let lvm = Lvm::start(site.disk(1)?)?;
        let (mut times, mut bytes, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        for &volumes in &site.volumes {
            daemon.fill(volumes)?;
            lvm.fill(volumes)?;
            let row = |what: &str, unit| Row::new(what, unit).at(volumes);
            let mut time = row("one label more", Unit::Seconds).aiming([Aim::better(50.0, "lvm2")]);
            let more = (volumes >= 10_000).then(|| Aim::better(400.0, "lvm2"));
            let mut size = row("bytes written", Unit::Bytes).aiming([Aim::within(1.0, 8192.0)]).aiming(more);
            let mut flushed = row("flushes", Unit::Count).aiming([Aim::within(1.0, 1.0)]);
            for round in 0..site.rounds {
                for who in turns(&[OURS, "lvm2", FLUSHED], round) {
                    let count = if who == OURS { site.samples } else { site.few() };
                    let disk = if who == OURS { daemon.disk() } else { lvm.disk() };
                    let before = disk.written()?;
                    for _ in 0..count {
                        time.of(who).add_time(round, timed(|| change(who, &daemon, &lvm))?.0);
                    }
                    let Written { bytes, flushes, .. } = disk.written()? - before;
                    size.of(who).add(round, bytes as f64 / count as f64);
                    flushed.of(who).add(round, flushes as f64 / count as f64);
                }
            }
            times.push(time);
            bytes.push(size);
            flushes.push(flushed);
        }
        let shared = shared(site, &daemon)?;
        let notes = vec![
            "volumed: a label of a volume; lvm2: `lvchange --addtag`; flushed: and `blockdev --flushbufs` of its disk"
                .to_owned(),
            "how much a change takes at so many volumes, of what it takes at none, is seen down the column".to_owned(),
        ];
        let tables = vec![
            Table::new("Time", times),
            Table::new("What is written", bytes),
            Table::new("Flushes", flushes),
            Table::new("64 clients", vec![shared]),
        ];
        Ok(Findings { tables, notes, ..Findings::default() })
    }
}

/// Each of them is another one: what is there already would be no change.
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn change(who: &str, daemon: &Daemon, lvm: &Lvm) -> Result<()> {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    if who == OURS {
        let labels = json!({"set": {"bench": n.to_string()}});
        return daemon.ask("POST", &daemon.of("base", "/labels"), &labels).map(drop);
    }
    // LVM2 keeps all tags, which are few bytes.
    run("lvm", &["lvchange", "-qq", "--addtag", &format!("n{n}"), &format!("{}/base", lvm.vg())])?;
    if who == FLUSHED {
        run("blockdev", &["--flushbufs", &lvm.disk().node])?;
    }
    Ok(())
}

/// How many flushes each of many creations at once costs: those of the pool's commits among them.
fn shared(site: &Site, daemon: &Daemon) -> Result<Row> {
    let mut row =
        Row::new("flushes for each creation, the pool's included", Unit::Count).aiming([Aim::within(0.5, 7.0)]);
    for round in 0..site.rounds {
        let names: Vec<String> = (0..640).map(|n| format!("shared{round}-{n}")).collect();
        let before = daemon.disk().written()?;
        by_clients(64, &names, |name| daemon.create(name))?;
        let flushes = (daemon.disk().written()? - before).flushes;
        row.of(OURS).add(round, flushes as f64 / names.len() as f64);
        by_clients(64, &names, |name| daemon.delete_now(name))?;
    }
    Ok(row)
}
