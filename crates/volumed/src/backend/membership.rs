//! Requests that change what a VG is made of.

use std::path::PathBuf;

use vol_api::{ApiError, PoolInfo, PvInfo, VgInfo, parse_field};
use vol_engine::host::HostMut;
use vol_engine::{Done, ExtendVg, PvName, ReduceVg, WipedPv};
use vol_types::{Name, PoolPath};

use super::EngineBackend;
use super::change::{changed, device_paths, file_specs, plan};
use super::error::from_engine;
use crate::api::{Backend, Change};

pub fn extend<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    vg: &Name,
    request: &vol_api::ExtendVg,
    dry_run: bool,
) -> Change<VgInfo> {
    let wanted = ExtendVg {
        vg: vg.clone(),
        disks: device_paths(&request.devices)?,
        files: file_specs(&request.files)?,
        wipe: request.wipe,
    };
    changed(backend, vg, backend.engine.extend_vg(&wanted, dry_run).map_err(from_engine)?, || backend.vg(vg))
}

pub(super) fn pv_name(text: &String) -> Result<PvName, ApiError> {
    if let Ok(id) = text.parse() {
        return Ok(PvName::Id(id));
    }
    let path = PathBuf::from(text);
    if path.is_absolute() && !text.contains('\0') {
        Ok(PvName::Path(path))
    } else {
        Err(ApiError::invalid(format!("{text:?} is neither the id of a PV nor an absolute path")))
    }
}

pub fn reduce<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    vg: &Name,
    request: &vol_api::ReduceVg,
    dry_run: bool,
) -> Change<VgInfo> {
    let wanted = ReduceVg {
        vg: vg.clone(),
        pvs: request.pvs.iter().map(pv_name).collect::<Result<_, _>>()?,
        missing: request.missing,
        force: request.force,
    };
    let done = backend.engine.reduce_vg(&wanted, dry_run).map_err(from_engine)?;
    let mut answer = changed(backend, vg, done, || backend.vg(vg))?;
    if let vol_api::Changed::Done(outcome) = &mut answer
        && outcome.changed
    {
        let left = backend.engine.scan_problems().into_iter().filter(|problem| problem.code == "pv-unknown");
        outcome.warnings.extend(left.map(|problem| problem.message));
    }
    Ok(answer)
}

pub fn rename<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    vg: &Name,
    request: &vol_api::RenameVg,
    dry_run: bool,
) -> Change<VgInfo> {
    let new: Name = parse_field("name", &request.name)?;
    changed(backend, &new, backend.engine.rename_vg(vg, &new, dry_run).map_err(from_engine)?, || backend.vg(&new))
}

pub fn export<H: HostMut + 'static>(backend: &EngineBackend<H>, vg: &Name, dry_run: bool) -> Change<VgInfo> {
    changed(backend, vg, backend.engine.export_vg(vg, dry_run).map_err(from_engine)?, || backend.vg(vg))
}

pub fn import<H: HostMut + 'static>(backend: &EngineBackend<H>, vg: &Name, dry_run: bool) -> Change<VgInfo> {
    changed(backend, vg, backend.engine.import_vg(vg, dry_run).map_err(from_engine)?, || backend.vg(vg))
}

fn wiped(pv: &WipedPv) -> PvInfo {
    PvInfo {
        id: pv.pv.to_string(),
        vg: pv.vg_name.clone().unwrap_or_default(),
        path: Some(pv.node.display().to_string()),
        present: true,
        size_bytes: pv.size.get(),
        ..PvInfo::default()
    }
}

pub fn wipe<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    request: &vol_api::WipePv,
    dry_run: bool,
) -> Change<PvInfo> {
    let device = device_paths(std::slice::from_ref(&request.device))?.pop().unwrap_or_default();
    Ok(match backend.engine.wipe_pv(&device, request.force, dry_run).map_err(from_engine)? {
        Done::Planned(planned) => vol_api::Changed::Planned(plan(&planned)),
        Done::Changed(pv) | Done::Unchanged(pv) => vol_api::Changed::Done(vol_api::Outcome::changed(wiped(&pv))),
    })
}

pub fn give_up_pool<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &PoolPath,
    request: &vol_api::GiveUpPool,
    dry_run: bool,
) -> Change<PoolInfo> {
    let was = backend.pool(path)?;
    let done = backend.engine.delete_lost_pool(&path.vg, &path.pool, request.force, dry_run).map_err(from_engine)?;
    changed(backend, &path.vg, done, || Ok(was))
}
