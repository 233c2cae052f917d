//! `volctl pv …`

use vol_api::{PvInfo, ScanRequest, WipePv};

use super::change::{Question, plan_of};
use super::{Run, Session, paths};
use crate::cli::{Change, Pv, PvText};
use crate::render::{count, pv_facts, pv_table};
use crate::values::resolve;
use crate::{Failure, exit};

/// Its path, or its id while it is missing.
fn name(pv: &PvInfo) -> String {
    pv.path.clone().unwrap_or_else(|| pv.id.clone())
}

pub async fn run(command: Pv, session: &mut Session<'_>) -> Run {
    match command {
        Pv::List(within) => {
            let list = session.client.pvs(within.vg.as_ref()).await?;
            let table = pv_table(&list.pvs, session.format);
            session.list(
                &list,
                list.pvs.iter().map(name),
                &table,
                "No physical volumes: volctl vg create NAME DISK… makes some.",
            )
        }
        Pv::Show { pv } => {
            let pv = find(pv, session).await?;
            let facts = pv_facts(&pv, session.format);
            session.show(&pv, name(&pv), &facts)
        }
        Pv::Wipe { disk, force, change } => wipe(&disk, force, &change, session).await,
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

/// By id, or by where it stands: the path as the kernel names it, links followed.
async fn find(pv: PvText, session: &Session<'_>) -> Result<PvInfo, Failure> {
    let path = match pv {
        PvText::Id(id) => return Ok(session.client.pv(id).await?),
        PvText::Path(path) => path,
    };
    let resolved = resolve(&path).map_err(|error| Failure::new(exit::USAGE, format!("{path}: {error}"), None))?;
    let found = session.client.pvs_at(&resolved).await?.pvs.into_iter().next();
    found.ok_or_else(|| {
        let message = format!("{path} is no physical volume of volumed");
        Failure::new(exit::NOT_FOUND, message, Some("volctl pv list shows them; volctl pv scan looks again"))
    })
}
