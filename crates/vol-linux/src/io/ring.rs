//! Durable commits, and reads, on rings of our own.
//!
//! Each write of a commit is one entry with `RWF_DSYNC`: on a block device opened with O_DIRECT a write with FUA, or write and flush where the
//! disk has none (kernel `block/fops.c`). Who commits borrows a ring, puts all writes of the commit on it, and submits and
//! waits for all of them in one call of `io_uring_enter`. Nobody else uses that ring meanwhile, so a disk that hangs holds up nobody
//! else's commit, and no thread hands work to another.
//!
//! Reads go the same way, a window of the ring's memory at a time: handing them to another thread costs more than small ones take.
//!
//! The data go through memory that is registered with the kernel if its limit on locked memory allows: [`ARENA`] bytes per ring,
//! given out anew with each commit. What does not fit has memory of its own for the time of its commit. No memory is used again
//! before the kernel has answered for what it held; should a ring break, its memory is leaked with it.
//!
//! Files are not registered: a registered file stays open in the kernel until the ring lets go of it, and a disk that is to be
//! detached would still be busy; what it would save, looking up a descriptor, is nothing beside a flush.

mod places;

use std::collections::VecDeque;
use std::fs::File;
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
/// A long read is so many bytes per entry; as many entries as the arena has room for are in flight.
const READ_CHUNK: usize = 128 << 10;
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
        let (mut ring, refusal) = Ring::new(register)?;
        ring.try_out()?;
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
        self.put(ring, broken);
        Some(answers)
    }

    /// Exactly `len` bytes; `UnexpectedEof` past the end. `None`, with nothing read, if there is no ring to be had.
    pub(super) fn read(&self, file: &File, offset: u64, len: usize) -> Option<io::Result<Vec<u8>>> {
        let mut ring = self.take()?;
        let (answer, broken) = ring.read(file, offset, len, &self.counters);
        self.put(ring, broken);
        Some(answer)
    }

    fn put(&self, ring: Ring, broken: bool) {
        if broken {
            // The kernel may still use its memory: never freed. It still counts, so that there is an end to this.
            std::mem::forget(ring);
        } else {
            self.give_back(ring);
        }
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

/// Where the data of one entry are for the kernel.
enum Memory {
    /// In the ring's arena, from here on.
    Arena(usize),
    Own(Buffer),
}

/// What is asked of the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    WriteDurable,
}

/// One read or write of a batch. It stays as it is until the kernel has answered.
struct Slot<'a> {
    kind: Kind,
    file: &'a File,
    offset: u64,
    len: usize,
    memory: Memory,
    /// Bytes that the kernel has acknowledged; more than none only after a short read or write.
    done: usize,
    /// How often in a row it was put off.
    again: u32,
}

impl<'a> Slot<'a> {
    fn new(kind: Kind, file: &'a File, offset: u64, len: usize, memory: Memory) -> Self {
        Self { kind, file, offset, len, memory, done: 0, again: 0 }
    }

    /// What is left: where in its memory, and the offset on the device.
    fn rest(&self) -> Option<(Range<usize>, u64)> {
        let start = match &self.memory {
            Memory::Arena(start) => *start,
            Memory::Own(_) => 0,
        };
        let range = start.checked_add(self.done)?..start.checked_add(self.len)?;
        Some((range, self.offset.checked_add(u64::try_from(self.done).ok()?)?))
    }

    /// What the kernel's result means; `None` if the rest is to be done still.
    ///
    /// An error is final. After one the content of the range is unknown, and so is whether anything of it is durable: the same entry
    /// again could succeed without having made the first attempt durable. `EAGAIN` and `EINTR` say that nothing was tried.
    fn complete(&mut self, result: i32) -> Option<Answer> {
        match usize::try_from(result) {
            Ok(0) if self.kind == Kind::Read => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(0) => Some(Err(io::ErrorKind::WriteZero.into())),
            Ok(moved) => {
                self.again = 0;
                self.done = self.done.saturating_add(moved);
                (self.done >= self.len).then_some(Ok(()))
            }
            Err(_) => {
                let errno = Errno::from_raw(result.saturating_neg());
                if matches!(errno, Errno::EINTR | Errno::EAGAIN) && self.again < AGAIN_MAX {
                    self.again = self.again.saturating_add(1);
                    std::thread::sleep(Duration::from_millis(1));
                    return None;
                }
                Some(Err(errno.into()))
            }
        }
    }
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

    /// One entry that does nothing: that a ring can be made does not say that it may be used, which is another system call.
    fn try_out(&mut self) -> io::Result<()> {
        // SAFETY: an entry without memory.
        unsafe { self.ring.submission().push(&opcode::Nop::new().build()) }.map_err(io::Error::other)?;
        while let Err(e) = self.ring.submit_and_wait(1) {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
        self.ring.completion().for_each(drop);
        Ok(())
    }

    /// One answer each, in order. If the second value is true the ring must be leaked: the kernel may be at work on it.
    fn write(&mut self, writes: &[Durable<'_>], counters: &Counters) -> (Vec<Answer>, bool) {
        let mut used = 0usize;
        let mut slots = Vec::with_capacity(writes.len());
        for write in writes {
            let end = used.saturating_add(write.data.len());
            // Into the arena while there is room.
            let memory = match self.arena.get_mut(used..end) {
                Some(room) => {
                    room.copy_from_slice(write.data);
                    let start = used;
                    used = end.next_multiple_of(ALIGN);
                    Ok(Memory::Arena(start))
                }
                None => Buffer::copy_of(write.data).map(Memory::Own),
            };
            slots.push(
                memory.map(|memory| Slot::new(Kind::WriteDurable, write.file, write.offset, write.data.len(), memory)),
            );
        }
        self.drive(slots, counters)
    }

    /// As [`Ring::write`].
    fn read(&mut self, file: &File, offset: u64, len: usize, counters: &Counters) -> (io::Result<Vec<u8>>, bool) {
        let mut data = Vec::new();
        if data.try_reserve_exact(len).is_err() {
            return (Err(io::ErrorKind::OutOfMemory.into()), false);
        }
        while data.len() < len {
            let window = (len - data.len()).min(self.arena.len());
            let mut slots = Vec::new();
            for start in (0..window).step_by(READ_CHUNK) {
                let at = u64::try_from(data.len().saturating_add(start)).ok().and_then(|at| offset.checked_add(at));
                let size = (window - start).min(READ_CHUNK);
                let slot = at.map(|at| Slot::new(Kind::Read, file, at, size, Memory::Arena(start)));
                slots.push(slot.ok_or_else(|| io::ErrorKind::InvalidInput.into()));
            }
            let (answers, broken) = self.drive(slots, counters);
            if let Some(e) = answers.into_iter().find_map(Result::err) {
                return (Err(e), broken);
            }
            data.extend_from_slice(self.arena.get(..window).unwrap_or_default());
        }
        (Ok(data), false)
    }

    /// Puts all on the ring, submits, waits. One answer each; a slot that is an error is its own answer. As [`Ring::write`].
    fn drive(&mut self, slots: Vec<io::Result<Slot<'_>>>, counters: &Counters) -> (Vec<Answer>, bool) {
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(slots.len());
        let mut todo = VecDeque::with_capacity(slots.len());
        let mut slots: Vec<Option<Slot<'_>>> = slots
            .into_iter()
            .enumerate()
            .map(|(at, slot)| match slot {
                Ok(slot) => {
                    answers.push(None);
                    todo.push_back(at);
                    Some(slot)
                }
                Err(e) => {
                    answers.push(Some(Err(e)));
                    None
                }
            })
            .collect();
        let mut in_flight = 0usize;
        let mut again = 0;
        while in_flight > 0 || !todo.is_empty() {
            while in_flight < IN_FLIGHT_MAX
                && let Some(at) = todo.pop_front()
            {
                let entry = slots.get_mut(at).and_then(Option::as_mut).and_then(|slot| self.entry(at, slot));
                let Some((entry, fixed)) = entry else {
                    set(&mut answers, at, Err(io::ErrorKind::InvalidInput.into()));
                    continue;
                };
                // SAFETY: the entry points into the arena or into the slot's own buffer. Neither moves with its owner, is used
                // otherwise before the completion with this tag was seen, or is freed at all if the ring breaks (below, and
                // `Rings::put`). The descriptor is open as long as `slots` borrows its file, and the kernel has a
                // reference of its own from the submission on.
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
                    return (finish(answers, &format!("the ring broke ({e}); what was done is unknown")), true);
                }
            }
            let done: Vec<(u64, i32)> =
                self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
            for (tag, result) in done {
                in_flight = in_flight.saturating_sub(1);
                let Ok(at) = usize::try_from(tag) else { continue };
                let Some(Some(slot)) = slots.get_mut(at) else { continue };
                match slot.complete(result) {
                    Some(answer) => set(&mut answers, at, answer),
                    None => todo.push_back(at),
                }
            }
        }
        (finish(answers, "the kernel did not answer; what was done is unknown"), false)
    }

    /// The entry for what is left of a slot, and whether its memory is registered.
    fn entry(&mut self, at: usize, slot: &mut Slot<'_>) -> Option<(squeue::Entry, bool)> {
        let (range, offset) = slot.rest()?;
        let (memory, fixed) = match &mut slot.memory {
            Memory::Arena(_) => (&mut self.arena, self.registered),
            Memory::Own(buffer) => (buffer, false),
        };
        let rest = memory.get_mut(range)?;
        let (start, len) = (rest.as_mut_ptr(), u32::try_from(rest.len()).ok()?);
        let fd = types::Fd(slot.file.as_raw_fd());
        let entry = match (slot.kind, fixed) {
            (Kind::Read, true) => opcode::ReadFixed::new(fd, start, len, 0).offset(offset).build(),
            (Kind::Read, false) => opcode::Read::new(fd, start, len).offset(offset).build(),
            (Kind::WriteDurable, true) => {
                opcode::WriteFixed::new(fd, start, len, 0).offset(offset).rw_flags(libc::RWF_DSYNC).build()
            }
            (Kind::WriteDurable, false) => {
                opcode::Write::new(fd, start, len).offset(offset).rw_flags(libc::RWF_DSYNC).build()
            }
        };
        Some((entry.user_data(u64::try_from(at).ok()?), fixed))
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

    fn slot(kind: Kind, file: &File) -> Slot<'_> {
        Slot::new(kind, file, 1 << 20, 8192, Memory::Arena(65536))
    }

    fn errno(answer: Option<Answer>) -> Option<i32> {
        answer.and_then(Result::err).and_then(|e| e.raw_os_error())
    }

    #[test]
    fn what_comes_back_short_goes_on_where_it_ended() {
        let file = File::open("/dev/null").unwrap();
        for kind in [Kind::Read, Kind::WriteDurable] {
            let mut slot = slot(kind, &file);
            assert!(slot.complete(4096).is_none());
            assert_eq!(slot.rest(), Some((65536 + 4096..65536 + 8192, (1 << 20) + 4096)));
            assert!(matches!(slot.complete(4096), Some(Ok(()))));
        }
        assert!(
            matches!(slot(Kind::Read, &file).complete(0), Some(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof)
        );
        assert!(
            matches!(slot(Kind::WriteDurable, &file).complete(0), Some(Err(e)) if e.kind() == io::ErrorKind::WriteZero)
        );
    }

    #[test]
    fn an_error_is_final_and_what_was_put_off_is_tried_again_with_an_end() {
        let file = File::open("/dev/null").unwrap();
        for number in [libc::EIO, libc::ENOSPC, libc::ENXIO, libc::ETIMEDOUT, libc::EROFS] {
            assert_eq!(errno(slot(Kind::WriteDurable, &file).complete(-number)), Some(number));
        }
        let mut slot = slot(Kind::WriteDurable, &file);
        assert!(slot.complete(-libc::EINTR).is_none());
        assert!(slot.complete(-libc::EAGAIN).is_none());
        slot.again = AGAIN_MAX;
        assert_eq!(errno(slot.complete(-libc::EAGAIN)), Some(libc::EAGAIN));
    }
}
