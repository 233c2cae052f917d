//! Raw dm ioctls for the commands whose wrappers in the `devicemapper` crate wait for udev without bound or retry on
//! their own (suspend, resume, remove), and for messages, which a snapshot sends from a buffer made beforehand.
//!
//! Source: kernel `include/uapi/linux/dm-ioctl.h`, `drivers/md/dm-ioctl.c`.

use std::os::fd::{AsRawFd, BorrowedFd};

use devicemapper_sys as sys;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use vol_core::dm::Device;

/// Longest text of a message, with its terminating zero. Pool messages have at most 40 bytes.
pub(crate) const MESSAGE_MAX: usize = 240;
/// `struct dm_target_msg` (a sector number) and the text.
pub(crate) const MESSAGE_BUFFER: usize = 8 + MESSAGE_MAX;

const HEADER: usize = size_of::<sys::dm_ioctl>();
/// The lowest interface version with what is used here; the kernel refuses numbers above its own.
const VERSION: [u32; 3] = [4, 0, 0];

/// One ioctl buffer: header and `N` bytes of payload, of fixed size so that it can be made before a device is suspended.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Request<const N: usize> {
    header: sys::dm_ioctl,
    payload: [u8; N],
}

impl<const N: usize> Request<N> {
    /// A request about the device with this dm uuid. `None` if no dm uuid can look like that.
    pub(crate) fn new(uuid: &str) -> Option<Self> {
        let mut header = sys::dm_ioctl {
            version: VERSION,
            data_size: u32::try_from(size_of::<Self>()).ok()?,
            data_start: u32::try_from(HEADER).ok()?,
            ..Default::default()
        };
        // The last byte stays zero.
        if uuid.is_empty() || uuid.len() >= header.uuid.len() || !uuid.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        for (to, from) in header.uuid.iter_mut().zip(uuid.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        Some(Self { header, payload: [0; N] })
    }

    /// With the name that a device is created with. `None` if no name can look like that.
    pub(crate) fn name(mut self, name: &str) -> Option<Self> {
        if name.is_empty() || name.len() >= self.header.name.len() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        for (to, from) in self.header.name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        Some(self)
    }

    pub(crate) fn flags(mut self, flags: u32) -> Self {
        self.header.flags = flags;
        self
    }

    /// What the kernel puts into the uevent as `DM_COOKIE`.
    pub(crate) fn cookie(mut self, event_nr: u32) -> Self {
        self.header.event_nr = event_nr;
        self
    }
}

impl Request<MESSAGE_BUFFER> {
    /// A message for the target at sector 0. `None` if it is too long or holds a zero byte.
    pub(crate) fn message(uuid: &str, text: &str) -> Option<Self> {
        let mut request = Self::new(uuid)?;
        if text.len() >= MESSAGE_MAX || text.bytes().any(|b| b == 0) {
            return None;
        }
        request.payload.get_mut(8..8 + text.len())?.copy_from_slice(text.as_bytes());
        Some(request)
    }
}

impl Request<TARGET_BUFFER> {
    /// A table of one line. `None` if it does not fit.
    pub(crate) fn table(uuid: &str, sectors: u64, target: &str, params: &str) -> Option<Self> {
        // `struct dm_target_spec`: start, length, status, offset of the next, the type's name; then the parameters.
        const SPEC: usize = size_of::<sys::dm_target_spec>();
        let mut request = Self::new(uuid)?;
        let text = |text: &str| text.is_ascii() && !text.bytes().any(|b| b == 0);
        if target.len() >= 16 || SPEC + params.len() >= TARGET_BUFFER || !text(target) || !text(params) {
            return None;
        }
        request.header.target_count = 1;
        request.payload.get_mut(8..16)?.copy_from_slice(&sectors.to_ne_bytes());
        request.payload.get_mut(24..24 + target.len())?.copy_from_slice(target.as_bytes());
        request.payload.get_mut(SPEC..SPEC + params.len())?.copy_from_slice(params.as_bytes());
        Some(request)
    }

    /// Asks for the version of one target type, which loads its module.
    pub(crate) fn target_version(target: &str) -> Option<Self> {
        // The uuid is not looked at; the name is.
        let mut request = Self::new("-")?;
        request.header.uuid = [0; 129];
        if target.is_empty() || target.len() >= 16 {
            return None;
        }
        for (to, from) in request.header.name.iter_mut().zip(target.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        Some(request)
    }
}

/// Room for one `struct dm_target_versions` with its name.
pub(crate) const TARGET_BUFFER: usize = 256;

/// Commands of `dm-ioctl.h` (numbers fixed by the kernel's interface).
#[derive(Clone, Copy)]
pub(crate) enum Command {
    Create,
    Remove,
    /// Suspends with `DM_SUSPEND_FLAG`, resumes without.
    Suspend,
    Status,
    Load,
    Message,
    TargetVersion,
}

/// Calls of device-mapper by this process, by the names of `dm-ioctl.h`.
pub(crate) mod count {
    use std::sync::atomic::{AtomicU64, Ordering};

    macro_rules! calls {
        ($($counter:ident $name:literal)*) => {
            $(pub(crate) static $counter: AtomicU64 = AtomicU64::new(0);)*

            /// How many there were of each kind.
            pub(crate) fn all() -> Vec<(&'static str, u64)> {
                vec![$(($name, $counter.load(Ordering::Relaxed))),*]
            }
        };
    }

    calls! {
        DEV_CREATE "dev_create"
        DEV_REMOVE "dev_remove"
        DEV_STATUS "dev_status"
        DEV_SUSPEND "dev_suspend"
        LIST_DEVICES "list_devices"
        LIST_VERSIONS "list_versions"
        TABLE_CLEAR "table_clear"
        TABLE_LOAD "table_load"
        TABLE_STATUS "table_status"
        TARGET_MESSAGE "target_message"
        VERSION "version"
    }

    /// One more.
    pub(crate) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Command {
    const fn counter(self) -> &'static std::sync::atomic::AtomicU64 {
        match self {
            Self::Create => &count::DEV_CREATE,
            Self::Remove => &count::DEV_REMOVE,
            Self::Suspend => &count::DEV_SUSPEND,
            Self::Status => &count::DEV_STATUS,
            Self::Load => &count::TABLE_LOAD,
            Self::Message => &count::TARGET_MESSAGE,
            Self::TargetVersion => &count::LIST_VERSIONS,
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::Create => 3,
            Self::Remove => 4,
            Self::Suspend => 6,
            Self::Status => 7,
            Self::Load => 9,
            Self::Message => 14,
            Self::TargetVersion => 17,
        }
    }
}

/// Makes one ioctl from a copy of `request` on the stack, so that the request can be used again; gives the header that came back.
/// Allocates nothing. The caller has blocked signals if an interruption would hurt.
pub(crate) fn call<const N: usize>(
    control: BorrowedFd<'_>,
    command: Command,
    request: &Request<N>,
) -> Result<Answer, Errno> {
    let mut buffer = *request;
    let op = nix::request_code_readwrite!(sys::DM_IOCTL, command.number(), HEADER);
    count::one(command.counter());
    // SAFETY: the kernel reads and writes at most `data_size` bytes at the pointer, which is the size of `buffer`; the
    // buffer is `repr(C)`, owned by this frame and outlives the call; every bit pattern is valid for its integer fields.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), op, &raw mut buffer) };
    Errno::result(result)?;
    Ok(Answer { flags: buffer.header.flags, dev: buffer.header.dev })
}

/// What of the answer's header is used.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    flags: u32,
    /// `huge_encode_dev` of the kernel.
    dev: u64,
}

impl Answer {
    /// Minor number of the device.
    pub(crate) const fn minor(self) -> u32 {
        (self.dev & 0xff | self.dev >> 12 & 0xf_ff00) as u32
    }

    pub(crate) const fn read_only(self) -> bool {
        self.flags & sys::DM_READONLY_FLAG != 0
    }
}

/// `event_nr` of a resume or removal: the udev flags in the upper half, cookie base 0 (`libdevmapper.h`,
/// `DM_UDEV_FLAGS_SHIFT`). Base 0 means that nobody waits. Without the primary-source flag the udev rules of device-mapper
/// take the links of the device away at the next `add` event.
pub(crate) const fn udev_cookie(private: bool, read_only: bool) -> u32 {
    const DISABLE_SUBSYSTEM: u32 = 0x2;
    const DISABLE_DISK: u32 = 0x4;
    const DISABLE_OTHER: u32 = 0x8;
    const LOW_PRIORITY: u32 = 0x10;
    const PRIMARY_SOURCE: u32 = 0x40;
    let mut flags = PRIMARY_SOURCE;
    if private {
        flags |= DISABLE_SUBSYSTEM | DISABLE_DISK | DISABLE_OTHER;
    } else if read_only {
        // A snapshot has the file system UUID of its origin: the origin keeps the /dev/disk/by-uuid link.
        flags |= LOW_PRIORITY;
    }
    flags << 16
}

/// Whether udev must keep away from the device with this uuid: the layers of a pool, and what we do not understand.
pub(crate) fn is_private(uuid: &str) -> bool {
    Device::from_uuid(uuid).is_none_or(|device| device.is_private())
}

/// Blocks all signals of this thread while it lives: a dm ioctl that waits for I/O would be interrupted by them.
pub(crate) struct SignalsBlocked(Option<SigSet>);

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        if let Some(old) = &self.0 {
            let _ = old.thread_set_mask();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_as_long_as_the_kernels() {
        assert_eq!(HEADER, 312);
        assert_eq!(size_of::<Request<0>>(), HEADER);
        assert_eq!(size_of::<Request<MESSAGE_BUFFER>>(), HEADER + MESSAGE_BUFFER);
    }

    #[test]
    fn a_table_line_stands_where_the_kernel_looks_for_it() {
        let request = Request::table("u", 2048, "thin", "254:3 7").unwrap();
        assert_eq!(request.header.target_count, 1);
        assert_eq!(
            &request.payload[..48],
            b"\0\0\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0thin\0\0\0\0\0\0\0\0\0\0\0\x00254:3 7\0"
        );
        assert!(Request::table("u", 1, "thin", &"p".repeat(TARGET_BUFFER - 40)).is_none());
        assert!(Request::table("u", 1, "a-name-of-16-byte", "").is_none());
    }

    #[test]
    fn a_uuid_or_message_that_does_not_fit_is_refused() {
        assert!(Request::<0>::new("").is_none());
        assert!(Request::<0>::new(&"u".repeat(128)).is_some());
        assert!(Request::<0>::new(&"u".repeat(129)).is_none());
        assert!(Request::<0>::new("VOLUMED-\0").is_none());
        assert!(Request::message("u", &"m".repeat(MESSAGE_MAX)).is_none());
        assert!(Request::message("u", "create_thin\0 1").is_none());
        assert!(Request::message("u", "create_thin 1").is_some());
    }

    #[test]
    fn every_cookie_names_a_primary_source_and_private_layers_hide() {
        assert_eq!(udev_cookie(false, false), 0x40_0000);
        assert_eq!(udev_cookie(false, true), 0x50_0000);
        assert_eq!(udev_cookie(true, false), 0x4e_0000);
        assert!(is_private("VOLUMED-8a1e9bb0-4d0f-4bb5-9b52-6f2c1a0f6b11-tpool"));
        assert!(!is_private("VOLUMED-8a1e9bb0-4d0f-4bb5-9b52-6f2c1a0f6b11"));
        assert!(is_private("VOLUMED-something-new"));
    }
}
