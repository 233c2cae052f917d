//! The daemon's own block I/O, behind one small trait with two implementations.
//!
//! `io_uring`: commits by a small ring of our own ([`ring`]), block moving by `tokio-uring` on a thread of its own
//! ([`mover`], the only file that knows that crate). `pread/pwrite` ([`plain`]) where the kernel refuses io_uring (an old kernel,
//! `kernel.io_uring_disabled`, seccomp). Chosen once, at start; `status` tells which and why.

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

use buffer::Buffer;

/// Which backend to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring if the kernel lets us, else pread/pwrite.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// pread/pwrite.
    Plain,
}

/// A write that is acknowledged only when it is durable.
pub(crate) struct Durable {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) data: Buffer,
}

/// Block I/O on open files. Offsets and lengths are multiples of 4096. Every call blocks until it is done.
pub(crate) trait BlockIo: Send + Sync {
    /// Exactly `len` bytes; `UnexpectedEof` past the end.
    fn read(&self, file: &Arc<File>, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    fn write(&self, file: &Arc<File>, offset: u64, data: &[u8]) -> io::Result<()>;
    fn zero(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<()>;
    /// Makes all completed writes durable.
    fn flush(&self, file: &Arc<File>) -> io::Result<()>;
    /// All side by side; one answer per write, in order.
    fn write_durable(&self, writes: Vec<Durable>) -> Vec<io::Result<()>>;
}

/// io_uring: two threads, one ring each.
struct Uring {
    ring: ring::Ring,
    mover: mover::Mover,
    /// For a commit when the ring's thread is gone.
    plain: plain::Plain,
}

impl BlockIo for Uring {
    fn read(&self, file: &Arc<File>, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.mover.run(file, mover::Task::Read { offset, len })
    }
    fn write(&self, file: &Arc<File>, offset: u64, data: &[u8]) -> io::Result<()> {
        self.mover.run(file, mover::Task::Write { offset, data: data.to_vec() }).map(drop)
    }
    fn zero(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<()> {
        self.mover.run(file, mover::Task::Zero { offset, len }).map(drop)
    }
    fn flush(&self, file: &Arc<File>) -> io::Result<()> {
        self.mover.run(file, mover::Task::Flush).map(drop)
    }
    fn write_durable(&self, writes: Vec<Durable>) -> Vec<io::Result<()>> {
        match self.ring.write(writes) {
            Ok(answers) => answers,
            Err(writes) => self.plain.write_durable(writes),
        }
    }
}

fn uring() -> io::Result<Uring> {
    Ok(Uring { ring: ring::Ring::start()?, mover: mover::Mover::start()?, plain: plain::Plain })
}

/// Makes the backend. `Unsupported` if io_uring was asked for and is refused.
pub(crate) fn choose(choice: IoChoice) -> HostResult<(Arc<dyn BlockIo>, IoBackend)> {
    let plain = |reason: String| -> (Arc<dyn BlockIo>, IoBackend) {
        (Arc::new(plain::Plain), IoBackend { name: "pread/pwrite".to_owned(), reason: Some(reason) })
    };
    if choice == IoChoice::Plain {
        return Ok(plain("chosen by the configuration".to_owned()));
    }
    match uring() {
        Ok(uring) => Ok((Arc::new(uring), IoBackend { name: "io_uring".to_owned(), reason: None })),
        Err(e) if choice == IoChoice::Auto => Ok(plain(format!("io_uring is refused: {e}"))),
        Err(e) => Err(HostError::new(HostErrorKind::Unsupported, "start io_uring", e.to_string())),
    }
}
