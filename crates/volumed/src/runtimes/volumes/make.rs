//! Making a volume for an engine: where, under which name, from what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vol_api::{ApiError, Changed, CloneVolume, CreateVolume, ErrorCode, VolumeContent, VolumeInfo};
use vol_docker::options::{LABEL_MOUNT_OPTIONS, LABEL_ON_REMOVE, LABEL_OPTIONS, SUBDIR};
use vol_docker::{EngineName, OnRemove, Options, Origin, Runtime};
use vol_types::{Bytes, FsKind, MountOptions, Name, SnapshotPath, VolumePath};

use super::{EngineVolumes, path_of};
use crate::api::Change;
use crate::runtimes::place::{self, Say};

/// How long an engine waits for the answer to a creation, less what it takes to give it.
const fn patience(runtime: Runtime) -> Duration {
    match runtime {
        Runtime::Docker => Duration::from_secs(110),
        Runtime::Podman => Duration::from_millis(4500),
    }
}
/// How an engine says where a volume is to lie.
const SAY: Say = Say {
    pool: "say which: -o pool=VG/POOL, or pool in [runtimes] of /etc/volumed/volumed.toml for all volumes",
    group: "say it with -o pool=VG",
    thick: "thin=no",
};
/// After so long a volume that is wiped or copied, or one of Podman's, is left to itself if it is there.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What was done; it was no dry run.
fn object<T>(change: Change<T>) -> Result<T, ApiError> {
    match change? {
        Changed::Done(outcome) => outcome.object.ok_or_else(|| ApiError::internal("a change without an object")),
        Changed::Planned(_) => Err(ApiError::internal("a plan instead of a change")),
    }
}

impl EngineVolumes {
    /// Makes a volume, and waits for it as long as the engine does.
    pub(super) fn make(&self, name: &EngineName, options: &Options) -> Result<(), ApiError> {
        let work = {
            let (me, name, options) = (self.clone(), name.clone(), options.clone());
            move || me.make_now(&name, &options)
        };
        let making = self.shared.makings.begin(&self.key(name), work)?;
        let most = patience(self.runtime);
        let at_once = if options.thin && self.runtime == Runtime::Docker { most } else { AT_ONCE };
        if let Some(outcome) = making.within(at_once) {
            return outcome;
        }
        // Wiping goes on; who mounts it waits for that.
        let is_there = || self.labelled(name).map(|found| found.is_some());
        if !is_there()? {
            if let Some(outcome) = making.within(most.saturating_sub(at_once)) {
                return outcome;
            }
            if !is_there()? {
                making.leave();
                return Err(ApiError::new(
                    ErrorCode::Timeout,
                    format!("volume {name} is not there yet: volumed has much to do"),
                )
                .with_hint("it is being made; ask for it again in a moment"));
            }
        }
        making.leave();
        Ok(())
    }

    /// Goes on with a volume that was being wiped for its file system when the daemon ended; others go on by themselves.
    pub(super) fn go_on_making(&self, name: &EngineName, info: &VolumeInfo) -> Result<(), ApiError> {
        let by_itself = info.thick.is_none() || info.content == VolumeContent::Raw;
        if by_itself || self.shared.makings.running(&self.key(name)).is_some() {
            return Ok(());
        }
        let recorded = info.labels.get(LABEL_OPTIONS).and_then(|label| Options::recorded(label));
        let Some(given) = recorded else { return Ok(()) };
        let options = Options::read(&given, &self.settings)?;
        let (backend, path) = (Arc::clone(&self.backend), path_of(info)?);
        let request = request(&path.vg, None, &path.volume, &options, info.labels.clone());
        let work = move || object(backend.create_volume(request, false)).map(drop);
        self.shared.makings.begin(&self.key(name), work)?.leave();
        Ok(())
    }

    fn make_now(&self, name: &EngineName, options: &Options) -> Result<(), ApiError> {
        match &options.from {
            None => self.make_new(name, options),
            Some(origin) => self.make_clone(name, options, origin),
        }
        .map(drop)
    }

    fn labels(&self, name: &EngineName, options: &Options) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<_, _> =
            [(self.runtime.label().to_owned(), name.to_string()), (LABEL_OPTIONS.to_owned(), options.record.clone())]
                .into();
        if !options.mount_options.is_empty() {
            labels.insert(LABEL_MOUNT_OPTIONS.to_owned(), options.mount_options.to_string());
        }
        if options.on_remove != OnRemove::default() {
            labels.insert(LABEL_ON_REMOVE.to_owned(), options.on_remove.as_str().to_owned());
        }
        labels
    }

    /// Tries the names that it may have, until one is free.
    fn under_a_free_name(
        &self,
        vg: &Name,
        name: &EngineName,
        make: impl Fn(&Name) -> Change<VolumeInfo>,
    ) -> Result<VolumeInfo, ApiError> {
        let mut last = None;
        for candidate in name.candidates() {
            match object(make(&candidate)) {
                Ok(info) => return Ok(info),
                Err(error) if error.code == ErrorCode::Exists || self.is_anothers(vg, &candidate, name) => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| ApiError::internal(format!("there is no name for volume {name}"))))
    }

    /// Whether the name is that of a volume that is not this engine's volume of this name.
    fn is_anothers(&self, vg: &Name, candidate: &Name, name: &EngineName) -> bool {
        let path = VolumePath { vg: vg.clone(), volume: candidate.clone() };
        let present = self.backend.volume(&path);
        present.is_ok_and(|info| info.labels.get(self.runtime.label()).map(String::as_str) != Some(name.as_str()))
    }

    fn make_new(&self, name: &EngineName, options: &Options) -> Result<VolumeInfo, ApiError> {
        let (vg, pool) = place::of(&*self.backend, options.pool.as_ref(), options.thin, &SAY)?;
        let labels = self.labels(name, options);
        self.under_a_free_name(&vg, name, |candidate| {
            self.backend.create_volume(request(&vg, pool.as_ref(), candidate, options, labels.clone()), false)
        })
    }

    /// What `from` names: its path, the snapshot if it is one, and its volume as it is now, which may be gone if it is one.
    fn origin(&self, origin: &Origin) -> Result<(VolumePath, Option<Name>, Bytes, Option<String>), ApiError> {
        let (volume, snapshot) = match origin {
            Origin::Volume(path) => (path.clone(), None),
            Origin::Snapshot(path) => (path.volume.clone(), Some(path.snapshot.clone())),
            Origin::Engines(name, snapshot) => {
                let info = self.labelled(name)?.ok_or_else(|| {
                    ApiError::not_found(format!("from: {} has no volume {name}", self.runtime))
                        .with_hint("a volume that is not this engine's is named VG/VOLUME")
                })?;
                (path_of(&info)?, snapshot.clone())
            }
        };
        let (size, fs) = match &snapshot {
            None => {
                let info = self.backend.volume(&volume)?;
                (info.size_bytes, info.fs)
            }
            Some(snapshot) => {
                let path = SnapshotPath { volume: volume.clone(), snapshot: snapshot.clone() };
                let info = self.backend.snapshot(&path)?;
                (info.size_bytes, info.fs)
            }
        };
        Ok((volume, snapshot, Bytes(size), fs))
    }

    fn make_clone(&self, name: &EngineName, options: &Options, origin: &Origin) -> Result<VolumeInfo, ApiError> {
        let (of, snapshot, size, fs) = self.origin(origin)?;
        if options.size_given && options.size < size {
            return Err(ApiError::invalid(format!(
                "size: a clone is at least as large as what it is made from, which has {size}"
            )));
        }
        let fs =
            [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs].into_iter().find(|kind| fs.as_deref() == Some(kind.as_str()));
        MountOptions::parse(fs, &options.mount_options.to_string())
            .map_err(|error| ApiError::invalid(format!("mount-options: {error}")))?;
        let labels = self.labels(name, options);
        self.under_a_free_name(&of.vg, name, |candidate| {
            let request = CloneVolume {
                vg: of.vg.to_string(),
                volume: of.volume.to_string(),
                snapshot: snapshot.as_ref().map(ToString::to_string),
                name: candidate.to_string(),
                labels: labels.clone(),
                size: options.size_given.then(|| options.size.get().to_string()),
                reserve: options.reserve.clone(),
                protect: options.protect,
                ..CloneVolume::default()
            };
            self.backend.clone_volume(request, false)
        })
    }
}

fn request(
    vg: &Name,
    pool: Option<&Name>,
    name: &Name,
    options: &Options,
    labels: BTreeMap<String, String>,
) -> CreateVolume {
    CreateVolume {
        vg: vg.to_string(),
        name: name.to_string(),
        pool: pool.map(ToString::to_string),
        size: options.size.get().to_string(),
        fs: Some(options.fs.map_or("none", FsKind::as_str).to_owned()),
        labels,
        reserve: options.reserve.clone(),
        protect: options.protect,
        mkfs_options: options.mkfs_options.clone(),
        owner: options.owner(),
        mode: options.mode.clone(),
        subdir: options.fs.map(|_| SUBDIR.to_owned()),
        thick: !options.thin,
        ..CreateVolume::default()
    }
}
