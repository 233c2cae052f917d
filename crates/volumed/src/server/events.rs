//! What happened, for whoever wants to hear of it: a bounded list in memory, and those who follow it.
//!
//! Events are hints. Nothing waits for those who follow: who is too slow misses some, and is told so; what is, `status` and the lists say.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;
use vol_api::{Event, EventKind, EventOperation, JobInfo, JobPhase, Problem, rfc3339};
use vol_engine::JobKind;

use super::lines;
use super::operation::{Finished, Observer, Outcome};
use crate::api::{Listener, Standing};
use crate::metrics::{Id, Page, Source};

/// Events that are kept; about 600 bytes each.
pub const KEPT: usize = 1024;
/// How often those who follow hear that the connection lives, if nothing happens.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// The events of one run of the daemon.
pub struct Events {
    run: String,
    state: Mutex<State>,
    /// The sequence of the last event.
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// Lines of JSON; the last one has the sequence `last`.
    kept: VecDeque<Bytes>,
    last: u64,
    /// Nothing comes any more.
    closed: bool,
    /// The problems of which it was told last: those of the backend, and those of the server itself.
    problems: [BTreeMap<String, Standing>; 2],
    /// Jobs that ended, by kind and what became of them.
    jobs_ended: BTreeMap<(String, &'static str), u64>,
}

impl State {
    /// The sequence of the oldest that is kept, or of the next one.
    fn first(&self) -> u64 {
        self.last.saturating_add(1).saturating_sub(self.kept.len() as u64)
    }
}

/// Where a reader is.
#[derive(Debug)]
pub struct Reader {
    /// All up to here was read.
    at: u64,
    /// What to say first.
    missed: Option<String>,
    follow: bool,
}

fn now() -> String {
    rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

impl Events {
    /// No events yet, of the run with this id.
    pub fn new(run: Uuid) -> Self {
        Self { run: run.to_string(), state: Mutex::default(), news: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, kind: EventKind, object: Option<String>, message: String) -> Event {
        Event { run: self.run.clone(), at: now(), kind, object, message, ..Event::default() }
    }

    fn push(&self, state: &mut State, mut event: Event) {
        if state.closed {
            return;
        }
        event.sequence = state.last.saturating_add(1);
        // None of the API's types can fail; a line that is missing would shift all others.
        let line = lines::line(&event).unwrap_or_default();
        state.last = event.sequence;
        state.kept.push_back(line);
        if state.kept.len() > KEPT {
            state.kept.pop_front();
        }
        self.news.send_replace(event.sequence);
    }

    fn publish(&self, event: Event) {
        self.push(&mut self.state(), event);
    }

    /// The daemon serves.
    pub fn started(&self) {
        let message = format!("volumed {} serves", env!("CARGO_PKG_VERSION"));
        self.publish(self.event(EventKind::DaemonStarted, None, message));
    }

    /// The daemon ends: those who follow hear of it, and then nothing any more.
    pub fn stopping(&self) {
        let mut state = self.state();
        self.push(&mut state, self.event(EventKind::DaemonStopping, None, "volumed is stopping".to_owned()));
        state.closed = true;
        self.news.send_replace(state.last);
    }

    /// Where who asks for what came after `since` begins to read: `None` is from the beginning, or from now on to follow. `run`: the run
    /// of the daemon that `since` is of, if that is known.
    pub fn reader(&self, since: Option<u64>, run: Option<&str>, follow: bool) -> Reader {
        let state = self.state();
        let oldest = state.first().saturating_sub(1);
        let (at, missed) = match since {
            _ if run.is_some_and(|run| run != self.run) => (oldest, Some("the daemon was restarted".to_owned())),
            Some(since) if since > state.last => (oldest, Some(format!("event {since} is of another run"))),
            Some(since) => (since, None),
            None if follow => (state.last, None),
            None => (oldest, None),
        };
        Reader { at, missed, follow }
    }

    /// The lines that come next, at most 64, and whether none will come after them.
    fn next(&self, reader: &mut Reader) -> (Vec<Bytes>, bool) {
        let mut lines = Vec::new();
        let state = self.state();
        let oldest = state.first().saturating_sub(1);
        if reader.at < oldest {
            reader.missed = Some(format!("events {} to {oldest} are not kept any more", reader.at.saturating_add(1)));
            reader.at = oldest;
        }
        if let Some(why) = reader.missed.take() {
            let message = format!("{why}: see volctl status for what is");
            let gap = Event { sequence: reader.at, ..self.event(EventKind::Gap, None, message) };
            lines.extend(lines::line(&gap));
        }
        let skip = usize::try_from(reader.at.saturating_sub(oldest)).unwrap_or(usize::MAX);
        for line in state.kept.iter().skip(skip).take(64) {
            lines.push(line.clone());
            reader.at = reader.at.saturating_add(1);
        }
        let ends = (state.closed || !reader.follow) && reader.at >= state.last;
        (lines, ends)
    }

    fn heartbeat(&self, at: u64) -> Option<Bytes> {
        let beat = Event { sequence: at, ..self.event(EventKind::Heartbeat, None, String::new()) };
        lines::line(&beat).ok()
    }

    /// Sends lines until there are none any more, the reader is gone, or it takes none for `stall`.
    pub async fn feed(&self, mut reader: Reader, to: mpsc::Sender<Bytes>, heartbeat: Duration, stall: Duration) {
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            let (lines, ends) = self.next(&mut reader);
            let waits = lines.is_empty();
            for line in lines {
                if to.send_timeout(line, stall).await.is_err() {
                    return;
                }
            }
            if ends {
                return;
            }
            if !waits {
                continue;
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(heartbeat) => {
                    let Some(beat) = self.heartbeat(reader.at) else { return };
                    if to.send_timeout(beat, stall).await.is_err() {
                        return;
                    }
                }
                () = to.closed() => return,
            }
        }
    }
}

/// Whose problems they are.
#[derive(Clone, Copy)]
enum Of {
    Backend,
    Server,
}

impl Events {
    /// All problems of the server itself that there are now.
    pub fn own_problems(&self, all: Vec<Problem>) {
        let standing = |problem: Problem| {
            // There may be several of one kind, of several sockets, which only their texts tell apart.
            let key = format!("{} {}", problem.code, problem.message);
            Standing { key, object: None, problem }
        };
        self.tell_problems(Of::Server, all.into_iter().map(standing).collect());
    }

    fn tell_problems(&self, of: Of, all: Vec<Standing>) {
        let mut state = self.state();
        let now: BTreeMap<_, _> = all.into_iter().map(|one| (one.key.clone(), one)).collect();
        let [of_backend, of_server] = &mut state.problems;
        let known = match of {
            Of::Backend => of_backend,
            Of::Server => of_server,
        };
        let before = std::mem::replace(known, now.clone());
        let tell = |kind, one: &Standing, message: String| {
            let problem: Option<Problem> = Some(one.problem.clone());
            Event { problem, ..self.event(kind, one.object.clone(), message) }
        };
        for (_, gone) in before.iter().filter(|(key, _)| !now.contains_key(*key)) {
            let message = format!("gone: {}", gone.problem.message);
            self.push(&mut state, tell(EventKind::ProblemGone, gone, message));
        }
        for (_, new) in now.iter().filter(|(key, _)| !before.contains_key(*key)) {
            self.push(&mut state, tell(EventKind::ProblemAppeared, new, new.problem.message.clone()));
        }
    }
}

impl Observer for Events {
    fn finished(&self, operation: &Finished) {
        if !matches!(operation.outcome, Outcome::Changed { .. }) {
            return;
        }
        let about = operation.object.as_deref().map_or(String::new(), |object| format!(" {object}"));
        let message = format!("{}{about} by uid {}", operation.what, operation.who.uid);
        let told = EventOperation {
            id: operation.id.to_string(),
            name: operation.what.to_owned(),
            uid: operation.who.uid,
            role: operation.who.role.map(|role| role.as_str().to_owned()),
            pid: operation.who.pid,
        };
        let event = self.event(EventKind::Changed, operation.object.clone(), message);
        self.publish(Event { operation: Some(told), ..event });
    }
}

impl Source for Events {
    fn write(&self, page: &mut Page) {
        let ended = self.state().jobs_ended.clone();
        // Those of which there was none too: the first one is a growth, then.
        for kind in JobKind::ALL.map(JobKind::as_str) {
            for state in [JobPhase::Done, JobPhase::Failed, JobPhase::Cancelled].map(JobPhase::as_str) {
                let count = ended.get(&(kind.to_owned(), state)).copied().unwrap_or_default();
                page.count(Id::JobsEnded, &[kind, state], count);
            }
        }
    }
}

impl Listener for Events {
    fn problems(&self, all: Vec<Standing>) {
        self.tell_problems(Of::Backend, all);
    }

    fn job_begun(&self, job: JobInfo) {
        let event = self.event(EventKind::JobBegun, Some(job.object.clone()), format!("{} {}", job.kind, job.object));
        self.publish(Event { job: Some(job), ..event });
    }

    fn job_ended(&self, job: JobInfo) {
        *self.state().jobs_ended.entry((job.kind.clone(), job.state.as_str())).or_default() += 1;
        let why = match (&job.error, job.state) {
            (Some(error), JobPhase::Failed) => format!(": {error}"),
            _ => String::new(),
        };
        let message = format!("{} {}: {}{why}", job.kind, job.object, job.state.as_str());
        let event = self.event(EventKind::JobEnded, Some(job.object.clone()), message);
        self.publish(Event { job: Some(job), ..event });
    }

    fn pool_grown(&self, pool: String, message: String) {
        self.publish(self.event(EventKind::PoolGrown, Some(pool), message));
    }
}

#[cfg(test)]
mod tests;
