//! Snapshots: read-only, thin, crash-consistent (the origin's file system is frozen while they are taken).

use vol_types::{
    Bytes, Change, Content, IntentId, Labels, Name, Object, Pool, Snapshot, ThinOp, Volume, VolumeId, VolumeState,
    defect, limit,
};

use crate::catalog::{Catalog, VolumeName};
use crate::dm::Device;
use crate::plan::thin::{Batch, ThinChange};
use crate::plan::{Kernel, agreement, pool, volume, writable_pool};
use crate::refusal::Refusal;
use crate::step::{Action, Requirement, Step};

/// `snapshot create`.
#[derive(Clone, Debug)]
pub struct CreateSnapshot {
    pub id: VolumeId,
    pub intent: IntentId,
    pub of: Name,
    pub name: Name,
    pub now: u64,
}

/// `snapshot create`. A name that is taken is refused, not taken for the same request: a snapshot is a moment, and the
/// moment asked for is now.
pub fn create(
    catalog: &Catalog,
    kernel: &Kernel,
    batch: &Batch,
    request: &CreateSnapshot,
) -> Result<ThinChange, Refusal> {
    let vg = &catalog.vg().name;
    let origin_name = VolumeName { volume: request.of.clone(), snapshot: None };
    let origin = catalog.volume_named(&origin_name).ok_or_else(|| {
        Refusal::not_found(format!("there is no volume {vg}/{}", request.of))
            .hint("`volctl volume list` shows the volumes")
    })?;
    let name = VolumeName { volume: request.of.clone(), snapshot: Some(request.name.clone()) };
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
    let Some(origin_pool) = catalog.pool(origin.pool) else {
        return Err(Refusal::not_found(format!("the pool of {vg}/{} is not there", request.of)));
    };
    writable_pool(origin_pool, kernel, catalog.intents_of(origin_pool.id).next().is_some())?;
    pool::has_room(catalog, origin_pool, kernel.pools.get(&origin_pool.id))?;
    agreement::not_lost(kernel, origin, &format!("{vg}/{origin_name}"))?;
    let origin_pool = &agreement::raised(batch.pool(origin_pool), kernel);
    if origin_pool.snapshots_made >= limit::POOL_SNAPSHOTS_MAX {
        return Err(Refusal::no_space(format!(
            "pool {} has made {} snapshots in its life; the kernel's clock of 24 bits is nearly at its end",
            origin_pool.name, origin_pool.snapshots_made
        ))
        .hint("make a new pool and copy the volumes there"));
    }
    let after = volume::take_thin_id(origin_pool)?;
    let after =
        Pool { snapshots_made: origin_pool.snapshots_made + u32::from(!defect("snapshots are not counted")), ..after };
    let snapshot = Volume {
        id: request.id,
        name: request.name.clone(),
        pool: origin.pool,
        thin_id: origin_pool.next_thin_id,
        size: origin.size,
        state: VolumeState::Creating,
        content: match &origin.content {
            // An origin is ready, so it is formatted or raw; the others cannot be told apart from "unknown".
            Content::Blank | Content::Formatting { .. } => Content::Raw,
            known => known.clone(),
        },
        snapshot: Some(Snapshot { of: origin.id, of_name: origin.name.clone() }),
        created_at: request.now,
        labels: Labels::default(),
        protected: false,
        clone_of: None,
        reserve: Bytes::ZERO,
        check_fs: false,
        deleted_at: None,
    };
    let ready = Volume { state: VolumeState::Ready, ..snapshot.clone() };
    let origin_device = Device::Volume(origin.id);
    let active = kernel.dm.contains_key(&origin_device).then_some(origin_device);
    let (id, thin_id, origin_thin_id) = (snapshot.id, snapshot.thin_id, origin.thin_id);
    let message = Action::SnapshotThin { pool: origin.pool, origin: active, origin_thin_id, thin_id };
    Ok(ThinChange {
        title: format!("create snapshot {vg}/{name}"),
        volume: id,
        names: vec![name, origin_name],
        intent: request.intent,
        before: Vec::new(),
        pool: after,
        promises: Bytes::ZERO,
        op: ThinOp::Snapshot { volume: id, thin_id, origin_thin_id },
        // Suspended or not must be what the plan was made for: a snapshot of a running origin is a corrupt one.
        message: Step::new(message).requires(match active {
            Some(device) => Requirement::Active(device),
            None => Requirement::Absent(origin_device),
        }),
        begin: vec![Change::Put(Object::Volume(snapshot))],
        done: vec![Change::Put(Object::Volume(ready))],
        then: Vec::new(),
    })
}
