//! Steps that look after file systems.

use std::path::Path;

use vol_core::dm::Device;
use vol_core::observed::{FsCheck, FsVerdict};
use vol_types::{Bytes, FsKind, VolumeId};

use super::{Executor, missing};
use crate::error::StepError;
use crate::host::HostMut;

impl<H: HostMut + ?Sized> Executor<'_, H> {
    pub(super) fn check_fs(
        &self,
        volume: VolumeId,
        fs: FsKind,
        how: FsCheck,
        if_marked: bool,
    ) -> Result<(), StepError> {
        let device = Device::Volume(volume);
        let number = self.volume_number(volume)?;
        // A superblock that cannot be read is for the tool, or the mount, to complain about.
        if if_marked && !self.host.fs_state(number, fs, None).is_ok_and(|state| state.errors) {
            return Ok(());
        }
        tracing::info!(volume = %volume, fs = fs.as_str(), "the file system is checked");
        match self.host.fs_check(number, &device.uuid(), fs, how)? {
            FsVerdict::Clean => Ok(()),
            FsVerdict::Corrected(said) => {
                tracing::warn!(volume = %volume, said, "the file system had errors, which were put right");
                Ok(())
            }
            FsVerdict::Damaged(said) => {
                Err(StepError::Damaged(format!("the {} has errors that are left as they are: {said}", fs.as_str())))
            }
        }
    }

    pub(super) fn grow_fs(&self, volume: VolumeId, fs: FsKind, target: &Path) -> Result<(), StepError> {
        let device = Device::Volume(volume);
        let info = self.host.dm_device(&device.uuid())?.ok_or_else(|| missing(&device.name()))?;
        let is_smaller = match self.host.fs_state(info.dev, fs, Some(target)) {
            Ok(state) => vol_core::plan::fs::is_smaller(state, info.len.to_bytes().unwrap_or(Bytes::ZERO)),
            Err(error) => {
                tracing::debug!(volume = %volume, %error, "how large the file system is cannot be told");
                true
            }
        };
        if is_smaller {
            self.host.fs_grow(info.dev, &device.uuid(), fs, target)?;
        }
        Ok(())
    }
}
