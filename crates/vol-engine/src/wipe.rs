//! `pv wipe`: takes everything of ours off a disk that no VG here uses.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use vol_core::observed::DiskInfo;
use vol_core::plan::members;
use vol_core::{Catalog, Refusal, RefusalCode};
use vol_format::label::{self, Label};
use vol_format::layout::{self, Geometry};
use vol_types::{Bytes, ObjectKey, PvId, Vg, VgId, VgState, limit};

use crate::engine::{Done, Engine};
use crate::error::EngineError;
use crate::exec::{self, Failed, Session};
use crate::host::{BlockRead, HostMut};
use crate::observe::{self, Carries};
use crate::pvs::{self, OpenPv, OpenPvs};
use crate::vg::OpenVg;

/// A disk that was wiped, as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WipedPv {
    pub pv: PvId,
    /// The VG's name by the label; `None` if no label could be read.
    pub vg_name: Option<String>,
    pub node: PathBuf,
    pub size: Bytes,
}

/// What is there to be wiped.
struct Remains {
    pv: PvId,
    label: Option<Label>,
    geometry: Geometry,
}

impl<H: HostMut> Engine<H> {
    /// Erases label, mark and checkpoint headers of a disk. `force`: also of an exported VG.
    pub fn wipe_pv(&self, path: &Path, force: bool, dry_run: bool) -> Result<Done<WipedPv>, EngineError> {
        let guard = self.membership();
        let info = self.host().inspect(path)?;
        let remains = self.remains(path, &info)?;
        let exported = self.wipeable(path, &info, &remains, force)?;
        let plan = members::wipe(remains.pv, &info.node, &info.identity);
        if dry_run {
            return Ok(Done::Planned(plan));
        }
        if let Some(vg) = &exported {
            let mut session = vg.session();
            vg.nobody_at_work()?;
            session.close();
            drop(session);
            self.forget(vg.id);
        }
        let device = self.host().open_write(&info.node, &info.identity)?;
        let open = OpenPv {
            node: info.node.clone(),
            identity: info.identity.clone(),
            kind: remains.geometry.kind(),
            geometry: remains.geometry,
            device,
            touched: true,
        };
        let mut session = Session::new(OpenPvs::from([(remains.pv, open)]), None);
        let nothing = std::sync::RwLock::new(Catalog::new(nobody()));
        let wiped = exec::run(self.host(), &mut session, &nothing, &plan);
        drop(session);
        if exported.is_some() {
            drop(guard);
            self.scan(&[], false)?;
        } else if wiped.is_ok() {
            self.unknown.write().unwrap_or_else(PoisonError::into_inner).retain(|one| one.node != info.node);
            let about = Some(ObjectKey::Pv(remains.pv));
            self.scan_problems.write().unwrap_or_else(PoisonError::into_inner).retain(|one| one.subject != about);
        }
        wiped.map_err(|failed: Failed| failed.of(&plan, false))?;
        Ok(Done::Changed(WipedPv {
            pv: remains.pv,
            vg_name: remains.label.map(|label| label.vg_name.to_string()),
            node: info.node,
            size: info.identity.size,
        }))
    }

    /// What the disk carries of ours.
    fn remains(&self, path: &Path, info: &DiskInfo) -> Result<Remains, EngineError> {
        let device = self.host().open_read(&info.node)?;
        let shown = path.display();
        match observe::read_label(&*device)? {
            Carries::Label(label) => Ok(Remains { pv: label.pv, geometry: label.geometry, label: Some(*label) }),
            Carries::Newer(error) => Err(refused(
                format!("{shown} carries a PV of a newer volumed: {error}"),
                "update volumed, then try again",
            )),
            Carries::Nothing => {
                let mark = self.mark_of(info);
                let geometry = layout::geometry(info.identity.size, pvs::kind_of(info), limit::EXTENT_SIZE_MIN).ok();
                match geometry.filter(|geometry| mark.is_some() || damaged_label(&*device, geometry)) {
                    Some(geometry) => {
                        let pv = PvId::from_uuid(mark.unwrap_or_else(|| self.host().new_uuid()));
                        Ok(Remains { pv, label: None, geometry })
                    }
                    None => Err(Refusal::not_found(format!("{shown} carries nothing of volumed"))
                        .hint("nothing was written; `lsblk -f` shows what it carries")
                        .into()),
                }
            }
        }
    }

    /// Refuses what is in use; gives the exported VG that the disk is of.
    fn wipeable(
        &self,
        path: &Path,
        info: &DiskInfo,
        remains: &Remains,
        force: bool,
    ) -> Result<Option<std::sync::Arc<OpenVg>>, Refusal> {
        let shown = path.display();
        let mut exported = None;
        for vg in self.vgs() {
            let view = vg.view();
            let stands_here = view.nodes.iter().any(|(_, node)| *node == info.node);
            let labelled = remains.label.as_ref().filter(|label| label.vg == vg.id);
            let (name, state, known) = vg.read(|catalog| {
                let known = labelled.is_some_and(|label| catalog.pv(label.pv).is_some());
                (catalog.vg().name.clone(), catalog.vg().state, known)
            });
            let elsewhere =
                labelled.is_some_and(|label| view.nodes.iter().any(|(pv, node)| *pv == label.pv && *node != info.node));
            if !stands_here && (!known || elsewhere) {
                continue;
            }
            if state == VgState::Exported {
                if !force {
                    return Err(refusal(
                        format!("{shown} is a PV of volume group {name}, which is exported"),
                        "another machine may be meant to have it; --force wipes it all the same, and the group is damaged",
                    ));
                }
                exported = Some(vg);
                continue;
            }
            let message = if stands_here {
                format!("{shown} is a PV of volume group {name}")
            } else {
                format!("{shown} is a PV of volume group {name}, or a copy of one, and the group misses it")
            };
            return Err(Refusal::busy(message).hint(if stands_here {
                format!("`volctl vg reduce {name} {shown}` takes it out")
            } else {
                format!(
                    "leave only one disk with this label attached and run `volctl pv scan`; \
                     `volctl vg reduce {name} --missing` gives it up"
                )
            }));
        }
        if info.read_only {
            return Err(refusal(format!("{shown} is read-only"), "nothing was written"));
        }
        if !info.holders.is_empty() {
            return Err(Refusal::busy(format!("{shown} is in use by {}", info.holders.join(", ")))
                .hint("nothing was written; deactivate that first"));
        }
        if let Some(use_) = self.foreign_use_of(info, remains.label.as_ref().map(|label| label.pv)) {
            return Err(refusal(
                format!("{shown} carries something of volumed, but {use_}"),
                "nothing was written; if all of it may go: `volctl vg create --wipe`, or wipefs(8)",
            ));
        }
        Ok(exported)
    }
}

/// A label block of ours that is torn or damaged.
fn damaged_label(device: &dyn BlockRead, geometry: &Geometry) -> bool {
    geometry
        .label_offsets
        .iter()
        .any(|offset| device.read_at(*offset, layout::BLOCK).is_ok_and(|block| block.starts_with(&label::MAGIC)))
}

fn refusal(message: String, hint: &str) -> Refusal {
    Refusal::new(RefusalCode::Refused, message).hint(hint)
}

fn refused(message: String, hint: &str) -> EngineError {
    refusal(message, hint).into()
}

/// The executor wants a catalog; wiping looks into none.
fn nobody() -> Vg {
    Vg {
        id: VgId::from_bytes([0; 16]),
        name: vol_types::Name::new("none").unwrap_or_else(|_| unreachable!("a constant name")),
        state: VgState::Erasing,
        extent_size: limit::EXTENT_SIZE_DEFAULT,
        sector_size: 512,
        metadata_copies: 1,
        created_at: 0,
    }
}
