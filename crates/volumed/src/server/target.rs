//! What the path of a request names.

use vol_api::{ApiError, parse_field};
use vol_docker::Runtime;
use vol_types::{Name, PoolPath, PvId, SnapshotPath, VolumePath};

/// What a path names, read from its parameters.
pub trait Target: Sized + Send + 'static {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError>;
}

/// The parameter `key`; the routes name all that are asked for.
fn param<'a>(params: &'a [(String, String)], key: &str) -> Result<&'a str, ApiError> {
    let found = params.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    found.ok_or_else(|| ApiError::internal(format!("the route has no {key}")))
}

fn name(params: &[(String, String)], key: &str) -> Result<Name, ApiError> {
    parse_field(key, param(params, key)?)
}

impl Target for () {
    fn from_params(_: &[(String, String)]) -> Result<Self, ApiError> {
        Ok(())
    }
}

impl Target for Name {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        name(params, "vg")
    }
}

impl Target for PvId {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        parse_field("id", param(params, "id")?)
    }
}

impl Target for PoolPath {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        Ok(Self { vg: name(params, "vg")?, pool: name(params, "pool")? })
    }
}

/// The text of a job's id; what it means is the backend's to say.
pub struct JobName(pub Name);

impl Target for JobName {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        name(params, "job").map(Self)
    }
}

/// A container engine by its name.
pub struct RuntimeName(pub Runtime);

impl Target for RuntimeName {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        crate::runtimes::named(param(params, "runtime")?).map(Self)
    }
}

impl Target for VolumePath {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        Ok(Self { vg: name(params, "vg")?, volume: name(params, "volume")? })
    }
}

impl Target for SnapshotPath {
    fn from_params(params: &[(String, String)]) -> Result<Self, ApiError> {
        Ok(Self { volume: VolumePath::from_params(params)?, snapshot: name(params, "snapshot")? })
    }
}
