//! The list of volumes, straight from the catalog and the view into the answer.

use std::sync::Arc;

use vol_api::VolumeInfo;
use vol_engine::OpenVg;
use vol_engine::host::HostMut;
use vol_types::{Selector, Volume, VolumeState};

use super::{EngineBackend, info, refs};
use crate::api::VolumeRows;

/// The volumes of these groups, one group after the other, whose labels fit, in the order of their names. What is asked of others than
/// catalog and view is asked once, now; the catalog of each group is held while its rows are written, so that they are of one moment.
pub fn volumes<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    vgs: Vec<Arc<OpenVg>>,
    selector: Selector,
) -> VolumeRows {
    let filling = backend.engine.all_filling();
    let references = refs::by_volume(&backend.references);
    let mark = backend.csi_mark();
    VolumeRows::new(move |take| {
        let mut row = VolumeInfo::default();
        for vg in &vgs {
            let view = vg.view();
            let around = info::Around::many(&view);
            let all = vg.read(|catalog| {
                in_order(catalog.volumes().filter(|one| is_listed(one, &selector))).into_iter().all(|volume| {
                    let besides = info::Besides {
                        filling: filling.get(&volume.id).copied(),
                        references: references.get(&volume.id).cloned().unwrap_or_default(),
                        csi_mark: mark.as_deref(),
                    };
                    info::show(&mut row, catalog, &around, volume, besides);
                    take(&row)
                })
            });
            if !all {
                return;
            }
        }
    })
}

fn is_listed(volume: &Volume, selector: &Selector) -> bool {
    volume.snapshot.is_none() && volume.state != VolumeState::Deleted && selector.fits(|key| volume.labels.get(key))
}

/// By name; one that is being deleted and has given its name to another stands in the order of the ids.
fn in_order<'a>(volumes: impl Iterator<Item = &'a Volume>) -> Vec<&'a Volume> {
    let mut all: Vec<_> = volumes.map(|volume| (volume.name.beginning(), volume)).collect();
    all.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.name.cmp(&other.name)));
    all.into_iter().map(|(_, volume)| volume).collect()
}
