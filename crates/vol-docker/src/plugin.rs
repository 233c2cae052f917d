//! What an engine is answered. It keeps no state: what there is, the daemon knows ([`Volumes`]).
//!
//! Each request may come again, since an engine that heard no answer cannot know what became of it: making what is there, removing what is
//! not, and unmounting what is not mounted succeed.

use serde_json::{Map, Value, json};
use vol_api::{ApiError, ErrorCode};
use vol_types::Bytes;

use crate::{EngineName, Options, Request, Settings};

/// A volume as its engine sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    /// The engine's own name of it.
    pub name: String,
    /// `VG/VOLUME`.
    pub path: String,
    /// Where it is mounted for this engine, if it is.
    pub mountpoint: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    pub size_bytes: u64,
    /// `none` of a raw volume.
    pub fs: String,
    /// The options that it was made with, as [`Options::record`] has them; `None` of a volume that was made otherwise.
    pub options: Option<String>,
    /// For people who inspect it.
    pub status: Map<String, Value>,
}

/// What the daemon does for an engine. Names are looked up each time; two volumes of one name are an error that names both.
pub trait Volumes {
    /// The configuration of the moment.
    fn settings(&self) -> Settings;
    /// The engine was started anew: the mounts that it has are not sure any more until it names them again.
    fn activated(&self);
    fn find(&self, name: &EngineName) -> Result<Option<Volume>, ApiError>;
    fn list(&self) -> Result<Vec<Volume>, ApiError>;
    /// Makes it; it was not there a moment ago. It may be prepared further after that.
    fn create(&self, name: &EngineName, options: &Options) -> Result<(), ApiError>;
    /// Whether it was there.
    fn remove(&self, name: &EngineName) -> Result<bool, ApiError>;
    /// Notes that `id` uses it, and answers where it is mounted, which it is now.
    fn mount(&self, name: &EngineName, id: &str) -> Result<String, ApiError>;
    /// Notes that `id` uses it once less; whether that was known.
    fn unmount(&self, name: &EngineName, id: &str) -> Result<bool, ApiError>;
}

/// An answer that is no error.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub body: Value,
    /// Something is not as it was before.
    pub changed: bool,
}

/// Answers a request.
///
/// # Errors
/// What is to be told to the engine, as [`crate::protocol::error`] has it.
pub fn answer(volumes: &dyn Volumes, request: &Request) -> Result<Reply, ApiError> {
    let read = |body: Value| Ok(Reply { body, changed: false });
    match request {
        Request::Activate => {
            volumes.activated();
            read(json!({ "Implements": ["VolumeDriver"] }))
        }
        // Volumes of this machine alone: another one has others under the same names.
        Request::Capabilities => read(json!({ "Capabilities": { "Scope": "local" } })),
        Request::List => {
            let all: Vec<_> = volumes.list()?.iter().map(shown).collect();
            read(json!({ "Volumes": all, "Err": "" }))
        }
        Request::Get(name) => {
            let volume = there(volumes, name)?;
            let mut body = shown(&volume);
            body["Status"] = Value::Object(volume.status);
            read(json!({ "Volume": body, "Err": "" }))
        }
        Request::Path(name) => {
            read(json!({ "Mountpoint": there(volumes, name)?.mountpoint.unwrap_or_default(), "Err": "" }))
        }
        Request::Create(name, given) => {
            let options = Options::read(given, &volumes.settings())?;
            let changed = match volumes.find(name)? {
                Some(present) => same(&present, &options).map(|()| false)?,
                None => volumes.create(name, &options).map(|()| true)?,
            };
            Ok(Reply { body: json!({ "Err": "" }), changed })
        }
        Request::Remove(name) => {
            let changed = volumes.remove(name)?;
            Ok(Reply { body: json!({ "Err": "" }), changed })
        }
        Request::Mount(name, id) => {
            let mountpoint = volumes.mount(name, id)?;
            Ok(Reply { body: json!({ "Mountpoint": mountpoint, "Err": "" }), changed: true })
        }
        Request::Unmount(name, id) => {
            let changed = volumes.unmount(name, id)?;
            Ok(Reply { body: json!({ "Err": "" }), changed })
        }
    }
}

fn there(volumes: &dyn Volumes, name: &EngineName) -> Result<Volume, ApiError> {
    volumes.find(name)?.ok_or_else(|| no_such(name))
}

/// There is none of this name for the engine.
pub fn no_such(name: &EngineName) -> ApiError {
    ApiError::not_found(format!("no such volume: {name}"))
}

fn shown(volume: &Volume) -> Value {
    json!({
        "Name": volume.name,
        "Mountpoint": volume.mountpoint.as_deref().unwrap_or_default(),
        "CreatedAt": volume.created_at,
    })
}

/// Whether a volume that is there is the one that is asked for. What became of it since is nobody's conflict: it may have grown.
fn same(present: &Volume, options: &Options) -> Result<(), ApiError> {
    let differs = match &present.options {
        Some(record) if *record == options.record => None,
        Some(record) => Some(format!("it was made with the options {record}, not {}", options.record)),
        None if options.size_given && present.size_bytes < options.size.get() => {
            Some(format!("it has {}, not {}", Bytes(present.size_bytes), options.size))
        }
        None if options.fs_given && present.fs != options.fs.map_or("none", |fs| fs.as_str()) => {
            Some(format!("its file system is {}", present.fs))
        }
        None => None,
    };
    match differs {
        None => Ok(()),
        Some(why) => Err(ApiError::new(
            ErrorCode::Exists,
            format!("there is a volume {} already ({}), and it is another one: {why}", present.name, present.path),
        )
        .with_hint("choose another name, or ask with the options that it was made with")),
    }
}
