//! Changes of volumes that wait for each other share a transaction.
//!
//! Whoever comes first leads: it takes what has come in meanwhile as one batch, carries it out, answers everybody in it, and
//! hands the lead to whoever waits next. So under load two commits, one compare-and-swap and one status check serve up to
//! [`thin::BATCH_MAX`] requests; alone, a request costs what it always did.
//!
//! A batch that fails is settled as after any failure; then each of its requests is made by itself, so that one that cannot
//! be does not take the others with it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use vol_core::plan::thin::{self, Batch, ThinChange};
use vol_core::plan::trash::Deletion;
use vol_core::plan::volume::Created;
use vol_core::plan::{Kernel, Plan, clone, snapshot, volume};
use vol_core::{Catalog, Refusal, VolumeName};
use vol_types::{IntentId, VolumeId, VolumeState, defect};

use crate::engine::find_volume;
use crate::error::EngineError;
use crate::exec::{self, Session};
use crate::host::HostMut;
use crate::vg::OpenVg;

/// A change of a pool's thin ids, as asked for.
#[derive(Clone, Debug)]
pub enum ThinRequest {
    Create(volume::CreateVolume),
    Clone(clone::CloneVolume),
    /// Snapshots of one instant: all or none.
    Snapshot(Vec<snapshot::CreateSnapshot>),
    Delete {
        name: VolumeName,
        intent: IntentId,
    },
    /// For good, what was deleted and is kept. Nothing to be done if it was taken back or is gone.
    Purge {
        deletion: Deletion,
        intent: IntentId,
    },
}

/// What became of a request: whether something was changed, and the volume.
pub type Answer = Result<(bool, VolumeId), EngineError>;

/// What one request would be, on top of a batch.
enum Wanted {
    Change(Box<ThinChange>),
    Unchanged(VolumeId),
}

impl From<Created> for Wanted {
    fn from(created: Created) -> Self {
        match created {
            Created::Change(change) => Self::Change(change),
            Created::Unchanged(id) => Self::Unchanged(id),
        }
    }
}

impl ThinRequest {
    fn plan(&self, catalog: &Catalog, kernel: &Kernel, batch: &Batch) -> Result<Wanted, Refusal> {
        Ok(match self {
            Self::Create(request) => volume::create(catalog, kernel, batch, request)?.into(),
            Self::Clone(request) => clone::create(catalog, kernel, batch, request)?.into(),
            Self::Snapshot(all) => Wanted::Change(Box::new(snapshot::create(catalog, kernel, batch, all)?)),
            Self::Delete { name, intent } => {
                let volume = find_volume(catalog, name)?;
                Wanted::Change(Box::new(volume::delete(catalog, kernel, batch, volume, *intent)?))
            }
            Self::Purge { deletion, intent } => match deletion.kept(catalog) {
                Some(volume) => Wanted::Change(Box::new(volume::delete(catalog, kernel, batch, volume, *intent)?)),
                None => Wanted::Unchanged(deletion.volume),
            },
        })
    }

    /// Whether a change of the batch concerns what this one is about, so that it has to come after it.
    fn waits_for(&self, batch: &Batch) -> bool {
        let plain = |name: &vol_types::Name| VolumeName { volume: name.clone(), snapshot: None };
        match self {
            Self::Create(request) => batch.concerns(&plain(&request.name)),
            Self::Clone(request) => batch.concerns(&plain(&request.name)) || batch.concerns(&request.of),
            Self::Snapshot(all) => {
                all.iter().any(|one| batch.concerns(&one.full_name()) || batch.concerns(&one.origin_name()))
            }
            Self::Delete { name, .. } => batch.concerns(name),
            // It has no name that anybody else could mean.
            Self::Purge { .. } => false,
        }
    }

    /// Whether the catalog says that it is done, although carrying it out was reported to have failed.
    fn is_done(&self, catalog: &Catalog, volume: VolumeId) -> bool {
        let ready = |id| catalog.volume(id).is_some_and(|found| found.state == VolumeState::Ready);
        match self {
            Self::Create(_) | Self::Clone(_) => ready(volume),
            Self::Snapshot(all) => all.iter().all(|one| ready(one.id)),
            Self::Delete { .. } | Self::Purge { .. } => catalog.volume(volume).is_none(),
        }
    }
}

/// A request that waits, and where its answer is left.
struct Ticket {
    request: ThinRequest,
    turn: Mutex<Turn>,
    called: Condvar,
}

enum Turn {
    Waiting,
    Lead,
    Answered(Answer),
    Taken,
}

impl Ticket {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn call(&self, turn: Turn) {
        *self.turn() = turn;
        self.called.notify_all();
    }
    /// Waits until it is answered (`Some`) or to lead (`None`).
    fn wait(&self) -> Option<Answer> {
        let mut turn = self.turn();
        loop {
            match std::mem::replace(&mut *turn, Turn::Taken) {
                Turn::Waiting => {
                    *turn = Turn::Waiting;
                    turn = self.called.wait(turn).unwrap_or_else(PoisonError::into_inner);
                }
                Turn::Answered(answer) => return Some(answer),
                Turn::Lead | Turn::Taken => return None,
            }
        }
    }
}

/// Requests of one VG that wait.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Ticket>>,
    /// Somebody leads, and will call the next one.
    led: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Queues up; the one who is not led by anybody leads.
    fn join(&self, request: ThinRequest) -> Arc<Ticket> {
        let mut state = self.state();
        let turn = if state.led { Turn::Waiting } else { Turn::Lead };
        state.led = true;
        let ticket = Arc::new(Ticket { request, turn: Mutex::new(turn), called: Condvar::new() });
        state.waiting.push_back(ticket.clone());
        ticket
    }
    fn take(&self, most: usize) -> Vec<Arc<Ticket>> {
        let mut state = self.state();
        let count = state.waiting.len().min(most);
        state.waiting.drain(..count).collect()
    }
    /// Puts back what has to wait for the next transaction, in the order in which it came.
    fn put_back(&self, tickets: Vec<Arc<Ticket>>) {
        let mut state = self.state();
        tickets.into_iter().rev().for_each(|ticket| state.waiting.push_front(ticket));
    }
    fn pass_lead_on(&self) {
        let mut state = self.state();
        match state.waiting.front() {
            Some(next) => next.call(Turn::Lead),
            None => state.led = false,
        }
    }
}

/// Whatever happens to the one who leads, nobody waits for ever.
struct Lead<'a> {
    queue: &'a Queue,
    batch: Vec<Arc<Ticket>>,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        for ticket in &self.batch {
            let mut turn = ticket.turn();
            if matches!(*turn, Turn::Waiting) {
                let defect = Refusal::busy("the request was given up because of a defect: the daemon's log has it");
                *turn = Turn::Answered(Err(defect.hint("see what became of it, and try again").into()));
                ticket.called.notify_all();
            }
        }
        self.queue.pass_lead_on();
    }
}

impl OpenVg {
    /// Makes a change of a pool's thin ids, together with those that wait at the same time.
    pub fn submit<H: HostMut + ?Sized>(&self, host: &H, request: ThinRequest) -> Answer {
        self.serve(host, &self.queue.join(request))
    }

    /// As [`OpenVg::submit`], for several requests that are there at once; their answers in the same order.
    pub fn submit_all<H: HostMut + ?Sized>(&self, host: &H, requests: Vec<ThinRequest>) -> Vec<Answer> {
        let tickets: Vec<_> = requests.into_iter().map(|request| self.queue.join(request)).collect();
        tickets.iter().map(|ticket| self.serve(host, ticket)).collect()
    }

    fn serve<H: HostMut + ?Sized>(&self, host: &H, ticket: &Ticket) -> Answer {
        loop {
            if let Some(answer) = ticket.wait() {
                return answer;
            }
            let mut session = self.session();
            let mut lead = Lead { queue: &self.queue, batch: self.queue.take(thin::BATCH_MAX) };
            for ticket in &lead.batch {
                *ticket.turn() = Turn::Waiting;
            }
            let later = self.carry_out(host, &mut session, &lead.batch);
            lead.batch.retain(|ticket| !later.iter().any(|other| Arc::ptr_eq(ticket, other)));
            self.queue.put_back(later);
            self.refresh_with(host, &session);
            drop(session);
            drop(lead);
        }
    }

    /// The plan of a request by itself.
    pub fn plan_of<H: HostMut + ?Sized>(&self, host: &H, request: &ThinRequest) -> Result<Plan, EngineError> {
        let (plan, ()) = self.change(host, true, |catalog, kernel, _| {
            let plan = match request.plan(catalog, kernel, &Batch::default())? {
                Wanted::Change(change) => thin::alone(*change),
                Wanted::Unchanged(_) => Plan::default(),
            };
            Ok((plan, ()))
        })?;
        Ok(plan)
    }

    /// Answers all tickets but those that it gives back, which have to come after the others.
    fn carry_out<H: HostMut + ?Sized>(
        &self,
        host: &H,
        session: &mut Session,
        tickets: &[Arc<Ticket>],
    ) -> Vec<Arc<Ticket>> {
        let Ok(kernel) = self.ready(host, session) else {
            // Each of them hears for itself what is in the way.
            for ticket in tickets {
                ticket.call(Turn::Answered(self.by_itself(host, session, &ticket.request)));
            }
            return Vec::new();
        };
        let mut batch = Batch::default();
        let (mut planned, mut later) = (Vec::new(), Vec::new());
        for ticket in tickets {
            if batch.is_full() || ticket.request.waits_for(&batch) {
                later.push(ticket.clone());
                continue;
            }
            match self.read(|catalog| ticket.request.plan(catalog, &kernel, &batch)) {
                Ok(Wanted::Change(change)) => {
                    planned.push((ticket, change.volume));
                    batch.add(*change);
                }
                Ok(Wanted::Unchanged(id)) => ticket.call(Turn::Answered(unchanged(session, id))),
                Err(refusal) => ticket.call(Turn::Answered(Err(refusal.into()))),
            }
        }
        let (shared, each) = batch.plan();
        let mut pending: VecDeque<_> = planned.into_iter().zip(each).collect();
        if pending.is_empty() {
            return later;
        }
        let mut failed = self.run(host, session, &shared).err().map(|error| (shared.title.clone(), error));
        // With one change it is that one which failed; with several it may be any, unless it failed on its own steps.
        let mut culprit = pending.len() == 1;
        while failed.is_none()
            && let Some(((ticket, volume), then)) = pending.front()
        {
            match self.run(host, session, then) {
                Ok(()) => {
                    ticket.call(Turn::Answered(Ok((true, *volume))));
                    pending.pop_front();
                }
                Err(error) => {
                    failed = Some((then.title.clone(), exec::Failed { begun: true, ..error }));
                    culprit = true;
                }
            }
        }
        let Some(failed) = failed else { return later };
        let settled = self.recover(host, session);
        let mut failed = Some(failed).filter(|_| culprit);
        for ((ticket, volume), _) in pending {
            let own = failed.take();
            let answer = if self.read(|catalog| ticket.request.is_done(catalog, volume))
                || defect("a batch that failed is acknowledged")
            {
                Ok((true, volume))
            } else if let Some((title, error)) = own {
                Err(error.titled(title, settled))
            } else {
                self.by_itself(host, session, &ticket.request)
            };
            ticket.call(Turn::Answered(answer));
        }
        later
    }

    /// What a change needs before it can be planned: the VG usable and settled, and what the kernel has of it.
    fn ready<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session) -> Result<Kernel, EngineError> {
        self.settle_first(host, session);
        self.usable(session, &[vol_types::VgState::Ready])?;
        if defect("the clock decides") && self.read(|catalog| catalog.vg().created_at > host.now()) {
            return Err(Refusal::busy("the clock has gone back").into());
        }
        Ok(self.observe(host)?)
    }

    fn by_itself<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session, request: &ThinRequest) -> Answer {
        let kernel = self.ready(host, session)?;
        let change = match self.read(|catalog| request.plan(catalog, &kernel, &Batch::default()))? {
            Wanted::Change(change) => change,
            Wanted::Unchanged(id) => return unchanged(session, id),
        };
        let volume = change.volume;
        let plan = thin::alone(*change);
        match self.run(host, session, &plan) {
            Ok(()) => Ok((true, volume)),
            Err(failed) => {
                let settled = self.recover(host, session);
                if self.read(|catalog| request.is_done(catalog, volume)) {
                    return Ok((true, volume));
                }
                Err(failed.of(&plan, settled))
            }
        }
    }
}

/// That a volume is there already can be said only of a VG that takes changes. In a frozen one a deletion that failed may yet
/// turn out to be done when the copies are read again, and with it goes what was called there.
fn unchanged(session: &Session, id: VolumeId) -> Answer {
    match session.store.as_ref().and_then(crate::store::Store::frozen) {
        None => Ok((false, id)),
        Some(reason) => Err(Refusal::new(
            vol_core::RefusalCode::Degraded,
            format!("whether the volume is there cannot be told for sure: {reason}"),
        )
        .hint("run `volctl pv scan` or restart volumed, which reads the metadata again; then ask again")
        .into()),
    }
}
