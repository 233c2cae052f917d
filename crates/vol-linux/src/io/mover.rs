//! Block moving on a thread of its own with `tokio-uring`: reads, writes, zeroing, flushes.
//!
//! This is the only file that knows `tokio-uring` (it has no maintainer). Its traps: the runtime is made by `Runtime::new`,
//! because `start` panics where io_uring is refused; `writev_at_all` panics on short writes and is not used; a panic inside
//! stays in its task and becomes an error of that job.
//!
//! Memory is bounded: eight buffers of 1 MiB, registered with the kernel if its limit on locked memory allows, and each job
//! has at most four of them. Jobs are bounded by their callers, who wait.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::sys::signal::SigSet;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_uring::buf::fixed::{FixedBuf, FixedBufPool};
use tokio_uring::buf::{BoundedBuf, IoBuf, IoBufMut};

use super::buffer::Buffer;

const CHUNK: usize = 1 << 20;
const BUFFERS: usize = 8;
const DEPTH: usize = 4;

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
    Read { offset: u64, len: usize },
    Write { offset: u64, data: Vec<u8> },
    Zero { offset: u64, len: u64 },
    Flush,
}

struct Job {
    file: Arc<File>,
    task: Task,
    answer: SyncSender<io::Result<Vec<u8>>>,
}

/// Handle of the thread; it ends, its jobs done, when this is dropped.
pub(super) struct Mover {
    jobs: UnboundedSender<Job>,
}

impl Mover {
    /// The error is the kernel's refusal of io_uring.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, receiver) = unbounded_channel();
        let (started, start) = sync_channel(1);
        std::thread::Builder::new().name("vol-mover".into()).spawn(move || {
            // A signal must be taken by some other thread.
            let _ = SigSet::all().thread_block();
            let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(64));
            match runtime {
                Ok(runtime) => runtime.block_on(serve(receiver, &started)),
                Err(e) => drop(started.send(Err(e))),
            }
        })?;
        wait(&start).and_then(|started| started)?;
        Ok(Self { jobs })
    }

    /// Waits for the answer; data only for a read.
    pub(super) fn run(&self, file: &Arc<File>, task: Task) -> io::Result<Vec<u8>> {
        let (answer, receiver) = sync_channel(1);
        self.jobs.send(Job { file: Arc::clone(file), task, answer }).map_err(|_| gone())?;
        wait(&receiver)?
    }
}

fn wait<T>(receiver: &Receiver<T>) -> io::Result<T> {
    receiver.recv().map_err(|_| gone())
}

fn gone() -> io::Error {
    io::Error::other("the block mover failed")
}

async fn serve(mut jobs: UnboundedReceiver<Job>, started: &SyncSender<io::Result<()>>) {
    let buffers: io::Result<Vec<Buffer>> = std::iter::repeat_with(|| Buffer::zeroed(CHUNK)).take(BUFFERS).collect();
    let pool = match buffers {
        Ok(buffers) => Rc::new(FixedBufPool::new(buffers)),
        Err(e) => return drop(started.send(Err(e))),
    };
    let registered = pool.register().is_ok();
    if started.send(Ok(())).is_err() {
        return;
    }
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(job) => {
                    let moving = Moving { pool: Rc::clone(&pool), registered };
                    running.spawn_local(async move {
                        let result = moving.perform(&job.file, job.task).await;
                        let _ = job.answer.send(result);
                    });
                }
                None => break,
            },
            // A panic in a job drops its answer, which its caller sees.
            Some(_) = running.join_next(), if !running.is_empty() => {}
        }
    }
    while running.join_next().await.is_some() {}
    if registered {
        let _ = pool.unregister();
    }
}

struct Moving {
    pool: Rc<FixedBufPool<Buffer>>,
    registered: bool,
}

/// What happens to one chunk.
#[derive(Clone)]
enum Part {
    /// Into this memory.
    Read(Rc<RefCell<Vec<u8>>>),
    /// From this memory.
    Write(Rc<Vec<u8>>),
    Zero,
}

impl Moving {
    async fn perform(&self, file: &File, task: Task) -> io::Result<Vec<u8>> {
        // tokio-uring closes what it is given: it gets a descriptor of its own.
        let file = Rc::new(tokio_uring::fs::File::from_std(file.try_clone()?));
        match task {
            Task::Flush => file.sync_data().await.map(|()| Vec::new()),
            Task::Zero { offset, len } => self.all(&file, offset, len, &Part::Zero).await.map(|()| Vec::new()),
            Task::Write { offset, data } => {
                let len = u64::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
                self.all(&file, offset, len, &Part::Write(Rc::new(data))).await.map(|()| Vec::new())
            }
            Task::Read { offset, len } => {
                let mut data = Vec::new();
                data.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
                data.resize(len, 0);
                let data = Rc::new(RefCell::new(data));
                let len = u64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
                self.all(&file, offset, len, &Part::Read(Rc::clone(&data))).await?;
                Ok(data.take())
            }
        }
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
            let buffer = self.pool.next(CHUNK).await;
            let size = usize::try_from(len - at).unwrap_or(CHUNK).min(CHUNK);
            let Some(position) = offset.checked_add(at) else {
                result = Err(io::ErrorKind::InvalidInput.into());
                break;
            };
            let chunk = Chunk { file: Rc::clone(file), registered: self.registered, position, size };
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            chunks.spawn_local(chunk.run(buffer, part.clone(), start, permit));
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
    registered: bool,
    position: u64,
    size: usize,
}

impl Chunk {
    async fn run(
        self,
        mut buffer: FixedBuf,
        part: Part,
        start: usize,
        _permit: OwnedSemaphorePermit,
    ) -> io::Result<()> {
        let range = start..start.saturating_add(self.size);
        match part {
            Part::Read(data) => {
                let buffer = self.transfer(buffer, false).await?;
                let mut data = data.borrow_mut();
                match (data.get_mut(range), buffer.get(..self.size)) {
                    (Some(to), Some(from)) => to.copy_from_slice(from),
                    _ => return Err(gone()),
                }
            }
            Part::Write(data) => {
                match (buffer.get_mut(..self.size), data.get(range)) {
                    (Some(to), Some(from)) => to.copy_from_slice(from),
                    _ => return Err(gone()),
                }
                self.transfer(buffer, true).await?;
            }
            Part::Zero => {
                buffer.get_mut(..self.size).unwrap_or_default().fill(0);
                self.transfer(buffer, true).await?;
            }
        }
        Ok(())
    }

    async fn transfer(&self, mut buffer: FixedBuf, write: bool) -> io::Result<FixedBuf> {
        let mut done = 0;
        while done < self.size {
            let position = self.position.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            let slice = buffer.slice(done..self.size);
            let (result, slice) = match (write, self.registered) {
                (true, true) => self.file.write_fixed_at(slice, position).await,
                (true, false) => self.file.write_at(slice, position).submit().await,
                (false, true) => self.file.read_fixed_at(slice, position).await,
                (false, false) => self.file.read_at(slice, position).await,
            };
            buffer = slice.into_inner();
            match result {
                Ok(0) if write => return Err(io::ErrorKind::WriteZero.into()),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(moved) => done = done.saturating_add(moved),
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(buffer)
    }
}
