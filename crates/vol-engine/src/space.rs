//! The space of pools: requests that change it, and what is done about it without being asked.

use vol_core::plan::grow::{self, ExtendPool, SetPool};
use vol_core::plan::pool;
use vol_types::{Name, PoolId};

use crate::engine::{Done, Engine, done};
use crate::error::EngineError;
use crate::host::HostMut;

impl<H: HostMut> Engine<H> {
    /// Gives a pool more data or metadata extents of its VG.
    pub fn extend_pool(&self, vg: &Name, request: &ExtendPool, dry_run: bool) -> Result<Done<PoolId>, EngineError> {
        let (plan, id) = self.vg(vg)?.change(self.host(), dry_run, |catalog, kernel, missing| {
            let id = pool::find(catalog, Some(&request.name))?.id;
            Ok((grow::extend(catalog, kernel, missing, request)?, id))
        })?;
        Ok(done(plan, id, dry_run))
    }

    /// Changes what is to happen as a pool fills.
    pub fn set_pool(&self, vg: &Name, request: &SetPool, dry_run: bool) -> Result<Done<PoolId>, EngineError> {
        let (plan, id) = self.vg(vg)?.change(self.host(), dry_run, |catalog, kernel, missing| {
            let id = pool::find(catalog, Some(&request.name))?.id;
            Ok((grow::set(catalog, kernel, missing, request)?, id))
        })?;
        Ok(done(plan, id, dry_run))
    }
}
