//! What can be done with volumes and snapshots after they were made.

use std::collections::BTreeMap;

use vol_api::{CloneVolume, CreateSnapshot, Relabel, Rename, SnapshotGroup, SnapshotName};
use vol_types::{Label, SnapshotPath};

use super::change::{Question, line};
use super::thick::watched;
use super::{Run, Session, paths};
use crate::cli::{
    Change, CloneArgs, LabelChange, LabelChanges, LabelSnapshot, LabelVolume, OneSnapshot, OneVolume, RenameSnapshot,
    RenameVolume, RollbackArgs, Which, WithLabels,
};
use crate::render::count;
use crate::{Failure, exit};

/// Labels as they go into a request. One key has one value.
pub(super) fn labels(with: &WithLabels) -> Result<BTreeMap<String, String>, Failure> {
    unique(with.labels.iter())
}

pub fn unique<'a>(labels: impl Iterator<Item = &'a Label>) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for label in labels {
        if all.insert(label.key().to_owned(), label.value().to_owned()).is_some() {
            return Err(Failure::new(exit::USAGE, format!("the label {} is named twice", label.key()), None));
        }
    }
    Ok(all)
}

/// Which PVs are meant, as it goes into a request: `on`, `not_on` and `on_labels`.
type OnPvs = (Vec<String>, Vec<String>, BTreeMap<String, String>);

pub(super) fn which(which: &Which) -> Result<OnPvs, Failure> {
    Ok((paths::pvs(&which.on)?, paths::pvs(&which.not_on)?, unique(which.on_label.iter())?))
}

pub fn relabel(changes: &LabelChanges) -> Result<Relabel, Failure> {
    let set = changes.labels.iter().filter_map(|change| match change {
        LabelChange::Set(label) => Some(label),
        LabelChange::Remove(_) => None,
    });
    let remove = changes.labels.iter().filter_map(|change| match change {
        LabelChange::Set(_) => None,
        LabelChange::Remove(key) => Some(key.clone()),
    });
    Ok(Relabel { set: unique(set)?, remove: remove.collect() })
}

pub async fn clone_volume(args: CloneArgs, session: &mut Session<'_>) -> Run {
    let CloneArgs { of, new, with, reserve, size, protect, place, change } = args;
    let from = of.snapshot.as_ref().map_or(of.volume.to_string(), |snapshot| format!("{}@{snapshot}", of.volume));
    if new.vg != of.volume.vg {
        return Err(Failure::new(
            exit::USAGE,
            format!("{new} is not in volume group {}: a clone shares its data with {from}", of.volume.vg),
            Some("name the clone in the same volume group"),
        ));
    }
    let (on, not_on, on_labels) = which(&place.which)?;
    let request = CloneVolume {
        vg: new.vg.to_string(),
        volume: of.volume.volume.to_string(),
        snapshot: of.snapshot.map(|snapshot| snapshot.to_string()),
        name: new.volume.to_string(),
        labels: labels(&with)?,
        size: size.map(|size| size.0),
        protect,
        reserve,
        on,
        not_on,
        on_labels,
        contiguous: place.contiguous,
    };
    let format = session.format;
    let client = session.client.clone();
    let changed = watched(session, &new, true, || client.clone_volume(&request, change.dry_run)).await?;
    session.report(&changed, new.to_string(), |outcome| {
        let (what, verb) = outcome.object.as_ref().map_or((String::new(), "mount"), |made| {
            let content = made.fs.as_deref().unwrap_or("raw");
            let verb = if made.fs.is_some() { "mount" } else { "attach" };
            (format!(": {}, {content}, a clone of {from}", format.size(made.size_bytes)), verb)
        });
        let next = match verb {
            "mount" => format!("Mount it: volctl volume mount {new} PATH"),
            _ => format!("Attach it: volctl volume attach {new}"),
        };
        let (done, already) = (format!("created{what}"), format!("already exists as asked for{what}"));
        line(&format!("volume {new}"), outcome.changed, &done, &already, &next)
    })
}

pub async fn create_snapshots(
    snapshots: Vec<SnapshotPath>,
    with: &WithLabels,
    change: &Change,
    session: &mut Session<'_>,
) -> Run {
    let labels = labels(with)?;
    match snapshots.as_slice() {
        [only] => create_snapshot(only, labels, change, session).await,
        all => create_group(all, labels, change, session).await,
    }
}

async fn create_snapshot(
    snapshot: &SnapshotPath,
    labels: BTreeMap<String, String>,
    change: &Change,
    session: &mut Session<'_>,
) -> Run {
    let format = session.format;
    let request = CreateSnapshot {
        vg: snapshot.volume.vg.to_string(),
        volume: snapshot.volume.volume.to_string(),
        name: snapshot.snapshot.to_string(),
        labels,
    };
    let changed = session.client.create_snapshot(&request, change.dry_run).await?;
    session.report(&changed, snapshot.to_string(), |outcome| {
        let size = outcome.object.as_ref().map_or(String::new(), |made| format!(": {}", format.size(made.size_bytes)));
        let (done, already) = (format!("created{size}, read-only"), "already exists".to_owned());
        let next = format!("Look into it: volctl snapshot mount {snapshot} PATH");
        line(&format!("snapshot {snapshot}"), outcome.changed, &done, &already, &next)
    })
}

async fn create_group(
    snapshots: &[SnapshotPath],
    labels: BTreeMap<String, String>,
    change: &Change,
    session: &mut Session<'_>,
) -> Run {
    let Some(vg) = snapshots.first().map(|first| &first.volume.vg) else {
        return Err(Failure::new(exit::USAGE, "no snapshot is named", None));
    };
    if let Some(other) = snapshots.iter().find(|one| one.volume.vg != *vg) {
        return Err(Failure::new(
            exit::USAGE,
            format!("{other} is not in volume group {vg}, as the first snapshot is"),
            Some("snapshots of one instant are of volumes of one pool; take the others by themselves"),
        ));
    }
    let names = snapshots
        .iter()
        .map(|one| SnapshotName { volume: one.volume.volume.to_string(), name: one.snapshot.to_string() });
    let request = SnapshotGroup { vg: vg.to_string(), snapshots: names.collect(), labels };
    let changed = session.client.create_snapshots(&request, change.dry_run).await?;
    let all: Vec<_> = snapshots.iter().map(ToString::to_string).collect();
    session.report(&changed, all.join("\n"), |outcome| {
        let what = format!("{} {}", count(all.len() as u64, "snapshot"), all.join(", "));
        line(&what, outcome.changed, "created, all of one instant, read-only", "already exist", "")
    })
}

pub async fn rollback(args: RollbackArgs, session: &mut Session<'_>) -> Run {
    let RollbackArgs { snapshot, now, change } = args;
    let volume = &snapshot.volume;
    if !change.yes && !change.dry_run {
        // The dry run first: what cannot be is refused before a question is asked.
        session.client.rollback(&snapshot, now, true).await?;
        let lost =
            if now { " All that was written since is lost for good." } else { " All that was written since goes." };
        session.confirm(None, &Question::YesNo(format!("Roll volume {volume} back to {snapshot}?{lost}")))?;
    }
    let format = session.format;
    let changed = session.client.rollback(&snapshot, now, change.dry_run).await?;
    session.report(&changed, volume.to_string(), |outcome| {
        let object = outcome.object.as_ref();
        let size = object.map_or(String::new(), |made| format!(": {}", format.size(made.size_bytes)));
        let kept = object.and_then(|made| made.kept_until.as_deref());
        let next = kept.map_or(String::new(), |until| {
            format!("What it held is kept until {until}, as a deleted snapshot: volctl volume list --deleted")
        });
        let done = format!("rolled back to {snapshot}{size}");
        line(&format!("volume {volume}"), outcome.changed, &done, &done, &next)
    })
}

pub async fn rename_volume(args: RenameVolume, session: &mut Session<'_>) -> Run {
    let RenameVolume { volume, new, change } = args;
    if new.vg != volume.vg {
        return Err(Failure::new(
            exit::USAGE,
            format!("{new} is not in volume group {}: renaming does not move a volume", volume.vg),
            Some("name the volume in the same volume group"),
        ));
    }
    let request = Rename { name: new.volume.to_string() };
    let changed = session.client.rename_volume(&volume, &request, change.dry_run).await?;
    session.report(&changed, new.to_string(), |outcome| {
        let with = outcome.object.as_ref().map_or(0, |made| made.snapshot_count);
        let with = if with == 0 { String::new() } else { format!(", with its {}", count(with, "snapshot")) };
        let (done, already) = (format!("renamed to {new}{with}"), "has that name already".to_owned());
        line(&format!("volume {volume}"), outcome.changed, &done, &already, "")
    })
}

pub async fn rename_snapshot(args: RenameSnapshot, session: &mut Session<'_>) -> Run {
    let RenameSnapshot { snapshot, new, change } = args;
    let request = Rename { name: new.to_string() };
    let changed = session.client.rename_snapshot(&snapshot, &request, change.dry_run).await?;
    let after = format!("{}@{new}", snapshot.volume);
    session.report(&changed, after.clone(), |outcome| {
        let done = format!("renamed to {after}");
        line(&format!("snapshot {snapshot}"), outcome.changed, &done, "has that name already", "")
    })
}

/// `: owner=pg, tier=fast`, or that there are none.
pub fn shown(labels: Option<&BTreeMap<String, String>>) -> String {
    let all: Vec<_> = labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    if all.is_empty() { "labelled: no labels".to_owned() } else { format!("labelled: {}", all.join(", ")) }
}

pub async fn label_volume(args: LabelVolume, session: &mut Session<'_>) -> Run {
    let LabelVolume { volume, labels, change } = args;
    let changed = session.client.label_volume(&volume, &relabel(&labels)?, change.dry_run).await?;
    session.report(&changed, volume.to_string(), |outcome| {
        let labels = shown(outcome.object.as_ref().map(|object| &object.labels));
        line(&format!("volume {volume}"), outcome.changed, &labels, &format!("was already {labels}"), "")
    })
}

pub async fn label_snapshot(args: LabelSnapshot, session: &mut Session<'_>) -> Run {
    let LabelSnapshot { snapshot, labels, change } = args;
    let changed = session.client.label_snapshot(&snapshot, &relabel(&labels)?, change.dry_run).await?;
    session.report(&changed, snapshot.to_string(), |outcome| {
        let labels = shown(outcome.object.as_ref().map(|object| &object.labels));
        line(&format!("snapshot {snapshot}"), outcome.changed, &labels, &format!("was already {labels}"), "")
    })
}

const fn said(protect: bool) -> (&'static str, &'static str) {
    if protect { ("protected", "was already protected") } else { ("no longer protected", "was not protected") }
}

pub async fn protect_volume(args: OneVolume, protect: bool, session: &mut Session<'_>) -> Run {
    let OneVolume { volume, change } = args;
    let changed = session.client.protect_volume(&volume, protect, change.dry_run).await?;
    let (done, already) = said(protect);
    session.report(&changed, volume.to_string(), |outcome| {
        line(&format!("volume {volume}"), outcome.changed, done, already, "")
    })
}

pub async fn protect_snapshot(args: OneSnapshot, protect: bool, session: &mut Session<'_>) -> Run {
    let OneSnapshot { snapshot, change } = args;
    let changed = session.client.protect_snapshot(&snapshot, protect, change.dry_run).await?;
    let (done, already) = said(protect);
    session.report(&changed, snapshot.to_string(), |outcome| {
        line(&format!("snapshot {snapshot}"), outcome.changed, done, already, "")
    })
}
