//! `GET /v1/doctor`: what the daemon sees of the machine that it runs on, each thing with what it means and what to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad a finding is; each is worse than the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    #[default]
    Ok,
    /// Good to know; nothing has to be done.
    Note,
    /// Works, but something is missing, slower or weaker than it could be.
    Warning,
    /// Something does not work, or will not after the next start.
    Problem,
}

impl Level {
    /// The word as it stands in the JSON and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Stable word for programs, for example `kernel_io_uring`; `docs/doctor.md` lists them.
    pub check: String,
    pub level: Level,
    /// What was found, and what it means.
    pub message: String,
    /// What to do about it; empty where nothing has to be done.
    pub hint: String,
}

impl Finding {
    /// A finding for which nothing has to be done.
    pub fn ok(check: &str, message: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, message, "")
    }

    /// A finding with what to do about it.
    pub fn new(check: &str, level: Level, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level, message: message.into(), hint: hint.into() }
    }
}

/// `GET /v1/doctor`, and what `volumed doctor` prints where no daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Doctor {
    /// The worst of the findings.
    pub level: Level,
    pub findings: Vec<Finding>,
}

impl Doctor {
    /// With the worst of `findings` as its level.
    pub fn new(findings: Vec<Finding>) -> Self {
        Self { level: findings.iter().map(|finding| finding.level).max().unwrap_or_default(), findings }
    }
}
