//! What can be said of a catalog without walking through it: kept up to date with every change, so that a request costs the
//! same at ten volumes and at a hundred thousand.

use std::collections::{BTreeMap, BTreeSet};

use vol_types::{Bytes, Content, ObjectKey, PoolId, PoolState, Volume, VolumeId, VolumeState};

use super::VolumeName;

/// Volumes and snapshots of one pool; those that are deleted or being deleted do not count as such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub volumes: u64,
    pub snapshots: u64,
    /// Both of them, deleted and kept for a while.
    pub kept: u64,
    /// Sum of the sizes of the volumes. Snapshots do not count: they are read-only, so they can pin what was written but
    /// never ask for more by themselves. Held in 128 bits, so that it can be taken back exactly.
    virtual_bytes: u128,
    /// Sum of the reserves of the volumes.
    reserve_bytes: u128,
}

impl Members {
    /// Saturates: it is for people and for limits.
    pub fn virtual_size(&self) -> Bytes {
        Bytes(u64::try_from(self.virtual_bytes).unwrap_or(u64::MAX))
    }
    /// Sum of the reserves of the volumes; saturates.
    pub fn reserve(&self) -> Bytes {
        Bytes(u64::try_from(self.reserve_bytes).unwrap_or(u64::MAX))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    names: BTreeMap<VolumeName, VolumeId>,
    members: BTreeMap<PoolId, Members>,
    snapshots: BTreeMap<VolumeId, BTreeSet<VolumeId>>,
    unfinished: BTreeSet<ObjectKey>,
    to_check: BTreeSet<VolumeId>,
}

impl Index {
    /// Adds volumes to an index that has none: names are sorted once instead of each being put in its place.
    pub fn add_all<'a>(&mut self, volumes: impl ExactSizeIterator<Item = &'a Volume>) {
        let mut names = Vec::with_capacity(volumes.len());
        for volume in volumes {
            if self.add_but_name(volume) {
                names.push((VolumeName::halves(volume).0.beginning(), VolumeName::of(volume), volume.id));
            }
        }
        // Stable: of a name given twice the later volume counts, as when they are added one by one.
        names.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        self.names = names.into_iter().map(|(_, name, id)| (name, id)).collect();
    }

    pub fn add(&mut self, volume: &Volume) {
        if self.add_but_name(volume) {
            self.names.insert(VolumeName::of(volume), volume.id);
        }
    }

    /// Whether it has its name.
    fn add_but_name(&mut self, volume: &Volume) -> bool {
        // A thick volume that is being filled is not left over by anything: it goes on by itself.
        let filling = volume.thick().is_some()
            && volume.state == VolumeState::Creating
            && !matches!(volume.content, Content::Formatting { .. });
        if !volume.state.is_settled() && !filling {
            self.unfinished.insert(ObjectKey::Volume(volume.id));
        }
        if volume.check_fs && volume.snapshot.is_none() {
            self.to_check.insert(volume.id);
        }
        if let (VolumeState::Deleted, Some(pool)) = (volume.state, volume.pool()) {
            self.members.entry(pool).or_default().kept += 1;
        }
        if !volume.state.has_name() {
            return false;
        }
        let Some(pool) = volume.pool() else { return true };
        let members = self.members.entry(pool).or_default();
        match &volume.snapshot {
            None => {
                members.volumes += 1;
                members.virtual_bytes += u128::from(volume.size.get());
                members.reserve_bytes += u128::from(volume.reserve.get());
            }
            Some(snapshot) => {
                members.snapshots += 1;
                self.snapshots.entry(snapshot.of).or_default().insert(volume.id);
            }
        }
        true
    }

    pub fn remove(&mut self, volume: &Volume) {
        self.unfinished.remove(&ObjectKey::Volume(volume.id));
        self.to_check.remove(&volume.id);
        if let (VolumeState::Deleted, Some(pool)) = (volume.state, volume.pool()) {
            self.leave(pool, |members| members.kept = members.kept.saturating_sub(1));
        }
        if !volume.state.has_name() {
            return;
        }
        let name = VolumeName::of(volume);
        if self.names.get(&name) == Some(&volume.id) {
            self.names.remove(&name);
        }
        let Some(pool) = volume.pool() else { return };
        self.leave(pool, |members| match &volume.snapshot {
            None => {
                members.volumes = members.volumes.saturating_sub(1);
                members.virtual_bytes = members.virtual_bytes.saturating_sub(u128::from(volume.size.get()));
                members.reserve_bytes = members.reserve_bytes.saturating_sub(u128::from(volume.reserve.get()));
            }
            Some(_) => members.snapshots = members.snapshots.saturating_sub(1),
        });
        if let Some(snapshot) = &volume.snapshot
            && let Some(all) = self.snapshots.get_mut(&snapshot.of)
        {
            all.remove(&volume.id);
            if all.is_empty() {
                self.snapshots.remove(&snapshot.of);
            }
        }
    }

    fn leave(&mut self, pool: PoolId, take: impl FnOnce(&mut Members)) {
        let Some(members) = self.members.get_mut(&pool) else { return };
        take(members);
        if *members == Members::default() {
            self.members.remove(&pool);
        }
    }

    pub fn pool(&mut self, id: PoolId, state: Option<PoolState>) {
        self.set_unfinished(ObjectKey::Pool(id), state.is_some_and(|state| state != PoolState::Ready));
    }

    pub fn set_unfinished(&mut self, key: ObjectKey, unfinished: bool) {
        if unfinished {
            self.unfinished.insert(key);
        } else {
            self.unfinished.remove(&key);
        }
    }

    pub fn named(&self, name: &VolumeName) -> Option<VolumeId> {
        self.names.get(name).copied()
    }
    pub fn members(&self, pool: PoolId) -> Members {
        self.members.get(&pool).copied().unwrap_or_default()
    }
    pub fn snapshots(&self, of: VolumeId) -> impl Iterator<Item = VolumeId> + Clone {
        self.snapshots.get(&of).into_iter().flatten().copied()
    }
    pub fn to_check(&self) -> impl Iterator<Item = VolumeId> + Clone {
        self.to_check.iter().copied()
    }
    pub fn unfinished(&self) -> impl Iterator<Item = ObjectKey> + Clone {
        self.unfinished.iter().copied()
    }
}
