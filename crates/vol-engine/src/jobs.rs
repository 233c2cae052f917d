//! Jobs: what takes long. Which there are follows from what stands on the disks, so a job goes on under the same id after the daemon was
//! killed, or the disks are in another machine. Only what has ended is remembered in memory, for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use vol_core::plan::{thick, trash};
use vol_core::{Catalog, Plan, Refusal, RefusalCode, VolumeName};
use vol_types::{Bytes, Content, Name, VgState, Volume, VolumeId, VolumeState};

use crate::engine::{Done, Engine};
use crate::error::EngineError;
use crate::host::HostMut;
use crate::vg::OpenVg;

/// Ended jobs that are remembered at most.
const ENDED_MAX: usize = 128;
/// For how long, in seconds.
const ENDED_SECONDS: u64 = 3600;

/// With more than that of jobs that were begun, those that are none any more are looked for whenever another one begins.
const BEGUN_MANY: usize = 128;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobKind {
    /// Wipes a new thick volume.
    Wipe,
    /// Copies a thick volume to a new one.
    Copy,
    /// Wipes what a thick volume grows by.
    Grow,
    /// Gives back the space of a large volume that was deleted.
    Empty,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Wipe, Self::Copy, Self::Grow, Self::Empty];

    /// The word in ids and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wipe => "wipe",
            Self::Copy => "copy",
            Self::Grow => "grow",
            Self::Empty => "empty",
        }
    }
}

/// `KIND-VOLUME` with the volume's id; of a growth also the size in bytes from which it grows, so that each growth is another job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId {
    pub kind: JobKind,
    pub volume: VolumeId,
    /// Zero but for [`JobKind::Grow`].
    pub base: Bytes,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind.as_str(), self.volume)?;
        if self.kind == JobKind::Grow { write!(f, "-{}", self.base.get()) } else { Ok(()) }
    }
}

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not the id of a job, as `volctl job list` shows them");
        let (kind, rest) = text.split_once('-').ok_or_else(bad)?;
        let kind = JobKind::ALL.into_iter().find(|one| one.as_str() == kind).ok_or_else(bad)?;
        let (volume, base) = match kind {
            JobKind::Grow => {
                let (volume, base) = rest.rsplit_once('-').ok_or_else(bad)?;
                (volume, base.parse().map_err(|_| bad())?)
            }
            JobKind::Wipe | JobKind::Copy | JobKind::Empty => (rest, 0),
        };
        let id = Self { kind, volume: volume.parse().map_err(|_| bad())?, base: Bytes(base) };
        // One text for one job.
        if id.to_string() == text { Ok(id) } else { Err(bad()) }
    }
}

/// What has become of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    Running,
    /// Nobody is at it now; it goes on by itself, unless it is said for what it waits.
    Waiting(Option<&'static str>),
    Done,
    /// What it had taken was taken back.
    Failed(String),
    Cancelled,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub vg: Name,
    /// The volume or snapshot.
    pub object: VolumeName,
    pub state: JobState,
    pub done: Bytes,
    pub total: Bytes,
    /// Seconds since 1970: of a new volume when it was asked for, else since when this daemon knows of it.
    pub started_at: u64,
    pub ended_at: Option<u64>,
}

impl Job {
    /// Why it cannot be cancelled; `None` if it can.
    pub const fn why_not_cancelled(&self) -> Option<&'static str> {
        match (self.id.kind, &self.state) {
            (_, JobState::Done | JobState::Failed(_) | JobState::Cancelled) => Some("it has ended"),
            (JobKind::Empty, _) => Some("part of what the volume held is gone already"),
            _ => None,
        }
    }
}

/// What the engine does of itself, for whoever wants to tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    JobBegun(Job),
    JobEnded(Job),
    /// Ahead of demand; the sizes of the pool's data.
    PoolGrown {
        vg: Name,
        pool: Name,
        from: Bytes,
        to: Bytes,
    },
}

type Hear = Box<dyn Fn(News) + Send + Sync>;

/// What is remembered of jobs.
#[derive(Default)]
pub struct Jobs {
    state: Mutex<Remembered>,
    hear: OnceLock<Hear>,
}

#[derive(Default)]
struct Remembered {
    /// Since when this daemon knows of those that have not ended.
    since: BTreeMap<JobId, u64>,
    /// Those of which it was told that somebody is at them. They are tried again and again while a disk is missing, say.
    begun: BTreeSet<JobId>,
    cancelled: BTreeSet<JobId>,
    ended: VecDeque<Job>,
}

impl Jobs {
    fn state(&self) -> MutexGuard<'_, Remembered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: News) {
        if let Some(hear) = self.hear.get() {
            hear(news);
        }
    }
}

/// The job that a volume is the object of.
pub fn id_of(catalog: &Catalog, one: &Volume) -> Option<JobId> {
    let (kind, base) = if trash::is_emptied(one) {
        (JobKind::Empty, Bytes::ZERO)
    } else if !thick::is_filling(catalog, one) {
        return None;
    } else if one.state != VolumeState::Creating {
        (JobKind::Grow, one.size)
    } else if one.clone_of.is_some() {
        (JobKind::Copy, Bytes::ZERO)
    } else {
        (JobKind::Wipe, Bytes::ZERO)
    };
    Some(JobId { kind, volume: one.id, base })
}

impl<H: HostMut> Engine<H> {
    /// Whoever is told what the engine does of itself; it must not wait. A second call changes nothing.
    pub fn on_news(&self, hear: impl Fn(News) + Send + Sync + 'static) {
        let _ = self.jobs.hear.set(Box::new(hear));
    }

    pub(crate) fn tell(&self, news: News) {
        self.jobs.tell(news);
    }

    /// All jobs: those that have not ended by VG and object, then what is remembered of those that have, the last one first.
    pub fn jobs(&self) -> Vec<Job> {
        let mut all = Vec::new();
        for vg in self.vgs() {
            vg.read(|catalog| {
                if catalog.vg().state == VgState::Ready {
                    all.extend(catalog.volumes().filter_map(|one| self.job_of(catalog, one)));
                }
            });
        }
        all.sort_by(|a, b| (&a.vg, &a.object, a.id).cmp(&(&b.vg, &b.object, b.id)));
        self.forget_gone();
        let now = self.host().now();
        let mut state = self.jobs.state();
        // A volume that was deleted while nobody was at it, say.
        state.since.retain(|id, _| all.iter().any(|one| one.id == *id));
        state.ended.retain(|one| one.ended_at.is_none_or(|at| now.saturating_sub(at) <= ENDED_SECONDS));
        all.extend(
            state
                .ended
                .iter()
                .rev()
                .filter(|ended| !all.iter().any(|one| one.id == ended.id))
                .cloned()
                .collect::<Vec<_>>(),
        );
        all
    }

    /// Forgets what was begun or cancelled and is no job any more, without an end that was told: a volume that was deleted while nobody was
    /// at it, say.
    fn forget_gone(&self) {
        let (begun, cancelled) = {
            let state = self.jobs.state();
            (state.begun.clone(), state.cancelled.clone())
        };
        if begun.is_empty() && cancelled.is_empty() {
            return;
        }
        // Also of a VG that is exported: it goes on when that is taken into use again.
        let mut there = BTreeSet::new();
        for vg in self.vgs() {
            vg.read(|catalog| there.extend(catalog.volumes().filter_map(|one| id_of(catalog, one))));
        }
        let gone = |id: &JobId| !there.contains(id);
        // Whoever is at it has yet to see why it is gone.
        let over = |id: &JobId| gone(id) && !self.is_being_filled(id.volume);
        let cancelled: BTreeSet<JobId> = cancelled.into_iter().filter(over).collect();
        let mut state = self.jobs.state();
        // What came meanwhile stays.
        state.begun.retain(|id| !(begun.contains(id) && gone(id)));
        state.cancelled.retain(|id| !cancelled.contains(id));
    }

    /// Entries that are kept about jobs of which no end was told.
    #[doc(hidden)]
    pub fn jobs_in_mind(&self) -> usize {
        let state = self.jobs.state();
        state.since.len().max(state.begun.len()).max(state.cancelled.len())
    }

    pub(crate) fn job_of(&self, catalog: &Catalog, one: &Volume) -> Option<Job> {
        let id = id_of(catalog, one)?;
        let (running, done, total) = match (id.kind, one.thick()) {
            (JobKind::Empty, _) => {
                let emptied = self.emptied(one.id);
                (emptied.is_some(), emptied.unwrap_or(Bytes::ZERO), one.size)
            }
            (_, Some(body)) => match self.filling(one.id) {
                Some(fill) => (true, fill.done, fill.total),
                None => {
                    let total = body.capacity(catalog.vg().extent_size).saturating_sub(id.base);
                    (false, body.filled.saturating_sub(id.base).min(total), total)
                }
            },
            (_, None) => return None,
        };
        let waits = || {
            let waits = id.kind != JobKind::Empty && !thick::goes_on_by_itself(catalog, one);
            waits.then_some("for the same request, which says how its file system is to be made")
        };
        let first = if one.state == VolumeState::Creating { one.created_at } else { self.host().now() };
        Some(Job {
            id,
            vg: catalog.vg().name.clone(),
            object: VolumeName::of(one),
            state: if running { JobState::Running } else { JobState::Waiting(waits()) },
            done,
            total,
            started_at: *self.jobs.state().since.entry(id).or_insert(first),
            ended_at: None,
        })
    }

    /// Somebody is at the job of a volume now. What it is ended with is told with [`Engine::job_ended`].
    pub(crate) fn job_begun(&self, vg: &Arc<OpenVg>, id: VolumeId) -> Option<Job> {
        let job = vg.read(|catalog| self.job_of(catalog, catalog.volume(id)?))?;
        let (first, many) = {
            let mut state = self.jobs.state();
            state.ended.retain(|one| one.id != job.id);
            (state.begun.insert(job.id), state.begun.len() > BEGUN_MANY)
        };
        if first && many {
            self.forget_gone();
        }
        if first {
            self.tell(News::JobBegun(Job { state: JobState::Running, ..job.clone() }));
        }
        Some(job)
    }

    /// The job has come to its end.
    pub(crate) fn job_ended(&self, job: Job, state: JobState) {
        let done = if state == JobState::Done { job.total } else { job.done };
        let ended = Job { state, done, ended_at: Some(self.host().now()), ..job };
        {
            let mut state = self.jobs.state();
            state.since.remove(&ended.id);
            state.begun.remove(&ended.id);
            state.cancelled.remove(&ended.id);
            if state.ended.iter().any(|one| one.id == ended.id) {
                return;
            }
            state.ended.push_back(ended.clone());
            if state.ended.len() > ENDED_MAX {
                state.ended.pop_front();
            }
        }
        self.tell(News::JobEnded(ended));
    }

    /// Whether somebody has cancelled it.
    pub(crate) fn job_is_cancelled(&self, id: &JobId) -> bool {
        self.jobs.state().cancelled.contains(id)
    }

    /// Whether it has ended so.
    pub(crate) fn job_was_cancelled(&self, id: &JobId) -> bool {
        self.jobs.state().ended.iter().any(|one| one.id == *id && one.state == JobState::Cancelled)
    }

    /// Cancels a job: a new volume is gone, one that grows is as it was. What cannot be cancelled is refused, and goes on.
    pub fn cancel_job(&self, id: &JobId, dry_run: bool) -> Result<Done<Job>, EngineError> {
        let jobs = self.jobs();
        let Some(job) = jobs.into_iter().find(|job| job.id == *id) else { return Err(unknown(id).into()) };
        if let Some(why) = job.why_not_cancelled() {
            if job.state == JobState::Cancelled {
                return Ok(Done::Unchanged(job));
            }
            return Err(Refusal::new(RefusalCode::Refused, format!("job {id} cannot be cancelled: {why}"))
                .hint("`volctl job show` tells what became of it")
                .into());
        }
        let vg = self.vg(&job.vg)?;
        let about = std::slice::from_ref(&job.object);
        if !dry_run {
            // Before it is taken back: whoever fills it must know why it is gone.
            self.jobs.state().cancelled.insert(*id);
        }
        let taken_back = vg.change_about(self.host(), dry_run, about, |catalog, kernel, _| {
            let one = catalog.volume(id.volume).filter(|one| id_of(catalog, one) == Some(*id));
            let Some(one) = one else { return Ok((Plan::default(), false)) };
            if matches!(one.content, Content::Formatting { .. }) {
                return Err(Refusal::busy(format!("{}/{} is just being made", job.vg, job.object))
                    .hint("try again in a moment"));
            }
            Ok((thick::give_up(catalog, kernel, id.volume), true))
        });
        let (plan, was_there) = taken_back.inspect_err(|_| {
            self.jobs.state().cancelled.remove(id);
        })?;
        if dry_run {
            return Ok(Done::Planned(plan));
        }
        if !was_there {
            self.jobs.state().cancelled.remove(id);
            return Err(
                Refusal::new(RefusalCode::Refused, format!("job {id} cannot be cancelled: it has just ended")).into()
            );
        }
        // If somebody is at it, that one tells its end as soon as it sees it.
        if !self.is_being_filled(id.volume) {
            self.job_ended(job.clone(), JobState::Cancelled);
        }
        Ok(Done::Changed(Job { state: JobState::Cancelled, ended_at: Some(self.host().now()), ..job }))
    }
}

/// Of a job that is not known: it has ended, or never was.
pub fn unknown(id: &JobId) -> Refusal {
    Refusal::not_found(format!("there is no job {id} any more, if there ever was")).hint(
        "ended jobs are remembered for an hour, and not when the daemon was restarted: look at the volume, with volctl volume show",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written_and_nothing_else_does() {
        let volume = VolumeId::from_bytes([7; 16]);
        for kind in JobKind::ALL {
            let base = if kind == JobKind::Grow { Bytes(8 << 20) } else { Bytes::ZERO };
            let id = JobId { kind, volume, base };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in [
            "",
            "wipe",
            "wipe-",
            "wipe-x",
            "frob-07070707-0707-0707-0707-070707070707",
            "grow-07070707-0707-0707-0707-070707070707",
            "grow-07070707-0707-0707-0707-070707070707-+1",
            "wipe-07070707070707070707070707070707",
        ] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }
}
