//! Changes of a volume's, snapshot's or PV's record alone: its name, its labels, its protection. The kernel knows nothing of them, so what is
//! mounted or attached does not notice.

use vol_types::{Change, Label, Labels, Name, Object, Pv, PvId, Snapshot, Volume, VolumeState};

use crate::catalog::{Catalog, VolumeName};
use crate::plan::{Plan, trash};
use crate::refusal::Refusal;

/// How large the one commit of a renaming may become, in bytes: well below the longest record of the on-disk format.
const RENAME_BYTES_MAX: usize = 400 * 1024;
/// What a snapshot's record takes besides its names and labels, in bytes, rounded up.
const RECORD_BYTES: usize = 256;

fn path_of(catalog: &Catalog, volume: &Volume) -> String {
    format!("{}/{}", catalog.vg().name, VolumeName::of(volume))
}

fn settled(volume: &Volume, path: &str) -> Result<(), Refusal> {
    if volume.state == VolumeState::Ready {
        return Ok(());
    }
    Err(Refusal::busy(format!("{path} is just being made or deleted")).hint("try again in a moment"))
}

/// `volume rename` and `snapshot rename`. The snapshots of a volume go with it, in the same commit. An empty plan: it has that name.
pub fn rename(catalog: &Catalog, volume: &Volume, new: &Name) -> Result<Plan, Refusal> {
    let vg = &catalog.vg().name;
    let path = path_of(catalog, volume);
    settled(volume, &path)?;
    let mut renamed = vec![Volume { name: new.clone(), ..volume.clone() }];
    if volume.snapshot.is_none() {
        // Those too that were deleted and can be taken back: their name is that of their volume.
        let kept = volume
            .pool()
            .into_iter()
            .flat_map(|pool| trash::kept(catalog, Some(pool)))
            .filter(|one| one.snapshot.as_ref().is_some_and(|it| it.of == volume.id));
        renamed.extend(catalog.snapshots_of(volume.id).chain(kept).map(|snapshot| Volume {
            snapshot: Some(Snapshot { of: volume.id, of_name: new.clone() }),
            ..snapshot.clone()
        }));
    }
    let mut plan =
        Plan::new(format!("rename {path} to {vg}/{}", VolumeName::of(&Volume { name: new.clone(), ..volume.clone() })));
    if volume.name == *new {
        return Ok(plan);
    }
    if volume.snapshot.is_none() && catalog.pool_named(new).is_some() {
        return Err(Refusal::exists(format!("the name {vg}/{new} is taken by a pool"))
            .hint("pools and volumes of a VG share their names; choose another"));
    }
    for one in renamed.iter().filter(|one| one.state.has_name()) {
        let name = VolumeName::of(one);
        if catalog.volume_named(&name).is_some() {
            let (what, hint) = match (&name.snapshot, &volume.snapshot) {
                (None, _) => ("volume", "choose another name"),
                (Some(_), Some(_)) => ("snapshot", "choose another name"),
                (Some(_), None) => (
                    "snapshot",
                    "it is of an earlier volume of that name; choose another name, or rename or delete that snapshot",
                ),
            };
            return Err(Refusal::exists(format!("there is a {what} {vg}/{name} already")).hint(hint));
        }
    }
    let bytes = |one: &Volume| {
        let labels: usize = one.labels.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
        RECORD_BYTES + one.name.as_str().len() + new.as_str().len() + labels
    };
    if renamed.iter().map(bytes).sum::<usize>() > RENAME_BYTES_MAX {
        return Err(Refusal::invalid(format!(
            "{path} has {} snapshots, too many to be renamed with it in one commit",
            renamed.len().saturating_sub(1)
        ))
        .hint("delete those that are no longer needed first"));
    }
    plan.commit(renamed.into_iter().map(|one| Change::Put(Object::Volume(one))).collect());
    Ok(plan)
}

/// `volume label` and `snapshot label`: labels that are set, and keys that are taken away. An empty plan: they are so already.
pub fn relabel(catalog: &Catalog, volume: &Volume, set: &[Label], remove: &[String]) -> Result<Plan, Refusal> {
    let path = path_of(catalog, volume);
    settled(volume, &path)?;
    let mut plan = Plan::new(format!("label {path}"));
    let labels = relabelled(&volume.labels, &path, set, remove)?;
    if labels != volume.labels {
        plan.commit(vec![Change::Put(Object::Volume(Volume { labels, ..volume.clone() }))]);
    }
    Ok(plan)
}

/// `pv label`. What lies on the PV stays there; what is placed or grows from now on goes by its labels as they are then. An empty plan:
/// they are so already.
pub fn relabel_pv(catalog: &Catalog, pv: PvId, set: &[Label], remove: &[String]) -> Result<Plan, Refusal> {
    let vg = &catalog.vg().name;
    let Some(pv) = catalog.pv(pv) else {
        return Err(Refusal::not_found(format!("{pv} is no PV of volume group {vg}"))
            .hint(format!("`volctl pv list --vg {vg}` shows its PVs")));
    };
    let labels = relabelled(&pv.labels, &pv.path_hint, set, remove)?;
    let mut plan = Plan::new(format!("label PV {} of volume group {vg}", pv.path_hint));
    if labels != pv.labels {
        plan.commit(vec![Change::Put(Object::Pv(Pv { labels, ..pv.clone() }))]);
    }
    Ok(plan)
}

/// What labels become; `path` is of whom they are.
fn relabelled(labels: &Labels, path: &str, set: &[Label], remove: &[String]) -> Result<Labels, Refusal> {
    let mut keys: Vec<&str> = set.iter().map(Label::key).chain(remove.iter().map(String::as_str)).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair.first() == pair.last()) {
        return Err(Refusal::invalid(format!(
            "the label {} is named twice",
            twice.first().copied().unwrap_or_default()
        )));
    }
    let mut labels = labels.clone();
    for key in remove {
        labels.remove(key);
    }
    for label in set {
        labels.set(label.clone()).map_err(|error| {
            Refusal::invalid(format!("{path}: {error}")).hint("take away labels that are no longer needed: KEY-")
        })?;
    }
    Ok(labels)
}

/// `protect` and `unprotect` of volumes and snapshots. An empty plan: it is so already.
pub fn protect(catalog: &Catalog, volume: &Volume, protected: bool) -> Result<Plan, Refusal> {
    let path = path_of(catalog, volume);
    settled(volume, &path)?;
    let mut plan = Plan::new(format!("{} {path}", if protected { "protect" } else { "unprotect" }));
    if volume.protected != protected {
        plan.commit(vec![Change::Put(Object::Volume(Volume { protected, ..volume.clone() }))]);
    }
    Ok(plan)
}
