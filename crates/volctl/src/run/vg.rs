//! `volctl vg …` and `volctl init …`

use vol_api::{Changed, CreateVg, VgInfo};

use super::change::{Question, line, plan_of};
use super::{Run, Session, backup, member, paths};
use crate::cli::{Init, Vg};
use crate::render::{count, vg_facts, vg_table};

pub(super) const WIPE: &str = "Destroy what the disks carry, as shown above?";

pub async fn run(command: Vg, session: &mut Session<'_>) -> Run {
    match command {
        Vg::Extend { vg, members, change } => member::extend(&vg, &members, &change, session).await,
        Vg::Reduce { vg, pvs, missing, force, change } => {
            member::reduce(&vg, &pvs, (missing, force), &change, session).await
        }
        Vg::Rename { vg, new, change } => member::rename(&vg, &new, &change, session).await,
        Vg::Backup { vg, file } => backup::backup(&vg, file.as_deref(), session).await,
        Vg::Restore { file, disks, wipe, older, change } => {
            backup::restore(&file, &disks, (wipe, older), &change, session).await
        }
        Vg::ImportClone { disks, name, change } => backup::import_clone(&disks, &name, &change, session).await,
        Vg::Export { vg, change } => member::export(&vg, &change, session).await,
        Vg::Import { vg, change } => member::import(&vg, &change, session).await,
        Vg::Create { name, members, extent_size, metadata_copies, change } => {
            let request = CreateVg {
                name: name.to_string(),
                devices: paths::devices(&members.devices)?,
                files: paths::files(&members.files)?,
                wipe: members.wipe,
                extent_size: extent_size.map(|size| size.0),
                metadata_copies,
            };
            if members.wipe && !change.yes && !change.dry_run {
                let plan = plan_of(session.client.create_vg(&request, true).await?);
                session.confirm(plan.as_ref(), &Question::YesNo(WIPE.to_owned()))?;
            }
            let changed = session.client.create_vg(&request, change.dry_run).await?;
            let format = session.format;
            session.report(&changed, name.to_string(), |outcome| {
                let size = outcome.object.as_ref().map_or(String::new(), |vg| {
                    format!(": {} on {}", format.size(vg.size_bytes), count(vg.pv_count, "physical volume"))
                });
                let next = format!("Make a pool: volctl pool create {name}/POOL --size 80%FREE");
                line(
                    &format!("volume group {name}"),
                    outcome.changed,
                    &format!("created{size}"),
                    &format!("already exists as asked for{size}"),
                    &next,
                )
            })
        }
        Vg::List => {
            let list = session.client.vgs().await?;
            let table = vg_table(&list.vgs, session.format);
            let empty = "No volume groups: volctl vg create NAME DISK… makes one, or volctl init DISK….";
            session.list(&list, list.vgs.iter().map(|vg| vg.name.clone()), &table, empty)
        }
        Vg::Show { vg } => {
            let vg: VgInfo = session.client.vg(&vg).await?;
            let facts = vg_facts(&vg, session.format);
            session.show(&vg, vg.name.clone(), &facts)
        }
        Vg::Delete { vg, change } => {
            if !change.yes && !change.dry_run {
                let plan = plan_of(session.client.delete_vg(&vg, true).await?);
                let question = Question::TypeName { what: format!("Delete volume group {vg}?"), name: vg.to_string() };
                session.confirm(plan.as_ref(), &question)?;
            }
            let changed: Changed<VgInfo> = session.client.delete_vg(&vg, change.dry_run).await?;
            session.report(&changed, vg.to_string(), |outcome| {
                line(&format!("volume group {vg}"), outcome.changed, "deleted", "was already deleted", "")
            })
        }
    }
}

pub async fn init(init: Init, session: &mut Session<'_>) -> Run {
    let request = vol_api::Init {
        devices: paths::devices(&init.members.devices)?,
        files: paths::files(&init.members.files)?,
        vg: Some(init.vg.to_string()),
        pool: Some(init.pool.to_string()),
        wipe: init.members.wipe,
    };
    if init.members.wipe && !init.change.yes && !init.change.dry_run {
        let plan = plan_of(session.client.init(&request, true).await?);
        session.confirm(plan.as_ref(), &Question::YesNo(WIPE.to_owned()))?;
    }
    let changed = session.client.init(&request, init.change.dry_run).await?;
    let (vg, pool, format) = (&init.vg, &init.pool, session.format);
    session.report(&changed, format!("{vg}/{pool}"), |outcome| {
        let (vg_size, pool_size) = outcome.object.as_ref().map_or((String::new(), String::new()), |made| {
            let vg =
                format!(" ({} on {})", format.size(made.vg.size_bytes), count(made.vg.pv_count, "physical volume"));
            (vg, format!(" ({})", format.size(made.pool.size_bytes)))
        });
        line(
            &format!("volume group {vg}{vg_size} and pool {vg}/{pool}{pool_size}"),
            outcome.changed,
            "created",
            "already exist as asked for",
            &format!("Make a volume: volctl volume create {vg}/VOLUME --size 10G"),
        )
    })
}
