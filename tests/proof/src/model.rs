//! The reference model: what must be true, in the words of a user. Written from the documents, not from the planner; it
//! knows nothing of plans, extents on disks, logs or thin ids.
//!
//! [`Model::apply`] says what an operation may answer and what there is afterwards; [`Model::cut`] what there may be when it
//! was cut short or failed; [`Model::powered_off`] what a power cut leaves.

use std::collections::BTreeMap;

use crate::ops::{Answer, DISK_SIZE, Group, Key, Op, Pool, RefusalCodeKey as Code, Shape, Vol};

/// All that can be seen of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Model {
    pub groups: BTreeMap<Group, GroupModel>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupModel {
    pub pools: BTreeMap<Pool, PoolModel>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolModel {
    /// MiB for data.
    pub size: u64,
    pub volumes: BTreeMap<Key, VolumeModel>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeModel {
    /// In bytes.
    pub size: u64,
    /// `raw`, or the kind of its file system.
    pub kind: &'static str,
    /// The last write that its user synced; 0 if there was none.
    pub written: u32,
    /// Mounted, or, for a raw one, its device is there.
    pub in_use: bool,
}

impl std::fmt::Display for Model {
    /// `data{tank 64: pg ext4 #3 used, pg@one ext4 #0}`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[")?;
        for (group, GroupModel { pools }) in &self.groups {
            write!(f, "{}{{", group.as_str())?;
            for (pool, PoolModel { size, volumes }) in pools {
                write!(f, "{} {size}:", pool.as_str())?;
                for (key, volume) in volumes {
                    let used = if volume.in_use { " used" } else { "" };
                    write!(f, " {} {} #{}{used},", key.name(), volume.kind, volume.written)?;
                }
                f.write_str(" ")?;
            }
            f.write_str("}")?;
        }
        f.write_str("]")
    }
}

/// On-disk format, section 2, for a whole disk of 256 MiB: the mark and the area before the metadata take 2 MiB, the
/// metadata zone 4 MiB, the backup mark 1 MiB; the rest is extents of 4 MiB.
const EXTENTS_PER_DISK: u64 = (DISK_SIZE.get() / (1 << 20) - 2 - 4 - 1) / EXTENT;
/// MiB.
const EXTENT: u64 = 4;
/// A small pool's metadata has 8 MiB.
const POOL_METADATA: u64 = 8 / EXTENT;
/// Over-commit: the volumes of a pool may promise ten times its size.
const OVERCOMMIT: u64 = 10;

/// What an operation comes to.
pub struct Outcome {
    /// Each of these is right.
    pub answers: Vec<Answer>,
    pub after: Model,
}

impl Model {
    fn refused(&self, code: Code) -> Outcome {
        Outcome { answers: vec![Answer::Refused(code)], after: self.clone() }
    }
    fn same(&self, answers: &[Answer]) -> Outcome {
        Outcome { answers: answers.to_vec(), after: self.clone() }
    }
    fn changed(&self, change: impl FnOnce(&mut Self)) -> Outcome {
        let mut after = self.clone();
        change(&mut after);
        Outcome { answers: vec![Answer::Changed], after }
    }

    pub fn pool(&self, pool: Pool) -> Option<&PoolModel> {
        self.groups.get(&Group::Data)?.pools.get(&pool)
    }
    pub fn volume(&self, key: Key) -> Option<&VolumeModel> {
        self.pool(key.vol.pool())?.volumes.get(&key)
    }
    fn volume_mut(&mut self, key: Key) -> Option<&mut VolumeModel> {
        self.groups.get_mut(&Group::Data)?.pools.get_mut(&key.vol.pool())?.volumes.get_mut(&key)
    }
    fn put_volume(&mut self, key: Key, volume: VolumeModel) {
        if let Some(pool) = self.groups.get_mut(&Group::Data).and_then(|group| group.pools.get_mut(&key.vol.pool())) {
            pool.volumes.insert(key, volume);
        }
    }
    fn put_pool(&mut self, pool: Pool, size: u64) {
        let group = self.groups.entry(Group::Data).or_default();
        group.pools.insert(pool, PoolModel { size, volumes: BTreeMap::new() });
    }

    /// Extents of `data` that no pool has.
    fn free(&self, shape: Shape) -> u64 {
        let pools = self.groups.get(&Group::Data).into_iter().flat_map(|group| group.pools.values());
        let used: u64 = pools.map(|pool| pool.size / EXTENT + POOL_METADATA).sum();
        (EXTENTS_PER_DISK * u64::from(shape.disks)).saturating_sub(used)
    }

    /// The operation without any fault. `version` is what a user writes.
    pub fn apply(&self, op: Op, shape: Shape, version: u32) -> Outcome {
        let data = self.groups.get(&Group::Data);
        match op {
            Op::CreateVg(group) if self.groups.contains_key(&group) => self.refused(Code::Exists),
            Op::CreateVg(group) => self.changed(|model| drop(model.groups.insert(group, GroupModel::default()))),
            Op::Init if data.is_some() => self.refused(Code::Exists),
            Op::Init => {
                // 95 % of what is free, metadata included.
                let size = EXTENTS_PER_DISK * u64::from(shape.disks) * 95 / 100 - POOL_METADATA;
                self.changed(|model| model.put_pool(Pool::Tank, size * EXTENT))
            }
            Op::DeleteVg(group) => match self.groups.get(&group) {
                None => self.refused(Code::NotFound),
                Some(found) if !found.pools.is_empty() => self.refused(Code::Busy),
                Some(_) => self.changed(|model| drop(model.groups.remove(&group))),
            },
            Op::CreatePool(_) if data.is_none() => self.refused(Code::NotFound),
            Op::CreatePool(pool) if self.pool(pool).is_some() => self.refused(Code::Exists),
            Op::CreatePool(pool) => {
                let size = pool.size().get() >> 20;
                if size / EXTENT + POOL_METADATA > self.free(shape) {
                    return self.refused(Code::NoSpace);
                }
                self.changed(|model| model.put_pool(pool, size))
            }
            Op::DeletePool(pool) => match self.pool(pool) {
                None => self.refused(Code::NotFound),
                Some(found) if !found.volumes.is_empty() => self.refused(Code::Busy),
                Some(_) => self.changed(|model| {
                    if let Some(group) = model.groups.get_mut(&Group::Data) {
                        group.pools.remove(&pool);
                    }
                }),
            },
            Op::CreateVolume(vol) => self.create_volume(vol),
            Op::CreateSnapshot(key) => match (self.volume(Key::volume(key.vol)), self.volume(key)) {
                // A snapshot may outlive its volume; without the volume there is nothing to take one of.
                (None, _) => self.refused(Code::NotFound),
                (Some(_), Some(_)) => self.refused(Code::Exists),
                (Some(origin), None) => {
                    let snapshot = VolumeModel { in_use: false, ..origin.clone() };
                    self.changed(|model| model.put_volume(key, snapshot))
                }
            },
            Op::Delete(key) => match self.volume(key) {
                None => self.refused(Code::NotFound),
                Some(found) if found.in_use => self.refused(Code::Busy),
                Some(_) => self.changed(|model| {
                    let group = model.groups.get_mut(&Group::Data);
                    if let Some(pool) = group.and_then(|group| group.pools.get_mut(&key.vol.pool())) {
                        pool.volumes.remove(&key);
                    }
                }),
            },
            Op::Mount(key) => match self.volume(key) {
                None => self.refused(Code::NotFound),
                Some(found) if found.kind == "raw" => self.refused(Code::Invalid),
                Some(found) if found.in_use => self.same(&[Answer::Unchanged]),
                Some(_) => self.use_it(key, true),
            },
            Op::Unmount(key) => match self.volume(key) {
                None => self.refused(Code::NotFound),
                // A mount that was cut short may have left a device that nobody uses; it is taken away.
                Some(found) if !found.in_use => self.same(&[Answer::Unchanged, Answer::Changed]),
                Some(_) => self.use_it(key, false),
            },
            Op::Attach(vol) => match self.volume(Key::volume(vol)) {
                None => self.refused(Code::NotFound),
                Some(found) if found.kind != "raw" => self.refused(Code::Refused),
                Some(found) if found.in_use => self.same(&[Answer::Unchanged]),
                Some(_) => self.use_it(Key::volume(vol), true),
            },
            Op::Detach(vol) => match self.volume(Key::volume(vol)) {
                None => self.refused(Code::NotFound),
                Some(found) if !found.in_use => self.same(&[Answer::Unchanged]),
                Some(_) => self.use_it(Key::volume(vol), false),
            },
            Op::Write(vol) => match self.volume(Key::volume(vol)) {
                Some(found) if found.in_use => self.changed(|model| {
                    if let Some(volume) = model.volume_mut(Key::volume(vol)) {
                        volume.written = version;
                    }
                }),
                _ => self.same(&[Answer::Failed]),
            },
            Op::Refresh | Op::Scan => self.same(&[Answer::Unchanged]),
        }
    }

    fn create_volume(&self, vol: Vol) -> Outcome {
        let Some(pool) = self.pool(vol.pool()) else { return self.refused(Code::NotFound) };
        if self.volume(Key::volume(vol)).is_some() {
            return self.same(&[Answer::Unchanged]);
        }
        let promised = pool.volumes.iter().filter(|(key, _)| key.snap.is_none()).map(|(_, volume)| volume.size);
        if promised.sum::<u64>() + vol.size().get() > (pool.size << 20) * OVERCOMMIT {
            return self.refused(Code::NoSpace);
        }
        let kind = vol.fs().map_or("raw", vol_types::FsKind::as_str);
        let volume = VolumeModel { size: vol.size().get(), kind, written: 0, in_use: false };
        self.changed(|model| model.put_volume(Key::volume(vol), volume))
    }

    fn use_it(&self, key: Key, in_use: bool) -> Outcome {
        self.changed(|model| {
            if let Some(volume) = model.volume_mut(key) {
                volume.in_use = in_use;
            }
        })
    }

    /// Whether the operation changes anything here.
    pub fn changes(&self, op: Op, shape: Shape) -> bool {
        self.apply(op, shape, 1).answers == [Answer::Changed]
    }

    /// What there may be when the operation failed, or the daemon died in it: all or nothing, and for a request that makes
    /// several objects one after the other, the first ones.
    pub fn cut(&self, op: Op, shape: Shape, version: u32) -> Vec<Self> {
        let after = self.apply(op, shape, version).after;
        let mut allowed = vec![self.clone()];
        if op == Op::Init && after != *self {
            let mut between = self.clone();
            between.groups.insert(Group::Data, GroupModel::default());
            allowed.push(between);
        }
        if after != *self {
            allowed.push(after);
        }
        allowed
    }

    /// What a power cut leaves: nothing is mounted or attached.
    pub fn powered_off(&self) -> Self {
        let mut off = self.clone();
        let pools = off.groups.values_mut().flat_map(|group| group.pools.values_mut());
        pools.flat_map(|pool| pool.volumes.values_mut()).for_each(|volume| volume.in_use = false);
        off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::new(1, 1);

    fn after(ops: &str) -> Model {
        let ops = crate::ops::parse_ops(ops).unwrap();
        ops.iter().fold(Model::default(), |model, op| model.apply(*op, SHAPE, 7).after)
    }

    #[test]
    fn a_volume_that_is_mounted_is_not_deleted_and_its_pool_neither() {
        let model = after("vg-create:data pool-create:tank volume-create:pg mount:pg");
        for op in ["delete:pg", "pool-delete:tank", "vg-delete:data"] {
            assert_eq!(model.apply(op.parse().unwrap(), SHAPE, 1).answers, [Answer::Refused(Code::Busy)], "{op}");
        }
    }

    #[test]
    fn a_snapshot_keeps_what_was_written_before_it() {
        let model =
            after("vg-create:data pool-create:tank volume-create:raw attach:raw write:raw snapshot-create:raw@one");
        let model = model.apply(Op::Write(Vol::Raw), SHAPE, 8).after;
        let key = "snapshot-create:raw@one".parse().unwrap();
        let Op::CreateSnapshot(key) = key else { panic!("{key:?}") };
        assert_eq!((model.volume(key).unwrap().written, model.volume(Key::volume(Vol::Raw)).unwrap().written), (7, 8));
        assert!(!model.powered_off().volume(Key::volume(Vol::Raw)).unwrap().in_use);
    }

    #[test]
    fn an_init_that_was_cut_short_may_leave_the_group_alone() {
        assert_eq!(Model::default().cut(Op::Init, SHAPE, 1).len(), 3);
        assert_eq!(Model::default().cut(Op::CreateVg(Group::Data), SHAPE, 1).len(), 2);
        let full = after("init");
        assert_eq!(full.apply(Op::CreatePool(Pool::Spare), SHAPE, 1).answers, [Answer::Refused(Code::NoSpace)]);
    }
}
