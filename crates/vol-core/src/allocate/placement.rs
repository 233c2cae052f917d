//! Which PVs something may lie on, as asked for.

use vol_types::{Extents, Placement, PvId, Segment, limit};

use super::{FreeSpace, Wish};
use crate::catalog::Catalog;
use crate::refusal::Refusal;

impl FreeSpace {
    /// What is free for something with this placement, on PVs that are not `missing`.
    pub fn within(catalog: &Catalog, missing: &[PvId], placement: &Placement) -> Self {
        let allowed = |pv: PvId| catalog.pv(pv).is_some_and(|pv| placement.allows(pv));
        Self::of(catalog, |pv| !missing.contains(&pv) && allowed(pv))
    }
}

/// Refuses a placement that names what is not in the VG, contradicts itself, or leaves no PV at all.
pub fn check(catalog: &Catalog, missing: &[PvId], placement: &Placement) -> Result<(), Refusal> {
    let vg = &catalog.vg().name;
    if placement.is_anywhere() {
        return Ok(());
    }
    for pv in placement.on.iter().chain(&placement.not_on) {
        if catalog.pv(*pv).is_none() {
            return Err(Refusal::not_found(format!("{pv} is no PV of volume group {vg}"))
                .hint(format!("`volctl pv list --vg {vg}` shows its PVs")));
        }
    }
    if let Some(both) = placement.on.iter().find(|pv| placement.not_on.contains(pv)) {
        return Err(Refusal::invalid(format!("{} is to be used and not to be used", name(catalog, *both)))
            .hint("name it with --on or with --not-on, not with both"));
    }
    if placement.on.len().max(placement.not_on.len()) > limit::PLACEMENT_PVS_MAX {
        return Err(Refusal::invalid(format!("a placement names at most {} PVs", limit::PLACEMENT_PVS_MAX))
            .hint("give the PVs a label (`volctl pv label`), and name that"));
    }
    let allowed: Vec<_> = catalog.pvs().filter(|pv| placement.allows(pv)).collect();
    if allowed.is_empty() {
        return Err(Refusal::not_found(format!("no PV of volume group {vg} is {}", in_words(catalog, placement)))
            .hint("`volctl pv show PV` shows a PV's labels; `volctl pv label PV KEY=VALUE` sets one"));
    }
    if allowed.iter().all(|pv| missing.contains(&pv.id)) {
        return Err(Refusal::no_space(format!(
            "all PVs of volume group {vg} that are {} are missing",
            in_words(catalog, placement)
        ))
        .hint("attach the disks and run `volctl pv scan`, or allow others"));
    }
    Ok(())
}

fn name(catalog: &Catalog, pv: PvId) -> String {
    catalog.pv(pv).map_or_else(|| pv.to_string(), |pv| pv.path_hint.clone())
}

/// `one of /dev/sdb, /dev/sdc, none of /dev/sdd, and labelled tier=fast`; empty for anywhere.
pub fn in_words(catalog: &Catalog, placement: &Placement) -> String {
    let list = |pvs: &[PvId]| pvs.iter().map(|pv| name(catalog, *pv)).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    if !placement.on.is_empty() {
        parts.push(format!("one of {}", list(&placement.on)));
    }
    if !placement.not_on.is_empty() {
        parts.push(format!("none of {}", list(&placement.not_on)));
    }
    if !placement.labels.is_empty() {
        let labels: Vec<_> = placement.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        parts.push(format!("labelled {}", labels.join(", ")));
    }
    parts.join(" and ")
}

/// As [`in_words`], behind `is free`: ` on PVs that are …`.
pub fn where_in_words(catalog: &Catalog, placement: &Placement) -> String {
    match in_words(catalog, placement) {
        words if words.is_empty() => words,
        words => format!("on PVs that are {words}"),
    }
}

/// Extents for the metadata and for the data of a pool, each behind what it has. Metadata are small and come first; where that leaves
/// the data no place, the data do. The refusal is about what found no place.
pub fn place_pool(
    catalog: &Catalog,
    free: &FreeSpace,
    placement: &Placement,
    path: &str,
    metadata: (&[Segment], Extents),
    data: (&[Segment], Extents),
    contiguous: bool,
) -> Result<(Vec<Segment>, Vec<Segment>), Refusal> {
    let place = |free: &mut FreeSpace, (had, count): (&[Segment], Extents), what: &str| {
        if count.is_zero() {
            return Ok(had.to_vec());
        }
        let near = (!had.is_empty()).then_some(had);
        let more = free.place(&Wish { near, contiguous, ..Wish::linear(count) });
        more.map(|more| super::append(had, &more, 1)).map_err(|shortage| {
            shortage.refusal(catalog, &format!("the {what} of pool {path}"), &where_in_words(catalog, placement))
        })
    };
    let mut first = free.clone();
    let placed_metadata = place(&mut first, metadata, "metadata")?;
    match place(&mut first, data, "data") {
        Ok(placed_data) => Ok((placed_metadata, placed_data)),
        Err(refusal) => {
            let mut second = free.clone();
            let placed_data = place(&mut second, data, "data").map_err(|_| refusal)?;
            Ok((place(&mut second, metadata, "metadata")?, placed_data))
        }
    }
}
