//! The body of each kind of object: its fields, their tags, and the numbers of its enumerations.
//!
//! Zero is no valid kind, code or tag, so that zeroed bytes never read as something. A number once given out keeps its
//! meaning; a new one needs a feature bit (FMT-30). Whether values make sense together (a chunk size in range, a segment
//! on its PV) is for the catalog to judge, not for this file.

use vol_types::{
    Backing, Bytes, CloneOf, CommitPoint, Content, Extents, FsKind, Growth, Intent, IntentId, Label, Labels, Name,
    Object, Placement, Pool, PoolId, PoolState, Pv, PvId, Segment, Snapshot, Thick, ThinOp, Vg, VgId, VgState, Volume,
    VolumeId, VolumeState, WhenFull, limit,
};

use crate::feature::Access;
use crate::payload::{EncodeError, Malformed};
use crate::tlv::{Body, Fields, Reader, Tag, name, string};

/// Bytes of a segment: PV id, first extent, number of extents.
pub const SEGMENT_LEN: usize = 32;
/// Bytes of a pool message: code, thin id, origin's thin id, volume id.
pub const THIN_OP_LEN: usize = 32;
const _: () = assert!(SEGMENT_LEN == 16 + 8 + 8 && THIN_OP_LEN == 1 + 3 + 4 + 4 + 4 + 16);

macro_rules! kinds {
    ($($number:literal $module:ident $kind:literal: $($tag:literal $name:ident)*;)*) => {
        /// Every kind with its number, its name and its fields.
        pub const KINDS: &[(u8, &str, &[Tag])] = &[$(($module::KIND, $kind, $module::TAGS)),*];
        $(
            #[allow(non_upper_case_globals)]
            pub(crate) mod $module {
                use super::Tag;
                pub const KIND: u8 = $number;
                pub const NAME: &str = $kind;
                $(pub const $name: Tag = Tag { number: $tag, name: concat!($kind, " ", stringify!($name)) };)*
                pub const TAGS: &[Tag] = &[$($name),*];
            }
        )*
    };
}

kinds! {
    1 vg "vg": 1 id 2 name 3 state 4 extent_size 5 sector_size 6 metadata_copies 7 created_at;
    2 pv "pv": 1 id 2 path_hint 3 device_size 4 data_offset 5 extents 6 metadata 7 backing_file 8 hardware_id 9 left 10 labels;
    3 pool "pool": 1 id 2 name 3 state 4 chunk_size 5 transaction_id 6 next_thin_id 7 snapshots_made
        8 overcommit_percent 9 data 10 metadata 11 created_at 12 growth 13 when_full 14 reserve_percent
        15 repair 16 original 17 placement;
    4 volume "volume": 1 id 2 name 3 pool 4 thin_id 5 size 6 state 7 content 8 snapshot 9 created_at
        10 labels 11 protected 12 clone_of 13 reserve 14 check_fs 16 deleted_at 17 thick 18 subdir;
    5 intent "intent": 1 id 2 pool 3 from 4 ops;
}

macro_rules! codes {
    ($($table:ident $ty:ident: $($variant:ident = $code:literal)*;)*) => {
        /// Every enumeration with its codes.
        pub const CODES: &[(&str, &[(&str, u8)])] = &[$((stringify!($ty), &[$((stringify!($variant), $code)),*])),*];
        $(
            mod $table {
                use super::$ty;
                pub const fn code(value: $ty) -> u8 {
                    match value { $($ty::$variant => $code),* }
                }
                pub const fn value(code: u8) -> Option<$ty> {
                    match code { $($code => Some($ty::$variant),)* _ => None }
                }
            }
        )*
    };
}

/// What [`Content`] is, without the file system that goes with two of its values.
#[derive(Clone, Copy)]
enum ContentKind {
    Blank,
    Formatting,
    Formatted,
    Raw,
}

/// Which pool message a [`ThinOp`] is.
#[derive(Clone, Copy)]
enum ThinOpKind {
    Create,
    Snapshot,
    Delete,
    Rollback,
}

codes! {
    vg_state VgState: Creating = 1 Ready = 2 Deleting = 3 Erasing = 4 Exported = 5;
    pool_state PoolState: Creating = 1 Ready = 2 Deleting = 3;
    volume_state VolumeState: Creating = 1 Ready = 2 Deleting = 3 Deleted = 4;
    content_kind ContentKind: Blank = 1 Formatting = 2 Formatted = 3 Raw = 4;
    when_full WhenFull: Queue = 1 Error = 2;
    fs_kind FsKind: Ext4 = 1 Xfs = 2 Btrfs = 3;
    thin_op_kind ThinOpKind: Create = 1 Snapshot = 2 Delete = 3 Rollback = 4;
}

/// A code of an enumeration; an unknown one is refused.
fn known<T>(value: Option<T>, tag: Tag) -> Result<T, Malformed> {
    value.ok_or(Malformed { what: tag.name })
}

/// The number of an object's kind.
pub(crate) const fn kind_of(object: &Object) -> u8 {
    match object {
        Object::Vg(_) => vg::KIND,
        Object::Pv(_) => pv::KIND,
        Object::Pool(_) => pool::KIND,
        Object::Volume(_) => volume::KIND,
        Object::Intent(_) => intent::KIND,
    }
}

pub(crate) fn put_body(body: &mut Body<'_>, object: &Object) -> Result<(), EncodeError> {
    match object {
        Object::Vg(it) => put_vg(body, it),
        Object::Pv(it) => put_pv(body, it),
        Object::Pool(it) => put_pool(body, it),
        Object::Volume(it) => put_volume(body, it),
        Object::Intent(it) => put_intent(body, it),
    }
}

/// The object of a body; `None` if this release does not know the kind.
pub(crate) fn read_body(kind: u8, body: &[u8], access: Access) -> Result<Option<Object>, Malformed> {
    let fields = |name| Fields::new(body, name, access);
    Ok(Some(match kind {
        vg::KIND => Object::Vg(read_vg(fields(vg::NAME)?)?),
        pv::KIND => Object::Pv(read_pv(fields(pv::NAME)?)?),
        pool::KIND => Object::Pool(read_pool(fields(pool::NAME)?)?),
        volume::KIND => Object::Volume(read_volume(fields(volume::NAME)?)?),
        intent::KIND => Object::Intent(read_intent(fields(intent::NAME)?)?),
        _ => return Ok(None),
    }))
}

fn put_vg(body: &mut Body<'_>, it: &Vg) -> Result<(), EncodeError> {
    body.bytes(vg::id, it.id.as_bytes())?;
    body.string(vg::name, it.name.as_str())?;
    body.u8(vg::state, vg_state::code(it.state))?;
    body.u64(vg::extent_size, it.extent_size.get())?;
    body.u32(vg::sector_size, it.sector_size)?;
    body.u16(vg::metadata_copies, it.metadata_copies)?;
    body.u64(vg::created_at, it.created_at)
}

fn read_vg(mut fields: Fields<'_>) -> Result<Vg, Malformed> {
    let it = Vg {
        id: VgId::from_bytes(fields.array(vg::id)?),
        name: fields.name(vg::name)?,
        state: known(vg_state::value(fields.u8(vg::state)?), vg::state)?,
        extent_size: Bytes(fields.u64(vg::extent_size)?),
        sector_size: fields.u32(vg::sector_size)?,
        metadata_copies: fields.u16(vg::metadata_copies)?,
        created_at: fields.u64(vg::created_at)?,
    };
    fields.end().map(|()| it)
}

fn put_pv(body: &mut Body<'_>, it: &Pv) -> Result<(), EncodeError> {
    body.bytes(pv::id, it.id.as_bytes())?;
    body.string(pv::path_hint, &it.path_hint)?;
    body.u64(pv::device_size, it.device_size.get())?;
    body.u64(pv::data_offset, it.data_offset.get())?;
    body.u64(pv::extents, it.extents.get())?;
    body.u8(pv::metadata, u8::from(it.metadata))?;
    if let Some(file) = &it.backing_file {
        body.string(pv::backing_file, file)?;
    }
    body.string(pv::hardware_id, &it.hardware_id)?;
    if !it.left.is_empty() {
        let points: Vec<u8> =
            it.left.iter().flat_map(|point| [&point.sequence.to_le_bytes()[..], &point.hash].concat()).collect();
        body.bytes(pv::left, &points)?;
    }
    if !it.labels.is_empty() {
        body.bytes(pv::labels, &labels(&it.labels))?;
    }
    Ok(())
}

fn read_pv(mut fields: Fields<'_>) -> Result<Pv, Malformed> {
    let it = Pv {
        id: PvId::from_bytes(fields.array(pv::id)?),
        path_hint: string(&fields.required(pv::path_hint)?)?,
        device_size: Bytes(fields.u64(pv::device_size)?),
        data_offset: Bytes(fields.u64(pv::data_offset)?),
        extents: Extents(fields.u64(pv::extents)?),
        metadata: match fields.u8(pv::metadata)? {
            0 => false,
            1 => true,
            _ => return Err(Malformed { what: pv::metadata.name }),
        },
        backing_file: fields.optional(pv::backing_file)?.map(|value| string(&value)).transpose()?,
        hardware_id: string(&fields.required(pv::hardware_id)?)?,
        left: fields.optional(pv::left)?.map(read_points).transpose()?.unwrap_or_default(),
        labels: fields.unless_usual(pv::labels, Labels::default(), read_labels)?,
    };
    fields.end().map(|()| it)
}

fn read_points(mut value: Reader<'_>) -> Result<Vec<CommitPoint>, Malformed> {
    let mut list = Vec::new();
    while !value.is_empty() {
        list.push(CommitPoint { sequence: value.u64()?, hash: value.array()? });
    }
    // FMT-20: an absent field is the one way to say that there is none.
    if list.is_empty() || list.len() > limit::LEFT_POINTS_MAX {
        return Err(value.malformed());
    }
    Ok(list)
}

fn put_pool(body: &mut Body<'_>, it: &Pool) -> Result<(), EncodeError> {
    body.bytes(pool::id, it.id.as_bytes())?;
    body.string(pool::name, it.name.as_str())?;
    body.u8(pool::state, pool_state::code(it.state))?;
    body.u64(pool::chunk_size, it.chunk_size.get())?;
    body.u64(pool::transaction_id, it.transaction_id)?;
    body.u32(pool::next_thin_id, it.next_thin_id)?;
    body.u32(pool::snapshots_made, it.snapshots_made)?;
    body.u32(pool::overcommit_percent, it.overcommit_percent)?;
    body.bytes(pool::data, &segments(&it.data))?;
    body.bytes(pool::metadata, &segments(&it.metadata))?;
    body.u64(pool::created_at, it.created_at)?;
    match it.growth {
        Growth::VgSpace => {}
        Growth::UpTo(size) => body.u64(pool::growth, size.get())?,
        Growth::Off => body.u64(pool::growth, 0)?,
    }
    if it.when_full != WhenFull::default() {
        body.u8(pool::when_full, when_full::code(it.when_full))?;
    }
    if it.reserve_percent != limit::POOL_RESERVE_PERCENT_DEFAULT {
        body.u32(pool::reserve_percent, it.reserve_percent)?;
    }
    if let Some(onto) = &it.repair {
        body.bytes(pool::repair, &segments(onto))?;
    }
    if !it.original.is_empty() {
        body.bytes(pool::original, &segments(&it.original))?;
    }
    if !it.placement.is_anywhere() {
        body.bytes(pool::placement, &placement(&it.placement))?;
    }
    Ok(())
}

fn read_pool(mut fields: Fields<'_>) -> Result<Pool, Malformed> {
    let it = Pool {
        id: PoolId::from_bytes(fields.array(pool::id)?),
        name: fields.name(pool::name)?,
        state: known(pool_state::value(fields.u8(pool::state)?), pool::state)?,
        chunk_size: Bytes(fields.u64(pool::chunk_size)?),
        transaction_id: fields.u64(pool::transaction_id)?,
        next_thin_id: fields.u32(pool::next_thin_id)?,
        snapshots_made: fields.u32(pool::snapshots_made)?,
        overcommit_percent: fields.u32(pool::overcommit_percent)?,
        data: read_segments(fields.required(pool::data)?)?,
        metadata: read_segments(fields.required(pool::metadata)?)?,
        created_at: fields.u64(pool::created_at)?,
        growth: fields.unless_usual(pool::growth, Growth::default(), |value| {
            Ok(match value.u64()? {
                0 => Growth::Off,
                size => Growth::UpTo(Bytes(size)),
            })
        })?,
        when_full: fields.unless_usual(pool::when_full, WhenFull::default(), |value| {
            known(when_full::value(value.u8()?), pool::when_full)
        })?,
        reserve_percent: fields.unless_usual(
            pool::reserve_percent,
            limit::POOL_RESERVE_PERCENT_DEFAULT,
            Reader::u32,
        )?,
        repair: fields.optional(pool::repair)?.map(read_segments).transpose()?,
        original: match fields.optional(pool::original)? {
            None => Vec::new(),
            // FMT-20: an absent field is the one way to say that there is none.
            Some(value) if value.is_empty() => return Err(value.malformed()),
            Some(value) => read_segments(value)?,
        },
        placement: Box::new(fields.unless_usual(pool::placement, Placement::default(), read_placement)?),
    };
    fields.end().map(|()| it)
}

fn placement(it: &Placement) -> Vec<u8> {
    let mut out = Vec::new();
    for list in [&it.on, &it.not_on] {
        let list = list.get(..limit::PLACEMENT_PVS_MAX).unwrap_or(list);
        out.push(u8::try_from(list.len()).unwrap_or(u8::MAX));
        list.iter().for_each(|pv| out.extend_from_slice(pv.as_bytes()));
    }
    out.extend(labels(&it.labels));
    out
}

fn read_placement(value: &mut Reader<'_>) -> Result<Placement, Malformed> {
    let mut pvs = || {
        let count = usize::from(value.u8()?);
        if count > limit::PLACEMENT_PVS_MAX {
            return Err(value.malformed());
        }
        (0..count).map(|_| Ok(PvId::from_bytes(value.array()?))).collect()
    };
    let (on, not_on) = (pvs()?, pvs()?);
    Ok(Placement { on, not_on, labels: read_labels(value)? })
}

fn segments(list: &[Segment]) -> Vec<u8> {
    let mut out = Vec::with_capacity(list.len().saturating_mul(SEGMENT_LEN));
    for segment in list {
        out.extend_from_slice(segment.pv.as_bytes());
        out.extend_from_slice(&segment.start.get().to_le_bytes());
        out.extend_from_slice(&segment.count.get().to_le_bytes());
    }
    out
}

fn read_segments(mut value: Reader<'_>) -> Result<Vec<Segment>, Malformed> {
    let mut list = Vec::with_capacity(value.rest().len() / SEGMENT_LEN);
    while !value.is_empty() {
        let pv = PvId::from_bytes(value.array()?);
        list.push(Segment { pv, start: Extents(value.u64()?), count: Extents(value.u64()?) });
    }
    Ok(list)
}

fn put_volume(body: &mut Body<'_>, it: &Volume) -> Result<(), EncodeError> {
    body.bytes(volume::id, it.id.as_bytes())?;
    body.string(volume::name, it.name.as_str())?;
    if let Backing::Thin { pool, thin_id } = &it.backing {
        body.bytes(volume::pool, pool.as_bytes())?;
        body.u32(volume::thin_id, *thin_id)?;
    }
    body.u64(volume::size, it.size.get())?;
    body.u8(volume::state, volume_state::code(it.state))?;
    let (kind, fs) = match &it.content {
        Content::Blank => (ContentKind::Blank, None),
        Content::Formatting { fs, uuid } => (ContentKind::Formatting, Some((*fs, uuid))),
        Content::Formatted { fs, uuid } => (ContentKind::Formatted, Some((*fs, uuid))),
        Content::Raw => (ContentKind::Raw, None),
    };
    let mut content = vec![content_kind::code(kind)];
    if let Some((fs, uuid)) = fs {
        content.push(fs_kind::code(fs));
        content.extend_from_slice(uuid);
    }
    body.bytes(volume::content, &content)?;
    if let Some(snapshot) = &it.snapshot {
        body.bytes(volume::snapshot, &[snapshot.of.as_bytes(), snapshot.of_name.as_str().as_bytes()].concat())?;
    }
    body.u64(volume::created_at, it.created_at)?;
    if !it.labels.is_empty() {
        body.bytes(volume::labels, &labels(&it.labels))?;
    }
    if it.protected {
        body.u8(volume::protected, 1)?;
    }
    if let Some(of) = &it.clone_of {
        let snapshot = of.snapshot.as_ref().map(Name::as_str).unwrap_or_default();
        let origin = of.volume.as_str();
        // FMT-20: a name has at most 128 bytes.
        let len = u8::try_from(origin.len()).unwrap_or(u8::MAX);
        body.bytes(volume::clone_of, &[of.id.as_bytes(), &[len][..], origin.as_bytes(), snapshot.as_bytes()].concat())?;
    }
    if !it.reserve.is_zero() {
        body.u64(volume::reserve, it.reserve.get())?;
    }
    if it.check_fs {
        body.u8(volume::check_fs, 1)?;
    }
    if let Some(deleted_at) = it.deleted_at {
        body.u64(volume::deleted_at, deleted_at)?;
    }
    if let Backing::Thick(thick) = &it.backing {
        body.bytes(volume::thick, &thick_bytes(thick))?;
    }
    if let Some(subdir) = &it.subdir {
        body.string(volume::subdir, subdir.as_str())?;
    }
    Ok(())
}

fn thick_bytes(it: &Thick) -> Vec<u8> {
    let mut out = it.stripes.to_le_bytes().to_vec();
    out.extend_from_slice(&[it.wanted.map_or(0, fs_kind::code), 0, 0, 0, 0, 0]);
    out.extend_from_slice(&it.stripe_size.get().to_le_bytes());
    out.extend_from_slice(&it.filled.get().to_le_bytes());
    out.extend_from_slice(&segments(&it.segments));
    out
}

fn read_thick(mut value: Reader<'_>) -> Result<Thick, Malformed> {
    let stripes = value.u16()?;
    let wanted = match value.u8()? {
        0 => None,
        code => Some(known(fs_kind::value(code), volume::thick)?),
    };
    value.zeros::<5>()?;
    let (stripe_size, filled) = (Bytes(value.u64()?), Bytes(value.u64()?));
    Ok(Thick { stripes, wanted, stripe_size, filled, segments: read_segments(value)? })
}

/// In a pool, or in extents of its own (FMT-20).
fn backing(pool: Option<PoolId>, thin_id: Option<u32>, thick: Option<Thick>) -> Result<Backing, Malformed> {
    match (pool, thin_id, thick) {
        (Some(pool), Some(thin_id), None) => Ok(Backing::Thin { pool, thin_id }),
        (None, None, Some(thick)) => Ok(Backing::Thick(Box::new(thick))),
        (Some(_), None, None) => Err(Malformed { what: volume::thin_id.name }),
        (.., None) => Err(Malformed { what: volume::pool.name }),
        (.., Some(_)) => Err(Malformed { what: volume::thick.name }),
    }
}

/// Both halves have at most 255 bytes.
fn labels(labels: &Labels) -> Vec<u8> {
    let mut out = Vec::new();
    for text in labels.iter().flat_map(|(key, value)| [key, value]) {
        out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(text.as_bytes());
    }
    out
}

fn read_labels(value: &mut Reader<'_>) -> Result<Labels, Malformed> {
    let mut labels = Labels::default();
    let mut last: Option<String> = None;
    while !value.is_empty() {
        let key = short_text(value)?;
        let label = Label::new(&key, &short_text(value)?).map_err(|_| value.malformed())?;
        // FMT-20: in one order only.
        if last.is_some_and(|last| last >= key) {
            return Err(value.malformed());
        }
        labels.set(label).map_err(|_| value.malformed())?;
        last = Some(key);
    }
    Ok(labels)
}

fn short_text(value: &mut Reader<'_>) -> Result<String, Malformed> {
    let len = usize::from(value.u8()?);
    let bytes = value.take(len)?.to_vec();
    String::from_utf8(bytes).map_err(|_| value.malformed())
}

fn read_clone_of(mut value: Reader<'_>) -> Result<CloneOf, Malformed> {
    let id = VolumeId::from_bytes(value.array()?);
    let volume = Name::new(&short_text(&mut value)?).map_err(|_| value.malformed())?;
    let snapshot = if value.is_empty() { None } else { Some(name(&value)?) };
    Ok(CloneOf { id, volume, snapshot })
}

fn flag(value: &mut Reader<'_>) -> Result<bool, Malformed> {
    match value.u8()? {
        1 => Ok(true),
        _ => Err(value.malformed()),
    }
}

fn read_volume(mut fields: Fields<'_>) -> Result<Volume, Malformed> {
    let (id, own_name) = (VolumeId::from_bytes(fields.array(volume::id)?), fields.name(volume::name)?);
    let pool = fields.optional(volume::pool)?.map(whole).transpose()?.map(PoolId::from_bytes);
    let thin_id = fields.optional(volume::thin_id)?.map(whole).transpose()?.map(u32::from_le_bytes);
    let mut it = Volume {
        id,
        name: own_name,
        // What it is stands behind all the others.
        backing: Backing::Thin { pool: PoolId::from_bytes([0; 16]), thin_id: 0 },
        size: Bytes(fields.u64(volume::size)?),
        state: known(volume_state::value(fields.u8(volume::state)?), volume::state)?,
        content: read_content(fields.required(volume::content)?)?,
        snapshot: fields.optional(volume::snapshot)?.map(read_snapshot).transpose()?,
        created_at: fields.u64(volume::created_at)?,
        labels: fields.unless_usual(volume::labels, Labels::default(), read_labels)?,
        protected: fields.unless_usual(volume::protected, false, flag)?,
        clone_of: fields.optional(volume::clone_of)?.map(read_clone_of).transpose()?.map(Box::new),
        reserve: fields.unless_usual(volume::reserve, Bytes::ZERO, |value| value.u64().map(Bytes))?,
        check_fs: fields.unless_usual(volume::check_fs, false, flag)?,
        deleted_at: fields.unless_usual(volume::deleted_at, None, |value| value.u64().map(Some))?,
        subdir: None,
    };
    it.backing = backing(pool, thin_id, fields.optional(volume::thick)?.map(read_thick).transpose()?)?;
    it.subdir = fields.optional(volume::subdir)?.map(|value| name(&value)).transpose()?.map(Box::new);
    fields.end().map(|()| it)
}

/// A field of exactly `N` bytes.
fn whole<const N: usize>(mut value: Reader<'_>) -> Result<[u8; N], Malformed> {
    let bytes = value.array()?;
    value.end().map(|()| bytes)
}

fn read_content(mut value: Reader<'_>) -> Result<Content, Malformed> {
    let fs = |value: &mut Reader<'_>| -> Result<_, Malformed> {
        Ok((known(fs_kind::value(value.u8()?), volume::content)?, value.array()?))
    };
    let content = match known(content_kind::value(value.u8()?), volume::content)? {
        ContentKind::Blank => Content::Blank,
        ContentKind::Formatting => fs(&mut value).map(|(fs, uuid)| Content::Formatting { fs, uuid })?,
        ContentKind::Formatted => fs(&mut value).map(|(fs, uuid)| Content::Formatted { fs, uuid })?,
        ContentKind::Raw => Content::Raw,
    };
    value.end().map(|()| content)
}

fn read_snapshot(mut value: Reader<'_>) -> Result<Snapshot, Malformed> {
    let of = VolumeId::from_bytes(value.array()?);
    Ok(Snapshot { of, of_name: name(&value)? })
}

fn put_intent(body: &mut Body<'_>, it: &Intent) -> Result<(), EncodeError> {
    body.bytes(intent::id, it.id.as_bytes())?;
    body.bytes(intent::pool, it.pool.as_bytes())?;
    body.u64(intent::from, it.from)?;
    let mut ops = Vec::with_capacity(it.ops.len().saturating_mul(THIN_OP_LEN));
    for op in &it.ops {
        let (kind, volume, thin_id, origin) = match *op {
            ThinOp::Create { volume, thin_id } => (ThinOpKind::Create, volume, thin_id, 0),
            ThinOp::Snapshot { volume, thin_id, origin_thin_id } => {
                (ThinOpKind::Snapshot, volume, thin_id, origin_thin_id)
            }
            ThinOp::Delete { volume, thin_id } => (ThinOpKind::Delete, volume, thin_id, 0),
            ThinOp::Rollback { volume, thin_id, origin_thin_id } => {
                (ThinOpKind::Rollback, volume, thin_id, origin_thin_id)
            }
        };
        ops.extend_from_slice(&[thin_op_kind::code(kind), 0, 0, 0]);
        ops.extend_from_slice(&thin_id.to_le_bytes());
        ops.extend_from_slice(&origin.to_le_bytes());
        ops.extend_from_slice(&[0; 4]);
        ops.extend_from_slice(volume.as_bytes());
    }
    body.bytes(intent::ops, &ops)
}

fn read_intent(mut fields: Fields<'_>) -> Result<Intent, Malformed> {
    let it = Intent {
        id: IntentId::from_bytes(fields.array(intent::id)?),
        pool: PoolId::from_bytes(fields.array(intent::pool)?),
        from: fields.u64(intent::from)?,
        ops: read_ops(fields.required(intent::ops)?)?,
    };
    fields.end().map(|()| it)
}

fn read_ops(mut value: Reader<'_>) -> Result<Vec<ThinOp>, Malformed> {
    let mut list = Vec::with_capacity(value.rest().len() / THIN_OP_LEN);
    while !value.is_empty() {
        let kind = known(thin_op_kind::value(value.u8()?), intent::ops)?;
        value.zeros::<3>()?;
        let (thin_id, origin_thin_id) = (value.u32()?, value.u32()?);
        value.zeros::<4>()?;
        let volume = VolumeId::from_bytes(value.array()?);
        list.push(match kind {
            ThinOpKind::Snapshot => ThinOp::Snapshot { volume, thin_id, origin_thin_id },
            ThinOpKind::Rollback => ThinOp::Rollback { volume, thin_id, origin_thin_id },
            // FMT-2: nothing else has an origin.
            _ if origin_thin_id != 0 => return Err(value.malformed()),
            ThinOpKind::Create => ThinOp::Create { volume, thin_id },
            ThinOpKind::Delete => ThinOp::Delete { volume, thin_id },
        });
    }
    Ok(list)
}
