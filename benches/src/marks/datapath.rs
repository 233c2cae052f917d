//! What reads and writes reach: volumed's volumes and LVM2's, each beside the disk that it lies on.
//!
//! A disk is not twice alike, from one minute to the next nor from one place to another. So nobody is compared with what was measured
//! long before: within each round everybody does the same for a few seconds, one after the other, and *raw* is the very part of the disk that
//! the volume lies on.

use anyhow::{Context as _, Result, bail, ensure};
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
/// Where volumed's volume lies.
const RAW: &str = "raw";
/// Where LVM2's lies.
const RAW_OF_LVM2: &str = "raw, lvm2's disk";
const CHUNKS: [&str; 3] = ["64K", "256K", "1M"];

/// What is done to a volume.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    rw: &'static str,
    block: u64,
    depth: u32,
}

const LOADS: [Load; 5] = [
    Load { name: "4 KiB random reads, depth 1", rw: "randread", block: 4096, depth: 1 },
    Load { name: "4 KiB random reads, depth 32", rw: "randread", block: 4096, depth: 32 },
    Load { name: "4 KiB random writes, depth 1", rw: "randwrite", block: 4096, depth: 1 },
    Load { name: "4 KiB random writes, depth 32", rw: "randwrite", block: 4096, depth: 32 },
    Load { name: "1 MiB writes in order, depth 8", rw: "write", block: 1 << 20, depth: 8 },
];
/// What takes chunks of the pool.
const TAKES: Load = Load { name: "4 KiB random, depth 8", rw: "randwrite", block: 4096, depth: 8 };
const FILL: Load = Load { name: "all of it", rw: "write", block: 1 << 20, depth: 8 };

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
        Needs { disks: 2, mib_each: 6 << 10, memory_mib: 2048 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let seconds = if site.smoke { 1 } else { 3 };
        let mut tables = vec![Table::new("Linear volumes", both(site, None, seconds, &mut Vec::new())?)];
        let mut takes = Vec::new();
        for chunk in CHUNKS {
            let rows = both(site, Some(chunk), seconds, &mut takes)?;
            tables.push(Table::new(format!("Thin volumes that are written in whole, chunks of {chunk}"), rows));
        }
        tables.push(Table::new("Writes that take chunks", takes));
        let notes = vec![
            format!("{VOLUME_MIB} MiB each, {seconds} s for each load; zeroing of new chunks is on for both"),
            "raw: the same part of the same disk, read and written past the volume that lies on it".to_owned(),
        ];
        Ok(Findings { tables, notes, ..Findings::default() })
    }
}

/// Volumes of one kind, ours and LVM2's, each on a disk of its own: thin ones in a pool with such chunks, or linear ones.
fn both(site: &Site, chunk: Option<&'static str>, seconds: u32, takes: &mut Vec<Row>) -> Result<Vec<Row>> {
    let (ours, lvm2) = (Ours::start(site.disk(0)?, chunk)?, Lvm2::start(site.disk(1)?, chunk)?);
    let (our_node, lvm2_node) = &(ours.volume("data")?, lvm2.volume("data")?);
    let (raw, raw_of_lvm2) = (below(our_node)?, below(lvm2_node)?);
    let ways = [
        (OURS, our_node.as_str(), 0),
        (RAW, raw.0.as_str(), raw.1),
        ("lvm2", lvm2_node.as_str(), 0),
        (RAW_OF_LVM2, raw_of_lvm2.0.as_str(), raw_of_lvm2.1),
    ];
    for node in [our_node, lvm2_node] {
        job(node, FILL, 0).run()?;
    }
    let times = if chunk.is_none() { 0.97 } else { 0.9 };
    let aims = [Aim::at_least(times, RAW), Aim::at_least(1.0, "lvm2")];
    let mut rows: Vec<Row> =
        LOADS.iter().map(|load| Row::new(load.name, Unit::PerSecond).aiming(aims.clone())).collect();
    for round in 0..site.rounds {
        for (load, row) in LOADS.iter().zip(&mut rows) {
            for (who, node, at) in turns(&ways, round) {
                row.of(who).add(round, job(node, *load, seconds).run_at(at)?.per_second);
            }
        }
    }
    let Some(chunk) = chunk else { return Ok(rows) };
    let mut parts = ["first write", "write after a snapshot"].map(|what| {
        Row::new(format!("{what}, {}, chunks of {chunk}", TAKES.name), Unit::PerSecond)
            .aiming([Aim::at_least(1.0, "lvm2")])
    });
    ours.delete("data", false)?;
    lvm2.delete("data", false)?;
    for round in 0..site.rounds {
        let name = format!("data{round}");
        let (our_node, lvm2_node) = &(ours.volume(&name)?, lvm2.volume(&name)?);
        let fresh = [(OURS, our_node.as_str()), ("lvm2", lvm2_node.as_str())];
        let [first, after] = &mut parts;
        for (who, node) in turns(&fresh, round) {
            first.of(who).add(round, job(node, TAKES, seconds).run()?.per_second);
        }
        for (_, node) in fresh {
            job(node, FILL, 0).run()?;
        }
        ours.snapshot(&name)?;
        lvm2.snapshot(&name)?;
        for (who, node) in turns(&fresh, round) {
            after.of(who).add(round, job(node, TAKES, seconds).run()?.per_second);
        }
        ours.delete(&name, true)?;
        lvm2.delete(&name, true)?;
    }
    takes.extend(parts);
    Ok(rows)
}

fn job(node: &str, load: Load, seconds: u32) -> Job<'_> {
    let Load { rw, block, depth, .. } = load;
    Job { node, rw, block, depth, jobs: 1, size: VOLUME_MIB << 20, seconds }
}

/// The disk below a volume, and the byte on it at which the volume, or the data of its pool, begins: `dmsetup table`, down to what is no
/// dm device.
fn below(node: &str) -> Result<(String, u64)> {
    let table = run("dmsetup", &["table", node])?;
    let line = table.lines().next().context("no table")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let word = |at: usize| words.get(at).copied().with_context(|| format!("{node}: {line}"));
    let device = |number: &str| {
        Ok::<_, anyhow::Error>(std::fs::canonicalize(format!("/dev/block/{number}"))?.display().to_string())
    };
    match word(2)? {
        "linear" => {
            let sectors: u64 = word(1)?.parse()?;
            ensure!(sectors * 512 >= VOLUME_MIB << 20, "{node} does not lie in one piece: {line}");
            let (on, at) = (device(word(3)?)?, word(4)?.parse::<u64>()? * 512);
            ensure!(!on.starts_with("/dev/dm-"), "{node} lies on {on}, which is no disk");
            Ok((on, at))
        }
        "thin" => below(&device(word(3)?)?),
        "thin-pool" => below(&device(word(4)?)?),
        other => bail!("{node}: what lies below {other} is not known"),
    }
}

/// volumed on one disk.
struct Ours {
    daemon: Daemon,
    thick: bool,
}

impl Ours {
    fn start(disk: &Disk, chunk: Option<&'static str>) -> Result<Self> {
        let pool_mib = if chunk.is_some() { 3 * VOLUME_MIB } else { 512 };
        let daemon = Daemon::start(disk, Options { chunk, pool_mib, ..Options::default() })?;
        Ok(Self { daemon, thick: chunk.is_none() })
    }

    /// A new volume's node.
    fn volume(&self, name: &str) -> Result<String> {
        let size = format!("{VOLUME_MIB}M");
        let wanted = json!({"vg": self.daemon.vg(), "name": name, "size": size, "fs": "none", "thick": self.thick});
        self.daemon.ask("POST", "volumes", &wanted)?;
        self.daemon.ask("POST", &self.daemon.of(name, "/attach"), &Value::Null)?;
        self.daemon.node(name)
    }

    fn snapshot(&self, name: &str) -> Result<()> {
        let wanted = json!({"vg": self.daemon.vg(), "volume": name, "name": "before"});
        self.daemon.ask("POST", "snapshots", &wanted).map(drop)
    }

    fn delete(&self, name: &str, with_snapshot: bool) -> Result<()> {
        if with_snapshot {
            let snapshot = format!("snapshots/{}/{name}/before?now=true", self.daemon.vg());
            self.daemon.ask("DELETE", &snapshot, &Value::Null)?;
        }
        self.daemon.ask("POST", &self.daemon.of(name, "/detach"), &Value::Null)?;
        self.daemon.ask("DELETE", &self.daemon.of(name, "?now=true"), &Value::Null).map(drop)
    }
}

const LVM_VG: &str = "bench-data";

/// LVM2 on one disk.
struct Lvm2 {
    disk: Disk,
    thin: bool,
}

impl Lvm2 {
    fn start(disk: &Disk, chunk: Option<&str>) -> Result<Self> {
        disk.clean();
        run("lvm", &["pvcreate", "-qq", "-ff", "-y", &disk.node])?;
        run("lvm", &["vgcreate", "-qq", LVM_VG, &disk.node])?;
        // From here on it is taken down whatever happens.
        let made = Self { disk: disk.clone(), thin: chunk.is_some() };
        if let Some(chunk) = chunk {
            let size = format!("{}M", 3 * VOLUME_MIB);
            let pool = ["lvcreate", "-qq", "-y", "--type", "thin-pool", "-L", &size, "-c", chunk, "-n", "tank", LVM_VG];
            run("lvm", &pool)?;
        }
        Ok(made)
    }

    fn volume(&self, name: &str) -> Result<String> {
        let (size, pool) = (format!("{VOLUME_MIB}M"), format!("{LVM_VG}/tank"));
        let (thin, linear) = (["-V", &size, "--thinpool", &pool], ["-L", &size, LVM_VG]);
        let what = if self.thin { &thin[..] } else { &linear[..] };
        run("lvm", &[&["lvcreate", "-qq", "-y", "-Wn", "-n", name][..], what].concat())?;
        Ok(format!("/dev/{LVM_VG}/{name}"))
    }

    fn snapshot(&self, name: &str) -> Result<()> {
        let (new, of) = (format!("{name}-before"), format!("{LVM_VG}/{name}"));
        run("lvm", &["lvcreate", "-qq", "-y", "-s", "-n", &new, &of]).map(drop)
    }

    fn delete(&self, name: &str, with_snapshot: bool) -> Result<()> {
        let (own, snapshot) = (format!("{LVM_VG}/{name}"), format!("{LVM_VG}/{name}-before"));
        let both: &[&str] = if with_snapshot { &[&snapshot, &own] } else { &[&own] };
        run("lvm", &[&["lvremove", "-qq", "-f"], both].concat()).map(drop)
    }
}

impl Drop for Lvm2 {
    fn drop(&mut self) {
        crate::program::succeeds("lvm", &["vgchange", "-qq", "-an", LVM_VG]);
        self.disk.clean();
    }
}
