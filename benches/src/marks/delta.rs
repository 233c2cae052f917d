//! What changed between two snapshots of a large volume, beside `thin_delta(8)`.
//!
//! The pool's data lie on the kernel's `zero` target: what is compared are mappings, and those of a TiB fit on a small disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use vol_engine::host::{ChangesCall, HostRead as _, MetadataRoot};
use vol_linux::{LinuxHost, LinuxOptions};

use super::{Findings, Mark, Needs, Site};
use crate::disk::Disk;
use crate::peer::turns;
use crate::program::run;
use crate::table::{Aim, OURS, Row, Table, Unit};
use crate::{at_rest, timed};

const TOOL: &str = "thin_delta";
const CHUNK: u64 = 64 << 10;
const SECTORS: u64 = CHUNK / 512;
/// Thin ids: what was there, and it with one chunk in a thousand changed, at one place or all over.
const BASE: u32 = 1;
const CLUSTERED: u32 = 2;
const SCATTERED: u32 = 3;
const META: &str = "VOLUMED-BENCH-delta-meta";
const DATA: &str = "BENCH-delta-data";
const POOL: &str = "BENCH-delta-pool";
const THIN: &str = "BENCH-delta-thin";
/// As many as the daemon reads at once.
const PAGE: usize = 32_768;

#[derive(Debug)]
pub struct Delta;

impl Mark for Delta {
    fn name(&self) -> &'static str {
        "delta"
    }
    fn question(&self) -> &'static str {
        "How long does it take to find what changed between two snapshots of a TiB?"
    }
    fn needs(&self) -> Needs {
        Needs { disks: 1, mib_each: 2 << 10, memory_mib: 2048 }
    }
    fn run(&self, site: &Site) -> Result<Findings> {
        let chunks: u64 = if site.smoke { 1 << 16 } else { 1 << 24 };
        let pool = Pool::start(site.disk(0)?, chunks)?;
        let aims = |times: f64| [Aim::better(times, TOOL)];
        let row = |what: &str| Row::new(what, Unit::Seconds);
        let read = |what: &str| Row::new(what, Unit::Bytes);
        let mut times = [row("at one place").aiming(aims(100.0)), row("all over").aiming(aims(5.0))];
        let mut bytes = [read("at one place: metadata read"), read("all over: metadata read")];
        for round in 0..site.rounds {
            for (id, (time, bytes)) in [CLUSTERED, SCATTERED].into_iter().zip(times.iter_mut().zip(&mut bytes)) {
                let mut found = BTreeSet::new();
                for who in turns(&[OURS, TOOL], round) {
                    for _ in 0..if who == OURS { site.samples } else { site.few() } {
                        // Neither finds in memory what the other has read.
                        fs::write("/proc/sys/vm/drop_caches", "3").context("drop caches")?;
                        let before = pool.read_bytes()?;
                        let (took, changed) = timed(|| if who == OURS { pool.ours(id) } else { pool.theirs(id) })?;
                        time.of(who).add_time(round, took);
                        bytes.of(who).add(round, (pool.read_bytes()? - before) as f64);
                        found.insert(changed);
                    }
                }
                ensure!(found.len() == 1, "volumed and {TOOL} do not find the same: {found:?} chunks");
                ensure!(found.contains(&(chunks / 1000)), "{} chunks were changed: {found:?}", chunks / 1000);
            }
        }
        let notes = vec![
            format!("{chunks} chunks of 64 KiB, all mapped; {} of them written to in the second snapshot", chunks / 1000),
            "both read the pool's metadata snapshot, which was reserved before; volumed as the daemon does, in its own process"
                .to_owned(),
        ];
        let tables = vec![
            Table::new("Time", times.into()),
            Table::new("Bytes of the pool's metadata that were read", bytes.into()),
        ];
        Ok(Findings { tables, notes, ..Findings::default() })
    }
}

/// A pool with a metadata snapshot of three thin volumes. It is taken down with this.
struct Pool {
    dm: vol_linux::Bare,
    host: LinuxHost,
    disk: Disk,
    /// Node of the metadata device.
    metadata: String,
    chunks: u64,
}

impl Pool {
    fn start(disk: &Disk, chunks: u64) -> Result<Self> {
        disk.clean();
        let dm = vol_linux::Bare::open().context("device-mapper")?;
        let host = LinuxHost::new(LinuxOptions::default())?;
        let mut pool = Self { dm, host, disk: disk.clone(), metadata: String::new(), chunks };
        let sectors = disk.size / 512 / 8 * 8;
        pool.metadata = pool.device(META, sectors, "linear", &format!("{} 0", disk.node))?;
        let blocks = chunks + chunks / 100;
        pool.restore(blocks)?;
        let data = pool.device(DATA, blocks * SECTORS, "zero", "")?;
        let table = format!("{} {data} {SECTORS} 0 1 skip_block_zeroing", pool.metadata);
        let node = pool.device(POOL, blocks * SECTORS, "thin-pool", &table)?;
        for (id, step) in [(CLUSTERED, 1), (SCATTERED, 1000)] {
            pool.dm.message(POOL, &format!("create_snap {id} {BASE}")).context("create_snap")?;
            let thin = pool.device(THIN, chunks * SECTORS, "thin", &format!("{node} {id}"))?;
            let file = File::options().write(true).open(&thin)?;
            let whole = vec![1; CHUNK as usize];
            for n in 0..chunks / 1000 {
                file.write_all_at(&whole, n * step * CHUNK)?;
            }
            file.sync_all().context("what is written to the volume")?;
            drop(file);
            at_rest();
            pool.dm.remove(THIN).context("remove the volume")?;
        }
        pool.dm.message(POOL, "reserve_metadata_snap").context("reserve_metadata_snap")?;
        Ok(pool)
    }

    fn device(&self, name: &str, sectors: u64, target: &str, table: &str) -> Result<String> {
        let node = self.dm.create(name, name).with_context(|| format!("create {name}"))?;
        self.dm.load(name, sectors, target, table).with_context(|| format!("{name}: {target} {table}"))?;
        self.dm.resume(name).with_context(|| format!("resume {name}"))?;
        at_rest();
        Ok(node.display().to_string())
    }

    /// Metadata of one thin volume, all of it mapped, in order.
    fn restore(&self, blocks: u64) -> Result<()> {
        let chunks = self.chunks;
        let mut file = tempfile::NamedTempFile::new()?;
        write!(
            file,
            "<superblock uuid=\"\" time=\"0\" transaction=\"0\" version=\"2\" data_block_size=\"{SECTORS}\" \
             nr_data_blocks=\"{blocks}\">\n\
             <device dev_id=\"{BASE}\" mapped_blocks=\"{chunks}\" transaction=\"0\" creation_time=\"0\" snap_time=\"0\">\n\
             <range_mapping origin_begin=\"0\" data_begin=\"0\" length=\"{chunks}\" time=\"0\"/>\n\
             </device>\n</superblock>\n"
        )?;
        file.flush()?;
        let name = file.path().to_str().context("a path in UTF-8")?;
        run("thin_restore", &["-q", "-i", name, "-o", &self.metadata]).map(drop)
    }

    fn ours(&self, id: u32) -> Result<u64> {
        let (mut changed, mut from) = (0, Some(0));
        while let Some(first) = from {
            let page = self.host.pool_changes(&ChangesCall {
                metadata_uuid: META,
                root: MetadataRoot::Held,
                base: Some(BASE),
                target: id,
                chunks: first..self.chunks,
                most: PAGE,
                enough: Duration::from_secs(2),
                go_on: &|| true,
            })?;
            changed += page.ranges.iter().map(|range| range.end - range.start).sum::<u64>();
            from = page.next.filter(|next| *next < self.chunks);
        }
        Ok(changed)
    }

    fn theirs(&self, id: u32) -> Result<u64> {
        let (base, id) = (BASE.to_string(), id.to_string());
        let said = run(TOOL, &["--metadata-snap", "--thin1", &base, "--thin2", &id, &self.metadata])?;
        let differs = said
            .lines()
            .map(str::trim)
            .filter(|line| ["<different", "<left_only", "<right_only"].iter().any(|kind| line.starts_with(kind)));
        differs.map(|line| length(line).with_context(|| format!("no length: {line}"))).sum()
    }

    /// What was read of the metadata device since it was made.
    fn read_bytes(&self) -> Result<u64> {
        let name = self.metadata.trim_start_matches("/dev/");
        let text = fs::read_to_string(format!("/sys/class/block/{name}/stat")).context("counters of the metadata")?;
        let sectors: u64 = text.split_whitespace().nth(2).context("no sectors")?.parse()?;
        Ok(sectors * 512)
    }
}

/// Of `<different begin="0" length="16"/>`.
fn length(line: &str) -> Option<u64> {
    line.split_once("length=\"")?.1.split_once('"')?.0.parse().ok()
}

impl Drop for Pool {
    fn drop(&mut self) {
        // What never came so far is not there.
        let _ = self.dm.message(POOL, "release_metadata_snap");
        at_rest();
        for name in [THIN, POOL, DATA, META] {
            let _ = self.dm.remove(name);
        }
        self.disk.clean();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_read_from_what_thin_delta_prints() {
        assert_eq!(length("<different begin=\"0\" length=\"16777\"/>"), Some(16_777));
        assert_eq!(length("<same begin=\"0\"/>"), None);
    }
}
