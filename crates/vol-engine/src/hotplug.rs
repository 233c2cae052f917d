//! Disks that come and go while the daemon runs.
//!
//! What is said of a disk is a hint and no more: the disk is looked at, and its label and metadata decide, by the same laws as at a start
//! or at `volctl pv scan`. What is said may be lost; so the disks in use are looked after by a timer too, and what there is is compared
//! with what there was (ADR 0021).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use vol_core::observed::DiskIdentity;
use vol_format::label::Label;
use vol_types::{PvId, VgId, VgState, defect};

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
    /// Not looked at yet: they were just named, or somebody was in the way.
    later: BTreeMap<PathBuf, Later>,
    /// All are to be looked at.
    all_later: bool,
    /// PVs that were missing, and the disks that their VGs were opened anew for. If they are missing all the same, a person has to look.
    tried: BTreeMap<PvId, DiskIdentity>,
    /// PVs that are there, and could not be opened for writing when their VG was opened.
    unopened: BTreeSet<PvId>,
    /// What kept a VG from being completed.
    problems: BTreeMap<VgId, Vec<Problem>>,
    /// How often in a row a VG was not completed because a disk in use could not be read.
    unread: BTreeMap<VgId, u32>,
}

/// When a disk is looked at again.
#[derive(Clone, Copy, Debug)]
struct Later {
    /// By the clock that never goes back.
    due: Duration,
    /// How long it was waited for, the last time.
    waited: Duration,
}

impl Later {
    const fn at_once(now: Duration) -> Self {
        Self { due: now, waited: Duration::ZERO }
    }

    /// Ever less often: somebody may be in the way for as long as the machine runs.
    fn less_often(now: Duration, waited: Duration) -> Self {
        let wait = waited.saturating_mul(2).clamp(AGAIN_FIRST, AGAIN_MAX);
        Self { due: now.saturating_add(wait), waited: wait }
    }
}

/// How soon a disk is looked at again when somebody was in the way; twice as long each time after that.
const AGAIN_FIRST: Duration = Duration::from_millis(500);
/// The longest. What is said of the disk meanwhile is heard at once.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// So often a VG waits for a disk in use that answers with errors; what returned is taken up without that one then, as at a start.
const UNREAD_MAX: u32 = 20;

/// What a look at a disk came to.
enum Look {
    Gone,
    /// As a PV.
    InUse,
    /// Somebody is in the way.
    Busy,
    Unreadable(HostError),
    Seen(Box<Looked>, Vec<Problem>),
}

/// What looks at disks came to.
#[derive(Default)]
struct Found {
    /// Disks that complete VGs which are open.
    returning: BTreeMap<VgId, Vec<Labelled>>,
    /// Something that only a look at all disks can tell of: a group that is not open, a copy, a disk that no group knows.
    strange: bool,
    later: BTreeSet<PathBuf>,
    /// Of these, those that are not to be looked at less often; how often at all is bounded elsewhere.
    soon: BTreeSet<PathBuf>,
}

impl<H: HostMut> Engine<H> {
    /// Deals with what was said of disks. Asked with [`DiskNews::Nothing`] it compares what there is with what there was. `None`: nothing is
    /// left to do; else it is to be asked again after that time, for somebody was in the way.
    ///
    /// Disks are looked at without the right to change VGs: one that hangs holds up who follows, and no request.
    pub fn follow(&self, news: &DiskNews) -> Option<Duration> {
        let let_go = self.notice_missing();
        let soon = (!let_go).then_some(AGAIN_FIRST);
        let now = self.host().uptime();
        {
            let mut sightings = self.sightings();
            match news {
                DiskNews::Of(nodes) => {
                    sightings.later.extend(nodes.iter().map(|node| (node.clone(), Later::at_once(now))));
                }
                DiskNews::Lost => sightings.all_later = !defect("lost news of disks are not made up for"),
                DiskNews::Nothing => {}
            }
        }
        if self.try_membership().is_none() {
            return Some(AGAIN_FIRST);
        }
        if std::mem::take(&mut self.sightings().all_later) {
            tracing::warn!("news of disks were lost: all are looked at");
            self.scan_by_itself();
            return soon.or_else(|| self.look_again_in(now));
        }
        if !matches!(news, DiskNews::Of(_)) {
            let changed = self.changed_since();
            let mut sightings = self.sightings();
            for node in changed {
                sightings.later.entry(node).or_insert_with(|| Later::at_once(now));
            }
        }
        let changes = self.membership_changes();
        let due = self.take_due(now);
        let looks: Vec<_> = due.keys().map(|node| (node, self.look_again(node))).collect();
        let guard = self.try_membership();
        if guard.is_none() || self.membership_changes() != changes {
            // Whoever changed a VG may have changed what was seen.
            let mut sightings = self.sightings();
            for node in due.into_keys() {
                sightings.later.entry(node).or_insert_with(|| Later::at_once(now));
            }
            return Some(AGAIN_FIRST);
        }
        let mut found = Found::default();
        for (node, look) in looks {
            self.judge(node, look, &mut found);
        }
        let Found { returning, mut strange, mut later, soon: mut not_less_often } = found;
        for (id, disks) in returning {
            let nodes: Vec<_> = disks.iter().map(|disk| disk.info.node.clone()).collect();
            match self.complete(id, disks) {
                Completed::Yes => {}
                Completed::Busy => later.extend(nodes),
                Completed::Unread => {
                    later.extend(nodes.iter().cloned());
                    not_less_often.extend(nodes);
                }
                Completed::Gone => strange = true,
            }
            self.membership_has_changed();
        }
        strange |= self.forget_exported();
        {
            let mut sightings = self.sightings();
            let now = self.host().uptime();
            for node in later {
                let waited = due.get(&node).map_or(Duration::ZERO, |one| one.waited);
                let waited = if not_less_often.contains(&node) { Duration::ZERO } else { waited };
                sightings.later.insert(node, Later::less_often(now, waited));
            }
        }
        drop(guard);
        if strange {
            self.scan_by_itself();
        }
        soon.or_else(|| self.look_again_in(self.host().uptime()))
    }

    /// The disks that are to be looked at by now.
    fn take_due(&self, now: Duration) -> BTreeMap<PathBuf, Later> {
        let mut sightings = self.sightings();
        let (due, later) = std::mem::take(&mut sightings.later).into_iter().partition(|(_, one)| one.due <= now);
        sightings.later = later;
        due
    }

    /// When the next one is due.
    fn look_again_in(&self, now: Duration) -> Option<Duration> {
        let next = self.sightings().later.values().map(|one| one.due).min()?;
        Some(next.saturating_sub(now))
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
            Ok(Some(is)) => !is_same(was, &is),
            Ok(None) => !defect("a disk that goes is not missed"),
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

    /// Looks at a disk, for as long as that may take; nothing comes of it yet.
    fn look_again(&self, node: &Path) -> Look {
        let is = match self.host().disk_at(node) {
            Ok(Some(is)) => is,
            Ok(None) => return Look::Gone,
            Err(_) => return Look::Busy,
        };
        if self.uses(node, &is) {
            return Look::InUse;
        }
        if defect("a disk that comes back is not looked at")
            && let Some((_, Some(label))) = self.sightings().disks.get(node).cloned()
            && let Ok(info) = self.host().inspect(node)
        {
            let labelled = Some(Labelled { info, label });
            return Look::Seen(Box::new(Looked { identity: is, labelled }), Vec::new());
        }
        let mut problems = Vec::new();
        match self.look_at(node, &mut problems) {
            Ok(looked) if looked.labelled.as_ref().is_some_and(|one| !self.can_be_opened(one)) => Look::Busy,
            Ok(looked) => Look::Seen(Box::new(looked), problems),
            Err(error) if is_short_of(&error) => Look::Busy,
            Err(error) => Look::Unreadable(error),
        }
    }

    /// Whether a PV that could not be opened for writing can be by now: its VG is not opened anew to find that out.
    fn can_be_opened(&self, disk: &Labelled) -> bool {
        if !self.sightings().unopened.contains(&disk.label.pv) {
            return true;
        }
        let opened = self.host().open_write(&disk.info.node, &disk.info.identity);
        let refused = opened.is_err_and(|error| is_refused_by_somebody(&error));
        if !refused {
            // Not again: udev tells of a disk that was open for writing, and each time it would be opened at once.
            self.sightings().unopened.remove(&disk.label.pv);
        }
        !refused
    }

    fn judge(&self, node: &Path, look: Look, found: &mut Found) {
        let before = self.sightings().disks.get(node).cloned();
        let (Looked { identity, labelled }, problems) = match look {
            Look::Seen(looked, problems) => (*looked, problems),
            Look::InUse => return,
            Look::Busy => {
                found.later.insert(node.to_owned());
                return;
            }
            Look::Unreadable(error) => {
                return tracing::info!(node = %node.display(), %error, "a device could not be read");
            }
            Look::Gone => {
                self.sightings().disks.remove(node);
                // What was told of it is over. (That a disk in use went was noticed before.)
                found.strange |= before.and_then(|(_, label)| label).is_some_and(|label| self.is_strange(&label));
                return;
            }
        };
        let label = labelled.as_ref().map(|one| one.label.clone());
        let had_label = before.as_ref().and_then(|(_, label)| label.as_ref()).cloned();
        let same = before.is_some_and(|(was, had)| was == identity && had == label);
        self.sightings().disks.insert(node.to_owned(), (identity.clone(), label.clone()));
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
            let here =
                |(id, at): &(PvId, PathBuf)| at == node && view.identities.get(id).is_some_and(|was| is_same(was, is));
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
                    return if is_short_of(&error) { Completed::Busy } else { Completed::Unread };
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
        *times += u32::from(!is_short_of(error));
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

    /// These PVs are there and cannot be opened for writing: that is tried again, ever less often.
    pub(crate) fn could_not_open(&self, all: BTreeMap<PvId, PathBuf>) {
        let now = self.host().uptime();
        let mut sightings = self.sightings();
        for (pv, node) in all {
            sightings.tried.remove(&pv);
            sightings.disks.remove(&node);
            sightings.unopened.insert(pv);
            sightings.later.insert(node, Later::less_often(now, Duration::ZERO));
        }
    }

    /// These are open.
    pub(crate) fn could_open<'a>(&self, all: impl IntoIterator<Item = &'a PvId>) {
        let mut sightings = self.sightings();
        for pv in all {
            sightings.unopened.remove(pv);
        }
    }

    /// All disks were looked at, of these names; `busy` are those of VGs that could not be opened anew then.
    pub(crate) fn saw_all(
        &self,
        names: BTreeSet<PathBuf>,
        disks: BTreeMap<PathBuf, (DiskIdentity, Option<Label>)>,
        busy: BTreeSet<PathBuf>,
    ) {
        let now = self.host().uptime();
        let mut sightings = self.sightings();
        // Those that somebody was in the way of are tried again.
        let mut later = std::mem::take(&mut sightings.later);
        for node in busy {
            later.entry(node).or_insert_with(|| Later::less_often(now, Duration::ZERO));
        }
        let unopened = std::mem::take(&mut sightings.unopened);
        let mut disks = disks;
        disks.retain(|_, (_, label)| !label.as_ref().is_some_and(|label| unopened.contains(&label.pv)));
        *sightings =
            Sightings { names, disks, later, unopened, all_later: sightings.all_later, ..Sightings::default() };
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

/// Whether it is the disk that was there, and not another one under its name.
fn is_same(was: &DiskIdentity, is: &DiskIdentity) -> bool {
    (was.dev, was.diskseq) == (is.dev, is.diskseq) || defect("a disk is told by its name")
}

/// Whether it says nothing of the disk: somebody is in the way, or the daemon is short of something, say descriptors.
const fn is_short_of(error: &HostError) -> bool {
    matches!(error.kind, HostErrorKind::Busy | HostErrorKind::Other)
}

/// Whether a disk cannot be opened for writing because somebody holds it, or made it read-only.
pub(crate) const fn is_refused_by_somebody(error: &HostError) -> bool {
    matches!(error.kind, HostErrorKind::Busy | HostErrorKind::Denied)
}

enum Completed {
    Yes,
    /// It is being changed.
    Busy,
    /// One of its disks in use answers with errors.
    Unread,
    /// It is not open any more.
    Gone,
}
