//! Version 1 of Docker's plugin protocol, as far as volumes go: `POST` of JSON to one of nine paths, JSON back, errors as `{"Err": …}`.
//!
//! Fields of a request that are not known are passed over, since engines send more from version to version. A body that is missing where one
//! is needed is refused: dockerd repeats a request whose connection broke off with an empty one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use vol_api::ApiError;

use crate::EngineName;

/// What answers are, as the engines say it in `Accept`.
pub const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// The longest id of a mount, in bytes; those of the engines have 64.
const MOUNT_ID_MAX: usize = 255;

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Activate,
    Create,
    Remove,
    Mount,
    Unmount,
    Path,
    Get,
    List,
    Capabilities,
}

impl Call {
    pub const ALL: [Self; 9] = [
        Self::Activate,
        Self::Create,
        Self::Remove,
        Self::Mount,
        Self::Unmount,
        Self::Path,
        Self::Get,
        Self::List,
        Self::Capabilities,
    ];

    /// The path of its requests.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Activate => "/Plugin.Activate",
            Self::Create => "/VolumeDriver.Create",
            Self::Remove => "/VolumeDriver.Remove",
            Self::Mount => "/VolumeDriver.Mount",
            Self::Unmount => "/VolumeDriver.Unmount",
            Self::Path => "/VolumeDriver.Path",
            Self::Get => "/VolumeDriver.Get",
            Self::List => "/VolumeDriver.List",
            Self::Capabilities => "/VolumeDriver.Capabilities",
        }
    }

    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.path() == path)
    }

    /// Whether it is of those that change something.
    pub const fn is_change(self) -> bool {
        matches!(self, Self::Create | Self::Remove | Self::Mount | Self::Unmount)
    }
}

/// What an engine asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Activate,
    /// The options as they were given; what they mean says [`crate::Options`].
    Create(EngineName, BTreeMap<String, String>),
    Remove(EngineName),
    /// With the id of the mount.
    Mount(EngineName, String),
    Unmount(EngineName, String),
    Path(EngineName),
    Get(EngineName),
    List,
    Capabilities,
}

/// The fields of all requests; `null` is the same as none.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fields {
    name: Option<String>,
    #[serde(rename = "ID")]
    id: Option<String>,
    opts: Option<BTreeMap<String, Value>>,
}

impl Request {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// `invalid`: there is none where one is needed, or it is not what belongs there. Nothing has been done then.
    pub fn read(call: Call, body: &[u8]) -> Result<Self, ApiError> {
        match call {
            Call::Activate => return Ok(Self::Activate),
            Call::List => return Ok(Self::List),
            Call::Capabilities => return Ok(Self::Capabilities),
            _ => {}
        }
        let fields = fields(body)?;
        let name = EngineName::new(fields.name.as_deref().unwrap_or_default())?;
        Ok(match call {
            Call::Create => Self::Create(name, texts(fields.opts.unwrap_or_default())?),
            Call::Remove => Self::Remove(name),
            Call::Mount => Self::Mount(name, mount_id(fields.id)?),
            Call::Unmount => Self::Unmount(name, mount_id(fields.id)?),
            Call::Path => Self::Path(name),
            Call::Get | Call::Activate | Call::List | Call::Capabilities => Self::Get(name),
        })
    }

    /// The volume that it is about.
    pub const fn name(&self) -> Option<&EngineName> {
        match self {
            Self::Create(name, _)
            | Self::Remove(name)
            | Self::Mount(name, _)
            | Self::Unmount(name, _)
            | Self::Path(name)
            | Self::Get(name) => Some(name),
            Self::Activate | Self::List | Self::Capabilities => None,
        }
    }
}

fn fields(body: &[u8]) -> Result<Fields, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::invalid(
            "the request has no body, so nothing was done: the connection of an earlier one broke off, and it was repeated without it",
        )
        .with_hint("do it again; if volumed was just restarted, that is why"));
    }
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::invalid("the body is no JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(format!("the body is not understood: {error}")))
}

fn texts(options: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, ApiError> {
    let text = |(key, value)| match value {
        Value::String(text) => Ok((key, text)),
        other => Err(ApiError::invalid(format!("option {key}: a text belongs here, not {other}"))),
    };
    options.into_iter().map(text).collect()
}

fn mount_id(id: Option<String>) -> Result<String, ApiError> {
    let id = id.unwrap_or_default();
    if id.len() > MOUNT_ID_MAX || id.chars().any(char::is_control) {
        return Err(ApiError::invalid(format!(
            "the id of a mount has at most {MOUNT_ID_MAX} bytes and no control characters"
        )));
    }
    Ok(id)
}

/// The body of an error: all that helps, in one text, for engines show nothing else.
pub fn error(error: &ApiError) -> Value {
    let mut text = error.message.clone();
    for more in error.details.iter().chain(error.hint.as_ref()) {
        text.push_str("; ");
        text.push_str(more);
    }
    json!({ "Err": text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_the_engines_send_them() {
        let name = |text: &str| EngineName::new(text).unwrap();
        let none = BTreeMap::new();
        for (call, body, expected) in [
            (Call::Activate, "", Request::Activate),
            (Call::List, "{}", Request::List),
            (Call::List, "", Request::List),
            (Call::Capabilities, "{}", Request::Capabilities),
            (Call::Create, r#"{"Name":"pg","Opts":null}"#, Request::Create(name("pg"), none.clone())),
            (Call::Create, r#"{"Name":"pg"}"#, Request::Create(name("pg"), none.clone())),
            (Call::Create, r#"{"Name":"pg","Opts":{},"Labels":{"a":1}}"#, Request::Create(name("pg"), none)),
            (
                Call::Create,
                r#"{"Name":"pg","Opts":{"size":"1G"}}"#,
                Request::Create(name("pg"), [("size".into(), "1G".into())].into()),
            ),
            (Call::Mount, r#"{"Name":"pg","ID":"b87"}"#, Request::Mount(name("pg"), "b87".into())),
            (Call::Mount, r#"{"Name":"pg"}"#, Request::Mount(name("pg"), String::new())),
            (Call::Unmount, " \n{\"ID\":\"b87\",\"Name\":\"pg\"}\n", Request::Unmount(name("pg"), "b87".into())),
            (Call::Get, r#"{"Name":"pg"}"#, Request::Get(name("pg"))),
            (Call::Path, r#"{"Name":"pg"}"#, Request::Path(name("pg"))),
            (Call::Remove, r#"{"Name":"pg"}"#, Request::Remove(name("pg"))),
        ] {
            assert_eq!(Request::read(call, body.as_bytes()).unwrap(), expected, "{call:?} {body}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_says_why() {
        let long = format!(r#"{{"Name":"pg","ID":"{}"}}"#, "x".repeat(300));
        for (body, why) in [
            ("", "has no body"),
            (" \r\n", "has no body"),
            ("[]", "no JSON object"),
            ("null", "no JSON object"),
            ("{", "not understood"),
            ("{\"Name\":\"pg\"", "not understood"),
            ("{}", "names no volume"),
            (r#"{"Name":null}"#, "names no volume"),
            (r#"{"Name":""}"#, "names no volume"),
            (r#"{"Name":7}"#, "not understood"),
            (r#"{"Name":"../x"}"#, "'/' is not allowed"),
            (long.as_str(), "at most 255 bytes"),
            ("{\"Name\":\"pg\",\"ID\":\"a\\nb\"}", "no control characters"),
        ] {
            let error = Request::read(Call::Mount, body.as_bytes()).unwrap_err();
            assert!(error.message.contains(why), "{body}: {error}");
        }
        let error = Request::read(Call::Create, br#"{"Name":"pg","Opts":{"size":10}}"#).unwrap_err();
        assert_eq!(error.message, "option size: a text belongs here, not 10");
        assert!(Request::read(Call::Create, br#"{"Name":"pg","Opts":["size"]}"#).is_err());
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200), text in ".{0,300}") {
            let json = serde_json::json!({"Name": text, "ID": text, "Opts": {text.as_str(): text}}).to_string();
            for call in Call::ALL {
                let _ = Request::read(call, &body);
                if let Ok(request) = Request::read(call, json.as_bytes()) {
                    assert!(request.name().is_none_or(|name| name.as_str() == text && !name.candidates().is_empty()));
                }
            }
        }
    }

    #[test]
    fn paths_are_those_of_the_protocol() {
        for call in Call::ALL {
            assert_eq!(Call::of_path(call.path()), Some(call));
        }
        assert_eq!(Call::of_path("/VolumeDriver.Frobnicate"), None);
        assert_eq!(Call::of_path("/VolumeDriver.create"), None);
    }

    #[test]
    fn an_error_says_all_in_one_text() {
        let refused = ApiError::invalid("a").with_details(vec!["b".into()]).with_hint("c");
        assert_eq!(error(&refused), json!({"Err": "a; b; c"}));
    }
}
