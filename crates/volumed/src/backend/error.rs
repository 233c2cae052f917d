//! The engine's errors as the API's.

use vol_api::{ApiError, ErrorCode};
use vol_core::{Refusal, RefusalCode};
use vol_engine::host::{HostError, HostErrorKind};
use vol_engine::{EngineError, StepError, StoreError};

/// A refusal: nothing was changed.
pub fn from_refusal(refusal: Refusal) -> ApiError {
    let code = match refusal.code {
        RefusalCode::Invalid => ErrorCode::Invalid,
        RefusalCode::NotFound => ErrorCode::NotFound,
        RefusalCode::Exists => ErrorCode::Exists,
        RefusalCode::Busy => ErrorCode::Busy,
        RefusalCode::NoSpace => ErrorCode::NoSpace,
        RefusalCode::Refused => ErrorCode::Refused,
        RefusalCode::Degraded => ErrorCode::Degraded,
    };
    let error = ApiError::new(code, refusal.message);
    match refusal.hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Any failure of the engine.
pub fn from_engine(error: EngineError) -> ApiError {
    match error {
        EngineError::Refused(refusal) => from_refusal(refusal),
        EngineError::Host(error) => from_host(&error),
        EngineError::Step(failed) => {
            let code = match &failed.source {
                StepError::Host(error) => code_of(error.kind),
                StepError::Store(StoreError::Full { .. }) => ErrorCode::NoSpace,
                StepError::Store(StoreError::Frozen(_))
                | StepError::Pool(_)
                | StepError::Taken { .. }
                | StepError::ThinDamaged(_)
                | StepError::Damaged(_) => ErrorCode::Degraded,
                StepError::Store(StoreError::Invariant(_)) => ErrorCode::Internal,
                StepError::Requirement(_) | StepError::InUse(_) => ErrorCode::Busy,
                _ => ErrorCode::Io,
            };
            let no_directory = failed.source.host_kind() == Some(HostErrorKind::NoDirectory);
            let hint = if no_directory {
                "mount the root of its file system instead, with --whole, and look for what became of the directory; see \"A directory instead of the root\" in docs/file-systems.md"
            } else if matches!(failed.source, StepError::Damaged(_)) {
                "it can still be read: mount it with --read-only and save what matters; `volctl volume check --repair` puts it right; see fs_check in docs/troubleshooting.md"
            } else if matches!(failed.source, StepError::ThinDamaged(_)) {
                "the pool's metadata are as they were; see docs/pool-repair.md for what can be done by hand"
            } else if matches!(failed.source, StepError::InUse(_)) && failed.settled {
                "stop what has it open, then try again; `lsof` or `fuser -v` on the device shows more"
            } else if failed.settled {
                "what had been done before that was taken back"
            } else {
                "not all that had been done before could be taken back yet: see `volctl status` and the daemon's log; it is tried again"
            };
            let error = ApiError::new(code, failed.to_string());
            let told = matches!(failed.source, StepError::InUse(_) | StepError::Damaged(_) | StepError::ThinDamaged(_));
            let nothing_done = !failed.begun && failed.settled && !told && !no_directory;
            if nothing_done { error } else { error.with_hint(hint) }
        }
    }
}

fn from_host(error: &HostError) -> ApiError {
    ApiError::new(code_of(error.kind), error.to_string())
}

const fn code_of(kind: HostErrorKind) -> ErrorCode {
    match kind {
        HostErrorKind::NotFound => ErrorCode::NotFound,
        HostErrorKind::Busy | HostErrorKind::Changed => ErrorCode::Busy,
        HostErrorKind::Exists => ErrorCode::Exists,
        // The daemon, not the client, was denied something.
        HostErrorKind::Denied | HostErrorKind::Io | HostErrorKind::Tool | HostErrorKind::Other => ErrorCode::Io,
        HostErrorKind::NoSpace => ErrorCode::NoSpace,
        HostErrorKind::Unsupported => ErrorCode::Unsupported,
        HostErrorKind::Invalid => ErrorCode::Invalid,
        HostErrorKind::TimedOut => ErrorCode::Timeout,
        HostErrorKind::NoDirectory => ErrorCode::Degraded,
    }
}
