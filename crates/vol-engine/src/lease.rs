//! The lease of a pool's metadata snapshot: the kernel keeps one per pool, so in the daemon one reading at a time has it.
//!
//! It is reserved, read and released under the lease; what a dead daemon left is released when the pool is first looked at after
//! a start. The kernel does not tell who holds one: what is found at a start is taken for ours, what is found later for another
//! program's, and left alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use vol_core::dm::Device;
use vol_core::observed::PoolUsage;
use vol_core::{Action, Plan};
use vol_types::PoolId;

use crate::host::{HostError, HostErrorKind, HostMut, HostResult};
use crate::usage::PoolReading;

/// The leases of one VG's pools.
#[derive(Debug, Default)]
pub struct Leases(Mutex<BTreeMap<PoolId, Arc<Lease>>>);

/// Of one pool.
#[derive(Debug, Default)]
pub struct Lease {
    held: Mutex<Held>,
    /// Plans that take the pool down: nothing is read meanwhile, for the kernel removes no device that is open.
    wanted_back: AtomicU32,
}

/// What the holder of the lease knows.
#[derive(Debug, Default)]
pub struct Held {
    /// A metadata snapshot of ours may still be there: releasing it failed.
    pub unreleased: bool,
    /// What was read last, and when (`HostRead::uptime`).
    pub last: Option<(Duration, HostResult<Arc<PoolReading>>)>,
}

impl Leases {
    pub fn of(&self, pool: PoolId) -> Arc<Lease> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(pool).or_default().clone()
    }

    /// Of pools that are gone.
    pub fn keep(&self, exists: impl Fn(PoolId) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|pool, _| exists(*pool));
    }

    /// Ends the readings of pools that the plan takes down; until what it gives is dropped none begins.
    pub fn stand_aside(&self, plan: &Plan) -> StoodAside {
        let taken_down = plan.steps.iter().filter_map(|step| match step.action {
            Action::RemoveDm { device: Device::Pool(pool) | Device::PoolMetadata(pool) }
            | Action::ReleaseDm { device: Device::Pool(pool) | Device::PoolMetadata(pool) } => Some(pool),
            _ => None,
        });
        let leases: Vec<_> = taken_down.map(|pool| self.of(pool)).collect();
        for lease in &leases {
            lease.wanted_back.fetch_add(1, Ordering::SeqCst);
        }
        for lease in &leases {
            drop(lease.take());
        }
        StoodAside(leases)
    }
}

/// See [`Leases::stand_aside`].
pub struct StoodAside(Vec<Arc<Lease>>);

impl Drop for StoodAside {
    fn drop(&mut self) {
        for lease in &self.0 {
            lease.wanted_back.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Lease {
    /// Waits for who has it.
    pub fn take(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn try_take(&self) -> Option<MutexGuard<'_, Held>> {
        match self.held.try_lock() {
            Ok(held) => Some(held),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether the pool stays.
    pub fn may_read(&self) -> bool {
        self.wanted_back.load(Ordering::SeqCst) == 0
    }
}

impl Held {
    /// Reads with `read` while a metadata snapshot of the pool is held, and releases it whatever comes of that. `usage` is what
    /// the pool says of itself now, and that it takes messages; `ours`: what is held already was left by a daemon that died.
    pub fn with_snapshot<H: HostMut + ?Sized, T>(
        &mut self,
        host: &H,
        pool: PoolId,
        usage: &PoolUsage,
        ours: bool,
        read: impl FnOnce() -> HostResult<T>,
    ) -> HostResult<T> {
        let uuid = Device::Pool(pool).uuid();
        let busy = || {
            HostError::new(
                HostErrorKind::Busy,
                "take a metadata snapshot",
                "another program holds one (thin_dump --metadata-snap, thin_delta); it is tried again later",
            )
        };
        if usage.metadata_snapshot {
            if !ours && !self.unreleased {
                return Err(busy());
            }
            tracing::info!(pool = %uuid, "releasing the metadata snapshot that a daemon left behind");
            self.unreleased = true;
            host.dm_message(&uuid, "release_metadata_snap")?;
        }
        self.unreleased = false;
        match host.dm_message(&uuid, "reserve_metadata_snap") {
            Ok(()) => {}
            Err(error) if error.kind == HostErrorKind::Busy => return Err(busy()),
            Err(error) => {
                // An error may come late. Releasing what is not held is refused (`Invalid`), and does nothing; after both nothing
                // of ours is held, and what is found later is another program's.
                let released = host.dm_message(&uuid, "release_metadata_snap");
                self.unreleased = released.is_err_and(|error| error.kind != HostErrorKind::Invalid);
                return Err(error);
            }
        }
        self.unreleased = true;
        let found = read();
        match host.dm_message(&uuid, "release_metadata_snap") {
            Ok(()) => {
                self.unreleased = false;
                found
            }
            Err(error) => {
                tracing::warn!(pool = %uuid, %error, "the metadata snapshot could not be released; it is tried again");
                found.and(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_plan_that_takes_the_pool_down_ends_the_reading_and_none_begins_until_it_is_done() {
        let pool = PoolId::from_uuid(uuid::Uuid::from_u128(1));
        let leases = Leases::default();
        let lease = leases.of(pool);
        let mut plan = Plan::new("delete it");
        plan.push(Action::RemoveDm { device: Device::Pool(pool) });
        plan.push(Action::RemoveDm { device: Device::PoolMetadata(pool) });
        let (begun, reading) = std::sync::mpsc::channel();
        let aside = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let held = lease.take();
                begun.send(()).unwrap();
                let begin = Instant::now();
                while lease.may_read() && begin.elapsed() < Duration::from_secs(60) {
                    std::thread::yield_now();
                }
                drop(held);
                begin.elapsed()
            });
            reading.recv().unwrap();
            let aside = leases.stand_aside(&plan);
            assert!(reader.join().unwrap() < Duration::from_secs(60), "it was not told");
            aside
        });
        assert!(!lease.may_read());
        drop(aside);
        assert!(lease.may_read());
    }

    #[test]
    fn a_plan_that_leaves_the_pool_alone_waits_for_no_reading() {
        let leases = Leases::default();
        let lease = leases.of(PoolId::from_uuid(uuid::Uuid::from_u128(1)));
        let _reading = lease.take();
        let _aside = leases.stand_aside(&Plan::default());
        assert!(lease.may_read() && lease.try_take().is_none());
    }
}
