//! All that was found, for programs. Offsets and sizes are in bytes.

use serde_json::{Value, json};
use vol_format::checkpoint::Header;
use vol_format::examine::{EndPlace, Examination, Finding, LabelPlace, LabelState, Log, MarkHalf, Slot, SlotState};
use vol_format::feature::Access;
use vol_format::label::Label;
use vol_types::CommitPoint;

use super::object::{self, hex};
use super::{Disk, Group};

fn point(point: &CommitPoint) -> Value {
    json!({"sequence": point.sequence, "hash": hex(&point.hash)})
}

pub fn finding(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.as_str(), "code": finding.code, "rule": finding.rule.map(|rule| format!("FMT-{rule}")),
        "text": finding.text, "advice": finding.advice, "offset": finding.offset,
    })
}

fn mark(half: &MarkHalf, offset: u64) -> Value {
    let ours = match half {
        MarkHalf::Ours { pv, sector_size, first, last, others } => json!({
            "pv": pv.to_string(), "sector_size_bytes": sector_size, "first_sector": first, "last_sector": last,
            "other_partitions": others,
        }),
        _ => Value::Null,
    };
    json!({"offset": offset, "state": half.code(), "text": half.text(), "partition": ours})
}

fn label(label: &Label) -> Value {
    let geometry = &label.geometry;
    json!({
        "vg": label.vg.to_string(), "pv": label.pv.to_string(), "vg_name": label.vg_name.as_str(),
        "device_size_bytes": label.device_size.get(), "sector_size_bytes": label.sector_size,
        "extent_size_bytes": label.extent_size.get(),
        "features": {
            "compat": label.features.compat, "ro_compat": label.features.ro_compat, "incompat": label.features.incompat,
        },
        "area_offset": geometry.area_offset, "label_offsets": geometry.label_offsets,
        "log_offset": geometry.log_offset, "log_len": geometry.log_len,
        "checkpoint_offsets": geometry.checkpoint_offsets, "checkpoint_len": geometry.checkpoint_len,
        "data_offset": geometry.data_offset, "extent_count": geometry.extent_count,
    })
}

fn place(place: &LabelPlace) -> Value {
    let (state, why, found) = match &place.state {
        LabelState::Beyond => ("beyond", None, Value::Null),
        LabelState::Zero => ("zero", None, Value::Null),
        LabelState::Other => ("other", None, Value::Null),
        LabelState::Unreadable(error) => ("unreadable", Some(error.clone()), Value::Null),
        LabelState::Unusable(error) => ("unusable", Some(super::text::chain(error)), Value::Null),
        LabelState::Sound(found) => ("sound", None, label(found)),
    };
    json!({"area": place.area, "copy": place.copy, "offset": place.offset, "state": state, "why": why, "label": found})
}

fn header(header: &Header) -> Value {
    let ancestor = |one: &vol_format::checkpoint::Ancestor| json!({"sequence": one.sequence, "hash": hex(&one.hash)});
    json!({
        "sequence": header.sequence, "hash": hex(&header.hash), "log_position": header.log_position,
        "object_count": header.object_count, "payload_len": header.payload_len, "payload_hash": hex(&header.payload_hash),
        "ancestors": header.ancestors.iter().map(ancestor).collect::<Vec<_>>(),
    })
}

fn slot(slot: &Slot) -> Value {
    let (state, why) = match &slot.state {
        SlotState::Empty => ("empty", None),
        SlotState::Sound(_) => ("sound", None),
        SlotState::Unreadable(error) => ("unreadable", Some(error.clone())),
        SlotState::BadHeader(error) => ("bad-header", Some(super::text::chain(error))),
        SlotState::BadPayload { why, .. } => ("bad-payload", Some(why.clone())),
    };
    json!({
        "slot": slot.slot, "offset": slot.offset, "len": slot.len, "state": state, "why": why,
        "header": slot.header().map(header),
    })
}

fn log(log: &Log) -> Value {
    let end = |place: &EndPlace| {
        json!({
            "position": place.position, "offset": place.offset, "code": place.reason.code(), "text": place.reason.text(),
        })
    };
    let record = |one: &vol_format::examine::RecordSummary| {
        json!({
            "sequence": one.sequence, "position": one.position, "offset": one.offset, "len": one.len,
            "previous": hex(&one.previous), "hash": hex(&one.hash), "changes": one.changes, "summary": one.summary,
        })
    };
    let beyond = |one: &vol_format::examine::Beyond| json!({"sequence": one.sequence, "position": one.position, "offset": one.offset, "hash": hex(&one.hash)});
    json!({
        "offset": log.offset, "len": log.len, "start_position": log.start, "end_position": log.end,
        "record_count": log.record_count, "records": log.records.iter().map(record).collect::<Vec<_>>(),
        "end": log.places.iter().map(end).collect::<Vec<_>>(),
        "beyond_count": log.beyond_count, "beyond": log.beyond.iter().map(beyond).collect::<Vec<_>>(),
    })
}

fn disk(path: &str, found: &Examination) -> Value {
    let known = found.known.iter().map(|(sequence, hash)| json!({"sequence": sequence, "hash": hex(hash)}));
    json!({
        "path": path, "size_bytes": found.size, "severity": found.worst().as_str(),
        "findings": found.findings.iter().map(finding).collect::<Vec<_>>(),
        "mark": {
            "head": mark(&found.mark.head, found.mark.head_offset),
            "backup": mark(&found.mark.backup, found.mark.backup_offset),
        },
        "labels": found.labels.iter().map(place).collect::<Vec<_>>(),
        "label": found.label.as_ref().map(label),
        "access": found.access.map(|access| match access {
            Access::ReadWrite => "read-write",
            Access::ReadOnly => "read-only",
        }),
        "slots": found.slots.iter().map(slot).collect::<Vec<_>>(),
        "chosen_slot": found.chosen_slot,
        "log": found.log.as_ref().map(log),
        "head": found.head.as_ref().map(point),
        "known_points": known.collect::<Vec<_>>(),
        "objects": found.objects.iter().map(object::to_json).collect::<Vec<_>>(),
    })
}

fn group(disks: &[Disk], group: &Group) -> Value {
    let path = |at: usize| disks.get(at).map(|disk| disk.path.as_str());
    let copy = |copy: &super::CopyStanding| {
        let behind = match copy.standing {
            vol_format::examine::compare::Standing::ProvenOld { behind } => Some(behind),
            _ => None,
        };
        json!({
            "path": path(copy.disk), "pv": copy.pv.to_string(), "head": point(&copy.head),
            "standing": copy.standing.as_str(), "behind": behind,
        })
    };
    json!({
        "id": group.vg.to_string(), "name": group.name, "newest": path(group.chosen), "members": group.members,
        "copies": group.copies.iter().map(copy).collect::<Vec<_>>(),
        "members_not_given": group.absent.iter().map(|(pv, hint)| json!({"pv": pv.to_string(), "path_hint": hint})).collect::<Vec<_>>(),
    })
}

/// Everything.
pub fn to_json(disks: &[Disk], groups: &[Group]) -> Value {
    json!({
        "disks": disks.iter().map(|one| disk(&one.path, &one.found)).collect::<Vec<_>>(),
        "volume_groups": groups.iter().map(|one| group(disks, one)).collect::<Vec<_>>(),
    })
}
