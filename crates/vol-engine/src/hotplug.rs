//! Disks that come and go while the daemon runs.
//!
//! What is said of a disk is a hint and no more: the disk is looked at, and its label and metadata decide, by the same laws as at a start
//! or at `volctl pv scan`. What is said may be lost; so the disks in use are looked after by a timer too, and what there is is compared
//! with what there was (ADR 0021).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError, TryLockError};

use vol_core::observed::DiskIdentity;
use vol_format::label::Label;
use vol_types::{PvId, VgId, VgState};

use crate::engine::Engine;
use crate::host::{DiskNews, HostError, HostErrorKind, HostMut};
use crate::scan::{Labelled, Looked, busy_message};
use crate::vg::{OpenVg, Problem};

/// What was seen of the machine's disks when they were last looked at.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    /// All devices that there were.
    names: BTreeSet<PathBuf>,
    /// Those that were looked at, and the labels they had.
    disks: BTreeMap<PathBuf, (DiskIdentity, Option<Label>)>,
    /// Not looked at yet: somebody was in the way.
    later: BTreeSet<PathBuf>,
    /// All are to be looked at.
    all_later: bool,
    /// PVs that were missing, and the disks that their VGs were opened anew for. If they are missing all the same, a person has to look.
    tried: BTreeMap<PvId, DiskIdentity>,
    /// What kept a VG from being completed.
    problems: BTreeMap<VgId, Vec<Problem>>,
    /// How often in a row a VG was not completed because a disk in use could not be read.
    unread: BTreeMap<VgId, u32>,
}

/// So often a VG waits for a disk in use that answers with errors; what returned is taken up without that one then, as at a start.
const UNREAD_MAX: u32 = 20;

/// What a look at disks came to.
#[derive(Default)]
struct Found {
    /// Disks that complete VGs which are open.
    returning: BTreeMap<VgId, Vec<Labelled>>,
    /// Something that only a look at all disks can tell of: a group that is not open, a copy, a disk that no group knows.
    strange: bool,
    later: BTreeSet<PathBuf>,
}

impl<H: HostMut> Engine<H> {
    /// Deals with what was said of disks. Asked with [`DiskNews::Nothing`] it compares what there is with what there was. `false`: somebody
    /// was in the way, and it is to be asked again soon.
    pub fn follow(&self, news: &DiskNews) -> bool {
        let let_go = self.notice_missing();
        let Some(guard) = self.try_membership() else {
            let mut sightings = self.sightings();
            match news {
                DiskNews::Of(nodes) => sightings.later.extend(nodes.iter().cloned()),
                DiskNews::Lost => sightings.all_later = true,
                DiskNews::Nothing => {}
            }
            return false;
        };
        if *news == DiskNews::Lost || std::mem::take(&mut self.sightings().all_later) {
            tracing::warn!("news of disks were lost: all are looked at");
            drop(guard);
            self.scan_by_itself();
            return let_go;
        }
        let mut nodes = std::mem::take(&mut self.sightings().later);
        match news {
            DiskNews::Of(named) => nodes.extend(named.iter().cloned()),
            DiskNews::Nothing | DiskNews::Lost => nodes.extend(self.changed_since()),
        }
        let mut found = Found::default();
        for node in nodes {
            self.look_again(node, &mut found);
        }
        let Found { returning, mut strange, mut later } = found;
        for (id, disks) in returning {
            let nodes: Vec<_> = disks.iter().map(|disk| disk.info.node.clone()).collect();
            match self.complete(id, disks) {
                Completed::Yes => {}
                Completed::Busy => later.extend(nodes),
                Completed::Gone => strange = true,
            }
        }
        strange |= self.forget_exported();
        let done = later.is_empty();
        self.sightings().later.extend(later);
        drop(guard);
        if strange {
            self.scan_by_itself();
        }
        let_go && done
    }

    /// Looks whether the disks in use are still there: a few files of sysfs for each, and no I/O. `false` if a VG could not let go of one that
    /// is not, because it is being changed.
    pub fn notice_missing(&self) -> bool {
        let mut all = true;
        for vg in self.vgs() {
            let view = vg.view();
            let gone: Vec<PvId> =
                view.nodes.iter().filter(|(id, node)| self.is_gone(&vg, *id, node)).map(|(id, _)| *id).collect();
            // Those too that could not be let go of before.
            let held = vg.away().into_iter().filter(|id| view.identities.contains_key(id));
            let gone: BTreeSet<PvId> = gone.into_iter().chain(held).collect();
            if !gone.is_empty() {
                self.sightings().tried.retain(|id, _| !gone.contains(id));
                all &= vg.lose(self.host(), &gone.into_iter().collect::<Vec<_>>());
            }
        }
        all
    }

    fn is_gone(&self, vg: &OpenVg, id: PvId, node: &Path) -> bool {
        let view = vg.view();
        let Some(was) = view.identities.get(&id) else { return false };
        match self.host().disk_at(node) {
            Ok(Some(is)) => (is.dev, is.diskseq) != (was.dev, was.diskseq),
            Ok(None) => true,
            Err(error) => {
                tracing::debug!(node = %node.display(), %error, "whether a disk is there cannot be seen");
                false
            }
        }
    }

    /// Nodes that were not there when they were last listed; while a VG waits for disks, those too that are something else by now.
    fn changed_since(&self) -> Vec<PathBuf> {
        let names = match self.host().device_names() {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "the disks cannot be listed");
                return Vec::new();
            }
        };
        let incomplete = self.vgs().iter().any(|vg| !vg.view().missing.is_empty());
        let mut sightings = self.sightings();
        sightings.disks.retain(|node, _| names.contains(node));
        let mut changed: Vec<PathBuf> = names.difference(&sightings.names).cloned().collect();
        sightings.names = names;
        if incomplete {
            let (names, disks) = (sightings.names.clone(), sightings.disks.clone());
            drop(sightings);
            let known = |node: &PathBuf| disks.get(node).map(|(identity, _)| identity);
            changed.extend(names.into_iter().filter(|node| match self.host().disk_at(node) {
                Ok(Some(is)) => known(node) != Some(&is),
                _ => false,
            }));
        }
        changed
    }

    fn look_again(&self, node: PathBuf, found: &mut Found) {
        let before = self.sightings().disks.get(&node).cloned();
        let is = match self.host().disk_at(&node) {
            Ok(is) => is,
            Err(_) => {
                found.later.insert(node);
                return;
            }
        };
        let Some(is) = is else {
            self.sightings().disks.remove(&node);
            // What was told of it is over. (That a disk in use went was noticed before.)
            found.strange |= before.and_then(|(_, label)| label).is_some_and(|label| self.is_strange(&label));
            return;
        };
        if self.uses(&node, &is) {
            return;
        }
        let mut problems = Vec::new();
        let looked = match self.look_at(&node, &mut problems) {
            Ok(looked) => looked,
            Err(error) if matches!(error.kind, HostErrorKind::Busy | HostErrorKind::Other) => {
                found.later.insert(node);
                return;
            }
            Err(error) => return tracing::info!(node = %node.display(), %error, "a device could not be read"),
        };
        let Looked { identity, labelled } = looked;
        let label = labelled.as_ref().map(|one| one.label.clone());
        let had_label = before.as_ref().and_then(|(_, label)| label.as_ref()).cloned();
        let same = before.is_some_and(|(was, had)| was == identity && had == label);
        self.sightings().disks.insert(node, (identity.clone(), label.clone()));
        found.strange |=
            !same && (!problems.is_empty() || had_label.filter(|had| label.as_ref() != Some(had)).is_some());
        let Some(one) = labelled else { return };
        match self.vgs().into_iter().find(|vg| vg.id == one.label.vg) {
            Some(vg) if vg.view().missing.contains(&one.label.pv) => {
                if self.sightings().tried.insert(one.label.pv, identity.clone()) != Some(identity) {
                    found.returning.entry(one.label.vg).or_default().push(one);
                }
            }
            _ => found.strange |= !same,
        }
    }

    /// Whether a node is a PV that is in use, and what it was.
    fn uses(&self, node: &Path, is: &DiskIdentity) -> bool {
        self.vgs().iter().any(|vg| {
            let view = vg.view();
            let here = |(id, at): &(PvId, PathBuf)| {
                at == node && view.identities.get(id).is_some_and(|was| (was.dev, was.diskseq) == (is.dev, is.diskseq))
            };
            view.nodes.iter().any(here)
        })
    }

    /// Whether a label is none of a PV that its VG knows.
    fn is_strange(&self, label: &Label) -> bool {
        let open = self.vgs().into_iter().find(|vg| vg.id == label.vg);
        !open.is_some_and(|vg| vg.view().missing.contains(&label.pv))
    }

    /// Opens a VG anew with disks that came back.
    fn complete(&self, id: VgId, mut disks: Vec<Labelled>) -> Completed {
        let Some(old) = self.vgs().into_iter().find(|vg| vg.id == id) else { return Completed::Gone };
        if self.is_filling_in(&old) {
            self.forget_sighting(id, &old);
            return Completed::Busy;
        }
        let mut problems = Vec::new();
        for (pv, node) in &old.view().nodes {
            match self.look_at(node, &mut problems) {
                Ok(Looked { labelled: Some(disk), .. }) if disk.label.vg == id => disks.push(disk),
                Ok(_) => tracing::warn!(%pv, node = %node.display(), "its label is gone"),
                // Opened anew without it, the VG would be without a disk that it has, until a person looks.
                Err(error) if self.waits_for_unread(id, &error) => {
                    tracing::debug!(%pv, node = %node.display(), %error, "it cannot be read; what came back is taken up later");
                    self.forget_sighting(id, &old);
                    return Completed::Busy;
                }
                Err(error) => tracing::warn!(%pv, node = %node.display(), %error, "it cannot be read"),
            }
        }
        self.sightings().unread.remove(&id);
        self.open_group(id, disks, &mut problems);
        if problems.iter().any(|problem| problem.code == "vg-busy") {
            self.forget_sighting(id, &old);
            return Completed::Busy;
        }
        // What a scan told of it is over.
        let name = old.read(|catalog| catalog.vg().name.to_string());
        let told = |problem: &Problem| problem.code == "vg-busy" && problem.message == busy_message(&name);
        self.scan_problems.write().unwrap_or_else(PoisonError::into_inner).retain(|problem| !told(problem));
        let mut sightings = self.sightings();
        if problems.is_empty() {
            sightings.problems.remove(&id);
            tracing::info!(vg = %old.read(|catalog| catalog.vg().name.clone()), "disks came back");
        } else {
            sightings.problems.insert(id, problems);
        }
        Completed::Yes
    }

    /// Whether a VG that a disk came back to is to wait because of this error on one in use. A medium that is broken is not waited for
    /// without end; that the daemon is short of something, say descriptors, says nothing of the disk.
    fn waits_for_unread(&self, id: VgId, error: &HostError) -> bool {
        let mut sightings = self.sightings();
        let times = sightings.unread.entry(id).or_default();
        *times += u32::from(!matches!(error.kind, HostErrorKind::Busy | HostErrorKind::Other));
        *times < UNREAD_MAX
    }

    /// The disks that a VG waits for are looked at again, as if for the first time.
    fn forget_sighting(&self, id: VgId, old: &OpenVg) {
        let missing = old.view().missing.clone();
        let waits = |label: &Label| label.vg == id && missing.contains(&label.pv);
        let mut sightings = self.sightings();
        sightings.disks.retain(|_, (_, label)| !label.as_ref().is_some_and(waits));
        sightings.tried.retain(|pv, _| !missing.contains(pv));
    }

    /// An exported VG none of whose disks is here any more is to be forgotten, which a scan does.
    fn forget_exported(&self) -> bool {
        self.vgs()
            .iter()
            .any(|vg| vg.read(|catalog| catalog.vg().state == VgState::Exported) && vg.view().nodes.is_empty())
    }

    fn scan_by_itself(&self) {
        if let Err(error) = self.scan(&[], false) {
            tracing::error!(%error, "the disks could not be looked at");
        }
    }

    pub(crate) fn sightings(&self) -> MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All disks were looked at; `busy` are those of VGs that could not be opened anew then.
    pub(crate) fn saw_all(&self, disks: BTreeMap<PathBuf, (DiskIdentity, Option<Label>)>, mut busy: BTreeSet<PathBuf>) {
        let names = self.host().device_names().unwrap_or_default();
        let mut sightings = self.sightings();
        // Those that somebody was in the way of are tried again.
        busy.append(&mut sightings.later);
        let later = busy;
        *sightings = Sightings { names, disks, later, ..Sightings::default() };
    }

    /// What keeps VGs from being completed.
    pub(crate) fn completion_problems(&self) -> Vec<Problem> {
        self.sightings().problems.values().flatten().cloned().collect()
    }

    fn try_membership(&self) -> Option<MutexGuard<'_, ()>> {
        match self.membership.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

enum Completed {
    Yes,
    /// It is being changed.
    Busy,
    /// It is not open any more.
    Gone,
}
