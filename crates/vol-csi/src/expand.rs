//! What becomes of a volume while it is there: it grows, and what can change of it live is changed.

use std::collections::BTreeMap;

use tonic::Code;
use vol_types::{Bytes, Reserve, near};

use crate::capability::Capability;
use crate::controller::{fits, holds, missing, no_such, not_elsewhere};
use crate::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerModifyVolumeRequest,
    ControllerModifyVolumeResponse, NodeExpandVolumeRequest, NodeExpandVolumeResponse,
};
use crate::{Kind, Range, Refused, Volume, Volumes, ids, limits};

/// Every mutable parameter, with what it takes.
pub const MUTABLE: &[(&str, &str)] = &[("reserve", "a size, full, or none")];

/// What can change while a volume is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutable {
    pub reserve: Option<String>,
}

impl Mutable {
    /// Reads mutable parameters.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`: one is not known, or has a value that makes no sense. Nothing counts then.
    pub fn read(given: &BTreeMap<String, String>) -> Result<Self, Refused> {
        limits::map("mutable_parameters", given)?;
        let mut read = Self::default();
        for (key, text) in given {
            let Some((_, takes)) = MUTABLE.iter().find(|(known, _)| known == key) else {
                let known: Vec<_> = MUTABLE.iter().map(|(known, _)| *known).collect();
                let near = near::nearest(key, known.iter().copied());
                let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
                let key: String = key.chars().take(60).collect();
                return Err(Refused::invalid(format!("mutable parameter {key:?} is not known{near}"))
                    .with_hint(format!("what can change while a volume is used is {}", known.join(", "))));
            };
            text.trim().parse::<Reserve>().map_err(|error| {
                Refused::invalid(format!("mutable parameter {key}: {error}")).with_hint(format!("{key} takes {takes}"))
            })?;
            read.reserve = Some(text.trim().to_owned());
        }
        Ok(read)
    }
}

/// A refused growth in words after which a smaller one may be asked for.
fn final_code(refused: Refused) -> Refused {
    match refused.code {
        Code::ResourceExhausted => Refused::new(Code::OutOfRange, refused.error),
        _ => refused,
    }
}

/// Grows it, if it is smaller than what is required.
fn grow(volumes: &dyn Volumes, volume: Volume, range: Range) -> Result<(Volume, bool), Refused> {
    if range.limit > 0 && volume.size > range.limit {
        return Err(Refused::out_of_range(format!(
            "volume {} has {} already, and no volume shrinks",
            volume.path,
            Bytes(volume.size)
        )));
    }
    let size = match volume.size >= range.required {
        true => Bytes(volume.size),
        false => range.choose(Bytes(volume.size), volumes.grain(&volume)?)?,
    };
    if size.get() > volume.size {
        holds(volume.fs, size)?;
    }
    volumes.grow(&volume, size).map_err(final_code)
}

/// Answers `ControllerExpandVolume`; whether it was smaller. File systems in use grow with their volume, others when they are mounted.
///
/// A volume of another machine grows there: whoever asks is told to ask that machine (`NodeExpandVolume`). So one instance that asks
/// for all machines does, wherever it runs. So it is with a volume that is named by its path: each machine may have one.
///
/// # Errors
/// `OUT_OF_RANGE` if there is no room for it: a smaller size may be asked for then.
pub fn controller_expand(
    volumes: &dyn Volumes,
    request: &ControllerExpandVolumeRequest,
) -> Result<(ControllerExpandVolumeResponse, bool), Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    if request.capacity_range.is_none() {
        return Err(Refused::invalid("capacity_range is missing"));
    }
    let range = Range::read(request.capacity_range.as_ref())?;
    if range == Range::default() {
        return Err(Refused::invalid("capacity_range says neither required_bytes nor limit_bytes"));
    }
    let there = || {
        let capacity_bytes = i64::try_from(range.required).unwrap_or(i64::MAX);
        Ok((ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required: true }, false))
    };
    // One of this path may be another machine's as well, and this one is asked for all.
    if ids::is_path(id) {
        return there();
    }
    let Some(volume) = volumes.find(id)? else {
        let settings = volumes.settings();
        if ids::is_elsewhere(id, &settings.node) {
            return there();
        }
        return Err(missing(volumes, id));
    };
    if request.volume_capability.is_some() {
        fits(&volume, &Capability::read(request.volume_capability.as_ref())?)?;
    }
    let (volume, changed) = grow(volumes, volume, range)?;
    let capacity_bytes = i64::try_from(volume.size).unwrap_or(i64::MAX);
    Ok((ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required: false }, changed))
}

/// Answers `NodeExpandVolume`; whether it was smaller.
///
/// # Errors
/// `NOT_FOUND` if it is not at the path that is named, `UNAVAILABLE` if it may be on disks that are away.
pub fn node_expand(
    volumes: &dyn Volumes,
    request: &NodeExpandVolumeRequest,
) -> Result<(NodeExpandVolumeResponse, bool), Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    let at = limits::id("volume_path", &request.volume_path)?;
    let range = Range::read(request.capacity_range.as_ref())?;
    let volume = volumes.find_now(id)?.ok_or_else(|| missing(volumes, id))?;
    let place = at.strip_suffix('/').unwrap_or(at);
    let staged = || volumes.placed(place).is_some_and(|noted| noted.volume == volume.id && volume.attached.is_some());
    if volume.mounted_at(place).is_none() && !staged() {
        return Err(not_there(&volume, at));
    }
    if request.volume_capability.is_some() {
        fits(&volume, &Capability::read(request.volume_capability.as_ref())?)?;
    }
    let (volume, changed) = grow(volumes, volume, range)?;
    Ok((NodeExpandVolumeResponse { capacity_bytes: i64::try_from(volume.size).unwrap_or(i64::MAX) }, changed))
}

/// It is not where it is said to be.
pub(crate) fn not_there(volume: &Volume, at: &str) -> Refused {
    let at: String = at.chars().take(200).collect();
    Refused::not_found(format!("volume {} is not at {at:?}", volume.path))
}

/// Answers `ControllerModifyVolume`; whether anything was otherwise.
///
/// # Errors
/// `INVALID_ARGUMENT`, also for a volume that is named by its path, or `FAILED_PRECONDITION` for one of another machine; nothing is changed.
pub fn modify(
    volumes: &dyn Volumes,
    request: &ControllerModifyVolumeRequest,
) -> Result<(ControllerModifyVolumeResponse, bool), Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    let mutable = Mutable::read(&request.mutable_parameters)?;
    if ids::is_path(id) {
        return Err(Refused::invalid(format!("{id} is a path, and each machine may have a volume of this path"))
            .with_hint("change it with volctl on its machine, or name it in the PersistentVolume by the handle that `volctl volume show` tells"));
    }
    let Some(volume) = volumes.find(id)? else {
        // It is there, so that it cannot be found would be a reason to give up.
        not_elsewhere(volumes, Kind::Volume, id)?;
        return Err(no_such(id));
    };
    let changed = volumes.modify(&volume, &mutable)?;
    Ok((ControllerModifyVolumeResponse {}, changed))
}
