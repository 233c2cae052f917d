//! `volctl refs …`, `volctl df --runtime`.

use vol_api::{RefInfo, ReleaseRefs, ReleasedRefs};

use super::change::Question;
use super::{Run, Session};
use crate::cli::{Output, Refs, Release, Runtime};
use crate::render::{count, refs_table, runtime_df_text, unneeded_table};
use crate::{Failure, exit};

pub async fn run(command: Refs, session: &mut Session<'_>) -> Run {
    match command {
        Refs::List { runtime } => list(runtime, session).await,
        Refs::Release(args) => release(args, session).await,
    }
}

async fn list(runtime: Option<Runtime>, session: &mut Session<'_>) -> Run {
    let list = session.client.refs(runtime.map(Runtime::as_str)).await?;
    let names = list.refs.iter().map(|one| format!("{} {} {}", one.volume_id, one.runtime, one.id));
    let table = refs_table(&list.refs);
    session.list(&list, names, &table, "No container engine has a volume mounted.")?;
    if session.output == Output::Table && !list.unneeded.is_empty() {
        let table = unneeded_table(&list.unneeded).render(session.format.no_headers);
        let head = if session.format.no_headers { "" } else { "\nMounts that no engine needs:\n" };
        session.print(&format!("{head}{table}"))?;
    }
    Ok(exit::OK)
}

async fn release(args: Release, session: &mut Session<'_>) -> Run {
    let Release { volume, runtime, id, change } = args;
    let runtime = runtime.map(|one| one.as_str().to_owned());
    let id = match id {
        Some(id) => Some(whole(&volume, runtime.as_deref(), id, session).await?),
        None => None,
    };
    let request = ReleaseRefs { volume: volume.clone(), runtime, id };
    if !change.yes && !change.dry_run {
        // What is not there is refused before a question is asked.
        session.client.release_refs(&request, true).await?;
        if !session.dialog.is_interactive() {
            let hint = "give --yes if the containers that used it are gone, --dry-run to see what would be done";
            return Err(Failure::new(exit::DECLINED, "there is no terminal to ask at", Some(hint)));
        }
        let list = session.client.refs(request.runtime.as_deref()).await?;
        let meant = of_volume(list.refs, &volume);
        let meant: Vec<_> = meant.filter(|one| request.id.as_ref().is_none_or(|id| *id == one.id)).collect();
        let mut users: Vec<_> = meant.iter().flat_map(|one| one.used_by.clone()).collect();
        users.sort();
        users.dedup();
        let running = match users.as_slice() {
            [] => "No container is seen to have it mounted; one that is just being started would find it unmounted."
                .to_owned(),
            some => format!(
                "It is in use by {}: that goes on, and the volume stays mounted until it ends. To end the use, stop the container instead.",
                some.join("; ")
            ),
        };
        let references = count(meant.len() as u64, "mount reference");
        session.confirm(None, &Question::YesNo(format!("Forget {references} of {volume}? {running}")))?;
    }
    let changed = session.client.release_refs(&request, change.dry_run).await?;
    session.report(&changed, volume.clone(), |outcome| {
        let nothing = ReleasedRefs::default();
        let done = outcome.object.as_ref().unwrap_or(&nothing);
        let forgotten = match done.released.len() as u64 {
            0 => format!("Volume {volume} had no such mount references"),
            some => format!("{} of volume {volume} forgotten", count(some, "mount reference")),
        };
        let then = match (done.left, done.unmounted) {
            (0, true) => "; no engine has it mounted now.".to_owned(),
            (0, false) => format!("; it stays mounted while it is in use by {}.", done.used_by.join("; ")),
            (left, _) => format!("; {} left.", count(left, "other reference")),
        };
        forgotten + &then
    })
}

/// The id that begins so, as tables show it, if there is one.
async fn whole(volume: &str, runtime: Option<&str>, id: String, session: &mut Session<'_>) -> Result<String, Failure> {
    let mut ids: Vec<_> = of_volume(session.client.refs(runtime).await?.refs, volume).map(|one| one.id).collect();
    ids.retain(|one| one.starts_with(&id));
    match ids.as_slice() {
        [one] => Ok(one.clone()),
        some if some.is_empty() || some.contains(&id) => Ok(id),
        some => Err(Failure::new(
            exit::USAGE,
            format!("{} of volume {volume} begin with {id:?}", count(some.len() as u64, "mount reference")),
            Some("volctl refs list -o json shows whole ids"),
        )),
    }
}

/// Those of a volume, which is named by its path or by its id.
fn of_volume(refs: Vec<RefInfo>, volume: &str) -> impl Iterator<Item = RefInfo> {
    refs.into_iter().filter(move |one| one.volume.as_deref() == Some(volume) || one.volume_id == volume)
}

pub async fn df(runtime: Runtime, session: &mut Session<'_>) -> Run {
    let df = session.client.runtime_df(runtime.as_str()).await?;
    match session.output {
        Output::Json => session.print_json(&df)?,
        Output::Name => session.print_names(df.volumes.iter().map(|one| one.name.clone()))?,
        Output::Table if df.volumes.is_empty() && session.quiet => {}
        Output::Table if df.volumes.is_empty() => {
            let (name, label) = (runtime.as_str(), format!("{}.volume", runtime.as_str()));
            session.say(&format!(
                "No volumes of {name}: those have the label {label}, which {name} volume create sets.\n"
            ));
        }
        Output::Table => session.print(&runtime_df_text(&df, session.format))?,
    }
    Ok(exit::OK)
}
