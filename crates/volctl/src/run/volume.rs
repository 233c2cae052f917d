//! `volctl volume …`

use vol_api::{Changed, CreateVolume, DeletedInfo, Mount, Outcome, SetVolume, VolumeInfo};
use vol_types::VolumePath;

use super::change::{Question, line};
use super::thick::watched;
use super::{Run, Session, fs, life, paths, usage};
use crate::cli::{Fs, Volume};
use crate::render::{count, deleted_table, volume_facts, volume_table};

fn name(volume: &VolumeInfo) -> String {
    format!("{}/{}", volume.vg, volume.name)
}

pub async fn run(command: Volume, session: &mut Session<'_>) -> Run {
    let format = session.format;
    match command {
        Volume::Create {
            volume,
            pool,
            size,
            fs,
            attach,
            reserve,
            protect,
            with,
            mkfs_options,
            root,
            thick,
            change,
        } => {
            let (on, not_on, on_labels) = life::which(&thick.place.which)?;
            let request = CreateVolume {
                vg: volume.vg.to_string(),
                name: volume.volume.to_string(),
                pool: pool.map(|pool| pool.to_string()),
                size: size.0,
                fs: Some(fs.as_str().to_owned()),
                labels: life::labels(&with)?,
                reserve,
                protect,
                mkfs_options,
                owner: root.owner,
                mode: root.mode,
                empty_root: root.empty_root,
                subdir: root.subdir.map(|subdir| subdir.to_string()),
                thick: thick.thick,
                stripes: thick.stripes,
                stripe_size: thick.stripe_size.map(|size| size.0),
                contiguous: thick.place.contiguous,
                on,
                not_on,
                on_labels,
                attach,
            };
            let client = session.client.clone();
            let changed = watched(session, &volume, true, || client.create_volume(&request, change.dry_run)).await?;
            session.report(&changed, volume.to_string(), |outcome| {
                let what = outcome.object.as_ref().map_or(String::new(), |made| {
                    let content = made.fs.as_deref().unwrap_or("raw");
                    let place = match made.thick {
                        Some(_) => "thick".to_owned(),
                        None => format!("in pool {}", made.pool),
                    };
                    format!(": {}, {content}, {place}", format.size(made.size_bytes))
                });
                let device = outcome.object.as_ref().and_then(|made| made.device.as_deref());
                let next = match (fs, device) {
                    (Fs::None, Some(device)) => format!("Its device is {device}"),
                    (Fs::None, None) => format!("Attach it: volctl volume attach {volume}"),
                    _ => format!("Mount it: volctl volume mount {volume} PATH"),
                };
                // With --attach it may have been there, and is attached now.
                let done = if attach { "there and attached" } else { "created" };
                let (done, already) = (format!("{done}{what}"), format!("already exists as asked for{what}"));
                line(&format!("volume {volume}"), outcome.changed, &done, &already, &next)
            })
        }
        Volume::Set { volume, reserve, change } => {
            let request = SetVolume { reserve: Some(reserve) };
            let changed = session.client.set_volume(&volume, &request, change.dry_run).await?;
            session.report(&changed, volume.to_string(), |outcome| {
                let aside = outcome.object.as_ref().map_or(0, |volume| volume.reserve_bytes);
                let (done, already) = match aside {
                    0 => ("has nothing set aside any more".to_owned(), "has nothing set aside already".to_owned()),
                    bytes => {
                        let size = format.size(bytes);
                        (format!("has {size} of its pool set aside"), format!("has {size} set aside already"))
                    }
                };
                line(&format!("volume {volume}"), outcome.changed, &done, &already, "")
            })
        }
        Volume::List { within, deleted: true, .. } => {
            let list = session.client.deleted(within.vg.as_ref()).await?;
            let table = deleted_table(&list.deleted, format);
            let name = |one: &DeletedInfo| one.full_name.clone();
            session.list(&list, list.deleted.iter().map(name), &table, "Nothing that was deleted is kept.")
        }
        Volume::List { within, selected, deleted: false } => {
            let (list, empty) = match selected.joined() {
                Some(selector) => (
                    session.client.volumes_selected(within.vg.as_ref(), &selector).await?,
                    "No volumes with such labels.",
                ),
                None => (
                    session.client.volumes(within.vg.as_ref()).await?,
                    "No volumes: volctl volume create VG/VOLUME --size 10G makes one.",
                ),
            };
            let table = volume_table(&list.volumes, format);
            session.list(&list, list.volumes.iter().map(name), &table, empty)
        }
        Volume::Show { volume } => {
            let volume = session.client.volume(&volume).await?;
            session.show(&volume, name(&volume), &volume_facts(&volume, format))
        }
        Volume::Usage { volume } => usage::volume(&volume, session).await,
        Volume::Mount { volume, at, read_only, change } => {
            let request = Mount { path: paths::mount_point(&at.path)?, read_only, whole: at.whole };
            let changed = session.client.mount_volume(&volume, &request, change.dry_run).await?;
            session.report(&changed, volume.to_string(), |outcome| {
                let how = if read_only { ", read-only" } else { "" };
                let (done, already) = (
                    format!("mounted at {}{how}", request.path),
                    format!("was already mounted at {}{how}", request.path),
                );
                let next = format!("Unmount it: volctl volume unmount {volume}");
                line(&format!("volume {volume}"), outcome.changed, &done, &already, &next)
            })
        }
        Volume::Unmount { volume, change } => {
            let changed = session.client.unmount_volume(&volume, change.dry_run).await?;
            session.report(&changed, volume.to_string(), |outcome| {
                line(&format!("volume {volume}"), outcome.changed, "unmounted", "was not mounted", "")
            })
        }
        Volume::Attach { volume, read_only, change } => {
            let changed = if read_only {
                session.client.attach_volume_read_only(&volume, change.dry_run).await?
            } else {
                session.client.attach_volume(&volume, change.dry_run).await?
            };
            session.report(&changed, volume.to_string(), |outcome| {
                let device = outcome.object.as_ref().and_then(|volume| volume.device.as_deref()).unwrap_or("no device");
                let (done, already) = (format!("attached: {device}"), format!("was already attached: {device}"));
                let next = format!("Detach it: volctl volume detach {volume}");
                line(&format!("volume {volume}"), outcome.changed, &done, &already, &next)
            })
        }
        Volume::Detach { volume, change } => {
            let changed = session.client.detach_volume(&volume, change.dry_run).await?;
            session.report(&changed, volume.to_string(), |outcome| {
                line(&format!("volume {volume}"), outcome.changed, "detached", "was not attached", "")
            })
        }
        Volume::Clone(args) => life::clone_volume(args, session).await,
        Volume::Rename(args) => life::rename_volume(args, session).await,
        Volume::Label(args) => life::label_volume(args, session).await,
        Volume::Protect(args) => life::protect_volume(args, true, session).await,
        Volume::Unprotect(args) => life::protect_volume(args, false, session).await,
        Volume::Resize { volume, size, place, change } => fs::resize(&volume, size.0, &place, &change, session).await,
        Volume::Check { volume, repair, change } => fs::check(&volume, repair, &change, session).await,
        Volume::Trim { volume, change } => fs::trim(&volume, &change, session).await,
        Volume::Delete { volume, now, change } => {
            if !change.yes && !change.dry_run {
                // The dry run first: what is in use is refused before a question is asked.
                let info = session.client.volume(&volume).await?;
                session.client.delete_volume(&volume, now, true).await?;
                let kept = match kept_snapshots(session, &volume, info.snapshot_count).await {
                    None => String::new(),
                    Some(kept) => format!(" {kept}."),
                };
                let size = format.size(info.size_bytes);
                let data = if now { " and all its data, for good" } else { "" };
                let question = format!("Delete volume {volume} ({size}){data}?{kept}");
                session.confirm(None, &Question::YesNo(question))?;
            }
            let changed = session.client.delete_volume(&volume, now, change.dry_run).await?;
            let (snapshots, until) = match &changed {
                Changed::Done(Outcome { changed: true, object: Some(was), .. }) => {
                    (was.snapshot_count, was.kept_until.clone())
                }
                _ => (0, None),
            };
            let next = kept_snapshots(session, &volume, snapshots).await;
            let next = next.map_or(String::new(), |kept| format!("{kept}: volctl snapshot list"));
            let next = match &until {
                Some(_) if next.is_empty() => format!("Take it back: volctl volume undelete {volume}"),
                Some(_) => format!("Take it back: volctl volume undelete {volume}. {next}"),
                None => next,
            };
            let done = deleted(until.as_deref());
            session.report(&changed, volume.to_string(), |outcome| {
                line(&format!("volume {volume}"), outcome.changed, &done, "was already deleted", &next)
            })
        }
        Volume::Undelete { volume, change } => {
            let changed = session.client.undelete_volume(&volume, change.dry_run).await?;
            session.report(&changed, volume.to_string(), |outcome| {
                let next = format!("Mount it: volctl volume mount {volume} PATH");
                line(&format!("volume {volume}"), outcome.changed, "taken back", "was not deleted", &next)
            })
        }
    }
}

/// What was done, in words.
pub(super) fn deleted(until: Option<&str>) -> String {
    until.map_or_else(|| "deleted".to_owned(), |until| format!("deleted, kept until {until}"))
}

/// That the snapshots of a volume outlive it: `Its snapshot data/pg@before stays`, `Its 2 snapshots stay`; `None` if it has
/// none. A single one is named if the daemon tells its name; that it does not is no reason to fail.
async fn kept_snapshots(session: &Session<'_>, volume: &VolumePath, snapshots: u64) -> Option<String> {
    if snapshots != 1 {
        return (snapshots > 1).then(|| format!("Its {} stay", count(snapshots, "snapshot")));
    }
    let list = session.client.snapshots(Some(&volume.vg)).await.ok();
    let mut all = list.map(|list| list.snapshots).unwrap_or_default();
    // Also those of an earlier volume of that name: then none is named rather than the wrong one.
    all.retain(|snapshot| snapshot.volume == volume.volume.as_str());
    match all.as_slice() {
        [only] => Some(format!("Its snapshot {} stays", only.full_name)),
        _ => Some("Its 1 snapshot stays".to_owned()),
    }
}
