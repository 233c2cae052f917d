//! Changes of volumes that wait for each other share a transaction.
//!
//! Whoever comes first leads: it takes what has come in meanwhile as one batch, carries it out, answers everybody in it, and
//! hands the lead to whoever waits next. So under load one commit, one compare-and-swap and one status check serve up to
//! [`thin::BATCH_MAX`] requests; alone, a request costs what it always did.
//!
//! What follows for one volume alone, mkfs above all, is done by the one who asked for it, apart from the session, with the volume
//! claimed. A request about a volume that is claimed is parked until a claim ends.
//!
//! A batch that fails is settled as after any failure; then each of its requests is made by itself, so that one that cannot
//! be does not take the others with it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use vol_core::plan::thin::{self, Batch, ThinChange};
use vol_core::plan::trash::Deletion;
use vol_core::plan::volume::Created;
use vol_core::plan::{Kernel, Plan, clone, pool, snapshot, volume};
use vol_core::{Action, Catalog, Refusal, Scope, VolumeName};
use vol_types::{IntentId, ObjectKey, VolumeId, VolumeState, defect};

use crate::engine::find_volume;
use crate::error::EngineError;
use crate::exec::{self, Session};
use crate::host::HostMut;
use crate::observe::Interest;
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
#[derive(Debug)]
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

    /// Volumes that there are, and that nobody else may be at work on.
    fn about<'a>(&self, catalog: &'a Catalog) -> impl Iterator<Item = VolumeId> + use<'a> {
        let plain = |name: &vol_types::Name| VolumeName { volume: name.clone(), snapshot: None };
        let (names, purged) = match self {
            Self::Create(request) => (vec![plain(&request.name)], None),
            Self::Clone(request) => (vec![plain(&request.name), request.of.clone()], None),
            Self::Snapshot(all) => (all.iter().flat_map(|one| [one.full_name(), one.origin_name()]).collect(), None),
            Self::Delete { name, .. } => (vec![name.clone()], None),
            Self::Purge { deletion, .. } => (Vec::new(), Some(deletion.volume)),
        };
        let named = names.into_iter().filter_map(|name| catalog.volume_named(&name).map(|volume| volume.id));
        named.chain(purged)
    }

    /// What has to be known of the kernel to plan it. `None`: all of it.
    fn interest(&self, catalog: &Catalog) -> Option<Interest> {
        let mut interest = Interest::in_volumes(catalog, self.about(catalog))?;
        if let Self::Create(request) = self {
            // Without a pool it is refused, whatever there is.
            interest.pools.extend(pool::find(catalog, request.pool.as_ref()).map(|pool| pool.id));
        }
        interest.is_enough(catalog).then_some(interest)
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

/// Who asks, for one request or for several at once.
#[derive(Default)]
struct Caller {
    state: Mutex<CallerState>,
    called: Condvar,
}

#[derive(Default)]
struct CallerState {
    /// One for each of its requests.
    turns: Vec<Turn>,
    /// It is to carry out the next batch.
    leads: bool,
    /// It carries out what follows for one of its requests alone, and cannot lead meanwhile.
    away: bool,
}

enum Turn {
    Waiting,
    /// The transaction is over; this follows, for this request alone.
    Then(Then),
    /// Which is being done.
    Taken,
    Answered(Answer),
}

/// What follows on a transaction for one of its changes alone. Its volume is claimed already.
struct Then {
    plan: Plan,
    volume: VolumeId,
}

/// What a caller is called for.
enum Called {
    Lead,
    Then(usize, Then),
    Over(Vec<Answer>),
}

impl Caller {
    fn state(&self) -> MutexGuard<'_, CallerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) -> Called {
        let mut state = self.state();
        loop {
            if std::mem::take(&mut state.leads) {
                return Called::Lead;
            }
            if let Some(at) = state.turns.iter().position(|turn| matches!(turn, Turn::Then(_)))
                && let Some(turn) = state.turns.get_mut(at)
                && let Turn::Then(then) = std::mem::replace(turn, Turn::Taken)
            {
                state.away = true;
                return Called::Then(at, then);
            }
            if state.turns.iter().all(|turn| matches!(turn, Turn::Answered(_))) {
                let answers = std::mem::take(&mut state.turns).into_iter().filter_map(|turn| match turn {
                    Turn::Answered(answer) => Some(answer),
                    Turn::Waiting | Turn::Then(_) | Turn::Taken => None,
                });
                return Called::Over(answers.collect());
            }
            state = self.called.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A request that waits, and where its answer is left.
struct Ticket {
    request: ThinRequest,
    caller: Arc<Caller>,
    /// Its place among the caller's.
    at: usize,
}

impl Ticket {
    fn call(&self, turn: Turn) {
        if let Some(own) = self.caller.state().turns.get_mut(self.at) {
            *own = turn;
        }
        self.caller.called.notify_all();
    }
    fn answer(&self, answer: Answer) {
        self.call(Turn::Answered(answer));
    }
    fn waits(&self) -> bool {
        matches!(self.caller.state().turns.get(self.at), Some(Turn::Waiting))
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
    /// They wait for somebody's work on a volume, until a claim ends.
    parked: Vec<Arc<Ticket>>,
    /// Somebody leads, and will call the next one.
    led: bool,
}

impl State {
    /// Calls the first one to lead who can.
    fn call_leader(&mut self) {
        for ticket in &self.waiting {
            let mut caller = ticket.caller.state();
            if !caller.away {
                caller.leads = true;
                self.led = true;
                ticket.caller.called.notify_all();
                return;
            }
        }
        // Whoever comes next leads, or comes back.
        self.led = false;
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Queues up; if nobody leads, one of them does.
    fn join(&self, requests: Vec<ThinRequest>) -> Arc<Caller> {
        let caller = Arc::new(Caller::default());
        caller.state().turns.extend(requests.iter().map(|_| Turn::Waiting));
        let mut state = self.state();
        for (at, request) in requests.into_iter().enumerate() {
            state.waiting.push_back(Arc::new(Ticket { request, caller: caller.clone(), at }));
        }
        if !state.led {
            state.call_leader();
        }
        caller
    }
    /// How many requests wait for their transaction, or for somebody's work on a volume.
    pub fn count(&self) -> usize {
        let state = self.state();
        state.waiting.len() + state.parked.len()
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
    /// Whether there were any.
    fn park(&self, tickets: Vec<Arc<Ticket>>) -> bool {
        let any = !tickets.is_empty();
        self.state().parked.extend(tickets);
        any
    }
    /// A claim has ended: what waited for one is looked at again, before what came later.
    pub fn unpark(&self) {
        let mut state = self.state();
        let parked = std::mem::take(&mut state.parked);
        if parked.is_empty() {
            return;
        }
        parked.into_iter().rev().for_each(|ticket| state.waiting.push_front(ticket));
        if !state.led {
            state.call_leader();
        }
    }
    fn pass_lead_on(&self) {
        self.state().call_leader();
    }
    /// Who was away is there again.
    fn is_back(&self, caller: &Caller) {
        let mut state = self.state();
        caller.state().away = false;
        if !state.led && !state.waiting.is_empty() {
            state.call_leader();
        }
    }
    /// Nobody waits for one who is gone.
    fn leave(&self, caller: &Arc<Caller>) {
        let mut state = self.state();
        let others = |ticket: &Arc<Ticket>| !Arc::ptr_eq(&ticket.caller, caller);
        state.waiting.retain(others);
        state.parked.retain(others);
        if std::mem::take(&mut caller.state().leads) {
            state.call_leader();
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
        for ticket in self.batch.iter().filter(|ticket| ticket.waits()) {
            let defect = Refusal::busy("the request was given up because of a defect: the daemon's log has it");
            ticket.answer(Err(defect.hint("see what became of it, and try again").into()));
        }
        self.queue.pass_lead_on();
    }
}

/// Whatever happens to a caller: what it was called for goes to another, and what was claimed for it is free.
struct Present<'a> {
    vg: &'a OpenVg,
    caller: Arc<Caller>,
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.vg.queue.leave(&self.caller);
        let turns = std::mem::take(&mut self.caller.state().turns);
        for turn in turns {
            if let Turn::Then(then) = turn {
                drop(self.vg.adopt(scope_of(&then)));
            }
        }
    }
}

fn scope_of(then: &Then) -> Scope {
    let mut scope = then.plan.scope();
    scope.objects.insert(ObjectKey::Volume(then.volume));
    scope
}

impl OpenVg {
    /// Makes a change of a pool's thin ids, together with those that wait at the same time.
    pub fn submit<H: HostMut + ?Sized>(&self, host: &H, request: ThinRequest) -> Answer {
        let gone = || Refusal::busy("the request was given up because of a defect: the daemon's log has it");
        self.submit_all(host, vec![request]).pop().unwrap_or_else(|| Err(gone().into()))
    }

    /// As [`OpenVg::submit`], for several requests that are there at once; their answers in the same order.
    pub fn submit_all<H: HostMut + ?Sized>(&self, host: &H, requests: Vec<ThinRequest>) -> Vec<Answer> {
        let asked = requests.clone();
        let present = Present { vg: self, caller: self.queue.join(requests) };
        loop {
            match present.caller.wait() {
                Called::Lead => self.lead(host),
                Called::Then(at, then) => {
                    let answer = self.go_on(host, asked.get(at), then);
                    if let Some(turn) = present.caller.state().turns.get_mut(at) {
                        *turn = Turn::Answered(answer);
                    }
                    self.queue.is_back(&present.caller);
                }
                Called::Over(answers) => return answers,
            }
        }
    }

    fn lead<H: HostMut + ?Sized>(&self, host: &H) {
        let mut session = self.session();
        let mut lead = Lead { queue: &self.queue, batch: self.queue.take(thin::BATCH_MAX) };
        self.park(&mut lead.batch);
        let mut interest = self.interest(lead.batch.iter().map(|ticket| &ticket.request));
        let later = self.carry_out(host, &mut session, &lead.batch, &mut interest);
        lead.batch.retain(|ticket| !later.iter().any(|other| Arc::ptr_eq(ticket, other)));
        self.queue.put_back(later);
        self.refresh_after(host, &session, interest.as_ref());
        drop(session);
        drop(lead);
    }

    /// What has to be known of the kernel to plan all of these. `None`: all of it.
    fn interest<'a>(&self, requests: impl Iterator<Item = &'a ThinRequest>) -> Option<Interest> {
        self.read(|catalog| {
            requests
                .map(|request| request.interest(catalog))
                .try_fold(Interest::default(), |all, one| Some(all.with(one?)))
        })
    }

    /// Takes out what has to wait for somebody's work on a volume.
    fn park(&self, batch: &mut Vec<Arc<Ticket>>) {
        let claimed = self.claimed();
        let waits =
            |ticket: &Arc<Ticket>| self.read(|catalog| ticket.request.about(catalog).any(|id| claimed.has_volume(id)));
        let (parked, free): (Vec<_>, _) = std::mem::take(batch).into_iter().partition(waits);
        *batch = free;
        let wanted = |ticket: &Arc<Ticket>| self.read(|catalog| ticket.request.about(catalog).collect::<Vec<_>>());
        self.formats.hurry(parked.iter().flat_map(wanted));
        if self.queue.park(parked) && self.claims.has_one_ended(&claimed) {
            self.queue.unpark();
        }
    }

    /// What follows on a transaction for one change alone; others go on meanwhile.
    fn go_on<H: HostMut + ?Sized>(&self, host: &H, request: Option<&ThinRequest>, then: Then) -> Answer {
        let claim = self.adopt(scope_of(&then));
        // Before the session, which others need meanwhile.
        let formats = then.plan.steps.iter().any(|step| matches!(step.action, Action::Mkfs { .. }));
        let pool =
            self.read(|catalog| catalog.volume(then.volume).and_then(vol_types::Volume::pool)).filter(|_| formats);
        let _formatting = pool.map(|pool| self.formats.begin(then.volume, pool, host.processors()));
        let session = self.session();
        let (mut session, result) = self.run_apart(host, session, &then.plan, claim);
        let mut interest = self.read(|catalog| Interest::in_volumes(catalog, [then.volume]));
        let answer = match result {
            Ok(()) => Ok((true, then.volume)),
            Err(failed) => {
                interest = None;
                let settled = self.recover(host, &mut session);
                let is_done = |catalog: &Catalog| request.is_some_and(|request| request.is_done(catalog, then.volume));
                if self.read(is_done) || defect("a batch that failed is acknowledged") {
                    Ok((true, then.volume))
                } else {
                    Err(exec::Failed { begun: true, ..failed }.of(&then.plan, settled))
                }
            }
        };
        self.refresh_after(host, &session, interest.as_ref());
        answer
    }

    /// The plan of a request by itself.
    pub fn plan_of<H: HostMut + ?Sized>(&self, host: &H, request: &ThinRequest) -> Result<Plan, EngineError> {
        let (plan, ()) = self.change(host, true, |catalog, kernel, _| {
            let plan = match request.plan(catalog, kernel, &Batch::default())? {
                Wanted::Change(change) => thin::as_requested(*change),
                Wanted::Unchanged(_) => Plan::default(),
            };
            Ok((plan, ()))
        })?;
        Ok(plan)
    }

    /// Answers all tickets, or calls for what follows on them, but for those that it gives back, which have to come after the others.
    /// `interest`: what they concern; `None` after that if more may have changed.
    fn carry_out<H: HostMut + ?Sized>(
        &self,
        host: &H,
        session: &mut Session,
        tickets: &[Arc<Ticket>],
        interest: &mut Option<Interest>,
    ) -> Vec<Arc<Ticket>> {
        let Ok(kernel) = self.ready(host, session, interest) else {
            *interest = None;
            // Each of them hears for itself what is in the way.
            for ticket in tickets {
                ticket.call(self.by_itself(host, session, &ticket.request));
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
            let wanted = self.read(|catalog| ticket.request.plan(catalog, &kernel, &batch));
            #[cfg(feature = "defects")]
            if interest.is_some() {
                self.same_from_all(host, &wanted, |kernel| {
                    self.read(|catalog| ticket.request.plan(catalog, kernel, &batch))
                });
            }
            match wanted {
                Ok(Wanted::Change(change)) => {
                    planned.push((ticket, change.volume));
                    batch.add(*change);
                }
                Ok(Wanted::Unchanged(id)) => ticket.answer(unchanged(session, id)),
                Err(refusal) => ticket.answer(Err(refusal.into())),
            }
        }
        let (shared, each) = batch.plan();
        if planned.is_empty() {
            return later;
        }
        let Err(failed) = self.run(host, session, &shared) else {
            for ((ticket, volume), plan) in planned.into_iter().zip(each) {
                ticket.call(self.followed_by(plan, volume));
            }
            return later;
        };
        *interest = None;
        let settled = self.recover(host, session);
        // With one change it is that one which failed; with several it may be any.
        let mut failed = Some(failed).filter(|_| planned.len() == 1);
        for (ticket, volume) in planned {
            let own = failed.take();
            let turn = if self.read(|catalog| ticket.request.is_done(catalog, volume))
                || defect("a batch that failed is acknowledged")
            {
                Turn::Answered(Ok((true, volume)))
            } else if let Some(error) = own {
                Turn::Answered(Err(error.of(&shared, settled)))
            } else {
                self.by_itself(host, session, &ticket.request)
            };
            ticket.call(turn);
        }
        later
    }

    /// What a change comes to whose transaction is over. If more is to be done to its volume, that is claimed before anybody else can
    /// plan on it.
    fn followed_by(&self, plan: Plan, volume: VolumeId) -> Turn {
        if plan.is_empty() {
            return Turn::Answered(Ok((true, volume)));
        }
        let then = Then { plan, volume };
        self.claim_for_another(&scope_of(&then));
        Turn::Then(then)
    }

    /// What a change needs before it can be planned: the VG usable and settled, and what the kernel has of it.
    /// Of the kernel what `interest` says, which is `None` afterwards if more than that was changed here.
    fn ready<H: HostMut + ?Sized>(
        &self,
        host: &H,
        session: &mut Session,
        interest: &mut Option<Interest>,
    ) -> Result<Kernel, EngineError> {
        if self.settle_first(host, session) {
            *interest = None;
        }
        self.usable(session, &[vol_types::VgState::Ready])?;
        if defect("the clock decides") && self.read(|catalog| catalog.vg().created_at > host.now()) {
            return Err(Refusal::busy("the clock has gone back").into());
        }
        Ok(self.observe_for(host, interest.as_ref())?)
    }

    fn by_itself<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session, request: &ThinRequest) -> Turn {
        let planned = self
            .ready(host, session, &mut None)
            .and_then(|kernel| Ok(self.read(|catalog| request.plan(catalog, &kernel, &Batch::default()))?));
        let change = match planned {
            Ok(Wanted::Change(change)) => change,
            Ok(Wanted::Unchanged(id)) => return Turn::Answered(unchanged(session, id)),
            Err(error) => return Turn::Answered(Err(error)),
        };
        let volume = change.volume;
        let (shared, mut each) = Batch::from(*change).plan();
        let Err(failed) = self.run(host, session, &shared) else {
            return self.followed_by(each.pop().unwrap_or_default(), volume);
        };
        let settled = self.recover(host, session);
        if self.read(|catalog| request.is_done(catalog, volume)) {
            return Turn::Answered(Ok((true, volume)));
        }
        Turn::Answered(Err(failed.of(&shared, settled)))
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
