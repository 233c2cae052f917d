//! The passive objects of a volume group, as the catalog holds them and as the disks record them.
//!
//! These are plain values: what may follow what is `vol-core`'s to decide, and which bytes stand for them is
//! `vol-format`'s. Adding a field here changes neither until those two say so.

use crate::id::{IntentId, PoolId, PvId, VgId, VolumeId};
use crate::label::Labels;
use crate::name::Name;
use crate::unit::{Bytes, Extents};

/// A volume group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vg {
    pub id: VgId,
    pub name: Name,
    pub state: VgState,
    /// Allocation unit, fixed for life; a power of two between `limit::EXTENT_SIZE_MIN` and `_MAX`.
    pub extent_size: Bytes,
    /// Logical sector size of every PV, fixed for life (512 or 4096): a table that mixes them cannot be loaded.
    pub sector_size: u32,
    /// How many PVs carry a copy of the metadata, if there are so many.
    pub metadata_copies: u16,
    /// Wall clock at creation, seconds since 1970; for display only, nothing is ordered by it.
    pub created_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VgState {
    /// Some PVs may not carry their label yet; nothing was acknowledged. Recovery takes it apart.
    Creating,
    Ready,
    /// To be deleted; nothing is erased yet. Recovery goes on with that once a majority of the copies says so.
    Deleting,
    /// A majority says *deleting*, so this can be said: marks and labels are being erased. Any one copy that says it is
    /// enough to go on, whatever became of the others.
    Erasing,
    /// Whole, but meant for another machine: nothing of it is activated or changed until it is imported.
    Exported,
}

impl VgState {
    /// Neither half made nor half taken apart.
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Ready | Self::Exported)
    }
}

/// A physical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pv {
    pub id: PvId,
    /// Path at the time it joined, for messages when it is missing; never used to find it.
    pub path_hint: String,
    /// Usable size of the device in bytes at the time it joined.
    pub device_size: Bytes,
    /// Where extent 0 begins, in bytes from the start of the device.
    pub data_offset: Bytes,
    pub extents: Extents,
    /// Whether it carries a copy of the metadata.
    pub metadata: bool,
    /// The image file behind it, if the daemon made one; attached to a loop device at start.
    pub backing_file: Option<String>,
    /// WWID or serial as the kernel told it, to tell the disk from its clone; empty if it has none.
    pub hardware_id: String,
    /// Set while the VG goes on without this PV's copy: every point at which that copy may have been left, so that it
    /// can be shown to be old when it comes back. At most [`crate::limit::LEFT_POINTS_MAX`].
    pub left: Vec<CommitPoint>,
    /// For people, and for [`Placement::labels`].
    pub labels: Labels,
}

/// A point of a VG's history: what the chain of commits was at a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitPoint {
    pub sequence: u64,
    /// Chain hash there.
    pub hash: [u8; 32],
}

/// A run of extents on one PV that a logical device uses; the runs of a device follow each other without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub pv: PvId,
    pub start: Extents,
    pub count: Extents,
}

/// A thin pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub id: PoolId,
    pub name: Name,
    pub state: PoolState,
    /// Chunk ("block") size, fixed for life.
    pub chunk_size: Bytes,
    /// The kernel's transaction id as of the last commit that says so.
    pub transaction_id: u64,
    /// Next thin id to hand out. Only ever grows: an id is never used twice, not even after a crash.
    pub next_thin_id: u32,
    /// `create_snap` messages in the pool's life; see `limit::POOL_SNAPSHOTS_MAX`.
    pub snapshots_made: u32,
    /// The sum of the volumes' sizes may not exceed this share of the data size.
    pub overcommit_percent: u32,
    pub data: Vec<Segment>,
    pub metadata: Vec<Segment>,
    pub created_at: u64,
    pub growth: Growth,
    pub when_full: WhenFull,
    /// With no more than this share of its data free, in percent, the pool makes no new volumes and snapshots.
    pub reserve_percent: u32,
    /// Set while the pool is kept down for its metadata to be looked at: the extents that they are written to anew, none for a
    /// look alone. Not acknowledged; recovery takes it back.
    pub repair: Option<Vec<Segment>>,
    /// The metadata that a repair replaced, as they were. Kept until an operator gives them up; empty for none.
    pub original: Vec<Segment>,
    /// Where its data and metadata lie, and grow.
    pub placement: Box<Placement>,
}

impl Pool {
    /// All extents that are the pool's, whatever for.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> + Clone {
        let onto = self.repair.as_deref().unwrap_or_default();
        self.data.iter().chain(&self.metadata).chain(onto).chain(&self.original)
    }
}

/// Which PVs something may lie on. Usually all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// These alone; empty: all. At most [`crate::limit::PLACEMENT_PVS_MAX`].
    pub on: Vec<PvId>,
    /// Not these, of the others. At most as many.
    pub not_on: Vec<PvId>,
    /// Those alone that have all of these labels now, each with this value.
    pub labels: Labels,
}

impl Placement {
    pub fn is_anywhere(&self) -> bool {
        self.on.is_empty() && self.not_on.is_empty() && self.labels.is_empty()
    }
    pub fn allows(&self, pv: &Pv) -> bool {
        (self.on.is_empty() || self.on.contains(&pv.id))
            && !self.not_on.contains(&pv.id)
            && self.labels.iter().all(|(key, value)| pv.labels.get(key) == Some(value))
    }
    /// The same without PVs that leave the VG; `None` if it names none of them. If all leave that it may lie on these stay named:
    /// naming none would allow all others.
    pub fn without(&self, leaves: impl Fn(PvId) -> bool) -> Option<Self> {
        let staying = |pvs: &[PvId]| pvs.iter().copied().filter(|pv| !leaves(*pv)).collect::<Vec<_>>();
        let (mut on, not_on) = (staying(&self.on), staying(&self.not_on));
        if on.is_empty() {
            on.clone_from(&self.on);
        }
        let without = Self { on, not_on, labels: self.labels.clone() };
        (without != *self).then_some(without)
    }
}

/// How far a pool's data grow by themselves, out of the free extents of its VG. The metadata grow with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Growth {
    /// As far as there is space in the VG.
    #[default]
    VgSpace,
    /// Up to this size of the data; above zero.
    UpTo(Bytes),
    Off,
}

/// What becomes of writes that find no free chunk (`thin-provisioning.rst`, `error_if_no_space`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They wait for space, as long as the kernel lets them (60 s unless its `no_space_timeout` says otherwise).
    #[default]
    Queue,
    /// They fail at once.
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolState {
    /// Extents are taken, the kernel's metadata may not be written yet; recovery gives the extents back.
    Creating,
    Ready,
    /// Recovery goes on with the removal.
    Deleting,
}

/// A volume, thin or thick, or a snapshot of a thin one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub id: VolumeId,
    /// `VOLUME`, or for a snapshot `SNAPSHOT` alone: the volume's name stands in [`Snapshot::of_name`].
    pub name: Name,
    pub backing: Backing,
    /// Size in bytes: of a thin volume a multiple of the pool's chunk size (the pool itself knows no sizes), of a thick one whole rows of
    /// extents.
    pub size: Bytes,
    pub state: VolumeState,
    pub content: Content,
    /// Set for a snapshot, which is read-only.
    pub snapshot: Option<Snapshot>,
    pub created_at: u64,
    pub labels: Labels,
    /// Not to be deleted, and not to be rolled back, until that is taken away.
    pub protected: bool,
    /// What a clone was made from.
    pub clone_of: Option<Box<CloneOf>>,
    /// Bytes of the pool's data that are kept for this volume whatever the others do; zero for none, never above `size`.
    pub reserve: Bytes,
    /// Its pool was repaired, so its file system is checked before it is mounted again.
    pub check_fs: bool,
    /// When it was deleted, in seconds since 1970: set in the state [`VolumeState::Deleted`] alone.
    pub deleted_at: Option<u64>,
    /// The directory in the root of its file system that is what is mounted; `None`: the root itself.
    pub subdir: Option<Box<Name>>,
}

/// Where a volume's data are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// In a pool, which gives it space as it is written to.
    Thin { pool: PoolId, thin_id: u32 },
    /// In extents of its own. Boxed, because there may be a hundred thousand of the others.
    Thick(Box<Thick>),
}

/// The extents of a thick volume, and how far they are ready to be handed out.
///
/// Nobody can read of it what others wrote there before: all of it is wiped (of a clone: written) first, from its beginning to its end,
/// and `filled` says durably how far that has come. Up to [`Volume::size`] a volume that is ready is filled; what its segments have
/// beyond is being wiped for a growth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thick {
    /// In rows of `stripes` segments of equal count; the rows follow each other without gaps.
    pub segments: Vec<Segment>,
    /// How many PVs share each row; 1 for a linear volume.
    pub stripes: u16,
    /// How much goes to one PV before it is the next one's turn: a power of two from `limit::STRIPE_SIZE_MIN` to the VG's extent size;
    /// zero for a linear volume.
    pub stripe_size: Bytes,
    /// Bytes from the beginning of the segments.
    pub filled: Bytes,
    /// The file system that it is to be given when it is filled; for one that is just being made.
    pub wanted: Option<FsKind>,
}

impl Thick {
    /// Bytes of all segments, in a VG with extents of this size; saturates.
    pub fn capacity(&self, extent_size: Bytes) -> Bytes {
        let extents: Extents = self.segments.iter().map(|segment| segment.count).sum();
        extents.to_bytes(extent_size).unwrap_or(Bytes(u64::MAX))
    }
}

impl Volume {
    /// The pool of a thin volume or of a snapshot.
    pub const fn pool(&self) -> Option<PoolId> {
        match self.backing {
            Backing::Thin { pool, .. } => Some(pool),
            Backing::Thick(_) => None,
        }
    }
    /// The thin id of a thin volume or of a snapshot.
    pub const fn thin_id(&self) -> Option<u32> {
        match self.backing {
            Backing::Thin { thin_id, .. } => Some(thin_id),
            Backing::Thick(_) => None,
        }
    }
    pub const fn thick(&self) -> Option<&Thick> {
        match &self.backing {
            Backing::Thin { .. } => None,
            Backing::Thick(thick) => Some(thick),
        }
    }
}

/// What a clone was made from. That may be gone since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneOf {
    pub id: VolumeId,
    pub volume: Name,
    /// `None`: of the volume itself.
    pub snapshot: Option<Name>,
}

/// What a snapshot was taken of. The volume may be gone since; its name stays part of the snapshot's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub of: VolumeId,
    pub of_name: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// Not acknowledged yet; recovery takes it back.
    Creating,
    Ready,
    /// Tombstone: the deletion was accepted, recovery finishes it.
    Deleting,
    /// Deleted, and kept for a while: its name is free, its data are all there, and it can be taken back.
    Deleted,
}

impl VolumeState {
    /// Nothing is half done: recovery has nothing to do with it.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Ready | Self::Deleted)
    }
    /// It has its name; one that is deleted or being deleted has given it back.
    pub const fn has_name(self) -> bool {
        matches!(self, Self::Creating | Self::Ready)
    }
}

/// Whether something may be formatted is answered here and nowhere else: mkfs runs only on the way from `Blank`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing was written by us, and nobody has had it yet.
    Blank,
    /// mkfs may have run in part. Never mounted, never formatted again: such a volume is discarded.
    Formatting {
        fs: FsKind,
        uuid: [u8; 16],
    },
    Formatted {
        fs: FsKind,
        uuid: [u8; 16],
    },
    /// Handed out as a raw block device: what is in it is the user's.
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FsKind {
    Ext4,
    Xfs,
    Btrfs,
}

impl FsKind {
    /// The name that mkfs, mount and people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
    /// The smallest volume we format: below it mkfs refuses or the result holds no data
    /// (`mkfs.xfs`: 300 MiB since xfsprogs 5.19; `mkfs.btrfs`: 109 MiB; ext4: room for a journal).
    pub const fn size_min(self) -> Bytes {
        match self {
            Self::Ext4 => Bytes::mib(8),
            Self::Xfs => Bytes::mib(300),
            Self::Btrfs => Bytes::mib(128),
        }
    }
    /// The largest file system of this kind (`ext4(5)`: 1 EiB with 64-bit blocks; XFS and btrfs: the device's limit).
    pub const fn size_max(self) -> Bytes {
        match self {
            Self::Ext4 => Bytes(1 << 60),
            Self::Xfs | Self::Btrfs => crate::limit::VOLUME_SIZE_MAX,
        }
    }
}

/// A durable record that pool messages are about to be sent: the pool's transaction id goes from `from` to `from + 1`
/// once all of `ops` are done. What recovery makes of it is `docs/spec/pool-transactions.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    pub id: IntentId,
    pub pool: PoolId,
    pub from: u64,
    pub ops: Vec<ThinOp>,
}

/// One pool message, named by the volume it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinOp {
    Create {
        volume: VolumeId,
        thin_id: u32,
    },
    Snapshot {
        volume: VolumeId,
        thin_id: u32,
        origin_thin_id: u32,
    },
    Delete {
        volume: VolumeId,
        thin_id: u32,
    },
    /// As `Snapshot`, for a helper: once the transaction is over it exchanges thin ids with the volume that it names as its origin, and
    /// is deleted.
    Rollback {
        volume: VolumeId,
        thin_id: u32,
        origin_thin_id: u32,
    },
}

/// One object of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    Vg(Vg),
    Pv(Pv),
    Pool(Pool),
    Volume(Volume),
    Intent(Intent),
}

/// The key of an object: ids are unique over all kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    Vg(VgId),
    Pv(PvId),
    Pool(PoolId),
    Volume(VolumeId),
    Intent(IntentId),
}

impl Object {
    pub const fn key(&self) -> ObjectKey {
        match self {
            Self::Vg(vg) => ObjectKey::Vg(vg.id),
            Self::Pv(pv) => ObjectKey::Pv(pv.id),
            Self::Pool(pool) => ObjectKey::Pool(pool.id),
            Self::Volume(volume) => ObjectKey::Volume(volume.id),
            Self::Intent(intent) => ObjectKey::Intent(intent.id),
        }
    }
}

/// One change of the catalog. A commit is a list of changes that become durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object is as given from now on, whether it was there before or not.
    Put(Object),
    /// The object is gone. Deleting what is not there changes nothing.
    Delete(ObjectKey),
}

impl Change {
    /// The object that it changes.
    pub const fn key(&self) -> ObjectKey {
        match self {
            Self::Put(object) => object.key(),
            Self::Delete(key) => *key,
        }
    }
}
