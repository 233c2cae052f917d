//! How many file systems are made at once.
//!
//! mkfs and what udev does about it want the processor. If as many ran as volumes are asked for at once, the transactions that put the
//! others on record would have to wait for all of them; so they take turns, and who asks for a hundred volumes soon finds a hundred.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vol_types::PoolId;

/// For each processor.
const PER_PROCESSOR: usize = 2;

/// Those that are being made, for each pool by itself: in one that is full they wait for space, and nobody else waits with them.
#[derive(Debug, Default)]
pub struct Formats {
    at_work: Mutex<BTreeMap<PoolId, usize>>,
    ended: Condvar,
}

/// The right to make one, until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Formatting<'a> {
    of: &'a Formats,
    pool: PoolId,
}

impl Formats {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PoolId, usize>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until fewer are being made in the pool than a host with so many processors makes at once.
    pub fn begin(&self, pool: PoolId, processors: usize) -> Formatting<'_> {
        let most = processors.max(1) * PER_PROCESSOR;
        let mut at_work = self.lock();
        while at_work.get(&pool).is_some_and(|count| *count >= most) {
            at_work = self.ended.wait(at_work).unwrap_or_else(PoisonError::into_inner);
        }
        *at_work.entry(pool).or_default() += 1;
        Formatting { of: self, pool }
    }
}

impl Drop for Formatting<'_> {
    fn drop(&mut self) {
        let mut at_work = self.of.lock();
        match at_work.get_mut(&self.pool) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                at_work.remove(&self.pool);
            }
        }
        drop(at_work);
        self.of.ended.notify_all();
    }
}
