//! An engine's volumes over the backend: found by their label, made, mounted and removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use vol_api::{ApiError, ErrorCode, Mount, ObjectState, Relabel, VolumeInfo, parse_field};
use vol_docker::options::{LABEL_MOUNT_OPTIONS, LABEL_ON_REMOVE, LABEL_OPTIONS};
use vol_docker::{EngineName, OnRemove, Options, Reply, Request, Runtime, Settings, Volume, Volumes, plugin};
use vol_types::{VolumeId, VolumePath};

use super::making::Makings;
use super::turns::Turns;
use crate::api::Backend;
use crate::backend::Unneeded;

mod make;

/// How long a mount waits for a volume that is still being prepared: Podman waits 5 s for the answer, dockerd two minutes.
const fn prepared_within(runtime: Runtime) -> Duration {
    match runtime {
        Runtime::Docker => Duration::from_secs(30),
        Runtime::Podman => Duration::from_secs(4),
    }
}
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the engines have in common.
pub struct Shared {
    turns: Turns,
    makings: Arc<Makings>,
    /// Where volumes are mounted for engines.
    mounts: PathBuf,
}

impl Shared {
    /// With mount points below `run_dir`.
    pub fn new(run_dir: &Path) -> Self {
        Self { turns: Turns::default(), makings: Arc::default(), mounts: run_dir.join(super::MOUNTS) }
    }
}

/// The volumes of one engine, for one request.
#[derive(Clone)]
pub struct EngineVolumes {
    runtime: Runtime,
    backend: Arc<dyn Backend>,
    shared: Arc<Shared>,
    settings: Settings,
}

fn path_of(info: &VolumeInfo) -> Result<VolumePath, ApiError> {
    parse_field("volume", &format!("{}/{}", info.vg, info.name))
}

fn id_of(info: &VolumeInfo) -> Result<VolumeId, ApiError> {
    let id = info.id.parse().map_err(|_| ApiError::internal(format!("{:?} is no id of a volume", info.id)))?;
    Ok(VolumeId::from_uuid(id))
}

impl EngineVolumes {
    pub fn new(runtime: Runtime, backend: Arc<dyn Backend>, shared: Arc<Shared>, settings: Settings) -> Self {
        Self { runtime, backend, shared, settings }
    }

    /// Answers a request. Those about one volume are answered one after another.
    ///
    /// # Errors
    /// What the engine is to be told.
    pub fn answer(&self, request: &Request) -> Result<Reply, ApiError> {
        let _turn = match request {
            Request::Create(name, _) | Request::Remove(name) | Request::Mount(name, _) | Request::Unmount(name, _) => {
                Some(self.shared.turns.take(self.key(name)))
            }
            _ => None,
        };
        plugin::answer(self, request)
    }

    fn key(&self, name: &EngineName) -> String {
        format!("{}:{name}", self.runtime)
    }

    /// The volume of this name.
    fn labelled(&self, name: &EngineName) -> Result<Option<VolumeInfo>, ApiError> {
        let mut found = self.backend.volumes_labelled(self.runtime.label(), Some(name.as_str()))?;
        found.retain(|one| one.state != ObjectState::Deleting);
        if found.len() > 1 {
            let all: Vec<_> = found.iter().map(|one| format!("{}/{}", one.vg, one.name)).collect();
            return Err(ApiError::new(
                ErrorCode::Exists,
                format!("{} volumes are called {name} here: {}", found.len(), all.join(" and ")),
            )
            .with_hint(format!(
                "leave the label to one of them: volctl volume label {} {}-",
                all.last().map_or("", String::as_str),
                self.runtime.label()
            )));
        }
        Ok(found.pop())
    }

    fn mountpoint(&self, info: &VolumeInfo) -> String {
        self.shared.mounts.join(self.runtime.name()).join(&info.id).display().to_string()
    }

    /// As the engine sees it.
    fn shown(&self, info: &VolumeInfo) -> Volume {
        let at = self.mountpoint(info);
        let status = self.status(info);
        Volume {
            name: info.labels.get(self.runtime.label()).cloned().unwrap_or_default(),
            path: format!("{}/{}", info.vg, info.name),
            mountpoint: info.mounts.iter().any(|mount| mount.path == at).then_some(at),
            created_at: info.created_at.clone(),
            size_bytes: info.size_bytes,
            fs: info.fs.clone().unwrap_or_else(|| "none".to_owned()),
            options: info.labels.get(LABEL_OPTIONS).cloned(),
            status,
        }
    }

    fn status(&self, info: &VolumeInfo) -> Map<String, Value> {
        let mut status = Map::new();
        let mut put = |key: &str, value: Value| status.insert(key.to_owned(), value);
        put("volume", json!(format!("{}/{}", info.vg, info.name)));
        put("size_bytes", json!(info.size_bytes));
        put("used_bytes", json!(info.used_bytes));
        put("fs", json!(info.fs.as_deref().unwrap_or("none")));
        put("pool", if info.pool.is_empty() { Value::Null } else { json!(format!("{}/{}", info.vg, info.pool)) });
        put("thin", json!(info.thick.is_none()));
        put("device", json!(info.device));
        put("mounted", json!(!info.mounts.is_empty()));
        put("references", json!(id_of(info).map_or(0, |id| self.backend.references().count_of(id))));
        put("snapshots", json!(info.snapshot_count));
        put("reserve_bytes", json!(info.reserve_bytes));
        put("protected", json!(info.protected));
        put("on_remove", json!(OnRemove::of_label(info.labels.get(LABEL_ON_REMOVE).map(String::as_str)).as_str()));
        if let Some(options) = info.labels.get(LABEL_MOUNT_OPTIONS) {
            put("mount_options", json!(options));
        }
        if let Some(origin) = &info.clone_of {
            put("clone_of", json!(origin.name));
        }
        if let Some(percent) = prepared_percent(info) {
            put("prepared_percent", json!(percent));
        }
        put("health", json!(info.health.as_str()));
        if !info.problems.is_empty() {
            put("problems", info.problems.iter().map(|problem| json!(problem.message)).collect());
        }
        status
    }

    /// The volume when it can be mounted.
    fn prepared(&self, name: &EngineName) -> Result<VolumeInfo, ApiError> {
        let until = Instant::now() + prepared_within(self.runtime);
        let mut gone_on = false;
        loop {
            let info = self.labelled(name)?.ok_or_else(|| plugin::no_such(name))?;
            if info.state == ObjectState::Ready {
                return Ok(info);
            }
            if !gone_on {
                gone_on = true;
                self.go_on_making(name, &info)?;
            }
            self.backend.hurry(id_of(&info)?);
            if Instant::now() >= until {
                let how_far = prepared_percent(&info).map_or(String::new(), |percent| format!(", {percent} % done"));
                return Err(ApiError::new(ErrorCode::Busy, format!("volume {name} is still being prepared{how_far}"))
                    .with_hint(format!(
                        "try again later; `volctl volume show {}/{}` tells how far it is",
                        info.vg, info.name
                    )));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The volume is not this engine's any more.
    fn take_label_off(&self, info: &VolumeInfo) -> Result<(), ApiError> {
        let mut remove = vec![self.runtime.label().to_owned()];
        if !Runtime::ALL.iter().any(|other| *other != self.runtime && info.labels.contains_key(other.label())) {
            remove.extend([LABEL_OPTIONS, LABEL_MOUNT_OPTIONS, LABEL_ON_REMOVE].map(str::to_owned));
        }
        self.backend.label_volume(&path_of(info)?, Relabel { remove, ..Relabel::default() }, false).map(drop)
    }
}

/// How far a volume is that is not ready.
fn prepared_percent(info: &VolumeInfo) -> Option<u64> {
    if info.state != ObjectState::Creating {
        return None;
    }
    let filling = info.thick.as_ref()?.filling.as_ref()?;
    filling.done_bytes.saturating_mul(100).checked_div(filling.total_bytes)
}

impl Volumes for EngineVolumes {
    fn settings(&self) -> Settings {
        self.settings.clone()
    }

    fn activated(&self) {
        self.backend.references().activated(self.runtime);
    }

    fn find(&self, name: &EngineName) -> Result<Option<Volume>, ApiError> {
        Ok(self.labelled(name)?.map(|info| self.shown(&info)))
    }

    fn list(&self) -> Result<Vec<Volume>, ApiError> {
        let mut all = self.backend.volumes_labelled(self.runtime.label(), None)?;
        all.retain(|one| one.state != ObjectState::Deleting);
        let mut all: Vec<_> = all.iter().map(|info| self.shown(info)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        // Of two with one name, either; who asks for it hears of both.
        all.dedup_by(|a, b| a.name == b.name);
        Ok(all)
    }

    fn create(&self, name: &EngineName, options: &Options) -> Result<(), ApiError> {
        self.make(name, options)
    }

    fn remove(&self, name: &EngineName) -> Result<bool, ApiError> {
        let Some(info) = self.labelled(name)? else { return Ok(false) };
        let (id, path) = (id_of(&info)?, path_of(&info)?);
        let _turn = self.shared.turns.take(info.id.clone());
        let others = Runtime::ALL.iter().any(|one| *one != self.runtime && info.labels.contains_key(one.label()));
        let keep = OnRemove::of_label(info.labels.get(LABEL_ON_REMOVE).map(String::as_str)) == OnRemove::Keep;
        if info.protected && !keep && !others {
            return Err(ApiError::new(ErrorCode::Refused, format!("volume {name} ({path}) is protected"))
                .with_hint(format!("volctl volume unprotect {path} takes the protection away")));
        }
        // The engine asks only when it knows of no container that uses it: references that are left were left by a crash.
        self.backend.references().forget_of(self.runtime, id);
        let unmounted = self.backend.unmount_unneeded(id);
        if others || keep {
            return self.take_label_off(&info).map(|()| true);
        }
        if let Unneeded::Deferred(users) = unmounted {
            return Err(ApiError::new(ErrorCode::Busy, format!("volume {name} ({path}) is in use"))
                .with_details(users)
                .with_hint("stop what uses it; `volctl refs list` and `volctl volume show` tell more"));
        }
        match self.backend.delete_volume(&path, false, false) {
            Err(error) if error.code != ErrorCode::NotFound => Err(error),
            _ => Ok(true),
        }
    }

    fn mount(&self, name: &EngineName, id: &str) -> Result<String, ApiError> {
        let info = self.prepared(name)?;
        let (volume, path, at) = (id_of(&info)?, path_of(&info)?, self.mountpoint(&info));
        let _turn = self.shared.turns.take(info.id.clone());
        let id = if id.is_empty() { "unnamed" } else { id };
        let references = self.backend.references();
        let mounting =
            references.mount(self.runtime, volume, id).map_err(|error| ApiError::invalid(error.to_string()))?;
        // That it stands in the mount table is what the backend looks for, also where nothing had to be done.
        let request = Mount { path: at.clone(), ..Mount::default() };
        let mounted = self.backend.mount_volume(&path, request, false);
        if mounted.is_err() {
            references.unmount(self.runtime, volume, id);
        }
        drop(mounting);
        mounted.map(|_| at)
    }

    fn unmount(&self, name: &EngineName, id: &str) -> Result<bool, ApiError> {
        let Some(info) = self.labelled(name)? else { return Ok(false) };
        let volume = id_of(&info)?;
        let _turn = self.shared.turns.take(info.id.clone());
        let id = if id.is_empty() { "unnamed" } else { id };
        let gone = self.backend.references().unmount(self.runtime, volume, id);
        // What is still in use is tried again by itself: the engine needs it no more, and could mend nothing.
        if gone.left_of_volume == 0
            && let Unneeded::Deferred(users) = self.backend.unmount_unneeded(volume)
        {
            tracing::info!(volume = %name, "it stays mounted for now: it is in use by {}", users.join(", "));
        }
        Ok(gone.known)
    }
}
