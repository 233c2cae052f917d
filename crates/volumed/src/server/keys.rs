//! Idempotency keys: the same request under the same key is carried out once, and answered each time as it was answered then.
//!
//! Only what succeeded is remembered. A request that was refused changed nothing, so its key is free again and the same request is tried
//! anew. One that failed half way may have: its key is used up, unless it comes to the same however often it is done.
//! What is known is kept over a restart in a file, of which nothing is needed: without it, or when it cannot be written, keys are
//! forgotten with the process. A file that hangs is another thing: whether a key is known cannot be told then, so a request that has one is
//! refused after a while, and holds up none that has not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use vol_api::{ApiError, ErrorCode, Problem, rfc3339};

mod file;
mod writer;

use file::Record;
use writer::Writer;

/// For how long a key is remembered, in seconds, from when its request was begun.
pub const KEPT_SECONDS: u64 = 24 * 3600;
/// Keys that are remembered at most; the oldest are forgotten first.
pub const KEPT_MAX: usize = 1024;
/// Of one user other than root.
pub const KEPT_OF_USER: usize = 256;
/// The longest answer in bytes that is remembered.
const ANSWER_MAX: usize = 64 * 1024;
/// The longest key, in characters.
pub const KEY_MAX: usize = 128;

/// Operations that come to the same however often they are carried out: what a dead daemon began is simply carried out again. Not so
/// whatever adds, deletes, renames, or puts back what was before.
const REPEATABLE: [&str; 26] = [
    "job.cancel",
    "pool.check",
    "pool.set",
    "pv.label",
    "pv.scan",
    "snapshot.label",
    "snapshot.mount",
    "snapshot.protect",
    "snapshot.undelete",
    "snapshot.unmount",
    "snapshot.unprotect",
    "vg.export",
    "vg.import",
    "volume.attach",
    "volume.attach_read_only",
    "volume.check",
    "volume.clone",
    "volume.create",
    "volume.detach",
    "volume.label",
    "volume.mount",
    "volume.protect",
    "volume.set",
    "volume.trim",
    "volume.unmount",
    "volume.unprotect",
];

/// A key as a client gave it: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Reads the value of the header.
    pub fn parse(value: &[u8]) -> Result<Self, ApiError> {
        let visible = !value.is_empty() && value.len() <= KEY_MAX && value.iter().all(u8::is_ascii_graphic);
        match std::str::from_utf8(value) {
            Ok(text) if visible => Ok(Self(text.to_owned())),
            _ => Err(ApiError::invalid(format!(
                "Idempotency-Key: a key has 1 to {KEY_MAX} visible ASCII characters, without spaces"
            ))
            .with_hint("a UUID is a good key")),
        }
    }
}

/// What makes two requests the same: method, path with query, and body.
pub fn fingerprint(method: &str, target: &str, body: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [method.as_bytes(), target.as_bytes(), body] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

/// The body of an answer, or why there is none.
pub type Answer = Result<Arc<str>, ApiError>;

#[derive(Debug)]
enum State {
    /// By this daemon, now.
    Running(watch::Receiver<Option<Answer>>),
    Ended(Arc<str>),
    /// By a daemon that is no more, or it failed half way.
    CutShort,
}

#[derive(Debug)]
struct Entry {
    fingerprint: String,
    what: String,
    object: Option<String>,
    /// Seconds since 1970.
    begun: u64,
    state: State,
}

/// Keys by user and text.
type Table = BTreeMap<(u32, String), Entry>;

/// How long the state directory may take for one write before it counts as hung: a busy disk takes seconds for a flush.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What is remembered of keys.
pub struct Keys {
    table: Mutex<Table>,
    writer: OnceLock<Writer>,
    patience: Duration,
}

impl Default for Keys {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

/// What is to be done with a request that has a key.
pub enum Begin {
    /// Carry it out.
    New(Ticket),
    /// Wait: it is being carried out.
    Wait(watch::Receiver<Option<Answer>>),
    /// It was carried out: this was the answer.
    Again(Arc<str>),
}

/// A request under a key that is carried out now. Dropped without an answer, its key is free again.
pub struct Ticket {
    keys: Arc<Keys>,
    id: (u32, String),
    record: Record,
    told: watch::Sender<Option<Answer>>,
    /// What became of it is recorded.
    ended: bool,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Keys {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In memory; `patience`: how long a state directory may take for one write before it counts as hung.
    pub fn new(patience: Duration) -> Self {
        Self { table: Mutex::default(), writer: OnceLock::new(), patience }
    }

    /// Keeps what is known in `dir` from now on, and reads what an earlier daemon knew; see [`Keys::ready`]. A second call changes nothing.
    pub fn keep_in(self: &Arc<Self>, dir: &Path) {
        match Writer::start(dir, self) {
            Ok(writer) => drop(self.writer.set(writer)),
            Err(error) => {
                tracing::warn!(%error, "idempotency keys are not kept: a restart of volumed forgets them");
            }
        }
    }

    /// Adds what an earlier daemon knew.
    fn remember(&self, records: Vec<Record>) {
        let mut table = self.table();
        for record in records {
            let state = record.answer.map_or(State::CutShort, |answer| State::Ended(answer.into()));
            let Record { uid, key, fingerprint, what, object, begun, .. } = record;
            table.insert((uid, key), Entry { fingerprint, what, object, begun, state });
        }
    }

    /// Returns when all that an earlier daemon knew has been read. To be waited for before [`Keys::begin`].
    ///
    /// # Errors
    /// `not_ready`: the state directory hangs.
    pub async fn ready(&self) -> Result<(), ApiError> {
        match self.writer.get() {
            Some(writer) => writer.ready(self.patience).await,
            None => Ok(()),
        }
    }

    /// Returns when all that was to be written down is, or after this time.
    ///
    /// # Errors
    /// `not_ready`: the state directory hangs.
    pub async fn written(&self, limit: Duration) -> Result<(), ApiError> {
        match self.writer.get() {
            Some(writer) => writer.wait(writer.last(), limit).await,
            None => Ok(()),
        }
    }

    /// That keys are not kept, if so.
    pub fn problem(&self) -> Option<Problem> {
        self.writer.get()?.problem(self.patience)
    }

    /// What is to be done with this request.
    ///
    /// # Errors
    /// `exists`: another request had this key. `refused`: it was begun, and what became of it is not known. `not_ready`: too many run.
    pub fn begin(
        self: &Arc<Self>,
        uid: u32,
        key: &Key,
        fingerprint: String,
        what: &str,
        object: Option<String>,
    ) -> Result<Begin, ApiError> {
        let id = (uid, key.0.clone());
        let now = now();
        let mut table = self.table();
        // A clock that was set back keeps a key for longer.
        table.retain(|_, entry| {
            matches!(entry.state, State::Running(_)) || now.saturating_sub(entry.begun) <= KEPT_SECONDS
        });
        if let Some(entry) = table.get(&id) {
            if entry.fingerprint != fingerprint {
                let about = entry.object.as_deref().map_or(String::new(), |object| format!(" {object}"));
                return Err(ApiError::new(
                    ErrorCode::Exists,
                    format!("the idempotency key was used for another request: {}{about}", entry.what),
                )
                .with_hint(
                    "each request needs a key of its own; only a repetition of the same request has the same key",
                ));
            }
            match &entry.state {
                State::Running(told) => return Ok(Begin::Wait(told.clone())),
                State::Ended(answer) => return Ok(Begin::Again(Arc::clone(answer))),
                State::CutShort if REPEATABLE.contains(&entry.what.as_str()) => {}
                State::CutShort => {
                    let about = entry.object.as_deref().map_or(String::new(), |object| format!(" of {object}"));
                    return Err(ApiError::new(
                        ErrorCode::Refused,
                        format!(
                            "the request with this idempotency key ({}{about}) was begun at {} and came to no proper end: whether it took effect is not known",
                            entry.what,
                            rfc3339(entry.begun)
                        ),
                    )
                    .with_hint("look at what it was about; if it did not take effect, ask again with another key"));
                }
            }
        }
        make_room(&mut table, uid)?;
        let (told, tells) = watch::channel(None);
        let entry = Entry {
            fingerprint: fingerprint.clone(),
            what: what.to_owned(),
            object: object.clone(),
            begun: now,
            state: State::Running(tells),
        };
        table.insert(id.clone(), entry);
        let record =
            Record { uid, key: id.1.clone(), fingerprint, what: what.to_owned(), object, begun: now, answer: None };
        Ok(Begin::New(Ticket { keys: Arc::clone(self), id, record, told, ended: false }))
    }

    /// Has it written down; the number of the order, if there is a file.
    fn write(&self, record: &Record, sync: bool) -> Option<u64> {
        Some(self.writer.get()?.order(record.clone(), sync))
    }

    /// All that is known.
    fn records(&self) -> Vec<Record> {
        let table = self.table();
        let records = table.iter().map(|((uid, key), entry)| Record {
            uid: *uid,
            key: key.clone(),
            fingerprint: entry.fingerprint.clone(),
            what: entry.what.clone(),
            object: entry.object.clone(),
            begun: entry.begun,
            answer: match &entry.state {
                State::Ended(answer) => Some(answer.to_string()),
                State::Running(_) | State::CutShort => None,
            },
        });
        records.collect()
    }
}

/// Forgets the oldest that has ended, of all or of this user.
fn make_room(table: &mut Table, uid: u32) -> Result<(), ApiError> {
    let of_user = table.keys().filter(|(of, _)| *of == uid).count();
    let of = if uid != 0 && of_user >= KEPT_OF_USER {
        Some(uid)
    } else if table.len() >= KEPT_MAX {
        None
    } else {
        return Ok(());
    };
    let ended = table
        .iter()
        .filter(|((owner, _), entry)| of.is_none_or(|of| of == *owner) && !matches!(entry.state, State::Running(_)));
    let oldest = ended.min_by_key(|(_, entry)| entry.begun).map(|(id, _)| id.clone());
    match oldest.and_then(|id| table.remove(&id)) {
        Some(_) => Ok(()),
        None => {
            Err(ApiError::new(ErrorCode::NotReady, "too many requests with idempotency keys are being carried out")
                .with_hint("ask again when some have ended"))
        }
    }
}

impl Ticket {
    /// Writes down that it is begun, on the disk of the state directory; to be waited for before it is.
    ///
    /// # Errors
    /// `not_ready`: the state directory hangs; the request is not to be carried out.
    pub async fn record_begun(&self) -> Result<(), ApiError> {
        match (self.keys.writer.get(), self.keys.write(&self.record, true)) {
            (Some(writer), Some(order)) => writer.wait(order, self.keys.patience).await,
            _ => Ok(()),
        }
    }

    /// As if the daemon had died: that it was begun is on the disk, and nothing more.
    fn cut_short(&mut self) {
        self.ended = true;
        if let Some(entry) = self.keys.table().get_mut(&self.id) {
            entry.state = State::CutShort;
        }
    }

    /// It has ended: whoever waits gets the answer, and if it succeeded whoever asks again does.
    pub fn end(mut self, answer: &Result<Vec<u8>, ApiError>) {
        let answer: Answer = match answer {
            Ok(body) if body.len() <= ANSWER_MAX => Ok(String::from_utf8_lossy(body).into()),
            Ok(_) => Ok(TOO_LARGE.into()),
            Err(error) => Err(error.clone()),
        };
        if let Ok(body) = &answer {
            self.record.answer = Some(body.to_string());
            if let Some(entry) = self.keys.table().get_mut(&self.id) {
                entry.state = State::Ended(Arc::clone(body));
            }
            self.keys.write(&self.record, false);
            self.ended = true;
        } else if answer.as_ref().is_err_and(|error| may_have_changed(error.code))
            && !REPEATABLE.contains(&self.record.what.as_str())
        {
            self.cut_short();
        }
        self.told.send_replace(Some(answer));
    }
}

/// Whether a request that failed so may have taken effect in part. The others are refusals.
const fn may_have_changed(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Io | ErrorCode::Degraded | ErrorCode::Timeout | ErrorCode::Internal)
}

/// In the place of an answer that is too large to be remembered.
const TOO_LARGE: &str =
    "{\"changed\":true,\"object\":null,\"warnings\":[\"it was done; the answer of then was too large to be kept\"]}\n";

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if std::thread::panicking() {
            self.cut_short();
            return;
        }
        let mut table = self.keys.table();
        if table.get(&self.id).is_some_and(|entry| matches!(entry.state, State::Running(_))) {
            table.remove(&self.id);
        }
        drop(table);
        // An empty fingerprint: the key is free. It need not be durable: without it, it is told that nothing is known.
        let freed = Record { fingerprint: String::new(), ..self.record.clone() };
        self.keys.write(&freed, false);
    }
}

#[cfg(test)]
mod tests;
