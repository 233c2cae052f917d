//! Block I/O by `pread`, `pwrite` and `fdatasync` in the calling thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::buffer::{ALIGN, Buffer};
use super::{BlockIo, Durable, all_zero};

/// How much is moved by one call.
const CHUNK: usize = 1 << 20;

pub(super) struct Plain;

impl BlockIo for Plain {
    fn read(&self, file: &Arc<File>, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        out.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if len == 0 {
            return Ok(out);
        }
        let mut buffer = Buffer::zeroed(len.min(CHUNK))?;
        while out.len() < len {
            let part = buffer.get_mut(..CHUNK.min(len - out.len())).unwrap_or_default();
            file.read_exact_at(part, position(offset, out.len())?)?;
            out.extend_from_slice(part);
        }
        Ok(out)
    }

    fn write(&self, file: &Arc<File>, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let mut buffer = Buffer::zeroed(data.len().min(CHUNK))?;
        for (index, chunk) in data.chunks(CHUNK).enumerate() {
            let part = buffer.get_mut(..chunk.len()).unwrap_or_default();
            part.copy_from_slice(chunk);
            file.write_all_at(part, position(offset, index.saturating_mul(CHUNK))?)?;
        }
        Ok(())
    }

    fn zero(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<()> {
        let zeroes = Buffer::zeroed(CHUNK)?;
        let mut done = 0;
        while done < len {
            let part = usize::try_from(len - done).unwrap_or(CHUNK).min(CHUNK);
            let at = offset.checked_add(done).ok_or(io::ErrorKind::InvalidInput)?;
            file.write_all_at(zeroes.get(..part).unwrap_or_default(), at)?;
            done = done.saturating_add(u64::try_from(part).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn copy(&self, from: &Arc<File>, to: &Arc<File>, offset: u64, len: u64) -> io::Result<()> {
        pieces(offset, len, |part, at| {
            from.read_exact_at(part, at)?;
            to.write_all_at(part, at)
        })
    }

    fn is_zero(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<bool> {
        let mut zero = true;
        pieces(offset, len, |part, at| {
            if zero {
                file.read_exact_at(part, at)?;
                zero = all_zero(part);
            }
            Ok(())
        })?;
        Ok(zero)
    }

    fn are_zero(&self, file: &Arc<File>, places: &[u64]) -> io::Result<bool> {
        let mut block = Buffer::zeroed(ALIGN)?;
        for place in places {
            file.read_exact_at(&mut block, *place)?;
            if !all_zero(&block) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn flush(&self, file: &Arc<File>) -> io::Result<()> {
        // Not `File::sync_data`, which would ask again after EINTR.
        Ok(rustix::fs::fdatasync(&**file)?)
    }

    fn write_durable(&self, writes: &[Durable<'_>]) -> Vec<io::Result<()>> {
        let Some((first, others)) = writes.split_first() else { return Vec::new() };
        // A thread for each but the first, so that a slow disk does not hold up the others.
        std::thread::scope(|scope| {
            let threads: Vec<_> = others
                .iter()
                .map(|write| std::thread::Builder::new().spawn_scoped(scope, move || durable(write)))
                .collect();
            let mut answers = vec![durable(first)];
            answers.extend(threads.into_iter().zip(others).map(|(thread, write)| match thread {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread failed"))),
                Err(_) => durable(write),
            }));
            answers
        })
    }
}

/// Calls `each` with memory for each chunk of a range, and where it is.
fn pieces(offset: u64, len: u64, mut each: impl FnMut(&mut [u8], u64) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = Buffer::zeroed(CHUNK)?;
    let mut done = 0;
    while done < len {
        let part = usize::try_from(len - done).unwrap_or(CHUNK).min(CHUNK);
        let at = offset.checked_add(done).ok_or(io::ErrorKind::InvalidInput)?;
        each(buffer.get_mut(..part).unwrap_or_default(), at)?;
        done = done.saturating_add(u64::try_from(part).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// A write and a flush. `pwritev2` with `RWF_DSYNC` would be a write with FUA *and* a flush (kernel `block/fops.c`,
/// `generic_write_sync` after a synchronous write).
fn durable(write: &Durable<'_>) -> io::Result<()> {
    let data = Buffer::copy_of(write.data)?;
    write.file.write_all_at(&data, write.offset)?;
    Ok(rustix::fs::fdatasync(write.file)?)
}

fn position(offset: u64, done: usize) -> io::Result<u64> {
    let done = u64::try_from(done).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(offset.checked_add(done).ok_or(io::ErrorKind::InvalidInput)?)
}
