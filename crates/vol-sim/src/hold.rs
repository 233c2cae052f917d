//! Effects that are kept waiting, so that tests can look at what others do meanwhile.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::EffectKind;
use crate::host::SimHost;

/// A test that waits longer for an effect waits in vain.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Holds {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    held: Vec<Held>,
}

/// What is kept waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Effect(EffectKind),
    /// A device is opened for reading.
    Opening,
    /// The status of a dm device is asked for.
    Looking,
}

struct Held {
    number: u64,
    doing: Doing,
    /// A part of the device's name; empty for any.
    device: String,
    waiting: u32,
}

impl Holds {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the effect may begin.
    pub fn pass(&self, kind: EffectKind, device: &Path) {
        self.wait(Doing::Effect(kind), &device.to_string_lossy());
    }

    /// Returns when the device may be opened for reading.
    pub fn pass_reader(&self, device: &Path) {
        self.wait(Doing::Opening, &device.to_string_lossy());
    }

    /// Returns when the status of the dm device may be asked for.
    pub fn pass_look(&self, uuid: &str) {
        self.wait(Doing::Looking, uuid);
    }

    fn wait(&self, doing: Doing, device: &str) {
        let mut state = self.lock();
        let wanted = |held: &Held| held.doing == doing && device.contains(&held.device);
        let Some(held) = state.held.iter_mut().find(|held| wanted(held)) else { return };
        held.waiting += 1;
        let number = held.number;
        self.changed.notify_all();
        while state.held.iter().any(|held| held.number == number) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Effects are kept waiting until it is dropped.
#[must_use]
pub struct Hold {
    holds: Arc<Holds>,
    number: u64,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl Hold {
    /// How many effects wait.
    pub fn waiting(&self) -> u32 {
        self.holds.lock().held.iter().find(|held| held.number == self.number).map_or(0, |held| held.waiting)
    }

    /// Waits until so many do.
    ///
    /// # Panics
    /// If they do not come.
    #[track_caller]
    pub fn until(&self, count: u32) {
        let begun = Instant::now();
        let mut state = self.holds.lock();
        while state.held.iter().any(|held| held.number == self.number && held.waiting < count) {
            assert!(begun.elapsed() < PATIENCE, "the effect that was to be held did not come");
            state = self
                .holds
                .changed
                .wait_timeout(state, Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.lock().held.retain(|held| held.number != self.number);
        self.holds.changed.notify_all();
    }
}

impl SimHost {
    /// Keeps effects of this kind waiting until what it gives is dropped, those on devices (see [`SimHost::fail_device`]) with `device`
    /// in their name. Effects of other threads go on. A write through a descriptor is not kept.
    pub fn hold(&self, kind: EffectKind, device: &str) -> Hold {
        self.keep_waiting(Doing::Effect(kind), device)
    }

    /// A device that hangs: whoever opens one with `device` in its name for reading waits until what it gives is dropped.
    pub fn hold_readers(&self, device: &str) -> Hold {
        self.keep_waiting(Doing::Opening, device)
    }

    /// A dm device whose status does not come: whoever asks for that of one with `uuid` in its uuid waits until what it gives is
    /// dropped.
    pub fn hold_looks(&self, uuid: &str) -> Hold {
        self.keep_waiting(Doing::Looking, uuid)
    }

    fn keep_waiting(&self, doing: Doing, device: &str) -> Hold {
        let mut state = self.holds.lock();
        state.next += 1;
        let number = state.next;
        state.held.push(Held { number, doing, device: device.to_owned(), waiting: 0 });
        Hold { holds: self.holds.clone(), number }
    }
}
