//! Making a volume group out of disks and files, and taking it apart.
//!
//! The order of making one (`docs/spec/on-disk-format.md`, "Making a volume group"): wipe what is to be wiped, write the
//! metadata with the VG as *creating*, then the labels, then the marks, then commit *ready*. Until that last commit the VG
//! does not exist: whatever fails before it, [`super::recover`] erases labels and marks again.

use std::path::PathBuf;

use vol_types::{Bytes, Change, Name, Object, Vg, VgId, VgState, limit};

use crate::catalog::Catalog;
use crate::observed::DiskInfo;
use crate::plan::{Plan, disks};
use crate::refusal::Refusal;
use crate::step::{Action, Requirement, Step};

pub use super::disks::{DiskCandidate, FileCandidate, PvLayout, SeenLabel, is_plain_absolute};

/// `vg create`.
#[derive(Clone, Debug)]
pub struct CreateVg {
    pub id: VgId,
    pub name: Name,
    pub extent_size: Bytes,
    pub metadata_copies: u16,
    pub disks: Vec<DiskCandidate>,
    pub files: Vec<FileCandidate>,
    /// Signatures may be destroyed.
    pub wipe: bool,
    pub now: u64,
}

/// Plans a new VG. `taken` are the names of the VGs that exist.
pub fn create(request: &CreateVg, taken: &[Name]) -> Result<Plan, Refusal> {
    if taken.contains(&request.name) {
        return Err(Refusal::exists(format!("there is a volume group named {} already", request.name))
            .hint("choose another name, or see `volctl vg show`"));
    }
    let extent = request.extent_size;
    if !extent.get().is_power_of_two() || !(limit::EXTENT_SIZE_MIN..=limit::EXTENT_SIZE_MAX).contains(&extent) {
        return Err(Refusal::invalid(format!(
            "an extent size is a power of two between {} and {}, not {extent}",
            limit::EXTENT_SIZE_MIN,
            limit::EXTENT_SIZE_MAX
        )));
    }
    if request.metadata_copies == 0 {
        return Err(Refusal::invalid("at least one PV must carry the metadata"));
    }
    let count = request.disks.len() + request.files.len();
    if count == 0 {
        return Err(Refusal::invalid("a volume group needs at least one disk")
            .hint("name disks (/dev/sdb) or a file to be made (--file /var/lib/volumed/demo.img:20G)"));
    }
    if count > limit::PVS_PER_VG_MAX {
        return Err(Refusal::invalid(format!(
            "a volume group has at most {} PVs, {count} were given",
            limit::PVS_PER_VG_MAX
        )));
    }
    let usable = disks::usable_disks(&request.disks, request.wipe)?;
    disks::usable_files(&request.files)?;
    let sector_size = disks::common_sector_size(&usable, !request.files.is_empty())?;
    Ok(build(request, &usable, sector_size))
}

fn build(request: &CreateVg, disks: &[(&DiskCandidate, &DiskInfo)], sector_size: u32) -> Plan {
    let vg = Vg {
        id: request.id,
        name: request.name.clone(),
        state: VgState::Creating,
        extent_size: request.extent_size,
        sector_size,
        metadata_copies: request.metadata_copies,
        created_at: request.now,
    };
    let mut plan = Plan::new(format!("create volume group {}", request.name));
    let mut pvs = disks::prepare(&mut plan, &request.files, disks);
    for pv in pvs.iter_mut().take(usize::from(request.metadata_copies)) {
        pv.metadata = true;
    }
    let mut objects = vec![Object::Vg(vg.clone())];
    let mut by_id: Vec<_> = pvs.clone();
    by_id.sort_by_key(|pv| pv.id);
    objects.extend(by_id.into_iter().map(Object::Pv));
    plan.push(Action::StartStore { objects, sequence: 1 });
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
    plan.commit(vec![Change::Put(Object::Vg(Vg { state: VgState::Ready, ..vg }))]);
    plan
}

/// `vg delete`: only an empty VG.
pub fn delete(catalog: &Catalog) -> Result<Plan, Refusal> {
    let vg = catalog.vg();
    if vg.state == VgState::Exported {
        return Err(Refusal::busy(format!("volume group {} is exported: nothing of it is used here", vg.name))
            .hint(format!("to delete it, take it into use first: `volctl vg import {}`", vg.name)));
    }
    let pools: Vec<_> = catalog.pools().map(|pool| format!("{}/{}", vg.name, pool.name)).collect();
    if !pools.is_empty() {
        return Err(Refusal::busy(format!("volume group {} still has pools: {}", vg.name, pools.join(", ")))
            .hint("delete them first: `volctl pool delete VG/POOL`"));
    }
    let thick: Vec<_> = catalog.thick_volumes().map(|one| format!("{}/{}", vg.name, one.name)).collect();
    if !thick.is_empty() {
        return Err(Refusal::busy(format!("volume group {} still has thick volumes: {}", vg.name, thick.join(", ")))
            .hint("delete them first: `volctl volume delete VG/VOLUME --now`; those that are deleted and kept go when their time is over, or are taken back with `volctl volume undelete` and then deleted so"));
    }
    let mut plan = Plan::new(format!("delete volume group {}", vg.name));
    plan.commit(vec![Change::Put(Object::Vg(Vg { state: VgState::Deleting, ..vg.clone() }))]);
    erase(catalog, &mut plan);
    Ok(plan)
}

/// Goes on with a deletion that a majority of the copies knows of. The second commit lets any single copy prove that.
/// A disk that missed one of the two would come back as a group that nobody remembers: nothing is erased before all have both.
pub fn erase(catalog: &Catalog, plan: &mut Plan) {
    let erasing = vec![Change::Put(Object::Vg(Vg { state: VgState::Erasing, ..catalog.vg().clone() }))];
    plan.steps.push(Step::new(Action::Commit { changes: erasing }).requires(Requirement::EveryCopyWritten));
    take_apart_when_all_know(catalog, plan);
}

/// As [`take_apart`], if the last commit is on every copy.
pub fn take_apart_when_all_know(catalog: &Catalog, plan: &mut Plan) {
    let begin = plan.steps.len();
    take_apart(catalog, plan);
    if let Some(first) = plan.steps.get_mut(begin) {
        first.requires.push(Requirement::EveryCopyWritten);
    }
}

/// Erases what makes the disks ours. Labels go last, those beside metadata at the very end: as long as one is there, the
/// VG is found again, can be read, and this goes on. A file that the daemon made is deleted.
pub fn take_apart(catalog: &Catalog, plan: &mut Plan) {
    for pv in catalog.pvs() {
        plan.push(Action::EraseMark { pv: pv.id });
    }
    let (with_metadata, without): (Vec<_>, Vec<_>) = catalog.pvs().partition(|pv| pv.metadata);
    for pv in without.into_iter().chain(with_metadata) {
        plan.push(Action::EraseLabel { pv: pv.id });
    }
    let files: Vec<_> =
        catalog.pvs().filter_map(|pv| Some((pv.id, PathBuf::from(pv.backing_file.as_ref()?)))).collect();
    for (pv, file) in &files {
        plan.push(Action::DetachLoop { pv: *pv, file: file.clone() });
        plan.push(Action::DeleteFile { file: file.clone() });
    }
    if !files.is_empty() {
        let remove = files.into_iter().map(|(_, file)| file).collect();
        plan.push(Action::RememberFiles { add: Vec::new(), remove });
    }
}
