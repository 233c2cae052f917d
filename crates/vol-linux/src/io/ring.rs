//! Durable commits on rings of our own.
//!
//! Each write is one entry with `RWF_DSYNC`: on a block device opened with O_DIRECT a write with FUA, or write and flush where the
//! disk has none (kernel `block/fops.c`). Who commits borrows a ring, puts all writes of the commit on it, and submits and
//! waits for all of them in one call of `io_uring_enter`. Nobody else uses that ring meanwhile, so a disk that hangs holds up nobody
//! else's commit, and no thread hands work to another.
//!
//! The data go through memory that is registered with the kernel if its limit on locked memory allows: [`ARENA`] bytes per ring,
//! given out anew with each commit. What does not fit has memory of its own for the time of its commit. No memory is used again
//! before the kernel has answered for what it held; should a ring break, its memory is leaked with it.
//!
//! Files are not registered: a registered file stays open in the kernel until the ring lets go of it, and a disk that is to be
//! detached would still be busy; what it would save, looking up a descriptor, is nothing beside a flush.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode, squeue, types};
use nix::errno::Errno;

use super::Durable;
use super::buffer::{ALIGN, Buffer};

/// Entries of the submission queue, and writes in flight; the completion queue holds twice as many.
const ENTRIES: u32 = 64;
const IN_FLIGHT_MAX: usize = 64;
/// Memory of one ring, bytes: sixty-four records, or one large write.
pub(super) const ARENA: usize = 512 << 10;
/// Rings there may be. Who finds none is served without (see [`Rings::write`]).
pub(super) const RINGS_MAX: usize = 16;
/// Rings that are kept while nobody needs them.
const IDLE_MAX: usize = 4;
/// How often in a row the kernel may say "not now" (`EAGAIN`, `EINTR`), a millisecond apart.
const AGAIN_MAX: u32 = 5000;

type Answer = io::Result<()>;

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Calls of `io_uring_enter`.
    pub(super) enters: AtomicU64,
    /// Entries put on rings.
    pub(super) entries: AtomicU64,
    /// Those of them that were written from registered memory.
    pub(super) fixed: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The rings that nobody uses at the moment, and how many there are in all.
#[derive(Default)]
struct Idle {
    rings: Vec<Ring>,
    made: usize,
}

/// All rings of the process.
pub(super) struct Rings {
    idle: Mutex<Idle>,
    register: bool,
    counters: Counters,
}

impl Rings {
    /// Makes the first ring. The second value says why its memory is not registered.
    ///
    /// # Errors
    /// The kernel's refusal of io_uring, or the name of the operation that it lacks.
    pub(super) fn start(register: bool) -> io::Result<(Self, Option<io::Error>)> {
        let (ring, refusal) = Ring::new(register)?;
        let mut probe = Probe::new();
        ring.ring.submitter().register_probe(&mut probe)?;
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
        // What the kernel refused once is not asked for again.
        let register = register && refusal.is_none();
        let idle = Mutex::new(Idle { rings: vec![ring], made: 1 });
        Ok((Self { idle, register, counters: Counters::default() }, refusal))
    }

    /// All side by side; one answer each, in order. `None`, with nothing written, if there is no ring to be had.
    pub(super) fn write(&self, writes: &[Durable<'_>]) -> Option<Vec<Answer>> {
        let mut ring = self.take()?;
        let (answers, broken) = ring.write(writes, &self.counters);
        if broken {
            // The kernel may still read its memory: never freed. It still counts, so that there is an end to this.
            std::mem::forget(ring);
        } else {
            self.give_back(ring);
        }
        Some(answers)
    }

    fn take(&self) -> Option<Ring> {
        {
            let mut idle = self.idle();
            if let Some(ring) = idle.rings.pop() {
                return Some(ring);
            }
            if idle.made >= RINGS_MAX {
                return None;
            }
            idle.made = idle.made.saturating_add(1);
        }
        match Ring::new(self.register) {
            Ok((ring, _)) => Some(ring),
            Err(_) => {
                let mut idle = self.idle();
                idle.made = idle.made.saturating_sub(1);
                None
            }
        }
    }

    fn give_back(&self, ring: Ring) {
        let mut idle = self.idle();
        if idle.rings.len() < IDLE_MAX {
            idle.rings.push(ring);
        } else {
            idle.made = idle.made.saturating_sub(1);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Rings there are, and how many of them nobody uses.
    #[cfg(test)]
    pub(super) fn rings(&self) -> (usize, usize) {
        let idle = self.idle();
        (idle.made, idle.rings.len())
    }
}

/// Where the data of one write are for the kernel.
enum Memory {
    /// In the ring's arena, from here on.
    Arena(usize),
    Own(Buffer),
}

/// One write of a batch. It stays as it is until the kernel has answered.
struct Slot {
    memory: Memory,
    /// Bytes that the kernel has acknowledged; more than none only after a short write.
    done: usize,
    /// How often in a row it was put off.
    again: u32,
}

/// One ring with its memory. The ring is closed before the memory is freed: fields drop in this order.
struct Ring {
    ring: IoUring,
    arena: Buffer,
    registered: bool,
}

impl Ring {
    fn new(register: bool) -> io::Result<(Self, Option<io::Error>)> {
        let ring = IoUring::new(ENTRIES)?;
        let mut arena = Buffer::zeroed(ARENA)?;
        // A child that is forked must not share the pages: the kernel would go on reading those of before (madvise(2)).
        arena.keep_from_children();
        let memory = libc::iovec { iov_base: arena.as_mut_ptr().cast(), iov_len: arena.len() };
        let refusal = if register {
            // SAFETY: the memory is owned by the value made below, does not move with it, and is freed after the ring is closed.
            unsafe { ring.submitter().register_buffers(&[memory]) }.err()
        } else {
            None
        };
        let registered = register && refusal.is_none();
        Ok((Self { ring, arena, registered }, refusal))
    }

    /// One answer each, in order. If the second value is true the ring must be leaked: the kernel may be at work on it.
    fn write(&mut self, writes: &[Durable<'_>], counters: &Counters) -> (Vec<Answer>, bool) {
        let mut answers: Vec<Option<Answer>> = std::iter::repeat_with(|| None).take(writes.len()).collect();
        let mut slots = self.place(writes, &mut answers);
        let mut todo: VecDeque<usize> =
            (0..writes.len()).filter(|at| slots.get(*at).is_some_and(Option::is_some)).collect();
        let mut in_flight = 0usize;
        let mut again = 0;
        while in_flight > 0 || !todo.is_empty() {
            while in_flight < IN_FLIGHT_MAX
                && let Some(at) = todo.pop_front()
            {
                let entry = writes.get(at).zip(slots.get(at).and_then(Option::as_ref));
                let Some((entry, fixed)) = entry.and_then(|(write, slot)| self.entry(at, write, slot)) else {
                    set(&mut answers, at, Err(io::ErrorKind::InvalidInput.into()));
                    continue;
                };
                // SAFETY: the entry points into the arena or into the slot's own buffer, neither of which moves with its owner or is
                // used otherwise before the completion with this tag was seen or is freed at all if the ring breaks (below, and
                // `Rings::write`). The descriptor is open as long as `writes` is borrowed, and the kernel has a reference
                // of its own from the submission on.
                if unsafe { self.ring.submission().push(&entry) }.is_err() {
                    todo.push_front(at);
                    break;
                }
                in_flight = in_flight.saturating_add(1);
                count(&counters.entries);
                if fixed {
                    count(&counters.fixed);
                }
            }
            if in_flight == 0 {
                continue;
            }
            count(&counters.enters);
            match self.ring.submit_and_wait(in_flight) {
                Ok(_) => again = 0,
                Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
                // Short of memory or of room for completions: what is complete is taken below, then it is tried again.
                Err(e) if again < AGAIN_MAX && matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                    again = again.saturating_add(1);
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(e) => {
                    std::mem::forget(slots);
                    return (finish(answers, &format!("the ring broke ({e}); what was written is unknown")), true);
                }
            }
            let done: Vec<(u64, i32)> =
                self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
            for (tag, result) in done {
                in_flight = in_flight.saturating_sub(1);
                let Ok(at) = usize::try_from(tag) else { continue };
                let (Some(write), Some(Some(slot))) = (writes.get(at), slots.get_mut(at)) else { continue };
                match complete(slot, write.data.len(), result) {
                    Some(answer) => set(&mut answers, at, answer),
                    None => todo.push_back(at),
                }
            }
        }
        (finish(answers, "the kernel did not answer; what was written is unknown"), false)
    }

    /// Copies the data to where the kernel will read them: into the arena while there is room.
    fn place(&mut self, writes: &[Durable<'_>], answers: &mut [Option<Answer>]) -> Vec<Option<Slot>> {
        let mut used = 0usize;
        let mut slots = Vec::with_capacity(writes.len());
        for (at, write) in writes.iter().enumerate() {
            let end = used.saturating_add(write.data.len());
            let memory = match self.arena.get_mut(used..end) {
                Some(room) => {
                    room.copy_from_slice(write.data);
                    let start = used;
                    used = end.next_multiple_of(ALIGN);
                    Ok(Memory::Arena(start))
                }
                None => Buffer::copy_of(write.data).map(Memory::Own),
            };
            match memory {
                Ok(memory) => slots.push(Some(Slot { memory, done: 0, again: 0 })),
                Err(e) => {
                    set(answers, at, Err(e));
                    slots.push(None);
                }
            }
        }
        slots
    }

    /// The entry that writes what is left of a slot, and whether it is from registered memory.
    fn entry(&self, at: usize, write: &Durable<'_>, slot: &Slot) -> Option<(squeue::Entry, bool)> {
        let (memory, start, fixed) = match &slot.memory {
            Memory::Arena(start) => (&self.arena, *start, self.registered),
            Memory::Own(buffer) => (buffer, 0, false),
        };
        let (range, offset) = rest(start, slot.done, write)?;
        let rest = memory.get(range)?;
        let len = u32::try_from(rest.len()).ok()?;
        let fd = types::Fd(write.file.as_raw_fd());
        let entry = if fixed {
            opcode::WriteFixed::new(fd, rest.as_ptr(), len, 0).offset(offset).rw_flags(libc::RWF_DSYNC).build()
        } else {
            opcode::Write::new(fd, rest.as_ptr(), len).offset(offset).rw_flags(libc::RWF_DSYNC).build()
        };
        Some((entry.user_data(u64::try_from(at).ok()?), fixed))
    }
}

/// What is left of a write whose data begin at `start` of its memory: where in the memory, and the offset on the device.
fn rest(start: usize, done: usize, write: &Durable<'_>) -> Option<(Range<usize>, u64)> {
    let range = start.checked_add(done)?..start.checked_add(write.data.len())?;
    Some((range, write.offset.checked_add(u64::try_from(done).ok()?)?))
}

/// What the kernel's result means; `None` if the rest is to be written still.
///
/// An error is final. After one the content of the range is unknown, and so is whether anything of it is durable: the same entry
/// again could succeed without having made the first attempt durable. `EAGAIN` and `EINTR` say that nothing was tried.
fn complete(slot: &mut Slot, len: usize, result: i32) -> Option<Answer> {
    match usize::try_from(result) {
        Ok(0) => Some(Err(io::ErrorKind::WriteZero.into())),
        Ok(written) => {
            slot.again = 0;
            slot.done = slot.done.saturating_add(written);
            (slot.done >= len).then_some(Ok(()))
        }
        Err(_) => {
            let errno = Errno::from_raw(result.saturating_neg());
            if matches!(errno, Errno::EINTR | Errno::EAGAIN) && slot.again < AGAIN_MAX {
                slot.again = slot.again.saturating_add(1);
                std::thread::sleep(Duration::from_millis(1));
                return None;
            }
            Some(Err(errno.into()))
        }
    }
}

fn set(answers: &mut [Option<Answer>], at: usize, answer: Answer) {
    if let Some(place) = answers.get_mut(at) {
        *place = Some(answer);
    }
}

fn finish(answers: Vec<Option<Answer>>, missing: &str) -> Vec<Answer> {
    answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(io::Error::other(missing.to_owned())))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn slot() -> Slot {
        Slot { memory: Memory::Arena(0), done: 0, again: 0 }
    }

    #[test]
    fn a_short_write_goes_on_where_it_ended() {
        let mut slot = slot();
        assert!(complete(&mut slot, 8192, 4096).is_none());
        assert_eq!(slot.done, 4096);
        let write = Durable { file: &File::open("/dev/null").unwrap(), offset: 1 << 20, data: &[1; 8192] };
        assert_eq!(rest(65536, slot.done, &write), Some((65536 + 4096..65536 + 8192, (1 << 20) + 4096)));
        assert!(matches!(complete(&mut slot, 8192, 4096), Some(Ok(()))));
    }

    #[test]
    fn an_error_is_final_and_a_put_off_write_is_not() {
        for errno in [libc::EIO, libc::ENOSPC, libc::ENXIO, libc::ETIMEDOUT, libc::EROFS] {
            let answer = complete(&mut slot(), 4096, -errno);
            assert_eq!(answer.and_then(Result::err).and_then(|e| e.raw_os_error()), Some(errno));
        }
        let mut slot = slot();
        assert!(complete(&mut slot, 4096, -libc::EINTR).is_none());
        assert!(complete(&mut slot, 4096, -libc::EAGAIN).is_none());
        slot.again = AGAIN_MAX;
        let answer = complete(&mut slot, 4096, -libc::EAGAIN);
        assert_eq!(answer.and_then(Result::err).and_then(|e| e.raw_os_error()), Some(libc::EAGAIN), "there is an end");
        assert!(matches!(complete(&mut slot, 4096, 0), Some(Err(e)) if e.kind() == io::ErrorKind::WriteZero));
    }
}
