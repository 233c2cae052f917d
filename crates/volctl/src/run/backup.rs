//! `volctl vg backup|restore|import-clone`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use vol_api::backup::BACKUP_MAX_BYTES;
use vol_api::{ImportClone, RestoreDisk, RestoreVg};
use vol_types::Name;

use super::change::{Question, line, plan_of};
use super::{Run, Session, paths};
use crate::cli::{Change, Output, PvDisk};
use crate::render::count;
use crate::{Failure, exit};

/// Replaces `path` as a whole or not at all; only its owner may read it.
fn write_file(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(dir)?.sync_all()
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

pub async fn backup(vg: &Name, file: Option<&str>, session: &mut Session<'_>) -> Run {
    let backup = session.client.backup_vg(vg).await?;
    let mut text = serde_json::to_string_pretty(&backup)
        .map_err(|error| Failure::new(exit::FAILURE, format!("cannot write the backup: {error}"), None))?;
    text.push('\n');
    if file == Some("-") {
        session.print(&text)?;
        return Ok(exit::OK);
    }
    let path = file.map_or_else(|| PathBuf::from(format!("{vg}.backup.json")), PathBuf::from);
    write_file(&path, text.as_bytes()).map_err(|error| {
        let hint = "the file that was there before, if any, is as it was";
        Failure::new(exit::FAILURE, format!("cannot write {}: {error}", path.display()), Some(hint))
    })?;
    let shown = path.display();
    match session.output {
        Output::Json => session.print_json(&serde_json::json!({
            "file": shown.to_string(),
            "vg": backup.content.vg.name,
            "sequence": backup.content.sequence,
            "checksum": backup.checksum,
        }))?,
        Output::Name => session.print_names([shown.to_string()])?,
        Output::Table if session.quiet => {}
        Output::Table => {
            let (pvs, volumes) = (backup.content.pvs.len() as u64, backup.content.volumes.len() as u64);
            session.print(&format!(
                "volume group {vg} backed up to {shown}: {}, {}, as of commit {}. It holds metadata only, no data of volumes.\n",
                count(pvs, "physical volume"),
                count(volumes, "volume or snapshot").replace("volume or snapshots", "volumes and snapshots"),
                backup.content.sequence
            ))?;
        }
    }
    Ok(exit::OK)
}

fn read_file(file: &str) -> Result<String, Failure> {
    let failure = |error: io::Error| Failure::new(exit::FAILURE, format!("cannot read {file}: {error}"), None);
    let limit = BACKUP_MAX_BYTES as u64 + 1;
    let mut text = String::new();
    if file == "-" {
        io::stdin().lock().take(limit).read_to_string(&mut text).map_err(failure)?;
    } else {
        fs::File::open(file).map_err(failure)?.take(limit).read_to_string(&mut text).map_err(failure)?;
    }
    if text.len() > BACKUP_MAX_BYTES {
        return Err(Failure::new(exit::USAGE, format!("{file} is larger than any backup"), None));
    }
    Ok(text)
}

/// `(wipe, older)`: destroy what else the disks carry; although a disk knows of newer commits.
pub async fn restore(
    file: &str,
    disks: &[PvDisk],
    (wipe, older): (bool, bool),
    change: &Change,
    session: &mut Session<'_>,
) -> Run {
    let mut named = Vec::new();
    for PvDisk { pv, disk } in disks {
        let device = paths::devices(std::slice::from_ref(disk))?.concat();
        named.push(RestoreDisk { pv: pv.to_string(), device });
    }
    let request = RestoreVg { backup: read_file(file)?, disks: named, wipe, older };
    if !change.yes && !change.dry_run {
        let plan = plan_of(session.client.restore_vg(&request, true).await?);
        let question = "Write the metadata on these disks anew, as of the backup?".to_owned();
        session.confirm(plan.as_ref(), &Question::YesNo(question))?;
    }
    let changed = session.client.restore_vg(&request, change.dry_run).await?;
    session.report(&changed, String::new(), |outcome| {
        let name = outcome.object.as_ref().map_or_else(String::new, |vg| vg.name.clone());
        line(&format!("volume group {name}"), outcome.changed, "restored", "is as in the backup already", "")
    })
}

pub async fn import_clone(disks: &[String], name: &Name, change: &Change, session: &mut Session<'_>) -> Run {
    let request = ImportClone { devices: paths::devices(disks)?, name: name.to_string() };
    if !change.yes && !change.dry_run {
        let plan = plan_of(session.client.import_clone(&request, true).await?);
        let question = "Are these disks copies, and may they get new ids?".to_owned();
        session.confirm(plan.as_ref(), &Question::YesNo(question))?;
    }
    let changed = session.client.import_clone(&request, change.dry_run).await?;
    session.report(&changed, name.to_string(), |outcome| {
        line(&format!("volume group {name}"), outcome.changed, "made of the copies", "is made of them already", "")
    })
}
