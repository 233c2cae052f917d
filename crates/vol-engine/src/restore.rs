//! `vg backup` and `vg restore`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use vol_core::plan::restore::{self, FoundLabel, Head, RestoreDisk};
use vol_core::{Catalog, Plan, Refusal, RefusalCode};
use vol_format::label::Label;
use vol_format::layout::{self, Geometry, PvKind};
use vol_types::{Name, Object, Pv, PvId, Vg, VgId, VgState};

use crate::engine::{Done, Engine, done};
use crate::error::EngineError;
use crate::exec::{self, Session};
use crate::host::{BlockRead, HostMut};
use crate::observe::{self, Carries};
use crate::pvs::{self, OpenPvs};
use crate::store;
use crate::vg::OpenVg;

/// All that is needed to write a VG's metadata anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUp {
    pub sequence: u64,
    pub objects: Vec<Object>,
    pub layouts: BTreeMap<PvId, Geometry>,
}

/// `vg restore` as asked for.
#[derive(Clone, Debug)]
pub struct RestoreVg {
    pub backup: BackedUp,
    /// Disks for PVs that are not found by their labels.
    pub disks: Vec<(PvId, PathBuf)>,
    pub wipe: bool,
    pub older: bool,
}

/// A disk with a label of the VG.
struct Labelled {
    node: PathBuf,
    label: Label,
    device: Arc<dyn BlockRead>,
}

/// The disks that are to be the PVs, and other disks of the VG.
type DisksOf = (Vec<RestoreDisk>, Vec<(PathBuf, Head)>);

/// The layout of a PV that is not there, by its record: laid out by the rules, as this release lays out all.
fn layout_of(pv: &Pv, extent_size: vol_types::Bytes) -> Option<Geometry> {
    [PvKind::WholeDisk, PvKind::Partition].into_iter().find_map(|kind| {
        let geometry = layout::geometry(pv.device_size, kind, extent_size).ok()?;
        (geometry.data_offset == pv.data_offset.get() && geometry.extent_count == pv.extents.get()).then_some(geometry)
    })
}

/// Everything but where the PVs stand just now, and whether the VG is in use.
fn content(catalog: &Catalog) -> Vec<Object> {
    let mut objects = catalog.objects();
    for object in &mut objects {
        match object {
            Object::Vg(vg) => vg.state = VgState::Ready,
            Object::Pv(pv) => {
                pv.path_hint = String::new();
                pv.hardware_id = String::new();
                pv.backing_file = None;
                pv.left = Vec::new();
            }
            _ => {}
        }
    }
    objects
}

impl<H: HostMut> Engine<H> {
    /// The metadata of a VG at one moment.
    pub fn backup_vg(&self, vg: &Name) -> Result<BackedUp, Refusal> {
        let vg = self.vg(vg)?;
        let view = vg.view();
        vg.read(|catalog| {
            let name = &catalog.vg().name;
            if catalog.unfinished().next().is_some() {
                return Err(Refusal::busy(format!("something in volume group {name} is being made or deleted"))
                    .hint("try again when that is done; `volctl status` shows what could not be settled"));
            }
            let mut layouts = BTreeMap::new();
            for pv in catalog.pvs() {
                let known = view.layouts.get(&pv.id).copied();
                let layout = known.or_else(|| layout_of(pv, catalog.vg().extent_size)).ok_or_else(|| {
                    Refusal::new(RefusalCode::Degraded, format!("PV {} is missing, and its layout is not known", pv.id))
                        .hint("attach the disk and run `volctl pv scan`")
                })?;
                layouts.insert(pv.id, layout);
            }
            // Of the next commit, if something waits for it: disks that have it not are older than the backup.
            Ok(BackedUp { sequence: catalog.held_by(), objects: catalog.objects(), layouts })
        })
    }

    /// Writes a VG anew from its backup. What was begun may be begun again at any time.
    pub fn restore_vg(&self, request: &RestoreVg, dry_run: bool) -> Result<Done<VgId>, EngineError> {
        let guard = self.membership();
        let backup = &request.backup;
        let catalog = Catalog::from_objects(backup.sequence, backup.objects.clone())
            .ok_or_else(|| Refusal::invalid("the backup holds no volume group"))?;
        let id = catalog.vg().id;
        sound_layouts(&catalog, &backup.layouts)?;
        let open = self.vgs().into_iter().find(|vg| vg.id == id);
        if let Some(vg) = &open
            && is_healthy(vg)
        {
            let same = vg.read(|present| content(present) == content(&catalog));
            match vg.read(|present| present.vg().state) {
                VgState::Ready if same => {
                    let nothing = Plan::new(format!("restore volume group {}", catalog.vg().name));
                    return Ok(done(nothing, id, dry_run));
                }
                // A restoration that was cut short just before its end.
                VgState::Exported if same => {}
                _ => {
                    let name = vg.read(|present| present.vg().name.clone());
                    return Err(Refusal::new(
                        RefusalCode::Refused,
                        format!("volume group {name} is open and whole: there is nothing to restore"),
                    )
                    .hint("restoring would lose what was changed since the backup; nothing was written")
                    .into());
                }
            }
        }
        let (disks, elsewhere) = self.disks_for(request, &catalog)?;
        let taken = self.vgs().iter().filter(|vg| vg.id != id).map(|vg| vg.read(|one| one.vg().name.clone())).collect();
        let (kernel, _) = observe::kernel(self.host(), &catalog)?;
        let wanted =
            restore::RestoreVg { catalog, kernel, disks, elsewhere, wipe: request.wipe, older: request.older, taken };
        let (plan, catalog) = restore::restore(&wanted)?;
        self.not_swapped(&wanted.disks, &catalog, &backup.layouts)?;
        let notes = wanted.disks.iter().filter_map(|disk| replaced(disk, &wanted.catalog)).collect();
        if dry_run {
            return Ok(Done::Planned(plan));
        }
        if let Some(vg) = open {
            let mut session = vg.session();
            vg.nobody_at_work()?;
            session.close();
            drop(session);
            self.forget(id);
        }
        let made = self.write_anew(catalog, backup.layouts.clone(), &plan, notes);
        drop(guard);
        // The other disks of the group, and what was said of these, are looked at anew.
        self.scan(&[], false)?;
        made.map(|()| Done::Changed(id))
    }

    /// Carries out a plan that writes all metadata of a VG; then it is open.
    pub(crate) fn write_anew(
        &self,
        catalog: Catalog,
        layouts: BTreeMap<PvId, Geometry>,
        plan: &Plan,
        notes: Vec<String>,
    ) -> Result<(), EngineError> {
        let mut session = Session::new(OpenPvs::new(), None);
        session.geometries = layouts;
        let vg = Arc::new(OpenVg::new(catalog, session, notes));
        let mut session = vg.session();
        exec::run(self.host(), &mut session, vg.catalog_lock(), plan).map_err(|failed| failed.of(plan, false))?;
        vg.recover(self.host(), &mut session);
        vg.refresh_with(self.host(), &session);
        drop(session);
        self.insert(vg);
        Ok(())
    }

    fn disks_for(&self, request: &RestoreVg, catalog: &Catalog) -> Result<DisksOf, EngineError> {
        let id = catalog.vg().id;
        let labelled = self.labelled(id)?;
        let mut disks = Vec::new();
        for (pv, path) in &request.disks {
            disks.push(self.restore_disk(request, catalog, *pv, path));
        }
        let given: Vec<_> =
            disks.iter().filter_map(|disk| disk.info.as_ref().ok()).map(|info| info.node.clone()).collect();
        let mut elsewhere = Vec::new();
        for Labelled { node, label, device } in labelled.iter().filter(|one| !given.contains(&one.node)) {
            if catalog.pv(label.pv).is_some() && !request.disks.iter().any(|(pv, _)| *pv == label.pv) {
                disks.push(self.restore_disk(request, catalog, label.pv, node));
            } else if let Some(told) = store::told(id, label.pv, device, &label.geometry) {
                elsewhere.push((node.clone(), head(&told, catalog)));
            }
        }
        Ok((disks, elsewhere))
    }

    /// All disks whose label names this VG.
    fn labelled(&self, vg: VgId) -> Result<Vec<Labelled>, EngineError> {
        let mut found = Vec::new();
        for node in self.host().block_devices()? {
            let Ok(device) = self.host().open_read(&node) else { continue };
            if let Ok(Carries::Label(label)) = observe::read_label(&*device)
                && label.vg == vg
                // The legs of a multipath device show the same label.
                && self.host().inspect(&node).is_ok_and(|info| self.foreign_holders(&info).is_empty())
            {
                found.push(Labelled { node, label: *label, device });
            }
        }
        Ok(found)
    }

    fn restore_disk(&self, request: &RestoreVg, catalog: &Catalog, pv: PvId, path: &std::path::Path) -> RestoreDisk {
        let mut disk = RestoreDisk {
            pv,
            path: path.to_owned(),
            info: Err(String::new()),
            label: None,
            kind_fits: true,
            foreign: None,
            head: None,
        };
        let info = match self.host().inspect(path) {
            Ok(info) => info,
            Err(error) => return RestoreDisk { info: Err(error.to_string()), ..disk },
        };
        let device = match self.host().open_read(&info.node) {
            Ok(device) => device,
            Err(error) => return RestoreDisk { info: Err(error.to_string()), ..disk },
        };
        match observe::read_label(&*device) {
            Ok(Carries::Label(label)) => {
                disk.label = Some(FoundLabel {
                    vg: label.vg,
                    vg_known: label.vg != catalog.vg().id && self.is_open(label.vg),
                    vg_name: label.vg_name,
                    pv: label.pv,
                });
            }
            Ok(Carries::Newer(error)) => return RestoreDisk { info: Err(error), ..disk },
            // A disk that cannot be read where the label stands may be damaged there: what it carries is asked for below.
            Ok(Carries::Nothing) | Err(_) => {}
        }
        if let Some(geometry) = request.backup.layouts.get(&pv) {
            disk.kind_fits = pvs::kind_of(&info) == geometry.kind();
            disk.head = store::told(catalog.vg().id, pv, &device, geometry).map(|told| head(&told, catalog));
        }
        disk.foreign = self.foreign_signature(&info, Some(pv)).map(|signature| signature.to_string());
        disk.info = Ok(info);
        disk
    }
}

/// The kernel's `THIN_SUPERBLOCK_MAGIC`, 32 bytes into the metadata of a thin pool (`dm-thin-metadata.c`).
const THIN_SUPERBLOCK_MAGIC: u64 = 27_022_010;

impl<H: HostMut> Engine<H> {
    /// Refuses disks that stand in each other's place: a pool's own metadata, of which the backup knows where it begins, is on
    /// another one of them and not on the one that was named.
    fn not_swapped(
        &self,
        disks: &[RestoreDisk],
        catalog: &Catalog,
        layouts: &BTreeMap<PvId, Geometry>,
    ) -> Result<(), Refusal> {
        let begins = |disk: &RestoreDisk, offset: u64| {
            let Ok(info) = &disk.info else { return false };
            let block = self.host().open_read(&info.node).and_then(|device| device.read_at(offset, layout::BLOCK));
            let magic = block.ok().and_then(|block| block.get(32..40).and_then(|bytes| bytes.try_into().ok()));
            magic.map(u64::from_le_bytes) == Some(THIN_SUPERBLOCK_MAGIC)
        };
        for pool in catalog.pools() {
            let Some(first) = pool.metadata.first() else { continue };
            let Some(named) = disks.iter().find(|disk| disk.pv == first.pv) else { continue };
            let Some(geometry) = layouts.get(&first.pv) else { continue };
            let offset = geometry.data_offset.saturating_add(catalog.bytes(first.start).get());
            if begins(named, offset) {
                continue;
            }
            let Some(other) = disks.iter().find(|disk| disk.pv != first.pv && begins(disk, offset)) else { continue };
            return Err(Refusal::invalid(format!(
                "the disks are in each other's place: the metadata of pool {} belong on the disk of PV {}, which was to be {}, and \
                 stand on {}",
                pool.name,
                first.pv,
                named.path.display(),
                other.path.display()
            ))
            .hint("nothing was written; give each PV its own disk: --disk PV=DISK"));
        }
        Ok(())
    }
}

/// A pool that had space on a disk that is another one now comes up all the same, if the rest of it is there: with holes in it.
fn replaced(disk: &RestoreDisk, backup: &Catalog) -> Option<String> {
    let (pv, info) = (backup.pv(disk.pv)?, disk.info.as_ref().ok()?);
    let own = disk.label.as_ref().is_some_and(|label| label.vg == backup.vg().id) || disk.head.is_some();
    let on_it = |pool: &&vol_types::Pool| pool.data.iter().chain(&pool.metadata).any(|segment| segment.pv == pv.id);
    let pools: Vec<_> = backup.pools().filter(on_it).map(|pool| pool.name.to_string()).collect();
    if own || pools.is_empty() || info.hardware_id == pv.hardware_id {
        return None;
    }
    Some(format!(
        "PV {} was restored onto {}, which is another disk than it was: what pool {} had there is lost, and its volumes may be \
         damaged",
        pv.id,
        info.node.display(),
        pools.join(", ")
    ))
}

fn head(told: &store::Told, backup: &Catalog) -> Head {
    Head { sequence: told.head.sequence, same: content(&told.catalog) == content(backup) }
}

fn is_healthy(vg: &OpenVg) -> bool {
    let view = vg.view();
    let complete = view.missing.is_empty() && view.copies.0 == view.copies.1;
    complete && !view.problems.iter().any(|problem| matches!(problem.code, "metadata" | "metadata-frozen"))
}

/// Each PV has a layout that can be trusted with I/O, and that agrees with its record (FMT-4).
fn sound_layouts(catalog: &Catalog, layouts: &BTreeMap<PvId, Geometry>) -> Result<(), Refusal> {
    let Vg { extent_size, sector_size, .. } = catalog.vg();
    if !matches!(sector_size, 512 | 4096) {
        return Err(Refusal::invalid(format!("the backup says that sectors have {sector_size} bytes")));
    }
    for pv in catalog.pvs() {
        let wrong = |why: &str| Refusal::invalid(format!("the layout of PV {} in the backup is wrong: {why}", pv.id));
        let layout = layouts.get(&pv.id).ok_or_else(|| wrong("there is none"))?;
        layout.check(pv.device_size, *extent_size).map_err(wrong)?;
        if layout.data_offset != pv.data_offset.get() || layout.extent_count != pv.extents.get() {
            return Err(wrong("data offset"));
        }
    }
    Ok(())
}
