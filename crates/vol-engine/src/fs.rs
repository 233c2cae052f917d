//! Resizing volumes, checking and trimming their file systems.

use vol_core::dm::Device;
use vol_core::observed::FsState;
use vol_core::plan::Kernel;
use vol_core::plan::fs::{self, NewSize};
use vol_core::plan::thick;
use vol_core::{Refusal, VolumeName};
use vol_types::{Bytes, Name, Volume, VolumeId};

use crate::engine::{Done, Engine, find_volume};
use crate::error::{EngineError, StepError};
use crate::host::HostMut;
use crate::placement::PlaceOn;

impl<H: HostMut> Engine<H> {
    /// Grows a volume, and its file system where it is mounted. Asked for again with the same size it goes on where it was cut
    /// short; an addition (`NewSize::By`) adds once more.
    pub fn resize_volume(
        &self,
        vg: &Name,
        name: &VolumeName,
        new: NewSize,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        self.resize_volume_on(vg, name, new, &PlaceOn::default(), dry_run)
    }

    /// As [`Engine::resize_volume`]; `place`: where what is added to a thick volume is to lie.
    pub fn resize_volume_on(
        &self,
        vg: &Name,
        name: &VolumeName,
        new: NewSize,
        place: &PlaceOn,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        if self.is_thick(vg, name) {
            return self.grow_thick(vg, name, new, place, dry_run);
        }
        self.change_volume(vg, name, dry_run, |catalog, kernel, volume| {
            if !place.is_anywhere() || place.contiguous {
                return Err(thick::not_thick(catalog, volume, &format!("{vg}/{name}")));
            }
            fs::resize(catalog, kernel, volume, new, self.mounted_fs_state(kernel, volume))
        })
    }

    /// Of a file system that is mounted writable, and can be read.
    pub(crate) fn mounted_fs_state(&self, kernel: &Kernel, volume: &Volume) -> Option<FsState> {
        let info = kernel.dm.get(&Device::Volume(volume.id))?;
        let mount = fs::writable_mount(kernel, volume)?;
        self.host().fs_state(info.dev, fs::kind(volume)?, Some(&mount.target)).ok()
    }

    /// Looks the file system of a volume over that is not mounted, or repairs it. Errors that are left are a failed step
    /// ([`StepError::Damaged`]) and are remembered; none makes an end of what was remembered.
    pub fn check_volume(
        &self,
        vg: &Name,
        name: &VolumeName,
        repair: bool,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        let mut marked = false;
        let checked = self.change_volume(vg, name, dry_run, |catalog, kernel, volume| {
            marked = volume.check_fs;
            fs::check(catalog, kernel, volume, repair)
        });
        if let Err(EngineError::Step(failed)) = &checked {
            if matches!(failed.source, StepError::Damaged(_))
                && let Err(error) = self.change_volume(vg, name, false, |_, _, volume| Ok(fs::mark(volume)))
            {
                tracing::error!(volume = %name, %error, "that it has errors could not be written down");
            }
            self.release_unused(vg, name);
        }
        match checked {
            // Nothing is other than before.
            Ok(Done::Changed(id)) if !repair && !marked => Ok(Done::Unchanged(id)),
            other => other,
        }
    }

    /// Gives back to the pool what the file system of a mounted volume does not use; how much the file system says that was.
    /// `None` for a dry run. The volume group is not held meanwhile: it may take long, and changes nothing that is recorded.
    pub fn trim_volume(&self, vg: &Name, name: &VolumeName, dry_run: bool) -> Result<Option<Bytes>, EngineError> {
        let open = self.vg(vg)?;
        let (_, found) = open.change(self.host(), true, |catalog, kernel, _| {
            let volume = find_volume(catalog, name)?;
            let target = fs::trim(catalog, kernel, volume)?;
            let info = kernel.dm.get(&Device::Volume(volume.id));
            let dev = info.map(|info| info.dev).ok_or_else(|| Refusal::busy("it is just being unmounted"))?;
            Ok((vol_core::Plan::default(), (dev, target)))
        })?;
        if dry_run {
            return Ok(None);
        }
        let (dev, target) = found;
        let trimmed = self.host().fs_trim(dev, &target)?;
        open.refresh(self.host(), None);
        Ok(Some(trimmed))
    }
}
