//! The control API as types, and a typed client for it.
//!
//! The API is HTTP/1.1 with JSON bodies on a Unix socket, under `/v1/`; `docs/control-api.md` describes it for people.
//! Rules that hold for every type here:
//! - sizes are integers in bytes and their keys end in `_bytes`; times are RFC 3339 in UTC;
//! - keys are stable and always present: what is unknown is `null`, a list without members is `[]`;
//! - a request with a key that is not known is refused, an answer with one is read without it.
//!
//! This crate decides nothing and holds no state; names and sizes are checked with `vol-types`.
#![forbid(unsafe_code)]

pub mod backup;
mod client;
mod doctor;
mod error;
mod event;
mod info;
mod outcome;
mod refs;
mod request;
pub mod schema;
mod time;
mod usage;

pub use client::{Client, ClientError};
pub use doctor::{Doctor, Finding, Level};
pub use error::{ApiError, ErrorBody, ErrorCode, parse_field};
pub use event::*;
pub use info::*;
pub use outcome::{Changed, Outcome, Plan, PlanStep};
pub use refs::*;
pub use request::*;
pub use time::{from_rfc3339, push_rfc3339, rfc3339};
pub use usage::*;

/// The version that stands in every path and in [`Status::api_version`].
pub const API_VERSION: &str = "v1";
/// Where the daemon listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/volumed/control.sock";
/// The largest request body in bytes that the daemon reads: room for the 256 PVs that a VG may have (its limit) at 200
/// bytes of path each, which is far more than real paths need.
pub const REQUEST_BODY_MAX_BYTES: usize = 64 * 1024;
/// The largest body of `POST /v1/restore`: a backup as text inside JSON, where each quote takes two bytes.
pub const RESTORE_BODY_MAX_BYTES: usize = 2 * backup::BACKUP_MAX_BYTES;
