//! Changing what a volume group is made of: extending, reducing, renaming, exporting, importing, and giving up what was lost.
//!
//! The orders of writing stand in `docs/spec/on-disk-format.md`, section 9. A PV that joins has its checkpoint, label and mark
//! before the commit that makes it one; a PV that leaves keeps them until that commit is durable. So a crash leaves at worst a
//! disk with a label that the catalog does not know, which is reported and can be wiped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use vol_types::{Change, Content, Name, Object, ObjectKey, Pool, Pv, PvId, Vg, VgState, limit};

use crate::catalog::{Catalog, VolumeName};
use crate::dm::Device;
use crate::observed::DiskIdentity;
use crate::plan::disks::{self, DiskCandidate, FileCandidate};
use crate::plan::{Kernel, Plan, pool, thick};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, Requirement, Step};

/// `vg extend`.
#[derive(Clone, Debug, Default)]
pub struct ExtendVg {
    pub disks: Vec<DiskCandidate>,
    pub files: Vec<FileCandidate>,
    /// Signatures may be destroyed.
    pub wipe: bool,
}

/// `vg reduce`: which PVs, and what is known of those that are gone.
#[derive(Clone, Debug, Default)]
pub struct ReduceVg {
    /// The PVs to be taken out; empty with `missing`: all that are missing.
    pub pvs: Vec<PvId>,
    /// PVs that are not there are meant.
    pub missing: bool,
    /// An operator's word that what is missing will never come back.
    pub force: bool,
    /// Why the VG takes no changes, if it takes none.
    pub frozen: Option<String>,
}

/// Deletions that go into one commit: well below the longest record (FMT-14).
const DELETIONS_PER_COMMIT: usize = 8000;

/// How many objects a refusal names before it says how many more there are.
const NAMED_MAX: usize = 5;

/// The first few names, and how many more there are.
fn few(names: &[String]) -> String {
    let first = names.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// `vg rename`. The labels' names are hints: what cannot be rewritten now is corrected when the VG is opened the next time.
/// An empty plan: it has that name. `taken` are the names of all VGs.
pub fn rename(catalog: &Catalog, missing: &[PvId], new: &Name, taken: &[Name]) -> Result<Plan, Refusal> {
    let vg = catalog.vg();
    let mut plan = Plan::new(format!("rename volume group {} to {new}", vg.name));
    if vg.name == *new {
        return Ok(plan);
    }
    if taken.contains(new) {
        return Err(Refusal::exists(format!("there is a volume group named {new} already"))
            .hint("choose another name, or see `volctl vg list`"));
    }
    plan.commit(vec![Change::Put(Object::Vg(Vg { name: new.clone(), ..vg.clone() }))]);
    for pv in catalog.pvs().filter(|pv| !missing.contains(&pv.id)) {
        plan.push(Action::RefreshLabel { pv: pv.id });
    }
    Ok(plan)
}

/// `vg export`: the pools go down, then the commit that says so. A crash before it brings them up again. An empty plan: it is
/// exported already.
pub fn export(catalog: &Catalog, kernel: &Kernel) -> Result<Plan, Refusal> {
    let vg = catalog.vg();
    let mut plan = Plan::new(format!("export volume group {}", vg.name));
    if vg.state == VgState::Exported {
        return Ok(plan);
    }
    let in_use: Vec<_> = catalog.volumes().filter_map(|volume| in_use(catalog, kernel, volume)).collect();
    if !in_use.is_empty() {
        return Err(Refusal::busy(format!("volume group {} is in use: {}", vg.name, few(&in_use)))
            .hint("unmount or detach them first"));
    }
    if catalog.unfinished().next().is_some() {
        return Err(Refusal::busy(format!(
            "something in volume group {} was cut short and is not settled yet",
            vg.name
        ))
        .hint("see `volctl status`; it is tried again by itself"));
    }
    for pool in catalog.pools() {
        release_idle(catalog, kernel, pool, &mut plan);
        pool::deactivate(kernel, pool.id, &mut plan);
    }
    for one in catalog.thick_volumes() {
        thick::remove_devices(kernel, one, &mut plan);
    }
    plan.commit(vec![Change::Put(Object::Vg(Vg { state: VgState::Exported, ..vg.clone() }))]);
    Ok(plan)
}

/// Appends the removal of volumes that nobody uses: somebody had one open when it was unmounted, so that it stayed.
pub(super) fn release_idle(catalog: &Catalog, kernel: &Kernel, pool: &Pool, plan: &mut Plan) {
    for volume in catalog.volumes_of(pool.id) {
        let device = Device::Volume(volume.id);
        if kernel.dm.contains_key(&device) {
            plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
        }
    }
}

/// How a volume is in use, if it is.
pub(super) fn in_use(catalog: &Catalog, kernel: &Kernel, volume: &vol_types::Volume) -> Option<String> {
    let device = Device::Volume(volume.id);
    kernel.dm.get(&device)?;
    let name = format!("{}/{}", catalog.vg().name, VolumeName::of(volume));
    match kernel.mounts_of(device).first() {
        Some(mount) => Some(format!("{name} is mounted at {}", mount.target.display())),
        None if volume.content == Content::Raw => Some(format!("{name} is attached")),
        None => None,
    }
}

/// `vg import`: the commit that takes the VG into use, then its pools come up. An empty plan: it is in use already.
pub fn import(catalog: &Catalog, kernel: &Kernel, missing: &[PvId]) -> Result<Plan, Refusal> {
    let vg = catalog.vg();
    let mut plan = Plan::new(format!("import volume group {}", vg.name));
    match vg.state {
        VgState::Ready => return Ok(plan),
        VgState::Exported => {}
        VgState::Creating | VgState::Deleting | VgState::Erasing => {
            return Err(Refusal::busy(format!("volume group {} is being made or deleted", vg.name)));
        }
    }
    plan.commit(vec![Change::Put(Object::Vg(Vg { state: VgState::Ready, ..vg.clone() }))]);
    for pool in catalog.pools() {
        if lost_disks(catalog, pool, missing).is_empty() {
            pool::activate(catalog, kernel, pool, false, &mut plan)?;
        }
    }
    Ok(plan)
}

/// `vg extend`: the same checks of disks as for a new VG, and the VG's own sector size.
pub fn extend(catalog: &Catalog, request: &ExtendVg) -> Result<Plan, Refusal> {
    let vg = catalog.vg();
    let added = request.disks.len() + request.files.len();
    if added == 0 {
        return Err(Refusal::invalid(format!("no disk was named to extend volume group {} with", vg.name))
            .hint("name disks (/dev/sdb) or a file to be made (--file /var/lib/volumed/more.img:20G)"));
    }
    let have = catalog.pvs().count();
    if have + added > limit::PVS_PER_VG_MAX {
        return Err(Refusal::invalid(format!(
            "a volume group has at most {} PVs; {} has {have}, {added} were given",
            limit::PVS_PER_VG_MAX,
            vg.name
        )));
    }
    let left_over = request.disks.iter().any(|disk| disk.label.as_ref().is_some_and(|label| label.vg == vg.id));
    let usable = disks::usable_disks(&request.disks, request.wipe).map_err(|refusal| {
        if left_over {
            refusal.hint(
                "nothing was written; a disk that was taken out of the group, or whose extending was cut short, is freed \
                 with `volctl pv wipe DISK`",
            )
        } else {
            refusal
        }
    })?;
    disks::usable_files(&request.files)?;
    let sector_size = disks::common_sector_size(&usable, !request.files.is_empty())?;
    if sector_size != vg.sector_size {
        return Err(Refusal::invalid(format!(
            "volume group {} has logical sectors of {} bytes, what was given has {sector_size}",
            vg.name, vg.sector_size
        ))
        .hint("nothing was written; a volume group cannot mix sector sizes: make one of its own for these disks"));
    }
    let mut plan = Plan::new(format!("extend volume group {}", vg.name));
    let mut pvs = disks::prepare(&mut plan, &request.files, &usable);
    let copies = catalog.pvs().filter(|pv| pv.metadata).count();
    for pv in pvs.iter_mut().take(usize::from(vg.metadata_copies).saturating_sub(copies)) {
        pv.metadata = true;
        plan.push(Action::AdmitCopy { pv: pv.id });
    }
    for pv in &pvs {
        plan.push(Action::WriteLabel { pv: pv.id });
    }
    for pv in &pvs {
        plan.push(Action::WriteMark { pv: pv.id });
    }
    let files: Vec<_> = request.files.iter().map(|file| file.path.clone()).collect();
    if !files.is_empty() {
        plan.push(Action::RememberFiles { add: files, remove: Vec::new() });
    }
    plan.commit(pvs.into_iter().map(|pv| Change::Put(Object::Pv(pv))).collect());
    Ok(plan)
}

/// After an extension that failed: takes back what was done to disks that did not become PVs. `begun` are those that were
/// opened, with the backing file of each that has one.
pub fn unextend(begun: &[(PvId, Option<PathBuf>)]) -> Plan {
    let mut plan = Plan::new("take back an extension that failed");
    for (pv, _) in begun {
        plan.push(Action::EraseMark { pv: *pv });
    }
    for (pv, _) in begun {
        plan.push(Action::EraseLabel { pv: *pv });
    }
    leave(&mut plan, begun);
    plan
}

/// Appends what is left to do with PVs that carry nothing of ours any more.
fn leave(plan: &mut Plan, pvs: &[(PvId, Option<PathBuf>)]) {
    for (pv, file) in pvs {
        match file {
            Some(file) => {
                plan.push(Action::DetachLoop { pv: *pv, file: file.clone() });
                plan.push(Action::DeleteFile { file: file.clone() });
            }
            None => plan.push(Action::ClosePv { pv: *pv }),
        }
    }
    let remove: Vec<_> = pvs.iter().filter_map(|(_, file)| file.clone()).collect();
    if !remove.is_empty() {
        plan.push(Action::RememberFiles { add: Vec::new(), remove });
    }
}

/// `pv wipe`: takes everything of ours off a disk. The label goes last, so that a crash leaves what can be wiped again.
pub fn wipe(pv: PvId, node: &Path, identity: &DiskIdentity) -> Plan {
    let mut plan = Plan::new(format!("wipe PV {pv} off {}", node.display()));
    let unchanged = || Requirement::Unchanged { node: node.to_owned(), identity: identity.clone() };
    for action in [Action::EraseMark { pv }, Action::EraseLabel { pv }] {
        plan.steps.push(Step::new(action).requires(unchanged()));
    }
    plan
}

fn path_of(pv: &Pv) -> String {
    format!("{} (PV {})", pv.path_hint, pv.id)
}

/// `vg reduce`. An empty plan: nothing is missing.
pub fn reduce(catalog: &Catalog, missing: &[PvId], request: &ReduceVg) -> Result<Plan, Refusal> {
    let vg = catalog.vg();
    let wanted = chosen(catalog, missing, request)?;
    let mut plan = Plan::new(format!("reduce volume group {}", vg.name));
    if wanted.is_empty() {
        // What is missing may be no PV any more: the copies were being moved away from it.
        if request.frozen.is_some() && request.force {
            go_on_without(catalog, Vec::new(), &mut plan);
        }
        return Ok(plan);
    }
    unused(catalog, &wanted, request.missing)?;
    let stay: Vec<_> = catalog.pvs().filter(|pv| !wanted.contains_key(&pv.id)).collect();
    if stay.is_empty() {
        return Err(Refusal::new(
            RefusalCode::Refused,
            format!("volume group {} would be left without any PV", vg.name),
        )
        .hint(format!("`volctl vg delete {}` takes it apart as a whole", vg.name)));
    }
    let heirs = heirs(catalog, missing, &stay)?;
    match &request.frozen {
        None => {}
        Some(reason) if !(request.missing && request.force) => {
            return Err(Refusal::new(
                RefusalCode::Degraded,
                format!("volume group {} takes no changes: {reason}", vg.name),
            )
            .hint(format!(
                "attach the missing disks and run `volctl pv scan`; only if they will never come back: \
                 `volctl vg reduce {} --missing --force`",
                vg.name
            )));
        }
        Some(_) => {
            let lost = wanted.values().filter(|pv| pv.metadata).map(|pv| pv.id).collect();
            go_on_without(catalog, lost, &mut plan);
        }
    }
    for pv in &heirs {
        plan.push(Action::AdmitCopy { pv: pv.id });
    }
    let mut changes: Vec<_> = heirs
        .into_iter()
        .map(|pv| Change::Put(Object::Pv(Pv { metadata: true, left: Vec::new(), ..pv.clone() })))
        .collect();
    changes.extend(wanted.keys().map(|id| Change::Delete(ObjectKey::Pv(*id))));
    changes.extend(catalog.pools().filter_map(|pool| {
        let placement = pool.placement.without(|pv| wanted.contains_key(&pv))?;
        Some(Change::Put(Object::Pool(Pool { placement: Box::new(placement), ..pool.clone() })))
    }));
    plan.commit(changes);
    let (gone, there): (Vec<&Pv>, Vec<&Pv>) = wanted.values().partition(|pv| missing.contains(&pv.id));
    for pv in &there {
        plan.push(Action::EraseMark { pv: pv.id });
    }
    for pv in &there {
        plan.push(Action::EraseLabel { pv: pv.id });
    }
    let there: Vec<_> = there.iter().map(|pv| (pv.id, pv.backing_file.as_ref().map(PathBuf::from))).collect();
    leave(&mut plan, &there);
    let forgotten: Vec<_> = gone.iter().filter_map(|pv| pv.backing_file.as_ref().map(PathBuf::from)).collect();
    if !forgotten.is_empty() {
        plan.push(Action::RememberFiles { add: Vec::new(), remove: forgotten });
    }
    Ok(plan)
}

/// Two commits must follow an operator's word (`Store::declare_lost`); this is the first, and changes nothing.
fn go_on_without(catalog: &Catalog, lost: Vec<PvId>, plan: &mut Plan) {
    plan.push(Action::DeclareLost { pvs: lost });
    plan.commit(vec![Change::Put(Object::Vg(catalog.vg().clone()))]);
}

/// The PVs that a reduction is about.
fn chosen<'a>(catalog: &'a Catalog, missing: &[PvId], request: &ReduceVg) -> Result<BTreeMap<PvId, &'a Pv>, Refusal> {
    let vg = &catalog.vg().name;
    if request.pvs.is_empty() && !request.missing {
        return Err(Refusal::invalid("no PV was named to be taken out")
            .hint("name its path or id (`volctl pv list`), or --missing for those that are gone"));
    }
    let all: Vec<PvId> = if request.pvs.is_empty() { missing.to_vec() } else { request.pvs.clone() };
    let mut chosen = BTreeMap::new();
    for id in all {
        let pv = catalog.pv(id).ok_or_else(|| {
            Refusal::not_found(format!("PV {id} is not in volume group {vg}"))
                .hint(format!("`volctl pv list {vg}` shows its PVs"))
        })?;
        match (missing.contains(&id), request.missing) {
            (true, false) => {
                return Err(Refusal::new(
                    RefusalCode::Degraded,
                    format!("{} is missing: its label would stay on the disk", path_of(pv)),
                )
                .hint(format!(
                    "attach it and run `volctl pv scan`; if it is gone for good: `volctl vg reduce {vg} --missing`"
                )));
            }
            (false, true) => {
                return Err(Refusal::invalid(format!("{} is there; --missing is for PVs that are not", path_of(pv)))
                    .hint(format!("`volctl vg reduce {vg} {}` takes it out", pv.path_hint)));
            }
            _ => drop(chosen.insert(id, pv)),
        }
    }
    Ok(chosen)
}

/// Refuses PVs that hold extents, and names the pools.
fn unused(catalog: &Catalog, wanted: &BTreeMap<PvId, &Pv>, lost: bool) -> Result<(), Refusal> {
    let vg = &catalog.vg().name;
    let mut problems = Vec::new();
    let mut first = None;
    let mut on_volumes = false;
    for pv in wanted.values() {
        let on_it = |pool: &&Pool| pool.segments().any(|segment| segment.pv == pv.id);
        let pools: Vec<_> = catalog.pools().filter(on_it).map(|pool| format!("{vg}/{}", pool.name)).collect();
        if !pools.is_empty() {
            first = first.or_else(|| pools.first().cloned());
            problems.push(format!("{} holds extents of {}", path_of(pv), few(&pools)));
        }
        let on_it = |one: &&vol_types::Volume| {
            one.thick().is_some_and(|thick| thick.segments.iter().any(|segment| segment.pv == pv.id))
        };
        let volumes: Vec<_> = catalog.thick_volumes().filter(on_it).map(|one| format!("{vg}/{}", one.name)).collect();
        if !volumes.is_empty() {
            on_volumes = true;
            problems.push(format!("{} holds extents of {}", path_of(pv), few(&volumes)));
        }
    }
    if first.is_none() && on_volumes {
        return Err(Refusal::busy(problems.join("; "))
            .hint("delete these volumes for good first (`volctl volume delete --now`); moving extents to another PV is not there yet"));
    }
    let Some(pool) = first else { return Ok(()) };
    let refusal = Refusal::busy(problems.join("; "));
    Err(if lost {
        refusal.hint(format!(
            "what stood on it is lost: `volctl pool delete {pool} --lost` gives up a pool, with all of its volumes"
        ))
    } else {
        refusal.hint("delete these pools first; moving extents to another PV is not there yet")
    })
}

/// PVs that are to carry a copy from now on, because others that do are leaving. Refuses what would leave too few copies.
fn heirs<'a>(catalog: &Catalog, missing: &[PvId], stay: &[&'a Pv]) -> Result<Vec<&'a Pv>, Refusal> {
    let vg = catalog.vg();
    let there = |pv: &&&Pv| !missing.contains(&pv.id);
    let members = stay.iter().filter(|pv| pv.metadata).count();
    let wanted = usize::from(vg.metadata_copies).min(stay.len());
    let candidates = stay.iter().filter(there).filter(|pv| !pv.metadata);
    let heirs: Vec<_> = candidates.take(wanted.saturating_sub(members)).copied().collect();
    let present = stay.iter().filter(there).filter(|pv| pv.metadata).count() + heirs.len();
    if present <= (members + heirs.len()) / 2 {
        return Err(Refusal::new(
            RefusalCode::Degraded,
            format!(
                "too few of the metadata copies of volume group {} would be there afterwards: {present} of {}",
                vg.name,
                members + heirs.len()
            ),
        )
        .hint("attach the missing disks and run `volctl pv scan`, or take them out together with these"));
    }
    Ok(heirs)
}

/// The PVs of a pool that are not there.
fn lost_disks<'a>(catalog: &'a Catalog, pool: &Pool, missing: &[PvId]) -> Vec<&'a Pv> {
    let used: BTreeSet<_> = pool.data.iter().chain(&pool.metadata).map(|segment| segment.pv).collect();
    catalog.pvs().filter(|pv| used.contains(&pv.id) && missing.contains(&pv.id)).collect()
}

/// `pool delete --lost`: gives up a pool of which a disk is gone, with everything in it. Without that disk nothing of it can be
/// activated, so its volumes cannot be deleted one by one.
///
/// `frozen` is why the VG takes no changes, if it takes none; `force` is the operator's word that what is missing will never come
/// back.
pub fn delete_lost(
    catalog: &Catalog,
    kernel: &Kernel,
    missing: &[PvId],
    pool: &Pool,
    frozen: Option<&str>,
    force: bool,
) -> Result<Plan, Refusal> {
    let name = format!("{}/{}", catalog.vg().name, pool.name);
    if lost_disks(catalog, pool, missing).is_empty() {
        return Err(Refusal::new(RefusalCode::Refused, format!("all disks of pool {name} are there: nothing is lost"))
            .hint(format!("delete its volumes, then `volctl pool delete {name}`")));
    }
    let used: Vec<_> = catalog.volumes_of(pool.id).filter_map(|volume| in_use(catalog, kernel, volume)).collect();
    if !used.is_empty() {
        return Err(
            Refusal::busy(format!("pool {name} is in use: {}", few(&used))).hint("unmount or detach them first")
        );
    }
    let count = catalog.volumes_of(pool.id).count();
    let mut plan = Plan::new(format!("give up pool {name}, with {count} volumes and snapshots"));
    release_idle(catalog, kernel, pool, &mut plan);
    pool::deactivate(kernel, pool.id, &mut plan);
    match frozen {
        None => {}
        Some(reason) if !force => {
            return Err(Refusal::new(
                RefusalCode::Degraded,
                format!("volume group {} takes no changes: {reason}", catalog.vg().name),
            )
            .hint(
                "attach the missing disks and run `volctl pv scan`; only if they will never come back: add --force",
            ));
        }
        Some(_) => {
            let lost = catalog.pvs().filter(|pv| pv.metadata && missing.contains(&pv.id)).map(|pv| pv.id).collect();
            go_on_without(catalog, lost, &mut plan);
        }
    }
    let mut changes: Vec<_> =
        catalog.intents_of(pool.id).map(|intent| Change::Delete(ObjectKey::Intent(intent.id))).collect();
    changes.extend(catalog.volumes_of(pool.id).map(|volume| Change::Delete(ObjectKey::Volume(volume.id))));
    changes.push(Change::Delete(ObjectKey::Pool(pool.id)));
    for part in changes.chunks(DELETIONS_PER_COMMIT) {
        plan.commit(part.to_vec());
    }
    Ok(plan)
}
