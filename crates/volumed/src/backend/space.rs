//! Requests about the space of pools.

use std::collections::BTreeMap;

use vol_api::{ApiError, PoolInfo};
use vol_core::plan::grow::{ExtendPool, SetPool, SpacePolicy};
use vol_engine::PlaceOn;
use vol_engine::host::HostMut;
use vol_types::{GrowSpec, Growth, PoolPath, WhenFull, parse_growth};

use super::EngineBackend;
use super::change::changed;
use super::error::from_engine;
use crate::api::Change;

fn growth(text: &str) -> Result<Growth, ApiError> {
    parse_growth(text).map_err(|error| {
        ApiError::invalid(format!("grow_to: {error}"))
            .with_hint("vg (as far as the volume group has space), off, or the size that it may have")
    })
}

fn when_full(text: &str) -> Result<WhenFull, ApiError> {
    match text {
        "queue" => Ok(WhenFull::Queue),
        "error" => Ok(WhenFull::Error),
        other => Err(ApiError::invalid(format!("when_full: {other:?} is neither queue nor error"))
            .with_hint("queue lets writes wait for space, error fails them at once")),
    }
}

fn grow_spec(field: &str, text: Option<&String>) -> Result<Option<GrowSpec>, ApiError> {
    text.map(|text| text.parse().map_err(|error| ApiError::invalid(format!("{field}: {error}")))).transpose()
}

/// The policies that a new pool is asked for with.
pub fn policy(request: &vol_api::CreatePool) -> Result<SpacePolicy, ApiError> {
    let usual = SpacePolicy::default();
    Ok(SpacePolicy {
        growth: request.grow_to.as_deref().map_or(Ok(usual.growth), growth)?,
        when_full: request.when_full.as_deref().map_or(Ok(usual.when_full), when_full)?,
        reserve_percent: request.reserve_percent.unwrap_or(usual.reserve_percent),
    })
}

/// Where something is asked to lie.
pub fn place(
    (on, not_on): (&[String], &[String]),
    on_labels: &BTreeMap<String, String>,
    contiguous: bool,
) -> Result<PlaceOn, ApiError> {
    let pvs = |names: &[String]| names.iter().map(super::membership::pv_name).collect::<Result<Vec<_>, _>>();
    Ok(PlaceOn { on: pvs(on)?, not_on: pvs(not_on)?, labels: super::life::labels(on_labels)?, contiguous })
}

pub fn extend<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &PoolPath,
    request: &vol_api::ExtendPool,
    dry_run: bool,
) -> Change<PoolInfo> {
    let wanted = ExtendPool {
        name: path.pool.clone(),
        data: grow_spec("size", request.size.as_ref())?,
        metadata: grow_spec("metadata", request.metadata.as_ref())?,
        placement: None,
        contiguous: request.contiguous,
    };
    let place = place((&request.on, &request.not_on), &request.on_labels, request.contiguous)?;
    let done = backend.engine.extend_pool_on(&path.vg, &wanted, &place, dry_run).map_err(from_engine)?;
    changed(backend, &path.vg, done, || backend.pool_info(path))
}

pub fn set<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &PoolPath,
    request: &vol_api::SetPool,
    dry_run: bool,
) -> Change<PoolInfo> {
    let wanted = SetPool {
        name: path.pool.clone(),
        growth: request.grow_to.as_deref().map(growth).transpose()?,
        when_full: request.when_full.as_deref().map(when_full).transpose()?,
        reserve_percent: request.reserve_percent,
        overcommit_percent: request.overcommit_limit_percent,
        placement: None,
    };
    let place = place((&request.on, &request.not_on), &request.on_labels, false)?;
    if request.anywhere && !place.is_anywhere() {
        return Err(ApiError::invalid("anywhere: the pool cannot grow anywhere and on certain PVs alone")
            .with_hint("leave out either anywhere, or on, not_on and on_labels"));
    }
    let place = Some(&place).filter(|place| request.anywhere || !place.is_anywhere());
    let done = backend.engine.set_pool_on(&path.vg, &wanted, place, dry_run).map_err(from_engine)?;
    changed(backend, &path.vg, done, || backend.pool_info(path))
}
