//! The kernel's list of device-mapper devices, with the uuids that it tells since Linux 5.13: the `devicemapper` crate reads names
//! and event numbers alone, so that each device would have to be asked for its own.
//!
//! Source: kernel `include/uapi/linux/dm-ioctl.h` (`struct dm_name_list`), `drivers/md/dm-ioctl.c` (`list_devices`).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use devicemapper_sys as sys;
use nix::errno::Errno;

use super::raw::count;

const HEADER: usize = size_of::<sys::dm_ioctl>();
/// `DM_LIST_DEVICES_CMD`.
const LIST_DEVICES: u32 = 2;
/// In: uuids are to be told. Older kernels do not know it, and do not set the flags below.
const UUID_FLAG: u32 = 1 << 14;
/// Out: the answer did not fit.
const BUFFER_FULL: u32 = 1 << 8;
const HAS_UUID: u32 = 1;
const HAS_NO_UUID: u32 = 2;
/// Where a name begins in an entry: behind the device's number and the offset of the next entry.
const NAME_AT: usize = 12;
/// Room for a handful of devices. What was needed is remembered.
const SIZE_FIRST: usize = 1 << 10;
/// A hundred thousand devices are about 15 MiB.
const SIZE_MAX: usize = 256 << 20;

/// How large the buffer is to be the next time.
static SIZE: AtomicUsize = AtomicUsize::new(SIZE_FIRST);

/// What the list says of a device's uuid.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Uuid {
    Is(String),
    /// It has none.
    None,
    /// The kernel is older: the device has to be asked.
    Untold,
}

/// One entry of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub name: String,
    pub uuid: Uuid,
}

/// All devices whose uuid begins with `prefix`, and, where the kernel does not choose them by it, others too.
pub(super) fn all(control: BorrowedFd<'_>, prefix: &str) -> Result<Vec<Listed>, Errno> {
    let mut size = SIZE.load(Ordering::Relaxed).clamp(SIZE_FIRST, SIZE_MAX);
    loop {
        let (flags, payload) = ask(control, prefix, size)?;
        if flags & BUFFER_FULL == 0 {
            let used = HEADER.saturating_add(payload.len());
            SIZE.store(used.saturating_add(used / 4), Ordering::Relaxed);
            return entries(&payload).ok_or(Errno::EBADMSG);
        }
        if size >= SIZE_MAX {
            return Err(Errno::EOVERFLOW);
        }
        size = (size * 2).min(SIZE_MAX);
    }
}

/// One ioctl with a buffer of `size` bytes: the flags of the answer, and what it put behind its header.
fn ask(control: BorrowedFd<'_>, prefix: &str, size: usize) -> Result<(u32, Vec<u8>), Errno> {
    let mut header = sys::dm_ioctl {
        version: [4, 0, 0],
        data_size: u32::try_from(size).map_err(|_| Errno::EOVERFLOW)?,
        data_start: u32::try_from(HEADER).map_err(|_| Errno::EOVERFLOW)?,
        flags: UUID_FLAG,
        ..Default::default()
    };
    for (to, from) in header.uuid.iter_mut().take(128).zip(prefix.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // Words, so that the header is aligned.
    let mut buffer = vec![0_u64; size.div_ceil(8)];
    let op = nix::request_code_readwrite!(sys::DM_IOCTL, LIST_DEVICES, HEADER);
    count::one(&count::LIST_DEVICES);
    // SAFETY: the buffer has at least `size` bytes, all of them written, of which `size` is at least a header's; it is aligned for one, and
    // is ours alone. The kernel reads at most `data_size` bytes of it, which is `size` (`copy_params`), and writes as many at most. Every
    // bit pattern is valid for the header's integer fields.
    let (flags, end) = unsafe {
        let header_at = buffer.as_mut_ptr().cast::<sys::dm_ioctl>();
        header_at.write(header);
        Errno::result(libc::ioctl(control.as_raw_fd(), op, header_at))?;
        ((*header_at).flags, (*header_at).data_size as usize)
    };
    let bytes = buffer.iter().flat_map(|word| word.to_ne_bytes()).take(end.min(size)).skip(HEADER);
    Ok((flags, bytes.collect()))
}

/// The entries; `None` if they make no sense.
fn entries(list: &[u8]) -> Option<Vec<Listed>> {
    let word = |at: usize| Some(u32::from_ne_bytes(*list.get(at..)?.first_chunk::<4>()?));
    let text = |at: usize| {
        let rest = list.get(at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
    };
    let aligned = |at: usize| Some(at.checked_add(7)? & !7);
    let mut found = Vec::new();
    // Without any device there is no entry; with none that is wanted there is one without a number.
    if list.is_empty() || list.first_chunk::<8>()? == &[0; 8] {
        return Some(found);
    }
    let mut at = 0_usize;
    loop {
        let name = text(at.checked_add(NAME_AT)?)?;
        // Behind the name, aligned: the event number, flags, and aligned again the uuid.
        let event = aligned(at.checked_add(NAME_AT)?.checked_add(name.len())?.checked_add(1)?)?;
        // Entries end before these flags on the oldest kernels; what is read there is then another entry, or nothing.
        let next = word(at.checked_add(8)?)? as usize;
        let end = if next == 0 { list.len() } else { at.checked_add(next)? };
        let flags = if event.checked_add(8)? <= end { word(event.checked_add(4)?)? } else { 0 };
        let uuid = match flags {
            HAS_UUID => Uuid::Is(text(event.checked_add(8)?)?),
            HAS_NO_UUID => Uuid::None,
            _ => Uuid::Untold,
        };
        found.push(Listed { name, uuid });
        if next == 0 {
            return Some(found);
        }
        at = at.checked_add(next)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel writes them.
    fn entry(name: &str, uuid: Option<Option<&str>>, last: bool) -> Vec<u8> {
        let mut bytes = vec![0; NAME_AT];
        bytes[0] = 7;
        let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        pad(&mut bytes);
        let flags = uuid.map_or(0, |uuid| if uuid.is_some() { HAS_UUID } else { HAS_NO_UUID });
        bytes.extend_from_slice(&3_u32.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        if let Some(Some(uuid)) = uuid {
            bytes.extend_from_slice(uuid.as_bytes());
            bytes.push(0);
            pad(&mut bytes);
        }
        let next = if last { 0 } else { u32::try_from(bytes.len()).unwrap() };
        bytes[8..12].copy_from_slice(&next.to_ne_bytes());
        bytes
    }

    #[test]
    fn uuids_are_read_where_the_kernel_tells_them_and_untold_where_not() {
        let mut list = entry("one", Some(Some("VOLUMED-1")), false);
        list.extend(entry("a-name-of-16-byte", Some(None), false));
        list.extend(entry("old", None, true));
        list.extend([0; 64]);
        let named = |name: &str, uuid| Listed { name: name.to_owned(), uuid };
        let expected = [
            named("one", Uuid::Is("VOLUMED-1".to_owned())),
            named("a-name-of-16-byte", Uuid::None),
            named("old", Uuid::Untold),
        ];
        assert_eq!(entries(&list).unwrap(), expected);
        assert_eq!((entries(&[]), entries(&[0; 64])), (Some(Vec::new()), Some(Vec::new())));
    }

    #[test]
    fn a_list_that_is_cut_short_or_leads_astray_is_none() {
        let list = entry("one", Some(Some("VOLUMED-1")), true);
        assert!((1..32).all(|end| entries(&list[..end]).is_none_or(|found| found[0].uuid == Uuid::Untold)));
        let mut astray = list.clone();
        astray[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(entries(&astray), None);
    }
}
