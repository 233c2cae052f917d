//! Snapshots: read-only, thin, crash-consistent (the origin's file system is frozen while they are taken). Those that are asked for
//! together are of one instant.

use std::collections::BTreeSet;

use vol_types::{
    Backing, Bytes, Change, Content, IntentId, Labels, Name, Object, Pool, Snapshot, ThinOp, Volume, VolumeId,
    VolumeState, defect, limit,
};

use crate::catalog::{Catalog, VolumeName};
use crate::dm::Device;
use crate::plan::thin::{Batch, ThinChange};
use crate::plan::{Kernel, agreement, pool, reserve, volume, writable_pool};
use crate::refusal::Refusal;
use crate::step::{Action, Requirement, SnapshotOf, Step};

/// Most snapshots of one instant. All of them are recorded in one commit, and all origins wait for each other.
pub const GROUP_MAX: usize = 32;

/// `snapshot create`, for one snapshot.
#[derive(Clone, Debug)]
pub struct CreateSnapshot {
    pub id: VolumeId,
    /// Used for the whole transaction if this is its first change of the pool.
    pub intent: IntentId,
    pub of: Name,
    pub name: Name,
    pub labels: Labels,
    pub now: u64,
}

impl CreateSnapshot {
    /// The name that it is to have.
    pub fn full_name(&self) -> VolumeName {
        VolumeName { volume: self.of.clone(), snapshot: Some(self.name.clone()) }
    }
    /// What it is taken of.
    pub fn origin_name(&self) -> VolumeName {
        VolumeName { volume: self.of.clone(), snapshot: None }
    }
}

/// `snapshot create`: one snapshot, or several of one instant, all or none. A name that is taken is refused, not taken for the same
/// request: a snapshot is a moment, and the moment asked for is now.
pub fn create(
    catalog: &Catalog,
    kernel: &Kernel,
    batch: &Batch,
    requests: &[CreateSnapshot],
) -> Result<ThinChange, Refusal> {
    let vg = &catalog.vg().name;
    let (Some(first), true) = (requests.first(), requests.len() <= GROUP_MAX) else {
        return Err(Refusal::invalid(format!("between 1 and {GROUP_MAX} snapshots can be taken at one instant")));
    };
    let mut of = BTreeSet::new();
    if let Some(twice) = requests.iter().find(|request| !of.insert(&request.of)) {
        return Err(Refusal::invalid(format!("{vg}/{} is named twice", twice.of))
            .hint("snapshots that are taken together are of one instant: one of each volume"));
    }
    let origins: Vec<&Volume> = requests.iter().map(|request| origin_of(catalog, request)).collect::<Result<_, _>>()?;
    if let Some(thick) = origins.iter().find(|origin| origin.thick().is_some()) {
        return Err(no_snapshots_of(thick, &format!("{vg}/{}", thick.name)));
    }
    let Some(pool) = origins.first().and_then(|origin| catalog.pool_of(origin)) else {
        return Err(Refusal::not_found(format!("the pool of {vg}/{} is not there", first.of)));
    };
    if let Some(other) = origins.iter().find(|origin| origin.pool() != Some(pool.id)) {
        // Each pool has transactions of its own, and a crash between two of them would leave half of the group.
        return Err(Refusal::invalid(format!(
            "{vg}/{} is not in pool {} as {vg}/{} is",
            other.name, pool.name, first.of
        ))
        .hint("snapshots of one instant are of volumes of one pool; take the others by themselves"));
    }
    let mut after = room_for_more(catalog, kernel, batch, pool)?;
    let reserves = reserve::by_sharing(catalog, kernel, pool, &origins);
    let what = format!("{vg}/{}, which has a reserve and would share its chunks with a snapshot,", first.of);
    reserve::fits(catalog, kernel, batch, pool, reserves, &what)?;
    let mut change = ThinChange {
        title: match requests {
            [only] => format!("create snapshot {vg}/{}", only.full_name()),
            many => format!("create {} snapshots of one instant", many.len()),
        },
        volume: first.id,
        names: Vec::new(),
        intent: first.intent,
        before: Vec::new(),
        pool: after.clone(),
        promises: Bytes::ZERO,
        reserves,
        ops: Vec::new(),
        message: Step::new(Action::SnapshotThin { pool: pool.id, snapshots: Vec::new() }),
        begin: Vec::new(),
        done: Vec::new(),
        then: Vec::new(),
    };
    let mut snapshots = Vec::new();
    for (request, origin) in requests.iter().zip(origins) {
        agreement::not_lost(kernel, origin, &format!("{vg}/{}", request.origin_name()))?;
        let thin_id;
        (thin_id, after) = one_more(&after)?;
        let snapshot = Volume {
            id: request.id,
            name: request.name.clone(),
            backing: Backing::Thin { pool: pool.id, thin_id },
            size: origin.size,
            state: VolumeState::Creating,
            content: content_of(origin),
            snapshot: Some(Snapshot { of: origin.id, of_name: origin.name.clone() }),
            created_at: request.now,
            labels: request.labels.clone(),
            protected: false,
            clone_of: None,
            reserve: Bytes::ZERO,
            // What may be wrong with the one is wrong with the other.
            check_fs: origin.check_fs,
            deleted_at: None,
            subdir: origin.subdir.clone(),
        };
        let ready = Volume { state: VolumeState::Ready, ..snapshot.clone() };
        let taken = taken_of(kernel, origin, thin_id)?;
        change.message.requires.push(as_planned(origin, &taken));
        change.ops.push(ThinOp::Snapshot { volume: request.id, thin_id, origin_thin_id: taken.origin_thin_id });
        change.names.extend([request.full_name(), request.origin_name()]);
        change.begin.push(Change::Put(Object::Volume(snapshot)));
        change.done.push(Change::Put(Object::Volume(ready)));
        snapshots.push(taken);
    }
    change.pool = after;
    change.message.action = Action::SnapshotThin { pool: pool.id, snapshots };
    Ok(change)
}

/// The volume that a snapshot is asked of, if it can be taken under the name that is asked for.
fn origin_of<'a>(catalog: &'a Catalog, request: &CreateSnapshot) -> Result<&'a Volume, Refusal> {
    let vg = &catalog.vg().name;
    let origin = catalog.volume_named(&request.origin_name()).ok_or_else(|| {
        Refusal::not_found(format!("there is no volume {vg}/{}", request.of))
            .hint("`volctl volume list` shows the volumes")
    })?;
    let name = request.full_name();
    if let Some(present) = catalog.volume_named(&name) {
        if present.snapshot.as_ref().is_some_and(|snapshot| snapshot.of != origin.id) {
            return Err(Refusal::exists(format!(
                "there is a snapshot {vg}/{name} already, of an earlier volume {} that was deleted since",
                request.of
            ))
            .hint("choose another name, or delete that snapshot first"));
        }
        return Err(Refusal::exists(format!("there is a snapshot {vg}/{name} already"))
            .hint("choose another name, or delete that snapshot first"));
    }
    if origin.state != VolumeState::Ready {
        return Err(Refusal::busy(format!("volume {vg}/{} is just being made or deleted", request.of)));
    }
    Ok(origin)
}

/// The pool as it can be recorded, if it takes new thin ids at all.
pub(super) fn room_for_more(catalog: &Catalog, kernel: &Kernel, batch: &Batch, pool: &Pool) -> Result<Pool, Refusal> {
    writable_pool(pool, kernel, catalog.intents_of(pool.id).next().is_some())?;
    pool::has_room(catalog, kernel, batch, pool)?;
    Ok(agreement::raised(batch.pool(pool), kernel))
}

/// The thin id of one more snapshot or clone, and the pool after it was given out.
pub(super) fn one_more(pool: &Pool) -> Result<(u32, Pool), Refusal> {
    if pool.snapshots_made >= limit::POOL_SNAPSHOTS_MAX {
        return Err(Refusal::no_space(format!(
            "pool {} has made {} snapshots in its life; the kernel's clock of 24 bits is nearly at its end",
            pool.name, pool.snapshots_made
        ))
        .hint("make a new pool and copy the volumes there"));
    }
    let after = volume::take_thin_id(pool)?;
    let made = pool.snapshots_made + u32::from(!defect("snapshots are not counted"));
    Ok((pool.next_thin_id, Pool { snapshots_made: made, ..after }))
}

/// What a snapshot or clone of `source` holds.
pub(super) fn content_of(source: &Volume) -> Content {
    match &source.content {
        // A source is ready, so it is formatted or raw; the others cannot be told apart from "unknown".
        Content::Blank | Content::Formatting { .. } => Content::Raw,
        known => known.clone(),
    }
}

/// The message's part for one source.
pub(super) fn taken_of(kernel: &Kernel, source: &Volume, thin_id: u32) -> Result<SnapshotOf, Refusal> {
    let device = Device::Volume(source.id);
    let origin = kernel.dm.contains_key(&device).then_some(device);
    let origin_thin_id =
        source.thin_id().ok_or_else(|| no_snapshots_of(source, &VolumeName::of(source).to_string()))?;
    Ok(SnapshotOf { origin, origin_thin_id, thin_id })
}

/// A thick volume has extents of its own, which nothing else can share.
fn no_snapshots_of(thick: &Volume, path: &str) -> Refusal {
    Refusal::invalid(format!("{path} is a thick volume: snapshots are of thin volumes only"))
        .hint(format!("copy it: `volctl volume clone {path} VG/NEW` ({} are needed)", thick.size))
}

/// Suspended or not must be what the plan was made for: a snapshot of a running origin is a corrupt one.
pub(super) fn as_planned(source: &Volume, taken: &SnapshotOf) -> Requirement {
    match taken.origin {
        Some(device) => Requirement::Active(device),
        None => Requirement::Absent(Device::Volume(source.id)),
    }
}
