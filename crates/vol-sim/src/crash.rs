//! Death of the daemon, power cuts, and which unflushed writes survive one.

use std::path::PathBuf;

use crate::disk::NodeKind;
use crate::host::SimHost;
use crate::world::World;

/// Which of the pending sectors a power cut leaves on the disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrashMode {
    LoseAll,
    KeepAll,
    /// Each by a throw of the seeded coin.
    Random,
    /// These, by their place in [`SimHost::pending`].
    Keep(Vec<usize>),
    /// All but these.
    Drop(Vec<usize>),
    /// The first so many.
    Prefix(usize),
}

/// A sector of 512 bytes that was written and not flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSector {
    /// Node or file; a disk that is gone is named by where it was.
    pub disk: PathBuf,
    pub sector: u64,
}

impl World {
    /// The daemon is gone; what the kernel holds stays. A resume guard wakes what the daemon left suspended.
    pub fn kill_daemon(&mut self) {
        self.dead = true;
        self.life += 1;
        if self.guard_resumes {
            let left: Vec<u32> = self.dm.iter().filter(|(_, d)| d.suspended && d.guarded).map(|(m, _)| *m).collect();
            for minor in left {
                // A guard cannot report: what it could not resume is for recovery to find.
                let _ = self.resume_minor(minor);
            }
        }
    }

    /// The machine is gone: device-mapper, loops and mounts with it. Pending writes wait for [`World::settle`].
    pub fn cut_power(&mut self) {
        self.dead = true;
        self.life += 1;
        self.off = true;
        self.undecided = true;
        self.dm.clear();
        self.mounts.clear();
        self.nodes.retain(|_, node| !matches!(node.kind, NodeKind::Loop { .. }));
        if let Some(mode) = self.on_power_cut.clone() {
            self.settle(&mode);
        }
    }

    pub fn settle(&mut self, mode: &CrashMode) {
        if !std::mem::take(&mut self.undecided) {
            return;
        }
        let chance = &mut self.chance;
        let mut first = 0;
        for medium in self.media.values_mut() {
            let count = medium.image.pending().count();
            medium.image.power_cut(|at| {
                let at = first + at;
                match mode {
                    CrashMode::LoseAll => false,
                    CrashMode::KeepAll => true,
                    CrashMode::Random => chance.coin(),
                    CrashMode::Keep(kept) => kept.contains(&at),
                    CrashMode::Drop(dropped) => !dropped.contains(&at),
                    CrashMode::Prefix(len) => at < *len,
                }
            });
            first += count;
        }
    }

    /// The next boot, or only the next start of the daemon.
    pub fn restart(&mut self) {
        self.settle(&CrashMode::Random);
        self.dead = false;
        if std::mem::take(&mut self.off) {
            self.boot();
        }
    }

    fn boot(&mut self) {
        self.boot_id = self.ids.uuid().to_string();
        self.next_diskseq = 1;
        let whole: Vec<PathBuf> =
            self.nodes.iter().filter(|(_, n)| n.kind == NodeKind::Whole).map(|(path, _)| path.clone()).collect();
        for path in whole {
            self.renumber(&path);
        }
        self.boot_mounts();
    }

    pub fn pending(&self) -> Vec<PendingSector> {
        let name = |id| {
            let node =
                self.nodes.iter().chain(&self.unplugged).find(|(_, node)| node.medium == id && node.size.is_none());
            let file = self.files.iter().find(|(_, medium)| **medium == id);
            node.map(|(path, _)| path).or(file.map(|(path, _)| path)).cloned().unwrap_or_default()
        };
        let media = self.media.iter().map(|(id, medium)| (name(*id), medium));
        media
            .flat_map(|(disk, medium)| {
                medium.image.pending().map(move |sector| PendingSector { disk: disk.clone(), sector })
            })
            .collect()
    }
}

impl SimHost {
    /// The daemon dies; the kernel and the disks do not notice. Every call fails until [`SimHost::restart`].
    pub fn kill_daemon(&self) {
        self.lock().kill_daemon();
    }

    /// Cuts the power. Every call fails until [`SimHost::restart`].
    pub fn crash(&self, mode: CrashMode) {
        let mut world = self.lock();
        let planned = world.on_power_cut.replace(mode);
        world.cut_power();
        world.on_power_cut = planned;
    }

    /// Cuts the power and leaves open what survives, as a planned power cut does.
    pub fn cut_power_undecided(&self) {
        self.lock().cut_power();
    }

    /// Whether the power was cut since the last [`SimHost::restart`].
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// How a planned power cut treats pending writes. By default that stays open: [`SimHost::pending`] lists them,
    /// [`SimHost::fork`] makes as many worlds as there are subsets to look at, and [`SimHost::settle`] chooses;
    /// [`SimHost::restart`] throws a coin for each if nobody did.
    pub fn on_power_cut(&self, mode: CrashMode) {
        self.lock().on_power_cut = Some(mode);
    }

    /// Chooses what survived a power cut; nothing happens if that was chosen already.
    pub fn settle(&self, mode: CrashMode) {
        self.lock().settle(&mode);
    }

    /// Sectors that were written and not flushed, disk by disk, in the order of the writes.
    pub fn pending(&self) -> Vec<PendingSector> {
        self.lock().pending()
    }

    /// Starts the daemon again, and the machine before if the power was cut. Planned faults stay planned.
    pub fn restart(&self) {
        self.lock().restart();
    }

    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Whether the daemon that dies inside a suspended window has a guard that resumes the device. It has by default.
    pub fn set_guard_resumes(&self, resumes: bool) {
        self.lock().guard_resumes = resumes;
    }
}
