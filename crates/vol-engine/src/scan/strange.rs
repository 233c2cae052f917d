//! What a scan finds beside the PVs of open VGs: disks that a VG does not know (any more), copies of disks that are in use,
//! exported VGs that were taken away, labels with an old name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;

use vol_core::{Action, Plan};
use vol_types::{Bytes, Name, ObjectKey, PvId, VgId, VgState};

use super::Labelled;
use crate::engine::Engine;
use crate::exec::{self, Session};
use crate::host::HostMut;
use crate::vg::{OpenVg, Problem};

/// A disk whose label names an open VG that does not know it: it was taken out, or never joined to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPv {
    pub pv: PvId,
    pub vg: VgId,
    /// As the VG is called now.
    pub vg_name: Name,
    pub node: PathBuf,
    pub size: Bytes,
}

/// A label that was found.
pub(super) struct Seen {
    pv: PvId,
    vg: VgId,
    node: PathBuf,
    size: Bytes,
    held: bool,
}

impl Seen {
    pub(super) fn of(disk: &Labelled) -> Self {
        Self {
            pv: disk.label.pv,
            vg: disk.label.vg,
            node: disk.info.node.clone(),
            size: disk.info.identity.size,
            held: !disk.info.holders.is_empty(),
        }
    }
}

impl<H: HostMut> Engine<H> {
    /// Disks with a label of an open VG that does not know them, as of the last scan.
    pub fn unknown_pvs(&self) -> Vec<UnknownPv> {
        self.unknown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tell_strange(&self, seen: Vec<Seen>, problems: &mut Vec<Problem>) {
        let mut unknown = Vec::new();
        let mut by_pv: BTreeMap<(VgId, PvId), Vec<Seen>> = BTreeMap::new();
        for one in seen {
            by_pv.entry((one.vg, one.pv)).or_default().push(one);
        }
        let vgs = self.vgs();
        for ((id, pv), found) in by_pv {
            let Some(vg) = vgs.iter().find(|vg| vg.id == id) else { continue };
            let (name, known) = vg.read(|catalog| (catalog.vg().name.clone(), catalog.pv(pv).is_some()));
            if known {
                problems.extend(twice(vg, &name, pv, &found));
                continue;
            }
            for one in found {
                problems.push(Problem {
                    code: "pv-unknown",
                    message: format!(
                        "{} carries the label of PV {pv} of volume group {name}, which does not know it: it was taken out, or \
                         never joined to the end",
                        one.node.display()
                    ),
                    hint: format!("`volctl pv wipe {}` frees the disk; nothing of it is used", one.node.display()),
                    subject: Some(ObjectKey::Pv(pv)),
                });
                unknown.push(UnknownPv { pv, vg: id, vg_name: name.clone(), node: one.node, size: one.size });
            }
        }
        *self.unknown.write().unwrap_or_else(PoisonError::into_inner) = unknown;
    }

    /// An exported VG none of whose disks is here any more is another machine's now.
    pub(super) fn forget_taken_away(&self, seen: &[Seen]) {
        for vg in self.vgs() {
            let exported = vg.read(|catalog| catalog.vg().state == VgState::Exported);
            if exported
                && !seen.iter().any(|one| one.vg == vg.id)
                && let Some(mut session) = vg.try_session()
                && vg.nobody_at_work().is_ok()
            {
                session.close();
                self.forget(vg.id);
            }
        }
    }

    /// The names in labels are hints; a rename corrects those of disks that were there.
    pub(super) fn renew_names(&self, vg: &OpenVg, session: &mut Session, names: &BTreeMap<PvId, Name>) {
        let now = vg.read(|catalog| catalog.vg().name.clone());
        let mut plan = Plan::new(format!("renew the name {now} in labels"));
        for pv in session.pvs.keys().filter(|pv| names.get(*pv).is_some_and(|name| *name != now)) {
            plan.push(Action::RefreshLabel { pv: *pv });
        }
        if session.writable()
            && let Err(failed) = exec::run(self.host(), session, vg.catalog_lock(), &plan)
        {
            tracing::warn!(step = failed.step, error = %failed.error, "the name in a label stays as it is");
        }
    }
}

/// Another disk with the label of a PV that is in use: a copy, which must not be mistaken for it.
fn twice(vg: &OpenVg, name: &Name, pv: PvId, found: &[Seen]) -> Option<Problem> {
    let view = vg.view();
    let (_, used) = view.nodes.iter().find(|(id, _)| *id == pv)?;
    // What stands below the device in use (the paths of a multipath device) shows the same label, and has it as its holder.
    let others: Vec<_> =
        found.iter().filter(|one| one.node != *used && !one.held).map(|one| one.node.display().to_string()).collect();
    if others.is_empty() {
        return None;
    }
    let first = others.first().cloned().unwrap_or_default();
    Some(Problem {
        code: "pv-twice",
        message: format!(
            "{} carries the label of PV {pv} of volume group {name} as well as {}, which is the one in use: it is a copy, and \
             nothing of it is used",
            others.join(", "),
            used.display()
        ),
        hint: format!(
            "take it away before the next start, or make the copies of all disks a group of their own: \
             `volctl vg import-clone {first} … --name NAME`"
        ),
        subject: Some(ObjectKey::Pv(pv)),
    })
}
