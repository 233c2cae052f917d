//! How many file systems are made at once.
//!
//! mkfs and what udev does about it want the processor. If as many ran as volumes are asked for at once, the transactions that put the
//! others on record would have to wait for all of them; so they take turns, and who asks for a hundred volumes soon finds a hundred.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vol_types::{PoolId, VolumeId};

/// For each processor.
const PER_PROCESSOR: usize = 2;

/// Those of each pool by itself: in one that is full they wait for space, and nobody else waits with them.
#[derive(Debug, Default)]
pub struct Formats {
    pools: Mutex<BTreeMap<PoolId, Pool>>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    at_work: usize,
    /// In the order in which it is their turn.
    waiting: Vec<VolumeId>,
}

/// The right to make one, until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Formatting<'a> {
    of: &'a Formats,
    pool: PoolId,
}

impl Formats {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PoolId, Pool>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the volume's turn: until fewer are being made in its pool than a host with so many processors makes at once.
    pub fn begin(&self, volume: VolumeId, pool: PoolId, processors: usize) -> Formatting<'_> {
        let most = processors.max(1) * PER_PROCESSOR;
        let mut pools = self.lock();
        pools.entry(pool).or_default().waiting.push(volume);
        loop {
            let own = pools.entry(pool).or_default();
            if own.at_work < most && own.waiting.first() == Some(&volume) {
                own.waiting.remove(0);
                own.at_work += 1;
                drop(pools);
                // It may be the next one's turn too.
                self.changed.notify_all();
                return Formatting { of: self, pool };
            }
            pools = self.changed.wait(pools).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Somebody waits for these: if they wait for their turn, it is theirs next.
    pub fn hurry(&self, volumes: impl IntoIterator<Item = VolumeId>) {
        let mut pools = self.lock();
        let mut moved = false;
        for volume in volumes {
            for pool in pools.values_mut() {
                // Who asks again and again wakes nobody if it is next already.
                if let Some(at) = pool.waiting.iter().position(|one| *one == volume).filter(|at| *at > 0) {
                    pool.waiting[..=at].rotate_right(1);
                    moved = true;
                }
            }
        }
        drop(pools);
        if moved {
            self.changed.notify_all();
        }
    }
}

impl Drop for Formatting<'_> {
    fn drop(&mut self) {
        let mut pools = self.of.lock();
        if let Some(pool) = pools.get_mut(&self.pool) {
            pool.at_work -= 1;
            if pool.at_work == 0 && pool.waiting.is_empty() {
                pools.remove(&self.pool);
            }
        }
        drop(pools);
        self.of.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn they_have_their_turns_in_order_but_who_is_waited_for_is_next() {
        let (formats, pool) = (Formats::default(), PoolId::from_uuid(uuid::Uuid::new_v4()));
        let waiting = || formats.lock().get(&pool).map_or(0, |pool| pool.waiting.len());
        let volumes: Vec<_> = (0..5).map(|_| VolumeId::from_uuid(uuid::Uuid::new_v4())).collect();
        let first = formats.begin(volumes[0], pool, 1);
        let second = formats.begin(volumes[1], pool, 1);
        // Not those of another pool.
        drop(formats.begin(volumes[4], PoolId::from_uuid(uuid::Uuid::new_v4()), 1));
        std::thread::scope(|scope| {
            let (say, said) = channel();
            for n in 2..5 {
                let (say, volumes, formats) = (say.clone(), &volumes, &formats);
                scope.spawn(move || {
                    let turn = formats.begin(volumes[n], pool, 1);
                    say.send(n).unwrap();
                    drop(turn);
                });
                while waiting() < n - 1 {
                    std::thread::yield_now();
                }
            }
            formats.hurry([volumes[4], VolumeId::from_uuid(uuid::Uuid::new_v4())]);
            drop(first);
            let order: Vec<_> = (0..3).map(|_| said.recv_timeout(SOON).unwrap()).collect();
            assert_eq!(order, [4, 2, 3]);
        });
        drop(second);
        assert!(formats.lock().is_empty());
    }
}
