//! udev, as far as the daemon meets it: it opens for a moment each device that comes up or that somebody wrote to, late or for longer
//! than anybody waits; and the node of a new device, which devtmpfs makes, may be late or never come.
//!
//! Nobody waits for udev here, as nobody does on the real host: its cookies have no part in what the daemon does.

use std::time::Duration;

use vol_core::dm::Device;
use vol_core::observed::DevNumber;
use vol_engine::host::{HostErrorKind, HostResult};

use crate::host::SimHost;
use crate::mapper::DM_MAJOR;
use crate::world::{World, fail};

/// How long the real host waits for an opener of a device that it removes, and for the node of a new one.
const PATIENCE: Duration = Duration::from_secs(2);

/// What [`vol_engine::host::HostRead::holders`] says of it.
pub(crate) const WHO: &str = "process 311 (systemd-udevd)";

/// How it goes about on this machine; at first there is none, and nodes are there at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Udev {
    /// For how long it has a device open.
    pub looks: Duration,
    /// When the node of a new device appears.
    pub node_after: Duration,
    /// No name of a device can be written for it.
    pub run_is_full: bool,
}

impl SimHost {
    /// From now on udev opens each volume for so long when it comes up, is resumed, or is closed by somebody who wrote to it. Devices that
    /// are hidden from it are left alone. `MAX`: it hangs; zero: it does not run, but what it has open it keeps for as long as it had
    /// begun to.
    ///
    /// Time passes only while somebody waits ([`vol_engine::host::HostRead::pause`], and the removal of a device).
    pub fn set_udev(&self, looks: Duration) {
        self.lock().udev.looks = looks;
    }

    /// From now on the node of a new device appears so late; `MAX`: never.
    pub fn set_node_delay(&self, delay: Duration) {
        self.lock().udev.node_after = delay;
    }

    /// From now on nothing more can be written to `/run`, where udev is told the names of devices, or it can again.
    pub fn fill_run(&self, full: bool) {
        self.lock().udev.run_is_full = full;
    }

    /// What udev calls the device with this dm uuid, below `/dev/volumed`.
    pub fn link_of(&self, uuid: &str) -> Option<String> {
        let world = self.lock();
        world.dm.get(&world.minor_of(uuid)?)?.link.clone()
    }

    /// It dies, and what it had open is closed.
    pub fn kill_udev(&self) {
        let mut world = self.lock();
        world.udev.looks = Duration::ZERO;
        world.dm.values_mut().for_each(|device| device.looked_at = Duration::ZERO);
    }
}

impl World {
    /// Time that somebody waits.
    pub fn pass(&mut self, time: Duration) {
        self.counters.paused = self.counters.paused.saturating_add(time);
        for device in self.dm.values_mut().filter(|device| device.looked_at < Duration::MAX) {
            device.looked_at = device.looked_at.saturating_sub(time);
        }
    }

    /// The kernel tells udev of the device, which opens it.
    pub fn tell_udev(&mut self, minor: u32) {
        let looks = self.udev.looks;
        let Some(device) = self.dm.get_mut(&minor) else { return };
        let hidden = Device::from_uuid(&device.uuid).is_some_and(|device| device.is_private());
        if device.live.is_some() && !hidden {
            device.looked_at = device.looked_at.max(looks);
        }
    }

    /// Who wrote to the device has closed it, which udev watches for.
    pub fn closed(&mut self, dev: DevNumber) {
        if dev.major == DM_MAJOR {
            self.tell_udev(dev.minor);
        }
    }

    /// Waits until udev has let the device go, if it does so in the time that a removal takes at most.
    pub fn outwait_udev(&mut self, minor: u32) {
        let left = self.dm.get(&minor).map_or(Duration::ZERO, |device| device.looked_at);
        self.pass(left.min(PATIENCE));
    }

    /// Waits for the node of a new device.
    pub fn await_node(&mut self, what: &str) -> HostResult<()> {
        let late = self.udev.node_after;
        self.pass(late.min(PATIENCE));
        if late > PATIENCE {
            return fail(HostErrorKind::TimedOut, what, "its node did not appear; is devtmpfs mounted on /dev?");
        }
        Ok(())
    }
}
