//! The least that the kernel has to be told, with nothing written down anywhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::disk::Disk;
use crate::peer::{METADATA_MIB, POOL_MIB, Peer, SIZE_MIB};

const POOL: &str = "BENCH-pool";
const SECTORS_PER_MIB: u64 = 2048;
/// Sectors of a chunk, as volumed has them unless told.
const CHUNK: u64 = 128;
/// There is no such device: it never came so far.
const ENXIO: i32 = 6;

/// A pool on one disk, made and spoken to by ioctls alone. It is taken down with this.
#[derive(Debug)]
pub struct Bare {
    dm: vol_linux::Bare,
    disk: Disk,
    /// Node of the pool.
    pool: String,
    base: String,
    next: AtomicU32,
    crowd: AtomicUsize,
    ids: Mutex<BTreeMap<String, u32>>,
    /// How many calls of device-mapper it has made, by kind.
    calls: Mutex<BTreeMap<&'static str, u64>>,
}

impl Bare {
    /// # Errors
    /// No device-mapper, or a disk that is too small.
    pub fn start(disk: &Disk) -> Result<Self> {
        disk.clean();
        let needed = (METADATA_MIB + POOL_MIB) << 20;
        ensure!(disk.size >= needed, "{} has {} bytes, and {needed} are needed", disk.node, disk.size);
        let dm = vol_linux::Bare::open().context("device-mapper")?;
        // Zeroes in its first block: the kernel makes a new pool.
        let mut file = File::options().write(true).open(&disk.node)?;
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
        drop(file);
        // From here on it is taken down whatever happens.
        let mut bare = Self {
            dm,
            disk: disk.clone(),
            pool: String::new(),
            base: String::new(),
            next: AtomicU32::new(1),
            crowd: AtomicUsize::new(0),
            ids: Mutex::default(),
            calls: Mutex::default(),
        };
        let dm = &bare.dm;
        let layer = |name: &str, mib: u64, from: u64| -> Result<String> {
            let uuid = uuid(name);
            let node = dm.create(&uuid, &uuid)?;
            dm.load(&uuid, mib * SECTORS_PER_MIB, "linear", &format!("{} {from}", disk.node))?;
            dm.resume(&uuid)?;
            Ok(node.display().to_string())
        };
        let metadata = layer("meta", METADATA_MIB, 0)?;
        let data = layer("data", POOL_MIB, METADATA_MIB * SECTORS_PER_MIB)?;
        let pool = dm.create(POOL, POOL)?.display().to_string();
        dm.load(POOL, POOL_MIB * SECTORS_PER_MIB, "thin-pool", &format!("{metadata} {data} {CHUNK} 0"))?;
        dm.resume(POOL)?;
        bare.pool = pool;
        bare.create("base")?;
        bare.base = bare.activate("base")?;
        Ok(bare)
    }

    fn id_of(&self, name: &str) -> Result<u32> {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.get(name).copied().with_context(|| format!("no thin id of {name}"))
    }

    fn take_id(&self, name: &str) -> Result<u32> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.remove(name).with_context(|| format!("no thin id of {name}"))
    }

    fn new_id(&self, name: &str) -> u32 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), id);
        id
    }

    fn called(&self, kind: &'static str) {
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    fn message(&self, text: &str) -> Result<()> {
        self.called("dm_target_message");
        self.dm.message(POOL, text).with_context(|| format!("message {text:?}"))
    }

    fn activate(&self, name: &str) -> Result<String> {
        let (uuid, id) = (uuid(name), self.id_of(name)?);
        // A device that begins to run is resumed: one ioctl with suspending.
        ["dm_dev_create", "dm_table_load", "dm_dev_suspend"].into_iter().for_each(|kind| self.called(kind));
        let node = self.dm.create(&uuid, &uuid)?;
        self.dm.load(&uuid, SIZE_MIB * SECTORS_PER_MIB, "thin", &format!("{} {id}", self.pool))?;
        self.dm.resume(&uuid)?;
        Ok(node.display().to_string())
    }

    /// udev may look at it just then: that is no part of the floor, so what waits for it is another try.
    fn remove(&self, uuid: &str) -> Result<()> {
        self.called("dm_dev_remove");
        while let Err(error) = self.dm.remove(uuid) {
            if error.kind() != ErrorKind::ResourceBusy {
                return Err(error).with_context(|| format!("remove {uuid}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn uuid(name: &str) -> String {
    format!("BENCH-{name}")
}

impl Drop for Bare {
    fn drop(&mut self) {
        for name in [uuid("base"), POOL.to_owned(), uuid("meta"), uuid("data")] {
            let Err(error) = self.remove(&name) else { continue };
            if error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) != Some(ENXIO) {
                eprintln!("left behind: {error:#}");
            }
        }
        self.disk.clean();
    }
}

impl Peer for Bare {
    fn who(&self) -> &'static str {
        "bare"
    }
    fn disk(&self) -> &Disk {
        &self.disk
    }
    fn base(&self) -> Result<String> {
        Ok(self.base.clone())
    }
    fn fill(&self, volumes: usize) -> Result<()> {
        let present = self.crowd.fetch_max(volumes, Ordering::Relaxed);
        (present..volumes).try_for_each(|n| {
            let id = self.new_id(&format!("crowd{n}"));
            self.message(&format!("create_thin {id}"))
        })
    }
    fn create(&self, name: &str) -> Result<()> {
        let id = self.new_id(name);
        self.message(&format!("create_thin {id}"))
    }
    fn open(&self, name: &str) -> Result<()> {
        File::open(self.activate(name)?)?;
        Ok(())
    }
    fn close(&self, name: &str) -> Result<()> {
        self.remove(&uuid(name))
    }
    fn delete(&self, name: &str) -> Result<()> {
        let id = self.take_id(name)?;
        self.message(&format!("delete {id}"))
    }
    fn snapshot(&self, name: &str) -> Result<()> {
        let (base, id, uuid) = (self.id_of("base")?, self.new_id(name), uuid("base"));
        self.called("dm_dev_suspend");
        self.dm.suspend(&uuid)?;
        let sent = self.message(&format!("create_snap {id} {base}"));
        self.called("dm_dev_suspend");
        self.dm.resume(&uuid)?;
        sent
    }
    fn delete_snapshot(&self, name: &str) -> Result<()> {
        self.delete(name)
    }
    fn counted(&self) -> Result<Vec<(String, u64)>> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(calls.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect())
    }
}
