//! `vg import-clone`: copies of a VG's disks, made block by block, become a VG of their own.
//!
//! Every id is derived from the new VG's id and the old id, so that a second run after a crash comes to the same ones; the new VG's
//! id stands in the labels that were written already, and beside them the metadata still tells what they were.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vol_core::observed::{DevNumber, DiskInfo};
use vol_core::plan::restore::{self, CloneDisk};
use vol_core::{Catalog, Plan, Refusal, RefusalCode};
use vol_format::label::Label;
use vol_format::record;
use vol_types::{
    Backing, CloneOf, Intent, IntentId, Name, Object, Placement, Pool, PoolId, Pv, PvId, Segment, Snapshot, Thick,
    ThinOp, Vg, VgId, VgState, Volume, VolumeId,
};

use crate::engine::{Done, Engine, done};
use crate::error::EngineError;
use crate::host::{BlockRead, HostMut};
use crate::observe::{self, Carries};
use crate::store::{self, Told};
use crate::vg::OpenVg;

/// A disk that was named, with what it carries.
struct Copy {
    path: PathBuf,
    info: DiskInfo,
    label: Label,
    device: Arc<dyn BlockRead>,
}

/// What the copies are to become.
struct Found {
    /// Under the new ids, exported.
    catalog: Catalog,
    disks: Vec<CloneDisk>,
    /// It is all done already, but for being taken into use.
    labelled: bool,
}

/// The new id of what had `old`: 16 bytes of a hash over both, as a UUID of version 8 (RFC 9562).
fn derived(vg: VgId, old: &[u8; 16]) -> [u8; 16] {
    let hash = record::chain(vg, &record::GENESIS, 0, old);
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    id
}

fn new_pv(vg: VgId, old: PvId) -> PvId {
    PvId::from_bytes(derived(vg, old.as_bytes()))
}

fn new_volume(vg: VgId, old: VolumeId) -> VolumeId {
    VolumeId::from_bytes(derived(vg, old.as_bytes()))
}

fn new_pool(vg: VgId, old: PoolId) -> PoolId {
    PoolId::from_bytes(derived(vg, old.as_bytes()))
}

/// An object under its new ids.
fn renamed(vg: VgId, name: &Name, object: Object) -> Object {
    let segments = |segments: Vec<Segment>| {
        segments.into_iter().map(|segment| Segment { pv: new_pv(vg, segment.pv), ..segment }).collect()
    };
    let op = |op: ThinOp| match op {
        ThinOp::Create { volume, thin_id } => ThinOp::Create { volume: new_volume(vg, volume), thin_id },
        ThinOp::Delete { volume, thin_id } => ThinOp::Delete { volume: new_volume(vg, volume), thin_id },
        ThinOp::Snapshot { volume, thin_id, origin_thin_id } => {
            ThinOp::Snapshot { volume: new_volume(vg, volume), thin_id, origin_thin_id }
        }
        ThinOp::Rollback { volume, thin_id, origin_thin_id } => {
            ThinOp::Rollback { volume: new_volume(vg, volume), thin_id, origin_thin_id }
        }
    };
    match object {
        Object::Vg(old) => Object::Vg(Vg { id: vg, name: name.clone(), state: VgState::Exported, ..old }),
        Object::Pv(old) => Object::Pv(Pv { id: new_pv(vg, old.id), left: Vec::new(), ..old }),
        Object::Pool(old) => Object::Pool(Pool {
            id: new_pool(vg, old.id),
            data: segments(old.data),
            metadata: segments(old.metadata),
            placement: Box::new(Placement {
                on: old.placement.on.iter().map(|pv| new_pv(vg, *pv)).collect(),
                not_on: old.placement.not_on.iter().map(|pv| new_pv(vg, *pv)).collect(),
                labels: old.placement.labels.clone(),
            }),
            ..old
        }),
        Object::Volume(old) => Object::Volume(Volume {
            id: new_volume(vg, old.id),
            backing: match old.backing {
                Backing::Thin { pool, thin_id } => Backing::Thin { pool: new_pool(vg, pool), thin_id },
                Backing::Thick(thick) => {
                    Backing::Thick(Box::new(Thick { segments: segments(thick.segments), ..*thick }))
                }
            },
            snapshot: old.snapshot.map(|snapshot| Snapshot { of: new_volume(vg, snapshot.of), ..snapshot }),
            clone_of: old.clone_of.map(|of| Box::new(CloneOf { id: new_volume(vg, of.id), ..*of })),
            ..old
        }),
        Object::Intent(old) => Object::Intent(Intent {
            id: IntentId::from_bytes(derived(vg, old.id.as_bytes())),
            pool: new_pool(vg, old.pool),
            ops: old.ops.into_iter().map(op).collect(),
            ..old
        }),
    }
}

fn refused(message: String, hint: &str) -> Refusal {
    Refusal::new(RefusalCode::Refused, message).hint(hint)
}

impl<H: HostMut> Engine<H> {
    /// Gives the group on these copies new ids and a name, and takes it into use.
    pub fn import_clone(&self, disks: &[PathBuf], name: &Name, dry_run: bool) -> Result<Done<VgId>, EngineError> {
        let guard = self.membership();
        let copies = self.copies(disks)?;
        let found = self.clone_of(&copies, name)?;
        let id = found.catalog.vg().id;
        let open = self.vgs().into_iter().find(|vg| vg.id == id);
        if let Some(vg) = &open
            && found.labelled
            && vg.read(|catalog| catalog.vg().state == VgState::Ready)
        {
            return Ok(done(Plan::new(format!("make a copy of disks the volume group {name}")), id, dry_run));
        }
        let taken = self.vgs().iter().any(|vg| vg.id != id && vg.read(|catalog| catalog.vg().name == *name));
        if taken {
            return Err(Refusal::exists(format!("there is a volume group named {name} already"))
                .hint("choose another name for the copy")
                .into());
        }
        let exported = self.not_in_use(&copies, id)?;
        let plan = restore::import_clone(&found.catalog, &found.disks)?;
        if dry_run {
            return Ok(Done::Planned(plan));
        }
        for vg in open.into_iter().chain(exported) {
            let mut session = vg.session();
            vg.nobody_at_work()?;
            session.close();
            drop(session);
            self.forget(vg.id);
        }
        let by_node: BTreeMap<_, _> = copies.iter().map(|copy| (copy.info.node.clone(), copy.label.geometry)).collect();
        let layouts = found.disks.iter().filter_map(|disk| Some((disk.pv, *by_node.get(&disk.info.node)?))).collect();
        let made = self.write_anew(found.catalog, layouts, &plan, Vec::new());
        drop(guard);
        // Where the original could not be told from its copy, it can now.
        self.scan(&[], false)?;
        made.map(|()| Done::Changed(id))
    }

    fn copies(&self, paths: &[PathBuf]) -> Result<Vec<Copy>, EngineError> {
        if paths.is_empty() {
            return Err(Refusal::invalid("no disk was named").hint("name the copies of all disks of a group").into());
        }
        let mut copies = Vec::new();
        let mut seen: BTreeMap<DevNumber, &Path> = BTreeMap::new();
        for path in paths {
            let shown = path.display();
            let info = self.host().inspect(path)?;
            if seen.insert(info.identity.dev, path).is_some() {
                return Err(Refusal::invalid(format!("{shown} was given twice")).into());
            }
            let device = self.host().open_read(&info.node)?;
            let label = match observe::read_label(&*device)? {
                Carries::Label(label) => *label,
                Carries::Newer(error) => {
                    return Err(refused(
                        format!("{shown} carries a PV of a newer volumed: {error}"),
                        "update volumed, then try again",
                    )
                    .into());
                }
                Carries::Nothing => {
                    return Err(Refusal::not_found(format!("{shown} carries no PV of a volume group"))
                        .hint("nothing was written; `lsblk -f` shows what it carries")
                        .into());
                }
            };
            if info.identity.size < label.device_size {
                return Err(refused(
                    format!(
                        "{shown} has {}, its label says {}: the copy is not whole",
                        info.identity.size, label.device_size
                    ),
                    "make the copy again; nothing was written",
                )
                .into());
            }
            copies.push(Copy { path: path.clone(), info, label, device });
        }
        Ok(copies)
    }

    /// Refuses disks that somebody uses: the originals above all. Where the originals are not attached, a daemon takes the copies
    /// for them; exported, they are in nobody's use, and that VG is what is given.
    fn not_in_use(&self, copies: &[Copy], id: VgId) -> Result<Option<Arc<OpenVg>>, Refusal> {
        let mut exported = None;
        for Copy { path, info, .. } in copies {
            let shown = path.display();
            for vg in self.vgs().iter().filter(|vg| vg.id != id) {
                if !vg.view().nodes.iter().any(|(_, node)| *node == info.node) {
                    continue;
                }
                let (name, state) = vg.read(|catalog| (catalog.vg().name.clone(), catalog.vg().state));
                if state == VgState::Exported {
                    exported = Some(vg.clone());
                    continue;
                }
                return Err(Refusal::busy(format!("{shown} is in use by volume group {name}: it is the original"))
                    .hint(format!(
                        "name the copies; nothing was written. If it is a copy, and the original is not attached here: \
                         `volctl vg export {name}` first"
                    )));
            }
            if !info.holders.is_empty() {
                return Err(Refusal::busy(format!("{shown} is in use by {}", info.holders.join(", ")))
                    .hint("nothing was written"));
            }
            if info.read_only {
                return Err(refused(format!("{shown} is read-only"), "nothing was written"));
            }
            // A mark with the old id and the new label, or the reverse, is what a crash in between leaves.
            if let Some(use_) = self.foreign_use_of(info, None) {
                return Err(refused(format!("{shown} carries a PV, but {use_}"), "nothing was written"));
            }
        }
        Ok(exported)
    }

    fn clone_of(&self, copies: &[Copy], name: &Name) -> Result<Found, Refusal> {
        // What was relabelled by an earlier run tells what it was before.
        let begun = copies.iter().find_map(|copy| {
            let (label, geometry) = (&copy.label, &copy.label.geometry);
            let (vg, pv) = store::former(label.vg, label.pv, &copy.device, geometry)?;
            (new_pv(label.vg, pv) == label.pv).then_some((vg, label.vg))
        });
        let strangers = |known: &[VgId]| copies.iter().find(|copy| !known.contains(&copy.label.vg));
        let first = copies.first().map(|copy| copy.label.vg).unwrap_or(VgId::from_bytes([0; 16]));
        let (old, new) = begun.unwrap_or((first, VgId::from_uuid(self.host().new_uuid())));
        if let Some(other) = strangers(&[old, new]) {
            return Err(Refusal::invalid(format!(
                "{} is of volume group {} ({}), {} of another one",
                other.path.display(),
                other.label.vg_name,
                other.label.vg,
                copies.first().map(|copy| copy.path.display().to_string()).unwrap_or_default()
            ))
            .hint("name the copies of all disks of one group; nothing was written"));
        }
        let catalog = match begun {
            Some(_) => begun_catalog(copies, new, name)?,
            None => {
                let told = agreed(copies, old)?;
                let objects = told.objects().into_iter().map(|object| renamed(new, name, object));
                Catalog::from_objects(told.sequence(), objects)
                    .ok_or_else(|| Refusal::invalid("the copies hold no volume group"))?
            }
        };
        let mut disks: Vec<CloneDisk> = Vec::new();
        for copy in copies {
            let shown = copy.path.display();
            let done = copy.label.vg == new;
            let pv = if done { copy.label.pv } else { new_pv(new, copy.label.pv) };
            let Some(record) = catalog.pv(pv) else {
                return Err(refused(
                    format!("{shown} is no PV of volume group {} (any more)", copy.label.vg_name),
                    "leave it out; `volctl pv wipe` frees it",
                ));
            };
            if let Some(twin) = disks.iter().find(|disk| disk.pv == pv) {
                return Err(Refusal::invalid(format!("{shown} and {} are copies of one PV", twin.info.node.display()))
                    .hint("name one copy of each disk; nothing was written"));
            }
            let slot = (record.metadata && !done).then(|| {
                let told = store::told(old, copy.label.pv, &copy.device, &copy.label.geometry);
                1 - told.map_or(1, |told| told.slot)
            });
            disks.push(CloneDisk { pv, info: copy.info.clone(), slot });
        }
        let lacking: Vec<_> = catalog
            .pvs()
            .filter(|pv| !disks.iter().any(|disk| disk.pv == pv.id))
            .map(|pv| format!("{} ({})", pv.path_hint, pv.device_size))
            .collect();
        if !lacking.is_empty() {
            return Err(Refusal::not_found(format!(
                "copies of other disks of the group are lacking: {}",
                lacking.join(", ")
            ))
            .hint("name the copies of all of its disks; nothing was written"));
        }
        let labelled = copies.iter().all(|copy| copy.label.vg == new);
        Ok(Found { catalog, disks, labelled })
    }
}

/// What an earlier run wrote before it wrote the first label.
fn begun_catalog(copies: &[Copy], new: VgId, name: &Name) -> Result<Catalog, Refusal> {
    let told = copies.iter().find_map(|copy| {
        let pv = if copy.label.vg == new { copy.label.pv } else { new_pv(new, copy.label.pv) };
        store::told(new, pv, &copy.device, &copy.label.geometry)
    });
    let Some(Told { catalog, .. }) = told else {
        return Err(refused(
            "an earlier run was cut short, and what it wrote cannot be read".to_owned(),
            "make the copies anew",
        ));
    };
    if catalog.vg().name != *name {
        return Err(refused(
            format!("these disks are being made volume group {} by an earlier run", catalog.vg().name),
            "use that name to go on; it can be renamed afterwards",
        ));
    }
    Ok(catalog)
}

/// The catalog that more than half of the members tell, and that comes furthest.
fn agreed(copies: &[Copy], vg: VgId) -> Result<Catalog, Refusal> {
    let all: Vec<Told> =
        copies.iter().filter_map(|copy| store::told(vg, copy.label.pv, &copy.device, &copy.label.geometry)).collect();
    let Some(best) = all.iter().max_by_key(|told| told.head.sequence) else {
        return Err(refused(
            "none of these disks carries metadata that can be read".to_owned(),
            "name the copies of all disks of the group; nothing was written",
        ));
    };
    let members = best.catalog.pvs().filter(|pv| pv.metadata).count();
    let agreeing = all.iter().filter(|told| told.head == best.head).count();
    if agreeing <= members / 2 {
        return Err(refused(
            format!(
                "{agreeing} of {members} copies of the metadata agree: the disks were not copied at one moment, or not all are named"
            ),
            "name the copies of all disks of the group, made while nothing changed; nothing was written",
        ));
    }
    let state = best.catalog.vg().state;
    if !state.is_whole() {
        return Err(refused(
            format!("volume group {} was being made or deleted when it was copied", best.catalog.vg().name),
            "make the copies anew",
        ));
    }
    if let Some(first) = vol_core::check::violations(&best.catalog).first() {
        return Err(refused(format!("its metadata contradicts itself: {first}"), "nothing was written"));
    }
    Ok(best.catalog.clone())
}
