//! Durable commits on a ring of our own.
//!
//! Each write is one entry with `RWF_DSYNC`: on a block device opened with O_DIRECT a write with FUA, or write and flush where the
//! disk has none (kernel `block/fops.c`). All writes of all batches are in flight together, and new batches are taken while
//! others wait, so that a disk that hangs holds up nobody else's commit.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use io_uring::{IoUring, Probe, cqueue, opcode, types};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;

use super::Durable;

/// Entries of the submission queue.
const ENTRIES: u32 = 64;
/// Writes in flight; the completion queue holds as many twice over.
const IN_FLIGHT_MAX: usize = 63;
/// Marks the entry that waits for new batches.
const WAKE: u64 = u64::MAX;

type Answer = io::Result<()>;

/// One batch under way: the answers so far, and who gets them.
struct Batch {
    writes: Vec<Durable>,
    answer: Sender<(usize, Answer)>,
}

#[derive(Default)]
struct Queue {
    batches: Vec<Batch>,
    /// The thread is gone or about to go.
    closed: bool,
}

/// Handle of the thread. When it is dropped the thread finishes what it has and ends.
pub(super) struct Ring {
    queue: Arc<Mutex<Queue>>,
    wake: Arc<EventFd>,
}

impl Ring {
    /// The error is the kernel's refusal of io_uring, or names the operation that it lacks.
    pub(super) fn start() -> io::Result<Self> {
        let ring = IoUring::new(ENTRIES)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [
            (opcode::Read::CODE, "read"),
            (opcode::Write::CODE, "write"),
            (opcode::ReadFixed::CODE, "fixed read"),
            (opcode::WriteFixed::CODE, "fixed write"),
            (opcode::Fsync::CODE, "fsync"),
            (opcode::Close::CODE, "close"),
        ];
        if let Some((_, name)) = needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, format!("the kernel's io_uring lacks {name}")));
        }
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let queue = Arc::new(Mutex::new(Queue::default()));
        let worker = Worker {
            ring,
            wake: Arc::clone(&wake),
            wake_buffer: Box::new(0),
            wake_armed: false,
            queue: Arc::clone(&queue),
            waiting: VecDeque::new(),
            slots: std::iter::repeat_with(|| None).take(IN_FLIGHT_MAX).collect(),
        };
        std::thread::Builder::new().name("vol-commit".into()).spawn(move || worker.run())?;
        Ok(Self { queue, wake })
    }

    /// The writes come back if there is no thread to make them.
    pub(super) fn write(&self, writes: Vec<Durable>) -> Result<Vec<Answer>, Vec<Durable>> {
        let count = writes.len();
        let (sender, receiver) = channel();
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.closed {
                return Err(writes);
            }
            queue.batches.push(Batch { writes, answer: sender });
        }
        // A blocking eventfd refuses nothing but a full counter, which this cannot fill.
        let _ = self.wake.write(1);
        Ok(collect(count, &receiver))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        let _ = self.wake.write(1);
    }
}

fn collect(count: usize, receiver: &Receiver<(usize, Answer)>) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = std::iter::repeat_with(|| None).take(count).collect();
    // Ends when all have answered or the thread is gone.
    for (index, answer) in receiver.iter().take(count) {
        if let Some(slot) = answers.get_mut(index) {
            *slot = Some(answer);
        }
    }
    let lost = || Err(io::Error::other("the thread that commits is gone; whether this was written is unknown"));
    answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
}

/// A write in flight. It stays in its slot, and so do its memory and its file, until the kernel has answered.
struct Slot {
    write: Durable,
    /// Bytes that the kernel has acknowledged; more than none only after a short write.
    done: usize,
    index: usize,
    answer: Sender<(usize, Answer)>,
}

struct Worker {
    ring: IoUring,
    wake: Arc<EventFd>,
    /// Where the kernel puts the event counter.
    wake_buffer: Box<u64>,
    wake_armed: bool,
    queue: Arc<Mutex<Queue>>,
    waiting: VecDeque<Slot>,
    slots: Vec<Option<Slot>>,
}

impl Worker {
    fn run(mut self) {
        // A signal must be taken by some other thread.
        let _ = SigSet::all().thread_block();
        while self.turn().is_ok_and(|more| more) {}
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.closed = true;
            // Whoever waits for these hears that they are lost when the other end of the channel goes.
            queue.batches.clear();
        }
        self.waiting.clear();
        for slot in self.slots.iter().flatten() {
            let _ =
                slot.answer.send((slot.index, Err(io::Error::other("the ring broke; what was written is unknown"))));
        }
        if self.wake_armed || self.slots.iter().any(Option::is_some) {
            // The kernel may still use this memory and this ring: never freed.
            std::mem::forget(self);
        }
    }

    /// Takes what is new, submits, waits for something to complete. `false` when everything is done and the handle is gone.
    fn turn(&mut self) -> io::Result<bool> {
        let closed = self.take();
        let busy = !self.waiting.is_empty() || self.slots.iter().any(Option::is_some);
        if closed && !busy {
            return Ok(false);
        }
        self.fill()?;
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            // Interrupted, or short of memory or completion room: what is complete is taken below, then tried again.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(e) => return Err(e),
        }
        let entries: Vec<(u64, i32)> =
            self.ring.completion().map(|entry: cqueue::Entry| (entry.user_data(), entry.result())).collect();
        for (tag, result) in entries {
            if tag == WAKE {
                self.wake_armed = false;
            } else {
                self.complete(tag, result);
            }
        }
        Ok(true)
    }

    fn take(&mut self) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in queue.batches.drain(..) {
            for (index, write) in batch.writes.into_iter().enumerate() {
                self.waiting.push_back(Slot { write, done: 0, index, answer: batch.answer.clone() });
            }
        }
        queue.closed
    }

    /// Puts as many entries on the ring as there is room for.
    fn fill(&mut self) -> io::Result<()> {
        if !self.wake_armed {
            let buffer: *mut u64 = &raw mut *self.wake_buffer;
            let entry = opcode::Read::new(types::Fd(self.wake.as_fd().as_raw_fd()), buffer.cast(), 8).build();
            // SAFETY: the buffer has 8 bytes, is boxed, and is neither used otherwise nor freed while the entry is in flight
            // (`wake_armed`; see `run`); the descriptor is kept open by `self.wake`.
            if unsafe { self.ring.submission().push(&entry.user_data(WAKE)) }.is_err() {
                return Ok(());
            }
            self.wake_armed = true;
        }
        while !self.waiting.is_empty() {
            let Some(free) = self.slots.iter().position(Option::is_none) else { break };
            let Some(slot) = self.waiting.pop_front() else { break };
            let Some(entry) = entry_for(&slot) else {
                let _ = slot.answer.send((slot.index, Err(io::ErrorKind::InvalidInput.into())));
                continue;
            };
            let tag = u64::try_from(free).unwrap_or(WAKE);
            // SAFETY: the entry points into `slot.write.data`, whose memory does not move with it, and names the descriptor of
            // `slot.write.file`; both stay in `self.slots` until the completion with this tag has been seen (see `complete`),
            // and are leaked with the ring if it breaks (see `run`).
            if unsafe { self.ring.submission().push(&entry.user_data(tag)) }.is_err() {
                self.waiting.push_front(slot);
                break;
            }
            if let Some(place) = self.slots.get_mut(free) {
                *place = Some(slot);
            }
        }
        Ok(())
    }

    fn complete(&mut self, tag: u64, result: i32) {
        let place = usize::try_from(tag).ok().and_then(|tag| self.slots.get_mut(tag));
        let Some(mut slot) = place.and_then(Option::take) else { return };
        let answer = match usize::try_from(result) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                slot.done = slot.done.saturating_add(written);
                if slot.done < slot.write.data.len() {
                    return self.waiting.push_front(slot);
                }
                Ok(())
            }
            Err(_) => {
                let errno = Errno::from_raw(result.saturating_neg());
                if matches!(errno, Errno::EINTR | Errno::EAGAIN) {
                    return self.waiting.push_front(slot);
                }
                Err(errno.into())
            }
        };
        let _ = slot.answer.send((slot.index, answer));
    }
}

/// The entry that writes what is left of a slot.
fn entry_for(slot: &Slot) -> Option<io_uring::squeue::Entry> {
    let rest = slot.write.data.get(slot.done..)?;
    let offset = slot.write.offset.checked_add(u64::try_from(slot.done).ok()?)?;
    let file: &File = &slot.write.file;
    let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), rest.as_ptr(), u32::try_from(rest.len()).ok()?);
    Some(entry.offset(offset).rw_flags(libc::RWF_DSYNC).build())
}
