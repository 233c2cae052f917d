//! `volctl snapshot …`

use vol_api::{CreateSnapshot, Mount, SnapshotInfo};
use vol_types::VolumePath;

use super::change::{Question, line};
use super::volume::deleted;
use super::{Run, Session, paths};
use crate::cli::{Scope, Snapshot};
use crate::render::{snapshot_facts, snapshot_table};

pub async fn run(command: Snapshot, session: &mut Session<'_>) -> Run {
    let format = session.format;
    match command {
        Snapshot::Create { snapshot, change } => {
            let VolumePath { vg, volume } = &snapshot.volume;
            let request =
                CreateSnapshot { vg: vg.to_string(), volume: volume.to_string(), name: snapshot.snapshot.to_string() };
            let changed = session.client.create_snapshot(&request, change.dry_run).await?;
            session.report(&changed, snapshot.to_string(), |outcome| {
                let size =
                    outcome.object.as_ref().map_or(String::new(), |made| format!(": {}", format.size(made.size_bytes)));
                let (done, already) = (format!("created{size}, read-only"), "already exists".to_owned());
                let next = format!("Look into it: volctl snapshot mount {snapshot} PATH");
                line(&format!("snapshot {snapshot}"), outcome.changed, &done, &already, &next)
            })
        }
        Snapshot::List { of } => list(of, session).await,
        Snapshot::Show { snapshot } => {
            let snapshot = session.client.snapshot(&snapshot).await?;
            session.show(&snapshot, snapshot.full_name.clone(), &snapshot_facts(&snapshot, format))
        }
        Snapshot::Mount { snapshot, at, change } => {
            let request = Mount { path: paths::mount_point(&at.path)?, read_only: true };
            let changed = session.client.mount_snapshot(&snapshot, &request, change.dry_run).await?;
            session.report(&changed, snapshot.to_string(), |outcome| {
                let at = &request.path;
                let (done, already) = (format!("mounted at {at}, read-only"), format!("was already mounted at {at}"));
                let next = format!("Unmount it: volctl snapshot unmount {snapshot}");
                line(&format!("snapshot {snapshot}"), outcome.changed, &done, &already, &next)
            })
        }
        Snapshot::Unmount { snapshot, change } => {
            let changed = session.client.unmount_snapshot(&snapshot, change.dry_run).await?;
            session.report(&changed, snapshot.to_string(), |outcome| {
                line(&format!("snapshot {snapshot}"), outcome.changed, "unmounted", "was not mounted", "")
            })
        }
        Snapshot::Delete { snapshot, now, change } => {
            if !change.yes && !change.dry_run {
                session.client.delete_snapshot(&snapshot, now, true).await?;
                session.confirm(None, &Question::YesNo(format!("Delete snapshot {snapshot}?")))?;
            }
            let changed = session.client.delete_snapshot(&snapshot, now, change.dry_run).await?;
            session.report(&changed, snapshot.to_string(), |outcome| {
                let until = outcome.object.as_ref().and_then(|was| was.kept_until.as_deref());
                let next = until.map(|_| format!("Take it back: volctl snapshot undelete {snapshot}"));
                let (done, next) = (deleted(until), next.unwrap_or_default());
                line(&format!("snapshot {snapshot}"), outcome.changed, &done, "was already deleted", &next)
            })
        }
        Snapshot::Undelete { snapshot, change } => {
            let changed = session.client.undelete_snapshot(&snapshot, change.dry_run).await?;
            session.report(&changed, snapshot.to_string(), |outcome| {
                line(&format!("snapshot {snapshot}"), outcome.changed, "taken back", "was not deleted", "")
            })
        }
    }
}

async fn list(of: Option<Scope>, session: &mut Session<'_>) -> Run {
    let mut list = session.client.snapshots(of.as_ref().map(|of| &of.vg)).await?;
    if let Some(volume) = of.and_then(|of| of.volume) {
        list.snapshots.retain(|snapshot| snapshot.volume == volume.as_str());
    }
    let table = snapshot_table(&list.snapshots, session.format);
    let name = |snapshot: &SnapshotInfo| snapshot.full_name.clone();
    let empty = "No snapshots: volctl snapshot create VG/VOLUME@SNAPSHOT makes one.";
    session.list(&list, list.snapshots.iter().map(name), &table, empty)
}
