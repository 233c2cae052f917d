//! Requests for thick volumes.

use vol_api::{ApiError, VolumeInfo, parse_field};
use vol_core::plan::thick::Layout;
use vol_engine::CreateThick;
use vol_engine::host::HostMut;
use vol_types::{FsKind, Name, VolumePath};

use super::EngineBackend;
use super::change::{bytes, changed};
use super::error::from_engine;
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
    if request.reserve.is_some() {
        return Err(ApiError::invalid("reserve: all of a thick volume's space is its own already")
            .with_hint("leave out either --thick or --reserve"));
    }
    let wanted = CreateThick {
        path: path.clone(),
        size: bytes("size", &request.size)?,
        layout: Layout {
            stripes: request.stripes.unwrap_or(1),
            stripe_size: request.stripe_size.as_deref().map(|text| bytes("stripe size", text)).transpose()?,
            contiguous: request.contiguous,
        },
        place: super::space::place((&request.on, &request.not_on), &request.on_labels, request.contiguous)?,
        mkfs: super::fs::format(fs, request)?,
        fs,
        labels: super::life::labels(&request.labels)?,
        protect: request.protect,
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
        ("on_labels", !request.on_labels.is_empty()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((field, _)) => Err(ApiError::invalid(format!("{field}: only a thick volume has extents of its own"))
            .with_hint("add --thick; where a thin volume lies is the business of its pool")),
    }
}
