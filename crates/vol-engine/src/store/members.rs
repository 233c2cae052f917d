//! Who carries a copy, and what is remembered of a copy that was left behind.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::RwLock;

use vol_core::Catalog;
use vol_format::layout::BLOCK;
use vol_format::{label, record};
use vol_types::{Change, CommitPoint, Object, ObjectKey, PvId, defect, limit};

use super::checkpoint_job::CheckpointJob;
use super::copy::StoreCopy;
use super::{Frozen, Store, StoreError, first_error, lock, read};
use crate::host::{DurableWrite, HostMut};
use crate::pvs::OpenPv;

/// PVs that carry a copy, by what the catalog says.
pub fn of(catalog: &Catalog) -> BTreeSet<PvId> {
    catalog.pvs().filter(|pv| pv.metadata).map(|pv| pv.id).collect()
}

/// Whether a majority of the ones need not meet a majority of the others. One member more or less makes no difference.
pub fn moved(before: &BTreeSet<PvId>, after: &BTreeSet<PvId>) -> bool {
    before.symmetric_difference(after).count() > 1
}

impl Store {
    /// A commit that changes nothing, behind one that moved copies. It proves that the one before had a majority of the old
    /// members too: until it is there, opening asks for them (`docs/spec/on-disk-format.md`, section 10).
    pub(super) fn settle_members<H: HostMut + ?Sized>(
        &mut self,
        host: &H,
        catalog: &RwLock<Catalog>,
    ) -> Result<(), StoreError> {
        let vg = read(catalog, |catalog| catalog.vg().clone());
        self.commit(host, catalog, &[Change::Put(Object::Vg(vg))])
    }

    /// Makes `pv` carry a copy: whatever its slots hold is emptied, then the present catalog becomes its first checkpoint. From
    /// then on it takes part in commits; it counts as a member when one of them says `metadata` of it (FMT-26).
    ///
    /// On an error the disk holds no sound checkpoint, and the store goes on without it.
    pub fn admit<H: HostMut + ?Sized>(
        &mut self,
        host: &H,
        catalog: &RwLock<Catalog>,
        pv: PvId,
        open: &OpenPv,
    ) -> Result<(), StoreError> {
        self.changeable()?;
        // It may have been admitted before, in vain: a checkpoint under way still writes to it, and knows another log.
        self.stop_writing_to(pv);
        self.copies.retain(|old| old.id.pv != pv);
        let mut copy = StoreCopy::blank(record::Copy { vg: self.vg, pv }, open);
        self.empty(host, &copy)?;
        let mut job = CheckpointJob::new(self.header(), self.objects_on_disk(catalog), std::iter::once(&copy));
        job.finish(host)?;
        if let Some(error) = job.parts.into_iter().find_map(|part| part.failed) {
            return Err(StoreError::FirstCheckpoint(error));
        }
        copy.slot = 0;
        self.copies.push(copy);
        self.left_changed |= self.left.remove(&pv).is_some();
        Ok(())
    }

    /// Goes on without a copy that was admitted and is not to become a member after all. Nothing is written to it from now on,
    /// not even by a checkpoint that is under way.
    pub fn dismiss(&mut self, pv: PvId) {
        if !self.members.contains(&pv) {
            self.stop_writing_to(pv);
            self.copies.retain(|copy| copy.id.pv != pv);
            self.left.remove(&pv);
        }
    }

    /// The store ends, or another one is to read its disks: a checkpoint that is under way elsewhere must not go on writing to disks that may be another's soon.
    pub fn abandon(&mut self) {
        for pv in self.copies.iter().map(|copy| copy.id.pv).collect::<Vec<_>>() {
            self.stop_writing_to(pv);
        }
        self.job = None;
    }

    /// A disk has gone: its copy is not written to any more, and where it was left is recorded with the next commit. Without a majority
    /// nothing is taken from here on.
    pub fn lose(&mut self, pv: PvId) {
        self.stop_writing_to(pv);
        let was_written = self.is_written(pv);
        self.copies.retain(|copy| copy.id.pv != pv);
        if !self.members.contains(&pv) {
            return;
        }
        if was_written {
            let here = self.head();
            self.leave(pv, [here]);
        }
        if self.frozen.is_none()
            && let Err(error) = self.majority(&self.members.clone())
        {
            tracing::error!(%error, "too few metadata copies are left");
        }
    }

    fn stop_writing_to(&self, pv: PvId) {
        if let Some(job) = &self.job {
            lock(job).let_go(pv);
        }
    }

    /// What an older life of the disk left must not be taken for a part of this one.
    pub(super) fn empty<H: HostMut + ?Sized>(&self, host: &H, copy: &StoreCopy) -> Result<(), StoreError> {
        let geometry = &copy.geometry;
        let [first, second] = geometry.checkpoint_offsets;
        let blank = label::blank();
        let writes = [first, second, geometry.log_offset].map(|offset| DurableWrite {
            device: &copy.device,
            offset,
            data: &blank,
        });
        debug_assert_eq!(blank.len(), BLOCK);
        first_error(host.write_durable(&writes)).map_err(StoreError::FirstCheckpoint)
    }

    /// Takes an operator's word that these disks will never come back: they are not counted any more, and a store that is
    /// frozen only because they are missing takes changes again.
    ///
    /// Two commits must follow, the second of which removes the PVs. The lost disks may hold one record more than these, which
    /// was never acknowledged; two commits are more than that, so that this history wins should they come back after all.
    pub fn declare_lost(&mut self, pvs: &[PvId]) -> Result<(), StoreError> {
        match &self.frozen {
            Some(Frozen::Judgement(reason)) => return Err(StoreError::Frozen(reason.clone())),
            Some(Frozen::NoMajority(_)) | None => {}
        }
        if let Some(copy) = self.copies.iter().find(|copy| pvs.contains(&copy.id.pv) && copy.failed.is_none()) {
            return Err(StoreError::Frozen(format!("PV {} is not lost: its metadata is there", copy.id.pv)));
        }
        let lost = self.lost.clone();
        self.lost.extend(pvs);
        let frozen = self.frozen.take();
        let members = self.members.clone();
        if let Err(error) = self.majority(&members) {
            self.lost = lost;
            self.frozen = frozen;
            return Err(error);
        }
        Ok(())
    }

    /// `changes`, and with them what is to be remembered of copies that are not written to any more, or are again.
    pub(super) fn with_left_points<'a>(&self, catalog: &RwLock<Catalog>, changes: &'a [Change]) -> Cow<'a, [Change]> {
        if !self.left_changed || defect("where a copy was left is not recorded") {
            return Cow::Borrowed(changes);
        }
        let mut all = changes.to_vec();
        for id in &self.members {
            let left = self.left.get(id).cloned().unwrap_or_default();
            let own = all.iter().rposition(|change| change.key() == ObjectKey::Pv(*id));
            match own.map(|at| &mut all[at]) {
                Some(Change::Put(Object::Pv(pv))) => pv.left = if pv.metadata { left } else { Vec::new() },
                Some(_) => {}
                None => {
                    let put = read(catalog, |catalog| {
                        let pv = catalog.pv(*id).filter(|pv| pv.left != left)?;
                        Some(Change::Put(Object::Pv(vol_types::Pv { left, ..pv.clone() })))
                    });
                    all.extend(put);
                }
            }
        }
        Cow::Owned(all)
    }

    /// The members after these changes, if they change.
    pub(super) fn members_after(&self, changes: &[Change]) -> Option<BTreeSet<PvId>> {
        let mut after = self.members.clone();
        for change in changes {
            match change {
                Change::Put(Object::Pv(pv)) if pv.metadata => drop(after.insert(pv.id)),
                Change::Put(Object::Pv(pv)) => drop(after.remove(&pv.id)),
                Change::Delete(ObjectKey::Pv(id)) => drop(after.remove(id)),
                _ => {}
            }
        }
        (after != self.members).then_some(after)
    }

    /// The commit that says so is durable: copies of who is no member any more are not written to again.
    pub(super) fn set_members(&mut self, members: BTreeSet<PvId>) {
        for pv in self.members.difference(&members) {
            self.stop_writing_to(*pv);
        }
        self.copies.retain(|copy| members.contains(&copy.id.pv));
        self.left.retain(|pv, _| members.contains(pv));
        self.lost.retain(|pv| members.contains(pv));
        self.members = members;
    }

    /// Takes a copy out of use. Its head is one of `points`.
    pub(super) fn leave(&mut self, pv: PvId, points: impl IntoIterator<Item = CommitPoint>) {
        let left = self.left.entry(pv).or_default();
        for point in points {
            if left.len() < limit::LEFT_POINTS_MAX && !left.contains(&point) {
                left.push(point);
            }
        }
        self.left_changed = true;
    }

    /// As [`Store::leave`]; of points that are too many, the newest goes.
    pub(super) fn leave_at_last(&mut self, pv: PvId, point: CommitPoint) {
        let left = self.left.entry(pv).or_default();
        if left.len() >= limit::LEFT_POINTS_MAX && !left.contains(&point) {
            left.truncate(limit::LEFT_POINTS_MAX - 1);
        }
        self.leave(pv, [point]);
    }
}
