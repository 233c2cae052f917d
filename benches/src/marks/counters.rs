//! What each operation costs, counted.

use anyhow::Result;

use super::{Findings, Mark, Needs, Site};
use crate::counters::{Count, count};
use crate::peer::{DISK_MIB, Peer};
use crate::peers::{Bare, Daemon, Lvm, Options};

const METRICS: &str = "127.0.0.1:19711";

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
        let mut counts = Vec::new();
        let volumes = if site.smoke { vec![0] } else { vec![0, 1000] };
        let options = Options { metrics: Some(METRICS), ..Options::default() };
        let daemon = Daemon::start(site.disk(0)?, options)?;
        of(&daemon, &volumes, &mut counts)?;
        drop(daemon);
        let bare = Bare::start(site.disk(1)?)?;
        of(&bare, &volumes, &mut counts)?;
        drop(bare);
        let lvm = Lvm::start(site.disk(2)?)?;
        of(&lvm, &volumes, &mut counts)?;
        let note = "uevents and processes are the machine's: udev's own among them where it begins a worker";
        Ok(Findings { counts, notes: vec![note.to_owned()], ..Findings::default() })
    }
}

fn of(peer: &dyn Peer, volumes: &[usize], counts: &mut Vec<Count>) -> Result<()> {
    let name = |prefix: &str, n: usize| format!("{prefix}{n}");
    for &volumes in volumes {
        peer.fill(volumes)?;
        let mut add = |count: Count| counts.push(count);
        // LVM2 makes the device with the volume.
        add(count(
            peer,
            "create",
            volumes,
            |n| peer.create(&name("c", n)),
            |mut names| {
                names.try_for_each(|n| {
                    peer.open(&name("c", n))?;
                    peer.close(&name("c", n))?;
                    peer.delete_now(&name("c", n))
                })
            },
        )?);
        add(count(
            peer,
            "create, to a node",
            volumes,
            |n| peer.create_open(&name("o", n)),
            |mut names| {
                names.try_for_each(|n| {
                    peer.close(&name("o", n))?;
                    peer.delete_now(&name("o", n))
                })
            },
        )?);
        (0..30).try_for_each(|n| peer.create(&name("d", n)))?;
        add(count(peer, "delete", volumes, |n| peer.delete(&name("d", n)), |_| Ok(()))?);
        (0..30).try_for_each(|n| peer.create(&name("e", n)))?;
        add(count(peer, "delete for good", volumes, |n| peer.delete_now(&name("e", n)), |_| Ok(()))?);
        add(count(
            peer,
            "snapshot of an active volume",
            volumes,
            |n| peer.snapshot(&name("s", n)),
            |mut names| names.try_for_each(|n| peer.delete_snapshot(&name("s", n))),
        )?);
        peer.settle()?;
    }
    Ok(())
}
