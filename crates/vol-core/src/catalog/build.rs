//! A catalog from all of its objects at once, as opening a group makes it: its maps are built of lists in order, which fills their nodes;
//! a hundred thousand insertions one by one would take longer and leave nearly half of the memory empty.

use std::collections::BTreeMap;

use vol_types::{Intent, IntentId, Object, ObjectKey, Pool, PoolId, Pv, PvId, Vg, Volume, VolumeId};

use super::Catalog;

/// Objects on their way into a [`Catalog`]. Of two with the same key the later one counts.
#[derive(Debug, Default)]
pub struct Builder {
    vg: Option<Vg>,
    other_vgs: bool,
    pvs: Vec<(PvId, Pv)>,
    pools: Vec<(PoolId, Pool)>,
    volumes: Vec<(VolumeId, Volume)>,
    intents: Vec<(IntentId, Intent)>,
}

impl Builder {
    /// Takes an object. It costs least in the order of their keys.
    pub fn add(&mut self, object: Object) {
        match object {
            Object::Vg(vg) => self.other_vgs |= self.vg.replace(vg).is_some(),
            Object::Pv(pv) => self.pvs.push((pv.id, pv)),
            Object::Pool(pool) => self.pools.push((pool.id, pool)),
            Object::Volume(volume) => self.volumes.push((volume.id, volume)),
            Object::Intent(intent) => self.intents.push((intent.id, intent)),
        }
    }

    /// The catalog as of a commit; `None` unless there was exactly one VG.
    pub fn build(self, sequence: u64) -> Option<Catalog> {
        let mut catalog = Catalog::new(self.vg.filter(|_| !self.other_vgs)?);
        catalog.sequence = sequence;
        catalog.pvs = BTreeMap::from_iter(self.pvs);
        catalog.pools = BTreeMap::from_iter(self.pools);
        catalog.volumes = BTreeMap::from_iter(self.volumes);
        catalog.intents = BTreeMap::from_iter(self.intents);
        for pool in catalog.pools.values() {
            catalog.index.pool(pool.id, Some(pool.state));
        }
        for intent in catalog.intents.keys() {
            catalog.index.set_unfinished(ObjectKey::Intent(*intent), true);
        }
        catalog.index.add_all(catalog.volumes.values());
        catalog.thick = catalog.volumes.values().filter(|one| one.thick().is_some()).map(|one| one.id).collect();
        Some(catalog)
    }
}
