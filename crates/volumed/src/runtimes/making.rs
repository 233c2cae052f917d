//! Volumes that are being made for an engine, by threads of their own: an engine waits for an answer no longer than it likes, and what takes
//! longer goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vol_api::{ApiError, ErrorCode};

/// How many are made at once; each has a thread.
const MOST: usize = 256;

type Outcome = Result<(), ApiError>;

/// All of them, by a key of the caller's.
#[derive(Default)]
pub struct Makings(Mutex<BTreeMap<String, Arc<Making>>>);

/// One of them.
#[derive(Default)]
pub struct Making {
    outcome: Mutex<Option<Outcome>>,
    ended: Condvar,
    /// Nobody waits for it any more: what becomes of it the log says.
    left: AtomicBool,
}

impl Making {
    /// Whoever waited has gone.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// What became of it, if it ends within this time.
    pub fn within(&self, time: Duration) -> Option<Outcome> {
        let until = Instant::now() + time;
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        while outcome.is_none() {
            let left = until.checked_duration_since(Instant::now())?;
            outcome = self.ended.wait_timeout(outcome, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        outcome.clone()
    }

    fn end(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.ended.notify_all();
    }
}

impl Makings {
    /// The one that runs under this key, if one does.
    pub fn running(&self, key: &str) -> Option<Arc<Making>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Begins `work`, unless there is one under this key already: then it is that one.
    ///
    /// # Errors
    /// Too many run, or there is no thread to be had.
    pub fn begin(
        self: &Arc<Self>,
        key: &str,
        work: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Result<Arc<Making>, ApiError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(making) = all.get(key) {
            return Ok(Arc::clone(making));
        }
        let too_much = |why: String| {
            ApiError::new(ErrorCode::NotReady, why)
                .with_hint("ask again in a moment; `volctl job list` shows what is done")
        };
        if all.len() >= MOST {
            return Err(too_much(format!("{MOST} volumes are being made already")));
        }
        let making = Arc::<Making>::default();
        let ending =
            Ending { makings: Arc::clone(self), key: key.to_owned(), making: Arc::clone(&making), outcome: None };
        let thread = std::thread::Builder::new().name("make-volume".to_owned());
        thread
            .spawn(move || {
                let mut ending = ending;
                ending.outcome = Some(work());
            })
            .map_err(|error| too_much(format!("no thread to make the volume: {error}")))?;
        all.insert(key.to_owned(), Arc::clone(&making));
        Ok(making)
    }
}

/// Tells those who wait, however the thread ends.
struct Ending {
    makings: Arc<Makings>,
    key: String,
    making: Arc<Making>,
    outcome: Option<Outcome>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let defect = || Err(ApiError::internal("volumed has a defect here: the volume was not made to its end"));
        let outcome = self.outcome.take().unwrap_or_else(defect);
        if let (Err(error), true) = (&outcome, self.making.left.load(Ordering::Acquire)) {
            tracing::warn!(volume = self.key, %error, "a volume of a container engine was not made to its end");
        }
        // First, so that who finds none under the key finds the volume.
        self.making.end(outcome);
        self.makings.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
