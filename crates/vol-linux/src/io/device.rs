//! An open block device, as the engine holds it.

use std::any::Any;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vol_core::observed::DiskIdentity;
use vol_engine::host::{BlockRead, BlockWrite, DurableWrite, HostError, HostErrorKind, HostResult};

use super::buffer::ALIGN;
use super::{BlockIo, Durable};
use crate::disk::{self, Access};
use crate::error;

pub(crate) struct Device {
    node: PathBuf,
    file: Arc<File>,
    identity: DiskIdentity,
    io: Arc<dyn BlockIo>,
    /// A flush failed, and nothing was written since.
    flush_failed: AtomicBool,
}

impl Device {
    /// Opens past the page cache (`O_DIRECT`), or through it on a device that cannot. `Changed` if it is not the `expected` one.
    pub(crate) fn open(
        io: Arc<dyn BlockIo>,
        node: &Path,
        access: Access,
        expected: Option<&DiskIdentity>,
    ) -> HostResult<Self> {
        let file = match disk::open(node, access, libc::O_DIRECT) {
            Err(e) if e.kind == HostErrorKind::Invalid && disk_exists(node) => disk::open(node, access, 0)?,
            other => other?,
        };
        let what = format!("open {}", node.display());
        let identity = disk::identity(&what, &file)?;
        if let Some(expected) = expected
            && identity != *expected
        {
            return Err(error::changed(
                what,
                format!("another device took its place: found {identity:?}, expected {expected:?}"),
            ));
        }
        Ok(Self { node: node.to_path_buf(), file: Arc::new(file), identity, io, flush_failed: AtomicBool::new(false) })
    }

    fn what(&self, verb: &str, offset: u64, len: u64) -> String {
        format!("{verb} {} at {offset}, {len} bytes", self.node.display())
    }

    /// Aligned, and within the device.
    pub(crate) fn check(&self, verb: &str, offset: u64, len: u64) -> HostResult<()> {
        let unit = u64::try_from(ALIGN).unwrap_or(4096);
        if !offset.is_multiple_of(unit) || !len.is_multiple_of(unit) {
            return Err(error::invalid(self.what(verb, offset, len), "not a multiple of 4096"));
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.identity.size.get() => Ok(()),
            _ => Err(HostError::new(HostErrorKind::Io, self.what(verb, offset, len), "past the end of the device")),
        }
    }

    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Writes zeroes and makes them durable.
    pub(crate) fn zero(&self, offset: u64, len: u64) -> HostResult<()> {
        self.check("zero", offset, len)?;
        self.io
            .zero(&self.file, offset, len)
            .and_then(|()| self.io.flush(&self.file))
            .map_err(|e| error::block(self.what("zero", offset, len), &e))
    }
}

fn disk_exists(node: &Path) -> bool {
    matches!(crate::files::block_number(node), Ok(Some(_)))
}

fn length(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

impl BlockRead for Device {
    fn identity(&self) -> &DiskIdentity {
        &self.identity
    }

    fn read_at(&self, offset: u64, len: usize) -> HostResult<Vec<u8>> {
        let bytes = u64::try_from(len).unwrap_or(u64::MAX);
        self.check("read", offset, bytes)?;
        self.io.read(&self.file, offset, len).map_err(|e| error::block(self.what("read", offset, bytes), &e))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl BlockWrite for Device {
    fn write_at(&self, offset: u64, data: &[u8]) -> HostResult<()> {
        self.check("write", offset, length(data))?;
        self.flush_failed.store(false, Ordering::SeqCst);
        self.io.write(&self.file, offset, data).map_err(|e| error::block(self.what("write", offset, length(data)), &e))
    }

    fn flush(&self) -> HostResult<()> {
        let what = || format!("flush {}", self.node.display());
        // The kernel tells of lost writes once; asked again it may say that all is well (Rebello et al., "Can Applications
        // Recover from fsync Failures?", USENIX ATC 2020).
        if self.flush_failed.load(Ordering::SeqCst) {
            let detail = "the flush before failed and nothing was written since; what was written then is unknown and must be written again";
            return Err(HostError::new(HostErrorKind::Io, what(), detail));
        }
        self.io.flush(&self.file).map_err(|e| {
            self.flush_failed.store(true, Ordering::SeqCst);
            error::block(what(), &e)
        })
    }
}

/// All writes side by side; one answer each, in order.
pub(crate) fn write_durable(io: &Arc<dyn BlockIo>, writes: &[DurableWrite<'_>]) -> Vec<HostResult<()>> {
    let mut answers: Vec<HostResult<()>> = Vec::with_capacity(writes.len());
    let mut sent = Vec::new();
    let mut batch = Vec::new();
    for (index, write) in writes.iter().enumerate() {
        answers.push(prepare(write).map(|durable| {
            if let Some(durable) = durable {
                sent.push(index);
                batch.push(durable);
            }
        }));
    }
    let results = io.write_durable(&batch);
    for (index, result) in sent.into_iter().zip(results) {
        if let (Err(e), Some(write), Some(answer)) = (result, writes.get(index), answers.get_mut(index)) {
            let what = write.device.as_any().downcast_ref::<Device>();
            let what = what.map(|device| device.what("commit to", write.offset, length(write.data)));
            *answer = Err(error::block(what.unwrap_or_default(), &e));
        }
    }
    answers
}

/// `None` if there is nothing to write.
fn prepare<'a>(write: &DurableWrite<'a>) -> HostResult<Option<Durable<'a>>> {
    let Some(device) = write.device.as_any().downcast_ref::<Device>() else {
        return Err(error::invalid("commit", "the device was opened by another host"));
    };
    device.check("commit to", write.offset, length(write.data))?;
    if write.data.is_empty() {
        return Ok(None);
    }
    Ok(Some(Durable { file: &device.file, offset: write.offset, data: write.data }))
}
