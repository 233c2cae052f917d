//! Snapshots of a volume that is written to.

use anyhow::Result;

use super::{Findings, Mark, Needs, Site};
use crate::fio::load;
use crate::peer::{DISK_MIB, Peer, SIZE_MIB, turns};
use crate::peers::{Bare, Daemon, Lvm, Options};
use crate::table::{Aim, Row, Table, Unit};
use crate::timed;

#[derive(Debug)]
pub struct Snapshot;

impl Mark for Snapshot {
    fn name(&self) -> &'static str {
        "snapshot"
    }
    fn question(&self) -> &'static str {
        "How long does a snapshot of a volume take that is written to?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 3, mib_each: DISK_MIB, memory_mib: 3072 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let daemon = Daemon::start(site.disk(0)?, Options::default())?;
        let bare = Bare::start(site.disk(1)?)?;
        let lvm = Lvm::start(site.disk(2)?)?;
        let peers: [(&dyn Peer, usize); 3] = [(&daemon, site.samples), (&bare, site.samples), (&lvm, site.few())];
        let mut row = Row::new("snapshot under 4 KiB random writes, one at a time", Unit::Seconds)
            .aiming([Aim::at_most(if site.is_uml() { 3.0 } else { 1.2 }, "bare"), Aim::better(30.0, "lvm2")]);
        for round in 0..site.rounds {
            for (peer, count) in turns(&peers, round) {
                let names: Vec<String> = (0..count).map(|n| format!("s{round}-{n}")).collect();
                let load = load(&peer.base()?, (SIZE_MIB - 1) << 20)?;
                for name in &names {
                    row.of(peer.who()).add_time(round, timed(|| peer.snapshot(name))?.0);
                }
                drop(load);
                names.iter().try_for_each(|name| peer.delete_snapshot(name))?;
                peer.settle()?;
            }
        }
        Ok(Findings { tables: vec![Table::new("Of one volume", vec![row])], ..Findings::default() })
    }
}
