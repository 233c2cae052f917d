//! `volctl pool check` and `pool repair`.

use vol_api::{CheckPool, PoolRepairInfo, RepairPool};
use vol_types::PoolPath;

use super::change::{Question, line, plan_of};
use super::{Run, Session};
use crate::cli::Change;

pub async fn check(pool: &PoolPath, online: bool, session: &mut Session<'_>) -> Run {
    let checked = session.client.check_pool(pool, &CheckPool { online }, false).await?;
    session.report(&checked, pool.to_string(), |outcome| {
        let found = outcome.object.as_ref();
        let how = match found.map(|found| found.how.as_str()) {
            Some("running") => "checked while it runs: no errors were found in what it has committed",
            _ => "checked by thin_check: no errors were found",
        };
        let next = match found.map(|found| found.how.as_str()) {
            Some("running") => "All of its metadata are checked when none of its volumes is active",
            _ => "",
        };
        line(&format!("pool {pool}"), false, "", how, next)
    })
}

fn what_was_done(pool: &PoolPath, info: Option<&PoolRepairInfo>) -> (String, String) {
    match info.map(|info| info.how.as_str()) {
        Some("cleared") => (
            "checked: its metadata are sound, and the kernel takes changes again".to_owned(),
            "Its file systems are checked before they are mounted writable the next time".to_owned(),
        ),
        Some("discarded") => ("rid of its original metadata".to_owned(), String::new()),
        _ => {
            let mut done = "repaired, and its original metadata are kept".to_owned();
            for name in info.iter().flat_map(|info| &info.lost) {
                done.push_str(&format!("\n  lost: {name}"));
            }
            for one in info.iter().flat_map(|info| &info.incomplete) {
                done.push_str(&format!(
                    "\n  not whole: {} ({} of {} chunks)",
                    one.full_name, one.chunks, one.chunks_before
                ));
            }
            (
                done,
                format!(
                    "Its file systems are checked before they are mounted writable the next time. When all is well: \
                     volctl pool repair {pool} --discard-original"
                ),
            )
        }
    }
}

pub async fn repair(pool: &PoolPath, request: RepairPool, change: &Change, session: &mut Session<'_>) -> Run {
    if !change.yes && !change.dry_run {
        // The dry run first: what is refused is refused before a question is asked.
        let plan = plan_of(session.client.repair_pool(pool, &request, true).await?);
        if request.discard_original {
            let question =
                format!("Give up the original metadata of pool {pool}? After that there is no way back to them.");
            if plan.as_ref().is_some_and(|plan| plan.changes) {
                session.confirm(None, &Question::YesNo(question))?;
            }
        } else if request.accept_loss {
            let what = format!("Repair pool {pool}, even if volumes or parts of them are lost?");
            session.confirm(plan.as_ref(), &Question::TypeName { what, name: pool.to_string() })?;
        } else {
            let question = format!("Take pool {pool} down, check its metadata and repair them if they are damaged?");
            session.confirm(plan.as_ref(), &Question::YesNo(question))?;
        }
    }
    let changed = session.client.repair_pool(pool, &request, change.dry_run).await?;
    session.report(&changed, pool.to_string(), |outcome| {
        let (done, next) = what_was_done(pool, outcome.object.as_ref());
        let already = if request.discard_original {
            "has no original metadata that could be given up"
        } else {
            "checked: its metadata are in order, nothing was repaired"
        };
        let next = if outcome.changed { next } else { String::new() };
        line(&format!("pool {pool}"), outcome.changed, &done, already, &next)
    })
}
