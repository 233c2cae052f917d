//! From a request to files: volumed over its CSI socket, and LVM2 with `mkfs.ext4` and `mount`.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use vol_csi::Mode;
use vol_csi::csi::VolumeCapability;
use vol_tests::csi::{Orchestrator, mounted};

use super::{Findings, Mark, Needs, Site};
use crate::at_rest;
use crate::disk::Disk;
use crate::peer::turns;
use crate::peers::{Daemon, Lvm, Options};
use crate::program::run;
use crate::table::{Aim, OURS, Row, Table, Unit};

const SIZE: i64 = 1 << 30;
/// mkfs of LVM2's volumes writes their journals: a hundred take some 3 GiB.
const POOL_MIB: u64 = 6 << 10;
const KUBELET: &str = "/tmp/bench-kubelet";
const LVM_DIR: &str = "/tmp/bench-lvm";

/// One way to a directory with a file system of its own in it.
trait Way: Sync {
    fn who(&self) -> &'static str;
    /// Until files can be written there. The time of the mount call itself, where it can be told apart.
    fn make(&self, name: &str) -> Result<()>;
    fn unmake(&self, name: &str) -> Result<()>;
}

struct Csi {
    daemon: Daemon,
}

impl Csi {
    fn start(disk: &Disk) -> Result<Self> {
        let config = format!("csi.kubelet_dir = \"{KUBELET}\"\n");
        Ok(Self { daemon: Daemon::start(disk, Options { config, pool_mib: POOL_MIB, ..Options::default() })? })
    }

    /// A connection for each request, as no sidecar does.
    fn orchestrator(&self) -> Orchestrator {
        Orchestrator::new(self.daemon.dir().join("run/csi.sock"), KUBELET)
    }
}

fn capability() -> VolumeCapability {
    mounted("ext4", &[], Mode::SingleNodeMultiWriter)
}

impl Way for Csi {
    fn who(&self) -> &'static str {
        OURS
    }
    fn make(&self, name: &str) -> Result<()> {
        let orchestrator = self.orchestrator();
        orchestrator.prepare(name);
        let (id, _) = orchestrator.create(name, SIZE, &capability())?;
        orchestrator.stage(&id, &capability())?;
        orchestrator.publish(&id, name, false, &capability())?;
        File::create(Path::new(&orchestrator.target(name)).join("file")).context("a file in it")?;
        Ok(())
    }
    fn unmake(&self, name: &str) -> Result<()> {
        let orchestrator = self.orchestrator();
        // The same request is the same volume, and tells its id.
        let (id, _) = orchestrator.create(name, SIZE, &capability())?;
        orchestrator.unpublish(&id, name)?;
        orchestrator.unstage(&id)?;
        orchestrator.delete(&id)?;
        Ok(())
    }
}

struct Tools {
    lvm: Lvm,
}

impl Way for Tools {
    fn who(&self) -> &'static str {
        "lvm2"
    }
    fn make(&self, name: &str) -> Result<()> {
        let vg = self.lvm.vg();
        run("lvm", &["lvcreate", "-qq", "-y", "-V", "1G", "--thinpool", &format!("{vg}/tank"), "-n", name])?;
        let (device, at) = (format!("/dev/{vg}/{name}"), format!("{LVM_DIR}/{name}"));
        run("mkfs.ext4", &["-q", &device])?;
        fs::create_dir_all(&at)?;
        run("mount", &[&device, &at])?;
        File::create(Path::new(&at).join("file")).context("a file in it")?;
        Ok(())
    }
    fn unmake(&self, name: &str) -> Result<()> {
        run("umount", &[&format!("{LVM_DIR}/{name}")])?;
        run("lvm", &["lvremove", "-qq", "-f", &format!("{}/{name}", self.lvm.vg())]).map(drop)
    }
}

#[derive(Debug)]
pub struct Mounted;

impl Mark for Mounted {
    fn name(&self) -> &'static str {
        "mounted"
    }
    fn question(&self) -> &'static str {
        "How long from a request to a file in a mounted ext4, one by one and a hundred at once?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 2, mib_each: 8 << 10, memory_mib: 4096 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let csi = Csi::start(site.disk(0)?)?;
        let tools = Tools { lvm: Lvm::with_pool(site.disk(1)?, POOL_MIB)? };
        let ways: [(&dyn Way, usize); 2] = [(&csi, site.samples), (&tools, site.few())];
        let crowd = if site.smoke { 4 } else { 100 };
        let mut alone = Row::new("one by one", Unit::Seconds).aiming([Aim::better(20.0, "lvm2")]);
        let mut each = Row::new(format!("{crowd} at once, each"), Unit::Seconds);
        let mut rate = Row::new(format!("{crowd} at once, until all are there"), Unit::PerSecond)
            .aiming([Aim::better(20.0, "lvm2")]);
        for round in 0..site.rounds {
            for (way, count) in turns(&ways, round) {
                for n in 0..count {
                    at_rest();
                    let (name, begin) = (format!("one{round}-{n}"), Instant::now());
                    way.make(&name)?;
                    alone.of(way.who()).add_time(round, begin.elapsed());
                    way.unmake(&name)?;
                }
                at_rest();
                let names: Vec<String> = (0..crowd).map(|n| format!("many{round}-{n}")).collect();
                let (times, all) = at_once(way, &names)?;
                times.into_iter().for_each(|time| each.of(way.who()).add_time(round, time));
                rate.of(way.who()).add(round, crowd as f64 / all.as_secs_f64());
                names.iter().try_for_each(|name| way.unmake(name))?;
            }
        }
        let notes = vec![
            "volumed: CreateVolume, NodeStageVolume, NodePublishVolume; lvm2: lvcreate, mkfs.ext4 -q, mount".to_owned(),
            "both with their own defaults for mkfs; udev runs".to_owned(),
        ];
        Ok(Findings {
            tables: vec![Table::new("1 GiB with ext4", vec![alone, each, rate])],
            notes,
            ..Findings::default()
        })
    }
}

/// What each of them waits, and how long it takes until all are there.
fn at_once(way: &dyn Way, names: &[String]) -> Result<(Vec<Duration>, Duration)> {
    let start = Barrier::new(names.len() + 1);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = names
            .iter()
            .map(|name| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let begin = Instant::now();
                    way.make(name).map(|()| begin.elapsed())
                })
            })
            .collect();
        start.wait();
        let begin = Instant::now();
        let times: Vec<Result<Duration>> = waiting
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked"))))
            .collect();
        let all = begin.elapsed();
        Ok((times.into_iter().collect::<Result<_>>()?, all))
    })
}
