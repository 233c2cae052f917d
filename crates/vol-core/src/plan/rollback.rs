//! `snapshot rollback`: a volume gets the content and the size of one of its snapshots, and stays itself otherwise.
//!
//! The snapshot stays too, so what the volume gets is a snapshot of it. In one transaction a *helper* is made, which is recorded as one
//! more snapshot of the volume; with the end of the transaction volume and helper exchange their thin ids. The helper, which then
//! holds what the volume held, is a deleted snapshot: kept for a while (see [`super::trash`]), or deleted at once in a transaction of
//! its own. Cut short before the kernel's transaction id has moved, the helper is taken back; cut short after it, all the rest is done
//! by recovery ([`finished`], and what it does with anything that is *deleting*).

use vol_types::{
    Backing, Bytes, Change, IntentId, Labels, Name, Object, Pool, Snapshot, ThinOp, Volume, VolumeId, VolumeState,
};

use crate::catalog::{Catalog, VolumeName};
use crate::dm::Device;
use crate::plan::snapshot::{as_planned, content_of, one_more, room_for_more, taken_of};
use crate::plan::thin::{Batch, ThinChange};
use crate::plan::{Kernel, Plan, agreement, thin, volume};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, Requirement, Step};

/// `snapshot rollback`.
#[derive(Clone, Debug)]
pub struct Rollback {
    /// Id of the helper.
    pub helper: VolumeId,
    /// Of the transaction that makes the helper.
    pub intent: IntentId,
    /// Of the transaction that deletes what the volume held before.
    pub removal: IntentId,
    pub of: Name,
    pub snapshot: Name,
    /// What the volume held before can be taken back for a while.
    pub keep: bool,
    pub now: u64,
}

/// What is to be done, and how to see in the catalog whether it was.
#[derive(Clone, Debug)]
pub struct Planned {
    pub plan: Plan,
    pub volume: VolumeId,
    /// The volume's thin id afterwards.
    pub thin_id: u32,
}

/// `snapshot rollback`. What the volume holds now is not in it afterwards, so nothing of it may be in use.
pub fn rollback(catalog: &Catalog, kernel: &Kernel, request: &Rollback) -> Result<Planned, Refusal> {
    let vg = &catalog.vg().name;
    let (path, from) = (format!("{vg}/{}", request.of), format!("{vg}/{}@{}", request.of, request.snapshot));
    let named = |snapshot: Option<&Name>| {
        catalog.volume_named(&VolumeName { volume: request.of.clone(), snapshot: snapshot.cloned() })
    };
    let source = named(Some(&request.snapshot)).ok_or_else(|| {
        Refusal::not_found(format!("there is no snapshot {from}")).hint("`volctl snapshot list` shows what there is")
    })?;
    let clone_it = format!("`volctl volume clone {from} {vg}/NEW` makes a volume of it");
    let Some(volume) = named(None) else {
        return Err(Refusal::not_found(format!("there is no volume {path} any more")).hint(clone_it));
    };
    if source.snapshot.as_ref().is_none_or(|snapshot| snapshot.of != volume.id) {
        return Err(Refusal::new(
            RefusalCode::Refused,
            format!("{from} is a snapshot of an earlier volume {} that was deleted since, not of this one", request.of),
        )
        .hint(clone_it));
    }
    for (object, path) in [(volume, &path), (source, &from)] {
        if object.state != VolumeState::Ready {
            return Err(Refusal::busy(format!("{path} is just being made or deleted")));
        }
        agreement::not_lost(kernel, object, path)?;
    }
    volume::not_protected(volume, &path, "roll back")?;
    let device = Device::Volume(volume.id);
    volume::not_in_use(kernel, device, &path, "roll back")?;
    volume::not_attached(kernel, volume, &path, "roll back")?;
    let Some(pool) = catalog.pool_of(volume).filter(|pool| Some(pool.id) == source.pool()) else {
        return Err(Refusal::not_found(format!("the pool of {path} is not there")));
    };
    let before = room_for_more(catalog, kernel, &Batch::default(), pool)?;
    volume::within_policy(catalog, &Batch::default(), pool, source.size.saturating_sub(volume.size))?;
    let (thin_id, after) = one_more(&before)?;
    let helper = Volume {
        id: request.helper,
        name: helper_name(request.helper)?,
        backing: Backing::Thin { pool: pool.id, thin_id },
        size: source.size,
        state: VolumeState::Creating,
        content: content_of(source),
        snapshot: Some(Snapshot { of: volume.id, of_name: volume.name.clone() }),
        created_at: request.now,
        labels: Labels::default(),
        // Until the end of the transaction this says what is to become of it.
        protected: request.keep,
        clone_of: None,
        reserve: Bytes::ZERO,
        check_fs: source.check_fs,
        deleted_at: None,
        subdir: source.subdir.clone(),
    };
    if catalog.volume_named(&VolumeName::of(&helper)).is_some() {
        return Err(Refusal::busy(format!("the name {vg}/{} is taken", VolumeName::of(&helper))).hint("try again"));
    }
    let [rolled_back, old] = exchanged(volume, &helper);
    let taken = taken_of(kernel, source, thin_id)?;
    let message = Action::SnapshotThin { pool: pool.id, snapshots: vec![taken] };
    let mut change = ThinChange {
        title: format!("roll {path} back to {from}"),
        volume: volume.id,
        names: Vec::new(),
        intent: request.intent,
        before: Vec::new(),
        pool: after,
        promises: Bytes::ZERO,
        // What it shares, it shares with the snapshot already.
        reserves: Bytes::ZERO,
        ops: vec![ThinOp::Rollback { volume: helper.id, thin_id, origin_thin_id: taken.origin_thin_id }],
        message: Step::new(message).requires(as_planned(source, &taken)).requires(Requirement::Absent(device)),
        begin: vec![Change::Put(Object::Volume(helper))],
        done: vec![Change::Put(Object::Volume(rolled_back)), Change::Put(Object::Volume(old.clone()))],
        then: Vec::new(),
    };
    if kernel.dm.contains_key(&device) {
        change.before.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
    }
    let swapped = Pool { transaction_id: change.pool.transaction_id.saturating_add(1), ..change.pool.clone() };
    let mut plan = thin::alone(change);
    if !request.keep {
        let old_id = old.thin_id().unwrap_or(thin_id);
        plan.steps.extend(thin::alone(volume::removal(&swapped, &old, old_id, request.removal)).steps);
    }
    Ok(Planned { plan, volume: volume.id, thin_id })
}

/// A name that nobody else thinks of: it is that of the helper, and of what the volume held as long as that is kept.
fn helper_name(id: VolumeId) -> Result<Name, Refusal> {
    let hex: String = id.to_string().chars().filter(char::is_ascii_hexdigit).collect();
    // With so many digits it is not met with twice.
    Name::new(&format!("rollback-{}", hex.get(..12).unwrap_or(&hex)))
        .map_err(|error| Refusal::invalid(error.to_string()))
}

/// The volume with what the helper holds, and the helper with what the volume held: deleted and kept, or to be deleted.
fn exchanged(volume: &Volume, helper: &Volume) -> [Volume; 2] {
    let rolled_back = Volume {
        backing: helper.backing.clone(),
        size: helper.size,
        content: helper.content.clone(),
        subdir: helper.subdir.clone(),
        reserve: volume.reserve.min(helper.size),
        check_fs: volume.check_fs || helper.check_fs,
        ..volume.clone()
    };
    let old = Volume {
        backing: volume.backing.clone(),
        size: volume.size,
        content: volume.content.clone(),
        subdir: volume.subdir.clone(),
        check_fs: volume.check_fs,
        ..discarded(helper)
    };
    [rolled_back, old]
}

/// The helper when it is over.
fn discarded(helper: &Volume) -> Volume {
    let (state, deleted_at) = match helper.protected {
        true => (VolumeState::Deleted, Some(helper.created_at)),
        false => (VolumeState::Deleting, None),
    };
    Volume { state, deleted_at, protected: false, ..helper.clone() }
}

/// What recovery records of a rollback whose transaction the kernel has closed; nothing if the helper is not there.
pub fn finished(catalog: &Catalog, helper: VolumeId) -> Vec<Change> {
    let Some(helper) = catalog.volume(helper) else { return Vec::new() };
    let volume = helper.snapshot.as_ref().and_then(|snapshot| catalog.volume(snapshot.of));
    let after = match volume {
        Some(volume) if volume.state == VolumeState::Ready && helper.state == VolumeState::Creating => {
            exchanged(volume, helper).to_vec()
        }
        // Without the volume that it is for it is of no use: it holds what the snapshot holds.
        _ => vec![Volume { state: VolumeState::Deleting, ..helper.clone() }],
    };
    after.into_iter().map(|volume| Change::Put(Object::Volume(volume))).collect()
}
