//! Device-mapper devices with our prefix that belong to no VG that is known: reported, and left alone.

use std::sync::{PoisonError, TryLockError};

use vol_core::dm::Device;
use vol_core::observed::DmInfo;
use vol_core::plan::recover::owner;

use crate::engine::Engine;
use crate::host::HostMut;
use crate::observe::Look;
use crate::vg::Problem;

/// Devices that are told one by one.
const SHOWN: usize = 64;

impl<H: HostMut> Engine<H> {
    /// Looks, unless VGs are being found, made or taken apart: then devices have no owner for a moment.
    pub(crate) fn look_for_stray_devices(&self, look: &Look) {
        let _guard = match self.membership.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.tell_strays(look.not_owned(self.owns()));
    }

    /// Whether a device belongs to a VG that is open now.
    fn owns(&self) -> impl Fn(Device) -> bool + use<H> {
        let vgs = self.vgs();
        move |device| vgs.iter().any(|vg| vg.read(|catalog| owner(catalog, device).is_some()))
    }

    /// As [`Engine::look_for_stray_devices`], for who holds the membership.
    pub(crate) fn find_stray_devices(&self) {
        // What cannot be listed is told by each VG's own view.
        let Ok(uuids) = self.host().dm_uuids() else { return };
        let owns = self.owns();
        self.tell_strays(uuids.into_iter().filter(|uuid| !Device::from_uuid(uuid).is_some_and(&owns)).collect());
    }

    fn tell_strays(&self, uuids: Vec<String>) {
        // A deletion takes the device away first and its record after: what has no record now must still be there.
        let strays: Vec<DmInfo> = uuids.iter().filter_map(|uuid| self.host().dm_device(uuid).ok().flatten()).collect();
        let mounts = if strays.is_empty() { Vec::new() } else { self.host().mounts().unwrap_or_default() };
        let mut problems: Vec<Problem> = strays
            .iter()
            .take(SHOWN)
            .map(|info| {
                let at: Vec<_> = mounts
                    .iter()
                    .filter(|mount| mount.dev == info.dev)
                    .map(|mount| mount.target.display().to_string())
                    .collect();
                let at = if at.is_empty() { String::new() } else { format!(", mounted at {}", at.join(", ")) };
                Problem {
                    code: "device-stray",
                    message: format!(
                        "device {} (/dev/dm-{}{at}) belongs to no volume group that is known",
                        info.name, info.dev.minor
                    ),
                    hint: "if its disks are there, `volctl pv scan` finds its group; see device_stray in \
                           docs/troubleshooting.md"
                        .to_owned(),
                    subject: None,
                }
            })
            .collect();
        if let Some(more) = strays.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            problems.push(Problem {
                code: "device-stray",
                message: format!("{more} more devices belong to no volume group that is known"),
                hint: "`dmsetup ls` shows them; their names begin with volumed-".to_owned(),
                subject: None,
            });
        }
        let mut known = self.stray_devices.write().unwrap_or_else(PoisonError::into_inner);
        for problem in problems.iter().filter(|new| !known.contains(new)) {
            tracing::warn!(code = problem.code, "{}", problem.message);
        }
        *known = problems;
    }
}
