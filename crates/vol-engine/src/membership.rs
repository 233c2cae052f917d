//! Requests that change what a VG is made of. The plans are `vol_core::plan::members`'.

use std::path::PathBuf;

use vol_core::plan::{members, pool};
use vol_core::{Plan, Refusal};
use vol_types::{Bytes, Name, PoolId, PvId, VgId, VgState};

use crate::engine::{Done, Engine, done};
use crate::error::EngineError;
use crate::host::HostMut;
use crate::observe;
use crate::vg::Now;

/// `vg extend` as asked for.
#[derive(Clone, Debug)]
pub struct ExtendVg {
    pub vg: Name,
    pub disks: Vec<PathBuf>,
    pub files: Vec<(PathBuf, Bytes)>,
    pub wipe: bool,
}

/// A PV as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PvName {
    Id(PvId),
    /// The disk that it stands on, or its backing file.
    Path(PathBuf),
}

/// `vg reduce` as asked for.
#[derive(Clone, Debug)]
pub struct ReduceVg {
    pub vg: Name,
    pub pvs: Vec<PvName>,
    /// What is not there is to be taken out.
    pub missing: bool,
    /// It will never come back.
    pub force: bool,
}

impl<H: HostMut> Engine<H> {
    /// A name that no other VG has may be given, as long as the membership lock is held.
    fn names(&self) -> Vec<Name> {
        self.vgs().iter().map(|vg| vg.read(|catalog| catalog.vg().name.clone())).collect()
    }

    pub fn rename_vg(&self, vg: &Name, new: &Name, dry_run: bool) -> Result<Done<VgId>, EngineError> {
        let _guard = self.membership();
        let open = self.vg(vg)?;
        let taken = self.names();
        let (plan, ()) = open.change(self.host(), dry_run, |catalog, _, missing| {
            Ok((members::rename(catalog, missing, new, &taken)?, ()))
        })?;
        if !dry_run && !plan.is_empty() {
            open.show_links(self.host());
        }
        Ok(done(plan, open.id, dry_run))
    }

    pub fn export_vg(&self, vg: &Name, dry_run: bool) -> Result<Done<VgId>, EngineError> {
        let open = self.vg(vg)?;
        let states = [VgState::Ready, VgState::Exported];
        let (plan, ()) = open
            .change_whole(self.host(), dry_run, &states, |now| Ok((members::export(now.catalog, now.kernel)?, ())))?;
        Ok(done(plan, open.id, dry_run))
    }

    /// Takes an exported VG into use. Its disks are looked at anew first: they may have been away.
    pub fn import_vg(&self, vg: &Name, dry_run: bool) -> Result<Done<VgId>, EngineError> {
        let exported = self.vg(vg)?.read(|catalog| catalog.vg().state == VgState::Exported);
        if exported && !dry_run {
            self.scan(&[], false)?;
        }
        let open = self.vg(vg)?;
        let states = [VgState::Ready, VgState::Exported];
        let (plan, ()) = open.change_members(self.host(), dry_run, &states, |now| {
            Ok((members::import(now.catalog, now.kernel, now.missing)?, ()))
        })?;
        Ok(done(plan, open.id, dry_run))
    }

    /// Adds disks and files. If one fails half way, all of them are erased again.
    pub fn extend_vg(&self, request: &ExtendVg, dry_run: bool) -> Result<Done<VgId>, EngineError> {
        let _guard = self.membership();
        let open = self.vg(&request.vg)?;
        let extent_size = open.read(|catalog| catalog.vg().extent_size);
        let pv = || PvId::from_uuid(self.host().new_uuid());
        let disks = request
            .disks
            .iter()
            .map(|path| observe::disk_candidate(self.host(), path, extent_size, pv(), |vg| self.is_open(vg)))
            .collect();
        let files = request
            .files
            .iter()
            .map(|(path, size)| observe::file_candidate(self.host(), path.clone(), *size, extent_size, pv()))
            .collect::<Result<_, _>>()?;
        let wanted = members::ExtendVg { disks, files, wipe: request.wipe };
        let (plan, ()) =
            open.change(self.host(), dry_run, |catalog, _, _| Ok((members::extend(catalog, &wanted)?, ())))?;
        Ok(done(plan, open.id, dry_run))
    }

    /// Takes PVs out. Once that is committed it is done, even if a disk cannot be erased: it is then told of as unknown.
    pub fn reduce_vg(&self, request: &ReduceVg, dry_run: bool) -> Result<Done<VgId>, EngineError> {
        let guard = self.membership();
        let open = self.vg(&request.vg)?;
        let mut leaving = Vec::new();
        let reduced = open.change_members(self.host(), dry_run, &[VgState::Ready], |now| {
            let pvs = request.pvs.iter().map(|name| self.find_pv(now, name)).collect::<Result<Vec<_>, _>>()?;
            let wanted = members::ReduceVg {
                pvs,
                missing: request.missing,
                force: request.force,
                frozen: now.frozen.map(str::to_owned),
            };
            let plan = members::reduce(now.catalog, now.missing, &wanted)?;
            leaving = plan
                .commits()
                .flatten()
                .filter_map(|change| match change {
                    vol_types::Change::Delete(vol_types::ObjectKey::Pv(pv)) => Some(*pv),
                    _ => None,
                })
                .collect();
            Ok((plan, ()))
        });
        match reduced {
            Ok((plan, ())) => Ok(done(plan, open.id, dry_run)),
            Err(EngineError::Step(failed))
                if open.read(|catalog| leaving.iter().all(|pv| catalog.pv(*pv).is_none())) =>
            {
                tracing::warn!(error = %failed, "a PV was taken out, but its disk could not be erased");
                drop(guard);
                self.scan(&[], false)?;
                Ok(Done::Changed(open.id))
            }
            Err(error) => Err(error),
        }
    }

    fn find_pv(&self, now: &Now<'_>, name: &PvName) -> Result<PvId, Refusal> {
        let path = match name {
            PvName::Id(id) => return Ok(*id),
            PvName::Path(path) => path,
        };
        let node = self.host().inspect(path).map(|info| info.node).ok();
        let by_node = now.pvs.iter().find(|(_, pv)| Some(&pv.node) == node.as_ref()).map(|(id, _)| *id);
        let file = |pv: &&vol_types::Pv| pv.backing_file.as_ref().is_some_and(|file| file.as_str() == path.as_os_str());
        by_node.or_else(|| now.catalog.pvs().find(file).map(|pv| pv.id)).ok_or_else(|| {
            let vg = &now.catalog.vg().name;
            Refusal::not_found(format!("{} is no PV of volume group {vg}", path.display()))
                .hint(format!("`volctl pv list {vg}` shows its PVs; one that is missing is named by its id"))
        })
    }

    /// Gives up a pool of which a disk is gone, with everything in it.
    pub fn delete_lost_pool(
        &self,
        vg: &Name,
        name: &Name,
        force: bool,
        dry_run: bool,
    ) -> Result<Done<PoolId>, EngineError> {
        let open = self.vg(vg)?;
        let (plan, id) = open.change_members(self.host(), dry_run, &[VgState::Ready], |now| {
            let pool = pool::find(now.catalog, Some(name))?;
            let plan: Plan = members::delete_lost(now.catalog, now.kernel, now.missing, pool, now.frozen, force)?;
            Ok((plan, pool.id))
        })?;
        Ok(done(plan, id, dry_run))
    }
}
