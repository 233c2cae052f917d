//! Who takes how much, and what lies where, for people.

use vol_api::{PoolUsage, PvMap, PvSegment, SegmentUse, SnapshotUsage, VgMap, VolumeUsage};

use super::Align::{Left, Right};
use super::{Format, Table, clean, count, percent, percent_text};

fn usage_columns() -> Table {
    Table::new(&[
        ("NAME", Left),
        ("SIZE", Right),
        ("ALLOCATED", Right),
        ("EXCLUSIVE", Right),
        ("SHARED", Right),
        ("RECLAIMABLE", Right),
    ])
}

fn push_volume(table: &mut Table, volume: &VolumeUsage, format: Format) {
    table.push([
        format!("{}/{}", volume.vg, volume.volume),
        format.size(volume.size_bytes),
        format.size(volume.allocated_bytes),
        format.size(volume.exclusive_bytes),
        format.size(volume.shared_bytes),
        format.size(volume.reclaimable_bytes),
    ]);
    volume.snapshots.iter().for_each(|snapshot| push_snapshot(table, snapshot, format));
}

fn push_snapshot(table: &mut Table, snapshot: &SnapshotUsage, format: Format) {
    table.push([
        snapshot.full_name.clone(),
        format.size(snapshot.size_bytes),
        format.size(snapshot.allocated_bytes),
        format.size(snapshot.exclusive_bytes),
        format.size(snapshot.shared_bytes),
        String::new(),
    ]);
}

/// A table of volumes and snapshots, and the whole below it.
pub fn pool_usage_text(usage: &PoolUsage, format: Format) -> String {
    let mut table = usage_columns();
    usage.volumes.iter().for_each(|volume| push_volume(&mut table, volume, format));
    usage.snapshots.iter().for_each(|snapshot| push_snapshot(&mut table, snapshot, format));
    let rows = if table.is_empty() { String::new() } else { table.render(format.no_headers) + "\n" };
    let mut whole = Table::new(&[("", Left), ("", Right), ("", Left)]);
    let mut line = |name: &str, bytes: Option<u64>, of: u64, what: &str| {
        let share = percent(bytes, of).map(|share| format!(" ({})", percent_text(Some(share)))).unwrap_or_default();
        whole.push([format!("{name}:"), format.size(bytes), format!("{what}{share}")]);
    };
    line("size", Some(usage.size_bytes), 0, "");
    line("allocated", Some(usage.allocated_bytes), usage.size_bytes, "by anything, counted once");
    line("exclusive", Some(usage.exclusive_bytes), usage.size_bytes, "of one volume or snapshot");
    line("shared", Some(usage.shared_bytes), usage.size_bytes, "of several");
    line("reclaimable", Some(usage.reclaimable_bytes), usage.size_bytes, "if all snapshots were deleted");
    if usage.deleted_bytes > 0 {
        line("deleted", Some(usage.deleted_bytes), usage.size_bytes, "and kept; volctl pool purge frees it");
    }
    if usage.strays_bytes > 0 {
        line("strays", Some(usage.strays_bytes), usage.size_bytes, "of thin ids that are no volumes");
    }
    line("metadata", usage.metadata_used_bytes, usage.metadata_size_bytes, "of the pool's own");
    format!("{rows}{}read at {}\n", whole.render(true), clean(&usage.read_at))
}

pub fn volume_usage_text(usage: &VolumeUsage, format: Format) -> String {
    let mut table = usage_columns();
    push_volume(&mut table, usage, format);
    let together = format.size(usage.with_snapshots_bytes);
    format!("{}\nwith all snapshots: {together}\nread at {}\n", table.render(format.no_headers), clean(&usage.read_at))
}

/// Letters of pools in a drawing: data small, metadata as capitals.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
/// A pool after the last letter.
const OTHER: char = '*';
const FREE: char = '.';
/// Any thick volume.
const THICK: char = '=';
/// Narrowest and widest drawing of a PV, in cells.
const CELLS: std::ops::RangeInclusive<usize> = 16..=200;

/// Pools by their letter.
fn legend(map: &VgMap) -> Vec<(char, String)> {
    let mut names: Vec<&String> = Vec::new();
    for pool in map.pvs.iter().flat_map(|pv| &pv.segments).filter_map(|segment| segment.pool.as_ref()) {
        if !names.contains(&pool) {
            names.push(pool);
        }
    }
    names.sort();
    let letters = LETTERS.chars().chain(std::iter::repeat(OTHER));
    letters.zip(names).map(|(letter, name)| (letter, name.clone())).collect()
}

fn mark(segment: &PvSegment, legend: &[(char, String)]) -> char {
    let letter =
        legend.iter().find(|(_, name)| Some(name) == segment.pool.as_ref()).map_or(OTHER, |(letter, _)| *letter);
    match segment.usage {
        SegmentUse::Free => FREE,
        SegmentUse::Data => letter,
        SegmentUse::Metadata => letter.to_ascii_uppercase(),
        SegmentUse::Thick => THICK,
    }
}

/// Each cell is what takes most of its extents; metadata, which are small, are never drawn over.
fn drawn(pv: &PvMap, cells: usize, legend: &[(char, String)]) -> String {
    let cells = cells.min(usize::try_from(pv.extent_count).unwrap_or(usize::MAX)).max(1);
    let bound = |cell: usize| {
        let at = u128::from(pv.extent_count) * cell as u128 / cells as u128;
        u64::try_from(at).unwrap_or(u64::MAX)
    };
    (0..cells)
        .map(|cell| {
            let (from, to) = (bound(cell), bound(cell + 1));
            let inside = |segment: &&PvSegment| {
                let end = segment.start_extent.saturating_add(segment.extent_count);
                to.min(end).saturating_sub(from.max(segment.start_extent))
            };
            let most = pv.segments.iter().max_by_key(|segment| {
                let extents = inside(segment);
                (extents > 0 && segment.usage == SegmentUse::Metadata, extents)
            });
            most.filter(|segment| inside(segment) > 0).map_or(FREE, |segment| mark(segment, legend))
        })
        .collect()
}

/// A volume group as lines of at most `width` characters, if the names of its disks leave room for a drawing.
pub fn map_text(map: &VgMap, width: usize, format: Format) -> String {
    let legend = legend(map);
    let name = |pv: &PvMap| clean(pv.path.as_ref().unwrap_or(&pv.id));
    let widest = map.pvs.iter().map(|pv| name(pv).chars().count()).max().unwrap_or(0);
    let size = |extents: u64| format.size(extents.saturating_mul(map.extent_size_bytes));
    let sizes = map.pvs.iter().map(|pv| size(pv.extent_count).chars().count()).max().unwrap_or(0);
    let cells = width.saturating_sub(widest + sizes + 6).clamp(*CELLS.start(), *CELLS.end());
    let largest = map.pvs.iter().map(|pv| pv.extent_count).max().unwrap_or(0).max(1);
    let mut text = format!("{}, extents of {}\n", clean(&map.vg), format.size(map.extent_size_bytes));
    for pv in &map.pvs {
        // To one scale, as far as there is room.
        let share = u128::from(pv.extent_count) * cells as u128 / u128::from(largest);
        let own = usize::try_from(share).unwrap_or(cells).clamp(1, cells);
        let drawing = drawn(pv, own, &legend);
        text.push_str(&format!("{:<widest$}  {:>sizes$}  [{drawing}]\n", name(pv), size(pv.extent_count)));
    }
    for (letter, name) in &legend {
        let upper = letter.to_ascii_uppercase();
        text.push_str(&format!("  {letter} data of pool {0}, {upper} its metadata\n", clean(name)));
    }
    if map.pvs.iter().flat_map(|pv| &pv.segments).any(|segment| segment.usage == SegmentUse::Thick) {
        text.push_str(&format!("  {THICK} thick volumes\n"));
    }
    text.push_str(&format!("  {FREE} free\n"));
    text
}

/// The segments of one PV.
pub fn segments_text(pv: &PvMap, extent_size: u64, format: Format) -> String {
    let mut table = Table::new(&[("EXTENTS", Left), ("COUNT", Right), ("SIZE", Right), ("USED BY", Left)]);
    for segment in &pv.segments {
        let last = segment.start_extent.saturating_add(segment.extent_count).saturating_sub(1);
        let user = match (&segment.pool, segment.pool_offset_bytes) {
            (Some(pool), Some(offset)) if offset > 0 => {
                format!("pool {pool}, {} from {}", segment.usage.as_str(), format.size(offset))
            }
            (Some(pool), _) => format!("pool {pool}, {}", segment.usage.as_str()),
            (None, _) => match &segment.volume {
                Some(volume) => format!("thick volume {volume}"),
                None => segment.usage.as_str().to_owned(),
            },
        };
        table.push([
            format!("{}-{last}", segment.start_extent),
            segment.extent_count.to_string(),
            format.size(segment.extent_count.saturating_mul(extent_size)),
            user,
        ]);
    }
    let free = pv.segments.iter().filter(|segment| segment.usage == SegmentUse::Free).count() as u64;
    let pieces = format!("free space in {}\n", count(free, "piece"));
    table.render(format.no_headers) + &pieces
}
