//! How far a recovery has come, for who waits for it to end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is being done, and since when.
#[derive(Debug)]
pub struct Progress(Mutex<(String, Instant)>);

impl Default for Progress {
    fn default() -> Self {
        Self(Mutex::new((String::new(), Instant::now())))
    }
}

impl Progress {
    /// Something new has begun.
    pub fn tell(&self, what: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (what, Instant::now());
    }
    /// What was begun last, and how long ago.
    pub fn last(&self) -> (String, Duration) {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (last.0.clone(), last.1.elapsed())
    }
}
