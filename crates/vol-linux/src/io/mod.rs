//! The daemon's own block I/O, behind one small trait with two implementations.
//!
//! `io_uring`: commits and reads on small rings of our own ([`ring`]), block moving by `tokio-uring` on a thread of its own
//! ([`mover`], the only file that knows that crate). `pread/pwrite` ([`plain`]) where the kernel refuses io_uring (an old kernel,
//! `kernel.io_uring_disabled`, seccomp). Chosen once, at start; `status` tells which and why. Tests run over all of them, and over
//! io_uring with memory that is not registered.

pub(crate) mod buffer;
pub(crate) mod device;
mod mover;
mod plain;
mod ring;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;

use vol_engine::host::{HostError, HostErrorKind, HostResult, IoBackend};

/// Which backend to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring if the kernel lets us, else pread/pwrite.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// As `Uring`, but as if the kernel refused to register memory (its limit on locked memory). For tests.
    Unregistered,
    /// pread/pwrite.
    Plain,
}

/// A write that is acknowledged only when it is durable.
#[derive(Clone, Copy)]
pub(crate) struct Durable<'a> {
    pub(crate) file: &'a File,
    pub(crate) offset: u64,
    /// Not empty.
    pub(crate) data: &'a [u8],
}

/// Block I/O on open files. Offsets and lengths are multiples of 4096. Every call blocks until it is done.
pub(crate) trait BlockIo: Send + Sync {
    /// Exactly `len` bytes; `UnexpectedEof` past the end.
    fn read(&self, file: &Arc<File>, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    fn write(&self, file: &Arc<File>, offset: u64, data: &[u8]) -> io::Result<()>;
    fn zero(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<()>;
    /// From one device to the same place of another.
    fn copy(&self, from: &Arc<File>, to: &Arc<File>, offset: u64, len: u64) -> io::Result<()>;
    /// Whether nothing but zeroes is read there.
    fn is_zero(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<bool>;
    /// Whether nothing but zeroes is read in the 4096 bytes at each of these places.
    fn are_zero(&self, file: &Arc<File>, places: &[u64]) -> io::Result<bool>;
    /// Makes all completed writes durable. Asks the kernel once: a flush that failed is not repeated here.
    fn flush(&self, file: &Arc<File>) -> io::Result<()>;
    /// All side by side; one answer per write, in order.
    fn write_durable(&self, writes: &[Durable<'_>]) -> Vec<io::Result<()>>;
}

/// io_uring: a few rings for commits and reads, a thread with a ring for all else.
struct Uring {
    rings: ring::Rings,
    mover: mover::Mover,
    /// For what finds no ring.
    plain: plain::Plain,
}

impl BlockIo for Uring {
    fn read(&self, file: &Arc<File>, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.rings.read(file, offset, len).unwrap_or_else(|| self.plain.read(file, offset, len))
    }
    fn write(&self, file: &Arc<File>, offset: u64, data: &[u8]) -> io::Result<()> {
        self.mover.run(file, mover::Task::Write { offset, data: data.to_vec() })
    }
    fn zero(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<()> {
        self.mover.run(file, mover::Task::Zero { offset, len })
    }
    fn copy(&self, from: &Arc<File>, to: &Arc<File>, offset: u64, len: u64) -> io::Result<()> {
        self.mover.run(to, mover::Task::Copy { from: Arc::clone(from), offset, len })
    }
    fn is_zero(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<bool> {
        match self.mover.run(file, mover::Task::Check { offset, len }) {
            Err(e) if mover::is_not_zero(&e) => Ok(false),
            other => other.map(|()| true),
        }
    }
    fn are_zero(&self, file: &Arc<File>, places: &[u64]) -> io::Result<bool> {
        self.rings.are_zero(file, places).unwrap_or_else(|| self.plain.are_zero(file, places))
    }
    fn flush(&self, file: &Arc<File>) -> io::Result<()> {
        self.mover.run(file, mover::Task::Flush)
    }
    fn write_durable(&self, writes: &[Durable<'_>]) -> Vec<io::Result<()>> {
        if writes.is_empty() {
            return Vec::new();
        }
        self.rings.write(writes).unwrap_or_else(|| self.plain.write_durable(writes))
    }
}

/// The second value says why memory is not registered.
fn uring(register: bool) -> io::Result<(Uring, Option<String>)> {
    let (rings, refused) = ring::Rings::start(register)?;
    let mover = mover::Mover::start(register)?;
    let reason = match (register, refused) {
        (false, _) => Some("buffers are not registered because that was asked for".to_owned()),
        (true, Some(e)) => Some(format!(
            "buffers are not registered: the kernel refused ({e}); is the limit on locked memory too low?"
        )),
        (true, None) => None,
    };
    Ok((Uring { rings, mover, plain: plain::Plain }, reason))
}

/// As quick as comparing memory is.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    static ZEROES: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROES.len()).all(|part| ZEROES.get(..part.len()).is_some_and(|zeroes| zeroes == part))
}

/// Makes the backend. `Unsupported` if io_uring was asked for and is refused.
pub(crate) fn choose(choice: IoChoice) -> HostResult<(Arc<dyn BlockIo>, IoBackend)> {
    let plain = |reason: String| -> (Arc<dyn BlockIo>, IoBackend) {
        (Arc::new(plain::Plain), IoBackend { name: "pread/pwrite".to_owned(), reason: Some(reason) })
    };
    if choice == IoChoice::Plain {
        return Ok(plain("chosen by the configuration".to_owned()));
    }
    match uring(choice != IoChoice::Unregistered) {
        Ok((uring, None)) => {
            Ok((Arc::new(uring), IoBackend { name: "io_uring (registered buffers)".to_owned(), reason: None }))
        }
        Ok((uring, reason)) => Ok((Arc::new(uring), IoBackend { name: "io_uring".to_owned(), reason })),
        Err(e) if choice == IoChoice::Auto => Ok(plain(format!("io_uring is refused: {e}"))),
        Err(e) => Err(HostError::new(HostErrorKind::Unsupported, "start io_uring", e.to_string())),
    }
}
