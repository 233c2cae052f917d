//! An orchestrator's volumes over the backend: found by id or name, made, put where they are wanted, and deleted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use vol_api::{
    ApiError, Changed, CloneVolume, CreateVolume, ErrorCode, ObjectState, Problem, ResizeVolume, SetVolume,
    SnapshotGroup, SnapshotName, VolumeInfo, from_rfc3339, parse_field,
};
use vol_csi::health::Ill;
use vol_csi::metadata::Parts;
use vol_csi::stats::Usage;
use vol_csi::{
    CsiName, Kind, LABEL_EPHEMERAL, LABEL_GROUP, LABEL_NAME, LABEL_ON_DELETE, LABEL_RECORD, LABEL_SNAPSHOT, Mutable,
    Params, Placed, Refused, Room, Settings, Snapshot, Source, Volume, Volumes, Wanted,
};
use vol_docker::PoolChoice;
use vol_types::{Bytes, FsKind, MountOptions, Name, Reserve, SnapshotPath, VolumeId, VolumePath};

use super::places::Places;
use super::room::{promised, striped, without_spare};
use crate::api::{Backend, Change, OfVolume};
use crate::config::{Config, Csi, CsiVersion as Version};
use crate::runtimes::place::{self, Say};
use crate::runtimes::turns::Turns;

/// How a StorageClass says where a volume is to lie.
const SAY: Say = Say {
    pool: "say which: parameter pool: VG/POOL of the StorageClass, or pool in [csi] of /etc/volumed/volumed.toml for all volumes",
    group: "say it with the parameter pool: VG",
    thick: "thin: \"no\"",
};

/// The value of [`LABEL_ON_DELETE`].
const PURGE: &str = "purge";
/// As much of an id is said.
const ID_SHOWN: usize = 128;
/// Requests that wait for space to be wiped or copied, at once. Each has one of the turns in which all changes are made, for minutes.
const FILLS_MAX: usize = 16;
/// Answers in parts at once.
const STREAMS_MAX: usize = 16;
/// What is kept of changed parts for one stream at a time: 512 KiB.
const RANGES_MAX: usize = 32_768;

/// What requests have in common.
pub struct Shared {
    pub turns: Turns,
    /// Answers in parts that may be under way at once.
    pub streams: Arc<Semaphore>,
    /// Changes of thick volumes that may be under way at once.
    pub fills: Semaphore,
    places: Places,
}

impl Shared {
    /// With what was noted below `run_dir` since the boot.
    pub fn new(run_dir: &Path) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { turns: Turns::default(), streams, fills: Semaphore::new(FILLS_MAX), places: Places::open(run_dir) }
    }
}

/// What the machine is called: by its configuration, else its host name.
fn node(csi: &Csi) -> String {
    let of_host = || match nix::sys::utsname::uname() {
        Ok(system) => system.nodename().to_string_lossy().into_owned(),
        Err(_) => String::new(),
    };
    csi.node.clone().unwrap_or_else(of_host)
}

/// What the machine is called in ids that are told; `None` where nobody is served.
pub fn node_of(csi: &Csi) -> Option<String> {
    csi.socket.is_some().then(|| node(csi))
}

/// The configuration as the interface sees it.
pub fn settings(config: &Config) -> Settings {
    Settings {
        driver: config.csi.driver.clone(),
        node: node(&config.csi),
        node_given: config.csi.node.is_some(),
        kubelet_dir: config.csi.kubelet_dir.clone(),
        size: config.csi.size,
        max_volumes: i64::from(config.csi.max_volumes),
        v1_13: config.csi.version == Version::V1_13,
        profiles: config.runtimes.profiles.clone(),
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// The volumes of this machine, for one request.
pub struct CsiVolumes {
    backend: Arc<dyn Backend>,
    shared: Arc<Shared>,
    config: Config,
}

/// What was done; it was no dry run.
fn done(change: Change<VolumeInfo>) -> Result<(VolumeInfo, bool), Refused> {
    match change? {
        Changed::Done(outcome) => {
            let object = outcome.object.ok_or_else(|| ApiError::internal("a change without an object"))?;
            Ok((object, outcome.changed))
        }
        Changed::Planned(_) => Err(ApiError::internal("a plan instead of a change").into()),
    }
}

fn path_of(volume: &Volume) -> Result<VolumePath, Refused> {
    Ok(parse_field("volume", &volume.path)?)
}

fn kind(name: Option<&str>) -> Option<FsKind> {
    [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs].into_iter().find(|kind| name == Some(kind.as_str()))
}

fn snapshot(of: &OfVolume) -> Snapshot {
    let info = &of.snapshot;
    Snapshot {
        id: info.id.clone(),
        path: info.full_name.clone(),
        pool: format!("{}/{}", info.vg, info.pool),
        source: of.volume.to_string(),
        size: info.size_bytes,
        fs: kind(info.fs.as_deref()),
        created: from_rfc3339(&info.created_at).unwrap_or_default(),
        group: info.labels.get(LABEL_GROUP).cloned(),
        protected: info.protected,
    }
}

fn ill(problem: &Problem) -> Ill {
    Ill { code: problem.code.clone(), message: problem.message.clone() }
}

fn shown(info: &VolumeInfo) -> Volume {
    Volume {
        id: info.id.clone(),
        path: format!("{}/{}", info.vg, info.name),
        pool: if info.pool.is_empty() { String::new() } else { format!("{}/{}", info.vg, info.pool) },
        size: info.size_bytes,
        fs: kind(info.fs.as_deref()),
        ready: info.state == ObjectState::Ready,
        name: info.labels.get(LABEL_NAME).cloned(),
        record: info.labels.get(LABEL_RECORD).cloned(),
        mounts: info.mounts.iter().map(|mount| (mount.path.clone(), mount.read_only)).collect(),
        ills: info.problems.iter().map(ill).collect(),
        attached: None,
        protected: info.protected,
        ephemeral: info.labels.contains_key(LABEL_EPHEMERAL),
        purge: info.labels.get(LABEL_ON_DELETE).is_some_and(|what| what == PURGE),
    }
}

fn id_of(volume: &Volume) -> Result<VolumeId, Refused> {
    let id = volume.id.parse().map_err(|_| ApiError::internal(format!("{:?} is no id of a volume", volume.id)))?;
    Ok(VolumeId::from_uuid(id))
}

fn labels((key, name): (&str, &CsiName), params: &Params) -> BTreeMap<String, String> {
    let mut labels = params.labels.clone();
    labels.insert(key.to_owned(), name.to_string());
    labels.insert(LABEL_RECORD.to_owned(), params.record.clone());
    if params.purge {
        labels.insert(LABEL_ON_DELETE.to_owned(), PURGE.to_owned());
    }
    if !params.mount_options.is_empty() {
        labels.insert(MountOptions::LABEL.to_owned(), params.mount_options.to_string());
    }
    labels
}

impl CsiVolumes {
    pub fn new(backend: Arc<dyn Backend>, shared: Arc<Shared>, config: Config) -> Self {
        Self { backend, shared, config }
    }

    /// The right to make or extend a thick volume, which takes as long as its space takes to be wiped or copied.
    ///
    /// # Errors
    /// `ABORTED` while too many do: asked again, it is its turn some time, and others are not kept waiting meanwhile.
    fn may_fill(&self) -> Result<SemaphorePermit<'_>, Refused> {
        self.shared.fills.try_acquire().map_err(|_| {
            let message = format!("{FILLS_MAX} thick volumes are being wiped or copied for an orchestrator; this one has its turn after them");
            ApiError::new(ErrorCode::Busy, message).into()
        })
    }

    /// What has this id now.
    fn kind_of(&self, id: &str) -> Result<Option<Kind>, Refused> {
        if self.find(id)?.is_some() {
            return Ok(Some(Kind::Volume));
        }
        if self.find_snapshot(id)?.is_some() {
            return Ok(Some(Kind::Snapshot));
        }
        let Some((own, _)) = vol_csi::ids::parse(id) else { return Ok(None) };
        let is_of_it = |one: &Snapshot| one.group.as_deref().is_some_and(|group| vol_csi::ids::group(group) == own);
        Ok(self.snapshots()?.iter().any(is_of_it).then_some(Kind::Group))
    }

    /// Tries the names that it may have, until one is free.
    fn under_a_free_name(
        &self,
        vg: &str,
        (key, name): (&str, &CsiName),
        make: impl Fn(&Name) -> Change<VolumeInfo>,
    ) -> Result<Volume, Refused> {
        let mut taken = None;
        for candidate in name.candidates() {
            let path = VolumePath { vg: parse_field("vg", vg)?, volume: candidate.clone() };
            let anothers = |info: &VolumeInfo| info.labels.get(key).map(String::as_str) != Some(name.as_str());
            if self.backend.volume(&path).is_ok_and(|info| anothers(&info)) {
                continue;
            }
            match done(make(&candidate)) {
                Ok((info, _)) => return Ok(shown(&info)),
                Err(refused) if refused.error.code == ErrorCode::Exists => taken = Some(refused),
                Err(refused) => return Err(refused),
            }
        }
        Err(taken.unwrap_or_else(|| Refused::exists(format!("every name that volume {name} could have is taken"))))
    }

    fn pool(&self, params: &Params) -> Result<Option<PoolChoice>, Refused> {
        let asked = params.pool.as_deref().map(PoolChoice::parse).transpose();
        let asked = asked.map_err(|error| Refused::invalid(format!("parameter pool: {error}")).with_hint(SAY.pool))?;
        Ok(asked.or_else(|| self.config.csi.pool.clone()))
    }
}

impl Volumes for CsiVolumes {
    fn settings(&self) -> Settings {
        settings(&self.config)
    }

    fn named(&self, name: &CsiName) -> Result<Option<Volume>, Refused> {
        let mut found = self.backend.volumes_labelled(LABEL_NAME, Some(name.as_str()))?;
        found.retain(|one| one.state != ObjectState::Deleting);
        if let [one, other, ..] = found.as_slice() {
            return Err(Refused::exists(format!(
                "several volumes are called {name}: {}/{} and {}/{}",
                one.vg, one.name, other.vg, other.name
            ))
            .with_hint(format!(
                "leave the label to one of them: volctl volume label {}/{} {LABEL_NAME}-",
                other.vg, other.name
            )));
        }
        Ok(found.first().map(shown))
    }

    fn find(&self, id: &str) -> Result<Option<Volume>, Refused> {
        let uuid = vol_csi::ids::parse(id).and_then(|(id, _)| id.parse().ok());
        let info = if let Some(uuid) = uuid {
            self.backend.volume_by_id(VolumeId::from_uuid(uuid))?
        } else if let Ok(path) = id.parse::<VolumePath>() {
            match self.backend.volume(&path) {
                Err(error) if error.code == ErrorCode::NotFound => None,
                other => Some(other?),
            }
        } else {
            self.backend.volumes_labelled(LABEL_EPHEMERAL, Some(id))?.into_iter().next()
        };
        Ok(info.filter(|info| info.state != ObjectState::Deleting).as_ref().map(shown))
    }

    fn find_now(&self, id: &str) -> Result<Option<Volume>, Refused> {
        let Some(volume) = self.find(id)? else { return Ok(None) };
        let uuid = id_of(&volume)?;
        let mounts = self.backend.mounts_now(uuid)?;
        let mounts = mounts.into_iter().map(|mount| (mount.path, mount.read_only)).collect();
        let attached = if volume.fs.is_none() { self.backend.attached_now(uuid)? } else { None };
        Ok(Some(Volume { mounts, attached, ..volume }))
    }

    fn not_away(&self, kind: Kind, id: &str) -> Result<(), Refused> {
        let uuid = vol_csi::ids::parse(id).map(|(id, _)| id);
        let path = id.parse::<VolumePath>().ok();
        if uuid.is_none() && path.is_none() {
            return Ok(());
        }
        let mut absent = self.backend.absent_vgs()?;
        if let Some(path) = path {
            absent.retain(|vg| vg.name.as_deref().is_none_or(|name| name == path.vg.as_str()));
        }
        // After that: a group may have been opened since the id was looked for.
        match self.kind_of(id)? {
            Some(now) if now == kind => {
                return Err(ApiError::new(ErrorCode::Busy, "its volume group was opened just now: ask again").into());
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let Some(first) = absent.first() else { return Ok(()) };
        // What is kept after its deletion is known to be deleted.
        if self.backend.deleted(None)?.iter().any(|kept| Some(kept.id.as_str()) == uuid) {
            return Ok(());
        }
        let id: String = id.chars().take(ID_SHOWN).collect();
        let others = match absent.len() {
            1 => String::new(),
            several => format!(", and {} more are not open", several - 1),
        };
        let error = ApiError::new(
            ErrorCode::NotReady,
            format!("{id:?} may be in a volume group that is not open: {}{others}", first.message),
        );
        Err(error.with_hint(first.hint.clone()).into())
    }

    fn list(&self) -> Result<Vec<Volume>, Refused> {
        let mut all = self.backend.volumes_labelled(LABEL_NAME, None)?;
        all.retain(|one| one.state == ObjectState::Ready);
        let mut all: Vec<_> = all.iter().map(shown).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    fn room(&self, params: &Params) -> Result<Room, Refused> {
        let (vg, pool) = place::of(&*self.backend, self.pool(params)?.as_ref(), params.thin, &SAY)?;
        let vg_text = vg.to_string();
        Ok(match pool {
            Some(pool) => {
                let info = self.backend.pool(&vol_types::PoolPath { vg, pool })?;
                // What makes no sense is refused where parameters are read.
                let reserve = params.reserve.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Reserve::None);
                let available = promised(&info, reserve);
                Room { vg: vg_text, grain: info.chunk_size_bytes, available, pool: Some(info.name) }
            }
            None => {
                let extent = self.backend.vg(&vg)?.extent_size_bytes;
                let pvs = self.backend.pvs(Some(&vg))?;
                let mut free: Vec<u64> = pvs.iter().filter(|pv| pv.present).map(|pv| pv.free_extents).collect();
                let all = free.iter().fold(0, |all: u64, one| all.saturating_add(*one));
                let (stripes, available) = striped(&mut free, params.stripes.unwrap_or(1));
                let pools = self.backend.pools(Some(&vg))?;
                let available =
                    without_spare(all, available, pools.iter().map(|pool| pool.metadata_size_bytes), extent);
                let available = available / stripes.max(1) * stripes;
                let size = |extents: u64| extents.saturating_mul(extent);
                Room { vg: vg_text, pool: None, grain: size(stripes), available: size(available) }
            }
        })
    }

    fn create(&self, name: &CsiName, wanted: &Wanted) -> Result<Volume, Refused> {
        let Wanted { room, size, params, ephemeral } = wanted;
        let key = if *ephemeral { LABEL_EPHEMERAL } else { LABEL_NAME };
        let _turn = if params.thin { None } else { Some(self.may_fill()?) };
        self.under_a_free_name(&room.vg, (key, name), |candidate| {
            let request = CreateVolume {
                vg: room.vg.clone(),
                name: candidate.to_string(),
                pool: room.pool.clone(),
                size: size.get().to_string(),
                fs: Some(params.fs.map_or("none", FsKind::as_str).to_owned()),
                labels: labels((key, name), params),
                reserve: params.reserve.clone(),
                mkfs_options: params.mkfs_options.clone(),
                empty_root: params.fs == Some(FsKind::Ext4),
                thick: !params.thin,
                stripes: params.stripes,
                stripe_size: params.stripe_size.clone(),
                ..CreateVolume::default()
            };
            self.backend.create_volume(request, false)
        })
    }

    fn clone_of(&self, source: &Source, name: &CsiName, params: &Params) -> Result<Volume, Refused> {
        let (volume, snapshot) = match source {
            Source::Volume(one) => (path_of(one)?, None),
            Source::Snapshot(one) => {
                let path: SnapshotPath = parse_field("snapshot", &one.path)?;
                (path.volume, Some(path.snapshot.to_string()))
            }
        };
        let _turn = if source.pool().is_empty() { Some(self.may_fill()?) } else { None };
        self.under_a_free_name(volume.vg.as_str(), (LABEL_NAME, name), |candidate| {
            let request = CloneVolume {
                vg: volume.vg.to_string(),
                volume: volume.volume.to_string(),
                snapshot: snapshot.clone(),
                name: candidate.to_string(),
                labels: labels((LABEL_NAME, name), params),
                reserve: params.reserve.clone(),
                ..CloneVolume::default()
            };
            self.backend.clone_volume(request, false)
        })
    }

    fn delete(&self, volume: &Volume) -> Result<(), Refused> {
        match self.backend.delete_volume(&path_of(volume)?, volume.ephemeral || volume.purge, false) {
            Err(error) if error.code != ErrorCode::NotFound => Err(error.into()),
            _ => {
                self.shared.places.forget(&volume.id);
                Ok(())
            }
        }
    }

    fn grain(&self, volume: &Volume) -> Result<u64, Refused> {
        if volume.pool.is_empty() {
            let path = path_of(volume)?;
            let stripes = self.backend.volume(&path)?.thick.map_or(1, |thick| u64::from(thick.stripes.max(1)));
            return Ok(self.backend.vg(&path.vg)?.extent_size_bytes.saturating_mul(stripes));
        }
        Ok(self.backend.pool(&parse_field("pool", &volume.pool)?)?.chunk_size_bytes)
    }

    fn grow(&self, volume: &Volume, size: Bytes) -> Result<(Volume, bool), Refused> {
        let fills = volume.pool.is_empty() && size.get() > volume.size;
        let _turn = if fills { Some(self.may_fill()?) } else { None };
        let request = ResizeVolume { size: size.get().to_string(), ..ResizeVolume::default() };
        let (info, changed) = done(self.backend.resize_volume(&path_of(volume)?, request, false))?;
        Ok((shown(&info), changed))
    }

    fn storage_ills(&self) -> Result<Vec<Ill>, Refused> {
        // Those of single volumes are told with them.
        let of_volumes =
            |problem: &Problem| matches!(problem.code.as_str(), "fs_check" | "pool_lost_thin" | "unfinished");
        let vgs = self.backend.vgs()?;
        let problems = vgs.iter().flat_map(|vg| &vg.problems);
        Ok(problems.filter(|problem| !of_volumes(problem)).map(ill).collect())
    }

    fn modify(&self, volume: &Volume, mutable: &Mutable) -> Result<bool, Refused> {
        if mutable.reserve.is_none() {
            return Ok(false);
        }
        let request = SetVolume { reserve: mutable.reserve.clone() };
        Ok(done(self.backend.set_volume(&path_of(volume)?, request, false))?.1)
    }

    fn snapshot_named(&self, name: &CsiName) -> Result<Option<Snapshot>, Refused> {
        let found = self.backend.snapshots_labelled(LABEL_SNAPSHOT, Some(name.as_str()))?;
        Ok(found.first().map(snapshot))
    }

    fn find_snapshot(&self, id: &str) -> Result<Option<Snapshot>, Refused> {
        let Some(id) = vol_csi::ids::parse(id).and_then(|(id, _)| id.parse().ok()) else { return Ok(None) };
        Ok(self.backend.snapshot_by_id(VolumeId::from_uuid(id))?.as_ref().map(snapshot))
    }

    fn snapshots(&self) -> Result<Vec<Snapshot>, Refused> {
        let mut all = self.backend.snapshots_labelled(LABEL_SNAPSHOT, None)?;
        all.extend(self.backend.snapshots_labelled(LABEL_GROUP, None)?);
        let mut all: Vec<_> = all.iter().map(snapshot).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all.dedup_by(|a, b| a.id == b.id);
        Ok(all)
    }

    fn take(&self, of: &[Volume], name: &CsiName, group: bool) -> Result<Vec<Snapshot>, Refused> {
        let paths = of.iter().map(path_of).collect::<Result<Vec<_>, _>>()?;
        let Some(vg) = paths.first().map(|path| path.vg.clone()) else { return Ok(Vec::new()) };
        if let Some(other) = paths.iter().find(|path| path.vg != vg) {
            return Err(Refused::precondition(format!(
                "snapshots of one instant are taken within a volume group, and {other} is in another one than {}",
                paths.first().map_or_else(String::new, ToString::to_string)
            )));
        }
        let label = if group { LABEL_GROUP } else { LABEL_SNAPSHOT };
        let mut taken = None;
        for candidate in name.candidates() {
            let one = |path: &VolumePath| SnapshotName { volume: path.volume.to_string(), name: candidate.to_string() };
            let request = SnapshotGroup {
                vg: vg.to_string(),
                snapshots: paths.iter().map(one).collect(),
                labels: [(label.to_owned(), name.to_string())].into(),
            };
            match self.backend.create_snapshots(request, false) {
                Ok(_) => {
                    let mut made = self.backend.snapshots_labelled(label, Some(name.as_str()))?;
                    made.retain(|one| of.iter().any(|volume| volume.id == one.volume.to_string()));
                    return Ok(made.iter().map(snapshot).collect());
                }
                Err(error) if error.code == ErrorCode::Exists => taken = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(taken.map_or_else(|| Refused::exists(format!("every name that {name} could have is taken")), Refused::from))
    }

    fn changed(&self, base: Option<&Snapshot>, target: &Snapshot, from: u64) -> Result<Parts, Refused> {
        let id = |one: &Snapshot| {
            let id = one.id.parse().map_err(|_| ApiError::internal(format!("{:?} is no id of a snapshot", one.id)))?;
            Ok::<_, Refused>(VolumeId::from_uuid(id))
        };
        let found = self.backend.changed(base.map(id).transpose()?, id(target)?, from, RANGES_MAX)?;
        Ok(Parts { ranges: found.ranges, next: found.next })
    }

    fn delete_snapshot(&self, snapshot: &Snapshot) -> Result<(), Refused> {
        let path: SnapshotPath = parse_field("snapshot", &snapshot.path)?;
        match self.backend.delete_snapshot(&path, false, false) {
            Err(error) if error.code != ErrorCode::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn usage(&self, volume: &Volume, at: &str) -> Result<Option<Usage>, Refused> {
        let usage = self.backend.fs_usage(id_of(volume)?, Path::new(at))?;
        Ok(usage.map(|usage| Usage {
            total: usage.size.get(),
            used: usage.size.get().saturating_sub(usage.free.get()),
            available: usage.available.get(),
            inodes: usage.inodes,
            inodes_used: usage.inodes.saturating_sub(usage.inodes_free),
        }))
    }

    fn placed(&self, at: &str) -> Option<Placed> {
        self.shared.places.at(at)
    }

    fn places(&self, volume: &str) -> Vec<(String, Placed)> {
        self.shared.places.of(volume)
    }

    fn note(&self, at: &str, placed: Option<Placed>) {
        self.shared.places.note(at, placed);
    }

    fn mount(&self, volume: &Volume, at: &str, read_only: bool, flags: &MountOptions) -> Result<bool, Refused> {
        Ok(done(self.backend.mount_at(&path_of(volume)?, Path::new(at), read_only, flags))?.1)
    }

    fn bind(&self, volume: &Volume, from: &str, to: &str, read_only: bool) -> Result<bool, Refused> {
        Ok(done(self.backend.bind_volume(&path_of(volume)?, Path::new(from), Path::new(to), read_only))?.1)
    }

    fn attach(&self, volume: &Volume, read_only: bool) -> Result<bool, Refused> {
        let path = path_of(volume)?;
        let attached = match read_only {
            true => self.backend.attach_volume_read_only(&path, false),
            false => self.backend.attach_volume(&path, false),
        };
        Ok(done(attached)?.1)
    }

    fn detach(&self, volume: &Volume) -> Result<bool, Refused> {
        Ok(done(self.backend.detach_volume(&path_of(volume)?, false))?.1)
    }

    fn show(&self, volume: &Volume, to: &str) -> Result<bool, Refused> {
        Ok(done(self.backend.show_device(&path_of(volume)?, Path::new(to)))?.1)
    }

    fn unmount(&self, volume: &Volume, at: &str) -> Result<bool, Refused> {
        Ok(done(self.backend.unmount_at(&path_of(volume)?, Path::new(at)))?.1)
    }

    fn remove_mount_point(&self, at: &str) -> Result<bool, Refused> {
        Ok(self.backend.remove_mount_point(Path::new(at))?)
    }
}
