//! Asking what there is.

use anyhow::{Result, ensure};

use super::{Findings, Mark, Needs, Site};
use crate::client::Connections;
use crate::peer::{DISK_MIB, Peer, turns};
use crate::peers::{Daemon, Lvm, Options};
use crate::table::{Aim, Row, Table, Unit};
use crate::timed;

#[derive(Debug)]
pub struct Read;

impl Mark for Read {
    fn name(&self) -> &'static str {
        "read"
    }
    fn question(&self) -> &'static str {
        "How long does it take to be told of one volume, and of all?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 2, mib_each: DISK_MIB, memory_mib: 3072 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let options = Options { connections: Connections::Kept, ..Options::default() };
        let daemon = Daemon::start(site.disk(0)?, options)?;
        let lvm = Lvm::start(site.disk(1)?)?;
        let peers: [(&dyn Peer, usize); 2] = [(&daemon, site.samples * 10), (&lvm, site.few())];
        let mut tables = Vec::new();
        for &volumes in &site.volumes {
            let mut one = Row::new("one", Unit::Seconds).at(volumes).aiming([Aim::better(1000.0, "lvm2")]);
            let mut all = Row::new("all", Unit::Seconds).at(volumes).aiming([Aim::better(50.0, "lvm2")]);
            for (peer, _) in &peers {
                peer.fill(volumes)?;
            }
            for round in 0..site.rounds {
                for (peer, count) in turns(&peers, round) {
                    for _ in 0..count {
                        one.of(peer.who()).add_time(round, timed(|| peer.read("base"))?.0);
                    }
                    for _ in 0..site.few() {
                        let (time, found) = timed(|| peer.list())?;
                        let found = found.unwrap_or(0);
                        ensure!(found > volumes, "{} tells {found} volumes of {volumes} and more", peer.who());
                        all.of(peer.who()).add_time(round, time);
                    }
                }
            }
            tables.push(Table::new(format!("At {volumes} volumes"), vec![one, all]));
        }
        let note = "lvm2 is `lvs`, a process for each question; volumed is asked over one connection that is kept; what either says is not taken apart";
        Ok(Findings { tables, notes: vec![note.to_owned()], ..Findings::default() })
    }
}
