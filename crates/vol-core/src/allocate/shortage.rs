//! Why a wish for extents cannot be met: exactly what is missing, and where what is free.

use std::collections::BTreeMap;

use vol_types::{Extents, PvId};

use super::{FreeSpace, Wish};
use crate::catalog::Catalog;
use crate::refusal::Refusal;

/// What is free on one PV that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PvSpace {
    pub pv: PvId,
    pub free: Extents,
    /// Its longest free run.
    pub largest: Extents,
}

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The number of extents is zero, or no multiple of the number of stripes.
    Uneven,
    /// There are not so many free extents.
    NotEnough,
    /// Fewer PVs have free extents than there are stripes.
    FewPvs { with_space: usize },
    /// Free extents lie so that no more than so many can be spread over the stripes: too many of them are on too few PVs.
    Lopsided { possible: Extents },
    /// No more than so many can be had without gaps.
    Broken { possible: Extents },
    /// So many are free right behind what is to grow without gaps.
    NotBehind { behind: Extents },
}

/// A wish that cannot be met. Nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub count: Extents,
    pub stripes: u16,
    pub contiguous: bool,
    /// All PVs that were looked at and have free extents, the fullest of these last.
    pub free: Vec<PvSpace>,
    pub why: Why,
}

/// PVs that a message names.
const NAMED_MAX: usize = 6;

impl Shortage {
    pub(super) fn of(space: &FreeSpace, wish: &Wish<'_>) -> Self {
        let mut pvs: BTreeMap<PvId, PvSpace> = BTreeMap::new();
        for run in space.runs() {
            let none = PvSpace { pv: run.pv, free: Extents(0), largest: Extents(0) };
            let pv = pvs.entry(run.pv).or_insert(none);
            pv.free = Extents(pv.free.get().saturating_add(run.count.get()));
            pv.largest = pv.largest.max(run.count);
        }
        let mut free: Vec<PvSpace> = pvs.into_values().collect();
        free.sort_by_key(|pv| (std::cmp::Reverse(pv.free), pv.pv));
        let stripes = u64::from(wish.stripes.max(1));
        let near = wish.near.unwrap_or_default();
        let why = if wish.count.is_zero() || !wish.count.get().is_multiple_of(stripes) {
            Why::Uneven
        } else if wish.contiguous && !near.is_empty() {
            let last = near.iter().rev().take(usize::from(wish.stripes.max(1)));
            let behind = last.map(|last| space.behind(last).map_or(0, |at| space.runs()[at].count.get())).min();
            Why::NotBehind { behind: Extents(behind.unwrap_or(0).saturating_mul(stripes)) }
        } else if wish.stripes > 1 && free.len() < usize::from(wish.stripes) {
            Why::FewPvs { with_space: free.len() }
        } else if space.total() < wish.count {
            Why::NotEnough
        } else if wish.contiguous {
            let mut largest: Vec<u64> = free.iter().map(|pv| pv.largest.get()).collect();
            largest.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
            let shortest = largest.get(usize::from(wish.stripes.max(1)) - 1).copied().unwrap_or(0);
            Why::Broken { possible: Extents(shortest.saturating_mul(stripes)) }
        } else {
            Why::Lopsided { possible: most_rows(&free, stripes) }
        };
        Self { count: wish.count, stripes: wish.stripes, contiguous: wish.contiguous, free, why }
    }

    /// All free extents that were looked at.
    pub fn total(&self) -> Extents {
        self.free.iter().map(|pv| pv.free).sum()
    }

    /// In words. `whose` is what was to be placed: `the data of pool vg/p`; `where_` where that may be: `on the PVs that were asked
    /// for`, or nothing.
    pub fn refusal(&self, catalog: &Catalog, whose: &str, where_: &str) -> Refusal {
        let vg = &catalog.vg().name;
        let size = |extents: Extents| catalog.bytes(extents);
        let (wanted, stripes) = (size(self.count), self.stripes);
        let where_ = if where_.is_empty() { String::new() } else { format!(" {where_}") };
        let total = size(self.total());
        let (message, hint) = match self.why {
            Why::Uneven => (
                format!("{whose} would have {} extents, which {stripes} stripes cannot share evenly", self.count),
                "choose a size that is a multiple of the stripes".to_owned(),
            ),
            Why::NotEnough => (
                format!("{whose} needs {wanted}, but volume group {vg} has {total} free{where_}"),
                "allow more disks, add one with `volctl vg extend`, or choose a smaller size".to_owned(),
            ),
            Why::FewPvs { with_space } => (
                format!(
                    "{whose} needs space on {stripes} PVs, but volume group {vg} has free space on {with_space}{where_}"
                ),
                "allow more disks, add one with `volctl vg extend`, or choose fewer stripes".to_owned(),
            ),
            Why::Lopsided { possible } => (
                format!(
                    "{whose} needs {wanted} spread evenly over {stripes} PVs, but of the {total} that are free{where_} no more than {} can be: too much of it is on too few PVs",
                    size(possible)
                ),
                "choose a smaller size or fewer stripes, or add disks with `volctl vg extend`".to_owned(),
            ),
            Why::Broken { possible } => (
                format!(
                    "{whose} needs {wanted} without gaps{}, but the most that is free so{where_} is {}",
                    if stripes > 1 { format!(" on each of {stripes} PVs") } else { String::new() },
                    size(possible)
                ),
                "leave contiguous away, choose a smaller size, or allow other disks".to_owned(),
            ),
            Why::NotBehind { behind } => (
                format!(
                    "{whose} needs {wanted} right behind its end, to have no gaps, but {} is free there",
                    size(behind)
                ),
                "leave contiguous away, or grow by less".to_owned(),
            ),
        };
        Refusal::no_space(format!("{message}{}", self.places(catalog)))
            .hint(format!("{hint}; `volctl pv list` shows what is free where"))
    }

    /// ` (free: /dev/sdb 4.00 GiB, the longest run 1.00 GiB; /dev/sdc …)`.
    fn places(&self, catalog: &Catalog) -> String {
        let place = |space: &PvSpace| {
            let name = catalog.pv(space.pv).map_or_else(|| space.pv.to_string(), |pv| pv.path_hint.clone());
            let (free, largest) = (catalog.bytes(space.free), catalog.bytes(space.largest));
            if space.free == space.largest {
                format!("{name} {free}")
            } else {
                format!("{name} {free}, the longest run {largest}")
            }
        };
        let named: Vec<String> = self.free.iter().take(NAMED_MAX).map(place).collect();
        match self.free.len().saturating_sub(named.len()) {
            _ if named.is_empty() => String::new(),
            0 => format!(" (free: {})", named.join("; ")),
            more => format!(" (free: {}; and {more} more PVs)", named.join("; ")),
        }
    }
}

/// The most extents that can be laid out in rows of `stripes`: the longest leg that PVs can fill so often, when none gives more than
/// one leg's length.
fn most_rows(free: &[PvSpace], stripes: u64) -> Extents {
    let fills = |leg: u64| {
        let given: u128 = free.iter().map(|pv| u128::from(pv.free.get().min(leg))).sum();
        given >= u128::from(leg) * u128::from(stripes)
    };
    let (mut can, mut cannot) = (0, free.iter().map(|pv| pv.free.get()).max().unwrap_or(0).saturating_add(1));
    while cannot - can > 1 {
        let middle = can + (cannot - can) / 2;
        if fills(middle) { can = middle } else { cannot = middle }
    }
    Extents(can.saturating_mul(stripes))
}
