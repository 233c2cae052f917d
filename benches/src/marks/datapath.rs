//! What reads and writes reach: the raw disk, volumed's volumes, LVM2's, with chunks of the same size.
//!
//! Everything lies on one disk, one after the other, because two disks are never alike: for each way the disk is made anew. Rounds
//! therefore go over all ways in turn, and a round takes as long as making all of them.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Findings, Mark, Needs, Site};
use crate::disk::Disk;
use crate::fio::Job;
use crate::peer::turns;
use crate::peers::{Daemon, Options};
use crate::program::run;
use crate::table::{Aim, OURS, Row, Table, Unit};

/// Of each volume that is measured.
const VOLUME_MIB: u64 = 1024;
/// The disk itself.
const RAW: &str = "raw";
const CHUNKS: [&str; 3] = ["64K", "256K", "1M"];

/// What is done to a volume.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    rw: &'static str,
    block: u64,
    depth: u32,
    jobs: u32,
}

const LOADS: [Load; 5] = [
    Load { name: "4 KiB random reads, depth 1", rw: "randread", block: 4096, depth: 1, jobs: 1 },
    Load { name: "4 KiB random reads, depth 32", rw: "randread", block: 4096, depth: 32, jobs: 1 },
    Load { name: "4 KiB random writes, depth 1", rw: "randwrite", block: 4096, depth: 1, jobs: 1 },
    Load { name: "4 KiB random writes, depth 32", rw: "randwrite", block: 4096, depth: 32, jobs: 1 },
    Load { name: "1 MiB writes in order, depth 8", rw: "write", block: 1 << 20, depth: 8, jobs: 1 },
];

#[derive(Debug)]
pub struct DataPath;

impl Mark for DataPath {
    fn name(&self) -> &'static str {
        "datapath"
    }
    fn question(&self) -> &'static str {
        "What do reads and writes of volumes reach, beside the raw disk and LVM2's?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 1, mib_each: 6 << 10, memory_mib: 2048 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let disk = site.disk(0)?;
        let seconds = if site.smoke { 1 } else { 10 };
        let mut linear: Vec<Row> = LOADS.iter().map(linear_row).collect();
        let mut thin: Vec<(&'static str, Vec<Row>)> =
            CHUNKS.iter().map(|chunk| (*chunk, LOADS.iter().map(thin_row).collect())).collect();
        let mut first: Vec<Row> = CHUNKS
            .iter()
            .flat_map(|chunk| ["first write", "write after a snapshot"].map(|what| (what, *chunk)))
            .map(|(what, chunk)| {
                Row::new(format!("{what}, 4 KiB random, depth 8, chunks of {chunk}"), Unit::PerSecond)
                    .aiming([Aim::at_least(1.0, "lvm2")])
            })
            .collect();
        for round in 0..site.rounds {
            for who in turns(&[RAW, OURS, "lvm2"], round) {
                let node = linear_volume(who, disk)?;
                measure(&node.node, seconds, who, round, &mut linear)?;
                drop(node);
                if who == RAW {
                    // For thin volumes the same disk counts.
                    for (_, rows) in &mut thin {
                        copy(&linear, rows, round);
                    }
                    continue;
                }
                for (at, (chunk, rows)) in thin.iter_mut().enumerate() {
                    let made = thin_volume(who, disk, chunk)?;
                    let writes =
                        |size| Job { node: &made.node, rw: "randwrite", block: 4096, depth: 8, jobs: 1, size, seconds };
                    let part = (VOLUME_MIB << 20) / 2;
                    add(&mut first, at * 2, who, round, writes(part).run()?.per_second);
                    // All of it is there from here on.
                    Job {
                        node: &made.node,
                        rw: "write",
                        block: 1 << 20,
                        depth: 8,
                        jobs: 1,
                        size: VOLUME_MIB << 20,
                        seconds: 0,
                    }
                    .run()?;
                    measure(&made.node, seconds, who, round, rows)?;
                    made.snapshot()?;
                    add(&mut first, at * 2 + 1, who, round, writes(part).run()?.per_second);
                }
            }
        }
        let mut tables = vec![Table::new("Linear volumes", linear)];
        tables.extend(thin.into_iter().map(|(chunk, rows)| {
            Table::new(format!("Thin volumes that are written in whole, chunks of {chunk}"), rows)
        }));
        tables.push(Table::new("Writes that take chunks", first));
        let note = format!("{VOLUME_MIB} MiB each, {seconds} s for each load; zeroing of new chunks is on for both");
        Ok(Findings { tables, notes: vec![note], ..Findings::default() })
    }
}

fn linear_row(load: &Load) -> Row {
    Row::new(load.name, Unit::PerSecond).aiming([Aim::at_least(0.97, RAW), Aim::at_least(1.0, "lvm2")])
}

fn thin_row(load: &Load) -> Row {
    Row::new(load.name, Unit::PerSecond).aiming([Aim::at_least(0.9, RAW), Aim::at_least(1.0, "lvm2")])
}

fn add(rows: &mut [Row], at: usize, who: &str, round: usize, value: f64) {
    if let Some(row) = rows.get_mut(at) {
        row.of(who).add(round, value);
    }
}

/// What the raw disk reached in this round is what thin volumes are compared with too.
fn copy(from: &[Row], to: &mut [Row], round: usize) {
    for (from, to) in from.iter().zip(to) {
        if let Some(value) = from.by.get(RAW).and_then(|samples| samples.of_round(round)) {
            to.of(RAW).add(round, value);
        }
    }
}

fn measure(node: &str, seconds: u32, who: &str, round: usize, rows: &mut [Row]) -> Result<()> {
    for (load, row) in LOADS.iter().zip(rows) {
        let Load { rw, block, depth, jobs, .. } = *load;
        let done = Job { node, rw, block, depth, jobs, size: VOLUME_MIB << 20, seconds }.run()?;
        row.of(who).add(round, done.per_second);
    }
    Ok(())
}

/// A volume, and what keeps it there.
struct Made {
    node: String,
    by: By,
}

enum By {
    Nobody,
    Volumed(Box<Daemon>),
    Lvm2(Disk),
}

const LVM_VG: &str = "bench-data";

impl Made {
    fn snapshot(&self) -> Result<()> {
        match &self.by {
            By::Nobody => Ok(()),
            By::Volumed(daemon) => {
                let wanted = json!({"vg": daemon.vg(), "volume": "data", "name": "before"});
                daemon.ask("POST", "snapshots", &wanted).map(drop)
            }
            By::Lvm2(_) => {
                run("lvm", &["lvcreate", "-qq", "-y", "-s", "-n", "before", &format!("{LVM_VG}/data")]).map(drop)
            }
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let By::Lvm2(disk) = &self.by {
            crate::program::succeeds("lvm", &["vgchange", "-qq", "-an", LVM_VG]);
            disk.clean();
        }
    }
}

fn linear_volume(who: &str, disk: &Disk) -> Result<Made> {
    match who {
        RAW => {
            disk.clean();
            Ok(Made { node: disk.node.clone(), by: By::Nobody })
        }
        OURS => volume(Daemon::start(disk, Options::default())?, true),
        _ => lvm2(disk, &["-L", &format!("{VOLUME_MIB}M"), "-n", "data", LVM_VG], None),
    }
}

fn thin_volume(who: &str, disk: &Disk, chunk: &'static str) -> Result<Made> {
    if who == OURS {
        return volume(Daemon::start(disk, Options { chunk: Some(chunk), ..Options::default() })?, false);
    }
    let size = format!("{VOLUME_MIB}M");
    lvm2(disk, &["-V", &size, "--thinpool", &format!("{LVM_VG}/tank"), "-n", "data"], Some(chunk))
}

fn volume(daemon: Daemon, thick: bool) -> Result<Made> {
    let size = format!("{VOLUME_MIB}M");
    let wanted = json!({"vg": daemon.vg(), "name": "data", "size": size, "fs": "none", "thick": thick});
    daemon.ask("POST", "volumes", &wanted)?;
    daemon.ask("POST", &daemon.of("data", "/attach"), &Value::Null)?;
    Ok(Made { node: daemon.node("data")?, by: By::Volumed(Box::new(daemon)) })
}

fn lvm2(disk: &Disk, volume: &[&str], chunk: Option<&str>) -> Result<Made> {
    disk.clean();
    run("lvm", &["pvcreate", "-qq", "-ff", "-y", &disk.node])?;
    run("lvm", &["vgcreate", "-qq", LVM_VG, &disk.node])?;
    // From here on it is taken down whatever happens.
    let made = Made { node: format!("/dev/{LVM_VG}/data"), by: By::Lvm2(disk.clone()) };
    if let Some(chunk) = chunk {
        let pool = ["lvcreate", "-qq", "-y", "--type", "thin-pool", "-L", "2G", "-c", chunk, "-n", "tank", LVM_VG];
        run("lvm", &pool)?;
    }
    run("lvm", &[&["lvcreate", "-qq", "-y", "-Wn"][..], volume].concat())?;
    Ok(made)
}
