//! Everything there is in the simulated machine, the numbering of effects, and death.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vol_core::observed::{DevNumber, DiskIdentity};
use vol_engine::host::{HostError, HostErrorKind, HostResult};
use vol_types::Bytes;

use crate::crash::CrashMode;
use crate::disk::{Medium, MediumId, Node, NodeKind, resolve_link};
use crate::effect::{Counters, Effect};
use crate::fault::Plan;
use crate::fs::{Mounted, ProbeLie};
use crate::mapper::{DM_MAJOR, DmDevice};
use crate::moments::Recorder;
use crate::pool::PoolDisk;
use crate::rng::Rng;
use crate::udev::Udev;

#[derive(Clone, Debug)]
pub(crate) struct World {
    /// Ids have a stream of their own, so that a fault does not change them.
    pub ids: Rng,
    pub chance: Rng,
    pub now: u64,
    pub uptime: std::time::Duration,
    pub boot_id: String,
    /// Nothing works until [`crate::SimHost::restart`].
    pub dead: bool,
    /// The power was cut and the machine was not started since.
    pub off: bool,
    /// The power was cut and which pending writes survived is not chosen yet.
    pub undecided: bool,
    /// Counts lives of the daemon; a descriptor belongs to one.
    pub life: u64,

    pub media: BTreeMap<MediumId, Medium>,
    pub nodes: BTreeMap<PathBuf, Node>,
    pub unplugged: BTreeMap<PathBuf, Node>,
    pub links: BTreeMap<PathBuf, PathBuf>,
    pub next_medium: MediumId,
    pub next_diskseq: u64,

    pub files: BTreeMap<PathBuf, MediumId>,
    pub remembered: Vec<PathBuf>,
    /// Directories, files and links that are in nobody's way otherwise.
    pub paths: BTreeSet<PathBuf>,
    pub symlinks: BTreeSet<PathBuf>,
    /// Directories that nobody can write to.
    pub sealed: BTreeSet<PathBuf>,

    /// By minor number.
    pub dm: BTreeMap<u32, DmDevice>,
    pub targets: Vec<(String, (u32, u32, u32))>,
    /// Committed states of pools; a pool's superblock on the disk says which it is at.
    pub pool_states: BTreeMap<u64, Arc<PoolDisk>>,
    pub next_state: u64,
    /// Set once a disk was copied: an old state may then be found again.
    pub keep_states: bool,
    /// What became of each thin id (pool, id); only for the checks.
    pub thin_lives: BTreeMap<(u64, u32), ThinLife>,

    /// File systems on disks, by the numbers in their first sectors; see [`crate::place`].
    pub on_disks: BTreeMap<u64, crate::fs::Content>,
    /// As [`World::thin_lives`], of devices that lie on disks, by their dm uuids.
    pub linear_lives: BTreeMap<String, ThinLife>,

    pub mounts: Vec<Mounted>,
    pub next_mount_id: u64,
    pub lies: BTreeMap<String, ProbeLie>,
    /// `thin_check` and `thin_repair` are not installed.
    pub no_thin_tools: bool,
    pub guard_resumes: bool,
    pub udev: Udev,

    pub faults: Plan,
    pub on_power_cut: Option<CrashMode>,
    pub effects: u64,
    pub log: Option<Vec<Effect>>,
    pub violations: Vec<String>,
    pub counters: Counters,
    /// Bytes that a slice moves in a second; `None`: it takes no time.
    pub move_rate: Option<u64>,
    /// Set while moments are recorded.
    pub recorder: Option<Recorder>,
}

/// The life of one thin id in a pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct ThinLife {
    pub created: u32,
    /// It was active, formatted or the origin of a snapshot since it was first created.
    pub used: bool,
    /// It was mounted or written raw: what is in it is a user's.
    pub handed_out: bool,
    pub mkfs: u32,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut ids = Rng::new(seed);
        let boot_id = ids.uuid().to_string();
        Self {
            ids,
            chance: Rng::new(seed ^ 0xFA_17),
            now: 1_800_000_000,
            uptime: std::time::Duration::ZERO,
            boot_id,
            dead: false,
            off: false,
            undecided: false,
            life: 0,
            media: BTreeMap::new(),
            nodes: BTreeMap::new(),
            unplugged: BTreeMap::new(),
            links: BTreeMap::new(),
            next_medium: 1,
            next_diskseq: 1,
            files: BTreeMap::new(),
            remembered: Vec::new(),
            paths: BTreeSet::new(),
            sealed: BTreeSet::new(),
            symlinks: BTreeSet::new(),
            dm: BTreeMap::new(),
            targets: [("linear", (1, 4, 0)), ("striped", (1, 6, 0)), ("thin-pool", (1, 23, 0)), ("thin", (1, 23, 0))]
                .map(|(name, version)| (name.to_owned(), version))
                .to_vec(),
            pool_states: BTreeMap::new(),
            next_state: 1,
            keep_states: false,
            thin_lives: BTreeMap::new(),
            on_disks: BTreeMap::new(),
            linear_lives: BTreeMap::new(),
            mounts: Vec::new(),
            next_mount_id: 100,
            lies: BTreeMap::new(),
            no_thin_tools: false,
            guard_resumes: true,
            udev: Udev::default(),
            faults: Plan::default(),
            on_power_cut: None,
            effects: 0,
            log: Some(Vec::new()),
            violations: Vec::new(),
            counters: Counters::default(),
            move_rate: None,
            recorder: None,
        }
    }

    pub fn alive(&self, what: &str) -> HostResult<()> {
        if self.dead { Err(dead(what)) } else { Ok(()) }
    }

    pub fn violation(&mut self, text: String) {
        if !self.violations.contains(&text) {
            self.violations.push(text);
        }
    }

    pub fn diskseq(&mut self) -> u64 {
        self.next_diskseq += 1;
        self.next_diskseq - 1
    }

    /// The node that `path` leads to, and what is attached there.
    pub fn node(&self, path: &Path) -> Option<(PathBuf, &Node)> {
        let node = resolve_link(&self.links, path);
        let found = self.nodes.get(&node)?;
        Some((node, found))
    }

    pub fn node_of(&self, dev: DevNumber) -> Option<(&PathBuf, &Node)> {
        self.nodes.iter().find(|(_, node)| node.dev == dev)
    }

    pub fn node_size(&self, node: &Node) -> u64 {
        node.size.unwrap_or_else(|| self.media.get(&node.medium).map_or(0, |medium| medium.size))
    }

    pub fn identity(&self, node: &Node) -> DiskIdentity {
        DiskIdentity { dev: node.dev, diskseq: Some(node.diskseq), size: Bytes(self.node_size(node)) }
    }

    /// Size in bytes and logical sector size of a device that a table may stand on.
    pub fn size_of(&self, dev: DevNumber) -> Option<(u64, u32)> {
        if dev.major == DM_MAJOR {
            let device = self.dm.get(&dev.minor)?;
            let sector = device.live.iter().flat_map(|t| t.below()).filter_map(|d| self.size_of(d)).map(|s| s.1).max();
            return Some((device.sectors() * 512, sector.unwrap_or(512)));
        }
        let (_, node) = self.node_of(dev)?;
        Some((self.node_size(node), self.media.get(&node.medium)?.sector_size))
    }

    pub fn diskseq_of(&self, dev: DevNumber) -> Option<u64> {
        if dev.major == DM_MAJOR {
            return self.dm.get(&dev.minor).map(|device| device.diskseq);
        }
        self.node_of(dev).map(|(_, node)| node.diskseq)
    }

    /// Partitions of the disk at `path`.
    pub fn partitions<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> + 'a {
        self.nodes.iter().filter(move |(_, node)| matches!(&node.kind, NodeKind::Partition { of } if of == path))
    }

    /// The device at `path` and its partitions.
    pub fn family(&self, path: &Path) -> Vec<DevNumber> {
        let own = self.nodes.get(path).map(|node| node.dev);
        own.into_iter().chain(self.partitions(path).map(|(_, node)| node.dev)).collect()
    }
}

pub(crate) fn dead(what: &str) -> HostError {
    HostError::new(HostErrorKind::Other, what, "the daemon is dead")
}

pub(crate) fn fail<T>(kind: HostErrorKind, what: impl Into<String>, detail: &str) -> HostResult<T> {
    Err(HostError::new(kind, what, detail))
}
