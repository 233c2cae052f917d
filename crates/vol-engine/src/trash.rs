//! Deleted volumes and snapshots that are kept for a while, see [`vol_core::plan::trash`].

use std::sync::Arc;

use vol_core::plan::trash;
use vol_core::{Refusal, VolumeName};
use vol_types::{IntentId, Name, VgState, VolumeId};

use crate::engine::{Done, Engine, done};
use crate::error::EngineError;
use crate::host::HostMut;
use crate::queue::ThinRequest;
use crate::vg::OpenVg;

impl<H: HostMut> Engine<H> {
    /// Deletes a volume or a snapshot so that it can be taken back.
    pub fn keep_volume(&self, vg: &Name, name: &VolumeName, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        let now = self.host().now();
        self.change_volume(vg, name, dry_run, |catalog, kernel, volume| trash::keep(catalog, kernel, volume, now))
    }

    /// Takes back the last deletion of this name. Nothing changes if it is not deleted at all.
    pub fn undelete_volume(&self, vg: &Name, name: &VolumeName, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        let vg = self.vg(vg)?;
        let (plan, id) = vg.change(self.host(), dry_run, |catalog, _, _| trash::undelete(catalog, name))?;
        Ok(done(plan, id, dry_run))
    }

    /// Deletes for good what is kept in a pool; how many there were, and how many would be if `dry_run`.
    pub fn purge_pool(&self, vg: &Name, pool: &Name, dry_run: bool) -> Result<usize, EngineError> {
        let vg = self.vg(vg)?;
        let kept: Vec<_> = vg.read(|catalog| {
            let pool = vol_core::plan::pool::find(catalog, Some(pool))?.id;
            Ok::<_, Refusal>(trash::kept(catalog, Some(pool)).map(|one| one.id).collect())
        })?;
        if !dry_run {
            for id in &kept {
                self.purge(&vg, *id)?;
            }
        }
        Ok(kept.len())
    }

    /// Deletes for good what has been kept for `window` seconds, and what is kept in pools that have no room for anything new;
    /// how many. One of each such pool at a time: it is called again soon, and knows then what that has brought.
    pub fn purge_due(&self, window: u64) -> usize {
        let now = self.host().now();
        let mut purged = 0;
        for vg in self.vgs() {
            let view = vg.view();
            let due = vg.read(|catalog| match catalog.vg().state {
                VgState::Ready => trash::due(catalog, &view.kernel, window, now),
                VgState::Creating | VgState::Deleting | VgState::Erasing | VgState::Exported => Vec::new(),
            });
            for id in due {
                match self.purge(&vg, id) {
                    Ok(()) => purged += 1,
                    Err(error) => {
                        // Most likely its pool takes no messages now. The next round tries again.
                        tracing::warn!(volume = %id, %error, "what was deleted cannot be deleted for good");
                        break;
                    }
                }
            }
        }
        purged
    }

    fn purge(&self, vg: &Arc<OpenVg>, id: VolumeId) -> Result<(), EngineError> {
        let name = vg.read(|catalog| catalog.volume(id).map(VolumeName::of));
        let intent = IntentId::from_uuid(self.host().new_uuid());
        vg.submit(self.host(), ThinRequest::Purge { id, intent })?;
        let name = name.map(|name| name.to_string()).unwrap_or_default();
        tracing::info!(vg = %vg.read(|catalog| catalog.vg().name.clone()), volume = name, id = %id, "deleted for good");
        Ok(())
    }
}
