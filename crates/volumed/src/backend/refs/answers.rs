//! Requests about references, on the wire.

use std::collections::BTreeMap;

use vol_api::{
    ApiError, Changed, ErrorCode, Outcome, Plan, PlanStep, RefInfo, RefList, ReleaseRefs, ReleasedRefs, RuntimeDf,
    RuntimeTotal, RuntimeVolume, UnneededMount, VolumeRefs, parse_field,
};
use vol_types::{PoolPath, VolumePath};

use super::super::{error, usage};
use super::*;
use crate::api::Targets as _;

/// How often each engine needs a volume.
pub fn of_volume(references: &References, volume: VolumeId) -> Vec<VolumeRefs> {
    let mut all = BTreeMap::new();
    references.of_volume(volume).iter().for_each(|one| count(&mut all, one));
    all.into_values().collect()
}

/// The same of all volumes that any needs.
pub fn by_volume(references: &References) -> BTreeMap<VolumeId, Vec<VolumeRefs>> {
    let mut all: BTreeMap<VolumeId, BTreeMap<_, _>> = BTreeMap::new();
    references.snapshot().all.iter().for_each(|one| count(all.entry(one.volume).or_default(), one));
    all.into_iter().map(|(id, refs)| (id, refs.into_values().collect())).collect()
}

fn count(all: &mut BTreeMap<Runtime, VolumeRefs>, one: &Reference) {
    let refs = all.entry(one.runtime).or_default();
    one.runtime.name().clone_into(&mut refs.runtime);
    refs.count += u64::from(one.count);
    refs.unconfirmed += if one.confirmed { 0 } else { u64::from(one.count) };
}

impl<H: HostMut + 'static> Keeper<H> {
    fn shown(&self, id: VolumeId) -> Option<String> {
        self.named(id).map(|(vg, name)| format!("{vg}/{name}"))
    }

    fn engine_name(&self, id: VolumeId, runtime: Runtime) -> Option<String> {
        self.engine
            .vgs()
            .iter()
            .find_map(|vg| vg.read(|catalog| catalog.volume(id)?.labels.get(runtime.label()).map(str::to_owned)))
    }

    fn info(&self, one: &Reference, seen: &Seen) -> RefInfo {
        RefInfo {
            runtime: one.runtime.name().to_owned(),
            volume: self.shown(one.volume),
            volume_id: one.volume.to_string(),
            engine_name: self.engine_name(one.volume, one.runtime),
            id: one.id.clone(),
            count: u64::from(one.count),
            confirmed: one.confirmed,
            mounted_at: seen.mounts_of(one.volume).map(|mount| mount.target.display().to_string()).collect(),
            used_by: seen.users_of(one.volume),
        }
    }
}

fn seen<H: HostMut + 'static>(keeper: &Keeper<H>) -> Result<Seen, ApiError> {
    keeper.seen().map_err(|error| error::from_engine(error.into()))
}

/// `GET /v1/refs`.
pub fn list<H: HostMut + 'static>(backend: &EngineBackend<H>, runtime: Option<Runtime>) -> Read<RefList> {
    let keeper = backend.keeper();
    let seen = seen(&keeper)?;
    let wanted = |one: Runtime| runtime.is_none_or(|runtime| runtime == one);
    let all = backend.references.all();
    let mut refs: Vec<_> = all.iter().filter(|one| wanted(one.runtime)).map(|one| keeper.info(one, &seen)).collect();
    refs.sort_by(|a, b| a.volume.cmp(&b.volume));
    let made = keeper.made(&seen).filter(|made| wanted(made.runtime));
    let unneeded = made.filter(|made| backend.references.count_of(made.volume) == 0).map(|made| UnneededMount {
        runtime: made.runtime.name().to_owned(),
        volume: keeper.shown(made.volume),
        volume_id: made.volume.to_string(),
        path: made.target.display().to_string(),
        used_by: seen.users_of(made.volume),
    });
    Ok(RefList { unneeded: unneeded.collect(), refs })
}

/// The volume that a request names by its path or by its id.
fn volume_id<H: HostMut + 'static>(backend: &EngineBackend<H>, text: &str) -> Result<VolumeId, ApiError> {
    if let Ok(id) = text.parse::<VolumeId>() {
        return Ok(id);
    }
    let path: VolumePath = parse_field("volume", text)?;
    let name = VolumeName { volume: path.volume.clone(), snapshot: None };
    let vg = backend.open_vg(&path.vg)?;
    vg.read(|catalog| vol_engine::find_volume(catalog, &name).map(|volume| volume.id)).map_err(error::from_refusal)
}

/// `POST /v1/refs/release`.
pub fn release<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    request: &ReleaseRefs,
    dry_run: bool,
) -> Change<ReleasedRefs> {
    let wanted = request.runtime.as_deref().map(crate::runtimes::named).transpose()?;
    if request.id.is_some() && wanted.is_none() {
        return Err(ApiError::invalid("an id is one of an engine's: say which with runtime"));
    }
    let volume = volume_id(backend, &request.volume)?;
    let keeper = backend.keeper();
    let seen = seen(&keeper)?;
    let is_meant = |one: &Reference| {
        wanted.is_none_or(|runtime| one.runtime == runtime) && request.id.as_ref().is_none_or(|id| *id == one.id)
    };
    let mut meant = backend.references.of_volume(volume);
    meant.retain(is_meant);
    let shown = keeper.shown(volume).unwrap_or_else(|| volume.to_string());
    if dry_run {
        return Ok(Changed::Planned(planned(&shown, &meant, keeper.made(&seen).filter(|made| made.volume == volume))));
    }
    let mut released = Vec::new();
    for one in &meant {
        // As it is now: it may have been counted further meanwhile.
        released.extend(keeper.references.forget_one(one.runtime, one.volume, &one.id));
    }
    for one in &released {
        tracing::warn!(
            runtime = one.runtime.name(),
            volume = shown,
            id = one.id,
            "a mount reference was released by hand"
        );
    }
    let was_made = keeper.made(&seen).any(|made| made.volume == volume);
    let left = backend.references.count_of(volume);
    let unneeded = keeper.unmount(volume);
    let object = ReleasedRefs {
        volume: keeper.shown(volume),
        volume_id: volume.to_string(),
        released: released.iter().map(|one| keeper.info(one, &seen)).collect(),
        left: u64::from(left),
        unmounted: unneeded == Unneeded::Gone,
        used_by: match &unneeded {
            Unneeded::Deferred(users) => users.clone(),
            Unneeded::Gone | Unneeded::Needed => Vec::new(),
        },
    };
    let changed = !released.is_empty() || (was_made && unneeded == Unneeded::Gone);
    Ok(Changed::Done(Outcome { changed, object: Some(object), warnings: Vec::new() }))
}

fn planned(shown: &str, meant: &[Reference], made: impl Iterator<Item = Made>) -> Plan {
    let forget = meant.iter().map(|one| {
        let (runtime, count) = (one.runtime, one.count);
        ("release_reference", format!("forget reference {} of {runtime} (count {count})", one.id))
    });
    let unmount = made.map(|made| ("unmount", format!("unmount {}, if nobody needs it then", made.target.display())));
    let steps = forget.chain(unmount).zip(1..).map(|((action, description), number)| PlanStep {
        number,
        action: action.to_owned(),
        description,
        requires: Vec::new(),
    });
    let steps: Vec<_> = steps.collect();
    Plan { title: format!("release mount references of {shown}"), changes: !steps.is_empty(), steps }
}

/// Refuses to do something to a volume that an engine needs. References of one that is mounted nowhere are dropped instead.
pub fn refused<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    dry_run: bool,
) -> Result<(), ApiError> {
    let Ok(volume) = volume_id(backend, &path.to_string()) else { return Ok(()) };
    not_of_pods(backend, volume, path)?;
    let before = backend.references.snapshot();
    if !before.all.iter().any(|one| one.volume == volume) {
        return Ok(());
    }
    let keeper = backend.keeper();
    let seen = seen(&keeper)?;
    if !seen.is_mounted(volume) && !backend.references.is_mounting(volume) {
        if dry_run {
            return Ok(());
        }
        keeper.drop_stale(&before, &seen, false);
    }
    match in_use(&backend.references, volume, &path.to_string()) {
        Some(busy) => Err(error::from_refusal(busy)),
        None => Ok(()),
    }
}

/// Refuses to take a volume from under the pods that have it.
fn not_of_pods<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    volume: VolumeId,
    path: &VolumePath,
) -> Result<(), ApiError> {
    let mounts = backend.mounts_now(volume)?;
    match mounts.iter().find(|mount| Path::new(&mount.path).starts_with(&backend.kubelet_dir)) {
        None => Ok(()),
        Some(mount) => Err(ApiError::new(
            ErrorCode::Busy,
            format!("{path} is in use by Kubernetes: it is mounted at {}", mount.path),
        )
        .with_hint("delete the pods that use it; what a kubelet left behind that is gone, `umount` takes away")),
    }
}

/// What the engines call a volume.
pub fn names_of<H: HostMut + 'static>(backend: &EngineBackend<H>, path: &VolumePath) -> BTreeMap<Runtime, String> {
    let Ok(id) = volume_id(backend, &path.to_string()) else { return BTreeMap::new() };
    let keeper = backend.keeper();
    Runtime::ALL.into_iter().filter_map(|one| Some((one, keeper.engine_name(id, one)?))).collect()
}

/// After the labels of a volume were changed: an engine that knew it by another name speaks of it no more, so what it had of it is no
/// reference any longer. As long as a container has it mounted it stays so.
pub fn renamed<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    before: &BTreeMap<Runtime, String>,
) {
    let now = names_of(backend, path);
    let Ok(id) = volume_id(backend, &path.to_string()) else { return };
    let mut forgotten = false;
    for (runtime, name) in before.iter().filter(|(runtime, name)| now.get(*runtime) != Some(name)) {
        if backend.references.forget_of(*runtime, id) {
            forgotten = true;
            tracing::info!(runtime = runtime.name(), volume = %path, "its mount references are dropped: it is no longer its volume {name}");
        }
    }
    if forgotten && let Unneeded::Deferred(users) = backend.keeper().unmount(id) {
        tracing::info!(volume = %path, "it stays mounted for now: it is in use by {}", users.join(", "));
    }
}

/// That an engine needs a volume, if one does.
pub fn in_use(references: &References, volume: VolumeId, path: &str) -> Option<Refusal> {
    let by: Vec<_> = of_volume(references, volume)
        .iter()
        .map(|one| {
            format!("{} ({} mount {})", one.runtime, one.count, if one.count == 1 { "reference" } else { "references" })
        })
        .collect();
    let busy = Refusal::busy(format!("{path} is in use by {}", by.join(" and ")));
    let hint = format!(
        "stop the containers that use it; `volctl refs list` shows the references, and `volctl refs release {path}` forgets those of \
         containers that are gone"
    );
    (!by.is_empty()).then(|| busy.hint(hint))
}

/// What volumes (`VG/VOLUME`) have allocated and have exclusively, as far as it is known.
type Taken = BTreeMap<String, (Option<u64>, Option<u64>)>;

fn taken<H: HostMut + 'static>(backend: &EngineBackend<H>, pool: &PoolPath) -> Taken {
    let of =
        |one: vol_api::VolumeUsage| (format!("{}/{}", one.vg, one.volume), (one.allocated_bytes, one.exclusive_bytes));
    usage::pool(backend, pool).map_or_else(|_| Taken::new(), |usage| usage.volumes.into_iter().map(of).collect())
}

/// `GET /v1/runtimes/RUNTIME/df`.
pub fn df<H: HostMut + 'static>(backend: &EngineBackend<H>, runtime: Runtime) -> Read<RuntimeDf> {
    let mut volumes = Vec::new();
    let mut total = RuntimeTotal::default();
    for vg in backend.engine.vgs() {
        let view = vg.view();
        let mounted: BTreeSet<_> = view.kernel.mounts.iter().map(|mount| mount.dev).collect();
        let found: Vec<_> = vg.read(|catalog| {
            let ours = catalog.volumes().filter(|one| one.snapshot.is_none() && one.state == VolumeState::Ready);
            let ours = ours.filter_map(|one| Some((one, one.labels.get(runtime.label())?)));
            ours.map(|(one, name)| {
                let dev = view.kernel.dm.get(&Device::Volume(one.id)).map(|info| info.dev);
                let refs = of_volume(&backend.references, one.id);
                let size_bytes = one.size.get();
                let thick = one.thick().is_some().then_some(size_bytes);
                let info = RuntimeVolume {
                    name: name.to_owned(),
                    volume: format!("{}/{}", catalog.vg().name, one.name),
                    size_bytes,
                    used_bytes: thick,
                    exclusive_bytes: thick,
                    references: refs.iter().filter(|one| one.runtime == runtime.name()).map(|one| one.count).sum(),
                    mounted: dev.is_some_and(|dev| mounted.contains(&dev)),
                };
                let pool = catalog
                    .pool_of(one)
                    .map(|pool| PoolPath { vg: catalog.vg().name.clone(), pool: pool.name.clone() });
                (info, pool)
            })
            .collect()
        });
        // Each pool is read once; one that cannot be leaves its numbers unknown.
        let mut pools: BTreeMap<String, Taken> = BTreeMap::new();
        for (mut info, pool) in found {
            if let Some(pool) = pool {
                let read = pools.entry(pool.to_string()).or_insert_with(|| taken(backend, &pool));
                if let Some((used, exclusive)) = read.get(&info.volume) {
                    (info.used_bytes, info.exclusive_bytes) = (*used, *exclusive);
                }
            }
            total.volume_count += 1;
            total.active_count += u64::from(info.references > 0);
            total.size_bytes = total.size_bytes.saturating_add(info.size_bytes);
            total.used_bytes = total.used_bytes.saturating_add(info.used_bytes.unwrap_or(0));
            if info.references == 0 {
                total.reclaimable_bytes = total.reclaimable_bytes.saturating_add(info.exclusive_bytes.unwrap_or(0));
            }
            volumes.push(info);
        }
    }
    volumes.sort_by(|a, b| (&a.name, &a.volume).cmp(&(&b.name, &b.volume)));
    Ok(RuntimeDf { runtime: runtime.name().to_owned(), volumes, total })
}
