//! Plans made wrong: each function takes one thing out of a plan, or puts it in the wrong place.

use vol_core::{Action, Plan};
use vol_types::{Change, Content, Object, ObjectKey, VgState};

fn puts(action: &Action, which: impl Fn(&Object) -> bool) -> bool {
    matches!(action, Action::Commit { changes } | Action::CommitLater { changes }
        if changes.iter().any(|change| matches!(change, Change::Put(object) if which(object))))
}
fn begins(action: &Action) -> bool {
    puts(action, |object| matches!(object, Object::Intent(_)))
}
fn ends(action: &Action) -> bool {
    let is_intent = |change: &Change| matches!(change, Change::Delete(ObjectKey::Intent(_)));
    matches!(action, Action::Commit { changes } | Action::CommitLater { changes } if changes.iter().any(is_intent))
}
const fn is_message(action: &Action) -> bool {
    matches!(action, Action::CreateThin { .. } | Action::SnapshotThin { .. } | Action::DeleteThin { .. })
}
fn says(action: &Action, state: VgState) -> bool {
    puts(action, |object| matches!(object, Object::Vg(vg) if vg.state == state))
}

/// Takes out the steps that are meant.
fn drop_all(plan: &mut Plan, which: impl Fn(&Action) -> bool) {
    plan.steps.retain(|step| !which(&step.action));
}

/// Puts the steps that are meant right before the first that `before` means, if they are behind it.
fn pull(plan: &mut Plan, which: impl Fn(&Action) -> bool, before: impl Fn(&Action) -> bool) {
    let Some(at) = plan.steps.iter().position(|step| before(&step.action)) else { return };
    let behind = plan.steps.split_off(at);
    let (pulled, rest): (Vec<_>, Vec<_>) = behind.into_iter().partition(|step| which(&step.action));
    plan.steps.extend(pulled);
    plan.steps.extend(rest);
}

pub fn no_intent(plan: &mut Plan) {
    drop_all(plan, begins);
}
pub fn message_before_intent(plan: &mut Plan) {
    pull(plan, is_message, begins);
}
pub fn swap_before_message(plan: &mut Plan) {
    pull(plan, |action| matches!(action, Action::SetTransaction { .. }), is_message);
}
pub fn no_swap(plan: &mut Plan) {
    if plan.steps.iter().any(|step| matches!(step.action, Action::SetTransaction { .. })) {
        drop_all(plan, |action| matches!(action, Action::SetTransaction { .. } | Action::CheckPool { .. }));
    }
}
pub fn no_check(plan: &mut Plan) {
    drop_all(plan, |action| matches!(action, Action::CheckPool { .. }));
}
pub fn done_before_message(plan: &mut Plan) {
    if plan.steps.iter().any(|step| begins(&step.action)) {
        pull(plan, ends, is_message);
    }
}
pub fn no_done(plan: &mut Plan) {
    if plan.steps.iter().any(|step| begins(&step.action)) {
        drop_all(plan, ends);
    }
}
pub fn thin_id_plus_one(plan: &mut Plan) {
    for step in &mut plan.steps {
        match &mut step.action {
            Action::CreateThin { thin_id, .. } => *thin_id += 1,
            Action::SnapshotThin { snapshots, .. } => snapshots.iter_mut().for_each(|one| one.thin_id += 1),
            _ => {}
        }
    }
}
pub fn no_delete_message(plan: &mut Plan) {
    drop_all(plan, |action| matches!(action, Action::DeleteThin { .. }));
}
pub fn labels_before_checkpoint(plan: &mut Plan) {
    pull(
        plan,
        |action| matches!(action, Action::WriteLabel { .. }),
        |action| matches!(action, Action::StartStore { .. }),
    );
}
pub fn marks_before_labels(plan: &mut Plan) {
    pull(
        plan,
        |action| matches!(action, Action::WriteMark { .. }),
        |action| matches!(action, Action::StartStore { .. }),
    );
}
pub fn labels_before_marks(plan: &mut Plan) {
    pull(
        plan,
        |action| matches!(action, Action::EraseLabel { .. }),
        |action| matches!(action, Action::EraseMark { .. }),
    );
}
/// Labels go from disks without metadata first: the other way round it is from those with metadata.
pub fn metadata_first(plan: &mut Plan) {
    let places: Vec<usize> =
        (0..plan.steps.len()).filter(|at| matches!(plan.steps[*at].action, Action::EraseLabel { .. })).collect();
    let steps: Vec<_> = places.iter().rev().map(|at| plan.steps[*at].clone()).collect();
    for (at, step) in places.into_iter().zip(steps) {
        plan.steps[at] = step;
    }
}
pub fn no_erasing(plan: &mut Plan) {
    drop_all(plan, |action| says(action, VgState::Erasing));
}
pub fn no_deleting(plan: &mut Plan) {
    drop_all(plan, |action| says(action, VgState::Deleting) || says(action, VgState::Erasing));
}
pub fn no_suspend(plan: &mut Plan) {
    for step in &mut plan.steps {
        if let Action::SnapshotThin { snapshots, .. } = &mut step.action {
            snapshots.iter_mut().for_each(|one| one.origin = None);
        }
    }
}
pub fn no_zero(plan: &mut Plan) {
    drop_all(plan, |action| matches!(action, Action::ZeroStart { .. }));
}
pub fn formatted_before_mkfs(plan: &mut Plan) {
    let formatted = |object: &Object| matches!(object, Object::Volume(volume) if matches!(volume.content, Content::Formatted { .. }));
    pull(plan, |action| puts(action, formatted), |action| matches!(action, Action::Mkfs { .. }));
}
pub fn formatted_before_root(plan: &mut Plan) {
    let formatted = |object: &Object| matches!(object, Object::Volume(volume) if matches!(volume.content, Content::Formatted { .. }));
    pull(plan, |action| puts(action, formatted), |action| matches!(action, Action::PrepareRoot { .. }));
}
pub fn no_root(plan: &mut Plan) {
    drop_all(plan, |action| matches!(action, Action::PrepareRoot { .. }));
}
pub fn no_mkfs(plan: &mut Plan) {
    drop_all(plan, |action| matches!(action, Action::Mkfs { .. } | Action::VerifyFs { .. }));
}
pub fn no_verify(plan: &mut Plan) {
    drop_all(plan, |action| matches!(action, Action::VerifyFs { .. }));
}
pub fn no_remove(plan: &mut Plan) {
    drop_all(plan, |action| matches!(action, Action::RemoveDm { .. } | Action::ReleaseDm { .. }));
}
pub fn pool_forgotten_first(plan: &mut Plan) {
    let forgets = |action: &Action| {
        let is_pool = |change: &Change| matches!(change, Change::Delete(ObjectKey::Pool(_)));
        matches!(action, Action::Commit { changes } if changes.iter().any(is_pool))
    };
    pull(plan, forgets, |action| matches!(action, Action::RemoveDm { .. }));
}
pub fn writable_snapshot(plan: &mut Plan) {
    for step in &mut plan.steps {
        match &mut step.action {
            Action::Mount { read_only, no_replay, .. } => (*read_only, *no_replay) = (false, false),
            Action::CreateDm { read_only, .. } => *read_only = false,
            _ => {}
        }
    }
}
pub fn same_uuid_refused(plan: &mut Plan) {
    for step in &mut plan.steps {
        if let Action::Mount { allow_same_uuid, .. } = &mut step.action {
            *allow_same_uuid = false;
        }
    }
}
pub fn no_remember(plan: &mut Plan) {
    drop_all(plan, |action| matches!(action, Action::RememberFiles { .. }));
}
pub fn no_resume(plan: &mut Plan) {
    drop_all(plan, |action| matches!(action, Action::ResumeDm { .. }));
}
