//! A volume group's metadata as a document: what `vg backup` writes and `vg restore` reads.
//!
//! JSON with a format version and a checksum. The content holds every field of every object, ids included, and how each PV is
//! laid out, so that labels and metadata can be written anew on empty or damaged disks. Only a group in which nothing is
//! half done is backed up: whether something half done was finished since, a backup could not know.
//!
//! [`parse`] is pure and strict: an unknown key, a wrong checksum, an id that is not written as an id is refused.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vol_types::{
    Backing, Bytes, CloneOf, Content as VolumeContent, Extents, FsKind, Growth, Label, Labels, Name, Object, Placement,
    Pool, PoolState, Pv, PvId, Segment, Snapshot, Thick, Vg, VgState, Volume, VolumeState, WhenFull, limit,
};

/// Says what the document is.
pub const FORMAT: &str = "volumed vg backup";
/// The only version so far.
pub const FORMAT_VERSION: u32 = 1;
/// The largest document that is read: about 600,000 volumes.
pub const BACKUP_MAX_BYTES: usize = 256 << 20;

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// `volumed vg backup`.
    pub format: String,
    /// 1, the only one so far.
    pub format_version: u32,
    /// BLAKE3 in hexadecimal over `content` as compact JSON with the keys in the order of the types here.
    pub checksum: String,
    pub content: Content,
}

/// What was backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BackupContent")]
pub struct Content {
    /// For people.
    pub written_at: String,
    /// Version of the volumed that wrote it; for people.
    pub volumed_version: String,
    /// Sequence number of the commit that it shows.
    pub sequence: u64,
    pub vg: VgRecord,
    pub pvs: Vec<PvRecord>,
    pub pools: Vec<PoolRecord>,
    pub volumes: Vec<VolumeRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VgRecord {
    pub id: String,
    pub name: String,
    pub extent_size_bytes: u64,
    pub sector_size_bytes: u32,
    pub metadata_copies: u16,
    /// Seconds since 1970, as in the metadata.
    pub created_at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PvRecord {
    pub id: String,
    pub path_hint: String,
    pub device_size_bytes: u64,
    pub data_offset_bytes: u64,
    pub extents: u64,
    pub metadata: bool,
    pub backing_file: Option<String>,
    pub hardware_id: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    pub layout: LayoutRecord,
}

/// Where everything stands on a PV, in bytes from its start (`docs/spec/on-disk-format.md`, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayoutRecord {
    pub area_offset_bytes: u64,
    pub label_offsets_bytes: [u64; 2],
    pub log_offset_bytes: u64,
    pub log_len_bytes: u64,
    pub checkpoint_offsets_bytes: [u64; 2],
    pub checkpoint_len_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentRecord {
    pub pv: String,
    pub start: u64,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolRecord {
    pub id: String,
    pub name: String,
    pub chunk_size_bytes: u64,
    pub transaction_id: u64,
    pub next_thin_id: u32,
    pub snapshots_made: u32,
    pub overcommit_percent: u32,
    pub data: Vec<SegmentRecord>,
    pub metadata: Vec<SegmentRecord>,
    pub created_at: u64,
    pub growth: GrowthRecord,
    /// Whether writes fail at once when the pool is full.
    pub error_when_full: bool,
    pub reserve_percent: u32,
    /// Metadata that a repair replaced and that are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub original: Vec<SegmentRecord>,
    #[serde(default, skip_serializing_if = "PlacementRecord::is_anywhere")]
    pub placement: PlacementRecord,
}

/// Which PVs a pool may lie on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacementRecord {
    /// Ids; empty: all.
    pub on: Vec<String>,
    pub not_on: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

impl PlacementRecord {
    fn is_anywhere(&self) -> bool {
        *self == Self::default()
    }
}

/// How far the data of a pool grow by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
pub enum GrowthRecord {
    VgSpace,
    UpTo { size_bytes: u64 },
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeRecord {
    pub id: String,
    pub name: String,
    /// Of a thin volume, as is `thin_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thin_id: Option<u32>,
    /// Of a thick volume, which has no pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thick: Option<ThickRecord>,
    pub size_bytes: u64,
    pub content: ContentRecord,
    pub snapshot: Option<SnapshotRecord>,
    pub created_at: u64,
    pub labels: BTreeMap<String, String>,
    pub protected: bool,
    pub clone_of: Option<CloneRecord>,
    pub reserve_bytes: u64,
    pub check_fs: bool,
    /// Seconds since 1970; of a volume that was deleted and is kept.
    pub deleted_at: Option<u64>,
    /// The directory of its file system that is mounted, if that is not the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<String>,
}

/// The extents of a thick volume that is filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThickRecord {
    pub segments: Vec<SegmentRecord>,
    pub stripes: u16,
    /// Zero for a linear volume.
    pub stripe_size_bytes: u64,
    pub filled_bytes: u64,
}

/// What a clone was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneRecord {
    pub of: String,
    pub volume: String,
    pub snapshot: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
pub enum ContentRecord {
    Blank,
    Formatting { fs: String, uuid: String },
    Formatted { fs: String, uuid: String },
    Raw,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRecord {
    pub of: String,
    pub of_name: String,
}

/// Why a document is no backup to be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("it has {0} bytes; a backup has at most {BACKUP_MAX_BYTES}")]
    TooLarge(usize),
    #[error("it is no JSON document of a backup: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it says {0:?} where {FORMAT:?} belongs")]
    Format(String),
    #[error("it has format version {0}, this release reads {FORMAT_VERSION}")]
    Version(u32),
    #[error("its checksum does not match its content: it was changed or damaged")]
    Checksum,
    #[error("{what}: {why}")]
    Field { what: String, why: String },
    /// What cannot be written as a document.
    #[error("{0} is in the middle of a change")]
    Unfinished(String),
}

/// A document that was read and found sound in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub content: Content,
    /// The objects of the group, which is ready.
    pub objects: Vec<Object>,
}

/// The parts of a document that every version has.
#[derive(Deserialize)]
struct Head {
    format: String,
    format_version: u32,
}

/// Reads a document.
///
/// # Errors
/// Anything that is not exactly what [`Backup::new`] writes; nothing is guessed.
pub fn parse(bytes: &[u8]) -> Result<Parsed, BackupError> {
    if bytes.len() > BACKUP_MAX_BYTES {
        return Err(BackupError::TooLarge(bytes.len()));
    }
    let head: Head = serde_json::from_slice(bytes)?;
    if head.format != FORMAT {
        return Err(BackupError::Format(head.format));
    }
    if head.format_version != FORMAT_VERSION {
        return Err(BackupError::Version(head.format_version));
    }
    let backup: Backup = serde_json::from_slice(bytes)?;
    if backup.checksum != checksum(&backup.content)? {
        return Err(BackupError::Checksum);
    }
    let objects = backup.content.objects()?;
    Ok(Parsed { content: backup.content, objects })
}

fn checksum(content: &Content) -> Result<String, BackupError> {
    Ok(blake3::hash(&serde_json::to_vec(content)?).to_hex().to_string())
}

fn wrong(what: impl Into<String>, why: impl ToString) -> BackupError {
    BackupError::Field { what: what.into(), why: why.to_string() }
}

/// An id in the one way in which it is written.
fn id<T: std::str::FromStr + ToString>(what: &str, text: &str) -> Result<T, BackupError> {
    let id = text.parse::<T>().ok().filter(|id| id.to_string() == text);
    id.ok_or_else(|| wrong(what, format!("{text:?} is no id")))
}

fn name(what: &str, text: &str) -> Result<Name, BackupError> {
    Name::new(text).map_err(|error| wrong(what, error))
}

impl Backup {
    /// The document of these objects. `layouts` tells how each PV is laid out.
    ///
    /// # Errors
    /// [`BackupError::Unfinished`] if an object is being made, changed or deleted; [`BackupError::Field`] if a PV has no layout.
    pub fn new(
        sequence: u64,
        written_at: String,
        volumed_version: String,
        objects: &[Object],
        layouts: impl Fn(PvId) -> Option<LayoutRecord>,
    ) -> Result<Self, BackupError> {
        let mut group = None;
        let (mut pvs, mut pools, mut volumes) = (Vec::new(), Vec::new(), Vec::new());
        for object in objects {
            match object {
                Object::Vg(vg) => group = Some(vg_record(vg)?),
                Object::Pv(pv) => {
                    let layout = layouts(pv.id).ok_or_else(|| wrong(&pv.path_hint, "its layout is not known"))?;
                    pvs.push(pv_record(pv, layout));
                }
                Object::Pool(pool) => pools.push(pool_record(pool)?),
                Object::Volume(volume) => volumes.push(volume_record(volume)?),
                Object::Intent(_) => return Err(BackupError::Unfinished("a pool".to_owned())),
            }
        }
        let vg = group.ok_or_else(|| wrong("vg", "there is none"))?;
        let content = Content { written_at, volumed_version, sequence, vg, pvs, pools, volumes };
        let checksum = checksum(&content)?;
        Ok(Self { format: FORMAT.to_owned(), format_version: FORMAT_VERSION, checksum, content })
    }
}

fn vg_record(vg: &Vg) -> Result<VgRecord, BackupError> {
    if !matches!(vg.state, VgState::Ready | VgState::Exported) {
        return Err(BackupError::Unfinished(format!("volume group {}", vg.name)));
    }
    Ok(VgRecord {
        id: vg.id.to_string(),
        name: vg.name.to_string(),
        extent_size_bytes: vg.extent_size.get(),
        sector_size_bytes: vg.sector_size,
        metadata_copies: vg.metadata_copies,
        created_at: vg.created_at,
    })
}

/// Where its copy was left is not told: a restoration writes all copies anew.
fn pv_record(pv: &Pv, layout: LayoutRecord) -> PvRecord {
    PvRecord {
        id: pv.id.to_string(),
        path_hint: pv.path_hint.clone(),
        device_size_bytes: pv.device_size.get(),
        data_offset_bytes: pv.data_offset.get(),
        extents: pv.extents.get(),
        metadata: pv.metadata,
        backing_file: pv.backing_file.clone(),
        hardware_id: pv.hardware_id.clone(),
        labels: label_map(&pv.labels),
        layout,
    }
}

fn segment_records(segments: &[Segment]) -> Vec<SegmentRecord> {
    let record = |segment: &Segment| SegmentRecord {
        pv: segment.pv.to_string(),
        start: segment.start.get(),
        count: segment.count.get(),
    };
    segments.iter().map(record).collect()
}

fn pool_record(pool: &Pool) -> Result<PoolRecord, BackupError> {
    if pool.state != PoolState::Ready || pool.repair.is_some() {
        return Err(BackupError::Unfinished(format!("pool {}", pool.name)));
    }
    Ok(PoolRecord {
        id: pool.id.to_string(),
        name: pool.name.to_string(),
        chunk_size_bytes: pool.chunk_size.get(),
        transaction_id: pool.transaction_id,
        next_thin_id: pool.next_thin_id,
        snapshots_made: pool.snapshots_made,
        overcommit_percent: pool.overcommit_percent,
        data: segment_records(&pool.data),
        metadata: segment_records(&pool.metadata),
        created_at: pool.created_at,
        growth: match pool.growth {
            Growth::VgSpace => GrowthRecord::VgSpace,
            Growth::UpTo(size) => GrowthRecord::UpTo { size_bytes: size.get() },
            Growth::Off => GrowthRecord::Off,
        },
        error_when_full: pool.when_full == WhenFull::Error,
        reserve_percent: pool.reserve_percent,
        original: segment_records(&pool.original),
        placement: PlacementRecord {
            on: pool.placement.on.iter().map(ToString::to_string).collect(),
            not_on: pool.placement.not_on.iter().map(ToString::to_string).collect(),
            labels: label_map(&pool.placement.labels),
        },
    })
}

fn volume_record(volume: &Volume) -> Result<VolumeRecord, BackupError> {
    if !volume.state.is_settled() {
        return Err(BackupError::Unfinished(format!("volume {}", volume.name)));
    }
    let uuid = |uuid: &[u8; 16]| vol_types::VolumeId::from_bytes(*uuid).to_string();
    Ok(VolumeRecord {
        id: volume.id.to_string(),
        name: volume.name.to_string(),
        pool: volume.pool().map(|pool| pool.to_string()),
        thin_id: volume.thin_id(),
        thick: volume.thick().map(|thick| ThickRecord {
            segments: segment_records(&thick.segments),
            stripes: thick.stripes,
            stripe_size_bytes: thick.stripe_size.get(),
            filled_bytes: thick.filled.get(),
        }),
        size_bytes: volume.size.get(),
        content: match &volume.content {
            VolumeContent::Blank => ContentRecord::Blank,
            VolumeContent::Raw => ContentRecord::Raw,
            VolumeContent::Formatting { fs, uuid: id } => {
                ContentRecord::Formatting { fs: fs.as_str().to_owned(), uuid: uuid(id) }
            }
            VolumeContent::Formatted { fs, uuid: id } => {
                ContentRecord::Formatted { fs: fs.as_str().to_owned(), uuid: uuid(id) }
            }
        },
        snapshot: volume
            .snapshot
            .as_ref()
            .map(|snapshot| SnapshotRecord { of: snapshot.of.to_string(), of_name: snapshot.of_name.to_string() }),
        created_at: volume.created_at,
        labels: label_map(&volume.labels),
        protected: volume.protected,
        clone_of: volume.clone_of.as_ref().map(|of| CloneRecord {
            of: of.id.to_string(),
            volume: of.volume.to_string(),
            snapshot: of.snapshot.as_ref().map(Name::to_string),
        }),
        reserve_bytes: volume.reserve.get(),
        check_fs: volume.check_fs,
        deleted_at: volume.deleted_at,
        subdir: volume.subdir.as_deref().map(Name::to_string),
    })
}

impl Content {
    /// The objects, in the order of the document. That they fit together is for the catalog to judge.
    fn objects(&self) -> Result<Vec<Object>, BackupError> {
        if self.pvs.is_empty() || self.pvs.len() > limit::PVS_PER_VG_MAX {
            return Err(wrong("pvs", format!("a volume group has 1 to {} PVs", limit::PVS_PER_VG_MAX)));
        }
        if self.sequence == 0 || self.sequence > u64::MAX / 2 {
            return Err(wrong("sequence", "it is out of bounds"));
        }
        let vg = &self.vg;
        let mut objects = vec![Object::Vg(Vg {
            id: id("vg.id", &vg.id)?,
            name: name("vg.name", &vg.name)?,
            state: VgState::Ready,
            extent_size: Bytes(vg.extent_size_bytes),
            sector_size: vg.sector_size_bytes,
            metadata_copies: vg.metadata_copies,
            created_at: vg.created_at,
        })];
        for pv in &self.pvs {
            objects.push(Object::Pv(pv.object()?));
        }
        for pool in &self.pools {
            objects.push(Object::Pool(pool.object()?));
        }
        for volume in &self.volumes {
            objects.push(Object::Volume(volume.object()?));
        }
        let mut keys: Vec<_> = objects.iter().map(Object::key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(wrong("content", "an id is there twice"));
        }
        Ok(objects)
    }
}

impl PvRecord {
    fn object(&self) -> Result<Pv, BackupError> {
        let text = |what: &str, text: &str| match text.len() {
            0..=4096 => Ok(text.to_owned()),
            _ => Err(wrong(what, "it has more than 4096 bytes")),
        };
        Ok(Pv {
            id: id("pvs.id", &self.id)?,
            path_hint: text("pvs.path_hint", &self.path_hint)?,
            device_size: Bytes(self.device_size_bytes),
            data_offset: Bytes(self.data_offset_bytes),
            extents: Extents(self.extents),
            metadata: self.metadata,
            backing_file: self.backing_file.as_deref().map(|file| text("pvs.backing_file", file)).transpose()?,
            hardware_id: text("pvs.hardware_id", &self.hardware_id)?,
            left: Vec::new(),
            labels: labels("pvs.labels", &self.labels)?,
        })
    }
}

fn label_map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn labels(what: &str, wanted: &BTreeMap<String, String>) -> Result<Labels, BackupError> {
    let mut labels = Labels::default();
    for (key, value) in wanted {
        let label = Label::new(key, value).map_err(|error| wrong(what, error))?;
        labels.set(label).map_err(|error| wrong(what, error))?;
    }
    Ok(labels)
}

impl PlacementRecord {
    fn object(&self) -> Result<Placement, BackupError> {
        let pvs = |what: &str, list: &[String]| {
            if list.len() > limit::PLACEMENT_PVS_MAX {
                return Err(wrong(what, format!("it names more than {}", limit::PLACEMENT_PVS_MAX)));
            }
            list.iter().map(|pv| id(what, pv)).collect()
        };
        Ok(Placement {
            on: pvs("pools.placement.on", &self.on)?,
            not_on: pvs("pools.placement.not_on", &self.not_on)?,
            labels: labels("pools.placement.labels", &self.labels)?,
        })
    }
}

fn segments(what: &str, records: &[SegmentRecord]) -> Result<Vec<Segment>, BackupError> {
    let segment = |record: &SegmentRecord| {
        Ok(Segment { pv: id(what, &record.pv)?, start: Extents(record.start), count: Extents(record.count) })
    };
    records.iter().map(segment).collect()
}

impl PoolRecord {
    fn object(&self) -> Result<Pool, BackupError> {
        Ok(Pool {
            id: id("pools.id", &self.id)?,
            name: name("pools.name", &self.name)?,
            state: PoolState::Ready,
            chunk_size: Bytes(self.chunk_size_bytes),
            transaction_id: self.transaction_id,
            next_thin_id: self.next_thin_id,
            snapshots_made: self.snapshots_made,
            overcommit_percent: self.overcommit_percent,
            data: segments("pools.data", &self.data)?,
            metadata: segments("pools.metadata", &self.metadata)?,
            created_at: self.created_at,
            growth: match self.growth {
                GrowthRecord::VgSpace => Growth::VgSpace,
                GrowthRecord::UpTo { size_bytes: 0 } => return Err(wrong("pools.growth", "its bound is zero")),
                GrowthRecord::UpTo { size_bytes } => Growth::UpTo(Bytes(size_bytes)),
                GrowthRecord::Off => Growth::Off,
            },
            when_full: if self.error_when_full { WhenFull::Error } else { WhenFull::Queue },
            reserve_percent: self.reserve_percent,
            repair: None,
            original: segments("pools.original", &self.original)?,
            placement: Box::new(self.placement.object()?),
        })
    }
}

impl VolumeRecord {
    fn object(&self) -> Result<Volume, BackupError> {
        let formatted = |fs: &str, uuid: &str| -> Result<(FsKind, [u8; 16]), BackupError> {
            let fs = match fs {
                "ext4" => FsKind::Ext4,
                "xfs" => FsKind::Xfs,
                "btrfs" => FsKind::Btrfs,
                other => return Err(wrong("volumes.content.fs", format!("{other:?} is not known"))),
            };
            Ok((fs, *id::<vol_types::VolumeId>("volumes.content.uuid", uuid)?.as_bytes()))
        };
        let content = match &self.content {
            ContentRecord::Blank => VolumeContent::Blank,
            ContentRecord::Raw => VolumeContent::Raw,
            ContentRecord::Formatting { fs, uuid } => {
                let (fs, uuid) = formatted(fs, uuid)?;
                VolumeContent::Formatting { fs, uuid }
            }
            ContentRecord::Formatted { fs, uuid } => {
                let (fs, uuid) = formatted(fs, uuid)?;
                VolumeContent::Formatted { fs, uuid }
            }
        };
        let snapshot = |record: &SnapshotRecord| {
            Ok::<_, BackupError>(Snapshot {
                of: id("volumes.snapshot.of", &record.of)?,
                of_name: name("volumes.snapshot.of_name", &record.of_name)?,
            })
        };
        let clone_of = |record: &CloneRecord| {
            let snapshot =
                record.snapshot.as_deref().map(|text| name("volumes.clone_of.snapshot", text)).transpose()?;
            Ok::<_, BackupError>(CloneOf {
                id: id("volumes.clone_of.of", &record.of)?,
                volume: name("volumes.clone_of.volume", &record.volume)?,
                snapshot,
            })
        };
        let labels = labels("volumes.labels", &self.labels)?;
        let backing = match (&self.pool, self.thin_id, &self.thick) {
            (Some(pool), Some(thin_id), None) => Backing::Thin { pool: id("volumes.pool", pool)?, thin_id },
            (None, None, Some(thick)) => Backing::Thick(Box::new(Thick {
                segments: segments("volumes.thick.segments", &thick.segments)?,
                stripes: thick.stripes,
                stripe_size: Bytes(thick.stripe_size_bytes),
                filled: Bytes(thick.filled_bytes),
                wanted: None,
            })),
            _ => return Err(wrong("volumes.pool", "a volume has either a pool and a thin id, or is thick".to_owned())),
        };
        Ok(Volume {
            id: id("volumes.id", &self.id)?,
            name: name("volumes.name", &self.name)?,
            backing,
            size: Bytes(self.size_bytes),
            state: if self.deleted_at.is_some() { VolumeState::Deleted } else { VolumeState::Ready },
            content,
            snapshot: self.snapshot.as_ref().map(snapshot).transpose()?,
            created_at: self.created_at,
            labels,
            protected: self.protected,
            clone_of: self.clone_of.as_ref().map(clone_of).transpose()?.map(Box::new),
            reserve: Bytes(self.reserve_bytes),
            check_fs: self.check_fs,
            deleted_at: self.deleted_at,
            subdir: self.subdir.as_deref().map(|text| name("volumes.subdir", text)).transpose()?.map(Box::new),
        })
    }
}

#[cfg(test)]
mod tests;
