//! Disks of an open VG that go while it runs, and come back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vol_core::dm::Device;
use vol_core::observed::DiskIdentity;
use vol_core::plan::rejoin;
use vol_types::{PoolId, PvId, VgState, VolumeState};

use super::{OpenVg, view};
use crate::exec::{self, Session};
use crate::host::HostMut;
use crate::pvs::OpenPvs;

/// What is remembered of them.
#[derive(Debug, Default)]
pub struct Away {
    /// PVs that are not there, and what they were when they were.
    disks: Mutex<BTreeMap<PvId, Option<DiskIdentity>>>,
    /// Pools whose disks were away while they were active: the kernel may have given them up.
    lame: Mutex<BTreeSet<PoolId>>,
}

impl Away {
    fn disks(&self) -> MutexGuard<'_, BTreeMap<PvId, Option<DiskIdentity>>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn lame(&self) -> MutexGuard<'_, BTreeSet<PoolId>> {
        self.lame.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn any_lame(&self) -> bool {
        !self.lame().is_empty()
    }
}

impl OpenVg {
    /// PVs that are known to be away.
    pub(crate) fn away(&self) -> BTreeSet<PvId> {
        self.away.disks().keys().copied().collect()
    }

    /// Whether the descriptor that the session has of a PV leads nowhere any more.
    pub(super) fn is_dead(&self, id: PvId, open: &OpenPvs) -> bool {
        match (open.get(&id), self.away.disks().get(&id)) {
            (None, _) => true,
            (Some(pv), Some(Some(was))) => pv.identity == *was,
            (Some(_), _) => false,
        }
    }

    /// Who is away is what the session does not have; what it has again is not.
    pub(super) fn settle_away(&self, session: &Session) {
        let missing = self.missing(session);
        let mut away = self.away.disks();
        away.retain(|id, _| missing.contains(id));
        for id in missing {
            away.entry(id).or_default();
        }
    }

    /// Disks have gone. Readers see it at once; `false` if a change that is under way keeps the VG from letting go of them, and it is to
    /// be told again.
    pub(crate) fn lose<H: HostMut + ?Sized>(&self, host: &H, gone: &[PvId]) -> bool {
        let identities = self.view().identities.clone();
        let mut fresh = Vec::new();
        for id in gone {
            let was = identities.get(id).cloned();
            if self.away.disks().insert(*id, was.clone()) != Some(was) {
                fresh.push(*id);
            }
        }
        if !fresh.is_empty() {
            self.tell_gone(&fresh);
        }
        let Some(mut session) = self.try_session().filter(|session| !session.closed) else { return false };
        for id in gone {
            session.pvs.remove(id);
            if let Some(store) = session.store.as_mut() {
                store.lose(*id);
            }
        }
        self.refresh_with(host, &session);
        true
    }

    /// Shows what went, without waiting for whoever works on the VG.
    fn tell_gone(&self, gone: &[PvId]) {
        let before = self.view();
        let mut after = (*before).clone();
        after.missing.extend(gone.iter().filter(|id| !before.missing.contains(id)));
        after.nodes.retain(|(id, _)| !gone.contains(id));
        after.kernel.away.extend(gone);
        self.read(|catalog| after.problems.extend(gone.iter().map(|id| view::pv_missing(catalog, *id))));
        self.tell(&after.problems);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
    }

    /// A VG was opened, perhaps instead of `old`, some of whose disks were away: what the kernel has on disks that were others then is put
    /// on those of now.
    pub(crate) fn rejoin<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session, old: Option<&Self>) {
        let missing = self.missing(session);
        self.settle_away(session);
        if !session.writable() || self.read(|catalog| catalog.vg().state == VgState::Exported) {
            return;
        }
        // A disk that is what it was when it was lost was not lost.
        let was = old.map(|old| old.away.disks().clone()).unwrap_or_default();
        let came: BTreeSet<PvId> = was
            .into_iter()
            .filter(|(id, was)| session.pvs.get(id).is_some_and(|pv| Some(&pv.identity) != was.as_ref()))
            .map(|(id, _)| id)
            .collect();
        let numbers: BTreeSet<String> = session.pvs.values().map(|pv| pv.identity.dev.to_string()).collect();
        let dead: BTreeSet<Device> =
            self.on_disks().into_iter().filter(|device| self.is_on_dead(host, *device, &came, &numbers)).collect();
        let in_care = self.in_care().clone();
        let mut lame = old.map(|old| old.away.lame().clone()).unwrap_or_default();
        lame.extend(dead.iter().filter_map(|device| match device {
            Device::PoolMetadata(pool) | Device::PoolData(pool) => Some(*pool),
            _ => None,
        }));
        lame.retain(|pool| !in_care.contains(pool));
        *self.away.lame() = lame;
        if dead.is_empty() {
            return;
        }
        let Ok(kernel) = self.observe(host) else { return };
        for plan in self.read(|catalog| rejoin::plans(catalog, &kernel, &dead, &missing)) {
            tracing::info!(plan = plan.title, "a disk is back");
            if let Err(failed) = exec::run(host, session, self.catalog_lock(), &plan) {
                tracing::error!(plan = plan.title, step = failed.step, error = %failed.error, "it stays as it is");
            }
        }
    }

    /// The devices that stand on PVs, whether they are there or not.
    fn on_disks(&self) -> Vec<Device> {
        self.read(|catalog| {
            let mut devices = Vec::new();
            for pool in catalog.pools() {
                devices.extend([Device::PoolMetadata(pool.id), Device::PoolData(pool.id)]);
            }
            for volume in catalog.thick_volumes() {
                devices.push(Device::Volume(volume.id));
                if volume.state == VolumeState::Creating {
                    devices.extend([Device::Filling(volume.id), Device::CopySource(volume.id)]);
                }
            }
            devices
        })
    }

    /// Whether the table of a device names a disk that is none of the VG's now, or stands on one that came back.
    fn is_on_dead<H: HostMut + ?Sized>(
        &self,
        host: &H,
        device: Device,
        came: &BTreeSet<PvId>,
        numbers: &BTreeSet<String>,
    ) -> bool {
        let Ok(lines) = host.dm_table(&device.uuid()) else { return false };
        let wanted = self.read(|catalog| rejoin::table(catalog, device));
        if wanted.is_some_and(|table| table.pvs().iter().any(|pv| came.contains(pv))) {
            return true;
        }
        let is_number = |word: &&str| {
            word.split_once(':').is_some_and(|(a, b)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok())
        };
        let on_disks = lines.iter().filter(|line| matches!(line.target.as_str(), "linear" | "striped"));
        on_disks.flat_map(|line| line.params.split(' ').filter(is_number)).any(|number| !numbers.contains(number))
    }

    /// Pools that the kernel gave up while a disk was away come up anew as soon as nobody uses them.
    pub(super) fn renew_lame<H: HostMut + ?Sized>(&self, host: &H, session: &mut Session) {
        let lame = self.away.lame().clone();
        if lame.is_empty() || !session.writable() {
            return;
        }
        let Ok(kernel) = self.observe(host) else { return };
        for id in lame {
            let plan = self.read(|catalog| catalog.pool(id).and_then(|pool| rejoin::renew(&kernel, pool)));
            let Some(plan) = plan else {
                let gone = !kernel.dm.contains_key(&Device::Pool(id));
                if gone || rejoin::is_well(&kernel, id) {
                    self.away.lame().remove(&id);
                }
                continue;
            };
            // It is tried once: a pool that fails again is damaged.
            self.away.lame().remove(&id);
            tracing::info!(plan = plan.title, "recovery");
            if let Err(failed) = exec::run(host, session, self.catalog_lock(), &plan) {
                tracing::error!(plan = plan.title, step = failed.step, error = %failed.error, "recovery failed");
            }
        }
    }
}
