//! Compares the pools' own metadata with ours (`docs/spec/pool-transactions.md`, "What else is compared").
//!
//! It is done when a pool has come up or was found up (a start of the daemon), before any of its open intents is settled; every
//! hour after that; and when the kernel's transaction id is not ours. A request never causes it, and readers never wait for it:
//! the catalog is locked for the comparison in memory only.

use std::collections::BTreeMap;
use std::sync::Arc;

use vol_core::dm::Device;
use vol_core::observed::{PoolContents, PoolMode, PoolStatus};
use vol_core::plan::Kernel;
use vol_core::plan::agreement::{self, Findings};
use vol_core::{Catalog, Plan};
use vol_types::{Bytes, ObjectKey, Pool, PoolId, PoolState, Volume, VolumeId, limit};

use crate::error::StepError;
use crate::exec::{self, Failed, Session};
use crate::host::{HostMut, HostResult, MetadataRoot};
use crate::lease::Held;
use crate::observe::{self, Interest, Mapped};
use crate::vg::{OpenVg, Problem};

/// Refreshes between two comparisons of one pool: an hour, at one refresh in five seconds.
const ROUNDS: u32 = 720;
/// Refreshes after a comparison that failed: five minutes.
const ROUNDS_AFTER_FAILURE: u32 = 60;
/// Volumes whose loss is told one by one.
const LOST_SHOWN: usize = 64;

/// One pool's comparison.
#[derive(Debug, Default)]
struct Audit {
    /// What was found the last time that it succeeded.
    findings: Option<Arc<Findings>>,
    /// Why the last attempt did not succeed.
    error: Option<String>,
    /// The transaction id that the kernel told at the last attempt.
    told: Option<u64>,
    /// Refreshes since the last attempt.
    rounds: u32,
}

/// The comparisons of one VG's pools.
#[derive(Debug, Default)]
pub struct Audits(BTreeMap<PoolId, Audit>);

impl Audits {
    /// A step that the kernel refused because the thin id is there tells of a stray, which recovery must not delete.
    pub fn note(&mut self, failed: &Failed) {
        if let StepError::Taken { pool, thin_id } = failed.error {
            let audit = self.0.entry(pool).or_default();
            let mut findings = audit.findings.as_deref().cloned().unwrap_or_default();
            findings.add_stray(thin_id);
            audit.findings = Some(Arc::new(findings));
        }
    }

    /// The pool's metadata are others now, or were looked at by somebody else: they are compared when it is up again.
    pub fn forget(&mut self, pool: PoolId) {
        self.0.remove(&pool);
    }

    pub(crate) fn findings(&self) -> BTreeMap<PoolId, Arc<Findings>> {
        self.0.iter().filter_map(|(id, audit)| Some((*id, audit.findings.clone()?))).collect()
    }

    /// One more refresh has passed. Whether the pool is to be compared again: after an hour, sooner after a failure, and when
    /// its transaction id has become another than ours.
    fn is_due(&mut self, pool: &Pool, status: &PoolStatus) -> bool {
        // A pool that was not found at a start was made since, by us: there is nothing to be found in it yet.
        let audit = self.0.entry(pool.id).or_default();
        audit.rounds = audit.rounds.saturating_add(1);
        let told = transaction(status);
        let strange = told.is_some_and(|id| id != pool.transaction_id) && told != audit.told;
        let patience = if audit.error.is_some() { ROUNDS_AFTER_FAILURE } else { ROUNDS };
        strange || audit.rounds >= patience
    }
}

const fn transaction(status: &PoolStatus) -> Option<u64> {
    match status {
        PoolStatus::Working(usage) => Some(usage.transaction_id),
        PoolStatus::Fail | PoolStatus::Error => None,
    }
}

impl OpenVg {
    /// Executes a plan. What it meets of somebody else's thin ids is known before recovery comes to it.
    pub(crate) fn run<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session, plan: &Plan) -> Result<(), Failed> {
        let _aside = self.leases().stand_aside(plan);
        exec::run(host, session, self.catalog_lock(), plan).inspect_err(|failed| self.audits().note(failed))
    }

    /// Observes the kernel; what was found by comparing is part of it.
    pub(crate) fn observe<H: HostMut + ?Sized>(&self, host: &H) -> HostResult<Kernel> {
        Ok(self.observe_with_mapped(host)?.0)
    }

    /// As [`OpenVg::observe`], with what all active volumes have mapped.
    pub(crate) fn observe_with_mapped<H: HostMut + ?Sized>(&self, host: &H) -> HostResult<(Kernel, Mapped)> {
        let (kernel, mapped) = exec::observe_kernel(host, self.catalog_lock())?;
        Ok((self.with_what_was_found(kernel, &mapped), mapped))
    }

    /// As [`OpenVg::observe`], as far as somebody has to know. `None`: all of it.
    pub(crate) fn observe_for<H: HostMut + ?Sized>(&self, host: &H, interest: Option<&Interest>) -> HostResult<Kernel> {
        match interest {
            None => self.observe(host),
            Some(interest) => {
                let (kernel, mapped) = observe::kernel_of(host, interest)?;
                Ok(self.with_what_was_found(kernel, &mapped))
            }
        }
    }

    /// Adds to what was observed what is remembered of other looks.
    pub(crate) fn with_what_was_found(&self, mut kernel: Kernel, mapped: &Mapped) -> Kernel {
        kernel.findings = self.audits().findings();
        kernel.away = self.away();
        kernel.mapped = self.note_mapped(mapped);
        kernel
    }

    /// What was planned from what it concerns would be planned from all there is (ADR 0016).
    #[cfg(feature = "defects")]
    pub(crate) fn same_from_all<H: HostMut + ?Sized, T: std::fmt::Debug>(
        &self,
        host: &H,
        made: &T,
        again: impl FnOnce(&Kernel) -> T,
    ) {
        if exec::mutation::PLAN_TWICE.load(std::sync::atomic::Ordering::Relaxed)
            && let Ok(kernel) = self.observe(host)
        {
            assert_eq!(format!("{made:?}"), format!("{:?}", again(&kernel)), "it matters what was not looked at");
        }
    }

    /// What volumes with a reserve have mapped: of those that are active by the kernel's word now, of the others by what was seen last.
    fn note_mapped(&self, now: &Mapped) -> BTreeMap<VolumeId, Bytes> {
        let any = self.read(|catalog| catalog.pools().any(|pool| !catalog.members(pool.id).reserve().is_zero()));
        let mut mapped = self.mapped();
        if !any {
            mapped.clear();
            return BTreeMap::new();
        }
        let reserved = |id| self.read(|catalog| catalog.volume(id).is_some_and(|volume| !volume.reserve.is_zero()));
        mapped.retain(|id, _| reserved(*id));
        for (id, sectors) in now {
            if reserved(*id)
                && let Some(bytes) = sectors.to_bytes()
            {
                mapped.insert(*id, bytes);
            }
        }
        mapped.clone()
    }

    /// What the pool's own metadata say of its volumes with a reserve.
    fn note_reserved(&self, pool: &Pool, contents: &PoolContents) {
        if self.read(|catalog| catalog.members(pool.id).reserve().is_zero()) {
            return;
        }
        let found = self.read(|catalog| {
            let reserved = catalog.volumes_of(pool.id).filter(|volume| !volume.reserve.is_zero());
            let of = |volume: &Volume| {
                let thin = contents.thins.get(&volume.thin_id()?)?;
                Some((volume.id, Bytes(thin.mapped_chunks.saturating_mul(pool.chunk_size.get()))))
            };
            reserved.filter_map(of).collect::<Vec<_>>()
        });
        self.mapped().extend(found);
    }

    /// Compares the pools that are up and were not compared yet.
    pub(crate) fn compare_new<H: HostMut + ?Sized>(&self, host: &H, session: &Session, mut kernel: Kernel) -> Kernel {
        let new = |audits: &mut Audits, pool: &Pool, _: &PoolStatus| !audits.0.contains_key(&pool.id);
        if self.compare(host, session, &kernel, true, new) {
            kernel.findings = self.audits().findings();
        }
        kernel
    }

    /// Compares the pools for which it is time, by what was just seen of the kernel.
    pub(crate) fn compare_again<H: HostMut + ?Sized>(&self, host: &H, session: &Session, kernel: &mut Kernel) {
        if self.compare(host, session, kernel, false, Audits::is_due) {
            kernel.findings = self.audits().findings();
        }
    }

    /// `true` if anything was compared. No change runs meanwhile: who calls this has the session.
    fn compare<H: HostMut + ?Sized>(
        &self,
        host: &H,
        session: &Session,
        kernel: &Kernel,
        at_start: bool,
        due: impl Fn(&mut Audits, &Pool, &PoolStatus) -> bool,
    ) -> bool {
        // What is not backed by a majority may be old: nothing is concluded from it, and no pool is sent a message.
        if !session.writable() {
            return false;
        }
        let pools: Vec<Pool> =
            self.read(|catalog| catalog.pools().filter(|pool| pool.state == PoolState::Ready).cloned().collect());
        self.audits().0.retain(|id, _| pools.iter().any(|pool| pool.id == *id));
        self.leases().keep(|id| pools.iter().any(|pool| pool.id == id));
        let mut any = false;
        for pool in pools {
            let Some(status) = kernel.pools.get(&pool.id) else { continue };
            if !due(&mut self.audits(), &pool, status) {
                continue;
            }
            // Somebody reads it already: the next refresh asks again.
            let lease = self.leases().of(pool.id);
            let Some(mut held) = lease.try_take() else { continue };
            any = true;
            // Who had the lease a moment ago may have held the metadata snapshot when the pool was asked.
            let now = if at_start { None } else { host.pool_status(&Device::Pool(pool.id).uuid()).ok() };
            let status = now.as_ref().unwrap_or(status);
            let contents = look(host, pool.id, status, &mut held, at_start);
            drop(held);
            let found = contents.inspect(|contents| self.note_reserved(&pool, contents));
            let found = found.map(|contents| self.read(|catalog| agreement::compare(catalog, &pool, &contents)));
            let mut audits = self.audits();
            let audit = audits.0.entry(pool.id).or_default();
            (audit.rounds, audit.told, audit.error) = (0, transaction(status), None);
            match found {
                Ok(findings) => audit.findings = Some(Arc::new(findings)),
                Err(error) => {
                    tracing::warn!(pool = %pool.name, %error, "the pool's own metadata could not be read");
                    audit.error = Some(error.to_string());
                }
            }
        }
        any
    }
}

/// Reads a pool's own metadata. Of a pool that runs this takes its metadata snapshot for as long as the reading takes (a block of
/// 4 KiB for about 100 thin ids).
fn look<H: HostMut + ?Sized>(
    host: &H,
    pool: PoolId,
    status: &PoolStatus,
    held: &mut Held,
    at_start: bool,
) -> HostResult<PoolContents> {
    let metadata = Device::PoolMetadata(pool).uuid();
    match status {
        PoolStatus::Working(usage) if usage.mode != PoolMode::ReadOnly && !usage.needs_check => {
            held.with_snapshot(host, pool, usage, at_start, || host.pool_contents(&metadata, MetadataRoot::Held))
        }
        // It takes no messages and writes nothing any more, so what was committed last can be read under it.
        PoolStatus::Working(_) | PoolStatus::Fail | PoolStatus::Error => {
            host.pool_contents(&metadata, MetadataRoot::Committed)
        }
    }
}

/// What the comparisons have to say.
pub fn problems(catalog: &Catalog, kernel: &Kernel, audits: &Audits) -> Vec<Problem> {
    let mut problems = Vec::new();
    let vg = &catalog.vg().name;
    for pool in catalog.pools() {
        let subject = Some(ObjectKey::Pool(pool.id));
        let name = &pool.name;
        if let Some(error) = audits.0.get(&pool.id).and_then(|audit| audit.error.as_ref())
            && matches!(kernel.pools.get(&pool.id), Some(PoolStatus::Working(_)))
        {
            problems.push(Problem {
                code: "pool-unread",
                message: format!("the own metadata of pool {name} could not be compared with ours: {error}"),
                hint: "it is tried again by itself; see the kernel log if it stays".to_owned(),
                subject,
            });
        }
        let clock = agreement::clock(pool, kernel);
        if clock >= agreement::CLOCK_WARNING {
            problems.push(Problem {
                code: "pool-snapshot-clock",
                message: format!(
                    "pool {name} has made {clock} snapshots in its life; none is made from {} on",
                    limit::POOL_SNAPSHOTS_MAX
                ),
                hint: "make a new pool and move its volumes there; deleting snapshots does not help".to_owned(),
                subject,
            });
        }
        let Some(findings) = kernel.findings.get(&pool.id) else { continue };
        if !findings.strays.is_empty() {
            let chunks: u64 = findings.strays.values().flatten().map(|thin| thin.mapped_chunks).sum();
            problems.push(Problem {
                code: "pool-stray-thin",
                message: format!(
                    "pool {name} has thin ids that no volume of ours has: {} ({} mapped)",
                    agreement::listed(findings.strays.keys()),
                    Bytes(chunks.saturating_mul(pool.chunk_size.get()))
                ),
                hint: "they are left alone and their ids are not given out; see pool_stray_thin in \
                       docs/troubleshooting.md"
                    .to_owned(),
                subject,
            });
        }
        let lost: Vec<_> = findings.lost.iter().filter_map(|id| catalog.volume(*id)).collect();
        for volume in lost.iter().take(LOST_SHOWN) {
            problems.push(Problem {
                code: "pool-lost-thin",
                message: format!(
                    "volume {vg}/{} has thin id {}, which pool {name} does not have: its data are not there",
                    vol_core::VolumeName::of(volume),
                    volume.thin_id().unwrap_or_default()
                ),
                hint: "it cannot be mounted; other volumes are not affected".to_owned(),
                subject: Some(ObjectKey::Volume(volume.id)),
            });
        }
        if let Some(more) = lost.len().checked_sub(LOST_SHOWN).filter(|more| *more > 0) {
            problems.push(Problem {
                code: "pool-lost-thin",
                message: format!("{more} more volumes of pool {name} have thin ids that it does not have"),
                hint: "they cannot be mounted".to_owned(),
                subject,
            });
        }
    }
    problems
}
