//! Names of devices for people: the links below `/dev/volumed`, which udev makes.
//!
//! They are no part of any plan, for nothing hangs on them: a device is found by its id. A new device has its link from its name at that
//! moment; whoever changes names, and whoever finds devices that are there, brings the links up to date afterwards.

use vol_core::dm::Device;
use vol_core::{Catalog, VolumeName};
use vol_types::{ObjectKey, VolumeState};

use crate::host::HostMut;
use crate::vg::OpenVg;

/// What a device is called below `/dev/volumed`; `None` for what is not handed out.
pub fn of(catalog: &Catalog, device: Device) -> Option<String> {
    let Device::Volume(id) = device else { return None };
    let volume = catalog.volume(id).filter(|volume| volume.state == VolumeState::Ready)?;
    Some(format!("{}/{}", catalog.vg().name, VolumeName::of(volume)))
}

/// Gives a device its link. That it cannot be is told, and nothing else.
pub fn set<H: HostMut + ?Sized>(host: &H, device: Device, link: &str) {
    if let Err(error) = host.dm_link(&device.uuid(), link) {
        tracing::warn!(device = device.name(), link, %error, "its link in /dev/volumed is not what it should be");
    }
}

impl OpenVg {
    /// Brings the links of all devices that were seen last up to date. It costs no call of the kernel for those that are right.
    pub(crate) fn show_links<H: HostMut + ?Sized>(&self, host: &H) {
        let view = self.view();
        let at_work = self.claimed();
        for device in view.kernel.dm.keys() {
            let Some(link) = self.read(|catalog| of(catalog, *device)) else { continue };
            // Who works on a volume may be taking its device away, and looks at its name after making it.
            let claimed = matches!(device, Device::Volume(id) if at_work.objects().contains(&ObjectKey::Volume(*id)));
            if !claimed {
                set(host, *device, &link);
            }
        }
    }
}
