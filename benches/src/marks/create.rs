//! Making one volume after another, and deleting it.

use anyhow::Result;
use serde_json::json;

use super::{Findings, Mark, Needs, Site};
use crate::peer::{DISK_MIB, Peer, turns};
use crate::peers::{Bare, Daemon, Lvm, Options};
use crate::table::{Aim, Row, Table, Unit};
use crate::{at_rest, timed};

/// Rows, in the order in which they are told.
const ACKNOWLEDGED: usize = 0;
const TO_NODE: usize = 1;
const IN_TWO: usize = 2;
const DELETED: usize = 3;
const TAKEN_DOWN: usize = 4;
const QUESTION: usize = 5;

/// volumed again, with spare volumes in its pool.
const WARM: &str = "volumed-warm";

#[derive(Debug)]
pub struct Create;

impl Mark for Create {
    fn name(&self) -> &'static str {
        "create"
    }
    fn question(&self) -> &'static str {
        "How long does one client wait for a volume, for its node, and for its deletion?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 4, mib_each: DISK_MIB, memory_mib: 3072 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let daemon = Daemon::start(site.disk(0)?, Options::default())?;
        let bare = Bare::start(site.disk(1)?)?;
        let lvm = Lvm::start(site.disk(2)?)?;
        let mut findings = Findings::default();
        let warm = match warm(site, &daemon) {
            Ok(warm) => Some(warm),
            Err(error) => {
                findings.notes.push(format!("not measured with spare volumes: {error:#}"));
                None
            }
        };
        let mut peers = vec![
            (&daemon as &dyn Peer, site.samples),
            (&bare as &dyn Peer, site.samples),
            (&lvm as &dyn Peer, site.few()),
        ];
        peers.extend(warm.as_ref().map(|warm| (warm as &dyn Peer, site.samples)));
        findings.notes.push(format!(
            "lvm2 does each thing {} times a round, the others {}; its crowd is made by `vgcfgrestore`",
            site.few(),
            site.samples
        ));
        for &volumes in &site.volumes {
            for (peer, _) in &peers {
                peer.fill(volumes)?;
            }
            let mut rows = rows(site, volumes);
            for round in 0..site.rounds {
                for (peer, count) in turns(&peers, round) {
                    for n in 0..count {
                        one(peer, round, &format!("r{round}-{n}"), &mut rows)?;
                    }
                    peer.settle()?;
                }
            }
            findings.tables.push(Table::new(format!("At {volumes} volumes"), rows));
        }
        Ok(findings)
    }
}

/// A pool of the same daemon that keeps spare volumes ready.
fn warm(site: &Site, daemon: &Daemon) -> Result<Daemon> {
    let warm = daemon.beside(site.disk(3)?, WARM)?;
    warm.ask("POST", &format!("pools/{}/tank/set", warm.vg()), &json!({"spares": 16}))?;
    Ok(warm)
}

fn rows(site: &Site, volumes: usize) -> Vec<Row> {
    let row = |what: &str| Row::new(what, Unit::Seconds).at(volumes);
    let (cold, warm) = if site.is_uml() { (3.0, 1.0) } else { (1.15, 0.1) };
    let to_node = [
        Aim::at_most(cold, "bare"),
        Aim::better(5.0, "lvm2"),
        Aim::at_most(warm, "bare").of(WARM),
        Aim::better(50.0, "lvm2").of(WARM),
    ];
    let mut rows = vec![
        row("create, acknowledged").aiming([Aim::better(50.0, "lvm2")]),
        row("create, to a node that can be opened").aiming(to_node),
        row("the same, creation and attachment asked for one by one"),
        row("delete, acknowledged").aiming([Aim::at_most(0.2, "bare")]),
        row("take down and delete"),
        row("read what is known of one"),
    ];
    if let Some(row) = rows.get_mut(TO_NODE) {
        row.limit = Some("at least a question to the daemon and one durable write: see the rows below".to_owned());
    }
    rows
}

fn one(peer: &dyn Peer, round: usize, name: &str, rows: &mut [Row]) -> Result<()> {
    let who = peer.who();
    let mut add = |at: usize, time: std::time::Duration| {
        if let Some(row) = rows.get_mut(at) {
            row.of(who).add_time(round, time);
        }
    };
    at_rest();
    let (made, ()) = timed(|| peer.create(name))?;
    let (opened, ()) = timed(|| peer.open(name))?;
    add(ACKNOWLEDGED, made);
    add(IN_TWO, made + opened);
    at_rest();
    let at_once = format!("{name}-at-once");
    add(TO_NODE, timed(|| peer.create_open(&at_once))?.0);
    at_rest();
    let (asked, knows) = timed(|| peer.read(name))?;
    if knows {
        add(QUESTION, asked);
    }
    at_rest();
    let (closed, ()) = timed(|| peer.close(name))?;
    let (deleted, ()) = timed(|| peer.delete(name))?;
    // Without its device gone the bare message is refused: it belongs to it.
    let acknowledged = if who == "bare" { closed + deleted } else { deleted };
    add(DELETED, acknowledged);
    add(TAKEN_DOWN, closed + deleted);
    peer.close(&at_once)?;
    peer.delete(&at_once)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::OURS;

    #[test]
    fn rows_stand_where_their_numbers_say() {
        let site =
            Site { disks: Vec::new(), runner: "qemu".into(), rounds: 5, samples: 20, volumes: vec![0], smoke: false };
        let rows = rows(&site, 0);
        assert_eq!(rows.len(), QUESTION + 1);
        assert!(rows[TO_NODE].what.contains("node") && rows[DELETED].what.contains("delete, ack"));
        assert!(rows[TO_NODE].aims.contains(&Aim::at_most(1.15, "bare")));
        assert_eq!(OURS, Options::default().who);
    }
}
