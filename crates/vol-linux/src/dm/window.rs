//! The one place that suspends: thin snapshots of active origins.
//!
//! While an origin is suspended its file system is frozen, and anything that touches it waits: this process must not, so
//! between suspend and resume it allocates nothing, logs nothing and touches only locked memory. Should it die in between,
//! the guard ([`super::guard`]) resumes.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use vol_engine::host::{HostError, HostErrorKind, HostResult, ThinOrigin, ThinSnapshot};

use super::guard::Guards;
use super::raw::{self, Command, MESSAGE_BUFFER, Request, SignalsBlocked};
use super::{Dm, bad_uuid};
use crate::error;

/// How often a resume is tried, and the pause between: a second in all. After that the guard goes on trying.
const RESUME_TRIES: u32 = 50;
const RESUME_STEP: Duration = Duration::from_millis(20);

pub(crate) fn snapshot(dm: &Dm, guards: &Guards, call: &ThinSnapshot) -> HostResult<()> {
    let active: Vec<&str> = call.of.iter().filter_map(|one| one.uuid.as_deref()).collect();
    if active.is_empty() {
        for (at, one) in call.of.iter().enumerate() {
            dm.message(&call.pool_uuid, &message(one)).map_err(|error| error.at(at))?;
        }
        return Ok(());
    }
    let mut requests = Requests::default();
    for uuid in &active {
        let info = dm.present(uuid)?;
        let cookie = raw::udev_cookie(raw::is_private(uuid), info.read_only);
        let request = Request::<0>::new(uuid).ok_or_else(|| bad_uuid(uuid))?;
        requests.origins.push((request.flags(devicemapper_sys::DM_SUSPEND_FLAG), request.cookie(cookie)));
    }
    for one in &call.of {
        let request = Request::message(&call.pool_uuid, &message(one)).ok_or_else(|| bad_uuid(&call.pool_uuid))?;
        requests.messages.push(request);
    }
    let control = dm.control()?;
    let mut guard = guards.take()?;
    let mut guard_locked = true;
    for uuid in &active {
        guard_locked &= guard.arm(uuid)?;
    }
    let signals = SignalsBlocked::new();
    let memory = MemoryLocked::new();
    // Brings the code of an ioctl into memory before it is needed.
    let warm = requests.origins.first().map(|(_, resume)| raw::call(control.file().as_fd(), Command::Status, resume));
    let outcome = match warm {
        Some(Err(e)) => Outcome { suspend: Err((0, e)), message: Ok(()), resume: Ok(()) },
        _ => suspended(control.file().as_fd(), &requests),
    };
    let locked = guard_locked && memory.locked;
    drop(memory);
    drop(signals);
    if !locked {
        warn_of_unlocked_memory();
    }

    let origin = |at: usize| active.get(at).copied().unwrap_or_default();
    match outcome.resume {
        Ok(()) => guards.give_back(guard),
        Err((at, e)) => {
            // The guard is still armed: it resumes when its line to us closes, and goes on trying.
            drop(guard);
            return Err(error::sys(format!("{call}: resume {}; it may still be suspended", origin(at)), e));
        }
    }
    outcome.suspend.map_err(|(at, e)| error::sys(format!("{call}: suspend {}", origin(at)), e))?;
    outcome.message.map_err(|(at, e)| error::sys(call.to_string(), e).at(at))
}

fn message(one: &ThinOrigin) -> String {
    format!("create_snap {} {}", one.thin_id, one.origin_thin_id)
}

/// The buffers of the window, made before it opens.
#[derive(Default)]
struct Requests {
    /// To suspend and to resume each of the origins.
    origins: Vec<(Request<0>, Request<0>)>,
    messages: Vec<Request<MESSAGE_BUFFER>>,
}

/// What failed first of each kind, and which of its kind that was.
struct Outcome {
    suspend: Result<(), (usize, Errno)>,
    /// `Ok` if none was sent.
    message: Result<(), (usize, Errno)>,
    resume: Result<(), (usize, Errno)>,
}

/// Suspends all, sends the messages, resumes all. No allocation and no I/O of our own in here.
fn suspended(control: BorrowedFd<'_>, requests: &Requests) -> Outcome {
    let mut outcome = Outcome { suspend: Ok(()), message: Ok(()), resume: Ok(()) };
    for (at, (suspend, _)) in requests.origins.iter().enumerate() {
        if let Err(e) = raw::call(control, Command::Suspend, suspend) {
            outcome.suspend = Err((at, e));
            break;
        }
    }
    if outcome.suspend.is_ok() {
        for (at, message) in requests.messages.iter().enumerate() {
            if let Err(e) = raw::call(control, Command::Message, message) {
                outcome.message = Err((at, e));
                break;
            }
        }
    }
    // Also those that were not suspended, or could not be: resuming a live device does nothing.
    for (at, (_, request)) in requests.origins.iter().enumerate() {
        let resumed = resume(control, request).map_err(|e| (at, e));
        outcome.resume = outcome.resume.and(resumed);
    }
    outcome
}

fn resume(control: BorrowedFd<'_>, request: &Request<0>) -> Result<(), Errno> {
    let mut tries = 0;
    loop {
        match raw::call(control, Command::Suspend, request) {
            // A device that is gone waits for nobody.
            Ok(_) | Err(Errno::ENXIO) => return Ok(()),
            Err(e) if tries >= RESUME_TRIES => return Err(e),
            Err(_) => {
                tries += 1;
                std::thread::sleep(RESUME_STEP);
            }
        }
    }
}

/// How many windows are open, and whether the memory of the process is locked while they are.
static WINDOWS: Mutex<(u32, bool)> = Mutex::new((0, false));

/// Keeps the pages of this process in memory while it lives. Where the limit forbids that (`RLIMIT_MEMLOCK` without
/// `CAP_IPC_LOCK`) the window goes on without: the guard is there.
struct MemoryLocked {
    locked: bool,
}

impl MemoryLocked {
    fn new() -> Self {
        let mut windows = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, locked) = &mut *windows;
        if *open == 0 {
            // On-fault: locks what is resident without dragging every thread's whole stack into memory.
            let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
            *locked = mlockall(flags).is_ok();
        }
        *open = open.saturating_add(1);
        Self { locked: *locked }
    }
}

impl Drop for MemoryLocked {
    fn drop(&mut self) {
        let mut windows = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
        windows.0 = windows.0.saturating_sub(1);
        if windows.0 == 0 {
            let _ = munlockall();
        }
    }
}

/// Says once that memory cannot be locked.
fn warn_of_unlocked_memory() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            "memory cannot be locked while a volume is suspended for a snapshot; set LimitMEMLOCK=infinity or grant CAP_IPC_LOCK"
        );
    });
}

/// No guard, no snapshot: nothing has been suspended when this is returned.
pub(super) fn no_guard(detail: impl std::fmt::Display) -> HostError {
    HostError::new(HostErrorKind::Unsupported, "start the resume guard", detail.to_string())
}
