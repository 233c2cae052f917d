//! Requests for thick volumes.

use std::collections::BTreeSet;

use vol_api::{ApiError, VolumeInfo, parse_field};
use vol_core::plan::thick::Layout;
use vol_engine::host::HostMut;
use vol_engine::{CreateThick, PvName};
use vol_types::{FsKind, Name, PvId, VolumePath};

use super::EngineBackend;
use super::change::{bytes, changed};
use super::error::from_engine;
use super::membership::pv_name;
use crate::api::Change;

pub fn create<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    fs: Option<FsKind>,
    request: &vol_api::CreateVolume,
    dry_run: bool,
) -> Change<VolumeInfo> {
    if let Some(pool) = &request.pool {
        let pool: Name = parse_field("pool", pool)?;
        return Err(ApiError::invalid(format!("thick: a thick volume is in no pool, so not in {pool}"))
            .with_hint("leave out either --thick or --pool"));
    }
    let wanted = CreateThick {
        path: path.clone(),
        size: bytes("size", &request.size)?,
        layout: Layout {
            stripes: request.stripes.unwrap_or(1),
            stripe_size: request.stripe_size.as_deref().map(|text| bytes("stripe size", text)).transpose()?,
            contiguous: request.contiguous,
        },
        pvs: allowed(backend, &path.vg, &request.on, &request.not_on)?,
        mkfs: super::fs::format(fs, request)?,
        fs,
        labels: super::life::labels(&request.labels)?,
    };
    changed(backend, &path.vg, backend.engine.create_thick(&wanted, dry_run).map_err(from_engine)?, || {
        backend.volume_info(path)
    })
}

/// Refuses for a volume in a pool what only thick ones have.
pub fn only_of_thick(request: &vol_api::CreateVolume) -> Result<(), ApiError> {
    let given = [
        ("stripes", request.stripes.is_some()),
        ("stripe_size", request.stripe_size.is_some()),
        ("contiguous", request.contiguous),
        ("on", !request.on.is_empty()),
        ("not_on", !request.not_on.is_empty()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((field, _)) => Err(ApiError::invalid(format!("{field}: only a thick volume has extents of its own"))
            .with_hint("add --thick; where a thin volume lies is the business of its pool")),
    }
}

/// The PVs that may be used; `None`: all.
fn allowed<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    vg: &Name,
    on: &[String],
    not_on: &[String],
) -> Result<Option<BTreeSet<PvId>>, ApiError> {
    if on.is_empty() && not_on.is_empty() {
        return Ok(None);
    }
    let open = backend.open_vg(vg)?;
    let view = open.view();
    let find = |text: &String| -> Result<PvId, ApiError> {
        let name = pv_name(text)?;
        let found = open.read(|catalog| match &name {
            PvName::Id(id) => catalog.pv(*id).map(|pv| pv.id),
            PvName::Path(path) => {
                let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                let node = view.nodes.iter().find(|(_, node)| *node == *path || *node == real).map(|(id, _)| *id);
                node.or_else(|| {
                    let of_file =
                        |pv: &&vol_types::Pv| pv.backing_file.as_deref().map(std::path::Path::new) == Some(path);
                    catalog.pvs().find(of_file).map(|pv| pv.id)
                })
            }
        });
        found.ok_or_else(|| {
            ApiError::not_found(format!("{text} is no PV of volume group {vg}"))
                .with_hint("`volctl pv list` shows them")
        })
    };
    let on: BTreeSet<_> = on.iter().map(find).collect::<Result<_, _>>()?;
    let not_on: BTreeSet<_> = not_on.iter().map(find).collect::<Result<_, _>>()?;
    if let Some(both) = on.intersection(&not_on).next() {
        return Err(ApiError::invalid(format!("PV {both} is to be used and not to be used")));
    }
    let all: Vec<_> = open.read(|catalog| catalog.pvs().map(|pv| pv.id).collect());
    let is_allowed = |id: &PvId| (on.is_empty() || on.contains(id)) && !not_on.contains(id);
    Ok(Some(all.into_iter().filter(is_allowed).collect()))
}
