//! The error that every endpoint answers with: a code to branch on, a message and a hint for people.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vol_types::{NameError, SizeError};

/// What kind of failure. The set is closed within `/v1`; a client that meets a code it does not know takes it for `internal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request itself is wrong: malformed name, size, body, or beyond a limit.
    Invalid,
    /// The object does not exist.
    NotFound,
    /// An object of that name exists and is not what was asked for.
    Exists,
    /// The object is in use, or another change of it is under way.
    Busy,
    /// Not enough free space.
    NoSpace,
    /// The caller's role does not allow it.
    Denied,
    /// A safety rule forbids it, for example a disk that carries signatures.
    Refused,
    /// The object is degraded and the request would make it worse, or cannot be done until it is repaired.
    Degraded,
    /// This kernel or this build cannot do it.
    Unsupported,
    /// A disk or the kernel reported an error.
    Io,
    /// It took longer than its limit; a change may still be under way.
    Timeout,
    /// The daemon is not done with recovery, or has too much to do; ask again.
    NotReady,
    /// A defect of the daemon.
    #[serde(other)]
    Internal,
}

impl ErrorCode {
    /// Every code, for documentation and tests.
    pub const ALL: [Self; 13] = [
        Self::Invalid,
        Self::NotFound,
        Self::Exists,
        Self::Busy,
        Self::NoSpace,
        Self::Denied,
        Self::Refused,
        Self::Degraded,
        Self::Unsupported,
        Self::Io,
        Self::Timeout,
        Self::NotReady,
        Self::Internal,
    ];

    /// The code as it stands in the JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::Busy => "busy",
            Self::NoSpace => "no_space",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Degraded => "degraded",
            Self::Unsupported => "unsupported",
            Self::Io => "io",
            Self::Timeout => "timeout",
            Self::NotReady => "not_ready",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that carries this code.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Exists | Self::Busy | Self::Degraded => 409,
            Self::Refused => 422,
            Self::Internal | Self::Io => 500,
            Self::Unsupported => 501,
            Self::NotReady => 503,
            Self::Timeout => 504,
            Self::NoSpace => 507,
        }
    }

    /// The exit code of `volctl`: 1 failure, 2 usage, 3 not found, 4 busy, 5 exists, 6 no space, 7 denied, 8 not reachable.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::Busy => 4,
            Self::Exists => 5,
            Self::NoSpace => 6,
            Self::Denied => 7,
            Self::NotReady => 8,
            Self::Refused | Self::Degraded | Self::Unsupported | Self::Io | Self::Timeout | Self::Internal => 1,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An error as it travels: `{"code": …, "message": …, "hint": …, "details": […]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: ErrorCode,
    /// What is wrong, in one sentence without a full stop; names the object.
    pub message: String,
    /// What to do about it, if something can be done.
    #[serde(default)]
    pub hint: Option<String>,
    /// Further lines, for example each signature that was found on a disk.
    #[serde(default)]
    pub details: Vec<String>,
}

/// The body of an answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    pub error: ApiError,
}

impl ApiError {
    /// An error without hint and details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, details: Vec::new() }
    }
    /// [`ErrorCode::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }
    /// [`ErrorCode::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }
    /// [`ErrorCode::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }
    /// The same error with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// The same error with these details.
    #[must_use]
    pub fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<SizeError> for ApiError {
    fn from(error: SizeError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Reads a request's text as a name, a size or a path of names; the error names the field.
///
/// # Errors
/// [`ErrorCode::Invalid`] with the parser's own text.
pub fn parse_field<T>(field: &str, text: &str) -> Result<T, ApiError>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    text.parse().map_err(|error: T::Err| ApiError::invalid(format!("{field}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vol_types::{Name, SizeSpec};

    #[test]
    fn a_code_reads_back_as_it_was_written() {
        for code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{}\"", code.as_str()));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), code);
        }
        assert_eq!(serde_json::from_str::<ErrorCode>("\"from_the_future\"").unwrap(), ErrorCode::Internal);
    }

    #[test]
    fn each_code_has_its_http_status_and_exit_code() {
        let table: Vec<_> = ErrorCode::ALL.iter().map(|c| (c.as_str(), c.http_status(), c.exit_code())).collect();
        assert_eq!(
            table,
            [
                ("invalid", 400, 2),
                ("not_found", 404, 3),
                ("exists", 409, 5),
                ("busy", 409, 4),
                ("no_space", 507, 6),
                ("denied", 403, 7),
                ("refused", 422, 1),
                ("degraded", 409, 1),
                ("unsupported", 501, 1),
                ("io", 500, 1),
                ("timeout", 504, 1),
                ("not_ready", 503, 8),
                ("internal", 500, 1),
            ]
        );
    }

    #[test]
    fn the_error_body_has_all_its_keys() {
        let error = ApiError::not_found("volume group \"data\" does not exist");
        assert_eq!(
            serde_json::to_string(&ErrorBody { error }).unwrap(),
            r#"{"error":{"code":"not_found","message":"volume group \"data\" does not exist","hint":null,"details":[]}}"#
        );
    }

    #[test]
    fn a_bad_field_is_named() {
        let error = parse_field::<Name>("name", "-rf").unwrap_err();
        assert_eq!(error.message, "name: a name begins with a letter or a digit, not with '-'");
        assert_eq!(parse_field::<SizeSpec>("size", "0").unwrap_err().code, ErrorCode::Invalid);
    }
}
