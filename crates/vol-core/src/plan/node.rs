//! The device of a raw volume at a place that somebody else names: its node is shown there, on a file.

use std::path::Path;

use vol_types::Volume;

use crate::catalog::{Catalog, VolumeName};
use crate::dm::Device;
use crate::plan::{Kernel, Plan, mount};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, Requirement, Step};

/// Shows the node of an attached raw volume at `target`. An empty plan: it is there already.
///
/// The place is for reading only if the device is, and not otherwise: the kernel does not ask a mount whether a device may be written to.
///
/// # Errors
/// `refused` if the volume is not attached; `busy` if something else is mounted at `target`.
pub fn show(catalog: &Catalog, kernel: &Kernel, volume: &Volume, target: &Path) -> Result<Plan, Refusal> {
    let name = VolumeName::of(volume);
    let path = format!("{}/{name}", catalog.vg().name);
    mount::good_target(target)?;
    mount::raw(catalog, volume)?;
    let device = Device::Volume(volume.id);
    let mut plan = Plan::new(format!("show the device of {path} at {}", target.display()));
    let info = match kernel.dm.get(&device) {
        Some(info) if info.live_table && !info.suspended => info,
        Some(_) => {
            return Err(Refusal::new(RefusalCode::Degraded, format!("the device of {path} is suspended"))
                .hint("restart volumed: it resumes what was left suspended"));
        }
        None => {
            return Err(Refusal::new(RefusalCode::Refused, format!("{path} is not attached"))
                .hint(format!("attach it first: `volctl volume attach {path}`")));
        }
    };
    // What is on top is what is seen there.
    match kernel.mounts.iter().rfind(|mount| mount.target == target) {
        Some(there) if there.dev == info.dev => return Ok(plan),
        Some(other) => return Err(mount::taken(target, other, "place")),
        None => {}
    }
    let (read_only, target) = (info.read_only, target.to_owned());
    plan.steps.push(
        Step::new(Action::ShowNode { volume: volume.id, name, target: target.clone(), read_only })
            .requires(Requirement::Active(device))
            .requires(Requirement::NothingMountedAt(target)),
    );
    Ok(plan)
}
