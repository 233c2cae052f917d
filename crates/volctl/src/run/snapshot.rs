//! `volctl snapshot …`

use vol_api::{Mount, SnapshotInfo};

use super::change::{Question, line};
use super::volume::deleted;
use super::{Run, Session, life, paths};
use crate::cli::{Scope, Selected, Snapshot};
use crate::render::{snapshot_facts, snapshot_table};

pub async fn run(command: Snapshot, session: &mut Session<'_>) -> Run {
    let format = session.format;
    match command {
        Snapshot::Create { snapshots, with, change } => {
            life::create_snapshots(snapshots, &with, &change, session).await
        }
        Snapshot::Rollback(args) => life::rollback(args, session).await,
        Snapshot::Rename(args) => life::rename_snapshot(args, session).await,
        Snapshot::Label(args) => life::label_snapshot(args, session).await,
        Snapshot::Protect(args) => life::protect_snapshot(args, true, session).await,
        Snapshot::Unprotect(args) => life::protect_snapshot(args, false, session).await,
        Snapshot::List { of, selected } => list(of, &selected, session).await,
        Snapshot::Show { snapshot } => {
            let snapshot = session.client.snapshot(&snapshot).await?;
            session.show(&snapshot, snapshot.full_name.clone(), &snapshot_facts(&snapshot, format))
        }
        Snapshot::Mount { snapshot, at, change } => {
            let request = Mount { path: paths::mount_point(&at.path)?, read_only: true, whole: at.whole };
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

async fn list(of: Option<Scope>, selected: &Selected, session: &mut Session<'_>) -> Run {
    let vg = of.as_ref().map(|of| &of.vg);
    let (mut list, empty) = match selected.joined() {
        Some(selector) => (session.client.snapshots_selected(vg, &selector).await?, "No snapshots with such labels."),
        None => {
            (session.client.snapshots(vg).await?, "No snapshots: volctl snapshot create VG/VOLUME@SNAPSHOT makes one.")
        }
    };
    if let Some(volume) = of.and_then(|of| of.volume) {
        list.snapshots.retain(|snapshot| snapshot.volume == volume.as_str());
    }
    let table = snapshot_table(&list.snapshots, session.format);
    let name = |snapshot: &SnapshotInfo| snapshot.full_name.clone();
    session.list(&list, list.snapshots.iter().map(name), &table, empty)
}
