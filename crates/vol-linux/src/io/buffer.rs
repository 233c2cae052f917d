//! Memory that O_DIRECT accepts on any disk: aligned to 4096 bytes.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Alignment of buffers, offsets and lengths: the largest logical sector size that Linux disks have.
pub(crate) const ALIGN: usize = 4096;

/// From this size on a buffer is a mapping of its own: pages are there once they are written to, and the kernel has them back when the
/// buffer is dropped, which the allocator decides by itself for memory of its own.
const MAPPED: usize = 256 << 10;

/// A zeroed, aligned block of memory of fixed length. It does not move when the value does.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
    /// A mapping of its own, not of the allocator.
    mapped: bool,
    /// Not in the memory of forked children.
    kept: bool,
}

impl Buffer {
    /// `len` above zero. `OutOfMemory` if there is none.
    pub(crate) fn zeroed(len: usize) -> io::Result<Self> {
        let layout = Layout::from_size_align(len, ALIGN).map_err(|_| io::ErrorKind::InvalidInput)?;
        if len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mapped = len >= MAPPED;
        let start = if mapped {
            let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
            let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            // SAFETY: a new private mapping, where the kernel chooses; it is zeroed, and aligned to pages, which have 4096 bytes or more.
            unsafe { mmap_anonymous(None, len, access, MapFlags::MAP_PRIVATE) }?.cast()
        } else {
            // SAFETY: the layout's size is not zero.
            NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(io::ErrorKind::OutOfMemory)?
        };
        Ok(Self { start, layout, mapped, kept: false })
    }

    pub(crate) fn copy_of(data: &[u8]) -> io::Result<Self> {
        let mut buffer = Self::zeroed(data.len())?;
        buffer.copy_from_slice(data);
        Ok(buffer)
    }

    /// Children that are forked from now on do not get this memory (`MADV_DONTFORK`, madvise(2)). For memory that is
    /// registered with the kernel: were it shared with a child, the first write to a page would give us a copy (kernels before 5.12),
    /// and the kernel would go on with the page of before. Does nothing unless the length is a multiple of [`ALIGN`].
    pub(super) fn keep_from_children(&mut self) {
        if self.layout.size().is_multiple_of(ALIGN) {
            self.kept = self.advise(libc::MADV_DONTFORK);
        }
    }

    /// On whole pages of ours only. Where pages are larger than [`ALIGN`] the kernel refuses what is not aligned to them.
    fn advise(&self, advice: libc::c_int) -> bool {
        // SAFETY: the range is exactly this allocation, and neither advice that is given changes what is in it for us.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.layout.size(), advice) == 0 }
    }

    pub(super) fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is the start of an initialized allocation of this size, owned by `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.mapped {
            // SAFETY: exactly the mapping made in `zeroed`, removed once. What it could fail by, too many mappings, would leave it there.
            let _ = unsafe { munmap(self.start.cast(), self.layout.size()) };
            return;
        }
        if self.kept {
            // What the allocator makes of these pages next must be there in children.
            self.advise(libc::MADV_DOFORK);
        }
        // SAFETY: allocated in `zeroed` with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

// SAFETY: a buffer owns its memory as a `Box<[u8]>` would; nothing else points into it.
unsafe impl Send for Buffer {}
// SAFETY: through a shared reference it can only be read.
unsafe impl Sync for Buffer {}
