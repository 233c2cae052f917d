//! Clones: writable, thin, made from a snapshot, or from a volume as it is at the moment.
//!
//! To the pool a clone is a snapshot like any other; that it is a volume, with a size that is promised to it, stands in our
//! record alone. It shares every chunk with what it was made from until one of the two writes.

use vol_types::{
    Backing, Bytes, Change, CloneOf, Content, IntentId, Labels, Name, Object, Placement, Reserve, ThinOp, Volume,
    VolumeId, VolumeState,
};

use crate::catalog::{Catalog, VolumeName};
use crate::plan::snapshot::{as_planned, content_of, one_more, room_for_more, taken_of};
use crate::plan::thin::{Batch, ThinChange};
use crate::plan::volume::{Created, less_protected, other_labels, rounded_size, within_policy};
use crate::plan::{Kernel, agreement, fs, pool_of, reserve, thick};
use crate::refusal::Refusal;
use crate::step::{Action, Step};

/// `volume clone`.
#[derive(Clone, Debug)]
pub struct CloneVolume {
    pub id: VolumeId,
    pub intent: IntentId,
    /// The volume or snapshot that it is made from, in the same VG.
    pub of: VolumeName,
    pub name: Name,
    pub labels: Labels,
    /// Not less than its source has; its file system grows when it is next mounted. `None`: as its source.
    pub size: Option<Bytes>,
    /// What is set aside for it in the pool, besides what its source has.
    pub reserve: Reserve,
    /// Protected from the moment on at which it is there.
    pub protect: bool,
    /// On which PVs; of a thick volume alone.
    pub placement: Placement,
    /// Without gaps on each PV; of a thick volume alone.
    pub contiguous: bool,
    pub now: u64,
}

/// `volume clone`, in one transaction with `batch`. The same request twice is one clone, also when what it was made from is gone since.
pub fn create(catalog: &Catalog, kernel: &Kernel, batch: &Batch, request: &CloneVolume) -> Result<Created, Refusal> {
    let vg = &catalog.vg().name;
    let (path, of) = (format!("{vg}/{}", request.name), format!("{vg}/{}", request.of));
    let name = VolumeName { volume: request.name.clone(), snapshot: None };
    let source = catalog.volume_named(&request.of);
    if let Some(present) = catalog.volume_named(&name) {
        return is_that_clone(catalog, present, source, request, &path, &of);
    }
    let Some(source) = source else {
        let (kind, list) = if request.of.snapshot.is_some() { ("snapshot", "snapshot") } else { ("volume", "volume") };
        return Err(Refusal::not_found(format!("there is no {kind} {of}"))
            .hint(format!("`volctl {list} list` shows what there is")));
    };
    if catalog.pool_named(&request.name).is_some() {
        return Err(Refusal::exists(format!("the name {path} is taken by a pool"))
            .hint("pools and volumes of a VG share their names; choose another"));
    }
    if source.state != VolumeState::Ready {
        return Err(Refusal::busy(format!("{of} is just being made or deleted")));
    }
    let pool = pool_of(catalog, source, &of)?;
    if !request.placement.is_anywhere() || request.contiguous {
        return Err(thick::not_thick(catalog, source, &format!("{of}, and so a clone of it,")));
    }
    let before = room_for_more(catalog, kernel, batch, pool)?;
    agreement::not_lost(kernel, source, &of)?;
    let size = match request.size {
        None => source.size,
        Some(asked) => not_less(source, asked, rounded_size(asked, fs::kind(source), pool)?, &of)?,
    };
    within_policy(catalog, batch, pool, size)?;
    let reserve = reserve::of_size(request.reserve, size, pool, &path)?;
    let shared = match source.snapshot {
        // It shares with its volume already.
        Some(_) => Bytes::ZERO,
        None => reserve::by_sharing(catalog, kernel, pool, &[source]),
    };
    let what = format!("{of}, which has a reserve and would share its chunks with a clone,");
    reserve::fits(catalog, kernel, batch, pool, shared, &what)?;
    // It owns no chunk alone: all of its reserve counts, and so does again what its source had.
    let reserves = shared.checked_add(reserve).unwrap_or(Bytes(u64::MAX));
    if !reserve.is_zero() {
        let what = match shared.is_zero() {
            true => path.clone(),
            false => format!("{path}, which would share its chunks with {of} and its reserve,"),
        };
        reserve::fits(catalog, kernel, batch, pool, reserves, &what)?;
    }
    let (thin_id, after) = one_more(&before)?;
    let clone = begun(request, source, size, Backing::Thin { pool: pool.id, thin_id }, content_of(source));
    let clone = Volume { reserve, ..clone };
    let ready = Volume { state: VolumeState::Ready, ..clone.clone() };
    let taken = taken_of(kernel, source, thin_id)?;
    let message = Action::SnapshotThin { pool: pool.id, snapshots: vec![taken] };
    Ok(Created::Change(Box::new(ThinChange {
        title: format!("clone {of} as {path}"),
        volume: request.id,
        names: vec![name, request.of.clone()],
        intent: request.intent,
        before: Vec::new(),
        pool: after,
        promises: size,
        reserves,
        ops: vec![ThinOp::Snapshot { volume: request.id, thin_id, origin_thin_id: taken.origin_thin_id }],
        message: Step::new(message).requires(as_planned(source, &taken)),
        begin: vec![Change::Put(Object::Volume(clone))],
        done: vec![Change::Put(Object::Volume(ready))],
        then: Vec::new(),
    })))
}

/// The record of a clone that is just being made.
pub(super) fn begun(request: &CloneVolume, source: &Volume, size: Bytes, backing: Backing, content: Content) -> Volume {
    Volume {
        id: request.id,
        name: request.name.clone(),
        backing,
        size,
        state: VolumeState::Creating,
        content,
        snapshot: None,
        created_at: request.now,
        labels: request.labels.clone(),
        protected: request.protect,
        clone_of: Some(Box::new(CloneOf {
            id: source.id,
            volume: request.of.volume.clone(),
            snapshot: request.of.snapshot.clone(),
        })),
        reserve: Bytes::ZERO,
        check_fs: source.check_fs,
        deleted_at: None,
        subdir: source.subdir.clone(),
    }
}

/// The size that was asked for, if it is not less than what is copied has.
pub(super) fn not_less(source: &Volume, asked: Bytes, size: Bytes, of: &str) -> Result<Bytes, Refusal> {
    if size >= source.size {
        return Ok(size);
    }
    Err(Refusal::invalid(format!(
        "a clone of {of} has {} or more, not {asked}: it holds all that is there",
        source.size
    ))
    .hint("leave the size out, and it is as large as that"))
}

/// The volume that has the name already: the clone that is asked for, or something else.
pub(super) fn is_that_clone(
    catalog: &Catalog,
    present: &Volume,
    source: Option<&Volume>,
    request: &CloneVolume,
    path: &str,
    of: &str,
) -> Result<Created, Refusal> {
    if present.state != VolumeState::Ready && present.thick().is_none() {
        return Err(Refusal::busy(format!("volume {path} is just being made")).hint("try again in a moment"));
    }
    let made_from = present.clone_of.as_ref();
    let same = made_from.is_some_and(|made| match source {
        Some(source) => made.id == source.id,
        None => made.volume == request.of.volume && made.snapshot == request.of.snapshot,
    });
    let mut differs = Vec::new();
    match made_from {
        _ if same => {}
        Some(made) => {
            let other = VolumeName { volume: made.volume.clone(), snapshot: made.snapshot.clone() };
            let earlier = if other == request.of { " that was deleted since" } else { "" };
            differs.push(format!("a clone of {other}{earlier}"));
        }
        None => differs.push(format!("no clone of {of}")),
    }
    if let Some(pool) = present.pool().and_then(|pool| catalog.pool(pool)) {
        let reserve = reserve::of_size(request.reserve, present.size, pool, path)?;
        if present.reserve != reserve {
            differs.push(format!("a reserve of {}", present.reserve));
        }
    }
    if let Some(asked) = request.size {
        let size = match (present.pool().and_then(|pool| catalog.pool(pool)), present.thick()) {
            (Some(pool), _) => rounded_size(asked, fs::kind(present), pool)?,
            (None, Some(thick)) => thick::rounded_size(catalog, asked, fs::kind(present), thick.stripes)?,
            (None, None) => asked,
        };
        if present.size != size {
            differs.push(format!("a size of {}", present.size));
        }
    }
    differs.extend(less_protected(present, request.protect));
    differs.extend(other_labels(present, &request.labels));
    if differs.is_empty() {
        return Ok(Created::Unchanged(present.id));
    }
    Err(Refusal::exists(format!(
        "there is a volume {path} already, but it is not what was asked for: {}",
        differs.join(", ")
    ))
    .hint("choose another name, or delete that volume first"))
}
