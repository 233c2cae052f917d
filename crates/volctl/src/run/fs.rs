//! `volctl volume resize`, `check` and `trim`.

use vol_api::{CheckVolume, ResizeVolume};
use vol_types::VolumePath;

use super::change::{Question, line};
use super::thick::watched;
use super::{Run, Session, life};
use crate::cli::{Change, Place};

pub async fn resize(
    volume: &VolumePath,
    size: String,
    place: &Place,
    change: &Change,
    session: &mut Session<'_>,
) -> Run {
    let format = session.format;
    let client = session.client.clone();
    // An addition that is asked for again adds again.
    let again = !size.starts_with('+');
    let (on, not_on, on_labels) = life::which(&place.which)?;
    let request = ResizeVolume { size, on, not_on, on_labels, contiguous: place.contiguous };
    let changed = watched(session, volume, again, || client.resize_volume(volume, &request, change.dry_run)).await?;
    session.report(&changed, volume.to_string(), |outcome| {
        let has = outcome.object.as_ref().map_or(String::new(), |now| format!(" {}", format.size(now.size_bytes)));
        let next = match &outcome.object {
            Some(now) if now.fs.is_some() && now.mounts.iter().all(|mount| mount.read_only) => {
                "Its file system grows when it is mounted writable the next time"
            }
            _ => "",
        };
        let (done, already) = (format!("has{has} now"), format!("had{has} already"));
        line(&format!("volume {volume}"), outcome.changed, &done, &already, next)
    })
}

pub async fn check(volume: &VolumePath, repair: bool, change: &Change, session: &mut Session<'_>) -> Run {
    let request = CheckVolume { repair };
    if repair && !change.yes && !change.dry_run {
        // The dry run first: what is refused is refused before a question is asked.
        session.client.check_volume(volume, &request, true).await?;
        let question = format!(
            "Put right whatever is wrong in the file system of {volume}? Files may be lost; a snapshot keeps it as it is \
             (volctl snapshot create {volume}@before-repair)."
        );
        session.confirm(None, &Question::YesNo(question))?;
    }
    let changed = session.client.check_volume(volume, &request, change.dry_run).await?;
    session.report(&changed, volume.to_string(), |outcome| {
        let clean = "checked: no errors were found";
        let done = if repair { "checked, and put right where that was needed" } else { clean };
        line(&format!("volume {volume}"), outcome.changed, done, clean, "")
    })
}

pub async fn trim(volume: &VolumePath, change: &Change, session: &mut Session<'_>) -> Run {
    let format = session.format;
    let changed = session.client.trim_volume(volume, change.dry_run).await?;
    session.report(&changed, volume.to_string(), |outcome| {
        let bytes = outcome.object.as_ref().map_or(0, |trim| trim.trimmed_bytes);
        let done = format!("trimmed: {} discarded", format.size(bytes));
        line(&format!("volume {volume}"), outcome.changed, &done, "had nothing to discard", "")
    })
}
