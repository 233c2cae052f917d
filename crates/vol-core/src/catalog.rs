//! The catalog: all objects of one volume group, and the questions the planner asks of them.
//!
//! It changes only by [`Catalog::apply`], with the very changes that are committed to the disks, so that memory and disks
//! cannot tell different stories. The invariants that must hold of it stand in [`crate::check`].

use std::collections::{BTreeMap, BTreeSet};

use vol_types::{
    Bytes, Change, Extents, Intent, IntentId, Name, Object, ObjectKey, Pool, PoolId, Pv, PvId, Vg, Volume, VolumeId,
};

use crate::dm;

mod build;
mod index;

pub use build::Builder;
use index::Index;
pub use index::Members;

/// What a volume or snapshot is called inside its VG: `VOLUME` or `VOLUME@SNAPSHOT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeName {
    pub volume: Name,
    pub snapshot: Option<Name>,
}

impl VolumeName {
    pub fn of(volume: &Volume) -> Self {
        let (volume, snapshot) = Self::halves(volume);
        Self { volume: volume.clone(), snapshot: snapshot.cloned() }
    }

    /// What [`VolumeName::of`] is made of; the halves are in the same order as the names.
    pub const fn halves(volume: &Volume) -> (&Name, Option<&Name>) {
        match &volume.snapshot {
            None => (&volume.name, None),
            Some(snapshot) => (&snapshot.of_name, Some(&volume.name)),
        }
    }
}

impl std::fmt::Display for VolumeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.snapshot {
            None => self.volume.fmt(f),
            Some(snapshot) => write!(f, "{}@{snapshot}", self.volume),
        }
    }
}

/// All objects of one VG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    vg: Vg,
    /// Sequence number of the newest commit.
    sequence: u64,
    /// Whether it holds something that the next commit will.
    ahead: bool,
    pvs: BTreeMap<PvId, Pv>,
    pools: BTreeMap<PoolId, Pool>,
    volumes: BTreeMap<VolumeId, Volume>,
    intents: BTreeMap<IntentId, Intent>,
    index: Index,
    /// Those of the volumes that have extents of their own: few, beside the others.
    thick: BTreeSet<VolumeId>,
}

impl Catalog {
    /// A catalog that holds nothing but its VG.
    pub fn new(vg: Vg) -> Self {
        let mut index = Index::default();
        index.set_unfinished(ObjectKey::Vg(vg.id), !vg.state.is_whole());
        Self {
            vg,
            sequence: 0,
            ahead: false,
            pvs: BTreeMap::new(),
            pools: BTreeMap::new(),
            volumes: BTreeMap::new(),
            intents: BTreeMap::new(),
            index,
            thick: BTreeSet::new(),
        }
    }

    /// From a checkpoint; `None` unless it holds exactly one VG.
    pub fn from_objects(sequence: u64, objects: impl IntoIterator<Item = Object>) -> Option<Self> {
        let mut builder = Builder::default();
        objects.into_iter().for_each(|object| builder.add(object));
        builder.build(sequence)
    }

    /// All objects in the order of their keys: the content of a checkpoint.
    pub fn objects(&self) -> Vec<Object> {
        let mut objects = vec![Object::Vg(self.vg.clone())];
        objects.extend(self.pvs.values().cloned().map(Object::Pv));
        objects.extend(self.pools.values().cloned().map(Object::Pool));
        objects.extend(self.volumes.values().cloned().map(Object::Volume));
        objects.extend(self.intents.values().cloned().map(Object::Intent));
        objects
    }

    /// The object with this key, if there is one.
    pub fn object(&self, key: ObjectKey) -> Option<Object> {
        match key {
            ObjectKey::Vg(id) => (self.vg.id == id).then(|| Object::Vg(self.vg.clone())),
            ObjectKey::Pv(id) => self.pvs.get(&id).cloned().map(Object::Pv),
            ObjectKey::Pool(id) => self.pools.get(&id).cloned().map(Object::Pool),
            ObjectKey::Volume(id) => self.volumes.get(&id).cloned().map(Object::Volume),
            ObjectKey::Intent(id) => self.intents.get(&id).cloned().map(Object::Intent),
        }
    }

    /// Applies one change of a commit.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Put(Object::Vg(vg)) => {
                self.index.set_unfinished(ObjectKey::Vg(vg.id), !vg.state.is_whole());
                self.vg = vg;
            }
            Change::Put(Object::Pv(pv)) => drop(self.pvs.insert(pv.id, pv)),
            Change::Put(Object::Pool(pool)) => {
                self.index.pool(pool.id, Some(pool.state));
                self.pools.insert(pool.id, pool);
            }
            Change::Put(Object::Volume(volume)) => {
                if let Some(old) = self.volumes.get(&volume.id) {
                    self.index.remove(old);
                }
                self.index.add(&volume);
                if volume.thick().is_some() {
                    self.thick.insert(volume.id);
                }
                self.volumes.insert(volume.id, volume);
            }
            Change::Put(Object::Intent(intent)) => {
                self.index.set_unfinished(ObjectKey::Intent(intent.id), true);
                self.intents.insert(intent.id, intent);
            }
            // A catalog is the catalog of its VG: that one cannot be deleted out of it.
            Change::Delete(ObjectKey::Vg(_)) => {}
            Change::Delete(ObjectKey::Pv(id)) => drop(self.pvs.remove(&id)),
            Change::Delete(ObjectKey::Pool(id)) => {
                self.index.pool(id, None);
                self.pools.remove(&id);
            }
            Change::Delete(ObjectKey::Volume(id)) => {
                if let Some(old) = self.volumes.remove(&id) {
                    self.index.remove(&old);
                    self.thick.remove(&id);
                }
            }
            Change::Delete(key @ ObjectKey::Intent(id)) => {
                self.index.set_unfinished(key, false);
                self.intents.remove(&id);
            }
        }
    }

    /// Applies a whole commit and takes its sequence number.
    pub fn commit(&mut self, sequence: u64, changes: Vec<Change>) {
        for change in changes {
            self.apply(change);
        }
        self.sequence = sequence;
        self.ahead = false;
    }

    /// Applies what the next commit will hold.
    pub fn anticipate(&mut self, change: Change) {
        self.apply(change);
        self.ahead = true;
    }

    /// Sequence number of the commit that makes it what it is: the newest one, or the next one.
    pub const fn held_by(&self) -> u64 {
        self.sequence.saturating_add(self.ahead as u64)
    }

    pub const fn vg(&self) -> &Vg {
        &self.vg
    }
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
    pub fn pvs(&self) -> impl Iterator<Item = &Pv> + Clone {
        self.pvs.values()
    }
    pub fn pv(&self, id: PvId) -> Option<&Pv> {
        self.pvs.get(&id)
    }
    pub fn pools(&self) -> impl Iterator<Item = &Pool> + Clone {
        self.pools.values()
    }
    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.pools.get(&id)
    }
    pub fn pool_named(&self, name: &Name) -> Option<&Pool> {
        self.pools.values().find(|pool| pool.name == *name)
    }
    /// Volumes and snapshots.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> + Clone {
        self.volumes.values()
    }
    pub fn volume(&self, id: VolumeId) -> Option<&Volume> {
        self.volumes.get(&id)
    }
    pub fn volume_named(&self, name: &VolumeName) -> Option<&Volume> {
        self.volumes.get(&self.index.named(name)?)
    }
    pub fn volumes_of(&self, pool: PoolId) -> impl Iterator<Item = &Volume> + Clone {
        self.volumes.values().filter(move |volume| volume.pool() == Some(pool))
    }
    /// The pool of a thin volume, if it is there.
    pub fn pool_of(&self, volume: &Volume) -> Option<&Pool> {
        self.pool(volume.pool()?)
    }
    /// Snapshots that were taken of the volume, without those being deleted.
    pub fn snapshots_of(&self, id: VolumeId) -> impl Iterator<Item = &Volume> + Clone {
        self.index.snapshots(id).filter_map(|id| self.volumes.get(&id))
    }
    /// How many volumes and snapshots a pool has, and what they promise.
    pub fn members(&self, pool: PoolId) -> Members {
        self.index.members(pool)
    }
    /// Objects that are being made, deleted, or settled.
    pub fn unfinished(&self) -> impl Iterator<Item = ObjectKey> + Clone {
        self.index.unfinished()
    }
    pub fn intents(&self) -> impl Iterator<Item = &Intent> + Clone {
        self.intents.values()
    }
    pub fn intents_of(&self, pool: PoolId) -> impl Iterator<Item = &Intent> + Clone {
        self.intents.values().filter(move |intent| intent.pool == pool)
    }

    /// Whether nothing has extents: no pools, no thick volumes.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty() && self.thick.is_empty()
    }
    /// How many objects there are, of all kinds.
    pub fn object_count(&self) -> usize {
        1 + self.pvs.len() + self.pools.len() + self.volumes.len() + self.intents.len()
    }

    /// Extents of the whole VG.
    pub fn extents(&self) -> Extents {
        self.pvs.values().map(|pv| pv.extents).sum()
    }
    /// Extents in use on a PV.
    pub fn used_extents(&self, id: PvId) -> Extents {
        self.segments().filter(|segment| segment.pv == id).map(|segment| segment.count).sum()
    }
    /// Extents not in use on a PV.
    pub fn free_extents(&self, id: PvId) -> Extents {
        self.pv(id).map_or(Extents::ZERO, |pv| pv.extents.saturating_sub(self.used_extents(id)))
    }
    /// Extents not in use in the whole VG.
    pub fn free_extents_total(&self) -> Extents {
        let used: Extents = self.segments().map(|segment| segment.count).sum();
        self.extents().saturating_sub(used)
    }
    /// All segments in use.
    pub fn segments(&self) -> impl Iterator<Item = &vol_types::Segment> + Clone {
        let of_pools = self.pools.values().flat_map(Pool::segments);
        let of_volumes = self.thick.iter().filter_map(|id| self.volumes.get(id)?.thick());
        of_pools.chain(of_volumes.flat_map(|thick| &thick.segments))
    }
    /// Volumes whose file system is to be checked before it is mounted writable; no snapshots.
    pub fn to_check(&self) -> impl Iterator<Item = &Volume> {
        self.index.to_check().filter_map(|id| self.volumes.get(&id))
    }
    /// Thick volumes, those too that are deleted and kept.
    pub fn thick_volumes(&self) -> impl Iterator<Item = &Volume> + Clone {
        self.thick.iter().filter_map(|id| self.volumes.get(id))
    }

    /// Bytes of so many extents of this VG; saturates.
    pub fn bytes(&self, extents: Extents) -> Bytes {
        extents.to_bytes(self.vg.extent_size).unwrap_or(Bytes(u64::MAX))
    }
    /// Size of a pool's data device.
    pub fn pool_data_size(&self, pool: &Pool) -> Bytes {
        self.bytes(dm::extents_of(&pool.data))
    }
    /// Size of a pool's metadata device.
    pub fn pool_metadata_size(&self, pool: &Pool) -> Bytes {
        self.bytes(dm::extents_of(&pool.metadata))
    }
}

#[cfg(test)]
mod tests;
