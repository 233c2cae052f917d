//! What the kernel and udev say of block devices, as netlink messages (`NETLINK_KOBJECT_UEVENT`).
//!
//! The kernel speaks first, as soon as devtmpfs has the node; udev repeats what it was told when its rules are through. What came is
//! told of when udev has spoken, because until then it opens the disk itself, and whatever is to be built on top of it (multipath,
//! RAID) is not there yet. Where udev does not speak in time (it hangs, or there is none) the kernel's word is enough. What went is told
//! of at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, UnixCredentials, bind,
    recvmsg, setsockopt, socket, sockopt,
};
use vol_core::dm::UUID_PREFIX;
use vol_engine::host::{DiskEvents, DiskNews, HostResult};

use crate::sysfs::SysDevice;
use crate::{error, files};

/// Multicast groups (`lib/kobject_uevent.c`; systemd, `src/libsystemd/sd-device/device-monitor.c`).
const FROM_KERNEL: u32 = 1;
const FROM_UDEV: u32 = 2;
/// There while udevd runs: its own clients look for it.
const UDEV_CONTROL: &str = "/run/udev/control";
/// How long udev's rules for a disk are waited for.
const UDEV_PATIENCE: Duration = Duration::from_secs(3);
/// How long is gathered what comes together: a disk with its partitions, a shelf of disks.
const GATHER: Duration = Duration::from_millis(100);
/// More than the kernel puts into a message (2 KiB of variables), and more than udev does for a block device.
const MESSAGE_MAX: usize = 64 * 1024;
/// As much as is given without a privilege on a stock kernel.
const BUFFER: usize = 208 * 1024;
/// Devices that wait for udev; beyond that everything is looked at.
const WAITING_MAX: usize = 4096;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Kernel,
    Udev,
}

/// A message about a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uevent {
    pub source: Source,
    /// Below `/dev`, without `..`.
    pub node: PathBuf,
    pub removed: bool,
    /// udev says that it is one of several paths to a disk, which is not to be used by itself.
    pub path_of_multipath: bool,
}

/// Reads a message; `None` for what is not about a block device, or cannot be read.
pub fn parse(message: &[u8]) -> Option<Uevent> {
    let number = |at: usize| Some(u32::from_ne_bytes(message.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let (source, properties) = if message.starts_with(b"libudev\0") {
        // `struct monitor_netlink_header`: prefix, magic (big endian), size of the header, where the properties are, how long.
        let magic = u32::from_be(number(8)?);
        let (at, len) = (usize::try_from(number(16)?).ok()?, usize::try_from(number(20)?).ok()?);
        if magic != 0xfeed_cafe {
            return None;
        }
        (Source::Udev, message.get(at..at.checked_add(len)?)?)
    } else {
        // `add@/devices/…`, then the properties.
        let end = message.iter().position(|byte| *byte == 0)?;
        message.get(..end)?.contains(&b'@').then_some(())?;
        (Source::Kernel, message.get(end..)?)
    };
    let text = std::str::from_utf8(properties).ok()?;
    let value = |key: &str| {
        text.split('\0').find_map(|line| line.split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value))
    };
    if value("SUBSYSTEM")? != "block" {
        return None;
    }
    let name = value("DEVNAME")?;
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !name.split('/').all(plain) {
        return None;
    }
    Some(Uevent {
        source,
        node: Path::new("/dev").join(name),
        removed: value("ACTION") == Some("remove"),
        path_of_multipath: value("DM_MULTIPATH_DEVICE_PATH") == Some("1"),
    })
}

/// What is known and not told yet.
#[derive(Debug, Default)]
struct Heard {
    /// May be told.
    ready: BTreeSet<PathBuf>,
    /// Wait for udev, until then.
    waiting: BTreeMap<PathBuf, Instant>,
    lost: bool,
}

impl Heard {
    fn take_in(&mut self, event: Uevent, now: Instant, udev: bool, is_there: impl Fn(&Path) -> bool) {
        match event.source {
            Source::Kernel if udev && !event.removed && is_there(&event.node) => {
                self.waiting.insert(event.node, now + UDEV_PATIENCE);
                if self.waiting.len() > WAITING_MAX {
                    self.waiting.clear();
                    self.lost = true;
                }
            }
            Source::Udev if event.path_of_multipath && !event.removed => drop(self.waiting.remove(&event.node)),
            Source::Kernel | Source::Udev => {
                self.waiting.remove(&event.node);
                self.ready.insert(event.node);
            }
        }
    }

    /// What may be told now.
    fn tell(&mut self, now: Instant) -> DiskNews {
        self.waiting.retain(|node, until| {
            let wait = *until > now;
            if !wait {
                tracing::debug!(node = %node.display(), "udev says nothing of it");
                self.ready.insert(node.clone());
            }
            wait
        });
        let ready = std::mem::take(&mut self.ready);
        if std::mem::take(&mut self.lost) {
            return DiskNews::Lost;
        }
        if ready.is_empty() { DiskNews::Nothing } else { DiskNews::Of(ready) }
    }

    fn next(&self) -> Option<Instant> {
        self.waiting.values().min().copied()
    }
}

/// The open socket.
pub(crate) struct Uevents {
    socket: OwnedFd,
    wake: EventFd,
    heard: Mutex<Heard>,
}

impl Uevents {
    pub(crate) fn open() -> HostResult<Self> {
        let what = "listen to the kernel's uevents";
        let sys = |e| error::sys(what, e);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkKObjectUEvent).map_err(sys)?;
        // Who sends is known from the kernel alone: others may send to this socket, too.
        setsockopt(&socket, sockopt::PassCred, &true).map_err(sys)?;
        // A smaller buffer loses events sooner, and that is noticed.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, FROM_KERNEL | FROM_UDEV)).map_err(sys)?;
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|e| error::sys("make an eventfd", e))?;
        Ok(Self { socket, wake, heard: Mutex::default() })
    }

    /// Takes in all that has come.
    fn drain(&self, heard: &mut Heard) {
        let mut buffer = vec![0; MESSAGE_MAX];
        let udev = Path::new(UDEV_CONTROL).exists();
        let now = Instant::now();
        loop {
            let mut space = nix::cmsg_space!(UnixCredentials);
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmsg::<NetlinkAddr>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), flags);
            let len = match received {
                Ok(message) => {
                    let root = message.cmsgs().is_ok_and(|mut all| {
                        all.any(|one| matches!(one, ControlMessageOwned::ScmCredentials(who) if who.uid() == 0))
                    });
                    let group = message.address.map_or(0, |from| from.groups());
                    if message.flags.contains(MsgFlags::MSG_TRUNC) {
                        heard.lost = true;
                        continue;
                    }
                    // What was sent to this socket alone was sent by neither.
                    if !root || group == 0 {
                        continue;
                    }
                    message.bytes
                }
                Err(Errno::EINTR) => continue,
                // The buffer was full, and something was dropped.
                Err(Errno::ENOBUFS) => {
                    heard.lost = true;
                    continue;
                }
                Err(Errno::EAGAIN) => return,
                Err(error) => {
                    tracing::warn!(%error, "uevents cannot be read");
                    heard.lost = true;
                    return;
                }
            };
            // Our own devices come and go by the thousand.
            if let Some(event) = buffer.get(..len).and_then(parse).filter(|event| !is_own(&event.node)) {
                tracing::trace!(?event, "uevent");
                heard.take_in(event, now, udev, is_there);
            }
        }
    }
}

fn device_at(node: &Path) -> Option<SysDevice> {
    files::block_number(node).ok().flatten().and_then(|dev| SysDevice::of(dev).ok())
}

/// Whether the device at a node has a medium.
fn is_there(node: &Path) -> bool {
    device_at(node).is_some_and(|device| !device.is_empty())
}

/// Whether it is a dm device of ours.
fn is_own(node: &Path) -> bool {
    let dm = node.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("dm-"));
    dm && device_at(node).and_then(|device| device.dm_uuid()).is_some_and(|uuid| uuid.starts_with(UUID_PREFIX))
}

impl DiskEvents for Uevents {
    fn wait(&self, most: Duration) -> DiskNews {
        let end = Instant::now() + most;
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let news = heard.tell(Instant::now());
            if news != DiskNews::Nothing {
                return news;
            }
            let until = heard.next().map_or(end, |next| next.min(end));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && until == end {
                return DiskNews::Nothing;
            }
            // Rounded up: a wait that ends a little early would be a busy one.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "uevents cannot be waited for");
                    std::thread::sleep(left.min(Duration::from_secs(1)));
                    return DiskNews::Lost;
                }
            }
            let [events, wake] = fds.map(|fd| fd.any().unwrap_or(true));
            if wake {
                let _ = self.wake.read();
                return DiskNews::Nothing;
            }
            if events {
                std::thread::sleep(GATHER);
                self.drain(&mut heard);
            }
        }
    }

    fn wake(&self) {
        let _ = self.wake.write(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(action: &str, name: &str) -> Vec<u8> {
        format!(
            "{action}@/devices/x/block/{name}\0ACTION={action}\0DEVPATH=/devices/x/block/{name}\0SUBSYSTEM=block\0\
             MAJOR=8\0DEVNAME={name}\0DEVTYPE=disk\0SEQNUM=7\0"
        )
        .into_bytes()
    }

    fn udev(properties: &str) -> Vec<u8> {
        let mut message = b"libudev\0".to_vec();
        message.extend(0xfeed_cafe_u32.to_be_bytes());
        for number in [40, 40, u32::try_from(properties.len()).unwrap(), 0, 0, 0, 0] {
            message.extend(number.to_ne_bytes());
        }
        message.extend(properties.as_bytes());
        message
    }

    #[test]
    fn both_kinds_of_messages_are_read() {
        let event = parse(&kernel("add", "sdb")).unwrap();
        assert_eq!((event.source, event.node.to_str(), event.removed), (Source::Kernel, Some("/dev/sdb"), false));
        assert!(parse(&kernel("remove", "cciss/c0d0")).unwrap().removed);
        let event =
            parse(&udev("ACTION=change\0SUBSYSTEM=block\0DEVNAME=/dev/loop3\0DM_MULTIPATH_DEVICE_PATH=1\0")).unwrap();
        assert_eq!((event.source, event.node.to_str()), (Source::Udev, Some("/dev/loop3")));
        assert!(event.path_of_multipath && !event.removed);
    }

    #[test]
    fn what_is_no_message_about_a_block_device_is_passed_over() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"libudev\0"), None);
        assert_eq!(parse(&udev("ACTION=add\0SUBSYSTEM=net\0DEVNAME=eth0\0")), None);
        for name in ["../etc/passwd", "", "/", "a//b", "."] {
            assert_eq!(parse(&udev(&format!("ACTION=add\0SUBSYSTEM=block\0DEVNAME={name}\0"))), None, "{name:?}");
        }
        // Cut short and with any byte changed: read or passed over.
        for message in [kernel("add", "sdb"), udev("ACTION=add\0SUBSYSTEM=block\0DEVNAME=/dev/sdb\0")] {
            for at in 0..message.len() {
                let _ = parse(&message[..at]);
                for byte in [0, 0xff, b'/', b'='] {
                    let mut changed = message.clone();
                    changed[at] = byte;
                    assert!(parse(&changed).is_none_or(|event| event.node.starts_with("/dev")));
                }
            }
        }
    }

    #[test]
    fn what_comes_waits_for_udev_but_not_for_long_and_what_goes_waits_for_nobody() {
        let (mut heard, now) = (Heard::default(), Instant::now());
        let told = |nodes: &[&str]| DiskNews::Of(nodes.iter().map(PathBuf::from).collect());
        let add = || parse(&kernel("add", "sdb")).unwrap();
        heard.take_in(add(), now, true, |_| true);
        assert_eq!(heard.tell(now), DiskNews::Nothing);
        heard.take_in(parse(&udev("ACTION=add\0SUBSYSTEM=block\0DEVNAME=/dev/sdb\0")).unwrap(), now, true, |_| true);
        assert_eq!(heard.tell(now), told(&["/dev/sdb"]));
        assert_eq!(heard.tell(now), DiskNews::Nothing);
        // udev hangs.
        heard.take_in(add(), now, true, |_| true);
        assert_eq!(heard.tell(now + UDEV_PATIENCE), told(&["/dev/sdb"]));
        // There is none.
        heard.take_in(add(), now, false, |_| true);
        assert_eq!(heard.tell(now), told(&["/dev/sdb"]));
        heard.take_in(parse(&kernel("remove", "sdb")).unwrap(), now, true, |_| false);
        heard.take_in(parse(&kernel("change", "loop0")).unwrap(), now, true, |_| false);
        assert_eq!(heard.tell(now), told(&["/dev/loop0", "/dev/sdb"]));
        // A path of a multipath device is not told of.
        heard.take_in(add(), now, true, |_| true);
        let path = "ACTION=add\0SUBSYSTEM=block\0DEVNAME=/dev/sdb\0DM_MULTIPATH_DEVICE_PATH=1\0";
        heard.take_in(parse(&udev(path)).unwrap(), now, true, |_| true);
        assert_eq!(heard.tell(now + UDEV_PATIENCE), DiskNews::Nothing);
    }

    #[test]
    fn a_wait_ends_when_it_is_woken() {
        let Ok(events) = Uevents::open() else { return println!("skipped: no uevents here") };
        events.wake();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(50) && events.wait(Duration::from_secs(60)) != DiskNews::Nothing {}
        assert!(begin.elapsed() < Duration::from_secs(50));
    }
}
