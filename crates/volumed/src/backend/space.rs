//! The space of pools: requests about it, and the thread that lets them grow.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use vol_api::{ApiError, PoolInfo};
use vol_core::plan::grow::{ExtendPool, SetPool, SpacePolicy};
use vol_engine::Engine;
use vol_engine::host::HostMut;
use vol_types::{GrowSpec, Growth, PoolPath, WhenFull, parse_growth};

use super::EngineBackend;
use super::change::changed;
use super::error::from_engine;
use crate::api::Change;

/// The thread that looks after the pools, as often as they need it. A thread of its own, for a growth waits for changes of its VG.
pub struct Guard {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl Guard {
    pub fn start<H: HostMut + 'static>(engine: Arc<Engine<H>>) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let told = stop.clone();
        let thread = std::thread::Builder::new().name("space".to_owned()).spawn(move || {
            let (lock, changed) = &*told;
            let mut stopped = lock.lock().unwrap_or_else(PoisonError::into_inner);
            while !*stopped {
                drop(stopped);
                let pause = engine.guard_space();
                stopped = lock.lock().unwrap_or_else(PoisonError::into_inner);
                if !*stopped {
                    stopped = changed.wait_timeout(stopped, pause).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Waits for a growth that is under way.
    pub fn stop(self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if self.thread.join().is_err() {
            tracing::error!("the thread that lets pools grow had failed");
        }
    }
}

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
    };
    let done = backend.engine.extend_pool(&path.vg, &wanted, dry_run).map_err(from_engine)?;
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
    };
    let done = backend.engine.set_pool(&path.vg, &wanted, dry_run).map_err(from_engine)?;
    changed(backend, &path.vg, done, || backend.pool_info(path))
}
