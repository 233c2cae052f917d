//! Single ioctls of device-mapper with nothing before or after them: no look at what is there, no wait for a node or for udev. The
//! floor that `benches/` compares the product with; the product itself does not use it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::dm::raw::{self, Command, Request};

/// An open `/dev/mapper/control`. Devices are named by dm uuid.
#[derive(Debug)]
pub struct Bare {
    control: File,
}

impl Bare {
    /// # Errors
    /// No device-mapper, or no right to it.
    pub fn open() -> io::Result<Self> {
        let control = File::options().read(true).write(true).open("/dev/mapper/control")?;
        Ok(Self { control })
    }

    fn call<const N: usize>(&self, command: Command, request: Option<Request<N>>) -> io::Result<raw::Answer> {
        let request = request.ok_or(Errno::EINVAL)?.cookie(raw::udev_cookie(true, false));
        Ok(raw::call(self.control.as_fd(), command, &request)?)
    }

    /// `DM_DEV_CREATE`: a device without a table; its node.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(&self, name: &str, uuid: &str) -> io::Result<PathBuf> {
        let made = self.call(Command::Create, Request::<0>::new(uuid).and_then(|request| request.name(name)))?;
        Ok(PathBuf::from(format!("/dev/dm-{}", made.minor())))
    }

    /// `DM_TABLE_LOAD` of one line, `sectors` of 512 bytes long.
    ///
    /// # Errors
    /// The kernel's.
    pub fn load(&self, uuid: &str, sectors: u64, target: &str, params: &str) -> io::Result<()> {
        self.call(Command::Load, Request::table(uuid, sectors, target, params)).map(drop)
    }

    /// `DM_DEV_SUSPEND` with the flag: waits for I/O under way and freezes a file system.
    ///
    /// # Errors
    /// The kernel's.
    pub fn suspend(&self, uuid: &str) -> io::Result<()> {
        let request = Request::<0>::new(uuid).map(|request| request.flags(devicemapper_sys::DM_SUSPEND_FLAG));
        self.call(Command::Suspend, request).map(drop)
    }

    /// `DM_DEV_SUSPEND` without the flag: makes a loaded table live.
    ///
    /// # Errors
    /// The kernel's.
    pub fn resume(&self, uuid: &str) -> io::Result<()> {
        self.call(Command::Suspend, Request::<0>::new(uuid)).map(drop)
    }

    /// `DM_DEV_REMOVE`, tried once.
    ///
    /// # Errors
    /// The kernel's; `EBUSY` also when udev looks at it just now.
    pub fn remove(&self, uuid: &str) -> io::Result<()> {
        self.call(Command::Remove, Request::<0>::new(uuid)).map(drop)
    }

    /// `DM_TARGET_MSG` to the first target.
    ///
    /// # Errors
    /// The kernel's.
    pub fn message(&self, uuid: &str, text: &str) -> io::Result<()> {
        self.call(Command::Message, Request::message(uuid, text)).map(drop)
    }
}
