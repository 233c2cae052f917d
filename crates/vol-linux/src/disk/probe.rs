//! What libblkid finds on a device.
//!
//! [`signatures`] and the wiping use libblkid directly through `libblkid-rs-sys`, because both must see the same: with
//! `BLKID_PARTS_FORCE_GPT`, a GPT whose protective MBR is gone, which `libblkid-rs` cannot ask for. [`content`], the probe of
//! a volume of ours, is `libblkid-rs`'s safe probe, the only one that tells ambivalent contents.

use std::ffi::CStr;
use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;

use libblkid_rs::{BlkidProbe, BlkidSafeprobeRet};
use libblkid_rs_sys as sys;
use vol_core::observed::{Probe, Signature};
use vol_engine::host::{HostError, HostErrorKind, HostResult};

use super::identity;
use crate::error;

/// What is read at both ends before a device is called empty: all formats that libblkid knows have something there.
const EDGE: usize = 1 << 20;
/// More signatures than any device has; a loop beyond that is broken.
pub(super) const ROUNDS_MAX: usize = 256;

/// All signatures on an open device: file systems, RAID, encryption, partition tables. Each once, also with a bad checksum.
pub(crate) fn signatures(what: &str, file: &File) -> HostResult<Vec<Signature>> {
    readable(what, file)?;
    let mut prober = Prober::new(what, file)?;
    let mut found: Vec<Signature> = Vec::new();
    for _ in 0..ROUNDS_MAX {
        match prober.next()? {
            None => return Ok(found),
            Some(signature) if found.contains(&signature) => {}
            Some(signature) => found.push(signature),
        }
    }
    Err(failed(what, "libblkid does not come to an end"))
}

/// What the content of a device looks like as a whole. An error is an error, never [`Probe::Nothing`].
pub(crate) fn content(what: &str, file: &File) -> HostResult<Probe> {
    readable(what, file)?;
    let fail = |e: libblkid_rs::BlkidErr| failed(what, e);
    let mut probe = BlkidProbe::new().map_err(fail)?;
    probe.set_device(file.as_raw_fd(), 0, 0).map_err(fail)?;
    probe.enable_superblocks(true).map_err(fail)?;
    probe.enable_partitions(true).map_err(fail)?;
    match probe.do_safeprobe().map_err(fail)? {
        BlkidSafeprobeRet::None => Ok(Probe::Nothing),
        BlkidSafeprobeRet::Ambiguous => Ok(Probe::Ambivalent),
        BlkidSafeprobeRet::Success => {
            let value = |name| probe.lookup_value(name).ok().filter(|value| !value.is_empty());
            match value("TYPE").or_else(|| value("PTTYPE")) {
                Some(kind) => Ok(Probe::Found { kind, uuid: value("UUID").or_else(|| value("PTUUID")) }),
                None => Err(failed(what, "libblkid found something without a type")),
            }
        }
    }
}

fn failed(what: &str, detail: impl std::fmt::Display) -> HostError {
    HostError::new(HostErrorKind::Io, format!("{what}: probe"), detail.to_string())
}

/// Reads both ends. libblkid passes over some read errors; a disk that cannot be read must not look empty.
fn readable(what: &str, file: &File) -> HostResult<()> {
    let size = identity(what, file)?.size.get();
    let len = EDGE.min(usize::try_from(size).unwrap_or(EDGE));
    let mut buffer = vec![0; len];
    let end = size.saturating_sub(u64::try_from(len).unwrap_or(0));
    for offset in [0, end] {
        file.read_exact_at(&mut buffer, offset).map_err(|e| error::block(format!("{what}: read at {offset}"), &e))?;
    }
    Ok(())
}

/// libblkid's low-level probe over a file that it does not own. Not `Send`: libblkid keeps no promise about threads.
pub(super) struct Prober<'a> {
    what: &'a str,
    probe: sys::blkid_probe,
    file: PhantomData<(&'a File, *mut ())>,
}

impl<'a> Prober<'a> {
    pub(super) fn new(what: &'a str, file: &'a File) -> HostResult<Self> {
        let number = |flags: u32| libc::c_int::try_from(flags).unwrap_or(0);
        let superblock_flags = number(
            sys::BLKID_SUBLKS_LABEL
                | sys::BLKID_SUBLKS_UUID
                | sys::BLKID_SUBLKS_TYPE
                | sys::BLKID_SUBLKS_USAGE
                | sys::BLKID_SUBLKS_MAGIC
                | sys::BLKID_SUBLKS_BADCSUM,
        );
        let partition_flags = number(sys::BLKID_PARTS_MAGIC | sys::BLKID_PARTS_FORCE_GPT);
        // SAFETY: takes nothing; the result is checked for null.
        let probe = unsafe { sys::blkid_new_probe() };
        if probe.is_null() {
            return Err(failed(what, "libblkid has no memory"));
        }
        // From here on dropping it frees the probe.
        let prober = Self { what, probe, file: PhantomData };
        // SAFETY: the probe is valid; the descriptor is open as long as `'a` and libblkid does not close what it did not
        // open. Offset 0 and size 0 mean the whole device.
        prober.check("set the device", unsafe { sys::blkid_probe_set_device(probe, file.as_raw_fd(), 0, 0) })?;
        // SAFETY: the probe is valid; the other arguments are plain numbers.
        prober.check("ask for superblocks", unsafe { sys::blkid_probe_enable_superblocks(probe, 1) })?;
        // SAFETY: as above.
        prober
            .check("ask for superblocks", unsafe { sys::blkid_probe_set_superblocks_flags(probe, superblock_flags) })?;
        // SAFETY: as above.
        prober.check("ask for partition tables", unsafe { sys::blkid_probe_enable_partitions(probe, 1) })?;
        // SAFETY: as above.
        prober.check("ask for partition tables", unsafe {
            sys::blkid_probe_set_partitions_flags(probe, partition_flags)
        })?;
        Ok(prober)
    }

    fn check(&self, step: &str, result: libc::c_int) -> HostResult<()> {
        if result == 0 { Ok(()) } else { Err(failed(self.what, format!("libblkid: {step}: {result}"))) }
    }

    /// The next signature; `None` when there are no more.
    pub(super) fn next(&mut self) -> HostResult<Option<Signature>> {
        // SAFETY: the probe is valid and has its device.
        match unsafe { sys::blkid_do_probe(self.probe) } {
            0 => {}
            1 => return Ok(None),
            error => return Err(failed(self.what, format!("libblkid: probe: {error}"))),
        }
        if let Some(kind) = self.value(c"TYPE") {
            let usage = self.value(c"USAGE").unwrap_or_else(|| "other".to_owned());
            let (label, uuid) = (self.value(c"LABEL"), self.value(c"UUID"));
            return Ok(Some(Signature { usage, kind, label, uuid }));
        }
        match self.value(c"PTTYPE") {
            Some(kind) => {
                let uuid = self.value(c"PTUUID");
                Ok(Some(Signature { usage: "partition table".to_owned(), kind, label: None, uuid }))
            }
            None => Err(failed(self.what, "libblkid found something without a type")),
        }
    }

    /// Overwrites the magic of the signature that [`Prober::next`] has just given, and steps back, so that the same is looked
    /// for again. The file must be open for writing.
    pub(super) fn erase(&mut self) -> HostResult<()> {
        // SAFETY: the probe is valid; it writes through the descriptor that it was given.
        let result = unsafe { sys::blkid_do_wipe(self.probe, 0) };
        self.check("erase", result)
    }

    /// A value of the current signature; empty ones are left out.
    fn value(&self, name: &CStr) -> Option<String> {
        let mut data: *const libc::c_char = ptr::null();
        let mut len = 0usize;
        // SAFETY: the probe is valid, the name ends with a zero, the two results are written to locals.
        let result = unsafe { sys::blkid_probe_lookup_value(self.probe, name.as_ptr(), &raw mut data, &raw mut len) };
        if result != 0 || data.is_null() {
            return None;
        }
        // SAFETY: on success libblkid gives `len` bytes that stay valid until the probe moves on; they are copied before
        // that, while `self` is borrowed.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
        let text = String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
        (!text.is_empty()).then_some(text)
    }
}

impl Drop for Prober<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `blkid_new_probe`, freed once.
        unsafe { sys::blkid_free_probe(self.probe) };
    }
}
