//! Block moving on a thread of its own with `tokio-uring`: writes, zeroing, copies, reading whether all is zero, flushes.
//!
//! This is the only file that knows `tokio-uring` (it has no maintainer). Its traps: the runtime is made by `Runtime::new`,
//! because `start` panics where io_uring is refused; `writev_at_all` panics on short writes and is not used; a panic inside
//! stays in its task and becomes an error of that job.
//!
//! Memory: eight buffers of 1 MiB, registered with the kernel if its limit on locked memory allows; each job has at most four of
//! them. They are made for the first job, for many a daemon never moves anything, and kept: what is registered cannot be given back
//! and registered anew in the same ring. A job that has none and finds none, because jobs on disks that hang have them all, is given memory of its own for one chunk
//! at a time: those disks hold up nobody else. Jobs are bounded by their callers, who wait.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use nix::sys::signal::SigSet;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_uring::buf::fixed::{FixedBuf, FixedBufPool};
use tokio_uring::buf::{BoundedBuf, IoBuf, IoBufMut};

use super::all_zero;
use super::buffer::Buffer;

const CHUNK: usize = 1 << 20;
const BUFFERS: usize = 8;
const DEPTH: usize = 4;
/// How often in a row the kernel may say "not now" (`EAGAIN`, `EINTR`), a millisecond apart.
const AGAIN_MAX: u32 = 5000;

// SAFETY: the memory of a `Buffer` does not move, is initialized from its start to its end, and is freed only with it.
unsafe impl IoBuf for Buffer {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn bytes_init(&self) -> usize {
        self.len()
    }
    fn bytes_total(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; all of it is initialized always, so there is nothing to record.
unsafe impl IoBufMut for Buffer {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    unsafe fn set_init(&mut self, _pos: usize) {}
}

pub(super) enum Task {
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    Zero {
        offset: u64,
        len: u64,
    },
    /// From the same place of this device.
    Copy {
        from: Arc<File>,
        offset: u64,
        len: u64,
    },
    /// Fails ([`is_not_zero`]) unless all of it is zeroes.
    Check {
        offset: u64,
        len: u64,
    },
    Flush,
}

struct Job {
    file: Arc<File>,
    task: Task,
    answer: SyncSender<io::Result<()>>,
}

/// Handle of the thread; it ends, its jobs done, when this is dropped.
pub(super) struct Mover {
    jobs: UnboundedSender<Job>,
}

impl Mover {
    /// The error is the kernel's refusal of io_uring.
    pub(super) fn start(register: bool) -> io::Result<Self> {
        let (jobs, receiver) = unbounded_channel();
        let (started, start) = sync_channel(1);
        std::thread::Builder::new().name("vol-mover".into()).spawn(move || {
            // A signal must be taken by some other thread.
            let _ = SigSet::all().thread_block();
            let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(64));
            match runtime {
                Ok(runtime) => {
                    if started.send(Ok(())).is_ok() {
                        runtime.block_on(serve(receiver, register));
                    }
                }
                Err(e) => drop(started.send(Err(e))),
            }
        })?;
        wait(&start)??;
        Ok(Self { jobs })
    }

    /// Waits for the answer.
    pub(super) fn run(&self, file: &Arc<File>, task: Task) -> io::Result<()> {
        let (answer, receiver) = sync_channel(1);
        self.jobs.send(Job { file: Arc::clone(file), task, answer }).map_err(|_| gone())?;
        wait(&receiver)?
    }
}

fn wait<T>(receiver: &Receiver<T>) -> io::Result<T> {
    receiver.recv().map_err(|_| gone())
}

/// The answer to [`Task::Check`] where something else than zeroes was read.
pub(super) fn is_not_zero(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NotZero>())
}

#[derive(Debug)]
struct NotZero;

impl std::error::Error for NotZero {}

impl std::fmt::Display for NotZero {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("something else than zeroes was read")
    }
}

fn gone() -> io::Error {
    io::Error::other("the block mover failed")
}

async fn serve(mut jobs: UnboundedReceiver<Job>, register: bool) {
    let mut shared = None;
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(Job { file, task, answer }) => {
                    let moving = match &shared {
                        Some(moving) => Ok(Moving::clone(moving)),
                        None => Moving::begin(register).inspect(|moving| shared = Some(moving.clone())),
                    };
                    let moving = match moving {
                        Ok(moving) => moving,
                        Err(e) => {
                            drop(file);
                            let _ = answer.send(Err(e));
                            continue;
                        }
                    };
                    running.spawn_local(async move {
                        let result = moving.perform(&file, task).await;
                        // Before the answer: its reader may be about to remove the device.
                        drop(file);
                        let _ = answer.send(result);
                    });
                }
                None => break,
            },
            // A panic in a job drops its answer, which its caller sees.
            Some(_) = running.join_next(), if !running.is_empty() => {}
        }
    }
    while running.join_next().await.is_some() {}
    if let Some(Moving { pool, registered: true, .. }) = shared {
        let _ = pool.unregister();
    }
}

/// The memory that jobs share.
#[derive(Clone)]
struct Moving {
    pool: Rc<FixedBufPool<Buffer>>,
    /// Where those buffers begin that hold nothing but zeroes: they need not be filled with them again.
    zeroes: Rc<RefCell<BTreeSet<*const u8>>>,
    registered: bool,
}

/// What happens to one chunk.
#[derive(Clone)]
enum Part {
    /// From this memory.
    Write(Rc<Vec<u8>>),
    Zero,
    /// Of this file.
    Copy(Rc<tokio_uring::fs::File>),
    Check,
}

impl Moving {
    /// `OutOfMemory` if there is none. Where the kernel refuses to register it, it is used as it is.
    fn begin(register: bool) -> io::Result<Self> {
        let mut buffers: Vec<Buffer> =
            std::iter::repeat_with(|| Buffer::zeroed(CHUNK)).take(BUFFERS).collect::<io::Result<_>>()?;
        buffers.iter_mut().for_each(Buffer::keep_from_children);
        let pool = Rc::new(FixedBufPool::new(buffers));
        let registered = register
            && pool
                .register()
                .inspect_err(|error| tracing::info!(%error, "blocks are moved without registered buffers"))
                .is_ok();
        Ok(Self { pool, zeroes: Rc::default(), registered })
    }

    async fn perform(&self, file: &File, task: Task) -> io::Result<()> {
        // tokio-uring closes what it is given: it gets a descriptor of its own.
        let own = |file: &File| Ok::<_, io::Error>(Rc::new(tokio_uring::fs::File::from_std(file.try_clone()?)));
        let file = own(file)?;
        let mut source = None;
        let result = match task {
            Task::Flush => file.sync_data().await,
            Task::Zero { offset, len } => self.all(&file, offset, len, &Part::Zero).await,
            Task::Copy { from, offset, len } => {
                let from = own(&from)?;
                source = Some(Rc::clone(&from));
                self.all(&file, offset, len, &Part::Copy(from)).await
            }
            Task::Check { offset, len } => self.all(&file, offset, len, &Part::Check).await,
            Task::Write { offset, data } => {
                let len = u64::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
                self.all(&file, offset, len, &Part::Write(Rc::new(data))).await
            }
        };
        // A descriptor that is dropped is closed some time later, and whoever is told that the job is done may look whether the
        // device is open. What comes of closing does not matter: nothing is written by it.
        for file in [Some(file), source].into_iter().flatten() {
            if let Ok(file) = Rc::try_unwrap(file) {
                let _ = file.close().await;
            }
        }
        result
    }

    /// Cuts the range into chunks, some of which are in flight together. Ends with the first error, once nothing is in
    /// flight any more.
    async fn all(&self, file: &Rc<tokio_uring::fs::File>, offset: u64, len: u64, part: &Part) -> io::Result<()> {
        let depth = Arc::new(Semaphore::new(DEPTH));
        let mut chunks = JoinSet::new();
        let mut result = Ok(());
        let mut at = 0u64;
        while at < len && result.is_ok() {
            let Ok(permit) = Arc::clone(&depth).acquire_owned().await else { break };
            let size = usize::try_from(len - at).unwrap_or(CHUNK).min(CHUNK);
            let Some(position) = offset.checked_add(at) else {
                result = Err(io::ErrorKind::InvalidInput.into());
                break;
            };
            // Waiting for a buffer of the pool is waiting for other jobs; waiting for a chunk of our own is not.
            let memory = loop {
                if let Some(buffer) = self.pool.try_next(CHUNK) {
                    break Some(Memory::Pool(buffer));
                }
                let Some(done) = chunks.join_next().await else { break None };
                result = result.and(done.unwrap_or_else(|_| Err(gone())));
            };
            let memory = match memory {
                _ if result.is_err() => break,
                Some(memory) => memory,
                None => match Buffer::zeroed(size) {
                    Ok(buffer) => Memory::Own(buffer),
                    Err(e) => {
                        result = result.and(Err(e));
                        break;
                    }
                },
            };
            let zeroes = Rc::clone(&self.zeroes);
            let chunk = Chunk { file: Rc::clone(file), zeroes, registered: self.registered, position, size };
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            chunks.spawn_local(chunk.run(memory, part.clone(), start, permit));
            at = at.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
            while let Some(done) = chunks.try_join_next() {
                result = result.and(done.unwrap_or_else(|_| Err(gone())));
            }
        }
        while let Some(done) = chunks.join_next().await {
            result = result.and(done.unwrap_or_else(|_| Err(gone())));
        }
        result
    }
}

/// `size` bytes at `position`.
struct Chunk {
    file: Rc<tokio_uring::fs::File>,
    zeroes: Rc<RefCell<BTreeSet<*const u8>>>,
    registered: bool,
    position: u64,
    size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

/// Where a chunk is while it is moved.
enum Memory {
    Pool(FixedBuf),
    Own(Buffer),
}

impl Deref for Memory {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Pool(buffer) => buffer,
            Self::Own(buffer) => buffer,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Pool(buffer) => buffer,
            Self::Own(buffer) => buffer,
        }
    }
}

impl Chunk {
    async fn run(self, mut memory: Memory, part: Part, start: usize, _permit: OwnedSemaphorePermit) -> io::Result<()> {
        let range = start..start.saturating_add(self.size);
        match &mut memory {
            // In whole, whatever part of it is needed now.
            Memory::Pool(buffer) if matches!(part, Part::Zero) => {
                if self.zeroes.borrow_mut().insert(buffer.as_ptr()) {
                    buffer.fill(0);
                }
            }
            Memory::Pool(buffer) => drop(self.zeroes.borrow_mut().remove(&buffer.as_ptr())),
            // Made for this chunk, or for nothing.
            Memory::Own(_) => {}
        }
        match part {
            Part::Write(data) => match (memory.get_mut(..self.size), data.get(range)) {
                (Some(to), Some(from)) => to.copy_from_slice(from),
                _ => return Err(gone()),
            },
            Part::Zero => {}
            Part::Copy(from) => memory = self.transfer(&from, Way::Read, memory).await?,
            Part::Check => {
                let memory = self.transfer(&self.file, Way::Read, memory).await?;
                let zero = all_zero(memory.get(..self.size).unwrap_or_default());
                return if zero { Ok(()) } else { Err(io::Error::other(NotZero)) };
            }
        }
        self.transfer(&self.file, Way::Write, memory).await.map(drop)
    }

    /// All of the chunk, in as many entries as the kernel wants.
    async fn transfer(&self, file: &tokio_uring::fs::File, way: Way, mut memory: Memory) -> io::Result<Memory> {
        let mut done = 0;
        let mut again = 0;
        while done < self.size {
            let position = self.position.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            let (result, back) = self.once(file, way, memory, done, position).await;
            memory = back;
            match result {
                Ok(0) if way == Way::Read => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(moved) => {
                    done = done.saturating_add(moved);
                    again = 0;
                }
                Err(e) if again < AGAIN_MAX && matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {
                    again = again.saturating_add(1);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(memory)
    }

    /// One entry: from `done` to the end of the chunk.
    async fn once(
        &self,
        file: &tokio_uring::fs::File,
        way: Way,
        memory: Memory,
        done: usize,
        position: u64,
    ) -> (io::Result<usize>, Memory) {
        match memory {
            Memory::Pool(buffer) => {
                let slice = buffer.slice(done..self.size);
                let (result, slice) = match (way, self.registered) {
                    (Way::Write, true) => file.write_fixed_at(slice, position).await,
                    (Way::Write, false) => file.write_at(slice, position).submit().await,
                    (Way::Read, true) => file.read_fixed_at(slice, position).await,
                    (Way::Read, false) => file.read_at(slice, position).await,
                };
                (result, Memory::Pool(slice.into_inner()))
            }
            Memory::Own(buffer) => {
                let slice = buffer.slice(done..self.size);
                let (result, slice) = match way {
                    Way::Write => file.write_at(slice, position).submit().await,
                    Way::Read => file.read_at(slice, position).await,
                };
                (result, Memory::Own(slice.into_inner()))
            }
        }
    }
}
