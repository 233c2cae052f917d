//! The objects of a catalog: all of their fields for programs, a line for people.

use serde_json::{Value, json};
use vol_format::examine::describe;
use vol_types::{
    Content, FsKind, Growth, Name, Object, PoolState, Segment, Thick, ThinOp, VgState, VolumeState, WhenFull,
};

pub const fn vg_state(state: VgState) -> &'static str {
    match state {
        VgState::Creating => "creating",
        VgState::Ready => "ready",
        VgState::Deleting => "deleting",
        VgState::Erasing => "erasing",
        VgState::Exported => "exported",
    }
}

const fn pool_state(state: PoolState) -> &'static str {
    match state {
        PoolState::Creating => "creating",
        PoolState::Ready => "ready",
        PoolState::Deleting => "deleting",
    }
}

const fn volume_state(state: VolumeState) -> &'static str {
    match state {
        VolumeState::Creating => "creating",
        VolumeState::Ready => "ready",
        VolumeState::Deleting => "deleting",
        VolumeState::Deleted => "deleted",
    }
}

const fn content(content: &Content) -> (&'static str, Option<(FsKind, [u8; 16])>) {
    match content {
        Content::Blank => ("blank", None),
        Content::Formatting { fs, uuid } => ("formatting", Some((*fs, *uuid))),
        Content::Formatted { fs, uuid } => ("formatted", Some((*fs, *uuid))),
        Content::Raw => ("raw", None),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn thick(thick: &Thick) -> Value {
    json!({
        "segments": segments(&thick.segments), "stripes": thick.stripes, "stripe_size_bytes": thick.stripe_size.get(),
        "filled_bytes": thick.filled.get(), "wanted_fs": thick.wanted.map(vol_types::FsKind::as_str),
    })
}

fn segments(segments: &[Segment]) -> Value {
    segments
        .iter()
        .map(|one| json!({"pv": one.pv.to_string(), "first_extent": one.start.get(), "extents": one.count.get()}))
        .collect()
}

fn op(op: &ThinOp) -> Value {
    match op {
        ThinOp::Create { volume, thin_id } => {
            json!({"op": "create", "volume": volume.to_string(), "thin_id": thin_id})
        }
        ThinOp::Snapshot { volume, thin_id, origin_thin_id } => json!({
            "op": "snapshot", "volume": volume.to_string(), "thin_id": thin_id, "origin_thin_id": origin_thin_id,
        }),
        ThinOp::Delete { volume, thin_id } => {
            json!({"op": "delete", "volume": volume.to_string(), "thin_id": thin_id})
        }
        ThinOp::Rollback { volume, thin_id, origin_thin_id } => json!({
            "op": "rollback", "volume": volume.to_string(), "thin_id": thin_id, "origin_thin_id": origin_thin_id,
        }),
    }
}

/// All fields of an object.
pub fn to_json(object: &Object) -> Value {
    match object {
        Object::Vg(vg) => json!({
            "kind": "vg", "id": vg.id.to_string(), "name": vg.name.as_str(), "state": vg_state(vg.state),
            "extent_size_bytes": vg.extent_size.get(), "sector_size_bytes": vg.sector_size,
            "metadata_copies": vg.metadata_copies, "created_at_seconds": vg.created_at,
        }),
        Object::Pv(pv) => json!({
            "kind": "pv", "id": pv.id.to_string(), "path_hint": pv.path_hint, "device_size_bytes": pv.device_size.get(),
            "data_offset_bytes": pv.data_offset.get(), "extents": pv.extents.get(), "metadata": pv.metadata,
            "backing_file": pv.backing_file, "hardware_id": pv.hardware_id,
            "left": pv.left.iter().map(|one| json!({"sequence": one.sequence, "hash": hex(&one.hash)})).collect::<Vec<_>>(),
            "labels": pv.labels.iter().collect::<std::collections::BTreeMap<_, _>>(),
        }),
        Object::Pool(pool) => json!({
            "kind": "pool", "id": pool.id.to_string(), "name": pool.name.as_str(), "state": pool_state(pool.state),
            "chunk_size_bytes": pool.chunk_size.get(), "transaction_id": pool.transaction_id,
            "next_thin_id": pool.next_thin_id, "snapshots_made": pool.snapshots_made,
            "overcommit_percent": pool.overcommit_percent, "data": segments(&pool.data),
            "metadata": segments(&pool.metadata), "created_at_seconds": pool.created_at,
            "grows": pool.growth != Growth::Off,
            "grows_to_bytes": match pool.growth { Growth::UpTo(size) => Some(size.get()), Growth::VgSpace | Growth::Off => None },
            "error_when_full": pool.when_full == WhenFull::Error, "reserve_percent": pool.reserve_percent,
            "repair": pool.repair.as_deref().map(segments), "original": segments(&pool.original),
            "on_pvs": pool.placement.on.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "not_on_pvs": pool.placement.not_on.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "on_labels": pool.placement.labels.iter().collect::<std::collections::BTreeMap<_, _>>(),
        }),
        Object::Volume(volume) => {
            let (content, fs) = content(&volume.content);
            json!({
                "kind": "volume", "id": volume.id.to_string(), "name": volume.name.as_str(), "pool": volume.pool().map(|pool| pool.to_string()),
                "thin_id": volume.thin_id(), "thick": volume.thick().map(thick), "size_bytes": volume.size.get(), "state": volume_state(volume.state),
                "content": content, "fs": fs.map(|(fs, _)| fs.as_str()), "fs_uuid": fs.map(|(_, uuid)| hex(&uuid)),
                "snapshot_of": volume.snapshot.as_ref().map(|one| one.of.to_string()),
                "snapshot_of_name": volume.snapshot.as_ref().map(|one| one.of_name.as_str()),
                "created_at_seconds": volume.created_at,
                "labels": volume.labels.iter().collect::<std::collections::BTreeMap<_, _>>(), "protected": volume.protected,
                "clone_of": volume.clone_of.as_ref().map(|of| json!({
                    "id": of.id.to_string(), "volume": of.volume.as_str(), "snapshot": of.snapshot.as_ref().map(Name::as_str),
                })),
                "reserve_bytes": volume.reserve.get(), "check_fs": volume.check_fs, "deleted_at_seconds": volume.deleted_at,
                "subdir": volume.subdir.as_deref().map(Name::as_str),
            })
        }
        Object::Intent(intent) => json!({
            "kind": "intent", "id": intent.id.to_string(), "pool": intent.pool.to_string(),
            "from_transaction_id": intent.from, "ops": intent.ops.iter().map(op).collect::<Vec<_>>(),
        }),
    }
}

/// What it is, its id, its state, and what else people want to know.
pub fn line(object: &Object, size: impl Fn(u64) -> String) -> [String; 4] {
    let extents = |segments: &[Segment]| segments.iter().map(|one| one.count.get()).sum::<u64>();
    let (id, state, more) = match object {
        Object::Vg(vg) => {
            let more = format!("extents of {}, sectors of {}", size(vg.extent_size.get()), vg.sector_size);
            (vg.id.to_string(), vg_state(vg.state), more)
        }
        Object::Pv(pv) => {
            let copy = if pv.metadata { "with metadata" } else { "without metadata" };
            let state = if pv.left.is_empty() { "" } else { "left behind" };
            (pv.id.to_string(), state, format!("{}, {} extents, {copy}", size(pv.device_size.get()), pv.extents))
        }
        Object::Pool(pool) => {
            let more = format!(
                "{} + {} extents, chunks of {}, transaction {}",
                extents(&pool.data),
                extents(&pool.metadata),
                size(pool.chunk_size.get()),
                pool.transaction_id
            );
            (pool.id.to_string(), pool_state(pool.state), more)
        }
        Object::Volume(volume) => {
            let (content, fs) = content(&volume.content);
            let content = fs.map_or_else(|| content.to_owned(), |(fs, _)| format!("{content} {}", fs.as_str()));
            let backing = match volume.thick() {
                None => format!("thin id {}", volume.thin_id().unwrap_or_default()),
                Some(thick) => format!("thick, {} of {} filled", size(thick.filled.get()), size(volume.size.get())),
            };
            let more = format!("{}, {backing}, {content}", size(volume.size.get()));
            (volume.id.to_string(), volume_state(volume.state), more)
        }
        Object::Intent(intent) => (intent.id.to_string(), "open", format!("from transaction {}", intent.from)),
    };
    [describe(object), id, state.to_owned(), more]
}
