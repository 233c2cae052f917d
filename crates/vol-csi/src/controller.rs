//! The service Controller. What is made on this machine is used on this machine: nothing is attached anywhere.

use tonic::Code;
use vol_api::{ApiError, ErrorCode};
use vol_types::{Bytes, FsKind};

use crate::capability::Capability;
use crate::csi::controller_service_capability::{Rpc as Ability, Type, rpc};
use crate::csi::volume_content_source::Type as Content;
use crate::csi::{
    ControllerGetCapabilitiesResponse, ControllerGetVolumeRequest, ControllerGetVolumeResponse,
    ControllerServiceCapability, CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest, DeleteVolumeResponse,
    GetCapacityRequest, GetCapacityResponse, ListVolumesRequest, ListVolumesResponse, Topology, TopologyRequirement,
    ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse, Volume as Told, VolumeContentSource,
    controller_get_volume_response, list_volumes_response, validate_volume_capabilities_response,
};
use crate::volumes::SIZE_DEFAULT;
use crate::{CsiName, Kind, Mutable, Params, Range, Refused, Settings, Source, Volume, Volumes, Wanted, ids, limits};

/// Answers `ControllerGetCapabilities`.
pub fn capabilities(settings: &Settings) -> ControllerGetCapabilitiesResponse {
    use rpc::Type::{
        CloneVolume, CreateDeleteSnapshot, CreateDeleteVolume, ExpandVolume, GetCapacity, GetSnapshot, GetVolume,
        GetVolumeHealth, ListSnapshots, ListVolumeHealth, ListVolumes, ModifyVolume, SingleNodeMultiWriter,
    };
    let one = |ability: rpc::Type| ControllerServiceCapability {
        r#type: Some(Type::Rpc(Ability { r#type: ability.into() })),
    };
    let all = [
        CreateDeleteVolume,
        ListVolumes,
        GetCapacity,
        CreateDeleteSnapshot,
        ListSnapshots,
        CloneVolume,
        ExpandVolume,
        GetVolume,
        SingleNodeMultiWriter,
        ModifyVolume,
        GetSnapshot,
    ];
    let health = [GetVolumeHealth, ListVolumeHealth].into_iter().filter(|_| settings.v1_13);
    ControllerGetCapabilitiesResponse { capabilities: all.into_iter().chain(health).map(one).collect() }
}

/// Answers `CreateVolume`; whether it was made now.
///
/// # Errors
/// What the client is to hear. If it is that there is no volume yet, nothing is left of it but what a repetition goes on with.
pub fn create_volume(
    volumes: &dyn Volumes,
    request: &CreateVolumeRequest,
) -> Result<(CreateVolumeResponse, bool), Refused> {
    let settings = volumes.settings();
    let name = CsiName::new(&request.name)?;
    let capabilities = Capability::read_all(&request.volume_capabilities)?;
    let params = Params::read(&request.parameters, &capabilities, &volumes.settings().profiles)?;
    let range = Range::read(request.capacity_range.as_ref())?;
    // They count before parameters of the same name.
    let mutable = Mutable::read(&request.mutable_parameters)?;
    let params = match &mutable.reserve {
        Some(reserve) => {
            let recorded = params.recording(&[("reserve", reserve)]);
            Params { reserve: Some(reserve.clone()), ..recorded }
        }
        None => params,
    };
    let (params, source) = match &request.volume_content_source {
        Some(source) => {
            let (required, limit) = (range.required.to_string(), range.limit.to_string());
            let id = source_id(source)?;
            let own = ids::parse(id).map_or(id, |(id, _)| id);
            (params.recording(&[("from", own), ("required", &required), ("limit", &limit)]), Some(source))
        }
        None => (params, None),
    };
    let told = |volume: &Volume| {
        let content_source = request.volume_content_source.clone();
        CreateVolumeResponse { volume: Some(Told { content_source, ..shown(&settings, volume) }) }
    };
    // What is there counts before where it may be: a repetition is answered as the first request was.
    let present = volumes.named(&name)?;
    if let Some(present) = &present {
        same(present, &params, range, source.is_some())?;
        if present.ready && range.has(present.size) {
            return Ok((told(present), false));
        }
        // It is being made, or was when the daemon ended: whoever asks for the same goes on with it.
    }
    reachable(&settings, request.accessibility_requirements.as_ref())?;
    let made = match source {
        None => {
            let room = volumes.room(&params).map_err(scheduled_anew)?;
            let size = range.choose(params.size.or(settings.size).unwrap_or(SIZE_DEFAULT), room.grain)?;
            holds(params.fs, size)?;
            flags_of(params.fs, &capabilities)?;
            volumes.create(&name, &Wanted { room, size, params, ephemeral: false })?
        }
        Some(source) => from_source(volumes, &name, present, (source, &params, &capabilities), range)?,
    };
    Ok((told(&made), true))
}

/// Another machine may have the pool that this one lacks: a provisioner that hears of `RESOURCE_EXHAUSTED` has the pod scheduled anew.
fn scheduled_anew(refused: Refused) -> Refused {
    match refused.error.code {
        ErrorCode::NotFound => Refused::new(Code::ResourceExhausted, refused.error),
        _ => refused,
    }
}

/// That a file system can be as large or small.
///
/// # Errors
/// `OUT_OF_RANGE`.
pub(crate) fn holds(fs: Option<FsKind>, size: Bytes) -> Result<(), Refused> {
    match fs {
        Some(fs) if size < fs.size_min() || size > fs.size_max() => Err(Refused::out_of_range(format!(
            "{} is not made of {size}: it takes {} to {}",
            fs.as_str(),
            fs.size_min(),
            fs.size_max()
        ))),
        _ => Ok(()),
    }
}

/// That the flags of each mount are options of its file system.
///
/// # Errors
/// `INVALID_ARGUMENT`.
pub(crate) fn flags_of(fs: Option<FsKind>, capabilities: &[Capability]) -> Result<(), Refused> {
    let Some(fs) = fs else { return Ok(()) };
    capabilities
        .iter()
        .try_for_each(|one| one.flags.of(fs))
        .map_err(|error| Refused::invalid(format!("mount_flags: {error}")))
}

/// The id of what a volume is to be made from.
fn source_id(source: &VolumeContentSource) -> Result<&str, Refused> {
    match &source.r#type {
        Some(Content::Snapshot(one)) => limits::id("volume_content_source.snapshot_id", &one.snapshot_id),
        Some(Content::Volume(one)) => limits::id("volume_content_source.volume_id", &one.volume_id),
        None => Err(Refused::invalid("volume_content_source names neither a snapshot nor a volume")),
    }
}

/// Makes a volume from another or a snapshot, or goes on with one; it may be larger than that.
fn from_source(
    volumes: &dyn Volumes,
    name: &CsiName,
    present: Option<Volume>,
    (source, params, capabilities): (&VolumeContentSource, &Params, &[Capability]),
    range: Range,
) -> Result<Volume, Refused> {
    let id = source_id(source)?;
    if ids::is_path(id) {
        return Err(Refused::invalid(format!(
            "{id}: a volume is made from another one by that one's whole id, not by its path"
        ))
        .with_hint(
            "each machine may have a volume of this path: name it by the handle that `volctl volume show` tells",
        ));
    }
    let (kind, found) = match &source.r#type {
        Some(Content::Snapshot(_)) => (Kind::Snapshot, volumes.find_snapshot(id)?.map(Source::Snapshot)),
        _ => (Kind::Volume, volumes.find(id)?.map(Source::Volume)),
    };
    let Some(source) = found else {
        let settings = volumes.settings();
        if ids::is_elsewhere(id, &settings.node) {
            let error = ApiError::new(ErrorCode::NoSpace, "what the volume is to be made from is on another machine");
            return Err(Refused::new(Code::ResourceExhausted, error));
        }
        volumes.not_away(kind, id)?;
        return Err(Refused::not_found("there is no such snapshot or volume to make the volume from"));
    };
    let path = source.path();
    let kind = |fs: Option<FsKind>| fs.map_or("no file system", FsKind::as_str);
    if source.fs().is_some() != params.fs.is_some() || (params.fs_given && source.fs() != params.fs) {
        let (has, asked) = (kind(source.fs()), kind(params.fs));
        return Err(Refused::invalid(format!("{path} has {has}, and the volume is asked for with {asked}")));
    }
    flags_of(source.fs(), capabilities)?;
    if params.pool.is_some() {
        // Not that there is nothing to make it from.
        let room = volumes.room(params).map_err(|refused| match refused.code {
            Code::NotFound => Refused::new(Code::InvalidArgument, refused.error),
            _ => refused,
        })?;
        let asked = room.pool.map_or(String::new(), |pool| format!("{}/{pool}", room.vg));
        if asked != source.pool() {
            return Err(Refused::invalid(format!(
                "{path} is in {}, and the volume is asked for in {asked}",
                source.pool()
            ))
            .with_hint("what is made from a volume or snapshot is made in its pool: use a StorageClass of that"));
        }
    }
    if range.limit > 0 && range.limit < source.size() {
        return Err(Refused::out_of_range(format!("{path} has {}, more than limit_bytes", Bytes(source.size()))));
    }
    // An exact copy is as its source is.
    if range.required > source.size() {
        holds(source.fs(), Bytes(range.required))?;
    }
    let made = match present {
        Some(present) if present.ready => present,
        _ => volumes.clone_of(&source, name, params)?,
    };
    let size = Range { required: range.required.max(source.size()), ..range };
    let size = size.choose(Bytes(source.size()), volumes.grain(&made)?)?;
    if made.size >= size.get() { Ok(made) } else { Ok(volumes.grow(&made, size)?.0) }
}

/// Whether a volume that is there is the one that is asked for.
fn same(present: &Volume, params: &Params, range: Range, is_clone: bool) -> Result<(), Refused> {
    let differs = |why: String| {
        let name = present.name.as_deref().unwrap_or_default();
        Err(Refused::exists(format!(
            "there is a volume {name} already ({}), and it is another one: {why}",
            present.path
        )))
    };
    // One that is made from something smaller is that large at first.
    let grows = is_clone && present.size < range.required;
    if !range.has(present.size) && !grows {
        return differs(format!("it has {} bytes", present.size));
    }
    match &present.record {
        Some(record) if *record != params.record => {
            differs(format!("it was asked for with {record}, not with {}", params.record))
        }
        _ => Ok(()),
    }
}

/// That the volume is wanted here, if it is said where. A provisioner that hears of `RESOURCE_EXHAUSTED` has the pod scheduled anew.
pub(crate) fn reachable(settings: &Settings, requirement: Option<&TopologyRequirement>) -> Result<(), Refused> {
    let Some(requirement) = requirement else { return Ok(()) };
    let all = if requirement.requisite.is_empty() { &requirement.preferred } else { &requirement.requisite };
    if all.is_empty() || all.iter().any(|one| settings.is_here(one)) {
        return Ok(());
    }
    Err(Refused::new(
        Code::ResourceExhausted,
        ApiError::new(
            ErrorCode::NoSpace,
            format!("it is wanted on other machines than this one, which is {}", settings.node),
        ),
    ))
}

fn shown(settings: &Settings, volume: &Volume) -> Told {
    Told {
        capacity_bytes: bytes(volume.size),
        volume_id: ids::told(&volume.id, &settings.node),
        accessible_topology: vec![settings.topology()],
        ..Told::default()
    }
}

fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Answers `DeleteVolume`; whether there was one.
///
/// # Errors
/// `FAILED_PRECONDITION` if it is in use or protected.
pub fn delete_volume(
    volumes: &dyn Volumes,
    request: &DeleteVolumeRequest,
) -> Result<(DeleteVolumeResponse, bool), Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    let Some(volume) = volumes.find_now(id)? else {
        not_elsewhere(volumes, Kind::Volume, id)?;
        return Ok((DeleteVolumeResponse {}, false));
    };
    if volume.protected {
        return Err(Refused::precondition(format!("volume {} is protected", volume.path))
            .with_hint(format!("volctl volume unprotect {} takes the protection away", volume.path)));
    }
    if let Some((at, _)) = volume.mounts.first() {
        return Err(Refused::precondition(format!("volume {} is in use: it is mounted at {at}", volume.path)));
    }
    volumes.delete(&volume).map_err(|refused| match refused.error.code {
        ErrorCode::Busy => Refused::new(Code::FailedPrecondition, refused.error),
        _ => refused,
    })?;
    Ok((DeleteVolumeResponse {}, true))
}

/// Answers `ValidateVolumeCapabilities`. What cannot be is no error: it is not confirmed, and said why.
///
/// # Errors
/// `NOT_FOUND`, or that something is missing.
pub fn validate(
    volumes: &dyn Volumes,
    request: &ValidateVolumeCapabilitiesRequest,
) -> Result<ValidateVolumeCapabilitiesResponse, Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    if request.volume_capabilities.is_empty() {
        return Err(Refused::invalid("volume_capabilities are missing"));
    }
    let volume = volumes.find(id)?.ok_or_else(|| no_such(id))?;
    let possible = Capability::read_all(&request.volume_capabilities).and_then(|all| {
        all.iter().try_for_each(|one| fits(&volume, one))?;
        Params::read(&request.parameters, &all, &volumes.settings().profiles).map(drop)
    });
    Ok(match possible {
        Ok(()) => ValidateVolumeCapabilitiesResponse {
            confirmed: Some(validate_volume_capabilities_response::Confirmed {
                volume_context: request.volume_context.clone(),
                volume_capabilities: request.volume_capabilities.clone(),
                parameters: request.parameters.clone(),
                mutable_parameters: request.mutable_parameters.clone(),
            }),
            message: String::new(),
        },
        Err(refused) => ValidateVolumeCapabilitiesResponse { confirmed: None, message: refused.error.message },
    })
}

/// Whether a volume can be used as a capability says.
///
/// # Errors
/// `INVALID_ARGUMENT` with what it is instead.
pub fn fits(volume: &Volume, capability: &Capability) -> Result<(), Refused> {
    let path = &volume.path;
    match (volume.fs, capability.block) {
        (Some(fs), true) => Err(Refused::invalid(format!(
            "volume {path} has a file system ({}), and is not handed out as a block device",
            fs.as_str()
        ))),
        (None, false) => Err(Refused::invalid(format!("volume {path} is a raw block device: it has no file system"))),
        (Some(fs), false) if capability.fs.is_some_and(|asked| asked != fs) => {
            let asked = capability.fs.map_or("", |fs| fs.as_str());
            Err(Refused::invalid(format!("volume {path} has the file system {}, not {asked}", fs.as_str())))
        }
        (fs, _) => flags_of(fs, std::slice::from_ref(capability)),
    }
}

/// That an id of nothing that is here is not that of something on another machine, which alone can do anything about it, nor of something
/// on disks of this one that are away.
///
/// # Errors
/// `FAILED_PRECONDITION`, `UNAVAILABLE`, `ABORTED`: all are asked again.
pub(crate) fn not_elsewhere(volumes: &dyn Volumes, kind: Kind, id: &str) -> Result<(), Refused> {
    let node = volumes.settings().node;
    if !ids::is_elsewhere(id, &node) {
        return volumes.not_away(kind, id);
    }
    Err(Refused::precondition(format!("{id:?} was made on another machine, and is not on this one, which is {node}"))
        .with_hint("ask the driver of its machine; if that is gone for good with its disks, nothing is left to be done, and the object can go"))
}

/// What is said of a volume that was not found: that there is none of this id, or that it may be on disks of this machine that are away.
pub(crate) fn missing(volumes: &dyn Volumes, id: &str) -> Refused {
    volumes.not_away(Kind::Volume, id).err().unwrap_or_else(|| no_such(id))
}

/// There is none of this id.
pub fn no_such(id: &str) -> Refused {
    Refused::not_found(format!(
        "there is no volume with the id {:?}",
        id.chars().take(limits::TEXT_MAX).collect::<String>()
    ))
}

/// Answers `ListVolumes`. A token is the id of the next volume: what is made or deleted between two pages costs none that was there.
///
/// # Errors
/// `ABORTED` for a token that is none, `INVALID_ARGUMENT` for a negative number.
pub fn list_volumes(volumes: &dyn Volumes, request: &ListVolumesRequest) -> Result<ListVolumesResponse, Refused> {
    let settings = volumes.settings();
    let all = volumes.list()?;
    let (page, next_token) = page(&all, request.max_entries, &request.starting_token, |one| &one.id)?;
    let entry = |volume: &Volume| list_volumes_response::Entry { volume: Some(shown(&settings, volume)) };
    Ok(ListVolumesResponse { entries: page.iter().map(entry).collect(), next_token })
}

/// A page of a list that is sorted by ids, and the token of the next one.
pub fn page<'a, T>(
    all: &'a [T],
    most: i32,
    token: &str,
    id: impl Fn(&T) -> &str,
) -> Result<(&'a [T], String), Refused> {
    let most = usize::try_from(most).map_err(|_| Refused::invalid(format!("max_entries is negative: {most}")))?;
    let begin = match token {
        "" => 0,
        token if ids::parse(token).is_some() => all.partition_point(|one| id(one) < token),
        _ => {
            let aborted = ApiError::invalid("starting_token is none that volumed gave: begin anew without one");
            return Err(Refused::new(Code::Aborted, aborted));
        }
    };
    let rest = all.get(begin..).unwrap_or_default();
    let (page, next) = if most == 0 || rest.len() <= most { (rest, &[][..]) } else { rest.split_at(most) };
    Ok((page, next.first().map_or_else(String::new, |one| id(one).to_owned())))
}

/// Answers `GetCapacity`: the largest volume that could be made, which is what a scheduler wants to know.
///
/// # Errors
/// `INVALID_ARGUMENT` for parameters and capabilities that no volume can be made with.
pub fn get_capacity(volumes: &dyn Volumes, request: &GetCapacityRequest) -> Result<GetCapacityResponse, Refused> {
    let elsewhere = |topology: &Topology| !volumes.settings().is_here(topology);
    if request.accessible_topology.as_ref().is_some_and(elsewhere) {
        return Ok(GetCapacityResponse { maximum_volume_size: Some(0), ..GetCapacityResponse::default() });
    }
    let capabilities = match request.volume_capabilities.as_slice() {
        [] => Vec::new(),
        some => Capability::read_all(some)?,
    };
    let params = Params::read(&request.parameters, &capabilities, &volumes.settings().profiles)?;
    let room = match volumes.room(&params) {
        // No pool yet: no room, and no error, for it is asked every minute.
        Err(refused) if refused.code == Code::NotFound => return Ok(GetCapacityResponse::default()),
        other => other?,
    };
    let least = params.fs.map_or(room.grain, |fs| fs.size_min().get());
    let largest =
        params.fs.map_or(room.available, |fs| room.available.min(fs.size_max().get() / room.grain.max(1) * room.grain));
    Ok(GetCapacityResponse {
        available_capacity: bytes(room.available),
        maximum_volume_size: Some(bytes(largest)),
        minimum_volume_size: Some(bytes(least)),
    })
}

/// Answers `ControllerGetVolume`.
///
/// # Errors
/// `NOT_FOUND`.
pub fn get_volume(
    volumes: &dyn Volumes,
    request: &ControllerGetVolumeRequest,
) -> Result<ControllerGetVolumeResponse, Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    let volume = volumes.find(id)?.ok_or_else(|| no_such(id))?;
    Ok(ControllerGetVolumeResponse {
        volume: Some(shown(&volumes.settings(), &volume)),
        status: Some(controller_get_volume_response::VolumeStatus { published_node_ids: Vec::new() }),
    })
}
