//! Writing a VG's metadata anew: from a backup onto empty or damaged disks, or under new ids onto copies of its disks.
//!
//! Until the last commit the metadata that is written says *exported*: what a crash leaves half done is found, activates nothing,
//! takes no change, and can be written over by doing it again (`docs/spec/on-disk-format.md`, section 9). No data extent is touched.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use vol_types::{Change, Name, Object, Pv, PvId, Vg, VgId, VgState};

use crate::catalog::Catalog;
use crate::observed::{DevNumber, DiskInfo, DiskKind};
use crate::plan::{Kernel, Plan, members, pool, thick};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, PvDevice, Requirement, Step};

/// A label of ours on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLabel {
    pub vg: VgId,
    pub vg_name: Name,
    pub pv: PvId,
    /// Whether the daemon has this VG open.
    pub vg_known: bool,
}

/// How far the metadata on a disk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub sequence: u64,
    /// It says what the backup says: an earlier try wrote it, or nothing changed since.
    pub same: bool,
}

/// A disk that is to be a PV of the backup.
#[derive(Clone, Debug)]
pub struct RestoreDisk {
    pub pv: PvId,
    /// As it was asked for, or where its label was found.
    pub path: PathBuf,
    pub info: Result<DiskInfo, String>,
    pub label: Option<FoundLabel>,
    /// Whether it is a partition if the PV was one, and only then.
    pub kind_fits: bool,
    /// What it carries that is not ours.
    pub foreign: Option<String>,
    pub head: Option<Head>,
}

/// `vg restore`.
#[derive(Clone, Debug)]
pub struct RestoreVg {
    /// What the backup holds, at its sequence number.
    pub catalog: Catalog,
    pub kernel: Kernel,
    pub disks: Vec<RestoreDisk>,
    /// Other disks with this VG's label.
    pub elsewhere: Vec<(PathBuf, Head)>,
    pub wipe: bool,
    pub older: bool,
    /// Names of the other VGs.
    pub taken: Vec<Name>,
}

/// Far more commits than a log has room for: whatever a damaged or absent disk still holds comes before the new history.
const LEAP: u64 = 1 << 20;

/// `vg restore`: the plan, and the catalog as it is written first.
pub fn restore(request: &RestoreVg) -> Result<(Plan, Catalog), Refusal> {
    let backup = &request.catalog;
    let vg = backup.vg();
    if request.taken.contains(&vg.name) {
        return Err(Refusal::exists(format!("there is another volume group named {}", vg.name))
            .hint(format!("rename that one first: `volctl vg rename {} NEW`", vg.name)));
    }
    if let Some(first) = crate::check::violations(backup).first() {
        return Err(Refusal::invalid(format!("the backup contradicts itself: {first}")));
    }
    if !backup.pvs().any(|pv| pv.metadata) {
        return Err(Refusal::invalid("no PV of the backup carries the metadata"));
    }
    let mut plan = Plan::new(format!("restore volume group {} as of commit {}", vg.name, backup.sequence()));
    free(backup, &request.kernel, &mut plan)?;
    let disks = usable(request)?;
    newest(request)?;
    let heads =
        request.disks.iter().filter_map(|disk| disk.head).chain(request.elsewhere.iter().map(|(_, head)| *head));
    let seen = heads.map(|head| head.sequence).chain([backup.sequence()]).max().unwrap_or(0);
    let sequence = seen.saturating_add(LEAP);
    let mut files = Vec::new();
    let mut objects = vec![Object::Vg(Vg { state: VgState::Exported, ..vg.clone() })];
    for pv in backup.pvs() {
        let Some((_, info)) = disks.get(&pv.id) else { continue };
        objects.push(Object::Pv(stands_on(pv, info, &mut files)));
    }
    objects.extend(backup.objects().into_iter().filter(|object| !matches!(object, Object::Vg(_) | Object::Pv(_))));
    let Some(catalog) = Catalog::from_objects(sequence, objects.clone()) else {
        return Err(Refusal::invalid("the backup holds no volume group"));
    };
    for (disk, info) in disks.values() {
        if disk.foreign.is_some() {
            plan.steps.push(
                Step::new(Action::WipeSignatures {
                    node: info.node.clone(),
                    identity: info.identity.clone(),
                    signatures: info.signatures.clone(),
                })
                .requires(unchanged(info)),
            );
        }
    }
    for (disk, info) in disks.values() {
        open(disk.pv, info, &mut plan);
    }
    plan.push(Action::StartStore { objects, sequence });
    for pv in backup.pvs() {
        plan.push(Action::WriteLabel { pv: pv.id });
    }
    for pv in backup.pvs() {
        plan.push(Action::WriteMark { pv: pv.id });
    }
    if !files.is_empty() {
        plan.push(Action::RememberFiles { add: files, remove: Vec::new() });
    }
    // Its devices are gone by then.
    into_use(&catalog, &Kernel::default(), &mut plan)?;
    Ok((plan, catalog))
}

fn unchanged(info: &DiskInfo) -> Requirement {
    Requirement::Unchanged { node: info.node.clone(), identity: info.identity.clone() }
}

fn open(pv: PvId, info: &DiskInfo, plan: &mut Plan) {
    let device = PvDevice::Disk { node: info.node.clone(), identity: info.identity.clone() };
    plan.steps.push(Step::new(Action::OpenPv { pv, device }).requires(unchanged(info)));
}

/// The commit that ends it, and the pools.
fn into_use(catalog: &Catalog, kernel: &Kernel, plan: &mut Plan) -> Result<(), Refusal> {
    plan.commit(vec![Change::Put(Object::Vg(Vg { state: VgState::Ready, ..catalog.vg().clone() }))]);
    for pool in catalog.pools() {
        pool::activate(catalog, kernel, pool, false, plan)?;
    }
    Ok(())
}

/// A PV's record with what is now known of the disk that it stands on.
fn stands_on(pv: &Pv, info: &DiskInfo, files: &mut Vec<PathBuf>) -> Pv {
    let file = match &info.kind {
        DiskKind::Loop { file } if pv.backing_file.as_ref().is_some_and(|own| own.as_str() == file.as_os_str()) => {
            files.push(file.clone());
            pv.backing_file.clone()
        }
        _ => None,
    };
    Pv {
        path_hint: file.clone().unwrap_or_else(|| info.node.display().to_string()),
        hardware_id: info.hardware_id.clone(),
        backing_file: file,
        left: Vec::new(),
        ..pv.clone()
    }
}

/// Takes the group's pools down; a volume in use forbids it.
fn free(backup: &Catalog, kernel: &Kernel, plan: &mut Plan) -> Result<(), Refusal> {
    if let Some(used) = backup.volumes().find_map(|volume| members::in_use(backup, kernel, volume)) {
        return Err(Refusal::busy(used).hint("unmount or detach its volumes first; nothing was written"));
    }
    for pool in backup.pools() {
        members::release_idle(backup, kernel, pool, plan);
        pool::deactivate(kernel, pool.id, plan);
    }
    for one in backup.thick_volumes() {
        thick::remove_devices(kernel, one, plan);
    }
    Ok(())
}

type Disks<'a> = BTreeMap<PvId, (&'a RestoreDisk, &'a DiskInfo)>;

/// One disk for each PV; else one refusal that tells of all that is wrong.
fn usable(request: &RestoreVg) -> Result<Disks<'_>, Refusal> {
    let mut disks = Disks::new();
    let mut problems = Vec::new();
    let mut by_number: BTreeMap<DevNumber, &PathBuf> = BTreeMap::new();
    for disk in &request.disks {
        let path = disk.path.display();
        let Some(pv) = request.catalog.pv(disk.pv) else {
            problems.push((RefusalCode::NotFound, format!("PV {} is not in the backup", disk.pv)));
            continue;
        };
        let info = match &disk.info {
            Ok(info) => info,
            Err(error) => {
                problems.push((RefusalCode::NotFound, format!("{path} cannot be used: {error}")));
                continue;
            }
        };
        if by_number.insert(info.identity.dev, &disk.path).is_some() {
            problems.push((RefusalCode::Invalid, format!("{path} is to be two PVs")));
        } else if let Some(problem) = disk_problem(request, disk, info, pv) {
            problems.push((problem.0, format!("{path} {}", problem.1)));
        } else if let Some((other, _)) = disks.insert(disk.pv, (disk, info)) {
            let text = format!("{} and {path} both carry the label of PV {}", other.path.display(), disk.pv);
            problems.push((RefusalCode::Invalid, text));
        }
    }
    for pv in request.catalog.pvs().filter(|pv| !request.disks.iter().any(|disk| disk.pv == pv.id)) {
        let text = format!("no disk is known for PV {} (was {}, {})", pv.id, pv.path_hint, pv.device_size);
        problems.push((RefusalCode::NotFound, text));
    }
    let Some((code, _)) = problems.first() else { return Ok(disks) };
    let all: Vec<_> = problems.iter().map(|(_, text)| text.as_str()).collect();
    Err(Refusal::new(*code, all.join("; ")).hint(
        "nothing was written; --disk PV=DISK says which disk is to be a PV, --wipe destroys what else it carries",
    ))
}

fn disk_problem(request: &RestoreVg, disk: &RestoreDisk, info: &DiskInfo, pv: &Pv) -> Option<(RefusalCode, String)> {
    let vg = request.catalog.vg();
    match &disk.label {
        Some(label) if label.vg == vg.id && label.pv != disk.pv => {
            return Some((RefusalCode::Refused, format!("is PV {} of this volume group, not {}", label.pv, disk.pv)));
        }
        Some(label) if label.vg != vg.id && (label.vg_known || !request.wipe) => {
            let text = format!("belongs to the volume group {} ({}) already", label.vg_name, label.vg);
            return Some((RefusalCode::Refused, text));
        }
        _ => {}
    }
    if !info.mounts.is_empty() {
        return Some((RefusalCode::Busy, "is mounted".to_owned()));
    }
    if info.swap {
        return Some((RefusalCode::Busy, "is in use as swap".to_owned()));
    }
    // The pools of this group go down first.
    let own: Vec<_> = request.kernel.dm.values().map(|info| format!("dm-{}", info.dev.minor)).collect();
    let foreign: Vec<_> = info
        .holders
        .iter()
        .filter(|holder| !own.iter().any(|name| holder.split(' ').next() == Some(name)))
        .cloned()
        .collect();
    if !foreign.is_empty() {
        return Some((RefusalCode::Busy, format!("is in use by {}", foreign.join(", "))));
    }
    if info.read_only {
        return Some((RefusalCode::Refused, "is read-only".to_owned()));
    }
    if info.sector_size != vg.sector_size {
        let text = format!("has sectors of {} bytes, the volume group has {}", info.sector_size, vg.sector_size);
        return Some((RefusalCode::Invalid, text));
    }
    if info.identity.size < pv.device_size {
        let text = format!("is too small: it has {}, the PV had {}", info.identity.size, pv.device_size);
        return Some((RefusalCode::Invalid, text));
    }
    if !disk.kind_fits {
        return Some((RefusalCode::Invalid, "is a partition where the PV was a whole disk, or the reverse".to_owned()));
    }
    match &disk.foreign {
        Some(found) if !request.wipe => Some((RefusalCode::Refused, format!("is not empty, it carries: {found}"))),
        _ => None,
    }
}

/// Refuses to go back behind what a disk still knows.
fn newest(request: &RestoreVg) -> Result<(), Refusal> {
    let own = request.disks.iter().filter_map(|disk| Some((&disk.path, disk.head?)));
    let all = own.chain(request.elsewhere.iter().map(|(path, head)| (path, *head)));
    let newer: Vec<_> = all
        .filter(|(_, head)| !head.same && head.sequence >= request.catalog.sequence())
        .map(|(path, head)| format!("{} (commit {})", path.display(), head.sequence))
        .collect();
    if newer.is_empty() || request.older {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::Refused,
        format!("there is metadata that is not older than the backup (commit {}): {}", request.catalog.sequence(), newer.join(", ")),
    )
    .hint("nothing was written; `volctl pv scan` may find the group as it is; --older puts it back to the backup all the same"))
}

/// A copy of a PV's disk.
#[derive(Clone, Debug)]
pub struct CloneDisk {
    /// The PV that it is to be.
    pub pv: PvId,
    pub info: DiskInfo,
    /// The slot that the metadata under the old ids does not need; `None`: it has its new label already, or carries no copy.
    pub slot: Option<u8>,
}

/// `vg import-clone`: `catalog` is what is to be written, under the new ids, with the VG exported. Labels of PVs with metadata go
/// first, so that whatever a crash leaves relabelled tells what it was.
pub fn import_clone(catalog: &Catalog, disks: &[CloneDisk]) -> Result<Plan, Refusal> {
    let vg = catalog.vg();
    let mut plan = Plan::new(format!("make a copy of disks the volume group {} ({})", vg.name, vg.id));
    let mut objects = catalog.objects();
    for object in &mut objects {
        if let Object::Pv(pv) = object
            && let Some(disk) = disks.iter().find(|disk| disk.pv == pv.id)
        {
            *pv = stands_on(pv, &disk.info, &mut Vec::new());
        }
    }
    let objects = Arc::new(objects);
    for disk in disks {
        open(disk.pv, &disk.info, &mut plan);
    }
    for disk in disks {
        if let Some(slot) = disk.slot {
            let (pv, sequence, objects) = (disk.pv, catalog.sequence(), objects.clone());
            plan.push(Action::Imprint { pv, sequence, slot, objects });
        }
    }
    let (first, then): (Vec<&Pv>, Vec<&Pv>) = catalog.pvs().partition(|pv| pv.metadata);
    for pv in first.iter().chain(&then) {
        plan.push(Action::WriteLabel { pv: pv.id });
    }
    for pv in catalog.pvs() {
        plan.push(Action::WriteMark { pv: pv.id });
    }
    plan.push(Action::OpenStore);
    into_use(catalog, &Kernel::default(), &mut plan)?;
    Ok(plan)
}
