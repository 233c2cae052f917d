//! Devices that stand on a disk which went and came back: the kernel has given it another number, and their tables still name the one
//! that is dead.

use std::collections::BTreeSet;

use vol_types::{Pool, PoolId, PvId};

use crate::catalog::Catalog;
use crate::dm::{Device, Table};
use crate::observed::{PoolMode, PoolStatus};
use crate::plan::{Kernel, Plan, pool, thick, volume};
use crate::step::{Action, Requirement, Step};

/// What the table of a device of this VG should be, if it stands on PVs and is not made anew whenever it is needed.
pub fn table(catalog: &Catalog, device: Device) -> Option<Table> {
    match device {
        Device::PoolMetadata(id) => Some(pool::tables(catalog, catalog.pool(id)?).ok()?.metadata),
        Device::PoolData(id) => Some(pool::tables(catalog, catalog.pool(id)?).ok()?.data),
        Device::Volume(id) => {
            let volume = catalog.volume(id).filter(|volume| volume.thick().is_some())?;
            volume::table(catalog, volume).ok()
        }
        Device::PoolSpare(_) | Device::Pool(_) | Device::Filling(_) | Device::CopySource(_) => None,
    }
}

/// One plan for each pool and volume that has devices among the `dead`: they are given tables that name the disks as they are now. A pool
/// that nobody uses is taken down instead, and comes up again as at a start. What stands on a disk that is `missing` is left as it
/// is.
pub fn plans(catalog: &Catalog, kernel: &Kernel, dead: &BTreeSet<Device>, missing: &[PvId]) -> Vec<Plan> {
    let mut plans = Vec::new();
    for pool in catalog.pools() {
        let devices = [Device::PoolMetadata(pool.id), Device::PoolData(pool.id)];
        let whole = pool.data.iter().chain(&pool.metadata).all(|segment| !missing.contains(&segment.pv));
        if !whole || !devices.iter().any(|device| dead.contains(device)) {
            continue;
        }
        let mut plan = Plan::new(format!("put pool {} on its disks again", pool.name));
        if is_unused(kernel, pool.id) {
            pool::deactivate(kernel, pool.id, &mut plan);
        } else {
            devices.into_iter().filter(|device| dead.contains(device)).for_each(|it| reload(catalog, it, &mut plan));
        }
        plans.push(plan);
    }
    for volume in catalog.thick_volumes() {
        let mut plan = Plan::new(format!("put volume {} on its disks again", volume.name));
        let device = Device::Volume(volume.id);
        let whole = volume.thick().is_some_and(|it| it.segments.iter().all(|one| !missing.contains(&one.pv)));
        if dead.contains(&device) && whole {
            reload(catalog, device, &mut plan);
        }
        if dead.contains(&Device::Filling(volume.id)) || dead.contains(&Device::CopySource(volume.id)) {
            // Whoever goes on with it makes them anew.
            thick::take_down(kernel, volume, &mut plan);
        }
        if !plan.is_empty() {
            plans.push(plan);
        }
    }
    plans
}

/// Takes down a pool that failed while a disk of it was gone, once nobody uses it: when it comes up again the kernel reads its metadata
/// anew. `None`: it is used, or it is well, or it is down already.
pub fn renew(kernel: &Kernel, pool: &Pool) -> Option<Plan> {
    if is_well(kernel, pool.id) || !kernel.dm.contains_key(&Device::Pool(pool.id)) || !is_unused(kernel, pool.id) {
        return None;
    }
    let mut plan = Plan::new(format!("bring pool {} up anew", pool.name));
    pool::deactivate(kernel, pool.id, &mut plan);
    Some(plan)
}

/// Whether the kernel lets a pool be written to.
pub fn is_well(kernel: &Kernel, pool: PoolId) -> bool {
    matches!(kernel.pools.get(&pool), Some(PoolStatus::Working(usage))
        if usage.mode != PoolMode::ReadOnly && !usage.needs_check)
}

fn is_unused(kernel: &Kernel, pool: PoolId) -> bool {
    kernel.dm.get(&Device::Pool(pool)).is_none_or(|info| info.open_count == 0)
}

fn reload(catalog: &Catalog, device: Device, plan: &mut Plan) {
    if let Some(table) = table(catalog, device) {
        plan.steps.push(Step::new(Action::ReloadDm { device, table }).requires(Requirement::Active(device)));
    }
}
