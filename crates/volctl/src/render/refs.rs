//! What container engines need, for people.

use vol_api::{RefInfo, RuntimeDf, UnneededMount, VolumeRefs};

use super::Align::{Left, Right};
use super::{Format, Table, UNKNOWN, clean, count};

/// Of an id of 64 digits these tell it from others.
const ID_SHOWN: usize = 12;

fn joined(list: &[String]) -> String {
    if list.is_empty() { UNKNOWN.to_owned() } else { list.join(", ") }
}

fn volume(volume: Option<&String>, id: &str) -> String {
    volume.cloned().unwrap_or_else(|| format!("({id})"))
}

/// References, each with where its volume is mounted, and who sees it.
pub fn refs_table(refs: &[RefInfo]) -> Table {
    let mut table = Table::new(&[
        ("RUNTIME", Left),
        ("NAME", Left),
        ("VOLUME", Left),
        ("ID", Left),
        ("COUNT", Right),
        ("STATE", Left),
        ("MOUNTED AT", Left),
        ("USED BY", Left),
    ]);
    for one in refs {
        // Whole, where the first digits are those of another one.
        let short: String = one.id.chars().take(ID_SHOWN).collect();
        let alone = refs.iter().filter(|other| other.id.starts_with(&short)).all(|other| other.id == one.id);
        table.push([
            one.runtime.clone(),
            one.engine_name.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            volume(one.volume.as_ref(), &one.volume_id),
            if alone { short } else { one.id.clone() },
            one.count.to_string(),
            if one.confirmed { "confirmed" } else { "unconfirmed" }.to_owned(),
            joined(&one.mounted_at),
            joined(&one.used_by),
        ]);
    }
    table
}

/// Mounts without a reference.
pub fn unneeded_table(mounts: &[UnneededMount]) -> Table {
    let mut table = Table::new(&[("RUNTIME", Left), ("VOLUME", Left), ("MOUNTED AT", Left), ("KEPT FOR", Left)]);
    for one in mounts {
        let kept =
            if one.used_by.is_empty() { "nobody: it is unmounted soon".to_owned() } else { one.used_by.join(", ") };
        table.push([one.runtime.clone(), volume(one.volume.as_ref(), &one.volume_id), one.path.clone(), kept]);
    }
    table
}

/// `docker: 2 references (1 unconfirmed)`.
pub fn volume_refs_text(refs: &[VolumeRefs]) -> String {
    let text = |one: &VolumeRefs| {
        let unconfirmed =
            if one.unconfirmed > 0 { format!(" ({} unconfirmed)", one.unconfirmed) } else { String::new() };
        format!("{}: {}{unconfirmed}", one.runtime, count(one.count, "reference"))
    };
    if refs.is_empty() { "none".to_owned() } else { refs.iter().map(text).collect::<Vec<_>>().join(", ") }
}

/// The volumes of an engine, and all of them together.
pub fn runtime_df_text(df: &RuntimeDf, format: Format) -> String {
    let mut table = Table::new(&[
        ("NAME", Left),
        ("VOLUME", Left),
        ("SIZE", Right),
        ("USED", Right),
        ("EXCLUSIVE", Right),
        ("REFERENCES", Right),
        ("MOUNTED", Left),
    ]);
    for one in &df.volumes {
        table.push([
            one.name.clone(),
            one.volume.clone(),
            format.size(one.size_bytes),
            format.size(one.used_bytes),
            format.size(one.exclusive_bytes),
            one.references.to_string(),
            if one.mounted { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let total = &df.total;
    format!(
        "{}\n{} of {}, {} in use; size {}, used {}, reclaimable {}\n",
        table.render(format.no_headers),
        count(total.volume_count, "volume"),
        clean(&df.runtime),
        total.active_count,
        format.size(total.size_bytes),
        format.size(total.used_bytes),
        format.size(total.reclaimable_bytes),
    )
}
