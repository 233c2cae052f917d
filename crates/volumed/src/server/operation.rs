//! What is asked of the daemon, from its beginning to its end: the one place through which every request passes.
//!
//! An [`Operation`] is begun when the head of a request has been read and ended exactly once: with the end of the work that it asked
//! for, however long after the client has gone; with the error that kept the work from beginning; or, if the client went away before
//! that, with nothing done. Whoever watches ([`Observer`]) hears of it then.

mod line;
mod names;
mod object;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use uuid::Uuid;
use vol_api::{ApiError, Changed, ErrorCode};

use crate::access::{Peer, Role};

pub use line::LOG_TARGET;
pub use names::{ALL, Endpoint, UNKNOWN, endpoint, of_engine};
pub use object::{Named, of_params};

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub uid: u32,
    /// `None`: a user without a role.
    pub role: Option<Role>,
    /// Of the process that connected; it may be another one by now.
    pub pid: Option<i32>,
}

impl From<&Peer> for Who {
    fn from(peer: &Peer) -> Self {
        Self { uid: peer.credentials.uid, role: peer.role, pid: peer.credentials.pid }
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A read was answered.
    Answered,
    /// Something is not as it was before.
    Changed { warnings: usize },
    /// It was so already.
    Unchanged { warnings: usize },
    /// A dry run told what it would do.
    Planned,
    /// It failed; the message is the one that the client heard, or would have.
    Failed { code: ErrorCode, message: String },
    /// The client went away before anything was begun.
    Abandoned,
}

impl Outcome {
    /// Every word that [`Outcome::word`] may say.
    pub fn words() -> impl Iterator<Item = &'static str> {
        ["answered", "changed", "unchanged", "planned", "abandoned"]
            .into_iter()
            .chain(ErrorCode::ALL.iter().map(|code| code.as_str()))
    }

    /// One word of a closed set: `answered`, `changed`, `unchanged`, `planned`, `abandoned`, or the code of the error.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Changed { .. } => "changed",
            Self::Unchanged { .. } => "unchanged",
            Self::Planned => "planned",
            Self::Failed { code, .. } => code.as_str(),
            Self::Abandoned => "abandoned",
        }
    }

    /// The code of the error, if it failed.
    pub const fn error(&self) -> Option<ErrorCode> {
        match self {
            Self::Failed { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// How many warnings came with the change.
    pub const fn warnings(&self) -> usize {
        match self {
            Self::Changed { warnings } | Self::Unchanged { warnings } => *warnings,
            _ => 0,
        }
    }

    fn failed(error: &ApiError) -> Self {
        Self::Failed { code: error.code, message: error.message.clone() }
    }

    /// Of a read.
    pub fn of_read<T>(result: &Result<T, ApiError>) -> Self {
        result.as_ref().map_or_else(Self::failed, |_| Self::Answered)
    }

    /// Of a change.
    pub fn of_change<T>(result: &Result<Changed<T>, ApiError>) -> Self {
        match result {
            Ok(Changed::Planned(_)) => Self::Planned,
            Ok(Changed::Done(done)) if done.changed => Self::Changed { warnings: done.warnings.len() },
            Ok(Changed::Done(done)) => Self::Unchanged { warnings: done.warnings.len() },
            Err(error) => Self::failed(error),
        }
    }
}

/// The number of an operation among those of one run of the daemon, `3f2a81c0-17`: the beginning of the run's id and a count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OperationId {
    run: u32,
    count: u64,
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.count)
    }
}

/// An operation that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    pub id: OperationId,
    /// A name of the closed set [`ALL`], of [`of_engine`], or [`UNKNOWN`]; never a text of the client.
    pub what: &'static str,
    /// Whether it is of those that change something. It need not have.
    pub is_change: bool,
    /// `VG`, `VG/NAME`, `VG/VOLUME@SNAPSHOT`, the id of a PV or the path of a disk, as the client named it; at most
    /// [`OBJECT_MAX_CHARS`] characters, none of them a control character. `None` if it named none, or none that could be a name.
    pub object: Option<String>,
    pub who: Who,
    pub dry_run: bool,
    pub outcome: Outcome,
    /// From the head of the request to the end of the work.
    pub took: Duration,
    /// How much of it was spent waiting for a turn among the changes that may run at once; `None` for what needs none or did not get
    /// one. Waiting for others on the same object is part of the work.
    pub waited: Option<Duration>,
    /// The client was told `timeout`, or was gone, before it ended.
    pub late: bool,
}

/// The longest [`Finished::object`].
pub const OBJECT_MAX_CHARS: usize = 400;

/// Hears of each operation that has ended. Called on the thread that ended it, which may be the server's only one: it must not wait.
pub trait Observer: Send + Sync + 'static {
    fn finished(&self, operation: &Finished);
}

/// Whoever watches operations, and the run of the daemon that they are of.
pub struct Operations {
    run: Uuid,
    count: AtomicU64,
    observers: RwLock<Vec<Arc<dyn Observer>>>,
}

impl Default for Operations {
    fn default() -> Self {
        Self { run: Uuid::new_v4(), count: AtomicU64::new(0), observers: RwLock::default() }
    }
}

impl Operations {
    /// From now on `observer` hears of what has ended, too.
    pub fn watch(&self, observer: Arc<dyn Observer>) {
        self.observers.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    /// Of this run of the daemon; another after each start.
    pub const fn run(&self) -> Uuid {
        self.run
    }

    /// Begins an operation.
    pub fn begin(self: &Arc<Self>, what: &'static str, is_change: bool, who: Who) -> Operation {
        let (run, ..) = self.run.as_fields();
        let finished = Finished {
            id: OperationId { run, count: self.count.fetch_add(1, Ordering::Relaxed).saturating_add(1) },
            what,
            is_change,
            object: None,
            who,
            dry_run: false,
            outcome: Outcome::Abandoned,
            took: Duration::ZERO,
            waited: None,
            late: false,
        };
        Operation { all: Arc::clone(self), begun: Instant::now(), late: Arc::default(), finished }
    }
}

/// An operation under way. Dropping it ends it: as a defect if its thread panics, else as abandoned.
pub struct Operation {
    all: Arc<Operations>,
    begun: Instant,
    late: Arc<AtomicBool>,
    finished: Finished,
}

impl Operation {
    pub const fn id(&self) -> OperationId {
        self.finished.id
    }
    /// A name of the closed set.
    pub const fn what(&self) -> &'static str {
        self.finished.what
    }
    /// What it is about, as far as that is known.
    pub fn object(&self) -> Option<&str> {
        self.finished.object.as_deref()
    }
    /// What it is about, cut to [`OBJECT_MAX_CHARS`] and without control characters; `None` changes nothing.
    pub fn about(&mut self, object: Option<String>) {
        if let Some(object) = object {
            self.finished.object = Some(line::printable(&object, OBJECT_MAX_CHARS));
        }
    }
    pub const fn set_dry_run(&mut self, dry_run: bool) {
        self.finished.dry_run = dry_run;
    }
    /// It has got its turn, after so long.
    pub const fn has_turn(&mut self, waited: Duration) {
        self.finished.waited = Some(waited);
    }
    /// To be set when the client is told that it takes too long.
    pub fn late(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.late)
    }

    /// Ends it with the error that kept it from beginning.
    pub fn refused(self, error: &ApiError) {
        self.end(Outcome::failed(error));
    }

    /// Ends it.
    pub fn end(mut self, outcome: Outcome) {
        self.finished.outcome = outcome;
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let finished = &mut self.finished;
        if finished.outcome == Outcome::Abandoned && std::thread::panicking() {
            let message = "the request failed half way, by a defect of volumed".to_owned();
            finished.outcome = Outcome::Failed { code: ErrorCode::Internal, message };
        }
        finished.took = self.begun.elapsed();
        finished.late = self.late.load(Ordering::Relaxed);
        line::log(finished);
        for observer in &*self.all.observers.read().unwrap_or_else(PoisonError::into_inner) {
            observer.finished(finished);
        }
    }
}

#[cfg(test)]
mod tests;
