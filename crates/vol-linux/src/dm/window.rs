//! The one place that suspends: a thin snapshot of an active origin.
//!
//! While the origin is suspended its file system is frozen, and anything that touches it waits: this process must not, so
//! between suspend and resume it allocates nothing, logs nothing and touches only locked memory. Should it die in between,
//! the guard ([`super::guard`]) resumes.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use vol_engine::host::{HostError, HostErrorKind, HostResult, ThinSnapshot};

use super::guard::Guards;
use super::raw::{self, Command, MESSAGE_BUFFER, Request, SignalsBlocked};
use super::{Dm, bad_uuid};
use crate::error;

/// How often a resume is tried, and the pause between: a second in all. After that the guard goes on trying.
const RESUME_TRIES: u32 = 50;
const RESUME_STEP: Duration = Duration::from_millis(20);

pub(crate) fn snapshot(dm: &Dm, guards: &Guards, snapshot: &ThinSnapshot) -> HostResult<()> {
    let message = format!("create_snap {} {}", snapshot.thin_id, snapshot.origin_thin_id);
    let Some(origin) = &snapshot.origin_uuid else { return dm.message(&snapshot.pool_uuid, &message) };
    let what = format!("take snapshot {} of {origin}", snapshot.thin_id);

    let info = dm.present(origin)?;
    let cookie = raw::udev_cookie(raw::is_private(origin), info.read_only);
    let control = dm.control()?;
    let request = Request::<0>::new(origin).ok_or_else(|| bad_uuid(origin))?;
    let requests = Requests {
        suspend: request.flags(devicemapper_sys::DM_SUSPEND_FLAG),
        message: Request::message(&snapshot.pool_uuid, &message).ok_or_else(|| bad_uuid(&snapshot.pool_uuid))?,
        resume: request.cookie(cookie),
    };
    let mut guard = guards.take()?;
    let guard_locked = guard.arm(origin)?;
    let signals = SignalsBlocked::new();
    let memory = MemoryLocked::new();
    // Brings the code of an ioctl into memory before it is needed.
    let warm = raw::call(control.file().as_fd(), Command::Status, &request);
    let outcome = match warm {
        Ok(_) => suspended(control.file().as_fd(), &requests),
        Err(e) => Outcome { suspend: Err(e), message: Ok(()), resume: Ok(()) },
    };
    let locked = guard_locked && memory.locked;
    drop(memory);
    drop(signals);
    if !locked {
        warn_of_unlocked_memory();
    }

    match outcome.resume {
        Ok(()) => guards.give_back(guard),
        Err(e) => {
            // The guard is still armed: it resumes when its line to us closes, and goes on trying.
            drop(guard);
            return Err(error::sys(format!("{what}: resume the origin; it may still be suspended"), e));
        }
    }
    outcome.suspend.map_err(|e| error::sys(format!("{what}: suspend the origin"), e))?;
    outcome.message.map_err(|e| error::sys(what, e))
}

/// The buffers of the window, made before it opens.
struct Requests {
    suspend: Request<0>,
    message: Request<MESSAGE_BUFFER>,
    resume: Request<0>,
}

struct Outcome {
    suspend: Result<(), Errno>,
    /// `Ok` if it was not sent.
    message: Result<(), Errno>,
    resume: Result<(), Errno>,
}

/// Suspend, message, resume. No allocation and no I/O of our own in here.
fn suspended(control: BorrowedFd<'_>, requests: &Requests) -> Outcome {
    let suspend = raw::call(control, Command::Suspend, &requests.suspend).map(drop);
    let message = match suspend {
        Ok(()) => raw::call(control, Command::Message, &requests.message).map(drop),
        Err(_) => Ok(()),
    };
    // Also after a failed suspend: resuming a live device does nothing.
    Outcome { suspend, message, resume: resume(control, &requests.resume) }
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
