//! Memory that O_DIRECT accepts on any disk: aligned to 4096 bytes.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of buffers, offsets and lengths: the largest logical sector size that Linux disks have.
pub(crate) const ALIGN: usize = 4096;

/// A zeroed, aligned block of memory of fixed length. It does not move when the value does.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
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
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        Ok(Self { start: NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?, layout, kept: false })
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
