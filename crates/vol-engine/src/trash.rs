//! Deleted volumes and snapshots that are kept for a while, see [`vol_core::plan::trash`].

use std::sync::{Arc, PoisonError};

use vol_core::dm::Device;
use vol_core::plan::thick;
use vol_core::plan::trash::{self, Deletion};
use vol_core::{Catalog, Refusal, VolumeName};
use vol_types::{Bytes, IntentId, Name, VgState, VolumeId, VolumeState};

use crate::engine::{Done, Engine, done};
use crate::error::EngineError;
use crate::host::{HostMut, HostResult};
use crate::jobs::{Job, JobState};
use crate::moving::Pace;
use crate::queue::ThinRequest;
use crate::vg::OpenVg;

impl<H: HostMut> Engine<H> {
    /// Deletes a volume or a snapshot so that it can be taken back.
    pub fn keep_volume(&self, vg: &Name, name: &VolumeName, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        let now = self.host().now();
        self.change_volume(vg, name, dry_run, |catalog, kernel, volume| {
            if volume.thick().is_some() && volume.state == VolumeState::Creating {
                // Nobody has had it: there is nothing to take back.
                return thick::delete(catalog, kernel, volume);
            }
            trash::keep(catalog, kernel, volume, now)
        })
    }

    /// Takes back the last deletion of this name. Nothing changes if it is not deleted at all.
    pub fn undelete_volume(&self, vg: &Name, name: &VolumeName, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        let vg = self.vg(vg)?;
        let about = std::slice::from_ref(name);
        let (plan, id) =
            vg.change_about(self.host(), dry_run, about, |catalog, kernel, _| trash::undelete(catalog, kernel, name))?;
        Ok(done(plan, id, dry_run))
    }

    /// Deletes for good what is kept in a pool; how many there were, and how many would be if `dry_run`.
    pub fn purge_pool(&self, vg: &Name, pool: &Name, dry_run: bool) -> Result<usize, EngineError> {
        let vg = self.vg(vg)?;
        let kept: Vec<_> = vg.read(|catalog| {
            let pool = vol_core::plan::pool::find(catalog, Some(pool))?.id;
            Ok::<_, Refusal>(trash::kept(catalog, Some(pool)).map(Deletion::of).collect())
        })?;
        if !dry_run {
            for deletion in &kept {
                let job = self.empty(&vg, *deletion, &|| true)?;
                self.purge(&vg, *deletion)?;
                self.emptied_is_gone(job);
            }
        }
        Ok(kept.len())
    }

    /// Deletes for good what has been kept for `window` seconds, and what is kept in pools that have no room for anything new;
    /// how many. One of each such pool at a time: it is called again soon, and knows then what that has brought. Ends soon after
    /// `go_on` says no; what was begun is gone on with by the next call.
    pub fn purge_due(&self, window: u64, go_on: &dyn Fn() -> bool) -> usize {
        let now = self.host().now();
        let mut purged = 0;
        for vg in self.vgs() {
            let view = vg.view();
            let due = vg.read(|catalog| match catalog.vg().state {
                VgState::Ready => trash::due(catalog, &view.kernel, window, now),
                VgState::Creating | VgState::Deleting | VgState::Erasing | VgState::Exported => Vec::new(),
            });
            for deletion in due {
                let emptied = self.empty(&vg, deletion, go_on);
                if !go_on() {
                    return purged;
                }
                match emptied.and_then(|job| Ok((self.purge(&vg, deletion)?, job))) {
                    Ok((gone, job)) => {
                        purged += usize::from(gone);
                        self.emptied_is_gone(job);
                    }
                    Err(error) => {
                        // Most likely its pool takes no messages now. The next round tries again.
                        tracing::warn!(volume = %deletion.volume, %error, "what was deleted cannot be deleted for good");
                        break;
                    }
                }
            }
        }
        purged
    }

    /// Whether anything is deleted and still there.
    pub fn keeps_deleted(&self) -> bool {
        self.vgs().iter().any(|vg| vg.read(|catalog| catalog.volumes().any(|one| one.state == VolumeState::Deleted)))
    }

    /// How much of a volume that is being emptied has been, in bytes of its size.
    pub fn emptied(&self, id: VolumeId) -> Option<Bytes> {
        self.emptying.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// Gives back the space of a large volume, slice by slice with a rest after each as [`crate::moving::Pace`] has it, so that those who
    /// use the pool wait for one slice at most. The VG takes changes meanwhile.
    fn empty(
        &self,
        vg: &Arc<OpenVg>,
        deletion: Deletion,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Job>, EngineError> {
        vg.change(self.host(), false, |catalog, kernel, _| {
            Ok((trash::begin_emptying(catalog, kernel, deletion)?, ()))
        })?;
        let size = |catalog: &Catalog| deletion.kept(catalog).filter(|one| trash::is_emptied(one)).map(|one| one.size);
        let Some(size) = vg.read(size) else { return Ok(None) };
        let id = deletion.volume;
        let job = self.job_begun(vg, id);
        let uuid = Device::Volume(id).uuid();
        let mut offset = 0;
        while offset < size.get() && go_on() {
            self.emptying.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Bytes(offset));
            let begun = self.host().uptime();
            if let Err(error) = self.empty_slice(&uuid, offset, trash::SLICE.get().min(size.get() - offset)) {
                // Not fatal: it is deleted in one go then.
                tracing::warn!(volume = %id, %error, "its space cannot be given back slice by slice");
                break;
            }
            self.moved.gave_back(trash::SLICE.get().min(size.get() - offset));
            offset = offset.saturating_add(trash::SLICE.get());
            let took = self.host().uptime().saturating_sub(begun);
            // A rate is of bytes that are moved, and none are.
            self.rest(Pace { rate: None, ..self.pace() }.rest(0, took), go_on);
        }
        self.emptying.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok(job)
    }

    fn emptied_is_gone(&self, job: Option<Job>) {
        if let Some(job) = job {
            self.job_ended(job, JobState::Done);
        }
    }

    fn empty_slice(&self, uuid: &str, offset: u64, len: u64) -> HostResult<()> {
        // Looked up each time: nobody holds the device open in between, so another could have its number.
        let Some(info) = self.host().dm_device(uuid)? else { return Ok(()) };
        self.host().discard(info.dev, uuid, offset, len)
    }

    /// Whether there was anything to be deleted.
    fn purge(&self, vg: &Arc<OpenVg>, deletion: Deletion) -> Result<bool, EngineError> {
        let id = deletion.volume;
        let name = vg.read(|catalog| catalog.volume(id).map(VolumeName::of));
        let is_thick = |catalog: &Catalog| deletion.kept(catalog).is_some_and(|one| one.thick().is_some());
        let changed = if vg.read(is_thick) {
            let (plan, ()) = vg.change(self.host(), false, |catalog, kernel, _| match deletion.kept(catalog) {
                Some(one) => Ok((thick::delete(catalog, kernel, one)?, ())),
                None => Ok((vol_core::Plan::default(), ())),
            })?;
            !plan.is_empty()
        } else {
            let intent = IntentId::from_uuid(self.host().new_uuid());
            vg.submit(self.host(), ThinRequest::Purge { deletion, intent })?.0
        };
        let name = name.map(|name| name.to_string()).unwrap_or_default();
        tracing::info!(vg = %vg.read(|catalog| catalog.vg().name.clone()), volume = name, id = %id, changed, "deleted for good");
        Ok(changed)
    }
}
