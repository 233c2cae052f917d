//! Growing volumes, and looking after their file systems.

use vol_api::{ApiError, Changed, Outcome, TrimInfo, VolumeInfo};
use vol_core::plan::fs::NewSize;
use vol_engine::host::HostMut;
use vol_types::mkfs::parse_mode;
use vol_types::{FsKind, MkfsOptionError, MkfsOptions, Name, RootDir, VolumePath, parse_bytes};

use super::EngineBackend;
use super::change::{changed, volume_name};
use super::error::from_engine;
use crate::api::Change;

/// `40G`, or `+10G`.
fn new_size(text: &str) -> Result<NewSize, ApiError> {
    let (more, size) = match text.trim().strip_prefix('+') {
        Some(more) => (true, more),
        None => (false, text),
    };
    let size = parse_bytes(size).map_err(|error| ApiError::invalid(format!("size: {error}")))?;
    Ok(if more { NewSize::By(size) } else { NewSize::To(size) })
}

/// What a request says of the new file system.
pub(super) fn format(fs: Option<FsKind>, request: &vol_api::CreateVolume) -> Result<MkfsOptions, ApiError> {
    let invalid = |field: &str, error: MkfsOptionError| {
        ApiError::invalid(format!("{field}{error}")).with_hint("see docs/file-systems.md for what can be asked for")
    };
    let owner = request.owner.as_deref().map(str::parse).transpose().map_err(|error| invalid("owner: ", error))?;
    let mode = request.mode.as_deref().map(parse_mode).transpose().map_err(|error| invalid("mode: ", error))?;
    let subdir = request.subdir.as_deref().map(Name::new).transpose();
    let subdir = subdir.map_err(|error| {
        ApiError::invalid(format!("subdir: {error}"))
            .with_hint("a directory is named as a volume is, for example `data`")
    })?;
    let root = RootDir { subdir, owner, mode, empty: request.empty_root };
    let Some(fs) = fs else {
        if request.mkfs_options.is_empty() && root.is_usual() {
            return Ok(MkfsOptions::default());
        }
        return Err(ApiError::invalid(
            "a raw volume is not formatted: it has no options for mkfs, no root directory, and no sub-directory",
        ));
    };
    let mut options = MkfsOptions::parse(fs, &request.mkfs_options).map_err(|error| invalid("", error))?;
    options.root = root;
    Ok(options)
}

pub fn resize<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    request: &vol_api::ResizeVolume,
    dry_run: bool,
) -> Change<VolumeInfo> {
    let new = new_size(&request.size)?;
    let place = super::space::place((&request.on, &request.not_on), &request.on_labels, request.contiguous)?;
    let done = backend.engine.resize_volume_on(&path.vg, &volume_name(path), new, &place, dry_run).map_err(|error| {
        // The size is recorded before anything grows.
        match backend.volume_info(path) {
            Ok(_) if matches!(error, vol_engine::EngineError::Step(_)) => from_engine(error).with_hint(
                "the size that `volctl volume show` tells is recorded; ask for it again to go on, or mount the volume anew",
            ),
            _ => from_engine(error),
        }
    });
    changed(backend, &path.vg, done?, || backend.volume_info(path))
}

pub fn check<H: HostMut + 'static>(
    backend: &EngineBackend<H>,
    path: &VolumePath,
    request: &vol_api::CheckVolume,
    dry_run: bool,
) -> Change<VolumeInfo> {
    let done = backend.engine.check_volume(&path.vg, &volume_name(path), request.repair, dry_run);
    changed(backend, &path.vg, done.map_err(from_engine)?, || backend.volume_info(path))
}

pub fn trim<H: HostMut + 'static>(backend: &EngineBackend<H>, path: &VolumePath, dry_run: bool) -> Change<TrimInfo> {
    let trimmed = backend.engine.trim_volume(&path.vg, &volume_name(path), dry_run).map_err(from_engine)?;
    let Some(trimmed) = trimmed else {
        // One call, and no step of a plan: nothing that is recorded changes.
        let title = format!("discard what the file system of {path} does not use");
        return Ok(Changed::Planned(vol_api::Plan { title, changes: true, steps: Vec::new() }));
    };
    let object = TrimInfo { trimmed_bytes: trimmed.get(), volume: backend.volume_info(path)? };
    Ok(Changed::Done(Outcome { changed: !trimmed.is_zero(), object: Some(object), warnings: Vec::new() }))
}
