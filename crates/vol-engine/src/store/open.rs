//! Opening: which of the copies tells the truth.
//!
//! Each copy is read by itself ([`History`]): the newest checkpoint that is sound, then the log behind it for as long as each
//! record continues the one before. The copy that comes furthest is chosen. Another is *old* if it ends at a point of the
//! chosen history, which is proven by what the chosen copy still knows or by what was recorded when that copy was left
//! behind; it is brought up to date. One that ends in a single record of its own, where the chosen history went another
//! way with a majority, holds a commit that nobody was told of: it is old, too. Any other tells another story and makes the
//! VG read-only, because only its operator can know which is right (`docs/spec/on-disk-format.md`, section 10).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use vol_core::Catalog;
use vol_format::{label, record};
use vol_types::{CommitPoint, PvId, VgId, defect};

use super::ancestry::Ancestry;
use super::checkpoint_job::CheckpointJob;
use super::copy::StoreCopy;
use super::history::{History, leftover};
use super::{Frozen, Store, first_error, members};
use crate::host::{DurableWrite, HostError, HostErrorKind, HostMut};
use crate::pvs::OpenPvs;

/// More missing records than this are not appended one by one: a checkpoint is one flush less.
/// And where such a copy was left must fit its PV's record.
const CATCH_UP_RECORDS: usize = vol_types::limit::LEFT_POINTS_MAX - 1;

/// What was found on the disks of a VG.
pub struct Opened {
    pub catalog: Catalog,
    pub store: Store,
    /// What is not as it should be, for people.
    pub problems: Vec<String>,
}

/// How a copy stands to the chosen one.
enum Standing {
    Same,
    Old,
    /// Old but for one record of its own, which was never acknowledged.
    Unacknowledged,
    Different,
    Unproven,
}

/// Reads the metadata of `vg` from its PVs and makes the copies agree. `Err` tells why there is none to go by.
pub fn open<H: HostMut + ?Sized>(host: &H, vg: VgId, pvs: &OpenPvs) -> Result<Opened, String> {
    let mut problems = Vec::new();
    let mut unreadable = BTreeMap::new();
    let mut histories = read_all(host, vg, pvs, &mut unreadable);
    let Some((best, catalog, before)) = choose(vg, pvs, &mut histories) else {
        problems.extend(unreadable.into_values());
        problems.insert(0, "none of its disks carries metadata that can be read".to_owned());
        return Err(problems.join("; "));
    };
    let mut store = Store::at(vg, best.sequence, best.hash, members::of(&catalog));
    store.ancestry = Ancestry::from_known(&best.known);
    // Else the first commit would have to count, which takes as long as a checkpoint.
    store.checkpoint_estimate = best.checkpoint_at_most();
    let node = |id: PvId| pvs.get(&id).map_or_else(|| id.to_string(), |pv| pv.node.display().to_string());
    let before = before.map(|before| Before::of(&before, &store.members, pvs)).unwrap_or_default();
    let agreeing: BTreeSet<_> =
        histories.iter().filter(|other| other.head() == best.head()).map(|other| other.pv).chain([best.pv]).collect();
    let carried = agreeing.len() > store.members.len() / 2 && before.has_majority(&agreeing);
    let lacking = lost_commit(&best, &histories, &catalog);
    let heads: Vec<_> = histories.iter().map(History::head).collect();
    let seen: Vec<_> = histories.iter().map(|other| other.pv).chain([best.pv]).collect();
    let mut frozen = None;
    let mut behind = Vec::new();
    for other in histories {
        let pv = other.pv;
        if !store.members.contains(&pv) && !before.members.contains(&pv) {
            // What is no PV of the group at all, the scan tells of.
            if catalog.pv(pv).is_some() {
                problems.push(format!("{} carries metadata, but is not to carry any: ignored", node(pv)));
            }
            continue;
        }
        let alike = heads.iter().filter(|head| **head == other.head()).count();
        match standing(&best, &catalog, carried, alike, &other) {
            Standing::Same => store.copies.extend(pvs.get(&pv).map(|open| other.as_copy(vg, open))),
            Standing::Old => {
                let commits = best.sequence - other.sequence;
                tracing::warn!(node = node(pv), commits, "a metadata copy is behind and is brought up to date");
                behind.push(other);
            }
            Standing::Unacknowledged => {
                let commit = other.sequence;
                tracing::warn!(
                    node = node(pv),
                    commit,
                    "a metadata copy ends in a commit that nobody was told of: it is dropped"
                );
                behind.push(other);
            }
            Standing::Different => {
                let reason = format!(
                    "{} and {} tell different histories of the volume group since commit {}: \
                     they were changed apart from each other",
                    node(pv),
                    node(best.pv),
                    other.sequence
                );
                problems.push(reason.clone());
                frozen = Some(Frozen::Judgement(reason));
            }
            Standing::Unproven => problems.push(format!(
                "the metadata on {} is too old to be compared (commit {}, the newest is {}): it is not used",
                node(pv),
                other.sequence,
                best.sequence
            )),
        }
    }
    if let Some((later, pv)) = lacking {
        // The last record of a log may be torn by a crash. One in the middle was acknowledged, and is lost.
        frozen = Some(Frozen::Judgement(format!(
            "the metadata log on {} is damaged behind commit {}, and no copy has the commits up to {later} that were made: \
             what is shown is old",
            node(pv),
            best.sequence
        )));
    }
    let violations = vol_core::check::violations(&catalog);
    if let Some(first) = violations.first() {
        frozen = Some(Frozen::Judgement(format!("its metadata contradicts itself: {first}")));
        problems.extend(violations);
    }
    let present: BTreeSet<_> =
        store.copies.iter().map(|copy| copy.id.pv).chain(behind.iter().map(|old| old.pv)).chain([best.pv]).collect();
    let (there, wanted) = (store.members.intersection(&present).count(), store.members.len());
    let there = if defect("a wiped copy votes") { pvs.len() } else { there };
    if frozen.is_none() && there <= wanted / 2 && !defect("a minority takes changes") {
        frozen = Some(Frozen::NoMajority(format!(
            "{there} of {wanted} metadata copies are there, a change needs more than half"
        )));
    }
    if frozen.is_none() && !before.has_majority(&present) {
        frozen = Some(Frozen::NoMajority(format!(
            "the last commit ({}) moves metadata copies to other PVs, and too few of the PVs that carried them before are \
             there to tell whether it was finished: attach their disks and run `volctl pv scan`; only if they will never come \
             back: `volctl vg reduce {} --missing --force`",
            best.sequence,
            catalog.vg().name
        )));
    }
    problems.extend(frozen.as_ref().map(|frozen| frozen.reason().to_owned()));
    if frozen.is_none() {
        catch_up(host, &mut store, &best, &catalog, behind, pvs);
    } else {
        store.copies.extend(behind.into_iter().filter_map(|old| retired(old, vg, pvs)));
    }
    if store.members.contains(&best.pv) || before.members.contains(&best.pv) {
        store.copies.extend(pvs.get(&best.pv).map(|open| best.as_copy(vg, open)));
    }
    remember_left(&mut store, &best, &catalog, &seen);
    store.frozen = frozen;
    if store.frozen.is_none() {
        replace_lost(host, &mut store, &catalog, pvs, &seen, &mut problems);
        // What was written anew is no problem any more.
        unreadable.retain(|pv, _| !store.is_written(*pv));
        if let Err(error) = store.majority(&store.members.clone()) {
            problems.push(format!("the metadata copies could not be brought up to date: {error}"));
        }
    }
    problems.extend(unreadable.into_values());
    if store.frozen.is_some() || before.members.is_empty() {
        return Ok(Opened { catalog, store, problems });
    }
    // The change of members that was found becomes final.
    let catalog = RwLock::new(catalog);
    store.lost.extend(&before.lost);
    let settled = store.majority(&before.members).and_then(|()| {
        store.set_members(store.members.clone());
        store.settle_members(host, &catalog)
    });
    if let Err(error) = settled {
        problems.push(format!("a change of who carries the metadata could not be finished: {error}"));
    }
    let catalog = catalog.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Opened { catalog, store, problems })
}

/// Who carried a copy before the last commit, if that moved copies: it may have been acknowledged only if a majority of these
/// has it, and they may have gone on without it.
#[derive(Default)]
struct Before {
    members: BTreeSet<PvId>,
    /// What was declared lost.
    lost: BTreeSet<PvId>,
}

impl Before {
    fn of(before: &Catalog, after: &BTreeSet<PvId>, pvs: &OpenPvs) -> Self {
        let members = members::of(before);
        if !members::moved(&members, after) {
            return Self::default();
        }
        // Where a copy was left is told by a commit, and so of less than half of them; of more, if an operator gave them up.
        let left = |id: &&PvId| !pvs.contains_key(*id) && before.pv(**id).is_some_and(|pv| !pv.left.is_empty());
        let lost: BTreeSet<_> = members.iter().filter(left).copied().collect();
        if lost.len() * 2 >= members.len() { Self { members, lost } } else { Self { members, lost: BTreeSet::new() } }
    }

    fn has_majority(&self, of: &BTreeSet<PvId>) -> bool {
        let counted = self.members.len() - self.lost.len();
        self.members.is_empty() || self.members.intersection(of).count() > counted / 2
    }
}

/// A copy that is behind and stays so, because nothing is written now.
fn retired(old: History, vg: VgId, pvs: &OpenPvs) -> Option<StoreCopy> {
    let behind =
        HostError::new(HostErrorKind::Other, "metadata copy", "it is behind, and cannot be brought up to date now");
    let copy = old.as_copy(vg, pvs.get(&old.pv)?);
    Some(StoreCopy { failed: Some(behind), ..copy })
}

/// Members whose disk is there and holds no metadata any more get it anew. They do not help to decide what is true: what they
/// held may have been acknowledged.
fn replace_lost<H: HostMut + ?Sized>(
    host: &H,
    store: &mut Store,
    catalog: &Catalog,
    pvs: &OpenPvs,
    seen: &[PvId],
    problems: &mut Vec<String>,
) {
    let empty: Vec<_> = pvs.iter().filter(|(pv, _)| store.members.contains(*pv) && !seen.contains(*pv)).collect();
    if empty.is_empty() {
        return;
    }
    let catalog = RwLock::new(catalog.clone());
    for (pv, open) in empty {
        let pv = *pv;
        match store.admit(host, &catalog, pv, open) {
            Ok(()) => {
                let node = open.node.display();
                tracing::warn!(%node, "the metadata of a PV was gone or damaged, and was written anew from the other copies");
                store.left.remove(&pv);
                store.left_changed = true;
            }
            Err(error) => {
                problems.push(format!("the metadata on {} cannot be written anew: {error}", open.node.display()))
            }
        }
    }
}

/// What each PV tells, the furthest first; of those that come equally far, the story that most tell.
fn read_all<H: HostMut + ?Sized>(
    host: &H,
    vg: VgId,
    pvs: &OpenPvs,
    unreadable: &mut BTreeMap<PvId, String>,
) -> Vec<History> {
    let mut found: Vec<_> = pvs.iter().map(|(id, pv)| (id, pv, Ok(None))).collect();
    // Each copy is read and hashed by itself: they wait for different disks.
    let each = found.iter_mut().map(|(id, pv, found)| -> Box<dyn FnOnce() + Send + '_> {
        Box::new(move || *found = History::read(vg, **id, pv, None))
    });
    host.side_by_side(each.collect());
    let mut histories = Vec::new();
    for (id, pv, found) in found {
        match found {
            Ok(found) => histories.extend(found),
            Err(error) => {
                let problem = format!("the metadata on {} cannot be read: {error}", pv.node.display());
                tracing::error!("{problem}");
                unreadable.insert(*id, problem);
            }
        }
    }
    let heads: Vec<_> = histories.iter().map(History::head).collect();
    let agreeing = |head: CommitPoint| heads.iter().filter(|other| **other == head).count();
    if !defect("the first copy is believed") {
        // Of two that are equal, the one that takes no PV out: the other may be known to those alone that copies were moved to.
        histories.sort_by_key(|history| {
            std::cmp::Reverse((history.sequence, agreeing(history.head()), !history.ends_without_pv()))
        });
    }
    histories
}

/// Takes the first history whose catalog makes sense out of the list.
fn choose(vg: VgId, pvs: &OpenPvs, histories: &mut Vec<History>) -> Option<(History, Catalog, Option<Catalog>)> {
    let mut at = 0;
    while let Some(history) = histories.get(at) {
        if let Some(catalog) = history.catalog() {
            let mut best = histories.remove(at);
            let before = best.before_pvs();
            best.forget_payload();
            histories.iter_mut().for_each(History::forget_payload);
            return Some((best, catalog, before));
        }
        // Its other checkpoint may make sense; then it comes less far, and takes its place behind those that come further.
        let (pv, distrust) = (history.pv, Some(history.slot()));
        match pvs.get(&pv).map(|open| History::read(vg, pv, open, distrust)) {
            Some(Ok(Some(older))) if Some(older.slot()) != distrust => {
                histories.remove(at);
                let place = histories.partition_point(|other| other.sequence >= older.sequence);
                histories.insert(place, older);
            }
            _ => at += 1,
        }
    }
    None
}

/// The number of a commit that was made and that no copy can be read up to, with the copy that shows it.
fn lost_commit(best: &History, others: &[History], catalog: &Catalog) -> Option<(u64, PvId)> {
    let members = members::of(catalog);
    // What a copy that is no member's still holds may be of a life that is over.
    let copies = || others.iter().chain([best]).filter(|one| members.contains(&one.pv));
    let (beyond, pv) = copies()
        .filter_map(|one| Some((one.beyond_damage.as_ref()?, one.pv)))
        .filter(|(beyond, _)| beyond.sequence > best.sequence)
        .max_by_key(|(beyond, pv)| (beyond.sequence, *pv))?;
    // The copies that are whole do not have the next commit. If they are so many that it cannot be on a majority, nobody was told
    // of it. This holds as long as it does not change who was asked: an operator may have given the others up with it.
    let may_have_it = members.len() - copies().filter(|one| one.beyond_damage.is_none()).count();
    let mut after = catalog.clone();
    after.commit(beyond.sequence, beyond.changes.clone());
    let untold =
        may_have_it <= members.len() / 2 && beyond.sequence == best.sequence + 1 && members == members::of(&after);
    (!untold).then_some((beyond.sequence, pv))
}

/// `carried`: a majority has the head of the one. `alike`: how many copies have that of the other.
fn standing(best: &History, catalog: &Catalog, carried: bool, alike: usize, other: &History) -> Standing {
    if other.head() == best.head() {
        return Standing::Same;
    }
    let left = catalog.pv(other.pv).map(|pv| pv.left.as_slice()).unwrap_or_default();
    let is_point = |sequence: u64, hash: record::ChainHash| {
        best.known.get(&sequence) == Some(&hash) || left.contains(&CommitPoint { sequence, hash })
    };
    if is_point(other.sequence, other.hash) {
        return Standing::Old;
    }
    // A commit that was acknowledged is on a majority, and nothing is committed on top of one that is not. So where the chosen
    // history went on from the same point, with another commit on top of that or with a majority of the copies, the other
    // commit was not acknowledged.
    let before = other.sequence.checked_sub(1).and_then(|sequence| Some((sequence, *other.known.get(&sequence)?)));
    let members = catalog.pvs().filter(|pv| pv.metadata).count();
    let went_on = best.sequence > other.sequence || carried;
    // Unless a majority has it: then the chosen history is of disks on which the others were declared lost, and they went on.
    let went_on = went_on && alike <= members / 2;
    if went_on && before.is_some_and(|(sequence, hash)| is_point(sequence, hash)) {
        return Standing::Unacknowledged;
    }
    if defect("another history is taken for an old one") {
        return Standing::Old;
    }
    if best.known.contains_key(&other.sequence) { Standing::Different } else { Standing::Unproven }
}

/// The copies that are behind, appended to or given a checkpoint of what was chosen.
fn catch_up<H: HostMut + ?Sized>(
    host: &H,
    store: &mut Store,
    best: &History,
    catalog: &Catalog,
    behind: Vec<History>,
    pvs: &OpenPvs,
) {
    let mut by_checkpoint = Vec::new();
    for old in behind {
        let Some(open) = pvs.get(&old.pv) else { continue };
        let head = old.head();
        let mut copy = old.as_copy(store.vg, open);
        let missing: Vec<_> = best.records.iter().filter(|record| record.sequence > head.sequence).collect();
        let continues =
            missing.first().is_some_and(|first| first.sequence == head.sequence + 1 && first.previous == head.hash);
        let room: usize = missing.iter().map(|record| record.len).sum();
        if continues && missing.len() <= CATCH_UP_RECORDS && copy.has_room_for_all(room as u64) {
            let filled = !missing.is_empty();
            for record in missing.iter().filter(|_| !defect("a copy that is behind stays so")) {
                if let Err(error) = append_old(host, &mut copy, record) {
                    copy.fail(error);
                    break;
                }
            }
            if filled
                && copy.failed.is_none()
                && let Err(error) = end_here(host, &copy, open, &best.head())
            {
                copy.fail(error);
            }
            if copy.failed.is_some() {
                let possible =
                    missing.iter().map(|record| CommitPoint { sequence: record.sequence, hash: record.hash });
                store.leave(copy.id.pv, std::iter::once(head).chain(possible));
            }
            store.copies.push(copy);
        } else {
            by_checkpoint.push((copy, head));
        }
    }
    if by_checkpoint.is_empty() {
        return;
    }
    let mut job = CheckpointJob::new(store.header(), catalog.objects(), by_checkpoint.iter().map(|(copy, _)| copy));
    let failed = job.finish(host).err();
    for ((mut copy, head), part) in by_checkpoint.into_iter().zip(&job.parts) {
        let error = part.failed.clone().or_else(|| {
            let error = failed.as_ref()?;
            Some(HostError::new(HostErrorKind::Other, "bring the copy up to date", error.to_string()))
        });
        match error {
            None => {
                copy.slot = part.slot;
                copy.log_start = part.log_position;
            }
            Some(error) => {
                copy.fail(error);
                store.leave(copy.id.pv, [head, CommitPoint { sequence: store.sequence, hash: store.hash }]);
            }
        }
        store.copies.push(copy);
    }
    store.counters.checkpoints += 1;
}

/// A copy may have lost a record in the middle, and hold behind it one that nobody was told of. Now that the gap is filled, that
/// one would continue the history that was chosen without it.
fn end_here<H: HostMut + ?Sized>(
    host: &H,
    copy: &StoreCopy,
    open: &crate::pvs::OpenPv,
    head: &CommitPoint,
) -> Result<(), HostError> {
    let Some(position) = leftover(copy, open, head)? else { return Ok(()) };
    let offset = copy.geometry.log_offset + position % copy.geometry.log_len;
    tracing::warn!(pv = %copy.id.pv, commit = head.sequence + 1, "a commit that nobody was told of is blanked");
    first_error(host.write_durable(&[DurableWrite { device: &copy.device, offset, data: &label::blank() }]))
}

/// A record of the chosen history, with its own number and hashes, at the end of a copy that lacks it.
fn append_old<H: HostMut + ?Sized>(host: &H, copy: &mut StoreCopy, missing: &record::Record) -> Result<(), HostError> {
    let other = |error: String| HostError::new(HostErrorKind::Other, "append a missing commit", error);
    let payload = record::encode_payload(&missing.changes).map_err(|error| other(error.to_string()))?;
    let count = u32::try_from(missing.changes.len()).map_err(|error| other(error.to_string()))?;
    let log_len = copy.geometry.log_len;
    let position = record::place(copy.log_position, record::disk_len(payload.len()) as u64, log_len);
    let bytes = record::encode(&copy.id, position, missing.sequence, &missing.previous, &payload, count);
    let offset = copy.geometry.log_offset + position % log_len;
    first_error(host.write_durable(&[DurableWrite { device: &copy.device, offset, data: &bytes }]))?;
    copy.log_position = position + bytes.len() as u64;
    Ok(())
}

/// What has to be said of the copies that are not there, so that they can be told from different ones when they come back.
fn remember_left(store: &mut Store, best: &History, catalog: &Catalog, seen: &[PvId]) {
    let last = best
        .sequence
        .checked_sub(1)
        .and_then(|before| Some(CommitPoint { sequence: before, hash: *best.known.get(&before)? }));
    for pv in catalog.pvs().filter(|pv| pv.metadata) {
        if store.is_written(pv.id) {
            continue;
        }
        if !pv.left.is_empty() {
            // Beside these points stand those that it could not be brought to just now. One that is absent may have been brought
            // up to date by a start after which nothing was committed: then it has what was the head at the time.
            let now = store.left.remove(&pv.id).unwrap_or_default();
            store.left.insert(pv.id, pv.left.clone());
            store.leave(pv.id, now);
            if !seen.contains(&pv.id) {
                store.leave_at_last(pv.id, best.head());
            }
        } else if !seen.contains(&pv.id) {
            // It was in good standing when it was last written to, and one commit is under way at a time: it has the last one,
            // or the one before, or one that nobody was told of.
            store.leave(pv.id, last.into_iter().chain([best.head()]));
        }
    }
    store.left_changed = catalog
        .pvs()
        .filter(|pv| pv.metadata)
        .any(|pv| store.left.get(&pv.id).map(Vec::as_slice).unwrap_or_default() != pv.left.as_slice());
}
