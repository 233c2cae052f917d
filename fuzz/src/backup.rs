//! The document of `vg backup`.

use vol_api::backup::{Backup, FORMAT, FORMAT_VERSION, parse};
use vol_core::Catalog;

/// The bytes as a backup, as they are and with format, version and checksum repaired, so that what a checksum keeps out is reached.
///
/// Claims: no panic; what is accepted is written from its objects again as the same content; the catalog that it describes can
/// be checked, and a restoration refuses it by that check if it contradicts itself.
pub fn backup_json(data: &[u8]) -> bool {
    let as_it_is = holds(data);
    let repaired = serde_json::from_slice::<Backup>(data).ok().is_some_and(|backup| {
        let content = serde_json::to_vec(&backup.content).expect("what was read cannot be written");
        let checksum = blake3::hash(&content).to_hex().to_string();
        let format = FORMAT.to_owned();
        let sealed = Backup { format, format_version: FORMAT_VERSION, checksum, ..backup };
        holds(&serde_json::to_vec(&sealed).expect("what was read cannot be written"))
    });
    as_it_is || repaired
}

fn holds(data: &[u8]) -> bool {
    let Ok(parsed) = parse(data) else { return false };
    let layout = |id: vol_types::PvId| parsed.content.pvs.iter().find(|pv| pv.id == id.to_string()).map(|pv| pv.layout);
    let (written_at, version) = (parsed.content.written_at.clone(), parsed.content.volumed_version.clone());
    let again = Backup::new(parsed.content.sequence, written_at, version, &parsed.objects, layout)
        .expect("what was accepted cannot be written");
    assert_eq!(again.content, parsed.content, "written from its objects again");
    if let Some(catalog) = Catalog::from_objects(parsed.content.sequence, parsed.objects) {
        drop(vol_core::check::violations(&catalog));
    }
    true
}
