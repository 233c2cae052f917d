//! Many clients that make and delete volumes at once.

use std::time::Instant;

use anyhow::Result;

use super::{Findings, Mark, Needs, Site};
use crate::at_rest;
use crate::client::Connections;
use crate::peer::{DISK_MIB, Peer, by_clients, turns};
use crate::peers::{Bare, Daemon, Lvm, Options};
use crate::table::{Aim, Row, Table, Unit};

const CLIENTS: usize = 64;

#[derive(Debug)]
pub struct Churn;

impl Mark for Churn {
    fn name(&self) -> &'static str {
        "churn"
    }
    fn question(&self) -> &'static str {
        "How many volumes a second do 64 clients make and delete?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 3, mib_each: DISK_MIB, memory_mib: 3072 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        // Agents keep their connections, as a CSI sidecar does.
        let options = Options { connections: Connections::Kept, ..Options::default() };
        let daemon = Daemon::start(site.disk(0)?, options)?;
        let bare = Bare::start(site.disk(1)?)?;
        let lvm = Lvm::start(site.disk(2)?)?;
        // In all rounds together: 10,000 of the two that can, one for each client and round of LVM2, which takes minutes for them.
        let many = if site.smoke { CLIENTS } else { 10_000_usize.div_ceil(site.rounds.max(1)) };
        let peers: [(&dyn Peer, usize); 3] = [(&daemon, many), (&bare, many), (&lvm, CLIENTS)];
        let mut without = Row::new("made and deleted for good, without a device", Unit::PerSecond)
            .aiming([Aim::at_least(0.9, "bare"), Aim::better(50.0, "lvm2")]);
        let mut with = Row::new("made, to a node, taken down, deleted for good", Unit::PerSecond)
            .aiming([Aim::at_least(0.9, "bare"), Aim::better(50.0, "lvm2")]);
        for round in 0..site.rounds {
            for (peer, count) in turns(&peers, round) {
                let rate = |count: usize, each: &(dyn Fn(&str) -> Result<()> + Sync)| -> Result<f64> {
                    at_rest();
                    let names: Vec<String> = (0..count).map(|n| format!("churn{round}-{n}")).collect();
                    let begin = Instant::now();
                    by_clients(CLIENTS, &names, each)?;
                    Ok(count as f64 / begin.elapsed().as_secs_f64())
                };
                let pair = rate(count, &|name: &str| {
                    peer.create(name)?;
                    peer.delete_now(name)
                })?;
                without.of(peer.who()).add(round, pair);
                // Each removal waits for the kernel: a tenth of them.
                let fewer = (count / 10).max(CLIENTS);
                let whole = rate(fewer, &|name: &str| {
                    peer.create_open(name)?;
                    peer.close(name)?;
                    peer.delete_now(name)
                })?;
                with.of(peer.who()).add(round, whole);
                peer.settle()?;
            }
        }
        let notes = vec![
            format!(
                "{many} volumes a round by volumed and the bare calls, {CLIENTS} by lvm2, whose volumes always have a device"
            ),
            "volumed's clients keep their connections; the bare calls have none".to_owned(),
        ];
        Ok(Findings {
            tables: vec![Table::new("64 clients at once", vec![without, with])],
            notes,
            ..Findings::default()
        })
    }
}
