//! Requests that change something: texts are checked here, then the engine is called.

use std::path::{Path, PathBuf};

use vol_api::{
    ApiError, Changed, ErrorCode, InitInfo, Outcome, PoolInfo, ScanInfo, SnapshotInfo, VgInfo, VolumeInfo, parse_field,
};
use vol_core::VolumeName;
use vol_core::plan::mount::MountAs;
use vol_engine::host::HostMut;
use vol_engine::{CreatePool, CreateVg, CreateVolume, Done};
use vol_types::{Bytes, FsKind, Name, PoolPath, SizeSpec, SnapshotPath, VolumePath, limit};

use super::EngineBackend;
use super::error::from_engine;
use super::life::labels;
use crate::api::{Backend, Change, Read};

/// PVs that carry the metadata, if nothing else is asked for: enough that losing one disk of three loses nothing.
const METADATA_COPIES_DEFAULT: u16 = 4;

/// The plan on the wire.
pub(super) fn plan(plan: &vol_core::Plan) -> vol_api::Plan {
    vol_api::Plan {
        title: plan.title.clone(),
        changes: !plan.is_empty(),
        steps: plan
            .steps
            .iter()
            .zip(1..)
            .map(|(step, number)| vol_api::PlanStep {
                number,
                action: step.action.kind().replace('-', "_"),
                description: step.action.to_string(),
                requires: step.requires.iter().map(ToString::to_string).collect(),
            })
            .collect(),
    }
}

/// What was done, with the object as it is now (or, for a deletion, as it was).
pub(super) fn changed<H: HostMut + 'static, T, I>(
    backend: &EngineBackend<H>,
    vg: &Name,
    done: Done<T>,
    object: impl FnOnce() -> Read<I>,
) -> Change<I> {
    Ok(match done {
        Done::Planned(planned) => Changed::Planned(plan(&planned)),
        Done::Changed(_) => {
            backend.known.see(&backend.engine);
            Changed::Done(Outcome { changed: true, object: Some(object()?), warnings: missed_copies(backend, vg) })
        }
        Done::Unchanged(_) => Changed::Done(Outcome::unchanged(Some(object()?))),
    })
}

/// Metadata copies that missed the change: it is durable on a majority, but one disk less away from none.
fn missed_copies<H: HostMut + 'static>(backend: &EngineBackend<H>, vg: &Name) -> Vec<String> {
    let Ok(vg) = backend.engine.vg(vg) else { return Vec::new() };
    let view = vg.view();
    view.problems
        .iter()
        .filter(|problem| problem.code == "metadata-copy-failed")
        .map(|problem| problem.message.clone())
        .collect()
}

pub(super) fn bytes(field: &str, text: &str) -> Result<Bytes, ApiError> {
    vol_types::parse_bytes(text).map_err(|error| ApiError::invalid(format!("{field}: {error}")))
}

pub(super) fn device_paths(devices: &[String]) -> Result<Vec<PathBuf>, ApiError> {
    devices
        .iter()
        .map(|text| {
            let path = PathBuf::from(text);
            if path.is_absolute() && !text.contains('\0') {
                Ok(path)
            } else {
                Err(ApiError::invalid(format!("{text:?} is not an absolute path of a disk")))
            }
        })
        .collect()
}

pub(super) fn file_specs(files: &[vol_api::FileSpec]) -> Result<Vec<(PathBuf, Bytes)>, ApiError> {
    files.iter().map(|file| Ok((PathBuf::from(&file.path), bytes("file size", &file.size)?))).collect()
}

fn file_system(text: Option<&str>) -> Result<Option<FsKind>, ApiError> {
    Ok(match text.unwrap_or("ext4") {
        "ext4" => Some(FsKind::Ext4),
        "xfs" => Some(FsKind::Xfs),
        "btrfs" => Some(FsKind::Btrfs),
        "none" => None,
        other => {
            return Err(ApiError::invalid(format!("{other:?} is not a file system that volumed makes"))
                .with_hint("choose ext4, xfs, btrfs, or none for a raw block volume"));
        }
    })
}

pub fn create_vg<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    request: &vol_api::CreateVg,
    dry_run: bool,
) -> Change<VgInfo> {
    let extent_size = match &request.extent_size {
        Some(text) => bytes("extent size", text)?,
        None => limit::EXTENT_SIZE_DEFAULT,
    };
    let name: Name = parse_field("name", &request.name)?;
    let wanted = CreateVg {
        name: name.clone(),
        disks: device_paths(&request.devices)?,
        files: file_specs(&request.files)?,
        wipe: request.wipe,
        extent_size,
        metadata_copies: request.metadata_copies.unwrap_or(METADATA_COPIES_DEFAULT),
    };
    changed(backend, &name, backend.engine.create_vg(&wanted, dry_run).map_err(from_engine)?, || backend.vg(&name))
}

pub fn delete_vg<H: HostMut + 'static>(backend: &EngineBackend<H>, vg: &Name, dry_run: bool) -> Change<VgInfo> {
    let was = backend.vg(vg)?;
    let id = backend.open_vg(vg)?.id;
    // First, for a daemon that ends half way takes the group apart at its next start, and would remember it for good. What is open all
    // the same is seen again.
    if !dry_run {
        backend.known.forget(id);
    }
    let done = backend.engine.delete_vg(vg, dry_run).map_err(from_engine);
    if done.is_err() {
        backend.known.see(&backend.engine);
    }
    let done = done?;
    if !dry_run {
        backend.known.forget(id);
    }
    changed(backend, vg, done, || Ok(was))
}

pub fn init<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    request: &vol_api::Init,
    dry_run: bool,
) -> Change<InitInfo> {
    let vg: Name = parse_field("vg", request.vg.as_deref().unwrap_or(vol_api::Init::VG_DEFAULT))?;
    let pool: Name = parse_field("pool", request.pool.as_deref().unwrap_or(vol_api::Init::POOL_DEFAULT))?;
    let wanted = CreateVg {
        name: vg.clone(),
        disks: device_paths(&request.devices)?,
        files: file_specs(&request.files)?,
        wipe: request.wipe,
        extent_size: limit::EXTENT_SIZE_DEFAULT,
        metadata_copies: METADATA_COPIES_DEFAULT,
    };
    let before = backend.known.files();
    let done = backend.engine.init(&wanted, &pool, dry_run).map_err(from_engine);
    if done.is_err() {
        backend.known.forget_unmade(&backend.engine, &before, &vg);
    }
    let done = done?;
    changed(backend, &vg, done, || {
        Ok(InitInfo {
            vg: backend.vg(&vg)?,
            pool: backend.pool_info(&PoolPath { vg: vg.clone(), pool: pool.clone() })?,
        })
    })
}

pub fn create_pool<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    request: &vol_api::CreatePool,
    dry_run: bool,
) -> Change<PoolInfo> {
    let wanted = CreatePool {
        vg: parse_field("vg", &request.vg)?,
        name: parse_field("name", &request.name)?,
        size: parse_field::<SizeSpec>("size", &request.size)?,
        chunk_size: request.chunk_size.as_deref().map(|text| bytes("chunk size", text)).transpose()?,
        overcommit_percent: request.overcommit_limit_percent.unwrap_or(limit::OVERCOMMIT_PERCENT_DEFAULT),
        policy: super::space::policy(request)?,
        place: super::space::place((&request.on, &request.not_on), &request.on_labels, request.contiguous)?,
    };
    let done = backend.engine.create_pool(&wanted, dry_run).map_err(from_engine)?;
    changed(backend, &wanted.vg, done, || {
        backend.pool_info(&PoolPath { vg: wanted.vg.clone(), pool: wanted.name.clone() })
    })
}

pub fn delete_pool<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &PoolPath,
    dry_run: bool,
) -> Change<PoolInfo> {
    let was = backend.pool_info(path)?;
    changed(backend, &path.vg, backend.engine.delete_pool(&path.vg, &path.pool, dry_run).map_err(from_engine)?, || {
        Ok(was)
    })
}

pub fn create_volume<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    request: &vol_api::CreateVolume,
    dry_run: bool,
) -> Change<VolumeInfo> {
    let path = VolumePath { vg: parse_field("vg", &request.vg)?, volume: parse_field("name", &request.name)? };
    let fs = file_system(request.fs.as_deref())?;
    if request.attach && fs.is_some() {
        return Err(ApiError::invalid("attach: a volume with a file system is mounted, not attached")
            .with_hint("leave attach out, or ask for a raw volume: fs none"));
    }
    let created = if request.thick {
        super::thick::create(backend, &path, fs, request, dry_run)
    } else {
        create_thin(backend, &path, fs, request, dry_run)
    }?;
    if request.attach { then_attached(backend, &path, created) } else { Ok(created) }
}

/// What a creation came to, and that the volume has its device.
fn then_attached<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    created: Changed<VolumeInfo>,
) -> Change<VolumeInfo> {
    let created = match created {
        Changed::Done(outcome) => outcome,
        Changed::Planned(mut plan) => {
            let number = plan.steps.last().map_or(1, |step| step.number.saturating_add(1));
            let description = format!("attach {path}, if it is not: its block device is made");
            plan.steps.push(vol_api::PlanStep { number, action: "attach".into(), description, requires: Vec::new() });
            return Ok(Changed::Planned(plan));
        }
    };
    let failed = |error: ApiError| ApiError {
        message: format!("volume {path} is there, but it could not be attached: {}", error.message),
        ..error
    };
    Ok(match attach_volume(backend, path, false).map_err(failed)? {
        Changed::Done(attached) => Changed::Done(Outcome { changed: created.changed || attached.changed, ..attached }),
        planned => planned,
    })
}

fn create_thin<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    fs: Option<FsKind>,
    request: &vol_api::CreateVolume,
    dry_run: bool,
) -> Change<VolumeInfo> {
    super::thick::only_of_thick(request)?;
    let wanted = CreateVolume {
        path: path.clone(),
        pool: request.pool.as_deref().map(|text| parse_field("pool", text)).transpose()?,
        size: bytes("size", &request.size)?,
        mkfs: super::fs::format(fs, request)?,
        fs,
        labels: labels(&request.labels)?,
        reserve: super::life::reserve(request.reserve.as_deref())?.unwrap_or(vol_types::Reserve::None),
        protect: request.protect,
    };
    changed(backend, &path.vg, backend.engine.create_volume(&wanted, dry_run).map_err(from_engine)?, || {
        backend.volume_info(path)
    })
}

pub(super) fn volume_name(path: &VolumePath) -> VolumeName {
    VolumeName { volume: path.volume.clone(), snapshot: None }
}

pub(super) fn snapshot_name(path: &SnapshotPath) -> VolumeName {
    VolumeName { volume: path.volume.volume.clone(), snapshot: Some(path.snapshot.clone()) }
}

/// What to do about a mount namespace.
pub(super) const SEEN_HINT: &str =
    "look for a directive that makes one in `systemctl cat volumed` (docs/service.md lists them), and restart volumed";

/// Refuses to mount where only this daemon would see it: a container would be given the empty directory below.
pub(super) fn mounts_are_seen<H: HostMut + 'static>(backend: &EngineBackend<H>) -> Result<(), ApiError> {
    match &backend.facts.mounts_hidden {
        None => Ok(()),
        Some(why) => Err(ApiError::new(
            ErrorCode::Unsupported,
            format!("nothing is mounted, because nobody else on this host would see it: {why}"),
        )
        .with_hint(SEEN_HINT)),
    }
}

pub fn mount_volume<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    request: &vol_api::Mount,
    dry_run: bool,
) -> Change<VolumeInfo> {
    mounts_are_seen(backend)?;
    let target = Path::new(&request.path);
    let how = MountAs { read_only: request.read_only, whole: request.whole, ..MountAs::default() };
    let done = backend.engine.mount(&path.vg, &volume_name(path), target, how, dry_run);
    let done = done.map_err(|error| {
        let error = from_engine(error);
        let full = |info: &VolumeInfo| info.problems.iter().any(|problem| problem.code == "pool_full");
        match backend.volume_info(path) {
            // The journal cannot be replayed without space: the kernel says no more than that I/O failed.
            Ok(info) if full(&info) => {
                let pool = format!("{}/{}", info.vg, info.pool);
                error.with_hint(format!(
                    "pool {pool} is full, and a file system may need space to be mounted: delete volumes or snapshots first"
                ))
            }
            _ => error,
        }
    });
    changed(backend, &path.vg, done?, || backend.volume_info(path))
}

pub fn unmount_volume<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    dry_run: bool,
) -> Change<VolumeInfo> {
    super::refs::refused(backend, path, dry_run)?;
    let shown = path.to_string();
    // Once more when nobody else can mount it; a dry run leaves references of what is mounted nowhere as they are.
    let needed = |id| match super::refs::in_use(&backend.references, id, &shown) {
        Some(busy) if !dry_run => Err(busy),
        _ => Ok(()),
    };
    let done = backend.engine.unmount_unless(&path.vg, &volume_name(path), None, dry_run, needed);
    changed(backend, &path.vg, done.map_err(from_engine)?, || backend.volume_info(path))
}

pub fn attach_volume<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    dry_run: bool,
) -> Change<VolumeInfo> {
    let done = backend.engine.attach(&path.vg, &volume_name(path), dry_run);
    changed(backend, &path.vg, done.map_err(from_engine)?, || backend.volume_info(path))
}

pub fn attach_volume_read_only<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    dry_run: bool,
) -> Change<VolumeInfo> {
    let done = backend.engine.attach_read_only(&path.vg, &volume_name(path), dry_run);
    changed(backend, &path.vg, done.map_err(from_engine)?, || backend.volume_info(path))
}

pub fn detach_volume<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    dry_run: bool,
) -> Change<VolumeInfo> {
    super::refs::refused(backend, path, dry_run)?;
    let done = backend.engine.detach(&path.vg, &volume_name(path), dry_run);
    changed(backend, &path.vg, done.map_err(from_engine)?, || backend.volume_info(path))
}

pub fn create_snapshot<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    request: &vol_api::CreateSnapshot,
    dry_run: bool,
) -> Change<SnapshotInfo> {
    let path = SnapshotPath {
        volume: VolumePath { vg: parse_field("vg", &request.vg)?, volume: parse_field("volume", &request.volume)? },
        snapshot: parse_field("name", &request.name)?,
    };
    let labels = labels(&request.labels)?;
    let done = backend.engine.create_snapshots(std::slice::from_ref(&path), &labels, dry_run);
    changed(backend, &path.volume.vg, done.map_err(from_engine)?, || backend.snapshot_info(&path))
}

pub fn mount_snapshot<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &SnapshotPath,
    request: &vol_api::Mount,
    dry_run: bool,
) -> Change<SnapshotInfo> {
    mounts_are_seen(backend)?;
    let target = Path::new(&request.path);
    let how = MountAs { read_only: true, whole: request.whole, ..MountAs::default() };
    let done = backend.engine.mount(&path.volume.vg, &snapshot_name(path), target, how, dry_run);
    changed(backend, &path.volume.vg, done.map_err(from_engine)?, || backend.snapshot_info(path))
}

pub fn unmount_snapshot<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &SnapshotPath,
    dry_run: bool,
) -> Change<SnapshotInfo> {
    let done = backend.engine.unmount(&path.volume.vg, &snapshot_name(path), None, dry_run);
    changed(backend, &path.volume.vg, done.map_err(from_engine)?, || backend.snapshot_info(path))
}

fn present(pvs: &[vol_api::PvInfo]) -> usize {
    pvs.iter().filter(|pv| pv.present).count()
}

/// Looks for disks again. A dry run has nothing to plan: what a scan finds, it only finds by looking.
pub fn scan<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    request: &vol_api::ScanRequest,
    dry_run: bool,
) -> Change<ScanInfo> {
    let files = device_paths(&request.files)?;
    if dry_run {
        let mut planned = vol_core::Plan::new("look for volume groups on all disks");
        planned.steps.extend(files.into_iter().map(|file| vol_core::Step::new(vol_core::Action::AttachLoop { file })));
        return Ok(Changed::Planned(plan(&planned)));
    }
    let before = (backend.engine.vgs().len(), present(&backend.pvs(None)?));
    let scanned = backend.engine.scan(&files, true).map_err(from_engine);
    backend.attach_at_boot();
    scanned?;
    let found = ScanInfo { vgs: backend.vgs()?, pvs: backend.pvs(None)? };
    let changed = (found.vgs.len(), present(&found.pvs)) != before || !files.is_empty();
    Ok(Changed::Done(Outcome { changed, object: Some(found), warnings: Vec::new() }))
}
