//! Claims: who works on a volume without holding the session of its VG (`docs/concurrency.md`).
//!
//! A claim is made while the session is held, for all of what a plan works on at once, and by somebody who holds no other. Whoever
//! finds something claimed lets go of the session before it waits. So nobody waits who holds what another one waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vol_core::{Catalog, Plan, Refusal, Scope};
use vol_types::{ObjectKey, PvId, VolumeId, defect};

use crate::exec::{self, Apart, Failed, Session};
use crate::host::HostMut;
use crate::vg::OpenVg;

/// What is claimed in one VG.
#[derive(Default)]
pub struct Claims {
    claimed: Mutex<Claimed>,
    ended: Condvar,
}

/// What is claimed at one moment.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    objects: BTreeSet<ObjectKey>,
    mount_points: BTreeSet<PathBuf>,
    /// Claims that have ended so far.
    ended: u64,
}

impl Claimed {
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.mount_points.is_empty()
    }

    pub fn has_volume(&self, id: VolumeId) -> bool {
        self.objects.contains(&ObjectKey::Volume(id))
    }

    /// Whether something that works on this has to wait.
    pub fn meets(&self, scope: &Scope, catalog: &Catalog) -> bool {
        let below = |key: &ObjectKey| match key {
            ObjectKey::Volume(id) => {
                let pool = catalog.volume(*id).and_then(vol_types::Volume::pool);
                pool.is_some_and(|pool| scope.pools_down.contains(&pool))
            }
            _ => false,
        };
        !self.objects.is_disjoint(&scope.objects)
            || !self.mount_points.is_disjoint(&scope.mount_points)
            || (!scope.pools_down.is_empty() && self.objects.iter().any(below))
    }

    /// What recovery has to leave alone: somebody is at work on it.
    pub fn objects(&self) -> &BTreeSet<ObjectKey> {
        &self.objects
    }
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, Claimed> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is claimed now. While the session is held nothing is added to it.
    pub fn now(&self) -> Claimed {
        if defect("claims are not looked at") {
            return Claimed::default();
        }
        self.lock().clone()
    }

    /// Whether a claim has ended since.
    pub fn has_one_ended(&self, since: &Claimed) -> bool {
        self.lock().ended != since.ended
    }

    /// Waits until a claim has ended that was there at `then`.
    pub fn wait(&self, then: &Claimed) {
        let mut claimed = self.lock();
        while claimed.ended == then.ended && !claimed.is_empty() {
            claimed = self.ended.wait(claimed).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A claim; it ends when this is dropped.
#[must_use]
pub struct Claim<'a> {
    vg: &'a OpenVg,
    scope: Scope,
}

impl OpenVg {
    /// Claims what a plan works on. The session is held, and nothing of it is claimed.
    pub(crate) fn claim(&self, scope: Scope) -> Claim<'_> {
        self.claim_for_another(&scope);
        self.adopt(scope)
    }

    /// As [`OpenVg::claim`], for a thread that adopts it.
    pub(crate) fn claim_for_another(&self, scope: &Scope) {
        let mut claimed = self.claims.lock();
        claimed.objects.extend(scope.objects.iter().copied());
        claimed.mount_points.extend(scope.mount_points.iter().cloned());
    }

    /// The claim that was made by [`OpenVg::claim_for_another`].
    pub(crate) const fn adopt(&self, scope: Scope) -> Claim<'_> {
        Claim { vg: self, scope }
    }

    /// How many requests wait for others, and how many objects are being worked on apart from the rest (`docs/concurrency.md`).
    pub fn at_work(&self) -> (usize, usize) {
        (self.queue.count(), self.claims.lock().objects.len())
    }

    /// Somebody waits for this volume: if it waits for its turn to be formatted, it is its turn next.
    pub fn hurry(&self, volume: VolumeId) {
        self.formats.hurry([volume]);
    }

    /// What is claimed now.
    pub(crate) fn claimed(&self) -> Claimed {
        self.claims.now()
    }
}

impl OpenVg {
    /// Carries out a plan that goes apart: the session is let go of while its steps apart are taken. The claim ends before the session
    /// is given back, so that who recovers what failed does not take it for another's work.
    pub(crate) fn run_apart<'a, H: HostMut + ?Sized>(
        &'a self,
        host: &H,
        mut session: MutexGuard<'a, Session>,
        plan: &Plan,
        claim: Claim<'a>,
    ) -> (MutexGuard<'a, Session>, Result<(), Failed>) {
        let plan = &*exec::as_executed(plan);
        let mut steps = plan.steps.iter().enumerate().peekable();
        let mut result = Ok(());
        while let Some((at, step)) = steps.next()
            && result.is_ok()
        {
            if !step.action.is_apart() {
                result = exec::one(host, &mut session, self.catalog_lock(), plan, at, step);
                continue;
            }
            let numbers: BTreeMap<PvId, _> = session.pvs.iter().map(|(id, pv)| (*id, pv.identity.dev)).collect();
            let gates = session.gates.clone();
            drop(session);
            let pv_number = |id| numbers.get(&id).copied();
            let apart = Apart { host, gates: &gates, pv_number: &pv_number, catalog: self.catalog_lock() };
            result = exec::one_apart(&apart, plan, at, step);
            while result.is_ok()
                && let Some((at, step)) = steps.next_if(|(_, step)| step.action.is_apart())
            {
                result = exec::one_apart(&apart, plan, at, step);
            }
            session = self.session();
        }
        drop(claim);
        (session, result.inspect_err(|failed| self.audits().note(failed)))
    }

    /// Refuses what would take the VG from under somebody's work.
    pub(crate) fn nobody_at_work(&self) -> Result<(), Refusal> {
        let name = self.read(|catalog| catalog.vg().name.clone());
        if !self.in_care().is_empty() {
            return Err(Refusal::busy(format!("a pool of volume group {name} is just being checked or repaired"))
                .hint("try again when that is done"));
        }
        if self.claimed().is_empty() {
            return Ok(());
        }
        Err(Refusal::busy(format!("volumes of volume group {name} are just being worked on"))
            .hint("try again in a moment"))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut claimed = self.vg.claims.lock();
        for object in &self.scope.objects {
            claimed.objects.remove(object);
        }
        for mount_point in &self.scope.mount_points {
            claimed.mount_points.remove(mount_point);
        }
        claimed.ended += 1;
        drop(claimed);
        self.vg.claims.ended.notify_all();
        self.vg.queue.unpark();
    }
}
