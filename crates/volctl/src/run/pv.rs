//! `volctl pv …`

use vol_api::{PvCheck, PvCheckList, PvInfo, ScanRequest, WipePv};
use vol_types::PvId;

use super::change::{Question, line, plan_of};
use super::{Run, Session, life, paths, usage};
use crate::cli::{Change, Output, Pv, PvText};
use crate::dump;
use crate::render::{count, pv_table};
use crate::values::resolve;
use crate::{Failure, exit};

/// Its path, or its id while it is missing.
fn name(pv: &PvInfo) -> String {
    pv.path.clone().unwrap_or_else(|| pv.id.clone())
}

pub async fn run(command: Pv, session: &mut Session<'_>) -> Run {
    match command {
        Pv::List { within, selected } => {
            let (list, empty) = match selected.joined() {
                Some(selector) => (
                    session.client.pvs_selected(within.vg.as_ref(), &selector).await?,
                    "No physical volumes with such labels.",
                ),
                None => (
                    session.client.pvs(within.vg.as_ref()).await?,
                    "No physical volumes: volctl vg create NAME DISK… makes some.",
                ),
            };
            let table = pv_table(&list.pvs, session.format);
            session.list(&list, list.pvs.iter().map(name), &table, empty)
        }
        Pv::Show { pv } => {
            let pv = find(pv, session).await?;
            usage::show_pv(&pv, name(&pv), session).await
        }
        Pv::Label { pv, labels, change } => {
            let found = find(pv, session).await?;
            let request = life::relabel(&labels)?;
            let changed = session.client.label_pv(known_id(&found)?, &request, change.dry_run).await?;
            session.report(&changed, name(&found), |outcome| {
                let labels = life::shown(outcome.object.as_ref().map(|pv| &pv.labels));
                line(&format!("PV {}", name(&found)), outcome.changed, &labels, &format!("was already {labels}"), "")
            })
        }
        Pv::Wipe { disk, force, change } => wipe(&disk, force, &change, session).await,
        Pv::Check { pvs, offline } => check(pvs, offline, session).await,
        Pv::Scan { files, change } => {
            let files = files.iter().map(|path| paths::file(path)).collect::<Result<_, _>>()?;
            let changed = session.client.scan(&ScanRequest { files }, change.dry_run).await?;
            session.report(&changed, String::new(), |outcome| {
                let known =
                    outcome.object.as_ref().map_or((0, 0), |scan| (scan.pvs.len() as u64, scan.vgs.len() as u64));
                let news = if outcome.changed { "Scan done" } else { "Scan done, nothing new" };
                format!("{news}: {} in {} known.", count(known.0, "physical volume"), count(known.1, "volume group"))
            })
        }
    }
}

async fn wipe(disk: &str, force: bool, change: &Change, session: &mut Session<'_>) -> Run {
    let device = paths::devices(&[disk.to_owned()])?.pop().unwrap_or_default();
    let request = WipePv { device, force };
    if !change.yes && !change.dry_run {
        let plan = plan_of(session.client.wipe_pv(&request, true).await?);
        session.confirm(plan.as_ref(), &Question::YesNo(format!("Wipe {disk}?")))?;
    }
    let changed = session.client.wipe_pv(&request, change.dry_run).await?;
    session.report(&changed, disk.to_owned(), |outcome| {
        let was = outcome.object.as_ref().filter(|pv| !pv.vg.is_empty());
        let was = was.map_or(String::new(), |pv| format!(" (it was PV {} of volume group {})", pv.id, pv.vg));
        format!("{disk} wiped{was}.")
    })
}

/// Exit code 10 when any has damage, whatever the form of the answer.
async fn check(pvs: Vec<PvText>, offline: bool, session: &mut Session<'_>) -> Run {
    let mut checks = Vec::new();
    if offline && pvs.is_empty() {
        let hint = "volctl pv check --offline /dev/sdb …; without --offline the daemon checks all that it knows";
        return Err(Failure::new(exit::USAGE, "--offline needs disks to read", Some(hint)));
    }
    if pvs.is_empty() {
        for pv in session.client.pvs(None).await?.pvs.into_iter().filter(|pv| !pv.unknown) {
            checks.push(session.client.check_pv(known_id(&pv)?).await?);
        }
    }
    for pv in pvs {
        checks.push(match pv {
            PvText::Id(_) if offline => {
                let message = "--offline reads disks by their path, not by an id";
                return Err(Failure::new(exit::USAGE, message, Some("volctl debug dump DISK… shows their ids")));
            }
            PvText::Id(id) => session.client.check_pv(id).await?,
            PvText::Path(path) if offline => PvCheck::from(&dump::read(&path)?),
            PvText::Path(path) => {
                let resolved = resolved(&path)?;
                match session.client.pvs_at(&resolved).await?.pvs.into_iter().next() {
                    Some(pv) if !pv.unknown => session.client.check_pv(known_id(&pv)?).await?,
                    _ => PvCheck::from(&dump::read(&path)?),
                }
            }
        });
    }
    match session.output {
        Output::Json => session.print_json(&PvCheckList { checks: checks.clone() })?,
        Output::Name => {
            let damaged = checks.iter().filter(|check| check.severity == "damage");
            session.print_names(damaged.map(|check| check.path.clone().or(check.id.clone()).unwrap_or_default()))?;
        }
        Output::Table if checks.is_empty() => session.say("No physical volumes: there is nothing to check.\n"),
        Output::Table => session.print(&dump::check_text(&checks))?,
    }
    Ok(if checks.iter().any(|check| check.severity == "damage") { exit::WARNINGS } else { exit::OK })
}

fn known_id(pv: &PvInfo) -> Result<PvId, Failure> {
    pv.id.parse().map_err(|_| Failure::new(exit::FAILURE, format!("the daemon answered with the id {:?}", pv.id), None))
}

fn resolved(path: &str) -> Result<String, Failure> {
    resolve(path).map_err(|error| Failure::new(exit::USAGE, format!("{path}: {error}"), None))
}

/// By id, or by where it stands: the path as the kernel names it, links followed.
async fn find(pv: PvText, session: &Session<'_>) -> Result<PvInfo, Failure> {
    let path = match pv {
        PvText::Id(id) => return Ok(session.client.pv(id).await?),
        PvText::Path(path) => path,
    };
    let resolved = resolved(&path)?;
    let found = session.client.pvs_at(&resolved).await?.pvs.into_iter().next();
    found.ok_or_else(|| {
        let message = format!("{path} is no physical volume of volumed");
        Failure::new(exit::NOT_FOUND, message, Some("volctl pv list shows them; volctl pv scan looks again"))
    })
}
