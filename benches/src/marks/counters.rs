//! What each operation costs, counted.

use anyhow::Result;

use super::{Findings, Mark, Needs, Site};
use crate::counters::{Count, Operation, count};
use crate::peer::{DISK_MIB, Peer};
use crate::peers::{Bare, Daemon, Lvm, Options};

const METRICS: &str = "127.0.0.1:19711";
/// How often something is done between two looks.
const TIMES: usize = 10;
/// LVM2 takes its time, and has nothing that is written now and then.
const TIMES_LVM: usize = 3;
/// How many volumes there are besides.
const VOLUMES: [usize; 2] = [0, 1000];

fn nothing(_: &dyn Peer, _: &str) -> Result<()> {
    Ok(())
}

fn create(peer: &dyn Peer, name: &str) -> Result<()> {
    peer.create(name)
}

fn delete_now(peer: &dyn Peer, name: &str) -> Result<()> {
    peer.delete_now(name)
}

fn create_open(peer: &dyn Peer, name: &str) -> Result<()> {
    peer.create_open(name)
}

fn close_delete(peer: &dyn Peer, name: &str) -> Result<()> {
    peer.close(name)?;
    peer.delete_now(name)
}

/// LVM2 makes the device with the volume, and takes it down with it.
const OPERATIONS: [Operation; 8] = [
    Operation { what: "create", before: nothing, each: create, after: delete_now },
    Operation { what: "create, to a node", before: nothing, each: create_open, after: close_delete },
    Operation { what: "activate", before: create, each: |peer, name| peer.open(name), after: close_delete },
    Operation { what: "deactivate", before: create_open, each: |peer, name| peer.close(name), after: delete_now },
    Operation { what: "delete", before: create, each: |peer, name| peer.delete(name), after: nothing },
    Operation { what: "delete for good", before: create, each: delete_now, after: nothing },
    Operation {
        what: "snapshot of an active volume",
        before: nothing,
        each: |peer, name| peer.snapshot(name),
        after: |peer, name| peer.delete_snapshot(name),
    },
    Operation { what: "read", before: nothing, each: |peer, _| peer.read("base").map(drop), after: nothing },
];

#[derive(Debug)]
pub struct Counters;

impl Mark for Counters {
    fn name(&self) -> &'static str {
        "counters"
    }
    fn question(&self) -> &'static str {
        "How many writes, flushes, ioctls, uevents and processes does an operation take?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 3, mib_each: DISK_MIB, memory_mib: 3072 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        // Nothing is measured but counts, so nothing has to take turns.
        let volumes = if site.smoke { &VOLUMES[..1] } else { &VOLUMES[..] };
        let mut counts = of_volumed(site.disk(0)?, volumes, &[])?;
        counts.extend(of(&Bare::start(site.disk(1)?)?, volumes, TIMES, &[])?);
        counts.extend(of(&Lvm::start(site.disk(2)?)?, volumes, TIMES_LVM, &[])?);
        let notes = vec![
            "bytes, writes and flushes are of the one disk that holds all of a peer's data and metadata".to_owned(),
            "commits: of volumed's own metadata; pool_commits: of the kernel's, by the flushes, three each; dm_…: ioctls, by volumed's own count"
                .to_owned(),
            "uevents and processes are the machine's: udev's own among them where it begins a worker".to_owned(),
        ];
        Ok(Findings { counts, notes, ..Findings::default() })
    }
}

/// What volumed's operations cost on this disk, which is made anew. What is `known` is looked for longer where something else is found.
///
/// # Errors
/// Those of the operations.
pub fn of_volumed(disk: &crate::disk::Disk, volumes: &[usize], known: &[Count]) -> Result<Vec<Count>> {
    let daemon = Daemon::start(disk, Options { metrics: Some(METRICS), ..Options::default() })?;
    of(&daemon, volumes, TIMES, known)
}

fn of(peer: &dyn Peer, volumes: &[usize], times: usize, known: &[Count]) -> Result<Vec<Count>> {
    let mut all = Vec::new();
    // The first of them may start something that stays, as volumed's guard.
    peer.snapshot("first")?;
    peer.delete_snapshot("first")?;
    for &volumes in volumes {
        peer.fill(volumes)?;
        for operation in &OPERATIONS {
            let same = |one: &&Count| {
                (one.who.as_str(), one.what.as_str(), one.volumes) == (peer.who(), operation.what, volumes)
            };
            all.push(count(peer, operation, volumes, times, known.iter().find(same))?);
        }
        peer.settle()?;
    }
    // Who has nothing to do for something is not told with it.
    all.retain(|one| one.who == crate::table::OURS || !one.counts.is_empty());
    Ok(all)
}
