//! PVs as requests name them, their labels, and where something is to lie.

use std::path::Path;

use vol_core::Refusal;
use vol_core::plan::change;
use vol_types::{Label, Labels, Name, Placement, PvId};

use crate::engine::{Done, Engine, done};
use crate::error::EngineError;
use crate::host::HostMut;
use crate::membership::PvName;
use crate::vg::OpenVg;

/// Where something is to lie, as asked for. Usually anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceOn {
    /// These PVs alone; empty: all.
    pub on: Vec<PvName>,
    pub not_on: Vec<PvName>,
    /// PVs with all of these labels alone.
    pub labels: Labels,
    /// Without gaps.
    pub contiguous: bool,
}

impl PlaceOn {
    /// Whether it says nothing about PVs.
    pub fn is_anywhere(&self) -> bool {
        self.on.is_empty() && self.not_on.is_empty() && self.labels.is_empty()
    }
}

impl<H: HostMut> Engine<H> {
    /// The placement that is asked for, with the PVs' ids. Refused: what is no PV of this VG.
    pub fn placement(&self, vg: &OpenVg, wanted: &PlaceOn) -> Result<Placement, Refusal> {
        let ids = |names: &[PvName]| -> Result<Vec<PvId>, Refusal> {
            let mut ids = names.iter().map(|name| self.pv_of(vg, name)).collect::<Result<Vec<_>, _>>()?;
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        };
        Ok(Placement { on: ids(&wanted.on)?, not_on: ids(&wanted.not_on)?, labels: wanted.labels.clone() })
    }

    /// Sets labels of a PV, and takes some away.
    pub fn relabel_pv(
        &self,
        vg: &Name,
        pv: PvId,
        (set, remove): (&[Label], &[String]),
        dry_run: bool,
    ) -> Result<Done<PvId>, EngineError> {
        let (plan, ()) = self
            .vg(vg)?
            .change(self.host(), dry_run, |catalog, _, _| Ok((change::relabel_pv(catalog, pv, set, remove)?, ())))?;
        Ok(done(plan, pv, dry_run))
    }

    fn pv_of(&self, vg: &OpenVg, name: &PvName) -> Result<PvId, Refusal> {
        let own = vg.read(|catalog| catalog.vg().name.clone());
        let (shown, found) = match name {
            PvName::Id(id) => (id.to_string(), vg.read(|catalog| catalog.pv(*id).is_some()).then_some(*id)),
            PvName::Path(path) => (path.display().to_string(), self.pv_at(vg, path)),
        };
        if let Some(id) = found {
            return Ok(id);
        }
        let others = self.vgs().into_iter().filter(|other| other.id != vg.id);
        let other = others.into_iter().find(|other| match name {
            PvName::Id(id) => other.read(|catalog| catalog.pv(*id).is_some()),
            PvName::Path(path) => self.pv_at(other, path).is_some(),
        });
        let hint = format!("`volctl pv list --vg {own}` shows its PVs; one that is missing is named by its id");
        Err(match other.map(|other| other.read(|catalog| catalog.vg().name.clone())) {
            Some(other) => {
                Refusal::invalid(format!("{shown} is a PV of volume group {other}, not of {own}")).hint(hint)
            }
            None => Refusal::not_found(format!("{shown} is no PV of volume group {own}")).hint(hint),
        })
    }

    /// By where it stands, or by its backing file.
    fn pv_at(&self, vg: &OpenVg, path: &Path) -> Option<PvId> {
        let node = self.host().inspect(path).map(|info| info.node).ok();
        let view = vg.view();
        let by_node = view.nodes.iter().find(|(_, at)| Some(at) == node.as_ref()).map(|(id, _)| *id);
        let file = |pv: &&vol_types::Pv| pv.backing_file.as_ref().is_some_and(|file| file.as_str() == path.as_os_str());
        by_node.or_else(|| vg.read(|catalog| catalog.pvs().find(file).map(|pv| pv.id)))
    }
}
