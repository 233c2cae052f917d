//! Checking and repairing a pool's own metadata.

use vol_api::{ApiError, Changed, ErrorCode, IncompleteVolume, Outcome, PoolCheckInfo, PoolRepairInfo, RepairPool};
use vol_engine::host::HostMut;
use vol_engine::{Done, Repaired};
use vol_types::PoolPath;

use super::EngineBackend;
use super::change::{changed, plan};
use super::error::from_engine;
use crate::api::Change;

pub fn check<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &PoolPath,
    request: &vol_api::CheckPool,
    dry_run: bool,
) -> Change<PoolCheckInfo> {
    backend.pool_info(path)?;
    if dry_run {
        // What is taken down comes up again: nothing that is recorded changes.
        let title = format!("check the metadata of pool {path}");
        return Ok(Changed::Planned(vol_api::Plan { title, changes: false, steps: Vec::new() }));
    }
    let checked = backend.engine.check_pool(&path.vg, &path.pool, request.online).map_err(from_engine)?;
    if !checked.findings.is_empty() {
        let hint = if checked.repairable {
            format!("unmount its volumes and run `volctl pool repair {path}`; see docs/pool-repair.md")
        } else {
            "no repair of the metadata helps against that; see `volctl status` and docs/troubleshooting.md".to_owned()
        };
        let message = format!("pool {path}: {}", checked.findings.join("; "));
        return Err(ApiError::new(ErrorCode::Degraded, message).with_hint(hint));
    }
    Ok(Changed::Done(Outcome::unchanged(Some(PoolCheckInfo {
        how: if checked.stopped { "stopped" } else { "running" }.to_owned(),
        thin_ids: checked.thins,
        pool: backend.pool_info(path)?,
    }))))
}

pub fn repair<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &PoolPath,
    request: &RepairPool,
    dry_run: bool,
) -> Change<PoolRepairInfo> {
    let info = |how: &str| -> Result<PoolRepairInfo, ApiError> {
        Ok(PoolRepairInfo { how: how.to_owned(), pool: backend.pool_info(path)?, ..PoolRepairInfo::default() })
    };
    if request.discard_original {
        if request.accept_loss {
            return Err(ApiError::invalid("discard_original repairs nothing, so there is no loss to accept")
                .with_hint("ask for one of the two"));
        }
        let done = backend.engine.discard_original(&path.vg, &path.pool, dry_run).map_err(from_engine)?;
        return changed(backend, &path.vg, done, || info("discarded"));
    }
    let repaired =
        backend.engine.repair_pool(&path.vg, &path.pool, request.accept_loss, dry_run).map_err(from_engine)?;
    match repaired {
        Done::Planned(planned) => Ok(Changed::Planned(plan(&planned))),
        Done::Unchanged(_) => Ok(Changed::Done(Outcome::unchanged(Some(info("nothing")?)))),
        Done::Changed(Repaired::Replaced(losses)) => {
            let named = |name: &vol_core::VolumeName| format!("{}/{name}", path.vg);
            let mut info = info("replaced")?;
            info.lost = losses.lost.iter().map(named).collect();
            info.incomplete = losses
                .shrunk
                .iter()
                .map(|(name, now, before)| IncompleteVolume {
                    full_name: named(name),
                    chunks: *now,
                    chunks_before: *before,
                })
                .collect();
            let mut warnings = Vec::new();
            if !losses.is_none() {
                warnings.push(format!("the repaired metadata lack something: {}", losses.in_words()));
            } else if !losses.compared {
                warnings.push(
                    "the original could not be read to compare with: whether the volumes are whole is not known"
                        .to_owned(),
                );
            }
            Ok(Changed::Done(Outcome { changed: true, object: Some(info), warnings }))
        }
        Done::Changed(_) => Ok(Changed::Done(Outcome::changed(info("cleared")?))),
    }
}
