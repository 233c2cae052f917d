//! LVM2 as an administrator uses it: one process for each change, as installed.

use std::fs::{self, File};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};

use crate::disk::Disk;
use crate::peer::{METADATA_MIB, POOL_MIB, Peer, SIZE_MIB};
use crate::program::{run, succeeds};

const VG: &str = "bench-lvm2";

/// A volume group with a thin pool on one disk. It is deactivated with this.
#[derive(Debug)]
pub struct Lvm {
    disk: Disk,
    crowd: AtomicUsize,
}

fn lvm(args: &[&str]) -> Result<String> {
    run("lvm", args)
}

fn path(name: &str) -> String {
    format!("{VG}/{name}")
}

impl Lvm {
    /// # Errors
    /// LVM2 is not there, or refuses.
    pub fn start(disk: &Disk) -> Result<Self> {
        Self::with_pool(disk, POOL_MIB)
    }

    /// With a pool of another size.
    ///
    /// # Errors
    /// As of [`Lvm::start`].
    pub fn with_pool(disk: &Disk, pool_mib: u64) -> Result<Self> {
        disk.clean();
        // Its usual metadata area ends at some 1,500 volumes.
        lvm(&["pvcreate", "-qq", "-ff", "-y", "--metadatasize", "128m", &disk.node])?;
        lvm(&["vgcreate", "-qq", VG, &disk.node])?;
        // From here on it is taken down whatever happens.
        let one = Self { disk: disk.clone(), crowd: AtomicUsize::new(0) };
        let (size, metadata, pool) = (format!("{pool_mib}M"), format!("{METADATA_MIB}M"), path("tank"));
        let kind = ["lvcreate", "-qq", "-y", "--type", "thin-pool", "-c", "64k"];
        lvm(&[&kind[..], &["-L", &size, "--poolmetadatasize", &metadata, "-n", "tank", VG]].concat())?;
        let size = format!("{SIZE_MIB}M");
        lvm(&["lvcreate", "-qq", "-y", "-V", &size, "--thinpool", &pool, "-n", "base"])?;
        Ok(one)
    }

    pub fn vg(&self) -> &'static str {
        VG
    }

    /// As [`Peer::fill`], of volumes that can be activated: the pool is told of each of them too.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn fill_for_activation(&self, volumes: usize) -> Result<()> {
        let present = self.crowd.load(Ordering::Relaxed);
        self.fill(volumes)?;
        let pool = format!("{}-tank-tpool", VG.replace('-', "--"));
        (present..volumes).try_for_each(|n| {
            run("dmsetup", &["message", &pool, "0", &format!("create_thin {}", FIRST_ID + n)]).map(drop)
        })
    }
}

/// Thin ids of the crowd begin here; LVM2's own are small.
const FIRST_ID: usize = 1_000_000;

impl Drop for Lvm {
    fn drop(&mut self) {
        if !succeeds("lvm", &["vgchange", "-qq", "-an", VG]) {
            eprintln!("left behind: volume group {VG}");
        }
        self.disk.clean();
    }
}

impl Peer for Lvm {
    fn who(&self) -> &'static str {
        "lvm2"
    }
    fn disk(&self) -> &Disk {
        &self.disk
    }
    fn base(&self) -> Result<String> {
        let node = fs::canonicalize(format!("/dev/{VG}/base")).context("the node of its base")?;
        Ok(node.display().to_string())
    }
    /// By its own metadata, restored with so many volumes more in it: making each of them would take hours. The kernel's pool does not
    /// know them, and LVM2 does not look.
    fn fill(&self, volumes: usize) -> Result<()> {
        let present = self.crowd.fetch_max(volumes, Ordering::Relaxed);
        if volumes <= present {
            return Ok(());
        }
        let file = tempfile::NamedTempFile::new()?;
        let name = file.path().to_str().context("a path in UTF-8")?;
        lvm(&["vgcfgbackup", "-qq", "-f", name, VG])?;
        let text = fs::read_to_string(name)?;
        let begin = text.find("\n\t\tbase {").context("no volume base in the backup")?;
        let rest = text.get(begin..).unwrap_or_default();
        let end = begin + rest.find("\n\t\t}").context("no end of the volume base")? + 4;
        let (head, tail) = text.split_at(end);
        let model = head.get(begin..).unwrap_or_default();
        let line = |key: &str| model.lines().find(|line| line.trim().starts_with(key)).map(str::to_owned);
        let (id, device) = (line("id = ").context("no id")?, line("device_id = ").context("no thin id")?);
        let mut all = head.to_owned();
        for n in present..volumes {
            let one = model
                .replace("\n\t\tbase {", &format!("\n\t\tcrowd{n} {{"))
                .replace(&id, &format!("\t\t\tid = \"{n:06}-crow-dcro-wdcr-owdc-rowd-crowdc\""))
                .replace(&device, &format!("\t\t\t\tdevice_id = {}", FIRST_ID + n));
            all.push_str(&one);
        }
        all.push_str(tail);
        fs::write(name, all)?;
        lvm(&["vgcfgrestore", "-qq", "-y", "--force", "-f", name, VG]).map(drop)
    }
    /// It is active with that.
    fn create(&self, name: &str) -> Result<()> {
        let (size, pool) = (format!("{SIZE_MIB}M"), path("tank"));
        lvm(&["lvcreate", "-qq", "-y", "-V", &size, "--thinpool", &pool, "-n", name]).map(drop)
    }
    fn open(&self, name: &str) -> Result<()> {
        File::open(format!("/dev/{VG}/{name}")).with_context(|| format!("the node of {name}"))?;
        Ok(())
    }
    /// It goes with its deletion.
    fn close(&self, _name: &str) -> Result<()> {
        Ok(())
    }
    fn delete(&self, name: &str) -> Result<()> {
        lvm(&["lvremove", "-qq", "-f", &path(name)]).map(drop)
    }
    fn snapshot(&self, name: &str) -> Result<()> {
        lvm(&["lvcreate", "-qq", "-y", "-s", "-n", name, &path("base")]).map(drop)
    }
    fn delete_snapshot(&self, name: &str) -> Result<()> {
        self.delete(name)
    }
    fn read(&self, name: &str) -> Result<bool> {
        lvm(&["lvs", "--reportformat", "json", &path(name)]).map(|_| true)
    }
    fn list(&self) -> Result<Option<usize>> {
        let said = lvm(&["lvs", "--reportformat", "json", VG])?;
        Ok(Some(said.matches("\"lv_name\"").count()))
    }
}
