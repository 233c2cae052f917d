//! How long a start takes, and activating many volumes.

use std::time::Duration;

use anyhow::Result;
use vol_tests::scrape::{get, sample};

use super::{Findings, Mark, Needs, Site};
use crate::client::Connections;
use crate::peer::{DISK_MIB, Peer, by_clients, turns};
use crate::peers::{Bare, Daemon, Lvm, Options};
use crate::program::run;
use crate::table::{Aim, OURS, Row, Table, Unit};
use crate::{at_rest, process, timed};

const METRICS: &str = "127.0.0.1:19712";
const CLIENTS: usize = 64;
const UNCHECKED: &str = "lvm2 without thin_check";

#[derive(Debug)]
pub struct Start;

impl Mark for Start {
    fn name(&self) -> &'static str {
        "start"
    }
    fn question(&self) -> &'static str {
        "How long until a daemon is ready with so many volumes, and until a thousand of them are active?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 3, mib_each: DISK_MIB, memory_mib: 4096 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let options = Options { metrics: Some(METRICS), connections: Connections::Kept, ..Options::default() };
        let mut daemon = Daemon::start(site.disk(0)?, options)?;
        let mut starts = Vec::new();
        for &volumes in &site.volumes {
            daemon.fill(volumes)?;
            daemon.settle()?;
            let aims = (volumes >= 100_000).then(|| Aim::within(0.5, 0.1));
            let mut answered = Row::new("to the first answer that it is ready", Unit::Seconds).at(volumes).aiming(aims);
            let mut own = Row::new("by its own clock", Unit::Seconds).at(volumes);
            let mut resident = Row::new("resident memory", Unit::Bytes).at(volumes);
            for round in 0..site.rounds {
                answered.of(OURS).add_time(round, daemon.restart()?);
                let page = get(METRICS, "/metrics")?;
                own.of(OURS).add(round, sample(&page, "volumed_start_seconds").unwrap_or(f64::NAN));
                // What a start took for itself is given back by then.
                std::thread::sleep(Duration::from_secs(if site.smoke { 1 } else { 12 }));
                let rss = process::memory(daemon.pid())?.get("Rss").copied().unwrap_or(0);
                resident.of(OURS).add(round, rss as f64);
            }
            starts.extend([answered, own, resident]);
        }
        let active = activation(site, &daemon)?;
        let notes = vec![
            "volumed and the bare calls activate with 64 clients; LVM2 activates its pool with the volumes".to_owned(),
            "LVM2's volumes are made by `vgcfgrestore`, and in its pool by messages".to_owned(),
        ];
        let tables = vec![Table::new("Starts", starts), Table::new("Activation", vec![active])];
        Ok(Findings { tables, notes, ..Findings::default() })
    }
}

fn activation(site: &Site, daemon: &Daemon) -> Result<Row> {
    let count = if site.smoke { 10 } else { 1000 };
    let names: Vec<String> = (0..count).map(|n| format!("active{n}")).collect();
    let bare = Bare::start(site.disk(1)?)?;
    let lvm = Lvm::start(site.disk(2)?)?;
    let peers: [&dyn Peer; 2] = [daemon, &bare];
    for peer in peers {
        by_clients(CLIENTS, &names, |name| peer.create(name))?;
    }
    lvm.fill_for_activation(count)?;
    let mut row = Row::new(format!("{count} volumes"), Unit::Seconds).aiming([
        Aim::at_most(1.1, "bare"),
        Aim::better(20.0, "lvm2"),
        Aim::better(20.0, UNCHECKED),
    ]);
    for round in 0..site.rounds {
        for who in turns(&[OURS, "bare", "lvm2", UNCHECKED], round) {
            at_rest();
            let peer: &dyn Peer = match who {
                OURS => daemon,
                "bare" => &bare,
                _ => {
                    let down = || run("lvm", &["vgchange", "-qq", "-an", lvm.vg()]);
                    down()?;
                    let unchecked = ["--config", "global/thin_check_executable=\"\""];
                    let more: &[&str] = if who == UNCHECKED { &unchecked } else { &[] };
                    let line = [&["vgchange", "-qq", "-ay"][..], more, &[lvm.vg()]].concat();
                    row.of(who).add_time(round, timed(|| run("lvm", &line))?.0);
                    // A thousand devices of somebody else's are work for everybody who lists them.
                    down()?;
                    continue;
                }
            };
            row.of(who).add_time(round, timed(|| by_clients(CLIENTS, &names, |name| peer.open(name)))?.0);
            by_clients(CLIENTS, &names, |name| peer.close(name))?;
        }
    }
    Ok(row)
}
