//! What is done in the background, that nobody asked for: checkpoints, what is owed to the disks, what could not be settled before.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::OpenVg;
use crate::exec::Session;
use crate::host::{HostMut, HostResult};
use crate::observe::Look;
use crate::store::{self, CheckpointJob, Store};

impl OpenVg {
    /// Carries out the checkpoint that is under way or wanted, without keeping changes waiting: the VG is only held to begin and
    /// to end it. `true` if there was one.
    pub fn maintain<H: HostMut + ?Sized>(&self, host: &H) -> bool {
        let Some(job) = self.checkpoint_job() else { return false };
        loop {
            let mut step = store::lock(&job);
            if step.is_done() {
                break;
            }
            if let Err(error) = step.advance(host) {
                tracing::error!(%error, "a checkpoint cannot be written");
                break;
            }
        }
        let mut session = self.session();
        if let Some(store) = session.store.as_mut()
            && store.is_under_way(&job)
            && let Err(error) = store.finish_checkpoint(host)
        {
            tracing::error!(%error, "the checkpoint could not be written; the log goes on");
        }
        true
    }

    /// The checkpoint under way, begun if one is wanted.
    pub fn checkpoint_job(&self) -> Option<Arc<Mutex<CheckpointJob>>> {
        self.session().store.as_mut()?.checkpoint_job(&self.catalog)
    }

    /// Ever less often: what has been in the way for an hour will not be gone in five seconds, and each try takes the VG.
    fn retry_is_due(&self) -> bool {
        let round = self.rounds_unsettled.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        round.is_power_of_two() || round.is_multiple_of(64)
    }

    /// Refreshes what readers see, and tries again what could not be settled before. `look`: what was seen of the kernel since
    /// [`OpenVg::begin_look`]; without one it is looked here.
    pub(crate) fn refresh<H: HostMut + ?Sized>(&self, host: &H, look: Option<&HostResult<Look>>) {
        // A change under way refreshes at its end; the timer does not wait for it.
        if let Some(mut session) = self.try_session().filter(|session| !session.closed) {
            if self.unsettled() {
                if self.retry_is_due() {
                    self.recover(host, &mut session);
                }
            } else {
                self.rounds_unsettled.store(0, Ordering::Relaxed);
            }
            // Where changes come one after the other, each writes the end of the one before.
            if session.store.as_mut().is_some_and(Store::owes_for_long) {
                self.settle_owed(host, &mut session);
            }
            self.refresh_from(host, &session, look);
        }
    }

    /// Makes durable what waits for the next commit. If it cannot be, that is seen when the store is looked at; a start comes to the
    /// same.
    pub(crate) fn settle_owed<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session) {
        if let Some(store) = session.store.as_mut().filter(|store| store.frozen().is_none())
            && let Err(error) = store.settle(host, &self.catalog)
        {
            tracing::error!(%error, "the end of a transaction cannot be recorded");
        }
    }
}
