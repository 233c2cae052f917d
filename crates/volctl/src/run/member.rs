//! `volctl vg extend|reduce|rename|export|import`.

use vol_api::{ExtendVg, Outcome, ReduceVg, RenameVg, VgInfo};
use vol_types::Name;

use super::change::{Question, line, plan_of};
use super::vg::WIPE;
use super::{Run, Session, paths};
use crate::cli::{Change, Members, PvText};
use crate::render::{Format, count};

fn size_of(outcome: &Outcome<VgInfo>, format: Format) -> String {
    outcome.object.as_ref().map_or(String::new(), |vg| {
        format!(": {} on {}", format.size(vg.size_bytes), count(vg.pv_count, "physical volume"))
    })
}

pub async fn extend(vg: &Name, members: &Members, change: &Change, session: &mut Session<'_>) -> Run {
    let request = ExtendVg {
        devices: paths::devices(&members.devices)?,
        files: paths::files(&members.files)?,
        wipe: members.wipe,
    };
    if members.wipe && !change.yes && !change.dry_run {
        let plan = plan_of(session.client.extend_vg(vg, &request, true).await?);
        session.confirm(plan.as_ref(), &Question::YesNo(WIPE.to_owned()))?;
    }
    let changed = session.client.extend_vg(vg, &request, change.dry_run).await?;
    let format = session.format;
    session
        .report(&changed, vg.to_string(), |outcome| format!("volume group {vg} extended{}.", size_of(outcome, format)))
}

/// `(missing, force)`: what is gone is meant, and it will never come back.
pub async fn reduce(
    vg: &Name,
    pvs: &[PvText],
    (missing, force): (bool, bool),
    change: &Change,
    session: &mut Session<'_>,
) -> Run {
    let request = ReduceVg { pvs: paths::pvs(pvs)?, missing, force };
    if force && !change.yes && !change.dry_run {
        let plan = plan_of(session.client.reduce_vg(vg, &request, true).await?);
        let question = "The missing disks will never come back, and nothing on them is needed?".to_owned();
        session.confirm(plan.as_ref(), &Question::YesNo(question))?;
    }
    let changed = session.client.reduce_vg(vg, &request, change.dry_run).await?;
    let format = session.format;
    session.report(&changed, vg.to_string(), |outcome| {
        let size = size_of(outcome, format);
        line(&format!("volume group {vg}"), outcome.changed, &format!("reduced{size}"), "misses no physical volume", "")
    })
}

pub async fn rename(vg: &Name, new: &Name, change: &Change, session: &mut Session<'_>) -> Run {
    let changed = session.client.rename_vg(vg, &RenameVg { name: new.to_string() }, change.dry_run).await?;
    session.report(&changed, new.to_string(), |outcome| {
        line(&format!("volume group {vg}"), outcome.changed, &format!("renamed to {new}"), "is named so already", "")
    })
}

pub async fn export(vg: &Name, change: &Change, session: &mut Session<'_>) -> Run {
    let changed = session.client.export_vg(vg, change.dry_run).await?;
    session.report(&changed, vg.to_string(), |outcome| {
        let next = format!("Its disks may be taken away; take it into use again: volctl vg import {vg}");
        line(&format!("volume group {vg}"), outcome.changed, "exported", "is exported already", &next)
    })
}

pub async fn import(vg: &Name, change: &Change, session: &mut Session<'_>) -> Run {
    let changed = session.client.import_vg(vg, change.dry_run).await?;
    session.report(&changed, vg.to_string(), |outcome| {
        line(&format!("volume group {vg}"), outcome.changed, "imported", "is in use already", "")
    })
}
