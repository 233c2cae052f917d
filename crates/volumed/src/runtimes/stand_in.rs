//! Which mount ids of an engine use which volume, in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vol_docker::Runtime;
use vol_types::VolumeId;

#[derive(Debug, Default)]
pub struct References(Mutex<BTreeMap<(VolumeId, Runtime, String), u32>>);

/// What became of a reference that was taken back.
#[derive(Clone, Copy, Debug)]
pub struct Unmounted {
    pub known: bool,
    pub left_of_volume: u32,
}

impl References {
    fn table(&self) -> MutexGuard<'_, BTreeMap<(VolumeId, Runtime, String), u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn mount(&self, runtime: Runtime, volume: VolumeId, id: &str) {
        let mut table = self.table();
        let count = table.entry((volume, runtime, id.to_owned())).or_default();
        *count = if runtime == Runtime::Docker { count.saturating_add(1) } else { 1 };
    }
    pub fn unmount(&self, runtime: Runtime, volume: VolumeId, id: &str) -> Unmounted {
        let key = (volume, runtime, id.to_owned());
        let mut table = self.table();
        let known = table.contains_key(&key);
        if let Some(count) = table.get_mut(&key) {
            *count -= 1;
        }
        table.retain(|_, count| *count > 0);
        let left_of_volume = table.iter().filter(|((of, ..), _)| *of == volume).map(|(_, count)| count).sum();
        Unmounted { known, left_of_volume }
    }
    pub fn activated(&self, _: Runtime) {}
    pub fn forget(&self, volume: VolumeId) {
        self.table().retain(|(of, ..), _| *of != volume);
    }
    pub fn count_of(&self, volume: VolumeId) -> u32 {
        self.table().iter().filter(|((of, ..), _)| *of == volume).map(|(_, count)| count).sum()
    }
}
