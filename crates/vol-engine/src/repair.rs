//! Checking a pool's own metadata, and repairing them (`docs/pool-repair.md`).
//!
//! The VG is held for the plans alone. While the tools run, which may take minutes, other changes of it go on: the pool is down,
//! and its record says so. [`Care`] keeps recovery off it until then.

use std::collections::{BTreeMap, BTreeSet};

use vol_core::dm::Device;
use vol_core::observed::{PoolContents, PoolMode, PoolStatus, PoolUsage};
use vol_core::plan::health::{self, PoolHealth};
use vol_core::plan::repair::{self, Losses};
use vol_core::plan::{Kernel, pool as pools};
use vol_core::{Catalog, Plan, Refusal, RefusalCode};
use vol_types::{Name, Pool, PoolId};

use crate::engine::{Done, Engine, done};
use crate::error::{EngineError, StepError};
use crate::exec::{self, Failed, Session};
use crate::host::{HostErrorKind, HostMut, HostResult, MetadataRoot, SharingCall};
use crate::vg::OpenVg;

/// How long a running pool's mappings are read for; what takes longer is checked by its thin ids alone.
const READING_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// What a repair came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// `thin_check` found nothing, and the kernel had no complaint.
    InOrder,
    /// The metadata are sound; the kernel's mark was taken away.
    Cleared,
    /// They were written anew; the old are kept.
    Replaced(Losses),
}

/// What a check looked at, and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolChecked {
    /// `thin_check` looked at all of the metadata of a pool that was down; else our own reader at those of one that runs.
    pub stopped: bool,
    /// Thin ids that the pool has; `None` if that could not be read.
    pub thins: Option<u64>,
    /// What is wrong; empty if all is well.
    pub findings: Vec<String>,
    /// Whether a repair is what helps.
    pub repairable: bool,
}

/// A pool that this daemon keeps down.
struct Care<'a> {
    vg: &'a OpenVg,
    pool: PoolId,
}

impl<'a> Care<'a> {
    fn take(vg: &'a OpenVg, pool: PoolId, name: &Name) -> Result<Self, Refusal> {
        if vg.in_care().insert(pool) {
            return Ok(Self { vg, pool });
        }
        Err(Refusal::busy(format!("pool {name} is being checked or repaired already"))
            .hint("wait until that is done: see `volctl pool show`"))
    }

    /// Brings the pool up with the metadata that its record names; whether it could. If not, it is tried again later.
    fn finish<H: HostMut + ?Sized>(self, host: &H) -> bool {
        let (vg, pool) = (self.vg, self.pool);
        let mut session = vg.session();
        drop(self);
        if session.closed {
            return false;
        }
        // What fails once is set aside by a recovery; a device that somebody looked at just then is free the next time.
        let _settled = vg.recover(host, &mut session) || vg.recover(host, &mut session);
        vg.refresh_with(host, &session);
        vg.view().kernel.pools.contains_key(&pool)
    }
}

impl Drop for Care<'_> {
    fn drop(&mut self) {
        self.vg.in_care().remove(&self.pool);
        // What was known of its metadata may not be true any more.
        self.vg.audits().forget(self.pool);
    }
}

/// The tools need nothing of the VG but the names of its devices.
fn run_tools<H: HostMut + ?Sized>(vg: &OpenVg, host: &H, plan: &Plan) -> Result<(), Failed> {
    exec::run(host, &mut Session::new(BTreeMap::new(), None), vg.catalog_lock(), plan)
}

fn working(kernel: &Kernel, pool: PoolId) -> Option<&PoolUsage> {
    match kernel.pools.get(&pool) {
        Some(PoolStatus::Working(usage)) => Some(usage),
        _ => None,
    }
}

fn current(catalog: &Catalog, id: PoolId) -> Result<&Pool, Refusal> {
    catalog.pool(id).ok_or_else(|| Refusal::not_found("the pool is gone"))
}

/// Full metadata need space, and no repair.
fn not_only_full(catalog: &Catalog, kernel: &Kernel, pool: &Pool) -> Result<(), Refusal> {
    let full = working(kernel, pool.id).is_some_and(|usage| {
        usage.mode == PoolMode::ReadOnly && !usage.needs_check && usage.used_metadata >= usage.total_metadata
    });
    if !full {
        return Ok(());
    }
    let path = format!("{}/{}", catalog.vg().name, pool.name);
    Err(Refusal::new(RefusalCode::Refused, format!("the metadata of pool {path} are full, and not damaged"))
        .hint(format!("give them space, and all goes on: `volctl pool extend {path} --metadata +256M`")))
}

impl<H: HostMut> Engine<H> {
    /// Checks a pool's metadata, and repairs them onto other extents if they are damaged. Unless `accept_loss`, repaired metadata
    /// that lack anything are not put in place.
    pub fn repair_pool(
        &self,
        vg: &Name,
        name: &Name,
        accept_loss: bool,
        dry_run: bool,
    ) -> Result<Done<Repaired>, EngineError> {
        let vg = self.vg(vg)?;
        let host = self.host();
        if dry_run {
            let (plan, ()) = vg.change(host, true, |catalog, kernel, missing| {
                let pool = pools::find(catalog, Some(name))?;
                not_only_full(catalog, kernel, pool)?;
                Ok((repair::preview(catalog, kernel, missing, pool)?, ()))
            })?;
            return Ok(Done::Planned(plan));
        }
        host.thin_tools()?;
        let id = vg.read(|catalog| pools::find(catalog, Some(name)).map(|pool| pool.id))?;
        let care = Care::take(&vg, id, name)?;
        let repaired = vg
            .change(host, false, |catalog, kernel, missing| {
                let pool = current(catalog, id)?;
                not_only_full(catalog, kernel, pool)?;
                let plan = repair::begin(catalog, kernel, missing, pool, "repair")?;
                Ok((plan, kernel.pools.get(&id).cloned()))
            })
            .and_then(|(_, before)| mend(&vg, host, id, before.as_ref(), accept_loss));
        care.finish(host);
        let repaired = repaired?;
        // It is up again, and everything in it that was unfinished is settled; or the kernel still does not like it.
        let view = vg.view();
        let health =
            vg.read(|catalog| current(catalog, id).map(|pool| health::explained(catalog, &view.kernel, pool)))?;
        match (health, &repaired) {
            (PoolHealth::Bad { message, hint }, Repaired::Cleared | Repaired::Replaced(_)) => {
                let message = format!("the metadata of pool {name} were repaired, but: {message}");
                Err(Refusal::new(RefusalCode::Degraded, message).hint(hint).into())
            }
            (_, Repaired::InOrder) => Ok(Done::Unchanged(repaired)),
            _ => Ok(Done::Changed(repaired)),
        }
    }

    /// Gives up the metadata that a repair replaced.
    pub fn discard_original(&self, vg: &Name, name: &Name, dry_run: bool) -> Result<Done<PoolId>, EngineError> {
        let (plan, id) = self.vg(vg)?.change(self.host(), dry_run, |catalog, _, _| {
            let pool = pools::find(catalog, Some(name))?;
            Ok((repair::discard_original(catalog, pool), pool.id))
        })?;
        Ok(done(plan, id, dry_run))
    }

    /// Looks at a pool's metadata: of one that nobody uses all of them, by `thin_check`, for which it is down for a moment, unless
    /// it is to be looked at `online`; else with our own reader what the pool committed, while it runs.
    pub fn check_pool(&self, vg: &Name, name: &Name, online: bool) -> Result<PoolChecked, EngineError> {
        let vg = self.vg(vg)?;
        let host = self.host();
        let id = vg.read(|catalog| pools::find(catalog, Some(name)).map(|pool| pool.id))?;
        let (_, in_use) = vg.change(host, true, |catalog, kernel, _| {
            let active = |volume: &vol_types::Volume| kernel.dm.contains_key(&Device::Volume(volume.id));
            Ok((Plan::default(), catalog.volumes_of(id).any(active)))
        })?;
        if online || in_use {
            return vg.check_running(host, id);
        }
        host.thin_tools()?;
        let care = Care::take(&vg, id, name)?;
        let checked = vg
            .change(host, false, |catalog, kernel, missing| {
                let pool = current(catalog, id)?;
                Ok((repair::begin(catalog, kernel, missing, pool, "check")?, kernel.clone()))
            })
            .and_then(|(_, kernel)| vg.check_stopped(host, id, &kernel));
        let up = care.finish(host);
        let checked = checked?;
        if !up && checked.findings.is_empty() {
            return Err(Refusal::new(
                RefusalCode::Degraded,
                format!("the metadata of pool {name} were checked without a finding, but it did not come up again"),
            )
            .hint("it is tried again by itself; the daemon's log says what is in the way")
            .into());
        }
        Ok(checked)
    }
}

/// What `thin_check` says decides.
fn mend<H: HostMut + ?Sized>(
    vg: &OpenVg,
    host: &H,
    id: PoolId,
    before: Option<&PoolStatus>,
    accept_loss: bool,
) -> Result<Repaired, EngineError> {
    let metadata = Device::PoolMetadata(id).uuid();
    let plan = vg.read(|catalog| current(catalog, id).map(|pool| repair::look(pool, Device::PoolMetadata(id))))?;
    let found = run_tools(vg, host, &plan);
    let old = host.pool_contents(&metadata, MetadataRoot::Committed).ok();
    match found {
        Ok(()) => {
            let well = match before {
                Some(PoolStatus::Working(usage)) => !usage.needs_check && usage.mode != PoolMode::ReadOnly,
                Some(PoolStatus::Fail | PoolStatus::Error) => false,
                None => true,
            };
            if well && !old.is_some_and(|old| old.needs_check) {
                return Ok(Repaired::InOrder);
            }
            vg.change(host, false, |catalog, kernel, _| {
                Ok((repair::clear(catalog, kernel, current(catalog, id)?)?, ()))
            })?;
            Ok(Repaired::Cleared)
        }
        Err(Failed { error: StepError::ThinDamaged(said), .. }) => {
            tracing::warn!(pool = %id, said, "the pool's metadata are damaged");
            let usage = match before {
                Some(PoolStatus::Working(usage)) => Some(usage),
                _ => None,
            };
            rewrite(vg, host, id, usage, old.as_ref(), accept_loss).map(Repaired::Replaced)
        }
        Err(failed) => Err(failed.of(&plan, true)),
    }
}

/// Writes the metadata anew, compares, and puts them in place.
fn rewrite<H: HostMut + ?Sized>(
    vg: &OpenVg,
    host: &H,
    id: PoolId,
    usage: Option<&PoolUsage>,
    old: Option<&PoolContents>,
    accept_loss: bool,
) -> Result<Losses, EngineError> {
    vg.change(host, false, |catalog, _, missing| {
        Ok((repair::prepare(catalog, missing, current(catalog, id)?, usage)?, ()))
    })?;
    let plan = vg.read(|catalog| current(catalog, id).map(|pool| repair::rewrite(catalog, pool)))?;
    run_tools(vg, host, &plan).map_err(|failed| failed.of(&plan, true))?;
    let new = host.pool_contents(&Device::PoolSpare(id).uuid(), MetadataRoot::Committed)?;
    let (losses, path) = vg.read(|catalog| {
        let pool = current(catalog, id)?;
        Ok::<_, Refusal>((repair::judge(catalog, pool, old, &new)?, format!("{}/{}", catalog.vg().name, pool.name)))
    })?;
    if !accept_loss && (!losses.is_none() || !losses.compared) {
        let what = if losses.is_none() {
            "the old ones cannot be read, so it is not known whether volumes are whole".to_owned()
        } else {
            losses.in_words()
        };
        return Err(Refusal::new(
            RefusalCode::Degraded,
            format!("the repaired metadata of pool {path} were not put in place: {what}"),
        )
        .hint(format!(
            "the pool is as it was before; save what can be read of it, then `volctl pool repair {path} --accept-loss` \
             goes on with what there is, and keeps the original"
        ))
        .into());
    }
    vg.change(host, false, |catalog, kernel, _| Ok((repair::swap(catalog, kernel, current(catalog, id)?)?, ())))?;
    if !losses.is_none() {
        tracing::warn!(pool = %path, losses = losses.in_words(), "the repaired metadata lack something");
    }
    Ok(losses)
}

impl OpenVg {
    fn check_stopped<H: HostMut + ?Sized>(
        &self,
        host: &H,
        id: PoolId,
        before: &Kernel,
    ) -> Result<PoolChecked, EngineError> {
        let plan =
            self.read(|catalog| current(catalog, id).map(|pool| repair::look(pool, Device::PoolMetadata(id))))?;
        let mut checked = PoolChecked { stopped: true, thins: None, findings: Vec::new(), repairable: false };
        match run_tools(self, host, &plan) {
            Ok(()) => {}
            Err(Failed { error: StepError::ThinDamaged(said), .. }) => {
                checked.repairable = true;
                checked.findings.push(said);
            }
            Err(failed) => return Err(failed.of(&plan, true)),
        }
        let contents = host.pool_contents(&Device::PoolMetadata(id).uuid(), MetadataRoot::Committed);
        self.compare_contents(contents, before, id, &mut checked)?;
        Ok(checked)
    }

    fn check_running<H: HostMut + ?Sized>(&self, host: &H, id: PoolId) -> Result<PoolChecked, EngineError> {
        let lease = self.leases().of(id);
        let mut held = lease.take();
        let kernel = self.observe(host)?;
        let mut checked = PoolChecked { stopped: false, thins: None, findings: Vec::new(), repairable: false };
        let metadata = Device::PoolMetadata(id).uuid();
        let kin = BTreeMap::new();
        let read = |root: MetadataRoot| -> HostResult<PoolContents> {
            let call = SharingCall {
                metadata_uuid: &metadata,
                root,
                kin: &kin,
                limit: READING_MAX,
                go_on: &|| lease.may_read(),
            };
            match host.pool_sharing(&call) {
                Ok(sharing) => Ok(sharing.contents),
                // Too many mappings: the thin ids at least.
                Err(error) if matches!(error.kind, HostErrorKind::Unsupported | HostErrorKind::TimedOut) => {
                    host.pool_contents(&metadata, root)
                }
                Err(error) => Err(error),
            }
        };
        let contents = match kernel.pools.get(&id) {
            Some(PoolStatus::Working(usage)) if usage.mode != PoolMode::ReadOnly && !usage.needs_check => {
                held.with_snapshot(host, id, usage, false, || read(MetadataRoot::Held))
            }
            _ => read(MetadataRoot::Committed),
        };
        drop(held);
        self.compare_contents(contents, &kernel, id, &mut checked)?;
        Ok(checked)
    }

    /// What the metadata say against the catalog, and what the kernel says of the pool.
    fn compare_contents(
        &self,
        contents: HostResult<PoolContents>,
        kernel: &Kernel,
        id: PoolId,
        checked: &mut PoolChecked,
    ) -> Result<(), EngineError> {
        match contents {
            Ok(contents) => {
                checked.thins = Some(contents.thins.len() as u64);
                let found =
                    self.read(|catalog| current(catalog, id).map(|pool| repair::findings(catalog, pool, &contents)))?;
                checked.findings.extend(found);
            }
            Err(error) if error.kind == HostErrorKind::Invalid => {
                checked.repairable = true;
                checked.findings.push(format!("the metadata cannot be read: {error}"));
            }
            // A disk that does not answer is no damage to the metadata; without them nothing can be said.
            Err(error) if checked.findings.is_empty() => return Err(error.into()),
            Err(_) => {}
        }
        let health = self.read(|catalog| {
            let pool = current(catalog, id)?;
            let before = Pool { repair: None, ..pool.clone() };
            Ok::<_, Refusal>(health::explained(catalog, kernel, &before))
        })?;
        if let PoolHealth::Bad { message, .. } = health {
            let sick = working(kernel, id).is_none_or(|usage| usage.needs_check || usage.mode == PoolMode::ReadOnly);
            checked.repairable |= sick;
            checked.findings.push(message);
        }
        let mut seen = BTreeSet::new();
        checked.findings.retain(|one| seen.insert(one.clone()));
        Ok(())
    }
}
