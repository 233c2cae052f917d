//! Objects and changes as short text for people.

use std::collections::BTreeMap;

use vol_types::{Change, Object, ObjectKey, ThinOp};

use crate::record::ChainHash;

/// Changes of a record that are told one by one; the rest is counted.
const CHANGES_TOLD: usize = 6;

/// `volume pg@before`, `pool tank`, `intent 0191d6e0`: the kind and the name that people know, or the beginning of the id.
pub fn describe(object: &Object) -> String {
    match object {
        Object::Vg(vg) => format!("vg {}", vg.name),
        Object::Pv(pv) if pv.path_hint.is_empty() => describe_key(&object.key()),
        Object::Pv(pv) => format!("pv {}", pv.path_hint),
        Object::Pool(pool) => format!("pool {}", pool.name),
        Object::Volume(volume) => match &volume.snapshot {
            Some(snapshot) => format!("snapshot {}@{}", snapshot.of_name, volume.name),
            None => format!("volume {}", volume.name),
        },
        Object::Intent(intent) => {
            let op = |op: &ThinOp| match op {
                ThinOp::Create { thin_id, .. } => format!("create {thin_id}"),
                ThinOp::Snapshot { thin_id, origin_thin_id, .. } => format!("snapshot {thin_id} of {origin_thin_id}"),
                ThinOp::Delete { thin_id, .. } => format!("delete {thin_id}"),
                ThinOp::Rollback { thin_id, origin_thin_id, .. } => format!("rollback {thin_id} of {origin_thin_id}"),
            };
            let ops: Vec<String> = intent.ops.iter().take(CHANGES_TOLD).map(op).collect();
            format!("{} ({})", describe_key(&object.key()), ops.join(", "))
        }
    }
}

fn describe_key(key: &ObjectKey) -> String {
    let (kind, id) = match key {
        ObjectKey::Vg(id) => ("vg", id.to_string()),
        ObjectKey::Pv(id) => ("pv", id.to_string()),
        ObjectKey::Pool(id) => ("pool", id.to_string()),
        ObjectKey::Volume(id) => ("volume", id.to_string()),
        ObjectKey::Intent(id) => ("intent", id.to_string()),
    };
    // The end of an id tells ids apart that were made in the same moment (UUID version 7).
    let tail: String = id.chars().skip(id.chars().count().saturating_sub(8)).collect();
    format!("{kind} …{tail}")
}

/// The changes of a record in a few words: `put volume pg, delete intent …a1b2c3d4, and 3 more`. `catalog` is as it was
/// before them.
pub(super) fn summary(changes: &[Change], catalog: &BTreeMap<ObjectKey, Object>) -> String {
    let one = |change: &Change| match change {
        Change::Put(object) => format!("put {}", describe(object)),
        Change::Delete(key) => {
            format!("delete {}", catalog.get(key).map_or_else(|| describe_key(key), describe))
        }
    };
    let mut told: Vec<String> = changes.iter().take(CHANGES_TOLD).map(one).collect();
    let more = changes.len().saturating_sub(CHANGES_TOLD);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told.join(", ")
}

/// The first eight digits of a hash: enough to tell histories apart by eye.
pub fn short_hash(hash: &ChainHash) -> String {
    hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
